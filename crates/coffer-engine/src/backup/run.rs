//! What one run counts and collects on its way.

use std::collections::HashMap;

use coffer_collect::{EntryKind, Found, Identity};
use coffer_crypto::hash::hash;
use coffer_format::limits::{MANIFEST_ERROR_COUNT_MAX, PATH_LEN_MAX};
use coffer_format::manifest::{Manifest, Statistics};
use coffer_format::tree::{Kind, TreeEntry, TreeRoot};

use super::memory::Memory;
use super::options::{BackupOptions, Origin};
use super::report::{BackupObserver, EntryChange};
use super::uploads::Uploaded;
use crate::cache::RecordedFingerprints;
use crate::vault::Snapshot;

/// Everything that is counted and collected on the way.
pub(super) struct Run<'o> {
    pub(super) observer: &'o mut dyn BackupObserver,
    pub(super) start_ns: i64,
    pub(super) statistics: Statistics,
    pub(super) errors: Vec<(Vec<u8>, String)>,
    pub(super) error_count: u64,
    errors_len: usize,
    pub(super) changed_count: u64,
    pub(super) excluded_count: u64,
    pub(super) skipped: Vec<Vec<u8>>,
    /// What is remembered of the entries, in their order; `None` where nothing is.
    pub(super) fingerprints: Option<RecordedFingerprints>,
    /// What a writer remembers in their place.
    pub(super) memory: Option<Memory>,
    /// Groups of hard links that are not complete yet.
    links: HashMap<Identity, LinkGroup>,
    pub(super) rule: Fingerprints,
}

/// How the stat fields of an entry are made into a fingerprint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprints {
    /// When the backup began.
    pub(super) start_ns: i64,
    pub(super) ignore_inode: bool,
    pub(super) ignore_ctime: bool,
}

/// Entries that are one file.
#[derive(Clone)]
pub(super) struct LinkGroup {
    /// The path that carries the content.
    pub(super) first: Vec<u8>,
    /// Its size.
    pub(super) size: u64,
    /// What the walk found of it.
    state: LinkState,
    /// Members still to come.
    left: u64,
}

/// What all members of a group have in common besides their inode. The time of its last change is not among it: that is another one as
/// soon as one of the names goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LinkState {
    kind: EntryKind,
    size: u64,
    mtime_ns: i64,
}

/// A file whose inode changed this shortly before the backup began, or later, may change again without its stat fields showing it.
const FINGERPRINT_MARGIN_NS: i64 = 2_000_000_000;
/// A message in a manifest is cut to this length.
const MESSAGE_LEN_MAX: usize = 4096;
/// Errors in a manifest together are at most this long, so that the manifest fits a record.
const ERRORS_LEN_MAX: usize = 512 << 10;
/// The fingerprint that equals none.
pub(super) const NO_FINGERPRINT: u64 = 0;

impl Fingerprints {
    /// Whether size and modification time alone decide that a file is unchanged.
    pub(super) const fn by_size_and_time(&self) -> bool {
        self.ignore_inode && self.ignore_ctime
    }

    /// What those stat fields of an entry that are to be compared amount to; never equal for an entry that may still be changing. Two
    /// runs that compare different fields have nothing in common.
    pub(super) fn of(&self, found: &Found) -> u64 {
        let mut fields = *found.fingerprint();
        let changed_ns = if self.ignore_ctime { fields.mtime_ns } else { fields.ctime_ns };
        if changed_ns >= self.start_ns.saturating_sub(FINGERPRINT_MARGIN_NS) {
            return NO_FINGERPRINT;
        }
        if self.ignore_inode {
            fields.identity = Identity { dev: 0, ino: 0 };
        }
        if self.ignore_ctime {
            fields.ctime_ns = 0;
        }
        let digest = hash(&fields.to_bytes());
        let value = digest.iter().take(8).fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        value.max(NO_FINGERPRINT + 1)
    }
}

impl<'o> Run<'o> {
    pub(super) fn new(start_ns: i64, options: &BackupOptions, observer: &'o mut dyn BackupObserver) -> Self {
        Self {
            observer,
            start_ns,
            statistics: Statistics::default(),
            errors: Vec::new(),
            error_count: 0,
            errors_len: 0,
            changed_count: 0,
            excluded_count: 0,
            skipped: Vec::new(),
            fingerprints: None,
            memory: None,
            links: HashMap::new(),
            rule: Fingerprints {
                start_ns,
                ignore_inode: options.ignore_inode,
                ignore_ctime: options.ignore_ctime,
            },
        }
    }

