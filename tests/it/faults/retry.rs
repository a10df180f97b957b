//! With retries around the store, what passes is not noticed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use coffer_store::{
    ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, RetryPolicy, RetryStore, StoreError,
};
use coffer_testkit::copy::{Objects, store_from};
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore};

use super::super::support::{assert_clean, assert_restores, assert_same, scratch, tree_of};
use super::{MOMENTS, Site, options, watched, world};

/// A store that gives a listing whole or not at all.
#[derive(Debug)]
struct WholeListings<S>(S);

impl<S: ObjectStore> ObjectStore for WholeListings<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.0.put_if_absent(key, body)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.0.read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.0.read_range(key, offset, out)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.0.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut items = Vec::new();
        self.0.list(prefix, start_after, &mut |item| {
            items.push(item);
            ControlFlow::Continue(())
        })?;
        let _ = items.into_iter().try_for_each(visit);
        Ok(())
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.0.delete(key)
    }

    fn url(&self) -> String {
        self.0.url()
    }
}

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
                operation(&patient(WholeListings(&store)), &context);
                store.set_plan([]);
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

/// What today's retries do not cover: a listing that breaks off in its middle. It fails the operation, and changes nothing.
#[test]
fn a_listing_that_breaks_off_is_an_error() {
    let site = Site::new();
    let store = FaultyStore::new(store_from(site.objects.clone()), []);
    world().open(&store).unwrap();
    let mut failed_count = 0;
    for call in 0..store.call_count() {
        let fault = Fault::once(call, FaultMoment::After, FaultKind::Unavailable);
        store.set_plan([fault]);
        let retrying = patient(&store);
        failed_count += u64::from(world().open(&retrying).is_err());
    }
    assert_eq!(failed_count, 1, "the listing of the log");
}
