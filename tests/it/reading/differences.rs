//! Differences between snapshots, and between a snapshot and a directory: what is shown, and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use coffer_crypto::Rng;
use coffer_crypto::rng::SeededRng;
use coffer_engine::{
    Change, DiffItem, DiffOptions, DiffReport, DirectoryOptions, EngineError, diff, diff_directory,
};
use coffer_format::tree::Kind;
use coffer_store::MemoryStore;

use super::Vaulted;
use crate::restore::by_hand::{Writer, domain, enrol, entry, file, inline, signing_key};
use crate::support::{Body, Tree, World, noise, scratch, tree_of};

/// What was shown: a letter for each path.
type Shown = BTreeMap<String, char>;

fn letter(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Kind => 'T',
        Change::Content { suspect: false } => 'M',
        Change::Content { suspect: true } => '?',
        Change::Metadata => 'U',
    }
}

/// Gathers what is shown, which comes in path order; what could not be compared is `!`.
fn gather(shown: &mut Shown) -> impl FnMut(DiffItem) -> Result<(), EngineError> {
    let mut last: Option<Vec<u8>> = None;
    move |item| {
        let (path, letter) = match item {
            DiffItem::Difference(difference) => {
                let path = difference.path.clone();
                let behind =
                    last.as_ref().is_none_or(|last| coffer_format::path::compare_paths(last, &path).is_lt());
                assert!(behind, "{path:?} comes behind {last:?}");
                last = Some(path);
                (difference.path, letter(difference.change))
            }
            DiffItem::Lost(lost) => (lost.last_path, '!'),
            DiffItem::Uncompared { path, .. } => (path, '!'),
        };
        assert_eq!(shown.insert(String::from_utf8(path).unwrap(), letter), None);
        Ok(())
    }
}

impl Vaulted {
    fn diff_with(
        &self,
        old: &str,
        new: &str,
        options: &DiffOptions,
    ) -> Result<(Shown, DiffReport), EngineError> {
        let vault = self.world.open(&self.store)?;
        let (old, new) = (vault.select(old)?, vault.select(new)?);
        let mut shown = Shown::new();
        self.store.reset();
        let report = diff(&vault, &old, &new, options, &mut gather(&mut shown))?;
        Ok((shown, report))
    }

    fn diff(&self, old: &str, new: &str, metadata: bool) -> (Shown, DiffReport) {
        let options = DiffOptions { metadata, ..DiffOptions::default() };
        self.diff_with(old, new, &options).unwrap()
    }

    fn diff_directory(&self, directory: &Path, options: &DirectoryOptions) -> (Shown, DiffReport) {
        let vault = self.world.open(&self.store).unwrap();
        let snapshot = vault.select("latest").unwrap();
        let mut shown = Shown::new();
        let report = diff_directory(&vault, &snapshot, directory, options, &mut gather(&mut shown)).unwrap();
        (shown, report)
    }
}

fn shown(items: &[(&str, char)]) -> Shown {
    items.iter().map(|(path, letter)| ((*path).to_owned(), *letter)).collect()
}

