use proptest::prelude::*;

use super::*;
use crate::support::log::{Log, Sign, labels, put_domain};
use crate::support::{id, scenarios, uint};

/// Signs with two hashes of key and message: enough where nobody forges.
struct FakeSign;

fn fake_signature(key: &[u8; 32], public: &[u8]) -> [u8; 64] {
    let half =
        |byte: u8| *blake3::Hasher::new().update(key).update(&[byte]).update(public).finalize().as_bytes();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&half(0));
    signature[32..].copy_from_slice(&half(1));
    signature
}

impl Sign for FakeSign {
    fn key(&self, name: &str) -> [u8; 32] {
        id(&format!("key of {name}"))
    }

    fn sign(&self, name: &str, public: &[u8]) -> [u8; 64] {
        fake_signature(&self.key(name), public)
    }
}

fn check(key: &[u8; 32], public: &[u8], signature: &[u8; 64]) -> bool {
    fake_signature(key, public) == *signature
}

fn start(log: &Log<'_>) -> LogState {
    LogState::new(VaultId(log.vault), &Header::decode(&log.header).unwrap())
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Effective => "effective",
        Outcome::Missing => "missing",
        Outcome::Void(reason) => reason.name(),
    }
}

fn stored(record: &Option<Vec<u8>>) -> StoredRecord<'_> {
    record.as_ref().map_or(StoredRecord::Missing, |bytes| StoredRecord::Whole(bytes))
}

/// Replays a log and checks that every outcome is as the log says.
fn replay(log: &Log<'_>) -> LogState {
    let mut state = start(log);
    for (number, (record, outcome)) in log.records.iter().zip(&log.outcomes).enumerate() {
        assert_eq!(state.next, number as u64);
        assert_eq!(word(state.apply(stored(record), &check)), *outcome, "{}: record {number}", log.name);
    }
    state
}

fn scenario(name: &str) -> (Log<'static>, LogState) {
    let log =
        scenarios::all(&FakeSign).into_iter().find(|log| log.name == name).expect("a scenario of this name");
    let state = replay(&log);
    (log, state)
}

fn live(state: &LogState) -> Vec<SegmentId> {
    state.segments.keys().copied().collect()
}

