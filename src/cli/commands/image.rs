//! `n2c image`: nix2container's command of the same name.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use n2c::StoreDirectory;
use n2c::build::{self, ImageOptions, MountPointsOptions, Snapshotter};
use n2c::formats::layers::{History, Layer, LayerContent, PathRecord};
use n2c::formats::time::{NotATime, Time};
use n2c::oci::platform::Platform;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::image_from_manifest::Inherit;
use crate::cli::environment::environment;
use crate::cli::failure::Failure;
use crate::cli::inputs;
use crate::cli::output;
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// The image.json to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// The image's config: an object with `Entrypoint`, `Env` and so on
    config: PathBuf,

    /// The layers.json files of its layers, from the bottom to the top
    #[arg(required = true)]
    layers: Vec<PathBuf>,

    /// The image.json of the image to build upon
    #[arg(long, value_name = "FILE", overrides_with = "from_image")]
    from_image: Option<String>,

    /// How much of that image's config to inherit
    #[arg(long, value_enum, default_value_t = Inherit::None)]
    inherit: Inherit,

    /// The image's architecture [default: this machine's]
    #[arg(long, value_name = "ARCH", overrides_with = "arch")]
    arch: Option<String>,

    /// When the image was made, as in RFC 3339, or `now`
    #[arg(long, value_name = "TIME", default_value_t = Time::zero(), value_parser = created, overrides_with = "created")]
    created: Time,

    /// Make an image for nodes with nix-snapshotter, which mount store paths from their own store
    ///
    /// In place of the layers of store paths, the image gets one layer with
    /// mount points for these paths, and with links to the files that go
    /// elsewhere. Other layers stay, below it.
    #[arg(long, value_name = "FORMAT")]
    snapshotter: Option<SnapshotterFormat>,

    /// The store path that lists the closure, in a file `store-paths`
    ///
    /// nixpkgs' `closureInfo` makes one. The node gets it from a binary cache.
    /// With `legacy`, it is named only if there are too many paths.
    #[arg(
        long,
        value_name = "PATH",
        requires = "snapshotter",
        required_if_eq("snapshotter", "closure")
    )]
    closure_info: Option<PathBuf>,

    /// For scripts that pass it to nix2container
    #[arg(short = 'd', long = "debug", hide = true)]
    _debug: bool,
}

/// Reads a time. `now` is this second.
fn created(text: &str) -> Result<Time, NotATime> {
    if text != "now" {
        return Time::parse(text);
    }
    let now = OffsetDateTime::now_utc().truncate_to_second();
    Time::parse(&now.format(&Rfc3339).map_err(|_| NotATime)?)
}

#[derive(Clone, Copy, ValueEnum)]
enum SnapshotterFormat {
    /// Name each store path, for every version of nix-snapshotter
    Legacy,
    /// Name the store path that lists the closure, for versions from 0.3 on
    Closure,
}

impl Options {
    fn snapshotter(&self) -> Option<Snapshotter> {
        let closure_info = self.closure_info.clone();
        Some(match self.snapshotter? {
            SnapshotterFormat::Legacy => Snapshotter::Legacy { fallback: closure_info },
            SnapshotterFormat::Closure => {
                Snapshotter::Closure { closure_info: closure_info.unwrap_or_default() }
            }
        })
    }
}

/// Puts one layer of mount points in the place of those of store paths, at the top.
fn with_mount_points(
    layers: Vec<Layer>,
    snapshotter: Snapshotter,
    report: &Report,
) -> Result<Vec<Layer>, Failure> {
    let is_made = |layer: &Layer| !layer.paths.is_empty() && layer.content == LayerContent::Files;
    let (made, mut kept): (Vec<Layer>, Vec<Layer>) = layers.into_iter().partition(is_made);
    let records: Vec<PathRecord> = made.into_iter().flat_map(|layer| layer.paths).collect();
    let store = StoreDirectory::of(environment())?;
    let history = History { created_by: "n2c".to_owned(), ..History::default() };
    let options = MountPointsOptions { snapshotter: Some(snapshotter), history, store: &store };
    kept.push(build::mount_points(&records, options, report)?);
    Ok(kept)
}

pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    // As in nix2container, an empty name is none.
    let base = match options.from_image.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => Some(inputs::image(Path::new(path))?),
        None => None,
    };
    let mut layers = inputs::layers(&options.layers)?;
    if let Some(snapshotter) = options.snapshotter() {
        layers = with_mount_points(layers, snapshotter, report)?;
    }
    // Other spellings of an architecture, such as Nix's, are the same.
    let architecture = options.arch.as_ref().map(|arch| {
        let platform = format!("linux/{arch}").parse::<Platform>();
        platform.map_or_else(|_| arch.clone(), |platform| platform.architecture().to_owned())
    });
    let image = ImageOptions {
        base,
        inherit: options.inherit.into(),
        layers,
        architecture: architecture.unwrap_or_else(|| Platform::host().architecture().to_owned()),
        created: options.created.clone(),
    };
    let config = inputs::read(&options.config)?;
    let image = build::image(&options.config.display().to_string(), &config, image, report)?;
    output::write(&options.output, image.to_text().as_bytes())
}
