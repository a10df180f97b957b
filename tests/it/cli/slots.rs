//! Key slots that are replaced, tested, and never made by halves; and a person who is asked once.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use coffer_crypto::shares::share_checksum;

use super::desk::{Desk, PASSPHRASE};
use crate::support::has_program;

const BARE: &str = "-V ../vault --cache-dir ../cache";

fn phrase(desk: &Desk, name: &str, passphrase: &str) {
    fs::write(desk.path(name), format!("{passphrase}\n")).unwrap();
}

/// The files in a directory, in the order of their names.
fn files(desk: &Desk, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(desk.path(directory)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path().display().to_string()).collect();
    paths.sort();
    paths
}

#[test]
fn passwd_replaces_the_slot_of_the_passphrase_whatever_else_opens() {
    let desk = Desk::new();
    phrase(&desk, "old", "the old passphrase");
    phrase(&desk, "new", PASSPHRASE);
    desk.run("init --single-slot").expect(0);
    desk.run("keys add --new-passphrase-file ../old --label mine").expect(0);
    let passwd = "keys passwd --new-passphrase-file ../new";
    // The key file opens, but it is not what is replaced.
    desk.run(passwd).expect(2).says("passphrase that is to be replaced is not given").says("keys revoke");
    let both = format!("{BARE} --key-file ../key --passphrase-file ../old {passwd}");
    desk.bare(&both).expect(0).says("replaces").says("old copy of this slot");
    desk.bare(&format!("{BARE} --passphrase-file ../old snapshots")).expect(12);
    desk.bare(&format!("{BARE} --passphrase-file ../new snapshots")).expect(0);
    desk.run("keys list").expect(0).says("key file").says("  mine");
    let other = format!("{BARE} --passphrase-file ../new {passwd} --label yours");
    desk.bare(&other).expect(0);
    desk.run("keys list").expect(0).says("  yours").says_not("  mine");
}

#[test]
fn passwd_says_where_else_the_old_passphrase_opens() {
    let desk = Desk::with_vault();
    phrase(&desk, "old", "the old passphrase");
    phrase(&desk, "new", PASSPHRASE);
    for label in ["one", "two"] {
        desk.run(&format!("keys add --new-passphrase-file ../old --label {label}")).expect(0);
    }
    let passwd = "--passphrase-file ../old keys passwd --new-passphrase-file ../new";
    desk.bare(&format!("{BARE} {passwd}")).expect(0).says("the old passphrase opens key slot");
    desk.bare(&format!("{BARE} {passwd}")).expect(0).says_not("the old passphrase opens key slot");
    desk.bare(&format!("{BARE} --passphrase-file ../old snapshots")).expect(12);
}

#[test]
fn a_vault_is_made_of_the_keys_that_are_added() {
    let desk = Desk::new();
    phrase(&desk, "phrase", PASSPHRASE);
    desk.bare(&format!("{BARE} init --add-key-file ../key --add-passphrase-file ../phrase")).expect(0);
    desk.run("snapshots").expect(0);
    desk.bare(&format!("{BARE} --passphrase-file ../phrase snapshots")).expect(0);
    let other = "-V ../other --no-cache";
    let init = "init --add-passphrase-file ../phrase --add-shares 2of2 --shares-dir ../board";
    desk.bare(&format!("{other} {init}")).expect(0).says("made share");
    let board = files(&desk, "board");
    desk.bare(&format!("{other} --share {} --share {} snapshots", board[0], board[1])).expect(0);
    desk.bare(&format!("{other} --passphrase-file ../phrase snapshots")).expect(0);
    // One kind is one kind, and no kind is none; credentials of a bucket name no root key.
    desk.bare("-V ../third init --add-key-file ../key").expect(2).says("--single-slot");
    let mut none = desk.bare_command(&["-V", "../third", "init"]);
    desk.finish(none.env("COFFER_IBM_API_KEY", "no-key-of-a-vault")).expect(12).says("no key is given");
    assert!(!desk.path("third/vault").exists());
}

