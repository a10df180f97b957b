//! Directories of a local store: opened component by component, never through a symbolic link.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::LocalStore;
use crate::{ObjectKey, StoreError, url};

/// How messages call the root itself.
const ROOT_NAME: &str = "the store directory";

const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl LocalStore {
    /// Opens the directory `name` below the root; the root itself for `None`.
    pub(super) fn open_dir(&self, name: Option<&str>) -> Result<OwnedFd, StoreError> {
        let mut directory = self.open_root()?;
        let Some(name) = name else { return Ok(directory) };
        for (start, component) in components(name) {
            let path = &name[..start + component.len()];
            directory = self.open_child(&directory, component, path)?;
        }
        Ok(directory)
    }

    /// Opens the directory that `key` is in and gives the last component. What is missing is the object then, whichever
    /// directory it was.
    pub(super) fn open_dir_of<'k>(&self, key: &'k ObjectKey) -> Result<(OwnedFd, &'k str), StoreError> {
        let (directory, last) = key.split();
        match self.open_dir(directory) {
            Ok(directory) => Ok((directory, last)),
            Err(StoreError::NotFound { store, .. }) => {
                Err(StoreError::NotFound { name: key.to_string(), store })
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the directory `component` of `parent`, which messages call `path`.
    pub(super) fn open_child(
        &self,
        parent: impl AsFd,
        component: &str,
        path: &str,
    ) -> Result<OwnedFd, StoreError> {
        rustix::fs::openat(&parent, component, DIR_FLAGS, Mode::empty()).map_err(|errno| {
            match kind_at(&parent, component) {
                Ok(Some(FileType::Directory)) | Ok(None) | Err(_) => self.io_error(path, errno),
                Ok(Some(FileType::RegularFile)) => {
                    self.not_an_object(path, "a file in the place of a directory")
                }
                Ok(Some(kind)) => self.not_an_object(path, found_words(kind)),
            }
        })
    }

    /// Opens the directory `component` of `parent`, made if it is missing; tells whether this call made it.
    pub(super) fn open_or_make(
        &self,
        parent: &File,
        component: &str,
        path: &str,
    ) -> Result<(File, bool), StoreError> {
        match self.open_child(parent, component, path) {
            Err(error) if error.is_not_found() => {}
            result => return result.map(|directory| (directory.into(), false)),
        }
        let is_new = match rustix::fs::mkdirat(parent, component, self.dir_mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(self.write_error(path, errno)),
        };
        match self.open_child(parent, component, path) {
            Ok(directory) => Ok((directory.into(), is_new)),
            Err(StoreError::NotFound { .. }) => Err(self.write_error(path, Errno::NOENT)),
            Err(error) => Err(error),
        }
    }

    /// Opens the root anew: a duplicate of its handle would share the position that a listing moves.
    pub(super) fn open_root(&self) -> Result<OwnedFd, StoreError> {
        self.open_child(&self.root, ".", ROOT_NAME)
    }
}

/// Makes the directory `path`, private to its owner, and its missing parents; each durable in its parent.
pub(super) fn create_all(path: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|directory| !directory.exists()).collect();
    let url = url::file_url(path);
    for directory in missing.iter().rev() {
        let mut builder = std::fs::DirBuilder::new();
        if *directory == path {
            builder.mode(0o700);
        }
        match builder.create(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::from_io(ROOT_NAME, &url, error));
            }
            _ => {}
        }
        let Some(parent) = directory.parent() else { continue };
        let parent = File::open(parent).map_err(|error| StoreError::from_io(ROOT_NAME, &url, error))?;
        parent.sync_all().map_err(|error| StoreError::SyncFailed {
            name: ROOT_NAME.to_owned(),
            store: url.clone(),
            source: error.into(),
        })?;
    }
    Ok(())
}

/// Why the root of the store at `url` could not be opened.
pub(super) fn root_error(url: &str, errno: Errno) -> StoreError {
    match errno {
        Errno::NOTDIR => StoreError::NotAnObject {
            name: ROOT_NAME.to_owned(),
            store: url.to_owned(),
            found: "something else, or below something else",
        },
        errno => StoreError::from_io(ROOT_NAME, url, errno),
    }
}

/// The components of a directory's name, each with its offset.
pub(super) fn components(name: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next_start = 0;
    name.split('/').map(move |component| {
        let start = next_start;
        next_start += component.len() + 1;
        (start, component)
    })
}

/// What is under `name`, itself and not what it may link to.
pub(super) fn kind_at(directory: impl AsFd, name: &str) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn found_words(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        _ => "a special file",
    }
}
