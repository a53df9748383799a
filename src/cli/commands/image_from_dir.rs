//! `n2c image-from-dir`: nix2container's command of the same name, also for OCI layouts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use n2c::formats::blob_map::BlobMap;
use n2c::formats::lockfile::Entry;
use n2c::formats::oci_layout::MARKER;
use n2c::oci::location::{LayoutReference, Location};
use n2c::resolve::{self, Resolution};

use super::image_from_manifest::{ImageToWrite, Inherit};
use crate::cli::failure::{Failure, Usage};
use crate::cli::lockfiles;
use crate::cli::platforms::{self, PlatformOptions};
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// The image.json to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// A directory written by skopeo or `n2c pull`, or an OCI layout: its path, or `oci:DIR[:TAG]`
    #[arg(value_name = "DIR")]
    directory: String,

    /// How much of the base image's config to inherit
    #[arg(long, value_enum, default_value_t = Inherit::None)]
    inherit: Inherit,

    #[command(flatten)]
    platforms: PlatformOptions,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let directory = Path::new(&options.directory);
    if directory.join(MARKER).is_file() {
        let layout = LayoutReference::of_directory(directory.to_owned());
        return from_layout(&options, &layout, report).await;
    }
    if options.directory.starts_with("oci:")
        && let Location::OciLayout(layout) = options.directory.parse()?
    {
        return from_layout(&options, &layout, report).await;
    }
    let manifest = lockfiles::read(&directory.join("manifest.json"))?;
    let entry = manifest.entry(None)?;
    let blobs = BlobMap::in_directory(entry, directory);
    let image = ImageToWrite { output: &options.output, file: manifest.file(), entry, blobs };
    image.write(options.platforms.named(report)?.first(), options.inherit, report)
}

async fn from_layout(
    options: &Options,
    layout: &LayoutReference,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let resolution = Resolution::open_layout(layout, &**report)?;
    // If there is only one image, use it, whatever its platform.
    let named = options.platforms.named(report)?;
    let platforms = if named.is_empty() {
        match resolution.platforms().await {
            Ok(platforms) if platforms.len() == 1 => platforms,
            Ok(_) | Err(resolve::Error::Unnamed { .. }) => platforms::or_host(Vec::new(), report),
            Err(error) => return Err(error.into()),
        }
    } else {
        named
    };
    let [platform] = platforms.as_slice() else {
        return Err(Usage::new("image.json is for one platform", "name one `--platform`").into());
    };
    let image = resolution.image(platform).await?;
    let entry = Entry::new(platform.clone(), &image);
    let blobs = BlobMap::in_layout(&entry, layout.directory());
    let (output, file) = (options.output.as_path(), options.directory.as_str());
    let image = ImageToWrite { output, file, entry: &entry, blobs };
    image.write(Some(platform), options.inherit, report)
}
