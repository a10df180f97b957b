//! Keys and key slots: made, tested, replaced, revoked, and never shown.

use std::fs;

use super::desk::{Desk, PASSPHRASE, text_of};

/// Writes a passphrase file; the line end of an editor does not count.
fn phrase(desk: &Desk, name: &str, passphrase: &str) {
    fs::write(desk.path(name), format!("{passphrase}\n")).unwrap();
}

fn slots(desk: &Desk, options: &str) -> Vec<serde_json::Value> {
    let message = desk.json(&format!("{options} keys list")).expect(0).message();
    message["slots"].as_array().unwrap().clone()
}

#[test]
fn a_passphrase_opens_from_a_file_a_command_and_the_environment() {
    let desk = Desk::new();
    phrase(&desk, "phrase", PASSPHRASE);
    phrase(&desk, "wrong", "correct horse battery stable");
    desk.bare("-V ../vault --passphrase-file ../phrase init --single-slot").expect(0);
    desk.bare("-V ../vault --passphrase-file ../phrase backup src").expect(0);
    desk.bare("-V ../vault --passphrase-file ../wrong snapshots").expect(12).says("passphrase");
    let open = |variable: &str, value: String| {
        let mut command = desk.bare_command(&["-V", "../vault", "snapshots"]);
        desk.finish(command.env(variable, value))
    };
    open("COFFER_PASSPHRASE", PASSPHRASE.to_owned()).expect(0).says("1 snapshot(s)");
    open("COFFER_PASSPHRASE", "wrong".to_owned()).expect(12);
    open("COFFER_PASSPHRASE_FILE", desk.path("phrase").display().to_string()).expect(0);
    let print = format!("cat {}", desk.path("phrase").display());
    open("COFFER_PASSPHRASE_COMMAND", print.clone()).expect(0);
    let arguments = ["-V", "../vault", "--passphrase-command", &print, "snapshots"];
    desk.finish(&mut desk.bare_command(&arguments)).expect(0);
    open("COFFER_PASSPHRASE_COMMAND", "exit 3".to_owned()).expect(12).says("the passphrase command failed");
    open("COFFER_PASSPHRASE_COMMAND", "true".to_owned())
        .expect(12)
        .says("the passphrase command printed nothing");
    // The cost of guessing is the one the documents name.
    desk.bare("-V ../vault --passphrase-file ../phrase keys list")
        .expect(0)
        .says("Argon2id 64 MiB, 3 passes");
}

#[test]
fn a_vault_does_not_open_without_its_key() {
    let desk = Desk::with_snapshot();
    desk.bare("keys new-file ../other").expect(0);
    for command in
        ["snapshots", "backup src", "restore latest -t ../out", "verify --deep", "keys list", "stats"]
    {
        desk.run(&format!("--key-file ../other {command}")).expect(12).says("key file");
        desk.bare(&format!("-V ../vault {command}")).expect(12).says("no key is given").says("--key-file");
        desk.run(&format!("--key-file ../absent {command}")).expect(12).says("absent");
    }
    fs::write(desk.path("broken"), "COFFER-KEY-1-0000\n").unwrap();
    desk.run("--key-file ../broken snapshots").expect(12).says("line 1");
    assert!(!desk.path("out").exists());
}

