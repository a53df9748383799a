//! Maintains lockfiles: updates, verifies and compares them.

pub mod difference;
pub mod tag_version;
pub mod update;
pub mod verify;
