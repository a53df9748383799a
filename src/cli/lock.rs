//! `n2c lock`: from a reference to a lockfile.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use n2c::location::Location;
use n2c::lockfile::{Entry, Lockfile};
use n2c::resolve::Resolution;

use super::RegistryOptions;
use super::failure::{Failure, Usage};
use super::platforms::{AllPlatforms, PlatformOptions};
use super::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A reference such as `alpine:3.19`, or `oci:DIR[:TAG]`
    image: String,

    /// Write to this file, at once or not at all, instead of to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print the manifest exactly as the registry serves it, instead of a lockfile
    #[arg(long, conflicts_with = "all_platforms")]
    raw: bool,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    all: AllPlatforms,

    #[command(flatten)]
    registry: RegistryOptions,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let location: Location = options.image.parse()?;
    let named = if options.all.all_platforms {
        None
    } else {
        Some(options.platforms.named_or_host(report)?)
    };
    if options.raw && named.as_ref().is_some_and(|platforms| platforms.len() > 1) {
        return Err(Usage::new("`--raw` prints one manifest", "name one `--platform`").into());
    }
    let client = options.registry.client(report.clone())?;
    let resolution = Resolution::open(&location, &client, &**report).await?;
    let keyed = named.as_ref().is_none_or(|platforms| platforms.len() > 1);
    let platforms = match named {
        Some(platforms) => platforms,
        None => resolution.platforms().await?,
    };
    let images = resolution.images(&platforms).await?;
    if let (true, [image]) = (options.raw, images.as_slice()) {
        return Report::result(options.output.as_deref(), image.manifest().raw().bytes());
    }
    let location = resolution.location().clone();
    let mut entries =
        platforms.into_iter().zip(&images).map(|(platform, image)| Entry::new(platform, image));
    let lockfile = match entries.next() {
        Some(entry) if !keyed => Lockfile::single(location, entry),
        first => Lockfile::keyed(location, first.into_iter().chain(entries).collect()),
    };
    Report::result(options.output.as_deref(), lockfile.to_text().as_bytes())
}
