use std::sync::Mutex;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use super::*;
use crate::rng::SeededRng;

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

const PSK: [u8; 32] = [1; 32];
const DOMAIN: [u8; 16] = [2; 16];
const VAULT: [u8; 32] = [3; 32];
const SALT: [u8; 32] = [4; 32];

fn pair() -> SealingKeyPair {
    SealingKeyPair::from_seed(&Secret::new([5; 32]))
}

/// Hands out fixed bytes, once.
struct FixedRng(Mutex<Vec<u8>>);

impl Rng for FixedRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        let taken = std::mem::take(&mut *self.0.lock().unwrap());
        out.copy_from_slice(&taken);
        Ok(())
    }
}

struct BrokenRng;

impl Rng for BrokenRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        out.fill(0x77);
        Err(CryptoError::Random { source: "out of entropy".into() })
    }
}

/// First test vector of draft-connolly-cfrg-xwing-kem: seed, randomness, shared secret; SHA-256 of the public key
/// and of the encapsulation stand for the long values.
const XWING_SEED: &str = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26";
const XWING_RANDOMNESS: &str = "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2\
                                35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2";
const XWING_SHARED: &str = "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384";
const XWING_PUBLIC_SHA256: &str = "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb";
const XWING_ENC_SHA256: &str = "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33";

fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], input: &[u8]) -> Hkdf<Sha256> {
    Hkdf::new(Some(salt), &[b"HPKE-v1", suite, label, input].concat())
}

fn labeled_extract_bytes(suite: &[u8], salt: &[u8], label: &[u8], input: &[u8]) -> Vec<u8> {
    let (bytes, _) = Hkdf::<Sha256>::extract(Some(salt), &[b"HPKE-v1", suite, label, input].concat());
    bytes.to_vec()
}

fn labeled_expand(prk: &Hkdf<Sha256>, suite: &[u8], label: &[u8], info: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    prk.expand(&[&[0, 32], b"HPKE-v1".as_slice(), suite, label, info].concat(), &mut out).unwrap();
    out
}

/// The KEM against its draft, and the key schedule against RFC 9180 section 5.1 written out here.
#[test]
fn known_answer() {
    let pair = SealingKeyPair::from_seed(&Secret::new(bytes(XWING_SEED)));
    assert_eq!(Sha256::digest(pair.public().to_bytes())[..], bytes::<32>(XWING_PUBLIC_SHA256));
    let rng = FixedRng(Mutex::new(bytes::<64>(XWING_RANDOMNESS).to_vec()));
    let made = seal_to_vault(&rng, pair.public(), &PSK, &DOMAIN, SealedAs::Pack, &VAULT, &SALT).unwrap();
    assert_eq!(Sha256::digest(made.enc.as_slice())[..], bytes::<32>(XWING_ENC_SHA256));

    let suite = [b"HPKE".as_slice(), &[0x64, 0x7a], &[0, 1], &[0xff, 0xff]].concat();
    let psk_id = [b"coffer/1 domain".as_slice(), &DOMAIN].concat();
    let info = [b"coffer/1 pack\0".as_slice(), &VAULT, &SALT].concat();
    let schedule = [
        vec![1],
        labeled_extract_bytes(&suite, b"", b"psk_id_hash", &psk_id),
        labeled_extract_bytes(&suite, b"", b"info_hash", &info),
    ]
    .concat();
    let secret = labeled_extract(&suite, &bytes::<32>(XWING_SHARED), b"secret", &PSK);
    let exporter = Hkdf::<Sha256>::from_prk(&labeled_expand(&secret, &suite, b"exp", &schedule)).unwrap();
    assert_eq!(made.key.expose(), &labeled_expand(&exporter, &suite, b"sec", b"coffer/1 key"));
    assert_eq!(made.commitment, labeled_expand(&exporter, &suite, b"sec", b"coffer/1 commitment"));

    let (key, commitment) =
        open_from_vault(&pair, &PSK, &DOMAIN, SealedAs::Pack, &VAULT, &SALT, &made.enc).unwrap();
    assert_eq!((key, commitment), (made.key, made.commitment));
}

