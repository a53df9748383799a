//! The blobs of a repository.

use futures_util::future::BoxFuture;

use super::{Blobs, Error};
use crate::oci::manifest::Descriptor;
use crate::oci::reference::Repository;
use crate::registry::{BlobRequest, Client};
use crate::stream::sink::Sink;

/// The blobs of a repository in a registry.
pub struct RegistryBlobs<'a> {
    client: &'a Client,
    repository: Repository,
}

impl<'a> RegistryBlobs<'a> {
    /// The blobs of `repository`.
    #[must_use]
    pub const fn new(client: &'a Client, repository: Repository) -> Self {
        Self { client, repository }
    }
}

impl Blobs for RegistryBlobs<'_> {
    fn fetch_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.client.download(&BlobRequest::of(&self.repository, descriptor), sink).await?;
            Ok(())
        })
    }
}
