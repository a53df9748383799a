//! Files that commands write.

use std::path::Path;

/// Whether `path` is the output of the derivation that this process builds. It is
/// written in its place: Nix discards what a failed builder leaves.
pub(crate) fn is_built(path: &Path) -> bool {
    std::env::var_os("NIX_BUILD_TOP").is_some()
        && std::env::var_os("out").is_some_and(|out| out == path)
}
