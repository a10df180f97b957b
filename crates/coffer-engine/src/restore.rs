//! Restore: a snapshot, or a part of it, into a directory.
//!
//! One thread walks the tree and plans; workers open frames and write. The unit of work is a frame with all pieces of files that come
//! from it, so a frame is opened once for the small files in it. In a directory that was there before, a file gets its name after its
//! last byte; in one that this restore made, at once, and it goes again if it cannot be completed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_collect::{
    DirectoryTarget, EntryKind, EntryPath, FilePlace, FileWriter, Metadata, SpecialOutcome, TargetOptions,
    Warning,
};
use coffer_format::id::ChunkId;
use coffer_format::pack::ChunkKind;
use coffer_format::path::{compare_paths, is_within};
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

/// Pieces that are looked for elsewhere at once; each may hold a directory open.
const UNREAD_COUNT_MAX: usize = 256;

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
    /// Entries that could not be written: path and message, at most 10,000.
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
    fn add_error(&mut self, path: String, message: String) {
        self.error_count += 1;
        if self.errors.len() < ERROR_COUNT_MAX {
            self.errors.push((path, message));
        }
    }
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
        lost_paths: Mutex::new(HashSet::new()),
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
            stand_ins: HashMap::new(),
            found: false,
        };
        plan.run(&mut target)?;
        plan.jobs = None;
        Ok::<_, EngineError>(plan)
    })?;
    let Plan { mut chunks, links, .. } = plan;
    shared.read_elsewhere(&mut chunks);
    for Link { path, first, is_stand_in } in links {
        // Only what this restore has written is linked to, never what stood there before.
        let made = shared.is_restored(&first) && (is_stand_in || has_content(snapshot, &first, &mut chunks));
        let linked = if made {
            target.hard_link(&path, &first).map_err(EngineError::from)
        } else {
            Err(EngineError::invalid(format!("{first}, which it is a hard link to, was not restored")))
        };
        match linked {
            Ok(()) => shared.note(|report| report.entry_count += 1),
            Err(error) => shared.failed(&path, &error, false),
        }
    }
    let mut report = shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.warnings.extend(target.finish().iter().map(warning_text));
    report.degraded |= chunks.is_degraded();
    report.errors.sort();
    Ok(report)
}

/// Whether the snapshot has an entry at `path` that hard links can lead to.
fn has_content(snapshot: &Snapshot, path: &EntryPath, chunks: &mut ChunkReader<'_>) -> bool {
    lookup(snapshot, path.as_bytes(), chunks).is_ok_and(|entry| {
        entry.is_some_and(|entry| entry.kind != Kind::Directory && entry.hard_link.is_none())
    })
}

/// The entry at `path`; `None` if the snapshot has none.
fn lookup(
    snapshot: &Snapshot,
    path: &[u8],
    chunks: &mut ChunkReader<'_>,
) -> Result<Option<TreeEntry>, EngineError> {
    let mut tree = TreeReader::within(&snapshot.manifest.root, path.to_vec());
    while let Some(leaf) = tree.next_leaf(chunks) {
        let leaf = leaf.map_err(|lost| lost.error)?;
        let found = leaf.entries.into_iter().find(|entry| compare_paths(&entry.path, path).is_ge());
        if let Some(entry) = found {
            return Ok(Some(entry).filter(|entry| entry.path == path));
        }
    }
    Ok(None)
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
    /// Pieces whose frame could not be read; the plan looks for them elsewhere.
    unread: Mutex<Vec<Piece>>,
    /// Entries that could not be restored: nothing is linked to what may stand at their paths.
    lost_paths: Mutex<HashSet<EntryPath>>,
}

