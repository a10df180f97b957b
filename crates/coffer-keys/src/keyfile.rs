//! A key file as a root key, and its text (section 7.1).

use std::fmt;

use coffer_crypto::{Rng, Secret, SecretBytes, wrap};
use coffer_format::id::hex;
use coffer_format::slot::{Slot, SlotKind};
use zeroize::Zeroizing;

use crate::RootKey;
use crate::error::KeyError;
use crate::local::{unwrap_with, wrap_with};

/// Most bytes of a key file.
pub const KEY_FILE_LEN_MAX: usize = 4096;

const KIND_NAME: &str = "key file";
const PREFIX: &[u8] = b"COFFER-KEY-1-";
const DIGIT_COUNT: usize = 2 * (32 + 4);

/// The secret of a key file.
pub struct KeyFile(Secret<32>);

impl KeyFile {
    /// A fresh one.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] when `rng` fails.
    pub fn generate(rng: &dyn Rng) -> Result<Self, KeyError> {
        Ok(Self(Secret::generate(rng)?))
    }

    /// Reads the bytes of a key file.
    ///
    /// Lines end with a line feed. White space at the ends of a line is ignored, and so the carriage return of
    /// `\r\n`; what is left of a line is nothing, a comment that starts with `#`, or the one key.
    ///
    /// # Errors
    /// [`KeyError::KeyFileLen`], [`KeyError::KeyFileEmpty`], [`KeyError::KeyFileMalformed`]: which line, and what is
    /// wrong with it, but nothing of what it holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > KEY_FILE_LEN_MAX {
            return Err(KeyError::KeyFileLen { len: bytes.len() as u64, limit: KEY_FILE_LEN_MAX as u64 });
        }
        let mut found = None;
        for (line, content) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let content = content.trim_ascii();
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            let key = parse_key(content).map_err(|fault| KeyError::KeyFileMalformed { line, fault })?;
            if found.replace(key).is_some() {
                return Err(KeyError::KeyFileMalformed { line, fault: "holds a second key" });
            }
        }
        found.map(Self).ok_or(KeyError::KeyFileEmpty)
    }

    /// The text to store: comments that say what the file is, then the key.
    #[must_use]
    pub fn to_text(&self) -> SecretBytes {
        let comments = format!(
            "# coffer key file, key id {}\n\
             # Whoever has this file can open every vault with a key slot for it. Keep it secret,\n\
             # and keep a copy in a safe place away from this machine: nobody can make it again.\n",
            hex(&self.key_id())
        );
        // Room for all of it at once: growing would leave parts of the key behind in freed memory.
        let mut text = Vec::with_capacity(comments.len() + PREFIX.len() + DIGIT_COUNT + 1);
        let capacity = text.capacity();
        text.extend_from_slice(comments.as_bytes());
        text.extend_from_slice(PREFIX);
        push_digits(&mut text, self.0.expose());
        push_digits(&mut text, &wrap::key_file_checksum(&self.0));
        text.push(b'\n');
        debug_assert_eq!(text.capacity(), capacity, "the text did not grow");
        SecretBytes::new(text)
    }

    /// The id by which slots name the key file. It is public and says nothing of the secret.
    #[must_use]
    pub fn key_id(&self) -> [u8; 8] {
        wrap::key_file_id(&self.0)
    }
}

impl RootKey for KeyFile {
    fn kind_name(&self) -> &'static str {
        KIND_NAME
    }

    fn may_open(&self, slot: &Slot) -> bool {
        matches!(slot.kind, SlotKind::KeyFile { key_id } if key_id == self.key_id())
    }

    fn new_kind(&self, _rng: &dyn Rng) -> Result<SlotKind, KeyError> {
        Ok(SlotKind::KeyFile { key_id: self.key_id() })
    }

    fn wrap(&self, slot: Slot, key: &Secret<32>, rng: &dyn Rng) -> Result<Slot, KeyError> {
        if !self.may_open(&slot) {
            return Err(KeyError::Kind { slot: slot.kind.name(), root: KIND_NAME });
        }
        wrap_with(&self.0, slot, key, rng)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let key = if self.may_open(slot) { unwrap_with(&self.0, slot) } else { None };
        key.ok_or(KeyError::WrongKey { root: KIND_NAME })
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("key_id", &hex(&self.key_id())).finish_non_exhaustive()
    }
}

/// The secret in a line without white space at its ends, or what is wrong with the line.
fn parse_key(line: &[u8]) -> Result<Secret<32>, &'static str> {
    let Some(digits) = line.strip_prefix(PREFIX) else {
        return Err(if line.starts_with(b"COFFER-KEY-") {
            "holds a key of a version that this program does not know"
        } else {
            "does not start with COFFER-KEY-1- and is no comment"
        });
    };
    if digits.len() != DIGIT_COUNT {
        return Err("does not have 72 digits behind COFFER-KEY-1-");
    }
    let mut bytes = Zeroizing::new([0; DIGIT_COUNT / 2]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (digit_value(pair[0]), digit_value(pair[1]));
        let (Some(high), Some(low)) = (high, low) else {
            return Err("has a character in its key that is not one of 0123456789abcdef");
        };
        *byte = high << 4 | low;
    }
    let (secret, checksum) = bytes.split_at(32);
    let secret = Secret::from_slice(secret).expect("32 bytes were split off");
    if wrap::key_file_checksum(&secret) != checksum {
        return Err("has digits that do not fit each other: one is wrong");
    }
    Ok(secret)
}

fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn push_digits(text: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|value| DIGITS[usize::from(value)]));
}

#[cfg(test)]
mod tests;
