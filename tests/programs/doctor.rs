//! `n2c doctor` with real Nix: it finds everything that makes a sandboxed fetch fail, and
//! its advice fixes it.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use serde_json::json;

use crate::support::images::Image;
use crate::support::registry::{Registry, Reply};
use crate::support::tools::Nix;

const N2C: &str = env!("CARGO_BIN_EXE_n2c");
/// A group that every Debian has, used instead of the build users' group.
const GROUP: (&str, u32) = ("nogroup", 65534);

/// Runs `n2c doctor`. Returns whether it found no problem, and what it printed.
fn doctor(nix: &Nix, arguments: &[&str]) -> (bool, String) {
    let (success, stdout, stderr) = nix.try_run(N2C, &[&["doctor"], arguments].concat());
    assert_eq!(success, !stdout.contains("problem  "), "{stdout}{stderr}");
    (success, stdout)
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode is set");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn missing_sandbox_credentials_are_diagnosed_step_by_step() {
    let nix = Nix::new();
    let file = nix.directory().join("auth.json");
    let shown = file.display().to_string();
    let configuration = nix.directory().join("nix.conf").display().to_string();

    nix.configure("sandbox = true\n");
    let (good, text) = doctor(&nix, &[]);
    assert!(good, "public images need no credentials: {text}");
    let line = "extra-sandbox-paths = /etc/skopeo/auth.json=/etc/nix/skopeo/auth.json";
    assert!(text.contains(&format!("add to {configuration}: {line}")), "{text}");

    let settings = format!(
        "sandbox = true\nbuild-users-group = {}\nextra-sandbox-paths = /etc/skopeo/auth.json={shown}\n",
        GROUP.0
    );
    nix.configure(&settings);
    let (good, text) = doctor(&nix, &[]);
    assert!(good && text.contains(&format!("{shown} does not exist")), "{text}");

    std::fs::write(&file, "{\"auths\": {").expect("written");
    set_mode(&file, 0o600);
    let (good, text) = doctor(&nix, &[]);
    assert!(!good && text.contains("has mode 0600"), "{text}");
    assert!(text.contains(&format!("chgrp {} {shown} && chmod 0640 {shown}", GROUP.0)), "{text}");
    assert!(text.contains("invalid credentials file"), "{text}");

    std::fs::write(&file, "{\"auths\": {}}").expect("written");
    chown(&file, None, Some(GROUP.1)).expect("a group");
    set_mode(&file, 0o640);
    let (good, text) = doctor(&nix, &[]);
    assert!(good && text.contains("can be read by the build users"), "{text}");
    // The group's own permission bits apply to it, not those for others.
    set_mode(&file, 0o604);
    assert!(!doctor(&nix, &[]).0);

    // Without a sandbox, the permissions of every folder on the path matter too.
    nix.configure(&settings.replace("sandbox = true", "sandbox = false"));
    let (_, text) = doctor(&nix, &[]);
    assert!(text.contains("without a sandbox") && text.contains("/etc/skopeo/auth.json"), "{text}");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_reference_is_tried_with_a_builders_credentials() {
    let registry = Registry::start();
    registry.put_image("team/app", "1", &Image::new("linux/amd64", &["x"]));
    // `printf bob:secret | base64`
    registry.hook(|call| {
        (call.header("authorization") != Some("Basic Ym9iOnNlY3JldA==")).then(|| {
            Reply::error(401, "UNAUTHORIZED", "authentication required")
                .with("www-authenticate", r#"Basic realm="test""#)
        })
    });
    let nix = Nix::new();
    let file = nix.directory().join("auth.json");
    nix.configure(&format!(
        "sandbox = true\nextra-sandbox-paths = /etc/skopeo/auth.json={}\n",
        file.display()
    ));
    let reference = registry.reference("team/app:1");
    // The credentials in the user's home aren't in the sandbox.
    let home = nix.directory().join(".docker");
    std::fs::create_dir(&home).expect("a folder");
    let login =
        json!({ "auths": { registry.host(): { "username": "bob", "password": "secret" } } });
    std::fs::write(home.join("config.json"), login.to_string()).expect("written");
    let (good, text) = doctor(&nix, &[&reference]);
    assert!(!good, "{text}");
    let help = format!("run: n2c auth export {reference} -o ");
    assert!(text.contains(&help) && !text.contains("secret"), "{text}");
    // Its advice fixes the problem.
    nix.run(N2C, &["auth", "export", &reference, "-o", &file.display().to_string()]);
    let (good, text) = doctor(&nix, &[&reference]);
    assert!(good && text.contains(&format!("`{reference}` can be fetched")), "{text}");
    // A credential helper wouldn't be in the sandbox.
    let helper = json!({ "credHelpers": { registry.host(): "none-such" } });
    std::fs::write(&file, helper.to_string()).expect("written");
    let (good, text) = doctor(&nix, &[&reference]);
    assert!(!good && text.contains(&help), "{text}");
    let (success, stdout, _) = nix.try_run(N2C, &["doctor", "Not/A:Reference"]);
    assert!(!success && stdout.is_empty(), "{stdout}");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_daemon_without_the_users_proxy_is_found() {
    let nix = Nix::new();
    let _daemon = nix.start_daemon();
    let run = |variable: &str| nix.try_run("env", &["NIX_REMOTE=daemon", variable, N2C, "doctor"]);
    let (success, text, _) = run("https_proxy=http://bob:secret@proxy.example:3128");
    assert!(!success && text.contains("the Nix daemon has no `https_proxy`"), "{text}");
    assert!(text.contains("nix-daemon.service.d/override.conf"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let (success, text, _) = run("https_proxy=");
    assert!(success && text.contains("has your proxies"), "{text}");
}
