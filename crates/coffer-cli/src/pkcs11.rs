//! Keys on PKCS#11 tokens as the command line sees them: which token, which key, and the PIN.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use coffer_crypto::{OsRng, SecretBytes};
use coffer_format::id::hex;
use coffer_format::path::display_path;
use coffer_keys::pkcs11::{LoginMemory, PinState, Pkcs11Key, TokenError, TokenMechanism, TokenSettings};
use serde_json::json;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::Output;
use crate::private_file;
use crate::process;

/// A PIN file has at most this length.
const PIN_FILE_LEN_MAX: u64 = 1024;
/// Id and label of a key have at most this length in bytes, or no slot could name it.
const KEY_NAME_LEN_MAX: usize = 1024;
/// The standard has room for this many bytes in the label of a token.
const TOKEN_LABEL_LEN_MAX: usize = 32;
/// Of a label that is refused for its length, this many characters are shown.
const LABEL_SHOWN_MAX: usize = 32;

/// Flags of PKCS#11 tokens.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "PKCS#11 tokens")]
pub(crate) struct Pkcs11Args {
    /// Open the vault with a key on a PKCS#11 token: the module of its maker, a shared library.
    #[arg(long, global = true, value_name = "FILE")]
    pkcs11_module: Option<PathBuf>,
    /// Label of the token; without it, the one that the key slot names.
    #[arg(long, global = true, value_name = "LABEL")]
    pkcs11_token: Option<String>,
    /// Label of the key; without it, the one that the key slot names.
    #[arg(long, global = true, value_name = "LABEL")]
    pkcs11_key: Option<String>,
    /// File that holds the PIN; without it, COFFER_PKCS11_PIN, or the terminal is asked.
    #[arg(long, global = true, value_name = "FILE")]
    pkcs11_pin_file: Option<PathBuf>,
    /// How long the token may take for a slot, or for a new key: as long as a key service.
    #[arg(skip)]
    limit: Duration,
    /// The PIN is asked for once in a run, and not sent again once it was refused.
    #[arg(skip)]
    login: LoginMemory,
}

/// A key on a token for a new slot.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NewPkcs11Args {
    /// For the key with this label on the token that --pkcs11-module and --pkcs11-token name.
    #[arg(
        long,
        value_name = "LABEL",
        conflicts_with_all = ["new_key_file", "new_passphrase_file", "new_passphrase", "new_shares", "new_root_key"],
    )]
    pub(crate) new_pkcs11_key: Option<String>,
    /// How the token wraps; without it, the best that it offers for the key.
    #[arg(long, value_name = "MECHANISM", requires = "new_pkcs11_key")]
    pub(crate) new_pkcs11_mechanism: Option<MechanismName>,
}

/// A key to be made on a token.
#[derive(Debug, Args)]
pub(crate) struct NewTokenKeyArgs {
    /// Label of the key.
    label: String,
    /// Id of the key, in hexadecimal digits; without it, one is drawn.
    #[arg(long, value_name = "HEX")]
    key_id: Option<KeyId>,
    /// What the key is for; without it, the best that the token offers.
    #[arg(long, value_name = "MECHANISM")]
    mechanism: Option<MechanismName>,
}

/// Mechanisms as they are named on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "on the command line each is named with its cipher")]
pub(crate) enum MechanismName {
    /// `CKM_AES_GCM`.
    AesGcm,
    /// AES-KWP (RFC 5649): `CKM_AES_KEY_WRAP_PAD`.
    AesKwp,
    /// `CKM_AES_CBC_PAD`, with `CKM_SHA256_HMAC` by a second key.
    AesCbcHmac,
}

impl From<MechanismName> for TokenMechanism {
    fn from(name: MechanismName) -> Self {
        match name {
            MechanismName::AesGcm => Self::AesGcm,
            MechanismName::AesKwp => Self::AesKwp,
            MechanismName::AesCbcHmac => Self::AesCbcHmac,
        }
    }
}

/// Bytes, written in hexadecimal digits.
#[derive(Debug, Clone)]
struct KeyId(Vec<u8>);

impl std::str::FromStr for KeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| digit.try_into().ok())).collect();
        let (pairs, rest) = digits.as_deref().unwrap_or_default().as_chunks::<2>();
        if pairs.is_empty() || !rest.is_empty() || pairs.len() > KEY_NAME_LEN_MAX {
            return Err("expected an even number of hexadecimal digits");
        }
        Ok(Self(pairs.iter().map(|[high, low]| high << 4 | low).collect()))
    }
}

