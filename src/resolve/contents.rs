//! What belongs to the images of a location: their blobs, and the documents
//! around them.

use std::future::Future;

use super::candidates::{Candidate, Seen};
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
    pub async fn nested_indexes(&self) -> Result<Vec<Verified>, Error> {
        let is_index = |seen: &Seen| media_type::is_index(&seen.descriptor.media_type);
        self.documents(is_index).await
    }

    /// What the index lists beside images and indexes, such as attestations, as
    /// served.
    pub async fn attachments(&self) -> Result<Vec<Verified>, Error> {
        let search = self.search().await?;
        let is_other = |seen: &Seen| {
            let is = |candidate: &Candidate| candidate.descriptor.digest == seen.descriptor.digest;
            !media_type::is_index(&seen.descriptor.media_type) && !search.candidates.iter().any(is)
        };
        self.documents(is_other).await
    }

    /// What the index and those in it list and `is_wanted`, as served; nothing of
    /// what is not there.
    async fn documents(&self, is_wanted: impl Fn(&Seen) -> bool) -> Result<Vec<Verified>, Error> {
        let search = self.search().await?;
        let mut documents = Vec::new();
        for seen in search.seen.iter().filter(|seen| is_wanted(seen)) {
            if search.missing.contains(&seen.descriptor) {
                continue;
            }
            if documents.len() >= LOOKUP_LIMIT {
                return Err(Error::TooMany { subject: self.subject.clone() });
            }
            match self.source.child(&seen.descriptor).await {
                Ok(served) => documents.push(served.raw),
                Err(error) if error.kind() == Kind::NotFound => {
                    self.observer.observe(&Event::Warning(&crate::error_chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(documents)
    }
}
