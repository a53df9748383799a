//! Lockfiles over time: `update`, `refresh`, `diff` and `verify`, what they request from a
//! registry, and what they do when it doesn't answer as it should.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::images::{self, Blob, Image};
use crate::support::program::{Run, n2c_in, wait_until};
use crate::support::registry::{Registry, Reply};

/// A directory with lockfiles.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("lockfiles")).expect("a folder");
        Self(directory)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        n2c_in(self.0.path(), arguments)
    }

    fn lock(&self, reference: &str, file: &str, more: &[&str]) {
        let path = format!("lockfiles/{file}");
        let run = self.run(&[&["lock", reference, "-q", "-o", &path], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.0.path().join("lockfiles").join(file)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).expect("a lockfile")
    }

    /// Replaces a part of a file, which must be there.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "no `{from}` in {text}");
        std::fs::write(self.path(file), text.replace(from, to)).expect("written");
    }
}

/// The lines of a report, each of which must match the schema.
fn report(run: &Run) -> Vec<Value> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/report.schema.json");
    let schema: Value =
        serde_json::from_slice(&std::fs::read(schema).expect("a schema")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a valid schema");
    let text = std::str::from_utf8(&run.stdout).expect("text");
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let errors: Vec<String> =
                schema.iter_errors(&line).map(|error| format!("{error:?}")).collect();
            assert_eq!(errors, [""; 0], "{line:#}");
            line
        })
        .collect()
}

fn statuses(run: &Run) -> Vec<String> {
    report(run).iter().map(|line| line["status"].as_str().expect("a status").to_owned()).collect()
}

const AMD64: [&str; 2] = ["--platform", "linux/amd64"];

/// Puts an index of these images under `app:1`.
fn put_index(registry: &Registry, images: &[&Image], extra: &str) -> Blob {
    let entries: Vec<Value> = images
        .iter()
        .map(|image| {
            let config: Value = serde_json::from_slice(&image.config.bytes).expect("a config");
            let text = |key: &str| config[key].as_str().expect("a string").to_owned();
            image.manifest.entry(&format!("{}/{}", text("os"), text("architecture")))
        })
        .collect();
    let mut index = images::index(&entries);
    // White space changes the digest, and nothing else.
    index.bytes.extend(extra.as_bytes());
    for image in images {
        registry.put_image("app", &image.manifest.digest().to_string(), image);
    }
    registry.put_manifest("app", &index.digest().to_string(), &index);
    registry.put_manifest("app", "1", &index);
    index
}

fn images_of(text: &str) -> [Image; 2] {
    ["linux/amd64", "linux/arm64"]
        .map(|platform| Image::new(platform, &["base", &format!("{text} for {platform}")]))
}

