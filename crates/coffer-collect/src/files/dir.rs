//! Open directories of a walk: opening below them, and the sorted list of what they hold.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

use crate::entry::time_ns;
use crate::{EntryKind, Identity, StatFingerprint};

/// Bytes of a buffer for listing a directory; a single record is far smaller.
pub(crate) const LIST_BUFFER_LEN: usize = 64 * 1024;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    /// Opened with `O_PATH`: names below it can be opened, it can itself not be listed.
    path_only: bool,
}

/// How a directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// To list it; a symlink is refused.
    List,
    /// To list it, through a symlink if it is one.
    ListFollowing,
    /// To open what is below it, through a symlink if it is one. Needs no permission to read the directory.
    PassFollowing,
}

impl Dir {
    /// Opens `name` below `parent`.
    pub(crate) fn open(parent: impl AsFd, name: impl Arg + Copy, how: Open) -> Result<Self> {
        let common = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (flags, path_only) = match how {
            Open::List => (common | OFlags::RDONLY | OFlags::NOFOLLOW, false),
            Open::ListFollowing => (common | OFlags::RDONLY, false),
            Open::PassFollowing => (common | OFlags::PATH, true),
        };
        let fd = if path_only {
            rustix::fs::openat(parent, name, flags, Mode::empty())?
        } else {
            open_noatime(parent, name, flags)?
        };
        Ok(Self { fd, path_only })
    }

    pub(crate) fn is_path_only(&self) -> bool {
        self.path_only
    }

    pub(crate) fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
    }

    pub(crate) fn stat_child(&self, name: impl Arg) -> Result<Stat> {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Lists the directory into `children`, unsorted, without `.` and `..`.
    pub(crate) fn list(&self, children: &mut Children, buffer: &mut [MaybeUninit<u8>]) -> Result<()> {
        let mut records = RawDir::new(&self.fd, buffer);
        while let Some(record) = records.next() {
            let record = record?;
            let name = record.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                children.push(name, record.file_type() == FileType::Directory)?;
            }
        }
        Ok(())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens without touching the access time where the system lets us, which is for owners and root.
pub(crate) fn open_noatime(parent: impl AsFd, name: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd> {
    match rustix::fs::openat(&parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&parent, name, flags, Mode::empty()),
        other => other,
    }
}

/// The children of one directory: their names in one allocation, and a place in it for each.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Names, each ended by a NUL, so that they go to the system as they are.
    names: Vec<u8>,
    places: Vec<Place>,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first 8 bytes of the name, the first one highest: decides most comparisons.
    prefix: u64,
    start: u32,
    /// Without the NUL.
    len: u16,
    /// The listing says that it is a directory. When it does not say so, it may still be one.
    listed_directory: bool,
}

impl Children {
    /// Adds a child. Fails when the names of one directory come to more than 4 GiB.
    pub(crate) fn push(&mut self, name: &CStr, listed_directory: bool) -> Result<()> {
        let start = u32::try_from(self.names.len()).map_err(|_| Errno::OVERFLOW)?;
        let bytes = name.to_bytes();
        let len = u16::try_from(bytes.len()).map_err(|_| Errno::NAMETOOLONG)?;
        let mut prefix = [0; 8];
        let prefix_len = bytes.len().min(prefix.len());
        prefix[..prefix_len].copy_from_slice(&bytes[..prefix_len]);
        self.names.extend_from_slice(name.to_bytes_with_nul());
        self.places.push(Place { prefix: u64::from_be_bytes(prefix), start, len, listed_directory });
        Ok(())
    }

    /// Puts the children in the order of the bytes of their names, each name once.
    pub(crate) fn sort(&mut self) {
        let names = &self.names;
        self.places.sort_unstable_by(|a, b| {
            // A NUL is in no name, so a short name padded with it sorts where it belongs.
            a.prefix.cmp(&b.prefix).then_with(|| bytes_at(names, *a).cmp(bytes_at(names, *b)))
        });
        self.places.dedup_by(|a, b| bytes_at(names, *a) == bytes_at(names, *b));
        self.names.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    /// Takes the next child: where its name is, for [`Children::name`], and whether it was listed as a directory.
    pub(crate) fn take_next(&mut self) -> Option<(usize, bool)> {
        let position = self.next;
        let place = self.places.get(position)?;
        self.next += 1;
        Some((position, place.listed_directory))
    }

    pub(crate) fn name(&self, position: usize) -> &CStr {
        let place = self.places[position];
        let start = usize::try_from(place.start).expect("an offset into a Vec fits usize");
        let end = start + usize::from(place.len) + 1;
        CStr::from_bytes_with_nul(&self.names[start..end]).expect("pushed from a CStr")
    }

    /// Where the child of this name is, for [`Children::name`] and [`Children::keep_only`].
    pub(crate) fn position_of(&self, name: &[u8]) -> Option<usize> {
        let is_it =
            |place: &Place| usize::from(place.len) == name.len() && bytes_at(&self.names, *place) == name;
        self.places.iter().position(is_it)
    }

    /// Drops all children but those at these places.
    pub(crate) fn keep_only(&mut self, positions: &[usize]) {
        self.places = positions.iter().filter_map(|position| self.places.get(*position).copied()).collect();
    }

    /// Drops the children that were not taken.
    pub(crate) fn discard_rest(&mut self) {
        self.next = self.places.len();
    }
}

fn bytes_at(names: &[u8], place: Place) -> &[u8] {
    let start = usize::try_from(place.start).expect("an offset into a Vec fits usize");
    &names[start..start + usize::from(place.len)]
}

/// The kind that the type bits of `stat` name; `None` for a type that this crate does not know.
pub(crate) fn kind_of(stat: &Stat) -> Option<EntryKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Unknown => return None,
    })
}

#[allow(clippy::useless_conversion, reason = "the fields differ in width between targets")]
pub(crate) fn identity_of(stat: &Stat) -> Identity {
    Identity { dev: u64::from(stat.st_dev), ino: u64::from(stat.st_ino) }
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the fields differ in width between targets"
)]
pub(crate) fn fingerprint_of(stat: &Stat) -> StatFingerprint {
    let is_device = kind_of(stat).is_some_and(EntryKind::is_device);
    let device = if is_device {
        u64::from(rustix::fs::major(stat.st_rdev)) << 32 | u64::from(rustix::fs::minor(stat.st_rdev))
    } else {
        0
    };
    StatFingerprint {
        identity: identity_of(stat),
        ctime_ns: time_ns(i64::from(stat.st_ctime), i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        mtime_ns: time_ns(i64::from(stat.st_mtime), i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn children_come_in_the_order_of_their_bytes(
            names in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'a'), 1u8..=255], 1..12), 0..40)
        ) {
            let mut children = Children::default();
            for name in &names {
                children.push(&CString::new(name.clone()).unwrap(), false).unwrap();
            }
            children.sort();
            let mut expected = names;
            expected.sort();
            expected.dedup();
            let mut taken = Vec::new();
            while let Some((position, _)) = children.take_next() {
                taken.push(children.name(position).to_bytes().to_vec());
            }
            prop_assert_eq!(taken, expected);
        }
    }
}
