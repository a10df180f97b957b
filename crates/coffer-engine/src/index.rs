//! Where chunks are: lookups in the live index segments of one dedup domain.
//!
//! Segments are never loaded whole. Their pack tables are (44 bytes for every pack); of their chunk and frame tables only pages that a
//! lookup needs, kept in a cache of bounded size. Which segments to ask at all, and that a chunk is in none, a table in the local
//! cache says.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use coffer_crypto::DomainKeys;
use coffer_format::id::{ChunkId, DomainId, PackId, SegmentId, VaultId, hex};
use coffer_format::index::{ChunkRow, PackRow, SEGMENT_HEAD_LEN, SegmentHead, read_frame_row};
use coffer_format::limits::{INDEX_LEN_MAX, PAGE_LEN};
use coffer_format::object::{ObjectName, PACKS_PREFIX};
use coffer_format::pack::{Directory, FramePlace};
use coffer_pipeline::segment::{PageAnswer, SegmentReader, SegmentTable, find_in_page};
use coffer_store::{ListItem, ObjectStore};

use crate::access::key_of;
use crate::cache::Cache;
use crate::error::EngineError;
use crate::lookup::{Lookup, fingerprint};

/// Pages of chunk and frame tables kept opened: 16 MiB.
const PAGE_CACHE_COUNT_MAX: usize = 1024;
/// So many questions are put to all segments before a table is made that says which to ask.
const LOOKUPS_BEFORE_TABLE: u32 = 64;
/// With fewer segments a reader does without the table.
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

#[derive(Debug)]
struct Segment {
    id: SegmentId,
    reader: SegmentReader,
    packs: Vec<PackRow>,
    /// Number of frames in the packs before each pack.
    frame_starts: Vec<u32>,
}

