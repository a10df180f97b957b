//! A key on a PKCS#11 token as a root key (section 7, kind 5).
//!
//! The token wraps and unwraps the content of a slot with an AES key that never leaves it: by the first of `CKM_AES_GCM`, AES-KWP, and
//! `CKM_AES_CBC_PAD` with a MAC by a second key, that the token offers and does with that key ([`TokenMechanism`]). By AES-KWP alone the vault
//! key is an object of the token: one of the session, for the length of a call (`key_wrap.rs`).
//! Nothing is asked of a token but what every one can do: sessions, logging in, finding keys, encrypting, decrypting, signing, verifying, or else
//! objects of the session, wrapping and unwrapping; and generating keys, if that is asked for.
//!
//! Invariants: a PIN that was refused once is never sent again by the same [`Pkcs11Key`], nor by others that share its [`LoginMemory`], because tokens lock themselves after a few. Each
//! operation has a session of its own, so that a key can be used by several threads. Errors say which token and which key, and what there is instead.
//!
//! What it refuses to do: it reads no PIN from anywhere, never logs out (others in the process may be using the token), and never unloads a
//! module (their threads would not survive it). Calls of a module take as long as it likes, but whoever makes or opens a slot, or makes a key, waits
//! for them no longer than the settings say (`waiting.rs`). A slot is opened by the mechanism that it names and by no other.

mod error;
mod generate;
mod key_wrap;
mod mechanism;
mod module;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_crypto::{Rng, Secret, SecretBytes, commitment_matches, hash};
use coffer_format::slot::{Slot, SlotKind, TokenKey};
use cryptoki::context::Pkcs11;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::{RootKey, waiting};
use generate::Drawn;
use mechanism::{Fresh, Sealed, Trial};
use module::Token;
use session::OpenToken;

pub use error::{PinState, TokenError};
pub use generate::NewTokenKey;
pub use mechanism::TokenMechanism;

const KIND_NAME: &str = "PKCS#11 token";

/// Longest time for a slot, unless the settings say another.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks a person for the PIN of the token with this name; none if nobody gives one.
pub type AskPin = Box<dyn Fn(&str) -> Option<SecretBytes> + Send + Sync>;

/// Which token and which key. What is not given is taken from the slot that is to be opened.
#[derive(Default)]
pub struct TokenSettings {
    /// The module: a shared library, as of the maker of the token.
    pub module: PathBuf,
    /// Label of the token.
    pub token_label: Option<String>,
    /// Serial number of the token.
    pub token_serial: Option<String>,
    /// Number of the slot that the token is in.
    pub slot_id: Option<u64>,
    /// Label of the key.
    pub key_label: Option<String>,
    /// Id of the key.
    pub key_id: Option<Vec<u8>>,
    /// Mechanism of new slots; without it the best that the token offers for the key.
    pub mechanism: Option<TokenMechanism>,
    /// The PIN of the user. A token with a keypad of its own needs none.
    pub pin: Option<SecretBytes>,
    /// Where the PIN comes from if none is given: asked once, when a token wants it.
    pub ask_pin: Option<AskPin>,
    /// Longest time that the token may take to make or to open a slot, or to make a key; `None` for half a minute. That a person is asked for the PIN takes no
    /// time, but that they enter it at the token does.
    pub limit: Option<Duration>,
    /// What is known of logging in, shared by all keys to which the same PIN is given.
    pub login: LoginMemory,
}

/// A key on a token. Making one loads nothing and asks nobody; that happens when it is first used.
pub struct Pkcs11Key {
    way: Arc<Way>,
    ask_pin: Option<AskPin>,
    limit: Duration,
}

/// The way to the token: what a thread that asks it has to have.
struct Way {
    /// But for how a person is asked.
    settings: TokenSettings,
}

/// How whoever works with a token gets the PIN from a person.
type PinDesk<'a> = &'a dyn Fn(&str) -> Option<SecretBytes>;

