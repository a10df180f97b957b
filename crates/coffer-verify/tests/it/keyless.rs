//! Clean vaults, what is proved, log and header, subsets, and names beyond the state.

use coffer_format::id::Head;
use coffer_format::log::{Outcome, VoidReason};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, RecordKind, Role, RoleAction};
use coffer_store::MemoryStore;
use coffer_testkit::copy::store_from;
use coffer_verify::{
    Class, LISTED_MAX, Options, Report, Silent, Subset, VerifyError, read_state, verify, verify_deep,
};

use crate::support::{EMPTY_BODY, Standard, Vault, found, only};

#[test]
fn a_clean_vault_has_no_findings() {
    let Standard { vault, .. } = Standard::new();
    let report = vault.verify();
    assert_eq!(report.findings, []);
    assert!(report.is_clean() && report.is_intact() && !report.deep);
    assert!(report.origin_proved && report.fresh_proved);
    assert_eq!((report.vault_id, report.head), (Some(vault.id()), Some(vault.head())));
    assert_eq!(report.residue, []);
    let counts = report.counts;
    assert_eq!((counts.records, counts.void_records, counts.damaged_records), (6, 0, 0));
    assert_eq!((counts.snapshots, counts.forgotten_snapshots), (2, 1));
    assert_eq!((counts.slots, counts.segments, counts.packs), (1, 3, 8));
    assert_eq!((counts.hashed_packs, counts.hashed_bytes), (8, counts.pack_bytes));
    assert!(counts.read_bytes > counts.pack_bytes);
}

#[test]
fn the_report_is_the_same_on_any_number_of_threads() {
    let Standard { vault, a, b, .. } = Standard::new();
    let mut objects = vault.objects();
    objects.remove(&a.packs[0]);
    objects.get_mut(&b.segment).unwrap()[60] ^= 1;
    let store = store_from(objects);
    let report = |threads| {
        let options = Options { threads, ..vault.options() };
        let keyless = verify(&store, &options, &Silent).unwrap();
        let deep = verify_deep(&store, vault.key(), &options, &Silent).unwrap();
        format!("{keyless:?} {deep:?}")
    };
    let expected = report(1);
    for threads in [0, 2, 5] {
        assert_eq!(report(threads), expected);
    }
}

#[test]
fn without_id_and_head_nothing_is_claimed() {
    let Standard { vault, .. } = Standard::new();
    let report = verify(&vault.store, &Options::default(), &Silent).unwrap();
    assert!(report.is_clean() && !report.origin_proved && !report.fresh_proved);
}

#[test]
fn an_older_head_is_contained() {
    let mut vault = Vault::new(1);
    let head = vault.head();
    let mut packs = vault.packs();
    packs.data(1, 10);
    vault.take(packs, &[]);
    let report = verify(&vault.store, &Options { head: Some(head), ..vault.options() }, &Silent).unwrap();
    assert!(report.is_clean() && report.fresh_proved);
}

#[test]
fn an_older_copy_is_a_rollback() {
    let mut vault = Vault::new(1);
    let older = vault.objects();
    let packs = vault.packs();
    vault.take(packs, &[]);
    let report = vault.verify_store(&store_from(older));
    only(&report, Class::Rollback, "log/000000000001");
    assert!(!report.fresh_proved && report.origin_proved && !report.is_intact());
}

#[test]
fn another_line_of_the_log_is_a_rollback() {
    let mut vault = Vault::new(1);
    let mut other = Vault::new(1);
    for (vault, locked) in [(&mut vault, 1), (&mut other, 2)] {
        let details = Details::Locks { until_s: locked, object_count: 0 };
        vault.commit(RecordKind::Locks, details, None, |_| {});
    }
    let report = verify(&other.store, &vault.options(), &Silent).unwrap();
    only(&report, Class::Rollback, "log/000000000001");
    assert!(!report.fresh_proved);
}

#[test]
fn a_forged_vault_is_found() {
    let (vault, forged) = (Standard::new().vault, Vault::new(2));
    let report = verify(&forged.store, &vault.options(), &Silent).unwrap();
    only(&report, Class::Corrupt, "vault");
    assert_eq!((report.vault_id, report.origin_proved), (None, false));
    let error = read_state(&forged.store, &vault.options()).unwrap_err();
    assert!(matches!(error, VerifyError::OtherVault { .. }), "{error}");
    // Nothing in itself gives it away.
    assert!(verify(&forged.store, &Options::default(), &Silent).unwrap().is_clean());
}

