//! Destinations for a blob while it arrives.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crate::error::{Diagnose, Kind};
use crate::fs::{self, OutputFile};
use crate::oci::digest::{self, Digest, Hasher};
use crate::stream::hash_thread::HashThread;

/// How many bytes of a file to copy at once.
const PIECE: usize = 64 << 10;
/// How many bytes to write before the disk is asked to store them.
const DIRTY: usize = 32 << 20;

/// Takes a blob piece by piece, and can start over if the blob has to be sent again
/// because the transfer broke off or was wrong.
pub trait Sink: Write + Send {
    /// Discards everything that was written.
    fn restart(&mut self) -> io::Result<()>;

    /// Returns the underlying file, if it contains the blob and nothing else.
    fn whole_file(&mut self) -> Option<&mut File> {
        None
    }

    /// Returns a writer for another thread, starting at the current position. Flush it
    /// when done, and don't write to the sink meanwhile.
    fn writer(&mut self) -> io::Result<Option<Box<dyn Write + Send>>> {
        Ok(None)
    }
}

impl Sink for File {
    fn restart(&mut self) -> io::Result<()> {
        self.seek(SeekFrom::Start(0))?;
        // ext4 writes a file to the disk on close if it was ever truncated, even if it
        // was empty.
        if self.metadata()?.len() > 0 { self.set_len(0) } else { Ok(()) }
    }

    fn whole_file(&mut self) -> Option<&mut File> {
        Some(self)
    }

    fn writer(&mut self) -> io::Result<Option<Box<dyn Write + Send>>> {
        Ok(Some(Box::new(self.try_clone()?)))
    }
}

/// Writes to a file from another thread. Errors say which file it is.
pub(crate) struct Located<W, F> {
    pub(crate) inner: W,
    pub(crate) failure: F,
}

impl<W: Write, F: Fn(io::Error) -> io::Error> Write for Located<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).map_err(&self.failure)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(&self.failure)
    }
}

/// A file that is synced to the disk while more is written, so that there is less to
/// wait for at the end.
struct SyncedFile {
    file: File,
    /// How many bytes were written since the last sync began.
    dirty: usize,
    sync: Option<JoinHandle<io::Result<()>>>,
}

impl Write for SyncedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.dirty += count;
        if self.dirty >= DIRTY && self.sync.as_ref().is_none_or(JoinHandle::is_finished) {
            self.flush()?;
            let file = self.file.try_clone()?;
            self.sync = Some(thread::spawn(move || file.sync_data()));
            self.dirty = 0;
        }
        Ok(count)
    }

    /// Waits for the sync. The system reports a write error only once, to whoever asks
    /// first, so it must not get lost.
    fn flush(&mut self) -> io::Result<()> {
        let Some(sync) = self.sync.take() else { return Ok(()) };
        sync.join().map_err(|_| io::Error::other("the thread that writes to the disk panicked"))?
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file().write(bytes);
        written.map_err(|source| self.failure()(source))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush().map_err(|source| self.failure()(source))
    }
}

impl Sink for OutputFile {
    fn restart(&mut self) -> io::Result<()> {
        self.file().restart().map_err(|source| self.failure()(source))
    }

    fn whole_file(&mut self) -> Option<&mut File> {
        Some(self.file())
    }

    fn writer(&mut self) -> io::Result<Option<Box<dyn Write + Send>>> {
        let failure = self.failure();
        let file = self.file().try_clone().map_err(&failure)?;
        if self.is_synced() {
            let inner = SyncedFile { file, dirty: 0, sync: None };
            return Ok(Some(Box::new(Located { inner, failure })));
        }
        Ok(Some(Box::new(Located { inner: file, failure })))
    }
}

/// A part of a file that begins at some position. Several parts may be written at once.
#[derive(Debug)]
pub struct Region<'a> {
    file: &'a File,
    /// The path that the file will have, for messages.
    path: &'a Path,
    start: u64,
    length: u64,
    /// How many bytes fit before something else begins.
    limit: Option<u64>,
}

impl<'a> Region<'a> {
    /// The part of `file` that begins at `start`. The file will be at `path`.
    #[must_use]
    pub const fn new(file: &'a File, path: &'a Path, start: u64) -> Self {
        Self { file, path, start, length: 0, limit: None }
    }

    /// Like [`Region::new`], but for at most `limit` bytes.
    #[must_use]
    pub const fn bounded(file: &'a File, path: &'a Path, start: u64, limit: u64) -> Self {
        Self { file, path, start, length: 0, limit: Some(limit) }
    }
}

impl Write for Region<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.length.saturating_add(bytes.len() as u64);
        if self.limit.is_some_and(|limit| end > limit) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self
            .file
            .write_at(bytes, self.start + self.length)
            .map_err(|source| fs::at(self.path, source))?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Region<'_> {
    fn restart(&mut self) -> io::Result<()> {
        self.length = 0;
        Ok(())
    }
}

/// Hashes a blob as a part of something larger, and keeps nothing.
#[derive(Debug)]
pub struct HashSink(HashThread);

impl HashSink {
    /// Continues the hash of what comes before the blob.
    #[must_use]
    pub fn new(before: Hasher) -> Self {
        Self(HashThread::new(before))
    }

    /// Returns the hash of what comes before the blob and of the blob.
    #[must_use]
    pub fn into_hasher(self) -> Hasher {
        self.0.finish()
    }
}

impl Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for HashSink {
    fn restart(&mut self) -> io::Result<()> {
        self.0.restart();
        Ok(())
    }
}

/// Discards everything.
#[derive(Debug, Default)]
pub struct NullSink;

impl Write for NullSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for NullSink {
    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a blob on disk could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The blob can't be read.
    #[error(transparent)]
    Read(fs::Error),
    /// The copy can't be written.
    #[error("failed to write a copy of `{}`", path.display())]
    Write {
        /// The path of the blob.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// The blob has another digest or size.
    #[error(transparent)]
    Digest(#[from] digest::Error),
}

impl Diagnose for CopyError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Write { .. } => Kind::Other,
            Self::Digest(error) => error.kind(),
        }
    }
}

/// Copies a blob of any size from a file into `sink`, and verifies it.
pub fn copy_blob(
    path: &Path,
    digest: &Digest,
    size: u64,
    sink: &mut dyn Sink,
) -> Result<(), CopyError> {
    let read = |source| CopyError::Read(fs::Error::Read { path: path.to_owned(), source });
    // To open a pipe would wait for somebody to write into it.
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(read(io::Error::other("it is not a regular file")));
    }
    let mut blob = File::open(path).map_err(read)?;
    let mut hasher = Hasher::new(digest.algorithm());
    let (mut buffer, mut total) = (vec![0; PIECE], 0);
    loop {
        let count = blob.read(&mut buffer).map_err(read)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        sink.write_all(&buffer[..count])
            .map_err(|source| CopyError::Write { path: path.to_owned(), source })?;
        total += count as u64;
    }
    let subject = format!("blob `{}`", path.display());
    Ok(digest::check(&subject, &hasher.finish(), total, digest, Some(size))?)
}
