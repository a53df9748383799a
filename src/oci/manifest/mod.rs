//! Manifests and indexes: from verified bytes to typed documents.
//!
//! See OCI image-spec manifest.md and image-index.md. Docker's manifest v2 schema 2
//! and its manifest list have the same structure but other media types.

mod index;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::{Diagnose, Kind};
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::{Digest, Verified};
use crate::oci::media_type;
pub use index::{Index, IndexEntry};

/// The maximum size of a manifest or index in bytes: the limit of registries
/// (distribution and containers/image agree on 4 MiB).
pub const SIZE_LIMIT: u64 = 4 << 20;

/// How the names of the annotations of layers begin that containerd hands to its snapshotters.
const SNAPSHOT: &str = "containerd.io/snapshot/";
/// The same for those that nix-snapshotter reads.
const NIX_SNAPSHOT: &str = "containerd.io/snapshot/nix-";
/// The one of them that is only a mark.
const NIX_LAYER: &str = "containerd.io/snapshot/nix-layer";

/// Whether an annotation of this name is a store path that a node mounts.
pub(crate) fn names_store_path(annotation: &str) -> bool {
    annotation.starts_with(NIX_SNAPSHOT) && annotation != NIX_LAYER
}

/// Why a document can't be used as a manifest or index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is not JSON at all. It is often the page of a login or a proxy.
    #[error("{subject} is not a manifest: it is {} that begins with `{beginning}`", content_type.as_deref().unwrap_or("content without a type"))]
    NotJson {
        /// The image that was requested.
        subject: String,
        /// The Content-Type header of the response.
        content_type: Option<String>,
        /// Its first characters, escaped.
        beginning: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The JSON has the wrong structure.
    #[error("invalid manifest of {subject}")]
    Shape {
        /// The image that was requested.
        subject: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The document contradicts itself or its header, for example by being a manifest and
    /// an index at once. Different programs would read it differently.
    #[error("ambiguous manifest of {subject}: {reason}")]
    Ambiguous {
        /// The image that was requested.
        subject: String,
        /// The contradiction.
        reason: String,
    },
    /// A schema 1 manifest, which has no digests to lock.
    #[error("{subject} is a schema 1 manifest, which is too old to be locked")]
    Schema1 {
        /// The image.
        subject: String,
    },
    /// The document has a media type that n2c doesn't know.
    #[error("{subject} has the media type `{media_type}`, which is not a container image")]
    UnknownType {
        /// The image that was requested.
        subject: String,
        /// Its media type.
        media_type: String,
    },
    /// The manifest is of an artifact, such as a Helm chart, a signature or an SBOM.
    #[error("{subject} is an artifact of type `{artifact_type}`, not a container image")]
    Artifact {
        /// The image that was requested.
        subject: String,
        /// The artifact's type.
        artifact_type: String,
    },
    /// A layer is not a file system layer.
    #[error("layer `{digest}` of {subject} has the unknown media type `{media_type}`")]
    LayerType {
        /// The image that it is in.
        subject: String,
        /// The layer's digest.
        digest: Digest,
        /// The layer's media type.
        media_type: String,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Verification
    }
}

/// A pointer to content: its type, digest and size in bytes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type as served.
    pub media_type: String,
    /// The digest that the content must have.
    pub digest: Digest,
    /// The size in bytes that the content must have.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Other places to get the content from. Foreign layers have them, because registries
    /// don't serve those layers.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub urls: Vec<String>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a size as the specification defines it: a signed 64-bit number that is not
/// negative (OCI image-spec, descriptor.md).
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if i64::try_from(size).is_err() {
        return Err(serde::de::Error::custom(format!("size of {size} bytes is too large")));
    }
    Ok(size)
}

/// The document that a reference or digest points to.
#[derive(Clone, Debug)]
pub enum Document {
    /// A list of manifests for several platforms.
    Index(Index),
    /// The manifest of one image.
    Manifest(ImageManifest),
}

