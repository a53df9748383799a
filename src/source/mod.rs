//! Sources of an image's documents and blobs: a registry, an OCI layout, a lockfile with
//! its blobs in the Nix store, or an image.json with its store paths.

mod built;
mod error;
mod image_source;
mod locked;

use std::future::Future;

use crate::oci::manifest::Descriptor;
use crate::stream::sink::Sink;
pub use built::BuiltImage;
pub use error::Error;
pub(crate) use image_source::ImageSource;
pub use locked::LockedImages;

/// A source of an image's blobs.
pub trait Blobs: Sync {
    /// Streams a blob into `sink` and verifies it.
    fn fetch_blob(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn Sink,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Returns the last `count` bytes of a blob, not verified, or `None` if they can't
    /// be read without reading the rest.
    fn end_of_blob(
        &self,
        _descriptor: &Descriptor,
        _count: u64,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send {
        async { None }
    }
}