/// Remembers, for all keys to which it is given, the PINs that a person was asked for, and which were refused. Those that were asked for are
/// remembered by the names of their tokens; the one that was given, under no name: once it was refused, no token is sent it.
#[derive(Clone, Default)]
pub struct LoginMemory(Arc<Mutex<BTreeMap<String, Login>>>);

impl fmt::Debug for LoginMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginMemory").finish_non_exhaustive()
    }
}

/// What is known of logging in.
#[derive(Default)]
struct Login {
    /// How the token answered to the PIN if it refused it: it is not to be sent again.
    refused: Option<PinState>,
    /// Whether a person was asked for the PIN: who gives none is not asked again.
    was_asked: bool,
    /// The PIN that was asked for.
    asked: Option<SecretBytes>,
}

impl Pkcs11Key {
    /// The key that the settings name.
    #[must_use]
    pub fn new(mut settings: TokenSettings) -> Self {
        let (ask_pin, limit) = (settings.ask_pin.take(), settings.limit.unwrap_or(LIMIT));
        Self { way: Arc::new(Way { settings }), ask_pin, limit }
    }

    /// Makes the key (and the key of the MAC, if the mechanism needs one) on the token: sensitive, not extractable, for
    /// nothing but what its mechanism needs. The settings give the label, and may give the id.
    ///
    /// # Errors
    /// [`KeyError::Token`], as when there is such a key already; [`TokenError::KeyInDoubt`] if the token takes too long, when there may be a
    /// key or not; [`KeyError::Crypto`] when `rng` fails.
    pub fn generate(&self, rng: &dyn Rng) -> Result<NewTokenKey, KeyError> {
        let drawn = Drawn::draw(rng)?;
        let made = self.within(None, move |way, desk| generate::generate(way, desk, &drawn));
        made.map_err(|error| match error {
            KeyError::Token(TokenError::NoAnswer { token, limit_s }) => {
                let label = self.way.settings.key_label.clone().unwrap_or_default();
                TokenError::KeyInDoubt { token, label, limit_s }.into()
            }
            other => other,
        })
    }

    /// What `work` gives, if the token does not take too long for it. `hint` is what a slot says of the token.
    fn within<T: Send + 'static>(
        &self,
        hint: Option<&TokenKey>,
        work: impl FnOnce(&Way, PinDesk<'_>) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let way = Arc::clone(&self.way);
        let done = waiting::within("token", self.limit, self.ask_pin.as_ref(), move |desk| work(&way, desk));
        let settings = &self.way.settings;
        let label = settings.token_label.as_deref().or(hint.map(|hint| hint.token_label.as_str()));
        let token = label.map_or_else(
            || format!("the token of {}", settings.module.display()),
            |label| format!("token {}", error::shown(label)),
        );
        match done {
            Ok(Some(done)) => done,
            Ok(None) => Err(TokenError::NoAnswer { token, limit_s: self.limit.as_secs() }.into()),
            Err(error) => Err(TokenError::Failed { token, call: format!("no thread: {error}") }.into()),
        }
    }
}

impl Way {
    /// A session with the token of the settings, or else of the slot, with the user logged in.
    fn open(&self, hint: Option<&TokenKey>, write: bool, desk: PinDesk<'_>) -> Result<OpenToken, TokenError> {
        let module = module::load(&self.settings.module)?;
        let token = module::find(&module, &self.settings, hint)?;
        session::open(&module, token, write, |session, token| self.log_in(&module, session, token, desk))
    }

    /// One thread at a time, so that a wrong PIN is sent once and not once by each of them.
    fn log_in(
        &self,
        module: &Pkcs11,
        session: &Session,
        token: &Token,
        desk: PinDesk<'_>,
    ) -> Result<(), TokenError> {
        let pin = &self.settings.pin;
        let mut logins = self.settings.login.0.lock().unwrap_or_else(PoisonError::into_inner);
        let login = logins.entry(if pin.is_some() { String::new() } else { token.name() }).or_default();
        if let Some(state) = login.refused {
            return Err(TokenError::Pin { token: token.name(), state });
        }
        if session::is_logged_in(session, token) {
            return Ok(());
        }
        if pin.is_none() && !login.was_asked && !token.facts.protected_authentication_path() {
            (login.was_asked, login.asked) = (true, desk(&token.name()));
        }
        let result = session::log_in(module, session, token, pin.as_ref().or(login.asked.as_ref()));
        if let Err(TokenError::Pin { state, .. }) = &result
            && *state != PinState::Missing
        {
            login.refused = Some(*state);
        }
        result
    }

