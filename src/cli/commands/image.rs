//! `n2c image`: nix2container's command of the same name.

use std::path::{Path, PathBuf};

use clap::Args;
use n2c::build::{self, ImageOptions};
use n2c::formats::time::Time;
use n2c::oci::platform::Platform;

use super::image_from_manifest::Inherit;
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

    /// When the image was made, as in RFC 3339
    #[arg(long, value_name = "TIME", default_value_t = Time::zero(), value_parser = Time::parse, overrides_with = "created")]
    created: Time,

    /// For scripts that pass it to nix2container
    #[arg(short = 'd', long = "debug", hide = true)]
    _debug: bool,
}

pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    // As in nix2container, an empty name is none.
    let base = match options.from_image.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => Some(inputs::image(Path::new(path))?),
        None => None,
    };
    let layers = inputs::layers(&options.layers)?;
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
