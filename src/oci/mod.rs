//! What images are made of, in the words of the OCI specifications: names, digests,
//! platforms, and the documents that registries serve. No network, and no files.

pub mod digest;
pub mod image;
pub mod location;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
