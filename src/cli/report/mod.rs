//! All that the program prints: results on stdout, the rest on stderr.

mod progress;

use std::io::{self, Write as _};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use clap::ColorChoice;
use indicatif::BinaryBytes;
use n2c::observer::{Event, Observer};

use super::OutputOptions;
use super::failure::{Failure, Stdout};
use progress::Progress;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Green.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// The program's voice.
pub(crate) struct Report {
    quiet: bool,
    verbose: bool,
    progress: Progress,
}

impl Report {
    pub(crate) fn new(options: &OutputOptions) -> Self {
        match options.color {
            ColorChoice::Auto => {}
            ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
            ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
        }
        Self { quiet: options.quiet, verbose: options.verbose, progress: Progress::new(options) }
    }

    /// Hands over a command's result: to a file, at once or not at all, or to
    /// stdout, which `-` also means.
    pub(crate) fn result(output: Option<&Path>, bytes: &[u8]) -> Result<(), Failure> {
        match output {
            Some(path) if path != Path::new("-") => Ok(n2c::fs::write(path, bytes)?),
            _ => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Stdout)?;
                Ok(())
            }
        }
    }

    /// Hands over a result for people, part of which a server may have written.
    pub(crate) fn text(text: &str) -> Result<(), Failure> {
        Self::result(None, printable(text).as_bytes())
    }

    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.line("note", NOTE, text);
        }
    }

    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            self.line("warning", WARNING, text);
        }
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        self.progress.clear();
        self.line("error", ERROR, &n2c::error_chain(failure.error()));
        if let Some(hint) = failure.error().hint() {
            self.line("hint", HINT, &hint);
        }
    }

    fn line(&self, label: &str, style: Style, text: &str) {
        let text = printable(&text.replace('\n', " "));
        let print = || {
            // There is nowhere to say that stderr is closed.
            let _ = writeln!(anstream::stderr().lock(), "{style}{label}:{style:#} {text}");
        };
        self.progress.suspend(print);
    }
}

impl Observer for Report {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Note(text) => self.note(text),
            Event::Warning(text) => self.warning(text),
            Event::Answered { method, url, status, elapsed } if self.verbose => {
                self.note(&format!("{method} {url} {status} ({} ms)", elapsed.as_millis()));
            }
            Event::RateLimit { host, limit, remaining } if self.verbose => {
                self.note(&format!("`{host}` has {remaining} pulls left of {limit}"));
            }
            Event::Credential { repository, origin } if self.verbose => {
                let origin = origin.unwrap_or("none");
                self.note(&format!("credentials for {repository}: {origin}"));
            }
            Event::Retrying { subject, reason, delay } => self.warning(&format!(
                "trying {subject} again in {:.1} s: {reason}",
                delay.as_secs_f64()
            )),
            Event::BlobStored { digest, size, was_there } if self.progress.is_off() => {
                let what = if *was_there { "kept" } else { "fetched" };
                self.note(&format!("{what} `{}`, {}", digest.short(), BinaryBytes(*size)));
            }
            Event::TransferStarted { subject, digest, done, total } => {
                self.progress.start(subject, digest, *done, *total);
            }
            Event::TransferAdvanced { digest, done } => self.progress.advance(digest, *done),
            Event::TransferFinished { digest, total } => self.progress.finish(digest, *total),
            _ => {}
        }
    }
}

/// `text` without what would move a cursor or change a colour: servers write
/// labels, and error messages.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escape = c.is_control() && c != '\n';
            let escaped = escape.then(|| c.escape_default());
            escaped.into_iter().flatten().chain((!escape).then_some(c))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\rc\nd\u{9b}é"), "a\\u{1b}[2Jb\\rc\nd\\u{9b}é");
    }
}
