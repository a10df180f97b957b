//! With retries around the store, what passes is not noticed.

use std::collections::BTreeSet;
use std::time::Duration;

use coffer_store::{ObjectStore, RetryPolicy, RetryStore};
use coffer_testkit::copy::{Objects, store_from};
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore};
use coffer_verify::{Options, Silent, VerifyError, verify};

use super::super::support::{assert_clean, assert_restores, assert_same, scratch, tree_of};
use super::{MOMENTS, Site, options, watched, world};

fn patient<S: ObjectStore>(inner: S) -> RetryStore<S> {
    RetryStore::with_sleeper(inner, RetryPolicy::default(), 7, |_: Duration| {})
}

/// Runs `operation` with each call unavailable once and three times, before and after its effect.
fn check(name: &str, objects: &Objects, operation: impl Fn(&dyn ObjectStore, &str)) {
    let healthy = FaultyStore::new(store_from(objects.clone()), []);
    operation(&patient(&healthy), name);
    for call in 0..healthy.call_count() {
        for moment in MOMENTS {
            for times in [1, 3] {
                let fault = Fault::times(call, times, moment, FaultKind::Unavailable);
                let context = format!("{name}, {fault:?}");
                let store = FaultyStore::new(store_from(objects.clone()), [fault]);
                operation(&patient(&store), &context);
            }
        }
    }
}

#[test]
fn calls_that_fail_for_a_while_are_not_noticed() {
    watched(|beat| {
        let site = Site::new();
        beat.send("init".to_owned()).unwrap();
        check("init", &Objects::new(), |store, context| {
            world().init(store).unwrap();
            assert_clean(&world(), store, context);
        });
        for (name, objects) in [("first backup", &site.empty), ("incremental backup", &site.objects)] {
            beat.send(name.to_owned()).unwrap();
            check(name, objects, |store, context| {
                let report = world().backup_with(store, &options(&site.source)).unwrap();
                assert_eq!(report.errors, [], "{context}");
                assert_restores(&world(), store, "latest", &site.new, context);
                // Nothing was stored twice because a reply was lost.
                let report = super::keyless(store);
                assert!(report.is_clean() && report.residue.is_empty(), "{context}: {report:?}");
                assert_clean(&world(), store, context);
                let numbers: BTreeSet<_> = world()
                    .open(store)
                    .unwrap()
                    .log
                    .ineffective
                    .into_iter()
                    .map(|(number, _)| number)
                    .collect();
                assert!(numbers.is_empty(), "{context}: {numbers:?}");
            });
        }
        beat.send("restore".to_owned()).unwrap();
        check("restore", &site.objects, |store, context| {
            let target = scratch();
            let report = world().restore(store, "latest", target.path()).unwrap();
            assert_eq!((&report.errors[..], report.degraded), (&[][..], false), "{context}");
            assert_same(&site.old, &tree_of(&target.path().join("src")), context);
        });
    });
}

/// What today's retries do not cover: a listing that breaks off in its middle. It fails the operation.
#[test]
fn a_listing_that_breaks_off_is_an_error() {
    let site = Site::new();
    let store = FaultyStore::new(store_from(site.objects.clone()), []);
    let verify = |store: &dyn ObjectStore| verify(store, &Options::default(), &Silent);
    verify(&store).unwrap();
    let mut failures = Vec::new();
    for call in 0..store.call_count() {
        store.set_plan([Fault::once(call, FaultMoment::After, FaultKind::Unavailable)]);
        match verify(&patient(&store)) {
            Ok(report) => assert!(report.is_clean(), "call {call}: {:?}", report.findings),
            Err(error) => failures.push(error),
        }
    }
    assert!(matches!(failures[..], [VerifyError::Store { .. }]), "{failures:?}");
}
