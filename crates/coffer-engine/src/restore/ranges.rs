//! Which bytes of a file come from its content, and which are holes.

use coffer_format::tree::Hole;

use crate::error::EngineError;

/// The parts of a file that are not holes, taken from the front.
pub(super) struct DataRanges<'h> {
    offset: u64,
    size: u64,
    holes: &'h [Hole],
}

impl<'h> DataRanges<'h> {
    pub(super) fn new(size: u64, holes: &'h [Hole]) -> Self {
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

    /// The next range, of at most `len` bytes: its offset and length.
    pub(super) fn take(&mut self, len: u64) -> Result<(u64, u64), EngineError> {
        let end = self.holes.first().map_or(self.size, |hole| hole.offset);
        let (offset, len) = (self.offset, len.min(end.saturating_sub(self.offset)));
        if len == 0 {
            return Err(EngineError::invalid("its content is longer than its size says"));
        }
        self.offset += len;
        self.pass_hole();
        Ok((offset, len))
    }

    /// The ranges that `len` bytes of content fill.
    pub(super) fn take_all(&mut self, mut len: u64) -> Result<Vec<(u64, u64)>, EngineError> {
        let mut parts = Vec::with_capacity(1);
        while len > 0 {
            let part = self.take(len)?;
            len -= part.1;
            parts.push(part);
        }
        Ok(parts)
    }

    /// Where the next range begins.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) const fn is_done(&self) -> bool {
        self.offset == self.size
    }
}
