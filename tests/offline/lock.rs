//! `n2c lock` and `n2c inspect` against an in-memory registry: what they choose,
//! request and write.

use serde_json::{Value, json};

use crate::support::images::{self, Blob, Image};
use crate::support::program::{n2c, n2c_in};
use crate::support::registry::{Registry, Reply};
use n2c::formats::lockfile::Lockfile;
use n2c::oci::digest::Digest;

/// A registry with the tag `app:1`: an index with a one-layer image for each of these
/// platforms, and the attestations that buildx adds.
fn registry_with(platforms: &[&str]) -> (Registry, Vec<Image>, Blob) {
    let registry = Registry::start();
    let mut entries = Vec::new();
    let mut all = Vec::new();
    for platform in platforms {
        let image = Image::new(platform, &[&format!("for {platform}")]);
        registry.put_image("app", platform, &image);
        entries.push(image.manifest.entry(platform));
        let (attestation, entry) = images::attestation(&image);
        registry.put_image("app", "attestation", &attestation);
        entries.push(entry);
        all.push(image);
    }
    let index = images::index(&entries);
    registry.put_manifest("app", "1", &index);
    (registry, all, index)
}

fn digest_of_manifest(lock: &Value) -> String {
    lock["n2c"]["manifest"].as_str().expect("a digest").to_owned()
}

#[test]
fn a_lockfile_is_the_manifest_and_what_was_locked() {
    let (registry, all, index) = registry_with(&["linux/amd64", "linux/arm64/v8"]);
    let run = n2c(&["lock", &registry.reference("app:1"), "--arch", "aarch64"]);
    let image = &all[1];
    let lock = run.json();
    assert_eq!(lock["schemaVersion"], 2);
    assert_eq!(lock["config"], image.config.descriptor());
    assert_eq!(lock["layers"], json!([image.layers[0].descriptor()]));
    let config: Value = serde_json::from_slice(&image.config.bytes).expect("JSON");
    assert_eq!(
        lock["n2c"],
        json!({
            "version": 1,
            "ref": format!("{}@{}", registry.reference("app:1"), index.digest()),
            "platform": "linux/arm64",
            "manifest": image.manifest.digest().to_string(),
            "diffIds": config["rootfs"]["diff_ids"],
            "image": {
                "created": config["created"],
                "architecture": "arm64",
                "variant": "v8",
                "os": "linux",
                "config": config["config"],
                "history": config["history"],
            },
        })
    );
    let text = run.text();
    assert!(text.ends_with("}\n"), "no final newline");
    let keys: Vec<&str> = lock.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["schemaVersion", "mediaType", "config", "layers", "n2c"]);
    assert!(text.starts_with("{\n  \"schemaVersion\": 2,\n  \"mediaType\": "), "{text}");
}

#[test]
fn a_lockfile_survives_reading_and_writing() {
    let (registry, ..) = registry_with(&["linux/amd64", "linux/arm64"]);
    let reference = registry.reference("app:1");
    for arguments in
        [&["lock", &reference, "--arch", "amd64"][..], &["lock", &reference, "--all-platforms"]]
    {
        let run = n2c(arguments);
        let lockfile = Lockfile::parse("lock", &run.stdout).expect("its own output");
        assert_eq!(lockfile.to_text(), run.text());
    }
}

