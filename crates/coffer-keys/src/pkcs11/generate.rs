//! New keys on a token.

use coffer_crypto::{Rng, rng};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};

use super::error::TokenError;
use super::mechanism::{self, TokenMechanism};
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

pub(super) fn generate(way: &Way, desk: PinDesk<'_>, rng: &dyn Rng) -> Result<NewTokenKey, KeyError> {
    let TokenSettings { key_label, key_id, mechanism, .. } = &way.settings;
    let token = way.open(None, true, desk)?;
    let failed = |error| KeyError::from(token.failed(&error));
    let Some(label) = key_label.clone().filter(|label| !label.is_empty()) else {
        return Err(TokenError::KeyNotNamed { token: token.name(), keys: token.key_names() }.into());
    };
    let id = match key_id {
        Some(id) => id.clone(),
        None => rng::array::<ID_LEN>(rng)?.to_vec(),
    };
    let mechanism = match mechanism {
        Some(mechanism) => *mechanism,
        None => mechanism::choose(&token)?,
    };
    let class = Attribute::Class(ObjectClass::SECRET_KEY);
    let name = Attribute::Label(label.as_bytes().to_vec());
    let same = [class.clone(), Attribute::Token(true), name.clone()];
    if !token.session.find_objects(&same).map_err(failed)?.is_empty() {
        return Err(TokenError::KeyExists { token: token.name(), label }.into());
    }
    let template = |key_type, uses: &[Attribute]| {
        let mut template = vec![
            class.clone(),
            Attribute::KeyType(key_type),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::ValueLen(KEY_LEN.into()),
            name.clone(),
            Attribute::Id(id.clone()),
        ];
        template.extend_from_slice(uses);
        template
    };
    let uses = [
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
    ];
    let cipher = token.session.generate_key(&Mechanism::AesKeyGen, &template(KeyType::AES, &uses));
    let cipher = cipher.map_err(failed)?;
    if mechanism == TokenMechanism::AesCbcHmac {
        let template = template(KeyType::GENERIC_SECRET, &[Attribute::Sign(true), Attribute::Verify(true)]);
        if let Err(error) = token.session.generate_key(&Mechanism::GenericSecretKeyGen, &template) {
            // Half of a pair would only be in the way of the next try. Nothing was wrapped with it.
            drop(token.session.destroy_object(cipher));
            return Err(failed(error));
        }
    }
    let (token_label, token_serial) = (token.label().to_owned(), token.serial().to_owned());
    Ok(NewTokenKey { token_label, token_serial, label, id, mechanism })
}
