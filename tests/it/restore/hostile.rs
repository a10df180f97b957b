//! Snapshots by a signer who means harm: an error names the entry, the rest is restored, and nothing outside the target changes.

use std::fs;

use coffer_engine::{RestoreOptions, RestoreReport, restore};
use coffer_format::id::ChunkId;
use coffer_format::pack::ChunkKind;
use coffer_format::tree::{
    Blob, ChunkRef, Content, Hole, Kind, NodeChild, TreeEntry, TreeRoot, encode_holes,
};
use coffer_store::MemoryStore;
use tempfile::TempDir;

use super::by_hand::{Writer, entry, file, inline, symlink};
use crate::support::{Quiet, Tree, World, noise, restore_options, scratch, tree_of};

/// A place with a target in it and a canary beside that.
struct Place {
    root: TempDir,
    before: Tree,
}

impl Place {
    fn new() -> Self {
        let root = scratch();
        fs::create_dir(root.path().join("beside")).unwrap();
        fs::write(root.path().join("beside/canary"), "canary").unwrap();
        fs::create_dir(root.path().join("target")).unwrap();
        let before = tree_of(&root.path().join("beside"));
        Self { root, before }
    }

    fn target(&self) -> std::path::PathBuf {
        self.root.path().join("target")
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let names = fs::read_dir(self.root.path()).unwrap().map(|item| item.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["beside", "target"]);
        assert_eq!(tree_of(&self.root.path().join("beside")), self.before);
    }
}

/// What came of a hostile snapshot.
struct Outcome {
    place: Place,
    report: RestoreReport,
}

impl Outcome {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.place.target().join(path)).ok()
    }

    /// The error of an entry, or of the stretch of entries it stands in.
    #[track_caller]
    fn error(&self, path: &str) -> &str {
        let found = self.report.errors.iter().find(|(named, _)| named == path);
        &found.unwrap_or_else(|| panic!("{path} is not in {:?}", self.report.errors)).1
    }

    #[track_caller]
    fn assert_only_error(&self, path: &str, words: &str) {
        assert!(self.error(path).contains(words), "{:?}", self.report.errors);
        assert_eq!(self.report.errors.len(), 1, "{:?}", self.report.errors);
    }
}

/// Restores a snapshot of the tree that `make` writes.
#[track_caller]
fn restore_tree(make: impl FnOnce(&mut Writer) -> TreeRoot) -> Outcome {
    restore_into(Place::new(), make)
}

#[track_caller]
fn restore_into(place: Place, make: impl FnOnce(&mut Writer) -> TreeRoot) -> Outcome {
    restore_as(place, &restore_options(), make)
}

