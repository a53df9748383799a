//! The examples in `examples/images.nix`, built by real Nix and run by podman: what
//! nix2container's own tests assert about each.

use std::fs;

use serde_json::{Value, json};

use crate::support::functions::{ROOT, SANDBOX, nix_with_n2c, programs};
use crate::support::images::Image;
use crate::support::program::n2c_in;
use crate::support::registry::Registry;
use crate::support::tools::{Distribution, Nix, Podman, run};

/// Nix with busybox in a folder, and the lockfile of a base image.
fn prepare(registry: &Registry) -> Nix {
    let nix = nix_with_n2c();
    programs(&nix);
    registry.put_image("base", "1", &Image::new("linux/amd64", &["the base says hello"]));
    let reference = registry.reference("base:1");
    let arguments = ["lock", &reference, "--platform", "x86_64-linux", "-o", "base.json"];
    n2c_in(nix.directory(), &arguments).text();
    nix.configure(SANDBOX);
    nix
}

/// Builds an example, and returns the path of its image.json.
fn build(nix: &Nix, name: &str) -> String {
    let here = nix.directory().display();
    let expression = format!(
        "(import {ROOT}/examples/images.nix {{ n2c = {here}/n2c; lock = {here}/base.json; \
         programs = builtins.path {{ path = {here}/programs; name = \"programs\"; }}; \
         system = \"x86_64-linux\"; }}).{name}"
    );
    nix.run("nix-build", &["--no-out-link", "-E", &expression])
}

#[test]
#[ignore = "needs nix-bin, umoci and root; run `tests/run`"]
fn nix_agrees_with_the_database_of_an_image() {
    let registry = Registry::start();
    let nix = prepare(&registry);
    let built = build(&nix, "nixDatabase");
    let program = nix.directory().join("n2c/bin/n2c").display().to_string();
    let layout = format!("oci:{}:1", nix.directory().join("layout").display());
    nix.run(&program, &["copy", "--quiet", &format!("nix:{built}"), &layout]);
    let bundle = nix.directory().join("bundle").display().to_string();
    run("umoci", &["unpack", "--image", layout.trim_start_matches("oci:"), &bundle]);
    // As in a container: its own store is the only one.
    let inside = |program: &str| {
        let script = format!(
            "mount --bind {bundle}/rootfs/nix /nix && export NIX_REMOTE=local NIX_CONF_DIR=/nowhere \
             HOME=/nowhere && {program} 2>&1"
        );
        String::from_utf8(run("unshare", &["-m", "sh", "-c", &script])).expect("text")
    };
    let verified = inside("nix-store --verify --check-contents");
    assert!(!verified.contains("error") && !verified.contains("modified"), "{verified}");
    let listed = inside("nix-store --query --requisites /nix/var/nix/gcroots/docker/*");
    let paths: Vec<&str> = listed.lines().filter(|line| line.starts_with("/nix/store/")).collect();
    let on_disk = std::path::Path::new(&bundle).join("rootfs/nix/store");
    let mut expected: Vec<String> = fs::read_dir(on_disk)
        .expect("a store")
        .map(|entry| format!("/nix/store/{}", entry.expect("an entry").file_name().display()))
        .filter(|path| !path.ends_with("/.links"))
        .collect();
    expected.sort();
    let mut found: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    found.sort();
    found.dedup();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 2, "{found:?}");
    // It is built to the same bytes once more.
    let drv = nix.run("nix-store", &["--query", "--deriver", &built]);
    let inputs = nix.run("nix-store", &["--query", "--requisites", &drv]);
    let database = inputs.lines().find(|line| line.ends_with("-nix-database.drv"));
    nix.run("nix-store", &["--realise", "--check", database.expect("a derivation")]);
}

