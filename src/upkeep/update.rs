//! Updates lockfiles: finds out what each tag points to now, and what is new about it.
//!
//! A tag is looked up with HEAD, which no registry counts as a pull, and only once for
//! all lockfiles that lock it. Anything else is fetched only if the tag's digest
//! changed, and then only the images whose own manifest changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{OnceCell, Semaphore};

use crate::error::{Diagnose, Kind};
use crate::formats::lockfile::{Entry, Lockfile};
use crate::observer::{Event, Observer};
use crate::oci::digest::Digest;
use crate::oci::image::{self, Image, ImageConfig};
use crate::oci::location::Location;
use crate::oci::platform::{self, Platform};
use crate::oci::reference::Reference;
use crate::registry::{self, Client};
use crate::resolve::{self, Resolution};
use crate::source::{self, LockedImages};
use crate::store::StoreDirectory;
use crate::upkeep::tag_version::{Bump, TagVersion};

/// How many references to look up at once, whatever their hosts are.
const CONCURRENCY: usize = 64;

/// Why a lockfile could not be updated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry does not say what the tag points to, or does not list its tags.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A config that the lockfile pins is not available.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The tag does not point to an image for one of the lockfile's platforms.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// A config that the lockfile pins does not belong to its image.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Platforms that the lockfile locks are no longer there.
    #[error("`{reference}` no longer has {}", platform::list(lost))]
    Lost {
        /// The reference that was looked up.
        reference: String,
        /// The platforms that are missing.
        lost: Vec<Platform>,
    },
    /// The update failed for all lockfiles of the same image, of which this is one.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// The lockfile does not say what it locks.
    #[error("it does not say which image it locks")]
    Nameless,
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Resolve(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Shared(error) => error.kind(),
            Self::Lost { .. } => Kind::NotFound,
            Self::Nameless => Kind::Verification,
        }
    }
}

/// The result for one lockfile.
#[derive(Debug)]
pub enum Outcome {
    /// It matches what its reference points to.
    Fresh,
    /// Its reference has no tag, so nothing can change.
    Pinned,
    /// The index changed, but the images of all its platforms are the same. Contains
    /// the new lockfile.
    IndexMoved(Box<Lockfile>),
    /// Something in it changed. Contains the new lockfile.
    Stale(Box<Lockfile>),
    /// It could not be checked.
    Failed(Box<Error>),
}

/// What to do about platforms that are no longer there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PlatformsLost {
    /// Leave the lockfile as it is, and return an error.
    #[default]
    Fail,
    /// Remove them from the lockfile too.
    Drop,
}

/// Which tags a lockfile may move to.
#[derive(Clone, Copy, Debug)]
pub struct TagPolicy {
    /// How far it may move.
    pub bump: Bump,
    /// Whether it may move to pre-releases.
    pub pre_releases: bool,
}

/// What is done with lockfiles.
#[derive(Clone, Copy)]
enum Work<'a> {
    Update,
    Refresh(&'a StoreDirectory),
}

impl Work<'_> {
    /// Returns the location to lock again, or the outcome if nothing can change.
    fn location(self, location: &Location) -> Result<Location, Outcome> {
        match self {
            Self::Update => {
                let location = location.unpinned();
                if location.can_move() { Ok(location) } else { Err(Outcome::Pinned) }
            }
            Self::Refresh(_) => Ok(location.clone()),
        }
    }
}

