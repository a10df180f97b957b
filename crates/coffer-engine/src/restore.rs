//! Restore: a snapshot, or a part of it, into a directory.
//!
//! One thread walks the tree and plans; workers open frames and write. The unit of work is a frame with all pieces of files that come
//! from it, so a frame is opened once for the small files in it. A file appears whole: it gets its name after its last byte.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_collect::{
    CollectError, DirectoryTarget, EntryKind, EntryPath, FilePlace, FileWriter, Metadata, SpecialOutcome,
    TargetOptions, Warning,
};
use coffer_format::id::ChunkId;
use coffer_format::pack::ChunkKind;
use coffer_format::path::is_within;
use coffer_format::tree::{ChunkRef, Content, Hole, Kind, TreeEntry};
use coffer_pipeline::pack_reader::FrameReader;
use crossbeam_channel::{Receiver, Sender};

use crate::error::EngineError;
use crate::index::Place;
use crate::read::{ChunkReader, Packs, chunk_in_frame};
use crate::tree_reader::{ContentReader, TreeReader, holes, path_text, xattrs};
use crate::vault::{Snapshot, Vault};

/// Frames whose pieces are gathered at the same time.
const OPEN_FRAME_COUNT: usize = 8;

/// What is restored, and how.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Only this path and what lies below it; empty for everything.
    pub within: Vec<u8>,
    /// How entries are written.
    pub target: TargetOptions,
    /// Threads that open frames and write.
    pub worker_count: usize,
    /// How many files and directories this process may have open.
    pub open_file_count_max: usize,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Entries written.
    pub entry_count: u64,
    /// Files among them.
    pub file_count: u64,
    /// Bytes of content written.
    pub content_bytes: u64,
    /// Entries that could not be written: path and message.
    pub errors: Vec<(String, String)>,
    /// Metadata that could not be applied, and entries skipped on purpose.
    pub warnings: Vec<String>,
    /// Whether damage was met on the way, even if all was restored.
    pub degraded: bool,
}

/// Hears how a restore goes. Called from one thread.
pub trait RestoreObserver {
    /// An entry was planned; `size` is its length if it is a file.
    fn entry(&mut self, path: &[u8], size: u64);
}

/// Restores a snapshot into `target`, which is made if it is not there. Files that are there are replaced.
///
/// # Errors
/// [`EngineError::NoPath`] when the path is not in the snapshot; errors of single entries are in the report.
pub fn restore(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
    observer: &mut dyn RestoreObserver,
) -> Result<RestoreReport, EngineError> {
    let domain = snapshot.state.body.domain;
    let shared = Shared {
        packs: Packs::new(vault, &domain)?,
        outcome: Mutex::new(RestoreReport::default()),
        unread: Mutex::new(Vec::new()),
    };
    let worker_count = options.worker_count.max(1);
    let (jobs, queue) = crossbeam_channel::bounded(2 * worker_count);
    let mut target = DirectoryTarget::open(target, options.target.clone())?;
    let plan = std::thread::scope(|scope| {
        for _ in 0..worker_count {
            let (queue, shared) = (queue.clone(), &shared);
            scope.spawn(move || work(&queue, shared));
        }
        drop(queue);
        let mut plan = Plan {
            vault,
            snapshot,
            chunks: ChunkReader::new(vault, &domain)?,
            shared: &shared,
            jobs: Some(jobs),
            piece_count_max: piece_count_max(
                options.open_file_count_max,
                3 * worker_count + OPEN_FRAME_COUNT,
            ),
            options,
            observer,
            open: VecDeque::new(),
            links: Vec::new(),
            seen: HashSet::new(),
            found: false,
        };
        plan.run(&mut target)?;
        plan.jobs = None;
        Ok::<_, EngineError>(plan)
    })?;
    let Plan { mut chunks, links, .. } = plan;
    shared.read_elsewhere(&mut chunks);
    for (path, first) in links {
        let linked = target.hard_link(&path, &first);
        shared.note(|report| match linked {
            Ok(()) => report.entry_count += 1,
            Err(error) => report.errors.push((path.to_string(), chain(&error))),
        });
    }
    let mut report = shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.warnings.extend(target.finish().iter().map(warning_text));
    report.degraded |= chunks.is_degraded();
    report.errors.sort();
    Ok(report)
}

