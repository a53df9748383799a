//! The parts of images, named as in the OCI specifications: references, digests,
//! platforms, and the documents that registries serve. No network access, and no files
//! except in [`digest::Digest::of_file`].

pub mod digest;
pub mod image;
pub mod location;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
