//! Files that are there in part: only what they lack is fetched, and they appear whole.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use coffer_engine::{Overwrite, RestoreAction, RestoreOptions, RestoreReport};
use coffer_format::header::ChunkerSpec;

use super::stored::Backup;
use crate::support::{assert_same, noise, restore_options, scratch, tree_of};

const LEN: usize = 6_000_000;

/// A frame of this backup, sealed: what is fetched at the least.
const FRAME: u64 = (4 << 20) + 4096;

/// One file of several thousand chunks, in two frames.
fn large() -> Backup {
    Backup::of(|src| fs::write(src.join("file"), noise(7, LEN)).unwrap())
}

fn in_place() -> RestoreOptions {
    RestoreOptions { in_place: true, ..restore_options() }
}

/// Restores over a file with this content, and checks that it is right afterwards.
#[track_caller]
fn over(backup: &Backup, content: &[u8], options: &RestoreOptions) -> RestoreReport {
    let target = scratch();
    let file = target.path().join("src/file");
    fs::create_dir(target.path().join("src")).unwrap();
    fs::write(&file, content).unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    let (report, _) = backup.watch(target.path(), options);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "over it");
    let kept = fs::metadata(&file).unwrap().ino() == inode;
    let untouched = content == fs::read(backup.source().join("file")).unwrap();
    assert_eq!(kept, options.in_place || untouched, "made anew unless told otherwise");
    report
}

#[test]
fn only_chunks_that_differ_are_fetched_and_written() {
    let backup = large();
    let whole = fs::read(backup.source().join("file")).unwrap();
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        edit(&mut bytes);
        bytes
    };
    let fresh = scratch();
    let (fresh, _) = backup.watch(fresh.path(), &restore_options());
    assert_eq!((fresh.written_bytes, fresh.reused_bytes), (LEN as u64, 0));
    assert!(fresh.fetched_bytes >= LEN as u64);

    // The longest chunk has 4096 bytes: this is what one byte costs at most.
    const CHUNK: u64 = 4096;
    for options in [restore_options(), in_place()] {
        for (content, touched) in [
            (edited(&|_| {}), 0),
            (edited(&|bytes| bytes[0] ^= 1), 1),
            (edited(&|bytes| bytes[LEN - 1] ^= 1), 1),
            (edited(&|bytes| [5, 2_500_000, 5_999_000].iter().for_each(|at| bytes[*at] ^= 1)), 3),
            (edited(&|bytes| bytes.extend(noise(9, 50_000))), 0),
            (edited(&|bytes| bytes.truncate(LEN - 10)), 1),
        ] {
            let report = over(&backup, &content, &options);
            let written = report.written_bytes;
            assert!(written <= touched * CHUNK, "{written} bytes for {touched} changes");
            assert_eq!(written == 0, touched == 0);
            assert_eq!(report.reused_bytes + written, LEN as u64);
            assert!(report.fetched_bytes <= touched * FRAME, "{} fetched", report.fetched_bytes);
            assert_eq!(report.fetched_bytes == 0, touched == 0);
        }
        // Half of it, and nothing of it.
        let half = over(&backup, &whole[..LEN / 2], &options);
        assert!(half.written_bytes <= (LEN / 2) as u64 + CHUNK, "{}", half.written_bytes);
        let none = over(&backup, &noise(11, LEN), &options);
        assert_eq!((none.written_bytes, none.reused_bytes), (LEN as u64, 0));
        assert_eq!(over(&backup, b"", &options).written_bytes, LEN as u64);
    }
}

