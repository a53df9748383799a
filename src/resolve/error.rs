//! Why a location leads to no image.

use super::{DEPTH_LIMIT, LOOKUP_LIMIT};
use crate::error::{Diagnose, Kind};
use crate::oci::image;
use crate::oci::manifest::{self, Descriptor};
use crate::oci::platform::{self, Platform};
use crate::source;

/// Why a location leads to no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where it is to come from, it can't be had.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A manifest or index is not usable.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A config is not usable.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// There is no image for the platform.
    #[error("no image for `{wanted}` in {subject}; available: {}", platform::list(available))]
    NoPlatform {
        /// Which image.
        subject: String,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
    /// Something that an index lists is not there.
    #[error("`{}`, which is listed in {subject}, is not there", descriptor.digest)]
    Incomplete {
        /// Which index.
        subject: String,
        /// What is missing.
        descriptor: Descriptor,
    },
    /// There are no images in it at all.
    #[error("{subject} holds no image")]
    Empty {
        /// Which index.
        subject: String,
    },
    /// Its images do not say what they are for.
    #[error("{subject} does not say which platform it is for")]
    Unnamed {
        /// Which image.
        subject: String,
    },
    /// An index says that an entry is a manifest, and it is an index.
    #[error("`{}` in {subject} is an index, though listed as a manifest", descriptor.digest)]
    NotAManifest {
        /// Which image.
        subject: String,
        /// The entry.
        descriptor: Descriptor,
    },
    /// Indexes are nested deeper than anyone nests them.
    #[error("the indexes of {subject} are nested deeper than {DEPTH_LIMIT} levels")]
    TooDeep {
        /// Which image.
        subject: String,
    },
    /// An index has more entries to look into than any real one.
    #[error(
        "the index of {subject} has more than {LOOKUP_LIMIT} entries that do not say their platform"
    )]
    TooMany {
        /// Which image.
        subject: String,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Source(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::NoPlatform { .. }
            | Self::Incomplete { .. }
            | Self::Unnamed { .. }
            | Self::Empty { .. } => Kind::NotFound,
            Self::NotAManifest { .. } | Self::TooDeep { .. } | Self::TooMany { .. } => {
                Kind::Verification
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Unnamed { .. } => Some("name it with `--platform`".to_owned()),
            Self::NoPlatform { wanted, available, .. } => {
                let nearest = wanted.nearest(available)?;
                Some(format!("pass `--platform {nearest}`"))
            }
            _ => None,
        }
    }
}