#[test]
fn a_hundred_fresh_lockfiles_cost_a_hundred_heads() {
    for wants_token in [false, true] {
        let registry = Registry::start();
        let project = Project::new();
        for number in 0..50 {
            let image = Image::new("linux/amd64", &[&format!("image {number}")]);
            for tag in ["1", "2"] {
                registry.put_image(&format!("app{number}"), tag, &image);
                let reference = registry.reference(&format!("app{number}:{tag}"));
                project.lock(&reference, &format!("{number}-{tag}.json"), &AMD64);
            }
        }
        if wants_token {
            registry.want_token();
        }
        let asked = registry.log().len();
        let run = project.run(&["update", "--check", "--json"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(statuses(&run), ["fresh"; 100]);
        let log = registry.log().split_off(asked);
        let count = |start: &str| log.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(count("GET /v2/"), 0, "no manifest is fetched");
        if wants_token {
            assert_eq!(count("GET /token"), 50, "one token for each repository");
        } else {
            assert_eq!(count("HEAD "), 100);
        }
        let files = report(&run);
        let files = files.iter().map(|line| line["file"].as_str().expect("a file"));
        assert!(files.is_sorted(), "the order is stable");
    }
}

#[test]
fn an_image_in_several_lockfiles_is_requested_once() {
    let registry = Registry::start();
    let [amd64, arm64] = images_of("old");
    put_index(&registry, &[&amd64, &arm64], "");
    let project = Project::new();
    let reference = registry.reference("app:1");
    project.lock(&reference, "a.json", &AMD64);
    project.lock(&reference, "b.json", &["--platform", "linux/arm64"]);
    project.lock(&reference, "c.json", &["--all-platforms"]);
    let asked = registry.log().len();
    assert_eq!(project.run(&["update", "--check"]).code, 0);
    let log = registry.log().split_off(asked);
    assert_eq!(log, ["HEAD /v2/app/manifests/1"]);

    let [amd64, arm64] = images_of("new");
    put_index(&registry, &[&amd64, &arm64], "");
    let old = project.read("c.json");
    let run = project.run(&["update", "--check", "--json"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert_eq!(statuses(&run), ["stale"; 3]);
    assert!(run.stderr.contains("3 of 3 lockfiles are out of date"), "{}", run.stderr);
    assert_eq!(project.read("c.json"), old, "`--check` changes nothing");
    let run = project.run(&["update", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(statuses(&run), ["updated"; 3]);
    // An updated file equals a fresh lock.
    let updated = ["a.json", "b.json", "c.json"].map(|file| project.read(file));
    project.lock(&reference, "a.json", &AMD64);
    project.lock(&reference, "b.json", &["--platform", "linux/arm64"]);
    project.lock(&reference, "c.json", &["--all-platforms"]);
    assert_eq!(updated, ["a.json", "b.json", "c.json"].map(|file| project.read(file)));
    assert_eq!(statuses(&project.run(&["update", "--json"])), ["fresh"; 3]);
    // The report for people.
    let text = project.run(&["update", "lockfiles/a.json"]);
    assert!(text.text().starts_with("fresh        lockfiles/a.json  "), "{}", text.text());
}

#[test]
fn an_index_that_changed_without_its_image_is_reported_as_such() {
    let registry = Registry::start();
    let [amd64, arm64] = images_of("same");
    put_index(&registry, &[&amd64], "");
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    put_index(&registry, &[&amd64, &arm64], "");
    let asked = registry.log().len();
    let run = project.run(&["update", "--check", "--json"]);
    assert_eq!((run.code, statuses(&run)), (3, vec!["index-moved".to_owned()]));
    let log = registry.log().split_off(asked);
    assert_eq!(log, ["HEAD /v2/app/manifests/1", "GET /v2/app/manifests/1"]);
    let before = project.read("a.json");
    for more in [&["--check"][..], &[]] {
        let run = project.run(&[&["update", "--json", "--ignore-index"], more].concat());
        assert_eq!((run.code, statuses(&run)), (0, vec!["fresh".to_owned()]));
    }
    assert_eq!(project.read("a.json"), before);
    assert_eq!(statuses(&project.run(&["update", "--json"])), ["updated"]);
    let updated = project.read("a.json");
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    assert_eq!(project.read("a.json"), updated);
}

#[test]
fn a_platform_that_disappeared_is_an_error() {
    let registry = Registry::start();
    let [amd64, arm64] = images_of("old");
    put_index(&registry, &[&amd64, &arm64], "");
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "all.json", &["--all-platforms"]);
    let old = project.read("all.json");
    let [amd64, _] = images_of("new");
    put_index(&registry, &[&amd64], "");
    for arguments in [&["update", "--check", "--json"][..], &["update", "--json"]] {
        let run = project.run(arguments);
        assert_eq!(run.code, 4, "{}", run.stderr);
        let line = &report(&run)[0];
        let message = line["error"]["message"].as_str().expect("a message");
        assert!(message.contains("no longer has linux/arm64"), "{message}");
        assert_eq!(project.read("all.json"), old);
    }
    let run = project.run(&["update", "--platforms-lost=drop"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("warning: ") && run.stderr.contains("linux/arm64"),
        "{}",
        run.stderr
    );
    let lock: Value = serde_json::from_str(&project.read("all.json")).expect("JSON");
    let platforms = lock["n2c"]["platforms"].as_object().expect("platforms");
    assert_eq!(platforms.keys().collect::<Vec<_>>(), ["linux/amd64"]);
}

#[test]
fn a_failure_is_never_reported_as_up_to_date() {
    let project = Project::new();
    let registry = Registry::start();
    registry.put_image("good", "1", &Image::new("linux/amd64", &["good"]));
    registry.put_image("bad", "1", &Image::new("linux/amd64", &["bad"]));
    project.lock(&registry.reference("bad:1"), "bad.json", &AMD64);
    project.lock(&registry.reference("good:1"), "good.json", &AMD64);
    let old = project.read("bad.json");
    registry.put_image("good", "1", &Image::new("linux/amd64", &["better"]));
    for (status, code, kind) in [
        (401, 5, "denied"),
        (403, 5, "denied"),
        (404, 4, "gone"),
        (410, 4, "gone"),
        (429, 6, "rate-limited"),
    ] {
        registry.hook(move |call| {
            call.target
                .starts_with("/v2/bad/")
                .then(|| Reply::error(status, "X", "no").with("retry-after", "3600"))
        });
        let run = project.run(&["update", "--check", "--json"]);
        assert_eq!(run.code, code, "{status}: {}", run.stderr);
        assert_eq!(statuses(&run), ["failed", "stale"], "{status}");
        assert_eq!(report(&run)[0]["error"]["kind"], kind);
        assert_eq!(report(&run)[0]["error"]["exitCode"], code);
    }
    // Lockfiles that can be updated are; the others stay as they were.
    let run = project.run(&["update"]);
    assert_eq!(run.code, 6, "{}", run.stderr);
    assert!(run.stderr.contains("error: 1 of 2 lockfiles failed"), "{}", run.stderr);
    assert_eq!(project.read("bad.json"), old);
    let good: Value = serde_json::from_str(&project.read("good.json")).expect("JSON");
    assert!(good["n2c"]["ref"].as_str().expect("a ref").contains("/good:1@"), "{good}");
    // Nothing listens at the address; then, the host name doesn't exist.
    drop(registry);
    let run = project.run(&["update", "--check", "--json", "lockfiles/bad.json"]);
    assert_eq!((run.code, statuses(&run)), (7, vec!["failed".to_owned()]), "{}", run.stderr);
    project.edit("bad.json", "127.0.0.1", "none-such.invalid");
    let run = project.run(&["update", "--check", "--json", "lockfiles/bad.json"]);
    assert_eq!((run.code, statuses(&run)), (7, vec!["failed".to_owned()]), "{}", run.stderr);
}

#[test]
fn get_is_used_if_head_gives_no_digest() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    for refusal in [405, 403, 400, 501, 200] {
        // An answer to HEAD without the digest, or a refusal of HEAD (protocol rule 41).
        registry.hook(move |call| (call.method == "HEAD").then(|| Reply::new(refusal, "")));
        let run = project.run(&["update", "--check"]);
        assert_eq!(run.code, 0, "{refusal}: {}", run.stderr);
    }
    registry.hook(|call| {
        // An answer to HEAD with a wrong digest only costs a request.
        let lie = format!("sha256:{}", "0".repeat(64));
        (call.method == "HEAD").then(|| Reply::new(200, "").with("docker-content-digest", lie))
    });
    assert_eq!(statuses(&project.run(&["update", "--check", "--json"])), ["fresh"]);
}

#[test]
fn files_that_can_not_be_updated_are_reported() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let project = Project::new();
    let run = project.run(&["update"]);
    assert!(run.error(4).contains("there are no lockfiles in `lockfiles`"), "{}", run.stderr);
    project.run(&["update", "none"]).error_with_report(1);

    let reference = registry.reference("app:1");
    project.lock(&reference, "app.json", &AMD64);
    let digest = image.manifest.digest();
    project.lock(&registry.reference(&format!("app@{digest}")), "pinned.json", &AMD64);
    std::fs::create_dir(project.path("deep")).expect("a folder");
    std::fs::write(project.path("deep/package.json"), "{\"name\": \"x\"}").expect("written");
    std::fs::write(project.path("notes.md"), "\"n2c\"").expect("written");
    let run = project.run(&["update", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(statuses(&run), ["fresh", "pinned"]);
    let passed = "skipping `lockfiles/deep/package.json`: not an n2c lockfile";
    assert!(run.stderr.contains(passed), "{}", run.stderr);
    // A broken file may have been a lockfile, for example if `n2c lock … > FILE` failed.
    let unsaid = project.read("app.json").replace("\"version\": 1,", "");
    let quoted = project.read("app.json").replace("\"version\": 1,", "\"version\": \"1\",");
    for broken in ["", "{", "\u{feff}{}", "{\"schemaVersion\": 2,", &unsaid, &quoted] {
        std::fs::write(project.path("deep/broken.json"), broken).expect("written");
        let run = project.run(&["update", "--json"]);
        let expected = ["fresh", "failed", "pinned"];
        assert_eq!(
            (run.code, statuses(&run)),
            (8, expected.map(String::from).to_vec()),
            "{broken}"
        );
    }
    std::fs::remove_file(project.path("deep/broken.json")).expect("removed");

    let whole = project.read("app.json");
    for (from, to, expected) in [
        ("\"version\": 1", "\"version\": 2", "this n2c reads up to 1"),
        ("{\n  \"schemaVersion\"", "<<<<<<< HEAD\n{\n  \"schemaVersion\"", "invalid lockfile"),
        ("\"manifest\"", "\"manifests\"", "missing field `manifest`"),
        ("\"diffIds\"", "\"diffids\"", "missing field `diffIds`"),
    ] {
        project.edit("app.json", from, to);
        let edited = project.read("app.json");
        let run = project.run(&["update", "--json"]);
        assert_eq!((run.code, statuses(&run)), (8, vec!["failed".into(), "pinned".into()]), "{to}");
        assert!(report(&run)[0]["error"]["message"].as_str().expect("text").contains(expected));
        assert_eq!(project.read("app.json"), edited, "a file that is not understood is kept");
        std::fs::write(project.path("app.json"), &whole).expect("written");
    }

    // The tag now points to something that isn't an image.
    let artifact = Blob::json(
        n2c::oci::media_type::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": n2c::oci::media_type::OCI_MANIFEST,
            "artifactType": "application/vnd.example+json",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                        "digest": n2c::oci::digest::Digest::sha256(b"{}").to_string() },
            "layers": [],
        }),
    );
    registry.put_manifest("app", "1", &artifact);
    let run = project.run(&["update", "lockfiles/app.json", "--json"]);
    assert_eq!((run.code, statuses(&run)), (8, vec!["failed".to_owned()]));
    assert_eq!(project.read("app.json"), whole);
    // A plain manifest, named as an argument.
    std::fs::write(project.path("plain.json"), &image.manifest.bytes).expect("written");
    let run = project.run(&["update", "lockfiles/plain.json", "--json"]);
    assert_eq!((run.code, statuses(&run)), (8, vec!["failed".to_owned()]));
}

#[test]
fn unknown_keys_stay_with_the_manifest_that_they_belong_to() {
    let registry = Registry::start();
    let [old, _] = images_of("old");
    put_index(&registry, &[&old], "");
    let project = Project::new();
    let reference = registry.reference("app:1");
    project.lock(&reference, "a.json", &AMD64);
    project.edit(
        "a.json",
        "\"schemaVersion\": 2,",
        "\"schemaVersion\": 2,\n  \"x-note\": \"mine\",",
    );
    put_index(&registry, &[&old], "\n");
    assert_eq!(project.run(&["update"]).code, 0);
    assert!(project.read("a.json").contains("x-note"));
    let [new, _] = images_of("new");
    put_index(&registry, &[&new], "");
    assert_eq!(project.run(&["update"]).code, 0);
    assert!(!project.read("a.json").contains("x-note"));
}

#[test]
fn version_tags_move_as_far_as_allowed() {
    let registry = Registry::start();
    let image = |text: &str| Image::new("linux/amd64", &[text]);
    for tag in ["3.19", "3.19.4", "3.20", "4.0", "3.20_rc1", "edge", "20260101", "3.19-slim"] {
        registry.put_image("app", tag, &image(tag));
    }
    // More tags than a page holds.
    for number in 0..250 {
        registry.put_image("app", &format!("nightly-{number:03}"), &image("x"));
    }
    let project = Project::new();
    let reference = |tag: &str| registry.reference(&format!("app:{tag}"));
    for (bump, expected) in [("patch", "3.19.4"), ("minor", "3.20"), ("major", "4.0")] {
        project.lock(&reference("3.19"), "a.json", &AMD64);
        let run = project.run(&["update", "--bump", bump, "--json"]);
        assert_eq!((run.code, statuses(&run)), (0, vec!["updated".to_owned()]), "{}", run.stderr);
        let updated = project.read("a.json");
        project.lock(&reference(expected), "a.json", &AMD64);
        assert_eq!(project.read("a.json"), updated, "{bump}");
    }
    project.lock(&reference("3.19-slim"), "a.json", &AMD64);
    assert_eq!(statuses(&project.run(&["update", "--bump=major", "--json"])), ["fresh"]);
    project.lock(&reference("edge"), "a.json", &AMD64);
    let run = project.run(&["update", "--bump=major", "--json"]);
    assert!(run.stderr.contains("is not a version, so it stays"), "{}", run.stderr);
    assert_eq!(statuses(&run), ["fresh"]);

    // A list of tags that never ends: its pages link in a circle.
    project.lock(&reference("3.19"), "a.json", &AMD64);
    registry.hook(|call| {
        let is_list = call.target.contains("/tags/list");
        let link = "</v2/app/tags/list?last=a&n=1>; rel=\"next\"";
        is_list.then(|| Reply::new(200, "{\"tags\":[\"a\"]}").with("link", link))
    });
    let run = project.run(&["update", "--bump=major", "--json"]);
    assert_eq!((run.code, statuses(&run)), (8, vec!["failed".to_owned()]), "{}", run.stderr);
}

#[test]
fn a_hundred_thousand_tags_are_read() {
    let registry = Registry::start();
    registry.put_image("app", "1.0", &Image::new("linux/amd64", &["old"]));
    registry.put_image("app", "1.9", &Image::new("linux/amd64", &["new"]));
    registry.hook(|call| {
        let (_, query) = call.target.split_once("/tags/list?")?;
        let last = query.split('&').find_map(|pair| pair.strip_prefix("last="));
        let page: usize = last.map_or(0, |last| last.parse().expect("a number"));
        let tags: Vec<String> = (0..1000).map(|tag| format!("x{page:03}{tag:03}")).collect();
        let (mut tags, next) = (tags, page + 1);
        if page == 99 {
            tags.push("1.9".to_owned());
        }
        let reply = Reply::new(200, json!({ "tags": tags }).to_string());
        let link = format!("</v2/app/tags/list?last={next}&n=1000>; rel=\"next\"");
        Some(if page < 99 { reply.with("link", link) } else { reply })
    });
    let project = Project::new();
    project.lock(&registry.reference("app:1.0"), "a.json", &AMD64);
    let run = project.run(&["update", "--bump=minor", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(project.read("a.json").contains("/app:1.9@"));
}

#[test]
fn concurrent_updates_corrupt_nothing() {
    let registry = Registry::start();
    let [old, _] = images_of("old");
    put_index(&registry, &[&old], "");
    let project = Project::new();
    let files: Vec<String> = (0..10).map(|number| format!("{number}.json")).collect();
    for file in &files {
        project.lock(&registry.reference("app:1"), file, &AMD64);
    }
    let [new, _] = images_of("new");
    put_index(&registry, &[&new], "");
    std::thread::scope(|scope| {
        let runs = [(); 3].map(|()| scope.spawn(|| project.run(&["update"])));
        for run in runs {
            let run = run.join().expect("a run");
            assert_eq!(run.code, 0, "{}", run.stderr);
        }
    });
    let updated: Vec<String> = files.iter().map(|file| project.read(file)).collect();
    project.lock(&registry.reference("app:1"), "0.json", &AMD64);
    assert!(updated.iter().all(|text| *text == project.read("0.json")));
    assert_eq!(std::fs::read_dir(project.path("")).expect("a folder").count(), files.len());
}

#[test]
fn refresh_follows_a_line_that_a_bot_edited() {
    let registry = Registry::start();
    let [old, _] = images_of("old");
    let first = put_index(&registry, &[&old], "");
    let project = Project::new();
    let reference = registry.reference("app:1");
    project.lock(&reference, "a.json", &AMD64);
    let stale = project.read("a.json");
    let [new, _] = images_of("new");
    let second = put_index(&registry, &[&new], "");
    // Like Renovate, edit only the tag and the digest.
    project.edit("a.json", &first.digest().to_string(), &second.digest().to_string());
    let run = project.run(&["refresh", "--json"]);
    assert_eq!((run.code, statuses(&run)), (0, vec!["updated".to_owned()]), "{}", run.stderr);
    let refreshed = project.read("a.json");
    project.lock(&reference, "a.json", &AMD64);
    assert_eq!(project.read("a.json"), refreshed);

    // Nothing to do: besides the tag, only index and config are requested, and the file
    // isn't touched.
    let modified =
        || project.path("a.json").metadata().expect("metadata").modified().expect("a time");
    let (before, asked) = (modified(), registry.log().len());
    assert_eq!(statuses(&project.run(&["refresh", "--json"])), ["fresh"]);
    assert_eq!(modified(), before);
    let log = registry.log().split_off(asked);
    let index = format!("GET /v2/app/manifests/{}", second.digest());
    let config = format!("GET /v2/app/blobs/{}", new.config.digest());
    assert_eq!(log, ["HEAD /v2/app/manifests/1".to_owned(), index, config]);

    // The digest decides; that the tag points elsewhere is reported.
    std::fs::write(project.path("a.json"), &stale).expect("written");
    let run = project.run(&["refresh", "--json"]);
    assert_eq!((run.code, statuses(&run)), (0, vec!["fresh".to_owned()]), "{}", run.stderr);
    let said = format!("now points to `{}`", second.digest());
    assert!(run.stderr.contains(&said), "{}", run.stderr);
    // A deleted tag is reported, but does no harm.
    registry
        .hook(|call| call.target.ends_with("/manifests/1").then(|| Reply::error(404, "X", "gone")));
    let run = project.run(&["refresh", "--json"]);
    assert_eq!((run.code, statuses(&run)), (0, vec!["fresh".to_owned()]), "{}", run.stderr);
    assert!(run.stderr.contains("note: ") && run.stderr.contains("HTTP 404"), "{}", run.stderr);

    // `refresh` also undoes reformatting.
    let compact: Value = serde_json::from_str(&stale).expect("JSON");
    std::fs::write(project.path("a.json"), compact.to_string()).expect("written");
    assert_eq!(statuses(&project.run(&["refresh", "--json"])), ["updated"]);
    assert_eq!(project.read("a.json"), stale);
    // A digest that doesn't exist.
    project.edit("a.json", &first.digest().to_string(), &format!("sha256:{}", "0".repeat(64)));
    let edited = project.read("a.json");
    let run = project.run(&["refresh", "--json"]);
    assert_eq!((run.code, statuses(&run)), (4, vec!["failed".to_owned()]));
    assert_eq!(project.read("a.json"), edited);
}

/// An image with this config, on a base layer that all such images share.
fn labelled(config: &Value, layer: &str) -> Image {
    let layers: Vec<_> = ["base", layer].iter().map(|text| images::layer(text)).collect();
    let diff_ids: Vec<String> = layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect();
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    Image::from_parts(&config, layers.into_iter().map(|(layer, _)| layer).collect())
}

#[test]
fn diff_shows_what_a_reviewer_wants_to_know() {
    let registry = Registry::start();
    let source = "https://github.com/acme/app";
    let labels = |version: &str, revision: &str| {
        json!({
            "org.opencontainers.image.version": version, "org.opencontainers.image.revision": revision,
            "org.opencontainers.image.source": source, "evil": format!("` @everyone\n<img> {version}"),
        })
    };
    let old = labelled(
        &json!({ "Env": ["PATH=/bin", "OLD=1"], "Entrypoint": ["/a"], "User": "0",
                 "ExposedPorts": { "80/tcp": {} }, "![x](https://evil.example)\n\n## Yes": 1,
                 "Labels": labels("1.0", "0123456789abcdef") }),
        "old",
    );
    let new = labelled(
        &json!({ "Env": ["PATH=/bin:/usr/bin", "NEW=2"], "Entrypoint": ["/b"], "WorkingDir": "/app",
                 "ExposedPorts": { "443/tcp": {} }, "Volumes": { "/data": {} },
                 "Labels": labels("1.1", "fedcba9876543210") }),
        "new",
    );
    registry.put_image("app", "1.0", &old);
    registry.put_image("app", "1.1", &new);
    let project = Project::new();
    project.lock(&registry.reference("app:1.0"), "old.json", &AMD64);
    project.lock(&registry.reference("app:1.1"), "new.json", &AMD64);
    let arguments = ["diff", "lockfiles/old.json", "lockfiles/new.json"];
    let line = report(&project.run(&[&arguments[..], &["--json"]].concat())).remove(0);
    assert_eq!(line["status"], "different");
    let platform = &line["difference"]["platforms"][0];
    let size = new.layers[1].bytes.len();
    assert_eq!(platform["layers"]["kept"], 1);
    assert_eq!(platform["layers"]["download"], size);
    assert_eq!(platform["layers"]["added"][0]["digest"], new.layers[1].digest().to_string());
    assert_eq!(platform["layers"]["removed"][0]["digest"], old.layers[1].digest().to_string());
    assert_eq!(platform["version"], json!({ "old": "1.0", "new": "1.1" }));
    assert_eq!(platform["env"]["PATH"], json!({ "old": "/bin", "new": "/bin:/usr/bin" }));
    assert_eq!(platform["env"]["OLD"], json!({ "old": "1", "new": null }));
    assert_eq!(platform["env"]["NEW"], json!({ "old": null, "new": "2" }));
    assert_eq!(platform["config"]["Entrypoint"], json!({ "old": ["/a"], "new": ["/b"] }));
    assert_eq!(platform["config"]["User"], json!({ "old": "0", "new": null }));
    assert_eq!(platform["config"]["WorkingDir"], json!({ "old": null, "new": "/app" }));
    assert_eq!(platform["exposedPorts"], json!({ "added": ["443/tcp"], "removed": ["80/tcp"] }));
    assert_eq!(platform["volumes"], json!({ "added": ["/data"], "removed": [] }));
    let page = format!("{source}/compare/0123456789abcdef...fedcba9876543210");
    assert_eq!(platform["compare"], page);

    let markdown = project.run(&[&arguments[..], &["--markdown"]].concat());
    for expected in [
        "### `lockfiles/new.json`\n",
        "- version: `1.0` → `1.1`\n",
        "- Env `OLD`: removed `1`\n",
        "- config `Entrypoint`: `[\"/a\"]` → `[\"/b\"]`\n",
        "- layers: 1 kept, 1 added, 1 removed, ",
        &format!("  - added `{}`, {size} B\n", new.layers[1].digest()),
        &format!("  - removed `{}`, {} B\n", old.layers[1].digest(), old.layers[1].bytes.len()),
        &format!("- [changes in the source]({page})\n"),
        "- config `![x](https://evil.example)⟨a⟩⟨a⟩## Yes`: removed `1`\n",
        "- label `evil`: ``` ` @everyone⟨a⟩<img> 1.0 ```".replace("```", "``").as_str(),
    ] {
        assert!(markdown.text().contains(expected), "no `{expected}` in\n{}", markdown.text());
    }
    let text = project.run(&arguments);
    assert!(text.text().contains("  Env PATH: /bin → /bin:/usr/bin\n"), "{}", text.text());
    assert!(text.text().contains("- Env OLD: 1"), "{}", text.text());
    assert!(text.text().contains(&page), "{}", text.text());

    // No changes, and changed platforms.
    let same = ["diff", "lockfiles/old.json", "lockfiles/old.json"];
    assert_eq!(project.run(&same).text(), "nothing changed\n");
    let [amd64, arm64] = images_of("x");
    put_index(&registry, &[&amd64, &arm64], "");
    project.lock(&registry.reference("app:1"), "one.json", &AMD64);
    project.lock(&registry.reference("app:1"), "two.json", &["--all-platforms"]);
    let gained = project.run(&["diff", "lockfiles/one.json", "lockfiles/two.json"]);
    assert_eq!(gained.text(), "+ platform linux/arm64\n");
    let lost = project.run(&["diff", "lockfiles/two.json", "lockfiles/one.json", "--markdown"]);
    assert!(lost.text().contains("- **lost the platform** `linux/arm64`"), "{}", lost.text());
}

#[test]
fn two_plain_manifests_are_compared_by_their_layers() {
    let lockfiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("lockfiles");
    let arguments = ["diff", "nginx-1.22-manifest.json", "nginx-1.23.1-manifest.json", "--json"];
    let line = report(&n2c_in(&lockfiles, &arguments)).remove(0);
    let layers = &line["difference"]["platforms"][0]["layers"];
    assert_eq!(layers["kept"], 1);
    assert_eq!(layers["added"].as_array().map(Vec::len), Some(5));
    // The sizes in the newer manifest, except for the shared layer.
    assert_eq!(layers["download"], 25_348_083 + 603 + 891 + 664 + 1391);
}

#[test]
fn an_update_writes_the_body_of_its_pull_request() {
    let registry = Registry::start();
    registry.put_image("app", "1", &labelled(&json!({ "User": "a" }), "old"));
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    project.lock(&registry.reference("app:1"), "b.json", &AMD64);
    registry.put_image("app", "1", &labelled(&json!({ "User": "b" }), "new"));
    let run = project.run(&["update", "--markdown", "lockfiles/a.json"]);
    assert!(run.text().starts_with("### `lockfiles/a.json`\n\n- reference: `"), "{}", run.text());
    assert!(run.text().contains("- config `User`: `\"a\"` → `\"b\"`\n"), "{}", run.text());
    let run = project.run(&["update", "--markdown", "lockfiles/a.json"]);
    assert_eq!(run.text(), "", "nothing changed, nothing to say");
}

#[test]
fn verify_reports_what_is_gone_and_what_was_edited() {
    let registry = Registry::start();
    let [amd64, arm64] = images_of("x");
    put_index(&registry, &[&amd64, &arm64], "");
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &["--all-platforms"]);
    let whole = project.read("a.json");
    let checks = |arguments: &[&str]| {
        let run = project.run(&[&["verify", "lockfiles", "--json"], arguments].concat());
        let line = report(&run).remove(0);
        let found = line["checks"].as_array().expect("checks").iter().filter(|check| {
            let is_failure = !matches!(check["status"].as_str(), Some("ok" | "unchecked"));
            assert_eq!(is_failure, !check["error"].is_null());
            check["status"] != "ok"
        });
        let found: Vec<String> = found
            .map(|check| {
                let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}", text("subject"), text("platform"), text("status"))
            })
            .collect();
        (run.code, found)
    };
    let asked = registry.log().len();
    assert_eq!(checks(&[]), (0, vec![]));
    let log = registry.log().split_off(asked);
    let layers = log.iter().filter(|line| line.starts_with("HEAD ")).count();
    assert_eq!(layers, 4, "no layer is transferred: {log:?}");
    // The tag isn't requested.
    assert!(log.iter().all(|line| !line.ends_with("/manifests/1")), "{log:?}");

    let layer = arm64.layers[1].digest();
    for (status, code, kind) in [(404, 4, "gone"), (401, 5, "denied"), (429, 6, "rate-limited")] {
        let target = format!("/blobs/{layer}");
        registry.hook(move |call| {
            call.target
                .ends_with(&target)
                .then(|| Reply::error(status, "X", "no").with("retry-after", "99"))
        });
        assert_eq!(checks(&[]), (code, vec![format!("layer 2 linux/arm64 {kind}")]));
    }
    // A registry that refuses HEAD of blobs (protocol rule 21).
    registry
        .hook(|call| (call.method == "HEAD").then(|| Reply::error(401, "UNAUTHORIZED", "no head")));
    assert_eq!(checks(&[]), (0, vec![]));
    registry.hook(|_| None);

    // An edit of a single value is noticed.
    let digest = |blob: &Blob| blob.digest().to_string();
    for (from, to, expected) in [
        (digest(&amd64.layers[1]), digest(&arm64.layers[1]), vec!["manifest linux/amd64 wrong"]),
        (
            digest(&amd64.manifest),
            digest(&arm64.manifest),
            vec!["reference  wrong", "manifest linux/amd64 wrong"],
        ),
        (
            "LANG=C.UTF-8".to_owned(),
            "LANG=C".to_owned(),
            vec!["config linux/amd64 wrong", "config linux/arm64 wrong"],
        ),
    ] {
        project.edit("a.json", &from, &to);
        assert_eq!(checks(&[]), (8, expected.iter().map(ToString::to_string).collect()), "{from}");
        std::fs::write(project.path("a.json"), &whole).expect("written");
    }

    // Without a network.
    drop(registry);
    assert_eq!(checks(&[]).0, 7);
    let unseen = |wrong: &str| {
        let subjects = ["reference ", "config linux/amd64", "config linux/arm64"];
        let verdict = |subject| if wrong == subject { "wrong" } else { "unchecked" };
        subjects.map(|subject| format!("{subject} {}", verdict(subject))).to_vec()
    };
    assert_eq!(checks(&["--offline"]), (0, unseen("")));
    project.edit("a.json", "\"architecture\": \"arm64\"", "\"architecture\": \"amd64\"");
    assert_eq!(checks(&["--offline"]), (8, unseen("config linux/arm64")));
    let text = project.run(&["verify", "lockfiles", "--offline"]);
    assert_eq!(text.code, 8);
    let text = String::from_utf8(text.stdout).expect("text");
    assert!(
        text.contains("  wrong        config  linux/arm64  the lockfile has a different platform"),
        "{text}"
    );
    // A reference without a digest pins nothing, and neither does an empty list of platforms.
    std::fs::write(project.path("a.json"), &whole).expect("written");
    let digest = whole.split_once("app:1@").and_then(|(_, rest)| rest.split_once('"'));
    let digest = digest.expect("a ref").0;
    project.edit("a.json", &format!("app:1@{digest}"), "app:1");
    assert_eq!(checks(&["--offline"]), (8, unseen("reference ")));
    let empty = r#"{"n2c":{"version":1,"ref":"h.io/a:1","platforms":{}}}"#;
    std::fs::write(project.path("b.json"), empty).expect("written");
    let run = project.run(&["verify", "lockfiles/b.json", "--offline"]);
    assert_eq!(run.code, 8, "{}", run.stderr);
}

// Nix passes on the lockfile's copy of the config without having seen the config.
#[test]
fn a_lockfiles_copy_of_the_config_is_checked_against_the_config() {
    let registry = Registry::start();
    let [image, _] = images_of("x");
    registry.put_image("app", "1", &image);
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    let whole = project.read("a.json");
    let config: Value = serde_json::from_slice(&image.config.bytes).expect("JSON");
    let diff_id = config["rootfs"]["diff_ids"][0].as_str().expect("a digest");
    let other = format!("sha256:{}", "0".repeat(64));
    for (from, to) in
        [("LANG=C.UTF-8", "LD_PRELOAD=x"), ("/bin/hello", "/bin/evil"), (diff_id, other.as_str())]
    {
        project.edit("a.json", from, to);
        let edited = project.read("a.json");
        let run = project.run(&["refresh", "--check", "--json"]);
        assert_eq!((run.code, statuses(&run)), (3, vec!["stale".to_owned()]), "{from}");
        assert!(run.stderr.contains("hint: run `n2c refresh`"), "{}", run.stderr);
        assert_eq!(project.read("a.json"), edited);
        // Offline, the config can't be checked unless the store has it.
        let offline = || project.run(&["verify", "lockfiles", "--offline"]);
        let text = offline().text().to_owned();
        assert!(text.contains("  unchecked    config"), "{text}");
        assert!(!text.contains("ok           config"), "{text}");
        assert_eq!(statuses(&project.run(&["refresh", "--json"])), ["updated"]);
        assert_eq!(project.read("a.json"), whole);
    }
    // Without an index, the platform must be the config's.
    project.edit("a.json", "linux/amd64", "linux/arm64");
    for (arguments, code) in [
        (&["refresh", "--check"][..], 4),
        (&["verify", "lockfiles"], 8),
        (&["pull", "lock:lockfiles/a.json", "dir:d"], 8),
    ] {
        let run = project.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
    }
    std::fs::write(project.path("a.json"), &whole).expect("written");
    // If a formatter sorted the keys, one refresh puts all of them back in order.
    let sorted: Value = serde_json::from_str(&whole).expect("JSON");
    let mut sorted = sorted;
    sorted.sort_all_objects();
    std::fs::write(project.path("a.json"), format!("{sorted:#}\n")).expect("written");
    assert_eq!(statuses(&project.run(&["refresh", "--json"])), ["updated"]);
    assert_eq!(project.read("a.json"), whole);
    assert_eq!(statuses(&project.run(&["refresh", "--check", "--json"])), ["fresh"]);
}

#[test]
fn an_edit_made_during_an_update_is_not_lost() {
    let registry = Registry::start();
    let [old, _] = images_of("old");
    registry.put_image("app", "1", &old);
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    let [new, _] = images_of("new");
    registry.put_image("app", "1", &new);
    let (path, config) = (project.path("a.json"), new.config.digest().to_string());
    registry.hook(move |call| {
        if call.target.ends_with(&config) {
            std::fs::write(&path, "mine").expect("written");
        }
        None
    });
    let run = project.run(&["update", "--json"]);
    assert_eq!((run.code, statuses(&run)), (1, vec!["failed".to_owned()]));
    assert_eq!(project.read("a.json"), "mine");
}

#[test]
fn images_that_lockfiles_share_are_fetched_once() {
    let registry = Registry::start();
    let old = images_of("old");
    put_index(&registry, &[&old[0], &old[1]], "");
    let project = Project::new();
    let reference = registry.reference("app:1");
    project.lock(&reference, "a.json", &AMD64);
    project.lock(&reference, "b.json", &["--arch", "arm64"]);
    project.lock(&reference, "c.json", &["--all-platforms"]);
    let new = images_of("new");
    put_index(&registry, &[&new[0], &new[1]], "");
    let asked = registry.log().len();
    assert_eq!(statuses(&project.run(&["update", "--json"])), ["updated"; 3]);
    let log = registry.log().split_off(asked);
    // The tag, its index, and the manifest and config of each image.
    assert_eq!(log.len(), 6, "{log:#?}");
}

#[test]
fn verify_makes_no_unnecessary_requests() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["twice", "twice"]));
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    let verify = || project.run(&["verify", "lockfiles/a.json"]);
    let asked = registry.calls().len();
    let run = verify();
    assert_eq!(run.code, 0, "{}", run.stderr);
    let log = registry.log().split_off(asked);
    let heads = log.iter().filter(|line| line.starts_with("HEAD")).count();
    assert_eq!(heads, 1, "one layer, listed twice: {log:?}");
    // If HEAD is refused, one byte is fetched.
    registry.hook(|call| (call.method == "HEAD").then(|| Reply::new(405, "")));
    let asked = registry.calls().len();
    assert_eq!(verify().code, 0);
    let calls = registry.calls().split_off(asked);
    let ranges: Vec<&str> = calls.iter().filter_map(|call| call.header("range")).collect();
    assert_eq!(ranges, ["bytes=0-0"]);
    // A blob with a different length is a different blob.
    registry.hook(|call| (call.method == "HEAD").then(|| Reply::new(200, "another length")));
    assert_eq!(verify().code, 8);
}

