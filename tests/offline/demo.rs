//! `n2c demo`, the README's first command.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::support::program::{command, n2c};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn every_step_is_run_and_shown() {
    let run = n2c(&["demo"]);
    let text = run.text();
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  $ n2c ")?.split(' ').next()).collect();
    let expected = ["inspect", "lock", "blobs", "blob", "blob", "blob", "image-from-manifest"];
    assert_eq!(commands, expected, "{text}");
    // The demo shows the requests of a lock, and then one for each blob.
    let requests: Vec<&str> =
        text.lines().filter(|line| line.trim_start().starts_with("GET /v2/")).collect();
    let manifests = requests.iter().filter(|line| line.contains("/manifests/")).count();
    assert_eq!((requests.len(), manifests), (6, 2), "{text}");
    assert!(requests.iter().all(|line| line.ends_with(" 200")), "{text}");
    assert!(
        text.contains("\"linux/arm64\"") && text.contains("\"layer-path\": \"store/"),
        "{text}"
    );
    // The output contains no path of this machine.
    assert!(!text.contains(&std::env::temp_dir().display().to_string()), "{text}");
}

#[test]
fn nothing_is_left_behind_at_the_end_or_after_a_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        let mut command = command(directory.path(), &["demo"]);
        command.env("TMPDIR", directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("a run")
    };
    let left = || std::fs::read_dir(directory.path()).expect("a directory").count();
    let output = start().wait_with_output().expect("an end");
    assert!(output.status.success());
    assert_eq!(left(), 0);

    let mut child = start();
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // Once the first command is shown, it is running.
    let is_command =
        |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.starts_with("  $ "));
    lines.find(is_command).expect("a command").expect("a line");
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(id, Signal::TERM).expect("a signal");
    let status = child.wait().expect("an end");
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    assert_eq!((status.code(), stderr.as_str()), (Some(143), "error: interrupted\n"));
    assert_eq!(left(), 0);
}

#[test]
fn an_unusable_temporary_directory_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = command(directory.path(), &["demo"]);
    let output = command.env("TMPDIR", directory.path().join("none")).output().expect("a run");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: failed to prepare the demonstration: "), "{stderr}");
}
