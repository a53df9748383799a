//! Any failure of a command: an error of the library, or of the program around it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use n2c::oci::reference::Repository;
use n2c::{Diagnose, Kind};
use tokio::signal::unix::SignalKind;

/// An error that a command ends with.
pub(crate) struct Failure(Box<dyn Diagnose>);

impl Failure {
    pub(crate) fn error(&self) -> &dyn Diagnose {
        &*self.0
    }

    pub(crate) fn exit_code(&self) -> u8 {
        let error: &(dyn std::error::Error + 'static) = &*self.0;
        match error.downcast_ref::<Interrupted>() {
            // As a shell tells of it.
            Some(Interrupted(signal)) => u8::try_from(128 + signal.as_raw_value()).unwrap_or(1),
            None => self.0.kind().exit_code(),
        }
    }
}

impl<E: Diagnose + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

/// A call that the command line's grammar allows and the command does not.
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

/// The result could not be handed over.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to standard output")]
pub(crate) struct Stdout(#[source] pub(crate) io::Error);

impl Diagnose for Stdout {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

/// A signal to end, such as Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted(pub(crate) SignalKind);

impl Diagnose for Interrupted {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

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

    fn hint(&self) -> Option<String> {
        Some(format!("log in with `docker login {}`", self.repository.host()))
    }
}

/// What `n2c doctor` found is on stdout.
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

/// No file that was named is a lockfile.
#[derive(Debug, thiserror::Error)]
#[error("there are no lockfiles in {paths}")]
pub(crate) struct NoLockfiles {
    pub(crate) paths: String,
}

impl Diagnose for NoLockfiles {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

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

/// Some lockfiles failed; what each did is in the report.
#[derive(Debug, thiserror::Error)]
#[error("{count} of {total} lockfile{} failed", if *total == 1 { "" } else { "s" })]
pub(crate) struct Failed {
    pub(crate) count: usize,
    pub(crate) total: usize,
    /// That of the first.
    pub(crate) kind: Kind,
}

impl Diagnose for Failed {
    fn kind(&self) -> Kind {
        self.kind
    }
}

/// Lockfiles are not what their references lead to now.
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

/// A lockfile is no longer what was read.
#[derive(Debug, thiserror::Error)]
#[error("`{}` was edited in the meantime, and is left as it is", path.display())]
pub(crate) struct EditedMeanwhile {
    pub(crate) path: PathBuf,
}

impl Diagnose for EditedMeanwhile {
    fn kind(&self) -> Kind {
        Kind::Other
    }

    fn hint(&self) -> Option<String> {
        Some("run the same again".to_owned())
    }
}

impl Diagnose for Outdated {
    fn kind(&self) -> Kind {
        Kind::Stale
    }

    fn hint(&self) -> Option<String> {
        Some(format!("run `n2c {}`", self.command))
    }
}
