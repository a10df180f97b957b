//! A vault in memory with a snapshot of a directory, and restores that tell what they do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use coffer_engine::{EngineError, RestoreAction, RestoreObserver, RestoreOptions, RestoreReport, restore};
use coffer_format::header::ChunkerSpec;
use coffer_store::MemoryStore;
use tempfile::TempDir;

use crate::support::{Quiet, SMALL_CHUNKS, World, restore_options, scratch};

/// A vault with one snapshot of a directory `src`.
pub(super) struct Backup {
    pub(super) world: World,
    pub(super) store: MemoryStore,
    place: TempDir,
}

impl Backup {
    pub(super) fn of(make: impl FnOnce(&Path)) -> Self {
        Self::cut_by(SMALL_CHUNKS, make)
    }

    /// As [`Self::of`], with another chunker.
    pub(super) fn cut_by(chunker: ChunkerSpec, make: impl FnOnce(&Path)) -> Self {
        let backup = Self { world: World::new(3), store: MemoryStore::new(), place: scratch() };
        let source = backup.source();
        fs::create_dir(&source).unwrap();
        make(&source);
        backup.world.init_with(&backup.store, chunker).unwrap();
        backup.again();
        backup
    }

    /// One more snapshot of the directory as it is now.
    pub(super) fn again(&self) {
        assert_eq!(self.world.backup(&self.store, &self.source()).unwrap().error_count, 0);
    }

    pub(super) fn source(&self) -> PathBuf {
        self.place.path().join("src")
    }

    pub(super) fn restore_with(
        &self,
        target: &Path,
        options: &RestoreOptions,
    ) -> Result<RestoreReport, EngineError> {
        let vault = self.world.open(&self.store)?;
        let snapshot = vault.select("latest")?;
        restore(&vault, &snapshot, target, options, &mut Quiet)
    }

    pub(super) fn restore_within(&self, target: &Path, within: &str) -> Result<RestoreReport, EngineError> {
        let options = RestoreOptions { within: within.as_bytes().to_vec(), ..restore_options() };
        self.restore_with(target, &options)
    }

    /// Restores without an error, and returns what became of each path too.
    #[track_caller]
    pub(super) fn watch(&self, target: &Path, options: &RestoreOptions) -> (RestoreReport, Actions) {
        let vault = self.world.open(&self.store).unwrap();
        let snapshot = vault.select("latest").unwrap();
        let mut actions = Actions::default();
        let report = restore(&vault, &snapshot, target, options, &mut actions).unwrap();
        assert_eq!(report.errors, []);
        actions.assert_counted(&report);
        (report, actions)
    }
}

/// What became of each path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Actions(BTreeMap<String, RestoreAction>);

impl RestoreObserver for Actions {
    fn entry(&mut self, _path: &[u8], _size: u64) {}

    fn action(&mut self, path: &[u8], action: RestoreAction, _size: u64) {
        let path = String::from_utf8(path.to_vec()).unwrap();
        assert_eq!(self.0.insert(path.clone(), action), None, "{path} is decided twice");
    }
}

impl Actions {
    /// The paths to which this happened.
    pub(super) fn of(&self, action: RestoreAction) -> Vec<&str> {
        self.0.iter().filter(|(_, found)| **found == action).map(|(path, _)| path.as_str()).collect()
    }

    #[track_caller]
    fn assert_counted(&self, report: &RestoreReport) {
        for (action, count) in [
            (RestoreAction::Create, report.created_count),
            (RestoreAction::Update, report.updated_count),
            (RestoreAction::Unchanged, report.unchanged_count),
            (RestoreAction::Skip, report.skipped_count),
            (RestoreAction::Delete, report.deleted_count),
        ] {
            assert_eq!(self.of(action).len() as u64, count, "{action:?}: {self:?} {report:?}");
        }
    }
}
