//! The Nix functions with real Nix: what they evaluate to, what they build, and what they
//! request from a registry. `tests/run` installs Nix and the registry.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::functions::{
    ROOT, SANDBOX, build, eval, eval_error, lock, nix_with_n2c, push, read, with_n2c,
};
use crate::support::images::{self, Image};
use crate::support::program::n2c_in;
use crate::support::registry::{Registry, Reply};
use crate::support::tools::{self, Distribution, Nix};

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn from_lock_builds_image_json_and_requests_only_blobs() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    let locked = lock(&nix, &registry, "app.json", &["--platform", "x86_64-linux"]);
    let paths = n2c_in(nix.directory(), &["blobs", "app.json"]).json();
    // The tag is removed; builds don't need it.
    registry.remove_tag("team/app", "1");
    assert_eq!(n2c_in(nix.directory(), &["lock", &registry.reference("team/app:1")]).code, 4);
    let asked = registry.requests_of_n2c().len();
    for settings in ["sandbox = false\n", SANDBOX] {
        nix.configure(settings);
        let expression = "n2c.fromLock { lock = ./app.json; inheritConfig = \"all\"; }";
        let image_path = build(&nix, expression);
        assert!(image_path.ends_with("-nix2container-team-app.json"), "{image_path}");
        let image = read(&nix.file(&image_path));
        let layers = image["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 3);
        for (layer, locked) in layers.iter().zip(locked["layers"].as_array().expect("layers")) {
            assert_eq!(layer["digest"], locked["digest"]);
            let hex = locked["digest"].as_str().expect("a digest").replace("sha256:", "");
            assert_eq!(layer["layer-path"], paths[&hex], "not where `n2c blobs` says");
            assert!(nix.file(layer["layer-path"].as_str().expect("a path")).exists());
        }
        assert_eq!(image["arch"], "amd64");
        assert_eq!(image["image-config"]["User"], "1000");
        // Its run-time dependencies are the layers that it names.
        let references = nix.run("nix-store", &["--query", "--references", &image_path]);
        assert_eq!(references.lines().count(), 2, "{references}");
        nix.run("nix-store", &["--delete", &image_path]);
    }
    let requests = registry.requests_of_n2c().split_off(asked);
    assert_eq!(requests.len(), 3, "config and two layers, once each: {requests:?}");
    assert!(requests.iter().all(|request| request.contains("/blobs/")), "{requests:?}");
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn from_lock_has_attributes_before_it_is_built() {
    let registry = Distribution::start();
    let all = push(&registry, &[]);
    let nix = nix_with_n2c();
    lock(&nix, &registry, "app.json", &["--platform", "x86_64-linux"]);
    let locked = lock(&nix, &registry, "all.json", &["--all-platforms"]);
    let attributes = "{ inherit (image) imageName imageTag config platform; layers = map (l: l.outPath) image.layers; }";
    let facts = eval(
        &nix,
        "x86_64-linux",
        &format!("let image = n2c.fromLock ./app.json; in {attributes}"),
    );
    assert_eq!(facts["imageName"], "team/app");
    assert_eq!(facts["imageTag"], "1");
    assert_eq!(facts["config"]["Env"], json!(["PATH=/usr/bin:/bin", "LANG=C.UTF-8"]));
    assert_eq!(facts["layers"].as_array().map(Vec::len), Some(3));
    // A lockfile of several platforms picks by system, also on Darwin.
    for (system, platform, image) in [
        ("x86_64-linux", "linux/amd64", &all[0]),
        ("aarch64-linux", "linux/arm64", &all[1]),
        ("aarch64-darwin", "linux/arm64", &all[1]),
    ] {
        let facts =
            eval(&nix, system, &format!("let image = n2c.fromLock ./all.json; in {attributes}"));
        assert_eq!(facts["platform"], platform);
        let first = facts["layers"][1].as_str().expect("a path");
        assert!(first.ends_with(image.layers[1].digest().hex()), "{first}");
        assert!(locked["n2c"]["platforms"][platform].is_object());
    }
    let facts = eval(
        &nix,
        "x86_64-linux",
        "{ inherit (n2c.fromLock { lock = ./all.json; platform = \"linux/arm64/v8\"; }) platform; }",
    );
    assert_eq!(facts["platform"], "linux/arm64");
    let error = eval_error(
        &nix,
        "(n2c.fromLock { lock = ./all.json; platform = \"riscv64-linux\"; }).outPath",
    );
    assert!(error.contains("it has: linux/amd64, linux/arm64"), "{error}");
    // The examples use these functions.
    let example = |name: &str, arguments: &str, attribute: &str| {
        let program = nix.directory().join("n2c");
        let expression = format!(
            "(import {ROOT}/examples/{name}.nix {{ n2c = {}; system = \"x86_64-linux\"; {arguments} }}){attribute}.outPath",
            program.display()
        );
        let options = ["--eval", "--read-write-mode", "--strict", "--json", "-E"];
        nix.run("nix-instantiate", &[&options[..], &[&expression]].concat())
    };
    let from_lock = example("from-lock", "lock = ./app.json;", "");
    let mirrored = "lock = ./app.json; registry = \"mirror.example/team-images\";";
    // The registry that blobs come from doesn't change their store paths.
    let private = example("private-registry", "lock = ./app.json;", "");
    assert_eq!(private, example("private-registry", mirrored, ""));
    assert!(from_lock.contains("-nix2container-team-app.json"), "{from_lock}");
    // The functions of other projects are replaced by ones that return their argument.
    let pkgs = "pkgs = { hello = \"hello\"; dockerTools.buildImage = a: a.fromImage; nix-snapshotter.buildImage = a: a.fromImage; };";
    for (name, archive) in
        [("docker-tools", "docker-archive"), ("nix-snapshotter", "docker-archive")]
    {
        let made = example(name, &format!("lock = ./app.json; {pkgs}"), "");
        assert!(made.contains(&format!("-{archive}-team-app-1.tar")), "{made}");
    }
    let arm64 = example("multi-platform", "lock = ./all.json;", ".\"linux/arm64\"");
    assert_ne!(arm64, example("multi-platform", "lock = ./all.json;", ".\"linux/amd64\""));
    let pinned = format!("ref = \"{}\";", locked["n2c"]["ref"].as_str().expect("a ref"));
    assert!(example("from-ref", &pinned, "").contains("-nix2container-team-app.json"));
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let whole =
        format!("imageName = \"alpine\"; imageDigest = \"{digest}\"; sha256 = \"{digest}\";");
    assert!(example("from-image", &whole, "").contains("-nix2container-alpine.json"));
    let built = build(&nix, "n2c.fromLock { lock = ./all.json; platform = \"linux/arm64\"; }");
    assert_eq!(read(&nix.file(&built))["arch"], "arm64");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn invalid_lockfiles_give_clear_errors() {
    let nix = nix_with_n2c();
    let digest = n2c::oci::digest::Digest::sha256(b"").to_string();
    let entry = |version: u64, digest: &str| {
        json!({
            "schemaVersion": 2, "config": { "digest": digest, "size": 1 }, "layers": [],
            "n2c": { "version": version, "ref": format!("h.io/a:1@{digest}"), "platform": "linux/amd64",
                     "image": { "architecture": "amd64" } },
        })
    };
    for (content, expected) in [
        (entry(2, &digest), "has version 2; this n2c reads up to 1"),
        (entry(0, &digest), "has version 0; this n2c reads up to 1"),
        (entry(1, "md5:d41d8cd98f00b204e9800998ecf8427e"), "isn't a digest that Nix can verify"),
        (json!({ "schemaVersion": 2 }), "isn't an n2c lockfile"),
    ] {
        std::fs::write(nix.directory().join("lock.json"), content.to_string()).expect("written");
        let error = eval_error(&nix, "(n2c.fromLock ./lock.json).drvPath");
        assert!(error.contains(expected), "{error}");
    }
    let error = eval_error(&nix, "(n2c.fromRef \"alpine:3.19\").outPath");
    assert!(error.contains("has no digest"), "{error}");
    let error = eval_error(&nix, &format!("(n2c.fromRef \"alpine:3.19@{digest}\").outPath"));
    assert!(error.contains("does not name its registry"), "{error}");
    // A name that can't be used unchanged in a store path.
    let facts = eval(
        &nix,
        "x86_64-linux",
        &format!(
            "(n2c.pullImageFromManifest {{ imageName = \"a/b/c\"; imageManifest = {ROOT}/lockfiles/alpine-manifest.json; }}).name"
        ),
    );
    assert_eq!(facts, "nix2container-a-b-c.json");
}

/// The package set of [`small_nixpkgs`]. [`WITH_PKGS`] imports the functions with further
/// arguments, such as this.
const PKGS: &str =
    "((import ./nixpkgs/flake.nix).outputs { self = null; }).legacyPackages.x86_64-linux";
const WITH_PKGS: &str = concat!(
    "args: import ",
    env!("CARGO_MANIFEST_DIR"),
    "/nix ({ n2c = ./n2c; system = \"x86_64-linux\"; } // args)"
);

// A lockfile may come in a stranger's pull request, and its text is used in a script.
#[test]
#[ignore = "needs busybox, nix-bin and root; run `tests/run`"]
fn a_lockfile_can_not_inject_shell_code_or_options() {
    let nix = nix_with_n2c();
    small_nixpkgs(&nix);
    let digest = n2c::oci::digest::Digest::sha256(b"").to_string();
    let lock = |reference: &str, platform: &str| {
        let lock = json!({
            "schemaVersion": 2, "config": { "digest": digest, "size": 1 }, "layers": [],
            "n2c": { "version": 1, "ref": reference, "platform": platform, "manifest": digest,
                     "image": { "architecture": "amd64" } },
        });
        std::fs::write(nix.directory().join("lock.json"), lock.to_string()).expect("written");
    };
    let good = format!("127.0.0.1:5900/x/alpine:3.19@{digest}");
    let evil = [
        "127.0.0.1:5900/x$(touch pwned)/alpine:3.19",
        "127.0.0.1:5900/x/alpine:`touch pwned`",
        "127.0.0.1:5900/x;touch pwned;/alpine",
        "127.0.0.1:5900/x/alpine\ntouch pwned:1",
        "-x.io/alpine:1",
        "h.io/--authfile=x:1",
        "h.io/a:-o",
        "h.io:5$(id)/a:1",
        "h.io/a'b:1",
        "h.io/A:1",
        "h.io//a:1",
        "h.io/a:1:2",
        "$(id).io/a:1",
    ];
    for reference in evil {
        lock(&format!("{reference}@{digest}"), "linux/amd64");
        for attribute in ["drvPath", "getManifest.drvPath", "update.drvPath", "ref"] {
            let expression = format!(
                "let pkgs = {PKGS}; in (({WITH_PKGS}) {{ inherit pkgs; }}).fromLock ./lock.json"
            );
            let error = eval_error(&nix, &format!("({expression}).{attribute}"));
            assert!(error.contains("n2c: "), "{reference}: {error}");
        }
    }
    for platform in ["linux/amd64$(id)", "linux/amd64 --authfile=x", "a/b/c/d", "", "linux/'"] {
        lock(&good, platform);
        let error = eval_error(&nix, "(n2c.fromLock ./lock.json).drvPath");
        assert!(error.contains("invalid platform"), "{platform}: {error}");
    }
    lock(&good, "linux/amd64");
    for (arguments, expected) in [
        ("imageName = \"a/b\"; imageTag = \"1$(id)\";", "`imageTag`"),
        ("imageName = \"a/b\"; imageTag = \"-x\";", "`imageTag`"),
        ("imageName = \"a/$(id)\";", "`registryUrl` and `imageName`"),
        ("imageName = \"a/b\"; registryUrl = \"h.io;id\";", "`registryUrl` and `imageName`"),
        ("imageName = \"a/b\"; os = \"linux;id\";", "`os` and `arch`"),
        ("imageName = \"a/b\"; arch = \"amd64 $(id)\";", "`os` and `arch`"),
    ] {
        let expression = format!(
            "let pkgs = {PKGS}; in ((({WITH_PKGS}) {{ inherit pkgs; }}).pullImageFromManifest {{ {arguments} }}).getManifest.drvPath"
        );
        let error = eval_error(&nix, &expression);
        assert!(error.contains(expected), "{arguments}: {error}");
    }
    // Valid values are quoted too.
    let expression = format!(
        "let pkgs = {PKGS}; in ((({WITH_PKGS}) {{ inherit pkgs; }}).fromLock ./lock.json).getManifest"
    );
    let script = build(&nix, &expression);
    let script =
        std::fs::read_to_string(nix.file(&script).join("bin/get-manifest")).expect("a script");
    assert!(
        script.contains("'lock' '--platform=linux/amd64' \"$@\" -- '127.0.0.1:5900/x/alpine:3.19'"),
        "{script}"
    );
}

// `src/oci/platform.rs` is tested with the same table.
#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn platforms_are_chosen_as_the_program_does() {
    let nix = nix_with_n2c();
    let expression = format!(
        "let lib = import {ROOT}/nix/lib.nix; p = import {ROOT}/nix/platforms.nix {{ inherit lib; }}; in \
         map (case: let \
           wanted = p.normalise \"the table\" case.wanted; \
           available = map (p.normalise \"the table\") case.available; \
           chosen = builtins.tryEval (p.choose \"the table\" wanted available); \
         in if chosen.success then chosen.value else null) (builtins.fromJSON (builtins.readFile {ROOT}/tests/platforms.json))"
    );
    let chosen = eval(&nix, "x86_64-linux", &expression);
    let table: Value = serde_json::from_str(include_str!("../platforms.json")).expect("a table");
    for (case, chosen) in
        table.as_array().expect("cases").iter().zip(chosen.as_array().expect("answers"))
    {
        let expected = case["chosen"].as_str().map(|name| {
            name.parse::<n2c::oci::platform::Platform>().expect("a platform").to_string()
        });
        assert_eq!(chosen.as_str(), expected.as_deref(), "{case}");
    }
}

#[test]
#[ignore = "needs nix-bin; run `tests/run`"]
fn the_functions_pass_their_own_tests() {
    let failed = crate::support::tools::run(
        "nix-instantiate",
        &["--eval", "--strict", "--json", &format!("{ROOT}/nix/tests.nix")],
    );
    assert_eq!(String::from_utf8_lossy(&failed).trim(), "[]");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_requested_platform_is_the_one_that_is_built() {
    let nix = nix_with_n2c();
    let registry = Registry::start();
    let image = Image::new("linux/amd64", &["x"]);
    registry.put_image("app", "1", &image);
    let reference = registry.reference("app:1");
    n2c_in(nix.directory(), &["lock", &reference, "--arch=amd64", "-o", "one.json"]).text();
    let lock = "n2c.fromLock { lock = ./one.json; platform = \"linux/s390x\"; }";
    for attribute in ["drvPath", "config", "platform"] {
        let error = eval_error(&nix, &format!("({lock}).{attribute}"));
        assert!(error.contains("no image for `linux/s390x`"), "{error}");
    }
    let error =
        eval_error(&nix, "(n2c.fromLock { lock = ./one.json; platform = \"garbage//\"; }).drvPath");
    assert!(error.contains("invalid platform `garbage//`"), "{error}");
    // A single image pinned by digest is used as it is, unless a platform was requested.
    let pinned = format!("{}@{}", registry.reference("app"), image.manifest.digest());
    let other =
        format!("(n2c.fromRef {{ ref = \"{pinned}\"; platform = \"linux/s390x\"; }}).drvPath");
    let (success, _, error) = nix.try_run(
        "nix-instantiate",
        &["--read-write-mode", "-E", &with_n2c(&nix, "x86_64-linux", &other)],
    );
    assert!(!success && error.contains("it is for linux/amd64"), "{error}");
    // A whole image, with upstream's function: the output of `n2c hash` can be pulled on any
    // machine.
    let arm64 = Image::new("linux/arm64", &["y"]);
    registry.put_image("app", "arm", &arm64);
    let hash = n2c_in(nix.directory(), &["hash", &registry.reference("app:arm"), "--arch=arm64"]);
    let call = |more: &str| format!("n2c.pullImage ({} // {{ {more} }})", hash.text());
    let built = build(&nix, &call(""));
    assert_eq!(read(&nix.file(&built))["arch"], "arm64");
}

/// Options for expressions that import from derivations.
const READ_WRITE: [&str; 4] = ["--eval", "--read-write-mode", "--json", "-E"];

// The functions and the program choose an entry of an index by the same rules.
#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn from_ref_chooses_what_lock_chooses() {
    let nix = nix_with_n2c();
    let registry = Registry::start();
    let [amd64, arm64, v9] = ["linux/amd64", "linux/arm64/v8", "linux/arm64/v9"]
        .map(|platform| Image::new(platform, &[platform]));
    for image in [&amd64, &arm64, &v9] {
        registry.put_image("app", "x", image);
    }
    let plain = |image: &Image| image.manifest.descriptor();
    let (attested, attestation) = images::attestation(&amd64);
    registry.put_image("app", "attestation", &attested);
    let nested = images::index(&[
        amd64.manifest.entry("linux/amd64"),
        arm64.manifest.entry("linux/arm64/v8"),
    ]);
    registry.put_manifest("app", "nested", &nested);
    let mut named = nested.descriptor();
    named["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let mut featured = v9.manifest.entry("linux/amd64");
    featured["platform"]["os.features"] = json!(["x"]);
    for (tag, entries) in [
        ("unnamed", vec![plain(&arm64), plain(&amd64), attestation.clone()]),
        ("nested", vec![attestation, named]),
        (
            "variants",
            vec![amd64.manifest.entry("linux/amd64"), v9.manifest.entry("linux/arm64/v9")],
        ),
        ("features", vec![featured, amd64.manifest.entry("linux/amd64")]),
        ("twice", vec![amd64.manifest.entry("linux/amd64"), v9.manifest.entry("linux/amd64")]),
    ] {
        let index = images::index(&entries);
        registry.put_manifest("app", tag, &index);
        let reference = format!("{}:{tag}@{}", registry.reference("app"), index.digest());
        for platform in ["linux/amd64", "linux/arm64", "linux/arm64/v9"] {
            let locked = n2c_in(nix.directory(), &["lock", &reference, "--platform", platform]);
            let expression = with_n2c(
                &nix,
                "x86_64-linux",
                &format!(
                    "(n2c.fromRef {{ ref = \"{reference}\"; platform = \"{platform}\"; }}).manifest.config.digest"
                ),
            );
            let (success, found, stderr) =
                nix.try_run("nix-instantiate", &[&READ_WRITE[..], &[&expression]].concat());
            assert_eq!(success, locked.code == 0, "{tag}, {platform}: {stderr}{}", locked.stderr);
            if success {
                assert_eq!(
                    locked.json()["config"]["digest"].to_string(),
                    found,
                    "{tag}, {platform}"
                );
            } else {
                assert!(stderr.contains(&format!("no image for `{platform}`")), "{stderr}");
            }
        }
    }
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn errors_name_the_file() {
    let nix = nix_with_n2c();
    let file = nix.directory().join("odd.json");
    let digest = n2c::oci::digest::Digest::sha256(b"").to_string();
    let whole = json!({
        "schemaVersion": 2, "config": { "digest": digest, "size": 1 }, "layers": [],
        "n2c": { "version": 1, "ref": format!("h.io/a:1@{digest}"), "platform": "linux/amd64" },
    });
    let without = |keys: &[&str]| {
        let mut lock = whole.clone();
        let (last, path) = keys.split_last().expect("a key");
        let parent = path.iter().fold(&mut lock, |value, key| &mut value[*key]);
        parent.as_object_mut().expect("an object").remove(*last);
        lock.to_string()
    };
    let several = json!({ "n2c": { "version": 1, "ref": format!("h.io/a:1@{digest}"),
        "platforms": { "linux/amd64": whole, "linux/arm64": whole } } });
    for (text, expected) in [
        (String::new(), "is empty"),
        ("  \n".to_owned(), "is empty"),
        ("[1]".to_owned(), "isn't a JSON object"),
        (format!("{{\n<<<<<<< HEAD\n{whole}\n>>>>>>> theirs\n"), "an unfinished merge"),
        (without(&["n2c", "version"]), "has no `n2c.version`"),
        (without(&["n2c", "ref"]), "has no `n2c.ref`"),
        (without(&["n2c", "platform"]), "has no `n2c.platform`"),
        (without(&["layers"]), "has no `layers`"),
        (without(&["config"]), "has no `config`"),
    ] {
        std::fs::write(&file, &text).expect("written");
        let error = eval_error(&nix, "(n2c.fromLock ./odd.json).drvPath");
        assert!(error.contains("odd.json") && error.contains(expected), "{text}: {error}");
        if !expected.contains("n2c.") {
            let call = "(n2c.pullImageFromManifest { imageName = \"a/b\"; imageManifest = ./odd.json; }).drvPath";
            let error = eval_error(&nix, call);
            assert!(error.contains("odd.json") && error.contains(expected), "{text}: {error}");
        }
    }
    // `os` and `arch` choose one of several platforms.
    std::fs::write(&file, several.to_string()).expect("written");
    let call = |more: &str| {
        format!(
            "(n2c.pullImageFromManifest {{ imageName = \"a/b\"; imageManifest = ./odd.json; {more} }}).drvPath"
        )
    };
    assert!(
        eval(&nix, "x86_64-linux", &call("arch = \"arm64\";"))
            .as_str()
            .expect("a path")
            .starts_with("/nix/store/")
    );
    let error = eval_error(&nix, &call("arch = \"s390x\";"));
    assert!(error.contains("odd.json") && error.contains("no image for `linux/s390x`"), "{error}");
}

// The store paths of upstream's own example
#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn pull_image_from_manifest_gives_upstreams_paths() {
    let nix = nix_with_n2c();
    let expression = format!(
        "builtins.attrValues (builtins.mapAttrs (_: blob: blob.outPath) \
         (import {ROOT}/examples/from-image-manifest.nix {{ n2c = {}; system = \"x86_64-linux\"; }}).blobs)",
        nix.directory().join("n2c").display()
    );
    let text = nix.run("nix-instantiate", &["--eval", "--strict", "--json", "-E", &expression]);
    let expected = [
        "/nix/store/lkzxfn2m0gip60cdds9kd1f8yj2iz821-31e352740f534f9ad170f75378a84fe453d6156e40700b882d737a8f4a6988a3",
        "/nix/store/sd72lbg972xba3glwqyvm1fxf0kmrqna-c1aabb73d2339c5ebaa3681de2e9d9c18d57485045a4e311d9f8004bec208d67",
    ];
    assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), expected);
    // Upstream's set of functions, with its pull function replaced.
    let facts = eval(
        &nix,
        "x86_64-linux",
        &format!(
            "let set = n2c.replacePulls {{ buildImage = 1; pullImageFromManifest = throw \"upstream's\"; }}; in \
             {{ inherit (set) buildImage; inherit (set.pullImageFromManifest {{ imageName = \"library/alpine\"; \
             imageManifest = {ROOT}/lockfiles/alpine-manifest.json; }}) imageTag; }}"
        ),
    );
    assert_eq!(facts, json!({ "buildImage": 1, "imageTag": "latest" }));
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn a_plain_manifest_and_a_reference_are_built_too() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    let reference = registry.reference("team/app:1");
    let locked = lock(&nix, &registry, "app.json", &["--arch", "arm64"]);
    let raw = ["lock", "--raw", &reference, "--arch", "arm64", "-o", "manifest.json"];
    assert_eq!(n2c_in(nix.directory(), &raw).code, 0);
    nix.configure(SANDBOX);
    let from_lock = build(&nix, "n2c.fromLock ./app.json");
    let expression = format!(
        "n2c.pullImageFromManifest {{ imageName = \"team/app\"; registryUrl = \"{}\"; imageManifest = ./manifest.json; }}",
        registry.host()
    );
    let from_manifest = build(&nix, &expression);
    let pinned = locked["n2c"]["ref"].as_str().expect("a ref");
    let from_ref = build(
        &nix,
        &format!("n2c.fromRef {{ ref = \"{pinned}\"; platform = \"aarch64-linux\"; }}"),
    );
    let expected = read(&nix.file(&from_lock));
    assert_eq!(read(&nix.file(&from_manifest)), expected);
    assert_eq!(read(&nix.file(&from_ref)), expected);
    // A reference to the platform's own manifest leaves nothing to choose.
    let manifest = locked["n2c"]["manifest"].as_str().expect("a digest");
    let (name, _) = pinned.split_once('@').expect("a digest");
    let from_ref = build(&nix, &format!("n2c.fromRef \"{name}@{manifest}\""));
    assert_eq!(read(&nix.file(&from_ref)), expected);
}

