//! Credentials: which ones are found, how they are used, and where they are never sent.
//! An in-memory registry imitates odd registries; tests with real ones are in
//! `real_registries.rs`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::images::{Blob, Image};
use crate::support::program::{Run, command, n2c_in, n2c_with};
use crate::support::registry::{Call, Registry, Reply};

const PASSWORD: &str = "open-sesame";

fn basic(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// A registry with an image `app:1` and a blob. Requests that `lets_in` rejects get a 401
/// with the challenge, in which `HOST` is replaced by the registry's address.
fn closed(
    challenge: impl Into<String>,
    lets_in: impl Fn(&Call) -> bool + Send + Sync + 'static,
) -> (Registry, Blob) {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["one"]));
    let blob = Blob::new("application/octet-stream", "secret bytes");
    registry.put_blob(&blob);
    let challenge = challenge.into().replace("HOST", &registry.host());
    registry.hook(move |call| {
        let open = lets_in(call) || call.target.starts_with("/token");
        (!open).then(|| {
            Reply::error(401, "UNAUTHORIZED", "authentication required")
                .with("www-authenticate", challenge.clone())
        })
    });
    (registry, blob)
}

fn wants_basic() -> (Registry, Blob) {
    let expected = format!("Basic {}", basic("bob", PASSWORD));
    closed(r#"BASIC realm="Nexus""#, move |call| call.header("authorization") == Some(&expected))
}

fn write(path: &Path, value: &Value) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, value.to_string()).expect("written");
}

fn fetch(directory: &Path, registry: &Registry, blob: &Blob, more: &[&str]) -> Run {
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    n2c_in(directory, &[&["blob", &repository, &digest, "-o", "out"], more].concat())
}

/// Runs `blob` with an auth file that holds `entry` for the registry.
fn fetch_with(registry: &Registry, blob: &Blob, entry: &Value) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    write(&directory.path().join("auth.json"), &json!({ "auths": { registry.host(): entry } }));
    let run = fetch(directory.path(), registry, blob, &["--authfile", "auth.json", "-v"]);
    for secret in [PASSWORD, &basic("bob", PASSWORD), "token-for"] {
        assert!(!run.stderr.contains(secret), "`{secret}` was shown: {}", run.stderr);
    }
    run
}

// One request for each layer; protocol rule 21
#[test]
fn rule_21_basic_works_for_every_command() {
    let (registry, blob) = wants_basic();
    let directory = tempfile::tempdir().expect("a directory");
    let entry = json!({ "auth": basic("bob", PASSWORD) });
    write(&directory.path().join("auth.json"), &json!({ "auths": { registry.host(): entry } }));
    let reference = registry.reference("app:1");
    for arguments in [
        &["lock", &reference, "--arch", "amd64", "--authfile", "auth.json"][..],
        &["inspect", &reference, "--arch", "amd64", "--authfile", "auth.json"],
    ] {
        assert_eq!(n2c_in(directory.path(), arguments).code, 0);
        let without = &arguments[..arguments.len() - 2];
        n2c_in(directory.path(), without).error(5);
    }
    assert_eq!(fetch(directory.path(), &registry, &blob, &["--authfile", "auth.json"]).code, 0);
    fetch(directory.path(), &registry, &blob, &[]).error(5);
    // The first request is refused; the later ones send the password right away.
    let before = registry.calls().len();
    n2c_in(directory.path(), &["lock", &reference, "--arch", "amd64", "--authfile", "auth.json"]);
    assert_eq!(registry.calls().len() - before, 3);
}

