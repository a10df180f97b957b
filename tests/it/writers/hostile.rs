//! A writer whose credential is in the hands of somebody else.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use coffer_engine::{BackupOptions, EngineError, SnapshotFilter};
use coffer_format::id::{DomainId, Head, SlotId, SnapshotId, hex};
use coffer_format::log::{Outcome, VoidReason};
use coffer_format::object::ObjectName;
use coffer_format::pack::ChunkKind;
use coffer_format::record::{
    BodySeal, Details, Public, Record, RecordKind, Role, RoleAction, SegmentAdded, chain_value,
};
use coffer_format::tree::ChunkRef;
use coffer_keys::WriterCredential;
use coffer_pipeline::pack_reader::chunk_id;
use coffer_store::{MemoryStore, ObjectStore};
use coffer_testkit::{AlteredStore, RecordingStore};
use coffer_verify::{Class, Options, Report, Silent, verify};

use super::{Host, grant, owned};
use crate::restore::by_hand::{EMPTY_BODY, Writer, file, record, signing_key, store_as_next};
use crate::support::{World, assert_restores, backup_options, deep, keyless, noise, scratch, tree_of};

#[test]
fn garbage_under_valid_ids_enters_nobody_elses_backup() {
    let (owner, store) = owned(90);
    let hostile = grant(&owner, &store, "hostile", None);
    let honest = Host::new(grant(&owner, &store, "honest", None), 91);
    let (one, other) = (noise(1, 200), noise(2, 250));
    let planted = {
        let mut vault = owner.open(&store).unwrap();
        let mut writer = Writer::new(&vault, hostile.domain(), 5);
        let (signing, keys) = hostile.keys();
        // What others are about to back up, under the ids that it has in the hostile domain and in theirs, with other bytes.
        let mut rows = Vec::new();
        let theirs =
            [honest.credential.domain(), vault.owner_domain()].map(|id| vault.domain_keys(&id).unwrap());
        for bytes in [&one, &other] {
            for keys in [&keys].into_iter().chain(&theirs) {
                let id = chunk_id(keys, ChunkKind::Data, bytes);
                let chunk = ChunkRef { id, len: u32::try_from(bytes.len()).unwrap() };
                rows.push(writer.put_as(ChunkKind::Data, &vec![b'x'; bytes.len()], chunk));
            }
        }
        let root = writer.tree(&[file("planted", &rows)]);
        writer.snapshot(&mut vault, &signing, root)
    };
    fs::write(honest.source().join("one"), &one).unwrap();
    fs::write(honest.source().join("other"), &other).unwrap();
    let report = honest.backup(&store).unwrap();
    let stored = (one.len() + other.len()) as u64;
    assert!(report.manifest.statistics.new_bytes > stored, "{:?}", report.manifest.statistics);
    assert_restores(&owner, &store, "latest", &tree_of(&honest.source()), "a writer");
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("one"), &one).unwrap();
    fs::write(source.join("other"), &other).unwrap();
    assert!(owner.backup(&store, &source).unwrap().manifest.statistics.new_bytes > stored);
    assert_restores(&owner, &store, "latest", &tree_of(&source), "the owner");

    assert!(keyless(&store).is_clean(), "without a key nothing is wrong");
    let findings = deep(&owner, &store).findings;
    assert!(!findings.is_empty());
    for finding in &findings {
        assert!(finding.object.starts_with("packs/") || finding.object.starts_with("log/"), "{finding:?}");
        assert!(finding.snapshots.iter().all(|id| *id == planted), "{finding:?}");
    }
    let named: Vec<_> = findings.iter().flat_map(|finding| &finding.snapshots).collect();
    assert!(named.contains(&&planted), "{findings:?}");
    assert!(findings.iter().any(|finding| finding.chunk_count > 0), "{findings:?}");
}

