//! What users of nixpkgs' dockerTools have and expect: the options of its functions, and its
//! archives, in both directions.

use std::fs;

use serde_json::{Value, json};

use crate::support::functions::{
    SANDBOX, build, eval, eval_error, greeting, nix_with_n2c, read, with_n2c, with_paths,
};
use crate::support::images::Image;
use crate::support::program::n2c_in;
use crate::support::registry::Registry;
use crate::support::tools::{Nix, run};

/// Reads an archive as the script of `streamLayeredImage` reads its base image: each layer by
/// its name in `manifest.json`, with the digest from the config. Then as `buildImage` does: each
/// `layer.tar` in a folder, through links.
const READER: &str = r#"
import hashlib, json, os, sys, tarfile
archive = tarfile.open(sys.argv[1])
manifest = json.load(archive.extractfile(archive.getmember("manifest.json")))[0]
config = json.load(archive.extractfile(archive.getmember(manifest["Config"])))
assert isinstance(config["config"].get("Env", []), list)
layers = list(zip(manifest["Layers"], config["rootfs"]["diff_ids"]))
for name, diff_id in layers:
    content = archive.extractfile(archive.getmember(name)).read()
    assert "sha256:" + hashlib.sha256(content).hexdigest() == diff_id, name
archive.extractall(sys.argv[2])
folders = [name for name in os.listdir(sys.argv[2]) if os.path.isdir(os.path.join(sys.argv[2], name))]
for folder in folders:
    tarfile.open(os.path.join(sys.argv[2], folder, "layer.tar")).getnames()
assert json.load(open(os.path.join(sys.argv[2], "repositories")))
print(len(layers), len(folders), manifest["RepoTags"][0])
"#;

fn nix_in_sandbox() -> Nix {
    let nix = nix_with_n2c();
    greeting(&nix);
    nix.configure(SANDBOX);
    nix
}

fn built(nix: &Nix, expression: &str) -> Value {
    read(&nix.file(&build(nix, &with_paths(nix, expression))))
}

