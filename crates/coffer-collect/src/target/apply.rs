//! Applying metadata to what was just made, through a descriptor and never through a name.
//!
//! The order matters: a change of owner clears set-id bits and capabilities, an ACL changes the group bits that the
//! mode then fixes, and everything changes the time. What the system refuses becomes a warning.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Result;

use super::options::{Lost, OwnerRule, TargetOptions, Warning};
use super::place::Shared;
use crate::xattr::{Subject, proc_path};
use crate::{EntryKind, EntryPath, Metadata, Names, Xattr};

const CAPABILITY: &[u8] = b"security.capability";
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What metadata is applied to.
#[derive(Clone, Copy)]
pub(crate) enum Handle<'a> {
    /// An ordinary descriptor.
    Fd(BorrowedFd<'a>),
    /// One opened with `O_PATH`, for what must not or cannot be opened otherwise.
    PathOnly(BorrowedFd<'a>),
}

/// Which attributes an entry has that it should not have, unless its metadata names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surplus {
    /// None: nothing was there to inherit from.
    None,
    /// ACLs inherited from a default ACL of the directory.
    InheritedAcl,
    /// Whatever a directory that was there before has.
    Previous,
}

impl<'a> Handle<'a> {
    fn subject(self) -> Subject<'a> {
        match self {
            Self::Fd(fd) => Subject::Fd(fd),
            Self::PathOnly(fd) => Subject::path_only(fd),
        }
    }

    fn owner(self) -> Result<(u32, u32)> {
        let (Self::Fd(fd) | Self::PathOnly(fd)) = self;
        rustix::fs::fstat(fd).map(|stat| (stat.st_uid, stat.st_gid))
    }

    fn set_owner(self, (uid, gid): (u32, u32)) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Fd(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::PathOnly(fd) => rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Fd(fd) => rustix::fs::fchmod(fd, mode),
            Self::PathOnly(fd) => rustix::fs::chmodat(CWD, proc_path(fd).as_c_str(), mode, AtFlags::empty()),
        }
    }

    fn set_mtime(self, mtime_ns: i64) -> Result<()> {
        const NS_PER_S: i64 = 1_000_000_000;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: mtime_ns.div_euclid(NS_PER_S),
                tv_nsec: mtime_ns.rem_euclid(NS_PER_S),
            },
        };
        match self {
            Self::Fd(fd) => rustix::fs::futimens(fd, &times),
            Self::PathOnly(fd) => rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
        }
    }
}

/// Applies `metadata` to the entry of `kind` that `handle` is, and returns what could not be applied.
pub(crate) fn apply(
    shared: &Shared,
    path: &EntryPath,
    kind: EntryKind,
    handle: Handle<'_>,
    surplus: Surplus,
    metadata: &Metadata,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |lost: Lost, cause: Option<io::Error>| {
        warnings.push(Warning { path: path.clone(), lost, cause });
    };
    let recorded = recorded_owner(&shared.options, metadata);
    let mut owner_applied = false;
    if shared.applies_owner() {
        match handle.set_owner(recorded) {
            Ok(()) => owner_applied = true,
            Err(error) => warn(Lost::Owner, Some(error.into())),
        }
    }
    // Asked only for the few files that carry privilege.
    let may_carry_privilege = || {
        shared.options.privileged_files
            && (owner_applied || handle.owner().is_ok_and(|owner| owner == recorded))
    };

    apply_xattrs(handle, kind, surplus, metadata, &may_carry_privilege, &mut warn);

    if kind != EntryKind::Symlink {
        let mut mode = metadata.mode & 0o7777;
        if mode & 0o6000 != 0 && kind != EntryKind::Directory && !may_carry_privilege() {
            mode &= !0o6000;
            warn(Lost::SetIdBits, None);
        }
        if let Err(error) = handle.set_mode(mode) {
            warn(Lost::Mode, Some(error.into()));
        }
    }
    if let Err(error) = handle.set_mtime(metadata.mtime_ns) {
        warn(Lost::Time, Some(error.into()));
    }
    warnings
}

