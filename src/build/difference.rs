//! What changes between two images that were built from store paths, and what of it must be
//! sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::formats::image_json::ImageJson;
use crate::formats::layers::Layer;
use crate::oci::digest::Digest;

/// What changes from one image to another.
#[derive(Clone, Debug, Serialize)]
pub struct ImageDifference {
    /// How many layers both have.
    pub kept: usize,
    /// The layers that only the new image has: they must be sent.
    pub added: Vec<LayerSize>,
    /// The layers that only the old image has.
    pub removed: Vec<LayerSize>,
    /// The size of the added layers, in bytes.
    pub bytes: u64,
    /// The store paths that are new, those that are gone, and those of the same name with
    /// another hash.
    pub paths: PathsDifference,
    /// The keys of the config that differ.
    pub config: Vec<String>,
    /// What else differs: `architecture`, `created`, `layers` (their order or history).
    pub other: Vec<&'static str>,
}

/// A layer and its size.
#[derive(Clone, Debug, Serialize)]
pub struct LayerSize {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What changes of the store paths in an image.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PathsDifference {
    /// Paths whose name only the new image has.
    pub added: Vec<PathSize>,
    /// Paths whose name only the old image has.
    pub removed: Vec<PathSize>,
    /// Paths with a name that both have, and another hash.
    pub changed: Vec<PathChange>,
}

/// A store path and its size.
#[derive(Clone, Debug, Serialize)]
pub struct PathSize {
    /// The path.
    pub path: String,
    /// The bytes of its files, if it is there.
    pub size: Option<u64>,
}

impl PathSize {
    /// Measures a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let size = is_store_path(path).then(|| size_of(Path::new(path)).ok()).flatten();
        Self { path: path.to_owned(), size }
    }
}

/// A store path with another hash.
#[derive(Clone, Debug, Serialize)]
pub struct PathChange {
    /// The old path.
    pub old: PathSize,
    /// The new path.
    pub new: PathSize,
}

impl ImageDifference {
    /// Compares two images.
    #[must_use]
    pub fn between(old: &ImageJson, new: &ImageJson) -> Self {
        let only = |of: &ImageJson, other: &ImageJson| -> Vec<LayerSize> {
            let digests: BTreeSet<&Digest> =
                other.layers().iter().map(|layer| &layer.digest).collect();
            let layers = of.layers().iter().filter(|layer| !digests.contains(&layer.digest));
            layers
                .map(|layer| LayerSize { digest: layer.digest.clone(), size: layer.size })
                .collect()
        };
        let added = only(new, old);
        Self {
            kept: new.layers().len() - added.len(),
            bytes: added.iter().fold(0, |sum, layer| sum.saturating_add(layer.size)),
            added,
            removed: only(old, new),
            paths: PathsDifference::between(&paths(old.layers()), &paths(new.layers())),
            config: config(old, new),
            other: other(old, new),
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.config.is_empty()
            && self.other.is_empty()
    }
}

impl PathsDifference {
    fn between(old: &BTreeSet<&str>, new: &BTreeSet<&str>) -> Self {
        // By name, those that only one of the images has.
        let mut names: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
        for path in old.difference(new) {
            names.entry(name(path)).or_default().0.push(path);
        }
        for path in new.difference(old) {
            names.entry(name(path)).or_default().1.push(path);
        }
        let mut difference = Self::default();
        for (old, new) in names.into_values() {
            let pairs = old.len().min(new.len());
            for (old, new) in old.iter().zip(&new) {
                let (old, new) = (PathSize::of(old), PathSize::of(new));
                difference.changed.push(PathChange { old, new });
            }
            difference.removed.extend(old[pairs..].iter().map(|path| PathSize::of(path)));
            difference.added.extend(new[pairs..].iter().map(|path| PathSize::of(path)));
        }
        // The largest first.
        difference.added.sort_by_key(|path| std::cmp::Reverse(path.size));
        difference.removed.sort_by_key(|path| std::cmp::Reverse(path.size));
        difference.changed.sort_by_key(|change| std::cmp::Reverse(change.new.size));
        difference
    }
}

fn paths(layers: &[Layer]) -> BTreeSet<&str> {
    layers.iter().flat_map(|layer| &layer.paths).map(|record| record.path.as_str()).collect()
}

/// The name of a store path without its hash.
fn name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    match file.split_once('-') {
        Some((hash, name)) if hash.len() == 32 => name,
        _ => file,
    }
}

fn config(old: &ImageJson, new: &ImageJson) -> Vec<String> {
    let (old, new) = (old.config(), new.config());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

fn other(old: &ImageJson, new: &ImageJson) -> Vec<&'static str> {
    let kept = |of: &ImageJson, other: &ImageJson| -> Vec<Layer> {
        let is_kept = |layer: &&Layer| other.layers().iter().any(|one| one.digest == layer.digest);
        of.layers().iter().filter(is_kept).cloned().collect()
    };
    [
        ("architecture", old.architecture() != new.architecture()),
        ("created", old.created() != new.created()),
        ("layers", kept(old, new) != kept(new, old)),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// Whether a path looks like a store path. Others are not measured: an image.json of somebody
/// else may name any file.
fn is_store_path(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let is_digit = |byte: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte);
    let has_dots = path.split('/').any(|component| component == "..");
    !has_dots
        && path.starts_with('/')
        && file
            .split_once('-')
            .is_some_and(|(hash, _)| hash.len() == 32 && hash.bytes().all(is_digit))
}

/// The bytes of all files in a directory, or of a file.
fn size_of(path: &Path) -> io::Result<u64> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Ok(if found.is_file() { found.len() } else { 0 });
    }
    let mut size = 0_u64;
    // Listed before it is entered: deep trees would use up the file descriptors.
    let entries: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
    for entry in entries {
        size = size_of(&entry.path())?.saturating_add(size);
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_hash() {
        assert_eq!(name("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12"), "hello-2.12");
        assert_eq!(name("/nix/store/short-hello"), "short-hello");
        assert_eq!(name("plain"), "plain");
    }
}
