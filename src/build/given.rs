//! Layers that are given as tar archives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::Error;
use crate::formats::layers::{History, Layer, LayerContent};
use crate::oci::digest::{self, Digest, Hasher};
use crate::oci::media_type;
use crate::stream::compress::Algorithm;

/// Hashes and counts what is read.
struct Measured<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R> Measured<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new(digest::Algorithm::Sha256), size: 0 }
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

/// Describes the tar archive at `path`, which may be compressed with gzip or zstd, as a layer
/// that stays in its file.
pub fn layer_from_tar(path: &str, history: History) -> Result<Layer, Error> {
    let failed = |source| Error::Tar { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(failed)?;
    let file = File::open(Path::new(path)).map_err(failed)?;
    let mut file = Measured::new(BufReader::new(file));
    let algorithm = Algorithm::of_beginning(&magic);
    let diff_id = match algorithm {
        Some(Algorithm::Gzip) => diff_id(flate2::read::MultiGzDecoder::new(&mut file)),
        Some(Algorithm::Zstd) => diff_id(zstd::Decoder::new(&mut file).map_err(failed)?),
        None => diff_id(&mut file),
    };
    let diff_id = diff_id.map_err(failed)?;
    let plain = media_type::OCI_LAYER;
    io::copy(&mut file, &mut io::sink()).map_err(failed)?;
    Ok(Layer {
        digest: file.hasher.finish(),
        size: file.size,
        diff_id,
        compressed: Vec::new(),
        paths: Vec::new(),
        content: LayerContent::Files,
        annotations: BTreeMap::new(),
        media_type: algorithm
            .map_or(plain.to_owned(), |one| media_type::compressed(plain, one.name())),
        file: Some(path.to_owned()),
        history,
    })
}

/// The digest of an archive, which must be one to its end.
fn diff_id(plain: impl Read) -> io::Result<Digest> {
    let mut plain = Measured::new(plain);
    let mut archive = tar::Archive::new(&mut plain);
    for entry in archive.entries()? {
        entry?;
    }
    io::copy(&mut plain, &mut io::sink())?;
    Ok(plain.hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn archives_are_described_as_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(4);
        archive.append_data(&mut header, "text", &b"text"[..]).expect("added");
        let plain = archive.into_inner().expect("an archive");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("compressed");
        let gzip = gzip.finish().expect("compressed");
        let zstd = zstd::encode_all(&plain[..], 1).expect("compressed");
        for (bytes, suffix) in [(&plain, "tar"), (&gzip, "tar+gzip"), (&zstd, "tar+zstd")] {
            let path = directory.path().join("layer").display().to_string();
            std::fs::write(&path, bytes).expect("written");
            let layer = layer_from_tar(&path, History::default()).expect("a layer");
            assert_eq!((layer.digest, layer.size), (Digest::sha256(bytes), bytes.len() as u64));
            assert_eq!(layer.diff_id, Digest::sha256(&plain));
            assert!(layer.media_type.ends_with(suffix), "{}", layer.media_type);
            assert_eq!(layer.file, Some(path.clone()));
            // Cut off, and nothing of the kind.
            std::fs::write(&path, &bytes[..bytes.len() / 3]).expect("written");
            layer_from_tar(&path, History::default()).expect_err("a part");
            std::fs::write(&path, "not an archive".repeat(100)).expect("written");
            layer_from_tar(&path, History::default()).expect_err("text");
        }
    }
}
