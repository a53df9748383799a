//! `examples/bots/renovate.json` with the real Renovate, which `tests/run` installs from
//! npm: it finds the references that are pinned in lockfiles and Nix files, and proposes
//! what the registry has now.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::images::Image;
use crate::support::program::n2c_in;
use crate::support::tools::Distribution;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Where `tests/run` installs Renovate.
const RENOVATE: &str = "target/renovate/node_modules/renovate/dist/renovate.js";

/// The dependencies that Renovate finds in a directory, each with its file and the updates
/// that it proposes.
fn lookup(project: &Path, registry: &str) -> Vec<(String, Value)> {
    let rules = json!([{ "matchHost": registry, "insecureRegistry": true }]).to_string();
    let cache = tempfile::tempdir().expect("a directory");
    let output = Command::new("node")
        .arg(Path::new(ROOT).join(RENOVATE))
        .arg("--dry-run=lookup")
        .current_dir(project)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", project)
        .env("RENOVATE_BASE_DIR", cache.path())
        .env("RENOVATE_PLATFORM", "local")
        .env("RENOVATE_HOST_RULES", rules)
        .env("LOG_LEVEL", "debug")
        .env("LOG_FORMAT", "json")
        .stdin(Stdio::null())
        .output()
        .expect("node; `tests/run` installs it");
    let log = String::from_utf8_lossy(&output.stdout);
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = lines.rfind(|line| line["msg"] == "packageFiles with updates");
    let found = found.unwrap_or_else(|| panic!("{log}{}", String::from_utf8_lossy(&output.stderr)));
    let files = found["config"]["regex"].as_array().expect("files").clone();
    files
        .into_iter()
        .flat_map(|file| {
            let name = file["packageFile"].as_str().expect("a file").to_owned();
            let all = file["deps"].as_array().expect("dependencies").clone();
            all.into_iter().map(move |one| (name.clone(), one))
        })
        .collect()
}

#[test]
#[ignore = "needs docker-registry, skopeo, node and renovate; run `tests/run`"]
fn renovate_finds_and_updates_pinned_references() {
    let registry = Distribution::start();
    let [old, new] = ["old", "new"].map(|text| Image::new("linux/amd64", &[text]));
    registry.push_image(&old, "team/app:3.19");
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path();
    std::fs::create_dir(project.join("lockfiles")).expect("a folder");
    std::fs::copy(format!("{ROOT}/examples/bots/renovate.json"), project.join("renovate.json"))
        .expect("a copy");
    let reference = registry.reference("team/app:3.19");
    let lock = ["lock", &reference, "--arch=amd64", "-q", "-o", "lockfiles/app.json"];
    assert_eq!(n2c_in(project, &lock).code, 0);
    let pinned = format!("{reference}@{}", old.manifest.digest());
    let nix = [
        ("call.nix", format!("{{ n2c }}: n2c.fromRef \"{pinned}\"\n")),
        ("set.nix", format!("{{ n2c }}: n2c.fromRef {{\n  ref = \"{pinned}\";\n}}\n")),
        ("default.nix", format!("{{ n2c, ref ? \"{pinned}\" }}: n2c.fromRef ref\n")),
    ];
    for (file, text) in &nix {
        std::fs::write(project.join(file), text).expect("written");
    }
    // Renovate looks only at files that git tracks.
    let git = ["-C", project.to_str().expect("a path")];
    crate::support::tools::run("git", &[&git[..], &["init", "--quiet"]].concat());
    crate::support::tools::run("git", &[&git[..], &["add", "."]].concat());

    // No tag has moved: everything is found, and no update is proposed.
    let files = ["lockfiles/app.json", "call.nix", "set.nix", "default.nix"];
    let found = lookup(project, registry.host());
    assert_eq!(found.len(), files.len(), "{found:#?}");
    for (file, found) in &found {
        assert!(files.contains(&file.as_str()), "{file}");
        assert_eq!(found["depName"], registry.reference("team/app"));
        assert_eq!(found["currentValue"], "3.19");
        assert_eq!(found["currentDigest"], old.manifest.digest().to_string());
        assert_eq!(found["updates"], json!([]), "{file}");
    }

    // The tag moves, and a newer one appears.
    registry.push_image(&new, "team/app:3.19");
    registry.push_image(&new, "team/app:3.20");
    for (file, found) in lookup(project, registry.host()) {
        let updates = found["updates"].as_array().expect("updates");
        let is = |kind: &str| updates.iter().find(|update| update["updateType"] == kind);
        let digest = new.manifest.digest().to_string();
        assert_eq!(is("digest").expect("a new digest")["newDigest"], digest, "{file}");
        assert_eq!(is("minor").expect("a new tag")["newValue"], "3.20", "{file}");
        assert_eq!(is("minor").expect("a new tag")["newDigest"], digest, "{file}");
    }

    // Edit the line as Renovate would. `refresh` then writes what a fresh lock of the new
    // tag would.
    let path = project.join("lockfiles/app.json");
    let text = std::fs::read_to_string(&path).expect("read");
    let moved = text.replace(":3.19@", ":3.20@").replacen(
        &old.manifest.digest().to_string(),
        &new.manifest.digest().to_string(),
        1,
    );
    std::fs::write(&path, moved).expect("written");
    assert_eq!(n2c_in(project, &["refresh", "lockfiles/app.json"]).code, 0);
    let refreshed = std::fs::read_to_string(&path).expect("read");
    let fresh = n2c_in(project, &["lock", &registry.reference("team/app:3.20"), "--arch=amd64"]);
    assert_eq!(refreshed, fresh.text());
}
