//! Live index segments: present, intact, sound up to the pack table; with a key, down to the last row.
//!
//! A segment is read once, piece by piece, and hashed on the way. Of a damaged one, what can still be read is used: a
//! pack's name is its hash, and a sealed page that opens is genuine, so neither can mislead. Its packs are then not
//! trusted to exist: that one of them is absent is a fault of the segment.

use coffer_crypto::hash::Hasher;
use coffer_format::id::SegmentId;
use coffer_format::index::{
    CHUNK_ROW_LEN, ChunkRow, ID_PREFIX_LEN, PackRow, SEGMENT_HEAD_LEN, SegmentHead, Table, read_frame_row,
};
use coffer_format::limits::{PACK_FRAME_COUNT_MAX, PAGE_LEN, TAG_LEN};
use coffer_format::log::LiveSegment;
use coffer_format::object::ObjectName;
use coffer_format::pack::FramePlace;
use coffer_pipeline::keyring::Keyring;
use coffer_pipeline::segment::{SegmentReader, SegmentTable};

use crate::error::VerifyError;
use crate::options::Options;
use crate::packs::Row;
use crate::parallel;
use crate::progress::{Progress, Stage};
use crate::replay::Replayed;
use crate::report::{Class, Faults};
use crate::source::{ReadFault, Source, reason};

/// Pages read at once.
const PAGE_GROUP: u64 = 64;
const PAGE_GROUP_STEP: usize = 64;

/// What was found in a live index segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) live: LiveSegment,
    pub(crate) class: Class,
    pub(crate) faults: Faults,
    /// Whether the bytes are those the log names.
    pub(crate) authentic: bool,
    /// The pack table, if it can be read.
    pub(crate) packs: Option<Vec<PackRow>>,
    /// Position of its first listing among those of all segments.
    pub(crate) first_listing: u32,
    /// With a key: places of frames, a list for each pack, if they are kept.
    pub(crate) frames: Vec<Vec<FramePlace>>,
    /// With a key: chunk rows, each within its frame, if they are kept.
    rows: Vec<ChunkRow>,
    /// With a key: how many rows point into each pack.
    pub(crate) row_counts: Vec<u32>,
    /// With a key: whether these are all rows.
    pub(crate) complete: bool,
}

/// Which rows are kept of a segment that is read.
#[derive(Clone, Copy)]
enum Keep<'a> {
    /// None: they are counted.
    Nothing,
    All,
    /// Those that point into these packs of its table.
    Packs(&'a (dyn Fn(u16) -> bool + Sync)),
}

impl Keep<'_> {
    fn keeps(self, pack: u16) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Packs(packs) => packs(pack),
        }
    }
}

/// Most segments whose frame tables are in memory at once, where they are large.
const LARGE_AT_ONCE: usize = 2;
/// A segment of such a length is large.
const LARGE_LEN: u64 = 8 << 20;

/// Whether the rows of all live segments fit in memory.
pub(crate) fn are_kept(replayed: &Replayed, options: &Options) -> bool {
    // No row is shorter in the segment.
    let len: u64 = replayed.log.segments.values().map(|segment| segment.len).sum();
    len / CHUNK_ROW_LEN <= options.rows_in_memory
}

