//! Whole images on disk, in skopeo's `dir:` layout: the manifest as it is
//! served, and each blob under its hex digest (containers/image `directory/`).
//! Its NAR hash is the `sha256` of nix2container's `pullImage`, so every byte
//! and mode is skopeo's.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::digest::{Digest, Hasher};
use crate::error::{Diagnose, Kind};
use crate::fs as files;
use crate::image::Image;
use crate::manifest::Descriptor;
use crate::resolve::{self, Resolution};

/// What skopeo writes into `version`.
const VERSION: &str = "Directory Transport Version: 1.1\n";
/// How many blobs are fetched at once.
const CONCURRENCY: usize = 4;

/// Why an image is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory can't be made, listed or tidied.
    #[error("failed to prepare directory `{}`", path.display())]
    Prepare {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory holds something else.
    #[error("`{}` is not empty, and no image was pulled into it", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// A blob could not be fetched.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// A file could not be written.
    #[error(transparent)]
    Fs(#[from] files::Error),
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Prepare { .. } | Self::NotOurs { .. } => Kind::Other,
            Self::Resolve(error) => error.kind(),
            Self::Fs(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotOurs { .. } => Some("name a new directory, or empty this one".to_owned()),
            Self::Resolve(error) => error.hint(),
            _ => None,
        }
    }
}

/// Writes `image` into `directory`. Blobs of it that are there already, whole
/// and verified, are kept, so a pull that broke off goes on; the manifest comes
/// last, so a directory that has one is complete.
pub async fn to_directory(
    resolution: &Resolution<'_>,
    image: &Image,
    directory: &Path,
) -> Result<(), Error> {
    let manifest = image.manifest();
    let blobs: BTreeMap<&str, &Descriptor> =
        manifest.blobs().map(|descriptor| (descriptor.digest.hex(), descriptor)).collect();
    let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(prepare)?;
    let missing = tidy(directory, &blobs)?;
    files::write(&directory.join("version"), VERSION.as_bytes())?;
    stream::iter(missing)
        .map(|blob| fetch(resolution, blob, directory))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    files::write(&directory.join("manifest.json"), manifest.raw().bytes())?;
    Ok(())
}

/// Removes what does not belong to the image, and returns what is missing of it.
fn tidy<'a>(
    directory: &Path,
    blobs: &BTreeMap<&str, &'a Descriptor>,
) -> Result<Vec<&'a Descriptor>, Error> {
    let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
    let mut missing = blobs.clone();
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(prepare)?;
    let is_ours = match files::read(&directory.join("version")) {
        Ok(text) => text == VERSION.as_bytes(),
        Err(_) => entries.is_empty(),
    };
    if !is_ours {
        return Err(Error::NotOurs { path: directory.to_owned() });
    }
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        match blobs.get(&*name) {
            Some(blob) if is_whole(&path, blob) => {
                missing.remove(&*name);
            }
            _ if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                return Err(Error::NotOurs { path: directory.to_owned() });
            }
            _ if name == "version" => {}
            _ => fs::remove_file(&path).map_err(prepare)?,
        }
    }
    Ok(missing.into_values().collect())
}

/// Whether a file is the blob that it is named after.
fn is_whole(path: &Path, blob: &Descriptor) -> bool {
    let digest = |mut file: fs::File| -> io::Result<Digest> {
        let mut hasher = Hasher::new(blob.digest.algorithm());
        io::copy(&mut file, &mut hasher)?;
        Ok(hasher.finish())
    };
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == blob.size)
        && fs::File::open(path).and_then(digest).is_ok_and(|digest| digest == blob.digest)
}

async fn fetch(
    resolution: &Resolution<'_>,
    blob: &Descriptor,
    directory: &Path,
) -> Result<(), Error> {
    let path = directory.join(blob.digest.hex());
    let mut output = files::OutputFile::create(&path)?;
    resolution.fetch_blob(blob, output.file()).await?;
    output.commit()?;
    // skopeo sets this mode whatever the umask is.
    fs::set_permissions(&path, Permissions::from_mode(0o644))
        .map_err(|source| Error::Prepare { path: directory.to_owned(), source })
}
