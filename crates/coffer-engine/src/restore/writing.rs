//! Workers: frames opened, pieces of files written, files finished.
//!
//! A file may be written by several workers. Whoever writes its last piece gives it its metadata and its name; whoever meets an error gives
//! it up, and that is noted once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_collect::{EntryPath, FilePlace, FileWriter, Metadata};
use coffer_format::id::ChunkId;
use coffer_format::pack::ChunkKind;
use coffer_format::tree::{ChunkRef, TreeEntry};
use crossbeam_channel::Receiver;

use super::jobs::{Job, Jobs, Ready};
use super::report::{RestoreAction, RestoreReport};
use super::{chain, warning_text};
use crate::error::EngineError;
use crate::index::Place;
use crate::pool::{Budget, Pool};
use crate::read::{ChunkReader, Opener, Packs, chunk_in_frame};
use crate::tree_reader::path_text;

/// What plan and workers share.
pub(super) struct Shared<'v> {
    pub(super) packs: Packs<'v>,
    /// What opens frames: threads that wait for the store need none.
    pub(super) openers: Arc<Pool<Opener>>,
    /// Frames that were fetched and are not written.
    pub(super) budget: Budget,
    pub(super) outcome: Mutex<RestoreReport>,
    /// Pieces whose frame could not be read, and whether because of damage; the plan looks for them elsewhere.
    pub(super) unread: Mutex<Vec<(Piece, bool)>>,
    /// Entries that could not be restored: nothing is linked to what may stand at their paths.
    pub(super) lost_paths: Mutex<HashSet<EntryPath>>,
    /// Counts of the report.
    pub(super) fetched_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) reused_bytes: AtomicU64,
}

impl Shared<'_> {
    /// Notes an entry that could not be restored.
    pub(super) fn failed(&self, path: &EntryPath, error: &dyn std::error::Error, damage: bool) {
        self.lost_paths.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        self.note(|report| {
            report.add_error(path.to_string(), chain(error));
            report.degraded |= damage;
        });
    }

    /// Notes an entry of the tree that could not be restored.
    pub(super) fn failed_entry(&self, entry: &TreeEntry, error: &EngineError) {
        match EntryPath::new(entry.path.clone()) {
            Ok(path) => self.failed(&path, error, error.is_damage()),
            Err(_) => self.note(|report| report.add_error(path_text(&entry.path), chain(error))),
        }
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut RestoreReport)) {
        change(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Content that is in its place, written or found there.
    pub(super) fn done_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed) + self.reused_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_restored(&self, path: &EntryPath) -> bool {
        !self.lost_paths.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    pub(super) fn unread_count(&self) -> usize {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Reads from other places what the first place did not give.
    pub(super) fn read_elsewhere(&self, chunks: &mut ChunkReader<'_>) {
        let unread = std::mem::take(&mut *self.unread.lock().unwrap_or_else(PoisonError::into_inner));
        for (piece, damage) in unread {
            let chunk = ChunkRef { id: piece.chunk, len: piece.place.len };
            match chunks.read(ChunkKind::Data, &chunk) {
                Ok(bytes) => {
                    self.fetched_bytes.fetch_add(u64::from(piece.place.frame.sealed_len), Ordering::Relaxed);
                    self.note(|report| report.degraded |= damage);
                    piece.write(&bytes, self);
                }
                Err(error) => piece.file.fail(self, &error, error.is_damage()),
            }
            piece.file.piece_done(self);
        }
    }
}

/// How far a file is.
pub(super) enum Writer {
    /// Not begun: until then only its directory is open.
    Later(FilePlace),
    Begun(Arc<FileWriter>),
    /// It has its name.
    Finished,
    /// It was given up, and that is in the report.
    Failed,
}

/// A file that is being written by one or more workers.
pub(super) struct OpenFile {
    pub(super) path: EntryPath,
    pub(super) writer: Mutex<Writer>,
    pub(super) metadata: Metadata,
    /// Pieces still to be written, and one for the plan until it has handed out all.
    pub(super) left: AtomicUsize,
    /// Its length, where that does not follow from what is written.
    pub(super) set_len: Option<u64>,
    /// What is counted when it is done.
    pub(super) action: RestoreAction,
}

impl OpenFile {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer, begun if it was not yet; `None` if the file was given up, now or before.
    pub(super) fn writer(&self, shared: &Shared<'_>) -> Option<Arc<FileWriter>> {
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
    pub(super) fn piece_done(&self, shared: &Shared<'_>) {
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
                report.add(self.action, Some(self.metadata.size));
                report.warnings.extend(warnings.iter().map(warning_text));
            }),
            Err(error) => shared.failed(&self.path, &error, false),
        }
    }

    /// Gives the file up: what was written goes, its name does not appear.
    pub(super) fn fail(&self, shared: &Shared<'_>, error: &dyn std::error::Error, damage: bool) {
        let before = std::mem::replace(&mut *self.lock(), Writer::Failed);
        if !matches!(before, Writer::Failed) {
            shared.failed(&self.path, error, damage);
        }
    }
}

