//! `n2c prefetch` with real Nix: blobs in the store before a build needs them, and
//! stores that refuse them. `tests/run` installs Nix and the registry.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::functions::{ROOT, lock, nix_with_n2c, push, read, with_n2c};
use crate::support::images::{Blob, Image};
use crate::support::program::{command, n2c_in, wait_for_signal_handlers, wait_until};
use crate::support::registry::{Registry, Reply, ReplyBody};
use crate::support::tools::{Distribution, Nix};

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn after_a_prefetch_through_a_daemon_a_build_needs_no_registry() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    lock(&nix, &registry, "app.json", &["--arch", "amd64"]);
    lock(&nix, &registry, "all.json", &["--all-platforms"]);
    // Initialises the store, as an installation does.
    nix.run("nix-store", &["--gc"]);
    let _daemon = nix.start_daemon();
    let program = nix.directory().join("n2c/bin/n2c");
    let program = program.to_str().expect("a path");
    let (success, _, stderr) = nix.try_run_as_nobody(program, &["prefetch", "app.json"]);
    assert!(success, "{stderr}");
    assert!(stderr.contains("3 blobs fetched, 0 were in the store already"), "{stderr}");
    let asked = registry.requests_of_n2c().len();
    let (success, _, stderr) =
        nix.try_run_as_nobody(program, &["prefetch", "app.json", "all.json"]);
    assert!(success, "{stderr}");
    assert!(stderr.contains("2 blobs fetched, 3 were in the store already"), "{stderr}");
    let requests = registry.requests_of_n2c().split_off(asked);
    assert!(requests.iter().all(|request| request.contains("/blobs/")), "{requests:?}");
    assert_eq!(requests.len(), 2, "{requests:?}");
    drop(registry);
    let expression = with_n2c(&nix, "x86_64-linux", "n2c.fromLock ./app.json");
    let (success, path, stderr) =
        nix.try_run_as_nobody("nix-build", &["--no-out-link", "-E", &expression]);
    assert!(success, "{stderr}");
    assert_eq!(read(&nix.file(&path))["layers"].as_array().map(Vec::len), Some(3));
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn prefetch_without_a_daemon_uses_nix_store() {
    let registry = Distribution::start();
    let all = push(&registry, &[]);
    let nix = nix_with_n2c();
    lock(&nix, &registry, "app.json", &["--arch", "amd64"]);
    let program = nix.directory().join("n2c/bin/n2c");
    let program = program.to_str().expect("a path");
    // Initialises the store: in Nix 2.8, two processes can't do that at once.
    nix.run("nix-store", &["--gc"]);
    // Two runs at once don't disturb each other.
    let results: Vec<_> = std::thread::scope(|scope| {
        let runs =
            [(); 2].map(|()| scope.spawn(|| nix.try_run(program, &["prefetch", "app.json"])));
        runs.into_iter().map(|run| run.join().expect("a run")).collect()
    });
    for (success, _, stderr) in results {
        assert!(success, "{stderr}");
    }
    let (_, _, stderr) = nix.try_run(program, &["prefetch", "app.json"]);
    assert!(stderr.contains("0 blobs fetched, 3 were in the store already"), "{stderr}");
    let paths = n2c_in(nix.directory(), &["blobs", "app.json"]).json();
    for (hex, path) in paths.as_object().expect("a blob map") {
        let bytes = std::fs::read(nix.file(path.as_str().expect("a path"))).expect("the blob");
        assert_eq!(n2c::oci::digest::Digest::sha256(&bytes).hex(), hex);
    }
    nix.run("nix-store", &["--verify", "--check-contents"]);

    // A missing blob is an error, but the others are still fetched.
    let nix = nix_with_n2c();
    lock(&nix, &registry, "app.json", &["--arch", "arm64"]);
    registry.remove_blob(&all[1].layers[1].digest());
    let program = nix.directory().join("n2c/bin/n2c");
    let (success, stdout, stderr) =
        nix.try_run(program.to_str().expect("a path"), &["prefetch", "app.json"]);
    assert!(!success && stdout.is_empty());
    assert!(stderr.contains("2 blobs fetched, 0 were in the store already"), "{stderr}");
    assert!(stderr.contains("HTTP 404"), "{stderr}");
}

