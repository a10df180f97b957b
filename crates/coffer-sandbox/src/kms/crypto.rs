//! The primitives, each in the one form that the key service needs.
//!
//! Nothing here decides what a key is for: [`super::master`] and [`super::material`] do. Failures do not say why.

use aes_gcm::aead::{AeadInOut, KeyInit, consts::U16};
use aes_gcm::aes::cipher::{BlockCipherEncrypt, BlockSizeUser};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AesGcm, Nonce as AnyNonce};
use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use coffer_crypto::{Secret, SecretBytes};
use zeroize::Zeroizing;

/// Bytes of an initialization vector of GCM.
pub(super) const IV_LEN: usize = 12;
const TAG_LEN: usize = 16;
const SALT_LEN: usize = 32;

/// What was to be done could not be done; the reason is nobody's business.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// Random bytes.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[expect(clippy::expect_used, reason = "without randomness nothing of this process works")]
    getrandom::fill(&mut out).expect("the operating system has randomness");
    out
}

/// A random secret.
pub(super) fn random_secret() -> Secret<32> {
    let mut bytes = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "without randomness nothing of this process works")]
    getrandom::fill(&mut *bytes).expect("the operating system has randomness");
    Secret::new(*bytes)
}

/// Material of a key that the service makes.
pub(super) fn random_material() -> SecretBytes {
    SecretBytes::new(random_secret().expose().to_vec())
}

/// SHA-256 over pieces, one after the other.
pub(super) fn sha256(pieces: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for piece in pieces {
        context.update(piece);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether two values are the same, in a time that does not depend on them.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Texts as bytes that no other list of texts gives: their number, then each with its length before it.
pub(super) fn list_bytes<T: AsRef<[u8]>>(list: &[T]) -> Vec<u8> {
    let len = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes();
    let mut out = len(list.len()).to_vec();
    for one in list {
        out.extend_from_slice(&len(one.as_ref().len()));
        out.extend_from_slice(one.as_ref());
    }
    out
}

struct KeyLen;

impl KeyType for KeyLen {
    fn len(&self) -> usize {
        32
    }
}

/// HKDF-SHA256, 32 bytes of it.
pub(super) fn derive(key: &Secret<32>, salt: &[u8], info: &[u8]) -> Secret<32> {
    let mut out = Zeroizing::new([0; 32]);
    let extracted = Salt::new(HKDF_SHA256, salt).extract(key.expose());
    #[expect(clippy::expect_used, reason = "32 bytes are within what HKDF gives")]
    extracted.expand(&[info], KeyLen).and_then(|key| key.fill(&mut *out)).expect("HKDF gives 32 bytes");
    Secret::new(*out)
}

/// Seals bytes for a place. Each seal has a key of its own, derived with a random salt: no nonce is ever used twice.
pub(super) fn seal(key: &Secret<32>, place: &[&str], text: &[u8]) -> Vec<u8> {
    let salt: [u8; SALT_LEN] = random();
    let once = derive(key, &salt, &list_bytes(place));
    let mut out = salt.to_vec();
    #[expect(
        clippy::expect_used,
        reason = "the key has 32 bytes and the text is far below the limit of GCM"
    )]
    out.extend_from_slice(&gcm_seal(once.expose(), &[0; IV_LEN], &[], text).expect("GCM seals"));
    out
}

/// What [`seal`] sealed for this place.
pub(super) fn open(key: &Secret<32>, place: &[&str], sealed: &[u8]) -> Result<SecretBytes, Failed> {
    let (salt, text) = sealed.split_at_checked(SALT_LEN).ok_or(Failed)?;
    let once = derive(key, salt, &list_bytes(place));
    gcm_open(once.expose(), &[0; IV_LEN], &[], text)
}

fn gcm(key: &[u8]) -> Result<LessSafeKey, Failed> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return Err(Failed),
    };
    Ok(LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| Failed)?))
}

/// AES-GCM with a key of 16, 24 or 32 bytes; gives the ciphertext with the tag behind it.
pub(super) fn gcm_seal(key: &[u8], iv: &[u8; IV_LEN], aad: &[u8], text: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut out = Vec::with_capacity(text.len() + TAG_LEN);
    out.extend_from_slice(text);
    let nonce = Nonce::assume_unique_for_key(*iv);
    gcm(key)?.seal_in_place_append_tag(nonce, Aad::from(aad), &mut out).map_err(|_| Failed)?;
    Ok(out)
}

