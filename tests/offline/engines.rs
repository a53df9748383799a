//! Copies into engines that refuse, lie, or aren't there. What real ones do is tested with
//! them, in `tests/programs/engines.rs`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::program::{Run, build_image, n2c_with};
use crate::support::registry::{Registry, Reply};

/// A directory with an image.json of two layers.
fn built() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["one", "two"] {
        let tree = directory.path().join(name);
        fs::create_dir(&tree).expect("made");
        fs::write(tree.join("file"), name).expect("written");
    }
    fs::write(directory.path().join("config.json"), "{}").expect("written");
    build_image(directory.path(), &["one", "two"], &[]);
    directory
}

fn copy(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    n2c_with(directory, &[&["copy", "image.json"], arguments].concat(), variables)
}

/// The names of the files in an archive, and whether it has its end.
fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive");
    let name = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        entry.expect("an entry").path().expect("a name").display().to_string()
    };
    entries.map(name).collect()
}

/// docker, as its API looks to a client: it has an image with the first layer, and answers
/// loads with these lines, one after another.
fn docker(directory: &Path, status: u16, answers: Vec<Value>) -> Registry {
    let text = fs::read(directory.join("image.json")).expect("a file");
    let image: Value = serde_json::from_slice(&text).expect("JSON");
    let layer = image["layers"][0]["digest"].clone();
    let (docker, count) = (Registry::start(), AtomicUsize::new(0));
    docker.hook(move |call| {
        let inspected = json!({ "Id": "sha256:0", "RootFS": { "Layers": [layer] } });
        Some(match (call.method.as_str(), call.target.as_str()) {
            (_, "/info") => Reply::new(200, json!({ "DriverStatus": null }).to_string()),
            (_, "/images/json") => Reply::new(200, json!([{ "Id": "sha256:0" }]).to_string()),
            (_, "/images/sha256%3A0/json") => Reply::new(200, inspected.to_string()),
            ("POST", "/images/load?quiet=1") => {
                let answer = &answers[count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
                Reply::new(status, format!("{answer}\r\n"))
            }
            ("POST", target) if target.contains("/tag?") => Reply::new(201, ""),
            _ => Reply::new(404, json!({ "message": "no such image" }).to_string()),
        })
    });
    docker
}

#[test]
fn an_engine_that_lacks_a_layer_after_all_gets_everything() {
    let directory = built();
    let missing = json!({ "errorDetail": { "message": "no such file" }, "error": "no such file" });
    let loaded = json!({ "stream": "Loaded image: acme/app:1\n" });
    let docker = docker(directory.path(), 200, vec![missing, loaded]);
    let host = format!("tcp://{}", docker.host());
    let run = copy(directory.path(), &["docker-daemon:acme/app:1"], &[("DOCKER_HOST", &host)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let calls = docker.calls();
    let loads: Vec<Vec<String>> = calls
        .iter()
        .filter(|call| call.target.starts_with("/images/load"))
        .map(|call| names(&call.body))
        .collect();
    // Everything but the layer, and everything.
    assert_eq!(loads.iter().map(Vec::len).collect::<Vec<_>>(), [6, 7]);
    assert_eq!(loads[0][..3], ["oci-layout", "index.json", "manifest.json"]);
    assert!(run.stderr.contains("sending all of them"), "{}", run.stderr);
    let tag = calls.iter().find(|call| call.target.contains("/tag?")).expect("a name");
    assert!(tag.target.ends_with("?repo=docker%2Eio%2Facme%2Fapp&tag=1"), "{}", tag.target);
}

#[test]
fn what_an_engine_says_reaches_the_user() {
    let directory = built();
    let full = json!({ "errorDetail": { "message": "no space left\u{1b}[2J on device" } });
    for (status, answer, expected) in [
        (200, full, "docker refused the image: no space left[2J on device"),
        (500, json!({ "message": "it is broken" }), "docker refused the image: it is broken"),
    ] {
        let docker = docker(directory.path(), status, vec![answer]);
        let host = format!("tcp://{}", docker.host());
        let run = copy(directory.path(), &["docker-daemon:app"], &[("DOCKER_HOST", &host)]);
        assert!(run.error(1).contains(expected), "{}", run.stderr);
    }
}

#[test]
fn a_layer_that_changed_is_named_whatever_the_engine_says() {
    let directory = built();
    fs::write(directory.path().join("two/file"), "six").expect("written");
    let docker = docker(directory.path(), 200, vec![json!({ "error": "unexpected EOF" })]);
    let host = format!("tcp://{}", docker.host());
    let run = copy(directory.path(), &["docker-daemon:app"], &[("DOCKER_HOST", &host)]);
    assert!(run.error(8).contains("can't be made again from"), "{}", run.stderr);
}

#[test]
fn engines_that_are_not_there_are_named() {
    let directory = built();
    let socket = directory.path().join("socket").display().to_string();
    let host = format!("unix://{socket}");
    let copy = |destination: &str, variables: &[(&str, &str)]| {
        copy(directory.path(), &[destination], variables)
    };
    let run = copy("docker-daemon:app", &[("DOCKER_HOST", &host)]);
    assert!(run.error(7).contains(&format!("failed to reach docker at `{socket}`")));
    assert!(run.stderr.contains("hint: start docker"), "{}", run.stderr);
    // Something that is not a socket.
    fs::write(&socket, "").expect("written");
    copy("docker-daemon:app", &[("DOCKER_HOST", &host)]).error(7);
    copy("docker-daemon:app", &[("DOCKER_HOST", "ssh://-there")]).error(2);
    let missing = [("PATH", "/nowhere")];
    for (destination, program) in [("podman:app", "podman"), ("containerd:app", "ctr")] {
        let run = copy(destination, &missing);
        assert!(run.error(1).contains(&format!("failed to run `{program}`")), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("hint: install `{program}`")), "{}", run.stderr);
    }
    // An engine gets the image as it is.
    for flag in ["--format=oci", "--annotation=a=b", "--compress=gzip"] {
        let run = self::copy(directory.path(), &["podman:app", flag], &missing);
        assert!(run.error(2).contains("gets the image as it is"), "{}", run.stderr);
    }
    for name in ["docker-daemon:", "docker-daemon:App", "podman:a@sha256:0", "containerd:-x"] {
        assert_eq!(copy(name, &missing).code, 2, "{name}");
    }
}
