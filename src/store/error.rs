//! Why something can't be added to a store.

use std::io;
use std::path::PathBuf;

use super::path::StorePath;
use crate::error::{Diagnose, Kind};

/// Why something can't be added to a store.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The daemon can't be reached, or reported an error.
    #[error("the Nix daemon at `{}` failed", socket.display())]
    Daemon {
        /// The path of its socket.
        socket: PathBuf,
        /// The daemon's error message, or the I/O error.
        #[source]
        source: io::Error,
    },
    /// `nix-store` can't be started.
    #[error("failed to run `nix-store`")]
    Start(#[source] io::Error),
    /// `nix-store` failed.
    #[error("`nix-store` failed: {message}")]
    Command {
        /// The last line of its error output.
        message: String,
    },
    /// The file could not be passed to the store.
    #[error("failed to pass `{name}` to the Nix store")]
    HandOver {
        /// Its name in the store.
        name: String,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// The store put it at another path than the output path of its derivation.
    #[error("the Nix store put the file at `{actual}`, not at `{expected}`")]
    Elsewhere {
        /// The expected path.
        expected: String,
        /// The actual path.
        actual: String,
    },
}

impl AddError {
    /// Returns an error unless `actual` is `path`.
    pub(super) fn unless_at(path: &StorePath, actual: String) -> Result<(), Self> {
        let expected = path.to_string();
        if actual == expected { Ok(()) } else { Err(Self::Elsewhere { expected, actual }) }
    }
}

impl Diagnose for AddError {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

/// Whether the other side closed the connection.
#[must_use]
pub fn is_hang_up(error: &io::Error) -> bool {
    let kinds =
        [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
    kinds.contains(&error.kind())
}
