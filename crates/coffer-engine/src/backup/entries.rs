//! What the walk finds, made into entries: held against the parent, taken over or read, and given to the tree.

use std::thread::Scope;

use coffer_collect::{CollectError, EntryKind, Found, Metadata, Walk, WalkOptions};
use coffer_crypto::DomainKeys;
use coffer_format::limits::{BLOB_INLINE_MAX, CHUNK_LEN_MAX, LINK_LEN_MAX};
use coffer_format::tree::{
    Blob, Content, Hole, Kind, TreeEntry, TreeRoot, decode_holes, encode_holes, encode_xattrs,
};
use coffer_pipeline::tree_writer::{MetaSink, TreeWriter};

use super::ahead::{Ahead, Entries, Guess, Item, Unchanged};
use super::files::FileReader;
use super::options::BackupOptions;
use super::parent::{Known, Parent};
use super::report::EntryChange;
use super::run::{LinkGroup, NO_FINGERPRINT, Run};
use super::uploads::Uploads;
use crate::error::EngineError;

/// Threads that read small files ahead: with more, the one that takes them is the bottleneck.
const READER_COUNT_MAX: usize = 4;
/// A file that is replaced by another one between walk and reading is looked for again this often.
const FIND_ATTEMPT_COUNT: usize = 3;

/// The parts that take an entry together.
pub(super) struct Parts<'p, 'o, 'v, 'a, 'scope, 'env> {
    pub(super) run: &'p mut Run<'o>,
    pub(super) uploads: Uploads<'v, 'a, 'scope, 'env>,
    pub(super) parent: Option<Parent<'a>>,
    pub(super) tree: TreeWriter<'p>,
    pub(super) files: FileReader,
    /// Sources that were taken: without one there is no snapshot, though directories above them may have been taken.
    pub(super) source_count: u64,
}

impl Parts<'_, '_, '_, '_, '_, '_> {
    /// Takes every entry, and returns the root of the tree.
    pub(super) fn take_all<'s, 'e>(
        &mut self,
        scope: &'s Scope<'s, 'e>,
        keys: &'e DomainKeys,
        options: &BackupOptions,
    ) -> Result<TreeRoot, EngineError> {
        let walk_options = WalkOptions { skip: options.skip.clone(), excludes: options.excludes.clone() };
        let walk = Walk::with_options(&options.sources, &options.working_directory, walk_options)?;
        // A single worker does one thing after the other.
        let is_single = options.worker_count < 2;
        let reader_count = if is_single { 0 } else { options.worker_count.min(READER_COUNT_MAX) };
        let by_size_and_time = self.run.rule.by_size_and_time();
        let unchanged = match &mut self.parent {
            None => Some(Unchanged::default()),
            Some(parent) => parent.take_unchanged().or_else(|| (!by_size_and_time).then(Unchanged::default)),
        };
        let guess = Guess::new(self.run.rule, unchanged, self.files.single_len_max());
        let mut entries = Entries::new(scope, walk, guess, keys, reader_count);
        while let Some(item) = entries.next() {
            self.uploads.check()?;
            match item {
                Ok(item) => self.take(item, &entries)?,
                Err(error) => self.run.error(&error_path(&error), &error),
            }
        }
        let walked = entries.finish()?;
        self.run.skipped = walked.skipped.iter().map(|path| path.as_bytes().to_vec()).collect();
        self.run.excluded_count = walked.excluded_count;
        if let Some(parent) = &mut self.parent {
            parent.give_up_leaf(&mut self.tree, &mut self.uploads)?;
        }
        if self.source_count == 0 {
            return Err(EngineError::invalid(self.reason_for_nothing()));
        }
        let tree = self.tree.take();
        tree.finish(&mut self.uploads)
    }

