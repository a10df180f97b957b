//! Round trips of trees with everything that a file system can hold, compared by content and all metadata.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use coffer_crypto::Rng;
use coffer_crypto::rng::SeededRng;
use coffer_testkit::Mounted;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps};

use super::typed::{Bench, User};

/// All there is to know of an entry, in words that can be compared and read.
type Listing = BTreeMap<Vec<u8>, String>;

/// Lists everything below `root`, whatever the length of its paths.
fn listing(root: &Path) -> Listing {
    let (mut found, mut groups) = (Listing::new(), HashMap::new());
    let fd = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    list(fd, Vec::new(), &mut found, &mut groups);
    for paths in groups.values().filter(|paths: &&Vec<Vec<u8>>| paths.len() > 1) {
        for path in paths {
            found
                .get_mut(path)
                .unwrap()
                .push_str(&format!(" linked with {:?}", OsStr::from_bytes(&paths[0])));
        }
    }
    found
}

fn list(fd: OwnedFd, path: Vec<u8>, found: &mut Listing, groups: &mut HashMap<(u64, u64), Vec<Vec<u8>>>) {
    let mut names: Vec<_> = Dir::read_from(&fd)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    found.insert(path.clone(), words(&fd, b"."));
    for name in names {
        let mut below = path.clone();
        below.extend((!path.is_empty()).then_some(b'/'));
        below.extend_from_slice(&name);
        let stat = rustix::fs::statat(&fd, &name[..], AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            list(rustix::fs::openat(&fd, &name[..], flags, Mode::empty()).unwrap(), below, found, groups);
            continue;
        }
        groups.entry((stat.st_dev, stat.st_ino)).or_default().push(below.clone());
        found.insert(below, words(&fd, &name));
    }
}

fn words(dir: &OwnedFd, name: &[u8]) -> String {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut text = format!(
        "{kind:?} {:o} {}:{} {}.{:09}",
        stat.st_mode & 0o7777,
        stat.st_uid,
        stat.st_gid,
        stat.st_mtime,
        stat.st_mtime_nsec
    );
    match kind {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let file = fs::File::from(rustix::fs::openat(dir, name, flags, Mode::empty()).unwrap());
            let mut bytes = vec![0; usize::try_from(stat.st_size).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let digest = coffer_crypto::hash::hash(&bytes);
            text.push_str(&format!(" {} bytes {:02x?}", bytes.len(), &digest[..8]));
            // Sparse or not; how many blocks exactly is the file system's affair.
            let spared = stat.st_size > 1 << 20 && stat.st_blocks * 512 < stat.st_size / 2;
            text.push_str(if spared { " sparse" } else { "" });
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).unwrap();
            text.push_str(&format!(" to {target:?}"));
        }
        FileType::CharacterDevice | FileType::BlockDevice => {
            text.push_str(&format!(" device {:x}", stat.st_rdev));
        }
        _ => {}
    }
    let mut path = format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&dir.as_fd())).into_bytes();
    path.extend_from_slice(name);
    let mut names = vec![0; 65_536];
    let len = rustix::fs::llistxattr(&path[..], &mut names[..]).unwrap_or(0);
    let mut names: Vec<_> =
        names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort();
    for name in names {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(&path[..], &name[..], &mut value[..]).unwrap();
        text.push_str(&format!(" {:?}={:02x?}", OsStr::from_bytes(&name), &value[..len]));
    }
    text
}

/// Numbers that a seed decides.
struct Dice(SeededRng);

impl Dice {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes).unwrap();
        bytes
    }

    fn below(&mut self, limit: u64) -> u64 {
        let bytes = self.bytes(8);
        u64::from_le_bytes(bytes.try_into().unwrap()) % limit
    }

    fn name(&mut self, number: u64) -> Vec<u8> {
        let mut name = match self.below(6) {
            0 => b"\xff\xfe not utf-8 ".to_vec(),
            1 => "Größe\n\t\\ ".as_bytes().to_vec(),
            2 => vec![b'n'; 240],
            3 => b".hidden".to_vec(),
            4 => b" .. ".to_vec(),
            _ => b"plain".to_vec(),
        };
        name.extend(number.to_string().into_bytes());
        name
    }
}

