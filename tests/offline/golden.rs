//! Compares `n2c image-from-manifest` and `image-from-dir` with what nix2container's own
//! program wrote (`golden/README.md`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::program::{Run, n2c_in};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a golden file")).expect("JSON")
}

/// Runs the command in a golden folder, as upstream's program was run.
fn image_from_manifest(name: &str, more: &[&str]) -> (Run, Value) {
    let output = tempfile::NamedTempFile::new().expect("a file");
    let path = output.path().to_str().expect("a path");
    let arguments =
        [&["image-from-manifest", path, "dir/manifest.json", "blobs.json"], more].concat();
    let run = n2c_in(&folder(name), &arguments);
    let image = serde_json::from_slice(&std::fs::read(path).expect("a file")).unwrap_or_default();
    (run, image)
}

#[test]
fn every_field_that_upstream_fills_is_the_same() {
    for name in ["docker-gzip", "docker-plain", "oci-gzip", "oci-plain", "oci-repeated", "oci-zstd"]
    {
        let (run, ours) = image_from_manifest(name, &[]);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        let upstream = read(&folder(name).join("image-from-manifest.json"));
        let manifest = read(&folder(name).join("dir/manifest.json"));
        let config =
            manifest["config"]["digest"].as_str().expect("a digest").replace("sha256:", "");
        let config = read(&folder(name).join("dir").join(config));

        assert_eq!(ours["version"], upstream["version"], "{name}");
        assert_eq!(ours["image-config"], upstream["image-config"], "{name}");
        let keys = |image: &Value| {
            let mut keys: Vec<String> =
                image.as_object().expect("an object").keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&ours), keys(&upstream), "{name}");
        let (layers, theirs) = (ours["layers"].as_array(), upstream["layers"].as_array());
        let (layers, theirs) = (layers.expect("layers"), theirs.expect("layers"));
        assert_eq!(layers.len(), theirs.len(), "{name}");
        for (index, (layer, theirs)) in layers.iter().zip(theirs).enumerate() {
            assert_eq!(keys(layer), keys(theirs), "{name}");
            for key in ["digest", "diff_ids", "mediatype", "layer-path"] {
                assert_eq!(layer[key], theirs[key], "{name}, layer {index}, {key}");
            }
            // Upstream leaves the size, and below the architecture and date, empty.
            assert_eq!(layer["size"], manifest["layers"][index]["size"], "{name}");
        }
        assert_eq!(ours["arch"], config["architecture"], "{name}");
        assert_eq!(ours["created"], config["created"], "{name}");
    }
}

#[test]
fn each_layer_has_its_step_of_the_history() {
    let (_, image) = image_from_manifest("oci-gzip", &[]);
    let config = read(&folder(
        "oci-gzip/dir/4218a02c03eb02e45e5bc29b43fb643a4f2ebf94aa0f9c8ab403e75475cabbfb",
    ));
    let steps: Vec<&Value> = config["history"]
        .as_array()
        .expect("a history")
        .iter()
        .filter(|step| step["empty_layer"] != true)
        .collect();
    let layers = image["layers"].as_array().expect("layers");
    assert_eq!(steps.len(), layers.len(), "this image no longer has one history step per layer");
    for (layer, step) in layers.iter().zip(steps) {
        assert_eq!(&layer["History"], step);
    }
}

