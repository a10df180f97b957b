//! A vault with every kind of object in it, made by the engine, and what it is held against.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use coffer_crypto::{SigningKey, VaultKey};
use coffer_engine::{BackupObserver, EngineError, EntryChange, Vault, backup, restore};
use coffer_format::header::ChunkerSpec;
use coffer_format::id::{DomainId, Head, SnapshotId, VaultId};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, RecordKind};
use coffer_format::slot::{Slot, SlotKind};
use coffer_format::tree::Kind;
use coffer_keys::{KeyFile, try_slots};
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_store::MemoryStore;
use coffer_testkit::copy::{Objects, snapshot_of, store_from};
use coffer_verify::{Options, Report, Silent, read_state, verify, verify_deep};
use tempfile::TempDir;

use crate::restore::by_hand::{
    EMPTY_BODY, Writer, commit, commit_by_owner, domain, enrol, entry, file, record, signing_key,
};
use crate::support::{
    Quiet, Tree, World, assert_no_false_file, assert_same, backup_options, noise, restore_options, scratch,
    tree_of,
};

/// A snapshot and what it holds.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: SnapshotId,
    /// Name of its record.
    pub(crate) record: String,
    /// Everything at and below `src`.
    pub(crate) tree: Tree,
}

/// The vault, as plain objects.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) id: VaultId,
    pub(crate) head: Head,
    pub(crate) objects: Objects,
    pub(crate) snapshots: Vec<Taken>,
    /// Texts of the two key files that open it; the second one's slot was added later.
    pub(crate) keys: [Vec<u8>; 2],
    /// The record that enrolled the `put` signer.
    pub(crate) role_record: String,
    /// The records that the `put` signer signed.
    pub(crate) put_records: Vec<String>,
    slots_by_key: [String; 2],
    /// Copies of the vault after each record, oldest first, and the head then.
    pub(crate) history: Vec<(Head, Objects)>,
}

/// The domain of the `put` signer.
pub(crate) fn put_domain() -> DomainId {
    domain(7)
}

/// Who signs in it.
pub(crate) fn put_signer() -> SigningKey {
    signing_key(40)
}

/// Mean chunks of 2 KiB.
const CHUNKS: ChunkerSpec = ChunkerSpec::Pcc { min: 1024, bits: 10, max: 16_384 };

/// Lines that compress well, so that much plain data makes small packs.
fn lines(first: u64, count: u64) -> Vec<u8> {
    (first..first + count).flat_map(|line| format!("{line:063}\n").into_bytes()).collect()
}

/// Stops the backup at the entry `src/other`.
struct StopAtOther<'w>(&'w World);

impl BackupObserver for StopAtOther<'_> {
    fn entry(&mut self, path: &[u8], _size: u64, _: EntryChange) {
        if path == b"src/other" {
            self.0.interrupt.store(true, Ordering::SeqCst);
        }
    }

    fn error(&mut self, _path: &[u8], _message: &str) {}
}