impl Document {
    /// Parses verified bytes. `subject` names the image in errors; `content_type` is the
    /// header of the response.
    ///
    /// The body's own `mediaType` determines the type. Without one, the body's structure
    /// does. The header is wrong too often to determine it; it is only used to report a
    /// contradiction.
    pub fn parse(subject: &str, raw: Verified, content_type: Option<&str>) -> Result<Self, Error> {
        let object = parse_object(subject, raw.bytes(), content_type)?;
        let has = |key| object.get(key).is_some_and(|value| !value.is_null());
        if has("fsLayers") || object.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
            return Err(Error::Schema1 { subject: subject.to_owned() });
        }
        let ambiguous = |reason: String| Error::Ambiguous { subject: subject.to_owned(), reason };
        let media_type = media_type_of(subject, &object, content_type)?;
        if let Some(header) = content_type.map(media_type::without_parameters) {
            let known = media_type::is_index(&header) || media_type::is_manifest(&header);
            if known && header != media_type {
                return Err(ambiguous(format!(
                    "its body says `{media_type}`, its header `{header}`"
                )));
            }
        }
        if media_type::is_index(&media_type) {
            if let Some(key) = ["config", "layers", "history"].into_iter().find(|key| has(key)) {
                return Err(ambiguous(format!("an index can't have `{key}`")));
            }
            Index::read(subject, raw, media_type, object).map(Self::Index)
        } else {
            if has("manifests") {
                return Err(ambiguous("an image manifest can't have `manifests`".to_owned()));
            }
            ImageManifest::read(subject, raw, media_type, object).map(Self::Manifest)
        }
    }

    /// The bytes as served, and their digest.
    #[must_use]
    pub const fn raw(&self) -> &Verified {
        match self {
            Self::Index(index) => index.raw(),
            Self::Manifest(manifest) => &manifest.raw,
        }
    }

    /// The OCI or Docker media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Index(index) => index.media_type(),
            Self::Manifest(manifest) => manifest.media_type(),
        }
    }
}

fn parse_object(
    subject: &str,
    bytes: &[u8],
    content_type: Option<&str>,
) -> Result<Map<String, Value>, Error> {
    json::parse(bytes, VALUE_LIMIT).map_err(|source| {
        // For broken JSON, report the parser's error; for anything else, show its beginning.
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'{') {
            return Error::Shape { subject: subject.to_owned(), source };
        }
        let beginning: String = String::from_utf8_lossy(&bytes[..bytes.len().min(240)])
            .trim_start()
            .chars()
            .take(60)
            .flat_map(char::escape_default)
            .collect();
        Error::NotJson {
            subject: subject.to_owned(),
            content_type: content_type.map(|text| format!("`{}`", text.escape_default())),
            beginning,
            source,
        }
    })
}

