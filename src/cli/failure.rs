//! The errors that commands fail with: the library's errors and the program's own.

use std::fmt;
use std::io;
use std::path::PathBuf;

use n2c::oci::reference::Repository;
use n2c::{Diagnose, Kind};
use tokio::signal::unix::SignalKind;

use crate::cli::hints::Hint;

/// What is shown of an error and its causes: no password, not even one in a name by mistake.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    n2c::text::without_passwords(&n2c::error_chain(error))
}

/// An error with all that is shown of it.
pub(crate) trait Problem: Diagnose + Hint {}

impl<E: Diagnose + Hint> Problem for E {}

/// The error that a command failed with.
pub(crate) struct Failure(Box<dyn Problem>);

impl Failure {
    pub(crate) fn error(&self) -> &dyn Problem {
        &*self.0
    }

    pub(crate) fn exit_code(&self) -> u8 {
        let error: &(dyn std::error::Error + 'static) = &*self.0;
        match error.downcast_ref::<Interrupted>() {
            // 128 plus the signal's number, as shells report it.
            Some(Interrupted(signal)) => u8::try_from(128 + signal.as_raw_value()).unwrap_or(1),
            None => self.0.kind().exit_code(),
        }
    }
}

impl<E: Problem + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

/// A combination of arguments that clap accepts but the command doesn't.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Usage {
    message: String,
    hint: Option<String>,
}

impl Usage {
    pub(crate) fn new(message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self { message: message.to_string(), hint: Some(hint.to_string()) }
    }
}

impl Diagnose for Usage {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

impl Hint for Usage {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// The asynchronous runtime did not start.
#[derive(Debug, thiserror::Error)]
#[error("failed to start")]
pub(crate) struct Runtime(#[source] pub(crate) io::Error);

impl Diagnose for Runtime {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

impl Hint for Runtime {}

/// The result could not be written to stdout.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to standard output")]
pub(crate) struct Stdout(#[source] pub(crate) io::Error);

impl Diagnose for Stdout {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

impl Hint for Stdout {}

/// A signal, such as Ctrl-C, ended the command.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted(pub(crate) SignalKind);

impl Diagnose for Interrupted {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

impl Hint for Interrupted {}

/// There is no credential to export.
#[derive(Debug, thiserror::Error)]
#[error("there are no credentials for `{repository}`")]
pub(crate) struct NoCredential {
    pub(crate) repository: Repository,
}

impl Diagnose for NoCredential {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

impl Hint for NoCredential {
    fn hint(&self) -> Option<String> {
        Some(format!("log in with `docker login {}`", self.repository.host()))
    }
}

/// `n2c doctor` found problems, and has printed them to stdout.
#[derive(Debug, thiserror::Error)]
#[error("{problems} problem{} found", if *problems == 1 { "" } else { "s" })]
pub(crate) struct Unhealthy {
    pub(crate) problems: usize,
}

impl Diagnose for Unhealthy {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

impl Hint for Unhealthy {}

/// None of the given paths is or contains a lockfile.
#[derive(Debug, thiserror::Error)]
#[error("there are no lockfiles in {paths}")]
pub(crate) struct NoLockfiles {
    pub(crate) paths: String,
}

impl Diagnose for NoLockfiles {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

impl Hint for NoLockfiles {
    fn hint(&self) -> Option<String> {
        Some("make one with `n2c lock IMAGE -o FILE`".to_owned())
    }
}

/// A directory can't be listed.
#[derive(Debug, thiserror::Error)]
#[error("failed to list `{}`", path.display())]
pub(crate) struct Unlisted {
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

impl Diagnose for Unlisted {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

impl Hint for Unlisted {}

/// Some lockfiles failed; the report says how.
#[derive(Debug, thiserror::Error)]
#[error("{count} of {total} lockfile{} failed", if *total == 1 { "" } else { "s" })]
pub(crate) struct Failed {
    pub(crate) count: usize,
    pub(crate) total: usize,
    /// The kind of the first failure.
    pub(crate) kind: Kind,
}

impl Diagnose for Failed {
    fn kind(&self) -> Kind {
        self.kind
    }
}

impl Hint for Failed {}

/// Some lockfiles no longer match their references.
#[derive(Debug, thiserror::Error)]
#[error(
    "{stale} of {total} lockfile{} out of date",
    if *total == 1 { " is" } else { "s are" }
)]
pub(crate) struct Outdated {
    pub(crate) stale: usize,
    pub(crate) total: usize,
    /// The command that brings them up to date.
    pub(crate) command: &'static str,
}

/// A lockfile was edited after it was read.
#[derive(Debug, thiserror::Error)]
#[error("failed to replace `{}`: it was edited in the meantime", path.display())]
pub(crate) struct EditedMeanwhile {
    pub(crate) path: PathBuf,
}

impl Diagnose for EditedMeanwhile {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

impl Hint for EditedMeanwhile {
    fn hint(&self) -> Option<String> {
        Some("run the same command again".to_owned())
    }
}

impl Diagnose for Outdated {
    fn kind(&self) -> Kind {
        Kind::Stale
    }
}

impl Hint for Outdated {
    fn hint(&self) -> Option<String> {
        Some(format!("run `n2c {}`", self.command))
    }
}
