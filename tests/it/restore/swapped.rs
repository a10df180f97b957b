//! Somebody who moves things about in the target while it is restored into.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coffer_engine::RestoreOptions;

use super::stored::Backup;
use crate::support::{assert_same, noise, restore_options, scratch, tree_of};

/// Swaps a directory of the target for a symlink that leads out, and back, until it is told to stop.
fn swap(target: &Path, outside: &Path, stop: &AtomicBool) -> u64 {
    let (directory, aside) = (target.join("src/dir"), target.join("aside"));
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        if fs::rename(&directory, &aside).is_err() {
            continue;
        }
        if symlink(outside, &directory).is_ok() {
            count += 1;
            std::thread::yield_now();
        }
        // Whatever stands there now is not what was there before.
        if fs::symlink_metadata(&directory).is_ok_and(|stat| stat.is_symlink()) {
            drop(fs::remove_file(&directory));
        }
        drop(fs::rename(&aside, &directory));
        drop(fs::remove_dir_all(&aside));
    }
    count
}

#[test]
fn symlinks_swapped_in_meanwhile_are_not_followed() {
    let backup = Backup::of(|src| {
        fs::create_dir_all(src.join("dir/deep")).unwrap();
        for file in 0..40 {
            fs::write(src.join(format!("dir/f{file:02}")), noise(file, 3_000)).unwrap();
            fs::write(src.join(format!("dir/deep/f{file:02}")), noise(file, 50)).unwrap();
            fs::hard_link(src.join(format!("dir/f{file:02}")), src.join(format!("dir/l{file:02}"))).unwrap();
            symlink("x", src.join(format!("dir/s{file:02}"))).unwrap();
        }
    });
    let (target, outside) = (scratch(), scratch());
    // What would be hit: files of the same names, and things to delete.
    fs::create_dir(outside.path().join("deep")).unwrap();
    for file in 0..40 {
        fs::write(outside.path().join(format!("f{file:02}")), "outside").unwrap();
        fs::write(outside.path().join(format!("deep/surplus{file:02}")), "outside").unwrap();
    }
    let before = tree_of(outside.path());
    let stop = AtomicBool::new(false);
    let swapped = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| swap(target.path(), outside.path(), &stop));
        let begun = Instant::now();
        let mut round = 0;
        while begun.elapsed() < Duration::from_millis(1_500) {
            round += 1;
            let options = RestoreOptions {
                delete: round % 2 == 0,
                in_place: round % 3 == 0,
                verify: round % 5 == 0,
                ..restore_options()
            };
            // What becomes of single entries is luck; that the operation ends is not.
            backup.restore_with(target.path(), &options).unwrap();
            assert_same(&before, &tree_of(outside.path()), "outside");
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap()
    });
    assert!(swapped > 20, "{swapped} swaps");
    drop(fs::remove_dir_all(target.path().join("aside")));
    let report =
        backup.restore_with(target.path(), &RestoreOptions { delete: true, ..restore_options() }).unwrap();
    assert_eq!(report.errors, []);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "left alone at last");
}