/// Returns the media type that a document states, or the one that containers/image's
/// `GuessMIMEType` guesses for a body without `mediaType`.
fn media_type_of(
    subject: &str,
    object: &Map<String, Value>,
    content_type: Option<&str>,
) -> Result<String, Error> {
    let stated = object.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    let unknown = |media_type: &str| Error::UnknownType {
        subject: subject.to_owned(),
        media_type: media_type.escape_default().to_string(),
    };
    if media_type::is_index(stated) || media_type::is_manifest(stated) {
        return Ok(stated.to_owned());
    }
    if !stated.is_empty() {
        return Err(unknown(stated));
    }
    if object.contains_key("manifests") {
        return Ok(media_type::OCI_INDEX.to_owned());
    }
    let config_type = object
        .get("config")
        .and_then(|config| config.get("mediaType"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    if config_type == media_type::DOCKER_CONFIG {
        return Ok(media_type::DOCKER_MANIFEST.to_owned());
    }
    if object.contains_key("config") {
        return Ok(media_type::OCI_MANIFEST.to_owned());
    }
    Err(unknown(content_type.unwrap_or_default()))
}

/// An image manifest as served. `oci-spec`'s type is not used, because it accepts digests
/// that can't be verified, and doesn't say which digest it refuses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default)]
    artifact_type: Option<String>,
}

/// Returns the blobs that a manifest of any kind points to: `config`, `layers` and
/// `blobs`. Returns nothing if the bytes are not a manifest.
#[must_use]
pub fn blobs_of_any(raw: &Verified) -> Vec<Descriptor> {
    #[derive(Default, Deserialize)]
    struct Links {
        #[serde(default)]
        config: Option<Descriptor>,
        #[serde(default)]
        layers: Vec<Descriptor>,
        #[serde(default)]
        blobs: Vec<Descriptor>,
    }
    let Links { config, layers, blobs } = serde_json::from_slice(raw.bytes()).unwrap_or_default();
    config.into_iter().chain(layers).chain(blobs).collect()
}

/// Returns the media type of a document of any kind. One that is no image's, such as an
/// attestation's, counts as an OCI manifest.
#[must_use]
pub fn media_type_of_any(raw: &Verified) -> String {
    Document::parse("", raw.clone(), None)
        .map_or(media_type::OCI_MANIFEST.to_owned(), |document| document.media_type().to_owned())
}

/// The manifest of one image, as served.
#[derive(Clone, Debug)]
pub struct ImageManifest {
    raw: Verified,
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    object: Map<String, Value>,
}

impl ImageManifest {
    pub(crate) fn read(
        subject: &str,
        raw: Verified,
        media_type: String,
        object: Map<String, Value>,
    ) -> Result<Self, Error> {
        let RawManifest { config, layers, artifact_type } = RawManifest::deserialize(&object)
            .map_err(|source| Error::Shape { subject: subject.to_owned(), source })?;
        if !media_type::is_image_config(&config.media_type) {
            let artifact_type = artifact_type.unwrap_or(config.media_type);
            return Err(Error::Artifact {
                subject: subject.to_owned(),
                artifact_type: artifact_type.escape_default().to_string(),
            });
        }
        for layer in &layers {
            if media_type::oci_layer(&layer.media_type).is_none() {
                return Err(Error::LayerType {
                    subject: subject.to_owned(),
                    digest: layer.digest.clone(),
                    media_type: layer.media_type.escape_default().to_string(),
                });
            }
        }
        Ok(Self { raw, media_type, config, layers, object })
    }

    /// The bytes as served, and their digest.
    #[must_use]
    pub const fn raw(&self) -> &Verified {
        &self.raw
    }

    /// The OCI or Docker media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The image's config.
    #[must_use]
    pub const fn config(&self) -> &Descriptor {
        &self.config
    }

    /// The layers, base first. A layer that the manifest lists twice is in here twice.
    #[must_use]
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// The config and the layers, in this order.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Whether `other` has the same config and layers.
    #[must_use]
    pub fn has_same_blobs(&self, other: &Self) -> bool {
        self.blobs().eq(other.blobs())
    }

    /// The annotations of a layer, by its number, that containerd hands to its snapshotters.
    #[must_use]
    pub fn snapshot_annotations(&self, layer: usize) -> BTreeMap<String, String> {
        let layers = self.object.get("layers").and_then(|layers| layers.get(layer));
        let all = layers.and_then(|layer| layer.get("annotations")).and_then(Value::as_object);
        let mut annotations = all.map(json::texts).unwrap_or_default();
        annotations.retain(|name, _| name.starts_with(SNAPSHOT));
        annotations
    }

    /// Whether the image runs only where nix-snapshotter mounts store paths.
    #[must_use]
    pub fn needs_nix_snapshotter(&self) -> bool {
        let names = (0..self.layers.len()).flat_map(|layer| self.snapshot_annotations(layer));
        names.into_iter().any(|(name, _)| name.starts_with(NIX_SNAPSHOT))
    }

    /// The whole manifest, including fields that n2c doesn't know.
    #[must_use]
    pub const fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// The sum of the layers' sizes in bytes. A repeated layer counts once.
    #[must_use]
    pub fn download_size(&self) -> u64 {
        let distinct: BTreeMap<&Digest, u64> =
            self.layers.iter().map(|layer| (&layer.digest, layer.size)).collect();
        distinct.values().fold(0, |sum, size| sum.saturating_add(*size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(body: &str, content_type: Option<&str>) -> Result<Document, Error> {
        Document::parse("`test`", Verified::as_found(body.as_bytes().to_vec()), content_type)
    }

    fn descriptor(media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": format!("sha256:{HEX}"), "size": 0 })
    }

    fn image() -> Value {
        json!({
            "schemaVersion": 2,
            "config": descriptor(media_type::OCI_CONFIG),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
        })
    }

    // protocol rule 33
    #[test]
    fn rule_33_the_body_decides_what_it_is() {
        for content_type in [None, Some("text/plain"), Some("application/json; charset=utf-8")] {
            let document = parse(&image().to_string(), content_type).expect("an image manifest");
            let Document::Manifest(manifest) = document else { panic!("an index") };
            assert_eq!(manifest.media_type(), media_type::OCI_MANIFEST);
        }
        let mut docker = image();
        docker["config"] = descriptor(media_type::DOCKER_CONFIG);
        let Ok(Document::Manifest(manifest)) = parse(&docker.to_string(), None) else {
            panic!("no image manifest")
        };
        assert_eq!(manifest.media_type(), media_type::DOCKER_MANIFEST);
        let index = json!({ "schemaVersion": 2, "manifests": [] });
        assert!(matches!(parse(&index.to_string(), None), Ok(Document::Index(_))));
    }

    // protocol rules 33 and 34
    #[test]
    fn rule_34_contradictions_are_refused() {
        let mut both = image();
        both["manifests"] = json!([]);
        both["mediaType"] = json!(media_type::OCI_MANIFEST);
        assert!(matches!(parse(&both.to_string(), None), Err(Error::Ambiguous { .. })));
        both["mediaType"] = json!(media_type::OCI_INDEX);
        assert!(matches!(parse(&both.to_string(), None), Err(Error::Ambiguous { .. })));
        let mut stated = image();
        stated["mediaType"] = json!(media_type::OCI_MANIFEST);
        assert!(matches!(
            parse(&stated.to_string(), Some(media_type::OCI_INDEX)),
            Err(Error::Ambiguous { .. })
        ));
    }

    // protocol rules 36, 39 and 62
    #[test]
    fn rule_39_what_is_no_image_is_named() {
        let schema1 = json!({ "schemaVersion": 1, "fsLayers": [] });
        assert!(matches!(parse(&schema1.to_string(), None), Err(Error::Schema1 { .. })));

        let mut helm = image();
        helm["config"] = descriptor("application/vnd.cncf.helm.config.v1+json");
        let error = parse(&helm.to_string(), None).expect_err("an artifact");
        assert!(
            error.to_string().contains("`application/vnd.cncf.helm.config.v1+json`"),
            "{error}"
        );

        let mut empty = image();
        empty["config"] = descriptor("application/vnd.oci.empty.v1+json");
        empty["artifactType"] = json!("application/spdx+json");
        let error = parse(&empty.to_string(), None).expect_err("an artifact");
        assert!(error.to_string().contains("`application/spdx+json`"), "{error}");

        let mut layer = image();
        layer["layers"] = json!([descriptor("application/vnd.in-toto+json")]);
        assert!(matches!(parse(&layer.to_string(), None), Err(Error::LayerType { .. })));

        let mut other = image();
        other["mediaType"] = json!("application/x-thing");
        assert!(matches!(parse(&other.to_string(), None), Err(Error::UnknownType { .. })));
        assert!(matches!(parse("{}", None), Err(Error::UnknownType { .. })));
    }

    #[test]
    fn a_page_is_shown_by_its_beginning() {
        let error = parse("\n<!DOCTYPE html>\u{1b}[2J", Some("text/html")).expect_err("a page");
        assert_eq!(
            error.to_string(),
            "`test` is not a manifest: it is `text/html` that begins with \
             `<!DOCTYPE html>\\u{1b}[2J`"
        );
    }

    #[test]
    fn broken_bodies_are_errors() {
        let whole = image().to_string();
        for length in 0..whole.len() {
            assert!(parse(&whole[..length], None).is_err(), "accepted {length} bytes");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(&deep, None), Err(Error::Shape { .. })));
        let mut path = image();
        path["layers"][0]["digest"] = json!("sha256:../../x");
        assert!(parse(&path.to_string(), None).is_err());
        let mut negative = image();
        negative["config"]["size"] = json!(-1);
        assert!(parse(&negative.to_string(), None).is_err());
    }

    // protocol rules 37 and 38
    #[test]
    fn rule_38_attestations_and_unknown_types_stay_but_are_no_platforms() {
        let index = json!({
            "schemaVersion": 2,
            "manifests": [
                { "mediaType": media_type::OCI_MANIFEST, "digest": format!("sha256:{HEX}"), "size": 1,
                  "platform": { "os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1" } },
                { "mediaType": media_type::OCI_MANIFEST, "digest": format!("sha256:{HEX}"), "size": 1,
                  "platform": { "os": "unknown", "architecture": "unknown" } },
                { "mediaType": media_type::OCI_MANIFEST, "digest": format!("sha256:{HEX}"), "size": 1,
                  "platform": { "os": "linux", "architecture": "amd64" },
                  "annotations": { "vnd.docker.reference.type": "attestation-manifest" } },
                { "mediaType": "application/x-new", "digest": format!("sha256:{HEX}"), "size": 1 },
            ],
        });
        let Ok(Document::Index(index)) = parse(&index.to_string(), None) else {
            panic!("no index")
        };
        assert_eq!(index.entries().len(), 4);
        assert_eq!(index.platforms(), ["linux/arm64".parse().expect("valid")]);
        let artifacts: Vec<_> =
            index.entries().iter().map(|entry| entry.artifact_type.as_deref()).collect();
        assert_eq!(
            artifacts,
            [None, Some("attestation"), Some("attestation-manifest"), Some("application/x-new")]
        );
    }
}
