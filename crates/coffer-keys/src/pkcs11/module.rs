//! Modules, each loaded once for the process, and the tokens they know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::slot::{Slot, TokenInfo};

use coffer_format::slot::TokenKey;

use super::TokenSettings;
use super::error::{TokenError, describe_call, shown};

/// The standard gives a module one state for the whole process, so that is where it is kept. It is never unloaded.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// The module in a file, initialised for use by several threads.
pub(super) fn load(path: &Path) -> Result<Pkcs11, TokenError> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let failed =
        |error: &Error| TokenError::Module { module: path.display().to_string(), reason: reason(error) };
    let module = Pkcs11::new(path).map_err(|error| failed(&error))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Somebody else in this process uses it too.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed(&error)),
    }
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

fn reason(error: &Error) -> String {
    match error {
        Error::LibraryLoading(source) => shown(&source.to_string()),
        other => describe_call(other),
    }
}

/// A token, and the slot it is in.
pub(super) struct Token {
    pub(super) slot: Slot,
    pub(super) facts: TokenInfo,
}

impl Token {
    /// For messages.
    pub(super) fn name(&self) -> String {
        format!("token {} (serial {})", or_nameless(self.facts.label()), shown(self.facts.serial_number()))
    }

    fn list_name(&self) -> String {
        let (label, serial) = (or_nameless(self.facts.label()), shown(self.facts.serial_number()));
        format!("{label} (serial {serial}, slot {})", self.slot.id())
    }
}

fn or_nameless(label: &str) -> String {
    if label.is_empty() { "without label".to_owned() } else { shown(label) }
}

/// The one token that the settings name, or else the hint of a slot, or else the only one there is.
pub(super) fn find(
    module: &Pkcs11,
    settings: &TokenSettings,
    hint: Option<&TokenKey>,
) -> Result<Token, TokenError> {
    let slots = module.get_slots_with_token().map_err(|error| TokenError::of("module", &error))?;
    let mut tokens = Vec::new();
    for slot in slots {
        // A reader that does not answer is no reason not to use the next one.
        let Ok(facts) = module.get_token_info(slot) else { continue };
        if facts.token_initialized() {
            tokens.push(Token { slot, facts });
        }
    }
    let TokenSettings { token_label, token_serial, slot_id, .. } = settings;
    let any_given = token_label.is_some() || token_serial.is_some() || slot_id.is_some();
    let fits_settings = |token: &Token| {
        token_label.as_ref().is_none_or(|label| label == token.facts.label())
            && token_serial.as_ref().is_none_or(|serial| serial == token.facts.serial_number())
            && slot_id.is_none_or(|id| id == token.slot.id())
    };
    let label_fits = |token: &Token| hint.is_none_or(|hint| hint.token_label == token.facts.label());
    let serial_fits =
        |token: &Token| hint.is_none_or(|hint| hint.token_serial == token.facts.serial_number());
    let positions = |fits: &dyn Fn(&Token) -> bool| -> Vec<usize> {
        (0..tokens.len()).filter(|at| fits(&tokens[*at])).collect()
    };
    let fitting = if any_given {
        positions(&fits_settings)
    } else {
        let same = positions(&|token| label_fits(token) && serial_fits(token));
        if same.is_empty() { positions(&label_fits) } else { same }
    };
    match fitting.as_slice() {
        [at] => Ok(tokens.swap_remove(*at)),
        [] => Err(TokenError::NoToken {
            wanted: wanted(settings, hint.filter(|_| !any_given)),
            tokens: tokens.iter().map(Token::list_name).collect(),
        }),
        many => {
            Err(TokenError::ManyTokens { tokens: many.iter().map(|at| tokens[*at].list_name()).collect() })
        }
    }
}

fn wanted(settings: &TokenSettings, hint: Option<&TokenKey>) -> String {
    let mut parts = Vec::new();
    parts.extend(settings.token_label.as_deref().map(shown));
    parts.extend(settings.token_serial.as_ref().map(|serial| format!("with serial {}", shown(serial))));
    parts.extend(settings.slot_id.map(|id| format!("in slot {id}")));
    parts.extend(hint.map(|hint| shown(&hint.token_label)));
    if parts.is_empty() { "that is initialised".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slot_or_a_token_calls_itself_is_shown_escaped() {
        let hint = TokenKey {
            token_label: "a\u{1b}[2J\nb".to_owned(),
            token_serial: String::new(),
            label: String::new(),
            id: Vec::new(),
            mechanism: 0,
            iv: None,
            mac: None,
            salt: None,
        };
        assert_eq!(wanted(&TokenSettings::default(), Some(&hint)), "a\\x1b[2J\\x0ab");
        assert_eq!(or_nameless("\u{7}"), "\\x07");
        assert_eq!(or_nameless(""), "without label");
    }
}
