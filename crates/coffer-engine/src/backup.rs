//! Backup: a walk in path order, merged with the parent's entries, into chunks, packs, an index segment and one record.
//!
//! One thread walks, reads, cuts and hashes; workers compress, seal, check and store packs. Queues are bounded, so memory is the workers'
//! packs and a few frames, whatever is backed up.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use coffer_collect::{CollectError, EntryKind, Found, Identity, Walk, WalkOptions};
use coffer_crypto::hash::{Hasher, hash};
use coffer_format::cbor::Encoder;
use coffer_format::id::{Head, SegmentId, SnapshotId};
use coffer_format::limits::{
    BLOB_INLINE_MAX, CHUNK_LEN_MAX, LINK_LEN_MAX, MANIFEST_ERROR_COUNT_MAX, PATH_LEN_MAX,
};
use coffer_format::manifest::{Manifest, Statistics};
use coffer_format::record::RecordKind;
use coffer_format::tree::{Blob, Content, Kind, TreeEntry, TreeRoot, encode_xattrs};
use coffer_pipeline::PipelineError;
use coffer_pipeline::chunker::{Chunker, ChunkerParams};
use coffer_pipeline::compress::Compression;
use coffer_pipeline::pack_writer::PackSealer;
use coffer_pipeline::tree_writer::{MetaSink, TreeWriter};

use crate::error::EngineError;
use crate::vault::{Snapshot, Vault};

mod files;
mod parent;
mod stage;
mod uploads;

use files::FileReader;
use parent::{Known, Parent};
use stage::{Stage, StageOptions};
use uploads::{Uploaded, Uploads};

/// What is backed up, and how.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Files and directories, as given.
    pub sources: Vec<PathBuf>,
    /// The directory against which relative sources are resolved.
    pub working_directory: PathBuf,
    /// Host recorded in the snapshot.
    pub host: String,
    /// User recorded in the snapshot.
    pub user: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Program and version recorded in the snapshot.
    pub program: String,
    /// How frames are compressed.
    pub compression: Compression,
    /// Whether every frame is opened, decompressed and rehashed before it is stored.
    pub extra_verify: bool,
    /// Threads that compress and seal.
    pub worker_count: usize,
    /// A pack is closed when it has this many bytes.
    pub pack_len_target: u64,
    /// After how long a progress record names what was stored.
    pub progress_interval_ns: u64,
    /// After how many log records a checkpoint is added; 0: never.
    pub checkpoint_interval: u64,
    /// Directories that are not entered, such as the vault itself.
    pub skip: Vec<Identity>,
    /// Whether the parent is ignored and every file read.
    pub force: bool,
}

impl BackupOptions {
    /// Default length at which a pack is closed: 32 MiB.
    pub const PACK_LEN_TARGET: u64 = 32 << 20;
    /// Default interval of progress records: one minute.
    pub const PROGRESS_INTERVAL_NS: u64 = 60_000_000_000;
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The snapshot: the backup is acknowledged.
    pub snapshot: SnapshotId,
    /// Its place in the log.
    pub head: Head,
    /// Its manifest.
    pub manifest: Manifest,
    /// Progress records committed on the way.
    pub progress_count: u64,
    /// Files that kept changing while they were read.
    pub changed_count: u64,
    /// What could not be taken: path and message.
    pub errors: Vec<(Vec<u8>, String)>,
    /// Number of such errors.
    pub error_count: u64,
    /// Directories that were skipped because they hold the vault.
    pub skipped: Vec<Vec<u8>>,
    /// What went wrong beside it, in the local memory.
    pub warnings: Vec<String>,
}

/// Hears how a backup goes. Called from one thread.
pub trait BackupObserver {
    /// An entry was taken; `size` is its length if it is a file.
    fn entry(&mut self, path: &[u8], size: u64);
    /// Something could not be taken.
    fn error(&mut self, path: &[u8], message: &str);
}

/// Backs up files and directories as one snapshot.
///
/// # Errors
/// Errors of single entries do not end it; they are in the report. What ends it: the store, the key, a log that cannot be committed to,
/// or the user. Nothing is acknowledged then, and earlier snapshots are as they were.
pub fn backup(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    observer: &mut dyn BackupObserver,
) -> Result<BackupReport, EngineError> {
    vault.signing_key()?;
    if options.sources.len() > SOURCE_COUNT_MAX {
        let reason =
            format!("more than {SOURCE_COUNT_MAX} sources in one backup; name a directory above them");
        return Err(EngineError::invalid(reason));
    }
    // An index segment that turns out to be damaged is left out, and what it listed is read and stored again.
    let mut distrusted = BTreeSet::new();
    loop {
        match attempt(vault, options, observer, &distrusted) {
            Err(EngineError::SegmentUnusable { segment, .. }) if distrusted.insert(segment) => {}
            outcome => {
                let mut report = outcome?;
                // The snapshot is committed; a checkpoint spares those time who come without a memory, and can wait.
                if let Err(error) = vault.checkpoint_if_due(options.checkpoint_interval) {
                    report.warnings.push(format!("no checkpoint was added: {error}"));
                }
                return Ok(report);
            }
        }
    }
}

