//! Layers from store paths: which path goes into which layer, and with which rules
//! (upstream's `nix/layers.go`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Deserialize;

use super::closure::{self, Node};
use super::layer::{self, Archive};
use super::{Error, PermissionRule, RewriteRule};
use crate::formats::layers::{
    CompressedRecord, History, Layer, LayerContent, PathOptions, PathRecord, Permissions, Rewrite,
};
use crate::fs::{self, OutputFile};
use crate::observer::{Event, Observer};
use crate::oci::media_type;
use crate::stream::compress::{CompressedHash, Compression};

/// The owner of files.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Owner {
    /// The user's number.
    pub uid: i64,
    /// The group's number.
    pub gid: i64,
    /// The user's name; if it is empty, it is root's.
    pub uname: String,
    /// The group's name; if it is empty, it is root's.
    pub gname: String,
}

impl Owner {
    fn of_all_files(self) -> Permissions {
        let Self { uid, gid, uname, gname } = self;
        Permissions { regex: ".*".to_owned(), mode: String::new(), uid, gid, uname, gname }
    }
}

/// How layers are made.
#[derive(Debug, Default)]
pub struct LayersOptions {
    /// A store path to leave out; an empty one is none.
    pub ignore: String,
    /// The owner of the files of all store paths, unless a rule gives them another one.
    pub owner: Option<Owner>,
    /// Changes of permissions, for store paths that they name.
    pub permissions: Vec<PermissionRule>,
    /// Changes of names; the last one for a store path counts.
    pub rewrites: Vec<RewriteRule>,
    /// The step of the history that all layers get.
    pub history: History,
    /// How many layers to make at most; 0 means one for each store path.
    pub max_layers: usize,
    /// Layers that are below these. What they hold with the same rules is left out.
    pub parents: Vec<Layer>,
    /// Regular expressions for files to leave out, by their paths in the store.
    pub excludes: Vec<String>,
    /// How the layers will be compressed, if what they compress to is recorded.
    pub compression: Option<Compression>,
    /// The directory for the layers' archives; without one, they are only hashed.
    pub tar_directory: Option<String>,
}

/// Makes the layers of a closure, the most popular store paths first.
pub fn layers(
    nodes: &[Node],
    options: &LayersOptions,
    observer: &dyn Observer,
) -> Result<Vec<Layer>, Error> {
    let records = records(nodes, options, observer)?;
    let groups = groups(&records, options.max_layers);
    let archives = archives(&groups, options)?;
    let made =
        groups.into_iter().zip(archives).map(|(records, Made { archive, file, compressed })| {
            for warning in &archive.warnings {
                observer.observe(&Event::Warning(warning));
            }
            Layer {
                digest: archive.digest.clone(),
                size: archive.size,
                diff_id: archive.digest,
                compressed: compressed.into_iter().collect(),
                paths: records.to_vec(),
                content: LayerContent::Files,
                annotations: BTreeMap::new(),
                media_type: media_type::OCI_LAYER.to_owned(),
                file,
                history: options.history.clone(),
            }
        });
    Ok(made.collect())
}

/// The store paths to put into layers, with their rules, in their order.
pub fn records(
    nodes: &[Node],
    options: &LayersOptions,
    observer: &dyn Observer,
) -> Result<Vec<PathRecord>, Error> {
    let mut permissions: HashMap<&str, Vec<Permissions>> = HashMap::new();
    for rule in &options.permissions {
        permissions.entry(&rule.path).or_default().push(rule.permissions.clone());
    }
    let rewrites: HashMap<&str, &Rewrite> =
        options.rewrites.iter().map(|rule| (rule.path.as_str(), &rule.rewrite)).collect();
    let below: HashSet<&PathRecord> =
        options.parents.iter().flat_map(|layer| &layer.paths).collect();
    let owner = options.owner.clone().map(Owner::of_all_files);
    let paths = closure::by_popularity(nodes)?;
    warn_of_unknown(&paths, options, observer);
    let records = paths.into_iter().filter(|path| *path != options.ignore).map(|path| {
        let mut perms: Vec<Permissions> = owner.iter().cloned().collect();
        perms.extend(permissions.get(path.as_str()).into_iter().flatten().cloned());
        let rewrite = rewrites.get(path.as_str()).map(|rewrite| (*rewrite).clone());
        let excludes = options.excludes.clone();
        let has_options = rewrite.is_some() || !perms.is_empty() || !excludes.is_empty();
        let options = has_options.then(|| PathOptions {
            rewrite: rewrite.unwrap_or_default(),
            perms,
            excludes,
        });
        PathRecord { path, options }
    });
    Ok(records.filter(|record| !below.contains(record)).collect())
}

