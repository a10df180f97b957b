//! Where chunks are: lookups in the live index segments of one dedup domain.
//!
//! Segments are never loaded whole. Their pack tables are (44 bytes for every pack); of their chunk and frame tables only pages that a
//! lookup needs, kept in a cache of bounded size. Of a store that is far away more is read with each request, and small segments whole. Which segments to ask at all, and that a chunk is in none, a table in the local
//! cache says.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coffer_crypto::DomainKeys;
use coffer_format::id::{ChunkId, DomainId, PackId, SegmentId, VaultId, hex};
use coffer_format::index::{ChunkRow, PackRow, SEGMENT_HEAD_LEN, SegmentHead, Table, read_frame_row};
use coffer_format::limits::{INDEX_LEN_MAX, PAGE_LEN};
use coffer_format::object::{ObjectName, PACKS_PREFIX};
use coffer_format::pack::{Directory, FramePlace};
use coffer_pipeline::segment::{PageAnswer, SegmentReader, SegmentTable, find_in_page};
use coffer_store::{ListItem, ObjectStore, StoreError};

use crate::cache::Cache;
use crate::error::EngineError;
use crate::lookup::{Lookup, fingerprint};
use crate::parallel;
use crate::parts::Parts;

mod tables;

use tables::Pieces;

/// Pages of chunk and frame tables kept opened: 16 MiB.
const PAGE_CACHE_COUNT_MAX: usize = 1024;
/// What is read of a segment at first: all of a small one.
const FIRST_LEN: u64 = 8 << 10;
/// As [`FIRST_LEN`], where a request costs more than these bytes.
const FIRST_LEN_FAR: u64 = 256 << 10;
/// Beginnings of segments kept in memory, together, and the whole tables of segments that many questions are put to.
const BEGINNINGS_LEN_MAX: usize = 64 << 20;
/// After so many questions that were put to segments, a table is made that says which to ask.
const LOOKUPS_BEFORE_TABLE: u32 = 64;
/// With fewer segments that it does not know a reader does without the table.
const SEGMENTS_BEFORE_TABLE: usize = 8;
/// A lookup that meets more pages than this is given up: ids are uniform, so one or two are expected.
const PAGE_STEP_COUNT_MAX: u64 = 64;

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The pack.
    pub pack: PackRow,
    /// Number of the frame in the pack.
    pub frame_number: u16,
    /// The frame.
    pub frame: FramePlace,
    /// Offset in the frame's plain bytes.
    pub offset: u32,
    /// Length of the chunk.
    pub len: u32,
}

impl Place {
    /// The frame, by its pack and its number there.
    pub(crate) const fn frame_id(&self) -> (PackId, u16) {
        (self.pack.id, self.frame_number)
    }
}

/// What is left of the memory for beginnings.
#[derive(Debug)]
struct Room(AtomicUsize);

impl Room {
    fn take(&self, len: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(len)).is_ok()
    }
}

#[derive(Debug)]
struct Segment {
    id: SegmentId,
    reader: SegmentReader,
    packs: Vec<PackRow>,
    /// Number of frames in the packs before each pack.
    frame_starts: Vec<u32>,
    /// The beginning of the object, sealed pages among it, as far as it was read and is worth its memory.
    beginning: Vec<u8>,
}

/// Lookups in the index segments of one dedup domain.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    parts: Parts<'a>,
    vault: VaultId,
    domain: DomainKeys,
    segments: Vec<Segment>,
    room: Room,
    /// Segments that could not be read, and why.
    unreadable: Vec<(SegmentId, EngineError)>,
    pages: HashMap<(usize, SegmentTable, u64), Arc<Vec<u8>>>,
    lookup: Option<Lookup>,
    /// The segment of each place in the lookup table.
    places_of: Vec<Option<usize>>,
    /// Segments that the lookup table does not know, which are always asked: all, if there is none.
    beside: Vec<usize>,
    /// Whether the table of the local cache was looked for.
    is_opened: bool,
    /// Whether the lookup table is believed no more.
    is_distrusted: bool,
    /// Questions that were put to any segment.
    question_count: u32,
    is_far: bool,
    cache: Option<&'a Cache>,
    /// The packs that the store lists, with their lengths, where that was asked for: rows that lead to others do not count.
    present: Option<HashMap<PackId, u64>>,
    /// Places found in pack directories, for chunks whose segments are damaged.
    recovered: HashMap<[u8; 20], Vec<Place>>,
}

