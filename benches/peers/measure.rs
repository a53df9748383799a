//! What a run costs.
//!
//! The system counts the memory of whoever starts a program as the program's own,
//! until that runs. So each run is started and measured by a small process: this
//! program once more, with [`FLAG`].

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wait4::Wait4 as _;

/// Says that this process is to measure: a file for the cost, and a script.
pub(crate) const FLAG: &str = "--measure";

/// What a run cost.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Cost {
    /// Seconds that passed.
    pub(crate) wall: f64,
    /// Seconds of CPU, its own and the kernel's for it.
    pub(crate) cpu: f64,
    /// The greatest memory of one process, in MiB.
    pub(crate) memory: f64,
}

/// Runs a script in an empty directory, behind one that prepares for it.
pub(crate) fn measure(prepare: &str, script: &str) -> Cost {
    let directory = tempfile::tempdir().expect("a directory");
    run(directory.path(), Command::new("sh").args(["-c", prepare]));
    // What the last run left to be written is not this one's.
    run(directory.path(), &mut Command::new("sync"));
    let costs = directory.path().join(".costs");
    let this = std::env::current_exe().expect("this program");
    run(directory.path(), Command::new(this).arg(FLAG).arg(&costs).arg(script));
    let text = std::fs::read(costs).expect("what it cost");
    serde_json::from_slice(&text).expect("a cost")
}

fn run(directory: &Path, command: &mut Command) {
    let output = command.current_dir(directory).stdin(Stdio::null()).output().expect("started");
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The small process.
pub(crate) fn child(costs: &Path, script: &str) -> ExitCode {
    let started = Instant::now();
    let mut child = Command::new("sh").args(["-c", script]).spawn().expect("started");
    let used = child.wait4().expect("waited for");
    let wall = started.elapsed().as_secs_f64();
    let cpu = (used.rusage.utime + used.rusage.stime).as_secs_f64();
    // No program here uses as much memory as a float can't count.
    #[allow(clippy::cast_precision_loss)]
    let memory = used.rusage.maxrss as f64 / f64::from(1 << 20);
    let cost = serde_json::to_vec(&Cost { wall, cpu, memory }).expect("numbers");
    std::fs::write(costs, cost).expect("written");
    if used.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
