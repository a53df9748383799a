//! What an index offers, and which of it serves a platform best.

use std::collections::HashSet;

use super::Error;
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::Image;
use crate::oci::manifest::{Descriptor, IndexEntry};
use crate::oci::media_type;
use crate::oci::platform::Platform;

/// One image of an index, before it is fetched or after.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) descriptor: Descriptor,
    pub(super) platform: Platform,
    pub(super) needs_os_features: bool,
    /// Fetched already, because the index did not say its platform.
    pub(super) image: Option<Image>,
}

impl Candidate {
    /// What an index says of an entry, if that is enough to choose it.
    pub(super) fn listed(entry: &IndexEntry) -> Option<Self> {
        if entry.artifact_type.is_some() || !media_type::is_manifest(&entry.descriptor.media_type) {
            return None;
        }
        Some(Self {
            descriptor: entry.descriptor.clone(),
            platform: entry.platform.clone()?,
            needs_os_features: !entry.os_features.is_empty(),
            image: None,
        })
    }

    /// How badly it serves `wanted`: features that nobody asked for are the
    /// worst, then a lower variant, then a platform that the index hides.
    pub(super) fn rank(&self, wanted: &Platform) -> Option<(bool, usize, bool)> {
        let distance = wanted.distance(&self.platform)?;
        Some((self.needs_os_features, distance, self.image.is_some()))
    }
}

/// The first that serves `wanted` as well as anything could.
pub(super) fn exact<'c>(candidates: &'c [Candidate], wanted: &Platform) -> Option<&'c Candidate> {
    candidates.iter().find(|candidate| candidate.rank(wanted) == Some((false, 0, false)))
}

/// The first of the best.
pub(super) fn best<'c>(candidates: &'c [Candidate], wanted: &Platform) -> Option<&'c Candidate> {
    candidates
        .iter()
        .filter_map(|candidate| Some((candidate.rank(wanted)?, candidate)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, candidate)| candidate)
}

/// An entry of an index, or of one in it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) depth: usize,
    pub(super) descriptor: Descriptor,
    pub(super) platform: Option<Platform>,
    pub(super) artifact_type: Option<String>,
}

/// What became of one entry of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explained {
    /// How deep it is: 1 in the index itself, more in nested ones.
    pub depth: usize,
    /// What it points to.
    pub descriptor: Descriptor,
    /// The platform that it, or its config, says it is for.
    pub platform: Option<Platform>,
    /// Whether it was taken.
    pub taken: bool,
    /// Why, or why not, in words.
    pub reason: String,
}

/// What a look into all corners of an index found.
#[derive(Default)]
pub(super) struct Search {
    pub(super) candidates: Vec<Candidate>,
    /// Images whose platform neither the index nor their config says. That of each
    /// is none that could be asked for.
    pub(super) unnamed: Vec<Candidate>,
    /// What is listed and not there.
    pub(super) missing: Vec<Descriptor>,
    /// The indexes in the index, as served.
    pub(super) indexes: Vec<Verified>,
    /// All that was seen, in its order.
    pub(super) seen: Vec<Seen>,
    pub(super) visited: HashSet<Digest>,
}

impl Search {
    /// Whether all that is listed is there.
    pub(super) fn complete(&self, subject: &str) -> Result<(), Error> {
        match self.missing.first() {
            Some(descriptor) => Err(Error::Incomplete {
                subject: subject.to_owned(),
                descriptor: descriptor.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Adds an image whose platform its config says.
    pub(super) fn add(&mut self, descriptor: Descriptor, image: Image) {
        let platform = image.config().platform().cloned();
        let list = match &platform {
            Some(platform) if platform.is_unknown() => return,
            Some(_) => &mut self.candidates,
            None => &mut self.unnamed,
        };
        let platform = platform.unwrap_or_else(|| Platform::new("", "", ""));
        let (needs_os_features, image) = (false, Some(image));
        list.push(Candidate { descriptor, platform, needs_os_features, image });
    }
}

pub(super) fn distinct_platforms(candidates: &[Candidate]) -> Vec<Platform> {
    let mut platforms: Vec<Platform> = Vec::new();
    for candidate in candidates {
        if !platforms.contains(&candidate.platform) {
            platforms.push(candidate.platform.clone());
        }
    }
    platforms
}
