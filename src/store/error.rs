//! Why something can't be added to a store.

use std::io;
use std::path::PathBuf;

use super::path::StorePath;
use crate::error::{Diagnose, Kind};

/// Why something can't be added to a store.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The daemon did not answer, or refused.
    #[error("the Nix daemon at `{}` failed", socket.display())]
    Daemon {
        /// Its socket.
        socket: PathBuf,
        /// What it said, or the system.
        #[source]
        source: io::Error,
    },
    /// `nix-store` can't be started.
    #[error("failed to run `nix-store`")]
    Start(#[source] io::Error),
    /// `nix-store` failed.
    #[error("`nix-store` failed: {message}")]
    Command {
        /// The last line that it said.
        message: String,
    },
    /// The file could not be handed over.
    #[error("failed to hand `{name}` to the Nix store")]
    HandOver {
        /// The file's name there.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is somewhere else than its derivation's output would be.
    #[error("the Nix store put it at `{actual}`, not at `{expected}`")]
    Elsewhere {
        /// Where it was to be.
        expected: String,
        /// Where it is.
        actual: String,
    },
}

impl AddError {
    /// Nothing, where something is at the path that it was to be at.
    pub(super) fn unless_at(path: &StorePath, actual: String) -> Result<(), Self> {
        let expected = path.to_string();
        if actual == expected { Ok(()) } else { Err(Self::Elsewhere { expected, actual }) }
    }
}

impl Diagnose for AddError {
    fn kind(&self) -> Kind {
        Kind::Other
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Daemon { source, .. } if hung_up(source) => Some(
                "the daemon hung up without a word: see whether `allowed-users` in its nix.conf \
                 lets you in"
                    .to_owned(),
            ),
            Self::Start(_) => Some("install Nix, or start its daemon".to_owned()),
            Self::Elsewhere { .. } => {
                Some("set `NIX_STORE_DIR` to the directory of the store that Nix uses".to_owned())
            }
            _ => None,
        }
    }
}

/// Whether the other side closed the connection.
fn hung_up(error: &io::Error) -> bool {
    let kinds =
        [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
    kinds.contains(&error.kind())
}