/// What [`gcm_seal`] sealed.
pub(super) fn gcm_open(key: &[u8], iv: &[u8], aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, Failed> {
    let iv: [u8; IV_LEN] = iv.try_into().map_err(|_| Failed)?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(iv);
    let len = gcm(key)?.open_in_place(nonce, Aad::from(aad), &mut text).map_err(|_| Failed)?.len();
    text.truncate(len);
    Ok(SecretBytes::new(std::mem::take(&mut *text)))
}

fn long_gcm_open<C>(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<SecretBytes, Failed>
where
    C: KeyInit + BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
    AesGcm<C, U16>: KeyInit + AeadInOut,
{
    let iv: [u8; 16] = iv.try_into().map_err(|_| Failed)?;
    let cipher = <AesGcm<C, U16> as KeyInit>::new_from_slice(key).map_err(|_| Failed)?;
    let mut text = sealed.to_vec();
    let nonce: AnyNonce<_> = iv.as_slice().try_into().map_err(|_| Failed)?;
    cipher.decrypt_in_place(&nonce, &[], &mut text).map_err(|_| Failed)?;
    Ok(SecretBytes::new(text))
}

/// AES-GCM with an initialization vector of 16 bytes, as few clients make it.
pub(super) fn gcm_open_long(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<SecretBytes, Failed> {
    match key.len() {
        16 => long_gcm_open::<Aes128>(key, iv, sealed),
        24 => long_gcm_open::<Aes192>(key, iv, sealed),
        32 => long_gcm_open::<Aes256>(key, iv, sealed),
        _ => Err(Failed),
    }
}

/// AES-CBC with PKCS#7 padding.
pub(super) fn cbc_open(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<SecretBytes, Failed> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return Err(Failed),
    };
    let iv: [u8; 16] = iv.try_into().map_err(|_| Failed)?;
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| Failed)?;
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Failed)?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let len = cipher.decrypt(&mut text, context).map_err(|_| Failed)?.len();
    text.truncate(len);
    Ok(SecretBytes::new(std::mem::take(&mut *text)))
}

/// An RSA key of an import token: its private half, and its public half as `SubjectPublicKeyInfo`.
pub(super) fn new_rsa() -> Result<(SecretBytes, Vec<u8>), Failed> {
    let key = PrivateDecryptingKey::generate(KeySize::Rsa4096).map_err(|_| Failed)?;
    let private: Pkcs8V1Der<'_> = key.as_der().map_err(|_| Failed)?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| Failed)?;
    Ok((SecretBytes::new(private.as_ref().to_vec()), public.as_ref().to_vec()))
}

/// The hash of OAEP and of its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OaepHash {
    Sha1,
    Sha256,
}

/// RSA-OAEP with an empty label.
pub(super) fn rsa_open(private: &SecretBytes, hash: OaepHash, sealed: &[u8]) -> Result<SecretBytes, Failed> {
    let algorithm = match hash {
        OaepHash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        OaepHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
    };
    let key = PrivateDecryptingKey::from_pkcs8(private.expose()).map_err(|_| Failed)?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(|_| Failed)?;
    let mut room = Zeroizing::new(vec![0; key.min_output_size()]);
    let text = key.decrypt(algorithm, sealed, &mut room, None).map_err(|_| Failed)?;
    Ok(SecretBytes::new(text.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_for_one_place_opens_there_only() {
        let key = random_secret();
        let sealed = seal(&key, &["a", "b"], b"text");
        assert_eq!(open(&key, &["a", "b"], &sealed).unwrap().expose(), b"text");
        assert!(open(&key, &["ab", ""], &sealed).is_err());
        assert!(open(&random_secret(), &["a", "b"], &sealed).is_err());
        assert!(open(&key, &["a", "b"], &sealed[..sealed.len() - 1]).is_err());
        assert!(open(&key, &["a", "b"], &[0; 5]).is_err());
        assert_ne!(sealed, seal(&key, &["a", "b"], b"text"));
    }

    #[test]
    fn lists_are_told_apart() {
        let lists: [&[&str]; 6] = [&[], &[""], &["", ""], &["ab"], &["a", "b"], &["a", "b", ""]];
        for (place, one) in lists.iter().enumerate() {
            for other in &lists[place + 1..] {
                assert_ne!(list_bytes(one), list_bytes(other));
            }
        }
    }

    #[test]
    fn gcm_works_with_keys_of_three_lengths() {
        for len in [16, 24, 32] {
            let key = vec![7; len];
            let sealed = gcm_seal(&key, &[1; 12], b"aad", b"text").unwrap();
            assert_eq!(gcm_open(&key, &[1; 12], b"aad", &sealed).unwrap().expose(), b"text");
            assert!(gcm_open(&key, &[1; 12], b"", &sealed).is_err());
        }
        assert!(gcm_seal(&[7; 20], &[1; 12], b"", b"text").is_err());
        assert!(cbc_open(&[7; 20], &[1; 16], &[0; 16]).is_err());
        assert!(gcm_open_long(&[7; 32], &[1; 16], &[0; 32]).is_err());
    }
}