/// The blobs in the store: the hex digest in each one's name, and its content.
fn stored_blobs(nix: &Nix) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(nix.file("/nix/store")).expect("a store");
    let blobs = entries.filter_map(|entry| {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        let (_, hex) = name.split_once('-').filter(|(_, hex)| hex.len() == 64)?;
        Some((hex.to_owned(), std::fs::read(entry.path()).expect("a blob")))
    });
    blobs.collect()
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_daemon_keeps_only_verified_blobs() {
    let registry = Registry::start();
    let layer = |length: u32| {
        let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[1]).collect();
        Blob::new("application/vnd.oci.image.layer.v1.tar", bytes)
    };
    // The daemon gets the first bytes of the long ones before the rest has arrived.
    let [broken, encoded, wrong] = [80_000_000, 2_000_000, 70_000_000].map(layer);
    let layers = vec![broken.clone(), encoded.clone(), wrong.clone()];
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let image = Image::from_parts(&config, layers);
    registry.put_image("app", "1", &image);
    let nix = nix_with_n2c();
    let reference = registry.reference("app:1");
    n2c_in(nix.directory(), &["lock", &reference, "--arch", "amd64", "-o", "app.json"]);
    nix.run("nix-store", &["--gc"]);
    let _daemon = nix.start_daemon();
    let prefetch = || {
        let program = nix.directory().join("n2c/bin/n2c");
        nix.try_run_as_nobody(program.to_str().expect("a path"), &["prefetch", "app.json"])
    };

    let is_first = AtomicBool::new(true);
    let gzip = {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&encoded.bytes).expect("memory");
        gzip.finish().expect("memory")
    };
    let names = [&broken, &encoded, &wrong].map(|layer| layer.digest().to_string());
    let bytes = broken.bytes.clone();
    registry.hook(move |call| {
        let is = |name: &String| call.target.ends_with(name);
        if is(&names[0]) && is_first.swap(false, Ordering::Relaxed) {
            // Breaks off after wrong bytes.
            return Some(Reply::broken(200, vec![0; 75_000_000], bytes.len()));
        } else if is(&names[0]) {
            // Ignores ranges.
            return Some(Reply::new(200, bytes.clone()));
        } else if is(&names[1]) {
            return Some(Reply::new(200, gzip.clone()).with("content-encoding", "gzip"));
        }
        is(&names[2]).then(|| Reply::new(200, vec![0; 70_000_000]))
    });
    let (success, _, stderr) = prefetch();
    assert!(!success && stderr.contains("3 blobs fetched"), "{stderr}");
    assert!(stderr.contains(&format!("`{}`", wrong.digest())), "{stderr}");
    let mut expected = [&image.config, &broken, &encoded]
        .map(|blob| (blob.digest().hex().to_owned(), blob.bytes.clone()));
    expected.sort();
    let mut stored = stored_blobs(&nix);
    stored.sort();
    assert!(stored == expected, "{:?}", stored.iter().map(|(hex, _)| hex).collect::<Vec<_>>());
    // Later, the registry serves the right bytes.
    registry.hook(|_| None);
    let (success, _, stderr) = prefetch();
    assert!(success && stderr.contains("1 blobs fetched, 3 were"), "{stderr}");
    nix.run("nix-store", &["--verify", "--check-contents"]);
}

// A daemon that finds the connection closed before its buffer is full takes what it has for
// the whole file.
#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_daemon_keeps_nothing_of_a_killed_prefetch() {
    let registry = Registry::start();
    let bytes: Vec<u8> = (0..50_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", bytes);
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [layer.digest().to_string()] },
    });
    let image = Image::from_parts(&config, vec![layer.clone()]);
    registry.put_image("app", "1", &image);
    let nix = nix_with_n2c();
    let reference = registry.reference("app:1");
    n2c_in(nix.directory(), &["lock", &reference, "--arch", "amd64", "-o", "app.json"]);
    let _daemon = nix.start_daemon();
    let program = nix.directory().join("n2c/bin/n2c");
    for megabytes in [0, 1, 10, 31, 33, 34, 40, 49] {
        let (name, sent) =
            (layer.digest().to_string(), layer.bytes[..megabytes * 1_000_000].to_vec());
        registry.hook(move |call| {
            call.target.ends_with(&name).then(|| {
                let body = ReplyBody::Stalled(sent.clone().into());
                Reply { body, ..Reply::new(200, "") }.with("content-length", "50000000".to_owned())
            })
        });
        // GNU `timeout` sends SIGKILL, so n2c can't clean up.
        let arguments =
            ["-s", "KILL", "1.5", program.to_str().expect("a path"), "prefetch", "app.json"];
        let (success, ..) = nix.try_run_as_nobody("timeout", &arguments);
        assert!(!success);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let kept = stored_blobs(&nix);
        let kept: Vec<_> = kept.iter().filter(|(hex, _)| *hex == layer.digest().hex()).collect();
        assert!(kept.is_empty(), "{} bytes of {megabytes} MB were kept", kept[0].1.len());
    }
    registry.hook(|_| None);
    let arguments = ["prefetch", "app.json"];
    let (success, _, stderr) = nix.try_run_as_nobody(program.to_str().expect("a path"), &arguments);
    assert!(success, "{stderr}");
    nix.run("nix-store", &["--verify", "--check-contents"]);
}

