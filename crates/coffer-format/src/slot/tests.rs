use proptest::prelude::*;

use super::*;
use crate::support::{cases, map, with};
use crate::testing::{check, check_cut};

fn decode(bytes: &[u8]) -> Result<(), FormatError> {
    Slot::decode(bytes).map(drop)
}

#[test]
fn every_case() {
    check(&cases::slot(), |_, bytes| decode(bytes));
    check_cut(&cases::slot(), |_, bytes| decode(bytes));
}

#[test]
fn what_is_read_is_written_alike() {
    for case in cases::slot().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(Slot::decode(&case.bytes).unwrap().encode(), case.bytes, "{}", case.name);
    }
}

#[test]
fn the_context_is_the_map_without_keys_9_and_10() {
    let fields = with(&cases::slot_fields(), 11, Some(vec![0xf5]));
    let slot = Slot::decode(&map(&fields)).unwrap();
    assert_eq!(slot.context(), map(&with(&with(&fields, 9, None), 10, None)));
    let mut other = slot.clone();
    other.label.push('x');
    assert_ne!(other.context(), slot.context());
}

#[test]
fn kinds_have_numbers_and_names() {
    let names = [
        "passphrase",
        "key file",
        "Key Protect",
        "HPCS",
        "PKCS#11 token",
        "recovery shares",
        "local key service",
    ];
    assert_eq!(SlotKind::Passphrase { memory_kib: 1, passes: 1, lanes: 1, salt: [0; 16] }.name(), names[0]);
    assert_eq!(SlotKind::KeyFile { key_id: [0; 8] }.name(), names[1]);
    let shares = SlotKind::Shares { set_id: [0; 8], threshold: 2, digests: vec![[0; 16]; 3] };
    assert_eq!((shares.number(), shares.name()), (6, names[5]));
    let token = SlotKind::Token(token_key());
    assert_eq!((token.number(), token.name()), (5, names[4]));
    for service in [KeyServiceKind::KeyProtect, KeyServiceKind::Hpcs, KeyServiceKind::Local] {
        let kind = SlotKind::Service(service_key(service, None));
        assert_eq!(kind.name(), names[usize::try_from(kind.number()).unwrap() - 1]);
    }
}

fn service_key(service: KeyServiceKind, more: Option<String>) -> ServiceKey {
    ServiceKey {
        service,
        endpoint: "https://eu-de.kms.cloud.ibm.com".into(),
        instance: "11111111-2222-3333-4444-555555555555".into(),
        key: "66666666-7777-8888-9999-000000000000".into(),
        crn: more.clone(),
        version: None,
        region: Some("eu-de".into()),
        ring: more,
    }
}

fn token_key() -> TokenKey {
    TokenKey {
        token_label: "backup".into(),
        token_serial: "1f9d".into(),
        label: "coffer".into(),
        id: vec![1],
        mechanism: 0x1085,
        iv: Some(vec![2; 16]),
        mac: Some([3; 32]),
        salt: None,
    }
}

/// Neither can cover itself; tag and MAC bind them instead.
#[test]
fn the_context_of_a_token_is_without_iv_and_mac() {
    let slot = |key| {
        let kind = SlotKind::Token(key);
        Slot::unwrapped(VaultId([1; 32]), 0, SlotPurpose::VaultKey, kind, String::new(), 0)
    };
    let bare = TokenKey { iv: None, mac: None, ..token_key() };
    assert_eq!(slot(bare.clone()).context(), slot(token_key()).context());
    assert_ne!(slot(bare.clone()).encode(), slot(token_key()).encode());
    for other in [
        TokenKey { token_label: String::new(), ..bare.clone() },
        TokenKey { token_serial: String::new(), ..bare.clone() },
        TokenKey { label: String::new(), ..bare.clone() },
        TokenKey { id: vec![], ..bare.clone() },
        TokenKey { mechanism: 0x1087, ..bare.clone() },
        TokenKey { salt: Some([4; 16]), ..bare.clone() },
    ] {
        assert_ne!(slot(other).context(), slot(bare.clone()).context());
    }
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let kind = prop_oneof![
        (any::<u32>(), any::<u32>(), any::<u32>(), any::<[u8; 16]>()).prop_map(
            |(memory_kib, passes, lanes, salt)| SlotKind::Passphrase { memory_kib, passes, lanes, salt }
        ),
        any::<[u8; 8]>().prop_map(|key_id| SlotKind::KeyFile { key_id }),
        (any::<[u8; 8]>(), 2u8..9, 0u8..9).prop_map(|(set_id, threshold, more)| SlotKind::Shares {
            set_id,
            threshold,
            digests: (0..threshold + more).map(|number| [number; 16]).collect(),
        }),
        (any::<u64>(), any::<[bool; 3]>(), proptest::collection::vec(any::<u8>(), 1..17)).prop_map(
            |(mechanism, [has_iv, has_mac, has_salt], iv)| {
                SlotKind::Token(TokenKey {
                    mechanism,
                    iv: has_iv.then_some(iv),
                    mac: has_mac.then_some([7; 32]),
                    salt: has_salt.then_some([8; 16]),
                    ..token_key()
                })
            }
        ),
        (
            prop_oneof![
                Just(KeyServiceKind::KeyProtect),
                Just(KeyServiceKind::Hpcs),
                Just(KeyServiceKind::Local)
            ],
            proptest::option::of(".{1,40}")
        )
            .prop_map(|(service, more)| SlotKind::Service(service_key(service, more))),
    ];
    let purpose = prop_oneof![Just(SlotPurpose::VaultKey), Just(SlotPurpose::ReaderSecret)];
    let wrapped = proptest::collection::vec(any::<u8>(), 0..200);
    (any::<[u8; 32]>(), any::<u32>(), purpose, kind, ".{0,60}", any::<i64>(), any::<[u8; 32]>(), wrapped)
        .prop_map(|(vault, epoch, purpose, kind, label, created_s, salt, wrapped)| {
            let local = kind.is_local();
            let mut slot = Slot::unwrapped(VaultId(vault), epoch, purpose, kind, label, created_s);
            slot.salt = local.then_some(salt);
            slot.commitment = local.then_some([1; 32]);
            slot.wrapped = wrapped;
            slot
        })
}

proptest! {
    #[test]
    fn round_trip(slot in any_slot()) {
        prop_assert_eq!(Slot::decode(&slot.encode()).unwrap(), slot);
    }

    #[test]
    fn whatever_is_accepted_is_written_alike(slot in any_slot(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = slot.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = Slot::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(slot) = Slot::decode(&bytes) {
            prop_assert_eq!(slot.encode(), bytes);
        }
    }
}
