use coffer_crypto::CryptoError;
use coffer_crypto::rng::SeededRng;
use coffer_format::FormatError;
use coffer_format::record::{Public, RecordKind};
use proptest::prelude::*;

use super::*;
use crate::testing::World;

fn public(world: &World) -> Public {
    let signer = *world.vault_key.signing().verifying_key().as_bytes();
    Public::new(world.vault, 7, RecordKind::Snapshot, signer)
}

fn seal(world: &World, body: Option<&[u8]>) -> Vec<u8> {
    let sealer = BodySealer { sealing_key: world.pair.public(), epoch: 3, domain: &world.keys };
    let body = body.map(|cbor| (cbor, &sealer));
    seal_record(public(world), body, &world.vault_key.signing(), &SeededRng::new(4)).unwrap()
}

/// What the body of `bytes` is with the keys of `world`, once `change` was done to the record that was read.
fn open(world: &World, bytes: &[u8], change: impl FnOnce(&mut Public)) -> Result<Vec<u8>, PipelineError> {
    let mut record = Record::decode(bytes).unwrap();
    change(&mut record.public);
    open_body(&record, &world.pair, &world.keys)
}

fn is_good(bytes: &[u8]) -> bool {
    let record = Record::decode(bytes).unwrap();
    signature_is_good(&record.public.signer, record.public_bytes, &record.signature)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_body_comes_back(cbor in prop::collection::vec(any::<u8>(), 0..3000)) {
        let world = World::new(1);
        let bytes = seal(&world, Some(&cbor));
        let record = Record::decode(&bytes).unwrap();
        let sealed_body = record.public.body.unwrap();
        prop_assert_eq!((sealed_body.domain, sealed_body.epoch), (world.domain, 3));
        prop_assert_eq!(sealed_body.hash, *blake3::hash(record.body).as_bytes());
        prop_assert_eq!(record.body.len(), 1184 + (cbor.len() + 4).next_multiple_of(512) + 16);
        prop_assert!(is_good(&bytes));
        prop_assert_eq!(open_body(&record, &world.pair, &world.keys).unwrap(), cbor);
    }
}

#[test]
fn a_record_without_a_body() {
    let world = World::new(1);
    let bytes = seal(&world, None);
    let record = Record::decode(&bytes).unwrap();
    assert_eq!(record.public, public(&world));
    assert!(record.body.is_empty() && is_good(&bytes));
    let refused = open_body(&record, &world.pair, &world.keys).unwrap_err();
    assert!(matches!(refused, PipelineError::Format(FormatError::Malformed { object: "record body", .. })));
}

#[test]
fn bodies_are_padded_to_512_bytes() {
    let world = World::new(1);
    let len_of = |len: usize| Record::decode(&seal(&world, Some(&vec![7; len]))).unwrap().body.len();
    for (len, padded) in [(0, 512), (1, 512), (508, 512), (509, 1024), (1020, 1024), (1021, 1536)] {
        assert_eq!(len_of(len), 1184 + padded + 16, "{len}");
    }
}

/// Section 8.1 without the crate's own opening.
#[test]
fn the_layout_is_that_of_the_specification() {
    let world = World::new(1);
    let cbor = [0xa1, 1, 0x61, b'x'];
    let bytes = seal(&world, Some(&cbor));
    let record = Record::decode(&bytes).unwrap();
    let (salt, enc): ([u8; 32], [u8; 1120]) =
        (record.body[..32].try_into().unwrap(), record.body[32..1152].try_into().unwrap());
    let psk = world.keys.psk().expose();
    let (key, commitment) =
        open_from_vault(&world.pair, psk, &[0; 16], SealedAs::Record, &world.vault.0, &salt, &enc).unwrap();
    assert_eq!(record.body[1152..1184], commitment);
    let extra = [&7_u64.to_le_bytes()[..], &record.public.signer].concat();
    let context = SealContext::new(world.vault.0, ObjectKind::LogRecord, salt);
    let key = SealKey::new(&key, context.with_extra::<40>(&extra.try_into().unwrap()));
    let mut plain = Vec::new();
    key.open_to(Purpose::RecordBody, 0, &record.body[1184..], &mut plain).unwrap();
    let mut expected = [&[4, 0, 0, 0][..], &cbor].concat();
    expected.resize(512, 0);
    assert_eq!(plain, expected);
    let message = [b"coffer/1 log record\0", record.public_bytes].concat();
    let signer = VerifyingKey::from_bytes(&record.public.signer).unwrap();
    signer.verify(&message, &record.signature).unwrap();
}

#[test]
fn a_body_opens_with_its_own_keys_alone() {
    let (world, other) = (World::new(1), World::new(2));
    let bytes = seal(&world, Some(b"body"));
    let record = Record::decode(&bytes).unwrap();
    let refused = |what: &str, result: Result<Vec<u8>, PipelineError>| {
        assert!(matches!(result, Err(PipelineError::Commitment { object: "record body" })), "{what}");
    };
    refused("epoch", open_body(&record, &other.pair, &world.keys));
    refused("domain root", open_body(&record, &world.pair, &other.keys));
    refused("domain", open_body(&record, &world.pair, &world.other_domain()));
    refused("vault", open(&world, &bytes, |public| public.vault = other.vault));
    assert_eq!(open(&world, &bytes, |_| {}).unwrap(), b"body");
}

