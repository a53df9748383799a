//! Bad input gives one clear line, the right exit code, and nothing else.

use std::fs::File;
use std::process::Stdio;

use serde_json::json;

use crate::support::images::{self, Blob, Image};
use crate::support::program::{command, n2c, n2c_in};
use crate::support::registry::{Registry, Reply};
use n2c::oci::digest::Digest;
use n2c::oci::media_type::{OCI_CONFIG, OCI_MANIFEST};

fn registry_with_image() -> (Registry, Image) {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["one"]);
    registry.put_image("app", "1", &image);
    (registry, image)
}

/// Locks `app:1` for amd64 from a registry that answers every manifest request
/// with `body`.
fn lock_of(body: &str, content_type: &str) -> crate::support::program::Run {
    let (registry, _) = registry_with_image();
    let (body, content_type) = (body.to_owned(), content_type.to_owned());
    registry.hook(move |call| {
        call.target
            .contains("/manifests/")
            .then(|| Reply::new(200, body.clone()).with("content-type", &content_type))
    });
    n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"])
}

#[test]
fn usage_errors_exit_with_2() {
    for (arguments, expected) in [
        (
            &["lock", "Alpine:3.20"][..],
            "invalid image reference `Alpine:3.20`: repository must be lower-case",
        ),
        (
            &["lock", "https://ghcr.io/a/b"],
            "invalid image reference `https://ghcr.io/a/b`: it must not have a scheme",
        ),
        (
            &["lock", "alpine@sha256:../../x"],
            "invalid image reference `alpine@sha256:../../x`: invalid digest `sha256:../../x`: only lower-case hex digits may follow the algorithm",
        ),
        (
            &["lock", "alpine", "--platform", "linux//v8"],
            "invalid platform `linux//v8`: a part of it is empty",
        ),
        (
            &["lock", "alpine", "--raw", "--platform", "linux/amd64", "--platform", "linux/arm64"],
            "`--raw` prints one manifest",
        ),
        (
            &["blob", "alpine:3.19", "sha256:x", "-o", "out"],
            "invalid repository `alpine:3.19`: it has a tag or a digest",
        ),
        (
            &["blob", "alpine", "sha256:../../x", "-o", "out"],
            "invalid digest `sha256:../../x`: only lower-case hex digits may follow the algorithm",
        ),
        (
            &["blob", "alpine", "md5:d41d8cd98f00b204e9800998ecf8427e", "-o", "out"],
            "invalid digest `md5:d41d8cd98f00b204e9800998ecf8427e`: only sha256 and sha512 are supported",
        ),
    ] {
        let run = n2c(arguments);
        assert_eq!(run.error(2), expected);
        assert!(run.stderr.contains("\nhint: "), "no hint: {}", run.stderr);
    }
    // clap's own errors
    assert_eq!(n2c(&["lock"]).code, 2);
    assert_eq!(n2c(&["lock", "a", "--platform", "linux/arm64", "--arch", "arm64"]).code, 2);
    assert_eq!(n2c(&["bogus"]).code, 2);
}

#[test]
fn an_unknown_tag_exits_with_4() {
    let (registry, _) = registry_with_image();
    let reference = registry.reference("app:2");
    let run = n2c(&["lock", &reference]);
    assert_eq!(
        run.error(4),
        format!(
            "failed to fetch manifest `{reference}` from `{}`: HTTP 404 Not Found: MANIFEST_UNKNOWN: manifest unknown",
            registry.host()
        )
    );
    assert_eq!(registry.calls().len(), 1, "a 404 was retried");
}

#[test]
fn a_refused_connection_exits_with_7() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = unused.local_addr().expect("an address");
    drop(unused);
    let error = n2c(&["lock", &format!("{address}/app:1")]).error(7).to_owned();
    assert!(error.ends_with("Connection refused (os error 111)"), "{error}");
}

