//! `n2c copy` into registries: which requests are made, what they carry, and what is left
//! behind if one fails.

use std::fs;
use std::path::Path;

use flate2::read::GzDecoder;
use n2c::oci::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::{self, Image};
use crate::support::program::{Run, build_image, n2c_in, peak_memory};
use crate::support::pushable::Pushable;
use crate::support::registry::{Call, Registry, Reply};

/// A directory with an image.json of two layers, `one` and `two`, with these options for the
/// command that makes them.
fn built(options: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["one", "two"] {
        let tree = directory.path().join(name);
        fs::create_dir(&tree).expect("made");
        fs::write(tree.join("file"), name.repeat(1000)).expect("written");
    }
    fs::write(directory.path().join("config.json"), "{}").expect("written");
    build(&directory, options);
    directory
}

fn build(directory: &TempDir, options: &[&str]) {
    build_image(directory.path(), &["one", "two"], options);
}

fn copy(directory: &Path, more: &[&str]) -> Run {
    n2c_in(directory, &[&["copy"], more].concat())
}

/// Copies the image to `app:1`.
fn push(directory: &TempDir, registry: &Pushable, more: &[&str]) -> Run {
    let destination = format!("docker://{}", registry.reference("app:1"));
    copy(directory.path(), &[&["nix:image.json", &destination], more].concat())
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// Checks that the layers of an image decompress to what its config says.
fn check(registry: &Pushable, repository: &str, tag: &str) -> Value {
    let manifest = registry.manifest(repository, tag);
    let config = registry.blob(repository, &manifest["config"]["digest"]);
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers");
    let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("digests");
    assert_eq!(layers.len(), diff_ids.len());
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let bytes = registry.blob(repository, &layer["digest"]);
        let media_type = layer["mediaType"].as_str().expect("a type");
        let mut plain = Vec::new();
        let copied = if media_type.ends_with("gzip") {
            std::io::copy(&mut GzDecoder::new(&bytes[..]), &mut plain)
        } else if media_type.ends_with("zstd") {
            std::io::copy(&mut zstd::Decoder::new(&bytes[..]).expect("a decoder"), &mut plain)
        } else {
            std::io::copy(&mut &bytes[..], &mut plain)
        };
        copied.expect("decompressed");
        assert_eq!(*diff_id, Digest::sha256(&plain).to_string());
    }
    manifest
}

#[test]
fn what_is_recorded_makes_an_unchanged_image_two_requests() {
    let directory = built(&["--compress", "gzip"]);
    let registry = Pushable::start();
    let run = push(&directory, &registry, &[]);
    let digest = registry.contents().tags[&("app".to_owned(), "1".to_owned())].clone();
    assert_eq!(run.text(), format!("{}@{digest}\n", registry.reference("app")));
    // Nothing is asked of a new repository.
    let mut log = registry.log_since(0);
    assert_eq!(log[..3], ["HEAD digest", "GET tag", "GET tags"]);
    log[3..9].sort();
    let blobs = [["POST upload"; 3], ["PUT upload"; 3]].concat();
    assert_eq!(log[3..], [&blobs[..], &["PUT tag"]].concat());
    check(&registry, "app", "1");
    // Another machine, which has never copied it.
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    let first = registry.registry.calls().len();
    let again = push(&directory, &registry, &[]);
    assert_eq!(again.text(), run.text());
    assert_eq!(registry.log_since(first), ["HEAD digest", "HEAD tag"]);
    assert!(again.stderr.contains("sent 0 B of"), "{}", again.stderr);
}

#[test]
fn a_changed_layer_is_all_that_is_sent() {
    let directory = built(&["--compress", "gzip"]);
    let registry = Pushable::start();
    push(&directory, &registry, &[]).text();
    fs::write(directory.path().join("two/file"), "another").expect("written");
    build(&directory, &["--compress", "gzip"]);
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    let first = registry.registry.calls().len();
    push(&directory, &registry, &[]).text();
    let mut log = registry.log_since(first);
    assert_eq!(log.len(), 8, "{log:?}");
    assert_eq!(log[..2], ["HEAD digest", "GET tag"]);
    log[2..7].sort();
    let expected = ["HEAD blob", "POST upload", "POST upload", "PUT upload", "PUT upload"];
    assert_eq!((&log[2..7], &*log[7]), (&expected.map(String::from)[..], "PUT tag"));
    check(&registry, "app", "1");
}

#[test]
fn what_is_not_recorded_is_remembered() {
    let directory = built(&[]);
    let registry = Pushable::start();
    push(&directory, &registry, &[]).text();
    let log = registry.log_since(0);
    assert_eq!(log.iter().filter(|line| *line == "PATCH upload").count(), 2, "{log:?}");
    check(&registry, "app", "1");
    let first = registry.registry.calls().len();
    push(&directory, &registry, &[]).text();
    assert_eq!(registry.log_since(first), ["HEAD digest", "HEAD tag"]);
    // Without memory, what a layer compresses to can be found out before it is sent.
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    let first = registry.registry.calls().len();
    push(&directory, &registry, &["--precompute"]).text();
    assert_eq!(registry.log_since(first), ["HEAD digest", "HEAD tag"]);
    // Or an image in the registry says it.
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    let first = registry.registry.calls().len();
    let other = registry.reference("app:1");
    push(&directory, &registry, &["--reuse-from", &other]).text();
    let log = registry.log_since(first);
    assert!(!log.iter().any(|line| line.starts_with('P')), "{log:?}");
    // Another repository gets the blobs from the first.
    push(&directory, &registry, &["--precompute"]).text();
    let first = registry.registry.calls().len();
    let destination = format!("docker://{}", registry.reference("other:1"));
    copy(directory.path(), &["nix:image.json", &destination]).text();
    let log = registry.log_since(first);
    assert_eq!(log.iter().filter(|line| *line == "POST mount").count(), 3, "{log:?}");
    assert!(!log.iter().any(|line| line.contains("upload")), "{log:?}");
    check(&registry, "other", "1");
}

