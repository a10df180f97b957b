//! Opening a vault with a long log.

use std::ops::ControlFlow;
use std::path::Path;

use coffer_engine::{BackupOptions, EngineError, Vault, backup};
use coffer_format::limits::RECORD_LEN_MAX;
use coffer_format::object::ObjectName;
use coffer_store::{ListItem, MemoryStore, ObjectStore};
use coffer_testkit::AlteredStore;
use coffer_verify::{Options, Silent, verify};

use super::super::support::{Quiet, World, backup_options, clone_of, scratch};
use super::{IN_FLIGHT, LOG_IN_FLIGHT, RECORDS_IN_FLIGHT, far, grow, tell};

/// Adds so many snapshots, and checkpoints where they are due.
pub(crate) fn add_snapshots(world: &World, store: &MemoryStore, source: &Path, count: usize, interval: u64) {
    let mut vault = world.open(store).unwrap();
    for _ in 0..count {
        let options = BackupOptions { checkpoint_interval: interval, ..backup_options(source) };
        backup(&mut vault, &options, &mut Quiet).unwrap();
    }
}

#[track_caller]
fn assert_same_state(one: &Vault<'_>, other: &Vault<'_>) {
    assert_eq!(one.state().next, other.state().next);
    assert_eq!(one.state().encode(), other.state().encode());
}

#[test]
fn a_thousand_snapshots_open_in_few_rounds() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 3);
    let near = MemoryStore::new();
    let world = World::new(1);
    world.init(&near).unwrap();
    add_snapshots(&world, &near, &source, 1000, 64);
    let expected = world.open(&near).unwrap();
    assert_eq!(expected.state().snapshots.len(), 1000);

    let store = far(clone_of(&near), 100);
    let cold = world.open(&store).unwrap();
    let counts = store.reset();
    tell("1000 snapshots, nothing known", &counts);
    assert!(counts.rounds <= 10, "{counts:?}");
    assert!(counts.gets < 120, "{counts:?}");
    // The end of the log and the slots are asked for beside them.
    assert!(counts.in_flight_max <= RECORDS_IN_FLIGHT + 2, "{counts:?}");
    assert_same_state(&cold, &expected);

    // A host that was here before.
    let host = World::with_cache(1, &place.path().join("cache"));
    drop(host.open(&store).unwrap());
    tell("1000 snapshots, nothing kept yet", &store.reset());
    let warm = host.open(&store).unwrap();
    let counts = store.reset();
    tell("1000 snapshots, state kept", &counts);
    assert!(counts.rounds <= 4, "{counts:?}");
    assert_eq!((counts.gets, counts.lists), (4, 1), "header, slot, the record known and the one after it");
    assert_same_state(&warm, &expected);

    // Others went on meanwhile.
    add_snapshots(&world, store.inner(), &source, 20, 0);
    let expected = world.open(store.inner()).unwrap();
    let warm = host.open(&store).unwrap();
    let counts = store.reset();
    tell("20 snapshots more", &counts);
    assert!(counts.rounds <= 4, "{counts:?}");
    assert_eq!((counts.gets, counts.lists), (24, 1));
    assert_same_state(&warm, &expected);
}

#[test]
fn without_a_checkpoint_records_are_read_side_by_side() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 3);
    let near = MemoryStore::new();
    let world = World::new(2);
    world.init(&near).unwrap();
    add_snapshots(&world, &near, &source, 300, 0);
    let store = far(near, 100);
    let vault = world.open(&store).unwrap();
    let counts = store.reset();
    tell("300 snapshots without a checkpoint", &counts);
    assert_eq!(vault.state().next, 301);
    assert!(counts.rounds <= 3 + 300_u64.div_ceil(LOG_IN_FLIGHT) + 2, "{counts:?}");
}

/// A store far away whose listings are not to be relied on: of the names of the log, in descending order, those at the places that `shows`
/// picks are shown.
fn unlisted(store: MemoryStore, shows: fn(usize) -> bool) -> AlteredStore<'static, MemoryStore> {
    let altered = AlteredStore::new(store).on_list(move |store, prefix, start_after, visit| {
        let mut items = Vec::new();
        store.list(prefix, start_after, &mut |item| {
            items.push(item);
            ControlFlow::Continue(())
        })?;
        items.reverse();
        let is_log = prefix.starts_with("log");
        for (number, item) in items.into_iter().enumerate() {
            if (!is_log || shows(number)) && visit(item).is_break() {
                break;
            }
        }
        Ok(())
    });
    altered.with_parallelism(IN_FLIGHT)
}

