//! `n2c copy` of images that were built from store paths.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use n2c::oci::digest::{Algorithm, Digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::program::{Run, n2c_in, peak_memory};

const MIB: usize = 1 << 20;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// A directory with a tree, and the image.json of an image that has it at its root.
fn built(size: usize) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("bin")).expect("made");
    fs::write(tree.join("bin/tool"), vec![7; size]).expect("written");
    symlink("tool", tree.join("bin/link")).expect("linked");
    let write = |name: &str, value: Value| {
        fs::write(directory.path().join(name), value.to_string()).expect("written");
    };
    write("graph.json", json!([{ "path": tree, "narSize": 1, "references": [] }]));
    let regex = format!("^{}", tree.display());
    write("rewrites.json", json!([{ "path": tree, "regex": regex, "repl": "" }]));
    write("config.json", json!({ "Cmd": ["/bin/tool", "<&>"], "Env": ["A=1"] }));
    let arguments = [
        "layers-from-reproducible-storepaths",
        "layers.json",
        "graph.json",
        "--rewrites",
        "rewrites.json",
    ];
    n2c_in(directory.path(), &arguments).text();
    let arguments = ["image", "image.json", "config.json", "layers.json", "--arch", "arm64"];
    n2c_in(directory.path(), &arguments).text();
    (directory, tree)
}

fn copy(directory: &TempDir, destination: &str) -> Run {
    n2c_in(directory.path(), &["copy", "nix:image.json", destination])
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn layers_are_made_again_from_their_store_paths() {
    let (directory, _) = built(100);
    assert_eq!(copy(&directory, "oci:layout:1").code, 0);
    let layout = directory.path().join("layout");
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    };
    let index = read(&layout.join("index.json"));
    let manifest = read(&blob(&index["manifests"][0]));
    let layer = &read(&directory.path().join("image.json"))["layers"][0];
    let digest = Digest::of_file(Algorithm::Sha256, &blob(&manifest["layers"][0]));
    assert_eq!(layer["digest"], digest.expect("read").to_string());
    assert_eq!(manifest["layers"][0]["size"], layer["size"]);
    // As nix2container's skopeo writes it, in the order of Go's fields.
    let config = fs::read_to_string(blob(&manifest["config"])).expect("a config");
    let expected = format!(
        "{{\"created\":\"0001-01-01T00:00:00Z\",\"architecture\":\"arm64\",\"os\":\"linux\",\
         \"config\":{{\"Env\":[\"A=1\"],\"Cmd\":[\"/bin/tool\",\"\\u003c\\u0026\\u003e\"]}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}},\"history\":[{{}}]}}",
        layer["digest"]
    );
    assert_eq!(config, expected);
    // The other formats hold the same. A file that ends in `.json` is an image.json.
    assert_eq!(n2c_in(directory.path(), &["copy", "image.json", "oci:layout:1"]).code, 0);
    let other = n2c_in(directory.path(), &["copy", "oci:image.json", "dir:other"]);
    assert!(other.stderr.contains("image.json/oci-layout"), "{}", other.stderr);
    for destination in ["dir:directory", "oci-archive:oci.tar", "docker-archive:docker.tar:x:1"] {
        assert_eq!(copy(&directory, destination).code, 0, "{destination}");
    }
    let same = read(&directory.path().join("directory/manifest.json"));
    assert_eq!(same, manifest);
}

#[test]
fn layers_may_be_files_whose_sizes_are_unknown() {
    let (directory, _) = built(100);
    assert_eq!(copy(&directory, "dir:pulled").code, 0);
    let image = directory.path().join("image.json");
    let mut json = read(&image);
    let digest = json["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let file = directory.path().join("pulled").join(digest.trim_start_matches("sha256:"));
    // As upstream describes a layer that was pulled.
    let layer = json["layers"][0].as_object_mut().expect("a layer");
    layer.remove("paths");
    layer.insert("size".to_owned(), json!(0));
    layer.insert("layer-path".to_owned(), json!(file));
    fs::write(&image, json.to_string()).expect("written");
    assert_eq!(copy(&directory, "dir:again").code, 0);
    let [first, second] = ["pulled", "again"]
        .map(|name| fs::read(directory.path().join(name).join("manifest.json")).expect("read"));
    assert_eq!(first, second);
    // A pipe, into which nobody ever writes.
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).expect("a pipe");
    let layer = json["layers"][0].as_object_mut().expect("a layer");
    layer.insert("layer-path".to_owned(), json!(pipe));
    layer.insert("size".to_owned(), json!(1));
    fs::write(&image, json.to_string()).expect("written");
    let run = copy(&directory, "dir:piped");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("it is not a regular file"), "{}", run.stderr);
    // A layer that says nothing of its content.
    let layer = json["layers"][0].as_object_mut().expect("a layer");
    layer.remove("layer-path");
    fs::write(&image, json.to_string()).expect("written");
    let run = copy(&directory, "dir:none");
    assert_eq!(run.code, 8);
    assert!(run.stderr.contains("does not say what layer"), "{}", run.stderr);
}

#[test]
fn store_paths_that_changed_are_never_copied() {
    // What is as long as before, longer, shorter, and more than a piece longer.
    for content in [vec![8; 100], vec![7; 1000], vec![], vec![7; MIB]] {
        let (directory, tree) = built(100);
        fs::write(tree.join("bin/tool"), content).expect("written");
        for destination in ["oci-archive:image.tar", "docker-archive:image.tar"] {
            let run = copy(&directory, destination);
            assert_eq!((run.code, run.stdout.as_slice()), (8, &b""[..]), "{}", run.stderr);
            let expected = format!("can't be made again from `{}`", tree.display());
            assert!(run.stderr.contains(&expected), "{}", run.stderr);
            assert!(run.stderr.contains("hint: build the image again"), "{}", run.stderr);
        }
        let left = names(directory.path());
        assert!(left.iter().all(|name| !name.contains("image.tar")), "{left:?}");
    }
    let (directory, tree) = built(100);
    fs::remove_dir_all(&tree).expect("removed");
    let run = copy(&directory, "oci-archive:image.tar");
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("nix copy"), "{}", run.stderr);
}

#[test]
fn only_the_platform_of_the_image_can_be_asked_for() {
    let (directory, _) = built(1);
    let run = |platform: &str| {
        let arguments = ["copy", "nix:image.json", "dir:out", "--platform", platform];
        n2c_in(directory.path(), &arguments)
    };
    assert_eq!(run("linux/amd64").code, 2);
    assert!(!directory.path().join("out").exists());
    assert_eq!(run("linux/arm64").code, 0);
}

#[test]
fn memory_does_not_grow_with_a_layer() {
    let (directory, _) = built(100 * MIB);
    let arguments = ["copy", "nix:image.json", "oci-archive:image.tar"];
    let (run, peak) = peak_memory(directory.path(), &arguments);
    assert_eq!(run.code, 0);
    assert!(peak < 32 << 10, "{peak} KiB");
}
