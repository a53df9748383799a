//! Pushes to a registry that fails on purpose: which requests are made, what is sent
//! again, and who gets to see a credential (protocol rules 77 to 82).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use n2c::environment::Environment;
use n2c::observer::Silent;
use n2c::oci::digest::{Digest, Verified};
use n2c::oci::manifest::Descriptor;
use n2c::oci::reference::Repository;
use n2c::registry::{BlobPush, Client, ClientOptions, Error, ManifestPush, Pushed, RetryPolicy};
use n2c::stream::readable::{ByteStream, Readable};
use n2c::{Diagnose as _, Kind};
use serde_json::json;

use crate::support::registry::{Call, Registry, Reply};

const BODY: &[u8] = b"the bytes of a blob";

/// A client that finds nothing of this machine's settings.
fn client() -> Client {
    client_with(None)
}

fn client_with(credentials: Option<&str>) -> Client {
    let delay = Duration::from_millis(1);
    let retry = RetryPolicy { attempts: 3, first_delay: delay, longest_delay: delay };
    let directory = tempfile::tempdir().expect("a directory");
    let authfile = directory.path().join("auth.json");
    let auths = credentials.map(|host| json!({ host: { "auth": "Ym9iOnNlY3JldC13b3Jk" } }));
    let file = json!({ "auths": auths.unwrap_or_else(|| json!({})) });
    std::fs::write(&authfile, file.to_string()).expect("a file");
    let options = ClientOptions {
        retry,
        authfile: Some(authfile),
        environment: Environment::default(),
        ..ClientOptions::default()
    };
    Client::new(options, Arc::new(Silent)).expect("a client")
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

fn descriptor() -> Descriptor {
    let digest = Digest::sha256(BODY).to_string();
    let text = json!({ "mediaType": "a/b", "digest": digest, "size": BODY.len() });
    serde_json::from_value(text).expect("a descriptor")
}

fn repository(registry: &Registry, name: &str) -> Repository {
    registry.reference(name).parse().expect("a repository")
}

fn blob_push<'a>(
    repository: &'a Repository,
    mounted: Option<&'a Repository>,
    content: &'a dyn Readable,
) -> BlobPush<'a> {
    let blob = Box::leak(Box::new(descriptor()));
    BlobPush { repository, blob, mounted, is_absent: false, content }
}

fn manifest_push<'a>(
    repository: &'a Repository,
    tag: &'a str,
    media_type: &'a str,
    raw: &'a Verified,
) -> ManifestPush<'a> {
    ManifestPush { repository, tag: Some(tag), media_type, raw }
}

fn push(registry: &Registry, mounted: Option<&str>) -> Result<Pushed, Error> {
    let mounted = mounted.map(|name| repository(registry, name));
    let repository = repository(registry, "team/app");
    let content = Bytes::from_static(BODY);
    wait(client().push_blob(&blob_push(&repository, mounted.as_ref(), &content)))
}

/// What a registry answers that takes every blob.
fn accept(call: &Call) -> Option<Reply> {
    match call.method.as_str() {
        "HEAD" => None,
        "POST" => {
            Some(Reply::new(202, "").with("location", "/v2/team/app/blobs/uploads/1?state=x%2By"))
        }
        "PUT" => Some(Reply::new(201, "")),
        other => panic!("{other}"),
    }
}

#[test]
fn rule_77_a_blob_takes_two_requests_and_a_question() {
    let registry = Registry::start();
    registry.hook(accept);
    assert_eq!(push(&registry, None).expect("pushed"), Pushed::Sent);
    let digest = Digest::sha256(BODY);
    assert_eq!(
        registry.log(),
        [
            format!("HEAD /v2/team/app/blobs/{digest}"),
            "POST /v2/team/app/blobs/uploads/".to_owned(),
            // The registry's own query is kept as it is.
            format!(
                "PUT /v2/team/app/blobs/uploads/1?state=x%2By&digest=sha256%3A{}",
                digest.hex()
            ),
        ]
    );
    let put = registry.calls().pop().expect("a request");
    assert_eq!(put.body, BODY);
    assert_eq!(put.header("content-length"), Some(&*BODY.len().to_string()));
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    // Some servers refuse a POST without a length.
    assert_eq!(registry.calls()[1].header("content-length"), Some("0"));
}

#[test]
fn what_is_there_is_not_sent() {
    let registry = Registry::start();
    registry.put_blob(&crate::support::images::Blob::new("a/b", BODY));
    assert_eq!(push(&registry, Some("base")).expect("pushed"), Pushed::Present);
    assert_eq!(registry.log().len(), 1);
}