// protocol rule 22
#[test]
fn rule_22_the_default_files_are_read_in_order() {
    let (registry, blob) = wants_basic();
    let right = json!({ "auths": { registry.host(): { "auth": basic("bob", PASSWORD) } } });
    let wrong = json!({ "auths": { registry.host(): { "auth": basic("bob", "wrong") } } });
    let places = ["run/containers/auth.json", "config/containers/auth.json", "docker/config.json"];
    for (index, place) in places.iter().enumerate() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        write(&path.join(place), &right);
        for later in &places[index + 1..] {
            write(&path.join(later), &wrong);
        }
        let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
        let output = command(path, &["blob", &repository, &digest, "-o", "out"])
            .env("XDG_RUNTIME_DIR", path.join("run"))
            .env("XDG_CONFIG_HOME", path.join("config"))
            .env("DOCKER_CONFIG", path.join("docker"))
            .output()
            .expect("a run");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Below HOME, with the variables set but empty, as in a sandbox.
    for place in [".config/containers/auth.json", ".docker/config.json"] {
        let directory = tempfile::tempdir().expect("a directory");
        write(&directory.path().join(place), &right);
        let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
        let output = command(directory.path(), &["blob", &repository, &digest, "-o", "out"])
            .envs(
                ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"]
                    .map(|name| (name, "")),
            )
            .output()
            .expect("a run");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // If a file is named, no other file is read.
    let directory = tempfile::tempdir().expect("a directory");
    write(&directory.path().join(".docker/config.json"), &right);
    write(&directory.path().join("empty.json"), &json!({}));
    fetch(directory.path(), &registry, &blob, &["--authfile", "empty.json"]).error(5);
}

#[test]
fn a_named_file_must_be_usable_and_a_default_one_need_not_be() {
    let registry = Registry::start();
    let blob = Blob::new("x", "open bytes");
    registry.put_blob(&blob);
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in [("garbage.json", "<html>"), ("empty.json", ""), ("array.json", "[]")] {
        std::fs::write(directory.path().join(name), text).expect("written");
        let run = fetch(directory.path(), &registry, &blob, &["--authfile", name]);
        assert!(run.error(1).contains(name), "{}", run.stderr);
    }
    let run = fetch(directory.path(), &registry, &blob, &["--authfile", "missing.json"]);
    assert!(run.error(1).contains("`missing.json`: No such file"), "{}", run.stderr);

    // A directory in place of a default file can't be read, even by root. A fetch that
    // needs no credential doesn't even try.
    let unreadable = directory.path().join(".docker/config.json");
    std::fs::create_dir_all(&unreadable).expect("a folder");
    let run = fetch(directory.path(), &registry, &blob, &[]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    // "With no auth that is 3 requests; with a bearer token, 5."
    registry.want_token();
    let run = fetch(directory.path(), &registry, &blob, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("warning: ") && run.stderr.contains(".docker/config.json"),
        "{}",
        run.stderr
    );
    // The parser's own message would quote the file.
    std::fs::remove_dir(&unreadable).expect("removed");
    std::fs::write(&unreadable, r#"{"auths":{"h":"open-sesame"}}"#).expect("written");
    let run = fetch(directory.path(), &registry, &blob, &[]);
    assert!(run.stderr.contains("line 1"), "{}", run.stderr);
    assert!(!run.stderr.contains(PASSWORD), "{}", run.stderr);
}

#[test]
fn a_wrong_password_is_named_but_not_shown() {
    let (registry, blob) = wants_basic();
    let run = fetch_with(&registry, &blob, &json!({ "auth": basic("bob", "wrong-password") }));
    let error = run.error(5);
    for expected in ["HTTP 401", &registry.host(), "user `bob`", "key `127.0.0.1:", "auth.json"] {
        assert!(error.contains(expected), "`{expected}` is missing: {error}");
    }
    assert!(
        !run.stderr.contains("wrong-password")
            && !run.stderr.contains(&basic("bob", "wrong-password"))
    );
    assert_eq!(registry.calls().len(), 2, "the refused request was retried");
}

// protocol rule 30: a server may repeat what it was sent
#[test]
fn rule_30_a_server_that_repeats_the_password_is_not_quoted() {
    let registry = Registry::start();
    registry.hook(|call| {
        let told = call.header("authorization").unwrap_or("nothing");
        let decoded = told.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
        let text =
            decoded.map_or(told.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
        Some(
            Reply::error(401, "DENIED", &format!("no: {text} {told}"))
                .with("www-authenticate", "Basic realm=x"),
        )
    });
    let blob = Blob::new("x", "y");
    let run = fetch_with(&registry, &blob, &json!({ "auth": basic("bob", PASSWORD) }));
    assert!(run.error(5).contains("HTTP 401"), "{}", run.stderr);
}

// protocol rule 14
#[test]
fn rule_14_a_password_is_sent_only_to_the_token_service() {
    let challenge =
        r#"Bearer realm="http://HOST/token?extra=1",service="reg",scope="repository:app:pull""#;
    let (registry, blob) = closed(challenge, |call| {
        call.header("authorization").is_some_and(|value| value.starts_with("Bearer token-for-"))
    });
    let run = fetch_with(&registry, &blob, &json!({ "auth": basic("bob", PASSWORD) }));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let expected = format!("Basic {}", basic("bob", PASSWORD));
    for call in registry.calls() {
        let is_token = call.target.starts_with("/token");
        assert_eq!(call.header("authorization") == Some(&expected), is_token, "{}", call.target);
        if is_token {
            assert_eq!(
                call.target,
                "/token?extra=1&service=reg&scope=repository%3Aapp%3Apull&account=bob"
            );
        }
    }
}

// protocol rule 16
#[test]
fn rule_16_an_identity_token_is_posted_or_used_as_a_password() {
    let challenge = r#"Bearer realm="http://HOST/token",service="reg""#;
    for post_works in [true, false] {
        let registry = Registry::start();
        let blob = Blob::new("x", "y");
        registry.put_blob(&blob);
        let challenge = challenge.replace("HOST", &registry.host());
        registry.hook(move |call| {
            if call.target.starts_with("/token") {
                return Some(match (call.method.as_str(), post_works) {
                    ("POST", true) => {
                        assert_eq!(call.header("authorization"), None);
                        Reply::new(200, r#"{"access_token":"fresh"}"#)
                    }
                    ("POST", false) => Reply::new(404, ""),
                    (_, true) => Reply::new(500, "POST was to be used"),
                    (_, false) => match call.header("authorization") {
                        Some(value) if value == format!("Basic {}", basic("bob", "refresh-me")) => {
                            Reply::new(200, r#"{"token":"fresh"}"#)
                        }
                        _ => Reply::new(401, ""),
                    },
                });
            }
            (call.header("authorization") != Some("Bearer fresh"))
                .then(|| Reply::new(401, "").with("www-authenticate", challenge.clone()))
        });
        let entry = json!({ "auth": basic("bob", ""), "identitytoken": "refresh-me" });
        let run = fetch_with(&registry, &blob, &entry);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(!run.stderr.contains("refresh-me"), "{}", run.stderr);
        assert!(registry.log().iter().all(|line| !line.contains("refresh-me")), "in a URL");
    }
}

#[test]
fn a_registry_token_is_used_as_the_bearer_token() {
    let (registry, blob) = closed(r#"Bearer realm="http://HOST/token""#, |call| {
        call.header("authorization") == Some("Bearer ready")
    });
    let run = fetch_with(&registry, &blob, &json!({ "registrytoken": "ready" }));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(registry.calls().len(), 2);
}

// protocol rules 8, 9, 10
#[test]
fn rule_9_challenges_of_all_kinds_are_answered() {
    let expected = format!("Basic {}", basic("bob", PASSWORD));
    for challenge in [
        r#"Basic realm="x""#,
        "basic realm=Authorization Required",
        "Negotiate, Basic realm=\"a, b\"",
        "Bearer, Basic realm=x",
    ] {
        let expected = expected.clone();
        let (registry, blob) =
            closed(challenge, move |call| call.header("authorization") == Some(&expected));
        let run = fetch_with(&registry, &blob, &json!({ "username": "bob", "password": PASSWORD }));
        assert_eq!(run.code, 0, "{challenge}: {}", run.stderr);
    }
    // Bearer is preferred to Basic in any order, and works without a service.
    let challenge = r#"Basic realm="x", bearer realm="http://HOST/token""#;
    let (registry, blob) = closed(challenge, |call| {
        call.header("authorization")
            .is_some_and(|value| value.starts_with("Bearer token-for-scope"))
    });
    let run = fetch_with(&registry, &blob, &json!({}));
    assert_eq!(run.code, 0, "{}", run.stderr);
}

// protocol rule 8: gcr.io's 401 has no challenge; zot's API root answers 200
#[test]
fn rule_8_the_root_is_asked_only_if_the_401_has_no_challenge() {
    for status in [401, 200] {
        let registry = Registry::start();
        let blob = Blob::new("x", "y");
        registry.put_blob(&blob);
        let expected = format!("Basic {}", basic("bob", PASSWORD));
        registry.hook(move |call| {
            if call.target == "/v2/" {
                return Some(Reply::new(status, "").with("www-authenticate", "basic realm=zot"));
            }
            (call.header("authorization") != Some(&expected)).then(|| Reply::new(401, ""))
        });
        let run = fetch_with(&registry, &blob, &json!({ "auth": basic("bob", PASSWORD) }));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let get = format!("GET /v2/app/blobs/{}", blob.digest());
        assert_eq!(registry.log(), [get.clone(), "GET /v2/".to_owned(), get]);
    }
    let (registry, blob) = wants_basic();
    fetch_with(&registry, &blob, &json!({ "auth": basic("bob", PASSWORD) }));
    assert!(!registry.log().contains(&"GET /v2/".to_owned()));
}

// protocol rule 11: Harbor asks for Basic once a token has expired
#[test]
fn rule_11_a_known_token_service_is_asked_again() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["one"]);
    registry.put_image("app", "1", &image);
    let (host, tokens) = (registry.host(), AtomicUsize::new(0));
    let valid = std::sync::Arc::new(AtomicUsize::new(0));
    registry.hook(move |call| {
        if call.target.starts_with("/token") {
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            valid.store(number, Ordering::SeqCst);
            return Some(Reply::new(200, format!(r#"{{"token":"number-{number}"}}"#)));
        }
        let token = call.header("authorization");
        if token.is_none() {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="harbor""#);
            return Some(Reply::new(401, "").with("www-authenticate", challenge));
        }
        let current = format!("Bearer number-{}", valid.load(Ordering::SeqCst));
        if token != Some(&current) {
            return Some(Reply::new(401, "").with("www-authenticate", "Basic realm=\"harbor\""));
        }
        // The token for the manifest expires before the config is requested.
        if call.target.contains("/manifests/") {
            valid.store(0, Ordering::SeqCst);
        }
        None
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = n2c_in(directory.path(), &["lock", &registry.reference("app:1"), "--arch", "amd64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(registry.log().iter().filter(|line| line.starts_with("GET /token")).count(), 2);
}

// protocol rules 17, 18 and 20
#[test]
fn rule_20_odd_answers_of_token_services_give_clear_errors() {
    for (status, body, code, expected) in [
        (200, "{}", 7, "returned no token"),
        (200, "<html>", 7, "returned no token"),
        (404, "", 7, "HTTP 404"),
        (
            403,
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
            5,
            "DENIED",
        ),
        (401, "", 5, "HTTP 401"),
    ] {
        let (registry, blob) = closed(r#"Bearer realm="http://HOST/token""#, |_| false);
        let challenge = format!(r#"Bearer realm="http://{}/token""#, registry.host());
        registry.hook(move |call| {
            Some(if call.target.starts_with("/token") {
                Reply::new(status, body)
            } else {
                Reply::new(401, "").with("www-authenticate", challenge.clone())
            })
        });
        let run = fetch_with(&registry, &blob, &json!({ "auth": basic("bob", PASSWORD) }));
        assert!(run.error(code).contains(expected), "{}", run.stderr);
    }
    // A token that grants nothing is renewed once; then the error explains what it means.
    let (registry, blob) = closed(r#"Bearer realm="http://HOST/token""#, |_| false);
    let run = fetch_with(&registry, &blob, &json!({}));
    assert!(run.error(5).contains("(no credentials)"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: it does not exist, or is private"), "{}", run.stderr);
    assert_eq!(registry.calls().len(), 3);
}

/// Writes a program `docker-credential-NAME` to `directory/bin`.
fn helper(directory: &Path, name: &str, script: &str) {
    let path = directory.join("bin").join(format!("docker-credential-{name}"));
    std::fs::create_dir_all(directory.join("bin")).expect("a folder");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

fn fetch_with_helpers(directory: &Path, registry: &Registry, blob: &Blob, named: bool) -> Run {
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    let file = if named { "config.json" } else { ".docker/config.json" };
    let mut arguments = vec!["blob", &repository, &digest, "-o", "out"];
    if named {
        arguments.extend(["--authfile", file]);
    }
    let path =
        format!("{}:{}", directory.join("bin").display(), std::env::var("PATH").expect("PATH"));
    n2c_with(directory, &arguments, &[("PATH", &path)])
}

// protocol rules 25 and 26
#[test]
fn rule_26_credential_helpers_are_used() {
    let (registry, blob) = wants_basic();
    for key in ["credHelpers", "credsStore"] {
        let directory = tempfile::tempdir().expect("a directory");
        // It answers only for this server, whose name it reads from stdin, without a newline.
        let answer = format!(r#"{{"ServerURL":"x","Username":"bob","Secret":"{PASSWORD}"}}"#);
        let script = format!(
            "[ \"$1\" = get ] || exit 9\nserver=$(cat; echo .)\n[ \"$server\" = '{}.' ] || \
             {{ echo 'credentials not found in native keychain'; exit 1; }}\necho '{answer}'",
            registry.host()
        );
        helper(directory.path(), "test", &script);
        let value =
            if key == "credsStore" { json!("test") } else { json!({ registry.host(): "test" }) };
        // docker leaves an empty entry if a store has the password
        let file = json!({ key: value, "auths": { registry.host(): {} } });
        write(&directory.path().join("config.json"), &file);
        let run = fetch_with_helpers(directory.path(), &registry, &blob, true);
        assert_eq!(run.code, 0, "{key}: {}", run.stderr);
    }
}

#[test]
fn rule_26_helpers_that_fail_are_named() {
    let (registry, blob) = wants_basic();
    for (script, expected) in [
        ("echo open-sesame; exit 3", "failed for"),
        ("echo open-sesame", "printed no credential"),
        ("echo 'credentials not found in native keychain'; exit 1", "(no credentials)"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        helper(directory.path(), "test", script);
        let file = json!({ "credHelpers": { registry.host(): "test" } });
        write(&directory.path().join("config.json"), &file);
        let run = fetch_with_helpers(directory.path(), &registry, &blob, true);
        assert!(run.error(5).contains(expected), "{}", run.stderr);
        assert!(!run.stderr.contains(PASSWORD), "{}", run.stderr);
        // in a default file, a failing helper is only a warning
        write(&directory.path().join(".docker/config.json"), &file);
        let run = fetch_with_helpers(directory.path(), &registry, &blob, false);
        assert!(run.error(5).contains("(no credentials)"), "{}", run.stderr);
    }
    for name in ["missing", "../../bin/sh"] {
        let directory = tempfile::tempdir().expect("a directory");
        write(&directory.path().join("config.json"), &json!({ "credsStore": name }));
        let run = fetch_with_helpers(directory.path(), &registry, &blob, true);
        assert!(run.error(5).contains(&format!("`docker-credential-{name}`")), "{}", run.stderr);
    }
}

#[test]
fn auth_show_prints_everything_but_the_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = json!({ "auths": {
        "https://index.docker.io/v1/": { "auth": basic("bob", PASSWORD) },
        "ghcr.io/acme": { "auth": basic("eve", ""), "identitytoken": PASSWORD },
    }});
    write(&directory.path().join(".docker/config.json"), &file);
    let show = |reference: &str| {
        let run = n2c_in(directory.path(), &["auth", "show", reference]);
        assert!(!run.text().contains(PASSWORD) && !run.text().contains(&basic("bob", PASSWORD)));
        run.text().to_owned()
    };
    let path = directory.path().join(".docker/config.json");
    assert_eq!(
        show("alpine:3.19"),
        format!(
            "docker.io/library/alpine\nfile    {}\nkey     https://index.docker.io/v1/\nuser    bob\nkind    password\n",
            path.display()
        )
    );
    assert!(
        show("ghcr.io/acme/app")
            .contains("key     ghcr.io/acme\nuser    eve\nkind    identity token\n")
    );
    assert_eq!(show("ghcr.io/other"), "ghcr.io/other\nno credentials: pulled anonymously\n");
}

#[test]
fn auth_export_writes_only_the_requested_credentials() {
    let (registry, blob) = wants_basic();
    let directory = tempfile::tempdir().expect("a directory");
    let file = json!({ "auths": {
        registry.host(): { "auth": basic("bob", PASSWORD) },
        "ghcr.io": { "auth": basic("eve", "other-secret") },
    }});
    write(&directory.path().join(".docker/config.json"), &file);
    let reference = registry.reference("app:1");
    let run = n2c_in(directory.path(), &["auth", "export", &reference, "-o", "auth.json"]);
    assert_eq!((run.code, run.stdout.len()), (0, 0), "{}", run.stderr);
    let path = directory.path().join("auth.json");
    let text = std::fs::read_to_string(&path).expect("the file");
    assert_eq!(std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
    assert!(!text.contains(&basic("eve", "other-secret")));
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["auths"].as_object().map(serde_json::Map::len), Some(1));
    // and it works on its own
    std::fs::remove_dir_all(directory.path().join(".docker")).expect("removed");
    let run = fetch(directory.path(), &registry, &blob, &["--authfile", "auth.json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // without credentials, nothing is exported, and the file isn't touched
    let run = n2c_in(directory.path(), &["auth", "export", "quay.io/a/b", "-o", "auth.json"]);
    assert!(run.error(4).contains("`quay.io/a/b`"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), text);
}

/// Makes the registry require tokens. A token is valid until the next one is issued, or until
/// `revoke` returns true for a request. `answer` may answer the requests that are let in.
fn with_tokens_that_end(
    registry: &Registry,
    revoke: impl Fn(&Call, usize) -> bool + Send + Sync + 'static,
    answer: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static,
) {
    let (host, given, valid) = (registry.host(), AtomicUsize::new(0), AtomicUsize::new(0));
    registry.hook(move |call| {
        if call.target.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            valid.store(number, Ordering::SeqCst);
            return Some(Reply::new(
                200,
                format!(r#"{{"token":"number-{number}","expires_in":3600}}"#),
            ));
        }
        let current = valid.load(Ordering::SeqCst);
        if current == 0 || call.header("authorization") != Some(&format!("Bearer number-{current}"))
        {
            let challenge = format!(r#"Bearer realm="http://{host}/token",error="invalid_token""#);
            return Some(Reply::new(401, "").with("www-authenticate", challenge));
        }
        if revoke(call, current) {
            valid.store(0, Ordering::SeqCst);
        }
        answer(call)
    });
}

fn count_tokens(registry: &Registry) -> usize {
    registry.log().iter().filter(|line| line.starts_with("GET /token")).count()
}

#[test]
fn a_token_that_expires_during_a_download_is_renewed() {
    let registry = Registry::start();
    let blob = Blob::new("x", "0123456789".repeat(1000));
    registry.put_blob(&blob);
    let bytes = blob.bytes.clone();
    let revoke = |call: &Call, token| token == 1 && call.header("range").is_none();
    with_tokens_that_end(&registry, revoke, move |call| {
        call.header("range")
            .is_none()
            .then(|| Reply::broken(200, bytes[..5000].to_vec(), bytes.len()))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &blob, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(std::fs::read(directory.path().join("out")).expect("the blob"), blob.bytes);
    assert_eq!(count_tokens(&registry), 2);
}

// Requests that wait for a token share it.
#[test]
fn a_token_is_fetched_once_for_many_requests() {
    let registry = Registry::start();
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/386"];
    let images: Vec<Image> =
        platforms.iter().map(|platform| Image::new(platform, &[platform])).collect();
    let entries: Vec<Value> = platforms
        .iter()
        .zip(&images)
        .map(|(platform, image)| image.manifest.entry(platform))
        .collect();
    for (platform, image) in platforms.iter().zip(&images) {
        registry.put_image("app", platform, image);
    }
    registry.put_manifest("app", "1", &crate::support::images::index(&entries));
    // The token expires with the index; then four manifests are requested at once.
    with_tokens_that_end(&registry, |call, _| call.target.ends_with("/manifests/1"), |_| None);
    let directory = tempfile::tempdir().expect("a directory");
    let run = n2c_in(directory.path(), &["lock", &registry.reference("app:1"), "--all-platforms"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(count_tokens(&registry), 2);
}

// protocol rules 28 and 59, CVE-2020-15157: the image's author chose the URLs.
#[test]
fn rule_28_a_foreign_layer_is_fetched_without_a_credential() {
    let elsewhere = Registry::start();
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["one", "two"]);
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).expect("JSON");
    manifest["layers"][0]["mediaType"] =
        json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let urls = ["file:///etc/passwd".to_owned(), format!("http://{}/layer", elsewhere.host())];
    manifest["layers"][0]["urls"] = json!(urls);
    registry.put_manifest("app", "1", &Blob::json(n2c::oci::media_type::OCI_MANIFEST, &manifest));
    registry.put_blob(&image.config);
    registry.put_blob(&image.layers[1]);
    let expected = format!("Basic {}", basic("bob", PASSWORD));
    registry.hook(move |call| {
        (call.header("authorization") != Some(&expected))
            .then(|| Reply::new(401, "").with("www-authenticate", "Basic realm=x"))
    });
    let layer = image.layers[0].bytes.clone();
    elsewhere.hook(move |_| {
        let challenge = "Basic realm=\"gimme\"";
        Some(Reply::new(200, layer.clone()).with("www-authenticate", challenge))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let entry = json!({ "auth": basic("bob", PASSWORD) });
    let auths = json!({ "auths": { registry.host(): entry, elsewhere.host(): entry } });
    write(&directory.path().join("auth.json"), &auths);
    let reference = registry.reference("app:1");
    let run = |arguments: &[&str]| {
        n2c_in(directory.path(), &[arguments, &["--authfile", "auth.json"]].concat())
    };
    // A command that needs no layer contacts no other server.
    assert_eq!(run(&["lock", &reference, "--arch", "amd64", "-o", "lock.json"]).code, 0);
    assert_eq!(elsewhere.log(), Vec::<String>::new());
    let pull = ["pull", &reference, "dir:d", "--arch", "amd64"];
    let refused = run(&[&pull[..], &["--no-foreign"]].concat());
    let error = refused.error(4);
    assert!(error.contains("is a foreign layer") && error.contains("file:///etc"), "{error}");
    assert_eq!(elsewhere.log(), Vec::<String>::new());
    let pulled = run(&pull);
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    let place = directory.path().join("d").join(image.layers[0].digest().hex());
    assert_eq!(std::fs::read(place).expect("a layer"), image.layers[0].bytes);
    let (repository, digest) = (registry.reference("app"), image.layers[0].digest().to_string());
    let blob = ["blob", &repository, &digest, "-o", "out"];
    assert_eq!(run(&blob).code, 4);
    let url = format!("--url={}", urls[1]);
    assert_eq!(run(&[&blob[..], &[&url]].concat()).code, 0);
    assert_eq!(run(&["verify", "lock.json"]).code, 0);
    for call in elsewhere.calls() {
        assert_eq!(call.header("authorization"), None);
    }
    // Wrong bytes are rejected, whoever serves them.
    elsewhere.hook(|_| Some(Reply::new(200, "something else")));
    assert_eq!(run(&["pull", &reference, "dir:e", "--arch", "amd64"]).code, 8);
}

// A server may repeat what it was sent, and a token may be longer than a shown message.
#[test]
fn rule_30_a_long_token_is_not_quoted_either() {
    let token = "eyJhbGciOiJFUzI1NiJ9.".repeat(30);
    let registry = Registry::start();
    let (answer, challenge) =
        (token.clone(), format!(r#"Bearer realm="http://{}/token""#, registry.host()));
    registry.hook(move |call| {
        if call.target.starts_with("/token") {
            return Some(Reply::new(200, json!({ "token": answer }).to_string()));
        }
        Some(match call.header("authorization") {
            None => Reply::new(401, "").with("www-authenticate", challenge.clone()),
            Some(told) => Reply::error(403, "DENIED", &format!("bad token {told}"))
                .with("warning", format!("299 - \"you sent {told}\"")),
        })
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &Blob::new("x", "y"), &["-v"]);
    assert!(run.error(5).contains("HTTP 403"), "{}", run.stderr);
    assert!(!run.stderr.contains("eyJ"), "{}", run.stderr);
}

#[test]
fn rule_30_a_refresh_token_is_not_quoted_by_the_token_service() {
    let registry = Registry::start();
    let challenge = format!(r#"Bearer realm="http://{}/token",service="s""#, registry.host());
    registry.hook(move |call| {
        Some(if call.target.starts_with("/token") {
            Reply::error(
                403,
                "DENIED",
                "bad grant refresh_token=refresh%2Fme+now or refresh/me now",
            )
        } else {
            Reply::new(401, "").with("www-authenticate", challenge.clone())
        })
    });
    let entry = json!({ "auth": basic("bob", ""), "identitytoken": "refresh/me now" });
    let run = fetch_with(&registry, &Blob::new("x", "y"), &entry);
    let error = run.error(5);
    assert!(error.contains("user `bob`") && !error.contains("refresh"), "{error}");
}

// protocol rule 28: a token in a form is sent only to its own token service
#[test]
fn rule_28_a_refresh_token_does_not_follow_a_redirect() {
    let (registry, elsewhere) = (Registry::start(), Registry::start());
    let challenge = format!(r#"Bearer realm="http://{}/token""#, registry.host());
    let location = format!("http://{}/steal", elsewhere.host());
    registry.hook(move |call| {
        Some(if call.target.starts_with("/token") {
            Reply::new(307, "").with("location", location.clone())
        } else {
            Reply::new(401, "").with("www-authenticate", challenge.clone())
        })
    });
    let entry = json!({ "auth": basic("bob", PASSWORD), "identitytoken": "refresh-me" });
    fetch_with(&registry, &Blob::new("x", "y"), &entry);
    assert!(!elsewhere.calls().is_empty(), "the redirect was not followed at all");
    for call in elsewhere.calls() {
        assert_eq!((call.method.as_str(), call.header("authorization")), ("GET", None));
        assert_eq!(call.header("content-length"), None, "a body was sent along");
    }
}

// Only the registry's own challenge is answered, not that of a server to which it
// redirects, whether for a blob or for the API root.
#[test]
fn rule_27_the_challenge_of_a_redirects_target_is_not_answered() {
    for path in ["/blobs/", "/v2/"] {
        let (registry, elsewhere) = (Registry::start(), Registry::start());
        let location = format!("http://{}/evil", elsewhere.host());
        registry.hook(move |call| {
            Some(if call.target.contains(path) && (path == "/blobs/" || call.target == "/v2/") {
                Reply::new(307, "").with("location", location.clone())
            } else {
                Reply::new(401, "")
            })
        });
        let evil = elsewhere.host();
        elsewhere.hook(move |_| {
            let challenge = format!(r#"Bearer realm="http://{evil}/token", Basic realm="x""#);
            Some(Reply::new(401, "").with("www-authenticate", challenge))
        });
        let run =
            fetch_with(&registry, &Blob::new("x", "y"), &json!({ "auth": basic("bob", PASSWORD) }));
        assert_ne!(run.code, 0);
        assert_eq!(elsewhere.log(), ["GET /evil"], "{}", run.stderr);
        assert_eq!(elsewhere.calls()[0].header("authorization"), None);
    }
}

#[test]
fn an_identity_token_is_not_used_as_a_basic_password() {
    let (registry, blob) = wants_basic();
    let entry = json!({ "auth": basic("bob", ""), "identitytoken": "refresh-me" });
    let run = fetch_with(&registry, &blob, &entry);
    assert!(run.error(5).contains("requires a password"), "{}", run.stderr);
}

// The hint must name the registry, not its token service.
#[test]
fn the_hint_names_the_registry_to_log_into() {
    let (registry, service) = (Registry::start(), Registry::start());
    let challenge = format!(r#"Bearer realm="http://{}/token""#, service.host());
    registry.hook(move |_| Some(Reply::new(401, "").with("www-authenticate", challenge.clone())));
    service.hook(|_| Some(Reply::new(403, "")));
    let directory = tempfile::tempdir().expect("a directory");
    let run = fetch(directory.path(), &registry, &Blob::new("x", "y"), &[]);
    assert!(
        run.error(5).contains(&format!("`{}` denied access", service.host())),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains(&format!("docker login {}", registry.host())), "{}", run.stderr);
}
