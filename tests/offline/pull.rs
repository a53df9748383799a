//! `n2c pull` and `n2c hash` when something goes wrong: with the destination, the layers,
//! the network, or the process itself.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use n2c::oci::digest::{Algorithm, Digest, Hasher};
use serde_json::json;

use crate::support::images::{Blob, Image};
use crate::support::program::{Run, command, n2c_in, peak_memory, wait_until};
use crate::support::registry::{Registry, Reply};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MIB: usize = 1 << 20;

/// An image of these layers, whose config claims these diff IDs.
fn image(layers: Vec<Blob>, diff_ids: &[Digest]) -> Image {
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    Image::from_parts(&config, layers)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}

fn registry_with(image: &Image) -> Registry {
    let registry = Registry::start();
    registry.put_image("app", "1", image);
    registry
}

fn pull(directory: &Path, registry: &Registry, destination: &str) -> Run {
    n2c_in(directory, &["pull", &registry.reference("app:1"), destination, "--arch", "amd64"])
}

/// The names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn other_files_are_left_alone() {
    let registry = registry_with(&Image::new("linux/amd64", &["one"]));
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().join("home");
    std::fs::create_dir(&home).expect("a folder");
    std::fs::write(home.join("letter"), "dear").expect("written");
    let pull = |destination: &str| pull(directory.path(), &registry, destination);
    for transport in ["dir", "oci"] {
        let run = pull(&format!("{transport}:home"));
        assert!(run.error(1).contains("is not empty"), "{}", run.stderr);
        let run = pull(&format!("{transport}:home/letter"));
        assert!(run.error(1).contains("failed to prepare directory"), "{}", run.stderr);
    }
    for transport in ["oci-archive", "docker-archive"] {
        for name in ["home", "home/letter"] {
            let run = pull(&format!("{transport}:{name}"));
            assert!(
                run.error(1).contains("exists, and n2c can't add to an archive"),
                "{}",
                run.stderr
            );
        }
        pull(&format!("{transport}:none/x")).error(1);
        // An empty file may be the caller's `mktemp`.
        std::fs::write(directory.path().join("empty"), "").expect("written");
        let run = pull(&format!("{transport}:empty"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        std::fs::remove_file(directory.path().join("empty")).expect("removed");
    }
    // A directory with skopeo's version file, but also with a folder.
    std::fs::create_dir(home.join("inner")).expect("a folder");
    std::fs::write(home.join("version"), "Directory Transport Version: 1.1\n").expect("written");
    pull("dir:home").error(1);
    std::fs::write(directory.path().join("home/oci-layout"), "{}").expect("written");
    std::fs::write(directory.path().join("home/index.json"), "[").expect("written");
    assert!(pull("oci:home").error(8).contains("invalid `index.json`"));
    assert_eq!(names(directory.path()), ["home"]);
    assert_eq!(names(&home), ["index.json", "inner", "letter", "oci-layout", "version"]);
    assert_eq!(std::fs::read_to_string(home.join("letter")).expect("read"), "dear");

    assert!(pull("docker://home").error(2).contains("doesn't copy into a registry"));
    for destination in ["dir:", "home", "tar:home", "oci:home:"] {
        assert!(pull(destination).error(2).contains("invalid destination"), "{destination}");
    }
    let digest = format!("docker-archive:x:app@sha256:{}", "0".repeat(64));
    assert!(pull(&digest).error(2).contains("it has a digest"));
    let run = n2c_in(
        directory.path(),
        &["pull", &registry.reference("app:1"), "dir:x", "--additional-tag", "a:1"],
    );
    assert!(run.error(2).contains("`--additional-tag`"), "{}", run.stderr);
}

#[test]
fn a_colon_belongs_to_the_path_if_no_name_may_follow() {
    let registry = registry_with(&Image::new("linux/amd64", &["one"]));
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(pull(directory.path(), &registry, "dir:a:b").code, 0);
    assert!(directory.path().join("a:b/manifest.json").exists());
    assert_eq!(pull(directory.path(), &registry, "oci:a:b").code, 0);
    assert!(directory.path().join("a/index.json").exists());
}

#[test]
fn in_a_pipe_each_blob_is_reported_on_a_line() {
    let image = Image::new("linux/amd64", &["one", "two", "one"]);
    let registry = registry_with(&image);
    let directory = tempfile::tempdir().expect("a directory");
    let lines = |run: &Run, what: &str| {
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.is_empty());
        run.stderr.lines().filter(|line| line.starts_with(&format!("note: {what} `"))).count()
    };
    for destination in ["dir:d", "oci:o"] {
        let run = pull(directory.path(), &registry, destination);
        assert_eq!((lines(&run, "fetched"), lines(&run, "kept")), (3, 0), "{}", run.stderr);
        // Everything is there: no blob but the config is requested again.
        let asked = registry.log().len();
        let run = pull(directory.path(), &registry, destination);
        assert_eq!((lines(&run, "fetched"), lines(&run, "kept")), (0, 3), "{}", run.stderr);
        let log = registry.log().split_off(asked);
        assert_eq!(log.iter().filter(|line| line.contains("/blobs/")).count(), 1, "{log:?}");
        // A file that was changed since is fetched again.
        let blob = image.layers[1].digest();
        let path = match destination {
            "dir:d" => directory.path().join("d").join(blob.hex()),
            _ => directory.path().join("o/blobs/sha256").join(blob.hex()),
        };
        std::fs::write(&path, vec![0; image.layers[1].bytes.len()]).expect("written");
        let run = pull(directory.path(), &registry, destination);
        assert_eq!((lines(&run, "fetched"), lines(&run, "kept")), (1, 2), "{}", run.stderr);
        assert_eq!(std::fs::read(&path).expect("read"), image.layers[1].bytes);
    }
}

