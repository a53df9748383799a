//! Bytes that can be read more than once.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::oci::digest::{self, Digest, Hasher};
use crate::oci::manifest::Descriptor;

/// How many bytes of a file are read at once.
const PIECE: u64 = 128 << 10;

/// Chunks of bytes, until the end or an error.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Bytes of a known number that can be read any number of times: an upload that failed
/// begins again, and several clients may fetch the same blob.
pub trait Readable: Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Starts reading at the byte with the number `first`.
    fn open(&self, first: u64) -> io::Result<ByteStream>;
}

impl Readable for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn open(&self, first: u64) -> io::Result<ByteStream> {
        let first = usize::try_from(first).map_or(self.len(), |first| first.min(self.len()));
        Ok(stream::iter([Ok(self.slice(first..))]).boxed())
    }
}

/// A regular file, which is opened whenever it is read.
#[derive(Clone, Debug)]
pub struct ReadableFile {
    path: PathBuf,
    size: u64,
}

impl ReadableFile {
    /// Returns the file at `path`. Anything else than a regular file is an error, because
    /// opening a pipe would block.
    pub fn new(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        if !found.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { path: path.to_owned(), size: found.len() })
    }
}

impl Readable for ReadableFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, first: u64) -> io::Result<ByteStream> {
        let file = Arc::new(File::open(&self.path)?);
        let size = self.size;
        let pieces = stream::try_unfold((file, first), move |(file, at)| async move {
            let left = size.saturating_sub(at);
            if left == 0 {
                return Ok(None);
            }
            let reading = file.clone();
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or(0)];
                // A file that has become shorter is an error.
                reading.read_exact_at(&mut piece, at).map(|()| piece)
            });
            let piece = read.await.map_err(io::Error::other)??;
            let next = at + piece.len() as u64;
            Ok(Some((Bytes::from(piece), (file, next))))
        });
        Ok(pieces.boxed())
    }
}

/// A blob in a file, or in a part of one, which is verified whenever it is read from its
/// beginning to its end: the last bytes come only if all of them are right.
#[derive(Clone, Debug)]
pub struct VerifiedFile {
    file: Arc<File>,
    start: u64,
    size: u64,
    digest: Digest,
}

impl VerifiedFile {
    /// Opens the regular file at `path`, which must have the size that `blob` has.
    pub fn new(path: &Path, blob: &Descriptor) -> io::Result<Self> {
        // To open a pipe would wait for somebody to write into it.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let subject = format!("blob `{}`", path.display());
        digest::check_size(&subject, size, Some(blob.size)).map_err(io::Error::other)?;
        Ok(Self::part_of(Arc::new(file), 0, blob.digest.clone(), size))
    }

    /// The `size` bytes of `file` that begin at `start`.
    #[must_use]
    pub const fn part_of(file: Arc<File>, start: u64, digest: Digest, size: u64) -> Self {
        Self { file, start, size, digest }
    }
}

impl Readable for VerifiedFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, first: u64) -> io::Result<ByteStream> {
        let hasher = (first == 0).then(|| Hasher::new(self.digest.algorithm()));
        let state = (self.clone(), first, hasher);
        let pieces = stream::try_unfold(state, |(blob, at, hasher)| async move {
            let left = blob.size.saturating_sub(at);
            if left == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || blob.read(at, left, hasher));
            read.await.map_err(io::Error::other)?.map(Some)
        });
        Ok(pieces.boxed())
    }
}

impl VerifiedFile {
    /// Reads and hashes a piece. Of the last one, the hash must be right.
    #[allow(clippy::type_complexity, reason = "the state of the stream above")]
    fn read(
        self,
        at: u64,
        left: u64,
        mut hasher: Option<Hasher>,
    ) -> io::Result<(Bytes, (Self, u64, Option<Hasher>))> {
        let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or(0)];
        self.file.read_exact_at(&mut piece, self.start + at)?;
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        let next = at + piece.len() as u64;
        if let Some(hasher) = hasher.take_if(|_| next == self.size) {
            digest::check(&"the blob", &hasher.finish(), self.size, &self.digest, None)
                .map_err(io::Error::other)?;
        }
        Ok((Bytes::from(piece), (self, next, hasher)))
    }
}