fn set_mtime(path: &Path, dice: &mut Dice) {
    let time = Timespec {
        tv_sec: i64::try_from(dice.below(4_000_000_000)).unwrap() - 1_000_000_000,
        tv_nsec: i64::try_from(dice.below(1_000_000_000)).unwrap(),
    };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// An ACL that lets user 1234 read, as the kernel stores it.
fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, bits, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Fills a directory with entries of every kind. Modes and times come in the end, so that everything can be made.
fn grow(root: &Path, seed: u64) {
    let mut dice = Dice(SeededRng::new(seed));
    let is_root = rustix::process::geteuid().is_root();
    let mut directories = vec![root.to_path_buf()];
    let mut made = Vec::new();
    for number in 0..120 {
        let parent = directories[usize::try_from(dice.below(directories.len() as u64)).unwrap()].clone();
        let path = parent.join(OsStr::from_bytes(&dice.name(number)));
        match dice.below(12) {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            2 => symlink(OsStr::from_bytes(&dice.name(number)), &path).unwrap(),
            3 => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
            4 => {
                // A socket's path is short; it is made beside and moved.
                let short = root.join("s");
                drop(UnixListener::bind(&short).unwrap());
                fs::rename(short, &path).unwrap();
            }
            5 if is_root => {
                let device = rustix::fs::makedev(1, 3);
                let made = rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, device);
                if made.is_err() {
                    println!("not tested: devices");
                    continue;
                }
            }
            6 if !made.is_empty() => {
                let first: &std::path::PathBuf =
                    &made[usize::try_from(dice.below(made.len() as u64)).unwrap()];
                fs::hard_link(first, &path).unwrap();
                continue;
            }
            7 => {
                let file = fs::File::create(&path).unwrap();
                let bytes = dice.bytes(10_000);
                file.write_all_at(&bytes, dice.below(1 << 20)).unwrap();
                file.set_len((2 << 20) + dice.below(1 << 20)).unwrap();
                made.push(path.clone());
            }
            _ => {
                let len = [0, 1, 100, 128, 129, 5_000, 300_000][usize::try_from(dice.below(7)).unwrap()];
                fs::write(&path, dice.bytes(len)).unwrap();
                made.push(path.clone());
            }
        }
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_file() || kind.is_dir() {
            let len = usize::try_from(dice.below(3)).unwrap() * 40;
            xattr(&path, "user.coffer", &dice.bytes(len));
            xattr(&path, "user.empty", b"");
            if dice.below(4) == 0 {
                xattr(&path, "system.posix_acl_access", &acl());
            }
            if kind.is_dir() && dice.below(4) == 0 {
                xattr(&path, "system.posix_acl_default", &acl());
            }
        }
        if is_root && dice.below(3) == 0 {
            let (uid, gid) =
                (u32::try_from(dice.below(5_000)).unwrap(), u32::try_from(dice.below(5_000)).unwrap());
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).unwrap();
        }
        // With an ACL, chmod changes the mask, which is as good.
        if kind.is_file() {
            let mode =
                [0o644, 0o600, 0o755, 0o4755, 0o2750, 0o444, 0o6711][usize::try_from(dice.below(7)).unwrap()];
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        set_mtime(&path, &mut dice);
    }
    deep(root);
    for directory in directories.iter().rev() {
        let mode = [0o755, 0o700, 0o500, 0o1777, 0o2755][usize::try_from(dice.below(5)).unwrap()];
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        set_mtime(directory, &mut dice);
    }
}

