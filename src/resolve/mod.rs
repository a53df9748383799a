//! Resolves a location to images: finds the manifest of an index that serves a platform.
//!
//! Only what is needed is fetched: for a platform that the index names, its manifest
//! and config, and no layers. Nested indexes, and entries without a platform, are
//! searched only if no entry matches exactly.

mod candidates;
mod contents;
mod error;
mod pending;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OnceCell;

use crate::error::{Diagnose as _, Kind};
use crate::formats::lockfile::Entry;
use crate::formats::oci_layout::OciLayout;
use crate::observer::{Event, Observer};
use crate::oci::digest::Digest;
use crate::oci::image::{Image, ImageConfig};
use crate::oci::location::{LayoutReference, Location};
use crate::oci::manifest::{self, Descriptor, Document, ImageManifest, Index, IndexEntry};
use crate::oci::media_type;
use crate::oci::platform::Platform;
use crate::registry::{Client, RawDocument};
use crate::source::{self, ImageFiles, ImageSource};
pub use candidates::Verdict;
use candidates::{Candidate, Listing, Search, best, distinct_platforms, exact};
pub use error::Error;
pub use pending::PendingImage;

/// How deeply indexes may be nested.
const DEPTH_LIMIT: usize = 4;
/// How many documents to fetch at most to find out what an index contains.
const LOOKUP_LIMIT: usize = 256;
/// How many images of one index are fetched at once.
const CONCURRENCY: usize = 4;

/// The document that a location points to, and the images available from there.
pub struct Resolution<'a> {
    source: ImageSource<'a>,
    location: Location,
    subject: String,
    root: Document,
    observer: &'a dyn Observer,
    /// Whether the location gave a digest, as opposed to only a tag.
    by_digest: bool,
    /// The fetched images by manifest digest, because several platforms or lockfiles
    /// may share an image.
    images: Mutex<HashMap<Digest, Arc<OnceCell<Image>>>>,
    /// All images, including those that had to be fetched to find their platform.
    /// Filled when needed.
    looked_up: OnceCell<Search>,
}

impl<'a> Resolution<'a> {
    /// Fetches the document that `location` points to.
    pub async fn open(
        location: &Location,
        client: &'a Client,
        observer: &'a dyn Observer,
    ) -> Result<Self, Error> {
        match location {
            Location::Registry(reference) => {
                let repository = reference.repository().clone();
                let source = ImageSource::Registry { client, repository };
                let served = client.resolve(reference).await.map_err(source::Error::from)?;
                Self::found(location, source, served, observer)
            }
            Location::OciLayout(layout) => Self::open_layout(layout, observer),
        }
    }

    /// Reads the document that a reference to an OCI layout points to. Needs no client.
    pub fn open_layout(
        reference: &LayoutReference,
        observer: &'a dyn Observer,
    ) -> Result<Self, Error> {
        let location = Location::OciLayout(reference.clone());
        let layout = OciLayout::new(reference.clone());
        let served =
            RawDocument { raw: layout.root().map_err(source::Error::from)?, content_type: None };
        Self::found(&location, ImageSource::Layout(layout), served, observer)
    }

    /// The images in a directory or an archive. Such a place can't be locked: its
    /// [`Self::location`] only says where it is.
    pub fn of_files(files: ImageFiles, observer: &'a dyn Observer) -> Result<Self, Error> {
        let place = LayoutReference::of_directory(files.path().to_owned());
        let subject = format!("`{}`", files.name());
        let served = RawDocument { raw: files.root().clone(), content_type: None };
        let location = Location::OciLayout(place);
        let found = Self::found(&location, ImageSource::Files(files), served, observer)?;
        Ok(Self { subject, ..found })
    }

