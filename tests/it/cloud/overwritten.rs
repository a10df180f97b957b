//! A record that is laid over another one, and is as good: both are signed by somebody enrolled.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use coffer_store::{CloudStore, ObjectKey, ObjectStore};
use coffer_testkit::proxy::{Proxy, RequestKind};

use super::desk::{Desk, Ran};
use super::modes::time_of;

/// A writer's machine, with a memory of its own.
fn host(desk: &Desk, name: &str, line: &str) -> Ran {
    let mut command = desk.command(line);
    command
        .env_remove("COFFER_KEY_FILE")
        .env("COFFER_WRITER", desk.path(&format!("{name}.writer")))
        .env("COFFER_CACHE_DIR", desk.path(&format!("{name}-cache")))
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

fn hosts(desk: &Desk, line: &str) -> Vec<String> {
    let listed = desk.run(&format!("--json snapshots {line}")).expect(0).value();
    let snapshots = listed["snapshots"].as_array().unwrap();
    snapshots.iter().map(|snapshot| snapshot["host"].as_str().unwrap().to_owned()).collect()
}

/// Names and bytes of all objects, as whoever may list and read them has them.
fn objects(desk: &Desk) -> Vec<(ObjectKey, Vec<u8>)> {
    let bucket = desk.bucket();
    let read = |name: ObjectKey| {
        let mut bytes = Vec::new();
        bucket.read(&name, 1 << 30, &mut bytes).unwrap();
        (name, bytes)
    };
    desk.names("").into_iter().map(read).collect()
}

struct Attacked {
    desk: Desk,
    /// The record that two have made.
    record: ObjectKey,
}

/// Someone with the credential of a writer, and the right to write and to read, lays a record of his own over that of another writer. It goes
/// on from the same record, and all that it needs is there.
fn attacked() -> Attacked {
    let desk = Desk::new(|bucket| bucket.versioning = true);
    desk.run("init --single-slot").expect(0);
    for name in ["evil", "victim"] {
        desk.run(&format!("keys grant-writer {name} --host {name} --out ../{name}.writer")).expect(0);
    }
    let before = objects(&desk);
    for (name, bytes) in &before {
        let path = desk.path(&format!("copy/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    host(&desk, "victim", "backup src --host victim").expect(0);
    let names: BTreeSet<_> = before.iter().map(|(name, _)| name.clone()).collect();
    let record = desk.names("log/").into_iter().find(|name| !names.contains(name)).unwrap();

    fs::write(desk.path("work/src/planted"), "planted\n").unwrap();
    host(&desk, "evil", "-V ../copy backup src --host evil").expect(0);
    fs::remove_file(desk.path("work/src/planted")).unwrap();
    let bucket = desk.bucket();
    for folder in ["packs", "index", "log"] {
        let mut pending = vec![desk.path(&format!("copy/{folder}"))];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let name = path.strip_prefix(desk.path("copy")).unwrap().to_str().unwrap();
            let name = ObjectKey::new(name).unwrap();
            if !names.contains(&name) {
                bucket.put_unconditional(&name, &fs::read(&path).unwrap(), None).unwrap();
            }
        }
    }
    assert_eq!(desk.versions_of(&record).len(), 2, "{record} was laid over");
    Attacked { desk, record }
}

#[test]
fn of_two_records_with_one_number_all_go_by_the_first() {
    let Attacked { desk, record } = attacked();
    assert_eq!(hosts(&desk, "--no-cache"), ["victim"], "a client without a memory");
    assert_eq!(hosts(&desk, ""), ["victim"]);
    for line in ["verify --no-cache", "verify --deep"] {
        let report = desk.run(&format!("--json {line}")).expect(22).value();
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["object"] == record.as_str());
        let found = found.unwrap_or_else(|| panic!("{line}: {report}"));
        assert_eq!(found["class"], "surplus", "{report}");
        assert!(found["what"].as_str().unwrap().contains("laid over"), "{report}");
        assert!(
            report["residue"].as_array().is_some_and(|residue| !residue.is_empty()),
            "what was laid there is in no log: {report}"
        );
    }
    // All go on in one line.
    host(&desk, "victim", "backup src --host victim").expect(0);
    desk.run("backup src --host owner").expect(0);
    host(&desk, "evil", "backup src --host evil --no-cache").expect(0);
    let all = ["victim", "victim", "owner", "evil"];
    assert_eq!(hosts(&desk, "--no-cache"), all);
    assert_eq!(hosts(&desk, ""), all);
    desk.assert_restores("--no-cache --host victim", "restored");
    desk.run("verify --deep").expect(22);
    // Who went by the other one is told.
    host(&desk, "evil", "backup src --host evil").expect(23);
}

/// Whatever else is laid over it, or hides it.
#[test]
fn the_first_of_two_records_counts_hidden_too_and_as_it_was() {
    let Attacked { desk, record } = attacked();
    desk.sandbox.advance(Duration::from_secs(3600)).unwrap();
    let then = time_of(desk.sandbox.now_ms());
    desk.sandbox.advance(Duration::from_secs(3600)).unwrap();
    desk.bucket().delete(&record).unwrap();
    assert_eq!(hosts(&desk, "--no-cache"), ["victim"], "hidden");
    desk.bucket().put_unconditional(&record, b"rubbish", None).unwrap();
    assert_eq!(hosts(&desk, "--no-cache"), ["victim"], "laid over again");
    assert_eq!(hosts(&desk, &format!("--no-cache --as-of {then}")), ["victim"], "as it was");
    // What is hidden is not made a second time.
    desk.bucket().delete(&record).unwrap();
    host(&desk, "victim", "backup src --host again").expect(0);
    assert_eq!(hosts(&desk, "--no-cache"), ["victim", "again"]);
    desk.run("verify --deep").expect(22);
}

/// Whoever went by what was laid over learns that the log is another one.
#[test]
fn who_remembers_what_was_laid_over_is_refused() {
    let Attacked { desk, record } = attacked();
    // A client that was shown the bucket without its versions, as one that may not list them is.
    let shown = desk.path("shown");
    for (name, bytes) in objects(&desk) {
        let path = shown.join(name.as_str());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(hosts(&desk, "-V ../shown --cache-dir ../misled"), ["evil"]);
    desk.run("snapshots --cache-dir ../misled").expect(23);
    assert!(record.as_str().starts_with("log/"));
}

#[test]
fn that_the_first_counts_costs_no_request() {
    let desk = Desk::new(|bucket| bucket.versioning = true);
    let proxy =
        Proxy::start(desk.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).unwrap();
    let run = |line: &str| {
        let output = desk.command(line).env("COFFER_ENDPOINT", proxy.endpoint()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("init --single-slot");
    // What was just written is read again.
    std::thread::sleep(Duration::from_millis(2500));
    run("backup src");
    run("backup src");
    proxy.set_fair();
    run("backup src");
    let totals = proxy.totals();
    let count = |kind| totals.get(&kind).map_or(0, |total| total.request_count);
    assert_eq!((count(RequestKind::List), count(RequestKind::ListVersions)), (0, 2), "{totals:?}");
    assert!(count(RequestKind::Get) + count(RequestKind::Head) <= 5, "{totals:?}");
    assert!((1..=3).contains(&count(RequestKind::Put)), "{totals:?}");
}
