//! `n2c pull`: a whole image on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use n2c::digest::Verified;
use n2c::docker_archive::Name;
use n2c::fs::OutputFile;
use n2c::image::Image;
use n2c::location::Location;
use n2c::lockfile::Lockfile;
use n2c::manifest::{self, Descriptor, Document};
use n2c::platform::Platform;
use n2c::pull::{self, Destination, Images, Pull};
use n2c::reference::Reference;
use n2c::resolve::{Blobs, Locked, PendingImage, Resolution};
use n2c::store::StoreDirectory;

use super::failure::{Failure, Usage};
use super::platforms::{AllPlatforms, PlatformOptions};
use super::report::Report;
use super::{Jobs, RegistryOptions, lockfiles, output};

#[derive(Args)]
pub(crate) struct Options {
    /// A reference such as `alpine:3.19`, `oci:DIR[:TAG]`, or `lock:FILE` for what a lockfile pins
    ///
    /// Of a lockfile, blobs that are in the Nix store already are taken from
    /// there.
    image: String,

    /// `dir:PATH`, `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]` or `docker-archive:PATH[:NAME[:TAG]]`
    #[arg(value_name = "TRANSPORT:PATH")]
    destination: String,

    /// A further name of the image in a `docker-archive:`; may be repeated
    #[arg(long = "additional-tag", value_name = "NAME:TAG")]
    additional_tags: Vec<String>,

    #[command(flatten)]
    jobs: Jobs,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    all: AllPlatforms,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// What is pulled, of one platform or several.
struct Found {
    images: Vec<Image>,
    /// The index that lists them, where there is more than one to list.
    index: Option<Document>,
    /// What else it lists, and its blobs.
    others: Vec<Verified>,
    other_blobs: Vec<Descriptor>,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let destination: Destination = options.destination.parse()?;
    let mut tags = Vec::new();
    for text in &options.additional_tags {
        tags.push(Name::try_from(text.parse::<Reference>()?)?);
    }
    if !tags.is_empty() && !matches!(destination, Destination::DockerArchive { .. }) {
        let hint = "only a `docker-archive:` has several names for an image";
        return Err(Usage::new("`--additional-tag` does not fit the destination", hint).into());
    }
    destination.check()?;
    match options.image.strip_prefix("lock:") {
        Some(file) => {
            let lockfile = lockfiles::read(Path::new(file))?;
            pull_locked(&lockfile, options, destination, tags, report).await
        }
        None => pull_resolved(options, destination, tags, report).await,
    }
}

async fn pull_resolved(
    options: Options,
    destination: Destination,
    tags: Vec<Name>,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let location: Location = options.image.parse()?;
    let is_all = options.all.all_platforms;
    let named = if is_all { None } else { Some(options.platforms.named_or_host(report)?) };
    let client = options.registry.client(report.clone())?;
    let resolution = Resolution::open(&location, &client, &**report).await?;
    let pull = Pull { blobs: &resolution, jobs: options.jobs.get(), observer: &**report };
    if let (Destination::Directory(path), Some([platform])) = (&destination, named.as_deref()) {
        return Ok(pull.to_directory(resolution.pending(platform).await?, path).await?);
    }
    let found = find(&resolution, named, report).await?;
    write(&pull, found, destination, tags).await
}

async fn pull_locked(
    lockfile: &Lockfile,
    options: Options,
    destination: Destination,
    tags: Vec<Name>,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let text = "a lockfile is pulled for one platform at a time";
    if options.all.all_platforms && lockfile.entries().len() > 1 {
        return Err(Usage::new(text, "name one `--platform`").into());
    }
    let entry = lockfiles::one_entry(lockfile, &options.platforms, text, report)?;
    let client = options.registry.client(report.clone())?;
    let locked = Locked::new(lockfile, StoreDirectory::of_environment()?, &client);
    // A docker archive has no place for the manifest, and so needs none.
    let image = match destination {
        Destination::DockerArchive { .. } => locked.image(entry).await?,
        _ => locked.served_image(entry).await?,
    };
    let found =
        Found { images: vec![image], index: None, others: Vec::new(), other_blobs: Vec::new() };
    let pull = Pull { blobs: &locked, jobs: options.jobs.get(), observer: &**report };
    write(&pull, found, destination, tags).await
}

/// The images for the platforms that were named, or for all.
async fn find(
    resolution: &Resolution<'_>,
    named: Option<Vec<Platform>>,
    report: &Report,
) -> Result<Found, Failure> {
    let is_all = named.is_none();
    let platforms = match named {
        Some(platforms) => platforms,
        None => resolution.platforms().await?,
    };
    let mut images: Vec<Image> = Vec::new();
    for image in resolution.images(&platforms).await? {
        let digest = image.manifest().raw().digest();
        // Two platforms may be served by one image.
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
        let text = "the index is kept as it is, and lists platforms that were not asked for";
        report.note(text);
    }
    Ok(Found { images, index: lists.then(|| root.clone()), others, other_blobs })
}

async fn write<B: Blobs>(
    pull: &Pull<'_, B>,
    found: Found,
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
        images => Err(pull::Error::Several { path: path.clone(), count: images.len() }),
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
    Ok(pull::create_archive(path)?)
}