fn attempt(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    observer: &mut dyn BackupObserver,
    distrusted: &BTreeSet<SegmentId>,
) -> Result<BackupReport, EngineError> {
    let access = vault.access;
    let start_ns = access.clock.now_ns();
    let origin = origin_key(options);
    let mut run = Run::new(start_ns, observer);
    let (sealing_key, _) = vault.sealing_key()?;
    let domain = vault.owner_domain();
    let sealer = PackSealer { vault: vault.id(), sealing_key, domain: vault.domain_keys(&domain)? };
    let tree_keys = vault.domain_keys(&domain)?;
    let params = ChunkerParams::try_from(vault.log.header.chunker).map_err(PipelineError::from)?;
    let chunker = Chunker::new(params, tree_keys.chunker_key().expose());
    let found = if options.force { None } else { find_parent(vault, options) };
    let stopped = AtomicBool::new(false);

    let (root, uploaded) = std::thread::scope(|scope| {
        let stage = Stage::new(scope, StageOptions::new(&access, &sealer, options, &stopped));
        let uploads = Uploads::new(vault, stage, options, distrusted)?;
        // Where index segments are damaged, nothing that a parent refers to is taken on trust: it is read and stored again.
        let parent = match &found {
            Some(snapshot) if distrusted.is_empty() && uploads.index_is_whole() => {
                Some(Parent::open(&uploads, snapshot, &origin)?)
            }
            _ => None,
        };
        let tree = TreeWriter::new(&tree_keys);
        let mut parts = Parts { run: &mut run, uploads, parent, tree, files: FileReader::new(chunker) };
        let outcome = parts.take_all(options);
        let Parts { uploads, .. } = parts;
        match outcome {
            Ok(root) => Ok((root, uploads.finish()?)),
            Err(error) => {
                let keep = matches!(error, EngineError::Interrupted | EngineError::SegmentUnusable { .. });
                uploads.abandon(keep);
                Err(error)
            }
        }
    })?;

    run.statistics.new_bytes = uploaded.new_bytes;
    run.statistics.new_chunk_count = uploaded.new_chunk_count;
    run.statistics.stored_bytes = uploaded.stored_bytes;
    let manifest = run.manifest(options, root, found.as_ref(), access.clock.now_ns());
    let head = commit(vault, &manifest, &uploaded)?;
    let snapshot = SnapshotId(head.chain);
    let mut warnings: Vec<String> = vault.log.memory_warning.iter().cloned().collect();
    if let Some(cache) = access.cache
        && let Err(error) = cache.set_fingerprints(&vault.id(), &origin, &snapshot, &run.fingerprints)
    {
        warnings.push(format!("the next backup will read every file: {error}"));
    }
    Ok(BackupReport {
        snapshot,
        head,
        manifest,
        progress_count: uploaded.progress_count,
        changed_count: run.changed_count,
        errors: run.errors,
        error_count: run.error_count,
        skipped: run.skipped,
        warnings,
    })
}

fn commit(vault: &mut Vault<'_>, manifest: &Manifest, uploaded: &Uploaded) -> Result<Head, EngineError> {
    let body = manifest.encode();
    // What is committed has to be readable: a reader's limits are checked while nothing is promised yet.
    if Manifest::decode(&body)? != *manifest {
        return Err(EngineError::invalid("the manifest of the snapshot would not be read as it was written"));
    }
    vault.commit(RecordKind::Snapshot, Some(&body), &mut |state, public| {
        uploads::check_relied_upon(state, &uploaded.relied_upon, &uploaded.packs)?;
        public.segments_added.clone_from(&uploaded.segments);
        Ok(())
    })
}

/// What tells the origins of one host apart: snapshots with the same key follow each other.
fn origin_key(options: &BackupOptions) -> [u8; 32] {
    let mut hasher = Hasher::new();
    for part in std::iter::once(options.host.as_bytes().to_vec()).chain(source_bytes(options)) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(&part);
    }
    hasher.update(options.working_directory.as_os_str().as_encoded_bytes());
    hasher.finalize()
}

