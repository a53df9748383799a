//! What must not outlive this program, where it ends in the middle of something: a
//! signal does not wait for whoever would tidy up.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// Something to be done away with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Leftover {
    /// A directory and what is in it.
    Directory(PathBuf),
    /// A program that was started.
    Child(u32),
}

static HELD: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// Keeps note of a leftover while it is there.
#[derive(Debug)]
pub(crate) struct Held(Leftover);

impl Held {
    pub(crate) fn new(leftover: Leftover) -> Self {
        held().push(leftover.clone());
        Self(leftover)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        held().retain(|leftover| *leftover != self.0);
    }
}

fn held() -> MutexGuard<'static, Vec<Leftover>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends programs that were started, and removes directories that were made for them.
/// For a program that is about to end without returning.
pub fn clean_up() {
    let mut leftovers = held().drain(..).collect::<Vec<_>>();
    // Programs first: they may still write.
    leftovers.sort_by_key(|leftover| matches!(leftover, Leftover::Directory(_)));
    for leftover in leftovers {
        // What is gone already needs nothing more.
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
