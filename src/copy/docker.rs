//! Writes docker archives. Layers are written one after another, because the position
//! of the next one is known only when the previous one is decompressed.

use std::path::Path;

use super::{Copier, Error, Region, write_at};
use crate::formats::docker_archive::{DockerArchive, Layer, Name};
use crate::fs::{self as files, OutputFile};
use crate::oci::digest::{self, Digest};
use crate::oci::image::Image;
use crate::source::Blobs;
use crate::stream::decompress::{self, Decompressed, Decompressor};
use crate::stream::sink::Sink;
use crate::stream::tar::padding;

impl Copier<'_> {
    /// Writes `image` into a docker archive, under all of `names`.
    pub async fn to_docker_archive(
        &self,
        image: &Image,
        mut output: OutputFile,
        names: &[Name],
    ) -> Result<(), Error> {
        let archive = DockerArchive::new(image, names)?;
        let path = output.path().to_owned();
        let mut position = 0;
        for layer in archive.layers() {
            position = write_layer(self.blobs, &layer, &mut output, &path, position).await?;
            self.tell(layer.descriptor, false);
        }
        let end = archive.end()?;
        write_at(output.file(), position, &end, &path)?;
        // A layer that was fetched twice may have been longer the first time.
        output
            .file()
            .set_len(position + end.len() as u64)
            .map_err(|source| files::Error::Write { path, source })?;
        Ok(output.commit()?)
    }
}

/// Writes a layer at `start`, and returns the position of the next one.
async fn write_layer(
    blobs: &dyn Blobs,
    layer: &Layer<'_>,
    output: &mut OutputFile,
    path: &Path,
    start: u64,
) -> Result<u64, Error> {
    let file = output.file();
    let mut header = layer.header(0)?;
    loop {
        let content = start + header.len() as u64;
        let size = decompress(blobs, layer, Region::new(file, path, content)).await?.size;
        let expected = header.len();
        header = layer.header(size)?;
        // Only layers of 8 GiB and more need a longer header. Then the layer has to move.
        if header.len() == expected {
            write_at(file, start, &header, path)?;
            let padding = padding(size);
            write_at(file, content + size, &vec![0; padding], path)?;
            return Ok(content + size + padding as u64);
        }
    }
}

/// Fetches a layer, writes its uncompressed bytes to `sink`, and verifies them.
pub(crate) async fn decompress<S: Sink>(
    blobs: &dyn Blobs,
    layer: &Layer<'_>,
    sink: S,
) -> Result<Decompressed<S>, Error> {
    let descriptor = layer.descriptor;
    let mut decompressor = Decompressor::new(sink, layer.diff_id.algorithm());
    blobs.fetch_blob(descriptor, &mut decompressor).await?;
    let digest = descriptor.digest.clone();
    let found = decompressor.finish().map_err(|error| match error {
        decompress::Error::Decode(source) => Error::Decompress { digest, source },
        decompress::Error::Write(source) => Error::Write { digest, source },
    })?;
    check(&descriptor.digest, layer.diff_id, &found.diff_id, found.size)?;
    Ok(found)
}

fn check(layer: &Digest, expected: &Digest, actual: &Digest, size: u64) -> Result<(), Error> {
    digest::check(&"the uncompressed layer", actual, size, expected, None)
        .map_err(|source| Error::DiffId { digest: layer.clone(), source })
}
