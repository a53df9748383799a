//! Layers and images from store paths: upstream's bytes, and where they differ on purpose.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use n2c::oci::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::program::{Run, binary, n2c_in};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden-build");
/// Where the golden cases' inputs are: their results hold these paths.
const TREES: &str = "/tmp/n2c-golden";

/// What is in the files of the golden cases, by its digest.
fn contents() -> HashMap<String, Vec<u8>> {
    let mut contents: Vec<Vec<u8>> = [
        "",
        "n\n",
        "b\n",
        "x",
        "p\n",
        "aa\n",
        "bb\n",
        "one\n",
        "two\n",
        "longer\n",
        "m7\n",
        "db\n",
        "read me\n",
        "linked\n",
        "sorts before foo/\n",
        "in foo\n",
        "plus\n",
        "just a file\n",
        "#!/bin/sh\necho hello\n",
        "#!/bin/sh\necho hi\n",
        "libc\n",
        "libz\n",
        "libssl\n",
        "python\n",
        "pylib\n",
        "app\n",
        "tool\n",
        "config\n",
        "4755\n",
        "2755\n",
        "6755\n",
        "1644\n",
        "0400\n",
        "0600\n",
        "0640\n",
        "0664\n",
        "0666\n",
        "0777\n",
        "0711\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let numbers = |count: u32| (0..count).map(|n| n % 251).map(|n| n.to_le_bytes()[0]).collect();
    contents.extend([1, 511, 512, 513, 1024].map(numbers));
    let mut sparse = vec![0; 5_000_000];
    for at in [0, 4096, 2_500_001, 4_999_999] {
        sparse[at] = 0x5a;
    }
    contents.push(sparse);
    contents.into_iter().map(|bytes| (Digest::sha256(&bytes).hex().to_owned(), bytes)).collect()
}

/// A path as the list of trees writes it, without its escapes.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        let length = match behind.as_bytes()[0] {
            b'x' => {
                bytes.push(u8::from_str_radix(&behind[1..3], 16).expect("a number"));
                3
            }
            other => {
                bytes.push(match other {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    other => other,
                });
                1
            }
        };
        rest = &behind[length..];
    }
    bytes.extend(rest.bytes());
    std::ffi::OsString::from_vec(bytes).into()
}

/// Makes the files that the golden cases are about, once. Another run may use them too.
fn make_trees() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let lock = fs::File::create(format!("{TREES}.lock")).expect("a lock");
        lock.lock().expect("locked");
        let contents = contents();
        let list = fs::read_to_string(format!("{GOLDEN}/TREES")).expect("the list");
        let mut modes = Vec::new();
        for line in list.lines() {
            let fields: Vec<&str> = line.splitn(5, ' ').collect();
            let [kind, mode, _, what, path] = fields[..] else { panic!("{line}") };
            let path = unescaped(path);
            let is_there = fs::symlink_metadata(&path).is_ok();
            match kind {
                "d" if !is_there => fs::create_dir(&path).expect("made"),
                "f" if !is_there => fs::write(&path, &contents[what]).expect("written"),
                "l" if !is_there => {
                    std::os::unix::fs::symlink(unescaped(what), &path).expect("linked");
                }
                _ => {}
            }
            if kind != "l" {
                modes.push((path, u32::from_str_radix(mode, 8).expect("a mode")));
            }
        }
        // The innermost first: some directories can't be written to afterwards.
        for (path, mode) in modes.into_iter().rev() {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(path, mode).expect("set");
        }
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Runs the commands of a case, and compares exit codes and results. `differs` says which
/// results are other ones on purpose, and gets those.
fn check_case(name: &str, differs: impl Fn(&str, &str, &str) -> bool) {
    make_trees();
    let case = Path::new(GOLDEN).join(name);
    let directory = tempfile::tempdir().expect("a directory");
    copy(&case.join("in"), &directory.path().join("in"));
    fs::create_dir(directory.path().join("out")).expect("made");
    let text = |path: &str| fs::read_to_string(case.join(path)).expect(path);
    let codes = text("rc");
    let codes: Vec<bool> = codes.lines().map(|line| line.ends_with(" 0")).collect();
    for (line, succeeds) in text("cmd").lines().zip(codes) {
        // Without a command, n2c prints its usage too, but as an error. And it knows the time,
        // as dockerTools does.
        if line == "$N2C" || line.ends_with(" --created now") {
            continue;
        }
        let run = std::process::Command::new("bash")
            .args(["-c", line])
            .current_dir(&directory)
            .env("N2C", binary())
            .output()
            .expect("bash");
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.success(), succeeds, "{name}: {line}\n{stderr}");
        assert!(succeeds || run.stdout.is_empty(), "{name}: {line}");
    }
    let expected = case.join("out");
    let list = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten();
        let files =
            entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
        let mut names: Vec<String> = files
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let results = directory.path().join("out");
    assert_eq!(list(&results), list(&expected), "{name}");
    for file in list(&expected) {
        let read = |folder: &Path| fs::read_to_string(folder.join(&file)).expect("a result");
        let (ours, theirs) = (read(&results), read(&expected));
        assert!(ours == theirs || differs(&file, &ours, &theirs), "{name}/{file}: {ours}");
    }
}

