use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Argon2Params, CryptoError, SecretBytes, hash, wrap};
use coffer_format::cbor::Encoder;
use coffer_format::slot::{KeyServiceKind, ServiceKey, TokenKey};
use proptest::prelude::*;

use super::*;
use crate::{KeyFile, Passphrase};

const VAULT: VaultId = VaultId([7; 32]);
const OTHER_VAULT: VaultId = VaultId([8; 32]);

#[derive(Clone)]
struct SlotFacts {
    vault: VaultId,
    epoch: u32,
    purpose: SlotPurpose,
    label: String,
    created_s: i64,
}

fn make_with(
    root: &dyn RootKey,
    facts: SlotFacts,
    key: &Secret<32>,
    seed: u64,
) -> Result<(SlotId, Vec<u8>, Slot), KeyError> {
    let SlotFacts { vault, epoch, purpose, label, created_s } = facts;
    make_slot(root, vault, epoch, purpose, &label, created_s, key, &SeededRng::new(seed))
}

fn facts() -> SlotFacts {
    SlotFacts {
        vault: VAULT,
        epoch: 3,
        purpose: SlotPurpose::VaultKey,
        label: "safe".to_owned(),
        created_s: 1_700_000_000,
    }
}

fn key() -> Secret<32> {
    Secret::new([0x5a; 32])
}

fn key_file(seed: u64) -> KeyFile {
    KeyFile::generate(&SeededRng::new(seed)).unwrap()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(SecretBytes::from(text.to_owned()), Argon2Params::FLOOR).unwrap()
}

fn make(root: &dyn RootKey, facts: SlotFacts, seed: u64) -> (SlotId, Slot) {
    let (id, bytes, slot) = make_with(root, facts, &key(), seed).unwrap();
    assert_eq!(Slot::id(&bytes), id);
    assert_eq!(Slot::decode(&bytes).unwrap(), slot);
    (id, slot)
}

/// Kinds that neither a key file nor a passphrase opens.
fn other_kinds() -> [SlotKind; 4] {
    let service = |service| {
        SlotKind::Service(ServiceKey {
            service,
            endpoint: "https://kms.example".to_owned(),
            instance: "instance".to_owned(),
            key: "key".to_owned(),
            crn: None,
            version: None,
            region: None,
            ring: None,
        })
    };
    let token = TokenKey {
        token_label: "token".to_owned(),
        token_serial: "1".to_owned(),
        label: "key".to_owned(),
        id: vec![1],
        mechanism: 0x1087,
        iv: Some(vec![0; 12]),
        mac: None,
        salt: None,
    };
    [
        service(KeyServiceKind::KeyProtect),
        service(KeyServiceKind::Hpcs),
        SlotKind::Token(token),
        service(KeyServiceKind::Local),
    ]
}

fn is_wrong_key<T>(result: Result<T, KeyError>) -> bool {
    matches!(result, Err(KeyError::WrongKey { .. }))
}

/// What holds for every root key; `other` is another one of the same kind.
fn check_root_key(root: &dyn RootKey, other: &dyn RootKey) {
    let (_, slot) = make(root, facts(), 10);
    assert_eq!(root.kind_name(), slot.kind.name());
    assert!(root.may_open(&slot));
    assert_eq!(open_slot(&slot, VAULT, root).unwrap(), key());
    assert!(is_wrong_key(open_slot(&slot, OTHER_VAULT, root)));
    assert!(is_wrong_key(open_slot(&slot, VAULT, other)));
    // Two slots for the same key have nothing in common that is drawn at random.
    let (_, again) = make(root, facts(), 11);
    assert_ne!(again.salt, slot.salt);
    assert_ne!(again.commitment, slot.commitment);
    assert_ne!(again.wrapped, slot.wrapped);
    // A rewrap of a template keeps what it says.
    let rewrapped = root.wrap(slot.clone(), &key(), &SeededRng::new(12)).unwrap();
    assert_eq!((&rewrapped.label, rewrapped.epoch), (&slot.label, slot.epoch));
    assert_ne!(rewrapped.salt, slot.salt);
    assert_eq!(root.unwrap(&rewrapped).unwrap(), key());
}

#[test]
fn key_file_is_a_root_key() {
    check_root_key(&key_file(1), &key_file(2));
}

#[test]
fn passphrase_is_a_root_key() {
    check_root_key(&passphrase("correct horse"), &passphrase("correct horse "));
}

