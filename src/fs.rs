//! Files: read whole with a bound, written whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Diagnose, Kind};

/// The largest file that is read into memory, in bytes: far above any real
/// lockfile, far below what would hurt.
const SIZE_LIMIT: u64 = 256 << 20;

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
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::TooLarge { .. } => Kind::Verification,
            Self::Read { .. } | Self::Write { .. } => Kind::Other,
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

/// How the names of temporary files begin and end, which `kill -9` leaves.
const TEMPORARY_PREFIX: &str = ".n2c-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Whether a name is that of a temporary file of this program.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(TEMPORARY_PREFIX.as_bytes()) && name.ends_with(TEMPORARY_SUFFIX.as_bytes())
}

/// Reads a whole file, or a pipe such as `<(…)`.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_at_most(path, SIZE_LIMIT)
}

/// Reads a whole file of at most `limit` bytes.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
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
    let mut output = OutputFile::create(path)?;
    output.write_all(bytes)?;
    output.commit()
}

/// Writes a whole file in a directory that is this program's own: whatever has
/// its name there is replaced, also a link, which may lead anywhere.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut output = OutputFile::replacing(path)?;
    output.write_all(bytes)?;
    output.commit()
}

/// Writes a whole file that only its owner can read, whoever could read what
/// was there before.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut output = OutputFile::create(path)?;
    if let Destination::Beside { .. } = &output.destination {
        output.set_mode(0o600)?;
    }
    output.write_all(bytes)?;
    output.commit()
}

/// A file being written beside its place, and renamed into it when it is whole.
///
/// Dropped before [`OutputFile::commit`], it leaves no trace. A device, a pipe
/// or `/dev/stdout` can't be replaced: it is written to when all is there.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    destination: Destination,
}

#[derive(Debug)]
enum Destination {
    Beside { temporary: NamedTempFile, target: PathBuf },
    Through { temporary: File, device: File },
    InPlace(File),
}

impl OutputFile {
    /// Prepares to write `path`. What is there is not touched yet.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Self::open(path).map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    /// Prepares to write a file in a directory of this program's own, where a
    /// link of that name is not followed.
    pub fn replacing(path: &Path) -> Result<Self, Error> {
        let temporary = Self::beside(path, Permissions::from_mode(0o666));
        match temporary {
            Ok(temporary) => Ok(Self {
                path: path.to_owned(),
                destination: Destination::Beside { temporary, target: path.to_owned() },
            }),
            Err(source) => Err(Error::Write { path: path.to_owned(), source }),
        }
    }

    /// Sets the mode that the file will have.
    pub fn set_mode(&mut self, mode: u32) -> Result<(), Error> {
        let path = self.path.clone();
        self.file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|source| Error::Write { path, source })
    }

    /// Prepares to write the output of a Nix derivation, which is written where
    /// it belongs: Nix discards what a failed builder leaves, and a temporary
    /// file beside it would be one in the store.
    pub fn create_in_place(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        match file {
            Ok(file) => Ok(Self { path: path.to_owned(), destination: Destination::InPlace(file) }),
            Err(source) => Err(Error::Write { path: path.to_owned(), source }),
        }
    }

    fn open(path: &Path) -> io::Result<Self> {
        // `-` is stdout, as elsewhere.
        let path = if path == Path::new("-") { Path::new("/dev/stdout") } else { path }.to_owned();
        let (target, permissions) = match fs::metadata(&path) {
            Ok(metadata) => {
                // Also finds out whether an existing file may be written at all.
                let device = OpenOptions::new().append(true).open(&path)?;
                if !metadata.is_file() || names_a_descriptor(&path) {
                    let destination =
                        Destination::Through { temporary: tempfile::tempfile()?, device };
                    return Ok(Self { path, destination });
                }
                (fs::canonicalize(&path)?, metadata.permissions())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (path.clone(), Permissions::from_mode(0o666))
            }
            Err(error) => return Err(error),
        };
        let temporary = Self::beside(&target, permissions)?;
        Ok(Self { path, destination: Destination::Beside { temporary, target } })
    }

    /// A temporary file in the directory of `target`.
    fn beside(target: &Path, permissions: Permissions) -> io::Result<NamedTempFile> {
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::metadata(directory)?;
        tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .suffix(TEMPORARY_SUFFIX)
            .permissions(permissions)
            .tempfile_in(directory)
            // Without the temporary name, which tells the user nothing.
            .map_err(|error| io::Error::from(error.kind()))
    }

    /// Where the file belongs.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file to write to.
    pub fn file(&mut self) -> &mut File {
        match &mut self.destination {
            Destination::Beside { temporary, .. } => temporary.as_file_mut(),
            Destination::Through { temporary: file, .. } | Destination::InPlace(file) => file,
        }
    }

    /// Whether [`OutputFile::commit`] puts the file on the disk.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        matches!(self.destination, Destination::Beside { .. } | Destination::InPlace(_))
    }

    /// Writes all of `bytes`.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.clone();
        self.file().write_all(bytes).map_err(|source| Error::Write { path, source })
    }

    /// Puts the file in its place, on the disk.
    pub fn commit(self) -> Result<(), Error> {
        let error = |source| Error::Write { path: self.path.clone(), source };
        match self.destination {
            Destination::InPlace(file) => file.sync_all().map_err(error)?,
            Destination::Beside { temporary, target } => {
                temporary.as_file().sync_all().map_err(error)?;
                temporary.persist(target).map_err(|failed| error(failed.error))?;
            }
            Destination::Through { mut temporary, mut device } => {
                temporary.seek(SeekFrom::Start(0)).map_err(error)?;
                io::copy(&mut temporary, &mut device).map_err(error)?;
            }
        }
        Ok(())
    }
}

/// Whether a path stands for something that is open already. It may lead to a
/// file, which then is not to be replaced but written on.
fn names_a_descriptor(path: &Path) -> bool {
    let is_descriptor = path.parent().is_some_and(|folder| folder.ends_with("fd"));
    path == Path::new("/dev/stdout")
        || path == Path::new("/dev/stderr")
        || is_descriptor && (path.starts_with("/dev") || path.starts_with("/proc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out");
        write(&path, b"old").expect("written");
        let mut output = OutputFile::create(&path).expect("created");
        output.file().write_all(b"new").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"old");
        drop(output);
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(fs::read_dir(&directory).expect("listed").count(), 1);
        write(&path, b"new").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"new");
    }

    #[test]
    fn a_link_stays_a_link_and_a_mode_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        write(&file, b"old").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("set");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        write(&link, b"new").expect("written");
        assert!(fs::symlink_metadata(&link).expect("metadata").is_symlink());
        assert_eq!(fs::read(&file).expect("read"), b"new");
        assert_eq!(fs::metadata(&file).expect("metadata").permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn devices_are_written_not_replaced() {
        write(Path::new("/dev/null"), b"x").expect("written");
        let error = write(Path::new("/dev/full"), b"x").expect_err("a full disk");
        assert_eq!(error.to_string(), "failed to write `/dev/full`");
        assert!(!fs::metadata("/dev/full").expect("metadata").is_file());
    }

    #[test]
    fn endless_files_end() {
        assert!(matches!(
            read_at_most(Path::new("/dev/zero"), 1000),
            Err(Error::TooLarge { limit: 1000, .. })
        ));
    }
}
