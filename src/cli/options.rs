//! Groups of options that several commands share.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use n2c::observer::Observer;
use n2c::registry::{Client, ClientOptions};

use super::environment::environment;
use super::failure::Failure;
use super::report::Report;

/// How many blobs are fetched in parallel.
#[derive(Args)]
pub(crate) struct Jobs {
    /// How many blobs to fetch at once
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: u8,
}

impl Jobs {
    pub(crate) fn get(&self) -> usize {
        self.jobs.into()
    }
}

/// How many requests are made in parallel.
#[derive(Args)]
pub(crate) struct Requests {
    /// How many requests to make to one registry at once
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: u8,
}

/// How to access registries, for all commands that do.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct RegistryOptions {
    /// Verify certificates; `false` disables this, and allows plain HTTP if a server has no HTTPS
    ///
    /// By default, certificates are verified, and only registries on loopback
    /// may use plain HTTP.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,

    /// Also trust the certificate authorities in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,

    /// Pull REGISTRY's images from URL, and from REGISTRY only if that fails; may be repeated
    ///
    /// Mirrors are also read from `N2C_MIRRORS`, in the same form, and from registries.conf.
    #[arg(long = "mirror", value_name = "REGISTRY=URL")]
    pub(crate) mirrors: Vec<String>,

    /// Do not fetch layers that the registry lacks from the URLs in the manifest
    ///
    /// Registries don't serve such foreign layers because they are somebody
    /// else's property. They are fetched without credentials and verified like
    /// all other layers.
    #[arg(long)]
    pub(crate) no_foreign: bool,

    #[command(flatten)]
    pub(crate) credentials: CredentialOptions,
}

/// Where to look for credentials.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct CredentialOptions {
    /// Read credentials from this file only [default: $REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

impl RegistryOptions {
    pub(crate) fn client(&self, report: &Arc<Report>) -> Result<Client, Failure> {
        self.client_with(report, report.clone())
    }

    pub(crate) fn client_with(
        &self,
        report: &Report,
        observer: Arc<dyn Observer>,
    ) -> Result<Client, Failure> {
        Ok(Client::new(self.options(report), observer)?)
    }

    /// The same options for the library.
    pub(crate) fn options(&self, report: &Report) -> ClientOptions {
        ClientOptions {
            authfile: self.credentials.authfile.clone(),
            tls_verify: self.tls_verify,
            cacert: self.cacert.clone(),
            mirrors: self.mirrors.clone(),
            foreign_layers: !self.no_foreign,
            secrets: report.secrets(),
            environment: environment().clone(),
            ..ClientOptions::default()
        }
    }
}