impl Pkcs11Args {
    /// The same, with the longest time that the token may take.
    pub(crate) fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Whether a module is given.
    pub(crate) fn is_given(&self) -> bool {
        self.pkcs11_module.is_some()
            || std::env::var_os("COFFER_PKCS11_MODULE").is_some_and(|value| !value.is_empty())
    }

    /// The root key of these flags and of the environment, if a module is given. Nothing is loaded and nobody asked before a slot is tried.
    pub(crate) fn root_key(&self) -> Result<Option<Pkcs11Key>> {
        let Some(settings) = self.settings()? else { return Ok(None) };
        let key_label = match &self.pkcs11_key {
            Some(label) => Some(label.clone()),
            None => variable("COFFER_PKCS11_KEY")?,
        };
        check_key_label(key_label.as_deref())?;
        Ok(Some(Pkcs11Key::new(TokenSettings { key_label, ..settings })))
    }

    /// The root key of a new slot.
    pub(crate) fn new_root_key(&self, new: &NewPkcs11Args) -> Result<Pkcs11Key> {
        let settings = self.settings()?.ok_or_else(no_module)?;
        check_key_label(new.new_pkcs11_key.as_deref())?;
        let mechanism = new.new_pkcs11_mechanism.map(TokenMechanism::from);
        Ok(Pkcs11Key::new(TokenSettings { key_label: new.new_pkcs11_key.clone(), mechanism, ..settings }))
    }

    /// Token and PIN, but no key.
    fn settings(&self) -> Result<Option<TokenSettings>> {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let Some(module) = self.pkcs11_module.clone().or_else(|| path("COFFER_PKCS11_MODULE")) else {
            return Ok(None);
        };
        let token_label = match &self.pkcs11_token {
            Some(label) => Some(label.clone()),
            None => variable("COFFER_PKCS11_TOKEN")?,
        };
        check_token_label(token_label.as_deref(), "check --pkcs11-token, or COFFER_PKCS11_TOKEN")?;
        let pin_file = self.pkcs11_pin_file.clone().or_else(|| path("COFFER_PKCS11_PIN_FILE"));
        let pin = match pin_file {
            Some(path) => Some(read_pin(&path)?),
            None => variable("COFFER_PKCS11_PIN")?.map(SecretBytes::from),
        };
        let ask_pin: Option<coffer_keys::pkcs11::AskPin> = if pin.is_none() && process::has_terminal() {
            Some(Box::new(|token: &str| {
                let pin = rpassword::prompt_password(format!("PIN of {token}: ")).ok()?;
                (!pin.is_empty()).then(|| SecretBytes::from(pin))
            }))
        } else {
            None
        };
        let (limit, login) = (Some(self.limit), self.login.clone());
        Ok(Some(TokenSettings {
            module,
            token_label,
            pin,
            ask_pin,
            limit,
            login,
            ..TokenSettings::default()
        }))
    }
}

/// Refuses a label that no token can have.
pub(crate) fn check_token_label(label: Option<&str>, hint: &str) -> Result<(), Failure> {
    label.map_or(Ok(()), |label| check_len("token", label, TOKEN_LABEL_LEN_MAX, hint))
}

/// Refuses a label of a key that no slot could name.
pub(crate) fn check_key_label(label: Option<&str>) -> Result<(), Failure> {
    label.map_or(Ok(()), |label| {
        check_len("key", label, KEY_NAME_LEN_MAX, "choose a shorter label for the key")
    })
}

/// Refuses a label that is longer than labels of its kind can be.
fn check_len(what: &str, label: &str, len_max: usize, hint: &str) -> Result<(), Failure> {
    let len = label.len();
    if len <= len_max {
        return Ok(());
    }
    let start: String = label.chars().take(LABEL_SHOWN_MAX).collect();
    let message =
        format!("the label {start}… is too long for a {what}: {len} bytes, where {len_max} are the most");
    Err(Failure::usage(message).hint(hint))
}

fn variable(name: &str) -> Result<Option<String>> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let text = value.map(|value| value.into_string()).transpose();
    Ok(text.map_err(|_| Failure::usage(format!("{name} is not UTF-8")))?)
}

fn read_pin(path: &Path) -> Result<SecretBytes> {
    let missing = "check the path; the file holds the PIN and nothing else";
    let bytes = private_file::read_bounded("PIN file", path, PIN_FILE_LEN_MAX, missing)?;
    let pin = private_file::without_line_end(bytes);
    if pin.is_empty() {
        let message = format!("the PIN file {} is empty", path.display());
        return Err(Failure::new(Exit::WrongKey, message).into());
    }
    Ok(SecretBytes::new(pin))
}