#[test]
#[ignore = "needs docker-registry, skopeo, htpasswd, nix-bin and root; run `tests/run`"]
fn a_sandboxed_build_needs_an_auth_file_for_a_private_registry() {
    let directory = tempfile::tempdir().expect("a directory");
    let users = directory.path().join("users");
    std::fs::write(&users, crate::support::tools::run("htpasswd", &["-Bbn", "bob", "open-sesame"]))
        .expect("written");
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display());
    let registry = Distribution::start_with("", &auth);
    push(&registry, &["--dest-creds", "bob:open-sesame"]);
    let nix = nix_with_n2c();
    let file =
        json!({ "auths": { registry.host(): { "username": "bob", "password": "open-sesame" } } });
    let auth_file = nix.directory().join("auth.json");
    std::fs::write(&auth_file, file.to_string()).expect("written");
    lock(&nix, &registry, "app.json", &["--arch", "amd64", "--authfile", "auth.json"]);

    nix.configure(SANDBOX);
    let expression = with_n2c(&nix, "x86_64-linux", "n2c.fromLock ./app.json");
    let (success, _, stderr) = nix.try_run("nix-build", &["--no-out-link", "-E", &expression]);
    assert!(!success && stderr.contains("(no credentials)"), "{stderr}");
    let mut settings = SANDBOX.to_owned();
    let _ =
        writeln!(settings, "extra-sandbox-paths = /etc/skopeo/auth.json={}", auth_file.display());
    nix.configure(&settings);
    build(&nix, "n2c.fromLock ./app.json");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn n2c_rejects_wrong_bytes_before_nix_does() {
    let registry = Registry::start();
    registry.hook(|_| Some(Reply::new(200, "something else")));
    let nix = nix_with_n2c();
    let digest = n2c::oci::digest::Digest::sha256(b"the right bytes").to_string();
    let expression = with_n2c(
        &nix,
        "x86_64-linux",
        &format!(
            "n2c.fetchBlob {{ repository = \"{}\"; digest = \"{digest}\"; }}",
            registry.reference("app")
        ),
    );
    let (success, _, stderr) = nix.try_run("nix-build", &["--no-out-link", "-E", &expression]);
    assert!(!success);
    assert!(stderr.contains("error: digest mismatch for blob"), "{stderr}");
    assert!(!stderr.contains("hash mismatch in fixed-output derivation"), "{stderr}");
    let store = std::fs::read_dir(nix.directory().join("nix/store")).expect("the store");
    let odd: Vec<_> = store
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(".n2c"))
        .collect();
    assert!(odd.is_empty(), "left in the store: {odd:?}");
}

