//! The other content of a location: the blobs of its images, nested indexes and attachments.

use futures_util::future::BoxFuture;

use super::candidates::Listing;
use super::{Error, LOOKUP_LIMIT, Resolution};
use crate::error::{Diagnose as _, Kind};
use crate::observer::Event;
use crate::oci::digest::Verified;
use crate::oci::manifest::Descriptor;
use crate::oci::media_type;
use crate::source::{self, Blobs};
use crate::stream::readable::Readable;
use crate::stream::sink::Sink;

impl Blobs for Resolution<'_> {
    fn fetch_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), source::Error>> {
        Box::pin(self.source.download(descriptor, sink))
    }

    fn end_of_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        count: u64,
    ) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(self.source.end_of_blob(descriptor, count))
    }

    fn readable(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Option<Box<dyn Readable>>, source::Error> {
        self.source.readable(descriptor)
    }
}

impl Resolution<'_> {
    /// Returns the nested indexes, as served. An image listed in one of them can't be
    /// found without it.
    pub async fn nested_indexes(&self) -> Result<&[Verified], Error> {
        Ok(&self.search().await?.indexes)
    }

    /// Returns what the index and its nested indexes list besides images and indexes,
    /// such as attestations, as served. Leaves out what is missing.
    pub async fn attachments(&self) -> Result<Vec<Verified>, Error> {
        let search = self.search().await?;
        let mut attachments = Vec::new();
        for Listing { descriptor, .. } in &search.seen {
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
                Err(error) => return Err(error.into()),
            }
        }
        Ok(attachments)
    }
}
