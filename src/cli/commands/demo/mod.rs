//! `n2c demo`: shows n2c's main job, from a tag to the image.json that nix2container builds
//! on, in a few seconds and without a network.
//!
//! Starts a registry on this machine with a small image for three platforms. Then runs this
//! program against it over real HTTP, and shows every command as a user would type it.

mod image;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use n2c::observer::{Event, Observer};
use n2c::serve::{self, Registry};
use n2c::{Diagnose, Kind};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::cli::failure::Failure;
use crate::cli::hints::Hint;
use crate::cli::report::Report;

const REPOSITORY: &str = "demo/hello";
const TAG: &str = "1.0";

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to prepare the demonstration")]
    Prepare(#[source] io::Error),
    #[error("failed to serve the demonstration's image")]
    Serve(#[from] serve::Error),
    #[error("failed to run `n2c {command}`")]
    Start { command: String, source: io::Error },
    #[error("`n2c {command}` failed")]
    Step { command: String },
    #[error("failed to parse the output of `n2c {command}`")]
    Result { command: String, source: serde_json::Error },
    #[error("failed to access the files of the demonstration")]
    File(#[source] io::Error),
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Serve(error) => error.kind(),
            _ => Kind::Other,
        }
    }
}

impl Hint for Error {}

pub(crate) async fn run(report: &Report) -> Result<(), Failure> {
    let tour = Tour::start(report)?;
    let image = format!("{}/{REPOSITORY}:{TAG}", tour.registry.address());
    report.text(&format!("A registry on this machine holds `{image}`, for three platforms.\n"))?;

    tour.step("1. What is it?")?;
    tour.n2c(&["inspect", &image, "--arch", "aarch64"]).await?;

    tour.step("2. Lock it. Three small requests; no layer is downloaded.")?;
    tour.requests.take();
    tour.n2c(&["lock", &image, "--arch", "aarch64", "-o", "hello.json"]).await?;
    tour.show_requests()?;
    tour.show_lock()?;

    tour.step(
        "3. Where will Nix keep its blobs? This is known before any fetch, and without Nix.",
    )?;
    report.text("  (This demo's store is a temporary directory; yours is /nix/store.)\n\n")?;
    let text = tour.n2c(&["blobs", "hello.json"]).await?;
    fs::write(tour.directory.path().join("blobs.json"), &text).map_err(Error::File)?;
    let blobs: BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|source| Error::Result { command: "blobs".to_owned(), source })?;

    tour.step(
        "4. Fetch them. Nix does this in one fixed-output derivation per blob, built by n2c.",
    )?;
    let repository = format!("{}/{REPOSITORY}", tour.registry.address());
    tour.requests.take();
    for (hex, path) in &blobs {
        tour.n2c(&["blob", &repository, &format!("sha256:{hex}"), "-o", path]).await?;
    }
    tour.show_requests()?;

    tour.step("5. Describe the image for nix2container.")?;
    let files = ["image.json", "hello.json", "blobs.json"];
    tour.n2c(&[&["image-from-manifest"], &files[..], &["--inherit", "env"]].concat()).await?;
    tour.show_image()?;

    report.text("\nThat's all. With a network: n2c lock alpine:3.19 > alpine-manifest.json\n")
}

/// The requests since the last call of [`Requests::take`].
#[derive(Debug, Default)]
struct Requests(Mutex<Vec<String>>);

impl Requests {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Requests {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Served { method, target, status } = event {
            let line = format!("{method} {target} → {status}");
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }
}

/// The state of the demo: its registry, and a temporary directory to work in.
struct Tour<'a> {
    report: &'a Report,
    registry: Registry,
    requests: Arc<Requests>,
    program: PathBuf,
    directory: TempDir,
}

impl<'a> Tour<'a> {
    fn start(report: &'a Report) -> Result<Self, Error> {
        let requests = Arc::<Requests>::default();
        let registry =
            Registry::start(image::catalog()?, requests.clone()).map_err(Error::Prepare)?;
        let program = std::env::current_exe().map_err(Error::Prepare)?;
        let directory = tempfile::tempdir().map_err(Error::Prepare)?;
        // `blob` doesn't create the directory of its output; in a Nix build, it exists.
        fs::create_dir(directory.path().join("store")).map_err(Error::Prepare)?;
        Ok(Self { report, registry, requests, program, directory })
    }

    fn step(&self, title: &str) -> Result<(), Failure> {
        self.report.text(&format!("\n{title}\n\n"))
    }

    /// Runs a command, shows it and its output, and returns its stdout.
    async fn n2c(&self, arguments: &[&str]) -> Result<String, Failure> {
        let command = self.shorten(&arguments.join(" "));
        self.report.text(&format!("  $ n2c {command}\n"))?;
        // Don't use any of this user's configuration.
        let output = Command::new(&self.program)
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("HOME", self.directory.path())
            .env("NIX_STORE_DIR", self.directory.path().join("store"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| Error::Start { command: command.clone(), source })?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        self.show(stdout.lines().chain(stderr.lines()))?;
        if output.status.success() { Ok(stdout) } else { Err(Error::Step { command }.into()) }
    }

    fn show_requests(&self) -> Result<(), Failure> {
        self.report.text("\n  The registry received these requests:\n\n")?;
        self.show(self.requests.take().iter().map(String::as_str))
    }

    fn show_lock(&self) -> Result<(), Failure> {
        let lock: Value = serde_json::from_slice(&self.read("hello.json")?)
            .map_err(|source| Error::Result { command: "lock".to_owned(), source })?;
        let of = |key: &str| format!("{key:<9} {}", lock["n2c"][key]);
        self.report.text("\n  hello.json is the image's manifest, plus what it locks:\n\n")?;
        self.show(["ref", "platform", "manifest"].map(of).iter().map(String::as_str))
    }

    fn show_image(&self) -> Result<(), Failure> {
        let image = String::from_utf8_lossy(&self.read("image.json")?).replace('\t', "  ");
        self.report.text("\n")?;
        self.show(image.lines())
    }

    /// Shows lines, with the path of the temporary directory removed.
    fn show<'l>(&self, lines: impl Iterator<Item = &'l str>) -> Result<(), Failure> {
        let lines = lines.map(|line| format!("    {}\n", self.shorten(line)));
        self.report.text(&lines.collect::<String>())
    }

    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, Error> {
        fs::read(self.directory.path().join(file)).map_err(Error::File)
    }
}
