//! What the probe says of good stores and of stores that lie.

use std::ops::ControlFlow;

use coffer_store::{
    ListItem, LocalStore, MemoryStore, ObjectKey, ObjectStat, ObjectStore, ProbeReport, PutOutcome,
    StoreError, Support, probe,
};
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore};

const SEED: [u8; 32] = [7; 32];

fn failed(report: &ProbeReport) -> Vec<&'static str> {
    report.checks.iter().filter(|check| !check.is_passed).map(|check| check.name).collect()
}

#[test]
fn good_stores_pass_and_are_left_clean() {
    let memory = MemoryStore::new();
    memory.insert_raw("vault", *b"there before");
    let dir = tempfile::tempdir().expect("temporary directory");
    let local = LocalStore::open(dir.path()).expect("open");
    for store in [&memory as &dyn ObjectStore, &local] {
        for seed in [SEED, [8; 32], SEED] {
            let report = probe(store, &seed);
            assert_eq!(failed(&report), [""; 0], "{report:?}");
            assert!(report.is_passed() && report.can_trust_conditional_create());
            assert_eq!(report.checks.len(), 7);
            assert_eq!(report.leftovers, [""; 0]);
        }
    }
    assert_eq!(memory.names(), ["vault"]);
    local.list("", None, &mut |item| panic!("{} is left", item.name)).expect("list");
}

#[test]
fn probes_of_different_seeds_do_not_meet() {
    let store = Lying::new(Lie::DeniesDeletion);
    for seed in [SEED, [8; 32]] {
        assert!(probe(&store, &seed).is_passed());
    }
    // One that was used before meets what the first has left.
    assert!(!probe(&store, &SEED).is_passed());
}

/// A promise that a store breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Overwrites,
    OverwritesAndTellsOtherwise,
    SaysCreatedTwice,
    DecidesOnStaleState,
    LosesBytes,
    ShiftsRanges,
    FillsPastTheEnd,
    TellsWrongLength,
    HidesFromListing,
    IgnoresThePrefix,
    KeepsDeleted,
    DeniesDeletion,
}

#[derive(Debug)]
struct Lying {
    inner: MemoryStore,
    lie: Lie,
}

impl Lying {
    fn new(lie: Lie) -> Self {
        Self { inner: MemoryStore::new(), lie }
    }

    fn overwrite(&self, key: &ObjectKey, body: &[u8]) {
        self.inner.insert_raw(key.as_str(), body);
    }
}

impl ObjectStore for Lying {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        match self.lie {
            Lie::Overwrites => {
                self.overwrite(key, body);
                Ok(PutOutcome::Created)
            }
            Lie::OverwritesAndTellsOtherwise => {
                let outcome = self.inner.put_if_absent(key, body)?;
                self.overwrite(key, body);
                Ok(outcome)
            }
            Lie::SaysCreatedTwice => self.inner.put_if_absent(key, body).map(|_| PutOutcome::Created),
            Lie::DecidesOnStaleState => {
                if self.inner.stat(key).is_ok() {
                    return Ok(PutOutcome::AlreadyExists);
                }
                // Long enough for another thread to look, too, however busy the machine is.
                std::thread::sleep(std::time::Duration::from_millis(200));
                self.overwrite(key, body);
                Ok(PutOutcome::Created)
            }
            Lie::LosesBytes => self.inner.put_if_absent(key, &body[..body.len() / 2]),
            _ => self.inner.put_if_absent(key, body),
        }
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.inner.read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        match self.lie {
            Lie::ShiftsRanges if offset > 0 => self.inner.read_range(key, offset - 1, out),
            Lie::FillsPastTheEnd => self.inner.read_range(key, offset, out).or(Ok(())),
            _ => self.inner.read_range(key, offset, out),
        }
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        let stat = self.inner.stat(key)?;
        Ok(if self.lie == Lie::TellsWrongLength { ObjectStat { len: stat.len + 1 } } else { stat })
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        match self.lie {
            Lie::HidesFromListing => self.inner.list(prefix, start_after, &mut |item| {
                if item.name.ends_with("create") { ControlFlow::Continue(()) } else { visit(item) }
            }),
            Lie::IgnoresThePrefix => {
                self.inner.insert_raw("vault", "");
                self.inner.list("", start_after, visit)
            }
            _ => self.inner.list(prefix, start_after, visit),
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match self.lie {
            Lie::KeepsDeleted => Ok(()),
            Lie::DeniesDeletion => Err(StoreError::Denied {
                name: key.to_string(),
                store: self.url(),
                source: "the object is locked".into(),
            }),
            _ => self.inner.delete(key),
        }
    }

