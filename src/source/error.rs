//! Why a source can't provide a document or a blob.

use std::fmt;
use std::io;

use crate::error::{Diagnose, Kind};
use crate::formats::{convert, oci_layout};
use crate::oci::digest::{self, Digest};
use crate::oci::{image, manifest};
use crate::{build, fs, registry, stream};

/// Why a source can't provide a document or a blob.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry failed to serve it.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The OCI layout on disk can't provide it.
    #[error(transparent)]
    OciLayout(#[from] oci_layout::Error),
    /// A manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A config can't be used.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A blob on disk can't be copied.
    #[error(transparent)]
    Copy(#[from] stream::sink::CopyError),
    /// A blob or document on disk can't be read.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// A blob or document on disk has the wrong digest or size.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// An image.json does not describe an image that can be used.
    #[error(transparent)]
    Convert(#[from] convert::Error),
    /// A layer can't be made from its store paths.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// A layer can't be passed on.
    #[error("failed to write layer `{digest}`")]
    Write {
        /// The layer.
        digest: Digest,
        /// The I/O error, which names the place.
        #[source]
        source: io::Error,
    },
    /// A layer can't be read.
    #[error("failed to read layer `{digest}`")]
    Read {
        /// The layer.
        digest: Digest,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// A layer is compressed to something else than what was recorded or remembered.
    #[error("layer `{digest}` is not what was recorded")]
    NotAsRecorded {
        /// The compressed layer, as it was recorded.
        digest: Digest,
        /// The expected and the actual digest.
        #[source]
        source: digest::Error,
    },
    /// Store paths are not what they were when their layer was built.
    #[error("layer `{digest}` can't be made again from {paths}{}", ChangedLast(newest.as_deref()))]
    Changed {
        /// The layer.
        digest: Digest,
        /// Its store paths, or some of them.
        paths: String,
        /// The file that was changed last, if it is known.
        newest: Option<String>,
        /// The expected and the actual digest.
        #[source]
        source: digest::Error,
    },
    /// An image.json doesn't say what a layer holds.
    #[error("`{file}` does not say what layer `{digest}` holds")]
    NoContent {
        /// The image.json.
        file: String,
        /// The layer.
        digest: Digest,
    },
    /// A directory or an archive lacks a blob.
    #[error("`{place}` has no blob `{digest}`")]
    NotInFiles {
        /// The place.
        place: String,
        /// The blob.
        digest: Digest,
    },
    /// An archive lacks a file.
    #[error("archive `{file}` has no file `{name}`")]
    NotInArchive {
        /// The archive.
        file: String,
        /// The file's name, escaped.
        name: String,
    },
    /// A docker archive can't be used.
    #[error("can't read docker archive `{file}`: {reason}")]
    DockerArchive {
        /// The archive.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The list of images in a docker archive is malformed.
    #[error("invalid `manifest.json` in docker archive `{file}`")]
    DockerManifest {
        /// The archive.
        file: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The lockfile does not say which manifest it was made from.
    #[error("`{file}` does not say which manifest it was made from")]
    NoDigest {
        /// The lockfile.
        file: String,
    },
    /// The lockfile does not say where a blob is, and the Nix store does not have it.
    #[error("`{file}` does not say where blob `{digest}` is, and the Nix store does not have it")]
    Nowhere {
        /// The lockfile.
        file: String,
        /// The blob.
        digest: Digest,
    },
    /// The lockfile differs from the manifest or config that it pins.
    #[error("`{file}` does not match its manifest and config")]
    Edited {
        /// The lockfile.
        file: String,
    },
}

impl Error {
    /// The error behind one that occurred while a layer was read.
    #[must_use]
    pub fn of_content(digest: &Digest, source: io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            Ok(error) => return error,
            Err(source) => source,
        };
        match source.downcast::<digest::Error>() {
            Ok(error) => error.into(),
            Err(source) => Self::Read { digest: digest.clone(), source },
        }
    }
}

struct ChangedLast<'a>(Option<&'a str>);

impl fmt::Display for ChangedLast<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |file| write!(formatter, " (`{file}` was changed last)"))
    }
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
            Self::Convert(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Write { .. } | Self::Read { .. } => Kind::Other,
            Self::DockerArchive { .. } | Self::NoDigest { .. } | Self::Nowhere { .. } => {
                Kind::Usage
            }
            Self::Changed { .. }
            | Self::NotAsRecorded { .. }
            | Self::NoContent { .. }
            | Self::NotInFiles { .. }
            | Self::NotInArchive { .. }
            | Self::DockerManifest { .. }
            | Self::Edited { .. } => Kind::Verification,
        }
    }
}