/// How many pieces may wait in one job, so that the directories they hold open stay within the limit of open files.
const fn piece_count_max(open_file_count_max: usize, job_count: usize) -> usize {
    const RESERVED: usize = 256;
    const LEAST: usize = 16;
    let count = open_file_count_max.saturating_sub(RESERVED) / job_count;
    if count < LEAST { LEAST } else { count }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn warning_text(warning: &Warning) -> String {
    match &warning.cause {
        Some(cause) => format!("{warning}: {cause}"),
        None => warning.to_string(),
    }
}

struct Shared<'v> {
    packs: Packs<'v>,
    outcome: Mutex<RestoreReport>,
    /// Pieces whose frame could not be read; they are looked for elsewhere when all else is done.
    unread: Mutex<Vec<Piece>>,
}

impl Shared<'_> {
    fn note(&self, change: impl FnOnce(&mut RestoreReport)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reads from other places what the first place did not give.
    fn read_elsewhere(&self, chunks: &mut ChunkReader<'_>) {
        let unread = std::mem::take(&mut *self.unread.lock().unwrap_or_else(PoisonError::into_inner));
        for piece in unread {
            let chunk = ChunkRef { id: piece.chunk, len: piece.place.len };
            match chunks.read(ChunkKind::Data, &chunk) {
                Ok(bytes) => {
                    self.note(|report| report.degraded = true);
                    piece.write(&bytes, self);
                }
                Err(error) => piece.file.fail(self, &error, true),
            }
            piece.file.piece_done(self);
        }
    }
}

enum Writer {
    /// Not begun: until then only its directory is open.
    Later(FilePlace),
    Begun(Arc<FileWriter>),
    /// Finished or given up.
    Done,
}

/// A file that is being written by one or more workers.
struct OpenFile {
    writer: Mutex<Writer>,
    metadata: Metadata,
    /// Pieces still to be written, and one for the plan until it has handed out all.
    left: AtomicUsize,
    /// Ends in a hole, so its length has to be set.
    set_len: Option<u64>,
}

impl OpenFile {
    fn take(&self) -> Writer {
        std::mem::replace(&mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner), Writer::Done)
    }

    /// The writer, begun if it was not yet; `None` if the file was given up.
    fn writer(&self) -> Result<Option<Arc<FileWriter>>, CollectError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *writer, Writer::Done) {
            Writer::Later(place) => {
                let begun = Arc::new(place.begin()?);
                *writer = Writer::Begun(Arc::clone(&begun));
                Ok(Some(begun))
            }
            Writer::Begun(begun) => {
                *writer = Writer::Begun(Arc::clone(&begun));
                Ok(Some(begun))
            }
            Writer::Done => Ok(None),
        }
    }

    /// One piece fewer is left; after the last one the file gets its metadata and its name.
    fn piece_done(&self, shared: &Shared<'_>) {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let Ok(Some(writer)) = self.writer() else { return };
        drop(self.take());
        let path = writer.path().to_string();
        // All pieces are done, so nobody else holds the writer.
        let Some(writer) = Arc::into_inner(writer) else { return };
        let sized = self.set_len.map_or(Ok(()), |len| writer.set_len(len));
        match sized.and_then(|()| writer.finish(&self.metadata)) {
            Ok(warnings) => shared.note(|report| {
                report.entry_count += 1;
                report.file_count += 1;
                report.content_bytes += self.metadata.size;
                report.warnings.extend(warnings.iter().map(warning_text));
            }),
            Err(error) => shared.note(|report| report.errors.push((path, chain(&error)))),
        }
    }

    /// Gives the file up: what was written goes, its name does not appear.
    fn fail(&self, shared: &Shared<'_>, error: &dyn std::error::Error, damage: bool) {
        let path = match self.take() {
            Writer::Later(place) => place.path().to_string(),
            Writer::Begun(writer) => writer.path().to_string(),
            Writer::Done => return,
        };
        shared.note(|report| {
            report.errors.push((path, chain(error)));
            report.degraded |= damage;
        });
    }
}

/// A run of bytes of one file that comes from one chunk.
struct Piece {
    file: Arc<OpenFile>,
    chunk: ChunkId,
    place: Place,
    /// Offset in the chunk.
    from: u32,
    file_offset: u64,
    len: u32,
}

