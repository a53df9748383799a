//! Rules for the files of a store path: where they go, and what changes of their
//! permissions. Each regular expression is compiled once.

use std::cell::Cell;

use super::Error;
use super::pattern::{Pattern, Replacement};
use crate::formats::layers::{PathOptions, PathRecord, Permissions};

/// The permissions and owners of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Attributes<'a> {
    pub(super) mode: i64,
    pub(super) user_id: i64,
    pub(super) group_id: i64,
    pub(super) user_name: &'a str,
    pub(super) group_name: &'a str,
}

impl Attributes<'static> {
    /// Those of a file that no rule changes.
    pub(super) const fn of_root(mode: i64) -> Self {
        Self { mode, user_id: 0, group_id: 0, user_name: "root", group_name: "root" }
    }
}

/// The rules for the files of one store path.
#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    rewrite: Option<RewriteRule>,
    permissions: Vec<PermissionRule<'a>>,
    excludes: Vec<Pattern>,
}

#[derive(Debug)]
struct RewriteRule {
    pattern: Pattern,
    replacement: Replacement,
    is_used: Cell<bool>,
}

#[derive(Debug)]
struct PermissionRule<'a> {
    pattern: Pattern,
    mode: Option<i64>,
    permissions: &'a Permissions,
    is_used: Cell<bool>,
}

impl<'a> Rules<'a> {
    /// Compiles the rules of a store path.
    pub(super) fn new(record: &'a PathRecord) -> Result<Self, Error> {
        let path = &record.path;
        let Some(PathOptions { rewrite, perms, excludes }) = &record.options else {
            return Ok(Self::default());
        };
        let compile = |regex: &str| {
            Pattern::new(regex).map_err(|source| Error::Pattern { path: path.clone(), source })
        };
        let rewrite = if rewrite.regex.is_empty() {
            None
        } else {
            Some(RewriteRule {
                pattern: compile(&rewrite.regex)?,
                replacement: Replacement::new(&rewrite.repl),
                is_used: Cell::new(false),
            })
        };
        let permissions = perms.iter().map(|permissions| {
            let mode = octal(&permissions.mode)
                .map_err(|()| Error::Mode { path: path.clone(), mode: permissions.mode.clone() })?;
            let pattern = compile(&permissions.regex)?;
            Ok(PermissionRule { pattern, mode, permissions, is_used: Cell::new(false) })
        });
        let permissions = permissions.collect::<Result<_, Error>>()?;
        let excludes = excludes.iter().map(|regex| compile(regex));
        Ok(Self { rewrite, permissions, excludes: excludes.collect::<Result<_, _>>()? })
    }

    /// Whether a file is left out, with everything below it.
    pub(super) fn excludes(&self, source: &[u8]) -> bool {
        self.excludes.iter().any(|pattern| pattern.is_match(source))
    }

    /// Where a file goes.
    pub(super) fn destination(&self, source: &[u8]) -> Option<Vec<u8>> {
        let rule = self.rewrite.as_ref()?;
        if !rule.is_used.get() {
            rule.is_used.set(rule.pattern.is_match(source));
        }
        Some(rule.pattern.replace_all(source, &rule.replacement))
    }

    /// What the rules make of a file's permissions; later rules win.
    pub(super) fn apply(&self, source: &[u8], mode: i64) -> Attributes<'a> {
        let mut attributes: Attributes<'a> = Attributes::of_root(mode);
        for rule in &self.permissions {
            if !rule.pattern.is_match(source) {
                continue;
            }
            rule.is_used.set(true);
            let Permissions { uid, gid, uname, gname, .. } = rule.permissions;
            attributes.mode = rule.mode.unwrap_or(attributes.mode);
            (attributes.user_id, attributes.group_id) = (*uid, *gid);
            if !uname.is_empty() {
                attributes.user_name = uname;
            }
            if !gname.is_empty() {
                attributes.group_name = gname;
            }
        }
        attributes
    }

    /// What to say about rules that no file matched.
    pub(super) fn unused(&self, path: &str) -> Vec<String> {
        let mut unused = Vec::new();
        if self.is_rewrite_unused() {
            unused.push(unused_rewrite(path));
        }
        for regex in self.unused_permissions() {
            unused.push(format!("the rule `{regex}` for `{path}` matches none of its files"));
        }
        unused
    }

    /// Whether there is a rewrite that no file matched.
    pub(super) fn is_rewrite_unused(&self) -> bool {
        self.rewrite.as_ref().is_some_and(|rule| !rule.is_used.get())
    }

    /// The regular expressions of rules for permissions that no file matched.
    pub(super) fn unused_permissions(&self) -> impl Iterator<Item = &str> {
        let unused = self.permissions.iter().filter(|rule| !rule.is_used.get());
        unused.map(|rule| rule.permissions.regex.as_str())
    }
}

/// What to say about the rewrite for a store path that no file matched.
pub(super) fn unused_rewrite(path: &str) -> String {
    format!("the rewrite rule for `{path}` matches none of its files")
}

/// A mode in octal digits, or none.
fn octal(mode: &str) -> Result<Option<i64>, ()> {
    if mode.is_empty() {
        return Ok(None);
    }
    if !mode.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err(());
    }
    i64::from_str_radix(mode, 8).map(Some).map_err(|_| ())
}
