//! Store paths of fixed-output derivations.
//!
//! Nix `src/libstore/path-info.cc`, `makeFixedOutputPath`: the path depends only on the
//! ingestion mode, the hash, the name and the store's directory. So it is known before
//! anything is fetched.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::environment::Environment;
use crate::error::{Diagnose, Kind};
use crate::oci::digest::Digest;

/// Why a store path can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory can't be that of a store.
    #[error("invalid store directory `{directory}`: it is not an absolute path")]
    Directory {
        /// What was given, with control characters escaped.
        directory: String,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// The directory of a Nix store. It is part of what is hashed in store paths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreDirectory(String);

impl Default for StoreDirectory {
    fn default() -> Self {
        Self("/nix/store".to_owned())
    }
}

impl StoreDirectory {
    /// Returns the store in `directory`, which has to be an absolute path.
    pub fn new(directory: &str) -> Result<Self, Error> {
        if !directory.starts_with('/') || directory.contains(|c: char| c.is_control() || c == ':') {
            return Err(Error::Directory { directory: directory.escape_default().to_string() });
        }
        match canonical(directory) {
            root if root == "/" => {
                Err(Error::Directory { directory: directory.escape_default().to_string() })
            }
            directory => Ok(Self(directory)),
        }
    }

    /// Returns the store that Nix would use here: `$NIX_STORE_DIR`, or `$NIX_STORE`,
    /// which builders get, or `/nix/store`.
    pub fn of(environment: &Environment) -> Result<Self, Error> {
        let set = |name| environment.text(name);
        match set("NIX_STORE_DIR").or_else(|| set("NIX_STORE")) {
            Some(directory) => Self::new(directory),
            None => Ok(Self::default()),
        }
    }

    /// Whether this text is a path directly in the store, with a hash and a name.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        let is_in_hash = |byte: u8| {
            matches!(byte, b'0'..=b'9' | b'a'..=b'z') && !matches!(byte, b'e' | b'o' | b'u' | b't')
        };
        let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
        let base = path.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('/'));
        base.and_then(|base| base.split_at_checked(HASH_LENGTH)).is_some_and(|(hash, rest)| {
            let Some(name) = rest.strip_prefix('-') else { return false };
            hash.bytes().all(is_in_hash)
                && (1..=LONGEST_PATH_NAME).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(is_in_name)
        })
    }

    /// Returns the path of a blob: a flat fixed-output derivation with the hash
    /// `digest`, whose name is the hash in hex, as in upstream nix2container.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> StorePath {
        self.flat_path(digest.hex(), digest)
    }

    /// Returns the path of a flat fixed-output derivation: a file whose content has the
    /// hash `digest`.
    #[must_use]
    pub fn flat_path(&self, name: &str, digest: &Digest) -> StorePath {
        let inner = format!("fixed:out:{}:{}:", digest.algorithm().name(), digest.hex());
        let inner = hex::encode(Sha256::digest(inner.as_bytes()));
        self.path(&format!("output:out:sha256:{inner}"), name)
    }

    /// Returns the path of a recursive fixed-output derivation: a file or directory
    /// whose NAR has the SHA-256 hash `digest`.
    #[must_use]
    pub fn recursive_path(&self, name: &str, digest: &Digest) -> StorePath {
        self.path(&format!("source:sha256:{}", digest.hex()), name)
    }

    /// `makeStorePath`: hashes the fingerprint and compresses it to 160 bits.
    fn path(&self, fingerprint_type: &str, name: &str) -> StorePath {
        let fingerprint = format!("{fingerprint_type}:{}:{name}", self.0);
        let mut compressed = [0_u8; 20];
        for (index, byte) in Sha256::digest(fingerprint.as_bytes()).iter().enumerate() {
            compressed[index % 20] ^= byte;
        }
        let hash = nix_base32::to_nix_base32(&compressed);
        StorePath(format!("{}/{hash}-{name}", self.0))
    }
}

impl fmt::Display for StoreDirectory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether this text is a path directly in a store, wherever that is.
#[must_use]
pub fn is_store_path(text: &str) -> bool {
    let store =
        text.rsplit_once('/').and_then(|(directory, _)| StoreDirectory::new(directory).ok());
    store.is_some_and(|store| store.holds(text))
}

/// Returns the path without `//`, `.` and `..`, as Nix's `canonPath` does: the text of
/// the path is what is hashed.
fn canonical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// How many digits the hash in a path has.
const HASH_LENGTH: usize = 32;
/// The longest name in a path, in bytes.
const LONGEST_PATH_NAME: usize = 211;
/// The longest name of a derivation, in bytes: there has to be room for `.drv`.
const LONGEST_NAME: usize = 207;

