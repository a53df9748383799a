//! What earlier copies found out: what layers compress to, and which repositories have a blob.
//!
//! Each fact is a small file, which is written whole or not at all, so that any number of
//! runs may share the directory. A registry is always asked whether it has a blob, and what is
//! sent is always checked; that a blob which is there holds a layer is believed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fs as files;
use crate::observer::{Event, Observer};
use crate::oci::digest::Digest;
use crate::oci::reference::Repository;
use crate::stream::compress::Compression;

/// The largest file that is read, in bytes.
const SIZE_LIMIT: u64 = 64 << 10;
/// How many files a directory may have. Beyond that, the older half is removed.
const FILE_LIMIT: usize = 10_000;
/// How many repositories are remembered for a blob.
const REPOSITORY_LIMIT: usize = 16;

/// The directory of facts, and what this run has found out itself.
#[derive(Debug, Default)]
pub struct Cache {
    directory: Option<PathBuf>,
    /// What plain layers compressed to in this run, by the layer and the compressor.
    made: Mutex<HashMap<(Digest, String), (Digest, u64)>>,
    /// The repositories that got a blob in this run.
    seen: Mutex<HashMap<Digest, Vec<Repository>>>,
    /// Repositories that may have a blob, for this run.
    suggested: Mutex<HashMap<Digest, Repository>>,
    /// Plain layers of which what was remembered is wrong, even if it can't be removed.
    forgotten: Mutex<HashSet<Digest>>,
    /// How many files the directories have that this run has written to.
    counts: Mutex<HashMap<PathBuf, usize>>,
    warned: OnceLock<()>,
}

/// What a layer compresses to.
#[derive(Deserialize, Serialize)]
struct CompressedFact {
    by: String,
    digest: String,
    size: u64,
}

impl Cache {
    /// A cache in `directory`, which need not exist yet; without one, nothing is remembered
    /// after this run.
    #[must_use]
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, ..Self::default() }
    }

    fn compressed_file(&self, plain: &Digest, compression: Compression) -> Option<PathBuf> {
        let name = format!("{}-{}.json", file_name(plain), compression.algorithm);
        Some(self.directory.as_ref()?.join("compressed").join(name))
    }

    fn repositories_file(&self, digest: &Digest) -> Option<PathBuf> {
        let name = format!("{}.json", file_name(digest));
        Some(self.directory.as_ref()?.join("repositories").join(name))
    }

    /// What a plain layer compresses to: its digest and its size in bytes.
    #[must_use]
    pub fn compressed(&self, plain: &Digest, compression: Compression) -> Option<(Digest, u64)> {
        if self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).contains(plain) {
            return None;
        }
        let key = (plain.clone(), compression.compressor());
        if let Some(made) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(made.clone());
        }
        let fact: CompressedFact = read(&self.compressed_file(plain, compression)?)?;
        let is_same = fact.by == compression.compressor();
        is_same.then_some((fact.digest.parse().ok()?, fact.size))
    }

    /// Remembers what a plain layer compresses to.
    pub fn remember_compressed(
        &self,
        plain: &Digest,
        compression: Compression,
        (digest, size): &(Digest, u64),
        observer: &dyn Observer,
    ) {
        let by = compression.compressor();
        let made = (digest.clone(), *size);
        let key = (plain.clone(), by.clone());
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made);
        let Some(path) = self.compressed_file(plain, compression) else { return };
        let fact = CompressedFact { by, digest: digest.to_string(), size: *size };
        self.write(&path, &fact, observer);
    }

    /// Forgets what a plain layer compresses to: it was wrong.
    pub fn forget_compressed(&self, plain: &Digest, compression: Compression) {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).insert(plain.clone());
        if let Some(path) = self.compressed_file(plain, compression) {
            // If it can't be removed, the next run finds out that it is wrong.
            let _ = fs::remove_file(path);
        }
    }

    /// Takes note of a repository that may have a blob, for this run.
    pub fn suggest_repository(&self, digest: &Digest, repository: &Repository) {
        let mut suggested = self.suggested.lock().unwrap_or_else(PoisonError::into_inner);
        suggested.insert(digest.clone(), repository.clone());
    }

    /// The repositories that were seen to have a blob, the latest first.
    #[must_use]
    pub fn repositories(&self, digest: &Digest) -> Vec<Repository> {
        let mut found: Vec<Repository> = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get(digest).cloned().unwrap_or_default()
        };
        {
            let suggested = self.suggested.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(suggested.get(digest).filter(|one| !found.contains(one)).cloned());
        }
        let names: Option<Vec<String>> =
            self.repositories_file(digest).and_then(|path| read(&path));
        for name in names.unwrap_or_default() {
            let repository = name.split_once('/').map(|(host, path)| Repository::new(host, path));
            found.extend(repository.and_then(Result::ok).filter(|one| !found.contains(one)));
        }
        found
    }

    /// Whether this run has seen a blob in a repository.
    #[must_use]
    pub fn was_pushed(&self, digest: &Digest, repository: &Repository) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(digest).is_some_and(|seen| seen.first() == Some(repository))
    }

    /// Remembers that a repository has a blob.
    pub fn remember_repository(
        &self,
        digest: &Digest,
        repository: &Repository,
        observer: &dyn Observer,
    ) {
        let mut known = self.repositories(digest);
        let was_first = known.first() == Some(repository);
        known.retain(|one| one != repository);
        known.insert(0, repository.clone());
        known.truncate(REPOSITORY_LIMIT);
        let names: Vec<String> = known.iter().map(ToString::to_string).collect();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), known);
        let Some(path) = self.repositories_file(digest) else { return };
        if !was_first || !path.exists() {
            self.write(&path, &names, observer);
        }
    }

    /// Writes a fact. A cache that can't be written is no reason to stop.
    fn write(&self, path: &Path, fact: &impl Serialize, observer: &dyn Observer) {
        if let Err(error) = self.try_write(path, fact) {
            self.warned.get_or_init(|| {
                let text = format!("failed to write `{}`: {error}", path.display());
                observer.observe(&Event::Warning(&text));
            });
        }
    }

    fn try_write(&self, path: &Path, fact: &impl Serialize) -> io::Result<()> {
        let Some(directory) = path.parent() else { return Ok(()) };
        fs::create_dir_all(directory)?;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Listing a large directory takes longer than the write.
        let count = counts.get(directory).copied().filter(|count| *count < FILE_LIMIT);
        let count = count.map_or_else(|| prune(directory), Ok)?;
        counts.insert(directory.to_owned(), count + 1);
        drop(counts);
        // Without syncing: a file that a crash leaves empty is only unreadable.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(fact)?)?;
        file.persist(path)?;
        Ok(())
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read(path, SIZE_LIMIT).ok()?).ok()
}