fn source_bytes(options: &BackupOptions) -> Vec<Vec<u8>> {
    options.sources.iter().map(|source| source.as_os_str().as_encoded_bytes().to_vec()).collect()
}

/// What else tells origins apart: the directory that relative sources are relative to.
fn facts(options: &BackupOptions) -> Option<Vec<u8>> {
    options.sources.iter().any(|source| source.is_relative()).then(|| {
        let mut encoder = Encoder::new();
        encoder.map(|map| map.key(1).bytes(options.working_directory.as_os_str().as_encoded_bytes()));
        encoder.finish()
    })
}

/// The newest snapshot of the same host and sources.
fn find_parent(vault: &Vault<'_>, options: &BackupOptions) -> Option<Snapshot> {
    let sources = source_bytes(options);
    let domain = vault.owner_domain();
    let live =
        vault.state().snapshots.iter().rev().filter(|state| !state.forgotten && state.body.domain == domain);
    live.filter_map(|state| vault.snapshot(state).ok()).find(|snapshot| {
        let manifest = &snapshot.manifest;
        manifest.collector == "files"
            && manifest.host == options.host
            && manifest.sources == sources
            && manifest.facts == facts(options)
    })
}

/// Everything that is counted and collected on the way.
struct Run<'o> {
    observer: &'o mut dyn BackupObserver,
    start_ns: i64,
    statistics: Statistics,
    errors: Vec<(Vec<u8>, String)>,
    error_count: u64,
    errors_len: usize,
    changed_count: u64,
    skipped: Vec<Vec<u8>>,
    fingerprints: Vec<u64>,
    /// Groups of hard links that are not complete yet.
    links: HashMap<Identity, LinkGroup>,
}

/// Entries that are one file.
#[derive(Clone)]
struct LinkGroup {
    /// The path that carries the content.
    first: Vec<u8>,
    /// Its size.
    size: u64,
    /// Members still to come.
    left: u64,
}

/// A file whose inode changed this shortly before the backup began, or later, may change again without its stat fields showing it.
const FINGERPRINT_MARGIN_NS: i64 = 2_000_000_000;
/// A message in a manifest is cut to this length.
const MESSAGE_LEN_MAX: usize = 4096;
/// Errors in a manifest together are at most this long, so that the manifest fits a record.
const ERRORS_LEN_MAX: usize = 512 << 10;
/// Sources of one snapshot, as the format limits them.
const SOURCE_COUNT_MAX: usize = 65_536;
/// The fingerprint that equals none.
const NO_FINGERPRINT: u64 = 0;

impl<'o> Run<'o> {
    fn new(start_ns: i64, observer: &'o mut dyn BackupObserver) -> Self {
        Self {
            observer,
            start_ns,
            statistics: Statistics::default(),
            errors: Vec::new(),
            error_count: 0,
            errors_len: 0,
            changed_count: 0,
            skipped: Vec::new(),
            fingerprints: Vec::new(),
            links: HashMap::new(),
        }
    }

