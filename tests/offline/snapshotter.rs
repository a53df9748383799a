//! Images for nix-snapshotter: mount points and links with its own bytes, and what must not
//! become an image.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::Image;
use crate::support::program::{Run, n2c_in, n2c_with};
use crate::support::pushable::Pushable;
use crate::support::registry::Registry;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden-snapshotter");
/// The store of the golden cases: links in their layers hold its paths.
const STORE: &str = "/tmp/n2c-golden-store";

const TREE: &str = "00000000000000000000000000000001-dir-a";
const LONG: &str = "00000000000000000000000000000002-a-directory-with-a-name-so-long-that-the-name-in-the-tar-is-over-one-hundred-bytes";
const FILE: &str = "00000000000000000000000000000003-plain-file.sh";
const ROOT: &str = "00000000000000000000000000000004-root";
const SECOND_ROOT: &str = "0000000000000000000000000000000d-second-root-sharing-bin";

/// A directory with a store, and layers.json files of its paths.
struct Store {
    directory: TempDir,
    store: PathBuf,
}

impl Store {
    fn in_directory(store: PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let new = Self { directory, store };
        new.write("config.json", "{}");
        new
    }

    fn new() -> Self {
        let mut new = Self::in_directory(PathBuf::new());
        new.store = new.directory.path().join("store");
        fs::create_dir(&new.store).expect("made");
        new
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).expect("written");
    }

    fn read(&self, name: &str) -> Value {
        json_file(&self.directory.path().join(name))
    }

    fn path(&self, name: &str) -> String {
        self.store.join(name).display().to_string()
    }

    /// A tree with these files, or a file if the only name is empty.
    fn add(&self, name: &str, files: &[&str]) -> String {
        for file in files {
            let path = if file.is_empty() {
                self.store.join(name)
            } else {
                self.store.join(name).join(file)
            };
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, file).expect("written");
        }
        fs::create_dir_all(&self.store).expect("made");
        self.path(name)
    }

    fn closure_info(&self, number: u32, paths: &[&str]) -> String {
        let name = format!("{number:032}-closure-info");
        let path = self.add(&name, &["store-paths"]);
        let text = paths.join("\n") + "\n";
        fs::write(Path::new(&path).join("store-paths"), text).expect("written");
        path
    }

    /// Writes a layers.json with these paths, of which some go to the root.
    fn layers(&self, paths: &[&str], roots: &[&str]) {
        let nothing = format!("sha256:{}", "0".repeat(64));
        let record = |path: &&str| {
            if roots.contains(path) {
                let rewrite = json!({ "regex": format!("^{path}"), "repl": "" });
                json!({ "path": path, "options": { "rewrite": rewrite } })
            } else {
                json!({ "path": path })
            }
        };
        let layer = json!({
            "digest": nothing, "diff_ids": nothing, "size": 1,
            "paths": paths.iter().map(record).collect::<Vec<_>>(),
            "mediatype": "application/vnd.oci.image.layer.v1.tar", "History": {},
        });
        self.write("layers.json", &json!([layer]).to_string());
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let store = self.store.display().to_string();
        n2c_with(self.directory.path(), arguments, &[("NIX_STORE_DIR", store.as_str())])
    }

    /// Makes an image, and returns its last layer.
    #[track_caller]
    fn image(&self, output: &str, more: &[&str]) -> Value {
        let run = self.try_image(output, more);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        self.last_layer(output)
    }

    fn last_layer(&self, image: &str) -> Value {
        self.read(image)["layers"].as_array().expect("layers").last().expect("a layer").clone()
    }

    fn try_image(&self, output: &str, more: &[&str]) -> Run {
        let arguments = ["image", output, "config.json", "layers.json", "--arch", "amd64"];
        self.run(&[&arguments, more].concat())
    }

    fn manifest(&self, layout: &str) -> Value {
        let layout = self.directory.path().join(layout);
        let index = json_file(&layout.join("index.json"));
        blob(&layout, index["manifests"][0]["digest"].as_str().expect("a digest"))
    }
}

