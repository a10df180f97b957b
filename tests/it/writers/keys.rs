//! Writers are enrolled, listed and revoked; and what a writer may not do.

use std::fs;

use coffer_crypto::rng::SeededRng;
use coffer_engine::{EngineError, Settings, Vault, WriterOptions};
use coffer_format::log::{Outcome, VoidReason};
use coffer_format::record::RecordKind;
use coffer_format::slot::SlotPurpose;
use coffer_keys::KeyFile;
use coffer_testkit::{RecordingStore, SlowStore};

use super::{Host, fresh_seed, grant, grow, owned};
use crate::restore::by_hand::{EMPTY_BODY, record, store_as_next};
use crate::support::{Quiet, World, assert_clean, assert_restores, deep, keyless, noise, scratch, tree_of};

#[test]
fn writers_are_listed_with_what_the_owner_said_of_them() {
    let (owner, store) = owned(60);
    assert_eq!(owner.open(&store).unwrap().writers().unwrap(), []);
    let first = grant(&owner, &store, "web-1", None);
    let second = grant(&owner, &store, "größe 2", None);
    let third = grant(&owner, &store, "web-3", Some("web-1"));
    owner.open(&store).unwrap().revoke_writer("größe 2").unwrap();
    let mut vault = owner.open(&store).unwrap();
    let writers = vault.writers().unwrap();
    let names: Vec<_> = writers.iter().map(|writer| writer.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["web-1", "größe 2", "web-3"]);
    for (writer, credential) in writers.iter().zip([&first, &second, &third]) {
        assert_eq!((writer.key, writer.host.as_deref()), (credential.verifying_key(), Some("host")));
        assert_eq!(writer.domains, [credential.domain()]);
    }
    assert_eq!(writers[0].enrolled.map(|(number, _)| number), Some(1));
    assert_eq!((writers[1].is_revoked, writers[1].revoked.map(|(number, _)| number)), (true, Some(4)));
    assert!(!writers[0].is_revoked && !writers[2].is_revoked);
    assert_eq!(first.domain(), third.domain());
    assert_ne!(first.domain(), second.domain());
    assert_ne!(first.domain(), vault.owner_domain());
    assert!(keyless(&store).is_clean());
}

#[test]
fn names_and_groups_are_checked_before_anything_is_written() {
    let (owner, store) = owned(61);
    grant(&owner, &store, "web-1", None);
    grant(&owner, &store, "gone", None);
    owner.open(&store).unwrap().revoke_writer("gone").unwrap();
    let recording = RecordingStore::new(&store);
    let mut vault = owner.open(&recording).unwrap();
    for (name, group) in
        [("web-1", None), ("", None), ("a\nb", None), ("new", Some("nobody")), ("new", Some("gone"))]
    {
        let options = WriterOptions { name: name.to_owned(), group: group.map(str::to_owned) };
        assert!(vault.new_writer(&options).is_err(), "{name:?} {group:?}");
    }
    assert!(matches!(vault.revoke_writer("nobody"), Err(EngineError::Invalid { .. })));
    assert!(matches!(vault.revoke_writer("gone"), Err(EngineError::Invalid { .. })));
    assert_eq!(recording.snapshot().written, Vec::<String>::new());
    drop(vault);
    // A name that is free again, and a key in the place of a name.
    let again = grant(&owner, &store, "gone", None);
    let key = coffer_format::id::hex(&again.verifying_key()[..5]);
    let (revoked, _) = owner.open(&store).unwrap().revoke_writer(&key).unwrap();
    assert_eq!(revoked.key, again.verifying_key());
}

