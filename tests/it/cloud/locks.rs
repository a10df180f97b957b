//! Locks: each object carries one from its first moment, and those that kept snapshots need are prolonged.

use std::time::Duration;

use coffer_sandbox::ConditionMode;
use coffer_store::{CloudStore, ObjectStore, RetentionMode};

use super::desk::{BUCKET, Desk};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn objects_are_locked_from_the_start_and_prolonged_as_long_as_they_are_needed() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.run("init --single-slot --lock compliance").expect(2).says("--lock-days");
    desk.run("init --single-slot --lock compliance --lock-days 3").expect(0);
    desk.run("policy show").expect(0).says("lock.mode compliance").says("lock.days 3");
    desk.run("backup src").expect(0);
    let bucket = desk.bucket();
    let names: Vec<_> =
        desk.names("").into_iter().filter(|name| !name.as_str().starts_with("probe/")).collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in &names {
        let retention =
            bucket.retention(name, None).unwrap().unwrap_or_else(|| panic!("{name} is not locked"));
        assert_eq!(retention.mode, RetentionMode::Compliance, "{name}");
    }
    // Nobody deletes a version, the owner of the account neither.
    let mut versions = Vec::new();
    bucket
        .versions("", &mut |version| {
            versions.push(version);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let version = versions.iter().find(|version| version.name.starts_with("packs/")).unwrap();
    let key = coffer_store::ObjectKey::new(version.name.clone()).unwrap();
    bucket.delete_version(&key, &version.version_id).unwrap_err();
    desk.run("verify --locks --min-days 2").expect(0).says("locked for 2 day(s) more");
    desk.run("verify --locks --min-days 10").expect(26).says("not locked for 10 day(s)");
    let dry = desk.run("--json locks extend --days 20 --dry-run").expect(0).value();
    assert!(dry["stores"][0]["extended"].as_u64() > Some(5) && dry["head"].is_null(), "{dry}");
    desk.run("verify --locks --min-days 10").expect(26);
    let done = desk.run("--json locks extend --days 20").expect(0).value();
    assert_eq!(done["stores"][0]["extended"], dry["stores"][0]["extended"]);
    assert_eq!(done["stores"][0]["first"], 0);
    // The record of it is younger than the rest, and has but what the policy gives.
    let again = desk.run("--json locks extend --days 19").expect(0).value();
    assert_eq!(again["stores"][0]["extended"], 1, "{again}");
    desk.run("verify --locks --min-days 1").expect(0);
    desk.run("verify").expect(0);
    desk.assert_restores("", "out");
}

/// What is under governance does not satisfy a policy that says compliance, and is raised; nothing is ever lowered.
#[test]
fn locks_are_made_firmer_and_never_less_firm() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.run("init --single-slot --lock governance --lock-days 9").expect(0);
    desk.run("backup src").expect(0);
    desk.run("verify --locks --min-days 2").expect(0);
    desk.run("policy set --lock compliance --lock-days 3").expect(0);
    let names: Vec<_> =
        desk.names("").into_iter().filter(|name| !name.as_str().starts_with("probe/")).collect();
    let bucket = desk.bucket();
    let before: Vec<_> = names.iter().map(|name| bucket.retention(name, None).unwrap().unwrap()).collect();
    desk.run("verify --locks").expect(0).says("under governance, and the policy says compliance");
    let verified = desk.run("--json verify --locks --min-days 2").expect(26).value();
    // The record of the change is under the new policy.
    assert_eq!(verified["stores"][0]["weaker"], names.len() - 1, "{verified}");
    assert_eq!(verified["short"], 0, "{verified}");
    let done = desk.run("--json locks extend").expect(0).value();
    assert_eq!(done["stores"][0]["firmer"], names.len() - 1, "{done}");
    for (name, before) in names.iter().zip(&before) {
        let after = bucket.retention(name, None).unwrap().unwrap();
        assert_eq!(after.mode, RetentionMode::Compliance, "{name}");
        assert!(after.until_s >= before.until_s, "{name}: it ends earlier");
    }
    desk.run("verify --locks --min-days 2").expect(0);
    // A policy that asks for less than there is, is satisfied.
    desk.run("policy set --lock governance --lock-days 2").expect(0);
    desk.run("verify --locks --min-days 1").expect(0);
    desk.run("locks extend --days 12").expect(0);
    for name in &names {
        let after = bucket.retention(name, None).unwrap().unwrap();
        assert_eq!(after.mode, RetentionMode::Compliance, "{name}");
    }
}

