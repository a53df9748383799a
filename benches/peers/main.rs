//! n2c beside the programs that a user would pick instead: `cargo bench --bench
//! peers`. On a registry of this machine, in the same run, in turn (A B A B …);
//! what counts is the ratio within a round, and its spread.
//!
//! `skopeo`, `curl` and Nix are Debian's. Further peers take part where a variable
//! or the `PATH` has them: `N2C_BENCH_CRANE` or `crane`, `N2C_BENCH_NIX2CONTAINER`
//! or `nix2container`, and `N2C_BENCH_SKOPEO` (a current one).
//! `N2C_BENCH_ROUNDS` is how many rounds (7). An argument is a part of the names
//! of what is to be measured, which then is only printed.
//!
//! Writes `results.md`, `results.json` and `results.svg` into `benches/`.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod built;
mod copied;
mod distance;
mod images;
mod measure;
mod report;
mod scale;
mod store;
#[path = "../../tests/support/mod.rs"]
mod support;
mod work;

use std::path::Path;
use std::process::ExitCode;

use measure::{Cost, measure};
use report::Result;

/// One program's way to do something, as shell text.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What is run, and not measured, before each time.
    pub(crate) prepare: String,
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

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [measure::FLAG, costs, script] => return measure::child(Path::new(costs), script),
        [store::FLAG, socket, file, name] => {
            store::hand_over(Path::new(socket), Path::new(file), name).expect("handed over");
        }
        _ if words.contains(&"--bench") => {
            let part = words.iter().find(|word| !word.starts_with('-'));
            compare(part.copied());
        }
        // `cargo test --benches` and clippy build this, and run nothing.
        _ => {}
    }
    ExitCode::SUCCESS
}

/// Runs all works, or those whose names have a `part`: these are only printed.
fn compare(part: Option<&str>) {
    let rounds = std::env::var("N2C_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(7);
    let place = work::Place::prepare();
    let mut results = Vec::new();
    for work in place.all() {
        if part.is_some_and(|part| !work.name.contains(part)) {
            continue;
        }
        let present: Vec<&Contender> =
            work.contenders.iter().filter(|one| one.script.is_some()).collect();
        let mut costs: Vec<Vec<Cost>> = present.iter().map(|_| Vec::new()).collect();
        // The first round warms the caches, and does not count.
        for round in 0..=rounds {
            for (index, contender) in present.iter().enumerate() {
                let script = contender.script.as_deref().unwrap_or_default();
                let Cost { wall, cpu, memory } = measure(&contender.prepare, script);
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
    if part.is_some() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    report::write(&folder, &results, rounds, &scale::table());
}