/// A run of bytes of one file that comes from one chunk.
pub(super) struct Piece {
    pub(super) file: Arc<OpenFile>,
    pub(super) chunk: ChunkId,
    pub(super) place: Place,
    /// Offset in the chunk.
    pub(super) from: u32,
    pub(super) file_offset: u64,
    pub(super) len: u32,
}

impl Piece {
    /// Writes the piece out of the bytes of its chunk.
    pub(super) fn write(&self, chunk: &[u8], shared: &Shared<'_>) {
        let bytes = &chunk[self.from as usize..][..self.len as usize];
        let Some(writer) = self.file.writer(shared) else { return };
        match writer.write_at(self.file_offset, bytes) {
            Ok(()) => _ = shared.written_bytes.fetch_add(u64::from(self.len), Ordering::Relaxed),
            Err(error) => {
                drop(writer);
                self.file.fail(shared, &error, false);
            }
        }
    }
}

/// Opens the frame that all pieces of a job come from, unless the job before was of the same, and writes them.
pub(super) fn work(queue: &Receiver<Job>, shared: &Shared<'_>) {
    for Ready { pieces, frame, is_shared, mut is_new } in Jobs::new(queue, &shared.packs, &shared.budget) {
        let Some(place) = pieces.first().map(|piece| piece.place) else { continue };
        let mut opener = shared.openers.take(|opener| opener.has(&place));
        let kept = frame.clone().filter(|_| is_shared);
        let opened = opener.frame(&place, kept, |reader, sealed| match &frame {
            Some(frame) => shared.packs.open_frame(&place, frame, reader).map(drop),
            None => {
                is_new = true;
                shared.packs.frame(&place, reader, sealed).map(drop)
            }
        });
        if is_new && opened.is_ok() {
            shared.fetched_bytes.fetch_add(u64::from(place.frame.sealed_len), Ordering::Relaxed);
        }
        // A chunk with holes has many pieces, one behind the other: it is checked once.
        let mut checked: Option<(ChunkId, u32, &[u8])> = None;
        for piece in pieces {
            let keys = shared.packs.domain();
            let damage = match &opened {
                Ok((ChunkKind::Data, plain)) => {
                    let (chunk, place) = (piece.chunk, &piece.place);
                    if checked.is_none_or(|(id, offset, _)| (id, offset) != (chunk, place.offset)) {
                        checked = chunk_in_frame(keys, ChunkKind::Data, &chunk, place, plain)
                            .ok()
                            .map(|bytes| (chunk, place.offset, bytes));
                    }
                    if let Some((.., bytes)) = checked {
                        piece.write(bytes, shared);
                        piece.file.piece_done(shared);
                        continue;
                    }
                    true
                }
                Ok(_) => true,
                Err(error) => !error.is_unasked(),
            };
            shared.unread.lock().unwrap_or_else(PoisonError::into_inner).push((piece, damage));
        }
    }
}
