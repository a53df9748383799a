//! Layers from store paths, read by others: GNU tar and Python, and with a real Nix store.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::functions::greeting;
use crate::support::program::n2c_in;
use crate::support::tools::{Nix, run, skopeo};

/// Prints each entry of an archive, as JSON.
const READER: &str = r#"
import json, sys, tarfile
entries = []
with tarfile.open(sys.argv[1], encoding="utf-8", errors="surrogateescape") as archive:
    for entry in archive:
        raw = lambda text: text.encode("utf-8", "surrogateescape").hex()
        body = archive.extractfile(entry).read().hex() if entry.isreg() else ""
        entries.append([raw(entry.name), entry.type.decode(), entry.mode, entry.uid, entry.gid,
                        entry.uname, entry.gname, int(entry.mtime), raw(entry.linkname), body])
json.dump(entries, sys.stdout)
"#;

/// Writes one layer of these paths, and returns the name of its file.
fn write_layer(directory: &Path, paths: &[&str], more: &[&str]) -> String {
    let nodes: Vec<Value> =
        paths.iter().map(|path| json!({ "path": path, "references": [] })).collect();
    fs::write(directory.join("graph.json"), json!(nodes).to_string()).expect("written");
    fs::create_dir_all(directory.join("tars")).expect("made");
    let start = ["layers-from-non-reproducible-storepaths", "out.json", "graph.json"];
    let arguments = [&start, &["--tar-directory", "tars"][..], more].concat();
    n2c_in(directory, &arguments).text();
    let layers = fs::read(directory.join("out.json")).expect("layers");
    let layers: Value = serde_json::from_slice(&layers).expect("JSON");
    directory.join(layers[0]["layer-path"].as_str().expect("a file")).display().to_string()
}

/// A file of a random tree.
#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>, u32),
    Directory(u32),
    Link(Vec<u8>),
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![Just(0o444), Just(0o555), Just(0o644), Just(0o4755), 0_u32..0o1000];
    let target = vec(1_u8.., 1..150);
    prop_oneof![
        (vec(any::<u8>(), 0..2000), mode.clone()).prop_map(|(bytes, mode)| Node::File(bytes, mode)),
        // Its owner must be able to look into it.
        mode.prop_map(|mode| Node::Directory(mode | 0o700)),
        target.prop_map(Node::Link),
    ]
}

/// A component of a name: short or long, and any bytes but two.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![b'a'..=b'e', 1_u8..].prop_filter("a separator", |byte| *byte != b'/');
    prop_oneof![vec(b'a'..=b'c', 1..3), vec(byte, 1..40), vec(Just(b'n'), 90..120)]
        .prop_filter("a name that is taken", |name| *name != b"." && *name != b"..")
}

/// Makes a tree, and returns what was made, by name: later ones don't replace earlier ones.
fn make(root: &Path, nodes: Vec<(Vec<Vec<u8>>, Node)>) -> BTreeMap<Vec<u8>, Node> {
    fs::create_dir(root).expect("made");
    let mut made = BTreeMap::from([(root.as_os_str().as_bytes().to_vec(), Node::Directory(0o755))]);
    for (components, node) in nodes {
        let mut path = root.to_owned();
        path.extend(components.iter().map(|name| OsStr::from_bytes(name)));
        let parent = path.parent().expect("a parent").as_os_str().as_bytes().to_vec();
        let fits = matches!(made.get(&parent), Some(Node::Directory(_)));
        let name = path.as_os_str().as_bytes().to_vec();
        if !fits || made.contains_key(&name) || name.len() > 3000 {
            continue;
        }
        match &node {
            Node::File(bytes, _) => fs::write(&path, bytes).expect("written"),
            Node::Directory(_) => fs::create_dir(&path).expect("made"),
            Node::Link(target) => {
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &path).expect("linked");
            }
        }
        made.insert(name, node);
    }
    for (name, node) in made.iter().rev() {
        if let Node::File(_, mode) | Node::Directory(mode) = node {
            let path = Path::new(OsStr::from_bytes(name));
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).expect("set");
        }
    }
    made
}

