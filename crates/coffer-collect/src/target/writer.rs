//! Writing the content of one file.
//!
//! What an older file has already is copied within the system, which on file systems that share blocks copies nothing. With
//! [`TargetOptions::sparse`](crate::TargetOptions::sparse), blocks of zeros are not written but left, or made, holes.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::apply::{Handle, Surplus, apply};
use super::existing::OldFile;
use super::options::Warning;
use super::place::{Made, Place};
use crate::{Action, CollectError, EntryKind, EntryPath, Metadata};

/// The unit in which file systems share blocks and leave holes.
const BLOCK_LEN: u64 = 4096;

const BLOCK: usize = 4096;

/// How much is copied in one step where the system does not copy by itself.
const COPY_LEN: usize = 1 << 16;

/// The place of a file that was not begun yet.
#[derive(Debug)]
pub struct FilePlace {
    place: Arc<Place>,
    path: EntryPath,
}

impl FilePlace {
    pub(crate) fn new(place: Arc<Place>, path: &EntryPath) -> Self {
        Self { place, path: path.clone() }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// Begins the file.
    ///
    /// # Errors
    /// [`CollectError::Io`].
    pub fn begin(self) -> Result<FileWriter, CollectError> {
        FileWriter::create(self.place, &self.path)
    }
}

/// A file of a [`DirectoryTarget`](crate::DirectoryTarget) that is being written.
///
/// Several threads may write to it at once. Until [`FileWriter::finish`] nobody but the owner can read it, and in a
/// directory that was there before it goes by a temporary name. Dropped unfinished, it is removed. One that writes over a
/// file that is there, as [`OldFile::write_over`] makes it, is the exception in all of this.
#[derive(Debug)]
pub struct FileWriter {
    place: Arc<Place>,
    path: EntryPath,
    file: File,
    /// `None` once finished.
    made: Option<Made>,
}

impl FileWriter {
    pub(crate) fn create(place: Arc<Place>, path: &EntryPath) -> Result<Self, CollectError> {
        let name = path.file_name().unwrap_or_default();
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let (fd, made) = place
            .make(name, |dir, name| rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))
            .map_err(|error| CollectError::io(Action::Create, path, error))?;
        Ok(Self { place, path: path.clone(), file: File::from(fd), made: Some(made) })
    }

    /// A writer into a file that is there, under its own name.
    pub(crate) fn over(place: Arc<Place>, path: &EntryPath, file: File) -> Self {
        Self { place, path: path.clone(), file, made: Some(Made::Existing) }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// Whether the file was there before, and what is not written stays as it is.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.made, Some(Made::Existing))
    }

