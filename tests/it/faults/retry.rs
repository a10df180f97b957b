//! With retries around the store, what passes is not noticed.

use std::time::Duration;

use coffer_store::{MemoryStore, ObjectStore, RetryPolicy, RetryStore};
use coffer_testkit::copy::{Objects, store_from};
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore};
use coffer_verify::{Options, Silent, verify};

use super::super::support::{assert_clean, assert_restores, assert_same, keyless, scratch, tree_of};
use super::{MOMENTS, Site, options, watched, world};

fn patient<S: ObjectStore>(inner: S) -> RetryStore<S> {
    RetryStore::with_sleeper(inner, RetryPolicy::default(), 7, |_: Duration| {})
}

/// Runs `operation` with each of its calls unavailable once and three times, before and after its effect; `look` sees what it led to.
fn check<T>(
    objects: &Objects,
    operation: impl Fn(&dyn ObjectStore) -> T,
    look: impl Fn(&MemoryStore, T, &str),
) {
    let healthy = FaultyStore::new(store_from(objects.clone()), []);
    operation(&patient(&healthy));
    for call in 0..healthy.call_count() {
        for moment in MOMENTS {
            for times in [1, 3] {
                let fault = Fault::times(call, times, moment, FaultKind::Unavailable);
                let store = FaultyStore::new(store_from(objects.clone()), [fault]);
                let outcome = operation(&patient(&store));
                look(store.inner(), outcome, &format!("{fault:?}"));
            }
        }
    }
}

#[test]
fn an_init_does_not_notice() {
    watched(|_| {
        let run = |store: &dyn ObjectStore| world().init(store).unwrap();
        check(&Objects::new(), run, |store, vault, context| {
            assert_eq!(world().open(store).unwrap().id(), vault, "{context}");
            assert_eq!(store.names().len(), 4, "{context}");
            assert_clean(&world(), store, context);
        });
    });
}

#[test]
fn a_backup_does_not_notice() {
    watched(|beat| {
        let site = Site::new();
        for objects in [&site.empty, &site.objects] {
            beat.send(format!("a vault of {} objects", objects.len())).unwrap();
            let run = |store: &dyn ObjectStore| world().backup_with(store, &options(&site.source)).unwrap();
            check(objects, run, |store, report, context| {
                assert_eq!(report.errors, [], "{context}");
                assert_restores(&world(), store, &report.snapshot.to_string(), &site.new, context);
                assert_clean(&world(), store, context);
                // Nothing was stored twice because a reply was lost.
                assert_eq!(keyless(store).residue, [], "{context}");
            });
        }
    });
}

#[test]
fn a_restore_does_not_notice() {
    watched(|_| {
        let site = Site::new();
        let run = |store: &dyn ObjectStore| {
            let target = scratch();
            (world().restore(store, "latest", target.path()).unwrap(), target)
        };
        check(&site.objects, run, |_, (report, target), context| {
            assert_eq!((&report.errors[..], report.degraded), (&[][..], false), "{context}");
            assert_same(&site.old, &tree_of(&target.path().join("src")), context);
        });
    });
}

/// Not even of a listing that breaks off in its middle.
#[test]
fn a_verification_does_not_notice() {
    let site = Site::new();
    let store = FaultyStore::new(store_from(site.objects.clone()), []);
    let verify = |store: &dyn ObjectStore| verify(store, &Options::default(), &Silent);
    verify(&store).unwrap();
    for call in 0..store.call_count() {
        store.set_plan([Fault::once(call, FaultMoment::After, FaultKind::Unavailable)]);
        let report = verify(&patient(&store)).unwrap();
        assert!(report.is_clean(), "call {call}: {:?}", report.findings);
    }
}
