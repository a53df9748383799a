//! Writes whole images to disk, in formats that other tools read.
//!
//! A directory and an OCI layout contain blobs as served, each in its own file. Files
//! that are already there and verified are kept, so an interrupted pull can be
//! continued. Archives are written to a temporary file in the same directory and
//! renamed.

mod cache;
mod destination;
mod directory;
mod docker;
pub mod engines;
mod hash;
mod oci;
mod push;
mod selection;
mod source;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, future};
use tokio::sync::{Semaphore, SetOnce, oneshot};

use crate::error::{Diagnose, Kind};
use crate::formats::oci_layout::blob_path;
use crate::formats::{convert, docker_archive};
use crate::fs::{self as files, DirectoryLock, OutputFile};
use crate::observer::{Event, Observer};
use crate::oci::digest::{self, Digest};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::oci::reference;
use crate::registry::{self, SMALL_BLOB};
use crate::resolve;
use crate::source::Blobs;
use crate::stream::sink::Region;
pub use cache::Cache;
pub use destination::Destination;
pub use push::{Action, PlannedBlob, PushSummary, RegistryPush};
pub use selection::{Changes, Format, Selection};
pub use source::Source;

/// How many small blobs may be fetched at once for each job.
const SMALL_AT_ONCE: usize = 12;

