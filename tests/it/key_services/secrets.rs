//! No secret is left lying: canaries are looked for in all that commands write.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use coffer_sandbox::KmsKind;

use super::{DENIED, Desk, Ran};

/// Runs a command, and gives what stands meanwhile in files where a process leaves things lying.
fn run_watched(desk: &Desk, command: &mut Command) -> (Ran, BTreeSet<(String, Vec<u8>)>) {
    let mut seen = BTreeSet::new();
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| command.output().unwrap());
        while !running.is_finished() {
            for dir in ["tmp", "home", "cache"] {
                let mut files = Vec::new();
                read_all(&desk.path(dir), &mut files);
                seen.extend(files);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        running.join().unwrap()
    });
    (Desk::ran(output), seen)
}

#[test]
fn no_secret_stands_where_it_may_be_read() {
    let desk = Desk::new();
    let material = *b"canary-root-key-material-32bytes";
    let key = desk.instance(KmsKind::KeyProtect, Some(&material));
    desk.init(&key);
    desk.run("keys new-file ../key").expect(0);
    desk.run("keys add --new-key-file ../key").expect(0);
    let root = coffer_keys::KeyFile::parse(&fs::read(desk.path("key")).unwrap()).unwrap();
    let store = coffer_store::LocalStore::open(desk.path("vault")).unwrap();
    let world = super::super::support::World::new(1);
    let vault = coffer_engine::Vault::open(world.access(&store), &root, None).unwrap();
    let vault_key = *vault.keyring.vault_key().unwrap().expose();
    let key_line = fs::read_to_string(desk.path("key")).unwrap();
    let secret = key_line.lines().find(|line| line.starts_with("COFFER-KEY-1-")).unwrap()[13..77].to_owned();
    let mut said = String::new();
    let mut places = Vec::new();
    for line in [
        "-vv snapshots",
        "-vv --json backup src",
        "keys test --json --also-key-file ../key --also-passphrase-file ../recovery",
        "keys list",
        "doctor",
        "verify --deep",
        "keys rewrap",
        "keys export-kit ../kit",
        "--key-file ../key -vv snapshots",
        "--passphrase-file ../recovery snapshots",
        "--key-file ../recovery snapshots",
        "--passphrase-file ../key snapshots",
    ] {
        let (ran, seen) = run_watched(&desk, &mut desk.command(line));
        said.push_str(&ran.out);
        said.push_str(&ran.err);
        places.extend(seen);
    }
    desk.region.switch(|switches| switches.is_unwrap_denied = true).unwrap();
    let ran = desk.run("-vv snapshots").expect(DENIED);
    said.push_str(&ran.err);
    places.push(("output".to_owned(), said.into_bytes()));
    for dir in ["vault", "cache", "kit", "work", "home", "tmp"] {
        read_all(&desk.path(dir), &mut places);
    }
    let hex = |bytes: &[u8]| coffer_format::id::hex(bytes);
    let canaries: Vec<(&str, Vec<u8>)> = vec![
        ("vault key", vault_key.to_vec()),
        ("vault key in hex", hex(&vault_key).into_bytes()),
        ("vault key in base64", base64_of(&vault_key).into_bytes()),
        ("root key", material.to_vec()),
        ("root key in base64", base64_of(&material).into_bytes()),
        ("key file", secret.into_bytes()),
        ("passphrase", b"six words that are not guessed".to_vec()),
        ("API key", desk.api_key.clone().into_bytes()),
        ("token", b"eyJ".to_vec()),
    ];
    for (name, canary) in &canaries {
        for (place, bytes) in &places {
            // What is sealed is random: three bytes of it may be anything.
            let is_sealed = |dir: &&str| std::path::Path::new(place).starts_with(desk.path(dir));
            let is_random = *name == "token" && ["vault", "cache", "kit"].iter().any(is_sealed);
            let found = !is_random && bytes.windows(canary.len()).any(|window| window == canary.as_slice());
            assert!(!found, "the {name} stands in {place}");
        }
    }
}

#[test]
fn a_file_that_stands_for_a_moment_is_seen() {
    let desk = Desk::new();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "echo canary > $TMPDIR/a; sleep 1; rm $TMPDIR/a"]).env("TMPDIR", desk.path("tmp"));
    let (ran, seen) = run_watched(&desk, &mut shell);
    ran.expect(0);
    assert!(seen.iter().any(|(_, bytes)| bytes == b"canary\n"), "{seen:?}");
    // The command is given the places that are watched.
    let command = desk.command("version");
    let places: Vec<_> = command.get_envs().collect();
    for (name, dir) in [("TMPDIR", "tmp"), ("HOME", "home"), ("COFFER_CACHE_DIR", "cache")] {
        let value = desk.path(dir).into_os_string();
        assert!(places.contains(&(name.as_ref(), Some(value.as_os_str()))), "{places:?}");
    }
}

/// Reads what is there; of a file that goes away meanwhile, nothing.
fn read_all(dir: &std::path::Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            read_all(&entry.path(), into);
        } else if let Ok(bytes) = fs::read(entry.path()) {
            into.push((entry.path().display().to_string(), bytes));
        }
    }
}

/// Without padding, as a canary: what stands behind it shifts nothing.
fn base64_of(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let (threes, _) = bytes.as_chunks::<3>();
    let four = |three: &[u8; 3]| {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| letter(bits >> shift))
    };
    threes.iter().flat_map(four).collect()
}
