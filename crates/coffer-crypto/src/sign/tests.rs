use ed25519_dalek::Verifier;

use super::*;

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_seed(&Secret::new(std::array::from_fn(|at| u8::try_from(at).unwrap())))
}

/// The order of the base point, little-endian.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// RFC 8032, section 7.1, tests 1 and 2.
#[test]
fn rfc_8032() {
    let check = |seed, public, message: &[u8], signature| {
        let key = SigningKey::from_seed(&Secret::new(bytes(seed)));
        assert_eq!(key.verifying_key().as_bytes(), &bytes::<32>(public));
        assert_eq!(key.sign(message), bytes::<64>(signature));
        let verifying = VerifyingKey::from_bytes(&bytes(public)).unwrap();
        verifying.verify(message, &bytes(signature)).unwrap();
    };
    check(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0\
         595bbe24655141438e7a100b",
    );
    check(
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eae\
         b4302aeeb00d291612bb0c00",
    );
}

#[test]
fn a_record_is_signed_with_its_prefix() {
    let (key, verifying) = (key(), key().verifying_key());
    let signature = key.sign_record(b"public part");
    assert_eq!(signature, key.sign(b"coffer/1 log record\0public part"));
    verifying.verify_record(b"public part", &signature).unwrap();
    assert!(verifying.verify(b"public part", &signature).is_err());
    assert!(verifying.verify_record(b"public parT", &signature).is_err());
    assert!(verifying.verify_record(b"public part", &key.sign(b"public part")).is_err());
    let other = SigningKey::from_seed(&Secret::new([7; 32])).verifying_key();
    assert!(other.verify_record(b"public part", &signature).is_err());
}

#[test]
fn every_bit_of_a_signature_counts() {
    let (signature, verifying) = (key().sign(b"message"), key().verifying_key());
    verifying.verify(b"message", &signature).unwrap();
    for bit in 0..512 {
        let mut altered = signature;
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(verifying.verify(b"message", &altered).is_err(), "bit {bit}");
    }
}

#[test]
fn a_scalar_that_is_not_reduced_is_refused() {
    let mut signature = key().sign(b"message");
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(bytes::<32>(ORDER)) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(key().verifying_key().verify(b"message", &signature).is_err());
}

/// Both were made with knowledge of the key and satisfy the equation with a cofactor; the first also without, so
/// that a verifier that is not strict takes it.
#[test]
fn points_with_torsion_in_a_signature_are_refused() {
    let identity = "0100000000000000000000000000000000000000000000000000000000000000e5834fff3aa60bbc6c6521b11dd423b3\
                    4825d820df4253dc1a68d5987bd4770a";
    let torsion = "40a4cf5c611d737a2f1c6fcca84d9cabfed80987f186a5a6c57e629bff1af27fef8ab8b3e2f50746a6dbb1d0b3c34a13\
                   934f118376191cc1d658b1e1010c1005";
    for signature in [identity, torsion] {
        assert!(key().verifying_key().verify_record(b"public part", &bytes(signature)).is_err());
    }
    let identity = ed25519_dalek::Signature::from_bytes(&bytes(identity));
    assert!(key().verifying_key().0.verify(&record_message(b"public part"), &identity).is_ok());
}

#[test]
fn keys_that_are_no_proper_point_are_refused() {
    let refused = |hex| VerifyingKey::from_bytes(&bytes(hex)).is_err();
    let small_order = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    assert!(small_order.into_iter().all(refused));
    // y = 3 written as p + 3: a point of large order that the library alone would take.
    let not_canonical = "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    assert!(ed25519_dalek::VerifyingKey::from_bytes(&bytes(not_canonical)).is_ok_and(|key| !key.is_weak()));
    assert!(refused(not_canonical));
    // y = 2 is on no point; x = 0 with its sign set.
    assert!(refused("0200000000000000000000000000000000000000000000000000000000000000"));
    assert!(refused("0100000000000000000000000000000000000000000000000000000000000080"));
}
