//! What a backup did, and who hears of it meanwhile.

use coffer_format::id::{Head, SnapshotId};
use coffer_format::manifest::Manifest;

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The snapshot that holds what was backed up. The backup is acknowledged.
    pub snapshot: SnapshotId,
    /// The head of the log after it.
    pub head: Head,
    /// Whether the snapshot is new. It is not if everything was as in the parent, and that was to make no snapshot.
    pub is_new: bool,
    /// The manifest: of the new snapshot or, if there is none, what it would have been.
    pub manifest: Manifest,
    /// Progress records committed on the way.
    pub progress_count: u64,
    /// Files that kept changing while they were read.
    pub changed_count: u64,
    /// What was left out on purpose: entries, and directories of which the content was left out.
    pub excluded_count: u64,
    /// What could not be taken: path and message. The first of them.
    pub errors: Vec<(Vec<u8>, String)>,
    /// Number of such errors.
    pub error_count: u64,
    /// Directories that were skipped because they hold the vault.
    pub skipped: Vec<Vec<u8>>,
    /// What went wrong beside it, in the local memory.
    pub warnings: Vec<String>,
}

/// What a backup would do. The fields are those of [`BackupReport`].
#[derive(Debug, Clone)]
pub struct DryRunReport {
    /// What the manifest would be. How many bytes packs would have it does not say: that is known of a sample alone.
    pub manifest: Manifest,
    /// Bytes that packs would have, padding aside, by a sample of what is new: see [`estimate_backup`](crate::estimate_backup).
    pub packed_bytes: u64,
    /// Files that kept changing while they were read.
    pub changed_count: u64,
    /// What would be left out on purpose.
    pub excluded_count: u64,
    /// What could not be taken.
    pub errors: Vec<(Vec<u8>, String)>,
    /// Number of such errors.
    pub error_count: u64,
    /// Directories that were skipped because they hold the vault.
    pub skipped: Vec<Vec<u8>>,
}

/// What an entry is beside the snapshot that a backup compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryChange {
    /// That one has no entry of this path, or there is none.
    New,
    /// It has another one.
    Modified,
    /// It has the same.
    Unchanged,
}

impl EntryChange {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Modified => "modified",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Hears how a backup goes. Called from one thread.
pub trait BackupObserver {
    /// There is a snapshot to compare with, which held so many bytes of content: about as many are to be expected.
    fn expected(&mut self, _content_bytes: u64) {}
    /// Every file is read, though there were backups before: this machine does not remember what it would need. `reason` says why.
    fn reads_all(&mut self, _reason: &'static str) {}
    /// An entry was taken; `size` is its length if it is a file.
    fn entry(&mut self, path: &[u8], size: u64, change: EntryChange);
    /// Something could not be taken.
    fn error(&mut self, path: &[u8], message: &str);
}
