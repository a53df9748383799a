//! Indexes of images that were made or converted.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Error, annotate, descriptor, of_bounded_size};
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::Image;
use crate::oci::manifest::{Document, Index};
use crate::oci::media_type;
use crate::oci::platform::Platform;

/// The feature that an image needs of its node if nix-snapshotter mounts its store paths. Until
/// they are told to look for it, engines take the first image for their platform.
const NIX_SNAPSHOTTER: &str = "nix-snapshotter";

/// Makes an index of images for different platforms, in their order. For each platform, there
/// may be one image for all nodes and one for nodes with nix-snapshotter; the latter come last.
pub fn index_of(
    subject: &str,
    images: &[Image],
    annotations: &BTreeMap<String, String>,
) -> Result<Document, Error> {
    let mut entries: Vec<Value> = Vec::new();
    let mut platforms: Vec<(&Platform, bool)> = Vec::new();
    let needs_snapshotter = |image: &&Image| image.manifest().needs_nix_snapshotter();
    let (last, first): (Vec<&Image>, Vec<&Image>) = images.iter().partition(needs_snapshotter);
    for image in first.into_iter().chain(last) {
        let manifest = image.manifest();
        let (raw, media_type) = (manifest.raw(), manifest.media_type());
        let Some(platform) = image.config().platform() else {
            let digest = raw.digest().clone();
            return Err(Error::NoPlatform { digest });
        };
        let needed = (platform, manifest.needs_nix_snapshotter());
        if platforms.contains(&needed) {
            return Err(Error::SamePlatform { platform: platform.clone() });
        }
        platforms.push(needed);
        let mut entry = descriptor(media_type, raw.digest(), raw.bytes().len() as u64);
        let mut described = json!({
            "architecture": platform.architecture(), "os": platform.os(),
        });
        if !platform.variant().is_empty() {
            described["variant"] = platform.variant().into();
        }
        if needed.1 {
            described["os.features"] = json!([NIX_SNAPSHOTTER]);
        }
        entry["platform"] = described;
        entries.push(entry);
    }
    let mut object = Map::new();
    object.insert("schemaVersion".to_owned(), json!(2));
    object.insert("mediaType".to_owned(), json!(media_type::OCI_INDEX));
    object.insert("manifests".to_owned(), entries.into());
    if !annotations.is_empty() {
        annotate(&mut object, annotations);
    }
    Ok(Document::parse(subject, of_bounded_size(subject, &object)?, None)?)
}

/// Converts `index` to an OCI index, and adds annotations. `images` are the converted images
/// that it lists, each with its digest from before. Entries for documents in `kept` stay unchanged; all others
/// are dropped.
pub fn index_with(
    subject: &str,
    index: &Index,
    images: &[(Digest, Image)],
    kept: &[Verified],
    annotations: &BTreeMap<String, String>,
) -> Result<Document, Error> {
    let object: Map<String, Value> =
        serde_json::from_slice(index.raw().bytes()).unwrap_or_default();
    let listed = object.get("manifests").and_then(Value::as_array).into_iter().flatten();
    let (mut entries, mut found) = (Vec::new(), 0);
    for entry in listed {
        let digest = entry.get("digest").and_then(Value::as_str).unwrap_or_default();
        let image = images.iter().find(|(old, _)| old.to_string() == digest);
        let is_kept = kept.iter().any(|document| document.digest().to_string() == digest);
        let mut entry = entry.clone();
        if let Some((_, image)) = image {
            let raw = image.manifest().raw();
            entry["mediaType"] = image.manifest().media_type().into();
            entry["digest"] = raw.digest().to_string().into();
            entry["size"] = raw.bytes().len().into();
            found += 1;
        } else if !is_kept {
            continue;
        }
        entries.push(entry);
    }
    if found < images.len() {
        return Err(Error::Nested);
    }
    let mut converted = Map::new();
    converted.insert("schemaVersion".to_owned(), json!(2));
    converted.insert("mediaType".to_owned(), json!(media_type::OCI_INDEX));
    converted.insert("manifests".to_owned(), entries.into());
    let own = object.get("annotations").filter(|value| value.is_object());
    converted.extend(own.map(|value| ("annotations".to_owned(), value.clone())));
    if !annotations.is_empty() {
        annotate(&mut converted, annotations);
    }
    Ok(Document::parse(subject, of_bounded_size(subject, &converted)?, None)?)
}
