//! Objects as files under one directory.
//!
//! An object is written to `tmp/` under a random name, synced, and published under its own name by a rename that never
//! replaces; then the directory that holds it is synced. So an object is there whole or not at all, whatever stops the
//! process or the machine, and its name appears only once its bytes are durable.
//!
//! A failed sync is final: the system reports such an error once and may then forget it. A file whose sync failed is
//! thrown away. When a directory's sync fails, nobody can tell any more which names are durable, so the store refuses
//! every further creation.
//!
//! Nothing outside the root is reached: each component below it is opened without following symbolic links, and only
//! regular files are read. What else lies there is reported, never followed. No file is ever changed after its
//! publication, and none is read through a cached handle.

mod dirs;
mod list;
mod temp;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::dirs::{found_words, kind_at};
use self::temp::Temp;
pub use self::temp::TempFile;
use crate::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError, url};

/// Most directories whose durability is remembered; beyond it the memory starts anew.
const DURABLE_DIRS_COUNT_MAX: usize = 4096;

/// A store in a local directory.
///
/// Access rights follow those of the root, within the process's umask: directories get the root's mode, objects its
/// read bits. A root made by [`LocalStore::create`] belongs to its owner alone.
#[derive(Debug)]
pub struct LocalStore {
    root: OwnedFd,
    url: String,
    dir_mode: Mode,
    /// Directories whose entry in their parent is known to be durable.
    durable_dirs: Mutex<HashSet<String>>,
    is_sync_lost: AtomicBool,
    /// Replaced in tests only.
    sync: fn(&File) -> io::Result<()>,
}

impl LocalStore {
    /// Makes the directory `path` and its missing parents durably, and opens it. An existing directory is opened as it
    /// is: whether it may hold something already is the caller's decision.
    ///
    /// # Errors
    /// [`StoreError::NotAnObject`] when something else is in the way; [`StoreError::Denied`],
    /// [`StoreError::NoSpace`], [`StoreError::SyncFailed`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = absolute(path.as_ref())?;
        dirs::create_all(&path)?;
        Self::open(path)
    }

    /// Opens the existing directory `path`; writes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none; [`StoreError::NotAnObject`] when it is no directory;
    /// [`StoreError::Denied`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = absolute(path.as_ref())?;
        let url = url::file_url(&path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| dirs::root_error(&url, errno))?;
        let stat = rustix::fs::fstat(&root).map_err(|errno| dirs::root_error(&url, errno))?;
        let dir_mode =
            (Mode::from_raw_mode(stat.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO)) | Mode::RWXU;
        Ok(Self {
            root,
            url,
            dir_mode,
            durable_dirs: Mutex::default(),
            is_sync_lost: AtomicBool::new(false),
            sync: File::sync_all,
        })
    }

    /// Opens a regular file and tells its length in bytes.
    fn open_object(&self, key: &ObjectKey) -> Result<(File, u64), StoreError> {
        let (directory, last) = self.open_dir_of(key)?;
        // A FIFO must not block, a terminal must not take the process over, before the kind of file is known.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&directory, last, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(errno) => return Err(self.refused(&directory, last, key.as_str(), errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.io_error(key.as_str(), errno))?;
        self.require_regular(key.as_str(), FileType::from_raw_mode(stat.st_mode))?;
        Ok((file, len_of(&stat)))
    }

    /// Appends to `out` what `file` holds, which must be `expected_len` bytes.
    fn read_whole(
        &self,
        key: &ObjectKey,
        file: File,
        expected_len: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        // One byte more than expected shows that the file has grown.
        let actual_len = file
            .take(expected_len.saturating_add(1))
            .read_to_end(out)
            .map_err(|error| self.io_error(key.as_str(), error))? as u64;
        if actual_len != expected_len {
            let (name, store) = (key.to_string(), self.url.clone());
            return Err(StoreError::LengthChanged { name, store, expected_len, actual_len });
        }
        Ok(())
    }

    fn require_regular(&self, name: &str, kind: FileType) -> Result<(), StoreError> {
        match kind {
            FileType::RegularFile => Ok(()),
            other => Err(self.not_an_object(name, found_words(other))),
        }
    }

    /// Why `last` in `directory` could not be opened: what it is, if that explains it.
    fn refused(&self, directory: &OwnedFd, last: &str, name: &str, errno: Errno) -> StoreError {
        match kind_at(directory, last) {
            Ok(Some(kind)) if kind != FileType::RegularFile => self.not_an_object(name, found_words(kind)),
            _ => self.io_error(name, errno),
        }
    }

    fn not_an_object(&self, name: &str, found: &'static str) -> StoreError {
        StoreError::NotAnObject { name: name.to_owned(), store: self.url.clone(), found }
    }

    fn io_error(&self, name: &str, error: impl Into<io::Error>) -> StoreError {
        StoreError::from_io(name, &self.url, error)
    }

    /// An error of writing. That the temporary file or a directory is gone concerns this attempt, and a new one makes
    /// them anew; it does not mean that the object is not found.
    fn write_error(&self, name: &str, errno: Errno) -> StoreError {
        match errno {
            Errno::NOENT => StoreError::Unavailable {
                name: name.to_owned(),
                store: self.url.clone(),
                source: "something else removed files of this store while it was writing".into(),
            },
            errno => self.io_error(name, errno),
        }
    }

    /// An error of a sync: a full disk stays what it is, all else is a lost sync.
    fn sync_error(&self, name: &str, error: io::Error) -> StoreError {
        match self.io_error(name, error) {
            error @ StoreError::NoSpace { .. } => error,
            StoreError::Denied { name, store, source }
            | StoreError::Unavailable { name, store, source }
            | StoreError::Io { name, store, source } => StoreError::SyncFailed { name, store, source },
            error => error,
        }
    }

    /// Makes the names in `directory` durable. After a failure the store creates nothing any more.
    fn sync_dir(&self, directory: &File, name: &str) -> Result<(), StoreError> {
        (self.sync)(directory).map_err(|error| {
            self.is_sync_lost.store(true, Ordering::SeqCst);
            self.sync_error(name, error)
        })
    }

    fn check_sync_not_lost(&self, name: &str) -> Result<(), StoreError> {
        if !self.is_sync_lost.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(StoreError::SyncFailed {
            name: name.to_owned(),
            store: self.url.clone(),
            source: "an earlier sync of a directory failed: check the medium, then open the store again"
                .into(),
        })
    }

    /// Opens the directory `name` for creating in it, making it durably where it is missing.
    fn make_dir(&self, name: Option<&str>) -> Result<File, StoreError> {
        let mut directory = File::from(self.open_root()?);
        let Some(name) = name else { return Ok(directory) };
        for (start, component) in dirs::components(name) {
            let path = &name[..start + component.len()];
            let (child, is_new) = self.open_or_make(&directory, component, path)?;
            // One that another process has made may not have reached the medium yet either.
            if is_new || !self.is_durable_dir(path) {
                self.sync_dir(&directory, path)?;
                self.remember_durable_dir(path);
            }
            directory = child;
        }
        Ok(directory)
    }

    fn is_durable_dir(&self, path: &str) -> bool {
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    fn remember_durable_dir(&self, path: &str) {
        let mut known = self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= DURABLE_DIRS_COUNT_MAX {
            known.clear();
        }
        known.insert(path.to_owned());
    }

    /// Settles that `last` exists: its bytes were durable before its name appeared, the name itself may not be yet.
    fn settle_existing(&self, directory: &File, key: &ObjectKey) -> Result<PutOutcome, StoreError> {
        self.sync_dir(directory, key.as_str())?;
        Ok(PutOutcome::AlreadyExists)
    }
}

