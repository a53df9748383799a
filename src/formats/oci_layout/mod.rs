//! OCI layouts: images in a directory (OCI image-spec image-layout.md).

mod write;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Diagnose, Kind};
use crate::fs;
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::{self, Digest, Verified};
use crate::oci::location::LayoutReference;
use crate::oci::manifest::{self, Descriptor};
use crate::stream::readable::VerifiedFile;
use crate::stream::sink::{self, CopyError, Sink};
pub use write::Images;
pub(crate) use write::{Index, VERSION, contents};

/// The file that marks a directory as an OCI layout.
pub const MARKER: &str = "oci-layout";
/// The file that lists the images in a layout.
pub const INDEX: &str = "index.json";
/// The annotation with the full name of an image, for containerd.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The annotation with the name of an entry in `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why an image can't be read from a layout.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not an OCI layout, or can't be read.
    #[error("`{}` is not a readable OCI layout", directory.display())]
    NotALayout {
        /// The directory.
        directory: PathBuf,
        /// The error in reading `oci-layout` or `index.json`.
        #[source]
        source: fs::Error,
    },
    /// Its `index.json` has the wrong structure.
    #[error("invalid `index.json` in OCI layout `{}`", directory.display())]
    Shape {
        /// The directory.
        directory: PathBuf,
        /// The error from the parser.
        #[source]
        source: serde_json::Error,
    },
    /// No image in it has this name.
    #[error("no image `{name}` in OCI layout `{}`; it has: {available}", directory.display())]
    NoSuchImage {
        /// The directory.
        directory: PathBuf,
        /// The tag that was requested.
        name: String,
        /// The available tags.
        available: String,
    },
    /// The layout holds several images, and the location names none of them.
    #[error("OCI layout `{}` holds several images: {available}", directory.display())]
    Several {
        /// The directory.
        directory: PathBuf,
        /// The available tags.
        available: String,
    },
    /// A blob doesn't exist, or can't be read.
    #[error("OCI layout `{}` has no readable blob `{digest}`", directory.display())]
    NoSuchBlob {
        /// The directory.
        directory: PathBuf,
        /// The blob.
        digest: Digest,
        /// The I/O error.
        #[source]
        source: fs::Error,
    },
    /// A blob is larger than the limit for its kind of document.
    #[error("blob `{digest}` in OCI layout `{}` has {size} bytes, more than the limit of {limit}", directory.display())]
    TooLarge {
        /// The directory.
        directory: PathBuf,
        /// The blob.
        digest: Digest,
        /// Its size in bytes, according to its descriptor.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A copy of a blob can't be written.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A blob doesn't have the expected digest or size.
    #[error(transparent)]
    Digest(#[from] digest::Error),
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotALayout { source, .. } | Self::NoSuchBlob { source, .. } => {
                if source.is_missing() { Kind::NotFound } else { source.kind() }
            }
            Self::NoSuchImage { .. } => Kind::NotFound,
            Self::Shape { .. } | Self::TooLarge { .. } => Kind::Verification,
            Self::Several { .. } => Kind::Usage,
            Self::Copy(error) => error.kind(),
            Self::Digest(error) => error.kind(),
        }
    }
}

/// The path of a blob in the layout in `directory`. It can't lead out of the directory,
/// because a digest is only an algorithm and hex digits.
#[must_use]
pub fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// An image in an OCI layout.
#[derive(Clone, Debug)]
pub struct OciLayout {
    reference: LayoutReference,
}

#[derive(Deserialize)]
struct RawIndex {
    #[serde(default)]
    manifests: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The document that a reference means, and its size in bytes if it is known.
pub(crate) struct Chosen {
    pub(crate) digest: Digest,
    pub(crate) size: Option<u64>,
}

impl RawEntry {
    fn name(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(REF_NAME)?.as_str()
    }
}

impl OciLayout {
    /// The image that `reference` names. Reads nothing yet.
    #[must_use]
    pub const fn new(reference: LayoutReference) -> Self {
        Self { reference }
    }

    fn directory(&self) -> &Path {
        self.reference.directory()
    }

    /// Reads the index or manifest that the reference points to. Without a tag or digest,
    /// that is the layout's only image, or `index.json` itself if its entries have no names:
    /// then they are the platforms of one image.
    pub fn root(&self) -> Result<Verified, Error> {
        let not_a_layout =
            |source| Error::NotALayout { directory: self.directory().to_owned(), source };
        let file = |name| fs::read(&self.directory().join(name), manifest::SIZE_LIMIT);
        file(MARKER).map_err(not_a_layout)?;
        let index = file(INDEX).map_err(not_a_layout)?;
        let index = Verified::as_found(index);
        match self.choose(&index)? {
            Some(found) => self.read(&found.digest, found.size, manifest::SIZE_LIMIT),
            None => Ok(index),
        }
    }