#[test]
fn a_lost_header_is_taken_from_record_0() {
    let Standard { vault, .. } = Standard::new();
    let damaged = [
        (Class::Missing, vault.without("vault")),
        (Class::Corrupt, vault.changed("vault", |bytes| bytes[0] ^= 1)),
        (Class::Corrupt, vault.changed("vault", |bytes| *bytes.last_mut().unwrap() ^= 1)),
        (Class::Corrupt, vault.changed("vault", |bytes| bytes.resize(9000, 0))),
        (Class::Corrupt, vault.changed("vault", |bytes| *bytes = Vault::new(2).store.raw("vault").unwrap())),
    ];
    for (class, store) in damaged {
        for vault_id in [Some(vault.id()), None] {
            let options = Options { vault_id, ..vault.options() };
            let report = verify(&store, &options, &Silent).unwrap();
            only(&report, class, "vault");
            assert_eq!((report.vault_id, report.counts.hashed_packs), (Some(vault.id()), 8));
            assert_eq!(report.origin_proved, vault_id.is_some());
            let state = read_state(&store, &options).unwrap();
            assert_eq!(state.header_bytes, vault.store.raw("vault").unwrap());
            assert_eq!((state.slots.len(), state.findings.len()), (1, 1));
        }
    }
}

#[test]
fn header_and_record_0_lost_leave_nothing_to_go_by() {
    let Standard { vault, .. } = Standard::new();
    let mut objects = vault.objects();
    objects.remove("vault");
    objects.remove("log/000000000000");
    let store = store_from(objects);
    for vault_id in [Some(vault.id()), None] {
        let report = verify(&store, &Options { vault_id, ..Options::default() }, &Silent).unwrap();
        only(&report, Class::Missing, "vault");
        assert_eq!(report.vault_id, None);
    }
    let error = verify(&MemoryStore::new(), &Options::default(), &Silent).unwrap_err();
    assert!(matches!(error, VerifyError::NotAVault { .. }), "{error}");
}

#[test]
fn a_vault_without_record_0_is_unfinished() {
    let vault = Vault::new(1);
    let store = vault.without("log/000000000000");
    let report = verify(&store, &Options::default(), &Silent).unwrap();
    // The slot is one that no record names: harmless.
    let slot = ObjectName::Slot(vault.log.slots[0]).to_string();
    assert_eq!(found(&report), [(Class::Missing, "log/000000000000")]);
    assert!(report.residue.iter().any(|residue| residue.name == slot));
    assert_eq!(report.head, None);
}

#[test]
fn a_newer_format_is_refused() {
    let mut vault = Vault::new(1);
    vault.commit(RecordKind::Policy, Details::Policy { minor: Some(1) }, Some(EMPTY_BODY), |_| {});
    let error = verify(&vault.store, &Options::default(), &Silent).unwrap_err();
    assert!(matches!(error, VerifyError::NeedsNewer { major: 1, minor: 1 }), "{error}");

    let store = store_from([("vault".to_owned(), b"coffer vault\n\0\0\x02and more".to_vec())]);
    let error = verify(&store, &Options::default(), &Silent).unwrap_err();
    assert!(matches!(error, VerifyError::NeedsNewer { major: 2, .. }), "{error}");
}

#[test]
fn a_void_record_is_surplus() {
    let mut vault = Vault::new(1);
    // Revoking a key that was never enrolled breaks the rule `details`.
    let details = Details::Role(RoleAction::Revoke { key: [7; 32] });
    let bytes = vault.record(RecordKind::Role, &details, Some(EMPTY_BODY), |_| {});
    assert_eq!(vault.store_record(&bytes), Outcome::Void(VoidReason::Details));
    vault.commit(RecordKind::Locks, Details::Locks { until_s: 1, object_count: 0 }, None, |_| {});
    let report = vault.verify();
    let finding = only(&report, Class::Surplus, "log/000000000001");
    assert!(finding.what.contains("details"), "{}", finding.what);
    assert!(report.is_intact() && report.fresh_proved);
    assert_eq!(report.counts.void_records, 1);
}