/// Makes a valid store path name out of any text, as nixpkgs' `sanitizeDerivationName`
/// and `nix/lib.nix` do.
#[must_use]
pub fn sanitise_name(text: &str) -> String {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    let (mut name, mut was_bad) = (String::new(), false);
    for c in text.chars() {
        // One dash for each run of invalid characters.
        if is_good(c) {
            name.push(c);
        } else if !was_bad {
            name.push('-');
        }
        was_bad = !is_good(c);
    }
    let name = name.trim_start_matches('.');
    match name.len() {
        0 => "unknown".to_owned(),
        length => name[length.saturating_sub(LONGEST_NAME)..].to_owned(),
    }
}

/// A path directly in a Nix store.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StorePath(String);

impl fmt::Display for StorePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<StorePath> for String {
    fn from(path: StorePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob_path(directory: &str, digest: &str) -> String {
        let digest = digest.parse().expect("a valid digest");
        StoreDirectory::new(directory).expect("a valid directory").blob_path(&digest).to_string()
    }

    // The outputs of upstream's own alpine example, as its Nix code computes them.
    #[test]
    fn blobs_are_where_upstream_has_them() {
        for (hex, hash) in [
            (
                "c1aabb73d2339c5ebaa3681de2e9d9c18d57485045a4e311d9f8004bec208d67",
                "sd72lbg972xba3glwqyvm1fxf0kmrqna",
            ),
            (
                "31e352740f534f9ad170f75378a84fe453d6156e40700b882d737a8f4a6988a3",
                "lkzxfn2m0gip60cdds9kd1f8yj2iz821",
            ),
        ] {
            let expected = format!("/nix/store/{hash}-{hex}");
            assert_eq!(blob_path("/nix/store", &format!("sha256:{hex}")), expected);
            assert_eq!(blob_path("/nix/store/", &format!("sha256:{hex}")), expected);
        }
    }

    // From `nix-store --print-fixed-path --recursive sha256 HASH blob0` of Nix 2.8.
    #[test]
    fn trees_are_where_nix_has_them() {
        let digest = Digest::sha256(b"");
        let store = StoreDirectory::default();
        assert_eq!(
            store.recursive_path("blob0", &digest).to_string(),
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwsl0-blob0"
        );
        assert_eq!(
            store.flat_path("blob0", &digest).to_string(),
            "/nix/store/ry3bikxd0bd2yrqjmf8m16pdv9bs1dk0-blob0"
        );
    }

    // Same as `lib.sanitizeName` in nix/lib.nix, which `tests/programs/nix.rs` evaluates.
    #[test]
    fn names_are_made_to_fit() {
        for (text, expected) in [
            ("docker-image-docker.io/library/alpine", "docker-image-docker.io-library-alpine"),
            ("a//b::c-/d", "a-b-c--d"),
            ("..hidden", "hidden"),
            ("", "unknown"),
            ("é", "-"),
        ] {
            assert_eq!(sanitise_name(text), expected);
        }
        assert_eq!(sanitise_name(&"x".repeat(300)).len(), 207);
    }

    // From `NIX_STORE_DIR=… nix-instantiate --eval -E builtins.storeDir` of Nix 2.8.
    #[test]
    fn a_store_has_one_spelling() {
        for directory in ["/a/b", "//a//b//", "/a/./b/.", "/a/c/../b", "/../a/b"] {
            let store = StoreDirectory::new(directory).expect("a valid directory");
            assert_eq!(store, StoreDirectory("/a/b".to_owned()), "{directory}");
        }
    }

    // From `nix-store --query` of Nix 2.8, which refuses the others.
    #[test]
    fn paths_in_a_store_have_a_hash_and_a_name() {
        let store = StoreDirectory::default();
        let hash = "81dj04jshc5ldfviw0a1yw1sdibpwsl0";
        for name in ["blob0", "a.b+c?d=e_f-g", "1", &"n".repeat(211)] {
            assert!(store.holds(&format!("/nix/store/{hash}-{name}")), "{name}");
        }
        let long = format!("/nix/store/{hash}-{}", "n".repeat(212));
        for path in [
            "/etc",
            "/nix/store",
            "/nix/store/",
            "/nix/store/blob0",
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwsl0",
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwsl0-",
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwsl0-.a",
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwsl0-a/b",
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwsl0-a\n",
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwsle-a",
            "/nix/store/81dj04jshc5ldfviw0a1yw1sdibpwslé-a",
            "/nix/store/../81dj04jshc5ldfviw0a1yw1sdibpwsl0-a",
            "/gnu/store/81dj04jshc5ldfviw0a1yw1sdibpwsl0-a",
            &long,
        ] {
            assert!(!store.holds(path), "{path}");
        }
    }

    #[test]
    fn a_relative_store_is_refused() {
        for directory in ["", "/", "/a/..", "nix/store", "./store", "/a:b", "/a\nb"] {
            assert!(StoreDirectory::new(directory).is_err(), "`{directory}` was accepted");
        }
    }
}
