//! The image that an image.json describes. Its layers are files, or are made again from
//! their store paths while they are read.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::{Blobs, Error};
use crate::build::LayerStream;
use crate::formats::convert;
use crate::formats::image_json::ImageJson;
use crate::formats::layers::Layer;
use crate::oci::digest::{self, Digest};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::stream::sink::{self, Sink};

/// An image that was built or pulled, and described in an image.json.
#[derive(Debug)]
pub struct BuiltImage {
    /// The name of the image.json.
    file: String,
    image: Image,
    layers: HashMap<Digest, Layer>,
}

impl BuiltImage {
    /// The image that `json` describes. `file` is its name in errors. Reads nothing but the
    /// sizes of layers that lack them: upstream leaves those of pulled images out.
    pub fn new(file: &str, mut json: ImageJson) -> Result<Self, Error> {
        for layer in json.layers_mut() {
            if let (0, Some(path)) = (layer.size, &layer.file) {
                let read = |source| crate::fs::Error::Read { path: path.into(), source };
                layer.size = fs::metadata(path).map_err(read)?.len();
            }
        }
        let image = convert::from_image_json(&format!("`{file}`"), &json)?;
        let layers = json.into_layers().into_iter().map(|layer| (layer.digest.clone(), layer));
        Ok(Self { file: file.to_owned(), image, layers: layers.collect() })
    }

    /// The image, with the manifest and config that are made from the image.json.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// Makes a layer again, and verifies that it is still what it was.
    async fn make(&self, layer: &Layer, sink: &mut dyn Sink) -> Result<(), Error> {
        let digest = &layer.digest;
        let write = |source| Error::Write { digest: digest.clone(), source };
        let mut stream = LayerStream::start(layer.paths.clone())?;
        let mut total = 0;
        while let Some(piece) = stream.next().await {
            total += piece.len() as u64;
            // Of a layer that became longer, the rest is only hashed, for the error.
            if total <= layer.size {
                sink.write_all(&piece).map_err(write)?;
            }
        }
        let (actual, size) = stream.finish().await?;
        digest::check(&"the layer", &actual, size, digest, Some(layer.size)).map_err(|source| {
            Error::Changed { digest: digest.clone(), paths: first_paths(layer), source }
        })
    }
}

/// The names of a layer's store paths, or of the first of them if there are many.
fn first_paths(layer: &Layer) -> String {
    const SHOWN: usize = 3;
    let paths = layer.paths.iter().take(SHOWN).map(|record| format!("`{}`", record.path));
    let shown = paths.collect::<Vec<_>>().join(", ");
    match layer.paths.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Blobs for BuiltImage {
    async fn fetch_blob(&self, descriptor: &Descriptor, sink: &mut dyn Sink) -> Result<(), Error> {
        let digest = &descriptor.digest;
        match self.layers.get(digest) {
            Some(Layer { file: Some(path), .. }) => {
                Ok(sink::copy_blob(Path::new(path), digest, descriptor.size, sink)?)
            }
            Some(layer) if !layer.paths.is_empty() => self.make(layer, sink).await,
            _ => Err(Error::NoContent { file: self.file.clone(), digest: digest.clone() }),
        }
    }
}