#[test]
fn golden_layers_have_upstreams_bytes() {
    for name in [
        "01-plain",
        "02-odd-modes",
        "05-bulk",
        "06-path-is-file-or-link",
        "10-copy-to-root",
        "12-copy-to-root-conflicts",
        "20-perms",
        "21-perms-two-rules",
        "30-max-layers",
        "31-graph-order",
        "40-history",
        "50-non-reproducible",
        "80-errors",
    ] {
        check_case(name, |_, _, _| false);
    }
}

// Contract: no path at all gives `[]`, not `null`.
#[test]
fn golden_layers_without_paths_are_an_empty_list() {
    let is_empty = |file: &str, ours: &str, theirs: &str| {
        file == "second.json" && (ours, theirs) == ("[]", "null")
    };
    check_case("33-parents", is_empty);
}

// Contract: `[]` again, and what only docker knows of a config is kept.
#[test]
fn golden_images_have_upstreams_bytes() {
    check_case("60-image", |file, ours, theirs| {
        let theirs = theirs.replace("\"layers\": null", "\"layers\": []");
        if file != "image-folded.json" {
            return ours == theirs;
        }
        let (mut ours, theirs): (Value, Value) =
            (ours.parse().expect("JSON"), theirs.parse().expect("JSON"));
        let config = ours["image-config"].as_object_mut().expect("a config");
        let kept = ["Healthcheck", "OnBuild", "Shell"].map(|key| config.shift_remove(key));
        kept == [Some(json!({ "Test": ["CMD"] })), Some(json!(["x"])), Some(json!(["/s"]))]
            && ours == theirs
    });
}

// What is written to files are the layers whose digests they are named after.
#[test]
fn written_layers_are_what_their_names_say() {
    make_trees();
    let directory = tempfile::tempdir().expect("a directory");
    copy(&Path::new(GOLDEN).join("30-max-layers/in"), &directory.path().join("in"));
    fs::create_dir(directory.path().join("tars")).expect("made");
    let arguments = [
        "layers-from-non-reproducible-storepaths",
        "written.json",
        "in/g.json",
        "--tar-directory",
        "tars",
        "--max-layers",
        "3",
    ];
    n2c_in(directory.path(), &arguments).text();
    let arguments =
        ["layers-from-reproducible-storepaths", "hashed.json", "in/g.json", "--max-layers", "3"];
    n2c_in(directory.path(), &arguments).text();
    let read = |name: &str| -> Vec<Value> {
        let text = fs::read(directory.path().join(name)).expect("layers");
        serde_json::from_slice(&text).expect("JSON")
    };
    let (mut written, hashed) = (read("written.json"), read("hashed.json"));
    for layer in &mut written {
        let file = layer.as_object_mut().expect("a layer").shift_remove("layer-path");
        let file = file.expect("a file").as_str().expect("a name").to_owned();
        let bytes = fs::read(directory.path().join(&file)).expect("a layer");
        let digest = Digest::sha256(&bytes);
        assert_eq!(file, format!("tars/{}.tar", digest.hex()));
        assert_eq!(layer["digest"], digest.to_string());
        assert_eq!(layer["size"], bytes.len());
    }
    // Contract: each file has its own layer's paths, where upstream's have all.
    assert_eq!(written, hashed);
    assert_eq!(fs::read_dir(directory.path().join("tars")).expect("listed").count(), 3);
}

/// A folder with store paths of a test's own.
struct Project(TempDir);

impl Project {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn json(&self, name: &str, value: &Value) {
        self.file(name, &value.to_string());
    }

