//! `docs/commands.md` is generated from the program's help. After changing the command
//! line, regenerate it with `N2C_WRITE_DOCS=1 cargo test --test offline docs`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::images::{self, Image};
use crate::support::program::{binary, n2c};
use crate::support::pushable::Pushable;
use crate::support::registry::Registry;

const COMMANDS: [&str; 24] = [
    "lock",
    "update",
    "refresh",
    "diff",
    "verify",
    "inspect",
    "blobs",
    "blob",
    "prefetch",
    "pull",
    "copy",
    "serve",
    "hash",
    "image",
    "layers-from-reproducible-storepaths",
    "layers-from-non-reproducible-storepaths",
    "image-from-dir",
    "image-from-manifest",
    "auth show",
    "auth export",
    "doctor",
    "demo",
    "completions",
    "man",
];

#[test]
fn the_list_of_commands_matches_the_help() {
    let help = |arguments: &[&str]| {
        let run = n2c(&[arguments, &["-h"]].concat());
        let lines: Vec<&str> = run.text().lines().map(str::trim_end).collect();
        lines.join("\n")
    };
    let mut text = "# Commands\n\nMade from the command line's own definition; `--help` says more of each option.\n".to_owned();
    // Writing to a string can't fail.
    let _ = write!(text, "\n```text\n{}\n```\n", help(&[]));
    for command in COMMANDS {
        let words: Vec<&str> = command.split(' ').collect();
        let _ = write!(text, "\n## n2c {command}\n\n```text\n{}\n```\n", help(&words));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::env::var_os("N2C_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let written = std::fs::read_to_string(&path).expect("docs/commands.md");
    assert!(written == text, "run `N2C_WRITE_DOCS=1 cargo test --test offline docs`");
    // No command is left out of `COMMANDS`.
    let listed = help(&[]);
    let listed = listed.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| line.starts_with("  ")) {
        // Continuation lines are indented further.
        if line.starts_with("   ") {
            continue;
        }
        let name = line.trim().split(' ').next().expect("a name");
        let is_there = |command: &str| command.split(' ').next() == Some(name);
        assert!(name == "help" || COMMANDS.iter().any(|command| is_there(command)), "{name}");
    }
}

#[test]
fn links_in_the_documents_are_not_broken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    let documents = std::fs::read_dir(root.join("docs"))
        .expect("docs")
        .map(|entry| entry.expect("an entry").path());
    for document in documents.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&document).expect("a document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let file = link.split('#').next().unwrap_or_default();
            let target = document.parent().expect("a folder").join(file);
            assert!(target.exists(), "{}: broken link `{link}`", document.display());
            checked += 1;
        }
    }
    assert!(checked > 10);
}

/// Commands that other tests run: with Nix, or because they are how tests are run.
const ELSEWHERE: [&str; 12] = [
    "cargo ",
    "tests/run",
    // programs/nix.rs
    "nix run .#fromImage.getManifest",
    // programs/prefetch.rs
    "n2c prefetch",
    // programs/doctor.rs
    "n2c doctor",
    // Needs a docker daemon. programs/whole_images.rs reads such an archive with skopeo.
    "n2c pull alpine:3.19 docker-archive:/dev/stdout:alpine:3.19 | docker load",
    // programs/engines.rs
    "n2c copy nix:image.json docker-daemon:",
    "n2c copy nix:image.json containers-storage:",
    "n2c copy nix:image.json containerd:",
    // offline/serve_command.rs
    "n2c serve",
    // programs/build_image.rs
    "nix run .#image.copyTo",
    // programs/examples.rs
    "nix run .#copyAll",
];

/// The commands in the console blocks of the README and of docs/, in their order.
fn commands() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = [
        "README",
        "lockfiles",
        "nix",
        "registries",
        "images",
        "building",
        "copying",
        "snapshotter",
        "migrating",
    ];
    let mut commands = Vec::new();
    for name in names {
        let folder = if name == "README" { "" } else { "docs" };
        let path = root.join(folder).join(name).with_extension("md");
        let text = std::fs::read_to_string(path).expect("text");
        commands.extend(text.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned));
    }
    commands
}

