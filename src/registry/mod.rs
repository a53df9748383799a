//! The client of a registry: manifests and blobs, verified. All network
//! traffic of this program is in here.
//!
//! OCI distribution-spec, and how real registries differ from it.

mod auth;
mod connection;
pub mod credentials;
mod download;
mod error;
mod foreign;
mod head;
mod mirrors;
mod places;
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
pub use error::{Denial, Error};
pub use mirrors::Error as MirrorsError;
pub use secrets::Secrets;
pub use transport::cause::Cause;
pub use transport::retry::RetryPolicy;
pub use transport::tls::Error as TlsError;

use crate::error::{Diagnose as _, Kind};
use crate::observer::Observer;
use crate::oci::digest::{Digest, Verified};
use crate::oci::manifest::{self, Descriptor};
use crate::oci::reference::{Reference, Repository};
use crate::stream::sink::Sink;
use connection::Connection;
use credentials::CredentialStore;
use foreign::ForeignUrls;
use mirrors::Mirrors;
use places::Places;
use request::Wanted;
use transport::clients::Clients;
use transport::http::Http;
use transport::tls::{self, TlsOptions};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The file of credentials to use instead of the default ones.
    pub authfile: Option<PathBuf>,
    /// Whether certificates are verified. Unset, they are, and plain HTTP is
    /// used on loopback; `Some(false)` also allows plain HTTP elsewhere, where
    /// a registry has no HTTPS.
    pub tls_verify: Option<bool>,
    /// A file of certificates of further authorities to trust.
    pub cacert: Option<PathBuf>,
    /// Mirrors, each as `REGISTRY=URL`, beside those that the environment and
    /// the machine's settings name.
    pub mirrors: Vec<String>,
    /// Whether layers are fetched from the URLs that their descriptors name, where
    /// the registry has them not.
    pub foreign_layers: bool,
    /// How failed requests are tried again.
    pub retry: RetryPolicy,
    /// How long a server may be silent, in the middle of a body too.
    pub read_timeout: Duration,
    /// Where the client notes the secrets that it uses, for whoever shows something.
    pub secrets: Arc<Secrets>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            authfile: None,
            tls_verify: None,
            cacert: None,
            mirrors: Vec::new(),
            foreign_layers: true,
            retry: RetryPolicy::default(),
            read_timeout: Duration::from_secs(30),
            secrets: Arc::default(),
        }
    }
}

/// A client of any number of registries. Keeps its connections and tokens, so
/// one client is to serve a whole run.
pub struct Client {
    connection: Connection,
    mirrors: Mirrors,
    /// Mirrors that did not answer: they are not asked again in this run.
    dead_mirrors: Mutex<HashSet<String>>,
    /// Whether a descriptor's `urls` are asked.
    foreign_layers: bool,
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

/// A blob, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct BlobRequest<'a> {
    /// The repository that it is in.
    pub repository: &'a Repository,
    /// Its digest.
    pub digest: &'a Digest,
    /// How many bytes it has, where that is known.
    pub size: Option<u64>,
    /// Where else it is, if the repository has it not: a descriptor's `urls`.
    pub urls: &'a [String],
}

impl<'a> BlobRequest<'a> {
    /// The blob that a descriptor points to.
    #[must_use]
    pub fn of(repository: &'a Repository, descriptor: &'a Descriptor) -> Self {
        let Descriptor { digest, size, urls, .. } = descriptor;
        Self { repository, digest, size: Some(*size), urls }
    }
}

impl Client {
    /// A client that tells `observer` what it does. A file that the options
    /// name must be usable.
    pub fn new(options: ClientOptions, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        if let Some(path) = &options.cacert {
            tls::certificates(path)?;
        }
        let insecure = options.tls_verify == Some(false);
        let tls = TlsOptions { insecure, authorities: options.cacert };
        let credentials = CredentialStore::new(options.authfile.as_deref(), observer.clone())?;
        let http = Http::new(Clients::new(tls, options.read_timeout, options.secrets), observer);
        Ok(Self {
            connection: Connection::new(http, credentials, options.retry, options.tls_verify),
            mirrors: Mirrors::read(&options.mirrors)?,
            dead_mirrors: Mutex::default(),
            foreign_layers: options.foreign_layers,
        })
    }

    /// The index or manifest that a reference leads to: by its digest where it
    /// has one, else by its tag.
    pub async fn resolve(&self, reference: &Reference) -> Result<Served, Error> {
        let target = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        self.manifest(&Wanted::named(reference, &target)).await
    }

    /// The digest that a reference's tag leads to, whatever digest the reference
    /// has. Nothing is transferred where the registry tells it by itself, which
    /// no registry counts as a pull; what it tells is not verified.
    pub async fn tag_digest(&self, reference: &Reference) -> Result<Digest, Error> {
        let wanted = Wanted {
            digest: None,
            ..Wanted::named(reference, reference.tag().unwrap_or("latest"))
        };
        match self.told_digest(&wanted).await? {
            Some(digest) => Ok(digest),
            None => Ok(self.manifest(&wanted).await?.raw.digest().clone()),
        }
    }

