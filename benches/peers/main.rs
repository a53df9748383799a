//! n2c beside the programs that a user would pick instead: `cargo bench --bench
//! peers`. On a registry of this machine, in the same run, in turn (A B A B …);
//! what counts is the ratio within a round, and its spread.
//!
//! `skopeo` is Debian's. Further peers take part where a variable names them:
//! `N2C_BENCH_SKOPEO` (a current one) and `N2C_BENCH_CRANE`. `N2C_BENCH_ROUNDS`
//! is how many rounds (7).
//!
//! Writes `results.md`, `results.json` and `results.svg` into `benches/`.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod distance;
mod images;
mod report;
mod scale;
#[path = "../../tests/support/mod.rs"]
mod support;
mod work;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use report::Result;

/// What a run cost.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Cost {
    /// Seconds that passed.
    pub(crate) wall: f64,
    /// Seconds of CPU, its own and the kernel's for it.
    pub(crate) cpu: f64,
    /// The greatest memory, in MiB.
    pub(crate) memory: f64,
}

/// One program's way to do something, as shell text.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What is run. `None` where the program is not at hand.
    pub(crate) script: Option<String>,
    /// How often the script is to count: a hundredth of the work is a hundred.
    pub(crate) times: f64,
}

/// Something to do, and who does it: n2c first.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) contenders: Vec<Contender>,
}

/// Runs a script in an empty directory and measures it by GNU time.
fn measure(script: &str) -> Cost {
    let directory = tempfile::tempdir().expect("a directory");
    let costs = directory.path().join(".costs");
    // What the last run left to be written is not this one's.
    let _ = Command::new("sync").status();
    let started = Instant::now();
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%U %S %M", "-o"])
        .arg(&costs)
        .args(["bash", "-c", script])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("GNU time; `apt-get install time`");
    let wall = started.elapsed().as_secs_f64();
    assert!(
        output.status.success(),
        "`{script}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(costs).expect("what it cost");
    let numbers: Vec<f64> =
        text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [user, system, kilobytes] = numbers[..] else { panic!("odd costs: {text}") };
    Cost { wall, cpu: user + system, memory: kilobytes / 1024.0 }
}

fn main() {
    // `cargo test --benches` and clippy build this, and run nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = std::env::var("N2C_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(7);
    let place = work::Place::prepare();
    let mut results = Vec::new();
    for work in place.all() {
        let present: Vec<&Contender> =
            work.contenders.iter().filter(|one| one.script.is_some()).collect();
        let mut costs: Vec<Vec<Cost>> = present.iter().map(|_| Vec::new()).collect();
        // The first round warms the caches, and does not count.
        for round in 0..=rounds {
            for (index, contender) in present.iter().enumerate() {
                let script = contender.script.as_deref().unwrap_or_default();
                let Cost { wall, cpu, memory } = measure(script);
                if round > 0 {
                    let times = contender.times;
                    costs[index].push(Cost { wall: wall * times, cpu: cpu * times, memory });
                }
            }
        }
        for (contender, costs) in present.iter().zip(&costs) {
            let result = Result::new(work.name, contender.name, costs.clone());
            println!("{}", result.line());
            results.push(result);
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    report::write(&folder, &results, rounds, &scale::table());
}