#[test]
fn rule_63_a_repeated_layer_stays_repeated() {
    let (_, image) = image_from_manifest("oci-repeated", &[]);
    let layers = image["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 4);
    assert_eq!(layers[0]["digest"], layers[3]["digest"]);
    assert_eq!(layers[1]["digest"], layers[2]["digest"]);
}

#[test]
fn inherit_copies_what_is_requested() {
    let config = read(&folder(
        "oci-gzip/dir/4218a02c03eb02e45e5bc29b43fb643a4f2ebf94aa0f9c8ab403e75475cabbfb",
    ));
    let (_, none) = image_from_manifest("oci-gzip", &["--inherit", "none"]);
    assert_eq!(none["image-config"], json!({}));
    let (_, env) = image_from_manifest("oci-gzip", &["--inherit", "env"]);
    assert_eq!(env["image-config"], json!({ "Env": config["config"]["Env"] }));
    let (_, all) = image_from_manifest("oci-gzip", &["--inherit", "all"]);
    assert_eq!(all["image-config"], config["config"]);
    assert!(
        config["config"].as_object().expect("an object").len() > 5,
        "this image tests too little"
    );
}

// Upstream refuses these layers; docker and skopeo pull them.
#[test]
fn a_non_distributable_layer_keeps_its_type() {
    let (run, image) = image_from_manifest("oci-foreign", &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(
        image["layers"][0]["mediatype"],
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    );
}

/// Runs the command in a copy of a golden folder with one file changed. It must not write
/// anything.
fn changed(name: &str, file: &str, change: impl Fn(&mut Value)) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(folder(name).join("dir"), directory.path().join("dir"))
        .expect("linked");
    for (from, to) in [("dir/manifest.json", "manifest.json"), ("blobs.json", "blobs.json")] {
        let mut value = read(&folder(name).join(from));
        if to == file {
            change(&mut value);
        }
        std::fs::write(directory.path().join(to), value.to_string()).expect("written");
    }
    let run = n2c_in(
        directory.path(),
        &["image-from-manifest", "out.json", "manifest.json", "blobs.json"],
    );
    assert!(!directory.path().join("out.json").exists(), "something was written");
    run
}

#[test]
fn inconsistent_input_is_rejected() {
    let hex = "4de5e17e753838edfa6f02efbc5fbce1b124f0f20e4514799e27c5b8dba63bc1";
    for empty in [Value::Null, json!("")] {
        let run = changed("oci-gzip", "blobs.json", |blobs| {
            let blobs = blobs.as_object_mut().expect("an object");
            if empty.is_null() {
                blobs.shift_remove(hex)
            } else {
                blobs.insert(hex.to_owned(), empty.clone())
            };
        });
        assert_eq!(run.error(8), format!("layer 2 `sha256:{hex}` is missing from the blob map"));
    }
    let run = changed("oci-gzip", "manifest.json", |manifest| {
        let layers = manifest["layers"].as_array_mut().expect("layers");
        layers.push(layers[0].clone());
    });
    assert!(run.error(8).contains("4 layers in its manifest but 3 diff IDs"), "{}", run.stderr);
    let run = changed("oci-gzip", "blobs.json", |blobs| {
        blobs["4218a02c03eb02e45e5bc29b43fb643a4f2ebf94aa0f9c8ab403e75475cabbfb"] =
            json!(format!("dir/{hex}"));
    });
    assert!(run.error(8).contains("size mismatch"), "{}", run.stderr);
    let run = changed("oci-gzip", "blobs.json", |blobs| *blobs = json!([]));
    assert!(run.error(8).contains("invalid blob map"), "{}", run.stderr);
}

// For a plain manifest, only the config says which platform it is for.
#[test]
fn a_requested_platform_must_be_the_images() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out.json");
    let output = output.to_str().expect("a path");
    let architecture = image_from_manifest("oci-gzip", &[]).1["arch"].clone();
    let other = if architecture == "s390x" { "linux/amd64" } else { "linux/s390x" };
    for command in [
        &["image-from-manifest", output, "dir/manifest.json", "blobs.json"][..],
        &["image-from-dir", output, "dir"],
    ] {
        let run = n2c_in(&folder("oci-gzip"), &[command, &["--platform", other]].concat());
        assert!(run.error(4).contains(&format!("no image for `{other}`")), "{}", run.stderr);
        let arch = format!("--arch={}", architecture.as_str().expect("text"));
        assert_eq!(n2c_in(&folder("oci-gzip"), &[command, &[&arch]].concat()).code, 0);
    }
}

// Readers of image.json trust its sizes.
#[test]
fn a_layers_size_must_be_its_files() {
    let run =
        changed("oci-gzip", "manifest.json", |manifest| manifest["layers"][0]["size"] = json!(1));
    let error = run.error(8);
    assert!(
        error.contains("size mismatch for layer 1") && error.contains("expected 1 bytes"),
        "{error}"
    );
}

