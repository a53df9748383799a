//! The client of a registry: manifests and blobs, verified. All network
//! traffic of this program is in here.
//!
//! OCI distribution-spec, and how real registries differ from it.

mod challenge;
mod connection;
mod download;
mod error;
mod origin;
mod retry;
mod tls;
mod token;

use std::fs::File;
use std::sync::Arc;

pub use challenge::Challenge;
pub use error::{Cause, Error};
pub use retry::RetryPolicy;

use crate::digest::{Digest, Verified};
use crate::manifest::{self, Descriptor};
use crate::observer::Observer;
use crate::reference::{Reference, Repository};
use connection::{Connection, Request};

/// How a client behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientOptions {
    /// Whether certificates are verified. Unset, they are, and plain HTTP is
    /// used on loopback; `Some(false)` also allows plain HTTP elsewhere, where
    /// a registry has no HTTPS.
    pub tls_verify: Option<bool>,
    /// How failed requests are tried again.
    pub retry: RetryPolicy,
}

/// A client of any number of registries. Keeps its connections and tokens, so
/// one client is to serve a whole run.
pub struct Client {
    connection: Connection,
}

/// An index or manifest as it was served, verified where it was asked for by
/// digest.
#[derive(Clone, Debug)]
pub struct Served {
    /// The body.
    pub raw: Verified,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
}

impl Client {
    /// A client that tells `observer` what it does.
    pub fn new(options: ClientOptions, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        Ok(Self { connection: Connection::new(options, observer)? })
    }

    /// The index or manifest that a reference leads to: by its digest where it
    /// has one, else by its tag.
    pub async fn resolve(&self, reference: &Reference) -> Result<Served, Error> {
        let target = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let subject = format!("manifest `{reference}`");
        self.manifest(reference.repository(), subject, &target, reference.digest(), None).await
    }

    /// The index or manifest that a descriptor points to.
    pub async fn child(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Served, Error> {
        let (digest, size) = (&descriptor.digest, descriptor.size);
        let subject = format!("manifest `{repository}@{digest}`");
        self.manifest(repository, subject, &digest.to_string(), Some(digest), Some(size)).await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        subject: String,
        target: &str,
        digest: Option<&Digest>,
        size: Option<u64>,
    ) -> Result<Served, Error> {
        let path = format!("manifests/{target}");
        let request = Request { repository, path, subject, range: None };
        let (bytes, content_type) = self.connection.fetch(&request, manifest::SIZE_LIMIT).await?;
        let raw = match digest {
            Some(digest) => Verified::check(&request.subject, bytes, digest, size)?,
            None => Verified::as_found(bytes),
        };
        Ok(Served { raw, content_type })
    }

    /// A small blob, such as a config, of at most `limit` bytes.
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Verified, Error> {
        let request = blob_request(repository, &descriptor.digest);
        if descriptor.size > limit {
            let host = repository.host().to_owned();
            return Err(Error::TooLarge { subject: request.subject, host, limit });
        }
        let (bytes, _) = self.connection.fetch(&request, limit).await?;
        let size = Some(descriptor.size);
        Ok(Verified::check(&request.subject, bytes, &descriptor.digest, size)?)
    }

    /// Streams a blob into `file`, which is empty, and returns its size. Its
    /// digest is verified, and its size where the caller knows it. When this
    /// fails, what is in `file` means nothing.
    pub async fn download(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
        file: &mut File,
    ) -> Result<u64, Error> {
        let request = blob_request(repository, digest);
        download::download(&self.connection, request, digest, size, file).await
    }
}

fn blob_request<'a>(repository: &'a Repository, digest: &Digest) -> Request<'a> {
    Request {
        repository,
        path: format!("blobs/{digest}"),
        subject: format!("blob `{repository}@{digest}`"),
        range: None,
    }
}