    fn error(&mut self, path: &[u8], error: &dyn std::error::Error) {
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

    /// What the stat fields of an entry amount to; never equal for an entry that may still be changing.
    fn fingerprint(&self, found: &Found) -> u64 {
        let fields = found.fingerprint();
        if fields.ctime_ns >= self.start_ns.saturating_sub(FINGERPRINT_MARGIN_NS) {
            return NO_FINGERPRINT;
        }
        let digest = hash(&fields.to_bytes());
        let value = digest.iter().take(8).fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        value.max(NO_FINGERPRINT + 1)
    }

    /// The group of hard links that this is a later member of. The first one begins its group.
    fn hard_link(&mut self, found: &Found) -> Option<LinkGroup> {
        if found.link_count() < 2 || found.kind() == EntryKind::Directory {
            return None;
        }
        let identity = found.identity();
        if let Some(group) = self.links.get_mut(&identity) {
            group.left = group.left.saturating_sub(1);
            let known = group.clone();
            if known.left == 0 {
                self.links.remove(&identity);
            }
            return Some(known);
        }
        let group =
            LinkGroup { first: found.path().as_bytes().to_vec(), size: 0, left: found.link_count() - 1 };
        self.links.insert(identity, group);
        None
    }

    /// The first member of a group was taken with this size, which the others have too.
    fn set_link_size(&mut self, found: &Found, size: u64) {
        if let Some(group) = self.links.get_mut(&found.identity())
            && group.first == found.path().as_bytes()
        {
            group.size = size;
        }
    }

    /// The first member of a group could not be taken: the next one becomes the first.
    fn drop_link_group(&mut self, found: &Found) {
        if self.links.get(&found.identity()).is_some_and(|group| group.first == found.path().as_bytes()) {
            self.links.remove(&found.identity());
        }
    }

    fn count(&mut self, entry: &TreeEntry) {
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
        self.observer.entry(&entry.path, entry.size);
    }

    fn manifest(
        &mut self,
        options: &BackupOptions,
        root: coffer_format::tree::TreeRoot,
        parent: Option<&Snapshot>,
        end_ns: i64,
    ) -> Manifest {
        let mut manifest = Manifest::new("files", root);
        manifest.host.clone_from(&options.host);
        manifest.user.clone_from(&options.user);
        manifest.tags.clone_from(&options.tags);
        manifest.tags.sort();
        manifest.tags.dedup();
        manifest.sources = source_bytes(options);
        manifest.facts = facts(options);
        manifest.start_ns = self.start_ns;
        manifest.end_ns = end_ns;
        manifest.statistics = self.statistics;
        manifest.parent = parent.map(Snapshot::id);
        manifest.completeness.errors.clone_from(&self.errors);
        manifest.completeness.error_count = self.error_count;
        manifest.program.clone_from(&options.program);
        manifest
    }
}

/// The parts that take an entry together.
struct Parts<'p, 'o, 'v, 'a, 'scope, 'env> {
    run: &'p mut Run<'o>,
    uploads: Uploads<'v, 'a, 'scope, 'env>,
    parent: Option<Parent<'a>>,
    tree: TreeWriter<'p>,
    files: FileReader,
}

impl Parts<'_, '_, '_, '_, '_, '_> {
    /// Takes every entry, and returns the root of the tree.
    fn take_all(&mut self, options: &BackupOptions) -> Result<TreeRoot, EngineError> {
        let walk_options = WalkOptions { skip: options.skip.clone() };
        let mut walk = Walk::with_options(&options.sources, &options.working_directory, walk_options)?;
        for item in walk.by_ref() {
            self.uploads.check()?;
            match item {
                Ok(found) => self.take(&found)?,
                Err(error) => self.run.error(&error_path(&error), &error),
            }
        }
        self.run.skipped = walk.skipped().iter().map(|path| path.as_bytes().to_vec()).collect();
        if let Some(parent) = &mut self.parent {
            parent.give_up_leaf(&mut self.tree, &mut self.uploads)?;
        }
        if self.run.statistics.entry_count == 0 && self.run.error_count > 0 {
            return Err(EngineError::invalid("none of the sources can be read; no snapshot was made"));
        }
        let tree = self.tree.take();
        tree.finish(&mut self.uploads)
    }

    fn take(&mut self, found: &Found) -> Result<(), EngineError> {
        let path = found.path().as_bytes();
        let fingerprint = self.run.fingerprint(found);
        let link = self.run.hard_link(found);
        let known = match &mut self.parent {
            Some(parent) => parent.seek(path, &mut self.tree, &mut self.uploads)?,
            None => Known::Nothing,
        };
        let old = self.parent.as_ref().and_then(Parent::entry).filter(|_| known != Known::Nothing);
        let same_kind = |old: &&TreeEntry| {
            old.kind == kind_of(found.kind())
                && old.hard_link.as_ref() == link.as_ref().map(|group| &group.first)
        };
        let old = old.filter(same_kind);
        if old.is_some() && known == Known::Fingerprint(fingerprint) && fingerprint != NO_FINGERPRINT {
            let size = old.map_or(0, |old| old.size);
            self.run.set_link_size(found, size);
            return self.keep(fingerprint);
        }
        // Without fingerprints size and time decide; with them, a difference means that the file is read.
        let reuse = old.filter(|old| {
            known == Known::Entry
                && old.mtime_ns == found.fingerprint().mtime_ns
                && old.size == found.size()
                && fingerprint != NO_FINGERPRINT
        });
        let content =
            reuse.map(|old| (old.content.clone(), old.holes.clone(), old.size, old.changed_while_read));
        let entry = match self.entry_of(found, link, content) {
            Ok(entry) => entry,
            Err(Lost::Entry(error)) => {
                self.run.drop_link_group(found);
                self.run.error(path, &error);
                return Ok(());
            }
            Err(Lost::Backup(error)) => return Err(error),
        };
        self.run.set_link_size(found, entry.size);
        let unchanged = self.parent.as_ref().and_then(Parent::entry).is_some_and(|old| *old == entry);
        if known != Known::Nothing && unchanged {
            return self.keep(fingerprint);
        }
        if let Some(parent) = &mut self.parent {
            parent.give_up_leaf(&mut self.tree, &mut self.uploads)?;
            if known != Known::Nothing {
                parent.pass();
            }
        }
        self.run.count(&entry);
        self.run.fingerprints.push(fingerprint);
        self.tree.push(&entry, &mut self.uploads)
    }

