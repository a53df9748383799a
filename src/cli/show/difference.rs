//! Shows a difference, on a terminal or in the body of a pull request.
//!
//! Images are made by strangers, and pull requests are read by people with write access. So
//! the Markdown shows all text from an image as code, where it can neither link to anything
//! nor mention anybody.

use std::fmt::Write as _;

use indicatif::BinaryBytes;
use n2c::text::is_active;
use n2c::upkeep::difference::{Blob, Change, Difference, LayersDifference, PlatformDifference};
use serde_json::Value;

/// The maximum length of a shown value, in characters.
const LONGEST: usize = 200;

/// One changed fact: its kind, its name, and its old and new value. Names, like values, come
/// from images and can't be trusted.
struct Line {
    kind: &'static str,
    name: Option<String>,
    old: Option<String>,
    new: Option<String>,
}

impl Line {
    fn new<T>(kind: &'static str, change: &Change<T>, show: impl Fn(&T) -> String) -> Self {
        let (old, new) = (change.old.as_ref().map(&show), change.new.as_ref().map(&show));
        Self { kind, name: None, old, new }
    }

    fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }
}

/// Formats a difference for a terminal.
pub(crate) fn text(difference: &Difference) -> String {
    if difference.is_empty() {
        return "nothing changed\n".to_owned();
    }
    let mut text = String::new();
    let mut put = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if let Some(reference) = &difference.reference {
        put(&plain(&Line::new("reference", reference, String::clone)));
    }
    for platform in &difference.gained {
        put(&format!("+ platform {platform}"));
    }
    for platform in &difference.lost {
        put(&format!("- platform {platform}"));
    }
    for platform in &difference.platforms {
        put(&heading(platform));
        for line in lines(platform) {
            put(&format!("  {}", plain(&line)));
        }
        put(&format!("  {}", layers(&platform.layers)));
        if let Some(page) = &platform.compare {
            put(&format!("  {page}"));
        }
    }
    text
}

fn heading(platform: &PlatformDifference) -> String {
    platform.platform.as_ref().map_or_else(|| "image".to_owned(), ToString::to_string)
}

fn layers(layers: &LayersDifference) -> String {
    format!(
        "layers: {} kept{}, {} added, {} removed, {} to download",
        layers.kept,
        if layers.reordered { " in another order" } else { "" },
        layers.added.len(),
        layers.removed.len(),
        BinaryBytes(layers.download)
    )
}

fn plain(line: &Line) -> String {
    let shown = |value: &Option<String>| value.as_deref().map(|text| shorten(&one_line(text)));
    let name = shown(&line.name).map(|name| format!(" {name}")).unwrap_or_default();
    let what = format!("{}{name}", line.kind);
    match (shown(&line.old), shown(&line.new)) {
        (Some(old), Some(new)) => format!("{what}: {old} → {new}"),
        (None, Some(new)) => format!("+ {what}: {new}"),
        (Some(old), None) => format!("- {what}: {old}"),
        (None, None) => what,
    }
}

/// Formats a difference for a pull request, with the file's name as heading.
pub(crate) fn markdown(file: &str, difference: &Difference) -> String {
    let mut text = format!("### {}\n\n", code(file));
    if difference.is_empty() {
        text.push_str("Nothing changed.\n");
        return text;
    }
    let mut put = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if let Some(reference) = &difference.reference {
        put(&item(&Line::new("reference", reference, String::clone)));
    }
    for platform in &difference.gained {
        put(&format!("- gained the platform {}", code(&platform.to_string())));
    }
    for platform in &difference.lost {
        put(&format!("- **lost the platform** {}", code(&platform.to_string())));
    }
    for platform in &difference.platforms {
        put(&format!("\n#### {}\n", code(&heading(platform))));
        for line in lines(platform) {
            put(&item(&line));
        }
        put(&format!("- {}", layers(&platform.layers)));
        let lists = [("added", &platform.layers.added), ("removed", &platform.layers.removed)];
        for (what, blobs) in lists {
            for line in layer_items(what, blobs) {
                put(&line);
            }
        }
        if let Some(page) = &platform.compare {
            put(&format!("- [changes in the source]({page})"));
        }
    }
    text
}