/// Something was laid over every object, without a lock: what is looked at and prolonged is what readers take.
#[test]
fn the_version_that_readers_take_is_locked() {
    for condition in [ConditionMode::Honoured, ConditionMode::Ignored] {
        let desk = Desk::new(|bucket| bucket.object_lock = true);
        desk.sandbox.switch(|switches| switches.condition_mode = condition).unwrap();
        desk.run("init --single-slot --lock governance --lock-days 3").expect(0);
        desk.run("backup src").expect(0);
        let names: Vec<_> =
            desk.names("").into_iter().filter(|name| !name.as_str().starts_with("probe/")).collect();
        desk.overwrite_all();
        let is_oldest = condition == ConditionMode::Ignored;
        // Where the newest counts unless it is wrong, both are looked at.
        let verified = desk.run("--json verify --locks --min-days 2").value();
        let unlocked = if is_oldest { 0 } else { names.len() };
        assert_eq!(verified["stores"][0]["unlocked"], unlocked, "{condition:?}: {verified}");
        desk.run("locks extend --days 20").expect(0);
        let bucket = desk.bucket();
        for name in &names {
            let versions = desk.versions_of(name);
            assert_eq!(versions.len(), 2, "{condition:?}: {name}");
            let until = |at: usize| {
                let retention = bucket.retention(name, Some(&versions[at].version_id)).unwrap();
                retention.map_or(0, |retention| retention.until_s)
            };
            let wanted = desk.sandbox.now_ms() / 1000 + 19 * 86_400;
            assert!(until(1) > wanted, "{condition:?}: the first version of {name} is not prolonged");
            assert_eq!(until(0) == 0, is_oldest, "{condition:?}: {name}");
        }
        desk.run("verify --locks --min-days 2").expect(0);
        desk.run("locks hold").expect(0);
        let first = desk.versions_of(&names[0]).pop().unwrap();
        assert!(bucket.legal_hold(&names[0], Some(&first.version_id)).unwrap(), "{condition:?}");
    }
}

/// With a token nobody compares clocks, and the end of a lock is reckoned by that of this machine.
#[test]
fn no_lock_is_set_by_a_clock_that_is_wrong() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    std::fs::write(desk.path("api-key"), desk.sandbox.api_key()).unwrap();
    let by_token = |line: &str| {
        desk.run(&format!(
            "{line} --ibm-api-key-file ../api-key --iam-endpoint {}",
            desk.sandbox.iam_endpoint()
        ))
    };
    by_token("init --single-slot --lock governance --lock-days 3").expect(0);
    by_token("backup src").expect(0);
    let before = desk.names("").len();
    for (skew_s, told) in [(7200, "behind"), (-7200, "ahead of")] {
        let told = format!("{told} that of the store");
        desk.sandbox.switch(|switches| switches.signature_skew_s = skew_s).unwrap();
        for line in [
            "backup src --force --tag one",
            "locks extend --days 9",
            "policy set --lock-days 5 --lock governance",
        ] {
            let refused = by_token(line).expect(30).says(&told).says("set the clock of this machine");
            assert!(refused.err.contains(" h "), "{line}: {refused:?}");
        }
        by_token("verify --locks --min-days 2").expect(0).says(&told);
        by_token("locks extend --days 9 --dry-run").expect(0).says(&told);
    }
    // Not by much.
    desk.sandbox.switch(|switches| switches.signature_skew_s = 600).unwrap();
    assert_eq!(desk.names("").len(), before);
    let verified = by_token("verify --locks --min-days 2").expect(0);
    assert!(!verified.err.contains("that of the store"), "{verified:?}");
    by_token("locks extend --days 9").expect(0);
    by_token("backup src --force").expect(0);
}

