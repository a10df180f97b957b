//! What `backup` takes, and under which paths.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::desk::{Desk, text_of};
use crate::support::{assert_same, tree_of};

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
    assert_eq!(desk.head(), head);
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
