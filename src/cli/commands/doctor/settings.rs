//! Nix's settings for builds.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cli::environment::environment;
use n2c::store::Store;
use serde_json::Value;
use tokio::process::Command;

/// The settings that determine what a builder can see.
pub(super) struct Settings {
    /// Whether fixed-output derivations are built in a sandbox.
    pub(super) sandbox: bool,
    /// What is mounted into the sandbox.
    pub(super) paths: Vec<Mount>,
    /// The group whose members run builds; empty if the caller or the daemon runs them itself.
    pub(super) build_users_group: String,
    /// The path of nix.conf.
    pub(super) file: PathBuf,
}

/// An entry of `sandbox-paths`: `TARGET[=SOURCE][?]`.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Mount {
    /// The path in the sandbox.
    pub(super) target: PathBuf,
    /// The path outside the sandbox.
    pub(super) source: PathBuf,
}

impl Settings {
    /// Asks Nix for its settings, without this user's own: the daemon may run the builds.
    /// Returns `None` if Nix isn't installed or doesn't answer.
    pub(super) async fn read() -> Option<Self> {
        let output = Command::new("nix")
            .args(["--extra-experimental-features", "nix-command", "show-config", "--json"])
            .env("NIX_USER_CONF_FILES", "/dev/null")
            .env_remove("NIX_CONFIG")
            .stdin(Stdio::null())
            .output();
        let settings: Value = serde_json::from_slice(&output.await.ok()?.stdout).ok()?;
        let value = |name: &str| settings.get(name)?.get("value");
        let directory = environment().path("NIX_CONF_DIR");
        Some(Self {
            // With `relaxed`, fixed-output derivations are built outside the sandbox.
            sandbox: value("sandbox")? == &Value::Bool(true),
            paths: value("sandbox-paths").map(mounts).unwrap_or_default(),
            build_users_group: build_users_group(value("build-users-group")?.as_str()?),
            file: directory.unwrap_or_else(|| "/etc/nix".into()).join("nix.conf"),
        })
    }

    /// Returns the path outside the sandbox of `path` in the sandbox, if it is mounted there.
    pub(super) fn outside(&self, path: &Path) -> Option<PathBuf> {
        if !self.sandbox {
            return Some(path.to_owned());
        }
        self.paths.iter().find_map(|mount| {
            let rest = path.strip_prefix(&mount.target).ok()?;
            let is_file = rest.as_os_str().is_empty();
            Some(if is_file { mount.source.clone() } else { mount.source.join(rest) })
        })
    }
}

/// Parses the mounts: a list of strings or, in recent versions of Nix, an object that maps
/// targets to sources.
fn mounts(paths: &Value) -> Vec<Mount> {
    match paths {
        Value::Array(paths) => paths.iter().filter_map(Value::as_str).map(Mount::parse).collect(),
        Value::Object(paths) => paths
            .iter()
            .map(|(target, mount)| {
                let source = mount.get("source").and_then(Value::as_str).unwrap_or(target);
                Mount { target: target.into(), source: source.into() }
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Returns the group of the build users. Nix reports no group to users other than root. If
/// the daemon builds, it runs as root, so assume the default group.
fn build_users_group(told: &str) -> String {
    let is_daemon = matches!(Store::of(environment()), Store::Daemon(_));
    if told.is_empty() && is_daemon { "nixbld".to_owned() } else { told.to_owned() }
}

impl Mount {
    fn parse(text: &str) -> Self {
        let text = text.strip_suffix('?').unwrap_or(text);
        let (target, source) = text.split_once('=').unwrap_or((text, text));
        Self { target: target.into(), source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_of_mounts_are_read() {
        let list = json!(["/a=/b?", "/c"]);
        let object =
            json!({ "/a": { "source": "/b", "optional": true }, "/c": { "source": "/c" } });
        assert_eq!(mounts(&list), mounts(&object));
        assert_eq!(mounts(&list)[0], Mount { target: "/a".into(), source: "/b".into() });
    }

    #[test]
    fn a_path_is_followed_out_of_the_sandbox() {
        let paths = ["/bin/sh=/nix/store/x/bin/sh", "/etc/skopeo=/etc/nix/skopeo?", "/data"];
        let settings = Settings {
            sandbox: true,
            paths: paths.map(Mount::parse).into(),
            build_users_group: String::new(),
            file: PathBuf::new(),
        };
        let outside = |path| settings.outside(Path::new(path));
        let file = "/etc/nix/skopeo/auth.json";
        assert_eq!(outside("/etc/skopeo/auth.json").as_deref(), Some(Path::new(file)));
        assert_eq!(outside("/data").as_deref(), Some(Path::new("/data")));
        assert_eq!(outside("/etc/skopeo-else"), None);
        let open = Settings { sandbox: false, ..settings };
        assert!(open.outside(Path::new("/etc/skopeo-else")).is_some());
    }
}