/// Each bucket of several is asked and prolonged.
#[test]
fn the_locks_of_several_buckets_are_looked_at_and_prolonged() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.add_bucket("second", |bucket| bucket.object_lock = true);
    let both = format!("--store s3://{BUCKET}/v --store s3://second/v");
    desk.run(&format!("{both} init --single-slot --lock compliance --lock-days 3")).expect(0);
    desk.run(&format!("{both} backup src --ack all")).expect(0);
    let verified = desk.run(&format!("--json {both} verify --locks --min-days 2")).expect(0).value();
    for store in [0, 1] {
        assert_eq!(verified["stores"][store]["unlocked"], 0, "{verified}");
        assert!(verified["stores"][store]["objects"].as_u64() > Some(5), "{verified}");
    }
    let done = desk.run(&format!("--json {both} locks extend --days 30")).expect(0).value();
    for store in [0, 1] {
        assert_eq!(done["stores"][store]["extended"], done["stores"][store]["objects"], "{done}");
    }
    // One of the two is enough to fail.
    let name = desk.names_in("second", "packs/").pop().unwrap();
    let mut versions = Vec::new();
    desk.bucket_named("second")
        .versions(name.as_str(), &mut |version| {
            versions.push(version.version_id);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    desk.bucket_named("second").put_unconditional(&name, b"rubbish", None).unwrap();
    let verified = desk.run(&format!("--json {both} verify --locks --min-days 20")).expect(26).value();
    assert_eq!(
        (&verified["stores"][0]["unlocked"], &verified["stores"][1]["unlocked"]),
        (&0.into(), &1.into())
    );
}

/// A bucket that is named and was not asked is no bucket in which all is well.
#[test]
fn a_bucket_that_is_not_asked_raises_the_alarm() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.add_bucket("second", |bucket| bucket.object_lock = true);
    let both = format!("--store s3://{BUCKET}/v --store s3://second/v");
    desk.run(&format!("{both} init --single-slot --lock compliance --lock-days 9")).expect(0);
    desk.run(&format!("{both} backup src --ack all --no-cache")).expect(0);
    desk.run(&format!("{both} verify --locks --min-days 8")).expect(0).says("is locked for 8 day(s) more");
    let records = desk.names("log/").len();
    // The bucket is gone.
    let gone = format!("--store s3://{BUCKET}/v --store s3://third/v");
    let ran = desk.run(&format!("{gone} verify --locks --min-days 8")).expect(26).says("NOT looked at");
    let claims_all = |out: &str| out.lines().any(|line| line.starts_with("everything"));
    assert!(!claims_all(&ran.out), "{ran:?}");
    let verified = desk.run(&format!("--json {gone} verify --locks")).expect(3).value();
    assert_eq!(verified["not_asked"][0]["store"], "s3://third/v", "{verified}");
    let extended = desk.run(&format!("--json {gone} locks extend --days 20")).expect(3).value();
    assert!(extended["head"].is_null() && extended["stores"][0]["extended"] != 0, "{extended}");
    assert_eq!(extended["not_asked"][0]["store"], "s3://third/v", "{extended}");
    assert_eq!(desk.names("log/").len(), records, "what was not done everywhere is not recorded");
    desk.run(&format!("{gone} locks hold")).expect(3).says("NOT asked");
    // So it is where there are no credentials for it, so that it is not even opened.
    let config = "[store.\"s3://second/v\"]\naws-profile = \"nobody\"\n";
    std::fs::write(desk.path("config.toml"), config).unwrap();
    let ran = desk.run(&format!("--config ../config.toml {both} verify --locks --min-days 8")).expect(26);
    assert!(!claims_all(&ran.out) && ran.out.contains("s3://second/v: NOT looked at"), "{ran:?}");
    desk.run(&format!("--config ../config.toml {both} verify --locks")).expect(3);
    let extended = desk.run(&format!("--config ../config.toml --json {both} locks extend --days 20"));
    assert!(extended.expect(3).value()["head"].is_null());
    desk.run(&format!("{both} locks extend --days 20")).expect(0);
    desk.run(&format!("{both} verify --locks --min-days 19")).expect(26);
    desk.run(&format!("{both} verify --locks --min-days 8")).expect(0);
}

/// Where the tree is archived nobody can tell which packs lie below: all that the index lists are prolonged.
#[test]
fn packs_below_an_archived_tree_are_prolonged() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.run("init --single-slot --lock governance --lock-days 3").expect(0);
    desk.run("backup src").expect(0);
    super::cold::archive_packs(&desk);
    let packs = desk.names("packs/");
    let done = desk.run("--json locks extend --days 20 --no-cache").expect(0).value();
    assert_eq!(done["widened"].as_array().unwrap().len(), 1, "{done}");
    assert!(!done["head"].is_null(), "{done}");
    let bucket = desk.bucket();
    let wanted = desk.sandbox.now_ms() / 1000 + 19 * 86_400;
    for pack in &packs {
        let until = bucket.retention(pack, None).unwrap().map_or(0, |retention| retention.until_s);
        assert!(until > wanted, "{pack} is not prolonged");
    }
    let verified = desk.run("--json verify --locks --min-days 2 --no-cache").expect(0).value();
    assert_eq!(verified["widened"], done["widened"], "{verified}");
}

#[test]
fn a_legal_hold_is_laid_and_lifted() {
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    desk.run("locks extend").expect(1).says("locks nothing");
    let held = |expected: bool| {
        let bucket = desk.bucket();
        for name in desk.names("packs/") {
            assert_eq!(bucket.legal_hold(&name, None).unwrap(), expected, "{name}");
        }
    };
    desk.run("locks hold").expect(0).says("under a legal hold");
    held(true);
    desk.run("locks hold latest").expect(0);
    desk.run("locks release").expect(0);
    held(false);
}

#[test]
fn a_retention_policy_of_the_bucket_is_followed() {
    let desk = Desk::new(|_| {});
    let policy = b"<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>1</Days></MinimumRetention>\
        <DefaultRetention><Days>1</Days></DefaultRetention><MaximumRetention><Days>100</Days></MaximumRetention></ProtectionConfiguration>";
    desk.raw("PUT", &format!("/{BUCKET}?protection"), &[("content-type", "application/xml")], policy);
    desk.run("init --single-slot --lock policy --lock-days 5").expect(0);
    desk.run("backup src").expect(0);
    desk.run("doctor").expect(0).says("retention policy: 1 to 100 day(s)");
    desk.run("verify --locks --min-days 4").expect(0);
    let bucket = desk.bucket();
    for name in desk.names("packs/") {
        bucket.delete(&name).unwrap_err();
    }
    desk.run("locks extend --days 9").expect(0);
    desk.run("verify --locks --min-days 8").expect(26);
    desk.sandbox.advance(DAY).unwrap();
    desk.assert_restores("", "out");
}
