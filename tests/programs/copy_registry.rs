//! Copies into CNCF distribution, read back by skopeo, umoci and podman, which also runs them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::Image;
use crate::support::program::{Run, build_image, n2c_in};
use crate::support::tools::{Distribution, Podman, run, skopeo};

/// A directory with an image.json: busybox at the root of the image, and a text in a layer of
/// its own.
fn built(options: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    fs::create_dir_all(path("programs/bin")).expect("made");
    fs::copy("/bin/busybox", path("programs/bin/busybox")).expect("copied");
    for applet in ["sh", "cat"] {
        std::os::unix::fs::symlink("busybox", path("programs/bin").join(applet)).expect("linked");
    }
    fs::create_dir(path("data")).expect("made");
    fs::write(path("data/text"), "good morning").expect("written");
    let config = json!({ "Cmd": ["/bin/cat", "/text"], "Env": ["A=1"] });
    fs::write(path("config.json"), config.to_string()).expect("written");
    build(directory.path(), options);
    directory
}

fn build(directory: &Path, options: &[&str]) {
    let options = [&["--rewrites", "rules.json"], options].concat();
    build_image(directory, &["programs", "data"], &options);
}

fn copy(directory: &Path, arguments: &[&str]) -> Run {
    n2c_in(directory, &[&["copy"], arguments].concat())
}

#[test]
#[ignore = "needs docker-registry, skopeo, umoci, podman and runc as root; run `tests/run`"]
fn what_was_built_runs_from_a_registry() {
    let podman = Podman::new();
    for (http, options, more) in [
        ("", &[][..], &[][..]),
        ("  relativeurls: true\n", &["--compress", "zstd"], &["--compress", "zstd"]),
        ("", &["--compress", "gzip"], &["--format", "v2s2"]),
        ("", &[], &["--dest-compress=false"]),
    ] {
        let directory = built(options);
        let registry = Distribution::start_with(http, "");
        let name = registry.reference("team/app:1");
        let to = format!("docker://{name}");
        let pushed = copy(directory.path(), &[&["nix:image.json", &to], more].concat());
        let digest = pushed.text().trim().rsplit('@').next().expect("a digest").to_owned();
        let text = skopeo(&["inspect", "--tls-verify=false", &to]);
        let inspected: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(inspected["Digest"], digest);
        // skopeo and umoci check digests and diff IDs.
        let layout = directory.path().join("layout");
        let target = format!("oci:{}:1", layout.display());
        skopeo(&["copy", "--quiet", "--src-tls-verify=false", &to, &target]);
        let bundle = directory.path().join("bundle").display().to_string();
        if !more.contains(&"zstd") {
            let image = format!("{}:1", layout.display());
            run("umoci", &["unpack", "--rootless", "--image", &image, &bundle]);
            let text = Path::new(&bundle).join("rootfs/text");
            assert_eq!(fs::read_to_string(text).expect("a file"), "good morning");
        }
        podman.run(&["pull", "--quiet", "--tls-verify=false", &name]);
        assert_eq!(podman.run_container(&name, &[]), "good morning");
        // Nothing is sent a second time, also by a machine without memory if it was recorded.
        let cache = directory.path().join(".cache");
        if !options.is_empty() && more != ["--dest-compress=false"] {
            fs::remove_dir_all(cache).expect("removed");
        }
        let asked = registry.requests_of_n2c().len();
        copy(directory.path(), &[&["nix:image.json", &to], more].concat()).text();
        let requests = registry.requests_of_n2c().split_off(asked);
        assert!(requests.iter().all(|line| line.starts_with("HEAD ")), "{requests:?}");
        assert_eq!(requests.len(), 2, "{requests:?}");
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn the_number_of_requests_is_small() {
    let directory = built(&["--compress", "gzip"]);
    let registry = Distribution::start();
    let to = format!("docker://{}", registry.reference("team/app:1"));
    let requests = |arguments: &[&str]| {
        let before = registry.requests_of_n2c().len();
        copy(directory.path(), arguments).text();
        registry.requests_of_n2c().split_off(before)
    };
    // Two for each blob, and four for the manifest, the tag, the list of tags and the manifest.
    assert_eq!(requests(&["image.json", &to]).len(), 2 * 3 + 4);
    fs::write(directory.path().join("data/text"), "good evening").expect("written");
    build(directory.path(), &["--compress", "gzip"]);
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    assert_eq!(requests(&["image.json", &to]).len(), 8);
    // Layers of another repository are mounted with one request each.
    let other = format!("docker://{}", registry.reference("other/app:1"));
    let made = requests(&["image.json", &other]);
    assert_eq!(made.iter().filter(|line| line.ends_with(" 201")).count(), 3 + 1, "{made:?}");
    assert!(!made.iter().any(|line| line.starts_with("PATCH")), "{made:?}");
    // A new tag of the same image.
    let tag = format!("docker://{}", registry.reference("team/app:2"));
    let made = requests(&["image.json", &tag]);
    let verbs: Vec<&str> = made.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(verbs, ["HEAD", "HEAD", "PUT"]);
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn a_registry_that_takes_nothing_says_so() {
    let directory = built(&[]);
    let registry = Distribution::start();
    let to = format!("docker://{}", registry.reference("team/app:1"));
    copy(directory.path(), &["image.json", &to]).text();
    let registry = registry.into_read_only();
    // What is there can be found out without sending anything.
    let same = format!("docker://{}", registry.reference("team/app:1"));
    copy(directory.path(), &["image.json", &same]).text();
    let other = format!("docker://{}", registry.reference("other/app:1"));
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    let run = copy(directory.path(), &["image.json", &other]);
    assert!(run.error(7).contains("HTTP 405"), "{}", run.stderr);
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn skopeo_agrees_on_archives_and_directories() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let registry = Distribution::start();
    let image = Image::new("linux/amd64", &["base", "top"]);
    registry.push_image(&image, "app:1");
    let from = format!("docker://{}", registry.reference("app:1"));
    for (number, format) in ["dir", "oci-archive", "docker-archive"].iter().enumerate() {
        let name = if *format == "dir" { String::new() } else { ":acme/app:1".to_owned() };
        let place = format!("{format}:{}{name}", path(format));
        skopeo(&["copy", "--quiet", "--src-tls-verify=false", &from, &place]);
        let to = format!("docker://{}", registry.reference(&format!("copy{number}:1")));
        let run = copy(directory.path(), &[&place, &to, "--arch", "amd64"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let config = skopeo(&["inspect", "--tls-verify=false", "--config", "--raw", &to]);
        assert_eq!(config, image.config.bytes, "{format}");
        let manifest = skopeo(&["inspect", "--tls-verify=false", "--raw", &to]);
        assert_eq!(manifest == image.manifest.bytes, *format != "docker-archive", "{format}");
    }
}
