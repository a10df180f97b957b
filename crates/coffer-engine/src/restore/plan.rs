//! The plan: the tree walked in path order, what becomes of each entry, and for files the pieces that make them.
//!
//! In a directory that this restore made, nothing is looked at before it is written.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError};

use coffer_collect::{
    CollectError, DirectoryTarget, EntryKind, EntryPath, Existing, SpecialOutcome, Warning,
};
use coffer_format::id::PackId;
use coffer_format::tree::{Kind, TreeEntry};
use crossbeam_channel::Sender;

use super::jobs::Job;
use super::links::Link;
use super::report::{Overwrite, RestoreAction, RestoreObserver, RestoreOptions, RestoreReport};
use super::surplus::Surplus;
use super::walk::{Role, Visitor};
use super::writing::{Piece, Shared};
use super::{OPEN_FRAME_COUNT, UNREAD_COUNT_MAX, chain, lookup, warning_text};
use crate::content::metadata;
use crate::error::{EngineError, is_archived};
use crate::read::ChunkReader;
use crate::tree_reader::{LostSubtree, path_text};
use crate::vault::{Snapshot, Vault};

/// The plan of one restore, and what it has gathered so far.
pub(super) struct Plan<'p, 'v, 'a> {
    pub(super) vault: &'p Vault<'a>,
    pub(super) snapshot: &'p Snapshot,
    pub(super) chunks: ChunkReader<'a>,
    pub(super) shared: &'p Shared<'v>,
    pub(super) jobs: Option<Sender<Job>>,
    pub(super) piece_count_max: usize,
    pub(super) options: &'p RestoreOptions,
    pub(super) observer: &'p mut dyn RestoreObserver,
    pub(super) surplus: Surplus<'p>,
    /// The frames whose pieces are being gathered, the one used last at the end.
    pub(super) open: VecDeque<Gathered>,
    /// Hard links, made when all files are there.
    pub(super) links: Vec<Link>,
    /// First paths that are not restored, and the path that was restored in their place.
    pub(super) stand_ins: HashMap<Vec<u8>, EntryPath>,
    pub(super) skipped: Skipped,
    /// Files that were begun by the plan itself since all pieces were last handed out.
    pub(super) begun_count: usize,
    /// What is compared.
    pub(super) buffer: Vec<u8>,
}

/// Pieces of one frame that are being gathered.
pub(super) struct Gathered {
    frame: (PackId, u16),
    job: Job,
}

/// Which entries were left as they were: 8 bytes for each.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    state: RandomState,
    /// Whether what stands there has the size and time of the entry.
    paths: HashMap<u64, bool>,
}

impl Skipped {
    pub(super) fn insert(&mut self, path: &[u8], looks_right: bool) {
        self.paths.insert(self.state.hash_one(path), looks_right);
    }

    pub(super) fn contains(&self, path: &[u8]) -> bool {
        !self.paths.is_empty() && self.paths.contains_key(&self.state.hash_one(path))
    }

    /// Whether it was left, and what stands there is not what the snapshot holds by its size or time.
    pub(super) fn looks_wrong(&self, path: &[u8]) -> bool {
        !self.paths.is_empty() && self.paths.get(&self.state.hash_one(path)) == Some(&false)
    }
}

/// A plan, and where it writes.
pub(super) struct Writing<'t, 'p, 'v, 'a> {
    pub(super) plan: &'t mut Plan<'p, 'v, 'a>,
    pub(super) target: &'t mut DirectoryTarget,
}

impl<'a> Visitor<'a> for Writing<'_, '_, '_, 'a> {
    fn chunks(&mut self) -> &mut ChunkReader<'a> {
        &mut self.plan.chunks
    }

    fn check(&mut self) -> Result<(), EngineError> {
        let plan = &mut *self.plan;
        plan.vault.access.check_interrupt()?;
        if plan.shared.unread_count() >= UNREAD_COUNT_MAX {
            plan.shared.read_elsewhere(&mut plan.chunks);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &TreeEntry, role: Role) {
        let plan = &mut *self.plan;
        if role != Role::Passed {
            plan.write_entry(entry, self.target);
        }
        if role != Role::Above && plan.options.delete {
            let (shared, observer) = (plan.shared, &mut *plan.observer);
            plan.surplus.pass(entry, self.target, &mut |path, outcome| {
                removed(shared, observer, path, outcome);
            });
        }
    }

    fn refused(&mut self, entry: &TreeEntry, error: &EngineError) {
        self.plan.shared.failed_entry(entry, error);
    }

    fn lost(&mut self, subtree: &LostSubtree) {
        self.plan.surplus.lost();
        self.plan.shared.note(|report| report.add_lost(subtree));
    }
}

