//! Why a location does not lead to an image.

use super::{DEPTH_LIMIT, LOOKUP_LIMIT};
use crate::error::{Diagnose, Kind};
use crate::oci::image;
use crate::oci::manifest::{self, Descriptor};
use crate::oci::platform::{self, Platform};
use crate::source;

/// Why a location does not lead to an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source can't provide it.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A manifest or index can't be used.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A config can't be used.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// There is no image for the platform.
    #[error("no image for `{wanted}` in {subject}; available: {}", platform::list(available))]
    NoPlatform {
        /// Which image.
        subject: String,
        /// The platform that was asked for.
        wanted: Platform,
        /// The platforms that are available.
        available: Vec<Platform>,
    },
    /// A document that an index lists is missing.
    #[error("`{}`, which is listed in {subject}, is missing", descriptor.digest)]
    Incomplete {
        /// Which index.
        subject: String,
        /// The missing document.
        descriptor: Descriptor,
    },
    /// The index contains no images.
    #[error("{subject} contains no image")]
    Empty {
        /// Which index.
        subject: String,
    },
    /// The images don't say which platform they are for.
    #[error("{subject} does not say which platform it is for")]
    Unnamed {
        /// Which image.
        subject: String,
    },
    /// An index lists an entry as a manifest, but the entry is an index.
    #[error("`{}` in {subject} is an index, though listed as a manifest", descriptor.digest)]
    NotAManifest {
        /// Which image.
        subject: String,
        /// The entry.
        descriptor: Descriptor,
    },
    /// Indexes are nested deeper than in any real image.
    #[error("the indexes of {subject} are nested deeper than {DEPTH_LIMIT} levels")]
    TooDeep {
        /// Which image.
        subject: String,
    },
    /// More entries of an index have to be fetched than any real index would need.
    #[error("the index of {subject} has more than {LOOKUP_LIMIT} entries without a platform")]
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
}
