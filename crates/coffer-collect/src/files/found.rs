//! One entry that a walk came upon.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use super::dir::{Dir, fingerprint_of, identity_of, kind_of, open_noatime};
use super::sparse::may_have_holes;
use crate::xattr::Subject;
use crate::{Action, CollectError, EntryKind, EntryPath, Identity, Metadata, Names, StatFingerprint};

/// An entry of a [`Walk`](crate::Walk): what one `stat` tells, and the means to read the rest.
///
/// It keeps the directory that holds it open. Whoever queues entries must bound the queue well below the limit of
/// open files, for in the worst case each entry comes from a directory of its own.
#[derive(Debug)]
pub struct Found {
    path: EntryPath,
    kind: EntryKind,
    fingerprint: StatFingerprint,
    link_count: u64,
    may_have_holes: bool,
    is_source: bool,
    parent: Arc<Dir>,
    /// The directory itself, where the entry is one and could be opened.
    own: Option<Arc<Dir>>,
}

impl Found {
    pub(crate) fn new(
        path: EntryPath,
        kind: EntryKind,
        stat: &Stat,
        parent: Arc<Dir>,
        own: Option<Arc<Dir>>,
    ) -> Self {
        #[allow(clippy::useless_conversion, reason = "the field differs in width between targets")]
        let link_count = u64::from(stat.st_nlink);
        let may_have_holes = kind == EntryKind::File && may_have_holes(stat);
        let fingerprint = fingerprint_of(stat);
        Self { path, kind, fingerprint, link_count, may_have_holes, is_source: false, parent, own }
    }

    /// The same entry, marked as a source or not.
    pub(crate) fn with_source(self, is_source: bool) -> Self {
        Self { is_source, ..self }
    }

    /// The path in the snapshot.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// The path in the snapshot, without copying it.
    #[must_use]
    pub fn into_path(self) -> EntryPath {
        self.path
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.kind
    }

    /// Whether the entry is itself a source, and not only on the way to one or below one. A directory that could not be opened is none.
    #[must_use]
    pub fn is_source(&self) -> bool {
        self.is_source
    }

    /// The stat fields at the time of the walk.
    #[must_use]
    pub fn fingerprint(&self) -> &StatFingerprint {
        &self.fingerprint
    }