    fn found(
        location: &Location,
        source: ImageSource<'a>,
        served: RawDocument,
        observer: &'a dyn Observer,
    ) -> Result<Self, Error> {
        let subject = format!("`{location}`");
        let root = Document::parse(&subject, served.raw, served.content_type.as_deref())?;
        let by_digest = location.digest().is_some();
        let location = location.pinned(root.raw().digest().clone());
        let (images, looked_up) = (Mutex::default(), OnceCell::new());
        Ok(Self { source, location, subject, root, observer, by_digest, images, looked_up })
    }

    /// The location, pinned to the digest of the document found there.
    #[must_use]
    pub const fn location(&self) -> &Location {
        &self.location
    }

    /// The index or manifest found there.
    #[must_use]
    pub const fn root(&self) -> &Document {
        &self.root
    }

    /// Returns all platforms that have an image, each once, in index order.
    pub async fn platforms(&self) -> Result<Vec<Platform>, Error> {
        let search = self.search().await?;
        // Ignoring a missing entry would silently drop a platform.
        search.complete(&self.subject)?;
        let platforms = distinct_platforms(&search.candidates);
        if platforms.is_empty() && !search.unnamed.is_empty() {
            return Err(Error::Unnamed { subject: self.subject.clone() });
        }
        if platforms.is_empty() {
            return Err(Error::Empty { subject: self.subject.clone() });
        }
        Ok(platforms)
    }

    /// Returns all images with their platforms, in index order.
    pub async fn list(&self) -> Result<Vec<(Platform, Descriptor)>, Error> {
        let candidates = self.search().await?.candidates.iter();
        Ok(candidates.map(|found| (found.platform.clone(), found.descriptor.clone())).collect())
    }

    /// Explains what happens to each entry of the index when `wanted` is asked for.
    /// Returns nothing for an image without an index.
    pub async fn explain(&self, wanted: &Platform) -> Result<Vec<Verdict>, Error> {
        let search = self.search().await?;
        let listed = self.listed();
        let chosen = exact(&listed, wanted).or_else(|| best(&search.candidates, wanted));
        let mut was_taken = false;
        let explain = |seen: &Listing| {
            let is = |candidate: &&Candidate| candidate.descriptor.digest == seen.descriptor.digest;
            let candidate = search.candidates.iter().find(is);
            let platform = seen.platform.clone().or(candidate.map(|found| found.platform.clone()));
            let taken = !was_taken && chosen.as_ref().is_some_and(is);
            was_taken |= taken;
            let needed = candidate.map(|found| found.os_features.join("`, `")).unwrap_or_default();
            let fits = candidate.and_then(|candidate| candidate.rank(wanted));
            let reason = match (&seen.artifact_type, fits) {
                (Some(kind), _) => format!("not an image: {kind}"),
                (None, Some((_, 0, _))) if taken => "fits exactly".to_owned(),
                (None, Some(_)) if taken => "fits best".to_owned(),
                (None, Some((true, ..))) => format!("needs `{needed}` of its node"),
                (None, Some(_)) => "another entry fits as well or better".to_owned(),
                (None, None) if candidate.is_some() => format!("does not run on {wanted}"),
                (None, None) if search.missing.contains(&seen.descriptor) => {
                    "is missing".to_owned()
                }
                (None, None) if search.unnamed.iter().any(|found| is(&found)) => {
                    "names no platform".to_owned()
                }
                (None, None) if media_type::is_index(&seen.descriptor.media_type) => {
                    "an index, searched".to_owned()
                }
                (None, None) => "not an image".to_owned(),
            };
            let (depth, descriptor) = (seen.depth, seen.descriptor.clone());
            Verdict { depth, descriptor, platform, taken, reason }
        };
        Ok(search.seen.iter().map(explain).collect())
    }

    /// Returns the images whose platform the index itself gives, which need no search.
    fn listed(&self) -> Vec<Candidate> {
        match &self.root {
            Document::Index(index) => {
                index.entries().iter().filter_map(Candidate::listed).collect()
            }
            Document::Manifest(_) => Vec::new(),
        }
    }