/// What two states of a directory differ in, by looking at all of it.
fn expected(old: &Tree, new: &Tree, metadata: bool) -> Shown {
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let letter = |path: &Vec<u8>| match (old.get(path), new.get(path)) {
        (None, _) => Some('+'),
        (_, None) => Some('-'),
        (Some(old), Some(new)) => match (&old.body, &new.body) {
            (Body::File(a), Body::File(b)) if a != b => Some('M'),
            (Body::Symlink(a), Body::Symlink(b)) if a != b => Some('M'),
            (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => Some('T'),
            _ if metadata && (old.mode, old.owner, old.mtime_ns) != (new.mode, new.owner, new.mtime_ns) => {
                Some('U')
            }
            _ => None,
        },
    };
    paths
        .into_iter()
        .filter_map(|path| Some((String::from_utf8(path.clone()).unwrap(), letter(path)?)))
        .collect()
}

/// Changes some entries; each change has a time of its own, so that no two states look the same.
fn edit(root: &Path, rng: &SeededRng, round: u64) {
    let random = |below: u64| {
        let mut bytes = [0; 8];
        rng.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes) % below
    };
    for step in 0..1 + random(25) {
        let folder = root.join(format!("d{}", random(6)));
        let path = folder.join(format!("e{}", random(40)));
        if folder.symlink_metadata().is_ok_and(|stat| !stat.is_dir()) {
            fs::remove_file(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        let there = path.symlink_metadata().ok();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + round * 1000 + step, 5);
        match random(10) {
            0 if random(4) == 0 => {
                fs::remove_dir_all(&folder).unwrap();
                if random(2) == 0 {
                    fs::write(&folder, "a file in place of a directory").unwrap();
                }
                continue;
            }
            0 | 1 if there.is_some() => {
                fs::remove_file(&path).unwrap();
                continue;
            }
            2 if there.is_some() => {
                fs::remove_file(&path).unwrap();
                symlink(format!("target-{}", random(3)), &path).unwrap();
                continue;
            }
            3 if there.as_ref().is_some_and(fs::Metadata::is_file) => {
                let mode = [0o600, 0o644, 0o751][usize::try_from(random(3)).unwrap()];
                fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            }
            _ => {
                if there.is_some_and(|there| there.is_symlink()) {
                    fs::remove_file(&path).unwrap();
                }
                let len = [0, 50, 500, 9000][usize::try_from(random(4)).unwrap()];
                fs::write(&path, noise(random(1000), len)).unwrap();
            }
        }
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn what_is_shown_is_what_differs() {
    let vaulted = Vaulted::new();
    let rng = SeededRng::new(7);
    let mut states = Vec::new();
    for round in 0..12 {
        for _ in 0..if round == 0 { 20 } else { 1 } {
            edit(&vaulted.source(), &rng, round);
        }
        vaulted.save();
        states.push(tree_of(&vaulted.source()));
    }
    let part = |within: &str| within.as_bytes().to_vec();
    let mut seen = BTreeSet::new();
    for old in 0..states.len() {
        for new in [0, old.saturating_sub(1), (old + 1) % 12, 11] {
            for metadata in [false, true] {
                let options = DiffOptions { old_within: part("src"), new_within: part("src"), metadata };
                let name = |state: usize| format!("latest~{}", 11 - state);
                let (shown, report) = vaulted.diff_with(&name(old), &name(new), &options).unwrap();
                let expected = expected(&states[old], &states[new], metadata);
                assert_eq!(shown, expected, "{old} {new}");
                let count = |wanted: char| shown.values().filter(|letter| **letter == wanted).count() as u64;
                let total = |counts: &coffer_engine::DiffCounts| {
                    counts.file_count + counts.directory_count + counts.other_count
                };
                assert_eq!((total(&report.added), total(&report.removed)), (count('+'), count('-')));
                assert_eq!((report.content_count, report.kind_count), (count('M'), count('T')));
                assert_eq!((report.metadata_count, report.uncompared_count), (count('U'), 0));
                seen.extend(shown.into_values());
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<String>(), "+-MTU", "every kind of change came up");

    // A directory instead of the new snapshot: the same differences.
    for metadata in [false, true] {
        let options = DirectoryOptions { within: part("src"), metadata, ..DirectoryOptions::default() };
        edit(&vaulted.source(), &rng, 20);
        let now = tree_of(&vaulted.source());
        let (shown, _) = vaulted.diff_directory(&vaulted.source(), &options);
        assert_eq!(shown, expected(&states[11], &now, metadata));
        let everything = DirectoryOptions { read_all: true, ..options };
        assert_eq!(vaulted.diff_directory(&vaulted.source(), &everything).0, shown);
    }
}

#[test]
fn a_change_in_one_file_of_ten_thousand_costs_the_depth_of_the_tree() {
    let vaulted = Vaulted::new();
    for folder in 0..100 {
        let place = vaulted.source().join(format!("folder-{folder}"));
        fs::create_dir(&place).unwrap();
        for file in 0..100 {
            fs::write(place.join(format!("file-{file}")), format!("{folder} {file}")).unwrap();
        }
    }
    vaulted.save();
    fs::write(vaulted.source().join("folder-41/file-7"), "something else").unwrap();
    vaulted.save();
    let vault = vaulted.world.open(&vaulted.store).unwrap();
    let manifest = vault.select("latest").unwrap().manifest;
    drop(vault);
    assert!(manifest.statistics.entry_count > 10_000);
    let depth = u64::from(manifest.root.height) + 1;
    assert!(depth >= 3, "there are nodes above nodes");

    let (found, report) = vaulted.diff("latest~1", "latest", false);
    assert_eq!(found, shown(&[("src/folder-41/file-7", 'M')]));
    assert_eq!(report.tree_chunk_count, 2 * depth, "one path from root to leaf on each side");
    let recording = vaulted.store.snapshot();
    assert!(recording.read_range_count < 40 && recording.read_bytes < 600_000, "{recording:?}");

    // Nothing differs: the roots are the same, and not even they are read.
    let (found, report) = vaulted.diff("latest", "latest", true);
    assert_eq!((found.len(), report.tree_chunk_count), (0, 0));

    // What is added at one place costs little more, whatever the sizes of the trees.
    fs::write(vaulted.source().join("folder-41/another"), "new").unwrap();
    fs::remove_file(vaulted.source().join("folder-9/file-50")).unwrap();
    vaulted.save();
    let (found, report) = vaulted.diff("latest~1", "latest", false);
    assert_eq!(found, shown(&[("src/folder-41/another", '+'), ("src/folder-9/file-50", '-')]));
    assert!(report.tree_chunk_count <= 6 * depth, "{report:?}");
}

#[test]
fn parts_of_different_paths_are_compared_by_what_is_below_them() {
    let vaulted = Vaulted::new();
    for folder in ["one", "two and more"] {
        fs::create_dir_all(vaulted.source().join(folder).join("d")).unwrap();
        fs::write(vaulted.source().join(folder).join("d/same"), noise(1, 5000)).unwrap();
        fs::write(vaulted.source().join(folder).join("other"), folder).unwrap();
    }
    fs::write(vaulted.source().join("two and more/more"), "more").unwrap();
    fs::hard_link(vaulted.source().join("two and more/d/same"), vaulted.source().join("two and more/twin"))
        .unwrap();
    vaulted.save();
    let part = |old: &str, new: &str| DiffOptions {
        old_within: old.as_bytes().to_vec(),
        new_within: new.as_bytes().to_vec(),
        metadata: false,
    };
    let (found, report) =
        vaulted.diff_with("latest", "latest", &part("src/one", "src/two and more")).unwrap();
    assert_eq!(found, shown(&[("more", '+'), ("other", 'M'), ("twin", '+')]));
    assert_eq!(report.added.content_bytes, 4 + 12, "a hard link adds nothing");
    let (found, _) =
        vaulted.diff_with("latest", "latest", &part("src/one/d/same", "src/two and more/twin")).unwrap();
    assert_eq!(found, shown(&[]));
    for absent in ["nothing", "src/on", "src/one/d/same/x"] {
        let error = vaulted.diff_with("latest", "latest", &part("src", absent)).unwrap_err();
        assert!(matches!(&error, EngineError::NoPath { path } if path == absent), "{error}");
    }
}

#[test]
fn of_a_changed_file_the_chunks_that_changed_are_counted() {
    let vaulted = Vaulted::new();
    let mut content = noise(1, 2_000_000);
    fs::write(vaulted.source().join("large"), &content).unwrap();
    vaulted.save();
    // Something is put in at the beginning: what follows is cut as before.
    content.splice(100..100, noise(2, 1000));
    fs::write(vaulted.source().join("large"), &content).unwrap();
    vaulted.save();
    let (found, report) = vaulted.diff("latest~1", "latest", false);
    assert_eq!(found, shown(&[("src/large", 'M')]));
    assert!((1000..30_000).contains(&report.added.content_bytes), "{report:?}");
    assert_eq!(report.added.content_bytes, report.removed.content_bytes + 1000);
}

#[test]
fn a_hard_link_that_became_the_first_of_its_group_has_not_changed() {
    let vaulted = Vaulted::new();
    let path = |name: &str| vaulted.source().join(name);
    fs::write(path("a"), noise(1, 5000)).unwrap();
    for twin in ["b", "c"] {
        fs::hard_link(path("a"), path(twin)).unwrap();
    }
    vaulted.save();
    fs::remove_file(path("a")).unwrap();
    vaulted.save();
    assert_eq!(vaulted.diff("latest~1", "latest", false).0, shown(&[("src/a", '-')]));
    let links = shown(&[("src", 'U'), ("src/a", '-'), ("src/b", 'U'), ("src/c", 'U')]);
    assert_eq!(vaulted.diff("latest~1", "latest", true).0, links);
    let options = DirectoryOptions { read_all: true, ..DirectoryOptions::default() };
    assert_eq!(vaulted.diff_directory(vaulted.place.path(), &options).0, shown(&[]));
}

/// Content of a file with several names counts at the first of them, whatever the parts and wherever the first name lies.
#[test]
fn hard_links_count_once() {
    let vaulted = Vaulted::new();
    let path = |name: &str| vaulted.source().join(name);
    fs::create_dir_all(path("d/e")).unwrap();
    fs::create_dir(path("copy")).unwrap();
    fs::write(path("copy/a"), noise(1, 11)).unwrap();
    fs::hard_link(path("copy/a"), path("copy/b")).unwrap();
    fs::create_dir(path("copy/e")).unwrap();
    fs::hard_link(path("copy/a"), path("copy/e/c")).unwrap();
    fs::write(path("d/a"), noise(1, 11)).unwrap();
    for twin in ["d/b", "d/e/c", "d/e/f"] {
        fs::hard_link(path("d/a"), path(twin)).unwrap();
    }
    vaulted.save();
    fs::write(path("d/a"), noise(2, 14)).unwrap();
    let part = |old: &str, new: &str| DiffOptions {
        old_within: old.as_bytes().to_vec(),
        new_within: new.as_bytes().to_vec(),
        metadata: false,
    };
    let bytes = |report: &DiffReport| (report.added.content_bytes, report.removed.content_bytes);

    // The directory, its copy of the same names, and a part that holds no first name.
    for read_all in [false, true] {
        let options = |within: &str| DirectoryOptions {
            within: within.as_bytes().to_vec(),
            read_all,
            ..DirectoryOptions::default()
        };
        let (found, report) = vaulted.diff_directory(&path("d"), &options("src/d"));
        assert_eq!((found, bytes(&report)), (shown(&[("a", 'M')]), (14, 11)));
        let (found, report) = vaulted.diff_directory(&path("d"), &options("src/copy"));
        assert_eq!((found, bytes(&report)), (shown(&[("a", 'M'), ("e/f", '+')]), (14, 11)));
        let (found, report) = vaulted.diff_directory(&path("d/e"), &options("src/d/e"));
        assert_eq!((found, bytes(&report)), (shown(&[("c", 'M')]), (14, 0)));
        let (found, report) = vaulted.diff_directory(&path("copy"), &options("src/d/e"));
        let expected = shown(&[("a", '+'), ("b", '+'), ("c", '-'), ("e", '+'), ("e/c", '+'), ("f", '-')]);
        assert_eq!((found, bytes(&report)), (expected, (11, 0)), "the links that are new add nothing");
    }

    vaulted.save();
    let diff = |part: &DiffOptions| vaulted.diff_with("latest~1", "latest", part).unwrap();
    for (old, new, expected) in [
        ("src/d", "src/d", shown(&[("a", 'M')])),
        ("src/copy", "src/d", shown(&[("a", 'M'), ("e/f", '+')])),
        ("src/d/e", "src/d/e", shown(&[("c", 'M')])),
        ("src/copy/e", "src/d/e", shown(&[("c", 'M'), ("f", '+')])),
    ] {
        let (found, report) = diff(&part(old, new));
        assert_eq!((found, bytes(&report)), (expected, (14, 11)), "{old} {new}");
    }

    // Another name became the first one, and the content is another: once again.
    fs::remove_file(path("d/a")).unwrap();
    fs::write(path("d/b"), noise(3, 20)).unwrap();
    let options = DirectoryOptions { within: b"src/d".to_vec(), ..DirectoryOptions::default() };
    let (found, report) = vaulted.diff_directory(&path("d"), &options);
    assert_eq!((found, bytes(&report)), (shown(&[("a", '-'), ("b", 'M')]), (20, 14)));
    vaulted.save();
    let (found, report) = diff(&part("src/d", "src/d"));
    assert_eq!(found, shown(&[("a", '-'), ("b", 'M')]));
    assert_eq!((report.added.content_bytes, report.content_count), (20, 1));

    // A link that became a file of its own is another file.
    fs::remove_file(path("d/e/c")).unwrap();
    fs::write(path("d/e/c"), noise(4, 9)).unwrap();
    let (found, report) = vaulted.diff_directory(&path("d"), &options);
    assert_eq!((found, report.added.content_bytes), (shown(&[("e/c", 'M')]), 9));
    vaulted.save();
    let (found, report) = diff(&part("src/d", "src/d"));
    assert_eq!((found, report.added.content_bytes), (shown(&[("e/c", 'M')]), 9));
}

/// Zeros and holes are the same content, and so are the same bytes in another dedup domain.
#[test]
fn the_same_bytes_laid_out_otherwise_are_the_same_content() {
    let (world, store) = (World::new(6), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let owner = vault.keyring.vault_key().unwrap().signing();
    let (put, far) = (signing_key(9), domain(3));
    enrol(&mut vault, &put, far);
    let (data, zeros) = (noise(1, 3000), vec![0; 1000]);
    let write = |writer: &mut Writer, with_hole: bool, tail: &[u8]| {
        let holes = [coffer_format::tree::Hole { offset: 3000, len: 1000 }];
        let mut found = if with_hole {
            let chunks = vec![writer.data(&data), writer.data(tail)];
            let mut found = file("f", &chunks);
            found.size += 1000;
            found.holes = Some(coffer_format::tree::Blob::Inline(coffer_format::tree::encode_holes(&holes)));
            found
        } else {
            let chunks = vec![writer.data(&data), writer.data(&zeros), writer.data(tail)];
            file("f", &chunks)
        };
        found.mode = 0o644;
        writer.tree(&[entry("", Kind::Directory), found])
    };
    for (with_hole, domain, signing, tail) in [
        (false, vault.owner_domain(), &owner, noise(2, 700)),
        (true, vault.owner_domain(), &owner, noise(2, 700)),
        (true, far, &put, noise(2, 700)),
        (true, far, &put, noise(3, 700)),
    ] {
        let mut writer = Writer::new(&vault, domain, 8);
        let root = write(&mut writer, with_hole, &tail);
        writer.snapshot(&mut vault, signing, root);
    }
    let compare = |old: &str, new: &str| {
        let (old, new) = (vault.select(old).unwrap(), vault.select(new).unwrap());
        let mut shown = Shown::new();
        diff(&vault, &old, &new, &DiffOptions::default(), &mut gather(&mut shown)).unwrap();
        shown
    };
    assert_eq!(compare("latest~3", "latest~2"), shown(&[]), "a hole in place of zeros");
    assert_eq!(compare("latest~2", "latest~1"), shown(&[]), "another domain");
    assert_eq!(compare("latest~3", "latest~1"), shown(&[]), "both");
    // Its size and time are the same, and its bytes are not.
    assert_eq!(compare("latest~1", "latest"), shown(&[("f", '?')]));
    assert_eq!(compare("latest~2", "latest"), shown(&[("f", '?')]));

    // In the file system: a hole, zeros, and something else.
    let place = scratch();
    let bytes = [&data[..], &zeros, &noise(2, 700)].concat();
    let options = DirectoryOptions { read_all: true, ..DirectoryOptions::default() };
    let snapshot = vault.select("latest~2").unwrap();
    let with = |bytes: &[u8]| {
        fs::write(place.path().join("f"), bytes).unwrap();
        fs::File::open(place.path().join("f")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let mut shown = Shown::new();
        diff_directory(&vault, &snapshot, place.path(), &options, &mut gather(&mut shown)).unwrap();
        shown
    };
    assert_eq!(with(&bytes), shown(&[]));
    for at in [0, 2999, 3000, 3999, 4000, 4699] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert_eq!(with(&other), shown(&[("f", '?')]), "{at}");
    }
}

#[test]
fn a_directory_is_compared_by_size_and_time_unless_all_is_to_be_read() {
    let vaulted = Vaulted::new();
    let path = |name: &str| vaulted.source().join(name);
    fs::create_dir(path("d")).unwrap();
    for name in ["d/a", "b", "c"] {
        fs::write(path(name), noise(1, 3000)).unwrap();
    }
    vaulted.save();
    let time = fs::metadata(path("b")).unwrap().modified().unwrap();
    fs::write(path("b"), noise(2, 3000)).unwrap();
    fs::File::open(path("b")).unwrap().set_modified(time).unwrap();
    // Only its time changed.
    fs::File::open(path("c")).unwrap().set_modified(time + Duration::from_secs(1)).unwrap();
    let options = DirectoryOptions::default();
    assert_eq!(vaulted.diff_directory(vaulted.place.path(), &options).0, shown(&[]));
    let options = DirectoryOptions { read_all: true, ..options };
    assert_eq!(vaulted.diff_directory(vaulted.place.path(), &options).0, shown(&[("src/b", '?')]));
    let options = DirectoryOptions { metadata: true, read_all: false, ..options };
    assert_eq!(vaulted.diff_directory(vaulted.place.path(), &options).0, shown(&[("src/c", 'U')]));

    // Nothing of the content is read from the vault.
    vaulted.store.reset();
    let options = DirectoryOptions { read_all: true, ..DirectoryOptions::default() };
    vaulted.diff_directory(vaulted.place.path(), &options);
    assert!(vaulted.store.snapshot().read_bytes < 60_000, "{:?}", vaulted.store.snapshot());

    // What stands beside the snapshot is new; a part is compared with what it was.
    fs::write(vaulted.place.path().join("beside"), "").unwrap();
    let (found, report) = vaulted.diff_directory(vaulted.place.path(), &DirectoryOptions::default());
    assert_eq!((found, report.added.file_count), (shown(&[("beside", '+')]), 1));
    fs::remove_file(path("d/a")).unwrap();
    let part = DirectoryOptions { within: b"src/d".to_vec(), ..DirectoryOptions::default() };
    assert_eq!(vaulted.diff_directory(&path("d"), &part).0, shown(&[("a", '-')]));
}

/// Each leaf and node is a frame of its own here, and none is in both trees; each in turn is damaged.
#[test]
fn of_what_cannot_be_read_nothing_is_claimed() {
    let (world, store) = (World::new(22), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let owner = vault.keyring.vault_key().unwrap().signing();
    let changed = [70, 71, 400, 999, 1500];
    let place = scratch();
    for round in 0..2 {
        let mut entries = Vec::new();
        for number in 0..1600 {
            // Some are gone, others are new.
            if number % 401 == 5 + round {
                continue;
            }
            let text = if round == 1 && changed.contains(&number) { "changed" } else { "as before" };
            let mut entry = inline(&format!("file-{number:04}"), text.as_bytes());
            entry.mtime_ns = i64::from(round);
            if round == 0 {
                fs::write(place.path().join(format!("file-{number:04}")), text).unwrap();
            }
            entries.push(entry);
        }
        let mut writer = Writer::new(&vault, vault.owner_domain(), 50 + u64::try_from(round).unwrap());
        let root = writer.tree(&entries);
        writer.snapshot(&mut vault, &owner, root);
    }
    let options = DirectoryOptions { read_all: true, ..DirectoryOptions::default() };
    let compare = |store: &MemoryStore| {
        let vault = world.open(store).unwrap();
        let (old, new) = (vault.select("latest~1").unwrap(), vault.select("latest").unwrap());
        let (mut shown, mut to_directory) = (Shown::new(), Shown::new());
        let report = diff(&vault, &old, &new, &DiffOptions::default(), &mut gather(&mut shown)).unwrap();
        diff_directory(&vault, &old, place.path(), &options, &mut gather(&mut to_directory)).unwrap();
        (shown, report, to_directory)
    };
    let (whole, report, to_directory) = compare(&store);
    assert_eq!((whole.len(), report.uncompared_count), (5 + 2 * 4, 0), "{whole:?}");
    assert_eq!(to_directory, shown(&[]));

    let objects = coffer_testkit::copy::snapshot_of(&store);
    let packs = objects.iter().filter(|(name, _)| name.starts_with("packs/"));
    let (mut partial, mut nothing) = (0, 0);
    for (name, bytes) in packs {
        for at in (200..bytes.len()).step_by(700) {
            let mut objects = objects.clone();
            objects.get_mut(name).unwrap()[at] ^= 1;
            let (mut found, report, mut to_directory) = compare(&coffer_testkit::copy::store_from(objects));
            let lost = found.values().filter(|letter| **letter == '!').count() as u64;
            assert_eq!((report.lost, report.uncompared_count), (lost > 0, lost));
            found.retain(|_, letter| *letter != '!');
            assert!(found.iter().all(|(path, letter)| whole.get(path) == Some(letter)), "{at}: {found:?}");
            assert!(lost > 0 || found == whole, "{at}: {found:?}");
            partial += usize::from(lost > 0 && !found.is_empty());
            nothing += usize::from(lost > 0 && found.is_empty());
            to_directory.retain(|_, letter| *letter != '!');
            assert_eq!(to_directory, shown(&[]), "{at}");
        }
    }
    assert!(partial > 10 && nothing > 0, "{partial} with a leaf lost, {nothing} with a root");
}

/// The store is only read.
#[test]
fn nothing_is_written() {
    let vaulted = Vaulted::new();
    fs::write(vaulted.source().join("a"), "a").unwrap();
    vaulted.save();
    vaulted.diff("latest", "latest", true);
    vaulted.diff_directory(vaulted.place.path(), &DirectoryOptions::default());
    let recording = vaulted.store.reset();
    assert_eq!((recording.put_count, recording.delete_count), (0, 0));
}
