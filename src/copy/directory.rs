//! skopeo's `dir:` layout: the manifest as it is served, and each blob under its
//! hex digest (containers/image `directory/`, protocol rules 83 and 84). Its NAR
//! hash is the `sha256` of nix2container's `pullImage`, so every byte and mode is
//! skopeo's.

use std::fs;
use std::io;
use std::path::Path;

use futures_util::future;
use tokio::sync::SetOnce;

use super::{Error, Pull, beside};
use crate::fs as files;
use crate::oci::digest::Digest;
use crate::oci::manifest::ImageManifest;
use crate::resolve::PendingImage;
use crate::source::Blobs;

/// What skopeo writes into `version`.
pub(crate) const VERSION: &str = "Directory Transport Version: 1.1\n";

/// How much of a `version` is read, in bytes.
const VERSION_LIMIT: u64 = 1 << 10;

impl<B: Blobs> Pull<'_, B> {
    /// Writes an image into a directory in skopeo's `dir:` layout. An image that is
    /// there stays whole until this one is: blobs come first, then the manifest,
    /// and last goes what is left over.
    ///
    /// Layers are fetched while `image` is waited for: its config, and whether it
    /// is the one that was asked for. Nothing gets a name before that is known.
    pub async fn to_directory(
        &self,
        image: PendingImage<'_>,
        directory: &Path,
    ) -> Result<(), Error> {
        let (manifest, image) = image.into_parts();
        check(directory)?;
        // Another pull may be in the middle of its own image there.
        let _lock = self.lock(directory).await?;
        check(directory)?;
        let place = |digest: &Digest| directory.join(digest.hex());
        // It takes a while where there is much, and so before something is asked.
        let missing = self.missing(manifest.layers(), place);
        let accepted = SetOnce::new();
        let accept = async {
            let image = image.await?;
            let version = directory.join("version");
            beside(version.clone(), move || files::replace(&version, VERSION.as_bytes())).await?;
            // It is set here only.
            let _ = accepted.set(());
            self.store_config(&image, &place(image.config().raw().digest())).await
        };
        let layers = async {
            let fetched = self.fetch_files(missing, place, &accepted).await;
            // That it is the wrong image matters more than what failed of it.
            accepted.wait().await;
            fetched
        };
        future::try_join(accept, layers).await?;
        files::replace(&directory.join("manifest.json"), manifest.raw().bytes())?;
        tidy(directory, &manifest)
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
    let is_ours = match files::read(&directory.join("version"), VERSION_LIMIT) {
        Ok(text) => text == VERSION.as_bytes(),
        // A pull that was killed at once may have left no more.
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

/// Removes what does not belong to the image.
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
