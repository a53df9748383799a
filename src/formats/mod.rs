//! The formats that n2c reads and writes. No network access.

pub mod blob_map;
pub(crate) mod content;
pub mod convert;
pub mod docker_archive;
pub(crate) mod go_json;
pub mod image_json;
pub mod layers;
pub mod lockfile;
pub mod oci_layout;
pub mod time;
