//! One session with a token: logging in, and finding keys.

use coffer_crypto::SecretBytes;
use coffer_format::id::hex;
use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;

use super::error::{PinState, TokenError, shown};
use super::module::Token;

/// A token with an open session, which ends with it.
pub(super) struct OpenToken {
    pub(super) session: Session,
    pub(super) module: Pkcs11,
    token: Token,
}

/// By which keys are found; one of the two may be empty, and then is not compared.
#[derive(Clone, Copy)]
pub(super) struct KeyName<'a> {
    pub(super) label: &'a str,
    pub(super) id: &'a [u8],
}

/// Opens a session and logs the user in by `log_in`.
pub(super) fn open(
    module: &Pkcs11,
    token: Token,
    write: bool,
    log_in: impl FnOnce(&Session, &Token) -> Result<(), TokenError>,
) -> Result<OpenToken, TokenError> {
    let opened = if write { module.open_rw_session(token.slot) } else { module.open_ro_session(token.slot) };
    let session = opened.map_err(|error| TokenError::of(&token.name(), &error))?;
    log_in(&session, &token)?;
    Ok(OpenToken { session, module: module.clone(), token })
}

/// Whether there is nothing to be done: all sessions of the process share one login.
pub(super) fn is_logged_in(session: &Session, token: &Token) -> bool {
    let state = session.get_session_info().map(|facts| facts.session_state());
    !token.facts.login_required() || matches!(state, Ok(SessionState::RoUser | SessionState::RwUser))
}

/// Logs the user in, with one try.
pub(super) fn log_in(
    module: &Pkcs11,
    session: &Session,
    token: &Token,
    pin: Option<&SecretBytes>,
) -> Result<(), TokenError> {
    let refused = |state| Err(TokenError::Pin { token: token.name(), state });
    if token.facts.user_pin_locked() {
        return refused(PinState::Locked);
    }
    let result = match pin {
        Some(pin) => {
            let pin = RawAuthPin::new(Box::new(pin.expose().to_vec()));
            session.login_with_raw(UserType::User, &pin)
        }
        None if token.facts.protected_authentication_path() => session.login(UserType::User, None),
        None => return refused(PinState::Missing),
    };
    let Err(error) = result else { return Ok(()) };
    match &error {
        Error::Pkcs11(RvError::UserAlreadyLoggedIn, _) => Ok(()),
        Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => {
            refused(after_wrong_pin(module, token))
        }
        Error::Pkcs11(RvError::PinLocked, _) => refused(PinState::Locked),
        Error::Pkcs11(RvError::PinExpired, _) => refused(PinState::Expired),
        Error::Pkcs11(RvError::UserPinNotInitialized, _) => refused(PinState::NotSet),
        _ => Err(TokenError::of(&token.name(), &error)),
    }
}

/// What the token says of itself after a wrong PIN.
fn after_wrong_pin(module: &Pkcs11, token: &Token) -> PinState {
    match module.get_token_info(token.slot) {
        Ok(facts) if facts.user_pin_locked() => PinState::Locked,
        Ok(facts) if facts.user_pin_final_try() => PinState::WrongLastTry,
        _ => PinState::Wrong,
    }
}

impl OpenToken {
    /// For messages.
    pub(super) fn name(&self) -> String {
        self.token.name()
    }

    pub(super) fn label(&self) -> &str {
        self.token.facts.label()
    }

    pub(super) fn serial(&self) -> &str {
        self.token.facts.serial_number()
    }

    /// Whether objects can be hidden from who is not logged in.
    pub(super) fn has_login(&self) -> bool {
        self.token.facts.login_required()
    }

    pub(super) const fn slot(&self) -> Slot {
        self.token.slot
    }

    pub(super) fn failed(&self, error: &Error) -> TokenError {
        TokenError::of(&self.name(), error)
    }

    /// The one key of a type with this name.
    pub(super) fn find(&self, key_type: KeyType, name: &KeyName<'_>) -> Result<ObjectHandle, TokenError> {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::KeyType(key_type),
        ];
        if !name.label.is_empty() {
            template.push(Attribute::Label(name.label.as_bytes().to_vec()));
        }
        if !name.id.is_empty() {
            template.push(Attribute::Id(name.id.to_vec()));
        }
        let found = self.session.find_objects(&template).map_err(|error| self.failed(&error))?;
        let wanted = || describe(type_name(key_type), name.label, name.id);
        match found.as_slice() {
            [key] => Ok(*key),
            [] => {
                Err(TokenError::KeyMissing { token: self.name(), wanted: wanted(), keys: self.key_names() })
            }
            many => Err(TokenError::KeyAmbiguous { token: self.name(), wanted: wanted(), count: many.len() }),
        }
    }

    /// Label and id of a key.
    pub(super) fn name_of(&self, key: ObjectHandle) -> Result<(String, Vec<u8>), TokenError> {
        let (_, label, id) = self.facts_of(key)?;
        Ok((label, id))
    }

    fn facts_of(&self, key: ObjectHandle) -> Result<(Option<KeyType>, String, Vec<u8>), TokenError> {
        let types = [AttributeType::KeyType, AttributeType::Label, AttributeType::Id];
        let attributes = self.session.get_attributes(key, &types).map_err(|error| self.failed(&error))?;
        let (mut key_type, mut label, mut id) = (None, String::new(), Vec::new());
        for attribute in attributes {
            match attribute {
                Attribute::KeyType(value) => key_type = Some(value),
                Attribute::Label(value) => label = String::from_utf8_lossy(&value).into_owned(),
                Attribute::Id(value) => id = value,
                _ => {}
            }
        }
        Ok((key_type, label, id))
    }

    /// The secret keys of the token, for messages; none where the token does not say.
    pub(super) fn key_names(&self) -> Vec<String> {
        let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true)];
        let keys = self.session.find_objects(&template).unwrap_or_default();
        let facts = keys.into_iter().filter_map(|key| self.facts_of(key).ok());
        let mut names: Vec<_> = facts
            .map(|(key_type, label, id)| describe(key_type.map_or("key", type_name), &label, &id))
            .collect();
        names.sort();
        names
    }
}

fn type_name(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::AES => "AES key",
        KeyType::GENERIC_SECRET => "generic secret key",
        _ => "key",
    }
}

fn describe(what: &str, label: &str, id: &[u8]) -> String {
    let label = if label.is_empty() { String::new() } else { format!(" {}", shown(label)) };
    let id = if id.is_empty() { String::new() } else { format!(" (id {})", hex(id)) };
    format!("{what}{label}{id}")
}