    /// The label and id by which to look for the key of a slot: as the owner says, or else as the slot does.
    fn name_of_key<'a>(&'a self, slot: &'a TokenKey) -> session::KeyName<'a> {
        match (&self.settings.key_label, &self.settings.key_id) {
            (None, None) => session::KeyName { label: &slot.label, id: &slot.id },
            (label, id) => session::KeyName {
                label: label.as_deref().unwrap_or_default(),
                id: id.as_deref().unwrap_or_default(),
            },
        }
    }

    /// Which mechanism a new slot would have, and how its key is named.
    fn new_kind(&self, trial: &Trial, desk: PinDesk<'_>) -> Result<SlotKind, KeyError> {
        let token = self.open(None, false, desk)?;
        let (label, id) = (self.settings.key_label.as_deref(), self.settings.key_id.as_deref());
        if label.is_none() && id.is_none() {
            return Err(TokenError::KeyNotNamed { token: token.name(), keys: token.key_names() }.into());
        }
        let name = session::KeyName { label: label.unwrap_or_default(), id: id.unwrap_or_default() };
        let wanted = self.settings.mechanism;
        let (mechanism, label, id) = mechanism::first_that_works(&token, wanted, |mechanism| {
            let keys = mechanism::find_keys(&token, &name, mechanism)?;
            let (label, id) = token.name_of(keys.cipher())?;
            // A slot will name its key by both, so both keys have to bear both.
            let keys = mechanism::find_keys(&token, &session::KeyName { label: &label, id: &id }, mechanism)?;
            mechanism::try_out(&token, &keys, trial)?;
            Ok((mechanism, label, id))
        })?;
        Ok(SlotKind::Token(TokenKey {
            token_label: token.label().to_owned(),
            token_serial: token.serial().to_owned(),
            label,
            id,
            mechanism: mechanism.number(),
            iv: None,
            mac: None,
            salt: None,
        }))
    }

    /// The slot, with `key` wrapped in it as `token_key` says.
    fn wrap(
        &self,
        mut slot: Slot,
        mut token_key: TokenKey,
        key: &Secret<32>,
        fresh: &Fresh,
        desk: PinDesk<'_>,
    ) -> Result<Slot, KeyError> {
        let mechanism = mechanism_of(&token_key)?;
        token_key.salt = fresh.salt(mechanism);
        slot.kind = SlotKind::Token(token_key.clone());
        let bound = hash::hash(&slot.context());
        let token = self.open(Some(&token_key), false, desk)?;
        let keys = mechanism::find_keys(&token, &self.name_of_key(&token_key), mechanism)?;
        let mut plain = Zeroizing::new([0; 64]);
        plain[..32].copy_from_slice(key.expose());
        plain[32..].copy_from_slice(&bound);
        let sealed = mechanism::seal(&token, &keys, &bound, &plain, fresh)?;
        (token_key.iv, token_key.mac) = (sealed.iv, sealed.mac);
        slot.kind = SlotKind::Token(token_key.clone());
        slot.wrapped = sealed.ciphertext;
        // Tokens differ in how they read the standard; a slot that does not open again is worse than none.
        match self.unwrap_with(&token, &slot, &token_key) {
            Ok(unwrapped) if unwrapped == *key => Ok(slot),
            Ok(_) | Err(KeyError::WrongKey { .. }) => {
                Err(TokenError::NotReversible { token: token.name(), mechanism }.into())
            }
            Err(error) => Err(error),
        }
    }

