//! Hostile or careless servers, files and other processes: secrets that are echoed, answers
//! that never end, and files and limits that get in the way.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use n2c::oci::digest::Digest;
use serde_json::json;

use crate::support::images::{Blob, Image, index};
use crate::support::program::{
    Run, command, n2c, n2c_in, peak_memory, wait_for_signal_handlers, wait_until,
};
use crate::support::registry::{Registry, Reply, ReplyBody};

const PASSWORD: &str = "kQ7-horse-battery";

/// Starts a server that calls `answer` with the number and stream of each connection, until
/// the test program ends. Returns its address.
fn server(answer: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (answer, stream) = (answer.clone(), stream.expect("a connection"));
            std::thread::spawn(move || answer(number, stream));
        }
    });
    address
}

/// Reads the head of an HTTP request.
fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Writes credentials for `host`, and runs n2c with them.
fn with_password(directory: &Path, host: &str, arguments: &[&str]) -> Run {
    with(PASSWORD, directory, host, arguments)
}

/// Like [`with_password`], but with any password.
fn with(password: &str, directory: &Path, host: &str, arguments: &[&str]) -> Run {
    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("bob:{password}"));
    let file = json!({ "auths": { host: { "auth": auth } } }).to_string();
    std::fs::write(directory.join("auth.json"), file).expect("written");
    n2c_in(directory, &[arguments, &["--authfile=auth.json"]].concat())
}

fn wants_password() -> Reply {
    Reply::new(401, "").with("www-authenticate", "Basic realm=\"x\"".to_owned())
}

/// Checks that `text` contains no password, no characters that act on a terminal, and no
/// overlong lines.
#[track_caller]
fn assert_harmless(text: &str) {
    assert!(!text.contains(PASSWORD), "{text}");
    let is_active = |c: char| c != '\n' && n2c::text::is_active(c);
    assert!(!text.chars().any(is_active), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() < 4100), "a line is too long");
}

#[test]
fn a_password_that_a_server_repeats_is_not_shown() {
    // Some passwords look different when they are quoted.
    for password in [PASSWORD, "it's \"quoted\"\\ and long", "hörse-bättery-stäple"] {
        repeat(password);
    }
}

fn repeat(password: &'static str) {
    let evil = format!("{password}\u{9b}31m\u{202e}");
    let digest = Digest::sha256(b"x").to_string();
    let descriptor =
        |kind: &str, digest: &str| json!({ "mediaType": kind, "digest": digest, "size": 1 });
    let config = "application/vnd.oci.image.config.v1+json";
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let bodies = [
        json!({ "schemaVersion": 2, "mediaType": evil }),
        json!({ "schemaVersion": 2, "config": descriptor(&evil, &digest), "layers": [] }),
        json!({ "schemaVersion": 2, "config": descriptor(config, &evil), "layers": [] }),
        json!({ "schemaVersion": 2, "artifactType": evil, "config": descriptor("x/y", &digest), "layers": [] }),
        json!({ "schemaVersion": 2, "config": descriptor(config, &digest), "layers": [descriptor(&evil, &digest)] }),
        json!({ "schemaVersion": 2, "config": { "mediaType": config, "digest": digest, "size": evil }, "layers": [] }),
        json!({ "schemaVersion": 2, "manifests": [{ "mediaType": manifest, "digest": digest, "size": 1,
            "platform": { "os": "linux", "architecture": password } }] }),
        json!({ "errors": [{ "code": evil, "message": evil }] }),
        json!(evil),
        json!(format!("{}{password}", "x".repeat(50))),
    ];
    for body in bodies {
        let registry = Registry::start();
        let text = body.to_string();
        // Headers can hold only the ASCII part.
        let ascii = move |more: &str| {
            let text: String = password.chars().filter(char::is_ascii).collect();
            format!("{text}{more}{text}")
        };
        registry.hook(move |call| {
            if call.header("authorization").is_none() {
                return Some(wants_password());
            }
            Some(
                Reply::new(200, text.clone())
                    .with("content-type", ascii("/"))
                    .with("ratelimit-limit", ascii(";w=1"))
                    .with("ratelimit-remaining", ascii(""))
                    .with("warning", format!("299 - \"{}\"", ascii(""))),
            )
        });
        let directory = tempfile::tempdir().expect("a directory");
        let reference = registry.reference("app:1");
        for arguments in [&["lock", &reference, "-v"][..], &["inspect", &reference, "--explain"]] {
            let run = with(password, directory.path(), &registry.host(), arguments);
            for text in [&run.stderr, &String::from_utf8_lossy(&run.stdout).into_owned()] {
                assert_harmless(text);
                let forms = [
                    password.to_owned(),
                    password.escape_default().to_string(),
                    format!("{password:?}"),
                ];
                for form in forms {
                    let form = form.trim_matches('"');
                    // Not even in truncated text.
                    let beginning: String = form.chars().take(10).collect();
                    assert!(!text.contains(&beginning), "{text}");
                }
            }
            // Only `inspect` of the index may succeed: it lists images, but none for this
            // machine.
            let is_index = arguments[0] == "inspect" && body["manifests"].is_array();
            let is_shown = is_index && run.code == 0;
            assert_eq!(run.code == 0, is_shown, "{body}");
        }
    }
}

