//! Sources of an image's documents and blobs: a registry, an OCI layout, a lockfile with
//! its blobs in the Nix store, or an image.json with its store paths.

mod built;
mod compressed;
mod error;
mod files;
mod image_source;
mod locked;
mod merged;
mod registry;

use futures_util::StreamExt as _;
use futures_util::future::{self, BoxFuture};

use std::path::Path;
use std::sync::Arc;

use crate::fs;
use crate::oci::digest::Digest;
use crate::oci::manifest::Descriptor;
use crate::stream::readable::{Readable, VerifiedFile};
use crate::stream::sink::Sink;
pub use built::BuiltImage;
pub use compressed::CompressedLayers;
pub use error::Error;
pub use files::ImageFiles;
pub(crate) use image_source::ImageSource;
pub use locked::LockedImages;
pub use merged::MergedSources;
pub use registry::RegistryBlobs;

/// A source of an image's blobs.
pub trait Blobs: Sync {
    /// Streams a blob into `sink` and verifies it.
    fn fetch_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Returns the last `count` bytes of a blob, not verified, or `None` if they can't
    /// be read without reading the rest.
    fn end_of_blob<'a>(
        &'a self,
        _descriptor: &'a Descriptor,
        _count: u64,
    ) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(future::ready(None))
    }

    /// Returns a blob that can be read from this machine, or `None` if it has to be
    /// fetched. Reading it ends with an error if it isn't what the descriptor says.
    fn readable(&self, _descriptor: &Descriptor) -> Result<Option<Box<dyn Readable>>, Error> {
        Ok(None)
    }
}

impl<B: Blobs + ?Sized> Blobs for &B {
    fn fetch_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), Error>> {
        (**self).fetch_blob(descriptor, sink)
    }

    fn end_of_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        count: u64,
    ) -> BoxFuture<'a, Option<Vec<u8>>> {
        (**self).end_of_blob(descriptor, count)
    }

    fn readable(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Readable>>, Error> {
        (**self).readable(descriptor)
    }
}

/// A blob in a file of its own, which is verified while it is read.
fn file(path: &Path, descriptor: &Descriptor) -> Result<VerifiedFile, Error> {
    let read = |source| fs::Error::Read { path: path.to_owned(), source };
    Ok(VerifiedFile::new(path, descriptor).map_err(read)?)
}

/// Writes a blob to `sink` while it is read, and so verified.
async fn write_to(
    sink: &mut dyn Sink,
    content: &dyn Readable,
    digest: &Digest,
) -> Result<(), Error> {
    let read = |source| Error::of_content(digest, source);
    let mut pieces = content.open(0).map_err(read)?;
    while let Some(piece) = pieces.next().await {
        let write = |source| Error::Write { digest: digest.clone(), source };
        sink.write_all(&piece.map_err(read)?).map_err(write)?;
    }
    Ok(())
}

/// A blob on this machine. One that has to be fetched is put into a file that has no name.
pub(crate) async fn local(
    blobs: &dyn Blobs,
    descriptor: &Descriptor,
) -> Result<Box<dyn Readable>, Error> {
    if let Some(content) = blobs.readable(descriptor)? {
        return Ok(content);
    }
    let write = |source| Error::Write { digest: descriptor.digest.clone(), source };
    let mut file = fs::unnamed().map_err(write)?;
    blobs.fetch_blob(descriptor, &mut file).await?;
    let (digest, size) = (descriptor.digest.clone(), descriptor.size);
    Ok(Box::new(VerifiedFile::part_of(Arc::new(file), 0, digest, size)))
}
