//! What a push has to do: which blobs are in the repository, and where others may be.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::{RegistryPush, at_once};
use crate::copy::{Copier, Error, SMALL_AT_ONCE};
use crate::formats::oci_layout::Images;
use crate::observer::Arrival;
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::{self, Descriptor, Document};
use crate::oci::reference::Repository;
use crate::registry::Pushed;

/// How many manifests of an index are read to learn what a repository has.
const CHILDREN: usize = 16;
/// How many blobs are asked for at once.
const QUESTIONS: usize = 4 * SMALL_AT_ONCE;

/// What is done with a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is there.
    Skip,
    /// It is mounted from another repository.
    Mount,
    /// It is sent.
    Send,
    /// It isn't the registry's to hold: the manifest says where it is.
    Foreign,
}

impl Action {
    /// Its name in JSON and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Mount => "mount",
            Self::Send => "send",
            Self::Foreign => "foreign",
        }
    }
}

impl From<Pushed> for Action {
    fn from(pushed: Pushed) -> Self {
        match pushed {
            Pushed::Present => Self::Skip,
            Pushed::Mounted => Self::Mount,
            Pushed::Sent => Self::Send,
        }
    }
}

impl From<Action> for Arrival {
    fn from(action: Action) -> Self {
        match action {
            Action::Skip => Self::Present,
            Action::Mount => Self::Mounted,
            Action::Send => Self::Sent,
            Action::Foreign => Self::Foreign,
        }
    }
}

/// A blob, and what is done with it.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What is done.
    pub action: Action,
    /// The repository to mount it from.
    #[serde(skip)]
    pub(super) mounted: Option<Repository>,
    /// Whether it was sent already, while it was made.
    #[serde(skip)]
    pub(super) is_done: bool,
}

impl PlannedBlob {
    pub(super) fn is_to_do(&self) -> bool {
        matches!(self.action, Action::Mount | Action::Send) && !self.is_done
    }
}

/// What a push has to do.
pub(super) struct Plan {
    pub(super) blobs: Vec<PlannedBlob>,
    /// Manifests that are in the repository.
    pub(super) documents: Vec<Digest>,
}

impl Plan {
    /// Nothing: everything that the root refers to is there, because the root is.
    pub(super) fn all_there(images: &Images<'_>) -> Self {
        let blobs = distinct(images).into_values().map(|blob| planned(blob, Action::Skip));
        Self { blobs: blobs.collect(), documents: Vec::new() }
    }
}

fn distinct<'a>(images: &'a Images<'_>) -> BTreeMap<&'a Digest, &'a Descriptor> {
    images.blobs().map(|blob| (&blob.digest, blob)).collect()
}

fn planned(blob: &Descriptor, action: Action) -> PlannedBlob {
    let (digest, size) = (blob.digest.clone(), blob.size);
    PlannedBlob { digest, size, action, mounted: None, is_done: false }
}

/// What is known to be in a repository without asking.
struct Listed {
    blobs: BTreeSet<Digest>,
    documents: Vec<Digest>,
    /// Whether the repository has nothing at all.
    is_new: bool,
}

impl Copier<'_> {
    /// Finds out what a push has to do.
    pub(super) async fn plan(
        &self,
        images: &Images<'_>,
        push: &RegistryPush<'_>,
    ) -> Result<Plan, Error> {
        let listed = listed(push).await?;
        let configs: BTreeSet<&Digest> =
            images.images.iter().map(|image| image.config().raw().digest()).collect();
        let mut blobs = Vec::new();
        for (digest, blob) in distinct(images) {
            let candidates = push.cache.repositories(digest);
            let candidates = push.origin.into_iter().chain(&candidates);
            let there = candidates.filter(|one| one.host() == push.repository.host());
            let there: Vec<&Repository> = there.collect();
            let elsewhere = there.iter().find(|one| **one != push.repository);
            let was_here = there.contains(&push.repository);
            let mut planned = planned(blob, Action::Send);
            let mut is_asked = false;
            if push.streamed.contains(digest) {
                planned.is_done = true;
            } else if !blob.urls.is_empty() {
                planned.action = Action::Foreign;
            } else if listed.blobs.contains(digest)
                || push.cache.was_pushed(digest, push.repository)
            {
                planned.action = Action::Skip;
            } else if let Some(elsewhere) = elsewhere.filter(|_| !was_here) {
                (planned.action, planned.mounted) = (Action::Mount, Some((*elsewhere).clone()));
                // To mount a blob is as cheap as to ask for it.
                is_asked = push.is_dry_run;
            } else {
                // The config belongs to a manifest that isn't there.
                is_asked = !listed.is_new && !configs.contains(digest);
            }
            blobs.push((blob, planned, is_asked));
        }
        let questions = blobs.iter_mut().filter(|(.., is_asked)| *is_asked);
        let questions = questions.map(|(blob, planned, _)| -> BoxFuture<'_, Result<(), Error>> {
            Box::pin(async move {
                if push.client.is_pushed(push.repository, blob).await? {
                    planned.action = Action::Skip;
                }
                Ok(())
            })
        });
        at_once(questions.collect(), QUESTIONS).await?;
        let blobs = blobs.into_iter().map(|(_, planned, _)| planned).collect();
        Ok(Plan { blobs, documents: listed.documents })
    }
}

/// Reads what the manifest lists that the first tag points to now.
async fn listed(push: &RegistryPush<'_>) -> Result<Listed, Error> {
    let mut listed = Listed { blobs: BTreeSet::new(), documents: Vec::new(), is_new: false };
    let current = match push.tags.first() {
        Some(tag) => push.client.pushed_manifest(push.repository, tag).await?,
        None => None,
    };
    let Some(current) = current else {
        listed.is_new = push.client.is_new(push.repository).await?;
        return Ok(listed);
    };
    let mut add = |raw: &Verified| {
        listed.blobs.extend(manifest::blobs_of_any(raw).into_iter().map(|blob| blob.digest));
        listed.documents.push(raw.digest().clone());
    };
    add(&current);
    if let Ok(Document::Index(index)) = Document::parse("", current, None) {
        let children = index.entries().iter().take(CHILDREN).map(|entry| {
            let name = entry.descriptor.digest.to_string();
            let child: BoxFuture<'_, _> =
                Box::pin(async move { push.client.pushed_manifest(push.repository, &name).await });
            child
        });
        for child in at_once(children.collect(), SMALL_AT_ONCE).await?.into_iter().flatten() {
            add(&child);
        }
    }
    Ok(listed)
}