fn blob(layout: &Path, digest: &str) -> Value {
    json_file(&layout.join("blobs").join(digest.replace(':', "/")))
}

fn golden(name: &str) -> Value {
    json_file(&Path::new(GOLDEN).join(name))
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// The trees of the golden cases.
fn golden_store() -> Store {
    let store = Store::in_directory(STORE.into());
    if Path::new(STORE).exists() {
        fs::remove_dir_all(STORE).expect("removed");
    }
    store.add(TREE, &["bin/a"]);
    store.add(LONG, &["share/doc/b"]);
    store.add(FILE, &[""]);
    let long = "share/a-file-whose-path-in-the-store-is-longer-than-one-hundred-bytes-so-the-link-target-needs-pax";
    let root = store.add(ROOT, &["bin/x", "a/b/c/deep", "a-b", "etc/grüße-日本.txt", long]);
    fs::create_dir(Path::new(&root).join("empty")).expect("made");
    symlink("x", Path::new(&root).join("bin/y")).expect("linked");
    let second = store.add(SECOND_ROOT, &["bin/z", "a/b/other", "lib/l"]);
    symlink("l", Path::new(&second).join("lib/m")).expect("linked");
    symlink("../bin", Path::new(&second).join("lib/dirlink")).expect("linked");
    store
}

/// The names in the layer of an image.
fn names(store: &Store, image: &str) -> Vec<String> {
    let layout = format!("oci:{image}.layout:1");
    store.run(&["copy", "--quiet", &format!("nix:{image}"), &layout]).text();
    let manifest = store.manifest(&format!("{image}.layout"));
    let layers = manifest["layers"].as_array().expect("layers");
    let digest = layers.last().expect("a layer")["digest"].as_str().expect("text");
    let path = store.directory.path().join(format!("{image}.layout/blobs"));
    let file = fs::File::open(path.join(digest.replace(':', "/"))).expect("a layer");
    let mut archive = tar::Archive::new(file);
    let name = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let entry = entry.expect("an entry");
        String::from_utf8_lossy(&entry.path_bytes()).into_owned()
    };
    archive.entries().expect("entries").map(name).collect()
}

#[test]
fn layers_have_nix_snapshotters_bytes() {
    let store = golden_store();
    let [tree, long, file, root, second] =
        [TREE, LONG, FILE, ROOT, SECOND_ROOT].map(|name| store.path(name));
    let paths = [&*tree, &long, &file, &root, &second];
    for (case, count, roots) in [
        ("mount-points", 3, &[][..]),
        ("root", 4, &[&*root][..]),
        ("two-roots", 5, &[&*root, &*second][..]),
    ] {
        let paths = &paths[..count];
        // The order of layers makes no difference.
        let reversed: Vec<&str> = paths.iter().rev().copied().collect();
        store.layers(&reversed, roots);
        let expected = golden(&format!("{case}.json"));
        let made = store.image("legacy.json", &["--snapshotter", "legacy"]);
        if case == "mount-points" {
            // The last one would be a file, after which containerd 2.3 can't start anything.
            let values = |annotations: &Value| {
                let all = annotations.as_object().expect("annotations").values();
                all.map(ToString::to_string).collect::<BTreeSet<_>>()
            };
            assert_eq!(values(&made["annotations"]), values(&expected["legacy"]));
            assert_eq!(made["annotations"]["containerd.io/snapshot/nix-store-path.2"], long);
        } else {
            assert_eq!(made["annotations"], expected["legacy"], "{case}");
        }
        assert_eq!(made["diff_ids"], expected["diffId"], "{case}");
        assert_eq!(made["content"], "mount-points");
        let number = u32::try_from(count).expect("a number");
        let info = store.closure_info(number, paths);
        let arguments = ["--snapshotter", "closure", "--closure-info", &info];
        let run = store.try_image("closure.json", &arguments);
        // A list that somebody else made is used as it is.
        assert_eq!(run.stderr.contains("is a file"), case == "mount-points", "{}", run.stderr);
        let made = store.last_layer("closure.json");
        let key = "containerd.io/snapshot/nix-closure";
        assert_eq!(expected["closure"].as_object().map(|all| all.contains_key(key)), Some(true));
        assert_eq!(made["annotations"], json!({ key: info }), "{case}");
        // The same, and a mount point that tells closures apart.
        let own = format!("{}/", &info[1..]);
        let mut closure = names(&store, "closure.json");
        assert!(closure.contains(&own), "{closure:?}");
        closure.retain(|name| *name != own);
        assert_eq!(closure, names(&store, "legacy.json"));
        for image in ["closure", "legacy"] {
            let layout = store.directory.path().join(format!("{image}.json.layout"));
            fs::remove_dir_all(layout).expect("removed");
        }
    }
    fs::remove_dir_all(STORE).expect("removed");
}