impl Writing<'_, '_, '_, '_> {
    /// The end of the snapshot: what remains to be removed goes, and the last pieces are handed out.
    pub(super) fn finish(self) {
        let plan = self.plan;
        let (shared, observer) = (plan.shared, &mut *plan.observer);
        plan.surplus.finish(self.target, &mut |path, outcome| removed(shared, observer, path, outcome));
        plan.flush();
    }
}

/// Empties and removes a directory that stands where something else belongs, if that was asked for.
pub(super) fn clear(
    surplus: &Surplus<'_>,
    path: &EntryPath,
    target: &mut DirectoryTarget,
    shared: &Shared<'_>,
    observer: &mut dyn RestoreObserver,
) {
    surplus.clear(path, target, &mut |path, outcome| removed(shared, observer, path, outcome));
}

fn removed(
    shared: &Shared<'_>,
    observer: &mut dyn RestoreObserver,
    path: &EntryPath,
    outcome: Result<(), CollectError>,
) {
    shared.note(|report| report.add_removed(path, outcome, observer));
}

impl RestoreReport {
    pub(super) fn add_removed(
        &mut self,
        path: &EntryPath,
        outcome: Result<(), CollectError>,
        observer: &mut dyn RestoreObserver,
    ) {
        match outcome {
            Ok(()) => {
                self.add(RestoreAction::Delete, None);
                observer.action(path.as_bytes(), RestoreAction::Delete, 0);
            }
            Err(error) => self.add_error(path.to_string(), chain(&error)),
        }
    }

    pub(super) fn add_lost(&mut self, subtree: &LostSubtree) {
        self.add_error(format!("entries up to {}", path_text(&subtree.last_path)), chain(&subtree.error));
        self.degraded |= !is_archived(&subtree.error);
    }
}

impl RestoreOptions {
    /// Whether what is there stays, whatever the snapshot holds.
    pub(super) fn leaves(&self, existing: &Existing, entry: &TreeEntry) -> bool {
        match self.overwrite {
            Overwrite::Always | Overwrite::IfChanged => false,
            Overwrite::IfNewer => entry.mtime_ns <= existing.mtime_ns(),
            Overwrite::Never => true,
        }
    }
}

