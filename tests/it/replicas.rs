//! Several stores in one vault: what is on which store after every failure, and what is said of it.
//!
//! Whatever happens, each store alone verifies without a key, and nothing is said to be on a store that does not hold it.

use std::sync::Arc;
use std::time::Duration;

use coffer_engine::{
    Ack, BackupReport, EngineError, Receipt, ReplicaOptions, Replicas, ReplicateReport, UnreachableStore,
    Vault, backup,
};
use coffer_store::{MemoryStore, ObjectStore};
use tempfile::TempDir;

use super::support::{Quiet, World, assert_clean, backup_options, keyless, noise, scratch};

mod crash;
mod emptied;
mod failover;
mod forged;
mod gaps;
mod homes;
mod kept;
mod meanwhile;
mod nameless;
mod places;
mod slow;
mod stores;
mod threads;

use stores::NamedStore;

const SEED: u64 = 505;

/// A vault in several stores, and a source to back up.
struct Site {
    world: World,
    dir: TempDir,
    stores: Vec<Arc<MemoryStore>>,
}

impl Site {
    /// A vault in `count` stores, with a memory of its own.
    fn new(count: usize) -> Self {
        let dir = scratch();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        let world = World::with_cache(SEED, &dir.path().join("cache"));
        let stores = (0..count).map(|_| Arc::new(MemoryStore::new())).collect();
        let site = Self { world, dir, stores };
        let replicas = site.open_all();
        replicas.name_stores(&site.world.rng).unwrap();
        site.world.init(&replicas).unwrap();
        drop(replicas);
        site
    }

    /// Changes the source.
    fn write(&self, name: &str, seed: u64) {
        std::fs::write(self.source().join(name), noise(seed, 100_000)).unwrap();
    }

    fn source(&self) -> std::path::PathBuf {
        self.dir.path().join("src")
    }

    /// The store at a position, under an address of its own.
    fn store(&self, at: usize) -> Arc<dyn ObjectStore> {
        Arc::new(NamedStore::new(at, Arc::clone(&self.stores[at])))
    }

    fn all(&self) -> Vec<Arc<dyn ObjectStore>> {
        (0..self.stores.len()).map(|at| self.store(at)).collect()
    }

    /// All stores, but those at `down` do not answer.
    fn without(&self, down: &[usize]) -> Vec<Arc<dyn ObjectStore>> {
        let store = |at| -> Arc<dyn ObjectStore> {
            if down.contains(&at) {
                Arc::new(UnreachableStore::new(stores::url(at), "the cable is cut".to_owned()))
            } else {
                self.store(at)
            }
        };
        (0..self.stores.len()).map(store).collect()
    }

    fn open_all(&self) -> Replicas {
        Replicas::open(self.all(), options(Ack::Two)).unwrap()
    }

    fn backup(&self, replicas: &Replicas) -> Result<(BackupReport, Receipt), EngineError> {
        backup_to(&self.world, replicas, &self.source())
    }

    /// Backs up to all stores, of which those at `down` do not answer.
    fn backup_without(&self, down: &[usize], ack: Ack) -> (BackupReport, Receipt) {
        let replicas = Replicas::open(self.without(down), options(ack)).unwrap();
        self.backup(&replicas).unwrap()
    }

    fn replicate(&self) -> ReplicateReport {
        let replicas = self.open_all();
        replicas.replicate(&self.world.access(&replicas), false).unwrap()
    }

    /// Panics unless the stores at `stores` hold the same log and are intact, each alone.
    #[track_caller]
    fn assert_equal(&self, stores: &[usize], context: &str) {
        let log = |at: usize| -> Vec<String> {
            self.stores[at].names().into_iter().filter(|name| name.starts_with("log/")).collect()
        };
        for at in stores {
            assert_clean(&self.world_without_memory(), &*self.stores[*at], &format!("{context}: store {at}"));
            assert_eq!(log(*at), log(stores[0]), "{context}: store {at}");
            for name in log(*at) {
                assert_eq!(
                    self.stores[*at].raw(&name),
                    self.stores[stores[0]].raw(&name),
                    "{context}: {name}"
                );
            }
        }
    }

