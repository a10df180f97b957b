//! What is laid over a record of the owner, after it took effect, by somebody who can make such a record and is not the owner.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use coffer_crypto::SigningKey;
use coffer_engine::{Ack, EngineError, LOCK_DAYS, LOCK_MODE, Replicas, Settings, Vault};
use coffer_format::id::DomainId;
use coffer_format::object::ObjectName;
use coffer_format::policy::encode_policy;
use coffer_format::record::{Details, Public, Record, RecordKind};
use coffer_keys::{RootKey, WriterCredential};
use coffer_store::{MemoryStore, ObjectStore};

use super::{grant, owned};
use crate::replicas::options;
use crate::restore::by_hand::{commit_by_owner, record};
use crate::support::{World, noise, scratch};

/// So many records that a client begins to read behind them.
const MANY: usize = 40;

fn settings(days: &str) -> BTreeMap<String, String> {
    [(LOCK_MODE, "compliance"), (LOCK_DAYS, days)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Has new objects locked for so many days, and says which record that is.
fn lock(owner: &World, store: &dyn ObjectStore, days: &str) -> u64 {
    let mut vault = owner.open(store).unwrap();
    let changes: Vec<_> = settings(days).into_iter().map(|(name, value)| (name, Some(value))).collect();
    Settings::change(&mut vault, &changes).unwrap().1.number
}

/// Records that change nothing, and a checkpoint at which clients begin to read.
fn go_on(owner: &World, store: &dyn ObjectStore) {
    let mut vault = owner.open(store).unwrap();
    for _ in 0..MANY {
        commit_by_owner(&mut vault, RecordKind::Evidence, &Details::Evidence { hash: [1; 32] });
    }
    vault.checkpoint_if_due(1).unwrap().unwrap();
}

fn name(number: u64) -> String {
    ObjectName::Record(number).to_string()
}

/// A policy for the place of the record `good`, that says to lock for a hundred years.
fn policy(
    vault: &Vault<'_>,
    good: &[u8],
    (signing, signer): (&SigningKey, &[u8; 32]),
    domain: DomainId,
) -> Vec<u8> {
    let place = Record::decode(good).unwrap().public;
    let body = encode_policy(&settings("36500"));
    record(vault, vault.state(), RecordKind::Policy, signing, Some((&body, domain)), |public: &mut Public| {
        (public.number, public.previous, public.signer) = (place.number, place.previous, *signer);
        public.details = Details::Policy { minor: None }.encode();
    })
}

/// What takes the place of `good`, of which `older` is an earlier one.
fn forged(
    vault: &Vault<'_>,
    hostile: &WriterCredential,
    good: &[u8],
    older: &[u8],
) -> Vec<(&'static str, Vec<u8>)> {
    let (signing, _) = hostile.keys();
    let owner = vault.signing_key().unwrap();
    let owner_key = *owner.verifying_key().as_bytes();
    let own = vault.owner_domain();
    let record = Record::decode(good).unwrap();
    let other = policy(vault, good, (owner, &owner_key), own);
    let other = Record::decode(&other).unwrap();
    vec![
        ("a writer's", policy(vault, good, (&signing, &hostile.verifying_key()), hostile.domain())),
        ("in the owner's name", policy(vault, good, (&signing, &owner_key), hostile.domain())),
        ("another body", Record::assemble(record.public_bytes, other.body, &record.signature).unwrap()),
        ("an older one", older.to_vec()),
    ]
}

#[track_caller]
fn assert_refused(vault: &Vault<'_>, context: &str) {
    let read = Settings::read(vault);
    assert!(matches!(&read, Err(EngineError::Damaged { .. })), "{context}: {read:?}");
}

#[track_caller]
fn assert_days(vault: &Vault<'_>, days: &str, context: &str) {
    assert_eq!(Settings::read(vault).unwrap().values, settings(days), "{context}");
}

#[test]
fn a_policy_that_no_owner_signed_is_not_applied() {
    let (owner, store) = owned(300);
    let hostile = grant(&owner, &store, "hostile", None);
    let older = lock(&owner, &store, "9");
    let number = lock(&owner, &store, "5");
    let (good, older) = (store.raw(&name(number)).unwrap(), store.raw(&name(older)).unwrap());
    // One that reads from the first record on, and those that begin behind the policy.
    let replayed = owner.open(&store).unwrap();
    go_on(&owner, &store);
    for (what, bytes) in forged(&replayed, &hostile, &good, &older) {
        store.insert_raw(name(number), bytes);
        let mut fresh = owner.open(&store).unwrap();
        assert_eq!(fresh.state().last_policy, Some(number), "{what}: it began behind the policy");
        assert_refused(&replayed, what);
        assert_refused(&fresh, what);
        let changed = Settings::change(&mut fresh, &[("name".to_owned(), Some("value".to_owned()))]);
        assert!(matches!(&changed, Err(EngineError::Damaged { .. })), "{what}: {changed:?}");
        store.insert_raw(name(number), good.clone());
        assert_days(&replayed, "5", what);
        assert_days(&owner.open(&store).unwrap(), "5", what);
    }
}

#[test]
fn where_another_store_has_the_policy_it_is_read_there() {
    let (owner, stores) = (World::new(301), [MemoryStore::new(), MemoryStore::new()].map(Arc::new));
    let open = || {
        let stores = stores.iter().map(|store| Arc::clone(store) as Arc<dyn ObjectStore>);
        Replicas::open(stores.collect(), options(Ack::All)).unwrap()
    };
    let replicas = open();
    replicas.name_stores(&owner.rng).unwrap();
    owner.init(&replicas).unwrap();
    drop(replicas);
    let replicas = open();
    let hostile = grant(&owner, &replicas, "hostile", None);
    let older = lock(&owner, &replicas, "9");
    let number = lock(&owner, &replicas, "5");
    go_on(&owner, &replicas);
    drop(replicas);
    let (good, older) = (stores[0].raw(&name(number)).unwrap(), stores[0].raw(&name(older)).unwrap());
    assert_eq!(stores[1].raw(&name(number)).as_ref(), Some(&good));
    let forged = forged(&owner.open(&*stores[1]).unwrap(), &hostile, &good, &older);
    for (what, bytes) in forged {
        let replicas = open();
        let vault = owner.open(&replicas).unwrap();
        stores[0].insert_raw(name(number), bytes);
        assert_days(&vault, "5", what);
        drop(vault);
        drop(replicas);
        stores[0].insert_raw(name(number), good.clone());
    }
}

/// With the key of an epoch that is over, that is.
#[test]
fn a_policy_by_who_was_the_owner_before_is_not_applied() {
    let (owner, store) = owned(302);
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), noise(1, 900)).unwrap();
    let before = lock(&owner, &store, "9");
    owner.backup(&store, &source).unwrap();
    let old = owner.open(&store).unwrap();
    let mut vault = owner.open(&store).unwrap();
    let roots: [&dyn RootKey; 1] = [&owner.key];
    let plan = vault.plan_rotation(&roots).unwrap();
    vault.rotate(&roots, &plan, true, "a drill").unwrap();
    drop(vault);
    owner.backup(&store, &source).unwrap();
    go_on(&owner, &store);
    let fresh = owner.open(&store).unwrap();
    assert_eq!(fresh.state().last_policy, Some(before));
    assert_days(&fresh, "9", "the old owner's, of its time");

    let number = lock(&owner, &store, "5");
    go_on(&owner, &store);
    let signing = old.signing_key().unwrap();
    let signer = *signing.verifying_key().as_bytes();
    let good = store.raw(&name(number)).unwrap();
    assert_days(&owner.open(&store).unwrap(), "5", "the owner's");
    store.insert_raw(name(number), policy(&old, &good, (signing, &signer), old.owner_domain()));
    assert_refused(&owner.open(&store).unwrap(), "the old owner's, of a later time");
}