/// Bytes that are made while they are read, and of which nobody knows the number before.
pub trait Producible: Send + Sync {
    /// Starts making them.
    fn open(&self) -> io::Result<ByteStream>;

    /// Their digest and number, once they have been read to the end.
    fn outcome(&self) -> Option<(Digest, u64)>;
}

/// Passes a stream on, but its last piece only if `check` agrees at the end.
pub fn guard<F>(stream: ByteStream, check: F) -> ByteStream
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    let state = (stream, None::<Bytes>, Some(check));
    let pieces = stream::try_unfold(state, |(mut stream, mut held, mut check)| async move {
        while let Some(piece) = stream.next().await {
            if let Some(before) = held.replace(piece?) {
                return Ok(Some((before, (stream, held, check))));
            }
        }
        check.take().map_or(Ok(()), |check| check())?;
        Ok(held.take().map(|last| (last, (stream, held, check))))
    });
    pieces.boxed()
}

/// Leaves out the first `count` bytes of a stream.
#[must_use]
pub fn skip(stream: ByteStream, count: u64) -> ByteStream {
    if count == 0 {
        return stream;
    }
    let pieces = stream::try_unfold((stream, count), |(mut stream, mut left)| async move {
        while let Some(piece) = stream.next().await {
            let mut piece = piece?;
            let left_out = left.min(piece.len() as u64);
            left -= left_out;
            piece.advance(usize::try_from(left_out).unwrap_or(usize::MAX));
            if !piece.is_empty() {
                return Ok(Some((piece, (stream, left))));
            }
        }
        Ok(None)
    });
    pieces.boxed()
}

/// Cuts a stream after `length` bytes.
#[must_use]
pub fn take(stream: ByteStream, length: u64) -> ByteStream {
    let pieces = stream::unfold((stream, length), |(mut stream, left)| async move {
        if left == 0 {
            return None;
        }
        let piece = stream.next().await?.map(|mut piece| {
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            piece
        });
        let left = left - piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Some((piece, (stream, left)))
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    fn read(content: &dyn Readable, first: u64, length: u64) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let stream = take(content.open(first).expect("a stream"), length);
        let pieces = runtime.expect("a runtime").block_on(stream.try_collect::<Vec<Bytes>>());
        pieces.expect("bytes").concat()
    }

    #[test]
    fn parts_of_memory_and_files_are_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        fs::write(&path, &bytes).expect("written");
        let file = ReadableFile::new(&path).expect("a file");
        let memory = Bytes::from(bytes.clone());
        assert_eq!((file.size(), memory.size()), (300_000, 300_000));
        for (first, length) in [(0, 300_000), (0, 1), (131_071, 2), (299_999, 5), (300_000, 1)] {
            let start = usize::try_from(first).expect("small");
            let end = usize::try_from((first + length).min(300_000)).expect("small");
            assert_eq!(read(&file, first, length), &bytes[start..end]);
            assert_eq!(read(&memory, first, length), &bytes[start..end]);
        }
        assert!(ReadableFile::new(directory.path()).is_err());
        let blob = |digest: Digest, size: u64| Descriptor {
            media_type: String::new(),
            digest,
            size,
            urls: Vec::new(),
        };
        let right = blob(Digest::sha256(&bytes), 300_000);
        let verified = VerifiedFile::new(&path, &right).expect("a file");
        assert_eq!(read(&verified, 0, 300_000), bytes);
        assert_eq!(read(&verified, 131_071, 2), &bytes[131_071..131_073]);
        assert!(VerifiedFile::new(&path, &blob(Digest::sha256(b""), 1)).is_err());
        assert!(VerifiedFile::new(directory.path(), &right).is_err());
        let wrong = VerifiedFile::new(&path, &blob(Digest::sha256(b""), 300_000));
        let stream = wrong.expect("a file").open(0).expect("a stream");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let pieces: Vec<_> = runtime.expect("a runtime").block_on(stream.collect());
        let length: usize = pieces.iter().flatten().map(Bytes::len).sum();
        assert!(length < 300_000, "the last bytes of the wrong blob were read");
        assert!(pieces.last().is_some_and(Result::is_err));
    }
}
