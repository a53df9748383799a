//! Directories that only one run at a time may change.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A lock on a directory: no other run changes the directory while this exists. The
/// directory is created if necessary. Directories that were created for it are removed at
/// the end if they are still empty.
#[derive(Debug)]
pub struct DirectoryLock {
    /// The directories that were created, the innermost first.
    made: Vec<PathBuf>,
    /// Released after the directories are removed.
    _lock: File,
}

impl DirectoryLock {
    /// Takes the lock. If another run holds it, calls `told` once, then blocks the thread
    /// until the lock is free.
    pub fn take(directory: &Path, told: impl FnOnce()) -> io::Result<Self> {
        let mut told = Some(told);
        loop {
            let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
            let made: Vec<_> =
                directory.ancestors().take_while(is_new).map(Path::to_owned).collect();
            fs::create_dir_all(directory)?;
            let lock = match File::open(directory) {
                // The run that held the lock has removed the empty directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // Some file systems have no locks: go on without one.
            if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                told.take().into_iter().for_each(|told| told());
                let _ = lock.lock();
            }
            let (locked, now) = (lock.metadata()?, fs::metadata(directory));
            if now.is_ok_and(|now| super::is_same(&now, &locked)) {
                return Ok(Self { made, _lock: lock });
            }
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Ignore failures: an earlier error matters more than an empty directory.
        let _ = self.made.iter().try_for_each(fs::remove_dir);
    }
}
