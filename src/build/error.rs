//! Why a layer or an image can't be built.

use std::io;
use std::path::PathBuf;

use super::pattern;
use crate::error::{Diagnose, Kind};
use crate::formats::{image_json, layers};
use crate::fs;
use crate::stream::tar;

/// Why a layer or an image can't be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input can't be read.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// An input has another shape.
    #[error("invalid {what} in `{file}`")]
    Shape {
        /// What should be in the file.
        what: &'static str,
        /// The file's name.
        file: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A file doesn't describe layers.
    #[error(transparent)]
    Layers(#[from] layers::Error),
    /// A file doesn't describe an image.
    #[error(transparent)]
    Image(#[from] image_json::ParseError),
    /// Store paths refer to each other in a circle.
    #[error("the graph has a cycle: {}", paths.join(" → "))]
    Cycle {
        /// The paths, from one to itself.
        paths: Vec<String>,
    },
    /// A path that should be left out is needed.
    #[error("`{path}` can't be left out: `{by}` refers to it")]
    Ignored {
        /// The path.
        path: String,
        /// A path that refers to it.
        by: String,
    },
    /// A layer of mount points would have none.
    #[error("there is no store path to mount")]
    EmptyClosure,
    /// A path that a node would mount is not in its store.
    #[error("`{path}` is not a path in the store `{store}`")]
    NotAStorePath {
        /// The path, with control characters escaped.
        path: String,
        /// The store's directory.
        store: String,
    },
    /// A store path is a link to something that is in no store.
    #[error("`{}` is a link to `{}`, which is not in the store", path.display(), target.display())]
    LeavesStore {
        /// The store path.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
    },
    /// A closure-info belongs to another closure.
    #[error("`{path}` is not in the closure `{closure}`")]
    NotInClosure {
        /// The path.
        path: String,
        /// The closure-info.
        closure: String,
    },
    /// No manifest has room for so many annotations.
    #[error(
        "the annotations for {count} store paths take {size} bytes, and registries refuse \
         manifests over {limit} bytes"
    )]
    TooManyPaths {
        /// How many paths there are.
        count: usize,
        /// The size of their annotations.
        size: u64,
        /// The largest manifest.
        limit: u64,
    },
    /// No manifest has room for so many annotations of layers.
    #[error(
        "the annotations of the layers take {size} bytes, and registries refuse manifests over \
         {limit} bytes"
    )]
    TooManyAnnotations {
        /// Their size.
        size: u64,
        /// The largest manifest.
        limit: u64,
    },
    /// A file can't be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not an archive that can be a layer.
    #[error("`{path}` is not a tar archive")]
    Tar {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// A store's database can't be written.
    #[error("failed to write the database of a store in `{}`", path.display())]
    Database {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// No layer can hold such a file.
    #[error("`{}` is {kind}, which a layer can't hold", path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A file is no longer what it was a moment before.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file would be too deep in the layer.
    #[error("`{}` goes to a place that is too deep", path.display())]
    TooDeep {
        /// The file.
        path: PathBuf,
    },
    /// A path that should become the root is no directory.
    #[error("`{path}` can't be copied to the root: it is {kind}, not a directory")]
    NotARoot {
        /// The store path.
        path: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// Two files that differ go to the same place.
    #[error(
        "two files for `{destination}` differ in their {difference}: `{}` has {first_value}, and `{}` has {second_value}",
        first.display(),
        second.display()
    )]
    Conflict {
        /// Their place.
        destination: String,
        /// What is different.
        difference: &'static str,
        /// The first file.
        first: PathBuf,
        /// What it has.
        first_value: String,
        /// The second file.
        second: PathBuf,
        /// What it has.
        second_value: String,
    },
    /// A regular expression of a rule can't be used.
    #[error("a rule for `{path}` can't be used")]
    Pattern {
        /// The store path that the rule is for.
        path: String,
        /// What is wrong with it.
        #[source]
        source: pattern::Error,
    },
    /// The mode of a rule is not octal.
    #[error("a rule for `{path}` has the mode `{mode}`, which is not an octal number")]
    Mode {
        /// The store path that the rule is for.
        path: String,
        /// The mode.
        mode: String,
    },
    /// A header can't be written.
    #[error("failed to add `{}`", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: tar::Error,
    },
    /// A layer's file can't be written.
    #[error("failed to write a layer")]
    Write(#[source] io::Error),
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Fs(error) => error.kind(),
            Self::Shape { .. }
            | Self::Changed { .. }
            | Self::Cycle { .. }
            | Self::NotAStorePath { .. }
            | Self::LeavesStore { .. }
            | Self::NotInClosure { .. } => Kind::Verification,
            Self::Layers(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::Pattern { .. }
            | Self::Mode { .. }
            | Self::Ignored { .. }
            | Self::EmptyClosure
            | Self::TooManyPaths { .. }
            | Self::TooManyAnnotations { .. } => Kind::Usage,
            Self::Read { .. }
            | Self::Database { .. }
            | Self::Tar { .. }
            | Self::Write(_)
            | Self::Special { .. }
            | Self::NotARoot { .. }
            | Self::TooDeep { .. }
            | Self::Conflict { .. }
            | Self::Header { .. } => Kind::Other,
        }
    }
}
