//! Whoever can write to the store: other vaults, older vaults, forks, records beyond their signer's role, junk and residue.

use coffer_crypto::SigningKey;
use coffer_engine::{Cache, EngineError, Vault};
use coffer_format::id::DomainId;
use coffer_format::limits::RECORD_LEN_MAX;
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, Public, RecordKind, Role, RoleAction, SegmentAdded};
use coffer_store::MemoryStore;
use coffer_testkit::copy::store_from;
use coffer_verify::{Class, Options, Silent, verify};

use super::site::{Fate, Site, fate_of, put_domain, put_signer};
use crate::restore::by_hand::{
    EMPTY_BODY, Writer, commit_by_owner, domain, record, signing_key, store_as_next,
};
use crate::support::{World, deep, noise, scratch, tree_of};

/// Every snapshot of the site restores whole.
#[track_caller]
fn assert_all_whole(site: &Site, world: &World, store: &MemoryStore, context: &str) {
    for taken in &site.snapshots {
        assert_eq!(fate_of(world, store, taken, context), Fate::Whole, "{context}");
    }
}

/// A backup goes through, and is restored whole.
#[track_caller]
fn assert_backup_works(world: &World, store: &MemoryStore, context: &str) {
    let place = scratch();
    let source = place.path().join("src");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("honest"), noise(5, 20_000)).unwrap();
    let next = world.open(store).unwrap().state().next;
    let report = world.backup(store, &source).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!((report.head.number, report.error_count), (next, 0), "{context}");
    let target = scratch();
    let restored = world.restore(store, &report.snapshot.to_string(), target.path()).unwrap();
    assert_eq!((restored.errors.len(), restored.degraded), (0, false), "{context}: {restored:?}");
    assert_eq!(tree_of(&target.path().join("src")), tree_of(&source), "{context}");
}

#[test]
fn a_forged_vault_is_refused() {
    let site = Site::shared();
    let (attacker, forged) = (World::new(99), MemoryStore::new());
    attacker.init(&forged).unwrap();
    assert_backup_works(&attacker, &forged, "the forged vault is whole in itself");
    let planted = store_from(site.objects.clone().into_iter().filter(|(name, _)| name.starts_with("slots/")));
    for (name, bytes) in coffer_testkit::copy::snapshot_of(&forged) {
        planted.insert_raw(name, bytes);
    }
    for store in [&forged, &planted] {
        let report = verify(store, &Options::default(), &Silent).unwrap();
        assert!(report.is_intact() && !report.origin_proved, "nothing shows without the vault id");
        let report = site.verify(store);
        assert_eq!((report.vault_id, report.origin_proved), (None, false));
        let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
        assert_eq!((finding.class, finding.object.as_str()), (Class::Corrupt, "vault"));
        assert!(matches!(site.world().open(store), Err(EngineError::Key(_))));

        let cache = scratch();
        let world = World { cache: Some(Cache::new(cache.path())), ..site.world() };
        drop(world.open(&site.store()).unwrap());
        let refused = world.open(store).map(|_| ());
        assert!(
            matches!(refused, Err(EngineError::OtherVault { expected, .. }) if expected == site.id),
            "{refused:?}"
        );
        // Its own vault it still takes.
        drop(world.open(&site.store()).unwrap());
    }
}

#[test]
fn a_vault_that_does_not_open_is_not_remembered() {
    let site = Site::shared();
    let (attacker, forged) = (World::new(99), MemoryStore::new());
    attacker.init(&forged).unwrap();
    let cache = scratch();
    let world = World { cache: Some(Cache::new(cache.path())), ..site.world() };
    assert!(matches!(world.open(&forged), Err(EngineError::Key(_))));
    drop(world.open(&site.store()).unwrap());
}

