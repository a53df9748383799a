//! The Nix functions `buildLayer` and `buildImage`, built by real Nix.

use std::fs;

use serde_json::{Value, json};

use crate::support::functions::{
    ROOT, build, eval, eval_error, greeting, nix_with_n2c, read, with_n2c, with_paths,
};
use crate::support::images::Image;
use crate::support::program::n2c_in;
use crate::support::registry::Registry;
use crate::support::tools::{Distribution, Nix, skopeo};

/// Nix, with the tree of golden case 90 beside n2c.
fn nix_with_greeting() -> Nix {
    let nix = nix_with_n2c();
    greeting(&nix);
    nix
}

fn layers(nix: &Nix, expression: &str) -> Value {
    let path = build(nix, &with_paths(nix, expression));
    read(&nix.file(&format!("{path}/layers.json")))
}

fn golden(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden-build/90-real-store/out");
    let text = fs::read(format!("{folder}/{name}.json")).expect("a golden file");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn layers_are_upstreams() {
    let nix = nix_with_greeting();
    for (expression, name) in [
        ("n2c.buildLayer { deps = [ greeting ]; }", "plain"),
        ("n2c.buildLayer { copyToRoot = greeting; }", "root"),
        (
            "n2c.buildLayer { contents = [ greeting ]; metadata = { created_by = \"nix2container\"; }; }",
            "root",
        ),
    ] {
        let mut expected = golden(name);
        expected[0]["History"] = json!({ "created_by": "nix2container" });
        assert_eq!(layers(&nix, expression), expected, "{expression}");
    }
    // One that is written holds what the other would hold.
    let path =
        build(&nix, &with_paths(&nix, "n2c.buildLayer { deps = [ app ]; reproducible = false; }"));
    let written = read(&nix.file(&format!("{path}/layers.json")));
    let hashed = layers(&nix, "n2c.buildLayer { deps = [ app ]; }");
    assert_eq!(written[0]["digest"], hashed[0]["digest"]);
    assert_eq!(
        written[0]["layer-path"],
        format!(
            "{path}/{}.tar",
            written[0]["digest"].as_str().expect("text").trim_start_matches("sha256:")
        )
    );
    assert_eq!(hashed[0]["paths"].as_array().map(Vec::len), Some(2));
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_layer_leaves_out_what_is_below_it() {
    let nix = nix_with_greeting();
    let names = |layers: &Value| -> Vec<String> {
        let layers = layers.as_array().expect("layers").iter();
        let paths = layers.flat_map(|layer| layer["paths"].as_array().cloned().unwrap_or_default());
        paths.map(|path| path["path"].as_str().expect("a path")[44..].to_owned()).collect()
    };
    let above = "n2c.buildLayer { deps = [ app ]; layers = [ (n2c.buildLayer { deps = [ greeting ]; }) ]; }";
    assert_eq!(names(&layers(&nix, above)), ["app"]);
    // As upstream's: what is below a layer that is named, is not.
    let nested = "n2c.buildLayer { deps = [ app ]; layers = [ (n2c.buildLayer { layers = [ \
                  (n2c.buildLayer { deps = [ greeting ]; }) ]; }) ]; }";
    assert_eq!(names(&layers(&nix, nested)), ["greeting", "app"]);
    // Sets of arguments are layers too, each above those before it.
    let image = build(
        &nix,
        &with_paths(
            &nix,
            "n2c.buildImage { name = \"x\"; layers = [ { deps = [ greeting ]; } { deps = [ app ]; } ]; config.Cmd = [ \"${app}\" ]; }",
        ),
    );
    let image = read(&nix.file(&image));
    assert_eq!(names(&image["layers"]), ["greeting", "app"]);
    // Forty of them: neither twice the work for each, nor a list that is twice as long.
    let many = "builtins.length (n2c.buildImage { name = \"x\"; layers = builtins.genList \
                (n: { deps = [ (builtins.toFile \"n${toString n}\" \"\") ]; }) 40; }).layers";
    assert_eq!(eval(&nix, "x86_64-linux", many), json!(41));
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn images_have_upstreams_attributes() {
    let nix = nix_with_greeting();
    let image = "n2c.buildImage { name = \"Acme/Hello\"; config = { Entrypoint = [ \"${app}\" ]; \
                 Env = [ \"A=1\" ]; }; created = \"2024-05-13T09:31:10Z\"; arch = \"arm64\"; }";
    let path = build(&nix, &with_paths(&nix, image));
    let built = read(&nix.file(&path));
    assert_eq!(
        (&built["arch"], &built["created"]),
        (&json!("arm64"), &json!("2024-05-13T09:31:10Z"))
    );
    // The config's references are in the image, and the file with the config isn't.
    let [layer] = &built["layers"].as_array().expect("layers")[..] else { panic!("{built}") };
    let paths: Vec<&str> = layer["paths"]
        .as_array()
        .expect("paths")
        .iter()
        .map(|path| &path["path"].as_str().expect("a path")[44..])
        .collect();
    assert_eq!(paths, ["greeting", "app"]);
    let attributes = format!(
        "let image = {image}; in {{ inherit (image) imageName imageTag imageRefUnsafe name; }}"
    );
    let hash = &path["/nix/store/".len()..][..32];
    let expected = json!({
        "imageName": "acme/hello", "imageTag": hash, "imageRefUnsafe": format!("acme/hello:{hash}"),
        "name": "image-Hello.json",
    });
    assert_eq!(eval(&nix, "x86_64-linux", &with_paths(&nix, &attributes)), expected);
    // On top of another image.
    let above = format!(
        "n2c.buildImage {{ name = \"above\"; fromImage = {image}; inheritConfig = \"env\"; \
         config.Cmd = [ \"${{greeting}}\" ]; tag = \"v1\"; }}"
    );
    let above = read(&nix.file(&build(&nix, &with_paths(&nix, &above))));
    assert_eq!(above["image-config"]["Env"], json!(["A=1"]));
    assert_eq!(above["layers"][0], *layer);
}

#[test]
#[ignore = "needs nix-bin, docker-registry, skopeo and root; run `tests/run`"]
fn scripts_copy_an_image_that_was_built() {
    let nix = nix_with_greeting();
    let registry = Distribution::start();
    let image = format!(
        "n2c.buildImage {{ name = \"{}\"; tag = \"1\"; compress = \"gzip\"; \
         layers = [ {{ deps = [ greeting ]; }} ]; config.Entrypoint = [ \"${{app}}\" ]; }}",
        registry.reference("acme/hello")
    );
    let script = |name: &str, program: &str| {
        let path = build(&nix, &with_paths(&nix, &format!("({image}).{name}")));
        format!("{path}/bin/{program}")
    };
    let to_registry = script("copyToRegistry", "copy-to-registry");
    let digest = nix.run(&to_registry, &["--dest-tls-verify=false", "--dest-creds", "a:b c$d'e"]);
    let asked = registry.requests_of_n2c().len();
    // What it compresses to was recorded, so another machine needs to ask no more.
    fs::remove_dir_all(nix.directory().join(".cache")).expect("removed");
    assert_eq!(nix.run(&to_registry, &[]), digest);
    assert_eq!(registry.requests_of_n2c().len() - asked, 2);
    let other = registry.reference("acme/other:2");
    nix.run(&script("copyTo", "copy-to"), &[&format!("docker://{other}"), "--quiet"]);
    let archive = script("copyToOciArchive", "copy-to-oci-archive");
    nix.run(&archive, &["image.tar"]);
    let (success, _, stderr) = nix.try_run(&archive, &[]);
    assert!(!success && stderr.contains("name the archive"), "{stderr}");
    let archive = format!("oci-archive:{}", nix.directory().join("image.tar").display());
    let config = |image: &str| skopeo(&["inspect", "--tls-verify=false", "--config", image]);
    // Those for engines run their programs, which this test doesn't start.
    for (name, program, error) in [
        ("copyToDockerDaemon", "copy-to-docker-daemon", "failed to reach docker"),
        ("copyToPodman", "copy-to-podman", "failed to run `podman`"),
        ("copyToContainerd", "copy-to-containerd", "failed to run `ctr`"),
    ] {
        let script = script(name, program);
        let variables = ["PATH=/nowhere", "DOCKER_HOST=unix:///nowhere"];
        let (success, _, stderr) =
            nix.try_run("env", &[&variables[..], &["/bin/sh", &script]].concat());
        assert!(!success && stderr.contains(error), "{stderr}");
    }
    let expected = config(&format!("docker://{}", registry.reference("acme/hello:1")));
    assert_eq!(config(&format!("docker://{other}")), expected);
    assert_eq!(config(&archive), expected);
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn mistakes_are_named() {
    let nix = nix_with_greeting();
    let text =
        |expression: &str| eval_error(&nix, &with_paths(&nix, &format!("({expression}).drvPath")));
    for (expression, expected) in [
        (
            "n2c.buildLayer { contents = greeting; copyToRoot = greeting; }",
            "both `copyToRoot` and `contents`",
        ),
        (
            "n2c.buildLayer { layers = [ greeting ]; }",
            "holds something that buildLayer didn't make",
        ),
        ("n2c.buildLayer { layers = { }; }", "must be a list"),
        ("n2c.buildImage { name = \"\"; }", "`name` of buildImage"),
        ("n2c.buildImage { name = \"a b\"; }", "invalid `name` `a b`"),
        ("n2c.buildLayer { perms = { }; }", "`perms` must be a list"),
        ("n2c.buildLayer { maxLayers = [ ]; }", "`maxLayers` must be a number"),
        ("n2c.buildLayer { fromTar = app; deps = [ app ]; }", "has `fromTar`, so it can't"),
        (
            "n2c.buildLayer { ensureDirs = [ { path = \"../x\"; } ]; }",
            "`ensureDirs` must be a list",
        ),
        ("n2c.buildLayer { excludes = \"x\"; }", "`excludes` must be a list"),
        ("n2c.buildLayer { compress = \"xz\"; }", "`compress` must be"),
        ("n2c.buildImage { name = \"x\"; inheritConfig = \"some\"; }", "`inheritConfig` must be"),
        ("n2c.buildImage { name = \"x\"; config = [ ]; }", "`config` of buildImage must be a set"),
        (
            "{ drvPath = (n2c.buildImage { name = \"x\"; tag = \"a/b\"; }).imageTag; }",
            "invalid `tag` `a/b`",
        ),
    ] {
        let error = text(expression);
        assert!(error.contains(expected), "{expression}: {error}");
    }
    // What only the build can know: the error names the argument.
    for (expression, expected) in [
        ("n2c.buildLayer { copyToRoot = app; }", "it is a file, not a directory"),
        ("n2c.buildLayer { deps = [ app ]; ignore = greeting; }", "can't be left out"),
        (
            "n2c.buildLayer { deps = [ app ]; perms = [ { path = \"${app}\"; uid = \"0\"; } ]; }",
            "invalid permissions in `perms`",
        ),
        (
            "n2c.buildImage { name = \"x\"; config.Entrypoint = \"x\"; }",
            "`Entrypoint` must be a list of strings",
        ),
        ("n2c.buildLayer { fromTar = app; }", "is not a tar archive"),
        ("n2c.buildImage { name = \"x\"; fromImage = app; }", "invalid image in"),
    ] {
        let expression = with_n2c(&nix, "x86_64-linux", &with_paths(&nix, expression));
        let (success, _, error) = nix.try_run("nix-build", &["--no-out-link", "-E", &expression]);
        assert!(!success && error.contains(expected), "{expression}: {error}");
    }
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn the_example_builds_on_a_locked_image() {
    let nix = nix_with_n2c();
    let registry = Registry::start();
    registry.put_image("base", "1", &Image::new("linux/amd64", &["base", "top"]));
    let arguments =
        ["lock", &registry.reference("base:1"), "--platform", "x86_64-linux", "-o", "base.json"];
    n2c_in(nix.directory(), &arguments).text();
    let expression = format!(
        "import {ROOT}/examples/build-image.nix {{ n2c = {0}/n2c; lock = {0}/base.json; \
         system = \"x86_64-linux\"; }}",
        nix.directory().display()
    );
    let path = nix.run("nix-build", &["--no-out-link", "-E", &expression]);
    let image = read(&nix.file(&path));
    assert_eq!(image["image-config"]["Env"], json!(["PATH=/usr/bin:/bin", "LANG=C.UTF-8"]));
    let layers = image["layers"].as_array().expect("layers");
    let kinds: Vec<bool> = layers.iter().map(|layer| layer["paths"].is_array()).collect();
    // Two of the base, which are files, and two of store paths.
    assert_eq!(kinds, [false, false, true, true]);
    assert!(layers[..2].iter().all(|layer| layer["layer-path"].is_string()), "{image}");
}
