//! The source changes under a backup.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_engine::{Access, Clock, Vault, backup};
use coffer_store::MemoryStore;

use super::super::support::{Body, Quiet, World, assert_clean, backup_options, noise, scratch, tree_of};

/// A clock that deletes a file at the `at`-th look: between two entries, and between an entry's `stat` and its reading.
#[derive(Debug)]
struct Deletes {
    at: u64,
    looks: AtomicU64,
    victim: PathBuf,
}

impl Clock for Deletes {
    fn now_ns(&self) -> i64 {
        4_000_000_000_000_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        if self.looks.fetch_add(1, Ordering::SeqCst) == self.at {
            fs::remove_file(&self.victim).unwrap();
        }
        0
    }
}

/// A file keeps its content under its other names when the first one goes away.
#[test]
fn a_link_survives_the_loss_of_the_first_name() {
    let mut error_count = 0;
    for at in 0..6 {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("a"), noise(1, 3000)).unwrap();
        fs::hard_link(source.join("a"), source.join("b")).unwrap();
        fs::hard_link(source.join("a"), source.join("c")).unwrap();
        let (world, store) = (World::new(8), MemoryStore::new());
        world.init(&store).unwrap();
        let clock = Deletes { at, looks: AtomicU64::new(0), victim: source.join("a") };
        let access = Access {
            store: &store,
            clock: &clock,
            rng: &world.rng,
            cache: None,
            interrupt: &world.interrupt,
        };
        let mut vault = Vault::open(access, &world.key, None).unwrap();
        let report = backup(&mut vault, &backup_options(&source), &mut Quiet).unwrap();
        assert!(report.errors.iter().all(|(path, _)| path == b"src/a"), "{:?}", report.errors);
        error_count += report.error_count;

        let context = format!("deleted at look {at}");
        assert_clean(&world, &store, &context);
        let target = scratch();
        let restored = world.restore(&store, "latest", target.path()).unwrap();
        assert_eq!(restored.errors, [], "{context}");
        let tree = tree_of(&target.path().join("src"));
        for name in [b"b", b"c"] {
            let item = tree.get(&name[..]).unwrap_or_else(|| panic!("{context}: {name:?} is not there"));
            assert!(item.body == Body::File(noise(1, 3000)), "{context}: {item:?}");
            assert!(item.group.is_some(), "{context}: still one file");
        }
    }
    assert!(error_count > 0, "the file was never met as it vanished");
}
