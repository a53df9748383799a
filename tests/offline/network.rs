//! Bad networks, odd servers, rate limits and mirrors.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::images::{Blob, Image};
use crate::support::program::{command, n2c, n2c_in, peak_memory};
use crate::support::registry::{Registry, Reply, ReplyBody};
use n2c::observer::Silent;
use n2c::oci::digest::{Algorithm, Digest, Hasher};
use n2c::oci::reference::Repository;
use n2c::registry::{BlobRequest, Client, ClientOptions, Error, RetryPolicy};

/// A client that gives up quickly.
fn quick_client() -> Client {
    let retry = RetryPolicy {
        attempts: 5,
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(20),
    };
    let options = ClientOptions {
        retry,
        read_timeout: Duration::from_millis(300),
        ..ClientOptions::default()
    };
    Client::new(options, Arc::new(Silent)).expect("a client")
}

/// Downloads a blob with the quick client.
fn download(registry: &Registry, blob: &Blob, size: Option<u64>) -> Result<Vec<u8>, Error> {
    let repository = registry.reference("app").parse::<Repository>().expect("a repository");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = quick_client();
    let digest = blob.digest();
    let wanted = BlobRequest { repository: &repository, digest: &digest, size, urls: &[] };
    runtime.block_on(client.download(&wanted, file.as_file_mut()))?;
    Ok(std::fs::read(file.path()).expect("read"))
}

fn registry_with(bytes: impl Into<Vec<u8>>) -> (Registry, Blob) {
    let registry = Registry::start();
    let blob = Blob::new("application/octet-stream", bytes);
    registry.put_blob(&blob);
    (registry, blob)
}

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

/// The first byte that a request asks for.
fn first_byte(call: &crate::support::registry::Call) -> usize {
    let range = call.header("range").and_then(|range| range.strip_prefix("bytes="));
    range
        .and_then(|range| range.split('-').next())
        .map_or(0, |first| first.parse().expect("a number"))
}

// A download that stalls has failed, and is retried
#[test]
fn a_stalled_download_is_retried() {
    let (registry, blob) = registry_with(numbers(10_000));
    let (bytes, tries) = (blob.bytes.clone(), AtomicUsize::new(0));
    registry.hook(move |_| {
        (tries.fetch_add(1, Ordering::SeqCst) == 0).then(|| {
            let body = ReplyBody::Stalled(bytes[..1000].to_vec().into());
            Reply { status: 200, headers: Vec::new(), body }
                .with("content-length", bytes.len().to_string())
        })
    });
    assert_eq!(download(&registry, &blob, None).expect("a blob"), blob.bytes);
    assert_eq!(registry.calls().iter().map(first_byte).collect::<Vec<_>>(), [0, 1000]);

    registry.hook(|_| {
        Some(Reply { status: 200, headers: Vec::new(), body: ReplyBody::Stalled(Bytes::new()) })
    });
    let error = download(&registry, &blob, None).expect_err("nothing but stalls");
    assert!(error.to_string().ends_with("after 5 attempts"), "{error}");
}

// rule 55: no server can keep a download going forever
#[test]
fn rule_55_a_download_without_real_progress_ends() {
    let (registry, blob) = registry_with(numbers(100_000));
    // The server ignores ranges, and breaks off at two places in turn.
    let (bytes, tries) = (blob.bytes.clone(), AtomicUsize::new(0));
    registry.hook(move |_| {
        let end = [100_000, 150_000][tries.fetch_add(1, Ordering::SeqCst) % 2];
        Some(Reply::broken(200, bytes[..end].to_vec(), bytes.len()))
    });
    download(&registry, &blob, None).expect_err("never whole");
    assert!(registry.calls().len() <= 6, "{} requests", registry.calls().len());

    // The server sends one byte each time.
    let (registry, blob) = registry_with(numbers(1000));
    let bytes = blob.bytes.clone();
    registry.hook(move |call| {
        let first = first_byte(call);
        let reply = Reply::broken(
            if first == 0 { 200 } else { 206 },
            bytes[first..=first].to_vec(),
            bytes.len() - first,
        );
        Some(
            reply.with(
                "content-range",
                format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len()),
            ),
        )
    });
    download(&registry, &blob, None).expect_err("never whole");
    assert!(registry.calls().len() <= 6, "{} requests", registry.calls().len());
}