    fn unwrap_with(&self, token: &OpenToken, slot: &Slot, key: &TokenKey) -> Result<Secret<32>, KeyError> {
        let wrong = || KeyError::WrongKey { root: KIND_NAME };
        let bound = hash::hash(&slot.context());
        let mechanism = mechanism_of(key)?;
        if key.salt.is_some() != (mechanism == TokenMechanism::AesKwp) {
            return Err(wrong());
        }
        let keys = mechanism::find_keys(token, &self.name_of_key(key), mechanism)?;
        let plain = mechanism::open(token, &keys, &Sealed::of(slot, key), &bound)?.ok_or_else(wrong)?;
        let (unwrapped, bound_to) = Secret::<64>::from_slice(&plain).map_err(|_| wrong())?.split();
        if commitment_matches(&bound_to, &bound) { Ok(unwrapped) } else { Err(wrong()) }
    }
}

fn mechanism_of(key: &TokenKey) -> Result<TokenMechanism, TokenError> {
    TokenMechanism::of_number(key.mechanism).ok_or(TokenError::MechanismUnknown { mechanism: key.mechanism })
}

impl RootKey for Pkcs11Key {
    fn kind_name(&self) -> &'static str {
        KIND_NAME
    }

    /// The token is not compared: a key may be kept in several, and the one with the backup has another serial number.
    fn may_open(&self, slot: &Slot) -> bool {
        let SlotKind::Token(key) = &slot.kind else { return false };
        let (label, id) = (&self.way.settings.key_label, &self.way.settings.key_id);
        (label.is_none() && id.is_none())
            || label.as_ref().is_some_and(|label| *label == key.label)
            || id.as_ref().is_some_and(|id| *id == key.id)
    }

    fn is_at(&self, slot: &Slot) -> bool {
        let SlotKind::Token(key) = &slot.kind else { return false };
        let settings = &self.way.settings;
        let token = settings.token_label.as_ref().map(|label| *label == key.token_label);
        let serial = settings.token_serial.as_ref().map(|serial| *serial == key.token_serial);
        let is_key_named = settings.key_label.is_some() || settings.key_id.is_some();
        token.or(serial).is_some()
            && token != Some(false)
            && serial != Some(false)
            && is_key_named
            && self.may_open(slot)
    }

    /// Finds out by which mechanism the token wraps with the key, and how the key is named.
    fn new_kind(&self, rng: &dyn Rng) -> Result<SlotKind, KeyError> {
        let trial = Trial::draw(rng)?;
        self.within(None, move |way, desk| way.new_kind(&trial, desk))
    }

    fn wrap(&self, slot: Slot, key: &Secret<32>, rng: &dyn Rng) -> Result<Slot, KeyError> {
        let other_kind = KeyError::Kind { slot: slot.kind.name(), root: KIND_NAME };
        if !self.may_open(&slot) {
            return Err(other_kind);
        }
        let SlotKind::Token(token_key) = &slot.kind else { return Err(other_kind) };
        let (token_key, hint) = (token_key.clone(), token_key.clone());
        // A key of its own for the thread, which may outlive this call.
        let key = Secret::from_slice(key.expose())?;
        let fresh = Fresh::draw(rng)?;
        self.within(Some(&hint), move |way, desk| way.wrap(slot, token_key, &key, &fresh, desk))
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let SlotKind::Token(key) = &slot.kind else { return Err(KeyError::WrongKey { root: KIND_NAME }) };
        if !self.may_open(slot) {
            return Err(KeyError::WrongKey { root: KIND_NAME });
        }
        mechanism_of(key)?;
        let (slot, token_key) = (slot.clone(), key.clone());
        self.within(Some(key), move |way, desk| {
            way.unwrap_with(&way.open(Some(&token_key), false, desk)?, &slot, &token_key)
        })
    }
}

impl fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TokenSettings { module, token_label, key_label, .. } = &self.way.settings;
        let mut shown = f.debug_struct("Pkcs11Key");
        shown.field("module", module).field("token_label", token_label).field("key_label", key_label);
        shown.finish_non_exhaustive()
    }
}
