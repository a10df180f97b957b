//! The forms that scripts rely on, and what each command answers.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::desk::{Desk, copy};
use crate::support::{assert_same, tree_of};

#[test]
fn a_first_day_with_every_form_written_out() {
    let desk = Desk::new();
    // Relative to the working directory, as a user types them.
    let made = desk.bare("-V ../vault --key-file ../key init --single-slot").expect(0);
    let id = made.out.trim_end();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made:?}");
    desk.bare("-V ../vault --key-file ../key --cache-dir ../cache backup src").expect(0);
    desk.bare("-V ../vault --key-file ../key restore latest --target ../out").expect(0);
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("out/src")), "restored");
    let ran = desk.bare(&format!("-V ../vault verify --offline --vault-id {id}")).expect(0);
    ran.says("origin proved").says("freshness not proved");
    desk.bare("-V ../vault --key-file ../key verify --deep").expect(0);
    desk.bare("--vault ../vault --key-file ../key snapshots").expect(0).says("1 snapshot(s)");
    desk.bare("stats -V ../vault --key-file ../key").expect(0).says("1 snapshot(s)");
    desk.bare("check -V ../vault").expect(0).says("no errors were found");
    desk.bare("key list -V ../vault --key-file ../key").expect(0).says("key file");
    desk.bare("doctor -V ../vault").expect(0).says("advice: the vault has one key slot");
    desk.bare("-V ../vault --key-file ../key ls --long latest").expect(0).says("src/d/large");
}

#[test]
fn a_key_file_is_private_and_never_overwritten() {
    let desk = Desk::new();
    let before = fs::read(desk.path("key")).unwrap();
    assert_eq!(fs::metadata(desk.path("key")).unwrap().permissions().mode() & 0o7777, 0o600);
    desk.bare("keys new-file ../key").expect(1).says("choose another name");
    assert_eq!(fs::read(desk.path("key")).unwrap(), before);
}

#[test]
fn a_second_init_fails_and_touches_nothing() {
    let desk = Desk::with_snapshot();
    let before = tree_of(&desk.path("vault"));
    desk.run("init --single-slot").expect(1).says("there is a vault").says("nothing was changed");
    desk.bare("keys new-file ../other").expect(0);
    desk.run("--key-file ../other init --single-slot").expect(1);
    assert_same(&before, &tree_of(&desk.path("vault")), "the vault after a second init");
}

#[test]
fn one_slot_needs_to_be_asked_for() {
    let desk = Desk::new();
    desk.run("init").expect(2).says("--single-slot").says("--add-passphrase-file");
    assert!(!desk.path("vault").exists());
    // A second one of the same kind is lost for the same reason.
    desk.run("init --add-key-file ../key").expect(2).says("a second way in is of another kind");
    assert!(!desk.path("vault").exists());
    fs::write(desk.path("phrase"), "several words that nobody guesses").unwrap();
    desk.run("init --add-passphrase-file ../phrase").expect(0);
}

#[test]
fn init_does_not_fill_a_directory_that_holds_something_else() {
    let desk = Desk::new();
    let before = tree_of(&desk.path("work"));
    desk.run("-V src init --single-slot").expect(32).says("is not empty and holds no vault");
    assert_same(&before, &tree_of(&desk.path("work")), "the directory");
}

#[test]
fn no_vault_is_exit_code_10() {
    let desk = Desk::new();
    fs::create_dir(desk.path("empty")).unwrap();
    for command in
        ["backup src", "snapshots", "ls latest", "restore latest -t ../out", "verify", "stats", "doctor"]
    {
        desk.run(command).expect(10).says("hint:");
        desk.run(&format!("-V ../empty {command}")).expect(10);
    }
    for command in ["keys list", "keys test", "keys add --new-key-file ../key", "keys revoke ab"] {
        desk.run(command).expect(10);
    }
    assert!(!desk.path("vault").exists() && desk.objects("../empty").is_empty());
}

