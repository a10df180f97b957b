//! What a bucket cannot do, who may not ask it, and what else lies in it: said as it is, and before harm is done.

use coffer_sandbox::{ConditionMode, Policy};
use coffer_store::{CloudStore, ObjectKey, ObjectStore};

use super::desk::{BUCKET, Desk};

const PROTECTION: &[u8] = b"<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>2</Days>\
    </MinimumRetention><DefaultRetention><Days>2</Days></DefaultRetention><MaximumRetention><Days>100</Days></MaximumRetention>\
    </ProtectionConfiguration>";

/// Acts as somebody who may do this with the bucket and nothing else.
fn act_with(desk: &mut Desk, actions: &[&str]) {
    let id = desk.sandbox.create_service_id("somebody", &[]).unwrap();
    let hmac = desk.sandbox.create_hmac(&id).unwrap();
    let full: Vec<_> = actions.iter().map(|action| format!("cloud-object-storage.{action}")).collect();
    let policy = Policy::actions(full.iter().map(String::as_str)).on_bucket(BUCKET);
    desk.sandbox.set_policies(&id, &[policy]).unwrap();
    desk.act_as(&hmac.access_key_id, &hmac.secret_access_key);
}

#[test]
fn a_lock_that_a_bucket_cannot_give_is_refused_before_anything_is_written() {
    let desk = Desk::new(|_| {});
    for lock in ["compliance", "governance", "policy"] {
        let refused = desk.run(&format!("init --single-slot --lock {lock} --lock-days 3")).expect(1);
        refused.says("cannot lock objects by").says("`coffer doctor`");
        assert!(desk.names("").is_empty(), "{lock}: {:?}", desk.names(""));
    }
    desk.run("init --single-slot").expect(0);
    let before = desk.names("").len();
    for lock in ["compliance", "governance", "policy"] {
        let refused = desk.run(&format!("policy set --lock {lock} --lock-days 3")).expect(1);
        refused.says("cannot lock objects by").says(lock);
    }
    assert_eq!(desk.names("").len(), before, "nothing was committed");
    desk.run("backup src").expect(0);
    // Of several buckets each must be able to.
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.add_bucket("second", |_| {});
    let both = format!("--store s3://{BUCKET}/v --store s3://second/v");
    desk.run(&format!("{both} init --single-slot")).expect(0);
    desk.run(&format!("{both} policy set --lock compliance --lock-days 3"))
        .expect(1)
        .says("s3://second/v cannot");
    desk.run(&format!("{both} backup src --ack all")).expect(0);
}

#[test]
fn the_bounds_of_a_retention_policy_are_known_before() {
    let desk = Desk::new(|_| {});
    desk.raw("PUT", &format!("/{BUCKET}?protection"), &[("content-type", "application/xml")], PROTECTION);
    desk.run("init --single-slot").expect(0);
    // One of the very minimum would be over a moment too early when it comes.
    desk.run("policy set --lock policy --lock-days 2").expect(1).says("takes 3 to 100 day(s)");
    desk.run("policy set --lock policy --lock-days 101").expect(1).says("takes 3 to 100 day(s)");
    desk.run("policy set --lock compliance --lock-days 3").expect(1).says("it has no object lock");
    desk.run("policy set --lock policy --lock-days 3").expect(0);
    desk.run("backup src").expect(0);
}

/// The bucket does not say what it can do, and cannot lock: the trial fails before it binds anybody. A vault that is locked out
/// all the same finds its way back.
#[test]
fn a_vault_whose_bucket_cannot_lock_any_more_can_end_its_policy() {
    let mut desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    let owner = desk.sandbox.hmac().clone();
    act_with(&mut desk, &["bucket.get", "object.get", "object.put", "object.put_object_lock_retention"]);
    desk.run("policy set --lock compliance --lock-days 3")
        .expect(1)
        .says("is not known")
        .says("does not take log/")
        .says("`coffer policy set`");
    desk.act_as(&owner.access_key_id, &owner.secret_access_key);
    desk.run("policy show").expect(0).says("no settings");
    desk.run("backup src").expect(0);

    // The first store could, the one that the vault is moved to cannot.
    let desk = Desk::new(|bucket| bucket.object_lock = true);
    desk.run("init --single-slot --lock compliance --lock-days 3").expect(0);
    desk.add_bucket("second", |_| {});
    for name in desk.names("") {
        let mut bytes = Vec::new();
        desk.bucket().read(&name, 1 << 30, &mut bytes).unwrap();
        desk.bucket_named("second").put_if_absent(&name, &bytes).unwrap();
    }
    let there = "--no-cache -V s3://second/v";
    desk.run(&format!("{there} backup src")).expect(1).says("under the lock").says("--lock none");
    desk.run(&format!("{there} policy set --lock none")).expect(0);
    desk.run(&format!("{there} backup src")).expect(0);
    // Where the lock is one that the bucket gives, its end is written under it.
    desk.run("policy set --lock none").expect(0);
    let last = desk.names("log/").pop().unwrap();
    assert!(desk.bucket().retention(&last, None).unwrap().is_some(), "{last}");
}