#[test]
fn kinds_do_not_open_each_other() {
    let (file, phrase) = (key_file(1), passphrase("a"));
    let (_, of_file) = make(&file, facts(), 10);
    let (_, of_phrase) = make(&phrase, facts(), 11);
    assert!(!phrase.may_open(&of_file) && !file.may_open(&of_phrase) && !key_file(2).may_open(&of_file));
    assert!(is_wrong_key(phrase.unwrap(&of_file)));
    assert!(is_wrong_key(file.unwrap(&of_phrase)));
    for (root, slot) in [(&phrase as &dyn RootKey, &of_file), (&file, &of_phrase), (&key_file(2), &of_file)] {
        let result = root.wrap(slot.clone(), &key(), &SeededRng::new(12));
        assert!(matches!(result, Err(KeyError::Kind { .. })));
    }
}

#[test]
fn slots_of_other_kinds_stay_closed() {
    let root = key_file(1);
    for kind in other_kinds() {
        let mut slot = Slot::unwrapped(VAULT, 0, SlotPurpose::VaultKey, kind, String::new(), 0);
        assert!(!root.may_open(&slot) && !passphrase("a").may_open(&slot));
        assert!(is_wrong_key(root.unwrap(&slot)));
        (slot.salt, slot.commitment) = (Some([0; 32]), Some([0; 32]));
        assert!(is_wrong_key(root.unwrap(&slot)));
        assert!(is_wrong_key(passphrase("a").unwrap(&slot)));
    }
}

#[test]
fn every_field_is_bound() {
    let root = key_file(1);
    let (_, slot) = make(&root, facts(), 10);
    let alterations: &[fn(&mut Slot)] = &[
        |slot| slot.vault = OTHER_VAULT,
        |slot| slot.epoch = 2,
        |slot| slot.purpose = SlotPurpose::ReaderSecret,
        |slot| slot.kind = SlotKind::KeyFile { key_id: [0; 8] },
        |slot| slot.kind = other_kinds()[0].clone(),
        |slot| slot.label.push('!'),
        |slot| slot.label.clear(),
        |slot| slot.created_s += 1,
        |slot| slot.salt = None,
        |slot| slot.commitment = None,
        |slot| slot.wrapped.clear(),
        |slot| slot.wrapped.push(0),
        |slot| slot.wrapped.truncate(79),
    ];
    for (number, alter) in alterations.iter().enumerate() {
        let mut altered = slot.clone();
        alter(&mut altered);
        assert!(is_wrong_key(root.unwrap(&altered)), "alteration {number}");
    }
    for byte in 0..32 {
        let mut altered = slot.clone();
        altered.salt.as_mut().unwrap()[byte] ^= 1;
        assert!(is_wrong_key(root.unwrap(&altered)));
        let mut altered = slot.clone();
        altered.commitment.as_mut().unwrap()[byte] ^= 1;
        assert!(is_wrong_key(root.unwrap(&altered)));
    }
    for byte in 0..slot.wrapped.len() {
        let mut altered = slot.clone();
        altered.wrapped[byte] ^= 1;
        assert!(is_wrong_key(root.unwrap(&altered)));
    }
}

#[test]
fn keys_that_this_version_does_not_know_are_bound() {
    let root = key_file(1);
    let (_, slot) = make(&root, facts(), 10);
    let mut bytes = slot.encode();
    assert_eq!(bytes[0], 0xaa, "a map of ten keys");
    bytes[0] = 0xab;
    let mut value = Encoder::new();
    value.uint(11);
    value.text("later");
    bytes.extend_from_slice(&value.finish());
    let extended = Slot::decode(&bytes).unwrap();
    assert!(is_wrong_key(root.unwrap(&extended)), "the slot was made without the key");
    let wrapped = root.wrap(extended, &key(), &SeededRng::new(11)).unwrap();
    let read_back = Slot::decode(&wrapped.encode()).unwrap();
    assert_eq!(root.unwrap(&read_back).unwrap(), key());
}

#[test]
fn parameters_of_a_passphrase_are_bound() {
    let root = passphrase("a");
    let (_, slot) = make(&root, facts(), 10);
    let SlotKind::Passphrase { memory_kib, passes, lanes, salt } = slot.kind.clone() else {
        panic!("a passphrase slot");
    };
    let mut other_salt = salt;
    other_salt[15] ^= 1;
    for kind in [
        SlotKind::Passphrase { memory_kib: memory_kib + 64, passes, lanes, salt },
        SlotKind::Passphrase { memory_kib, passes: passes + 1, lanes, salt },
        SlotKind::Passphrase { memory_kib, passes, lanes: lanes + 1, salt },
        SlotKind::Passphrase { memory_kib, passes, lanes, salt: other_salt },
    ] {
        let mut altered = slot.clone();
        altered.kind = kind;
        assert!(is_wrong_key(root.unwrap(&altered)));
    }
    let mut altered = slot;
    altered.label.clear();
    assert!(is_wrong_key(root.unwrap(&altered)));
}