/// Lookups in the index segments of one dedup domain.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    store: &'a dyn ObjectStore,
    vault: VaultId,
    domain: DomainKeys,
    segments: Vec<Segment>,
    /// Segments that could not be read, and why.
    unreadable: Vec<(SegmentId, EngineError)>,
    pages: HashMap<(usize, SegmentTable, u64), Arc<Vec<u8>>>,
    lookup: Option<Lookup>,
    /// Questions that were answered without a lookup table.
    lookup_count: u32,
    /// The segment of each place in the lookup table.
    places_of: Vec<Option<usize>>,
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
            store,
            vault,
            domain: keys,
            segments: Vec::new(),
            unreadable: Vec::new(),
            pages,
            lookup: None,
            lookup_count: 0,
            places_of: Vec::new(),
            cache,
            present: None,
            recovered,
        };
        for (id, len) in segments {
            if let Err(error) = index.add_segment(id, len) {
                index.unreadable.push((id, error));
            }
        }
        index
    }

    /// Segments that could not be read, and why.
    #[must_use]
    pub(crate) fn unreadable(&self) -> &[(SegmentId, EngineError)] {
        &self.unreadable
    }

    /// Adds a segment of `len` bytes.
    pub(crate) fn add_segment(&mut self, id: SegmentId, len: u64) -> Result<(), EngineError> {
        let name = ObjectName::Segment(id);
        let segment = self.read_segment(id, len).map_err(|error| EngineError::of_object(name, error))?;
        if let Some(present) = &mut self.present {
            // Those of a backup's own progress record came after the store was listed.
            present.extend(segment.packs.iter().map(|pack| (pack.id, pack.len)));
        }
        self.segments.push(segment);
        let position = self.segments.len() - 1;
        if let Some(mut lookup) = self.lookup.take() {
            let place = lookup.begin_segment(id);
            self.fingerprints_of(position, &mut |fingerprints| {
                lookup.extend(place, fingerprints.iter().copied());
            })?;
            lookup.end_segment();
            self.places_of.push(Some(position));
            self.lookup = Some(self.spilled(lookup));
        }
        Ok(())
    }

    fn read_segment(&self, id: SegmentId, len: u64) -> Result<Segment, EngineError> {
        let key = key_of(ObjectName::Segment(id))?;
        let stat = self.store.stat(&key)?;
        if stat.len != len || len > INDEX_LEN_MAX {
            return Err(EngineError::invalid(format!(
                "its length is {} bytes, the log says {len}",
                stat.len
            )));
        }
        let mut head_bytes = vec![0; usize::try_from(SEGMENT_HEAD_LEN).unwrap_or_default()];
        self.store.read_range(&key, 0, &mut head_bytes)?;
        let head = SegmentHead::decode(&head_bytes, len)?;
        let mut table = vec![0; usize::try_from(head.pack_table_len()).unwrap_or_default()];
        self.store.read_range(&key, SEGMENT_HEAD_LEN, &mut table)?;
        let packs = head.decode_packs(&table)?;
        let reader = SegmentReader::open(self.vault, &self.domain, head)?;
        // The frame table begins with a number for each pack.
        let mut starts = Vec::new();
        for page in 0..(packs.len() as u64 * 4).div_ceil(PAGE_LEN) {
            starts.extend_from_slice(&self.read_page(id, &reader, SegmentTable::Frames, page)?);
        }
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
        Ok(Segment { id, reader, packs, frame_starts })
    }

    fn read_page(
        &self,
        id: SegmentId,
        reader: &SegmentReader,
        table: SegmentTable,
        page: u64,
    ) -> Result<Vec<u8>, EngineError> {
        let place = match table {
            SegmentTable::Frames => reader.head().frame_table(),
            SegmentTable::Chunks => reader.head().chunk_table(),
        };
        let (offset, len) = place.page(page);
        let mut sealed = vec![0; usize::try_from(len).unwrap_or_default()];
        self.store.read_range(&key_of(ObjectName::Segment(id))?, offset, &mut sealed)?;
        let mut plain = Vec::new();
        reader.page(table, page, &sealed, &mut plain)?;
        Ok(plain)
    }

    fn page(&mut self, segment: usize, table: SegmentTable, page: u64) -> Result<Arc<Vec<u8>>, EngineError> {
        if let Some(plain) = self.pages.get(&(segment, table, page)) {
            return Ok(Arc::clone(plain));
        }
        let found = &self.segments[segment];
        let plain = Arc::new(self.read_page(found.id, &found.reader, table, page)?);
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
        if self.lookup.is_some() {
            return Ok(());
        }
        let positions: HashMap<SegmentId, usize> =
            self.segments.iter().enumerate().map(|(position, segment)| (segment.id, position)).collect();
        let name = lookup_name(self.domain.domain());
        let file = self.cache.and_then(|cache| cache.open_file(&self.vault, &name));
        let mut lookup = Lookup::open(file, |segment| positions.contains_key(segment));
        let known: HashSet<SegmentId> = lookup.segments().iter().copied().collect();
        for position in 0..self.segments.len() {
            let id = self.segments[position].id;
            if !known.contains(&id) {
                let place = lookup.begin_segment(id);
                self.fingerprints_of(position, &mut |fingerprints| {
                    lookup.extend(place, fingerprints.iter().copied());
                })?;
                lookup.end_segment();
            }
        }
        let lookup = self.spilled(lookup);
        self.places_of = lookup.segments().iter().map(|id| positions.get(id).copied()).collect();
        self.lookup = Some(lookup);
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

    /// Gives the fingerprints of all chunks that a segment lists, a page at a time.
    fn fingerprints_of(&self, segment: usize, take: &mut dyn FnMut(&[u64])) -> Result<(), EngineError> {
        let found = &self.segments[segment];
        let mut fingerprints = Vec::new();
        for page in 0..found.reader.head().chunk_table().page_count() {
            let plain = self.read_page(found.id, &found.reader, SegmentTable::Chunks, page);
            let plain = plain.map_err(|error| unusable(found.id, error))?;
            fingerprints.clear();
            fingerprints.extend(plain.as_chunks::<32>().0.iter().map(|row| fingerprint(row)));
            take(&fingerprints);
        }
        Ok(())
    }

    /// The segments that may list a chunk.
    fn candidates(&mut self, id: &ChunkId) -> Vec<usize> {
        self.lookup_count = self.lookup_count.saturating_add(1);
        if self.lookup.is_none()
            && self.lookup_count == LOOKUPS_BEFORE_TABLE
            && self.segments.len() >= SEGMENTS_BEFORE_TABLE
        {
            // Where a segment cannot be read, all are asked as before.
            drop(self.build_lookup());
        }
        match &self.lookup {
            Some(lookup) => {
                let places = lookup.candidates(fingerprint(&id.0));
                places.iter().filter_map(|place| *self.places_of.get(*place as usize)?).collect()
            }
            None => (0..self.segments.len()).collect(),
        }
    }

    /// Asks all segments from here on, whatever the lookup table says. Says whether that is something new.
    pub(crate) fn distrust_lookup(&mut self) -> bool {
        self.lookup_count = LOOKUPS_BEFORE_TABLE;
        self.lookup.take().is_some()
    }

    /// Lists the packs of the store: a chunk whose packs are all lost, or of another length than the index says, is contained no more.
    pub(crate) fn check_packs(&mut self) -> Result<(), EngineError> {
        let mut present = HashMap::new();
        self.store.list(PACKS_PREFIX, None, &mut |item: ListItem| {
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