    pub(super) fn error(&mut self, path: &[u8], error: &dyn std::error::Error) {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        self.observer.error(path, &message);
        self.error_count += 1;
        let end = (0..=message.len().min(MESSAGE_LEN_MAX)).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or_default());
        let path = &path[..path.len().min(usize::try_from(PATH_LEN_MAX).unwrap_or(usize::MAX))];
        self.errors_len += path.len() + message.len();
        if (self.errors.len() as u64) < MANIFEST_ERROR_COUNT_MAX && self.errors_len <= ERRORS_LEN_MAX {
            self.errors.push((path.to_vec(), message));
        }
    }

    /// The group of hard links that this is a later member of. The first one begins its group. Another state of the inode begins a group
    /// as well: the file was changed meanwhile, or is gone and another one was given its number.
    pub(super) fn hard_link(&mut self, found: &Found) -> Option<LinkGroup> {
        if found.link_count() < 2 || found.kind() == EntryKind::Directory {
            return None;
        }
        let identity = found.identity();
        let state =
            LinkState { kind: found.kind(), size: found.size(), mtime_ns: found.fingerprint().mtime_ns };
        if let Some(group) = self.links.get_mut(&identity).filter(|group| group.state == state) {
            group.left = group.left.saturating_sub(1);
            let known = group.clone();
            if known.left == 0 {
                self.links.remove(&identity);
            }
            return Some(known);
        }
        let first = found.path().as_bytes().to_vec();
        let group = LinkGroup { first, size: 0, state, left: found.link_count() - 1 };
        self.links.insert(identity, group);
        None
    }

    /// The first member of a group was taken with this size, which the others have too.
    pub(super) fn set_link_size(&mut self, found: &Found, size: u64) {
        if let Some(group) = self.links.get_mut(&found.identity())
            && group.first == found.path().as_bytes()
        {
            group.size = size;
        }
    }

    /// The first member of a group could not be taken: the next one becomes the first.
    pub(super) fn drop_link_group(&mut self, found: &Found) {
        if self.links.get(&found.identity()).is_some_and(|group| group.first == found.path().as_bytes()) {
            self.links.remove(&found.identity());
        }
    }

    /// Remembers an entry that the snapshot will have.
    pub(super) fn remember(&mut self, entry: &TreeEntry, fingerprint: u64) {
        if let Some(memory) = &mut self.memory {
            memory.add(entry, fingerprint);
        }
        if let Some(fingerprints) = &mut self.fingerprints {
            fingerprints.push(fingerprint);
        }
    }

    pub(super) fn count(&mut self, entry: &TreeEntry, change: EntryChange) {
        self.statistics.entry_count += 1;
        match entry.kind {
            Kind::File => {
                self.statistics.file_count += 1;
                if entry.hard_link.is_none() {
                    self.statistics.content_bytes += entry.size;
                }
            }
            Kind::Directory => self.statistics.directory_count += 1,
            _ => {}
        }
        self.observer.entry(&entry.path, entry.size, change);
    }

    /// The manifest of what was taken; `uploaded` is what that took.
    pub(super) fn manifest(
        &self,
        options: &BackupOptions,
        origin: Origin,
        root: TreeRoot,
        parent: Option<&Snapshot>,
        end_ns: i64,
        uploaded: &Uploaded,
    ) -> Manifest {
        let mut manifest = Manifest::new(&origin.collector, root);
        (manifest.host, manifest.sources, manifest.facts) = (origin.host, origin.sources, origin.facts);
        manifest.user.clone_from(&options.user);
        manifest.tags.clone_from(&options.tags);
        manifest.tags.sort();
        manifest.tags.dedup();
        manifest.start_ns = options.time_ns.unwrap_or(self.start_ns);
        manifest.end_ns = options.time_ns.unwrap_or(end_ns);
        manifest.statistics = self.statistics;
        manifest.statistics.new_bytes = uploaded.new_bytes;
        manifest.statistics.new_chunk_count = uploaded.new_chunk_count;
        manifest.statistics.stored_bytes = uploaded.stored_bytes;
        manifest.parent = parent.map(Snapshot::id);
        manifest.completeness.errors.clone_from(&self.errors);
        manifest.completeness.error_count = self.error_count;
        manifest.program.clone_from(&options.program);
        manifest
    }
}
