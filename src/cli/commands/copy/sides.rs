//! The registries of the two sides of a copy: what is different for each, and the clients.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use n2c::registry::credentials::{Credential, Given, Secret};
use n2c::registry::{Client, ClientOptions};

use crate::cli::failure::{Failure, Usage};
use crate::cli::options::RegistryOptions;
use crate::cli::report::Report;

/// Options for the registry of one side.
#[derive(Args, Default)]
#[command(next_help_heading = "Registry options")]
pub(super) struct SideOptions {
    /// As `--tls-verify`, for the source alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    src_tls_verify: Option<bool>,

    /// As `--tls-verify`, for the destination alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dest_tls_verify: Option<bool>,

    /// The user and the password for the source
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "src_no_creds")]
    src_creds: Option<String>,

    /// The user and the password for the destination
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "dest_no_creds")]
    dest_creds: Option<String>,

    /// Use no credentials for the source
    #[arg(long)]
    src_no_creds: bool,

    /// Use no credentials for the destination
    #[arg(long)]
    dest_no_creds: bool,

    /// As `--authfile`, for the source alone
    #[arg(long, value_name = "FILE")]
    src_authfile: Option<PathBuf>,

    /// As `--authfile`, for the destination alone
    #[arg(long, value_name = "FILE")]
    dest_authfile: Option<PathBuf>,

    /// A directory with `*.crt`, `*.cert` and `*.key` for the source
    #[arg(long, value_name = "DIR")]
    src_cert_dir: Option<PathBuf>,

    /// A directory with `*.crt`, `*.cert` and `*.key` for the destination
    #[arg(long, value_name = "DIR")]
    dest_cert_dir: Option<PathBuf>,
}

/// What is different for the registry of one side.
#[derive(Default)]
struct Side {
    tls_verify: Option<bool>,
    credentials: Option<String>,
    no_credentials: bool,
    authfile: Option<PathBuf>,
    certificates: Option<PathBuf>,
}

impl Side {
    fn is_given(&self) -> bool {
        self.tls_verify.is_some()
            || self.credentials.is_some()
            || self.no_credentials
            || self.authfile.is_some()
            || self.certificates.is_some()
    }

    /// The options of a client for these registries and those that they lead to.
    fn apply(self, options: &mut ClientOptions, hosts: &[String]) -> Result<(), Failure> {
        options.tls_verify = self.tls_verify.or(options.tls_verify);
        options.authfile = self.authfile.or(options.authfile.take());
        let credential = self.credentials.as_deref().map(credential).transpose()?;
        let certificates = self.certificates;
        let host = match hosts {
            [only] => only.clone(),
            [] => String::new(),
            _ if credential.is_some() || certificates.is_some() => {
                let text =
                    "credentials and certificates are for one registry, and there are several";
                return Err(Usage::new(text, "use `--authfile` and `certs.d`").into());
            }
            _ => String::new(),
        };
        let is_anonymous = self.no_credentials;
        options.given = Given { is_anonymous, host, credential, certificates };
        Ok(())
    }
}

/// Reads a user and a password. The error shows neither.
fn credential(text: &str) -> Result<Credential, Failure> {
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => Ok(Credential::Password {
            user: user.to_owned(),
            password: Secret::new(password.to_owned()),
        }),
        _ => {
            let hint = "write them as `USER:PASSWORD`, or use `--dest-authfile`";
            Err(Usage::new("the credentials have no user or no password", hint).into())
        }
    }
}

/// The clients of both sides, which may be one.
pub(super) struct Clients {
    source: Client,
    destination: Option<Client>,
}

impl Clients {
    pub(super) const fn source(&self) -> &Client {
        &self.source
    }

    pub(super) fn destination(&self) -> &Client {
        self.destination.as_ref().unwrap_or(&self.source)
    }
}

/// Makes the clients. `source` and `destination` are the registries of the two sides, each
/// once.
pub(super) fn clients(
    sides: SideOptions,
    (registry, retry_times): (&RegistryOptions, Option<u8>),
    source: &[String],
    destination: &[String],
    report: &Arc<Report>,
) -> Result<Clients, Failure> {
    let from = Side {
        tls_verify: sides.src_tls_verify,
        credentials: sides.src_creds,
        no_credentials: sides.src_no_creds,
        authfile: sides.src_authfile,
        certificates: sides.src_cert_dir,
    };
    let to = Side {
        tls_verify: sides.dest_tls_verify,
        credentials: sides.dest_creds,
        no_credentials: sides.dest_no_creds,
        authfile: sides.dest_authfile,
        certificates: sides.dest_cert_dir,
    };
    let mut common = registry.options(report);
    if let Some(times) = retry_times {
        common.retry.attempts = u32::from(times) + 1;
    }
    let are_different = from.is_given() || to.is_given();
    let mut options = common.clone();
    from.apply(&mut options, source)?;
    let source = Client::new(options, report.clone())?;
    let destination = if are_different {
        to.apply(&mut common, destination)?;
        Some(Client::new(common, report.clone())?)
    } else {
        None
    };
    Ok(Clients { source, destination })
}
