//! Why a lockfile can't be used.

use super::VERSION;
use crate::error::{Diagnose, Kind};
use crate::oci::manifest;
use crate::oci::platform::{self, Platform};
use crate::oci::reference;

/// Why a lockfile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not JSON, or of another shape.
    #[error("invalid lockfile `{file}`")]
    Shape {
        /// The file's name.
        file: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The manifest in it is not usable.
    #[error("invalid lockfile `{file}`")]
    Manifest {
        /// The file's name.
        file: String,
        /// What is wrong with the manifest.
        #[source]
        source: manifest::Error,
    },
    /// The reference in it is not usable.
    #[error("invalid `n2c.ref` in lockfile `{file}`")]
    Reference {
        /// The file's name.
        file: String,
        /// What is wrong with the reference.
        #[source]
        source: reference::Error,
    },
    /// Parts of it contradict each other, as after a bad merge.
    #[error("inconsistent lockfile `{file}`: {reason}")]
    Inconsistent {
        /// The file's name.
        file: String,
        /// What contradicts what.
        reason: String,
    },
    /// It was written by a later version.
    #[error("lockfile `{file}` has version {version}; this n2c reads up to {VERSION}")]
    Newer {
        /// The file's name.
        file: String,
        /// The version it has.
        version: u64,
    },
    /// It is an index, which locks no image.
    #[error("`{file}` is an index of several images, not a lockfile")]
    Index {
        /// The file's name.
        file: String,
    },
    /// None of its platforms serves the one that was asked for.
    #[error("no image for `{wanted}` in lockfile `{file}`; it has: {}", platform::list(available))]
    NoPlatform {
        /// The file's name.
        file: String,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
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

    fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("upgrade n2c".to_owned()),
            Self::Index { .. } => Some("make a lockfile of it with `n2c lock`".to_owned()),
            Self::Shape { .. } | Self::Inconsistent { .. } => {
                Some("make it anew with `n2c lock`".to_owned())
            }
            Self::Manifest { source, .. } => source.hint(),
            Self::Reference { source, .. } => source.hint(),
            Self::NoPlatform { wanted, available, .. } => {
                wanted.nearest(available).map(|nearest| format!("pass `--platform {nearest}`"))
            }
        }
    }
}
