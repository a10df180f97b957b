//! Reading a file with holes: what is between them, and where they are.

use std::fs::File;
use std::io::{ErrorKind, Result, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use coffer_collect::{Found, next_data};
use coffer_format::tree::Hole;

use super::entries::Lost;
use super::files::{Source, unreadable};
use crate::error::EngineError;

/// A file with more holes has the further ones stored as zeros: the list of them is held in memory, and by every reader.
const HOLE_COUNT_MAX: usize = 65_536;

/// A file with holes. Together with the bytes read, they are as long as the file was found to be.
pub(super) struct Spread<'f> {
    file: &'f File,
    found: &'f Found,
    place: Place,
}

/// How far a file with holes was read, and what is next in it.
#[derive(Debug, Default)]
struct Place {
    /// Everything before this was read, or is in a hole.
    position: u64,
    /// Up to here there is data.
    data_end: u64,
    is_done: bool,
    holes: Vec<Hole>,
}

impl<'f> Spread<'f> {
    /// `None` if the file has no holes; it stands at its beginning then.
    pub(super) fn new(file: &'f mut File, found: &'f Found) -> Result<Option<Self>> {
        let len = file.metadata()?.len();
        let is_dense = next_data(file, 0)?.map_or(len == 0, |data| data.start == 0 && data.end >= len);
        if is_dense {
            file.rewind()?;
            return Ok(None);
        }
        Ok(Some(Self { file, found, place: Place::default() }))
    }

    /// The holes, and the length of the file.
    pub(super) fn finish(self) -> (Vec<Hole>, u64) {
        (self.place.holes, self.place.position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && !self.place.is_done {
            if self.place.position == self.place.data_end {
                self.pass_hole()?;
                continue;
            }
            let left = usize::try_from(self.place.data_end - self.place.position).unwrap_or(usize::MAX);
            let end = buffer.len().min(filled.saturating_add(left));
            match self.file.read_at(&mut buffer[filled..end], self.place.position) {
                // It became shorter, or this was the last part of it.
                Ok(0) => self.place.is_done = true,
                Ok(len) => {
                    filled += len;
                    self.place.position += len as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn pass_hole(&mut self) -> Result<()> {
        let position = self.place.position;
        if self.place.holes.len() >= HOLE_COUNT_MAX {
            self.place.pass_hole(position..u64::MAX);
        } else if let Some(data) = next_data(self.file, position)? {
            self.place.pass_hole(data);
        } else {
            let len = self.file.metadata()?.len();
            self.place.pass_hole(len..len);
            self.place.is_done = true;
        }
        Ok(())
    }
}

impl Place {
    /// Goes on to where `data` begins. It is empty where a hole was made while the system was asked for its end.
    fn pass_hole(&mut self, data: Range<u64>) {
        if let Some(len) = data.start.checked_sub(self.position).filter(|len| *len > 0) {
            match self.holes.last_mut() {
                // Holes that touch each other are one.
                Some(last) if last.offset + last.len == self.position => last.len += len,
                _ => self.holes.push(Hole { offset: self.position, len }),
            }
            self.position = data.start;
        }
        self.data_end = data.end.max(self.position);
    }
}

impl Source for Spread<'_> {
    fn fill(
        &mut self,
        buffer: &mut [u8],
        _: &mut dyn FnMut() -> std::result::Result<(), EngineError>,
    ) -> std::result::Result<usize, Lost> {
        self.read(buffer).map_err(|error| unreadable(self.found, error))
    }
}

#[cfg(test)]
mod tests {
    use coffer_format::tree::{decode_holes, encode_holes};

    use super::*;

    /// Where data was found, one answer after the other, and the holes that this comes to in a file of 100 bytes.
    #[track_caller]
    fn check(data: &[Range<u64>], expected: &[(u64, u64)]) {
        let mut place = Place::default();
        for data in data {
            place.pass_hole(data.clone());
            // What there is is read.
            place.position = place.data_end;
        }
        let expected: Vec<_> =
            expected.iter().map(|(offset, len)| Hole { offset: *offset, len: *len }).collect();
        assert_eq!(place.holes, expected);
        assert_eq!(decode_holes(&encode_holes(&place.holes), 100).unwrap(), expected);
    }

    #[test]
    fn holes_that_touch_are_one() {
        check(&[8..16, 32..100], &[(0, 8), (16, 16)]);
        check(&[8..8, 12..12, 12..20, 24..100], &[(0, 12), (20, 4)]);
        check(&[0..4, 8..8, 100..100], &[(4, 96)]);
        // What was shortened meanwhile ends before.
        check(&[8..16, 10..10], &[(0, 8)]);
    }
}
