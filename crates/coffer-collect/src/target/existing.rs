//! What stands at a path of the target already, and how far it is what the snapshot holds.
//!
//! Looking changes nothing. An inode that is there is kept only where that gives nobody more than they had: it has one
//! name, the owner it is to have and no ACL that it is not to have, and nobody else could write to it who may not do so
//! afterwards.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags, Stat, major, minor};
use rustix::io::Errno;

use super::DirectoryTarget;
use super::apply::{Handle, Surplus, apply, has_other_acl, same_xattrs, wanted_owner};
use super::options::Warning;
use super::place::Place;
use super::writer::FileWriter;
use crate::files::{fingerprint_of, identity_of, kind_of, next_data, open_noatime};
use crate::xattr::Subject;
use crate::{Action, CollectError, EntryKind, EntryPath, Identity, Metadata};

/// How much is read at a time to see whether it is zeros.
const ZERO_LEN: usize = 1 << 16;

/// An entry that stood in the target when it was looked at.
#[derive(Debug)]
pub struct Existing {
    place: Arc<Place>,
    path: EntryPath,
    stat: Stat,
}

impl DirectoryTarget {
    /// What stands at `path`; `None` if nothing does, or nothing can: in a directory that this run made.
    ///
    /// # Errors
    /// [`CollectError::Io`] when the system cannot tell.
    pub fn look(&mut self, path: &EntryPath) -> Result<Option<Existing>, CollectError> {
        let failed = |error| CollectError::io(Action::Stat, path, error);
        let Some(parent) = path.parent_bytes() else {
            let place = self.enter(&EntryPath::root(), false)?;
            let stat = rustix::fs::fstat(&*place).map_err(failed)?;
            let is_new = place.traits.fresh;
            return Ok((!is_new).then(|| Existing { place, path: path.clone(), stat }));
        };
        let place = if parent == self.current_path() {
            if self.is_in_fresh() {
                return Ok(None);
            }
            self.top_place()
        } else {
            match self.enter(&path.parent().unwrap_or_default(), false) {
                Ok(place) => place,
                Err(CollectError::NotADirectory { .. }) => return Ok(None),
                Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        if place.traits.fresh {
            return Ok(None);
        }
        let name = path.file_name().unwrap_or_default();
        match rustix::fs::statat(&*place, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Existing { place, path: path.clone(), stat })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Existing {
    /// Its kind; `None` for one that no snapshot holds.
    #[must_use]
    pub fn kind(&self) -> Option<EntryKind> {
        kind_of(&self.stat)
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Time of the last change of content, in ns since 1970.
    #[must_use]
    pub fn mtime_ns(&self) -> i64 {
        fingerprint_of(&self.stat).mtime_ns
    }

    /// Which file it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        identity_of(&self.stat)
    }

    /// Whether a restore would leave it as it is, content apart: kind, what belongs to the kind, and all metadata that
    /// the options apply.
    #[must_use]
    pub fn is_as_recorded(&self, kind: EntryKind, metadata: &Metadata) -> bool {
        let of_kind = match kind {
            EntryKind::File | EntryKind::Directory | EntryKind::Fifo | EntryKind::Socket => true,
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(&*self.place, self.name(), Vec::with_capacity(256));
                target.is_ok_and(|target| Some(target.as_bytes()) == metadata.link_target.as_deref())
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                metadata.device == Some((major(self.stat.st_rdev), minor(self.stat.st_rdev)))
            }
        };
        self.kind() == Some(kind)
            && of_kind
            && self.has_owner(metadata)
            && (kind == EntryKind::Symlink || self.mode() == self.wanted_mode(kind, metadata))
            && self.mtime_ns() == metadata.mtime_ns
            && self.has_xattrs(metadata)
    }

    /// Opens a regular file for reading, without following a symlink.
    ///
    /// # Errors
    /// [`CollectError::Unfit`] for another kind, [`CollectError::Changed`] when another file has taken the name,
    /// [`CollectError::Io`].
    pub fn open(self) -> Result<OldFile, CollectError> {
        if self.kind() != Some(EntryKind::File) {
            return Err(CollectError::Unfit { path: self.path, reason: "it is not a regular file" });
        }
        let file = self.open_with(OFlags::RDONLY)?;
        Ok(OldFile { existing: self, file })
    }

    fn open_with(&self, access: OFlags) -> Result<File, CollectError> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let changed = || CollectError::Changed { path: self.path.clone() };
        let fd = match open_noatime(&*self.place, self.name(), flags) {
            Err(Errno::LOOP | Errno::NXIO) => return Err(changed()),
            opened => opened.map_err(|error| CollectError::io(Action::OpenFile, &self.path, error))?,
        };
        let stat =
            rustix::fs::fstat(&fd).map_err(|error| CollectError::io(Action::Stat, &self.path, error))?;
        if identity_of(&stat) == self.identity() && kind_of(&stat) == Some(EntryKind::File) {
            Ok(File::from(fd))
        } else {
            Err(changed())
        }
    }

    fn name(&self) -> &[u8] {
        self.path.file_name().unwrap_or(b".")
    }

    fn mode(&self) -> u32 {
        self.stat.st_mode & 0o7777
    }

    fn wanted_mode(&self, kind: EntryKind, metadata: &Metadata) -> u32 {
        let mode = metadata.mode & 0o7777;
        let privileged = self.place.shared.options.privileged_files && self.has_owner(metadata);
        if kind == EntryKind::Directory || privileged { mode } else { mode & !0o6000 }
    }

    fn has_owner(&self, metadata: &Metadata) -> bool {
        let owner = (self.stat.st_uid, self.stat.st_gid);
        wanted_owner(&self.place.shared, metadata).is_none_or(|wanted| wanted == owner)
    }

    fn has_xattrs(&self, metadata: &Metadata) -> bool {
        let subject = Subject::below(self.place.as_fd(), self.name());
        subject.is_ok_and(|subject| same_xattrs(&subject, &self.place.shared, metadata))
    }

    /// Whether the inode may be kept when it gets this metadata.
    fn may_keep(&self, metadata: &Metadata) -> bool {
        let shared = &self.place.shared;
        let user = rustix::process::geteuid().as_raw();
        let ours = match wanted_owner(shared, metadata) {
            Some(wanted) => wanted == (self.stat.st_uid, self.stat.st_gid),
            None => self.stat.st_uid == user,
        };
        let (before, after) = (self.mode(), self.wanted_mode(EntryKind::File, metadata));
        let shut_out = before & 0o022 & !after != 0;
        let writable = shared.is_root || before & 0o200 != 0;
        self.stat.st_nlink == 1
            && ours
            && !shut_out
            && (writable || self.has_xattrs(metadata))
            && self.has_no_other_acl(metadata)
    }

    /// Whether nobody has a right by an ACL that the snapshot does not have as well. What cannot be read counts as one.
    fn has_no_other_acl(&self, metadata: &Metadata) -> bool {
        let subject = Subject::below(self.place.as_fd(), self.name());
        subject.is_ok_and(|subject| !has_other_acl(&subject, metadata))
    }
}

/// A regular file of the target, open for reading: what it holds need not be fetched again.
#[derive(Debug)]
pub struct OldFile {
    existing: Existing,
    file: File,
}

impl OldFile {
    /// What it was when it was looked at.
    #[must_use]
    pub fn existing(&self) -> &Existing {
        &self.existing
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` from `offset`, and says whether the file went that far. What cannot be read counts as not there.
    #[must_use]
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> bool {
        self.file.read_exact_at(buffer, offset).is_ok()
    }

    /// Whether `len` bytes at `offset` are zeros, as far as the file goes. Holes are not read.
    #[must_use]
    pub fn is_zero(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len).min(self.existing.size());
        let mut buffer = [0; ZERO_LEN];
        let mut at = offset;
        while at < end {
            let Ok(data) = next_data(&self.file, at) else { return false };
            let Some(data) = data.filter(|data| data.start < end) else { return true };
            at = data.start.max(at);
            let data_end = data.end.min(end);
            while at < data_end {
                let len = usize::try_from(data_end - at).unwrap_or(ZERO_LEN).min(ZERO_LEN);
                if !self.read_at(&mut buffer[..len], at) || buffer[..len].iter().any(|byte| *byte != 0) {
                    return false;
                }
                at += len as u64;
            }
        }
        true
    }

    /// Whether the file is what it was when it was looked at.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let before = fingerprint_of(&self.existing.stat);
        rustix::fs::fstat(&self.file).is_ok_and(|stat| fingerprint_of(&stat) == before)
    }

    /// Gives the file, whose content is right, its metadata. `None` when it has to be made anew, because others
    /// have a hold on it.
    #[must_use]
    pub fn keep(&self, metadata: &Metadata) -> Option<Vec<Warning>> {
        if !self.existing.may_keep(metadata) {
            return None;
        }
        let handle = Handle::Fd(self.file.as_fd());
        let Existing { place, path, .. } = &self.existing;
        Some(apply(&place.shared, path, EntryKind::File, handle, Surplus::Previous, metadata))
    }

    /// A writer into this very file. `None` when it has to be made anew, because others have a hold on it or it
    /// cannot be written to.
    #[must_use]
    pub fn write_over(&self, metadata: &Metadata) -> Option<FileWriter> {
        if !self.existing.may_keep(metadata) {
            return None;
        }
        let file = self.existing.open_with(OFlags::RDWR).ok()?;
        Some(FileWriter::over(Arc::clone(&self.existing.place), &self.existing.path, file))
    }
}
