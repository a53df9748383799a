//! The registry in this program: what the distribution specification requires of a
//! read-only registry, and what it must not do.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use n2c::observer::{Event, Observer};
use n2c::oci::digest::{Digest, Verified};
use n2c::oci::location::Location;
use n2c::oci::media_type;
use n2c::serve::{Catalog, Registry};
use n2c::stream::readable::{Readable, ReadableFile};
use serde_json::{Value, json};

use crate::support::images::{self, Image};
use crate::support::program::n2c_in;
use crate::support::tools;

struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Event<'_>) {}
}

fn start(catalog: Catalog) -> Registry {
    Registry::start(catalog, Arc::new(Silent)).expect("a registry")
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The code of the error in the body, which must be a single one in the specification's
    /// format.
    #[track_caller]
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&self.body).expect("JSON");
        let [error] = &body["errors"].as_array().expect("errors")[..] else { panic!("{body}") };
        assert!(error["message"].is_string(), "{body}");
        error["code"].as_str().expect("a code").to_owned()
    }
}

/// Sends exactly this request line, which an HTTP client would normalise.
fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let headers = headers.iter().chain(&[("connection", "close")]);
    let headers: String = headers.flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]).collect();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    // An answer that breaks off is an answer too.
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head of text");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.parse().expect("a number"),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: answer[end + 4..].to_vec(),
    }
}

/// Writes a layout with an index for two platforms, tagged `1.0`, and the image for one of
/// them, tagged `arm`. Returns both.
fn layout(directory: &Path) -> (images::Blob, Image) {
    let arm = Image::new("linux/arm64/v8", &["a base", "arm"]);
    let amd = Image::new("linux/amd64", &["a base", "amd"]);
    let index =
        images::index(&[amd.manifest.entry("linux/amd64"), arm.manifest.entry("linux/arm64/v8")]);
    let mut blobs = vec![&arm.manifest, &amd.manifest, &arm.config, &amd.config];
    blobs.extend(arm.layers.iter().chain(&amd.layers));
    images::write_layout(directory, &[("1.0", &index), ("arm", &arm.manifest)], &blobs);
    (index, arm)
}

fn served(directory: &Path) -> Registry {
    let mut catalog = Catalog::new();
    for tag in ["1.0", "arm"] {
        let text = format!("oci:{}:{tag}", directory.display());
        let Ok(Location::OciLayout(reference)) = text.parse() else { panic!("{text}") };
        catalog.add_layout("team/app", tag, &reference).expect("a layout");
    }
    start(catalog)
}

#[test]
fn manifests_are_found_by_tag_and_by_digest_and_head_agrees_with_get() {
    let directory = tempfile::tempdir().expect("a directory");
    let (index, arm) = layout(directory.path());
    let registry = served(directory.path());
    for (target, document) in [
        ("1.0".to_owned(), &index),
        (index.digest().to_string(), &index),
        ("arm".to_owned(), &arm.manifest),
        (arm.manifest.digest().to_string(), &arm.manifest),
    ] {
        let path = format!("/v2/team/app/manifests/{target}");
        let got = ask(registry.address(), "GET", &path, &[]);
        assert_eq!((got.status, &got.body), (200, &document.bytes), "{target}");
        assert_eq!(got.header("content-type"), Some(document.media_type.as_str()));
        let digest = document.digest().to_string();
        assert_eq!(got.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(got.header("docker-distribution-api-version"), Some("registry/2.0"));
        let head = ask(registry.address(), "HEAD", &path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-length", "content-type", "docker-content-digest"] {
            assert_eq!(head.header(name), got.header(name), "{name}");
        }
    }
    assert_eq!(ask(registry.address(), "GET", "/v2/", &[]).status, 200);
}

#[test]
fn parts_of_blobs_are_served_from_memory_and_from_files() {
    let directory = tempfile::tempdir().expect("a directory");
    // More than is read at once, and not a multiple of that.
    let bytes: Vec<u8> = (0..300_001_u32).map(|number| (number % 251) as u8).collect();
    let file = directory.path().join("blob");
    std::fs::write(&file, &bytes).expect("a file");
    let digest = Digest::sha256(&bytes);
    let mut catalog = Catalog::new();
    let memory = Arc::new(Bytes::from(bytes.clone())) as Arc<dyn Readable>;
    catalog.add_blob("memory", digest.clone(), memory).expect("a blob");
    let content = Arc::new(ReadableFile::new(&file).expect("a file"));
    catalog.add_blob("file", digest.clone(), content).expect("a blob");
    let registry = start(catalog);
    for name in ["memory", "file"] {
        let path = format!("/v2/{name}/blobs/{digest}");
        let get = |range: &str| ask(registry.address(), "GET", &path, &[("range", range)]);
        let whole = ask(registry.address(), "GET", &path, &[]);
        assert_eq!((whole.status, whole.body == bytes), (200, true), "{name}");
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
        for (range, first, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=131071-131073", 131_071, 131_073),
            ("bytes=299990-", 299_990, 300_000),
            ("bytes=7-999999999", 7, 300_000),
            ("bytes=-5", 299_996, 300_000),
        ] {
            let part = get(range);
            assert_eq!(
                (part.status, &part.body[..]),
                (206, &bytes[first..=last]),
                "{name} {range}"
            );
            let expected = format!("bytes {first}-{last}/300001");
            assert_eq!(part.header("content-range"), Some(expected.as_str()));
        }
        let beyond = get("bytes=300001-");
        assert_eq!((beyond.status, beyond.code().as_str()), (416, "RANGE_INVALID"), "{name}");
        assert_eq!(beyond.header("content-range"), Some("bytes */300001"));
        // A range that isn't understood is ignored (RFC 9110 section 14.2).
        assert_eq!(get("bytes=0-1,5-6").status, 200);
        let head = ask(registry.address(), "HEAD", &path, &[("range", "bytes=0-1")]);
        assert_eq!((head.status, head.header("content-length")), (200, Some("300001")));
    }
}

#[test]
fn a_file_that_became_shorter_is_not_padded() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("blob");
    std::fs::write(&file, vec![1; 400_000]).expect("a file");
    let digest = Digest::sha256(&vec![1; 400_000]);
    let mut catalog = Catalog::new();
    let content = Arc::new(ReadableFile::new(&file).expect("a file"));
    catalog.add_blob("a", digest.clone(), content).expect("a blob");
    // A directory is rejected, as is a pipe, which could block when opened.
    let registry = start(catalog);
    std::fs::write(&file, vec![1; 200_000]).expect("a file");
    let path = format!("/v2/a/blobs/{digest}");
    let short = ask(registry.address(), "GET", &path, &[]);
    assert_eq!(short.header("content-length"), Some("400000"));
    assert!(short.body.len() < 400_000);
    std::fs::remove_file(&file).expect("a file");
    let gone = ask(registry.address(), "GET", &path, &[]);
    assert_eq!((gone.status, gone.code().as_str()), (404, "BLOB_UNKNOWN"));
}

