//! The library's modules, in layers called floors: a module may use only modules on lower
//! floors, so that data flows one way. The order is defined only here; changing it changes
//! the design.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The top-level modules, called rooms, of each floor, from bottom to top. A room may use
/// rooms on lower floors, but no other room on its own floor.
const FLOORS: [&[&str]; 10] = [
    &["cleanup", "environment", "error", "text"],
    &["fs", "json"],
    &["oci"],
    &["observer", "stream"],
    &["registry", "store"],
    &["formats"],
    &["build"],
    &["source"],
    &["resolve", "serve"],
    &["copy", "upkeep"],
];

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// The top-level modules of this crate that a source file uses outside its tests.
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

/// The room of a source file: its folder below `src`, or the file itself.
fn room(source: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(source).expect("a file of the sources");
    let first = relative.iter().next().map(Path::new).and_then(Path::file_stem);
    first.and_then(|stem| stem.to_str()).expect("a room").to_owned()
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut checked = 0;
    for file in files(&source) {
        let own = room(&source, &file);
        // The program is above the library, and uses it from outside.
        if ["cli", "main", "lib"].contains(&own.as_str()) {
            continue;
        }
        let height = floor(&own).unwrap_or_else(|| panic!("`{own}` is missing from `FLOORS`"));
        for used in uses(&std::fs::read_to_string(&file).expect("a source")) {
            // The crate root re-exports this function.
            let used = if used == "error_chain" { "error".to_owned() } else { used };
            if used == own {
                continue;
            }
            let theirs =
                floor(&used).unwrap_or_else(|| panic!("`{used}`, used in `{own}`, is not a room"));
            assert!(theirs < height, "{}: `{used}` is not below `{own}`", file.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} uses were found: this test no longer reads the sources");
}

#[test]
fn only_the_registry_uses_the_network_and_only_the_report_prints() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = ["registry", "serve", "copy/engines"];
    for file in files(&source) {
        let text = std::fs::read_to_string(&file).expect("a source");
        let relative = file.strip_prefix(&source).expect("a file of the sources");
        let network = ["reqwest", "hyper::", "TcpStream", "TcpListener"]
            .iter()
            .any(|name| text.contains(name));
        assert!(
            !network || rooms.iter().any(|room| relative.starts_with(room)),
            "{} uses the network",
            relative.display()
        );
        let prints =
            ["println!", "eprint", "stdout()", "stderr()"].iter().any(|call| text.contains(call));
        // This opens standard streams that were named as output files.
        let hands_out = relative.ends_with("fs/output.rs");
        assert!(
            !prints || hands_out || relative.starts_with("cli/report"),
            "{} prints",
            relative.display()
        );
    }
}

#[test]
fn only_one_file_reads_environment_variables() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files(&source) {
        let text = std::fs::read_to_string(&file).expect("a source");
        let reads = text.contains("env::var");
        assert_eq!(reads, file == source.join("environment.rs"), "{}", file.display());
    }
}

/// The files of the crate's modules, by module path, such as `registry::auth::token`.
fn modules(source: &Path) -> BTreeMap<String, PathBuf> {
    let path = |file: &PathBuf| {
        let relative = file.strip_prefix(source).expect("a file of the sources");
        let parts = relative.with_extension("");
        let mut parts: Vec<&str> = parts.iter().filter_map(|part| part.to_str()).collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        parts.join("::")
    };
    files(source).into_iter().map(|file| (path(&file), file)).collect()
}

/// The modules that the `use` lines of `module` import from: the innermost of each path.
fn imports(module: &str, text: &str, modules: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    let uses = code.split("\nuse ").skip(1).filter_map(|rest| rest.split(';').next());
    for line in uses {
        let line: String = line.split_whitespace().collect();
        let (head, names) = line.split_once('{').unwrap_or((&line, ""));
        let names: Vec<&str> = names.trim_end_matches('}').split(',').collect();
        for name in names {
            let written = format!("{head}{name}");
            let mut base: Vec<&str> = module.split("::").collect();
            let mut parts: Vec<&str> =
                written.split("::").filter(|part| !part.is_empty()).collect();
            match parts.first() {
                Some(&"crate") => base.clear(),
                Some(&"super") => {}
                _ => continue,
            }
            while parts.first() == Some(&"super") {
                // This is right for a `mod.rs` too: its module path is its folder's.
                base.pop();
                parts.remove(0);
            }
            if parts.first() == Some(&"crate") {
                parts.remove(0);
            }
            base.extend(parts);
            let inner = (1..=base.len()).rev().map(|length| base[..length].join("::"));
            found.extend(inner.into_iter().find(|path| modules.contains_key(path)));
        }
    }
    found.remove(module);
    found
}

/// Follows imports from `module`, and panics if they form a circle.
fn walk<'a>(
    module: &'a str,
    graph: &'a BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) {
    if let Some(start) = way.iter().position(|earlier| *earlier == module) {
        panic!("circular imports: {} → {module}", way[start..].join(" → "));
    }
    if done.contains(module) {
        return;
    }
    way.push(module);
    for used in graph.get(module).into_iter().flatten() {
        // A `mod.rs` uses the modules in its folder, and they may use what it defines.
        if !module.starts_with(&format!("{used}::")) {
            walk(used, graph, way, done);
        }
    }
    way.pop();
    done.insert(module);
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = modules(&source);
    let graph: BTreeMap<String, BTreeSet<String>> = modules
        .iter()
        .map(|(module, file)| {
            let text = std::fs::read_to_string(file).expect("a source");
            (module.clone(), imports(module, &text, &modules))
        })
        .collect();
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 200, "only {edges} imports were found: this test no longer reads the sources");
    let mut done = BTreeSet::new();
    for module in graph.keys() {
        walk(module, &graph, &mut Vec::new(), &mut done);
    }
}
