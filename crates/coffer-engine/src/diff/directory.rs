//! A snapshot against a directory: is what was restored, or what is still there, what was saved?
//!
//! Both come in path order and are merged. A file of the same size and time is taken for the same unless every file is to be read. Of one
//! that is read, pieces as long as the chunks of the snapshot are named as these were; nothing of its content is read from the vault.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use coffer_collect::{CollectError, EntryKind, EntryPath, Found, Identity, Walk, WalkOptions, next_data};
use coffer_format::pack::ChunkKind;
use coffer_format::path::{compare_paths, is_within};
use coffer_format::tree::{Content, Hole, Kind, TreeEntry};
use coffer_pipeline::pack_reader::chunk_id;

use super::cursor::{Cursor, Head};
use super::{Change, DiffItem, DiffReport, DiffVisit, Difference, check_part, counted_size, is_loss};
use crate::content::{carrier, metadata};
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{ContentReader, holes};
use crate::vault::{Snapshot, Vault};

/// What is compared with a directory, and how.
#[derive(Debug, Clone, Default)]
pub struct DirectoryOptions {
    /// The part of the snapshot that the directory is compared with; empty for all of it.
    pub within: Vec<u8>,
    /// Whether entries are shown of which only the metadata differs.
    pub metadata: bool,
    /// Whether files of the same size and time are read as well.
    pub read_all: bool,
    /// Directories that are passed, such as the vault itself.
    pub skip: Vec<Identity>,
}

/// Compares a snapshot (the old side) with a directory (the new one).
///
/// # Errors
/// [`EngineError::NoPath`] when the part is not there; [`EngineError::Collect`] when the directory cannot be opened; what `visit` returns.
pub fn diff_directory(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    directory: &Path,
    options: &DirectoryOptions,
    visit: &mut DiffVisit<'_>,
) -> Result<DiffReport, EngineError> {
    let mut chunks = ChunkReader::new(vault, &snapshot.state.body.domain)?;
    check_part(&snapshot.manifest.root, &options.within, &mut chunks)?;
    let walk_options = WalkOptions { skip: options.skip.clone(), ..WalkOptions::default() };
    let walk = Walk::with_options(&[PathBuf::from(".")], directory, walk_options)?;
    let mut merge = Merge {
        vault,
        options,
        old: Cursor::new(&snapshot.manifest.root, &options.within, 0),
        readers: vec![chunks],
        walk,
        found: None,
        unread: Vec::new(),
        links: HashMap::new(),
        report: DiffReport::default(),
        visit,
    };
    merge.run()?;
    Ok(merge.report)
}

struct Merge<'m, 'v, 'f> {
    vault: &'m Vault<'v>,
    options: &'m DirectoryOptions,
    old: Cursor<'m>,
    /// The one reader of the snapshot's chunks.
    readers: Vec<ChunkReader<'v>>,
    walk: Walk,
    found: Option<Found>,
    /// Paths in the directory that cannot be read: of what is below them nothing is known.
    unread: Vec<EntryPath>,
    /// Files with several names, of which some are still to come.
    links: HashMap<Identity, Links>,
    report: DiffReport,
    visit: &'m mut DiffVisit<'f>,
}

/// What was met of a file in the directory under the names before this one.
#[derive(Debug, Default)]
struct Links {
    /// How many names are to come, with this one.
    left: u64,
    /// Whether there was one before.
    is_met: bool,
    /// Paths of the files of the snapshot that it was compared with.
    compared: Vec<Vec<u8>>,
}

impl Links {
    /// The size that counts in totals: the first name has the content.
    fn counted_size(&self, found: &Found) -> u64 {
        if self.is_met { 0 } else { found.size() }
    }
}

