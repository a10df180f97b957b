//! Archives, unpacked by the programs that users have: GNU tar, Python and unzip.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coffer_collect::{ArchiveWriter, TarArchive, ZipArchive};
use coffer_engine::{DumpReport, EngineError, dump};
use coffer_format::tree::{Kind, TreeRoot};
use coffer_store::{MemoryStore, ObjectKey, ObjectStore};
use tempfile::TempDir;

use crate::restore::by_hand::{Writer, entry, inline};
use crate::support::{World, backup_options, has_program, noise, scratch};

/// What tells one entry from another, everything that a tar archive keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    content: Vec<u8>,
    device: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path that is the same file.
    first: Option<PathBuf>,
    is_sparse: bool,
}

/// Everything at and below a directory.
fn facts_of(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    // Sorted, so that the first path of a file is the same everywhere.
    while let Some(path) = open.pop() {
        let place = root.join(&path);
        let stat = fs::symlink_metadata(&place).unwrap();
        let kind = stat.file_type();
        let content = if kind.is_file() {
            fs::read(&place).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(&place).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let first = (!kind.is_dir() && stat.nlink() > 1)
            .then(|| inodes.entry(stat.ino()).or_insert_with(|| path.clone()).clone());
        let facts = Facts {
            kind: format!("{kind:?}"),
            mode: stat.mode() & 0o7777,
            owner: (stat.uid(), stat.gid()),
            mtime: (stat.mtime(), stat.mtime_nsec()),
            content,
            device: if kind.is_char_device() || kind.is_block_device() { stat.rdev() } else { 0 },
            xattrs: xattrs_of(&place),
            first,
            is_sparse: kind.is_file() && stat.blocks() * 512 < stat.len(),
        };
        if kind.is_dir() {
            let mut below: Vec<_> =
                fs::read_dir(&place).unwrap().map(|entry| path.join(entry.unwrap().file_name())).collect();
            below.sort_by(|a, b| b.cmp(a));
            open.extend(below);
        }
        found.insert(path, facts);
    }
    found
}

fn xattrs_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(path, CString::new(name).unwrap(), &mut value[..]).unwrap();
        value[..len].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// An ACL as Linux keeps it: the owner, a user, the group, the mask, others.
fn acl(user: u32, bits: u16) -> Vec<u8> {
    let entry = |tag: u16, bits: u16, id: u32| {
        [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 6, u32::MAX),
        entry(2, bits, user),
        entry(4, 4, u32::MAX),
        entry(0x10, 7, u32::MAX),
        entry(0x20, 0, u32::MAX),
    ]
    .concat()
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A file of which only these pieces are data.
fn write_sparse(path: &Path, len: u64, pieces: &[(u64, &[u8])]) {
    let mut file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for (offset, bytes) in pieces {
        file.seek(SeekFrom::Start(*offset)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

/// What every archive can hold.
fn grow_plain(src: &Path) {
    fs::create_dir_all(src.join("d/deep")).unwrap();
    fs::write(src.join("empty"), "").unwrap();
    fs::write(src.join("small"), "a small file\n").unwrap();
    fs::write(src.join("d/block"), noise(1, 512)).unwrap();
    fs::write(src.join("d/some"), noise(2, 70_001)).unwrap();
    fs::write(src.join("d/deep/text"), "again and again ".repeat(5000)).unwrap();
    fs::write(src.join("d/\u{e4}\u{f6}\u{fc} \u{65e5}\u{672c}"), "a name that is not ASCII").unwrap();
    fs::set_permissions(src.join("small"), PermissionsExt::from_mode(0o751)).unwrap();
    symlink("../small", src.join("d/link")).unwrap();
    set_time(&src.join("small"), 1_600_000_000, 0);
}

/// What is hard to keep.
fn grow(src: &Path) {
    grow_plain(src);
    // Names: longer than a header's fields, not UTF-8, with what means something elsewhere.
    let long = "n".repeat(200);
    let folder = src.join(&long).join(&long);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&long), "far down").unwrap();
    fs::write(src.join("n".repeat(96)), "exactly as long as the field").unwrap();
    fs::write(src.join("n".repeat(97)), "one more").unwrap();
    symlink("t".repeat(300), src.join("far link")).unwrap();
    let odd = src.join(OsStr::from_bytes(b"\xff\xfe\n\\odd="));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join(OsStr::from_bytes(b"\x80file")), "not UTF-8").unwrap();
    fs::write(odd.join(OsStr::from_bytes(&[b'\x81'; 150])), "long and not UTF-8").unwrap();
    symlink(OsStr::from_bytes(b"\xffnowhere"), odd.join("link")).unwrap();
    // Times: before 1970, to the nanosecond, far away.
    for (name, seconds, nanos) in
        [("before", -5, 250_000_000), ("ns", 1_700_000_000, 123_456_789), ("later", 9_000_000_000, 1)]
    {
        fs::write(src.join(name), name).unwrap();
        set_time(&src.join(name), seconds, nanos);
    }
    // Holes.
    let data = noise(3, 4096);
    write_sparse(&src.join("hole first"), 1_000_000, &[(900_000 / 4096 * 4096, &data)]);
    write_sparse(&src.join("hole last"), 3_000_001, &[(0, &data)]);
    write_sparse(&src.join("all hole"), 1 << 20, &[]);
    write_sparse(&src.join("many"), 64 << 20, &[(1 << 20, &data), (9 << 20, &data), (40 << 20, &data)]);
    // Hard links, of files and of others; modes; special files.
    fs::hard_link(src.join("d/some"), src.join("twin of some")).unwrap();
    fs::hard_link(src.join("many"), src.join("twin of many")).unwrap();
    fs::hard_link(src.join("d/link"), src.join("twin of link")).unwrap();
    fs::write(src.join("special mode"), "x").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, src.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0)
        .unwrap();
    // Attributes.
    fs::write(src.join("attributes"), "x").unwrap();
    set_xattr(&src.join("attributes"), "user.plain", b"value");
    set_xattr(&src.join("attributes"), "user.a=b%c", b"\0\n=\xff");
    set_xattr(&src.join("attributes"), "user.empty", b"");
    set_xattr(&src.join("attributes"), "user.long", &noise(4, 3000));
    set_xattr(&src.join("d"), "user.of a directory", b"1");
    set_xattr(&src.join("attributes"), "system.posix_acl_access", &acl(1234, 7));
    set_xattr(&src.join("d/deep"), "system.posix_acl_default", &acl(4321, 5));
    if rustix::process::geteuid().is_root() {
        let device = rustix::fs::makedev(240, 70_000);
        let kind = rustix::fs::FileType::BlockDevice;
        rustix::fs::mknodat(rustix::fs::CWD, src.join("device"), kind, 0o600.into(), device).unwrap();
        for (name, uid, gid) in [("owned", 12_345, 54_321), ("owned by many", 4_000_000_000, 3_999_999_999)] {
            fs::write(src.join(name), name).unwrap();
            std::os::unix::fs::chown(src.join(name), Some(uid), Some(gid)).unwrap();
        }
    }
    fs::set_permissions(src.join("special mode"), PermissionsExt::from_mode(0o6755)).unwrap();
}

/// A vault with one snapshot of a directory `src`.
struct Saved {
    world: World,
    store: MemoryStore,
    place: TempDir,
}

impl Saved {
    fn of(make: impl FnOnce(&Path)) -> Self {
        let saved = Self { world: World::new(11), store: MemoryStore::new(), place: scratch() };
        fs::create_dir(saved.source()).unwrap();
        make(&saved.source());
        saved.world.init(&saved.store).unwrap();
        let mut options = backup_options(&saved.source());
        options.pack_len_target = 1 << 20;
        let report = saved.world.backup_with(&saved.store, &options).unwrap();
        assert_eq!(report.error_count, 0, "{:?}", report.errors);
        saved
    }

    fn source(&self) -> PathBuf {
        self.place.path().join("src")
    }

    fn dump(&self, within: &[u8], is_zip: bool, to: &Path) -> Result<DumpReport, EngineError> {
        let vault = self.world.open(&self.store)?;
        let snapshot = vault.select("latest")?;
        let mut file = File::create(to).unwrap();
        let archive: Box<dyn ArchiveWriter + '_> =
            if is_zip { Box::new(ZipArchive::new(&mut file)) } else { Box::new(TarArchive::new(&mut file)) };
        dump(&vault, &snapshot, within, archive)
    }

    /// An archive of the part, about which there is nothing to say.
    fn archive(&self, within: &str, is_zip: bool) -> PathBuf {
        let to = self.place.path().join("archive");
        let report = self.dump(within.as_bytes(), is_zip, &to).unwrap();
        assert_eq!((&report.errors[..], report.degraded), (&[][..], false));
        to
    }
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Unpacks with GNU tar, everything that it can restore.
fn untar(archive: &Path) -> TempDir {
    let target = scratch();
    let output = run(Command::new("tar")
        .args([
            "--extract",
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--same-permissions",
            "--numeric-owner",
        ])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(target.path()));
    let complaints = String::from_utf8(output.stderr).unwrap();
    // Of times that seem odd to it, tar says so.
    let complaints: Vec<_> = complaints.lines().filter(|line| !line.contains("time stamp")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    target
}

#[track_caller]
fn assert_same(expected: &BTreeMap<PathBuf, Facts>, found: &BTreeMap<PathBuf, Facts>) {
    for (path, facts) in expected {
        assert!(found.get(path) == Some(facts), "{path:?}: expected {facts:?}, found {:?}", found.get(path));
    }
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
}

#[test]
fn gnu_tar_unpacks_an_identical_tree() {
    let saved = Saved::of(grow);
    let target = untar(&saved.archive("", false));
    let expected = facts_of(&saved.source());
    assert!(expected.values().filter(|facts| facts.is_sparse).count() >= 4, "there are holes to keep");
    assert_same(&expected, &facts_of(&target.path().join("src")));
}

/// GNU tar reads ACLs as text alone as well, which is what `--acls` without `--xattrs` needs.
#[test]
fn acls_are_restored_by_the_flag_for_acls_alone() {
    let saved = Saved::of(|src| {
        fs::create_dir(src.join("d")).unwrap();
        fs::write(src.join("f"), "x").unwrap();
        set_xattr(&src.join("f"), "system.posix_acl_access", &acl(1234, 7));
        set_xattr(&src.join("d"), "system.posix_acl_default", &acl(4321, 5));
    });
    let (archive, target) = (saved.archive("", false), scratch());
    run(Command::new("tar").args(["-x", "--acls", "-p", "-f"]).arg(archive).arg("-C").arg(target.path()));
    assert_same(&facts_of(&saved.source()), &facts_of(&target.path().join("src")));
}

/// Python's reader is another one, and shows names, links and sizes as they are in the archive.
#[test]
fn python_reads_the_tar_archive() {
    if !has_program("python3") {
        return;
    }
    let saved = Saved::of(grow);
    let script = "import sys, tarfile\n\
        for m in tarfile.open(sys.argv[1]):\n\
        \x20   name = m.name.encode('utf-8', 'surrogateescape').hex()\n\
        \x20   data = tarfile.open(sys.argv[1]).extractfile(m).read() if m.isreg() and not m.issparse() else b''\n\
        \x20   print(name, m.size, len(data))\n";
    let output = run(Command::new("python3").arg("-c").arg(script).arg(saved.archive("", false)));
    let listed: BTreeMap<String, (u64, u64)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_owned();
            (name, (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap()))
        })
        .collect();
    let expected = facts_of(&saved.source());
    assert_eq!(listed.len(), expected.len());
    for (path, facts) in expected {
        let path = Path::new("src").join(path);
        let path = path.as_os_str().as_bytes();
        let name: String =
            path.strip_suffix(b"/").unwrap_or(path).iter().map(|byte| format!("{byte:02x}")).collect();
        let (size, read) = listed[&name];
        if facts.kind.contains("is_file: true") && facts.first.is_none() {
            assert_eq!(size, facts.content.len() as u64);
            assert!(facts.is_sparse || read == size, "{name}");
        }
    }
}

#[test]
fn a_part_comes_with_the_directories_above_it_and_links_within_it() {
    let saved = Saved::of(|src| {
        fs::create_dir_all(src.join("d/deep")).unwrap();
        fs::create_dir(src.join("e")).unwrap();
        fs::write(src.join("a"), noise(1, 5000)).unwrap();
        for name in ["d/one", "d/deep/two", "e/three"] {
            fs::hard_link(src.join("a"), src.join(name)).unwrap();
        }
        fs::set_permissions(src.join("d"), PermissionsExt::from_mode(0o700)).unwrap();
        set_time(&src.join("d"), 1_500_000_000, 7);
    });
    let target = untar(&saved.archive("src/d", false));
    let unpacked = target.path().join("src");
    let found = facts_of(&unpacked);
    let paths: Vec<_> = found.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(paths, ["", "d", "d/deep", "d/deep/two", "d/one"]);
    let expected = facts_of(&saved.source());
    for path in ["", "d", "d/deep"] {
        assert_eq!(found[Path::new(path)], expected[Path::new(path)], "{path}");
    }
    // The first name of the file is outside: the first one inside stands for it.
    assert_eq!(found[Path::new("d/one")].content, noise(1, 5000));
    assert_eq!(found[Path::new("d/one")].first, Some(PathBuf::from("d/deep/two")));
    assert_eq!(fs::metadata(unpacked.join("d/one")).unwrap().nlink(), 2);

    // A single file, as an archive, because that was asked for.
    let target = untar(&saved.archive("src/e/three", false));
    assert_eq!(fs::read(target.path().join("src/e/three")).unwrap(), noise(1, 5000));
    let to = saved.place.path().join("nothing");
    for within in ["nothing", "src/d/on", "src/a/b", "sr"] {
        let error = saved.dump(within.as_bytes(), false, &to).unwrap_err();
        assert!(matches!(&error, EngineError::NoPath { path } if path == within), "{error}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_left_out_and_said() {
    let saved = Saved::of(|src| {
        grow_plain(src);
        std::os::unix::net::UnixListener::bind(src.join("socket")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, src.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0)
            .unwrap();
        fs::hard_link(src.join("socket"), src.join("twin")).unwrap();
        fs::create_dir(src.join(OsStr::from_bytes(b"\xff"))).unwrap();
        fs::write(src.join(OsStr::from_bytes(b"\xff/f")), "below").unwrap();
    });
    let to = saved.place.path().join("archive");
    let report = saved.dump(b"", false, &to).unwrap();
    let said = [
        "src/socket: left out: a tar archive holds no sockets",
        "src/twin: left out: so is what it is a hard link to",
    ];
    assert_eq!(report.warnings, said);
    assert!(report.errors.is_empty() && !report.degraded, "{:?}", report.errors);
    let report = saved.dump(b"", true, &to).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    let (left_out, renamed): (Vec<_>, Vec<_>) =
        report.warnings.iter().partition(|warning| warning.contains("left out"));
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    let starts: Vec<_> = renamed.iter().filter_map(|warning| warning.split(": ").next()).collect();
    assert_eq!(starts, ["src/\\xff", "src/\\xff/f"]);
    assert!(renamed.iter().all(|warning| warning.contains("not UTF-8")), "{renamed:?}");
}

/// Files, directories and symlinks; hard links become files of their own and holes become zeros.
#[test]
fn unzip_and_python_read_the_zip_archive() {
    if !has_program("python3") || !has_program("unzip") {
        return;
    }
    let saved = Saved::of(|src| {
        grow_plain(src);
        write_sparse(&src.join("sparse"), 3_000_001, &[(0, &noise(5, 4096))]);
        fs::hard_link(src.join("d/some"), src.join("twin")).unwrap();
        let odd = src.join(OsStr::from_bytes(b"\xff\xfeodd"));
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join(OsStr::from_bytes(b"\x80file")), "not UTF-8").unwrap();
    });
    let archive = saved.archive("", true);
    let script = "import sys, zipfile, stat\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
        assert all(stat.S_ISDIR(i.external_attr >> 16) == i.is_dir() for i in z.infolist())\nprint(len(z.namelist()))";
    let output = run(Command::new("python3").arg("-c").arg(script).arg(&archive));
    let expected = facts_of(&saved.source());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), expected.len().to_string());
    run(Command::new("unzip").arg("-tq").arg(&archive));

    let target = scratch();
    run(Command::new("unzip").arg("-q").arg(&archive).arg("-d").arg(target.path()).env("TZ", "UTC"));
    let found = facts_of(&target.path().join("src"));
    for (path, facts) in &expected {
        // What unzip makes of a name that is not UTF-8 is its own affair.
        if path.to_str().is_none() {
            continue;
        }
        let found = found.get(path).unwrap_or_else(|| panic!("{path:?} is not there"));
        assert_eq!((&found.kind, &found.content), (&facts.kind, &facts.content), "{path:?}");
        if !facts.kind.contains("is_symlink: true") {
            assert_eq!(found.mode, facts.mode, "{path:?}");
            assert_eq!(found.mtime.0, facts.mtime.0, "{path:?}");
        }
    }
}

