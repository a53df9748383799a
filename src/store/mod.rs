//! What n2c knows of the Nix store, without Nix.

mod path;

pub use path::{Error, StoreDirectory, StorePath};