#[test]
fn a_slot_is_added_tested_and_revoked() {
    let desk = Desk::with_snapshot();
    phrase(&desk, "phrase", PASSPHRASE);
    desk.bare("keys new-file ../second").expect(0);
    desk.run("--key-file ../second snapshots").expect(12);
    desk.run("keys add --new-key-file ../second --label safe").expect(0).says("added key slot");
    desk.run("keys add --new-passphrase-file ../phrase --label recovery").expect(0);
    desk.run("--key-file ../second snapshots").expect(0).says("1 snapshot(s)");
    desk.run("--passphrase-file ../phrase ls latest").expect(0).says("src/a");

    let tested =
        desk.json("keys test --also-key-file ../second --also-passphrase-file ../phrase").expect(0).message();
    let tested: Vec<_> =
        tested["slots"].as_array().unwrap().iter().map(|slot| slot["tested"].clone()).collect();
    assert_eq!(tested, [true, true, true]);
    let tested = desk.json("keys test").expect(0).message();
    let count = tested["slots"].as_array().unwrap().iter().filter(|slot| slot["tested"] == true).count();
    assert_eq!(count, 1, "{tested}");
    phrase(&desk, "wrong", "another passphrase");
    desk.run("keys test --also-passphrase-file ../wrong").expect(20).says("DOES NOT OPEN");

    let listed = slots(&desk, "");
    let safe = listed.iter().find(|slot| slot["label"] == "safe").unwrap();
    let id = text_of(&safe["id"]);
    desk.run("keys revoke 00zz").expect(1).says("coffer keys list");
    for len in 1..4 {
        let refused =
            desk.run(&format!("keys revoke {}", &id[..len])).expect(1).says("is too short, give at least 4");
        refused.says(&id[..8]);
    }
    assert_eq!(slots(&desk, "").len(), 3);
    let revoked = desk.run(&format!("keys revoke {}", &id[..8])).expect(0);
    revoked.says("whoever has an old copy of this slot and its secret can still open");
    desk.run("--key-file ../second snapshots").expect(12);
    desk.run("--passphrase-file ../phrase snapshots").expect(0);
    assert_eq!(slots(&desk, "").len(), 2);
    desk.run("verify").expect(0);
    desk.run("verify --deep").expect(0);

    // Whoever can create an object brings it back no more.
    let next = desk.objects("log").len();
    fs::write(desk.path(&format!("vault/log/{next:012}")), "junk").unwrap();
    for command in ["snapshots", "backup src", "keys add --new-key-file ../second"] {
        desk.run(&format!("--key-file ../second {command}")).expect(12);
    }
    desk.run("backup src").expect(0);
    desk.run("--key-file ../second snapshots").expect(12);
    desk.run("verify").expect(22);
}

#[test]
fn the_last_slot_cannot_be_revoked() {
    let desk = Desk::with_vault();
    let id = text_of(&slots(&desk, "")[0]["id"]);
    desk.run(&format!("keys revoke {id}")).expect(1).says("cannot be revoked: nothing would open the vault");
    desk.run("snapshots").expect(0);
}

#[test]
fn the_slot_that_opens_the_vault_is_revoked_when_another_one_was_opened() {
    let desk = Desk::with_vault();
    phrase(&desk, "phrase", PASSPHRASE);
    phrase(&desk, "wrong", "another passphrase");
    let first = text_of(&slots(&desk, "")[0]["id"]);
    desk.run("keys add --new-passphrase-file ../phrase").expect(0);
    let revoke = format!("keys revoke {}", &first[..8]);
    // Whether anybody still has the passphrase nobody has shown.
    let refused = desk.run(&revoke).expect(1).says("only one that was opened").says("--also-key-file");
    refused.says("--untested");
    desk.run(&format!("{revoke} --also-passphrase-file ../wrong")).expect(1).says("only one that was opened");
    assert_eq!(slots(&desk, "").len(), 2);
    desk.run(&format!("{revoke} --also-passphrase-file ../phrase")).expect(0);
    desk.run("snapshots").expect(12);
    let with_phrase = "--passphrase-file ../phrase";
    let second = text_of(&slots(&desk, with_phrase)[0]["id"]);
    desk.bare("keys new-file ../second").expect(0);
    desk.run(&format!("{with_phrase} keys add --new-key-file ../second")).expect(0);
    desk.run(&format!("{with_phrase} keys revoke {second} --untested")).expect(0);
    desk.run("--key-file ../second snapshots").expect(0);
}

#[test]
fn after_passwd_the_old_passphrase_does_not_open() {
    let desk = Desk::new();
    phrase(&desk, "old", "the old passphrase");
    phrase(&desk, "new", PASSPHRASE);
    let bare = "-V ../vault --cache-dir ../cache";
    desk.bare(&format!("{bare} --passphrase-file ../old init --add-key-file ../key")).expect(0);
    let changed = desk.bare(&format!(
        "{bare} --passphrase-file ../old keys passwd --new-passphrase-file ../new --label mine"
    ));
    changed.expect(0).says("replaces").says("whoever has an old copy of this slot");
    desk.bare(&format!("{bare} --passphrase-file ../old snapshots")).expect(12);
    desk.bare(&format!("{bare} --passphrase-file ../new backup src")).expect(0);
    // The other slot is as it was.
    desk.run("ls latest").expect(0).says("src/a");
    assert_eq!(slots(&desk, "").len(), 2);
}

