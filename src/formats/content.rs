//! The files of directories and archives.

use std::borrow::Cow;

use crate::oci::manifest::Descriptor;

/// The content of a file in a directory or an archive.
pub(crate) enum Content<'a> {
    Here(Cow<'a, [u8]>),
    ToFetch(&'a Descriptor),
}

impl Content<'_> {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::ToFetch(blob) => blob.size,
        }
    }
}