    /// Makes layers of these paths, which don't refer to each other.
    fn layers(&self, paths: &[&str], more: &[&str]) -> Run {
        let nodes: Vec<Value> =
            paths.iter().map(|path| json!({ "path": self.path(path), "references": [] })).collect();
        self.json("graph.json", &json!(nodes));
        let start = ["layers-from-reproducible-storepaths", "out.json", "graph.json"];
        n2c_in(self.0.path(), &[&start, more].concat())
    }

    /// Rules that put the files of these paths to the root.
    fn to_root(&self, paths: &[&str]) {
        let rules: Vec<Value> = paths
            .iter()
            .map(|path| json!({ "path": self.path(path), "regex": format!("^{}", self.path(path)), "repl": "" }))
            .collect();
        self.json("rewrites.json", &json!(rules));
    }
}

const ROOT: [&str; 2] = ["--rewrites", "rewrites.json"];
const PERMS: [&str; 2] = ["--perms", "perms.json"];

// Contract: files that are the same are no conflict, other content is a warning.
#[test]
fn two_files_at_one_place() {
    let project = Project::new();
    for (path, text) in [("a", "same"), ("b", "same"), ("c", "diff")] {
        project.file(&format!("{path}/etc/file"), text);
    }
    std::os::unix::fs::symlink("one", project.path("a/link")).expect("linked");
    std::os::unix::fs::symlink("other", project.path("b/link")).expect("linked");
    project.to_root(&["a", "b"]);
    // The path that occurs later in the graph comes first.
    let run = project.layers(&["a", "b"], &ROOT);
    run.text();
    let (a, b) = (project.path("a"), project.path("b"));
    let expected = format!(
        "warning: two files for `/link` have different content: `{b}/link`, and `{a}/link`, which wins\n"
    );
    assert_eq!(run.stderr, expected);
    project.to_root(&["a", "c"]);
    let run = project.layers(&["a", "c"], &ROOT);
    assert!(
        run.stderr.contains("two files for `/etc/file` have different content"),
        "{}",
        run.stderr
    );
    assert_eq!(run.code, 0);
    // Another size, mode or type is an error, which names both.
    project.file("c/etc/file", "longer");
    let run = project.layers(&["a", "c"], &ROOT);
    assert!(run.error(1).contains(&format!(
        "two files for `/etc/file` differ in their size: `{}/etc/file` has 6, and `{a}/etc/file` has 4",
        project.path("c")
    )), "{}", run.stderr);
    project.to_root(&["a", "b"]);
    fs::set_permissions(project.path("b/etc"), fs::Permissions::from_mode(0o700)).expect("set");
    assert!(project.layers(&["a", "b"], &ROOT).error(1).contains("differ in their mode"));
    project.file("d/etc", "a file");
    project.to_root(&["a", "d"]);
    assert!(project.layers(&["a", "d"], &ROOT).error(1).contains("differ in their type"));
}

// Contract: rules are compared by what they come to for the file, not by their text.
#[test]
fn rules_that_do_not_touch_a_file_are_no_conflict() {
    let project = Project::new();
    project.file("a/bin/one", "1");
    project.file("b/bin/two", "2");
    project.to_root(&["a", "b"]);
    let rule = |regex: &str| json!([{ "path": project.path("a"), "regex": regex, "mode": "0700" }]);
    project.json("perms.json", &rule("/one$"));
    let arguments = [ROOT, PERMS].concat();
    assert_eq!(project.layers(&["a", "b"], &arguments).stderr, "");
    project.json("perms.json", &rule("/bin"));
    let error = project.layers(&["a", "b"], &arguments);
    assert!(
        error.error(1).contains("two files for `/bin` differ in their permissions"),
        "{}",
        error.stderr
    );
}