#[test]
fn tags_come_in_order_and_in_pages() {
    let mut catalog = Catalog::new();
    for tag in ["b", "a", "d", "c", "e"] {
        let raw = Verified::as_found(format!("{{\"tag\":\"{tag}\"}}").into_bytes());
        catalog.add_document("x/y", Some(tag), media_type::OCI_INDEX, raw).expect("a document");
    }
    let registry = start(catalog);
    let (mut target, mut seen) = ("/v2/x/y/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let page = ask(registry.address(), "GET", &target, &[]);
        let body: Value = serde_json::from_slice(&page.body).expect("JSON");
        assert_eq!(body["name"], "x/y");
        seen.push(body["tags"].clone());
        let Some(link) = page.header("link") else { break };
        let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        next.expect("a link to the next page").clone_into(&mut target);
    }
    assert_eq!(seen, [json!(["a", "b"]), json!(["c", "d"]), json!(["e"])]);
    let all = ask(registry.address(), "GET", "/v2/x/y/tags/list", &[]);
    assert_eq!(all.body, br#"{"name":"x/y","tags":["a","b","c","d","e"]}"#);
    assert_eq!(all.header("link"), None);
}

#[test]
fn errors_follow_the_specification() {
    let directory = tempfile::tempdir().expect("a directory");
    let (index, arm) = layout(directory.path());
    let registry = served(directory.path());
    let none = format!("sha256:{}", "0".repeat(64));
    let long = format!("/v2/{}/tags/list", "a/".repeat(5000));
    let layer = arm.layers[0].digest();
    for (target, status, code) in [
        (format!("/v2/team/app/manifests/{none}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/app/manifests/2.0".to_owned(), 404, "MANIFEST_UNKNOWN"),
        // A layer is not a manifest.
        (format!("/v2/team/app/manifests/{layer}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/team/app/blobs/{none}"), 404, "BLOB_UNKNOWN"),
        ("/v2/team/app/blobs/sha256:0".to_owned(), 400, "DIGEST_INVALID"),
        (format!("/v2/team/app/blobs/sha256:..%2f{}", layer.hex()), 400, "DIGEST_INVALID"),
        ("/v2/team/app/blobs/../../../../index.json".to_owned(), 404, "UNSUPPORTED"),
        // Another repository has none of this one's content.
        (format!("/v2/team/other/blobs/{layer}"), 404, "NAME_UNKNOWN"),
        (format!("/v2/team/../team/app/blobs/{layer}"), 404, "NAME_UNKNOWN"),
        (format!("/v2/team%2fapp/blobs/{layer}"), 404, "NAME_UNKNOWN"),
        (format!("/v2/team/app/manifests/{}/", index.digest()), 404, "UNSUPPORTED"),
        ("/v2/_catalog".to_owned(), 404, "UNSUPPORTED"),
        ("/".to_owned(), 404, "UNSUPPORTED"),
        ("/../../etc/passwd".to_owned(), 404, "UNSUPPORTED"),
        (long, 404, "NAME_UNKNOWN"),
    ] {
        let answer = ask(registry.address(), "GET", &target, &[]);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{target}");
    }
}

#[test]
fn pushes_deletions_and_invalid_names_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    layout(directory.path());
    let registry = served(directory.path());
    for (method, target) in [
        ("PUT", "/v2/team/app/manifests/1.0"),
        ("DELETE", "/v2/team/app/manifests/1.0"),
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("PATCH", "/v2/team/app/blobs/uploads/1"),
    ] {
        let answer = ask(registry.address(), method, target, &[("content-length", "0")]);
        assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"), "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    assert_eq!(ask(registry.address(), "GET", "/v2/team/app/manifests/1.0", &[]).status, 200);
    let mut catalog = Catalog::new();
    let raw = Verified::as_found(b"{}".to_vec());
    for name in ["", "../up", "UPPER", "a//b", "a b"] {
        let added = catalog.add_document(name, None, media_type::OCI_INDEX, raw.clone());
        assert!(added.is_err(), "{name}");
    }
}

#[test]
fn a_silent_client_blocks_nobody_and_a_dropped_registry_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    layout(directory.path());
    let registry = served(directory.path());
    let address = registry.address();
    let mut silent = TcpStream::connect(address).expect("a connection");
    silent.write_all(b"GET /v2/ HT").expect("a part of a request");
    assert_eq!(ask(address, "GET", "/v2/team/app/tags/list", &[]).status, 200);
    assert!(address.ip().is_loopback());
    drop(registry);
    assert!(TcpStream::connect(address).is_err(), "it still listens");
    let mut rest = Vec::new();
    assert_eq!(silent.read_to_end(&mut rest).unwrap_or(0), 0);
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Served { method, target, status } = event {
            self.0.lock().expect("a log").push(format!("{method} {target} {status}"));
        }
    }
}

