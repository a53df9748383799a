//! Cleaning up child programs and temporary directories when the program ends early:
//! when a signal ends it, no destructors run.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// Something to clean up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Leftover {
    /// A directory with its content.
    Directory(PathBuf),
    /// The process ID of a program that this one started.
    Child(u32),
}

static HELD: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// Registers a leftover to clean up until this is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Leftover);

impl Guard {
    pub(crate) fn new(leftover: Leftover) -> Self {
        leftovers().push(leftover.clone());
        Self(leftover)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        leftovers().retain(|leftover| *leftover != self.0);
    }
}

fn leftovers() -> MutexGuard<'static, Vec<Leftover>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Terminates child programs, and removes the directories that were created for them.
/// Call this before the program exits without returning from `main`.
pub fn clean_up() {
    let mut leftovers = leftovers().drain(..).collect::<Vec<_>>();
    // Programs first: they may still be writing to the directories.
    leftovers.sort_by_key(|leftover| matches!(leftover, Leftover::Directory(_)));
    for leftover in leftovers {
        // Ignore failures: the leftover may be gone already.
        match leftover {
            Leftover::Child(id) => {
                let id = i32::try_from(id).ok().and_then(Pid::from_raw);
                let _ = id.map(|id| kill_process(id, Signal::TERM));
            }
            Leftover::Directory(path) => {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}
