//! The images that a lockfile pins. Blobs come from the Nix store if it has them,
//! otherwise from the registry or OCI layout that the image was locked from.

use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::{Blobs, Error, ImageSource};
use crate::formats::lockfile::{Entry, Lockfile};
use crate::formats::oci_layout::OciLayout;
use crate::fs;
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::{CONFIG_SIZE_LIMIT, Image, ImageConfig};
use crate::oci::location::Location;
use crate::oci::manifest::{self, Descriptor, Document, ImageManifest};
use crate::registry::Client;
use crate::store::StoreDirectory;
use crate::stream::readable::Readable;
use crate::stream::sink::{self, Sink};

/// The images of a lockfile.
pub struct LockedImages<'a> {
    lockfile: &'a Lockfile,
    store: StoreDirectory,
    client: &'a Client,
}

impl<'a> LockedImages<'a> {
    /// Returns a source for the images that `lockfile` pins. Reads nothing yet.
    #[must_use]
    pub const fn new(lockfile: &'a Lockfile, store: StoreDirectory, client: &'a Client) -> Self {
        Self { lockfile, store, client }
    }

    /// Returns the image of an entry, with the manifest as it is in the lockfile. That
    /// is enough if the manifest itself is not written anywhere.
    pub async fn image(&self, entry: &Entry) -> Result<Image, Error> {
        self.with_config(entry, entry.manifest().clone()).await
    }

    /// Returns the image of an entry, with its manifest as it was served.
    pub async fn served_image(&self, entry: &Entry) -> Result<Image, Error> {
        let Some(pin) = entry.pin() else {
            return Err(Error::NoDigest { file: self.lockfile.file().to_owned() });
        };
        let subject = format!("`{}`", pin.manifest);
        let raw = if let Some(path) = self.in_store(&pin.manifest) {
            let bytes = fs::read(&path, manifest::SIZE_LIMIT)?;
            Verified::check(&subject, bytes, &pin.manifest, None)?
        } else {
            self.origin(&pin.manifest)?.document(&pin.manifest).await?
        };
        match Document::parse(&subject, raw, None)? {
            Document::Manifest(manifest) if manifest.has_same_blobs(entry.manifest()) => {
                self.with_config(entry, manifest).await
            }
            _ => Err(Error::Edited { file: self.lockfile.file().to_owned() }),
        }
    }

    async fn with_config(&self, entry: &Entry, manifest: ImageManifest) -> Result<Image, Error> {
        let subject = format!("`{}`", self.lockfile.file());
        let config = self.config(entry).await?;
        if !entry.has_config(&config) {
            return Err(Error::Edited { file: self.lockfile.file().to_owned() });
        }
        Ok(Image::new(&subject, manifest, config)?)
    }

    /// Returns the config of an entry, from the store or else from where it was locked.
    /// Nothing in the lockfile is trusted except the config's digest.
    pub async fn config(&self, entry: &Entry) -> Result<ImageConfig, Error> {
        let descriptor = entry.manifest().config();
        let subject = format!("`{}`", self.lockfile.file());
        let raw = if let Some(path) = self.in_store(&descriptor.digest) {
            let bytes = fs::read(&path, CONFIG_SIZE_LIMIT)?;
            Verified::check(&subject, bytes, &descriptor.digest, Some(descriptor.size))?
        } else {
            self.origin(&descriptor.digest)?.config(descriptor).await?
        };
        Ok(ImageConfig::parse(&subject, &raw)?)
    }

    /// Returns the path of a blob in the Nix store, if it is there.
    fn in_store(&self, digest: &Digest) -> Option<PathBuf> {
        let path = PathBuf::from(String::from(self.store.blob_path(digest)));
        path.is_file().then_some(path)
    }

    /// Returns where the image was locked from.
    fn origin(&self, digest: &Digest) -> Result<ImageSource<'a>, Error> {
        match self.lockfile.location() {
            Some(Location::Registry(reference)) => {
                let (client, repository) = (self.client, reference.repository().clone());
                Ok(ImageSource::Registry { client, repository })
            }
            Some(Location::OciLayout(reference)) => {
                Ok(ImageSource::Layout(OciLayout::new(reference.clone())))
            }
            None => {
                let file = self.lockfile.file().to_owned();
                Err(Error::Nowhere { file, digest: digest.clone() })
            }
        }
    }
}

impl Blobs for LockedImages<'_> {
    fn fetch_blob<'b>(
        &'b self,
        descriptor: &'b Descriptor,
        sink: &'b mut dyn Sink,
    ) -> BoxFuture<'b, Result<(), Error>> {
        Box::pin(async move {
            let digest = &descriptor.digest;
            match self.in_store(digest) {
                Some(path) => Ok(sink::copy_blob(&path, digest, descriptor.size, sink)?),
                None => self.origin(digest)?.download(descriptor, sink).await,
            }
        })
    }

    fn readable(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Readable>>, Error> {
        match self.in_store(&descriptor.digest) {
            Some(path) => Ok(Some(Box::new(super::file(&path, descriptor)?))),
            None => self.origin(&descriptor.digest)?.readable(descriptor),
        }
    }
}
