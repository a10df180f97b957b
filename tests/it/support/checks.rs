//! What tests ask of a vault again and again: that it verifies, and which chunks its index lists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use coffer_crypto::VaultKey;
use coffer_format::id::SegmentId;
use coffer_format::index::{ChunkRow, SegmentHead};
use coffer_keys::try_slots;
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_pipeline::segment::{SegmentReader, SegmentTable};
use coffer_store::{MemoryStore, ObjectStore};
use coffer_testkit::copy::{snapshot_of, store_from};
use coffer_verify::{Options, Report, Silent, read_state, verify, verify_deep};
use tempfile::TempDir;

use super::{Tree, World, assert_same, tree_of};

/// Room for all tests that run at once.
const SCRATCH_BYTES: u64 = 2 << 30;

/// A scratch directory, in memory where the system offers enough of that. All of a process are in one file system.
pub(crate) fn scratch() -> TempDir {
    static PARENT: LazyLock<PathBuf> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let room = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        if room >= SCRATCH_BYTES { memory.to_path_buf() } else { std::env::temp_dir() }
    });
    tempfile::Builder::new().prefix("coffer-test-").tempdir_in(&*PARENT).unwrap()
}

/// A store of its own with the same objects.
pub(crate) fn clone_of<S: ObjectStore + ?Sized>(store: &S) -> MemoryStore {
    store_from(snapshot_of(store))
}

/// Verifies without a key.
pub(crate) fn keyless(store: &dyn ObjectStore) -> Report {
    verify(store, &Options::default(), &Silent).unwrap()
}

/// Verifies with the key of `world`.
pub(crate) fn deep(world: &World, store: &dyn ObjectStore) -> Report {
    let options = Options { threads: 2, ..Options::default() };
    let state = read_state(store, &options).unwrap();
    let (_, slot, key) = try_slots(&state.slots, state.vault_id, &world.key).unwrap();
    let key = UnwrappedKey::VaultKey(VaultKey::from_secret(key));
    verify_deep(store, (slot.epoch, key), &options, &Silent).unwrap()
}

/// Panics unless nothing is wrong with the vault, without and with the key.
#[track_caller]
pub(crate) fn assert_clean(world: &World, store: &dyn ObjectStore, context: &str) {
    let report = keyless(store);
    assert!(report.is_clean(), "{context}: {:?}", report.findings);
    let report = deep(world, store);
    assert!(report.is_clean(), "{context}: {:?}", report.findings);
}

/// Panics unless the snapshot restores, without any complaint, to exactly `expected`. The source was called `src`.
#[track_caller]
pub(crate) fn assert_restores(
    world: &World,
    store: &dyn ObjectStore,
    selector: &str,
    expected: &Tree,
    context: &str,
) {
    let target = scratch();
    let report = world.restore(store, selector, target.path()).unwrap();
    assert_eq!(report.errors, [], "{context}");
    assert_eq!(report.warnings, Vec::<String>::new(), "{context}");
    assert!(!report.degraded, "{context}: nothing is damaged");
    assert_same(expected, &tree_of(&target.path().join("src")), context);
}

/// The first bytes of a chunk's id, by which the index knows it.
pub(crate) type Prefix = [u8; 20];

/// A row of the index: which segment lists the chunk, and the chunk's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) segment: SegmentId,
    pub(crate) len: u32,
}

/// The chunks that live segments list.
///
/// # Panics
/// When two of them list the same chunk: it was stored twice.
pub(crate) fn listed_chunks(world: &World, store: &dyn ObjectStore) -> BTreeMap<Prefix, Listed> {
    let vault = world.open(store).unwrap();
    let mut chunks = BTreeMap::new();
    for (id, live) in &vault.state().segments {
        let mut bytes = Vec::new();
        let key = coffer_store::ObjectKey::new(format!("index/{id}")).unwrap();
        store.read(&key, live.len, &mut bytes).unwrap();
        let head = SegmentHead::decode(&bytes[..104], live.len).unwrap();
        let keys = vault.domain_keys(&live.domain).unwrap();
        let reader = SegmentReader::open(vault.id(), &keys, head).unwrap();
        let table = reader.head().chunk_table();
        for page in 0..table.page_count() {
            let (offset, len) = table.page(page);
            let (from, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
            let mut plain = Vec::new();
            reader.page(SegmentTable::Chunks, page, &bytes[from..from + len], &mut plain).unwrap();
            for row in plain.as_chunks::<32>().0.iter().map(ChunkRow::decode) {
                let before = chunks.insert(row.prefix, Listed { segment: *id, len: row.len });
                assert_eq!(before, None, "chunk {:02x?} was stored twice", row.prefix);
            }
        }
    }
    chunks
}
