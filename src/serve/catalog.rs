//! What a registry serves: repositories, their tags, documents and blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::Transfers;
use crate::error::{Diagnose, Kind};
use crate::formats::oci_layout::{self, Images, OciLayout};
use crate::oci::digest::{Digest, Verified};
use crate::oci::location::LayoutReference;
use crate::oci::manifest::{self, Descriptor, Document};
use crate::oci::media_type;
use crate::oci::reference::{self, Repository as Name};
use crate::source::{self, Blobs};
use crate::stream::readable::{Readable, ReadableFile};

/// Why something can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is not a valid repository name.
    #[error(transparent)]
    Name(#[from] reference::Error),
    /// A blob can't be had.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The layout can't be read.
    #[error(transparent)]
    OciLayout(#[from] oci_layout::Error),
    /// A document in the layout is invalid.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A blob's file is missing or can't be served.
    #[error("failed to serve `{}`", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Name(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::OciLayout(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::File { .. } => Kind::Other,
        }
    }
}

/// A document and its media type.
#[derive(Clone, Debug)]
pub(super) struct TypedDocument {
    pub(super) media_type: String,
    pub(super) raw: Verified,
}

/// Everything that is served under one name.
#[derive(Clone, Default)]
pub(super) struct Repository {
    pub(super) tags: BTreeMap<String, Digest>,
    pub(super) documents: BTreeMap<Digest, TypedDocument>,
    pub(super) blobs: BTreeMap<Digest, Arc<dyn Readable>>,
}

/// Everything that a registry serves.
#[derive(Clone, Default)]
pub struct Catalog {
    repositories: BTreeMap<String, Repository>,
    /// Counts what is being sent.
    pub(super) transfers: Transfers,
}

impl Catalog {
    /// Creates an empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn count_with(&mut self, transfers: &Transfers) {
        self.transfers = transfers.clone();
    }

    pub(super) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    fn repository_mut(&mut self, name: &str) -> Result<&mut Repository, Error> {
        // The host does not matter: the client chooses how to address this registry.
        let name = Name::new("localhost", name)?;
        Ok(self.repositories.entry(name.path().to_owned()).or_default())
    }

    /// Serves an index or a manifest by its digest, and by `tag` if there is one.
    pub fn add_document(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        raw: Verified,
    ) -> Result<(), Error> {
        let repository = self.repository_mut(repository)?;
        let digest = raw.digest().clone();
        repository.tags.extend(tag.map(|tag| (tag.to_owned(), digest.clone())));
        repository
            .documents
            .insert(digest, TypedDocument { media_type: media_type.to_owned(), raw });
        Ok(())
    }

    /// Serves a blob, whose content nobody checks but its clients.
    pub fn add_blob(
        &mut self,
        repository: &str,
        digest: Digest,
        content: Arc<dyn Readable>,
    ) -> Result<(), Error> {
        self.repository_mut(repository)?.blobs.insert(digest, content);
        Ok(())
    }

    /// Serves images, with everything that belongs to them, under a name and a tag. Layers
    /// that are made from store paths are made whenever they are read; what has to be fetched
    /// is fetched now.
    pub async fn add_images(
        &mut self,
        repository: &str,
        tag: &str,
        images: &Images<'_>,
        blobs: &dyn Blobs,
    ) -> Result<(), Error> {
        for image in images.images {
            let config = image.config().raw();
            let content = Arc::new(Bytes::copy_from_slice(config.bytes()));
            self.add_blob(repository, config.digest().clone(), content)?;
            let manifest = image.manifest();
            let raw = manifest.raw().clone();
            self.add_document(repository, None, manifest.media_type(), raw)?;
        }
        for layer in images.layers() {
            let is_there = |known: &Repository| known.blobs.contains_key(&layer.digest);
            if !self.repository(repository).is_some_and(is_there) {
                let content = source::local(blobs, layer).await?.into();
                self.add_blob(repository, layer.digest.clone(), content)?;
            }
        }
        for raw in images.others {
            let media_type = manifest::media_type_of_any(raw);
            self.add_document(repository, None, &media_type, raw.clone())?;
        }
        self.add_document(repository, Some(tag), images.media_type, images.root.clone())
    }

    /// Serves the document that a reference to an OCI layout points to, and everything
    /// below it that is present, under a name and a tag. Blobs stay in their files.
    pub fn add_layout(
        &mut self,
        repository: &str,
        tag: &str,
        reference: &LayoutReference,
    ) -> Result<(), Error> {
        let layout = OciLayout::new(reference.clone());
        let (mut waiting, mut seen) = (vec![(layout.root()?, Some(tag))], BTreeSet::new());
        while let Some((raw, tag)) = waiting.pop() {
            if !seen.insert(raw.digest().clone()) {
                continue;
            }
            let subject = format!("`{}` in `{}`", raw.digest(), reference.directory().display());
            let parsed = Document::parse(&subject, raw.clone(), None);
            let (media_type, children) = match &parsed {
                Ok(Document::Index(index)) => {
                    let entries = index.entries().iter();
                    (index.media_type(), entries.map(|entry| &entry.descriptor).collect())
                }
                Ok(Document::Manifest(manifest)) => (manifest.media_type(), Vec::new()),
                // An attestation or another artifact.
                Err(_) => (media_type::OCI_MANIFEST, Vec::new()),
            };
            for child in children {
                // The layout may contain only a part of the index.
                waiting.extend(layout.document(&child.digest).ok().map(|raw| (raw, None)));
            }
            for blob in manifest::blobs_of_any(&raw) {
                self.add_layout_blob(repository, reference, &blob)?;
            }
            self.add_document(repository, tag, media_type, raw)?;
        }
        Ok(())
    }

    fn add_layout_blob(
        &mut self,
        repository: &str,
        reference: &LayoutReference,
        blob: &Descriptor,
    ) -> Result<(), Error> {
        let path = oci_layout::blob_path(reference.directory(), &blob.digest);
        match ReadableFile::new(&path) {
            Ok(file) => self.add_blob(repository, blob.digest.clone(), Arc::new(file)),
            // A missing blob is reported when a client asks for it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::File { path, source }),
        }
    }
}
