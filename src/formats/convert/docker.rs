//! Between Docker's manifests and OCI ones, with the config as it is.

use serde_json::{Map, json};

use super::{Error, assemble, descriptor};
use crate::formats::go_json;
use crate::oci::digest::Verified;
use crate::oci::image::Image;
use crate::oci::manifest::{Descriptor, Document};
use crate::oci::media_type;

/// Puts an image with a Docker manifest under an OCI manifest. Unlike in [`super::to_oci`], the
/// config stays as it is.
pub fn with_oci_manifest(subject: &str, image: &Image) -> Result<Image, Error> {
    let manifest = image.manifest();
    if manifest.media_type() == media_type::OCI_MANIFEST {
        return Ok(image.clone());
    }
    let oci = |layer: &Descriptor| {
        let media_type = media_type::oci_layer(&layer.media_type).unwrap_or_default();
        descriptor(media_type, &layer.digest, layer.size)
    };
    assemble(subject, image.config().raw(), manifest.layers().iter().map(oci).collect())
}

/// Converts an image to Docker's manifest, version 2 schema 2. The config stays as it is.
pub fn to_docker(subject: &str, image: &Image) -> Result<Image, Error> {
    let manifest = image.manifest();
    if manifest.media_type() == media_type::DOCKER_MANIFEST {
        return Ok(image.clone());
    }
    if manifest.needs_nix_snapshotter() {
        return Err(Error::NoSnapshotter { subject: subject.to_owned() });
    }
    let mut layers = Vec::new();
    for layer in manifest.layers() {
        let media_type = media_type::docker_layer(&layer.media_type).ok_or_else(|| {
            let media_type = layer.media_type.clone();
            Error::NotInDocker { subject: subject.to_owned(), media_type }
        })?;
        layers.push(Descriptor { media_type: media_type.to_owned(), ..layer.clone() });
    }
    let raw = docker_manifest(image.config().raw(), &layers);
    let Document::Manifest(manifest) = Document::parse(subject, raw, None)? else {
        return Err(Error::Nested);
    };
    Ok(Image::new(subject, manifest, image.config().clone())?)
}

/// Makes Docker's manifest, version 2 schema 2, of a config and layers of Docker's types.
pub(crate) fn docker_manifest(config: &Verified, layers: &[Descriptor]) -> Verified {
    let layers = layers.iter().map(|layer| {
        let mut descriptor = descriptor(&layer.media_type, &layer.digest, layer.size);
        if !layer.urls.is_empty() {
            descriptor["urls"] = json!(layer.urls);
        }
        descriptor
    });
    let size = config.bytes().len() as u64;
    let mut object = Map::new();
    object.insert("schemaVersion".to_owned(), json!(2));
    object.insert("mediaType".to_owned(), json!(media_type::DOCKER_MANIFEST));
    let config = descriptor(media_type::DOCKER_CONFIG, config.digest(), size);
    object.insert("config".to_owned(), config);
    object.insert("layers".to_owned(), layers.collect());
    Verified::as_found(go_json::to_compact(&object))
}