    /// The digest that a registry tells without being asked for the manifest.
    async fn told_digest(&self, wanted: &Wanted<'_>) -> Result<Option<Digest>, Error> {
        let mut places = self.places(wanted)?;
        while let Some(place) = self.next_place(&mut places) {
            match head::manifest_digest(&self.connection, &wanted.request(&place)).await {
                Ok(digest) => return Ok(digest),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        Err(places.into_error())
    }

    /// Whether the registry still has a blob; an error says why not.
    pub async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<(), Error> {
        let blob = BlobRequest::of(repository, descriptor);
        let wanted = Wanted::blob(repository, &descriptor.digest, Some(descriptor.size));
        let size = descriptor.size;
        let mut places = self.places(&wanted)?;
        while let Some(place) = self.next_place(&mut places) {
            match head::blob_is_served(&self.connection, &wanted.request(&place), size).await {
                Ok(()) => return Ok(()),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        let mut urls = self.urls(&blob, places)?;
        while let Some(url) = urls.next() {
            let request = urls.request(&url, &wanted);
            match head::blob_is_served(&self.connection, &request, size).await {
                Ok(()) => return Ok(()),
                Err(error) => urls.failed_at(&url, error)?,
            }
        }
        Err(urls.into_error())
    }

    /// The tags of a repository, sorted. The registry itself is asked first:
    /// mirrors may know those alone that somebody pulled.
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
        // The registry's own failure last, as elsewhere.
        failures.reverse();
        Err(Error::of_all(subject, failures))
    }

    /// The index or manifest that a descriptor points to.
    pub async fn child(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Served, Error> {
        let wanted = Wanted::manifest(repository, &descriptor.digest, Some(descriptor.size));
        self.manifest(&wanted).await
    }

    /// The index or manifest with this digest, and this size where it is known.
    pub async fn manifest_bytes(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Verified, Error> {
        let wanted = Wanted::manifest(repository, digest, size);
        Ok(self.manifest(&wanted).await?.raw)
    }

    async fn manifest(&self, wanted: &Wanted<'_>) -> Result<Served, Error> {
        self.small_anywhere(wanted, manifest::SIZE_LIMIT).await
    }

    /// Fetches a small document from the first place that has it.
    async fn small_anywhere(&self, wanted: &Wanted<'_>, limit: u64) -> Result<Served, Error> {
        let mut places = self.places(wanted)?;
        while let Some(place) = self.next_place(&mut places) {
            match self.small(wanted, &place, limit).await {
                Ok(served) => return Ok(served),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        Err(places.into_error())
    }

    /// A small blob, such as a config, of at most `limit` bytes.
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Verified, Error> {
        let wanted = Wanted::blob(repository, &descriptor.digest, Some(descriptor.size));
        if descriptor.size > limit {
            let host = repository.host().to_owned();
            return Err(Error::TooLarge { subject: wanted.subject, host, limit });
        }
        Ok(self.small_anywhere(&wanted, limit).await?.raw)
    }

    /// Fetches a small document from one place, and verifies it.
    async fn small(
        &self,
        wanted: &Wanted<'_>,
        repository: &Repository,
        limit: u64,
    ) -> Result<Served, Error> {
        let body = self.connection.fetch(&wanted.request(repository), limit).await?;
        let content_type = body.content_type;
        let Some(digest) = wanted.digest else {
            // No digest tells whether the bytes are encoded; only JSON is served here.
            let decoded = body
                .is_encoded
                .then(|| transport::encoding::decode(&body.bytes, limit).ok())
                .flatten();
            return Ok(Served {
                raw: Verified::as_found(decoded.unwrap_or(body.bytes)),
                content_type,
            });
        };
        let checked = |bytes| Verified::check(&wanted.subject, bytes, digest, wanted.size);
        if body.is_encoded
            && let Ok(decoded) = transport::encoding::decode(&body.bytes, limit)
            && let Ok(raw) = checked(decoded)
        {
            return Ok(Served { raw, content_type });
        }
        Ok(Served { raw: checked(body.bytes)?, content_type })
    }

    /// Streams a blob into `sink`, over whatever is in it, and returns its size.
    /// Its digest is verified, and its size where the caller knows it. When this
    /// fails, what is in `sink` means nothing.
    pub async fn download(
        &self,
        blob: &BlobRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<u64, Error> {
        let BlobRequest { repository, digest, size, .. } = *blob;
        let wanted = Wanted::blob(repository, digest, size);
        let mut places = self.places(&wanted)?;
        while let Some(place) = self.next_place(&mut places) {
            let request = wanted.request(&place);
            match download::download(&self.connection, request, digest, size, sink).await {
                Ok(size) => return Ok(size),
                Err(error) => self.failed_at(&place, error, &mut places)?,
            }
        }
        let mut urls = self.urls(blob, places)?;
        while let Some(url) = urls.next() {
            let request = urls.request(&url, &wanted);
            match download::download(&self.connection, request, digest, size, sink).await {
                Ok(size) => return Ok(size),
                Err(error) => urls.failed_at(&url, error)?,
            }
        }
        Err(urls.into_error())
    }

    /// Where else a blob is, where the registry and its mirrors do not have it: foreign
    /// layers are not in registries. No credential goes there, and what comes is
    /// verified as any blob (protocol rules 28 and 59).
    fn urls<'b>(&self, blob: &BlobRequest<'b>, places: Places) -> Result<ForeignUrls<'b>, Error> {
        // Some registries say of what they do not have that it is not to be had.
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

    /// The last `count` bytes of a blob, not verified; `None` where the registry
    /// serves no parts.
    pub async fn end_of_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        count: u64,
    ) -> Option<Vec<u8>> {
        let wanted = Wanted::blob(repository, &descriptor.digest, Some(descriptor.size));
        let mut places = self.places(&wanted).ok()?;
        while let Some(place) = self.next_place(&mut places) {
            let request = wanted.request(&place);
            match download::end(&self.connection, request, descriptor.size, count).await {
                Ok(end) => return end,
                Err(error) => self.failed_at(&place, error, &mut places).ok()?,
            }
        }
        None
    }
}