/// A project as the documents assume it: with lockfiles in git, credentials in docker's
/// file, and a registry that is reached in the place of Docker Hub and ghcr.io.
fn project(directory: &Path, registry: &Registry) {
    let mut entries = Vec::new();
    for platform in ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"] {
        let image = Image::new(platform, &["base", "top"]);
        registry.put_image("library/alpine", &image.manifest.digest().to_string(), &image);
        entries.push(image.manifest.entry(platform));
    }
    for tag in ["3.19", "3.20"] {
        registry.put_manifest("library/alpine", tag, &images::index(&entries));
    }
    registry.put_image("acme/app", "1", &Image::new("linux/amd64", &["app"]));
    let write = |path: &str, text: &str| {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let host = registry.host();
    let location = |prefix: &str, path: &str| {
        format!(
            "[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{host}{path}\"\ninsecure = true\n"
        )
    };
    let settings = location("docker.io", "") + &location("ghcr.io", "");
    write(".config/containers/registries.conf", &settings);
    let credentials = json!({ "auths": { "ghcr.io": { "auth": "Ym9iOnNlY3JldC13b3Jk" } } });
    write(".docker/config.json", &credentials.to_string());
    // Store paths, and an image that was built earlier.
    let app = "store/00000000000000000000000000000001-app";
    write(app, "app");
    let path = directory.join(app).display().to_string();
    write("graph.json", &json!([{ "path": path, "references": [] }]).to_string());
    write("config.json", &json!({ "Entrypoint": [path] }).to_string());
    for (name, architecture) in [("amd64.json", "amd64"), ("arm64.json", "arm64")] {
        let image = json!({ "version": 1, "image-config": {}, "layers": [], "arch": architecture });
        write(name, &image.to_string());
    }
    let copies = json!([{ "sources": ["amd64.json"], "destinations": ["oci:copied:1"] }]);
    write("images.json", &copies.to_string());
    write("old.json", &json!({ "version": 1, "image-config": {}, "layers": [] }).to_string());
    let prepare = "mkdir lockfiles && n2c lock alpine:3.19 --arch amd64 -o lockfiles/alpine.json \
                   && cp lockfiles/alpine.json . && git init -q && git add . \
                   && git -c user.name=a -c user.email=a@b commit -qm a";
    let (code, output) = shell(directory, prepare);
    assert_eq!(code, Some(0), "{output}");
}

/// Runs a line in a shell that finds the program, and returns the exit code and all output.
fn shell(directory: &Path, line: &str) -> (Option<i32>, String) {
    let path = std::env::var("PATH").expect("a path");
    let programs = binary();
    let programs = programs.parent().expect("a folder").display();
    let output = Command::new("bash")
        .args(["-c", line])
        .current_dir(directory)
        .env_clear()
        .env("PATH", format!("{programs}:{path}"))
        .env("HOME", directory)
        .env("NIX_STORE_DIR", directory.join("store"))
        .output()
        .expect("bash");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn every_command_in_the_documents_runs() {
    let (directory, registry) = (tempfile::tempdir().expect("a directory"), Registry::start());
    project(directory.path(), &registry);
    let layer = images::layer("base").0.digest();
    // Which is at `localhost:5000` in the documents.
    let pushed = Pushable::start();
    let mut checked = 0;
    for line in commands() {
        if ELSEWHERE.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        let is_known = line.contains("n2c ") || line.starts_with("echo ");
        assert!(is_known, "no test runs `{line}`");
        // A digest that is cut short in the text.
        let line = line.replace("sha256:31e35…", &layer.to_string());
        let line = line.replace("localhost:5000", &pushed.registry.host());
        let (code, output) = shell(directory.path(), &line);
        assert_eq!(code, Some(0), "{line}\n{output}");
        checked += 1;
    }
    assert!(checked > 20, "only {checked} commands were found");
    for left_out in ELSEWHERE {
        let is_there = commands().iter().any(|line| line.starts_with(left_out));
        assert!(is_there, "no document has `{left_out}`");
    }
}
