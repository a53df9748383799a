//! Tests with real registries, Nix, skopeo and other programs, which `tests/run` installs.

#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod build;
mod build_image;
mod copy_registry;
mod docker_tools;
mod doctor;
mod end_to_end;
mod engines;
mod examples;
mod nix;
mod prefetch;
mod push;
mod real_registries;
mod renovate;
mod snapshotter;
mod whole_images;
