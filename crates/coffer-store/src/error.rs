//! What can go wrong between a vault and its store.

use std::error::Error;
use std::io;

use rustix::io::Errno;

/// The cause that a backend gives for a failure.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A failed call of an [`ObjectStore`](crate::ObjectStore).
///
/// `name` is the object's key, the prefix of a listing, or what else inside the store was being worked on; `store` is
/// [`ObjectStore::url`](crate::ObjectStore::url). Neither holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such object, or no such store.
    #[error("{name} is not found in {store}")]
    NotFound {
        /// What was looked for.
        name: String,
        /// Where.
        store: String,
    },
    /// Something lies under the name that is no object.
    #[error("{name} in {store} is {found}, not a regular file")]
    NotAnObject {
        /// The name, or the directory on the way to it.
        name: String,
        /// Where.
        store: String,
        /// What it is, with its article.
        found: &'static str,
    },
    /// The object is longer than the caller is ready to read; nothing was read.
    #[error("{name} in {store} is {len} bytes, at most {len_max} are allowed")]
    TooLong {
        /// Key of the object.
        name: String,
        /// Where.
        store: String,
        /// Its length in bytes.
        len: u64,
        /// The caller's limit in bytes.
        len_max: u64,
    },
    /// The object ends before the end of the range.
    #[error("{name} in {store} is {actual_len} bytes, too short for {range_len} bytes at offset {offset}")]
    Truncated {
        /// Key of the object.
        name: String,
        /// Where.
        store: String,
        /// Start of the range, in bytes from the start of the object.
        offset: u64,
        /// Length of the range in bytes.
        range_len: u64,
        /// Length of the object in bytes.
        actual_len: u64,
    },
    /// The object's length was not the same before and after reading it.
    #[error("{name} in {store} was {expected_len} bytes and gave {actual_len} bytes or more when read")]
    LengthChanged {
        /// Key of the object.
        name: String,
        /// Where.
        store: String,
        /// Length in bytes before reading.
        expected_len: u64,
        /// Number of bytes that reading gave before it was stopped.
        actual_len: u64,
    },
    /// The store does not permit it: missing rights, a lock, a read-only medium.
    #[error("access to {name} in {store} is denied")]
    Denied {
        /// What the call was about.
        name: String,
        /// Where.
        store: String,
        /// What the backend said.
        source: Cause,
    },
    /// The store is full or a quota is used up.
    #[error("no space for {name} in {store}")]
    NoSpace {
        /// What the call was about.
        name: String,
        /// Where.
        store: String,
        /// What the backend said.
        source: Cause,
    },
    /// A failure that may pass; the same call can be made again.
    #[error("{store} is not available for {name}")]
    Unavailable {
        /// What the call was about.
        name: String,
        /// Where.
        store: String,
        /// What the backend said.
        source: Cause,
    },
    /// The medium did not confirm that what was written is durable. Never retried: the system forgets such an error
    /// once it has reported it, so a second sync proves nothing.
    #[error("{name} could not be made durable in {store}")]
    SyncFailed {
        /// What was being written.
        name: String,
        /// Where.
        store: String,
        /// What the backend said.
        source: Cause,
    },
    /// Any other failure of input or output; trying again is not expected to help.
    #[error("input or output failed on {name} in {store}")]
    Io {
        /// What the call was about.
        name: String,
        /// Where.
        store: String,
        /// What the backend said.
        source: Cause,
    },
    /// The text is not a name that an object may have.
    #[error("`{name}` is not a valid object name: {reason}")]
    InvalidKey {
        /// The text, escaped and cut to a bounded length.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The text does not say where a store is. It is not repeated here, as it may hold credentials.
    #[error("the store location is not valid: {reason}")]
    InvalidLocation {
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The location is well-formed, but this build has no backend for its scheme.
    #[error(
        "{scheme}: locations are not supported, this build stores in local directories: give a path or file://"
    )]
    UnsupportedLocation {
        /// The scheme, in lower case.
        scheme: String,
    },
}

impl StoreError {
    /// Whether making the same call again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the object, or the store itself, is absent.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Sorts an error of the operating system by what a caller can do about it.
    pub(crate) fn from_io(name: &str, store: &str, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let (name, store) = (name.to_owned(), store.to_owned());
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound { name, store },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { name, store, source: error.into() }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { name, store, source: error.into() }
            }
            io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::OutOfMemory => Self::Unavailable { name, store, source: error.into() },
            _ if is_out_of_descriptors(&error) => Self::Unavailable { name, store, source: error.into() },
            _ => Self::Io { name, store, source: error.into() },
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: Errno, expected: &str, is_retryable: bool) {
        let error = StoreError::from_io("log/1", "memory:", errno);
        assert!(format!("{error:?}").starts_with(expected), "{error:?} is not {expected}");
        assert_eq!(error.is_retryable(), is_retryable, "{error:?}");
        assert!(error.to_string().contains("log/1") && error.to_string().contains("memory:"), "{error}");
    }

    #[test]
    fn errors_of_the_system_are_sorted_by_what_to_do() {
        check(Errno::NOENT, "NotFound", false);
        check(Errno::ACCESS, "Denied", false);
        check(Errno::PERM, "Denied", false);
        check(Errno::ROFS, "Denied", false);
        check(Errno::NOSPC, "NoSpace", false);
        check(Errno::DQUOT, "NoSpace", false);
        check(Errno::AGAIN, "Unavailable", true);
        check(Errno::INTR, "Unavailable", true);
        check(Errno::MFILE, "Unavailable", true);
        check(Errno::NFILE, "Unavailable", true);
        check(Errno::NOMEM, "Unavailable", true);
        check(Errno::TIMEDOUT, "Unavailable", true);
        check(Errno::IO, "Io", false);
        check(Errno::XDEV, "Io", false);
    }

    #[test]
    fn the_cause_is_kept_as_source_and_not_repeated() {
        let error = StoreError::from_io("log/1", "memory:", Errno::NOSPC);
        let cause = error.source().expect("NoSpace has a source").to_string();
        assert!(!error.to_string().contains(&cause));
    }
}
