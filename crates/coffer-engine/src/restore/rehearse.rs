//! What a restore would do, found out without changing anything.

use coffer_collect::{DirectoryTarget, EntryKind, EntryPath, OldFile, SkipReason};
use coffer_format::tree::TreeEntry;

use super::chain;
use super::compare::{Comparison, Part};
use super::links::{Link, link_action};
use super::plan::{content_of, entry_kind};
use super::report::{Overwrite, RestoreAction, RestoreObserver, RestoreOptions, RestoreReport};
use super::surplus::Surplus;
use super::walk::{Role, Visitor};
use crate::content::metadata;
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{LostSubtree, holes, path_text};
use crate::vault::{Snapshot, Vault};

/// A restore that is only thought through.
pub(super) struct Rehearsal<'p, 'a> {
    pub(super) vault: &'p Vault<'a>,
    pub(super) snapshot: &'p Snapshot,
    pub(super) chunks: ChunkReader<'a>,
    pub(super) options: &'p RestoreOptions,
    pub(super) observer: &'p mut dyn RestoreObserver,
    /// `None` if the directory is not there.
    pub(super) target: Option<DirectoryTarget>,
    pub(super) surplus: Surplus<'p>,
    pub(super) report: RestoreReport,
    pub(super) buffer: Vec<u8>,
}

impl<'a> Visitor<'a> for Rehearsal<'_, 'a> {
    fn chunks(&mut self) -> &mut ChunkReader<'a> {
        &mut self.chunks
    }

    fn check(&mut self) -> Result<(), EngineError> {
        self.vault.access.check_interrupt()
    }

    fn entry(&mut self, entry: &TreeEntry, role: Role) {
        if role != Role::Passed {
            self.observer.entry(&entry.path, entry.size);
            match self.act(entry) {
                Ok((action, size)) => {
                    self.report.add(action, size);
                    self.observer.action(&entry.path, action, entry.size);
                }
                Err(error) => self.report.add_error(path_text(&entry.path), chain(&error)),
            }
        }
        if role != Role::Above
            && let Some(target) = &mut self.target
        {
            let (report, observer) = (&mut self.report, &mut *self.observer);
            self.surplus
                .pass(entry, target, &mut |path, outcome| report.add_removed(path, outcome, observer));
        }
    }

    fn refused(&mut self, entry: &TreeEntry, error: &EngineError) {
        self.report.add_error(path_text(&entry.path), chain(error));
    }

    fn lost(&mut self, subtree: &LostSubtree) {
        self.surplus.lost();
        self.report.add_lost(subtree);
    }
}

impl Rehearsal<'_, '_> {
    pub(super) fn finish(mut self) -> RestoreReport {
        if let Some(target) = &mut self.target {
            let (report, observer) = (&mut self.report, &mut *self.observer);
            self.surplus.finish(target, &mut |path, outcome| report.add_removed(path, outcome, observer));
        }
        self.report.degraded |= self.chunks.is_degraded();
        self.report.warnings.extend(self.surplus.into_warnings());
        self.report
    }

