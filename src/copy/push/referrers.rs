//! Copies what refers to an image: signatures, SBOMs and attestations.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::relay::relay;
use super::{RegistryPush, at_once, push_document};
use crate::copy::{Copier, Error};
use crate::formats::oci_layout::Images;
use crate::json::{self, VALUE_LIMIT};
use crate::observer::{Event, Observer};
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::{self, Descriptor, Document};
use crate::oci::media_type;
use crate::oci::reference::Repository;
use crate::registry::{BlobPush, Client, ManifestPush, referrers_tag};
use crate::source::RegistryBlobs;

/// How many manifests that refer to an image are copied.
const REFERRER_LIMIT: usize = 1000;
/// How deep indexes are nested.
const DEPTH_LIMIT: usize = 4;
/// What cosign appends to the tag of a manifest for its signatures, attestations and SBOMs, if it
/// doesn't let them refer to the manifest.
const COSIGN_SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

impl Copier<'_> {
    /// Copies what refers to `images`, or to something that does, from the repository that they
    /// come from. Returns how many manifests that were.
    pub async fn copy_referrers(
        &self,
        images: &Images<'_>,
        (client, origin): (&Client, &Repository),
        push: &RegistryPush<'_>,
    ) -> Result<usize, Error> {
        let blobs = RegistryBlobs::new(client, origin.clone());
        let from = (&blobs, client, origin);
        let mut seen: BTreeSet<Digest> = images.documents().into_keys().cloned().collect();
        let mut subjects: VecDeque<Digest> = seen.iter().cloned().collect();
        let mut count = 0;
        while let Some(subject) = subjects.pop_front() {
            for referrer in client.referrers(origin, &subject).await? {
                if count >= REFERRER_LIMIT || !seen.insert(referrer.digest.clone()) {
                    continue;
                }
                copy_document(&referrer, None, from, push, 0).await?;
                subjects.push_back(referrer.digest);
                count += 1;
            }
        }
        let documents = images.documents();
        let tagged = documents.keys().map(|subject| -> BoxFuture<'_, _> {
            Box::pin(copy_tagged(subject, from, push, self.observer))
        });
        count += at_once(tagged.collect(), self.jobs).await?.into_iter().sum::<usize>();
        Ok(count)
    }
}

/// Copies what cosign keeps under tags that are made of a manifest's digest. Returns how many
/// manifests that were.
async fn copy_tagged(
    subject: &Digest,
    from: (&RegistryBlobs<'_>, &Client, &Repository),
    push: &RegistryPush<'_>,
    observer: &dyn Observer,
) -> Result<usize, Error> {
    let (_, client, origin) = from;
    let mut count = 0;
    for suffix in COSIGN_SUFFIXES {
        let tag = referrers_tag(subject) + suffix;
        let Some(raw) = client.tagged_manifest(origin, &tag).await? else { continue };
        let (digest, size) = (raw.digest().clone(), raw.bytes().len() as u64);
        let there = push.client.pushed_manifest(push.repository, &tag).await?;
        if let Some(there) = there {
            if *there.digest() != digest {
                let text = format!(
                    "`{}:{tag}` is another one than in `{origin}`, and is left as it is",
                    push.repository
                );
                observer.observe(&Event::Warning(&text));
            }
            continue;
        }
        let media_type = manifest::media_type_of_any(&raw);
        let descriptor = Descriptor { media_type, digest, size, urls: Vec::new() };
        copy_document(&descriptor, Some(&tag), from, push, 0).await?;
        count += 1;
    }
    Ok(count)
}

/// Copies a manifest and its blobs, or an index and what it lists, and gives it a tag.
fn copy_document<'a>(
    descriptor: &'a Descriptor,
    tag: Option<&'a str>,
    from: (&'a RegistryBlobs<'a>, &'a Client, &'a Repository),
    push: &'a RegistryPush<'_>,
    depth: usize,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let (blobs, client, origin) = from;
        let size = Some(descriptor.size);
        let raw = client.manifest_bytes(origin, &descriptor.digest, size).await?;
        if depth < DEPTH_LIMIT
            && let Ok(Document::Index(index)) = Document::parse("", raw.clone(), None)
        {
            for entry in index.entries() {
                copy_document(&entry.descriptor, None, from, push, depth + 1).await?;
            }
        }
        for blob in manifest::blobs_of_any(&raw) {
            let (repository, nothing) = (push.repository, Bytes::new());
            let request = BlobPush {
                repository,
                blob: &blob,
                mounted: Some(origin),
                is_absent: false,
                content: &nothing,
            };
            relay(push.client, blobs, request).await??;
        }
        push_document(push, tag, &descriptor.media_type, &raw).await
    })
}

/// Adds a manifest to the index of what refers to its subject, on a registry that doesn't keep
/// track of that itself (distribution-spec, "Pushing Manifests with Subject").
pub(super) async fn note_referrer(
    push: &RegistryPush<'_>,
    media_type: &str,
    raw: &Verified,
) -> Result<(), Error> {
    let object: Map<String, Value> = json::parse(raw.bytes(), VALUE_LIMIT).unwrap_or_default();
    let subject = object.get("subject").and_then(|subject| subject["digest"].as_str());
    let Some(subject) = subject.and_then(|digest| digest.parse::<Digest>().ok()) else {
        return Ok(());
    };
    let tag = referrers_tag(&subject);
    let current = push.client.pushed_manifest(push.repository, &tag).await?;
    let current: Map<String, Value> =
        current.and_then(|raw| json::parse(raw.bytes(), VALUE_LIMIT).ok()).unwrap_or_default();
    let listed = current.get("manifests").and_then(Value::as_array).into_iter().flatten();
    let digest = raw.digest().to_string();
    let mut manifests: Vec<Value> = listed.cloned().collect();
    if manifests.iter().any(|entry| entry["digest"] == digest) {
        return Ok(());
    }
    let mut entry = json!({ "mediaType": media_type, "digest": digest, "size": raw.bytes().len() });
    let config = object.get("config").and_then(|config| config.get("mediaType"));
    let artifact = object.get("artifactType").filter(|kind| kind.as_str() != Some("")).or(config);
    if let Some(artifact) = artifact {
        entry["artifactType"] = artifact.clone();
    }
    if let Some(annotations) = object.get("annotations") {
        entry["annotations"] = annotations.clone();
    }
    manifests.push(entry);
    let mut index = current;
    index.insert("schemaVersion".to_owned(), json!(2));
    index.insert("mediaType".to_owned(), json!(media_type::OCI_INDEX));
    index.insert("manifests".to_owned(), manifests.into());
    let raw = Verified::as_found(Value::Object(index).to_string().into_bytes());
    let (repository, media_type) = (push.repository, media_type::OCI_INDEX);
    let push_index = ManifestPush { repository, tag: Some(&tag), media_type, raw: &raw };
    push.client.push_manifest(&push_index).await?;
    Ok(())
}
