//! The records of the region: one embedded database in its directory.
//!
//! Each change is one transaction, and write transactions run one after the other, so a check and the write that depends on it are
//! atomic. Records survive the end of the process at any moment (`kill -9`). They are not forced to the disk: a power cut may cost
//! them, and a test that makes thousands of objects does not wait for the disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction};
use s3s::{S3Error, S3ErrorCode, S3Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::SandboxError;

/// Buckets by name.
pub(crate) const BUCKETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("buckets");
/// Versions by bucket, key and age (the newest first), with whether each is a delete marker.
pub(crate) const VERSIONS: TableDefinition<'_, (&str, &str, u64), (bool, &[u8])> =
    TableDefinition::new("versions");
/// Multipart uploads by bucket, key and upload id.
pub(crate) const UPLOADS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("uploads");
/// Their parts by upload id and number.
pub(crate) const PARTS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("parts");
/// What IAM knows, by kind and id.
pub(crate) const IAM: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("iam");
/// Single values by name.
pub(crate) const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");

/// The open database, and the lock that keeps a second process out.
#[derive(Debug)]
pub(crate) struct Records {
    database: redb::Database,
    _lock: File,
}

impl Records {
    /// Opens or makes the records in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, SandboxError> {
        let at = |path: std::path::PathBuf| move |source| SandboxError::File { path, source };
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let lock_path = directory.join("lock");
        let lock = options().open(&lock_path).map_err(at(lock_path.clone()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SandboxError::InUse { path: directory.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(SandboxError::File { path: lock_path, source }),
        }
        let path = directory.join("records.redb");
        let file = options().open(&path).map_err(at(path))?;
        let records = |what: redb::Error| SandboxError::Records { what: what.to_string() };
        let backend = Unsynced(FileBackend::new(file).map_err(|error| records(error.into()))?);
        let database =
            redb::Builder::new().create_with_backend(backend).map_err(|error| records(error.into()))?;
        let made = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(BUCKETS)?;
            transaction.open_table(VERSIONS)?;
            transaction.open_table(UPLOADS)?;
            transaction.open_table(PARTS)?;
            transaction.open_table(IAM)?;
            transaction.open_table(SETTINGS)?;
            Ok(transaction.commit()?)
        };
        made().map_err(records)?;
        Ok(Self { database, _lock: lock })
    }

    /// A consistent view.
    pub(crate) fn read(&self) -> S3Result<ReadTransaction> {
        self.database.begin_read().or_internal()
    }

    /// The right to write; others wait until it is committed or dropped.
    pub(crate) fn write(&self) -> S3Result<WriteTransaction> {
        self.database.begin_write().or_internal()
    }

    /// A single value.
    pub(crate) fn setting<T: DeserializeOwned>(&self, name: &str) -> S3Result<Option<T>> {
        let transaction = self.read()?;
        let table = transaction.open_table(SETTINGS).or_internal()?;
        table.get(name).or_internal()?.map(|bytes| decode(bytes.value())).transpose()
    }

    /// Sets a single value.
    pub(crate) fn set_setting<T: Serialize>(&self, name: &str, value: &T) -> S3Result<()> {
        let transaction = self.write()?;
        transaction.open_table(SETTINGS).or_internal()?.insert(name, &*encode(value)?).or_internal()?;
        transaction.commit().or_internal()
    }
}

/// Turns failures of the sandbox itself into the answer 500.
pub(crate) trait OrInternal<T> {
    fn or_internal(self) -> S3Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> OrInternal<T> for Result<T, E> {
    fn or_internal(self) -> S3Result<T> {
        self.map_err(|error| S3Error::with_message(S3ErrorCode::InternalError, format!("sandbox: {error}")))
    }
}

/// A record as bytes.
pub(crate) fn encode<T: Serialize>(value: &T) -> S3Result<Vec<u8>> {
    serde_json::to_vec(value).or_internal()
}

/// A record from bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> S3Result<T> {
    serde_json::from_slice(bytes).or_internal()
}

/// A file whose writes reach the operating system, in order, and are not forced further.
#[derive(Debug)]
pub(crate) struct Unsynced(FileBackend);

impl Unsynced {
    pub(crate) fn new(file: FileBackend) -> Self {
        Self(file)
    }
}

impl StorageBackend for Unsynced {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}
