//! Regression tests for bugs that n2c once had.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::images::{self, Blob, Image, write_layout};
use crate::support::program::{command, n2c, n2c_in, wait_until};
use crate::support::registry::{Registry, Reply, ReplyBody};

// An index entry of an image may have its config's media type as artifact type.
#[test]
fn an_entry_with_an_images_artifact_type_is_an_image() {
    for artifact_type in ["application/vnd.oci.image.config.v1+json", ""] {
        let registry = Registry::start();
        let image = Image::new("linux/amd64", &["x"]);
        registry.put_image("app", "x", &image);
        let mut entry = image.manifest.entry("linux/amd64");
        entry["artifactType"] = json!(artifact_type);
        registry.put_manifest("app", "1", &images::index(&[entry]));
        let lock = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]).json();
        assert_eq!(lock["n2c"]["manifest"], image.manifest.digest().to_string());
    }
}

// The size limit also applies to files whose size the layout doesn't state.
#[test]
fn layouts_have_the_same_limits_as_registries() {
    let directory = tempfile::tempdir().expect("a directory");
    let huge = Blob::new("x", vec![b' '; 5 << 20]);
    write_layout(directory.path(), &[("huge", &huge)], &[]);
    let reference = format!("oci:.@{}", huge.digest());
    assert!(
        n2c_in(directory.path(), &["lock", &reference]).error(8).contains("larger than 4194304")
    );
    assert!(
        n2c_in(directory.path(), &["lock", "oci:.:huge"]).error(8).contains("the limit of 4194304")
    );
    std::fs::write(directory.path().join("index.json"), vec![b' '; 5 << 20]).expect("written");
    assert!(
        n2c_in(directory.path(), &["lock", "oci:.:huge"]).error(8).contains("larger than 4194304")
    );
}

// A failed command writes nothing to stdout, whatever stdout is called.
#[test]
fn stdout_gets_verified_bytes_or_nothing() {
    let registry = Registry::start();
    let blob = Blob::new("x", "the right bytes");
    registry.put_blob(&blob);
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    for output in ["-", "/dev/stdout"] {
        let run = n2c(&["blob", &repository, &digest, "-o", output]);
        assert_eq!((run.code, run.stdout.as_slice()), (0, &blob.bytes[..]), "{}", run.stderr);
    }
    registry.hook(|_| Some(Reply::new(200, "other bytes \u{1b}[2J")));
    for output in ["-", "/dev/stdout"] {
        n2c(&["blob", &repository, &digest, "-o", output]).error(8);
    }
    // If the shell appends stdout to a file, the file keeps its earlier content.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("all.txt");
    std::fs::write(&path, "before\n").expect("written");
    registry.put_image("app", "1", &Image::new("linux/amd64", &["x"]));
    registry.hook(|_| None);
    let file = std::fs::OpenOptions::new().append(true).open(&path).expect("a file");
    let reference = registry.reference("app:1");
    let arguments = ["lock", &reference, "--arch", "amd64", "-o", "/dev/stdout"];
    let status = command(directory.path(), &arguments).stdout(file).status().expect("a run");
    assert!(status.success());
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(text.starts_with("before\n{\n"), "{text}");
}

