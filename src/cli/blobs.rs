//! `n2c blobs`: where in the Nix store a lockfile's blobs are.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use n2c::blob_map::{self, BlobMap};
use n2c::location::Location;
use n2c::lockfile::{Entry, Lockfile};
use n2c::store::StoreDirectory;

use super::failure::{Failure, Usage};
use super::platforms::PlatformOptions;
use super::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A lockfile, or for JSON a plain manifest
    lockfile: PathBuf,

    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,

    #[command(flatten)]
    platforms: PlatformOptions,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Format {
    /// An object, hex digest to store path
    Json,
    /// The fixed-output derivations, as one Nix expression
    Nix,
}

pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    let file = options.lockfile.display().to_string();
    let lockfile = Lockfile::parse(&file, &n2c::fs::read(&options.lockfile)?)?;
    let named = options.platforms.named(report)?;
    let entries: Vec<&Entry> = if named.is_empty() {
        lockfile.entries().iter().collect()
    } else {
        named.iter().map(|platform| lockfile.entry(Some(platform))).collect::<Result<_, _>>()?
    };
    let text = match options.format {
        Format::Json => BlobMap::in_store(entries, &StoreDirectory::of_environment()?).to_json(),
        Format::Nix => {
            let Some(reference) = lockfile.location().and_then(Location::reference) else {
                return Err(Usage::new(
                    format!("`{file}` does not say which registry its blobs are in"),
                    "only lockfiles made from a registry can be fetched by Nix",
                )
                .into());
            };
            blob_map::to_nix(reference.repository(), entries)
        }
    };
    Report::result(None, text.as_bytes())
}
