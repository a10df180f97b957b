//! The master key of an instance, and where it comes from.
//!
//! | source | what is kept of it |
//! | --- | --- |
//! | two or three key parts of 32 bytes, combined by exclusive or | how many there are |
//! | a passphrase, by Argon2id | salt and cost |
//! | a token (PKCS#11), which wraps a random key | the wrapped key |
//! | the provider, as for Key Protect in the simulated region | the key: the region keeps no secret |
//!
//! The **verification pattern** says which master key it is and nothing else about it: the first 16 bytes of
//! `HKDF-SHA256(key = master key, salt = "coffer kms master key v1", info = "verification pattern")`, as hexadecimal digits. It is kept
//! with the instance, so another key is refused before anything is opened with it. A key part has a pattern too, with the info
//! `key part`; it stands in the file of the part, so a part that was copied wrongly is found before the parts are combined.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_crypto::{Argon2Params, Secret, SecretBytes, passphrase};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::crypto::{derive, equal, hex, random, random_secret};
use super::model::Sealed;
use crate::error::SandboxError;

const SALT: &[u8] = b"coffer kms master key v1";
const PATTERN_LEN: usize = 16;
const PART_PATTERN_LEN: usize = 8;
const PART_PREFIX: &str = "coffer-kms-key-part:v1";
/// No passphrase or file with a key part is longer.
const TEXT_LEN_MAX: usize = 4096;

/// One of the parts that a master key is put together from.
#[derive(Debug)]
pub struct KeyPart(Secret<32>);

impl KeyPart {
    /// A random part.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_secret())
    }

    /// A part from its bytes.
    ///
    /// # Errors
    /// All bytes are zero: such a part adds nothing.
    pub fn from_secret(bytes: Secret<32>) -> Result<Self, SandboxError> {
        if equal(bytes.expose(), &[0; 32]) {
            return Err(wrong("a key part of zeros adds nothing"));
        }
        Ok(Self(bytes))
    }

    /// Reads the text of a key part file.
    ///
    /// # Errors
    /// It is not such a text, or the part does not have the pattern that stands behind it.
    pub fn parse(text: &[u8]) -> Result<Self, SandboxError> {
        let not_one = || wrong("this is not a key part");
        if text.len() > TEXT_LEN_MAX {
            return Err(not_one());
        }
        let text = std::str::from_utf8(text).map_err(|_| not_one())?.trim();
        let rest =
            text.strip_prefix(PART_PREFIX).and_then(|rest| rest.strip_prefix(':')).ok_or_else(not_one)?;
        let (digits, pattern) = rest.split_once(':').ok_or_else(not_one)?;
        let mut bytes = Zeroizing::new([0; 32]);
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(not_one());
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).map_err(|_| not_one())?;
        }
        let part = Self::from_secret(Secret::new(*bytes))?;
        if part.pattern() != pattern {
            return Err(wrong("the key part does not have its pattern: it was copied wrongly"));
        }
        Ok(part)
    }

    /// The text of a key part file.
    #[must_use]
    pub fn to_text(&self) -> SecretBytes {
        let mut digits = Zeroizing::new(String::with_capacity(64));
        for byte in self.0.expose() {
            for nibble in [byte >> 4, byte & 15] {
                digits.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
        }
        let mut text = Vec::with_capacity(160);
        for piece in [PART_PREFIX, ":", digits.as_str(), ":", &self.pattern(), "\n"] {
            text.extend_from_slice(piece.as_bytes());
        }
        SecretBytes::new(text)
    }

    /// What tells this part from others, and nothing else about it.
    #[must_use]
    pub fn pattern(&self) -> String {
        hex(&derive(&self.0, SALT, b"key part").expose()[..PART_PATTERN_LEN])
    }
}

/// A device that wraps and unwraps a key, such as a PKCS#11 token.
pub trait KeyToken: Send + Sync {
    /// Which key of which token it is, for people.
    fn describe(&self) -> String;

    /// Wraps a key.
    ///
    /// # Errors
    /// What the token said.
    fn wrap(&self, key: &Secret<32>) -> Result<Vec<u8>, String>;

    /// Unwraps what [`Self::wrap`] gave.
    ///
    /// # Errors
    /// What the token said.
    fn unwrap(&self, wrapped: &[u8]) -> Result<Secret<32>, String>;
}

/// Where a master key comes from.
pub enum MasterKeySource {
    /// Two or three parts; all are needed.
    Parts(Vec<KeyPart>),
    /// A passphrase.
    Passphrase(SecretBytes),
    /// A random key that a token has wrapped.
    Token(Box<dyn KeyToken>),
}

impl std::fmt::Debug for MasterKeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Parts(_) => "Parts",
            Self::Passphrase(_) => "Passphrase",
            Self::Token(_) => "Token",
        })
    }
}

