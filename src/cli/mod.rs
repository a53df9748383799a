//! The command line: its grammar, and the function that runs each command.

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
mod hints;
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
use std::sync::{Arc, LazyLock};

use clap::{ArgAction, Args, ColorChoice, Parser, Subcommand, ValueEnum};
use n2c::environment::Environment;
use n2c::observer::Observer;
use n2c::registry::{Client, ClientOptions};

use failure::Failure;
use report::Report;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  any other failure
  2  usage error
  3  out of date
  4  not found or gone
  5  access denied
  6  rate limited
  7  network or server failure after all retries
  8  verification failed: digest, size, media type or format";

/// Lock and fetch container images that Nix did not build, and hand them to Nix.
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
    /// Print only errors to stderr
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Also print requests, credential sources and rate limits
    #[arg(short, long, global = true, conflicts_with = "quiet", action = ArgAction::Count)]
    verbose: u8,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    /// When to show progress
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    progress: When,
}

/// Returns the environment variables of this process, which are read once.
fn environment() -> &'static Environment {
    static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(Environment::of_process);
    &ENVIRONMENT
}

/// When to show something that is meant for a terminal.
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
    /// Move lockfiles to what their tags point to now
    ///
    /// With `--check`, exits with 3 if a lockfile is out of date. If any lockfile
    /// fails, exits with the code of the first failure.
    Update(update::Update),
    /// Make each lockfile match its `ref` line, after a bot edited that line
    Refresh(update::Refresh),
    /// Show what changed between two lockfiles
    Diff(diff::Options),
    /// Check that everything that lockfiles pin is still available
    Verify(verify::Options),
    /// Show an image's platforms, layers, sizes and config
    Inspect(inspect::Options),
    /// Print the Nix store paths of a lockfile's blobs
    Blobs(blobs::Options),
    /// Fetch one blob by its digest
    Blob(blob::Options),
    /// Fetch lockfiles' blobs into the Nix store as the current user, before a build needs them
    Prefetch(prefetch::Options),
    /// Pull a whole image into a directory or an archive
    Pull(pull::Options),
    /// Print the arguments of Nix's `pullImage` without writing the image to disk
    Hash(hash::Options),
    /// Write nix2container's image.json from an image in a directory or OCI layout
    ImageFromDir(image_from_dir::Options),
    /// Write nix2container's image.json from a lockfile and a blob map
    ImageFromManifest(image_from_manifest::Options),
    /// Show which credentials are used, or export them
    #[command(subcommand)]
    Auth(auth::Command),
    /// Find out why a fetch in a build sandbox would fail, and suggest fixes
    ///
    /// Exits with 1 if there is a problem. Changes nothing.
    Doctor(doctor::Options),
    /// Show n2c at work with a registry on this machine, without a network
    Demo,
    /// Print a shell completion script
    Completions(generate::Completions),
    /// Print n2c's manual page
    Man,
}

/// How many blobs are fetched in parallel.
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

/// How many requests are made in parallel.
#[derive(Args)]
struct Requests {
    /// How many requests to make to one registry at once
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

/// How to access registries, for all commands that do.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
struct RegistryOptions {
    /// Verify certificates; `false` disables this, and allows plain HTTP if a server has no HTTPS
    ///
    /// By default, certificates are verified, and only registries on loopback
    /// may use plain HTTP.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,

    /// Also trust the certificate authorities in this file
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Pull REGISTRY's images from URL, and from REGISTRY only if that fails; may be repeated
    ///
    /// Mirrors are also read from `N2C_MIRRORS`, in the same form, and from registries.conf.
    #[arg(long = "mirror", value_name = "REGISTRY=URL")]
    mirrors: Vec<String>,

    /// Do not fetch layers that the registry lacks from the URLs in the manifest
    ///
    /// Registries don't serve such foreign layers because they are somebody
    /// else's property. They are fetched without credentials and verified like
    /// all other layers.
    #[arg(long)]
    no_foreign: bool,

    #[command(flatten)]
    credentials: CredentialOptions,
}

/// Where to look for credentials.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
struct CredentialOptions {
    /// Read credentials from this file only [default: $REGISTRY_AUTH_FILE]
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