/// The second half of the plaintext is checked by itself: for kinds whose service binds no context it is all there is.
#[test]
fn the_hash_of_the_context_is_checked() {
    let (root, secret) = (key_file(1), Secret::generate(&SeededRng::new(1)).unwrap());
    let (_, mut slot) = make(&root, facts(), 10);
    let (kek, _) = wrap::slot_keys(&secret, &slot.salt.unwrap(), &VAULT.0);
    let context = slot.context();
    let mut plain = [0x5a; 64];
    plain[32..].copy_from_slice(&hash::hash(&context));
    slot.wrapped = wrap::wrap(&kek, &context, &plain);
    assert_eq!(root.unwrap(&slot).unwrap(), key(), "so far the same slot");
    let mut other = plain;
    other[63] ^= 1;
    slot.wrapped = wrap::wrap(&kek, &context, &other);
    assert!(is_wrong_key(root.unwrap(&slot)));
    slot.wrapped = wrap::wrap(&kek, b"", &plain);
    assert!(is_wrong_key(root.unwrap(&slot)));
}

#[test]
fn a_cost_outside_the_limits_is_refused_before_the_work() {
    let cost = Argon2Params { memory_kib: u32::MAX, passes: u32::MAX, lanes: u32::MAX };
    let result = Passphrase::new(SecretBytes::from("a".to_owned()), cost);
    assert!(matches!(result, Err(KeyError::Crypto(CryptoError::Argon2Param { .. }))));
    let root = passphrase("a");
    for (memory_kib, passes, lanes) in
        [(65_535, 3, 4), (4_194_305, 3, 4), (65_536, 2, 4), (65_536, 17, 4), (65_536, 3, 0), (65_536, 3, 17)]
    {
        let kind = SlotKind::Passphrase { memory_kib, passes, lanes, salt: [0; 16] };
        let mut slot = Slot::unwrapped(VAULT, 0, SlotPurpose::VaultKey, kind, String::new(), 0);
        let wrapped = root.wrap(slot.clone(), &key(), &SeededRng::new(1));
        assert!(matches!(wrapped, Err(KeyError::Crypto(CryptoError::Argon2Param { .. }))));
        (slot.salt, slot.commitment) = (Some([0; 32]), Some([0; 32]));
        assert!(matches!(root.unwrap(&slot), Err(KeyError::Crypto(CryptoError::Argon2Param { .. }))));
        let refused = try_slots(&[(SlotId([0; 32]), slot)], VAULT, &root).unwrap_err();
        assert!(refused.to_string().contains("; slot 00000000 (passphrase): argon2id "), "{refused}");
    }
}

#[test]
fn passphrases_are_text() {
    let new = |bytes: &[u8]| Passphrase::new(SecretBytes::new(bytes.to_vec()), Argon2Params::FLOOR);
    assert!(matches!(new(b""), Err(KeyError::PassphraseEmpty)));
    assert!(matches!(new(b"a\xff"), Err(KeyError::PassphraseEncoding)));
    assert!(new("ü ".as_bytes()).is_ok());
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", passphrase("hunter2"));
    assert!(
        shown.starts_with("Passphrase { cost: Fixed(Argon2Params") && !shown.contains("hunter2"),
        "{shown}"
    );
    let root = key_file(1);
    let slots = [make(&root, facts(), 10)];
    let opened = try_slots(&slots, VAULT, &root).unwrap();
    assert!(format!("{opened:?}").ends_with(", Secret)"));
}

#[test]
fn long_labels_are_refused() {
    let root = key_file(1);
    let with_label = |len: usize| SlotFacts { label: "ü".repeat(len / 2), ..facts() };
    make(&root, with_label(256), 10);
    let result = make_with(&root, with_label(258), &key(), 10);
    assert!(matches!(result, Err(KeyError::Format(_))));
}

