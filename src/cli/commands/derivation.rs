//! `n2c derivation`: the builder of the derivations that need more than arguments. Nix writes
//! their attributes to a file, with the closure that they ask for (`__structuredAttrs`,
//! `exportReferencesGraph`).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use n2c::build::{self, LayersOptions, MountPointsOptions, Owner, Snapshotter};
use n2c::formats::layers::{self, Layer, PathRecord};
use n2c::stream::compress::{Algorithm, Compression};
use n2c::{Diagnose, Kind, StoreDirectory};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::environment::environment;
use crate::cli::failure::Failure;
use crate::cli::hints::Hint;
use crate::cli::inputs;
use crate::cli::output;
use crate::cli::report::Report;

/// Why a derivation can't be built.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("invalid attributes of the derivation in `{}`", path.display())]
    Attributes {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to create `{path}`")]
    Output {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Attributes { .. } => Kind::Usage,
            Self::Output { .. } => Kind::Other,
        }
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        Some("this command is for n2c's Nix functions".to_owned())
    }
}

/// What Nix writes.
#[derive(Deserialize)]
struct Attributes {
    outputs: Outputs,
    #[serde(default)]
    graph: Value,
    #[serde(default)]
    own: Value,
    n2c: Work,
}

#[derive(Deserialize)]
struct Outputs {
    out: String,
}

