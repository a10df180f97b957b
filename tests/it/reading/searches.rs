//! Searches: by name, by path, by time, in one snapshot and in many.

use std::fs;
use std::time::{Duration, SystemTime};

use coffer_collect::Patterns;
use coffer_engine::{EngineError, FindOptions, Finder};
use coffer_format::path::display_path;
use coffer_store::MemoryStore;
use coffer_testkit::RecordingStore;

use super::Vaulted;
use crate::restore::by_hand::{Writer, inline};
use crate::support::World;

fn patterns(list: &[&str], ignore_case: bool) -> Patterns {
    let mut builder = Patterns::builder();
    list.iter().for_each(|pattern| builder.add(pattern.as_bytes(), ignore_case).unwrap());
    builder.build().unwrap()
}

/// What is found in one snapshot.
fn find(vaulted: &Vaulted, options: FindOptions) -> Vec<String> {
    let vault = vaulted.world.open(&vaulted.store).unwrap();
    let snapshot = vault.select("latest").unwrap();
    let mut found = Vec::new();
    Finder::new(options)
        .find(&vault, &snapshot, b"", &mut |entry| {
            found.push(display_path(&entry.unwrap().path));
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn a_pattern_is_a_name_or_with_a_slash_a_whole_path() {
    let vaulted = Vaulted::new();
    for name in ["a.txt", "d/a.txt", "d/b.TXT", "d/e/c.txt.gz", "txt/x", "a!", "d/e/a"] {
        let path = vaulted.source().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    vaulted.save();
    let check = |list: &[&str], ignore_case: bool, expected: &[&str]| {
        let options = FindOptions { patterns: patterns(list, ignore_case), ..FindOptions::default() };
        assert_eq!(find(&vaulted, options), expected, "{list:?}");
    };
    check(&["*.txt"], false, &["src/a.txt", "src/d/a.txt"]);
    check(&["*.txt"], true, &["src/a.txt", "src/d/a.txt", "src/d/b.TXT"]);
    check(&["a"], false, &["src/d/e/a"]);
    check(&["txt"], false, &["src/txt"]);
    check(&["txt/"], false, &["src/txt"]);
    check(&["x/"], false, &[]);
    check(&["src/*.txt"], false, &["src/a.txt"]);
    check(&["/src/d/*"], false, &["src/d/a.txt", "src/d/b.TXT", "src/d/e"]);
    check(&["src/**/a*"], false, &["src/a!", "src/a.txt", "src/d/a.txt", "src/d/e/a"]);
    check(&["d/a.txt"], false, &[]);
    check(&["**/d/a.txt"], false, &["src/d/a.txt"]);
    check(&["[ab].*", "c*"], false, &["src/a.txt", "src/d/a.txt", "src/d/b.TXT", "src/d/e/c.txt.gz"]);
    check(&["src"], false, &["src"]);
    check(&["nothing"], false, &[]);
}

#[test]
fn times_bound_a_search_on_both_sides() {
    let vaulted = Vaulted::new();
    for second in 1..=5 {
        let path = vaulted.source().join(format!("f{second}"));
        fs::write(&path, "x").unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    vaulted.save();
    let check = |oldest: Option<i64>, newest: Option<i64>, expected: &[&str]| {
        let ns = |seconds: Option<i64>| seconds.map(|seconds| seconds * 1_000_000_000);
        let (oldest_ns, newest_ns) = (ns(oldest), ns(newest));
        let found = find(&vaulted, FindOptions { patterns: patterns(&["f?"], false), oldest_ns, newest_ns });
        assert_eq!(found, expected);
    };
    check(Some(4), None, &["src/f4", "src/f5"]);
    check(None, Some(2), &["src/f1", "src/f2"]);
    check(Some(3), Some(3), &["src/f3"]);
    check(Some(6), None, &[]);
}

/// Each leaf is a frame of its own here, so that reads can be told apart.
#[test]
fn a_second_snapshot_costs_what_changed_and_is_searched_all_the_same() {
    let (world, store) = (World::new(32), RecordingStore::new(MemoryStore::new()));
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let owner = vault.keyring.vault_key().unwrap().signing();
    let mut names: Vec<String> = (0..4000).map(|number| format!("file-{number:04}")).collect();
    names.push("file-2000-wanted".to_owned());
    for round in 0..2 {
        if round == 1 {
            names.push("file-3000-wanted as well".to_owned());
        }
        names.sort();
        let entries: Vec<_> = names.iter().map(|name| inline(name, b"x")).collect();
        let mut writer = Writer::new(&vault, vault.owner_domain(), 40 + round);
        let root = writer.tree(&entries);
        writer.snapshot(&mut vault, &owner, root);
    }
    let options = FindOptions { patterns: patterns(&["*wanted*"], false), ..FindOptions::default() };
    let mut finder = Finder::new(options);
    let mut search = |selector: &str| {
        let snapshot = vault.select(selector).unwrap();
        store.reset();
        let mut found = Vec::new();
        let mut visit = |entry: coffer_engine::ListedEntry| {
            found.push(display_path(&entry.unwrap().path));
            Ok::<_, EngineError>(())
        };
        finder.find(&vault, &snapshot, b"", &mut visit).unwrap();
        (found, store.reset().read_range_count)
    };
    let (found, first) = search("latest~1");
    assert_eq!(found, ["file-2000-wanted"]);
    assert!(first > 40, "{first}");
    let (found, second) = search("latest");
    assert_eq!(found, ["file-2000-wanted", "file-3000-wanted as well"]);
    let (found, third) = search("latest~1");
    assert_eq!(found, ["file-2000-wanted"]);
    assert!(second < first / 2 && third < first / 2, "{first}, {second}, {third}");
}

#[test]
fn what_cannot_be_searched_is_said() {
    let vaulted = Vaulted::new();
    for file in 0..3000 {
        fs::write(vaulted.source().join(format!("file-{file:04}")), "").unwrap();
    }
    vaulted.save();
    let objects = coffer_testkit::copy::snapshot_of(&vaulted.store);
    let packs: Vec<_> = objects.keys().filter(|name| name.starts_with("packs/")).cloned().collect();
    let mut lost_count = 0;
    for pack in packs {
        let mut objects = objects.clone();
        objects.remove(&pack).unwrap();
        let store = coffer_testkit::copy::store_from(objects);
        let vault = vaulted.world.open(&store).unwrap();
        let snapshot = vault.select("latest").unwrap();
        let options = FindOptions { patterns: patterns(&["file-*"], false), ..FindOptions::default() };
        let (mut found, mut lost) = (0, 0);
        Finder::new(options)
            .find(&vault, &snapshot, b"", &mut |entry| {
                match entry {
                    Ok(_) => found += 1,
                    Err(_) => lost += 1,
                }
                Ok(())
            })
            .unwrap();
        assert!(lost > 0 || found == 3000, "{found} entries, and nothing is said of the others");
        lost_count += lost;
    }
    assert!(lost_count > 0);
}
