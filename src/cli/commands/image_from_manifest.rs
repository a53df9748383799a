//! `n2c image-from-manifest`: nix2container's command of the same name.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use n2c::formats::blob_map::{self, BlobMap};
use n2c::formats::image_json::{self, ImageJson};
use n2c::formats::lockfile::{self, Entry};
use n2c::oci::platform::Platform;
use n2c::store::StoreDirectory;

use crate::cli::environment::environment;
use crate::cli::failure::Failure;
use crate::cli::lockfiles;
use crate::cli::platforms::PlatformOptions;
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// The image.json to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// A lockfile or a plain manifest
    manifest: PathBuf,

    /// A blob map, as printed by `n2c blobs`; by default, the blobs are at their Nix store paths
    blobs: Option<PathBuf>,

    /// How much of the base image's config to inherit
    #[arg(long, value_enum, default_value_t = Inherit::None)]
    inherit: Inherit,

    #[command(flatten)]
    platforms: PlatformOptions,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
pub(crate) enum Inherit {
    /// Nothing, like nix2container
    None,
    /// The environment variables
    Env,
    /// Everything that says how to run it
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
    let named = options.platforms.named(report)?;
    let wanted = named.first().cloned();
    let entry = lockfiles::one_entry(&lockfile, named, text, report)?;
    let blobs = match &options.blobs {
        Some(path) => BlobMap::parse(
            &path.display().to_string(),
            &n2c::fs::read(path, blob_map::SIZE_LIMIT)?,
        )?,
        None => BlobMap::in_store([entry], &StoreDirectory::of(environment())?),
    };
    let image = ImageToWrite { output: &options.output, file: lockfile.file(), entry, blobs };
    image.write(wanted.as_ref(), options.inherit, report)
}

/// An image.json to write to `output`, for the entry `entry` of the lockfile `file`.
pub(crate) struct ImageToWrite<'a> {
    pub(crate) output: &'a Path,
    pub(crate) file: &'a str,
    pub(crate) entry: &'a Entry,
    pub(crate) blobs: BlobMap,
}

impl ImageToWrite<'_> {
    /// Writes the image.json. `wanted` is the platform that was named, if any.
    pub(crate) fn write(
        &self,
        wanted: Option<&Platform>,
        inherit: Inherit,
        report: &Report,
    ) -> Result<(), Failure> {
        let image = image_json::read_image(self.file, self.entry, &self.blobs)?;
        let pinned = self.entry.pin().map(|pin| &pin.platform);
        // The platform of a plain manifest is known only from its config.
        let built = image.config().platform().filter(|_| pinned.is_none());
        if let (Some(built), Some(wanted)) = (built, wanted)
            && wanted.distance(built).is_none()
        {
            let (file, wanted) = (self.file.to_owned(), wanted.clone());
            let available = vec![built.clone()];
            return Err(lockfile::Error::NoPlatform { file, wanted, available }.into());
        }
        let platform = pinned.or(wanted);
        let json = ImageJson::new(&image, &self.blobs, inherit.into(), platform, report)?;
        Report::result(Some(self.output), json.to_text().as_bytes())
    }
}
