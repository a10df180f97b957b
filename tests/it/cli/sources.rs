//! What `backup` takes, and under which paths.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use super::desk::{Desk, Ran, text_of};
use crate::support::{assert_same, noise, tree_of};

/// Paths of the files in the newest snapshot.
fn files(desk: &Desk) -> Vec<String> {
    let entries = desk.json("ls latest").expect(0).messages();
    let files = entries.iter().filter(|entry| entry["kind"] == "file");
    files.map(|entry| text_of(&entry["path"])).collect()
}

const IN_SOURCE: [&str; 3] = ["a", "d/b", "d/large"];

fn below(prefix: &str) -> Vec<String> {
    IN_SOURCE.iter().map(|name| format!("{prefix}{name}")).collect()
}

#[test]
fn relative_sources_are_stored_relative_and_others_whole() {
    let desk = Desk::with_vault();
    // Where the working directory is: what `..` leads to is asked of the system.
    let work = desk.path("work").canonicalize().unwrap();
    let whole = format!("{}/", work.to_str().unwrap().trim_start_matches('/'));
    let absolute = work.join("src");
    let cases = [
        ("src", "src/".to_owned()),
        ("./src", "src/".to_owned()),
        ("src/", "src/".to_owned()),
        (".", "src/".to_owned()),
        (absolute.to_str().unwrap(), format!("{whole}src/")),
        ("../work/src", format!("{whole}src/")),
        ("src/../src", format!("{whole}src/")),
        ("..", whole.clone() + "src/"),
    ];
    for (source, prefix) in cases {
        desk.run(&format!("backup {source}")).expect(0);
        let mut found = files(&desk);
        // The directory above also holds key and cache.
        found.retain(|path| path.contains("src/"));
        assert_eq!(found, below(&prefix), "{source}");
    }
    desk.run("backup src/d/b src/a").expect(0);
    assert_eq!(files(&desk), ["src/a", "src/d/b"]);
    desk.run("backup src src/d src/a").expect(0);
    assert_eq!(files(&desk), below("src/"), "each entry once");
    // Nothing is restored outside the target, whatever the source was.
    desk.run("backup ../work/src").expect(0);
    desk.run("restore latest --target ../out").expect(0);
    assert_same(&tree_of(&absolute), &tree_of(&desk.path("out").join(format!("{whole}src"))), "restored");
}