    fn url(&self) -> String {
        "lying:".to_owned()
    }
}

/// Which checks catch `lie`, and whether the conditional create is trusted all the same.
#[track_caller]
fn check(lie: Lie, expected_failed: &[&str], expected_trust: bool) {
    let report = probe(&Lying::new(lie), &SEED);
    assert_eq!(failed(&report), expected_failed, "{lie:?}: {report:#?}");
    assert_eq!(report.can_trust_conditional_create(), expected_trust, "{lie:?}");
    assert_eq!(report.is_passed(), expected_failed.is_empty());
    assert!(report.untried.is_none(), "{lie:?}");
    assert_eq!(report.is_broken_for(Support::ConditionalCreate), !expected_failed.is_empty(), "{lie:?}");
}

#[test]
fn every_lie_is_caught() {
    const CREATE: &str = "create-if-absent";
    const RACE: &str = "create-if-absent in a race";
    check(Lie::Overwrites, &[CREATE, RACE], false);
    check(Lie::SaysCreatedTwice, &[CREATE, RACE], false);
    check(Lie::DecidesOnStaleState, &[RACE], false);
    check(Lie::LosesBytes, &[CREATE, RACE, "read after write", "ranges", "length"], false);
    check(Lie::ShiftsRanges, &["ranges"], true);
    check(Lie::FillsPastTheEnd, &["ranges"], true);
    check(Lie::TellsWrongLength, &["length"], true);
    check(Lie::HidesFromListing, &["listing"], true);
    check(Lie::IgnoresThePrefix, &["listing"], true);
    check(Lie::KeepsDeleted, &["deletion"], true);
    check(Lie::DeniesDeletion, &[], true);
}

#[test]
fn an_overwrite_that_is_denied_is_caught() {
    let report = probe(&Lying::new(Lie::OverwritesAndTellsOtherwise), &SEED);
    assert!(failed(&report).contains(&"create-if-absent"), "{report:#?}");
    assert!(!report.can_trust_conditional_create());
}

#[test]
fn a_store_that_keeps_its_objects_gives_their_names() {
    let store = Lying::new(Lie::DeniesDeletion);
    let report = probe(&store, &SEED);
    assert_eq!(
        report.leftovers.iter().collect::<std::collections::BTreeSet<_>>().len(),
        report.leftovers.len()
    );
    let mut leftovers = report.leftovers.clone();
    leftovers.sort();
    assert_eq!(leftovers, store.inner.names());
    assert!(leftovers.iter().all(|name| name.starts_with("probe/")), "{leftovers:?}");
}

#[test]
fn a_store_that_fails_is_reported_and_never_trusted() {
    let store =
        FaultyStore::new(MemoryStore::new(), [Fault::forever(0, FaultMoment::Before, FaultKind::Denied)]);
    let report = probe(&store, &SEED);
    assert!(!report.is_passed() && !report.can_trust_conditional_create());
    assert!(report.checks[0].detail.contains("is denied: a fault was planned here"), "{report:#?}");
    // The others would say the same. Of what the store does nothing is known.
    assert_eq!(report.checks.len(), 1);
    assert!(matches!(report.untried, Some(StoreError::Denied { .. })), "{report:#?}");
    for support in [Support::ConditionalCreate, Support::OldestVersion, Support::SingleWriter] {
        assert!(!report.is_enough_for(support) && !report.is_broken_for(support), "{support:?}");
    }

    // Any single failing call is seen by some check, or happens in the clean-up, which then names a leftover or not.
    let store = FaultyStore::new(MemoryStore::new(), []);
    probe(&store, &SEED);
    let calls_count = store.call_count();
    for call in 0..calls_count {
        let fault = Fault::once(call, FaultMoment::Before, FaultKind::Unavailable);
        let store = FaultyStore::new(MemoryStore::new(), [fault]);
        let report = probe(&store, &SEED);
        let left: Vec<_> = store.inner().names();
        assert!(!report.is_passed() || report.leftovers == left, "call {call}: {report:#?}");
    }
}
