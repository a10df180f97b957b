//! The packs that live index segments list: present, of the right length, with the hash they are named by.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use coffer_crypto::hash::Hasher;
use coffer_format::id::{ChunkId, PackId};
use coffer_format::index::{ChunkRow, ID_PREFIX_LEN};
use coffer_format::object::ObjectName;
use coffer_format::pack::FramePlace;

use crate::error::VerifyError;
use crate::listing::Listing;
use crate::options::Options;
use crate::parallel;
use crate::progress::{Progress, Stage};
use crate::replay::Replayed;
use crate::report::{Affected, Class, Counts, Faults, Findings, PACKS_NAMED_MAX};
use crate::segments::Segment;
use crate::source::{Fetched, ReadFault, Source};

/// Bytes read and hashed at once.
const PIECE_LEN: usize = 1 << 20;

/// Bytes of a line of the processor's caches, or several of them.
const CACHE_LINE_LEN: usize = 64;

/// A pack that a live index segment lists.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) id: PackId,
    /// Length of the object in bytes.
    pub(crate) len: u64,
    /// Positions of the listings that name it.
    pub(crate) listings: Vec<u32>,
    /// Whether an intact segment lists it, so that it has to be there.
    pub(crate) trusted: bool,
    /// Another length that an intact segment gives it.
    pub(crate) other_len: Option<u64>,
}

/// A pack in the table of one segment.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) segment: u32,
    pub(crate) pack: u32,
    /// With a key: how many rows of the segment point into it.
    pub(crate) row_count: u32,
    /// With a key: places of its frames, if the rows of the index are in memory.
    pub(crate) frames: Vec<FramePlace>,
}

/// How a chunk was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RowState {
    /// Its pack was not opened.
    Unchecked,
    /// It is lost, or not what the row says.
    Bad,
    /// It is a data chunk of this id.
    GoodData,
    /// It is a meta chunk of this id.
    GoodMeta,
}

/// A row of the live index. 60 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The first 20 bytes are the index's; all are known once the row is good.
    pub(crate) id: [u8; 32],
    pub(crate) listing: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) frame: u16,
    pub(crate) state: RowState,
    /// Where the segment says that the frame is.
    pub(crate) place: FramePlace,
}

const _: () = assert!(size_of::<Row>() == 60);

impl Row {
    /// A row of a segment whose pack is `listing`.
    pub(crate) fn new(row: &ChunkRow, listing: u32, place: FramePlace) -> Self {
        let mut id = [0; 32];
        id[..ID_PREFIX_LEN].copy_from_slice(&row.prefix);
        let (offset, len, frame) = (row.offset, row.len, row.frame);
        Self { id, listing, offset, len, frame, state: RowState::Unchecked, place }
    }

    /// The part of the id that the index gives.
    pub(crate) fn prefix(&self) -> [u8; ID_PREFIX_LEN] {
        ChunkRow::prefix_of(&ChunkId(self.id))
    }
}

/// All live segments and what they list.
#[derive(Debug)]
pub(crate) struct PackTable {
    /// Ascending by name.
    pub(crate) segments: Vec<Segment>,
    /// Ascending by name.
    pub(crate) packs: Vec<Pack>,
    pub(crate) listings: Vec<Listed>,
    /// Whether the packs of some live segment are not known.
    pub(crate) has_unreadable_segments: bool,
}

impl PackTable {
    /// Collects the packs of all segments, and those of their rows that were kept.
    pub(crate) fn new(mut segments: Vec<Segment>) -> (Self, Vec<Row>) {
        let has_unreadable_segments = segments.iter().any(|segment| segment.packs.is_none());
        let listed_count = segments.iter().flat_map(|segment| &segment.packs).map(Vec::len).sum();
        let mut packs: Vec<Pack> = Vec::with_capacity(listed_count);
        for segment in &segments {
            packs.extend(segment.packs.iter().flatten().map(|row| Pack {
                id: row.id,
                len: row.len,
                listings: Vec::new(),
                trusted: segment.authentic,
                other_len: None,
            }));
        }
        // Of several listings the first that is to be trusted gives the length.
        packs.sort_by_key(|pack| (pack.id, !pack.trusted));
        packs.dedup_by(|again, first| {
            if again.id == first.id && again.trusted && again.len != first.len {
                first.other_len = Some(again.len);
            }
            again.id == first.id
        });
        let listings = Vec::with_capacity(listed_count);
        let mut table = Self { segments: Vec::new(), packs, listings, has_unreadable_segments };
        let mut rows = Vec::with_capacity(segments.iter().map(Segment::kept_count).sum());
        for (number, segment) in (0..).zip(&mut segments) {
            table.add_listings(number, segment, &mut rows);
        }
        table.segments = segments;
        (table, rows)
    }

