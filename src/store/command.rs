//! Runs the program `nix-store`, for when there is no daemon.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::error::AddError;
use crate::cleanup::{Guard, Leftover};

const COMMAND: &str = "nix-store";

/// Returns those of `paths` that are not valid.
pub(super) fn invalid(paths: &[String]) -> Result<Vec<String>, AddError> {
    let arguments = ["--check-validity", "--print-invalid"];
    let output = run(Command::new(COMMAND).args(arguments).args(paths))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Adds the file or directory at `path`, and returns its store path.
pub(super) fn add(arguments: &[&str], path: &Path) -> Result<String, AddError> {
    let output = run(Command::new(COMMAND).args(arguments).arg(path))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn run(command: &mut Command) -> Result<Output, AddError> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(AddError::Start)?;
    let _guard = Guard::new(Leftover::Child(child.id()));
    let output = child.wait_with_output().map_err(AddError::Start)?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(AddError::Command { message: message.trim_start_matches("error: ").to_owned() })
}
