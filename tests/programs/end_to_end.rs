//! n2c with real programs: CNCF distribution, images made by umoci and pushed by skopeo,
//! and Nix. `tests/run` installs them and runs these tests.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::images::{self, Blob, Image, write_layout};
use crate::support::program::n2c_in;
use crate::support::tools::{self, Distribution, Nix, run, skopeo};
use n2c::oci::digest::Digest;
use n2c::oci::media_type;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const SEVEN: [&str; 7] = [
    "linux/amd64",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/arm64/v8",
    "linux/386",
    "linux/ppc64le",
    "linux/s390x",
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("memory is written");
    gzip.finish().expect("memory is written")
}

/// A busybox image for `platform`: the root file system, and a layer that only it has.
fn busybox(platform: &str, compressed: bool) -> Image {
    let root = tools::busybox_root();
    let (own, own_diff_id) = images::layer(platform);
    let diff_ids = [Digest::sha256(&root), own_diff_id].map(|diff_id| diff_id.to_string());
    let layer = if compressed {
        Blob::new(&format!("{LAYER}+gzip"), gzip(&root))
    } else {
        Blob::new(LAYER, root)
    };
    let parts: Vec<&str> = platform.split('/').collect();
    let mut config = json!({
        "created": "2026-02-03T04:05:06Z", "os": parts[0], "architecture": parts[1],
        "config": { "Cmd": ["/bin/sh"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [{ "created_by": "busybox" }, { "created_by": "own" }],
    });
    if let Some(variant) = parts.get(2) {
        config["variant"] = json!(variant);
    }
    Image::from_parts(&config, vec![layer, own])
}

fn blobs_of(image: &Image) -> Vec<&Blob> {
    [&image.manifest, &image.config].into_iter().chain(&image.layers).collect()
}

/// Checks that skopeo reads the same manifest as n2c, by the digest that n2c found for
/// `platform`. Returns the lockfile.
fn assert_agrees_with_skopeo(registry: &Distribution, name: &str, platform: &str) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference(name);
    let lock = n2c_in(directory.path(), &["lock", &reference, "--platform", platform]).json();
    let digest = lock["n2c"]["manifest"].as_str().expect("a digest");
    let raw = n2c_in(directory.path(), &["lock", "--raw", &reference, "--platform", platform]);
    assert_eq!(raw.code, 0, "{}", raw.stderr);
    let (repository, _) = name.split_once(':').expect("a tag");
    let by_digest = format!("docker://{}@{digest}", registry.reference(repository));
    let theirs = skopeo(&["inspect", "--raw", "--tls-verify=false", &by_digest]);
    assert!(raw.stdout == theirs, "{name} for {platform}: bytes differ from skopeo's");
    assert_eq!(Digest::sha256(&raw.stdout).to_string(), digest);
    lock
}

/// Goes from lock to image.json, comparing every blob with skopeo's copy. Returns the
/// image.json.
fn assert_whole_way(registry: &Distribution, name: &str, platform: &str) -> Value {
    let lock = assert_agrees_with_skopeo(registry, name, platform);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    std::fs::write(path.join("lock.json"), format!("{lock:#}")).expect("written");
    let blobs = n2c_in(path, &["blobs", "lock.json"]).json();
    let (repository, _) = name.split_once(':').expect("a tag");
    let repository = registry.reference(repository);
    let digest = lock["n2c"]["manifest"].as_str().expect("a digest");
    let copy = path.join("skopeo");
    let source = format!("docker://{repository}@{digest}");
    skopeo(&[
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &source,
        &format!("dir:{}", copy.display()),
    ]);
    let mut local = blobs.clone();
    for (hex, place) in local.as_object_mut().expect("a blob map") {
        let run = n2c_in(path, &["blob", &repository, &format!("sha256:{hex}"), "-o", hex]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let ours = std::fs::read(path.join(hex)).expect("the blob");
        assert!(ours == std::fs::read(copy.join(hex)).expect("skopeo's"), "blob {hex} differs");
        *place = json!(hex);
    }
    std::fs::write(path.join("blobs.json"), local.to_string()).expect("written");
    let run = n2c_in(path, &["image-from-manifest", "image.json", "lock.json", "blobs.json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let image = std::fs::read(path.join("image.json")).expect("image.json");
    let image: Value = serde_json::from_slice(&image).expect("JSON");
    let layers = image["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), lock["layers"].as_array().expect("layers").len());
    for (layer, locked) in layers.iter().zip(lock["layers"].as_array().expect("layers")) {
        assert_eq!(layer["digest"], locked["digest"]);
        assert_eq!(layer["size"], locked["size"]);
    }
    image
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn an_index_of_seven_platforms_with_attestations() {
    let registry = Distribution::start();
    let layout = tempfile::tempdir().expect("a directory");
    let all: Vec<Image> = SEVEN.iter().map(|platform| busybox(platform, true)).collect();
    let attestations: Vec<(Image, Value)> = all.iter().map(images::attestation).collect();
    let entries: Vec<Value> = SEVEN
        .iter()
        .zip(&all)
        .map(|(platform, image)| image.manifest.entry(platform))
        .chain(attestations.iter().map(|(_, entry)| entry.clone()))
        .collect();
    let images = all.iter().chain(attestations.iter().map(|(image, _)| image));
    let blobs: Vec<&Blob> = images.flat_map(blobs_of).collect();
    write_layout(layout.path(), &[("1", &images::index(&entries))], &blobs);
    registry.push(layout.path(), "1", "busybox:1", &["--preserve-digests"]);

    for (platform, image) in SEVEN.iter().zip(&all) {
        let lock = assert_agrees_with_skopeo(&registry, "busybox:1", platform);
        assert_eq!(lock["n2c"]["manifest"], image.manifest.digest().to_string(), "{platform}");
    }
    assert_whole_way(&registry, "busybox:1", "armv6l-linux");

    // the layout on disk gives the same lockfile, except for the reference
    let directory = tempfile::tempdir().expect("a directory");
    let source = format!("oci:{}:1", layout.path().display());
    let mut ours = n2c_in(directory.path(), &["lock", &source, "--all-platforms"]).json();
    let name = registry.reference("busybox:1");
    let theirs = n2c_in(directory.path(), &["lock", &name, "--all-platforms"]).json();
    assert_eq!(theirs["n2c"]["platforms"].as_object().map(serde_json::Map::len), Some(7));
    assert_ne!(ours["n2c"]["ref"], theirs["n2c"]["ref"]);
    ours["n2c"]["ref"] = theirs["n2c"]["ref"].clone();
    assert_eq!(ours, theirs);

    let before = registry.requests_of_n2c().len();
    n2c_in(directory.path(), &["lock", &name, "--arch", "arm64"]).json();
    let requests = registry.requests_of_n2c().split_off(before);
    let image = &all[3];
    let expected = [
        "GET /v2/busybox/manifests/1 200".to_owned(),
        format!("GET /v2/busybox/manifests/{} 200", image.manifest.digest()),
        format!("GET /v2/busybox/blobs/{} 200", image.config.digest()),
    ];
    assert_eq!(requests, expected);
    let error = n2c_in(directory.path(), &["lock", &name, "--arch", "riscv64"]).error(4).to_owned();
    assert!(error.contains("linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64"), "{error}");
}

/// Pushes an image for amd64 and arm64 as `docker:1`, with manifests in Docker's format.
fn push_docker_list(registry: &Distribution) -> [Image; 2] {
    let layout = tempfile::tempdir().expect("a directory");
    let all = ["linux/amd64", "linux/arm64/v8"].map(|platform| busybox(platform, true));
    let index = images::index(&[
        all[0].manifest.entry("linux/amd64"),
        all[1].manifest.entry("linux/arm64/v8"),
    ]);
    let blobs: Vec<_> = all.iter().flat_map(blobs_of).collect();
    write_layout(layout.path(), &[("1", &index)], &blobs);
    registry.push(layout.path(), "1", "docker:1", &["--format", "v2s2"]);
    all
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn a_docker_manifest_list() {
    let registry = Distribution::start();
    push_docker_list(&registry);
    let directory = tempfile::tempdir().expect("a directory");
    let inspection =
        n2c_in(directory.path(), &["inspect", "--json", &registry.reference("docker:1")]).json();
    assert_eq!(inspection["mediaType"], media_type::DOCKER_LIST);
    let lock = assert_agrees_with_skopeo(&registry, "docker:1", "linux/arm64");
    assert_eq!(lock["mediaType"], media_type::DOCKER_MANIFEST);
    let image = assert_whole_way(&registry, "docker:1", "linux/arm64");
    assert_eq!(image["layers"][0]["mediatype"], format!("{LAYER}+gzip"));
}

// In a layout, Debian's skopeo and umoci find only images with OCI media types.
#[test]
#[ignore = "needs docker-registry, skopeo and umoci; run `tests/run`"]
fn docker_manifests_are_converted_to_oci_on_request() {
    let registry = Distribution::start();
    let all = push_docker_list(&registry);
    let directory = tempfile::tempdir().expect("a directory");
    let reference = registry.reference("docker:1");
    let path = |name: &str| directory.path().join(name).display().to_string();
    // One platform: the same manifest that skopeo makes.
    let pull = |more: &[&str]| {
        let run = n2c_in(directory.path(), &[&["pull", &reference, "--format=oci"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(!run.stderr.contains("keeps its Docker manifest"), "{}", run.stderr);
    };
    pull(&["oci:ours:1", "--arch=amd64"]);
    let source = format!("docker://{reference}");
    let copy = ["copy", "--quiet", "--src-tls-verify=false", "--override-arch=amd64"];
    let theirs = format!("oci:{}:1", path("theirs"));
    tools::skopeo(&[&copy[..], &["--format=oci", &source, &theirs]].concat());
    let inspect = |layout: &str| -> Value {
        let raw = tools::skopeo(&["inspect", "--raw", &format!("oci:{}:1", path(layout))]);
        serde_json::from_slice(&raw).expect("JSON")
    };
    assert_eq!(inspect("ours"), inspect("theirs"));
    let bundle = path("bundle");
    let image = format!("{}:1", path("ours"));
    run("umoci", &["unpack", "--rootless", "--image", &image, &bundle]);
    assert!(directory.path().join("bundle/rootfs/bin/busybox").exists());
    // All platforms, below an OCI index.
    pull(&["oci:all:1", "--all-platforms"]);
    pull(&["oci-archive:all.tar:1", "--all-platforms"]);
    let index = inspect("all");
    assert_eq!(index["mediaType"], media_type::OCI_INDEX);
    let entries = index["manifests"].as_array().expect("manifests");
    assert!(entries.iter().all(|entry| entry["mediaType"] == media_type::OCI_MANIFEST));
    assert_eq!(entries.len(), 2);
    for layout in ["oci:all:1", "oci-archive:all.tar:1"] {
        let (transport, rest) = layout.split_once(':').expect("a transport");
        let source = format!("{transport}:{}", path(rest));
        let options = ["inspect", "--override-arch=arm64", "--override-variant=v8"];
        let seen = tools::skopeo(&[&options[..], &[&source]].concat());
        let seen: Value = serde_json::from_slice(&seen).expect("JSON");
        assert_eq!(seen["Architecture"], "arm64");
    }
    let lock = n2c_in(directory.path(), &["lock", "oci:all:1", "--arch=arm64"]);
    let config: Value = serde_json::from_slice(&all[1].config.bytes).expect("JSON");
    assert_eq!(lock.json()["n2c"]["image"]["config"]["Env"], config["config"]["Env"]);
}

#[test]
#[ignore = "needs docker-registry, skopeo and umoci; run `tests/run`"]
fn a_single_image_made_by_umoci() {
    let registry = Distribution::start();
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    let image = format!("{}:busybox", layout.display());
    run("umoci", &["init", "--layout", layout.to_str().expect("a path")]);
    run("umoci", &["new", "--image", &image]);
    let root = directory.path().join("root.tar");
    std::fs::write(&root, tools::busybox_root()).expect("written");
    run("umoci", &["raw", "add-layer", "--image", &image, root.to_str().expect("a path")]);
    run(
        "umoci",
        &["config", "--image", &image, "--architecture", "arm64", "--config.cmd", "/bin/sh"],
    );
    registry.push(&layout, "busybox", "umoci:1", &["--preserve-digests"]);
    let json = assert_whole_way(&registry, "umoci:1", "linux/arm64");
    assert_eq!(json["arch"], "arm64");
    let run =
        n2c_in(directory.path(), &["lock", &registry.reference("umoci:1"), "--arch", "amd64"]);
    assert!(run.error(4).ends_with("available: linux/arm64"));
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn zstd_and_uncompressed_layers() {
    let registry = Distribution::start();
    let layout = tempfile::tempdir().expect("a directory");
    let image = busybox("linux/amd64", false);
    write_layout(layout.path(), &[("1", &image.manifest)], &blobs_of(&image));
    registry.push(layout.path(), "1", "plain:1", &["--preserve-digests"]);
    let json = assert_whole_way(&registry, "plain:1", "linux/amd64");
    assert_eq!(json["layers"][0]["mediatype"], LAYER);
    // Use a new registry: skopeo doesn't compress a layer that the registry already has.
    let registry = Distribution::start();
    registry.push(layout.path(), "1", "zstd:1", &["--dest-compress-format", "zstd"]);
    let json = assert_whole_way(&registry, "zstd:1", "linux/amd64");
    assert_eq!(json["layers"][0]["mediatype"], format!("{LAYER}+zstd"));
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn a_nested_index() {
    let registry = Distribution::start();
    let layout = tempfile::tempdir().expect("a directory");
    let image = busybox("linux/arm64/v8", true);
    let inner = images::index(&[image.manifest.entry("linux/arm64/v8")]);
    write_layout(layout.path(), &[("inner", &inner)], &blobs_of(&image));
    registry.push(layout.path(), "inner", "nested:inner", &["--preserve-digests"]);
    // skopeo doesn't copy an index of indexes, so upload this one directly.
    let outer = images::index(&[inner.descriptor()]);
    let url = format!("http://{}/v2/nested/manifests/outer", registry.host());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let status = runtime.block_on(async {
        let config = rustls::ClientConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
        let client =
            reqwest::Client::builder().tls_backend_preconfigured(config).build().expect("a client");
        let request =
            client.put(url).header("content-type", &outer.media_type).body(outer.bytes.clone());
        request.send().await.expect("an answer").status()
    });
    assert_eq!(status.as_u16(), 201);
    let lock = assert_agrees_with_skopeo(&registry, "nested:outer", "linux/arm64");
    assert_eq!(lock["n2c"]["manifest"], image.manifest.digest().to_string());
    assert!(lock["n2c"]["ref"].as_str().expect("a ref").ends_with(&outer.digest().to_string()));
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn forty_layers_some_of_them_repeated() {
    let registry = Distribution::start();
    let layout = tempfile::tempdir().expect("a directory");
    let layers: Vec<(Blob, Digest)> =
        (0..40).map(|number| images::layer(&format!("layer {}", number % 30))).collect();
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|(_, id)| id.to_string()).collect::<Vec<_>>() },
    });
    let image = Image::from_parts(&config, layers.into_iter().map(|(layer, _)| layer).collect());
    write_layout(layout.path(), &[("1", &image.manifest)], &blobs_of(&image));
    registry.push(layout.path(), "1", "forty:1", &["--preserve-digests"]);
    let json = assert_whole_way(&registry, "forty:1", "linux/amd64");
    let layers = json["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 40);
    for (index, layer) in layers.iter().enumerate() {
        assert_eq!(layer["digest"], image.layers[index].digest().to_string());
    }
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn nix_puts_the_blobs_where_n2c_says() {
    let registry = Distribution::start();
    let layout = tempfile::tempdir().expect("a directory");
    let image = busybox("linux/amd64", true);
    write_layout(layout.path(), &[("1", &image.manifest)], &blobs_of(&image));
    registry.push(layout.path(), "1", "nix:1", &["--preserve-digests"]);
    let nix = Nix::new();
    let path = nix.directory();
    n2c_in(path, &["lock", &registry.reference("nix:1"), "--arch", "amd64", "-o", "lock.json"]);
    let blobs = n2c_in(path, &["blobs", "lock.json"]).json();
    let expression = n2c_in(path, &["blobs", "lock.json", "--format", "nix"]);
    std::fs::write(path.join("blobs.nix"), expression.text()).expect("written");

    // what Nix computes from the hash alone
    for (hex, place) in blobs.as_object().expect("a blob map") {
        let ours = place.as_str().expect("a path");
        assert_eq!(nix.run("nix-store", &["--print-fixed-path", "sha256", hex, hex]), ours);
    }
    // what the printed expression evaluates to
    let call = format!(
        "import {}/blobs.nix {{ n2c = \"{}/n2c\"; system = builtins.currentSystem; }}",
        path.display(),
        path.display()
    );
    let paths = format!("builtins.mapAttrs (_: blob: blob.outPath) ({call})");
    let evaluated = nix.run("nix-instantiate", &["--eval", "--strict", "--json", "-E", &paths]);
    assert_eq!(serde_json::from_str::<Value>(&evaluated).expect("JSON"), blobs);
    // and what it builds, with n2c as the builder
    std::fs::create_dir_all(path.join("n2c/bin")).expect("a folder");
    std::fs::copy(env!("CARGO_BIN_EXE_n2c"), path.join("n2c/bin/n2c")).expect("a copy");
    let all = format!("builtins.attrValues ({call})");
    let built = nix.run("nix-build", &["--no-out-link", "-E", &all]);
    let mut expected: Vec<&str> =
        blobs.as_object().expect("a blob map").values().filter_map(Value::as_str).collect();
    expected.sort_unstable();
    let mut built: Vec<&str> = built.lines().collect();
    built.sort_unstable();
    assert_eq!(built, expected);
    for place in expected {
        let name = place.strip_prefix("/nix/").expect("a store path");
        let bytes = std::fs::read(path.join("nix").join(name)).expect("the blob");
        assert!(place.ends_with(Digest::sha256(&bytes).hex()), "{place}");
    }
}

// Every existing `pullImage` call has the hash of skopeo's directory as its `sha256`.
#[test]
#[ignore = "needs docker-registry, skopeo and nix-bin; run `tests/run`"]
fn a_pulled_directory_matches_skopeos_byte_for_byte() {
    let registry = Distribution::start();
    let layout = tempfile::tempdir().expect("a directory");
    let (gzip, plain) = (busybox("linux/arm64/v8", true), busybox("linux/amd64", false));
    let index = images::index(&[
        gzip.manifest.entry("linux/arm64/v8"),
        plain.manifest.entry("linux/amd64"),
    ]);
    let blobs: Vec<&Blob> = [&gzip, &plain].into_iter().flat_map(blobs_of).collect();
    write_layout(layout.path(), &[("1", &index)], &blobs);
    registry.push(layout.path(), "1", "oci:1", &["--preserve-digests"]);
    registry.push(layout.path(), "1", "docker:1", &["--format", "v2s2"]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    for name in ["oci:1", "docker:1"] {
        for arch in ["arm64", "amd64"] {
            let (ours, theirs) = (
                format!("ours-{name}-{arch}"),
                path.join(format!("theirs-{name}-{arch}").replace(':', "-")),
            );
            let ours = ours.replace(':', "-");
            let run = n2c_in(
                path,
                &["pull", &registry.reference(name), &format!("dir:{ours}"), "--arch", arch],
            );
            assert_eq!((run.code, run.stdout.len()), (0, 0), "{}", run.stderr);
            let source = format!("docker://{}", registry.reference(name));
            let copy =
                ["--override-arch", arch, "copy", "--quiet", "--src-tls-verify=false", &source];
            skopeo(&[&copy[..], &[&format!("dir:{}", theirs.display())]].concat());
            let hash = |path: &std::path::Path| {
                run_text("nix-hash", &["--type", "sha256", path.to_str().expect("a path")])
            };
            assert_eq!(hash(&path.join(&ours)), hash(&theirs), "{name} for {arch}");
        }
    }
    // The same from a layout on disk, and once more into the same directory.
    for _ in 0..2 {
        let source = format!("oci:{}:1", layout.path().display());
        let run = n2c_in(path, &["pull", &source, "dir:from-layout", "--arch", "arm64"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let hash = |name: &str| {
            run_text("nix-hash", &["--type", "sha256", path.join(name).to_str().expect("a path")])
        };
        assert_eq!(hash("from-layout"), hash("ours-oci-1-arm64"));
    }
    // A pull that resumes an incomplete one, and then another image in the same directory.
    let asked = registry.requests_of_n2c().len();
    let layer = gzip.layers[1].digest();
    std::fs::remove_file(path.join("from-layout").join(layer.hex())).expect("removed");
    let run =
        n2c_in(path, &["pull", &registry.reference("oci:1"), "dir:from-layout", "--arch", "arm64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let fetched: Vec<String> = registry
        .requests_of_n2c()
        .split_off(asked)
        .into_iter()
        .filter(|line| line.contains("/blobs/"))
        .collect();
    assert_eq!(fetched.len(), 2, "only the config and the missing layer: {fetched:?}");
    let run =
        n2c_in(path, &["pull", &registry.reference("oci:1"), "dir:from-layout", "--arch", "amd64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(std::fs::read_dir(path.join("from-layout")).expect("listed").count(), 5);
}

fn run_text(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(run(program, arguments)).expect("text")
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn lockfiles_follow_a_real_registry() {
    let registry = Distribution::start();
    let image = |text: &str| Image::new("linux/amd64", &["base", text]);
    let (old, new) = (image("old"), image("new"));
    registry.push_image(&old, "live/app:1.0");
    let directory = tempfile::tempdir().expect("a directory");
    let n2c = |arguments: &[&str]| n2c_in(directory.path(), arguments);
    let lock = ["lock", &registry.reference("live/app:1.0"), "--arch=amd64", "-q", "-o", "a.json"];
    assert_eq!(n2c(&lock).code, 0);
    let asked = registry.requests_of_n2c().len();
    assert_eq!(n2c(&["update", "--check", "a.json"]).code, 0);
    let requests = registry.requests_of_n2c().split_off(asked);
    assert_eq!(requests, ["HEAD /v2/live/app/manifests/1.0 200"]);

    registry.push_image(&new, "live/app:1.0");
    let run = n2c(&["update", "--check", "a.json"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    let run = n2c(&["update", "--markdown", "a.json"]);
    let size = new.layers[1].bytes.len();
    assert!(run.text().contains("layers: 1 kept, 1 added, 1 removed, "), "{}", run.text());
    assert!(run.text().contains(&format!("{size} B to download")), "{}", run.text());
    // Tags come from the registry's own list.
    for tag in ["1.1", "1.2-slim", "2.0"] {
        registry.push_image(&old, &format!("live/app:{tag}"));
    }
    assert_eq!(n2c(&["update", "--bump=minor", "a.json"]).code, 0);
    let text = std::fs::read_to_string(directory.path().join("a.json")).expect("read");
    assert!(text.contains("/live/app:1.1@"), "{text}");

    assert_eq!(n2c(&["verify", "a.json"]).code, 0);
    registry.remove_tag("live/app", "1.1");
    assert_eq!(n2c(&["verify", "a.json"]).code, 0, "`verify` ignores the tag");
    assert_eq!(n2c(&["update", "a.json"]).code, 4, "`update` needs the tag");
    registry.remove_blob(&old.layers[1].digest());
    let run = n2c(&["verify", "a.json"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    let text = String::from_utf8(run.stdout).expect("text");
    assert!(text.contains("  gone         layer 2  linux/amd64  "), "{text}");
}
