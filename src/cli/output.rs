//! Files that commands write.

use std::path::Path;

use n2c::fs::OutputFile;

use crate::cli::environment::environment;
use crate::cli::failure::Failure;
use crate::cli::report::Report;

/// Writes a result. The output of a derivation is written in place: beside it is the store.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if is_built(path) { write_in_place(path, bytes) } else { Report::result(Some(path), bytes) }
}

/// Writes the output of a derivation.
pub(crate) fn write_in_place(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut output = OutputFile::create_in_place(path)?;
    output.write_all(bytes)?;
    Ok(output.commit()?)
}

/// Returns whether `path` is the output of the derivation that this process is building.
/// Such a file is written in place, because Nix discards the output of a failed builder.
pub(crate) fn is_built(path: &Path) -> bool {
    environment().get("NIX_BUILD_TOP").is_some()
        && environment().get("out").is_some_and(|out| out == path)
}