#[test]
fn rule_80_a_mount_is_one_request_or_falls_back() {
    let mount = |status: u16| {
        let registry = Registry::start();
        registry.hook(move |call| {
            let is_mount = call.target.contains("mount=");
            if is_mount && status != 202 { Some(Reply::new(status, "")) } else { accept(call) }
        });
        let pushed = push(&registry, Some("base/image")).expect("pushed");
        (pushed, registry.log())
    };
    let digest = Digest::sha256(BODY);
    let query = format!("?mount=sha256%3A{}&from=base%2Fimage", digest.hex());
    let (pushed, log) = mount(201);
    assert_eq!(pushed, Pushed::Mounted);
    assert_eq!(log[1..], [format!("POST /v2/team/app/blobs/uploads/{query}")]);
    // 202: the session can be used; others: what was a guess is left alone.
    for (status, requests) in [(202, 3), (403, 4), (404, 4), (405, 4)] {
        let (pushed, log) = mount(status);
        assert_eq!((pushed, log.len()), (Pushed::Sent, requests), "{status}: {log:?}");
    }
}

/// Counts how often it is read.
struct Counted(AtomicU32);

impl Readable for Counted {
    fn size(&self) -> u64 {
        BODY.len() as u64
    }

    fn open(&self, first: u64) -> io::Result<ByteStream> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Bytes::from_static(BODY).open(first)
    }
}

#[test]
fn a_failed_upload_begins_again_from_its_first_byte() {
    let registry = Registry::start();
    let puts = AtomicU32::new(0);
    registry.hook(move |call| {
        let fails = call.method == "PUT" && puts.fetch_add(1, Ordering::Relaxed) == 0;
        if fails { Some(Reply::new(503, "")) } else { accept(call) }
    });
    let content = Counted(AtomicU32::new(0));
    let repository = repository(&registry, "team/app");
    let pushed = wait(client().push_blob(&blob_push(&repository, None, &content)));
    assert_eq!(pushed.expect("pushed"), Pushed::Sent);
    let calls = registry.calls();
    let methods: Vec<&str> = calls.iter().map(|call| call.method.as_str()).collect();
    // Before each try, a look whether another client was faster.
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD", "POST", "PUT"]);
    assert_eq!(content.0.load(Ordering::Relaxed), 2);
    for put in calls.iter().filter(|call| call.method == "PUT") {
        assert_eq!(put.body, BODY);
    }
}

#[test]
fn a_redirect_of_an_upload_gets_the_whole_body() {
    let registry = Registry::start();
    registry.hook(|call| match (call.method.as_str(), call.target.contains("/moved")) {
        ("PUT", false) => Some(Reply::new(307, "").with("location", "/moved")),
        _ => accept(call),
    });
    assert_eq!(push(&registry, None).expect("pushed"), Pushed::Sent);
    let last = registry.calls().pop().expect("a request");
    assert_eq!((last.target.as_str(), &last.body[..]), ("/moved", BODY));
}

/// Wants the password of bob, and answers the rest with `answer`.
fn want_password(call: &Call, answer: impl Fn(&Call) -> Option<Reply>) -> Option<Reply> {
    if call.header("authorization") == Some("Basic Ym9iOnNlY3JldC13b3Jk") {
        return answer(call);
    }
    let challenge = "Basic realm=\"registry\"";
    Some(Reply::error(401, "UNAUTHORIZED", "?").with("www-authenticate", challenge))
}

fn push_as_bob(registry: &Registry) -> Result<Pushed, Error> {
    let repository = repository(registry, "team/app");
    let content = Bytes::from_static(BODY);
    let client = client_with(Some(&registry.host()));
    wait(client.push_blob(&blob_push(&repository, None, &content)))
}

#[test]
fn rule_78_a_session_on_another_host_gets_no_credentials() {
    let (registry, storage) = (Registry::start(), Registry::start());
    storage.hook(|_| Some(Reply::new(201, "")));
    // Nor does what is written into its URL become one.
    let location = format!("http://eve:pw@{}/bucket?signature=1", storage.host());
    registry.hook(move |call| {
        let location = location.clone();
        want_password(call, move |call| match call.method.as_str() {
            "POST" => Some(Reply::new(202, "").with("location", location.clone())),
            _ => Some(Reply::new(404, "")),
        })
    });
    assert_eq!(push_as_bob(&registry).expect("pushed"), Pushed::Sent);
    let [put] = &storage.calls()[..] else { panic!("{:?}", storage.log()) };
    assert_eq!((put.header("authorization"), &put.body[..]), (None, BODY));
    assert!(put.target.starts_with("/bucket?signature=1&digest=sha256%3A"), "{}", put.target);
}

