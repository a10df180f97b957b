//! The plan: the tree walked in path order, and for each file the pieces that make it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_collect::{DirectoryTarget, EntryKind, EntryPath, Metadata, SpecialOutcome};
use coffer_format::path::is_within;
use coffer_format::tree::{ChunkRef, Content, Hole, Kind, TreeEntry};
use crossbeam_channel::Sender;

use super::writing::{OpenFile, Piece, Shared, Writer};
use super::{
    OPEN_FRAME_COUNT, RestoreObserver, RestoreOptions, UNREAD_COUNT_MAX, chain, lookup, warning_text,
};
use crate::error::EngineError;
use crate::index::Place;
use crate::read::ChunkReader;
use crate::tree_reader::{ContentReader, TreeReader, holes, path_text, xattrs};
use crate::vault::{Snapshot, Vault};

/// The plan of one restore, and what it has gathered so far.
pub(super) struct Plan<'p, 'v, 'a> {
    pub(super) vault: &'p Vault<'a>,
    pub(super) snapshot: &'p Snapshot,
    pub(super) chunks: ChunkReader<'a>,
    pub(super) shared: &'p Shared<'v>,
    pub(super) jobs: Option<Sender<Vec<Piece>>>,
    pub(super) piece_count_max: usize,
    pub(super) options: &'p RestoreOptions,
    pub(super) observer: &'p mut dyn RestoreObserver,
    /// Pieces of the frames that are being gathered, the one used last at the end.
    pub(super) open: VecDeque<Vec<Piece>>,
    /// Hard links, made when all files are there.
    pub(super) links: Vec<Link>,
    /// First paths that lie outside the part that is restored, and the path that was restored in their place.
    pub(super) stand_ins: HashMap<Vec<u8>, EntryPath>,
    pub(super) found: bool,
}

/// A hard link that is still to be made.
pub(super) struct Link {
    pub(super) path: EntryPath,
    /// What it is a link to: the first path of its group, or what stands in for that.
    pub(super) first: EntryPath,
    pub(super) is_stand_in: bool,
}