    /// Fetches the images for several platforms, in the order of `platforms`.
    pub async fn images(&self, platforms: &[Platform]) -> Result<Vec<Image>, Error> {
        stream::iter(platforms)
            .map(|platform| self.image(platform))
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Fetches all images, in index order, also those that are for the same platform.
    pub async fn all_images(&self) -> Result<Vec<Image>, Error> {
        let search = self.search().await?;
        // Ignoring a missing entry would silently drop an image.
        search.complete(&self.subject)?;
        let mut distinct: Vec<&Candidate> = Vec::new();
        for candidate in &search.candidates {
            let digest = &candidate.descriptor.digest;
            if distinct.iter().all(|known| known.descriptor.digest != *digest) {
                distinct.push(candidate);
            }
        }
        stream::iter(distinct)
            .map(|candidate| self.fetch_once(candidate.clone()))
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Fetches the image for `wanted`.
    pub async fn image(&self, wanted: &Platform) -> Result<Image, Error> {
        let chosen = self.choose(wanted).await?;
        self.fetch_once(chosen).await
    }

    /// Fetches a chosen image, unless it was fetched before.
    async fn fetch_once(&self, chosen: Candidate) -> Result<Image, Error> {
        let cell = {
            let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            images.entry(chosen.descriptor.digest.clone()).or_default().clone()
        };
        let fetch = async || self.fetch(chosen).await?.image().await;
        cell.get_or_try_init(fetch).await.cloned()
    }

    /// Returns the lockfile entry for `wanted`. If `old` already locks the same image,
    /// nothing more is fetched.
    pub async fn entry(&self, wanted: &Platform, old: Option<&Entry>) -> Result<Entry, Error> {
        let is = |entry: &&Entry, digest: &Digest| {
            entry.pin().is_some_and(|pin| pin.manifest == *digest)
        };
        if matches!(self.root, Document::Manifest(_))
            && let Some(old) = old.filter(|old| is(old, self.root.raw().digest()))
        {
            return Ok(old.clone());
        }
        let chosen = self.choose(wanted).await?;
        if let Some(old) = old.filter(|old| is(old, &chosen.descriptor.digest)) {
            return Ok(old.clone());
        }
        Ok(Entry::new(wanted.clone(), &self.fetch_once(chosen).await?))
    }

    /// Returns the digest of the manifest for `wanted`.
    pub async fn digest_for(&self, wanted: &Platform) -> Result<Digest, Error> {
        match &self.root {
            Document::Manifest(manifest) => Ok(manifest.raw().digest().clone()),
            Document::Index(_) => Ok(self.choose(wanted).await?.descriptor.digest),
        }
    }

    /// Chooses the image for `wanted`.
    async fn choose(&self, wanted: &Platform) -> Result<Candidate, Error> {
        let listed = self.listed();
        let chosen = if let Some(candidate) = exact(&listed, wanted) {
            candidate
        } else {
            let search = self.search().await?;
            if let ([], [only]) = (search.candidates.as_slice(), search.unnamed.as_slice()) {
                let text = format!(
                    "{} names no platform; assuming that it is for `{wanted}`",
                    self.child_subject(&only.descriptor)
                );
                self.observer.observe(&Event::Note(&text));
                return Ok(Candidate { platform: wanted.clone(), ..only.clone() });
            }
            let Some(candidate) = best(&search.candidates, wanted) else {
                search.complete(&self.subject)?;
                return Err(Error::NoPlatform {
                    subject: self.subject.clone(),
                    wanted: wanted.clone(),
                    available: distinct_platforms(&search.candidates),
                });
            };
            candidate
        };
        if chosen.platform != *wanted {
            let text = format!("{} has no `{wanted}`; using `{}`", self.subject, chosen.platform);
            self.observer.observe(&Event::Note(&text));
        }
        Ok(chosen.clone())
    }

    /// Reports a config that was built for another machine than the index says, or that
    /// names no platform. Registries do hold such images. docker goes by the index, and
    /// so does n2c.
    fn compare_platform(&self, subject: &str, listed: &Platform, image: &Image) {
        match image.config().platform() {
            Some(built)
                if built.os() != listed.os() || built.architecture() != listed.architecture() =>
            {
                let text =
                    format!("{subject} is listed for `{listed}`, but its config says `{built}`");
                self.observer.observe(&Event::Warning(&text));
            }
            Some(_) => {}
            None => {
                let text =
                    format!("{subject} is listed for `{listed}`; its config names no platform");
                self.observer.observe(&Event::Note(&text));
            }
        }
    }

    fn child_subject(&self, descriptor: &Descriptor) -> String {
        format!("`{}` in {}", descriptor.digest, self.subject)
    }

    async fn with_config(&self, subject: &str, manifest: ImageManifest) -> Result<Image, Error> {
        let raw = self.source.config(manifest.config()).await?;
        let config = ImageConfig::parse(subject, &raw)?;
        Ok(Image::new(subject, manifest, config)?)
    }

    /// Finds all images, including those in nested indexes. Searches only once.
    async fn search(&self) -> Result<&Search, Error> {
        let search = self.looked_up.get_or_try_init(async || {
            let mut search = Search::default();
            match &self.root {
                Document::Index(index) => self.look_into(index, 1, &mut search).await?,
                Document::Manifest(manifest) => {
                    let image = self.with_config(&self.subject, manifest.clone()).await?;
                    let raw = manifest.raw();
                    let descriptor = Descriptor {
                        media_type: manifest.media_type().to_owned(),
                        digest: raw.digest().clone(),
                        size: raw.bytes().len() as u64,
                        urls: Vec::new(),
                    };
                    search.add(descriptor, image);
                }
            }
            Ok::<_, Error>(search)
        });
        search.await
    }

    /// Adds the images of an index, depth first, so that they stay in order.
    fn look_into<'s>(
        &'s self,
        index: &'s Index,
        depth: usize,
        search: &'s mut Search,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 's>> {
        Box::pin(async move {
            for entry in index.entries() {
                search.seen.push(Listing {
                    depth,
                    descriptor: entry.descriptor.clone(),
                    platform: entry.platform.clone(),
                    artifact_type: entry.artifact_type.clone(),
                });
                if let Some(candidate) = Candidate::listed(entry) {
                    search.candidates.push(candidate);
                } else if entry.artifact_type.is_none() {
                    self.look_at(entry, depth, search).await?;
                }
            }
            Ok(())
        })
    }

    async fn look_at(
        &self,
        entry: &IndexEntry,
        depth: usize,
        search: &mut Search,
    ) -> Result<(), Error> {
        if !search.visited.insert(entry.descriptor.digest.clone()) {
            return Ok(());
        }
        if search.visited.len() > LOOKUP_LIMIT {
            return Err(Error::TooMany { subject: self.subject.clone() });
        }
        let served = match self.source.child(&entry.descriptor).await {
            Ok(served) => served,
            // A sparse copy of an index may lack this entry and still be usable.
            Err(error) if error.kind() == Kind::NotFound => {
                self.observer.observe(&Event::Warning(&crate::error_chain(&error)));
                search.missing.push(entry.descriptor.clone());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let subject = self.child_subject(&entry.descriptor);
        match Document::parse(&subject, served.raw, served.content_type.as_deref()) {
            Ok(Document::Index(_)) if depth >= DEPTH_LIMIT => {
                Err(Error::TooDeep { subject: self.subject.clone() })
            }
            Ok(Document::Index(nested)) => {
                search.indexes.push(nested.raw().clone());
                self.look_into(&nested, depth + 1, search).await
            }
            Ok(Document::Manifest(manifest)) => {
                let image = self.with_config(&subject, manifest).await?;
                search.add(entry.descriptor.clone(), image);
                Ok(())
            }
            // An artifact among the images, which the index did not mark as one.
            Err(manifest::Error::Artifact { .. } | manifest::Error::LayerType { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
