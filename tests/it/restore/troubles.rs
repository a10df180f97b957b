//! Trouble on the way that is no damage of the vault, and is not reported as such.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_engine::restore;
use coffer_store::{MemoryStore, ObjectStore, StoreError};
use coffer_testkit::AlteredStore;

use super::stored::Backup;
use crate::support::{Quiet, World, assert_same, noise, restore_options, scratch, tree_of};

/// The files below a directory whose names begin like this.
fn named(root: &Path, beginning: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(root).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(named(&path, beginning));
        } else if path.file_name().unwrap().to_string_lossy().starts_with(beginning) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_local_table_that_lies_is_not_damage_of_the_vault() {
    let place = scratch();
    let cache = place.path().join("cache");
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    let (world, store) = (World::with_cache(3, &cache), MemoryStore::new());
    world.init(&store).unwrap();
    for number in 0..10 {
        fs::write(source.join(format!("file-{number}")), noise(number, 400_000)).unwrap();
        world.backup(&store, &source).unwrap();
    }
    world.restore(&store, "latest", scratch().path()).unwrap();
    let tables = named(&cache, "lookup-");
    assert_eq!(tables.len(), 1, "there is a table");
    // Head and list of segments stay as they are: of chunks it knows nothing any more.
    let mut bytes = fs::read(&tables[0]).unwrap();
    let segment_count = usize::try_from(u64::from_le_bytes(bytes[8..16].try_into().unwrap())).unwrap();
    assert!(segment_count > 0);
    bytes[32 + 40 * segment_count..].fill(0);
    fs::write(&tables[0], bytes).unwrap();
    let target = scratch();
    let report = world.restore(&store, "latest", target.path()).unwrap();
    assert_eq!((&report.errors[..], report.degraded), (&[][..], false));
    assert_same(&tree_of(&source), &tree_of(&target.path().join("src")), "restored");
}

/// A store that is not to be reached when the content of a pack is read and `left` reads were to come before that one, and then is.
/// `left` wraps around with it.
fn fails_once<'a>(store: &'a MemoryStore, left: &'a AtomicU64) -> AlteredStore<'a, &'a MemoryStore> {
    AlteredStore::new(store).on_read_range(move |store, key, offset, out| {
        let name = key.as_str();
        if name.starts_with("packs/") && left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let source = "the line is cut".into();
            return Err(StoreError::Unavailable { name: name.to_owned(), store: store.url(), source });
        }
        store.read_range(key, offset, out)
    })
}

#[test]
fn a_store_that_fails_once_is_not_damage_of_the_vault() {
    let backup = Backup::of(|src| {
        for number in 0..6 {
            fs::write(src.join(format!("file-{number}")), noise(number, 1_200_000)).unwrap();
        }
    });
    let mut healed = 0;
    for read in 0.. {
        let left = AtomicU64::new(read);
        let store = fails_once(&backup.store, &left);
        let vault = backup.world.open(&store).unwrap();
        let snapshot = vault.select("latest").unwrap();
        let target = scratch();
        let restored = restore(&vault, &snapshot, target.path(), &restore_options(), &mut Quiet);
        if left.load(Ordering::SeqCst) < u64::MAX / 2 {
            break;
        }
        let Ok(report) = restored else { continue };
        if report.errors.is_empty() {
            assert!(!report.degraded, "read {read}");
            assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "read once more");
            healed += 1;
        }
    }
    assert!(healed > 3, "workers read once more what the store did not give: {healed}");
}
