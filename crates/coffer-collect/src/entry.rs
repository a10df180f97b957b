//! What an entry is and what is kept of it, as plain values.

/// An extended attribute: its name and its value, which may be empty.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What tells one file on this machine from every other: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The number of the device that holds the file.
    pub dev: u64,
    /// The inode number on that device.
    pub ino: u64,
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket in the file system.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl EntryKind {
    /// Whether this kind has a device number.
    #[must_use]
    pub const fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }
}

/// What a snapshot keeps of an entry besides its path, kind and content.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The 12 permission bits, among them set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name, where the system has one.
    pub user: Option<Vec<u8>>,
    /// The group's name, where the system has one.
    pub group: Option<Vec<u8>>,
    /// Time of the last change of content, in ns since 1970, at the ends of the range where it does not fit.
    pub mtime_ns: i64,
    /// Length of a regular file in bytes; 0 for every other kind.
    pub size: u64,
    /// Where a symlink points; `None` for every other kind.
    pub link_target: Option<Vec<u8>>,
    /// Extended attributes, sorted by name; POSIX ACLs are among them as `system.posix_acl_*`.
    pub xattrs: Vec<Xattr>,
    /// Major and minor number of a device; `None` for every other kind.
    pub device: Option<(u32, u32)>,
}

/// The stat fields of an entry at one moment.
///
/// Two equal fingerprints mean that the file was not changed in between, with one exception: a file can change
/// twice within one tick of the file system's clock. A caller that keeps fingerprints must not trust one whose
/// `ctime_ns` is not clearly before the moment at which it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatFingerprint {
    /// Device and inode number.
    pub identity: Identity,
    /// Time of the last change of the inode, in ns since 1970, saturating.
    pub ctime_ns: i64,
    /// Time of the last change of content, in ns since 1970, saturating.
    pub mtime_ns: i64,
    /// Length in bytes as the system reports it, whatever the kind.
    pub size: u64,
    /// The whole `st_mode`: file type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, major in the upper half.
    pub device: u64,
}

impl StatFingerprint {
    /// Length of [`StatFingerprint::to_bytes`].
    pub const BYTES_LEN: usize = 64;

    /// Eight little-endian `u64`: dev, ino, ctime, mtime, size, mode, uid in the low and gid in the high half, device.
    ///
    /// The form is stable: it may be hashed and kept.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES_LEN] {
        let words = [
            self.identity.dev,
            self.identity.ino,
            self.ctime_ns.cast_unsigned(),
            self.mtime_ns.cast_unsigned(),
            self.size,
            u64::from(self.mode),
            u64::from(self.uid) | u64::from(self.gid) << 32,
            self.device,
        ];
        let mut bytes = [0; Self::BYTES_LEN];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Seconds and nanoseconds as ns since 1970, held at the ends of the range (the years 1677 and 2262).
pub(crate) fn time_ns(seconds: i64, nanos: i64) -> i64 {
    let exact = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    i64::try_from(exact).unwrap_or(if exact < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate() {
        assert_eq!(time_ns(-1, 999_999_999), -1);
        assert_eq!(time_ns(1, 5), 1_000_000_005);
        assert_eq!(time_ns(i64::MAX, 0), i64::MAX);
        assert_eq!(time_ns(i64::MIN, 999_999_999), i64::MIN);
    }

    #[test]
    fn every_field_of_a_fingerprint_is_in_its_bytes() {
        let base = StatFingerprint {
            identity: Identity { dev: 1, ino: 2 },
            ctime_ns: -3,
            mtime_ns: 4,
            size: 5,
            mode: 6,
            uid: 7,
            gid: 8,
            device: 9,
        };
        let bytes = base.to_bytes();
        assert_eq!(
            bytes[..24],
            [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 253, 255, 255, 255, 255, 255, 255, 255]
        );
        assert_eq!(bytes[48..56], [7, 0, 0, 0, 8, 0, 0, 0]);
        let variants = [
            StatFingerprint { identity: Identity { dev: 0, ino: 2 }, ..base },
            StatFingerprint { identity: Identity { dev: 1, ino: 0 }, ..base },
            StatFingerprint { ctime_ns: 0, ..base },
            StatFingerprint { mtime_ns: 0, ..base },
            StatFingerprint { size: 0, ..base },
            StatFingerprint { mode: 0, ..base },
            StatFingerprint { uid: 0, ..base },
            StatFingerprint { gid: 0, ..base },
            StatFingerprint { device: 0, ..base },
        ];
        for variant in variants {
            assert_ne!(variant.to_bytes(), bytes, "{variant:?}");
        }
    }
}
