//! Vaults of every format version must stay readable, also by a reader that shares no code with this one.
//!
//! `tests/fixtures/vaults/<version>/` holds a vault, its keys, and what its snapshots restore to. With
//! `COFFER_WRITE_FIXTURE=1` the one of the current version is written if it is not there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use coffer_crypto::{Argon2Params, SecretBytes};
use coffer_engine::{Vault, restore};
use coffer_format::header::{FORMAT_MAJOR, FORMAT_MINOR};
use coffer_format::id::{Head, VaultId, hex};
use coffer_keys::{KeyFile, Passphrase, RootKey};
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_store::LocalStore;
use coffer_verify::{Options, Silent, read_state, verify, verify_deep};
use serde_json::{Value, json};

use crate::support::{Quiet, World, backup_options, noise, restore_options};

const PASSPHRASE: &str = "correct horse battery staple";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn fixture_folder(version: &str) -> PathBuf {
    repository().join("tests/fixtures/vaults").join(version)
}

fn current_version() -> String {
    format!("{FORMAT_MAJOR}.{FORMAT_MINOR}")
}

fn passphrase() -> Passphrase {
    Passphrase::new(SecretBytes::new(PASSPHRASE.as_bytes().to_vec()), Argon2Params::FLOOR).unwrap()
}

/// What restoring gives: path to a description of everything that a snapshot keeps and every user can restore.
fn describe(root: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, String> = BTreeMap::new();
    walk(root, root, &mut found, &mut inodes);
    found
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Value>, inodes: &mut BTreeMap<u64, String>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = format!("{:o}", metadata.permissions().mode() & 0o7777);
        let mtime = json!(metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
        let description = if metadata.is_symlink() {
            json!({"link": fs::read_link(&path).unwrap().to_str().unwrap()})
        } else if metadata.is_dir() {
            walk(root, &path, found, inodes);
            json!({"dir": mode, "mtime_ns": mtime})
        } else {
            let content = coffer_crypto::hash::hash(&fs::read(&path).unwrap());
            let first = inodes.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
            json!({"file": mode, "mtime_ns": mtime, "size": metadata.len(), "blake3": hex(&content), "first": first})
        };
        found.insert(name, description);
    }
}

fn set_time(path: &Path, seconds: u64) {
    let file = fs::File::open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(seconds, 123_456_789)).unwrap();
}

