//! What refers to a manifest: signatures, SBOMs and the like (distribution-spec, "Listing
//! Referrers"; protocol rule 82).

use serde::Deserialize;

use super::Client;
use super::error::Error;
use super::request::{Resource, Target};
use crate::error::{Diagnose as _, Kind};
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::{Descriptor, SIZE_LIMIT};
use crate::oci::reference::Repository;

/// Returns the tag of the index of what refers to a manifest, on registries that don't keep
/// track of that.
#[must_use]
pub fn referrers_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm().name(), subject.hex())
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

impl Client {
    /// Returns the manifest or index that a tag points to, of any kind, or `None` if there is no
    /// such tag.
    pub async fn tagged_manifest(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<Option<Verified>, Error> {
        let (resource, subject) =
            (Resource::Manifest(tag.to_owned()), format!("manifest `{repository}:{tag}`"));
        let target = Target { repository, resource, subject, digest: None, size: None };
        match self.small_anywhere(&target, SIZE_LIMIT).await {
            Ok(served) => Ok(Some(served.raw)),
            // Some registries deny access to what they don't have.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Denied) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the manifests in a repository that refer to one, or none if the registry doesn't
    /// know. Of a list with several pages, only the first is read.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let places =
            [Resource::Referrers(subject.clone()), Resource::Manifest(referrers_tag(subject))];
        for resource in places {
            let name = format!("the referrers of `{repository}@{subject}`");
            let target = Target { repository, resource, subject: name, digest: None, size: None };
            match self.small_anywhere(&target, SIZE_LIMIT).await {
                Ok(served) => {
                    // Some registries answer any question with a page.
                    let list = json::parse::<List>(served.raw.bytes(), VALUE_LIMIT);
                    if let Ok(list) = list {
                        return Ok(list.manifests);
                    }
                }
                Err(error) if error.kind() == Kind::NotFound => {}
                // Registries that don't know the question refuse it in many ways.
                Err(Error::Status { status, .. }) if status.is_client_error() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }
}
