//! Whole images on disk, in the forms that other tools take.
//!
//! A directory and an OCI layout hold blobs as they are served, each in a file
//! of its own: what is there already and verified is kept, so a pull that broke
//! off goes on. Archives are written beside their place and renamed.

mod destination;
mod directory;
mod docker;
mod hash;
mod oci;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use tokio::sync::{Semaphore, SetOnce, oneshot};

use crate::error::{Diagnose, Kind};
use crate::formats::docker_archive;
use crate::fs::{self as files, DirectoryLock, OutputFile};
use crate::observer::{Event, Observer};
use crate::oci::digest::{self, Digest};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::oci::reference;
use crate::registry::SMALL_BLOB;
use crate::resolve;
use crate::source::{self, Blobs};
use crate::stream::sink::Region;
pub use destination::Destination;

/// How many small blobs are fetched in the place of a large one.
const SMALL_AT_ONCE: usize = 12;

/// Why an image is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination is not of the form `TRANSPORT:PATH[:REF]`.
    #[error("invalid destination `{text}`")]
    Destination {
        /// What was given, with control characters escaped.
        text: String,
    },
    /// The image's name in an archive is malformed.
    #[error(transparent)]
    Reference(#[from] reference::Error),
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
    /// There is an archive already.
    #[error("`{}` exists, and archives are not added to", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The destination has room for one image.
    #[error("`{}` holds one image, not {count}", path.display())]
    Several {
        /// The destination.
        path: PathBuf,
        /// How many there are to pull.
        count: usize,
    },
    /// The image turned out to be none, or not the one that was asked for.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// A blob could not be fetched.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A layer can't be decompressed.
    #[error("failed to decompress layer `{digest}`")]
    Decompress {
        /// The layer.
        digest: Digest,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// A layer can't be written.
    #[error("failed to write layer `{digest}`")]
    Write {
        /// The layer.
        digest: Digest,
        /// Where it was to go, and what the system said.
        #[source]
        source: io::Error,
    },
    /// A layer is not what the config says.
    #[error("wrong content of layer `{digest}`")]
    DiffId {
        /// The layer.
        digest: Digest,
        /// What it is, and what it should be.
        #[source]
        source: digest::Error,
    },
    /// An OCI layout that is there already can't be added to.
    #[error("invalid `index.json` in `{}`", path.display())]
    Index {
        /// The layout.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A hash can't be computed.
    #[error("failed to hash an image")]
    Hash(#[source] io::Error),
    /// The image does not fit the form of archive.
    #[error(transparent)]
    DockerArchive(#[from] docker_archive::Error),
    /// A file could not be written.
    #[error(transparent)]
    Fs(#[from] files::Error),
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Prepare { .. }
            | Self::NotOurs { .. }
            | Self::Exists { .. }
            | Self::Write { .. }
            | Self::Hash(_) => Kind::Other,
            Self::Destination { .. } | Self::Several { .. } => Kind::Usage,
            Self::Decompress { .. } | Self::DiffId { .. } | Self::Index { .. } => {
                Kind::Verification
            }
            Self::Reference(error) => error.kind(),
            Self::Resolve(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::DockerArchive(error) => error.kind(),
            Self::Fs(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Destination { .. } => {
                "write `dir:PATH`, `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]` \
                                         or `docker-archive:PATH[:NAME[:TAG]]`"
                    .to_owned()
            }
            Self::NotOurs { .. } => "name a new directory, or empty this one".to_owned(),
            Self::Exists { .. } => "name a new file, or remove this one".to_owned(),
            Self::Several { .. } => "name one `--platform`, or pull to `oci:`".to_owned(),
            Self::Decompress { .. } | Self::DiffId { .. } => {
                "the registry serves what was pushed; whoever made the image must mend it"
                    .to_owned()
            }
            Self::Index { .. } => "name a new directory".to_owned(),
            Self::Reference(error) => return error.hint(),
            Self::Resolve(error) => return error.hint(),
            Self::Source(error) => return error.hint(),
            Self::DockerArchive(error) => return error.hint(),
            Self::Fs(error) => return error.hint(),
            Self::Prepare { .. } | Self::Write { .. } | Self::Hash(_) => return None,
        })
    }
}

/// A pull under way: where blobs come from, and how.
pub struct Pull<'a, B: Blobs> {
    /// Where they come from.
    pub blobs: &'a B,
    /// How many are fetched at once.
    pub jobs: usize,
    /// Who is told.
    pub observer: &'a dyn Observer,
}

impl<B: Blobs> Pull<'_, B> {
    /// Fetches several blobs at once. What is left to do of each, others do not
    /// wait for, however many that are: one that was left in the middle might hold
    /// what is waited for.
    async fn fetch_all<'d, F, R>(
        &self,
        blobs: impl IntoIterator<Item = &'d Descriptor>,
        fetch: impl Fn(&'d Descriptor) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<R, Error>>,
        R: Future<Output = Result<(), Error>>,
    {
        let all = |blobs: Vec<&'d Descriptor>, jobs: usize| {
            stream::iter(blobs)
                .map(async |blob| Ok((blob, fetch(blob).await?)))
                .buffer_unordered(jobs)
                .try_for_each_concurrent(None, async |(blob, rest)| {
                    rest.await?;
                    self.tell(blob, false);
                    Ok(())
                })
        };
        if self.jobs <= 1 {
            return all(blobs.into_iter().collect(), 1).await;
        }
        // Small ones wait for answers, not for bytes: more of them at once costs
        // nobody anything, and they do not wait behind the large ones.
        let (small, large) = blobs.into_iter().partition(|blob| blob.size < SMALL_BLOB);
        let both = (all(large, self.jobs), all(small, self.jobs * SMALL_AT_ONCE));
        future::try_join(both.0, both.1).await.map(drop)
    }

    /// Those of `blobs` that are not in their places already, whole.
    fn missing<'d>(
        &self,
        blobs: impl IntoIterator<Item = &'d Descriptor>,
        place: impl Fn(&Digest) -> PathBuf,
    ) -> Vec<&'d Descriptor> {
        let distinct: BTreeMap<&Digest, &Descriptor> =
            blobs.into_iter().map(|blob| (&blob.digest, blob)).collect();
        let (there, missing): (Vec<_>, Vec<_>) =
            distinct.into_values().partition(|blob| is_whole(&place(&blob.digest), blob));
        for blob in there {
            self.tell(blob, true);
        }
        missing
    }

    /// Fetches blobs into files of their own, each to its `place` when they are
    /// `accepted`.
    async fn fetch_files(
        &self,
        blobs: Vec<&Descriptor>,
        place: impl Fn(&Digest) -> PathBuf,
        accepted: &SetOnce<()>,
    ) -> Result<(), Error> {
        let files = Semaphore::new(files_at_once());
        let files = &files;
        let fetch = async |blob: &Descriptor| {
            // Those that wait to be accepted are open too. It is never closed.
            let permit = files.acquire().await.ok();
            let mut output = OutputFile::replacing(&place(&blob.digest))?;
            self.blobs.fetch_blob(blob, &mut output).await?;
            Ok(async move {
                accepted.wait().await;
                let committed = commit(output).await;
                drop(permit);
                committed
            })
        };
        self.fetch_all(blobs, fetch).await
    }

    /// Writes the config of an image to its place, unless it is there already.
    async fn store_config(&self, image: &Image, place: &Path) -> Result<(), Error> {
        let blob = image.manifest().config();
        let was_there = is_whole(place, blob);
        if !was_there {
            let mut output = OutputFile::replacing(place)?;
            output.write_all(image.config().raw().bytes())?;
            commit(output).await?;
        }
        self.tell(blob, was_there);
        Ok(())
    }

    /// Takes a directory for this run alone, and waits where another has it.
    async fn lock(&self, directory: &Path) -> Result<DirectoryLock, Error> {
        let (sender, waits) = oneshot::channel();
        let path = directory.to_owned();
        let taking = tokio::task::spawn_blocking(move || {
            DirectoryLock::take(&path, || {
                // Nobody listens any more where this run has ended.
                let _ = sender.send(());
            })
        });
        let telling = async {
            if waits.await.is_ok() {
                let text = format!("waiting for another run in `{}`", directory.display());
                self.observer.observe(&Event::Note(&text));
            }
        };
        let (taken, ()) = future::join(taking, telling).await;
        taken
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| Error::Prepare { path: directory.to_owned(), source })
    }

    fn tell(&self, blob: &Descriptor, was_there: bool) {
        let (digest, size) = (&blob.digest, blob.size);
        self.observer.observe(&Event::BlobStored { digest, size, was_there });
    }
}

