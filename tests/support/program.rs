//! Runs of the `n2c` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    /// Returns stdout. Panics if the run failed.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.stderr);
        std::str::from_utf8(&self.stdout).expect("results are UTF-8")
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).expect("a JSON result")
    }

    /// Checks that the run failed as it should: with this exit code, nothing on stdout,
    /// and one error of one line, besides hints, notes and warnings. Returns the error.
    #[track_caller]
    pub fn error(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stdout.is_empty(), "stdout: {:?}", self.stdout);
        let errors: Vec<&str> =
            self.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        let [error] = errors[..] else { panic!("not one error: {}", self.stderr) };
        for line in self.stderr.lines() {
            let labels = ["error: ", "hint: ", "note: ", "warning: "];
            assert!(labels.iter().any(|label| line.starts_with(label)), "odd line `{line}`");
        }
        assert!(!error.ends_with('.'), "a full stop: {error}");
        error
    }
}

impl Run {
    /// Checks that the run failed with this exit code but still wrote its report to stdout.
    #[track_caller]
    pub fn error_with_report(&self, code: i32) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(!self.stdout.is_empty() && self.stderr.contains("error: "), "{}", self.stderr);
    }
}

/// Runs `n2c` in `directory`, with an environment of only `PATH` and `directory` as `HOME`.
pub fn n2c_in(directory: &Path, arguments: &[&str]) -> Run {
    n2c_with(directory, arguments, &[])
}

/// The same, with these variables too.
pub fn n2c_with(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let output = command(directory, arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("n2c was built with the tests");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Builds `image.json` in `directory`: a layer from each of these directories in it, made with
/// these options, and the config of `config.json`. With `--rewrites rules.json`, the files of
/// each directory go to the root.
pub fn build_image(directory: &Path, trees: &[&str], options: &[&str]) {
    let mut all = Vec::new();
    for name in trees {
        let tree = directory.join(name);
        let graph = json!([{ "path": tree, "narSize": 1, "references": [] }]);
        let rules = json!([{ "path": tree, "regex": format!("^{}", tree.display()), "repl": "" }]);
        fs::write(directory.join("graph.json"), graph.to_string()).expect("written");
        fs::write(directory.join("rules.json"), rules.to_string()).expect("written");
        let layers = format!("{name}.layers.json");
        let start = ["layers-from-reproducible-storepaths", &layers, "graph.json"];
        n2c_in(directory, &[&start, options].concat()).text();
        all.push(layers);
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    n2c_in(directory, &[&["image", "image.json", "config.json"], &all[..]].concat()).text();
}

/// Runs `n2c` in an empty directory.
pub fn n2c(arguments: &[&str]) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    n2c_in(directory.path(), arguments)
}

pub fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .stdin(Stdio::null());
    command
}

/// The program that Cargo built for this test or bench.
pub fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_n2c").into()
}

/// Runs the program, and returns the result and the peak of the memory that it allocated, in
/// KiB. Its own code, which debug builds have a lot of, doesn't count. The output is not
/// captured.
pub fn peak_memory(directory: &Path, arguments: &[&str]) -> (Run, u64) {
    let mut child = command(directory, arguments).spawn().expect("a run");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let now = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let code = child.wait().expect("an end").code().unwrap_or(-1);
    (Run { code, stdout: Vec::new(), stderr: String::new() }, peak)
}

/// Waits until something is so. There is a limit only so that a failure ends.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "timed out: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a run handles SIGINT and SIGTERM itself.
#[track_caller]
pub fn wait_for_signal_handlers(child: &Child) {
    let status = format!("/proc/{}/status", child.id());
    wait_until("the run handles signals", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // One bit for each signal: 2 is SIGINT, 15 is SIGTERM.
        let both = 1 << (2 - 1) | 1 << (15 - 1);
        caught.is_some_and(|caught| caught & both == both)
    });
}
