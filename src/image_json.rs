//! nix2container's image.json, written from a manifest and a blob map.
//!
//! The shape is upstream's `types/types.go`; its Skopeo transport and its
//! `image --from-image` read it. Upstream leaves a pulled image's sizes,
//! architecture, creation time and history empty; here they are filled.

use std::path::Path;

use oci_spec::image::History;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::blob_map::{self, BlobMap};
use crate::digest::{self, Digest, Verified};
use crate::error::{Diagnose, Kind};
use crate::fs;
use crate::image::{self, Image, ImageConfig};
use crate::lockfile::Entry;
use crate::media_type;

/// Upstream's `ImageVersion`.
const VERSION: u32 = 1;

/// The fields of Go's `v1.ImageConfig`, in its order.
const CONFIG_KEYS: [&str; 10] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
];

/// Why there is no image.json.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The blob map lacks a blob.
    #[error(transparent)]
    BlobMap(#[from] blob_map::Error),
    /// The config's blob can't be read.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// The config's blob is not the one in the manifest.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// The config is not usable, or not this manifest's.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The lockfile was changed by hand, or by a bad merge.
    #[error("the diff IDs in lockfile `{file}` are not those in the image's config")]
    DiffIds {
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
            Self::DiffIds { .. } => Kind::Verification,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::BlobMap(error) => error.hint(),
            Self::Fs(_) => Some(
                "fetch the image's config first, with `n2c blob` or by building its derivation"
                    .to_owned(),
            ),
            Self::Digest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::DiffIds { .. } => Some("make the lockfile anew with `n2c lock`".to_owned()),
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
    /// All that says how to run it.
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

/// Reads the config of a locked image from where the blob map says it is, and
/// checks it. `file` names the lockfile in errors.
pub fn read_image(file: &str, entry: &Entry, blobs: &BlobMap) -> Result<Image, Error> {
    let manifest = entry.manifest();
    let descriptor = manifest.config();
    let path: &Path = blobs.path("the config", &descriptor.digest)?;
    let subject = format!("config `{}`", path.display());
    let raw =
        Verified::check(&subject, fs::read(path)?, &descriptor.digest, Some(descriptor.size))?;
    let config = ImageConfig::parse(&format!("`{file}`"), &raw)?;
    if let Some(pin) = entry.pin()
        && pin.diff_ids != config.diff_ids()
    {
        return Err(Error::DiffIds { file: file.to_owned() });
    }
    Ok(Image::new(&format!("`{file}`"), manifest.clone(), config)?)
}

impl ImageJson {
    /// Describes `image`, whose layers are where `blobs` says.
    pub fn new(image: &Image, blobs: &BlobMap, inherit: Inherit) -> Result<Self, Error> {
        let config = image.config();
        let history = image.layer_history();
        let layers = image
            .manifest()
            .layers()
            .iter()
            .zip(config.diff_ids())
            .enumerate()
            .filter_map(|(index, (layer, diff_id))| {
                // The manifest was refused if one of its layers had no type.
                let mediatype = media_type::oci_layer(&layer.media_type)?;
                let path = blobs.path(&format!("layer {}", index + 1), &layer.digest);
                // An entry for each layer is needed, also where nothing is
                // known: some registries refuse a history that is too short.
                let history =
                    history.as_ref().map(|steps| steps[index].clone()).unwrap_or_default();
                Some(path.map(|path| Layer {
                    digest: layer.digest.clone(),
                    size: layer.size,
                    diff_ids: diff_id.clone(),
                    mediatype,
                    path: path.display().to_string(),
                    history,
                }))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            version: VERSION,
            image_config: inherited(&config.run_config(), inherit),
            layers,
            arch: config
                .platform()
                .map(|platform| platform.architecture().to_owned())
                .unwrap_or_default(),
            created: config.object().get("created").filter(|created| created.is_string()).cloned(),
        })
    }

    /// The text of the file, indented with tabs as upstream's.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        // Strings, numbers and maps with string keys serialise into memory.
        if self.serialize(&mut serializer).is_err() {
            text.clear();
        }
        text.push(b'\n');
        String::from_utf8(text).unwrap_or_default()
    }
}

fn inherited(config: &Map<String, Value>, inherit: Inherit) -> Map<String, Value> {
    let keys: &[&str] = match inherit {
        Inherit::None => &[],
        Inherit::Env => &["Env"],
        Inherit::All => &CONFIG_KEYS,
    };
    keys.iter()
        .filter_map(|key| {
            Some(((*key).to_owned(), config.get(*key).filter(|value| !value.is_null())?.clone()))
        })
        .collect()
}
