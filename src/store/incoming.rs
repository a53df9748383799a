//! Blobs that are added to a store while they arrive.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::command;
use super::daemon::{Daemon, Frames};
use super::error::AddError;
use super::path::StorePath;
use crate::fs::{self, TemporaryDirectory};
use crate::oci::digest::{Algorithm, Digest};
use crate::stream::sink::{self, Sink};

/// A blob that is being added to a store. The store keeps nothing of it before
/// [`IncomingBlob::finish`], because only then are its bytes known to be the right
/// ones.
pub struct IncomingBlob(Destination);

enum Destination {
    Daemon(SharedUpload),
    /// A file for `nix-store`, which uses the name of the file.
    File {
        directory: TemporaryDirectory,
        named: PathBuf,
        file: File,
        algorithm: Algorithm,
    },
}

/// An upload to the daemon that threads can share.
#[derive(Clone)]
struct SharedUpload(Arc<Mutex<Upload>>);

struct Upload {
    socket: PathBuf,
    digest: Digest,
    /// The connection that the blob goes through, once there is something to send.
    stream: Option<(Daemon, Frames)>,
}

impl Upload {
    /// Connects to the daemon and begins to add the blob.
    fn begin(&mut self) -> io::Result<&mut (Daemon, Frames)> {
        let mut daemon = Daemon::connect(&self.socket)?;
        let (name, algorithm) = (self.digest.hex(), self.digest.algorithm().name());
        daemon.begin(name, &format!("fixed:{algorithm}"))?;
        let frames = daemon.frames()?;
        Ok(self.stream.insert((daemon, frames)))
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
        let written = match &mut self.stream {
            Some((_, frames)) => frames.write(bytes),
            None => self.begin().and_then(|(_, frames)| frames.write(bytes)),
        };
        written.map_err(|source| self.failed(source))
    }

    /// Makes the daemon discard what it has received.
    fn abandon(&mut self) {
        if let Some((_, mut frames)) = self.stream.take() {
            // If the daemon can't be told, it is gone.
            let _ = frames.spoil();
        }
    }

    /// Wraps a failure of the daemon in the same error as a failure at the end.
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
    pub(super) fn daemon(socket: &Path, digest: &Digest) -> Self {
        let upload = Upload { socket: socket.to_owned(), digest: digest.clone(), stream: None };
        Self(Destination::Daemon(SharedUpload(Arc::new(Mutex::new(upload)))))
    }

    pub(super) fn file(digest: &Digest) -> io::Result<Self> {
        let directory = TemporaryDirectory::create()?;
        let named = directory.path().join(digest.hex());
        let options = &mut File::options();
        let file = options.read(true).write(true).create_new(true).open(&named);
        let file = file.map_err(fs::in_temporary)?;
        let algorithm = digest.algorithm();
        Ok(Self(Destination::File { directory, named, file, algorithm }))
    }

    /// Adds the blob, which has to be verified, and checks that it is at `path`. Takes
    /// as long as the store needs to hash it.
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
                command::add(&["--add-fixed", algorithm.name()], &named)?
            }
        };
        AddError::unless_at(path, actual)
    }
}

impl Write for IncomingBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Destination::Daemon(upload) => upload.write(bytes),
            Destination::File { file, .. } => file.write(bytes).map_err(fs::in_temporary),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for IncomingBlob {
    fn restart(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Destination::Daemon(upload) => {
                upload.lock().abandon();
                Ok(())
            }
            Destination::File { file, .. } => file.restart().map_err(fs::in_temporary),
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
            Destination::File { file, .. } => {
                let file = file.try_clone().map_err(fs::in_temporary)?;
                Ok(Some(Box::new(sink::Located { inner: file, failure: fs::in_temporary })))
            }
        }
    }
}
