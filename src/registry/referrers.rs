//! What refers to a manifest: signatures, SBOMs and the like (distribution-spec, "Listing
//! Referrers"; protocol rule 82).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Client;
use super::error::Error;
use super::request::{Resource, Target};
use super::tags::next_query;
use crate::error::{Diagnose as _, Kind};
use crate::json::{self, VALUE_LIMIT};
use crate::observer::Event;
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::{Descriptor, SIZE_LIMIT};
use crate::oci::reference::Repository;

/// How many pages of a list are read.
const PAGES: usize = 100;
/// No further page is read once there are so many.
const REFERRERS: usize = 1000;

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
    /// know.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let (mut found, mut query, mut asked) = (Vec::new(), String::new(), BTreeSet::new());
        while asked.insert(query.clone()) && asked.len() <= PAGES && found.len() < REFERRERS {
            let resource = Resource::Referrers(subject.clone(), query);
            let Some((page, links)) = self.list(repository, subject, resource).await? else {
                break;
            };
            found.extend(page);
            // Use only the query of the link, so that it can't lead to another server.
            let Some(next) = next_query(&links) else { return Ok(found) };
            query = next;
        }
        if found.is_empty() {
            let resource = Resource::Manifest(referrers_tag(subject));
            let list = self.list(repository, subject, resource).await?;
            found.extend(list.into_iter().flat_map(|(page, _)| page));
        } else {
            let text = format!(
                "the list of what refers to `{repository}@{subject}` does not end; using its \
                 beginning"
            );
            self.connection.observer().observe(&Event::Warning(&text));
        }
        Ok(found)
    }

    /// Returns a list of manifests, and the links to the next page, or `None` if the registry
    /// has no such list.
    async fn list(
        &self,
        repository: &Repository,
        subject: &Digest,
        resource: Resource,
    ) -> Result<Option<(Vec<Descriptor>, Vec<String>)>, Error> {
        let name = format!("the referrers of `{repository}@{subject}`");
        let target = Target { repository, resource, subject: name, digest: None, size: None };
        match self.page_anywhere(&target, SIZE_LIMIT).await {
            Ok(page) => {
                // Some registries answer any question with a page.
                let list = json::parse::<List>(page.document.raw.bytes(), VALUE_LIMIT).ok();
                Ok(list.map(|list| (list.manifests, page.links)))
            }
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Denied) => Ok(None),
            Err(error) if error.kind() == Kind::RateLimited => Err(error),
            // Registries that don't know the question refuse it in many ways.
            Err(Error::Status { status, .. }) if status.is_client_error() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