#[test]
fn the_default_platform_is_reported_only_once() {
    let (registry, _, _) = registry_with(&["linux/amd64", "linux/arm64/v8"]);
    let image = registry.reference("app:1");
    let directory = tempfile::tempdir().expect("a directory");
    for (number, arguments) in [
        &["lock", &image, "--os", "linux"][..],
        &["lock", &image],
        &["hash", &image, "--os", "linux"],
        &["pull", &image, "oci:layout", "--os", "linux"],
    ]
    .iter()
    .enumerate()
    {
        let run = n2c_in(directory.path(), arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let said = run.stderr.matches("for this machine").count();
        assert_eq!(said, 1, "{number}: {}", run.stderr);
    }
}

#[test]
fn lock_requests_no_layer() {
    let (registry, all, _) = registry_with(&["linux/amd64"]);
    let reference = registry.reference("app:1");
    assert_eq!(n2c(&["lock", &reference, "--arch", "amd64"]).code, 0);
    let (manifest, config) = (all[0].manifest.digest(), all[0].config.digest());
    let expected = [
        "GET /v2/app/manifests/1".to_owned(),
        format!("GET /v2/app/manifests/{manifest}"),
        format!("GET /v2/app/blobs/{config}"),
    ];
    assert_eq!(registry.log(), expected);

    registry.want_token();
    assert_eq!(n2c(&["lock", &reference, "--arch", "amd64"]).code, 0);
    let log = registry.log().split_off(3);
    let token = "GET /token?service=test&scope=repository%3Aapp%3Apull".to_owned();
    let [index, manifest, config] = expected;
    assert_eq!(log, [index.clone(), token, index, manifest, config]);
}

// protocol rule 31
#[test]
fn rule_31_all_manifest_types_are_accepted() {
    let (registry, ..) = registry_with(&["linux/amd64"]);
    n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]);
    let calls = registry.calls();
    for call in &calls[..2] {
        let accept = call.header("accept").expect("an Accept header");
        for media_type in n2c::oci::media_type::ACCEPTED_MANIFESTS {
            assert!(accept.contains(media_type), "{accept}");
        }
    }
    assert!(calls.iter().all(|call| call.header("accept-encoding") == Some("identity")));
}

