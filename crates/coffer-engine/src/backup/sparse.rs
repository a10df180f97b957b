//! Reading a file with holes: what is between them, and where they are.

use std::fs::File;
use std::io::{ErrorKind, Result, Seek};
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
        Ok(Some(Self { file, found, position: 0, data_end: 0, is_done: false, holes: Vec::new() }))
    }

    /// The holes, and the length of the file.
    pub(super) fn finish(self) -> (Vec<Hole>, u64) {
        (self.holes, self.position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && !self.is_done {
            if self.position == self.data_end {
                self.pass_hole()?;
                continue;
            }
            let left = usize::try_from(self.data_end - self.position).unwrap_or(usize::MAX);
            let end = buffer.len().min(filled.saturating_add(left));
            match self.file.read_at(&mut buffer[filled..end], self.position) {
                // It became shorter, or this was the last part of it.
                Ok(0) => self.is_done = true,
                Ok(len) => {
                    filled += len;
                    self.position += len as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn pass_hole(&mut self) -> Result<()> {
        let data = if self.holes.len() < HOLE_COUNT_MAX {
            next_data(self.file, self.position)?
        } else {
            Some(self.position..u64::MAX)
        };
        let end = match &data {
            Some(data) => data.start,
            None => self.file.metadata()?.len(),
        };
        if end > self.position {
            self.holes.push(Hole { offset: self.position, len: end - self.position });
            self.position = end;
        }
        match data {
            Some(data) => self.data_end = data.end,
            None => self.is_done = true,
        }
        Ok(())
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
