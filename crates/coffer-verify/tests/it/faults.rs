//! A store that fails: one bad object is a finding, a store that is gone is an error.

use std::ops::ControlFlow;

use coffer_store::{ListItem, MemoryStore, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore};
use coffer_verify::{Class, Options, Silent, VerifyError, verify, verify_deep};

use crate::support::{Standard, only};

#[test]
fn a_failure_that_passes_is_a_finding_or_an_error_but_never_silence() {
    let Standard { vault, .. } = Standard::new();
    let options = Options { threads: 1, ..vault.options() };
    let store = FaultyStore::new(&vault.store, []);
    for kind in [FaultKind::Io, FaultKind::Denied] {
        // One read is not needed: record 0 for its copy of the header.
        let mut harmless = 0;
        for call in 0..200 {
            store.set_plan([Fault::once(call, FaultMoment::Before, kind)]);
            let result = verify(&store, &options, &Silent);
            if store.failed_count() == 0 {
                assert!(call > 20 && result.unwrap().is_clean());
                break;
            }
            match result {
                Ok(report) if report.is_clean() => harmless += 1,
                Ok(report) => assert!(!report.is_intact(), "call {call}: {:?}", report.findings),
                Err(error) => {
                    assert!(matches!(error, VerifyError::Store { .. }) && call == 0, "{error} at {call}")
                }
            }
        }
        assert_eq!(harmless, 1, "{kind:?}");
    }
}

#[test]
fn a_store_that_goes_away_is_an_error() {
    let Standard { vault, .. } = Standard::new();
    for call in [0, 1, 5, 20] {
        let fault = Fault::forever(call, FaultMoment::Before, FaultKind::Unavailable);
        let store = FaultyStore::new(&vault.store, [fault]);
        let error = verify(&store, &vault.options(), &Silent).unwrap_err();
        assert!(matches!(error, VerifyError::Store { .. }), "{error}");
        store.set_plan([fault]);
        let error = verify_deep(&store, vault.key(), &vault.options(), &Silent).unwrap_err();
        assert!(matches!(error, VerifyError::Store { .. }), "{error}");
    }
}

/// Refuses to read one object, and may leave some out of listings.
#[derive(Debug)]
struct Odd<'a> {
    inner: &'a MemoryStore,
    unreadable: String,
    unlisted: String,
}

impl Odd<'_> {
    fn judge(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if key.as_str() == self.unreadable {
            let (name, store) = (key.to_string(), self.url());
            return Err(StoreError::Io { name, store, source: "bad sector".into() });
        }
        Ok(())
    }
}

impl ObjectStore for Odd<'_> {
    fn put_if_absent(&self, key: &ObjectKey, _: &[u8]) -> Result<PutOutcome, StoreError> {
        panic!("verifying writes {key}")
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.judge(key).and_then(|()| self.inner.read(key, len_max, out))
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.judge(key).and_then(|()| self.inner.read_range(key, offset, out))
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.inner.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(prefix, start_after, &mut |item| {
            if item.name.starts_with(&self.unlisted) { ControlFlow::Continue(()) } else { visit(item) }
        })
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        panic!("verifying deletes {key}")
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[test]
fn an_unreadable_object_is_corrupt() {
    let Standard { vault, .. } = Standard::new();
    for unreadable in vault.store.names() {
        let store =
            Odd { inner: &vault.store, unreadable: unreadable.clone(), unlisted: "nothing".to_owned() };
        for report in [vault.verify_store(&store), vault.verify_store_deep(&store)] {
            let unreadable = (Class::Corrupt, &unreadable);
            let finding =
                report.findings.iter().find(|finding| (finding.class, &finding.object) == unreadable);
            let finding = finding.unwrap_or_else(|| panic!("{unreadable:?}: {:#?}", report.findings));
            assert_eq!(report.findings.iter().filter(|finding| finding.class == Class::Rollback).count(), 0);
            assert!(finding.what.contains("bad sector"), "{}", finding.what);
        }
    }
}

#[test]
fn a_listing_proves_no_absence() {
    let Standard { vault, .. } = Standard::new();
    for unlisted in ["packs/", "index/", "log/", "slots/", "vault"] {
        let store =
            Odd { inner: &vault.store, unreadable: "nothing".to_owned(), unlisted: unlisted.to_owned() };
        for report in [vault.verify_store(&store), vault.verify_store_deep(&store)] {
            assert_eq!(report.findings, [], "{unlisted}");
        }
    }
}

#[test]
fn an_unreadable_record_at_the_end_is_not_taken_for_the_end() {
    let Standard { vault, .. } = Standard::new();
    let store = Odd {
        inner: &vault.store,
        unreadable: "log/000000000005".to_owned(),
        unlisted: "nothing".to_owned(),
    };
    let report = verify(&store, &Options { head: None, ..vault.options() }, &Silent).unwrap();
    let what = &only(&report, Class::Corrupt, "log/000000000005").what;
    assert!(what.contains("unreadable"), "{what}");
}
