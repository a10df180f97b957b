//! Each stage beside the primitives it is made of, as a ratio: `cargo bench -p coffer-benches [-- FILTER]`.
//!
//! Stage and primitives take turns on the same bytes, and medians are compared, so the ratio stands on a noisy machine where gigabytes
//! per second do not. 1.00 means that a stage costs what its primitives cost. `snapshot.rs` does the same for whole operations: what
//! share of the machine's bound they reach, which is the sum of the primitives over all cores.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

mod chunk;
mod compress;
mod pack;
mod primitive;
mod seal;
mod snapshot;

use anyhow::Result;
use coffer_benches::stopwatch::{Work, medians};

/// Rounds of which the median counts.
const ROUND_COUNT: usize = 11;

/// Prints the table; skips what the filter leaves out.
struct Bench {
    filter: String,
}

impl Bench {
    fn wants(&self, group: &str) -> bool {
        group.contains(&self.filter)
    }

    fn heading(title: &str) {
        println!("\n{title}");
        println!("{:<52} {:>9} {:>12} {:>10}", "stage", "GB/s", "primitives", "time ratio");
    }

    /// Measures `stage` beside `parts`, which do together what it has to do at least, over `bytes` bytes.
    fn compare(name: &str, bytes: usize, stage: Work<'_>, parts: Vec<Work<'_>>) {
        let mut works = vec![stage];
        works.extend(parts);
        let seconds = medians(&mut works, ROUND_COUNT);
        let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
        let (stage, parts) = (seconds[0], seconds[1..].iter().sum::<f64>());
        println!("{name:<52} {:>9.2} {:>12.2} {:>10.2}", rate(stage), rate(parts), stage / parts);
    }

    /// Measures a primitive alone.
    fn rate(name: &str, bytes: usize, work: Work<'_>) {
        let seconds = medians(&mut [work], ROUND_COUNT);
        println!("{name:<52} {:>9.2}", bytes as f64 / seconds[0] / 1e9);
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` builds and starts this too, where nothing is to be measured.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench -p coffer-benches");
        return Ok(());
    }
    let filter = arguments.into_iter().find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let bench = Bench { filter };
    chunk::run(&bench)?;
    compress::run(&bench)?;
    seal::run(&bench)?;
    pack::run(&bench)?;
    snapshot::run(&bench)
}