    /// Writes all of `data` at `offset` bytes from the start. What is never written reads as zeros.
    ///
    /// # Errors
    /// [`CollectError::Io`], such as a full disk.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), CollectError> {
        if !self.place.shared.options.sparse {
            return self.write_plain(offset, data);
        }
        let (mut offset, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (zeros, len) = next_run(offset, rest);
            let (run, behind) = rest.split_at(len);
            if zeros {
                self.write_zeros(offset, len as u64)?
            } else {
                self.write_plain(offset, run)?
            }
            (offset, rest) = (offset + len as u64, behind);
        }
        Ok(())
    }

    fn write_plain(&self, offset: u64, data: &[u8]) -> Result<(), CollectError> {
        self.file.write_all_at(data, offset).map_err(|error| self.failed(error))
    }

    /// Makes `len` bytes at `offset` read as zeros, without taking room where the file system can do so.
    ///
    /// # Errors
    /// [`CollectError::Io`], such as a full disk.
    pub fn write_zeros(&self, offset: u64, len: u64) -> Result<(), CollectError> {
        if !self.is_over() {
            return Ok(());
        }
        let size = self.file.metadata().map_err(|error| self.failed(error))?.len();
        let end = size.min(offset.saturating_add(len));
        if offset >= end {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, end - offset) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(self.failed(error)),
        }
        let zeros = [0; COPY_LEN];
        let mut at = offset;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(COPY_LEN).min(COPY_LEN);
            self.write_plain(at, &zeros[..len])?;
            at += len as u64;
        }
        Ok(())
    }

    /// Copies `len` bytes at `offset` of an older file to the same place in this one.
    ///
    /// # Errors
    /// [`CollectError::Io`]; [`CollectError::Changed`] when the older file ends before that.
    pub fn copy_from(&self, old: &OldFile, offset: u64, len: u64) -> Result<(), CollectError> {
        let end = offset.saturating_add(len);
        // Whole blocks on their own: these can be shared.
        let first = offset.next_multiple_of(BLOCK_LEN).min(end);
        let last = (end / BLOCK_LEN * BLOCK_LEN).max(first);
        for (from, to) in [(offset, first), (first, last), (last, end)] {
            self.copy_range(old, from, to)?;
        }
        Ok(())
    }

    fn copy_range(&self, old: &OldFile, mut from: u64, end: u64) -> Result<(), CollectError> {
        while from < end {
            let (mut read, mut write) = (from, from);
            let len = usize::try_from(end - from).unwrap_or(usize::MAX);
            let copied =
                rustix::fs::copy_file_range(old.file(), Some(&mut read), &self.file, Some(&mut write), len);
            match copied {
                Ok(0) => return Err(CollectError::Changed { path: self.path.clone() }),
                Ok(len) => from += len as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                    return self.copy_by_hand(old, from, end);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn copy_by_hand(&self, old: &OldFile, mut from: u64, end: u64) -> Result<(), CollectError> {
        let mut buffer = [0; COPY_LEN];
        while from < end {
            let len = usize::try_from(end - from).unwrap_or(COPY_LEN).min(COPY_LEN);
            if !old.read_at(&mut buffer[..len], from) {
                return Err(CollectError::Changed { path: self.path.clone() });
            }
            self.write_plain(from, &buffer[..len])?;
            from += len as u64;
        }
        Ok(())
    }

    fn failed(&self, error: impl Into<std::io::Error>) -> CollectError {
        CollectError::io(Action::Write, &self.path, error)
    }

    /// Sets the length in bytes, which a file that ends in a hole needs.
    ///
    /// # Errors
    /// [`CollectError::Io`], such as a file too large for the file system.
    pub fn set_len(&self, len: u64) -> Result<(), CollectError> {
        self.file.set_len(len).map_err(|error| self.failed(error))
    }

    /// Applies `metadata` and gives the file its name, in place of what has it. Returns what could not be applied.
    ///
    /// # Errors
    /// [`CollectError::DirectoryInTheWay`] when a directory with entries has the name, [`CollectError::Io`] when it
    /// cannot be given; the file is then removed.
    pub fn finish(mut self, metadata: &Metadata) -> Result<Vec<Warning>, CollectError> {
        let handle = Handle::Fd(self.file.as_fd());
        let place = &self.place;
        let surplus = if self.is_over() { Surplus::Previous } else { place.surplus() };
        let warnings = apply(&place.shared, &self.path, EntryKind::File, handle, surplus, metadata);
        if let Some(made) = &self.made {
            place.settle(made, &self.path)?;
        }
        self.made = None;
        Ok(warnings)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            self.place.discard(made, &self.path);
        }
    }
}

/// How the bytes at `offset` begin: whether with zeros, and for how long. Only whole blocks of the file, and what of a block is at the
/// ends, count as zeros; what is left out at both sides of a boundary leaves a hole together.
fn next_run(offset: u64, data: &[u8]) -> (bool, usize) {
    let to_block = usize::try_from(BLOCK_LEN - offset % BLOCK_LEN).unwrap_or(data.len()).min(data.len());
    let (first, rest) = data.split_at(to_block);
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let zeros = is_zero(first);
    let alike = rest.chunks(BLOCK).take_while(|block| is_zero(block) == zeros).map(<[u8]>::len);
    (zeros, to_block + alike.sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::next_run;

    #[test]
    fn runs_end_at_blocks() {
        let mut data = vec![0; 5 * 4096];
        assert_eq!(next_run(0, &data), (true, 5 * 4096));
        assert_eq!(next_run(10, &data), (true, 5 * 4096));
        assert_eq!(next_run(4096, &data[..4095]), (true, 4095));
        data[4096 * 2] = 1;
        assert_eq!(next_run(0, &data), (true, 2 * 4096));
        assert_eq!(next_run(4086, &data), (true, 10 + 4096));
        assert_eq!(next_run(2 * 4096, &data[2 * 4096..]), (false, 4096));
        data[4096 * 3 - 1] = 1;
        data[4096 * 3] = 1;
        assert_eq!(next_run(2 * 4096, &data[2 * 4096..]), (false, 2 * 4096));
        assert_eq!(next_run(7, &[]), (true, 0));
    }
}
