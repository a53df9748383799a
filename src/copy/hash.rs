//! The hashes that Nix's pull functions need, computed without writing the image to disk.

use std::collections::BTreeMap;

use super::directory::VERSION;
use super::docker::decompress;
use super::{Copier, Error};
use crate::formats::content::Content;
use crate::formats::docker_archive::{DockerArchive, Layer, Name};
use crate::oci::digest::{Algorithm, Digest, Hasher};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::oci::media_type;
use crate::store::nar::NarWriter;
use crate::stream::sink::{HashSink, NullSink};
use crate::stream::tar::padding;

/// A gzip file ends with the length of its uncompressed content, in this many bytes
/// (RFC 1952 section 2.3.1).
const GZIP_LENGTH: u64 = 4;

impl Copier<'_> {
    /// Returns the NAR hash of the directory that [`Copier::to_directory`] writes: the
    /// `sha256` of nix2container's `pullImage`. A NAR sorts its files by name, so blobs
    /// are fetched one after another.
    pub async fn directory_hash(&self, image: &Image) -> Result<Digest, Error> {
        let manifest = image.manifest();
        let mut files: BTreeMap<&str, Content<'_>> =
            manifest.blobs().map(|blob| (blob.digest.hex(), Content::ToFetch(blob))).collect();
        files.insert("manifest.json", Content::Here(manifest.raw().bytes().into()));
        files.insert("version", Content::Here(VERSION.as_bytes().into()));

        let mut nar = NarWriter::new(Hasher::new(Algorithm::Sha256)).map_err(Error::Hash)?;
        nar.directory().map_err(Error::Hash)?;
        for (name, content) in files {
            let size = content.size();
            nar.entry(name.as_bytes()).and_then(|()| nar.file(size, false)).map_err(Error::Hash)?;
            match content {
                Content::Here(bytes) => nar.get_mut().update(&bytes),
                Content::ToFetch(blob) => {
                    let mut sink = HashSink::new(nar.get_mut().clone());
                    self.blobs.fetch_blob(blob, &mut sink).await?;
                    *nar.get_mut() = sink.into_hasher();
                    self.tell(blob, false);
                }
            }
            nar.file_end(size).and_then(|()| nar.end()).map_err(Error::Hash)?;
        }
        nar.end().map_err(Error::Hash)?;
        Ok(nar.into_inner().finish())
    }

    /// Returns the hash of the file that [`Copier::to_docker_archive`] writes: the `hash`
    /// of nixpkgs' `dockerTools.pullImage`.
    pub async fn docker_archive_hash(
        &self,
        image: &Image,
        names: &[Name],
    ) -> Result<Digest, Error> {
        let archive = DockerArchive::new(image, names)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for layer in archive.layers() {
            hasher = self.hash_layer(&layer, hasher).await?;
            self.tell(layer.descriptor, false);
        }
        hasher.update(&archive.end()?);
        Ok(hasher.finish())
    }

    /// Adds a layer to the hash of everything before it. The header needs the
    /// uncompressed size, which is known only at the end: guess it, and fetch the layer
    /// again if the guess was wrong.
    async fn hash_layer(&self, layer: &Layer<'_>, before: Hasher) -> Result<Hasher, Error> {
        let mut size = match self.guess_size(layer.descriptor).await {
            Some(size) => size,
            None => decompress(self.blobs, layer, NullSink).await?.size,
        };
        loop {
            let mut hasher = before.clone();
            hasher.update(&layer.header(size)?);
            let found = decompress(self.blobs, layer, HashSink::new(hasher)).await?;
            if found.size == size {
                let mut hasher = found.sink.into_hasher();
                hasher.update(&vec![0; padding(size)]);
                return Ok(hasher);
            }
            size = found.size;
        }
    }

    /// Guesses the uncompressed size of a layer. The guess is right for uncompressed
    /// layers and for gzip files of one member below 4 GiB, which nearly all layers
    /// are.
    async fn guess_size(&self, layer: &Descriptor) -> Option<u64> {
        match media_type::oci_layer(&layer.media_type)?.rsplit(['.', '+']).next()? {
            "tar" => return Some(layer.size),
            "gzip" => {}
            _ => return None,
        }
        let end = self.blobs.end_of_blob(layer, GZIP_LENGTH).await?;
        Some(u32::from_le_bytes(end.try_into().ok()?).into())
    }
}
