//! How a token wraps: section 7, kind 5. Why these two mechanisms stands in `docs/decisions/0016-pkcs11-mechanism.md`.

use std::fmt;

use coffer_crypto::{CryptoError, Rng, rng};
use coffer_format::slot::TokenKey;
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismInfo, MechanismType};
use cryptoki::object::{KeyType, ObjectHandle};
use zeroize::Zeroizing;

use super::error::TokenError;
use super::session::{KeyName, OpenToken};
use crate::error::KeyError;

const GCM_IV_LEN: usize = 12;
const CBC_IV_LEN: usize = 16;
const GCM_TAG_BITS: u64 = 128;
/// 64 bytes and a tag, or 64 bytes and a block of padding.
const CIPHERTEXT_LEN: usize = 80;
const MAC_LEN: usize = 32;

/// How a token wraps the content of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenMechanism {
    /// `CKM_AES_GCM`.
    AesGcm,
    /// `CKM_AES_CBC_PAD`, and `CKM_SHA256_HMAC` by a second key.
    AesCbcHmac,
}

impl TokenMechanism {
    /// The `CKM_` value by which a slot names it.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::AesCbcHmac => 0x1085,
            Self::AesGcm => 0x1087,
        }
    }

    /// The mechanism with this `CKM_` value.
    #[must_use]
    pub const fn of_number(number: u64) -> Option<Self> {
        match number {
            0x1085 => Some(Self::AesCbcHmac),
            0x1087 => Some(Self::AesGcm),
            _ => None,
        }
    }
}

impl fmt::Display for TokenMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AesGcm => "CKM_AES_GCM",
            Self::AesCbcHmac => "CKM_AES_CBC_PAD with CKM_SHA256_HMAC",
        })
    }
}

/// The best mechanism that the token offers.
pub(super) fn choose(token: &OpenToken) -> Result<TokenMechanism, TokenError> {
    let offered = token.module.get_mechanism_list(token.slot()).map_err(|error| token.failed(&error))?;
    let can = |mechanism: MechanismType, what: fn(&MechanismInfo) -> bool| {
        // Some modules fail when they are asked about what they do not have.
        offered.contains(&mechanism)
            && token.module.get_mechanism_info(token.slot(), mechanism).is_ok_and(|facts| what(&facts))
    };
    let encrypts = |facts: &MechanismInfo| facts.encrypt() && facts.decrypt();
    let signs = |facts: &MechanismInfo| facts.sign() && facts.verify();
    if can(MechanismType::AES_GCM, encrypts) {
        Ok(TokenMechanism::AesGcm)
    } else if can(MechanismType::AES_CBC_PAD, encrypts) && can(MechanismType::SHA256_HMAC, signs) {
        Ok(TokenMechanism::AesCbcHmac)
    } else {
        Err(TokenError::NoMechanism { token: token.name() })
    }
}

/// The keys of a mechanism.
pub(super) struct Keys {
    pub(super) cipher: ObjectHandle,
    /// For `AesCbcHmac` alone.
    mac: Option<ObjectHandle>,
}

/// Finds what the mechanism needs: both keys have the same name, and are told apart by their type.
pub(super) fn find_keys(
    token: &OpenToken,
    name: &KeyName<'_>,
    mechanism: TokenMechanism,
) -> Result<Keys, TokenError> {
    let cipher = token.find(KeyType::AES, name)?;
    let mac = match mechanism {
        TokenMechanism::AesGcm => None,
        TokenMechanism::AesCbcHmac => Some(token.find(KeyType::GENERIC_SECRET, name)?),
    };
    Ok(Keys { cipher, mac })
}

/// What a new IV is made of, whichever mechanism it is for.
pub(super) struct NewIv([u8; CBC_IV_LEN]);

impl NewIv {
    pub(super) fn draw(rng: &dyn Rng) -> Result<Self, CryptoError> {
        rng::array(rng).map(Self)
    }
}

/// What the token made of the content of a slot.
pub(super) struct Sealed {
    pub(super) iv: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) mac: Option<[u8; MAC_LEN]>,
}