    fn world_without_memory(&self) -> World {
        World::new(SEED)
    }
}

/// A store that answers is waited for, however busy the machine is.
pub(crate) fn options(ack: Ack) -> ReplicaOptions {
    let long = Duration::from_secs(120);
    ReplicaOptions {
        ack,
        patience: long,
        read_patience: Some(long),
        linger: long,
        ..ReplicaOptions::default()
    }
}

/// For a test with a store that does not answer.
fn impatient(ack: Ack) -> ReplicaOptions {
    let short = Duration::from_secs(3);
    ReplicaOptions { patience: short, read_patience: Some(short), linger: short, ..options(ack) }
}

pub(crate) fn backup_to(
    world: &World,
    replicas: &Replicas,
    source: &std::path::Path,
) -> Result<(BackupReport, Receipt), EngineError> {
    let mut vault = world.open(replicas)?;
    replicas.check_home(vault.state())?;
    let report = backup(&mut vault, &backup_options(source), &mut Quiet)?;
    let receipt = replicas.acknowledge(&world.access(replicas), &vault.log, report.head)?;
    replicas.remember(&world.access(replicas), &vault.log);
    Ok((report, receipt))
}

/// Backs up to a store that is the only one.
fn backup_alone(
    world: &World,
    store: &Arc<MemoryStore>,
    source: &std::path::Path,
) -> coffer_format::id::Head {
    let mut vault = world.open(store).unwrap();
    backup(&mut vault, &backup_options(source), &mut Quiet).unwrap().head
}

/// Panics unless every store that the receipt names holds the snapshot whole, alone.
#[track_caller]
fn assert_held(site: &Site, report: &BackupReport, receipt: &Receipt, context: &str) {
    for holder in &receipt.holders {
        let at = stores::position(holder);
        let store = &*site.stores[at];
        assert!(keyless(store).is_clean(), "{context}: {holder}: {:?}", keyless(store).findings);
        let world = World::new(SEED);
        let target = scratch();
        let restored = world.restore(store, &report.snapshot.to_string(), target.path()).unwrap();
        assert_eq!(restored.errors, [], "{context}: {holder}");
        assert!(!restored.degraded, "{context}: {holder}");
    }
    assert_eq!(receipt.is_acknowledged, receipt.holders.len() >= receipt.wanted_count, "{context}");
}

#[test]
fn a_backup_is_on_all_stores_and_each_alone_is_a_vault() {
    let site = Site::new(3);
    site.assert_equal(&[0, 1, 2], "init");
    assert!(site.stores[0].raw("store").is_some());
    assert_ne!(site.stores[1].raw("store"), site.stores[2].raw("store"));
    site.write("a", 1);
    let (report, receipt) = site.backup_without(&[], Ack::All);
    assert!(receipt.is_acknowledged);
    assert_eq!((receipt.holders.len(), receipt.lagging.len()), (3, 0));
    assert_held(&site, &report, &receipt, "backup");
    site.assert_equal(&[0, 1, 2], "backup");
    assert_eq!(site.replicate().copies.iter().map(|copy| copy.record_count).sum::<u64>(), 0);
}

#[test]
fn a_store_that_is_down_lags_and_is_caught_up() {
    let site = Site::new(3);
    site.write("a", 1);
    let (report, receipt) = site.backup_without(&[1], Ack::Two);
    assert!(receipt.is_acknowledged);
    assert_eq!(receipt.holders, [stores::url(0), stores::url(2)]);
    assert_eq!(receipt.lagging[0].store, stores::url(1));
    assert_held(&site, &report, &receipt, "one down");

    // All are asked for, and one is not there.
    site.write("b", 2);
    let (report, receipt) = site.backup_without(&[1], Ack::All);
    assert!(!receipt.is_acknowledged);
    assert_held(&site, &report, &receipt, "all, one down");

    let replicas = site.open_all();
    let (_, status) = replicas.status(&site.world.access(&replicas)).unwrap();
    assert_eq!(status[1].behind_records, Some(2));
    assert!(status[1].behind_objects.unwrap() >= 4);
    assert_eq!((status[2].behind_records, status[2].behind_objects), (Some(0), Some(0)));
    assert!(status[0].is_home && !status[1].is_home);
    drop(replicas);

    let copied = site.replicate();
    assert!(copied.is_complete(), "{copied:?}");
    assert_eq!(copied.copies[0].record_count, 2);
    site.assert_equal(&[0, 1, 2], "caught up");
}