#[test]
#[ignore = "needs python3; run `tests/run`"]
fn python_reads_any_tree_as_it_was() {
    let nodes = vec((vec(component(), 1..4), node()), 0..30);
    let strategy =
        (nodes, "[a-e/]{0,3}", any::<u16>(), prop_oneof![Just(""), Just("bob"), Just("zoë")]);
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() };
    let result = TestRunner::new(config).run(&strategy, |(nodes, part, owner, name)| {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("root");
        let tree = make(&root, nodes);
        let rules = json!([{ "path": root.display().to_string(), "regex": part, "uid": owner,
            "gid": u64::from(owner) << 12, "uname": name, "mode": "0640" }]);
        fs::write(directory.path().join("perms.json"), rules.to_string()).expect("written");
        let path = root.display().to_string();
        let file = write_layer(directory.path(), &[path.as_str()], &["--perms", "perms.json"]);
        let listed = run("python3", &["-c", READER, &file]);
        let listed: Vec<Value> = serde_json::from_slice(&listed).expect("JSON");
        // First come the directories that lead to the root of the tree.
        let above = root.components().count() - 1;
        prop_assert_eq!(listed.len(), above + tree.len());
        let mut by_name = BTreeMap::new();
        for entry in &listed[above..] {
            by_name.insert(hex(entry[0].as_str().expect("a name")), entry);
        }
        for (full, node) in tree {
            let entry = by_name[&full];
            let is_ruled =
                part.is_empty() || full.windows(part.len()).any(|window| window == part.as_bytes());
            let (kind, mode, link, body) = match &node {
                Node::File(bytes, mode) => ("0", *mode, vec![], bytes.clone()),
                Node::Directory(mode) => ("5", *mode, vec![], vec![]),
                Node::Link(target) => ("2", 0o777, target.clone(), vec![]),
            };
            let (uid, gid, user) = if is_ruled {
                (
                    u64::from(owner),
                    u64::from(owner) << 12,
                    if name.is_empty() { "root" } else { name },
                )
            } else {
                (0, 0, "root")
            };
            let expected = json!([
                encode(&full),
                kind,
                if is_ruled { 0o640 } else { mode },
                uid,
                gid,
                user,
                "root",
                1,
                encode(&link),
                encode(&body),
            ]);
            prop_assert_eq!(entry, &expected);
        }
        Ok(())
    });
    result.expect("Python reads each tree");
}

fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    digits.map(|digits| byte(digits).expect("hex")).collect()
}

/// What is in a directory: names, sizes and modes as GNU tar lists them.
fn files_in(root: &Path, files: &mut Vec<(Vec<u8>, u64)>) {
    let found = fs::symlink_metadata(root).expect("a file");
    let size = if found.is_file() { found.size() } else { 0 };
    files.push((root.as_os_str().as_bytes().to_vec(), size));
    if found.is_dir() {
        for entry in fs::read_dir(root).expect("listed") {
            files_in(&entry.expect("an entry").path(), files);
        }
    }
}

#[test]
#[ignore = "reads all of /usr/share; run `tests/run`"]
fn gnu_tar_reads_the_machines_own_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = write_layer(directory.path(), &["/usr/share"], &[]);
    let mut expected = Vec::new();
    files_in(Path::new("/usr/share"), &mut expected);
    let list = Command::new("tar")
        .args(["--list", "--verbose", "--absolute-names", "--quoting-style=escape", "-f", &file])
        .env("LC_ALL", "C")
        .output()
        .expect("tar");
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    // It has nothing to say: no odd block, no lonely zeros.
    assert_eq!(String::from_utf8_lossy(&list.stderr), "");
    let lines = String::from_utf8_lossy(&list.stdout).lines().count();
    // And `/`, and `/usr`.
    assert_eq!(lines, expected.len() + 2);
    assert!(lines > 1000, "{lines} files are too few to say something");
    let sizes: u64 = String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|line| line.starts_with('-'))
        .map(|line| {
            line.split_whitespace().nth(2).expect("a size").parse::<u64>().expect("a number")
        })
        .sum();
    assert_eq!(sizes, expected.iter().map(|(_, size)| size).sum::<u64>());
}

