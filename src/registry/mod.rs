//! The registry client, which fetches and verifies manifests and blobs. All outgoing
//! network requests of this program are made here.
//!
//! Implements the OCI distribution-spec, and handles how real registries differ from it.

mod auth;
mod connection;
pub mod credentials;
mod download;
mod error;
mod foreign;
mod head;
mod mirrors;
mod places;
mod push;
mod referrers;
mod request;
mod secrets;
mod tags;
mod transport;
mod writer;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use auth::challenge::Challenge;
pub use download::SMALL_BLOB;
pub use error::{Denial, Error, Task};
pub use mirrors::Error as MirrorsError;
pub use push::{BlobPush, ManifestPush, Pushed};
pub use referrers::referrers_tag;
pub use secrets::Secrets;
pub use transport::cause::Cause;
pub use transport::retry::RetryPolicy;
pub use transport::tls::Error as TlsError;
pub(crate) use transport::tls::docker_tls;

use crate::environment::Environment;
use crate::error::{Diagnose as _, Kind};
use crate::observer::Observer;
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::{self, Descriptor};
use crate::oci::reference::{Reference, Repository};
use crate::stream::sink::Sink;
use connection::Connection;
use credentials::{CredentialStore, Given};
use foreign::ForeignUrls;
use mirrors::Mirrors;
use places::Places;
use request::Target;
use transport::clients::Clients;
use transport::http::Http;
use transport::tls::{self, TlsOptions};

/// The options of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The credentials file to use instead of the default ones.
    pub authfile: Option<PathBuf>,
    /// What is used for one registry instead of what files say.
    pub given: Given,
    /// Whether certificates are verified. If unset, they are, and plain HTTP is used on
    /// loopback. `Some(false)` also allows plain HTTP elsewhere, if a registry has no
    /// HTTPS.
    pub tls_verify: Option<bool>,
    /// A file with certificates of additional authorities to trust.
    pub cacert: Option<PathBuf>,
    /// Mirrors, each as `REGISTRY=URL`, in addition to those from the environment and
    /// from this machine's configuration.
    pub mirrors: Vec<String>,
    /// Whether layers that the registry doesn't have are fetched from the URLs in their
    /// descriptors.
    pub foreign_layers: bool,
    /// The variables that say where credentials, certificates, mirrors and proxies are.
    pub environment: Environment,
    /// How failed requests are retried.
    pub retry: RetryPolicy,
    /// How long a server may stay silent, including in the middle of a body.
    pub read_timeout: Duration,
    /// Where the client records the secrets that it uses, for everything that prints text.
    pub secrets: Arc<Secrets>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            authfile: None,
            given: Given::default(),
            tls_verify: None,
            cacert: None,
            mirrors: Vec::new(),
            foreign_layers: true,
            environment: Environment::of_process(),
            retry: RetryPolicy::default(),
            read_timeout: Duration::from_secs(30),
            secrets: Arc::default(),
        }
    }
}

/// A client for any number of registries. It keeps connections and tokens, so use one
/// client for a whole run.
pub struct Client {
    connection: Connection,
    mirrors: Mirrors,
    /// Mirrors that did not answer. They are not tried again in this run.
    dead_mirrors: Mutex<HashSet<String>>,
    /// Whether a descriptor's `urls` are used.
    foreign_layers: bool,
}

/// An index or manifest as it was served. It has been verified if it was requested by digest.
#[derive(Clone, Debug)]
pub struct RawDocument {
    /// The body.
    pub raw: Verified,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
}

/// A document, and where the next one is if it is a page of a list.
struct Page {
    document: RawDocument,
    /// The `Link` headers.
    links: Vec<String>,
}

/// A blob and where to find it.
#[derive(Clone, Copy, Debug)]
pub struct BlobRequest<'a> {
    /// The repository that it is in.
    pub repository: &'a Repository,
    /// Its digest.
    pub digest: &'a Digest,
    /// Its size in bytes, if known.
    pub size: Option<u64>,
    /// Where else to find it if the repository doesn't have it: a descriptor's `urls`.
    pub urls: &'a [String],
}

impl<'a> BlobRequest<'a> {
    /// Creates a request for the blob that a descriptor points to.
    #[must_use]
    pub fn of(repository: &'a Repository, descriptor: &'a Descriptor) -> Self {
        let Descriptor { digest, size, urls, .. } = descriptor;
        Self { repository, digest, size: Some(*size), urls }
    }
}

