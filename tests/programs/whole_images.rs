//! `n2c pull`, `n2c hash` and `n2c image-from-dir` compared with real tools: n2c's images
//! equal skopeo's to the byte, and other tools can read them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use n2c::oci::digest::Digest;
use n2c::oci::media_type;
use serde_json::{Value, json};

use crate::support::images::{self, Blob, Image};
use crate::support::program::n2c_in;
use crate::support::tools::{Distribution, busybox_root, run, skopeo};

/// How layers are compressed.
#[derive(Clone, Copy)]
enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// A tar archive with one file.
fn archive(text: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "hello.txt", text.as_bytes()).expect("memory");
    archive.into_inner().expect("memory")
}

fn compress(archive: &[u8], compression: Compression) -> Blob {
    let oci = |suffix: &str| format!("application/vnd.oci.image.layer.v1.tar{suffix}");
    match compression {
        Compression::Plain => Blob::new(&oci(""), archive),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(archive).expect("memory");
            Blob::new(&oci("+gzip"), gzip.finish().expect("memory"))
        }
        Compression::Zstd => {
            Blob::new(&oci("+zstd"), zstd::encode_all(archive, 3).expect("memory"))
        }
    }
}

/// A config with unusual but valid JSON. `more` is inserted before its end.
fn odd_config(diff_ids: &[Digest], more: &str) -> String {
    let diff_ids: Vec<String> = diff_ids.iter().map(|digest| format!("\"{digest}\"")).collect();
    format!(
        "{{ \"rootfs\" : {{\"type\":\"layers\", \"diff_ids\":[{}]}},\n\t\"os\":\"linux\", \"created\": \"2026-01-02T03:04:05.060Z\",\
         \"config\" : {{ \"Labels\": {{\"z\": \"<b> & \u{2028} \\u00e9 é 日本 \\\\ \\\" \\/\", \"a\": \"\"}}, \
         \"Cmd\" : null, \"Volumes\":{{\"/a b\":{{}}}}, \"x-number\": 1.50, \"x-large\": 1E+3 }} , \
         \"architecture\":\"amd64\",\"unknown\":[ 1 ,2]{more} }}",
        diff_ids.join(", ")
    )
}

/// An image of these layers, with Docker's or OCI's media types.
fn image(archives: &[Vec<u8>], compression: Compression, is_docker: bool, more: &str) -> Image {
    let diff_ids: Vec<Digest> = archives.iter().map(|bytes| Digest::sha256(bytes)).collect();
    let mut layers: Vec<Blob> =
        archives.iter().map(|archive| compress(archive, compression)).collect();
    let config = odd_config(&diff_ids, more);
    let mut config = Blob::new(media_type::OCI_CONFIG, config);
    let mut manifest_type = media_type::OCI_MANIFEST;
    if is_docker {
        manifest_type = media_type::DOCKER_MANIFEST;
        config = Blob::new(media_type::DOCKER_CONFIG, config.bytes);
        for layer in &mut layers {
            let suffix = if matches!(compression, Compression::Plain) { "" } else { ".gzip" };
            layer.media_type = format!("application/vnd.docker.image.rootfs.diff.tar{suffix}");
        }
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": config.descriptor(),
        "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
    });
    Image { manifest: Blob::json(manifest_type, &manifest), config, layers }
}

/// The images that every transport is tested with, by name.
fn images() -> Vec<(&'static str, Image)> {
    let archives =
        |count: usize| (0..count).map(|n| archive(&format!("file {n}"))).collect::<Vec<_>>();
    let [a, b] = [archive("a"), archive("b")];
    let history = ",\"history\":[{\"created_by\":\"COPY <a> /\"},{\"empty_layer\":true}]";
    vec![
        ("oci-gzip", image(&archives(1), Compression::Gzip, false, history)),
        ("oci-plain", image(&archives(2), Compression::Plain, false, "")),
        ("oci-zstd", image(&archives(2), Compression::Zstd, false, "")),
        ("docker-gzip", image(&archives(2), Compression::Gzip, true, history)),
        ("docker-plain", image(&archives(2), Compression::Plain, true, "")),
        ("many-layers", image(&archives(40), Compression::Gzip, true, "")),
        ("repeated", image(&[a.clone(), b.clone(), b.clone(), a], Compression::Gzip, false, "")),
        (
            "docker-keys",
            image(
                &archives(1),
                Compression::Gzip,
                true,
                ",\"docker_version\":\"24.0\",\"container\":\"c0ffee\",\"container_config\":{\"Tty\" : false}",
            ),
        ),
    ]
}

