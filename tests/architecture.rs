//! The order of the modules: each may use those in earlier rows only, so that
//! data flows one way. A change here is a change of the design.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the foundations to the top. `error` and `observer` stand beside them.
const ROWS: [&[&str]; 9] = [
    &["digest", "fs", "json", "media_type", "platform", "text", "version"],
    &["hash_thread", "reference"],
    &["sink"],
    &["decompress", "location", "manifest", "store"],
    &["image", "oci_layout", "registry"],
    &["convert", "docker_archive", "lockfile"],
    &["blob_map", "difference", "resolve"],
    &["image_json", "pull", "update", "verify"],
    &["lib"],
];

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(crate::files(&path)) } else { files.push(path) }
    }
    files
}

/// The modules of this crate that a source names, without its tests.
fn uses(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest,
        };
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let names = if rest.starts_with('{') { names.split(',').collect() } else { vec![names] };
        for name in names {
            let name = name.trim();
            let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
            if end > 0 {
                found.insert(name[..end].to_owned());
            }
        }
    }
    found
}

#[test]
fn modules_use_only_what_is_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let row = |module: &str| ROWS.iter().position(|row| row.contains(&module));
    let mut checked = 0;
    for file in files(&source) {
        let relative = file.strip_prefix(&source).expect("a file of the sources").to_owned();
        let module = relative.iter().next().and_then(|first| Path::new(first).file_stem());
        let module = module.and_then(|stem| stem.to_str()).expect("a module").to_owned();
        if ["cli", "main", "error", "observer"].contains(&module.as_str()) {
            continue;
        }
        let own =
            row(&module).unwrap_or_else(|| panic!("`{module}` is not in the table of this test"));
        for used in uses(&std::fs::read_to_string(&file).expect("a source")) {
            if used == module || ["error", "error_chain", "observer"].contains(&used.as_str()) {
                continue;
            }
            let theirs =
                row(&used).unwrap_or_else(|| panic!("`{used}`, used in {module}, is no module"));
            assert!(theirs < own, "`{module}` uses `{used}`, which is not below it");
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} uses were found: this test no longer reads the sources");
}

#[test]
fn only_the_registry_uses_the_network_and_only_the_report_prints() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files(&source) {
        let text = std::fs::read_to_string(&file).expect("a source");
        let relative = file.strip_prefix(&source).expect("a file of the sources");
        let network = text.contains("reqwest") || text.contains("TcpStream");
        assert!(
            !network || relative.starts_with("registry"),
            "{} uses the network",
            relative.display()
        );
        let prints =
            ["println!", "eprint", "stdout()", "stderr()"].iter().any(|call| text.contains(call));
        // Standard streams, as files that somebody named.
        let hands_out = relative.ends_with("fs/output.rs");
        assert!(
            !prints || hands_out || relative.starts_with("cli/report"),
            "{} prints",
            relative.display()
        );
    }
}
