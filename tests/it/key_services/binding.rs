//! What binds a ciphertext to its slot: the additional data that the service is given, and the hash inside what is wrapped.

use std::fs;

use coffer_crypto::{Argon2Params, Rng, Secret, SecretBytes};
use coffer_format::slot::{Slot, SlotKind};
use coffer_ibm::ServiceRoot;
use coffer_keys::{KeyError, Passphrase, RootKey};
use coffer_sandbox::{AadMode, KmsKind};

use super::{Desk, RECOVERY, WRONG_KEY, root_key, slot_of};

/// The slot of a key service, and its bytes.
fn slot_in(desk: &Desk) -> Slot {
    let id = slot_of(desk, RECOVERY);
    let mut paths = fs::read_dir(desk.path("vault/slots")).unwrap().map(|entry| entry.unwrap().path());
    let path = paths.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&id)).unwrap();
    Slot::decode(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_ciphertext_opens_with_its_own_context_alone() {
    let desk = Desk::new();
    let key = desk.instance(KmsKind::KeyProtect, None);
    desk.init(&key);
    let slot = slot_in(&desk);
    let ciphertext = String::from_utf8(slot.wrapped.clone()).unwrap();
    let good = coffer_format::id::hex(&coffer_crypto::hash::hash(&slot.context()));
    let unwrap = |aad: &str| {
        let body = format!(r#"{{"ciphertext":"{ciphertext}","aad":[{aad}]}}"#);
        desk.ask(&key.0, "POST", &format!("/api/v2/keys/{}/actions/unwrap", key.1), &body)
    };
    unwrap(&format!("\"{good}\"")).unwrap();
    for wrong in ["", "\"00\"", &format!("\"{good}\",\"\"")] {
        assert_eq!(unwrap(wrong).unwrap_err().status(), Some(422), "{wrong}");
    }
}

/// A root key whose slots hold the ciphertext of another slot: what somebody with the vault key commits who moves it there.
struct Moved {
    root: ServiceRoot,
    ciphertext: Vec<u8>,
    key: Secret<32>,
}

impl RootKey for Moved {
    fn kind_name(&self) -> &'static str {
        self.root.kind_name()
    }

    fn may_open(&self, slot: &Slot) -> bool {
        self.root.may_open(slot)
    }

    fn new_kind(&self, rng: &dyn Rng) -> Result<SlotKind, KeyError> {
        self.root.new_kind(rng)
    }

    fn wrap(&self, mut slot: Slot, _: &Secret<32>, _: &dyn Rng) -> Result<Slot, KeyError> {
        slot.wrapped.clone_from(&self.ciphertext);
        Ok(slot)
    }

    fn unwrap(&self, _: &Slot) -> Result<Secret<32>, KeyError> {
        Ok(Secret::new(*self.key.expose()))
    }
}

#[test]
fn a_ciphertext_that_was_moved_to_another_slot_does_not_open_there() {
    // Key Protect refuses the additional data; a service that ignores them unwraps, and the binding inside does not fit.
    let refused = "the root key does not open this slot";
    let ignored = "none of the vault's 2 slots (passphrase, HPCS) opens with this key service (1 tried)";
    for (kind, mode, said) in [
        (KmsKind::KeyProtect, AadMode::Honoured, refused),
        (KmsKind::Hpcs, AadMode::Honoured, refused),
        (KmsKind::Hpcs, AadMode::Ignored, ignored),
    ] {
        let desk = Desk::new();
        desk.region.switch(|switches| switches.kms_aad = mode).unwrap();
        let key = desk.instance(kind, None);
        let good = desk.init(&key);
        let phrase = SecretBytes::new(fs::read(desk.path("recovery")).unwrap());
        let phrase = Passphrase::new(phrase, Argon2Params::FLOOR).unwrap();
        let store = coffer_store::LocalStore::open(desk.path("vault")).unwrap();
        let world = super::super::support::World::new(1);
        let mut vault = coffer_engine::Vault::open(world.access(&store), &phrase, None).unwrap();
        let moved = Moved {
            root: root_key(&desk, &key).0,
            ciphertext: slot_in(&desk).wrapped,
            key: Secret::new(*vault.keyring.vault_key().unwrap().expose()),
        };
        let (id, _) = vault.add_slot(&moved, "moved").unwrap();

        let tested = desk.run("keys test --json").expect(20).value();
        let slots = tested["slots"].as_array().unwrap();
        let opens = |id: &str| slots.iter().find(|slot| slot["id"] == id).unwrap()["tested"].clone();
        assert_eq!((opens(&good), opens(&id.to_string())), (true.into(), false.into()), "{tested}");
        desk.run(&format!("{RECOVERY} keys revoke {}", &good[..8])).expect(0);
        desk.run("snapshots").expect(WRONG_KEY).says(said).says("hint: ");
        desk.run(&format!("{RECOVERY} snapshots")).expect(0);
    }
}