/// The tree of the fixture, as its first snapshot has it.
fn write_tree(root: &Path) {
    fs::create_dir_all(root.join("documents/empty")).unwrap();
    fs::write(root.join("documents/none"), b"").unwrap();
    fs::write(root.join("documents/inline"), b"a few bytes that stand in the entry").unwrap();
    fs::write(root.join("documents/text.txt"), "compressible, line by line\n".repeat(2000)).unwrap();
    fs::write(root.join("documents/noise.bin"), noise(7, 150_000)).unwrap();
    fs::write(root.join("documents/Ünïcode name"), noise(8, 500)).unwrap();
    fs::hard_link(root.join("documents/noise.bin"), root.join("documents/same-file")).unwrap();
    symlink("text.txt", root.join("documents/link")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..150_u64 {
        fs::write(root.join(format!("many/file-{number:03}")), noise(100 + number, 300)).unwrap();
    }
    fs::set_permissions(root.join("documents/text.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    for (number, path) in ["documents/text.txt", "documents/noise.bin", "documents/inline"].iter().enumerate()
    {
        set_time(&root.join(path), 1_500_000_000 + number as u64);
    }
    set_time(&root.join("documents/empty"), 1_400_000_000);
}

#[test]
fn the_current_version_has_a_fixture() {
    let folder = fixture_folder(&current_version());
    if std::env::var_os("COFFER_WRITE_FIXTURE").is_some() && !folder.exists() {
        write_fixture(&folder);
    }
    assert!(
        folder.join("expected.json").exists(),
        "COFFER_WRITE_FIXTURE=1 cargo test -p coffer-tests writes one"
    );
}

fn write_fixture(folder: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    write_tree(&source);
    fs::create_dir_all(folder).unwrap();
    let world = World::new(20_260_101);
    fs::write(folder.join("key"), world.key.to_text().expose()).unwrap();
    fs::write(folder.join("passphrase"), PASSPHRASE).unwrap();
    let store = LocalStore::create(folder.join("vault")).unwrap();
    let vault_id = world.init(&store).unwrap();
    world.open(&store).unwrap().add_slot(&passphrase(), "recovery").unwrap();

    // The first backup is long enough for progress records.
    world.clock.set_step(1_000_000_000);
    let mut snapshots = Vec::new();
    let mut keep = |head: &mut Option<Head>| {
        let report = world.backup(&store, &source).unwrap();
        *head = Some(report.head);
        snapshots.push(json!({"id": report.snapshot.to_string(), "entries": describe(scratch.path())}));
    };
    let mut head = None;
    keep(&mut head);
    world.clock.set_step(0);
    world.clock.advance(86_400_000_000_000);
    fs::remove_file(source.join("documents/none")).unwrap();
    fs::write(source.join("documents/noise.bin"), [&b"in front "[..], &noise(7, 150_000)].concat()).unwrap();
    fs::write(source.join("many/file-1000"), b"between others").unwrap();
    fs::rename(source.join("documents/empty"), source.join("documents/renamed")).unwrap();
    keep(&mut head);
    let head = head.unwrap();
    let expected =
        json!({"vault_id": vault_id.to_string(), "head": head.to_string(), "snapshots": snapshots});
    fs::write(folder.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
}

struct Fixture {
    folder: PathBuf,
    vault_id: VaultId,
    head: Head,
    snapshots: Vec<(String, BTreeMap<String, Value>)>,
}

/// Every fixture there is.
fn fixtures() -> Vec<Fixture> {
    let folders = fs::read_dir(repository().join("tests/fixtures/vaults")).unwrap();
    let read = |folder: PathBuf| {
        let expected: Value =
            serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let snapshots = expected["snapshots"].as_array().unwrap().iter().map(|snapshot| {
            let entries = serde_json::from_value(snapshot["entries"].clone()).unwrap();
            (snapshot["id"].as_str().unwrap().to_owned(), entries)
        });
        Fixture {
            vault_id: expected["vault_id"].as_str().unwrap().parse().unwrap(),
            head: expected["head"].as_str().unwrap().parse().unwrap(),
            snapshots: snapshots.collect(),
            folder,
        }
    };
    folders
        .map(|folder| folder.unwrap().path())
        .filter(|folder| folder.join("expected.json").exists())
        .map(read)
        .collect()
}

#[test]
fn fixtures_restore_with_every_key() {
    for fixture in fixtures() {
        let store = LocalStore::open(fixture.folder.join("vault")).unwrap();
        let key = KeyFile::parse(&fs::read(fixture.folder.join("key")).unwrap()).unwrap();
        let roots: [&dyn RootKey; 2] = [&key, &passphrase()];
        for root in roots {
            let world = World::new(1);
            let vault = Vault::open(world.access(&store), root, Some(fixture.vault_id)).unwrap();
            assert_eq!(vault.log.head(), Some(fixture.head));
            for (id, expected) in &fixture.snapshots {
                let target = tempfile::tempdir().unwrap();
                let snapshot = vault.select(id).unwrap();
                let report =
                    restore(&vault, &snapshot, target.path(), &restore_options(), &mut Quiet).unwrap();
                assert!(report.errors.is_empty() && !report.degraded, "{report:?}");
                assert_eq!(&describe(target.path()), expected, "snapshot {id}");
            }
        }
    }
}

#[test]
fn fixtures_verify_without_and_with_keys() {
    for fixture in fixtures() {
        let store = LocalStore::open(fixture.folder.join("vault")).unwrap();
        let options =
            Options { vault_id: Some(fixture.vault_id), head: Some(fixture.head), ..Options::default() };
        let report = verify(&store, &options, &Silent).unwrap();
        assert!(report.is_clean() && report.origin_proved && report.fresh_proved, "{report:?}");
        let key = KeyFile::parse(&fs::read(fixture.folder.join("key")).unwrap()).unwrap();
        let state = read_state(&store, &options).unwrap();
        let (_, slot, key) = coffer_keys::try_slots(&state.slots, state.vault_id, &key).unwrap();
        let key = UnwrappedKey::VaultKey(coffer_crypto::VaultKey::from_secret(key));
        let report = verify_deep(&store, (slot.epoch, key), &options, &Silent).unwrap();
        assert!(report.is_clean() && report.counts.trees == fixture.snapshots.len() as u64, "{report:?}");
    }
}

/// The second reader, if its libraries are installed (`tests/install-extras.sh`). In continuous integration they are.
fn second_reader() -> Option<(PathBuf, PathBuf)> {
    let python = repository().join(".venv/bin/python");
    let reader = repository().join("tests/reader/coffer_reader.py");
    if python.exists() {
        return Some((python, reader));
    }
    assert!(std::env::var_os("COFFER_TESTS_REQUIRE_ALL").is_none(), "tests/install-extras.sh was not run");
    println!("SKIPPED: the second reader; tests/install-extras.sh installs its libraries");
    None
}

fn read_with(reader: &(PathBuf, PathBuf), vault: &Path, key: &[&str], arguments: &[&str]) -> String {
    let mut command = Command::new(&reader.0);
    command.arg(&reader.1).arg(vault).args(key).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_second_reader_restores_fixtures() {
    let Some(reader) = second_reader() else { return };
    for fixture in fixtures() {
        let vault = fixture.folder.join("vault");
        let (key, passphrase) = (fixture.folder.join("key"), fixture.folder.join("passphrase"));
        let by_key = ["--key-file", key.to_str().unwrap()];
        let by_passphrase = ["--passphrase-file", passphrase.to_str().unwrap()];
        for (id, expected) in &fixture.snapshots {
            assert!(read_with(&reader, &vault, &by_key, &["list"]).contains(&id[..8]));
            for key in [by_key, by_passphrase] {
                let target = tempfile::tempdir().unwrap();
                read_with(&reader, &vault, &key, &["restore", id, target.path().to_str().unwrap()]);
                assert_eq!(&describe(target.path()), expected, "snapshot {id}");
            }
        }
    }
}

/// Whoever has the kit has no copy of this repository.
#[test]
fn the_second_reader_is_whole_in_a_recovery_kit() {
    let Some((python, _)) = second_reader() else { return };
    for fixture in fixtures() {
        let place = tempfile::tempdir().unwrap();
        let kit = place.path().join("kit");
        let (vault, key) = (fixture.folder.join("vault"), fixture.folder.join("key"));
        let key = ["--key-file", key.to_str().unwrap()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
        command.env_clear().env("HOME", place.path()).arg("--vault").arg(&vault).args(key);
        let output = command.args(["keys", "export-kit"]).arg(&kit).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listed = read_with(&(python.clone(), kit.join("coffer_reader.py")), &vault, &key, &["list"]);
        assert!(fixture.snapshots.iter().all(|(id, _)| listed.contains(&id[..8])), "{listed}");
    }
}

#[test]
fn the_second_reader_restores_a_fresh_vault() {
    let Some(reader) = second_reader() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (source, key) = (scratch.path().join("tree/source"), scratch.path().join("key"));
    fs::create_dir_all(&source).unwrap();
    write_tree(&source);
    // More than one leaf, and a file whose list of chunks does not fit its entry.
    for number in 0..500_u64 {
        fs::write(source.join(format!("many/more-{number}")), noise(number, 200)).unwrap();
    }
    fs::write(source.join("long list"), noise(99, 200_000)).unwrap();
    let world = World::new(77);
    fs::write(&key, world.key.to_text().expose()).unwrap();
    let store = LocalStore::create(scratch.path().join("vault")).unwrap();
    world.init(&store).unwrap();
    let options = backup_options(&source);
    world.backup_with(&store, &coffer_engine::BackupOptions { checkpoint_interval: 1, ..options }).unwrap();
    let target = tempfile::tempdir().unwrap();
    let key = ["--key-file", key.to_str().unwrap()];
    let vault = scratch.path().join("vault");
    read_with(&reader, &vault, &key, &["restore", "latest", target.path().to_str().unwrap()]);
    assert_eq!(describe(target.path()), describe(source.parent().unwrap()));
}

#[test]
fn the_second_reader_agrees_with_the_vectors() {
    let Some((python, _)) = second_reader() else { return };
    let folder = repository().join("tests");
    let mut command = Command::new(python);
    command.arg(folder.join("reader/coffer_vectors.py")).arg(folder.join("vectors"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