#[test]
fn anything_but_an_image_exits_with_8() {
    let digest = Digest::sha256(b"{}").to_string();
    let descriptor =
        |media_type: &str| json!({ "mediaType": media_type, "digest": digest, "size": 2 });
    let chart = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
        "config": descriptor("application/vnd.cncf.helm.config.v1+json"),
    });
    let schema1 = json!({ "schemaVersion": 1, "name": "app", "fsLayers": [], "signatures": [] });
    let path = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG),
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:../../x", "size": 1 }],
    });
    let deep =
        format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, expected) in [
        (chart.to_string(), "an artifact of type `application/vnd.cncf.helm.config.v1+json`"),
        (schema1.to_string(), "schema 1"),
        (path.to_string(), "invalid digest `sha256:../../x`"),
        (deep, "recursion limit exceeded"),
        (r#"{"schemaVersion":2,"manif"#.to_owned(), "EOF while parsing"),
        (
            "<!DOCTYPE html><title>Log in</title>".to_owned(),
            "begins with `<!DOCTYPE html><title>Log in</title>`",
        ),
        ("null".to_owned(), "not a manifest"),
        (String::new(), "not a manifest"),
    ] {
        let run = lock_of(&body, "text/html; charset=utf-8");
        let error = run.error(8);
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("/app:1`"), "does not say which image: {error}");
    }
}

// protocol rule 35
#[test]
fn rule_35_manifests_have_a_size_limit() {
    let (registry, _) = registry_with_image();
    // with the size announced
    registry.hook(|_| Some(Reply::new(200, vec![b' '; 64 << 20])));
    let error = n2c(&["lock", &registry.reference("app:1")]).error(8).to_owned();
    assert!(error.ends_with("is larger than 4194304 bytes"), "{error}");
    // and without
    registry.hook(|_| Some(Reply::endless(vec![b' '; 1 << 16])));
    let error = n2c(&["lock", &registry.reference("app:1")]).error(8).to_owned();
    assert!(error.ends_with("is larger than 4194304 bytes"), "{error}");
}

// protocol rule 32
#[test]
fn rule_32_a_body_that_does_not_match_its_digest_is_rejected() {
    let registry = Registry::start();
    let (image, other) = (Image::new("linux/amd64", &["one"]), Image::new("linux/amd64", &["two"]));
    registry.put_image("app", "image", &image);
    registry.put_manifest("app", "1", &images::index(&[image.manifest.entry("linux/amd64")]));
    let reference = registry.reference("app:1");
    let wrong = other.manifest.bytes.clone();
    registry.hook(move |call| {
        call.target.contains("/manifests/sha256").then(|| Reply::new(200, wrong.clone()))
    });
    let run = n2c(&["lock", &reference, "--arch", "amd64"]);
    let error = run.error(8);
    assert!(
        error.contains("digest mismatch") && error.contains(&image.manifest.digest().to_string()),
        "{error}"
    );
    assert!(error.contains(&other.manifest.digest().to_string()), "{error}");

    // the config too; its size is checked before its hash (rule 40)
    let wrong = [&image.config.bytes[..], b" "].concat();
    registry
        .hook(move |call| call.target.contains("/blobs/").then(|| Reply::new(200, wrong.clone())));
    let error = n2c(&["lock", &reference, "--arch", "amd64"]).error(8).to_owned();
    assert!(error.contains("size mismatch"), "{error}");

    // and a reference pinned by digest
    let pinned = registry.reference(&format!("app@{}", image.manifest.digest()));
    let wrong = other.manifest.bytes.clone();
    registry.hook(move |call| {
        call.target.contains("/manifests/").then(|| Reply::new(200, wrong.clone()))
    });
    assert!(n2c(&["lock", &pinned, "--arch", "amd64"]).error(8).contains("digest mismatch"));
}

// protocol rule 32: a header with a wrong digest for a tag has no effect
#[test]
fn rule_32_the_digest_header_is_not_trusted() {
    let (registry, image) = registry_with_image();
    let body = image.manifest.bytes.clone();
    registry.hook(move |call| {
        call.target.ends_with("/manifests/1").then(|| {
            Reply::new(200, body.clone())
                .with("content-type", "text/plain")
                .with("docker-content-digest", Digest::sha256(b"lie").to_string())
        })
    });
    let lock = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]).json();
    assert_eq!(lock["n2c"]["manifest"], image.manifest.digest().to_string());
}

#[test]
fn there_must_be_as_many_diff_ids_as_layers() {
    let registry = Registry::start();
    let (layer, _) = images::layer("x");
    let config = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": [] } });
    registry.put_image("app", "1", &Image::from_parts(&config, vec![layer]));
    let error = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]).error(8).to_owned();
    assert!(error.contains("1 layers in its manifest but 0 diff IDs"), "{error}");
}

