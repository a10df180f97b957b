//! Which index segments may list a chunk: for each chunk the first eight bytes of its id, and the segment.
//!
//! A vault has a segment for each backup; without this, every question would be put to all of them. The table is kept on disk in the local
//! cache, sorted, and read a block at a time, so memory does not grow with the vault; what came since is added in memory. It is made
//! anew whenever it is missing, and it is never believed: a segment that it names is asked, and a chunk that it does not know is at worst
//! stored once more. It holds no content and no key, only keyed hashes.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Mutex;

use coffer_format::id::SegmentId;

const MAGIC: &[u8; 8] = b"cofflkp1";
const HEAD_LEN: usize = 32;
const ROW_LEN: usize = 12;
/// Name and row count of a segment.
const SEGMENT_LEN: usize = 40;
/// Rows of a block: it is read at once, and its first fingerprint is kept in memory.
const BLOCK_ROW_COUNT: usize = 340;
/// Blocks kept in memory.
const BLOCK_CACHE_COUNT_MAX: usize = 256;
/// A table of fewer rows is not worth a file.
const FILE_ROW_COUNT_MIN: usize = 4096;
/// Longer runs are not merged any more: that would need twice their memory.
const MERGED_ROW_COUNT_MAX: usize = 1 << 20;
/// Segments that a table may name: more than any vault has, and a bound before memory is taken.
const SEGMENT_COUNT_MAX: u64 = 1 << 24;
/// Rows that a table may have.
const ROW_COUNT_MAX: u64 = 1 << 40;

/// The first eight bytes of a chunk's id.
pub(crate) fn fingerprint(prefix: &[u8]) -> u64 {
    prefix.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A row: fingerprint, and the segment's place in the list of segments.
type Row = (u64, u32);

/// Rows in memory in ascending order, 12 bytes each.
#[derive(Debug, Default)]
struct Run {
    fingerprints: Vec<u64>,
    segments: Vec<u32>,
}

impl Run {
    const fn len(&self) -> usize {
        self.fingerprints.len()
    }

    fn push(&mut self, row: Row) {
        self.fingerprints.push(row.0);
        self.segments.push(row.1);
    }

    fn row(&self, position: usize) -> Option<Row> {
        Some((*self.fingerprints.get(position)?, *self.segments.get(position)?))
    }

    fn find(&self, fingerprint: u64, found: &mut Vec<u32>) {
        let from = self.fingerprints.partition_point(|known| *known < fingerprint);
        let count = self.fingerprints[from..].iter().take_while(|known| **known == fingerprint).count();
        found.extend_from_slice(&self.segments[from..from + count]);
    }

    fn merge(one: &Self, other: &Self) -> Self {
        let mut merged = Self {
            fingerprints: Vec::with_capacity(one.len() + other.len()),
            segments: Vec::with_capacity(one.len() + other.len()),
        };
        let (mut a, mut b) = (0, 0);
        loop {
            match (one.row(a), other.row(b)) {
                (Some(first), second) if second.is_none_or(|second| first <= second) => {
                    merged.push(first);
                    a += 1;
                }
                (_, Some(second)) => {
                    merged.push(second);
                    b += 1;
                }
                _ => return merged,
            }
        }
    }
}

/// The table: what is in the file, and what was added since.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    segments: Vec<SegmentId>,
    /// Rows of each segment.
    row_counts: Vec<u64>,
    file: Option<Table>,
    /// Rows that are not in the file. Runs of like length are merged, so they are few.
    runs: Vec<Run>,
}

impl Lookup {
    /// A table that knows what `file` says of the segments in `live`; with nothing in it if the file is none of this program's.
    pub(crate) fn open(file: Option<File>, live: impl Fn(&SegmentId) -> bool) -> Self {
        let opened = file.and_then(|file| Table::open(file, live).ok());
        match opened {
            Some((table, segments, row_counts)) => {
                Self { segments, row_counts, file: Some(table), ..Self::default() }
            }
            None => Self::default(),
        }
    }

    /// Segments whose rows it holds.
    pub(crate) fn segments(&self) -> &[SegmentId] {
        &self.segments
    }

