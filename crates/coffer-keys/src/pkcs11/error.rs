//! What can go wrong with a token. Messages name what is there instead of what was looked for; none holds a PIN or a key.

use coffer_format::path::display_path;
use cryptoki::error::{Error, RvError};

use super::mechanism::TokenMechanism;

/// What can go wrong with a PKCS#11 token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The module cannot be loaded.
    #[error("PKCS#11 module {module} cannot be used: {reason}")]
    Module {
        /// The file.
        module: String,
        /// What the loader or the module says.
        reason: String,
    },
    /// The module knows no such token.
    #[error("there is no token {wanted}; {}", describe("there is", tokens, "there are none at all"))]
    NoToken {
        /// What was looked for.
        wanted: String,
        /// The tokens that are there.
        tokens: Vec<String>,
    },
    /// Several tokens fit.
    #[error("which token is meant? {}", describe("there is", tokens, ""))]
    ManyTokens {
        /// Those that fit.
        tokens: Vec<String>,
    },
    /// The token does not let the user in.
    #[error("{token}: {}", state.text())]
    Pin {
        /// The token.
        token: String,
        /// Why.
        state: PinState,
    },
    /// Neither label nor id of a key was given.
    #[error("no key of {token} was named; {}", describe("it has", keys, "it has none"))]
    KeyNotNamed {
        /// The token.
        token: String,
        /// The secret keys that it has.
        keys: Vec<String>,
    },
    /// The token has no such key.
    #[error("{token} has no {wanted}; {}", describe("it has", keys, "it has no secret keys"))]
    KeyMissing {
        /// The token.
        token: String,
        /// What was looked for.
        wanted: String,
        /// The secret keys that it has.
        keys: Vec<String>,
    },
    /// The token has several such keys.
    #[error("{token} has {count} keys that are each a {wanted}")]
    KeyAmbiguous {
        /// The token.
        token: String,
        /// What was looked for.
        wanted: String,
        /// How many there are.
        count: usize,
    },
    /// A key was to be made that is there already.
    #[error("{token} has a secret key with the label {} already", shown(label))]
    KeyExists {
        /// The token.
        token: String,
        /// The label.
        label: String,
    },
    /// The token offers no mechanism that can be used.
    #[error(
        "{token} offers neither CKM_AES_GCM nor CKM_AES_KEY_WRAP_PAD nor CKM_AES_CBC_PAD with CKM_SHA256_HMAC"
    )]
    NoMechanism {
        /// The token.
        token: String,
    },
    /// A slot asks for a mechanism that this program does not use.
    #[error("the slot asks for mechanism 0x{mechanism:x}, which this program does not use")]
    MechanismUnknown {
        /// Its `CKM_` value.
        mechanism: u64,
    },
    /// The token does not do it with this key: the mechanism, or the attributes of the key, do not allow it.
    #[error("{token} refuses: {call}")]
    NotPermitted {
        /// The token.
        token: String,
        /// The function, and what it returned.
        call: String,
    },
    /// The token makes no key of this name. It may be too long for it.
    #[error("{token} makes no key with the label {}: {call}", shown(label))]
    NameRefused {
        /// The token.
        token: String,
        /// The label.
        label: String,
        /// The function, and what it returned.
        call: String,
    },
    /// What the token wrapped does not unwrap, or is not as long as the standard makes it.
    #[error("what {token} wraps by {mechanism} does not unwrap again")]
    NotReversible {
        /// The token.
        token: String,
        /// The mechanism.
        mechanism: TokenMechanism,
    },
    /// The token, or its module, took too long.
    #[error("{token} did not answer within {limit_s} s")]
    NoAnswer {
        /// The token.
        token: String,
        /// How long was waited, in seconds.
        limit_s: u64,
    },
    /// The token took too long for making a key.
    #[error(
        "{token} did not answer within {limit_s} s, and whether it has made the key {} is not known",
        shown(label)
    )]
    KeyInDoubt {
        /// The token.
        token: String,
        /// The label of the key.
        label: String,
        /// How long was waited, in seconds.
        limit_s: u64,
    },
    /// The token was taken away in the middle.
    #[error("{token} is not there any more: {call}")]
    Removed {
        /// The token.
        token: String,
        /// The function, and what it returned.
        call: String,
    },
    /// Something else.
    #[error("{token} failed: {call}")]
    Failed {
        /// The token.
        token: String,
        /// The function, and what it returned.
        call: String,
    },
}

/// Why a token does not let the user in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinState {
    /// It needs a PIN, and none was given.
    Missing,
    /// The PIN is wrong.
    Wrong,
    /// The PIN is wrong, and the next wrong one will lock the token.
    WrongLastTry,
    /// The token is locked after too many wrong PINs.
    Locked,
    /// No PIN was ever set on the token.
    NotSet,
    /// The PIN has to be changed first.
    Expired,
}

impl PinState {
    const fn text(self) -> &'static str {
        match self {
            Self::Missing => "a PIN is needed",
            Self::Wrong => "the PIN is wrong",
            Self::WrongLastTry => "the PIN is wrong, and the next wrong one locks the token",
            Self::Locked => "the PIN is locked",
            Self::NotSet => "no user PIN was ever set",
            Self::Expired => "the PIN has expired",
        }
    }
}

impl TokenError {
    /// What a failed call says of a token.
    pub(super) fn of(token: &str, error: &Error) -> Self {
        let (token, call) = (token.to_owned(), describe_call(error));
        let Error::Pkcs11(code, _) = error else { return Self::Failed { token, call } };
        match code {
            RvError::DeviceRemoved
            | RvError::SessionClosed
            | RvError::SessionHandleInvalid
            | RvError::SlotIdInvalid
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized => Self::Removed { token, call },
            RvError::AttributeValueInvalid
            | RvError::KeyFunctionNotPermitted
            | RvError::KeyNotWrappable
            | RvError::KeySizeRange
            | RvError::KeyTypeInconsistent
            | RvError::KeyUnextractable
            | RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::SessionReadOnly
            | RvError::TemplateInconsistent
            | RvError::TokenWriteProtected
            | RvError::WrappingKeySizeRange
            | RvError::WrappingKeyTypeInconsistent => Self::NotPermitted { token, call },
            _ => Self::Failed { token, call },
        }
    }
}

/// A text that a token or a slot gave, for people: control characters are escaped, as they would steer a terminal.
pub(super) fn shown(text: &str) -> String {
    display_path(text.as_bytes())
}

/// The function and the name of the value it returned; a sentence about each value would say less.
pub(super) fn describe_call(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("C_{function:?} returned {code:?}"),
        other => shown(&other.to_string()),
    }
}

/// Most names that are listed.
const NAMES_SHOWN_MAX: usize = 16;

fn describe(there_is: &str, names: &[String], none: &str) -> String {
    if names.is_empty() {
        return none.to_owned();
    }
    let shown = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_SHOWN_MAX) {
        None | Some(0) => format!("{there_is} {shown}"),
        Some(more) => format!("{there_is} {shown} and {more} more"),
    }
}