// rule 55: a wrong piece is noticed, and the whole blob is fetched once more
#[test]
fn rule_55_a_wrong_piece_costs_one_restart() {
    for always in [false, true] {
        let (registry, blob) = registry_with(numbers(10_000));
        let (length, tries) = (blob.bytes.len(), AtomicUsize::new(0));
        registry.hook(move |call| {
            let is_first = tries.fetch_add(1, Ordering::SeqCst) == 0;
            (is_first || always && first_byte(call) == 0)
                .then(|| Reply::broken(200, vec![7; 1000], length))
        });
        let result = download(&registry, &blob, None);
        assert_eq!(result.is_err(), always);
        assert_eq!(registry.calls().len(), if always { 4 } else { 3 });
    }
}

// rule 54
#[test]
fn rule_54_nothing_is_requested_once_all_bytes_are_here() {
    let (registry, blob) = registry_with(numbers(5000));
    // All bytes arrive, but without an announced length or a proper end.
    let bytes = blob.bytes.clone();
    registry.hook(move |call| {
        Some(if first_byte(call) == 0 {
            Reply {
                status: 200,
                headers: Vec::new(),
                body: ReplyBody::Broken(bytes.clone().into()),
            }
        } else {
            // Like distribution, with a length that isn't the body's.
            Reply::broken(416, "no", bytes.len())
                .with("content-range", format!("bytes */{}", bytes.len()))
        })
    });
    assert_eq!(download(&registry, &blob, None).expect("a blob"), blob.bytes);
    assert_eq!(registry.calls().len(), 2);
    assert_eq!(download(&registry, &blob, Some(20_000)).expect("a blob"), blob.bytes);
    assert_eq!(registry.calls().len(), 3);
}

#[test]
fn hostile_numbers_do_no_harm() {
    let (registry, blob) = registry_with(numbers(1000));
    let (bytes, tries) = (blob.bytes.clone(), AtomicUsize::new(0));
    registry.hook(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Some(Reply {
            status: 200,
            headers: Vec::new(),
            body: ReplyBody::Broken(bytes[..5].to_vec().into()),
        }),
        1 => {
            let body = ReplyBody::Broken(Bytes::from_static(b"x"));
            Some(
                Reply { status: 206, headers: Vec::new(), body }
                    .with("content-length", (u64::MAX - 2).to_string())
                    .with("content-range", format!("bytes 5-{}/*", u64::MAX)),
            )
        }
        _ => None,
    });
    let _ = download(&registry, &blob, None);
}

// rule 57: `Content-Encoding: gzip` may be meant, or may just describe the layer itself
#[test]
fn rule_57_the_digest_decides_what_content_encoding_means() {
    let text = numbers(5000);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&text).expect("memory is written");
    let compressed = gzip.finish().expect("memory is written");
    for (blob, is_label) in [(&compressed, true), (&text, false)] {
        for label in ["gzip", "x-gzip"] {
            let (registry, blob) = registry_with(blob.clone());
            let served = compressed.clone();
            registry.hook(move |_| {
                Some(Reply::new(200, served.clone()).with("content-encoding", label))
            });
            for size in [None, Some(blob.bytes.len() as u64)] {
                let bytes = download(&registry, &blob, size).expect("a blob");
                assert!(bytes == blob.bytes, "label only: {is_label}, size: {size:?}");
            }
        }
    }
    // A decompression bomb isn't the requested blob, and ends in an error.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![0; 50 << 20]).expect("memory is written");
    let bomb = gzip.finish().expect("memory is written");
    let (registry, blob) = registry_with("small");
    registry.hook(move |_| Some(Reply::new(200, bomb.clone()).with("content-encoding", "gzip")));
    download(&registry, &blob, Some(5)).expect_err("not the requested blob");
    // For a manifest fetched by tag, there is no digest that could decide.
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&image.manifest.bytes).expect("memory is written");
    let served = gzip.finish().expect("memory is written");
    registry.hook(move |call| {
        call.target
            .ends_with("/manifests/1")
            .then(|| Reply::new(200, served.clone()).with("content-encoding", "gzip"))
    });
    let lock = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]).json();
    assert_eq!(lock["n2c"]["manifest"], image.manifest.digest().to_string());
}

