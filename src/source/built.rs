//! The image that an image.json describes. Its layers are files, or are made again from
//! their store paths while they are read.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;

use super::{Blobs, Error};
use crate::build::LayerStream;
use crate::formats::convert;
use crate::formats::image_json::ImageJson;
use crate::formats::layers::{Layer, LayerContent, PathRecord};
use crate::oci::digest::{self, Digest};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::stream::compress::Compression;
use crate::stream::readable::{ByteStream, Readable, skip};
use crate::stream::sink::{self, Sink};

/// The time of all files in the Nix store, in seconds since 1970.
const STORE_TIME: i64 = 1;

/// An image that was built or pulled, and described in an image.json.
#[derive(Debug)]
pub struct BuiltImage {
    /// The name of the image.json.
    file: String,
    image: Image,
    layers: HashMap<Digest, Layer>,
}

impl BuiltImage {
    /// The image that `json` describes. `file` is its name in errors. Reads nothing but the
    /// sizes of layers that lack them: upstream leaves those of pulled images out.
    pub fn new(file: &str, mut json: ImageJson) -> Result<Self, Error> {
        for layer in json.layers_mut() {
            if let (0, Some(path)) = (layer.size, &layer.file) {
                let read = |source| crate::fs::Error::Read { path: path.into(), source };
                layer.size = fs::metadata(path).map_err(read)?.len();
            }
        }
        let image = convert::from_image_json(&format!("`{file}`"), &json)?;
        let layers = json.into_layers().into_iter().map(|layer| (layer.digest.clone(), layer));
        Ok(Self { file: file.to_owned(), image, layers: layers.collect() })
    }

    /// What a layer becomes when it is compressed: its digest and its size in bytes, if that
    /// was recorded when it was built, by the same compressor.
    #[must_use]
    pub fn compressed(&self, layer: &Digest, compression: Compression) -> Option<(Digest, u64)> {
        let records = &self.layers.get(layer)?.compressed;
        let by = compression.compressor();
        let found = records.iter().find(|record| record.by == by)?;
        Some((found.digest.clone(), found.size))
    }

    /// The layer that a descriptor points to.
    fn layer(&self, descriptor: &Descriptor) -> Result<&Layer, Error> {
        let layer = self.layers.get(&descriptor.digest);
        layer.filter(|layer| layer.file.is_some() || !layer.paths.is_empty()).ok_or_else(|| {
            let (file, digest) = (self.file.clone(), descriptor.digest.clone());
            Error::NoContent { file, digest }
        })
    }

    /// The image, with the manifest and config that are made from the image.json.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }
}

/// The names of a layer's store paths, or of the first of them if there are many.
fn first_paths(records: &[PathRecord]) -> String {
    const SHOWN: usize = 3;
    let paths = records.iter().take(SHOWN).map(|record| format!("`{}`", record.path));
    let shown = paths.collect::<Vec<_>>().join(", ");
    match records.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Finds the file that was changed last, if any was changed since it was added to the Nix
/// store, where all files have the time 1.
fn newest_file(records: &[PathRecord]) -> Option<String> {
    let mut waiting: Vec<PathBuf> = records.iter().map(|record| (&record.path).into()).collect();
    let mut newest: Option<((i64, i64), PathBuf)> = None;
    while let Some(path) = waiting.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        }
        let time = (found.mtime(), found.mtime_nsec());
        let is_newer = newest.as_ref().is_none_or(|(newest, _)| time > *newest);
        if time.0 > STORE_TIME && is_newer {
            newest = Some((time, path));
        }
    }
    newest.map(|(_, path)| path.display().to_string())
}

impl Blobs for BuiltImage {
    fn fetch_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let layer = self.layer(descriptor)?;
            if let Some(path) = &layer.file {
                let (digest, size) = (&descriptor.digest, descriptor.size);
                return Ok(sink::copy_blob(Path::new(path), digest, size, sink)?);
            }
            super::write_to(sink, &BuiltLayer::of(layer), &descriptor.digest).await
        })
    }

    fn readable(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Readable>>, Error> {
        let layer = self.layer(descriptor)?;
        Ok(Some(match &layer.file {
            Some(path) => Box::new(super::file(Path::new(path), descriptor)?),
            None => Box::new(BuiltLayer::of(layer)),
        }))
    }
}

/// A layer that is made again from its store paths whenever it is read.
#[derive(Clone, Debug)]
struct BuiltLayer {
    digest: Digest,
    size: u64,
    paths: Arc<[PathRecord]>,
    content: LayerContent,
}

impl BuiltLayer {
    fn of(layer: &Layer) -> Self {
        Self {
            digest: layer.digest.clone(),
            size: layer.size,
            paths: layer.paths.clone().into(),
            content: layer.content,
        }
    }

    fn start(&self) -> Result<Pieces, Error> {
        let stream = LayerStream::start(self.paths.to_vec(), self.content)?;
        Ok(Pieces { layer: self.clone(), stream: Some(stream), held: None, total: 0 })
    }
}

impl Readable for BuiltLayer {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, first: u64) -> io::Result<ByteStream> {
        let pieces = self.start().map_err(io::Error::other)?;
        let stream = stream::try_unfold(pieces, |mut pieces| async move {
            let piece = pieces.next().await.map_err(io::Error::other)?;
            Ok(piece.map(|piece| (piece, pieces)))
        });
        Ok(skip(stream.boxed(), first))
    }
}

/// The pieces of a layer. The last one comes only if the layer is what it was.
struct Pieces {
    layer: BuiltLayer,
    /// The archive, until its end.
    stream: Option<LayerStream>,
    held: Option<Bytes>,
    total: u64,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(stream) = &mut self.stream {
            if let Some(piece) = stream.next().await {
                self.total += piece.len() as u64;
                // Of a layer that became longer, the rest is only hashed, for the error.
                if self.total > self.layer.size {
                    continue;
                }
                if let Some(held) = self.held.replace(piece) {
                    return Ok(Some(held));
                }
            } else if let Some(stream) = self.stream.take() {
                let (actual, size) = stream.finish().await?;
                let BuiltLayer { digest, size: expected, paths, .. } = &self.layer;
                if let Err(source) =
                    digest::check(&"the layer", &actual, size, digest, Some(*expected))
                {
                    let (digest, paths) = (digest.clone(), paths.clone());
                    let looking = move || (first_paths(&paths), newest_file(&paths));
                    let (paths, newest) =
                        tokio::task::spawn_blocking(looking).await.unwrap_or_default();
                    return Err(Error::Changed { digest, paths, newest, source });
                }
            }
        }
        Ok(self.held.take())
    }
}
