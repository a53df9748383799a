//! Reports with one line for each lockfile, for people and for programs. The schema of
//! the JSON is `examples/report.schema.json`.

use std::fmt::Write as _;

use clap::Args;
use n2c::Kind;
use n2c::upkeep::difference::Difference;
use n2c::upkeep::update::Outcome;
use serde_json::{Value, json};

use crate::cli::failure::{Failure, Problem, chain};
use crate::cli::lockfiles::{ReadLockfile, Unreadable};
use crate::cli::report::Report;
use crate::cli::show::difference;

/// The format version of the JSON reports.
pub(crate) const VERSION: u32 = 1;

/// The output format of a report.
#[derive(Args)]
#[command(next_help_heading = "Report options")]
pub(crate) struct Form {
    /// Print JSON, one line for each lockfile
    #[arg(long, conflicts_with = "markdown")]
    pub(crate) json: bool,

    /// Print Markdown, for the body of a pull request
    #[arg(long)]
    pub(crate) markdown: bool,
}

/// The result for a lockfile. Programs rely on the names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    Fresh,
    Pinned,
    IndexMoved,
    Stale,
    Updated,
    Failed,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Pinned => "pinned",
            Self::IndexMoved => "index-moved",
            Self::Stale => "stale",
            Self::Updated => "updated",
            Self::Failed => "failed",
        }
    }
}

/// What a report says about a lockfile.
pub(crate) struct Row {
    pub(crate) file: String,
    pub(crate) status: Status,
    old: Option<String>,
    new: Option<String>,
    difference: Option<Difference>,
    error: Option<Value>,
    pub(crate) kind: Option<Kind>,
}

impl Row {
    /// The row of a lockfile that could be read.
    pub(crate) fn of(found: &ReadLockfile, outcome: &Outcome) -> Self {
        let old = found.lockfile.location().map(ToString::to_string);
        let mut row = Self {
            file: found.path.display().to_string(),
            status: Status::Fresh,
            new: old.clone(),
            old,
            difference: None,
            error: None,
            kind: None,
        };
        match outcome {
            Outcome::Fresh => {}
            Outcome::Pinned => row.status = Status::Pinned,
            Outcome::IndexMoved(new) | Outcome::Stale(new) => {
                row.status = match outcome {
                    Outcome::IndexMoved(_) => Status::IndexMoved,
                    _ => Status::Stale,
                };
                row.new = new.location().map(ToString::to_string);
                row.difference = Some(Difference::between(&found.lockfile, new));
            }
            Outcome::Failed(error) => return Self::failed(&row.file, &**error),
        }
        row
    }

    /// The rows of files that can't be read.
    pub(crate) fn of_unreadable(unreadable: &[Unreadable]) -> Vec<Self> {
        let row = |one: &Unreadable| Self::failed(&one.file, one.failure.error());
        unreadable.iter().map(row).collect()
    }

    /// The row of a lockfile that failed.
    pub(crate) fn failed(file: &str, error: &dyn Problem) -> Self {
        Self {
            file: file.to_owned(),
            status: Status::Failed,
            old: None,
            new: None,
            difference: None,
            error: Some(error_json(error)),
            kind: Some(error.kind()),
        }
    }

    pub(crate) fn json(&self, command: &str, report: &Report) -> Value {
        json!({
            "version": VERSION,
            "command": command,
            "file": self.file,
            "status": self.status.name(),
            "reference": { "old": self.old, "new": self.new },
            "difference": self.difference,
            "error": self.error.clone().map(|error| report.hidden(error)),
        })
    }

    pub(crate) fn text(&self, report: &Report) -> String {
        let status = self.status.name();
        let message = self.error.as_ref().and_then(|error| error["message"].as_str());
        let detail = match (message, &self.old, &self.new) {
            (Some(message), ..) => message.to_owned(),
            (None, Some(old), Some(new)) if old != new => format!("{old} → {new}"),
            (None, old, _) => old.clone().unwrap_or_default(),
        };
        format!("{status:<11}  {}  {}", report.cell(&self.file), report.cell(&detail))
    }

    fn markdown(&self, report: &Report) -> String {
        match (&self.difference, &self.error) {
            (Some(difference), _) => difference::markdown(&self.file, difference),
            (None, Some(error)) => {
                let message = error["message"].as_str().unwrap_or_default();
                format!(
                    "### {}\n\nNot updated: {}\n",
                    difference::code(&self.file),
                    difference::code(&report.hide(message))
                )
            }
            (None, None) => String::new(),
        }
    }
}

/// An error as JSON, for programs.
pub(crate) fn error_json(error: &dyn Problem) -> Value {
    json!({
        "kind": kind_name(error.kind()),
        "exitCode": error.kind().exit_code(),
        "message": chain(&error),
        "hint": error.hint(),
    })
}

/// The name of a kind of failure. Programs rely on it.
pub(crate) const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Other => "error",
        Kind::Usage => "usage",
        Kind::Stale => "stale",
        Kind::NotFound => "gone",
        Kind::Denied => "denied",
        Kind::RateLimited => "rate-limited",
        Kind::Network => "unreachable",
        Kind::Verification => "wrong",
    }
}

/// The maximum length of the Markdown, in bytes. GitHub allows 65,536 characters in the
/// body of a pull request.
const LONGEST_BODY: usize = 60_000;

/// Joins the sections that fit, and adds how many don't.
fn bounded(sections: &[String]) -> String {
    let mut text = String::new();
    for (index, section) in sections.iter().enumerate() {
        if text.len() + section.len() > LONGEST_BODY {
            let rest = sections.len() - index;
            // Writing to a string can't fail.
            let _ = write!(text, "\n… and {rest} more; `n2c diff` shows what changed there.\n");
            break;
        }
        if index > 0 {
            text.push('\n');
        }
        text.push_str(section);
    }
    text
}

/// Prints the whole report.
pub(crate) fn print(
    rows: &[Row],
    command: &str,
    form: &Form,
    report: &Report,
) -> Result<(), Failure> {
    if form.json {
        let lines: Vec<Value> = rows.iter().map(|row| row.json(command, report)).collect();
        return Report::json(&lines);
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|row| if form.markdown { row.markdown(report) } else { row.text(report) })
        .filter(|line| !line.is_empty())
        .collect();
    let text = if form.markdown { bounded(&lines) } else { lines.join("\n") };
    report.text(&if text.is_empty() { text } else { format!("{text}\n") })
}
