//! Pushing blobs and manifests (distribution-spec, "Pushing"; protocol rules 77, 78, 80 and 81).
//!
//! A blob takes two requests: a POST that opens an upload session, and a PUT of all its bytes
//! with their length, which every registry understands. Mirrors are never pushed to.

use std::io;

use reqwest::header::{CONTENT_LENGTH, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use super::Client;
use super::auth::scope::Scope;
use super::error::Error;
use super::request::{Request, Resource, Target};
use super::transport::body::{Body, OTHER_SIZE};
use super::transport::clients::Lane;
use super::transport::{http, origin};
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::Descriptor;
use crate::oci::reference::{Repository, is_tag};
use crate::stream::readable::Readable;

/// How a blob got into a repository.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pushed {
    /// It was there already.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// Where the bytes of an upload go.
struct Session {
    url: Url,
    /// Whether that is the registry itself, which may see a credential.
    is_registry: bool,
}

impl Client {
    /// Pushes a blob to `repository`, unless it is there. `mounted` is another repository of
    /// the same registry that probably has it. `content` must be what `blob` describes: the
    /// registry checks the digest.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        mounted: Option<&Repository>,
        content: &dyn Readable,
    ) -> Result<Pushed, Error> {
        let target = Target::blob(repository, &blob.digest, Some(blob.size));
        let subject = &target.subject;
        if content.size() != blob.size {
            let source = io::Error::other(OTHER_SIZE);
            return Err(Error::Content { subject: subject.clone(), source });
        }
        self.prepare_push(&target)?;
        let request = Request { scope: Scope::push(repository), ..target.request(repository) };
        let is_elsewhere =
            |mounted: &&Repository| mounted.host() == repository.host() && *mounted != repository;
        let mounted = mounted.filter(is_elsewhere);
        let mut failures = 0;
        loop {
            let error = match self.push_once(&request, blob, mounted, content).await {
                Ok(pushed) => return Ok(pushed),
                Err(error) => error.pushing(subject),
            };
            failures += 1;
            let Some(delay) = self.connection.retry_delay(&request, &error, failures) else {
                return Err(error.after(failures));
            };
            self.connection.pause(subject, &error, delay).await;
        }
    }

    async fn push_once(
        &self,
        request: &Request<'_>,
        blob: &Descriptor,
        mounted: Option<&Repository>,
        content: &dyn Readable,
    ) -> Result<Pushed, Error> {
        // Another client may have pushed it in the meantime.
        if self.has(request, blob.size).await? {
            return Ok(Pushed::Present);
        }
        let Some(mut session) = self.open_session(request, blob, mounted).await? else {
            return Ok(Pushed::Mounted);
        };
        // What is in the query already is the registry's own state.
        session.url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let resource = Resource::Session(session.url.clone());
        let put = Request {
            method: Method::PUT,
            body: Body::Blob(content),
            lane: Lane::Upload,
            resource: &resource,
            elsewhere: (!session.is_registry).then_some(&session.url),
            ..*request
        };
        self.connection.exchange(&put).await?;
        Ok(Pushed::Sent)
    }

    /// Whether the registry has a blob. If it can't say, it is asked to take it.
    async fn has(&self, request: &Request<'_>, size: u64) -> Result<bool, Error> {
        let head = Request { method: Method::HEAD, ..*request };
        let error = match self.connection.exchange(&head).await {
            Ok(response) => {
                let length = http::text_header(response.headers(), &CONTENT_LENGTH);
                // A page that says nothing of its length is no blob.
                return Ok(length.and_then(|length| length.parse().ok()) == Some(size));
            }
            Err(error) => error,
        };
        let is_answer = match &error {
            Error::Status { .. } => self.connection.retry_delay(request, &error, 1).is_none(),
            // Some registries deny access to what doesn't exist. Their token services don't.
            Error::Denied(denial) => denial.subject == request.subject,
            _ => false,
        };
        if is_answer { Ok(false) } else { Err(error) }
    }

    /// Opens an upload session, unless the registry can mount the blob.
    async fn open_session(
        &self,
        request: &Request<'_>,
        blob: &Descriptor,
        mounted: Option<&Repository>,
    ) -> Result<Option<Session>, Error> {
        if let Some(mounted) = mounted {
            let query = Serializer::new(String::new())
                .append_pair("mount", &blob.digest.to_string())
                .append_pair("from", mounted.path())
                .finish();
            let scope = Scope::mount(request.repository(), mounted);
            let resource = Resource::Uploads(query);
            let post = Request { scope, method: Method::POST, resource: &resource, ..*request };
            match self.connection.exchange(&post).await {
                Ok(response) if response.status() == StatusCode::CREATED => return Ok(None),
                Ok(response) => return self.session(request, &response).map(Some),
                // That the other repository has it was a guess, and may be nobody's business.
                Err(error) if self.connection.retry_delay(request, &error, 1).is_none() => {}
                Err(error) => return Err(error),
            }
        }
        let resource = Resource::Uploads(String::new());
        let post = Request { method: Method::POST, resource: &resource, ..*request };
        let response = self.connection.exchange(&post).await?;
        self.session(request, &response).map(Some)
    }

    /// Where the bytes of an upload go: to the `Location` of the answer, which may be relative,
    /// and which a registry behind a proxy may give with the wrong scheme.
    fn session(&self, request: &Request<'_>, response: &Response) -> Result<Session, Error> {
        let refused = |reason| {
            let (subject, host) = (request.subject.to_owned(), origin::host_of(response.url()));
            Error::Session { subject, host, reason }
        };
        // Not who answered, to whom the registry may have redirected.
        let registry = request.root(self.connection.scheme(request.repository().host()))?;
        let location = http::text_header(response.headers(), &LOCATION)
            .ok_or_else(|| refused("does not say where its bytes go"))?;
        let url = response.url().join(&location);
        let mut url = url.map_err(|_| refused("wants its bytes at no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("wants its bytes at something other than HTTP"));
        }
        origin::remove_credentials(&mut url);
        let ports = [None, registry.port(), registry.port_or_known_default()];
        if url.scheme() != registry.scheme()
            && url.host() == registry.host()
            && ports.contains(&url.port())
        {
            let _ = url.set_scheme(registry.scheme());
            let _ = url.set_port(registry.port());
        }
        let is_registry = origin::same_origin(&url, &registry);
        if !is_registry && origin::is_local(&url) && !origin::is_local(&registry) {
            return Err(refused("wants its bytes at a private address"));
        }
        if !is_registry && registry.scheme() == "https" && url.scheme() == "http" {
            return Err(refused("wants its bytes without encryption"));
        }
        Ok(Session { url, is_registry })
    }

    /// Pushes a manifest or an index, under `tag` or only under its digest. What it refers to
    /// must be there already.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        media_type: &str,
        raw: &Verified,
    ) -> Result<(), Error> {
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
            _ => Ok(()),
        }
    }

    /// Applies what the settings say of a registry that is pushed to. Neither its mirrors nor
    /// the place that it is read from instead are pushed to (containers-registries.conf(5)).
    fn prepare_push(&self, target: &Target<'_>) -> Result<(), Error> {
        let endpoints = self.endpoints(target.repository, true, &target.subject)?;
        for endpoint in endpoints.iter().filter(|one| one.repository == *target.repository) {
            self.prepare(endpoint);
        }
        Ok(())
    }
}
