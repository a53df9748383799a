//! Any failure of a command: an error of the library, or of the program around it.

use std::fmt;
use std::io;

use n2c::{Diagnose, Kind};

/// An error that a command ends with.
pub(crate) struct Failure {
    error: Box<dyn Diagnose>,
    exit_code: u8,
}

impl Failure {
    pub(crate) fn error(&self) -> &dyn Diagnose {
        &*self.error
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl<E: Diagnose + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit_code: error.kind().exit_code(), error: Box::new(error) }
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

/// Ctrl-C.
pub(crate) struct Interrupted;

impl From<Interrupted> for Failure {
    fn from(_: Interrupted) -> Self {
        /// What is shown of it.
        #[derive(Debug, thiserror::Error)]
        #[error("interrupted")]
        struct Shown;
        impl Diagnose for Shown {
            fn kind(&self) -> Kind {
                Kind::Other
            }
        }
        // 128 + SIGINT, as a shell expects.
        Self { error: Box::new(Shown), exit_code: 130 }
    }
}
