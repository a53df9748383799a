//! The source of an image's documents and blobs: a registry or an OCI layout, behind
//! one interface.

use super::{Error, ImageFiles};
use crate::formats::oci_layout::OciLayout;
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::CONFIG_SIZE_LIMIT;
use crate::oci::manifest::{self, Descriptor};
use crate::oci::reference::Repository;
use crate::registry::{BlobRequest, Client, RawDocument};
use crate::stream::readable::Readable;
use crate::stream::sink::Sink;

/// The source of an image's documents and blobs.
pub(crate) enum ImageSource<'a> {
    Registry { client: &'a Client, repository: Repository },
    Layout(OciLayout),
    Files(ImageFiles),
}

impl ImageSource<'_> {
    pub(crate) async fn child(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        Ok(match self {
            Self::Registry { client, repository } => client.child(repository, descriptor).await?,
            Self::Layout(layout) => RawDocument {
                raw: layout.blob(descriptor, manifest::SIZE_LIMIT)?,
                content_type: None,
            },
            Self::Files(files) => RawDocument {
                raw: files.document(
                    &descriptor.digest,
                    Some(descriptor.size),
                    manifest::SIZE_LIMIT,
                )?,
                content_type: None,
            },
        })
    }

    /// Returns an index or a manifest by its digest.
    pub(crate) async fn document(&self, digest: &Digest) -> Result<Verified, Error> {
        Ok(match self {
            Self::Registry { client, repository } => {
                client.manifest_bytes(repository, digest, None).await?
            }
            Self::Layout(layout) => layout.document(digest)?,
            Self::Files(files) => files.document(digest, None, manifest::SIZE_LIMIT)?,
        })
    }

    /// Returns the bytes of a config.
    pub(crate) async fn config(&self, descriptor: &Descriptor) -> Result<Verified, Error> {
        Ok(match self {
            Self::Registry { client, repository } => {
                client.blob(repository, descriptor, CONFIG_SIZE_LIMIT).await?
            }
            Self::Layout(layout) => layout.blob(descriptor, CONFIG_SIZE_LIMIT)?,
            Self::Files(files) => {
                files.document(&descriptor.digest, Some(descriptor.size), CONFIG_SIZE_LIMIT)?
            }
        })
    }

    pub(crate) async fn download(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        match self {
            Self::Registry { client, repository } => {
                let blob = BlobRequest::of(repository, descriptor);
                client.download(&blob, sink).await?;
            }
            Self::Layout(layout) => layout.copy_blob(descriptor, sink)?,
            Self::Files(files) => files.download(descriptor, sink).await?,
        }
        Ok(())
    }

    pub(crate) fn readable(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Option<Box<dyn Readable>>, Error> {
        match self {
            Self::Registry { .. } => Ok(None),
            Self::Layout(layout) => Ok(Some(Box::new(layout.readable(descriptor)?))),
            Self::Files(files) => Ok(Some(Box::new(files.readable(descriptor)?))),
        }
    }

    pub(crate) async fn end_of_blob(&self, descriptor: &Descriptor, count: u64) -> Option<Vec<u8>> {
        match self {
            Self::Registry { client, repository } => {
                client.end_of_blob(repository, descriptor, count).await
            }
            Self::Layout(layout) => layout.end_of_blob(descriptor, count),
            Self::Files(_) => None,
        }
    }
}
