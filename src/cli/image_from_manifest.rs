//! `n2c image-from-manifest`: upstream's command of that name.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use n2c::blob_map::BlobMap;
use n2c::image_json::{self, ImageJson};
use n2c::lockfile::Entry;
use n2c::store::StoreDirectory;

use super::failure::Failure;
use super::lockfiles;
use super::platforms::PlatformOptions;
use super::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// The image.json to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// A lockfile or a plain manifest
    manifest: PathBuf,

    /// A blob map, as `n2c blobs` prints it; without one, the blobs are where they are in the Nix store
    blobs: Option<PathBuf>,

    /// How much of the base image's config to take over
    #[arg(long, value_enum, default_value_t = Inherit::None)]
    inherit: Inherit,

    #[command(flatten)]
    platforms: PlatformOptions,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
pub(crate) enum Inherit {
    /// Nothing, as nix2container
    None,
    /// The environment variables
    Env,
    /// All that says how to run it
    All,
}

impl From<Inherit> for image_json::Inherit {
    fn from(inherit: Inherit) -> Self {
        match inherit {
            Inherit::None => Self::None,
            Inherit::Env => Self::Env,
            Inherit::All => Self::All,
        }
    }
}

pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    let lockfile = lockfiles::read(&options.manifest)?;
    let text = "image.json is for one platform";
    let entry = lockfiles::one_entry(&lockfile, &options.platforms, text, report)?;
    let blobs = match &options.blobs {
        Some(path) => BlobMap::parse(&path.display().to_string(), &n2c::fs::read(path)?)?,
        None => BlobMap::in_store([entry], &StoreDirectory::of_environment()?),
    };
    write_image_json(&options.output, lockfile.file(), entry, &blobs, options.inherit)
}

/// Writes the image.json of `entry`, which is in `file`.
pub(crate) fn write_image_json(
    output: &Path,
    file: &str,
    entry: &Entry,
    blobs: &BlobMap,
    inherit: Inherit,
) -> Result<(), Failure> {
    let image = image_json::read_image(file, entry, blobs)?;
    let json = ImageJson::new(&image, blobs, inherit.into())?;
    Report::result(Some(output), json.to_text().as_bytes())
}