impl<'a> Index<'a> {
    /// An index of these segments, all of the domain of `keys`. What cannot be read is left out and remembered.
    pub(crate) fn open(
        store: &'a dyn ObjectStore,
        vault: VaultId,
        keys: DomainKeys,
        segments: impl IntoIterator<Item = (SegmentId, u64)>,
        cache: Option<&'a Cache>,
    ) -> Self {
        let (pages, recovered) = (HashMap::new(), HashMap::new());
        let mut index = Self {
            parts: Parts::new(store, vault, cache),
            vault,
            domain: keys,
            segments: Vec::new(),
            room: Room(AtomicUsize::new(BEGINNINGS_LEN_MAX)),
            unreadable: Vec::new(),
            pages,
            lookup: None,
            places_of: Vec::new(),
            beside: Vec::new(),
            is_opened: false,
            is_distrusted: false,
            question_count: 0,
            is_far: parallel::is_far(store),
            cache,
            present: None,
            recovered,
        };
        for (id, segment) in index.read_segments(segments) {
            match segment {
                Ok(segment) => index.push(segment),
                Err(error) => {
                    index.unreadable.push((id, EngineError::of_object(ObjectName::Segment(id), error)))
                }
            }
        }
        index
    }

    /// Opens segments side by side. Of the many that there may be, those beginnings are dropped at once for which there is no room.
    fn read_segments(
        &self,
        segments: impl IntoIterator<Item = (SegmentId, u64)>,
    ) -> Vec<(SegmentId, Result<Segment, EngineError>)> {
        let in_flight = parallel::in_flight_small(self.parts.store());
        parallel::map(in_flight, segments, |(id, len)| (id, self.read_segment(id, len)))
    }

    /// Segments that could not be read, and why.
    #[must_use]
    pub(crate) fn unreadable(&self) -> &[(SegmentId, EngineError)] {
        &self.unreadable
    }

    /// Of those, the ones that are archived.
    pub(crate) fn archived_segments(&self) -> impl Iterator<Item = SegmentId> {
        let archived = self.unreadable.iter().filter(|(_, error)| error.is_archived());
        archived.map(|(id, _)| *id)
    }

    /// That no segment that could be read lists a chunk. An archived one may.
    pub(crate) fn unlisted(&self, id: &ChunkId) -> EngineError {
        let archived = self.archived_segments().next().map(|segment| StoreError::Archived {
            name: ObjectName::Segment(segment).to_string(),
            store: self.parts.store().url(),
            source: "it may list the chunk".into(),
        });
        let source = archived.map(|error| Box::new(EngineError::Store(error)));
        EngineError::ChunkLost { id: id.to_string(), source }
    }

    /// Adds a segment of `len` bytes, which lists chunks with these fingerprints.
    pub(crate) fn add_segment(
        &mut self,
        id: SegmentId,
        len: u64,
        fingerprints: &[u64],
    ) -> Result<(), EngineError> {
        let name = ObjectName::Segment(id);
        let segment = self.read_segment(id, len).map_err(|error| EngineError::of_object(name, error))?;
        if let Some(present) = &mut self.present {
            // Those of a backup's own progress record came after the store was listed.
            present.extend(segment.packs.iter().map(|pack| (pack.id, pack.len)));
        }
        self.push(segment);
        if let Some(mut lookup) = self.lookup.take()
            && let Some(position) = self.beside.pop()
        {
            let place = lookup.begin_segment(id);
            lookup.extend(place, fingerprints.iter().copied());
            lookup.end_segment();
            self.places_of.push(Some(position));
            self.lookup = Some(self.spilled(lookup));
        }
        Ok(())
    }

    fn push(&mut self, segment: Segment) {
        self.beside.push(self.segments.len());
        self.segments.push(segment);
    }