#[test]
fn what_is_beyond_its_role_is_void_and_in_nobodys_way() {
    let (owner, store) = owned(92);
    let hostile = grant(&owner, &store, "hostile", None);
    let honest = Host::new(grant(&owner, &store, "honest", None), 93);
    fs::write(honest.source().join("one"), noise(1, 900)).unwrap();
    let kept = honest.backup(&store).unwrap();
    let (signing, _) = hostile.keys();
    let own = hostile.domain();
    let key = *signing_key(9).verifying_key().as_bytes();
    let victim = honest.credential.verifying_key();
    let ids = vec![kept.snapshot];
    let theirs = honest.credential.domain();
    let details = |details: Details| {
        Box::new(move |public: &mut Public| public.details = details.encode()) as Box<dyn FnOnce(&mut Public)>
    };
    let live = owner.open(&store).unwrap().state().segments.clone();
    let segments: Vec<_> = live.keys().copied().collect();
    let another = SegmentAdded { id: coffer_format::id::SegmentId([7; 32]), len: 5000, domain: theirs };
    type Attack<'a> = (&'a str, RecordKind, bool, VoidReason, Box<dyn FnOnce(&mut Public)>);
    let removed = segments.clone();
    let attacks: Vec<Attack<'_>> = vec![
        (
            "forget",
            RecordKind::Forget,
            true,
            VoidReason::Role,
            details(Details::Snapshots { ids: ids.clone() }),
        ),
        (
            "unforget",
            RecordKind::Unforget,
            true,
            VoidReason::Role,
            details(Details::Snapshots { ids: ids.clone() }),
        ),
        (
            "hold",
            RecordKind::Hold,
            true,
            VoidReason::Role,
            details(Details::Hold { ids: ids.clone(), held: true }),
        ),
        ("tag", RecordKind::Tag, true, VoidReason::Role, details(Details::Snapshots { ids })),
        (
            "slots",
            RecordKind::Slots,
            false,
            VoidReason::Role,
            Box::new(|public| public.slots = Some(vec![SlotId([1; 32])])),
        ),
        (
            "enrol",
            RecordKind::Role,
            true,
            VoidReason::Role,
            details(Details::Role(RoleAction::Enrol { key, role: Role::Maintainer, domains: Vec::new() })),
        ),
        (
            "revoke",
            RecordKind::Role,
            true,
            VoidReason::Role,
            details(Details::Role(RoleAction::Revoke { key: victim })),
        ),
        (
            "prune",
            RecordKind::Prune,
            true,
            VoidReason::Role,
            Box::new(move |public| {
                public.segments_removed = removed;
                public.details = Details::Prune { base: 3, orphans: Vec::new() }.encode();
            }),
        ),
        (
            "sweep",
            RecordKind::Sweep,
            false,
            VoidReason::Role,
            details(Details::Sweep { base: 3, segments: Vec::new(), packs: Vec::new() }),
        ),
        ("policy", RecordKind::Policy, true, VoidReason::Role, details(Details::Policy { minor: None })),
        (
            "handover",
            RecordKind::Handover,
            true,
            VoidReason::Role,
            details(Details::Handover { home: [1; 16] }),
        ),
        (
            "locks",
            RecordKind::Locks,
            false,
            VoidReason::Role,
            details(Details::Locks { until_s: 1, object_count: 1 }),
        ),
        (
            "a segment of another domain",
            RecordKind::Progress,
            true,
            VoidReason::Domain,
            Box::new(move |public| public.segments_added = vec![another]),
        ),
        (
            "a snapshot that removes",
            RecordKind::Snapshot,
            true,
            VoidReason::Role,
            Box::new(move |public| public.segments_removed = segments),
        ),
    ];
    let mut expected = Vec::new();
    for (name, kind, has_body, reason, edit) in attacks {
        let owning = owner.open(&store).unwrap();
        let before = owning.state().clone();
        let bytes = record(&owning, &before, kind, &signing, has_body.then_some((EMPTY_BODY, own)), edit);
        store_as_next(&store, &before, bytes);
        drop(owning);
        expected.push((before.next, Outcome::Void(reason)));
        let owning = owner.open(&store).unwrap();
        assert_eq!(owning.log.ineffective, expected, "{name}");
        assert_eq!(
            (&owning.state().segments, &owning.state().signers),
            (&before.segments, &before.signers),
            "{name}"
        );
        assert_eq!(
            (&owning.state().slots, &owning.state().snapshots),
            (&before.slots, &before.snapshots),
            "{name}"
        );
        drop(owning);
        // Both go on, and the honest writer from what it remembers.
        fs::write(honest.source().join("one"), noise(before.next, 900)).unwrap();
        let report = honest.backup(&store).unwrap();
        assert_eq!(report.head.number, before.next + 1, "{name}");
        assert!(report.manifest.parent.is_some(), "{name}");
        assert_restores(&owner, &store, "latest", &tree_of(&honest.source()), name);
    }
    let mut owning = owner.open(&store).unwrap();
    assert!(owning.state().segments.values().all(|live| live.domain != DomainId::owner(0)));
    assert_eq!(owning.writers().unwrap().len(), 2);
}

