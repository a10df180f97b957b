//! Restore: a snapshot, or a part of it, into a directory.
//!
//! One thread walks the tree and plans; workers open frames and write. The unit of work is a frame with all pieces of files that come
//! from it, so a frame is opened once for the small files in it. In a directory that was there before, a file gets its name after its
//! last byte; in one that this restore made, at once, and it goes again if it cannot be completed. What an older file has of the
//! content is not fetched again, and a restore that was stopped is continued by running it once more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use coffer_collect::{DirectoryTarget, Warning};
use coffer_format::path::{compare_paths, display_path};
use coffer_format::tree::TreeEntry;

use crate::error::EngineError;
use crate::parallel;
use crate::pool::{Budget, Pool};
use crate::read::{ChunkReader, Packs};
use crate::threads;
use crate::tree_reader::TreeReader;
use crate::vault::{Snapshot, Vault};

mod compare;
mod files;
mod jobs;
mod links;
mod plan;
mod ranges;
mod rehearse;
mod report;
mod surplus;
mod verify;
mod walk;
mod writing;

use links::make_links;
use plan::{Plan, Skipped, Writing};
use rehearse::Rehearsal;
pub use report::{Overwrite, RestoreAction, RestoreObserver, RestoreOptions, RestoreReport};
use surplus::Surplus;
use verify::ReadBack;
pub(crate) use walk::{Role, Visitor, walk};
use writing::{Shared, work};

/// Frames whose pieces are gathered at the same time.
const OPEN_FRAME_COUNT: usize = 8;

/// Threads that fetch from a store far away are at most this many, unless more were asked for.
const IO_COUNT_MAX: usize = 16;

/// Frames that were fetched from a store far away and are not written yet have at most this many bytes together.
const FETCHED_LEN_MAX: u64 = 64 << 20;

/// Frames that are opened and written at once, on a machine of more processors too.
const OPENER_COUNT_MAX: usize = 8;

/// Pieces of one job, however many files may be open: each takes some 700 bytes.
const PIECE_COUNT_MAX: usize = 2048;

/// Pieces that are looked for elsewhere at once; each may hold a directory open.
const UNREAD_COUNT_MAX: usize = 256;

/// Restores a snapshot into `target`, which is made if it is not there. With [`RestoreOptions::dry_run`], only says what would
/// be done, and changes nothing.
///
/// # Errors
/// [`EngineError::NoPath`] when the path is not in the snapshot; [`EngineError::Invalid`] when all of the file system
/// would be cleared of what is not in the snapshot; errors of single entries are in the report.
pub fn restore(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
    observer: &mut dyn RestoreObserver,
) -> Result<RestoreReport, EngineError> {
    let mut report = if options.dry_run {
        rehearse(vault, snapshot, target, options, observer)?
    } else {
        write(vault, snapshot, target, options, observer)?
    };
    if options.delete {
        let unplaced = Surplus::unplaced(snapshot).map(display_path);
        report.warnings.extend(unplaced.map(|source| {
            format!("source {source}: nothing was deleted below it, as it is not known where it is in the snapshot")
        }));
    }
    let nothing = report.entry_count + report.skipped_count + report.error_count == 0;
    if nothing && !(options.include.is_empty() && options.exclude.is_empty()) {
        report.warnings.push("the patterns leave nothing to restore".to_owned());
    }
    report.degraded |= snapshot.is_degraded;
    report.errors.sort();
    Ok(report)
}

fn rehearse<'a>(
    vault: &Vault<'a>,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
    observer: &mut dyn RestoreObserver,
) -> Result<RestoreReport, EngineError> {
    let target = DirectoryTarget::open_to_look(target, options.target.clone())?;
    if let Some(target) = &target {
        check_delete(target, options)?;
    }
    let mut rehearsal: Rehearsal<'_, 'a> = Rehearsal {
        vault,
        snapshot,
        chunks: ChunkReader::new(vault, &snapshot.state.body.domain)?,
        options,
        observer,
        target,
        surplus: Surplus::new(snapshot, options),
        report: RestoreReport::default(),
        buffer: Vec::new(),
    };
    walk(snapshot, options, &mut rehearsal)?;
    Ok(rehearsal.finish())
}

