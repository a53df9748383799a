//! Pushing blobs and manifests (distribution-spec, "Pushing"; protocol rules 77 to 82).
//!
//! A blob takes two requests: a POST that opens an upload session, and a PUT of all its bytes
//! with their length, which every registry understands. Mirrors are never pushed to.

use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use super::auth::scope::Scope;
use super::error::Error;
use super::request::{Request, Resource, Target};
use super::transport::body::Body;
use super::transport::clients::Lane;
use super::transport::{http, origin};
use super::{Client, head};
use crate::error::{Diagnose as _, Kind};
use crate::oci::digest::{self, Digest, Verified};
use crate::oci::manifest::Descriptor;
use crate::oci::reference::Repository;
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

/// What the registry answered to the request for an upload session.
enum Session {
    /// The blob is there: no session is needed.
    Done,
    /// Where the bytes go, and whether that is the registry itself.
    Open { url: Url, is_registry: bool },
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
        digest::check_size(&target.subject, content.size(), Some(blob.size))?;
        let repository = &self.registry_of(&target)?;
        let mut mounted = mounted.filter(|mounted| mounted.host() == repository.host());
        let mut failures = 0;
        loop {
            let request = Request {
                scope: match mounted {
                    Some(mounted) => Scope::mount(repository, mounted),
                    None => Scope::push(repository),
                },
                ..target.request(repository)
            };
            let error = match self.push_once(&request, blob, mounted, content).await {
                Ok(pushed) => return Ok(pushed),
                // Perhaps only the other repository is out of reach.
                Err(error) if mounted.is_some() && error.kind() == Kind::Denied => {
                    mounted = None;
                    continue;
                }
                Err(error) => error.pushing(&target.subject),
            };
            failures += 1;
            let Some(delay) = self.connection.retry_delay(&request, &error, failures) else {
                return Err(error.after(failures));
            };
            self.connection.pause(&target.subject, &error, delay).await;
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
        match head::blob_is_served(&self.connection, request, blob.size).await {
            Ok(()) => return Ok(Pushed::Present),
            // Some registries deny access to what doesn't exist.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Denied) => {}
            Err(error) => return Err(error),
        }
        match self.open_session(request, &blob.digest, mounted).await? {
            Session::Done => Ok(Pushed::Mounted),
            Session::Open { mut url, is_registry } => {
                // What is in the query already is the registry's own state.
                url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
                let resource = Resource::Session(url.clone());
                let put = Request {
                    method: Method::PUT,
                    body: Body::Blob(content),
                    lane: Lane::Upload,
                    resource: &resource,
                    elsewhere: (!is_registry).then_some(&url),
                    ..*request
                };
                self.connection.exchange(&put).await?;
                Ok(Pushed::Sent)
            }
        }
    }

    async fn open_session(
        &self,
        request: &Request<'_>,
        digest: &Digest,
        mounted: Option<&Repository>,
    ) -> Result<Session, Error> {
        let query = mounted.map(|mounted| {
            let mut query = Serializer::new(String::new());
            query.append_pair("mount", &digest.to_string()).append_pair("from", mounted.path());
            query.finish()
        });
        let resource = Resource::Uploads(query.unwrap_or_default());
        let post = Request { method: Method::POST, resource: &resource, ..*request };
        let response = self.connection.exchange(&post).await?;
        if mounted.is_some() && response.status() == StatusCode::CREATED {
            return Ok(Session::Done);
        }
        session(request, &response)
    }

    /// Pushes a manifest or an index, under the tag or digest `name`. What it refers to
    /// must be there already.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        name: &str,
        media_type: &str,
        raw: &Verified,
    ) -> Result<(), Error> {
        let target = Target::manifest(repository, raw.digest(), Some(raw.bytes().len() as u64));
        let repository = &self.registry_of(&target)?;
        let bytes = raw.bytes().to_vec().into();
        let resource = Resource::Manifest(name.to_owned());
        let put = Request {
            scope: Scope::push(repository),
            method: Method::PUT,
            body: Body::Document(media_type, &bytes),
            resource: &resource,
            ..target.request(repository)
        };
        let response = self.connection.head(&put).await;
        let response = response.map_err(|error| error.pushing(&target.subject))?;
        // Where a registry says what it stored, it must be this. Some speak sha256 only.
        let stored = http::text_header(response.headers(), &http::CONTENT_DIGEST);
        if let Some(stored) = stored.and_then(|digest| digest.parse::<Digest>().ok())
            && stored.algorithm() == raw.digest().algorithm()
        {
            let size = raw.bytes().len() as u64;
            digest::check(&target.subject, &stored, size, raw.digest(), None)?;
        }
        Ok(())
    }

    /// The registry itself, without its mirrors.
    fn registry_of(&self, target: &Target<'_>) -> Result<Repository, Error> {
        let endpoints = self.endpoints(target.repository, true, &target.subject)?;
        match endpoints.into_iter().next_back() {
            Some(endpoint) => {
                self.prepare(&endpoint);
                Ok(endpoint.repository)
            }
            None => Ok(target.repository.clone()),
        }
    }
}

/// Where the bytes of an upload go: to the `Location` of the answer, which may be relative,
/// and which a registry behind a proxy may give with the wrong scheme.
fn session(request: &Request<'_>, response: &Response) -> Result<Session, Error> {
    let refused = |reason| {
        let (subject, host) = (request.subject.to_owned(), origin::host_of(response.url()));
        Error::Session { subject, host, reason }
    };
    let registry = response.url();
    let location = http::text_header(response.headers(), &LOCATION)
        .ok_or_else(|| refused("does not say where its bytes go"))?;
    let mut url = registry.join(&location).map_err(|_| refused("wants its bytes at no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("wants its bytes at something other than HTTP"));
    }
    let has_same_port = url.port().is_none() || url.port() == registry.port();
    if url.host() == registry.host() && has_same_port {
        // These can't fail between two HTTP URLs.
        let _ = url.set_scheme(registry.scheme());
        let _ = url.set_port(registry.port());
    }
    let is_registry = origin::same_origin(&url, registry);
    if !is_registry && origin::is_local(&url) && !origin::is_local(registry) {
        return Err(refused("wants its bytes at a private address"));
    }
    if !is_registry && registry.scheme() == "https" && url.scheme() == "http" {
        return Err(refused("wants its bytes without encryption"));
    }
    Ok(Session::Open { url, is_registry })
}
