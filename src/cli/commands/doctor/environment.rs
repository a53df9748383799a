//! The Nix daemon's environment. Builders get their proxy settings from there, not from the
//! user who starts the build.

use std::fs;
use std::process::Stdio;

use n2c::environment::Environment;
use tokio::process::Command;

use crate::cli::environment::environment;

/// The variables that a fetch reads. Proxy variables may be in lower or upper case.
const VARIABLES: [&str; 5] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "N2C_MIRRORS"];

/// Returns the environment of the running daemon, from the kernel if this user may read it
/// there, or else from systemd. Returns `None` if neither works.
pub(super) async fn of_daemon() -> Option<Environment> {
    match from_kernel() {
        Some(environment) => Some(environment),
        None => from_systemd().await,
    }
}

/// Returns the variables that are set for this user but not for `daemon`.
pub(super) fn missing(daemon: &Environment) -> Vec<&'static str> {
    let either = |name: &str| [name.to_owned(), name.to_uppercase()];
    let is_set = |name: &String| environment().get(name).is_some();
    let has = |name: &String| daemon.get(name).is_some();
    let is_missing = |name: &&str| either(name).iter().any(is_set) && !either(name).iter().any(has);
    VARIABLES.into_iter().filter(is_missing).collect()
}

/// Reads the environment from `/proc`. The daemon forks for each client, so this looks at its
/// oldest process.
fn from_kernel() -> Option<Environment> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let id: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let name = fs::read_to_string(path.join("comm")).ok()?;
        (name.trim_end() == "nix-daemon").then_some((id, path))
    });
    let (_, path) = processes.min()?;
    let environment = fs::read(path.join("environ")).ok()?;
    Some(pairs(environment.split(|byte| *byte == 0).map(String::from_utf8_lossy)))
}

async fn from_systemd() -> Option<Environment> {
    let output = Command::new("systemctl")
        .args(["show", "nix-daemon.service", "--property=Environment", "--value"])
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| pairs(text.split_whitespace()))
}

fn pairs(lines: impl Iterator<Item = impl AsRef<str>>) -> Environment {
    lines
        .filter_map(|line| {
            let (name, value) = line.as_ref().split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}
