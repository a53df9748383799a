//! What belongs to the images of a location: their blobs, and the documents
//! around them.

use std::future::Future;

use super::candidates::Seen;
use super::{Error, LOOKUP_LIMIT, Resolution};
use crate::digest::Verified;
use crate::error::{Diagnose as _, Kind};
use crate::manifest::Descriptor;
use crate::media_type;
use crate::observer::Event;
use crate::sink::Sink;

/// Where the blobs of an image come from.
pub trait Blobs {
    /// Streams a blob into `sink`, verified.
    fn fetch_blob(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn Sink,
    ) -> impl Future<Output = Result<(), Error>>;

    /// The last `count` bytes of a blob, not verified, where they can be had
    /// without the rest.
    fn end_of_blob(
        &self,
        _descriptor: &Descriptor,
        _count: u64,
    ) -> impl Future<Output = Option<Vec<u8>>> {
        async { None }
    }
}

impl Blobs for Resolution<'_> {
    async fn fetch_blob(&self, descriptor: &Descriptor, sink: &mut dyn Sink) -> Result<(), Error> {
        self.source.download(descriptor, sink).await
    }

    async fn end_of_blob(&self, descriptor: &Descriptor, count: u64) -> Option<Vec<u8>> {
        self.source.end_of_blob(descriptor, count).await
    }
}

impl Resolution<'_> {
    /// The indexes in the index, as served: what an image that is listed in one
    /// of them is found by.
    pub async fn nested_indexes(&self) -> Result<&[Verified], Error> {
        Ok(&self.search().await?.indexes)
    }

    /// What the index and those in it list beside images and indexes, such as
    /// attestations, as served; nothing of what is not there.
    pub async fn attachments(&self) -> Result<Vec<Verified>, Error> {
        let search = self.search().await?;
        let mut attachments = Vec::new();
        for Seen { descriptor, .. } in &search.seen {
            let is_image =
                search.candidates.iter().any(|image| image.descriptor.digest == descriptor.digest);
            if is_image
                || media_type::is_index(&descriptor.media_type)
                || search.missing.contains(descriptor)
            {
                continue;
            }
            if attachments.len() >= LOOKUP_LIMIT {
                return Err(Error::TooMany { subject: self.subject.clone() });
            }
            match self.source.child(descriptor).await {
                Ok(served) => attachments.push(served.raw),
                Err(error) if error.kind() == Kind::NotFound => {
                    self.observer.observe(&Event::Warning(&crate::error_chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(attachments)
    }
}
