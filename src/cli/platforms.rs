//! The options that select platforms.

use clap::Args;
use n2c::oci::platform::Platform;
use n2c::resolve::{PendingImage, Resolution};

use crate::cli::failure::Failure;
use crate::cli::report::Report;

/// The platforms that a command is for.
#[derive(Args)]
#[command(next_help_heading = "Platform options")]
pub(crate) struct PlatformOptions {
    /// `OS/ARCH[/VARIANT]`, or a Nix system such as `aarch64-linux`; may be repeated
    #[arg(long = "platform", value_name = "PLATFORM", conflicts_with_all = ["os", "arch", "variant"])]
    platforms: Vec<String>,

    /// Operating system [default: linux]
    #[arg(long, alias = "override-os")]
    os: Option<String>,

    /// Architecture, as spelt by Go, the kernel or Nix [default: this machine's]
    #[arg(long, alias = "override-arch")]
    arch: Option<String>,

    /// Variant of the architecture, such as `v7`
    #[arg(long, alias = "override-variant", requires = "arch")]
    variant: Option<String>,
}

/// An addition to [`PlatformOptions`] for commands that can handle all platforms at once.
#[derive(Args)]
#[command(next_help_heading = "Platform options")]
pub(crate) struct AllPlatforms {
    /// Use every platform that has an image
    #[arg(long, conflicts_with_all = ["platforms", "os", "arch", "variant"])]
    pub(crate) all_platforms: bool,
}

/// The same for commands that copy whole images: as with skopeo, they may be given a platform
/// too, which then has no effect.
#[derive(Args)]
#[command(next_help_heading = "Platform options")]
pub(crate) struct AllImages {
    /// Use every platform that has an image
    #[arg(long, short_alias = 'a', visible_alias = "all", conflicts_with = "platforms")]
    pub(crate) all_platforms: bool,
}

impl PlatformOptions {
    /// Returns the named platforms without duplicates; none if none was named. Prints a note
    /// if only the operating system was named and the architecture is this machine's.
    pub(crate) fn named(&self, report: &Report) -> Result<Vec<Platform>, Failure> {
        let mut platforms: Vec<Platform> = Vec::new();
        for text in &self.platforms {
            let platform = text.parse()?;
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        if self.os.is_some() || self.arch.is_some() || self.variant.is_some() {
            let os = self.os.as_deref().unwrap_or("linux");
            let host = Platform::host();
            let arch = self.arch.as_deref().unwrap_or(host.architecture());
            let platform = Platform::with_architecture(os, arch, self.variant.as_deref())?;
            if self.arch.is_none() {
                say_default(&platform, report);
            }
            platforms.push(platform);
        }
        Ok(platforms)
    }
}

/// Returns the named platforms. If there are none, returns this machine's, with a note.
pub(crate) fn or_host(named: Vec<Platform>, report: &Report) -> Vec<Platform> {
    if !named.is_empty() {
        return named;
    }
    let host = Platform::host();
    say_default(&host, report);
    vec![host]
}

/// Returns the image if the reference's digest is that of a single image and no platform was
/// named. Such an image is used as it is, whatever its platform.
pub(crate) fn as_it_is<'r>(
    named: &[Platform],
    resolution: &'r Resolution<'_>,
) -> Option<PendingImage<'r>> {
    if named.is_empty() { resolution.only() } else { None }
}

/// Returns the image if the location is a single manifest and no platform was named. As
/// skopeo, a copy takes such an image as it is.
pub(crate) fn sole<'r>(
    named: &[Platform],
    resolution: &'r Resolution<'_>,
) -> Option<PendingImage<'r>> {
    if named.is_empty() { resolution.sole() } else { None }
}

fn say_default(platform: &Platform, report: &Report) {
    report.note(&format!("using `{platform}` for this machine; choose another with `--platform`"));
}