#[test]
fn an_observer_sees_each_request() {
    let log = Arc::<Log>::default();
    let registry = Registry::start(Catalog::new(), log.clone()).expect("a registry");
    ask(registry.address(), "GET", "/v2/", &[]);
    ask(registry.address(), "HEAD", "/v2/a/tags/list?n=1", &[]);
    assert_eq!(*log.0.lock().expect("a log"), ["GET /v2/ 200", "HEAD /v2/a/tags/list?n=1 404"]);
}

#[test]
fn a_served_layout_is_pulled_unchanged() {
    let directory = tempfile::tempdir().expect("a directory");
    layout(&directory.path().join("layout"));
    let registry = served(&directory.path().join("layout"));
    let image = format!("{}/team/app:1.0", registry.address());
    let here = |arguments: &[&str]| n2c_in(directory.path(), arguments);
    let lock = here(&["lock", &image, "--arch", "arm64"]).json();
    let local = here(&["lock", "oci:layout:1.0", "--arch", "arm64"]).json();
    assert_eq!(lock["layers"], local["layers"]);
    assert!(lock["config"]["digest"].is_string(), "{lock}");
    assert_eq!(lock["config"], local["config"]);
    assert_eq!(lock["n2c"]["image"], local["n2c"]["image"]);
    here(&["pull", &image, "dir:served", "--arch", "arm64"]).text();
    here(&["pull", "oci:layout:1.0", "dir:local", "--arch", "arm64"]).text();
    assert_eq!(files(&directory.path().join("served")), files(&directory.path().join("local")));
}

#[test]
#[ignore = "needs skopeo; run `tests/run`"]
fn skopeo_copies_all_of_an_index_and_lists_tags() {
    let directory = tempfile::tempdir().expect("a directory");
    let (index, _) = layout(&directory.path().join("layout"));
    let registry = served(&directory.path().join("layout"));
    let image = format!("docker://{}/team/app", registry.address());
    let copy = format!("dir:{}", directory.path().join("copy").display());
    let source = format!("{image}:1.0");
    tools::skopeo(&["copy", "--all", "--src-tls-verify=false", &source, &copy]);
    let copied = files(&directory.path().join("copy"));
    assert_eq!(copied["manifest.json"], index.bytes);
    // The version, the index, two manifests, two configs and three layers.
    assert_eq!(copied.len(), 9, "{:?}", copied.keys());
    let tags = tools::skopeo(&["list-tags", "--tls-verify=false", &image]);
    let tags: Value = serde_json::from_slice(&tags).expect("JSON");
    assert_eq!(tags["Tags"], json!(["1.0", "arm"]));
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("a file"))
        })
        .collect()
}
