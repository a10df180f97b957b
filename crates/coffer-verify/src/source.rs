//! Reading objects of a vault, and telling a bad object from a store that is gone.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_format::object::ObjectName;
use coffer_store::{ObjectKey, ObjectStore, StoreError};

use crate::error::VerifyError;
use crate::report::Class;

/// More requests than this are never made at once because the store says so.
const IN_FLIGHT_MAX: usize = 32;

/// Why an object could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadFault {
    Absent,
    TooLong {
        len: u64,
    },
    Short {
        len: u64,
    },
    /// It is there, and in an archive class.
    Archived,
    Unreadable(String),
}

impl ReadFault {
    pub(crate) const fn class(&self) -> Class {
        match self {
            Self::Absent => Class::Missing,
            Self::Archived => Class::Archived,
            _ => Class::Corrupt,
        }
    }

    pub(crate) fn what(&self) -> String {
        match self {
            Self::Absent => "it is absent".to_owned(),
            Self::TooLong { len } => format!("it is {len} bytes, over the limit of its kind"),
            Self::Short { len } => format!("it ends after {len} bytes"),
            Self::Archived => "it is archived, and was not read".to_owned(),
            Self::Unreadable(reason) => format!("unreadable: {reason}"),
        }
    }
}

/// An object's bytes, or why they could not be had.
pub(crate) type Fetched<T> = Result<T, ReadFault>;

/// The vault's store, read only.
pub(crate) struct Source<'a> {
    store: &'a dyn ObjectStore,
    read_bytes: AtomicU64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(store: &'a dyn ObjectStore) -> Self {
        Self { store, read_bytes: AtomicU64::new(0) }
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn url(&self) -> String {
        self.store.url()
    }

    /// How many threads are worth having where `asked` were asked for: more, if the store is far away and waiting costs nothing else.
    pub(crate) fn threads(&self, asked: usize) -> usize {
        asked.max(self.store.parallelism_hint().clamp(1, IN_FLIGHT_MAX))
    }

    /// Reads a whole object of at most `len_max` bytes into `out`.
    pub(crate) fn read(
        &self,
        name: ObjectName,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<Fetched<()>, VerifyError> {
        let result = self.store.read(&key(name), len_max, out);
        self.read_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        Self::judge(result)
    }

    /// Fills `out` from `offset` on.
    pub(crate) fn read_range(
        &self,
        name: ObjectName,
        offset: u64,
        out: &mut [u8],
    ) -> Result<Fetched<()>, VerifyError> {
        let result = self.store.read_range(&key(name), offset, out);
        if result.is_ok() {
            self.read_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        }
        Self::judge(result)
    }

    /// The bytes of an object were found wrong. Whether another copy of it is read from now on: a store that keeps versions turns to
    /// the first one of a name that something was laid over.
    pub(crate) fn distrust(&self, name: ObjectName) -> bool {
        self.store.distrust(&key(name))
    }

    /// The length of an object.
    pub(crate) fn len(&self, name: ObjectName) -> Result<Fetched<u64>, VerifyError> {
        Self::judge(self.store.stat(&key(name)).map(|stat| stat.len))
    }

    /// Sorts an error into what is wrong with the object and what is wrong with the store.
    fn judge<T>(result: Result<T, StoreError>) -> Result<Fetched<T>, VerifyError> {
        let error = match result {
            Ok(value) => return Ok(Ok(value)),
            Err(error) => error,
        };
        Ok(Err(match error {
            error if error.is_not_found() => ReadFault::Absent,
            StoreError::TooLong { len, .. } => ReadFault::TooLong { len },
            StoreError::Truncated { actual_len, .. } => ReadFault::Short { len: actual_len },
            StoreError::Archived { .. } => ReadFault::Archived,
            error if is_of_object(&error) => ReadFault::Unreadable(reason(&error)),
            // Rights that are missing, or a store that is gone, prove nothing about what is stored.
            error => return Err(VerifyError::Store { source: error }),
        }))
    }
}

/// The key under which an object of the format is stored.
pub(crate) fn key(name: ObjectName) -> ObjectKey {
    ObjectKey::new(name.to_string()).expect("every name of the format is a valid key")
}

/// An error with its sources, on one line.
pub(crate) fn reason(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whether an error says that this object cannot be read, though the store is there and lets it be read.
const fn is_of_object(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotAnObject { .. }
            | StoreError::LengthChanged { .. }
            | StoreError::Io { .. }
            | StoreError::Rejected { .. }
            | StoreError::InvalidKey { .. }
    )
}