    fn read_segment(&self, id: SegmentId, len: u64) -> Result<Segment, EngineError> {
        let mut segment = match self.read_segment_of(self.parts, id, len) {
            // What is kept of it may be older than its repair.
            Err(_) if self.parts.has_memory() => self.read_segment_of(self.parts.without_memory(), id, len),
            read => read,
        }?;
        if !self.room.take(segment.beginning.len()) {
            segment.beginning = Vec::new();
        }
        Ok(segment)
    }

    /// Opens a segment in one request if it is small, else in two.
    fn read_segment_of(&self, parts: Parts<'_>, id: SegmentId, len: u64) -> Result<Segment, EngineError> {
        if len > INDEX_LEN_MAX {
            return Err(EngineError::invalid(format!(
                "the log says it has {len} bytes, which is over the limit"
            )));
        }
        let name = ObjectName::Segment(id);
        let first_len = if parallel::is_far(parts.store()) { FIRST_LEN_FAR } else { FIRST_LEN };
        let open_head = |bytes: &[u8]| -> Result<_, EngineError> {
            let head = bytes.get(..usize::try_from(SEGMENT_HEAD_LEN).unwrap_or_default());
            let head = SegmentHead::decode(head.unwrap_or_default(), len)?;
            let reader = SegmentReader::open(self.vault, &self.domain, head)?;
            let table = reader.head().frame_table();
            // The frame table begins with a number for each pack.
            let start_pages = (u64::from(reader.head().pack_count) * 4).div_ceil(PAGE_LEN);
            let end = start_pages.checked_sub(1).map(|last| table.page(last));
            Ok((reader, start_pages, end.map_or(table.offset, |(offset, len)| offset + len)))
        };
        let first_len = first_len.min(len);
        let ((reader, start_pages, end), mut beginning) =
            parts.range(name, (0, first_len), &mut |bytes| Ok((open_head(bytes)?, bytes.to_vec())))?;
        let open_rest = |bytes: &[u8]| -> Result<_, EngineError> {
            let table = bytes.get(usize::try_from(SEGMENT_HEAD_LEN).unwrap_or_default()..);
            let table_len = usize::try_from(reader.head().pack_table_len()).unwrap_or(usize::MAX);
            let packs = reader
                .head()
                .decode_packs(table.and_then(|table| table.get(..table_len)).unwrap_or_default())?;
            let mut starts = Vec::new();
            for page in 0..start_pages {
                starts.extend_from_slice(&open_page(&reader, SegmentTable::Frames, page, bytes)?);
            }
            Ok((packs, starts))
        };
        let (packs, starts) = if end > first_len {
            let known_len = beginning.len();
            let opened = parts.range(name, (first_len, end - first_len), &mut |bytes| {
                beginning.truncate(known_len);
                beginning.extend_from_slice(bytes);
                open_rest(&beginning)
            });
            opened?
        } else {
            open_rest(&beginning)?
        };
        let starts = starts.get(..packs.len() * 4).unwrap_or_default();
        let frame_starts: Vec<u32> =
            starts.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let frame_count = reader.head().frame_count;
        if frame_starts.len() != packs.len()
            || !frame_starts.is_sorted()
            || frame_starts.iter().any(|start| *start > frame_count)
        {
            return Err(EngineError::invalid("its frame table does not fit its packs"));
        }
        Ok(Segment { id, reader, packs, frame_starts, beginning })
    }

    fn read_page(&self, segment: &Segment, table: SegmentTable, page: u64) -> Result<Vec<u8>, EngineError> {
        let (offset, len) = table_of(segment.reader.head(), table).page(page);
        if offset + len <= segment.beginning.len() as u64
            && let Ok(plain) = open_page(&segment.reader, table, page, &segment.beginning)
        {
            return Ok(plain);
        }
        self.parts.range(ObjectName::Segment(segment.id), (offset, len), &mut |sealed| {
            let mut plain = Vec::new();
            segment.reader.page(table, page, sealed, &mut plain)?;
            Ok(plain)
        })
    }

