//! `n2c copy` and `n2c pull`: write a whole image to disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use n2c::copy::{self, Copier, Destination};
use n2c::formats::convert;
use n2c::formats::docker_archive::Name;
use n2c::formats::lockfile::Lockfile;
use n2c::formats::oci_layout::Images;
use n2c::fs::OutputFile;
use n2c::oci::digest::Verified;
use n2c::oci::image::Image;
use n2c::oci::location::Location;
use n2c::oci::manifest::{self, Descriptor, Document};
use n2c::oci::platform::Platform;
use n2c::oci::reference::Reference;
use n2c::resolve::{PendingImage, Resolution};
use n2c::source::{BuiltImage, LockedImages};
use n2c::store::StoreDirectory;

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Usage};
use crate::cli::inputs;
use crate::cli::lockfiles;
use crate::cli::options::Jobs;
use crate::cli::options::RegistryOptions;
use crate::cli::output;
use crate::cli::platforms::{self, AllPlatforms, PlatformOptions};
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A reference such as `alpine:3.19`, `oci:DIR[:TAG]`, `lock:FILE` for what a lockfile pins, or
    /// `nix:FILE` for an image.json
    ///
    /// With `lock:`, blobs that are already in the Nix store are taken from
    /// there. With `nix:`, layers are made from their store paths, and checked
    /// against their digests.
    image: String,

    /// `dir:PATH`, `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]` or `docker-archive:PATH[:NAME[:TAG]]`
    #[arg(value_name = "TRANSPORT:PATH")]
    destination: String,

    /// An additional name of the image in a `docker-archive:`; may be repeated
    #[arg(long = "additional-tag", value_name = "NAME:TAG")]
    additional_tags: Vec<String>,

    /// Convert Docker's manifests to this format, which changes their digests
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    #[command(flatten)]
    jobs: Jobs,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    all: AllPlatforms,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// The format to convert manifests to.
#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Format {
    /// The OCI format
    Oci,
}

/// What to write, for one platform or several.
struct Selection {
    images: Vec<Image>,
    /// The index that lists the images, if it is written too.
    index: Option<Document>,
    /// Other documents that the index lists, and their blobs.
    others: Vec<Verified>,
    other_blobs: Vec<Descriptor>,
}

impl Selection {
    fn one(image: Image) -> Self {
        let (others, other_blobs) = (Vec::new(), Vec::new());
        Self { images: vec![image], index: None, others, other_blobs }
    }

    /// Converts the manifests to `format`, if there is one.
    fn in_format(mut self, format: Option<Format>) -> Result<Self, Failure> {
        let Some(Format::Oci) = format else { return Ok(self) };
        let mut converted = Vec::new();
        for image in &self.images {
            let digest = image.manifest().raw().digest().clone();
            converted.push((digest.clone(), convert::to_oci(&format!("`{digest}`"), image)?));
        }
        if let Some(Document::Index(index)) = &self.index {
            let subject = format!("`{}`", index.raw().digest());
            let index = convert::index_to_oci(&subject, index, &converted, &self.others)?;
            self.index = Some(index);
        }
        self.images = converted.into_iter().map(|(_, image)| image).collect();
        Ok(self)
    }
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let destination: Destination = options.destination.parse()?;
    let mut tags = Vec::new();
    for text in &options.additional_tags {
        // The default tag only applies to the image to pull, not to additional names.
        if !text.rsplit('/').next().is_some_and(|name| name.contains(':')) {
            let message = format!("`--additional-tag {}` has no tag", text.escape_default());
            return Err(Usage::new(message, "write it as `NAME:TAG`").into());
        }
        tags.push(Name::try_from(text.parse::<Reference>()?)?);
    }
    if !tags.is_empty() && !matches!(destination, Destination::DockerArchive { .. }) {
        let hint = "only a `docker-archive:` can hold several names for an image";
        return Err(Usage::new("`--additional-tag` does not apply to the destination", hint).into());
    }
    if options.format.is_some() && matches!(destination, Destination::DockerArchive { .. }) {
        let hint = "it has its own format; leave out `--format`";
        return Err(Usage::new("a `docker-archive:` holds no manifest to convert", hint).into());
    }
    destination.check()?;
    let place = options.destination.clone();
    pull_to(destination, tags, options, report).await?;
    report.pulled(&place);
    Ok(())
}

async fn pull_to(
    destination: Destination,
    tags: Vec<Name>,
    options: Options,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    if let Some(file) = options.image.strip_prefix("lock:") {
        let lockfile = lockfiles::read(Path::new(file))?;
        return pull_locked(&lockfile, options, destination, tags, report).await;
    }
    if let Some(file) = image_json(&options.image) {
        let built = BuiltImage::new(file, inputs::image(Path::new(file))?)?;
        return write_built(&built, options, destination, tags, report).await;
    }
    pull_resolved(options, destination, tags, report).await
}

/// Returns the file if the source is an image.json: it says so, or has its name.
fn image_json(source: &str) -> Option<&str> {
    let is_other = source.starts_with("oci:") || source.contains("://");
    let is_json = Path::new(source).extension().is_some_and(|extension| extension == "json");
    let has_its_name = is_json && !is_other;
    source.strip_prefix("nix:").or_else(|| has_its_name.then_some(source))
}

