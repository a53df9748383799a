//! `n2c pull`: a whole image on disk.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use n2c::location::Location;
use n2c::resolve::Resolution;

use super::RegistryOptions;
use super::failure::{Failure, Usage};
use super::platforms::PlatformOptions;
use super::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A reference such as `alpine:3.19`, or `oci:DIR[:TAG]`
    image: String,

    /// `dir:PATH`, a directory in skopeo's layout
    #[arg(value_name = "TRANSPORT:PATH")]
    destination: String,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    registry: RegistryOptions,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let location: Location = options.image.parse()?;
    let directory = match options.destination.split_once(':') {
        Some(("dir", path)) if !path.is_empty() => PathBuf::from(path),
        _ => {
            let text = options.destination.escape_default();
            return Err(
                Usage::new(format!("`{text}` is no destination"), "write `dir:PATH`").into()
            );
        }
    };
    let mut platforms = options.platforms.named_or_host(report)?;
    let (Some(platform), true) = (platforms.pop(), platforms.is_empty()) else {
        return Err(Usage::new("a directory holds one platform", "name one `--platform`").into());
    };
    let client = options.registry.client(report.clone())?;
    let resolution = Resolution::open(&location, &client, &**report).await?;
    let image = resolution.image(&platform).await?;
    Ok(n2c::pull::to_directory(&resolution, &image, &directory).await?)
}
