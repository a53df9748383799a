//! Layers for nodes that take store paths from a Nix store of their own, by nix-snapshotter:
//! mount points and links in place of the paths' content, and annotations that name the paths
//! (nix-snapshotter `pkg/nix2container/generate.go`).

mod archive;
mod order;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::Error;
use crate::formats::layers::{History, Layer, LayerContent, PathRecord};
use crate::fs;
use crate::observer::{Event, Observer};
use crate::oci::manifest::SIZE_LIMIT;
use crate::oci::media_type;
use crate::store::StoreDirectory;
pub(super) use archive::archive;
pub use order::store_paths_text;

/// Marks a layer whose paths are in annotations of their own.
const LAYER: &str = "containerd.io/snapshot/nix-layer";
/// Each of these annotations, with a number behind it, is a store path.
const STORE_PATH: &str = "containerd.io/snapshot/nix-store-path.";
/// The store path of a closure-info.
const CLOSURE: &str = "containerd.io/snapshot/nix-closure";
/// The file in a closure-info that lists the closure, one store path in a line.
const STORE_PATHS: &str = "store-paths";
/// How many bytes of a manifest the annotations may take. The rest is for other layers.
const ANNOTATIONS_LIMIT: u64 = SIZE_LIMIT - (256 << 10);
/// The largest list of store paths that is read, in bytes.
const LIST_LIMIT: u64 = 64 << 20;

/// How a layer names the store paths that a node has to mount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Snapshotter {
    /// One annotation for each path, which every version of nix-snapshotter reads.
    Legacy {
        /// The closure-info to name instead, if a manifest has no room for so many paths.
        fallback: Option<PathBuf>,
    },
    /// One annotation with a closure-info, which versions from 0.3 on read: a store path with
    /// a file `store-paths`, as nixpkgs' `closureInfo` makes it.
    Closure {
        /// The closure-info.
        closure_info: PathBuf,
    },
}

/// How a layer of mount points is made.
#[derive(Debug)]
pub struct MountPointsOptions<'a> {
    /// How the layer names the paths; `None` if something else mounts the whole store, so that
    /// the layer needs no mount points.
    pub snapshotter: Option<Snapshotter>,
    /// The step of the history.
    pub history: History,
    /// The store that all paths are in.
    pub store: &'a StoreDirectory,
}

/// Makes a layer with a mount point for each store path, or none, and with links in the places to
/// which rewrites move files. Rules for permissions change directories only.
pub fn mount_points(
    records: &[PathRecord],
    options: MountPointsOptions<'_>,
    observer: &dyn Observer,
) -> Result<Layer, Error> {
    let MountPointsOptions { snapshotter, history, store } = options;
    let paths: BTreeSet<&str> = records.iter().map(|record| record.path.as_str()).collect();
    if paths.is_empty() {
        return Err(Error::EmptyClosure);
    }
    for path in &paths {
        check(path, store)?;
    }
    let mut records = distinct(records);
    let content =
        if snapshotter.is_some() { LayerContent::MountPoints } else { LayerContent::Links };
    let annotations = match snapshotter {
        None => BTreeMap::new(),
        Some(Snapshotter::Closure { closure_info }) => {
            add_closure(&closure_info, store, &mut records, observer)?
        }
        Some(Snapshotter::Legacy { fallback }) => {
            let directory = directory_to_add(&paths, fallback.as_deref(), store, observer)?;
            let all = paths.iter().copied().chain(directory.as_deref()).collect();
            match (legacy(&all), fallback) {
                (Ok(annotations), _) => {
                    let added = directory.map(|path| PathRecord { path, options: None });
                    records.extend(added);
                    annotations
                }
                (Err(error), Some(closure_info)) => {
                    let text =
                        format!("{error}; naming their closure instead, for nix-snapshotter 0.3");
                    observer.observe(&Event::Warning(&text));
                    add_closure(&closure_info, store, &mut records, observer)?
                }
                (Err(error), None) => return Err(error),
            }
        }
    };
    let archive = archive(&records, content, None)?;
    for warning in &archive.warnings {
        observer.observe(&Event::Warning(warning));
    }
    Ok(Layer {
        digest: archive.digest.clone(),
        size: archive.size,
        diff_id: archive.digest,
        compressed: Vec::new(),
        paths: records,
        content,
        annotations,
        media_type: media_type::OCI_LAYER.to_owned(),
        file: None,
        history,
    })
}