// Nix `src/libutil/logging.cc`: the messages that a builder may send
#[test]
fn a_builder_reports_its_progress_to_nix() {
    let registry = Registry::start();
    let blob = images::layer(&"x".repeat(5000)).0;
    registry.put_blob(&blob);
    let directory = tempfile::tempdir().expect("a directory");
    let (repository, digest) = (registry.reference("app"), blob.digest().to_string());
    let output = crate::support::program::command(
        directory.path(),
        &["blob", &repository, &digest, "-o", "out"],
    )
    .envs([("NIX_LOG_FD", "2"), ("NIX_BUILD_TOP", "/build")])
    .output()
    .expect("a run");
    let stderr = String::from_utf8(output.stderr).expect("text");
    let lines: Vec<Value> = stderr
        .lines()
        .map(|line| {
            serde_json::from_str(line.strip_prefix("@nix ").expect("a line for Nix")).expect("JSON")
        })
        .collect();
    let size = blob.bytes.len();
    assert_eq!(lines[0]["action"], "start");
    assert_eq!((&lines[0]["type"], &lines[0]["id"]), (&json!(101), &json!(1)));
    assert!(lines[0]["fields"][0].as_str().expect("a field").contains(&digest));
    assert_eq!(lines[1]["fields"], json!([0, size, 0, 0]));
    let [.., last, stop] = lines.as_slice() else { panic!("too few lines: {stderr}") };
    assert_eq!(
        last,
        &json!({ "action": "result", "id": 1, "type": 105, "fields": [size, size, 0, 0] })
    );
    assert_eq!(stop, &json!({ "action": "stop", "id": 1 }));
}

