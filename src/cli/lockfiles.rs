//! Finding and reading lockfiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use n2c::formats::lockfile::{self, Entry, Lockfile};
use n2c::oci::location::Location;
use n2c::oci::platform::Platform;
use n2c::oci::reference::Repository;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cli::failure::{Failure, NoLockfiles, Unlisted, Usage};
use crate::cli::platforms;
use crate::cli::report::Report;

/// The default directory for lockfiles.
pub(crate) const DEFAULT: &str = "lockfiles";

/// A lockfile and the content of its file.
pub(crate) struct ReadLockfile {
    pub(crate) path: PathBuf,
    pub(crate) text: Vec<u8>,
    pub(crate) lockfile: Lockfile,
}

/// A file that should be a lockfile but can't be read as one.
pub(crate) struct Unreadable {
    pub(crate) file: String,
    pub(crate) failure: Failure,
}

/// Reads a lockfile or a plain manifest.
pub(crate) fn read(path: &Path) -> Result<Lockfile, Failure> {
    Ok(Lockfile::parse(&path.display().to_string(), &n2c::fs::read(path, lockfile::SIZE_LIMIT)?)?)
}

/// Returns the repository of a lockfile's blobs. Fails if the lockfile doesn't name one.
pub(crate) fn repository(lockfile: &Lockfile) -> Result<&Repository, Failure> {
    match lockfile.location().and_then(Location::reference) {
        Some(reference) => Ok(reference.repository()),
        None => Err(Usage::new(
            format!("`{}` does not say which registry its blobs are in", lockfile.file()),
            "use a lockfile that `n2c lock` wrote for an image in a registry",
        )
        .into()),
    }
}

/// Returns the entry for the named platform. If none is named, returns the only entry, or the
/// one for this machine. `refusal` is the error message for several named platforms.
pub(crate) fn one_entry<'l>(
    lockfile: &'l Lockfile,
    named: Vec<Platform>,
    refusal: &str,
    report: &Report,
) -> Result<&'l Entry, Failure> {
    if named.len() > 1 {
        return Err(Usage::new(refusal, "name one `--platform`").into());
    }
    let has_several = lockfile.entries().len() > 1;
    let platforms = if has_several { platforms::or_host(named, report) } else { named };
    Ok(lockfile.entry(platforms.first())?)
}

/// Reads the lockfiles at `paths`, sorted by path, and returns them and the files that can't
/// be read. In directories, skips JSON files that aren't n2c's, with a note.
pub(crate) fn find(
    paths: &[PathBuf],
    report: &Report,
) -> Result<(Vec<ReadLockfile>, Vec<Unreadable>), Failure> {
    // Each file once, and whether it was named explicitly rather than found in a directory.
    let mut files: BTreeMap<PathBuf, bool> = BTreeMap::new();
    for path in paths {
        if !path.exists() && paths.len() == 1 && path == Path::new(DEFAULT) {
            return Err(NoLockfiles { paths: format!("`{DEFAULT}`") }.into());
        }
        if path.is_dir() {
            let mut below = Vec::new();
            list(path, &mut below)?;
            for file in below {
                files.entry(file).or_insert(false);
            }
        } else {
            files.insert(path.clone(), true);
        }
    }
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for (path, is_named) in files {
        let name = path.display().to_string();
        let text = match n2c::fs::read(&path, lockfile::SIZE_LIMIT) {
            Ok(text) => text,
            Err(error) => {
                unreadable.push(Unreadable { file: name, failure: error.into() });
                continue;
            }
        };
        match Lockfile::parse(&name, &text) {
            Ok(lockfile) if is_named || !lockfile.platforms().is_empty() => {
                found.push(ReadLockfile { path, text, lockfile });
            }
            Err(error) if is_named || !is_others(&text) => {
                unreadable.push(Unreadable { file: name, failure: error.into() });
            }
            _ => report.note(&format!("skipping `{name}`: not an n2c lockfile")),
        }
    }
    if found.is_empty() && unreadable.is_empty() {
        let paths = paths.iter().map(|path| format!("`{}`", path.display()));
        return Err(NoLockfiles { paths: paths.collect::<Vec<_>>().join(", ") }.into());
    }
    Ok((found, unreadable))
}

/// Collects all JSON files below a directory, without hidden files and directories.
fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let error = |source| Unlisted { path: directory.to_owned(), source };
    for entry in std::fs::read_dir(directory).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(error)?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // Links to directories may form a cycle, and reading a pipe may block: skip both.
        if kind.is_dir() {
            list(&path, files)?;
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    Ok(())
}

/// Returns whether a file that isn't a valid lockfile belongs to something else: it is valid
/// JSON without an object `n2c`. A file that is empty, truncated or has merge conflicts may
/// have been a lockfile.
fn is_others(text: &[u8]) -> bool {
    // No fields: it only matters that `n2c` is an object.
    #[derive(Deserialize)]
    struct Section {}
    #[derive(Deserialize)]
    struct Ours {
        n2c: Section,
    }
    let is_json = serde_json::from_slice::<IgnoredAny>(text).is_ok();
    is_json && serde_json::from_slice::<Ours>(text).map(|ours| ours.n2c).is_err()
}