/// Updates lockfiles.
pub struct Updater<'a> {
    client: &'a Client,
    observer: &'a dyn Observer,
    /// How many references of one host are looked up at once.
    jobs: usize,
    /// Which tags lockfiles may move to. If it is `None`, they keep their tags.
    pub tags: Option<TagPolicy>,
    /// What to do about platforms that are no longer there.
    pub platforms_lost: PlatformsLost,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl<'a> Updater<'a> {
    /// Creates an updater that looks up at most `jobs` references of one registry at once.
    #[must_use]
    pub fn new(client: &'a Client, observer: &'a dyn Observer, jobs: usize) -> Self {
        let (tags, platforms_lost, hosts) = (None, PlatformsLost::default(), Mutex::default());
        Self { client, observer, jobs, tags, platforms_lost, hosts }
    }

    /// Updates each lockfile to what its tag points to now. Returns the outcomes in the
    /// order of `lockfiles`.
    pub async fn update(&self, lockfiles: &[&Lockfile]) -> Vec<Outcome> {
        self.in_groups(lockfiles, Work::Update).await
    }

    /// Makes each lockfile match the reference in it. The digest of the reference is
    /// what counts; if its tag points elsewhere, that is only reported. Everything in
    /// the lockfile is compared: manifests by the digests that it pins, and the rest
    /// with the configs, from `store` or fetched. Returns the outcomes in the order of
    /// `lockfiles`.
    pub async fn refresh(&self, lockfiles: &[&Lockfile], store: &StoreDirectory) -> Vec<Outcome> {
        self.in_groups(lockfiles, Work::Refresh(store)).await
    }

    /// Handles the lockfiles of one location together, and several locations at once.
    /// Returns the outcomes in the order of `lockfiles`.
    async fn in_groups(&self, lockfiles: &[&Lockfile], work: Work<'_>) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = lockfiles.iter().map(|_| None).collect();
        let mut groups: BTreeMap<String, (Location, Vec<usize>)> = BTreeMap::new();
        for (index, lockfile) in lockfiles.iter().enumerate() {
            let nameless = || Outcome::Failed(Box::new(Error::Nameless));
            match lockfile
                .location()
                .ok_or_else(nameless)
                .and_then(|location| work.location(location))
            {
                Ok(location) => {
                    let group = groups.entry(location.to_string());
                    group.or_insert_with(|| (location, Vec::new())).1.push(index);
                }
                Err(outcome) => outcomes[index] = Some(outcome),
            }
        }
        let run = async |(location, members): (Location, Vec<usize>)| {
            let _permit = self.permit(&location).await;
            let group: Vec<&Lockfile> = members.iter().map(|index| lockfiles[*index]).collect();
            let outcomes = match work {
                Work::Update => self.update_group(location, &group).await,
                Work::Refresh(store) => self.refresh_group(&location, &group, store).await,
            };
            members.into_iter().zip(outcomes).collect::<Vec<_>>()
        };
        let runs: Vec<BoxFuture<'_, _>> =
            groups.into_values().map(|group| Box::pin(run(group)) as BoxFuture<'_, _>).collect();
        let done: Vec<Vec<(usize, Outcome)>> =
            stream::iter(runs).buffer_unordered(CONCURRENCY).collect().await;
        for (index, outcome) in done.into_iter().flatten() {
            outcomes[index] = Some(outcome);
        }
        outcomes.into_iter().flatten().collect()
    }

    async fn refresh_group(
        &self,
        location: &Location,
        group: &[&Lockfile],
        store: &StoreDirectory,
    ) -> Vec<Outcome> {
        if let Some(reference) = location.reference()
            && let (Some(_), Some(digest)) = (reference.tag(), reference.digest())
        {
            match self.client.tag_digest(reference).await {
                Ok(now) if now == *digest => {}
                Ok(now) => self.note(&format!("the tag of `{reference}` now points to `{now}`")),
                Err(error) => self.note(&crate::error_chain(&error)),
            }
        }
        // A proved lockfile needs no request. All others share one resolution.
        let resolution: OnceCell<Resolution<'_>> = OnceCell::new();
        let mut configs = HashMap::new();
        let mut outcomes = Vec::new();
        for lockfile in group {
            let relocked = async {
                let fresh = self.relock(lockfile, location, &resolution).await?;
                self.proved(fresh, store, &mut configs).await
            };
            outcomes.push(match relocked.await {
                // If only the order differs from the registry's, restore it.
                Ok(fresh) => match compare(lockfile, fresh.clone()) {
                    Outcome::Fresh if fresh.to_text() != lockfile.to_text() => {
                        Outcome::Stale(Box::new(fresh))
                    }
                    outcome => outcome,
                },
                Err(error) => Outcome::Failed(Box::new(error)),
            });
        }
        outcomes
    }

    async fn update_group(&self, location: Location, group: &[&Lockfile]) -> Vec<Outcome> {
        match self.update_location(location, group).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let error = Arc::new(error);
                let failed = |_| Outcome::Failed(Box::new(Error::Shared(error.clone())));
                group.iter().map(failed).collect()
            }
        }
    }

    async fn update_location(
        &self,
        mut location: Location,
        group: &[&Lockfile],
    ) -> Result<Vec<Outcome>, Error> {
        if let (Location::Registry(reference), Some(policy)) = (&location, self.tags) {
            location = Location::Registry(self.bumped(reference, policy).await?);
        }
        if let Some(reference) = location.reference() {
            let digest = self.client.tag_digest(reference).await?;
            let locked = location.pinned(digest);
            if group.iter().all(|lockfile| lockfile.location() == Some(&locked)) {
                return Ok(group.iter().map(|_| Outcome::Fresh).collect());
            }
        }
        let resolution = Resolution::open(&location, self.client, self.observer).await?;
        let mut outcomes = Vec::new();
        for lockfile in group {
            outcomes.push(match self.lock_from(lockfile, &resolution, |_| true).await {
                Ok(fresh) => compare(lockfile, fresh),
                Err(error) => Outcome::Failed(Box::new(error)),
            });
        }
        Ok(outcomes)
    }

    /// Returns the reference with the newest tag that it may move to.
    async fn bumped(&self, reference: &Reference, policy: TagPolicy) -> Result<Reference, Error> {
        let Some(Ok(version)) = reference.tag().map(str::parse::<TagVersion>) else {
            self.note(&format!("the tag of `{reference}` is not a version, so it stays"));
            return Ok(reference.clone());
        };
        let tags = self.client.tags(reference.repository()).await?;
        let newest = version.newest(&tags, policy.bump, policy.pre_releases);
        let newest = newest.and_then(|newest| reference.tagged(&newest.to_string()));
        Ok(newest.unwrap_or_else(|| reference.clone()))
    }

    /// Locks what the lockfile's own reference points to.
    async fn relock<'r>(
        &'r self,
        lockfile: &Lockfile,
        location: &Location,
        resolution: &OnceCell<Resolution<'r>>,
    ) -> Result<Lockfile, Error> {
        // Without an index, the reference has the digest of the manifest itself.
        if let (Location::Registry(reference), [entry]) = (location, lockfile.entries())
            && let Some(pin) = entry.pin()
            && reference.digest() == Some(&pin.manifest)
            && entry.is_proved()
        {
            return Ok(lockfile.clone());
        }
        let open = || Resolution::open(location, self.client, self.observer);
        let resolution = resolution.get_or_try_init(open).await?;
        // Entries that the file itself can't prove are locked again.
        let is_trusted = Entry::is_proved;
        self.lock_from(lockfile, resolution, is_trusted).await
    }

    /// Returns the lockfile with its data from the configs that it pins.
    async fn proved(
        &self,
        lockfile: Lockfile,
        store: &StoreDirectory,
        configs: &mut HashMap<Digest, ImageConfig>,
    ) -> Result<Lockfile, Error> {
        let Some(location) = lockfile.location().cloned() else { return Err(Error::Nameless) };
        let locked = LockedImages::new(&lockfile, store.clone(), self.client);
        let mut entries = Vec::new();
        for entry in lockfile.entries() {
            let digest = &entry.manifest().config().digest;
            if !configs.contains_key(digest) {
                configs.insert(digest.clone(), locked.config(entry).await?);
            }
            let subject = format!("`{}`", lockfile.file());
            let config = configs[digest].clone();
            // This checks that there are as many diff IDs as layers.
            let image = Image::new(&subject, entry.manifest().clone(), config)?;
            let pin = entry.pin().ok_or(Error::Nameless)?;
            let proved = entry.with_config(image.config());
            if !proved.has_config(image.config()) {
                let (reference, lost) = (location.to_string(), vec![pin.platform.clone()]);
                return Err(Error::Lost { reference, lost });
            }
            entries.push(proved);
        }
        Ok(lockfile.with(location, entries))
    }

    /// Locks the platforms of `lockfile` again, from `resolution`.
    async fn lock_from(
        &self,
        lockfile: &Lockfile,
        resolution: &Resolution<'_>,
        is_trusted: fn(&Entry) -> bool,
    ) -> Result<Lockfile, Error> {
        let (mut entries, mut lost) = (Vec::new(), Vec::new());
        for old in lockfile.entries() {
            let Some(pin) = old.pin() else { return Err(Error::Nameless) };
            let trusted = Some(old).filter(|old| is_trusted(old));
            match resolution.entry(&pin.platform, trusted).await {
                Ok(entry) => entries.push(entry),
                Err(resolve::Error::NoPlatform { .. }) => lost.push(pin.platform.clone()),
                Err(error) => return Err(error.into()),
            }
        }
        let reference = resolution.location();
        if !lost.is_empty() {
            let error = Error::Lost { reference: reference.to_string(), lost: lost.clone() };
            if self.platforms_lost == PlatformsLost::Fail || entries.is_empty() {
                return Err(error);
            }
            self.observer.observe(&Event::Warning(&error.to_string()));
        }
        Ok(lockfile.with(reference.clone(), entries))
    }

    async fn permit(&self, location: &Location) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let host = location.reference().map(|reference| reference.repository().host());
        let host = host.unwrap_or_default().to_owned();
        let semaphore = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.jobs))).clone()
        };
        semaphore.acquire_owned().await.ok()
    }

    fn note(&self, text: &str) {
        self.observer.observe(&Event::Note(text));
    }
}

/// Compares `lockfile` with `fresh`.
fn compare(lockfile: &Lockfile, fresh: Lockfile) -> Outcome {
    let is_same = lockfile.has_same_entries(&fresh);
    if is_same && lockfile.location() == fresh.location() {
        return Outcome::Fresh;
    }
    let unpinned = |lockfile: &Lockfile| lockfile.location().map(Location::unpinned);
    // If the old reference had no digest, adding one doesn't mean that the index moved.
    let was_pinned = unpinned(lockfile).as_ref() != lockfile.location();
    if is_same && was_pinned && unpinned(lockfile) == unpinned(&fresh) {
        Outcome::IndexMoved(Box::new(fresh))
    } else {
        Outcome::Stale(Box::new(fresh))
    }
}