#[test]
fn what_is_said_of_one_root_key_is_not_taken_for_several() {
    let desk = Desk::new();
    let (one, two) = ("https://kms.example/instance/one", "https://kms.example/instance/two");
    let both = format!("init --add-root-key {one} --add-root-key {two}");
    for more in ["--key-endpoint https://other.example", "--key-ring ring"] {
        desk.run(&format!("{both} {more}"))
            .expect(2)
            .says("all the root keys")
            .says("keys add --new-root-key");
        desk.run(&format!("init --single-slot {more}")).expect(2).says("none is added");
    }
    assert!(!desk.path("vault").exists());
    desk.run("init --single-slot").expect(0);
    desk.bare("keys new-file ../second").expect(0);
    desk.run("keys add --new-key-file ../second --key-ring ring").expect(2).says("none is added");
}

#[test]
fn shares_of_a_slot_that_is_not_made_are_not_left_behind() {
    let desk = Desk::new();
    desk.run("--vault /dev/null/no init --add-shares 2of3 --shares-dir ../init").expect(1);
    assert!(!desk.path("init").exists());
    desk.run("init --add-shares 2of3 --shares-dir ../kept").expect(0);
    // A vault is there already.
    desk.run("init --add-shares 2of3 --shares-dir ../init").expect(1);
    assert!(!desk.path("init").exists());
    assert_eq!(files(&desk, "kept").len(), 3);
    let label = "x".repeat(400);
    desk.run(&format!("keys add --new-shares 2of2 --shares-dir ../new --label {label}")).expect(12);
    assert!(!desk.path("new").exists());
    let add = desk.json("keys add --new-shares 2of2 --shares-dir ../new --label short").expect(0);
    assert_eq!(add.message()["shares"].as_array().unwrap().len(), files(&desk, "new").len());
}

/// The same share with another content, and with check digits that fit it.
fn false_share(desk: &Desk, file: &str) -> String {
    let line = fs::read_to_string(file).unwrap().lines().last().unwrap().to_owned();
    let digits: String =
        line.strip_prefix("COFFER-SHARE-1-").unwrap().chars().filter(|char| *char != '-').collect();
    let mut bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    bytes[20] ^= 1;
    let content_len = bytes.len() - 4;
    let checksum = share_checksum(&bytes[..content_len]);
    bytes[content_len..].copy_from_slice(&checksum);
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let path = desk.path("false-share");
    fs::write(&path, format!("COFFER-SHARE-1-{digits}\n")).unwrap();
    path.display().to_string()
}

#[test]
fn a_false_share_is_named_whether_or_not_enough_are_left() {
    let desk = Desk::new();
    desk.run("init --add-shares 2of3 --shares-dir ../board").expect(0);
    let board = files(&desk, "board");
    let bad = false_share(&desk, &board[1]);
    let said = format!("share 2 is left out: the key slot knows another one of this number; look at {bad}");
    let bare = |shares: &[&String], command: &str| {
        let shares: Vec<_> = shares.iter().map(|file| format!("--share {file}")).collect();
        desk.bare(&format!("-V ../vault {} {command}", shares.join(" ")))
    };
    let ran = bare(&[&bad, &board[0], &board[2]], "snapshots").expect(0).says(&said);
    assert_eq!(ran.err.matches("is left out").count(), 1, "{ran:?}");
    let few = bare(&[&bad, &board[0]], "snapshots").expect(12).says(&said);
    few.says("1 share is good and 2 are needed").says("give more shares of the set");
    bare(&[&board[0], &board[1]], "snapshots").expect(0).says_not("left out");
    let also = format!("--also-share {bad} --also-share {} --also-share {}", board[0], board[2]);
    desk.run(&format!("keys test {also}")).expect(0).says(&said);
}

