//! Images whose plain layers are compressed on their way.
//!
//! A registry knows a layer by the digest of its compressed bytes, which is known before they
//! are made if it was recorded or remembered, and otherwise after.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;

use super::{Blobs, Error};
use crate::formats::convert;
use crate::oci::digest::{self, Digest};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::oci::media_type;
use crate::stream::compress::{self, Compression, Outcome};
use crate::stream::readable::{ByteStream, Producible, Readable, guard, skip};
use crate::stream::sink::Sink;

/// What a plain layer is once it is compressed.
#[derive(Clone, Debug)]
struct Compressed {
    plain: Descriptor,
    digest: Digest,
    size: u64,
}

/// A source whose plain layers are compressed.
pub struct CompressedLayers<'a> {
    blobs: &'a dyn Blobs,
    compression: Compression,
    /// What is known, by the digests of the plain layers.
    known: Mutex<HashMap<Digest, Compressed>>,
}

impl<'a> CompressedLayers<'a> {
    /// Compresses what `blobs` has. Nothing is known yet.
    #[must_use]
    pub fn new(blobs: &'a dyn Blobs, compression: Compression) -> Self {
        Self { blobs, compression, known: Mutex::default() }
    }

    /// How layers are compressed.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// Takes note of what a plain layer becomes.
    pub fn learn(&self, plain: &Descriptor, (digest, size): (Digest, u64)) {
        let compressed = Compressed { plain: plain.clone(), digest, size };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(plain.digest.clone(), compressed);
    }

    /// Forgets what a compressed layer is made from, and returns that: it turned out to be
    /// something else.
    pub fn forget(&self, compressed: &Digest) -> Option<Descriptor> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = known.iter().find(|(_, one)| one.digest == *compressed)?.0.clone();
        known.remove(&plain).map(|one| one.plain)
    }

    /// Finds what a compressed layer is made from. If two layers are said to become the same,
    /// with different sizes, at least one of them doesn't.
    fn find(&self, compressed: &Descriptor) -> Result<Option<Compressed>, Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Descriptor { digest, size, .. } = compressed;
        for one in known.values().filter(|one| one.digest == *digest) {
            digest::check_size(&SUBJECT, one.size, Some(*size))
                .map_err(|source| Error::NotAsRecorded { digest: digest.clone(), source })?;
        }
        Ok(known.values().find(|one| one.digest == *digest).cloned())
    }

    /// The plain layers of an image whose compressed digests aren't known, each once.
    #[must_use]
    pub fn unknown(&self, image: &Image) -> Vec<Descriptor> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unknown: Vec<Descriptor> = Vec::new();
        for layer in plain_layers(image) {
            let is_listed = unknown.iter().any(|one| one.digest == layer.digest);
            if !is_listed && !known.contains_key(&layer.digest) {
                unknown.push(layer.clone());
            }
        }
        unknown
    }

    /// The image with its plain layers compressed, of which everything must be known.
    pub fn image(&self, image: &Image) -> Result<Image, Error> {
        if plain_layers(image).next().is_none() {
            return Ok(image.clone());
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.compression.algorithm.name();
        let compress = |layer: &Descriptor| match known.get(&layer.digest) {
            Some(found) if media_type::is_plain_layer(&layer.media_type) => Descriptor {
                media_type: media_type::compressed(&layer.media_type, name),
                digest: found.digest.clone(),
                size: found.size,
                urls: Vec::new(),
            },
            _ => layer.clone(),
        };
        let layers: Vec<Descriptor> = image.manifest().layers().iter().map(compress).collect();
        let subject = format!("`{}`", image.manifest().raw().digest());
        Ok(convert::with_layers(&subject, image, &layers)?)
    }

    /// Prepares to compress a plain layer of which nothing is known.
    pub async fn producible(&self, plain: &Descriptor) -> Result<CompressedLayer, Error> {
        let content = super::local(self.blobs, plain).await?;
        Ok(CompressedLayer { content, compression: self.compression, outcome: Mutex::default() })
    }

    /// Finds out what a plain layer becomes, without keeping it.
    pub async fn precompute(&self, plain: &Descriptor) -> Result<(Digest, u64), Error> {
        let layer = self.producible(plain).await?;
        let mut pieces = layer.open().map_err(|source| unread(plain, source))?;
        while let Some(piece) = pieces.next().await {
            piece.map_err(|source| unread(plain, source))?;
        }
        layer.outcome().ok_or_else(|| unread(plain, io::ErrorKind::UnexpectedEof.into()))
    }
}

