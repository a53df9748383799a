//! The command line: what can be typed, and which function serves it.

mod auth;
mod blob;
mod blobs;
mod demo;
mod diff;
mod difference;
mod doctor;
mod explain;
mod failure;
mod generate;
mod hash;
mod image_from_dir;
mod image_from_manifest;
mod inspect;
mod lock;
mod lockfiles;
mod output;
mod platforms;
mod prefetch;
mod pull;
mod report;
mod rows;
mod signals;
mod update;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgAction, Args, ColorChoice, Parser, Subcommand, ValueEnum};
use n2c::observer::Observer;
use n2c::registry::{Client, ClientOptions};

use failure::Failure;
use report::Report;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  anything else
  2  usage
  3  stale
  4  not found or gone
  5  access denied
  6  rate limited
  7  network or server failure after all tries
  8  verification failed: digest, size, media type, format";

/// Lock, fetch and hand to Nix the container images that Nix did not build.
#[derive(Parser)]
#[command(name = "n2c", version, max_term_width = 100, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    output: OutputOptions,

    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
#[command(next_help_heading = "Output options")]
struct OutputOptions {
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Also say which requests are made
    #[arg(short, long, global = true, conflicts_with = "quiet", action = ArgAction::Count)]
    verbose: u8,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    /// When to show progress
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    progress: When,
}

/// When to do something that suits a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Resolve an image and write its lockfile
    Lock(lock::Options),
    /// Move lockfiles to what their tags lead to now
    ///
    /// Exit codes: 3 with `--check`, where something is out of date; that of the
    /// first failure, where a lockfile failed.
    Update(update::Update),
    /// Make the rest of lockfiles match their `ref` lines, after a bot edited those
    Refresh(update::Refresh),
    /// Show what changed between two lockfiles
    Diff(diff::Options),
    /// Ask whether all that lockfiles pin is still served
    Verify(verify::Options),
    /// Show an image's platforms, layers, sizes and config
    Inspect(inspect::Options),
    /// Print where in the Nix store a lockfile's blobs are
    Blobs(blobs::Options),
    /// Fetch one blob by its digest
    Blob(blob::Options),
    /// Fetch a lockfile's blobs into the Nix store, as you, before a build wants them
    Prefetch(prefetch::Options),
    /// Pull a whole image into a directory or an archive
    Pull(pull::Options),
    /// Print what Nix's `pullImage` wants, without the image on disk
    Hash(hash::Options),
    /// Write nix2container's image.json from a directory or OCI layout with an image
    ImageFromDir(image_from_dir::Options),
    /// Write nix2container's image.json from a lockfile and a blob map
    ImageFromManifest(image_from_manifest::Options),
    /// Say which credentials are used, or export them
    #[command(subcommand)]
    Auth(auth::Command),
    /// Say why a fetch in a build sandbox would fail, and what helps
    ///
    /// Exits with 1 when there is a problem. Nothing is changed.
    Doctor(doctor::Options),
    /// Show n2c at work, on a registry of its own and without a network
    Demo,
    /// Print a script that completes n2c's options in a shell
    Completions(generate::Completions),
    /// Print n2c's manual page
    Man,
}

/// How much is done at once.
#[derive(Args)]
struct Jobs {
    /// How many blobs to fetch at once
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

impl Jobs {
    fn get(&self) -> usize {
        self.jobs.into()
    }
}

/// How much is asked at once.
#[derive(Args)]
struct Requests {
    /// How many requests to make to one registry at once
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

/// How registries are reached; the same for all commands that reach one.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
struct RegistryOptions {
    /// Verify certificates; with `false`, plain HTTP is used where there is no HTTPS
    ///
    /// Without this option certificates are verified, and registries on
    /// loopback may speak plain HTTP.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,

    /// Trust the authorities in this file too
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Pull from URL what is in REGISTRY, and from there only if that fails; may be repeated
    ///
    /// `N2C_MIRRORS` holds the same, and registries.conf is read too.
    #[arg(long = "mirror", value_name = "REGISTRY=URL")]
    mirrors: Vec<String>,

    /// Do not fetch layers from the URLs that a manifest names for them, where the registry has them not
    ///
    /// Such layers are others' property, which registries do not serve. They are
    /// fetched without credentials, and verified as all are.
    #[arg(long)]
    no_foreign: bool,

    #[command(flatten)]
    credentials: CredentialOptions,
}

/// Where credentials are.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
struct CredentialOptions {
    /// Use the credentials in this file, and in no other [default: $REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl RegistryOptions {
    fn client(self, report: &Arc<Report>) -> Result<Client, Failure> {
        self.client_with(report, report.clone())
    }

    fn client_with(self, report: &Report, observer: Arc<dyn Observer>) -> Result<Client, Failure> {
        let options = ClientOptions {
            authfile: self.credentials.authfile,
            tls_verify: self.tls_verify,
            cacert: self.cacert,
            mirrors: self.mirrors,
            foreign_layers: !self.no_foreign,
            secrets: report.secrets(),
            ..ClientOptions::default()
        };
        Ok(Client::new(options, observer)?)
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let report = Arc::new(Report::new(&cli.output));
    match run(cli.command, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command, report: &Arc<Report>) -> Result<(), Failure> {
    match command {
        Command::Blobs(options) => blobs::run(&options, report),
        Command::ImageFromManifest(options) => image_from_manifest::run(&options, report),
        Command::ImageFromDir(options) => {
            signals::interruptible(report, image_from_dir::run(options, report))
        }
        Command::Hash(options) => signals::interruptible(report, hash::run(options, report)),
        Command::Pull(options) => signals::interruptible(report, pull::run(options, report)),
        Command::Completions(options) => generate::completions(&options),
        Command::Man => generate::man(),
        Command::Lock(options) => signals::interruptible(report, lock::run(options, report)),
        Command::Update(options) => signals::interruptible(report, update::update(options, report)),
        Command::Refresh(options) => {
            signals::interruptible(report, update::refresh(options, report))
        }
        Command::Diff(options) => diff::run(&options, report),
        Command::Verify(options) => signals::interruptible(report, verify::run(options, report)),
        Command::Inspect(options) => signals::interruptible(report, inspect::run(options, report)),
        Command::Blob(options) => signals::interruptible(report, blob::run(options, report)),
        Command::Prefetch(options) => {
            signals::interruptible(report, prefetch::run(options, report))
        }
        Command::Doctor(options) => signals::interruptible(report, doctor::run(options, report)),
        Command::Demo => signals::interruptible(report, demo::run(report)),
        Command::Auth(command) => signals::interruptible(report, auth::run(command, report)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