/// What to build.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Work {
    /// A file with this text.
    Text { text: String },
    /// A tree of empty directories, by their absolute paths.
    Directories { paths: Vec<String> },
    /// A directory with the layers.json of a layer that is given as an archive.
    Tar { path: String, metadata: Value },
    /// The database of the store in an image.
    Database {
        /// Store paths that are not in that store.
        roots: Vec<String>,
        /// The layers.json of the layers below.
        layers: Vec<PathBuf>,
    },
    /// A directory with this program in `bin`.
    Script { name: String, text: String },
    /// A directory with the layers.json of a layer of mount points.
    MountPoints(Box<MountPointsWork>),
    /// A directory with the list of the layers' store paths.
    ClosureInfo { layers: Vec<LayerPaths> },
    /// A directory with a layers.json and, if they are not reproducible, the layers.
    Layer(Box<LayerWork>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerWork {
    perms: Value,
    rewrites: Value,
    metadata: Value,
    ignore: Vec<String>,
    max_layers: i64,
    /// The layers.json of layers below these.
    parents: Vec<PathBuf>,
    reproducible: bool,
    #[serde(default)]
    excludes: Vec<String>,
    /// The owner of all files, if it isn't root.
    owner: Option<Owner>,
    /// How the layers will be compressed, if what they compress to is recorded.
    compress: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MountPointsWork {
    layers: Vec<LayerPaths>,
    metadata: Value,
    /// `legacy` or `closure`, or nothing if a node is told otherwise what to mount.
    snapshotter: Option<String>,
    closure_info: PathBuf,
}

/// What is in a layer of store paths, and how.
#[derive(Deserialize)]
struct LayerPaths {
    /// Their closures are in it,
    roots: Vec<String>,
    /// but not these store paths.
    ignore: Vec<String>,
    perms: Value,
    rewrites: Value,
    excludes: Vec<String>,
}

impl LayerPaths {
    /// The store paths of several layers, with their rules.
    fn records(
        layers: &[Self],
        graph: &Value,
        report: &Report,
    ) -> Result<Vec<PathRecord>, Failure> {
        let text = |value: &Value| value.to_string().into_bytes();
        let nodes = build::parse_graph("the closure", &text(graph))?;
        let mut records = Vec::new();
        for layer in layers {
            let own = build::closure_of(&nodes, &layer.roots);
            let options = LayersOptions {
                excludes: layer.excludes.clone(),
                permissions: build::parse_permissions("perms", &text(&layer.perms), report)?,
                rewrites: build::parse_rewrites("rewrites", &text(&layer.rewrites), report)?,
                ..LayersOptions::default()
            };
            let own = build::without(own, &layer.ignore)?;
            records.extend(build::records(&own, &options, report)?);
        }
        Ok(records)
    }
}

pub(crate) fn run(report: &Report) -> Result<(), Failure> {
    // In a sandbox, Nix 2.8 names the place that the file has outside of it.
    let named = environment().path("NIX_ATTRS_JSON_FILE").filter(|path| path.exists());
    let path = named.unwrap_or_else(|| PathBuf::from(".attrs.json"));
    let text = inputs::read(&path)?;
    let attributes: Attributes =
        serde_json::from_slice(&text).map_err(|source| Error::Attributes { path, source })?;
    let out = attributes.outputs.out;
    match attributes.n2c {
        Work::Text { text } => output::write_in_place(Path::new(&out), text.as_bytes()),
        Work::Directories { paths } => directories(Path::new(&out), &paths),
        Work::Tar { path, metadata } => {
            let history = metadata.to_string().into_bytes();
            let history = build::parse_history("metadata", &history, report)?;
            let layers = [build::layer_from_tar(&path, history)?];
            write_layers(&out, &layers)
        }
        Work::Database { roots, layers } => {
            let graph = attributes.graph.to_string();
            let graph = build::parse_store_graph("the closure", graph.as_bytes())?;
            let own = attributes.own.to_string();
            let own = build::parse_store_graph("the closure", own.as_bytes())?;
            let paths = build::store_paths(&own, &roots, &inputs::layers(&layers)?);
            Ok(build::write_store_database(&graph, &paths, Path::new(&out))?)
        }
        Work::Script { name, text } => script(Path::new(&out), &name, &text),
        Work::MountPoints(work) => mount_points(&out, &attributes.graph, &work, report),
        Work::ClosureInfo { layers } => {
            let records = LayerPaths::records(&layers, &attributes.graph, report)?;
            let text = build::store_paths_text(&out, &records);
            fs::create_dir(&out).map_err(|source| Error::Output { path: out.clone(), source })?;
            let file = Path::new(&out).join("store-paths");
            Ok(n2c::fs::write(&file, text.as_bytes())?)
        }
        Work::Layer(work) => layer(&out, &attributes.graph, &work, report),
    }
}

fn directories(out: &Path, paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        // Nix has checked them: they are below the root.
        let directory = out.join(path.trim_start_matches('/'));
        let output = |source| Error::Output { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(output)?;
    }
    Ok(())
}

fn script(out: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let directory = out.join("bin");
    let path = directory.join(name);
    let failed = |source| Error::Output { path: path.display().to_string(), source };
    fs::create_dir_all(&directory).map_err(failed)?;
    fs::write(&path, text).map_err(failed)?;
    Ok(fs::set_permissions(&path, Permissions::from_mode(0o555)).map_err(failed)?)
}

fn layer(out: &str, graph: &Value, work: &LayerWork, report: &Report) -> Result<(), Failure> {
    // Errors name the arguments of the function.
    let text = |value: &Value| value.to_string().into_bytes();
    let nodes = build::parse_graph("the closure", &text(graph))?;
    let nodes = build::without(nodes, &work.ignore)?;
    let parents = inputs::layers(&work.parents)?;
    fs::create_dir(out).map_err(|source| Error::Output { path: out.to_owned(), source })?;
    let compression = match work.compress.as_deref() {
        Some("gzip") => Some(Compression::new(Algorithm::Gzip)),
        Some("zstd") => Some(Compression::new(Algorithm::Zstd)),
        _ => None,
    };
    let options = LayersOptions {
        compression,
        excludes: work.excludes.clone(),
        owner: work.owner.clone(),
        ignore: String::new(),
        permissions: build::parse_permissions("perms", &text(&work.perms), report)?,
        rewrites: build::parse_rewrites("rewrites", &text(&work.rewrites), report)?,
        history: build::parse_history("metadata", &text(&work.metadata), report)?,
        max_layers: usize::try_from(work.max_layers).unwrap_or(0),
        parents,
        tar_directory: (!work.reproducible).then(|| out.to_owned()),
    };
    let layers = build::layers(&nodes, &options, report)?;
    let file = Path::new(out).join("layers.json");
    Ok(n2c::fs::write(&file, layers::to_text(&layers).as_bytes())?)
}

fn mount_points(
    out: &str,
    graph: &Value,
    work: &MountPointsWork,
    report: &Report,
) -> Result<(), Failure> {
    let records = LayerPaths::records(&work.layers, graph, report)?;
    let closure_info = work.closure_info.clone();
    let options = MountPointsOptions {
        snapshotter: match work.snapshotter.as_deref() {
            Some("legacy") => Some(Snapshotter::Legacy { fallback: Some(closure_info) }),
            Some(_) => Some(Snapshotter::Closure { closure_info }),
            None => None,
        },
        history: build::parse_history("metadata", work.metadata.to_string().as_bytes(), report)?,
        store: &StoreDirectory::of(environment())?,
    };
    write_layers(out, &[build::mount_points(&records, options, report)?])
}

fn write_layers(out: &str, layers: &[Layer]) -> Result<(), Failure> {
    fs::create_dir(out).map_err(|source| Error::Output { path: out.to_owned(), source })?;
    let file = Path::new(out).join("layers.json");
    Ok(n2c::fs::write(&file, layers::to_text(layers).as_bytes())?)
}
