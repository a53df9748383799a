//! Opens the sources of a copy, and chooses the images in them.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::Arc;

use n2c::copy::{Selection, Source};
use n2c::formats::lockfile::Lockfile;
use n2c::oci::digest::Digest;
use n2c::oci::location::Location;
use n2c::oci::manifest::{self, Document};
use n2c::oci::platform::Platform;
use n2c::oci::reference::Repository;
use n2c::registry::Client;
use n2c::resolve::Resolution;
use n2c::source::{Blobs, BuiltImage, ImageFiles, LockedImages};
use n2c::store::StoreDirectory;
use n2c::stream::compress::Compression;

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Usage};
use crate::cli::inputs;
use crate::cli::lockfiles;
use crate::cli::platforms::{self, PlatformOptions};
use crate::cli::report::Report;

/// A source as the user names it, with the lockfile if it is one, which is read only once.
pub(crate) struct Given {
    pub(super) source: Source,
    lockfile: Option<Lockfile>,
}

impl FromStr for Given {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let source = text.parse()?;
        let lockfile = match &source {
            Source::Lockfile(file) => Some(lockfiles::read(file)?),
            _ => None,
        };
        Ok(Self { source, lockfile })
    }
}

impl Given {
    /// The registry that the image comes from.
    pub(super) fn registry(&self) -> Option<String> {
        let location = match &self.source {
            Source::Location(location) => Some(location),
            _ => self.lockfile.as_ref().and_then(Lockfile::location),
        };
        let reference = location.and_then(Location::reference);
        reference.map(|reference| reference.repository().host().to_owned())
    }

    /// Whether the image gets its manifest when it is copied.
    pub(super) const fn has_no_manifest(&self) -> bool {
        matches!(self.source, Source::ImageJson(_) | Source::DockerArchive { .. })
    }
}

/// A source that was opened.
pub(crate) enum Opened<'a> {
    Resolved(Box<Resolution<'a>>),
    Locked(Box<Lockfile>, &'a Client),
    Built(Box<BuiltImage>),
}

/// What to copy from a source.
pub(crate) struct Loaded<'a> {
    pub(crate) selection: Selection,
    pub(crate) blobs: Box<dyn Blobs + 'a>,
}

impl<'a> Opened<'a> {
    pub(crate) async fn open(
        given: &Given,
        client: &'a Client,
        report: &'a Arc<Report>,
    ) -> Result<Self, Failure> {
        let resolution = match &given.source {
            Source::Lockfile(file) => {
                let known = given.lockfile.clone();
                let lockfile = known.map_or_else(|| lockfiles::read(file), Ok)?;
                return Ok(Self::Locked(Box::new(lockfile), client));
            }
            Source::ImageJson(file) => {
                let name = file.display().to_string();
                return Ok(Self::Built(Box::new(BuiltImage::new(&name, inputs::image(file)?)?)));
            }
            Source::Location(location) => Resolution::open(location, client, &**report).await?,
            Source::Directory(path) => {
                Resolution::of_files(ImageFiles::directory(path)?, &**report)?
            }
            Source::OciArchive(reference) => {
                Resolution::of_files(ImageFiles::oci_archive(reference)?, &**report)?
            }
            Source::DockerArchive { file, name } => {
                let files = ImageFiles::docker_archive(file, name.as_ref())?;
                Resolution::of_files(files, &**report)?
            }
        };
        Ok(Self::Resolved(Box::new(resolution)))
    }

    /// Chooses the images to copy. `needs_manifest` says whether the manifest of a locked
    /// image is written anywhere.
    pub(crate) async fn load<'b>(
        &'b self,
        platforms: &PlatformOptions,
        is_all: bool,
        needs_manifest: bool,
        report: &Report,
    ) -> Result<Loaded<'b>, Failure> {
        let named = if is_all { Vec::new() } else { platforms.named(report)? };
        match self {
            Self::Resolved(resolution) => {
                let selection = match platforms::sole(&named, resolution).filter(|_| !is_all) {
                    Some(only) => Selection::one(only.image().await?),
                    None if is_all => find(resolution, None, report).await?,
                    None => {
                        let named = platforms::or_host(named, report);
                        find(resolution, Some(named), report).await?
                    }
                };
                Ok(Loaded { selection, blobs: Box::new(&**resolution) })
            }
            Self::Locked(lockfile, client) => {
                let text = "a lockfile can only be copied for one platform at a time";
                if is_all && lockfile.entries().len() > 1 {
                    return Err(Usage::new(text, "name one `--platform`").into());
                }
                let entry = lockfiles::one_entry(lockfile, named, text, report)?;
                let store = StoreDirectory::of(environment())?;
                let locked = LockedImages::new(lockfile, store, client);
                let image = if needs_manifest {
                    locked.served_image(entry).await?
                } else {
                    locked.image(entry).await?
                };
                Ok(Loaded { selection: Selection::one(image), blobs: Box::new(locked) })
            }
            Self::Built(built) => {
                check_platform(built, &named)?;
                let selection = Selection::one(built.image().clone());
                Ok(Loaded { selection, blobs: Box::new(&**built) })
            }
        }
    }

    /// What a plain layer compresses to, if that was recorded when it was built.
    pub(crate) fn recorded(&self, layer: &Digest, how: Compression) -> Option<(Digest, u64)> {
        match self {
            Self::Built(built) => built.compressed(layer, how),
            Self::Resolved(_) | Self::Locked(..) => None,
        }
    }

    /// The repository that the image comes from.
    pub(crate) fn origin(&self) -> Option<&Repository> {
        let location = match self {
            Self::Resolved(resolution) => Some(resolution.location()),
            Self::Locked(lockfile, _) => lockfile.location(),
            Self::Built(_) => None,
        };
        location.and_then(Location::reference).map(n2c::oci::reference::Reference::repository)
    }
}

fn check_platform(built: &BuiltImage, named: &[Platform]) -> Result<(), Failure> {
    let own = built.image().config().platform();
    let Some(other) = named.iter().find(|platform| Some(*platform) != own) else { return Ok(()) };
    let own = own.map_or_else(|| "no platform".to_owned(), |own| format!("`{own}`"));
    let text = format!("the image is for {own}, not for `{other}`");
    Err(Usage::new(text, "an image.json holds one image; leave out `--platform`").into())
}

/// Finds the images for the named platforms, or for all platforms if `named` is `None`.
async fn find(
    resolution: &Resolution<'_>,
    named: Option<Vec<Platform>>,
    report: &Report,
) -> Result<Selection, Failure> {
    let is_all = named.is_none();
    let found = if let Some(platforms) = named {
        resolution.images(&platforms).await?
    } else {
        // An index without images is an error.
        resolution.platforms().await?;
        resolution.all_images().await?
    };
    let (mut images, mut seen) = (Vec::new(), HashSet::new());
    for image in found {
        // Two platforms may share an image.
        if seen.insert(image.manifest().raw().digest().clone()) {
            images.push(image);
        }
    }
    let root = resolution.root();
    let lists = matches!(root, Document::Index(_)) && (is_all || images.len() > 1);
    if !lists {
        return Ok(Selection::of(images, None));
    }
    let mut others = resolution.nested_indexes().await?.to_vec();
    let mut other_blobs = Vec::new();
    if is_all {
        let attachments = resolution.attachments().await?;
        other_blobs = attachments.iter().flat_map(manifest::blobs_of_any).collect();
        others.extend(attachments);
    } else {
        let text = "the index is kept as it is, so it also lists platforms that are not copied";
        report.note(text);
    }
    Ok(Selection::of(images, Some(root.clone())).with(others, other_blobs))
}