// Readers written in Go reject the file if a field has the wrong type.
#[test]
fn fields_that_readers_would_reject_are_fixed_with_a_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let image = crate::support::images::Image::new("windows/amd64", &["x"]);
    let mut config: Value = serde_json::from_slice(&image.config.bytes).expect("JSON");
    config["created"] = json!("yesterday");
    config["history"][0]["created"] = json!("long ago");
    config["config"]["Entrypoint"] = json!("/bin/sh");
    config["config"]["Labels"] = json!({ "build": 7 });
    let image = crate::support::images::Image::from_parts(&config, image.layers);
    let (dir, blobs) = (directory.path().join("dir"), image.layers.iter().chain([&image.config]));
    std::fs::create_dir(&dir).expect("made");
    std::fs::write(dir.join("manifest.json"), &image.manifest.bytes).expect("written");
    for blob in blobs {
        std::fs::write(dir.join(blob.digest().hex()), &blob.bytes).expect("written");
    }
    let run = n2c_in(directory.path(), &["image-from-dir", "out.json", "dir", "--inherit=all"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let written = read(&directory.path().join("out.json"));
    assert_eq!(written["created"], Value::Null);
    assert_eq!(written["image-config"]["Entrypoint"], json!(["/bin/sh"]));
    assert_eq!(written["image-config"]["Labels"], json!({ "build": "7" }));
    assert_eq!(written["layers"][0]["History"].get("created"), None);
    for said in ["`Entrypoint`", "`Labels`", "`created`", "`windows/amd64`"] {
        let is_said = |line: &str| line.starts_with("warning: ") && line.contains(said);
        assert!(run.stderr.lines().any(is_said), "{said}: {}", run.stderr);
    }
}

#[test]
fn image_from_dir_agrees_with_upstream_too() {
    for name in ["docker-gzip", "docker-plain", "oci-gzip", "oci-plain", "oci-repeated", "oci-zstd"]
    {
        let output = tempfile::NamedTempFile::new().expect("a file");
        let path = output.path().to_str().expect("a path");
        let run = n2c_in(&folder(name), &["image-from-dir", path, "dir"]);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        let ours: Value =
            serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
        let upstream = read(&folder(name).join("image-from-dir.json"));
        for (layer, theirs) in ours["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .zip(upstream["layers"].as_array().expect("layers"))
        {
            for key in ["digest", "diff_ids", "mediatype", "layer-path"] {
                assert_eq!(layer[key], theirs[key], "{name}, {key}");
            }
        }
        // Both commands share their code: the same layer paths give the same result.
        let (_, from_manifest) = image_from_manifest(name, &[]);
        assert_eq!(ours, from_manifest, "{name}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let run = n2c_in(directory.path(), &["image-from-dir", "out.json", "missing"]);
    assert!(run.error(1).contains("`missing/manifest.json`"), "{}", run.stderr);
}

/// The manifests still have the digests under which Docker Hub served them, and share one
/// layer.
#[test]
fn manifests_of_public_images_are_preserved_to_the_byte() {
    let lockfiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("lockfiles");
    let mut blobs = std::collections::BTreeSet::new();
    for (file, digest) in [
        ("nginx-1.22", "sha256:813c400b452834cea3f6b3231168a64a4310369ba9f0c571b2bd11c437d4284a"),
        ("nginx-1.23.1", "sha256:f26fbadb0acab4a21ecb4e337a326907e61fbec36c9a9b52e725669d99ed1261"),
    ] {
        let file = format!("{file}-manifest.json");
        let bytes = std::fs::read(lockfiles.join(&file)).expect("a lockfile");
        assert_eq!(n2c::oci::digest::Digest::sha256(&bytes).to_string(), digest);
        let map = n2c_in(&lockfiles, &["blobs", &file]).json();
        let map = map.as_object().expect("a blob map").clone();
        assert_eq!(map.len(), 7, "a config and six layers");
        blobs.extend(map.into_iter().map(|(hex, _)| hex));
    }
    assert_eq!(blobs.len(), 13, "they share only Debian's layer");
}
