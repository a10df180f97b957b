//! Many writers at once.

use std::fs;
use std::time::Instant;

use coffer_engine::{Access, Clock, Vault, backup};
use coffer_store::MemoryStore;

use super::super::support::{Quiet, World, assert_clean, backup_options, noise, scratch};
use super::{far, tell};

/// A clock that goes: writers that lost a race wait in units of what an attempt took.
struct Going(Instant);

impl Clock for Going {
    fn now_ns(&self) -> i64 {
        4_000_000_000_000_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap()
    }
}

#[test]
fn fifty_writers_at_once_all_commit() {
    const WRITER_COUNT: u64 = 50;
    let place = scratch();
    let world = World::new(40);
    let (store, clock) = (far(MemoryStore::new(), 30), Going(Instant::now()));
    world.init(store.inner()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITER_COUNT {
            let source = place.path().join(format!("src-{writer}"));
            fs::create_dir(&source).unwrap();
            fs::write(source.join("file"), noise(writer, 5000)).unwrap();
            let access = Access { clock: &clock, ..world.access(&store) };
            let key = &world.key;
            scope.spawn(move || {
                let mut vault = Vault::open(access, key, None).unwrap();
                backup(&mut vault, &backup_options(&source), &mut Quiet).unwrap()
            });
        }
    });
    let counts = store.reset();
    println!("{:?}", clock.0.elapsed());
    tell("50 writers", &counts);
    println!("{} attempts for {WRITER_COUNT} records", WRITER_COUNT + counts.lost_puts);
    let vault = world.open(store.inner()).unwrap();
    assert_eq!(vault.state().snapshots.len() as u64, WRITER_COUNT);
    assert!(vault.log.ineffective.is_empty());
    assert_clean(&world, store.inner(), "after all of them");
}
