//! Tests that need nothing but this crate: images are made in memory, and registries are mocks
//! or the one that the program has in it.

#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod auth;
mod bad_input;
mod blob;
mod build;
mod copy;
mod copy_registry;
mod demo;
mod docs;
mod engines;
mod golden;
mod hostile;
mod lock;
mod network;
mod properties;
mod pull;
mod push;
mod regressions;
mod send;
mod serve;
mod serve_command;
mod snapshotter;
mod update;