#[track_caller]
fn restore_as(place: Place, options: &RestoreOptions, make: impl FnOnce(&mut Writer) -> TreeRoot) -> Outcome {
    let (world, store) = (World::new(6), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let mut writer = Writer::new(&vault, vault.owner_domain(), 8);
    let root = make(&mut writer);
    let signing = vault.keyring.vault_key().unwrap().signing();
    writer.snapshot(&mut vault, &signing, root);
    let snapshot = vault.select("latest").unwrap();
    let report = restore(&vault, &snapshot, &place.target(), options, &mut Quiet).unwrap();
    place.assert_untouched();
    Outcome { place, report }
}

/// Restores a snapshot of one leaf with the good file `good`, and the entries that `make` writes.
#[track_caller]
fn restore_entries(make: impl FnOnce(&mut Writer) -> Vec<TreeEntry>) -> Outcome {
    let outcome = restore_tree(|writer| {
        let mut entries = make(writer);
        entries.push(inline("good", b"good"));
        entries.sort_by(|one, other| coffer_format::path::compare_paths(&one.path, &other.path));
        TreeRoot { chunk: writer.leaf(&entries).chunk, height: 0 }
    });
    assert_eq!(outcome.read("good").as_deref(), Some(&b"good"[..]), "{:?}", outcome.report.errors);
    outcome
}

/// Restores a snapshot of a good leaf and a leaf with the entries that `make` writes, which no reader can read.
#[track_caller]
fn restore_bad_leaf(entries: &[TreeEntry]) -> Outcome {
    let outcome = restore_tree(|writer| {
        let good = writer.leaf(&[inline("good", b"good")]);
        let mut bad = writer.leaf(entries);
        bad.last_path = b"zz".to_vec();
        TreeRoot { chunk: writer.node(&[good, bad]), height: 1 }
    });
    assert_eq!(outcome.read("good").as_deref(), Some(&b"good"[..]), "{:?}", outcome.report.errors);
    outcome.error("entries up to zz");
    let names: Vec<_> =
        fs::read_dir(outcome.place.target()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(names, ["good"]);
    outcome
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in
        ["../beside/canary", "z/../../beside/canary", "/beside/canary", "z/", "z//a", "./z", "z/.", ".."]
    {
        restore_bad_leaf(&[inline(path, b"planted")]);
    }
    let long = "z".repeat(4_097);
    restore_bad_leaf(&[inline(&long, b"planted")]);
    restore_bad_leaf(&[inline("z\0", b"planted")]);
    let mut link = inline("z", b"");
    (link.content, link.size) = (Content::Empty, 0);
    link.hard_link = Some(b"../beside/canary".to_vec());
    restore_bad_leaf(&[link]);
}

#[test]
fn entries_out_of_order_or_twice_are_refused() {
    restore_bad_leaf(&[inline("z", b"one"), inline("z", b"two")]);
    restore_bad_leaf(&[inline("z", b"one"), inline("y", b"two")]);
    restore_bad_leaf(&[inline("z", b"file"), entry("z", Kind::Directory)]);
    // Across leaves.
    let outcome = restore_tree(|writer| {
        let first = writer.leaf(&[inline("good", b"good"), inline("z", b"one")]);
        let second = writer.leaf(&[inline("a", b"before"), inline("zz", b"two")]);
        TreeRoot { chunk: writer.node(&[first, second]), height: 1 }
    });
    outcome.assert_only_error("entries up to zz", "");
    assert_eq!(outcome.read("z").as_deref(), Some(&b"one"[..]));
    assert_eq!(outcome.read("a"), None);
}

#[test]
fn nothing_is_written_through_a_symlink_of_the_snapshot() {
    let outcome = restore_entries(|_| {
        vec![
            symlink("a", "../beside"),
            inline("a/canary", b"planted"),
            entry("a/sub", Kind::Directory),
            symlink("b", "../beside/canary"),
            symlink("c", "/"),
            inline("c/tmp/planted", b"planted"),
        ]
    });
    for path in ["a/canary", "a/sub", "c/tmp/planted"] {
        outcome.error(path);
    }
    assert_eq!(outcome.report.errors.len(), 3, "{:?}", outcome.report.errors);
}

#[test]
fn nothing_is_restored_below_what_is_no_directory() {
    let link = |path: &str, first: &str| {
        let mut link = entry(path, Kind::File);
        link.hard_link = Some(first.as_bytes().to_vec());
        link
    };
    // Neither is written yet when what claims to be below it comes.
    let dry = RestoreOptions { dry_run: true, ..restore_options() };
    let part = RestoreOptions { within: b"file/sub".to_vec(), ..restore_options() };
    for (options, made) in [(restore_options(), true), (dry, false), (part, false)] {
        let outcome = restore_as(Place::new(), &options, |writer| {
            let rows = [writer.data(b"content")];
            let entries = [
                file("file", &rows),
                entry("file/sub", Kind::Directory),
                inline("file/sub/x", b"x"),
                inline("file/x", b"x"),
                link("link", "file"),
                inline("link/x", b"x"),
            ];
            TreeRoot { chunk: writer.leaf(&entries).chunk, height: 0 }
        });
        let names: Vec<_> = outcome.report.errors.iter().map(|(path, _)| path.as_str()).collect();
        let refused = ["file/sub", "file/sub/x", "file/x", "link/x"];
        let expected = if options.within.is_empty() { &refused[..] } else { &refused[..2] };
        assert_eq!(names, expected, "{:?}", outcome.report.errors);
        assert!(outcome.error("file/sub").contains("below something that is not a directory"));
        for path in ["file", "link"] {
            assert_eq!(outcome.read(path).as_deref(), made.then_some(&b"content"[..]), "{path}");
        }
        assert!(made || fs::read_dir(outcome.place.target()).unwrap().next().is_none());
    }
}

#[test]
fn a_hard_link_follows_no_symlink() {
    let outcome = restore_entries(|_| {
        let link = |path: &str, first: &str| {
            let mut link = entry(path, Kind::File);
            link.hard_link = Some(first.as_bytes().to_vec());
            link
        };
        vec![
            symlink("a", "../beside/canary"),
            link("b", "a"),
            link("c", "a/below"),
            link("d", "absent"),
            symlink("e", "../beside"),
            link("f", "e/canary"),
        ]
    });
    for path in ["c", "d", "f"] {
        outcome.error(path);
        assert_eq!(outcome.read(path), None, "{path}");
    }
    // A link to a link is the link itself, and not what it leads to.
    let link = fs::symlink_metadata(outcome.place.target().join("b"));
    assert!(link.is_err() || link.unwrap().is_symlink());
}

#[test]
fn links_that_name_each_other_end() {
    let outcome = restore_entries(|_| {
        let link = |path: &str, first: &str| {
            let mut link = entry(path, Kind::File);
            link.hard_link = Some(first.as_bytes().to_vec());
            link
        };
        vec![inline("a", b"a"), link("b", "a"), link("c", "b"), link("d", "c")]
    });
    // A link names the first of its group; one that names another link is refused or made, but it is never something else.
    for path in ["c", "d"] {
        assert!(outcome.read(path).is_none_or(|bytes| bytes == b"a"), "{path}");
    }
    assert_eq!(outcome.read("b").as_deref(), Some(&b"a"[..]));
}

#[test]
fn absurd_sizes_are_errors_of_their_entries() {
    let holes = |holes: &[Hole]| Some(Blob::Inline(encode_holes(holes)));
    let outcome = restore_entries(|writer| {
        let chunk = writer.data(&noise(1, 100));
        let mut entries = Vec::new();
        for (name, size) in [("a", u64::MAX), ("b", 99), ("c", 101), ("d", 1), ("e", 1 << 62)] {
            let mut wrong = file(name, &[chunk]);
            wrong.size = size;
            entries.push(wrong);
        }
        let mut all_hole = entry("f", Kind::File);
        all_hole.size = u64::MAX;
        all_hole.holes = holes(&[Hole { offset: 0, len: u64::MAX }]);
        entries.push(all_hole);
        for (name, hole) in [
            ("g", Hole { offset: 50, len: u64::MAX }),
            ("h", Hole { offset: u64::MAX, len: 1 }),
            ("i", Hole { offset: 90, len: 20 }),
            ("j", Hole { offset: 0, len: 0 }),
        ] {
            let mut wrong = file(name, &[chunk]);
            wrong.holes = holes(&[hole]);
            entries.push(wrong);
        }
        entries
    });
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        outcome.error(name);
        assert_eq!(outcome.read(name), None, "{name}");
    }
    assert_eq!(outcome.report.errors.len(), 10, "{:?}", outcome.report.errors);
}

#[test]
fn references_that_lie_are_errors_of_their_entries() {
    let missing = ChunkRef { id: ChunkId([7; 32]), len: 10 };
    let outcome = restore_entries(|writer| {
        let chunk = writer.data(&noise(1, 100));
        let meta = writer.meta(&noise(2, 100));
        let lying = ChunkRef { id: ChunkId([8; 32]), len: 50 };
        let lying = writer.put_as(ChunkKind::Data, &noise(3, 50), lying);
        let shorter = ChunkRef { len: 99, ..chunk };
        let longer = ChunkRef { len: 101, ..chunk };
        let mut list = file("list", &[chunk]);
        list.content = Content::List { level: 1, rows: vec![chunk] };
        let mut rows = file("rows", &[chunk]);
        rows.content = Content::List { level: 1, rows: vec![meta] };
        let mut tagged = inline("tagged", b"x");
        tagged.xattrs = Some(Blob::Chunk(meta));
        let mut holed = file("holed", &[chunk]);
        holed.holes = Some(Blob::Chunk(meta));
        vec![
            holed,
            list,
            file("longer", &[longer]),
            file("lying", &[lying]),
            file("meta", &[meta]),
            file("missing", &[chunk, missing]),
            rows,
            file("shorter", &[shorter]),
            tagged,
            file("whole", &[chunk]),
        ]
    });
    for name in ["holed", "list", "longer", "lying", "meta", "missing", "rows", "shorter", "tagged"] {
        assert!(!outcome.error(name).is_empty());
        assert_eq!(outcome.read(name), None, "{name}");
    }
    assert_eq!(outcome.report.errors.len(), 9, "{:?}", outcome.report.errors);
    assert_eq!(outcome.read("whole").unwrap(), noise(1, 100));
    assert!(outcome.report.degraded);
    assert!(outcome.error("missing").contains(&"07".repeat(32)), "{}", outcome.error("missing"));
}

#[test]
fn a_list_that_names_itself_over_and_over_ends() {
    let outcome = restore_entries(|writer| {
        let mut row = writer.data(&noise(1, 100));
        for _ in 0..4 {
            let mut rows = Vec::new();
            (0..8_192).for_each(|_| row.write_row(&mut rows));
            row = writer.meta(&rows);
        }
        let mut bomb = file("bomb", &[]);
        bomb.size = 1_000;
        bomb.content = Content::List { level: 4, rows: vec![row; 64] };
        vec![bomb]
    });
    outcome.assert_only_error("bomb", "size");
    assert_eq!(outcome.read("bomb"), None);
}

#[test]
fn a_tree_that_names_itself_over_and_over_ends() {
    let outcome = restore_tree(|writer| {
        let mut child = writer.leaf(&[inline("good", b"good")]);
        for _ in 0..16 {
            // A hundred children of other names that are all the same: 100^16 leaves, were they walked.
            let again = (0..100)
                .map(|number| NodeChild { last_path: format!("h{number:03}").into_bytes(), ..child.clone() });
            let children: Vec<_> = std::iter::once(child.clone()).chain(again).collect();
            child = NodeChild {
                last_path: b"h099".to_vec(),
                chunk: writer.node(&children),
                entry_count: children.iter().map(|child| child.entry_count).fold(0, u64::saturating_add),
                content_bytes: 0,
            };
            let last = children.last().unwrap().last_path.clone();
            assert_eq!(last, child.last_path);
            // One level up it stands under its own name and a hundred others that are greater.
            child.last_path = b"h099".to_vec();
        }
        TreeRoot { chunk: child.chunk, height: 16 }
    });
    assert!(!outcome.report.errors.is_empty());
    assert!(outcome.report.errors.len() < 5_000, "{} errors", outcome.report.errors.len());
}

#[test]
fn devices_and_set_id_bits_need_to_be_asked_for() {
    let outcome = restore_entries(|_| {
        let mut device = entry("device", Kind::CharDevice);
        device.device = Some((1, 3));
        let mut program = inline("program", b"#!/bin/sh\n");
        program.mode = 0o6755;
        let mut resource = entry("resource", Kind::Resource);
        resource.size = 0;
        vec![device, program, resource]
    });
    assert!(!outcome.place.target().join("device").exists());
    let mode =
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(outcome.place.target().join("program")).unwrap());
    assert_eq!(mode & 0o7777, 0o755);
    outcome.assert_only_error("resource", "resource");
    for words in ["device: skipped", "program: set-id bits"] {
        assert!(
            outcome.report.warnings.iter().any(|text| text.contains(words)),
            "{:?}",
            outcome.report.warnings
        );
    }
}

