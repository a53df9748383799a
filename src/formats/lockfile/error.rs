//! Errors of lockfiles.

use super::VERSION;
use crate::error::{Diagnose, Kind};
use crate::oci::manifest;
use crate::oci::platform::{self, Platform};
use crate::oci::reference;

/// Why a lockfile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not JSON, or has the wrong structure.
    #[error("invalid lockfile `{file}`")]
    Shape {
        /// The file's name.
        file: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The manifest in the lockfile is not usable.
    #[error("invalid lockfile `{file}`")]
    Manifest {
        /// The file's name.
        file: String,
        /// What is wrong with the manifest.
        #[source]
        source: manifest::Error,
    },
    /// The reference in the lockfile is not usable.
    #[error("invalid `n2c.ref` in lockfile `{file}`")]
    Reference {
        /// The file's name.
        file: String,
        /// What is wrong with the reference.
        #[source]
        source: reference::Error,
    },
    /// Parts of the lockfile contradict each other, for example after a bad merge.
    #[error("inconsistent lockfile `{file}`: {reason}")]
    Inconsistent {
        /// The file's name.
        file: String,
        /// The contradiction.
        reason: String,
    },
    /// A later version of n2c wrote the lockfile.
    #[error("lockfile `{file}` has version {version}; this n2c reads up to {VERSION}")]
    Newer {
        /// The file's name.
        file: String,
        /// The lockfile's version.
        version: u64,
    },
    /// The file is an index, which doesn't lock an image.
    #[error("`{file}` is an index of several images, not a lockfile")]
    Index {
        /// The file's name.
        file: String,
    },
    /// None of the lockfile's platforms serves the requested one.
    #[error("no image for `{wanted}` in lockfile `{file}`; it has: {}", platform::list(available))]
    NoPlatform {
        /// The file's name.
        file: String,
        /// The requested platform.
        wanted: Platform,
        /// The platforms in the lockfile.
        available: Vec<Platform>,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoPlatform { .. } => Kind::NotFound,
            _ => Kind::Verification,
        }
    }
}
