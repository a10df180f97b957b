//! New keys on a token.

use coffer_crypto::{CryptoError, Rng, rng};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};

use super::error::{TokenError, describe_call};
use super::mechanism::{self, Keys, TokenMechanism, Trial};
use super::session::OpenToken;
use super::{PinDesk, TokenSettings, Way};
use crate::error::KeyError;

/// Length of a key in bytes.
const KEY_LEN: u64 = 32;
/// Length of an id that nobody chose, in bytes.
const ID_LEN: usize = 8;

/// A key that was made on a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTokenKey {
    /// Label of the token.
    pub token_label: String,
    /// Serial number of the token.
    pub token_serial: String,
    /// Label of the key.
    pub label: String,
    /// Id of the key.
    pub id: Vec<u8>,
    /// The mechanism it was made for. With [`TokenMechanism::AesCbcHmac`] there are two keys of this name.
    pub mechanism: TokenMechanism,
}

/// What has to be random for a new key, but for the key itself.
pub(super) struct Drawn {
    id: [u8; ID_LEN],
    trial: Trial,
}

impl Drawn {
    pub(super) fn draw(rng: &dyn Rng) -> Result<Self, CryptoError> {
        Ok(Self { id: rng::array(rng)?, trial: Trial::draw(rng)? })
    }
}

pub(super) fn generate(way: &Way, desk: PinDesk<'_>, drawn: &Drawn) -> Result<NewTokenKey, KeyError> {
    let TokenSettings { key_label, key_id, mechanism, .. } = &way.settings;
    let token = way.open(None, true, desk)?;
    let Some(label) = key_label.clone().filter(|label| !label.is_empty()) else {
        return Err(TokenError::KeyNotNamed { token: token.name(), keys: token.key_names() }.into());
    };
    let id = key_id.clone().unwrap_or_else(|| drawn.id.to_vec());
    let same = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let found = token.session.find_objects(&same).map_err(|error| token.failed(&error))?;
    if !found.is_empty() {
        return Err(TokenError::KeyExists { token: token.name(), label }.into());
    }
    let name = NewName { label: &label, id: &id };
    let mechanism = mechanism::first_that_works(&token, *mechanism, |mechanism| {
        let keys = name.make(&token, mechanism)?;
        match mechanism::try_out(&token, &keys, &drawn.trial) {
            Ok(()) => Ok(mechanism),
            Err(error) => {
                // They would only be in the way of the next try. Nothing was wrapped with them but random bytes.
                destroy(&token, &keys);
                Err(error)
            }
        }
    })?;
    let (token_label, token_serial) = (token.label().to_owned(), token.serial().to_owned());
    Ok(NewTokenKey { token_label, token_serial, label, id, mechanism })
}

/// The name of keys that are to be made.
struct NewName<'a> {
    label: &'a str,
    id: &'a [u8],
}

impl NewName<'_> {
    /// Makes the keys of a mechanism, each for what it is needed for and nothing else.
    fn make(&self, token: &OpenToken, mechanism: TokenMechanism) -> Result<Keys, TokenError> {
        let wraps = mechanism == TokenMechanism::AesKwp;
        let uses = [
            Attribute::Encrypt(!wraps),
            Attribute::Decrypt(!wraps),
            Attribute::Wrap(wraps),
            Attribute::Unwrap(wraps),
        ];
        let failed = |error| self.not_made(token, &error);
        let template = self.template(KeyType::AES, &uses);
        let cipher = token.session.generate_key(&Mechanism::AesKeyGen, &template).map_err(failed)?;
        Ok(match mechanism {
            TokenMechanism::AesGcm => Keys::Gcm(cipher),
            TokenMechanism::AesKwp => Keys::Kwp(cipher),
            TokenMechanism::AesCbcHmac => {
                let uses = [Attribute::Sign(true), Attribute::Verify(true)];
                let template = self.template(KeyType::GENERIC_SECRET, &uses);
                match token.session.generate_key(&Mechanism::GenericSecretKeyGen, &template) {
                    Ok(mac) => Keys::CbcHmac { cipher, mac },
                    Err(error) => {
                        // Half of a pair would only be in the way of the next try.
                        drop(token.session.destroy_object(cipher));
                        return Err(failed(error));
                    }
                }
            }
        })
    }

    /// Sensitive, and not extractable.
    fn template(&self, key_type: KeyType, uses: &[Attribute]) -> Vec<Attribute> {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(key_type),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::ValueLen(KEY_LEN.into()),
            Attribute::Label(self.label.as_bytes().to_vec()),
            Attribute::Id(self.id.to_vec()),
        ];
        template.extend_from_slice(uses);
        template
    }

    /// Label and id are the only values of the template that are not the same for every token.
    fn not_made(&self, token: &OpenToken, error: &Error) -> TokenError {
        match error {
            Error::Pkcs11(
                RvError::ArgumentsBad | RvError::AttributeValueInvalid | RvError::DataLenRange,
                _,
            ) => TokenError::NameRefused {
                token: token.name(),
                label: self.label.to_owned(),
                call: describe_call(error),
            },
            _ => token.failed(error),
        }
    }
}

fn destroy(token: &OpenToken, keys: &Keys) {
    drop(token.session.destroy_object(keys.cipher()));
    if let Keys::CbcHmac { mac, .. } = keys {
        drop(token.session.destroy_object(*mac));
    }
}
