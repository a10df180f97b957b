//! A writer whose credential is in the hands of somebody else.

use std::fs;

use coffer_format::id::{DomainId, SlotId};
use coffer_format::log::{Outcome, VoidReason};
use coffer_format::pack::ChunkKind;
use coffer_format::record::{Details, Public, RecordKind, Role, RoleAction, SegmentAdded};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::pack_reader::chunk_id;

use super::{Host, grant, owned};
use crate::restore::by_hand::{EMPTY_BODY, Writer, file, record, signing_key, store_as_next};
use crate::support::{assert_restores, deep, keyless, noise, scratch, tree_of};

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
    let owning = owner.open(&store).unwrap();
    assert!(owning.state().segments.values().all(|live| live.domain != DomainId::owner(0)));
    assert_eq!(owning.writers().unwrap().len(), 2);
}
