//! The options of `n2c copy` and `n2c pull`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use n2c::copy;
use n2c::registry::credentials::{Credential, Given, Secret};
use n2c::registry::{Client, ClientOptions};
use n2c::stream::compress::{Algorithm, Compression};

use crate::cli::failure::{Failure, Usage};
use crate::cli::options::{Jobs, RegistryOptions};
use crate::cli::platforms::{AllPlatforms, PlatformOptions};
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Pull {
    /// A reference such as `alpine:3.19`, `oci:DIR[:TAG]`, `lock:FILE` for what a lockfile pins,
    /// `nix:FILE` for an image.json, `dir:PATH`, `oci-archive:PATH[:TAG]` or
    /// `docker-archive:PATH[:NAME[:TAG]]`
    ///
    /// With `lock:`, blobs that are already in the Nix store are taken from
    /// there. With `nix:`, layers are made from their store paths, and checked
    /// against their digests.
    image: String,

    /// `dir:PATH`, `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]` or `docker-archive:PATH[:NAME[:TAG]]`
    #[arg(value_name = "TRANSPORT:PATH")]
    destination: String,

    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    registry: RegistryOptions,
}

#[derive(Args)]
pub(crate) struct Copy {
    /// What to copy, and behind it the destination
    ///
    /// A source is a reference such as `alpine:3.19` or `docker://alpine:3.19`,
    /// `nix:FILE` for an image.json, `lock:FILE` for what a lockfile pins,
    /// `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `dir:DIR` or
    /// `docker-archive:FILE[:NAME[:TAG]]`. Several sources become one image for
    /// several platforms. A destination is `docker://REFERENCE`, or one of the
    /// last four.
    #[arg(required = true, value_name = "SOURCE... DESTINATION")]
    names: Vec<String>,

    /// A further destination; may be repeated
    ///
    /// With this option, all other names are sources.
    #[arg(long, value_name = "DESTINATION")]
    to: Vec<String>,

    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    push: PushOptions,

    #[command(flatten)]
    sides: SideOptions,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// What both commands have.
#[derive(Args)]
pub(super) struct Common {
    /// A further name of the image; may be repeated
    ///
    /// For a registry, a tag of the same repository, alone or behind its name.
    #[arg(long = "additional-tag", value_name = "[NAME:]TAG")]
    pub(super) additional_tags: Vec<String>,

    /// Convert manifests to this format, which changes their digests
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(super) format: Option<Format>,

    #[command(flatten)]
    pub(super) jobs: Jobs,

    #[command(flatten)]
    pub(super) platforms: PlatformOptions,

    #[command(flatten)]
    pub(super) all: AllPlatforms,
}

/// The format to convert manifests to.
#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// The OCI format
    Oci,
    /// Docker's manifest, version 2 schema 2
    V2s2,
}

impl From<Format> for copy::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Oci => Self::Oci,
            Format::V2s2 => Self::Docker,
        }
    }
}

/// How an image is changed and sent.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Args, Default)]
#[command(next_help_heading = "Copy options")]
pub(super) struct PushOptions {
    /// How to compress layers that are not [default: gzip for what was built, into a registry]
    #[arg(long, visible_alias = "compress", value_name = "ALGORITHM")]
    dest_compress_format: Option<CompressionFormat>,

    /// The level of the compression: 1 to 9 for gzip, 1 to 19 for zstd [default: 3, 2]
    #[arg(long, value_name = "LEVEL")]
    dest_compress_level: Option<u8>,

    /// Whether to compress layers that are not compressed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dest_compress: Option<bool>,

    /// Find out what layers compress to before any is sent
    ///
    /// Without this, a layer of which that is neither recorded nor remembered is
    /// compressed while it is sent, even if the registry has it.
    #[arg(long)]
    pub(super) precompute: bool,

    /// Take from this image in the registry what its layers compress to
    ///
    /// Whoever can push that image can make this one contain other layers.
    #[arg(long, value_name = "REFERENCE")]
    pub(super) reuse_from: Option<String>,

    /// An annotation of the manifests, and of the index; may be repeated
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    annotations: Vec<String>,