#[test]
fn a_vault_that_was_begun_and_not_finished_is_completed_by_init() {
    let desk = Desk::with_vault();
    fs::remove_file(desk.path("vault/log/000000000000")).unwrap();
    fs::remove_dir_all(desk.path("cache")).unwrap();
    desk.run("backup src").expect(10).says("never finished").says("coffer init");
    desk.run("init --single-slot").expect(0).says("completed the vault");
    desk.run("backup src").expect(0);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let desk = Desk::with_vault();
    let lines = [
        "",
        "bogus",
        "backup",
        "backup --bogus src",
        "restore latest",
        "restore --target ../out",
        "ls",
        "keys",
        "keys bogus",
        "keys revoke",
        "keys add",
        "keys passwd",
        "verify --offline --deep",
        "verify --head 12",
        "verify --vault-id 12",
        "verify --read-subset 0/3",
        "verify --read-subset 101%",
        "backup --compression 20 src",
        "backup --pack-size 3 src",
        "--quiet --verbose snapshots",
        "-V s3:// snapshots",
        "-V cos://nowhere/bucket/prefix snapshots",
        "-V s3://key:secret@bucket/prefix snapshots",
        "locks extend",
        "handover",
        "policy set",
        "promote --head 12",
        "sandbox serve",
        "kms serve",
        "kms serve --dir ../kms --tokens ../tokens --master-pkcs11 module",
        "kms new-token --tokens ../tokens --name job",
        "kms new-token --tokens ../tokens --name job --role Owner",
        "kms audit --dir ../kms --head 12",
    ];
    for line in lines {
        desk.run(line).expect(2);
    }
    desk.bare("snapshots").expect(2).says("no vault is given").says("COFFER_VAULT");
}

#[test]
fn help_and_version_are_printed_for_every_command() {
    let desk = Desk::new();
    desk.bare("--version").expect(0).says(concat!("coffer ", env!("CARGO_PKG_VERSION")));
    desk.bare("--help").expect(0).says("Exit codes").says("Usage: coffer ");
    desk.bare("help").expect(0);
    for command in [
        "init",
        "backup",
        "snapshots",
        "ls",
        "find",
        "cat",
        "dump",
        "diff",
        "restore",
        "verify",
        "stats",
        "keys",
        "doctor",
    ] {
        desk.bare(&format!("{command} --help")).expect(0).says(&format!("Usage: coffer {command}"));
        desk.bare(&format!("help {command}")).expect(0);
    }
    for command in ["new-file", "list", "add", "test", "revoke", "passwd"] {
        desk.bare(&format!("keys {command} --help")).expect(0).says(&format!("Usage: coffer keys {command}"));
    }
}

#[test]
fn a_part_of_a_snapshot_restores_where_it_stood() {
    let desk = Desk::with_snapshot();
    desk.run("restore latest:/src/d --target ../part").expect(0);
    assert_same(&tree_of(&desk.path("work/src/d")), &tree_of(&desk.path("part/src/d")), "a directory");
    assert!(!desk.path("part/src/a").exists());
    desk.run("restore latest:src/d/b --target ../file").expect(0);
    assert_eq!(tree_of(&desk.path("file")).len(), 4, "the file, what it is in, and the target");
    desk.run("restore latest:/nothing --target ../none").expect(1).says("nothing is not in the snapshot");
    desk.run("ls latest:/src/d").expect(0).says_not("src/a").says("src/d/b");
    desk.run("ls latest:/nothing").expect(1).says("coffer ls");
}