#[test]
fn each_encapsulation_is_fresh() {
    let (rng, pair) = (SeededRng::new(1), pair());
    let make = || seal_to_vault(&rng, pair.public(), &PSK, &DOMAIN, SealedAs::Pack, &VAULT, &SALT).unwrap();
    let (first, second) = (make(), make());
    assert_ne!(first.enc, second.enc);
    assert_ne!(first.key, second.key);
    assert_ne!(first.commitment, second.commitment);
    assert_ne!(first.key.expose(), &first.commitment);
}

#[test]
fn every_input_counts() {
    let pair = pair();
    let rng = SeededRng::new(2);
    let made = seal_to_vault(&rng, pair.public(), &PSK, &DOMAIN, SealedAs::Record, &VAULT, &SALT).unwrap();
    let check = |pair: &SealingKeyPair,
                 psk: &[u8; 32],
                 domain: &[u8; 16],
                 sealed_as: SealedAs,
                 vault: &[u8; 32],
                 salt: &[u8; 32],
                 enc: &[u8; ENCAPSULATION_LEN]| {
        let (key, commitment) = open_from_vault(pair, psk, domain, sealed_as, vault, salt, enc).unwrap();
        let matches = commitment_matches(&made.commitment, &commitment);
        assert_eq!(key == made.key, matches, "the commitment tells whether the key is right");
        matches
    };
    let record = SealedAs::Record;
    assert!(check(&pair, &PSK, &DOMAIN, record, &VAULT, &SALT, &made.enc));
    assert!(!check(&pair, &PSK, &DOMAIN, SealedAs::Pack, &VAULT, &SALT, &made.enc));
    for position in 0..32 {
        let flipped = |mut bytes: [u8; 32]| {
            bytes[position] ^= 0x10;
            bytes
        };
        assert!(!check(&pair, &flipped(PSK), &DOMAIN, record, &VAULT, &SALT, &made.enc));
        assert!(!check(&pair, &PSK, &DOMAIN, record, &flipped(VAULT), &SALT, &made.enc));
        assert!(!check(&pair, &PSK, &DOMAIN, record, &VAULT, &flipped(SALT), &made.enc));
    }
    for position in 0..16 {
        let mut domain = DOMAIN;
        domain[position] ^= 0x10;
        assert!(!check(&pair, &PSK, &domain, record, &VAULT, &SALT, &made.enc));
    }
    for position in (0..ENCAPSULATION_LEN).step_by(31) {
        let mut enc = made.enc.clone();
        enc[position] ^= 0x10;
        assert!(!check(&pair, &PSK, &DOMAIN, record, &VAULT, &SALT, &enc));
    }
    let other = SealingKeyPair::from_seed(&Secret::new([6; 32]));
    assert!(!check(&other, &PSK, &DOMAIN, record, &VAULT, &SALT, &made.enc));
}

#[test]
fn no_key_without_randomness() {
    let made = seal_to_vault(&BrokenRng, pair().public(), &PSK, &DOMAIN, SealedAs::Pack, &VAULT, &SALT);
    assert!(matches!(made, Err(CryptoError::Random { .. })));
}

#[test]
fn public_keys_round_trip_and_are_checked() {
    let pair = pair();
    let public = pair.public().to_bytes();
    assert_eq!(&SealingPublicKey::from_bytes(&public).unwrap(), pair.public());
    // The first two 12-bit numbers of the ML-KEM part: 3329 is the modulus, 3328 the largest reduced number.
    let with_first = |number: [u8; 2]| {
        let mut bytes = public;
        bytes[0] = number[0];
        bytes[1] = (bytes[1] & 0xf0) | number[1];
        SealingPublicKey::from_bytes(&bytes).is_ok()
    };
    assert!(with_first([0x00, 0x0d]));
    assert!(!with_first([0x01, 0x0d]));
    assert!(!with_first([0xff, 0x0f]));
    assert!(SealingPublicKey::from_bytes(&[0xff; SEALING_PUBLIC_KEY_LEN]).is_err());
}
