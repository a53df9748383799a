//! `n2c update` and `n2c refresh`: bring lockfiles up to date.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use n2c::Kind;
use n2c::formats::lockfile::{self, Lockfile};
use n2c::store::StoreDirectory;
use n2c::upkeep::tag_version::Bump;
use n2c::upkeep::update::{Outcome, PlatformsLost, TagPolicy, Updater};

use crate::cli::environment::environment;
use crate::cli::failure::{EditedMeanwhile, Failed, Failure, Outdated};
use crate::cli::lockfiles::{self, ReadLockfile};
use crate::cli::options::RegistryOptions;
use crate::cli::options::Requests;
use crate::cli::report::Report;
use crate::cli::show::rows::{self, Form, Row, Status};

#[derive(Args)]
pub(crate) struct Update {
    #[command(flatten)]
    common: Common,

    /// Change nothing; exit with 3 if a lockfile is out of date
    #[arg(long)]
    check: bool,

    /// Treat a lockfile as fresh if only its index changed, and not its platforms' images
    #[arg(long)]
    ignore_index: bool,

    /// Also move version tags: to the newest with the same `major.minor`, with the same `major`,
    /// or to the newest of all
    #[arg(long, value_name = "HOW-FAR")]
    bump: Option<How>,

    /// With `--bump`, also move to pre-releases
    #[arg(long, requires = "bump")]
    pre_releases: bool,

    /// What to do about locked platforms that the image no longer has
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    platforms_lost: Lost,
}

#[derive(Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    common: Common,

    /// Change nothing; exit with 3 if a lockfile does not match its `ref`
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct Common {
    /// Lockfiles, or directories with lockfiles at any depth
    #[arg(default_value = lockfiles::DEFAULT, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    requests: Requests,

    #[command(flatten)]
    form: Form,

    #[command(flatten)]
    registry: RegistryOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// `3.19.1` to `3.19.4`
    Patch,
    /// `3.19` to `3.20`
    Minor,
    /// `3.19` to `4.0`
    Major,
}

#[derive(Clone, Copy, ValueEnum)]
enum Lost {
    /// Leave the lockfile as it is, and fail
    Fail,
    /// Drop them from the lockfile
    Drop,
}

impl From<How> for Bump {
    fn from(how: How) -> Self {
        match how {
            How::Patch => Self::Patch,
            How::Minor => Self::Minor,
            How::Major => Self::Major,
        }
    }
}

pub(crate) async fn update(options: Update, report: &Arc<Report>) -> Result<(), Failure> {
    let Common { paths, requests, form, registry } = options.common;
    let (found, unreadable) = lockfiles::find(&paths, report)?;
    let mut rows = Row::of_unreadable(&unreadable);
    let client = registry.client(report)?;
    let mut updater = Updater::new(&client, &**report, requests.jobs.into());
    updater.tags =
        options.bump.map(|how| TagPolicy { bump: how.into(), pre_releases: options.pre_releases });
    updater.platforms_lost = match options.platforms_lost {
        Lost::Fail => PlatformsLost::Fail,
        Lost::Drop => PlatformsLost::Drop,
    };
    let lockfiles: Vec<&Lockfile> = found.iter().map(|found| &found.lockfile).collect();
    let outcomes = updater.update(&lockfiles).await;
    for (found, outcome) in found.iter().zip(outcomes) {
        let outcome = match outcome {
            Outcome::IndexMoved(_) if options.ignore_index => Outcome::Fresh,
            outcome => outcome,
        };
        rows.push(settle(found, &outcome, !options.check));
    }
    finish(rows, "update", &form, report)
}

pub(crate) async fn refresh(options: Refresh, report: &Arc<Report>) -> Result<(), Failure> {
    let Common { paths, requests, form, registry } = options.common;
    let (found, unreadable) = lockfiles::find(&paths, report)?;
    let mut rows = Row::of_unreadable(&unreadable);
    let client = registry.client(report)?;
    let updater = Updater::new(&client, &**report, requests.jobs.into());
    let lockfiles: Vec<&Lockfile> = found.iter().map(|found| &found.lockfile).collect();
    let outcomes = updater.refresh(&lockfiles, &StoreDirectory::of(environment())?).await;
    for (found, outcome) in found.iter().zip(outcomes) {
        let outcome = match outcome {
            // Undo what a formatter or an editor did to the file.
            Outcome::Fresh if found.lockfile.to_text().as_bytes() != found.text => {
                Outcome::Stale(Box::new(found.lockfile.clone()))
            }
            outcome => outcome,
        };
        rows.push(settle(found, &outcome, !options.check));
    }
    finish(rows, "refresh", &form, report)
}

/// Writes the lockfile if it changed and `write` is set. Returns the row for the report.
fn settle(found: &ReadLockfile, outcome: &Outcome, write: bool) -> Row {
    let mut row = Row::of(found, outcome);
    if let (Outcome::IndexMoved(new) | Outcome::Stale(new), true) = (outcome, write) {
        match write_unless_edited(found, new) {
            Ok(()) => row.status = Status::Updated,
            Err(failure) => return Row::failed(&row.file, failure.error()),
        }
    }
    row
}

/// Replaces a lockfile, unless its file has changed since it was read: an edit that somebody
/// made in the meantime must not be lost.
fn write_unless_edited(found: &ReadLockfile, new: &Lockfile) -> Result<(), Failure> {
    let (now, new) = (n2c::fs::read(&found.path, lockfile::SIZE_LIMIT)?, new.to_text());
    if now == new.as_bytes() {
        // Another run has already written it.
        return Ok(());
    }
    if now != found.text {
        return Err(EditedMeanwhile { path: found.path.clone() }.into());
    }
    Ok(n2c::fs::write(&found.path, new.as_bytes())?)
}

/// Prints the report. The exit code is the one of the first failure, or else 3 if something
/// is out of date.
fn finish(
    mut rows: Vec<Row>,
    command: &'static str,
    form: &Form,
    report: &Report,
) -> Result<(), Failure> {
    rows.sort_by(|a, b| a.file.cmp(&b.file));
    rows::print(&rows, command, form, report)?;
    let count =
        |statuses: &[Status]| rows.iter().filter(|row| statuses.contains(&row.status)).count();
    let updated = count(&[Status::Updated]);
    if updated > 0 {
        report.note(&format!("{updated} of {} lockfiles changed", rows.len()));
    }
    let failed = count(&[Status::Failed]);
    if failed > 0 {
        let kind = rows.iter().find_map(|row| row.kind).unwrap_or(Kind::Other);
        return Err(Failed { count: failed, total: rows.len(), kind }.into());
    }
    match count(&[Status::Stale, Status::IndexMoved]) {
        0 => Ok(()),
        stale => Err(Outdated { stale, total: rows.len(), command }.into()),
    }
}
