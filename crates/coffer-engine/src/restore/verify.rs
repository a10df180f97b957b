//! Reading back what was restored.
//!
//! The tree is walked once more, and every file that this restore has written or found right is read along its chunks. What was left
//! alone by the policy, and what has failed already, is not looked at.

use coffer_collect::{DirectoryTarget, EntryPath};
use coffer_format::tree::{Kind, TreeEntry};

use super::compare::Comparison;
use super::plan::{Skipped, content_of};
use super::report::RestoreOptions;
use super::walk::{Role, Visitor};
use super::writing::Shared;
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{LostSubtree, holes};
use crate::vault::{Snapshot, Vault};

/// Compares the target with the snapshot.
pub(super) struct ReadBack<'r, 'p, 'v, 'a> {
    pub(super) vault: &'p Vault<'a>,
    pub(super) snapshot: &'p Snapshot,
    pub(super) options: &'p RestoreOptions,
    pub(super) chunks: &'r mut ChunkReader<'a>,
    pub(super) shared: &'p Shared<'v>,
    pub(super) target: &'r mut DirectoryTarget,
    pub(super) skipped: &'r Skipped,
    pub(super) buffer: Vec<u8>,
}

impl<'a> Visitor<'a> for ReadBack<'_, '_, '_, 'a> {
    fn chunks(&mut self) -> &mut ChunkReader<'a> {
        self.chunks
    }

    fn check(&mut self) -> Result<(), EngineError> {
        self.vault.access.check_interrupt()
    }

    fn entry(&mut self, entry: &TreeEntry, role: Role) {
        if role != Role::Chosen || entry.kind != Kind::File || self.skipped.contains(&entry.path) {
            return;
        }
        // A link was made to a file that is looked at under its own name.
        let is_linked =
            |first: &Vec<u8>| self.options.is_chosen(first, false) && !self.skipped.looks_wrong(first);
        let Ok(path) = EntryPath::new(entry.path.clone()) else { return };
        if entry.hard_link.as_ref().is_some_and(is_linked) || !self.shared.is_restored(&path) {
            return;
        }
        let compared = self.compare(entry, &path);
        if let Err(error) = &compared
            && is_denied(error)
        {
            let warning = format!("{path}: not verified, since this user may not read it");
            return self.shared.note(|report| report.warnings.push(warning));
        }
        let fault = match compared {
            Ok(true) => None,
            Ok(false) => Some("what was read back is not what the snapshot holds".to_owned()),
            Err(error) => Some(format!("it cannot be read back: {}", super::chain(&error))),
        };
        self.shared.note(|report| {
            report.verified_count += 1;
            if let Some(fault) = fault {
                report.mismatch_count += 1;
                report.add_error(path.to_string(), fault);
            }
        });
    }

    /// It was reported when it was met first, as is what is lost.
    fn refused(&mut self, _entry: &TreeEntry, _error: &EngineError) {}

    fn lost(&mut self, _subtree: &LostSubtree) {}
}

impl ReadBack<'_, '_, '_, '_> {
    fn compare(&mut self, entry: &TreeEntry, path: &EntryPath) -> Result<bool, EngineError> {
        let own = content_of(entry, self.snapshot, self.chunks)?;
        let Some(existing) = self.target.look(path)? else { return Ok(false) };
        let old = existing.open()?;
        let holes = holes(&own, self.chunks)?;
        let mut comparison = Comparison::new(&own, &holes);
        let keys = self.shared.packs.domain();
        while let Some(stretch) = comparison.next(self.chunks, &old, keys, &mut self.buffer)? {
            self.vault.access.check_interrupt()?;
            if !stretch.is_same {
                return Ok(false);
            }
        }
        Ok(old.existing().size() == own.size)
    }
}

/// Whether the system does not let this user read what was restored, which says nothing of what is in it.
fn is_denied(error: &EngineError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::PermissionDenied;
        }
        cause = current.source();
    }
    false
}