/// Overwrites a byte in the middle of the largest pack: some content is lost, and no metadata.
fn damage(store: &MemoryStore) -> MemoryStore {
    let mut largest = (0, String::new());
    store
        .list("packs/", None, &mut |item| {
            largest = largest.clone().max((item.len, item.name.clone()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let mut objects = coffer_testkit::copy::snapshot_of(store);
    let (len, name) = largest;
    objects.get_mut(&name).unwrap()[usize::try_from(len / 3).unwrap()] ^= 1;
    coffer_testkit::copy::store_from(objects)
}

#[test]
fn what_is_lost_of_a_small_file_is_named_and_left_out() {
    if !has_program("unzip") {
        return;
    }
    let mut saved = Saved::of(|src| {
        for file in 0..16 {
            fs::write(src.join(format!("file-{file}")), noise(file, 600_000)).unwrap();
        }
        fs::hard_link(src.join("file-3"), src.join("twin")).unwrap();
    });
    saved.store = damage(&saved.store);
    for is_zip in [false, true] {
        let to = saved.place.path().join("archive");
        let report = saved.dump(b"", is_zip, &to).unwrap();
        assert!(report.degraded && (1..=9).contains(&report.error_count), "{:?}", report.errors);
        let target = scratch();
        if is_zip {
            run(Command::new("unzip").arg("-q").arg(&to).arg("-d").arg(target.path()));
        } else {
            run(Command::new("tar").arg("-xf").arg(&to).arg("-C").arg(target.path()));
        }
        let (found, expected) = (facts_of(&target.path().join("src")), facts_of(&saved.source()));
        assert_eq!(found.len() as u64 + report.error_count, expected.len() as u64);
        for (path, facts) in found {
            assert_eq!(facts.content, expected[&path].content, "{path:?}");
        }
    }
}

#[test]
fn damage_inside_a_large_file_ends_the_archive() {
    let mut saved = Saved::of(|src| fs::write(src.join("large"), noise(1, 30 << 20)).unwrap());
    // The damage is behind what is read ahead.
    let mut packs: Vec<String> = coffer_testkit::copy::snapshot_of(&saved.store)
        .into_keys()
        .filter(|name| name.starts_with("packs/"))
        .collect();
    assert!(packs.len() > 6, "{}", packs.len());
    let vault = saved.world.open(&saved.store).unwrap();
    let snapshot = vault.select("latest").unwrap();
    // Which pack holds the end of the file shows when each is gone in turn; one that ends the dump is enough.
    drop((vault, snapshot));
    packs.sort();
    let whole = coffer_testkit::copy::snapshot_of(&saved.store);
    let mut ended = 0;
    for pack in packs {
        let mut objects = whole.clone();
        objects.remove(&pack).unwrap();
        saved.store = coffer_testkit::copy::store_from(objects);
        let to = saved.place.path().join("archive");
        match saved.dump(b"", false, &to) {
            Ok(report) => assert!(report.error_count > 0, "{pack} was needed"),
            Err(EngineError::ChunkLost { .. }) => {
                ended += 1;
                let mut bytes = Vec::new();
                File::open(&to).unwrap().read_to_end(&mut bytes).unwrap();
                assert!(!bytes.ends_with(&[0; 1024]), "it must not look complete");
                let unpacked = Command::new("tar").arg("-tf").arg(&to).output().unwrap();
                assert!(!unpacked.status.success(), "tar notices");
                if ended > 3 {
                    break;
                }
            }
            // Without the pack that holds the tree there is nothing.
            Err(other) => panic!("{pack}: {other}"),
        }
    }
    assert!(ended > 3, "{ended}");
    let key = ObjectKey::new("vault").unwrap();
    saved.store.stat(&key).unwrap();
}

#[test]
fn nothing_is_linked_to_what_was_lost() {
    let (world, store) = (World::new(11), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let mut writer = Writer::new(&vault, vault.owner_domain(), 8);
    let mut twin = entry("twin", Kind::File);
    twin.hard_link = Some(b"lost".to_vec());
    // A leaf that nobody can read, for it does not end where its node says.
    let mut lost = writer.leaf(&[inline("lost", b"lost")]);
    lost.last_path = b"m".to_vec();
    let rest = writer.leaf(&[inline("there", b"there"), twin]);
    let root = TreeRoot { chunk: writer.node(&[lost, rest]), height: 1 };
    let signing = vault.keyring.vault_key().unwrap().signing();
    writer.snapshot(&mut vault, &signing, root);
    let snapshot = vault.select("latest").unwrap();
    let mut bytes = Vec::new();
    let report = dump(&vault, &snapshot, b"", Box::new(TarArchive::new(&mut bytes))).unwrap();
    let named: Vec<_> = report.errors.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!((named, report.degraded), (vec!["entries up to m", "twin"], true));
    let place = scratch();
    let archive = place.path().join("archive");
    fs::write(&archive, bytes).unwrap();
    let unpacked = untar(&archive);
    let names: Vec<_> =
        fs::read_dir(unpacked.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(names, ["there"]);
}
