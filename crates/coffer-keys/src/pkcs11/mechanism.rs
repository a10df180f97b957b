//! How a token wraps: section 7, kind 5. Why these mechanisms, and in this order, stands in `docs/decisions/0016-pkcs11-mechanism.md`.

use std::fmt;

use coffer_crypto::{CryptoError, Rng, Secret, rng};
use coffer_format::slot::{Slot, TokenKey};
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismInfo, MechanismType};
use cryptoki::object::{KeyType, ObjectHandle};
use zeroize::Zeroizing;

use super::error::TokenError;
use super::key_wrap;
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
    /// AES-KWP, which tokens call `CKM_AES_KEY_WRAP_PAD`.
    AesKwp,
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
            Self::AesKwp => 0x210b,
        }
    }

    /// The mechanism with this `CKM_` value.
    #[must_use]
    pub const fn of_number(number: u64) -> Option<Self> {
        match number {
            0x1085 => Some(Self::AesCbcHmac),
            0x1087 => Some(Self::AesGcm),
            0x210b => Some(Self::AesKwp),
            _ => None,
        }
    }
}

impl fmt::Display for TokenMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AesGcm => "CKM_AES_GCM",
            Self::AesKwp => "CKM_AES_KEY_WRAP_PAD",
            Self::AesCbcHmac => "CKM_AES_CBC_PAD with CKM_SHA256_HMAC",
        })
    }
}

/// The mechanisms that can be used and that the token offers, the best one first.
fn offered(token: &OpenToken) -> Result<Vec<TokenMechanism>, TokenError> {
    let listed = token.module.get_mechanism_list(token.slot()).map_err(|error| token.failed(&error))?;
    let can = |mechanism: MechanismType, what: fn(&MechanismInfo) -> bool| {
        // Some modules fail when they are asked about what they do not have.
        listed.contains(&mechanism)
            && token.module.get_mechanism_info(token.slot(), mechanism).is_ok_and(|facts| what(&facts))
    };
    let encrypts = |facts: &MechanismInfo| facts.encrypt() && facts.decrypt();
    let wraps = |facts: &MechanismInfo| facts.wrap() && facts.unwrap();
    let signs = |facts: &MechanismInfo| facts.sign() && facts.verify();
    let all = [TokenMechanism::AesGcm, TokenMechanism::AesKwp, TokenMechanism::AesCbcHmac];
    let is_offered = |mechanism: &TokenMechanism| match mechanism {
        TokenMechanism::AesGcm => can(MechanismType::AES_GCM, encrypts),
        TokenMechanism::AesKwp => can(MechanismType::AES_KEY_WRAP_PAD, wraps),
        TokenMechanism::AesCbcHmac => {
            can(MechanismType::AES_CBC_PAD, encrypts) && can(MechanismType::SHA256_HMAC, signs)
        }
    };
    Ok(all.into_iter().filter(is_offered).collect())
}

/// What `work` gives by the first mechanism by which it succeeds, of those that the token offers, or of the one that is `wanted`. If it
/// succeeds by none, what was said of the first one.
pub(super) fn first_that_works<T>(
    token: &OpenToken,
    wanted: Option<TokenMechanism>,
    mut work: impl FnMut(TokenMechanism) -> Result<T, KeyError>,
) -> Result<T, KeyError> {
    let mechanisms = match wanted {
        Some(mechanism) => vec![mechanism],
        None => offered(token)?,
    };
    let mut refused = None;
    for mechanism in mechanisms {
        match work(mechanism) {
            Ok(done) => return Ok(done),
            // Nothing else is of use any more.
            Err(error @ KeyError::Token(TokenError::Removed { .. })) => return Err(error),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| TokenError::NoMechanism { token: token.name() }.into()))
}

/// The keys of a mechanism.
pub(super) enum Keys {
    Gcm(ObjectHandle),
    Kwp(ObjectHandle),
    CbcHmac { cipher: ObjectHandle, mac: ObjectHandle },
}