impl Client {
    /// Creates a client that reports its actions to `observer`. Every file that the
    /// options name must be usable.
    pub fn new(options: ClientOptions, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        if let Some(path) = &options.cacert {
            tls::certificates(path)?;
        }
        let insecure = options.tls_verify == Some(false);
        let environment = options.environment;
        let mirrors = Mirrors::read(&options.mirrors, &environment)?;
        let own = options.given.certificates.clone();
        let own = own.map(|directory| (options.given.host.clone(), directory));
        let credentials =
            CredentialStore::new(options.authfile.as_deref(), &environment, observer.clone())?
                .with(options.given);
        let tls = TlsOptions { insecure, authorities: options.cacert, own, environment };
        let http = Http::new(Clients::new(tls, options.read_timeout, options.secrets), observer);
        Ok(Self {
            connection: Connection::new(http, credentials, options.retry, options.tls_verify),
            mirrors,
            dead_mirrors: Mutex::default(),
            foreign_layers: options.foreign_layers,
        })
    }

    /// Fetches the index or manifest that a reference points to: by its digest if it has
    /// one, otherwise by its tag.
    pub async fn resolve(&self, reference: &Reference) -> Result<RawDocument, Error> {
        let target = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        self.manifest(&Target::named(reference, &target)).await
    }

    /// Returns the digest that a reference's tag points to, ignoring the reference's own
    /// digest. If the registry reports the digest by itself, nothing is transferred,
    /// which no registry counts as a pull. A reported digest is not verified.
    pub async fn tag_digest(&self, reference: &Reference) -> Result<Digest, Error> {
        let target = Target {
            digest: None,
            ..Target::named(reference, reference.tag().unwrap_or("latest"))
        };
        match self.told_digest(&target).await? {
            Some(digest) => Ok(digest),
            None => Ok(self.manifest(&target).await?.raw.digest().clone()),
        }
    }

