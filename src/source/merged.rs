//! Several sources as one.

use std::collections::HashSet;

use futures_util::future::{self, BoxFuture};

use super::{Blobs, Error};
use crate::oci::digest::Digest;
use crate::oci::manifest::Descriptor;
use crate::stream::readable::Readable;
use crate::stream::sink::Sink;

/// Several sources, each with the blobs that it has.
#[derive(Default)]
pub struct MergedSources<'a>(Vec<(HashSet<Digest>, &'a dyn Blobs)>);

impl<'a> MergedSources<'a> {
    /// Adds a source. A blob that several have comes from the first.
    pub fn add(&mut self, digests: HashSet<Digest>, blobs: &'a dyn Blobs) {
        self.0.push((digests, blobs));
    }

    fn find(&self, digest: &Digest) -> Result<&'a dyn Blobs, Error> {
        let found = self.0.iter().find(|(digests, _)| digests.contains(digest));
        found.map(|(_, blobs)| *blobs).ok_or_else(|| {
            let (place, digest) = ("the sources".to_owned(), digest.clone());
            Error::NotInFiles { place, digest }
        })
    }
}

impl Blobs for MergedSources<'_> {
    fn fetch_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), Error>> {
        match self.find(&descriptor.digest) {
            Ok(blobs) => blobs.fetch_blob(descriptor, sink),
            Err(error) => Box::pin(future::ready(Err(error))),
        }
    }

    fn readable(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Readable>>, Error> {
        self.find(&descriptor.digest)?.readable(descriptor)
    }
}