/// Options under which a restore does most with what is there.
fn ways() -> [RestoreOptions; 4] {
    let delete = RestoreOptions { delete: true, ..restore_options() };
    let verify = RestoreOptions { verify: true, ..delete.clone() };
    [restore_options(), delete.clone(), verify, RestoreOptions { in_place: true, ..delete }]
}

#[test]
fn planted_symlinks_give_way_and_are_not_followed() {
    use std::os::unix::fs::symlink as plant;
    for options in ways() {
        let place = Place::new();
        for name in ["d", "e", "file", "link", "fifo", "z"] {
            plant("../beside", place.target().join(name)).unwrap();
        }
        plant("../beside/canary", place.target().join("large")).unwrap();
        let outcome = restore_as(place, &options, |writer| {
            let large = writer.data(&noise(1, 5_000));
            let mut entries = vec![
                entry("", Kind::Directory),
                entry("d", Kind::Directory),
                inline("d/canary", b"in d"),
                // No entry says that this is a directory, and what stands there is none.
                inline("e/canary", b"planted"),
                inline("file", b"file"),
                symlink("link", "nowhere"),
                file("large", &[large]),
                entry("fifo", Kind::Fifo),
            ];
            entries.sort_by(|one, other| coffer_format::path::compare_paths(&one.path, &other.path));
            TreeRoot { chunk: writer.leaf(&entries).chunk, height: 0 }
        });
        outcome.assert_only_error("e/canary", "not a directory");
        assert_eq!(outcome.read("d/canary").unwrap(), b"in d");
        assert_eq!(outcome.read("large").unwrap(), noise(1, 5_000));
        // It is surplus, and only the link itself goes.
        let gone = fs::symlink_metadata(outcome.place.target().join("z")).is_err();
        assert_eq!(gone, options.delete);
    }
}

