//! A 32-byte secret split so that any `threshold` of its parts give it back, and fewer say nothing of it (section 7.2).
//!
//! Shamir's scheme, byte by byte over GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1. Every byte of the secret has a polynomial of
//! its own, whose other coefficients are random, zero included; part `i` is the value at `i`. No step branches or looks anything up by a
//! secret byte, and what is on the way is wiped.
//!
//! What it refuses to do: it cannot tell a false part from a true one. Whoever joins parts checks them first, by [`share_digest`], or what
//! they give.

use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::hash;
use crate::kdf::kdf;
use crate::rng::Rng;
use crate::secret::Secret;

/// Splits `secret` into `count` parts, of which any `threshold` give it back. Part `i` of the result, counted from 0, has the number `i + 1`.
///
/// # Errors
/// [`CryptoError::Random`] when `rng` fails.
///
/// # Panics
/// When `threshold` is 0 or above `count`.
pub fn split(
    secret: &Secret<32>,
    threshold: u8,
    count: u8,
    rng: &dyn Rng,
) -> Result<Vec<Secret<32>>, CryptoError> {
    assert!(0 < threshold && threshold <= count, "{threshold} of {count} parts");
    let mut coefficients = Zeroizing::new(vec![[0; 32]; usize::from(threshold) - 1]);
    for coefficient in coefficients.iter_mut() {
        rng.fill(coefficient)?;
    }
    let part = |number: u8| {
        let mut value = Zeroizing::new([0; 32]);
        // Horner's rule, from the highest power down.
        for coefficient in coefficients.iter().chain([secret.expose()]) {
            for (value, coefficient) in value.iter_mut().zip(coefficient) {
                *value = multiply(*value, number) ^ coefficient;
            }
        }
        Secret::from_slice(value.as_slice()).expect("a part has 32 bytes")
    };
    Ok((1..=count).map(part).collect())
}

/// The secret that `parts` come from, each with its number, if they are as many as the threshold or more; any other 32 bytes otherwise. `None`
/// if there are none, or a number is 0 or is there twice.
#[must_use]
pub fn join(parts: &[(u8, &Secret<32>)]) -> Option<Secret<32>> {
    let is_double = |at: usize| parts[..at].iter().any(|(number, _)| *number == parts[at].0);
    if parts.is_empty() || (0..parts.len()).any(|at| parts[at].0 == 0 || is_double(at)) {
        return None;
    }
    let mut secret = Zeroizing::new([0; 32]);
    for (number, part) in parts {
        // Lagrange's polynomial of this part at 0. Numbers are public.
        let others = parts.iter().map(|(other, _)| *other).filter(|other| other != number);
        let weight =
            others.fold(1, |weight, other| multiply(weight, multiply(other, inverse(other ^ number))));
        for (byte, value) in secret.iter_mut().zip(part.expose()) {
            *byte ^= multiply(*value, weight);
        }
    }
    Secret::from_slice(secret.as_slice()).ok()
}

/// By which a slot knows a part: the first 16 bytes of `KDF(part, "share digest", set id || number)`. It is public and says nothing of the part.
#[must_use]
pub fn share_digest(part: &Secret<32>, set_id: &[u8; 8], number: u8) -> [u8; 16] {
    let digest = kdf(part, "share digest", &[set_id.as_slice(), &[number]].concat());
    let mut out = [0; 16];
    out.copy_from_slice(&digest.expose()[..16]);
    out
}

/// The checksum in the text of a share: the first 4 bytes of `H("coffer/1 share" || bytes before it)`.
#[must_use]
pub fn share_checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = hash::Hasher::new();
    let [a, b, c, d, ..] = hasher.update(b"coffer/1 share").update(bytes).finalize();
    [a, b, c, d]
}

/// The product in the field, in a time that does not depend on the factors.
const fn multiply(mut a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 8 {
        product ^= a & 0_u8.wrapping_sub(b >> bit & 1);
        a = a << 1 ^ 0x1d & 0_u8.wrapping_sub(a >> 7);
        bit += 1;
    }
    product
}

