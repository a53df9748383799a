//! Layers and images from store paths, with the bytes that nix2container makes of them.

mod closure;
mod config;
mod difference;
mod error;
mod image;
mod layer;
mod layers;
mod pattern;
mod rules;
mod tree;

pub use closure::{Node, parse as parse_graph, without};
pub use difference::{ImageDifference, LayerSize, PathChange, PathSize, PathsDifference};
pub use error::Error;
pub use image::{ImageOptions, image};
pub use layers::{LayersOptions, layers};
pub use pattern::Error as PatternError;

use crate::formats::go_json::{self, List, go_object};
use crate::formats::layers::{History, Permissions, Rewrite};

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
struct RawRule {
    path: String,
    regex: String,
    repl: String,
    mode: String,
    uid: i64,
    gid: i64,
    uname: String,
    gname: String,
}

go_object!(RawRule {
    "path" => path,
    "regex" => regex,
    "repl" => repl,
    "mode" => mode,
    "uid" => uid,
    "gid" => gid,
    "uname" => uname,
    "gname" => gname,
});

fn parse_rules(what: &'static str, file: &str, text: &[u8]) -> Result<Vec<RawRule>, Error> {
    let rules: List<RawRule> = go_json::parse(text).map_err(|source| Error::Shape {
        what,
        file: file.to_owned(),
        source,
    })?;
    Ok(rules.0)
}

/// Reads rules for permissions: a list of objects with `path`, `regex`, `mode`, `uid`, `gid`,
/// `uname` and `gname`. `file` is its name in errors.
pub fn parse_permissions(file: &str, text: &[u8]) -> Result<Vec<PermissionRule>, Error> {
    let rules = parse_rules("permissions", file, text)?;
    let rule = |raw: RawRule| {
        let RawRule { path, regex, mode, uid, gid, uname, gname, .. } = raw;
        PermissionRule { path, permissions: Permissions { regex, mode, uid, gid, uname, gname } }
    };
    Ok(rules.into_iter().map(rule).collect())
}

/// Reads rules for names: a list of objects with `path`, `regex` and `repl`. `file` is its
/// name in errors.
pub fn parse_rewrites(file: &str, text: &[u8]) -> Result<Vec<RewriteRule>, Error> {
    let rules = parse_rules("rewrites", file, text)?;
    let rule =
        |RawRule { path, regex, repl, .. }| RewriteRule { path, rewrite: Rewrite { regex, repl } };
    Ok(rules.into_iter().map(rule).collect())
}

/// Reads a step of the history: an object with `created`, `created_by`, `author`, `comment`
/// and `empty_layer`. `file` is its name in errors.
pub fn parse_history(file: &str, text: &[u8]) -> Result<History, Error> {
    let shape = |source| Error::Shape { what: "history", file: file.to_owned(), source };
    History::parse(text).map_err(shape)
}
