//! Operations on a vault: init, backup, restore, and what they lean on.
//!
//! The engine knows stores, root keys and collectors by their traits. It refuses to know the command line, the terminal and the environment:
//! time, randomness and the local memory come in through [`Access`].
//!
//! What holds throughout:
//! - Write order is packs, index segment, record; nothing is acknowledged before the record is durable.
//! - Before a record is committed, every record below it was read, and the record was checked to take effect.
//! - An error of one entry is in the report; an error of the vault ends the operation.

#![forbid(unsafe_code)]

mod access;
mod backup;
mod beginning;
mod cache;
mod checkpoint;
mod clock;
mod cold;
mod content;
mod diff;
mod dump;
mod epoch;
mod error;
mod estimate;
mod find;
mod index;
mod init;
mod keys;
mod listing;
mod locks;
mod log;
mod lookup;
mod needs;
mod parallel;
mod parts;
mod pool;
mod read;
mod refusal;
mod replicas;
mod restore;
mod select;
mod settings;
mod stats;
mod threads;
mod tree_reader;
mod vault;
mod writer;

pub use access::Access;
pub use backup::{
    BackupObserver, BackupOptions, BackupReport, DryRunReport, EntryChange, backup, backup_stream, dry_run,
};
pub use beginning::{BEGINNING_LEN_MIN, BeginningError, by_beginning};
pub use cache::Cache;
pub use checkpoint::CHECKPOINT_INTERVAL;
pub use clock::Clock;
pub use cold::{ArchivedObject, ColdState};
pub use diff::{
    Change, DiffCounts, DiffItem, DiffOptions, DiffReport, DiffVisit, Difference, DirectoryOptions, diff,
    diff_directory,
};
pub use dump::{DumpReport, cat, dump, entry_at};
pub use epoch::{LostSlot, Rotation, RotationPlan};
pub use error::EngineError;
pub use estimate::{Estimate, estimate_backup, estimate_restore};
pub use find::{FindOptions, Finder};
pub use init::{Created, InitOptions, init, init_with};
pub use keys::SlotStatus;
pub use listing::{ListedEntry, list};
pub use locks::{
    Expiry, ExtendReport, LockReport, LockView, Needed, extend_locks, hold_objects, look_at_locks,
    record_locks,
};
pub use log::Log;
pub use needs::{Needs, PackNeed};
pub use refusal::{HomeId, Refusal};
pub use replicas::{
    Ack, CopyReport, FailedOver, HealOutcome, Healed, Lag, LastSeen, Loss, LostSnapshot, PromoteOptions,
    Promotion, Receipt, ReconcileReport, Rejoined, ReplicaOptions, Replicas, ReplicateReport, Standing,
    StoreStatus, UnreachableStore,
};
pub use restore::{Overwrite, RestoreAction, RestoreObserver, RestoreOptions, RestoreReport, restore};
pub use select::{Selection, Selector, SnapshotFilter, choose};
pub use settings::{LOCK_DAYS, LOCK_DAYS_MAX, LOCK_MODE, LockPolicy, Settings, lock_mode_name};
pub use stats::{Stats, stats};
pub use tree_reader::LostSubtree;
pub use vault::{Snapshot, Vault};
pub use writer::{Writer, WriterOptions};