    fn page(&mut self, segment: usize, table: SegmentTable, page: u64) -> Result<Arc<Vec<u8>>, EngineError> {
        if let Some(plain) = self.pages.get(&(segment, table, page)) {
            return Ok(Arc::clone(plain));
        }
        let found = &self.segments[segment];
        let plain = Arc::new(self.read_page(found, table, page)?);
        if self.pages.len() >= PAGE_CACHE_COUNT_MAX {
            self.pages.clear();
        }
        self.pages.insert((segment, table, page), Arc::clone(&plain));
        Ok(plain)
    }

    /// The row of a frame, which may lie on two pages.
    fn frame(&mut self, segment: usize, number: u64) -> Option<FramePlace> {
        let offset = self.segments[segment].frame_starts.len() as u64 * 4 + number * 12;
        let from = usize::try_from(offset % PAGE_LEN).ok()?;
        let page = self.page(segment, SegmentTable::Frames, offset / PAGE_LEN).ok()?;
        if let Some(row) = page.get(from..).and_then(|rest| rest.first_chunk()) {
            return Some(read_frame_row(row));
        }
        let next = self.page(segment, SegmentTable::Frames, offset / PAGE_LEN + 1).ok()?;
        let mut bytes = page.get(from..)?.iter().chain(next.iter());
        let mut row = [0; 12];
        for byte in &mut row {
            *byte = *bytes.next()?;
        }
        Some(read_frame_row(&row))
    }

    /// Makes the table that says which segments to ask, from the local cache and from what segments it does not know yet.
    pub(crate) fn build_lookup(&mut self) -> Result<(), EngineError> {
        self.open_lookup();
        if self.lookup.is_some() && self.beside.is_empty() {
            return Ok(());
        }
        let mut lookup = self.lookup.take().unwrap_or_default();
        let added = std::mem::take(&mut self.beside);
        if let Err(error) = self.add_to(&mut lookup, &added) {
            // What was begun is dropped, and what the local cache has still counts.
            self.forget_lookup();
            self.is_opened = false;
            self.open_lookup();
            return Err(error);
        }
        self.places_of.extend(added.into_iter().map(Some));
        self.lookup = Some(self.spilled(lookup));
        Ok(())
    }

    /// Opens the table of the local cache, once.
    fn open_lookup(&mut self) {
        if std::mem::replace(&mut self.is_opened, true) {
            return;
        }
        let name = lookup_name(self.domain.domain());
        let Some(file) = self.cache.and_then(|cache| cache.open_file(&self.vault, &name)) else { return };
        let positions: HashMap<SegmentId, usize> =
            self.segments.iter().enumerate().map(|(position, segment)| (segment.id, position)).collect();
        let lookup = Lookup::open(Some(file), |segment| positions.contains_key(segment));
        let places_of: Vec<_> = lookup.segments().iter().map(|id| positions.get(id).copied()).collect();
        let known: HashSet<usize> = places_of.iter().copied().flatten().collect();
        if !known.is_empty() {
            self.beside.retain(|position| !known.contains(position));
            (self.lookup, self.places_of) = (Some(lookup), places_of);
        }
    }

    /// Goes without the table.
    fn forget_lookup(&mut self) {
        self.lookup = None;
        self.places_of.clear();
        self.beside = (0..self.segments.len()).collect();
    }

    /// Adds the fingerprints of segments to a table.
    fn add_to(&mut self, lookup: &mut Lookup, added: &[usize]) -> Result<(), EngineError> {
        let mut pieces = if self.is_far { self.pieces_of(added) } else { Pieces::default() };
        for position in added.iter().copied() {
            let place = lookup.begin_segment(self.segments[position].id);
            self.fingerprints_of(position, &mut pieces, &mut |fingerprints| {
                lookup.extend(place, fingerprints.iter().copied());
            })?;
            lookup.end_segment();
        }
        Ok(())
    }