    /// Chooses the entry of an `index.json` that the reference means, or `None` for the
    /// index itself.
    pub(crate) fn choose(&self, index: &Verified) -> Result<Option<Chosen>, Error> {
        let raw: RawIndex = json::parse(index.bytes(), VALUE_LIMIT)
            .map_err(|source| Error::Shape { directory: self.directory().to_owned(), source })?;
        if let Some(digest) = self.reference.digest() {
            let is_other = index.digest() != digest;
            return Ok(is_other.then(|| Chosen { digest: digest.clone(), size: None }));
        }
        let tags: Vec<&str> = raw.manifests.iter().filter_map(RawEntry::name).collect();
        let entry = match (self.reference.tag(), raw.manifests.as_slice()) {
            (Some(tag), entries) => {
                let found = entries.iter().find(|entry| entry.name() == Some(tag));
                found.ok_or_else(|| Error::NoSuchImage {
                    directory: self.directory().to_owned(),
                    name: tag.to_owned(),
                    available: list(&tags),
                })?
            }
            (None, [only]) => only,
            (None, _) if tags.is_empty() => return Ok(None),
            (None, _) => {
                return Err(Error::Several {
                    directory: self.directory().to_owned(),
                    available: list(&tags),
                });
            }
        };
        Ok(Some(Chosen { digest: entry.digest.clone(), size: Some(entry.size) }))
    }

    /// Reads and verifies a manifest or index.
    pub fn document(&self, digest: &Digest) -> Result<Verified, Error> {
        self.read(digest, None, manifest::SIZE_LIMIT)
    }

    /// Reads and verifies a blob of at most `limit` bytes.
    pub fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Verified, Error> {
        self.read(&descriptor.digest, Some(descriptor.size), limit)
    }

    /// Copies a blob of any size to `sink`, and verifies it.
    pub fn copy_blob(&self, descriptor: &Descriptor, sink: &mut dyn Sink) -> Result<(), Error> {
        let digest = &descriptor.digest;
        sink::copy_blob(&self.blob_path(digest), digest, descriptor.size, sink).map_err(|error| {
            match error {
                CopyError::Read(source) => Error::NoSuchBlob {
                    directory: self.directory().to_owned(),
                    digest: digest.clone(),
                    source,
                },
                error => Error::Copy(error),
            }
        })
    }

    /// Returns a blob of any size, which is verified while it is read.
    pub(crate) fn readable(&self, descriptor: &Descriptor) -> Result<VerifiedFile, Error> {
        let path = self.blob_path(&descriptor.digest);
        VerifiedFile::new(&path, descriptor).map_err(|error| {
            let source = fs::Error::Read { path, source: error };
            let (directory, digest) = (self.directory().to_owned(), descriptor.digest.clone());
            Error::NoSuchBlob { directory, digest, source }
        })
    }

    /// Reads the last `count` bytes of a blob, without verifying them.
    pub(crate) fn end_of_blob(&self, descriptor: &Descriptor, count: u64) -> Option<Vec<u8>> {
        let file = File::open(self.blob_path(&descriptor.digest)).ok()?;
        let mut end = vec![0; usize::try_from(count).ok()?];
        file.read_exact_at(&mut end, descriptor.size.checked_sub(count)?).ok()?;
        Some(end)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        blob_path(self.directory(), digest)
    }

    fn read(&self, digest: &Digest, size: Option<u64>, limit: u64) -> Result<Verified, Error> {
        let directory = self.directory();
        if let Some(size) = size
            && size > limit
        {
            return Err(Error::TooLarge {
                directory: directory.to_owned(),
                digest: digest.clone(),
                size,
                limit,
            });
        }
        let path = self.blob_path(digest);
        let bytes = fs::read(&path, limit).map_err(|source| Error::NoSuchBlob {
            directory: directory.to_owned(),
            digest: digest.clone(),
            source,
        })?;
        Ok(Verified::check(&format!("blob `{}`", path.display()), bytes, digest, size)?)
    }
}

fn list(tags: &[&str]) -> String {
    if tags.is_empty() {
        return "none".to_owned();
    }
    tags.iter().map(|tag| format!("`{}`", tag.escape_default())).collect::<Vec<_>>().join(", ")
}