#[test]
fn an_older_vault_is_a_rollback() {
    let site = Site::shared();
    let (_, older) = site.history.split_last().unwrap();
    for (head, objects) in older {
        let store = store_from(objects.clone());
        let report = site.verify(&store);
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        assert_eq!(report.findings[0].class, Class::Rollback, "{head}");
        assert_eq!(report.findings[0].object, ObjectName::Record(site.head.number).to_string());
        assert!(!report.fresh_proved && report.origin_proved);

        let cache = scratch();
        let world = World { cache: Some(Cache::new(cache.path())), ..site.world() };
        drop(world.open(&site.store()).unwrap());
        for _ in 0..2 {
            let refused = world.open(&store).map(|_| ());
            assert!(
                matches!(refused, Err(EngineError::Rollback { remembered, .. }) if remembered == site.head),
                "{refused:?}"
            );
        }
        drop(world.open(&site.store()).unwrap());

        // Who remembers nothing cannot know, and gets what the older vault holds.
        let world = site.world();
        let vault = world.open(&store).unwrap();
        assert_eq!(vault.log.head(), Some(*head));
        let known: Vec<_> = vault.state().snapshots.iter().map(|snapshot| snapshot.id).collect();
        for taken in site.snapshots.iter().filter(|taken| known.contains(&taken.id)) {
            assert_eq!(fate_of(&world, &store, taken, "an older vault"), Fate::Whole);
        }
    }
}

#[test]
fn memory_follows_the_vault_and_survives_damage_elsewhere() {
    let site = Site::shared();
    let cache = scratch();
    let world = World { cache: Some(Cache::new(cache.path())), ..site.world() };
    for (head, objects) in &site.history {
        let vault_now = store_from(objects.clone());
        assert_eq!(world.open(&vault_now).unwrap().log.head(), Some(*head));
    }
    let last = ObjectName::Record(site.head.number).to_string();
    for name in site.objects.keys().filter(|name| **name != last && **name != site.slot_of_key(0)) {
        let store = site.store();
        store.remove_raw(name);
        assert_eq!(world.open(&store).unwrap().log.head(), Some(site.head), "without {name}");
    }
    let store = site.store();
    store.remove_raw(&last);
    assert!(matches!(world.open(&store), Err(EngineError::Rollback { .. })));
}

#[test]
fn a_fork_is_refused_by_who_knows_the_other_line() {
    let site = Site::shared();
    let [one, other] = [scratch(), scratch()]
        .map(|cache| (World { cache: Some(Cache::new(cache.path())), ..site.world() }, site.store(), cache));
    let (one, one_store, _one_cache) = one;
    let (other, other_store, _other_cache) = other;
    other.clock.advance(5_000_000_000);
    assert_backup_works(&one, &one_store, "one line");
    assert_backup_works(&other, &other_store, "the other line");
    let heads = [&one_store, &other_store].map(|store| site.world().open(store).unwrap().log.head().unwrap());
    assert_eq!(heads[0].number, heads[1].number);
    for (world, known, store) in [(&one, heads[0], &other_store), (&other, heads[1], &one_store)] {
        for _ in 0..2 {
            let refused = world.open(store).map(|_| ());
            assert!(
                matches!(refused, Err(EngineError::Rollback { remembered, .. }) if remembered == known),
                "{refused:?}"
            );
            let options = Options { head: Some(known), ..site.options() };
            let report = verify(store, &options, &Silent).unwrap();
            assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
            assert_eq!(report.findings[0].class, Class::Rollback);
            // That the line goes on changes nothing.
            assert_backup_works(&site.world(), store, "a line that goes on");
        }
    }
    assert_all_whole(site, &site.world(), &one_store, "one line");
    assert_all_whole(site, &site.world(), &other_store, "the other line");
}

/// What someone writes as the next record.
struct Attack<'v> {
    vault: &'v Vault<'v>,
    signing: SigningKey,
}

impl Attack<'_> {
    fn sign(
        &self,
        kind: RecordKind,
        body: Option<(&[u8], DomainId)>,
        edit: impl FnOnce(&mut Public),
    ) -> Vec<u8> {
        record(self.vault, self.vault.state(), kind, &self.signing, body, edit)
    }

    fn details(&self, kind: RecordKind, details: &Details) -> Vec<u8> {
        self.sign(kind, Some((EMPTY_BODY, put_domain())), |public| public.details = details.encode())
    }

    /// A snapshot or progress record of a segment that was stored, both in these domains.
    fn adding(&self, kind: RecordKind, segment: DomainId, body: DomainId) -> Vec<u8> {
        let mut writer = Writer::new(self.vault, segment, 1);
        writer.data(b"planted");
        let (_, segment) = writer.store(self.vault);
        self.sign(kind, Some((EMPTY_BODY, body)), |public| public.segments_added = vec![segment])
    }
}

