//! A vault with a thousand snapshots, and everybody who may come to it without a memory.

use std::fs;
use std::path::Path;

use coffer_engine::{Vault, backup, stats};
use coffer_format::slot::SlotPurpose;
use coffer_keys::{KeyFile, RootKey, WriterCredential};
use coffer_store::MemoryStore;
use coffer_testkit::SlowCounts;

use super::super::support::{Quiet, World, backup_options, clone_of, noise, scratch};
use super::super::writers::grant;
use super::logs::add_snapshots;
use super::services::Service;
use super::{Far, LOG_IN_FLIGHT, RECORDS_IN_FLIGHT, far, grow, tell};

/// What a service's slots are of.
const KEY_PROTECT: u64 = 3;
const SNAPSHOT_COUNT: usize = 1000;
/// Those of them that brought something new, and an index segment.
const CHANGED_COUNT: u64 = 300;
const ROUNDS_MAX: u64 = 10;

/// The vault, and keys to it of every kind.
struct Home {
    world: World,
    near: MemoryStore,
    writer: WriterCredential,
    service: Service,
    reader: KeyFile,
}

impl Home {
    fn new(source: &Path) -> Self {
        let (world, near) = (World::new(80), MemoryStore::new());
        grow(source, 3);
        world.init(&near).unwrap();
        let (service, reader) = (Service::new(KEY_PROTECT), KeyFile::generate(&world.rng).unwrap());
        world.open(&near).unwrap().add_slot(&service, "service").unwrap();
        world.open(&near).unwrap().add_slot_for(&reader, "reader", SlotPurpose::ReaderSecret).unwrap();
        let writer = grant(&world, &near, "writer", None);
        let unchanged_count = SNAPSHOT_COUNT - usize::try_from(CHANGED_COUNT).unwrap();
        add_snapshots(&world, &near, source, unchanged_count, 64);
        let mut vault = world.open(&near).unwrap();
        for number in 0..CHANGED_COUNT {
            fs::write(source.join("changes"), noise(number, 700)).unwrap();
            backup(&mut vault, &backup_options(source), &mut Quiet).unwrap();
        }
        drop(vault);
        Self { world, near, writer, service, reader }
    }

    fn far(&self) -> Far {
        far(clone_of(&self.near), 200)
    }

    fn open<'a>(&'a self, store: &'a Far, root: &dyn RootKey, who: &str) -> (Vault<'a>, SlowCounts) {
        let vault = Vault::open(self.world.access(store), root, None).unwrap();
        let counts = store.reset();
        tell(&format!("{who} opens"), &counts);
        assert_eq!(vault.state().snapshots.len(), SNAPSHOT_COUNT);
        assert!(counts.rounds <= ROUNDS_MAX, "{who}: {counts:?}");
        assert!(counts.in_flight_max <= LOG_IN_FLIGHT + 1, "{who}: {counts:?}");
        (vault, counts)
    }
}

/// What reading all manifests takes, in a vault that is open.
fn read_snapshots(vault: &Vault<'_>, store: &Far, what: &str) -> SlowCounts {
    assert_eq!(vault.snapshots().iter().filter(|(_, read)| read.is_ok()).count(), SNAPSHOT_COUNT);
    let counts = store.reset();
    tell(what, &counts);
    counts
}

#[test]
fn whoever_comes_to_a_thousand_snapshots_opens_them_in_few_rounds() {
    let place = scratch();
    let home = Home::new(&place.path().join("src"));
    let store = home.far();

    let (vault, opened) = home.open(&store, &home.world.key, "a key file");
    assert!(opened.rounds <= 6 && opened.gets < 120, "{opened:?}");
    // The checkpoint has most manifests, and the records since then the others.
    let listed = read_snapshots(&vault, &store, "its snapshots");
    assert!(listed.rounds <= 5 && listed.gets < 120, "{listed:?}");
    let counted = stats(&vault).unwrap();
    let counts = store.reset();
    tell("its stats", &counts);
    assert!(counted.segment_count > CHANGED_COUNT && counted.unreadable_count == 0, "{counted:?}");
    // Beside the records since the checkpoint, a request for each segment.
    assert!(counts.rounds <= 1 + counted.segment_count.div_ceil(LOG_IN_FLIGHT), "{counts:?}");
    assert!(counts.gets <= counted.segment_count + 64, "{counts:?}");

    let vault = Vault::open_as_writer(home.world.access(&store), &home.writer, None).unwrap();
    let counts = store.reset();
    tell("a writer opens", &counts);
    assert_eq!(vault.state().snapshots.len(), SNAPSHOT_COUNT);
    assert!(counts.rounds <= ROUNDS_MAX, "{counts:?}");

    let (vault, _) = home.open(&store, &home.service, "a service");
    let listed = read_snapshots(&vault, &store, "its snapshots");
    assert!(listed.rounds <= 5, "{listed:?}");

    let (vault, _) = home.open(&store, &home.reader, "a slot that only reads");
    // It cannot tell whose checkpoint it is, and reads every record.
    let listed = read_snapshots(&vault, &store, "its snapshots");
    assert!(listed.rounds <= 2 + (SNAPSHOT_COUNT as u64).div_ceil(RECORDS_IN_FLIGHT), "{listed:?}");
}