#[test]
#[ignore = "needs nix-bin, podman, runc and root; run `tests/run`"]
fn each_does_what_it_says() {
    let registry = Registry::start();
    let nix = prepare(&registry);
    let podman = Podman::new();
    for (name, image, output) in [
        ("hello", "hello", "I am not dying\n"),
        ("basic", "basic", "Hello, world\n"),
        ("shell", "shell", "bin\n"),
        ("openbar", "openbar", "777\n"),
        ("fromImage", "from-image", "the base says hello"),
        ("layered", "layered", "in one of three layers"),
        ("nonReproducible", "non-reproducible", "made once\n"),
        ("nested", "nested", "from below"),
        ("duplicated", "duplicated", "once\n"),
        ("ownership", "ownership", "1001:1001 744\n"),
        ("merged", "merged", "/etc/1 600\n/etc/2 444\n/etc/3 444\n"),
        ("created", "created", "not in 1970\n"),
        ("metadata", "metadata", "with a history\n"),
        ("excludes", "excludes", ""),
        (
            "directories",
            "directories",
            "0:0 755 /nix\n1000:1000 1775 /nix/store\n1000:0 700 /home/me\n",
        ),
        ("fromTar", "from-tar", "from an archive\n"),
        (
            "nixDatabase",
            "nix-database",
            "1000:1000 755 /nix/store\n1000:1000 755 /nix/var/nix/db/db.sqlite\n",
        ),
    ] {
        let built = build(&nix, name);
        let source = format!("nix:{built}");
        let archive = nix.directory().join(format!("{name}.tar")).display().to_string();
        let destination = format!("docker-archive:{archive}:{image}:1");
        let program = nix.directory().join("n2c/bin/n2c").display().to_string();
        nix.run(&program, &["copy", "--quiet", &source, &destination]);
        podman.run(&["load", "--quiet", "--input", &archive]);
        let printed = podman.run_container(&format!("docker.io/library/{image}:1"), &[]);
        if name == "excludes" {
            // The container's runtime adds files to `/etc`.
            assert!(printed.contains("text\n") && printed.ends_with("/share:\n"), "{printed}");
        } else if name == "shell" {
            assert!(printed.lines().any(|line| line == "bin"), "{name}: {printed}");
        } else {
            assert_eq!(printed, output, "{name}");
        }
    }
    let inspect = |image: &str| -> Value {
        let text = podman.run(&["image", "inspect", &format!("docker.io/library/{image}:1")]);
        serde_json::from_str(&text).expect("JSON")
    };
    let layers = |image: &str| inspect(image)[0]["RootFS"]["Layers"].as_array().map(Vec::len);
    assert_eq!(layers("layered"), Some(3));
    // The shared layer, the one above it, and what the image adds, which is nothing.
    assert_eq!(layers("duplicated"), Some(2));
    let created = inspect("created")[0]["Created"].clone();
    assert_eq!(created, json!("2024-05-13T09:31:10Z"));
    let history = inspect("metadata")[0]["History"][0].clone();
    let expected = ("somebody", "somebody else", "a comment");
    let text = |key: &str| history[key].as_str().expect("text").to_owned();
    assert_eq!((&*text("created_by"), &*text("author"), &*text("comment")), expected);
}

#[test]
#[ignore = "needs nix-bin, docker-registry, podman, runc and root; run `tests/run`"]
fn services_are_copied_together() {
    let nix = nix_with_n2c();
    let programs = programs(&nix);
    nix.configure(SANDBOX);
    let registry = Distribution::start();
    let here = nix.directory().display();
    let expression = format!(
        "(import {ROOT}/examples/services.nix {{ n2c = {here}/n2c; programs = {programs}; \
         system = \"x86_64-linux\"; registry = \"{}\"; }}).copyAll",
        registry.reference("acme")
    );
    let script = nix.run("nix-build", &["--no-out-link", "-E", &expression]);
    // Where nothing is remembered after the run.
    let copy = [&*format!("{script}/bin/copy-images")];
    let variables = ["--unset=HOME", "/bin/sh"];
    let printed = nix.run("env", &[&variables[..], &copy].concat());
    assert_eq!(printed.lines().count(), 2, "{printed}");
    // What both have was sent once.
    let requests = registry.requests_of_n2c();
    let count = |what: &dyn Fn(&String) -> bool| requests.iter().filter(|one| what(one)).count();
    assert_eq!(count(&|line| line.contains("mount=")), 1, "{requests:?}");
    // A layer and a config of each, and the shared layer.
    let sent = |line: &String| line.contains("PUT") && line.contains("/blobs/uploads/");
    assert_eq!(count(&sent), 5, "{requests:?}");

    let podman = Podman::new();
    for (name, expected) in [
        ("web", "the web\n".to_owned()),
        (
            "worker",
            "hello\nmade\n1000 700 /home/worker\n1000 400 /etc/secret\n0 1777 /tmp\nworker:x:1000:1000::/home/worker:/bin/sh\n"
                .to_owned(),
        ),
    ] {
        let reference = registry.reference(&format!("acme/{name}:1"));
        podman.run(&["pull", "--quiet", "--tls-verify=false", &reference]);
        assert_eq!(podman.run_container(&reference, &[]), expected);
    }
}
