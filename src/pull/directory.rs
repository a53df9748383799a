//! skopeo's `dir:` layout: the manifest as it is served, and each blob under its
//! hex digest (containers/image `directory/`, protocol rules 83 and 84). Its NAR
//! hash is the `sha256` of nix2container's `pullImage`, so every byte and mode is
//! skopeo's.

use std::fs;
use std::io;
use std::path::Path;

use super::{Error, Pull, is_whole, missing};
use crate::fs as files;
use crate::image::Image;
use crate::resolve::Blobs;

/// What skopeo writes into `version`.
pub(crate) const VERSION: &str = "Directory Transport Version: 1.1\n";

/// Writes `image` into `directory`. An image that is there stays whole until this
/// one is: blobs come first, then the manifest, and last goes what is left over.
pub(super) async fn write<B: Blobs>(
    pull: &Pull<'_, B>,
    image: &Image,
    directory: &Path,
) -> Result<(), Error> {
    let manifest = image.manifest();
    let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
    check(directory)?;
    fs::create_dir_all(directory).map_err(prepare)?;
    files::replace(&directory.join("version"), VERSION.as_bytes())?;
    let missing = missing(manifest.blobs(), |blob| {
        let is_there = is_whole(&directory.join(blob.digest.hex()), blob);
        if is_there {
            pull.tell(blob, true);
        }
        is_there
    });
    pull.fetch_all(missing, async |blob| {
        let path = directory.join(blob.digest.hex());
        pull.fetch_to_file(std::slice::from_ref(image), blob, &path).await
    })
    .await?;
    files::replace(&directory.join("manifest.json"), manifest.raw().bytes())?;
    tidy(directory, image)
}

/// Refuses a directory with something else in it.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let entries = match entries(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries,
    };
    let entries =
        entries.map_err(|source| Error::Prepare { path: directory.to_owned(), source })?;
    let is_ours = match files::read(&directory.join("version")) {
        Ok(text) => text == VERSION.as_bytes(),
        Err(_) => entries.is_empty(),
    };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    if !is_ours || entries.iter().any(is_folder) {
        return Err(Error::NotOurs { path: directory.to_owned() });
    }
    Ok(())
}

fn entries(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    fs::read_dir(directory).and_then(Iterator::collect)
}

/// Removes what does not belong to the image.
fn tidy(directory: &Path, image: &Image) -> Result<(), Error> {
    let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
    for entry in entries(directory).map_err(prepare)? {
        let name = entry.file_name();
        let belongs = name == "version"
            || name == "manifest.json"
            || image.manifest().blobs().any(|blob| name == *blob.digest.hex());
        if !belongs {
            fs::remove_file(entry.path()).map_err(prepare)?;
        }
    }
    Ok(())
}
