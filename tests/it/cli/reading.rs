//! Reading commands: which snapshot is meant, `find`, `cat`, `dump` and `diff`, as users type them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::desk::{Desk, text_of};
use crate::support::{assert_same, has_program, noise, scratch, tree_of};

/// Snapshots of two hosts and two directories, of different days, each with a file that only it has.
fn desk() -> Desk {
    let desk = Desk::with_vault();
    fs::create_dir(desk.path("work/docs")).unwrap();
    let rounds = [
        ("laptop", "src", "2026-01-01T03:00:00Z", "--tag nightly"),
        ("server", "src", "2026-01-02T03:00:00Z", "--tag nightly --tag kept"),
        ("laptop", "src", "2026-01-03T03:00:00Z", ""),
        ("laptop", "docs", "2026-01-04T03:00:00Z", "--tag kept"),
    ];
    for (round, (host, source, time, tags)) in rounds.into_iter().enumerate() {
        fs::write(desk.path(&format!("work/{source}/of-{round}")), "only here\n").unwrap();
        desk.run(&format!("backup --host {host} --time {time} {tags} {source}")).expect(0);
        fs::remove_file(desk.path(&format!("work/{source}/of-{round}"))).unwrap();
    }
    desk
}

/// Panics unless the words name the snapshot of this round.
#[track_caller]
fn check_selects(desk: &Desk, words: &str, round: usize) {
    desk.run(&format!("ls {words}")).expect(0).says(&format!("/of-{round}\n"));
}

#[test]
fn filters_and_times_say_which_snapshot_is_meant() {
    let desk = desk();
    let check = |words: &str, round: usize| check_selects(&desk, words, round);
    check("latest", 3);
    check("latest~3", 0);
    check("latest --host laptop", 3);
    check("latest~1 -H laptop", 2);
    check("latest --host server --host nobody", 1);
    check("latest --tag nightly", 1);
    check("latest --tag nightly,kept", 1);
    check("latest --tag nightly --tag kept", 3);
    check("latest --path src", 2);
    let absolute = desk.path("work/docs");
    check(&format!("latest --path {}", absolute.display()), 3);
    // As of a time, which is local: the desk is in UTC.
    check("--at 2026-01-01T03:00 --host laptop", 0);
    check("--at 2026-01-02 --path src", 0);
    check("latest --at 2026-01-03T05:00:00+02:00 --path src --host laptop", 2);
    check("--at 2026-01-03T04:59:59+02:00 --path src --host laptop", 0);
    check("latest~1 --at 2026-01-03T04:00 --path src --host laptop", 0);
    check(":/src --at 2026-01-01T03:00", 0);
    let refused = desk.run("ls --at 2026-01-03").expect(1);
    let work = desk.path("work");
    let origins = format!("2 origins fit:\n  laptop:{0}/src\n  server:{0}/src\n", work.display());
    refused.says(&origins).says("--host");
    desk.run("ls --at 2025-12-31").expect(1).says("no snapshot is \"latest at that time\"");
    desk.run("ls latest --host nobody").expect(1).says("latest of host nobody");
    desk.run("ls --at yesterday").expect(2);
    for wrong in ["latest~x", "latest~", "Latest", "newest"] {
        desk.run(&format!("ls {wrong}")).expect(2).says("\"latest\", \"latest~N\" or the beginning of an id");
    }
    desk.finish(&mut desk.command(&["ls", ""])).expect(2).says("latest~N");
    // A path beside the snapshot is a part of it.
    desk.run("ls latest~1 /src").expect(2).says("did you mean latest~1:/src?");
    desk.run("restore -t ../out latest src/d").expect(2).says("did you mean latest:/src/d?");
    desk.run("dump latest --bogus").expect(2).says_not("did you mean latest");
    desk.run("check --read-data").expect(2).says("verify --deep");
    desk.run("ls --host laptop").expect(2);

    // An id is narrowed too.
    let shown = desk.json("snapshots").expect(0).message();
    let id = text_of(&shown["snapshots"][1]["id"]);
    check(&format!("{id} --host server"), 1);
    desk.run(&format!("ls {id} --host laptop")).expect(1);

    // Other commands take the same words.
    desk.run("cat --at 2026-01-01T12:00 :/src/of-0").expect(0).says("only here");
    desk.run("restore --host server latest:/src/of-1 --target ../out").expect(0);
    assert!(desk.path("out/src/of-1").exists());
    desk.run("restore --at 2026-01-01T12:00 --target ../out").expect(0);
    assert!(desk.path("out/src/of-0").exists());
    desk.run("dump --path src latest:/src/of-2").expect(0).says("only here");
    desk.run("diff --path src --at 2026-01-01T12:00 latest")
        .expect(0)
        .says("+    src/of-2")
        .says("-    src/of-0");
}

