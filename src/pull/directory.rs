//! skopeo's `dir:` layout: the manifest as it is served, and each blob under its
//! hex digest (containers/image `directory/`, protocol rules 83 and 84). Its NAR
//! hash is the `sha256` of nix2container's `pullImage`, so every byte and mode is
//! skopeo's.

use std::fs;
use std::io;
use std::path::Path;

use super::{Error, Pull};
use crate::digest::Digest;
use crate::fs as files;
use crate::image::Image;
use crate::resolve::Blobs;

/// What skopeo writes into `version`.
pub(crate) const VERSION: &str = "Directory Transport Version: 1.1\n";

impl<B: Blobs> Pull<'_, B> {
    /// Writes `image` into a directory in skopeo's `dir:` layout. An image that is
    /// there stays whole until this one is: blobs come first, then the manifest,
    /// and last goes what is left over.
    pub async fn to_directory(&self, image: &Image, directory: &Path) -> Result<(), Error> {
        let manifest = image.manifest();
        check(directory)?;
        fs::create_dir_all(directory)
            .map_err(|source| Error::Prepare { path: directory.to_owned(), source })?;
        files::replace(&directory.join("version"), VERSION.as_bytes())?;
        let place = |digest: &Digest| directory.join(digest.hex());
        self.fetch_files(std::slice::from_ref(image), manifest.blobs(), place).await?;
        files::replace(&directory.join("manifest.json"), manifest.raw().bytes())?;
        tidy(directory, image)
    }
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