impl Site {
    /// The one that tests share.
    pub(crate) fn shared() -> &'static Self {
        static SITE: OnceLock<Site> = OnceLock::new();
        SITE.get_or_init(|| Self::new(1))
    }

    /// Two origins, `left` with several data packs and two snapshots, `right` with one; a writer with a domain of its own.
    pub(crate) fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let store = MemoryStore::new();
        let id = world.init_with(&store, CHUNKS).unwrap();
        let mut making = Making { world: &world, store: &store, snapshots: Vec::new(), history: Vec::new() };
        let place = scratch();
        let (left, right) = (place.path().join("left/src"), place.path().join("right/src"));
        make_left(&left, seed);
        make_right(&right, seed);

        making.note();
        making.interrupted(&left);
        making.take(&left, "left");
        making.take(&right, "right");
        let second = KeyFile::generate(&world.rng).unwrap();
        making.open().add_slot(&second, "second").unwrap();
        making.note();
        let role_record = making.next_record();
        enrol(&mut making.open(), &put_signer(), put_domain());
        making.note();
        let by_hand = making.take_by_hand(seed);
        fs::write(left.join("new"), noise(seed + 50, 40_000)).unwrap();
        fs::write(left.join("dir/medium"), noise(seed + 51, 20_000)).unwrap();
        making.take(&left, "left");
        let held = Details::Hold { ids: vec![making.snapshots[0].id], held: true };
        commit_by_owner(&mut making.open(), RecordKind::Hold, &held);
        making.note();

        let Making { snapshots, history, .. } = making;
        let (head, objects) = history.last().unwrap().clone();
        let keys = [&world.key, &second].map(|key| key.to_text().expose().to_vec());
        let slots_by_key = [&world.key, &second].map(|key| slot_of(&objects, key));
        Self { id, head, objects, snapshots, keys, role_record, put_records: by_hand, slots_by_key, history }
    }

    pub(crate) fn store(&self) -> MemoryStore {
        store_from(self.objects.clone())
    }

    /// A world that has the first key.
    pub(crate) fn world(&self) -> World {
        self.world_with(0)
    }

    /// A world that has one of the two keys, and no memory.
    pub(crate) fn world_with(&self, key: usize) -> World {
        World { key: KeyFile::parse(&self.keys[key]).unwrap(), ..World::new(77) }
    }

    /// Options that know vault id and head.
    pub(crate) fn options(&self) -> Options {
        Options { vault_id: Some(self.id), head: Some(self.head), ..Options::default() }
    }

    /// Verifies without a key, given vault id and head.
    pub(crate) fn verify(&self, store: &MemoryStore) -> Report {
        verify(store, &self.options(), &Silent).unwrap()
    }

    /// As [`Self::verify`], with the first key.
    pub(crate) fn verify_deep(&self, store: &MemoryStore) -> Report {
        let sound = read_state(&self.store(), &self.options()).unwrap();
        let key = KeyFile::parse(&self.keys[0]).unwrap();
        let (_, slot, key) = try_slots(&sound.slots, self.id, &key).unwrap();
        let key = UnwrappedKey::VaultKey(VaultKey::from_secret(key));
        verify_deep(store, (slot.epoch, key), &self.options(), &Silent).unwrap()
    }

    /// Names of objects of a kind, which is how their names begin.
    pub(crate) fn names(&self, kind: &str) -> Vec<&String> {
        self.objects.keys().filter(|name| name.starts_with(kind)).collect()
    }

    /// Name of the slot that one of the two keys opens.
    pub(crate) fn slot_of_key(&self, key: usize) -> &str {
        &self.slots_by_key[key]
    }

    /// The snapshot of the `put` signer.
    pub(crate) fn by_hand(&self) -> &Taken {
        self.snapshots.iter().find(|taken| taken.tree.contains_key(&b"by-hand"[..])).unwrap()
    }
}

/// Kinds of objects, by how their names begin.
pub(crate) const KINDS: [&str; 6] = ["store", "vault", "slots/", "log/", "packs/", "index/"];

fn slot_of(objects: &Objects, key: &KeyFile) -> String {
    let kind = SlotKind::KeyFile { key_id: key.key_id() };
    let fits = |bytes: &[u8]| Slot::decode(bytes).is_ok_and(|slot| slot.kind == kind);
    let found = objects.iter().find(|(name, bytes)| name.starts_with("slots/") && fits(bytes));
    found.unwrap().0.clone()
}

struct Making<'w> {
    world: &'w World,
    store: &'w MemoryStore,
    snapshots: Vec<Taken>,
    history: Vec<(Head, Objects)>,
}

impl Making<'_> {
    fn open(&self) -> Vault<'_> {
        self.world.open(self.store).unwrap()
    }

    fn next_record(&self) -> String {
        ObjectName::Record(self.open().state().next).to_string()
    }

    fn note(&mut self) {
        let head = self.open().log.head().unwrap();
        self.history.push((head, snapshot_of(self.store)));
    }

    /// A backup that the user stops: it leaves a progress record.
    fn interrupted(&mut self, source: &Path) {
        let mut vault = self.open();
        let stopped = backup(&mut vault, &backup_options(source), &mut StopAtOther(self.world));
        assert!(matches!(stopped, Err(EngineError::Interrupted)), "{stopped:?}");
        drop(vault);
        self.world.interrupt.store(false, Ordering::SeqCst);
        assert_eq!(self.open().state().next, 2, "the stopped backup left a progress record");
        self.note();
    }

    fn take(&mut self, source: &Path, host: &str) {
        self.world.clock.advance(1_000_000_000);
        let mut vault = self.open();
        let options = coffer_engine::BackupOptions { host: host.to_owned(), ..backup_options(source) };
        let report = backup(&mut vault, &options, &mut Quiet).unwrap();
        assert_eq!(report.error_count, 0);
        let record = ObjectName::Record(report.head.number).to_string();
        drop(vault);
        self.snapshots.push(Taken { id: report.snapshot, record, tree: tree_of(source) });
        self.note();
    }

    /// A progress record and a snapshot of the `put` signer in its own domain.
    fn take_by_hand(&mut self, seed: u64) -> Vec<String> {
        let signing = put_signer();
        let mut vault = self.open();
        let mut writer = Writer::new(&vault, put_domain(), seed + 60);
        let bytes = noise(seed + 61, 5_000);
        let chunk = writer.data(&bytes);
        let (_, segment) = writer.store(&vault);
        let body = Some((EMPTY_BODY, put_domain()));
        let progress = record(&vault, vault.state(), RecordKind::Progress, &signing, body, |public| {
            public.segments_added = vec![segment];
        });
        commit(&mut vault, &progress);
        let number = vault.state().next;
        let mut writer = Writer::new(&vault, put_domain(), seed + 62);
        let more = noise(seed + 63, 3_000);
        let rows = [chunk, writer.data(&more)];
        writer.end_pack();
        let root = writer.tree(&[entry("src", Kind::Directory), file("src/by-hand", &rows)]);
        let id = writer.snapshot(&mut vault, &signing, root);
        drop(vault);
        // What it restores to is what its entries say.
        let target = scratch();
        let report = self.world.restore(self.store, &id.to_string(), target.path()).unwrap();
        assert_eq!((report.errors.len(), report.warnings.len()), (0, 0), "{report:?}");
        let tree = tree_of(&target.path().join("src"));
        let restored = fs::read(target.path().join("src/by-hand")).unwrap();
        assert_eq!(restored, [bytes, more].concat());
        self.snapshots.push(Taken { id, record: ObjectName::Record(number).to_string(), tree });
        self.note();
        [number - 1, number].map(|number| ObjectName::Record(number).to_string()).to_vec()
    }
}

