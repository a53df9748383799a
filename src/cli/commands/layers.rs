//! `n2c layers-from-reproducible-storepaths` and `n2c layers-from-non-reproducible-storepaths`:
//! nix2container's commands of the same names.

use std::path::{Path, PathBuf};

use clap::Args;
use n2c::build::{self, LayersOptions};
use n2c::formats::layers::{self, History};
use n2c::stream::compress::Compression;

use super::copy::CompressionFormat;
use crate::cli::failure::{Failure, Usage};
use crate::cli::inputs;
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// The layers.json to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// The closure's graph, as `exportReferencesGraph` describes it
    graph: PathBuf,

    /// The layers.json files of layers below these: what they hold is left out
    #[arg(value_name = "PARENT")]
    parents: Vec<PathBuf>,

    /// A store path to leave out
    #[arg(long, value_name = "PATH", overrides_with = "ignore")]
    ignore: Option<String>,

    /// Rules for the permissions and owners of files
    #[arg(long, value_name = "FILE", overrides_with = "perms")]
    perms: Option<String>,

    /// Rules for the names of files
    #[arg(long, value_name = "FILE", overrides_with = "rewrites")]
    rewrites: Option<String>,

    /// The step of the image's history that the layers get
    #[arg(long, value_name = "FILE", overrides_with = "history")]
    history: Option<String>,

    /// How many layers to make at most; 0 means one for each store path
    #[arg(long, value_name = "N", default_value = "1", value_parser = max_layers, allow_negative_numbers = true, overrides_with = "max_layers")]
    max_layers: usize,

    /// Record what the layers compress to, so that an unchanged one is not compressed again
    ///
    /// The compressed layers are not kept. `n2c copy` makes them again if a
    /// registry lacks them, with the same bytes.
    #[arg(long, value_name = "ALGORITHM", overrides_with = "compress")]
    compress: Option<CompressionFormat>,

    /// For scripts that pass it to nix2container
    #[arg(short = 'd', long = "debug", hide = true)]
    _debug: bool,
}

#[derive(Args)]
pub(crate) struct NonReproducible {
    #[command(flatten)]
    layers: Options,

    /// The directory to write the layers to; without it, they are only hashed
    #[arg(long, value_name = "DIR", overrides_with = "tar_directory")]
    tar_directory: Option<String>,
}

/// Reads a number as Go's flags do: in any base, with underscores. What is negative means 0.
fn max_layers(text: &str) -> Result<usize, String> {
    let invalid = || "it is not a number".to_owned();
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, body) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // Between digits, or behind the base.
    let is_spaced =
        body.ends_with('_') || body.contains("__") || base == 10 && body.starts_with('_');
    let number = format!("{sign}{}", body.replace('_', ""));
    let number = i64::from_str_radix(&number, base).map_err(|_| invalid())?;
    if is_spaced || body.starts_with(['+', '-']) {
        return Err(invalid());
    }
    Ok(usize::try_from(number).unwrap_or(0))
}

pub(crate) fn reproducible(options: &Options, report: &Report) -> Result<(), Failure> {
    run(options, None, report)
}

pub(crate) fn non_reproducible(options: &NonReproducible, report: &Report) -> Result<(), Failure> {
    let directory = options.tar_directory.clone().filter(|name| !name.is_empty());
    if let Some(directory) = &directory
        && !Path::new(directory).is_dir()
    {
        let text = format!("`{directory}` is not a directory");
        return Err(Usage::new(text, "create it first").into());
    }
    run(&options.layers, directory, report)
}

fn run(options: &Options, tar_directory: Option<String>, report: &Report) -> Result<(), Failure> {
    let graph = inputs::read(&options.graph)?;
    let nodes = build::parse_graph(&options.graph.display().to_string(), &graph)?;
    let parents = inputs::layers(&options.parents)?;
    // As in nix2container, an empty name is none.
    let is_given = |path: &&String| !path.is_empty();
    let permissions = match options.perms.as_ref().filter(is_given) {
        Some(path) => build::parse_permissions(path, &inputs::read(Path::new(path))?, report)?,
        None => Vec::new(),
    };
    let rewrites = match options.rewrites.as_ref().filter(is_given) {
        Some(path) => build::parse_rewrites(path, &inputs::read(Path::new(path))?, report)?,
        None => Vec::new(),
    };
    let history = match options.history.as_ref().filter(is_given) {
        Some(path) => build::parse_history(path, &inputs::read(Path::new(path))?, report)?,
        None => History::default(),
    };
    let made = LayersOptions {
        excludes: Vec::new(),
        owner: None,
        ignore: options.ignore.clone().unwrap_or_default(),
        permissions,
        rewrites,
        history,
        max_layers: options.max_layers,
        parents,
        compression: options.compress.map(|format| Compression::new(format.into())),
        tar_directory,
    };
    let layers = build::layers(&nodes, &made, report)?;
    Report::result(Some(&options.output), layers::to_text(&layers).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each of these was tried with Go's `strconv.ParseInt(text, 0, 64)`.
    #[test]
    fn numbers_are_read_as_go_does_it() {
        for (text, expected) in [
            ("3", Some(3)),
            ("0x10", Some(16)),
            ("0b11", Some(3)),
            ("017", Some(15)),
            ("0o17", Some(15)),
            ("1_000", Some(1000)),
            ("0x_f", Some(15)),
            ("-1", Some(0)),
            ("-9223372036854775808", Some(0)),
            ("+2", Some(2)),
            ("0", Some(0)),
            ("many", None),
            ("", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("--1", None),
            ("1.0", None),
        ] {
            assert_eq!(max_layers(text).ok(), expected, "{text}");
        }
    }
}