    fn add_listings(&mut self, segment_number: u32, segment: &mut Segment, rows: &mut Vec<Row>) {
        let first = count32(self.listings.len());
        segment.first_listing = first;
        rows.extend(segment.take_rows());
        let mut frames = std::mem::take(&mut segment.frames).into_iter();
        let mut row_counts = std::mem::take(&mut segment.row_counts).into_iter();
        for (listing, row) in (first..).zip(segment.packs.take().unwrap_or_default()) {
            let Some(pack) = self.position(&row.id) else { continue };
            let (frames, row_count) =
                (frames.next().unwrap_or_default(), row_counts.next().unwrap_or_default());
            self.packs[pack].listings.push(listing);
            self.listings.push(Listed { segment: segment_number, pack: count32(pack), row_count, frames });
        }
    }

    /// Where a pack stands in the table.
    pub(crate) fn position(&self, id: &PackId) -> Option<usize> {
        self.packs.binary_search_by_key(id, |pack| pack.id).ok()
    }

    /// The segments that list a pack.
    pub(crate) fn segments_of<'a>(&'a self, pack: &'a Pack) -> impl Iterator<Item = u32> + 'a {
        pack.listings.iter().map(|listing| self.listings[*listing as usize].segment)
    }
}

/// What is wrong with one pack.
#[derive(Debug)]
pub(crate) struct PackFault {
    pub(crate) class: Class,
    pub(crate) faults: Faults,
}

impl PackFault {
    pub(crate) fn new(class: Class, what: impl Into<String>) -> Self {
        let mut faults = Faults::default();
        faults.add(what);
        Self { class, faults }
    }

    /// What a fault met on reading a pack says of it.
    pub(crate) fn of_read(fault: &ReadFault) -> Self {
        Self::new(fault.class(), fault.what())
    }

    /// Whether it says something of the pack's bytes: one that is archived was not read.
    pub(crate) fn is_of_bytes(&self) -> bool {
        self.class != Class::Archived
    }
}

/// The length of a pack. A listing settles it where it confirms the index; else the object itself is asked for.
pub(crate) fn actual_len(
    source: &Source<'_>,
    listing: &Listing,
    pack: &Pack,
) -> Result<Fetched<u64>, VerifyError> {
    match listing.pack_len(&pack.id) {
        Some(len) if len == pack.len => Ok(Ok(len)),
        _ => {
            let name = ObjectName::Pack(pack.id);
            let len = source.len(name)?;
            if len != Ok(pack.len) && source.distrust(name) { source.len(name) } else { Ok(len) }
        }
    }
}

/// What the lengths of a pack say about it.
pub(crate) fn len_fault(pack: &Pack, actual: &Fetched<u64>) -> Option<PackFault> {
    let fault = match actual {
        Err(fault) => Some(PackFault::of_read(fault)),
        Ok(len) if *len != pack.len => {
            Some(PackFault::new(Class::Corrupt, format!("it is {len} bytes, the index says {}", pack.len)))
        }
        Ok(_) => None,
    };
    match pack.other_len {
        Some(other) if fault.is_none() => {
            let what = format!("index segments give it {} and {other} bytes", pack.len);
            Some(PackFault::new(Class::Corrupt, what))
        }
        _ => fault,
    }
}

/// Checks packs and reports what is wrong with them and with segments, without a key.
#[expect(clippy::too_many_arguments, reason = "each is a different thing that the check needs")]
pub(crate) fn check(
    source: &Source<'_>,
    listing: &Listing,
    table: &PackTable,
    chosen: &[bool],
    replayed: &Replayed,
    options: &Options,
    progress: &dyn Progress,
    findings: &mut Findings,
    counts: &mut Counts,
) -> Result<(), VerifyError> {
    progress.begin(Stage::Packs, chosen_bytes(table, chosen));
    let check = |buffer: &mut Vec<u8>, (pack, chosen): (&Pack, &bool)| {
        let actual = actual_len(source, listing, pack)?;
        let mut fault = len_fault(pack, &actual);
        let mut hashed = 0;
        if *chosen {
            if fault.is_none() {
                fault = hash_fault(source, pack, buffer)?;
                if fault.as_ref().is_some_and(PackFault::is_of_bytes)
                    && source.distrust(ObjectName::Pack(pack.id))
                {
                    fault = hash_fault(source, pack, buffer)?;
                }
                hashed = if fault.as_ref().is_none_or(PackFault::is_of_bytes) { pack.len } else { 0 };
            }
            progress.advance(Stage::Packs, pack.len);
        }
        Ok((fault, hashed))
    };
    let jobs = table.packs.iter().zip(chosen);
    let threads = source.threads(options.threads);
    let weight = |(pack, chosen): &(&Pack, &bool)| if **chosen { pack.len } else { 0 };
    let checked = parallel::map_heaviest_first(threads, jobs, weight, || Ok(Vec::new()), check)?;
    let mut segment_faults: Vec<Faults> = vec![Faults::default(); table.segments.len()];
    let mut further = FurtherPacks::default();
    let mut named_count = 0;
    for (pack, (fault, hashed)) in table.packs.iter().zip(checked) {
        counts.hashed_packs += u64::from(hashed > 0);
        counts.hashed_bytes += hashed;
        let Some(fault) = fault else { continue };
        if !pack.trusted {
            blame_segments(table, pack, &fault, &mut segment_faults);
            continue;
        }
        let segments: BTreeSet<_> = table.segments_of(pack).collect();
        let needing =
            segments.into_iter().flat_map(|at| replayed.may_need(&table.segments[at as usize].live));
        if named_count == PACKS_NAMED_MAX {
            further.add(fault.class).extend_snapshots(needing);
            continue;
        }
        named_count += 1;
        let affected = Affected::of_snapshots(needing);
        findings.add(fault.class, ObjectName::Pack(pack.id), fault.faults.what()).merge(affected);
    }
    further.report(findings);
    for (segment, more) in table.segments.iter().zip(segment_faults) {
        let mut faults = segment.faults.clone();
        faults.merge(more);
        if !faults.is_empty() {
            let affected = Affected::of_snapshots(replayed.may_need(&segment.live));
            findings.add(segment.class, ObjectName::Segment(segment.id), faults.what()).merge(affected);
        }
    }
    Ok(())
}