impl Merge<'_, '_, '_> {
    fn run(&mut self) -> Result<(), EngineError> {
        loop {
            self.vault.access.check_interrupt()?;
            self.fill()?;
            let order = match (self.old.path(), &self.found) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(found)) => compare_paths(old, found.path().as_bytes()),
            };
            match order {
                std::cmp::Ordering::Less => self.removed()?,
                std::cmp::Ordering::Greater => self.added()?,
                std::cmp::Ordering::Equal => self.both()?,
            }
        }
    }

    /// Puts the next entry of each side in place.
    fn fill(&mut self) -> Result<(), EngineError> {
        while matches!(self.old.head(), Head::Subtree { .. }) {
            self.report.tree_chunk_count += 1;
            if let Some(lost) = self.old.open(&mut self.readers) {
                self.report.uncompared_count += 1;
                self.report.lost = true;
                (self.visit)(DiffItem::Lost(lost))?;
            }
        }
        while self.found.is_none() {
            match self.walk.next() {
                None => return Ok(()),
                Some(Ok(found)) => self.found = Some(found),
                Some(Err(error)) => self.unreadable(error)?,
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, error: CollectError) -> Result<(), EngineError> {
        let path = match &error {
            CollectError::Io { path, .. }
            | CollectError::Changed { path }
            | CollectError::NotADirectory { path } => path.clone(),
            // Nothing is there.
            CollectError::Vanished { .. } => return Ok(()),
            // The directory itself.
            _ => return Err(error.into()),
        };
        self.report.uncompared_count += 1;
        let shown = path.as_bytes().to_vec();
        self.unread.push(path);
        (self.visit)(DiffItem::Uncompared { path: shown, error: error.into() })
    }

    fn removed(&mut self) -> Result<(), EngineError> {
        let path = self.old.path().unwrap_or_default().to_vec();
        let Some(old) = self.old.entries.next() else { return Ok(()) };
        if self.unread.iter().any(|unread| is_within(&path, unread.as_bytes())) {
            return Ok(());
        }
        let size = Some(counted_size(&old));
        self.show(Difference {
            path,
            change: Change::Removed,
            kind: old.kind,
            old_size: size,
            new_size: None,
        })
    }

    fn added(&mut self) -> Result<(), EngineError> {
        let Some(found) = self.take_found() else { return Ok(()) };
        let unknown = self.old.unknown.as_ref().is_some_and(|lost| lost.covers(found.path().as_bytes()));
        // A snapshot need not have an entry for what is compared.
        if unknown || found.path().is_root() {
            return Ok(());
        }
        let path = found.path().as_bytes().to_vec();
        let links = self.links_of(&found);
        let size = Some(links.counted_size(&found));
        self.keep_links(&found, links);
        self.show(Difference {
            path,
            change: Change::Added,
            kind: kind_of(found.kind()),
            old_size: None,
            new_size: size,
        })
    }

    fn both(&mut self) -> Result<(), EngineError> {
        let (Some(old), Some(found)) = (self.old.entries.next(), self.take_found()) else { return Ok(()) };
        let path = found.path().as_bytes().to_vec();
        let mut links = self.links_of(&found);
        let change = self.change(&old, &found, &mut links);
        let size = links.counted_size(&found);
        self.keep_links(&found, links);
        match change {
            Ok(None) => Ok(()),
            Ok(Some(change)) => {
                let (old_size, new_size) = (Some(counted_size(&old)), Some(size));
                if matches!(change, Change::Content { .. }) {
                    self.report.removed.content_bytes += old_size.unwrap_or_default();
                    self.report.added.content_bytes += size;
                }
                self.show(Difference { path, change, kind: kind_of(found.kind()), old_size, new_size })
            }
            Err(EngineError::Interrupted) => Err(EngineError::Interrupted),
            Err(error) => {
                self.report.uncompared_count += 1;
                self.report.lost |= is_loss(&error);
                (self.visit)(DiffItem::Uncompared { path, error })
            }
        }
    }

    fn take_found(&mut self) -> Option<Found> {
        let found = self.found.take()?;
        let path = found.path();
        self.unread.retain(|unread| unread >= path || path.starts_with(unread));
        if self.old.unknown.as_ref().is_some_and(|lost| !lost.covers(path.as_bytes())) {
            self.old.unknown = None;
        }
        Some(found)
    }

    fn links_of(&mut self, found: &Found) -> Links {
        let has_many = found.kind() != EntryKind::Directory && found.link_count() > 1;
        let known = if has_many { self.links.remove(&found.identity()) } else { None };
        let left = if has_many { found.link_count() } else { 1 };
        known.unwrap_or(Links { left, ..Links::default() })
    }

    fn keep_links(&mut self, found: &Found, links: Links) {
        if links.left > 1 {
            self.links.insert(found.identity(), Links { left: links.left - 1, is_met: true, ..links });
        }
    }

    fn show(&mut self, difference: Difference) -> Result<(), EngineError> {
        self.report.count(&difference);
        (self.visit)(DiffItem::Difference(difference))
    }

    fn change(
        &mut self,
        old: &TreeEntry,
        found: &Found,
        links: &mut Links,
    ) -> Result<Option<Change>, EngineError> {
        if old.kind != kind_of(found.kind()) {
            return Ok(Some(Change::Kind));
        }
        let root = self.old.root;
        let chunks = &mut self.readers[0];
        let fingerprint = *found.fingerprint();
        let same_time = old.mtime_ns == fingerprint.mtime_ns;
        let mut now = None;
        let differs = match old.kind {
            Kind::File => {
                let carrier = carrier(&root, old, chunks)?;
                let same_size = carrier.size == found.size();
                let trusted = same_time && !carrier.changed_while_read && !self.options.read_all;
                // What was said of it at another name of both is not said again.
                let is_new = !links.compared.contains(&carrier.path);
                let differs = is_new
                    && (!same_size || (!trusted && !same_content(&carrier, found, chunks, self.vault)?));
                if is_new && links.left > 1 {
                    links.compared.push(carrier.path);
                }
                differs
            }
            Kind::Symlink | Kind::CharDevice | Kind::BlockDevice => {
                let read = found.metadata()?;
                let differs = (&read.link_target, read.device) != (&old.link_target, old.device);
                now = Some(read);
                differs
            }
            Kind::Directory | Kind::Fifo | Kind::Socket | Kind::Resource => false,
        };
        if differs {
            let suspect = old.kind == Kind::File && same_time && old.size == found.size();
            return Ok(Some(Change::Content { suspect }));
        }
        if !self.options.metadata {
            return Ok(None);
        }
        let now = now.map_or_else(|| found.metadata(), Ok)?;
        let then = metadata(old, chunks)?;
        // Names differ between machines, where numbers may not.
        let facts = |of: &coffer_collect::Metadata| (of.mode, of.uid, of.gid, of.mtime_ns);
        let same = facts(&now) == facts(&then) && now.xattrs == then.xattrs;
        Ok((!same).then_some(Change::Metadata))
    }
}

/// Whether a file has the content that the snapshot says; both have the same size.
fn same_content(
    entry: &TreeEntry,
    found: &Found,
    chunks: &mut ChunkReader<'_>,
    vault: &Vault<'_>,
) -> Result<bool, EngineError> {
    let holes = holes(entry, chunks)?;
    let mut file = found.open()?;
    let path = found.path().to_string();
    let fail = |source| EngineError::Cache { action: "read", path: path.clone(), source };
    for hole in &holes {
        if !is_zero(&mut file, *hole).map_err(fail)? {
            return Ok(false);
        }
    }
    file.rewind().map_err(fail)?;
    let mut data = DataReader { file, offset: 0, holes: holes.into_iter().peekable() };
    if let Content::Inline(bytes) = &entry.content {
        return Ok(data.read(bytes.len()).map_err(fail)?.as_ref() == Some(bytes));
    }
    let mut list = ContentReader::new(&entry.content);
    while let Some(chunk) = list.next_chunk(chunks)? {
        vault.access.check_interrupt()?;
        let Some(bytes) = data.read(chunk.len as usize).map_err(fail)? else { return Ok(false) };
        if chunk_id(chunks.packs.domain(), ChunkKind::Data, &bytes) != chunk.id {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads what of a file lies outside the holes that the snapshot knows.
struct DataReader {
    file: File,
    offset: u64,
    holes: std::iter::Peekable<std::vec::IntoIter<Hole>>,
}

impl DataReader {
    /// The next `len` bytes; `None` if the file ends before.
    fn read(&mut self, len: usize) -> std::io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            while let Some(hole) = self.holes.next_if(|hole| hole.offset == self.offset) {
                self.offset += hole.len;
                self.file.seek(SeekFrom::Start(self.offset))?;
            }
            let until = self.holes.peek().map_or(u64::MAX, |hole| hole.offset);
            let now = usize::try_from(until - self.offset).unwrap_or(usize::MAX).min(len - done);
            match self.file.read_exact(&mut bytes[done..done + now]) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            done += now;
            self.offset += now as u64;
        }
        Ok(Some(bytes))
    }
}

/// Whether there is nothing but zeros where the snapshot has a hole. Holes of the file itself are not read.
fn is_zero(file: &mut File, hole: Hole) -> std::io::Result<bool> {
    let end = hole.offset + hole.len;
    let mut at = hole.offset;
    let mut buffer = [0; 65_536];
    while at < end {
        let Some(data) = next_data(file, at)?.filter(|data| data.start < end) else { return Ok(true) };
        at = data.start.max(at);
        let stop = data.end.min(end);
        file.seek(SeekFrom::Start(at))?;
        while at < stop {
            let room = usize::try_from(stop - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let len = file.read(&mut buffer[..room])?;
            if len == 0 {
                return Ok(true);
            }
            if buffer[..len].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += len as u64;
        }
    }
    Ok(true)
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