// rules 51 and 64
#[test]
fn rule_51_an_expired_redirect_is_requested_again_from_the_registry() {
    let (registry, blob) = registry_with(numbers(100));
    let store = Registry::start();
    store.put_blob(&blob);
    let expired = AtomicUsize::new(0);
    store.hook(move |_| {
        (expired.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| Reply::new(403, "Request has expired"))
    });
    let target = format!("http://{}/v2/x/blobs/{}?X-Amz-Signature=s", store.host(), blob.digest());
    registry.hook(move |_| Some(Reply::new(307, "").with("location", target.clone())));
    assert_eq!(download(&registry, &blob, None).expect("a blob"), blob.bytes);
    assert_eq!(registry.calls().len(), 2);
    // The registry's own refusal is final.
    registry.hook(|_| Some(Reply::error(403, "DENIED", "no")));
    assert!(matches!(download(&registry, &blob, None), Err(Error::Denied(_))));
    assert_eq!(registry.calls().len(), 3);
}

// rule 65: both forms of `Retry-After`
#[test]
fn rule_65_the_server_decides_when_to_retry() {
    let in_seconds = || "1".to_owned();
    let as_a_date = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    for retry_after in [in_seconds as fn() -> String, as_a_date] {
        let (registry, blob) = registry_with("bytes");
        let tries = AtomicUsize::new(0);
        registry.hook(move |_| {
            let is_first = tries.fetch_add(1, Ordering::SeqCst) == 0;
            is_first.then(|| Reply::new(503, "").with("retry-after", retry_after()))
        });
        let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
        let started = Instant::now();
        let run = n2c(&["blob", &repository, &digest, "-o", "out"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(started.elapsed() >= Duration::from_secs(1), "it did not wait");
        assert!(run.stderr.contains("HTTP 503"), "no warning was shown: {}", run.stderr);
    }
}

// rules 64, 67: no retry is wasted on a pull limit
#[test]
fn rule_67_a_pull_limit_is_final_and_gives_a_hint() {
    let toomany = "You have reached your unauthenticated pull rate limit.";
    for (reply, hint) in [
        (("", "", toomany), "no pulls left on"),
        (("ratelimit-remaining", "0;w=21600", "slow down"), "no pulls left on"),
        (("retry-after", "3600", "slow down"), "asks you to wait 3600 s"),
    ] {
        let (registry, _) = registry_with("bytes");
        let (name, value, message) = reply;
        registry.hook(move |_| {
            let reply = Reply::error(429, "TOOMANYREQUESTS", message);
            Some(if name.is_empty() { reply } else { reply.with(name, value) })
        });
        let run = n2c(&["lock", &registry.reference("app:1"), "-v"]);
        assert!(run.error(6).contains("HTTP 429"), "{}", run.stderr);
        assert!(run.stderr.contains(hint), "{}", run.stderr);
        assert_eq!(registry.calls().len(), 1);
    }
}

// A limit per second is over in a second, whatever the message calls it.
#[test]
fn a_short_limit_is_waited_for() {
    let (registry, blob) = registry_with("bytes");
    let answers = AtomicUsize::new(0);
    registry.hook(move |_| {
        (answers.fetch_add(1, Ordering::Relaxed) == 0).then(|| {
            let message = "You have reached your pull rate limit.";
            Reply::error(429, "TOOMANYREQUESTS", message)
                .with("retry-after", "1")
                .with("ratelimit-remaining", "0;w=1")
        })
    });
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    // Repeating `-v` is allowed, and has no further effect.
    let run = n2c(&["blob", &repository, &digest, "-o", "out", "-vv", "-v"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(registry.calls().len(), 2);
}

#[test]
fn rate_limits_are_shown_when_asked_for() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let body = image.manifest.bytes.clone();
    registry.hook(move |call| {
        call.target.contains("/manifests/").then(|| {
            Reply::new(200, body.clone())
                .with("ratelimit-limit", "100;w=21600")
                .with("ratelimit-remaining", "76;w=21600")
        })
    });
    let reference = registry.reference("app:1");
    let run = n2c(&["lock", &reference, "--arch", "amd64", "-v"]);
    assert!(run.stderr.contains("has 76;w=21600 pulls left of 100;w=21600"), "{}", run.stderr);
    assert!(!n2c(&["lock", &reference, "--arch", "amd64"]).stderr.contains("pulls left"));
}

#[test]
fn cookies_are_not_kept() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["x"]));
    let tries = AtomicUsize::new(0);
    registry.hook(move |call| {
        assert_eq!(call.header("cookie"), None);
        let is_first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| {
            Reply::new(307, "")
                .with("set-cookie", "session=1; Path=/")
                .with("location", call.target.clone())
        })
    });
    let run = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(registry.calls().iter().all(|call| call.header("cookie").is_none()));
}

