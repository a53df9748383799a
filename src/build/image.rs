//! image.json from a config and layers (upstream's `cmd/image.go`).

use super::{Error, config};
use crate::formats::image_json::{ImageJson, Inherit};
use crate::formats::layers::Layer;
use crate::formats::time::Time;
use crate::observer::Observer;
use crate::oci::manifest::SIZE_LIMIT;

/// What an image is made of.
#[derive(Debug)]
pub struct ImageOptions {
    /// The image that it builds upon.
    pub base: Option<ImageJson>,
    /// What of the base's config it starts with.
    pub inherit: Inherit,
    /// The layers on top of the base's. One that is there already is left out.
    pub layers: Vec<Layer>,
    /// Its architecture, as Go names it.
    pub architecture: String,
    /// When it was made.
    pub created: Time,
}

/// Describes an image. `file` is the config's name in errors, and `text` its content.
pub fn image(
    file: &str,
    text: &[u8],
    options: ImageOptions,
    observer: &dyn Observer,
) -> Result<ImageJson, Error> {
    let ImageOptions { base, inherit, layers: more, architecture, created } = options;
    let mut config = config::parse(file, text, observer)?;
    let mut layers = Vec::new();
    if let Some(base) = base {
        config = config::merged(base.inherited(inherit), config);
        layers = base.into_layers();
    }
    for layer in more {
        let is_same = |other: &Layer| {
            (&other.digest, &other.annotations) == (&layer.digest, &layer.annotations)
        };
        if !layers.iter().any(is_same) {
            layers.push(layer);
        }
    }
    let annotations = layers.iter().flat_map(|layer| &layer.annotations);
    let size: usize = annotations.map(|(name, value)| name.len() + value.len()).sum();
    if size as u64 > SIZE_LIMIT {
        return Err(Error::TooManyAnnotations { size: size as u64, limit: SIZE_LIMIT });
    }
    Ok(ImageJson::from_parts(config, layers, architecture, created))
}
