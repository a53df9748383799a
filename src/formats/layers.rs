//! Layers as nix2container describes them, in layers.json and in image.json: by the store
//! paths they are made of, or by a file (upstream's `types/types.go`).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::go_json::{self, List, go_object};
use super::time::Time;
use crate::error::{Diagnose, Kind};
use crate::json;
use crate::oci::digest::{self, Digest};

/// Why a file does not describe layers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON, or of another shape.
    #[error("invalid layers in `{file}`")]
    Shape {
        /// The file's name.
        file: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A layer has no usable digest.
    #[error("invalid layers in `{file}`")]
    Digest {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        #[source]
        source: digest::Error,
    },
    /// A layer holds something that this version can't make.
    #[error("unknown content `{content}` of a layer in `{file}`")]
    Content {
        /// The file's name.
        file: String,
        /// What it says, escaped.
        content: String,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Verification
    }
}

/// A layer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Layer {
    /// The digest of the layer as it is transferred.
    pub digest: Digest,
    /// Its size in bytes. Upstream leaves it 0 in images that were pulled.
    pub size: u64,
    /// The digest of the layer without its compression.
    #[serde(rename = "diff_ids")]
    pub diff_id: Digest,
    /// What the layer becomes when it is compressed, if that was recorded: a key of n2c's
    /// own, which upstream's readers ignore.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compressed: Vec<CompressedRecord>,
    /// The store paths in it, in the order in which they were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathRecord>,
    /// What it holds of its store paths: a key of n2c's own. nix2container's readers, which
    /// ignore it, find that the layer has another digest.
    #[serde(skip_serializing_if = "LayerContent::is_files")]
    pub content: LayerContent,
    /// Annotations of its descriptor, by name: a key of n2c's own, which upstream's readers
    /// ignore.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Its media type.
    #[serde(rename = "mediatype")]
    pub media_type: String,
    /// The file that holds it, if there is one.
    #[serde(rename = "layer-path", skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The step of the image's history that made it.
    #[serde(rename = "History")]
    pub history: History,
}

/// What a layer holds of its store paths.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerContent {
    /// Their files.
    #[default]
    Files,
    /// A mount point for each of them, and links to the files that rewrites move.
    MountPoints,
    /// Only such links.
    Links,
}

impl LayerContent {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    const fn is_files(&self) -> bool {
        matches!(self, Self::Files)
    }

    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "" | "files" => Self::Files,
            "mount-points" => Self::MountPoints,
            "links" => Self::Links,
            _ => return None,
        })
    }
}

/// What a layer becomes when it is compressed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CompressedRecord {
    /// `gzip` or `zstd`.
    pub algorithm: String,
    /// The digest of the compressed layer.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The compressor, with its version and level. What another one makes has other bytes.
    pub by: String,
}

/// A store path in a layer, and what is done with it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize)]
pub struct PathRecord {
    /// The store path.
    pub path: String,
    /// Rules for its files, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<PathOptions>,
}

/// Rules for the files of a store path.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize)]
pub struct PathOptions {
    /// Where its files go.
    pub rewrite: Rewrite,
    /// What changes of their permissions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub perms: Vec<Permissions>,
    /// Regular expressions for files that are left out: a key of n2c's own. nix2container's
    /// readers, which ignore it, find that the layer has another digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
}

/// A change of names: each match of a regular expression is replaced.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize)]
pub struct Rewrite {
    /// The regular expression, in Go's syntax. If it is empty, nothing changes.
    pub regex: String,
    /// The replacement, in which `$1` and `${name}` are groups.
    pub repl: String,
}

/// A change of permissions and owners.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize)]
pub struct Permissions {
    /// Which files change: those whose path in the store matches.
    pub regex: String,
    /// The mode in octal digits; if it is empty, it doesn't change.
    pub mode: String,
    /// The owner's number.
    pub uid: i64,
    /// The group's number.
    pub gid: i64,
    /// The owner's name; if it is empty, it doesn't change.
    pub uname: String,
    /// The group's name; if it is empty, it doesn't change.
    pub gname: String,
}