#[test]
fn a_revoked_writer_is_told_and_commits_nothing() {
    let (owner, store) = owned(62);
    let host = Host::new(grant(&owner, &store, "web-1", None), 63);
    grow(&host.source());
    host.backup(&store).unwrap();
    let before = tree_of(&host.source());
    // Revoked while a backup is on its way: it was opened before.
    let mut vault = Vault::open_as_writer(host.world.access(&store), &host.credential, None).unwrap();
    owner.open(&store).unwrap().revoke_writer("web-1").unwrap();
    fs::write(host.source().join("late"), noise(1, 900)).unwrap();
    let records = store.names().iter().filter(|name| name.starts_with("log/")).count();
    let refused = coffer_engine::backup(&mut vault, &host.options(), &mut Quiet).map(|_| ());
    assert!(matches!(&refused, Err(EngineError::WriterRevoked { name }) if name == "web-1"), "{refused:?}");
    let refused = host.backup(&store).map(|_| ());
    assert!(matches!(refused, Err(EngineError::WriterRevoked { .. })), "{refused:?}");
    assert_eq!(store.names().iter().filter(|name| name.starts_with("log/")).count(), records);
    // One that does not care stores a record, and it is void.
    let owning = owner.open(&store).unwrap();
    let (signing, _) = host.credential.keys();
    let body = Some((EMPTY_BODY, host.credential.domain()));
    let bytes = record(&owning, owning.state(), RecordKind::Snapshot, &signing, body, |_| {});
    let number = owning.state().next;
    store_as_next(&store, owning.state(), bytes);
    drop(owning);
    let owning = owner.open(&store).unwrap();
    assert_eq!(owning.log.ineffective, [(number, Outcome::Void(VoidReason::Signer))]);
    assert_eq!(owning.state().snapshots.len(), 1, "what it has committed stays");
    assert_restores(&owner, &store, "latest", &before, "from before");
}

#[test]
fn a_credential_of_another_vault_or_unknown_to_the_log_is_refused() {
    let (owner, store) = owned(64);
    let (other, elsewhere) = owned(65);
    let foreign = grant(&other, &elsewhere, "web-1", None);
    let world = World::new(66);
    let refused = Vault::open_as_writer(world.access(&store), &foreign, None).map(|_| ());
    assert!(matches!(refused, Err(EngineError::CredentialOfOther { .. })), "{refused:?}");
    let credential = grant(&owner, &store, "web-1", None);
    let refused = Vault::open_as_writer(world.access(&store), &credential, Some(foreign.vault())).map(|_| ());
    assert!(matches!(refused, Err(EngineError::CredentialOfOther { .. })), "{refused:?}");
    // Made, and never enrolled.
    let vault = owner.open(&store).unwrap();
    let unknown = vault.new_writer(&WriterOptions { name: "web-2".to_owned(), group: None }).unwrap();
    let refused = Vault::open_as_writer(world.access(&store), &unknown, None).map(|_| ());
    assert!(matches!(refused, Err(EngineError::WriterUnknown { .. })), "{refused:?}");
}

#[test]
fn what_is_not_a_backup_is_refused_with_its_name() {
    let (owner, store) = owned(67);
    let host = Host::new(grant(&owner, &store, "web-1", None), 68);
    grow(&host.source());
    host.backup(&store).unwrap();
    let recording = RecordingStore::new(&store);
    let mut vault = Vault::open_as_writer(host.world.access(&recording), &host.credential, None).unwrap();
    let slot = vault.state().slots[0];
    let key = KeyFile::generate(&SeededRng::new(1)).unwrap();
    let options = WriterOptions { name: "mine".to_owned(), group: None };
    let own = Vault::open_as_writer(host.world.access(&store), &host.credential, None).unwrap();
    let refusals: Vec<(&str, Result<(), EngineError>)> = vec![
        ("read snapshots", vault.select("latest").map(|_| ())),
        ("read snapshots", vault.snapshots().pop().unwrap().1.map(|_| ())),
        ("list writers", vault.writers().map(|_| ())),
        ("enrol or revoke writers", vault.new_writer(&options).map(|_| ())),
        ("enrol or revoke writers", vault.enrol_writer(&host.credential, None).map(|_| ())),
        ("enrol or revoke writers", vault.revoke_writer("web-1").map(|_| ())),
        ("make key slots", vault.add_slot(&key, "").map(|_| ())),
        ("make key slots", vault.replace_slot(slot, &key, "").map(|_| ())),
        ("read the settings", Settings::read(&own).map(|_| ())),
        ("read the settings", Settings::change(&mut vault, &[]).map(|_| ())),
    ];
    for (action, outcome) in refusals {
        assert!(
            matches!(&outcome, Err(EngineError::NotAllowed { action: named }) if *named == action),
            "{action}: {outcome:?}"
        );
    }
    assert_eq!(vault.checkpoint_if_due(1).unwrap(), None);
    assert!(vault.domain_keys(&vault.owner_domain()).is_err());
    assert_eq!(recording.snapshot().written, Vec::<String>::new());
}

