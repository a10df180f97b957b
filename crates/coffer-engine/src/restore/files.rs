//! Files: the pieces that make a new one, and what an older one lacks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use coffer_collect::{DirectoryTarget, EntryKind, EntryPath, Existing, Metadata, OldFile};
use coffer_format::tree::{ChunkRef, Content, Hole, TreeEntry};

use super::compare::{Comparison, Part, Stretch};
use super::plan::Plan;
use super::ranges::DataRanges;
use super::report::{Overwrite, RestoreAction};
use super::warning_text;
use super::writing::{OpenFile, Piece, Writer};
use crate::error::{EngineError, is_archived};
use crate::index::Place;
use crate::tree_reader::{ContentReader, holes};

/// A file that is to be restored.
struct Planned<'e> {
    entry: &'e TreeEntry,
    path: &'e EntryPath,
    metadata: Metadata,
    holes: &'e [Hole],
}

impl Plan<'_, '_, '_> {
    pub(super) fn file(
        &mut self,
        entry: &TreeEntry,
        path: &EntryPath,
        metadata: Metadata,
        existing: Option<Existing>,
        target: &mut DirectoryTarget,
    ) -> Result<RestoreAction, EngineError> {
        let holes = holes(entry, &mut self.chunks)?;
        let file = Planned { entry, path, metadata, holes: &holes };
        let Some(existing) = existing else { return self.new_file(file, RestoreAction::Create, target) };
        let trusted = self.options.overwrite == Overwrite::IfChanged
            && existing.size() == entry.size
            && existing.mtime_ns() == entry.mtime_ns;
        let settled = existing.is_as_recorded(EntryKind::File, &file.metadata);
        if trusted && settled {
            return Ok(self.unchanged(&file));
        }
        if existing.kind() == Some(EntryKind::Directory) {
            self.clear(path, target);
        }
        // What cannot be read is of no use, and gives way.
        let Ok(old) = existing.open() else { return self.new_file(file, RestoreAction::Update, target) };
        if trusted && let Some(warnings) = old.keep(&file.metadata) {
            return Ok(self.kept(&file, &warnings));
        }
        self.update(file, &old, settled, target)
    }

    /// Its pieces go to workers; whoever writes the last one finishes it.
    fn new_file(
        &mut self,
        file: Planned<'_>,
        action: RestoreAction,
        target: &mut DirectoryTarget,
    ) -> Result<RestoreAction, EngineError> {
        let Planned { entry, path, metadata, holes } = file;
        let place = target.file_later(path)?;
        let ends_in_hole = holes.last().is_some_and(|hole| hole.offset + hole.len == entry.size);
        let set_len = (ends_in_hole || self.options.target.sparse).then_some(entry.size);
        let open = open_file(path, Writer::Later(place), metadata, set_len, action);
        let mut ranges = DataRanges::new(entry.size, holes);
        let planned = match &entry.content {
            Content::Inline(bytes) => self.write_inline(&open, bytes, &mut ranges),
            content => self.chunk_pieces(&open, content, &mut ranges),
        };
        let planned = planned.and_then(|()| {
            let is_done = ranges.is_done();
            is_done
                .then_some(())
                .ok_or_else(|| EngineError::invalid("its content is not as long as its size says"))
        });
        if let Err(error) = planned {
            let damage = error.is_damage() || matches!(error, EngineError::Invalid { .. });
            open.fail(self.shared, &error, damage);
        }
        open.piece_done(self.shared);
        Ok(action)
    }

    fn write_inline(
        &self,
        file: &Arc<OpenFile>,
        bytes: &[u8],
        ranges: &mut DataRanges<'_>,
    ) -> Result<(), EngineError> {
        let parts = ranges.take_all(bytes.len() as u64)?;
        self.write_parts(file, bytes, &parts)
    }

    fn write_parts(
        &self,
        file: &Arc<OpenFile>,
        mut bytes: &[u8],
        parts: &[(u64, u64)],
    ) -> Result<(), EngineError> {
        for (offset, len) in parts {
            let (now, rest) = bytes.split_at(usize::try_from(*len).unwrap_or(bytes.len()));
            if let Some(writer) = file.writer(self.shared) {
                writer.write_at(*offset, now)?;
                self.shared.written_bytes.fetch_add(*len, Ordering::Relaxed);
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
            let place = self.place_of(&chunk)?;
            let mut from = 0;
            while from < chunk.len {
                let part = ranges.take(u64::from(chunk.len - from))?;
                from = self.piece(file, &chunk, place, from, part);
            }
        }
        Ok(())
    }

    /// Where a chunk is, by the index or by the directories of packs.
    fn place_of(&mut self, chunk: &ChunkRef) -> Result<Place, EngineError> {
        let fits = |place: &Place| place.len == chunk.len;
        let mut place = self.chunks.index.places(&chunk.id).into_iter().find(fits);
        // The local table of segments may be wrong; that is no damage.
        if place.is_none() && self.chunks.index.distrust_lookup() {
            place = self.chunks.index.places(&chunk.id).into_iter().find(fits);
        }
        if place.is_none() {
            self.chunks.recover()?;
            place = self.chunks.index.places(&chunk.id).into_iter().find(fits);
            // A segment that is archived is no damage, and may be the one that has it.
            let segments = self.chunks.index.unreadable();
            let damage = !segments.iter().any(|(_, error)| is_archived(error));
            self.shared.note(|report| report.degraded |= damage);
        }
        place.ok_or_else(|| self.chunks.index.unlisted(&chunk.id))
    }

    /// Plans one piece of a chunk, and returns where in the chunk the next one begins.
    fn piece(
        &mut self,
        file: &Arc<OpenFile>,
        chunk: &ChunkRef,
        place: Place,
        from: u32,
        (file_offset, len): (u64, u64),
    ) -> u32 {
        let len = u32::try_from(len).unwrap_or(chunk.len - from);
        file.left.fetch_add(1, Ordering::AcqRel);
        self.add(Piece { file: Arc::clone(file), chunk: chunk.id, place, from, file_offset, len });
        from + len
    }

    /// A file that is there: what it has stays or is copied, what it lacks is fetched.
    fn update(
        &mut self,
        file: Planned<'_>,
        old: &OldFile,
        settled: bool,
        target: &mut DirectoryTarget,
    ) -> Result<RestoreAction, EngineError> {
        let mut open = None;
        let compared = self.compare(&file, old, &mut open, target);
        // In place it was this restore that changed it.
        let moved = open.as_ref().is_none_or(|(_, over)| !over) && !old.is_unchanged();
        let outcome = compared.and_then(|()| {
            let changed = || coffer_collect::CollectError::Changed { path: file.path.clone() };
            if moved { Err(changed().into()) } else { Ok(()) }
        });
        if open.is_none() {
            outcome?;
            if old.existing().size() == file.entry.size {
                if settled {
                    return Ok(self.unchanged(&file));
                }
                if let Some(warnings) = old.keep(&file.metadata) {
                    return Ok(self.kept(&file, &warnings));
                }
            }
            let begun = self.begin(&file, old, file.entry.size, target)?;
            begun.0.piece_done(self.shared);
            return Ok(RestoreAction::Update);
        }
        if let Some((begun, _)) = open {
            if let Err(error) = outcome {
                begun.fail(self.shared, &error, error.is_damage());
            }
            begun.piece_done(self.shared);
        }
        Ok(RestoreAction::Update)
    }

    /// Goes through the file and begins `open` at the first difference.
    fn compare(
        &mut self,
        file: &Planned<'_>,
        old: &OldFile,
        open: &mut Option<(Arc<OpenFile>, bool)>,
        target: &mut DirectoryTarget,
    ) -> Result<(), EngineError> {
        let mut comparison = Comparison::new(file.entry, file.holes);
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            self.vault.access.check_interrupt()?;
            let before = comparison.offset();
            let keys = self.shared.packs.domain();
            let Some(Stretch { is_same, part }) =
                comparison.next(&mut self.chunks, old, keys, &mut buffer)?
            else {
                break;
            };
            if is_same {
                if let Some((begun, is_over)) = open {
                    self.copy(begun, *is_over, old, part.ranges())?;
                }
                continue;
            }
            let begun = match open {
                Some((begun, _)) => Arc::clone(begun),
                None => Arc::clone(&open.insert(self.begin(file, old, before, target)?).0),
            };
            match part {
                Part::Hole(hole) => {
                    if let Some(writer) = begun.writer(self.shared) {
                        writer.write_zeros(hole.offset, hole.len)?;
                    }
                }
                Part::Inline { bytes, ranges } => self.write_parts(&begun, bytes, &ranges)?,
                Part::Chunk { chunk, ranges } => {
                    let place = self.place_of(&chunk)?;
                    let mut from = 0;
                    for range in ranges {
                        from = self.piece(&begun, &chunk, place, from, range);
                    }
                }
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Begins a file that takes over what `old` has before `until`. Says also whether it is the old file itself.
    fn begin(
        &mut self,
        file: &Planned<'_>,
        old: &OldFile,
        until: u64,
        target: &mut DirectoryTarget,
    ) -> Result<(Arc<OpenFile>, bool), EngineError> {
        // Each of these holds its file open: they may not become more than pieces may wait.
        self.begun_count += 1;
        if self.begun_count >= self.piece_count_max {
            self.begun_count = 0;
            self.flush();
        }
        let over = self.options.in_place.then(|| old.write_over(&file.metadata)).flatten();
        let writer = match over {
            Some(writer) => writer,
            None => target.file(file.path)?,
        };
        let is_over = writer.is_over();
        let (writer, size) = (Writer::Begun(Arc::new(writer)), Some(file.entry.size));
        let open = open_file(file.path, writer, file.metadata.clone(), size, RestoreAction::Update);
        let mut ranges = DataRanges::new(file.entry.size, file.holes);
        while ranges.offset() < until {
            let part = ranges.take(until - ranges.offset())?;
            self.copy(&open, is_over, old, &[part])?;
        }
        Ok((open, is_over))
    }

    fn copy(
        &self,
        file: &Arc<OpenFile>,
        is_over: bool,
        old: &OldFile,
        ranges: &[(u64, u64)],
    ) -> Result<(), EngineError> {
        for (offset, len) in ranges {
            self.shared.reused_bytes.fetch_add(*len, Ordering::Relaxed);
            if !is_over && let Some(writer) = file.writer(self.shared) {
                writer.copy_from(old, *offset, *len)?;
            }
        }
        Ok(())
    }

    fn unchanged(&self, file: &Planned<'_>) -> RestoreAction {
        let size = file.entry.size;
        self.shared.reused_bytes.fetch_add(size, Ordering::Relaxed);
        self.shared.note(|report| report.add(RestoreAction::Unchanged, Some(size)));
        RestoreAction::Unchanged
    }

    /// The content was right already, and the file got its metadata.
    fn kept(&self, file: &Planned<'_>, warnings: &[coffer_collect::Warning]) -> RestoreAction {
        let size = file.entry.size;
        self.shared.reused_bytes.fetch_add(size, Ordering::Relaxed);
        self.shared.note(|report| {
            report.add(RestoreAction::Update, Some(size));
            report.warnings.extend(warnings.iter().map(warning_text));
        });
        RestoreAction::Update
    }
}

fn open_file(
    path: &EntryPath,
    writer: Writer,
    metadata: Metadata,
    set_len: Option<u64>,
    action: RestoreAction,
) -> Arc<OpenFile> {
    let (writer, left) = (Mutex::new(writer), AtomicUsize::new(1));
    Arc::new(OpenFile { path: path.clone(), writer, metadata, left, set_len, action })
}