#[test]
fn the_newest_epoch_and_the_vault_key_come_first() {
    let root = key_file(1);
    let slot = |epoch, purpose, seed| make(&root, SlotFacts { epoch, purpose, ..facts() }, seed);
    let slots = [
        slot(0, SlotPurpose::VaultKey, 10),
        slot(1, SlotPurpose::ReaderSecret, 11),
        slot(1, SlotPurpose::VaultKey, 12),
        make(&key_file(2), SlotFacts { epoch: 2, ..facts() }, 13),
    ];
    let opened = try_slots(&slots, VAULT, &root).unwrap();
    assert_eq!(opened, (slots[2].0, &slots[2].1, key()));
    assert_eq!(try_slots(&slots[..2], VAULT, &root).unwrap().0, slots[1].0);
    assert_eq!(try_slots(&slots[..1], VAULT, &root).unwrap().0, slots[0].0);
}

#[test]
fn a_damaged_slot_does_not_hide_another() {
    let root = key_file(1);
    let (mut damaged, good) = (make(&root, facts(), 10), make(&root, facts(), 11));
    damaged.1.wrapped[0] ^= 1;
    let slots = [damaged, good];
    assert_eq!(try_slots(&slots, VAULT, &root).unwrap().0, slots[1].0);
}

#[test]
fn a_costly_slot_does_not_hide_another() {
    let root = passphrase("a");
    let mut costly = make(&root, facts(), 10);
    if let SlotKind::Passphrase { passes, .. } = &mut costly.1.kind {
        *passes = 0; // Sorted first, and refused.
    }
    let slots = [make(&root, facts(), 11), costly];
    assert_eq!(try_slots(&slots, VAULT, &root).unwrap().0, slots[0].0);
}

#[test]
fn the_error_says_what_there_was_to_try() {
    let phrase = passphrase("a");
    let slots =
        [make(&phrase, facts(), 10), make(&key_file(1), facts(), 11), make(&key_file(2), facts(), 12)];
    // Each slot that was tried is told, with what it answered.
    let tried = |(id, slot): &(SlotId, Slot)| {
        format!("slot {} ({}): the key does not fit", id.short(), slot.kind.name())
    };
    let check = |slots: &[(SlotId, Slot)], vault, root: &dyn RootKey, expected: &str| {
        let error = try_slots(slots, vault, root).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(std::error::Error::source(&error).is_none());
    };
    check(&[], VAULT, &key_file(3), "vault has no key slots");
    let expected = "none of the vault's 3 slots (passphrase, key file) is one for this key file";
    check(&slots, VAULT, &key_file(3), expected);
    let expected = "none of the vault's 3 slots (passphrase, key file) opens with this passphrase (1 tried)";
    check(&slots, VAULT, &passphrase("b"), &format!("{expected}; {}", tried(&slots[0])));
    let expected = "none of the vault's 3 slots (passphrase, key file) opens with this key file (1 tried)";
    check(&slots, OTHER_VAULT, &key_file(1), &format!("{expected}; {}", tried(&slots[1])));
    let expected = "the vault's only slot (key file) does not open with this passphrase";
    check(&slots[1..2], VAULT, &phrase, expected);
}

proptest! {
    #[test]
    fn every_slot_opens_as_it_was_made(
        seed: u64, vault: [u8; 32], epoch: u32, reader: bool, label in "\\PC{0,60}", created_s: i64, secret: [u8; 32],
    ) {
        let root = key_file(seed);
        let purpose = if reader { SlotPurpose::ReaderSecret } else { SlotPurpose::VaultKey };
        let facts = SlotFacts { vault: VaultId(vault), epoch, purpose, label, created_s };
        let secret = Secret::new(secret);
        let (id, bytes, slot) = make_with(&root, facts.clone(), &secret, !seed).unwrap();
        let slots = [(id, slot)];
        let opened = try_slots(&slots, facts.vault, &root).unwrap();
        prop_assert_eq!(&opened.2, &secret);
        prop_assert_eq!(
            (opened.1.epoch, opened.1.purpose, &opened.1.label, opened.1.created_s),
            (facts.epoch, facts.purpose, &facts.label, facts.created_s)
        );
        prop_assert!(!bytes.windows(32).any(|window| window == secret.expose()));
    }

    #[test]
    fn no_altered_byte_goes_unnoticed(position in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let root = key_file(1);
        let (_, slot) = make(&root, facts(), 10);
        let mut bytes = slot.encode();
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        if let Ok(altered) = Slot::decode(&bytes) {
            prop_assert!(is_wrong_key(root.unwrap(&altered)));
        }
    }
}
