//! What each command asked of its stores is told, by kind and with bytes: in the last word of its JSON, and to people where it costs.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use coffer_sandbox::KmsKind;
use coffer_testkit::proxy::Proxy;
use serde_json::Value;

use super::desk::{Desk, Ran};
use crate::cli::documents::last_commands;
use crate::cli::messages::check_message;

/// Commands that open no store, and why.
const OF_NO_STORE: [(&str, &str); 10] = [
    ("completions", "prints what shells need"),
    ("keys new-file", "makes a file"),
    ("keys new-token-key", "asks a token alone"),
    ("kms audit", "reads the directory of a key service"),
    ("kms new-part", "makes a file"),
    ("kms new-token", "makes a file"),
    ("kms serve", "is a service itself"),
    ("man", "prints pages"),
    ("regions", "prints a table that is built in"),
    ("sandbox serve", "is a service itself"),
];

/// Every other command at least once, with what is typed for it, in an order in which each finds something to do. `BOTH` stands for two
/// stores, `CRN` and `OTHER` for root keys, `SLOT` for the key slot that was made last.
const JOURNEY: [(&str, &str); 42] = [
    ("init", "init --single-slot --lock governance --lock-days 2"),
    ("backup", "backup src"),
    ("backup", "backup src --estimate"),
    ("backup", "backup src --dry-run"),
    ("snapshots", "snapshots"),
    ("ls", "ls latest"),
    ("find", "find large"),
    ("find", "find what-is-nowhere"),
    ("cat", "cat latest:/src/a"),
    ("dump", "dump latest:/src/a"),
    ("dump", "dump latest --output ../src.tar"),
    ("diff", "diff latest latest"),
    ("restore", "restore latest --target ../out"),
    ("restore", "restore latest --target ../out --estimate"),
    ("verify", "verify"),
    ("verify", "verify --deep"),
    ("verify", "verify --locks"),
    ("stats", "stats"),
    ("doctor", "doctor"),
    ("policy show", "policy show"),
    ("policy set", "policy set --lock-days 3"),
    ("locks extend", "locks extend --days 9"),
    ("locks hold", "locks hold"),
    ("locks release", "locks release"),
    ("keys list", "keys list"),
    ("keys add", "keys add --new-passphrase-file ../phrase"),
    ("keys test", "keys test --record"),
    ("keys passwd", "--passphrase-file ../phrase keys passwd --new-passphrase-file ../phrase"),
    ("keys grant-writer", "keys grant-writer web --out ../web.writer"),
    ("keys writers", "keys writers"),
    ("keys revoke-writer", "keys revoke-writer web"),
    ("keys export-kit", "keys export-kit ../kit"),
    ("keys add", "keys add --new-root-key CRN"),
    ("keys rewrap", "keys rewrap"),
    ("keys retarget", "keys retarget SLOT --to OTHER"),
    ("keys revoke", "keys revoke SLOT"),
    ("keys rotate", "keys rotate --revoke-others"),
    ("replicate", "BOTH replicate --new"),
    ("replicate", "BOTH replicate --status"),
    ("handover", "BOTH handover --to s3://second/v"),
    ("promote", "promote --accept-loss --no-cache"),
    ("reconcile", "BOTH reconcile"),
];

/// Those of the journey that commit a record, and print the head with it.
const COMMITTING: [&str; 13] = [
    "init",
    "backup src",
    "policy set",
    "locks extend",
    "keys add",
    "keys test --record",
    "keys passwd",
    "keys grant-writer",
    "keys revoke-writer",
    "keys retarget",
    "keys revoke",
    "keys rotate",
    "handover",
];

