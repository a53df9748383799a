//! How costs grow with the work: ten, a hundred, a thousand.

use std::fmt::Write as _;

use crate::images::image;
use crate::measure::measure;
use crate::support::images::{Image, index};
use crate::support::program::n2c_in;
use crate::support::registry::Registry;

const SIZES: [usize; 3] = [10, 100, 1000];
const ROUNDS: usize = 5;

/// The median seconds and MiB of a script.
fn median(script: &str) -> (f64, f64) {
    let mut costs: Vec<_> = (0..ROUNDS).map(|_| measure("", script)).collect();
    costs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    let middle = costs[ROUNDS / 2];
    (middle.wall, middle.memory)
}

/// A table of works by their sizes, on a registry in memory.
pub(crate) fn table() -> String {
    let n2c = env!("CARGO_BIN_EXE_n2c");
    let mut text = "\n## Scale\n\n| work | size | time | memory |\n|---|---|---|---|\n".to_owned();
    let mut put = |work: &str, size: usize, script: &str| {
        let (seconds, memory) = median(script);
        // Writing to a string can't fail.
        let _ = writeln!(text, "| {work} | {size} | {seconds:.3} s | {memory:.0} MiB |");
    };
    let registry = Registry::start();
    let directory = tempfile::tempdir().expect("a directory");
    let project = directory.path().display();
    let app = Image::new("linux/amd64", &["app"]);
    for size in SIZES {
        let folder = directory.path().join(size.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        for number in 0..size {
            let name = format!("{size}/app{number}");
            registry.put_image(&name, "1", &app);
            let (reference, file) =
                (registry.reference(&format!("{name}:1")), format!("{number}.json"));
            let run = n2c_in(&folder, &["lock", &reference, "--arch=amd64", "-q", "-o", &file]);
            assert_eq!(run.code, 0, "{}", run.stderr);
        }
        put(
            "`update --check` of lockfiles",
            size,
            &format!("{n2c} update --check -q {project}/{size} > /dev/null"),
        );
    }
    for size in SIZES {
        let entry = |number: usize| app.manifest.entry(&format!("linux/arch{number}"));
        let mut entries: Vec<_> = (1..size).map(entry).collect();
        entries.push(app.manifest.entry("linux/amd64"));
        registry.put_image("index", &app.manifest.digest().to_string(), &app);
        registry.put_manifest("index", &size.to_string(), &index(&entries));
        let reference = registry.reference(&format!("index:{size}"));
        put(
            "`lock` from an index of entries",
            size,
            &format!("{n2c} lock {reference} --arch amd64 -q > lock.json"),
        );
    }
    for size in [10, 127] {
        registry.put_image("layers", &size.to_string(), &image(size, 100));
        let reference = registry.reference(&format!("layers:{size}"));
        put(
            "`lock` of layers",
            size,
            &format!("{n2c} lock {reference} --arch amd64 -q > lock.json"),
        );
    }
    text
}
