//! A tree walked, restored and walked again is the same tree.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use coffer_collect::{
    DirectoryTarget, EntryKind, EntryPath, Lost, Metadata, OwnerRule, SkipReason, SpecialOutcome,
    TargetOptions,
};
use common::{Item, assert_no_temporaries, is_root, name, path, restore, snapshot, try_xattr, unprivileged};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use tempfile::tempdir;

fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn all() -> TargetOptions {
    TargetOptions { privileged_files: true, devices: true, ..TargetOptions::default() }
}

/// Every kind of entry and every oddity that any user can make.
fn build(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("empty"), "").unwrap();
    fs::write(at("plain"), "some content").unwrap();
    fs::write(at("large"), vec![7; 300_000]).unwrap();
    fs::write(root.join(name(b"not \xff utf-8")), "1").unwrap();
    fs::write(at("new\nline\\and\x1b[0m"), "2").unwrap();
    fs::write(root.join("n".repeat(255)), "3").unwrap();
    fs::write(at(".coffer-looks-like.tmp"), "4").unwrap();
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/inner"), "5").unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("/etc/hostname", at("absolute")).unwrap();
    symlink(name(b"odd\xfe\n"), at("sub/odd link")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, 0o640.into(), 0).unwrap();
    set_mode(&at("fifo"), 0o622);
    drop(UnixListener::bind(at("socket")).unwrap());
    fs::hard_link(at("plain"), at("sub/zz another name")).unwrap();
    fs::hard_link(at("plain"), at("z third name")).unwrap();
    symlink("plain", at("linked link")).unwrap();
    fs::hard_link(at("linked link"), at("linked link 2")).unwrap();
    set_mode(&at("empty"), 0o4755);
    set_mode(&at("large"), 0o2711);
    set_mode(&at("plain"), 0o604);
    fs::create_dir(at("sticky")).unwrap();
    set_mode(&at("sticky"), 0o1777);
    try_xattr(&at("plain"), "user.coffer.test", b"value \0 with nul");
    try_xattr(&at("plain"), "user.coffer.empty", b"");
    try_xattr(&at("large"), "user.coffer.big", &[9; 2000]);
    for number in 0..40 {
        try_xattr(&at("large"), &format!("user.coffer.many.{number:03}"), b"x");
    }
    try_xattr(&at("sub"), "user.on.directory", b"yes");
    set_mtime(&at("plain"), -1_234_567, 123_456_789);
    set_mtime(&at("large"), 1_700_000_000, 999_999_999);
    set_mtime(&at("dangling"), 86_400, 5);
    set_mtime(&at("fifo"), 1, 2);
    set_mtime(&at("socket"), 3, 4);
    fs::create_dir_all(at("read only/deeper")).unwrap();
    fs::write(at("read only/deeper/file"), "6").unwrap();
    set_mtime(&at("read only/deeper"), -5, 0);
    set_mode(&at("read only/deeper"), 0o500);
    set_mode(&at("read only"), 0o555);
    set_mtime(&at("read only"), 1_000_000_000, 1);
    set_mtime(&at("sub"), 1_000_000_000, 2);
    set_mode(root, 0o751);
    set_mtime(root, 1_111_111_111, 111);
}

#[track_caller]
fn compare(left: &[Item], right: &[Item]) {
    for (a, b) in left.iter().zip(right) {
        assert_eq!(a, b);
    }
    assert_eq!(left.len(), right.len());
}

/// Restores `items` to `root`, whatever is there, without a warning, and finds the same there.
#[track_caller]
fn assert_restores(items: &[Item], root: &Path) {
    let warnings = restore(items, root, all());
    assert!(warnings.is_empty(), "{warnings:?}");
    compare(&snapshot(root), items);
}

fn allow_removal(root: &Path) {
    for dir in ["read only", "read only/deeper"] {
        set_mode(&root.join(dir), 0o700);
    }
}

fn check_round_trip(dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("missing/to"));
    fs::create_dir(&from).unwrap();
    build(&from);
    let before = snapshot(&from);
    for present in ["fifo", "socket", "read only/deeper/file", "sub/zz another name"] {
        assert!(before.iter().any(|item| item.path == path(present)), "{present}");
    }
    let mtime = |name: &str| before.iter().find(|i| i.path == path(name)).unwrap().metadata.mtime_ns;
    assert_eq!(mtime("plain"), -1_234_567 * 1_000_000_000 + 123_456_789);

    assert_restores(&before, &to);

    // Over what is there, twice the same; and over a tree that was tampered with.
    assert_restores(&before, &to);

    allow_removal(&to);
    fs::remove_file(to.join("empty")).unwrap();
    fs::create_dir(to.join("empty")).unwrap();
    fs::remove_file(to.join("fifo")).unwrap();
    symlink("plain", to.join("fifo")).unwrap();
    fs::remove_dir_all(to.join("sub")).unwrap();
    symlink(&from, to.join("sub")).unwrap();
    fs::remove_dir(to.join("sticky")).unwrap();
    fs::write(to.join("sticky"), "in the way").unwrap();
    fs::write(to.join("plain"), "changed, with its other names").unwrap();
    try_xattr(&to.join("read only"), "user.surplus", b"");
    assert_restores(&before, &to);
    compare(&snapshot(&from), &before);

    for root in [&from, &to] {
        allow_removal(root);
    }
}

