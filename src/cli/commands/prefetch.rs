//! `n2c prefetch`: fetches blobs into the Nix store as the user, before a build needs them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures_util::{StreamExt as _, stream};
use n2c::oci::manifest::Descriptor;
use n2c::oci::reference::Repository;
use n2c::registry::{BlobRequest, Client};
use n2c::store::{Store, StoreDirectory, StorePath};

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Runtime};
use crate::cli::lockfiles;
use crate::cli::options::Jobs;
use crate::cli::options::RegistryOptions;
use crate::cli::platforms::PlatformOptions;
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// Lockfiles that `n2c lock` wrote
    #[arg(required = true, value_name = "LOCKFILE")]
    lockfiles: Vec<PathBuf>,

    #[command(flatten)]
    jobs: Jobs,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// A blob that a build will need.
struct BlobOfLockfile {
    repository: Repository,
    descriptor: Descriptor,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let directory = StoreDirectory::of(environment())?;
    let store = Store::of(environment());
    let wanted = wanted(&options, &directory, report)?;
    let paths: Vec<StorePath> = wanted.keys().cloned().collect();
    let missing = store.missing(&paths)?;
    let there = paths.len() - missing.len();
    let client = options.registry.client(report)?;
    let (client, store) = (&client, &store);
    let results: Vec<Result<(), Failure>> = stream::iter(&wanted)
        .filter(|(path, _)| std::future::ready(missing.contains(*path)))
        .map(|(path, blob)| fetch(client, store, path, blob))
        .buffer_unordered(options.jobs.get())
        .collect()
        .await;
    let fetched = results.iter().filter(|result| result.is_ok()).count();
    report.note(&format!("{fetched} blobs fetched, {there} were in the store already"));
    // A failed blob doesn't stop the others. Warn about all failures but the first, and
    // return that one.
    let mut failures = results.into_iter().filter_map(Result::err);
    let Some(first) = failures.next() else { return Ok(()) };
    for failure in failures {
        report.warning(&n2c::error_chain(failure.error()));
    }
    Err(first)
}

/// Returns the distinct blobs of all lockfiles, by store path.
fn wanted(
    options: &Options,
    directory: &StoreDirectory,
    report: &Report,
) -> Result<BTreeMap<StorePath, BlobOfLockfile>, Failure> {
    let named = options.platforms.named(report)?;
    let mut wanted = BTreeMap::new();
    for path in &options.lockfiles {
        let lockfile = lockfiles::read(path)?;
        let repository = lockfiles::repository(&lockfile)?;
        for entry in lockfile.entries_for(&named)? {
            for descriptor in entry.manifest().blobs() {
                wanted.entry(directory.blob_path(&descriptor.digest)).or_insert_with(|| {
                    BlobOfLockfile {
                        repository: repository.clone(),
                        descriptor: descriptor.clone(),
                    }
                });
            }
        }
    }
    Ok(wanted)
}

async fn fetch(
    client: &Client,
    store: &Store,
    path: &StorePath,
    blob: &BlobOfLockfile,
) -> Result<(), Failure> {
    let mut incoming = store.receive(&blob.descriptor.digest)?;
    client.download(&BlobRequest::of(&blob.repository, &blob.descriptor), &mut incoming).await?;
    let path = path.clone();
    // Hashing in the store takes a while; other downloads continue meanwhile.
    let added = tokio::task::spawn_blocking(move || incoming.finish(&path));
    added.await.map_err(|error| Runtime(error.into()))??;
    Ok(())
}
