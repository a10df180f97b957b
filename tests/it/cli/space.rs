//! A vault on a file system that fills up.

use std::fs;

use coffer_testkit::Mounted;

use super::desk::Desk;
use crate::support::{assert_same, noise, tree_of};

/// A small file system in memory. `None`, said aloud, where this process may not mount.
fn mount_small(desk: &Desk) -> Option<Mounted> {
    let path = desk.path("small");
    fs::create_dir(&path).unwrap();
    Mounted::tmpfs(&path, "size=8m")
}

/// Whether this process may mount file systems; said aloud if not.
pub(super) fn may_mount(desk: &Desk) -> bool {
    mount_small(desk).is_some()
}

#[test]
fn a_full_file_system_is_exit_code_1_and_costs_nothing_that_was_there() {
    let desk = Desk::new();
    let Some(small) = mount_small(&desk) else { return };
    let run = |line: &str| desk.run(&format!("-V ../small/vault {line}"));
    run("init --single-slot").expect(0);
    run("backup src").expect(0);
    let before = tree_of(&desk.path("work/src"));
    fs::write(desk.path("work/src/new"), noise(3, 12 << 20)).unwrap();
    let ran = run("backup --pack-size 4 src").expect(1);
    ran.says("no space")
        .says("hint: free some space and run the command again; earlier snapshots are intact");
    run("verify --deep").expect(0);
    run("restore latest --target ../out").expect(0);
    assert_same(&before, &tree_of(&desk.path("out/src")), "the snapshot before");
    // The medium itself is full up to the last byte, and the vault still opens and is told apart from a damaged one.
    let filler = small.path().join("filler");
    drop(fs::write(&filler, vec![0; 8 << 20]));
    run("backup src").expect(1).says("no space");
    run("snapshots").expect(0).says("1 snapshot(s)");
    run("verify").expect(0);
    fs::remove_file(filler).unwrap();

    small.remount("size=64m");
    run("backup src").expect(0);
    run("verify --deep").expect(0);
    run("restore latest --target ../larger").expect(0);
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("larger/src")), "restored");
}
