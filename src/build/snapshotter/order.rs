//! The order in which a node mounts store paths.
//!
//! From version 2.3 on, containerd looks for users in what was mounted last, and can't start a
//! container if that is a file (`internal/fsview`).

use std::collections::BTreeSet;
use std::path::Path;

use crate::formats::layers::PathRecord;

/// Where users are looked up in a tree.
const USERS: &str = "etc/passwd";

/// Store paths in the order of their names, but with a directory last if there is one: the one
/// with the users, if one has them.
pub(super) fn with_directory_last<'a>(paths: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let mut ordered: Vec<&str> = paths.iter().copied().collect();
    let has_users = |path: &&str| Path::new(path).join(USERS).exists();
    let is_directory = |path: &&str| Path::new(path).is_dir();
    let last = ordered.iter().rposition(has_users);
    if let Some(last) = last.or_else(|| ordered.iter().rposition(is_directory)) {
        let path = ordered.remove(last);
        ordered.push(path);
    }
    ordered
}

/// The text of the list in the closure-info `own`: one store path in a line. If all others are
/// files, the closure-info itself is the last one.
#[must_use]
pub fn store_paths_text(own: &str, records: &[PathRecord]) -> String {
    let paths: BTreeSet<&str> = records.iter().map(|record| record.path.as_str()).collect();
    let mut ordered = with_directory_last(&paths);
    if ordered.last().is_some_and(|last| !Path::new(last).is_dir()) {
        ordered.push(own);
    }
    ordered.into_iter().flat_map(|path| [path, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_is_mounted_last() {
        let store = tempfile::tempdir().expect("a directory");
        let path = |name: &str| store.path().join(name).display().to_string();
        let [tree, users, file] = ["tree", "etc", "z"].map(path);
        fs::write(&file, "").expect("written");
        let text = |paths: &[&str]| {
            let record = |path: &&str| PathRecord { path: (*path).to_owned(), options: None };
            store_paths_text("own", &paths.iter().map(record).collect::<Vec<_>>())
        };
        assert_eq!(text(&[&file]), format!("{file}\nown\n"));
        fs::create_dir(&tree).expect("made");
        assert_eq!(text(&[&file, &tree]), format!("{file}\n{tree}\n"));
        fs::create_dir_all(Path::new(&users).join("etc")).expect("made");
        fs::write(Path::new(&users).join(USERS), "").expect("written");
        assert_eq!(text(&[&file, &tree, &users]), format!("{tree}\n{file}\n{users}\n"));
    }
}