impl Shared<'_> {
    /// Notes an entry that could not be restored.
    fn failed(&self, path: &EntryPath, error: &dyn std::error::Error, damage: bool) {
        self.lost_paths.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        self.note(|report| {
            report.add_error(path.to_string(), chain(error));
            report.degraded |= damage;
        });
    }

    fn note(&self, change: impl FnOnce(&mut RestoreReport)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_restored(&self, path: &EntryPath) -> bool {
        !self.lost_paths.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    fn unread_count(&self) -> usize {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).len()
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
    /// It has its name.
    Finished,
    /// It was given up, and that is in the report.
    Failed,
}

/// A file that is being written by one or more workers.
struct OpenFile {
    path: EntryPath,
    writer: Mutex<Writer>,
    metadata: Metadata,
    /// Pieces still to be written, and one for the plan until it has handed out all.
    left: AtomicUsize,
    /// Ends in a hole, so its length has to be set.
    set_len: Option<u64>,
}

impl OpenFile {
    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer, begun if it was not yet; `None` if the file was given up, now or before.
    fn writer(&self, shared: &Shared<'_>) -> Option<Arc<FileWriter>> {
        let mut writer = self.lock();
        match std::mem::replace(&mut *writer, Writer::Failed) {
            Writer::Later(place) => match place.begin() {
                Ok(begun) => {
                    let begun = Arc::new(begun);
                    *writer = Writer::Begun(Arc::clone(&begun));
                    Some(begun)
                }
                Err(error) => {
                    shared.failed(&self.path, &error, false);
                    None
                }
            },
            Writer::Begun(begun) => {
                *writer = Writer::Begun(Arc::clone(&begun));
                Some(begun)
            }
            other => {
                *writer = other;
                None
            }
        }
    }

    /// One piece fewer is left; after the last one the file gets its metadata and its name.
    fn piece_done(&self, shared: &Shared<'_>) {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let Some(writer) = self.writer(shared) else { return };
        *self.lock() = Writer::Finished;
        // All pieces are done, so nobody else holds the writer.
        let Some(writer) = Arc::into_inner(writer) else {
            return shared.failed(&self.path, &EngineError::WorkerGone, false);
        };
        let sized = self.set_len.map_or(Ok(()), |len| writer.set_len(len));
        match sized.and_then(|()| writer.finish(&self.metadata)) {
            Ok(warnings) => shared.note(|report| {
                report.entry_count += 1;
                report.file_count += 1;
                report.content_bytes += self.metadata.size;
                report.warnings.extend(warnings.iter().map(warning_text));
            }),
            Err(error) => shared.failed(&self.path, &error, false),
        }
    }

    /// Gives the file up: what was written goes, its name does not appear.
    fn fail(&self, shared: &Shared<'_>, error: &dyn std::error::Error, damage: bool) {
        let before = std::mem::replace(&mut *self.lock(), Writer::Failed);
        if !matches!(before, Writer::Failed) {
            shared.failed(&self.path, error, damage);
        }
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
        if let Some(writer) = self.file.writer(shared)
            && let Err(error) = writer.write_at(self.file_offset, bytes)
        {
            drop(writer);
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
    links: Vec<Link>,
    /// First paths that lie outside the part that is restored, and the path that was restored in their place.
    stand_ins: HashMap<Vec<u8>, EntryPath>,
    found: bool,
}

/// A hard link that is still to be made.
struct Link {
    path: EntryPath,
    /// What it is a link to: the first path of its group, or what stands in for that.
    first: EntryPath,
    is_stand_in: bool,
}

impl Plan<'_, '_, '_> {
    fn run(&mut self, target: &mut DirectoryTarget) -> Result<(), EngineError> {
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
    fn ancestors(&mut self, target: &mut DirectoryTarget) {
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

    fn entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) {
        if is_within(&entry.path, &self.options.within) {
            self.found = true;
            self.write_entry(entry, target);
        }
    }

    fn write_entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) {
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

    fn place_entry(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget) -> Result<(), EngineError> {
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
    fn link_from_outside(
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

    fn file(
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

    fn write_inline(
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

    fn chunk_pieces(
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