    /// Why no source was taken.
    fn reason_for_nothing(&self) -> &'static str {
        if self.run.error_count > 0 {
            "none of the sources can be read; no snapshot was made"
        } else if self.run.excluded_count > 0 {
            "all of the sources are excluded; no snapshot was made"
        } else {
            "there is nothing to back up but the vault itself; no snapshot was made"
        }
    }

    fn take(&mut self, item: Item, entries: &Entries) -> Result<(), EngineError> {
        let Item { found, mut fingerprint, ahead } = item;
        let mut found = found;
        let link = self.run.hard_link(&found);
        let known = match &mut self.parent {
            Some(parent) => parent.seek(found.path().as_bytes(), &mut self.tree, &mut self.uploads)?,
            None => Known::Nothing,
        };
        let reuse = match self.decide(&found, known, fingerprint, link.as_ref()) {
            Decision::Keep { size } => {
                self.run.set_link_size(&found, size);
                self.source_count += u64::from(found.is_source());
                return self.keep(fingerprint, None);
            }
            Decision::Reuse(body) => Some(body),
            Decision::Read => None,
        };
        let ahead = ahead.map(|ahead| {
            let bytes = entries.bytes_of(&ahead);
            (ahead, bytes)
        });
        let mut taken = self.entry_of(&found, ahead, link, reuse);
        for _ in 0..FIND_ATTEMPT_COUNT {
            if !matches!(taken, Err(Lost::Entry(EngineError::Collect(CollectError::Changed { .. })))) {
                break;
            }
            // Another file has the name, as after programs that save by renaming. It is taken as it is now; as it was not there when the
            // walk came by, it is not remembered.
            self.run.drop_link_group(&found);
            taken = match found.find_again() {
                Ok(again) => {
                    (found, fingerprint) = (again, NO_FINGERPRINT);
                    let link = self.run.hard_link(&found);
                    self.entry_of(&found, None, link, None)
                }
                Err(error) => Err(error.into()),
            };
        }
        let entry = match taken {
            Ok(entry) => entry,
            Err(Lost::Entry(error)) => {
                self.run.drop_link_group(&found);
                self.run.error(found.path().as_bytes(), &error);
                return Ok(());
            }
            Err(Lost::Backup(error)) => return Err(error),
        };
        self.source_count += u64::from(found.is_source());
        self.run.set_link_size(&found, entry.size);
        let unchanged = self.parent.as_ref().is_some_and(|parent| parent.has(&entry));
        if known != Known::Nothing && unchanged {
            return self.keep(fingerprint, Some(&entry));
        }
        if let Some(parent) = &mut self.parent {
            parent.give_up_leaf(&mut self.tree, &mut self.uploads)?;
            if known != Known::Nothing {
                parent.pass();
            }
        }
        let change = if known == Known::Nothing { EntryChange::New } else { EntryChange::Modified };
        self.run.count(&entry, change);
        self.run.remember(&entry, fingerprint);
        self.tree.push(&entry, &mut self.uploads)
    }

    /// Holds what was found against what the parent has of its path.
    fn decide(&self, found: &Found, known: Known, fingerprint: u64, link: Option<&LinkGroup>) -> Decision {
        let parent = self.parent.as_ref().filter(|_| known != Known::Nothing);
        let Some((parent, old)) = parent.and_then(|parent| Some((parent, parent.entry()?))) else {
            return Decision::Read;
        };
        let same_kind =
            old.kind == kind_of(found.kind()) && old.hard_link.as_ref() == link.map(|group| &group.first);
        // What was stored while it changed may be of no single moment: nothing says that it is what the file came to be.
        if !same_kind || fingerprint == NO_FINGERPRINT || old.changed_while_read || !parent.has_content() {
            return Decision::Read;
        }
        let same_fingerprint = known == Known::Fingerprint(fingerprint);
        if same_fingerprint && !self.run.rule.ignore_ctime {
            return Decision::Keep { size: old.size };
        }
        // Size and time alone decide for who asks for that; for others a difference, or having no fingerprint, means that the file is
        // read. Where the time of the last change of the inode does not count, attributes can have changed unnoticed, so they are
        // always read.
        let by_size_and_time = self.run.rule.by_size_and_time();
        let same_size_and_time = old.mtime_ns == found.fingerprint().mtime_ns && old.size == found.size();
        if same_size_and_time && (same_fingerprint || by_size_and_time) {
            return Decision::Reuse(Body {
                content: old.content.clone(),
                holes: old.holes.clone(),
                size: old.size,
                changed: false,
            });
        }
        Decision::Read
    }

    /// Takes the parent's current entry as it is; `read` is the same, if it was read to find that out.
    fn keep(&mut self, fingerprint: u64, read: Option<&TreeEntry>) -> Result<(), EngineError> {
        let Some(parent) = &mut self.parent else { return Ok(()) };
        if let Some(entry) = read.or(parent.entry()) {
            self.run.count(entry, EntryChange::Unchanged);
            self.run.statistics.unchanged_count += 1;
            self.run.remember(entry, fingerprint);
        }
        parent.keep(read, &mut self.tree, &mut self.uploads)
    }

    /// Makes the entry of what was found; reads its content unless that is known.
    fn entry_of(
        &mut self,
        found: &Found,
        ahead: Option<(Ahead, &[u8])>,
        link: Option<LinkGroup>,
        reuse: Option<Body>,
    ) -> Result<TreeEntry, Lost> {
        let mut entry = TreeEntry::new(found.path().as_bytes().to_vec(), kind_of(found.kind()));
        if found.kind() == EntryKind::File && link.is_none() && reuse.is_none() {
            let taken = match ahead {
                Some((ahead, bytes)) => self.files.take_ahead(ahead, bytes, &mut self.uploads)?,
                None => self.files.take(found, &mut self.uploads)?,
            };
            self.run.statistics.read_bytes += taken.read_bytes;
            self.run.changed_count += u64::from(taken.changed);
            let holes = match taken.holes.as_slice() {
                [] => None,
                holes => Some(self.holes(holes, taken.size)?),
            };
            let (content, size, changed) = (taken.content, taken.size, taken.changed);
            set_body(&mut entry, Body { content, holes, size, changed });
            self.set_metadata(&mut entry, taken.metadata)?;
            return Ok(entry);
        }
        match (reuse, &link) {
            (Some(body), _) => set_body(&mut entry, body),
            (None, Some(group)) if entry.kind == Kind::File => entry.size = group.size,
            _ => {}
        }
        entry.hard_link = link.map(|group| group.first);
        self.set_metadata(&mut entry, found.metadata()?)?;
        Ok(entry)
    }

    pub(super) fn set_metadata(&mut self, entry: &mut TreeEntry, metadata: Metadata) -> Result<(), Lost> {
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
                let reason = "its extended attributes are too long together";
                return Err(Lost::Entry(EngineError::invalid(reason)));
            }
            entry.xattrs = Some(self.blob(bytes)?);
        }
        Ok(())
    }

    /// A list of holes that a reader would refuse makes the content worthless.
    fn holes(&mut self, holes: &[Hole], size: u64) -> Result<Blob, Lost> {
        let bytes = encode_holes(holes);
        decode_holes(&bytes, size).map_err(|error| Lost::Entry(error.into()))?;
        Ok(self.blob(bytes)?)
    }

    fn blob(&mut self, bytes: Vec<u8>) -> Result<Blob, EngineError> {
        let inline = bytes.len() as u64 <= BLOB_INLINE_MAX;
        Ok(if inline { Blob::Inline(bytes) } else { Blob::Chunk(self.uploads.put(&bytes)?) })
    }
}

/// What is done with an entry that was found.
enum Decision {
    /// It is taken over from the parent as it is.
    Keep { size: u64 },
    /// Its content is taken over, the rest is read.
    Reuse(Body),
    /// It is read.
    Read,
}

/// The content of a file, as an entry has it.
struct Body {
    content: Content,
    holes: Option<Blob>,
    size: u64,
    changed: bool,
}

fn set_body(entry: &mut TreeEntry, body: Body) {
    (entry.content, entry.holes, entry.size) = (body.content, body.holes, body.size);
    entry.changed_while_read = body.changed;
}

/// What is lost by an error: the entry, or the whole backup.
pub(super) enum Lost {
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