/// A record within the role of a writer that changes nothing, for any place.
fn evidence(
    owner: &World,
    store: &MemoryStore,
    credential: &WriterCredential,
    edit: impl FnOnce(&mut Public),
) -> Vec<u8> {
    let vault = owner.open(store).unwrap();
    let (signing, _) = credential.keys();
    let body = Some((EMPTY_BODY, credential.domain()));
    record(&vault, vault.state(), RecordKind::Evidence, &signing, body, |public| {
        public.details = Details::Evidence { hash: [1; 32] }.encode();
        edit(public);
    })
}

fn next(owner: &World, store: &MemoryStore) -> u64 {
    owner.open(store).unwrap().state().next
}

/// A vault with an honest writer that has one backup, and a hostile one.
fn with_backup(seed: u64) -> (World, MemoryStore, Host, WriterCredential) {
    let (owner, store) = owned(seed);
    let hostile = grant(&owner, &store, "hostile", None);
    let honest = Host::new(grant(&owner, &store, "honest", None), seed + 1);
    fs::write(honest.source().join("one"), noise(1, 900)).unwrap();
    honest.backup(&store).unwrap();
    (owner, store, honest, hostile)
}

/// Both go on: what the honest writer backs up, the owner restores.
#[track_caller]
fn assert_goes_on(owner: &World, store: &MemoryStore, honest: &Host, seed: u64) -> Head {
    fs::write(honest.source().join("one"), noise(seed, 900)).unwrap();
    let head = honest.backup(store).unwrap().head;
    assert_restores(owner, store, "latest", &tree_of(&honest.source()), "the honest writer");
    head
}

/// Findings that are not surplus.
fn damage(report: &Report) -> Vec<&coffer_verify::Finding> {
    report.findings.iter().filter(|finding| finding.class != Class::Surplus).collect()
}

#[test]
fn a_long_gap_is_not_believed() {
    let (owner, store, honest, hostile) = with_backup(200);
    let before = next(&owner, &store);
    let far_away = before + 900_000;
    let bytes = evidence(&owner, &store, &hostile, |public| public.number = far_away);
    store.insert_raw(ObjectName::Record(far_away).to_string(), bytes);
    let counted = RecordingStore::new(&store);
    let vault = owner.open(&counted).unwrap();
    assert_eq!((vault.state().next, vault.state().damaged.len()), (before, 0));
    drop(vault);
    let reads = counted.snapshot().read_count;
    assert!(reads < 50, "{reads} objects were read");
    for report in [keyless(&store), deep(&owner, &store)] {
        assert!(report.is_intact() && !report.is_clean(), "{:?}", report.findings);
    }
    assert_goes_on(&owner, &store, &honest, 2);
}

