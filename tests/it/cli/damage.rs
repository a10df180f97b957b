//! Damage to a vault, as exit codes tell it.

use std::fs;
use std::path::{Path, PathBuf};

use super::desk::{Desk, copy};
use crate::support::{assert_same, noise, tree_of};

/// Inverts a byte in the middle of a file, which is replaced: objects are not writable.
pub(super) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The pack that holds the contents of the source, a large file in its middle.
fn pack(desk: &Desk) -> PathBuf {
    desk.objects("packs").into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn a_damaged_pack_is_exit_code_20_and_what_it_does_not_hold_restores() {
    let desk = Desk::with_vault();
    // In packs of its own, apart from what small files share a frame with.
    fs::remove_file(desk.path("work/src/d/large")).unwrap();
    desk.run("backup src").expect(0);
    fs::write(desk.path("work/src/d/large"), noise(4, 12 << 20)).unwrap();
    desk.run("backup src").expect(0);
    flip(&pack(&desk));
    desk.run("verify").expect(20).says("corrupt: packs/").says("affects snapshots");
    desk.run("verify --offline").expect(20);
    desk.run("verify --deep").expect(20).says("affects src/d/large");
    let message = desk.json("verify --deep").expect(20).message();
    assert_eq!(message["findings"][0]["class"], "corrupt");
    desk.run("restore latest --target ../out").expect(3).says("src/d/large").says("coffer verify");
    let (mut expected, mut restored) = (tree_of(&desk.path("work/src")), tree_of(&desk.path("out/src")));
    for tree in [&mut expected, &mut restored] {
        tree.remove(&b"d/large"[..]);
    }
    assert_same(&expected, &restored, "all but the file that is lost");
    assert!(!desk.path("out/src/d/large").exists(), "no file is restored in part");
    // A backup trusts the index: a chunk that it lists is not stored again, so the loss is in the next snapshot too.
    desk.run("backup --force src").expect(0);
    desk.run("restore latest --target ../again").expect(3).says("src/d/large");
    // What is damaged cannot be told without reading it; what is gone can, and is stored again.
    fs::remove_file(pack(&desk)).unwrap();
    desk.run("backup --force src").expect(0);
    // Whether the old place is tried first is up to the names of the index segments.
    let code = desk.run("restore latest --target ../whole").code;
    assert!(code == Some(0) || code == Some(24), "{code:?}");
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("whole/src")), "all is there again");
}

#[test]
fn a_missing_pack_is_exit_code_21() {
    let desk = Desk::with_snapshot();
    fs::remove_file(pack(&desk)).unwrap();
    desk.run("verify").expect(21).says("missing: packs/");
    desk.run("verify --offline").expect(21);
    // A part of the packs may be read; that all are there is checked in any case.
    desk.run("verify --read-subset 1").expect(21);
}

#[test]
fn a_missing_record_is_exit_code_21() {
    let desk = Desk::with_snapshot();
    desk.run("backup src").expect(0);
    fs::remove_file(desk.path("vault/log/000000000001")).unwrap();
    desk.run("verify --offline").expect(21).says("log/000000000001");
    // The other snapshot is still there.
    desk.run("--no-cache restore latest --target ../out").expect(24);
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("out/src")), "the other snapshot");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_exit_code_20() {
    let desk = Desk::with_snapshot();
    desk.run("backup src").expect(0);
    flip(&desk.path("vault/log/000000000001"));
    desk.run("verify --offline").expect(20);
    desk.run("doctor").expect(20).says("advice: header, log or key slots are damaged");
    desk.run("--no-cache restore latest --target ../out").expect(24);
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("out/src")), "the other snapshot");
}

#[test]
fn a_foreign_file_is_exit_code_22() {
    let desk = Desk::with_snapshot();
    fs::write(desk.path("vault/notes.txt"), "not an object").unwrap();
    desk.run("verify").expect(22).says("surplus: notes.txt");
    desk.run("verify --deep").expect(22);
    desk.run("restore latest --target ../out").expect(0);
    // Worse goes first.
    fs::remove_file(pack(&desk)).unwrap();
    desk.run("verify").expect(21).says("surplus: notes.txt").says("missing: packs/");
}

