//! Tables of segments, of a store that is far away: read in long pieces, side by side.
//!
//! What is read stays as far as there is room for it; of the rest only fingerprints are taken. Pages that were read are not asked for again.

use std::collections::VecDeque;

use coffer_format::object::ObjectName;
use coffer_pipeline::segment::SegmentTable;

use super::{Index, Segment, table_of, unusable};
use crate::error::EngineError;
use crate::lookup::fingerprint;
use crate::parallel;

/// Pages that one request brings, at most: 1 MiB.
const PIECE_PAGE_COUNT: usize = 64;
/// Pieces that are in memory at once, beside those that stay.
const PIECE_COUNT_MAX: usize = 32;

/// Pages of a segment that follow each other, counted through both of its tables.
struct Piece {
    segment: usize,
    from: u64,
    end: u64,
    stays: bool,
}

/// What a piece gave.
struct Read {
    /// Those of the chunks that it lists.
    fingerprints: Vec<u64>,
    /// The sealed pages, if they stay.
    sealed: Vec<u8>,
}

/// Pieces of segments in ascending order, some of them read ahead.
#[derive(Default)]
pub(super) struct Pieces {
    waiting: VecDeque<Piece>,
    read: VecDeque<(Piece, Result<Read, EngineError>)>,
}

impl Pieces {
    /// Where the first piece of a segment begins.
    fn first_page(&self, segment: usize) -> Option<u64> {
        let first = self.read.front().map(|(piece, _)| piece).or(self.waiting.front())?;
        (first.segment == segment).then_some(first.from)
    }

    /// The next piece of a segment; `None` if that has no more of them.
    fn next(&mut self, index: &Index<'_>, segment: usize) -> Option<(Piece, Result<Read, EngineError>)> {
        self.first_page(segment)?;
        if self.read.is_empty() {
            let count = PIECE_COUNT_MAX.min(self.waiting.len());
            let in_flight = parallel::in_flight(index.parts.store());
            let read = parallel::map(in_flight, self.waiting.drain(..count), |piece| {
                let read = index.read_piece(&piece);
                (piece, read)
            });
            self.read = read.into();
        }
        self.read.pop_front()
    }
}

impl Segment {
    fn frame_page_count(&self) -> u64 {
        self.reader.head().frame_table().page_count()
    }

    fn page_count(&self) -> u64 {
        self.frame_page_count() + self.reader.head().chunk_table().page_count()
    }

    /// The table that has a page, and the page's number there.
    fn table_page(&self, page: u64) -> (SegmentTable, u64) {
        match page.checked_sub(self.frame_page_count()) {
            Some(page) => (SegmentTable::Chunks, page),
            None => (SegmentTable::Frames, page),
        }
    }

    /// Where a page begins in the object, and where it ends.
    fn page_range(&self, page: u64) -> (u64, u64) {
        let (table, page) = self.table_page(page);
        let (offset, len) = table_of(self.reader.head(), table).page(page);
        (offset, offset + len)
    }

    /// Whether the beginning has the whole page.
    fn has_page(&self, page: u64) -> bool {
        self.page_range(page).1 <= self.beginning.len() as u64
    }

    /// Whether the beginning has everything.
    fn is_whole(&self) -> bool {
        self.beginning.len() as u64 == self.reader.head().object_len()
    }
}

