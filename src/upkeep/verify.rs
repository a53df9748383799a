//! Checks whether everything that a lockfile pins is still served, and is what the
//! lockfile says.
//!
//! Index, manifest and config are fetched, so that an edited lockfile is caught. Layers
//! are only checked for existence; none is transferred.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::error::{Diagnose, Kind};
use crate::formats::lockfile::{Entry, Lockfile, Pin};
use crate::fs;
use crate::observer::Silent;
use crate::oci::digest::{self, Digest, Verified};
use crate::oci::image::{self, CONFIG_SIZE_LIMIT, Image, ImageConfig};
use crate::oci::location::Location;
use crate::oci::manifest::{self, Descriptor, Document};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{self, Client};
use crate::resolve::{self, Resolution};
use crate::store::StoreDirectory;

/// Why something does not match the lockfile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not served, or the registry could not be asked.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The index can't be resolved.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// What is served is not a valid manifest.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// What is served is not a valid config.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The content in the store does not match its digest.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// The lockfile does not match what it pins.
    #[error("the lockfile has {what} from {truth}")]
    Edited {
        /// What differs: "different layers".
        what: &'static str,
        /// What it differs from: "the manifest that it pins".
        truth: &'static str,
    },
    /// The image was locked from an OCI layout on disk.
    #[error("it was locked from a layout on disk, and only registries can be asked")]
    Layout,
    /// The lockfile does not say what it locks.
    #[error("it does not say which image it locks")]
    Nameless,
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Resolve(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Digest(error) => error.kind(),
            Self::Layout => Kind::Usage,
            Self::Edited { .. } | Self::Nameless => Kind::Verification,
        }
    }
}

/// The result of checking one thing that a lockfile pins.
#[derive(Debug)]
pub struct Check {
    /// What was checked: `reference`, `manifest`, `config`, `layer 1`.
    pub subject: String,
    /// Its digest, if it has one.
    pub digest: Option<Digest>,
    /// The platform that it belongs to.
    pub platform: Option<Platform>,
    /// Whether it matches the lockfile.
    pub verdict: Verdict,
}

/// Whether something matches a lockfile.
#[derive(Debug)]
pub enum Verdict {
    /// It was checked and matches.
    Proved,
    /// It was not checked.
    Unchecked,
    /// It does not match, or could not be checked.
    Failed(Error),
}

impl From<Result<(), Error>> for Verdict {
    fn from(result: Result<(), Error>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Proved)
    }
}

impl Check {
    /// Returns what is wrong with it, if anything.
    #[must_use]
    pub const fn failure(&self) -> Option<&Error> {
        match &self.verdict {
            Verdict::Failed(error) => Some(error),
            Verdict::Proved | Verdict::Unchecked => None,
        }
    }
}

/// Checks everything that `lockfile` pins with the registry, `jobs` layers at once.
pub async fn online(lockfile: &Lockfile, client: &Client, jobs: usize) -> Vec<Check> {
    let Some(Location::Registry(reference)) = lockfile.location() else {
        return vec![Check {
            subject: "reference".to_owned(),
            digest: None,
            platform: None,
            verdict: Verdict::Failed(if lockfile.location().is_some() {
                Error::Layout
            } else {
                Error::Nameless
            }),
        }];
    };
    let mut checks = vec![Check {
        subject: "reference".to_owned(),
        digest: reference.digest().cloned(),
        platform: None,
        verdict: verify_reference(lockfile, reference, client).await.into(),
    }];
    // One entry after another: the layers of each are checked concurrently.
    for entry in lockfile.entries() {
        checks.extend(verify_entry(entry, reference, client, jobs).await);
    }
    checks
}

/// Checks a lockfile as far as the file itself and the content of the store allow.
#[must_use]
pub fn offline(lockfile: &Lockfile, store: &StoreDirectory) -> Vec<Check> {
    let reference = lockfile.location().and_then(Location::reference);
    let check = |platform, subject: &str, verdict| Check {
        subject: subject.to_owned(),
        digest: None,
        platform,
        verdict,
    };
    let is_layout = matches!(lockfile.location(), Some(Location::OciLayout(_)));
    let has_digest = is_layout || reference.is_some_and(|reference| reference.digest().is_some());
    // No registry was asked what the reference points to.
    let named = if has_digest { Verdict::Unchecked } else { Verdict::Failed(Error::Nameless) };
    let mut checks = vec![check(None, "reference", named)];
    for entry in lockfile.entries() {
        let Some(pin) = entry.pin() else { continue };
        let platform = || Some(pin.platform.clone());
        let manifest = if entry.is_proved() { Verdict::Proved } else { Verdict::Unchecked };
        checks.push(check(platform(), "manifest", manifest));
        let config = match (platform_fits(pin), stored_config(entry, store)) {
            (Err(error), _) => Verdict::Failed(error),
            (Ok(()), Some(result)) => result.into(),
            (Ok(()), None) => Verdict::Unchecked,
        };
        checks.push(check(platform(), "config", config));
    }
    checks
}

