//! One key wrapped under another (section 7), and what else turns a slot's secret into keys.

use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::hash;
use crate::hazmat::{Gcm, PortableGcm, TAG_LEN};
use crate::kdf::{kdf, kdf64};
use crate::seal::{Purpose, nonce};
use crate::secret::Secret;

/// Length of what [`wrap`] gives, in bytes.
pub const WRAPPED_LEN: usize = 64 + TAG_LEN;

/// KEK and commitment of a slot whose 32-byte secret is `secret`: `KDF64(s, "slot", salt || vault id)`.
#[must_use]
pub fn slot_keys(secret: &Secret<32>, salt: &[u8; 32], vault_id: &[u8; 32]) -> (Secret<32>, [u8; 32]) {
    kdf64(secret, "slot", &[salt.as_slice(), vault_id].concat())
}

/// The id by which a slot names a key file: the first 8 bytes of `KDF(s, "key file id", "")`.
#[must_use]
pub fn key_file_id(secret: &Secret<32>) -> [u8; 8] {
    let id = kdf(secret, "key file id", b"");
    let mut out = [0; 8];
    out.copy_from_slice(&id.expose()[..8]);
    out
}

/// The checksum in a key file: the first 4 bytes of `H("coffer/1 key file" || secret)`.
#[must_use]
pub fn key_file_checksum(secret: &Secret<32>) -> [u8; 4] {
    let mut hasher = hash::Hasher::new();
    let [a, b, c, d, ..] = hasher.update(b"coffer/1 key file").update(secret.expose()).finalize();
    [a, b, c, d]
}

/// The checksum in a writer credential: the first 4 bytes of `H("coffer/1 writer" || content)`.
#[must_use]
pub fn writer_checksum(content: &[u8]) -> [u8; 4] {
    let mut hasher = hash::Hasher::new();
    let [a, b, c, d, ..] = hasher.update(b"coffer/1 writer").update(content).finalize();
    [a, b, c, d]
}

/// Seals `plain`, a key (32) and the hash of its context (32), under `kek`. Gives [`WRAPPED_LEN`] bytes.
///
/// `aad` is the context itself. A KEK has one salt and so wraps once: the nonce is fixed.
///
/// # Panics
/// When `aad` is longer than AES-GCM takes (64 GiB).
#[must_use]
pub fn wrap(kek: &Secret<32>, aad: &[u8], plain: &[u8; 64]) -> Vec<u8> {
    let mut wrapped = Vec::with_capacity(WRAPPED_LEN);
    wrapped.extend_from_slice(plain);
    let tag = PortableGcm::new(kek.expose())
        .seal(&nonce(Purpose::WrappedKey, 0), aad, &mut wrapped)
        .expect("the context of a slot is at most 16 KiB");
    wrapped.extend_from_slice(&tag);
    wrapped
}

/// Opens what [`wrap`] gave. The caller still has to compare the second half with the hash of the context.
///
/// # Errors
/// [`CryptoError::Open`], whatever the reason.
pub fn unwrap(kek: &Secret<32>, aad: &[u8], wrapped: &[u8]) -> Result<Secret<64>, CryptoError> {
    let failed = CryptoError::Open { what: Purpose::WrappedKey };
    let Some((text, tag)) = wrapped.split_last_chunk::<TAG_LEN>() else {
        return Err(failed);
    };
    let Ok(mut plain) = <[u8; 64]>::try_from(text).map(Zeroizing::new) else {
        return Err(failed);
    };
    let nonce = nonce(Purpose::WrappedKey, 0);
    if PortableGcm::new(kek.expose()).open(&nonce, aad, plain.as_mut_slice(), tag).is_err() {
        return Err(failed);
    }
    Ok(Secret::new(*plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped() -> (Secret<32>, Vec<u8>) {
        let kek = Secret::new([5; 32]);
        let wrapped = wrap(&kek, b"context", &[6; 64]);
        (kek, wrapped)
    }

    #[test]
    fn wrap_round_trip() {
        let (kek, wrapped) = wrapped();
        assert_eq!(wrapped.len(), WRAPPED_LEN);
        assert_eq!(unwrap(&kek, b"context", &wrapped).unwrap().expose(), &[6; 64]);
    }

    #[test]
    fn anything_else_does_not_open() {
        let (kek, wrapped) = wrapped();
        assert!(unwrap(&Secret::new([4; 32]), b"context", &wrapped).is_err());
        assert!(unwrap(&kek, b"contexT", &wrapped).is_err());
        assert!(unwrap(&kek, b"", &wrapped).is_err());
        for len in 0..wrapped.len() {
            assert!(unwrap(&kek, b"context", &wrapped[..len]).is_err());
        }
        assert!(unwrap(&kek, b"context", &[&wrapped[..], &[0]].concat()).is_err());
        for position in 0..wrapped.len() {
            let mut altered = wrapped.clone();
            altered[position] ^= 1;
            assert!(unwrap(&kek, b"context", &altered).is_err(), "byte {position}");
        }
    }

    #[test]
    fn slot_keys_depend_on_each_input() {
        let (kek, commitment) = slot_keys(&Secret::new([1; 32]), &[2; 32], &[3; 32]);
        for (secret, salt, vault) in [(0, 2, 3), (1, 0, 3), (1, 2, 0), (1, 3, 2)] {
            let other = slot_keys(&Secret::new([secret; 32]), &[salt; 32], &[vault; 32]);
            assert_ne!(kek, other.0);
            assert_ne!(commitment, other.1);
        }
    }
}
