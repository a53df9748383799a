//! Credential helpers: programs that store a user's credentials
//! (docker/docker-credential-helpers).

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::{Credential, Error, Secret};

/// How long a helper may take. Some ask the user or a cloud service.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The size limit of a helper's answer, in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;
/// What helpers print if they have no credential.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that marks an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Returns the program for the helper `name`.
pub(super) fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// Asks the helper `name` for the credential of `server`.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credential>, Error> {
    let failed = |reason: &str| Error::Helper {
        program: program(name),
        server: server.to_owned(),
        reason: reason.to_owned(),
    };
    if name.contains('/') {
        return Err(failed("has a path for a name and was not run"));
    }
    run(program(name), server, TIME_LIMIT).await
}

/// Runs a helper, which gets `limit` to answer.
async fn run(program: String, server: &str, limit: Duration) -> Result<Option<Credential>, Error> {
    let failed = |reason: String| Error::Helper {
        program: program.clone(),
        server: server.to_owned(),
        reason,
    };
    let start = |source| Error::HelperStart { program: program.clone(), source };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The helper may prompt the user on stderr.
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let Ok(ended) = tokio::time::timeout(limit, converse(&mut child, server)).await else {
        return Err(failed(format!("did not answer within {} s", limit.as_secs_f32())));
    };
    let (success, answer) = ended.map_err(start)?;
    if !success {
        if String::from_utf8_lossy(&answer).contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(failed("failed".to_owned()));
    }
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|_| failed("printed no credential".to_owned()))?;
    let secret = Secret::new(answer.secret);
    Ok(match answer.username.as_str() {
        _ if secret.expose().is_empty() => None,
        TOKEN_USER => Some(Credential::IdentityToken { user: String::new(), token: secret }),
        _ => Some(Credential::Password { user: answer.username, password: secret }),
    })
}

/// Sends `server` to the helper, reads its answer, and waits for it to exit.
async fn converse(child: &mut Child, server: &str) -> std::io::Result<(bool, Vec<u8>)> {
    if let Some(mut stdin) = child.stdin.take() {
        // Ignore errors: a helper need not read its input.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    }
    Ok((child.wait().await?.success(), answer))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_helper_that_hangs_times_out_and_is_killed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (program, id) = (directory.path().join("slow"), directory.path().join("id"));
        let script = format!("#!/bin/sh\necho $$ > {}\nexec sleep 300\n", id.display());
        std::fs::write(&program, script).expect("written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, executable).expect("set");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let program = program.display().to_string();
        let result = runtime.expect("a runtime").block_on(run(
            program,
            "ghcr.io",
            Duration::from_millis(500),
        ));
        let error = result.expect_err("a time-out").to_string();
        assert!(error.contains("did not answer within 0.5 s"), "{error}");
        let id = std::fs::read_to_string(id).expect("the helper has started");
        let status = format!("/proc/{}/status", id.trim());
        let is_running = || {
            let status = std::fs::read_to_string(&status);
            status.is_ok_and(|status| !status.contains("State:\tZ"))
        };
        let started = std::time::Instant::now();
        while is_running() {
            assert!(started.elapsed() < Duration::from_secs(20), "it is still running");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