/// Encrypts the content of a slot, bound to the hash of its context.
pub(super) fn seal(
    token: &OpenToken,
    keys: &Keys,
    bound: &[u8; 32],
    plain: &[u8; 64],
    NewIv(iv): &NewIv,
) -> Result<Sealed, KeyError> {
    let failed = |error: Error| KeyError::from(token.failed(&error));
    let Some(mac_key) = keys.mac else {
        // Some tokens choose an IV of their own and write it into the parameters: what stands there afterwards counts.
        let [mut iv @ .., _, _, _, _] = *iv;
        let ciphertext = {
            let mechanism = Mechanism::AesGcm(gcm(&mut iv, bound).map_err(failed)?);
            token.session.encrypt(&mechanism, keys.cipher, plain).map_err(failed)?
        };
        return Ok(Sealed { iv: iv.to_vec(), ciphertext, mac: None });
    };
    let ciphertext = token.session.encrypt(&Mechanism::AesCbcPad(*iv), keys.cipher, plain).map_err(failed)?;
    let mac = token.session.sign(&Mechanism::Sha256Hmac, mac_key, &covered(iv, &ciphertext, bound));
    let mac = <[u8; MAC_LEN]>::try_from(mac.map_err(failed)?);
    let mac = mac.map_err(|_| {
        let mechanism = TokenMechanism::AesCbcHmac;
        TokenError::NotReversible { token: token.name(), mechanism }
    })?;
    Ok(Sealed { iv: iv.to_vec(), ciphertext, mac: Some(mac) })
}

/// Decrypts the content of a slot; nothing if it is not as it was made.
pub(super) fn open(
    token: &OpenToken,
    keys: &Keys,
    slot: &TokenKey,
    bound: &[u8; 32],
    ciphertext: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, TokenError> {
    if ciphertext.len() != CIPHERTEXT_LEN {
        return Ok(None);
    }
    let iv = slot.iv.as_deref().unwrap_or_default();
    let plain = if let Some(mac_key) = keys.mac {
        let (Ok(iv), Some(mac)) = (<[u8; CBC_IV_LEN]>::try_from(iv), &slot.mac) else { return Ok(None) };
        let verified =
            token.session.verify(&Mechanism::Sha256Hmac, mac_key, &covered(&iv, ciphertext, bound), mac);
        if unless_refused(verified).map_err(|error| token.failed(&error))?.is_none() {
            return Ok(None);
        }
        token.session.decrypt(&Mechanism::AesCbcPad(iv), keys.cipher, ciphertext)
    } else {
        let (Ok(mut iv), None) = (<[u8; GCM_IV_LEN]>::try_from(iv), &slot.mac) else { return Ok(None) };
        let parameters = gcm(&mut iv, bound).map_err(|error| token.failed(&error))?;
        token.session.decrypt(&Mechanism::AesGcm(parameters), keys.cipher, ciphertext)
    };
    let plain = unless_refused(plain).map_err(|error| token.failed(&error))?;
    Ok(plain.map(Zeroizing::new))
}

fn gcm<'a>(iv: &'a mut [u8; GCM_IV_LEN], bound: &'a [u8; 32]) -> Result<GcmParams<'a>, Error> {
    GcmParams::new(iv, bound, GCM_TAG_BITS.into())
}

/// What the MAC covers: three parts of fixed length.
fn covered(iv: &[u8; CBC_IV_LEN], ciphertext: &[u8], bound: &[u8; 32]) -> Vec<u8> {
    [iv.as_slice(), ciphertext, bound].concat()
}

/// Nothing where the token found that its input was not made with this key. Tokens say that in many ways, some of them general. Key and
/// mechanism were accepted by the call before, so the answers below are about the input.
fn unless_refused<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Pkcs11(
            RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::SignatureInvalid
            | RvError::SignatureLenRange
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::ArgumentsBad
            | RvError::FunctionFailed
            | RvError::GeneralError,
            Function::Decrypt | Function::Verify,
        )) => Ok(None),
        Err(error) => Err(error),
    }
}
