//! `n2c diff`: shows what changed between two lockfiles.

use std::path::PathBuf;

use clap::Args;
use n2c::upkeep::difference::Difference;
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::lockfiles;
use crate::cli::report::Report;
use crate::cli::show::difference;
use crate::cli::show::rows;

#[derive(Args)]
pub(crate) struct Options {
    /// The old lockfile, which may be a pipe: `<(git show HEAD:alpine.json)`
    old: PathBuf,

    /// The new lockfile
    new: PathBuf,

    #[command(flatten)]
    form: rows::Form,
}

pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    let (old, new) = (lockfiles::read(&options.old)?, lockfiles::read(&options.new)?);
    let difference = Difference::between(&old, &new);
    let file = options.new.display().to_string();
    if options.form.json {
        return Report::json(&[json!({
            "version": rows::VERSION, "command": "diff", "file": file,
            "status": if difference.is_empty() { "same" } else { "different" },
            "difference": difference,
        })]);
    }
    report.text(&if options.form.markdown {
        difference::markdown(&file, &difference)
    } else {
        difference::text(&difference)
    })
}