#[test]
fn who_may_not_write_is_told_so_and_nothing_else() {
    let mut desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    act_with(&mut desk, &["bucket.get", "object.get", "object.head"]);
    let ran = desk.run("doctor").expect(30);
    ran.says("create-if-absent: could not be tried")
        .says("could not be tried, and what it does is not known");
    let ran = desk.run("doctor").expect(30);
    for lie in ["any more", "keeps no versions and", "do not write to it", "FAILED"] {
        assert!(!ran.out.contains(lie), "{lie}: {}", ran.out);
    }
    ran.says("keeps versions or has a retention policy is not known");
    let value = desk.run("--json doctor").expect(30).value();
    let checks = value["probe"].as_array().unwrap();
    assert_eq!(checks.len(), 1, "the rest would say the same: {value}");
    assert_eq!((&checks[0]["passed"], &checks[0]["tried"]), (&false.into(), &false.into()), "{value}");
    let refused = desk.run("init --single-slot -V s3://backups/other").expect(30);
    assert_eq!(refused.err.matches("denied").count(), 1, "{}", refused.err);
    refused.says("check what the credentials may do");
}

#[test]
fn a_replica_that_is_down_is_unreachable_and_not_broken() {
    let desk = Desk::new(|_| {});
    desk.add_bucket("second", |_| {});
    let both = format!("--store s3://{BUCKET}/v --store s3:http://127.0.0.1:1/second/v");
    desk.run("init --single-slot").expect(0);
    let ran = desk.run(&format!("{both} doctor")).expect(31);
    assert!(!ran.out.contains("any more"), "{}", ran.out);
    assert!(!ran.out.contains("could not be deleted"), "{}", ran.out);
    ran.says("s3:http://127.0.0.1:1/second/v could not be tried").says("create-if-absent: ok");
    // That the other breaks its promise goes before.
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Ignored).unwrap();
    desk.run(&format!("{both} doctor")).expect(1).says("does not create objects exclusively any more");
}

#[test]
fn versions_that_nobody_may_see_are_unknown() {
    let mut desk = Desk::new(|bucket| bucket.versioning = true);
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Ignored).unwrap();
    desk.run("init --single-slot").expect(0);
    let writer = [
        "bucket.get",
        "bucket.get_versions",
        "object.get",
        "object.get_version",
        "object.head",
        "object.put",
        "object.delete",
        "object.post_initiate_upload",
        "object.put_part",
        "object.post_complete_upload",
    ];
    act_with(&mut desk, &writer);
    let ran = desk.run("doctor").expect(1);
    assert!(!ran.out.contains("does not keep versions"), "{}", ran.out);
    ran.says("keeps versions is not known, and this vault needs them");
    let refused = desk.run("init --single-slot -V s3://backups/other").expect(1);
    assert!(!refused.err.contains("keeps no versions"), "{}", refused.err);
    refused.says("keeps versions is not known");
}

#[test]
fn a_probe_leaves_no_versions_behind_where_it_may_remove_them() {
    let mut desk = Desk::new(|bucket| bucket.versioning = true);
    let probed = |desk: &Desk| {
        let mut count = 0;
        let visit = &mut |_| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        };
        desk.bucket().versions("probe/", visit).unwrap();
        count
    };
    desk.run("init --single-slot").expect(0);
    let value = desk.run("--json doctor").expect(0).value();
    assert_eq!((probed(&desk), &value["leftovers"]), (0, &0.into()), "{value}");
    let writer = [
        "bucket.get",
        "bucket.get_versioning",
        "object.get",
        "object.head",
        "object.put",
        "object.delete",
        "object.post_initiate_upload",
        "object.put_part",
        "object.post_complete_upload",
    ];
    act_with(&mut desk, &writer);
    let value = desk.run("--json doctor").value();
    assert!(probed(&desk) > 0 && value["leftovers"].as_u64() > Some(5), "{value}");
}

#[test]
fn a_prefix_that_holds_something_else_is_left_alone() {
    for (name, other) in [("data.csv", Some("slots/readme.txt")), ("log/app.log", None), ("packs/ab/x", None)]
    {
        let desk = Desk::new(|_| {});
        for name in [Some(name), other].into_iter().flatten() {
            desk.bucket().put_if_absent(&ObjectKey::new(name).unwrap(), b"theirs").unwrap();
        }
        let before = desk.names("");
        desk.run("init --single-slot").expect(32).says("holds something else").says("a prefix of its own");
        assert_eq!(desk.names(""), before);
    }
    // An init that was stopped goes on, and leavings of a probe are no obstacle.
    let desk = Desk::new(|_| {});
    let scratch = ObjectKey::new(format!("probe/{}/create", "ab".repeat(16))).unwrap();
    desk.bucket().put_if_absent(&scratch, b"left").unwrap();
    desk.run("init --single-slot").expect(0);
    desk.run("init --single-slot").expect(1).says("there is a vault");
}