/// `a` to the power of 254, which is 1 / a.
const fn inverse(a: u8) -> u8 {
    let (mut power, mut square, mut bit) = (1, a, 1);
    while bit < 8 {
        square = multiply(square, square);
        power = multiply(power, square);
        bit += 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::SeededRng;

    #[test]
    fn the_field_is_one() {
        for a in 1..=255 {
            assert_eq!(multiply(a, inverse(a)), 1, "{a}");
            assert_eq!((multiply(a, 1), multiply(a, 0)), (a, 0), "{a}");
        }
        // The generator's powers, as every table of this field has them.
        assert_eq!((multiply(0x80, 2), multiply(0xe8, 2), multiply(0x8e, 2)), (0x1d, 0xcd, 0x01));
    }

    fn numbered(parts: &[Secret<32>], chosen: &[u8]) -> Vec<(u8, Secret<32>)> {
        let copy = |number: u8| Secret::from_slice(parts[usize::from(number) - 1].expose()).unwrap();
        chosen.iter().map(|number| (*number, copy(*number))).collect()
    }

    fn joined(parts: &[(u8, Secret<32>)]) -> Option<[u8; 32]> {
        let parts: Vec<_> = parts.iter().map(|(number, part)| (*number, part)).collect();
        join(&parts).map(|secret| *secret.expose())
    }

    proptest! {
        #[test]
        fn as_many_as_the_threshold_give_it_back(
            secret: [u8; 32], seed: u64, threshold in 1u8..8, more in 0u8..8, order in Just((1..=15u8).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let count = threshold + more;
            let parts = split(&Secret::from_slice(&secret).unwrap(), threshold, count, &SeededRng::new(seed)).unwrap();
            let chosen: Vec<u8> = order.into_iter().filter(|number| *number <= count).collect();
            for len in 1..=chosen.len() {
                let found = joined(&numbered(&parts, &chosen[..len])).unwrap();
                prop_assert_eq!(found == secret, len >= usize::from(threshold), "{} of {}", len, threshold);
            }
        }

        #[test]
        fn another_implementation_joins_what_is_split_here_and_the_other_way_round(secret: [u8; 32], seed: u64, threshold in 2u8..6) {
            let parts = split(&Secret::from_slice(&secret).unwrap(), threshold, 8, &SeededRng::new(seed)).unwrap();
            let foreign = |number: u8| {
                let bytes = [&[number], parts[usize::from(number) - 1].expose().as_slice()].concat();
                blahaj::Share::try_from(bytes.as_slice()).unwrap()
            };
            let shares: Vec<_> = (3..3 + threshold).map(foreign).collect();
            prop_assert_eq!(blahaj::Sharks(threshold).recover(&shares).unwrap(), secret.to_vec());

            let dealt: Vec<Vec<u8>> =
                blahaj::Sharks(threshold).dealer(&secret).take(8).map(|share| Vec::from(&share)).collect();
            let back: Vec<_> = dealt.iter().rev().map(|share| (share[0], Secret::from_slice(&share[1..]).unwrap())).collect();
            prop_assert_eq!(joined(&back[..usize::from(threshold)]).unwrap(), secret);
        }
    }

    #[test]
    fn parts_without_numbers_of_their_own_are_refused() {
        let parts = split(&Secret::from_slice(&[7; 32]).unwrap(), 2, 3, &SeededRng::new(1)).unwrap();
        assert!(joined(&[]).is_none());
        assert!(joined(&numbered(&parts, &[1, 2, 1])).is_none());
        let mut zero = numbered(&parts, &[1, 2]);
        zero[0].0 = 0;
        assert!(joined(&zero).is_none());
    }

    #[test]
    fn a_failing_generator_splits_nothing() {
        struct Failing;
        impl crate::rng::Rng for Failing {
            fn fill(&self, _: &mut [u8]) -> Result<(), CryptoError> {
                Err(CryptoError::Random { source: "no entropy".into() })
            }
        }
        assert!(split(&Secret::from_slice(&[7; 32]).unwrap(), 2, 3, &Failing).is_err());
    }
}