#[test]
fn an_enrolled_writer_may_not_prune() {
    let mut vault = Vault::new(1);
    let writer = coffer_crypto::SigningKey::from_seed(&coffer_crypto::Secret::new([5; 32]));
    let key = *writer.verifying_key().as_bytes();
    let role = RoleAction::Enrol { key, role: Role::Put, domains: Vec::new() };
    vault.commit(RecordKind::Role, Details::Role(role), Some(EMPTY_BODY), |_| {});
    let mut public = vault.log.next_public(RecordKind::Locks, key);
    public.details = Details::Locks { until_s: 1, object_count: 1 }.encode();
    let rng = coffer_crypto::rng::SeededRng::new(3);
    let bytes = coffer_pipeline::record::seal_record(public, None, &writer, &rng).unwrap();
    assert_eq!(vault.store_record(&bytes), Outcome::Void(VoidReason::Role));
    let report = vault.verify();
    assert!(only(&report, Class::Surplus, "log/000000000002").what.contains("role"));
}

#[test]
fn a_gap_is_missing_as_one_finding_and_what_follows_counts() {
    let Standard { vault, .. } = Standard::new();
    let mut objects = vault.objects();
    objects.remove("log/000000000003");
    objects.remove("log/000000000004");
    let report = vault.verify_store(&store_from(objects));
    let finding = report.findings.iter().find(|finding| finding.class == Class::Missing).unwrap();
    assert_eq!(finding.object, "log/000000000003");
    assert!(finding.what.contains("3 to 4"), "{}", finding.what);
    assert_eq!(report.head, Some(vault.head()));
    assert!(report.fresh_proved);
    assert_eq!(report.counts.damaged_records, 2);
}

#[test]
fn an_unsigned_record_proves_no_gap() {
    let vault = Vault::new(1);
    let forger = {
        let mut forger = Vault::new(2);
        forger.commit(RecordKind::Locks, Details::Locks { until_s: 1, object_count: 0 }, None, |_| {});
        forger.store.raw("log/000000000001").unwrap()
    };
    vault.store.insert_raw("log/000000000002", forger);
    vault.store.insert_raw("log/000000000005", b"junk".to_vec());
    let report = vault.verify();
    assert_eq!(found(&report), [(Class::Surplus, "log/000000000002"), (Class::Surplus, "log/000000000005")]);
    assert!(report.fresh_proved);
}

#[test]
fn an_oversize_record_is_void_and_chained() {
    let mut vault = Vault::new(1);
    let len = usize::try_from(coffer_format::limits::RECORD_LEN_MAX).unwrap() + 1;
    assert_eq!(vault.store_record(&vec![7; len]), Outcome::Void(VoidReason::Malformed));
    vault.commit(RecordKind::Locks, Details::Locks { until_s: 1, object_count: 0 }, None, |_| {});
    let report = vault.verify();
    only(&report, Class::Surplus, "log/000000000001");
    assert!(report.fresh_proved);
}

#[test]
fn junk_changes_nothing_but_surplus_and_residue() {
    let Standard { vault, .. } = Standard::new();
    let hex = "ab".repeat(32);
    let residue = [format!("index/{hex}"), format!("packs/ab/{hex}"), "probe/scratch".to_owned()];
    let surplus = [
        "Upper".to_owned(),
        format!("index/{}", &hex[1..]),
        "log/000000000099".to_owned(),
        "log/1".to_owned(),
        format!("packs/cd/{hex}"),
        format!("slots/{hex}"),
        "stray".to_owned(),
    ];
    for name in residue.iter().chain(&surplus) {
        vault.store.insert_raw(name.clone(), b"junk".to_vec());
    }
    for report in [vault.verify(), vault.verify_deep()] {
        let names: Vec<_> = report.residue.iter().map(|item| item.name.clone()).collect();
        assert_eq!(names, residue);
        let expected: Vec<_> = surplus.iter().map(|name| (Class::Surplus, name.as_str())).collect();
        assert_eq!(found(&report), expected);
        assert!(report.is_intact() && report.fresh_proved);
        assert_eq!((report.counts.residue_objects, report.counts.residue_bytes), (3, 12));
        assert_eq!(report.counts.surplus_names, 7);
    }
}

#[test]
fn much_junk_makes_few_findings() {
    let vault = Vault::new(1);
    for number in 0..LISTED_MAX + 50 {
        vault.store.insert_raw(format!("junk/{number:06}"), b"".to_vec());
    }
    let report = vault.verify();
    assert_eq!(report.findings.len(), LISTED_MAX + 1);
    assert_eq!(report.counts.surplus_names, LISTED_MAX as u64 + 50);
}

