//! Converting Docker manifests to OCI ones, as `skopeo copy --format oci` does
//! (containers/image `internal/image/docker_schema2.go`, `convertToManifestOCI1`), and
//! image.json, as nix2container's skopeo does (`nix/image.go`, `getV1Image`).
//!
//! Layers are unchanged. The config of a Docker manifest loses the fields that OCI doesn't
//! have, so its digest changes, and with it the digest of the manifest.

mod docker;
mod index;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::go_json;
use super::image_json::{self, ImageJson, Inherit};
use super::layers::History;
use super::time::Time;
use crate::error::{Diagnose, Kind};
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::{self, Image, ImageConfig};
use crate::oci::manifest::{self, Descriptor, ImageManifest};
use crate::oci::media_type;
use crate::oci::platform::Platform;
pub(crate) use docker::docker_manifest;
pub use docker::{to_docker, with_oci_manifest};
pub use index::{index_of, index_with};

/// Why something can't be converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The result is not a valid manifest.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// The result is not a valid config.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Docker's manifests have no annotations.
    #[error("{subject} has a Docker manifest, which can't hold annotations")]
    NoAnnotations {
        /// The image.
        subject: String,
    },
    /// Docker's manifests have no annotations, which nix-snapshotter reads.
    #[error("{subject} names store paths in annotations, which a Docker manifest can't hold")]
    NoSnapshotter {
        /// The image.
        subject: String,
    },
    /// Docker's manifests have no type for such a layer.
    #[error("{subject} has a layer of type `{media_type}`, which a Docker manifest can't hold")]
    NotInDocker {
        /// The image.
        subject: String,
        /// The layer's type.
        media_type: String,
    },
    /// No registry and no engine would take the manifest.
    #[error("the manifest of {subject} would take {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// The image.
        subject: String,
        /// The size of the manifest in bytes.
        size: u64,
        /// The largest manifest.
        limit: u64,
    },
    /// Nobody could choose the image from an index.
    #[error("the config of image `{digest}` names no platform, so an index can't list it")]
    NoPlatform {
        /// The image's manifest.
        digest: Digest,
    },
    /// Two images would be chosen for the same platform.
    #[error("two images are for `{platform}`")]
    SamePlatform {
        /// The platform.
        platform: Platform,
    },
    /// An image is listed in a nested index.
    #[error("can't convert an image that is listed in a nested index")]
    Nested,
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Manifest(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::TooLarge { .. } => Kind::Verification,
            Self::Nested
            | Self::NoAnnotations { .. }
            | Self::NoSnapshotter { .. }
            | Self::NotInDocker { .. }
            | Self::NoPlatform { .. }
            | Self::SamePlatform { .. } => Kind::Usage,
        }
    }
}

/// The fields of the image specification's Go type `v1.Image`, in its order.
const IMAGE_FIELDS: [&str; 7] =
    ["created", "author", "architecture", "os", "os.version", "os.features", "variant"];
/// The fields of its Go type for a step of the history, in its order.
const HISTORY_FIELDS: [&str; 5] = ["created", "created_by", "author", "comment", "empty_layer"];

/// Converts an image to an OCI manifest and config. An image that has an OCI manifest is
/// returned unchanged.
pub fn to_oci(subject: &str, image: &Image) -> Result<Image, Error> {
    let manifest = image.manifest();
    if manifest.media_type() == media_type::OCI_MANIFEST {
        return Ok(image.clone());
    }
    let config = Verified::as_found(oci_config(image.config()));
    let layers: Vec<Value> = manifest
        .layers()
        .iter()
        .map(|layer| {
            // Always a layer type: a manifest with others was refused when it was read.
            let media_type = media_type::oci_layer(&layer.media_type).unwrap_or_default();
            let mut descriptor = descriptor(media_type, &layer.digest, layer.size);
            if !layer.urls.is_empty() {
                descriptor["urls"] = json!(layer.urls);
            }
            descriptor
        })
        .collect();
    assemble(subject, &config, layers)
}