/// As of a time, only a part of the old side may be named.
#[test]
fn the_old_side_of_a_diff_can_be_a_part_as_of_a_time() {
    let desk = Desk::with_vault();
    let save = |time: &str| desk.run(&format!("backup --time {time} src")).expect(0);
    save("2026-01-01T03:00:00Z");
    fs::write(desk.path("work/src/d/new"), "new").unwrap();
    save("2026-01-02T03:00:00Z");
    fs::write(desk.path("work/src/d/newer"), "newer").unwrap();
    save("2026-01-03T03:00:00Z");
    let changed = |words: &str| {
        let out = desk.run(&format!("diff --at 2026-01-01T12:00 {words}")).expect(0).out;
        out.lines().take_while(|line| !line.starts_with("files:")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(changed("latest"), "+    src/d/new, +    src/d/newer");
    assert_eq!(changed(":/src/d latest:/src/d"), "+    new, +    newer");
    assert_eq!(changed(":/src/d latest~1:/src/d"), "+    new");
    assert_eq!(changed(": latest~1"), "+    src/d/new");
    assert_eq!(changed("--dir src/d :/src/d"), "+    new, +    newer");
    assert_eq!(changed("--dir ."), "+    src/d/new, +    src/d/newer");
    let refused = |words: &str, why: &str, form: &str| {
        let ran = desk.run(&format!("diff --at 2026-01-01T12:00 {words}")).expect(2);
        ran.says(why).says(form);
    };
    let twice = "so does \"latest~2:/src\"";
    refused("latest~2:/src latest:/src", twice, "coffer diff --at TIME :/PATH SNAPSHOT:/PATH");
    refused("latest~2:/src --dir src", twice, "coffer diff --at TIME :/PATH --dir DIR");
    let unnamed = "\":/src\" does not say which snapshot is the new one";
    refused(":/src", unnamed, "coffer diff --at TIME :/PATH SNAPSHOT:/PATH");
    refused(":/src :/src", unnamed, "coffer diff --at TIME :/PATH SNAPSHOT:/PATH");
    refused("", "two sides are to be compared", ":/PATH SNAPSHOT:/PATH");
    refused(":/src latest:/src --dir src", "two sides are to be compared", ":/PATH --dir DIR");
    desk.run("diff latest:/src :/src").expect(2).says("coffer diff SNAPSHOT:/PATH SNAPSHOT:/PATH");
}

#[test]
fn snapshots_are_listed_by_name() {
    let desk = desk();
    let shown = |words: &str| {
        let message = desk.json(&format!("snapshots {words}")).expect(0).message();
        let shown = message["snapshots"].as_array().unwrap();
        shown.iter().map(|snapshot| text_of(&snapshot["id"])).collect::<Vec<_>>()
    };
    let ids = shown("");
    assert_eq!(ids.len(), 4);
    assert_eq!(shown(&ids[1]), ids[1..2]);
    assert_eq!(shown(&format!("{} {} {}", &ids[2][..12], ids[0], ids[2])), [&ids[0][..], &ids[2]]);
    assert_eq!(shown("latest latest~1"), ids[2..]);
    assert_eq!(shown("latest --host server"), ids[1..2]);
    assert_eq!(shown(&format!("{} {} --latest 1", ids[0], ids[2])), ids[2..3], "of one host and path");
    desk.run(&format!("snapshots {} --host laptop", ids[1])).expect(1).says("of host laptop");
    desk.run("snapshots 0000000000000000").expect(1).says("no snapshot is \"0000000000000000\"");
    desk.run("snapshots latest nonsense").expect(2).says("nonsense");
    desk.run("snapshots latest:/src").expect(2).says("takes no path").says("coffer ls");
}

#[test]
fn snapshots_are_selected_and_grouped() {
    let desk = desk();
    let count = |words: &str| {
        desk.json(&format!("snapshots {words}")).expect(0).message()["snapshots"].as_array().unwrap().len()
    };
    assert_eq!(count(""), 4);
    assert_eq!(count("--host laptop"), 3);
    assert_eq!(count("--host laptop --tag kept"), 1);
    assert_eq!(count("--tag kept --tag nightly"), 3);
    assert_eq!(count("--tag kept,nightly"), 1);
    assert_eq!(count("--path src"), 3);
    assert_eq!(count("--latest 1"), 3, "laptop's src and docs, and the server's src");
    assert_eq!(count("--latest 1 --group-by host"), 2);
    assert_eq!(count("--latest 1 --path src --host laptop"), 1);
    let ran = desk.json("snapshots --group-by host,tags").expect(0).message();
    let groups = ran["groups"].as_array().unwrap();
    let found: Vec<_> = groups
        .iter()
        .map(|group| {
            (
                text_of(&group["host"]),
                group["tags"].as_array().unwrap().len(),
                group["snapshots"].as_array().unwrap().len(),
            )
        })
        .collect();
    let expected = [("laptop", 0, 1), ("laptop", 1, 1), ("laptop", 1, 1), ("server", 2, 1)];
    assert_eq!(found, expected.map(|(host, tags, snapshots)| (host.to_owned(), tags, snapshots)));
    let text = desk.run("snapshots -g paths").expect(0);
    let headings: Vec<_> = text.out.lines().filter(|line| line.starts_with("paths ")).collect();
    assert_eq!(headings, ["paths docs:", "paths src:"]);
    desk.run("snapshots --group-by colour").expect(2);
}

#[test]
fn find_names_the_snapshots_in_which_it_found_something() {
    let desk = desk();
    let ran = desk.run("find of-*").expect(0);
    let found: Vec<_> = ran.out.lines().filter(|line| !line.starts_with("snapshot ")).collect();
    assert_eq!(found, ["src/of-0", "src/of-1", "src/of-2", "docs/of-3"]);
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("snapshot ")).count(), 4);
    desk.run("find OF-*").expect(0).says("nothing was found");
    desk.run("find -i OF-1").expect(0).says("src/of-1").says("of server");
    desk.run("find /src/of-? --host laptop --tag nightly").expect(0).says("src/of-0").says_not("of-2");
    desk.run("find of-* --snapshot latest").expect(0).says("docs/of-3").says_not("src");
    desk.run("find of-* -s latest~1 -s latest~3 -l")
        .expect(0)
        .says("of-2")
        .says("of-0")
        .says("-rw-")
        .says_not("of-1");
    desk.run("find large --newest 2000-01-01").expect(0).says("nothing was found");
    desk.run("find large --oldest 2000-01-01 -s latest~1").expect(0).says("src/d/large");
    desk.run("find * -s latest~1:/src/d").expect(0).says("src/d/large").says_not("src/of-2");
    // What is outside of one part is still found in another.
    desk.run("find of-* -s latest~1:/src/d -s latest~1:/src").expect(0).says("src/of-2");
    desk.run("find * -s latest:/src").expect(1).says("src is not in the snapshot");
    desk.run("find [a").expect(2).says("the pattern '[a' is not valid: ");
    desk.run("find !of-1").expect(2).says("nothing to take back");
    desk.run("find of-* !of-1 -s latest~2").expect(0).says("nothing was found");
    desk.run("find of-* --at 2026-01-03T12:00 --host laptop").expect(0).says("of-2").says_not("of-0");
    desk.run("find of-* --at 2026-01-03T12:00").expect(1).says("2 origins fit");
    desk.run("find of-* --at 2026-01-03T12:00 -H laptop -s latest~1").expect(0).says("of-0").says_not("of-2");
    desk.run("find ../x").expect(2);
    desk.run("find").expect(2);
    // A blank at the end of a word is meant.
    fs::write(desk.path("work/docs/blank "), "").unwrap();
    desk.run("backup docs").expect(0);
    let with_blank = |pattern| desk.finish(&mut desk.command(&["find", pattern])).expect(0);
    with_blank("blank ").says("docs/blank \n");
    with_blank("*k ").says("docs/blank \n");
    with_blank("large ").says("nothing was found");
    let messages = desk.json("find of-1 b --host server").expect(0).messages();
    let kinds: Vec<_> = messages.iter().map(|message| text_of(&message["message_type"])).collect();
    assert_eq!(kinds, ["snapshot", "entry", "entry", "summary"]);
    assert_eq!(messages[3]["entries"], 2);
}