// Golden case 90, which needs its path in a real store.
#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_path_of_a_real_store_becomes_upstreams_layer() {
    let nix = Nix::new();
    let tree = greeting(&nix);
    let path = nix.run("nix-store", &["--add", &tree.display().to_string()]);
    assert_eq!(path, "/nix/store/blzx3mhci7ga27vqawf8m9bcrhzszbw2-greeting");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-build/90-real-store");
    for (name, more) in [("plain", &[][..]), ("root", &["--rewrites", "rewrites.json"])] {
        for file in ["g.json", "rewrites.json"] {
            fs::copy(golden.join("in").join(file), nix.directory().join(file)).expect("copied");
        }
        let start = ["layers-from-reproducible-storepaths", "out.json", "g.json"];
        let program = crate::support::program::binary().display().to_string();
        let arguments: Vec<&str> = [&start, more].concat();
        nix.run(&program, &arguments);
        let read = |path: &Path| fs::read_to_string(path).expect("layers");
        let expected = read(&golden.join(format!("out/{name}.json")));
        assert_eq!(read(&nix.directory().join("out.json")), expected);
    }
}

#[test]
#[ignore = "needs busybox, skopeo and umoci; run `tests/run`"]
fn others_read_a_copy_of_what_was_built() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::create_dir_all(path("tree/bin")).expect("made");
    fs::copy("/bin/busybox", path("tree/bin/busybox")).expect("copied");
    std::os::unix::fs::symlink("busybox", path("tree/bin/sh")).expect("linked");
    let tree = path("tree");
    let rules = json!([{ "path": tree, "regex": format!("^{tree}"), "repl": "" }]);
    fs::write(path("rewrites.json"), rules.to_string()).expect("written");
    write_layer(directory.path(), &[&tree], &["--rewrites", "rewrites.json"]);
    // The same layer, without its file.
    let start = ["layers-from-reproducible-storepaths", "layers.json", "graph.json"];
    let arguments = [&start[..], &["--rewrites", "rewrites.json"]].concat();
    n2c_in(directory.path(), &arguments).text();
    fs::write(path("config.json"), r#"{"Cmd":["/bin/sh"],"Env":["A=1"]}"#).expect("written");
    for (layers, destination) in [
        ("layers.json", "oci:layout:1"),
        ("layers.json", "docker-archive:docker.tar:acme/app:1"),
        ("out.json", "oci-archive:oci.tar:1"),
    ] {
        n2c_in(directory.path(), &["image", "image.json", "config.json", layers]).text();
        let run = n2c_in(directory.path(), &["copy", "nix:image.json", destination]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    // umoci and skopeo compare the layers with the diff IDs of the config.
    let image = format!("{}:1", path("layout"));
    run("umoci", &["unpack", "--rootless", "--image", &image, &path("bundle")]);
    let unpacked = directory.path().join("bundle/rootfs/bin");
    assert_eq!(
        fs::read(unpacked.join("sh")).expect("read"),
        fs::read("/bin/busybox").expect("read")
    );
    let skopeo = |arguments: &[&str]| String::from_utf8(skopeo(arguments)).expect("text");
    let config = |image: String| {
        let text = skopeo(&["inspect", "--config", "--raw", &image]);
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let expected = config(format!("oci:{image}"));
    assert_eq!(expected["config"], json!({ "Env": ["A=1"], "Cmd": ["/bin/sh"] }));
    assert_eq!(config(format!("oci-archive:{}:1", path("oci.tar"))), expected);
    let archive = format!("docker-archive:{}", path("docker.tar"));
    skopeo(&["copy", "--quiet", &archive, &format!("dir:{}", path("directory"))]);
    assert_eq!(config(archive)["rootfs"], expected["rootfs"]);
}
