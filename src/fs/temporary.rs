//! Temporary files, which are moved to their final path when they are complete. If the
//! file system supports it, they have no name until then, so that nothing is left of them
//! even if this process is killed.
//!
//! Otherwise they have a name, and are locked while they are written. The next run that
//! writes to the directory removes those that no run has locked.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cleanup::{Guard, Leftover};
use rustix::fs::{AtFlags, CWD, OFlags};

/// The prefix and suffix of the names of temporary files.
const PREFIX: &str = ".n2c-";
const SUFFIX: &str = ".tmp";

/// Whether this is the name of a temporary file of n2c.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
}

/// A temporary file, in the directory of its final path.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    directory: PathBuf,
    /// The path of the file, if it has a name. It is removed when this is dropped.
    name: Option<PathBuf>,
}

impl Temporary {
    /// Creates a file in `directory`, with `mode` less the umask.
    pub(super) fn create(directory: &Path, mode: u32) -> io::Result<Self> {
        match unnamed(directory, mode)? {
            Some(file) => Ok(Self { file, directory: directory.to_owned(), name: None }),
            None => Self::named(directory, mode),
        }
    }

    fn named(directory: &Path, mode: u32) -> io::Result<Self> {
        loop {
            let path = random_name(directory);
            let options = &mut OpenOptions::new();
            let file = match options.read(true).write(true).create_new(true).mode(mode).open(&path)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // If the file system has no locks, other runs can't see that it is in use, and
            // leave every such file alone.
            let _ = file.lock();
            // Another run may have removed it as a leftover before it was locked.
            if file.metadata()?.nlink() > 0 {
                return Ok(Self { file, directory: directory.to_owned(), name: Some(path) });
            }
        }
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) const fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Moves the file to `target`, replacing whatever is there.
    pub(super) fn replace(mut self, target: &Path) -> io::Result<()> {
        if self.name.is_none() {
            match self.link(target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result,
            }
            // Only a file with a name can replace another. If this run is killed before the
            // rename, the file is left; the lock is gone then, so the next run removes it.
            let _ = self.file.lock();
            let name = loop {
                let name = random_name(&self.directory);
                match self.link(&name) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    result => break result.map(|()| name)?,
                }
            };
            self.name = Some(name);
        }
        if let Some(name) = &self.name {
            fs::rename(name, target)?;
        }
        self.name = None;
        Ok(())
    }

    /// Moves the file to `target`, if nothing is there.
    pub(super) fn add(mut self, target: &Path) -> io::Result<()> {
        let Some(name) = &self.name else { return self.link(target) };
        rename_to_new(name, target)?;
        self.name = None;
        Ok(())
    }

    /// Gives a file without a name the name `target`, which must not exist yet.
    fn link(&self, target: &Path) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, open, CWD, target, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Ignore failures: an earlier error matters more.
            let _ = fs::remove_file(name);
        }
    }
}

/// Creates a file without a name. Returns `None` if the system can't create one, or can't
/// name it later.
#[cfg(target_os = "linux")]
fn unnamed(directory: &Path, mode: u32) -> io::Result<Option<File>> {
    use rustix::io::Errno;
    use std::os::fd::AsRawFd as _;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, rustix::fs::Mode::from_raw_mode(mode)) {
        Ok(file) => {
            let file = File::from(file);
            // The file gets its name through this path.
            let is_nameable = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
            Ok(is_nameable.exists().then_some(file))
        }
        // The file system or an old kernel doesn't support it.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT)
            if directory.is_dir() =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_directory: &Path, _mode: u32) -> io::Result<Option<File>> {
    Ok(None)
}

/// Renames a file, unless the new name exists.
#[cfg(target_os = "linux")]
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_to_new(from, to),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    link_to_new(from, to)
}

fn link_to_new(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// Returns a path in `directory` that nobody can guess.
fn random_name(directory: &Path) -> PathBuf {
    // Each `RandomState` has new keys, derived from the system's randomness.
    let random = RandomState::new().build_hasher().finish();
    directory.join(format!("{PREFIX}{random:016x}{SUFFIX}"))
}

/// Removes the temporary files that killed runs left in `directory`. It keeps those that
/// another run has locked, and those that can't be removed.
pub(crate) fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name()) {
            // Ignore failures: it may be somebody else's, or gone already.
            let _ = remove_if_left(&entry.path());
        }
    }
}

/// Removes a temporary file or directory of this user that no run has locked.
fn remove_if_left(path: &Path) -> io::Result<()> {
    // Don't follow links, and don't wait for pipes.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let found = file.metadata()?;
    let mine = fs::metadata("/proc/self").map_or(found.uid(), |process| process.uid());
    if !(found.is_file() || found.is_dir()) || found.uid() != mine || file.try_lock().is_err() {
        return Ok(());
    }
    // Check that the name still belongs to the locked file.
    let now = fs::symlink_metadata(path)?;
    if !super::is_same(&now, &found) {
        return Ok(());
    }
    if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// A directory for files that another program must find by name. It is removed when this is
/// dropped, or by the next run if this one is killed.
#[derive(Debug)]
pub struct TemporaryDirectory {
    path: PathBuf,
    _lock: File,
    _guard: Guard,
}

impl TemporaryDirectory {
    /// Creates a directory in `$TMPDIR` that only this user can read.
    pub fn create() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let parent = std::env::temp_dir();
        sweep(&parent);
        let create = || loop {
            let path = random_name(&parent);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result?,
            }
            let lock = match File::open(&path) {
                // Another run took it for a leftover.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result?,
            };
            let _ = lock.lock();
            if path.is_dir() {
                let guard = Guard::new(Leftover::Directory(path.clone()));
                return Ok(Self { path, _lock: lock, _guard: guard });
            }
        };
        create().map_err(super::in_temporary)
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Ignore failures: an earlier error matters more.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("listed");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_without_a_name_gets_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let make = || Temporary::create(directory.path(), 0o600).expect("a file");
        let mut temporary = make();
        assert!(names(directory.path()).is_empty(), "it has a name");
        temporary.file_mut().write_all(b"new").expect("written");
        let target = directory.path().join("out");
        temporary.add(&target).expect("added");
        let taken = make().add(&target).expect_err("there is one");
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).expect("read"), b"new");
        make().replace(&target).expect("replaced");
        assert_eq!(fs::read(&target).expect("read"), b"");
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn a_file_with_a_name_does_the_same_where_there_is_no_other_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let make = || Temporary::named(directory.path(), 0o600).expect("a file");
        let target = directory.path().join("out");
        make().add(&target).expect("added");
        let taken = make().add(&target).expect_err("there is one");
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        make().replace(&target).expect("replaced");
        drop(make());
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn what_nobody_holds_is_swept_away_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let guard = Temporary::named(directory.path(), 0o600).expect("a file");
        let mut left = Temporary::named(directory.path(), 0o600).expect("a file");
        // Leave the file behind, as `kill -9` would.
        left.name = None;
        drop(left);
        fs::write(directory.path().join("mine.tmp"), "x").expect("written");
        std::os::unix::fs::symlink("mine.tmp", directory.path().join(".n2c-link.tmp"))
            .expect("linked");
        fs::create_dir(directory.path().join(".n2c-left.tmp")).expect("made");
        assert_eq!(names(directory.path()).len(), 5);
        sweep(directory.path());
        let name = guard.name.as_ref().and_then(|name| name.file_name()).expect("a name");
        let mut expected = [".n2c-link.tmp", &name.to_string_lossy(), "mine.tmp"];
        expected.sort_unstable();
        assert_eq!(names(directory.path()), expected);
    }
}