impl Piece {
    /// Writes the piece out of the bytes of its chunk.
    fn write(&self, chunk: &[u8], shared: &Shared<'_>) {
        let bytes = &chunk[self.from as usize..][..self.len as usize];
        let written = match self.file.writer() {
            Ok(Some(writer)) => writer.write_at(self.file_offset, bytes),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.file.fail(shared, &error, false);
        }
    }
}

/// Opens the frame that all pieces of a job come from, and writes them.
fn work(queue: &Receiver<Vec<Piece>>, shared: &Shared<'_>) {
    let mut sealed = Vec::new();
    let mut reader = FrameReader::new();
    for pieces in queue {
        let Some(first) = pieces.first() else { continue };
        let opened = match &mut reader {
            Ok(reader) => shared.packs.frame(&first.place, reader, &mut sealed),
            Err(_) => Err(EngineError::WorkerGone),
        };
        let (kind, plain) = opened.unwrap_or((ChunkKind::Meta, &[]));
        for piece in pieces {
            let keys = shared.packs.domain();
            let checked = if kind == ChunkKind::Data {
                chunk_in_frame(keys, kind, &piece.chunk, &piece.place, plain)
            } else {
                Err(EngineError::WorkerGone)
            };
            match checked {
                Ok(bytes) => {
                    piece.write(bytes, shared);
                    piece.file.piece_done(shared);
                }
                Err(_) => shared.unread.lock().unwrap_or_else(PoisonError::into_inner).push(piece),
            }
        }
    }
}

struct Plan<'p, 'v, 'a> {
    vault: &'p Vault<'a>,
    snapshot: &'p Snapshot,
    chunks: ChunkReader<'a>,
    shared: &'p Shared<'v>,
    jobs: Option<Sender<Vec<Piece>>>,
    piece_count_max: usize,
    options: &'p RestoreOptions,
    observer: &'p mut dyn RestoreObserver,
    /// Pieces of the frames that are being gathered, the one used last at the end.
    open: VecDeque<Vec<Piece>>,
    /// Hard links, made when all files are there.
    links: Vec<(EntryPath, EntryPath)>,
    /// First paths of the hard link groups that are restored here.
    seen: HashSet<Vec<u8>>,
    found: bool,
}