// A snapshot belongs to all images with equal layers, whatever their annotations.
#[test]
fn layers_of_different_closures_differ() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    let [one, other] = [1, 2].map(|number| store.closure_info(number, &[&path]));
    store.layers(&[&path], &[]);
    let closure =
        |info: &str| store.image("x.json", &["--snapshotter", "closure", "--closure-info", info]);
    let (one, other) = (closure(&one), closure(&other));
    let legacy = store.image("x.json", &["--snapshotter", "legacy"]);
    let digest = |layer: &Value| layer["digest"].as_str().expect("a digest").to_owned();
    assert_ne!(digest(&one), digest(&other));
    assert_ne!(digest(&one), digest(&legacy));
}

#[test]
fn rules_and_conflicts_are_what_they_are_in_layers() {
    let store = Store::new();
    let (root, second) =
        (store.add(ROOT, &["bin/x", "spool/.keep"]), store.add(SECOND_ROOT, &["bin/x"]));
    store.layers(&[&root, &second], &[&root]);
    let mut layers = store.read("layers.json");
    layers[0]["paths"][0]["options"]["perms"] = json!([
        { "regex": "/spool$", "mode": "1777", "uid": 7, "gid": 8, "uname": "u", "gname": "g" },
        { "regex": "/bin/x$", "mode": "0700" },
    ]);
    layers[0]["paths"][0]["options"]["excludes"] = json!(["/\\.keep$"]);
    store.write("layers.json", &layers.to_string());
    let run = store.try_image("x.json", &["--snapshotter", "legacy"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("changes no directory"), "{}", run.stderr);
    store.run(&["copy", "--quiet", "nix:x.json", "oci:layout:1"]).text();
    let digest = store.manifest("layout")["layers"][0]["digest"].clone();
    let blobs = store.directory.path().join("layout/blobs");
    let path = blobs.join(digest.as_str().expect("text").replace(':', "/"));
    let mut archive = tar::Archive::new(fs::File::open(path).expect("a layer"));
    let entries = archive.entries().expect("entries").map(|entry| entry.expect("an entry"));
    let found: Vec<(String, u32, u64, String)> = entries
        .map(|entry| {
            let header = entry.header();
            let user = header.username().expect("text").unwrap_or_default().to_owned();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            (name, header.mode().expect("a mode"), header.uid().expect("a number"), user)
        })
        .filter(|(name, ..)| name.starts_with("bin/") || name.starts_with("spool/"))
        .collect();
    let plain = |name: &str, mode| (name.to_owned(), mode, 0, String::new());
    let spool = ("spool/".to_owned(), 0o1777, 7, "u".to_owned());
    assert_eq!(found, [plain("bin/", 0o755), plain("bin/x", 0o777), spool]);
    // The second one wins, and says so.
    store.layers(&[&root, &second], &[&root, &second]);
    let run = store.try_image("x.json", &["--snapshotter", "legacy"]);
    assert!(run.code == 0 && run.stderr.contains("which wins"), "{}", run.stderr);
    // A link and a directory can't be in one place.
    let third = store.add(FILE, &["bin"]);
    store.layers(&[&root, &third], &[&root, &third]);
    let run = store.try_image("new.json", &["--snapshotter", "legacy"]);
    assert!(run.error(1).contains("differ in their type"), "{}", run.stderr);
    assert!(!store.directory.path().join("new.json").exists());
}

#[test]
fn a_rewrite_without_effect_is_named() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    store.layers(&[&path], &[&path]);
    let mut layers = store.read("layers.json");
    let rewrite = &mut layers[0]["paths"][0]["options"]["rewrite"];
    rewrite["regex"] = json!("nothing of the kind");
    store.write("layers.json", &layers.to_string());
    let run = store.try_image("x.json", &["--snapshotter", "legacy"]);
    assert!(run.code == 0 && run.stderr.contains("matches none of its files"), "{}", run.stderr);
    // No name has a NUL.
    layers[0]["paths"][0]["options"]["rewrite"] = json!({ "regex": "^.*/bin", "repl": "a\u{0}b" });
    store.write("layers.json", &layers.to_string());
    let run = store.try_image("new.json", &["--snapshotter", "legacy"]);
    assert!(run.error(1).contains("failed to add"), "{}", run.stderr);
}