#[test]
fn nothing_is_deleted_through_a_symlink_of_the_snapshot() {
    for options in ways() {
        let outcome = restore_as(Place::new(), &options, |writer| {
            let entries = [
                entry("", Kind::Directory),
                symlink("a", "../beside"),
                entry("a/below", Kind::Directory),
                symlink("b", ".."),
                entry("b/beside", Kind::Directory),
            ];
            TreeRoot { chunk: writer.leaf(&entries).chunk, height: 0 }
        });
        for path in ["a/below", "b/beside"] {
            assert!(outcome.error(path).contains("not a directory"), "{}", outcome.error(path));
        }
        assert_eq!(outcome.report.deleted_count, 0);
    }
}

#[test]
fn absurd_sizes_over_a_file_that_is_there_leave_it_as_it_is() {
    let names = ["a", "b", "c", "d", "e", "f"];
    for options in ways().into_iter().filter(|options| !options.in_place) {
        let place = Place::new();
        for name in names {
            fs::write(place.target().join(name), noise(1, 100)).unwrap();
        }
        let outcome = restore_as(place, &options, |writer| {
            let chunk = writer.data(&noise(1, 100));
            let mut entries = vec![entry("", Kind::Directory)];
            for (name, size) in [("a", u64::MAX), ("b", 99), ("c", 101), ("d", 1 << 62)] {
                let mut wrong = file(name, &[chunk]);
                wrong.size = size;
                entries.push(wrong);
            }
            let mut all_hole = entry("e", Kind::File);
            all_hole.size = u64::MAX;
            all_hole.holes = Some(Blob::Inline(encode_holes(&[Hole { offset: 0, len: u64::MAX }])));
            entries.push(all_hole);
            // What is claimed to be four times 16 MiB of a file with 100 bytes is not read.
            let longer = ChunkRef { len: 16_777_216, ..chunk };
            entries.push(file("f", &[longer; 4]));
            TreeRoot { chunk: writer.leaf(&entries).chunk, height: 0 }
        });
        for name in names {
            outcome.error(name);
            assert_eq!(outcome.read(name).unwrap(), noise(1, 100), "{name}");
        }
        assert_eq!(outcome.report.errors.len(), names.len(), "{:?}", outcome.report.errors);
    }
}

#[test]
fn devices_that_are_asked_for_stay_inside_too() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root makes devices");
        return;
    }
    let place = Place::new();
    std::os::unix::fs::symlink("../beside/canary", place.target().join("null")).unwrap();
    let mut options = restore_options();
    options.target.devices = true;
    let outcome = restore_as(place, &options, |writer| {
        let device = |path: &str, kind| {
            let mut device = entry(path, kind);
            device.device = Some((1, 3));
            device
        };
        let entries =
            [symlink("a", "../beside"), device("a/null", Kind::CharDevice), device("null", Kind::CharDevice)];
        TreeRoot { chunk: writer.leaf(&entries).chunk, height: 0 }
    });
    assert!(outcome.error("a/null").contains("not a directory"));
    let stat = fs::symlink_metadata(outcome.place.target().join("null")).unwrap();
    let is_device = std::os::unix::fs::FileTypeExt::is_char_device(&stat.file_type());
    let skipped = outcome.report.warnings.iter().any(|text| text.contains("null: skipped"));
    assert!(is_device || skipped, "{:?}", outcome.report.warnings);
}
