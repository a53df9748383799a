//! `n2c doctor`: finds out why a fetch in a build sandbox would fail.

mod environment;
mod settings;

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use n2c::oci::reference::Reference;
use n2c::registry::credentials::{CredentialStore, SANDBOX_FILE};
use n2c::store::Store;
use n2c::{Diagnose as _, Kind};
use nix::unistd::Group;

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Unhealthy, chain};
use crate::cli::hints::Hint as _;
use crate::cli::options::RegistryOptions;
use crate::cli::report::Report;
use settings::Settings;

/// The file that nix2container's users usually mount as [`SANDBOX_FILE`] in the sandbox.
const USUAL_SOURCE: &str = "/etc/nix/skopeo/auth.json";
/// The file that extends the environment of a daemon run by systemd.
const DAEMON_OVERRIDE: &str = "/etc/systemd/system/nix-daemon.service.d/override.conf";

#[derive(Args)]
pub(crate) struct Options {
    /// Also try to resolve these references as a build would, such as `ghcr.io/owner/image:1`
    #[arg(value_name = "REFERENCE")]
    references: Vec<String>,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// The result of one check.
enum Finding {
    /// Everything is as it should be.
    Good(String),
    /// This may be intended. If not, the second text says what to write, and where.
    Note(String, Option<String>),
    /// A build would fail. The second text says how to fix it.
    Problem(String, Option<String>),
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let references = options
        .references
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Reference>, _>>()?;
    let mut findings = Vec::new();
    let settings = Settings::read().await;
    let file = if let Some(settings) = &settings {
        findings.push(look_at_sandbox(settings));
        look_at_file(settings, &mut findings)
    } else {
        let text = "failed to read the settings of Nix: the program `nix` is missing, or failed";
        findings.push(Finding::Problem(text.to_owned(), Some("install Nix".to_owned())));
        None
    };
    look_at_daemon(settings.as_ref(), &mut findings).await;
    look_at_references(&references, options.registry, file, report, &mut findings).await?;
    report.text(&print(&findings))?;
    match findings.iter().filter(|finding| matches!(finding, Finding::Problem(..))).count() {
        0 => Ok(()),
        problems => Err(Unhealthy { problems }.into()),
    }
}

fn print(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        // Writing to a string can't fail.
        let _ = match finding {
            Finding::Good(what) => writeln!(text, "ok       {what}"),
            Finding::Note(what, _) => writeln!(text, "note     {what}"),
            Finding::Problem(what, _) => writeln!(text, "problem  {what}"),
        };
        if let Finding::Note(_, Some(help)) | Finding::Problem(_, Some(help)) = finding {
            let _ = writeln!(text, "         {help}");
        }
    }
    text
}

fn look_at_sandbox(settings: &Settings) -> Finding {
    let is = if settings.sandbox { "in a sandbox" } else { "without a sandbox" };
    let by = if settings.build_users_group.is_empty() {
        "by Nix's own user".to_owned()
    } else {
        format!("by users of the group `{}`", settings.build_users_group)
    };
    Finding::Good(format!("blobs are fetched {is}, {by}"))
}

/// Checks the credentials file that a builder would see. Returns its path if this user can
/// read it.
fn look_at_file(settings: &Settings, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    let Some(source) = settings.outside(Path::new(SANDBOX_FILE)) else {
        let line = format!("extra-sandbox-paths = {SANDBOX_FILE}={USUAL_SOURCE}");
        let help = format!("add to {}: {line}", settings.file.display());
        let text = format!("{SANDBOX_FILE} is not in the sandbox: private images can't be fetched");
        findings.push(Finding::Note(text, Some(help)));
        return None;
    };
    let shown = source.display();
    let metadata = match fs::metadata(&source) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let help = format!("create it: n2c auth export REFERENCE -o {shown}");
            let text = format!("{shown} does not exist: private images can't be fetched");
            findings.push(Finding::Note(text, Some(help)));
            return None;
        }
        Err(error) => {
            let text = format!("{shown} can't be accessed by this user: {error}");
            findings.push(Finding::Note(text, None));
            return None;
        }
    };
    findings.push(look_at_mode(settings, &source, &metadata));
    match CredentialStore::new(Some(&source), environment(), Arc::new(n2c::observer::Silent)) {
        Ok(_) => {
            findings.push(Finding::Good(format!("{shown} is a valid credentials file")));
            Some(source)
        }
        Err(error) if fs::File::open(&source).is_ok() => {
            let help = format!("recreate it: n2c auth export REFERENCE -o {shown}");
            findings.push(Finding::Problem(chain(&error), Some(help)));
            None
        }
        Err(_) => {
            let text = format!("{shown} can't be read by this user; check its content as root");
            findings.push(Finding::Note(text, None));
            None
        }
    }
}

