//! Layers and images from store paths, with the bytes that nix2container makes of them.

mod closure;
mod config;
mod difference;
mod error;
mod given;
mod image;
mod layer;
mod layers;
mod nix_database;
mod pattern;
mod rules;
mod snapshotter;
mod stream;
mod tree;

pub use closure::{Node, closure_of, parse as parse_graph, without};
pub use difference::{ImageDifference, LayerSize, PathChange, PathSize, PathsDifference};
pub use error::Error;
pub use given::layer_from_tar;
pub use image::{ImageOptions, image};
pub use layers::{LayersOptions, Owner, layers, records};
pub use nix_database::{StoreNode, parse_store_graph, store_paths, write_store_database};
pub use pattern::Error as PatternError;
pub use snapshotter::{MountPointsOptions, Snapshotter, mount_points, store_paths_text};
pub(crate) use stream::LayerStream;

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::formats::go_json::{self, List, go_object};
use crate::formats::layers::{History, Permissions, Rewrite};
use crate::observer::{Event, Observer};

/// A change of the permissions of a store path's files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PermissionRule {
    /// The store path.
    pub path: String,
    /// What changes.
    pub permissions: Permissions,
}

/// A change of the names of a store path's files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RewriteRule {
    /// The store path.
    pub path: String,
    /// What changes.
    pub rewrite: Rewrite,
}

#[derive(Default)]
struct RawPermissions {
    path: String,
    regex: String,
    mode: String,
    uid: i64,
    gid: i64,
    uname: String,
    gname: String,
}

go_object!(RawPermissions {
    "path" => path,
    "regex" => regex,
    "mode" => mode,
    "uid" => uid,
    "gid" => gid,
    "uname" => uname,
    "gname" => gname,
});

#[derive(Default)]
struct RawRewrite {
    path: String,
    regex: String,
    repl: String,
}

go_object!(RawRewrite { "path" => path, "regex" => regex, "repl" => repl });

/// An input file.
#[derive(Clone, Copy)]
struct Input<'a> {
    what: &'static str,
    file: &'a str,
    text: &'a [u8],
}

impl Input<'_> {
    fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        let shape = |source| Error::Shape { what: self.what, file: self.file.to_owned(), source };
        go_json::parse(self.text).map_err(shape)
    }

    /// Warns of keys that mean nothing: a misspelt `regex` would match all files.
    fn warn_of_unknown(self, known: &[&str], observer: &dyn Observer) {
        let objects: Vec<Map<String, Value>> = match go_json::parse(self.text) {
            Ok(Value::Array(values)) => {
                values.into_iter().filter_map(|value| value.as_object().cloned()).collect()
            }
            Ok(Value::Object(object)) => vec![object],
            _ => return,
        };
        let keys: BTreeSet<String> =
            objects.into_iter().flat_map(|object| object.into_iter().map(|(key, _)| key)).collect();
        for key in keys {
            if known.iter().all(|known| !key.eq_ignore_ascii_case(known)) {
                let text = format!("the key `{key}` in `{}` is unknown, and ignored", self.file);
                observer.observe(&Event::Warning(&text));
            }
        }
    }
}

/// Reads rules for permissions: a list of objects with `path`, `regex`, `mode`, `uid`, `gid`,
/// `uname` and `gname`. `file` is its name in errors.
pub fn parse_permissions(
    file: &str,
    text: &[u8],
    observer: &dyn Observer,
) -> Result<Vec<PermissionRule>, Error> {
    let input = Input { what: "permissions", file, text };
    let rules: List<RawPermissions> = input.parse()?;
    input.warn_of_unknown(&["path", "regex", "mode", "uid", "gid", "uname", "gname"], observer);
    let rule = |raw: RawPermissions| {
        let RawPermissions { path, regex, mode, uid, gid, uname, gname } = raw;
        PermissionRule { path, permissions: Permissions { regex, mode, uid, gid, uname, gname } }
    };
    Ok(rules.0.into_iter().map(rule).collect())
}

/// Reads rules for names: a list of objects with `path`, `regex` and `repl`. `file` is its
/// name in errors.
pub fn parse_rewrites(
    file: &str,
    text: &[u8],
    observer: &dyn Observer,
) -> Result<Vec<RewriteRule>, Error> {
    let input = Input { what: "rewrites", file, text };
    let rules: List<RawRewrite> = input.parse()?;
    input.warn_of_unknown(&["path", "regex", "repl"], observer);
    let rule =
        |RawRewrite { path, regex, repl }| RewriteRule { path, rewrite: Rewrite { regex, repl } };
    Ok(rules.0.into_iter().map(rule).collect())
}

/// Reads a step of the history: an object with `created`, `created_by`, `author`, `comment`
/// and `empty_layer`. `file` is its name in errors.
pub fn parse_history(file: &str, text: &[u8], observer: &dyn Observer) -> Result<History, Error> {
    let input = Input { what: "history", file, text };
    let history = input.parse()?;
    let known = ["created", "created_by", "author", "comment", "empty_layer"];
    input.warn_of_unknown(&known, observer);
    Ok(history)
}
