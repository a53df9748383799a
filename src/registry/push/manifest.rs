//! Pushing manifests, and asking what a registry that is pushed to has.

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};

use crate::error::{Diagnose as _, Kind};
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::SIZE_LIMIT;
use crate::oci::reference::{Repository, is_tag};
use crate::registry::auth::scope::Scope;
use crate::registry::error::Error;
use crate::registry::request::{Request, Resource, Target};
use crate::registry::transport::body::Body;
use crate::registry::transport::http;
use crate::registry::{Client, head};

/// The header of a registry that keeps track of referrers.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A manifest or an index to push. What it refers to must be there already.
#[derive(Clone, Copy)]
pub struct ManifestPush<'a> {
    /// Where it goes.
    pub repository: &'a Repository,
    /// The tag to push it under. Without one, it is only there under its digest.
    pub tag: Option<&'a str>,
    /// Its media type.
    pub media_type: &'a str,
    /// Its bytes.
    pub raw: &'a Verified,
}

impl Client {
    /// Pushes a manifest or an index, under `tag` or only under its digest. What it refers to
    /// must be there already.
    ///
    /// Returns whether the registry keeps track of what the manifest's `subject` refers to. If
    /// it doesn't, the client has to (distribution-spec, "Pushing Manifests with Subject").
    pub async fn push_manifest(&self, push: &ManifestPush<'_>) -> Result<bool, Error> {
        let ManifestPush { repository, tag, media_type, raw } = *push;
        let target = Target::manifest(repository, raw.digest(), Some(raw.bytes().len() as u64));
        let subject = &target.subject;
        let unpushable = |reason| Error::Unpushable { subject: subject.clone(), reason };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(unpushable("its tag is not valid"));
        }
        if HeaderValue::from_str(media_type).is_err() {
            return Err(unpushable("its media type is not valid"));
        }
        self.prepare_push(&target)?;
        let bytes = raw.bytes().to_vec().into();
        let name = tag.map_or_else(|| raw.digest().to_string(), str::to_owned);
        let resource = Resource::Manifest(name);
        let put = Request {
            scope: Scope::push(repository),
            method: Method::PUT,
            body: Body::Document(media_type, &bytes),
            resource: &resource,
            ..target.request(repository)
        };
        let response = self.connection.head(&put).await;
        let response = response.map_err(|error| error.pushing(subject))?;
        // Where a registry says what it stored, it must be this. Some speak sha256 only.
        let stored = http::text_header(response.headers(), &http::CONTENT_DIGEST);
        match stored.and_then(|digest| digest.parse::<Digest>().ok()) {
            Some(stored)
                if stored != *raw.digest() && stored.algorithm() == raw.digest().algorithm() =>
            {
                let (subject, host) = (subject.clone(), repository.host().to_owned());
                Err(Error::Stored { subject, host, stored })
            }
            _ => Ok(response.headers().contains_key(&SUBJECT)),
        }
    }

    /// Returns the digest of the manifest that a repository itself, not one of its mirrors, has
    /// under a tag or a digest. `None` if it has none, or doesn't say.
    pub async fn pushed_digest(
        &self,
        repository: &Repository,
        name: &str,
    ) -> Result<Option<Digest>, Error> {
        let target = named(repository, name);
        self.prepare_push(&target)?;
        let request = Request { scope: Scope::push(repository), ..target.request(repository) };
        match head::manifest_digest(&self.connection, &request).await {
            Ok(digest) => Ok(digest),
            Err(error) if is_absence(&error, &target) => Ok(None),
            Err(error) => Err(error.pushing(&target.subject)),
        }
    }

    /// Whether a repository itself has a manifest. If it can't say, it has not.
    pub async fn is_manifest_pushed(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let target = Target::manifest(repository, digest, None);
        self.prepare_push(&target)?;
        let scope = Scope::push(repository);
        let request = Request { scope, method: Method::HEAD, ..target.request(repository) };
        match self.connection.head(&request).await {
            Ok(response) => {
                let told = http::text_header(response.headers(), &http::CONTENT_DIGEST);
                Ok(told.is_none_or(|told| told == digest.to_string()))
            }
            Err(error) if is_absence(&error, &target) || head::refuses_method(&error) => Ok(false),
            Err(error) => Err(error.pushing(&target.subject)),
        }
    }

    /// Returns the manifest that a repository itself has under a tag or a digest, or `None`
    /// if it has none.
    pub async fn pushed_manifest(
        &self,
        repository: &Repository,
        name: &str,
    ) -> Result<Option<Verified>, Error> {
        let target = named(repository, name);
        self.prepare_push(&target)?;
        let request = Request { scope: Scope::push(repository), ..target.request(repository) };
        match self.connection.fetch(&request, SIZE_LIMIT).await {
            Ok(body) => Ok(Some(Verified::as_found(body.bytes))),
            Err(error) if is_absence(&error, &target) => Ok(None),
            Err(error) => Err(error.pushing(&target.subject)),
        }
    }

    /// Whether a repository is new: then it has no blob that could be asked for. If the
    /// registry doesn't say, it is not.
    pub async fn is_new(&self, repository: &Repository) -> Result<bool, Error> {
        let target = Target {
            repository,
            resource: Resource::Tags("n=1".to_owned()),
            subject: format!("the tags of `{repository}`"),
            digest: None,
            size: None,
        };
        self.prepare_push(&target)?;
        let request = Request { scope: Scope::push(repository), ..target.request(repository) };
        match self.connection.head(&request).await {
            Err(error) if error.kind() == Kind::NotFound => Ok(true),
            // Whatever another error is, the push will meet it too.
            Ok(_) | Err(_) => Ok(false),
        }
    }
}

/// The manifest that a tag or a digest names.
fn named<'a>(repository: &'a Repository, name: &str) -> Target<'a> {
    let separator = if name.contains(':') { '@' } else { ':' };
    Target {
        repository,
        resource: Resource::Manifest(name.to_owned()),
        subject: format!("manifest `{repository}{separator}{name}`"),
        digest: None,
        size: None,
    }
}

/// Whether a registry says that it doesn't have something. Some deny access to what doesn't
/// exist; their token services don't.
fn is_absence(error: &Error, target: &Target<'_>) -> bool {
    match error {
        Error::Denied(denial) => denial.subject == target.subject,
        error => error.kind() == Kind::NotFound,
    }
}
