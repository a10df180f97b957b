//! What `--delete` leaves alone: mounted file systems, directories to keep, and what the backup could not read.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use coffer_collect::Identity;
use coffer_engine::{RestoreAction, RestoreOptions, RestoreReport, restore};
use coffer_format::tree::{Kind, TreeEntry, TreeRoot};
use coffer_store::MemoryStore;

use super::by_hand::{Writer, entry, inline};
use super::stored::Backup;
use super::typed::{Bench, User, mount_small};
use crate::support::{Quiet, World, assert_same, restore_options, scratch, tree_of};

fn deleting() -> RestoreOptions {
    RestoreOptions { delete: true, ..restore_options() }
}

fn identity(path: &Path) -> Identity {
    let stat = fs::metadata(path).unwrap();
    Identity { dev: stat.dev(), ino: stat.ino() }
}

/// Writes files with these paths, and the directories above them.
fn fill(target: &Path, paths: &[&str]) {
    for path in paths {
        let path = target.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "there").unwrap();
    }
}

/// Restores a snapshot of `entries` that could not read `unread`, nor `more` other paths.
fn restore_incomplete(
    target: &Path,
    entries: &[TreeEntry],
    unread: &[&str],
    more: u64,
    options: &RestoreOptions,
) -> RestoreReport {
    let (world, store) = (World::new(6), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let mut writer = Writer::new(&vault, vault.owner_domain(), 8);
    let root = TreeRoot { chunk: writer.leaf(entries).chunk, height: 0 };
    let signing = vault.keyring.vault_key().unwrap().signing();
    writer.snapshot_of(&mut vault, &signing, root, |manifest| {
        let errors = unread.iter().map(|path| (path.as_bytes().to_vec(), "permission denied".to_owned()));
        manifest.completeness.errors = errors.collect();
        manifest.completeness.error_count = unread.len() as u64 + more;
    });
    let snapshot = vault.select("latest").unwrap();
    restore(&vault, &snapshot, target, options, &mut Quiet).unwrap()
}

#[test]
fn nothing_goes_from_a_directory_to_keep_that_the_snapshot_has() {
    let backup = Backup::of(|src| {
        fs::create_dir_all(src.join("vault/packs")).unwrap();
        fs::write(src.join("vault/name"), "name").unwrap();
    });
    let target = scratch();
    fill(target.path(), &["src/vault/packs/a", "src/vault/header", "src/vault/name/full", "src/surplus"]);
    let keep = vec![identity(&target.path().join("src/vault"))];
    for (within, deleted) in [("src/vault/packs", 0), ("src/vault", 0), ("", 1)] {
        let options = RestoreOptions { keep: keep.clone(), within: within.into(), ..deleting() };
        let dry = RestoreOptions { dry_run: true, ..options.clone() };
        assert_eq!(backup.restore_with(target.path(), &dry).unwrap().deleted_count, deleted, "{within}");
        assert_eq!(backup.restore_with(target.path(), &options).unwrap().deleted_count, deleted, "{within}");
        for path in ["src/vault/packs/a", "src/vault/header", "src/vault/name/full"] {
            assert!(target.path().join(path).exists(), "{path} of {within}");
        }
    }
    assert!(!target.path().join("src/surplus").exists());
}

#[test]
fn nothing_goes_from_a_file_system_mounted_at_a_directory_of_the_snapshot() {
    let bench = Bench::new();
    fs::create_dir_all(bench.work("src/usb")).unwrap();
    fs::write(bench.work("src/a"), "a").unwrap();
    bench.run(["backup", "-x", "src"]).expect(0);
    let Some(small) = mount_small(&bench, "src/usb", "1m") else { return };
    fill(&bench.work("src"), &["usb/precious", "usb/below/precious", "surplus"]);
    let there = || {
        ["usb/precious", "usb/below/precious"].map(|path| bench.work("src").join(path).exists())
            == [true, true]
    };
    let report = bench.restore(&["--target", ".", "--delete"], 0);
    assert_eq!(report["deleted"], 1, "{report}");
    assert!(report["warnings"].to_string().contains("src/usb: nothing was deleted below it"), "{report}");
    assert!(there());
    // Nor does it help to name it: the snapshot has nothing of it.
    let run = bench.run(["restore", "latest:/src/usb", "-t", ".", "--delete"]).expect(0);
    assert!(run.err().contains("src/usb: nothing was deleted below it"), "{}", run.err());
    assert!(there());

    // What is backed up across the border goes only where it is named.
    bench.run(["backup", "src"]).expect(0);
    fill(&bench.work("src"), &["usb/surplus", "usb/below/surplus"]);
    assert_eq!(bench.restore(&["--target", ".", "--delete"], 0)["deleted"], 0);
    bench.run(["restore", "latest:/src/usb", "-t", ".", "--delete"]).expect(0);
    assert!(
        there() && !bench.work("src/usb/surplus").exists() && !bench.work("src/usb/below/surplus").exists()
    );
    drop(small);
}

#[test]
fn nothing_goes_that_the_backup_could_not_read() {
    let directory = |path| entry(path, Kind::Directory);
    let entries = [
        directory("d"),
        directory("d/closed"),
        inline("d/ok", b"ok"),
        directory("d/open"),
        directory("e"),
        inline("e/x", b"x"),
    ];
    let there =
        ["d/closed/secret", "d/closed/deep/secret", "d/failed", "d/surplus", "d/open/surplus", "e/surplus"];
    for (unread, more, gone) in [
        (&["d/closed", "d/failed"][..], 0, &["d/open/surplus", "e/surplus"][..]),
        (&["d"], 0, &["e/surplus"]),
        (&["d/closed"], 1, &[]),
        (&[], 7, &[]),
        (&[""], 0, &[]),
    ] {
        let target = scratch();
        fill(target.path(), &there);
        let dry = RestoreOptions { dry_run: true, ..deleting() };
        for options in [dry, deleting()] {
            let report = restore_incomplete(target.path(), &entries, unread, more, &options);
            assert_eq!(report.errors, []);
            assert_eq!(report.deleted_count, gone.len() as u64, "{unread:?} and {more}");
            assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
            let words = if more > 0 { "nothing was deleted: " } else { "the snapshot is incomplete: " };
            assert!(report.warnings[0].starts_with(words), "{:?}", report.warnings);
        }
        for path in there {
            assert_eq!(target.path().join(path).exists(), !gone.contains(&path), "{path} of {unread:?}");
        }
    }
}

#[test]
fn what_an_ordinary_user_could_not_back_up_is_not_deleted() {
    let Some(bench) = Bench::of(User::Nobody) else { return };
    fill(&bench.work("src"), &["closed/secret", "open/a"]);
    let chmod =
        |mode| fs::set_permissions(bench.work("src/closed"), fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o000);
    for path in ["src", "src/closed", "src/closed/secret", "src/open", "src/open/a"] {
        std::os::unix::fs::chown(bench.work(path), Some(65534), Some(65534)).unwrap();
    }
    bench.run(["backup", "src"]).expect(3);
    chmod(0o700);
    let report = bench.restore(&["--target", ".", "--delete"], 0);
    assert_eq!(report["deleted"], 0, "{report}");
    assert!(bench.work("src/closed/secret").exists());
}

#[test]
fn a_directory_stays_where_a_device_is_not_made() {
    let mut device = entry("null", Kind::CharDevice);
    device.device = Some((1, 3));
    let target = scratch();
    fill(target.path(), &["null/full"]);
    let dry = RestoreOptions { dry_run: true, ..deleting() };
    for options in [dry, deleting()] {
        let report = restore_incomplete(target.path(), std::slice::from_ref(&device), &[], 0, &options);
        assert_eq!((report.deleted_count, report.skipped_count), (0, 1), "{report:?}");
        assert!(report.warnings[0].contains("null: skipped"), "{:?}", report.warnings);
        assert!(target.path().join("null/full").exists());
    }
}

#[test]
fn a_full_directory_gives_way_to_a_hard_link() {
    let backup = Backup::of(|src| {
        fs::write(src.join("first"), "content").unwrap();
        fs::hard_link(src.join("first"), src.join("twin")).unwrap();
    });
    let target = scratch();
    fill(target.path(), &["src/twin/full/of", "src/twin/things"]);
    let dry = RestoreOptions { dry_run: true, ..deleting() };
    assert_eq!(backup.restore_with(target.path(), &dry).unwrap().deleted_count, 4);
    let report = backup.restore_with(target.path(), &deleting()).unwrap();
    assert_eq!((&report.errors[..], report.deleted_count), (&[][..], 4));
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "in its place");
    let (_, actions) = backup.watch(target.path(), &deleting());
    assert_eq!(actions.of(RestoreAction::Unchanged), ["src", "src/first", "src/twin"]);
}