#[test]
fn a_share_that_is_given_twice_counts_once_and_one_that_claims_the_place_of_another_is_refused() {
    let desk = Desk::new();
    desk.run("init --add-shares 2of3 --shares-dir ../board").expect(0);
    let board = files(&desk, "board");
    let copy = desk.path("copy").display().to_string();
    fs::copy(&board[1], &copy).unwrap();
    let bare = |shares: &[&String]| {
        let shares: Vec<_> = shares.iter().map(|file| format!("--share {file}")).collect();
        desk.bare(&format!("-V ../vault {} snapshots", shares.join(" ")))
    };
    let same = format!("{copy} holds the same share as {}, and counts once: ", board[1]);
    let two = "2 different share(s) are given, and 2 are needed";
    bare(&[&board[1], &copy, &board[0]]).expect(0).says(&format!("{same}{two}"));
    bare(&[&board[0], &board[1], &board[1]])
        .expect(0)
        .says(&format!("{} is given twice, and counts once: {two}", board[1]));
    bare(&[&board[0], &board[1]]).expect(0).says_not("counts once");
    let one = "1 different share(s) are given, and 2 are needed";
    bare(&[&board[1], &copy]).expect(12).says(&format!("{same}{one}")).says("give more shares of the set");

    let bad = false_share(&desk, &board[1]);
    let rivals = format!("{} and {bad} hold two different shares, and both claim to be number 2", board[1]);
    for shares in [
        vec![&board[1], &bad],
        vec![&board[0], &board[1], &bad],
        vec![&board[1], &copy, &board[2], &bad, &board[0]],
    ] {
        bare(&shares).expect(12).says(&rivals).says("at least one is false").says("compare both");
    }
}

#[test]
fn slots_that_were_not_tested_are_marked_and_may_be_demanded() {
    let desk = Desk::with_vault();
    phrase(&desk, "phrase", PASSPHRASE);
    desk.run("keys add --new-passphrase-file ../phrase").expect(0);
    let untested = "not tested: no key given for it";
    desk.run("keys test")
        .expect(0)
        .says(untested)
        .says("1 of 2 key slots not tested")
        .says("--also-key-file");
    desk.run("keys test --all").expect(3).says(untested).says("warning: 1 of 2 key slots not tested");
    let slots = desk.json("keys test").expect(0).message()["slots"].as_array().unwrap().clone();
    let marked: Vec<_> = slots.iter().filter(|slot| slot["answer"] == untested).collect();
    assert_eq!(marked.len(), 1, "{slots:?}");
    assert!(marked[0]["tested"].is_null() && marked[0]["kind"] == "passphrase");
    // All of them, and that is that.
    let all = "keys test --all --also-passphrase-file ../phrase";
    desk.run(all).expect(0).says_not("not tested");
    // What was tested some time is not what is tested now.
    desk.run("keys test --all").expect(3).says("not tested: no key given for it (tested 20");
    desk.run("keys list").expect(0).says_not(untested);
    // A slot that was given a key and does not open is worse than one that was given none.
    desk.bare("keys new-file ../second").expect(0);
    desk.run("keys add --new-key-file ../second").expect(0);
    phrase(&desk, "wrong", "not the passphrase");
    desk.run("keys test --all --also-passphrase-file ../wrong").expect(20).says(untested);
}