/// A writer is called what the owner called it: by that name it is revoked, and others join its domain.
#[test]
fn a_name_that_was_laid_over_that_of_a_writer_is_not_shown() {
    let (owner, store) = owned(303);
    grant(&owner, &store, "honest", None);
    let number = owner.open(&store).unwrap().state().next - 1;
    let good = store.raw(&name(number)).unwrap();
    let genuine = Record::decode(&good).unwrap();
    let mut vault = owner.open(&store).unwrap();
    assert_eq!(vault.writers().unwrap()[0].name.as_deref(), Some("honest"));
    // {1: "other"}
    let body = [0xa1, 1, 0x65, b'o', b't', b'h', b'e', b'r'];
    let (signing, domain) = (vault.signing_key().unwrap(), vault.owner_domain());
    let other = record(&vault, vault.state(), RecordKind::Role, signing, Some((&body, domain)), |public| {
        public.number = number;
    });
    let other = Record::decode(&other).unwrap();
    let bytes = Record::assemble(genuine.public_bytes, other.body, &genuine.signature).unwrap();
    store.insert_raw(name(number), bytes);
    let writers = vault.writers().unwrap();
    assert_eq!((writers.len(), &writers[0].name, writers[0].is_revoked), (1, &None, false), "{writers:?}");
    let refused = vault.revoke_writer("other").unwrap_err();
    assert!(refused.to_string().contains("no writer other"), "{refused}");
}