    /// Makes room for a segment whose rows come next, and returns its place.
    pub(crate) fn begin_segment(&mut self, segment: SegmentId) -> u32 {
        self.segments.push(segment);
        self.row_counts.push(0);
        self.runs.push(Run::default());
        u32::try_from(self.segments.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes rows of the segment that was begun last. [`Self::end_segment`] comes after the last of them.
    pub(crate) fn extend(&mut self, segment: u32, fingerprints: impl Iterator<Item = u64>) {
        let Some(run) = self.runs.last_mut() else { return };
        let before = run.len();
        fingerprints.for_each(|fingerprint| run.push((fingerprint, segment)));
        if let Some(count) = self.row_counts.get_mut(segment as usize) {
            *count += (run.len() - before) as u64;
        }
    }

    /// Makes the rows of the segment that was begun last ready to be looked up.
    pub(crate) fn end_segment(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            // All of one segment; they come ascending, unless somebody's segment is not what it should be.
            run.fingerprints.sort_unstable();
        }
        while let [.., before, last] = self.runs.as_slice()
            && before.len() + last.len() <= MERGED_ROW_COUNT_MAX
            && before.len() <= 2 * last.len()
        {
            let merged = Run::merge(before, last);
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
        self.runs.retain(|run| run.len() > 0);
    }

    /// The places of the segments that may list a chunk, ascending, none twice.
    pub(crate) fn candidates(&self, fingerprint: u64) -> Vec<u32> {
        let mut found = Vec::new();
        if let Some(table) = &self.file {
            // A file that cannot be read any more answers nothing.
            drop(table.find(fingerprint, &mut found));
        }
        self.runs.iter().for_each(|run| run.find(fingerprint, &mut found));
        found.sort_unstable();
        found.dedup();
        found.retain(|segment| (*segment as usize) < self.segments.len());
        found
    }

    fn in_memory(&self) -> usize {
        self.runs.iter().map(Run::len).sum()
    }

    /// Whether writing the table out now spares the next ones, or memory, more than it costs.
    pub(crate) fn is_worth_writing(&self) -> bool {
        let in_file = self.file.as_ref().map_or(0, |table| table.row_count);
        self.in_memory() >= FILE_ROW_COUNT_MIN.max(in_file / 8)
            || self.file.as_ref().is_some_and(|table| table.dead_count * 4 > in_file)
    }

    /// Writes the whole table out, but for rows of segments that are not live any more.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, out);
        let is_dead = |segment: u32| self.file.as_ref().is_some_and(|table| table.dead.contains(&segment));
        let in_file = self.file.as_ref().map_or(0, |table| table.row_count - table.dead_count);
        let row_count = in_file + self.in_memory();
        out.write_all(MAGIC)?;
        out.write_all(&(self.segments.len() as u64).to_le_bytes())?;
        out.write_all(&(row_count as u64).to_le_bytes())?;
        out.write_all(&[0; 8])?;
        // A dead segment leaves its place empty, so that no row has to be renumbered. Should it come back, it is not known.
        for (place, (segment, count)) in self.segments.iter().zip(&self.row_counts).enumerate() {
            let dead = u32::try_from(place).is_ok_and(is_dead);
            out.write_all(if dead { &[0; 32] } else { &segment.0 })?;
            out.write_all(&if dead { 0 } else { *count }.to_le_bytes())?;
        }
        let mut fences = Vec::with_capacity(row_count.div_ceil(BLOCK_ROW_COUNT));
        let mut written = 0_usize;
        let mut old = self.file.as_ref().map(Rows::new);
        let mut next_old = || match &mut old {
            Some(rows) => rows.next_where(|row| !is_dead(row.1)),
            None => Ok(None),
        };
        let mut from_file = next_old()?;
        let mut positions = vec![0; self.runs.len()];
        loop {
            let heads = self.runs.iter().zip(&positions).enumerate();
            let heads = heads.filter_map(|(number, (run, position))| Some((run.row(*position)?, number)));
            let row = match (heads.min(), from_file) {
                (Some((row, number)), old) if old.is_none_or(|old| row < old) => {
                    positions[number] += 1;
                    row
                }
                (_, Some(row)) => {
                    from_file = next_old()?;
                    row
                }
                _ => break,
            };
            if written.is_multiple_of(BLOCK_ROW_COUNT) {
                fences.push(row.0);
            }
            written += 1;
            out.write_all(&row.0.to_le_bytes())?;
            out.write_all(&row.1.to_le_bytes())?;
        }
        if written != row_count {
            return Err(io::Error::other("the table has other rows than it says"));
        }
        fences.iter().try_for_each(|fence| out.write_all(&fence.to_le_bytes()))?;
        out.flush()
    }
}

/// A table in a file.
#[derive(Debug)]
struct Table {
    file: File,
    rows_offset: u64,
    row_count: usize,
    /// First fingerprint of each block.
    fences: Vec<u64>,
    /// Segments that are not live any more, and how many rows they have.
    dead: HashSet<u32>,
    dead_count: usize,
    blocks: Mutex<BTreeMap<usize, Box<[u8]>>>,
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a lookup table")
}

impl Table {
    fn open(file: File, live: impl Fn(&SegmentId) -> bool) -> io::Result<(Self, Vec<SegmentId>, Vec<u64>)> {
        let mut head = [0; HEAD_LEN];
        read_at(&file, &mut head, 0)?;
        let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|at| head[from + at]));
        let (segment_count, row_count) = (word(8), word(16));
        if head[..8] != *MAGIC || segment_count > SEGMENT_COUNT_MAX || row_count > ROW_COUNT_MAX {
            return Err(malformed());
        }
        let fence_count = row_count.div_ceil(BLOCK_ROW_COUNT as u64);
        let rows_offset = HEAD_LEN as u64 + segment_count * SEGMENT_LEN as u64;
        let fences_offset = rows_offset + row_count * ROW_LEN as u64;
        if file.metadata()?.len() != fences_offset + fence_count * 8 {
            return Err(malformed());
        }
        let bytes = |count: u64, size: u64| {
            usize::try_from(count * size).map(|len| vec![0_u8; len]).map_err(|_| malformed())
        };
        let mut list = bytes(segment_count, SEGMENT_LEN as u64)?;
        read_at(&file, &mut list, HEAD_LEN as u64)?;
        let (mut segments, mut row_counts) = (Vec::new(), Vec::new());
        let (mut dead, mut dead_count) = (HashSet::new(), 0_u64);
        for (place, entry) in (0..).zip(list.as_chunks::<SEGMENT_LEN>().0) {
            let segment = SegmentId(std::array::from_fn(|at| entry[at]));
            let count = u64::from_le_bytes(std::array::from_fn(|at| entry[32 + at]));
            if !live(&segment) {
                dead.insert(place);
                dead_count = dead_count.saturating_add(count);
            }
            segments.push(segment);
            row_counts.push(count);
        }
        if row_counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count)) != Some(row_count) {
            return Err(malformed());
        }
        let mut fences = bytes(fence_count, 8)?;
        read_at(&file, &mut fences, fences_offset)?;
        let fences = fences.as_chunks::<8>().0.iter().map(|fence| u64::from_le_bytes(*fence)).collect();
        let count = |value: u64| usize::try_from(value).map_err(|_| malformed());
        let (row_count, dead_count) = (count(row_count)?, count(dead_count)?);
        let blocks = Mutex::default();
        Ok((Self { file, rows_offset, row_count, fences, dead, dead_count, blocks }, segments, row_counts))
    }

    fn find(&self, fingerprint: u64, found: &mut Vec<u32>) -> io::Result<()> {
        // The block before the first one that begins behind the fingerprint, and more if that begins with it.
        let mut block = self.fences.partition_point(|fence| *fence < fingerprint).saturating_sub(1);
        while self.fences.get(block).is_some_and(|fence| *fence <= fingerprint) {
            self.with_block(block, |rows| {
                let from = rows.partition_point(|row| row_of(row).0 < fingerprint);
                let rows = rows[from..].iter().map(row_of).take_while(|row| row.0 == fingerprint);
                found.extend(rows.map(|row| row.1).filter(|segment| !self.dead.contains(segment)));
            })?;
            block += 1;
        }
        Ok(())
    }

    fn with_block(&self, block: usize, mut use_rows: impl FnMut(&[[u8; ROW_LEN]])) -> io::Result<()> {
        let mut blocks = self.blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bytes) = blocks.get(&block) {
            use_rows(bytes.as_chunks().0);
            return Ok(());
        }
        let first = block * BLOCK_ROW_COUNT;
        let count = self.row_count.saturating_sub(first).min(BLOCK_ROW_COUNT);
        let mut bytes = vec![0; count * ROW_LEN].into_boxed_slice();
        read_at(&self.file, &mut bytes, self.rows_offset + (first * ROW_LEN) as u64)?;
        use_rows(bytes.as_chunks().0);
        if blocks.len() >= BLOCK_CACHE_COUNT_MAX {
            blocks.clear();
        }
        blocks.insert(block, bytes);
        Ok(())
    }
}

