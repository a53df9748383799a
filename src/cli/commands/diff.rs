//! `n2c diff`: shows what changed between two lockfiles, or between two images.

use std::path::{Path, PathBuf};

use clap::Args;
use n2c::build::ImageDifference;
use n2c::upkeep::difference::Difference;
use n2c::{ImageJson, Lockfile};
use serde_json::{Map, Value, json};

use crate::cli::failure::{Failure, Usage};
use crate::cli::report::Report;
use crate::cli::show::{built, difference, rows};

/// The largest file that is read, in bytes: images of thousands of store paths have a few
/// million.
const SIZE_LIMIT: u64 = 64 << 20;

#[derive(Args)]
pub(crate) struct Options {
    /// The old lockfile or image.json, which may be a pipe: `<(git show HEAD:alpine.json)`
    old: PathBuf,

    /// The new lockfile or image.json
    new: PathBuf,

    #[command(flatten)]
    form: rows::Form,
}

pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    let read = |path: &Path| n2c::fs::read(path, SIZE_LIMIT);
    let (old, new) = (read(&options.old)?, read(&options.new)?);
    let names = [&options.old, &options.new].map(|path| path.display().to_string());
    if is_image(&old) && is_image(&new) {
        let images = (ImageJson::parse(&names[0], &old)?, ImageJson::parse(&names[1], &new)?);
        return show_images(&ImageDifference::between(&images.0, &images.1), options, report);
    }
    if is_image(&old) || is_image(&new) {
        let text = format!("`{}` and `{}` are an image.json and a lockfile", names[0], names[1]);
        return Err(Usage::new(text, "compare two of the same kind").into());
    }
    let [old_name, file] = names;
    let (old, new) = (Lockfile::parse(&old_name, &old)?, Lockfile::parse(&file, &new)?);
    let difference = Difference::between(&old, &new);
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

/// Whether a file is an image.json, and not a lockfile.
fn is_image(text: &[u8]) -> bool {
    let object: Option<Map<String, Value>> = serde_json::from_slice(text).ok();
    object.is_some_and(|object| object.contains_key("image-config"))
}

fn show_images(
    difference: &ImageDifference,
    options: &Options,
    report: &Report,
) -> Result<(), Failure> {
    let file = options.new.display().to_string();
    if options.form.json {
        return Report::json(&[json!({
            "version": rows::VERSION, "command": "diff", "file": file,
            "status": if difference.is_empty() { "same" } else { "different" },
            "image": difference,
        })]);
    }
    report.text(&if options.form.markdown {
        built::markdown(&file, difference)
    } else {
        built::plain(difference)
    })
}