/// Why an image can't be written to disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination does not have the form `TRANSPORT:PATH[:REF]`.
    #[error("invalid destination `{text}`")]
    Destination {
        /// What was given, with control characters escaped.
        text: String,
    },
    /// The source does not have the form `TRANSPORT:PATH[:REF]`.
    #[error("invalid source `{text}`")]
    NotASource {
        /// What was given, with control characters escaped.
        text: String,
    },
    /// The image's name in an archive is malformed.
    #[error(transparent)]
    Reference(#[from] reference::Error),
    /// The directory can't be created, locked, listed or cleaned up.
    #[error("failed to prepare directory `{}`", path.display())]
    Prepare {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The directory contains something else.
    #[error("`{}` is not empty, and does not contain an image", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// The archive already exists.
    #[error("`{}` exists, and n2c can't add to an archive", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The destination can hold only one image.
    #[error("`{}` holds one image, not {count}", path.display())]
    Several {
        /// The destination.
        path: PathBuf,
        /// How many images there are to pull.
        count: usize,
    },
    /// The location does not lead to an image, or not to the one that was asked for.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// A blob can't be fetched.
    #[error(transparent)]
    Source(#[from] crate::source::Error),
    /// A layer can't be decompressed.
    #[error("failed to decompress layer `{digest}`")]
    Decompress {
        /// The layer.
        digest: Digest,
        /// The error from the decoder.
        #[source]
        source: io::Error,
    },
    /// A layer can't be written.
    #[error("failed to write layer `{digest}`")]
    Write {
        /// The layer.
        digest: Digest,
        /// The I/O error, which names the place.
        #[source]
        source: io::Error,
    },
    /// The uncompressed layer does not have the digest that the config gives.
    #[error("wrong content of layer `{digest}`")]
    DiffId {
        /// The layer.
        digest: Digest,
        /// The expected and the actual digest.
        #[source]
        source: digest::Error,
    },
    /// The existing OCI layout can't be added to.
    #[error("invalid `index.json` in `{}`", path.display())]
    Index {
        /// The layout.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The image is not the one that the destination's digest names.
    #[error("the image has the digest `{actual}`, not `{expected}`")]
    OtherDigest {
        /// The digest in the destination.
        expected: Digest,
        /// The image's.
        actual: Digest,
    },
    /// An index would be copied without everything that it lists.
    #[error("index `{index}` lists `{missing}`, which is not copied")]
    Incomplete {
        /// The index.
        index: Digest,
        /// What it lists.
        missing: Digest,
    },
    /// The registry refused something.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The image can't be converted.
    #[error(transparent)]
    Convert(#[from] convert::Error),
    /// The image can't be served to an engine.
    #[error(transparent)]
    Serve(#[from] crate::serve::Error),
    /// An engine can't take the image.
    #[error(transparent)]
    Engine(#[from] engines::Error),
    /// A hash can't be computed.
    #[error("failed to hash an image")]
    Hash(#[source] io::Error),
    /// The image can't be stored in a docker archive.
    #[error(transparent)]
    DockerArchive(#[from] docker_archive::Error),
    /// A file can't be written.
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
            Self::Incomplete { .. }
            | Self::Destination { .. }
            | Self::NotASource { .. }
            | Self::Several { .. } => Kind::Usage,
            Self::OtherDigest { .. }
            | Self::Decompress { .. }
            | Self::DiffId { .. }
            | Self::Index { .. } => Kind::Verification,
            Self::Reference(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Serve(error) => error.kind(),
            Self::Convert(error) => error.kind(),
            Self::Resolve(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::DockerArchive(error) => error.kind(),
            Self::Fs(error) => error.kind(),
        }
    }
}

/// What is left to do for a blob whose bytes are here.
type Finish<'a> = BoxFuture<'a, Result<(), Error>>;

/// A blob to fetch, and how.
struct Fetch<'a> {
    blob: &'a Descriptor,
    begin: BoxFuture<'a, Result<Finish<'a>, Error>>,
}

impl<'a> Fetch<'a> {
    async fn run(self) -> Result<(&'a Descriptor, Finish<'a>), Error> {
        Ok((self.blob, self.begin.await?))
    }
}

/// Where the files of blobs go.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Into a directory, named by their hexadecimal digests.
    Directory(&'a Path),
    /// Into an OCI layout.
    Layout(&'a Path),
}

impl Place<'_> {
    fn of(self, digest: &Digest) -> PathBuf {
        match self {
            Self::Directory(directory) => directory.join(digest.hex()),
            Self::Layout(directory) => blob_path(directory, digest),
        }
    }
}

/// Copies images from a source of blobs.
pub struct Copier<'a> {
    /// The source of the blobs.
    pub blobs: &'a dyn Blobs,
    /// How many large blobs to fetch at once. Unless it is 1, small ones are fetched in
    /// addition.
    pub jobs: usize,
    /// Receives the events.
    pub observer: &'a dyn Observer,
}

impl Copier<'_> {
    /// Fetches several blobs at once. Finishing a blob doesn't count against the limit;
    /// an unfinished one could otherwise block what it waits for.
    async fn fetch_all(&self, fetches: Vec<Fetch<'_>>) -> Result<(), Error> {
        if self.jobs <= 1 {
            return self.fetch_some(fetches, 1).await;
        }
        // Small blobs wait for answers, not for bytes: fetching more of them at once
        // costs nothing, and they don't have to wait behind the large ones.
        let (small, large) = fetches.into_iter().partition(|fetch| fetch.blob.size < SMALL_BLOB);
        let large = self.fetch_some(large, self.jobs);
        future::try_join(large, self.fetch_some(small, self.jobs * SMALL_AT_ONCE)).await.map(drop)
    }

    /// Fetches at most `jobs` blobs at once.
    async fn fetch_some(&self, fetches: Vec<Fetch<'_>>, jobs: usize) -> Result<(), Error> {
        let mut waiting = fetches.into_iter();
        // Adapters that take closures would hide from the compiler that this future is `Send`.
        let (mut fetching, mut finishing) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            fetching.extend(waiting.by_ref().take(jobs - fetching.len()).map(Fetch::run));
            tokio::select! {
                Some(begun) = fetching.next() => {
                    let (blob, finish) = begun?;
                    finishing.push(async move { finish.await.map(|()| blob) });
                }
                Some(finished) = finishing.next() => self.tell(finished?, false),
                else => return Ok(()),
            }
        }
    }

    /// Returns those of `blobs` that are not already in place and complete.
    fn missing<'d>(
        &self,
        blobs: impl IntoIterator<Item = &'d Descriptor>,
        place: Place<'_>,
    ) -> Vec<&'d Descriptor> {
        let distinct: BTreeMap<&Digest, &Descriptor> =
            blobs.into_iter().map(|blob| (&blob.digest, blob)).collect();
        let (there, missing): (Vec<_>, Vec<_>) =
            distinct.into_values().partition(|blob| is_whole(&place.of(&blob.digest), blob));
        for blob in there {
            self.tell(blob, true);
        }
        missing
    }

    /// Fetches blobs into separate files. Each is moved to its `place` once they are
    /// `accepted`.
    async fn fetch_files(
        &self,
        blobs: Vec<&Descriptor>,
        place: Place<'_>,
        accepted: &SetOnce<()>,
    ) -> Result<(), Error> {
        let files = Semaphore::new(files_at_once());
        let files = &files;
        let fetch = |blob| Fetch {
            blob,
            begin: Box::pin(async move {
                // Files that wait to be accepted are open too. The semaphore is never closed.
                let permit = files.acquire().await.ok();
                let mut output = OutputFile::replacing(&place.of(&blob.digest))?;
                self.blobs.fetch_blob(blob, &mut output).await?;
                let finish: Finish<'_> = Box::pin(async move {
                    accepted.wait().await;
                    let committed = commit(output).await;
                    drop(permit);
                    committed
                });
                Ok(finish)
            }),
        };
        self.fetch_all(blobs.into_iter().map(fetch).collect()).await
    }

    /// Writes the config of an image to `place`, unless it is already there.
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

    /// Locks a directory for this run, and waits if another run has it.
    async fn lock(&self, directory: &Path) -> Result<DirectoryLock, Error> {
        let (sender, waits) = oneshot::channel();
        let path = directory.to_owned();
        let taking = tokio::task::spawn_blocking(move || {
            DirectoryLock::take(&path, || {
                // If this run has already ended, nobody is listening.
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

/// Puts a blob in its place. Syncing to the disk takes time; other blobs continue to
/// arrive meanwhile.
async fn commit(mut output: OutputFile) -> Result<(), Error> {
    // skopeo sets this mode regardless of the umask.
    output.set_mode(0o644)?;
    beside(output.path().to_owned(), move || output.commit()).await
}

/// Runs a disk operation on another thread and waits for it.
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
    /// Refuses a destination that contains something else, before anything is fetched.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Registry(_) | Self::Engine { .. } => Ok(()),
            Self::Directory(path) => directory::check(path),
            Self::OciLayout { directory, .. } => oci::check(directory),
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } => check_archive(file),
        }
    }
}

/// Returns how many files may be open for writing at once. Each needs up to four
/// descriptors, including its connection, and the system limits their number.
fn files_at_once() -> usize {
    const MOST: u64 = 256;
    const OTHERS: u64 = 48;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.map_or(MOST, |limit| limit.saturating_sub(OTHERS) / 4).clamp(4, MOST);
    usize::try_from(files).unwrap_or(4)
}

fn check_archive(path: &Path) -> Result<(), Error> {
    // If it is already open, what is behind it is up to the user.
    if files::is_open_already(path) {
        return Ok(());
    }
    // A dangling link is in the way too. An empty file, such as `mktemp` makes, may be filled.
    let is_in_the_way = match fs::metadata(path) {
        Ok(found) => found.is_dir() || found.is_file() && found.len() > 0,
        Err(_) => fs::symlink_metadata(path).is_ok(),
    };
    if is_in_the_way {
        return Err(Error::Exists { path: path.to_owned() });
    }
    Ok(())
}

/// Prepares to write an archive to a path that has none yet.
pub fn create_archive(path: &Path) -> Result<OutputFile, Error> {
    check_archive(path)?;
    Ok(OutputFile::create_new(path)?)
}

/// Whether a file has the size and digest of `blob`.
fn is_whole(path: &Path, blob: &Descriptor) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == blob.size)
        && Digest::of_file(blob.digest.algorithm(), path).is_ok_and(|digest| digest == blob.digest)
}

/// Writes `bytes` into a file at offset `start`.
fn write_at(file: &File, start: u64, bytes: &[u8], path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::FileExt as _;
    let written = file.write_all_at(bytes, start);
    Ok(written.map_err(|source| files::Error::Write { path: path.to_owned(), source })?)
}