    /// Device and inode number. Entries that share them and are no directories are hard links to one file.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.fingerprint.identity
    }

    /// How many names the file has, inside and outside of what is walked.
    #[must_use]
    pub fn link_count(&self) -> u64 {
        self.link_count
    }

    /// Whether keeping this entry beside `other` keeps no further directory open.
    #[must_use]
    pub fn shares_directory(&self, other: &Self) -> bool {
        self.own.is_none() && Arc::ptr_eq(&self.parent, &other.parent)
    }

    /// The length of a regular file in bytes at the time of the walk; 0 for every other kind.
    #[must_use]
    pub fn size(&self) -> u64 {
        if self.kind == EntryKind::File { self.fingerprint.size } else { 0 }
    }

    /// Whether the file had fewer blocks at the time of the walk than its length needs: [`next_data`](crate::next_data) shows where.
    #[must_use]
    pub fn may_have_holes(&self) -> bool {
        self.may_have_holes
    }

    /// Opens a regular file for reading, without following a symlink, without waiting (as a fifo would make it)
    /// and, where the system allows it, without changing the access time.
    ///
    /// # Errors
    /// [`CollectError::Changed`] when another file, or something that is no regular file, has taken the name since
    /// the walk; [`CollectError::Vanished`] when nothing has the name; [`CollectError::Unfit`] when the entry is no
    /// regular file in the first place.
    pub fn open(&self) -> Result<File, CollectError> {
        let file = self.open_unchecked()?;
        let stat = rustix::fs::fstat(&file).map_err(|error| self.failed(Action::Stat, error))?;
        if identity_of(&stat) != self.identity() || kind_of(&stat) != Some(EntryKind::File) {
            return Err(CollectError::Changed { path: self.path.clone() });
        }
        Ok(file)
    }

    /// As [`Found::open`], but what has the name now may be another file, or none.
    fn open_unchecked(&self) -> Result<File, CollectError> {
        if self.kind != EntryKind::File {
            return Err(CollectError::Unfit { path: self.path.clone(), reason: "it is not a regular file" });
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match open_noatime(&self.parent, self.name(), flags) {
            Err(Errno::LOOP | Errno::NXIO) => Err(CollectError::Changed { path: self.path.clone() }),
            other => other.map(File::from).map_err(|error| self.failed(Action::OpenFile, error)),
        }
    }

    /// The regular file that has the name of this one now: programs save by renaming a new file over the old one, and then
    /// [`Found::open`] says that it changed. Stat fields are those of this moment.
    ///
    /// # Errors
    /// [`CollectError::Changed`] when something has the name that is no regular file; [`CollectError::Vanished`] when nothing has it;
    /// [`CollectError::Unfit`] when the entry was no regular file in the first place.
    pub fn find_again(&self) -> Result<Self, CollectError> {
        if self.kind != EntryKind::File {
            return Err(CollectError::Unfit { path: self.path.clone(), reason: "it is not a regular file" });
        }
        let stat = self.parent.stat_child(self.name()).map_err(|error| self.failed(Action::Stat, error))?;
        if kind_of(&stat) != Some(EntryKind::File) {
            return Err(CollectError::Changed { path: self.path.clone() });
        }
        let found = Self::new(self.path.clone(), EntryKind::File, &stat, Arc::clone(&self.parent), None);
        Ok(found.with_source(self.is_source))
    }

    /// Reads a regular file whole, behind what is in `out`, and everything [`Found::metadata`] gives. `None` if it cannot be
    /// read or is not, after that, what the walk found; `out` may then have other bytes behind what was in it.
    ///
    /// # Errors
    /// As [`Found::open`] and [`Found::metadata`].
    pub fn read_whole(&self, out: &mut Vec<u8>) -> Result<Option<Metadata>, CollectError> {
        // What was read of another file is dropped: the stat fields that are compared in the end name device, inode and kind.
        let file = self.open_unchecked()?;
        let Ok(len) = usize::try_from(self.size()) else { return Ok(None) };
        let start = out.len();
        // Room for one byte more: a read that leaves it empty was the last.
        out.reserve(len + 1);
        // Files of the system say that they are empty and are not: that is believed after a read.
        while out.len() - start < len.max(1) {
            match rustix::io::read(&file, rustix::buffer::spare_capacity(out)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return Ok(None),
            }
        }
        let is_same = out.len() - start == len && self.restat(&file)? == self.fingerprint;
        if is_same { self.metadata_from(&file).map(Some) } else { Ok(None) }
    }

    /// The stat fields of `file`, which [`Found::open`] returned, as they are now. When they differ from
    /// [`Found::fingerprint`], the file was changed since the walk, and what was read may be of no single moment.
    ///
    /// # Errors
    /// [`CollectError::Io`] when the system cannot tell.
    pub fn restat(&self, file: &File) -> Result<StatFingerprint, CollectError> {
        let stat = rustix::fs::fstat(file).map_err(|error| self.failed(Action::Stat, error))?;
        Ok(fingerprint_of(&stat))
    }

    /// Everything a snapshot keeps of this entry besides path, kind and content.
    ///
    /// Stat fields are those of the walk; the extended attributes and the link target are read now. For an open
    /// file [`Found::metadata_from`] is cheaper.
    ///
    /// # Errors
    /// [`CollectError::Vanished`] or [`CollectError::Io`] when attributes or link target cannot be read.
    pub fn metadata(&self) -> Result<Metadata, CollectError> {
        let subject = match &self.own {
            Some(own) if own.is_path_only() => Subject::path_only(own.as_fd()),
            Some(own) => Subject::Fd(own.as_fd()),
            None => Subject::below(self.parent.as_fd(), self.name())
                .map_err(|error| self.failed(Action::ReadXattrs, error))?,
        };
        self.metadata_of(&subject)
    }

    /// As [`Found::metadata`], with the attributes read from `file`, which [`Found::open`] returned.
    ///
    /// # Errors
    /// As [`Found::metadata`].
    pub fn metadata_from(&self, file: &File) -> Result<Metadata, CollectError> {
        self.metadata_of(&Subject::Fd(file.as_fd()))
    }

    fn metadata_of(&self, subject: &Subject<'_>) -> Result<Metadata, CollectError> {
        let xattrs = subject.read_all().map_err(|error| self.failed(Action::ReadXattrs, error))?;
        let link_target = match self.kind {
            EntryKind::Symlink => Some(self.read_link()?),
            _ => None,
        };
        let stat = &self.fingerprint;
        let halves = |device: u64| {
            let [a, b, c, d, e, f, g, h] = device.to_be_bytes();
            (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
        };
        let names = Names::system();
        Ok(Metadata {
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            user: names.user(stat.uid).map(<[u8]>::to_vec),
            group: names.group(stat.gid).map(<[u8]>::to_vec),
            mtime_ns: stat.mtime_ns,
            size: self.size(),
            link_target,
            xattrs,
            device: self.kind.is_device().then(|| halves(stat.device)),
        })
    }

    fn read_link(&self) -> Result<Vec<u8>, CollectError> {
        rustix::fs::readlinkat(&self.parent, self.name(), Vec::with_capacity(256))
            .map(std::ffi::CString::into_bytes)
            .map_err(|error| self.failed(Action::ReadLink, error))
    }

    /// The name below `parent`.
    fn name(&self) -> &[u8] {
        self.path.file_name().unwrap_or(b".")
    }

    fn failed(&self, action: Action, error: Errno) -> CollectError {
        if error == Errno::NOENT && matches!(self.parent.stat_child(self.name()), Err(Errno::NOENT)) {
            return CollectError::Vanished { path: self.path.clone() };
        }
        CollectError::io(action, &self.path, error)
    }
}