#[test]
fn damage_that_a_writer_makes_up_ends_when_it_is_revoked() {
    for gap in [false, true] {
        let (owner, store, honest, hostile) = with_backup(210);
        let number = next(&owner, &store);
        let claimed: Vec<u64> = if gap { (number..number + 64).collect() } else { vec![number] };
        if gap {
            let bytes = evidence(&owner, &store, &hostile, |public| public.number = number + 64);
            store.insert_raw(ObjectName::Record(number + 64).to_string(), bytes);
        } else {
            store.insert_raw(ObjectName::Record(number).to_string(), b"junk");
            let bytes = evidence(&owner, &store, &hostile, |public| public.previous = [9; 32]);
            store.insert_raw(ObjectName::Record(number + 1).to_string(), bytes);
        }
        // It may be true, so it is reported, by name; and nothing is in the way of the others.
        let key = hostile.verifying_key();
        let vault = owner.open(&store).unwrap();
        assert_eq!(vault.state().damaged, claimed);
        assert!(vault.state().claims.values().all(|claimant| *claimant == key));
        drop(vault);
        assert_goes_on(&owner, &store, &honest, 3);
        assert_eq!(owner.open(&store).unwrap().checkpoint_if_due(1).unwrap(), None);
        let report = keyless(&store);
        let [finding] = &damage(&report)[..] else { panic!("{:#?}", report.findings) };
        let advice = format!("`coffer keys revoke-writer {}`", hex(&key[..8]));
        assert!(finding.what.contains(&advice), "{}", finding.what);

        owner.open(&store).unwrap().revoke_writer(&hex(&key[..8])).unwrap();
        let mut vault = owner.open(&store).unwrap();
        assert_eq!((vault.state().damaged.len(), vault.state().claims.len()), (0, 0));
        vault.checkpoint_if_due(1).unwrap().unwrap();
        drop(vault);
        let head = assert_goes_on(&owner, &store, &honest, 4);
        for report in [keyless(&store), deep(&owner, &store)] {
            assert!(report.is_intact(), "{:#?}", report.findings);
            assert_eq!(report.counts.damaged_records, 0);
        }
        let options = Options { head: Some(head), ..Options::default() };
        let report = verify(&store, &options, &Silent).unwrap();
        assert!(report.fresh_proved && report.is_intact(), "{:#?}", report.findings);

        // What the owner's own record proves stays damage, whoever else was revoked.
        let lost = next(&owner, &store);
        assert_goes_on(&owner, &store, &honest, 5);
        grant(&owner, &store, "another", None);
        store.remove_raw(&ObjectName::Record(lost).to_string()).unwrap();
        owner.open(&store).unwrap().revoke_writer("honest").unwrap();
        assert_eq!(owner.open(&store).unwrap().state().damaged, [lost]);
    }
}

/// Anybody who can create objects can put junk into the log, and junk that speaks ill of the junk before it.
#[test]
fn what_nobody_signed_says_nothing_of_what_is_before_it() {
    let (owner, store, honest, hostile) = with_backup(215);
    let wrong_signature = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    type Edit = fn(&mut Public);
    let cases: [(&str, VoidReason, bool, Edit); 4] = [
        ("without a signature", VoidReason::Signature, true, |_| {}),
        ("of nobody", VoidReason::Signer, true, |public| public.signer = [7; 32]),
        ("for another vault", VoidReason::Foreign, false, |public| public.vault.0[0] ^= 1),
        ("of a later version", VoidReason::Version, true, |public| public.minor += 1),
    ];
    for (seed, (name, reason, spoil, edit)) in (2..).zip(cases) {
        let number = next(&owner, &store);
        store.insert_raw(ObjectName::Record(number).to_string(), b"junk");
        let bytes = evidence(&owner, &store, &hostile, |public| {
            public.previous = [9; 32];
            edit(public);
        });
        let bytes = if spoil { wrong_signature(bytes) } else { bytes };
        store.insert_raw(ObjectName::Record(number + 1).to_string(), bytes);
        let seen = owner.open(&store).unwrap();
        assert_eq!(seen.log.ineffective.last(), Some(&(number + 1, Outcome::Void(reason))), "{name}");
        let junk_head = seen.log.head();
        drop(seen);
        let head = assert_goes_on(&owner, &store, &honest, seed);
        for head in [junk_head, Some(head)] {
            let options = Options { head, ..Options::default() };
            let report = verify(&store, &options, &Silent).unwrap();
            assert!(report.fresh_proved && report.is_intact(), "{name}: {:#?}", report.findings);
            assert_eq!(report.counts.void_records, 2 * (seed - 1), "{name}");
        }
    }
}

