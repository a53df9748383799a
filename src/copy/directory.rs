//! skopeo's `dir:` layout: the manifest as served, and each blob under its hex digest
//! (containers/image `directory/`, protocol rules 83 and 84). Its NAR hash is the
//! `sha256` of nix2container's `pullImage`, so every byte and mode has to match
//! skopeo's.

use std::fs;
use std::io;
use std::path::Path;

use futures_util::future;
use tokio::sync::SetOnce;

use super::{Copier, Error, Place, beside};
use crate::fs as files;
use crate::oci::manifest::ImageManifest;
use crate::resolve::PendingImage;

/// What skopeo writes into the file `version`.
pub(crate) const VERSION: &str = "Directory Transport Version: 1.1\n";

/// How many bytes of `version` to read at most.
const VERSION_LIMIT: u64 = 1 << 10;

impl Copier<'_> {
    /// Writes an image into a directory in skopeo's `dir:` layout. An image that is
    /// already there stays complete until the new one is: blobs are written first, then
    /// the manifest, and leftovers are removed last.
    ///
    /// Layers are fetched while waiting for `image`, that is, for its config and for
    /// whether it is the right image. No file gets its name before that is known.
    pub async fn to_directory(
        &self,
        image: PendingImage<'_>,
        directory: &Path,
    ) -> Result<(), Error> {
        let (manifest, image) = image.into_parts();
        check(directory)?;
        // Another pull may be in the middle of writing its image there.
        let _lock = self.lock(directory).await?;
        check(directory)?;
        let place = Place::Directory(directory);
        // Hashing the files that are already there may take a while, so do it before
        // any request.
        let missing = self.missing(manifest.layers(), place);
        let accepted = SetOnce::new();
        let accept = async {
            let image = image.await?;
            let version = directory.join("version");
            beside(version.clone(), move || files::replace(&version, VERSION.as_bytes())).await?;
            // This can't fail: it is set only here.
            let _ = accepted.set(());
            self.store_config(&image, &place.of(image.config().raw().digest())).await
        };
        let layers = async {
            let fetched = self.fetch_files(missing, place, &accepted).await;
            // If it is the wrong image, that error matters more than a failed layer.
            accepted.wait().await;
            fetched
        };
        future::try_join(accept, layers).await?;
        files::replace(&directory.join("manifest.json"), manifest.raw().bytes())?;
        tidy(directory, &manifest)
    }
}

/// Refuses a directory that contains anything else.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let entries = match entries(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries,
    };
    let entries =
        entries.map_err(|source| Error::Prepare { path: directory.to_owned(), source })?;
    let is_ours = match files::read(&directory.join("version"), VERSION_LIMIT) {
        Ok(text) => text == VERSION.as_bytes(),
        // A pull that was killed right after it started may have left only temporary files.
        Err(_) => entries.iter().all(|entry| files::is_temporary(&entry.file_name())),
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

/// Removes files that do not belong to the image.
fn tidy(directory: &Path, manifest: &ImageManifest) -> Result<(), Error> {
    let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
    for entry in entries(directory).map_err(prepare)? {
        let name = entry.file_name();
        let belongs = name == "version"
            || name == "manifest.json"
            || manifest.blobs().any(|blob| name == *blob.digest.hex());
        if !belongs {
            fs::remove_file(entry.path()).map_err(prepare)?;
        }
    }
    Ok(())
}