// "A 1 GiB blob cut at 30, 60 and 90 % costs at most 1.1 GiB of transfer", and
// "memory of blob stays under 24 MiB for a 1 GiB blob".
#[test]
fn a_gigabyte_costs_neither_memory_nor_transfer() {
    const PIECE: u64 = 1 << 20;
    const PIECES: u64 = 1 << 10;
    /// A mebibyte that begins with its number.
    fn piece(number: u64) -> Bytes {
        let length = usize::try_from(PIECE).expect("a small number");
        let mut bytes = vec![0x5a; length];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes.into()
    }
    let mut hasher = Hasher::new(Algorithm::Sha256);
    (0..PIECES).for_each(|number| hasher.update(&piece(number)));
    let digest: Digest = hasher.finish();

    let registry = Registry::start();
    let (sent, tries) = (Arc::new(AtomicU64::new(0)), AtomicUsize::new(0));
    let counter = sent.clone();
    registry.hook(move |call| {
        let first = u64::try_from(first_byte(call)).expect("a small number");
        let cut =
            [3, 6, 9].get(tries.fetch_add(1, Ordering::SeqCst)).map(|tenth| PIECES * tenth / 10);
        let counter = counter.clone();
        let pieces = (first / PIECE..cut.unwrap_or(PIECES)).map(move |number| {
            // The connection may have broken within a piece.
            let skipped =
                usize::try_from(first.saturating_sub(number * PIECE)).expect("a small number");
            let piece = piece(number).slice(skipped..);
            counter.fetch_add(piece.len() as u64, Ordering::SeqCst);
            piece
        });
        let (total, body) =
            (PIECES * PIECE, ReplyBody::Pieces { pieces: Box::new(pieces), broken: cut.is_some() });
        let reply = Reply { status: if first == 0 { 200 } else { 206 }, headers: Vec::new(), body };
        Some(
            reply
                .with("content-length", (total - first).to_string())
                .with("content-range", format!("bytes {first}-{}/{total}", total - 1)),
        )
    });
    let directory = tempfile::tempdir().expect("a directory");
    let (repository, digest) = (registry.reference("app"), digest.to_string());
    let (run, peak) = peak_memory(directory.path(), &["blob", &repository, &digest, "-o", "out"]);
    assert_eq!(run.code, 0);
    assert_eq!(
        std::fs::metadata(directory.path().join("out")).expect("the blob").len(),
        PIECE * PIECES
    );
    assert_eq!(registry.calls().len(), 4);
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent <= PIECE * PIECES / 10 * 11, "{sent} bytes were sent");
    assert!((1..24 << 10).contains(&peak), "{peak} KiB of memory");
}