#[test]
fn what_a_listing_does_not_show_is_found() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 3);
    let near = MemoryStore::new();
    let world = World::new(3);
    world.init(&near).unwrap();
    add_snapshots(&world, &near, &source, 150, 64);
    let expected = world.open(&near).unwrap();
    let after = clone_of(&near);
    add_snapshots(&world, &after, &source, 70, 64);
    let expected_after = world.open(&after).unwrap();

    // Nothing, half of it, the oldest alone, all but the newest, all in the wrong order.
    let shows: [fn(usize) -> bool; 5] = [|_| false, |at| at % 2 == 1, |at| at > 140, |at| at > 3, |_| true];
    for (number, shows) in shows.into_iter().enumerate() {
        let host = World::with_cache(3, &place.path().join(format!("cache-{number}")));
        let store = unlisted(clone_of(&near), shows);
        assert_same_state(&host.open(&store).unwrap(), &expected);
        assert_same_state(&host.open(&store).unwrap(), &expected);
        let store = unlisted(clone_of(&after), shows);
        assert_same_state(&host.open(&store).unwrap(), &expected_after);
        let mut vault = host.open(&store).unwrap();
        backup(&mut vault, &backup_options(&source), &mut Quiet).unwrap();
        assert_eq!(vault.state().snapshots.len(), 221);
    }
}

#[test]
fn a_state_that_was_kept_is_proved_or_not_used() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 3);
    let near = MemoryStore::new();
    let world = World::new(4);
    let vault_id = world.init(&near).unwrap();
    add_snapshots(&world, &near, &source, 5, 0);
    let before = clone_of(&near);
    add_snapshots(&world, &near, &source, 2, 0);
    let expected = world.open(&near).unwrap();
    let store = far(clone_of(&near), 0);
    let cache = place.path().join("cache");
    let host = World::with_cache(4, &cache);
    drop(host.open(&store).unwrap());
    let path = cache.join("vaults").join(vault_id.to_string()).join("state");
    let whole = std::fs::read(&path).unwrap();
    let used = |what: &str| {
        store.reset();
        assert_same_state(&host.open(&store).unwrap(), &expected);
        let is_used = store.reset().gets <= 4;
        println!("{what}: {is_used}");
        is_used
    };
    assert!(used("as it was"));

    // Whatever is changed in it, it is not believed, and the log is read again.
    for position in [0, 8, 40, 48, 100, whole.len() - 65, whole.len() - 1] {
        let mut garbled = whole.clone();
        garbled[position] ^= 1;
        std::fs::write(&path, garbled).unwrap();
        assert!(!used("garbled"), "at {position}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "and it is kept anew");
    }
    std::fs::write(&path, &whole[..20]).unwrap();
    assert!(!used("cut"));

    // That of another vault with the same layout is signed by somebody else.
    let (other, other_cache) = (MemoryStore::new(), place.path().join("other"));
    let stranger = World::with_cache(5, &other_cache);
    let other_id = stranger.init(&other).unwrap();
    add_snapshots(&stranger, &other, &source, 7, 0);
    drop(stranger.open(&far(other, 0)).unwrap());
    let others = other_cache.join("vaults").join(other_id.to_string()).join("state");
    std::fs::copy(others, &path).unwrap();
    assert!(!used("of another vault"));

    // A log that is shorter than what is remembered, or another one from some record on, is a rollback all the same; also where the memory of
    // the head alone is gone.
    for is_head_known in [true, false] {
        if !is_head_known {
            std::fs::remove_file(path.with_file_name("head")).unwrap();
        }
        let rolled_back = far(clone_of(&before), 0);
        assert!(matches!(host.open(&rolled_back), Err(EngineError::Rollback { .. })));
        let forked = clone_of(&before);
        world.clock.advance(1_000_000_000_000);
        add_snapshots(&world, &forked, &source, 4, 0);
        assert!(matches!(host.open(&far(forked, 0)), Err(EngineError::Rollback { .. })));
    }
}

