//! n2c pins container images in lockfiles, fetches their blobs, and hands them to Nix.
//!
//! Data flows one way, one type for each step:
//!
//! 1. a [`oci::location::Location`] is what the user names;
//! 2. a [`registry::Client`] or an [`formats::oci_layout::OciLayout`] fetches what it leads to;
//! 3. a [`oci::manifest::Document`] is parsed from verified bytes, and is an
//!    [`oci::manifest::Index`] or an [`oci::manifest::ImageManifest`];
//! 4. a [`oci::platform::Platform`] picks one entry of an index, in [`resolve`];
//! 5. an [`oci::image::Image`] is a manifest and its config;
//! 6. a [`formats::lockfile::Lockfile`] pins it;
//! 7. a [`formats::blob_map::BlobMap`] says where in the Nix store its blobs are;
//! 8. an [`formats::image_json::ImageJson`] is what nix2container builds upon.
//!
//! Each folder uses only those below it; `tests/architecture.rs` says in which order.
//! Only [`registry`] and [`serve`] use the network, and nothing in here prints: an
//! [`observer::Observer`] is told.

mod cleanup;
pub mod copy;
pub mod error;
pub mod formats;
pub mod fs;
mod json;
pub mod observer;
pub mod oci;
pub mod registry;
pub mod resolve;
pub mod serve;
pub mod source;
pub mod store;
pub mod stream;
pub mod text;
pub mod upkeep;

pub use cleanup::clean_up;
pub use error::{Diagnose, Kind, error_chain};
