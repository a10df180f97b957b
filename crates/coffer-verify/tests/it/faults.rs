//! A store that fails: one bad object is a finding, a store that is gone is an error.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;

use coffer_store::{ListItem, MemoryStore, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore};
use coffer_verify::{Class, Finding, Options, Silent, Subset, VerifyError, verify, verify_deep};

use crate::support::{Standard, only};

#[test]
fn a_failure_that_passes_is_a_finding_or_an_error_but_never_silence() {
    let Standard { vault, .. } = Standard::new();
    let options = Options { threads: 1, ..vault.options() };
    let store = FaultyStore::new(&vault.store, []);
    for (kind, harmless_count) in [(FaultKind::Io, 1), (FaultKind::Denied, 0)] {
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
                // What is denied proves nothing about the object.
                Err(error) => {
                    let is_expected = call == 0 || kind == FaultKind::Denied;
                    assert!(matches!(error, VerifyError::Store { .. }) && is_expected, "{error} at {call}")
                }
            }
        }
        assert_eq!(harmless, harmless_count, "{kind:?}");
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

/// Why an object is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    BadSector,
    Archived,
    Denied,
    Unavailable,
}

/// Refuses to read one object, or all whose names begin so, and may leave some out of listings.
#[derive(Debug)]
struct Odd<'a> {
    inner: &'a MemoryStore,
    unreadable: String,
    oddity: Oddity,
    unlisted: String,
}

impl Odd<'_> {
    fn judge(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let is_one_of_them = self.unreadable.ends_with('/') && key.as_str().starts_with(&self.unreadable);
        if key.as_str() != self.unreadable && !is_one_of_them {
            return Ok(());
        }
        let (name, store) = (key.to_string(), self.url());
        Err(match self.oddity {
            Oddity::BadSector => StoreError::Io { name, store, source: "bad sector".into() },
            Oddity::Archived => StoreError::Archived { name, store, source: "in GLACIER".into() },
            Oddity::Denied => StoreError::Denied { name, store, source: "no right".into() },
            Oddity::Unavailable => StoreError::Unavailable { name, store, source: "503".into() },
        })
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

fn odd<'a>(inner: &'a MemoryStore, unreadable: &str, oddity: Oddity) -> Odd<'a> {
    Odd { inner, unreadable: unreadable.to_owned(), oddity, unlisted: "nothing".to_owned() }
}

#[test]
fn what_is_archived_is_said_to_be_and_nothing_is_called_corrupt_for_it() {
    let Standard { vault, .. } = Standard::new();
    let packs: Vec<_> = vault.store.names().into_iter().filter(|name| name.starts_with("packs/")).collect();
    let store = odd(&vault.store, "packs/", Oddity::Archived);
    for report in [vault.verify_store(&store), vault.verify_store_deep(&store)] {
        let found: Vec<_> = report.findings.iter().map(|finding| &finding.object).collect();
        assert_eq!(found, packs.iter().collect::<Vec<_>>(), "{:#?}", report.findings);
        for finding in &report.findings {
            assert_eq!(
                (finding.class, finding.what.as_str()),
                (Class::Archived, "it is archived, and was not read")
            );
        }
        assert!(!report.is_intact(), "what was not read is not proved");
        assert_eq!((report.counts.hashed_packs, report.counts.hashed_bytes), (0, 0));
    }
    // Of what is not rehashed, the trees are read all the same.
    let options = Options { subset: Subset::Bytes(0), ..vault.options() };
    let report = verify_deep(&store, vault.key(), &options, &Silent).unwrap();
    assert!(!report.findings.is_empty());
    for finding in &report.findings {
        assert_eq!(
            (finding.class, finding.what.as_str()),
            (Class::Archived, "it is archived, and was not read")
        );
    }
    for name in vault.store.names() {
        let store = odd(&vault.store, &name, Oddity::Archived);
        for report in [vault.verify_store(&store), vault.verify_store_deep(&store)] {
            let is_said = |finding: &Finding| finding.class == Class::Archived && finding.object == name;
            assert!(report.findings.iter().any(is_said), "{name}: {:#?}", report.findings);
            // Without a record, later ones may mean nothing, and what it added is not there for them; nothing is called damaged.
            let is_harmless = |finding: &Finding| match finding.class {
                Class::Archived | Class::Surplus => true,
                Class::Missing => name.starts_with("log/"),
                _ => false,
            };
            assert!(report.findings.iter().all(is_harmless), "{name}: {:#?}", report.findings);
        }
    }
}

#[test]
fn what_the_store_does_not_let_be_read_is_an_error_and_no_finding() {
    let Standard { vault, .. } = Standard::new();
    for name in vault.store.names() {
        for oddity in [Oddity::Denied, Oddity::Unavailable] {
            let store = odd(&vault.store, &name, oddity);
            for deep in [false, true] {
                let verified = match deep {
                    true => verify_deep(&store, vault.key(), &vault.options(), &Silent),
                    false => verify(&store, &vault.options(), &Silent),
                };
                let error = verified.expect_err(&name);
                let VerifyError::Store { source } = error else { panic!("{name}: {error}") };
                let is_denied = matches!(source, StoreError::Denied { .. });
                assert_eq!(is_denied, oddity == Oddity::Denied, "{name}: {source}");
            }
        }
    }
}

#[test]
fn an_unreadable_object_is_corrupt() {
    let Standard { vault, .. } = Standard::new();
    for unreadable in vault.store.names() {
        let store = odd(&vault.store, &unreadable, Oddity::BadSector);
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
        let store = Odd { unlisted: unlisted.to_owned(), ..odd(&vault.store, "nothing", Oddity::BadSector) };
        for report in [vault.verify_store(&store), vault.verify_store_deep(&store)] {
            assert_eq!(report.findings, [], "{unlisted}");
        }
    }
}

#[test]
fn an_unreadable_record_at_the_end_is_not_taken_for_the_end() {
    let Standard { vault, .. } = Standard::new();
    let store = odd(&vault.store, "log/000000000005", Oddity::BadSector);
    let report = verify(&store, &Options { head: None, ..vault.options() }, &Silent).unwrap();
    let what = &only(&report, Class::Corrupt, "log/000000000005").what;
    assert!(what.contains("unreadable"), "{what}");
}

/// Lets each index segment be read once from its beginning, and refuses it afterwards.
#[derive(Debug)]
struct Once<'a> {
    inner: Odd<'a>,
    read: Mutex<BTreeSet<String>>,
}

impl ObjectStore for Once<'_> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.inner.put_if_absent(key, body)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.inner.inner.read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let is_again = offset == 0 && !self.read.lock().unwrap().insert(key.to_string());
        if is_again {
            self.inner.judge(key)?;
        }
        self.inner.inner.read_range(key, offset, out)
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
        self.inner.list(prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[test]
fn a_segment_of_a_large_index_that_cannot_be_read_again_is_no_sound_one() {
    let Standard { vault, a, .. } = Standard::new();
    let options = Options { rows_in_memory: 2, ..vault.options() };
    let once = |oddity| Once { inner: odd(&vault.store, &a.segment, oddity), read: Mutex::default() };
    let report = verify_deep(&once(Oddity::BadSector), vault.key(), &options, &Silent).unwrap();
    let finding = only(&report, Class::Corrupt, &a.segment);
    assert!(finding.what.contains("could not be read again"), "{}", finding.what);
    assert!(finding.snapshots.contains(&a.id) && finding.path_count > 0, "{finding:?}");
    let error = verify_deep(&once(Oddity::Unavailable), vault.key(), &options, &Silent).unwrap_err();
    assert!(matches!(error, VerifyError::Store { .. }), "{error}");
}