#[test]
fn a_session_that_another_host_opened_gets_no_credentials() {
    let (registry, other) = (Registry::start(), Registry::start());
    // Whoever the registry redirects to wants a password too, for a session of its own.
    other.hook(|call| {
        if call.method == "POST" {
            return Some(Reply::new(202, "").with("location", "/session"));
        }
        let challenge = "Basic realm=\"give it to me\"";
        Some(Reply::error(401, "UNAUTHORIZED", "?").with("www-authenticate", challenge))
    });
    let location = format!("http://{}/elsewhere", other.host());
    registry.hook(move |call| {
        let location = location.clone();
        want_password(call, move |call| match call.method.as_str() {
            "POST" => Some(Reply::new(307, "").with("location", location.clone())),
            _ => Some(Reply::new(404, "")),
        })
    });
    push_as_bob(&registry).expect_err("a refusal");
    assert!(other.calls().len() >= 2, "{:?}", other.log());
    for call in other.calls() {
        assert_eq!(call.header("authorization"), None, "{} {}", call.method, call.target);
    }
}

#[test]
fn a_redirect_to_a_page_is_no_success() {
    for status in [301, 302, 303] {
        let registry = Registry::start();
        registry.hook(move |call| match (call.method.as_str(), call.target.as_str()) {
            ("PUT", _) => Some(Reply::new(status, "").with("location", "/login")),
            ("GET", "/login") => Some(Reply::new(200, "please log in")),
            _ => accept(call),
        });
        let error = push(&registry, None).expect_err("an error").to_string();
        assert!(error.ends_with("redirects without keeping what was sent"), "{error}");
        let raw = Verified::as_found(b"{}".to_vec());
        let repository = repository(&registry, "team/app");
        let pushed = wait(client().push_manifest(&manifest_push(&repository, "1", "a/b", &raw)));
        pushed.expect_err("an error");
    }
    // Nor is a page without a length that answers the question whether the blob is there.
    let registry = Registry::start();
    registry.hook(|call| match call.method.as_str() {
        "HEAD" => Some(Reply::endless("")),
        _ => accept(call),
    });
    assert_eq!(push(&registry, None).expect("pushed"), Pushed::Sent);
}

#[test]
fn a_blob_without_bytes_is_pushed() {
    let registry = Registry::start();
    registry.hook(accept);
    let digest = Digest::sha256(b"").to_string();
    let text = json!({ "mediaType": "a/b", "digest": digest, "size": 0 });
    let blob: Descriptor = serde_json::from_value(text).expect("a descriptor");
    let repository = repository(&registry, "team/app");
    let pushed = wait(
        client()
            .push_blob(&BlobPush { blob: &blob, ..blob_push(&repository, None, &Bytes::new()) }),
    );
    assert_eq!(pushed.expect("pushed"), Pushed::Sent);
    let put = registry.calls().pop().expect("a request");
    assert_eq!(put.header("content-length"), Some("0"));
}

