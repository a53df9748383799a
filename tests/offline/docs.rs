//! `docs/commands.md` is generated from the program's help. After changing the command
//! line, regenerate it with `N2C_WRITE_DOCS=1 cargo test --test offline docs`.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::program::n2c;

const COMMANDS: [&str; 19] = [
    "lock",
    "update",
    "refresh",
    "diff",
    "verify",
    "inspect",
    "blobs",
    "blob",
    "prefetch",
    "pull",
    "hash",
    "image-from-dir",
    "image-from-manifest",
    "auth show",
    "auth export",
    "doctor",
    "demo",
    "completions",
    "man",
];

#[test]
fn the_list_of_commands_matches_the_help() {
    let help = |arguments: &[&str]| {
        let run = n2c(&[arguments, &["-h"]].concat());
        let lines: Vec<&str> = run.text().lines().map(str::trim_end).collect();
        lines.join("\n")
    };
    let mut text = "# Commands\n\nMade from the command line's own definition; `--help` says more of each option.\n".to_owned();
    // Writing to a string can't fail.
    let _ = write!(text, "\n```text\n{}\n```\n", help(&[]));
    for command in COMMANDS {
        let words: Vec<&str> = command.split(' ').collect();
        let _ = write!(text, "\n## n2c {command}\n\n```text\n{}\n```\n", help(&words));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::env::var_os("N2C_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let written = std::fs::read_to_string(&path).expect("docs/commands.md");
    assert!(written == text, "run `N2C_WRITE_DOCS=1 cargo test --test offline docs`");
    // No command is left out of `COMMANDS`.
    let listed = help(&[]);
    let listed = listed.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| line.starts_with("  ")) {
        // Continuation lines are indented further.
        if line.starts_with("   ") {
            continue;
        }
        let name = line.trim().split(' ').next().expect("a name");
        let is_there = |command: &str| command.split(' ').next() == Some(name);
        assert!(name == "help" || COMMANDS.iter().any(|command| is_there(command)), "{name}");
    }
}

#[test]
fn links_in_the_documents_are_not_broken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    let documents = std::fs::read_dir(root.join("docs"))
        .expect("docs")
        .map(|entry| entry.expect("an entry").path());
    for document in documents.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&document).expect("a document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let file = link.split('#').next().unwrap_or_default();
            let target = document.parent().expect("a folder").join(file);
            assert!(target.exists(), "{}: broken link `{link}`", document.display());
            checked += 1;
        }
    }
    assert!(checked > 10);
}
