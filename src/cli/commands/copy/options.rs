//! The options of `n2c copy` and `n2c pull`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use n2c::copy;
use n2c::stream::compress::{Algorithm, Compression};

use super::batch::{self, Names};
use super::sides::SideOptions;
use crate::cli::failure::{Failure, Usage};
use crate::cli::options::{Jobs, RegistryOptions};
use crate::cli::platforms::{AllImages, PlatformOptions};

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
    #[arg(required_unless_present = "batch", value_name = "SOURCE... DESTINATION")]
    names: Vec<String>,

    /// A further destination; may be repeated
    ///
    /// With this option, all other names are sources.
    #[arg(long, value_name = "DESTINATION")]
    to: Vec<String>,

    /// Copy several images: what this JSON file lists
    ///
    /// It is a list of objects with `sources` and `destinations`, each a list of
    /// names as above. What one image has sent, those behind it don't send again.
    /// An image that can't be copied stops the copy.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "to", "digestfile", "additional_tags"])]
    batch: Option<PathBuf>,

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
    pub(super) all: AllImages,
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
    pub(super) retry_times: Option<u8>,

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

/// What to copy, to where, and how.
pub(super) struct Request {
    pub(super) copies: Vec<Names>,
    pub(super) common: Common,
    pub(super) push: PushOptions,
    pub(super) sides: SideOptions,
    pub(super) registry: RegistryOptions,
}

impl From<Pull> for Request {
    fn from(pull: Pull) -> Self {
        let Pull { image, destination, common, registry } = pull;
        let (push, sides) = (PushOptions::default(), SideOptions::default());
        let copies = vec![Names { sources: vec![image], destinations: vec![destination] }];
        Self { copies, common, push, sides, registry }
    }
}

impl TryFrom<Copy> for Request {
    type Error = Failure;

    fn try_from(copy: Copy) -> Result<Self, Failure> {
        let Copy { names: mut sources, to: mut destinations, batch, common, push, sides, registry } =
            copy;
        if let Some(file) = batch {
            return Ok(Self { copies: batch::read(&file)?, common, push, sides, registry });
        }
        if destinations.is_empty() {
            destinations.extend(sources.pop());
        }
        if sources.is_empty() {
            let hint = "name a source, and behind it where to copy it";
            return Err(Usage::new("there is only one name", hint).into());
        }
        let copies = vec![Names { sources, destinations }];
        Ok(Self { copies, common, push, sides, registry })
    }
}
