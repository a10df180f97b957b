//! What can go wrong between a vault and its store.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::{RequestFailure, TokenFault};

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
    /// The object was deleted from a bucket that keeps what is deleted.
    #[error("{name} in {store} was deleted; an earlier version may be there")]
    Hidden {
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
    /// The bucket is not there, as far as these credentials can see.
    #[error("there is no bucket {bucket} at {store}")]
    NoBucket {
        /// Name of the bucket.
        bucket: String,
        /// Where.
        store: String,
        /// What the store said.
        source: Cause,
    },
    /// The bucket is in another region than the one asked.
    #[error("bucket {bucket} of {store} is not in the region that was asked")]
    WrongRegion {
        /// Name of the bucket.
        bucket: String,
        /// Where.
        store: String,
        /// The region where it is, if the store said so.
        region: Option<String>,
        /// What the store said.
        source: Cause,
    },
    /// No credentials were given or found.
    #[error("no credentials for {store} were found in {looked_in}")]
    NoCredentials {
        /// Where.
        store: String,
        /// Where credentials were looked for.
        looked_in: String,
    },
    /// The store knows whom it talks to, or should, and does not accept them.
    #[error("{store} refuses the credentials: {reason}")]
    CredentialsRefused {
        /// Where.
        store: String,
        /// What is wrong with them.
        reason: CredentialFault,
        /// What the store said.
        source: Cause,
    },
    /// Requests need a token, and the service that gives it does not answer as it should. Nothing was asked of the store.
    #[error("no token for {store} can be had from {endpoint}")]
    NoToken {
        /// Where.
        store: String,
        /// The identity service that was asked, as a URL.
        endpoint: String,
        /// In which way it does not.
        fault: TokenFault,
        /// What went wrong.
        source: Cause,
    },
    /// Requests need a token, and there is nothing with which one could be asked for.
    #[error("no token for {store} can be asked for")]
    Unproven {
        /// Where.
        store: String,
        /// What is wrong.
        source: Cause,
    },
    /// The clock of this machine and that of the store are too far apart.
    #[error("the clock of {store} and that of this machine differ too much")]
    ClockSkew {
        /// Where.
        store: String,
        /// What the store said, or by how much.
        source: Cause,
    },
    /// No secure connection could be made: an unknown issuer, another name, an expired certificate.
    #[error("no secure connection to {endpoint} could be made for {store}")]
    Tls {
        /// Where.
        store: String,
        /// Host that was asked.
        endpoint: String,
        /// What went wrong.
        source: Cause,
    },
    /// No connection could be made: the name is not known, or nobody listens.
    #[error("{endpoint} cannot be reached for {store}")]
    Unreachable {
        /// Where.
        store: String,
        /// Host that was asked.
        endpoint: String,
        /// Whether it has answered before, so that it may again.
        has_answered: bool,
        /// What went wrong.
        source: Cause,
    },
    /// What answers does not speak S3.
    #[error("{endpoint} does not speak S3: it answered {found}")]
    NotS3 {
        /// Where.
        store: String,
        /// Host that was asked.
        endpoint: String,
        /// What came instead, as `status 200 with text/html`.
        found: String,
    },
    /// The object is archived and cannot be read before it was asked for.
    #[error("{name} in {store} is archived")]
    Archived {
        /// Key of the object.
        name: String,
        /// Where.
        store: String,
        /// What the store said.
        source: Cause,
    },
    /// The store understood the request and does not do it; trying again does not help.
    #[error("{store} rejects the request for {name}")]
    Rejected {
        /// What the call was about.
        name: String,
        /// Where.
        store: String,
        /// What the store said.
        source: Cause,
    },
    /// The store does not take the object under the lock that was asked for: the bucket has no such lock, or other bounds.
    #[error("{store} does not take {name} under the lock that is asked for")]
    LockRefused {
        /// What was to be stored.
        name: String,
        /// Where.
        store: String,
        /// What the store said.
        source: Cause,
    },
    /// The store has not what the call needs.
    #[error("{store} does not offer {what}")]
    Unsupported {
        /// Where.
        store: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The store keeps no versions any more, by which it was to be told who was first. What was written is replaced by who writes next.
    #[error("{store} keeps no versions of objects any more, so that who created {name} first cannot be told")]
    VersionsOff {
        /// Key of the object.
        name: String,
        /// Where.
        store: String,
    },
    /// A setting or a file that it names is of no use. Neither is repeated: it may hold credentials.
    #[error("{what} cannot be used: {reason}")]
    InvalidSetting {
        /// Which setting or file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Whether making the same call again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unreachable { has_answered: true, .. })
    }

    /// Whether it says that the store could not be asked or does not do as asked, and nothing of the object: that one may
    /// be as it should be.
    #[must_use]
    pub const fn is_of_store(&self) -> bool {
        !matches!(
            self,
            Self::NotFound { .. }
                | Self::NotAnObject { .. }
                | Self::TooLong { .. }
                | Self::Truncated { .. }
                | Self::LengthChanged { .. }
                | Self::InvalidKey { .. }
        )
    }

    /// How long the store asked to be left alone before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { source, .. } => source.downcast_ref::<RequestFailure>()?.retry_after,
            _ => None,
        }
    }

    /// Whether the object, or the store itself, is absent.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Hidden { .. })
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

/// What is wrong with credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialFault {
    /// They were good, and are no more.
    Expired,
    /// The store does not know the access key.
    UnknownKey,
    /// The secret does not belong to the access key.
    WrongSecret,
    /// The identity service does not give a token for them.
    IdentityRefused,
    /// The store does not take the token.
    TokenRefused,
}

impl fmt::Display for CredentialFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "they have expired",
            Self::UnknownKey => "it does not know the access key",
            Self::WrongSecret => "the secret does not belong to the access key",
            Self::IdentityRefused => "the identity service gives no token for them",
            Self::TokenRefused => "it does not take the token",
        })
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
