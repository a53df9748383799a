//! Indexes: one image for several platforms.

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

/// One line of an index.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    /// What it points to.
    pub descriptor: Descriptor,
    /// The platform it says it is for.
    pub platform: Option<Platform>,
    /// The features of the operating system it says it needs (`os.features`).
    pub os_features: Vec<String>,
    /// What makes it no image, where the index itself says so.
    pub artifact_type: Option<String>,
}

/// An entry as it stands in an index. Not `oci-spec`'s, which reads
/// `os_version` where the specification has `os.version`.
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

    /// The media type, OCI's or Docker's.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The entries in the order of the index, attestations and all.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The platforms that the entries name, each once, in their order.
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
        // Of an image this is its config's type.
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
