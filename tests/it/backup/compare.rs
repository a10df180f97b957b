//! What a file is compared by.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use coffer_engine::{BackupOptions, BackupReport};

use super::{Site, copy_mtime, entries};
use crate::support::{assert_restores, backup_options, noise, tree_of};

const LEN: usize = 20_000;

/// A source with one file, and a vault.
fn one_file() -> Site {
    Site::new(&[("f", 1)], LEN)
}

impl Site {
    fn file(&self) -> std::path::PathBuf {
        self.source().join("f")
    }

    fn options(&self, ignore_inode: bool, ignore_ctime: bool) -> BackupOptions {
        BackupOptions { ignore_inode, ignore_ctime, ..backup_options(&self.source()) }
    }

    fn backup(&self, options: &BackupOptions) -> BackupReport {
        self.world.backup_with(&self.store, options).unwrap()
    }

    #[track_caller]
    fn reads(&self, options: &BackupOptions, expected: bool) {
        let read = self.backup(options).manifest.statistics.read_bytes;
        assert_eq!(read, if expected { LEN as u64 } else { 0 });
    }

    /// Puts a copy of the file in its place.
    fn replace(&self, content: &[u8]) {
        let copy = self.place.path().join("copy");
        fs::write(&copy, content).unwrap();
        copy_mtime(&self.file(), &copy);
        fs::rename(copy, self.file()).unwrap();
    }
}

#[test]
fn size_and_time_decide_if_inode_and_ctime_are_ignored() {
    let site = one_file();
    site.reads(&site.options(false, false), true);
    site.reads(&site.options(false, false), false);
    site.replace(&noise(1, LEN));
    // Both differ now; ignoring one of them does not help.
    let both = site.options(true, true);
    site.reads(&both, false);
    site.replace(&noise(1, LEN));
    site.reads(&site.options(true, false), true);
    site.replace(&noise(1, LEN));
    site.reads(&site.options(false, true), true);
    site.replace(&noise(1, LEN));
    site.reads(&site.options(false, false), true);
    // It is as blind as it says: same size, same time, other content. Without the flags it is seen.
    site.replace(&noise(2, LEN));
    site.reads(&both, false);
    site.reads(&site.options(false, false), true);
    assert_restores(&site.world, &site.store, "latest", &tree_of(&site.source()), "in the end");
}

#[test]
fn a_change_of_the_inode_alone_can_be_ignored() {
    let site = one_file();
    let options = site.options(false, true);
    site.reads(&options, true);
    let touch = |mode| fs::set_permissions(site.file(), PermissionsExt::from_mode(mode)).unwrap();
    let mode = fs::metadata(site.file()).unwrap().mode();
    touch(0o600);
    touch(mode);
    site.reads(&options, false);
    // Metadata is never taken on trust where ctime does not count.
    if rustix::fs::setxattr(site.file(), "user.colour", b"blue", rustix::fs::XattrFlags::empty()).is_ok() {
        site.reads(&options, false);
        assert!(entries(&site.world, &site.store).iter().any(|entry| entry.xattrs.is_some()));
    } else {
        println!("skipped: no user attributes here");
    }
    touch(0o600);
    touch(mode);
    site.reads(&site.options(false, false), true);
}

/// Two files made within one tick of the clock differ in nothing but their inodes.
#[test]
fn another_inode_alone_can_be_ignored() {
    let site = one_file();
    let place = site.place.path();
    let twins = ["one", "two"].map(|name| place.join(name));
    twins.iter().for_each(|twin| fs::create_dir_all(twin.join("d")).unwrap());
    let stamp = |dir: &Path| {
        let of =
            |path: &Path| fs::metadata(path).map(|m| (m.ctime(), m.ctime_nsec(), m.mtime_nsec())).unwrap();
        (of(&dir.join("d")), of(&dir.join("d/f")))
    };
    let made = (0..10_000).any(|_| {
        twins.iter().for_each(|twin| drop(fs::remove_file(twin.join("d/f"))));
        twins.iter().for_each(|twin| fs::write(twin.join("d/f"), noise(3, LEN)).unwrap());
        stamp(&twins[0]) == stamp(&twins[1])
    });
    if !made {
        println!("skipped: the clock of this file system is too fine");
        return;
    }
    let here = place.join("here");
    let point_to = |twin: &Path| {
        drop(fs::remove_file(&here));
        symlink(twin, &here).unwrap();
    };
    // A symlink above the source is followed, so the same paths lead to other inodes.
    let options =
        |ignore_inode| BackupOptions { sources: vec!["here/d".into()], ..site.options(ignore_inode, false) };
    point_to(&twins[0]);
    site.reads(&options(true), true);
    site.reads(&options(true), false);
    point_to(&twins[1]);
    site.reads(&options(true), false);
    site.reads(&options(false), true);
    point_to(&twins[0]);
    site.reads(&options(false), true);
}

#[test]
fn the_parent_can_be_chosen() {
    let site = one_file();
    let options = site.options(false, false);
    let first = site.backup(&options);
    fs::write(site.file(), noise(2, LEN)).unwrap();
    let second = site.backup(&options);
    assert_eq!(second.manifest.parent, Some(first.snapshot));
    let chosen = |id: &coffer_format::id::SnapshotId| {
        Some(site.world.open(&site.store).unwrap().select(&id.to_string()).unwrap())
    };
    // Of the first nothing is remembered any more, so all is read; size and time could decide, but the time differs.
    let options = BackupOptions { parent: chosen(&first.snapshot), ..options };
    let third = site.backup(&options);
    assert_eq!(third.manifest.parent, Some(first.snapshot));
    assert_eq!(
        (third.manifest.root, third.manifest.statistics.read_bytes),
        (second.manifest.root, LEN as u64)
    );
    // What is remembered of the chosen one counts, whatever else is backed up with it.
    let wider = BackupOptions {
        sources: vec!["src".into(), "src/f".into()],
        parent: chosen(&third.snapshot),
        ..options.clone()
    };
    let fourth = site.backup(&wider);
    assert_eq!((fourth.manifest.parent, fourth.manifest.statistics.read_bytes), (Some(third.snapshot), 0));
    // Unless it is told to read everything.
    let forced = site.backup(&BackupOptions { force: true, ..wider });
    assert_eq!((forced.manifest.parent, forced.manifest.statistics.read_bytes), (None, LEN as u64));
}

/// The directory in which a backup is started does not matter to sources that are given whole.
#[test]
fn absolute_sources_are_remembered_wherever_one_stands() {
    let site = one_file();
    let source = site.source();
    let mut options = BackupOptions { sources: vec![source], ..site.options(false, false) };
    site.reads(&options, true);
    options.working_directory = "/".into();
    site.reads(&options, false);
}