#[test]
fn snapshots_are_selected_by_id_and_age() {
    let desk = Desk::with_snapshot();
    fs::write(desk.path("work/src/new"), "of the second snapshot").unwrap();
    desk.run("backup --host elsewhere --tag weekly src").expect(0);
    desk.run("ls latest").expect(0).says("src/new");
    desk.run("ls latest~1").expect(0).says_not("src/new");
    desk.run("ls latest~2").expect(1).says("coffer snapshots");
    desk.run("ls zz").expect(2);
    desk.run("ls absent").expect(2);
    let shown = desk.json("snapshots").expect(0).message();
    let snapshots = shown["snapshots"].as_array().unwrap();
    let (first, second) = (snapshots[0]["id"].as_str().unwrap(), snapshots[1]["id"].as_str().unwrap());
    desk.run(&format!("ls {first}")).expect(0).says_not("src/new");
    desk.run(&format!("ls {}", &second[..12])).expect(0).says("src/new");
    assert_eq!(snapshots[1]["tags"][0], "weekly");
    desk.run("snapshots --tag weekly").expect(0).says("1 snapshot(s)").says("elsewhere");
    desk.run("snapshots --tag none").expect(0).says("0 snapshot(s)");
    desk.run("snapshots --host elsewhere").expect(0).says("1 snapshot(s)");
}

#[test]
fn a_backup_can_be_tuned_without_changing_what_is_restored() {
    let desk = Desk::new();
    desk.run("init --single-slot --chunker fixed --chunk-size 64").expect(0);
    let tuned = "--force --compression 19 --pack-size 4 --threads 1 --no-extra-verify --progress-interval 1";
    for options in ["--compression off", "--compression auto", tuned] {
        desk.run(&format!("backup {options} src")).expect(0);
        desk.run("restore --numeric-owner --threads 1 latest --target ../out").expect(0);
        assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("out/src")), options);
    }
    let unchanged = desk.json("backup src").expect(0).message();
    assert_eq!(unchanged["new_bytes"], 0, "{unchanged}");
    desk.run("verify --deep").expect(0);
    desk.run("-V ../v2 init --single-slot --chunk-size 70000000").expect(2).says("--chunk-size");
}

#[test]
fn quiet_says_nothing_and_verbose_names_entries() {
    let desk = Desk::with_vault();
    let quiet = desk.run("--quiet backup src").expect(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let quiet = desk.run("-q restore latest -t ../quiet").expect(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    // What was asked for is printed all the same, and so is what went wrong.
    desk.run("-q ls latest").expect(0).says("src/a");
    desk.run("-q backup src absent").expect(3).says("absent");
    desk.run("--verbose backup --force src").expect(0).says("src/d/large");
    desk.run("-v restore latest -t ../loud").expect(0).says("src/d/large");
    desk.run("backup src").expect(0).says_not("src/d/large");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let desk = Desk::with_vault();
    fs::create_dir(desk.path("work/many")).unwrap();
    for number in 0..4000 {
        fs::write(desk.path(&format!("work/many/with-a-rather-long-name-{number:08}")), "").unwrap();
    }
    desk.run("backup many").expect(0);
    for options in [&[][..], &["--json"], &["--quiet"]] {
        let mut command = desk.command(&[&["ls", "latest"], options].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        // The listing is longer than what a pipe holds, so the command writes on after the reader is gone.
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(141), ""), "{options:?}");
    }
}

#[test]
fn without_a_local_memory_everything_works_but_the_detection_of_rollback() {
    let desk = Desk::with_snapshot();
    desk.run("--no-cache backup src").expect(0);
    copy(&desk.path("vault"), &desk.path("copy"));
    desk.run("--no-cache -V ../copy snapshots").expect(0);
    desk.run("--no-cache doctor").expect(0).says("no local memory");
    fs::remove_dir_all(desk.path("cache")).unwrap();
    desk.run("backup src").expect(0);
    assert!(desk.path("cache").exists());
}

#[test]
fn nothing_is_restored_into_the_vault() {
    let desk = Desk::with_snapshot();
    for target in ["../vault", "../vault/packs/new/deep", "../vault/../vault"] {
        desk.run(&format!("restore latest --target {target}"))
            .expect(2)
            .says("in the directory of the vault");
    }
    desk.run("verify").expect(0);
    desk.run("restore latest --target ../vault-of-another-name").expect(0);
}