/// Creates a small nixpkgs in the test's directory, and returns its path.
fn small_nixpkgs(nix: &Nix) -> std::path::PathBuf {
    let nixpkgs = nix.directory().join("nixpkgs");
    std::fs::create_dir(&nixpkgs).expect("a folder");
    std::fs::copy(format!("{ROOT}/tests/nixpkgs.nix"), nixpkgs.join("flake.nix")).expect("a copy");
    std::fs::copy(env!("CARGO_BIN_EXE_n2c"), nixpkgs.join("n2c")).expect("a copy");
    std::fs::copy("/bin/busybox", nixpkgs.join("busybox")).expect("a copy");
    nixpkgs
}

/// Copies this project's flake, and a small nixpkgs for it, into the test's directory.
/// Returns the flake's URL and the options that make it use this nixpkgs.
fn flake(nix: &Nix) -> [String; 4] {
    let (project, nixpkgs) = (nix.directory().join("project"), small_nixpkgs(nix));
    std::fs::create_dir(&project).expect("a folder");
    // Copy the files that git tracks, as they would be in a user's flake.
    let copy = format!(
        "cd {ROOT} && git ls-files -z | tar -c --null -T - | tar -x -C {}",
        project.display()
    );
    crate::support::tools::run("sh", &["-c", &copy]);
    [
        format!("path:{}", project.display()),
        "--override-input".to_owned(),
        "nixpkgs".to_owned(),
        format!("path:{}", nixpkgs.display()),
    ]
}