// containerd 2.3 can't start what mounts a file last.
#[test]
fn a_closure_of_files_gets_a_directory() {
    let store = Store::new();
    let file = store.add(FILE, &[""]);
    let info = store.closure_info(1, &[&file]);
    store.layers(&[&file], &[]);
    let run = store.try_image("x.json", &["--snapshotter", "legacy"]);
    assert!(run.code == 0 && run.stderr.contains("all store paths are files"), "{}", run.stderr);
    let with_info = ["--snapshotter", "legacy", "--closure-info", &info];
    let layer = store.image("x.json", &with_info);
    assert_eq!(layer["annotations"]["containerd.io/snapshot/nix-store-path.0"], file);
    assert_eq!(layer["annotations"]["containerd.io/snapshot/nix-store-path.1"], info);
    assert!(names(&store, "x.json").contains(&format!("{}/", &info[1..])));
    // It isn't needed beside a directory.
    let tree = store.add(TREE, &["bin/a"]);
    store.layers(&[&file, &tree], &[]);
    let layer = store.image("x.json", &with_info);
    assert_eq!(layer["annotations"]["containerd.io/snapshot/nix-store-path.1"], tree);
    assert_eq!(layer["annotations"].as_object().map(serde_json::Map::len), Some(3));
}

#[test]
fn deep_trees_are_no_more_work_than_they_have_files() {
    let store = Store::new();
    let files: Vec<String> = (0..300).map(|n| format!("{}f{n}", "d/".repeat(900))).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let path = store.add(TREE, &files);
    store.layers(&[&path], &[&path]);
    let layer = store.image("x.json", &["--snapshotter", "legacy"]);
    // Two blocks for each link at least, and one for each directory.
    assert!(layer["size"].as_u64() > Some((300 * 2 + 900) * 512), "{layer}");
}