#[test]
fn cat_prints_a_file_and_nothing_else() {
    let desk = Desk::with_vault();
    fs::hard_link(desk.path("work/src/d/b"), desk.path("work/src/twin")).unwrap();
    symlink("a", desk.path("work/src/link")).unwrap();
    fs::File::create(desk.path("work/src/hole")).unwrap().set_len(300_000).unwrap();
    desk.run("backup src").expect(0);
    let content = |path: &str| {
        let output = desk.command(&["cat", &format!("latest:/src/{path}")]).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        output.stdout
    };
    for path in ["a", "d/b", "d/large", "twin", "hole"] {
        assert!(content(path) == fs::read(desk.path("work/src").join(path)).unwrap(), "{path}");
    }
    desk.run("ls --long latest").expect(0).says("src/twin link to src/d/b\n").says("src/link -> a\n");
    desk.run("cat latest:/src/d").expect(1).says("src/d is a directory, not a file");
    desk.run("cat latest:/src/link").expect(1).says("is a symbolic link");
    desk.run("cat latest:/src/none").expect(1).says("is not in the snapshot");
    desk.run("cat latest").expect(2).says("latest:/path");
}

#[test]
fn who_stops_reading_content_gets_the_exit_code_for_it() {
    let desk = Desk::with_snapshot();
    for words in
        [&["cat", "latest:/src/d/large"][..], &["dump", "latest"], &["dump", "latest", "--archive", "zip"]]
    {
        let mut command = desk.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = Vec::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_until(b'a', &mut first).unwrap();
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(141), ""), "{words:?}");
    }
}