/// A registry with an image, and a mirror that has the image below `hub/`.
fn registry_and_mirror() -> (Registry, Registry, Image) {
    let (registry, mirror) = (Registry::start(), Registry::start());
    let image = Image::new("linux/amd64", &["one"]);
    registry.put_image("team/app", "1", &image);
    mirror.put_image("hub/team/app", "1", &image);
    (registry, mirror, image)
}

#[test]
fn a_mirror_is_tried_first_and_does_not_change_the_lockfile() {
    let (registry, mirror, _) = registry_and_mirror();
    let reference = registry.reference("team/app:1");
    let plain = n2c(&["lock", &reference, "--arch", "amd64"]).text().to_owned();
    let asked = registry.calls().len();
    let option = format!("{}=http://{}/hub", registry.host(), mirror.host());
    assert_eq!(n2c(&["lock", &reference, "--arch", "amd64", "--mirror", &option]).text(), plain);
    assert_eq!(mirror.log()[0], "GET /v2/hub/team/app/manifests/1");
    assert_eq!(registry.calls().len(), asked, "the registry was asked too");

    let directory = tempfile::tempdir().expect("a directory");
    let output = command(directory.path(), &["lock", &reference, "--arch", "amd64"])
        .env("N2C_MIRRORS", &option)
        .output()
        .expect("a run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), plain);
    assert_eq!(registry.calls().len(), asked, "the registry was asked too");

    // If the mirror lacks something or lies about it, it comes from the registry.
    for reply in [Reply::new(404, ""), Reply::new(200, "<html>"), Reply::new(403, "")] {
        let (status, reply) = (reply.status, std::sync::Mutex::new(Some(reply)));
        mirror.hook(move |call| {
            if call.target.contains("/manifests/") { reply.lock().ok()?.take() } else { None }
        });
        let pinned =
            plain.lines().find_map(|line| line.trim().strip_prefix("\"ref\": \"")).expect("a ref");
        let pinned = pinned.trim_end_matches(['"', ',']);
        let run = n2c(&["lock", pinned, "--arch", "amd64", "--mirror", &option]);
        assert_eq!(run.text(), plain, "{status}");
        assert!(
            run.stderr.contains(&format!("note: mirror `{}` failed", mirror.host())),
            "{}",
            run.stderr
        );
    }
}

// rule 28: a mirror is another registry, with credentials of its own
#[test]
fn rule_28_a_mirror_does_not_get_the_registrys_credentials() {
    let (registry, mirror, image) = registry_and_mirror();
    let secret = "dXNlcjpzZXNhbWU=";
    registry.hook(move |call| {
        (call.header("authorization") != Some(&format!("Basic {secret}")))
            .then(|| Reply::new(401, "").with("www-authenticate", "Basic realm=x"))
    });
    mirror.hook(|_| Some(Reply::new(401, "").with("www-authenticate", "Basic realm=x")));
    let directory = tempfile::tempdir().expect("a directory");
    let file = serde_json::json!({ "auths": { registry.host(): { "auth": secret } } });
    std::fs::write(directory.path().join("auth.json"), file.to_string()).expect("written");
    let option = format!("{}=http://{}/hub", registry.host(), mirror.host());
    let (repository, digest) = (registry.reference("team/app"), image.config.digest().to_string());
    let arguments =
        ["blob", &repository, &digest, "-o", "out", "--mirror", &option, "--authfile", "auth.json"];
    let run = n2c_in(directory.path(), &arguments);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(!mirror.calls().is_empty());
    assert!(mirror.calls().iter().all(|call| call.header("authorization").is_none()));
}

#[test]
fn if_registry_and_mirror_fail_both_are_named() {
    let (registry, mirror, _) = registry_and_mirror();
    registry.hook(|_| Some(Reply::error(404, "MANIFEST_UNKNOWN", "gone")));
    mirror.hook(|_| Some(Reply::error(403, "DENIED", "not you")));
    let option = format!("{}=http://{}/hub", registry.host(), mirror.host());
    let run = n2c(&["lock", &registry.reference("team/app:1"), "--mirror", &option]);
    let error = run.error(4);
    for expected in [registry.host(), mirror.host(), "gone".to_owned(), "not you".to_owned()] {
        assert!(error.contains(&expected), "`{expected}` is missing: {error}");
    }
    assert!(n2c(&["lock", "alpine", "--mirror", "docker.io"]).error(2).contains("invalid mirror"));
}

// rules 75 and 76
#[test]
fn rule_75_registries_conf_is_read() {
    let (registry, mirror, image) = registry_and_mirror();
    let directory = tempfile::tempdir().expect("a directory");
    let settings = directory.path().join(".config/containers");
    std::fs::create_dir_all(&settings).expect("a folder");
    let write =
        |text: String| std::fs::write(settings.join("registries.conf"), text).expect("written");
    write(format!(
        "[[registry]]\nprefix = \"{0}\"\nlocation = \"{0}\"\n[[registry.mirror]]\nlocation = \"{1}/hub\"\ninsecure = true\n",
        registry.host(),
        mirror.host()
    ));
    let (repository, digest) = (registry.reference("team/app"), image.config.digest().to_string());
    let arguments = ["blob", &repository, &digest, "-o", "out"];
    let run = n2c_in(directory.path(), &arguments);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!((registry.calls().len(), mirror.calls().len()), (0, 1));
    write(format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", registry.host()));
    let run = n2c_in(directory.path(), &arguments);
    assert!(run.error(5).contains("is blocked by"), "{}", run.stderr);
    assert_eq!(registry.calls().len(), 0);
    write("[[registry".to_owned());
    assert!(n2c_in(directory.path(), &arguments).error(1).contains("registries.conf"));
}

#[test]
fn explain_shows_how_the_result_was_reached() {
    let registry = Registry::start();
    let (arm, amd) = (Image::new("linux/arm64", &["arm"]), Image::new("linux/amd64", &["amd"]));
    registry.put_image("app", "arm", &arm);
    registry.put_image("app", "amd", &amd);
    let (attestation, entry) = crate::support::images::attestation(&amd);
    registry.put_image("app", "attestation", &attestation);
    let inner = crate::support::images::index(&[arm.manifest.entry("linux/arm64")]);
    registry.put_manifest("app", "inner", &inner);
    let index = crate::support::images::index(&[
        amd.manifest.entry("linux/amd64"),
        inner.descriptor(),
        entry,
    ]);
    registry.put_manifest("app", "1", &index);
    registry.want_token();
    let arguments = ["inspect", &registry.reference("app:1"), "--arch", "arm64", "--explain"];
    let json = n2c(&[&arguments[..], &["--json"]].concat()).json();
    let entries = json["explanation"]["entries"].as_array().expect("entries").clone();
    let told: Vec<(u64, bool, &str)> = entries
        .iter()
        .map(|entry| {
            let reason = entry["reason"].as_str().expect("a reason");
            (entry["depth"].as_u64().expect("a depth"), entry["taken"] == true, reason)
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, false, "does not run on linux/arm64"),
            (1, false, "an index, searched"),
            (2, true, "fits exactly"),
            (1, false, "not an image: attestation-manifest"),
        ]
    );
    assert_eq!(json["explanation"]["credentials"][0]["origin"], serde_json::Value::Null);
    // Exactly one entry is marked as taken, even if the image is listed twice.
    let twice =
        crate::support::images::index(&[inner.descriptor(), arm.manifest.entry("linux/arm64")]);
    registry.put_manifest("app", "2", &twice);
    let other = ["inspect", &registry.reference("app:2"), "--arch", "arm64", "--explain", "--json"];
    let other = n2c(&other).json();
    let taken = other["explanation"]["entries"].as_array().expect("entries").iter();
    assert_eq!(taken.filter(|entry| entry["taken"] == true).count(), 1);
    let calls =
        registry.calls().len() - other["explanation"]["requests"].as_array().map_or(0, Vec::len);
    let requests = json["explanation"]["requests"].as_array().expect("requests");
    assert_eq!(requests.len(), calls);
    assert_eq!(requests[0]["status"], 401);
    let run = n2c(&arguments);
    let text = run.text();
    for expected in ["fits exactly", "CREDENTIALS", "none", "/token?…", "401", " ms"] {
        assert!(text.contains(expected), "`{expected}` is missing from:\n{text}");
    }
    assert!(!text.contains("token-for"), "{text}");
}

#[test]
fn rule_70_warnings_are_shown_once() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let (manifest, config) = (image.manifest.bytes.clone(), image.config.bytes.clone());
    registry.hook(move |call| {
        let body = if call.target.contains("/blobs/") { config.clone() } else { manifest.clone() };
        Some(Reply::new(200, body).with("warning", "299 - \"this goes away in May\""))
    });
    let run = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stderr.matches("this goes away in May").count(), 1, "{}", run.stderr);
}