/// The image of a config and the descriptors of layers.
fn assemble(subject: &str, config: &Verified, layers: Vec<Value>) -> Result<Image, Error> {
    let size = config.bytes().len() as u64;
    let mut object = Map::new();
    object.insert("schemaVersion".to_owned(), json!(2));
    object.insert("mediaType".to_owned(), json!(media_type::OCI_MANIFEST));
    let config_descriptor = descriptor(media_type::OCI_CONFIG, config.digest(), size);
    object.insert("config".to_owned(), config_descriptor);
    object.insert("layers".to_owned(), layers.into());
    let raw = of_bounded_size(subject, &object)?;
    let media_type = media_type::OCI_MANIFEST.to_owned();
    let manifest = ImageManifest::read(subject, raw, media_type, object)?;
    Ok(Image::new(subject, manifest, ImageConfig::parse(subject, config)?)?)
}

/// The text of a manifest or an index, unless it is larger than anybody takes it.
fn of_bounded_size(subject: &str, object: &Map<String, Value>) -> Result<Verified, Error> {
    let text = go_json::to_compact(object);
    let (size, limit) = (text.len() as u64, manifest::SIZE_LIMIT);
    if size > limit {
        return Err(Error::TooLarge { subject: subject.to_owned(), size, limit });
    }
    Ok(Verified::as_found(text))
}

/// The same image with other descriptors of its layers, which must hold the same content.
pub fn with_layers(subject: &str, image: &Image, layers: &[Descriptor]) -> Result<Image, Error> {
    let manifest = image.manifest();
    let mut object = manifest.object().clone();
    let old = object.get_mut("layers").and_then(Value::as_array_mut).into_iter().flatten();
    for (old, new) in old.zip(layers) {
        // Annotations stay.
        old["mediaType"] = new.media_type.as_str().into();
        old["digest"] = new.digest.to_string().into();
        old["size"] = new.size.into();
    }
    rewritten(subject, image, object)
}

/// The same image with another manifest of the same type.
fn rewritten(subject: &str, image: &Image, object: Map<String, Value>) -> Result<Image, Error> {
    let raw = of_bounded_size(subject, &object)?;
    let media_type = image.manifest().media_type().to_owned();
    let manifest = ImageManifest::read(subject, raw, media_type, object)?;
    Ok(Image::new(subject, manifest, image.config().clone())?)
}

/// The same image with annotations added to its manifest, which must be an OCI manifest.
pub fn annotated(
    subject: &str,
    image: &Image,
    annotations: &BTreeMap<String, String>,
) -> Result<Image, Error> {
    if image.manifest().media_type() != media_type::OCI_MANIFEST {
        return Err(Error::NoAnnotations { subject: subject.to_owned() });
    }
    let mut object = image.manifest().object().clone();
    annotate(&mut object, annotations);
    rewritten(subject, image, object)
}

fn annotate(object: &mut Map<String, Value>, annotations: &BTreeMap<String, String>) {
    let all = object.entry("annotations").or_insert(Value::Null);
    if !all.is_object() {
        *all = json!({});
    }
    for (name, value) in annotations {
        all[name] = value.as_str().into();
    }
}

/// Makes the manifest and config of the image that an image.json describes. Its layers
/// must have their sizes. The operating system is Linux: image.json has no place for another.
pub fn from_image_json(subject: &str, image: &ImageJson) -> Result<Image, Error> {
    let diff_ids: Vec<String> =
        image.layers().iter().map(|layer| layer.diff_id.to_string()).collect();
    let history: Vec<&History> = image.layers().iter().map(|layer| &layer.history).collect();
    let mut object = Map::new();
    if let Some(created) = image.created() {
        object.insert("created".to_owned(), json!(created));
    }
    object.insert("architecture".to_owned(), json!(image.architecture()));
    object.insert("os".to_owned(), json!("linux"));
    object.insert("config".to_owned(), Value::Object(image.config().clone()));
    object.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    object.insert("history".to_owned(), json!(history));
    let config = Verified::as_found(go_json::to_compact(&object));
    let layers = image
        .layers()
        .iter()
        .map(|layer| {
            let mut descriptor = descriptor(&layer.media_type, &layer.digest, layer.size);
            if !layer.annotations.is_empty() {
                descriptor["annotations"] = json!(layer.annotations);
            }
            descriptor
        })
        .collect();
    assemble(subject, &config, layers)
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
}

