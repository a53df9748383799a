//! What every error of this library can say beside its message: its kind,
//! which is the exit code, and what would help.

use crate::{blob_map, digest, fs, image, image_json, lockfile, manifest, oci_layout};
use crate::{platform, pull, reference, registry, resolve, store, update, verify};

/// What went wrong, as far as a calling program needs to know.
///
/// The numbers are the exit codes of the `n2c` binary and part of its
/// contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Anything without a code of its own, such as a file that can't be written.
    Other,
    /// The call itself is wrong: an invalid reference, platform or digest.
    Usage,
    /// A lockfile is not what its tag leads to now.
    Stale,
    /// The image, blob or platform is not there, or no longer.
    NotFound,
    /// The registry does not let this user have it.
    Denied,
    /// The registry asks for fewer requests.
    RateLimited,
    /// The network or the server failed, after all tries.
    Network,
    /// Something arrived, but not what was asked for: digest, size, media
    /// type or format is wrong.
    Verification,
}

impl Kind {
    /// The exit code of the `n2c` binary for errors of this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Stale => 3,
            Self::NotFound => 4,
            Self::Denied => 5,
            Self::RateLimited => 6,
            Self::Network => 7,
            Self::Verification => 8,
        }
    }
}

/// An error that knows its kind and, often, what to do about it.
pub trait Diagnose: std::error::Error {
    /// What kind of failure this is.
    fn kind(&self) -> Kind;

    /// What the user can do, as one sentence without a full stop.
    fn hint(&self) -> Option<String> {
        None
    }
}

macro_rules! stages {
    ($($(#[$doc:meta])* $variant:ident($error:ty)),* $(,)?) => {
        /// Any error of this library: one variant for each stage of the pipeline.
        #[derive(Debug, thiserror::Error)]
        pub enum Error {
            $($(#[$doc])* #[error(transparent)] $variant(#[from] $error),)*
        }

        impl Diagnose for Error {
            fn kind(&self) -> Kind {
                match self { $(Self::$variant(error) => error.kind(),)* }
            }

            fn hint(&self) -> Option<String> {
                match self { $(Self::$variant(error) => error.hint(),)* }
            }
        }
    };
}

stages! {
    /// A digest is malformed, or bytes do not have it.
    Digest(digest::Error),
    /// A platform name is malformed.
    Platform(platform::Error),
    /// An image reference is malformed.
    Reference(reference::Error),
    /// A registry could not or would not answer.
    Registry(registry::Error),
    /// An OCI layout on disk could not be read.
    OciLayout(oci_layout::Error),
    /// A manifest or index is not what it should be.
    Manifest(manifest::Error),
    /// An image config is not what it should be, or not its manifest's.
    Image(image::Error),
    /// A reference leads to no image for a platform.
    Resolve(resolve::Error),
    /// Something is not as a lockfile says.
    Verify(verify::Error),
    /// A lockfile can't be brought up to date.
    Update(update::Error),
    /// An image can't be put on disk.
    Pull(pull::Error),
    /// A lockfile can't be read.
    Lockfile(lockfile::Error),
    /// A store path can't be computed.
    Store(store::Error),
    /// A file can't be added to a Nix store.
    StoreAdd(store::AddError),
    /// A blob map can't be read, or made.
    BlobMap(blob_map::Error),
    /// An image.json can't be made.
    ImageJson(image_json::Error),
    /// A file can't be read or written.
    Fs(fs::Error),
}

/// An error and its causes in one line, the outermost first.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}
