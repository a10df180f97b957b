//! The database of the key service: one file, `kms.redb`, with one lock beside it.
//!
//! What a call changes and the entry of the audit log that speaks of it are one transaction. On its own the service forces each
//! transaction to the disk before it answers; in the simulated region, like all there, it hands them to the operating system.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use serde::{Deserialize, Serialize};

use super::audit::{self, AUDIT, AuditEntry, AuditHead};
use super::files;
use super::master::Kept;
use super::model::Kind;
use crate::clock::Millis;
use crate::error::SandboxError;
use crate::records::Unsynced;

/// Instances by GUID: what may be known without the master key.
const INSTANCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("instances");
/// Sealed rows by instance, kind and id.
const ROWS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("rows");
/// Names of audit logs that were damaged and put aside, before their number.
const ASIDE: &str = "audit-damaged-";

/// What may be known of an instance without its master key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) guid: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) created_ms: Millis,
    pub(super) master: Option<Kept>,
}

/// A sealed row to be written, or without bytes, to be removed.
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) sealed: Option<Vec<u8>>,
}

/// The kind and the sealed bytes of the row that holds the head of the audit log.
pub(super) type SealHead<'a> = &'a dyn Fn(&AuditHead) -> Change;

#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    is_forced: bool,
    _lock: File,
}

/// Adds to a transaction: an entry of the audit log, rows, and the sealed head of the log.
fn put(
    transaction: &redb::WriteTransaction,
    guid: &str,
    changes: Vec<Change>,
    entry: AuditEntry,
    seal_head: Option<SealHead<'_>>,
) -> Result<(), redb::Error> {
    let head = audit::append(&mut transaction.open_table(AUDIT)?, entry)?;
    let mut rows = transaction.open_table(ROWS)?;
    for change in changes.into_iter().chain(seal_head.map(|seal| seal(&head))) {
        let place = (guid, change.kind, &*change.id);
        match change.sealed {
            Some(sealed) => drop(rows.insert(place, &*sealed)?),
            None => drop(rows.remove(place)?),
        }
    }
    Ok(())
}

fn failed(error: impl Into<redb::Error>) -> SandboxError {
    SandboxError::Records { what: error.into().to_string() }
}

impl Store {
    /// Opens or makes the database.
    pub(super) fn open(directory: &Path, is_forced: bool) -> Result<Self, SandboxError> {
        let at = |path: std::path::PathBuf| move |source| SandboxError::File { path, source };
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options
        };
        let lock_path = directory.join("kms.lock");
        let lock = options().open(&lock_path).map_err(at(lock_path.clone()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SandboxError::InUse { path: directory.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(SandboxError::File { path: lock_path, source }),
        }
        let path = directory.join("kms.redb");
        let file = options().open(&path).map_err(at(path))?;
        let backend = FileBackend::new(file).map_err(failed)?;
        let builder = redb::Builder::new();
        let database = if is_forced {
            builder.create_with_backend(backend)
        } else {
            builder.create_with_backend(Unsynced::new(backend))
        }
        .map_err(failed)?;
        let made = || -> Result<(), redb::Error> {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(is_forced);
            transaction.open_table(INSTANCES)?;
            transaction.open_table(ROWS)?;
            transaction.open_table(AUDIT)?;
            Ok(transaction.commit()?)
        };
        made().map_err(failed)?;
        if is_forced {
            // Else the file itself may be gone after a power cut, with all that was forced into it.
            files::sync(directory).map_err(at(directory.to_path_buf()))?;
        }
        Ok(Self { database, is_forced, _lock: lock })
    }

    /// Begins to write. If the process is killed later, the database opens again without reading all of itself: so a damaged byte of the
    /// audit log is found by the check of the log, which says where, and not by the database, which would not open at all.
    fn begin(&self) -> Result<redb::WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(self.is_forced);
        Ok(transaction)
    }

