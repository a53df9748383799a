//! The blob map: which path holds which blob.
//!
//! It maps the hex digests of the config and of each layer to the paths of their
//! fixed-output derivations. nix2container's `image-from-manifest` reads this format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::error::{Diagnose, Kind};
use crate::formats::lockfile::Entry;
use crate::formats::oci_layout;
use crate::oci::digest::Digest;
use crate::oci::manifest::Descriptor;
use crate::oci::reference::Repository;
use crate::store::StoreDirectory;

/// The maximum size of a blob map in bytes: enough for a hundred thousand blobs.
pub const SIZE_LIMIT: u64 = 16 << 20;

/// Why a blob map can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a JSON object of strings.
    #[error("invalid blob map `{file}`")]
    Shape {
        /// The file's name.
        file: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// A blob is not in the map.
    #[error("{blob} `{digest}` is missing from the blob map")]
    Missing {
        /// The role of the blob: the config, or which layer.
        blob: String,
        /// Its digest.
        digest: Digest,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Verification
    }
}

/// A map from hex digests to paths, sorted by digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlobMap(BTreeMap<String, String>);

impl BlobMap {
    /// Maps the blobs of `entries` to the paths of their derivations in `store`.
    #[must_use]
    pub fn in_store<'a>(
        entries: impl IntoIterator<Item = &'a Entry>,
        store: &StoreDirectory,
    ) -> Self {
        Self(
            distinct_blobs(entries)
                .into_keys()
                .map(|digest| (digest.hex().to_owned(), store.blob_path(digest).into()))
                .collect(),
        )
    }

    /// Maps the blobs of `entry` to files in a directory of skopeo's `dir:` format.
    #[must_use]
    pub fn in_directory(entry: &Entry, directory: &Path) -> Self {
        let place = |digest: &Digest| {
            let path = directory.join(digest.hex());
            (digest.hex().to_owned(), path.display().to_string())
        };
        Self(distinct_blobs([entry]).into_keys().map(place).collect())
    }

    /// Maps the blobs of `entry` to files in an OCI layout.
    #[must_use]
    pub fn in_layout(entry: &Entry, directory: &Path) -> Self {
        let place = |digest: &Digest| {
            let path = oci_layout::blob_path(directory, digest);
            (digest.hex().to_owned(), path.display().to_string())
        };
        Self(distinct_blobs([entry]).into_keys().map(place).collect())
    }

    /// Parses a blob map. `file` is its name in errors.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|source| Error::Shape { file: file.to_owned(), source })
    }

    /// Returns the path of a blob. `blob` is its role in the error.
    pub fn path(&self, blob: &str, digest: &Digest) -> Result<&Path, Error> {
        // Upstream's Nix code writes "" for a missing output.
        match self.0.get(digest.hex()) {
            Some(path) if !path.is_empty() => Ok(Path::new(path)),
            _ => Err(Error::Missing { blob: blob.to_owned(), digest: digest.clone() }),
        }
    }

    /// The map as a JSON object, with a final newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        let object: serde_json::Value =
            self.0.iter().map(|(hex, path)| (hex.clone(), path.clone())).collect();
        format!("{object:#}\n")
    }
}

/// The distinct blobs of `entries`, sorted by digest.
fn distinct_blobs<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
) -> BTreeMap<&'a Digest, &'a Descriptor> {
    entries
        .into_iter()
        .flat_map(|entry| entry.manifest().blobs())
        .map(|descriptor| (&descriptor.digest, descriptor))
        .collect()
}

/// The environment variables that a fetch in a sandbox may read: nixpkgs'
/// `proxyImpureEnvVars`, Nix's own CA bundle, and n2c's mirrors. Keep them the same as in
/// `nix/fetch.nix`.
const IMPURE_VARIABLES: &str = "http_proxy https_proxy ftp_proxy all_proxy no_proxy \
     HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY NIX_SSL_CERT_FILE N2C_MIRRORS";

/// Returns a Nix expression for the blobs of `entries`: a function from the package `n2c`
/// to an attribute set that maps hex digests to fixed-output derivations.
#[must_use]
pub fn to_nix<'a>(repository: &Repository, entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let variables: Vec<String> =
        IMPURE_VARIABLES.split(' ').map(|name| format!("      \"{name}\"")).collect();
    let variables = variables.join("\n");
    // No string needs escaping: repositories and digests only have letters, digits and
    // `.:/-_[]`.
    let mut text = format!(
        r#"# Made by `n2c blobs --format nix`. Each blob is a fixed-output derivation,
# fetched by digest; n2c itself is the builder.
{{ n2c, system ? builtins.currentSystem }}:
let
  blob = algorithm: hash: size: derivation {{
    name = hash;
    inherit system;
    builder = "${{n2c}}/bin/n2c";
    args = [
      "blob"
      "{repository}"
      "${{algorithm}}:${{hash}}"
      "--size=${{toString size}}"
      "--output=${{placeholder "out"}}"
    ];
    outputHashMode = "flat";
    outputHashAlgo = algorithm;
    outputHash = hash;
    preferLocalBuild = true;
    impureEnvVars = [
{variables}
    ];
  }};
in
{{
"#
    );
    for (digest, descriptor) in distinct_blobs(entries) {
        let (algorithm, hex, size) = (digest.algorithm().name(), digest.hex(), descriptor.size);
        // Writing to a string can't fail.
        let _ = writeln!(text, "  \"{hex}\" = blob \"{algorithm}\" \"{hex}\" {size};");
    }
    text.push_str("}\n");
    text
}