// The base of an image may have a layer with the same bytes, but other annotations.
#[test]
fn a_layer_of_the_base_does_not_hide_the_annotations() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    store.layers(&[&path], &[&path]);
    let layer = store.image("nix.json", &["--snapshotter", "legacy"]);
    let mut image = store.read("nix.json");
    image["layers"][0].as_object_mut().expect("a layer").remove("annotations");
    store.write("base.json", &image.to_string());
    let above = ["--snapshotter", "legacy", "--from-image", "base.json"];
    assert_eq!(store.image("above.json", &above)["annotations"], layer["annotations"]);
    // The same one twice is still one.
    let twice = ["--snapshotter", "legacy", "--from-image", "nix.json"];
    store.image("twice.json", &twice);
    let image = store.read("twice.json");
    assert_eq!(image["layers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_manifest_that_nobody_takes_is_not_written() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    store.layers(&[&path], &[&path]);
    store.image("nix.json", &["--snapshotter", "legacy"]);
    let mut image = store.read("nix.json");
    image["layers"][0]["annotations"]["x"] = json!("x".repeat(5 << 20));
    store.write("large.json", &image.to_string());
    let pushed = Pushable::start();
    let reference = format!("docker://{}", pushed.registry.reference("app:1"));
    for destination in ["oci:large:1", &reference] {
        let run = store.run(&["copy", "nix:large.json", destination]);
        assert!(run.error(8).contains("over the limit of 4194304"), "{}", run.stderr);
    }
    assert!(pushed.registry.calls().is_empty());
    let run = store.try_image("x.json", &["--from-image", "large.json"]);
    assert!(run.error(2).contains("over 4194304 bytes"), "{}", run.stderr);
}

// An image.json can come from anywhere.
#[test]
fn an_image_with_other_paths_is_not_copied() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    store.layers(&[&path], &[&path]);
    store.image("nix.json", &["--snapshotter", "legacy"]);
    let text = fs::read_to_string(store.directory.path().join("nix.json")).expect("an image");
    store.write("a", "");
    for content in ["mount-points", "links", "devices"] {
        for other in ["/etc", "a", ".", "/", "", "/etc/passwd", "../x"] {
            let text =
                text.replace(&format!("\"path\": \"{path}\""), &format!("\"path\": \"{other}\""));
            store.write("x.json", &text.replace("\"mount-points\"", &format!("\"{content}\"")));
            let run = store.run(&["copy", "nix:x.json", "oci:layout:1"]);
            let error = run.error(8);
            let expected =
                if content == "devices" { "unknown content" } else { "is not a path in the store" };
            assert!(error.contains(expected), "{content} {other}: {error}");
        }
    }
}

// A node would mount what the base of an image names.
#[test]
fn a_base_can_not_make_a_node_mount_anything() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    store.layers(&[&path], &[&path]);
    store.image("nix.json", &["--snapshotter", "legacy"]);
    store.run(&["copy", "--quiet", "nix:nix.json", "dir:directory"]).text();
    let file = store.directory.path().join("directory/manifest.json");
    let text = fs::read_to_string(&file).expect("a manifest");
    fs::write(&file, text.replace(&path, "/etc")).expect("written");
    let run = store.run(&["image-from-dir", "base.json", "directory"]);
    assert!(run.code == 0 && run.stderr.contains("names no store path"), "{}", run.stderr);
    let text = fs::read_to_string(store.directory.path().join("base.json")).expect("an image");
    assert!(text.contains("nix-layer") && !text.contains("/etc"), "{text}");
    // Nor a store path that leads out of the store.
    fs::remove_dir_all(&path).expect("removed");
    symlink("/etc", &path).expect("linked");
    let run = store.try_image("x.json", &["--snapshotter", "legacy"]);
    assert!(run.error(8).contains("is a link to `/etc`"), "{}", run.stderr);
}

#[test]
fn what_a_node_could_not_mount_is_no_image() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    let info = store.closure_info(1, &[&path]);
    let legacy = ["--snapshotter", "legacy"];
    let fails = |code: i32, text: &str, more: &[&str]| {
        let run = store.try_image("x.json", more);
        assert!(run.error(code).contains(text), "{}", run.stderr);
        assert!(!store.directory.path().join("x.json").exists());
    };
    store.layers(&[&path], &[]);
    for (text, more) in [
        ("invalid value 'new'", ["--snapshotter", "new"]),
        ("--closure-info", ["--snapshotter", "closure"]),
        ("--snapshotter", ["--closure-info", &info]),
    ] {
        let run = store.try_image("x.json", &more);
        assert!(run.code == 2 && run.stderr.contains(text), "{}", run.stderr);
    }
    // A closure that isn't here.
    store.layers(&[&store.path(LONG)], &[]);
    fails(4, "failed to read", &legacy);
    fails(4, "failed to read", &["--snapshotter", "closure", "--closure-info", "/nowhere"]);
    fails(8, "is not a path in the store", &["--snapshotter", "closure", "--closure-info", "."]);
    fails(8, "is not in the closure", &["--snapshotter", "closure", "--closure-info", &info]);
    // Not of the store: a node would mount what the image names.
    for other in ["/etc", "../x", "/nix/store/x", &format!("{path}/bin"), &store.path("a\u{1b}b")] {
        store.layers(&[other], &[]);
        fails(8, "is not a path in the store", &legacy);
    }
    fs::write(Path::new(&info).join("store-paths"), format!("{path}\n/etc\n")).expect("written");
    store.layers(&[&path], &[]);
    fails(
        8,
        "`/etc` is not a path in the store",
        &["--snapshotter", "closure", "--closure-info", &info],
    );
    // Nothing at all.
    store.write("layers.json", "[]");
    fails(2, "no store path to mount", &legacy);
    // A file can't be the root.
    let file = store.add(FILE, &[""]);
    store.layers(&[&file], &[&file]);
    fails(1, "can't be copied to the root", &legacy);
}