#[test]
fn dump_writes_a_file_as_it_is_and_a_directory_as_an_archive() {
    let desk = Desk::with_snapshot();
    let source = tree_of(&desk.path("work/src"));
    let output = desk.command(&["dump", "latest:/src/d/b"]).output().unwrap();
    assert!(output.status.success() && output.stdout == noise(1, 5000));
    let output = desk.command(&["dump", "latest"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    fs::write(desk.path("all.tar"), &output.stdout).unwrap();
    desk.run("dump latest --output ../out.tar").expect(0).says("5 entries, 3 files");
    assert!(fs::read(desk.path("out.tar")).unwrap() == output.stdout, "the same on both ways");
    for archive in ["all.tar", "out.tar"] {
        let target = scratch();
        let status =
            Command::new("tar").arg("-xpf").arg(desk.path(archive)).arg("-C").arg(target.path()).status();
        assert!(status.unwrap().success());
        assert_same(&source, &tree_of(&target.path().join("src")), archive);
    }
    desk.run("dump latest:/src/d -a zip -o ../d.zip").expect(0);
    if !has_program("unzip") {
        return;
    }
    let listed = Command::new("unzip").arg("-Z1").arg(desk.path("d.zip")).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "src/\nsrc/d/\nsrc/d/b\nsrc/d/large\n");

    // What is there is replaced once the new one is complete, and nothing else is left behind.
    fs::write(desk.path("work/old"), "old").unwrap();
    desk.run("dump latest:/src/none -o old").expect(1);
    assert_eq!(fs::read(desk.path("work/old")).unwrap(), b"old");
    desk.run("dump latest:/src/a -o old").expect(0);
    assert_eq!(fs::read(desk.path("work/old")).unwrap(), b"a small file\n");
    desk.run("dump latest -o nowhere/x.tar").expect(1).says("nowhere");
    let mut names: Vec<_> =
        fs::read_dir(desk.path("work")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["old", "src"]);
    desk.run("dump latest --archive rar").expect(2);
    desk.run("dump latest -o /dev/null").expect(0);
}

#[test]
fn diff_shows_what_changed() {
    let desk = Desk::with_snapshot();
    fs::write(desk.path("work/src/a"), "another small file\n").unwrap();
    fs::write(desk.path("work/src/new"), "new").unwrap();
    fs::create_dir(desk.path("work/src/e")).unwrap();
    fs::remove_file(desk.path("work/src/d/b")).unwrap();
    fs::remove_file(desk.path("work/src/d/large")).unwrap();
    symlink("a", desk.path("work/src/d/large")).unwrap();
    desk.run("backup src").expect(0);
    let ran = desk.run("diff latest~1 latest").expect(0);
    let lines: Vec<_> = ran.out.lines().collect();
    let expected = ["M    src/a", "-    src/d/b", "T    src/d/large", "+    src/e/", "+    src/new"];
    assert_eq!(lines[..5], expected);
    assert_eq!(lines[5], "files: 1 new, 1 removed; directories: 1 new, 0 removed; others: 0 new, 0 removed");
    ran.says("changed: 1 in content, 1 in kind");
    let ran = desk.run("diff latest~1:/src latest:/src --metadata").expect(0);
    ran.says("U    ./\n").says("U    d/\n").says("M    a\n");
    // Nothing differs: that is no failure, and quiet says nothing.
    let ran = desk.run("-q diff latest latest").expect(0);
    assert_eq!(ran.out, "");
    desk.run("diff latest:/src --dir src").expect(0).says("0 in content");
    fs::write(desk.path("work/src/a"), "changed").unwrap();
    desk.run("diff latest --dir .").expect(0).says("M    src/a");
    desk.run("diff latest --dir nowhere").expect(1).says("nowhere");
    desk.run("diff latest:/src/none --dir src").expect(1);
    for line in [
        "diff",
        "diff latest",
        "diff latest latest latest",
        "diff latest latest --dir src",
        "diff latest latest --checksum",
    ] {
        desk.run(line).expect(2);
    }
    let messages = desk.json("diff latest~1 latest").expect(0).messages();
    assert_eq!(messages.len(), 6);
    assert_eq!((&messages[0]["path"], &messages[0]["modifier"]), (&"src/a".into(), &"M".into()));
    assert_eq!((&messages[0]["old_size"], &messages[0]["new_size"]), (&13.into(), &19.into()));
    assert_eq!(messages[5]["added"]["files"], 1);
}

/// Root may read everything, so the command runs as somebody else.
#[test]
fn what_cannot_be_read_in_a_directory_is_neither_gone_nor_the_same() {
    let desk = Desk::with_snapshot();
    fs::remove_file(desk.path("work/src/a")).unwrap();
    fs::set_permissions(desk.path("work/src/d"), PermissionsExt::from_mode(0o000)).unwrap();
    let mut command = desk.command(&["diff", "latest", "--dir", "."]);
    if rustix::process::geteuid().is_root() {
        const NOBODY: u32 = 65_534;
        let chown = Command::new("chown").args(["-R", "65534:65534"]).arg(desk.path("")).status().unwrap();
        assert!(chown.success());
        command.uid(NOBODY).gid(NOBODY);
    }
    let ran = desk.finish(&mut command).expect(3);
    fs::set_permissions(desk.path("work/src/d"), PermissionsExt::from_mode(0o755)).unwrap();
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines[0], "-    src/a");
    assert_eq!(lines[1], "files: 0 new, 1 removed; directories: 0 new, 0 removed; others: 0 new, 0 removed");
    ran.says("1 could not be compared").says("src/d: ").says_not("src/d/b");
}
