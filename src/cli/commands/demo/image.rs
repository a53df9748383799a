//! The demo's image, made in memory: an index for three platforms, with attestations like
//! those that `docker buildx` adds.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use n2c::oci::digest::{Digest, Verified};
use n2c::oci::media_type;
use n2c::serve::Catalog;
use n2c::stream::tar::{END, Header, Kind, padding};
use serde_json::{Value, json};

use super::{Error, REPOSITORY, TAG};

const PLATFORMS: [(&str, Option<&str>); 3] =
    [("amd64", None), ("arm64", Some("v8")), ("arm", Some("v7"))];
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Returns a catalog that contains only this image.
pub(super) fn catalog() -> Result<Catalog, Error> {
    let mut catalog = Catalog::new();
    let mut entries = Vec::new();
    for (architecture, variant) in PLATFORMS {
        let mut platform = json!({ "os": "linux", "architecture": architecture });
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        let mut image = add_image(&mut catalog, &platform)?;
        let mut attestation = add_attestation(&mut catalog)?;
        attestation["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image["digest"],
        });
        image["platform"] = platform;
        entries.extend([image, attestation]);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": entries,
    });
    add_document(&mut catalog, Some(TAG), media_type::OCI_INDEX, &index)?;
    Ok(catalog)
}

/// Adds an image with two layers, and returns its descriptor.
fn add_image(catalog: &mut Catalog, platform: &Value) -> Result<Value, Error> {
    let texts = ["a base".to_owned(), format!("hello from {}", platform["architecture"])];
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for text in &texts {
        let (layer, diff_id) = layer(text).map_err(Error::Prepare)?;
        layers.push(add_blob(catalog, LAYER, layer)?);
        diff_ids.push(diff_id.to_string());
    }
    let mut config = platform.clone();
    config["created"] = json!("2026-01-02T03:04:05Z");
    config["config"] = json!({
        "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
        "Entrypoint": ["/bin/hello"],
        "User": "1000",
    });
    config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    add_manifest(catalog, &config, &layers)
}

fn add_attestation(catalog: &mut Catalog) -> Result<Value, Error> {
    let statement = b"{}".to_vec();
    let config = json!({
        "os": "unknown",
        "architecture": "unknown",
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(&statement).to_string()] },
    });
    let layer = add_blob(catalog, "application/vnd.in-toto+json", statement)?;
    let mut entry = add_manifest(catalog, &config, &[layer])?;
    entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    Ok(entry)
}

fn add_manifest(catalog: &mut Catalog, config: &Value, layers: &[Value]) -> Result<Value, Error> {
    let config = add_blob(catalog, media_type::OCI_CONFIG, config.to_string().into_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    add_document(catalog, None, media_type::OCI_MANIFEST, &manifest)
}

fn add_document(
    catalog: &mut Catalog,
    tag: Option<&str>,
    media_type: &str,
    document: &Value,
) -> Result<Value, Error> {
    let raw = Verified::as_found(document.to_string().into_bytes());
    let descriptor = descriptor(media_type, raw.digest(), raw.bytes().len());
    catalog.add_document(REPOSITORY, tag, media_type, raw)?;
    Ok(descriptor)
}

fn add_blob(catalog: &mut Catalog, media_type: &str, bytes: Vec<u8>) -> Result<Value, Error> {
    let digest = Digest::sha256(&bytes);
    let descriptor = descriptor(media_type, &digest, bytes.len());
    catalog.add_blob(REPOSITORY, digest, Arc::new(Bytes::from(bytes)))?;
    Ok(descriptor)
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
}

/// Returns a gzip layer with one file, and its diff ID.
fn layer(text: &str) -> io::Result<(Vec<u8>, Digest)> {
    let size = text.len() as u64;
    let header = Header::new(Kind::File, b"hello.txt", 0o644, size).encode();
    let mut archive = header.map_err(io::Error::other)?;
    archive.extend_from_slice(text.as_bytes());
    archive.resize(archive.len() + padding(size), 0);
    archive.extend_from_slice(&END);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&archive)?;
    Ok((gzip.finish()?, Digest::sha256(&archive)))
}
