//! Keys that follow from a seed, and what operations get from outside.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use coffer_crypto::rng::{SeededRng, array};
use coffer_crypto::{DomainKeys, SealingKeyPair, VaultKey};
use coffer_engine::{
    Access, BackupObserver, BackupOptions, BackupReport, Cache, Clock, EngineError, EntryChange, InitOptions,
    RestoreObserver, RestoreOptions, RestoreReport, Vault, backup, init, restore,
};
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_format::id::{DomainId, VaultId};
use coffer_format::pack::ChunkKind;
use coffer_format::tree::ChunkRef;
use coffer_keys::{KeyFile, RootKey, try_slots};
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_pipeline::pack_reader::chunk_id;
use coffer_pipeline::pack_writer::PackSealer;
use coffer_store::ObjectStore;
use coffer_verify::{Options, Report, Silent, read_state, verify, verify_deep};

/// The keys of one vault, for stages that need no store.
#[derive(Debug)]
pub struct Keys {
    /// The vault.
    pub vault: VaultId,
    /// Its sealing key pair.
    pub pair: SealingKeyPair,
    /// The keys of its owner's domain.
    pub domain: DomainKeys,
    /// What packs are sealed with.
    pub sealer: PackSealer,
    /// Where all of it came from.
    pub rng: SeededRng,
}

impl Keys {
    /// All of it follows from `seed`.
    ///
    /// # Errors
    /// Never: the generator does not fail.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let rng = SeededRng::new(seed);
        let reader = VaultKey::generate(&rng)?.reader();
        let (pair, domain) = (reader.sealing(), DomainId::owner(0));
        let vault = VaultId(array(&rng)?);
        let sealer =
            PackSealer { vault, sealing_key: pair.public().clone(), domain: reader.domain_keys(&domain.0) };
        Ok(Self { vault, domain: reader.domain_keys(&domain.0), pair, sealer, rng })
    }

    /// The chunks that `plain` has when it is cut every `len` bytes.
    #[must_use]
    pub fn chunks(&self, plain: &[u8], len: usize) -> Vec<ChunkRef> {
        let chunk = |bytes: &[u8]| ChunkRef {
            id: chunk_id(&self.domain, ChunkKind::Data, bytes),
            len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        };
        plain.chunks(len).map(chunk).collect()
    }
}

/// A clock that stands still, far behind the times of all files, so that their fingerprints are trusted.
#[derive(Debug)]
struct StillClock;

impl Clock for StillClock {
    fn now_ns(&self) -> i64 {
        4_000_000_000_000_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

struct Quiet;

impl BackupObserver for Quiet {
    fn entry(&mut self, _: &[u8], _: u64, _: EntryChange) {}
    fn error(&mut self, _: &[u8], _: &str) {}
}

impl RestoreObserver for Quiet {
    fn entry(&mut self, _: &[u8], _: u64) {}
}

/// A vault and everything that operations on it get from outside, but the store.
#[derive(Debug)]
pub struct World {
    rng: SeededRng,
    key: KeyFile,
    cache: Cache,
    interrupt: AtomicBool,
    worker_count: usize,
}

impl World {
    /// A world whose local memory is in `cache`, and whose operations have `worker_count` workers.
    ///
    /// # Errors
    /// Never: the generator does not fail.
    pub fn new(seed: u64, cache: &Path, worker_count: usize) -> anyhow::Result<Self> {
        let rng = SeededRng::new(seed);
        let key = KeyFile::generate(&rng)?;
        Ok(Self { rng, key, cache: Cache::new(cache), interrupt: AtomicBool::new(false), worker_count })
    }

    fn access<'a>(&'a self, store: &'a dyn ObjectStore) -> Access<'a> {
        Access {
            store,
            clock: &StillClock,
            rng: &self.rng,
            cache: Some(&self.cache),
            interrupt: &self.interrupt,
        }
    }

    /// Makes a vault with the default chunker.
    ///
    /// # Errors
    /// When the store fails.
    pub fn init(&self, store: &dyn ObjectStore) -> Result<(), EngineError> {
        let chunker = ChunkerSpec::Pcc { min: 1 << 19, bits: 20, max: 1 << 23 };
        let root: &dyn RootKey = &self.key;
        let options = InitOptions { chunker, store_mode: StoreMode::ConditionalCreate };
        init(&self.access(store), &[(root, String::new())], &options).map(drop)
    }

    /// Backs up the directory `source`.
    ///
    /// # Errors
    /// When the backup fails.
    pub fn backup(
        &self,
        store: &dyn ObjectStore,
        source: &Path,
        extra_verify: bool,
    ) -> Result<BackupReport, EngineError> {
        let sources = vec![PathBuf::from(source.file_name().unwrap_or_default())];
        let directory = source.parent().unwrap_or(source).to_path_buf();
        let options = BackupOptions {
            program: "benches".to_owned(),
            extra_verify,
            worker_count: self.worker_count,
            ..BackupOptions::new(sources, directory, "host".to_owned())
        };
        let mut vault = Vault::open(self.access(store), &self.key, None)?;
        backup(&mut vault, &options, &mut Quiet)
    }

    /// Restores the newest snapshot into `target`.
    ///
    /// # Errors
    /// When the restore fails.
    pub fn restore(&self, store: &dyn ObjectStore, target: &Path) -> Result<RestoreReport, EngineError> {
        let vault = Vault::open(self.access(store), &self.key, None)?;
        let snapshot = vault.select("latest")?;
        // As many as Linux lets a process have that asks for more; frames are opened again and again if it is few.
        let open_file_count_max = 1 << 16;
        let options = RestoreOptions {
            worker_count: self.worker_count,
            open_file_count_max,
            ..RestoreOptions::default()
        };
        restore(&vault, &snapshot, target, &options, &mut Quiet)
    }

    /// Verifies without a key.
    ///
    /// # Errors
    /// When the store fails.
    pub fn verify(&self, store: &dyn ObjectStore) -> anyhow::Result<Report> {
        Ok(verify(store, &self.verify_options(), &Silent)?)
    }

    /// Verifies all that is sealed.
    ///
    /// # Errors
    /// When the store or the key fails.
    pub fn verify_deep(&self, store: &dyn ObjectStore) -> anyhow::Result<Report> {
        let options = self.verify_options();
        let state = read_state(store, &options)?;
        let (_, slot, key) = try_slots(&state.slots, state.vault_id, &self.key)?;
        let key = UnwrappedKey::VaultKey(VaultKey::from_secret(key));
        Ok(verify_deep(store, (slot.epoch, key), &options, &Silent)?)
    }

    fn verify_options(&self) -> Options {
        Options { threads: self.worker_count, ..Options::default() }
    }
}