async fn write_built(
    built: &BuiltImage,
    options: Options,
    destination: Destination,
    tags: Vec<Name>,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let image = built.image();
    let named = options.platforms.named(report)?;
    let own = image.config().platform();
    if let Some(other) = named.iter().find(|platform| Some(*platform) != own) {
        let own = own.map_or_else(|| "no platform".to_owned(), |own| format!("`{own}`"));
        let text = format!("the image is for {own}, not for `{other}`");
        return Err(
            Usage::new(text, "an image.json holds one image; leave out `--platform`").into()
        );
    }
    let found = Selection::one(image.clone());
    let pull = Copier { blobs: built, jobs: options.jobs.get(), observer: &**report };
    write(&pull, found, destination, tags).await
}

async fn pull_resolved(
    options: Options,
    destination: Destination,
    tags: Vec<Name>,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let location: Location = options.image.parse()?;
    let is_all = options.all.all_platforms;
    let named = options.platforms.named(report)?;
    let client = options.registry.client(report)?;
    let resolution = Resolution::open(&location, &client, &**report).await?;
    let pull = Copier { blobs: &resolution, jobs: options.jobs.get(), observer: &**report };
    let mut only = platforms::as_it_is(&named, &resolution).filter(|_| !is_all);
    let wanted = if is_all {
        None
    } else if only.is_some() {
        Some(named)
    } else {
        Some(platforms::or_host(named, report))
    };
    // If nothing is converted, layers can be fetched without waiting for the config.
    if let (Destination::Directory(path), None) = (&destination, options.format) {
        if let Some(only) = only.take() {
            return Ok(pull.to_directory(only, path).await?);
        }
        if let Some([platform]) = wanted.as_deref() {
            return Ok(pull.to_directory(resolution.pending(platform).await?, path).await?);
        }
    }
    let found = match only {
        Some(only) => Selection::one(only.image().await?),
        None => find(&resolution, wanted, report).await?,
    };
    write(&pull, found.in_format(options.format)?, destination, tags).await
}

async fn pull_locked(
    lockfile: &Lockfile,
    options: Options,
    destination: Destination,
    tags: Vec<Name>,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let text = "a lockfile can only be pulled for one platform at a time";
    if options.all.all_platforms && lockfile.entries().len() > 1 {
        return Err(Usage::new(text, "name one `--platform`").into());
    }
    let entry = lockfiles::one_entry(lockfile, options.platforms.named(report)?, text, report)?;
    let client = options.registry.client(report)?;
    let locked = LockedImages::new(lockfile, StoreDirectory::of(environment())?, &client);
    // A docker archive doesn't contain the image's manifest, so it needn't be fetched.
    let image = match destination {
        Destination::DockerArchive { .. } => locked.image(entry).await?,
        _ => locked.served_image(entry).await?,
    };
    let found = Selection::one(image).in_format(options.format)?;
    let pull = Copier { blobs: &locked, jobs: options.jobs.get(), observer: &**report };
    write(&pull, found, destination, tags).await
}

/// Finds the images for the named platforms, or for all platforms if `named` is `None`.
async fn find(
    resolution: &Resolution<'_>,
    named: Option<Vec<Platform>>,
    report: &Report,
) -> Result<Selection, Failure> {
    let is_all = named.is_none();
    let platforms = match named {
        Some(platforms) => platforms,
        None => resolution.platforms().await?,
    };
    let mut images: Vec<Image> = Vec::new();
    for image in resolution.images(&platforms).await? {
        let digest = image.manifest().raw().digest();
        // Two platforms may share an image.
        if images.iter().all(|other| other.manifest().raw().digest() != digest) {
            images.push(image);
        }
    }
    let root = resolution.root();
    let lists = matches!(root, Document::Index(_)) && (is_all || images.len() > 1);
    let (mut others, mut other_blobs) = (Vec::new(), Vec::new());
    if lists {
        others.extend_from_slice(resolution.nested_indexes().await?);
    }
    if lists && is_all {
        let attachments = resolution.attachments().await?;
        other_blobs = attachments.iter().flat_map(manifest::blobs_of_any).collect();
        others.extend(attachments);
    } else if lists {
        let text = "the index is kept as it is, so it also lists platforms that are not pulled";
        report.note(text);
    }
    Ok(Selection { images, index: lists.then(|| root.clone()), others, other_blobs })
}

async fn write(
    pull: &Copier<'_>,
    found: Selection,
    destination: Destination,
    mut tags: Vec<Name>,
) -> Result<(), Failure> {
    let Some(first) = found.images.first() else { return Ok(()) };
    let images = match &found.index {
        Some(document) => Images {
            root: document.raw(),
            media_type: document.media_type(),
            others: &found.others,
            other_blobs: &found.other_blobs,
            images: &found.images,
        },
        None => Images {
            root: first.manifest().raw(),
            media_type: first.manifest().media_type(),
            others: &[],
            other_blobs: &[],
            images: &found.images,
        },
    };
    let only = |path: &PathBuf| match found.images.as_slice() {
        [image] => Ok(image),
        images => Err(copy::Error::Several { path: path.clone(), count: images.len() }),
    };
    match destination {
        Destination::Directory(path) => {
            let image = PendingImage::ready(only(&path)?.clone());
            pull.to_directory(image, &path).await?;
        }
        Destination::OciLayout { directory, name } => {
            pull.to_oci_layout(&images, &directory, name.as_deref()).await?;
        }
        Destination::OciArchive { file, name } => {
            pull.to_oci_archive(&images, create(&file)?, name.as_deref()).await?;
        }
        Destination::DockerArchive { file, name } => {
            tags.splice(0..0, name);
            pull.to_docker_archive(only(&file)?, create(&file)?, &tags).await?;
        }
    }
    Ok(())
}

fn create(path: &Path) -> Result<OutputFile, Failure> {
    if output::is_built(path) {
        return Ok(OutputFile::create_in_place(path)?);
    }
    Ok(copy::create_archive(path)?)
}