/// What is kept of the source of a master key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(super) enum KeptSource {
    Parts { count: usize },
    Passphrase { salt: Sealed, memory_kib: u32, passes: u32, lanes: u32 },
    Token { described: String, wrapped: Sealed },
    Provider { key: Sealed },
}

/// What is kept of a master key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) source: KeptSource,
    pub(super) pattern: String,
}

/// A loaded master key.
pub(super) struct MasterKey(Secret<32>);

impl MasterKey {
    /// What tells this key from others, and nothing else about it.
    pub(super) fn pattern(&self) -> String {
        hex(&derive(&self.0, SALT, b"verification pattern").expose()[..PATTERN_LEN])
    }

    /// The key that the rows of an instance are sealed with.
    pub(super) fn storage(&self, guid: &str) -> Secret<32> {
        derive(&self.0, SALT, format!("storage of {guid}").as_bytes())
    }

    /// A new master key of the provider, and what is kept of it.
    pub(super) fn of_provider() -> (Self, Kept) {
        let key = Self(random_secret());
        let source = KeptSource::Provider { key: Sealed(key.0.expose().to_vec()) };
        let kept = Kept { source, pattern: key.pattern() };
        (key, kept)
    }

    /// The master key that the provider keeps.
    pub(super) fn kept_by_provider(kept: &Kept) -> Option<Result<Self, SandboxError>> {
        let KeptSource::Provider { key } = &kept.source else { return None };
        let key = Secret::from_slice(&key.0).map(Self).map_err(|error| wrong(&error.to_string()));
        Some(key)
    }

    /// The first master key of an instance.
    pub(super) fn first(source: &MasterKeySource) -> Result<(Self, Kept), SandboxError> {
        let (key, kept) = match source {
            MasterKeySource::Parts(parts) => (combine(parts)?, KeptSource::Parts { count: parts.len() }),
            MasterKeySource::Passphrase(text) => {
                let salt: [u8; 16] = random();
                let params = Argon2Params::FLOOR;
                let Argon2Params { memory_kib, passes, lanes } = params;
                let kept = KeptSource::Passphrase { salt: Sealed(salt.to_vec()), memory_kib, passes, lanes };
                (from_passphrase(text, &salt, params)?, kept)
            }
            MasterKeySource::Token(token) => {
                let key = random_secret();
                let wrapped = token.wrap(&key).map_err(|what| wrong(&what))?;
                // A token that wraps and does not unwrap would cost everything.
                let again = token.unwrap(&wrapped).map_err(|what| wrong(&what))?;
                if !equal(again.expose(), key.expose()) {
                    return Err(wrong("the token does not unwrap what it wrapped"));
                }
                (key, KeptSource::Token { described: token.describe(), wrapped: Sealed(wrapped) })
            }
        };
        let key = Self(key);
        let pattern = key.pattern();
        Ok((key, Kept { source: kept, pattern }))
    }