    /// Takes the parent's current entry as it is.
    fn keep(&mut self, fingerprint: u64) -> Result<(), EngineError> {
        let Some(parent) = &mut self.parent else { return Ok(()) };
        if let Some(entry) = parent.entry() {
            self.run.count(entry);
            self.run.statistics.unchanged_count += 1;
            self.run.fingerprints.push(fingerprint);
        }
        parent.keep(&mut self.tree, &mut self.uploads)
    }

    /// Makes the entry of what was found; reads its content unless that is known.
    fn entry_of(
        &mut self,
        found: &Found,
        link: Option<LinkGroup>,
        known: Option<(Content, Option<Blob>, u64, bool)>,
    ) -> Result<TreeEntry, Lost> {
        let mut entry = TreeEntry::new(found.path().as_bytes().to_vec(), kind_of(found.kind()));
        let metadata = if found.kind() == EntryKind::File && link.is_none() && known.is_none() {
            let taken = self.files.take(found, &mut self.uploads)?;
            self.run.statistics.read_bytes += taken.read_bytes;
            self.run.changed_count += u64::from(taken.changed);
            entry.changed_while_read = taken.changed;
            entry.content = taken.content;
            entry.size = taken.size;
            taken.metadata
        } else {
            found.metadata()?
        };
        if let Some((content, holes, size, changed)) = known {
            (entry.content, entry.holes, entry.size, entry.changed_while_read) =
                (content, holes, size, changed);
        } else if let Some(group) = &link
            && entry.kind == Kind::File
        {
            entry.size = group.size;
        }
        entry.hard_link = link.map(|group| group.first);
        entry.mode = metadata.mode & 0o7777;
        (entry.uid, entry.gid) = (metadata.uid, metadata.gid);
        (entry.user, entry.group) = (metadata.user, metadata.group);
        entry.mtime_ns = metadata.mtime_ns;
        entry.device = metadata.device;
        if let Some(target) = metadata.link_target {
            if target.len() as u64 > LINK_LEN_MAX {
                return Err(Lost::Entry(EngineError::invalid("the target of the link is too long")));
            }
            entry.link_target = Some(target);
        }
        if !metadata.xattrs.is_empty() {
            let bytes = encode_xattrs(&metadata.xattrs);
            if bytes.len() as u64 > CHUNK_LEN_MAX {
                return Err(Lost::Entry(EngineError::invalid(
                    "its extended attributes are too long together",
                )));
            }
            let inline = bytes.len() as u64 <= BLOB_INLINE_MAX;
            entry.xattrs =
                Some(if inline { Blob::Inline(bytes) } else { Blob::Chunk(self.uploads.put(&bytes)?) });
        }
        Ok(entry)
    }
}

/// What is lost by an error: the entry, or the whole backup.
enum Lost {
    Entry(EngineError),
    Backup(EngineError),
}

impl From<CollectError> for Lost {
    fn from(error: CollectError) -> Self {
        Self::Entry(error.into())
    }
}

impl From<EngineError> for Lost {
    fn from(error: EngineError) -> Self {
        Self::Backup(error)
    }
}

const fn kind_of(kind: EntryKind) -> Kind {
    match kind {
        EntryKind::File => Kind::File,
        EntryKind::Directory => Kind::Directory,
        EntryKind::Symlink => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::Socket => Kind::Socket,
        EntryKind::CharDevice => Kind::CharDevice,
        EntryKind::BlockDevice => Kind::BlockDevice,
    }
}

/// The path an error is about, as far as it names one.
fn error_path(error: &CollectError) -> Vec<u8> {
    match error {
        CollectError::Io { path, .. }
        | CollectError::Vanished { path }
        | CollectError::Changed { path }
        | CollectError::NotADirectory { path }
        | CollectError::Unfit { path, .. } => path.as_bytes().to_vec(),
        CollectError::Source { given, .. } => given.as_os_str().as_encoded_bytes().to_vec(),
        _ => Vec::new(),
    }
}
