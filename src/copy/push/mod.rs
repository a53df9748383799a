//! Copies images into a registry: what is there isn't sent, and a tag moves last.
//!
//! First the manifest is asked for. If it is there, only tags can be missing. If it isn't, the
//! manifest that the tag points to now lists blobs that needn't be asked for. Then each blob
//! that may be missing is asked for, mounted or sent, then manifests are, and then tags.

mod plan;
mod referrers;
mod relay;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::cache::Cache;
use super::{Copier, Error, SMALL_AT_ONCE};
use crate::formats::oci_layout::Images;
use crate::observer::Event;
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::Image;
use crate::oci::manifest::{self, Descriptor, Document};
use crate::oci::media_type;
use crate::oci::reference::Repository;
use crate::registry::{self, BlobPush, Client, ManifestPush, Pushed, SMALL_BLOB};
use crate::source::{self, CompressedLayers};
use plan::Plan;
pub use plan::{Action, PlannedBlob};

/// Where in a registry images go.
#[derive(Clone, Copy)]
pub struct RegistryPush<'a> {
    /// The client.
    pub client: &'a Client,
    /// The repository.
    pub repository: &'a Repository,
    /// The tags to move. Without one, the image is there under its digest.
    pub tags: &'a [String],
    /// The digest that the image must have, if the user named one.
    pub digest: Option<&'a Digest>,
    /// The repository that the image comes from.
    pub origin: Option<&'a Repository>,
    /// What earlier copies found out.
    pub cache: &'a Cache,
    /// The blobs that were sent while they were made: see [`Copier::learn`].
    pub streamed: &'a HashSet<Digest>,
    /// The client of `origin`, if what refers to the image is copied from there too.
    pub referrers: Option<&'a Client>,
    /// Whether nothing is sent.
    pub is_dry_run: bool,
}

/// What a push came to.
#[derive(Clone, Debug)]
pub struct PushSummary {
    /// The digest of the manifest or index.
    pub digest: Digest,
    /// What was done with each blob.
    pub blobs: Vec<PlannedBlob>,
    /// Whether the manifest or index was there.
    pub was_there: bool,
    /// The tags that pointed elsewhere.
    pub moved_tags: Vec<String>,
}

impl PushSummary {
    /// How many bytes of blobs were sent, and how many there are.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |all: &mut dyn Iterator<Item = &PlannedBlob>| all.map(|one| one.size).sum();
        let sent = sum(&mut self.blobs.iter().filter(|one| one.action == Action::Send));
        (sent, sum(&mut self.blobs.iter()))
    }
}

