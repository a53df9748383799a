//! n2c locks container images, fetches their blobs, and hands them to Nix.
//!
//! Data flows one way, one type for each step:
//!
//! 1. a [`location::Location`] is what the user names;
//! 2. a [`registry::Client`] or an [`oci_layout::OciLayout`] fetches what it leads to;
//! 3. a [`manifest::Document`] is parsed from verified bytes, and is an
//!    [`manifest::Index`] or an [`manifest::ImageManifest`];
//! 4. a [`platform::Platform`] picks one entry of an index, in [`resolve`];
//! 5. an [`image::Image`] is a manifest and its config;
//! 6. a [`lockfile::Lockfile`] pins it;
//! 7. a [`blob_map::BlobMap`] says where in the Nix store its blobs are;
//! 8. an [`image_json::ImageJson`] is what nix2container builds upon.
//!
//! Only [`registry`] uses the network, and nothing in here prints: an
//! [`observer::Observer`] is told.

pub mod blob_map;
pub mod convert;
pub mod decompress;
pub mod difference;
pub mod digest;
pub mod docker_archive;
pub mod error;
pub mod fs;
pub mod hash_thread;
pub mod image;
pub mod image_json;
mod json;
pub mod location;
pub mod lockfile;
pub mod manifest;
pub mod media_type;
pub mod observer;
pub mod oci_layout;
pub mod platform;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod resolve;
pub mod sink;
pub mod store;
pub mod text;
pub mod update;
pub mod verify;
pub mod version;

pub use error::{Diagnose, Error, Kind, error_chain};
