//! Indexes: lists of an image's manifests for several platforms.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Descriptor, Error};
use crate::oci::digest::{Digest, Verified};
use crate::oci::media_type;
use crate::oci::platform::Platform;

const ATTESTATION: &str = "vnd.docker.reference.type";

/// A list of manifests, one for each platform, as served.
#[derive(Clone, Debug)]
pub struct Index {
    raw: Verified,
    media_type: String,
    entries: Vec<IndexEntry>,
}

/// One entry of an index.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    /// The descriptor of the manifest that it points to.
    pub descriptor: Descriptor,
    /// The platform that it declares.
    pub platform: Option<Platform>,
    /// The features of the operating system that it declares it needs (`os.features`).
    pub os_features: Vec<String>,
    /// The artifact type, if the index itself shows that the entry is not an image.
    pub artifact_type: Option<String>,
}

/// An entry as written in an index. `oci-spec`'s type is not used, because it reads
/// `os_version` instead of the specification's `os.version`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    #[serde(default)]
    media_type: Option<String>,
    digest: Digest,
    size: u64,
    #[serde(default)]
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, rename = "os.features")]
    os_features: Option<Vec<String>>,
}

impl Index {
    pub(super) fn read(
        subject: &str,
        raw: Verified,
        media_type: String,
        mut object: Map<String, Value>,
    ) -> Result<Self, Error> {
        let shape = |source| Error::Shape { subject: subject.to_owned(), source };
        let manifests = object.remove("manifests").unwrap_or(Value::Array(Vec::new()));
        let entries: Vec<RawEntry> = serde_json::from_value(manifests).map_err(shape)?;
        Ok(Self { raw, media_type, entries: entries.into_iter().map(IndexEntry::from).collect() })
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

    /// The entries in the order of the index, including attestations.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The platforms of the images in the index, without duplicates, in the order of the
    /// index.
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for entry in &self.entries {
            if let (Some(platform), None) = (&entry.platform, &entry.artifact_type)
                && !platforms.contains(platform)
            {
                platforms.push(platform.clone());
            }
        }
        platforms
    }
}

impl From<RawEntry> for IndexEntry {
    fn from(raw: RawEntry) -> Self {
        let (platform, os_features) = match raw.platform {
            Some(RawPlatform { os, architecture, variant, os_features }) => (
                Platform::served(&os, &architecture, variant.as_deref().unwrap_or_default()),
                os_features.unwrap_or_default(),
            ),
            None => (None, Vec::new()),
        };
        let media_type = raw.media_type.unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        let attestation = raw
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(ATTESTATION))
            .map(|kind| kind.as_str().unwrap_or("attestation").to_owned());
        let unknown_platform =
            platform.as_ref().is_some_and(Platform::is_unknown).then(|| "attestation".to_owned());
        // An image's artifact type, if set, is the media type of its config.
        let artifact_type =
            raw.artifact_type.filter(|kind| !kind.is_empty() && !media_type::is_image_config(kind));
        let other_type = (!media_type::is_manifest(&media_type)
            && !media_type::is_index(&media_type))
        .then(|| media_type.clone());
        Self {
            descriptor: Descriptor {
                media_type,
                digest: raw.digest,
                size: raw.size,
                urls: Vec::new(),
            },
            platform,
            os_features,
            artifact_type: attestation.or(unknown_platform).or(artifact_type).or(other_type),
        }
    }
}
