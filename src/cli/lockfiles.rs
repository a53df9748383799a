//! Reading the lockfiles that commands are given.

use std::path::Path;

use n2c::location::Location;
use n2c::lockfile::Lockfile;
use n2c::reference::Repository;

use super::failure::{Failure, Usage};

/// Reads a lockfile or a plain manifest.
pub(crate) fn read(path: &Path) -> Result<Lockfile, Failure> {
    Ok(Lockfile::parse(&path.display().to_string(), &n2c::fs::read(path)?)?)
}

/// The repository that a lockfile's blobs are in, where it names one.
pub(crate) fn repository(lockfile: &Lockfile) -> Result<&Repository, Failure> {
    match lockfile.location().and_then(Location::reference) {
        Some(reference) => Ok(reference.repository()),
        None => Err(Usage::new(
            format!("`{}` does not say which registry its blobs are in", lockfile.file()),
            "name a lockfile that `n2c lock` made from a registry",
        )
        .into()),
    }
}