#[test]
#[ignore = "needs nix-bin, python3 and root; run `tests/run`"]
fn its_scripts_read_n2cs_archives() {
    let nix = nix_in_sandbox();
    let registry = Registry::start();
    registry.put_image("base", "1", &Image::new("linux/amd64", &["one", "two"]));
    let lock = ["lock", &registry.reference("base:1"), "--arch", "amd64", "-o", "base.json"];
    n2c_in(nix.directory(), &lock).text();
    for (expression, expected) in [
        ("n2c.toDockerArchive ./base.json", "2 2 docker.io/library/base:1"),
        (
            "n2c.toDockerArchive (n2c.buildImage { name = \"acme/app\"; tag = \"2\"; fromImage = \
             n2c.fromLock ./base.json; config.Cmd = [ app ]; })",
            "3 3 docker.io/acme/app:2",
        ),
    ] {
        let archive = nix.file(&build(&nix, &with_paths(&nix, expression)));
        let target = tempfile::tempdir().expect("a directory");
        let arguments = ["-c", READER, archive.to_str().expect("text")];
        let folder = [target.path().to_str().expect("text")];
        let printed = run("python3", &[&arguments[..], &folder].concat());
        let printed = String::from_utf8(printed).expect("text").replace("127.0.0.1", "docker.io");
        let printed = printed.trim();
        let (counts, name) = printed.rsplit_once(' ').expect("a name");
        let (expected_counts, expected_name) = expected.rsplit_once(' ').expect("a name");
        assert_eq!(counts, expected_counts, "{expression}");
        let base = |name: &str| name.rsplit('/').next().map(str::to_owned);
        assert_eq!(base(name), base(expected_name), "{expression}");
    }
    // The manifest of a built image has a digest that an OCI archive keeps.
    let oci = "n2c.toOciArchive (n2c.buildImage { name = \"acme/app\"; tag = \"2\"; config.Cmd = [ app ]; })";
    let archive = nix.file(&build(&nix, &with_paths(&nix, oci))).display().to_string();
    let index = run("tar", &["-xOf", &archive, "index.json"]);
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name, "acme/app:2");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn n2c_builds_on_its_archives() {
    let nix = nix_in_sandbox();
    let archive = "n2c.toDockerArchive (n2c.buildImage { name = \"base\"; tag = \"1\"; \
                   config = { Env = [ \"A=1\" ]; Cmd = [ app ]; }; })";
    let path = build(&nix, &with_paths(&nix, archive));
    let here = nix.directory();
    fs::copy(nix.file(&path), here.join("base.tar")).expect("copied");
    run("gzip", &["--keep", &here.join("base.tar").display().to_string()]);
    let image = |base: &str| {
        built(
            &nix,
            &format!(
                "n2c.buildImage {{ name = \"above\"; fromImage = {base}; inheritConfig = \"env\"; \
                 copyToRoot = greeting; }}"
            ),
        )
    };
    let expected = image("n2c.fromDockerArchive ./base.tar");
    assert_eq!(expected["image-config"]["Env"], json!(["A=1"]));
    assert_eq!(expected["layers"].as_array().map(Vec::len), Some(2));
    // Compressed, as `buildLayeredImage` leaves it, and by its name.
    for base in [
        "n2c.fromDockerArchive ./base.tar.gz",
        "n2c.fromDockerArchive { archive = ./base.tar; imageName = \"base\"; imageTag = \"1\"; }",
    ] {
        let digests = |image: &Value| {
            let layers = image["layers"].as_array().expect("layers").clone();
            layers.into_iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(digests(&image(base)), digests(&expected), "{base}");
    }
    let fails = |expression: &str, expected: &str| {
        let expression = with_n2c(&nix, "x86_64-linux", expression);
        let (success, _, error) = nix.try_run("nix-build", &["--no-out-link", "-E", &expression]);
        assert!(!success && error.contains(expected), "{expression}: {error}");
    };
    fails(
        "n2c.fromDockerArchive { archive = ./base.tar; imageName = \"other\"; }",
        "it has no image of that name",
    );
    fails(
        "n2c.fromDockerArchive { archive = ./base.tar; imageName = \"a b\"; }",
        "invalid `imageName`",
    );
    fails("n2c.fromDockerArchive ./nix.conf", "nix.conf");
    // An archive in the place of an image.json.
    fails("n2c.buildImage { name = \"x\"; fromImage = ./base.tar; }", "fromDockerArchive");
}

#[test]
#[ignore = "needs nix-bin, umoci and root; run `tests/run`"]
fn files_belong_to_whom_the_image_says() {
    let nix = nix_in_sandbox();
    let expression = "n2c.buildImage { name = \"x\"; uid = 1000; gid = 100; uname = \"me\"; \
                      copyToRoot = greeting; config.Cmd = [ app ]; \
                      layers = [ { deps = [ (builtins.toFile \"text\" \"\") ]; } ]; \
                      perms = [ { path = \"${greeting}\"; regex = \"/bin/greet$\"; mode = \"0700\"; \
                      uid = 7; gid = 7; } ]; }";
    let path = build(&nix, &with_paths(&nix, expression));
    let program = nix.directory().join("n2c/bin/n2c").display().to_string();
    let archive = nix.directory().join("x.tar").display().to_string();
    let destination = format!("docker-archive:{archive}:x:1");
    nix.run(&program, &["copy", "--quiet", &format!("nix:{path}"), &destination]);
    let list = run("tar", &["-xOf", &archive, "manifest.json"]);
    let list: Value = serde_json::from_slice(&list).expect("JSON");
    let mut owners = Vec::new();
    for layer in list[0]["Layers"].as_array().expect("layers") {
        let layer = run("tar", &["-xOf", &archive, layer.as_str().expect("a name")]);
        let mut layer = tar::Archive::new(&layer[..]);
        for entry in layer.entries().expect("entries") {
            let entry = entry.expect("an entry");
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (uid, gid) = (entry.header().uid(), entry.header().gid());
            owners.push((name, uid.expect("a number"), gid.expect("a number")));
        }
    }
    let of = |end: &str| {
        let found = owners.iter().find(|(name, ..)| name.ends_with(end));
        found.map_or_else(|| panic!("{end}: {owners:?}"), |(_, uid, gid)| (*uid, *gid))
    };
    assert_eq!(of("/link"), (1000, 100));
    assert_eq!(of("-app"), (1000, 100));
    assert_eq!(of("-text"), (1000, 100));
    assert_eq!(of("/bin/greet"), (7, 7));
    assert_eq!(of("/nix/store"), (0, 0));
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn images_have_its_other_options() {
    let nix = nix_in_sandbox();
    let now =
        built(&nix, "n2c.buildImage { name = \"x\"; created = \"now\"; config.Cmd = [ app ]; }");
    let created = now["created"].as_str().expect("a time").to_owned();
    assert!(created.as_str() > "2026-01-01" && created.ends_with('Z'), "{created}");
    assert_eq!(created.len(), "2026-01-01T00:00:00Z".len());
    let passthru = "(n2c.buildImage { name = \"x\"; passthru = { tests = 1; }; }).tests";
    assert_eq!(eval(&nix, "x86_64-linux", passthru), json!(1));
    let error = eval_error(&nix, "(n2c.buildImage { name = \"x\"; uid = \"me\"; }).drvPath");
    assert!(error.contains("`uid` and `gid` must be numbers from 0"), "{error}");
}
