//! A request to a registry: which resource of which repository to fetch, and how.

use std::fmt;

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use url::Url;

use super::auth::scope::Scope;
use super::credentials::authorization::User;
use super::error::Error;
use super::transport::body::Body;
use super::transport::clients::Lane;
use super::transport::http::RequestContext;
use super::transport::origin;
use crate::oci::digest::Digest;
use crate::oci::media_type::ACCEPTED_MANIFESTS;
use crate::oci::reference::{Reference, Repository};

/// A resource of a repository (distribution-spec, endpoints). Displayed as the path below
/// the repository's URL.
#[derive(Clone, Debug)]
pub(super) enum Resource {
    /// An index or a manifest, by tag or digest.
    Manifest(String),
    /// A blob.
    Blob(Digest),
    /// A page of the list of tags, by its query string.
    Tags(String),
    /// A page of the list of what refers to a manifest, by its query string.
    Referrers(Digest, String),
    /// The beginning of an upload, by its query.
    Uploads(String),
    /// An upload under way, at the URL that the registry gave for it.
    Session(Url),
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(target) => write!(formatter, "manifests/{target}"),
            Self::Blob(digest) => write!(formatter, "blobs/{digest}"),
            Self::Tags(query) => write!(formatter, "tags/list?{query}"),
            Self::Referrers(digest, query) if query.is_empty() => {
                write!(formatter, "referrers/{digest}")
            }
            Self::Referrers(digest, query) => write!(formatter, "referrers/{digest}?{query}"),
            Self::Uploads(query) if query.is_empty() => formatter.write_str("blobs/uploads/"),
            Self::Uploads(query) => write!(formatter, "blobs/uploads/?{query}"),
            // Its URL may be signed.
            Self::Session(_) => formatter.write_str("blobs/uploads/…"),
        }
    }
}

/// A request to a registry.
#[derive(Clone)]
pub(super) struct Request<'a> {
    /// What a token for it must allow, and in which repository.
    pub(super) scope: Scope<'a>,
    /// The resource in the repository.
    pub(super) resource: &'a Resource,
    /// The resource as shown to users: "manifest `docker.io/library/alpine:3.19`".
    pub(super) subject: &'a str,
    /// The first and last byte to request, if not all are needed.
    pub(super) range: Option<(u64, Option<u64>)>,
    /// A URL to use instead of the registry. No credentials are sent there.
    pub(super) elsewhere: Option<&'a Url>,
    /// Whether this goes to a mirror, so that the registry itself is tried if it fails.
    pub(super) is_mirror: bool,
    pub(super) method: Method,
    pub(super) body: Body<'a>,
    pub(super) lane: Lane,
}

impl<'a> Request<'a> {
    /// Creates a GET of a whole resource.
    pub(super) const fn get(
        repository: &'a Repository,
        resource: &'a Resource,
        subject: &'a str,
    ) -> Self {
        let (method, body, lane) = (Method::GET, Body::Empty, Lane::Shared);
        let (scope, range, elsewhere, is_mirror) = (Scope::pull(repository), None, None, false);
        Self { scope, resource, subject, range, elsewhere, is_mirror, method, body, lane }
    }

    /// The repository that it is about.
    pub(super) const fn repository(&self) -> &'a Repository {
        self.scope.repository
    }

    /// Returns what error messages say about this request.
    pub(super) fn context(&self, url: &'a Url, user: Option<&'a User>) -> RequestContext<'a> {
        RequestContext { subject: self.subject, url, registry: self.repository().host(), user }
    }

    /// Returns the headers.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if matches!(self.resource, Resource::Manifest(_) | Resource::Referrers(..))
            && self.method != Method::PUT
        {
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

    /// Returns the URL of the resource.
    pub(super) fn url(&self, scheme: &str) -> Result<Url, Error> {
        if let Resource::Session(url) = self.resource {
            return Ok(url.clone());
        }
        self.below_root(scheme, &format!("{}/{}", self.repository().path(), self.resource))
    }

    /// Returns the URL of the registry's API: whose answers may be trusted with a credential.
    pub(super) fn root(&self, scheme: &str) -> Result<Url, Error> {
        self.below_root(scheme, "")
    }

    fn below_root(&self, scheme: &str, path: &str) -> Result<Url, Error> {
        let host = self.repository().host();
        let dial = origin::dial_host(host);
        format!("{scheme}://{dial}/v2/{path}").parse().map_err(|source| Error::Url {
            subject: self.subject.to_owned(),
            host: host.to_owned(),
            source,
        })
    }
}

/// A resource to fetch, independent of the endpoint that serves it.
pub(super) struct Target<'a> {
    pub(super) repository: &'a Repository,
    pub(super) resource: Resource,
    /// The resource as shown to users.
    pub(super) subject: String,
    pub(super) digest: Option<&'a Digest>,
    pub(super) size: Option<u64>,
}

impl<'a> Target<'a> {
    /// The manifest that `target`, which is a tag or a digest, names.
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
        // If a mirror fails, the registry is tried next.
        let is_mirror = repository != self.repository;
        Request { is_mirror, ..Request::get(repository, &self.resource, &self.subject) }
    }
}