// Contract: what upstream answers with silence, a panic or a hang.
#[test]
fn what_no_layer_can_hold_is_an_error() {
    let project = Project::new();
    project.file("plain", "a file");
    project.file("dir/file", "x");
    project.to_root(&["plain"]);
    let run = project.layers(&["plain"], &ROOT);
    assert!(run.error(1).contains("can't be copied to the root: it is a file, not a directory"));
    rustix::fs::mkfifoat(rustix::fs::CWD, project.path("dir/pipe"), rustix::fs::Mode::RUSR)
        .expect("a pipe");
    let run = project.layers(&["dir"], &[]);
    assert!(run.error(1).contains("/dir/pipe` is a named pipe, which a layer can't hold"));
    fs::remove_file(project.path("dir/pipe")).expect("removed");
    let _socket =
        std::os::unix::net::UnixListener::bind(project.path("dir/socket")).expect("bound");
    assert!(project.layers(&["dir"], &[]).error(1).contains("is a socket"));
    assert!(project.layers(&["nowhere"], &[]).error(4).contains("failed to read"));
    for (perms, code, expected) in [
        (
            json!([{ "path": project.path("plain"), "regex": "(", "mode": "0755" }]),
            2,
            "invalid regular expression `(`",
        ),
        (
            json!([{ "path": project.path("plain"), "regex": "", "mode": "0o755" }]),
            2,
            "has the mode `0o755`",
        ),
        (
            json!([{ "path": project.path("plain"), "regex": "", "mode": "rwx" }]),
            2,
            "has the mode `rwx`",
        ),
        (
            json!([{ "path": project.path("plain"), "uid": "0" }]),
            8,
            "invalid permissions in `perms.json`",
        ),
    ] {
        project.json("perms.json", &perms);
        let run = project.layers(&["plain"], &PERMS);
        assert!(run.error(code).contains(expected), "{}", run.stderr);
    }
    assert!(!Path::new(&project.path("out.json")).exists());
}

// Contract: a rule that matches no path, or no file, is a warning.
#[test]
fn rules_without_effect_are_warned_of() {
    let project = Project::new();
    project.file("a/bin/one", "1");
    let path = project.path("a");
    project.json(
        "perms.json",
        &json!([
            { "path": path, "regex": "/two$", "mode": "0700" },
            { "path": format!("{path}/bin"), "regex": "", "mode": "0700" },
            { "path": "/nowhere", "regex": "(", "mode": "0700" },
        ]),
    );
    let run = project.layers(&["a"], &PERMS);
    assert_eq!(run.code, 0);
    project.json("rewrites.json", &json!([{ "path": path, "regexp": "^/" }]));
    let misspelt = project.layers(&["a"], &ROOT);
    assert_eq!(
        misspelt.stderr,
        "warning: the key `regexp` in `rewrites.json` is unknown, and ignored\n"
    );
    let expected = [
        format!(
            "a rule for `{path}/bin` has no effect: name `{path}`, and match its files with `regex`"
        ),
        "a rule for `/nowhere` has no effect: it is not in the closure".to_owned(),
        format!("the rule `/two$` for `{path}` matches none of its files"),
    ];
    assert_eq!(run.stderr, format!("warning: {}\n", expected.join("\nwarning: ")));
}

#[test]
fn an_image_starts_from_another() {
    let project = Project::new();
    project.file("a", "a");
    project.layers(&["a"], &[]).text();
    project.json(
        "base-config.json",
        &json!({ "Env": ["PATH=/bin", "A=1"], "User": "1", "Cmd": ["sh"], "Shell": ["/s"] }),
    );
    project.json("config.json", &json!({ "Env": ["A=2"], "Cmd": ["me"] }));
    let run = |arguments: &[&str]| n2c_in(project.0.path(), arguments);
    run(&["image", "base.json", "base-config.json", "out.json", "--arch", "riscv64"]).text();
    for (inherit, expected) in [
        ("none", json!({ "Env": ["A=2"], "Cmd": ["me"] })),
        ("env", json!({ "Env": ["PATH=/bin", "A=2"], "Cmd": ["me"] })),
        (
            "all",
            json!({ "User": "1", "Env": ["PATH=/bin", "A=2"], "Cmd": ["me"], "Shell": ["/s"] }),
        ),
    ] {
        let arguments = [
            "image",
            "image.json",
            "config.json",
            "out.json",
            "--from-image",
            "base.json",
            "--inherit",
            inherit,
        ];
        run(&arguments).text();
        let image: Value =
            serde_json::from_slice(&fs::read(project.path("image.json")).expect("an image"))
                .expect("JSON");
        assert_eq!(image["image-config"], expected, "{inherit}");
        // The layer is the base's already.
        assert_eq!(image["layers"].as_array().map(Vec::len), Some(1));
    }
    project.json("newer.json", &json!({ "version": 2, "layers": [] }));
    let arguments =
        ["image", "image.json", "config.json", "out.json", "--from-image", "newer.json"];
    assert!(
        run(&arguments).error(8).contains("unsupported version 2 of the image in `newer.json`")
    );
    assert!(
        run(&["image", "image.json", "config.json", "config.json"])
            .error(8)
            .contains("invalid layers")
    );
    project.json("config.json", &json!({ "Entrypoint": "x" }));
    let error = run(&["image", "image.json", "config.json", "out.json"]);
    assert!(error.error(8).contains("`Entrypoint` must be a list of strings"));
    project.json("config.json", &json!({ "Entrypont": ["x"] }));
    let warning = run(&["image", "image.json", "config.json", "out.json"]);
    assert!(warning.stderr.contains("did you mean `Entrypoint`?"), "{}", warning.stderr);
}