    /// Returns the digest that a registry reports without sending the manifest.
    async fn told_digest(&self, target: &Target<'_>) -> Result<Option<Digest>, Error> {
        let mut places = self.places(target)?;
        while let Some(place) = self.next_place(&mut places) {
            match head::manifest_digest(&self.connection, &target.request(&place)).await {
                Ok(digest) => return Ok(digest),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        Err(places.into_error())
    }

    /// Checks that the registry still has a blob. If not, the error says why.
    pub async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<(), Error> {
        let blob = BlobRequest::of(repository, descriptor);
        let target = Target::blob(repository, &descriptor.digest, Some(descriptor.size));
        let size = descriptor.size;
        let mut places = self.places(&target)?;
        while let Some(place) = self.next_place(&mut places) {
            match head::blob_is_served(&self.connection, &target.request(&place), size).await {
                Ok(()) => return Ok(()),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        let mut urls = self.urls(&blob, places)?;
        while let Some(url) = urls.next() {
            let request = urls.request(&url, &target);
            match head::blob_is_served(&self.connection, &request, size).await {
                Ok(()) => return Ok(()),
                Err(error) => urls.failed_at(&url, error)?,
            }
        }
        Err(urls.into_error())
    }

    /// Returns the tags of a repository, sorted. The registry itself is asked first,
    /// since a mirror may only know tags that somebody has pulled through it.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, Error> {
        let subject = format!("the tags of `{repository}`");
        let mut failures = Vec::new();
        for endpoint in self.endpoints(repository, false, &subject)?.iter().rev() {
            self.prepare(endpoint);
            match tags::tags(&self.connection, &endpoint.repository).await {
                Ok(tags) => return Ok(tags),
                Err(error) => failures.push((endpoint.repository.host().to_owned(), error)),
            }
        }
        // As elsewhere, the registry's own failure comes last.
        failures.reverse();
        Err(Error::of_all(subject, failures))
    }

    /// Fetches the index or manifest that a descriptor points to.
    pub async fn child(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<RawDocument, Error> {
        let target = Target::manifest(repository, &descriptor.digest, Some(descriptor.size));
        self.manifest(&target).await
    }

    /// Fetches the index or manifest with this digest, and with this size if it is known.
    pub async fn manifest_bytes(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Verified, Error> {
        let target = Target::manifest(repository, digest, size);
        Ok(self.manifest(&target).await?.raw)
    }

    async fn manifest(&self, target: &Target<'_>) -> Result<RawDocument, Error> {
        self.small_anywhere(target, manifest::SIZE_LIMIT).await
    }

    /// Fetches a small document from the first endpoint that has it.
    async fn small_anywhere(&self, target: &Target<'_>, limit: u64) -> Result<RawDocument, Error> {
        Ok(self.page_anywhere(target, limit).await?.document)
    }

    /// Fetches a page of a list from the first endpoint that has it, or a small document.
    async fn page_anywhere(&self, target: &Target<'_>, limit: u64) -> Result<Page, Error> {
        let mut places = self.places(target)?;
        while let Some(place) = self.next_place(&mut places) {
            match self.small(target, &place, limit).await {
                Ok(served) => return Ok(served),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        Err(places.into_error())
    }

    /// Fetches a small blob, such as a config, of at most `limit` bytes.
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Verified, Error> {
        let target = Target::blob(repository, &descriptor.digest, Some(descriptor.size));
        if descriptor.size > limit {
            let host = repository.host().to_owned();
            return Err(Error::TooLarge { subject: target.subject, host, limit });
        }
        Ok(self.small_anywhere(&target, limit).await?.raw)
    }

    /// Fetches a small document from one endpoint, and verifies it.
    async fn small(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        limit: u64,
    ) -> Result<Page, Error> {
        let body = self.connection.fetch(&target.request(repository), limit).await?;
        let (content_type, links) = (body.content_type, body.links);
        let page = |raw| Page { document: RawDocument { raw, content_type }, links };
        let Some(digest) = target.digest else {
            // Without a digest it can't be checked whether the bytes are encoded, so decode
            // them if that works: only JSON is fetched this way.
            let decoded = body
                .is_encoded
                .then(|| transport::encoding::decode(&body.bytes, limit).ok())
                .flatten();
            return Ok(page(Verified::as_found(decoded.unwrap_or(body.bytes))));
        };
        let checked = |bytes| Verified::check(&target.subject, bytes, digest, target.size);
        if body.is_encoded
            && let Ok(decoded) = transport::encoding::decode(&body.bytes, limit)
            && let Ok(raw) = checked(decoded)
        {
            return Ok(page(raw));
        }
        Ok(page(checked(body.bytes)?))
    }

    /// Downloads a blob into `sink`, replacing its content, and returns its size. The
    /// digest is verified, and so is the size if the caller knows it. If this fails, the
    /// content of `sink` is undefined.
    pub async fn download(
        &self,
        blob: &BlobRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<u64, Error> {
        let BlobRequest { repository, digest, size, .. } = *blob;
        let target = Target::blob(repository, digest, size);
        let mut places = self.places(&target)?;
        while let Some(place) = self.next_place(&mut places) {
            let request = target.request(&place);
            match download::download(&self.connection, request, digest, size, sink).await {
                Ok(size) => return Ok(size),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        let mut urls = self.urls(blob, places)?;
        while let Some(url) = urls.next() {
            let request = urls.request(&url, &target);
            match download::download(&self.connection, request, digest, size, sink).await {
                Ok(size) => return Ok(size),
                Err(error) => urls.failed_at(&url, error)?,
            }
        }
        Err(urls.into_error())
    }

    /// Returns the URLs of a foreign layer that neither the registry nor its mirrors
    /// have. No credentials are sent there, and the content is verified like any other
    /// blob (protocol rules 28 and 59). If there is nothing to try, returns the error of
    /// the registry.
    fn urls<'b>(&self, blob: &BlobRequest<'b>, places: Places) -> Result<ForeignUrls<'b>, Error> {
        // Some registries deny access to what they don't have.
        let is_absent = |error: &Error| matches!(error.kind(), Kind::NotFound | Kind::Denied);
        let absent = places.failures.last().is_some_and(|(_, error)| is_absent(error));
        if !absent || blob.urls.is_empty() {
            return Err(places.into_error());
        }
        if !self.foreign_layers {
            let url = self.connection.http.secrets().clean(&blob.urls[0], foreign::LONGEST);
            let host = blob.repository.host().to_owned();
            return Err(Error::Foreign { subject: places.subject, host, url });
        }
        Ok(ForeignUrls::new(places.subject, blob, places.failures))
    }

    /// Fetches the last `count` bytes of a blob, without verifying them. Returns `None`
    /// if they can't be fetched, for example because the registry doesn't support ranges.
    pub async fn end_of_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        count: u64,
    ) -> Option<Vec<u8>> {
        let target = Target::blob(repository, &descriptor.digest, Some(descriptor.size));
        let mut places = self.places(&target).ok()?;
        while let Some(place) = self.next_place(&mut places) {
            let request = target.request(&place);
            match download::end(&self.connection, request, descriptor.size, count).await {
                Ok(end) => return end,
                Err(error) => self.failed_at(&place, error, &mut places).ok()?,
            }
        }
        None
    }
}