#[test]
fn a_damaged_slot_shows_in_the_list() {
    let desk = Desk::with_vault();
    desk.bare("keys new-file ../second").expect(0);
    let added = desk.json("keys add --new-key-file ../second").expect(0).message();
    fs::remove_file(desk.path("vault/slots").join(added["slot"].as_str().unwrap())).unwrap();
    desk.run("keys list").expect(20).says("missing or damaged");
    desk.run("verify").expect(21).says("slots/");
    desk.run("--key-file ../second snapshots").expect(12);
    desk.run("backup src").expect(0);
}

/// The files with shares in a directory, in the order of their numbers.
fn share_files(desk: &Desk, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(desk.path(directory)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path().display().to_string()).collect();
    paths.sort();
    paths
}

#[test]
fn as_many_recovery_shares_as_are_needed_open_a_vault() {
    let desk = Desk::new();
    desk.run("init --add-shares 2of3 --shares-dir ../board")
        .expect(0)
        .says("hand each share to someone else");
    desk.run("backup src").expect(0);
    let files = share_files(&desk, "board");
    assert_eq!(files.len(), 3);
    for file in &files {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{file}");
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("COFFER-SHARE-1-") && text.contains('█'), "{text}");
    }
    let with = |chosen: &[usize], command: &str| {
        let shares: Vec<_> = chosen.iter().map(|at| format!("--share {}", files[*at])).collect();
        desk.bare(&format!("-V ../vault {} {command}", shares.join(" ")))
    };
    for chosen in [[0, 1], [2, 0], [1, 2]] {
        with(&chosen, "snapshots").expect(0).says("1 snapshot(s)");
    }
    with(&[2, 1, 0], "restore latest -t ../out").expect(0);
    assert_eq!(fs::read(desk.path("out/src/a")).unwrap(), b"a small file\n");
    with(&[1], "snapshots").expect(12).says("1 share is good and 2 are needed").says("--share FILE");
    let counted = "1 different share(s) are given, and 2 are needed";
    let few = with(&[1, 1], "snapshots").expect(12).says(counted).says("1 share is good and 2 are needed");
    few.says(&format!("{} is given twice, and counts once", files[1]));
    let mut command = desk.bare_command(&["-V", "../vault", "snapshots"]);
    desk.finish(command.env("COFFER_SHARES", format!("{}:{}", files[0], files[2]))).expect(0);
    // Typed from paper, with a wrong digit and without.
    let line = fs::read_to_string(&files[0]).unwrap().lines().last().unwrap().to_lowercase();
    fs::write(desk.path("typed"), &line).unwrap();
    desk.bare(&format!("-V ../vault --share ../typed --share {} snapshots", files[1])).expect(0);
    let wrong = if line.ends_with('0') { "1" } else { "0" };
    fs::write(desk.path("typed"), format!("{}{wrong}", &line[..line.len() - 1])).unwrap();
    desk.bare(&format!("-V ../vault --share ../typed --share {} snapshots", files[1]))
        .expect(12)
        .says("typed is no recovery share: line 1")
        .says("digit by digit");
}

#[test]
fn recovery_shares_are_added_tested_and_told_apart() {
    let desk = Desk::with_vault();
    let added =
        desk.json("keys add --new-shares 2-of-2 --shares-dir ../pair --label pair").expect(0).message();
    assert_eq!(added["shares"].as_array().unwrap().len(), 2);
    desk.run("keys add --new-shares 2of3 --shares-dir ../board").expect(0);
    desk.run("keys list").expect(0).says("recovery shares, 2 of 2").says("recovery shares, 2 of 3");
    let (pair, board) = (share_files(&desk, "pair"), share_files(&desk, "board"));
    let tested = desk.json(&format!("keys test --also-share {} --also-share {}", pair[1], pair[0])).expect(0);
    let slots = tested.message()["slots"].as_array().unwrap().clone();
    assert_eq!(slots.iter().filter(|slot| slot["tested"] == true).count(), 2, "{slots:?}");
    desk.bare(&format!("-V ../vault --share {} --share {} snapshots", pair[0], board[1]))
        .expect(12)
        .says("share 1 and share 2 are of different sets")
        .says(&format!("look at {} and {}", pair[0], board[1]));
    for (words, message) in [
        ("--new-shares 1of3 --shares-dir ../x", "at least 2 must be needed"),
        ("--new-shares 4of3 --shares-dir ../x", "at least 2 must be needed"),
        ("--new-shares three --shares-dir ../x", "like 3of5"),
        ("--new-shares 2of3", "--shares-dir"),
    ] {
        desk.run(&format!("keys add {words}")).expect(2).says(message);
    }
    let revoked =
        slots.iter().find(|slot| slot["label"] == "pair").unwrap()["id"].as_str().unwrap().to_owned();
    desk.run(&format!("keys revoke {revoked}")).expect(0);
    desk.bare(&format!("-V ../vault --share {} --share {} snapshots", pair[0], pair[1])).expect(12);
}

