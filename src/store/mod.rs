//! What n2c knows of the Nix store, without Nix: its paths, and how to add to it.

mod add;
mod daemon;
mod path;

pub use add::{AddError, Store};
pub use path::{Error, StoreDirectory, StorePath};
