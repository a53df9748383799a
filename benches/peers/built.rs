//! Store paths that layers are made of.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use rand::RngExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The store paths in the graph that is measured.
const PATHS: usize = 20_000;
/// What each of them refers to, on average.
const REFERENCES: usize = 10;

/// Makes a few large files, many small ones, and the graphs that name them.
pub(crate) fn prepare() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    large(&here.join("large"));
    small(&here.join("small"));
    let node = |name: &str, references: &[Value]| json!({ "path": here.join(name).display().to_string(), "references": references });
    let write = |name: &str, value: Value| {
        fs::write(here.join(name), value.to_string()).expect("written");
    };
    write("large.json", json!([node("large", &[])]));
    write("small.json", json!([node("small", &[])]));
    let eight: Vec<Value> = (0..8).map(|number| node(&format!("large/{number}"), &[])).collect();
    write("eight.json", json!(eight));
    let rules: Vec<Value> = (0..40)
        .map(|number| {
            let regex = format!("/{number}.*/{number}$");
            json!({ "path": here.join("small").display().to_string(), "regex": regex, "mode": "0755" })
        })
        .collect();
    write("perms.json", json!(rules));
    fs::create_dir(here.join("graph")).expect("made");
    let mut random = rand::rng();
    let mut nodes = Vec::new();
    for number in 0..PATHS {
        let name = format!("graph/{number:05}");
        fs::write(here.join(&name), []).expect("written");
        // Paths refer to earlier ones only.
        let count = if number == 0 { 0 } else { REFERENCES };
        let references: Vec<Value> = (0..count)
            .map(|_| {
                let other = format!("graph/{:05}", random.random_range(0..number));
                here.join(other).display().to_string().into()
            })
            .collect();
        nodes.push(node(&name, &references));
    }
    write("graph.json", json!(nodes));
    directory
}

/// 2 GB in 8 files.
fn large(folder: &Path) {
    fs::create_dir(folder).expect("made");
    let mut block = vec![0; 1 << 20];
    for number in 0..8 {
        rand::rng().fill(&mut block[..]);
        let mut file = fs::File::create(folder.join(number.to_string())).expect("made");
        for _ in 0..256 {
            file.write_all(&block).expect("written");
        }
    }
}

/// 50,000 files of up to 2 kB.
fn small(folder: &Path) {
    for outer in 0..500 {
        let folder = folder.join(outer.to_string());
        fs::create_dir_all(&folder).expect("made");
        for inner in 0..100 {
            fs::write(folder.join(inner.to_string()), vec![b'x'; inner * 37 % 2000])
                .expect("written");
        }
    }
}
