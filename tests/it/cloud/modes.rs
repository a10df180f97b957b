//! How writers share a bucket, by what it does with a conditional create and whether it keeps versions.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use coffer_format::header::{Header, StoreMode};
use coffer_sandbox::ConditionMode;
use coffer_store::{CloudStore, ObjectKey, ObjectStore};

use super::desk::Desk;

#[test]
fn a_bucket_that_creates_exclusively_is_trusted() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    let doctor = desk.run("doctor").expect(0);
    for check in [
        "create-if-absent in a race: ok",
        "create-if-absent in parts, in a race: ok",
        "bucket: versions: not kept",
    ] {
        assert!(doctor.out.contains(check), "{check}: {}", doctor.out);
    }
    doctor.says("several machines may write at once: the store creates each name once");
    // The bucket changes its ways behind the vault's back.
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Ignored).unwrap();
    desk.run("doctor").expect(1).says("does not create objects exclusively any more");
}

#[test]
fn a_bucket_that_ignores_the_condition_and_keeps_no_versions_has_one_writer() {
    let desk = Desk::new(|_| {});
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Ignored).unwrap();
    desk.run("init --single-slot").expect(1).says("--single-writer");
    assert!(desk.names("").is_empty(), "nothing is left behind: {:?}", desk.names(""));
    desk.run("init --single-slot --single-writer").expect(0).says("only one machine may write");
    desk.run("backup src").expect(0);
    desk.run("backup src").expect(0);
    desk.assert_restores("", "out");
    desk.run("doctor").expect(0).says("one command at a time");
    desk.run("init --single-slot --single-writer").expect(1);
    desk.run("verify --deep").expect(0);
}

/// The condition is refused outright: the one writer does without it.
#[test]
fn a_bucket_that_refuses_the_condition_has_one_writer() {
    let desk = Desk::new(|_| {});
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Rejected).unwrap();
    desk.run("init --single-slot").expect(1);
    desk.run("init --single-slot --single-writer").expect(0);
    desk.run("backup src").expect(0);
    desk.assert_restores("", "out");
}

#[test]
fn where_versions_are_kept_the_oldest_counts_and_writers_race_without_harm() {
    let desk = Desk::new(|bucket| bucket.versioning = true);
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Ignored).unwrap();
    desk.run("init --single-slot").expect(0).says("the oldest version of a name counts");
    desk.run("doctor").expect(0).says("oldest version in a race: ok");
    let start = |host: usize| {
        let mut command = desk.command(&format!("backup src --host host{host} --force"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let writers: Vec<_> = (0..6).map(start).collect();
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let listed = desk.run("--json snapshots").expect(0);
    let value = listed.value();
    assert_eq!(value["snapshots"].as_array().map(Vec::len), Some(6), "{value}");
    desk.run("verify --deep").expect(0);
    // Whatever is laid over it or hides it, what was first counts.
    desk.overwrite_all();
    desk.assert_restores("", "overwritten");
    desk.delete_all();
    desk.assert_restores("", "deleted");
    desk.run("verify --deep").expect(0);
    desk.run("backup src").expect(0);
}

/// The bucket creates exclusively and keeps versions: who may write over what is there hides nothing from anybody.
#[test]
fn what_was_overwritten_is_found_by_itself() {
    type Damage = fn(&Desk);
    let damages: [(&str, Damage); 2] =
        [("rubbish", Desk::overwrite_all), ("alike", Desk::overwrite_all_alike)];
    for (what, damage) in damages {
        let desk = Desk::new(|bucket| bucket.versioning = true);
        desk.run("init --single-slot").expect(0);
        desk.run("backup src").expect(0);
        fs::write(desk.path("work/src/later"), "later\n").unwrap();
        desk.run("backup src").expect(0);
        damage(&desk);
        desk.assert_restores("--no-cache", &format!("{what}-cold"));
        desk.assert_restores("", &format!("{what}-warm"));
        assert_eq!(fs::read(desk.path(&format!("{what}-cold/src/later"))).unwrap(), b"later\n");
        // Nothing is lost. That somebody wrote over the log is told.
        for line in ["verify --no-cache", "verify --deep"] {
            desk.run(line).expect(22).says("surplus: log/000000000000: something was laid over it");
        }
        desk.run("backup src").expect(0);
        let listed = desk.run("--json snapshots --no-cache").expect(0).value();
        assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(3), "{what}: {listed}");
    }
}

/// The object `vault` says which version counts, and anybody may lay another one over it.
#[test]
fn a_header_that_says_another_mode_is_not_believed() {
    for condition in [ConditionMode::Honoured, ConditionMode::Ignored] {
        let desk = Desk::new(|bucket| bucket.versioning = true);
        desk.sandbox.switch(|switches| switches.condition_mode = condition).unwrap();
        let id = desk.run("init --single-slot").expect(0).out.trim().to_owned();
        desk.run("backup src").expect(0);
        let key = ObjectKey::new("vault").unwrap();
        let mut bytes = Vec::new();
        desk.bucket().read(&key, 1 << 20, &mut bytes).unwrap();
        let mut header = Header::decode(&bytes).unwrap();
        header.store_mode = match header.store_mode {
            StoreMode::OldestVersion => StoreMode::ConditionalCreate,
            _ => StoreMode::OldestVersion,
        };
        desk.bucket().put_unconditional(&key, &header.encode(), None).unwrap();
        // Whoever knows which vault is meant takes the first header.
        desk.assert_restores("", "remembered");
        desk.assert_restores(&format!("--no-cache --vault-id {id}"), "given");
        desk.run("backup src").expect(0);
        // Nobody else is led astray.
        let refused = desk.run("snapshots --no-cache").expect(23);
        assert!(
            refused.err.contains("version of each name") && refused.err.contains("--vault-id"),
            "{refused:?}"
        );
    }
}

#[test]
fn what_was_hidden_or_overwritten_is_there_as_of_an_earlier_time() {
    let desk = Desk::new(|bucket| bucket.versioning = true);
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    desk.sandbox.advance(Duration::from_secs(3600)).unwrap();
    let then = time_of(desk.sandbox.now_ms());
    desk.sandbox.advance(Duration::from_secs(3600)).unwrap();
    desk.delete_all();
    // What is only hidden is found by itself.
    desk.assert_restores("--no-cache", "hidden");
    desk.overwrite_all_versions();
    desk.assert_restores(&format!("--as-of {then}"), "as-of");
    desk.run(&format!("verify --deep --as-of {then}")).expect(0);
    desk.run(&format!("backup src --as-of {then}")).expect(2).says("for reading only");
    desk.run("snapshots --as-of 2001-01-01T00:00:00Z").expect(10);
    desk.run(&format!("snapshots --as-of {then} -V ../work")).expect(2).says("a directory cannot be shown");
}

/// RFC 3339, of milliseconds since 1970.
pub(super) fn time_of(ms: u64) -> String {
    let stamp = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    let seconds = stamp.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1970 to a date of the Gregorian calendar.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
