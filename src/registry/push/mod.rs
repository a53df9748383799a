//! Pushing blobs and manifests (distribution-spec, "Pushing"; protocol rules 77 to 82).
//!
//! A blob takes two requests: a POST that opens an upload session, and a PUT of all its bytes
//! with their length, which every registry understands. If their number isn't known before
//! they are made, a PATCH takes them as they come. They are sent in pieces only to registries
//! that refuse the whole. Mirrors are never pushed to.

mod manifest;
mod pieces;
mod session;
mod stream;

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, StatusCode};

use super::Client;
use super::auth::scope::Scope;
use super::error::Error;
use super::request::{Request, Target};
use super::transport::body::{Body, OTHER_SIZE};
use super::transport::http;
use crate::observer::{Event, Observer};
use crate::oci::digest::Digest;
use crate::oci::manifest::Descriptor;
use crate::oci::reference::Repository;
use crate::stream::readable::{ByteStream, Readable};
pub use manifest::ManifestPush;

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

/// A blob to push.
#[derive(Clone, Copy)]
pub struct BlobPush<'a> {
    /// Where it goes.
    pub repository: &'a Repository,
    /// What it is. The registry checks the digest.
    pub blob: &'a Descriptor,
    /// Another repository of the same registry that probably has it.
    pub mounted: Option<&'a Repository>,
    /// Whether the repository is known not to have it, so that it needn't be asked.
    pub is_absent: bool,
    /// Its bytes.
    pub content: &'a dyn Readable,
}

impl Client {
    /// Pushes a blob to a repository, unless it is there.
    pub async fn push_blob(&self, push: &BlobPush<'_>) -> Result<Pushed, Error> {
        let BlobPush { repository, blob, content, .. } = *push;
        let target = Target::blob(repository, &blob.digest, Some(blob.size));
        let subject = &target.subject;
        if content.size() != blob.size {
            let source = io::Error::other(OTHER_SIZE);
            return Err(Error::Content { subject: subject.clone(), source });
        }
        self.prepare_push(&target)?;
        let request = Request { scope: Scope::push(repository), ..target.request(repository) };
        let watched = Watched { client: self, subject, digest: &blob.digest, content };
        let mut attempt = Attempt { failures: 0, in_pieces: false };
        loop {
            let error = match self.push_once(&request, push, &watched, &attempt).await {
                Ok(pushed) => {
                    watched.finish(pushed);
                    return Ok(pushed);
                }
                Err(error) => error.pushing(subject),
            };
            if !attempt.in_pieces && is_too_large(&error) {
                attempt.in_pieces = true;
                continue;
            }
            self.next_attempt(&request, error, &mut attempt).await?;
        }
    }

    /// Waits before the next attempt, or returns the error if another one would not help.
    async fn next_attempt(
        &self,
        request: &Request<'_>,
        error: Error,
        attempt: &mut Attempt,
    ) -> Result<(), Error> {
        attempt.failures += 1;
        // The session is gone, or is not where this client left it: another one may do.
        let is_lost = matches!(&error, Error::Status { status, .. }
            if *status == StatusCode::RANGE_NOT_SATISFIABLE);
        let delay = self.connection.retry_delay(request, &error, attempt.failures);
        let delay = delay.or_else(|| {
            (is_lost && attempt.failures < LOST_SESSIONS).then_some(std::time::Duration::ZERO)
        });
        let Some(delay) = delay else { return Err(error.after(attempt.failures)) };
        self.connection.pause(request.subject, &error, delay).await;
        Ok(())
    }

    async fn push_once(
        &self,
        request: &Request<'_>,
        push: &BlobPush<'_>,
        content: &Watched<'_>,
        attempt: &Attempt,
    ) -> Result<Pushed, Error> {
        // Before another attempt, another client may have pushed it.
        let asks = !push.is_absent || attempt.failures > 0;
        if asks && self.has(request, push.blob.size).await? {
            return Ok(Pushed::Present);
        }
        let repository = push.repository;
        let is_elsewhere =
            |mounted: &&Repository| mounted.host() == repository.host() && *mounted != repository;
        let mounted = push.mounted.filter(is_elsewhere).map(|from| (from, &push.blob.digest));
        let Some(mut session) = self.open_session(request, mounted).await? else {
            return Ok(Pushed::Mounted);
        };
        if attempt.in_pieces {
            let pieces = content.open(0).map_err(|source| unreadable(request, source))?;
            self.send_pieces(request, &mut session, pieces).await?;
            self.close_session(request, session, &push.blob.digest, Body::Empty).await?;
        } else {
            let body = Body::Blob(content);
            self.close_session(request, session, &push.blob.digest, body).await?;
        }
        Ok(Pushed::Sent)
    }

    /// Whether a repository itself, not one of its mirrors, has a blob.
    pub async fn is_pushed(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<bool, Error> {
        let target = Target::blob(repository, &blob.digest, Some(blob.size));
        self.prepare_push(&target)?;
        let request = Request { scope: Scope::push(repository), ..target.request(repository) };
        let mut attempt = Attempt { failures: 0, in_pieces: false };
        loop {
            match self.has(&request, blob.size).await {
                Ok(has) => return Ok(has),
                Err(error) => {
                    let error = error.pushing(&target.subject);
                    self.next_attempt(&request, error, &mut attempt).await?;
                }
            }
        }
    }
}

/// How many upload sessions are opened for a blob if the registry loses them.
const LOST_SESSIONS: u32 = 3;

/// How often a push has failed, and what was learned from it.
struct Attempt {
    failures: u32,
    /// Whether the registry refused to take the whole at once.
    in_pieces: bool,
}

fn unreadable(request: &Request<'_>, source: io::Error) -> Error {
    Error::Content { subject: request.subject.to_owned(), source }
}

/// Whether a proxy or registry refuses bodies of this size.
fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Status { status, .. } if *status == StatusCode::PAYLOAD_TOO_LARGE)
}

/// Content that tells how much of it was read.
struct Watched<'a> {
    client: &'a Client,
    subject: &'a str,
    digest: &'a Digest,
    content: &'a dyn Readable,
}

impl Watched<'_> {
    fn finish(&self, pushed: Pushed) {
        if pushed == Pushed::Sent {
            let (digest, total) = (self.digest, self.content.size());
            let finished = Event::TransferFinished { digest, total };
            self.client.connection.observer().observe(&finished);
        }
    }
}

impl Readable for Watched<'_> {
    fn size(&self) -> u64 {
        self.content.size()
    }

    fn open(&self, first: u64) -> io::Result<ByteStream> {
        let observer = self.client.connection.http.shared_observer();
        let total = Some(self.content.size());
        let stream = self.content.open(first)?;
        Ok(watch(stream, observer, self.subject, self.digest, total))
    }
}

/// Tells `observer` how much of a stream was read.
fn watch(
    stream: ByteStream,
    observer: Arc<dyn Observer>,
    subject: &str,
    digest: &Digest,
    total: Option<u64>,
) -> ByteStream {
    observer.observe(&Event::TransferStarted { subject, digest, done: 0, total });
    let (digest, mut done) = (digest.clone(), 0);
    let told = move |piece: &io::Result<bytes::Bytes>| {
        done += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        observer.observe(&Event::TransferAdvanced { digest: &digest, done });
    };
    stream.inspect(told).boxed()
}

impl Client {
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
