//! `n2c hash`: prints the arguments that identify an image to Nix's pull functions.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use n2c::copy::{self, Copier};
use n2c::formats::docker_archive::Name;
use n2c::oci::digest::{Algorithm, Digest};
use n2c::oci::image::Image;
use n2c::oci::location::Location;
use n2c::oci::reference::{Reference, Repository};
use n2c::resolve::{PendingImage, Resolution};
use n2c::store::{Ingestion, Store, StoreDirectory, sanitise_name};
use serde_json::{Map, Value};

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Runtime, Usage};
use crate::cli::options::Jobs;
use crate::cli::options::RegistryOptions;
use crate::cli::platforms::{self, PlatformOptions};
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A reference such as `alpine:3.19`
    image: String,

    /// Whose `pullImage` to print the arguments for
    #[arg(long = "for", value_name = "WHOSE", default_value = "nix2container")]
    purpose: Purpose,

    /// Print JSON instead of Nix, with the hash both as `sha256` and as `hash`
    #[arg(long)]
    json: bool,

    /// Also add the image to the Nix store, where `pullImage` looks for it
    #[arg(long)]
    store: bool,

    /// The image's name in dockerTools' archive [default: its own]
    #[arg(long, value_name = "NAME")]
    final_image_name: Option<String>,

    /// The image's tag in dockerTools' archive [default: its own, or `latest`]
    #[arg(long, value_name = "TAG")]
    final_image_tag: Option<String>,

    #[command(flatten)]
    jobs: Jobs,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    registry: RegistryOptions,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Purpose {
    /// For nix2container and n2c, which pull a directory
    #[value(name = "nix2container")]
    Nix2Container,
    /// For nixpkgs' dockerTools, which pulls an archive
    #[value(name = "dockerTools", alias = "docker-tools")]
    DockerTools,
}

/// The arguments that identify the image, without its hash.
struct Facts {
    image_name: String,
    image_digest: Digest,
    final_image_name: String,
    final_image_tag: String,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let location: Location = options.image.parse()?;
    let Some(reference) = location.reference() else {
        let hint = "name an image in a registry";
        return Err(Usage::new("`pullImage` can only pull from registries", hint).into());
    };
    let is_named = options.final_image_name.is_some() || options.final_image_tag.is_some();
    if is_named && options.purpose != Purpose::DockerTools {
        let hint = "pass `--for dockerTools`; a directory has no place for a name";
        return Err(Usage::new("`--final-image-…` only applies to dockerTools", hint).into());
    }
    let named = options.platforms.named(report)?;
    if named.len() > 1 {
        return Err(Usage::new("`hash` takes one image at a time", "name one `--platform`").into());
    }
    let client = options.registry.client(report)?;
    let resolution = Resolution::open(&location, &client, &**report).await?;
    let image = match platforms::as_it_is(&named, &resolution) {
        Some(only) => only.image().await?,
        None => resolution.image(&platforms::or_host(named, report)[0]).await?,
    };
    let image_name = reference.repository().to_string();
    let tag = options.final_image_tag.as_deref().or(reference.tag()).unwrap_or("latest");
    let facts = Facts {
        // The platform's manifest, not the index, which may resolve differently later.
        image_digest: image.manifest().raw().digest().clone(),
        final_image_name: options.final_image_name.clone().unwrap_or(image_name.clone()),
        final_image_tag: tag.to_owned(),
        image_name,
    };
    let pull = Copier { blobs: &resolution, jobs: options.jobs.get(), observer: &**report };
    let hash = match (options.purpose, options.store) {
        (Purpose::Nix2Container, false) => pull.directory_hash(&image).await?,
        (Purpose::DockerTools, false) => pull.docker_archive_hash(&image, &[facts.name()?]).await?,
        (purpose, true) => store(&pull, &image, purpose, &facts, report).await?,
    };
    let text = if options.json {
        facts.json(options.purpose, &hash)
    } else {
        facts.nix(options.purpose, &hash)
    };
    Report::result(None, text.as_bytes())
}

/// Pulls the image to a temporary directory, and adds it to the store from there. Returns
/// its hash.
async fn store(
    pull: &Copier<'_>,
    image: &Image,
    purpose: Purpose,
    facts: &Facts,
    report: &Report,
) -> Result<Digest, Failure> {
    let (directory, store) = (StoreDirectory::of(environment())?, Store::of(environment()));
    let name = facts.store_name(purpose);
    let place = n2c::fs::TemporaryDirectory::create().map_err(Runtime)?;
    let source = place.path().join(&name);
    let (hash, path, ingestion) = match purpose {
        Purpose::Nix2Container => {
            pull.to_directory(PendingImage::ready(image.clone()), &source).await?;
            let hash = n2c::store::nar::hash(&source).map_err(Runtime)?;
            let path = directory.recursive_path(&name, &hash);
            (hash, path, Ingestion::Recursive)
        }
        Purpose::DockerTools => {
            let names = [facts.name()?];
            pull.to_docker_archive(image, copy::create_archive(&source)?, &names).await?;
            let hash = Digest::of_file(Algorithm::Sha256, &source).map_err(Runtime)?;
            let path = directory.flat_path(&name, &hash);
            (hash, path, Ingestion::Flat)
        }
    };
    store.add_path(&source, ingestion, &path)?;
    report.note(&format!("added `{path}`"));
    Ok(hash)
}

impl Facts {
    /// The image's name in the archive.
    fn name(&self) -> Result<Name, Failure> {
        let repository = self.final_image_name.parse::<Repository>()?;
        let text = format!("{repository}:{}", self.final_image_tag);
        Ok(Name::try_from(text.parse::<Reference>()?)?)
    }

    /// The default name of the pull function's derivation.
    fn store_name(&self, purpose: Purpose) -> String {
        sanitise_name(&match purpose {
            Purpose::Nix2Container => format!("docker-image-{}", self.image_name),
            Purpose::DockerTools => {
                format!("docker-image-{}-{}.tar", self.final_image_name, self.final_image_tag)
            }
        })
    }

    /// The arguments, without the hash.
    fn arguments(&self, purpose: Purpose) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("imageName".to_owned(), self.image_name.clone().into());
        all.insert("imageDigest".to_owned(), self.image_digest.to_string().into());
        if purpose == Purpose::DockerTools {
            all.insert("finalImageName".to_owned(), self.final_image_name.clone().into());
            all.insert("finalImageTag".to_owned(), self.final_image_tag.clone().into());
        }
        all
    }

    fn nix(&self, purpose: Purpose, hash: &Digest) -> String {
        let mut arguments = self.arguments(purpose);
        // nix2container's function takes `sha256`, but not `hash`.
        match purpose {
            Purpose::Nix2Container => arguments.insert("sha256".to_owned(), hash.to_nix32().into()),
            Purpose::DockerTools => arguments.insert("hash".to_owned(), hash.to_sri().into()),
        };
        // For names and digests, a JSON string is also a Nix string.
        let lines: Vec<String> =
            arguments.iter().map(|(name, value)| format!("  {name} = {value};")).collect();
        format!("{{\n{}\n}}\n", lines.join("\n"))
    }

    fn json(&self, purpose: Purpose, hash: &Digest) -> String {
        let mut arguments = self.arguments(purpose);
        arguments.insert("sha256".to_owned(), hash.to_nix32().into());
        arguments.insert("hash".to_owned(), hash.to_sri().into());
        format!("{:#}\n", Value::Object(arguments))
    }
}