fn apply_xattrs(
    handle: Handle<'_>,
    kind: EntryKind,
    surplus: Surplus,
    metadata: &Metadata,
    may_carry_privilege: &impl Fn() -> bool,
    warn: &mut impl FnMut(Lost, Option<io::Error>),
) {
    if metadata.xattrs.is_empty() && surplus == Surplus::None {
        return;
    }
    let subject = handle.subject();
    for name in surplus_names(&subject, kind, surplus) {
        if metadata.xattrs.iter().any(|(kept, _)| *kept == name) {
            continue;
        }
        if let Err(error) = subject.remove(&name) {
            warn(Lost::XattrRemoval(name), Some(error.into()));
        }
    }
    // An ACL comes last: it can take from the owner the right to write, which the other attributes need.
    let is_acl = |xattr: &&Xattr| xattr.0 == ACL_ACCESS || xattr.0 == ACL_DEFAULT;
    let others = metadata.xattrs.iter().filter(|xattr| !is_acl(xattr));
    for (name, value) in others.chain(metadata.xattrs.iter().filter(is_acl)) {
        if name == CAPABILITY && !may_carry_privilege() {
            warn(Lost::Xattr(name.clone()), None);
        } else if let Err(error) = subject.set(name, value) {
            warn(Lost::Xattr(name.clone()), Some(error.into()));
        }
    }
}

/// The attributes to remove where metadata does not name them.
fn surplus_names(subject: &Subject<'_>, kind: EntryKind, surplus: Surplus) -> Vec<Vec<u8>> {
    match surplus {
        Surplus::None => Vec::new(),
        Surplus::InheritedAcl if kind == EntryKind::Symlink => Vec::new(),
        Surplus::InheritedAcl if kind == EntryKind::Directory => {
            vec![ACL_ACCESS.to_vec(), ACL_DEFAULT.to_vec()]
        }
        Surplus::InheritedAcl => vec![ACL_ACCESS.to_vec()],
        Surplus::Previous => {
            subject.names().unwrap_or_default().into_iter().filter(|name| is_ours(name)).collect()
        }
    }
}

/// Takes both ACLs off a directory that was just made below one with a default ACL, so that nothing below it
/// inherits in turn. Whether it worked is seen again when the directory's own metadata is applied.
pub(crate) fn strip_inherited_acls(fd: BorrowedFd<'_>) -> bool {
    let subject = Subject::Fd(fd);
    subject.remove(ACL_ACCESS).is_ok() && subject.remove(ACL_DEFAULT).is_ok()
}

/// Whether what is made in the directory inherits an ACL.
pub(crate) fn has_default_acl(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fgetxattr_query(fd, ACL_DEFAULT).is_ok()
}

/// Applies a mode alone.
pub(crate) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    Handle::Fd(fd).set_mode(mode)
}

/// The owner that an entry gets; `None` where owners are not applied.
pub(crate) fn wanted_owner(shared: &Shared, metadata: &Metadata) -> Option<(u32, u32)> {
    shared.applies_owner().then(|| recorded_owner(&shared.options, metadata))
}

/// Whether applying the attributes of `metadata` would change nothing. What cannot be read counts as a change.
pub(crate) fn same_xattrs(subject: &Subject<'_>, shared: &Shared, metadata: &Metadata) -> bool {
    let Ok(present) = subject.read_all() else { return false };
    let applied = |(name, _): &&Xattr| name != CAPABILITY || shared.options.privileged_files;
    let missing = metadata.xattrs.iter().filter(applied).any(|xattr| !present.contains(xattr));
    let surplus = present
        .iter()
        .any(|(name, _)| is_ours(name) && metadata.xattrs.iter().all(|(recorded, _)| recorded != name));
    !missing && !surplus
}

/// Whether the entry has an ACL that `metadata` does not record like this. What cannot be read counts as one.
pub(crate) fn has_other_acl(subject: &Subject<'_>, metadata: &Metadata) -> bool {
    match subject.get(ACL_ACCESS) {
        Ok(Some(acl)) => metadata.xattrs.iter().all(|(name, value)| name != ACL_ACCESS || *value != acl),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Whether an attribute that is not recorded is removed: labels that the system maintains are left alone.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == ACL_ACCESS || name == ACL_DEFAULT
}

fn recorded_owner(options: &TargetOptions, metadata: &Metadata) -> (u32, u32) {
    if options.numeric_owner {
        return (metadata.uid, metadata.gid);
    }
    let names = Names::system();
    let uid = metadata.user.as_ref().and_then(|name| names.uid(name)).unwrap_or(metadata.uid);
    let gid = metadata.group.as_ref().and_then(|name| names.gid(name)).unwrap_or(metadata.gid);
    (uid, gid)
}

impl Shared {
    fn applies_owner(&self) -> bool {
        match self.options.owner {
            OwnerRule::IfRoot => self.is_root,
            OwnerRule::Always => true,
            OwnerRule::Never => false,
        }
    }
}