#[test]
fn one_token_allows_to_look_and_to_push() {
    let registry = Registry::start();
    registry.hook(|call| {
        if call.target.starts_with("/token") {
            return None;
        }
        match (call.header("authorization"), call.method.as_str()) {
            (None, _) => {
                let realm = format!(
                    "Bearer realm=\"http://{}/token\",scope=\"repository:team/app:pull\"",
                    call.header("host")?
                );
                Some(Reply::error(401, "UNAUTHORIZED", "?").with("www-authenticate", realm))
            }
            _ => accept(call).or_else(|| Some(Reply::new(404, ""))),
        }
    });
    assert_eq!(push(&registry, None).expect("pushed"), Pushed::Sent);
    let log = registry.log();
    let tokens: Vec<&String> = log.iter().filter(|line| line.contains("/token")).collect();
    let [token] = &tokens[..] else { panic!("{tokens:?}") };
    let scopes = token.matches("scope=").count();
    assert!(token.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush"), "{token}");
    assert_eq!(scopes, 1, "{token}");
}

#[test]
fn what_can_not_be_pushed_is_said_before_anything_is_sent() {
    let registry = Registry::start();
    let repository = repository(&registry, "team/app");
    let raw = Verified::as_found(b"{}".to_vec());
    for (tag, media_type) in [("../../x", "a/b"), ("a?b", "a/b"), ("1", "a\nb")] {
        let pushed =
            wait(client().push_manifest(&manifest_push(&repository, tag, media_type, &raw)));
        assert_eq!(pushed.expect_err("an error").kind(), Kind::Usage);
    }
    let other = Bytes::from_static(b"other");
    let pushed = wait(client().push_blob(&blob_push(&repository, None, &other)));
    assert!(matches!(pushed, Err(Error::Content { .. })), "{pushed:?}");
    assert_eq!(registry.log(), Vec::<String>::new());
}

#[test]
fn sessions_that_lead_nowhere_are_errors() {
    for (location, reason) in [
        (None, "does not say where its bytes go"),
        (Some("file:///etc/passwd"), "wants its bytes at something other than HTTP"),
        (Some("http://"), "wants its bytes at no URL"),
    ] {
        let registry = Registry::start();
        registry.hook(move |call| match call.method.as_str() {
            "POST" => {
                let reply = Reply::new(202, "");
                Some(match location {
                    Some(location) => reply.with("location", location),
                    None => reply,
                })
            }
            _ => accept(call),
        });
        let error = push(&registry, None).expect_err("an error");
        assert!(error.to_string().ends_with(reason), "{error}");
        assert_eq!(error.kind(), Kind::Network);
    }
}

/// Fails, or has another size than it says.
struct Broken(&'static [u8], bool);

impl Readable for Broken {
    fn size(&self) -> u64 {
        BODY.len() as u64
    }

    fn open(&self, _first: u64) -> io::Result<ByteStream> {
        let end = self.1.then(|| Err(io::Error::other("a disk that is gone")));
        let chunks: Vec<_> = [Ok(Bytes::from_static(self.0))].into_iter().chain(end).collect();
        Ok(Box::pin(futures_util::stream::iter(chunks)))
    }
}

#[test]
fn content_that_breaks_off_is_this_machines_fault() {
    for (content, cause) in [
        (Broken(b"the bytes", true), "a disk that is gone"),
        (Broken(b"the bytes", false), "it has another size than it is said to have"),
        (Broken(b"the bytes of a blob, and more", false), "it has another size"),
    ] {
        let registry = Registry::start();
        registry.hook(accept);
        let repository = repository(&registry, "team/app");
        let pushed = wait(client().push_blob(&blob_push(&repository, None, &content)));
        let error = pushed.expect_err("an error");
        assert!(matches!(error, Error::Content { .. }), "{error:?}");
        assert!(n2c::error_chain(&error).contains(cause), "{}", n2c::error_chain(&error));
        assert_eq!(error.kind(), Kind::Other);
        // It was not tried again, and nothing whole arrived.
        assert!(registry.calls().iter().all(|call| call.method != "PUT"), "{:?}", registry.log());
    }
}

#[test]
fn an_error_says_that_it_was_a_push() {
    let registry = Registry::start();
    registry.hook(|call| match call.method.as_str() {
        "POST" => Some(Reply::error(405, "UNSUPPORTED", "read-only")),
        _ => accept(call),
    });
    let error = push(&registry, None).expect_err("an error").to_string();
    let subject = format!("blob `{}@{}`", registry.reference("team/app"), Digest::sha256(BODY));
    let expected = format!(
        "failed to push {subject} to `{}`: HTTP 405 Method Not Allowed: UNSUPPORTED: read-only",
        registry.host()
    );
    assert_eq!(error, expected);
}

#[test]
fn rule_81_a_manifest_is_sent_with_its_type_and_compared_with_what_was_stored() {
    let push = |stored: Option<&'static str>| {
        let registry = Registry::start();
        registry.hook(move |_| {
            let reply = Reply::new(201, "");
            Some(match stored {
                Some(stored) => reply.with("docker-content-digest", stored),
                None => reply,
            })
        });
        let raw = Verified::as_found(b"{}".to_vec());
        let repository = repository(&registry, "team/app");
        let pushed =
            wait(client().push_manifest(&manifest_push(&repository, "v1", "a/manifest", &raw)));
        (pushed, registry.calls())
    };
    let (pushed, calls) = push(None);
    pushed.expect("pushed");
    let [put] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((put.method.as_str(), put.target.as_str()), ("PUT", "/v2/team/app/manifests/v1"));
    assert_eq!(put.header("content-type"), Some("a/manifest"));
    assert_eq!((put.header("content-length"), &put.body[..]), (Some("2"), &b"{}"[..]));
    let same = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    push(Some(same)).0.expect("pushed");
    let other = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(push(Some(other)).0.expect_err("an error").kind(), Kind::Verification);
}