impl Keys {
    /// The key by which both keys are named.
    pub(super) const fn cipher(&self) -> ObjectHandle {
        match self {
            Self::Gcm(cipher) | Self::Kwp(cipher) | Self::CbcHmac { cipher, .. } => *cipher,
        }
    }

    const fn mechanism(&self) -> TokenMechanism {
        match self {
            Self::Gcm(_) => TokenMechanism::AesGcm,
            Self::Kwp(_) => TokenMechanism::AesKwp,
            Self::CbcHmac { .. } => TokenMechanism::AesCbcHmac,
        }
    }
}

/// Finds what the mechanism needs: both keys have the same name, and are told apart by their type.
pub(super) fn find_keys(
    token: &OpenToken,
    name: &KeyName<'_>,
    mechanism: TokenMechanism,
) -> Result<Keys, TokenError> {
    let cipher = token.find(KeyType::AES, name)?;
    Ok(match mechanism {
        TokenMechanism::AesGcm => Keys::Gcm(cipher),
        TokenMechanism::AesKwp => Keys::Kwp(cipher),
        TokenMechanism::AesCbcHmac => {
            Keys::CbcHmac { cipher, mac: token.find(KeyType::GENERIC_SECRET, name)? }
        }
    })
}

/// 16 random bytes: what a new IV is made of, or the salt of a slot whose mechanism has none.
pub(super) struct Fresh([u8; CBC_IV_LEN]);

impl Fresh {
    pub(super) fn draw(rng: &dyn Rng) -> Result<Self, CryptoError> {
        rng::array(rng).map(Self)
    }

    /// The salt of a new slot.
    pub(super) fn salt(&self, mechanism: TokenMechanism) -> Option<[u8; 16]> {
        (mechanism == TokenMechanism::AesKwp).then_some(self.0)
    }
}

/// What the token made of the content of a slot.
pub(super) struct Sealed {
    pub(super) iv: Option<Vec<u8>>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) mac: Option<[u8; MAC_LEN]>,
}

impl Sealed {
    /// What stands in a slot.
    pub(super) fn of(slot: &Slot, key: &TokenKey) -> Self {
        Self { iv: key.iv.clone(), ciphertext: slot.wrapped.clone(), mac: key.mac }
    }
}

/// Random bytes by which it is found out what a token does, before it is given the key of a vault.
pub(super) struct Trial {
    plain: Secret<64>,
    fresh: Fresh,
}

impl Trial {
    pub(super) fn draw(rng: &dyn Rng) -> Result<Self, CryptoError> {
        Ok(Self { plain: Secret::generate(rng)?, fresh: Fresh::draw(rng)? })
    }
}

/// Whether the token wraps and unwraps with these keys: a mechanism that is listed may be refused for the key, or by the rules of the token.
pub(super) fn try_out(token: &OpenToken, keys: &Keys, trial: &Trial) -> Result<(), KeyError> {
    let bound = [0; 32];
    let sealed = seal(token, keys, &bound, trial.plain.expose(), &trial.fresh)?;
    match open(token, keys, &sealed, &bound)? {
        Some(plain) if plain.as_slice() == trial.plain.expose() => Ok(()),
        _ => Err(TokenError::NotReversible { token: token.name(), mechanism: keys.mechanism() }.into()),
    }
}

