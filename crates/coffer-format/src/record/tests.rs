use proptest::prelude::*;

use super::*;
use crate::support::cases;
use crate::testing::{check, check_cut, rule};

fn decode(bytes: &[u8]) -> Result<(), FormatError> {
    Record::decode(bytes).map(drop)
}

#[test]
fn every_case() {
    check(&cases::record(), |_, bytes| decode(bytes));
    check_cut(&cases::record(), |_, bytes| decode(bytes));
}

#[test]
fn what_is_read_is_written_alike() {
    for case in cases::record().all.iter().filter(|case| case.fault.is_none()) {
        let record = Record::decode(&case.bytes).unwrap();
        assert_eq!(record.public.encode(), record.public_bytes, "{}", case.name);
        let object = Record::assemble(record.public_bytes, record.body, &record.signature).unwrap();
        assert_eq!(object, case.bytes, "{}", case.name);
    }
}

#[test]
fn parts_and_whole_keep_to_their_limits() {
    let max = usize::try_from(RECORD_PART_LEN_MAX).unwrap();
    let assemble = |public: usize, body: usize| Record::assemble(&vec![0; public], &vec![0; body], &[0; 64]);
    assert_eq!(assemble(max, max - 80).unwrap().len() as u64, RECORD_LEN_MAX);
    for (public, body) in [(max + 1, 0), (0, max + 1), (max, max - 79)] {
        assert_eq!(rule(&assemble(public, body).unwrap_err()), "over the limit");
    }
}

#[test]
fn chain_values() {
    assert_eq!(chain_value(b"abc"), *blake3::hash(b"abc").as_bytes());
    assert_eq!(chain_value_oversize(b"abc", 0x0102), *blake3::hash(b"abc\x02\x01\0\0\0\0\0\0").as_bytes());
}

#[test]
fn kinds_have_numbers_and_names() {
    for (number, kind) in (1..).zip(RecordKind::ALL) {
        assert_eq!(kind.number(), number);
        assert_eq!(RecordKind::from_number(number), Some(kind));
    }
    assert_eq!((RecordKind::from_number(0), RecordKind::from_number(20)), (None, None));
    let mut names: Vec<_> = RecordKind::ALL.iter().map(|kind| kind.name()).collect();
    names.dedup();
    assert_eq!((names.len(), names[0], names[18]), (19, "snapshot", "checkpoint"));
}

#[test]
fn a_sealed_body_has_four_parts() {
    let body: Vec<u8> = [vec![1; 32], vec![2; 1120], vec![3; 32], vec![4; 5]].concat();
    let sealed = SealedBody::decode(&body).unwrap();
    assert_eq!((sealed.salt[0], sealed.enc[0], sealed.commitment[0], sealed.sealed), (1, 2, 3, &[4; 5][..]));
    assert!(SealedBody::decode(&body[..1183]).is_err());
    assert!(SealedBody::decode(&body[..1184]).unwrap().sealed.is_empty());
}

#[test]
fn padding_of_bodies() {
    check(&cases::body_plain(), |_, bytes| unpad_body(bytes).map(drop));
    for (len, padded) in [(0, 512), (1, 512), (508, 512), (509, 1024), (1020, 1024)] {
        let plain = pad_body(&vec![7; len]).unwrap();
        assert_eq!(plain.len(), padded);
        assert_eq!(unpad_body(&plain).unwrap(), vec![7; len]);
    }
    assert!(pad_body(&vec![0; 4_194_304 - 2047]).is_err());
    let good = pad_body(b"cbor").unwrap();
    let bad = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut plain = good.clone();
        change(&mut plain);
        assert_eq!(rule(&unpad_body(&plain).unwrap_err()), "its padding is wrong");
    };
    bad(&|plain| plain[8] = 1);
    bad(&|plain| plain[511] = 1);
    bad(&|plain| plain.truncate(511));
    bad(&|plain| plain.resize(1024, 0));
    bad(&|plain| plain.resize(513, 0));
    bad(&|plain| plain[..4].copy_from_slice(&509_u32.to_le_bytes()));
    bad(&|plain| plain[..4].copy_from_slice(&u32::MAX.to_le_bytes()));
    bad(&|plain| plain.truncate(3));
    bad(&|plain| plain.clear());
}

fn any_public() -> impl Strategy<Value = Public> {
    let ids = || proptest::collection::btree_set(any::<[u8; 32]>(), 0..4);
    let segments =
        proptest::collection::btree_map(any::<[u8; 32]>(), (0..=INDEX_LEN_MAX, any::<[u8; 16]>()), 0..4);
    let body = proptest::option::of((any::<[u8; 32]>(), any::<[u8; 16]>(), any::<u32>()));
    let numbers = (0..=LOG_NUMBER_MAX, any::<u64>(), any::<u64>(), any::<u64>(), any::<i64>());
    let details = proptest::option::of(Just(vec![0xa1, 1, 2]));
    let home = prop_oneof![Just([0; 16]), any::<[u8; 16]>()];
    (
        (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>()),
        numbers,
        body,
        (segments, ids(), ids()),
        (home, details),
    )
        .prop_map(
            |(
                (vault, previous, signer),
                (number, term, kind, minor, time_s),
                body,
                (added, removed, slots),
                (home, details),
            )| Public {
                vault: VaultId(vault),
                number,
                term,
                previous,
                signer,
                kind,
                minor,
                time_s,
                body: body.map(|(hash, domain, epoch)| BodySeal { hash, domain: DomainId(domain), epoch }),
                segments_added: added
                    .into_iter()
                    .map(|(id, (len, domain))| SegmentAdded {
                        id: SegmentId(id),
                        len,
                        domain: DomainId(domain),
                    })
                    .collect(),
                segments_removed: removed.into_iter().map(SegmentId).collect(),
                slots: (!slots.is_empty()).then(|| slots.into_iter().map(SlotId).collect()),
                home,
                details,
                unknown: Unknown::default(),
            },
        )
}

proptest! {
    #[test]
    fn round_trip(public in any_public(), signature in any::<u8>()) {
        let public_bytes = public.encode();
        prop_assert_eq!(Public::decode(&public_bytes).unwrap(), public.clone());
        let body = if public.body.is_some() { vec![1; 40] } else { Vec::new() };
        let object = Record::assemble(&public_bytes, &body, &[signature; 64]).unwrap();
        let record = Record::decode(&object).unwrap();
        prop_assert_eq!((record.public, record.body, record.signature), (public, &body[..], [signature; 64]));
    }

    #[test]
    fn whatever_is_accepted_is_written_alike(public in any_public(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = public.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = Public::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Record::decode(&bytes);
        let _ = Record::decode(&[MAGIC, &bytes[..]].concat());
        let _ = SealedBody::decode(&bytes);
        let _ = unpad_body(&bytes);
        if let Ok(public) = Public::decode(&bytes) {
            prop_assert_eq!(public.encode(), bytes);
        }
    }
}
