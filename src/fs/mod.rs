//! Reading whole files with a size limit, and writing them completely or not at all.

mod lock;
mod output;
mod temporary;

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Diagnose, Kind};
pub use lock::DirectoryLock;
pub use output::{OutputFile, is_open_already};
pub(crate) use temporary::sweep;
pub use temporary::{TemporaryDirectory, is_temporary};

/// Why a file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any valid file of its kind.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file can't be written.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A temporary file can't be created or written.
    #[error("failed to write a temporary file in `{}`", directory.display())]
    Temporary {
        /// The directory for temporary files, from `$TMPDIR`.
        directory: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file exists already and must not be replaced.
    #[error("`{}` exists already, and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::TooLarge { .. } => Kind::Verification,
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Temporary { .. }
            | Self::Exists { .. } => Kind::Other,
        }
    }
}

impl Error {
    /// Whether the file just doesn't exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        matches!(self, Self::Read { source, .. } if missing.contains(&source.kind()))
    }
}

/// Reads a whole file or pipe, such as `<(…)`, of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let error = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(error)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Writes a whole file atomically: it is replaced completely, or left unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_to(OutputFile::create(path)?, bytes)
}

/// Writes a whole file in a directory that only this program writes to. It replaces
/// whatever has that name, even a link, which may point anywhere.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_to(OutputFile::replacing(path)?, bytes)
}

/// Writes a whole file that only its owner can read, at any time. The permissions of an
/// existing file are not kept.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_to(OutputFile::create_private(path)?, bytes)
}

fn write_to(mut output: OutputFile, bytes: &[u8]) -> Result<(), Error> {
    output.write_all(bytes)?;
    output.commit()
}

/// Whether two metadata are of the same file or directory.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Creates a file without a name in `$TMPDIR`.
pub(crate) fn unnamed() -> io::Result<File> {
    // A killed run may have left files for another program in there.
    sweep(&std::env::temp_dir());
    tempfile::tempfile().map_err(in_temporary)
}

/// Adds the directory of temporary files to an error: if that one is full, the destination
/// of the result is not to blame.
pub(crate) fn in_temporary(source: io::Error) -> io::Error {
    let directory = std::env::temp_dir();
    io::Error::new(source.kind(), Error::Temporary { directory, source })
}

/// Adds `path` to an error in writing to it.
pub(crate) fn at(path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_files_end() {
        assert!(matches!(
            read(Path::new("/dev/zero"), 1000),
            Err(Error::TooLarge { limit: 1000, .. })
        ));
    }

    #[test]
    fn a_private_file_is_never_anybody_elses() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("auth.json");
        std::fs::write(&path, "old").expect("written");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, open).expect("set");
        let mut output = OutputFile::create_private(&path).expect("created");
        let mode = |output: &mut OutputFile| {
            output.file().metadata().expect("metadata").permissions().mode() & 0o777
        };
        // It is private before anything is written.
        assert_eq!(mode(&mut output), 0o600);
        output.write_all(b"new").expect("written");
        output.commit().expect("committed");
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