// The status decides, whatever the body says.
#[test]
fn rule_42_an_error_may_be_a_page() {
    let registry = Registry::start();
    for (status, code) in [(404, 4), (403, 5), (400, 7)] {
        registry.hook(move |_| {
            Some(Reply::new(status, "<html>\u{1b}[2J</html>").with("content-type", "text/html"))
        });
        let run = n2c(&["lock", &registry.reference("app:1")]);
        assert!(run.error(code).contains(&format!("HTTP {status}")), "{}", run.stderr);
    }
    // Harbor and Red Hat use another error code for missing repositories.
    registry.hook(|_| Some(Reply::error(404, "UNKNOWN", "repository app not found")));
    assert!(
        n2c(&["lock", &registry.reference("app:1")]).error(4).contains("repository app not found")
    );
}

// A server that stops supporting ranges between two answers.
#[test]
fn rule_54_a_refused_range_is_not_the_end() {
    for size in [None, Some(20_000)] {
        let (registry, blob) = registry_with(numbers(5000));
        let (bytes, tries) = (blob.bytes.clone(), AtomicUsize::new(0));
        registry.hook(move |call| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Some(Reply::broken(200, bytes[..7000].to_vec(), bytes.len())),
            _ => call.header("range").map(|_| Reply::new(416, "")),
        });
        assert_eq!(download(&registry, &blob, size).expect("a blob"), blob.bytes);
        assert_eq!(registry.calls().len(), 3);
    }
}

// A mirror that is down is retried for one request only.
#[test]
fn a_dead_mirror_is_not_tried_again() {
    let (registry, mirror, _) = registry_and_mirror();
    mirror.hook(|_| Some(Reply::new(503, "")));
    let option = format!("{}=http://{}/hub", registry.host(), mirror.host());
    let reference = registry.reference("team/app:1");
    let run = n2c(&["lock", &reference, "--arch", "amd64", "--mirror", &option]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(mirror.calls().len(), 2, "{:?}", mirror.log());
}

// An option takes precedence over a configuration file.
#[test]
fn tls_verify_overrules_an_insecure_registry() {
    let (registry, _, image) = registry_and_mirror();
    let directory = tempfile::tempdir().expect("a directory");
    let settings = directory.path().join(".config/containers");
    std::fs::create_dir_all(&settings).expect("a folder");
    let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host());
    std::fs::write(settings.join("registries.conf"), text).expect("written");
    let (repository, digest) = (registry.reference("team/app"), image.config.digest().to_string());
    let blob = ["blob", &repository, &digest, "-o", "out"];
    assert_eq!(n2c_in(directory.path(), &blob).code, 0);
    n2c_in(directory.path(), &[&blob[..], &["--tls-verify"]].concat()).error(7);
}
