//! Entries without content: symlinks, hard links, fifos, sockets and devices.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, Stat, makedev};
use rustix::io::Errno;

use super::DirectoryTarget;
use super::apply::{Handle, apply};
use super::options::{SkipReason, SpecialOutcome, Warning};
use super::place::{Made, Place};
use crate::files::kind_of;
use crate::{Action, CollectError, EntryKind, EntryPath, Metadata};

impl DirectoryTarget {
    /// Makes the symlink `path` with the link target that `metadata` holds, in place of what has the name. Returns
    /// what could not be applied.
    ///
    /// # Errors
    /// As [`DirectoryTarget::file`] and [`FileWriter::finish`](crate::FileWriter::finish); [`CollectError::Unfit`] without a link target.
    pub fn symlink(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<Vec<Warning>, CollectError> {
        let Some(target) = &metadata.link_target else {
            return Err(CollectError::Unfit { path: path.clone(), reason: "no link target is recorded" });
        };
        let place = self.enter_parent(path)?;
        let made = place
            .make(path.file_name().unwrap_or_default(), |dir, name| {
                rustix::fs::symlinkat(target.as_slice(), dir, name)
            })
            .map_err(|error| CollectError::io(Action::Create, path, error))?
            .1;
        finish_node(&place, path, EntryKind::Symlink, 0, &made, metadata)
    }

    /// Makes `path` another name of the entry `first`, in place of what has the name. `first` must be finished.
    ///
    /// # Errors
    /// As [`DirectoryTarget::file`] and [`FileWriter::finish`](crate::FileWriter::finish); [`CollectError::Io`] also when the file system has no
    /// hard links or no more of them, and when `first` is not there.
    pub fn hard_link(&mut self, path: &EntryPath, first: &EntryPath) -> Result<(), CollectError> {
        let place = self.enter_parent(path)?;
        let (Some(first_parent), Some(first_name)) = (first.parent(), first.file_name()) else {
            return Err(CollectError::Unfit { path: first.clone(), reason: "a directory has no hard links" });
        };
        let from = self.find(&first_parent)?;
        let made = place
            .make(path.file_name().unwrap_or_default(), |dir, name| {
                rustix::fs::linkat(&*from, first_name, dir, name, AtFlags::empty())
            })
            .map_err(|error| CollectError::io(Action::Create, path, error))?
            .1;
        let settled = place.settle(&made, path);
        // Renaming one name of a file over another of the same file does nothing, so that the temporary stays.
        if settled.is_err() || matches!(made, Made::Temporary(_)) {
            place.discard(&made, path);
        }
        settled
    }

    /// Makes the fifo, socket or device `path`, in place of what has the name.
    ///
    /// # Errors
    /// As [`DirectoryTarget::file`] and [`FileWriter::finish`](crate::FileWriter::finish); [`CollectError::Unfit`] for another kind, or when
    /// `metadata` lacks the number of a device.
    pub fn special(
        &mut self,
        path: &EntryPath,
        kind: EntryKind,
        metadata: &Metadata,
    ) -> Result<SpecialOutcome, CollectError> {
        let unfit = |reason| CollectError::Unfit { path: path.clone(), reason };
        let file_type = match kind {
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::Socket => FileType::Socket,
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::File | EntryKind::Directory | EntryKind::Symlink => {
                return Err(unfit("it is not a special file"));
            }
        };
        let device = match (kind.is_device(), metadata.device) {
            (false, _) => 0,
            (true, None) => return Err(unfit("no device number is recorded")),
            (true, Some(_)) if !self.shared.options.devices => {
                return Ok(SpecialOutcome::Skipped(SkipReason::DevicesNotAsked));
            }
            (true, Some((major, minor))) => makedev(major, minor),
        };
        let place = self.enter_parent(path)?;
        let made = place.make(path.file_name().unwrap_or_default(), |dir, name| {
            rustix::fs::mknodat(dir, name, file_type, Mode::RUSR | Mode::WUSR, device)
        });
        let made = match made {
            Ok(((), made)) => made,
            Err(Errno::PERM) => return Ok(SpecialOutcome::Skipped(SkipReason::NotPermitted)),
            Err(error) => return Err(CollectError::io(Action::Create, path, error)),
        };
        finish_node(&place, path, kind, device, &made, metadata).map(SpecialOutcome::Created)
    }
}

/// Applies `metadata` to a symlink or special file that was just made, and gives it its name; removes it on failure.
fn finish_node(
    place: &Place,
    path: &EntryPath,
    kind: EntryKind,
    device: Dev,
    made: &Made,
    metadata: &Metadata,
) -> Result<Vec<Warning>, CollectError> {
    let finish = || {
        let name = match made {
            Made::Temporary(name) => name.to_bytes(),
            Made::Final | Made::Existing => path.file_name().unwrap_or_default(),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(place, name, flags, Mode::empty())
            .and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat)));
        let (fd, stat) = opened.map_err(|error| CollectError::io(Action::Create, path, error))?;
        // Another file that was put under this name must not be given the owner of this one.
        if !is_as_made(&stat, kind, device) {
            return Err(CollectError::Changed { path: path.clone() });
        }
        let handle = Handle::PathOnly(fd.as_fd());
        let warnings = apply(&place.shared, path, kind, handle, place.surplus(), metadata);
        place.settle(made, path)?;
        Ok(warnings)
    };
    finish().inspect_err(|_| place.discard(made, path))
}

fn is_as_made(stat: &Stat, kind: EntryKind, device: Dev) -> bool {
    kind_of(stat) == Some(kind) && stat.st_nlink == 1 && (!kind.is_device() || stat.st_rdev == device)
}