// A signal ends the run even if the daemon is silent or `nix-store` hangs.
#[test]
fn a_prefetch_that_waits_for_nix_can_be_interrupted() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["x"]));
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    n2c_in(directory.path(), &["lock", &reference, "--arch", "amd64", "-o", "app.json"]).text();
    let socket = directory.path().join("socket");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).expect("made");
    // This `nix-store` reports all paths as missing, and then hangs when it should add them.
    let script = "#!/bin/sh\n[ \"$1\" = --check-validity ] || exec sleep 61.25\n\
                  shift 2\nprintf '%s\\n' \"$@\"\n";
    let temporary = directory.path().join("tmp");
    std::fs::create_dir(&temporary).expect("made");
    std::fs::write(bin.join("nix-store"), script).expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("nix-store"), executable).expect("set");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    for remote in ["daemon", "local"] {
        let mut child = command(directory.path(), &["prefetch", "app.json"])
            .env("NIX_REMOTE", remote)
            .env("NIX_DAEMON_SOCKET_PATH", &socket)
            .env("PATH", &path)
            .env("TMPDIR", &temporary)
            .spawn()
            .expect("a run");
        wait_for_signal_handlers(&child);
        let hangs = || Command::new("pgrep").args(["-f", "sleep 61.25"]).status();
        if remote == "local" {
            wait_until("nix-store hangs", || hangs().expect("pgrep").success());
        }
        assert!(child.try_wait().expect("a child").is_none(), "it ended too early");
        let id = child.id().to_string();
        Command::new("kill").args(["-s", "INT", &id]).status().expect("kill");
        assert_eq!(child.wait().expect("an end").code(), Some(130), "{remote}");
        assert_eq!(std::fs::read_dir(&temporary).expect("listed").count(), 0, "{remote}");
        wait_until("no child is left", || !hangs().expect("pgrep").success());
    }
}

#[test]
fn prefetch_needs_a_store_and_a_lockfile_that_names_a_registry() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["x"]));
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    n2c_in(directory.path(), &["lock", &reference, "--arch", "amd64", "-o", "lock.json"]);
    let output = crate::support::program::command(directory.path(), &["prefetch", "lock.json"])
        .env("PATH", directory.path())
        .env("NIX_REMOTE", "local")
        .output()
        .expect("a run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: failed to run `nix-store`: No such file"), "{stderr}");
    let manifest = format!("{ROOT}/lockfiles/alpine-manifest.json");
    let run = n2c_in(directory.path(), &["prefetch", &manifest]);
    assert!(run.error(2).contains("does not say which registry"), "{}", run.stderr);
}

