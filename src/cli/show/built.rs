//! Shows images that were built from store paths: why they are as large as they are, and what
//! a change sends again.

use std::fmt::Write as _;

use comfy_table::CellAlignment;
use indicatif::BinaryBytes;
use n2c::ImageJson;
use n2c::build::{ImageDifference, PathSize};
use n2c::formats::layers::LayerContent;
use n2c::oci::digest::Digest;
use n2c::text;
use serde::Serialize;
use serde_json::{Map, Value};

use super::table::{lines_of, table};
use crate::cli::report::Report;

/// How long a line of Markdown may be, in characters.
const LONGEST: usize = 500;
/// How many store paths of a layer are shown, unless all are asked for.
const LARGEST: usize = 3;

/// What `n2c inspect nix:FILE --json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BuiltDetails {
    architecture: String,
    /// The sum of the layers' sizes in bytes, without compression.
    size: u64,
    layers: Vec<BuiltLayer>,
    config: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuiltLayer {
    media_type: String,
    digest: Digest,
    size: u64,
    /// How many store paths are in it.
    path_count: usize,
    /// Whether a node mounts them, so that their size isn't part of the layer's.
    #[serde(rename = "mountPoints", skip_serializing_if = "std::ops::Not::not")]
    are_mounted: bool,
    /// The largest of them, or all of them, the largest first.
    paths: Vec<PathSize>,
}

impl BuiltDetails {
    /// Measures the store paths of an image, and keeps all of them or the largest.
    pub(crate) fn new(image: &ImageJson, all: bool) -> Self {
        let layers = image.layers().iter().map(|layer| {
            let mut paths: Vec<PathSize> =
                layer.paths.iter().map(|record| PathSize::of(&record.path)).collect();
            paths.sort_by_key(|path| std::cmp::Reverse(path.size));
            let path_count = paths.len();
            if !all {
                paths.truncate(LARGEST);
            }
            BuiltLayer {
                media_type: layer.media_type.clone(),
                digest: layer.digest.clone(),
                size: layer.size,
                path_count,
                are_mounted: layer.content != LayerContent::Files,
                paths,
            }
        });
        Self {
            architecture: image.architecture().to_owned(),
            size: image.layers().iter().fold(0, |sum, layer| sum.saturating_add(layer.size)),
            layers: layers.collect(),
            config: image.config().clone(),
        }
    }

    pub(crate) fn to_text(&self, report: &Report) -> String {
        let count = self.layers.len();
        let layers = if count == 1 { "layer" } else { "layers" };
        let mut text = format!(
            "{}: {count} {layers}, {}\n\n",
            report.cell(&self.architecture),
            BinaryBytes(self.size)
        );
        let mut table = table(&["LAYER", "SIZE", "STORE PATHS"]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for layer in &self.layers {
            let size = BinaryBytes(layer.size).to_string();
            let paths = match (layer.path_count, layer.are_mounted) {
                (0, _) => String::new(),
                (count, false) => count.to_string(),
                (count, true) => format!("{count}, of the node's store"),
            };
            table.add_row([layer.digest.to_string(), size, paths]);
            for path in &layer.paths {
                let size = path
                    .size
                    .map_or_else(|| "unknown".to_owned(), |size| BinaryBytes(size).to_string());
                table.add_row([String::new(), size, report.cell(&path.path)]);
            }
        }
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", lines_of(table));
        text
    }
}

/// Formats a difference for a terminal.
pub(crate) fn plain(difference: &ImageDifference) -> String {
    // A store path can be any text, but not a line of its own.
    lines(difference).iter().map(|line| text::one_line(line, LONGEST) + "\n").collect()
}

/// Formats a difference for a pull request, with the file's name as heading.
pub(crate) fn markdown(file: &str, difference: &ImageDifference) -> String {
    // A store path can be any text.
    let code = |text: &str| format!("`{}`", text::one_line(text, LONGEST).replace('`', "'"));
    let items: Vec<String> = lines(difference).iter().map(|line| code(line)).collect();
    format!("### {}\n\n- {}\n", code(file), items.join("\n- "))
}

fn lines(difference: &ImageDifference) -> Vec<String> {
    if difference.is_empty() {
        return vec!["nothing changed".to_owned()];
    }
    let bytes = |path: &PathSize| {
        path.size.map(|size| format!(", {}", BinaryBytes(size))).unwrap_or_default()
    };
    let mut lines = vec![format!(
        "layers: {} kept, {} added, {} removed, {} to send",
        difference.kept,
        difference.added.len(),
        difference.removed.len(),
        BinaryBytes(difference.bytes)
    )];
    for layer in &difference.added {
        lines.push(format!("+ layer {}, {}", layer.digest, BinaryBytes(layer.size)));
    }
    for layer in &difference.removed {
        lines.push(format!("- layer {}, {}", layer.digest, BinaryBytes(layer.size)));
    }
    for change in &difference.paths.changed {
        lines.push(format!("  {} → {}{}", change.old.path, change.new.path, bytes(&change.new)));
    }
    lines.extend(
        difference.paths.added.iter().map(|path| format!("+ {}{}", path.path, bytes(path))),
    );
    lines.extend(
        difference.paths.removed.iter().map(|path| format!("- {}{}", path.path, bytes(path))),
    );
    if !difference.config.is_empty() {
        lines.push(format!("config: {}", difference.config.join(", ")));
    }
    if !difference.other.is_empty() {
        lines.push(format!("other differences: {}", difference.other.join(", ")));
    }
    lines
}
