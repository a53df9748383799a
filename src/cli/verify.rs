//! `n2c verify`: is all that lockfiles pin still served?

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use n2c::Diagnose as _;
use n2c::Kind;
use n2c::oci::digest::Digest;
use n2c::store::StoreDirectory;
use n2c::upkeep::verify::{self, Check, Verdict};
use serde_json::{Value, json};

use super::failure::{Failed, Failure};
use super::lockfiles;
use super::report::Report;
use super::rows::{Row, VERSION, error_json, hidden, kind_name};
use super::{RegistryOptions, Requests};

#[derive(Args)]
pub(crate) struct Options {
    /// Lockfiles, or directories with lockfiles at any depth
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Print JSON, one line for each lockfile
    #[arg(long)]
    json: bool,

    /// Ask nobody: say what can be told from the file alone
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
    let mut lines = Vec::new();
    let (mut failed, total) = (unreadable.len(), unreadable.len() + found.len());
    let mut kind = unreadable.first().and_then(|row| row.kind);
    for row in unreadable {
        let line = if options.json {
            Line::Json(row.json("verify", report))
        } else {
            Line::Text(row.text(report))
        };
        lines.push((row.file, line));
    }
    for found in found {
        let checks = if options.offline {
            verify::offline(&found.lockfile, &StoreDirectory::of_environment()?)
        } else {
            verify::online(&found.lockfile, &client, options.requests.jobs.into()).await
        };
        let first = checks.iter().find_map(|check| Some(check.failure()?.kind()));
        failed += usize::from(first.is_some());
        kind = kind.or(first);
        let file = found.path.display().to_string();
        let line = if options.json {
            Line::Json(json(&file, &checks, report))
        } else {
            Line::Text(text(&file, &checks, report))
        };
        lines.push((file, line));
    }
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    print(lines.into_iter().map(|(_, line)| line).collect(), report)?;
    match failed {
        0 => Ok(()),
        failed => Err(Failed { count: failed, total, kind: kind.unwrap_or(Kind::Other) }.into()),
    }
}

/// What is printed of a lockfile.
enum Line {
    Json(Value),
    Text(String),
}

fn print(lines: Vec<Line>, report: &Report) -> Result<(), Failure> {
    let (mut values, mut text) = (Vec::new(), String::new());
    for line in lines {
        match line {
            Line::Json(value) => values.push(value),
            Line::Text(line) => text.extend([line.as_str(), "\n"]),
        }
    }
    if values.is_empty() { report.text(&text) } else { Report::json(&values) }
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
        let message =
            check.failure().map(|error| format!("  {}", report.cell(&n2c::error_chain(error))));
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
                "error": check.failure().map(|error| hidden(error_json(error), report)),
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