#[test]
fn surplus_without_end_is_not_in_the_way() {
    let (owner, store, honest, _) = with_backup(220);
    let number = next(&owner, &store);
    for surplus in 0..5000 {
        store.insert_raw(ObjectName::Record(number + 100 + surplus).to_string(), b"junk");
    }
    let vault = owner.open(&store).unwrap();
    assert_eq!((vault.state().next, vault.snapshots().len()), (number, 1));
    let [warning] = &vault.log.warnings[..] else { panic!("{:?}", vault.log.warnings) };
    assert!(warning.contains("more than 4096 objects"), "{warning}");
    drop(vault);
    assert_restores(&owner, &store, "latest", &tree_of(&honest.source()), "among surplus");
    assert_goes_on(&owner, &store, &honest, 2);
    assert!(keyless(&store).is_intact());
}

#[test]
fn a_snapshot_that_nobody_can_open_is_passed_over() {
    let (owner, store, honest, hostile) = with_backup(230);
    let (signing, _) = hostile.keys();
    let mut planted = Vec::new();
    // Random bytes; of an epoch that does not exist; a body that opens and is no manifest.
    // And one that is too short to be a sealed body.
    for (number, epoch, len) in [(0, 0, 2000), (1, 7, 2000), (2, 0, 0), (3, 0, 10)] {
        let vault = owner.open(&store).unwrap();
        let body = noise(number, len);
        let mut public = vault.state().next_public(RecordKind::Snapshot, hostile.verifying_key());
        public.body = Some(BodySeal { hash: chain_value(&body), domain: hostile.domain(), epoch });
        let encoded = public.encode();
        let bytes = if len > 0 {
            Record::assemble(&encoded, &body, &signing.sign_record(&encoded)).unwrap()
        } else {
            let body = Some((EMPTY_BODY, hostile.domain()));
            record(&vault, vault.state(), RecordKind::Snapshot, &signing, body, |_| {})
        };
        planted.push(SnapshotId(chain_value(&bytes)));
        store_as_next(&store, vault.state(), bytes);
    }
    let vault = owner.open(&store).unwrap();
    assert_eq!(vault.log.ineffective, []);
    let all = SnapshotFilter::default();
    let chosen = vault.select_with(&"latest".parse().unwrap(), &all).unwrap();
    assert_eq!(chosen.snapshot.manifest.host, "host");
    let unread: Vec<_> = chosen.unread.iter().map(|(id, _)| *id).rev().collect();
    assert_eq!(unread, planted);
    let unreadable = vault.snapshots().into_iter().filter(|(_, snapshot)| snapshot.is_err());
    assert_eq!(unreadable.map(|(state, _)| state.id).collect::<Vec<_>>(), planted);
    for id in &planted {
        let named = vault.select(&id.to_string());
        assert!(matches!(named, Err(EngineError::Damaged { .. })), "{named:?}");
    }
    drop(vault);
    assert_restores(&owner, &store, "latest", &tree_of(&honest.source()), "before the others");
    // Who looks inside finds each of them.
    assert!(keyless(&store).is_clean(), "without a key nothing is wrong");
    let report = deep(&owner, &store);
    let found: Vec<_> = report.findings.iter().flat_map(|finding| finding.snapshots.clone()).collect();
    assert_eq!(found, planted, "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.class == Class::Corrupt), "{:#?}", report.findings);
    assert_goes_on(&owner, &store, &honest, 2);
    owner.open(&store).unwrap().checkpoint_if_due(1).unwrap().unwrap();
    assert_restores(&owner, &store, "latest", &tree_of(&honest.source()), "behind a checkpoint");
}

#[test]
fn where_no_snapshot_opens_the_newest_one_is_damaged() {
    let (owner, store) = owned(240);
    let hostile = grant(&owner, &store, "hostile", None);
    let vault = owner.open(&store).unwrap();
    let body = Some((EMPTY_BODY, hostile.domain()));
    let bytes = record(&vault, vault.state(), RecordKind::Snapshot, &hostile.keys().0, body, |_| {});
    store_as_next(&store, vault.state(), bytes);
    drop(vault);
    let chosen = owner.open(&store).unwrap().select("latest");
    assert!(matches!(chosen, Err(EngineError::Damaged { .. })), "{chosen:?}");
}

/// A store in which a writer commits a record that names each new index segment, as soon as it is stored, in a domain of its own; so many times.
fn front_runner<'a>(
    store: &'a MemoryStore,
    owner: &'a World,
    credential: &'a WriterCredential,
    times: usize,
) -> AlteredStore<'a, &'a MemoryStore> {
    let left = AtomicUsize::new(times);
    AlteredStore::new(store).on_put(move |store, key, body| {
        let outcome = store.put_if_absent(key, body)?;
        if let Some(ObjectName::Segment(id)) = ObjectName::parse(key.as_str())
            && left.load(Ordering::Relaxed) > 0
        {
            left.fetch_sub(1, Ordering::Relaxed);
            let vault = owner.open(*store).unwrap();
            let (domain, (signing, _)) = (credential.domain(), credential.keys());
            let sealed = Some((EMPTY_BODY, domain));
            let bytes = record(&vault, vault.state(), RecordKind::Progress, &signing, sealed, |public| {
                public.segments_added = vec![SegmentAdded { id, len: body.len() as u64, domain }];
            });
            store_as_next(store, vault.state(), bytes);
        }
        Ok(outcome)
    })
}

#[test]
fn a_name_that_is_taken_first_is_replaced_by_another() {
    let (owner, store, honest, hostile) = with_backup(250);
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for (left, progress) in [(1, false), (3, false), (3, true), (100, false), (100, true)] {
        fs::write(honest.source().join("one"), noise(300 + left, 900)).unwrap();
        fs::write(source.join("one"), noise(400 + left, 900)).unwrap();
        let left = usize::try_from(left).unwrap();
        let racing = || front_runner(&store, &owner, &hostile, left);
        let interval = |options: BackupOptions| BackupOptions {
            progress_interval_ns: if progress { 0 } else { options.progress_interval_ns },
            ..options
        };
        let by_writer = honest.backup_with(&racing(), &interval(honest.options())).map(|_| ());
        let by_owner = owner.backup_with(&racing(), &interval(backup_options(&source))).map(|_| ());
        for (backed_up, is_owner) in [(by_writer, false), (by_owner, true)] {
            let context = format!("{left} times, by the owner: {is_owner}, progress: {progress}");
            if left < 100 {
                backed_up.unwrap_or_else(|error| panic!("{context}: {error}"));
            } else {
                let Err(EngineError::CannotCommit { reason }) = backed_up else { panic!("{context}") };
                let key = hex(&hostile.verifying_key()[..8]);
                assert!(reason.contains(&format!("revoke-writer {key}")), "{context}: {reason}");
            }
        }
        if left < 100 {
            assert_restores(&owner, &store, "latest", &tree_of(&source), "the owner's");
            assert_restores(&owner, &store, "latest~1", &tree_of(&honest.source()), "the writer's");
        }
        let vault = owner.open(&store).unwrap();
        assert!(vault.state().damaged.is_empty());
    }
    owner.open(&store).unwrap().revoke_writer("hostile").unwrap();
    assert_goes_on(&owner, &store, &honest, 9);
}
