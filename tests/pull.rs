//! `n2c pull` and `n2c hash` where something is wrong: the destination, the layers,
//! the network, or the end of the process.

#![allow(missing_docs)]

mod support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use n2c::digest::{Algorithm, Digest, Hasher};
use serde_json::json;

use support::images::{Blob, Image};
use support::program::{Run, command, n2c_in, peak_memory};
use support::registry::{Registry, Reply};

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
fn what_is_not_ours_is_left_alone() {
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
                run.error(1).contains("exists, and archives are not added to"),
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
    // skopeo's own folder within.
    std::fs::create_dir(home.join("inner")).expect("a folder");
    std::fs::write(home.join("version"), "Directory Transport Version: 1.1\n").expect("written");
    pull("dir:home").error(1);
    std::fs::write(directory.path().join("home/oci-layout"), "{}").expect("written");
    std::fs::write(directory.path().join("home/index.json"), "[").expect("written");
    assert!(pull("oci:home").error(8).contains("invalid `index.json`"));
    assert_eq!(names(directory.path()), ["home"]);
    assert_eq!(names(&home), ["index.json", "inner", "letter", "oci-layout", "version"]);
    assert_eq!(std::fs::read_to_string(home.join("letter")).expect("read"), "dear");

    for destination in ["dir:", "home", "tar:home", "docker://home", "oci:home:"] {
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
fn a_colon_in_a_path_is_part_of_it_where_no_name_follows() {
    let registry = registry_with(&Image::new("linux/amd64", &["one"]));
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!(pull(directory.path(), &registry, "dir:a:b").code, 0);
    assert!(directory.path().join("a:b/manifest.json").exists());
    assert_eq!(pull(directory.path(), &registry, "oci:a:b").code, 0);
    assert!(directory.path().join("a/index.json").exists());
}

#[test]
fn one_line_each_tells_of_it_in_a_pipe() {
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
        // All is there: no blob is asked for again.
        let asked = registry.log().len();
        let run = pull(directory.path(), &registry, destination);
        assert_eq!((lines(&run, "fetched"), lines(&run, "kept")), (0, 3), "{}", run.stderr);
        let log = registry.log().split_off(asked);
        assert_eq!(log.iter().filter(|line| line.contains("/blobs/")).count(), 1, "{log:?}");
        // What was changed since is fetched again.
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
fn a_layer_that_is_not_its_diff_id_is_noticed() {
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
    // Who keeps it compressed keeps it as it is, as skopeo does.
    assert_eq!(pull(directory.path(), &registry, "dir:d").code, 0);
}

#[test]
fn gzip_that_is_cut_off_or_followed_by_garbage_is_refused() {
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
    // What a registry serves instead is told as such, not as broken gzip.
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

/// A gzip layer of so many MiB of zeros, and their digest.
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
fn a_bomb_costs_no_memory_and_its_diff_id_decides() {
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
fn a_size_that_the_end_of_a_layer_tells_wrong_costs_one_more_fetch() {
    // Two members: the last four bytes tell of the second alone.
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
    // A registry that serves no parts: the size comes from a fetch of its own.
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
    // Bytes that do not compress, so that a cut is in the middle of something.
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
            // A piece, then a piece with other bytes, and at last the truth.
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
fn what_is_killed_goes_on_and_leaves_nothing_half() {
    let layers: Vec<Vec<u8>> = (0..4_u8).map(|n| vec![n; 3 * MIB]).collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|bytes| Digest::sha256(bytes)).collect();
    let plain = "application/vnd.oci.image.layer.v1.tar";
    let blobs = layers.into_iter().map(|bytes| Blob::new(plain, bytes)).collect();
    let image = image(blobs, &diff_ids);
    let registry = registry_with(&image);
    // The layer that is fetched last never ends.
    let last = image.layers.iter().max_by_key(|layer| layer.digest()).expect("layers").clone();
    registry.hook(move |call| {
        call.target.ends_with(&last.digest().to_string()).then(|| {
            Reply {
                body: support::registry::ReplyBody::Stalled(last.bytes[..MIB].to_vec().into()),
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
        let mut child = command(directory.path(), &arguments).spawn().expect("a run");
        std::thread::sleep(Duration::from_millis(700));
        let id = child.id().to_string();
        Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("a signal");
        let code = child.wait().expect("an end").code();
        assert_ne!(code, Some(0));
        for whole in ["d/manifest.json", "o/index.json", "d.tar", "o.tar"] {
            assert!(!directory.path().join(whole).exists(), "{whole} after {signal}");
        }
        let left = names(directory.path()).into_iter().filter(|name| name.starts_with(".n2c-"));
        let left: Vec<String> = left.collect();
        // What only `kill -9` leaves is of no use, and says whose it is.
        assert!(signal == "KILL" || left.is_empty(), "{left:?} after {signal}");
        for name in left {
            std::fs::remove_file(directory.path().join(name)).expect("removed");
        }
    }
    // Three layers of four are here; the last alone is asked for.
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
fn a_full_disk_and_a_place_that_is_not_mine_are_errors() {
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
        // All in a mount namespace of its own, which ends with it.
        let script = format!(
            "mount -t tmpfs -o size=2m,mode=0777 none {0} && \"$0\" pull {reference} {transport}:{0}/x --arch amd64; \
             code=$?; ls -A {0} >&2; exit $code",
            place.display()
        );
        let program = support::program::binary();
        let output =
            Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(&program).output();
        let output = output.expect("unshare");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("No space left on device"), "{stderr}");
        assert!(!stderr.contains(".n2c-") && !stderr.contains("panicked"), "{stderr}");
    }
}