#[test]
fn a_lost_record_is_noticed_far_away_too() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 3);
    let near = MemoryStore::new();
    let world = World::new(6);
    world.init(&near).unwrap();
    add_snapshots(&world, &near, &source, 40, 0);
    for lost in [[1, 2], [17, 33], [38, 39]] {
        let damaged = clone_of(&near);
        for number in lost {
            damaged.remove_raw(&format!("log/{number:012}")).unwrap();
        }
        let expected = world.open(&damaged).unwrap();
        assert_eq!(expected.state().damaged.to_vec(), lost);
        let store = far(clone_of(&damaged), 0);
        let mut found = world.open(&store).unwrap();
        assert_eq!(found.state().damaged, expected.state().damaged);
        assert_eq!(found.state().next, expected.state().next);
        // The gap is not filled.
        let head = backup(&mut found, &backup_options(&source), &mut Quiet).unwrap().head;
        assert_eq!(head.number, 41);
    }
}

/// Only that thousand of records is listed in which the end of the log lies. What lies behind a loss is found in the next one too.
#[test]
fn about_the_end_of_a_thousand_records_nothing_is_missed() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 1);
    let near = MemoryStore::new();
    let world = World::new(7);
    world.init(&near).unwrap();
    add_snapshots(&world, &near, &source, 991, 0);
    let host = World::with_cache(7, &place.path().join("cache"));
    let store = far(near, 0);
    host.backup(&store, &source).unwrap();
    for _ in 0..16 {
        store.reset();
        let head = host.backup(&store, &source).unwrap().head;
        let counts = store.reset();
        tell(&format!("record {}", head.number), &counts);
        assert!(counts.lists <= 2 && counts.puts == 1, "{counts:?}");
        // The last few are asked for one by one, when the log is opened and before the commit.
        let most = if (995..1000).contains(&head.number) { 13 } else { 5 };
        assert!(counts.gets <= most, "record {}: {counts:?}", head.number);
    }
    let end = world.open(store.inner()).unwrap().state().next;
    assert!(end > 1005, "{end}");
    for known in 993..1001 {
        for lost_count in 1..=3 {
            // A host that knows the log up to there, and comes back when others have gone on and some of that was lost.
            let cache = scratch();
            let host = World::with_cache(7, cache.path());
            let before = clone_of(store.inner());
            for number in known + 1..end {
                before.remove_raw(&format!("log/{number:012}")).unwrap();
            }
            drop(host.open(&far(before, 0)).unwrap());
            let damaged = clone_of(store.inner());
            let lost: Vec<u64> = (known + 1..=known + lost_count).collect();
            for number in &lost {
                damaged.remove_raw(&format!("log/{number:012}")).unwrap();
            }
            let damaged = far(damaged, 0);
            let found = host.open(&damaged).unwrap();
            assert_eq!((found.state().damaged.to_vec(), found.state().next), (lost, end), "{known}");
        }
    }
}

#[test]
fn verification_reads_few_long_records_at_once() {
    const LONG_COUNT: u64 = 10;
    let (world, near) = (World::new(9), MemoryStore::new());
    world.init(&near).unwrap();
    for number in 1..=LONG_COUNT {
        let len = usize::try_from(RECORD_LEN_MAX).unwrap();
        near.insert_raw(ObjectName::Record(number).to_string(), vec![0; len]);
    }
    let store = far(near, 60);
    let report = verify(&store, &Options::default(), &Silent).unwrap();
    assert_eq!(report.findings.len() as u64, LONG_COUNT, "each is void: {:?}", report.findings);
    let counts = store.reset();
    tell("verification of long records", &counts);
    assert!(counts.in_flight_max <= 5, "32 MiB together: {counts:?}");
}

#[test]
fn verification_does_not_rely_on_the_lengths_that_a_listing_gives() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 3);
    let (world, near) = (World::new(10), MemoryStore::new());
    world.init(&near).unwrap();
    add_snapshots(&world, &near, &source, 40, 16);
    for said in [0, 100, u64::MAX] {
        let store = AlteredStore::new(clone_of(&near)).on_list(move |store, prefix, start_after, visit| {
            store.list(prefix, start_after, &mut |item| {
                let len = if item.name.starts_with("log/") { said } else { item.len };
                visit(ListItem { len, ..item })
            })
        });
        let report = verify(&store.with_parallelism(IN_FLIGHT), &Options::default(), &Silent).unwrap();
        assert!(report.findings.is_empty(), "{said}: {:?}", report.findings);
        assert_eq!(report.counts.records, record_count(&near));
    }
}

fn record_count(store: &MemoryStore) -> u64 {
    store.names().iter().filter(|name| name.starts_with("log/")).count() as u64
}