#[test]
fn holes_are_compared_and_made_again() {
    let backup = Backup::of(|src| {
        let file = fs::File::create(src.join("file")).unwrap();
        file.write_all_at(&noise(1, 10_000), 0).unwrap();
        file.write_all_at(&noise(2, 10_000), 1 << 20).unwrap();
        file.set_len(4 << 20).unwrap();
    });
    let whole = fs::read(backup.source().join("file")).unwrap();
    for options in [restore_options(), in_place()] {
        let mut dirty = whole.clone();
        dirty[500_000] = 1;
        dirty[3 << 20] = 1;
        assert_eq!(over(&backup, &dirty, &options).written_bytes, 0, "zeros are not fetched");
        over(&backup, &whole[..(1 << 20) + 5], &options);
        over(&backup, &[&whole[..], b"more"].concat(), &options);
    }
    // Where it is found right, it is not written, whether its zeros take room or not.
    assert_eq!(over(&backup, &whole, &restore_options()).written_bytes, 0);
}

#[test]
fn zeros_become_holes_on_request() {
    // Chunks of the usual size: in place only whole blocks of zeros within one become holes.
    let usual = ChunkerSpec::Pcc { min: 524_288, bits: 20, max: 8_388_608 };
    let backup = Backup::cut_by(usual, |src| {
        let mut bytes = vec![0; 2 << 20];
        bytes[..5_000].copy_from_slice(&noise(1, 5_000));
        bytes[1_000_000..1_005_000].copy_from_slice(&noise(2, 5_000));
        fs::write(src.join("file"), bytes).unwrap();
        fs::write(src.join("zeros"), vec![0; 300_000]).unwrap();
        fs::write(src.join("short"), vec![0; 1_000]).unwrap();
    });
    let blocks =
        |target: &Path, name: &str| fs::metadata(target.join("src").join(name)).unwrap().blocks() * 512;
    let (plain, sparse, dirty) = (scratch(), scratch(), scratch());
    backup.watch(plain.path(), &restore_options());
    let mut options = restore_options();
    options.target.sparse = true;
    backup.watch(sparse.path(), &options);
    fs::create_dir(dirty.path().join("src")).unwrap();
    fs::write(dirty.path().join("src/file"), noise(3, 2 << 20)).unwrap();
    fs::write(dirty.path().join("src/zeros"), noise(4, 300_000)).unwrap();
    backup.watch(dirty.path(), &RestoreOptions { in_place: true, ..options });
    let whole = tree_of(&backup.source());
    for target in [&plain, &sparse, &dirty] {
        assert_same(&whole, &tree_of(&target.path().join("src")), "the same bytes");
    }
    assert!(blocks(plain.path(), "file") >= 2 << 20);
    for target in [&sparse, &dirty] {
        assert!(blocks(target.path(), "file") < 100_000, "{}", blocks(target.path(), "file"));
        // What is left of a block at the end of a file may take one.
        assert!(blocks(target.path(), "zeros") <= 4096);
    }
}

#[test]
fn a_file_that_others_have_a_hold_on_is_made_anew() {
    let backup = large();
    let outside = scratch();
    for options in [restore_options(), in_place()] {
        // It has another name, outside the target.
        let target = scratch();
        let file = target.path().join("src/file");
        fs::create_dir(target.path().join("src")).unwrap();
        let mut content = noise(7, LEN);
        content[1] ^= 1;
        let other = outside.path().join("other");
        drop(fs::remove_file(&other));
        fs::write(&other, &content).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o604)).unwrap();
        fs::hard_link(&other, &file).unwrap();
        let before = tree_of(outside.path());
        let (report, _) = backup.watch(target.path(), &options);
        assert!(report.written_bytes <= 4096);
        assert_same(&before, &tree_of(outside.path()), "the other name leads to the other content");
        assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "restored");

        // Of the right content, with the wrong metadata.
        fs::remove_file(&file).unwrap();
        fs::write(&other, noise(7, LEN)).unwrap();
        fs::hard_link(&other, &file).unwrap();
        let before = tree_of(outside.path());
        let (report, _) = backup.watch(target.path(), &options);
        assert_eq!((report.written_bytes, report.fetched_bytes), (0, 0));
        assert_same(&before, &tree_of(outside.path()), "not its metadata either");

        // Others could write to it, and could still do so if they have it open.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let inode = fs::metadata(&file).unwrap().ino();
        let (report, _) = backup.watch(target.path(), &options);
        assert_eq!(report.fetched_bytes, 0);
        assert_ne!(fs::metadata(&file).unwrap().ino(), inode);
        assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "restored");
    }
}