fn write<'a>(
    vault: &Vault<'a>,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
    observer: &mut dyn RestoreObserver,
) -> Result<RestoreReport, EngineError> {
    let domain = snapshot.state.body.domain;
    let shared = Shared {
        packs: Packs::new(vault, &domain)?,
        openers: Pool::new(options.worker_count.clamp(1, OPENER_COUNT_MAX)),
        budget: Budget::new(FETCHED_LEN_MAX),
        outcome: Mutex::new(RestoreReport::default()),
        unread: Mutex::new(Vec::new()),
        lost_paths: Mutex::new(HashSet::new()),
        fetched_bytes: AtomicU64::new(0),
        written_bytes: AtomicU64::new(0),
        reused_bytes: AtomicU64::new(0),
    };
    // Whoever waits for a store that is far away needs no processor.
    let io_count = parallel::in_flight(vault.access.store).min(IO_COUNT_MAX);
    let worker_count = options.worker_count.max(io_count);
    let (jobs, queue) = crossbeam_channel::bounded(2 * worker_count);
    let mut target = DirectoryTarget::open(target, options.target.clone())?;
    check_delete(&target, options)?;
    let plan = std::thread::scope(|scope| {
        for number in 0..worker_count {
            let (queue, shared) = (queue.clone(), &shared);
            match threads::start(scope, move || work(&queue, shared)) {
                Ok(()) => {}
                Err(source) if number == 0 => return Err(EngineError::NoThread { source }),
                // Where the system gives no more threads, those that there are do the work.
                Err(_) => break,
            }
        }
        drop(queue);
        let mut plan: Plan<'_, '_, 'a> = Plan {
            vault,
            snapshot,
            chunks: ChunkReader::new(vault, &domain)?,
            shared: &shared,
            jobs: Some(jobs),
            piece_count_max: piece_count_max(
                options.open_file_count_max,
                3 * worker_count + OPEN_FRAME_COUNT,
            ),
            options,
            observer,
            surplus: Surplus::new(snapshot, options),
            open: VecDeque::new(),
            links: Vec::new(),
            stand_ins: HashMap::new(),
            skipped: Skipped::default(),
            begun_count: 0,
            buffer: Vec::new(),
        };
        let mut writing = Writing { plan: &mut plan, target: &mut target };
        walk(snapshot, options, &mut writing)?;
        writing.finish();
        plan.jobs = None;
        Ok::<_, EngineError>(plan)
    })?;
    let Plan { mut chunks, links, observer, skipped, surplus, .. } = plan;
    shared.read_elsewhere(&mut chunks);
    make_links(&links, snapshot, &mut chunks, &shared, &mut target, &surplus, (options, observer));
    shared.note(|report| report.warnings.extend(surplus.into_warnings()));
    if options.verify {
        target.revisit()?;
        let mut read_back: ReadBack<'_, '_, '_, 'a> = ReadBack {
            vault,
            snapshot,
            options,
            chunks: &mut chunks,
            shared: &shared,
            target: &mut target,
            skipped: &skipped,
            buffer: Vec::new(),
        };
        walk(snapshot, options, &mut read_back)?;
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = (count(&shared.fetched_bytes), count(&shared.written_bytes), count(&shared.reused_bytes));
    let mut report = shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    (report.fetched_bytes, report.written_bytes, report.reused_bytes) = counts;
    report.warnings.extend(target.finish().iter().map(warning_text));
    report.degraded |= chunks.is_degraded();
    Ok(report)
}

/// Refuses to clear all of a machine's files but those of a snapshot.
fn check_delete(target: &DirectoryTarget, options: &RestoreOptions) -> Result<(), EngineError> {
    let filtered = !options.include.is_empty() || !options.exclude.is_empty() || !options.within.is_empty();
    if options.delete && !filtered && target.is_file_system_root() {
        let reason = "deleting what is not in the snapshot from / needs patterns, or a part of the snapshot";
        return Err(EngineError::invalid(reason));
    }
    Ok(())
}

/// The entry at `path`; `None` if the snapshot has none.
fn lookup(
    snapshot: &Snapshot,
    path: &[u8],
    chunks: &mut ChunkReader<'_>,
) -> Result<Option<TreeEntry>, EngineError> {
    let mut tree = TreeReader::within(&snapshot.manifest.root, path.to_vec());
    while let Some(leaf) = tree.next_leaf(chunks) {
        let leaf = leaf.map_err(|lost| lost.error)?;
        let found = leaf.entries.into_iter().find(|entry| compare_paths(&entry.path, path).is_ge());
        if let Some(entry) = found {
            return Ok(Some(entry).filter(|entry| entry.path == path));
        }
    }
    Ok(None)
}

/// How many pieces may wait in one job, so that the directories they hold open stay within the limit of open files, and they themselves
/// within some memory.
const fn piece_count_max(open_file_count_max: usize, job_count: usize) -> usize {
    const RESERVED: usize = 256;
    const LEAST: usize = 16;
    let count = open_file_count_max.saturating_sub(RESERVED) / job_count;
    if count < LEAST {
        LEAST
    } else if count > PIECE_COUNT_MAX {
        PIECE_COUNT_MAX
    } else {
        count
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn warning_text(warning: &Warning) -> String {
    match &warning.cause {
        Some(cause) => format!("{warning}: {cause}"),
        None => warning.to_string(),
    }
}

#[cfg(test)]
mod tests;
