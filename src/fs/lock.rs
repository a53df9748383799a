//! Directories that one run at a time may change.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A directory that is made where there is none, and that no other run changes
/// while this exists. Directories that were made for it go again, where they are
/// still empty at the end.
#[derive(Debug)]
pub struct DirectoryLock {
    /// Those that were made, the innermost first.
    made: Vec<PathBuf>,
    /// Released last.
    _lock: File,
}

impl DirectoryLock {
    /// Waits for its turn. Blocks the thread; `told` is called once before that.
    pub fn take(directory: &Path, told: impl FnOnce()) -> io::Result<Self> {
        let mut told = Some(told);
        loop {
            let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
            let made: Vec<_> =
                directory.ancestors().take_while(is_new).map(Path::to_owned).collect();
            fs::create_dir_all(directory)?;
            let lock = match File::open(directory) {
                // Whoever held it found no use for it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // Some file systems know no locks; what went without them before does so.
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
        // What failed before matters more than an empty folder.
        let _ = self.made.iter().try_for_each(fs::remove_dir);
    }
}
