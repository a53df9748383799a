//! Why a location leads to no image.

use super::{DEPTH_LIMIT, LOOKUP_LIMIT};
use crate::digest::Digest;
use crate::error::{Diagnose, Kind};
use crate::manifest::{self, Descriptor};
use crate::platform::{self, Platform};
use crate::{digest, fs, image, oci_layout, registry, sink};

/// Why a location leads to no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The layout on disk does not hold it.
    #[error(transparent)]
    OciLayout(#[from] oci_layout::Error),
    /// A manifest or index is not usable.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A config is not usable.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A blob on disk can't be copied.
    #[error(transparent)]
    Copy(#[from] sink::CopyError),
    /// A blob or document on disk can't be read.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// A blob or document on disk is not what it should be.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// A lockfile does not say which manifest it is made of.
    #[error("`{file}` does not say which manifest it is made of")]
    NoDigest {
        /// The lockfile.
        file: String,
    },
    /// A lockfile does not say where a blob is, and the Nix store has it not.
    #[error("`{file}` does not say where blob `{digest}` is, and the Nix store has it not")]
    Nowhere {
        /// The lockfile.
        file: String,
        /// The blob.
        digest: Digest,
    },
    /// A lockfile differs from the manifest or config that it pins.
    #[error("`{file}` is not what its manifest and config say")]
    Edited {
        /// The lockfile.
        file: String,
    },
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
            Self::Registry(error) => error.kind(),
            Self::OciLayout(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Copy(error) => error.kind(),
            Self::Fs(error) => error.kind(),
            Self::Digest(error) => error.kind(),
            Self::NoDigest { .. } | Self::Nowhere { .. } => Kind::Usage,
            Self::NoPlatform { .. }
            | Self::Incomplete { .. }
            | Self::Unnamed { .. }
            | Self::Empty { .. } => Kind::NotFound,
            Self::Edited { .. }
            | Self::NotAManifest { .. }
            | Self::TooDeep { .. }
            | Self::TooMany { .. } => Kind::Verification,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::OciLayout(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Unnamed { .. } => Some("name it with `--platform`".to_owned()),
            Self::Fs(error) => error.hint(),
            Self::NoDigest { .. } | Self::Nowhere { .. } | Self::Edited { .. } => {
                Some("make a lockfile with `n2c lock`".to_owned())
            }
            Self::NoPlatform { wanted, available, .. } => {
                let nearest = wanted.nearest(available)?;
                Some(format!("pass `--platform {nearest}`"))
            }
            _ => None,
        }
    }
}
