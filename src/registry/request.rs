//! One request to a registry: what is asked for, in which repository, and how.

use std::fmt;

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use url::Url;

use super::credentials::authorization::User;
use super::error::Error;
use super::transport::clients::Lane;
use super::transport::http::Asked;
use super::transport::origin;
use crate::oci::digest::Digest;
use crate::oci::media_type::ACCEPTED_MANIFESTS;
use crate::oci::reference::{Reference, Repository};

/// What a repository has (distribution-spec, endpoints). Shown as the path below the
/// repository's URL.
#[derive(Clone, Debug)]
pub(super) enum Resource {
    /// An index or a manifest, by its tag or its digest.
    Manifest(String),
    /// A blob.
    Blob(Digest),
    /// A page of the list of tags, by its query.
    Tags(String),
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(target) => write!(formatter, "manifests/{target}"),
            Self::Blob(digest) => write!(formatter, "blobs/{digest}"),
            Self::Tags(query) => write!(formatter, "tags/list?{query}"),
        }
    }
}

/// What is asked of a registry.
#[derive(Clone)]
pub(super) struct Request<'a> {
    pub(super) repository: &'a Repository,
    /// What of the repository.
    pub(super) resource: &'a Resource,
    /// What it is, for people: "manifest `docker.io/library/alpine:3.19`".
    pub(super) subject: &'a str,
    /// Bytes to ask for, first and last, where not all are.
    pub(super) range: Option<(u64, Option<u64>)>,
    /// Where it is instead of at the registry; nobody there is told who asks.
    pub(super) elsewhere: Option<&'a Url>,
    /// Whether the registry itself is asked where this fails.
    pub(super) is_mirror: bool,
    /// GET, or HEAD where the answer's head is enough.
    pub(super) method: Method,
    pub(super) lane: Lane,
}

impl<'a> Request<'a> {
    /// A GET of something whole.
    pub(super) const fn get(
        repository: &'a Repository,
        resource: &'a Resource,
        subject: &'a str,
    ) -> Self {
        let (method, lane) = (Method::GET, Lane::Shared);
        let (range, elsewhere, is_mirror) = (None, None, false);
        Self { repository, resource, subject, range, elsewhere, is_mirror, method, lane }
    }

    /// What an error of it says.
    pub(super) fn asked(&self, url: &'a Url, user: Option<&'a User>) -> Asked<'a> {
        Asked { subject: self.subject, url, registry: self.repository.host(), user }
    }

    /// What it says beside its URL.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if matches!(self.resource, Resource::Manifest(_)) {
            let accept = ACCEPTED_MANIFESTS.join(", ");
            headers.extend(HeaderValue::try_from(accept).map(|value| (header::ACCEPT, value)));
        }
        if let Some((first, last)) = self.range {
            let last = last.map(|last| last.to_string()).unwrap_or_default();
            let range = HeaderValue::try_from(format!("bytes={first}-{last}"));
            headers.extend(range.map(|value| (header::RANGE, value)));
        }
        headers
    }

    /// The URL of what is asked for.
    pub(super) fn url(&self, scheme: &str) -> Result<Url, Error> {
        let host = self.repository.host();
        let (dial, path) = (origin::dial_host(host), self.repository.path());
        format!("{scheme}://{dial}/v2/{path}/{}", self.resource).parse().map_err(|source| {
            Error::Url { subject: self.subject.to_owned(), host: host.to_owned(), source }
        })
    }
}

/// What is asked for, whoever serves it.
pub(super) struct Wanted<'a> {
    pub(super) repository: &'a Repository,
    pub(super) resource: Resource,
    /// What it is, for people.
    pub(super) subject: String,
    pub(super) digest: Option<&'a Digest>,
    pub(super) size: Option<u64>,
}

impl<'a> Wanted<'a> {
    /// The manifest that `target`, a tag or a digest, names.
    pub(super) fn named(reference: &'a Reference, target: &str) -> Self {
        Self {
            repository: reference.repository(),
            resource: Resource::Manifest(target.to_owned()),
            subject: format!("manifest `{reference}`"),
            digest: reference.digest(),
            size: None,
        }
    }

    pub(super) fn blob(repository: &'a Repository, digest: &'a Digest, size: Option<u64>) -> Self {
        let resource = Resource::Blob(digest.clone());
        let subject = format!("blob `{repository}@{digest}`");
        Self { repository, resource, subject, digest: Some(digest), size }
    }

    pub(super) fn manifest(
        repository: &'a Repository,
        digest: &'a Digest,
        size: Option<u64>,
    ) -> Self {
        let resource = Resource::Manifest(digest.to_string());
        let subject = format!("manifest `{repository}@{digest}`");
        Self { repository, resource, subject, digest: Some(digest), size }
    }

    pub(super) fn request<'r>(&'r self, repository: &'r Repository) -> Request<'r> {
        // A mirror that stumbles has the registry behind it.
        let is_mirror = repository != self.repository;
        Request { is_mirror, ..Request::get(repository, &self.resource, &self.subject) }
    }
}
