//! Parts of a snapshot, and targets that are not empty.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use coffer_engine::{EngineError, RestoreOptions};

use super::stored::Backup;
use crate::support::{Body, Tree, assert_same, noise, restore_options, scratch, tree_of};

fn standard() -> Backup {
    Backup::of(|src| {
        fs::create_dir_all(src.join("dir/deep")).unwrap();
        fs::write(src.join("dir/a"), noise(1, 9_000)).unwrap();
        fs::write(src.join("dir/deep/b"), "b").unwrap();
        fs::write(src.join("dir.txt"), "not below dir").unwrap();
        fs::write(src.join("dira"), "nor this").unwrap();
        fs::write(src.join("other"), noise(2, 5_000)).unwrap();
    })
}

/// What of `tree` a restore of the part `within` gives.
fn part(tree: &Tree, within: &str) -> Tree {
    let is_part = |path: &str| {
        let below = |path: &str, folder: &str| {
            folder.is_empty() || path == folder || path.starts_with(&format!("{folder}/"))
        };
        below(path, within) || below(within, path)
    };
    let named = tree.iter().filter(|(path, _)| is_part(std::str::from_utf8(path).unwrap()));
    named.map(|(path, item)| (path.clone(), item.clone())).collect()
}

#[test]
fn a_part_comes_with_the_directories_above_it() {
    let backup = standard();
    let whole = tree_of(&backup.source());
    for within in ["dir", "dir/deep", "dir/deep/b", "dir/a", "other", "dir.txt"] {
        let target = scratch();
        let report = backup.restore_within(target.path(), &format!("src/{within}")).unwrap();
        assert_eq!((&report.errors[..], &report.warnings[..]), (&[][..], &[][..]));
        let restored = tree_of(&target.path().join("src"));
        assert_same(&part(&whole, within), &restored, within);
        assert_eq!(report.entry_count, restored.len() as u64);
    }
    let target = scratch();
    backup.restore_within(target.path(), "src").unwrap();
    assert_same(&whole, &tree_of(&target.path().join("src")), "src");
}

#[test]
fn a_part_that_is_not_there_is_named() {
    let backup = standard();
    for within in ["nothing", "src/di", "src/dir/deep/b/c", "sr", "src/other/x", "zzz"] {
        let target = scratch();
        let error = backup.restore_within(&target.path().join("target"), within).unwrap_err();
        assert!(matches!(&error, EngineError::NoPath { path } if path == within), "{error}");
    }
}

#[test]
fn what_is_there_gives_way_and_what_is_not_in_the_snapshot_stays() {
    let backup = standard();
    let (target, outside) = (scratch(), scratch());
    let src = target.path().join("src");
    fs::create_dir_all(src.join("dir.txt")).unwrap();
    fs::write(src.join("other"), "changed, and longer than before".repeat(400)).unwrap();
    fs::write(src.join("kept"), "kept").unwrap();
    fs::write(src.join("dir"), "a file where a directory belongs").unwrap();
    fs::write(outside.path().join("canary"), "canary").unwrap();
    symlink(outside.path().join("canary"), src.join("dira")).unwrap();
    for _ in 0..2 {
        let report = backup.restore_with(target.path(), &restore_options()).unwrap();
        assert_eq!((&report.errors[..], &report.warnings[..]), (&[][..], &[][..]));
        let mut restored = tree_of(&src);
        let kept = restored.remove(&b"kept"[..]).unwrap();
        assert_eq!(kept.body, Body::File(b"kept".to_vec()));
        assert_same(&tree_of(&backup.source()), &restored, "over what was there");
    }
    assert_eq!(fs::read(outside.path().join("canary")).unwrap(), b"canary");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_symlink_where_a_directory_belongs_is_not_followed() {
    let backup = standard();
    let (target, outside) = (scratch(), scratch());
    fs::create_dir(target.path().join("src")).unwrap();
    symlink(outside.path(), target.path().join("src/dir")).unwrap();
    let report = backup.restore_with(target.path(), &restore_options()).unwrap();
    assert_eq!(report.errors, []);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "in its place");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was written through it");
}