/// Lists the layers that were added or removed, up to a number that people will read.
fn layer_items(what: &str, layers: &[Blob]) -> Vec<String> {
    const MOST: usize = 50;
    let item = |layer: &Blob| {
        format!("  - {what} {}, {}", code(&layer.digest.to_string()), BinaryBytes(layer.size))
    };
    let mut items: Vec<String> = layers.iter().take(MOST).map(item).collect();
    if layers.len() > MOST {
        items.push(format!("  - … and {} more {what}", layers.len() - MOST));
    }
    items
}

fn item(line: &Line) -> String {
    let name = line.name.as_deref().map(|name| format!(" {}", code(name))).unwrap_or_default();
    let what = format!("{}{name}", line.kind);
    match (line.old.as_deref().map(code), line.new.as_deref().map(code)) {
        (Some(old), Some(new)) => format!("- {what}: {old} → {new}"),
        (None, Some(new)) => format!("- {what}: added {new}"),
        (Some(old), None) => format!("- {what}: removed {old}"),
        (None, None) => format!("- {what}"),
    }
}

/// Returns everything that changed for a platform, except for its layers.
fn lines(platform: &PlatformDifference) -> Vec<Line> {
    let mut lines = Vec::new();
    let texts = [
        ("version", &platform.version),
        ("revision", &platform.revision),
        ("created", &platform.created),
    ];
    for (what, change) in texts {
        lines.extend(change.as_ref().map(|change| Line::new(what, change, String::clone)));
    }
    // A changed manifest digest covers a changed config digest, so show only one of them.
    let digest = platform.manifest.as_ref().map(|change| ("manifest", change));
    let digest = digest.or(platform.config_digest.as_ref().map(|change| ("config digest", change)));
    lines.extend(digest.map(|(what, change)| Line::new(what, change, ToString::to_string)));
    for (key, change) in &platform.config {
        lines.push(Line::new("config", change, Value::to_string).named(key));
    }
    for (name, change) in &platform.env {
        lines.push(Line::new("Env", change, String::clone).named(name));
    }
    for (kind, set) in [("port", &platform.exposed_ports), ("volume", &platform.volumes)] {
        let yes = || Some("yes".to_owned());
        for name in &set.added {
            lines.push(Line { kind, name: Some(name.clone()), old: None, new: yes() });
        }
        for name in &set.removed {
            lines.push(Line { kind, name: Some(name.clone()), old: yes(), new: None });
        }
    }
    for (key, change) in &platform.labels {
        lines.push(Line::new("label", change, String::clone).named(key));
    }
    lines
}

/// Formats text as a Markdown code span. The text can't end the span, because the fence has
/// more backticks than any run of backticks in the text.
pub(crate) fn code(text: &str) -> String {
    let text = shorten(&one_line(text));
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad =
        if text.starts_with('`') || text.ends_with('`') || text.is_empty() { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_active(c) {
            // Not escaped like `\\n`, which some programs turn back into a line break.
            // Writing to a string can't fail.
            let _ = write!(line, "⟨{:x}⟩", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_code() {
        for (text, expected) in [
            ("1.2", "`1.2`"),
            ("a`b", "``a`b``"),
            ("`` ` ", "``` `` `  ```"),
            ("", "`  `"),
            ("a\n\n@everyone ![x](y)", "`a⟨a⟩⟨a⟩@everyone ![x](y)`"),
            ("a\u{202e}b\u{2028}", "`a⟨202e⟩b⟨2028⟩`"),
        ] {
            assert_eq!(code(text), expected);
        }
        assert_eq!(code(&"é".repeat(300)), format!("`{}…`", "é".repeat(200)));
    }
}
