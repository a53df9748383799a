//! Lockfiles over time: brought up to date, verified, and compared.

pub mod difference;
pub mod tag_version;
pub mod update;
pub mod verify;