#[test]
fn results_that_can_not_be_written_are_errors() {
    let (registry, image) = registry_with_image();
    let reference = registry.reference("app:1");
    let directory = tempfile::tempdir().expect("a directory");
    let lock = ["lock", &reference, "--arch", "amd64"];

    let run = n2c_in(directory.path(), &[&lock[..], &["-o", "missing/lock.json"]].concat());
    assert_eq!(
        run.error(1),
        "failed to write `missing/lock.json`: No such file or directory (os error 2)"
    );
    let run = n2c_in(directory.path(), &[&lock[..], &["-o", "."]].concat());
    assert!(run.error(1).contains("Is a directory"), "{}", run.stderr);
    let run = n2c_in(directory.path(), &[&lock[..], &["-o", "/dev/full"]].concat());
    assert_eq!(run.error(1), "failed to write `/dev/full`: No space left on device (os error 28)");
    let repository = registry.reference("app");
    let digest = image.config.digest().to_string();
    let run = n2c_in(directory.path(), &["blob", &repository, &digest, "-o", "/dev/full"]);
    assert!(run.error(1).contains("No space left on device"), "{}", run.stderr);

    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = command(directory.path(), &lock).stdout(full).output().expect("a run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(
        stderr,
        "error: failed to write to standard output: No space left on device (os error 28)\n"
    );

    let mut child = command(directory.path(), &lock)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("an end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr, "error: failed to write to standard output: Broken pipe (os error 32)\n");
    assert_eq!(std::fs::read_dir(&directory).expect("listed").count(), 0, "something was left");
}

#[test]
fn lockfiles_that_can_not_be_used_are_named() {
    let (registry, _) = registry_with_image();
    let lock = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]).text().to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let blobs = |text: &str| {
        std::fs::write(directory.path().join("lock.json"), text).expect("written");
        n2c_in(directory.path(), &["blobs", "lock.json"])
    };
    assert_eq!(blobs(&lock).code, 0);
    for (text, expected) in [
        (lock.replace("\"version\": 1", "\"version\": 2"), "lockfile `lock.json` has version 2; this n2c reads up to 1"),
        (lock.replace("\"ref\":", "\"reference\":"), "inconsistent lockfile `lock.json`: `n2c.ref` is missing"),
        (format!("<<<<<<< HEAD\n{lock}"), "invalid lockfile `lock.json`"),
        (lock.replace("sha256:", "sha256:../../"), "invalid lockfile `lock.json`"),
        (lock.replace("\"diffIds\": [", "\"diffIds\": [\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\","), "it has 1 layers but 2 diff IDs"),
        (images::index(&[]).bytes.iter().map(|byte| char::from(*byte)).collect(), "is an index of several images"),
        ("{}".to_owned(), "not a container image"),
        (String::new(), "invalid lockfile `lock.json`"),
    ] {
        let run = blobs(&text);
        assert!(run.error(8).contains(expected), "{}", run.stderr);
    }
    assert!(n2c(&["blobs", "missing.json"]).error(1).contains("`missing.json`"));
}

#[test]
fn an_invalid_layout_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = n2c_in(directory.path(), &["lock", "oci:missing", "--arch", "amd64"]);
    assert!(run.error(4).starts_with("`missing` is not a readable OCI layout"), "{}", run.stderr);
    std::fs::write(directory.path().join("oci-layout"), "{}").expect("written");
    std::fs::write(directory.path().join("index.json"), "[").expect("written");
    let run = n2c_in(directory.path(), &["lock", "oci:.:tag", "--arch", "amd64"]);
    assert!(run.error(8).starts_with("invalid `index.json`"), "{}", run.stderr);
    let blob = Blob::new("x", "y");
    let index = json!({ "manifests": [blob.descriptor()] }).to_string();
    std::fs::write(directory.path().join("index.json"), index).expect("written");
    assert!(n2c_in(directory.path(), &["lock", "oci:.:tag"]).error(4).contains("no image `tag`"));
    assert!(n2c_in(directory.path(), &["lock", "oci:."]).error(4).contains("has no readable blob"));
}
