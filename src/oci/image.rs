//! An image: a manifest and the config that it points to, checked against each other.
//!
//! See OCI image-spec config.md. The config's JSON is kept unchanged, so that fields
//! that n2c doesn't know (such as Docker's `Healthcheck`) are not lost.

use oci_spec::image::History;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Diagnose, Kind};
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::ImageManifest;
use crate::oci::platform::Platform;

/// The maximum size of a config in bytes. Real ones have a few kilobytes, or a few hundred
/// if their history is very long.
pub const CONFIG_SIZE_LIMIT: u64 = 8 << 20;

/// Why a config, or a manifest and its config, can't be used as an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config is not JSON with the right structure.
    #[error("invalid config of {subject}")]
    Shape {
        /// The image that it belongs to.
        subject: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The numbers of layers and diff IDs differ.
    #[error("{subject} has {layers} layers in its manifest but {diff_ids} diff IDs in its config")]
    LayerCount {
        /// The image.
        subject: String,
        /// How many layers the manifest lists.
        layers: usize,
        /// How many diff IDs the config lists.
        diff_ids: usize,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Verification
    }
}

/// The config of an image.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    raw: Verified,
    platform: Option<Platform>,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
    object: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RawRootFs,
    #[serde(default)]
    history: Option<Vec<History>>,
}

#[derive(Deserialize)]
struct RawRootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

impl ImageConfig {
    /// Parses a verified config. `subject` names the image in errors.
    pub fn parse(subject: &str, raw: &Verified) -> Result<Self, Error> {
        let shape = |source| Error::Shape { subject: subject.to_owned(), source };
        let object: Map<String, Value> = json::parse(raw.bytes(), VALUE_LIMIT).map_err(shape)?;
        let config = RawConfig::deserialize(&object).map_err(shape)?;
        let platform = Platform::served(
            config.os.as_deref().unwrap_or_default(),
            config.architecture.as_deref().unwrap_or_default(),
            config.variant.as_deref().unwrap_or_default(),
        );
        Ok(Self {
            raw: raw.clone(),
            platform,
            diff_ids: config.rootfs.diff_ids.unwrap_or_default(),
            history: config.history.unwrap_or_default(),
            object,
        })
    }

    /// The bytes as served, and their digest.
    #[must_use]
    pub const fn raw(&self) -> &Verified {
        &self.raw
    }

    /// The platform that the image was built for, if the config says it.
    #[must_use]
    pub const fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// The digests of the uncompressed layers, base first.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// The steps that built the image, including those that made no layer.
    #[must_use]
    pub fn history(&self) -> &[History] {
        &self.history
    }

    /// The whole config.
    #[must_use]
    pub const fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// How to run the image: the config's `config` object with `Env`, `Cmd` and so on. Empty
    /// if there is none.
    #[must_use]
    pub fn run_config(&self) -> Map<String, Value> {
        self.object.get("config").and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

/// A manifest and its config, with one diff ID for each layer.
#[derive(Clone, Debug)]
pub struct Image {
    manifest: ImageManifest,
    config: ImageConfig,
}

impl Image {
    /// Combines a manifest and its config. Fails if the numbers of layers and diff IDs
    /// differ.
    pub fn new(subject: &str, manifest: ImageManifest, config: ImageConfig) -> Result<Self, Error> {
        let (layers, diff_ids) = (manifest.layers().len(), config.diff_ids.len());
        if layers != diff_ids {
            return Err(Error::LayerCount { subject: subject.to_owned(), layers, diff_ids });
        }
        Ok(Self { manifest, config })
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// The config.
    #[must_use]
    pub const fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The history entry of each layer, or `None` if the entries can't be matched to the
    /// layers.
    #[must_use]
    pub fn layer_history(&self) -> Option<Vec<&History>> {
        let made_layers: Vec<&History> =
            self.config.history.iter().filter(|step| step.empty_layer() != Some(true)).collect();
        (made_layers.len() == self.manifest.layers().len()).then_some(made_layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<ImageConfig, Error> {
        ImageConfig::parse("`test`", &Verified::as_found(body.to_string().into_bytes()))
    }

    #[test]
    fn the_platform_is_normalised() {
        let config = parse(&json!({
            "os": "linux", "architecture": "arm64", "variant": "v8",
            "rootfs": { "type": "layers", "diff_ids": null },
        }));
        let platform = config.expect("a config").platform().map(ToString::to_string);
        assert_eq!(platform.as_deref(), Some("linux/arm64"));
        let config = parse(&json!({ "rootfs": {} })).expect("a config");
        assert_eq!(config.platform(), None);
    }

    #[test]
    fn nulls_are_as_good_as_nothing() {
        let config = parse(&json!({
            "os": "linux", "architecture": "amd64", "variant": null, "config": null,
            "history": null, "rootfs": { "diff_ids": [] },
        }));
        assert_eq!(config.expect("a config").run_config(), Map::new());
    }

    #[test]
    fn a_config_without_root_file_system_is_refused() {
        assert!(matches!(parse(&json!({ "os": "linux" })), Err(Error::Shape { .. })));
        assert!(matches!(parse(&json!([])), Err(Error::Shape { .. })));
        let path = json!({ "rootfs": { "diff_ids": ["sha256:../../x"] } });
        assert!(matches!(parse(&path), Err(Error::Shape { .. })));
    }
}
