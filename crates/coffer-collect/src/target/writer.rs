//! Writing the content of one file.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::apply::{Handle, apply};
use super::options::Warning;
use super::place::{Made, Place};
use crate::{Action, CollectError, EntryKind, EntryPath, Metadata};

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
/// directory that was there before it goes by a temporary name. Dropped unfinished, it is removed.
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

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// Writes all of `data` at `offset` bytes from the start. What is never written reads as zeros.
    ///
    /// # Errors
    /// [`CollectError::Io`], such as a full disk.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), CollectError> {
        self.file
            .write_all_at(data, offset)
            .map_err(|error| CollectError::io(Action::Write, &self.path, error))
    }

    /// Sets the length in bytes, which a file that ends in a hole needs.
    ///
    /// # Errors
    /// [`CollectError::Io`], such as a file too large for the file system.
    pub fn set_len(&self, len: u64) -> Result<(), CollectError> {
        self.file.set_len(len).map_err(|error| CollectError::io(Action::Write, &self.path, error))
    }

    /// Applies `metadata` and gives the file its name, in place of what has it. Returns what could not be applied.
    ///
    /// # Errors
    /// [`CollectError::DirectoryInTheWay`] when a directory with entries has the name, [`CollectError::Io`] when it
    /// cannot be given; the file is then removed.
    pub fn finish(mut self, metadata: &Metadata) -> Result<Vec<Warning>, CollectError> {
        let handle = Handle::Fd(self.file.as_fd());
        let place = &self.place;
        let warnings = apply(&place.shared, &self.path, EntryKind::File, handle, place.surplus(), metadata);
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
