//! A world for tests: a store in memory, a clock that the test moves, randomness from a seed, small chunks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use coffer_crypto::rng::SeededRng;
use coffer_engine::{
    Access, BackupObserver, BackupOptions, BackupReport, Cache, Clock, EngineError, EntryChange, InitOptions,
    RestoreObserver, RestoreOptions, RestoreReport, Vault, backup, init, restore,
};
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_format::id::VaultId;
use coffer_keys::{KeyFile, RootKey};
use coffer_store::ObjectStore;

mod checks;
mod tree;

pub(crate) use checks::{assert_clean, assert_restores, clone_of, deep, keyless, listed_chunks, scratch};
pub(crate) use tree::{Body, Tree, assert_no_false_file, assert_same, tree_of};

/// A clock that stands still unless the test moves it.
#[derive(Debug)]
pub(crate) struct FakeClock {
    now_ns: AtomicI64,
    step_ns: AtomicU64,
    monotonic_ns: AtomicU64,
}

impl FakeClock {
    pub(crate) fn new() -> Self {
        // Far in the future of every file: stat fingerprints are trusted.
        Self {
            now_ns: AtomicI64::new(4_000_000_000_000_000_000),
            step_ns: AtomicU64::new(0),
            monotonic_ns: AtomicU64::new(0),
        }
    }

    /// From now on the monotonic clock goes on by this with every look at it.
    pub(crate) fn set_step(&self, ns: u64) {
        self.step_ns.store(ns, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, ns: i64) {
        self.now_ns.fetch_add(ns, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> i64 {
        self.now_ns.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.fetch_add(self.step_ns.load(Ordering::SeqCst), Ordering::SeqCst)
    }
}

/// Everything that operations get from outside, but the store.
pub(crate) struct World {
    pub(crate) clock: FakeClock,
    pub(crate) rng: SeededRng,
    pub(crate) key: KeyFile,
    pub(crate) interrupt: AtomicBool,
    pub(crate) cache: Option<Cache>,
}

/// Chunks small enough that small files have many.
pub(crate) const SMALL_CHUNKS: ChunkerSpec = ChunkerSpec::Pcc { min: 256, bits: 8, max: 4096 };

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = SeededRng::new(seed);
        let key = KeyFile::generate(&rng).unwrap();
        Self { clock: FakeClock::new(), rng, key, interrupt: AtomicBool::new(false), cache: None }
    }

    /// As [`Self::new`], with a local memory in `cache`.
    pub(crate) fn with_cache(seed: u64, cache: &Path) -> Self {
        Self { cache: Some(Cache::new(cache)), ..Self::new(seed) }
    }

    pub(crate) fn access<'a>(&'a self, store: &'a dyn ObjectStore) -> Access<'a> {
        let cache = self.cache.as_ref();
        Access { store, clock: &self.clock, rng: &self.rng, cache, interrupt: &self.interrupt }
    }

    pub(crate) fn init(&self, store: &dyn ObjectStore) -> Result<VaultId, EngineError> {
        self.init_with(store, SMALL_CHUNKS)
    }

    /// As [`Self::init`], with another chunker.
    pub(crate) fn init_with(
        &self,
        store: &dyn ObjectStore,
        chunker: ChunkerSpec,
    ) -> Result<VaultId, EngineError> {
        let options = InitOptions { chunker, store_mode: StoreMode::ConditionalCreate };
        let root: &dyn RootKey = &self.key;
        init(&self.access(store), &[(root, String::new())], &options).map(|created| created.vault)
    }

    pub(crate) fn open<'a>(&'a self, store: &'a dyn ObjectStore) -> Result<Vault<'a>, EngineError> {
        Vault::open(self.access(store), &self.key, None)
    }

    /// Backs up the directory `source` as the relative path `src`... of its parent.
    pub(crate) fn backup(&self, store: &dyn ObjectStore, source: &Path) -> Result<BackupReport, EngineError> {
        let mut vault = self.open(store)?;
        backup(&mut vault, &backup_options(source), &mut Quiet)
    }

    /// As [`Self::backup`], with options of one's own.
    pub(crate) fn backup_with(
        &self,
        store: &dyn ObjectStore,
        options: &BackupOptions,
    ) -> Result<BackupReport, EngineError> {
        let mut vault = self.open(store)?;
        backup(&mut vault, options, &mut Quiet)
    }

    /// Restores a snapshot (`latest`, or the beginning of an id) into `target`.
    pub(crate) fn restore(
        &self,
        store: &dyn ObjectStore,
        selector: &str,
        target: &Path,
    ) -> Result<RestoreReport, EngineError> {
        let vault = self.open(store)?;
        let snapshot = vault.select(selector)?;
        restore(&vault, &snapshot, target, &restore_options(), &mut Quiet)
    }
}

/// Small packs, one worker, no progress records unless the test moves the clock.
pub(crate) fn backup_options(source: &Path) -> BackupOptions {
    let working_directory = source.parent().unwrap().to_path_buf();
    let sources = vec![PathBuf::from(source.file_name().unwrap())];
    BackupOptions {
        program: "test".to_owned(),
        pack_len_target: 65_536,
        ..BackupOptions::new(sources, working_directory, "host".to_owned())
    }
}

pub(crate) fn restore_options() -> RestoreOptions {
    RestoreOptions { worker_count: 2, open_file_count_max: 1024, ..RestoreOptions::default() }
}

/// Hears everything and says nothing.
pub(crate) struct Quiet;

impl BackupObserver for Quiet {
    fn entry(&mut self, _path: &[u8], _size: u64, _: EntryChange) {}
    fn error(&mut self, _path: &[u8], _message: &str) {}
}

impl RestoreObserver for Quiet {
    fn entry(&mut self, _path: &[u8], _size: u64) {}
}

/// Pseudorandom bytes that compress badly.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    use coffer_crypto::Rng;
    let mut bytes = vec![0; len];
    SeededRng::new(seed).fill(&mut bytes).unwrap();
    bytes
}

/// Whether a program that a test needs is on the path; if not, that is said. In continuous integration none is missing.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !found {
        assert!(
            std::env::var_os("COFFER_TESTS_REQUIRE_ALL").is_none(),
            "tests/install-extras.sh was not run"
        );
        println!("SKIPPED: there is no program named {name}; tests/install-extras.sh installs it");
    }
    found
}
