//! The images of an index, and which of them serves a platform best.

use std::collections::HashSet;

use super::Error;
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::Image;
use crate::oci::manifest::{Descriptor, IndexEntry};
use crate::oci::media_type;
use crate::oci::platform::Platform;

/// One image of an index, fetched or not.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) descriptor: Descriptor,
    pub(super) platform: Platform,
    /// What it needs of its node (`os.features`).
    pub(super) os_features: Vec<String>,
    /// The image, if it was already fetched because the index does not give its platform.
    pub(super) image: Option<Image>,
}

impl Candidate {
    /// Makes a candidate from an index entry alone, if the entry says enough to choose it.
    pub(super) fn listed(entry: &IndexEntry) -> Option<Self> {
        if entry.artifact_type.is_some() || !media_type::is_manifest(&entry.descriptor.media_type) {
            return None;
        }
        Some(Self {
            descriptor: entry.descriptor.clone(),
            platform: entry.platform.clone()?,
            os_features: entry.os_features.clone(),
            image: None,
        })
    }

    /// Ranks how well it serves `wanted`; lower is better. Required OS features are the
    /// worst, then a lower variant, then a platform that only the config gives. `None`
    /// if it does not run on `wanted`.
    pub(super) fn rank(&self, wanted: &Platform) -> Option<(bool, usize, bool)> {
        let distance = wanted.distance(&self.platform)?;
        Some((!self.os_features.is_empty(), distance, self.image.is_some()))
    }
}

/// Returns the first candidate with the best possible rank for `wanted`.
pub(super) fn exact<'c>(candidates: &'c [Candidate], wanted: &Platform) -> Option<&'c Candidate> {
    candidates.iter().find(|candidate| candidate.rank(wanted) == Some((false, 0, false)))
}

/// Returns the first of the candidates with the best rank.
pub(super) fn best<'c>(candidates: &'c [Candidate], wanted: &Platform) -> Option<&'c Candidate> {
    candidates
        .iter()
        .filter_map(|candidate| Some((candidate.rank(wanted)?, candidate)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, candidate)| candidate)
}

/// An entry of an index or of a nested index.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) depth: usize,
    pub(super) descriptor: Descriptor,
    pub(super) platform: Option<Platform>,
    pub(super) artifact_type: Option<String>,
}

/// What happened to one entry of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The nesting depth: 1 in the index itself, more in nested indexes.
    pub depth: usize,
    /// The document that it points to.
    pub descriptor: Descriptor,
    /// The platform, as given by the entry or by the image's config.
    pub platform: Option<Platform>,
    /// Whether this entry was chosen.
    pub taken: bool,
    /// Why it was chosen or not, in words.
    pub reason: String,
}

/// Everything found by searching an index and its nested indexes.
#[derive(Default)]
pub(super) struct Search {
    pub(super) candidates: Vec<Candidate>,
    /// Images for which neither the index nor their config gives a platform. Theirs is
    /// empty, so that it matches no request.
    pub(super) unnamed: Vec<Candidate>,
    /// Entries that are listed but missing.
    pub(super) missing: Vec<Descriptor>,
    /// The nested indexes, as served.
    pub(super) indexes: Vec<Verified>,
    /// All entries that were seen, in order.
    pub(super) seen: Vec<Listing>,
    pub(super) visited: HashSet<Digest>,
}

impl Search {
    /// Returns an error if anything that is listed is missing.
    pub(super) fn complete(&self, subject: &str) -> Result<(), Error> {
        match self.missing.first() {
            Some(descriptor) => Err(Error::Incomplete {
                subject: subject.to_owned(),
                descriptor: descriptor.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Adds a fetched image, with the platform from its config.
    pub(super) fn add(&mut self, descriptor: Descriptor, image: Image) {
        let platform = image.config().platform().cloned();
        let list = match &platform {
            Some(platform) if platform.is_unknown() => return,
            Some(_) => &mut self.candidates,
            None => &mut self.unnamed,
        };
        let platform = platform.unwrap_or_else(|| Platform::new("", "", ""));
        let (os_features, image) = (Vec::new(), Some(image));
        list.push(Candidate { descriptor, platform, os_features, image });
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