fn segment_ids(labels: &[&str]) -> Vec<SegmentId> {
    let mut ids: Vec<_> = labels.iter().map(|label| SegmentId(id(label))).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn every_scenario_has_its_outcomes() {
    let logs = scenarios::all(&FakeSign);
    let mut seen = BTreeSet::new();
    for log in &logs {
        replay(log);
        seen.extend(log.outcomes.iter().copied());
    }
    assert!(scenarios::REASONS.iter().all(|reason| seen.contains(reason)), "{seen:?}");
}

#[test]
fn reasons_are_in_the_order_of_the_rules() {
    let all = [
        VoidReason::Malformed,
        VoidReason::Foreign,
        VoidReason::Body,
        VoidReason::Version,
        VoidReason::Signer,
        VoidReason::Signature,
        VoidReason::Chain,
        VoidReason::Home,
        VoidReason::Term,
        VoidReason::Kind,
        VoidReason::Role,
        VoidReason::Domain,
        VoidReason::Segment,
        VoidReason::Details,
    ];
    assert!(all.is_sorted());
    assert_eq!(all.map(VoidReason::name), scenarios::REASONS);
    assert_eq!(all.map(VoidReason::is_authentic).iter().filter(|authentic| !**authentic).count(), 6);
    assert!(!VoidReason::Signature.is_authentic() && VoidReason::Chain.is_authentic());
}

#[test]
fn a_new_vault_knows_its_owner_alone() {
    let log = Log::empty(&FakeSign, "new", "");
    let state = start(&log);
    assert_eq!(
        (state.next, state.head(), state.epoch(), state.term, state.home, state.minor),
        (0, None, 0, 0, [0; 16], 0)
    );
    assert_eq!(state.signer(&FakeSign.key("owner")).unwrap().role, Role::Owner);
    assert_eq!((state.signers.len(), state.signer(&FakeSign.key("put"))), (1, None));
}

#[test]
fn genesis_gives_the_slots() {
    let (log, state) = scenario("genesis");
    assert_eq!(state.slots, [SlotId(id("slot 1"))]);
    assert_eq!(state.head(), Some(Head { number: 0, chain: log.chains[0] }));
    let (_, state) = scenario("genesis without slots");
    assert_eq!((state.slots.len(), state.next), (0, 1));
}

#[test]
fn segments_live_and_removed() {
    let (_, state) = scenario("segments");
    assert_eq!(live(&state), segment_ids(&["b", "c", "d"]));
    assert_eq!(state.removed.keys().copied().collect::<Vec<_>>(), segment_ids(&["a"]));
    let added_by = |label: &str| state.segments[&SegmentId(id(label))].added_by;
    assert_eq!([added_by("b"), added_by("c"), added_by("d")], [1, 5, 10]);
    assert_eq!(state.segments[&SegmentId(id("b"))].len, 1000);
}

#[test]
fn a_swept_segment_never_comes_back() {
    let mut log = Log::new(&FakeSign, "swept", "");
    log.push(&log.sweep(0, &["stray"], &[]), "effective");
    log.push(&log.snapshot(&["stray"]), "segment");
    assert!(live(&replay(&log)).is_empty());
}

#[test]
fn forgotten_and_held_snapshots() {
    let (log, state) = scenario("forget");
    let marks = |number: usize| {
        let snapshot = state.snapshot(&SnapshotId(log.chains[number])).unwrap();
        (snapshot.forgotten, snapshot.held)
    };
    assert_eq!([marks(1), marks(2), marks(4)], [(true, false), (true, false), (false, true)]);
    assert_eq!(state.snapshots.len(), 3);
    assert_eq!(state.snapshot(&SnapshotId(log.chains[3])), None);
    let snapshot = state.snapshots[0];
    assert_eq!(
        (snapshot.number, snapshot.time_s, snapshot.signer),
        (1, 1_700_000_001, FakeSign.key("owner"))
    );
}

#[test]
fn prune_condemns_and_sweep_releases() {
    let (_, state) = scenario("prune and sweep");
    assert!(live(&state).is_empty());
    assert_eq!(
        state.swept_segments.iter().copied().collect::<Vec<_>>(),
        segment_ids(&["a", "stray segment"])
    );
    let packs = BTreeSet::from([PackId(id("stray pack")), PackId(id("pack"))]);
    assert_eq!(state.swept_packs, packs);
    assert!(state.orphans.is_empty(), "what is released is no longer condemned");
    assert_eq!(state.removed.len(), 1, "what is released is no longer only removed");
}

#[test]
fn slots_are_replaced() {
    let (_, state) = scenario("slots");
    let mut expected = [SlotId(id("slot 2")), SlotId(id("slot 4"))];
    expected.sort_unstable();
    assert_eq!(state.slots, expected);
}

#[test]
fn epochs_change_the_owner() {
    let (_, state) = scenario("epoch");
    let revoked = |name: &str| state.signers[&FakeSign.key(name)].revoked;
    assert_eq!(
        [revoked("owner"), revoked("owner 1"), revoked("owner 2"), revoked("maintainer")],
        [true, true, false, false]
    );
    assert_eq!((state.epoch(), state.domain_epoch, state.epochs.len()), (2, 1, 3));
    assert_eq!(state.epochs[2].owner_key, FakeSign.key("owner 2"));
    assert_eq!(state.epochs[2].details.as_ref().unwrap().previous_vault_key, [4; 48]);
    assert_eq!(state.epochs[0].details, None);
    assert_eq!(state.slots, [SlotId(id("slot f"))]);
}

#[test]
fn signers_are_enrolled_and_revoked() {
    let (_, state) = scenario("enrolment");
    assert_eq!(state.signer(&FakeSign.key("put")), None);
    assert!(state.signers[&FakeSign.key("put")].revoked);
    assert_eq!(state.signer(&FakeSign.key("maintainer")).unwrap().role, Role::Maintainer);
    assert_eq!(state.signers.len(), 3);
}

#[test]
fn a_policy_can_need_a_newer_program() {
    let (_, state) = scenario("policy");
    assert_eq!((state.minor, state.needs_minor), (0, None));
    let (log, mut state) = scenario("newer policy");
    assert_eq!((state.minor, state.needs_minor), (3, Some(3)));
    let lower = log.with_details(12, &[(1, uint(2))]);
    assert_eq!(
        state.apply(StoredRecord::Whole(&log.object(&lower)), &check),
        Outcome::Void(VoidReason::Details)
    );
}

#[test]
fn home_and_term() {
    let (_, state) = scenario("homes");
    assert_eq!((state.home, state.term), ([0; 16], 1));
    let next = state.next_public(RecordKind::Snapshot, [1; 32]);
    assert_eq!((next.home, next.term, next.number, next.minor), (state.home, 1, state.next, 0));
    assert_eq!(next.previous, state.head().unwrap().chain);
}

#[test]
fn reconciled_records_take_effect_once() {
    let (log, state) = scenario("reconcile");
    assert_eq!(live(&state), segment_ids(&["a", "b", "live"]));
    assert_eq!(state.snapshots.len(), 3);
    let effective = log.outcomes.iter().rposition(|outcome| *outcome == "effective").unwrap() - 4;
    assert_eq!(state.snapshots[1].number, effective as u64);
    assert_eq!([false, true, false], [0, 1, 2].map(|at| state.snapshots[at].forgotten));
    assert_eq!(state.snapshots[1].signer, FakeSign.key("put"));
    assert_eq!((state.home, state.term), ([0; 16], 0));
}

#[test]
fn damage_is_what_a_signer_proves() {
    for (name, damaged, snapshots) in [
        ("corrupted record", vec![2], 3),
        ("two corrupted records", vec![3], 2),
        ("swapped records", vec![2], 2),
        ("record of another vault", vec![2], 3),
        ("cut body", vec![2], 3),
        ("missing record", vec![2], 3),
        ("two missing records", vec![1, 2], 2),
        ("junk before a record", vec![], 2),
        ("chained elsewhere", vec![], 5),
        ("corrupted last record", vec![], 3),
        ("void records keep their number", vec![], 1),
        ("missing before a void record", vec![1], 1),
        ("missing record 0", vec![0], 4),
        ("forged damage", vec![2], 2),
        ("forged damage, and its writer revoked", vec![], 3),
        ("forged gap, and its writer revoked", vec![], 2),
        ("claims that stay", vec![5, 7], 3),
        ("the first claim", vec![2, 3], 1),
        ("a maintainer's claim", vec![2], 0),
        ("a long gap", (2..67).collect(), 2),
    ] {
        let (_, state) = scenario(name);
        assert_eq!((state.damaged, state.snapshots.len()), (damaged, snapshots), "{name}");
    }
}

#[test]
fn the_first_who_proves_damage_claims_it() {
    let claims = |name: &str| {
        let (_, state) = scenario(name);
        assert!(state.claims.keys().eq(&state.damaged), "{name}");
        state.claims
    };
    let [owner, put] = ["owner", "put"].map(|name| FakeSign.key(name));
    assert_eq!(claims("corrupted record"), BTreeMap::from([(2, owner)]));
    assert_eq!(claims("forged damage"), BTreeMap::from([(2, put)]));
    assert_eq!(claims("claims that stay"), BTreeMap::from([(5, owner), (7, owner)]));
    assert_eq!(claims("the first claim"), BTreeMap::from([(2, put), (3, owner)]));
    assert_eq!(claims("a maintainer's claim"), BTreeMap::from([(2, FakeSign.key("maintainer"))]));
    let gap = claims("a long gap");
    assert_eq!((gap[&2], gap.values().filter(|key| **key == put).count()), (owner, 64));
}

#[test]
fn a_writer_proves_a_short_gap_and_the_owner_a_long_one() {
    let mut log = Log::new(&FakeSign, "reach", "");
    log.push(&log.enrol("put", 3, &[put_domain()]), "effective");
    log.push(&log.enrol("maintainer", 2, &[]), "effective");
    log.push(&log.enrol("reader", 4, &[]), "effective");
    let state = replay(&log);
    for (signer, reach) in [("owner", 1_000_000), ("maintainer", 1_000_000), ("put", 64), ("reader", 64)] {
        for (number, proves) in [(state.next + reach, true), (state.next + reach + 1, false)] {
            let record = log.object(&log.snapshot(&[]).by(signer).set(2, uint(number)));
            assert!(state.is_evidence(number, &record, &check));
            assert_eq!(state.proves_gap(number, &record, &check), proves, "{signer}, {number}");
        }
    }
}

#[test]
fn every_slot_that_was_ever_named_is_known_where_the_log_was_read_from_the_beginning() {
    let (log, state) = scenario("slots");
    let named = state.named_slots.as_ref().unwrap();
    assert!(state.slots.iter().all(|slot| named.contains(slot)));
    assert!(
        named.contains(&SlotId(id("slot 1"))) && !state.slots.contains(&SlotId(id("slot 1"))),
        "{named:?}"
    );
    let resumed = LogState::decode(VaultId(log.vault), &state.encode().unwrap()).unwrap();
    assert_eq!(resumed.named_slots, None);
}

#[test]
fn evidence_of_a_gap() {
    let (log, _) = scenario("corrupted record");
    let mut state = start(&log);
    state.apply(stored(&log.records[0]), &check);
    let record = log.records[3].clone().unwrap();
    assert!(state.is_evidence(3, &record, &check));
    assert!(!state.is_evidence(4, &record, &check));
    let mut forged = record.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(!state.is_evidence(3, &forged, &check));
    assert!(!state.is_evidence(3, &record[1..], &check));
    let stranger = log.object(&log.snapshot(&[]).by("nobody").set(2, uint(3)));
    assert!(!state.is_evidence(3, &stranger, &check));
    let other = log.object(&log.snapshot(&[]).set(1, crate::support::bytes(&id("x"))).set(2, uint(3)));
    assert!(!state.is_evidence(3, &other, &check));
}

#[test]
fn there_is_no_head_after_a_missing_record() {
    let log = Log::new(&FakeSign, "gap", "");
    let mut state = replay(&log);
    assert_eq!(state.apply(StoredRecord::Missing, &check), Outcome::Missing);
    assert_eq!((state.head(), state.next, &state.damaged[..]), (None, 2, &[1][..]));
}

#[test]
fn an_oversize_record_is_malformed_and_enters_the_chain() {
    let mut log = Log::new(&FakeSign, "oversize", "");
    let max = usize::try_from(RECORD_LEN_MAX).unwrap();
    let long = vec![7; max + 1];
    let chain = chain_value_oversize(&long[..max], long.len() as u64);
    let mut states = [replay(&log), replay(&log)];
    let forms = [StoredRecord::Whole(&long), StoredRecord::Oversize(&long[..max], long.len() as u64)];
    log.push_object(Vec::new(), "malformed");
    *log.chains.last_mut().unwrap() = chain;
    let next = log.object(&log.snapshot(&["a"]));
    for (state, form) in states.iter_mut().zip(forms) {
        assert_eq!(state.apply(form, &check), Outcome::Void(VoidReason::Malformed));
        assert_eq!(state.head(), Some(Head { number: 1, chain }));
        assert_eq!(state.apply(StoredRecord::Whole(&next), &check), Outcome::Effective);
        assert!(state.damaged.is_empty());
    }
}

/// Pushes a record that must take effect, or junk that must not, by a number from a proptest.
fn push_any(log: &mut Log<'_>, choice: u8, label: u8) {
    let name = format!("segment {} {label}", log.next());
    let segment = [name.as_str()];
    match choice {
        0 | 1 => drop(log.push(&log.snapshot(&segment), "effective")),
        2 => drop(log.push(&log.rec(2).body().segments(&segment, [0; 16]), "effective")),
        3 => drop(log.push(&log.prune(log.next() - 1, &[], &[]).segments(&segment, [0; 16]), "effective")),
        4 => drop(log.push(&log.rec(9).set(12, labels(&segment)), "effective")),
        5 => drop(log.push(&log.enrol(&name, 2 + u64::from(label % 3), &[put_domain()]), "effective")),
        6 => drop(log.push(&log.with_details(12, &[]), "effective")),
        _ => push_junk(log, choice, label, &segment),
    }
}

/// Pushes a record that is void.
fn push_junk(log: &mut Log<'_>, choice: u8, label: u8, segment: &[&str]) {
    match choice % 6 {
        0 => drop(log.push_object(vec![label; usize::from(label)], "malformed")),
        1 => drop(log.push(&log.snapshot(segment).by("nobody"), "signer")),
        2 => drop(log.push(&log.snapshot(segment).set(3, uint(1 + u64::from(label))), "term")),
        3 => drop(log.push(&log.snapshot(segment).set(2, uint(u64::from(label) + 1_000)), "foreign")),
        4 => {
            let mut object = log.object(&log.snapshot(segment));
            let at = object.len() - 1 - usize::from(label % 64);
            object[at] ^= 1;
            log.push_object(object, "signature");
        }
        _ => drop(log.push(&log.rec(9).set(12, labels(segment)).set(7, uint(1)), "version")),
    }
}

/// What junk must leave alone.
fn substance(state: &LogState) -> impl PartialEq + std::fmt::Debug + use<> {
    let state = state.clone();
    (
        state.segments,
        state.removed,
        state.slots,
        state.signers,
        state.snapshots,
        state.damaged,
        (state.term, state.home, state.minor),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn state_follows_from_the_records_alone(choices in proptest::collection::vec((0..14_u8, any::<u8>()), 0..24)) {
        let mut log = Log::new(&FakeSign, "any", "");
        choices.iter().for_each(|(choice, label)| push_any(&mut log, *choice, *label));
        let state = replay(&log);
        prop_assert_eq!(format!("{state:?}"), format!("{:?}", replay(&log)));
        prop_assert!(state.damaged.is_empty());
        prop_assert_eq!(state.head(), Some(Head { number: log.next() - 1, chain: *log.chains.last().unwrap() }));
    }

    #[test]
    fn junk_changes_nothing_of_substance(choices in proptest::collection::vec((0..14_u8, any::<u8>()), 0..24)) {
        let mut log = Log::new(&FakeSign, "any", "");
        choices.iter().for_each(|(choice, label)| push_any(&mut log, *choice, *label));
        let mut state = start(&log);
        for (record, outcome) in log.records.iter().zip(&log.outcomes) {
            let before = substance(&state);
            let found = state.apply(stored(record), &check);
            prop_assert_eq!(word(found), *outcome);
            if found != Outcome::Effective {
                prop_assert!(substance(&state) == before);
            }
        }
    }

    #[test]
    fn any_bytes_in_place_of_records_are_void(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let log = Log::new(&FakeSign, "any", "");
        let mut state = replay(&log);
        let before = substance(&state);
        for record in &records {
            prop_assert_eq!(state.apply(StoredRecord::Whole(record), &check), Outcome::Void(VoidReason::Malformed));
        }
        prop_assert!(substance(&state) == before);
    }

    /// One flipped bit anywhere: the record is void, or is what it was.
    #[test]
    fn a_flipped_bit_never_takes_effect(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut log = Log::new(&FakeSign, "flip", "");
        log.push(&log.snapshot(&["a"]), "effective");
        let mut other = log.records[1].clone().unwrap();
        let at = at.index(other.len());
        other[at] ^= 1 << bit;
        let mut state = start(&log);
        state.apply(stored(&log.records[0]), &check);
        prop_assert!(matches!(state.apply(StoredRecord::Whole(&other), &check), Outcome::Void(_)));
        let next = log.object(&log.snapshot(&["b"]));
        prop_assert_eq!(state.apply(StoredRecord::Whole(&next), &check), Outcome::Effective);
        prop_assert_eq!(state.damaged, vec![1]);
    }

    /// Any record removed from the middle is the one that is reported.
    #[test]
    fn a_missing_record_is_the_damage(count in 2..8_usize, at in any::<prop::sample::Index>()) {
        let mut log = Log::new(&FakeSign, "gap", "");
        for number in 0..count {
            log.push(&log.snapshot(&[&number.to_string()]), "effective");
        }
        let at = at.index(count);
        log.replace(at, None, "missing");
        let state = replay(&log);
        prop_assert_eq!(state.damaged, vec![at as u64]);
        prop_assert_eq!(state.snapshots.len(), if at == 0 { count } else { count - 1 });
    }
}

mod state;
