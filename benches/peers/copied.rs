//! Images of store paths, and how they are copied into a registry.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::support::program::n2c_in;
use crate::{Contender, Work};

const N2C: &str = env!("CARGO_BIN_EXE_n2c");
/// How many layers of programs and libraries there are, and how many bytes each has.
const LAYERS: usize = 10;
const LAYER_SIZE: u64 = 40_000_000;
/// What of this machine goes into them: content that compresses as store paths do.
const SOURCES: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/usr/bin", "/usr/sbin", "/usr/share"];

/// Makes the trees, `plain.json` of them, `recorded.json` with what they compress to,
/// `changed.json` with another top layer, and the layout `layout` with plain layers.
pub(crate) fn prepare() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let mut files = Vec::new();
    for source in SOURCES {
        collect(Path::new(source), &mut files);
    }
    let mut files = files.into_iter();
    for number in 0..LAYERS {
        let tree = here.join(number.to_string());
        fs::create_dir(&tree).expect("made");
        let mut size = 0;
        for (index, (path, length)) in files.by_ref().enumerate() {
            // Some files can't be read by everybody.
            if fs::copy(&path, tree.join(index.to_string())).is_ok() {
                size += length;
            }
            if size >= LAYER_SIZE {
                break;
            }
        }
    }
    for (top, text) in [("top", "one"), ("other", "two")] {
        fs::create_dir(here.join(top)).expect("made");
        let content = text.repeat(300_000);
        fs::write(here.join(top).join("file"), content).expect("written");
    }
    fs::write(here.join("config.json"), "{}").expect("written");
    build(here, "plain.json", "top", &[]);
    build(here, "recorded.json", "top", &["--compress", "gzip"]);
    build(here, "changed.json", "other", &["--compress", "gzip"]);
    for name in ["plain", "changed"] {
        let source = format!("{name}.json");
        let run = n2c_in(here, &["copy", &source, &format!("oci:{name}:1")]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    directory
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            collect(&path, files);
        } else if found.is_file() && (10_000..8_000_000).contains(&found.len()) {
            files.push((path, found.len()));
        }
    }
}

fn build(here: &Path, name: &str, top: &str, options: &[&str]) {
    let mut arguments = vec!["image".to_owned(), name.to_owned(), "config.json".to_owned()];
    for tree in (0..LAYERS).map(|number| number.to_string()).chain([top.to_owned()]) {
        let graph = json!([{ "path": here.join(&tree), "references": [] }]);
        fs::write(here.join("graph.json"), graph.to_string()).expect("written");
        let layers = format!("{name}.{tree}");
        let start = ["layers-from-reproducible-storepaths", &layers, "graph.json"];
        n2c_in(here, &[&start[..], options].concat()).text();
        arguments.push(layers);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    n2c_in(here, &arguments).text();
}

/// The works, into the registry at `host`, which has an image of four large layers, and which is
/// also at `far`, 50 ms away.
pub(crate) fn works(here: &Path, host: &str, far: &str) -> Vec<Work> {
    let here = here.display();
    // A machine that remembers nothing.
    let forget = "rm -f /var/lib/containers/cache/blob-info-cache-*".to_owned();
    let n2c = |prepare: &str, arguments: String| Contender {
        name: "n2c",
        prepare: prepare.to_owned(),
        script: Some(format!("XDG_CACHE_HOME=$PWD/cache {N2C} --quiet copy {arguments}")),
        times: 1.0,
    };
    let skopeo = |prepare: String, arguments: String| Contender {
        name: "skopeo",
        prepare: format!("{forget}; {prepare}"),
        script: Some(format!(
            "skopeo copy --quiet --dest-tls-verify=false --src-tls-verify=false {arguments}"
        )),
        times: 1.0,
    };
    let fresh = format!("docker://{host}/fresh/$(date +%s%N):1");
    let (own, other) =
        (format!("docker://{host}/bench/own:1"), format!("docker://{host}/bench/skopeo:1"));
    let image = |name: &str| format!("{here}/{name}.json");
    let layout = |name: &str| format!("oci:{here}/{name}:1");
    let four = format!("docker://{host}/bench/four:1");
    let before = |name: &str| format!("{N2C} --quiet copy {} {own}", image(name));
    let push = |name: &str| {
        format!("skopeo copy --quiet --dest-tls-verify=false {} {other}; {forget}", layout(name))
    };
    vec![
        Work {
            name: "copy, first push, 400 MB of store paths, gzip",
            contenders: vec![
                n2c("true", format!("{} {fresh}", image("plain"))),
                skopeo("true".to_owned(), format!("{} {fresh}", layout("plain"))),
            ],
        },
        Work {
            name: "copy, the same, zstd against gzip",
            contenders: vec![
                n2c("true", format!("{} {fresh} --compress zstd", image("plain"))),
                skopeo("true".to_owned(), format!("{} {fresh}", layout("plain"))),
            ],
        },
        Work {
            name: "copy, unchanged, on a machine that never copied it",
            contenders: vec![
                n2c(&before("recorded"), format!("{} {own}", image("recorded"))),
                skopeo(push("plain"), format!("{} {other}", layout("plain"))),
            ],
        },
        Work {
            name: "copy, 1 MB of 400 MB changed, on such a machine",
            contenders: vec![
                n2c(&before("recorded"), format!("{} {own}", image("changed"))),
                skopeo(push("plain"), format!("{} {other}", layout("changed"))),
            ],
        },
        Work {
            name: "copy, unchanged, on such a machine, 50 ms away",
            contenders: vec![
                n2c(
                    &before("recorded"),
                    format!("{} docker://{far}/bench/own:1", image("recorded")),
                ),
                skopeo(push("plain"), format!("{} docker://{far}/bench/skopeo:1", layout("plain"))),
            ],
        },
        Work {
            name: "copy, 1 MB of 400 MB changed, on such a machine, 50 ms away",
            contenders: vec![
                n2c(
                    &before("recorded"),
                    format!("{} docker://{far}/bench/own:1", image("changed")),
                ),
                skopeo(
                    push("plain"),
                    format!("{} docker://{far}/bench/skopeo:1", layout("changed")),
                ),
            ],
        },
        Work {
            name: "copy, registry to registry, 4 × 100 MB",
            contenders: vec![
                n2c("true", format!("{four} {fresh} --platform linux/amd64")),
                skopeo("true".to_owned(), format!("{four} {fresh}")),
            ],
        },
    ]
}
