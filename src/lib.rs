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
//! Another way leads from store paths to an image: [`build::layers`] makes
//! [`formats::layers::Layer`]s of a closure, [`build::image`] an image.json of those, and
//! [`source::BuiltImage`] is the image that it describes, which [`copy`] writes.
//!
//! Locking an image takes a few lines:
//!
//! ```no_run
//! # async fn lock() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use n2c::formats::lockfile::Entry;
//! use n2c::observer::Silent;
//! use n2c::{Client, ClientOptions, Location, Lockfile, Platform, Resolution};
//!
//! let client = Client::new(ClientOptions::default(), Arc::new(Silent))?;
//! let location: Location = "alpine:3.19".parse()?;
//! let platform: Platform = "aarch64-linux".parse()?;
//! let resolution = Resolution::open(&location, &client, &Silent).await?;
//! let image = resolution.image(&platform).await?;
//! let entry = Entry::new(platform, &image);
//! let lockfile = Lockfile::single(resolution.location().clone(), entry);
//! std::fs::write("alpine.json", lockfile.to_text())?;
//! # Ok(())
//! # }
//! ```
//!
//! A module uses only modules of the layers below it, which `tests/offline/architecture.rs` lists.
//! Only [`registry`] and [`serve`] use the network. The library prints nothing: it reports
//! events to an [`observer::Observer`].

pub mod build;
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
pub use copy::Destination;
pub use environment::Environment;
pub use error::{Diagnose, Kind, error_chain};
pub use formats::blob_map::BlobMap;
pub use formats::image_json::ImageJson;
pub use formats::lockfile::Lockfile;
pub use observer::Observer;
pub use oci::digest::Digest;
pub use oci::image::Image;
pub use oci::location::Location;
pub use oci::platform::Platform;
pub use oci::reference::{Reference, Repository};
pub use registry::{Client, ClientOptions};
pub use resolve::Resolution;
pub use source::BuiltImage;
pub use store::{StoreDirectory, StorePath};
