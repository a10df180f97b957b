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
    let names =
        ["passphrase", "key file", "Key Protect", "HPCS", "PKCS#11", "recovery shares", "local key service"];
    let other = |number| SlotKind::Other { number, parameters: vec![0xa0] };
    assert_eq!(SlotKind::Passphrase { memory_kib: 1, passes: 1, lanes: 1, salt: [0; 16] }.name(), names[0]);
    assert_eq!(SlotKind::KeyFile { key_id: [0; 8] }.name(), names[1]);
    let shares = SlotKind::Shares { set_id: [0; 8], threshold: 2, digests: vec![[0; 16]; 3] };
    assert_eq!((shares.number(), shares.name()), (6, names[5]));
    for number in [3, 4, 5, 7] {
        assert_eq!(
            (other(number).number(), other(number).name()),
            (number, names[usize::try_from(number).unwrap() - 1])
        );
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
        prop_oneof![Just(3), Just(4), Just(5), Just(7)]
            .prop_map(|number| SlotKind::Other { number, parameters: vec![0xa1, 1, 2] }),
    ];
    let purpose = prop_oneof![Just(SlotPurpose::VaultKey), Just(SlotPurpose::ReaderSecret)];
    let wrapped = proptest::collection::vec(any::<u8>(), 0..200);
    (any::<[u8; 32]>(), any::<u32>(), purpose, kind, ".{0,60}", any::<i64>(), any::<[u8; 32]>(), wrapped)
        .prop_map(|(vault, epoch, purpose, kind, label, created_s, salt, wrapped)| {
            let local = matches!(kind.number(), 1 | 2 | 6);
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