#[test]
fn raw_prints_what_the_registry_serves() {
    let (registry, all, _) = registry_with(&["linux/amd64", "linux/arm64"]);
    let run = n2c(&["lock", "--raw", &registry.reference("app:1"), "--arch", "arm64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout, all[1].manifest.bytes);
}

#[test]
fn the_order_of_platforms_does_not_matter() {
    let (registry, ..) = registry_with(&["linux/amd64", "linux/arm64", "linux/arm/v7"]);
    let reference = registry.reference("app:1");
    let lock = |platforms: &[&str]| {
        let mut arguments = vec!["lock", &reference];
        for platform in platforms {
            arguments.extend(["--platform", platform]);
        }
        n2c(&arguments).text().to_owned()
    };
    let one = lock(&["linux/amd64", "linux/arm64"]);
    assert_eq!(one, lock(&["aarch64-linux", "x86_64-linux", "linux/arm64/v8"]));
    let value: Value = serde_json::from_str(&one).expect("JSON");
    let platforms = value["n2c"]["platforms"].as_object().expect("platforms");
    assert_eq!(platforms.keys().collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
    assert_eq!(value["n2c"]["version"], 1);
    assert!(value["n2c"]["ref"].as_str().expect("a ref").contains("/app:1@sha256:"));
    for (platform, entry) in platforms {
        assert_eq!(entry["n2c"]["platform"], **platform);
        assert_eq!(entry["n2c"].get("ref"), None);
        assert!(entry["layers"].is_array());
    }
    let all = n2c(&["lock", &reference, "--all-platforms"]).json();
    let platforms = all["n2c"]["platforms"].as_object().expect("platforms");
    assert_eq!(
        platforms.keys().collect::<Vec<_>>(),
        ["linux/amd64", "linux/arm/v7", "linux/arm64"]
    );
}

// protocol rules 44, 45 and 48, and the trap that nix2container fell into
#[test]
fn rule_45_the_best_variant_of_the_architecture_is_taken() {
    for (offered, wanted, taken) in [
        (&["linux/arm64"][..], "linux/arm64/v8", 0),
        (&["linux/arm64/v8"], "linux/arm64", 0),
        (&["linux/aarch64"], "arm64", 0),
        (&["linux/arm/v6", "linux/arm/v5", "linux/arm/v7"], "linux/arm", 2),
        (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (&["linux/amd64/v2", "linux/amd64"], "x86_64", 1),
        (&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", 1),
        (&["windows/amd64", "linux/amd64"], "linux/amd64", 1),
        (&["linux/amd64", "linux/amd64"], "linux/amd64", 0),
    ] {
        let (registry, all, _) = registry_with(offered);
        let lock = n2c(&["lock", &registry.reference("app:1"), "--platform", wanted]).json();
        let expected = all[taken].manifest.digest().to_string();
        assert_eq!(digest_of_manifest(&lock), expected, "{wanted} of {offered:?}");
    }
}

// protocol rule 46
#[test]
fn rule_46_an_entry_that_needs_features_is_the_last_resort() {
    let registry = Registry::start();
    let (plain, fancy) =
        (Image::new("linux/arm64", &["plain"]), Image::new("linux/arm64", &["fancy"]));
    registry.put_image("app", "plain", &plain);
    registry.put_image("app", "fancy", &fancy);
    let mut entry = fancy.manifest.entry("linux/arm64/v8");
    entry["platform"]["os.features"] = json!(["sse4"]);
    registry.put_manifest(
        "app",
        "1",
        &images::index(&[entry.clone(), plain.manifest.entry("linux/arm64")]),
    );
    registry.put_manifest("app", "2", &images::index(&[entry]));
    for (tag, image) in [("app:1", &plain), ("app:2", &fancy)] {
        let lock = n2c(&["lock", &registry.reference(tag), "--arch", "arm64"]).json();
        assert_eq!(digest_of_manifest(&lock), image.manifest.digest().to_string());
    }
}

// protocol rule 45
#[test]
fn rule_45_another_architecture_is_never_taken() {
    for (offered, wanted) in [
        ("linux/386", "linux/amd64"),
        ("linux/arm/v7", "linux/arm64"),
        ("linux/amd64/v3", "linux/amd64"),
        ("linux/amd64", "linux/riscv64"),
        ("windows/amd64", "linux/amd64"),
    ] {
        let (registry, ..) = registry_with(&[offered]);
        let run = n2c(&["lock", &registry.reference("app:1"), "--platform", wanted]);
        let error = run.error(4);
        assert!(error.contains(&format!("`{wanted}`")), "{error}");
        assert!(error.ends_with(&format!("available: {offered}")), "{error}");
        assert!(
            run.stderr.contains(&format!("hint: pass `--platform {offered}`")),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn the_platform_of_an_image_without_an_index_is_checked_too() {
    let registry = Registry::start();
    let image = Image::new("linux/arm64", &["one"]);
    registry.put_image("app", "1", &image);
    let reference = registry.reference("app:1");
    assert!(
        n2c(&["lock", &reference, "--arch", "amd64"]).error(4).contains("available: linux/arm64")
    );
    let lock = n2c(&["lock", &reference, "--arch", "arm64"]).json();
    let digest = image.manifest.digest().to_string();
    assert_eq!(digest_of_manifest(&lock), digest);
    assert_eq!(lock["n2c"]["ref"], format!("{reference}@{digest}"));
    let all = n2c(&["lock", &reference, "--all-platforms"]).json();
    assert!(all["n2c"]["platforms"]["linux/arm64"].is_object());
}

// The digest that `n2c hash --arch arm64` prints can be pulled on any machine.
#[test]
fn a_single_image_pinned_by_digest_is_used_whatever_its_platform() {
    let registry = Registry::start();
    let image = Image::new("linux/s390x", &["one"]);
    registry.put_image("app", "1", &image);
    let tagged = registry.reference("app:1");
    let pinned = format!("{}@{}", registry.reference("app"), image.manifest.digest());
    let directory = tempfile::tempdir().expect("a directory");
    let n2c = |arguments: &[&str]| n2c_in(directory.path(), arguments);
    let lock = n2c(&["lock", &pinned]);
    assert_eq!(lock.json()["n2c"]["platform"], "linux/s390x");
    assert!(lock.stderr.contains("`linux/s390x`"), "{}", lock.stderr);
    for destination in ["dir:d", "oci:o", "oci-archive:o.tar", "docker-archive:d.tar"] {
        assert_eq!(n2c(&["pull", &pinned, destination]).code, 0, "{destination}");
    }
    let hash = n2c(&["hash", &tagged, "--arch=s390x"]);
    assert_eq!(n2c(&["hash", &pinned]).text(), hash.text());
    // Asking for another platform is an error. So is a tag: it doesn't pin this image.
    for arguments in [
        &["lock", &pinned, "--arch=amd64"][..],
        &["pull", &pinned, "dir:x", "--arch=amd64"],
        &["hash", &pinned, "--arch=amd64"],
        &["lock", &tagged],
    ] {
        assert!(n2c(arguments).error(4).contains("available: linux/s390x"));
    }
}

// `crane append --oci-empty-base` and nix2container's own transport make such images.
#[test]
fn an_image_without_a_platform_is_used_if_it_is_the_only_one() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["one"]);
    let mut config: Value = serde_json::from_slice(&image.config.bytes).expect("JSON");
    config["os"] = json!("");
    config.as_object_mut().expect("an object").remove("architecture");
    let image = Image::from_parts(&config, image.layers);
    registry.put_image("app", "1", &image);
    let mut entry = image.manifest.descriptor();
    registry.put_manifest("app", "index", &images::index(&[entry.clone()]));
    entry["platform"] = json!({ "os": "linux", "architecture": "arm64" });
    registry.put_manifest("app", "named", &images::index(&[entry]));
    for (name, arguments, platform) in [
        ("app:1", &["--arch=s390x"][..], "linux/s390x"),
        ("app:index", &["--arch=s390x"], "linux/s390x"),
        ("app:named", &["--arch=arm64"], "linux/arm64"),
    ] {
        let reference = registry.reference(name);
        let run = n2c(&[&["lock", &reference], arguments].concat());
        assert_eq!(run.json()["n2c"]["platform"], platform, "{name}");
        assert!(run.stderr.contains("note: ") && run.stderr.contains("names no"), "{}", run.stderr);
        let run = n2c(&[&["pull", &reference, "dir:d"], arguments].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    assert_eq!(n2c(&["lock", &registry.reference("app:1")]).code, 0);
    let pinned = format!("{}@{}", registry.reference("app"), image.manifest.digest());
    let run = n2c(&["lock", &pinned]);
    assert!(run.code == 0 && run.stderr.contains("names no platform"), "{}", run.stderr);
    let run = n2c(&["lock", &registry.reference("app:1"), "--all-platforms"]);
    assert!(run.error(4).contains("does not say which platform"), "{}", run.stderr);
    // Next to an image that names its platform, it matches no platform.
    let amd64 = Image::new("linux/amd64", &["two"]);
    registry.put_image("app", "two", &amd64);
    let both = images::index(&[image.manifest.descriptor(), amd64.manifest.descriptor()]);
    registry.put_manifest("app", "both", &both);
    assert!(
        n2c(&["lock", &registry.reference("app:both"), "--arch=s390x"]).error(4).contains("amd64")
    );
    let run = n2c(&["lock", &registry.reference("app:both"), "--arch=amd64"]);
    assert_eq!(digest_of_manifest(&run.json()), amd64.manifest.digest().to_string());
}

#[test]
fn the_hint_names_the_best_available_variant() {
    let (registry, ..) = registry_with(&["linux/amd64", "linux/arm/v5", "linux/arm/v6"]);
    let run = n2c(&["lock", &registry.reference("app:1"), "--platform=linux/arm/v4"]);
    run.error(4);
    assert!(run.stderr.contains("hint: pass `--platform linux/arm/v6`"), "{}", run.stderr);
}

#[test]
fn a_reference_with_tag_and_digest_is_fetched_by_digest() {
    let (registry, _, index) = registry_with(&["linux/amd64"]);
    let reference = format!("{}@{}", registry.reference("app:gone"), index.digest());
    let lock = n2c(&["lock", &reference, "--arch", "amd64"]).json();
    assert_eq!(lock["n2c"]["ref"], reference);
    assert_eq!(registry.log()[0], format!("GET /v2/app/manifests/{}", index.digest()));
}

// protocol rule 37
#[test]
fn rule_37_nested_indexes_are_followed() {
    let registry = Registry::start();
    let (arm, amd) = (Image::new("linux/arm64", &["arm"]), Image::new("linux/amd64", &["amd"]));
    registry.put_image("app", "arm", &arm);
    registry.put_image("app", "amd", &amd);
    let inner = images::index(&[arm.manifest.entry("linux/arm64")]);
    registry.put_manifest("app", "inner", &inner);
    let outer = images::index(&[inner.descriptor(), amd.manifest.entry("linux/amd64")]);
    registry.put_manifest("app", "1", &outer);
    let reference = registry.reference("app:1");
    let lock = n2c(&["lock", &reference, "--arch", "arm64"]).json();
    assert_eq!(digest_of_manifest(&lock), arm.manifest.digest().to_string());
    assert_eq!(registry.log().len(), 4);
    // If the outer index lists the platform, the inner index isn't fetched.
    n2c(&["lock", &reference, "--arch", "amd64"]).json();
    assert_eq!(registry.log().len(), 7);
    let run = n2c(&["lock", &reference, "--arch", "s390x"]);
    assert!(run.error(4).ends_with("available: linux/arm64, linux/amd64"), "{}", run.stderr);
}

// protocol rule 37
#[test]
fn rule_37_nesting_has_a_limit() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["deep"]);
    registry.put_image("app", "image", &image);
    let mut index = images::index(&[image.manifest.entry("linux/amd64")]);
    for depth in 1..=5 {
        registry.put_manifest("app", &format!("depth{depth}"), &index);
        index = images::index(&[index.descriptor()]);
    }
    let lock = |tag: &str| n2c(&["lock", &registry.reference(tag), "--arch", "amd64"]);
    assert_eq!(digest_of_manifest(&lock("app:depth4").json()), image.manifest.digest().to_string());
    assert!(lock("app:depth5").error(8).contains("nested deeper"));
}

// protocol rules 39 and 47
#[test]
fn rule_47_an_entry_without_platform_gets_it_from_its_config() {
    let registry = Registry::start();
    let (arm, amd) = (Image::new("linux/arm64", &["arm"]), Image::new("linux/amd64", &["amd"]));
    registry.put_image("app", "arm", &arm);
    registry.put_image("app", "amd", &amd);
    let chart = Blob::json(
        n2c::oci::media_type::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2,
            "config": { "mediaType": "application/vnd.cncf.helm.config.v1+json",
                        "digest": Digest::sha256(b"{}").to_string(), "size": 2 },
            "layers": [],
        }),
    );
    registry.put_manifest("app", "chart", &chart);
    let entries = [chart.descriptor(), arm.manifest.descriptor(), amd.manifest.descriptor()];
    registry.put_manifest("app", "1", &images::index(&entries));
    let lock = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]).json();
    assert_eq!(digest_of_manifest(&lock), amd.manifest.digest().to_string());
}

// protocol rule 38
#[test]
fn rule_38_an_index_with_only_attestations_has_no_image() {
    let registry = Registry::start();
    let (attestation, entry) = images::attestation(&Image::new("linux/amd64", &["x"]));
    registry.put_image("app", "a", &attestation);
    registry.put_manifest("app", "1", &images::index(&[entry]));
    let reference = registry.reference("app:1");
    assert!(n2c(&["lock", &reference, "--arch", "amd64"]).error(4).ends_with("available: none"));
    assert!(n2c(&["lock", &reference, "--all-platforms"]).error(4).contains("contains no image"));
}

#[test]
fn annotations_and_unknown_fields_are_kept() {
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).expect("JSON");
    manifest["annotations"] = json!({ "b": "1.50", "a": "\u{e9}" });
    manifest["layers"][0]["annotations"] = json!({ "k": "v" });
    manifest.as_object_mut().expect("an object").remove("mediaType");
    let manifest = Blob::json(n2c::oci::media_type::OCI_MANIFEST, &manifest);
    registry.put_image("app", "x", &image);
    registry.put_manifest("app", "1", &manifest);
    let lock = n2c(&["lock", &registry.reference("app:1"), "--arch", "amd64"]).json();
    assert_eq!(lock["annotations"].to_string(), r#"{"b":"1.50","a":"é"}"#);
    assert_eq!(lock["layers"][0]["annotations"], json!({ "k": "v" }));
    assert_eq!(lock["mediaType"], n2c::oci::media_type::OCI_MANIFEST);
    let keys: Vec<&String> = lock.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["schemaVersion", "mediaType", "config", "layers", "annotations", "n2c"]);
}

#[test]
fn an_output_file_is_replaced_only_by_a_complete_one() {
    let (registry, ..) = registry_with(&["linux/amd64"]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("lock.json");
    std::fs::write(&file, "old").expect("written");
    let reference = registry.reference("app:1");
    n2c_in(directory.path(), &["lock", &reference, "--arch", "s390x", "-o", "lock.json"]).error(4);
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "old");
    let run = n2c_in(directory.path(), &["lock", &reference, "--arch", "amd64", "-o", "lock.json"]);
    assert_eq!((run.code, run.stdout.len()), (0, 0), "{}", run.stderr);
    assert_eq!(
        std::fs::read_to_string(&file).expect("read"),
        n2c(&["lock", &reference, "--arch", "amd64"]).text()
    );
    assert_eq!(std::fs::read_dir(&directory).expect("listed").count(), 1, "something was left");
}

#[test]
fn the_default_platform_is_reported() {
    let (registry, ..) = registry_with(&["linux/amd64", "linux/arm64"]);
    let reference = registry.reference("app:1");
    let run = n2c(&["lock", &reference]);
    let host = n2c::oci::platform::Platform::host();
    assert_eq!(run.json()["n2c"]["platform"], host.to_string());
    assert!(run.stderr.contains(&format!("`{host}`")), "{}", run.stderr);
    assert_eq!(n2c(&["lock", "-q", &reference]).stderr, "");
}

#[test]
fn inspect_shows_platforms_layers_and_config() {
    let (registry, all, index) = registry_with(&["linux/amd64", "linux/arm64/v8"]);
    let reference = registry.reference("app:1");
    let json = n2c(&["inspect", "--json", &reference, "--arch", "arm64"]).json();
    assert_eq!(json["digest"], index.digest().to_string());
    assert_eq!(json["ref"], format!("{reference}@{}", index.digest()));
    assert_eq!(
        json["platforms"],
        json!([
            { "platform": "linux/amd64", "mediaType": all[0].manifest.media_type,
              "digest": all[0].manifest.digest().to_string(), "size": all[0].manifest.bytes.len() },
            { "platform": "linux/arm64", "mediaType": all[1].manifest.media_type,
              "digest": all[1].manifest.digest().to_string(), "size": all[1].manifest.bytes.len() },
        ])
    );
    let image = &json["image"];
    assert_eq!(image["digest"], all[1].manifest.digest().to_string());
    assert_eq!(image["layers"][0]["digest"], all[1].layers[0].digest().to_string());
    assert_eq!(image["downloadSize"], all[1].layers[0].bytes.len());
    assert_eq!(image["config"]["config"]["User"], "1000");

    let run = n2c(&["inspect", &reference, "--arch", "arm64"]);
    let text = run.text();
    for expected in [
        "linux/amd64",
        &all[1].manifest.digest().to_string(),
        &all[1].layers[0].digest().to_string(),
        "gzip",
        "LANG=C.UTF-8",
        "/bin/hello",
    ] {
        assert!(text.contains(expected), "`{expected}` is missing from:\n{text}");
    }
    assert!(text.lines().all(|line| line == line.trim_end()), "trailing spaces:\n{text}");
    n2c(&["inspect", &reference, "--arch", "s390x"]).error(4);
}

// A server must not write to the user's terminal.
#[test]
fn escape_sequences_from_a_server_are_not_printed() {
    let registry = Registry::start();
    let config = json!({
        "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": [] },
        "config": { "Labels": { "evil": "\u{1b}]0;owned\u{7}\u{9b}2J" } },
    });
    registry.put_image("app", "1", &Image::from_parts(&config, Vec::new()));
    let run = n2c(&["inspect", &registry.reference("app:1"), "--arch", "amd64"]);
    assert!(run.text().chars().all(|c| c == '\n' || !c.is_control()), "{:?}", run.text());

    registry.hook(|_| Some(Reply::error(404, "\u{1b}[31mRED", "line\nbreak")));
    let run = n2c(&["lock", &registry.reference("app:2")]);
    assert!(!run.error(4).contains('\u{1b}'), "{:?}", run.stderr);
}