#[test]
fn annotations_beyond_what_registries_take_become_one() {
    let store = Store::new();
    let name = |number: usize| format!("{number:032}-{}", "n".repeat(200));
    let paths: Vec<String> = (0..14_000).map(|number| store.path(&name(number))).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    store.layers(&paths, &[]);
    let run = store.try_image("x.json", &["--snapshotter", "legacy"]);
    assert!(run.error(2).contains("over 4194304 bytes"), "{}", run.stderr);
    assert!(run.stderr.contains("--snapshotter closure"), "{}", run.stderr);
    for path in &paths {
        fs::write(path, "").expect("written");
    }
    let info = store.closure_info(99_999, &paths);
    let run = store.try_image("x.json", &["--snapshotter", "legacy", "--closure-info", &info]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("warning: ") && run.stderr.contains("4194304"), "{}", run.stderr);
    let image = store.read("x.json");
    let annotations = &image["layers"][0]["annotations"];
    assert_eq!(*annotations, json!({ "containerd.io/snapshot/nix-closure": info }));
}

#[test]
fn copies_keep_the_annotations() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    fs::set_permissions(Path::new(&path).join("bin/a"), fs::Permissions::from_mode(0o555))
        .expect("set");
    store.layers(&[&path], &[&path]);
    let layer = store.image("image.json", &["--snapshotter", "legacy"]);
    let pushed = Pushable::start();
    let reference = format!("docker://{}", pushed.registry.reference("acme/app:1"));
    store.run(&["copy", "--quiet", "nix:image.json", &reference]).text();
    let shown = store.run(&["inspect", "nix:image.json"]);
    assert!(shown.text().contains("1, of the node's store"), "{:?}", shown.stdout);
    let shown = store.run(&["inspect", "nix:image.json", "--json"]).json();
    assert_eq!(shown["layers"][0]["mountPoints"], true);
    let shown = store.run(&["inspect", &reference["docker://".len()..], "--arch", "amd64"]);
    assert!(shown.stderr.contains("nix-snapshotter mounts"), "{}", shown.stderr);
    // What a registry has, in a layout.
    let copied = ["copy", "--quiet", &reference, "oci:layout:1", "--arch", "amd64"];
    store.run(&copied).text();
    let manifest = store.manifest("layout");
    assert_eq!(manifest["layers"][0]["annotations"], layer["annotations"]);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert!(manifest["layers"][0]["size"].as_u64() < Some(2000), "{manifest}");
    // Upon it, another image keeps them too: from a lockfile, and from an image.json.
    let lock = ["lock", &reference["docker://".len()..], "--arch", "amd64", "-o", "lock.json"];
    store.run(&lock).text();
    store.run(&["copy", "--quiet", &reference, "dir:directory", "--arch", "amd64"]).text();
    store.run(&["image-from-dir", "base.json", "directory"]).text();
    store.write("layers.json", "[]");
    store
        .run(&["image", "above.json", "config.json", "layers.json", "--from-image", "base.json"])
        .text();
    let above = store.read("above.json");
    assert_eq!(above["layers"][0]["annotations"], layer["annotations"]);
    // Docker's manifests can't hold them.
    let run = store.run(&["copy", "nix:image.json", &reference, "--format", "v2s2"]);
    assert!(run.error(2).contains("names store paths in annotations"), "{}", run.stderr);
    let run = store.run(&["copy", "nix:image.json", "docker-archive:x.tar:x:1"]);
    assert!(run.code == 0 && run.stderr.contains("warning: `docker-archive:"), "{}", run.stderr);
    // If a mount point would become another, nothing is copied.
    fs::remove_dir_all(&path).expect("removed");
    fs::write(&path, "").expect("written");
    store.write("layers.json", "[]");
    let run = store.run(&["copy", "nix:image.json", "oci:changed:1"]);
    assert!(run.code == 8 || run.code == 1, "{}", run.stderr);
    assert!(run.stderr.contains("error: "), "{}", run.stderr);
}

