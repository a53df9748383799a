//! nix2container's image.json, written from a manifest and a blob map.
//!
//! The structure is that of upstream's `types/types.go`. Upstream's Skopeo transport and
//! `image --from-image` read it. Upstream leaves the sizes, architecture, creation time
//! and history of a pulled image empty; n2c fills them.

mod run_config;

use std::path::Path;

use oci_spec::image::History;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Diagnose, Kind};
use crate::formats::blob_map::{self, BlobMap};
use crate::formats::lockfile::Entry;
use crate::fs;
use crate::observer::{Event, Observer};
use crate::oci::digest::{self, Digest, Verified};
use crate::oci::image::{self, CONFIG_SIZE_LIMIT, Image, ImageConfig};
use crate::oci::media_type;
use crate::oci::platform::Platform;

pub(super) use run_config::{inherited, is_time};

/// Upstream's `ImageVersion`.
const VERSION: u32 = 1;

/// Why image.json can't be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The blob map lacks a blob.
    #[error(transparent)]
    BlobMap(#[from] blob_map::Error),
    /// The config blob can't be read.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// The config blob is not the one in the manifest.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// The config is not usable, or doesn't belong to the manifest.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The lockfile disagrees with its config: it was edited by hand, or merged badly.
    #[error("lockfile `{file}` does not match the config that it pins")]
    Edited {
        /// The lockfile's name.
        file: String,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::BlobMap(error) => error.kind(),
            Self::Fs(error) => error.kind(),
            Self::Digest(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Edited { .. } => Kind::Verification,
        }
    }
}

/// How much of the base image's config the new image starts with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Inherit {
    /// Nothing, as upstream.
    #[default]
    None,
    /// The environment variables.
    Env,
    /// Everything that says how to run the image.
    All,
}

/// An image as nix2container describes it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageJson {
    version: u32,
    image_config: Map<String, Value>,
    layers: Vec<Layer>,
    arch: String,
    created: Option<Value>,
}

#[derive(Clone, Debug, Serialize)]
struct Layer {
    digest: Digest,
    size: u64,
    diff_ids: Digest,
    mediatype: &'static str,
    #[serde(rename = "layer-path")]
    path: String,
    #[serde(rename = "History")]
    history: History,
}

/// Reads the config of a locked image from its path in the blob map, and checks it against
/// the lockfile. `file` is the lockfile's name in errors.
pub fn read_image(file: &str, entry: &Entry, blobs: &BlobMap) -> Result<Image, Error> {
    let manifest = entry.manifest();
    let descriptor = manifest.config();
    let path: &Path = blobs.path("the config", &descriptor.digest)?;
    let subject = format!("config `{}`", path.display());
    let raw = Verified::check(
        &subject,
        fs::read(path, CONFIG_SIZE_LIMIT)?,
        &descriptor.digest,
        Some(descriptor.size),
    )?;
    let config = ImageConfig::parse(&format!("`{file}`"), &raw)?;
    if !entry.has_config(&config) {
        return Err(Error::Edited { file: file.to_owned() });
    }
    Ok(Image::new(&format!("`{file}`"), manifest.clone(), config)?)
}

impl ImageJson {
    /// Describes `image`, whose layers are at the paths in `blobs`. `platform` is the one that
    /// it was locked for, if known. Values that readers of the file would refuse are
    /// converted to the right type or left out, with a warning to `observer`.
    pub fn new(
        image: &Image,
        blobs: &BlobMap,
        inherit: Inherit,
        platform: Option<&Platform>,
        observer: &dyn Observer,
    ) -> Result<Self, Error> {
        let config = image.config();
        let warn = |text: &str| observer.observe(&Event::Warning(text));
        let (image_config, odd) = run_config::inherited(&config.run_config(), inherit);
        for name in odd {
            warn(&format!(
                "`{name}` in the config has the wrong type, and was converted or left out"
            ));
        }
        if let Some(platform) = config.platform().filter(|platform| platform.os() != "linux") {
            warn(&format!(
                "the image is for `{platform}`; image.json can't hold the operating system, and its readers write `linux`"
            ));
        }
        let created = config.object().get("created").filter(|created| !created.is_null());
        let is_time = |created: &&Value| created.as_str().is_some_and(run_config::is_time);
        if created.is_some_and(|created| !is_time(&created)) {
            warn("`created` in the config is not a valid time, and is left out");
        }
        let built_for = config.platform().or(platform);
        Ok(Self {
            version: VERSION,
            image_config,
            layers: layers(image, blobs)?,
            arch: built_for.map(|platform| platform.architecture().to_owned()).unwrap_or_default(),
            created: created.filter(is_time).cloned(),
        })
    }

    /// The text of the file, indented with tabs as in upstream's.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        // This can't fail: it serialises strings, numbers and maps with string keys to memory.
        if self.serialize(&mut serializer).is_err() {
            text.clear();
        }
        text.push(b'\n');
        String::from_utf8(text).unwrap_or_default()
    }
}

fn layers(image: &Image, blobs: &BlobMap) -> Result<Vec<Layer>, Error> {
    let history = image.layer_history();
    let pairs = image.manifest().layers().iter().zip(image.config().diff_ids()).enumerate();
    let mut layers = Vec::new();
    for (index, (layer, diff_id)) in pairs {
        // Every layer has a type: a manifest with others was refused when it was read.
        let Some(mediatype) = media_type::oci_layer(&layer.media_type) else { continue };
        let name = format!("layer {}", index + 1);
        let path = blobs.path(&name, &layer.digest)?;
        // The size in the lockfile may be wrong: compare it with the blob if that exists.
        if let Ok(found) = std::fs::metadata(path) {
            let subject = format!("{name} `{}`", path.display());
            digest::check_size(&subject, found.len(), Some(layer.size))?;
        }
        // Each layer needs an entry, even an empty one: some registries refuse a history
        // that is too short.
        let mut history = history.as_ref().map(|steps| steps[index].clone()).unwrap_or_default();
        if history.created().as_ref().is_some_and(|created| !run_config::is_time(created)) {
            history.set_created(None);
        }
        let (digest, size, diff_ids) = (layer.digest.clone(), layer.size, diff_id.clone());
        let path = path.display().to_string();
        layers.push(Layer { digest, size, diff_ids, mediatype, path, history });
    }
    Ok(layers)
}
