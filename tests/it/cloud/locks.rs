//! Locks: each object carries one from its first moment, and those that kept snapshots need are prolonged.

use std::time::Duration;

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
