//! Everything that the program prints: results to stdout, the rest to stderr.

mod options;
mod progress;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use clap::ColorChoice;
use indicatif::BinaryBytes;
use n2c::observer::{Arrival, Event, Observer};
use n2c::registry::Secrets;
use n2c::text;
use serde_json::Value;

use crate::cli::failure::{Failure, Stdout};
pub(crate) use options::OutputOptions;
use progress::Progress;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Green.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// The maximum length of a line, in characters.
const LONGEST: usize = 4000;

/// Prints everything that the program has to say.
pub(crate) struct Report {
    quiet: bool,
    verbose: bool,
    progress: Progress,
    /// The secrets that clients have used. No output may contain them.
    secrets: Arc<Secrets>,
    stored: Mutex<Statistics>,
}

/// Statistics on the blobs of a pull.
#[derive(Default)]
struct Statistics {
    fetched: usize,
    bytes: u64,
    kept: usize,
}

impl Report {
    pub(crate) fn new(options: &OutputOptions) -> Self {
        match options.color {
            ColorChoice::Auto => {}
            ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
            ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
        }
        Self {
            quiet: options.quiet,
            verbose: options.verbose > 0,
            progress: Progress::new(options),
            secrets: Arc::default(),
            stored: Mutex::default(),
        }
    }

    /// Returns the set in which clients record the secrets that they use.
    pub(crate) fn secrets(&self) -> Arc<Secrets> {
        self.secrets.clone()
    }

    /// Says what was pushed, and how much of it was sent.
    pub(crate) fn pushed(&self, name: &str, sent: u64, total: u64, is_dry_run: bool) {
        let (sent, total) = (BinaryBytes(sent), BinaryBytes(total));
        let what = if is_dry_run { "would send" } else { "sent" };
        self.note(&format!("{what} {sent} of {total} for `{name}`"));
    }

    /// Summarises a copy to `destination` in one line, if stderr is a terminal.
    pub(crate) fn copied_to(&self, destination: &str) {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if self.quiet || !io::stderr().is_terminal() {
            return;
        }
        let there = match stored.kept {
            0 => String::new(),
            kept => format!(", {kept} were there already"),
        };
        let (fetched, bytes) = (stored.fetched, BinaryBytes(stored.bytes));
        let blobs = if fetched == 1 { "blob" } else { "blobs" };
        self.note(&format!("copied to `{destination}`: {fetched} {blobs}, {bytes}{there}"));
    }

    /// Returns the text with all secrets hidden.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.secrets.hide(text)
    }

    /// Returns the value with all secrets in its strings hidden.
    pub(crate) fn hidden(&self, mut value: Value) -> Value {
        self.hide_in(&mut value);
        value
    }

    fn hide_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.hide(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.hide_in(value)),
            Value::Object(values) => values.values_mut().for_each(|value| self.hide_in(value)),
            _ => {}
        }
    }

    /// Makes text of any origin safe to show as part of a line, such as a table cell or an
    /// error message.
    pub(crate) fn cell(&self, text: &str) -> String {
        self.secrets.clean(text, LONGEST)
    }

    /// Writes a command's result: atomically to the file `output`, or to stdout if `output`
    /// is `None` or `-`.
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

    /// Writes a result for programs, one line for each value. Characters that could control a
    /// terminal are written as JSON escapes, which doesn't change the values.
    pub(crate) fn json(values: &[Value]) -> Result<(), Failure> {
        let lines = values.iter().map(|value| format!("{}\n", text::json(&value.to_string())));
        Self::result(None, lines.collect::<String>().as_bytes())
    }

    /// Writes a result for people, which may contain text from a server.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        Self::result(None, text::lines(&self.secrets.hide(text)).as_bytes())
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
        let text = self.cell(&text::without_passwords(text));
        let print = || {
            // If stderr is closed, there is nowhere to report that.
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
            Event::Retrying { subject, reason, delay } => self
                .warning(&format!("retrying {subject} in {:.1} s: {reason}", delay.as_secs_f64())),
            Event::BlobStored { digest, size, was_there } => {
                {
                    let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
                    if *was_there {
                        stored.kept += 1;
                    } else {
                        stored.fetched += 1;
                        stored.bytes = stored.bytes.saturating_add(*size);
                    }
                }
                if !self.progress.is_off() {
                    return;
                }
                let what = if *was_there { "kept" } else { "fetched" };
                self.note(&format!("{what} `{}`, {}", digest.short(), BinaryBytes(*size)));
            }
            Event::BlobPushed { digest, size, arrival } => {
                let what = match arrival {
                    Arrival::Present => "there already:",
                    Arrival::Mounted => "mounted",
                    Arrival::Sent => "sent",
                    Arrival::Foreign => "left where it is:",
                };
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
