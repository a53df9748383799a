//! Why an engine can't take an image.

use std::io;
use std::path::PathBuf;

use crate::error::{Diagnose, Kind};
use crate::registry::TlsError;

/// Why an engine can't take an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine's program can't be started.
    #[error("failed to run `{program}`")]
    Start {
        /// The program.
        program: &'static str,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The engine refused the image.
    #[error("{engine} refused the image: {message}")]
    Refused {
        /// The engine.
        engine: &'static str,
        /// What it said, made safe to print.
        message: String,
    },
    /// The engine failed to answer a question.
    #[error("{engine} failed to {task}: {message}")]
    Failed {
        /// The engine.
        engine: &'static str,
        /// What it was asked to do.
        task: &'static str,
        /// What it said, made safe to print.
        message: String,
    },
    /// docker can't be reached.
    #[error("failed to reach docker at `{host}`")]
    Unreachable {
        /// Where it should be.
        host: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// docker should be at a place that can't be used.
    #[error("docker's host `{host}` can't be used: {reason}")]
    Host {
        /// The place, made safe to print.
        host: String,
        /// Why not.
        reason: &'static str,
    },
    /// docker's context can't be read.
    #[error("failed to read docker's context `{name}` in `{}`", path.display())]
    Context {
        /// The context.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// docker's certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Start { .. }
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::Context { .. } => Kind::Other,
            Self::Unreachable { .. } => Kind::Network,
            Self::Host { .. } => Kind::Usage,
            Self::Tls(error) => error.kind(),
        }
    }
}

/// How many characters of an engine's message are shown.
const LONGEST: usize = 1000;

/// An engine's own words, in one line.
pub(super) fn message(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if shown.is_empty() { "no message".to_owned() } else { shown }
}