fn no_module() -> Failure {
    Failure::usage("no PKCS#11 module is given")
        .hint("give --pkcs11-module FILE, or COFFER_PKCS11_MODULE: the shared library of the token's maker")
}

/// `coffer keys new-token-key`
pub(crate) fn new_token_key(output: Output, args: &Pkcs11Args, new: &NewTokenKeyArgs) -> Result<Exit> {
    check_key_label(Some(&new.label))?;
    let settings = TokenSettings {
        key_label: Some(new.label.clone()),
        key_id: new.key_id.clone().map(|id| id.0),
        mechanism: new.mechanism.map(TokenMechanism::from),
        ..args.settings()?.ok_or_else(no_module)?
    };
    let made = Pkcs11Key::new(settings).generate(&OsRng).context("make a key on the token")?;
    let value = json!({
        "message_type": "token_key", "token": made.token_label, "serial": made.token_serial,
        "key": made.label, "key_id": hex(&made.id), "mechanism": made.mechanism.to_string(),
    });
    let text = format!(
        "made key {} (id {}) for {} on token {}",
        display_path(made.label.as_bytes()),
        hex(&made.id),
        made.mechanism,
        display_path(made.token_label.as_bytes())
    );
    output.result(&value, &text)?;
    output.note("it never leaves the token; if the token is lost, another slot has to open the vault");
    Ok(Exit::Done)
}

/// Exit code and next step after a token did not do its part.
pub(crate) fn classify(error: &TokenError) -> (Exit, Option<String>) {
    let (exit, hint) = match error {
        TokenError::Module { .. } => (
            Exit::WrongKey,
            "check --pkcs11-module; it is the shared library of the token's maker, for this machine",
        ),
        TokenError::NoToken { .. } => {
            (Exit::WrongKey, "check --pkcs11-token, and whether the token is there")
        }
        TokenError::ManyTokens { .. } => (Exit::Usage, "say which with --pkcs11-token LABEL"),
        TokenError::Pin { state, .. } => (Exit::WrongKey, pin_hint(*state)),
        TokenError::KeyNotNamed { .. } => (Exit::Usage, "name the key with --pkcs11-key LABEL"),
        TokenError::KeyMissing { .. } => (
            Exit::WrongKey,
            "check the label of the key; `coffer keys new-token-key LABEL` makes one for a new slot",
        ),
        TokenError::KeyAmbiguous { .. } => {
            (Exit::WrongKey, "give the keys different labels or ids with the tools of the token")
        }
        TokenError::KeyExists { .. } => {
            (Exit::Failed, "use it with --new-pkcs11-key, or choose another label")
        }
        TokenError::NameRefused { .. } => (
            Exit::Usage,
            "choose a shorter label, or another --key-id; the documents of the token say what it allows",
        ),
        TokenError::NoMechanism { .. } => (Exit::Failed, "such a token cannot keep the key of a vault"),
        TokenError::MechanismUnknown { .. } => (Exit::WrongKey, "a newer version of this program may use it"),
        TokenError::NotPermitted { .. } => (
            Exit::WrongKey,
            "check what the key may be used for: encrypting and decrypting (for aes-kwp wrapping and unwrapping), and the key of the MAC signing and verifying",
        ),
        TokenError::NotReversible { .. } => (Exit::Failed, "try another mechanism, such as aes-cbc-hmac"),
        TokenError::NoAnswer { .. } => (
            Exit::WrongKey,
            "ask the token's own tools how it is; --key-service-timeout gives it more time, and another slot may open the vault meanwhile",
        ),
        TokenError::KeyInDoubt { .. } => (
            Exit::WrongKey,
            "look for the key with the token's own tools: if it is there, use it or delete it; --key-service-timeout gives the token more time",
        ),
        TokenError::Removed { .. } => (Exit::WrongKey, "put the token back and run the command again"),
        _ => {
            (Exit::WrongKey, "ask the token's own tools how it is; another slot may open the vault meanwhile")
        }
    };
    (exit, Some(hint.to_owned()))
}

const fn pin_hint(state: PinState) -> &'static str {
    match state {
        PinState::Missing => "give --pkcs11-pin-file FILE or COFFER_PKCS11_PIN",
        PinState::Locked => "unlock it with the tools of the token and the PIN of its security officer",
        PinState::NotSet | PinState::Expired => "set a PIN with the tools of the token",
        _ => {
            "check the PIN before you try again: it was sent once, and a token locks itself after a few wrong ones"
        }
    }
}
