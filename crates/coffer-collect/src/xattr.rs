//! Extended attributes of an open file, or of a name below an open directory.
//!
//! Names below a directory are reached as `/proc/self/fd/<number>/<name>`, because the calls that take a
//! directory and a name are too new to rely on. The name itself is not followed when it is a symlink.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs;
use rustix::io::{Errno, Result};

use crate::Xattr;

/// The kernel's limit for a list of names and for one value.
const LEN_MAX: usize = 65_536;

/// What an attribute is read from or written to.
pub(crate) enum Subject<'a> {
    /// An open file.
    Fd(BorrowedFd<'a>),
    /// What this path names, without following a symlink at its end.
    Unfollowed(CString),
    /// What this path names, following; used for `/proc/self/fd/<number>` alone.
    Followed(CString),
}

impl<'a> Subject<'a> {
    /// `name` below the open directory `dir`; `name` is one component without NUL.
    pub(crate) fn below(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Self> {
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        CString::new(path).map(Self::Unfollowed).map_err(|_| Errno::INVAL)
    }

    /// What `fd` stands for, when it was opened with `O_PATH` and takes no calls itself.
    pub(crate) fn path_only(fd: BorrowedFd<'_>) -> Self {
        Self::Followed(proc_path(fd))
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Fd(fd) => fs::flistxattr(fd, buffer),
            Self::Unfollowed(path) => fs::llistxattr(path.as_c_str(), buffer),
            Self::Followed(path) => fs::listxattr(path.as_c_str(), buffer),
        }
    }

    fn value(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Fd(fd) => fs::fgetxattr(fd, name, buffer),
            Self::Unfollowed(path) => fs::lgetxattr(path.as_c_str(), name, buffer),
            Self::Followed(path) => fs::getxattr(path.as_c_str(), name, buffer),
        }
    }

    pub(crate) fn set(&self, name: &[u8], value: &[u8]) -> Result<()> {
        let flags = fs::XattrFlags::empty();
        match self {
            Self::Fd(fd) => fs::fsetxattr(fd, name, value, flags),
            Self::Unfollowed(path) => fs::lsetxattr(path.as_c_str(), name, value, flags),
            Self::Followed(path) => fs::setxattr(path.as_c_str(), name, value, flags),
        }
    }

    /// Removes an attribute; one that is not there, or cannot be on this file system, is removed already.
    pub(crate) fn remove(&self, name: &[u8]) -> Result<()> {
        let removed = match self {
            Self::Fd(fd) => fs::fremovexattr(fd, name),
            Self::Unfollowed(path) => fs::lremovexattr(path.as_c_str(), name),
            Self::Followed(path) => fs::removexattr(path.as_c_str(), name),
        };
        match removed {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    /// The names of all attributes, sorted; empty where the file system has none.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>> {
        let listed = with_buffer(
            |buffer| self.list(buffer),
            |list| {
                list.split(|&b| b == 0)
                    .filter(|name| !name.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect::<Vec<_>>()
            },
        );
        let mut names = match listed {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            other => other?,
        };
        names.sort_unstable();
        Ok(names)
    }

    /// The value of an attribute; `None` if it is not there, or cannot be on this file system.
    pub(crate) fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        match with_buffer(|buffer| self.value(name, buffer), <[u8]>::to_vec) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All attributes, sorted by name. One that is removed between listing and reading is left out.
    pub(crate) fn read_all(&self) -> Result<Vec<Xattr>> {
        let names = self.names()?;
        let mut xattrs = Vec::with_capacity(names.len());
        for name in names {
            match with_buffer(|buffer| self.value(&name, buffer), <[u8]>::to_vec) {
                Ok(value) => xattrs.push((name, value)),
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(xattrs)
    }
}

/// The path under which the kernel shows an open file.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("digits hold no NUL")
}

/// Calls `fill` with a small buffer, and once more with one of the kernel's limit where that is too small.
fn with_buffer<T>(fill: impl Fn(&mut [u8]) -> Result<usize>, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let mut small = [0; 512];
    match fill(&mut small) {
        Err(Errno::RANGE) => {}
        filled => return filled.map(|len| take(&small[..len])),
    }
    let mut large = vec![0; LEN_MAX];
    let len = fill(&mut large)?;
    Ok(take(&large[..len]))
}