/// Reads every live index segment, in the order of their names.
pub(crate) fn check(
    source: &Source<'_>,
    replayed: &Replayed,
    keyring: Option<&Keyring>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Segment>, VerifyError> {
    let live = &replayed.log.segments;
    progress.begin(Stage::Index, live.values().map(|segment| segment.len).sum());
    let kept = are_kept(replayed, options);
    let keep = if kept { Keep::All } else { Keep::Nothing };
    let read = |(): &mut (), (id, live): (&SegmentId, &LiveSegment)| {
        let mut reading = Reading::new(source, *id, *live, keep);
        reading.read(replayed, keyring)?;
        if !reading.segment.authentic && source.distrust(ObjectName::Segment(*id)) {
            reading = Reading::new(source, *id, *live, keep);
            reading.read(replayed, keyring)?;
        }
        progress.advance(Stage::Index, live.len);
        let mut segment = reading.segment;
        if !kept {
            segment.frames = Vec::new();
        }
        Ok(segment)
    };
    let threads = source.threads(options.threads);
    if kept || keyring.is_none() {
        return parallel::map(threads, live.iter(), || Ok(()), read);
    }
    let (large, small): (Vec<_>, Vec<_>) = live.iter().partition(|(_, live)| live.len >= LARGE_LEN);
    let mut segments = parallel::map(threads, small.into_iter(), || Ok(()), read)?;
    segments.extend(parallel::map(threads.min(LARGE_AT_ONCE), large.into_iter(), || Ok(()), read)?);
    segments.sort_unstable_by_key(|segment| segment.id);
    Ok(segments)
}

/// Reads a segment once more, for the frames of some packs of its table and the rows that point into them.
pub(crate) fn read_again(
    source: &Source<'_>,
    replayed: &Replayed,
    keyring: &Keyring,
    segment: &Segment,
    packs: &(dyn Fn(u16) -> bool + Sync),
) -> Result<Segment, VerifyError> {
    let mut reading = Reading::new(source, segment.id, segment.live, Keep::Packs(packs));
    reading.segment.first_listing = segment.first_listing;
    reading.read(replayed, Some(keyring))?;
    Ok(reading.segment)
}

/// A segment being read from front to back.
struct Reading<'a> {
    source: &'a Source<'a>,
    segment: Segment,
    hasher: Hasher,
    offset: u64,
    buffer: Vec<u8>,
    keep: Keep<'a>,
    /// What the last row begins with.
    last: Option<[u8; ID_PREFIX_LEN]>,
}

impl<'a> Reading<'a> {
    fn new(source: &'a Source<'a>, id: SegmentId, live: LiveSegment, keep: Keep<'a>) -> Self {
        let segment = Segment {
            id,
            live,
            class: Class::Corrupt,
            faults: Faults::default(),
            authentic: false,
            packs: None,
            first_listing: 0,
            frames: Vec::new(),
            rows: Vec::new(),
            row_counts: Vec::new(),
            complete: false,
        };
        Self { source, segment, hasher: Hasher::new(), offset: 0, buffer: Vec::new(), keep, last: None }
    }

    fn name(&self) -> ObjectName {
        ObjectName::Segment(self.segment.id)
    }

    fn read(&mut self, replayed: &Replayed, keyring: Option<&Keyring>) -> Result<(), VerifyError> {
        let expected_len = self.segment.live.len;
        let actual_len = match self.source.len(self.name())? {
            Ok(len) => len,
            Err(fault) => {
                self.fail(&fault);
                return Ok(());
            }
        };
        if actual_len != expected_len {
            let what = format!("it is {actual_len} bytes, the log says {expected_len}");
            self.segment.faults.add(what);
        }
        if !self.next(SEGMENT_HEAD_LEN)? {
            return Ok(());
        }
        let head = match SegmentHead::decode(&self.buffer, expected_len) {
            Ok(head) => head,
            Err(error) => {
                self.segment.faults.add(error.to_string());
                return Ok(());
            }
        };
        if head.domain != self.segment.live.domain {
            let what = format!("it is of domain {}, the log says {}", head.domain, self.segment.live.domain);
            self.segment.faults.add(what);
        }
        if !self.next(head.pack_table_len())? {
            return Ok(());
        }
        match head.decode_packs(&self.buffer) {
            Ok(packs) => self.segment.packs = Some(packs),
            Err(error) => self.segment.faults.add(error.to_string()),
        }
        let reader = match keyring {
            Some(keyring) if self.segment.packs.is_some() => self.open(replayed, keyring, head.clone()),
            _ => None,
        };
        if self.tables(&head, reader.as_ref())? && actual_len == expected_len {
            self.segment.authentic = self.hasher.finalize() == self.segment.id.0;
            if !self.segment.authentic {
                self.segment.faults.add("its bytes have another hash than its name");
            }
        }
        Ok(())
    }