#[test]
fn an_image_says_why_it_is_large_and_what_a_change_sends() {
    let project = Project::new();
    let hash = |number: u32| format!("{number:032}");
    let path = |number, name: &str| format!("{}-{name}", hash(number));
    for (number, name, size) in
        [(1, "libc", 3000), (2, "app", 100), (3, "app", 200), (4, "data", 50)]
    {
        project.file(&path(number, name), &"x".repeat(size));
    }
    project.json("config.json", &json!({ "Cmd": ["old"] }));
    let image = |name: &str, paths: &[&str]| {
        project.layers(paths, &["--max-layers", "2"]).text();
        n2c_in(project.0.path(), &["image", name, "config.json", "out.json", "--arch=arm64"])
            .text();
    };
    image("old.json", &[&path(2, "app"), &path(1, "libc")]);
    project.json("config.json", &json!({ "Cmd": ["new"] }));
    image("new.json", &[&path(3, "app"), &path(4, "data"), &path(1, "libc")]);
    let run = |arguments: &[&str]| n2c_in(project.0.path(), arguments);

    let text = run(&["inspect", "nix:new.json"]);
    let lines: Vec<Vec<&str>> =
        text.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["arm64:", "2", "layers,"]);
    let sizes: Vec<&str> =
        lines[3..].iter().filter(|line| line.len() == 3).map(|line| line[0]).collect();
    assert_eq!(sizes, ["2.93", "200", "50"], "{}", text.text());
    let json = run(&["inspect", "nix:new.json", "--json", "--explain"]).json();
    assert_eq!(json["layers"][1]["pathCount"], 2);
    assert_eq!(
        json["layers"][1]["paths"][0],
        json!({ "path": project.path(&path(3, "app")), "size": 200 })
    );
    assert_eq!(json["config"]["Cmd"], json!(["new"]));

    let difference = run(&["diff", "old.json", "new.json"]);
    let (old, new) = (project.path(&path(2, "app")), project.path(&path(3, "app")));
    let text = difference.text();
    let first = text.lines().next().expect("a line");
    assert!(first.starts_with("layers: 1 kept, 1 added, 1 removed, "), "{text}");
    assert!(first.ends_with(" KiB to send"), "{text}");
    assert!(text.contains(&format!("  {old} → {new}, 200 B\n")), "{text}");
    assert!(text.contains(&format!("+ {}, 50 B\n", project.path(&path(4, "data")))), "{text}");
    assert!(text.ends_with("config: Cmd\n"), "{text}");
    assert_eq!(run(&["diff", "new.json", "new.json"]).text(), "nothing changed\n");
    let report = run(&["diff", "old.json", "new.json", "--json"]).json();
    let schema = include_str!("../../examples/report.schema.json");
    let schema: Value = serde_json::from_str(schema).expect("a schema");
    jsonschema::validate(&schema, &report).expect("a valid report");
    let markdown = run(&["diff", "old.json", "new.json", "--markdown"]);
    assert!(
        markdown.text().starts_with("### `new.json`\n\n- `layers: 1 kept"),
        "{}",
        markdown.text()
    );
    // What is no image is refused.
    project.json("other.json", &json!({ "layers": [] }));
    assert!(run(&["inspect", "nix:other.json"]).error(8).contains("unsupported version 0"));
    assert!(run(&["inspect", "nix:nowhere.json"]).error(1).contains("nowhere.json"));
    assert!(
        run(&["diff", "old.json", "config.json"]).error(2).contains("an image.json and a lockfile")
    );
}

