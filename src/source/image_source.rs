//! The source of an image's documents and blobs: a registry or an OCI layout, behind
//! one interface.

use super::Error;
use crate::formats::oci_layout::OciLayout;
use crate::oci::image::{CONFIG_SIZE_LIMIT, ImageConfig};
use crate::oci::manifest::{self, Descriptor};
use crate::oci::reference::Reference;
use crate::registry::{BlobRequest, Client, RawDocument};
use crate::stream::sink::Sink;

/// The source of an image's documents and blobs.
pub(crate) enum ImageSource<'a> {
    Registry { client: &'a Client, reference: Reference },
    Layout(OciLayout),
}

impl ImageSource<'_> {
    pub(crate) async fn child(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        Ok(match self {
            Self::Registry { client, reference } => {
                client.child(reference.repository(), descriptor).await?
            }
            Self::Layout(layout) => RawDocument {
                raw: layout.blob(descriptor, manifest::SIZE_LIMIT)?,
                content_type: None,
            },
        })
    }

    pub(crate) async fn config(
        &self,
        subject: &str,
        descriptor: &Descriptor,
    ) -> Result<ImageConfig, Error> {
        let raw = match self {
            Self::Registry { client, reference } => {
                client.blob(reference.repository(), descriptor, CONFIG_SIZE_LIMIT).await?
            }
            Self::Layout(layout) => layout.blob(descriptor, CONFIG_SIZE_LIMIT)?,
        };
        Ok(ImageConfig::parse(subject, &raw)?)
    }

    pub(crate) async fn download(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        match self {
            Self::Registry { client, reference } => {
                let blob = BlobRequest::of(reference.repository(), descriptor);
                client.download(&blob, sink).await?;
            }
            Self::Layout(layout) => layout.copy_blob(descriptor, sink)?,
        }
        Ok(())
    }

    pub(crate) async fn end_of_blob(&self, descriptor: &Descriptor, count: u64) -> Option<Vec<u8>> {
        match self {
            Self::Registry { client, reference } => {
                client.end_of_blob(reference.repository(), descriptor, count).await
            }
            Self::Layout(layout) => layout.end_of_blob(descriptor, count),
        }
    }
}