#[test]
fn old_slots_removed_segments_and_uncommitted_packs_are_residue() {
    let Standard { mut vault, a, b, c, .. } = Standard::new();
    let old = ObjectName::Slot(vault.log.slots[0]).to_string();
    let slot = vault.put_slot(0, "second");
    vault.commit(RecordKind::Slots, Details::None, None, |public| public.slots = Some(vec![slot]));
    let details = Details::Prune { base: vault.head().number, orphans: Vec::new() };
    let gone = c.segment.strip_prefix("index/").unwrap().parse().unwrap();
    vault.commit(RecordKind::Prune, details, Some(EMPTY_BODY), |public| public.segments_removed = vec![gone]);
    let mut packs = vault.packs();
    packs.data(77, 10);
    let (uncommitted, _) = vault.store_packs(packs, |_| {});
    let report = vault.verify();
    assert_eq!(report.findings, []);
    let names: Vec<_> = report.residue.iter().map(|item| item.name.as_str()).collect();
    let expected: Vec<_> = c.packs.iter().chain(&uncommitted).chain([&old, &c.segment]).collect();
    assert_eq!(names.len(), expected.len() + 1, "the uncommitted segment is there too: {names:?}");
    assert!(expected.iter().all(|name| names.contains(&name.as_str())), "{names:?}");
    for kept in a.packs.iter().chain(&b.packs) {
        assert!(!names.contains(&kept.as_str()));
    }
}

#[test]
fn a_subset_thins_out_hashing_alone() {
    let Standard { vault, a, b, .. } = Standard::new();
    let mut objects = vault.objects();
    objects.remove(&a.packs[0]);
    objects.get_mut(&a.packs[1]).unwrap().truncate(70);
    objects.get_mut(&b.packs[0]).unwrap()[2000] ^= 1;
    let store = store_from(objects);
    let part = |n| verify(&store, &Options { subset: Subset::Part { n, m: 3 }, ..vault.options() }, &Silent);
    let parts: Vec<Report> = (1..=3).map(|n| part(n).unwrap()).collect();
    let seen =
        |class, name: &str| parts.iter().filter(|report| found(report).contains(&(class, name))).count();
    assert_eq!(seen(Class::Missing, &a.packs[0]), 3, "presence is always checked");
    assert_eq!(seen(Class::Corrupt, &a.packs[1]), 3, "length is always checked");
    assert_eq!(seen(Class::Corrupt, &b.packs[0]), 1, "bytes are checked in one of the parts");
    assert_eq!(parts.iter().map(|report| report.counts.hashed_packs).sum::<u64>(), 6);

    let options = Options { subset: Subset::Bytes(1), seed: [3; 32], ..vault.options() };
    assert_eq!(verify(&vault.store, &options, &Silent).unwrap().counts.hashed_packs, 1);
}

#[test]
fn state_can_be_read_without_a_key() {
    let Standard { vault, .. } = Standard::new();
    let state = read_state(&vault.store, &vault.options()).unwrap();
    assert_eq!((state.vault_id, state.log.head()), (vault.id(), Some(vault.head())));
    assert_eq!(state.slots.len(), 1);
    assert_eq!((state.slots[0].0, state.slots[0].1.label.as_str()), (vault.log.slots[0], "first"));
    assert_eq!(state.findings, []);
    let report = verify_deep(&vault.store, vault.key(), &vault.options(), &Silent).unwrap();
    assert!(report.is_clean());
}

#[test]
fn a_head_in_a_damaged_record_is_confirmed_by_the_next() {
    let Standard { vault, .. } = Standard::new();
    let bytes = vault.store.raw("log/000000000003").unwrap();
    let head = Head { number: 3, chain: coffer_format::record::chain_value(&bytes) };
    let store = vault.changed("log/000000000003", |bytes| bytes[30] ^= 1);
    let options = Options { head: Some(head), ..vault.options() };
    let report = verify(&store, &options, &Silent).unwrap();
    assert!(report.fresh_proved);
    assert!(found(&report).contains(&(Class::Corrupt, "log/000000000003")));
    assert!(!found(&report).iter().any(|(class, _)| *class == Class::Rollback));
}
