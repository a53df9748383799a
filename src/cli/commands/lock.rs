//! `n2c lock`: resolves a reference and writes its lockfile.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use n2c::formats::lockfile::{Entry, Lockfile};
use n2c::oci::location::Location;
use n2c::oci::platform::Platform;
use n2c::resolve::Resolution;

use crate::cli::failure::{Failure, Usage};
use crate::cli::options::RegistryOptions;
use crate::cli::platforms::{self, AllPlatforms, PlatformOptions};
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A reference such as `alpine:3.19`, or `oci:DIR[:TAG]`
    image: String,

    /// Write to this file, atomically, instead of to stdout
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
    let is_all = options.all.all_platforms;
    let named = options.platforms.named(report)?;
    if options.raw && named.len() > 1 {
        return Err(Usage::new("`--raw` prints one manifest", "name one `--platform`").into());
    }
    let client = options.registry.client(report)?;
    let resolution = Resolution::open(&location, &client, &**report).await?;
    let keyed = is_all || named.len() > 1;
    let only = platforms::as_it_is(&named, &resolution).filter(|_| !is_all);
    let (platforms, images) = if let Some(only) = only {
        let image = only.image().await?;
        let platform = if let Some(platform) = image.config().platform() {
            report.note(&format!("using `{platform}`, the platform of the image"));
            platform.clone()
        } else {
            let host = Platform::host();
            let text = "names no platform, and is assumed to be for";
            report.note(&format!("the image {text} `{host}`; choose with `--platform`"));
            host
        };
        (vec![platform], vec![image])
    } else {
        let platforms =
            if is_all { resolution.platforms().await? } else { platforms::or_host(named, report) };
        let images = resolution.images(&platforms).await?;
        (platforms, images)
    };
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
