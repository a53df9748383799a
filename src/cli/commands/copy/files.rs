//! Copies to directories and archives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use n2c::copy::{self, Copier, Destination, Selection};
use n2c::formats::docker_archive::Name;
use n2c::fs::OutputFile;
use n2c::oci::location::Location;
use n2c::oci::reference::Reference;
use n2c::registry::Client;
use n2c::resolve::{PendingImage, Resolution};

use super::options::{Common, Request};
use crate::cli::failure::{Failure, Usage};
use crate::cli::output;
use crate::cli::platforms;
use crate::cli::report::Report;

/// Whether nothing is converted, so that layers can be fetched without waiting for the config.
pub(super) fn is_simple(
    request: &Request,
    annotations: &BTreeMap<String, String>,
) -> Result<bool, Failure> {
    let Common { format, all, .. } = &request.common;
    let is_kept = format.is_none() && annotations.is_empty() && !all.all_platforms;
    Ok(is_kept && request.push.digestfile.is_none() && request.push.compression(false)?.is_none())
}

/// Copies the one image that a location leads to into a directory. Returns `false` if it
/// leads to several.
pub(super) async fn to_directory(
    location: &Location,
    path: &Path,
    common: &Common,
    client: &Client,
    report: &Arc<Report>,
) -> Result<bool, Failure> {
    let named = common.platforms.named(report)?;
    if named.len() > 1 {
        return Ok(false);
    }
    let resolution = Resolution::open(location, client, &**report).await?;
    let copier = Copier { blobs: &resolution, jobs: common.jobs.get(), observer: &**report };
    if let Some(only) = platforms::sole(&named, &resolution) {
        copier.to_directory(only, path).await?;
        return Ok(true);
    }
    let named = platforms::or_host(named, report);
    let Some(platform) = named.first() else { return Ok(false) };
    copier.to_directory(resolution.pending(platform).await?, path).await?;
    Ok(true)
}

pub(super) async fn write(
    copier: &Copier<'_>,
    found: &Selection,
    destination: Destination,
    additional: &[String],
) -> Result<(), Failure> {
    let Some(images) = found.contents() else { return Ok(()) };
    let only = |path: &PathBuf| match found.images() {
        [image] => Ok(image),
        images => Err(copy::Error::Several { path: path.clone(), count: images.len() }),
    };
    match destination {
        // Registries and engines have their own functions.
        Destination::Registry(_) | Destination::Engine { .. } => {}
        Destination::Directory(path) => {
            let image = PendingImage::ready(only(&path)?.clone());
            copier.to_directory(image, &path).await?;
        }
        Destination::OciLayout { directory, name } => {
            copier.to_oci_layout(&images, &directory, name.as_deref()).await?;
        }
        Destination::OciArchive { file, name } => {
            copier.to_oci_archive(&images, create(&file)?, name.as_deref()).await?;
        }
        Destination::DockerArchive { file, name } => {
            let mut names: Vec<Name> = name.into_iter().collect();
            names.extend(names_of(additional)?);
            copier.to_docker_archive(only(&file)?, create(&file)?, &names).await?;
        }
    }
    Ok(())
}

/// The additional names of an image in an archive, which have no default tag.
pub(super) fn names_of(additional: &[String]) -> Result<Vec<Name>, Failure> {
    let name = |text: &String| -> Result<Name, Failure> {
        if !text.rsplit('/').next().is_some_and(|name| name.contains(':')) {
            let message = format!("`--additional-tag {}` has no tag", text.escape_default());
            return Err(Usage::new(message, "write it as `NAME:TAG`").into());
        }
        Ok(Name::try_from(text.parse::<Reference>()?)?)
    };
    additional.iter().map(name).collect()
}

fn create(path: &Path) -> Result<OutputFile, Failure> {
    if output::is_built(path) {
        return Ok(OutputFile::create_in_place(path)?);
    }
    Ok(copy::create_archive(path)?)
}