impl Index<'_> {
    /// What is to be read of these segments' tables.
    pub(super) fn pieces_of(&self, segments: &[usize]) -> Pieces {
        let mut waiting = VecDeque::new();
        for position in segments.iter().copied() {
            let segment = &self.segments[position];
            if segment.is_whole() {
                continue;
            }
            let stays = self.makes_room(segment);
            // Questions that frames answer come later, if at all.
            let from = if stays { 0 } else { segment.frame_page_count() };
            let end = segment.page_count();
            let from = (from..end).find(|page| !segment.has_page(*page)).unwrap_or(end);
            waiting.extend((from..end).step_by(PIECE_PAGE_COUNT).map(|from| Piece {
                segment: position,
                from,
                end: end.min(from + PIECE_PAGE_COUNT as u64),
                stays,
            }));
        }
        Pieces { waiting, read: VecDeque::new() }
    }

    /// Whether there is room for all that a segment's beginning lacks. One that has none was given up for want of it.
    fn makes_room(&self, segment: &Segment) -> bool {
        let lacking = segment.reader.head().object_len() - segment.beginning.len() as u64;
        !segment.beginning.is_empty() && usize::try_from(lacking).is_ok_and(|len| self.room.take(len))
    }

    /// Reads what there is room for of the tables of all segments. What cannot be read is left to who needs it.
    pub(super) fn read_tables(&mut self) {
        let lacking = |position: &usize| !self.segments[*position].is_whole();
        let segments: Vec<usize> = (0..self.segments.len()).filter(lacking).collect();
        let mut pieces = self.pieces_of(&segments);
        pieces.waiting.retain(|piece| piece.stays);
        for position in segments {
            while let Some((piece, read)) = pieces.next(self, position) {
                if let Ok(read) = read {
                    self.keep(&piece, &read.sealed);
                }
            }
        }
    }

    fn read_piece(&self, piece: &Piece) -> Result<Read, EngineError> {
        let segment = &self.segments[piece.segment];
        let from = segment.page_range(piece.from).0;
        let (_, end) = segment.page_range(piece.end - 1);
        self.parts.range(ObjectName::Segment(segment.id), (from, end - from), &mut |sealed| {
            let (mut fingerprints, mut plain) = (Vec::new(), Vec::new());
            for page in piece.from..piece.end {
                let (begin, end) = segment.page_range(page);
                let range = usize::try_from(begin - from).ok().zip(usize::try_from(end - from).ok());
                let bytes = range.and_then(|(begin, end)| sealed.get(begin..end)).unwrap_or_default();
                let (table, number) = segment.table_page(page);
                segment.reader.page(table, number, bytes, &mut plain)?;
                if table == SegmentTable::Chunks {
                    fingerprints.extend(fingerprints_in(&plain));
                }
            }
            let sealed = if piece.stays { sealed.to_vec() } else { Vec::new() };
            Ok(Read { fingerprints, sealed })
        })
    }

    /// Puts a piece behind the beginning of its segment, if nothing is missing between them.
    fn keep(&mut self, piece: &Piece, sealed: &[u8]) {
        let segment = &mut self.segments[piece.segment];
        let from = segment.page_range(piece.from).0;
        let is_next = piece.from.checked_sub(1).is_none_or(|before| segment.has_page(before));
        if piece.stays && is_next && from <= segment.beginning.len() as u64 {
            // The beginning may end within a page, which is read anew.
            segment.beginning.truncate(usize::try_from(from).unwrap_or(usize::MAX));
            segment.beginning.extend_from_slice(sealed);
        }
    }

    /// Gives the fingerprints of all chunks that a segment lists, a piece at a time, and what there are no pieces of a page at a time.
    pub(super) fn fingerprints_of(
        &mut self,
        position: usize,
        pieces: &mut Pieces,
        take: &mut dyn FnMut(&[u64]),
    ) -> Result<(), EngineError> {
        let (begin, count) =
            (self.segments[position].frame_page_count(), self.segments[position].page_count());
        let end = pieces.first_page(position).unwrap_or(count);
        self.fingerprints_on(position, begin..end, take)?;
        while let Some((piece, read)) = pieces.next(self, position) {
            match read {
                Ok(read) => {
                    take(&read.fingerprints);
                    self.keep(&piece, &read.sealed);
                }
                // Another copy may have the pages that this one has not.
                Err(error) if error.is_wrong_bytes() => {
                    self.fingerprints_on(position, piece.from.max(begin)..piece.end, take)?;
                }
                Err(error) => return Err(unusable(self.segments[position].id, error)),
            }
        }
        Ok(())
    }

    /// The same for some pages, which are read one by one unless they are there.
    fn fingerprints_on(
        &self,
        position: usize,
        pages: std::ops::Range<u64>,
        take: &mut dyn FnMut(&[u64]),
    ) -> Result<(), EngineError> {
        let segment = &self.segments[position];
        let mut fingerprints = Vec::new();
        for page in pages {
            let (table, number) = segment.table_page(page);
            let plain = self.read_page(segment, table, number);
            let plain = plain.map_err(|error| unusable(segment.id, error))?;
            fingerprints.clear();
            fingerprints.extend(fingerprints_in(&plain));
            take(&fingerprints);
        }
        Ok(())
    }
}

/// Fingerprints of the rows on a page of the chunk table.
fn fingerprints_in(plain: &[u8]) -> impl Iterator<Item = u64> {
    plain.as_chunks::<32>().0.iter().map(|row| fingerprint(row))
}