#[test]
fn an_index_has_an_image_for_each_kind_of_node() {
    let store = Store::new();
    let path = store.add(TREE, &["bin/a"]);
    store.layers(&[&path], &[]);
    store.image("nix.json", &["--snapshotter", "legacy"]);
    store.write("graph.json", &json!([{ "path": path, "references": [] }]).to_string());
    store.run(&["layers-from-reproducible-storepaths", "real-layers.json", "graph.json"]).text();
    let image = ["image", "real.json", "config.json", "real-layers.json", "--arch", "amd64"];
    store.run(&image).text();
    let pushed = Pushable::start();
    let reference = format!("docker://{}", pushed.registry.reference("acme/app:1"));
    // Whatever their order, the one for all nodes comes first.
    for sources in [["nix:nix.json", "nix:real.json"], ["nix:real.json", "nix:nix.json"]] {
        store.run(&["copy", "--quiet", sources[0], sources[1], &reference]).text();
        store.run(&["copy", "--quiet", &reference, "oci:both:1", "--all"]).text();
        let index = store.manifest("both");
        let platforms: Vec<&Value> = index["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| &one["platform"])
            .collect();
        let plain = json!({ "architecture": "amd64", "os": "linux" });
        let mut nix = plain.clone();
        nix["os.features"] = json!(["nix-snapshotter"]);
        assert_eq!(platforms, [&plain, &nix]);
        fs::remove_dir_all(store.directory.path().join("both")).expect("removed");
    }
    // n2c itself takes the one for all nodes, too.
    let locked = store.run(&["lock", &reference["docker://".len()..], "--arch", "amd64"]).json();
    assert_eq!(locked["layers"][0]["annotations"], Value::Null);
    let explained =
        store.run(&["inspect", &reference["docker://".len()..], "--arch", "amd64", "--explain"]);
    assert!(explained.text().contains("needs `nix-snapshotter` of its node"), "{explained:?}");
    // Two for the same nodes are still one too many.
    let run = store.run(&["copy", "nix:nix.json", "nix:nix.json", &reference]);
    assert!(run.error(2).contains("two images are for"), "{}", run.stderr);
}

#[test]
fn a_name_with_a_registry_is_containerds_too() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["text"]));
    let directory = tempfile::tempdir().expect("a directory");
    let name = "nix:0/nix/store/00000000000000000000000000000001-nix-image-app.tar:latest";
    for (name, expected) in [
        (name, json!(name)),
        ("localhost/app:1", json!("localhost/app:1")),
        ("acme/app:1", Value::Null),
        ("./app:1", Value::Null),
        ("1", Value::Null),
    ] {
        let destination = format!("oci-archive:image.tar:{name}");
        let reference = registry.reference("app:1");
        let arguments = ["pull", "--quiet", &reference, &destination, "--arch", "amd64"];
        n2c_in(directory.path(), &arguments).text();
        let mut archive =
            tar::Archive::new(fs::File::open(directory.path().join("image.tar")).expect("a file"));
        let mut entries = archive.entries().expect("entries").map(|entry| entry.expect("an entry"));
        let index = entries.find(|entry| entry.path_bytes().ends_with(b"index.json"));
        let index: Value = serde_json::from_reader(index.expect("an index")).expect("JSON");
        let annotations = &index["manifests"][0]["annotations"];
        assert_eq!(annotations["org.opencontainers.image.ref.name"], *name);
        assert_eq!(annotations["io.containerd.image.name"], expected, "{name}");
        fs::remove_file(directory.path().join("image.tar")).expect("removed");
    }
}
