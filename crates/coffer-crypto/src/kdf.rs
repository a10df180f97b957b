//! `KDF` and `KDF64` of section 4: HKDF-Expand with SHA-256 and a label for each use.
//!
//! The secret is the pseudorandom key itself; it has to be uniformly random already. A passphrase goes through
//! [`crate::passphrase`] first.

use hkdf::Hkdf;
use sha2::Sha256;

use crate::secret::Secret;

const PREFIX: &[u8] = b"coffer/1 ";

/// A 32-byte key that follows from `secret` for the use `label` names, bound to `context`.
///
/// `label` is ASCII without NUL, and a constant of the code: never input.
///
/// # Source
/// `docs/format.md` section 4; RFC 5869 section 2.3.
#[must_use]
pub fn kdf(secret: &Secret<32>, label: &str, context: &[u8]) -> Secret<32> {
    expand(secret, label, context)
}

/// As [`kdf`] with 64 bytes: a key, and a commitment to it that may be stored in the clear.
#[must_use]
pub fn kdf64(secret: &Secret<32>, label: &str, context: &[u8]) -> (Secret<32>, [u8; 32]) {
    expand::<64>(secret, label, context).split()
}

fn expand<const N: usize>(secret: &Secret<32>, label: &str, context: &[u8]) -> Secret<N> {
    debug_assert!(label.is_ascii() && !label.contains('\0'), "labels are ASCII without NUL");
    expand_raw(secret.expose(), &[PREFIX, label.as_bytes(), &[0], context])
}

/// HKDF-Expand of RFC 5869 for a pseudorandom key of 32 bytes; `N` is at most 64.
fn expand_raw<const N: usize>(pseudorandom_key: &[u8; 32], info: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= 64) };
    let hkdf = Hkdf::<Sha256>::from_prk(pseudorandom_key).expect("32 bytes are the length of the hash");
    Secret::fill_with(|out| hkdf.expand_multi_info(info, out)).expect("64 bytes are below 255 hashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }

    /// RFC 5869, appendix A, test cases 1 and 3: PRK, info and the expanded key.
    #[test]
    fn rfc_5869_expand() {
        let prk = bytes("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let info = bytes::<10>("f0f1f2f3f4f5f6f7f8f9");
        let expected = bytes::<42>(
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        );
        assert_eq!(expand_raw::<42>(&prk, &[&info]).expose(), &expected);
        assert_eq!(expand_raw::<42>(&prk, &[&info[..3], &info[3..]]).expose(), &expected);

        let prk = bytes("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04");
        let expected = bytes::<42>(
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        );
        assert_eq!(expand_raw::<42>(&prk, &[]).expose(), &expected);
    }

    #[test]
    fn label_and_context_do_not_run_together() {
        let secret = Secret::new([9; 32]);
        assert_ne!(kdf(&secret, "ab", b"c"), kdf(&secret, "a", b"bc"));
        assert_ne!(kdf(&secret, "ab", b""), kdf(&secret, "a", b"b"));
        assert_ne!(kdf(&secret, "a", b""), kdf(&Secret::new([8; 32]), "a", b""));
    }

    #[test]
    fn kdf64_starts_as_kdf() {
        let secret = Secret::new([9; 32]);
        let (key, commitment) = kdf64(&secret, "a", b"b");
        assert_eq!(key, kdf(&secret, "a", b"b"));
        assert_ne!(key.expose(), &commitment);
    }
}