impl Plan<'_, '_, '_> {
    fn write_entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) {
        self.observer.entry(&entry.path, entry.size);
        self.observer.progress(self.shared.done_bytes());
        match self.place_entry(entry, target) {
            Ok(Some(action)) => self.observer.action(&entry.path, action, entry.size),
            // A link, which is made in the end.
            Ok(None) => {}
            Err(error) => self.shared.failed_entry(entry, &error),
        }
    }

    fn place_entry(
        &mut self,
        entry: &TreeEntry,
        target: &mut DirectoryTarget,
    ) -> Result<Option<RestoreAction>, EngineError> {
        let path = EntryPath::new(entry.path.clone())?;
        let Some(first) = &entry.hard_link else { return self.place_own(entry, path, target).map(Some) };
        if self.options.is_chosen(first, false) && !self.skipped.looks_wrong(first) {
            self.links.push(Link {
                path,
                first: EntryPath::new(first.clone())?,
                mtime_ns: entry.mtime_ns,
                is_stand_in: false,
            });
            return Ok(None);
        }
        if let Some(stand_in) = self.stand_ins.get(first) {
            let (first, mtime_ns) = (stand_in.clone(), entry.mtime_ns);
            self.links.push(Link { path, first, mtime_ns, is_stand_in: true });
            return Ok(None);
        }
        let own = content_of(entry, self.snapshot, &mut self.chunks)?;
        let action = self.place_own(&own, path.clone(), target)?;
        self.stand_ins.insert(first.clone(), path);
        Ok(Some(action))
    }

    /// An entry that is no hard link to another one.
    fn place_own(
        &mut self,
        entry: &TreeEntry,
        path: EntryPath,
        target: &mut DirectoryTarget,
    ) -> Result<RestoreAction, EngineError> {
        let kind = entry_kind(entry.kind)?;
        let existing = target.look(&path)?;
        let found = existing.as_ref();
        let stays = found.is_some_and(|found| {
            let both_directories = kind == EntryKind::Directory && found.kind() == Some(EntryKind::Directory);
            !both_directories && self.options.leaves(found, entry)
        });
        if stays {
            let looks_right = found.is_some_and(|found| looks_like(found, kind, entry));
            self.skipped.insert(&entry.path, looks_right);
            self.shared.note(|report| report.add(RestoreAction::Skip, None));
            return Ok(RestoreAction::Skip);
        }
        let metadata = metadata(entry, &mut self.chunks)?;
        if kind == EntryKind::File {
            return self.file(entry, &path, metadata, existing, target);
        }
        let action = match found {
            None => RestoreAction::Create,
            Some(found) if found.is_as_recorded(kind, &metadata) => RestoreAction::Unchanged,
            Some(_) => RestoreAction::Update,
        };
        if kind == EntryKind::Directory {
            target.directory(&path, &metadata)?;
            return Ok(self.placed(action, &[]));
        }
        if action == RestoreAction::Unchanged {
            return Ok(self.placed(action, &[]));
        }
        let in_the_way = found.is_some_and(|found| found.kind() == Some(EntryKind::Directory));
        // What stands where a device belongs stays if the device cannot be made, and only trying shows that.
        if in_the_way && !kind.is_device() {
            self.clear(&path, target);
        }
        if kind == EntryKind::Symlink {
            let warnings = target.symlink(&path, &metadata)?;
            return Ok(self.placed(action, &warnings));
        }
        let mut made = target.special(&path, kind, &metadata);
        if in_the_way && matches!(made, Err(CollectError::DirectoryInTheWay { .. })) {
            self.clear(&path, target);
            made = target.special(&path, kind, &metadata);
        }
        match made? {
            SpecialOutcome::Created(warnings) => Ok(self.placed(action, &warnings)),
            SpecialOutcome::Skipped(reason) => {
                // Nothing is linked to what may stand there.
                self.shared.lost_paths.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
                self.shared.note(|report| {
                    report.add(RestoreAction::Skip, None);
                    report.warnings.push(format!("{path}: skipped: {reason}"));
                });
                Ok(RestoreAction::Skip)
            }
            _ => Ok(RestoreAction::Skip),
        }
    }

    fn placed(&self, action: RestoreAction, warnings: &[Warning]) -> RestoreAction {
        self.shared.note(|report| {
            report.add(action, None);
            report.warnings.extend(warnings.iter().map(warning_text));
        });
        action
    }

    /// With [`RestoreOptions::delete`], a directory that stands where something else belongs goes with what is in it.
    pub(super) fn clear(&mut self, path: &EntryPath, target: &mut DirectoryTarget) {
        clear(&self.surplus, path, target, self.shared, &mut *self.observer);
    }

    /// Puts a piece with the others of its frame. A few frames are gathered at once: files that were changed lie in newer
    /// packs than their neighbours.
    pub(super) fn add(&mut self, piece: Piece) {
        let frame = piece.place.frame_id();
        let position = self.open.iter().position(|gathered| gathered.frame == frame);
        let known = position.and_then(|position| self.open.remove(position));
        let mut gathered = known.unwrap_or_else(|| Gathered { frame, job: Job::default() });
        gathered.job.pieces.push(piece);
        if gathered.job.pieces.len() >= self.piece_count_max {
            // More of the frame is likely to follow.
            let fetched = Arc::clone(gathered.job.fetched.get_or_insert_default());
            let pieces = std::mem::take(&mut gathered.job.pieces);
            self.submit(Job { pieces, fetched: Some(fetched) });
        }
        self.open.push_back(gathered);
        if self.open.len() > OPEN_FRAME_COUNT
            && let Some(oldest) = self.open.pop_front()
        {
            self.submit(oldest.job);
        }
    }

    fn submit(&mut self, job: Job) {
        if job.pieces.is_empty() {
            return;
        }
        self.observer.progress(self.shared.done_bytes());
        if let Some(jobs) = &self.jobs {
            // Workers end only when this sender is dropped.
            drop(jobs.send(job));
        }
    }

    pub(super) fn flush(&mut self) {
        while let Some(gathered) = self.open.pop_front() {
            self.submit(gathered.job);
        }
    }
}

/// The entry that a hard link stands for, under the link's own path.
pub(super) fn content_of(
    entry: &TreeEntry,
    snapshot: &Snapshot,
    chunks: &mut ChunkReader<'_>,
) -> Result<TreeEntry, EngineError> {
    let Some(first) = &entry.hard_link else { return Ok(entry.clone()) };
    let found = lookup(snapshot, first, chunks)?.filter(|found| found.hard_link.is_none());
    let Some(mut own) = found else { return Err(EngineError::NoPath { path: path_text(first) }) };
    own.path.clone_from(&entry.path);
    Ok(own)
}

/// Whether what is there has the kind, the length and the time of an entry.
pub(super) fn looks_like(existing: &Existing, kind: EntryKind, entry: &TreeEntry) -> bool {
    let same_length = kind != EntryKind::File || existing.size() == entry.size;
    existing.kind() == Some(kind) && same_length && existing.mtime_ns() == entry.mtime_ns
}

pub(super) fn entry_kind(kind: Kind) -> Result<EntryKind, EngineError> {
    Ok(match kind {
        Kind::File => EntryKind::File,
        Kind::Directory => EntryKind::Directory,
        Kind::Symlink => EntryKind::Symlink,
        Kind::Fifo => EntryKind::Fifo,
        Kind::Socket => EntryKind::Socket,
        Kind::CharDevice => EntryKind::CharDevice,
        Kind::BlockDevice => EntryKind::BlockDevice,
        Kind::Resource => {
            return Err(EngineError::invalid("a service resource is not restored into a directory"));
        }
    })
}