/// Runs prefetch, which must fail, in a mount namespace that the script `prepare` has
/// changed. Checks that no blob is in the store, and returns stderr.
fn refused(nix: &Nix, prepare: &str) -> String {
    let script = format!("{prepare} && exec \"$0\" prefetch app.json");
    let program = nix.directory().join("n2c/bin/n2c");
    let program = program.to_str().expect("a path");
    let (success, stdout, stderr) = nix.try_run("sh", &["-c", &script, program]);
    assert!(!success && stdout.is_empty(), "{stdout}{stderr}");
    let left = std::fs::read_dir(nix.file("/nix/store")).expect("a store");
    let names = left.map(|entry| entry.expect("an entry").file_name());
    let blobs: Vec<_> = names.filter(|name| name.len() > 64 + 33).collect();
    assert_eq!(blobs, [""; 0], "blobs in the store");
    stderr
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn an_unusable_store_is_an_error() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    lock(&nix, &registry, "app.json", &["--arch", "amd64"]);
    nix.run("nix-store", &["--gc"]);
    let stderr = refused(&nix, "mount -o remount,bind,ro /nix");
    assert!(stderr.contains("error: `nix-store` failed"), "{stderr}");
    assert!(stderr.contains("writable"), "{stderr}");
    // The disk for temporary files is full.
    let stderr = refused(
        &nix,
        "mkdir -p full && mount -t tmpfs -o size=4k none full && export TMPDIR=$PWD/full && head -c 4096 /dev/zero > full/x",
    );
    assert!(stderr.contains("No space left on device"), "{stderr}");
    // The disk of the store is full: no half-written blob becomes valid.
    let stderr = refused(
        &nix,
        "cp -a /nix copy && mount -t tmpfs -o size=24m none /nix && cp -a copy/. /nix/ && rm -r copy && { head -c 24M /dev/zero > /nix/full || true; }",
    );
    assert!(stderr.contains("error: `nix-store` failed"), "{stderr}");
    // Once there is room again, the next run succeeds.
    let program = nix.directory().join("n2c/bin/n2c");
    nix.run(program.to_str().expect("a path"), &["prefetch", "app.json"]);
    nix.run("nix-store", &["--verify", "--check-contents"]);
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn a_daemon_that_refuses_access_is_an_error() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    nix.configure("allowed-users = root\n");
    lock(&nix, &registry, "app.json", &["--arch", "amd64"]);
    nix.run("nix-store", &["--gc"]);
    let _daemon = nix.start_daemon();
    let asked = registry.requests_of_n2c().len();
    let program = nix.directory().join("n2c/bin/n2c");
    let arguments = ["prefetch", "app.json"];
    let (success, stdout, stderr) =
        nix.try_run_as_nobody(program.to_str().expect("a path"), &arguments);
    assert!(!success && stdout.is_empty(), "{stdout}{stderr}");
    assert!(
        stderr.contains("error: the Nix daemon at `/nix/var/nix/daemon-socket/socket` failed"),
        "{stderr}"
    );
    // The daemon hangs up without a message.
    assert!(stderr.contains("hint: ") && stderr.contains("`allowed-users`"), "{stderr}");
    assert_eq!(registry.requests_of_n2c().len(), asked, "blobs were fetched in vain");
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn hash_adds_images_where_pull_image_looks() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    nix.run("nix-store", &["--gc"]);
    let program = nix.directory().join("n2c/bin/n2c");
    let program = program.to_str().expect("a path");
    let reference = registry.reference("team/app:1");
    let hash = |more: &[&str], is_daemon: bool| {
        let arguments = [&["hash", &reference, "--arch", "amd64", "--store"], more].concat();
        let (success, stdout, stderr) = if is_daemon {
            nix.try_run_as_nobody(program, &arguments)
        } else {
            nix.try_run(program, &arguments)
        };
        assert!(success, "{stderr}");
        let path = stderr.lines().find_map(|line| line.strip_prefix("note: added `"));
        (stdout, path.expect("a path").trim_end_matches('`').to_owned())
    };
    let eval = |expression: &str| -> String {
        let text = nix.run("nix-instantiate", &["--eval", "--json", "-E", expression]);
        serde_json::from_str(&text).expect("a string")
    };
    let (for_n2c, for_docker) = {
        let daemon = nix.start_daemon();
        let found = (hash(&[], true), hash(&["--for", "dockerTools"], true));
        drop(daemon);
        found
    };
    // `nix-store` adds them at the same paths.
    assert_eq!(hash(&[], false), for_n2c);
    assert_eq!(hash(&["--for", "dockerTools"], false), for_docker);
    // `n2c hash` prints the same without `--store`.
    let printed = n2c_in(nix.directory(), &["hash", &reference, "--arch", "amd64"]);
    assert_eq!(printed.text().trim(), for_n2c.0);
    drop(registry);
    let pulled =
        with_n2c(&nix, "x86_64-linux", &format!("(n2c.pullImage {}).src.outPath", for_n2c.0));
    assert_eq!(eval(&pulled), for_n2c.1);
    let built = with_n2c(&nix, "x86_64-linux", &format!("n2c.pullImage {}", for_n2c.0));
    nix.run("nix-build", &["--no-out-link", "-E", &built]);
    // The parts of nixpkgs' pullImage derivation that its path depends on.
    let archive = format!(
        "let image = {}; name = builtins.replaceStrings [ \"/\" \":\" ] [ \"-\" \"-\" ] \
         \"docker-image-${{image.finalImageName}}-${{image.finalImageTag}}.tar\"; in (derivation {{ \
         inherit name; system = \"x\"; builder = \"x\"; outputHashMode = \"flat\"; \
         outputHashAlgo = null; outputHash = image.hash; }}).outPath",
        for_docker.0
    );
    assert_eq!(eval(&archive), for_docker.1);
}