impl CompressedLayers<'_> {
    fn known(&self, content: Box<dyn Readable>, layer: &Compressed) -> KnownLayer {
        let (digest, size) = (layer.digest.clone(), layer.size);
        KnownLayer { content, compression: self.compression, digest, size }
    }
}

fn plain_layers(image: &Image) -> impl Iterator<Item = &Descriptor> {
    let layers = image.manifest().layers().iter();
    layers.filter(|layer| media_type::is_plain_layer(&layer.media_type))
}

fn unread(blob: &Descriptor, source: io::Error) -> Error {
    Error::of_content(&blob.digest, source)
}

/// A plain layer that is compressed while it is read.
pub struct CompressedLayer {
    content: Box<dyn Readable>,
    compression: Compression,
    outcome: Mutex<Outcome>,
}

impl Producible for CompressedLayer {
    fn open(&self) -> io::Result<ByteStream> {
        let outcome = Outcome::default();
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&outcome);
        compress::compress(self.content.open(0)?, self.compression, outcome)
    }

    fn outcome(&self) -> Option<(Digest, u64)> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).get().cloned()
    }
}

/// A compressed layer of which the digest and the size are known before it is made.
struct KnownLayer {
    content: Box<dyn Readable>,
    compression: Compression,
    digest: Digest,
    size: u64,
}

impl Readable for KnownLayer {
    fn size(&self) -> u64 {
        self.size
    }

    /// Makes what is before too: a part of it can't be made alone.
    fn open(&self, first: u64) -> io::Result<ByteStream> {
        let outcome = Outcome::default();
        let pieces = compress::compress(self.content.open(0)?, self.compression, outcome.clone())?;
        let (digest, size, mut total) = (self.digest.clone(), self.size, 0);
        let bounded = pieces.map(move |piece| {
            let piece = piece?;
            total += piece.len() as u64;
            // Of a longer one, nothing more is needed to know that it is another.
            let found =
                if total > size { digest::check_size(&SUBJECT, total, Some(size)) } else { Ok(()) };
            found.map_err(|source| not_as_recorded(&digest, source)).map(|()| piece)
        });
        let (digest, size) = (self.digest.clone(), self.size);
        let check = move || {
            let Some((actual, total)) = outcome.get() else { return Ok(()) };
            digest::check(&SUBJECT, actual, *total, &digest, Some(size))
                .map_err(|source| not_as_recorded(&digest, source))
        };
        Ok(skip(guard(bounded.boxed(), check), first))
    }
}

/// What errors call a layer that was compressed.
const SUBJECT: &str = "the compressed layer";

fn not_as_recorded(digest: &Digest, source: digest::Error) -> io::Error {
    io::Error::other(Error::NotAsRecorded { digest: digest.clone(), source })
}

impl Blobs for CompressedLayers<'_> {
    fn fetch_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let digest = &descriptor.digest;
            let Some(layer) = self.find(descriptor)? else {
                return self.blobs.fetch_blob(descriptor, sink).await;
            };
            let content = super::local(self.blobs, &layer.plain).await?;
            super::write_to(sink, &self.known(content, &layer), digest).await
        })
    }

    fn readable(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Readable>>, Error> {
        let Some(layer) = self.find(descriptor)? else {
            return self.blobs.readable(descriptor);
        };
        let content = self.blobs.readable(&layer.plain)?;
        Ok(content.map(|content| -> Box<dyn Readable> { Box::new(self.known(content, &layer)) }))
    }
}