/// What a command shows on a terminal where somebody types `answer` whenever `prompt` comes; none where there is no terminal to lend.
fn typed(desk: &Desk, line: &str, prompt: &str, answer: &str) -> Option<String> {
    if !has_program("script") {
        return None;
    }
    let mut command = Command::new("script");
    desk.furnish(&mut command);
    let program = env!("CARGO_BIN_EXE_coffer-under-test");
    command.args(["-qec", &format!("{program} {line}"), "/dev/null"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut input, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut piece, mut answered) = (Vec::new(), [0; 4096], 0);
    loop {
        let len = out.read(&mut piece).unwrap();
        if len == 0 {
            break;
        }
        shown.extend_from_slice(&piece[..len]);
        if String::from_utf8_lossy(&shown).matches(prompt).count() > answered {
            answered += 1;
            input.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    }
    child.wait().unwrap();
    Some(String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn a_person_is_asked_for_the_passphrase_once() {
    let desk = Desk::new();
    phrase(&desk, "phrase", PASSPHRASE);
    desk.bare(&format!("{BARE} --passphrase-file ../phrase init --single-slot")).expect(0);
    let prompt = "Passphrase of the vault: ";
    for (command, said) in [
        ("keys test", "gives the vault's key"),
        ("keys rotate", "epoch 1 begins"),
        ("keys list", "passphrase"),
    ] {
        let Some(shown) = typed(&desk, &format!("{BARE} {command}"), prompt, PASSPHRASE) else { return };
        assert_eq!(shown.matches(prompt).count(), 1, "{shown:?}");
        assert!(shown.contains(said), "{shown:?}");
    }
}

/// How the one slot of the vault is shown.
fn only_slot(desk: &Desk, passphrase: &str) -> String {
    let ran = desk.bare(&format!("{BARE} --passphrase-file {passphrase} keys list")).expect(0);
    ran.out.lines().next().unwrap().to_owned()
}

#[test]
fn a_new_slot_of_a_passphrase_costs_what_is_asked_for_or_measured() {
    let desk = Desk::new();
    phrase(&desk, "phrase", PASSPHRASE);
    let open = format!("{BARE} --passphrase-file ../phrase");
    desk.bare(&format!("{open} --passphrase-cost 65,4,2 init --single-slot")).expect(0);
    assert!(only_slot(&desk, "../phrase").contains("Argon2id 65 MiB, 4 passes, 2 lanes"));
    // The environment of the desk asks for the least.
    desk.bare(&format!("{open} keys passwd --new-passphrase-file ../phrase")).expect(0);
    assert!(only_slot(&desk, "../phrase").contains("Argon2id 64 MiB, 3 passes, 4 lanes"));
    desk.bare(&format!("{open} --passphrase-cost auto keys passwd --new-passphrase-file ../phrase"))
        .expect(0);
    let shown = only_slot(&desk, "../phrase");
    let measured = (3..=8).any(|passes| {
        [64, 128].iter().any(|mib| shown.contains(&format!("Argon2id {mib} MiB, {passes} passes, 4 lanes")))
    });
    assert!(measured, "{shown}");
    for (cost, told) in [
        ("63,3,4", "argon2id memory in KiB is 64512"),
        ("64,2,4", "argon2id passes is 2"),
        ("much", "expected auto, floor, or MIB,PASSES,LANES"),
    ] {
        desk.bare(&format!("{open} --passphrase-cost {cost} snapshots")).expect(2).says(told);
        let line = format!("{open} snapshots");
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = desk.bare_command(&words);
        let ran = desk.finish(command.env("COFFER_PASSPHRASE_COST", cost));
        ran.expect(2).says("COFFER_PASSPHRASE_COST: ").says(told);
    }
}

#[test]
fn a_passphrase_whose_work_takes_too_long_is_given_up_for_the_next_slot() {
    let desk = Desk::with_vault();
    phrase(&desk, "phrase", PASSPHRASE);
    // Thirty times the least cost: no machine is done with it in a second. Making it is given up as well.
    let add = "keys add --new-passphrase-file ../phrase --label big";
    let costly = "--passphrase-cost 384,16,4";
    let refused = desk.run(&format!("{costly} --passphrase-timeout 1 {add}")).expect(12);
    refused.says("argon2id with 384 MiB, 16 passes and 4 lanes was not done within 1 s");
    desk.run(&format!("{costly} --passphrase-timeout 600 {add}")).expect(0);
    let open = format!("{BARE} --passphrase-file ../phrase --passphrase-timeout 1");
    let alone = desk.bare(&format!("{open} snapshots")).expect(12);
    let alone =
        alone.says("(passphrase): argon2id with 384 MiB, 16 passes and 4 lanes was not done within 1 s");
    alone.says("--passphrase-timeout gives the work more time");
    // A slot of a reader comes after those with the vault key, and opens when the time is over.
    desk.bare("keys new-file ../reader").expect(0);
    desk.run("keys add --reader --new-key-file ../reader").expect(0);
    desk.bare(&format!("{open} --key-file ../reader snapshots")).expect(0);
}

#[test]
fn an_init_that_fails_leaves_nothing_that_it_made() {
    let desk = Desk::new();
    // Nobody has said that this host may be asked.
    let refused = "init --add-root-key http://127.0.0.1:1/instance/key";
    for places in ["--vault ../vault", "--vault ../deep/down", "--vault ../vault --store ../second"] {
        desk.run(&format!("{places} {refused}")).expect(30).says("not trusted");
        for place in ["vault", "deep", "second"] {
            assert!(!desk.path(place).exists(), "{place} after {places}");
        }
    }
    fs::create_dir(desk.path("vault")).unwrap();
    desk.run(refused).expect(30);
    assert_eq!(fs::read_dir(desk.path("vault")).unwrap().count(), 0, "what was there stays, empty");
    desk.run("init --single-slot").expect(0);
}