fn filled_registry() -> (Distribution, Vec<(&'static str, Image)>) {
    let registry = Distribution::start();
    let images = images();
    for (name, image) in &images {
        registry.push_image(image, &format!("whole/{name}:1"));
    }
    (registry, images)
}

/// Content and mode of each file in a directory.
fn files(directory: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let mode = path.metadata().expect("metadata").permissions().mode();
        (name, (std::fs::read(path).expect("a file"), mode))
    };
    entries.map(read).collect()
}

/// Pulls with n2c, which must succeed.
#[track_caller]
fn pull(directory: &Path, image: &str, destination: &str, more: &[&str]) {
    let arguments = ["pull", image, destination, "--arch", "amd64", "--quiet"];
    let run = n2c_in(directory, &[&arguments[..], more].concat());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{image} to {destination}");
}

#[track_caller]
fn skopeo_copy(source: &str, destination: &str, more: &[&str]) {
    let options = ["copy", "--quiet", "--src-tls-verify=false", "--override-arch", "amd64"];
    skopeo(&[&options[..], more, &[source, destination]].concat());
}

fn sri(path: &Path) -> String {
    let options = ["--extra-experimental-features", "nix-command", "hash"];
    let kind = if path.is_dir() { "path" } else { "file" };
    let text = run("nix", &[&options[..], &[kind, path.to_str().expect("a path")]].concat());
    String::from_utf8(text).expect("text").trim().to_owned()
}

#[test]
#[ignore = "needs docker-registry, skopeo and nix-bin; run `tests/run`"]
fn rule_83_a_directory_equals_skopeos_to_the_byte() {
    let (registry, images) = filled_registry();
    let directory = tempfile::tempdir().expect("a directory");
    for (name, _) in &images {
        let reference = registry.reference(&format!("whole/{name}:1"));
        let (ours, theirs) =
            (directory.path().join(name), directory.path().join(format!("{name}-skopeo")));
        pull(directory.path(), &reference, &format!("dir:{name}"), &[]);
        skopeo_copy(&format!("docker://{reference}"), &format!("dir:{}", theirs.display()), &[]);
        assert_eq!(files(&ours), files(&theirs), "{name}");
        let hash = n2c_in(directory.path(), &["hash", &reference, "--arch", "amd64", "--json"]);
        assert_eq!(hash.json()["hash"], sri(&theirs), "{name}");
    }
}