#[test]
fn an_older_vault_in_its_place_is_exit_code_23() {
    let desk = Desk::with_snapshot();
    copy(&desk.path("vault"), &desk.path("older"));
    desk.run("backup src").expect(0);
    let head = desk.head();
    fs::remove_dir_all(desk.path("vault")).unwrap();
    copy(&desk.path("older"), &desk.path("vault"));
    for command in ["snapshots", "backup src", "restore latest -t ../out", "keys list"] {
        desk.run(command).expect(23).says("rolled back").says("--no-cache");
    }
    desk.run("verify").expect(23).says("rollback");
    desk.run("verify --deep").expect(23);
    desk.run(&format!("verify --offline --head {head}")).expect(23);
    // Nothing in the older state itself tells that it is old.
    desk.run("verify --offline").expect(0).says("freshness not proved");
    desk.run("--no-cache snapshots").expect(0).says("1 snapshot(s)");
    assert_eq!(desk.objects("log").len(), 2, "nothing was written to it");
}

#[test]
fn another_vault_in_its_place_is_exit_code_23() {
    let desk = Desk::with_snapshot();
    fs::rename(desk.path("vault"), desk.path("moved")).unwrap();
    desk.run("--no-cache init --single-slot").expect(0);
    desk.run("backup src").expect(23).says("expected");
    desk.run("verify").expect(23).says("the vault here is");
    desk.run("verify --deep").expect(23);
    desk.run("-V ../moved snapshots").expect(0).says("1 snapshot(s)");
}

#[test]
fn a_lost_index_segment_is_exit_code_24_and_everything_restores() {
    let desk = Desk::with_snapshot();
    fs::remove_file(desk.objects("index").pop().unwrap()).unwrap();
    desk.run("verify").expect(21).says("missing: index/");
    desk.run("restore latest --target ../out").expect(24).says("the vault is damaged").says("coffer verify");
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("out/src")), "restored");
    let message = desk.json("restore latest --target ../again").expect(24).message();
    assert_eq!((&message["degraded"], &message["error_count"]), (&true.into(), &0.into()));
    desk.run("stats").expect(20).says("could not be read");
    desk.run("backup src").expect(0);
    desk.run("restore latest --target ../new").expect(0);
}

#[test]
fn a_lost_header_is_replaced_by_its_copy_in_the_log() {
    let desk = Desk::with_snapshot();
    fs::remove_file(desk.path("vault/vault")).unwrap();
    desk.run("verify").expect(21);
    desk.run("restore latest --target ../out").expect(0);
    desk.run("init --single-slot").expect(1).says("nothing was changed");
}

#[test]
fn a_log_that_is_lost_as_a_whole_is_not_taken_for_an_init_that_was_stopped() {
    let desk = Desk::with_snapshot();
    desk.objects("log").iter().for_each(|record| fs::remove_file(record).unwrap());
    let before = desk.objects("");
    for command in ["snapshots", "init --single-slot"] {
        desk.run(command).expect(23).says("rolled back").says_not("never finished");
        let forgetful = desk.run(&format!("--no-cache {command}")).expect(21);
        forgetful
            .says("the log of the vault")
            .says("is lost")
            .says("delete nothing there")
            .says_not("never finished");
    }
    assert_eq!(desk.objects(""), before, "nothing is begun over what is left");
    desk.run("--no-cache verify").expect(21);
    // A record of a higher number shows it as well.
    let desk = Desk::with_vault();
    let record = desk.objects("log").remove(0);
    fs::rename(&record, record.with_file_name("000000000003")).unwrap();
    desk.run("--no-cache init --single-slot").expect(21);
    desk.run("snapshots").expect(23);
    // Of an init that stopped there is neither, and it is completed.
    let desk = Desk::with_vault();
    fs::remove_file(desk.objects("log").remove(0)).unwrap();
    desk.run("--no-cache snapshots").expect(10).says("begun and never finished");
    desk.run("--no-cache init --single-slot").expect(0).says("completed the vault");
}

#[test]
fn who_only_reads_is_told_that_the_log_is_damaged() {
    let desk = Desk::with_snapshot();
    desk.run("backup --force src").expect(0);
    let record = desk.path("vault/log/000000000001");
    let warning = "the log of this vault is damaged; run `coffer verify`";
    for is_lost in [false, true] {
        fs::remove_file(&record).unwrap();
        if !is_lost {
            fs::write(&record, "junk").unwrap();
        }
        for command in ["snapshots", "stats", "find a", "ls latest", "keys list"] {
            desk.run(&format!("--no-cache {command}")).expect(0).says(warning);
        }
        desk.json("--no-cache snapshots").expect(0).says(warning).says("\"message_type\":\"warning\"");
        let backup = desk.run("--no-cache backup src");
        assert_eq!(backup.err.matches(warning).count(), 1, "{}", backup.err);
    }
}