/// Checks whether the config in the store matches the lockfile. Returns `None` if it is
/// not there.
fn stored_config(entry: &Entry, store: &StoreDirectory) -> Option<Result<(), Error>> {
    let descriptor = entry.manifest().config();
    let path = PathBuf::from(String::from(store.blob_path(&descriptor.digest)));
    let bytes = fs::read(&path, CONFIG_SIZE_LIMIT).ok()?;
    let subject = format!("`{}`", path.display());
    let compare = || {
        let raw = Verified::check(&subject, bytes, &descriptor.digest, Some(descriptor.size))?;
        compare_config(entry, &ImageConfig::parse(&subject, &raw)?)
    };
    Some(compare())
}

/// Checks whether a lockfile matches the config that it pins.
fn compare_config(entry: &Entry, config: &ImageConfig) -> Result<(), Error> {
    if entry.has_config(config) {
        return Ok(());
    }
    Err(Error::Edited { what: "a different config", truth: "the one that it pins" })
}

/// Checks whether the config is for the platform of the entry.
fn platform_fits(pin: &Pin) -> Result<(), Error> {
    let text = |key: &str| pin.image.get(key).and_then(Value::as_str).unwrap_or_default();
    let built = Platform::served(text("os"), text("architecture"), text("variant"));
    match built {
        Some(built)
            if built.os() != pin.platform.os()
                || built.architecture() != pin.platform.architecture() =>
        {
            Err(Error::Edited { what: "a different platform", truth: "its own config" })
        }
        // A config may name no platform. Then whoever locked it chose one.
        _ => Ok(()),
    }
}

/// Checks that the index is still there and leads to the locked manifests.
async fn verify_reference(
    lockfile: &Lockfile,
    reference: &Reference,
    client: &Client,
) -> Result<(), Error> {
    let location = Location::Registry(reference.clone());
    let resolution = Resolution::open(&location, client, &Silent).await?;
    for entry in lockfile.entries() {
        let Some(pin) = entry.pin() else { return Err(Error::Nameless) };
        if resolution.digest_for(&pin.platform).await? != pin.manifest {
            return Err(Error::Edited {
                what: "a different manifest",
                truth: "the one that its reference points to",
            });
        }
    }
    Ok(())
}

async fn verify_entry(
    entry: &Entry,
    reference: &Reference,
    client: &Client,
    jobs: usize,
) -> Vec<Check> {
    let Some(pin) = entry.pin() else { return Vec::new() };
    let repository = reference.repository();
    let check = |subject: String, digest: &Digest, result: Result<(), Error>| Check {
        subject,
        digest: Some(digest.clone()),
        platform: Some(pin.platform.clone()),
        verdict: result.into(),
    };
    let config = &entry.manifest().config().digest;
    let mut checks = vec![
        check(
            "manifest".to_owned(),
            &pin.manifest,
            verify_manifest(entry, pin, reference, client).await,
        ),
        check("config".to_owned(), config, verify_config(entry, reference, client).await),
    ];
    let mut distinct: Vec<&Descriptor> = Vec::new();
    for layer in entry.manifest().layers() {
        if distinct.iter().all(|other| other.digest != layer.digest) {
            distinct.push(layer);
        }
    }
    let look = async |layer| client.has_blob(repository, layer).await.map_err(Error::from);
    let looks: Vec<BoxFuture<'_, _>> =
        distinct.iter().map(|layer| Box::pin(look(layer)) as BoxFuture<'_, _>).collect();
    let results: Vec<Result<(), Error>> = stream::iter(looks).buffered(jobs.max(1)).collect().await;
    for (index, (layer, result)) in distinct.into_iter().zip(results).enumerate() {
        checks.push(check(format!("layer {}", index + 1), &layer.digest, result));
    }
    checks
}

async fn verify_manifest(
    entry: &Entry,
    pin: &Pin,
    reference: &Reference,
    client: &Client,
) -> Result<(), Error> {
    let pinned = reference.pinned(pin.manifest.clone());
    let served = client.resolve(&pinned).await?;
    let subject = format!("manifest `{pinned}`");
    match Document::parse(&subject, served.raw, served.content_type.as_deref())? {
        Document::Manifest(manifest) if manifest.has_same_blobs(entry.manifest()) => Ok(()),
        _ => Err(Error::Edited { what: "different layers", truth: "the manifest that it pins" }),
    }
}

async fn verify_config(entry: &Entry, reference: &Reference, client: &Client) -> Result<(), Error> {
    let descriptor = entry.manifest().config();
    let raw = client.blob(reference.repository(), descriptor, CONFIG_SIZE_LIMIT).await?;
    let subject = format!("`{reference}`");
    let config = ImageConfig::parse(&subject, &raw)?;
    // This checks that there are as many diff IDs as layers.
    let image = Image::new(&subject, entry.manifest().clone(), config)?;
    compare_config(entry, image.config())
}