/// Removes the older half of the files if there are too many, and returns how many are left.
fn prune(directory: &Path) -> io::Result<usize> {
    let files: Vec<DirEntry> = fs::read_dir(directory)?.flatten().collect();
    if files.len() < FILE_LIMIT {
        return Ok(files.len());
    }
    let time = |file: &DirEntry| file.metadata().and_then(|found| found.modified());
    let mut dated: Vec<(SystemTime, PathBuf)> = files
        .iter()
        .map(|file| (time(file).unwrap_or(SystemTime::UNIX_EPOCH), file.path()))
        .collect();
    dated.sort();
    for (_, path) in &dated[..dated.len() / 2] {
        // Another run may have been faster.
        let _ = fs::remove_file(path);
    }
    Ok(dated.len() - dated.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;
    use crate::stream::compress::Algorithm;

    #[test]
    fn facts_are_found_by_those_who_can_use_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("n2c");
        let (plain, made) = (Digest::sha256(b"plain"), (Digest::sha256(b"made"), 5));
        let gzip = Compression::new(Algorithm::Gzip);
        let cache = Cache::new(Some(path.clone()));
        cache.remember_compressed(&plain, gzip, &made, &Silent);
        let cache = Cache::new(Some(path.clone()));
        assert_eq!(cache.compressed(&plain, gzip), Some(made.clone()));
        // Another level, another algorithm and no cache know nothing.
        assert_eq!(cache.compressed(&plain, Compression { level: 1, ..gzip }), None);
        assert_eq!(cache.compressed(&plain, Compression::new(Algorithm::Zstd)), None);
        let cache = Cache::new(None);
        assert_eq!(cache.compressed(&plain, gzip), None);
        // This run remembers in any case.
        cache.remember_compressed(&plain, gzip, &made, &Silent);
        assert_eq!(cache.compressed(&plain, gzip), Some(made.clone()));
        let cache = Cache::new(Some(path.clone()));
        let [one, two] = ["a.io/x", "b.io:1/y/z"].map(|name| name.parse().expect("a name"));
        cache.remember_repository(&made.0, &one, &Silent);
        cache.remember_repository(&made.0, &two, &Silent);
        assert_eq!(Cache::new(Some(path.clone())).repositories(&made.0), [two, one]);
        cache.forget_compressed(&plain, gzip);
        assert_eq!(cache.compressed(&plain, gzip), None);
        // What somebody else wrote there is nothing.
        let file = cache.repositories_file(&made.0).expect("a path");
        fs::write(file, "[\"../..\", \"a.io/../x\", 1]").expect("written");
        assert_eq!(Cache::new(Some(path)).repositories(&made.0), []);
    }

    #[test]
    fn old_facts_make_room() {
        let directory = tempfile::tempdir().expect("a directory");
        for number in 0..FILE_LIMIT {
            fs::write(directory.path().join(number.to_string()), "").expect("written");
        }
        let cache = Cache::new(Some(directory.path().to_owned()));
        fs::rename(directory.path(), directory.path().with_extension("all")).expect("renamed");
        fs::create_dir(directory.path()).expect("made");
        let target = directory.path().join("repositories");
        fs::rename(directory.path().with_extension("all"), &target).expect("renamed");
        let digest = Digest::sha256(b"new");
        cache.remember_repository(&digest, &"a.io/x".parse().expect("a name"), &Silent);
        let left = || fs::read_dir(&target).expect("listed").count();
        assert_eq!(left(), FILE_LIMIT / 2 + 1);
        // Also if the same run goes on writing.
        for number in 0..FILE_LIMIT {
            let digest = Digest::sha256(&number.to_be_bytes());
            cache.remember_repository(&digest, &"a.io/x".parse().expect("a name"), &Silent);
        }
        assert!(left() <= FILE_LIMIT, "{}", left());
    }
}
