//! Whole operations through the engine, beside the machine's bound: what the primitives alone would take on all cores.
//!
//! The bound counts cutting, hashing, compression, sealing and copying of the bytes; not system calls, not the tree, not the index. So it cannot be
//! reached with small files, and says how far away an operation is. What each primitive takes for a byte is printed below: the budget.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Result, ensure};
use coffer_benches::data::{Kind, grow_tree};
use coffer_benches::stopwatch::medians;
use coffer_benches::world::World;
use coffer_pipeline::chunker::{Chunker, ChunkerParams};
use coffer_store::MemoryStore;
use tempfile::TempDir;

use super::chunk::cut_slice;
use super::pack::Frames;
use super::{Bench, ROUND_COUNT};

/// Rounds of whole operations, which are long.
const OPERATION_ROUND_COUNT: usize = 5;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    if !bench.wants("snapshot") {
        return Ok(());
    }
    let cores = available_parallelism()?.get();
    println!("\nsnapshot: whole operations on {cores} cores, from and to tmpfs, store in memory");
    println!("{:<52} {:>9} {:>12} {:>10}", "operation", "ms", "bound, ms", "reached");
    let budgets = [
        of(Kind::Source, 96 << 20, 16 << 10, cores)?,
        of(Kind::Json, 32 << 20, 900, cores)?,
        of(Kind::Random, 256 << 20, 32 << 20, cores)?,
    ];
    print_budget(&budgets);
    Ok(())
}

/// What each primitive takes for the bytes of one kind, on one core.
struct Budget {
    kind: Kind,
    /// Milliseconds, by [`STAGES`].
    stages: [f64; STAGES.len()],
    /// What operations need of it, and what they took on all cores together: milliseconds.
    operations: Vec<(&'static str, f64, f64)>,
    /// Bytes of the source.
    len: usize,
}

const STAGES: [&str; 9] = [
    "read or write: copy",
    "cut: pcc",
    "chunk id: BLAKE3",
    "compress: zstd, or copy",
    "seal: AES-256-GCM",
    "name of the pack: BLAKE3",
    "open: AES-256-GCM",
    "decompress: zstd",
    "hash of the pack: BLAKE3",
];

fn print_budget(budgets: &[Budget]) {
    println!("\nbudget: nanoseconds of one core for a byte of the source");
    let line = |name: &str, figure: &dyn Fn(&Budget) -> String| {
        let figures: String = budgets.iter().map(|budget| format!(" {:>15}", figure(budget))).collect();
        println!("{name:<32}{figures}");
    };
    line("stage", &|budget| budget.kind.name().to_owned());
    let ns = |budget: &Budget, ms: f64| ms * 1e6 / budget.len as f64;
    for (at, stage) in STAGES.iter().enumerate() {
        line(stage, &|budget| format!("{:.3}", ns(budget, budget.stages[at])));
    }
    let count = budgets.first().map_or(0, |budget| budget.operations.len());
    for at in 0..count {
        line(&format!("{}: needs / took", budgets[0].operations[at].0), &|budget| {
            let (_, needs, took) = budget.operations[at];
            format!("{:.2} / {:.2}", ns(budget, needs), ns(budget, took))
        });
    }
}

fn scratch() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    Ok(tempfile::Builder::new().prefix("coffer-bench-").tempdir_in(parent)?)
}

fn of(kind: Kind, len: usize, file_len: usize, cores: usize) -> Result<Budget> {
    let place = scratch()?;
    let (source, target, cache) =
        (place.path().join("source"), place.path().join("target"), place.path().join("cache"));
    fs::create_dir(&source)?;
    let bytes = grow_tree(&source, kind, 7, len, file_len)?;

    let frames = Frames::of(&bytes, kind)?;
    let chunk_len = file_len.min(3 << 19);
    let chunker = Chunker::new(ChunkerParams::default(), &[6; 16]);
    let mut works = vec![
        frames.copying(),
        frames.naming(chunk_len),
        frames.compressing()?,
        frames.sealing()?,
        frames.pack_naming(),
        frames.opening()?,
        frames.pack_naming(),
    ];
    let has_cuts = file_len > chunk_len;
    // Shorter files are one chunk, which nobody looks for cuts in.
    if has_cuts {
        works.push(Box::new(|| {
            black_box(cut_slice(&chunker, &bytes));
        }));
    }
    works.extend(frames.decompressing()?);
    let mut ms = medians(&mut works, ROUND_COUNT).into_iter().map(|seconds| seconds * 1e3);
    let mut next = || ms.next().unwrap_or_default();
    let [copying, naming, compressing, sealing, pack_naming, opening, stored] =
        std::array::from_fn(|_| next());
    let cutting = if has_cuts { next() } else { 0.0 };
    let decompressing = next();
    let (writing, reading) = (compressing + sealing + pack_naming, opening + decompressing);
    let bounds = [
        ("backup", copying + cutting + naming + writing + reading + naming),
        ("backup without extra verify", copying + cutting + naming + writing),
        ("restore", reading + naming + copying),
        ("verify, no key", stored),
        ("verify all data", stored + reading + naming),
    ];
    drop(works);
    drop(frames);

    let mut times = vec![Vec::new(); bounds.len() + 1];
    for round in 0..OPERATION_ROUND_COUNT {
        // Fingerprints of the round before would let the first backup take files as unchanged.
        let world = World::new(7, &cache.join(round.to_string()), cores)?;
        let (store, other) = (MemoryStore::new(), MemoryStore::new());
        world.init(&store)?;
        let mut timed = |at: usize, work: &mut dyn FnMut() -> Result<bool>| -> Result<()> {
            let begun = Instant::now();
            ensure!(work()?, "an operation did not do all that it should");
            times[at].push(begun.elapsed().as_secs_f64() * 1e3);
            Ok(())
        };
        timed(0, &mut || Ok(world.backup(&store, &source, true)?.error_count == 0))?;
        timed(5, &mut || Ok(world.backup(&store, &source, true)?.error_count == 0))?;
        timed(2, &mut || Ok(world.restore(&store, &target)?.error_count == 0))?;
        timed(3, &mut || Ok(world.verify(&store)?.is_clean()))?;
        timed(4, &mut || Ok(world.verify_deep(&store)?.is_clean()))?;
        fs::remove_dir_all(&target)?;
        let world = World::new(8, &cache.join(format!("{round}-other")), cores)?;
        world.init(&other)?;
        timed(1, &mut || Ok(world.backup(&other, &source, false)?.error_count == 0))?;
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let mib = len >> 20;
    let mut operations = Vec::new();
    for ((name, needs), times) in bounds.into_iter().zip(&mut times) {
        let (actual, bound) = (median(times), needs / cores as f64);
        operations.push((name, needs, actual * cores as f64));
        let title = format!("{}, {mib} MiB: {name}", kind.name());
        println!("{title:<52} {actual:>9.1} {bound:>12.1} {:>8.0} %", 100.0 * bound / actual);
    }
    let title = format!("{}, {mib} MiB: unchanged again", kind.name());
    println!("{title:<52} {:>9.1}", median(&mut times[operations.len()]));
    let stages =
        [copying, cutting, naming, compressing, sealing, pack_naming, opening, decompressing, stored];
    Ok(Budget { kind, stages, operations, len })
}