#[test]
fn each_of_two_passphrases_is_tested_on_its_own_slot() {
    let desk = Desk::with_vault();
    fs::write(desk.path("one"), "the first of two passphrases").unwrap();
    fs::write(desk.path("two"), "the second of two passphrases").unwrap();
    for name in ["one", "two"] {
        desk.run(&format!("keys add --new-passphrase-file ../{name}")).expect(0);
    }
    let bare = "-V ../vault --passphrase-file ../one";
    let ran = desk.bare(&format!("{bare} keys test --also-passphrase-file ../two")).expect(0);
    assert_eq!(ran.out.matches("gives the vault's key").count(), 2, "{}", ran.out);
    desk.bare(&format!("{bare} keys test")).expect(20).says("DOES NOT OPEN");
}

#[test]
fn a_slot_that_is_lost_or_damaged_is_named_where_nothing_opens() {
    let (desk, other) = (Desk::with_vault(), Desk::with_vault());
    phrase(&desk, "phrase", PASSPHRASE);
    let added = desk.json("keys add --new-passphrase-file ../phrase").expect(0).message();
    let id = text_of(&added["slot"]);
    let path = desk.path("vault/slots").join(&id);
    let mut flipped = fs::read(&path).unwrap();
    let truncated = flipped[..40].to_vec();
    let foreign = fs::read(&other.objects("slots")[0]).unwrap();
    flipped[60] ^= 1;
    let open = || desk.bare("-V ../vault --passphrase-file ../phrase snapshots");
    for bytes in [flipped, truncated, foreign] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let ran = open().expect(12).says(&format!("slot {} is damaged", &id[..8])).says("2 slots (key file)");
        ran.says("recovery kit").says("verify --heal");
    }
    fs::remove_file(&path).unwrap();
    open().expect(12).says(&format!("slot {} is missing", &id[..8]));
    let last = desk.objects("slots").remove(0);
    fs::remove_file(&last).unwrap();
    open().expect(21).says("no key slot of the vault can be used");
    fs::write(&last, "junk").unwrap();
    open().expect(20).says("is damaged").says("is missing");
}

#[test]
fn a_share_of_no_use_is_left_out_beside_enough_good_ones() {
    let desk = Desk::new();
    desk.run("init --add-shares 2of3 --shares-dir ../board").expect(0);
    desk.run("keys add --new-shares 2of2 --shares-dir ../pair").expect(0);
    let (board, pair) = (share_files(&desk, "board"), share_files(&desk, "pair"));
    fs::write(desk.path("typo"), "COFFER-SHARE-1-0000\n").unwrap();
    let good = format!("--share {} --share {}", board[1], board[2]);
    for (bad, reason) in [
        ("../typo", "typo is no recovery share"),
        ("../none", "none cannot be read"),
        (pair[0].as_str(), "it is of another set"),
    ] {
        for shares in [format!("--share {bad} {good}"), format!("{good} --share {bad}")] {
            desk.bare(&format!("-V ../vault {shares} snapshots")).expect(0).says(reason).says("left out");
        }
        desk.bare(&format!("-V ../vault --share {bad} --share {} snapshots", board[0])).expect(12);
    }
    // Whichever set opens the vault.
    let both = format!("{good} --share {} --share {}", pair[0], pair[1]);
    desk.bare(&format!("-V ../vault {both} snapshots")).expect(0).says_not("left out");
}