    fn open(&mut self, replayed: &Replayed, keyring: &Keyring, head: SegmentHead) -> Option<SegmentReader> {
        let keys = keyring.domain_keys(&self.segment.live.domain);
        let reader = keys.and_then(|keys| SegmentReader::open(replayed.log.vault, &keys, head));
        match reader {
            Ok(reader) => Some(reader),
            Err(error) => {
                self.segment.faults.add(reason(&error));
                None
            }
        }
    }

    /// Reads the sealed tables, and opens them if there is a reader; false when the object ends or fails before.
    fn tables(&mut self, head: &SegmentHead, reader: Option<&SegmentReader>) -> Result<bool, VerifyError> {
        let mut frame_table = Vec::new();
        let mut frames_complete = reader.is_some();
        let mut opened = Vec::new();
        let table = head.frame_table();
        for group in groups(&table) {
            if !self.next(group.sealed_len)? {
                return Ok(false);
            }
            let Some(reader) = reader else { continue };
            for (page, sealed) in (group.first_page..).zip(self.buffer.chunks(SEALED_PAGE)) {
                if reader.page(SegmentTable::Frames, page, sealed, &mut opened).is_ok() {
                    frame_table.extend_from_slice(&opened);
                } else {
                    frames_complete = false;
                    self.segment.faults.add(format!("page {page} of its frame table does not open"));
                }
            }
        }
        if frames_complete {
            match frames_of(head, self.segment.packs.as_deref().unwrap_or_default(), &frame_table) {
                Ok(frames) => {
                    self.segment.row_counts = vec![0; frames.len()];
                    self.segment.frames = frames;
                }
                Err(what) => {
                    frames_complete = false;
                    self.segment.faults.add(what);
                }
            }
        }
        drop(frame_table);
        self.segment.complete = frames_complete;
        let reader = reader.filter(|_| frames_complete);
        let table = head.chunk_table();
        for group in groups(&table) {
            if !self.next(group.sealed_len)? {
                self.segment.complete = false;
                return Ok(false);
            }
            let Some(reader) = reader else { continue };
            let buffer = std::mem::take(&mut self.buffer);
            for (page, sealed) in (group.first_page..).zip(buffer.chunks(SEALED_PAGE)) {
                if reader.page(SegmentTable::Chunks, page, sealed, &mut opened).is_ok() {
                    self.add_rows(head, &opened);
                } else {
                    self.segment.complete = false;
                    self.segment.faults.add(format!("page {page} of its chunk table does not open"));
                }
            }
            self.buffer = buffer;
        }
        Ok(true)
    }

    /// Reads and hashes the next `len` bytes into the buffer; false, with a fault, when they cannot be had.
    fn next(&mut self, len: u64) -> Result<bool, VerifyError> {
        self.buffer.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        match self.source.read_range(self.name(), self.offset, &mut self.buffer)? {
            Ok(()) => {
                self.hasher.update(&self.buffer);
                self.offset += len;
                Ok(true)
            }
            Err(fault) => {
                self.fail(&fault);
                Ok(false)
            }
        }
    }

    fn add_rows(&mut self, head: &SegmentHead, page: &[u8]) {
        let segment = &mut self.segment;
        let (rows, rest) = page.as_chunks::<32>();
        if !rest.is_empty() {
            segment.faults.add("a page of its chunk table is not whole rows");
            segment.complete = false;
        }
        for row in rows.iter().map(ChunkRow::decode) {
            let pack = usize::from(row.pack);
            let place = segment.frames.get(pack).and_then(|frames| frames.get(usize::from(row.frame)));
            if self.last.is_some_and(|last| last >= row.prefix) {
                segment.faults.add("the rows of its chunk table are not ascending");
            }
            match place.map(|place| row.check(head, place)) {
                Some(Ok(())) => {
                    self.last = Some(row.prefix);
                    segment.row_counts[pack] += 1;
                    if self.keep.keeps(row.pack) {
                        segment.rows.push(row);
                    }
                }
                _ => {
                    segment.complete = false;
                    segment.faults.add("a chunk of its chunk table is not within a frame");
                }
            }
        }
    }