#[test]
fn refresh_notices_an_edited_line() {
    let registry = Registry::start();
    let [old, _] = images_of("old");
    let first = put_index(&registry, &[&old], "");
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "a.json", &AMD64);
    let [new, _] = images_of("new");
    let second = put_index(&registry, &[&new], "");
    project.edit("a.json", &first.digest().to_string(), &second.digest().to_string());
    let edited = project.read("a.json");
    let run = project.run(&["refresh", "--check", "--json"]);
    assert_eq!((run.code, statuses(&run)), (3, vec!["stale".to_owned()]), "{}", run.stderr);
    assert_eq!(project.read("a.json"), edited);
    assert_eq!(project.run(&["refresh"]).code, 0);
    assert_eq!(project.run(&["refresh", "--check"]).code, 0);
    // An edited layer, with an index and without one.
    registry.put_image("plain", "1", &new);
    registry.put_image("plain", &new.manifest.digest().to_string(), &new);
    for reference in [registry.reference("app:1"), registry.reference("plain:1")] {
        project.lock(&reference, "a.json", &AMD64);
        let whole = project.read("a.json");
        let layer = |image: &Image| image.layers[1].digest().to_string();
        project.edit("a.json", &layer(&new), &layer(&old));
        let run = project.run(&["refresh", "--json"]);
        assert_eq!((run.code, statuses(&run)), (0, vec!["updated".to_owned()]), "{}", run.stderr);
        assert_eq!(project.read("a.json"), whole);
    }
    // Without an index, a manifest that matches its digest isn't requested. Several lockfiles
    // of one image need no more requests than one.
    std::fs::copy(project.path("a.json"), project.path("b.json")).expect("a copy");
    let asked = registry.log().len();
    assert_eq!(project.run(&["refresh"]).code, 0);
    let config = format!("GET /v2/plain/blobs/{}", new.config.digest());
    assert_eq!(registry.log().split_off(asked), ["HEAD /v2/plain/manifests/1", &config]);
}