    /// Fail if the image would have to change
    #[arg(long)]
    pub(super) preserve_digests: bool,

    /// Write the digest of the copied image to this file
    #[arg(long, value_name = "FILE")]
    pub(super) digestfile: Option<PathBuf>,

    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Print what was done with each blob as JSON
    #[arg(long)]
    pub(super) json: bool,

    /// How often to try again
    #[arg(long, value_name = "N")]
    retry_times: Option<u8>,

    /// For scripts that pass it to skopeo: n2c has no policy for signatures
    #[arg(long, hide = true)]
    _insecure_policy: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CompressionFormat {
    /// What everything reads
    Gzip,
    /// Faster and smaller
    Zstd,
}

impl From<CompressionFormat> for Algorithm {
    fn from(format: CompressionFormat) -> Self {
        match format {
            CompressionFormat::Gzip => Self::Gzip,
            CompressionFormat::Zstd => Self::Zstd,
        }
    }
}

impl PushOptions {
    /// How to compress layers, or `None` to leave them as they are. `is_usual` says whether
    /// they are compressed unless that is asked for.
    pub(super) fn compression(&self, is_usual: bool) -> Result<Option<Compression>, Failure> {
        let is_named = self.dest_compress_format.is_some() || self.dest_compress_level.is_some();
        if self.dest_compress == Some(false) && is_named {
            let hint = "leave out `--dest-compress=false`";
            return Err(Usage::new("layers can't be compressed and not compressed", hint).into());
        }
        if !self.dest_compress.unwrap_or(is_usual || is_named) {
            return Ok(None);
        }
        let format = self.dest_compress_format.unwrap_or(CompressionFormat::Gzip);
        let algorithm = Algorithm::from(format);
        let highest = algorithm.highest_level();
        match self.dest_compress_level {
            None => Ok(Some(Compression::new(algorithm))),
            Some(level) if (1..=highest).contains(&level) => {
                Ok(Some(Compression { algorithm, level }))
            }
            Some(level) => {
                let text = format!("{algorithm} has no level {level}");
                Err(Usage::new(text, format!("choose one from 1 to {highest}")).into())
            }
        }
    }

    pub(super) fn annotations(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut annotations = BTreeMap::new();
        for text in &self.annotations {
            match text.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    annotations.insert(name.to_owned(), value.to_owned());
                }
                _ => {
                    let text = format!("`--annotation {}` has no value", text.escape_default());
                    return Err(Usage::new(text, "write it as `NAME=VALUE`").into());
                }
            }
        }
        Ok(annotations)
    }
}

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

/// What to copy, to where, and how.
pub(super) struct Request {
    pub(super) sources: Vec<String>,
    pub(super) destinations: Vec<String>,
    pub(super) common: Common,
    pub(super) push: PushOptions,
    sides: SideOptions,
    registry: RegistryOptions,
}

impl From<Pull> for Request {
    fn from(pull: Pull) -> Self {
        let Pull { image, destination, common, registry } = pull;
        let (push, sides) = (PushOptions::default(), SideOptions::default());
        let (sources, destinations) = (vec![image], vec![destination]);
        Self { sources, destinations, common, push, sides, registry }
    }
}

impl TryFrom<Copy> for Request {
    type Error = Failure;

    fn try_from(copy: Copy) -> Result<Self, Failure> {
        let Copy { names: mut sources, to: mut destinations, common, push, sides, registry } = copy;
        if destinations.is_empty() {
            destinations.extend(sources.pop());
        }
        if sources.is_empty() {
            let hint = "name a source, and behind it where to copy it";
            return Err(Usage::new("there is only one name", hint).into());
        }
        Ok(Self { sources, destinations, common, push, sides, registry })
    }
}

impl Request {
    /// Makes the clients. `source` and `destination` are the registries of the two sides, each
    /// once.
    pub(super) fn clients(
        &mut self,
        source: &[String],
        destination: &[String],
        report: &Arc<Report>,
    ) -> Result<Clients, Failure> {
        let sides = std::mem::take(&mut self.sides);
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
        let mut common = self.registry.options(report);
        if let Some(times) = self.push.retry_times {
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
}
