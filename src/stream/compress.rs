//! Compresses layers to the same bytes each time, on every machine.
//!
//! Registries know a layer by the digest of its compressed bytes. So that an unchanged layer
//! keeps it, everything that the bytes depend on is fixed: the library and its version, the
//! level, one thread, and the size of the pieces that the compressor is given.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use flate2::{GzBuilder, write::GzEncoder};
use futures_util::StreamExt as _;
use futures_util::stream;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::oci::digest::{Algorithm as HashAlgorithm, Digest, Hasher};
use crate::stream::readable::ByteStream;

/// How many bytes the compressor is given at once.
const PIECE: usize = 256 << 10;
pub(super) const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
pub(super) const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// "Unknown" in the header of a gzip file (RFC 1952 section 2.3.1), which otherwise names
/// the operating system.
const UNKNOWN_SYSTEM: u8 = 255;
/// The version of zlib-rs, which Cargo.toml pins.
const ZLIB_VERSION: &str = "0.6.8";

/// A compression of layers (OCI image-spec layer.md).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// gzip, which everything reads.
    Gzip,
    /// zstd: faster and smaller, but unknown to docker before 23.0.
    Zstd,
}

impl Algorithm {
    /// The algorithm that a file was compressed with, by its first four bytes.
    #[must_use]
    pub fn of_beginning(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(GZIP_MAGIC) {
            Some(Self::Gzip)
        } else {
            bytes.starts_with(ZSTD_MAGIC).then_some(Self::Zstd)
        }
    }

    /// Its name in options and in media types.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The level to use if none is asked for: beyond it, programs and libraries become only a
    /// little smaller, and take much longer.
    #[must_use]
    pub const fn default_level(self) -> u8 {
        match self {
            Self::Gzip => 3,
            Self::Zstd => 2,
        }
    }