    /// The same table, written to the local cache if that is worth it, so that its rows need not be in memory.
    fn spilled(&self, lookup: Lookup) -> Lookup {
        let Some(cache) = self.cache.filter(|_| lookup.is_worth_writing()) else { return lookup };
        let name = lookup_name(self.domain.domain());
        // Without the file the table stays in memory, and is made again next time.
        if cache.write_file(&self.vault, &name, &mut |out| lookup.write(out)).is_err() {
            return lookup;
        }
        let written = Lookup::open(cache.open_file(&self.vault, &name), |segment| segment.0 != [0; 32]);
        // Places stay what they were; another process may have written a table of its own meanwhile.
        let is_same = written.segments().len() == lookup.segments().len()
            && written
                .segments()
                .iter()
                .zip(lookup.segments())
                .all(|(now, then)| now == then || now.0 == [0; 32]);
        if is_same { written } else { lookup }
    }

    /// The segments that may list a chunk.
    fn candidates(&mut self, id: &ChunkId) -> Vec<usize> {
        if self.is_far && !self.is_opened {
            // Where each question that is spared is a request, it is used from the beginning.
            self.open_lookup();
        }
        let found = self.named(id);
        if found.is_empty() {
            return found;
        }
        self.question_count = self.question_count.saturating_add(1);
        if self.question_count != LOOKUPS_BEFORE_TABLE {
            return found;
        }
        if !self.is_distrusted && self.beside.len() >= SEGMENTS_BEFORE_TABLE {
            // Where a segment cannot be read, all are asked as before.
            drop(self.build_lookup());
        }
        if self.is_far {
            self.read_tables();
        }
        self.named(id)
    }

    /// The segments that the lookup table names, and those that it does not know.
    fn named(&self, id: &ChunkId) -> Vec<usize> {
        let Some(lookup) = &self.lookup else { return self.beside.clone() };
        let places = lookup.candidates(fingerprint(&id.0));
        let known = places.iter().filter_map(|place| *self.places_of.get(*place as usize)?);
        known.chain(self.beside.iter().copied()).collect()
    }

    /// Asks all segments from here on, whatever the lookup table says. Says whether that is something new.
    pub(crate) fn distrust_lookup(&mut self) -> bool {
        (self.is_opened, self.is_distrusted) = (true, true);
        let was_there = self.lookup.is_some();
        self.forget_lookup();
        was_there
    }

    /// Lists the packs of the store: a chunk whose packs are all lost, or of another length than the index says, is contained no more.
    pub(crate) fn check_packs(&mut self) -> Result<(), EngineError> {
        let mut present = HashMap::new();
        self.parts.store().list(PACKS_PREFIX, None, &mut |item: ListItem| {
            if let Some(ObjectName::Pack(id)) = ObjectName::parse(&item.name) {
                present.insert(id, item.len);
            }
            ControlFlow::Continue(())
        })?;
        self.present = Some(present);
        Ok(())
    }

    /// Whether the pack that a row leads to is there, as far as that was looked at.
    fn is_present(&mut self, segment: usize, row: &ChunkRow) -> bool {
        if self.present.is_none() {
            return true;
        }
        let Some(pack) = self.place_of(segment, row).map(|place| place.pack) else { return false };
        self.present.as_ref().is_some_and(|present| present.get(&pack.id) == Some(&pack.len))
    }

    /// Whether a live segment gives a place for the chunk.
    pub(crate) fn contains(&mut self, id: &ChunkId) -> Result<bool, EngineError> {
        for segment in self.candidates(id) {
            match self.find_row(segment, id) {
                Ok(Some(row)) if self.is_present(segment, &row) => return Ok(true),
                Ok(_) => {}
                Err(error) => return Err(unusable(self.segments[segment].id, error)),
            }
        }
        Ok(false)
    }

    /// All places of a chunk. Segments that cannot be read are passed over.
    pub(crate) fn places(&mut self, id: &ChunkId) -> Vec<Place> {
        let mut places = Vec::new();
        for segment in self.candidates(id) {
            if let Ok(Some(row)) = self.find_row(segment, id) {
                places.extend(self.place_of(segment, &row));
            }
        }
        if let Some(recovered) = self.recovered.get(&ChunkRow::prefix_of(id)) {
            places.extend(recovered);
        }
        places
    }