    pub(super) fn instances(&self) -> Result<Vec<Record>, SandboxError> {
        let read = || -> Result<Vec<Record>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let mut found = Vec::new();
            for row in transaction.open_table(INSTANCES)?.iter()? {
                let record = serde_json::from_slice(row?.1.value());
                found.push(record.map_err(|error| redb::Error::Io(error.into()))?);
            }
            Ok(found)
        };
        read().map_err(failed)
    }

    pub(super) fn put_instance(&self, record: &Record) -> Result<(), SandboxError> {
        let write = || -> Result<(), redb::Error> {
            let text = serde_json::to_vec(record).map_err(|error| redb::Error::Io(error.into()))?;
            let transaction = self.begin()?;
            transaction.open_table(INSTANCES)?.insert(&*record.guid, &*text)?;
            Ok(transaction.commit()?)
        };
        write().map_err(failed)
    }

    /// Removes an instance with all that it holds.
    pub(super) fn remove_instance(&self, guid: &str) -> Result<(), SandboxError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.begin()?;
            transaction.open_table(INSTANCES)?.remove(guid)?;
            transaction.open_table(ROWS)?.retain(|(owner, _, _), _| owner != guid)?;
            Ok(transaction.commit()?)
        };
        write().map_err(failed)
    }

    /// All sealed rows of an instance: kind, id, bytes.
    pub(super) fn rows(&self, guid: &str) -> Result<Vec<(String, String, Vec<u8>)>, SandboxError> {
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database.begin_read()?;
            let mut found = Vec::new();
            for row in transaction.open_table(ROWS)?.range((guid, "", "")..)? {
                let (key, bytes) = row?;
                let (owner, kind, id) = key.value();
                if owner != guid {
                    break;
                }
                found.push((kind.to_owned(), id.to_owned(), bytes.value().to_vec()));
            }
            Ok(found)
        };
        read().map_err(failed)
    }

    /// One sealed row.
    pub(super) fn row(&self, guid: &str, kind: &str, id: &str) -> Result<Option<Vec<u8>>, SandboxError> {
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = transaction.open_table(ROWS)?;
            Ok(table.get((guid, kind, id))?.map(|bytes| bytes.value().to_vec()))
        };
        read().map_err(failed)
    }

    /// Writes rows and an entry of the audit log, and seals the new head of the log, all or nothing.
    pub(super) fn commit(
        &self,
        guid: &str,
        changes: Vec<Change>,
        entry: AuditEntry,
        seal_head: Option<SealHead<'_>>,
    ) -> Result<(), SandboxError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.begin()?;
            put(&transaction, guid, changes, entry, seal_head)?;
            Ok(transaction.commit()?)
        };
        write().map_err(failed)
    }

    /// A name for the audit log when it is put aside, which no log has that was put aside before.
    pub(super) fn aside(&self) -> Result<String, SandboxError> {
        Ok(format!("{ASIDE}{}", self.all_aside()?.len() + 1))
    }

    /// The names of the audit logs that were put aside, the oldest first.
    pub(super) fn all_aside(&self) -> Result<Vec<String>, SandboxError> {
        let read = || -> Result<Vec<String>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let names = transaction.list_tables()?.map(|table| table.name().to_owned());
            let mut names: Vec<String> = names.filter(|name| name.starts_with(ASIDE)).collect();
            names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
            Ok(names)
        };
        read().map_err(failed)
    }

    /// Puts the entries of the audit log aside under this name as they are, and starts a new one with this entry, all or nothing.
    pub(super) fn restart_audit(
        &self,
        aside: &str,
        guid: &str,
        entry: AuditEntry,
        seal_head: SealHead<'_>,
    ) -> Result<(), SandboxError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.begin()?;
            {
                // Copied and not renamed: pages with damaged bytes are not kept, for the database would not open with them some day.
                let mut kept = transaction.open_table(TableDefinition::<u64, &[u8]>::new(aside))?;
                for row in transaction.open_table(AUDIT)?.iter()? {
                    // What cannot be read any more cannot be kept.
                    let Ok((number, row)) = row else { break };
                    kept.insert(number.value(), row.value())?;
                }
            }
            transaction.delete_table(AUDIT)?;
            put(&transaction, guid, Vec::new(), entry, Some(seal_head))?;
            Ok(transaction.commit()?)
        };
        write().map_err(failed)
    }

    /// Checks the audit log; see [`audit::verify`].
    pub(super) fn verify_audit(
        &self,
        noted: Option<&AuditHead>,
        show: &mut dyn FnMut(&AuditEntry) -> Result<(), SandboxError>,
    ) -> Result<AuditHead, SandboxError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(AUDIT).map_err(failed)?;
        audit::verify(&table, noted, show)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: &str) -> AuditEntry {
        AuditEntry {
            number: 0,
            time: "2026-01-02T03:04:05Z".to_owned(),
            instance: "guid".to_owned(),
            identity: "somebody".to_owned(),
            action: action.to_owned(),
            key: None,
            status: 200,
            code: None,
            correlation: "c".to_owned(),
            count: 1,
            note: None,
        }
    }

    fn filled() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), false).unwrap();
        for action in ["one", "two", "three"] {
            store.commit("guid", Vec::new(), entry(action), None).unwrap();
        }
        (directory, store)
    }

    fn tamper(store: &Store, change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>)) {
        let transaction = store.database.begin_write().unwrap();
        change(&mut transaction.open_table(AUDIT).unwrap());
        transaction.commit().unwrap();
    }

    fn number_of_fault(store: &Store, noted: Option<&AuditHead>) -> Option<u64> {
        match store.verify_audit(noted, &mut |_| Ok(())) {
            Ok(_) => None,
            Err(SandboxError::Audit { number, .. }) => Some(number),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_untouched_log_is_whole() {
        let (_directory, store) = filled();
        let mut actions = Vec::new();
        let head = store
            .verify_audit(None, &mut |entry| {
                actions.push(entry.action.clone());
                Ok(())
            })
            .unwrap();
        assert_eq!((head.number, actions), (3, vec!["one".into(), "two".into(), "three".into()]));
        store.commit("guid", Vec::new(), entry("four"), None).unwrap();
        assert_eq!(number_of_fault(&store, Some(&head)), None);
    }

    #[test]
    fn whatever_is_changed_in_the_log_is_found() {
        let (_directory, store) = filled();
        tamper(&store, |table| {
            let mut row = table.get(2).unwrap().unwrap().value().to_vec();
            let place = row.iter().position(|byte| *byte == b't').unwrap();
            row[place] = b'T';
            table.insert(2, &*row).unwrap();
        });
        assert_eq!(number_of_fault(&store, None), Some(2));

        let (_directory, store) = filled();
        tamper(&store, |table| drop(table.remove(1).unwrap()));
        assert_eq!(number_of_fault(&store, None), Some(1));

        // A log that was cut is whole for itself; a head that was noted shows it.
        let (_directory, store) = filled();
        let head = store.verify_audit(None, &mut |_| Ok(())).unwrap();
        tamper(&store, |table| drop(table.remove(3).unwrap()));
        assert_eq!(number_of_fault(&store, None), None);
        assert_eq!(number_of_fault(&store, Some(&head)), Some(3));

        // So does one whose end was written anew.
        store.commit("guid", Vec::new(), entry("other"), None).unwrap();
        assert_eq!(number_of_fault(&store, None), None);
        assert_eq!(number_of_fault(&store, Some(&head)), Some(3));
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let (directory, _store) = filled();
        assert!(matches!(Store::open(directory.path(), false), Err(SandboxError::InUse { .. })));
    }
}