/// Nobody can give a body another number, or pass it for their own.
#[test]
fn a_body_opens_in_its_record_alone() {
    let world = World::new(1);
    let bytes = seal(&world, Some(b"body"));
    let other_signer = *World::new(2).vault_key.signing().verifying_key().as_bytes();
    for result in [
        open(&world, &bytes, |public| public.number = 8),
        open(&world, &bytes, |public| public.number = 7 << 32),
        open(&world, &bytes, |public| public.signer = other_signer),
    ] {
        assert!(matches!(result, Err(PipelineError::Crypto(CryptoError::Open { .. }))));
    }
}

#[test]
fn each_byte_of_a_body_counts() {
    let world = World::new(1);
    let bytes = seal(&world, Some(b"body"));
    let record = Record::decode(&bytes).unwrap();
    let body = record.body.to_vec();
    for position in 0..body.len() {
        let mut altered = body.clone();
        altered[position] ^= 1 << (position % 8);
        let record = Record { body: &altered, ..record.clone() };
        assert!(open_body(&record, &world.pair, &world.keys).is_err(), "byte {position}");
    }
    for len in 0..body.len() {
        let record = Record { body: &body[..len], ..record.clone() };
        assert!(open_body(&record, &world.pair, &world.keys).is_err(), "cut to {len} bytes");
    }
    assert_eq!(open_body(&record, &world.pair, &world.keys).unwrap(), b"body");
}

/// What is sealed by someone who pads as they like.
#[test]
fn sealed_padding_is_checked() {
    let world = World::new(1);
    let bytes = seal(&world, Some(b"body"));
    let record = Record::decode(&bytes).unwrap();
    let plain = |len: u32, total: usize, last: u8| {
        let mut plain = [&len.to_le_bytes()[..], b"body"].concat();
        plain.resize(total, 0);
        *plain.last_mut().unwrap() |= last;
        plain
    };
    for (what, plain, sound) in [
        ("sound", plain(4, 512, 0), true),
        ("all of it", plain(508, 512, 0), true),
        ("a block more", plain(4, 1024, 0), false),
        ("not whole blocks", plain(4, 511, 0), false),
        ("no zeros", plain(4, 512, 1), false),
        ("beyond the end", plain(509, 512, 0), false),
        ("far beyond the end", plain(u32::MAX, 512, 0), false),
    ] {
        let rng = SeededRng::new(9);
        let salt: [u8; 32] = rng::array(&rng).unwrap();
        let psk = world.keys.psk().expose();
        let (public, vault) = (world.pair.public(), &world.vault.0);
        let sealed = seal_to_vault(&rng, public, psk, &[0; 16], SealedAs::Record, vault, &salt).unwrap();
        let context = body_context(world.vault, &salt, 7, &record.public.signer);
        let mut body = [&salt[..], &sealed.enc[..], &sealed.commitment, &plain].concat();
        SealKey::new(&sealed.key, context).seal_in_place(Purpose::RecordBody, 0, &mut body, 1184).unwrap();
        let record = Record { body: &body, ..record.clone() };
        let result = open_body(&record, &world.pair, &world.keys);
        assert_eq!(result.is_ok(), sound, "{what}: {result:?}");
        if !sound {
            assert!(matches!(result, Err(PipelineError::Format(_))), "{what}: {result:?}");
        }
    }
}

#[test]
fn each_byte_of_the_public_part_is_signed() {
    let world = World::new(1);
    let bytes = seal(&world, Some(b"body"));
    let record = Record::decode(&bytes).unwrap();
    let (signer, signature) = (record.public.signer, record.signature);
    assert!(signature_is_good(&signer, record.public_bytes, &signature));
    let mut altered = record.public_bytes.to_vec();
    for position in 0..altered.len() {
        altered[position] ^= 1 << (position % 8);
        assert!(!signature_is_good(&signer, &altered, &signature), "byte {position}");
        altered[position] ^= 1 << (position % 8);
    }
    assert!(!signature_is_good(&signer, &altered[1..], &signature));
    assert!(!signature_is_good(&signer, &[], &signature));
    for position in 0..64 {
        let mut altered = signature;
        altered[position] ^= 1 << (position % 8);
        assert!(!signature_is_good(&signer, record.public_bytes, &altered), "byte {position}");
    }
    for position in 0..32 {
        let mut altered = signer;
        altered[position] ^= 1 << (position % 8);
        assert!(!signature_is_good(&altered, record.public_bytes, &signature), "byte {position}");
    }
    // No key at all: the neutral element, under which a signature of zeros would hold for any message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut zeros = [0; 64];
    zeros[0] = 1;
    assert!(!signature_is_good(&neutral, record.public_bytes, &zeros));
}

#[test]
fn what_does_not_fit_is_not_sealed() {
    let world = World::new(1);
    let sealer = BodySealer { sealing_key: world.pair.public(), epoch: 0, domain: &world.keys };
    let signing = world.vault_key.signing();
    let seal_body =
        |cbor: &[u8]| seal_record(public(&world), Some((cbor, &sealer)), &signing, &SeededRng::new(4));
    let most = vec![1; (4 << 20) - 2048];
    let bytes = seal_body(&most).unwrap();
    assert_eq!(open(&world, &bytes, |_| {}).unwrap(), most);
    let refused = seal_body(&[most, vec![1]].concat()).unwrap_err();
    assert!(matches!(refused, PipelineError::Format(FormatError::TooLong { .. })));
}
