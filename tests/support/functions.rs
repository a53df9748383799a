//! Shared code for tests of the Nix functions: Nix with n2c in it, and an image.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::images::{self, Image, write_layout};
use super::program::n2c_in;
use super::tools::{Distribution, Nix};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Settings that let the program find its C library in a sandbox. A program from nixpkgs
/// would bring its own.
pub const SANDBOX: &str = "sandbox = true\nsandbox-paths = /lib /lib64 /usr/lib\n";

/// Nix, with n2c in a folder that expressions copy into the store.
pub fn nix_with_n2c() -> Nix {
    let nix = Nix::new();
    let folder = nix.directory().join("n2c/bin");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(super::program::binary(), folder.join("n2c")).expect("a copy");
    nix
}

/// Makes the tree of golden case 90, whose path in the store is known, and returns its path.
pub fn greeting(nix: &Nix) -> PathBuf {
    let tree = nix.directory().join("greeting");
    fs::create_dir_all(tree.join("bin")).expect("made");
    fs::create_dir(tree.join("empty")).expect("made");
    fs::write(tree.join("bin/greet"), "#!/bin/sh\necho hi\n").expect("written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tree.join("bin/greet"), executable).expect("set");
    std::os::unix::fs::symlink("bin/greet", tree.join("link")).expect("linked");
    tree
}

/// Wraps an expression so that there is a tree `greeting` in it, and a file `app` that refers to
/// it.
pub fn with_paths(nix: &Nix, expression: &str) -> String {
    format!(
        "let greeting = builtins.path {{ path = {}; name = \"greeting\"; }}; \
         app = builtins.toFile \"app\" \"exec ${{greeting}}/bin/greet\"; in {expression}",
        nix.directory().join("greeting").display()
    )
}

/// Makes a package with a static busybox, and returns an expression for it.
pub fn programs(nix: &Nix) -> String {
    let folder = nix.directory().join("programs");
    fs::create_dir_all(folder.join("bin")).expect("made");
    fs::copy("/bin/busybox", folder.join("bin/busybox")).expect("copied");
    format!("builtins.path {{ path = {}; name = \"programs\"; }}", folder.display())
}

/// Wraps an expression so that `n2c` in it is the set of functions.
pub fn with_n2c(nix: &Nix, system: &str, expression: &str) -> String {
    format!(
        "let n2c = import {ROOT}/nix {{ n2c = {}; system = \"{system}\"; }}; in {expression}",
        nix.directory().join("n2c").display()
    )
}

pub fn build(nix: &Nix, expression: &str) -> String {
    let expression = with_n2c(nix, "x86_64-linux", expression);
    nix.run("nix-build", &["--no-out-link", "-E", &expression])
}

pub fn eval(nix: &Nix, system: &str, expression: &str) -> Value {
    let expression = with_n2c(nix, system, expression);
    let options =
        ["--eval", "--strict", "--json", "--option", "allow-import-from-derivation", "false"];
    let text = nix.run("nix-instantiate", &[&options[..], &["-E", &expression]].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// Evaluates an expression, which must fail, and returns the error.
pub fn eval_error(nix: &Nix, expression: &str) -> String {
    let expression = with_n2c(nix, "x86_64-linux", expression);
    let (success, _, stderr) =
        nix.try_run("nix-instantiate", &["--eval", "--strict", "--json", "-E", &expression]);
    assert!(!success, "it evaluates without an error: {expression}");
    stderr
}

/// Pushes an image for two platforms as `team/app:1`.
pub fn push(registry: &Distribution, more: &[&str]) -> [Image; 2] {
    let layout = tempfile::tempdir().expect("a directory");
    let all = ["linux/amd64", "linux/arm64/v8"]
        .map(|platform| Image::new(platform, &["shared", &format!("for {platform}"), "shared"]));
    let index = images::index(&[
        all[0].manifest.entry("linux/amd64"),
        all[1].manifest.entry("linux/arm64/v8"),
    ]);
    let mut blobs = Vec::new();
    for image in &all {
        blobs.extend([&image.manifest, &image.config]);
        blobs.extend(&image.layers);
    }
    write_layout(layout.path(), &[("1", &index)], &blobs);
    registry.push(layout.path(), "1", "team/app:1", &[&["--preserve-digests"], more].concat());
    all
}

pub fn lock(nix: &Nix, registry: &Distribution, file: &str, more: &[&str]) -> Value {
    let reference = registry.reference("team/app:1");
    let run = n2c_in(nix.directory(), &[&["lock", &reference, "-o", file], more].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    read(&nix.directory().join(file))
}

pub fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}
