//! Rows in a temporary file: sorted runs of them, and all of them merged.
//!
//! The file has no name and is gone when the process ends. Ids in it are keyed hashes; there is no content and no key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use coffer_format::pack::FramePlace;

use crate::error::VerifyError;
use crate::packs::{Row, RowState};

/// Length of a row in the file.
const LEN: usize = 60;
/// Rows of each run in memory while runs are merged, and of all of them together.
const RUN_BUFFER: u64 = 1_024;
const RUN_BUFFERS: u64 = 131_072;
/// Rows that are written at once.
const WRITTEN_AT_ONCE: usize = 4_096;

fn fail(source: io::Error) -> VerifyError {
    VerifyError::Scratch { directory: std::env::temp_dir().display().to_string(), source }
}

fn encode(row: &Row) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[..32].copy_from_slice(&row.id);
    let FramePlace { offset, sealed_len, plain_len } = row.place;
    let numbers = [row.listing, row.offset, row.len, offset, sealed_len, plain_len];
    for (to, number) in out[32..56].as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *to = number.to_le_bytes();
    }
    out[56..58].copy_from_slice(&row.frame.to_le_bytes());
    out[58] = row.state as u8;
    out
}

fn decode(bytes: &[u8; LEN]) -> Row {
    let mut id = [0; 32];
    id.copy_from_slice(&bytes[..32]);
    let mut numbers = [0; 6];
    for (number, from) in numbers.iter_mut().zip(bytes[32..56].as_chunks::<4>().0) {
        *number = u32::from_le_bytes(*from);
    }
    let [listing, offset, len, frame_offset, sealed_len, plain_len] = numbers;
    let states = [RowState::Unchecked, RowState::Bad, RowState::GoodData, RowState::GoodMeta];
    Row {
        id,
        listing,
        offset,
        len,
        frame: u16::from_le_bytes([bytes[56], bytes[57]]),
        // What is no state is no good row.
        state: states.get(usize::from(bytes[58])).copied().unwrap_or(RowState::Bad),
        place: FramePlace { offset: frame_offset, sealed_len, plain_len },
    }
}

/// Rows one after the other in a file.
pub(crate) struct RowFile {
    file: File,
}

impl RowFile {
    fn new() -> Result<Self, VerifyError> {
        tempfile::tempfile().map(|file| Self { file }).map_err(fail)
    }

    fn append<'r>(&mut self, rows: impl Iterator<Item = &'r Row>) -> Result<(), VerifyError> {
        let mut bytes = Vec::with_capacity(WRITTEN_AT_ONCE * LEN);
        for row in rows {
            bytes.extend_from_slice(&encode(row));
            if bytes.len() == WRITTEN_AT_ONCE * LEN {
                self.file.write_all(&bytes).map_err(fail)?;
                bytes.clear();
            }
        }
        self.file.write_all(&bytes).map_err(fail)
    }

    /// Reads `count` rows from row `first` on, instead of what is in `out`.
    pub(crate) fn read(&self, first: u64, count: u64, out: &mut Vec<Row>) -> Result<(), VerifyError> {
        out.clear();
        let mut block = [0; 64 * LEN];
        let mut offset = first * LEN as u64;
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let rows = left.min(64);
            let bytes = &mut block[..rows * LEN];
            self.file.read_exact_at(bytes, offset).map_err(fail)?;
            out.extend(bytes.as_chunks::<LEN>().0.iter().map(decode));
            offset += bytes.len() as u64;
            left -= rows;
        }
        Ok(())
    }
}

/// Runs of sorted rows.
pub(crate) struct Runs {
    file: RowFile,
    runs: Vec<Range<u64>>,
}

impl Runs {
    pub(crate) fn new() -> Result<Self, VerifyError> {
        Ok(Self { file: RowFile::new()?, runs: Vec::new() })
    }

    /// Adds a run.
    pub(crate) fn add(&mut self, rows: &[Row]) -> Result<(), VerifyError> {
        let from = self.runs.last().map_or(0, |run| run.end);
        self.file.append(rows.iter())?;
        self.runs.push(from..from + rows.len() as u64);
        Ok(())
    }

    /// Merges all runs into one, in the order of `key`, and shows each row in that order.
    pub(crate) fn merge<K: Ord>(
        self,
        key: impl Fn(&Row) -> K,
        mut see: impl FnMut(&Row),
    ) -> Result<RowFile, VerifyError> {
        let at_once = (RUN_BUFFERS / (self.runs.len() as u64).max(1)).clamp(16, RUN_BUFFER);
        let mut runs: Vec<Run<'_>> = Vec::with_capacity(self.runs.len());
        let mut heads = BinaryHeap::with_capacity(self.runs.len());
        for range in self.runs {
            let mut run = Run { file: &self.file, left: range, at_once, rows: Vec::new() };
            if let Some(row) = run.peek()? {
                heads.push(Reverse((key(row), runs.len())));
                runs.push(run);
            }
        }
        let mut merged = RowFile::new()?;
        let mut some: Vec<Row> = Vec::with_capacity(WRITTEN_AT_ONCE);
        while let Some(Reverse((_, number))) = heads.pop() {
            let run = &mut runs[number];
            if let Some(row) = run.next()? {
                see(&row);
                some.push(row);
            }
            if let Some(row) = run.peek()? {
                heads.push(Reverse((key(row), number)));
            }
            if some.len() == WRITTEN_AT_ONCE {
                merged.append(some.iter())?;
                some.clear();
            }
        }
        merged.append(some.iter())?;
        Ok(merged)
    }
}

/// A run that is being merged: what is in memory of it, last row first, and what is not.
struct Run<'a> {
    file: &'a RowFile,
    left: Range<u64>,
    at_once: u64,
    rows: Vec<Row>,
}

impl Run<'_> {
    fn peek(&mut self) -> Result<Option<&Row>, VerifyError> {
        if self.rows.is_empty() && !self.left.is_empty() {
            let count = self.at_once.min(self.left.end - self.left.start);
            self.file.read(self.left.start, count, &mut self.rows)?;
            self.rows.reverse();
            self.left.start += count;
        }
        Ok(self.rows.last())
    }

    fn next(&mut self) -> Result<Option<Row>, VerifyError> {
        self.peek()?;
        Ok(self.rows.pop())
    }
}