#[test]
#[ignore = "needs busybox, nix-bin and root; run `tests/run`"]
fn the_flake_passes_its_check_and_runs() {
    let nix = Nix::new();
    let [project, option, name, nixpkgs] = flake(&nix);
    let options = [option.as_str(), &name, &nixpkgs, "--no-write-lock-file"];
    nix.run("nix", &[&["flake", "check", &project], &options[..]].concat());
    let shown = nix.run("nix", &[&["flake", "show", "--json", &project], &options[..]].concat());
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    for output in ["packages", "apps", "checks", "devShells", "formatter", "overlays", "templates"]
    {
        assert!(shown[output].is_object(), "no {output}: {shown}");
    }
    // Whoever has nix2container's flake as an input finds its functions.
    let target = format!("{project}#nix2container");
    let names = "set: builtins.attrNames { inherit (set) buildImage buildLayer pullImage pullImageFromManifest; }";
    let arguments = [&["eval", "--json", &target, "--apply", names], &options[..]].concat();
    assert!(nix.run("nix", &arguments).contains("buildLayer"));
    let version =
        nix.run("nix", &[&["run", &project], &options[..], &["--", "--version"]].concat());
    assert_eq!(version, concat!("n2c ", env!("CARGO_PKG_VERSION")));

    // `nix run .#fromImage.getManifest > lockfiles/alpine.json`, with a mirror
    // on this machine instead of Docker Hub.
    let mirror = Registry::start();
    let image = Image::new("linux/amd64", &["alpine"]);
    mirror.put_image("library/alpine", "latest", &image);
    let target = format!("{project}#fromImage.getManifest");
    let variable = format!("N2C_MIRRORS=docker.io=http://{}", mirror.host());
    let arguments = [&[variable.as_str(), "nix", "run", &target], &options[..]].concat();
    let lock: Value = serde_json::from_str(&nix.run("env", &arguments)).expect("JSON");
    assert_eq!(lock["n2c"]["manifest"], image.manifest.digest().to_string());
    assert!(
        lock["n2c"]["ref"]
            .as_str()
            .expect("a ref")
            .starts_with("docker.io/library/alpine:latest@sha256:")
    );
}