#[test]
#[ignore = "needs docker-registry, skopeo and nix-bin; run `tests/run`"]
fn rule_85_a_docker_archive_equals_skopeos_to_the_byte() {
    let (registry, images) = filled_registry();
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for (name, _) in &images {
        let reference = registry.reference(&format!("whole/{name}:1"));
        for (kind, tag, more) in [
            ("untagged", "", &[][..]),
            ("one tag", ":alpine:3.19", &[]),
            ("two tags", ":quay.io/a/b:1", &["--additional-tag", "alpine:3.19"]),
        ] {
            let ours = format!("docker-archive:{name}-{kind}.tar{tag}");
            pull(directory.path(), &reference, &ours, more);
            // skopeo 1.9.3 can't put zstd layers into a docker archive. The same layers
            // without compression give the same archive, since the config doesn't mention
            // the compression.
            let twin = if *name == "oci-zstd" { "oci-plain" } else { name };
            let source = format!("docker://{}", registry.reference(&format!("whole/{twin}:1")));
            let theirs = path(&format!("{name}-{kind}-skopeo.tar"));
            skopeo_copy(&source, &format!("docker-archive:{}{tag}", theirs.display()), more);
            let ours = path(&format!("{name}-{kind}.tar"));
            let read = |path: &Path| std::fs::read(path).expect("an archive");
            assert!(read(&ours) == read(&theirs), "{name}, {kind}");
            if kind == "one tag" {
                let arguments = ["hash", &reference, "--arch", "amd64", "--for", "dockerTools"];
                let names = ["--final-image-name", "alpine", "--final-image-tag", "3.19"];
                let hash = n2c_in(directory.path(), &[&arguments[..], &names].concat());
                let expected = format!("  hash = \"{}\";\n", sri(&theirs));
                assert!(hash.text().contains(&expected), "{name}: {}", hash.text());
            }
        }
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn an_oci_layout_keeps_digests_and_other_tools_can_read_it() {
    let (registry, images) = filled_registry();
    let directory = tempfile::tempdir().expect("a directory");
    for (name, image) in &images {
        let reference = registry.reference(&format!("whole/{name}:1"));
        for destination in [format!("oci:layout:{name}"), format!("oci-archive:{name}.tar:{name}")]
        {
            pull(directory.path(), &reference, &destination, &[]);
            let absolute =
                destination.replacen(':', &format!(":{}/", directory.path().display()), 1);
            // In a layout, skopeo finds only images with OCI media types.
            if image.manifest.media_type == media_type::DOCKER_MANIFEST {
                continue;
            }
            let raw = skopeo(&["inspect", "--raw", &absolute]);
            assert_eq!(raw, image.manifest.bytes, "{destination}");
            // Every blob is there: skopeo copies and verifies them.
            let copy = directory.path().join("copy");
            skopeo_copy(&absolute, &format!("dir:{}", copy.display()), &["--preserve-digests"]);
            assert_eq!(files(&copy).len(), files_of(image) + 2, "{destination}");
            // n2c can read what it wrote.
            if let Some(layout) = destination.strip_prefix("oci:") {
                let lock = ["lock", &format!("oci:{layout}"), "--arch", "amd64"];
                let digest = n2c_in(directory.path(), &lock).json()["n2c"]["manifest"].clone();
                assert_eq!(digest, image.manifest.digest().to_string());
            }
        }
    }
}

/// The number of distinct blobs of an image: its layers and config.
fn files_of(image: &Image) -> usize {
    let digests = image.layers.iter().map(Blob::digest).chain([image.config.digest()]);
    digests.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
#[ignore = "needs docker-registry, skopeo, umoci and busybox; run `tests/run`"]
fn umoci_unpacks_and_skopeo_converts_pulled_images() {
    let registry = Distribution::start();
    let image = image(&[busybox_root(), archive("top")], Compression::Gzip, false, "");
    registry.push_image(&image, "whole/busybox:1");
    let reference = registry.reference("whole/busybox:1");
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    pull(directory.path(), &reference, "oci:layout:1", &[]);
    run("umoci", &["unpack", "--image", &format!("{}:1", path("layout")), &path("bundle")]);
    let text = std::fs::read_to_string(path("bundle/rootfs/hello.txt")).expect("a file");
    assert_eq!(text, "top");

    pull(directory.path(), &reference, "docker-archive:a.tar:busybox:1", &[]);
    let archive = format!("docker-archive:{}", path("a.tar"));
    skopeo_copy(&archive, &format!("oci:{}:1", path("converted")), &[]);
    run("umoci", &["unpack", "--image", &format!("{}:1", path("converted")), &path("again")]);
    let program = std::fs::read(path("again/rootfs/bin/busybox")).expect("a program");
    assert!(program == std::fs::read(path("bundle/rootfs/bin/busybox")).expect("a program"));
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn several_platforms_go_into_one_layout() {
    let registry = Distribution::start();
    let layout = tempfile::tempdir().expect("a directory");
    let all =
        ["linux/amd64", "linux/arm64"].map(|platform| Image::new(platform, &["shared", platform]));
    let index = images::index(&[
        all[0].manifest.entry("linux/amd64"),
        all[1].manifest.entry("linux/arm64"),
    ]);
    let mut blobs = Vec::new();
    for image in &all {
        blobs.extend([&image.manifest, &image.config]);
        blobs.extend(&image.layers);
    }
    images::write_layout(layout.path(), &[("1", &index)], &blobs);
    registry.push(layout.path(), "1", "whole/all:1", &["--preserve-digests"]);
    let reference = registry.reference("whole/all:1");
    let directory = tempfile::tempdir().expect("a directory");
    let n2c = |arguments: &[&str]| n2c_in(directory.path(), arguments);

    let run = n2c(&["pull", &reference, "oci:both:1", "--all-platforms"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // One line for each blob; the shared layer has only one.
    let lines = run.stderr.lines().filter(|line| line.starts_with("note: fetched "));
    assert_eq!(lines.count(), 5, "{}", run.stderr);
    let source = format!("oci:{}:1", directory.path().join("both").display());
    assert_eq!(skopeo(&["inspect", "--raw", &source]), index.bytes);
    for (architecture, image) in ["amd64", "arm64"].iter().zip(&all) {
        let lock = n2c(&["lock", "oci:both:1", "--arch", architecture]).json();
        assert_eq!(lock["n2c"]["manifest"], image.manifest.digest().to_string());
    }
    let copied = directory.path().join("copied");
    skopeo(&["copy", "--quiet", "--all", &source, &format!("oci:{}:1", copied.display())]);

    // Naming both platforms gives the same layout; a single one gives just its manifest.
    let platforms = ["--platform", "linux/arm64", "--platform", "linux/amd64"];
    let run = n2c(&[&["pull", &reference, "oci:named:1"], &platforms[..]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(tree(&directory.path().join("named")), tree(&directory.path().join("both")));
    n2c(&["pull", &reference, "oci:one:1", "--arch", "arm64"]);
    let one = format!("oci:{}:1", directory.path().join("one").display());
    assert_eq!(skopeo(&["inspect", "--raw", &one]), all[1].manifest.bytes);

    for destination in ["dir:x", "docker-archive:x"] {
        let run = n2c(&["pull", &reference, destination, "--all-platforms"]);
        assert!(run.error(2).contains("holds one image, not 2"), "{}", run.stderr);
        assert!(!directory.path().join("x").exists());
    }
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn all_platforms_include_nested_indexes_and_attestations() {
    let layout = tempfile::tempdir().expect("a directory");
    let all = ["linux/amd64", "linux/arm64"].map(|platform| Image::new(platform, &[platform]));
    let (provenance, entry) = images::attestation(&all[1]);
    // A nested index, as some build tools make it, with an attestation.
    let nested = images::index(&[all[1].manifest.entry("linux/arm64"), entry]);
    let index = images::index(&[all[0].manifest.entry("linux/amd64"), nested.descriptor()]);
    let mut blobs = vec![&nested];
    for image in all.iter().chain([&provenance]) {
        blobs.extend([&image.manifest, &image.config]);
        blobs.extend(&image.layers);
    }
    images::write_layout(layout.path(), &[("1", &index)], &blobs);
    let directory = tempfile::tempdir().expect("a directory");
    let source = format!("oci:{}:1", layout.path().display());
    for destination in ["oci:all:1", "oci-archive:all.tar:1"] {
        let run = n2c_in(directory.path(), &["pull", &source, destination, "--all-platforms"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let copied = tree(&directory.path().join("all"));
    assert_eq!(
        copied.len(),
        blobs.len() + 3,
        "all blobs, the index, `index.json` and `oci-layout`: {:?}",
        copied.keys()
    );
    let archive = directory.path().join("unpacked");
    std::fs::create_dir(&archive).expect("a folder");
    let tar = directory.path().join("all.tar").display().to_string();
    run("tar", &["-xf", &tar, "-C", archive.to_str().expect("a path")]);
    assert_eq!(tree(&archive), copied);
    // skopeo doesn't follow the nested index, but copies the image next to it.
    let amd64 = format!("dir:{}", directory.path().join("amd64").display());
    skopeo_copy(&format!("oci:{}:1", directory.path().join("all").display()), &amd64, &[]);
    // Naming platforms leaves out the attestation. The index is kept as it is, with a note.
    let platforms = ["--platform=linux/amd64", "--platform=linux/arm64"];
    let run = n2c_in(directory.path(), &[&["pull", &source, "oci:two:1"], &platforms[..]].concat());
    assert!(run.stderr.contains("note: the index is kept as it is"), "{}", run.stderr);
    assert_eq!(tree(&directory.path().join("two")).len(), copied.len() - 3);
}

/// All files below a directory, by their paths.
fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            for (inner, bytes) in tree(&path) {
                found.insert(format!("{name}/{inner}"), bytes);
            }
        } else {
            found.insert(name, std::fs::read(path).expect("a file"));
        }
    }
    found
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn image_from_dir_reads_layouts_too() {
    let (registry, images) = filled_registry();
    let directory = tempfile::tempdir().expect("a directory");
    let json = |name: &str, more: &[&str]| -> Value {
        let run = n2c_in(directory.path(), &[&["image-from-dir", "out.json", name], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_slice(&std::fs::read(directory.path().join("out.json")).expect("written"))
            .expect("JSON")
    };
    for (name, _) in &images {
        let reference = registry.reference(&format!("whole/{name}:1"));
        pull(directory.path(), &reference, &format!("dir:{name}"), &[]);
        pull(directory.path(), &reference, &format!("oci:layout:{name}"), &[]);
        let (mut from_dir, mut from_layout) = (
            json(name, &["--inherit=all"]),
            json(&format!("oci:layout:{name}"), &["--inherit=all"]),
        );
        for image in [&mut from_dir, &mut from_layout] {
            for layer in image["layers"].as_array_mut().expect("layers") {
                let path = layer["layer-path"].take();
                let path = directory.path().join(path.as_str().expect("a path"));
                let digest = Digest::sha256(&std::fs::read(path).expect("the layer"));
                assert_eq!(layer["digest"], digest.to_string());
            }
        }
        assert_eq!(from_dir, from_layout, "{name}");
    }
    let run = n2c_in(directory.path(), &["image-from-dir", "o.json", "layout"]);
    assert!(run.error(2).contains("holds several images"), "{}", run.stderr);
}