#[test]
fn a_group_shares_what_it_stores_and_others_do_not() {
    let (owner, store) = owned(69);
    let alone = Host::new(grant(&owner, &store, "alone", None), 70);
    let one = Host::new(grant(&owner, &store, "one", None), 71);
    let two = Host::new(grant(&owner, &store, "two", Some("one")), 72);
    let mut new_bytes = Vec::new();
    for host in [&alone, &one, &two] {
        grow(&host.source());
        new_bytes.push(host.backup(&store).unwrap().manifest.statistics.new_bytes);
    }
    // Each cuts by a key of its own, so that the number of chunks, and with it the tree, differs a little.
    let is_all = |bytes: u64| bytes > 800_000 && bytes.abs_diff(new_bytes[0]) < 2_000;
    assert!(is_all(new_bytes[0]) && is_all(new_bytes[1]), "{new_bytes:?}");
    // Trees have times in them.
    assert!(new_bytes[2] < 200_000, "{new_bytes:?}");
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    grow(&source);
    let own = owner.backup(&store, &source).unwrap().manifest.statistics.new_bytes;
    assert!(is_all(own), "the owner relies on no writer: {own}");
    for (selector, host) in [("latest~3", &alone), ("latest~2", &one), ("latest~1", &two)] {
        assert_restores(&owner, &store, selector, &tree_of(&host.source()), selector);
    }
    let report = deep(&owner, &store);
    assert!(report.is_clean(), "{:?}", report.findings);
}

#[test]
fn a_new_epoch_is_followed_and_ends_a_backup_that_began_before_it() {
    for has_new_domains in [false, true] {
        let (owner, store) = owned(81);
        let host = Host::new(grant(&owner, &store, "web-1", None), 82);
        grow(&host.source());
        let first = host.backup(&store).unwrap();
        let mut early = Vault::open_as_writer(host.world.access(&store), &host.credential, None).unwrap();
        let mut vault = owner.open(&store).unwrap();
        let plan = vault.plan_rotation(&[&owner.key]).unwrap();
        vault.rotate(&[&owner.key], &plan, has_new_domains, "").unwrap();
        drop(vault);
        fs::write(host.source().join("new"), noise(4, 3000)).unwrap();
        let refused = coffer_engine::backup(&mut early, &host.options(), &mut Quiet).map(|_| ());
        assert!(
            matches!(&refused, Err(EngineError::CannotCommit { reason }) if reason.contains("rotated")),
            "{refused:?}"
        );
        let report = host.backup(&store).unwrap();
        assert_eq!(report.manifest.parent, Some(first.snapshot));
        assert!(report.manifest.statistics.new_bytes < 100_000, "its domain is the one it has");
        let mut vault = owner.open(&store).unwrap();
        assert_eq!(vault.state().snapshot(&report.snapshot).unwrap().body.epoch, 1, "sealed to the new key");
        let names: Vec<_> = vault.writers().unwrap().into_iter().map(|writer| writer.name).collect();
        assert_eq!(names, [Some("web-1".to_owned())]);
        drop(vault);
        assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "after the rotation");
        let later = grant(&owner, &store, "web-2", None);
        assert_eq!(later.domain().epoch(), u32::from(has_new_domains));
        let other = Host::new(later, 83);
        grow(&other.source());
        other.backup(&store).unwrap();
        assert_restores(&owner, &store, "latest", &tree_of(&other.source()), "a writer of the new epoch");
        assert_clean(&owner, &store, "after the rotation");
    }
}

#[test]
fn a_rolled_back_log_is_refused() {
    let (owner, store) = owned(73);
    let host = Host::new(grant(&owner, &store, "web-1", None), 74);
    grow(&host.source());
    host.backup(&store).unwrap();
    let before = coffer_testkit::copy::snapshot_of(&store);
    let last = host.backup(&store).unwrap().head;
    let older = coffer_testkit::copy::store_from(before);
    let refused = host.backup(&older).map(|_| ());
    assert!(
        matches!(refused, Err(EngineError::Rollback { remembered, .. }) if remembered == last),
        "{refused:?}"
    );
}