    fn place_of(&mut self, segment: usize, row: &ChunkRow) -> Option<Place> {
        let found = &self.segments[segment];
        let pack = *found.packs.get(usize::from(row.pack))?;
        let start = u64::from(*found.frame_starts.get(usize::from(row.pack))?);
        let end = found.frame_starts.get(usize::from(row.pack) + 1);
        let end = end.map_or(u64::from(found.reader.head().frame_count), |end| u64::from(*end));
        let number = Some(start + u64::from(row.frame)).filter(|number| *number < end)?;
        let frame = self.frame(segment, number)?;
        frame.check(pack.len).ok()?;
        row.check(self.segments[segment].reader.head(), &frame).ok()?;
        Some(Place { pack, frame_number: row.frame, frame, offset: row.offset, len: row.len })
    }

    fn find_row(&mut self, segment: usize, id: &ChunkId) -> Result<Option<ChunkRow>, EngineError> {
        let reader = &self.segments[segment].reader;
        let page_count = reader.head().chunk_table().page_count();
        if page_count == 0 {
            return Ok(None);
        }
        let mut page = reader.guess_page(id).min(page_count - 1);
        let mut last = None;
        for _ in 0..PAGE_STEP_COUNT_MAX {
            let plain = self.page(segment, SegmentTable::Chunks, page)?;
            let answer = find_in_page(&plain, id)?;
            let next = match answer {
                PageAnswer::Found(row) => return Ok(Some(row)),
                PageAnswer::Absent => return Ok(None),
                PageAnswer::Before => page.checked_sub(1),
                PageAnswer::After => (page + 1 < page_count).then_some(page + 1),
            };
            // Between two pages that point at each other there is nothing.
            if next.is_none() || (next == last) {
                return Ok(None);
            }
            last = Some(page);
            page = next.unwrap_or_default();
        }
        Ok(None)
    }

    /// Adds the places that a pack's directory gives.
    pub(crate) fn add_directory(&mut self, pack: PackRow, directory: &Directory) {
        for (number, frame) in directory.frames.iter().enumerate() {
            let Ok(frame_number) = u16::try_from(number) else { return };
            let mut offset = 0;
            for chunk in &frame.chunks {
                let place = Place { pack, frame_number, frame: frame.place, offset, len: chunk.len };
                self.recovered.entry(ChunkRow::prefix_of(&chunk.id)).or_default().push(place);
                offset += chunk.len;
            }
        }
    }

    /// The live segments of a domain, with their lengths.
    pub(crate) fn segments_of(
        state: &coffer_format::log::LogState,
        domain: DomainId,
    ) -> impl Iterator<Item = (SegmentId, u64)> {
        state.segments.iter().filter(move |(_, live)| live.domain == domain).map(|(id, live)| (*id, live.len))
    }
}

fn table_of(head: &SegmentHead, table: SegmentTable) -> Table {
    match table {
        SegmentTable::Frames => head.frame_table(),
        SegmentTable::Chunks => head.chunk_table(),
    }
}

/// Opens a page that is within the `beginning` of its object.
fn open_page(
    reader: &SegmentReader,
    table: SegmentTable,
    page: u64,
    beginning: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let (offset, len) = table_of(reader.head(), table).page(page);
    let range = usize::try_from(offset).ok().zip(usize::try_from(offset + len).ok());
    let sealed = range.and_then(|(from, to)| beginning.get(from..to));
    let sealed = sealed.ok_or_else(|| EngineError::invalid("its tables are longer than it is"))?;
    let mut plain = Vec::new();
    reader.page(table, page, sealed, &mut plain)?;
    Ok(plain)
}

/// A segment whose pages cannot be read: a backup goes on without it. A store that fails is another matter.
fn unusable(segment: SegmentId, error: EngineError) -> EngineError {
    match error {
        EngineError::Store(store) if store.is_retryable() => EngineError::Store(store),
        error => EngineError::SegmentUnusable { segment, source: Box::new(error) },
    }
}

/// Name of the lookup table of a domain in the local cache.
fn lookup_name(domain: &[u8; 16]) -> String {
    format!("lookup-{}", hex(domain))
}

#[cfg(test)]
mod tests;
