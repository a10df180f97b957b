//! An open directory of the target, and making something in it under its final name or under a temporary one.

use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

use super::apply::{Surplus, has_default_acl, strip_inherited_acls};
use super::options::TargetOptions;
use crate::{Action, CollectError, EntryPath};

/// How often a temporary name is drawn before giving up. Two draws of 64 bits hardly ever meet, so that more
/// than one means somebody plants them.
const TEMPORARY_TRIES_MAX: u32 = 16;

/// What all directories and writers of one target share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: TargetOptions,
    pub(crate) is_root: bool,
    seed: RandomState,
    next_temporary: AtomicU64,
}

/// An open directory of the target.
#[derive(Debug)]
pub(crate) struct Place {
    fd: OwnedFd,
    pub(crate) traits: Traits,
    pub(crate) shared: Arc<Shared>,
}

/// What is known of a directory besides where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Made by this run, and so without entries that are not of this run.
    pub(crate) fresh: bool,
    /// What is made in it inherits an ACL.
    pub(crate) inherits_acl: bool,
}

/// A name under which something was made.
#[derive(Debug)]
pub(crate) enum Made {
    Final,
    Temporary(CString),
    /// Nothing was made: a file that was there is written over.
    Existing,
}

impl Shared {
    pub(crate) fn new(options: TargetOptions) -> Self {
        Self {
            options,
            is_root: rustix::process::geteuid().is_root(),
            seed: RandomState::new(),
            next_temporary: AtomicU64::new(0),
        }
    }

    fn temporary_name(&self) -> CString {
        let count = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let name = format!(".coffer-{:016x}.tmp", self.seed.hash_one(count));
        CString::new(name).expect("hex digits hold no NUL")
    }
}

impl Place {
    pub(crate) fn new(fd: OwnedFd, traits: Traits, shared: Arc<Shared>) -> Self {
        Self { fd, traits, shared }
    }

    /// A directory that was there before this run.
    pub(crate) fn reused(fd: OwnedFd, shared: Arc<Shared>) -> Self {
        let inherits_acl = has_default_acl(fd.as_fd());
        Self { fd, traits: Traits { fresh: false, inherits_acl }, shared }
    }

    /// A directory that was just made below `parent`.
    pub(crate) fn fresh(fd: OwnedFd, parent: &Self) -> Self {
        let inherits_acl = parent.traits.inherits_acl && !strip_inherited_acls(fd.as_fd());
        Self { fd, traits: Traits { fresh: true, inherits_acl }, shared: Arc::clone(&parent.shared) }
    }

    /// Opens the directory `name`; a symlink gives `ELOOP` or `ENOTDIR`.
    pub(crate) fn open_directory(&self, name: impl Arg) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty())
    }

    /// What an entry made in this directory may have inherited.
    pub(crate) fn surplus(&self) -> Surplus {
        if self.traits.inherits_acl { Surplus::InheritedAcl } else { Surplus::None }
    }

    /// Calls `make` with the final name when the directory is fresh, and otherwise, or when the name is taken,
    /// with temporary names until one is free.
    pub(crate) fn make<T>(
        &self,
        name: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<T>,
    ) -> Result<(T, Made)> {
        if self.traits.fresh {
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            match make(self.fd.as_fd(), &name) {
                Err(Errno::EXIST) => {}
                made => return made.map(|made| (made, Made::Final)),
            }
        }
        for _ in 0..TEMPORARY_TRIES_MAX {
            let name = self.shared.temporary_name();
            match make(self.fd.as_fd(), &name) {
                Err(Errno::EXIST) => {}
                made => return made.map(|made| (made, Made::Temporary(name))),
            }
        }
        Err(Errno::EXIST)
    }

    /// Gives what was made the name of `path`, in place of what has it. An empty directory gives way.
    pub(crate) fn settle(&self, made: &Made, path: &EntryPath) -> std::result::Result<(), CollectError> {
        let Made::Temporary(temporary) = made else { return Ok(()) };
        let name = path.file_name().unwrap_or_default();
        let rename = || rustix::fs::renameat(&self.fd, temporary.as_c_str(), &self.fd, name);
        let renamed = match rename() {
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
                match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
                    Ok(()) => rename(),
                    Err(Errno::EXIST | Errno::NOTEMPTY) => {
                        return Err(CollectError::DirectoryInTheWay { path: path.clone() });
                    }
                    Err(error) => return Err(CollectError::io(Action::Remove, path, error)),
                }
            }
            renamed => renamed,
        };
        renamed.map_err(|error| CollectError::io(Action::Rename, path, error))
    }

    /// Removes what was made and is not to stay. That it fails changes nothing for the caller, who fails already.
    pub(crate) fn discard(&self, made: &Made, path: &EntryPath) {
        let _ = match made {
            Made::Temporary(name) => rustix::fs::unlinkat(&self.fd, name.as_c_str(), AtFlags::empty()),
            Made::Final => {
                rustix::fs::unlinkat(&self.fd, path.file_name().unwrap_or_default(), AtFlags::empty())
            }
            Made::Existing => return,
        };
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
