//! Files that commands write.

use std::path::Path;

use crate::cli::environment::environment;

/// Returns whether `path` is the output of the derivation that this process is building.
/// Such a file is written in place, because Nix discards the output of a failed builder.
pub(crate) fn is_built(path: &Path) -> bool {
    environment().get("NIX_BUILD_TOP").is_some()
        && environment().get("out").is_some_and(|out| out == path)
}