    /// What would become of an entry, and its length if it is a file with content of its own.
    fn act(&mut self, entry: &TreeEntry) -> Result<(RestoreAction, Option<u64>), EngineError> {
        let path = EntryPath::new(entry.path.clone())?;
        if let Some(first) = &entry.hard_link
            && self.options.is_chosen(first, false)
        {
            let first = EntryPath::new(first.clone())?;
            let link = Link { path, first, mtime_ns: entry.mtime_ns, is_stand_in: false };
            let Some(target) = &mut self.target else { return Ok((RestoreAction::Create, None)) };
            let (action, is_directory) = link_action(&link, self.options, target)?;
            if is_directory && action == RestoreAction::Update {
                self.clear(&link.path);
            }
            return Ok((action, None));
        }
        let own;
        let entry = if entry.hard_link.is_some() {
            own = content_of(entry, self.snapshot, &mut self.chunks)?;
            &own
        } else {
            entry
        };
        let kind = entry_kind(entry.kind)?;
        let size = (kind == EntryKind::File).then_some(entry.size);
        let existing = match &mut self.target {
            Some(target) => target.look(&path)?,
            None => None,
        };
        let is_not_asked = kind.is_device() && !self.options.target.devices;
        let not_asked = format!("{path}: skipped: {}", SkipReason::DevicesNotAsked);
        let Some(existing) = existing else {
            if is_not_asked {
                self.report.warnings.push(not_asked);
                return Ok((RestoreAction::Skip, None));
            }
            self.report.written_bytes += data_len(entry, size, &mut self.chunks)?;
            return Ok((RestoreAction::Create, size));
        };
        let both_directories = kind == EntryKind::Directory && existing.kind() == Some(kind);
        if !both_directories && self.options.leaves(&existing, entry) {
            return Ok((RestoreAction::Skip, None));
        }
        let metadata = metadata(entry, &mut self.chunks)?;
        let settled = existing.is_as_recorded(kind, &metadata);
        if is_not_asked && !settled {
            self.report.warnings.push(not_asked);
            return Ok((RestoreAction::Skip, None));
        }
        if kind != EntryKind::File {
            if !settled && existing.kind() == Some(EntryKind::Directory) && !both_directories {
                self.clear(&path);
            }
            return Ok((if settled { RestoreAction::Unchanged } else { RestoreAction::Update }, None));
        }
        if existing.kind() == Some(EntryKind::Directory) {
            self.clear(&path);
        }
        let same_stat = existing.size() == entry.size && existing.mtime_ns() == entry.mtime_ns;
        let trusted = self.options.overwrite == Overwrite::IfChanged && same_stat;
        let same_content = if trusted {
            self.report.reused_bytes += entry.size;
            true
        } else {
            match existing.open() {
                Ok(old) => self.compare(entry, &old)?,
                Err(_) => {
                    self.report.written_bytes += data_len(entry, size, &mut self.chunks)?;
                    false
                }
            }
        };
        Ok((if same_content && settled { RestoreAction::Unchanged } else { RestoreAction::Update }, size))
    }

    /// Counts what an older file has and what it lacks, and says whether it lacks nothing.
    fn compare(&mut self, entry: &TreeEntry, old: &OldFile) -> Result<bool, EngineError> {
        let holes = holes(entry, &mut self.chunks)?;
        let mut comparison = Comparison::new(entry, &holes);
        let mut same = old.existing().size() == entry.size;
        let keys = self.vault.domain_keys(&self.snapshot.state.body.domain)?;
        while let Some(stretch) = comparison.next(&mut self.chunks, old, &keys, &mut self.buffer)? {
            self.vault.access.check_interrupt()?;
            same &= stretch.is_same;
            let len = match &stretch.part {
                Part::Hole(hole) => hole.len,
                part => part.ranges().iter().map(|(_, len)| len).sum(),
            };
            match (stretch.is_same, &stretch.part) {
                (true, _) => self.report.reused_bytes += len,
                (false, Part::Hole(_)) => {}
                (false, _) => self.report.written_bytes += len,
            }
        }
        Ok(same)
    }

    fn clear(&mut self, path: &EntryPath) {
        if self.options.delete
            && let Some(target) = &mut self.target
        {
            let (report, observer) = (&mut self.report, &mut *self.observer);
            self.surplus
                .clear(path, target, &mut |path, outcome| report.add_removed(path, outcome, observer));
        }
    }
}

/// How much of a file is data.
fn data_len(entry: &TreeEntry, size: Option<u64>, chunks: &mut ChunkReader<'_>) -> Result<u64, EngineError> {
    let Some(size) = size else { return Ok(0) };
    let holes = holes(entry, chunks)?;
    Ok(size.saturating_sub(holes.iter().map(|hole| hole.len).sum()))
}
