//! n2c pins container images in lockfiles, fetches their blobs, and hands them to Nix.
//!
//! Data flows one way, with one type for each step:
//!
//! 1. The user names an [`oci::location::Location`].
//! 2. A [`registry::Client`] or a [`formats::oci_layout::OciLayout`] fetches what it refers to.
//! 3. An [`oci::manifest::Document`] is parsed from verified bytes. It is either an
//!    [`oci::manifest::Index`] or an [`oci::manifest::ImageManifest`].
//! 4. An [`oci::platform::Platform`] selects one entry of an index, in [`resolve`].
//! 5. An [`oci::image::Image`] combines a manifest and its config.
//! 6. A [`formats::lockfile::Lockfile`] pins the image.
//! 7. A [`formats::blob_map::BlobMap`] maps its blobs to their Nix store paths.
//! 8. A [`formats::image_json::ImageJson`] describes the image for nix2container.
//!
//! A module only uses modules of the layers below it; `tests/offline/architecture.rs` defines the layers.
//! Only [`registry`] and [`serve`] use the network. The library prints nothing: it reports
//! events to an [`observer::Observer`].

mod cleanup;
pub mod copy;
pub mod environment;
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
