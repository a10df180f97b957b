//! What a restore is asked for, what it tells on the way, and what it did.

use coffer_collect::{Identity, Patterns, TargetOptions};

/// What is restored, and how.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Only this path and what lies below it; empty for everything.
    pub within: Vec<u8>,
    /// If there are any, only what they match, and what lies below a directory that they match.
    pub include: Patterns,
    /// What they match, and what lies below it, is left out.
    pub exclude: Patterns,
    /// What becomes of entries that are there already.
    pub overwrite: Overwrite,
    /// Removes what the snapshot does not hold from directories that it holds whole.
    pub delete: bool,
    /// Directories that are not removed in any case, such as the vault's own, nor anything below them.
    pub keep: Vec<Identity>,
    /// Writes into files that are there instead of replacing them, where nobody else has a hold on them.
    pub in_place: bool,
    /// Only says what would be done.
    pub dry_run: bool,
    /// Reads back what was restored and compares it with the snapshot.
    pub verify: bool,
    /// How entries are written.
    pub target: TargetOptions,
    /// Threads that open frames and write.
    pub worker_count: usize,
    /// How many files and directories this process may have open.
    pub open_file_count_max: usize,
}

impl Default for RestoreOptions {
    /// Everything, over whatever is there.
    fn default() -> Self {
        Self {
            within: Vec::new(),
            include: Patterns::default(),
            exclude: Patterns::default(),
            overwrite: Overwrite::default(),
            delete: false,
            keep: Vec::new(),
            in_place: false,
            dry_run: false,
            verify: false,
            target: TargetOptions::default(),
            worker_count: 1,
            open_file_count_max: 1024,
        }
    }
}

/// What becomes of an entry, other than a directory, whose path is taken. Directories always get their metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It becomes what the snapshot holds. Content that is right already is found by comparing, and left.
    #[default]
    Always,
    /// As `Always`, but a file of the recorded size and time is taken to have the recorded content.
    IfChanged,
    /// As `Always` where the snapshot's is the newer one by its time; else what is there stays.
    IfNewer,
    /// What is there stays.
    Never,
}

/// What becomes of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreAction {
    /// Nothing is there, and the entry is made.
    Create,
    /// What is there becomes the entry.
    Update,
    /// What is there is the entry.
    Unchanged,
    /// What is there, or nothing, stays: by the policy, or because the entry is of a kind that was not asked for.
    Skip,
    /// What is there is not in the snapshot, and goes.
    Delete,
}

impl RestoreAction {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Unchanged => "unchanged",
            Self::Skip => "skip",
            Self::Delete => "delete",
        }
    }
}

/// What a restore did, or would do.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Entries that are now as in the snapshot.
    pub entry_count: u64,
    /// Files among them, hard links apart.
    pub file_count: u64,
    /// Length of these files.
    pub content_bytes: u64,
    /// Entries that were made.
    pub created_count: u64,
    /// Entries that something else, or something like them, gave way to.
    pub updated_count: u64,
    /// Entries that were there as they should be.
    pub unchanged_count: u64,
    /// Entries that were left out on purpose.
    pub skipped_count: u64,
    /// Entries of the target that were removed, all that lay below them counted.
    pub deleted_count: u64,
    /// Bytes read from packs for the content of files.
    pub fetched_bytes: u64,
    /// Bytes of content from the vault that were written to files.
    pub written_bytes: u64,
    /// Bytes of content that older files had already.
    pub reused_bytes: u64,
    /// Files that were read back and compared.
    pub verified_count: u64,
    /// Files of which what was read back is not what the snapshot holds. They are among the errors.
    pub mismatch_count: u64,
    /// Entries that could not be restored: path and message, at most 10,000.
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
    pub(super) fn add_error(&mut self, path: String, message: String) {
        self.error_count += 1;
        if self.errors.len() < ERROR_COUNT_MAX {
            self.errors.push((path, message));
        }
    }

    /// Counts an entry; `size` is its length if it is a file with content of its own.
    pub(super) fn add(&mut self, action: RestoreAction, size: Option<u64>) {
        let count = match action {
            RestoreAction::Create => &mut self.created_count,
            RestoreAction::Update => &mut self.updated_count,
            RestoreAction::Unchanged => &mut self.unchanged_count,
            RestoreAction::Skip => &mut self.skipped_count,
            RestoreAction::Delete => &mut self.deleted_count,
        };
        *count += 1;
        if matches!(action, RestoreAction::Skip | RestoreAction::Delete) {
            return;
        }
        self.entry_count += 1;
        if let Some(size) = size {
            self.file_count += 1;
            self.content_bytes += size;
        }
    }
}

/// Hears how a restore goes. Called from one thread.
pub trait RestoreObserver {
    /// An entry was planned; `size` is its length if it is a file.
    fn entry(&mut self, path: &[u8], size: u64);

    /// What becomes of a path was decided, or was done. Whether it succeeded is in the report.
    fn action(&mut self, path: &[u8], action: RestoreAction, size: u64) {
        let _ = (path, action, size);
    }

    /// So many bytes of content are in their place so far, written or found there.
    fn progress(&mut self, done_bytes: u64) {
        let _ = done_bytes;
    }
}