#[test]
fn far_away_a_long_log_is_read_once() {
    let (owner, store) = owned(75);
    let host = Host::new(grant(&owner, &store, "web-1", None), 76);
    grow(&host.source());
    for _ in 0..70 {
        host.backup(&store).unwrap();
    }
    let far = SlowStore::new(store, std::time::Duration::ZERO, 16);
    host.backup(&far).unwrap();
    let first = far.reset();
    assert!(first.gets > 70, "{first:?}");
    for _ in 0..2 {
        host.backup(&far).unwrap();
        let counts = far.reset();
        assert!(counts.gets <= 5 && counts.puts == 1 && counts.stats == 0 && counts.lists <= 2, "{counts:?}");
    }
    // What is kept is signed with the writer's key: altered, it is not believed, and the log is read again.
    let state = fs::read_dir(host.cache().join("vaults")).unwrap().next().unwrap().unwrap().path();
    let state = fs::read_dir(state).unwrap().map(|file| file.unwrap().path());
    let is_log =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("state-");
    let [state] = &state.filter(is_log).collect::<Vec<_>>()[..] else { panic!("one state of the log") };
    let whole = fs::read(state).unwrap();
    for position in [9, 44, 60, whole.len() / 2, whole.len() - 1] {
        let mut altered = whole.clone();
        altered[position] ^= 1;
        fs::write(state, altered).unwrap();
        host.backup(&far).unwrap();
        assert!(far.reset().gets > 60, "altered at {position}");
    }
    // What others commit meanwhile is read, a revocation among it.
    owner.open(far.inner()).unwrap().revoke_writer("web-1").unwrap();
    let refused = host.backup(&far).map(|_| ());
    assert!(matches!(refused, Err(EngineError::WriterRevoked { .. })), "{refused:?}");
}

#[test]
fn a_reader_opens_everything_and_signs_nothing() {
    let (owner, store) = owned(77);
    let host = Host::new(grant(&owner, &store, "web-1", None), 78);
    grow(&host.source());
    host.backup(&store).unwrap();
    let key = KeyFile::generate(&SeededRng::new(79)).unwrap();
    let mut vault = owner.open(&store).unwrap();
    vault.add_slot_for(&key, "auditor", SlotPurpose::ReaderSecret).unwrap();
    let refused = vault.add_slot_for(&owner.key, "", SlotPurpose::ReaderSecret).map(|_| ());
    assert!(matches!(refused, Err(EngineError::Invalid { .. })), "one key for two purposes: {refused:?}");
    drop(vault);
    let auditor = World { key, ..World::new(fresh_seed()) };
    let mut vault = auditor.open(&store).unwrap();
    assert_restores(&auditor, &store, "latest", &tree_of(&host.source()), "by a reader");
    assert_eq!(vault.writers().unwrap().len(), 1);
    assert!(Settings::read(&vault).is_ok());
    let recording = RecordingStore::new(&store);
    let other = KeyFile::generate(&SeededRng::new(80)).unwrap();
    vault.access.store = &recording;
    let slot = vault.state().slots[0];
    for (action, outcome) in [
        ("back up", auditor.backup(&recording, &host.source()).map(|_| ())),
        ("make key slots", vault.add_slot(&other, "").map(|_| ())),
        ("change key slots", vault.revoke_slot(slot).map(|_| ())),
        ("enrol or revoke writers", vault.revoke_writer("web-1").map(|_| ())),
        (
            "change the settings",
            Settings::change(&mut vault, &[("x".to_owned(), Some("y".to_owned()))]).map(|_| ()),
        ),
    ] {
        assert!(
            matches!(&outcome, Err(EngineError::NotAllowed { action: named }) if *named == action),
            "{action}: {outcome:?}"
        );
    }
    assert_eq!(recording.snapshot().written, Vec::<String>::new());
    let slots = owner.open(&store).unwrap().test_slots(&[&auditor.key, &owner.key]).unwrap();
    assert!(slots.iter().all(|status| status.tested == Some(true)), "{slots:?}");
    assert_clean(&owner, &store, "a reader");
}