fn make_left(src: &Path, seed: u64) {
    fs::create_dir_all(src.join("dir")).unwrap();
    fs::write(src.join("big"), lines(seed * 1_000_000, 70_000)).unwrap();
    fs::write(src.join("dir/medium"), noise(seed + 10, 20_000)).unwrap();
    fs::write(src.join("dir/text"), "some text\n".repeat(30)).unwrap();
    fs::write(src.join("empty"), "").unwrap();
    fs::write(src.join("other"), noise(seed + 11, 60_000)).unwrap();
    fs::write(src.join("small"), "hello").unwrap();
    std::os::unix::fs::symlink("dir/text", src.join("symlink")).unwrap();
    fs::hard_link(src.join("other"), src.join("zlink")).unwrap();
}

fn make_right(src: &Path, seed: u64) {
    fs::create_dir_all(src.join("sub")).unwrap();
    fs::write(src.join("first"), noise(seed + 20, 30_000)).unwrap();
    fs::write(src.join("sub/second"), noise(seed + 21, 3_000)).unwrap();
    fs::write(src.join("sub/third"), lines(seed, 40)).unwrap();
}

/// What became of a snapshot in a damaged vault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It restores whole, and nothing was met on the way.
    Whole,
    /// It restores whole, and damage was met.
    Degraded,
    /// A part of it is lost; the report says which.
    Partial,
    /// The vault opens and does not have it.
    Gone,
    /// The vault does not open.
    Closed,
}

/// Restores a snapshot with the engine and judges the result. A file that is there is right, and a file that is not is in the report.
#[track_caller]
pub(crate) fn fate_of(world: &World, store: &MemoryStore, taken: &Taken, context: &str) -> Fate {
    let Ok(vault) = world.open(store) else { return Fate::Closed };
    let Ok(snapshot) = vault.select(&taken.id.to_string()) else { return Fate::Gone };
    let target: TempDir = scratch();
    let report = match restore(&vault, &snapshot, target.path(), &restore_options(), &mut Quiet) {
        Ok(report) => report,
        Err(error) => panic!("{context}: the restore ended: {error}"),
    };
    let src = target.path().join("src");
    let restored = if src.exists() { tree_of(&src) } else { Tree::new() };
    if report.errors.is_empty() {
        assert_eq!(report.warnings, Vec::<String>::new(), "{context}");
        assert_same(&taken.tree, &restored, context);
        return if report.degraded { Fate::Degraded } else { Fate::Whole };
    }
    assert!(report.degraded, "{context}: {:?}", report.errors);
    assert_no_false_file(&taken.tree, &restored, context);
    let errors: BTreeMap<_, _> = report.errors.iter().cloned().collect();
    let lost_stretch = errors.keys().any(|path| path.starts_with("entries up to") || path == "all entries");
    for path in taken.tree.keys().filter(|path| !restored.contains_key(*path)) {
        let path = String::from_utf8(path.clone()).unwrap();
        let named = errors.contains_key(&format!("src/{path}"));
        assert!(named || lost_stretch, "{context}: {path} is absent without a word: {errors:?}");
    }
    Fate::Partial
}