#[test]
fn a_full_directory_where_a_file_belongs_is_an_error_of_that_file() {
    let backup = standard();
    let target = scratch();
    fs::create_dir_all(target.path().join("src/other/full")).unwrap();
    let report = backup.restore_with(target.path(), &restore_options()).unwrap();
    let [(path, message)] = &report.errors[..] else { panic!("{:?}", report.errors) };
    assert_eq!(path, "src/other");
    assert!(message.contains("directory"), "{message}");
    assert!(!report.degraded, "the vault is not damaged");
    let (mut expected, mut restored) = (tree_of(&backup.source()), tree_of(&target.path().join("src")));
    expected.remove(&b"other"[..]);
    restored.retain(|path, _| !path.starts_with(b"other"));
    assert_same(&expected, &restored, "all else");
}

fn linked() -> Backup {
    Backup::of(|src| {
        fs::create_dir_all(src.join("first")).unwrap();
        fs::create_dir_all(src.join("second")).unwrap();
        fs::write(src.join("first/file"), noise(4, 7_000)).unwrap();
        fs::hard_link(src.join("first/file"), src.join("first/link")).unwrap();
        fs::hard_link(src.join("first/file"), src.join("second/one")).unwrap();
        fs::hard_link(src.join("first/file"), src.join("second/two")).unwrap();
        symlink("nowhere", src.join("first/symlink")).unwrap();
        fs::hard_link(src.join("first/symlink"), src.join("second/symlink")).unwrap();
    })
}

#[test]
fn a_hard_link_whose_first_path_is_elsewhere_is_restored_with_its_content() {
    let backup = linked();
    let target = scratch();
    let report = backup.restore_within(target.path(), "src/second").unwrap();
    assert_eq!((&report.errors[..], &report.warnings[..]), (&[][..], &[][..]));
    let second = target.path().join("src/second");
    for name in ["one", "two"] {
        assert_eq!(fs::read(second.join(name)).unwrap(), noise(4, 7_000), "{name}");
    }
    let inode = |name: &str| fs::symlink_metadata(second.join(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("two"), "links of one file stay links of one file");
    assert_eq!(fs::read_link(second.join("symlink")).unwrap(), Path::new("nowhere"));
    assert!(!target.path().join("src/first").exists());
}

#[test]
fn hard_links_are_links_again() {
    let backup = linked();
    let target = scratch();
    for _ in 0..2 {
        let report = backup.restore_with(target.path(), &restore_options()).unwrap();
        assert_eq!(report.errors, []);
        assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "with links");
    }
}

#[test]
fn a_hard_link_to_a_file_that_was_lost_is_not_made_to_an_older_file() {
    let backup = linked();
    for name in backup.store.names() {
        // The data pack is the one that is no meta pack: only without it is the file lost and the tree whole.
        if name.starts_with("packs/") {
            let bytes = backup.store.remove_raw(&name).unwrap();
            let target = scratch();
            let first = target.path().join("src/first");
            fs::create_dir_all(&first).unwrap();
            fs::write(first.join("file"), "what was there before").unwrap();
            let report = backup.restore_with(target.path(), &restore_options()).unwrap();
            assert!(!report.errors.is_empty() && report.degraded);
            for link in ["src/first/link", "src/second/one", "src/second/two"] {
                assert!(!target.path().join(link).exists(), "{link}: {:?}", report.errors);
                let named = report.errors.iter().any(|(path, _)| path == link || path.starts_with("entries"));
                assert!(named || report.errors.iter().any(|(path, _)| path == "all entries"), "{link}");
            }
            assert_eq!(fs::read(first.join("file")).unwrap(), b"what was there before");
            backup.store.insert_raw(name, bytes);
        }
    }
}

#[test]
fn any_number_of_workers_and_few_open_files_restore_the_same() {
    let backup = Backup::of(|src| {
        for directory in 0..12_u64 {
            let directory_path = src.join(format!("d{directory}"));
            fs::create_dir(&directory_path).unwrap();
            for file in 0..25_u64 {
                let seed = directory * 100 + file;
                let len = usize::try_from(seed * 37 % 9_000).unwrap();
                fs::write(directory_path.join(format!("f{file}")), noise(seed % 40, len)).unwrap();
            }
        }
    });
    let expected = tree_of(&backup.source());
    for worker_count in [0, 1, 2, 4, 9] {
        let target = scratch();
        let options = RestoreOptions { worker_count, open_file_count_max: 64, ..restore_options() };
        let report = backup.restore_with(target.path(), &options).unwrap();
        assert_eq!((&report.errors[..], &report.warnings[..]), (&[][..], &[][..]));
        assert_eq!(report.file_count, 300);
        assert_same(&expected, &tree_of(&target.path().join("src")), &format!("{worker_count} workers"));
    }
}
