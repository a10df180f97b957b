//! Where a file has data, and where holes.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;

/// `st_blocks` counts these, whatever the block size of the file system.
const BLOCK_LEN: u64 = 512;

/// The next part of `file` at or after `offset` that holds data; `None` if there is none up to its end. Holes that the system does not
/// tell from data count as data. Moves the position of the file.
///
/// # Errors
/// Those of `lseek`.
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // This file system knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..u64::MAX)),
        Err(error) => return Err(error.into()),
    };
    match seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(Some(start..end)),
        // It became shorter in between.
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether less is allocated than the file is long: it may have holes.
pub(crate) fn may_have_holes(stat: &Stat) -> bool {
    let allocated = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(BLOCK_LEN);
    allocated < u64::try_from(stat.st_size).unwrap_or_default()
}