#[test]
#[ignore = "needs busybox, nix-bin and root; run `tests/run`"]
fn the_template_builds_once_there_is_a_lockfile() {
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["base"]));
    let nix = Nix::new();
    let [project, option, name, nixpkgs] = flake(&nix);
    let copy = format!("{}/examples/template", project.trim_start_matches("path:"));
    let (template, lockfile) =
        (nix.directory().join("mine"), nix.directory().join("mine/lockfiles/alpine.json"));
    crate::support::tools::run("cp", &["-r", &copy, template.to_str().expect("a path")]);
    std::fs::create_dir(template.join("lockfiles")).expect("a folder");
    let reference = registry.reference("app:1");
    let arguments = ["lock", &reference, "--platform", "x86_64-linux", "-o"];
    n2c_in(nix.directory(), &[&arguments[..], &[lockfile.to_str().expect("a path")]].concat());
    let inputs = ["--override-input", "n2c", &project];
    let options = [&[option.as_str(), &name, &nixpkgs][..], &inputs].concat();
    for (output, layers) in [("fromImage", 1), ("default", 2)] {
        let target = format!("path:{}#{output}", template.display());
        let arguments = ["build", "--no-link", "--json", "--no-write-lock-file", &target];
        let text = nix.run("nix", &[&arguments[..], &options].concat());
        let built: Value = serde_json::from_str(&text).expect("JSON");
        let image = read(&nix.file(built[0]["outputs"]["out"].as_str().expect("a path")));
        assert_eq!(image["layers"].as_array().map(Vec::len), Some(layers));
    }
    // And one command copies it.
    let target = format!("path:{}#default.copyToOciArchive", template.display());
    let arguments = ["run", "--no-write-lock-file", &target];
    nix.run("nix", &[&arguments[..], &options, &["--", "hello.tar"]].concat());
    assert!(nix.directory().join("hello.tar").exists());
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn pull_image_takes_the_hash_of_skopeos_directory() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    let locked = lock(&nix, &registry, "app.json", &["--arch", "amd64"]);
    let (reference, digest) =
        (registry.reference("team/app"), locked["n2c"]["manifest"].as_str().expect("a digest"));
    let theirs = nix.directory().join("skopeo");
    let (source, destination) =
        (format!("docker://{reference}@{digest}"), format!("dir:{}", theirs.display()));
    crate::support::tools::skopeo(&[
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &source,
        &destination,
    ]);
    let hash = crate::support::tools::run(
        "nix-hash",
        &["--type", "sha256", "--base32", theirs.to_str().expect("a path")],
    );
    let hash = String::from_utf8(hash).expect("text");
    nix.configure(SANDBOX);
    let expression = |hash: &str| {
        format!(
            "n2c.pullImage {{ imageName = \"{reference}\"; imageDigest = \"{digest}\"; sha256 = \"{hash}\"; }}"
        )
    };
    let built = read(&nix.file(&build(&nix, &expression(hash.trim()))));
    let from_lock = read(&nix.file(&build(&nix, "n2c.fromLock ./app.json")));
    for (layer, locked) in built["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .zip(from_lock["layers"].as_array().expect("layers"))
    {
        for key in ["digest", "size", "diff_ids", "mediatype", "History"] {
            assert_eq!(layer[key], locked[key]);
        }
        assert!(nix.file(layer["layer-path"].as_str().expect("a path")).exists());
    }
    assert_eq!((&built["arch"], &built["created"]), (&from_lock["arch"], &from_lock["created"]));
}