/// The desk whose stores are reached through `proxy`, and whose root keys are in the region's Key Protect.
fn run(desk: &Desk, proxy: &Proxy, line: &str) -> Ran {
    let mut command = desk.command(line);
    command
        .env("COFFER_ENDPOINT", proxy.endpoint())
        .env("COFFER_IAM_ENDPOINT", desk.sandbox.iam_endpoint())
        .env("COFFER_KEY_SERVICE_API_KEY_FILE", desk.path("api-key"))
        .env("COFFER_KEY_SERVICE_HOSTS", desk.sandbox.kms_endpoint().split_once("://").unwrap().1);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The words by which a new root key of the region is named.
fn new_root_key(desk: &Desk) -> String {
    let region = &desk.sandbox;
    let instance = region.create_kms_instance("vault", KmsKind::KeyProtect).unwrap();
    let key = region.create_kms_root_key(&instance, "vault-root", None).unwrap();
    let crn = region.kms_crn(&instance, Some(&key)).unwrap();
    format!("{crn} --key-endpoint {}", region.kms_endpoint())
}

/// The object that says what was asked: the last one on standard output, or, where content stands there, or what would be asked, on
/// standard error.
fn last_word(line: &str, ran: &Ran) -> Value {
    let prints_content = line.starts_with("cat") || line.starts_with("dump latest:");
    if !prints_content && !line.contains("--estimate") {
        assert!(!ran.err.contains("\"requests\""), "{line}: it is told twice: {}", ran.err);
        return ran.value();
    }
    assert!(!prints_content || ran.out == "a small file\n", "{line}: {}", ran.out);
    let said = ran.err.lines().next_back().unwrap_or_else(|| panic!("{line} does not tell"));
    let said: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"));
    check_message(&said);
    said
}

#[test]
fn every_command_says_in_json_how_many_requests_it_made() {
    let told = JOURNEY.iter().chain(&OF_NO_STORE).map(|(command, _)| (*command).to_owned());
    let all: BTreeSet<String> = last_commands().into_iter().collect();
    assert_eq!(told.collect::<BTreeSet<_>>(), all, "what the program has and what is tried here");

    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.add_bucket("second", |bucket| bucket.object_lock = true);
    let address: SocketAddr = desk.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(address).unwrap();
    fs::write(desk.path("phrase"), "some words that nobody guesses\n").unwrap();
    fs::write(desk.path("api-key"), desk.sandbox.api_key()).unwrap();
    let (key, other) = (new_root_key(&desk), new_root_key(&desk));
    let mut slot = String::new();
    for (command, words) in JOURNEY {
        let line = words
            .replace("BOTH", "--store s3://backups/v --store s3://second/v")
            .replace("CRN", &key)
            .replace("OTHER", &other)
            .replace("SLOT", &slot);
        // It counts anew from here.
        proxy.set_fair();
        let ran = run(&desk, &proxy, &format!("--json {line}")).expect(0);
        let value = last_word(words, &ran);
        let count =
            |name: &str| value["requests"][name].as_u64().unwrap_or_else(|| panic!("{line}: {value}"));
        let kinds = ["create", "multipart", "read", "stat", "list", "delete"];
        let total: u64 = kinds.iter().map(|kind| count(&format!("{kind}_count"))).sum();
        assert_eq!(total, count("class_a") + count("class_b") + count("delete_count"), "{value}");
        // Each of them went over the line, and nothing else did.
        assert!(total > 0, "{line} asked nothing");
        assert_eq!(total, proxy.request_count(), "{line}: {value}\n{:#?}", proxy.exchanges());
        assert_eq!(count("read_bytes") > 0, count("read_count") > 0, "{line}: {value}");
        let changes_nothing = words.contains("--dry-run") || words.contains("--estimate");
        if COMMITTING.iter().any(|start| words.contains(start)) && !changes_nothing {
            assert!(value["head"].as_str().is_some_and(|head| head.contains(':')), "{command}: {value}");
        }
        slot = value["slot"].as_str().map_or(slot, str::to_owned);
    }
}

/// The lines about requests in a text.
fn lines_of(text: &str) -> usize {
    text.lines().filter(|line| line.contains(" store request(s): ")).count()
}

/// Commands whose text has no place for it.
const WITHOUT_SUMMARY: [&str; 13] = [
    "snapshots",
    "ls latest",
    "find large",
    "cat latest:/src/a",
    "dump latest:/src/a",
    "dump latest --output ../src.tar",
    "diff latest latest",
    "stats",
    "policy show",
    "keys list",
    "keys test",
    "keys writers",
    "doctor",
];

const WITH_SUMMARY: [&str; 3] = ["backup src", "verify", "restore latest --target ../out"];

#[test]
fn people_read_it_once_and_never_among_what_they_asked_for() {
    let desk = Desk::new(|_| {});
    let made = desk.run("init --single-slot").expect(0);
    assert_eq!((lines_of(&made.out), lines_of(&made.err)), (0, 1), "{made:?}");
    for line in WITH_SUMMARY {
        let ran = desk.run(line).expect(0);
        assert_eq!((lines_of(&ran.out), lines_of(&ran.err)), (1, 0), "{line}: {ran:?}");
    }
    for line in WITHOUT_SUMMARY {
        let ran = desk.run(line).expect(0);
        assert_eq!((lines_of(&ran.out), lines_of(&ran.err)), (0, 1), "{line}: {ran:?}");
        let ran = desk.run(&format!("-q {line}")).expect(0);
        assert_eq!((lines_of(&ran.out), lines_of(&ran.err)), (0, 0), "{line}: {ran:?}");
    }
    // An error is the last word.
    let failed = desk.run("cat latest:/src/none").expect(1);
    assert_eq!(lines_of(&failed.err), 0, "{failed:?}");
    assert_eq!(lines_of(&desk.run("-vv cat latest:/src/none").expect(1).err), 1);
}

/// Reading a directory costs nothing, and nobody is told what was not asked for.
#[test]
fn of_a_directory_only_summaries_tell_it() {
    let desk = Desk::new(|_| {});
    let made = desk.run("-V ../vault init --single-slot").expect(0);
    assert_eq!(lines_of(&made.err), 0, "{made:?}");
    for line in WITH_SUMMARY {
        let ran = desk.run(&format!("-V ../vault {line}")).expect(0);
        assert_eq!((lines_of(&ran.out), lines_of(&ran.err)), (1, 0), "{line}: {ran:?}");
    }
    for line in WITHOUT_SUMMARY {
        let ran = desk.run(&format!("-V ../vault {line}")).expect(0);
        assert_eq!((lines_of(&ran.out), lines_of(&ran.err)), (0, 0), "{line}: {ran:?}");
        let ran = desk.run(&format!("-V ../vault -vv {line}")).expect(0);
        assert_eq!((lines_of(&ran.out), lines_of(&ran.err)), (0, 1), "{line}: {ran:?}");
    }
    let ran = desk.run("-V ../vault --json cat latest:/src/a").expect(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("a small file\n", ""));
}