/// Packs with faults beyond the [`PACKS_NAMED_MAX`] that are named: how many, and who suffers.
#[derive(Debug, Default)]
pub(crate) struct FurtherPacks {
    classes: BTreeMap<Class, (u64, Affected)>,
}

impl FurtherPacks {
    /// One more.
    pub(crate) fn add(&mut self, class: Class) -> &mut Affected {
        let (count, affected) = self.classes.entry(class).or_default();
        *count += 1;
        affected
    }

    /// Who suffers from those of a class.
    pub(crate) fn affected(&mut self, class: Class) -> &mut Affected {
        &mut self.classes.entry(class).or_default().1
    }

    pub(crate) fn report(self, findings: &mut Findings) {
        for (class, (count, affected)) in self.classes {
            let what = format!("{count} more packs are {}", class.name());
            findings.add(class, "(further packs)", what).merge(affected);
        }
    }
}

/// A pack that only damaged segments list may be one that never was: what is wrong with it is a fault of theirs.
pub(crate) fn blame_segments(
    table: &PackTable,
    pack: &Pack,
    fault: &PackFault,
    segment_faults: &mut [Faults],
) {
    for segment in table.segments_of(pack) {
        let what = format!("pack {} of its table: {}", pack.id.short(), fault.faults.what());
        segment_faults[segment as usize].add(what);
    }
}

/// Length of the packs that are read whole.
pub(crate) fn chosen_bytes(table: &PackTable, chosen: &[bool]) -> u64 {
    table.packs.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(pack, _)| pack.len).sum()
}

/// Reads a pack piece by piece and hashes each while it is in the processor's caches.
fn hash_fault(
    source: &Source<'_>,
    pack: &Pack,
    buffer: &mut Vec<u8>,
) -> Result<Option<PackFault>, VerifyError> {
    let mut hasher = Hasher::new();
    let mut offset = 0;
    while offset < pack.len {
        let len = usize::try_from(pack.len - offset).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
        let piece = aligned(buffer, len);
        if let Err(fault) = source.read_range(ObjectName::Pack(pack.id), offset, piece)? {
            return Ok(Some(PackFault::of_read(&fault)));
        }
        hasher.update(piece);
        offset += len as u64;
    }
    let intact = hasher.finalize() == pack.id.0;
    Ok((!intact).then(|| PackFault::new(Class::Corrupt, HASH_FAULT)))
}

/// `len` bytes of the buffer that begin with a line of the processor's caches. In the middle of one, where an allocator puts them,
/// copying and hashing take an eighth longer.
fn aligned(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    let range = aligned_range(buffer, len);
    &mut buffer[range]
}

/// Where these bytes are. The buffer grows where it is too short.
pub(crate) fn aligned_range(buffer: &mut Vec<u8>, len: usize) -> Range<usize> {
    if buffer.len() < len + CACHE_LINE_LEN {
        // What is in it is not needed, and would be copied.
        buffer.clear();
        buffer.resize(len + CACHE_LINE_LEN, 0);
    }
    let start = buffer.as_ptr().align_offset(CACHE_LINE_LEN).min(CACHE_LINE_LEN);
    start..start + len
}

/// What is said of a pack whose hash is not its name.
pub(crate) const HASH_FAULT: &str = "its bytes have another hash than its name";

/// A number of things in memory that the limits of the format keep within 32 bits.
pub(crate) fn count32(count: usize) -> u32 {
    u32::try_from(count).expect("packs and segments are far fewer than 2^32")
}