impl Plan<'_, '_, '_> {
    pub(super) fn run(&mut self, target: &mut DirectoryTarget) -> Result<(), EngineError> {
        self.ancestors(target);
        let mut tree = TreeReader::within(&self.snapshot.manifest.root, self.options.within.clone());
        let mut lost = false;
        while let Some(leaf) = tree.next_leaf(&mut self.chunks) {
            self.vault.access.check_interrupt()?;
            if self.shared.unread_count() >= UNREAD_COUNT_MAX {
                self.shared.read_elsewhere(&mut self.chunks);
            }
            match leaf {
                Ok(leaf) => leaf.entries.iter().for_each(|entry| self.entry(entry, target)),
                Err(subtree) => {
                    lost = true;
                    let path = format!("entries up to {}", path_text(&subtree.last_path));
                    self.shared.note(|report| {
                        report.add_error(path, chain(&subtree.error));
                        report.degraded = true;
                    });
                }
            }
        }
        self.flush();
        if self.found || lost || self.options.within.is_empty() {
            return Ok(());
        }
        Err(EngineError::NoPath { path: path_text(&self.options.within) })
    }

    /// The directories above a part that is restored come with their own mode: what is private stays so.
    pub(super) fn ancestors(&mut self, target: &mut DirectoryTarget) {
        let within = self.options.within.clone();
        let ends = within.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends: Vec<usize> = (!within.is_empty()).then_some(0).into_iter().chain(ends).collect();
        for end in ends {
            // An ancestor that cannot be read is made with a mode that lets nobody else in.
            if let Ok(Some(entry)) = lookup(self.snapshot, &within[..end], &mut self.chunks)
                && entry.kind == Kind::Directory
            {
                self.write_entry(&entry, target);
            }
        }
    }

    pub(super) fn entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) {
        if is_within(&entry.path, &self.options.within) {
            self.found = true;
            self.write_entry(entry, target);
        }
    }

    pub(super) fn write_entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) {
        self.observer.entry(&entry.path, entry.size);
        let outcome = self.place_entry(entry, target);
        if let Err(error) = outcome {
            let damage = matches!(error, EngineError::ChunkLost { .. } | EngineError::Damaged { .. });
            match EntryPath::new(entry.path.clone()) {
                Ok(path) => self.shared.failed(&path, &error, damage),
                Err(_) => self.shared.note(|report| report.add_error(path_text(&entry.path), chain(&error))),
            }
        }
    }

    pub(super) fn place_entry(
        &mut self,
        entry: &TreeEntry,
        target: &mut DirectoryTarget,
    ) -> Result<(), EngineError> {
        let path = EntryPath::new(entry.path.clone())?;
        if let Some(first) = &entry.hard_link {
            if is_within(first, &self.options.within) {
                self.links.push(Link { path, first: EntryPath::new(first.clone())?, is_stand_in: false });
                return Ok(());
            }
            if let Some(stand_in) = self.stand_ins.get(first) {
                self.links.push(Link { path, first: stand_in.clone(), is_stand_in: true });
                return Ok(());
            }
            self.link_from_outside(entry, first, target)?;
            self.stand_ins.insert(first.clone(), path);
            return Ok(());
        }
        let metadata = self.metadata(entry)?;
        let kind = match entry.kind {
            Kind::Directory => {
                target.directory(&path, &metadata)?;
                self.shared.note(|report| report.entry_count += 1);
                return Ok(());
            }
            Kind::File => return self.file(entry, &path, metadata, target),
            Kind::Symlink => {
                let warnings = target.symlink(&path, &metadata)?;
                self.shared.note(|report| {
                    report.entry_count += 1;
                    report.warnings.extend(warnings.iter().map(warning_text));
                });
                return Ok(());
            }
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => EntryKind::Socket,
            Kind::CharDevice => EntryKind::CharDevice,
            Kind::BlockDevice => EntryKind::BlockDevice,
            Kind::Resource => {
                return Err(EngineError::invalid("a service resource is not restored into a directory"));
            }
        };
        match target.special(&path, kind, &metadata)? {
            SpecialOutcome::Created(warnings) => {
                self.shared.note(|report| {
                    report.entry_count += 1;
                    report.warnings.extend(warnings.iter().map(warning_text));
                });
            }
            SpecialOutcome::Skipped(reason) => {
                // Nothing is linked to what may stand there.
                self.shared.lost_paths.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
                self.shared.note(|report| report.warnings.push(format!("{path}: skipped: {reason}")));
            }
            _ => {}
        }
        Ok(())
    }

    /// A hard link whose first path is not restored here becomes a file of its own, with that one's content. Later links of the
    /// group are made to it.
    pub(super) fn link_from_outside(
        &mut self,
        entry: &TreeEntry,
        first: &[u8],
        target: &mut DirectoryTarget,
    ) -> Result<(), EngineError> {
        let found = lookup(self.snapshot, first, &mut self.chunks)?.filter(|found| found.hard_link.is_none());
        let Some(mut own) = found else { return Err(EngineError::NoPath { path: path_text(first) }) };
        own.path.clone_from(&entry.path);
        self.place_entry(&own, target)
    }

    pub(super) fn file(
        &mut self,
        entry: &TreeEntry,
        path: &EntryPath,
        metadata: Metadata,
        target: &mut DirectoryTarget,
    ) -> Result<(), EngineError> {
        let holes = holes(entry, &mut self.chunks)?;
        let place = target.file_later(path)?;
        let set_len = holes.last().filter(|hole| hole.offset + hole.len == entry.size).map(|_| entry.size);
        let writer = Mutex::new(Writer::Later(place));
        let left = AtomicUsize::new(1);
        let file = Arc::new(OpenFile { path: path.clone(), writer, metadata, left, set_len });
        let mut ranges = DataRanges::new(entry.size, &holes);
        let planned = match &entry.content {
            Content::Inline(bytes) => self.write_inline(&file, bytes, &mut ranges),
            content => self.chunk_pieces(&file, content, &mut ranges),
        };
        match planned {
            Ok(()) if ranges.is_done() => {}
            Ok(()) => {
                let error = EngineError::invalid("its content is not as long as its size says");
                file.fail(self.shared, &error, true);
            }
            Err(error) => file.fail(self.shared, &error, true),
        }
        file.piece_done(self.shared);
        Ok(())
    }

    pub(super) fn write_inline(
        &self,
        file: &Arc<OpenFile>,
        mut bytes: &[u8],
        ranges: &mut DataRanges<'_>,
    ) -> Result<(), EngineError> {
        while !bytes.is_empty() {
            let (offset, len) = ranges.take(bytes.len() as u64)?;
            let (now, rest) = bytes.split_at(usize::try_from(len).unwrap_or(bytes.len()));
            if let Some(writer) = file.writer(self.shared) {
                writer.write_at(offset, now)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    pub(super) fn chunk_pieces(
        &mut self,
        file: &Arc<OpenFile>,
        content: &Content,
        ranges: &mut DataRanges<'_>,
    ) -> Result<(), EngineError> {
        let mut content = ContentReader::new(content);
        while let Some(chunk) = content.next_chunk(&mut self.chunks)? {
            self.vault.access.check_interrupt()?;
            self.pieces(file, &chunk, ranges)?;
        }
        Ok(())
    }

    /// Plans the pieces that one chunk gives.
    pub(super) fn pieces(
        &mut self,
        file: &Arc<OpenFile>,
        chunk: &ChunkRef,
        ranges: &mut DataRanges<'_>,
    ) -> Result<(), EngineError> {
        let fits = |place: &Place| place.len == chunk.len;
        let mut place = self.chunks.index.places(&chunk.id).into_iter().find(fits);
        if place.is_none() {
            self.chunks.recover()?;
            place = self.chunks.index.places(&chunk.id).into_iter().find(fits);
            self.shared.note(|report| report.degraded = true);
        }
        let place = place.ok_or_else(|| EngineError::ChunkLost { id: chunk.id.to_string(), source: None })?;
        let mut from = 0;
        while from < chunk.len {
            let (file_offset, len) = ranges.take(u64::from(chunk.len - from))?;
            let len = u32::try_from(len).unwrap_or(chunk.len - from);
            file.left.fetch_add(1, Ordering::AcqRel);
            self.add(Piece { file: Arc::clone(file), chunk: chunk.id, place, from, file_offset, len });
            from += len;
        }
        Ok(())
    }

    /// Puts a piece with the others of its frame. A few frames are gathered at once: files that were changed lie in newer
    /// packs than their neighbours.
    pub(super) fn add(&mut self, piece: Piece) {
        let frame = |piece: &Piece| (piece.place.pack.id, piece.place.frame_number);
        let same = |job: &Vec<Piece>| job.first().is_some_and(|first| frame(first) == frame(&piece));
        let position = self.open.iter().position(same);
        let mut job = position.and_then(|position| self.open.remove(position)).unwrap_or_default();
        job.push(piece);
        if job.len() >= self.piece_count_max {
            self.submit(job);
            return;
        }
        self.open.push_back(job);
        if self.open.len() > OPEN_FRAME_COUNT
            && let Some(oldest) = self.open.pop_front()
        {
            self.submit(oldest);
        }
    }

    pub(super) fn submit(&self, pieces: Vec<Piece>) {
        if let Some(jobs) = &self.jobs {
            // Workers end only when this sender is dropped.
            drop(jobs.send(pieces));
        }
    }

    pub(super) fn flush(&mut self) {
        while let Some(pieces) = self.open.pop_front() {
            self.submit(pieces);
        }
    }

    pub(super) fn metadata(&mut self, entry: &TreeEntry) -> Result<Metadata, EngineError> {
        Ok(Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user.clone(),
            group: entry.group.clone(),
            mtime_ns: entry.mtime_ns,
            size: entry.size,
            link_target: entry.link_target.clone(),
            xattrs: xattrs(entry, &mut self.chunks)?,
            device: entry.device,
        })
    }
}

/// The parts of a file that are not holes, taken from the front.
pub(super) struct DataRanges<'h> {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) holes: &'h [Hole],
}

impl<'h> DataRanges<'h> {
    pub(super) fn new(size: u64, holes: &'h [Hole]) -> Self {
        let mut ranges = Self { offset: 0, size, holes };
        ranges.pass_hole();
        ranges
    }

    pub(super) fn pass_hole(&mut self) {
        if let Some((hole, rest)) = self.holes.split_first()
            && hole.offset == self.offset
        {
            self.offset += hole.len;
            self.holes = rest;
        }
    }

    /// The next range, of at most `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<(u64, u64), EngineError> {
        let end = self.holes.first().map_or(self.size, |hole| hole.offset);
        let (offset, len) = (self.offset, len.min(end.saturating_sub(self.offset)));
        if len == 0 {
            return Err(EngineError::invalid("its content is longer than its size says"));
        }
        self.offset += len;
        self.pass_hole();
        Ok((offset, len))
    }

    pub(super) const fn is_done(&self) -> bool {
        self.offset == self.size
    }
}