/// Puts a blob in its place. The disk takes its time; other blobs go on arriving.
async fn commit(mut output: OutputFile) -> Result<(), Error> {
    // skopeo sets this mode whatever the umask is.
    output.set_mode(0o644)?;
    beside(output.path().to_owned(), move || output.commit()).await
}

/// Waits for the disk on another thread.
async fn beside(
    path: PathBuf,
    write: impl FnOnce() -> Result<(), files::Error> + Send + 'static,
) -> Result<(), Error> {
    match tokio::task::spawn_blocking(write).await {
        Ok(written) => Ok(written?),
        Err(error) => Err(files::Error::Write { path, source: io::Error::other(error) }.into()),
    }
}

impl Destination {
    /// Refuses a place where something else is, before anything is fetched for it.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Directory(path) => directory::check(path),
            Self::OciLayout { directory, .. } => oci::check(directory),
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } => check_archive(file),
        }
    }
}

/// How many files may be on their way at once: each takes up to four descriptors,
/// its connection among them, and the system allows only so many.
fn files_at_once() -> usize {
    const MOST: u64 = 256;
    const OTHERS: u64 = 48;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.map_or(MOST, |limit| limit.saturating_sub(OTHERS) / 4).clamp(4, MOST);
    usize::try_from(files).unwrap_or(4)
}

fn check_archive(path: &Path) -> Result<(), Error> {
    // What is behind something that is open already is the user's matter.
    if files::is_open_already(path) {
        return Ok(());
    }
    // A link that leads nowhere is in the way as well; an empty file, which `mktemp`
    // made, is there to be filled.
    let is_in_the_way = match fs::metadata(path) {
        Ok(found) => found.is_dir() || found.is_file() && found.len() > 0,
        Err(_) => fs::symlink_metadata(path).is_ok(),
    };
    if is_in_the_way {
        return Err(Error::Exists { path: path.to_owned() });
    }
    Ok(())
}

/// Prepares to write an archive where there is none.
pub fn create_archive(path: &Path) -> Result<OutputFile, Error> {
    check_archive(path)?;
    Ok(OutputFile::create_new(path)?)
}

/// Whether a file is the blob that it is named after.
fn is_whole(path: &Path, blob: &Descriptor) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == blob.size)
        && Digest::of_file(blob.digest.algorithm(), path).is_ok_and(|digest| digest == blob.digest)
}

/// Writes `bytes` into a part of a file.
fn write_at(file: &File, start: u64, bytes: &[u8], path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::FileExt as _;
    let written = file.write_all_at(bytes, start);
    Ok(written.map_err(|source| files::Error::Write { path: path.to_owned(), source })?)
}
