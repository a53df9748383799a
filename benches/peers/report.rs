//! The results: a table, a plot and the raw numbers.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use plotters::prelude::*;
use serde::Serialize;

use crate::measure::Cost;
use crate::work;

/// All rounds of one program at one work.
#[derive(Serialize)]
pub(crate) struct Result {
    work: &'static str,
    contender: &'static str,
    costs: Vec<Cost>,
}

/// The median, and the quartiles around it.
#[derive(Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let at = |quarter: usize| numbers[(numbers.len() - 1) * quarter / 4];
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

impl Result {
    pub(crate) fn new(work: &'static str, contender: &'static str, costs: Vec<Cost>) -> Self {
        Self { work, contender, costs }
    }

    fn spread(&self, value: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.costs.iter().map(value).collect())
    }

    /// n2c's cost over this one's, round by round.
    fn ratio(&self, n2c: &Self, value: impl Fn(&Cost) -> f64) -> Spread {
        let pairs = n2c.costs.iter().zip(&self.costs);
        Spread::of(pairs.map(|(ours, theirs)| value(ours) / value(theirs)).collect())
    }

    pub(crate) fn line(&self) -> String {
        let (wall, cpu) = (self.spread(|cost| cost.wall), self.spread(|cost| cost.cpu));
        let memory = self.spread(|cost| cost.memory);
        format!(
            "{:<36} {:<28} {:>7.3} s  {:>6.3} s CPU  {:>6.1} MiB",
            self.work, self.contender, wall.median, cpu.median, memory.median
        )
    }
}

/// Each peer's result with n2c's of the same work.
fn pairs(results: &[Result]) -> Vec<(&Result, &Result)> {
    let is_n2c = |result: &&Result| result.contender.starts_with("n2c");
    results
        .iter()
        .filter(|result| !is_n2c(result))
        .filter_map(|peer| {
            let n2c = results.iter().find(|result| is_n2c(result) && result.work == peer.work)?;
            Some((n2c, peer))
        })
        .collect()
}

/// Writes all forms of the results into `folder`.
pub(crate) fn write(folder: &Path, results: &[Result], rounds: usize, more: &str) {
    let json = serde_json::to_string_pretty(results).expect("numbers");
    std::fs::write(folder.join("results.json"), json + "\n").expect("written");
    std::fs::write(folder.join("results.md"), table(results, rounds) + more).expect("written");
    plot(&folder.join("results.svg"), results).expect("drawn");
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// Which programs these were.
fn versions() -> String {
    let skopeo = |program: &str| output_of(program, &["--version"]).replace("skopeo version ", "");
    let mut versions = vec![
        format!("Debian's skopeo {}", skopeo("skopeo")),
        output_of("nix-store", &["--version"]).replace("nix-store (Nix)", "Nix"),
        output_of("curl", &["--version"]).split(" (").next().unwrap_or_default().to_owned(),
    ];
    versions.extend(work::skopeo().map(|program| format!("skopeo {}", skopeo(&program))));
    versions.extend(
        work::crane().map(|program| format!("crane {}", output_of(&program, &["version"]))),
    );
    versions.extend(work::nix2container().map(|_| "nix2container's Go program".to_owned()));
    versions.join(", ")
}

fn table(results: &[Result], rounds: usize) -> String {
    let machine = output_of("sh", &["-c", "grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"]);
    let mut text = format!(
        "# n2c beside its peers\n\n{}, {} cores of{}, {}; {}. `cargo bench --bench peers`, {rounds} \
         rounds, medians; ratios are n2c's cost over the peer's in the same round, with their \
         quartiles.\n\n\
         | work | program | time | CPU | memory | n2c's time | n2c's CPU |\n|---|---|---|---|---|---|---|\n",
        output_of("date", &["+%Y-%m-%d"]),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        machine.trim_end(),
        output_of("sh", &["-c", "uname -sr | cut -d. -f1,2"]),
        versions(),
    );
    let pairs = pairs(results);
    for result in results {
        let wall = result.spread(|cost| cost.wall);
        let pair = pairs.iter().find(|(_, peer)| std::ptr::eq(*peer, result));
        let ratio = |value: &dyn Fn(&Cost) -> f64| {
            pair.map_or_else(String::new, |(n2c, peer)| {
                let spread = peer.ratio(n2c, value);
                format!("{:.2} ({:.2}–{:.2})", spread.median, spread.low, spread.high)
            })
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.3} s | {:.3} s | {:.1} MiB | {} | {} |",
            result.work,
            result.contender,
            wall.median,
            result.spread(|cost| cost.cpu).median,
            result.spread(|cost| cost.memory).median,
            ratio(&|cost| cost.wall),
            ratio(&|cost| cost.cpu),
        );
    }
    text
}

/// A bar for each peer: n2c's time as a part of its time.
fn plot(file: &Path, results: &[Result]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let pairs = pairs(results);
    let (rows, row) = (i32::try_from(pairs.len())?, 34);
    let (left, width, top) = (330, 520, 50);
    let size = (900, u32::try_from(rows * row + top + 40)?);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let font = |size: i32| ("sans-serif", size).into_font();
    root.draw(&Text::new(
        "n2c's time over the peer's, median and quartiles; 1 is as long",
        (20, 14),
        font(16),
    ))?;
    let x = |ratio: f64| {
        // Within the plot, which is some hundred pixels wide.
        #[allow(clippy::cast_possible_truncation)]
        let offset = (ratio.min(1.5) / 1.5 * f64::from(width)) as i32;
        left + offset
    };
    for (index, (n2c, peer)) in pairs.iter().enumerate() {
        let y = top + i32::try_from(index)? * row;
        let spread = peer.ratio(n2c, |cost| cost.wall);
        let label = format!("{}: {}", peer.work, peer.contender);
        root.draw(&Text::new(label, (20, y + 4), font(12)))?;
        let bar = [(left, y), (x(spread.median), y + 18)];
        root.draw(&Rectangle::new(bar, RGBColor(82, 119, 195).filled()))?;
        root.draw(&PathElement::new(
            vec![(x(spread.low), y + 9), (x(spread.high), y + 9)],
            BLACK.stroke_width(2),
        ))?;
        root.draw(&Text::new(
            format!("{:.2}", spread.median),
            (x(spread.high) + 8, y + 4),
            font(12),
        ))?;
    }
    let bottom = top + rows * row;
    root.draw(&PathElement::new(vec![(x(1.0), top - 8), (x(1.0), bottom)], RED.stroke_width(1)))?;
    root.draw(&Text::new("1", (x(1.0) - 3, bottom + 6), font(12)))?;
    root.present()?;
    Ok(())
}