#[test]
fn a_file_that_an_acl_opens_to_others_is_made_anew() {
    // As Linux keeps it: the owner, user 12345, the group, the mask, others.
    let acl = [
        (1_u16, 6_u16, u32::MAX),
        (2, 6, 12_345),
        (4, 6, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 0, u32::MAX),
    ];
    let entries = acl.iter().flat_map(|(tag, bits, id)| {
        [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    let acl: Vec<u8> = 2_u32.to_le_bytes().into_iter().chain(entries).collect();
    let backup = Backup::of(|src| {
        fs::write(src.join("file"), noise(7, 9_000)).unwrap();
        // The group may write: in a file with an ACL this stands for the mask.
        fs::set_permissions(src.join("file"), fs::Permissions::from_mode(0o660)).unwrap();
    });
    for options in [restore_options(), in_place()] {
        let target = scratch();
        backup.watch(target.path(), &options);
        let file = target.path().join("src/file");
        let inode = fs::metadata(&file).unwrap().ino();
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&file, "system.posix_acl_access", &acl, flags).is_err() {
            println!("skipped: there are no ACLs here");
            return;
        }
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o660);
        let (report, actions) = backup.watch(target.path(), &options);
        assert_eq!(actions.of(RestoreAction::Update), ["src/file"]);
        assert_eq!(report.fetched_bytes, 0);
        assert_ne!(fs::metadata(&file).unwrap().ino(), inode, "whoever has it open writes to another file");
        assert!(rustix::fs::getxattr(&file, "system.posix_acl_access", &mut [0; 256][..]).is_err());
        assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "restored");
    }
}

#[test]
fn metadata_alone_is_corrected_without_writing() {
    let backup = large();
    let target = scratch();
    backup.watch(target.path(), &restore_options());
    let file = target.path().join("src/file");
    let inode = fs::metadata(&file).unwrap().ino();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let (report, actions) = backup.watch(target.path(), &restore_options());
    assert_eq!(actions.of(RestoreAction::Update), ["src/file"]);
    assert_eq!((report.written_bytes, report.fetched_bytes), (0, 0));
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "as it was");
}

#[test]
fn what_was_restored_is_read_back_on_request() {
    let backup = Backup::of(|src| {
        fs::write(src.join("a"), noise(1, 20_000)).unwrap();
        fs::hard_link(src.join("a"), src.join("b")).unwrap();
        fs::write(src.join("inline"), "inline").unwrap();
        fs::write(src.join("empty"), "").unwrap();
    });
    let verify = RestoreOptions { verify: true, ..restore_options() };
    let target = scratch();
    let (report, _) = backup.watch(target.path(), &verify);
    assert_eq!((report.verified_count, report.mismatch_count), (3, 0));

    // A file that looks right from outside is believed under this policy, and found out here.
    let file = target.path().join("src/a");
    let stat = fs::metadata(&file).unwrap();
    let modified = stat.modified().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[17_000] ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    let trusting = RestoreOptions { overwrite: Overwrite::IfChanged, ..verify.clone() };
    let report = backup.restore_with(target.path(), &trusting).unwrap();
    let [(path, message)] = &report.errors[..] else { panic!("{:?}", report.errors) };
    assert_eq!(path, "src/a");
    assert!(message.contains("read back is not what the snapshot holds"), "{message}");
    assert_eq!((report.verified_count, report.mismatch_count), (3, 1));

    // What the policy leaves alone is not what was restored.
    let never = RestoreOptions { overwrite: Overwrite::Never, ..verify.clone() };
    let report = backup.restore_with(target.path(), &never).unwrap();
    assert_eq!((report.errors.len(), report.verified_count), (0, 0));
    let report = backup.restore_with(target.path(), &verify).unwrap();
    assert_eq!((report.errors.len(), report.verified_count), (0, 3));
}
