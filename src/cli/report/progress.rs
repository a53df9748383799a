//! The progress of transfers: bars on a terminal, Nix's structured log in a build.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use n2c::oci::digest::Digest;
use serde_json::{Value, json};

use super::options::{OutputOptions, When};
use crate::cli::environment::environment;

/// How many times a second the bars are drawn, at most.
const DRAWS_PER_SECOND: u8 = 10;
/// The minimum time between two updates of a transfer's position, in bars and for Nix.
const INTERVAL: Duration = Duration::from_millis(100);
/// Nix `src/libutil/logging.hh`: `actFileTransfer`.
const NIX_FILE_TRANSFER: u32 = 101;
/// Nix `src/libutil/logging.hh`: `resProgress`.
const NIX_PROGRESS: u32 = 105;

/// Where and how transfers are shown.
pub(super) enum Progress {
    /// Nowhere.
    Off,
    /// As bars, on stderr.
    Bars { all: MultiProgress, bars: Mutex<HashMap<Digest, Bar>> },
    /// In Nix's structured log. Nix shows the progress to the user.
    Nix(Mutex<NixTransfers>),
}

/// The transfers that were reported to Nix.
#[derive(Default)]
pub(super) struct NixTransfers {
    running: HashMap<Digest, NixTransfer>,
    last_id: u64,
}

/// A bar, and the time of its last update. Updates are throttled here because indicatif
/// would draw a new bar too often.
pub(super) struct Bar {
    bar: ProgressBar,
    moved: Instant,
}

struct NixTransfer {
    id: u64,
    total: u64,
    told: Instant,
}

impl Progress {
    pub(super) fn new(options: &OutputOptions) -> Self {
        let set = |name| environment().get(name).is_some();
        match options.progress {
            When::Never => return Self::Off,
            // Only Nix builders have both variables.
            _ if set("NIX_LOG_FD") && set("NIX_BUILD_TOP") => return Self::Nix(Mutex::default()),
            When::Auto if options.quiet || !io::stderr().is_terminal() => return Self::Off,
            When::Auto | When::Always => {}
        }
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        Self::Bars { all: MultiProgress::with_draw_target(target), bars: Mutex::default() }
    }

    /// Returns whether running transfers aren't shown.
    pub(super) const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    /// Runs `print` without mixing its output with the bars.
    pub(super) fn suspend(&self, print: impl FnOnce()) {
        match self {
            Self::Bars { all, .. } => all.suspend(print),
            Self::Off | Self::Nix(_) => print(),
        }
    }

    /// Removes all bars: an unfinished one means nothing after a failure.
    pub(super) fn clear(&self) {
        if let Self::Bars { all, .. } = self {
            let _ = all.clear();
        }
    }

    pub(super) fn start(&self, subject: &str, digest: &Digest, done: u64, total: Option<u64>) {
        match self {
            Self::Off => {}
            Self::Bars { all, bars } => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                let Bar { bar, moved } = bars.entry(digest.clone()).or_insert_with(|| Bar {
                    bar: all.add(new_bar(digest, total.is_some())),
                    moved: Instant::now(),
                });
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
                *moved = Instant::now();
            }
            Self::Nix(transfers) => {
                let mut transfers = transfers.lock().unwrap_or_else(PoisonError::into_inner);
                if transfers.running.contains_key(digest) {
                    return;
                }
                transfers.last_id += 1;
                let id = transfers.last_id;
                tell_nix(&json!({
                    "action": "start", "id": id, "level": 3, "type": NIX_FILE_TRANSFER,
                    "text": format!("downloading {subject}"), "fields": [subject],
                }));
                let transfer =
                    NixTransfer { id, total: total.unwrap_or_default(), told: Instant::now() };
                tell_nix(&transfer.progress(done));
                transfers.running.insert(digest.clone(), transfer);
            }
        }
    }

    pub(super) fn advance(&self, digest: &Digest, done: u64) {
        match self {
            Self::Off => {}
            Self::Bars { bars, .. } => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(Bar { bar, moved }) = bars.get_mut(digest)
                    && moved.elapsed() >= INTERVAL
                {
                    bar.set_position(done);
                    *moved = Instant::now();
                }
            }
            Self::Nix(transfers) => {
                let mut transfers = transfers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(transfer) = transfers.running.get_mut(digest)
                    && transfer.told.elapsed() >= INTERVAL
                {
                    transfer.told = Instant::now();
                    tell_nix(&transfer.progress(done));
                }
            }
        }
    }

    pub(super) fn finish(&self, digest: &Digest, total: u64) {
        match self {
            Self::Off => {}
            Self::Bars { bars, .. } => {
                let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(Bar { bar, .. }) = bars.remove(digest) {
                    bar.finish_and_clear();
                }
            }
            Self::Nix(transfers) => {
                let mut transfers = transfers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(transfer) = transfers.running.remove(digest) {
                    tell_nix(&transfer.progress(total));
                    tell_nix(&json!({ "action": "stop", "id": transfer.id }));
                }
            }
        }
    }
}

impl NixTransfer {
    fn progress(&self, done: u64) -> Value {
        let fields = [done, self.total.max(done), 0, 0];
        json!({ "action": "result", "id": self.id, "type": NIX_PROGRESS, "fields": fields })
    }
}

/// Writes a line to Nix's structured log (Nix `src/libutil/logging.cc`,
/// `handleJSONLogMessage`).
fn tell_nix(line: &Value) {
    // If the log is closed, there is nowhere to report that.
    let _ = writeln!(io::stderr().lock(), "@nix {line}");
}

fn new_bar(digest: &Digest, has_length: bool) -> ProgressBar {
    let template = if has_length {
        "{prefix} {bar:30} {binary_bytes:>11}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
    } else {
        "{prefix} {spinner} {binary_bytes:>11} {binary_bytes_per_sec}"
    };
    let bar = ProgressBar::no_length().with_prefix(digest.short().to_owned());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