impl ObjectStore for LocalStore {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let name = key.as_str();
        self.check_sync_not_lost(name)?;
        let (directory, last) = key.split();
        let directory = self.make_dir(directory)?;
        // Only spares writing the bytes; what decides is the publication.
        if let Some(kind) = kind_at(&directory, last).map_err(|errno| self.io_error(name, errno))? {
            self.require_regular(name, kind)?;
            return self.settle_existing(&directory, key);
        }

        let mut temp = Temp::create(self, name)?;
        temp.file.write_all(body).map_err(|error| self.io_error(name, error))?;
        (self.sync)(&temp.file).map_err(|error| self.sync_error(name, error))?;
        if temp.publish(&directory, last).map_err(|errno| self.write_error(name, errno))? {
            self.sync_dir(&directory, name)?;
            return Ok(PutOutcome::Created);
        }
        match kind_at(&directory, last).map_err(|errno| self.io_error(name, errno))? {
            Some(kind) => self.require_regular(name, kind)?,
            None => return Err(self.write_error(name, Errno::NOENT)),
        }
        self.settle_existing(&directory, key)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        out.clear();
        let (file, len) = self.open_object(key)?;
        let too_long =
            || StoreError::TooLong { name: key.to_string(), store: self.url.clone(), len, len_max };
        if len > len_max {
            return Err(too_long());
        }
        out.try_reserve_exact(usize::try_from(len).map_err(|_| too_long())?)
            .map_err(|_| self.io_error(key.as_str(), io::Error::from(io::ErrorKind::OutOfMemory)))?;
        let result = self.read_whole(key, file, len, out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let (file, actual_len) = self.open_object(key)?;
        let range_len = out.len() as u64;
        let truncated = |actual_len| StoreError::Truncated {
            name: key.to_string(),
            store: self.url.clone(),
            offset,
            range_len,
            actual_len,
        };
        if offset.checked_add(range_len).is_none_or(|end| end > actual_len) {
            return Err(truncated(actual_len));
        }
        match file.read_exact_at(out, offset) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let stat = rustix::fs::fstat(&file).map_err(|errno| self.io_error(key.as_str(), errno))?;
                Err(truncated(len_of(&stat)))
            }
            Err(error) => Err(self.io_error(key.as_str(), error)),
        }
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        let (directory, last) = self.open_dir_of(key)?;
        let stat = rustix::fs::statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.io_error(key.as_str(), errno))?;
        self.require_regular(key.as_str(), FileType::from_raw_mode(stat.st_mode))?;
        Ok(ObjectStat { len: len_of(&stat) })
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.walk(prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let (directory, last) = match self.open_dir_of(key) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        match kind_at(&directory, last).map_err(|errno| self.io_error(key.as_str(), errno))? {
            None => return Ok(()),
            Some(kind) => self.require_regular(key.as_str(), kind)?,
        }
        match rustix::fs::unlinkat(&directory, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.io_error(key.as_str(), errno)),
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path)
        .map_err(|error| StoreError::from_io("the store directory", &url::file_url(path), error))
}

fn len_of(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}
