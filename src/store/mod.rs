//! What n2c knows about the Nix store without asking Nix: its paths, and how to add to it.

mod add;
mod command;
mod daemon;
mod error;
mod incoming;
pub mod nar;
mod path;
mod wire;

pub use add::{Ingestion, Store};
pub use error::{AddError, is_hang_up};
pub use incoming::IncomingBlob;
pub use path::{Error, StoreDirectory, StorePath, is_store_path, sanitise_name};