/// Warns of rules that can't have an effect: upstream's silence costs its users hours.
fn warn_of_unknown(paths: &[String], options: &LayersOptions, observer: &dyn Observer) {
    let known: HashSet<&str> = paths.iter().map(String::as_str).collect();
    let permissions = options.permissions.iter().map(|rule| ("rule", &rule.path));
    let rewrites = options.rewrites.iter().map(|rule| ("rewrite rule", &rule.path));
    let mut warned = HashSet::new();
    for (what, path) in permissions.chain(rewrites) {
        if known.contains(path.as_str()) || !warned.insert((what, path)) {
            continue;
        }
        let is_inside = |known: &&String| {
            path.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        let advice = match paths.iter().find(is_inside) {
            Some(parent) => format!("name `{parent}`, and match its files with `regex`"),
            None => "it is not in the closure".to_owned(),
        };
        let text = format!("a {what} for `{path}` has no effect: {advice}");
        observer.observe(&Event::Warning(&text));
    }
}

/// One store path in each layer, and all the rest in the last one.
fn groups(records: &[PathRecord], max_layers: usize) -> Vec<&[PathRecord]> {
    let alone = match max_layers {
        0 => records.len(),
        most => records.len().min(most - 1),
    };
    let (alone, rest) = records.split_at(alone);
    let rest = (!rest.is_empty()).then_some(rest);
    alone.chunks(1).chain(rest).collect()
}

/// A layer that was made.
struct Made<F> {
    archive: Archive,
    /// Its file, if it is written to one.
    file: Option<F>,
    /// What it compresses to, if that is recorded.
    compressed: Option<CompressedRecord>,
}

type Outcome = Result<Made<OutputFile>, Error>;

/// The stack of a thread, in bytes: trees are as deep as paths are long.
pub(super) const STACK: usize = 32 << 20;

/// The archives of the groups, as many at once as there are processors, and the names of
/// their files. Files get their names when all archives are there.
fn archives(groups: &[&[PathRecord]], options: &LayersOptions) -> Result<Vec<Made<String>>, Error> {
    let directory = options.tar_directory.as_deref();
    if let Some(directory) = directory {
        // What a run left behind that was killed.
        fs::sweep(Path::new(directory));
    }
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // With fewer layers than processors, each layer gets two.
    let has_thread = processors > groups.len();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(groups.iter().map(|_| None).collect());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(records) = groups.get(index) else { return };
            let outcome = archive(records, options, has_thread);
            // Nobody begins with what would be thrown away.
            if outcome.is_err() {
                next.fetch_max(groups.len(), Ordering::Relaxed);
            }
            outcomes.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(outcome);
        }
    };
    thread::scope(|scope| {
        let start = || thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let started = (0..processors.min(groups.len())).filter(|_| start().is_ok()).count();
        // Without another thread, this one must do.
        if started == 0 {
            work();
        }
    });
    // The error of the first layer that has one: which thread was faster doesn't matter.
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let archives: Vec<_> = outcomes.into_iter().flatten().collect::<Result<_, _>>()?;
    let name = |Made { archive, file, compressed }: Made<OutputFile>| {
        let Some(mut output) = file else { return Ok(Made { archive, file: None, compressed }) };
        let name = format!("{}.tar", archive.digest.hex());
        output.rename(&name);
        output.commit()?;
        // As the directory was given: upstream's readers take this name as it is.
        let file = directory.map(|directory| format!("{directory}/{name}"));
        Ok(Made { archive, file, compressed })
    };
    archives.into_iter().map(name).collect()
}

fn archive(records: &[PathRecord], options: &LayersOptions, has_thread: bool) -> Outcome {
    let mut file = match &options.tar_directory {
        // Its name is known at its end.
        Some(directory) => Some(OutputFile::replacing(&Path::new(directory).join("layer.tar"))?),
        None => None,
    };
    let compression = options.compression;
    let mut hash = compression.map(CompressedHash::new).transpose().map_err(Error::Write)?;
    let mut both = Both { file: file.as_mut().map(OutputFile::file), hash: hash.as_mut() };
    let is_wanted = both.file.is_some() || both.hash.is_some();
    let writer = is_wanted.then_some(&mut both as &mut dyn Write);
    let archive = layer::archive(records, writer, has_thread)?;
    let made = hash.map(CompressedHash::finish).transpose().map_err(Error::Write)?;
    let compressed = compression.zip(made).map(|(compression, (digest, size))| CompressedRecord {
        algorithm: compression.algorithm.name().to_owned(),
        digest,
        size,
        by: compression.compressor(),
    });
    Ok(Made { archive, file, compressed })
}

/// Writes an archive to a file, and finds out what it compresses to.
struct Both<'a> {
    file: Option<&'a mut File>,
    hash: Option<&'a mut CompressedHash>,
}

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        if let Some(hash) = &mut self.hash {
            hash.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