/// A step of an image's history (image-spec config.md, "history").
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct History {
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// By which command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// By whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A comment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether it made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[derive(Default)]
pub(crate) struct RawLayer {
    digest: String,
    size: u64,
    diff_id: String,
    compressed: List<RawCompressed>,
    paths: List<RawPath>,
    content: String,
    annotations: Map<String, Value>,
    media_type: String,
    file: String,
    history: History,
}

go_object!(RawLayer {
    "digest" => digest,
    "size" => size,
    "diff_ids" => diff_id,
    "compressed" => compressed,
    "paths" => paths,
    "content" => content,
    "annotations" => annotations,
    "mediatype" => media_type,
    "layer-path" => file,
    "History" => history,
});

#[derive(Default)]
struct RawCompressed {
    algorithm: String,
    digest: String,
    size: u64,
    by: String,
}

go_object!(RawCompressed {
    "algorithm" => algorithm,
    "digest" => digest,
    "size" => size,
    "by" => by,
});

#[derive(Default)]
struct RawPath {
    path: String,
    options: Option<RawOptions>,
}

go_object!(RawPath { "path" => path, "options" => options });

#[derive(Default)]
struct RawOptions {
    rewrite: Rewrite,
    perms: List<Permissions>,
    excludes: List<String>,
}

go_object!(RawOptions { "rewrite" => rewrite, "perms" => perms, "excludes" => excludes });
go_object!(Rewrite { "regex" => regex, "repl" => repl });
go_object!(Permissions {
    "regex" => regex,
    "mode" => mode,
    "uid" => uid,
    "gid" => gid,
    "uname" => uname,
    "gname" => gname,
});

go_object!(History {
    "created" => created,
    "created_by" => created_by,
    "author" => author,
    "comment" => comment,
    "empty_layer" => empty_layer,
});

impl From<RawPath> for PathRecord {
    fn from(raw: RawPath) -> Self {
        let options = raw.options.map(|raw| PathOptions {
            rewrite: raw.rewrite,
            perms: raw.perms.0,
            excludes: raw.excludes.0,
        });
        Self { path: raw.path, options }
    }
}

impl RawCompressed {
    fn check(self) -> Option<CompressedRecord> {
        let Self { algorithm, digest, size, by } = self;
        Some(CompressedRecord { algorithm, digest: digest.parse().ok()?, size, by })
    }
}

impl RawLayer {
    pub(crate) fn check(self, file: &str) -> Result<Layer, Error> {
        let digest = |text: &str| {
            let invalid = |source| Error::Digest { file: file.to_owned(), source };
            text.parse::<Digest>().map_err(invalid)
        };
        let content = LayerContent::of_name(&self.content).ok_or_else(|| Error::Content {
            file: file.to_owned(),
            content: self.content.escape_default().to_string(),
        })?;
        Ok(Layer {
            digest: digest(&self.digest)?,
            size: self.size,
            diff_id: digest(&self.diff_id)?,
            // A record of something unknown is no reason to refuse the layer.
            compressed: self.compressed.0.into_iter().filter_map(RawCompressed::check).collect(),
            paths: self.paths.0.into_iter().map(PathRecord::from).collect(),
            content,
            annotations: json::texts(&self.annotations),
            media_type: self.media_type,
            file: Some(self.file).filter(|file| !file.is_empty()),
            history: self.history,
        })
    }
}

/// Reads a layers.json. `file` is its name in errors.
pub fn parse(file: &str, text: &[u8]) -> Result<Vec<Layer>, Error> {
    let shape = |source| Error::Shape { file: file.to_owned(), source };
    let layers: List<RawLayer> = go_json::parse(text).map_err(shape)?;
    layers.0.into_iter().map(|layer| layer.check(file)).collect()
}

/// Writes a layers.json.
#[must_use]
pub fn to_text(layers: &[Layer]) -> String {
    go_json::to_text(&layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let permissions = Permissions { regex: "/bin/".into(), uid: 1000, ..Default::default() };
        let options = PathOptions {
            rewrite: Rewrite::default(),
            perms: vec![permissions],
            excludes: vec!["/doc/".into()],
        };
        let layer = Layer {
            digest: Digest::sha256(b"a"),
            size: 1,
            diff_id: Digest::sha256(b"b"),
            compressed: vec![CompressedRecord {
                algorithm: "gzip".into(),
                digest: Digest::sha256(b"c"),
                size: 2,
                by: "a compressor".into(),
            }],
            paths: vec![
                PathRecord { path: "/nix/store/a".into(), options: Some(options) },
                PathRecord { path: "/nix/store/b".into(), options: None },
            ],
            content: LayerContent::MountPoints,
            annotations: [("name".to_owned(), "value".to_owned())].into(),
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            file: Some("a.tar".into()),
            history: History { created_by: "n2c".into(), ..Default::default() },
        };
        let text = to_text(std::slice::from_ref(&layer));
        assert_eq!(parse("x", text.as_bytes()).expect("layers"), [layer]);
        assert_eq!(parse("x", b"null").expect("no layers"), []);
        assert_eq!(to_text(&[]), "[]");
    }

    #[test]
    fn what_is_no_layer_is_refused() {
        for text in
            ["{}", "[1]", "[{}]", r#"[{"digest":"sha256:0","diff_ids":"sha256:0"}]"#, "", "[] x"]
        {
            let error = parse("layers.json", text.as_bytes()).expect_err(text);
            assert_eq!(error.to_string(), "invalid layers in `layers.json`");
        }
        let digest = Digest::sha256(b"");
        let text =
            format!(r#"[{{"digest":"{digest}","diff_ids":"{digest}","content":"devices\n"}}]"#);
        let error = parse("layers.json", text.as_bytes()).expect_err("an error").to_string();
        assert_eq!(error, r"unknown content `devices\n` of a layer in `layers.json`");
    }
}
