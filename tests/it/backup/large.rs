//! A large file: its chunks get their ids while the next ones are read, and nobody can tell from the result.

use std::fs;

use coffer_engine::BackupOptions;
use coffer_format::manifest::Statistics;
use coffer_format::tree::TreeRoot;
use coffer_store::MemoryStore;

use super::Site;
use crate::support::{World, assert_clean, assert_restores, backup_options, noise, tree_of};

/// Bytes with pieces that come again, within the file and in a smaller one.
fn write(site: &Site) {
    let (one, other) = (noise(1, 5 << 20), noise(2, 9 << 20));
    let large = [&one[..], &other, &vec![0; 6 << 20], &one, &other, b"the end"].concat();
    fs::write(site.source().join("large"), large).unwrap();
    fs::write(site.source().join("other"), &other).unwrap();
}

#[test]
fn the_number_of_workers_changes_nothing_in_what_is_stored() {
    let site = Site::new(&[("small", 3)], 900);
    write(&site);
    let vaults: Vec<_> = [1, 2, 5]
        .into_iter()
        .map(|worker_count| {
            let world = World::with_cache(31, &site.place.path().join(format!("cache-{worker_count}")));
            let store = MemoryStore::new();
            world.init(&store).unwrap();
            let options = BackupOptions { worker_count, ..backup_options(&site.source()) };
            (world, store, options)
        })
        .collect();
    let back_up = |context: &str| -> Statistics {
        let reports: Vec<_> = vaults
            .iter()
            .map(|(world, store, options)| {
                let report = world.backup_with(store, options).unwrap();
                assert_eq!(report.errors, [], "{context}");
                assert_clean(world, store, context);
                assert_restores(world, store, "latest", &tree_of(&site.source()), context);
                (report.manifest.root, report.manifest.statistics)
            })
            .collect();
        let new = |(root, statistics): &(TreeRoot, Statistics)| {
            (*root, statistics.new_chunk_count, statistics.new_bytes)
        };
        assert!(reports.windows(2).all(|pair| new(&pair[0]) == new(&pair[1])), "{context}: {reports:?}");
        reports[0].1
    };
    let first = back_up("first");
    // What comes again is stored once, but for what the cuts need to fall into step.
    assert!(first.new_bytes < 36 << 20 && first.content_bytes > 42 << 20, "{first:?}");

    // A byte in the middle: all but a chunk or two is known.
    let path = site.source().join("large");
    let mut bytes = fs::read(&path).unwrap();
    bytes[17 << 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let again = back_up("a byte changed");
    assert!(again.new_bytes < 17 << 20 && again.new_chunk_count < 8, "{again:?}");
}