#[test]
fn a_failed_redirect_shows_no_secret() {
    let registry = Registry::start();
    let blob = Blob::new("x", "y");
    registry.hook(move |call| {
        if call.header("authorization").is_none() {
            return Some(wants_password());
        }
        let elsewhere = format!("http://127.0.0.1:1/{PASSWORD}/x?sig={PASSWORD}");
        Some(Reply::new(307, "").with("location", elsewhere))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    let arguments = ["blob", &repository, &digest, "-o", "out", "-v"];
    let run = with_password(directory.path(), &registry.host(), &arguments);
    run.error(7);
    assert_harmless(&run.stderr);
}

// A label must not be able to add a row to a table or a line to a report.
#[test]
fn a_label_can_not_forge_a_row() {
    let registry = Registry::start();
    let mut image = Image::new("linux/amd64", &["x"]);
    let mut config: serde_json::Value = serde_json::from_slice(&image.config.bytes).expect("JSON");
    config["config"]["Labels"] =
        json!({ "a": "b\nEntrypoint  /bin/evil\u{1b}[2K", "c\nUser": "root" });
    image = Image::from_parts(&config, image.layers);
    registry.put_image("app", "1", &image);
    let run = n2c(&["inspect", &registry.reference("app:1"), "--arch=amd64"]);
    let rows: Vec<&str> = run.text().lines().collect();
    assert_harmless(run.text());
    assert!(!rows.iter().any(|row| row.starts_with("Entrypoint  /bin/evil")), "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.starts_with("User")).count(), 1, "{rows:?}");
}

#[test]
fn a_long_list_of_platforms_is_shortened() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    let entries: Vec<_> =
        (0..500).map(|n| image.manifest.entry(&format!("linux/arch{n}"))).collect();
    registry.put_manifest("app", "1", &index(&entries));
    let run = n2c(&["lock", &registry.reference("app:1"), "--arch=amd64"]);
    let error = run.error(4);
    assert!(error.ends_with("and 480 more") && error.len() < 1000, "{error}");
}

// RFC 8446 section 6: a fatal alert, handshake failure.
#[test]
fn a_tls_alert_is_no_reason_to_send_a_password_in_plain() {
    let plain = Arc::new(Mutex::new(Vec::new()));
    let seen = plain.clone();
    let address = server(move |_, mut stream| {
        let mut first = [0; 1];
        if stream.read(&mut first).is_ok_and(|count| count == 1) && first[0] == 0x16 {
            let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]);
        } else {
            seen.lock().expect("no panic").push(read_head(&mut stream));
            let _ = stream.write_all(
                b"HTTP/1.1 401 x\r\nwww-authenticate: Basic realm=x\r\ncontent-length: 0\r\n\r\n",
            );
        }
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = with_password(
        directory.path(),
        &address,
        &["lock", &format!("{address}/app:1"), "--tls-verify=false"],
    );
    run.error(7);
    let plain = plain.lock().expect("no panic");
    assert!(plain.is_empty(), "{plain:?}");
}

// A closing warning, a handshake that breaks off, and a truncated record.
#[test]
fn a_server_that_hangs_up_on_tls_gets_no_password_in_plain() {
    let records: [&[u8]; 3] =
        [&[0x15, 3, 3, 0, 2, 1, 0], &[0x16, 3, 3, 0, 4, 2, 0, 0, 0], &[0x16, 3, 3, 1]];
    for record in records {
        let plain = Arc::new(Mutex::new(Vec::new()));
        let seen = plain.clone();
        let address = server(move |_, mut stream| {
            let mut first = [0; 1];
            if stream.read(&mut first).is_ok_and(|count| count == 1) && first[0] == 0x16 {
                let _ = stream.write_all(record);
            } else {
                seen.lock().expect("no panic").push(read_head(&mut stream));
                let head = "HTTP/1.1 401 x\r\nwww-authenticate: Basic realm=x\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(head.as_bytes());
            }
        });
        let directory = tempfile::tempdir().expect("a directory");
        let arguments = ["lock", &format!("{address}/app:1"), "--tls-verify=false"];
        let run = with_password(directory.path(), &address, &arguments);
        assert!([5, 7].contains(&run.code), "{}", run.stderr);
        for head in plain.lock().expect("no panic").iter() {
            assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
        }
    }
}

// A foreign layer's URL leads to the internet, and a redirect leads back into this network.
#[test]
fn a_redirect_of_a_foreign_layer_does_not_lead_into_this_network() {
    let inside = Registry::start();
    let registry = Registry::start();
    let blob = Blob::new("x", "y");
    let target = format!("http://{}/admin", inside.host());
    let proxy = server(move |_, mut stream| {
        read_head(&mut stream);
        let head = format!("HTTP/1.1 302 x\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
    });
    let directory = tempfile::tempdir().expect("a directory");
    // The registry has a public name, although it is on this machine.
    let settings =
        format!("[[registry]]\nprefix = \"public.test\"\nlocation = \"{}\"\n", registry.host());
    std::fs::write(directory.path().join("registries.conf"), settings).expect("written");
    let digest = blob.digest().to_string();
    let arguments = ["blob", "public.test/app", &digest, "-o", "out", "--url=http://out.test/x"];
    let output = command(directory.path(), &arguments)
        .env("CONTAINERS_REGISTRIES_CONF", "registries.conf")
        .env("http_proxy", format!("http://{proxy}"))
        .output()
        .expect("a run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("to a private address"), "{stderr}");
    assert_eq!(inside.log(), Vec::<String>::new());
}

// JSON is for programs: characters that act on a terminal are escaped in JSON's own way.
#[test]
fn reports_for_programs_stay_json() {
    let registry = Registry::start();
    let image = |text: &str| {
        let image = Image::new("linux/amd64", &[text]);
        let mut config: serde_json::Value =
            serde_json::from_slice(&image.config.bytes).expect("JSON");
        config["config"]["Labels"] = json!({ "who": format!("👩\u{200d}💻 \u{feff}\u{9b}{text}") });
        Image::from_parts(&config, image.layers)
    };
    registry.put_image("app", "1", &image("old"));
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    let lock = ["lock", &reference, "--arch=amd64", "-o"];
    assert_eq!(n2c_in(directory.path(), &[&lock[..], &["a.json"]].concat()).code, 0);
    registry.put_image("app", "1", &image("new"));
    assert_eq!(n2c_in(directory.path(), &[&lock[..], &["b.json"]].concat()).code, 0);
    // A password may be a word that the report contains.
    registry.hook(|call| call.header("authorization").is_none().then(wants_password));
    for arguments in [
        &["update", "a.json", "--check", "--json"][..],
        &["diff", "a.json", "b.json", "--json"],
        &["inspect", &reference, "--arch=amd64", "--json"],
        &["verify", "b.json", "--json"],
    ] {
        for password in ["1", "stale", "version"] {
            let run = match arguments[0] {
                "diff" => n2c_in(directory.path(), arguments),
                _ => with(password, directory.path(), &registry.host(), arguments),
            };
            let text = String::from_utf8(run.stdout).expect("text");
            let is_active = |c: char| c != '\n' && n2c::text::is_active(c);
            assert!(!text.chars().any(is_active), "{text:?}");
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            if arguments[0] == "update" {
                assert_eq!((&value["version"], &value["status"]), (&json!(1), &json!("stale")));
            }
        }
    }
}

#[test]
fn a_plain_registry_that_drops_connections_is_retried_in_plain() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["x"]));
    let behind = registry.host();
    let address = server(move |number, mut stream| {
        let mut first = [0; 1];
        if stream.read(&mut first).is_err() || first[0] == 0x16 {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        if number < 3 {
            return;
        }
        let head = format!("{}{}", char::from(first[0]), read_head(&mut stream));
        let mut registry = TcpStream::connect(&behind).expect("the registry");
        let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        registry.write_all(head.as_bytes()).expect("sent");
        let mut reply = Vec::new();
        registry.read_to_end(&mut reply).expect("answered");
        let _ = stream.write_all(&reply);
    });
    let run = n2c(&["lock", &format!("{address}/app:1"), "--arch=amd64", "--tls-verify=false"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(!run.stderr.contains("TLS"), "{}", run.stderr);
}

#[test]
fn an_invalid_http_response_is_not_retried() {
    for reply in [
        "HTTP/1.1 200 OK\r\nbroken header\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(5000)),
    ] {
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        let address = server(move |_, mut stream| {
            // A TLS handshake may follow. It gets the same reply, but isn't counted.
            let mut start = [0; 1024];
            let count = stream.read(&mut start).unwrap_or(0);
            *counted.lock().expect("no panic") += usize::from(start[..count].starts_with(b"GET"));
            let _ = stream.write_all(reply.as_bytes());
        });
        let digest = Digest::sha256(b"x").to_string();
        n2c(&["blob", &format!("{address}/app"), &digest, "-o", "out"]).error(7);
        assert_eq!(*count.lock().expect("no panic"), 1);
    }
}

#[test]
fn an_unreachable_proxy_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    for (variable, proxy) in [
        ("https_proxy", format!("http://bob:{PASSWORD}@127.0.0.1:1")),
        ("all_proxy", "socks5://127.0.0.1:1".to_owned()),
    ] {
        let output = command(directory.path(), &["lock", "registry.invalid/app:1"])
            .env(variable, &proxy)
            .output()
            .expect("a run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{stderr}");
        assert!(
            stderr.contains("through the proxy `") && stderr.contains("127.0.0.1:1`"),
            "{stderr}"
        );
        assert_harmless(&stderr);
    }
    let output = command(directory.path(), &["lock", "registry.invalid/app:1"])
        .env("https_proxy", format!("gopher://bob:{PASSWORD}@x"))
        .output()
        .expect("a run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("`https_proxy`"), "{stderr}");
    assert_harmless(&stderr);
}

// A few bytes of JSON may become a value of a hundred bytes in memory.
#[test]
fn large_documents_do_not_use_too_much_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let many = |mebibytes: usize| format!("[{}0]", "0,".repeat(mebibytes * 512 * 1024));
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    let mut config: serde_json::Value = serde_json::from_slice(&image.config.bytes).expect("JSON");
    config["x"] = json!("HERE");
    let text = config.to_string().replace("\"HERE\"", &many(7));
    let large = Blob::new(&image.config.media_type, text);
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&image.manifest.bytes).expect("JSON");
    manifest["config"] = large.descriptor();
    registry.put_manifest("app", "config", &Blob::json(&image.manifest.media_type, &manifest));
    registry.put_blob(&large);
    manifest["x"] = json!("HERE");
    let text = manifest.to_string().replace("\"HERE\"", &many(3));
    registry.put_manifest("app", "manifest", &Blob::new(&image.manifest.media_type, text));
    std::fs::write(directory.path().join("lock.json"), format!("{{\"x\":{}}}", many(15)))
        .expect("written");
    let nested = format!("{{\"x\":[{}0]}}", "[[[[]]]],{\"\":0},".repeat(200_000));
    std::fs::write(directory.path().join("nested.json"), nested).expect("written");
    std::fs::write(directory.path().join("large.json"), vec![b' '; 17 << 20]).expect("written");
    let (config, manifest) = (registry.reference("app:config"), registry.reference("app:manifest"));
    for (code, arguments) in [
        (8, &["lock", &config, "--arch=amd64"][..]),
        (8, &["lock", &manifest, "--arch=amd64"]),
        (8, &["blobs", "lock.json"]),
        (8, &["blobs", "large.json"]),
        (8, &["blobs", "nested.json"]),
        (1, &["lock", &config, "--cacert=/dev/zero"]),
        (1, &["lock", &config, "--authfile=/dev/zero"]),
    ] {
        let (run, peak) = peak_memory(directory.path(), arguments);
        assert_eq!(run.code, code, "{arguments:?}");
        assert!(peak < 100_000, "{arguments:?}: {peak} KiB");
    }
}

// `{ echo HEAD; n2c …; echo TAIL; } > file`
#[test]
fn output_is_written_at_the_current_position_of_stdout() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let blob = &image.layers[0];
    let directory = tempfile::tempdir().expect("a directory");
    let program = crate::support::program::binary();
    for output in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let script = format!(
            "{{ echo HEAD; {} blob {} {} -o {output}; echo TAIL; }} > file",
            program.display(),
            registry.reference("app"),
            blob.digest()
        );
        let status =
            Command::new("sh").args(["-c", &script]).current_dir(directory.path()).status();
        assert!(status.expect("a shell").success());
        let file = std::fs::read(directory.path().join("file")).expect("a file");
        assert_eq!(file, [b"HEAD\n", &blob.bytes[..], b"TAIL\n"].concat(), "{output}");
    }
    // Any other descriptor that the shell opened, and a link to stdout.
    std::os::unix::fs::symlink("/dev/stdout", directory.path().join("link")).expect("linked");
    for (output, number) in [("/dev/fd/3", 3), ("/proc/self/fd/7", 7), ("link", 1)] {
        let script = format!(
            "{{ echo HEAD >&{number}; {} blob {} {} -o {output}; echo TAIL >&{number}; }} {number}> file",
            program.display(),
            registry.reference("app"),
            blob.digest()
        );
        let status =
            Command::new("bash").args(["-c", &script]).current_dir(directory.path()).status();
        assert!(status.expect("a shell").success());
        let file = std::fs::read(directory.path().join("file")).expect("a file");
        assert_eq!(file, [b"HEAD\n", &blob.bytes[..], b"TAIL\n"].concat(), "{output}");
    }
    let reference = registry.reference("app:1");
    let archive = |output: &str, stdout: Stdio| {
        let destination = format!("docker-archive:{output}:app:1");
        let child = command(directory.path(), &["pull", &reference, &destination, "--arch=amd64"])
            .stdout(stdout)
            .spawn();
        child.expect("a run").wait_with_output().expect("an end")
    };
    let whole = archive("-", Stdio::piped());
    assert!(whole.status.success() && whole.stdout.len() > 1024);
    assert_eq!(archive("/dev/stdout", Stdio::piped()).stdout, whole.stdout);
    // A socket can't be opened by a path.
    let (mine, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let reader = std::thread::spawn(move || {
        let (mut mine, mut bytes) = (mine, Vec::new());
        mine.read_to_end(&mut bytes).expect("read");
        bytes
    });
    assert!(archive("/dev/stdout", std::os::fd::OwnedFd::from(theirs).into()).status.success());
    assert_eq!(reader.join().expect("a reader"), whole.stdout);
}

#[test]
fn concurrent_pulls_into_one_directory_take_turns() {
    let registry = Registry::start();
    let images = ["a", "b"].map(|text| Image::new("linux/amd64", &[text, "both", &text.repeat(9)]));
    for (image, tag) in images.iter().zip(["a", "b"]) {
        registry.put_image("app", tag, image);
    }
    let directory = tempfile::tempdir().expect("a directory");
    for round in 0..6 {
        let destination = format!("dir:d{}", round % 2);
        let children: Vec<_> = (0..6)
            .map(|n| {
                let reference = registry.reference(if n % 2 == 0 { "app:a" } else { "app:b" });
                command(directory.path(), &["pull", &reference, &destination, "--arch=amd64"])
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("a run")
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().expect("an end");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let folder = directory.path().join(format!("d{}", round % 2));
        let manifest = std::fs::read(folder.join("manifest.json")).expect("a manifest");
        let image =
            images.iter().find(|image| image.manifest.bytes == manifest).expect("one of both");
        for blob in image.layers.iter().chain([&image.config]) {
            let bytes = std::fs::read(folder.join(blob.digest().hex())).expect("a blob");
            assert!(bytes == blob.bytes);
        }
        assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 6);
    }
}

#[test]
fn an_archive_that_appears_during_a_pull_is_kept() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let directory = tempfile::tempdir().expect("a directory");
    let (place, config) = (directory.path().join("a.tar"), image.layers[0].digest().to_string());
    registry.hook(move |call| {
        if call.target.ends_with(&config) {
            std::fs::write(&place, "theirs").expect("written");
        }
        None
    });
    let reference = registry.reference("app:1");
    for transport in ["docker-archive", "oci-archive"] {
        let destination = format!("{transport}:a.tar");
        let run = n2c_in(directory.path(), &["pull", &reference, &destination, "--arch=amd64"]);
        let error = run.error(1);
        assert!(error.contains("`a.tar` exists"), "{error}");
        let path = directory.path().join("a.tar");
        assert_eq!(std::fs::read(&path).expect("theirs"), b"theirs");
        std::fs::remove_file(path).expect("removed");
    }
    assert_eq!(std::fs::read_dir(&directory).expect("listed").count(), 0);
    // A dangling link is noticed before any request.
    registry.hook(|_| None);
    std::os::unix::fs::symlink("nowhere", directory.path().join("a.tar")).expect("linked");
    let asked = registry.log().len();
    let pull = ["pull", &reference, "oci-archive:a.tar", "--arch=amd64"];
    n2c_in(directory.path(), &pull).error(1);
    assert_eq!(registry.log().len(), asked);
    std::fs::remove_file(directory.path().join("a.tar")).expect("removed");
    // An empty file, as `mktemp` makes it, may be filled, but only by one run.
    std::fs::write(directory.path().join("a.tar"), "").expect("written");
    let runs: Vec<_> = (0..8)
        .map(|_| command(directory.path(), &pull).stderr(Stdio::null()).spawn().expect("a run"))
        .collect();
    let codes = runs.into_iter().map(|mut run| run.wait().expect("an end").code());
    assert_eq!(codes.filter(|code| *code == Some(0)).count(), 1);
}

/// Starts a run, and returns once it waits for a blob that never ends.
fn stalled(registry: &Registry, directory: &Path, arguments: &[&str]) -> std::process::Child {
    registry.hook(|call| {
        call.target.contains("/blobs/").then(|| Reply {
            status: 200,
            headers: Vec::new(),
            body: ReplyBody::Stalled(vec![7; 100_000].into()),
        })
    });
    let child = command(directory, arguments).stderr(Stdio::piped()).spawn().expect("a run");
    let is_asked = || registry.log().iter().any(|line| line.contains("/blobs/"));
    wait_until("the blob was requested", is_asked);
    child
}

#[test]
fn a_killed_run_leaves_no_partial_file() {
    let image = Image::new("linux/amd64", &["x"]);
    let digest = image.layers[0].digest().to_string();
    for arguments in [
        &["blob", "REPOSITORY", &digest, "-o", "out"][..],
        &["pull", "REPOSITORY:1", "docker-archive:out.tar", "--arch=amd64"],
        &["pull", "REPOSITORY:1", "oci-archive:out.tar", "--arch=amd64"],
        &["pull", "REPOSITORY:1", "oci:out", "--arch=amd64"],
        &["pull", "REPOSITORY:1", "dir:out", "--arch=amd64"],
    ] {
        let registry = Registry::start();
        registry.put_image("app", "1", &image);
        let directory = tempfile::tempdir().expect("a directory");
        let repository = registry.reference("app");
        let arguments: Vec<String> =
            arguments.iter().map(|word| word.replace("REPOSITORY", &repository)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = stalled(&registry, directory.path(), &arguments);
        // Wait until some bytes are written.
        std::thread::sleep(Duration::from_millis(50));
        child.kill().expect("killed");
        child.wait().expect("an end");
        let mut find = Command::new("find");
        let find = find.args([".", "-type", "f", "-size", "+0"]).current_dir(&directory);
        let left = find.output().expect("find");
        let left = String::from_utf8_lossy(&left.stdout).into_owned();
        // A layout may already have its marker file.
        let left: Vec<&str> = left.lines().filter(|line| !line.ends_with("oci-layout")).collect();
        assert!(left.is_empty(), "{arguments:?}: {left:?}");
    }
}

#[test]
fn a_signal_ends_a_waiting_run() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    std::fs::set_permissions(&pipe, std::fs::Permissions::from_mode(0o600)).expect("set");
    let large = Blob::new("x", vec![7; 4 << 20]);
    registry.put_blob(&large);
    let (reference, repository) = (registry.reference("app:1"), registry.reference("app"));
    let digest = large.digest().to_string();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        for arguments in [
            // Nobody ever writes to the pipe, or reads the blob from stdout.
            &["lock", &reference, "--authfile=pipe"][..],
            &["prefetch", "pipe"],
            &["blob", &repository, &digest, "-o", "-"],
        ] {
            let mut child = command(directory.path(), arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a run");
            wait_for_signal_handlers(&child);
            assert!(child.try_wait().expect("a child").is_none(), "{arguments:?} ended too early");
            let started = Instant::now();
            let id = child.id().to_string();
            Command::new("kill").args(["-s", signal, &id]).status().expect("kill");
            let status = child.wait().expect("an end");
            assert_eq!(status.code(), Some(code), "{arguments:?}");
            assert!(started.elapsed() < Duration::from_secs(10));
        }
    }
    // A second signal ends the run at once.
    let mut child = command(directory.path(), &["lock", &reference, "--authfile=pipe"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("a run");
    wait_for_signal_handlers(&child);
    let started = Instant::now();
    for _ in 0..2 {
        let id = child.id().to_string();
        Command::new("kill").args(["-s", "INT", &id]).status().expect("kill");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    // After the first signal alone, the run would have had a second to clean up.
    assert!(started.elapsed() < Duration::from_millis(800), "{:?}", started.elapsed());
}

// 120 layers arrive before the config, and there are few file descriptors.
#[test]
fn waiting_layers_do_not_use_up_all_file_descriptors() {
    let texts: Vec<String> = (0..120).map(|n| format!("layer {n}")).collect();
    let image = Image::new("linux/amd64", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let registry = Registry::start();
    registry.put_image("app", "1", &image);
    // The config is refused twice; meanwhile, the layers arrive.
    let (config, refusals) = (image.config.digest().to_string(), AtomicUsize::new(0));
    registry.hook(move |call| {
        let is_config = call.target.ends_with(&config);
        (is_config && refusals.fetch_add(1, Ordering::Relaxed) < 2).then(|| Reply::new(503, ""))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!(
        "ulimit -n 128; exec {} pull {} dir:d --arch=amd64",
        crate::support::program::binary().display(),
        registry.reference("app:1")
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(&directory).output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // If there are really too few, the system's own message is shown.
    let script = script.replace("128", "12").replace("dir:d", "dir:e");
    let output = Command::new("sh").args(["-c", &script]).current_dir(&directory).output();
    let stderr = String::from_utf8_lossy(&output.expect("a shell").stderr).into_owned();
    assert!(stderr.contains("Too many open files"), "{stderr}");
}

#[test]
fn a_missing_temporary_directory_is_named() {
    let registry = Registry::start();
    let blob = Blob::new("x", "some bytes");
    registry.put_blob(&blob);
    let directory = tempfile::tempdir().expect("a directory");
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    let output = command(directory.path(), &["blob", &repository, &digest, "-o", "-"])
        .env("TMPDIR", "/nowhere")
        .output()
        .expect("a run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("a temporary file in `/nowhere`"), "{stderr}");
}
