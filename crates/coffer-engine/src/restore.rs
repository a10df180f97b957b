//! Restore: a snapshot, or a part of it, into a directory.
//!
//! One thread walks the tree and plans; workers open frames and write. The unit of work is a frame with all pieces of files that come
//! from it, so a frame is opened once for the small files in it. In a directory that was there before, a file gets its name after its
//! last byte; in one that this restore made, at once, and it goes again if it cannot be completed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use coffer_collect::{DirectoryTarget, EntryPath, TargetOptions, Warning};
use coffer_format::path::compare_paths;
use coffer_format::tree::{Kind, TreeEntry};

use crate::error::EngineError;
use crate::read::{ChunkReader, Packs};
use crate::tree_reader::TreeReader;
use crate::vault::{Snapshot, Vault};

mod plan;
mod writing;

use plan::{Link, Plan};
use writing::{Shared, work};

/// Frames whose pieces are gathered at the same time.
const OPEN_FRAME_COUNT: usize = 8;

/// Pieces that are looked for elsewhere at once; each may hold a directory open.
const UNREAD_COUNT_MAX: usize = 256;

/// What is restored, and how.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Only this path and what lies below it; empty for everything.
    pub within: Vec<u8>,
    /// How entries are written.
    pub target: TargetOptions,
    /// Threads that open frames and write.
    pub worker_count: usize,
    /// How many files and directories this process may have open.
    pub open_file_count_max: usize,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Entries written.
    pub entry_count: u64,
    /// Files among them.
    pub file_count: u64,
    /// Bytes of content written.
    pub content_bytes: u64,
    /// Entries that could not be written: path and message, at most 10,000.
    pub errors: Vec<(String, String)>,
    /// Number of such entries.
    pub error_count: u64,
    /// Metadata that could not be applied, and entries skipped on purpose.
    pub warnings: Vec<String>,
    /// Whether damage was met on the way, even if all was restored.
    pub degraded: bool,
}

/// Errors that are listed one by one; the rest is counted.
const ERROR_COUNT_MAX: usize = 10_000;

impl RestoreReport {
    fn add_error(&mut self, path: String, message: String) {
        self.error_count += 1;
        if self.errors.len() < ERROR_COUNT_MAX {
            self.errors.push((path, message));
        }
    }
}

/// Hears how a restore goes. Called from one thread.
pub trait RestoreObserver {
    /// An entry was planned; `size` is its length if it is a file.
    fn entry(&mut self, path: &[u8], size: u64);
}

/// Restores a snapshot into `target`, which is made if it is not there. Files that are there are replaced.
///
/// # Errors
/// [`EngineError::NoPath`] when the path is not in the snapshot; errors of single entries are in the report.
pub fn restore(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
    observer: &mut dyn RestoreObserver,
) -> Result<RestoreReport, EngineError> {
    let domain = snapshot.state.body.domain;
    let shared = Shared {
        packs: Packs::new(vault, &domain)?,
        outcome: Mutex::new(RestoreReport::default()),
        unread: Mutex::new(Vec::new()),
        lost_paths: Mutex::new(HashSet::new()),
    };
    let worker_count = options.worker_count.max(1);
    let (jobs, queue) = crossbeam_channel::bounded(2 * worker_count);
    let mut target = DirectoryTarget::open(target, options.target.clone())?;
    let plan = std::thread::scope(|scope| {
        for _ in 0..worker_count {
            let (queue, shared) = (queue.clone(), &shared);
            scope.spawn(move || work(&queue, shared));
        }
        drop(queue);
        let mut plan = Plan {
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
            open: VecDeque::new(),
            links: Vec::new(),
            stand_ins: HashMap::new(),
            found: false,
        };
        plan.run(&mut target)?;
        plan.jobs = None;
        Ok::<_, EngineError>(plan)
    })?;
    let Plan { mut chunks, links, .. } = plan;
    shared.read_elsewhere(&mut chunks);
    for Link { path, first, is_stand_in } in links {
        // Only what this restore has written is linked to, never what stood there before.
        let made = shared.is_restored(&first) && (is_stand_in || has_content(snapshot, &first, &mut chunks));
        let linked = if made {
            target.hard_link(&path, &first).map_err(EngineError::from)
        } else {
            Err(EngineError::invalid(format!("{first}, which it is a hard link to, was not restored")))
        };
        match linked {
            Ok(()) => shared.note(|report| report.entry_count += 1),
            Err(error) => shared.failed(&path, &error, false),
        }
    }
    let mut report = shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.warnings.extend(target.finish().iter().map(warning_text));
    report.degraded |= chunks.is_degraded() || snapshot.is_degraded;
    report.errors.sort();
    Ok(report)
}

/// Whether the snapshot has an entry at `path` that hard links can lead to.
fn has_content(snapshot: &Snapshot, path: &EntryPath, chunks: &mut ChunkReader<'_>) -> bool {
    lookup(snapshot, path.as_bytes(), chunks).is_ok_and(|entry| {
        entry.is_some_and(|entry| entry.kind != Kind::Directory && entry.hard_link.is_none())
    })
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

/// How many pieces may wait in one job, so that the directories they hold open stay within the limit of open files.
const fn piece_count_max(open_file_count_max: usize, job_count: usize) -> usize {
    const RESERVED: usize = 256;
    const LEAST: usize = 16;
    let count = open_file_count_max.saturating_sub(RESERVED) / job_count;
    if count < LEAST { LEAST } else { count }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
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