#[test]
fn wrong_records_and_memories_are_found_out() {
    let other = Digest::sha256(b"other").to_string();
    // One that is too small, one that is too large, and one of the right size.
    for size in [Some(1), Some(1 << 20), None] {
        let directory = built(&["--compress", "gzip"]);
        let image = directory.path().join("image.json");
        let mut json = read(&image);
        let record = &mut json["layers"][0]["compressed"][0];
        record["digest"] = other.clone().into();
        if let Some(size) = size {
            record["size"] = size.into();
        }
        fs::write(&image, json.to_string()).expect("written");
        let registry = Pushable::start();
        let run = push(&directory, &registry, &[]);
        run.text();
        assert!(run.stderr.contains("than what was recorded"), "{}", run.stderr);
        check(&registry, "app", "1");
    }
    let directory = built(&[]);
    push(&directory, &Pushable::start(), &[]).text();
    let facts = directory.path().join(".cache/n2c/compressed");
    for entry in fs::read_dir(&facts).expect("facts") {
        let path = entry.expect("an entry").path();
        let mut fact = read(&path);
        fact["digest"] = other.clone().into();
        fs::write(&path, fact.to_string()).expect("written");
    }
    let registry = Pushable::start();
    push(&directory, &registry, &[]).text();
    check(&registry, "app", "1");
    // What another compressor made is not looked at.
    let directory = built(&["--compress", "gzip"]);
    let image = directory.path().join("image.json");
    let mut json = read(&image);
    json["layers"][0]["compressed"][0]["by"] = "another".into();
    json["layers"][0]["compressed"][0]["digest"] = other.into();
    fs::write(&image, json.to_string()).expect("written");
    let run = push(&directory, &registry, &[]);
    assert!(!run.stderr.contains("recorded"), "{}", run.stderr);
}

