//! What is copied: one image or several, with everything that belongs to them.

use std::collections::BTreeMap;

use super::Error;
use crate::formats::convert;
use crate::formats::oci_layout::Images;
use crate::oci::digest::Verified;
use crate::oci::image::Image;
use crate::oci::manifest::{Descriptor, Document};
use crate::source::CompressedLayers;

/// The format of manifests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// The OCI format.
    Oci,
    /// Docker's manifest, version 2 schema 2.
    Docker,
}

/// The document that names the whole.
#[derive(Clone, Debug)]
enum Root {
    /// The manifest of the only image.
    Image,
    /// An index that lists the images.
    Index(Box<Document>),
    /// An index that is made when its images are what they will be.
    ToMake,
}

/// One image or several, and what belongs to them.
#[derive(Clone, Debug)]
pub struct Selection {
    images: Vec<Image>,
    root: Root,
    /// Other documents that the index lists, and their blobs.
    others: Vec<Verified>,
    other_blobs: Vec<Descriptor>,
}

/// How an image is changed on its way. What isn't asked for stays as it is, to the byte.
#[derive(Clone, Copy)]
pub struct Changes<'a> {
    /// Compresses the plain layers; everything must be known of them.
    pub layers: Option<&'a CompressedLayers<'a>>,
    /// The format to convert manifests to.
    pub format: Option<Format>,
    /// Annotations to add to manifests and to the index.
    pub annotations: &'a BTreeMap<String, String>,
}

impl Selection {
    /// One image.
    #[must_use]
    pub fn one(image: Image) -> Self {
        Self::of(vec![image], None)
    }

    /// Images that `index` lists if there is one.
    #[must_use]
    pub fn of(images: Vec<Image>, index: Option<Document>) -> Self {
        let root = index.map_or(Root::Image, |index| Root::Index(Box::new(index)));
        Self { images, root, others: Vec::new(), other_blobs: Vec::new() }
    }

    /// The same with other documents that the index lists, and their blobs.
    #[must_use]
    pub fn with(self, others: Vec<Verified>, other_blobs: Vec<Descriptor>) -> Self {
        Self { others, other_blobs, ..self }
    }

    /// Several selections as one image for several platforms.
    #[must_use]
    pub fn joined(selections: Vec<Self>) -> Self {
        let images = selections.into_iter().flat_map(|one| one.images).collect();
        Self { root: Root::ToMake, ..Self::of(images, None) }
    }

    /// The images.
    #[must_use]
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// Applies changes, and makes the index if it has to be made.
    pub fn changed(mut self, changes: &Changes<'_>) -> Result<Self, Error> {
        let mut replaced = Vec::new();
        for image in &mut self.images {
            let old = image.manifest().raw().digest().clone();
            let subject = format!("`{old}`");
            if let Some(layers) = changes.layers {
                *image = layers.image(image)?;
            }
            match changes.format {
                Some(Format::Oci) => *image = convert::to_oci(&subject, image)?,
                Some(Format::Docker) => *image = convert::to_docker(&subject, image)?,
                None => {}
            }
            if !changes.annotations.is_empty() {
                *image = convert::annotated(&subject, image, changes.annotations)?;
            }
            replaced.push((old, image.clone()));
        }
        let is_same = |(old, image): &(_, Image)| image.manifest().raw().digest() == old;
        let is_untouched = replaced.iter().all(is_same)
            && changes.annotations.is_empty()
            && changes.format.is_none();
        match &self.root {
            Root::Index(document) if !is_untouched => {
                let Document::Index(index) = &**document else { return Ok(self) };
                let subject = format!("`{}`", index.raw().digest());
                let annotations = changes.annotations;
                let index =
                    convert::index_with(&subject, index, &replaced, &self.others, annotations)?;
                self.root = Root::Index(Box::new(index));
            }
            Root::ToMake => {
                let index = convert::index_of("the index", &self.images, changes.annotations)?;
                self.root = Root::Index(Box::new(index));
            }
            Root::Image | Root::Index(_) => {}
        }
        Ok(self)
    }

    /// Everything to write or send, unless there is no image.
    #[must_use]
    pub fn contents(&self) -> Option<Images<'_>> {
        let first = self.images.first()?;
        let (root, media_type) = match &self.root {
            Root::Index(index) => (index.raw(), index.media_type()),
            Root::Image | Root::ToMake => (first.manifest().raw(), first.manifest().media_type()),
        };
        let Self { images, others, other_blobs, .. } = self;
        Some(Images { root, media_type, others, other_blobs, images })
    }
}
