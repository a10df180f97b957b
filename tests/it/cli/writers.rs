//! Writer and reader credentials on the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use coffer_engine::Vault;
use coffer_format::record::{Details, RecordKind, Role, RoleAction};
use coffer_keys::KeyFile;
use coffer_store::LocalStore;

use super::desk::{Desk, Ran, text_of};
use crate::restore::by_hand::{commit_by_owner, signing_key};
use crate::support::World;

/// A machine that has nothing but a credential and the store.
fn host(desk: &Desk, line: &str) -> Ran {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let mut command = desk.bare_command(&arguments);
    command.env("COFFER_VAULT", desk.path("vault")).env("COFFER_CACHE_DIR", desk.path("host-cache"));
    desk.finish(command.env("COFFER_WRITER", desk.path("web.writer")))
}

fn granted() -> Desk {
    let desk = Desk::with_vault();
    desk.run("keys grant-writer web --host web-1 --out ../web.writer")
        .expect(0)
        .says("writer web is enrolled")
        .says("read none");
    desk
}

#[test]
fn a_host_backs_up_with_a_credential_and_its_owner_restores() {
    let desk = granted();
    let mode = fs::metadata(desk.path("web.writer")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    host(&desk, "backup src").expect(0).says("is committed").says_not("every file is read");
    // Long enough ago to be trusted: what changed just now is read once more.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    host(&desk, "backup src").expect(0);
    let again = host(&desk, "--json backup src").expect(0);
    let summary = again.message();
    assert_eq!((summary["new_bytes"].clone(), summary["stored_bytes"].clone()), (0.into(), 0.into()));
    assert_eq!(summary["read_bytes"], fs::metadata(desk.path("work/src/a")).unwrap().len());
    assert!(summary["parent"].is_string());

    desk.run("restore latest --target ../out").expect(0);
    for name in ["a", "d/b", "d/large"] {
        let restored = fs::read(desk.path(&format!("out/src/{name}"))).unwrap();
        assert!(restored == fs::read(desk.path(&format!("work/src/{name}"))).unwrap(), "{name}");
    }
    desk.run("verify --deep").expect(0);

    fs::remove_dir_all(desk.path("host-cache")).unwrap();
    host(&desk, "backup src").expect(0).says("every file is read").says("not stored again");
    host(&desk, "--no-cache backup src").expect(0).says("no local memory");
    host(&desk, "backup --dry-run src").expect(0).says("nothing was stored");
    host(&desk, "backup --stdin-from-command --stdin-filename dump -- echo hello").expect(0);
    assert_eq!(desk.run("cat latest:dump").expect(0).out, "hello\n");
}

#[test]
fn everything_else_is_refused_and_says_what_to_do() {
    let desk = granted();
    host(&desk, "backup src").expect(0);
    let objects = desk.objects("");
    for command in [
        "snapshots",
        "ls latest",
        "find a",
        "cat latest:src/a",
        "dump latest",
        "diff latest latest",
        "restore latest --target ../out",
        "verify --deep",
        "stats",
        "keys list",
        "keys add --new-key-file ../key",
        "keys test",
        "keys revoke 00",
        "keys passwd --new-passphrase-file ../key",
        "keys grant-writer more --out ../more",
        "keys revoke-writer web",
        "keys writers",
        "policy show",
        "policy set --lock none",
        "backup src --parent latest",
    ] {
        host(&desk, command).expect(12).says("writer credential").says_not("panicked");
    }
    host(&desk, "stats").says("`coffer backup` works");
    assert!(!desk.path("more").exists() && !desk.path("out").exists());
    assert_eq!(desk.objects(""), objects);
    // What needs no key.
    host(&desk, "verify").expect(0);
    host(&desk, "doctor").expect(0);
}

#[test]
fn one_level_names_one_kind_of_key() {
    let desk = granted();
    // The command line goes before the environment, whichever kind it names.
    desk.run("--writer ../web.writer snapshots").expect(12).says("writer credential");
    desk.run("--writer ../web.writer backup src").expect(0);
    host(&desk, "--key-file ../key snapshots").expect(0).says("1 snapshot(s)");
    desk.run("--writer ../web.writer --key-file ../key backup src").expect(2).says("command line");
    let mut command = desk.command(&["backup", "src"]);
    desk.finish(command.env("COFFER_WRITER", desk.path("web.writer"))).expect(2).says("environment");
    fs::write(desk.path("work/config"), "vault = \"../vault\"\nwriter = \"../web.writer\"\n").unwrap();
    desk.bare("--config config backup src").expect(0);
    desk.bare("--config config stats").expect(12);
    desk.bare("--config config --key-file ../key stats").expect(0);
    desk.bare("--config config -vv backup src").expect(0).says("key: writer credential ../web.writer");

    desk.run("--writer ../absent backup src").expect(12).says("absent").says("grant-writer");
    desk.run("--writer ../key backup src").expect(12).says("is no writer credential").says("--key-file");
    desk.run("--key-file ../web.writer snapshots").expect(12).says("is no key file");
}

#[test]
fn writers_are_granted_listed_and_revoked() {
    let desk = granted();
    desk.run("keys grant-writer web --out ../again").expect(1).says("there is a writer web already");
    assert!(!desk.path("again").exists());
    desk.run("keys grant-writer other --out ../web.writer").expect(1).says("choose another name");
    desk.run("keys grant-writer other --out ../no/dir").expect(1).says("make the directory first");
    desk.run("keys grant-writer other --group nobody --out ../other.writer")
        .expect(1)
        .says("no writer nobody");
    assert!(!desk.path("other.writer").exists());
    let granted = desk.json("keys grant-writer db --group web --out ../db.writer").expect(0);
    let said = granted.error_messages();
    assert!(
        said.iter().any(|message| text_of(&message["message"]).contains("shares the dedup domain of web"))
    );
    let granted = granted.message();
    assert_eq!((text_of(&granted["name"]), text_of(&granted["group"])), ("db".to_owned(), "web".to_owned()));

    let listed = desk.json("keys writers").expect(0).message();
    let writers = listed["writers"].as_array().unwrap();
    assert_eq!(writers.len(), 2);
    assert_eq!(writers[0]["domains"], writers[1]["domains"]);
    assert_eq!((text_of(&writers[0]["host"]), writers[1]["host"].is_null()), ("web-1".to_owned(), true));
    assert_eq!(writers[1]["key"], granted["key"]);
    desk.run("keys writers")
        .expect(0)
        .says("shares its domain with db")
        .says("for web-1")
        .says_not("REVOKED");

    host(&desk, "backup src").expect(0);
    desk.run("keys revoke-writer nobody").expect(1).says("coffer keys writers");
    let revoked = desk.json("keys revoke-writer web").expect(0).message();
    assert_eq!(text_of(&revoked["name"]), "web");
    host(&desk, "backup src").expect(12).says("the writer web was revoked").says("grant-writer");
    desk.run("keys writers").expect(0).says("REVOKED");
    desk.json("keys writers").expect(0);
    assert_eq!(desk.snapshot_count(), 1);
    desk.run("verify --deep").expect(0);
    desk.run("keys list").expect(0).says_not("web");
    desk.run("--writer ../db.writer backup src").expect(0);
}

#[test]
fn a_reader_reads_everything_and_signs_nothing() {
    let desk = granted();
    host(&desk, "backup src").expect(0);
    desk.run("backup src").expect(0);
    desk.bare("keys new-file ../audit").expect(0);
    desk.run("keys add --reader --new-key-file ../audit --label audit").expect(0);
    desk.run("keys list").expect(0).says("audit  reads only");
    let reader = |line: &str| desk.bare(&format!("-V ../vault --key-file ../audit --no-cache {line}"));
    reader("snapshots").expect(0).says("2 snapshot(s)");
    reader("ls latest~1").expect(0).says("src/a");
    reader("restore latest --target ../read").expect(0);
    assert_eq!(fs::read(desk.path("read/src/a")).unwrap(), fs::read(desk.path("work/src/a")).unwrap());
    reader("verify --deep").expect(0);
    reader("keys writers").expect(0).says("web");
    reader("policy show").expect(0);
    desk.bare("keys new-file ../third").expect(0);
    let objects = desk.objects("");
    for command in [
        "backup src",
        "keys add --new-key-file ../third",
        "keys grant-writer more --out ../more",
        "keys revoke-writer web",
        "keys revoke 00",
        "policy set --lock none",
    ] {
        reader(command).expect(12).says("cannot").says("a slot that holds the vault key");
    }
    assert!(!desk.path("more").exists());
    assert_eq!(desk.objects(""), objects);
    fs::write(desk.path("words"), "words that only read").unwrap();
    desk.run("keys add --reader --new-passphrase-file ../words").expect(0);
    let words = "-V ../vault --passphrase-file ../words --no-cache";
    desk.bare(&format!("{words} keys passwd --new-passphrase-file ../third"))
        .expect(12)
        .says("cannot")
        .says("a slot that holds the vault key");
    // One key for both would open whichever comes first.
    desk.run("keys add --reader --new-key-file ../key").expect(1).says("already");
    desk.run("keys add --new-key-file ../audit").expect(1).says("already");
    desk.run("keys test --also-key-file ../audit").expect(0);
}

/// Whoever has the vault key enrols a key of theirs; what the record says of a name is no name. Returns the beginning of the key.
pub(super) fn plant(desk: &Desk, seed: u8, role: Role) -> String {
    let key_file = KeyFile::parse(&fs::read(desk.path("key")).unwrap()).unwrap();
    let (world, store) = (World::new(u64::from(seed)), LocalStore::open(desk.path("vault")).unwrap());
    let mut vault = Vault::open(world.access(&store), &key_file, None).unwrap();
    let key = *signing_key(seed).verifying_key().as_bytes();
    let domains = if role == Role::Put { vec![crate::restore::by_hand::domain(seed)] } else { Vec::new() };
    let action = RoleAction::Enrol { key, role, domains };
    commit_by_owner(&mut vault, RecordKind::Role, &Details::Role(action));
    coffer_format::id::hex(&key)[..8].to_owned()
}

/// Forgets the newest snapshot in the name of a planted key, and tells whether that counts.
fn forgets(desk: &Desk, seed: u8) -> bool {
    let key_file = KeyFile::parse(&fs::read(desk.path("key")).unwrap()).unwrap();
    let (world, store) = (World::new(u64::from(seed) + 1000), LocalStore::open(desk.path("vault")).unwrap());
    let vault = Vault::open(world.access(&store), &key_file, None).unwrap();
    let newest = vault.state().snapshots.last().unwrap().id;
    let details = Details::Snapshots { ids: vec![newest] };
    let body = Some((crate::restore::by_hand::EMPTY_BODY, vault.owner_domain()));
    let signing = signing_key(seed);
    let bytes = crate::restore::by_hand::record(
        &vault,
        vault.state(),
        RecordKind::Forget,
        &signing,
        body,
        |public| {
            public.details = details.encode();
        },
    );
    let number = vault.state().next;
    drop(vault);
    crate::restore::by_hand::put(&store, &format!("log/{number:012}"), &bytes);
    let vault = Vault::open(world.access(&store), &key_file, None).unwrap();
    vault.state().snapshot(&newest).unwrap().forgotten
}

#[test]
fn a_signer_that_a_thief_of_the_vault_key_has_enrolled_does_not_outlast_it() {
    let desk = Desk::with_snapshot();
    desk.run("keys grant-writer web --out ../web.writer").expect(0);
    let maintainer = plant(&desk, 71, Role::Maintainer);
    let writer = plant(&desk, 72, Role::Put);
    let read = plant(&desk, 73, Role::Read);
    for key in [&maintainer, &writer, &read] {
        desk.run("keys writers").expect(0).says(key);
    }
    let listed = desk.json("keys writers").expect(0).message();
    let roles: Vec<_> =
        listed["writers"].as_array().unwrap().iter().map(|writer| text_of(&writer["role"])).collect();
    assert_eq!(roles, ["put", "maintainer", "put", "read"]);

    // Neither a rehearsal nor the act goes on without a word; both name all who would stay.
    let before = desk.objects("");
    for line in ["keys rotate", "keys rotate --dry-run", "keys rotate --revoke-others"] {
        let refused = desk.run(line).expect(1).says("--revoke-signers").says("--keep-signer");
        let refused = refused.says("web, role put").says("stays enrolled");
        let refused = refused.says(&format!("role maintainer, key {maintainer}, enrolled since record 3"));
        refused.says(&writer).says(&read);
    }
    desk.run("keys rotate --revoke-signers --keep-signer 00000000").expect(2).says("keys writers");
    let short = desk.run(&format!("keys rotate --keep-signer {}", &read[..3])).expect(2);
    short.says("is too short, give at least 4 digits").says(&read).says("keys writers");
    desk.run(&format!("keys rotate --keep-signer {read} --keep-signer {writer}"))
        .expect(1)
        .says(&format!("outlast the old key: {maintainer}"));
    assert_eq!(desk.objects(""), before);

    let line = format!("keys rotate --revoke-signers --keep-signer {read}");
    let planned = desk.json(&format!("{line} --dry-run")).expect(0).message();
    assert_eq!(desk.objects(""), before);
    let done = desk.json(&line).expect(0).message();
    for told in [&planned, &done] {
        let keys = |field: &str| {
            let list = told[field].as_array().unwrap();
            let key = |one: &serde_json::Value| one.as_str().or(one["key"].as_str()).unwrap()[..8].to_owned();
            list.iter().map(key).collect::<Vec<_>>()
        };
        assert_eq!(keys("revoked_signers"), [maintainer.clone(), writer.clone()]);
        assert_eq!(&keys("signers")[1..], std::slice::from_ref(&read));
        assert_eq!(told["signers"][0]["name"], "web");
    }
    assert!(!forgets(&desk, 71), "what a revoked signer says is void");
    desk.run("--no-cache snapshots").expect(0).says("1 snapshot(s)");

    // The one that stayed is revoked by its key, and the next rotation asks nothing.
    desk.run(&format!("keys revoke-writer {read}")).expect(0).says("revoked read");
    desk.run("keys rotate").expect(0).says("epoch 2 begins").says("web, role put").says_not(&read);
    host(&desk, "backup src").expect(0);
}

#[test]
fn a_maintainer_is_revoked_by_its_key() {
    let desk = Desk::with_snapshot();
    let maintainer = plant(&desk, 71, Role::Maintainer);
    desk.run(&format!("keys revoke-writer {maintainer}")).expect(0).says("revoked maintainer");
    desk.run("keys writers").expect(0).says("role maintainer").says("REVOKED");
    assert!(!forgets(&desk, 71));
    // One that is enrolled may: that is what the role is for.
    plant(&desk, 74, Role::Maintainer);
    assert!(forgets(&desk, 74));
}