// n2c can read what it writes.
#[test]
fn odd_platforms_of_an_index_do_not_get_into_a_lockfile() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "x", &image);
    for (os, architecture, variant) in
        [("linux", "", ""), ("linux", "amd64", "v/2"), ("li nux", "amd64", "")]
    {
        let mut entry = image.manifest.descriptor();
        entry["platform"] = json!({ "os": os, "architecture": architecture, "variant": variant });
        registry.put_manifest("app", "1", &images::index(&[entry]));
        let directory = tempfile::tempdir().expect("a directory");
        let reference = registry.reference("app:1");
        let run =
            n2c_in(directory.path(), &["lock", &reference, "--all-platforms", "-o", "lock.json"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(n2c_in(directory.path(), &["blobs", "lock.json"]).code, 0);
        let lock = std::fs::read_to_string(directory.path().join("lock.json")).expect("read");
        assert!(lock.contains("\"linux/amd64\""), "not the config's platform: {lock}");
    }
}

// A missing part of an index is an error only if it is needed.
#[test]
fn a_missing_part_of_an_index_does_not_hide_the_rest() {
    let registry = Registry::start();
    let image = Image::new("linux/arm/v6", &["x"]);
    registry.put_image("app", "x", &image);
    let absent = images::index(&[]);
    let index = images::index(&[image.manifest.entry("linux/arm/v6"), absent.descriptor()]);
    registry.put_manifest("app", "1", &index);
    let reference = registry.reference("app:1");
    let run = n2c(&["lock", &reference, "--platform", "linux/arm/v7"]);
    assert_eq!(run.json()["n2c"]["manifest"], image.manifest.digest().to_string());
    assert!(run.stderr.contains("warning: "), "{}", run.stderr);
    assert!(
        n2c(&["lock", &reference, "--arch", "s390x"])
            .error(4)
            .contains(&absent.digest().to_string())
    );
    assert!(n2c(&["lock", &reference, "--all-platforms"]).error(4).contains("is missing"));
}

#[test]
fn the_architecture_is_reported_unless_it_was_given() {
    let registry = Registry::start();
    let host = n2c::oci::platform::Platform::host().to_string();
    registry.put_image("app", "1", &Image::new(&host, &["x"]));
    let reference = registry.reference("app:1");
    for arguments in [&["lock", &reference, "--os", "linux"][..], &["inspect", &reference]] {
        let run = n2c(arguments);
        assert!(run.stderr.contains(&format!("`{host}`")), "{arguments:?}: {}", run.stderr);
    }
    // `--variant` needs an architecture.
    assert_eq!(n2c(&["lock", &reference, "--variant", "v7"]).code, 2);
}

#[test]
fn a_hint_leaves_the_tag_as_it_is() {
    let run = n2c(&["lock", "quay.io/a/Foo:RC1"]);
    run.error(2);
    assert!(run.stderr.contains("hint: try `quay.io/a/foo:RC1`"), "{}", run.stderr);
}

// A cancelled job leaves nothing behind.
#[test]
fn a_signal_leaves_no_temporary_file() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let registry = Registry::start();
        let blob = Blob::new("x", "y");
        registry.hook(|_| {
            let body = ReplyBody::Stalled("some bytes".into());
            Some(Reply { status: 200, headers: Vec::new(), body })
        });
        let directory = tempfile::tempdir().expect("a directory");
        let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
        let mut child = command(directory.path(), &["blob", &repository, &digest, "-o", "out"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("a run");
        wait_until("the blob was requested", || !registry.calls().is_empty());
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
        assert_eq!(child.wait().expect("an end").code(), Some(code));
        let mut stderr = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
        assert_eq!(stderr, "error: interrupted\n");
        assert_eq!(std::fs::read_dir(&directory).expect("listed").count(), 0, "something was left");
    }
}

// A killed n2c can't clean up, but it leaves the output file unchanged.
#[test]
fn a_kill_leaves_the_old_file_as_it_was() {
    let registry = Registry::start();
    let blob = Blob::new("x", "y");
    registry.hook(|_| {
        Some(Reply {
            status: 200,
            headers: Vec::new(),
            body: ReplyBody::Stalled("some bytes".into()),
        })
    });
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("out"), "old").expect("written");
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    let mut child = command(directory.path(), &["blob", &repository, &digest, "-o", "out"])
        .spawn()
        .expect("a run");
    wait_until("the blob was requested", || !registry.calls().is_empty());
    child.kill().expect("killed");
    child.wait().expect("an end");
    assert_eq!(std::fs::read_to_string(directory.path().join("out")).expect("read"), "old");
}

// Files in `/dev/shm` are ordinary files, unlike others below `/dev`.
#[test]
fn a_file_in_shared_memory_is_replaced_like_any_other() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["x"]));
    let path = directory.path().join("lock.json");
    std::fs::write(&path, "old").expect("written");
    let (reference, output) = (registry.reference("app:1"), path.to_str().expect("a path"));
    assert_eq!(n2c(&["lock", &reference, "--arch", "amd64", "-o", output]).code, 0);
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(text.starts_with("{\n"), "{text}");
}
