//! Decompresses layers while they arrive.
//!
//! The first bytes say which compression it is, not the media type (protocol rule 62,
//! containers/image `pkg/compression`). The digest of the output is the layer's diff
//! ID.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::write::MultiGzDecoder;
use zstd::stream::raw::Decoder as ZstdDecoder;
use zstd::stream::zio::Writer as ZstdWriter;

use crate::oci::digest::{Algorithm, Digest, Hasher};
use crate::stream::compress::{GZIP_MAGIC, ZSTD_MAGIC};
use crate::stream::hash_thread::HashThread;
use crate::stream::sink::Sink;

/// A zstd stream may begin with a skippable frame, `0x184D2A5?`.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
/// Compressions that other tools accept but no specification allows: xz, bzip2.
const OTHER_MAGIC: [(&[u8], &str); 2] = [(&[0xfd, b'7', b'z', b'X'], "xz"), (b"BZh", "bzip2")];
/// How many bytes are needed to recognise the compression.
const MAGIC_LENGTH: usize = 4;
/// Takes a layer as served, and writes its uncompressed bytes to `S`.
pub struct Decompressor<S: Sink> {
    output: Shared<S>,
    decoder: Decoder<S>,
    /// The error from the decoder. Bytes are still accepted after it: whether they are
    /// the right ones is known only at the end, and matters more.
    failure: Option<io::Error>,
}

/// The decoder for each compression.
enum Decoder<S: Sink> {
    Unknown(Vec<u8>),
    Plain(Shared<S>),
    Gzip(Box<MultiGzDecoder<Shared<S>>>),
    Zstd(Box<ZstdWriter<Shared<S>, ZstdDecoder<'static>>>),
}

/// Hashes and counts the bytes on their way to the sink.
struct Measured<S> {
    sink: S,
    hasher: HashThread,
    size: u64,
    /// Whether the sink refused more bytes.
    is_full: bool,
}

/// Why a layer could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compressed data is invalid.
    #[error("failed to decompress")]
    Decode(#[source] io::Error),
    /// The uncompressed data could not be written.
    #[error(transparent)]
    Write(io::Error),
}

/// The output, which is shared with the decoder because a decoder does not return its
/// writer in the middle of a stream.
struct Shared<S>(Arc<Mutex<Measured<S>>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Measured<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sink> Write for Shared<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut measured = self.lock();
        let written = measured.sink.write(bytes);
        measured.is_full = written.is_err();
        let count = written?;
        measured.hasher.update(&bytes[..count]);
        measured.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().sink.flush()
    }
}

/// A layer that has been decompressed.
#[derive(Debug)]
pub struct Decompressed<S> {
    /// The sink that its bytes went to.
    pub sink: S,
    /// The digest of its bytes: the diff ID, if the layer is the right one.
    pub diff_id: Digest,
    /// Its uncompressed size in bytes.
    pub size: u64,
}

impl<S: Sink> Decompressor<S> {
    /// Creates a decompressor. The diff ID is computed with `algorithm`.
    pub fn new(sink: S, algorithm: Algorithm) -> Self {
        let hasher = HashThread::new(Hasher::new(algorithm));
        let measured = Measured { sink, hasher, size: 0, is_full: false };
        let output = Shared(Arc::new(Mutex::new(measured)));
        Self { output, decoder: Decoder::Unknown(Vec::new()), failure: None }
    }

    /// Ends the layer. Returns an error if the compressed data is incomplete.
    pub fn finish(mut self) -> Result<Decompressed<S>, Error> {
        if let Some(failure) = self.failure.take() {
            return Err(Error::Decode(failure));
        }
        // The decoder may still have something to write, and the disk may be full.
        self.end().map_err(|error| {
            if self.output.lock().is_full { Error::Write(error) } else { Error::Decode(error) }
        })?;
        self.decoder = Decoder::Unknown(Vec::new());
        let Some(measured) = Arc::into_inner(self.output.0) else {
            return Err(Error::Decode(io::Error::other("the decoder is still writing")));
        };
        let measured = measured.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Measured { sink, hasher, size, .. } = measured;
        Ok(Decompressed { sink, diff_id: hasher.finish().finish(), size })
    }

    fn end(&mut self) -> io::Result<()> {
        if let Decoder::Unknown(start) = &self.decoder {
            let start = start.clone();
            self.begin(&start)?;
        }
        match &mut self.decoder {
            Decoder::Unknown(_) | Decoder::Plain(_) => Ok(()),
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Zstd(decoder) => decoder.finish(),
        }
    }