/// Stores what `make` writes as the next record; it has to be void for `reason`, change nothing, and be in nobody's way.
#[track_caller]
fn check_void(name: &str, reason: &str, make: impl FnOnce(&Attack<'_>) -> Vec<u8>) {
    check_void_of(name, reason, put_signer(), |_| {}, make);
}

#[track_caller]
fn check_void_of(
    name: &str,
    reason: &str,
    signing: SigningKey,
    prepare: impl FnOnce(&mut Vault<'_>),
    make: impl FnOnce(&Attack<'_>) -> Vec<u8>,
) {
    let site = Site::shared();
    let (world, store) = (site.world(), site.store());
    prepare(&mut world.open(&store).unwrap());
    let cache = scratch();
    let cached = World { cache: Some(Cache::new(cache.path())), ..site.world() };
    let (object, before) = {
        let vault = world.open(&store).unwrap();
        let bytes = make(&Attack { vault: &vault, signing });
        (store_as_next(&store, vault.state(), bytes), vault.log.state.clone())
    };
    let after = {
        let vault = world.open(&store).unwrap();
        assert_eq!(vault.log.ineffective.len(), 1, "{name}: {:?}", vault.log.ineffective);
        vault.log.state.clone()
    };
    assert_eq!(after.next, before.next + 1, "{name}");
    assert_eq!(after.slots, before.slots, "{name}");
    assert_eq!(after.segments, before.segments, "{name}");
    assert_eq!(after.signers, before.signers, "{name}");
    assert_eq!(after.snapshots, before.snapshots, "{name}");
    assert_eq!((after.term, after.home, after.minor), (before.term, before.home, before.minor), "{name}");

    drop(cached.open(&store).unwrap());
    let expect_finding = || {
        for report in [site.verify(&store), deep(&world, &store)] {
            let [finding] = &report.findings[..] else { panic!("{name}: {:#?}", report.findings) };
            assert_eq!((finding.class, &finding.object), (Class::Surplus, &object), "{name}");
            assert!(finding.what.contains(&format!("({reason})")), "{name}: {}", finding.what);
            assert!(report.is_intact());
        }
    };
    expect_finding();
    assert_all_whole(site, &world, &store, name);
    for _ in 0..2 {
        assert_backup_works(&world, &store, name);
    }
    expect_finding();
    // Who remembers the void record as the head goes on from it.
    assert_backup_works(&cached, &store, name);
}

#[test]
fn records_beyond_their_signers_role_are_void() {
    let site = Site::shared();
    let ids = || vec![site.snapshots[1].id];
    let key = *signing_key(90).verifying_key().as_bytes();
    let role = |action| Details::Role(action);
    check_void("forget", "role", |by| by.details(RecordKind::Forget, &Details::Snapshots { ids: ids() }));
    check_void("hold", "role", |by| by.details(RecordKind::Hold, &Details::Hold { ids: ids(), held: true }));
    check_void("enrol", "role", |by| {
        let action = RoleAction::Enrol { key, role: Role::Maintainer, domains: Vec::new() };
        by.details(RecordKind::Role, &role(action))
    });
    check_void("revoke", "role", |by| {
        let key = *by.vault.signing_key().unwrap().verifying_key().as_bytes();
        by.details(RecordKind::Role, &role(RoleAction::Revoke { key }))
    });
    check_void("slots", "role", |by| {
        by.sign(RecordKind::Slots, None, |public| {
            public.slots = Some(vec![coffer_format::id::SlotId([1; 32])])
        })
    });
    check_void("handover", "role", |by| {
        by.details(RecordKind::Handover, &Details::Handover { home: [1; 16] })
    });
    check_void("policy", "role", |by| by.details(RecordKind::Policy, &Details::Policy { minor: Some(9) }));
}

#[test]
fn prunes_and_sweeps_of_a_put_signer_are_void() {
    let segments = |vault: &Vault<'_>| vault.state().segments.keys().copied().collect::<Vec<_>>();
    check_void("prune", "role", |by| {
        let base = by.vault.state().next - 1;
        by.sign(RecordKind::Prune, Some((EMPTY_BODY, put_domain())), |public| {
            public.segments_removed = segments(by.vault);
            public.details = Details::Prune { base, orphans: Vec::new() }.encode();
        })
    });
    check_void("sweep", "role", |by| {
        let base = by.vault.state().next - 1;
        by.sign(RecordKind::Sweep, None, |public| {
            let details = Details::Sweep { base, segments: segments(by.vault), packs: Vec::new() };
            public.details = details.encode();
        })
    });
    check_void("a snapshot that removes", "role", |by| {
        by.sign(RecordKind::Snapshot, Some((EMPTY_BODY, put_domain())), |public| {
            public.segments_removed = segments(by.vault);
        })
    });
}

#[test]
fn records_in_anothers_domain_are_void() {
    let owner = DomainId::owner(0);
    for kind in [RecordKind::Snapshot, RecordKind::Progress] {
        check_void("owner's domain", "domain", |by| by.adding(kind, owner, owner));
        check_void("owner's segment", "domain", |by| by.adding(kind, owner, put_domain()));
        check_void("owner's body", "domain", |by| by.adding(kind, put_domain(), owner));
        check_void("a third domain", "domain", |by| by.adding(kind, domain(8), domain(8)));
    }
    check_void("a live segment again", "segment", |by| {
        let live = by.vault.state().segments.iter().find(|(_, live)| live.domain == put_domain()).unwrap();
        let again = SegmentAdded { id: *live.0, len: live.1.len, domain: put_domain() };
        by.sign(RecordKind::Progress, Some((EMPTY_BODY, put_domain())), |public| {
            public.segments_added = vec![again];
        })
    });
}

#[test]
fn records_of_nobody_or_out_of_place_are_void() {
    let put = put_domain();
    let snapshot = |by: &Attack<'_>, edit: &dyn Fn(&mut Public)| {
        by.sign(RecordKind::Snapshot, Some((EMPTY_BODY, put)), edit)
    };
    check_void_of("unknown", "signer", signing_key(91), |_| {}, |by| snapshot(by, &|_| {}));
    let revoke = |vault: &mut Vault<'_>| {
        let key = *put_signer().verifying_key().as_bytes();
        commit_by_owner(vault, RecordKind::Role, &Details::Role(RoleAction::Revoke { key }));
    };
    check_void_of("revoked", "signer", put_signer(), revoke, |by| snapshot(by, &|_| {}));
    check_void_of(
        "in another's name",
        "signature",
        signing_key(91),
        |_| {},
        |by| snapshot(by, &|public| public.signer = *put_signer().verifying_key().as_bytes()),
    );
    check_void("another vault", "foreign", |by| snapshot(by, &|public| public.vault.0[0] ^= 1));
    check_void("another number", "foreign", |by| snapshot(by, &|public| public.number += 1));
    check_void("another chain", "chain", |by| snapshot(by, &|public| public.previous[0] ^= 1));
    check_void("another home", "home", |by| snapshot(by, &|public| public.home = [1; 16]));
    check_void("another term", "term", |by| snapshot(by, &|public| public.term += 1));
    check_void("a later version", "version", |by| snapshot(by, &|public| public.minor += 1));
    check_void("an unknown kind", "kind", |by| snapshot(by, &|public| public.kind = 20));
    check_void("another body", "body", |by| {
        let mut bytes = snapshot(by, &|_| {});
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        bytes
    });
}

#[test]
fn junk_in_place_of_the_next_record_is_void() {
    let max = usize::try_from(RECORD_LEN_MAX).unwrap();
    for len in [0, 1, 100, 5_000] {
        check_void("junk", "malformed", |_| noise(len as u64, len));
    }
    check_void("long junk", "malformed", |_| noise(2, max));
    check_void("oversized junk", "malformed", |_| noise(3, max + 1));
    check_void("a signed record with a tail", "malformed", |by| {
        let mut bytes = by.adding(RecordKind::Progress, put_domain(), put_domain());
        bytes.push(0);
        bytes
    });
}

#[test]
fn junk_far_behind_the_head_blocks_nothing() {
    let site = Site::shared();
    let (world, store) = (site.world(), site.store());
    let far = {
        let vault = world.open(&store).unwrap();
        let body = Some((EMPTY_BODY, put_domain()));
        // Signed by an enrolled signer for its place, but the gap before it is longer than any log.
        record(&vault, vault.state(), RecordKind::Snapshot, &put_signer(), body, |public| {
            public.number = 900_000_000_000;
        })
    };
    let next = format!("log/{:012}", site.head.number + 2);
    let names = ["log/000000009999", "log/999999999999", "log/900000000000", next.as_str()];
    for (name, bytes) in names.iter().zip([noise(1, 100), Vec::new(), far, noise(2, 3_000)]) {
        store.insert_raw(*name, bytes);
    }
    let report = site.verify(&store);
    assert!(report.is_intact() && report.fresh_proved, "{:#?}", report.findings);
    for name in names {
        assert!(report.findings.iter().any(|finding| finding.object == name), "{:#?}", report.findings);
    }
    assert_all_whole(site, &world, &store, "junk behind the head");
    // The second backup finds its number taken, and takes the next.
    for _ in 0..2 {
        assert_backup_works(&world, &store, "junk behind the head");
    }
    let report = site.verify(&store);
    assert!(report.is_intact(), "{:#?}", report.findings);
    assert_eq!(report.counts.void_records, 1);
}

#[test]
fn junk_names_block_nothing() {
    let site = Site::shared();
    let (world, store) = (site.world(), site.store());
    let digits = "ab".repeat(32);
    let residue = [format!("packs/ab/{digits}"), format!("index/{digits}"), "probe/left-over".to_owned()];
    let surplus = [
        format!("slots/{digits}"),
        format!("packs/cd/{digits}"),
        format!("packs/{digits}"),
        format!("index/{}", digits.to_uppercase()),
        "slots/short".to_owned(),
        "index/x".to_owned(),
        "packs/ab/short".to_owned(),
        "log/12".to_owned(),
        "log/-00000000001".to_owned(),
        "log/0000000000001".to_owned(),
        "tmp".to_owned(),
        "tmp/unfinished".to_owned(),
        "vault.old".to_owned(),
        "Vault".to_owned(),
        "foreign name\n".to_owned(),
        "../outside".to_owned(),
        "a//b".to_owned(),
        "n\u{ef}ve".to_owned(),
    ];
    for (name, seed) in residue.iter().chain(&surplus).zip(0..) {
        store.insert_raw(name.as_str(), noise(seed, 70_000 + usize::try_from(seed).unwrap()));
    }
    let check = |context: &str| {
        let report = site.verify(&store);
        assert!(report.is_intact() && report.fresh_proved, "{context}: {:#?}", report.findings);
        let found: Vec<_> = report.findings.iter().map(|finding| finding.object.as_str()).collect();
        let mut expected: Vec<_> = surplus.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{context}");
        let left: Vec<_> = report.residue.iter().map(|item| item.name.as_str()).collect();
        let mut expected: Vec<_> = residue.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(left, expected, "{context}");
    };
    check("junk alone");
    assert_all_whole(site, &world, &store, "junk names");
    assert_backup_works(&world, &store, "junk names");
    check("after a backup");
    assert!(deep(&world, &store).is_intact());
    // Nor is junk mistaken for a pack when the directories of all packs are read.
    for name in site.names("index/") {
        store.remove_raw(name);
    }
    for taken in &site.snapshots {
        assert_eq!(fate_of(&world, &store, taken, "junk and no index"), Fate::Degraded);
    }
}

#[test]
fn what_no_record_names_is_residue() {
    let site = Site::shared();
    let (world, store) = (site.world(), site.store());
    assert_backup_works(&world, &store, "a backup");
    store.remove_raw(&ObjectName::Record(site.head.number + 1).to_string());
    let left = store.names().into_iter().filter(|name| !site.objects.contains_key(name)).collect::<Vec<_>>();
    assert!(left.iter().any(|name| name.starts_with("packs/")), "{left:?}");
    assert!(left.iter().any(|name| name.starts_with("index/")), "{left:?}");
    for report in [site.verify(&store), deep(&world, &store)] {
        assert_eq!(report.findings, []);
        let residue: Vec<_> = report.residue.iter().map(|item| item.name.clone()).collect();
        assert_eq!(residue, left);
        assert_eq!(report.counts.residue_objects, left.len() as u64);
    }
    assert_all_whole(site, &world, &store, "residue");
    assert_backup_works(&world, &store, "residue");
    assert_eq!(site.verify(&store).residue.len(), left.len(), "nothing relies on residue");
}