/// Wraps the content of a slot, bound to the hash of its context.
pub(super) fn seal(
    token: &OpenToken,
    keys: &Keys,
    bound: &[u8; 32],
    plain: &[u8; 64],
    Fresh(iv): &Fresh,
) -> Result<Sealed, KeyError> {
    let failed = |error: Error| KeyError::from(token.failed(&error));
    match *keys {
        Keys::Gcm(cipher) => {
            // Some tokens choose an IV of their own and write it into the parameters: what stands there afterwards counts.
            let [mut iv @ .., _, _, _, _] = *iv;
            let ciphertext = {
                let mechanism = Mechanism::AesGcm(gcm(&mut iv, bound).map_err(failed)?);
                token.session.encrypt(&mechanism, cipher, plain).map_err(failed)?
            };
            Ok(Sealed { iv: Some(iv.to_vec()), ciphertext, mac: None })
        }
        // What binds it is in the plaintext.
        Keys::Kwp(cipher) => {
            Ok(Sealed { iv: None, ciphertext: key_wrap::wrap(token, cipher, plain)?, mac: None })
        }
        Keys::CbcHmac { cipher, mac } => {
            let ciphertext =
                token.session.encrypt(&Mechanism::AesCbcPad(*iv), cipher, plain).map_err(failed)?;
            let mac = token.session.sign(&Mechanism::Sha256Hmac, mac, &covered(iv, &ciphertext, bound));
            let mac = <[u8; MAC_LEN]>::try_from(mac.map_err(failed)?);
            let mac = mac.map_err(|_| {
                let mechanism = TokenMechanism::AesCbcHmac;
                TokenError::NotReversible { token: token.name(), mechanism }
            })?;
            Ok(Sealed { iv: Some(iv.to_vec()), ciphertext, mac: Some(mac) })
        }
    }
}

/// Unwraps the content of a slot; nothing if it is not as it was made.
pub(super) fn open(
    token: &OpenToken,
    keys: &Keys,
    Sealed { iv, ciphertext, mac }: &Sealed,
    bound: &[u8; 32],
) -> Result<Option<Zeroizing<Vec<u8>>>, TokenError> {
    let failed = |error: Error| token.failed(&error);
    let plain = match (keys, iv.as_deref(), mac) {
        (Keys::Kwp(cipher), None, None) => return key_wrap::unwrap(token, *cipher, ciphertext),
        (Keys::Gcm(cipher), Some(iv), None) if ciphertext.len() == CIPHERTEXT_LEN => {
            let Ok(mut iv) = <[u8; GCM_IV_LEN]>::try_from(iv) else { return Ok(None) };
            let parameters = gcm(&mut iv, bound).map_err(failed)?;
            token.session.decrypt(&Mechanism::AesGcm(parameters), *cipher, ciphertext)
        }
        (Keys::CbcHmac { cipher, mac: mac_key }, Some(iv), Some(mac))
            if ciphertext.len() == CIPHERTEXT_LEN =>
        {
            let Ok(iv) = <[u8; CBC_IV_LEN]>::try_from(iv) else { return Ok(None) };
            let covered = covered(&iv, ciphertext, bound);
            let verified = token.session.verify(&Mechanism::Sha256Hmac, *mac_key, &covered, mac);
            if unless_refused(verified).map_err(failed)?.is_none() {
                return Ok(None);
            }
            token.session.decrypt(&Mechanism::AesCbcPad(iv), *cipher, ciphertext)
        }
        _ => return Ok(None),
    };
    Ok(unless_refused(plain).map_err(failed)?.map(Zeroizing::new))
}

fn gcm<'a>(iv: &'a mut [u8; GCM_IV_LEN], bound: &'a [u8; 32]) -> Result<GcmParams<'a>, Error> {
    GcmParams::new(iv, bound, GCM_TAG_BITS.into())
}

/// What the MAC covers: three parts of fixed length.
fn covered(iv: &[u8; CBC_IV_LEN], ciphertext: &[u8], bound: &[u8; 32]) -> Vec<u8> {
    [iv.as_slice(), ciphertext, bound].concat()
}

/// Nothing where the token found that its input was not made with this key. Tokens say that in many ways, some of them general. What a token
/// has against the key or the mechanism it says otherwise, most of it in the call before.
pub(super) fn unless_refused<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Pkcs11(
            RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::SignatureInvalid
            | RvError::SignatureLenRange
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::WrappedKeyInvalid
            | RvError::WrappedKeyLenRange
            | RvError::ArgumentsBad
            | RvError::FunctionFailed
            | RvError::GeneralError,
            Function::Decrypt | Function::Verify | Function::UnwrapKey,
        )) => Ok(None),
        Err(error) => Err(error),
    }
}