/// Returns the config with only the fields that OCI has.
fn oci_config(config: &ImageConfig) -> Vec<u8> {
    let all = config.object();
    let mut kept = with_time(fields(all, &IMAGE_FIELDS, &["architecture", "os"]));
    let object = |name: &str| all.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    // Converted to the types of the fields in Go's struct.
    let (mut run_config, _) = image_json::inherited(&object("config"), Inherit::All);
    run_config.retain(|_, value| !is_empty(value));
    kept.insert("config".to_owned(), sorted(run_config));
    let diff_ids: Vec<String> = config.diff_ids().iter().map(ToString::to_string).collect();
    kept.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let history = all.get("history").and_then(Value::as_array).into_iter().flatten();
    let history: Vec<Value> = history
        .filter_map(Value::as_object)
        .map(|step| with_time(fields(step, &HISTORY_FIELDS, &[])).into())
        .collect();
    if !history.is_empty() {
        kept.insert("history".to_owned(), history.into());
    }
    go_json::to_compact(&kept)
}

/// Whether Go's `omitempty` leaves this value out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

/// Returns the fields `names` of `object` that are not empty. Those that are also in
/// `always` become empty strings instead of being left out.
fn fields(object: &Map<String, Value>, names: &[&str], always: &[&str]) -> Map<String, Value> {
    let field = |name: &&str| {
        let value = object.get(*name).filter(|value| !is_empty(value)).cloned();
        let value = value.or_else(|| always.contains(name).then(|| json!("")))?;
        Some(((*name).to_owned(), value))
    };
    names.iter().filter_map(field).collect()
}

/// Returns the same object with `created` in the form that Go writes: without trailing
/// zeros in the fraction, and with `Z` for an offset of zero. If it is not a valid time, it
/// is removed.
fn with_time(mut object: Map<String, Value>) -> Map<String, Value> {
    let created = object
        .get("created")
        .and_then(Value::as_str)
        .filter(|text| Time::parse_strictly(text).is_ok());
    let written = created.map(|text| {
        let zone = text.rfind(['Z', '+', '-']).unwrap_or(text.len());
        let (time, zone) = text.split_at(zone);
        let time = match time.split_once('.') {
            Some(_) => time.trim_end_matches('0').trim_end_matches('.'),
            None => time,
        };
        let zone = if matches!(zone, "+00:00" | "-00:00") { "Z" } else { zone };
        format!("{time}{zone}")
    });
    match written {
        Some(written) => object["created"] = written.into(),
        None => {
            object.shift_remove("created");
        }
    }
    object
}

/// Sorts the keys of the objects in the fields of `object`, as Go does for maps.
fn sorted(mut object: Map<String, Value>) -> Value {
    object.values_mut().filter_map(Value::as_object_mut).for_each(Map::sort_keys);
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    // As Go reads and writes a `time.Time`.
    #[test]
    fn times_are_written_as_go_does() {
        for (given, expected) in [
            ("2026-01-02T03:04:05Z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05.120000000Z", Some("2026-01-02T03:04:05.12Z")),
            ("2026-01-02T03:04:05.000+01:00", Some("2026-01-02T03:04:05+01:00")),
            ("2026-01-02T03:04:05.5-00:00", Some("2026-01-02T03:04:05.5Z")),
            ("yesterday", None),
        ] {
            let object = Map::from_iter([("created".to_owned(), json!(given))]);
            let written = with_time(object);
            assert_eq!(written.get("created").and_then(Value::as_str), expected, "{given}");
        }
    }

    #[test]
    fn a_config_without_layers_says_so() {
        let text = br#"{ "rootfs": {}, "os": "linux", "config": { "Cmd": "a<b" } }"#;
        let config = ImageConfig::parse("x", &Verified::as_found(text.to_vec())).expect("a config");
        let expected = concat!(
            r#"{"architecture":"","os":"linux","config":{"Cmd":["a\u003cb"]},"#,
            r#""rootfs":{"type":"layers","diff_ids":[]}}"#
        );
        assert_eq!(String::from_utf8(oci_config(&config)).expect("text"), expected);
    }
}
