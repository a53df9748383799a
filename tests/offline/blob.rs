//! `n2c blob` against an in-memory registry that breaks off, lies, or never ends.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::images::Blob;
use crate::support::program::{Run, n2c_in};
use crate::support::registry::{Registry, Reply, ReplyBody};
use n2c::oci::digest::Digest;

const SIZE: usize = 3_000_000;

/// A registry with one blob, whose content doesn't repeat.
fn registry_with_blob() -> (Registry, Blob) {
    let registry = Registry::start();
    let bytes: Vec<u8> = (0..750_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .take(SIZE)
        .collect();
    let blob = Blob::new("application/octet-stream", bytes);
    registry.put_blob(&blob);
    (registry, blob)
}

fn fetch(directory: &Path, registry: &Registry, digest: &Digest, more: &[&str]) -> Run {
    let (repository, digest) = (registry.reference("app"), digest.to_string());
    let arguments = [&["blob", &repository, &digest, "-o", "out"], more].concat();
    n2c_in(directory, &arguments)
}

#[track_caller]
fn assert_fetched(directory: &Path, run: &Run, blob: &Blob) {
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.is_empty());
    let bytes = std::fs::read(directory.join("out")).expect("the blob");
    assert!(bytes == blob.bytes, "the blob is not what was served");
    assert_eq!(std::fs::read_dir(directory).expect("listed").count(), 1, "something was left");
}

#[track_caller]
fn assert_nothing_left(directory: &Path) {
    assert_eq!(std::fs::read_dir(directory).expect("listed").count(), 0, "something was left");
}

#[test]
fn a_blob_takes_one_request_and_no_manifest() {
    let (registry, blob) = registry_with_blob();
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &[]);
    assert_fetched(directory.path(), &run, &blob);
    assert_eq!(registry.log(), [format!("GET /v2/app/blobs/{}", blob.digest())]);
    assert_eq!(run.stderr, "", "not quiet in a pipe");
}

#[test]
fn a_blob_takes_three_requests_with_a_token() {
    let (registry, blob) = registry_with_blob();
    registry.want_token();
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &[]);
    assert_fetched(directory.path(), &run, &blob);
    let get = format!("GET /v2/app/blobs/{}", blob.digest());
    let token = "GET /token?service=test&scope=repository%3Aapp%3Apull".to_owned();
    assert_eq!(registry.log(), [get.clone(), token, get]);
}

// protocol rules 60 and 61
#[test]
fn rule_60_an_empty_blob_is_a_blob() {
    let registry = Registry::start();
    let blob = Blob::new("x", "");
    registry.put_blob(&blob);
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &["--size", "0"]);
    assert_fetched(directory.path(), &run, &blob);
}

