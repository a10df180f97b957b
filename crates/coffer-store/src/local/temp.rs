//! Unfinished writes: files under `tmp/`.
//!
//! A writer holds a lock on its temporary file from right after making it until it is published or removed; the system
//! releases the lock when the process ends, however it ends. So a file without one is left over from a crash, and no
//! clock is needed to tell.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{LocalStore, len_of};
use crate::StoreError;
use crate::key::RESERVED_COMPONENT;

/// An unfinished write found under `tmp/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TempFile {
    /// Its name below `tmp/`; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Whether a living process may still be writing it. Also set where the file system has no locks.
    pub is_in_use: bool,
}

impl LocalStore {
    /// Lists the files under `tmp/`, sorted by name. Other things that lie there are left out.
    ///
    /// # Errors
    /// [`StoreError::Denied`], [`StoreError::NotAnObject`] when `tmp` is no directory, and others.
    pub fn temp_files(&self) -> Result<Vec<TempFile>, StoreError> {
        self.visit_temps(|_, _| Ok(true))
    }

    /// Removes the files under `tmp/` that no process is writing, and returns them.
    ///
    /// # Errors
    /// As [`LocalStore::temp_files`]; some may have been removed then.
    pub fn remove_stale_temps(&self) -> Result<Vec<TempFile>, StoreError> {
        self.visit_temps(|directory, temp| {
            if temp.is_in_use {
                return Ok(false);
            }
            match rustix::fs::unlinkat(directory, temp.name.as_str(), AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(self.io_error(&shown(&temp.name), errno)),
            }
        })
    }

    /// Calls `keep` for each temporary file, under its lock if it was free, and returns those it says `true` for.
    fn visit_temps(
        &self,
        keep: impl Fn(&OwnedFd, &TempFile) -> Result<bool, StoreError>,
    ) -> Result<Vec<TempFile>, StoreError> {
        let directory = match self.open_dir(Some(RESERVED_COMPONENT)) {
            Ok(directory) => directory,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let at_directory = |errno| self.io_error(RESERVED_COMPONENT, errno);
        let mut kept = Vec::new();
        for entry in Dir::read_from(&directory).map_err(at_directory)? {
            let entry = entry.map_err(at_directory)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = match rustix::fs::openat(&directory, entry.file_name(), flags, Mode::empty()) {
                Ok(file) => file,
                // Finished meanwhile, or a symbolic link.
                Err(Errno::NOENT | Errno::LOOP) => continue,
                Err(errno) => return Err(self.io_error(&shown(&name), errno)),
            };
            let stat = rustix::fs::fstat(&file).map_err(|errno| self.io_error(&shown(&name), errno))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                continue;
            }
            let is_in_use = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
            let temp = TempFile { name, len: len_of(&stat), is_in_use };
            if keep(&directory, &temp)? {
                kept.push(temp);
            }
        }
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }
}

/// A file under `tmp/` that is removed unless it is published.
pub(super) struct Temp {
    directory: File,
    name: String,
    is_published: bool,
    pub(super) file: File,
}

impl Temp {
    /// Makes an empty file for the object `object_name`, locked and with the rights of an object.
    pub(super) fn create(store: &LocalStore, object_name: &str) -> Result<Self, StoreError> {
        let root = File::from(store.open_root()?);
        // What is in `tmp/` need not survive a crash, so the directory is not synced.
        let (directory, _) = store.open_or_make(&root, RESERVED_COMPONENT, RESERVED_COMPONENT)?;
        let name = random_name().map_err(|errno| store.io_error(object_name, errno))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = store.dir_mode & (Mode::RUSR | Mode::RGRP | Mode::ROTH);
        let file = rustix::fs::openat(&directory, name.as_str(), flags, mode)
            .map_err(|errno| store.write_error(object_name, errno))?;
        let temp = Self { directory, name, is_published: false, file: file.into() };
        // Where locks are not supported, stale files cannot be told from living ones, and none is removed.
        let _ = rustix::fs::flock(&temp.file, FlockOperation::NonBlockingLockExclusive);
        Ok(temp)
    }

    /// Gives the file its name in `directory` unless something is there; tells whether it did.
    pub(super) fn publish(&mut self, directory: impl AsFd, name: &str) -> Result<bool, Errno> {
        let from = self.name.as_str();
        match rustix::fs::renameat_with(&self.directory, from, &directory, name, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.is_published = true;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            // The file system, as NFS, cannot rename without replacing.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.publish_by_link(directory, name),
            Err(errno) => Err(errno),
        }
    }

    /// The same through a hard link, which never replaces; the temporary name goes when `self` is dropped.
    pub(super) fn publish_by_link(&self, directory: impl AsFd, name: &str) -> Result<bool, Errno> {
        match rustix::fs::linkat(&self.directory, self.name.as_str(), &directory, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // A network file system repeats a request whose reply was lost: what exists may be this very file.
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let own = rustix::fs::fstat(&self.file)?;
                Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino))
            }
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.is_published {
            // What cannot be removed stays as a leftover, which is harmless and can be removed later.
            let _ = rustix::fs::unlinkat(&self.directory, self.name.as_str(), AtFlags::empty());
        }
    }
}

fn random_name() -> Result<String, Errno> {
    let mut bytes = [0; 16];
    let mut filled_len = 0;
    while filled_len < bytes.len() {
        filled_len +=
            rustix::io::retry_on_intr(|| getrandom(&mut bytes[filled_len..], GetRandomFlags::empty()))?;
    }
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn shown(name: &str) -> String {
    format!("{RESERVED_COMPONENT}/{name}")
}