    /// Chooses the decoder by the first bytes, and passes them on.
    fn begin(&mut self, start: &[u8]) -> io::Result<()> {
        let other = OTHER_MAGIC.iter().find(|(magic, _)| start.starts_with(magic));
        if let Some((_, name)) = other {
            return Err(io::Error::other(format!("layers can't be compressed with {name}")));
        }
        let output = self.output.clone();
        let is_skippable = start.first().is_some_and(|byte| byte & 0xf0 == 0x50)
            && start.get(1..MAGIC_LENGTH) == Some(ZSTD_SKIPPABLE);
        self.decoder = if start.starts_with(GZIP_MAGIC) {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(output)))
        } else if start.starts_with(ZSTD_MAGIC) || is_skippable {
            // The window is at most 128 MiB, zstd's own limit. Only the highest
            // compression levels need more than 8 MiB.
            Decoder::Zstd(Box::new(ZstdWriter::new(output, ZstdDecoder::new()?)))
        } else {
            Decoder::Plain(output)
        };
        let mut rest = start;
        while !rest.is_empty() {
            rest = &rest[self.decode(rest)?..];
        }
        Ok(())
    }
}

impl<S: Sink> Decompressor<S> {
    fn decode(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Decoder::Unknown(start) => {
                let count = bytes.len().min(MAGIC_LENGTH - start.len());
                start.extend_from_slice(&bytes[..count]);
                if start.len() == MAGIC_LENGTH {
                    let start = start.clone();
                    self.begin(&start)?;
                }
                Ok(count)
            }
            Decoder::Plain(output) => output.write(bytes),
            Decoder::Gzip(decoder) => decoder.write(bytes),
            Decoder::Zstd(decoder) => decoder.write(bytes),
        }
    }
}

impl<S: Sink> Write for Decompressor<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Ok(bytes.len());
        }
        match self.decode(bytes) {
            Err(error) if !self.output.lock().is_full => {
                self.failure = Some(error);
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl<S: Sink> Sink for Decompressor<S> {
    fn restart(&mut self) -> io::Result<()> {
        // Drop the old decoder first, because it may still write something.
        self.decoder = Decoder::Unknown(Vec::new());
        self.failure = None;
        let mut measured = self.output.lock();
        measured.hasher.restart();
        (measured.size, measured.is_full) = (0, false);
        measured.sink.restart()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    /// Keeps everything.
    #[derive(Debug, Default)]
    struct Memory(Vec<u8>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Memory {
        fn restart(&mut self) -> io::Result<()> {
            self.0.clear();
            Ok(())
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).expect("memory")
    }

    /// Feeds `bytes` in pieces, after some that were discarded by a restart.
    fn decompress(bytes: &[u8], piece: usize) -> Result<Decompressed<Memory>, Error> {
        let mut layer = Decompressor::new(Memory::default(), Algorithm::Sha256);
        layer.write_all(&bytes[..bytes.len() / 2]).expect("memory");
        layer.restart().expect("memory");
        for piece in bytes.chunks(piece) {
            layer.write_all(piece).expect("memory");
        }
        layer.finish()
    }

    #[test]
    fn rule_62_the_first_bytes_say_what_it_is() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let (start, end) = text.split_at(1000);
        let mut skipped = vec![0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        skipped.extend(zstd(&text));
        for (name, layer) in [
            ("plain", text.clone()),
            ("gzip", gzip(&text)),
            ("gzip of two members", [gzip(start), gzip(end)].concat()),
            ("zstd", zstd(&text)),
            ("zstd of two frames", [zstd(start), zstd(end)].concat()),
            ("zstd behind something to skip", skipped),
        ] {
            for piece in [1, 7, 4096, usize::MAX] {
                let found = decompress(&layer, piece).expect(name);
                assert_eq!(found.sink.0, text, "{name}");
                assert_eq!(found.diff_id, Digest::sha256(&text), "{name}");
                assert_eq!(found.size, text.len() as u64, "{name}");
            }
        }
        for short in ["", "a", "abc"] {
            assert_eq!(decompress(short.as_bytes(), 1).expect("short").sink.0, short.as_bytes());
        }
    }

    #[test]
    fn what_is_cut_off_or_followed_by_garbage_is_an_error() {
        let text = b"a layer of some length, which compresses to something";
        for layer in [gzip(text), zstd(text)] {
            for length in 5..layer.len() {
                assert!(decompress(&layer[..length], 4096).is_err(), "{length} bytes are enough");
            }
            for garbage in [&b"garbage"[..], &[0; 512]] {
                let layer = [&layer, garbage].concat();
                assert!(decompress(&layer, 4096).is_err(), "garbage behind is taken");
            }
        }
    }

    /// Takes this many bytes, and then no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Full {
        fn restart(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // A decoder writes what it still holds at the end.
    #[test]
    fn a_full_disk_is_no_broken_layer() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let mut at_the_end = 0;
        for layer in [gzip(&text), zstd(&text), text.clone()] {
            for room in (0..text.len()).step_by(997) {
                let mut full = Decompressor::new(Full(room), Algorithm::Sha256);
                if full.write_all(&layer).is_ok() {
                    assert!(matches!(full.finish(), Err(Error::Write(_))), "{room} bytes of room");
                    at_the_end += 1;
                }
            }
        }
        assert!(at_the_end > 0, "nothing was written at the end");
    }
}