// protocol rules 51 to 55: broken off at 30, 60 and 90 %
#[test]
fn rule_52_a_broken_download_resumes_where_it_stopped() {
    let (registry, blob) = registry_with_blob();
    let (bytes, tries) = (blob.bytes.clone(), AtomicUsize::new(0));
    registry.hook(move |call| {
        let first = match call.header("range") {
            None => 0,
            Some(range) => {
                let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
                // a closed range, which some servers need
                assert_eq!(last.parse(), Ok(SIZE - 1), "{range}");
                first.parse::<usize>().expect("a number")
            }
        };
        let end = SIZE / 10 * [3, 6, 9].get(tries.fetch_add(1, Ordering::SeqCst))?;
        let body = ReplyBody::Broken(bytes[first..end].to_vec().into());
        let status = if first == 0 { 200 } else { 206 };
        let reply = Reply { status, headers: Vec::new(), body }
            .with("content-length", (SIZE - first).to_string())
            .with("content-range", format!("bytes {first}-{}/{SIZE}", SIZE - 1));
        Some(reply)
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &[]);
    assert_fetched(directory.path(), &run, &blob);
    assert_eq!(registry.calls().len(), 4);
    let resumed: Vec<bool> =
        registry.calls().iter().map(|call| call.header("range").is_some()).collect();
    assert_eq!(resumed, [false, true, true, true]);
}

// protocol rule 53: a server that ignores the range, or answers with another one
#[test]
fn rule_53_an_answer_to_another_range_is_not_appended() {
    for lie in ["ignored", "shifted", "short"] {
        let (registry, blob) = registry_with_blob();
        let (bytes, tries) = (blob.bytes.clone(), AtomicUsize::new(0));
        registry.hook(move |call| {
            let number = tries.fetch_add(1, Ordering::SeqCst);
            if number == 0 {
                let body = ReplyBody::Broken(bytes[..SIZE / 2].to_vec().into());
                return Some(
                    Reply { status: 200, headers: Vec::new(), body }
                        .with("content-length", SIZE.to_string()),
                );
            }
            call.header("range")?;
            Some(match lie {
                "ignored" => Reply::new(200, bytes.clone()),
                "shifted" => Reply::new(206, bytes[1..].to_vec())
                    .with("content-range", format!("bytes 1-{}/{SIZE}", SIZE - 1)),
                _ => Reply::new(206, bytes[SIZE / 2..SIZE - 9].to_vec()).with(
                    "content-range",
                    format!("bytes {}-{}/{}", SIZE / 2, SIZE - 10, SIZE - 9),
                ),
            })
        });
        let directory = tempfile::tempdir().expect("a directory");
        let size = SIZE.to_string();
        let run = fetch(directory.path(), &registry, &blob.digest(), &["--size", &size]);
        assert_fetched(directory.path(), &run, &blob);
    }
}

// protocol rule 56
#[test]
fn rule_56_a_blob_of_the_wrong_size_is_rejected() {
    let (registry, blob) = registry_with_blob();
    let directory = tempfile::tempdir().expect("a directory");
    let digest = blob.digest();
    for size in [SIZE - 1, SIZE + 1] {
        let run = fetch(directory.path(), &registry, &digest, &["--size", &size.to_string()]);
        assert!(run.error(8).contains("size mismatch"), "{}", run.stderr);
        assert_nothing_left(directory.path());
    }
    // an endless body without a Content-Length
    registry.hook(|_| Some(Reply::endless(vec![0; 1 << 16])));
    let run = fetch(directory.path(), &registry, &digest, &["--size", "100000"]);
    assert!(run.error(8).contains("size mismatch"), "{}", run.stderr);
    assert_nothing_left(directory.path());
}

#[test]
fn wrong_bytes_are_rejected_and_not_kept() {
    let (registry, blob) = registry_with_blob();
    let directory = tempfile::tempdir().expect("a directory");
    registry.hook(|_| Some(Reply::new(200, "<html>")));
    let run = fetch(directory.path(), &registry, &blob.digest(), &[]);
    let error = run.error(8);
    assert!(
        error.contains("digest mismatch") && error.contains(&blob.digest().to_string()),
        "{error}"
    );
    assert!(error.ends_with("after 6 bytes"), "{error}");
    assert_nothing_left(directory.path());
}

// protocol rules 27 and 50
#[test]
fn rule_27_a_redirect_to_another_host_gets_no_credential() {
    let (registry, blob) = registry_with_blob();
    registry.want_token();
    let store = Registry::start();
    store.put_blob(&blob);
    store.hook(|call| {
        call.header("authorization").map(|_| Reply::new(400, "only one auth mechanism allowed"))
    });
    let target =
        format!("http://{}/v2/bucket/blobs/{}?X-Amz-Signature=sesame", store.host(), blob.digest());
    registry.hook(move |call| {
        let authorized = call.target.contains("/blobs/") && call.header("authorization").is_some();
        authorized.then(|| Reply::new(307, "").with("location", target.clone()))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &["-v"]);
    assert_fetched(directory.path(), &run, &blob);
    assert_eq!(store.calls().len(), 1);
    assert!(!run.stderr.contains("sesame"), "a signature was shown: {}", run.stderr);
    assert!(run.stderr.contains("/blobs/"), "no request was shown: {}", run.stderr);
}

// protocol rule 50
#[test]
fn rule_50_endless_redirects_are_an_error() {
    let (registry, blob) = registry_with_blob();
    registry.hook(|call| Some(Reply::new(302, "").with("location", call.target.clone())));
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &[]);
    assert!(run.error(7).ends_with("redirects too many times"), "{}", run.stderr);
    assert!(registry.calls().len() <= 11);
}

// protocol rule 64
#[test]
fn rule_64_a_request_is_retried_after_a_server_error() {
    let (registry, blob) = registry_with_blob();
    let tries = AtomicUsize::new(0);
    registry.hook(move |_| {
        (tries.fetch_add(1, Ordering::SeqCst) < 2)
            .then(|| Reply::new(503, "").with("retry-after", "0"))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &[]);
    assert_fetched(directory.path(), &run, &blob);
    assert_eq!(registry.calls().len(), 3);
}

// protocol rule 13
#[test]
fn rule_13_endless_401s_are_an_error() {
    let (registry, blob) = registry_with_blob();
    registry.want_token();
    let host = registry.host();
    registry.hook(move |call| {
        (!call.target.starts_with("/token")).then(|| {
            Reply::error(401, "UNAUTHORIZED", "authentication required").with(
                "www-authenticate",
                format!(r#"Bearer realm="http://{host}/token",error="invalid_token""#),
            )
        })
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob.digest(), &[]);
    assert!(run.error(5).contains("401"), "{}", run.stderr);
    assert_eq!(registry.calls().len(), 3);
    assert!(!run.stderr.contains("token-for"), "a token was shown: {}", run.stderr);
}

// protocol rule 61: a sha512 blob is requested and verified by its sha512 digest
#[test]
fn rule_61_a_blob_may_have_a_sha512_digest() {
    let digest = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                  2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    let digest: Digest = digest.parse().expect("a digest");
    let registry = Registry::start();
    for (served, code) in [("abc", 0), ("abd", 8)] {
        registry.hook(move |_| {
            Some(
                Reply::new(200, served)
                    .with("docker-content-digest", Digest::sha256(b"abc").to_string()),
            )
        });
        let directory = tempfile::tempdir().expect("a directory");
        let run = fetch(directory.path(), &registry, &digest, &[]);
        assert_eq!(run.code, code, "{}", run.stderr);
    }
    assert_eq!(registry.log()[0], format!("GET /v2/app/blobs/{digest}"));
}
