use proptest::prelude::*;

use super::*;
use crate::support::cases;
use crate::testing::{check, check_cut};

fn decode(bytes: &[u8]) -> Result<(), FormatError> {
    Header::decode(bytes).map(drop)
}

#[test]
fn every_case() {
    check(&cases::header(), |_, bytes| decode(bytes));
    check_cut(&cases::header(), |_, bytes| decode(bytes));
}

#[test]
fn it_is_written_as_the_specification_says() {
    for case in cases::header()
        .all
        .iter()
        .filter(|case| case.fault.is_none() && case.name != "header with a key to skip")
    {
        assert_eq!(Header::decode(&case.bytes).unwrap().encode(), case.bytes, "{}", case.name);
    }
}

#[test]
fn the_default_chunker_is_within_the_limits() {
    ChunkerSpec::DEFAULT.check().unwrap();
    assert_eq!(ChunkerSpec::DEFAULT.len_max(), 8_388_608);
    assert_eq!(ChunkerSpec::Fixed { len: 77 }.len_max(), 77);
}

#[test]
fn the_vault_id_is_the_hash_of_all_bytes() {
    assert_eq!(Header::vault_id(b"abc").0, *blake3::hash(b"abc").as_bytes());
}

fn any_header() -> impl Strategy<Value = Header> {
    let chunker = prop_oneof![
        (64_u32..1000, 6_u32..=30, 256_u32..100_000).prop_map(|(min, bits, more)| ChunkerSpec::Pcc {
            min,
            bits,
            max: min + more
        }),
        (64_u32..=16_777_216).prop_map(|len| ChunkerSpec::Fixed { len }),
    ];
    let mode = prop_oneof![
        Just(StoreMode::ConditionalCreate),
        Just(StoreMode::OldestVersion),
        Just(StoreMode::SingleWriter)
    ];
    (chunker, mode, any::<u8>(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(
        |(chunker, store_mode, byte, owner_key, random)| Header {
            minor: 0,
            chunker,
            store_mode,
            sealing_key: Box::new([byte; 1216]),
            owner_key,
            random,
        },
    )
}

proptest! {
    #[test]
    fn round_trip(header in any_header()) {
        prop_assert_eq!(Header::decode(&header.encode()).unwrap(), header);
    }

    #[test]
    fn a_changed_byte_is_rejected_or_means_something_else(header in any_header(), at in 0_usize..80, byte in any::<u8>()) {
        let mut bytes = header.encode();
        bytes[at] = byte;
        if let Ok(other) = Header::decode(&bytes) {
            prop_assert_eq!(Header::decode(&other.encode()).unwrap(), other.clone());
            prop_assert!(other.encode() == bytes || other.encode().len() < bytes.len());
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Header::decode(&bytes);
        let _ = Header::decode(&[&MAGIC[..], &bytes].concat());
    }
}