#[test]
fn a_layer_that_does_not_match_its_diff_id_is_rejected() {
    let layer = Blob::new(GZIP, gzip(b"one thing"));
    let wrong = image(vec![layer], &[Digest::sha256(b"another")]);
    let registry = registry_with(&wrong);
    let directory = tempfile::tempdir().expect("a directory");
    let run = pull(directory.path(), &registry, "docker-archive:a.tar");
    assert!(run.error(8).contains("wrong content of layer"), "{}", run.stderr);
    assert!(run.stderr.contains(&Digest::sha256(b"one thing").to_string()), "{}", run.stderr);
    let arguments = ["hash", &registry.reference("app:1"), "--for=dockerTools", "--arch=amd64"];
    assert!(n2c_in(directory.path(), &arguments).error(8).contains("wrong content of layer"));
    assert_eq!(names(directory.path()), [""; 0]);
    // A destination that stores layers compressed accepts it, as skopeo does.
    assert_eq!(pull(directory.path(), &registry, "dir:d").code, 0);
}

#[test]
fn gzip_that_is_truncated_or_followed_by_garbage_is_rejected() {
    let whole = gzip(&[7; 5000]);
    let diff_id = Digest::sha256(&[7; 5000]);
    for bytes in [[&whole, &b"garbage"[..]].concat(), whole[..whole.len() - 3].to_vec()] {
        let image = image(vec![Blob::new(GZIP, bytes)], std::slice::from_ref(&diff_id));
        let registry = registry_with(&image);
        let directory = tempfile::tempdir().expect("a directory");
        let run = pull(directory.path(), &registry, "docker-archive:a.tar");
        assert!(run.error(8).contains("failed to decompress layer"), "{}", run.stderr);
        assert_eq!(names(directory.path()), [""; 0]);
    }
    // Wrong bytes from the registry are reported as wrong, not as broken gzip.
    let image = image(vec![Blob::new(GZIP, whole.clone())], &[diff_id]);
    let registry = registry_with(&image);
    let path = format!("/blobs/{}", image.layers[0].digest());
    registry.hook(move |call| {
        call.target.ends_with(&path).then(|| Reply::new(200, vec![b'<'; whole.len()]))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let run = pull(directory.path(), &registry, "docker-archive:a.tar");
    assert!(run.error(8).contains("digest mismatch"), "{}", run.stderr);
}

/// A gzip layer of this many MiB of zeros, and the digest of the zeros.
fn zeros(mebibytes: usize) -> (Blob, Digest) {
    let (mut encoder, mut hasher) =
        (GzEncoder::new(Vec::new(), Compression::best()), Hasher::new(Algorithm::Sha256));
    let piece = vec![0; MIB];
    for _ in 0..mebibytes {
        encoder.write_all(&piece).expect("memory");
        hasher.update(&piece);
    }
    (Blob::new(GZIP, encoder.finish().expect("memory")), hasher.finish())
}

#[test]
fn a_decompression_bomb_costs_no_memory_and_its_diff_id_decides() {
    let (layer, diff_id) = zeros(1024);
    assert!(layer.bytes.len() < 2 * MIB, "a bomb is small");
    let directory = tempfile::tempdir().expect("a directory");
    for (claimed, code) in [(diff_id, 0), (Digest::sha256(b""), 8)] {
        let registry = registry_with(&image(vec![layer.clone()], &[claimed]));
        let reference = registry.reference("app:1");
        let arguments = ["hash", &reference, "--for=dockerTools", "--arch=amd64"];
        let (run, peak) = peak_memory(directory.path(), &arguments);
        assert_eq!(run.code, code);
        assert!(peak < 32 << 10, "{peak} KiB");
    }
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_large_image_costs_no_memory() {
    let bytes = vec![0x5a; 300 * MIB];
    let diff_id = Digest::sha256(&bytes);
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", bytes);
    let registry = registry_with(&image(vec![layer], &[diff_id]));
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    for destination in ["dir:d", "oci:o", "oci-archive:o.tar", "docker-archive:d.tar"] {
        let arguments = ["pull", &reference, destination, "--arch=amd64"];
        let (run, peak) = peak_memory(directory.path(), &arguments);
        assert_eq!(run.code, 0, "{destination}");
        assert!(peak < 32 << 10, "{destination}: {peak} KiB");
    }
}

#[test]
fn a_wrong_size_at_the_end_of_a_layer_costs_one_more_fetch() {
    // Two gzip members: the last four bytes give the size of the second only.
    let layer = Blob::new(GZIP, [gzip(b"first"), gzip(b"second one")].concat());
    let diff_id = Digest::sha256(b"firstsecond one");
    let members = image(vec![layer], &[diff_id]);
    let plain = image(vec![Blob::new(GZIP, gzip(b"alone"))], &[Digest::sha256(b"alone")]);
    let directory = tempfile::tempdir().expect("a directory");
    for (image, fetches) in [(plain, 2), (members, 3)] {
        let registry = registry_with(&image);
        let reference = registry.reference("app:1");
        let hash = n2c_in(
            directory.path(),
            &["hash", &reference, "--for=dockerTools", "--arch=amd64", "--json"],
        );
        let layer = image.layers[0].digest().to_string();
        let asked = registry.log().iter().filter(|line| line.contains(&layer)).count();
        assert_eq!(asked, fetches, "the end, and the whole");
        let archive = format!("docker-archive:{fetches}.tar:{reference}");
        assert_eq!(pull(directory.path(), &registry, &archive).code, 0);
        let bytes = std::fs::read(directory.path().join(format!("{fetches}.tar"))).expect("read");
        assert_eq!(hash.json()["hash"], Digest::sha256(&bytes).to_sri());
    }
    // A registry that doesn't serve ranges: a separate fetch finds the size.
    let image = Image::new("linux/amd64", &["whole"]);
    let registry = registry_with(&image);
    let reference = registry.reference("app:1");
    let arguments = ["hash", &reference, "--for=dockerTools", "--arch=amd64"];
    let expected = n2c_in(directory.path(), &arguments);
    let layer = image.layers[0].clone();
    registry.hook(move |call| {
        call.target
            .ends_with(&layer.digest().to_string())
            .then(|| Reply::new(200, layer.bytes.clone()))
    });
    assert_eq!(n2c_in(directory.path(), &arguments).text(), expected.text());
}

#[test]
fn a_broken_connection_in_a_layer_harms_no_archive() {
    // Bytes that don't compress, so that a cut falls in the middle of data.
    let noise: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| Digest::sha256(&n.to_le_bytes()).hex().as_bytes()[..8].to_vec())
        .collect();
    let image = image(vec![Blob::new(GZIP, gzip(&noise))], &[Digest::sha256(&noise)]);
    let registry = registry_with(&image);
    let directory = tempfile::tempdir().expect("a directory");
    let archive = |name: &str| {
        let run = pull(directory.path(), &registry, &format!("docker-archive:{name}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        std::fs::read(directory.path().join(name)).expect("an archive")
    };
    let whole = archive("whole.tar");
    let (layer, tries) = (image.layers[0].clone(), std::sync::atomic::AtomicUsize::new(0));
    registry.hook(move |call| {
        let is_layer = call.target.ends_with(&layer.digest().to_string());
        let half = layer.bytes.len() / 2;
        match tries.fetch_add(usize::from(is_layer), std::sync::atomic::Ordering::SeqCst) {
            // A right piece, then a wrong one, and finally the right bytes.
            0 if is_layer => {
                Some(Reply::broken(200, layer.bytes[..half].to_vec(), layer.bytes.len()))
            }
            1 if is_layer => {
                let range = format!("bytes {half}-{}/{}", layer.bytes.len() - 1, layer.bytes.len());
                let wrong = vec![0xff; layer.bytes.len() - half];
                Some(Reply::new(206, wrong).with("content-range", range))
            }
            _ => None,
        }
    });
    assert!(archive("again.tar") == whole, "the archives differ");
}

#[test]
fn an_interrupted_pull_resumes_and_leaves_no_partial_image() {
    let layers: Vec<Vec<u8>> = (0..4_u8).map(|n| vec![n; 3 * MIB]).collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|bytes| Digest::sha256(bytes)).collect();
    let plain = "application/vnd.oci.image.layer.v1.tar";
    let blobs = layers.into_iter().map(|bytes| Blob::new(plain, bytes)).collect();
    let image = image(blobs, &diff_ids);
    let registry = registry_with(&image);
    // The layer that is fetched last never ends.
    let last = image.layers.iter().max_by_key(|layer| layer.digest()).expect("layers").clone();
    let stalled = last.digest().to_string();
    registry.hook(move |call| {
        call.target.ends_with(&last.digest().to_string()).then(|| {
            Reply {
                body: crate::support::registry::ReplyBody::Stalled(
                    last.bytes[..MIB].to_vec().into(),
                ),
                ..Reply::new(200, "")
            }
            .with("content-length", last.bytes.len().to_string())
        })
    });
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    for (signal, destination) in [
        ("INT", "dir:d"),
        ("KILL", "dir:d"),
        ("INT", "oci:o"),
        ("KILL", "oci:o"),
        ("INT", "docker-archive:d.tar"),
        ("KILL", "docker-archive:d.tar"),
        ("TERM", "oci-archive:o.tar"),
        ("KILL", "oci-archive:o.tar"),
    ] {
        let arguments = ["pull", &reference, destination, "--arch=amd64", "--jobs=1"];
        let asked = registry.log().len();
        let mut child = command(directory.path(), &arguments).spawn().expect("a run");
        wait_until("the last layer is requested", || {
            registry.log()[asked..].iter().any(|line| line.ends_with(&stalled))
        });
        // Where each has a file of its own, the others are there, or soon will be.
        let folder = match destination {
            "dir:d" => Some("d"),
            "oci:o" => Some("o/blobs/sha256"),
            _ => None,
        };
        let is_stored = |digest: Digest| {
            folder.is_none_or(|folder| directory.path().join(folder).join(digest.hex()).exists())
        };
        wait_until("the other layers are stored", || {
            let mut digests = image.layers.iter().map(Blob::digest);
            digests.all(|digest| digest.to_string() == stalled || is_stored(digest))
        });
        let id = child.id().to_string();
        Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("a signal");
        let code = child.wait().expect("an end").code();
        assert_ne!(code, Some(0));
        for whole in ["d/manifest.json", "o/index.json", "d.tar", "o.tar"] {
            assert!(!directory.path().join(whole).exists(), "{whole} after {signal}");
        }
        let left = names(directory.path()).into_iter().filter(|name| name.starts_with(".n2c-"));
        let left: Vec<String> = left.collect();
        // Only `kill -9` leaves a temporary file, whose name shows that it is n2c's.
        assert!(signal == "KILL" || left.is_empty(), "{left:?} after {signal}");
        for name in left {
            std::fs::remove_file(directory.path().join(name)).expect("removed");
        }
    }
    // Three of four layers are here; only the last is requested.
    registry.hook(|_| None);
    for destination in ["dir:d", "oci:o"] {
        let asked = registry.log().len();
        assert_eq!(pull(directory.path(), &registry, destination).code, 0);
        let log = registry.log().split_off(asked);
        let fetched = log.iter().filter(|line| {
            image.layers.iter().any(|layer| line.contains(&layer.digest().to_string()))
        });
        assert_eq!(fetched.count(), 1, "{destination}: {log:?}");
    }
    let files = names(&directory.path().join("d"));
    assert!(files.iter().all(|name| !name.starts_with(".n2c-")), "{files:?}");
}

#[test]
#[ignore = "needs root for a small file system; run `tests/run`"]
fn a_full_disk_is_an_error() {
    let bytes = vec![0x5a; 4 * MIB];
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", bytes.clone());
    let registry = registry_with(&image(vec![layer], &[Digest::sha256(&bytes)]));
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("place");
    std::fs::create_dir(&place).expect("a folder");
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
        .expect("a mode");
    let reference = registry.reference("app:1");
    for transport in ["dir", "oci", "oci-archive", "docker-archive"] {
        // Everything runs in its own mount namespace, which disappears at the end.
        let script = format!(
            "mount -t tmpfs -o size=2m,mode=0777 none {0} && \"$0\" pull {reference} {transport}:{0}/x --arch amd64; \
             code=$?; ls -A {0} >&2; exit $code",
            place.display()
        );
        let program = crate::support::program::binary();
        let output =
            Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(&program).output();
        let output = output.expect("unshare");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("No space left on device"), "{stderr}");
        assert!(!stderr.contains(".n2c-") && !stderr.contains("panicked"), "{stderr}");
    }
}

/// A destination for each transport.
const DESTINATIONS: [&str; 4] = ["dir:d", "oci:o", "oci-archive:o.tar", "docker-archive:d.tar"];

/// The number of ways to read an image: the four transports, and both hashes.
const WAYS: usize = DESTINATIONS.len() + 2;

/// Reads the image in one of these ways.
fn one_way(registry: &Registry, way: usize) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    if let Some(destination) = DESTINATIONS.get(way) {
        return pull(directory.path(), registry, destination);
    }
    let reference = registry.reference("app:1");
    let purpose = if way == DESTINATIONS.len() { "nix2container" } else { "dockerTools" };
    n2c_in(directory.path(), &["hash", &reference, "--for", purpose, "--arch=amd64"])
}

fn all_ways(registry: &Registry) -> Vec<Run> {
    (0..WAYS).map(|way| one_way(registry, way)).collect()
}

/// Makes the registry answer requests for this layer with `reply`.
fn serve_layer(
    registry: &Registry,
    digest: &Digest,
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) {
    let end = format!("/blobs/{digest}");
    registry.hook(move |call| call.target.ends_with(&end).then(&reply));
}

#[test]
fn a_wrong_size_is_rejected_in_every_way() {
    let text = [9; 4000];
    for (claimed, is_encoded) in [(9000, false), (3000, false), (3000, true), (9000, true)] {
        let layer = Blob::new(GZIP, gzip(&text));
        let actual = layer.bytes.len();
        let mut image = image(vec![layer.clone()], &[Digest::sha256(&text)]);
        let manifest = String::from_utf8(image.manifest.bytes.clone()).expect("text");
        let size = format!("\"size\":{actual}");
        assert!(manifest.contains(&size));
        image.manifest.bytes = manifest.replace(&size, &format!("\"size\":{claimed}")).into();
        let registry = registry_with(&image);
        let bytes = layer.bytes.clone();
        // In pieces, so that no header gives the length.
        serve_layer(&registry, &layer.digest(), move || {
            let pieces = Box::new(std::iter::once(bytes.clone().into()));
            let body = crate::support::registry::ReplyBody::Pieces { pieces, broken: false };
            let reply = Reply { body, ..Reply::new(200, "") };
            if is_encoded { reply.with("content-encoding", "gzip") } else { reply }
        });
        for run in all_ways(&registry) {
            assert!(run.error(8).contains("mismatch"), "{claimed}: {}", run.stderr);
        }
    }
}

#[test]
fn impossible_sizes_are_rejected() {
    for size in [u64::MAX, 1 << 63, i64::MAX.unsigned_abs()] {
        let layer = Blob::new(GZIP, gzip(b"x"));
        let actual = format!("\"size\":{}", layer.bytes.len());
        let mut image = image(vec![layer], &[Digest::sha256(b"x")]);
        let manifest = String::from_utf8(image.manifest.bytes.clone()).expect("text");
        image.manifest.bytes = manifest.replace(&actual, &format!("\"size\":{size}")).into();
        for run in all_ways(&registry_with(&image)) {
            assert!([1, 8].contains(&run.code), "{size}: {}", run.stderr);
            assert!(!run.stderr.contains("panicked") && run.stdout.is_empty(), "{}", run.stderr);
        }
    }
}

#[test]
fn rule_57_content_encoding_is_decoded_in_every_way() {
    let text = [7; 9000];
    let layer = Blob::new(GZIP, gzip(&text));
    let registry = registry_with(&image(vec![layer.clone()], &[Digest::sha256(&text)]));
    let expected: Vec<Vec<u8>> = all_ways(&registry).into_iter().map(|run| run.stdout).collect();
    let encoded = gzip(&layer.bytes);
    serve_layer(&registry, &layer.digest(), move || {
        Reply::new(200, encoded.clone()).with("content-encoding", "gzip")
    });
    for (run, expected) in all_ways(&registry).into_iter().zip(expected) {
        assert_eq!((run.code, run.stdout), (0, expected), "{}", run.stderr);
    }
}

#[test]
fn wrong_pieces_leave_no_trace() {
    // Two gzip members. In the first attempt, the second one is wrong: it decompresses to
    // more bytes than the right one, or is no gzip at all.
    let bytes = [gzip(&[1; 100]), gzip(&[3; 200])].concat();
    let text = [vec![1; 100], vec![3; 200]].concat();
    let layer = Blob::new(GZIP, bytes.clone());
    let registry = registry_with(&image(vec![layer.clone()], &[Digest::sha256(&text)]));
    let directory = tempfile::tempdir().expect("a directory");
    let archive = || {
        let run = pull(directory.path(), &registry, "docker-archive:a.tar");
        assert_eq!(run.code, 0, "{}", run.stderr);
        let bytes = std::fs::read(directory.path().join("a.tar")).expect("an archive");
        std::fs::remove_file(directory.path().join("a.tar")).expect("removed");
        bytes
    };
    let clean: Vec<Vec<u8>> = all_ways(&registry).into_iter().map(|run| run.stdout).collect();
    let whole = archive();
    for second in [gzip(&vec![2; 30_000]), vec![0xff; 40]] {
        let mut first = [gzip(&[1; 100]), second].concat();
        first.truncate(bytes.len() - 1);
        let stumble = || {
            let (first, bytes) = (first.clone(), bytes.clone());
            let (end, tries) =
                (format!("/blobs/{}", layer.digest()), std::sync::atomic::AtomicUsize::new(0));
            registry.hook(move |call| {
                let is_layer = call.target.ends_with(&end) && call.header("range").is_none();
                let is_first =
                    is_layer && tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
                is_first.then(|| Reply::broken(200, first.clone(), bytes.len()))
            });
        };
        stumble();
        assert!(archive() == whole, "the archives differ");
        for (way, clean) in clean.iter().enumerate() {
            stumble();
            let run = one_way(&registry, way);
            assert_eq!((run.code, &run.stdout), (0, clean), "{way}: {}", run.stderr);
        }
    }
}

#[test]
fn a_failed_pull_keeps_the_existing_image() {
    let old = Image::new("linux/amd64", &["one", "two"]);
    let registry = registry_with(&old);
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(pull(directory.path(), &registry, "dir:d").code, 0);
    let before = names(&directory.path().join("d"));
    let new = Image::new("linux/amd64", &["three", "two"]);
    registry.put_image("app", "1", &new);
    serve_layer(&registry, &new.layers[0].digest(), || Reply::new(404, ""));
    pull(directory.path(), &registry, "dir:d").error(4);
    let after = names(&directory.path().join("d"));
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    let manifest = std::fs::read(directory.path().join("d/manifest.json")).expect("read");
    assert_eq!(manifest, old.manifest.bytes);
    registry.hook(|_| None);
    assert_eq!(pull(directory.path(), &registry, "dir:d").code, 0);
    assert_eq!(names(&directory.path().join("d")).len(), 5, "leftover files are removed");
    // A directory of another version may hold anything.
    std::fs::write(directory.path().join("d/version"), "Directory Transport Version: 2.0\n")
        .expect("written");
    pull(directory.path(), &registry, "dir:d").error(1);
    assert_eq!(names(&directory.path().join("d")).len(), 5);
}

#[test]
fn layers_do_not_wait_for_the_config() {
    let texts: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let image = Image::new("linux/amd64", &texts);
    let registry = registry_with(&image);
    for jobs in ["1", "4"] {
        let config = format!("/blobs/{}", image.config.digest());
        let asked = AtomicUsize::new(0);
        registry.hook(move |call| {
            let is_config = call.target.ends_with(&config);
            if call.target.contains("/blobs/") && !is_config {
                asked.fetch_add(1, Ordering::Relaxed);
            }
            // The config is served only after all layers were requested.
            (is_config && asked.load(Ordering::Relaxed) < 100).then(|| Reply::new(503, ""))
        });
        let directory = tempfile::tempdir().expect("a directory");
        let reference = registry.reference("app:1");
        let arguments = ["pull", &reference, "dir:d", "--arch", "amd64", "--jobs", jobs];
        let run = n2c_in(directory.path(), &arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(names(&directory.path().join("d")).len(), 103);
        let config = std::fs::read(directory.path().join("d").join(image.config.digest().hex()));
        assert_eq!(config.expect("read"), image.config.bytes);
    }
}

#[test]
fn a_wrong_image_leaves_nothing_behind() {
    let registry = registry_with(&Image::new("linux/amd64", &["one", "two"]));
    let layer = Blob::new(GZIP, gzip(b"layer"));
    let uneven = image(vec![layer.clone()], &[]);
    registry.put_image("uneven", "1", &uneven);
    let directory = tempfile::tempdir().expect("a directory");
    let pull = |image: &str, platform: &str| {
        let reference = registry.reference(image);
        n2c_in(directory.path(), &["pull", &reference, "dir:a/b", "--platform", platform])
    };
    pull("app:1", "linux/arm64").error(4);
    pull("uneven:1", "linux/amd64").error(8);
    assert_eq!(names(directory.path()), [""; 0]);
    // An existing image stays as it is, even if the layers arrive before the config. The
    // leftover of a killed pull doesn't count as an image.
    std::fs::create_dir_all(directory.path().join("a/b")).expect("a folder");
    std::fs::write(directory.path().join("a/b/.n2c-1.tmp"), "").expect("written");
    assert_eq!(pull("app:1", "linux/amd64").code, 0);
    let before = names(&directory.path().join("a/b"));
    assert_eq!(before.len(), 5);
    let hold_config = |status: u16| {
        let is_asked = AtomicBool::new(false);
        let [layer, config] = [&layer, &uneven.config].map(|blob| blob.digest().to_string());
        registry.hook(move |call| {
            if call.target.ends_with(&layer) {
                is_asked.store(true, Ordering::Relaxed);
                return (status != 200).then(|| Reply::new(status, ""));
            }
            let is_early = call.target.ends_with(&config) && !is_asked.load(Ordering::Relaxed);
            is_early.then(|| Reply::new(503, ""))
        });
    };
    for status in [200, 403] {
        hold_config(status);
        pull("uneven:1", "linux/amd64").error(8);
        assert_eq!(names(&directory.path().join("a/b")), before);
    }
}

#[test]
fn links_in_a_destination_are_not_followed() {
    let image = Image::new("linux/amd64", &["one"]);
    let registry = registry_with(&image);
    for (destination, folder) in [("dir:d", "d"), ("oci:o", "o/blobs/sha256")] {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(pull(directory.path(), &registry, destination).code, 0);
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "mine").expect("written");
        std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let blob = directory.path().join(folder).join(image.layers[0].digest().hex());
        std::fs::remove_file(&blob).expect("removed");
        std::os::unix::fs::symlink(&victim, &blob).expect("a link");
        assert_eq!(pull(directory.path(), &registry, destination).code, 0);
        assert_eq!(std::fs::read_to_string(&victim).expect("read"), "mine");
        let mode = victim.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(std::fs::read(&blob).expect("read"), image.layers[0].bytes);
    }
}

#[test]
fn a_layout_keeps_all_images_of_concurrent_pulls() {
    let registry = Registry::start();
    for tag in 0..6 {
        registry.put_image(
            "app",
            &tag.to_string(),
            &Image::new("linux/amd64", &[&tag.to_string()]),
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::thread::scope(|scope| {
        for tag in 0..6 {
            let (reference, directory) =
                (registry.reference(&format!("app:{tag}")), directory.path());
            scope.spawn(move || {
                let run = n2c_in(
                    directory,
                    &["pull", &reference, &format!("oci:o:{tag}"), "--arch=amd64"],
                );
                assert_eq!(run.code, 0, "{}", run.stderr);
            });
        }
    });
    for tag in 0..6 {
        let run = n2c_in(directory.path(), &["lock", &format!("oci:o:{tag}"), "--arch=amd64"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let index = directory.path().join("o/index.json");
    std::fs::write(&index, "{\"manifests\": {}}").expect("written");
    let reference = registry.reference("app:1");
    let run = n2c_in(directory.path(), &["pull", &reference, "oci:o:1", "--arch=amd64"]);
    assert!(run.error(8).contains("invalid `index.json`"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(&index).expect("read"), "{\"manifests\": {}}");
}

#[test]
fn wrong_bytes_in_a_layout_are_rejected() {
    let image = Image::new("linux/amd64", &["one"]);
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    crate::support::images::write_layout(
        &layout,
        &[("1", &image.manifest)],
        &[&image.config, &image.layers[0]],
    );
    let blob = layout.join("blobs/sha256").join(image.layers[0].digest().hex());
    std::fs::write(blob, vec![0; image.layers[0].bytes.len()]).expect("written");
    for destination in DESTINATIONS {
        let run = n2c_in(directory.path(), &["pull", "oci:layout:1", destination, "--arch=amd64"]);
        assert!(run.error(8).contains("digest mismatch"), "{}", run.stderr);
    }
    // A layout whose path contains a colon.
    let odd = directory.path().join("a:b");
    crate::support::images::write_layout(
        &odd,
        &[("1", &image.manifest)],
        &[&image.config, &image.layers[0]],
    );
    let run = n2c_in(directory.path(), &["image-from-dir", "out.json", "a:b"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // Sources that `n2c lock` doesn't read.
    for source in ["dir:layout", "docker-archive:x.tar", "lock:x.json"] {
        let run = n2c_in(directory.path(), &["lock", source]);
        assert!(run.error(2).contains("n2c doesn't read images from"), "{}", run.stderr);
    }
}

#[test]
fn a_layouts_index_has_a_media_type() {
    let registry = registry_with(&Image::new("linux/amd64", &["one"]));
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(pull(directory.path(), &registry, "oci:o:1").code, 0);
    let index = std::fs::read(directory.path().join("o/index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    assert_eq!(index["mediaType"], n2c::oci::media_type::OCI_INDEX);
}

// Like skopeo, which doesn't assume a default tag here.
#[test]
fn an_additional_tag_needs_a_name_and_a_tag() {
    let registry = registry_with(&Image::new("linux/amd64", &["one"]));
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    let pull = |name: &str| {
        let arguments = ["pull", &reference, "docker-archive:a.tar:x:1", "--arch=amd64"];
        n2c_in(directory.path(), &[&arguments[..], &["--additional-tag", name]].concat())
    };
    for name in ["b", "host:5000/b", &format!("b@{}", Digest::sha256(b""))] {
        pull(name).error(2);
    }
    assert_eq!(names(directory.path()), [""; 0]);
    assert_eq!(pull("host:5000/b:2").code, 0);
}

// util-linux's `script` gives n2c a terminal.
#[test]
fn a_pull_on_a_terminal_ends_with_a_summary() {
    let registry = registry_with(&Image::new("linux/amd64", &["one", "two"]));
    let directory = tempfile::tempdir().expect("a directory");
    let program = crate::support::program::binary();
    let pull = |more: &str| {
        let reference = registry.reference("app:1");
        let line = format!("{} pull {reference} dir:d --arch=amd64 {more}", program.display());
        let mut script = Command::new("script");
        let script = script.args(["-qec", &line, "/dev/null"]).current_dir(directory.path());
        let output = script.stdin(Stdio::null()).output().expect("script");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let first = pull("");
    assert!(first.contains("copied to `dir:d`: 3 blobs, "), "{first}");
    let second = pull("");
    assert!(second.contains("copied to `dir:d`: 0 blobs, 0 B, 3 were there already"), "{second}");
    assert!(!pull("-q").contains("pulled"));
    assert!(!self::pull(directory.path(), &registry, "dir:d").stderr.contains("pulled"));
}

#[test]
fn a_lockfile_is_pulled_as_it_was_locked() {
    let image = Image::new("linux/amd64", &["one", "two"]);
    let registry = registry_with(&image);
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    let n2c = |arguments: &[&str]| n2c_in(directory.path(), arguments);
    n2c(&["lock", &reference, "--arch=amd64", "-o", "a.json"]).text();
    let whole = std::fs::read_to_string(directory.path().join("a.json")).expect("read");
    // The tag moves on.
    registry.put_image("app", &image.manifest.digest().to_string(), &image);
    registry.put_image("app", "1", &Image::new("linux/amd64", &["other"]));
    assert_eq!(n2c(&["pull", "lock:a.json", "dir:d"]).code, 0);
    let manifest = std::fs::read(directory.path().join("d/manifest.json")).expect("read");
    assert_eq!(manifest, image.manifest.bytes);
    let digest = |blob: &Blob| blob.digest().to_string();
    let other = Digest::sha256(b"other").to_string();
    for (from, destinations) in [
        // A changed layer contradicts the manifest, a changed diff ID the config.
        (digest(&image.layers[1]), &["dir:x", "oci:x", "oci-archive:x"][..]),
        (diff_id_of("two"), &DESTINATIONS[..]),
    ] {
        std::fs::write(directory.path().join("b.json"), whole.replace(&from, &other))
            .expect("written");
        for destination in destinations {
            let run = n2c(&["pull", "lock:b.json", destination]);
            assert!([1, 8].contains(&run.code), "{destination}: {}", run.stderr);
            assert!(
                run.error(run.code).contains("does not match its manifest and config")
                    || run.stderr.contains("is not empty")
                    || run.stderr.contains("exists"),
                "{}",
                run.stderr
            );
        }
    }
    let run = n2c(&["pull", "lock:b.json", "docker-archive:y.tar"]);
    assert!(run.error(8).contains("does not match its manifest and config"), "{}", run.stderr);
    // A lockfile that was made from a layout.
    n2c(&["pull", &reference, "oci:layout:1", "--arch=amd64"]);
    n2c(&["lock", "oci:layout:1", "--arch=amd64", "-o", "l.json"]).text();
    assert_eq!(n2c(&["pull", "lock:l.json", "docker-archive:z.tar"]).code, 0);
    assert_eq!(n2c(&["pull", "lock:l.json", "oci-archive:z2.tar"]).code, 0);
}

/// The diff ID of a layer of [`Image::new`].
fn diff_id_of(text: &str) -> String {
    crate::support::images::layer(text).1.to_string()
}

#[test]
fn blobs_from_the_store_are_verified_too() {
    let image = Image::new("linux/amd64", &["one"]);
    let registry = registry_with(&image);
    registry.put_image("app", &image.manifest.digest().to_string(), &image);
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    n2c_in(directory.path(), &["lock", &reference, "--arch=amd64", "-o", "a.json"]).text();
    let store = directory.path().join("store");
    std::fs::create_dir(&store).expect("a folder");
    let store_directory =
        n2c::store::StoreDirectory::new(store.to_str().expect("a path")).expect("absolute");
    let pull = |destination: &str| {
        let output = command(directory.path(), &["pull", "lock:a.json", destination])
            .env("NIX_STORE_DIR", &store)
            .output()
            .expect("a run");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (name, blob) in
        [("layer", &image.layers[0]), ("config", &image.config), ("manifest", &image.manifest)]
    {
        let path = store_directory.blob_path(&blob.digest()).to_string();
        // Wrong bytes, but valid JSON of the right size.
        let wrong = format!("{{}}{}", " ".repeat(blob.bytes.len() - 2));
        std::fs::write(&path, wrong).expect("written");
        let (code, stderr) = pull("dir:d");
        assert_eq!(code, Some(8), "{name}: {stderr}");
        assert!(stderr.contains("digest mismatch"), "{name}: {stderr}");
        std::fs::write(&path, &blob.bytes).expect("written");
    }
    // Everything is there: nothing is requested.
    let asked = registry.log().len();
    assert_eq!(pull("dir:d").0, Some(0));
    assert_eq!(registry.log().len(), asked);
}

#[test]
fn hash_names_the_platforms_own_manifest() {
    let all = ["linux/amd64", "linux/arm64"].map(|platform| Image::new(platform, &[platform]));
    let index = crate::support::images::index(&[
        all[0].manifest.entry("linux/amd64"),
        all[1].manifest.entry("linux/arm64"),
    ]);
    let registry = Registry::start();
    for image in &all {
        registry.put_image("app", &image.manifest.digest().to_string(), image);
    }
    registry.put_manifest("app", "1", &index);
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("app:1");
    let hash = n2c_in(directory.path(), &["hash", &reference, "--arch=arm64", "--json"]).json();
    assert_eq!(hash["imageDigest"], all[1].manifest.digest().to_string());
    for arguments in [
        &["--final-image-name", "x"][..],
        &["--for=dockerTools", "--final-image-name", "x:1"],
        &["--platform=linux/amd64", "--platform=linux/arm64"],
    ] {
        n2c_in(directory.path(), &[&["hash", &reference], arguments].concat()).error(2);
    }
}