fn row_of(bytes: &[u8; ROW_LEN]) -> Row {
    let fingerprint = u64::from_le_bytes(std::array::from_fn(|at| bytes[at]));
    (fingerprint, u32::from_le_bytes(std::array::from_fn(|at| bytes[8 + at])))
}

/// The rows of a table one after the other.
struct Rows<'t> {
    table: &'t Table,
    buffer: Vec<u8>,
    position: usize,
    read_count: usize,
}

impl<'t> Rows<'t> {
    const BUFFER_ROW_COUNT: usize = 1 << 16;

    const fn new(table: &'t Table) -> Self {
        Self { table, buffer: Vec::new(), position: 0, read_count: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Row>> {
        if self.position == self.buffer.len() {
            let count = (self.table.row_count - self.read_count).min(Self::BUFFER_ROW_COUNT);
            if count == 0 {
                return Ok(None);
            }
            self.buffer.resize(count * ROW_LEN, 0);
            let offset = self.table.rows_offset + (self.read_count * ROW_LEN) as u64;
            read_at(&self.table.file, &mut self.buffer, offset)?;
            (self.position, self.read_count) = (0, self.read_count + count);
        }
        let row = self.buffer[self.position..].first_chunk::<ROW_LEN>().map(row_of);
        self.position += ROW_LEN;
        Ok(row)
    }

    fn next_where(&mut self, wanted: impl Fn(&Row) -> bool) -> io::Result<Option<Row>> {
        loop {
            match self.next()? {
                Some(row) if !wanted(&row) => {}
                row => return Ok(row),
            }
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(not(unix))]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}

#[cfg(test)]
mod tests;
