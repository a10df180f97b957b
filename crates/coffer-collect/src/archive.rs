//! Entries as one archive: a stream of bytes that other programs unpack.
//!
//! An [`ArchiveWriter`] takes entries in path order, a directory before what is in it, and the first name of a file before its hard
//! links. It writes in one pass, never seeks, and keeps nothing of an entry that is done (but for what [`zip`](ZipArchive) has to say at
//! its end). What a format cannot hold is refused by [`Archived::No`], never written as something else.

mod tar;
mod zip;

pub use tar::TarArchive;
pub use zip::ZipArchive;

use crate::{CollectError, EntryKind, EntryPath, Metadata};

/// A part of a file that reads as zeros and need not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveHole {
    /// Where it begins.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Whether an entry is in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Archived {
    /// It is.
    Yes,
    /// It is not, because the format has no such thing; nothing was written.
    No(&'static str),
}

/// Writes an archive.
///
/// Errors of [`CollectError::Archive`] end the archive, because its output failed. [`CollectError::Unfit`] concerns one entry, of
/// which nothing was written, except from [`ArchiveWriter::write`] and [`ArchiveWriter::end_file`].
pub trait ArchiveWriter {
    /// What is lost of this path in the archive, if the format does not keep it as it is.
    fn path_flaw(&self, _path: &[u8]) -> Option<&'static str> {
        None
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// As the trait says.
    fn directory(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), CollectError>;

    /// Adds a symlink to `metadata.link_target`.
    ///
    /// # Errors
    /// As the trait says.
    fn symlink(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), CollectError>;

    /// Adds a named pipe, a socket or a device.
    ///
    /// # Errors
    /// As the trait says.
    fn special(
        &mut self,
        path: &EntryPath,
        kind: EntryKind,
        metadata: &Metadata,
    ) -> Result<Archived, CollectError>;

    /// Adds another name of the entry at `first`, which is in the archive already.
    ///
    /// # Errors
    /// As the trait says.
    fn hard_link(
        &mut self,
        path: &EntryPath,
        first: &EntryPath,
        metadata: &Metadata,
    ) -> Result<Archived, CollectError>;

    /// Begins a file of `metadata.size` bytes with these holes, which ascend and do not touch. Its content follows in order: data by
    /// [`ArchiveWriter::write`], each hole by [`ArchiveWriter::hole`], and then [`ArchiveWriter::end_file`].
    ///
    /// # Errors
    /// As the trait says.
    fn begin_file(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        holes: &[ArchiveHole],
    ) -> Result<(), CollectError>;

    /// Adds data to the file that was begun.
    ///
    /// # Errors
    /// [`CollectError::Unfit`] when the file is longer than was said; the archive is of no use then.
    fn write(&mut self, data: &[u8]) -> Result<(), CollectError>;

    /// Passes a hole of the file that was begun.
    ///
    /// # Errors
    /// As [`ArchiveWriter::write`].
    fn hole(&mut self, len: u64) -> Result<(), CollectError>;

    /// Ends the file that was begun.
    ///
    /// # Errors
    /// [`CollectError::Unfit`] when the file is shorter than was said; the archive is of no use then.
    fn end_file(&mut self) -> Result<(), CollectError>;

    /// Ends the archive, and flushes the output.
    ///
    /// # Errors
    /// [`CollectError::Archive`].
    fn finish(self: Box<Self>) -> Result<(), CollectError>;
}

/// How much of a file is still to come: neither more nor less than was said may be written.
#[derive(Debug, Default)]
struct Due {
    path: EntryPath,
    left: u64,
}

impl Due {
    fn new(path: &EntryPath, len: u64) -> Self {
        Self { path: path.clone(), left: len }
    }

    fn take(&mut self, len: u64) -> Result<(), CollectError> {
        let left = self.left.checked_sub(len);
        self.left = left.ok_or_else(|| unfit(&self.path, "its content is longer than its size says"))?;
        Ok(())
    }

    fn end(&self) -> Result<(), CollectError> {
        if self.left == 0 {
            Ok(())
        } else {
            Err(unfit(&self.path, "its content is shorter than its size says"))
        }
    }
}

fn unfit(path: &EntryPath, reason: &'static str) -> CollectError {
    CollectError::Unfit { path: path.clone(), reason }
}

fn output(source: std::io::Error) -> CollectError {
    CollectError::Archive { source }
}

#[cfg(test)]
mod tests;