#[test]
#[ignore = "needs docker-registry, skopeo, nix-bin and root; run `tests/run`"]
fn archives_are_built_from_blobs_without_a_network() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    lock(&nix, &registry, "app.json", &["--arch", "amd64"]);
    lock(&nix, &registry, "all.json", &["--all-platforms"]);
    nix.configure(SANDBOX);
    let reference = registry.reference("team/app:1");
    let pull = |destination: &str, architecture: &str| {
        let run =
            n2c_in(nix.directory(), &["pull", &reference, destination, "--arch", architecture]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        std::fs::read(nix.directory().join(destination.split(':').nth(1).expect("a path")))
            .expect("an archive")
    };
    let built =
        |expression: &str| std::fs::read(nix.file(&build(&nix, expression))).expect("an archive");
    let asked = registry.requests_of_n2c().len();
    let docker = built("n2c.toDockerArchive ./app.json");
    let requests = registry.requests_of_n2c().split_off(asked);
    assert!(requests.iter().all(|request| request.contains("/blobs/")), "{requests:?}");
    assert!(docker == pull("docker-archive:a.tar:team/app:1", "amd64"), "they differ");
    // nix-snapshotter's `pkg/nix2container/generate.go` reads its base image like this: it
    // takes the list in `manifest.json`, and expects its layers to be uncompressed tar files.
    let example = format!(
        "import {ROOT}/examples/nix-snapshotter.nix {{ n2c = {}; lock = ./app.json; system = \"x86_64-linux\"; \
         pkgs = {{ hello = \"hello\"; nix-snapshotter.buildImage = a: a.fromImage; }}; }}",
        nix.directory().join("n2c").display()
    );
    let base = nix.file(&nix.run("nix-build", &["--no-out-link", "-E", &example]));
    let file = |name: &str| tools::run("tar", &["-xOf", base.to_str().expect("a path"), name]);
    let list: Value = serde_json::from_slice(&file("manifest.json")).expect("JSON");
    let layers = list[0]["Layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 3);
    for layer in layers {
        let layer = file(layer.as_str().expect("a name"));
        assert_eq!(&layer[257..262], b"ustar");
    }
    let oci = built(
        "n2c.toOciArchive { lock = ./all.json; platform = \"aarch64-linux\"; imageTag = \"x\"; }",
    );
    assert!(oci == pull("oci-archive:b.tar:x", "arm64"), "they differ");
    // Blobs in the store aren't fetched again, whichever function needs them.
    drop(registry);
    let named =
        "n2c.toDockerArchive { lock = ./app.json; imageName = \"other\"; imageTag = \"2\"; }";
    assert_ne!(built(named), docker);
}

#[test]
#[ignore = "needs docker-registry, skopeo, busybox, nix-bin and root; run `tests/run`"]
fn from_lock_provides_programs_that_update_the_lockfile() {
    let registry = Distribution::start();
    push(&registry, &[]);
    let nix = nix_with_n2c();
    small_nixpkgs(&nix);
    for (file, options) in
        [("one.json", &["--arch", "arm64"][..]), ("all.json", &["--all-platforms"])]
    {
        lock(&nix, &registry, file, options);
        let locked = std::fs::read_to_string(nix.directory().join(file)).expect("read");
        let program = |name: &str| {
            let expression = format!(
                "let pkgs = ((import ./nixpkgs/flake.nix).outputs {{ self = null; }}).legacyPackages.x86_64-linux; \
                 n2c = import {ROOT}/nix {{ n2c = {}; system = \"x86_64-linux\"; inherit pkgs; }}; \
                 in (n2c.fromLock ./{file}).{name}",
                nix.directory().join("n2c").display()
            );
            nix.run("nix-build", &["--no-out-link", "-E", &expression])
        };
        let printed = nix.run(&format!("{}/bin/get-manifest", program("getManifest")), &[]);
        assert_eq!(format!("{printed}\n"), locked);
        nix.run(&format!("{}/bin/update", program("update")), &["new.json"]);
        assert_eq!(
            std::fs::read_to_string(nix.directory().join("new.json")).expect("read"),
            locked
        );
    }
}

// On a terminal, Nix's own progress bar counts the bytes that n2c has downloaded.
#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn nix_shows_the_progress_of_a_download() {
    const PIECE: usize = 1 << 20;
    let registry = Registry::start();
    let digest = n2c::oci::digest::Digest::sha256(&vec![0; 12 * PIECE]);
    registry.hook(move |_| {
        let pieces = (0..12).map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(150));
            vec![0; PIECE].into()
        });
        let body =
            crate::support::registry::ReplyBody::Pieces { pieces: Box::new(pieces), broken: false };
        let reply = Reply { status: 200, headers: Vec::new(), body };
        Some(reply.with("content-length", (12 * PIECE).to_string()))
    });
    let nix = nix_with_n2c();
    let expression = with_n2c(
        &nix,
        "x86_64-linux",
        &format!(
            "n2c.fetchBlob {{ repository = \"{}\"; digest = \"{digest}\"; }}",
            registry.reference("app")
        ),
    );
    std::fs::write(nix.directory().join("blob.nix"), expression).expect("written");
    let command = "nix build --impure --no-link --file blob.nix";
    let shown = nix.run("script", &["--quiet", "--return", "--command", command, "/dev/null"]);
    assert!(shown.contains("MiB DL]"), "no progress: {shown:?}");
}

// The derivations that `n2c blobs` prints read the same variables as those in `nix/`.
#[test]
fn printed_derivations_may_read_the_same_variables() {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["x"]));
    let reference = registry.reference("app:1");
    n2c_in(directory.path(), &["lock", &reference, "--arch", "amd64", "-o", "lock.json"]);
    let variables = |text: &str| -> Vec<String> {
        let list = text.split_once("impureEnvVars = [").expect("a list").1;
        let list = list.split_once(']').expect("an end").0;
        list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let printed = n2c_in(directory.path(), &["blobs", "lock.json", "--format", "nix"]);
    let file = std::fs::read_to_string(format!("{ROOT}/nix/fetch.nix")).expect("a file");
    assert!(variables(&file).contains(&"N2C_MIRRORS".to_owned()));
    assert_eq!(variables(printed.text()), variables(&file));
}
