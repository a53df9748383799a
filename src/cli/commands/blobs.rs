//! `n2c blobs`: prints the Nix store paths of a lockfile's blobs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use n2c::formats::blob_map::{self, BlobMap};
use n2c::store::StoreDirectory;

use crate::cli::environment::environment;
use crate::cli::failure::Failure;
use crate::cli::lockfiles;
use crate::cli::platforms::PlatformOptions;
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A lockfile; for JSON, a plain manifest works too
    lockfile: PathBuf,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,

    #[command(flatten)]
    platforms: PlatformOptions,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Format {
    /// An object that maps hex digests to store paths
    Json,
    /// The fixed-output derivations, as one Nix expression
    Nix,
}

pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    let lockfile = lockfiles::read(&options.lockfile)?;
    let entries = lockfile.entries_for(&options.platforms.named(report)?)?;
    let text = match options.format {
        Format::Json => BlobMap::in_store(entries, &StoreDirectory::of(environment())?).to_json(),
        Format::Nix => blob_map::to_nix(lockfiles::repository(&lockfile)?, entries),
    };
    Report::result(None, text.as_bytes())
}
