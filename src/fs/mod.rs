//! Files: read whole with a bound, written whole or not at all.

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
    /// It can't be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is larger than anything that would make sense there.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How many bytes are read at most.
        limit: u64,
    },
    /// It can't be written.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A temporary file can't be made or written.
    #[error("failed to write a temporary file in `{}`", directory.display())]
    Temporary {
        /// The directory, which `$TMPDIR` names.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is a file already, which is not to be replaced.
    #[error("`{}` exists, and is not overwritten", path.display())]
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

    fn hint(&self) -> Option<String> {
        match self {
            Self::Temporary { .. } => {
                Some("set `TMPDIR` to a directory with enough room".to_owned())
            }
            Self::Exists { .. } => Some("name a new file, or remove this one".to_owned()),
            _ => None,
        }
    }
}

impl Error {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        matches!(self, Self::Read { source, .. } if missing.contains(&source.kind()))
    }
}

/// Reads a whole file, or a pipe such as `<(…)`, of at most `limit` bytes.
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

/// Writes a whole file: it is replaced at once, or left as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_to(OutputFile::create(path)?, bytes)
}

/// Writes a whole file in a directory that is this program's own: whatever has
/// its name there is replaced, also a link, which may lead anywhere.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_to(OutputFile::replacing(path)?, bytes)
}

/// Writes a whole file that only its owner can read, from its first byte on and
/// whoever could read what was there before.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_to(OutputFile::create_private(path)?, bytes)
}

fn write_to(mut output: OutputFile, bytes: &[u8]) -> Result<(), Error> {
    output.write_all(bytes)?;
    output.commit()
}

/// Whether two paths or descriptors led to one file or directory.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// A file without a name in `$TMPDIR`.
pub(crate) fn unnamed() -> io::Result<File> {
    // A run that was killed may have left what another program was to read.
    sweep(&std::env::temp_dir());
    tempfile::tempfile().map_err(in_temporary)
}

/// A failure of a temporary file, which names its directory: that it is full is
/// no fault of where the result goes.
pub(crate) fn in_temporary(source: io::Error) -> io::Error {
    let directory = std::env::temp_dir();
    io::Error::new(source.kind(), Error::Temporary { directory, source })
}

/// A failure to write to `path`, with the path in it.
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
        // Before anything is written.
        assert_eq!(mode(&mut output), 0o600);
        output.write_all(b"new").expect("written");
        output.commit().expect("committed");
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