#[test]
fn round_trip() {
    let dir = tempdir().unwrap();
    check_round_trip(dir.path());
}

#[test]
fn round_trip_without_privilege() {
    let dir = tempdir().unwrap();
    unprivileged(dir.path(), || check_round_trip(dir.path()));
}

#[test]
fn round_trip_as_root_keeps_owners_devices_and_acls() {
    if !is_root() {
        println!("not tested: owners, devices, capabilities and ACLs, which need root");
        return;
    }
    let dir = tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("d")).unwrap();
    for (number, file) in ["d/a", "d/b", "setuid", "capable"].iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        fs::write(from.join(file), file).unwrap();
        std::os::unix::fs::chown(from.join(file), Some(1000 + number), Some(2000)).unwrap();
    }
    set_mode(&from.join("setuid"), 0o6755);
    symlink("x", from.join("link")).unwrap();
    std::os::unix::fs::lchown(from.join("link"), Some(77), Some(88)).unwrap();
    std::os::unix::fs::chown(from.join("d"), Some(1), Some(2)).unwrap();
    try_xattr(&from.join("link"), "trusted.coffer", b"on a symlink");
    rustix::fs::mknodat(CWD, from.join("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
    try_xattr(&from.join("fifo"), "trusted.coffer", b"on a fifo");
    let null = rustix::fs::makedev(1, 3);
    if let Err(error) =
        rustix::fs::mknodat(CWD, from.join("null"), FileType::CharacterDevice, 0o666.into(), null)
    {
        println!("not tested: devices: {error}");
    }
    // Version 2, CAP_NET_RAW permitted and effective.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    try_xattr(&from.join("capable"), "security.capability", &capability);
    try_xattr(&from.join("d/a"), "system.posix_acl_access", &acl(0o640, 4242));
    try_xattr(&from.join("d"), "system.posix_acl_default", &acl(0o750, 4343));

    let before = snapshot(&from);
    let to = dir.path().join("to");
    assert_restores(&before, &to);

    // Below a directory with a default ACL, nothing inherits it.
    let heir = dir.path().join("heir");
    fs::create_dir(&heir).unwrap();
    if try_xattr(&heir, "system.posix_acl_default", &acl(0o777, 4444)) {
        let below = heir.join("below");
        assert_restores(&before, &below);
        fs::remove_dir_all(&below).unwrap();

        let without_root = &before[1..];
        assert!(restore(without_root, &heir, all()).is_empty());
        let after = snapshot(&heir);
        compare(&after[1..], without_root);
        assert!(after[0].metadata.xattrs.iter().any(|(name, _)| name == b"system.posix_acl_default"));

        assert_restores(&before, &heir);
    }

    // By default, and where the owner is not the recorded one, nothing carries privilege.
    for options in [TargetOptions::default(), TargetOptions { owner: OwnerRule::Never, ..all() }] {
        let to = tempdir().unwrap();
        let mut target = DirectoryTarget::open(to.path(), options).unwrap();
        let mut lost = Vec::new();
        for item in before.iter().filter(|item| ["setuid", "capable"].contains(&&*item.path.to_string())) {
            let warnings = target.file(&item.path).unwrap().finish(&item.metadata).unwrap();
            lost.extend(warnings.into_iter().map(|warning| (warning.path.to_string(), warning.lost)));
        }
        assert!(target.finish().is_empty());
        let capability = b"security.capability".to_vec();
        let had_capability =
            before.iter().any(|i| i.metadata.xattrs.iter().any(|(name, _)| *name == capability));
        let expected_capability =
            had_capability.then(|| ("capable".to_owned(), Lost::Xattr(capability.clone())));
        let expected: Vec<_> =
            expected_capability.into_iter().chain([("setuid".to_owned(), Lost::SetIdBits)]).collect();
        assert_eq!(lost, expected);
        let after = snapshot(to.path());
        assert!(after.iter().all(|item| item.metadata.mode & 0o6000 == 0));
        assert!(after.iter().all(|item| item.metadata.xattrs.iter().all(|(name, _)| *name != capability)));
    }
}

/// An ACL with one named user, as the kernel stores it.
fn acl(mode: u16, user: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    let group = mode >> 3 & 7;
    for (tag, bits, id) in [
        (1u16, mode >> 6, u32::MAX),
        (2, 4, user),
        (4, group, u32::MAX),
        (16, group, u32::MAX),
        (32, mode & 7, u32::MAX),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

#[test]
fn recorded_names_go_before_numbers_unless_told_otherwise() {
    if !is_root() {
        println!("not tested: owners by name, which need root");
        return;
    }
    let metadata = Metadata {
        mode: 0o600,
        uid: 4321,
        gid: 4322,
        user: Some(b"root".to_vec()),
        group: Some(b"no such group".to_vec()),
        ..Metadata::default()
    };
    for (numeric_owner, expected) in [(false, (0, 4322)), (true, (4321, 4322))] {
        let dir = tempdir().unwrap();
        let options = TargetOptions { numeric_owner, ..TargetOptions::default() };
        let mut target = DirectoryTarget::open(dir.path(), options).unwrap();
        assert!(target.file(&path("f")).unwrap().finish(&metadata).unwrap().is_empty());
        assert!(target.finish().is_empty());
        let after = snapshot(dir.path());
        assert_eq!((after[1].metadata.uid, after[1].metadata.gid), expected);
    }
}

#[test]
fn what_needs_privilege_is_a_warning_without_it() {
    let dir = tempdir().unwrap();
    unprivileged(dir.path(), || {
        let to = dir.path().join("to");
        let options = TargetOptions { owner: OwnerRule::Always, ..all() };
        let mut target = DirectoryTarget::open(&to, options).unwrap();
        let metadata = Metadata {
            mode: 0o4755,
            xattrs: vec![(b"trusted.x".to_vec(), b"1".to_vec())],
            device: Some((1, 3)),
            ..Metadata::default()
        };
        let writer = target.file(&path("f")).unwrap();
        let warnings = writer.finish(&metadata).unwrap();
        let lost: Vec<_> = warnings.iter().map(|warning| warning.lost.clone()).collect();
        assert_eq!(lost, [Lost::Owner, Lost::Xattr(b"trusted.x".to_vec()), Lost::SetIdBits]);
        assert_eq!(warnings[0].to_string(), "f: owner and group not applied");
        assert!(matches!(
            target.special(&path("null"), EntryKind::CharDevice, &metadata),
            Ok(SpecialOutcome::Skipped(SkipReason::NotPermitted))
        ));
        drop(target);
        assert_eq!(fs::metadata(to.join("f")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_no_temporaries(&to);
    });
}

#[test]
fn paths_beyond_the_limit_of_one_call() {
    // 30 x 250 bytes is well above the 4096 that a call takes; 120 levels are more than are kept open.
    for (depth, name_len) in [(30, 250), (120, 200)] {
        let dir = tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        let component = "d".repeat(name_len);
        let mut at: OwnedFd = rustix::fs::open(&from, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, &*component, 0o750.into()).unwrap();
            let file =
                rustix::fs::openat(&at, "x last", OFlags::CREATE | OFlags::WRONLY, 0o640.into()).unwrap();
            rustix::io::write(&file, b"deep").unwrap();
            let below = rustix::fs::openat(&at, &*component, OFlags::DIRECTORY, Mode::empty()).unwrap();
            rustix::fs::symlinkat("x", &below, "a link").unwrap();
            at = below;
        }
        let before = snapshot(&from);
        assert_eq!(before.len(), 1 + 3 * depth);
        assert!(before.iter().any(|item| item.path.as_bytes().len() > 4096));
        assert_restores(&before, &to);
        assert_restores(&before, &to);
    }
}

#[test]
fn modes_do_not_depend_on_the_umask_and_missing_parents_are_made() {
    let dir = tempdir().unwrap();
    let to = dir.path().join("to");
    let mut target = DirectoryTarget::open(&to, TargetOptions::default()).unwrap();
    let metadata = Metadata { mode: 0o666, ..Metadata::default() };
    target.file(&path("a/b/file")).unwrap().finish(&metadata).unwrap();
    assert_eq!(fs::metadata(to.join("a")).unwrap().permissions().mode() & 0o7777, 0o700);
    // Metadata that comes after the fact counts, in whatever order.
    target.directory(&path("a"), &Metadata { mode: 0o1733, ..Metadata::default() }).unwrap();
    assert!(target.finish().is_empty());
    let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("."), mode("a"), mode("a/b"), mode("a/b/file")), (0o700, 0o1733, 0o700, 0o666));
}

#[test]
fn holes_are_kept_and_lengths_are_exact() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempdir().unwrap();
    let mut target = DirectoryTarget::open(dir.path(), TargetOptions::default()).unwrap();
    let writer = target.file(&path("sparse")).unwrap();
    writer.write_at(5 << 20, b"middle").unwrap();
    writer.set_len(10 << 20).unwrap();
    writer.finish(&Metadata { mode: 0o600, ..Metadata::default() }).unwrap();
    assert!(target.finish().is_empty());
    let stat = fs::metadata(dir.path().join("sparse")).unwrap();
    assert_eq!(stat.len(), 10 << 20);
    assert!(stat.blocks() * 512 < 1 << 20, "{} blocks", stat.blocks());
}

#[test]
fn the_root_itself_gets_its_metadata() {
    let dir = tempdir().unwrap();
    let mut target = DirectoryTarget::open(dir.path(), TargetOptions::default()).unwrap();
    target
        .directory(&EntryPath::root(), &Metadata { mode: 0o711, mtime_ns: 7, ..Metadata::default() })
        .unwrap();
    target.file(&path("f")).unwrap().finish(&Metadata { mode: 0o600, ..Metadata::default() }).unwrap();
    assert!(target.finish().is_empty());
    let after = snapshot(dir.path());
    assert_eq!((after[0].metadata.mode, after[0].metadata.mtime_ns), (0o711, 7));
}
