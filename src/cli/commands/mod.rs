//! The commands: one file each, with its options and what it does.

mod auth;
mod blob;
mod blobs;
mod copy;
mod demo;
mod derivation;
mod diff;
mod doctor;
mod generate;
mod hash;
mod image;
mod image_from_dir;
mod image_from_manifest;
mod inspect;
mod layers;
mod lock;
mod prefetch;
mod serve;
mod update;
mod verify;

use std::sync::Arc;

use clap::Subcommand;

use super::failure::Failure;
use super::report::Report;
use super::signals;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Resolve an image and write its lockfile
    Lock(lock::Options),
    /// Move lockfiles to what their tags point to now
    ///
    /// With `--check`, exits with 3 if a lockfile is out of date. If any lockfile
    /// fails, exits with the code of the first failure.
    Update(update::Update),
    /// Make each lockfile match its `ref` line, after a bot edited that line
    Refresh(update::Refresh),
    /// Show what changed between two lockfiles or images
    Diff(diff::Options),
    /// Check that everything that lockfiles pin is still available
    Verify(verify::Options),
    /// Show an image's platforms, layers, sizes and config
    Inspect(inspect::Options),
    /// Print the Nix store paths of a lockfile's blobs
    Blobs(blobs::Options),
    /// Fetch one blob by its digest
    Blob(blob::Options),
    /// Fetch lockfiles' blobs into the Nix store as the current user, before a build needs them
    Prefetch(prefetch::Options),
    /// Copy an image into a directory or an archive
    Pull(Box<copy::Pull>),
    /// Copy images to registries, engines, directories and archives, sending only what isn't there
    ///
    /// Takes skopeo's options, before or behind the names. What was pushed is
    /// printed as `NAME@DIGEST`.
    Copy(Box<copy::Copy>),
    /// Serve images from this machine as a read-only registry, until it is interrupted
    ///
    /// Prints its address on stdout when it is ready. Layers of images that were
    /// built are made from their store paths while they are read.
    Serve(Box<serve::Options>),
    /// Print the arguments of Nix's `pullImage` without writing the image to disk
    Hash(hash::Options),
    /// Write nix2container's image.json from a config and layers
    Image(image::Options),
    /// Write nix2container's layers.json from the store paths of a closure
    #[command(name = "layers-from-reproducible-storepaths")]
    Layers(layers::Options),
    /// The same, with the layers in files, for store paths that may change
    #[command(name = "layers-from-non-reproducible-storepaths")]
    NonReproducibleLayers(layers::NonReproducible),
    /// Write nix2container's image.json from an image in a directory or OCI layout
    ImageFromDir(image_from_dir::Options),
    /// Write nix2container's image.json from a lockfile and a blob map
    ImageFromManifest(image_from_manifest::Options),
    /// Show which credentials are used, or export them
    #[command(subcommand)]
    Auth(auth::Command),
    /// Find out why a fetch in a build sandbox would fail, and suggest fixes
    ///
    /// Exits with 1 if there is a problem. Changes nothing.
    Doctor(doctor::Options),
    /// Show n2c at work with a registry on this machine, without a network
    Demo,
    /// Build a derivation of n2c's Nix functions, from the attributes that Nix wrote
    #[command(hide = true)]
    Derivation,
    /// Print a shell completion script
    Completions(generate::Completions),
    /// Print n2c's manual page
    Man,
}

/// Runs a command. What waits for something can be interrupted.
pub(super) fn run(command: Command, report: &Arc<Report>) -> Result<(), Failure> {
    match command {
        Command::Blobs(options) => blobs::run(&options, report),
        Command::Image(options) => image::run(&options, report),
        Command::Layers(options) => layers::reproducible(&options, report),
        Command::NonReproducibleLayers(options) => layers::non_reproducible(&options, report),
        Command::ImageFromManifest(options) => image_from_manifest::run(&options, report),
        Command::ImageFromDir(options) => {
            signals::interruptible(report, image_from_dir::run(options, report))
        }
        Command::Hash(options) => signals::interruptible(report, hash::run(options, report)),
        Command::Pull(options) => signals::interruptible(report, copy::pull(*options, report)),
        Command::Copy(options) => signals::interruptible(report, copy::copy(*options, report)),
        Command::Serve(options) => {
            signals::until_stopped(report, |stopped| serve::run(*options, stopped, report))
        }
        Command::Derivation => derivation::run(report),
        Command::Completions(options) => generate::completions(&options),
        Command::Man => generate::man(),
        Command::Lock(options) => signals::interruptible(report, lock::run(options, report)),
        Command::Update(options) => signals::interruptible(report, update::update(options, report)),
        Command::Refresh(options) => {
            signals::interruptible(report, update::refresh(options, report))
        }
        Command::Diff(options) => diff::run(&options, report),
        Command::Verify(options) => signals::interruptible(report, verify::run(options, report)),
        Command::Inspect(options) => signals::interruptible(report, inspect::run(options, report)),
        Command::Blob(options) => signals::interruptible(report, blob::run(options, report)),
        Command::Prefetch(options) => {
            signals::interruptible(report, prefetch::run(options, report))
        }
        Command::Doctor(options) => signals::interruptible(report, doctor::run(options, report)),
        Command::Demo => signals::interruptible(report, demo::run(report)),
        Command::Auth(command) => signals::interruptible(report, auth::run(command, report)),
    }
}
