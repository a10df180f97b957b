//! Slots that lead to a service or a token: asked when the log names them, and not before.

use std::fs;
use std::sync::Mutex;

use coffer_crypto::{Rng, Secret};
use coffer_engine::{EngineError, InitOptions, Vault, init};
use coffer_format::header::StoreMode;
use coffer_format::id::{SlotId, VaultId};
use coffer_format::object::ObjectName;
use coffer_format::slot::{KeyServiceKind, ServiceKey, Slot, SlotKind, SlotPurpose, TokenKey};
use coffer_keys::{KeyError, RootKey, make_slot};
use coffer_store::{MemoryStore, ObjectKey, ObjectStore};

use super::super::support::{SMALL_CHUNKS, World, clone_of, scratch};
use super::logs::add_snapshots;
use super::{far, grow};

/// Kinds whose slots name whom to ask.
const KINDS: [u64; 4] = [3, 4, 5, 7];

fn kind_of(number: u64) -> SlotKind {
    let name = || "a".to_owned();
    let service = match number {
        3 => KeyServiceKind::KeyProtect,
        4 => KeyServiceKind::Hpcs,
        7 => KeyServiceKind::Local,
        _ => {
            let (iv, mac, salt) = (None, None, None);
            let (token_label, token_serial, label, id) = (name(), name(), name(), vec![1]);
            return SlotKind::Token(TokenKey {
                token_label,
                token_serial,
                label,
                id,
                mechanism: 0x1087,
                iv,
                mac,
                salt,
            });
        }
    };
    let (endpoint, instance, key) = (name(), name(), name());
    let (crn, version, region, ring) = (None, None, None, None);
    SlotKind::Service(ServiceKey { service, endpoint, instance, key, crn, version, region, ring })
}

/// A service that opens every slot of a kind, and writes down which.
pub(crate) struct Service {
    kind: u64,
    asked: Mutex<Vec<SlotId>>,
}

impl Service {
    pub(crate) fn new(kind: u64) -> Self {
        Self { kind, asked: Mutex::default() }
    }

    /// What it was asked to open since the last time.
    fn asked(&self) -> Vec<SlotId> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl RootKey for Service {
    fn kind_name(&self) -> &'static str {
        "service"
    }

    fn may_open(&self, slot: &Slot) -> bool {
        slot.kind.number() == self.kind
    }

    fn new_kind(&self, _: &dyn Rng) -> Result<SlotKind, KeyError> {
        Ok(kind_of(self.kind))
    }

    fn wrap(&self, mut slot: Slot, key: &Secret<32>, _: &dyn Rng) -> Result<Slot, KeyError> {
        slot.wrapped = key.expose().iter().map(|byte| byte ^ 0x5a).collect();
        Ok(slot)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        self.asked.lock().unwrap().push(Slot::id(&slot.encode()));
        Ok(Secret::new(std::array::from_fn(|at| slot.wrapped[at] ^ 0x5a)))
    }
}

/// Puts a slot into the store that no record names, of an epoch that would be tried first.
fn plant(store: &MemoryStore, vault: VaultId, service: &Service, world: &World) -> SlotId {
    let (key, purpose) = (Secret::new([7; 32]), SlotPurpose::VaultKey);
    let (id, bytes, _) = make_slot(service, vault, 9, purpose, "planted", 0, &key, &world.rng).unwrap();
    store.put_if_absent(&ObjectKey::new(ObjectName::Slot(id).to_string()).unwrap(), &bytes).unwrap();
    id
}

#[test]
fn no_service_is_asked_before_the_log_names_the_slot() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 3);
    for kind in KINDS {
        let (near, world, service) = (MemoryStore::new(), World::new(60 + kind), Service::new(kind));
        let vault_id = world.init(&near).unwrap();
        let (slot, _) = world.open(&near).unwrap().add_slot(&service, "service").unwrap();
        // What was wrapped is unwrapped once.
        assert_eq!(service.asked(), [slot], "kind {kind}, made");
        add_snapshots(&world, &near, &source, 40, 16);
        let planted = plant(&near, vault_id, &service, &world);
        let opens = |host: &World, store: &dyn ObjectStore, what: &str| {
            let opened = Vault::open(host.access(store), &service, None).unwrap().opened_by;
            assert_eq!((opened, service.asked()), (slot, vec![slot]), "kind {kind}, {what}");
        };
        opens(&world, &near, "near, with a checkpoint");
        let store = far(clone_of(&near), 0);
        opens(&world, &store, "far, with a checkpoint");

        // A record that is lost makes slots worth trying that the log does not name, but not these.
        let damaged = clone_of(&near);
        damaged.remove_raw("log/000000000005").unwrap();
        opens(&world, &damaged, "near, damaged");
        opens(&world, &far(damaged, 0), "far, damaged");

        let cache = place.path().join(format!("cache-{kind}"));
        let host = World::with_cache(60 + kind, &cache);
        opens(&host, &store, "nothing kept");
        opens(&host, &store, "state kept");
        // Who can write to the memory of this machine does not choose whom it asks.
        let path = cache.join("vaults").join(vault_id.to_string()).join("state");
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        assert_eq!(changed[8..40], slot.0);
        changed[8..40].copy_from_slice(&planted.0);
        fs::write(&path, changed).unwrap();
        opens(&host, &store, "another slot kept");

        // One that was revoked meanwhile is not tried.
        fs::write(&path, whole).unwrap();
        world.open(store.inner()).unwrap().revoke_slot(slot).unwrap();
        let refused = Vault::open(host.access(&store), &service, None);
        assert!(matches!(refused, Err(EngineError::Key(_))), "kind {kind}");
        assert_eq!(service.asked(), [], "kind {kind}, revoked");
    }
}

#[test]
fn completing_a_vault_asks_no_service_that_was_planted() {
    for kind in KINDS {
        let (store, world, service) = (MemoryStore::new(), World::new(70 + kind), Service::new(kind));
        let vault_id = world.init(&store).unwrap();
        store.remove_raw("log/000000000000").unwrap();
        let planted = plant(&store, vault_id, &service, &world);
        let roots: [(&dyn RootKey, String); 2] = [(&world.key, String::new()), (&service, String::new())];
        let options = InitOptions { chunker: SMALL_CHUNKS, store_mode: StoreMode::ConditionalCreate };
        assert_eq!(init(&world.access(&store), &roots, &options).unwrap().vault, vault_id);
        let asked = service.asked();
        let opened = Vault::open(world.access(&store), &service, None).unwrap().opened_by;
        assert!(opened != planted && asked.iter().all(|slot| *slot == opened), "kind {kind}: {asked:?}");
        assert_eq!(service.asked(), [opened], "kind {kind}");
    }
}