#[test]
fn tags_are_listed_through_mirrors_too() {
    let registry = Registry::start();
    let [old, _] = images_of("x");
    for tag in ["1.0", "1.1"] {
        registry.put_image("hub/app", tag, &old);
    }
    // Tags that are invalid in references.
    registry.put_image("hub/app", &format!("{}1.9", "0".repeat(150)), &old);
    registry.put_image("hub/app", "1.8+rc1", &old);
    let project = Project::new();
    let mirror = format!("registry.example=http://{}/hub", registry.host());
    let through = ["--mirror", &mirror];
    project.lock("registry.example/app:1.0", "a.json", &[&AMD64[..], &through].concat());
    let bump = [&["update", "--bump=major", "--pre-releases", "--json"], &through[..]].concat();
    // The registry itself doesn't exist; the mirror answers. A new tag of the same image
    // is a change, too.
    let run = project.run(&bump);
    assert_eq!((run.code, statuses(&run)), (0, vec!["updated".to_owned()]), "{}", run.stderr);
    assert!(project.read("a.json").contains("registry.example/app:1.1@"));
    assert_eq!(statuses(&project.run(&bump)), ["fresh"]);
}

#[test]
fn other_files_are_left_alone() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["old"]));
    let project = Project::new();
    project.lock(&registry.reference("app:1"), "real", &AMD64);
    std::os::unix::fs::symlink("real", project.path("link.json")).expect("a link");
    std::os::unix::fs::symlink("nowhere", project.path("dangling.json")).expect("a link");
    std::fs::create_dir(project.path(".git")).expect("a folder");
    let write = |file: &str, text: &str| std::fs::write(project.path(file), text).expect("written");
    write(".git/x.json", r#"{"n2c":{"version":9}}"#);
    write("sources.json", r#"{"pins":{"n2c":{"type":"Git"}}}"#);
    crate::support::tools::run("mkfifo", &[project.path("pipe.json").to_str().expect("a path")]);
    registry.put_image("app", "1", &Image::new("linux/amd64", &["new"]));
    let run = project.run(&["update", "--json"]);
    assert_eq!((run.code, statuses(&run)), (0, vec!["updated".to_owned()]), "{}", run.stderr);
    assert!(project.path("link.json").symlink_metadata().expect("metadata").is_symlink());
    assert_eq!(project.read("real"), project.read("link.json"));
}

#[test]
fn the_first_failure_decides_and_all_are_reported() {
    let registry = Registry::start();
    let project = Project::new();
    let [image, _] = images_of("x");
    for name in ["a", "b"] {
        registry.put_image(name, "1", &image);
        project.lock(&registry.reference(&format!("{name}:1")), &format!("{name}.json"), &AMD64);
    }
    registry.hook(|call| match call.target.split('/').nth(2) {
        Some("a") => Some(Reply::error(404, "X", "`gone` @all")),
        Some("b") => Some(Reply::error(401, "X", "no")),
        _ => None,
    });
    let run = project.run(&["update", "--markdown"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    let text = String::from_utf8(run.stdout).expect("text");
    assert_eq!(text.matches("Not updated: `").count(), 2, "{text}");
    assert_eq!(project.run(&["verify", "lockfiles"]).code, 4);
    // The only platform isn't dropped.
    registry.hook(|_| None);
    put_index(&registry, &[&image], "");
    project.lock(&registry.reference("app:1"), "c.json", &AMD64);
    let old = project.read("c.json");
    let [_, other] = images_of("y");
    put_index(&registry, &[&other], "");
    let run = project.run(&["update", "lockfiles/c.json", "--platforms-lost=drop"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert_eq!(project.read("c.json"), old);
}

#[test]
fn a_report_is_never_too_long_for_a_pull_request() {
    let registry = Registry::start();
    let project = Project::new();
    let config = |text: &str| {
        let env: Vec<String> =
            (0..30).map(|n| format!("V{n}={text}{}", "x".repeat(5000))).collect();
        json!({ "Env": env })
    };
    for number in 0..30 {
        let name = format!("app{number}");
        registry.put_image(&name, "1", &labelled(&config("old"), "old"));
        project.lock(&registry.reference(&format!("{name}:1")), &format!("{name}.json"), &AMD64);
        registry.put_image(&name, "1", &labelled(&config("new"), "new"));
    }
    let run = project.run(&["update", "--markdown"]);
    let text = run.text();
    assert!(text.len() < 65_000 && text.contains("\n… and "), "{} bytes", text.len());
    assert!(text.contains("### `lockfiles/app0.json`"));
}

/// Starts a registry that answers nothing until `jobs` requests are waiting for it at once,
/// and then holds them a little, in which more would arrive. Returns its address, and the
/// largest number of requests that it got at once.
fn slow_registry(digest: String, jobs: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let noted = peak.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let (now, peak, digest) = (now.clone(), noted.clone(), digest.clone());
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = connection.read(&mut request);
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let is_first = peak.load(Ordering::SeqCst) <= jobs;
                wait_until("enough requests at once", || peak.load(Ordering::SeqCst) >= jobs);
                if is_first {
                    std::thread::sleep(Duration::from_millis(20));
                }
                now.fetch_sub(1, Ordering::SeqCst);
                let _ = write!(
                    connection,
                    "HTTP/1.1 200 OK\r\ndocker-content-digest: {digest}\r\n\
                     content-length: 0\r\nconnection: close\r\n\r\n"
                );
            });
        }
    });
    (address, peak)
}

#[test]
fn jobs_limits_the_requests_to_a_registry() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    let project = Project::new();
    for number in 0..24 {
        registry.put_image(&format!("app{number}"), "1", &image);
        let reference = registry.reference(&format!("app{number}:1"));
        project.lock(&reference, &format!("{number}.json"), &AMD64);
    }
    for jobs in [2, 8] {
        let (slow, peak) = slow_registry(image.manifest.digest().to_string(), jobs);
        for number in 0..24 {
            let file = format!("{number}.json");
            let reference: Value = serde_json::from_str(&project.read(&file)).expect("JSON");
            let reference = reference["n2c"]["ref"].as_str().expect("a ref");
            let host = reference.split('/').next().expect("a host").to_owned();
            project.edit(&file, &host, &slow);
        }
        let run = project.run(&["update", "--check", "--jobs", &jobs.to_string()]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let peak = peak.load(Ordering::SeqCst);
        assert_eq!(peak, jobs);
    }
}