impl Copier<'_> {
    /// Pushes images to a registry.
    pub async fn to_registry(
        &self,
        images: &Images<'_>,
        push: &RegistryPush<'_>,
    ) -> Result<PushSummary, Error> {
        let digest = images.root.digest();
        if let Some(expected) = push.digest.filter(|expected| *expected != digest) {
            let (expected, actual) = (expected.clone(), digest.clone());
            return Err(Error::OtherDigest { expected, actual });
        }
        self.check_complete(images, push).await?;
        let was_there = push.client.is_manifest_pushed(push.repository, digest).await?;
        let plan =
            if was_there { Plan::all_there(images) } else { self.plan(images, push).await? };
        let mut summary = PushSummary {
            digest: digest.clone(),
            blobs: plan.blobs,
            was_there,
            moved_tags: Vec::new(),
        };
        if !push.is_dry_run && !was_there {
            self.push_blobs(images, push, &mut summary.blobs).await?;
            self.push_children(images, push, &plan.documents).await?;
        }
        for blob in &summary.blobs {
            if !push.is_dry_run && blob.action != Action::Foreign {
                push.cache.remember_repository(&blob.digest, push.repository, self.observer);
            }
            self.observer.observe(&Event::BlobPushed {
                digest: &blob.digest,
                size: blob.size,
                arrival: blob.action.into(),
            });
        }
        if let (Some(client), Some(origin)) = (push.referrers, push.origin) {
            // A manifest may be there before what it refers to.
            let count = self.copy_referrers(images, (client, origin), push).await?;
            if count > 0 {
                let what = if count == 1 { "manifest that refers" } else { "manifests that refer" };
                let text = format!("copied {count} {what} to the image");
                self.observer.observe(&Event::Note(&text));
            }
        }
        summary.moved_tags = self.push_root(images, push, was_there).await?;
        Ok(summary)
    }

    /// Refuses an index that lists something that neither is copied nor is there: a tag would
    /// point to an image of which something is missing.
    async fn check_complete(
        &self,
        images: &Images<'_>,
        push: &RegistryPush<'_>,
    ) -> Result<(), Error> {
        let Ok(Document::Index(index)) = Document::parse("", images.root.clone(), None) else {
            return Ok(());
        };
        let documents = images.documents();
        for entry in index.entries() {
            let digest = &entry.descriptor.digest;
            if !documents.contains_key(digest)
                && !push.client.is_manifest_pushed(push.repository, digest).await?
            {
                let (index, missing) = (images.root.digest().clone(), digest.clone());
                return Err(Error::Incomplete { index, missing });
            }
        }
        Ok(())
    }

    /// Sends or mounts the blobs that are missing. The action of each becomes what was done.
    async fn push_blobs(
        &self,
        images: &Images<'_>,
        push: &RegistryPush<'_>,
        planned: &mut [PlannedBlob],
    ) -> Result<(), Error> {
        let configs: BTreeMap<&Digest, &Verified> = images
            .images
            .iter()
            .map(|image| (image.config().raw().digest(), image.config().raw()))
            .collect();
        let descriptors: BTreeMap<&Digest, &Descriptor> =
            images.blobs().map(|blob| (&blob.digest, blob)).collect();
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for blob in planned {
            let found = descriptors.get(&blob.digest);
            let Some(descriptor) = found.filter(|_| blob.is_to_do()) else { continue };
            let config = configs.get(&blob.digest).copied();
            let queue = if descriptor.size < SMALL_BLOB { &mut small } else { &mut large };
            let work: BoxFuture<'_, Result<(), Error>> = Box::pin(async move {
                let pushed = self.push_one(descriptor, config, push, blob).await?;
                blob.action = pushed.into();
                Ok(())
            });
            queue.push(work);
        }
        if self.jobs <= 1 {
            large.extend(small);
            return at_once(large, 1).await.map(drop);
        }
        let small = at_once(small, self.jobs * SMALL_AT_ONCE);
        futures_util::future::try_join(at_once(large, self.jobs), small).await.map(drop)
    }

    async fn push_one(
        &self,
        blob: &Descriptor,
        config: Option<&Verified>,
        push: &RegistryPush<'_>,
        planned: &PlannedBlob,
    ) -> Result<Pushed, Error> {
        let RegistryPush { client, repository, .. } = *push;
        let (mounted, nothing) = (planned.mounted.as_ref(), Bytes::new());
        // What is planned is known to be absent, or mounted without asking.
        let request = BlobPush { repository, blob, mounted, is_absent: true, content: &nothing };
        if let Some(config) = config {
            let content = Bytes::copy_from_slice(config.bytes());
            return Ok(client.push_blob(&BlobPush { content: &content, ..request }).await?);
        }
        let pushed = match self.blobs.readable(blob)? {
            Some(content) => client.push_blob(&BlobPush { content: &*content, ..request }).await,
            None => match relay::relay(client, self.blobs, request).await {
                // A transfer that has to begin again, or be decoded, needs a file.
                Err(source::Error::Registry(registry::Error::Write { .. })) => {
                    let content = source::local(self.blobs, blob).await?;
                    client.push_blob(&BlobPush { content: &*content, ..request }).await
                }
                pushed => pushed?,
            },
        };
        pushed.map_err(|error| of_content(&blob.digest, error))
    }

    /// Pushes the manifests that the root refers to, and nested indexes after what they list.
    async fn push_children(
        &self,
        images: &Images<'_>,
        push: &RegistryPush<'_>,
        there: &[Digest],
    ) -> Result<(), Error> {
        let manifests = images.images.iter().map(|image| {
            let manifest = image.manifest();
            (manifest.media_type().to_owned(), manifest.raw())
        });
        let others = images.others.iter().map(|raw| (manifest::media_type_of_any(raw), raw));
        let (indexes, leaves): (Vec<_>, Vec<_>) = manifests
            .chain(others)
            .filter(|(_, raw)| raw.digest() != images.root.digest())
            .filter(|(_, raw)| !there.contains(raw.digest()))
            .partition(|(media_type, _)| media_type::is_index(media_type));
        let leaves: Vec<BoxFuture<'_, Result<(), Error>>> = leaves
            .iter()
            .map(|(media_type, raw)| -> BoxFuture<'_, _> {
                Box::pin(push_document(push, None, media_type, raw))
            })
            .collect();
        at_once(leaves, SMALL_AT_ONCE).await?;
        // They were found from the outside to the inside.
        for (media_type, raw) in indexes.iter().rev() {
            push_document(push, None, media_type, raw).await?;
        }
        Ok(())
    }

    /// Pushes the root under all tags that don't point to it, and returns those.
    async fn push_root(
        &self,
        images: &Images<'_>,
        push: &RegistryPush<'_>,
        was_there: bool,
    ) -> Result<Vec<String>, Error> {
        let (digest, raw, media_type) = (images.root.digest(), images.root, images.media_type);
        let mut moved = Vec::new();
        for tag in push.tags {
            let is_right = was_there
                && push.client.pushed_digest(push.repository, tag).await?.as_ref() == Some(digest);
            if !is_right {
                moved.push(tag.clone());
            }
        }
        if push.is_dry_run {
            return Ok(moved);
        }
        if push.tags.is_empty() && !was_there {
            push_document(push, None, media_type, raw).await?;
        }
        for tag in &moved {
            push_document(push, Some(tag), media_type, raw).await?;
        }
        Ok(moved)
    }

    /// Finds out what the plain layers of `images` are when they are compressed: what was
    /// recorded when they were built, what is remembered, or what they turn out to be. With
    /// `push`, layers of which nothing is known are pushed while that is found out; else they
    /// are compressed to nothing. Returns the digests of what was pushed.
    pub async fn learn(
        &self,
        images: &[Image],
        layers: &CompressedLayers<'_>,
        known: &dyn Fn(&Descriptor) -> Option<(Digest, u64)>,
        cache: &Cache,
        push: Option<&RegistryPush<'_>>,
    ) -> Result<HashSet<Digest>, Error> {
        let compression = layers.compression();
        let mut unknown: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        for layer in images.iter().flat_map(|image| layers.unknown(image)) {
            let remembered = known(&layer).or_else(|| cache.compressed(&layer.digest, compression));
            match remembered {
                Some(made) => layers.learn(&layer, made),
                None => {
                    unknown.insert(layer.digest.clone(), layer);
                }
            }
        }
        let work = unknown.into_values().map(|layer| -> BoxFuture<'_, Result<Digest, Error>> {
            Box::pin(async move {
                let made = match push {
                    None => layers.precompute(&layer).await?,
                    Some(push) => self.push_unknown(&layer, layers, push).await?,
                };
                cache.remember_compressed(&layer.digest, compression, &made, self.observer);
                let digest = made.0.clone();
                layers.learn(&layer, made);
                Ok(digest)
            })
        });
        let made = at_once(work.collect(), self.jobs).await?;
        Ok(made.into_iter().filter(|_| push.is_some()).collect())
    }

    async fn push_unknown(
        &self,
        layer: &Descriptor,
        layers: &CompressedLayers<'_>,
        push: &RegistryPush<'_>,
    ) -> Result<(Digest, u64), Error> {
        let content = layers.producible(layer).await?;
        let pushed = push.client.push_stream(push.repository, &layer.digest, &content).await;
        let made = pushed.map_err(|error| of_content(&layer.digest, error))?;
        push.cache.remember_repository(&made.0, push.repository, self.observer);
        Ok(made)
    }
}

/// The error of a source, if that is why a blob couldn't be pushed.
fn of_content(digest: &Digest, error: registry::Error) -> Error {
    match error {
        registry::Error::Content { source, .. } => source::Error::of_content(digest, source).into(),
        error => error.into(),
    }
}

async fn push_document(
    push: &RegistryPush<'_>,
    tag: Option<&str>,
    media_type: &str,
    raw: &Verified,
) -> Result<(), Error> {
    let repository = push.repository;
    let is_tracked =
        push.client.push_manifest(&ManifestPush { repository, tag, media_type, raw }).await?;
    if !is_tracked {
        referrers::note_referrer(push, media_type, raw).await?;
    }
    Ok(())
}

/// Runs futures, at most so many at once, and stops at the first error.
pub(super) async fn at_once<T, E>(
    work: Vec<BoxFuture<'_, Result<T, E>>>,
    limit: usize,
) -> Result<Vec<T>, E> {
    let (mut waiting, mut running) = (work.into_iter(), FuturesUnordered::new());
    let mut results = Vec::new();
    loop {
        running.extend(waiting.by_ref().take(limit.max(1) - running.len()));
        match running.next().await {
            Some(result) => results.push(result?),
            None => return Ok(results),
        }
    }
}