    fn fail(&mut self, fault: &ReadFault) {
        // What was found wrong before stays the graver.
        if self.segment.faults.is_empty() {
            self.segment.class = fault.class();
        }
        self.segment.faults.add(fault.what());
    }
}

impl Segment {
    /// A segment in which nothing was found wrong, and nothing else.
    #[cfg(test)]
    pub(crate) fn of_test(live: LiveSegment) -> Self {
        Self {
            id: SegmentId([0; 32]),
            live,
            class: Class::Corrupt,
            faults: Faults::default(),
            authentic: true,
            packs: None,
            first_listing: 0,
            frames: Vec::new(),
            rows: Vec::new(),
            row_counts: Vec::new(),
            complete: true,
        }
    }

    /// How many rows were kept.
    pub(crate) fn kept_count(&self) -> usize {
        self.rows.len()
    }

    /// The rows that were kept, in the order of the index.
    pub(crate) fn take_rows(&mut self) -> impl Iterator<Item = Row> {
        let (first, frames) = (self.first_listing, &self.frames);
        let rows = std::mem::take(&mut self.rows).into_iter();
        rows.filter_map(move |row| {
            let place = frames.get(usize::from(row.pack))?.get(usize::from(row.frame))?;
            Some(Row::new(&row, first + u32::from(row.pack), *place))
        })
    }
}

/// Takes the frame table apart: places of frames for each pack.
fn frames_of(head: &SegmentHead, packs: &[PackRow], table: &[u8]) -> Result<Vec<Vec<FramePlace>>, String> {
    let broken = |rule: &str| Err(format!("malformed frame table: {rule}"));
    let Some((starts, rows)) = table.split_at_checked(packs.len() * 4) else {
        return broken("it ends too early");
    };
    let (starts, (rows, rest)) = (starts.as_chunks::<4>().0, rows.as_chunks::<12>());
    if !rest.is_empty() || rows.len() as u64 != u64::from(head.frame_count) {
        return broken("it has another length than its counts say");
    }
    let start =
        |pack: usize| starts.get(pack).map_or(rows.len(), |start| u32::from_le_bytes(*start) as usize);
    if start(0) != 0 {
        return broken("its frames do not begin with those of the first pack");
    }
    let mut frames = Vec::with_capacity(packs.len());
    for (number, pack) in packs.iter().enumerate() {
        let Some(rows) = rows.get(start(number)..start(number + 1)) else {
            return broken("its packs do not follow one another");
        };
        if rows.len() as u64 > PACK_FRAME_COUNT_MAX {
            return broken("a pack has too many frames");
        }
        let places: Vec<_> = rows.iter().map(read_frame_row).collect();
        if let Some(error) = places.iter().find_map(|place| place.check(pack.len).err()) {
            return broken(&error.to_string());
        }
        frames.push(places);
    }
    Ok(frames)
}

const SEALED_PAGE: usize = 16_384 + 16;
const _: () = assert!(SEALED_PAGE as u64 == PAGE_LEN + TAG_LEN);

/// Some pages that lie together.
struct Group {
    first_page: u64,
    sealed_len: u64,
}

fn groups(table: &Table) -> impl Iterator<Item = Group> + use<> {
    let table = *table;
    (0..table.page_count()).step_by(PAGE_GROUP_STEP).map(move |first_page| {
        let last_page = (first_page + PAGE_GROUP).min(table.page_count()) - 1;
        let (last_offset, last_len) = table.page(last_page);
        Group { first_page, sealed_len: last_offset + last_len - table.page(first_page).0 }
    })
}

const _: () = assert!(PAGE_GROUP_STEP as u64 == PAGE_GROUP);
