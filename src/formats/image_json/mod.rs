//! nix2container's image.json: read, and written from a manifest and a blob map, or from
//! layers of store paths.
//!
//! The structure is that of upstream's `types/types.go`. Upstream's Skopeo transport and
//! `image --from-image` read it. Upstream leaves the sizes, architecture, creation time
//! and history of a pulled image empty; n2c fills them.

mod run_config;

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Diagnose, Kind};
use crate::formats::blob_map::{self, BlobMap};
use crate::formats::go_json::{self, List, go_object};
use crate::formats::layers::{self, History, Layer, LayerContent, RawLayer};
use crate::formats::lockfile::Entry;
use crate::formats::time::Time;
use crate::fs;
use crate::observer::{Event, Observer};
use crate::oci::digest::{self, Verified};
use crate::oci::image::{self, CONFIG_SIZE_LIMIT, Image, ImageConfig};
use crate::oci::manifest;
use crate::oci::media_type;
use crate::oci::platform::Platform;
use crate::store::is_store_path;

pub(super) use run_config::inherited;
pub(crate) use run_config::{FIELDS, Kind as FieldKind};

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
    created: Option<Time>,
}

#[derive(Default)]
struct RawImage {
    version: u32,
    config: Map<String, Value>,
    layers: List<RawLayer>,
    architecture: String,
    created: Option<Time>,
}

go_object!(RawImage {
    "version" => version,
    "image-config" => config,
    "layers" => layers,
    "arch" => architecture,
    "created" => created,
});

/// Why a file is not an image.json that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is not JSON, or of another shape.
    #[error("invalid image in `{file}`")]
    Shape {
        /// The file's name.
        file: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Another version of the format.
    #[error("unsupported version {version} of the image in `{file}`; expected {VERSION}")]
    Version {
        /// The file's name.
        file: String,
        /// Its version.
        version: u32,
    },
    /// Its layers are not usable.
    #[error(transparent)]
    Layers(#[from] layers::Error),
}

impl Diagnose for ParseError {
    fn kind(&self) -> Kind {
        Kind::Verification
    }
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
        let time = created.and_then(|created| Time::parse_strictly(created.as_str()?).ok());
        if created.is_some() && time.is_none() {
            warn("`created` in the config is not a valid time, and is left out");
        }
        let built_for = config.platform().or(platform);
        let mut layers = layers_of(image, blobs)?;
        for layer in &mut layers {
            // A node would mount whatever these name.
            layer.annotations.retain(|name, value| {
                let is_kept = !manifest::names_store_path(name) || is_store_path(value);
                if !is_kept {
                    warn(&format!("the annotation `{name}` names no store path, and is left out"));
                }
                is_kept
            });
        }
        Ok(Self {
            version: VERSION,
            image_config,
            layers,
            arch: built_for.map(|platform| platform.architecture().to_owned()).unwrap_or_default(),
            created: time,
        })
    }

    /// Reads an image.json. `file` is its name in errors.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, ParseError> {
        let shape = |source| ParseError::Shape { file: file.to_owned(), source };
        let raw: RawImage = go_json::parse(text).map_err(shape)?;
        if raw.version != VERSION {
            return Err(ParseError::Version { file: file.to_owned(), version: raw.version });
        }
        let layers = raw.layers.0.into_iter().map(|layer| layer.check(file));
        Ok(Self {
            version: VERSION,
            image_config: raw.config,
            layers: layers.collect::<Result<_, _>>()?,
            arch: raw.architecture,
            created: raw.created,
        })
    }

    /// An image of these parts.
    #[must_use]
    pub fn from_parts(
        config: Map<String, Value>,
        layers: Vec<Layer>,
        architecture: String,
        created: Time,
    ) -> Self {
        let (version, created) = (VERSION, Some(created));
        Self { version, image_config: config, layers, arch: architecture, created }
    }

    /// The config: what `docker run` does with the image.
    #[must_use]
    pub const fn config(&self) -> &Map<String, Value> {
        &self.image_config
    }

    /// The layers, from the bottom to the top.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layers, from the bottom to the top.
    #[must_use]
    pub fn into_layers(self) -> Vec<Layer> {
        self.layers
    }

    /// The layers, to fill in what is known of them.
    pub(crate) const fn layers_mut(&mut self) -> &mut [Layer] {
        self.layers.as_mut_slice()
    }

    /// The part of the config that an image on top of this one starts with.
    #[must_use]
    pub fn inherited(&self, inherit: Inherit) -> Map<String, Value> {
        let (mut inherited, _) = run_config::inherited(&self.image_config, inherit);
        if inherit == Inherit::All {
            // What only docker knows of.
            for (key, value) in &self.image_config {
                if !FIELDS.iter().any(|(known, _)| known == key) {
                    inherited.insert(key.clone(), value.clone());
                }
            }
        }
        inherited
    }

    /// When it was made, if that is known.
    #[must_use]
    pub const fn created(&self) -> Option<&Time> {
        self.created.as_ref()
    }

    /// The architecture, as Go names it; empty if it is unknown.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.arch
    }

    /// The text of the file, as upstream writes it.
    #[must_use]
    pub fn to_text(&self) -> String {
        go_json::to_text(self)
    }
}

fn layers_of(image: &Image, blobs: &BlobMap) -> Result<Vec<Layer>, Error> {
    let history = image.layer_history();
    let pairs = image.manifest().layers().iter().zip(image.config().diff_ids()).enumerate();
    let mut layers = Vec::new();
    for (index, (layer, diff_id)) in pairs {
        // Every layer has a type: a manifest with others was refused when it was read.
        let Some(media_type) = media_type::oci_layer(&layer.media_type) else { continue };
        let name = format!("layer {}", index + 1);
        let path = blobs.path(&name, &layer.digest)?;
        // The size in the lockfile may be wrong: compare it with the blob if that exists.
        if let Ok(found) = std::fs::metadata(path) {
            let subject = format!("{name} `{}`", path.display());
            digest::check_size(&subject, found.len(), Some(layer.size))?;
        }
        // Each layer needs an entry, even an empty one: some registries refuse a history
        // that is too short.
        let history = history.as_ref().map(|steps| step(steps[index])).unwrap_or_default();
        layers.push(Layer {
            digest: layer.digest.clone(),
            size: layer.size,
            diff_id: diff_id.clone(),
            compressed: Vec::new(),
            paths: Vec::new(),
            content: LayerContent::Files,
            annotations: image.manifest().snapshot_annotations(index),
            media_type: media_type.to_owned(),
            file: Some(path.display().to_string()),
            history,
        });
    }
    Ok(layers)
}

/// A step of the history, without a time that readers of the file would refuse.
fn step(step: &oci_spec::image::History) -> History {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    History {
        created: step.created().as_ref().and_then(|created| Time::parse_strictly(created).ok()),
        created_by: text(step.created_by()),
        author: text(step.author()),
        comment: text(step.comment()),
        empty_layer: step.empty_layer().unwrap_or_default(),
    }
}
