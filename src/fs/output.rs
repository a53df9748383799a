//! Output files, which are written completely or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::temporary::{Temporary, sweep};
use super::{Error, at, in_temporary, is_same, unnamed};

/// The mode of a normal file, before the umask.
const FOR_ALL: u32 = 0o666;
/// The mode of a file that only its owner can read.
const PRIVATE: u32 = 0o600;

/// A file being written, which gets its name when it is complete.
///
/// If it is dropped before [`OutputFile::commit`], it leaves no trace. A device, a pipe or
/// the standard output can't be replaced, so [`OutputFile::commit`] copies the complete
/// content to it.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    destination: Destination,
}

#[derive(Debug)]
enum Destination {
    Beside { temporary: Temporary, target: PathBuf, over: Over },
    Through { temporary: File, device: File },
    InPlace(File),
}

/// What an output file may replace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Over {
    /// Whatever exists.
    Anything,
    /// An empty file, which somebody created in advance, or nothing.
    Empty,
}

impl OutputFile {
    /// Prepares to write `path`, without changing an existing file yet.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Self::open(path, FOR_ALL, Over::Anything).map_err(|source| write_error(path, source))
    }

    /// Prepares to write `path`, so that only its owner can read the file at any time.
    pub fn create_private(path: &Path) -> Result<Self, Error> {
        Self::open(path, PRIVATE, Over::Anything).map_err(|source| write_error(path, source))
    }

    /// Prepares to write a file that doesn't exist yet or is empty. If somebody else writes
    /// it in the meantime, [`OutputFile::commit`] fails and leaves it unchanged.
    pub fn create_new(path: &Path) -> Result<Self, Error> {
        Self::open(path, FOR_ALL, Over::Empty).map_err(|source| write_error(path, source))
    }

    /// Prepares to write a file in a directory that only this program writes to. A link
    /// with that name is replaced, not followed.
    pub fn replacing(path: &Path) -> Result<Self, Error> {
        let temporary = beside(path, FOR_ALL).map_err(|source| write_error(path, source))?;
        let (path, target) = (path.to_owned(), path.to_owned());
        Ok(Self {
            path,
            destination: Destination::Beside { temporary, target, over: Over::Anything },
        })
    }

    /// Sets the mode that the file will have.
    pub fn set_mode(&mut self, mode: u32) -> Result<(), Error> {
        let set = self.file().set_permissions(Permissions::from_mode(mode));
        set.map_err(|source| write_error(&self.path, source))
    }

    /// Prepares to write the output of a Nix derivation, directly to its path. Nix discards
    /// what a failed builder leaves, and a temporary file next to the output would be in
    /// the store.
    pub fn create_in_place(path: &Path) -> Result<Self, Error> {
        let options = &mut OpenOptions::new();
        match options.read(true).write(true).create(true).truncate(true).open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), destination: Destination::InPlace(file) }),
            Err(source) => Err(write_error(path, source)),
        }
    }

    fn open(path: &Path, mode: u32, over: Over) -> io::Result<Self> {
        if let Some(device) = already_open(path) {
            return Self::through(path, device?);
        }
        let (target, permissions) = match fs::metadata(path) {
            Ok(metadata) => {
                // Opening it also checks whether an existing file is writable at all.
                let device = OpenOptions::new().append(true).open(path)?;
                if !metadata.is_file() {
                    return Self::through(path, device);
                }
                (fs::canonicalize(path)?, (mode == FOR_ALL).then(|| metadata.permissions()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
            Err(error) => return Err(error),
        };
        sweep(directory_of(&target));
        let temporary = beside(&target, mode)?;
        if let Some(permissions) = permissions {
            temporary.file().set_permissions(permissions)?;
        }
        let destination = Destination::Beside { temporary, target, over };
        Ok(Self { path: path.to_owned(), destination })
    }

    fn through(path: &Path, device: File) -> io::Result<Self> {
        let destination = Destination::Through { temporary: unnamed()?, device };
        Ok(Self { path: path.to_owned(), destination })
    }

    /// The path of the file when it is complete.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file another name, in the same directory, that it will have when it is
    /// complete.
    pub fn rename(&mut self, name: &str) {
        self.path.set_file_name(name);
        if let Destination::Beside { target, .. } = &mut self.destination {
            target.set_file_name(name);
        }
    }

    /// The file to write to.
    pub const fn file(&mut self) -> &mut File {
        match &mut self.destination {
            Destination::Beside { temporary, .. } => temporary.file_mut(),
            Destination::Through { temporary: file, .. } | Destination::InPlace(file) => file,
        }
    }

    /// Whether [`OutputFile::commit`] syncs the file to disk.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        matches!(self.destination, Destination::Beside { .. } | Destination::InPlace(_))
    }

    /// Returns a function that adds the location to errors in writing to
    /// [`OutputFile::file`]: its path, or the directory of the temporary file.
    pub(crate) fn failure(&self) -> impl Fn(io::Error) -> io::Error + Send + 'static {
        let place = self.is_synced().then(|| self.path.clone());
        move |source| match &place {
            Some(path) => at(path, source),
            None => in_temporary(source),
        }
    }

    /// Writes all of `bytes`.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file().write_all(bytes).map_err(|source| write_error(&self.path, source))
    }

    /// Moves the file to its path and syncs it to disk, or copies it to a device.
    pub fn commit(self) -> Result<(), Error> {
        let error = |source| write_error(&self.path, source);
        match self.destination {
            Destination::InPlace(file) => file.sync_all().map_err(error)?,
            Destination::Beside { temporary, target, over } => {
                temporary.file().sync_all().map_err(error)?;
                let placed = match over {
                    Over::Anything => temporary.replace(&target),
                    Over::Empty => fill(temporary, &target),
                };
                placed.map_err(|source| match source.kind() {
                    io::ErrorKind::AlreadyExists => Error::Exists { path: self.path.clone() },
                    _ => error(source),
                })?;
            }
            Destination::Through { mut temporary, mut device } => {
                temporary.seek(SeekFrom::Start(0)).map_err(error)?;
                io::copy(&mut temporary, &mut device).map_err(error)?;
                device.flush().map_err(error)?;
            }
        }
        Ok(())
    }
}

