//! Several stores of which some are buckets: what each must be able to do, which locks what is copied gets, and packs that are
//! archived in one of them.

use std::fs;

use coffer_sandbox::ConditionMode;
use coffer_store::{CloudStore, RetentionMode};

use super::desk::{BUCKET, Desk};

/// Both buckets.
fn both() -> String {
    format!("--store s3://{BUCKET}/v --store s3://second/v")
}

fn set(desk: &Desk, condition: ConditionMode) {
    desk.sandbox.switch(|switches| switches.condition_mode = condition).unwrap();
}

#[test]
fn a_store_that_becomes_a_replica_or_the_home_is_tried_first() {
    let desk = Desk::new(|_| {});
    desk.add_bucket("second", |_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    // The service changes its ways.
    set(&desk, ConditionMode::Ignored);
    let said = desk.run(&format!("{} replicate --new", both())).expect(0);
    said.says("can be a replica of this vault, never the home of its log");
    desk.run(&format!("{} handover --to s3://second/v", both()))
        .expect(1)
        .says("cannot be the home of this vault's log")
        .says("create-if-absent");
    desk.run("-V s3://second/v promote --accept-loss").expect(1).says("cannot be the home");
    desk.run(&format!("{} backup src --ack all", both())).expect(0);
    set(&desk, ConditionMode::Honoured);
    desk.run(&format!("{} handover --to s3://second/v", both())).expect(0);
    assert!(desk.names_in("second", "probe/").is_empty(), "nothing is left behind");
}

#[test]
fn a_bucket_without_versions_is_no_replica_where_the_oldest_version_counts() {
    let desk = Desk::new(|bucket| bucket.versioning = true);
    desk.add_bucket("second", |_| {});
    desk.add_bucket("third", |bucket| bucket.versioning = true);
    set(&desk, ConditionMode::Ignored);
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    desk.run(&format!("{} replicate --new", both())).expect(1).says("cannot be a replica of this vault");
    assert!(desk.names_in("second", "").is_empty(), "nothing was written there");
    let others = format!("--store s3://{BUCKET}/v --store s3://third/v --store ../directory");
    desk.run(&format!("{others} replicate --new")).expect(0);
    desk.run(&format!("{others} backup src --ack all")).expect(0);
    desk.run(&format!("{others} doctor")).expect(0);
    for home in ["s3://third/v", "../directory"] {
        desk.run(&format!("{others} handover --to {home}")).expect(0);
        desk.run(&format!("{others} backup src --ack all")).expect(0);
    }
    desk.run(&format!("{others} verify --deep")).expect(0);
}

/// What is copied, healed, handed over and promoted is locked as what is backed up.
#[test]
fn what_is_written_to_other_buckets_is_locked_by_the_policy() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.add_bucket("second", |bucket| bucket.object_lock = true);
    desk.run("init --single-slot --lock compliance --lock-days 5").expect(0);
    desk.run("backup src").expect(0);
    let keyless = |line: &str| {
        let mut command = desk.command(line);
        let output = command.env_remove("COFFER_KEY_FILE").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = keyless(&format!("{} replicate --new", both()));
    assert!(code == Some(12) && said.contains("--unlocked"), "{code:?}: {said}");
    desk.run(&format!("{} replicate --new", both())).expect(0);
    let locked = |what: &str| {
        let bucket = desk.bucket_named("second");
        for name in desk.names_in("second", "") {
            if name.as_str().starts_with("probe/") {
                continue;
            }
            let retention = bucket.retention(&name, None).unwrap();
            let mode = retention.map(|retention| retention.mode);
            assert_eq!(mode, Some(RetentionMode::Compliance), "{what}: {name}");
        }
    };
    locked("replicate");
    desk.run(&format!("{} handover --to s3://second/v", both())).expect(0);
    locked("handover");
    desk.run(&format!("{} handover --to s3://{BUCKET}/v", both())).expect(0);
    desk.run("-V s3://second/v promote --accept-loss").expect(0);
    locked("promote");
    desk.run("-V s3://second/v backup src").expect(0);
    let (code, said) = keyless(&format!("{} replicate --unlocked", both()));
    assert!(code == Some(0), "{code:?}: {said}");
}

#[test]
fn what_is_healed_is_locked_by_the_policy() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.add_bucket("second", |bucket| bucket.object_lock = true);
    desk.run(&format!("{} init --single-slot", both())).expect(0);
    desk.run(&format!("{} backup src --ack all", both())).expect(0);
    desk.run(&format!("{} policy set --lock governance --lock-days 4", both())).expect(0);
    let bucket = desk.bucket_named("second");
    let name = desk.names_in("second", "packs/").pop().unwrap();
    let mut versions = Vec::new();
    bucket
        .versions(name.as_str(), &mut |version| {
            versions.push(version.version_id);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    versions.iter().for_each(|version| bucket.delete_version(&name, version).unwrap());
    desk.run(&format!("{} verify --heal", both())).expect(24);
    let retention = bucket.retention(&name, None).unwrap();
    assert_eq!(retention.map(|retention| retention.mode), Some(RetentionMode::Governance), "{name}");
}

/// Packs that are archived in one bucket are read from the other.
#[test]
fn what_is_warm_in_one_of_several_stores_is_read_there() {
    let desk = Desk::new(|_| {});
    desk.add_bucket("second", |_| {});
    desk.run(&format!("{} init --single-slot", both())).expect(0);
    desk.run(&format!("{} backup src --ack all", both())).expect(0);
    super::cold::archive_packs(&desk);
    desk.run("restore latest --target ../refused").expect(25);
    desk.assert_restores(&both(), "out");
    desk.run(&format!("{} cat latest:/src/d/large", both())).expect(0);
    // Nothing was asked for.
    assert!(!desk.sandbox.actions().keys().any(|action| action.ends_with("object.restore")));
}

/// Something was laid over every object of every store: the first versions count in each.
#[test]
fn what_was_overwritten_in_several_buckets_is_found() {
    let desk = Desk::new(|bucket| bucket.versioning = true);
    desk.add_bucket("second", |bucket| bucket.versioning = true);
    desk.run(&format!("{} init --single-slot", both())).expect(0);
    desk.run(&format!("{} backup src --ack all", both())).expect(0);
    for bucket in [BUCKET, "second"] {
        desk.overwrite_all_in(bucket);
        desk.assert_restores(&both(), &format!("{bucket}-remembered"));
        desk.assert_restores(&format!("{} --no-cache", both()), &format!("{bucket}-cold"));
        desk.run(&format!("{} replicate --status", both())).expect(0);
    }
    desk.run(&format!("{} backup src --ack all --force", both())).expect(0);
    // Nothing is lost. That somebody wrote over the log is told.
    desk.run(&format!("{} verify --deep", both())).expect(22).says("something was laid over it");
}

#[test]
fn the_status_says_once_what_is_not_reached() {
    let desk = Desk::new(|_| {});
    let both = "--store ../home --store ../replica";
    desk.run(&format!("{both} init --single-slot")).expect(0);
    fs::remove_dir_all(desk.path("replica")).unwrap();
    let status = desk.run(&format!("{both} replicate --status")).expect(3);
    assert_eq!(
        status.out.matches("../replica").count(),
        2,
        "the store, and where there is no vault: {status:?}"
    );
    assert_eq!(status.out.matches("not reached").count(), 1, "{status:?}");
    assert!(!status.out.contains("not available") && status.err.is_empty(), "{status:?}");
}

/// With one store named, too, this machine remembers which snapshots it has seen.
#[test]
fn what_a_promotion_loses_is_named_by_who_knew_one_store_only() {
    let desk = Desk::new(|_| {});
    desk.run("-V ../home init --single-slot").expect(0);
    desk.run("-V ../home backup src").expect(0);
    desk.run("--store ../home --store ../replica replicate --new").expect(0);
    fs::write(desk.path("work/src/later"), "later").unwrap();
    let lost = desk.run("--json -V ../home backup src").expect(0).value()["snapshot_id"].clone();
    fs::remove_dir_all(desk.path("home")).unwrap();
    let refused = desk.run("--json -V ../replica promote").expect(11);
    let value: serde_json::Value = serde_json::from_str(refused.out.lines().next().unwrap()).unwrap();
    assert_eq!(value["loss"]["snapshots"][0]["id"], lost, "{refused:?}");
}

/// A store that is not reached is said to be as far behind as it was when it was last seen.
#[test]
fn the_status_tells_the_last_known_lag() {
    let desk = Desk::new(|_| {});
    let both = "--store ../home --store ../replica";
    desk.run(&format!("{both} init --single-slot")).expect(0);
    desk.run(&format!("{both} backup src")).expect(0);
    fs::remove_dir_all(desk.path("replica")).unwrap();
    desk.run(&format!("{both} backup src")).expect(3);
    desk.run(&format!("{both} replicate --status")).expect(3).says("1 record(s) behind now");
    let status = desk.run(&format!("--json {both} replicate --status")).expect(3).value();
    let seen = &status["stores"][1]["last_seen"];
    assert_eq!((&seen["behind_records"], &seen["behind_objects"]), (&1.into(), &0.into()), "{status}");
    assert!(seen["time"].is_string() && status["stores"][0]["last_seen"].is_null(), "{status}");
}

/// Backs up five times to the first bucket alone, after the second one was promoted.
fn go_on_in_the_old_home(desk: &Desk) {
    desk.run(&format!("{} backup src --ack all", both())).expect(0);
    desk.run("-V s3://second/v promote --accept-loss").expect(0);
    for number in 0..5 {
        fs::write(desk.path(&format!("work/src/late{number}")), format!("late {number}")).unwrap();
        desk.run("--no-cache backup src").expect(0);
    }
}

/// Of a record that a deletion merely hides, every older version would count still.
#[test]
fn an_old_home_that_keeps_versions_is_in_line_again() {
    for condition in [ConditionMode::Honoured, ConditionMode::Ignored] {
        let desk = Desk::new(|bucket| bucket.versioning = true);
        desk.add_bucket("second", |bucket| bucket.versioning = true);
        set(&desk, condition);
        desk.run(&format!("{} init --single-slot", both())).expect(0);
        go_on_in_the_old_home(&desk);
        let done = desk.run(&format!("{} reconcile --rejoin", both())).expect(0);
        done.says("5 record(s) removed, in line again");
        desk.run(&format!("{} backup src --ack all", both())).expect(0);
        desk.run(&format!("{} replicate --status", both())).expect(0);
        desk.run(&format!("{} reconcile", both())).expect(0).says("nothing to reconcile");
        desk.run(&format!("{} handover --to s3://{BUCKET}/v", both())).expect(0);
        desk.run(&format!("{} backup src --ack all", both())).expect(0);
        desk.run(&format!("{} verify --deep", both())).expect(0);
        desk.assert_restores(&both(), "out");
        desk.assert_restores("--no-cache", "alone");
    }
}

#[test]
fn an_old_home_whose_records_are_locked_stays_fenced() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.add_bucket("second", |bucket| bucket.object_lock = true);
    desk.run(&format!("{} init --single-slot --lock compliance --lock-days 3", both())).expect(0);
    go_on_in_the_old_home(&desk);
    let records = desk.names("log/");
    for _ in 0..2 {
        let report = desk.run(&format!("--json {} reconcile --rejoin", both())).expect(3).value();
        let rejoined = &report["rejoined"][0];
        assert_eq!(
            (&rejoined["removed_records"], &rejoined["fenced"]),
            (&0.into(), &true.into()),
            "{report}"
        );
        assert!(rejoined["error"].is_string(), "{report}");
        assert_eq!(desk.names("log/"), records, "nothing is hidden either");
        let status = desk.run(&format!("--json {} replicate --status", both())).expect(3).value();
        assert_eq!(status["stores"][0]["standing"], "fenced", "{status}");
    }
    // The snapshots are taken over, and the new home goes on without it.
    desk.run(&format!("{} backup src --ack primary", both())).expect(0);
    desk.run(&format!("{} restore latest --target ../out", both())).expect(0);
    assert!(desk.path("out/src/late4").exists());
}
