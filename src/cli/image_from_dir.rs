//! `n2c image-from-dir`: upstream's command of that name.

use std::path::PathBuf;

use clap::Args;
use n2c::blob_map::BlobMap;

use super::failure::Failure;
use super::image_from_manifest::{Inherit, write_image_json};
use super::lockfiles;

#[derive(Args)]
pub(crate) struct Options {
    /// The image.json to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// A directory that skopeo or `n2c pull` wrote
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// How much of the base image's config to take over
    #[arg(long, value_enum, default_value_t = Inherit::None)]
    inherit: Inherit,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let manifest = lockfiles::read(&options.directory.join("manifest.json"))?;
    let entry = manifest.entry(None)?;
    let blobs = BlobMap::in_directory(entry, &options.directory);
    write_image_json(&options.output, manifest.file(), entry, &blobs, options.inherit)
}
