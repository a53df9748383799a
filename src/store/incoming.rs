//! Blobs that go into a store while they arrive.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::add::{AddError, command_add, compare};
use super::daemon::{Daemon, FRAME, Frames};
use super::path::StorePath;
use crate::digest::{Algorithm, Digest};
use crate::sink::Sink;

/// How much of a blob is held back from the daemon, in bytes: what is killed within
/// its `nar-buffer-size`, 32 MiB, the daemon takes to be whole, and adds it (Nix
/// `src/libstore/local-store.cc`, `addToStoreFromDump`).
const HELD: u64 = 64 << 20;

/// A blob on its way into a store, which has nothing of it before
/// [`IncomingBlob::finish`]: only then its bytes are known to be the right ones.
pub struct IncomingBlob(Destination);

enum Destination {
    Daemon(SharedUpload),
    /// For `nix-store`, which names it as the file is named.
    File {
        directory: TempDir,
        named: PathBuf,
        file: File,
        algorithm: Algorithm,
    },
}

/// What the daemon is told, on whichever thread.
#[derive(Clone)]
struct SharedUpload(Arc<Mutex<Upload>>);

struct Upload {
    socket: PathBuf,
    digest: Digest,
    held: File,
    length: u64,
    /// Where the blob goes from when it is longer than what is held back.
    stream: Option<(Daemon, Frames)>,
}

impl Upload {
    /// Tells the daemon of the blob, and of what was held back.
    fn begin(&mut self) -> io::Result<&mut (Daemon, Frames)> {
        let mut daemon = Daemon::connect(&self.socket)?;
        let (name, algorithm) = (self.digest.hex(), self.digest.algorithm().name());
        daemon.begin(name, &format!("fixed:{algorithm}"))?;
        let frames = daemon.frames()?;
        let stream = self.stream.insert((daemon, frames));
        self.held.seek(SeekFrom::Start(0))?;
        let mut buffered = BufWriter::with_capacity(FRAME, &mut stream.1);
        io::copy(&mut self.held, &mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        Ok(stream)
    }

    fn end(&mut self) -> io::Result<String> {
        if self.stream.is_none() {
            self.begin()?;
        }
        match self.stream.take() {
            Some((mut daemon, _)) => daemon.end(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = if self.stream.is_none() && self.length < HELD {
            self.held.write(bytes)?
        } else {
            self.pass_on(bytes).map_err(|source| self.failed(source))?
        };
        self.length += count as u64;
        Ok(count)
    }

    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some((_, frames)) => frames.write(bytes),
            None => self.begin()?.1.write(bytes),
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.abandon();
        self.length = 0;
        self.held.restart()
    }

    /// Makes the daemon forget what it has heard.
    fn abandon(&mut self) {
        if let Some((_, mut frames)) = self.stream.take() {
            // Where it can't be told, it is gone.
            let _ = frames.spoil();
        }
    }

    /// A failure at the daemon, as it is told where it happens at the end.
    fn failed(&self, source: io::Error) -> io::Error {
        let (kind, socket) = (source.kind(), self.socket.clone());
        io::Error::new(kind, AddError::Daemon { socket, source })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl SharedUpload {
    fn lock(&self) -> MutexGuard<'_, Upload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for SharedUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl IncomingBlob {
    pub(super) fn daemon(socket: &Path, digest: &Digest) -> io::Result<Self> {
        let (socket, digest, held) = (socket.to_owned(), digest.clone(), tempfile::tempfile()?);
        let upload = Upload { socket, digest, held, length: 0, stream: None };
        Ok(Self(Destination::Daemon(SharedUpload(Arc::new(Mutex::new(upload))))))
    }

    pub(super) fn file(digest: &Digest) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let named = directory.path().join(digest.hex());
        let file = File::options().read(true).write(true).create_new(true).open(&named)?;
        let algorithm = digest.algorithm();
        Ok(Self(Destination::File { directory, named, file, algorithm }))
    }

    /// Adds the blob, which is verified and to be found at `path`. Takes as long
    /// as the store needs to hash it.
    pub fn finish(self, path: &StorePath) -> Result<(), AddError> {
        let actual = match self.0 {
            Destination::Daemon(upload) => {
                let mut upload = upload.lock();
                upload
                    .end()
                    .map_err(|source| AddError::Daemon { socket: upload.socket.clone(), source })?
            }
            Destination::File { directory: _directory, named, file, algorithm } => {
                drop(file);
                command_add(&["--add-fixed", algorithm.name()], &named)?
            }
        };
        compare(path, actual)
    }
}

impl Write for IncomingBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Destination::Daemon(upload) => upload.write(bytes),
            Destination::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for IncomingBlob {
    fn restart(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Destination::Daemon(upload) => upload.lock().restart(),
            Destination::File { file, .. } => file.restart(),
        }
    }

    fn whole_file(&mut self) -> Option<&mut File> {
        match &mut self.0 {
            Destination::Daemon(_) => None,
            Destination::File { file, .. } => Some(file),
        }
    }

    fn writer(&mut self) -> io::Result<Option<Box<dyn Write + Send>>> {
        match &mut self.0 {
            Destination::Daemon(upload) => Ok(Some(Box::new(upload.clone()))),
            Destination::File { file, .. } => file.writer(),
        }
    }
}
