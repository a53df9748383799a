//! What goes into an OCI layout: its `index.json`, and which files there are.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{CONTAINERD_NAME, INDEX, MARKER, REF_NAME};
use crate::formats::content::Content;
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::oci::media_type;

/// The content of the file `oci-layout`.
pub(crate) const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The content of a layout.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The document that the name in the layout points to: an index, or the manifest of
    /// the only image.
    pub root: &'a Verified,
    /// Its media type.
    pub media_type: &'a str,
    /// Further documents below the root: the nested indexes, and what belongs to the
    /// images, such as attestations.
    pub others: &'a [Verified],
    /// The blobs of `others`.
    pub other_blobs: &'a [Descriptor],
    /// The images.
    pub images: &'a [Image],
}

impl Images<'_> {
    /// Returns all documents, each once.
    pub(crate) fn documents(&self) -> BTreeMap<&Digest, &[u8]> {
        let manifests = self.images.iter().map(|image| image.manifest().raw());
        std::iter::once(self.root)
            .chain(self.others)
            .chain(manifests)
            .map(|document| (document.digest(), document.bytes()))
            .collect()
    }

    /// Returns the configs, the layers, and the blobs of other documents.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.images.iter().flat_map(|image| image.manifest().blobs()).chain(self.other_blobs)
    }

    /// The digests of all blobs.
    #[must_use]
    pub fn blob_digests(&self) -> HashSet<Digest> {
        self.blobs().map(|blob| blob.digest.clone()).collect()
    }

    /// Returns the layers, and the blobs of documents that are not images.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Descriptor> {
        self.images.iter().flat_map(|image| image.manifest().layers()).chain(self.other_blobs)
    }

    /// Whether a manifest is Docker's. Others convert those, which changes the digest.
    pub(crate) fn have_docker_manifest(&self) -> bool {
        let mut manifests = self.images.iter().map(Image::manifest);
        manifests.any(|manifest| manifest.media_type() == media_type::DOCKER_MANIFEST)
    }

    /// Returns the entry of `index.json` that points to the root.
    pub(crate) fn entry(&self, name: Option<&str>) -> Value {
        let mut entry = json!({
            "mediaType": self.media_type,
            "digest": self.root.digest().to_string(),
            "size": self.root.bytes().len(),
        });
        if let Some(name) = name {
            entry["annotations"] = json!({ REF_NAME: name });
            // containerd takes only such names as they are.
            let host = name.split_once('/').map(|(host, _)| host).unwrap_or_default();
            let is_registry = host.contains(['.', ':']) || host == "localhost";
            if is_registry && host.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                entry["annotations"][CONTAINERD_NAME] = name.into();
            }
        }
        entry
    }
}

/// The content of `index.json`, of which only the list of manifests is interpreted.
#[derive(Default, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    manifests: Vec<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Index {
    /// Reads an `index.json`.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        json::parse(text, VALUE_LIMIT)
    }

    /// Adds `entry`, in the place of the one with the same name, and returns the text.
    pub(crate) fn with_entry(self, entry: Value) -> Vec<u8> {
        let name =
            |entry: &Value| entry.get("annotations").and_then(|all| all.get(REF_NAME)).cloned();
        let Self { manifests: mut entries, rest: mut index } = self;
        entries.retain(|old| {
            let is_same = name(old) == name(&entry);
            !is_same || name(&entry).is_none() && old.get("digest") != entry.get("digest")
        });
        entries.push(entry);
        index.entry("schemaVersion").or_insert(json!(2));
        index.entry("mediaType").or_insert(json!(media_type::OCI_INDEX));
        index.insert("manifests".to_owned(), entries.into());
        Value::Object(index).to_string().into_bytes()
    }
}

/// Returns the files and folders of a layout, by name. Folders have no content.
pub(crate) fn contents<'a>(
    images: &'a Images<'_>,
    name: Option<&str>,
) -> BTreeMap<String, Option<Content<'a>>> {
    let mut contents = BTreeMap::new();
    let index = Index::default().with_entry(images.entry(name));
    contents.insert(INDEX.to_owned(), Some(Content::Here(index.into())));
    contents.insert(MARKER.to_owned(), Some(Content::Here(VERSION.as_bytes().into())));
    contents.insert("blobs/".to_owned(), None);
    let mut add = |digest: &Digest, content| {
        let folder = format!("blobs/{}/", digest.algorithm().name());
        contents.insert(format!("{folder}{}", digest.hex()), Some(content));
        contents.insert(folder, None);
    };
    for blob in images.layers() {
        add(&blob.digest, Content::ToFetch(blob));
    }
    for image in images.images {
        let config = image.config().raw();
        add(config.digest(), Content::Here(config.bytes().into()));
    }
    for (digest, bytes) in images.documents() {
        add(digest, Content::Here(bytes.into()));
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_takes_the_place_of_its_namesake_only() {
        let entry = |digest: &str, name: Option<&str>| {
            let mut entry = json!({ "digest": digest });
            if let Some(name) = name {
                entry["annotations"] = json!({ REF_NAME: name });
            }
            entry
        };
        let mut index = Index::default();
        for (new, expected) in [
            (entry("a", Some("1")), vec![entry("a", Some("1"))]),
            (entry("b", Some("2")), vec![entry("a", Some("1")), entry("b", Some("2"))]),
            (entry("c", Some("1")), vec![entry("b", Some("2")), entry("c", Some("1"))]),
            (
                entry("d", None),
                vec![entry("b", Some("2")), entry("c", Some("1")), entry("d", None)],
            ),
            (
                entry("d", None),
                vec![entry("b", Some("2")), entry("c", Some("1")), entry("d", None)],
            ),
        ] {
            let text = index.with_entry(new);
            index = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(index.manifests, expected);
        }
        assert_eq!(index.rest["schemaVersion"], 2);
    }
}