/// Moves a file to `target` if that is empty or doesn't exist.
fn fill(temporary: Temporary, target: &Path) -> io::Result<()> {
    let empty = match File::open(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return temporary.add(target),
        empty => empty?,
    };
    // If several runs want to fill it, the first to get the lock replaces it; the others
    // then find another file.
    let _ = empty.lock();
    let (locked, now) = (empty.metadata()?, fs::metadata(target)?);
    if !is_same(&locked, &now) || now.len() > 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    temporary.replace(target)
}

fn write_error(path: &Path, source: io::Error) -> Error {
    match source.downcast::<Error>() {
        // The error of a temporary file elsewhere already has its location.
        Ok(error) => error,
        Err(source) => Error::Write { path: path.to_owned(), source },
    }
}

/// Creates a temporary file in the directory of `target`.
fn beside(target: &Path, mode: u32) -> io::Result<Temporary> {
    Temporary::create(directory_of(target), mode)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether `path` names an open file descriptor, such as this program's standard output.
#[must_use]
pub fn is_open_already(path: &Path) -> bool {
    descriptor_of(path).is_some()
}

/// Returns a duplicate of the open file descriptor that a path names, if it names one.
/// Opening the file again instead would give it a separate position.
fn already_open(path: &Path) -> Option<io::Result<File>> {
    let file = match descriptor_of(path)? {
        1 => io::stdout().as_fd().try_clone_to_owned(),
        2 => io::stderr().as_fd().try_clone_to_owned(),
        // Safe Rust can only take other descriptors by number through a pidfd.
        number => duplicate(number)
            .or_else(|_| OpenOptions::new().append(true).open(path).map(OwnedFd::from)),
    };
    Some(file.map(File::from))
}

#[cfg(target_os = "linux")]
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(this, number, PidfdGetfdFlags::empty())?)
}

#[cfg(not(target_os = "linux"))]
fn duplicate(_number: RawFd) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns the number of the descriptor that a path names, directly or through links.
fn descriptor_of(path: &Path) -> Option<RawFd> {
    const LONGEST_CHAIN: usize = 16;
    let mut path = path.to_owned();
    for _ in 0..LONGEST_CHAIN {
        match path.to_str()? {
            // `-` is stdout, as in other programs.
            "-" | "/dev/stdout" => return Some(1),
            "/dev/stderr" => return Some(2),
            text => {
                let number = text
                    .strip_prefix("/dev/fd/")
                    .or_else(|| text.strip_prefix("/proc/self/fd/"))
                    .and_then(|number| number.parse().ok());
                if number.is_some() {
                    return number;
                }
            }
        }
        let target = fs::read_link(&path).ok()?;
        path = directory_of(&path).join(target);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::write;

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
    fn a_new_file_stays_away_from_one_that_came_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out");
        let output = OutputFile::create_new(&path).expect("created");
        fs::write(&path, "theirs").expect("written");
        assert!(matches!(output.commit(), Err(Error::Exists { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"theirs");
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
}
