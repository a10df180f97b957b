//! Somebody who moves things about in the target while it is restored into.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coffer_engine::RestoreOptions;

use super::stored::Backup;
use crate::support::{assert_same, noise, restore_options, scratch, tree_of};

/// Swaps a directory of the target for a symlink that leads out, and back, until it is told to stop. Counts how often.
fn swap(target: &Path, outside: &Path, stop: &AtomicBool, count: &AtomicU64) {
    let (directory, aside) = (target.join("src/dir"), target.join("aside"));
    while !stop.load(Ordering::Relaxed) {
        if fs::rename(&directory, &aside).is_err() {
            continue;
        }
        if symlink(outside, &directory).is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
        }
        // Whatever stands there now is not what was there before.
        if fs::symlink_metadata(&directory).is_ok_and(|stat| stat.is_symlink()) {
            drop(fs::remove_file(&directory));
        }
        drop(fs::rename(&aside, &directory));
        drop(fs::remove_dir_all(&aside));
    }
}

/// Tells a thread to stop, also where the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
    let (stop, swapped) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| swap(target.path(), outside.path(), &stop, &swapped));
        let _stop = StopOnDrop(&stop);
        let begun = Instant::now();
        // On a busy machine it takes longer until both have had their turns.
        let is_enough = |round: u64| {
            let time = begun.elapsed();
            let is_done = round >= 6 && swapped.load(Ordering::Relaxed) > 20;
            time >= Duration::from_millis(1_500) && is_done || time > Duration::from_secs(120)
        };
        let mut round = 0;
        while !is_enough(round) {
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
    });
    let swapped = swapped.into_inner();
    assert!(swapped > 20, "{swapped} swaps");
    drop(fs::remove_dir_all(target.path().join("aside")));
    let report =
        backup.restore_with(target.path(), &RestoreOptions { delete: true, ..restore_options() }).unwrap();
    assert_eq!(report.errors, []);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "left alone at last");
}