#[test]
fn the_vault_inside_the_source_is_skipped_and_named() {
    let desk = Desk::new();
    desk.run("-V src/inner/vault init --single-slot").expect(0);
    let ran = desk.run("-V src/inner/vault backup src").expect(0);
    ran.says("src/inner/vault: skipped, it holds the vault");
    let listed = desk.run("-V src/inner/vault ls latest").expect(0);
    listed.says("src/inner").says("src/d/large").says_not("inner/vault/");
    let again = desk.run("--json -V src/inner/vault backup src").expect(0).message();
    assert_eq!(again["skipped"][0], "src/inner/vault");
    assert_eq!(again["new_chunks"], 0, "the second backup finds nothing new: {again}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_stored() {
    let desk = Desk::with_vault();
    let ran = desk.run("backup absent src").expect(3);
    ran.says("absent").says("No such file").says("1 error(s): the snapshot is incomplete");
    assert_eq!(files(&desk), below("src/"));
    desk.run("snapshots").expect(0).says("incomplete");
    let ran = desk.json("backup absent src").expect(3);
    assert_eq!(ran.error_messages()[0]["message_type"], "warning");
    let message = ran.message();
    assert_eq!((&message["error_count"], &message["errors"][0]["path"]), (&1.into(), &"absent".into()));
    desk.run("restore latest --target ../out").expect(0);
    assert_same(&tree_of(&desk.path("work/src")), &tree_of(&desk.path("out/src")), "restored");
    // This one is found, and fails when it is read, whoever asks.
    if Path::new("/proc/self/mem").exists() {
        desk.run("backup src /proc/self/mem").expect(3).says("proc/self/mem");
        assert_eq!(files(&desk), below("src/"));
    } else {
        println!("skipped: there is no /proc/self/mem whose reading fails");
    }
}

#[test]
fn sources_of_which_none_can_be_read_make_no_snapshot() {
    let desk = Desk::with_snapshot();
    let head = desk.head();
    desk.run("backup absent missing").expect(1).says("no snapshot was made");
    // The directories above an absolute source are entries too, and no reason to make one.
    let work = desk.path("work").canonicalize().unwrap();
    let [absent, there] = ["absent/disk", "src"].map(|name| work.join(name).display().to_string());
    desk.run(&format!("backup {absent}")).expect(1).says("none of the sources can be read");
    desk.run("backup ../work/absent src/absent").expect(1).says("none of the sources can be read");
    desk.run(&format!("backup -e {there} {there}")).expect(1).says("all of the sources are excluded");
    desk.run(&format!("backup -n {absent}")).expect(1).says("no snapshot was made");
    desk.run(&format!("backup {}", desk.path("vault").display())).expect(1).says("but the vault itself");
    assert_eq!(desk.head(), head);
    // One that can be read is enough.
    desk.run(&format!("backup {absent} src/a")).expect(3);
    desk.run(&format!("backup {there} {absent}")).expect(3);
}

#[test]
fn names_need_not_be_utf8() {
    let desk = Desk::with_vault();
    let name = OsStr::from_bytes(b"caf\xe9");
    fs::create_dir(desk.path("work").join(name)).unwrap();
    fs::write(desk.path("work").join(name).join("a:b"), "in a directory with a Latin-1 name").unwrap();
    desk.finish(&mut desk.command(&[OsStr::new("backup"), name])).expect(0);
    assert_eq!(files(&desk), ["caf\\xe9/a:b"]);
    let part = OsStr::from_bytes(b"latest:/caf\xe9/a:b");
    let restore = [OsStr::new("restore"), part, OsStr::new("--target"), OsStr::new("../out")];
    desk.finish(&mut desk.command(&restore)).expect(0);
    let original = tree_of(&desk.path("work").join(name));
    assert_same(&original, &tree_of(&desk.path("out").join(name)), "restored");
    let odd = OsStr::from_bytes(b"lat\xe9st");
    desk.finish(&mut desk.command(&[OsStr::new("ls"), odd])).expect(2).says("UTF-8");
}

/// Runs the command with these bytes on its standard input.
fn feed(desk: &Desk, line: &str, input: &[u8]) -> Ran {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let mut command = desk.command(&arguments);
    let pipes = || Stdio::piped();
    let mut child = command.stdin(pipes()).stdout(pipes()).stderr(pipes()).spawn().unwrap();
    // A command that is not interested closes its end.
    drop(child.stdin.take().unwrap().write_all(input));
    Ran::new(&command, child.wait_with_output().unwrap())
}

#[test]
fn lists_name_what_is_taken() {
    let desk = Desk::with_vault();
    fs::write(desk.path("work/odd *?#"), "x").unwrap();
    fs::write(desk.path("work/#hash"), "x").unwrap();
    fs::write(desk.path("list"), "# a comment\n\nsrc/a\r\nodd *?#\n./#hash\nabsent\n").unwrap();
    desk.run("backup --files-from ../list").expect(3).says("absent").says("1 error(s)");
    assert_eq!(files(&desk), ["#hash", "odd *?#", "src/a"]);
    desk.run("backup --files-from ../list src/d/b").expect(3);
    assert_eq!(files(&desk), ["#hash", "odd *?#", "src/a", "src/d/b"]);

    let name = OsStr::from_bytes(b"line\nbreak \xff");
    fs::write(desk.path("work").join(name), "x").unwrap();
    fs::write(desk.path("raw"), b"line\nbreak \xff\0src/d\0#hash\0").unwrap();
    desk.run("backup --files-from-raw ../raw").expect(0);
    assert_eq!(files(&desk), ["#hash", "line\\x0abreak \\xff", "src/d/b", "src/d/large"]);

    feed(&desk, "backup --files-from -", b"src/a\nsrc/d/b\n").expect(0);
    assert_eq!(files(&desk), ["src/a", "src/d/b"]);
    feed(&desk, "backup --files-from-raw -", b"src/d/b\0").expect(0);
    assert_eq!(files(&desk), ["src/d/b"]);

    let count = desk.snapshot_count();
    feed(&desk, "backup --files-from -", b"# nothing\n\n").expect(2).says("there is nothing to back up");
    feed(&desk, "backup --files-from-raw -", b"").expect(2).says("there is nothing to back up");
    feed(&desk, "backup --files-from-raw -", b"src/a\0src/").expect(2).says("cut short");
    feed(&desk, "backup --files-from -", b"src/a\0src/d\0").expect(2).says("--files-from-raw");
    desk.run("backup").expect(2).says("<PATH>");
    desk.run("backup --files-from - --files-from-raw -").expect(2).says("standard input");
    desk.run("backup --files-from ../no-list").expect(1).says("no-list").says("No such file");
    feed(&desk, "backup --files-from -", b"absent\nmissing\n").expect(1).says("no snapshot was made");
    assert_eq!(desk.snapshot_count(), count);
}

#[test]
fn excludes_are_left_out_and_counted() {
    let desk = Desk::with_vault();
    for (path, text) in [
        ("src/x.TMP", "x"),
        ("src/.hidden", "x"),
        ("src/d/keep.tmp", "x"),
        ("src/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("src/cache/x", "x"),
        ("src/off/.nobackup", "no thanks"),
        ("src/off/x", "x"),
    ] {
        let path = desk.path("work").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let odd = OsStr::from_bytes(b"src/caf\xe9.tmp");
    fs::write(desk.path("work").join(odd), "x").unwrap();
    desk.run("backup src").expect(0);
    let all = files(&desk);
    assert_eq!(all.len(), 11, "nothing is left out by itself: {all:?}");

    let message =
        desk.json("backup --iexclude *.tmp --iexclude !keep.tmp -e .hidden src").expect(0).message();
    assert_eq!((&message["excluded"], &message["files"]), (&3.into(), &8.into()), "{message}");
    let message =
        desk.json("backup --exclude *.tmp --exclude-caches --exclude-larger-than 1M src").expect(0).message();
    assert_eq!(message["excluded"], 4, "{message}");
    assert!(!files(&desk).contains(&"src/cache/x".to_owned()));
    desk.run("backup --exclude-if-present .nobackup:no src").expect(0).says("1 excluded");
    assert!(
        files(&desk).contains(&"src/off/.nobackup".to_owned())
            && !files(&desk).contains(&"src/off/x".to_owned())
    );
    desk.run("backup --exclude-if-present .nobackup:yes src").expect(0).says_not("excluded");

    fs::write(desk.path("patterns"), b"# what goes\n/src/d/\n\n*.tmp\n!keep.tmp\n").unwrap();
    fs::write(desk.path("ipatterns"), b"*.TMP\n").unwrap();
    desk.run("backup --exclude-file ../patterns src").expect(0).says("2 excluded");
    desk.run("backup --exclude-file ../patterns --iexclude-file ../ipatterns -e a src")
        .expect(0)
        .says("4 excluded");
    // Absolute sources are matched by their absolute paths.
    let source = desk.path("work/src").canonicalize().unwrap();
    let (source, inside) = (source.to_str().unwrap(), source.join("d"));
    let message = desk.json(&format!("backup -e {} {source}", inside.display())).expect(0).message();
    assert_eq!(message["excluded"], 1);
    assert!(files(&desk).iter().all(|path| !path.contains("/src/d/")));

    let head = desk.head();
    for (line, word) in [
        ("backup -e a[ src", "a["),
        ("backup --exclude-larger-than 1Q src", "100M"),
        ("backup --exclude-if-present a/b src", "a/b"),
    ] {
        desk.run(line).expect(2).says(word);
    }
    fs::write(desk.path("bad"), "fine\n[a\n").unwrap();
    desk.run("backup --exclude-file ../bad src").expect(2).says("../bad").says("[a");
    desk.run("backup --exclude-file ../no-file src").expect(1).says("no-file");
    desk.run("backup -e src src").expect(1).says("all of the sources are excluded");
    assert_eq!(desk.head(), head);
}

#[test]
fn standard_input_and_commands_become_one_file() {
    let desk = Desk::with_vault();
    let bytes = noise(5, 3_000_000);
    let ran = feed(&desk, "--json backup --stdin --stdin-filename /db/dump.sql", &bytes).expect(0);
    assert_eq!(
        (&ran.messages().pop().unwrap()["files"], files(&desk)),
        (&1.into(), vec!["db/dump.sql".to_owned()])
    );
    desk.run("restore latest --target ../out").expect(0);
    assert!(fs::read(desk.path("out/db/dump.sql")).unwrap() == bytes);
    let message = desk.json("snapshots").expect(0).message();
    assert_eq!(
        (&message["snapshots"][0]["collector"], &message["snapshots"][0]["sources"][0]),
        (&"stream".into(), &"db/dump.sql".into())
    );

    desk.run("backup --stdin-from-command -- cat src/d/large src/a").expect(0);
    assert_eq!(files(&desk), ["stdin"]);
    let script = |script: &str| {
        let words = ["backup", "--stdin-from-command", "--", "/bin/sh", "-c", script];
        desk.finish(desk.command(&words).env("COFFER_PASSPHRASE", ""))
    };
    script("echo to whom it may concern >&2; echo ${COFFER_PASSPHRASE-kept}")
        .expect(0)
        .says("to whom it may concern");
    desk.run("restore latest --target ../word").expect(0);
    assert_eq!(fs::read_to_string(desk.path("word/stdin")).unwrap(), "kept\n");

    let head = desk.head();
    script("cat src/d/large; echo gone wrong >&2; exit 9").expect(1).says("gone wrong").says("exit code 9");
    script("cat src/d/large; kill -9 $$").expect(1).says("signal 9");
    desk.run("backup --stdin-from-command -- ./no-such-command")
        .expect(1)
        .says("no-such-command")
        .says("No such file");
    assert_eq!(desk.snapshot_count(), 3, "none of these is a snapshot");
    for line in [
        "backup --stdin src",
        "backup --stdin --files-from ../list",
        "backup --stdin --stdin-from-command -- true",
        "backup --stdin-from-command",
        "backup --stdin --stdin-filename a/../b",
        "backup --stdin --stdin-filename /",
    ] {
        desk.run(line).expect(2);
    }
    desk.run("verify --deep").expect(0);
    assert_ne!(head, "");
}

#[test]
fn a_dry_run_stores_nothing() {
    let desk = Desk::with_snapshot();
    fs::write(desk.path("work/src/new"), noise(7, 100_000)).unwrap();
    let (head, objects) = (desk.head(), desk.objects(""));
    let message = desk.json("backup --dry-run src").expect(0).message();
    assert_eq!(
        (&message["dry_run"], message["snapshot_id"].is_null(), message["head"].is_null()),
        (&true.into(), true, true)
    );
    assert_eq!((&message["stored_bytes"], &message["files"]), (&0.into(), &4.into()));
    assert!(message["new_bytes"].as_u64().unwrap() > 100_000);
    desk.run("backup -n src").expect(0).says("nothing was stored");
    desk.run("backup -n absent src").expect(3);
    assert_eq!((desk.head(), desk.objects("")), (head, objects));
}

#[test]
fn what_is_recorded_and_compared_can_be_chosen() {
    let desk = Desk::with_snapshot();
    let time = |desk: &Desk| {
        text_of(
            &desk.json("snapshots").expect(0).message()["snapshots"].as_array().unwrap().last().unwrap()["time"],
        )
    };
    desk.run("backup --time 2020-02-29T12:00:00+02:00 --host elsewhere --tag one src").expect(0);
    assert_eq!(time(&desk), "2020-02-29T10:00:00Z");
    let mut local = desk.command(&["backup", "--time", "2021-07-01 03:04", "src"]);
    desk.finish(local.env("TZ", "UTC-3")).expect(0);
    assert_eq!(time(&desk), "2021-07-01T00:04:00Z");
    desk.run("backup --time yesterday src").expect(2).says("RFC 3339");

    let skipped = desk.json("backup --skip-if-unchanged src").expect(0).message();
    assert!(
        skipped["snapshot_id"].is_null() && !skipped["parent"].is_null() && !skipped["head"].is_null(),
        "{skipped}"
    );
    desk.run("backup --skip-if-unchanged src").expect(0).says("no snapshot was made");
    assert_eq!(desk.snapshot_count(), 3);
    let first = text_of(&desk.json("snapshots").expect(0).message()["snapshots"][0]["id"]);
    let message = desk.json(&format!("backup --parent {} src/d", &first[..12])).expect(0).message();
    assert_eq!(message["parent"], first.as_str());
    desk.run("backup --parent 00ff src").expect(1).says("00ff");
    desk.run("backup --parent latest:/src src").expect(2).says("not with a part of it");
    // What is no name of a snapshot shows before a key is asked for, as with every other command.
    desk.bare("-V ../vault backup --parent nightly src").expect(2).says("names no snapshot");
    desk.run("backup --parent latest --force src").expect(2);
    let forced = desk.json("backup -f src").expect(0).message();
    assert!(forced["parent"].is_null() && forced["read_bytes"].as_u64().unwrap() > 3_000_000);
    // Copied elsewhere and back, a file has another inode; size and time are the same. What was changed just now is never trusted.
    for file in IN_SOURCE {
        let file = fs::File::open(desk.path("work/src").join(file)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    desk.run("backup src").expect(0);
    let moved = || {
        super::desk::copy(&desk.path("work/src/d/large"), &desk.path("work/src/copy"));
        fs::rename(desk.path("work/src/copy"), desk.path("work/src/d/large")).unwrap();
    };
    moved();
    let read = |line: &str| desk.json(line).expect(0).message()["read_bytes"].as_u64().unwrap();
    assert_eq!(read("backup --ignore-inode --ignore-ctime src"), 0);
    moved();
    assert_eq!(read("backup --force src"), 3_005_013);
}

#[test]
fn tags_are_separated_by_commas_and_no_name_is_empty() {
    let desk = Desk::with_vault();
    desk.finish(&mut desk.command(&["backup", "--tag", "a, b", "--tag", "c", "src"])).expect(0);
    let list = desk.json("snapshots").expect(0).message();
    assert_eq!(list["snapshots"][0]["tags"], serde_json::json!(["a", "b", "c"]));
    for wrong in ["--tag=", "--tag=a,", "--tag=a,,b", "--tag= ", "--host="] {
        desk.finish(&mut desk.command(&["backup", wrong, "src"])).expect(2).says("it is empty");
    }
    assert_eq!(desk.snapshot_count(), 1);
}

#[test]
fn verbose_names_entries_beside_the_result_and_the_plan_of_a_dry_run_is_the_result() {
    let desk = Desk::with_vault();
    for (line, plan_is_result) in [("-v backup -n src", true), ("-v backup src", false)] {
        let ran = desk.run(line).expect(0);
        assert_eq!(ran.out.contains("src/d/large\n"), plan_is_result, "{ran:?}");
        assert_eq!(ran.err.contains("src/d/large\n"), !plan_is_result, "{ran:?}");
        let messages = desk.json(line).expect(0).messages();
        let (summary, entries) = messages.split_last().unwrap();
        assert_eq!(summary["message_type"], "summary");
        let large = entries.iter().find(|entry| entry["path"] == "src/d/large").unwrap();
        assert_eq!((&large["message_type"], &large["size"]), (&"backup_entry".into(), &3_000_000.into()));
    }
    fs::write(desk.path("work/src/d/large"), "another").unwrap();
    fs::write(desk.path("work/src/d/more"), "new").unwrap();
    let listed = desk.run("-v backup -n src").expect(0).out;
    for line in ["modified  src/d/large\n", "new       src/d/more\n", "unchanged src/a\n"] {
        assert!(listed.contains(line), "{line:?}: {listed}");
    }
    for (line, plan_is_result) in [("-n -t ../out", true), ("-t ../out", false)] {
        let ran = desk.run(&format!("-v restore latest {line}")).expect(0);
        assert_eq!(ran.out.contains("src/d/large\n"), plan_is_result, "{ran:?}");
        assert_eq!(ran.err.contains("src/d/large\n"), !plan_is_result, "{ran:?}");
    }
}

#[test]
fn a_pattern_in_a_file_is_refused_with_its_line() {
    let desk = Desk::with_snapshot();
    fs::write(desk.path("patterns"), "# objects\n*.o\n\n[a\n").unwrap();
    for line in
        ["backup -n --exclude-file ../patterns src", "restore latest -t ../o --include-file ../patterns"]
    {
        desk.run(line).expect(2).says("patterns, line 4: the pattern '[a' is not valid: ");
    }
}

#[test]
fn what_a_restore_leaves_out_is_a_warning_that_names_the_option() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::with_vault();
    fs::set_permissions(desk.path("work/src/a"), fs::Permissions::from_mode(0o4755)).unwrap();
    desk.run("backup src").expect(0);
    let ran = desk.json("restore latest -t ../out").expect(0);
    let warnings = ran.error_messages();
    assert_eq!((warnings.len(), &warnings[0]["message_type"]), (1, &"warning".into()), "{ran:?}");
    assert!(warnings[0]["message"].as_str().unwrap().contains("--privileged"), "{ran:?}");
    assert_eq!(ran.message()["warnings"][0], warnings[0]["message"]);
}