/// Checks whether the build users can read the file, by its group and its mode. Outside a
/// sandbox, they also need access to the directories that contain it.
fn look_at_mode(settings: &Settings, source: &Path, metadata: &Metadata) -> Finding {
    let (name, shown) = (&settings.build_users_group, source.display());
    if name.is_empty() {
        return Finding::Good(format!("{shown} exists"));
    }
    let group = Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    let allows = |metadata: &Metadata, others: u32| {
        let is_theirs = group == Some(metadata.gid());
        metadata.mode() & if is_theirs { others << 3 } else { others } != 0
    };
    if !allows(metadata, 0o4) {
        let mode = metadata.permissions().mode() & 0o7777;
        let text =
            format!("{shown} has mode {mode:04o}: the build users of `{name}` can't read it");
        let help = format!("run: chgrp {name} {shown} && chmod 0640 {shown}");
        return Finding::Problem(text, Some(help));
    }
    let folders = source.ancestors().skip(1).filter(|_| !settings.sandbox);
    for folder in folders {
        if fs::metadata(folder).is_ok_and(|metadata| !allows(&metadata, 0o1)) {
            let folder = folder.display();
            let text = format!("{folder} can't be entered by the build users of `{name}`");
            let help = format!("run: chgrp {name} {folder} && chmod g+x {folder}");
            return Finding::Problem(text, Some(help));
        }
    }
    Finding::Good(format!("{shown} can be read by the build users of `{name}`"))
}

/// Checks the proxies, mirrors and certificate authorities that builders get from the daemon.
async fn look_at_daemon(settings: Option<&Settings>, findings: &mut Vec<Finding>) {
    let Store::Daemon(_) = Store::of(environment()) else {
        let text = "builds use this user's proxy settings: there is no Nix daemon";
        findings.push(Finding::Good(text.to_owned()));
        return;
    };
    let Some(daemon) = environment::of_daemon().await else {
        let text = "the Nix daemon's environment can't be read by this user; root can".to_owned();
        findings.push(Finding::Note(text, None));
        return;
    };
    let missing = environment::missing(&daemon);
    for name in &missing {
        // The value may hold a password.
        let help = format!("add to {DAEMON_OVERRIDE}, below [Service]: Environment={name}=…");
        let text = format!("the Nix daemon has no `{name}`, but you have");
        findings.push(Finding::Problem(text, Some(help)));
    }
    if missing.is_empty() {
        findings.push(Finding::Good("the Nix daemon has your proxies and mirrors".to_owned()));
    }
    let authorities = daemon.text("NIX_SSL_CERT_FILE");
    if let (Some(path), Some(settings)) = (authorities, settings) {
        let text = match settings.outside(Path::new(path)) {
            Some(_) => Finding::Good(format!("builders read certificate authorities from {path}")),
            None => Finding::Note(
                format!("{path} is not in the sandbox: builders trust public authorities only"),
                Some(format!("add to {}: extra-sandbox-paths = {path}", settings.file.display())),
            ),
        };
        findings.push(text);
    }
}

/// Resolves each reference with the credentials that a builder would have.
async fn look_at_references(
    references: &[Reference],
    mut options: RegistryOptions,
    file: Option<PathBuf>,
    report: &Arc<Report>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    if references.is_empty() {
        return Ok(());
    }
    // If there is no file, use one without entries, not this user's own credentials.
    let empty = tempfile::NamedTempFile::new().map_err(crate::cli::failure::Runtime)?;
    n2c::fs::write(empty.path(), b"{}")?;
    let authfile = options.credentials.authfile.take().or_else(|| file.clone());
    let authfile = authfile.unwrap_or_else(|| empty.path().to_owned());
    let credentials = CredentialStore::new(Some(&authfile), environment(), report.clone())?;
    options.credentials.authfile = Some(authfile);
    let client = options.client(report)?;
    let place = file.unwrap_or_else(|| USUAL_SOURCE.into());
    let place = place.display();
    for reference in references {
        let export = format!("run: n2c auth export {reference} -o {place}");
        let found = credentials.find(reference.repository()).await;
        if let Ok(Some(found)) = &found
            && let Some(helper) = &found.origin.helper
        {
            let text =
                format!("`{reference}` needs the helper `{helper}`, which is not in the sandbox");
            findings.push(Finding::Problem(text, Some(export)));
            continue;
        }
        findings.push(match client.resolve(reference).await {
            Ok(_) => Finding::Good(format!("`{reference}` can be fetched")),
            Err(error) if error.kind() == Kind::Denied => {
                Finding::Problem(chain(&error), Some(export))
            }
            Err(error) => Finding::Problem(chain(&error), error.hint()),
        });
    }
    Ok(())
}