    /// The master key that an instance already has, from the same source as before.
    pub(super) fn again(source: &MasterKeySource, kept: &Kept) -> Result<Self, SandboxError> {
        let key = match (source, &kept.source) {
            (MasterKeySource::Parts(parts), KeptSource::Parts { count }) => {
                if parts.len() != *count {
                    let message =
                        format!("the master key has {count} key parts, not {}; all are needed", parts.len());
                    return Err(wrong(&message));
                }
                combine(parts)?
            }
            (
                MasterKeySource::Passphrase(text),
                KeptSource::Passphrase { salt, memory_kib, passes, lanes },
            ) => {
                let salt = salt.0.as_slice().try_into().map_err(|_| wrong("the salt is damaged"))?;
                let params = Argon2Params { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
                from_passphrase(text, &salt, params)?
            }
            (MasterKeySource::Token(token), KeptSource::Token { described, wrapped }) => token
                .unwrap(&wrapped.0)
                .map_err(|what| wrong(&format!("{what} (the key was wrapped by {described})")))?,
            (_, kept) => {
                let made = match kept {
                    KeptSource::Parts { count } => format!("put together from {count} key parts"),
                    KeptSource::Passphrase { .. } => "made from a passphrase".to_owned(),
                    KeptSource::Token { described, .. } => format!("wrapped by {described}"),
                    KeptSource::Provider { .. } => "kept by the provider".to_owned(),
                };
                return Err(wrong(&format!("the master key of this instance is {made}")));
            }
        };
        let key = Self(key);
        let pattern = key.pattern();
        if pattern != kept.pattern {
            return Err(SandboxError::WrongMasterKey { pattern, expected: kept.pattern.clone() });
        }
        Ok(key)
    }
}

fn from_passphrase(
    text: &SecretBytes,
    salt: &[u8; 16],
    params: Argon2Params,
) -> Result<Secret<32>, SandboxError> {
    if text.is_empty() || text.len() > TEXT_LEN_MAX {
        return Err(wrong("a passphrase has 1 to 4096 bytes"));
    }
    passphrase::derive(text.expose(), salt, params).map_err(|error| wrong(&error.to_string()))
}

fn combine(parts: &[KeyPart]) -> Result<Secret<32>, SandboxError> {
    if !(2..=3).contains(&parts.len()) {
        return Err(wrong("a master key has two or three key parts"));
    }
    let mut sum = Zeroizing::new([0; 32]);
    for (place, part) in parts.iter().enumerate() {
        if parts[..place].iter().any(|other| equal(other.0.expose(), part.0.expose())) {
            return Err(wrong("the same key part was given twice"));
        }
        sum.iter_mut().zip(part.0.expose()).for_each(|(sum, byte)| *sum ^= byte);
    }
    if equal(&*sum, &[0; 32]) {
        return Err(wrong("the key parts give a key of zeros"));
    }
    Ok(Secret::new(*sum))
}

fn wrong(what: &str) -> SandboxError {
    SandboxError::MasterKey { what: what.to_owned() }
}

impl Sealed {
    /// As base64.
    pub(super) fn base64(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(byte: u8) -> KeyPart {
        KeyPart::from_secret(Secret::new([byte; 32])).unwrap()
    }

    #[test]
    fn all_parts_are_needed_and_their_order_is_not() {
        let (first, kept) =
            MasterKey::first(&MasterKeySource::Parts(vec![part(1), part(2), part(4)])).unwrap();
        assert_eq!(first.0.expose(), &[7; 32]);
        let again = |parts| MasterKey::again(&MasterKeySource::Parts(parts), &kept).map(|key| key.pattern());
        assert_eq!(again(vec![part(4), part(1), part(2)]).unwrap(), kept.pattern);
        assert!(matches!(again(vec![part(1), part(2)]), Err(SandboxError::MasterKey { .. })));
        assert!(matches!(again(vec![part(1), part(2), part(5)]), Err(SandboxError::WrongMasterKey { .. })));
        assert!(again(vec![part(1), part(1), part(7)]).is_err(), "the same part twice");
        let other = MasterKeySource::Passphrase(SecretBytes::new(b"words".to_vec()));
        assert!(MasterKey::again(&other, &kept).is_err());
    }

    #[test]
    fn parts_that_make_no_key_are_refused() {
        let first = |parts| MasterKey::first(&MasterKeySource::Parts(parts)).map(drop);
        assert!(first(vec![part(1)]).is_err());
        assert!(first(vec![part(1), part(1)]).is_err());
        assert!(first(vec![part(1), part(2), part(3)]).is_err(), "their sum is zero");
        assert!(first(vec![part(1), part(2), part(4), part(8)]).is_err());
        assert!(KeyPart::from_secret(Secret::new([0; 32])).is_err());
    }

    #[test]
    fn a_key_part_file_is_read_back_and_a_wrong_digit_is_found() {
        let made = KeyPart::generate();
        let text = made.to_text();
        assert_eq!(KeyPart::parse(text.expose()).unwrap().pattern(), made.pattern());
        let mut text = text.expose().to_vec();
        let place = PART_PREFIX.len() + 5;
        text[place] = if text[place] == b'0' { b'1' } else { b'0' };
        assert!(KeyPart::parse(&text).is_err());
        assert!(KeyPart::parse(b"coffer-kms-key-part:v1:00").is_err());
        assert!(KeyPart::parse(b"").is_err());
    }

    #[test]
    fn a_passphrase_gives_its_key_again_and_another_does_not() {
        let source = |text: &[u8]| MasterKeySource::Passphrase(SecretBytes::new(text.to_vec()));
        let (_, kept) = MasterKey::first(&source(b"correct horse")).unwrap();
        assert!(MasterKey::again(&source(b"correct horse"), &kept).is_ok());
        assert!(matches!(
            MasterKey::again(&source(b"wrong horse"), &kept),
            Err(SandboxError::WrongMasterKey { .. })
        ));
        assert!(MasterKey::first(&source(b"")).is_err());
    }

    /// The derivation is documented: another program must find the same pattern.
    #[test]
    fn the_pattern_is_the_documented_one() {
        let pattern = MasterKey(Secret::new([7; 32])).pattern();
        let prk = aws_lc_rs::hmac::sign(
            &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"coffer kms master key v1"),
            &[7; 32],
        );
        let block = aws_lc_rs::hmac::sign(
            &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, prk.as_ref()),
            b"verification pattern\x01",
        );
        assert_eq!(pattern, hex(&block.as_ref()[..16]));
    }
}