/// A path of more than 4096 bytes, which no single call takes.
fn deep(root: &Path) {
    let mut at = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = [b'd'; 200];
    for _ in 0..25 {
        rustix::fs::mkdirat(&at, &name[..], Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name[..], OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(&at, "at the end", flags, Mode::RUSR | Mode::WUSR).unwrap();
    fs::File::from(file).write_all_at(&[b'x'; 70_000], 0).unwrap();
}

#[track_caller]
fn assert_equal(expected: &Listing, found: &Listing, context: &str) {
    for (path, words) in expected {
        assert_eq!(Some(words), found.get(path), "{context}: {:?}", OsStr::from_bytes(path));
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{context}: {:?} should not be there", OsStr::from_bytes(path));
    }
}

#[track_caller]
fn run(program: &str, words: &[&str], path: &Path) {
    let status = std::process::Command::new(program).args(words).arg(path).status().unwrap();
    assert!(status.success(), "{program} {words:?} {path:?}");
}

/// Everything that a user may make and read again.
fn restored_as_it_was(user: User, seed: u64) {
    let Some(bench) = Bench::of(user) else { return };
    let src = bench.work("src");
    fs::create_dir(&src).unwrap();
    grow(&src, seed);
    if user == User::Nobody {
        // Devices and set-id bits are not for them; chown takes the bits.
        run("chown", &["-hR", "65534:65534"], &src);
        run("sh", &["-c", "find \"$0\" -type c -delete"], &src);
    }
    bench.run(["backup", "src"]).expect(0);
    let expected = listing(&src);
    assert!(expected.len() > 100, "{} entries", expected.len());
    let full = ["--target", "out", "--privileged", "--devices", "--numeric-owner", "--verify"];
    let first = bench.restore(&full, 0);
    assert_equal(&expected, &listing(&bench.work("out/src")), &format!("seed {seed}, new"));
    assert_eq!(first["warnings"], serde_json::json!([]), "{first}");
    assert_eq!(first["created"], first["entries"]);
    // Again, over itself: nothing is to be done, and nothing is.
    let again = bench.restore(&[&full[..], &["--delete"]].concat(), 0);
    assert_equal(&expected, &listing(&bench.work("out/src")), &format!("seed {seed}, again"));
    assert_eq!(
        (&again["unchanged"], &again["deleted"]),
        (&first["entries"], &serde_json::json!(0)),
        "{again}"
    );
    assert_eq!(
        (&again["written_bytes"], &again["fetched_bytes"]),
        (&serde_json::json!(0), &serde_json::json!(0))
    );
    // Over another such tree, of which nothing is to remain.
    let other = bench.work("other/src");
    fs::create_dir_all(&other).unwrap();
    grow(&other, seed + 1);
    if user == User::Nobody {
        run("chown", &["-hR", "65534:65534"], &bench.work("other"));
        // Where they may not enter, they may not delete.
        run("chmod", &["-R", "u+rwX"], &bench.work("other"));
    }
    bench
        .restore(&["-t", "other", "--privileged", "--devices", "--numeric-owner", "--verify", "--delete"], 0);
    assert_equal(&expected, &listing(&bench.work("other/src")), &format!("seed {seed}, over another"));
}

#[test]
fn random_trees_come_back_as_they_were() {
    for seed in [1, 2, 3] {
        restored_as_it_was(User::Tester, seed);
    }
}

#[test]
fn random_trees_come_back_to_an_ordinary_user() {
    for seed in [4, 5] {
        restored_as_it_was(User::Nobody, seed);
    }
}

#[test]
fn owners_are_taken_by_name_unless_told_otherwise() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root gives files away");
        return;
    }
    let bench = Bench::new();
    fs::create_dir(bench.work("src")).unwrap();
    fs::write(bench.work("src/file"), "file").unwrap();
    std::os::unix::fs::chown(bench.work("src/file"), Some(1), Some(1)).unwrap();
    bench.run(["backup", "src"]).expect(0);
    for words in [&["-t", "named"][..], &["-t", "numeric", "--numeric-owner"]] {
        bench.restore(words, 0);
        let stat = fs::metadata(bench.work(words[1]).join("src/file")).unwrap();
        // Here the name leads to the number it came from.
        assert_eq!((stat.uid(), stat.gid()), (1, 1));
    }
    // An ordinary user keeps what they restore, and is not told of each file that it is not somebody else's.
    let Some(nobody) = Bench::of(User::Nobody) else { return };
    for name in ["vault", "cache"] {
        fs::remove_dir_all(nobody.work(name)).unwrap();
    }
    for name in ["vault", "key"] {
        let to = nobody.work("");
        run("cp", &["-aT", "--", bench.work(name).to_str().unwrap()], &to.join(name));
    }
    run("chown", &["-R", "65534:65534"], &nobody.work(""));
    let report = nobody.restore(&["-t", "out"], 0);
    assert_eq!(report["warnings"], serde_json::json!([]));
    let stat = fs::metadata(nobody.work("out/src/file")).unwrap();
    assert_eq!(stat.uid(), super::typed::NOBODY);
}

#[test]
fn what_lies_in_layers_comes_back_as_it_was() {
    let bench = Bench::new();
    fs::create_dir(bench.work("lower")).unwrap();
    grow(&bench.work("lower"), 6);
    for name in ["upper", "scratch", "src"] {
        fs::create_dir(bench.work(name)).unwrap();
    }
    let src = bench.work("src");
    let mounted = Mounted::overlay(&src, &bench.work("lower"), &bench.work("upper"), &bench.work("scratch"));
    let Some(_mounted) = mounted else { return };
    // Some of it changes, so that it comes from the upper layer, and some goes.
    let files = || {
        let children = fs::read_dir(&src).unwrap().map(Result::unwrap);
        children.filter(|child| child.file_type().unwrap().is_file()).map(|child| child.path())
    };
    let (first, second) = (files().next().unwrap(), files().nth(1).unwrap());
    fs::write(&first, "from the upper layer").unwrap();
    fs::remove_file(&second).unwrap();
    fs::create_dir(src.join("new")).unwrap();
    fs::write(src.join("new/file"), "new").unwrap();
    bench.run(["backup", "--one-file-system", "src"]).expect(0);
    let expected = listing(&src);
    assert!(expected.len() > 20, "{} entries", expected.len());
    let flags = ["--privileged", "--devices", "--numeric-owner", "--verify"];
    bench.restore(&[&["-t", "out"], &flags[..]].concat(), 0);
    assert_equal(&expected, &listing(&bench.work("out/src")), "out of layers");
    // And into them, over something else.
    fs::write(&first, "changed again").unwrap();
    fs::remove_file(src.join("new/file")).unwrap();
    bench.restore(&[&["-t", "."], &flags[..]].concat(), 0);
    assert_equal(&expected, &listing(&src), "into layers");
}
