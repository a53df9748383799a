//! n2c's main job, from a tag to what nix2container builds upon, in ten seconds
//! and without a network.
//!
//!     cargo run --release --example quickstart
//!
//! A registry is started on this machine, with a small image for three
//! platforms. Then the real program talks to it over real HTTP; every command is
//! shown as you would type it.

#![allow(clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::images::{self, Image};
use support::program::command;
use support::registry::Registry;

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"];

fn main() -> Result<(), Box<dyn Error>> {
    build_the_program()?;
    let directory = tempfile::tempdir()?;
    let registry = Registry::start();
    fill(&registry);
    let shell = Shell { directory: directory.path(), registry: &registry };
    let image = registry.reference("demo/hello:1.0");

    println!("A registry on this machine holds `{image}`, for {}.", PLATFORMS.join(", "));

    step(1, "What is it?");
    shell.run(&["inspect", &image, "--arch", "aarch64"])?;

    step(2, "Lock it. Three small requests; no layer moves.");
    shell.run(&["lock", &image, "--arch", "aarch64", "-o", "hello.json"])?;
    shell.show_requests(3);
    let lock: Value = serde_json::from_slice(&std::fs::read(directory.path().join("hello.json"))?)?;
    println!("\n  hello.json is the image's manifest, and says what it locks:\n");
    for (key, value) in [
        ("ref", lock["n2c"]["ref"].to_string()),
        ("platform", lock["n2c"]["platform"].to_string()),
        ("manifest", lock["n2c"]["manifest"].to_string()),
    ] {
        println!("    {key:<9} {value}");
    }

    step(3, "Where will Nix keep its blobs? Known before anything is fetched, and without Nix.");
    println!("  (The store of this demonstration is a folder; yours is /nix/store.)\n");
    let blobs: Value = serde_json::from_str(&shell.run(&["blobs", "hello.json"])?)?;
    std::fs::write(directory.path().join("blobs.json"), blobs.to_string())?;

    step(4, "Fetch them: what Nix does, one fixed-output derivation for each, n2c as the builder.");
    std::fs::create_dir(directory.path().join("store"))?;
    let repository = registry.reference("demo/hello");
    for (hex, path) in blobs.as_object().into_iter().flatten() {
        let path = path.as_str().unwrap_or_default();
        shell.run(&["blob", &repository, &format!("sha256:{hex}"), "-o", path])?;
    }
    shell.show_requests(blobs.as_object().map_or(0, serde_json::Map::len));

    step(5, "Describe the image for nix2container.");
    shell.run(&[
        "image-from-manifest",
        "image.json",
        "hello.json",
        "blobs.json",
        "--inherit",
        "env",
    ])?;
    println!();
    for line in std::fs::read_to_string(directory.path().join("image.json"))?.lines() {
        println!("    {}", shell.shorten(&line.replace('\t', "  ")));
    }

    println!("\nThat is all. With a network: n2c lock alpine:3.19 > alpine-manifest.json");
    Ok(())
}

/// An example does not build the program beside it.
fn build_the_program() -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--bin", "n2c", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if cargo.status()?.success() { Ok(()) } else { Err("the program does not build".into()) }
}

fn fill(registry: &Registry) {
    let mut entries = Vec::new();
    for platform in PLATFORMS {
        let image = Image::new(platform, &["a base", &format!("hello from {platform}")]);
        registry.put_image("demo/hello", platform, &image);
        entries.push(image.manifest.entry(platform));
        let (attestation, entry) = images::attestation(&image);
        registry.put_image("demo/hello", "attestation", &attestation);
        entries.push(entry);
    }
    registry.put_manifest("demo/hello", "1.0", &images::index(&entries));
}

fn step(number: usize, title: &str) {
    println!("\n{number}. {title}\n");
}

struct Shell<'a> {
    directory: &'a Path,
    registry: &'a Registry,
}

impl Shell<'_> {
    /// Runs a command, shows it and what it printed, and returns its result.
    fn run(&self, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
        let typed: Vec<String> = arguments.iter().map(|word| self.shorten(word)).collect();
        println!("  $ n2c {}", typed.join(" "));
        let store = self.directory.join("store");
        let output = command(self.directory, arguments).env("NIX_STORE_DIR", store).output()?;
        let stdout = String::from_utf8(output.stdout)?;
        for line in stdout.lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
            println!("    {}", self.shorten(line));
        }
        if output.status.success() {
            Ok(stdout)
        } else {
            Err(format!("`n2c {}` failed", arguments.join(" ")).into())
        }
    }

    /// Shows the last requests that the registry was asked.
    fn show_requests(&self, count: usize) {
        println!("\n  The registry was asked:\n");
        let log = self.registry.log();
        for line in &log[log.len().saturating_sub(count)..] {
            println!("    {line}");
        }
    }

    /// A line without the place of the temporary folder.
    fn shorten(&self, line: &str) -> String {
        line.replace(&format!("{}/", self.directory.display()), "")
    }
}