#[test]
fn layers_are_compressed_as_it_is_asked_for() {
    let directory = built(&["--compress", "zstd"]);
    let media_type = |more: &[&str]| {
        let registry = Pushable::start();
        push(&directory, &registry, more).text();
        let manifest = check(&registry, "app", "1");
        manifest["layers"][0]["mediaType"].as_str().expect("a type").to_owned()
    };
    let layer = "application/vnd.oci.image.layer.v1.tar";
    assert_eq!(media_type(&[]), format!("{layer}+gzip"));
    assert_eq!(media_type(&["--dest-compress-format", "zstd"]), format!("{layer}+zstd"));
    assert_eq!(
        media_type(&["--compress=zstd", "--dest-compress-level=19"]),
        format!("{layer}+zstd")
    );
    assert_eq!(media_type(&["--dest-compress-level", "1"]), format!("{layer}+gzip"));
    assert_eq!(media_type(&["--dest-compress=false"]), layer);
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    assert_eq!(media_type(&["--format", "v2s2"]), docker);
    let registry = Pushable::start();
    for more in [
        &["--dest-compress-level", "10"][..],
        &["--dest-compress-level=0"],
        &["--dest-compress=false", "--compress=gzip"],
        &["--format=v2s2", "--compress=zstd"],
        &["--format=v2s2", "--annotation=a=b"],
        &["--annotation=a"],
    ] {
        push(&directory, &registry, more).error(2);
    }
    assert!(registry.contents().tags.is_empty());
    // Files get plain layers, unless that is asked for.
    let run = copy(directory.path(), &["image.json", "dir:zstd", "--compress", "zstd"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let manifest = read(&directory.path().join("zstd/manifest.json"));
    assert_eq!(manifest["layers"][0]["mediaType"], format!("{layer}+zstd"));
    let recorded = read(&directory.path().join("image.json"))["layers"][0]["compressed"][0].clone();
    assert_eq!(manifest["layers"][0]["digest"], recorded["digest"]);
}

/// A reply for one request of a method whose target has a part, the first time.
fn once(
    method: &'static str,
    part: &'static str,
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> impl Fn(&Call, usize) -> Option<Reply> + Send + Sync {
    let failed = std::sync::atomic::AtomicBool::new(false);
    move |call, _| {
        let is_it = call.method == method && call.target.contains(part);
        let is_first = is_it && !failed.swap(true, std::sync::atomic::Ordering::Relaxed);
        is_first.then(&reply)
    }
}

#[test]
fn each_step_of_an_upload_is_tried_again() {
    let steps = [
        ("HEAD", "/manifests/"),
        ("GET", "/manifests/"),
        ("POST", "/blobs/"),
        ("PATCH", "/blobs/"),
        ("PUT", "/blobs/"),
        ("PUT", "/manifests/"),
    ];
    for (method, part) in steps {
        for status in [429, 503] {
            let directory = built(&[]);
            let registry = Pushable::with(once(method, part, move || {
                Reply::new(status, "").with("retry-after", "0")
            }));
            let run = push(&directory, &registry, &[]);
            assert_eq!(run.code, 0, "{method} {part} {status}: {}", run.stderr);
            assert!(run.stderr.contains("retrying"), "{method} {part} {status}: {}", run.stderr);
            check(&registry, "app", "1");
        }
    }
}

#[test]
fn what_can_not_be_pushed_leaves_no_tag() {
    let refusals: [(&str, &str, u16, i32); 12] = [
        ("HEAD", "/manifests/", 500, 7),
        ("POST", "/blobs/", 401, 5),
        ("POST", "/blobs/", 403, 5),
        ("POST", "/blobs/", 404, 4),
        ("POST", "/blobs/", 429, 6),
        ("POST", "/blobs/", 507, 7),
        ("PATCH", "/blobs/", 507, 7),
        ("PUT", "/blobs/", 400, 7),
        ("PUT", "/blobs/", 507, 7),
        ("PUT", "/manifests/", 400, 7),
        ("PUT", "/manifests/", 403, 5),
        ("PUT", "/manifests/", 409, 7),
    ];
    for (method, part, status, code) in refusals {
        let directory = built(&[]);
        let registry = Pushable::with(move |call, _| {
            let is_it = call.method == method && call.target.contains(part);
            is_it.then(|| Reply::error(status, "DENIED", "quota, or no right"))
        });
        let run = push(&directory, &registry, &["--retry-times", "0"]);
        assert_eq!(run.code, code, "{method} {part} {status}: {}", run.stderr);
        assert!(run.stdout.is_empty() && run.stderr.contains("error: "), "{}", run.stderr);
        assert!(registry.contents().tags.is_empty());
    }
}

#[test]
fn a_registry_that_stores_something_else_is_an_error() {
    let directory = built(&[]);
    let registry = Pushable::with(|call, _| {
        let is_it = call.method == "PUT" && call.target.contains("/manifests/");
        let other = Digest::sha256(b"other").to_string();
        is_it.then(|| Reply::new(201, "").with("docker-content-digest", other))
    });
    let run = push(&directory, &registry, &[]);
    assert!(run.error(8).contains("stored manifest"), "{}", run.stderr);
}

// protocol rules 77 and 79
#[test]
fn rule_79_bodies_that_are_too_large_are_sent_in_pieces() {
    let directory = built(&[]);
    // Random enough that it doesn't compress to a single piece.
    let bytes: Vec<u8> = (0..1_200_000_u32)
        .flat_map(|number| Digest::sha256(&number.to_le_bytes()).hex().as_bytes()[..8].to_vec())
        .collect();
    fs::write(directory.path().join("two/file"), bytes).expect("written");
    for options in [&[][..], &["--compress", "gzip"]] {
        build(&directory, options);
        fs::remove_dir_all(directory.path().join(".cache")).unwrap_or_default();
        let registry = Pushable::with(|call, _| {
            let is_large = call.body.len() > 4 << 20;
            is_large.then(|| Reply::new(413, ""))
        });
        let run = push(&directory, &registry, &[]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        check(&registry, "app", "1");
        let calls = registry.registry.calls();
        let pieces: Vec<&Call> =
            calls.iter().filter(|call| call.header("content-range").is_some()).collect();
        assert!(pieces.len() >= 2, "{}", pieces.len());
        assert!(pieces[0].header("content-range").is_some_and(|range| range == "0-4194303"));
    }
}

#[test]
fn rule_79_a_lost_session_begins_again() {
    let directory = built(&[]);
    let registry = Pushable::with(once("PATCH", "/blobs/", || Reply::new(416, "")));
    assert_eq!(push(&directory, &registry, &[]).code, 0);
    check(&registry, "app", "1");
}

#[test]
fn rule_77_a_registry_without_patch_gets_the_length_first() {
    for status in [404, 405, 411, 501] {
        let directory = built(&[]);
        let registry =
            Pushable::with(move |call, _| (call.method == "PATCH").then(|| Reply::new(status, "")));
        let run = push(&directory, &registry, &[]);
        assert_eq!(run.code, 0, "{status}: {}", run.stderr);
        check(&registry, "app", "1");
    }
}

#[test]
fn a_head_that_is_refused_is_no_answer() {
    for status in [400, 403, 405] {
        let directory = built(&["--compress", "gzip"]);
        let registry =
            Pushable::with(move |call, _| (call.method == "HEAD").then(|| Reply::new(status, "")));
        for _ in 0..2 {
            let run = push(&directory, &registry, &[]);
            assert_eq!(run.code, 0, "{status}: {}", run.stderr);
        }
        check(&registry, "app", "1");
    }
}

#[test]
fn changed_store_paths_are_never_tagged() {
    for options in [&[][..], &["--compress", "gzip"]] {
        for content in ["other".repeat(600), "longer".repeat(9000), String::new()] {
            let directory = built(options);
            fs::write(directory.path().join("two/file"), content).expect("written");
            let registry = Pushable::start();
            let run = push(&directory, &registry, &[]);
            let error = run.error(8);
            assert!(error.contains("can't be made again from"), "{error}");
            // By a second look, the file.
            let expected = format!("(`{}/two/file` was changed last)", directory.path().display());
            assert!(error.contains(&expected), "{error}");
            assert!(registry.contents().manifests.is_empty());
        }
    }
}

#[test]
fn several_images_become_an_index() {
    let directory = built(&[]);
    let arguments = ["image", "arm.json", "config.json", "one.layers.json", "--arch", "arm64"];
    n2c_in(directory.path(), &arguments).text();
    let registry = Pushable::start();
    let destination = format!("docker://{}", registry.reference("app:1"));
    let annotation = "--annotation=org.opencontainers.image.source=https://example.org";
    let run = copy(directory.path(), &["image.json", "arm.json", &destination, annotation]);
    let digest = run.text().trim().rsplit('@').next().expect("a digest").to_owned();
    let index = registry.manifest("app", "1");
    let platform = |number: usize| index["manifests"][number]["platform"]["architecture"].clone();
    assert_eq!((platform(0), platform(1)), (json!("amd64"), json!("arm64")));
    let expected = json!({ "org.opencontainers.image.source": "https://example.org" });
    assert_eq!(index["annotations"], expected);
    let child = index["manifests"][1]["digest"].as_str().expect("a digest").to_owned();
    {
        let contents = registry.contents();
        assert_eq!(contents.tags[&("app".to_owned(), "1".to_owned())], digest);
        let (_, bytes) = &contents.manifests[&("app".to_owned(), child)];
        let manifest: Value = serde_json::from_slice(bytes).expect("JSON");
        assert_eq!(manifest["annotations"], expected);
    }
    // The layer that both have was sent once.
    let calls = registry.registry.calls();
    assert_eq!(calls.iter().filter(|call| call.method == "PATCH").count(), 2);
    let first = calls.len();
    copy(directory.path(), &["image.json", "arm.json", &destination, annotation]).text();
    assert_eq!(registry.log_since(first), ["HEAD digest", "HEAD tag"]);
    let run = copy(directory.path(), &["image.json", "image.json", &destination]);
    assert!(run.error(2).contains("two images are for `linux/amd64`"), "{}", run.stderr);
    // An index can be written to a layout too.
    let run = copy(directory.path(), &["image.json", "arm.json", "oci:layout:1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = copy(directory.path(), &["oci:layout:1", &destination, "--all"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn all_tags_and_destinations_get_the_image() {
    let directory = built(&[]);
    let (first, second) = (Pushable::start(), Pushable::start());
    let one = format!("docker://{}", first.reference("app:1"));
    let two = format!("docker://{}", second.reference("team/app"));
    let additional = ["--additional-tag", "2", "--additional-tag", &first.reference("app:3")];
    let arguments = [&["image.json", &one][..], &additional, &["--digestfile", "digest"]].concat();
    let run = copy(directory.path(), &arguments);
    let digest = fs::read_to_string(directory.path().join("digest")).expect("a file");
    assert_eq!(run.text(), format!("{}@{digest}\n", first.reference("app")));
    for tag in ["1", "2", "3"] {
        assert_eq!(first.contents().tags[&("app".to_owned(), tag.to_owned())], digest);
    }
    let run = copy(directory.path(), &["image.json", "--to", &one, "--to", &two, "--to=dir:copy"]);
    assert_eq!(run.text().lines().count(), 2, "{}", run.stderr);
    check(&second, "team/app", "latest");
    assert!(directory.path().join("copy/manifest.json").exists());
    // By digest, without a tag, and only if it is that image.
    let pinned = format!("docker://{}@{digest}", first.reference("other"));
    copy(directory.path(), &["image.json", &pinned]).text();
    assert!(!first.contents().tags.keys().any(|(name, _)| name == "other"));
    let wrong = format!("docker://{}@{}", first.reference("x"), Digest::sha256(b"x"));
    let run = copy(directory.path(), &["image.json", &wrong]);
    assert!(run.error(8).contains("the image has the digest"), "{}", run.stderr);
    for arguments in [
        &["image.json"][..],
        &["image.json", "docker://"],
        &["docker://docker://a", &one],
        &["image.json", "ftp://a"],
        &["image.json", &one, "--additional-tag", "other.example/x:1"],
        &["image.json", "dir:x", "--additional-tag", "1"],
        &["image.json", "dir:x", "--dry-run"],
        &["image.json", &one, "--dest-creds", "secret-without-password"],
    ] {
        let run = copy(directory.path(), arguments);
        assert!(!run.error(2).contains("secret"), "{}", run.stderr);
    }
}

#[test]
fn a_dry_run_sends_nothing() {
    let directory = built(&["--compress", "gzip"]);
    let registry = Pushable::start();
    let run = push(&directory, &registry, &["--dry-run"]);
    assert_eq!(run.text().lines().filter(|line| line.starts_with("send ")).count(), 3);
    let run = push(&directory, &registry, &["--dry-run", "--json"]);
    let json: Value = serde_json::from_str(run.text()).expect("JSON");
    assert_eq!((&json["dryRun"], &json["present"]), (&json!(true), &json!(false)));
    assert_eq!((&json["tags"], &json["sent"]), (&json!(["1"]), &json["total"]));
    assert_eq!(json["blobs"][0]["action"], "send");
    assert!(registry.log_since(0).iter().all(|line| !line.starts_with('P')));
    push(&directory, &registry, &[]).text();
    let run = push(&directory, &registry, &["--dry-run"]);
    assert!(run.text().lines().all(|line| line.starts_with("skip ")), "{}", run.text());
    // Digests that nobody knows are found out first.
    let directory = built(&[]);
    let run = push(&directory, &registry, &["--dry-run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn images_are_kept_to_the_byte_on_every_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let (amd, arm) =
        (Image::new("linux/amd64", &["base", "top"]), Image::new("linux/arm64", &["base"]));
    let (attestation, entry) = images::attestation(&amd);
    let index = images::index(&[
        amd.manifest.entry("linux/amd64"),
        arm.manifest.entry("linux/arm64"),
        entry,
    ]);
    let source = Registry::start();
    for image in [&amd, &arm, &attestation] {
        source.put_image("app", "other", image);
    }
    source.put_manifest("app", "1", &index);
    let registry = Pushable::start();
    let from = format!("docker://{}", source.reference("app:1"));
    let to = |name: &str| format!("docker://{}", registry.reference(name));
    let run = copy(
        directory.path(),
        &[&from, &to("app:1"), "--all", "--preserve-digests", "--override-arch=arm"],
    );
    assert!(run.text().contains(&index.digest().to_string()), "{}", run.stderr);
    assert_eq!(registry.contents().manifests.len(), 4);
    // By way of each format that holds one image.
    let digest = amd.manifest.digest();
    let ways = ["oci:layout:a", "oci-archive:oci.tar:a", "dir:directory"];
    for (number, way) in ways.iter().enumerate() {
        let run = copy(directory.path(), &[&from, way, "--platform", "linux/amd64"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let name = format!("way{number}:1");
        let run = copy(directory.path(), &[way, &to(&name), "--override-arch=amd64"]);
        assert!(run.text().contains(&digest.to_string()), "{way}: {}", run.stderr);
    }
    // A docker archive has no manifest. Its layers are compressed again.
    let archive = "docker-archive:docker.tar:app:1";
    let run = copy(directory.path(), &[&from, archive, "--platform", "linux/amd64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    copy(directory.path(), &["docker-archive:docker.tar", &to("archive:1")]).text();
    let manifest = check(&registry, "archive", "1");
    assert_eq!(manifest["config"]["digest"], amd.config.digest().to_string());
    let run = copy(directory.path(), &["docker-archive:docker.tar:other:1", "dir:x"]);
    assert!(run.error(2).contains("no image of that name"), "{}", run.stderr);
    // One that is compressed as a whole, as nixpkgs makes them.
    let tar = fs::read(directory.path().join("docker.tar")).expect("an archive");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).expect("compressed");
    fs::write(directory.path().join("docker.tar.gz"), gzip.finish().expect("an end")).expect("w");
    let run = copy(directory.path(), &["docker-archive:docker.tar.gz:app:1", "dir:unzipped"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let config = amd.config.digest();
    assert!(directory.path().join("unzipped").join(config.hex()).exists());
    // What would change is refused if it must not.
    let more = ["--preserve-digests", "--annotation=a=b"];
    let run = copy(directory.path(), &[&["oci:layout:a", &to("x:1")], &more[..]].concat());
    assert!(run.error(2).contains("another digest"), "{}", run.stderr);
    // A blob that was damaged on the way is not tagged.
    let path = directory.path().join("directory").join(amd.layers[0].digest().hex());
    let mut bytes = fs::read(&path).expect("a layer");
    bytes[10] ^= 1;
    fs::write(&path, bytes).expect("written");
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    let registry = Pushable::start();
    let to = format!("docker://{}", registry.reference("damaged:1"));
    let run = copy(directory.path(), &["dir:directory", &to, "--retry-times=0"]);
    assert!(run.error(8).contains("digest mismatch"), "{}", run.stderr);
    assert!(!registry.contents().tags.keys().any(|(name, _)| name == "damaged"));
}

#[test]
fn a_registry_gets_what_another_one_has_and_mounts_what_it_has_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = Image::new("linux/amd64", &["base", "top"]);
    let registry = Pushable::start();
    let source = Registry::start();
    source.put_image("base", "1", &image);
    let name = |name: &str| format!("docker://{}", registry.reference(name));
    let from = format!("docker://{}", source.reference("base:1"));
    let platform = "--platform=linux/amd64";
    copy(directory.path(), &[&from, &name("app:1"), platform]).text();
    let first = registry.registry.calls().len();
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    copy(directory.path(), &[&name("app:1"), &name("team/app:2"), platform]).text();
    let log = registry.log_since(first);
    assert_eq!(log.iter().filter(|line| *line == "POST mount").count(), 3, "{log:?}");
    assert!(!log.iter().any(|line| line.ends_with("upload")), "{log:?}");
    check(&registry, "team/app", "2");
    // What the source damages is not tagged, whatever was sent of it.
    let layer = image.layers[1].clone();
    source.hook(move |call| {
        let is_it = call.method == "GET" && call.target.ends_with(&layer.digest().to_string());
        is_it.then(|| Reply::new(200, vec![7; layer.bytes.len()]))
    });
    fs::remove_dir_all(directory.path().join(".cache")).expect("removed");
    let registry = Pushable::start();
    let to = format!("docker://{}", registry.reference("damaged:1"));
    let run = copy(directory.path(), &[&from, &to, platform]);
    assert!(run.error(8).contains("digest mismatch"), "{}", run.stderr);
    assert!(!registry.contents().tags.keys().any(|(name, _)| name == "damaged"));
}

// protocol rule 82
#[test]
fn rule_82_what_refers_to_an_image_is_copied_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = Image::new("linux/amd64", &["base"]);
    let content = images::Blob::new("text/x", "a signature");
    let config = images::Blob::new("application/vnd.oci.empty.v1+json", "{}");
    let signature = images::Blob::json(
        n2c::oci::media_type::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": n2c::oci::media_type::OCI_MANIFEST,
            "artifactType": "example/signature",
            "config": config.descriptor(),
            "layers": [content.descriptor()],
            "subject": image.manifest.descriptor(),
            "annotations": { "a": "b" },
        }),
    );
    let index = images::index(&[image.manifest.entry("linux/amd64")]);
    let list = images::index(&[signature.descriptor()]);
    let tag = n2c::registry::referrers_tag(&image.manifest.digest());
    // With a list of its own, and with a tag in its place.
    for has_list in [true, false] {
        let source = Registry::start();
        source.put_image("app", "other", &image);
        source.put_manifest("app", "1", &index);
        source.put_manifest("app", "signature", &signature);
        source.put_blob(&content);
        source.put_blob(&config);
        if has_list {
            let (list, digest) = (list.bytes.clone(), image.manifest.digest().to_string());
            source.hook(move |call| {
                let is_it = call.target.ends_with(&format!("/referrers/{digest}"));
                is_it.then(|| Reply::new(200, list.clone()))
            });
        } else {
            source.put_manifest("app", &tag, &list);
        }
        let registry = Pushable::start();
        let from = format!("docker://{}", source.reference("app:1"));
        let to = format!("docker://{}", registry.reference("app:1"));
        let run = copy(directory.path(), &[&from, &to, "--all"]);
        run.text();
        assert!(run.stderr.contains("copied 1 manifest that refers"), "{}", run.stderr);
        // The registry keeps no track of it, so the index has to.
        let kept = registry.manifest("app", &tag);
        let entry = &kept["manifests"][0];
        assert_eq!(entry["digest"], signature.digest().to_string());
        assert_eq!(entry["artifactType"], "example/signature");
        assert_eq!(entry["annotations"], json!({ "a": "b" }));
        registry.blob("app", &json!(content.digest().to_string()));
        // Once is enough.
        copy(directory.path(), &[&from, &to, "--all"]).text();
        assert_eq!(registry.manifest("app", &tag), kept);
        // What cosign keeps under a tag of its own comes along, but replaces nothing.
        let tagged = format!("{tag}.sig");
        source.put_manifest("app", &tagged, &signature);
        let run = copy(directory.path(), &[&from, &to, "--all"]);
        assert!(run.stderr.contains("copied 2 manifests that refer"), "{}", run.stderr);
        assert_eq!(registry.manifest("app", &tagged)["artifactType"], "example/signature");
        let run = copy(directory.path(), &[&from, &to, "--all"]);
        assert!(run.stderr.contains("copied 1 manifest that refers"), "{}", run.stderr);
        source.put_manifest("app", &tagged, &image.manifest);
        let run = copy(directory.path(), &[&from, &to, "--all"]);
        assert!(run.stderr.contains("is left as it is"), "{}", run.stderr);
        assert_eq!(registry.manifest("app", &tagged)["artifactType"], "example/signature");
    }
}

// protocol rule 82
#[test]
fn rule_82_a_list_of_what_refers_to_an_image_may_have_pages() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = Image::new("linux/amd64", &["base"]);
    let config = images::Blob::new("application/vnd.oci.empty.v1+json", "{}");
    let signatures = ["one", "two", "three"].map(|text| {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": n2c::oci::media_type::OCI_MANIFEST,
            "artifactType": "example/signature",
            "config": config.descriptor(),
            "layers": [],
            "subject": image.manifest.descriptor(),
            "annotations": { "text": text },
        });
        images::Blob::json(n2c::oci::media_type::OCI_MANIFEST, &manifest)
    });
    let source = Registry::start();
    source.put_image("app", "1", &image);
    source.put_manifest("app", "list", &images::index(&[image.manifest.entry("linux/amd64")]));
    source.put_blob(&config);
    for signature in &signatures {
        source.put_manifest("app", "signature", signature);
    }
    let pages = signatures.each_ref().map(|one| images::index(&[one.descriptor()]).bytes);
    let start = format!("/v2/app/referrers/{}", image.manifest.digest());
    source.hook(move |call| {
        let page = call.target.strip_prefix(&start)?;
        let number = page.strip_prefix("?page=").map_or(0, |number| number.parse().unwrap_or(9));
        // The last one leads back to the first.
        let link = format!("<https://evil.example{start}?page={}>; rel=\"next\"", (number + 1) % 3);
        Some(Reply::new(200, pages[number].clone()).with("Link", link))
    });
    let registry = Pushable::start();
    let from = format!("docker://{}", source.reference("app:list"));
    let to = format!("docker://{}", registry.reference("app:1"));
    let run = copy(directory.path(), &[&from, &to, "--all"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("copied 3 manifests that refer"), "{}", run.stderr);
    assert!(run.stderr.contains("does not end; using its beginning"), "{}", run.stderr);
}

#[test]
fn all_images_of_an_index_are_copied_or_none() {
    let directory = tempfile::tempdir().expect("a directory");
    // Two for the same platform, as for two versions of Windows.
    let all = ["one", "two"].map(|text| Image::new("linux/amd64", &[text]));
    let arm = Image::new("linux/arm64", &["arm"]);
    let mut entries = all.each_ref().map(|image| image.manifest.entry("linux/amd64")).to_vec();
    entries.push(arm.manifest.entry("linux/arm64"));
    let source = Registry::start();
    for image in all.iter().chain([&arm]) {
        source.put_image("app", "other", image);
    }
    source.put_manifest("app", "1", &images::index(&entries));
    source.put_manifest("app", "arm", &arm.manifest);
    source.put_manifest("app", "amd", &all[0].manifest);
    let registry = Pushable::start();
    let from = format!("docker://{}", source.reference("app:1"));
    let to = |name: &str| format!("docker://{}", registry.reference(name));
    copy(directory.path(), &[&from, &to("app:1"), "--all"]).text();
    assert_eq!(registry.contents().manifests.len(), 4);
    let both = ["--platform=linux/amd64", "--platform=linux/arm64"];
    let run = copy(directory.path(), &[&[&*from, &to("part:1")], &both[..]].concat());
    assert!(run.error(2).contains("which is not copied"), "{}", run.stderr);
    assert!(!registry.contents().tags.keys().any(|(name, _)| name == "part"));
    // An image that is in no index is what was meant, whatever machine this is.
    let arm = format!("docker://{}", source.reference("app:arm"));
    copy(directory.path(), &[&arm, &to("arm:1")]).text();
    let amd = format!("docker://{}", source.reference("app:amd"));
    copy(directory.path(), &[&arm, &amd, &to("joined:1")]).text();
    assert_eq!(registry.manifest("joined", "1")["manifests"].as_array().map(Vec::len), Some(2));
}

#[test]
fn built_layers_are_compressed_beside_others() {
    let directory = built(&[]);
    let source = Registry::start();
    source.put_image("app", "1", &Image::new("linux/arm64", &["base"]));
    let registry = Pushable::start();
    let (from, to) = (source.reference("app:1"), registry.reference("app:1"));
    let to = format!("docker://{to}");
    copy(directory.path(), &["image.json", &from, &to]).text();
    let index = registry.manifest("app", "1");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
    let contents = registry.contents();
    let (_, bytes) = &contents.manifests[&("app".to_owned(), digest)];
    let manifest: Value = serde_json::from_slice(bytes).expect("JSON");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
}

#[test]
fn a_memory_that_is_wrong_and_stays_is_no_endless_loop() {
    let directory = built(&[]);
    push(&directory, &Pushable::start(), &[]).text();
    let facts = directory.path().join(".cache/n2c/compressed");
    for entry in fs::read_dir(&facts).expect("facts") {
        let path = entry.expect("an entry").path();
        let mut fact = read(&path);
        fact["digest"] = Digest::sha256(b"other").to_string().into();
        // In the place of a file that can't be removed: one that can't be replaced.
        fs::remove_file(&path).expect("removed");
        let kept = directory.path().join(path.file_name().expect("a name"));
        fs::write(&kept, fact.to_string()).expect("written");
        std::os::unix::fs::symlink(&kept, &path).expect("linked");
    }
    let registry = Pushable::start();
    let run = push(&directory, &registry, &["--reuse-from", &registry.reference("none:1")]);
    run.text();
    // The image to learn from isn't there yet, which is no error.
    assert!(run.stderr.contains("warning: "), "{}", run.stderr);
    check(&registry, "app", "1");
}

#[test]
fn a_source_that_can_not_continue_is_read_into_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let layer = images::Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", bytes);
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(b"x").to_string()] },
    });
    let image = Image::from_parts(&config, vec![layer.clone()]);
    let (source, registry) = (Registry::start(), Pushable::start());
    source.put_image("app", "1", &image);
    let failed = std::sync::atomic::AtomicBool::new(false);
    source.hook(move |call| {
        let is_it = call.method == "GET" && call.target.contains(&layer.digest().to_string());
        // The first answer breaks off, and later ones are whole whatever was asked for.
        let is_first = is_it && !failed.swap(true, std::sync::atomic::Ordering::Relaxed);
        let whole = || Reply::new(200, layer.bytes.clone());
        let broken = || Reply::broken(200, layer.bytes[..2_000_000].to_vec(), layer.bytes.len());
        if is_first { Some(broken()) } else { is_it.then(whole) }
    });
    let from = format!("docker://{}", source.reference("app:1"));
    let to = format!("docker://{}", registry.reference("app:1"));
    let run = copy(directory.path(), &[&from, &to]);
    run.text();
    let manifest = registry.manifest("app", "1");
    let copied = registry.blob("app", &manifest["layers"][0]["digest"]);
    assert!(copied == image.layers[0].bytes);
}

#[test]
fn who_wants_no_credentials_gets_none_anywhere() {
    let directory = built(&[]);
    let wants = |call: &Call, _: usize| {
        let challenge = "Basic realm=\"registry\"";
        let refusal = || Reply::new(401, "").with("www-authenticate", challenge);
        call.header("authorization").is_none().then(refusal)
    };
    let (one, two) = (Pushable::with(wants), Pushable::with(wants));
    let auth = json!({ "auth": "Ym9iOnRv" });
    let hosts = json!({ one.registry.host(): auth, two.registry.host(): auth });
    let file = json!({ "auths": hosts });
    fs::write(directory.path().join("auth.json"), file.to_string()).expect("written");
    let to = |registry: &Pushable| format!("--to=docker://{}", registry.reference("app:1"));
    let (first, second) = (to(&one), to(&two));
    let all = ["image.json", &*first, &second, "--authfile", "auth.json"];
    let run = copy(directory.path(), &[&all[..], &["--dest-no-creds"]].concat());
    run.error(5);
    for call in one.registry.calls().iter().chain(&two.registry.calls()) {
        assert_eq!(call.header("authorization"), None);
    }
    // One password for two registries is a mistake.
    let run = copy(directory.path(), &[&all[..], &["--dest-creds=bob:secret-word"]].concat());
    assert!(!run.error(2).contains("secret-word"), "{}", run.stderr);
    copy(directory.path(), &all).text();
}

#[test]
fn credentials_go_to_their_side_alone() {
    let directory = built(&[]);
    let image = Image::new("linux/amd64", &["base"]);
    let wants = |expected: &'static str| {
        move |call: &Call, _: usize| {
            let challenge = "Basic realm=\"registry\"";
            let refusal = || Reply::new(401, "").with("www-authenticate", challenge);
            (call.header("authorization") != Some(expected)).then(refusal)
        }
    };
    // bob:to, alice:from
    let registry = Pushable::with(wants("Basic Ym9iOnRv"));
    let source = Registry::start();
    source.put_image("base", "1", &image);
    source.hook({
        let wants = wants("Basic YWxpY2U6ZnJvbQ==");
        move |call| wants(call, 0)
    });
    let from = format!("docker://{}", source.reference("base:1"));
    let to = format!("docker://{}", registry.reference("app:1"));
    let more = ["--src-creds=alice:from", "--dest-creds=bob:to", "--platform=linux/amd64"];
    copy(directory.path(), &[&[&*from, &*to], &more[..]].concat()).text();
    let seen = |calls: Vec<Call>, secret: &str| {
        calls.iter().any(|call| call.header("authorization").is_some_and(|text| text == secret))
    };
    assert!(!seen(source.calls(), "Basic Ym9iOnRv"));
    assert!(!seen(registry.registry.calls(), "Basic YWxpY2U6ZnJvbQ=="));
    let run = push(&directory, &registry, &["--dest-creds=bob:wrong"]);
    assert!(!run.error(5).contains("wrong"), "{}", run.stderr);
    let run = push(&directory, &registry, &["--dest-no-creds"]);
    assert!(run.error(5).contains("denied"), "{}", run.stderr);
}

#[test]
fn a_cache_that_can_not_be_used_is_no_reason_to_fail() {
    let directory = built(&[]);
    fs::write(directory.path().join(".cache"), "a file").expect("written");
    let registry = Pushable::start();
    let run = push(&directory, &registry, &[]);
    run.text();
    assert_eq!(run.stderr.matches("warning: failed to write").count(), 1, "{}", run.stderr);
    check(&registry, "app", "1");
}

#[test]
fn memory_does_not_grow_with_layers_that_are_sent() {
    let directory = built(&[]);
    let bytes: Vec<u8> = (0..40_000_000_u32)
        .map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    fs::write(directory.path().join("two/file"), bytes).expect("written");
    build(&directory, &[]);
    let registry = Pushable::start();
    let destination = format!("docker://{}", registry.reference("app:1"));
    let arguments = ["copy", "nix:image.json", &destination];
    let (run, peak) = peak_memory(directory.path(), &arguments);
    assert_eq!(run.code, 0);
    assert!(peak < 48 << 10, "{peak} KiB");
}

#[test]
fn a_batch_shares_what_its_images_have_in_common() {
    let directory = built(&[]);
    fs::copy(directory.path().join("image.json"), directory.path().join("first.json"))
        .expect("copied");
    fs::write(directory.path().join("two/file"), "another").expect("written");
    build(&directory, &[]);
    let registry = Pushable::start();
    let names = ["team/first:1", "team/second:1"].map(|name| registry.reference(name));
    let list = |first: &str| {
        let copies = json!([
            { "sources": [first], "destinations": [format!("docker://{}", names[0]), "oci:layout:1"] },
            { "sources": ["nix:image.json"], "destinations": [format!("docker://{}", names[1])] },
        ]);
        fs::write(directory.path().join("batch.json"), copies.to_string()).expect("written");
    };
    list("nix:image.json");
    // The layers of the second image are those of the first, once they were compressed: no
    // cache is needed for that.
    let without_cache = |arguments: &[&str]| {
        let variables = [("XDG_CACHE_HOME", "/dev/null/nowhere")];
        crate::support::program::n2c_with(directory.path(), arguments, &variables)
    };
    let run = without_cache(&["copy", "--batch", "batch.json"]);
    assert_eq!(run.text().lines().count(), 2, "{}", run.stderr);
    check(&registry, "team/first", "1");
    check(&registry, "team/second", "1");
    assert!(directory.path().join("layout/index.json").is_file());
    let log = registry.log_since(0);
    let count = |what: &str| log.iter().filter(|line| *line == what).count();
    assert_eq!((count("POST mount"), count("PUT upload")), (3, 3), "{log:?}");
    // An image that can't be copied stops it, and those before it are there.
    list("nix:first.json");
    let asked = registry.registry.calls().len();
    let run = copy(directory.path(), &["--batch", "batch.json"]);
    assert!(run.error(8).contains("can't be made again"), "{}", run.stderr);
    assert!(run.stderr.contains("copy 1 of 2 failed; none behind it was begun"), "{}", run.stderr);
    let log = registry.log_since(asked);
    assert!(log.iter().all(|line| line != "PUT tag"), "{log:?}");
}

#[test]
fn a_password_in_a_name_is_shown_nowhere() {
    let directory = built(&[]);
    let lock = json!({
        "schemaVersion": 2, "config": {}, "layers": [],
        "n2c": { "version": 1, "ref": "me:s3cret@x.example", "platform": "linux/amd64" },
    });
    fs::write(directory.path().join("lock.json"), lock.to_string()).expect("written");
    for arguments in [
        &["copy", "nix:image.json", "https://me:s3cret@x.example/a:1"][..],
        &["copy", "nix:image.json", "me:s3cret@x.example/a:1"],
        &["copy", "nix:image.json", "docker-daemon:me:s3cret@x.example"],
        &["copy", "docker://me:s3cret@x.example:5077", "dir:x"],
        &["inspect", "me:s3cret@x.example:5077"],
        &["lock", "docker://me:s3cret@x.example"],
        &["lock", "me:s3cret@sha256:5000/a"],
        &["serve", "docker://me:s3cret@x.example/a:1"],
        &["verify", "lock.json"],
        &["update", "lock.json", "--json"],
        &["lock", "alpine", "--mirror", "https://me:s3cret@m.example"],
    ] {
        let run = n2c_in(directory.path(), arguments);
        assert_ne!(run.code, 0, "{arguments:?}");
        let shown = run.stderr.clone() + &String::from_utf8_lossy(&run.stdout);
        assert!(!shown.contains("s3cret"), "{arguments:?}: {shown}");
    }
}

#[test]
fn a_batch_that_is_none_copies_nothing() {
    let directory = built(&[]);
    let write = |text: &str| fs::write(directory.path().join("batch.json"), text).expect("written");
    let batch = ["copy", "--batch", "batch.json"];
    for (text, error) in [
        ("", "`batch.json` is not JSON: line 1"),
        ("{}", "`batch.json` lists no copies"),
        ("[]", "`batch.json` lists no copies"),
        (r#"["nix:image.json"]"#, "copy 1 in `batch.json` has another shape"),
        (r#"[{"source": [], "destinations": []}]"#, "has the unknown key `source`"),
        // A name that is shown nowhere may hold a password.
        (
            r#"[{"sources": "docker://me:s3cret@x.example/y", "destinations": ["oci:x"]}]"#,
            "has no list of names as `sources`",
        ),
        (r#"[{"sources": [], "destinations": ["oci:x:1"]}]"#, "has no list of names as `sources`"),
        (r#"[{"sources": ["nix:image.json"], "destinations": []}]"#, "no list of names as `dest"),
        (
            r#"[{"sources": ["nix:image.json"], "destinations": ["oci:x:1"]},
                {"sources": ["nix:image.json"], "destinations": ["--tls-verify"]}]"#,
            "invalid destination `--tls-verify`",
        ),
        (
            r#"[{"sources": ["nix:image.json"], "destinations": ["dir:x"]},
                {"sources": ["nix:image.json"], "destinations": ["oci:x:1", "dir:x"]}]"#,
            "`dir:x` is the destination of two copies",
        ),
        (
            r#"[{"sources": ["docker://me:s3cret@x.example/y"], "destinations": ["dir:x"]}]"#,
            "invalid",
        ),
    ] {
        write(text);
        let run = n2c_in(directory.path(), &batch);
        assert!(run.error(2).contains(error), "{text}: {}", run.stderr);
        assert!(!run.stderr.contains("s3cret"), "{}", run.stderr);
        assert!(!directory.path().join("x").exists());
    }
    n2c_in(directory.path(), &["copy", "--batch", "nowhere.json"]).error(1);
    // A list says everything about its names.
    for more in [&["nix:image.json", "oci:x:1"][..], &["--digestfile", "x"], &["--to", "oci:x:1"]] {
        assert_eq!(n2c_in(directory.path(), &[&batch, more].concat()).code, 2);
    }
    let twice = ["copy", "nix:image.json", "--to", "dir:x", "--to", "dir:x"];
    assert!(n2c_in(directory.path(), &twice).error(2).contains("two copies"));
    let twice = ["copy", "image.json", "--to", "docker-archive:x:a:1", "--to", "oci-archive:x:b"];
    assert!(n2c_in(directory.path(), &twice).error(2).contains("two copies"));
    assert!(!directory.path().join("x").exists());
}
