//! `n2c verify`: checks that everything that lockfiles pin is still available.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use n2c::oci::digest::Digest;
use n2c::store::StoreDirectory;
use n2c::upkeep::verify::{self, Check, Verdict};
use n2c::{Diagnose as _, Kind};
use serde_json::{Value, json};

use crate::cli::environment::environment;
use crate::cli::failure::{Failed, Failure, chain};
use crate::cli::lockfiles;
use crate::cli::options::RegistryOptions;
use crate::cli::options::Requests;
use crate::cli::report::Report;
use crate::cli::show::rows::{Row, VERSION, error_json, kind_name};

#[derive(Args)]
pub(crate) struct Options {
    /// Lockfiles, or directories with lockfiles at any depth
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Print JSON, one line for each lockfile
    #[arg(long)]
    json: bool,

    /// Make no requests: check only what can be checked from the files and the Nix store
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    requests: Requests,

    #[command(flatten)]
    registry: RegistryOptions,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let (found, unreadable) = lockfiles::find(&options.paths, report)?;
    let unreadable = Row::of_unreadable(&unreadable);
    let client = options.registry.client(report)?;
    let (mut failed, total) = (unreadable.len(), unreadable.len() + found.len());
    let mut kind = unreadable.first().and_then(|row| row.kind);
    let mut results: Vec<(String, FileResult)> = unreadable
        .into_iter()
        .map(|row| (row.file.clone(), FileResult::Unreadable(Box::new(row))))
        .collect();
    for found in found {
        let checks = if options.offline {
            verify::offline(&found.lockfile, &StoreDirectory::of(environment())?)
        } else {
            verify::online(&found.lockfile, &client, options.requests.jobs.into()).await
        };
        let first = checks.iter().find_map(|check| Some(check.failure()?.kind()));
        failed += usize::from(first.is_some());
        kind = kind.or(first);
        results.push((found.path.display().to_string(), FileResult::Checked(checks)));
    }
    results.sort_by(|(one, _), (other, _)| one.cmp(other));
    print(&results, options.json, report)?;
    match failed {
        0 => Ok(()),
        failed => Err(Failed { count: failed, total, kind: kind.unwrap_or(Kind::Other) }.into()),
    }
}

/// The result for a file.
enum FileResult {
    Unreadable(Box<Row>),
    Checked(Vec<Check>),
}

fn print(results: &[(String, FileResult)], as_json: bool, report: &Report) -> Result<(), Failure> {
    if as_json {
        let value = |(file, looked): &(String, FileResult)| match looked {
            FileResult::Unreadable(row) => row.json("verify", report),
            FileResult::Checked(checks) => json(file, checks, report),
        };
        return Report::json(&results.iter().map(value).collect::<Vec<_>>());
    }
    let lines = |(file, looked): &(String, FileResult)| match looked {
        FileResult::Unreadable(row) => format!("{}\n", row.text(report)),
        FileResult::Checked(checks) => format!("{}\n", text(file, checks, report)),
    };
    report.text(&results.iter().map(lines).collect::<String>())
}

fn status(check: &Check) -> &'static str {
    match &check.verdict {
        Verdict::Proved => "ok",
        Verdict::Unchecked => "unchecked",
        Verdict::Failed(error) => kind_name(error.kind()),
    }
}

fn text(file: &str, checks: &[Check], report: &Report) -> String {
    let mut lines = vec![report.cell(file)];
    for check in checks {
        let platform = check.platform.as_ref().map(|platform| format!("  {platform}"));
        let digest = check.digest.as_ref().map(|digest| format!("  {}", digest.short()));
        let message = check.failure().map(|error| format!("  {}", report.cell(&chain(error))));
        lines.push(format!(
            "  {:<12} {}{}{}{}",
            status(check),
            check.subject,
            platform.unwrap_or_default(),
            digest.unwrap_or_default(),
            message.unwrap_or_default()
        ));
    }
    lines.join("\n")
}

fn json(file: &str, checks: &[Check], report: &Report) -> Value {
    let reports: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "subject": check.subject,
                "digest": check.digest.as_ref().map(Digest::to_string),
                "platform": check.platform.as_ref().map(ToString::to_string),
                "status": status(check),
                "error": check.failure().map(|error| report.hidden(error_json(error))),
            })
        })
        .collect();
    let is = |wanted: fn(&Verdict) -> bool| checks.iter().any(|check| wanted(&check.verdict));
    let status = if is(|verdict| matches!(verdict, Verdict::Failed(_))) {
        "failed"
    } else if is(|verdict| matches!(verdict, Verdict::Unchecked)) {
        "unchecked"
    } else {
        "ok"
    };
    json!({ "version": VERSION, "command": "verify", "file": file, "status": status, "checks": reports })
}