#[test]
fn nothing_is_written_where_writing_fails() {
    let project = Project::new();
    project.file("a", "a");
    project.layers(&["a"], &[]).text();
    let before = fs::read(project.path("out.json")).expect("layers");
    let run = |arguments: &[&str]| n2c_in(project.0.path(), arguments);
    let reproducible = "layers-from-reproducible-storepaths";
    assert!(run(&[reproducible, "/dev/full", "graph.json"]).error(1).contains("/dev/full"));
    assert!(run(&[reproducible, "no/where", "graph.json"]).error(1).contains("no/where"));
    project.file("broken.json", "[");
    run(&[reproducible, "out.json", "broken.json"]).error(8);
    run(&[reproducible, "out.json", "graph.json", "broken.json"]).error(8);
    run(&[reproducible, "out.json", "graph.json", "--perms", "broken.json"]).error(8);
    assert_eq!(run(&[reproducible, "out.json", "graph.json", "--max-layers", "many"]).code, 2);
    assert_eq!(fs::read(project.path("out.json")).expect("layers"), before);
    // Nor is a layer left that was made before another one failed: its path is gone.
    fs::create_dir(project.path("tars")).expect("made");
    project.file("b", "b");
    project.json(
        "graph.json",
        &json!([
            { "path": project.path("a"), "references": [] },
            { "path": project.path("b"), "references": [] },
            { "path": project.path("gone"), "references": [] },
        ]),
    );
    let non_reproducible = "layers-from-non-reproducible-storepaths";
    run(&[
        non_reproducible,
        "out.json",
        "graph.json",
        "--tar-directory",
        "tars",
        "--max-layers",
        "0",
    ])
    .error(4);
    assert_eq!(fs::read_dir(project.path("tars")).expect("listed").count(), 0);
    assert!(
        run(&[non_reproducible, "out.json", "graph.json", "--tar-directory", "gone"])
            .error(2)
            .contains("`gone` is not a directory")
    );
}

// As Go's `filepath.Walk`, which upstream uses: only the first name is taken as it is.
#[test]
fn a_graph_path_that_is_not_in_its_shortest_form_is_shortened_below() {
    let project = Project::new();
    project.file("p/bin/tool", "x");
    let odd = project.path("q/../p");
    let rule = |regex: String| json!([{ "path": odd, "regex": regex, "repl": "" }]);
    project.json("graph.json", &json!([{ "path": odd, "references": [] }]));
    let written = |rules: Value| {
        project.json("rewrites.json", &rules);
        fs::create_dir_all(project.path("tars")).expect("made");
        let non_reproducible = "layers-from-non-reproducible-storepaths";
        let arguments =
            [&[non_reproducible, "out.json", "graph.json", "--tar-directory", "tars"][..], &ROOT]
                .concat();
        n2c_in(project.0.path(), &arguments).text();
        let layers = fs::read(project.path("out.json")).expect("layers");
        let layers: Value = serde_json::from_slice(&layers).expect("JSON");
        let tar = fs::read(project.path(layers[0]["layer-path"].as_str().expect("a file")))
            .expect("a layer");
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().expect("entries");
        let names = entries
            .map(|entry| entry.expect("an entry").path().expect("a name").display().to_string());
        names.collect::<Vec<_>>()
    };
    fs::create_dir(project.path("q")).expect("made");
    let names = written(rule(format!("^{odd}")));
    // What is below has another name, and so stays where it is.
    assert_eq!(names.last(), Some(&project.path("p/bin/tool")));
    let names = written(rule(format!("^{}/bin", project.path("p"))));
    assert!(names.contains(&"/tool".to_owned()), "{names:?}");
}

// Upstream compares rules if the first path has some, and then their texts.
#[test]
fn files_of_one_path_may_meet() {
    let project = Project::new();
    project.file("s/a/file", "same");
    project.file("s/b/file", "same");
    let path = project.path("s");
    project.json("rewrites.json", &json!([{ "path": path, "regex": "/[ab]$", "repl": "/c" }]));
    project.json("perms.json", &json!([{ "path": path, "regex": "/a$", "uid": 5 }]));
    assert_eq!(project.layers(&["s"], &[ROOT, PERMS].concat()).code, 0);
    // No file is the root.
    project.json(
        "rewrites.json",
        &json!([{ "path": project.path("s/a/file"), "regex": ".*", "repl": "/.." }]),
    );
    let run = project.layers(&["s/a/file"], &ROOT);
    assert!(run.error(1).contains("can't be copied to the root"), "{}", run.stderr);
}