/// Each record once, and those without rules only if none of the same path has some.
fn distinct(records: &[PathRecord]) -> Vec<PathRecord> {
    let with_rules: BTreeSet<&str> = records
        .iter()
        .filter(|record| record.options.is_some())
        .map(|record| record.path.as_str())
        .collect();
    let mut seen = HashSet::new();
    let mut distinct = Vec::new();
    for record in records {
        let is_needed = record.options.is_some() || !with_rules.contains(record.path.as_str());
        if is_needed && seen.insert(record) {
            distinct.push(record.clone());
        }
    }
    distinct
}

/// Refuses what is not directly in the store.
fn check(path: &str, store: &StoreDirectory) -> Result<(), Error> {
    if store.holds(path) {
        return Ok(());
    }
    let path = path.escape_default().to_string();
    Err(Error::NotAStorePath { path, store: store.to_string() })
}

/// The closure-info, if there is one and no other path is a directory: one must be mounted last.
fn directory_to_add(
    paths: &BTreeSet<&str>,
    closure_info: Option<&Path>,
    store: &StoreDirectory,
    observer: &dyn Observer,
) -> Result<Option<String>, Error> {
    // Paths that aren't there are an error when the layer is made.
    if paths.iter().any(|path| !Path::new(path).is_file()) {
        return Ok(None);
    }
    if let Some(closure_info) = closure_info {
        return Ok(Some(name_of(closure_info, store)?));
    }
    let text = "all store paths are files: containerd 2.3 and later can't run the image";
    observer.observe(&Event::Warning(text));
    Ok(None)
}

/// The annotations that name each path. nix-snapshotter mounts the paths in the order of these
/// names, as text.
fn legacy(paths: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, Error> {
    let mut annotations = BTreeMap::from([(LAYER.to_owned(), "true".to_owned())]);
    let keys: Vec<String> =
        (0..paths.len()).map(|number| format!("{STORE_PATH}{number}")).collect();
    let last = keys.iter().max().and_then(|max| keys.iter().position(|key| key == max));
    // Otherwise in the order in which Nix lists a closure.
    let mut ordered = order::with_directory_last(paths);
    if let (Some(last), Some(path)) = (last, ordered.pop()) {
        ordered.insert(last, path);
    }
    for (key, path) in keys.into_iter().zip(ordered) {
        annotations.insert(key, path.to_owned());
    }
    // As JSON: quotes, a colon and a comma.
    let size: usize = annotations.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    if size as u64 > ANNOTATIONS_LIMIT {
        let (size, limit) = (size as u64, SIZE_LIMIT);
        return Err(Error::TooManyPaths { count: paths.len(), size, limit });
    }
    Ok(annotations)
}

/// The annotation that names a closure-info. Mount points for all paths that it lists are
/// added, because all of them get mounted, and one for itself: a snapshot belongs to all images
/// with the same bytes, so layers that name different closures must not be equal.
fn add_closure(
    closure_info: &Path,
    store: &StoreDirectory,
    records: &mut Vec<PathRecord>,
    observer: &dyn Observer,
) -> Result<BTreeMap<String, String>, Error> {
    let name = name_of(closure_info, store)?;
    let list = fs::read(&Path::new(&name).join(STORE_PATHS), LIST_LIMIT)?;
    let list = String::from_utf8_lossy(&list);
    let mut listed: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty()).collect();
    if let Some(other) = records.iter().find(|record| !listed.contains(record.path.as_str())) {
        return Err(Error::NotInClosure { path: other.path.clone(), closure: name });
    }
    let list_ends_with = list.lines().rfind(|line| !line.is_empty());
    if let Some(last) = list_ends_with.filter(|last| store.holds(last))
        && !Path::new(last).is_dir()
    {
        let text = format!(
            "`{last}`, the last path in `{name}`, is a file: containerd 2.3 and later can't run \
             the image"
        );
        observer.observe(&Event::Warning(&text));
    }
    let known: BTreeSet<String> = records.iter().map(|record| record.path.clone()).collect();
    listed.insert(&name);
    for path in listed.into_iter().filter(|path| !known.contains(*path)) {
        check(path, store)?;
        records.push(PathRecord { path: path.to_owned(), options: None });
    }
    Ok([(CLOSURE.to_owned(), name.clone())].into())
}

/// The store path of a closure-info, to which a link may lead.
fn name_of(closure_info: &Path, store: &StoreDirectory) -> Result<String, Error> {
    let name = match closure_info.to_str() {
        Some(name) if store.holds(name) => name.to_owned(),
        _ => {
            let read = |source| Error::Read { path: closure_info.to_owned(), source };
            let target = closure_info.canonicalize().map_err(read)?;
            target.to_string_lossy().into_owned()
        }
    };
    check(&name, store)?;
    Ok(name)
}
