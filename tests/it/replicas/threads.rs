//! A thread that panics, or that the system does not give: the store is named, and nothing is said to be on it.

use std::sync::Arc;

use coffer_engine::{Ack, Replicas};

use super::stores::{NamedStore, url};
use super::{Site, options};

/// A site that has its snapshot in the first store only, and the stores, of which the second breaks.
fn site() -> (Site, Arc<NamedStore>, Replicas) {
    let site = Site::new(3);
    site.write("a", 1);
    site.backup_without(&[1, 2], Ack::Primary);
    let broken = Arc::new(NamedStore::new(1, Arc::clone(&site.stores[1])));
    let stores = vec![site.store(0), broken.clone(), site.store(2)];
    let replicas = Replicas::open(stores, options(Ack::Primary)).unwrap();
    (site, broken, replicas)
}

#[test]
fn a_copy_that_panics_is_said_to_be_incomplete() {
    for call in ["list", "put"] {
        let (site, broken, replicas) = site();
        broken.break_at(call);
        let report = replicas.replicate(&site.world.access(&replicas), false).unwrap();
        assert!(!report.is_complete(), "{call}: {report:?}");
        let [of_broken, of_other] = &report.copies[..] else { panic!("{call}: {report:?}") };
        assert_eq!(of_broken.store, url(1), "{call}");
        assert_eq!(of_broken.error.as_deref(), Some("a worker ended early"), "{call}");
        assert_eq!((of_other.store.clone(), of_other.error.clone()), (url(2), None), "{call}");
        drop(replicas);
        site.assert_equal(&[0, 2], call);
        assert!(site.replicate().is_complete(), "{call}");
        site.assert_equal(&[0, 1, 2], call);
    }
}

#[test]
fn a_write_that_panics_leaves_its_store_behind_at_once() {
    let (site, broken, replicas) = site();
    assert!(replicas.replicate(&site.world.access(&replicas), false).unwrap().is_complete());
    broken.break_at("put");
    site.write("b", 2);
    let (_, receipt) = site.backup(&replicas).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!(receipt.holders, [url(0), url(2)]);
    assert_eq!(replicas.left_behind(), [(url(1), "a worker ended early".to_owned())]);
}

#[cfg(target_os = "linux")]
mod without {
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;

    use coffer_engine::{Ack, Replicas, UnreachableStore};
    use coffer_store::{LocalStore, ObjectStore};

    use crate::replicas::{SEED, backup_to, options};
    use crate::support::{World, keyless, noise, scratch};

    const DIRECTORY: &str = "COFFER_TESTS_WITHOUT_THREADS";
    const STORES: [&str; 3] = ["one", "two", "three"];

    fn open(dir: &Path) -> Vec<Arc<dyn ObjectStore>> {
        let open = |name| -> Arc<dyn ObjectStore> { Arc::new(LocalStore::create(dir.join(name)).unwrap()) };
        STORES.iter().map(open).collect()
    }

    /// What a process does that gets no thread.
    fn replicate(dir: &Path) {
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "there is a thread");
        let world = World::new(SEED);
        let replicas = Replicas::open(open(dir), options(Ack::All)).unwrap();
        let report = replicas.replicate(&world.access(&replicas), false).unwrap();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.copies.iter().map(|copy| copy.record_count).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn threads_stores_are_copied_one_after_the_other() {
        if let Some(dir) = std::env::var_os(DIRECTORY) {
            return replicate(Path::new(&dir));
        }
        let dir = scratch();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/a"), noise(1, 300_000)).unwrap();
        let world = World::new(SEED);
        let replicas = Replicas::open(open(dir.path()), options(Ack::All)).unwrap();
        replicas.name_stores(&world.rng).unwrap();
        world.init(&replicas).unwrap();
        drop(replicas);
        let mut stores = open(dir.path());
        for store in &mut stores[1..] {
            *store = Arc::new(UnreachableStore::new(store.url(), "it is away".to_owned()));
        }
        let replicas = Replicas::open(stores, options(Ack::Primary)).unwrap();
        backup_to(&world, &replicas, &dir.path().join("src")).unwrap();
        drop(replicas);
        // Stacks so large that no thread can be started.
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "replicas::threads::without::threads_stores_are_copied_one_after_the_other"])
            .args(["--test-threads", "1", "--nocapture"])
            .env("RUST_MIN_STACK", (1_u64 << 60).to_string())
            .env(DIRECTORY, dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let heads: Vec<_> = open(dir.path()).iter().map(|store| keyless(&**store).head).collect();
        assert_eq!((heads[0].unwrap().number, heads[1], heads[2]), (1, heads[0], heads[0]));
    }
}