impl Plan<'_, '_, '_> {
    fn run(&mut self, target: &mut DirectoryTarget) -> Result<(), EngineError> {
        let mut tree = TreeReader::within(&self.snapshot.manifest.root, self.options.within.clone());
        let mut lost = false;
        while let Some(leaf) = tree.next_leaf(&mut self.chunks) {
            self.vault.access.check_interrupt()?;
            match leaf {
                Ok(leaf) => leaf.entries.iter().for_each(|entry| self.entry(entry, target)),
                Err(subtree) => {
                    lost = true;
                    let path = format!("entries up to {}", path_text(&subtree.last_path));
                    self.shared.note(|report| {
                        report.errors.push((path, chain(&subtree.error)));
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

    fn entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) {
        let below = is_within(&entry.path, &self.options.within);
        // The directories above the path are restored with it, so that it stands where it stood.
        let above = entry.kind == Kind::Directory && is_within(&self.options.within, &entry.path);
        if !below && !above {
            return;
        }
        self.found |= below;
        self.observer.entry(&entry.path, entry.size);
        let outcome = self.place_entry(entry, target);
        if let Err(error) = outcome {
            let damage = matches!(error, EngineError::ChunkLost { .. } | EngineError::Damaged { .. });
            self.shared.note(|report| {
                report.errors.push((path_text(&entry.path), chain(&error)));
                report.degraded |= damage;
            });
        }
    }

    fn place_entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) -> Result<(), EngineError> {
        let path = EntryPath::new(entry.path.clone())?;
        if let Some(first) = &entry.hard_link {
            if self.seen.contains(first) {
                self.links.push((path, EntryPath::new(first.clone())?));
                return Ok(());
            }
            return self.link_from_outside(entry, first, target);
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
                self.remember_link(entry);
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
                self.remember_link(entry);
                self.shared.note(|report| {
                    report.entry_count += 1;
                    report.warnings.extend(warnings.iter().map(warning_text));
                });
            }
            SpecialOutcome::Skipped(reason) => {
                self.shared.note(|report| report.warnings.push(format!("{path}: skipped: {reason}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn remember_link(&mut self, entry: &TreeEntry) {
        self.seen.insert(entry.path.clone());
    }

    /// A hard link whose first path is not restored here becomes a file of its own, with that one's content.
    fn link_from_outside(
        &mut self,
        entry: &TreeEntry,
        first: &[u8],
        target: &mut DirectoryTarget,
    ) -> Result<(), EngineError> {
        let mut tree = TreeReader::within(&self.snapshot.manifest.root, first.to_vec());
        while let Some(Ok(leaf)) = tree.next_leaf(&mut self.chunks) {
            let found = leaf.entries.into_iter().find(|found| found.path == first);
            if let Some(mut own) = found.filter(|found| found.hard_link.is_none()) {
                own.path.clone_from(&entry.path);
                return self.place_entry(&own, target);
            }
        }
        Err(EngineError::NoPath { path: path_text(first) })
    }

    fn file(
        &mut self,
        entry: &TreeEntry,
        path: &EntryPath,
        metadata: Metadata,
        target: &mut DirectoryTarget,
    ) -> Result<(), EngineError> {
        let holes = holes(entry, &mut self.chunks)?;
        let place = target.file_later(path)?;
        self.seen.insert(entry.path.clone());
        let set_len = holes.last().filter(|hole| hole.offset + hole.len == entry.size).map(|_| entry.size);
        let writer = Mutex::new(Writer::Later(place));
        let file = Arc::new(OpenFile { writer, metadata, left: AtomicUsize::new(1), set_len });
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

    fn write_inline(
        &self,
        file: &Arc<OpenFile>,
        mut bytes: &[u8],
        ranges: &mut DataRanges<'_>,
    ) -> Result<(), EngineError> {
        while !bytes.is_empty() {
            let (offset, len) = ranges.take(bytes.len() as u64)?;
            let (now, rest) = bytes.split_at(usize::try_from(len).unwrap_or(bytes.len()));
            if let Some(writer) = file.writer()? {
                writer.write_at(offset, now)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn chunk_pieces(
        &mut self,
        file: &Arc<OpenFile>,
        content: &Content,
        ranges: &mut DataRanges<'_>,
    ) -> Result<(), EngineError> {
        let mut content = ContentReader::new(content);
        while let Some(chunk) = content.next_chunk(&mut self.chunks)? {
            self.pieces(file, &chunk, ranges)?;
        }
        Ok(())
    }

    /// Plans the pieces that one chunk gives.
    fn pieces(
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
    fn add(&mut self, piece: Piece) {
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

    fn submit(&self, pieces: Vec<Piece>) {
        if let Some(jobs) = &self.jobs {
            // Workers end only when this sender is dropped.
            drop(jobs.send(pieces));
        }
    }

    fn flush(&mut self) {
        while let Some(pieces) = self.open.pop_front() {
            self.submit(pieces);
        }
    }

    fn metadata(&mut self, entry: &TreeEntry) -> Result<Metadata, EngineError> {
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
struct DataRanges<'h> {
    offset: u64,
    size: u64,
    holes: &'h [Hole],
}

impl<'h> DataRanges<'h> {
    fn new(size: u64, holes: &'h [Hole]) -> Self {
        let mut ranges = Self { offset: 0, size, holes };
        ranges.pass_hole();
        ranges
    }

    fn pass_hole(&mut self) {
        if let Some((hole, rest)) = self.holes.split_first()
            && hole.offset == self.offset
        {
            self.offset += hole.len;
            self.holes = rest;
        }
    }

    /// The next range, of at most `len` bytes.
    fn take(&mut self, len: u64) -> Result<(u64, u64), EngineError> {
        let end = self.holes.first().map_or(self.size, |hole| hole.offset);
        let (offset, len) = (self.offset, len.min(end.saturating_sub(self.offset)));
        if len == 0 {
            return Err(EngineError::invalid("its content is longer than its size says"));
        }
        self.offset += len;
        self.pass_hole();
        Ok((offset, len))
    }

    const fn is_done(&self) -> bool {
        self.offset == self.size
    }
}