    /// The highest level.
    #[must_use]
    pub const fn highest_level(self) -> u8 {
        match self {
            Self::Gzip => 9,
            Self::Zstd => 19,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A compression and its level.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Compression {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Its level, from 1 to [`Algorithm::highest_level`].
    pub level: u8,
}

impl Compression {
    /// A compression at its usual level.
    #[must_use]
    pub const fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, level: algorithm.default_level() }
    }

    /// What the compressed bytes depend on: the library, its version and the level. Bytes
    /// made by something else are other bytes.
    #[must_use]
    pub fn compressor(&self) -> String {
        let Self { algorithm, level } = self;
        match algorithm {
            Algorithm::Gzip => format!("n2c zlib-rs-{ZLIB_VERSION} level {level}"),
            Algorithm::Zstd => {
                format!("n2c zstd-{} level {level}", zstd::zstd_safe::version_string())
            }
        }
    }
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(Compression { algorithm, level }: Compression) -> io::Result<Self> {
        Ok(match algorithm {
            Algorithm::Gzip => {
                let level = flate2::Compression::new(level.into());
                let header = GzBuilder::new().operating_system(UNKNOWN_SYSTEM);
                Self::Gzip(header.write(Vec::new(), level))
            }
            Algorithm::Zstd => Self::Zstd(ZstdEncoder::new(Vec::new(), level.into())?),
        })
    }

    /// Compresses a piece, and returns what has been made so far.
    fn add(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        let made = match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(made))
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Compresses bytes in pieces of one size, however they arrive, and hashes the result.
struct Compressor {
    /// What is not compressed yet.
    gathered: BytesMut,
    encoder: Encoder,
    hasher: Hasher,
    size: u64,
}

impl Compressor {
    fn new(compression: Compression) -> io::Result<Self> {
        let (gathered, encoder) = (BytesMut::new(), Encoder::new(compression)?);
        Ok(Self { gathered, encoder, hasher: Hasher::new(HashAlgorithm::Sha256), size: 0 })
    }

    /// Takes bytes, and returns what could be compressed so far.
    fn add(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.gathered.extend_from_slice(bytes);
        let mut made = Vec::new();
        while self.gathered.len() >= PIECE {
            let piece = self.gathered.split_to(PIECE);
            made.extend(self.encoder.add(&piece)?);
        }
        self.hasher.update(&made);
        self.size += made.len() as u64;
        Ok(made)
    }

    /// Returns the rest, and the digest and the size of all of it.
    fn finish(self) -> io::Result<(Vec<u8>, (Digest, u64))> {
        let Self { gathered, mut encoder, mut hasher, size } = self;
        let mut made = encoder.add(&gathered)?;
        made.extend(encoder.finish()?);
        hasher.update(&made);
        let size = size + made.len() as u64;
        Ok((made, (hasher.finish(), size)))
    }
}

/// Finds out what bytes compress to, without keeping it.
pub struct CompressedHash(Compressor);

impl CompressedHash {
    /// Nothing, so far.
    pub fn new(compression: Compression) -> io::Result<Self> {
        Compressor::new(compression).map(Self)
    }

    /// The digest of the compressed bytes, and their number.
    pub fn finish(self) -> io::Result<(Digest, u64)> {
        Ok(self.0.finish()?.1)
    }
}

impl Write for CompressedHash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.add(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest and the size in bytes of something that is known once it was made.
pub type Outcome = Arc<OnceLock<(Digest, u64)>>;

/// Compresses `content`. When the result has been read to its end, `outcome` says what it is.
pub fn compress(
    content: ByteStream,
    compression: Compression,
    outcome: Outcome,
) -> io::Result<ByteStream> {
    let compressor = Some(Compressor::new(compression)?);
    let state = State { content, compressor, outcome };
    let pieces = stream::try_unfold(state, |mut state| async move {
        Ok(state.next().await?.map(|piece| (piece, state)))
    });
    Ok(pieces.boxed())
}

struct State {
    content: ByteStream,
    /// The compressor, until the end.
    compressor: Option<Compressor>,
    outcome: Outcome,
}

impl State {
    /// The next piece of the result, which is not empty.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(mut compressor) = self.compressor.take() {
            let piece = self.content.next().await.transpose()?;
            // Beside the thread that talks to the network.
            let work = move || match piece {
                Some(piece) => compressor.add(&piece).map(|made| (made, Some(compressor), None)),
                None => compressor.finish().map(|(made, outcome)| (made, None, Some(outcome))),
            };
            let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
            let (made, compressor, outcome) = done?;
            self.compressor = compressor;
            if let Some(outcome) = outcome {
                // Whoever reads it a second time gets the same.
                let _ = self.outcome.set(outcome);
            }
            if !made.is_empty() {
                return Ok(Some(made.into()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::TryStreamExt as _;

    use super::*;

    fn run(bytes: &[u8], pieces: usize, compression: Compression) -> (Vec<u8>, (Digest, u64)) {
        let chunks: Vec<io::Result<Bytes>> =
            bytes.chunks(pieces).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let outcome = Outcome::default();
        let stream = compress(stream::iter(chunks).boxed(), compression, outcome.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let made = runtime.block_on(stream.expect("a stream").try_collect::<Vec<_>>());
        (made.expect("compressed").concat(), outcome.get().expect("an outcome").clone())
    }

    /// Text that compresses, but not to nothing.
    fn text() -> Vec<u8> {
        let mut state = 1_u32;
        let mut word = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{} ", state >> 20)
        };
        (0..200_000).flat_map(|_| word().into_bytes()).collect()
    }

    // What a layer compresses to is recorded and compared across machines. If this fails
    // after an update of a library, its version in `compressor` must change too.
    #[test]
    fn the_same_bytes_compress_to_the_same_bytes() {
        let text = text();
        assert_eq!(Digest::sha256(&text).short(), "4130b2eb3dd2");
        for (algorithm, expected) in
            [(Algorithm::Gzip, "4e69430d4f2a"), (Algorithm::Zstd, "be9db2445a47")]
        {
            let compression = Compression::new(algorithm);
            let (made, outcome) = run(&text, 1 << 20, compression);
            assert_eq!(outcome, (Digest::sha256(&made), made.len() as u64));
            assert_eq!(outcome.0.short(), expected, "{}", compression.compressor());
            // However the bytes arrive.
            for pieces in [1 << 10, 100_003, PIECE, PIECE + 1] {
                assert_eq!(run(&text, pieces, compression).1, outcome, "{algorithm} {pieces}");
            }
            // Whether they are kept or not.
            let mut hash = CompressedHash::new(compression).expect("an encoder");
            text.chunks(70_001).for_each(|chunk| hash.write_all(chunk).expect("compressed"));
            assert_eq!(hash.finish().expect("a hash"), outcome, "{algorithm}");
            let mut read = Vec::new();
            match algorithm {
                Algorithm::Gzip => flate2::read::GzDecoder::new(&made[..]).read_to_end(&mut read),
                Algorithm::Zstd => {
                    zstd::Decoder::new(&made[..]).expect("a decoder").read_to_end(&mut read)
                }
            }
            .expect("decompressed");
            assert!(read == text, "{algorithm}: other bytes");
        }
    }

    #[test]
    fn nothing_compresses_to_an_empty_file() {
        for algorithm in [Algorithm::Gzip, Algorithm::Zstd] {
            let (made, (_, size)) = run(&[], 1, Compression::new(algorithm));
            assert_eq!(made.len() as u64, size);
            assert!(!made.is_empty());
        }
    }

    #[test]
    fn the_compressors_version_is_the_one_in_use() {
        let lock = include_str!("../../Cargo.lock");
        let pinned = format!("name = \"zlib-rs\"\nversion = \"{ZLIB_VERSION}\"\n");
        assert!(lock.contains(&pinned));
    }
}