/// A store that is behind when a backup begins is caught up by it where the level asks for that.
#[test]
fn a_backup_catches_up_what_it_needs() {
    let site = Site::new(2);
    site.write("a", 1);
    let (_, receipt) = site.backup_without(&[1], Ack::Two);
    assert!(!receipt.is_acknowledged);
    assert_eq!(receipt.holders, [stores::url(0)]);
    site.write("b", 2);
    let (report, receipt) = site.backup_without(&[], Ack::Two);
    assert!(receipt.is_acknowledged);
    assert_held(&site, &report, &receipt, "caught up by the backup");
    site.assert_equal(&[0, 1], "caught up by the backup");
}

#[test]
fn an_empty_store_becomes_a_replica_only_on_demand() {
    let mut site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::Two);
    site.stores.push(Arc::new(MemoryStore::new()));
    let copied = site.replicate();
    assert!(!copied.is_complete());
    assert_eq!(site.stores[2].names(), Vec::<String>::new());
    let replicas = site.open_all();
    let copied = replicas.replicate(&site.world.access(&replicas), true).unwrap();
    assert!(copied.is_complete(), "{copied:?}");
    site.assert_equal(&[0, 1, 2], "a new replica");
    assert!(site.stores[2].raw("store").is_some());
}

/// A store that hangs is left behind, and does not hold the others.
#[test]
fn a_store_that_hangs_is_left_behind() {
    let site = Site::new(3);
    site.write("a", 1);
    let mut all = site.all();
    let hanging = Arc::new(NamedStore::new(1, Arc::clone(&site.stores[1])));
    all[1] = hanging.clone();
    let replicas = Replicas::open(all, impatient(Ack::Two)).unwrap();
    hanging.hang();
    let (report, receipt) = site.backup(&replicas).unwrap();
    assert!(receipt.is_acknowledged);
    assert_eq!(receipt.holders, [stores::url(0), stores::url(2)]);
    assert_held(&site, &report, &receipt, "one hangs");
    hanging.go_on();
    drop(replicas);
    assert!(keyless(&*site.stores[1]).is_clean());
    assert!(site.replicate().is_complete());
    site.assert_equal(&[0, 1, 2], "it goes on");
}

#[test]
fn two_copies_of_one_store_are_refused() {
    let site = Site::new(1);
    let copy: Arc<dyn ObjectStore> = Arc::new(NamedStore::new(1, Arc::clone(&site.stores[0])));
    let refused = Replicas::open(vec![site.store(0), copy], options(Ack::Two)).unwrap_err();
    assert!(matches!(refused, EngineError::SameStore { .. }), "{refused:?}");
}

/// A single store that is not the home takes no record.
#[test]
fn a_replica_alone_is_read_and_not_committed_to() {
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::Two);
    let replicas = Replicas::open(vec![site.store(1)], options(Ack::Two)).unwrap();
    let refused = site.backup(&replicas).unwrap_err();
    assert!(matches!(refused, EngineError::Refused(_)), "{refused:?}");
    // The same without asking before: the record itself says for which store it is.
    let mut vault: Vault<'_> = site.world.open(&replicas).unwrap();
    let refused = backup(&mut vault, &backup_options(&site.source()), &mut Quiet).unwrap_err();
    assert!(matches!(refused, EngineError::Store(_)), "{refused:?}");
    site.assert_equal(&[0, 1], "nothing was committed");
}
