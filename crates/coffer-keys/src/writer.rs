//! Writer credentials and their text (section 7.3).
//!
//! A credential is no root key and opens no slot. It holds a signing key that the log has enrolled, and the keys of one dedup domain: enough to
//! name, cut and seal data of that domain, and nothing to read any with.

use std::fmt;

use coffer_crypto::{DomainKeyParts, DomainKeys, Rng, Secret, SecretBytes, SigningKey, wrap};
use coffer_format::id::{DomainId, VaultId, hex};
use zeroize::Zeroizing;

use crate::error::KeyError;

/// Most bytes of the text of a credential.
pub const WRITER_TEXT_LEN_MAX: usize = 4096;
/// Most bytes of a writer's name.
pub const WRITER_NAME_LEN_MAX: usize = 256;

const PREFIX: &[u8] = b"COFFER-WRITER-1-";
/// Everything before the name.
const FIXED_LEN: usize = 256;
const CHECK_LEN: usize = 4;
const LEN_MAX: usize = FIXED_LEN + WRITER_NAME_LEN_MAX + CHECK_LEN;

/// What a writer has.
pub struct WriterCredential {
    vault: VaultId,
    signing: SigningKey,
    domain: DomainKeys,
    name: String,
}

impl WriterCredential {
    /// A fresh signing key for a writer of this name, with the keys of its domain.
    ///
    /// # Errors
    /// [`KeyError::WriterName`] for a name that cannot be; [`KeyError::Crypto`] when `rng` fails.
    pub fn generate(vault: VaultId, name: &str, domain: DomainKeys, rng: &dyn Rng) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::WriterName { limit: WRITER_NAME_LEN_MAX });
        }
        let signing = SigningKey::from_seed(&Secret::generate(rng)?);
        Ok(Self { vault, signing, domain, name: name.to_owned() })
    }

    /// Reads the text of a credential: lines that are empty or start with `#`, and one that holds it.
    ///
    /// # Errors
    /// [`KeyError::Writer`]: which line, and what is wrong with it, but nothing of what it holds.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let fail = |line, fault| KeyError::Writer { line, fault };
        if text.len() > WRITER_TEXT_LEN_MAX {
            return Err(fail(1, "begins a text that is too long for a credential"));
        }
        let mut found = None;
        for (line, content) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let content = content.trim_ascii();
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            let credential = Self::parse_line(content).map_err(|fault| fail(line, fault))?;
            if found.replace(credential).is_some() {
                return Err(fail(line, "holds a second credential"));
            }
        }
        found.ok_or_else(|| fail(1, "begins a text that holds no credential"))
    }

    fn parse_line(line: &[u8]) -> Result<Self, &'static str> {
        let Some(digits) = line.strip_prefix(PREFIX) else {
            return Err(if line.starts_with(b"COFFER-WRITER-") {
                "holds a credential of a version that this program does not know"
            } else {
                "does not start with COFFER-WRITER-1- and is no comment"
            });
        };
        if digits.len() % 2 == 1 || digits.len() / 2 <= FIXED_LEN + CHECK_LEN || digits.len() / 2 > LEN_MAX {
            return Err("does not have 522 to 1032 digits, an even number, behind COFFER-WRITER-1-");
        }
        let mut bytes = Zeroizing::new([0_u8; LEN_MAX]);
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [Some(high), Some(low)] = pair.map(digit_value) else {
                return Err("has a character in its credential that is not one of 0123456789abcdef");
            };
            *byte = high << 4 | low;
        }
        let (content, check) = bytes[..digits.len() / 2].split_at(digits.len() / 2 - CHECK_LEN);
        if wrap::writer_checksum(content) != check {
            return Err("has digits that do not fit each other: at least one is wrong");
        }
        let name = str::from_utf8(&content[FIXED_LEN..]).ok().filter(|name| is_name(name));
        let name = name.ok_or("holds a name that no writer can have")?.to_owned();
        let mut parts = Parts(content);
        let vault = VaultId(*parts.take());
        let signing = SigningKey::from_seed(&parts.secret());
        let domain = *parts.take();
        let keys = DomainKeyParts {
            data_id: parts.secret(),
            meta_id: parts.secret(),
            chunker: parts.secret(),
            tree: parts.secret(),
            index: parts.secret(),
            psk: parts.secret(),
        };
        Ok(Self { vault, signing, domain: DomainKeys::from_parts(domain, keys), name })
    }

    /// The text to store: comments that say what the file is, then the credential.
    #[must_use]
    pub fn to_text(&self) -> SecretBytes {
        let keys = self.domain.parts();
        let mut content = Zeroizing::new(Vec::with_capacity(LEN_MAX));
        for part in [
            self.vault.0.as_slice(),
            self.signing.expose_seed(),
            self.domain.domain(),
            keys.data_id.expose(),
            keys.meta_id.expose(),
            keys.chunker.expose(),
            keys.tree.expose(),
            keys.index.expose(),
            keys.psk.expose(),
            self.name.as_bytes(),
        ] {
            content.extend_from_slice(part);
        }
        let check = wrap::writer_checksum(&content);
        content.extend_from_slice(&check);
        let comments = format!(
            "# coffer writer credential of {} for vault {}\n\
             # Whoever has this file can add snapshots to the vault. It opens no snapshot, its own included.\n\
             # `coffer keys revoke-writer` takes it back; `coffer keys grant-writer` makes another one.\n",
            self.name, self.vault
        );
        // Room for all of it at once: growing would leave parts of the keys behind in freed memory.
        let mut text = Vec::with_capacity(comments.len() + PREFIX.len() + 2 * content.len() + 1);
        let capacity = text.capacity();
        text.extend_from_slice(comments.as_bytes());
        text.extend_from_slice(PREFIX);
        text.extend(content.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit));
        text.push(b'\n');
        debug_assert_eq!(text.capacity(), capacity, "the text did not grow");
        SecretBytes::new(text)
    }

    /// The vault that it is for.
    #[must_use]
    pub const fn vault(&self) -> VaultId {
        self.vault
    }

    /// The writer's name. The owner's record of it counts; this is for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key by which the log knows the writer.
    #[must_use]
    pub fn verifying_key(&self) -> [u8; 32] {
        *self.signing.verifying_key().as_bytes()
    }

    /// The dedup domain it writes into.
    #[must_use]
    pub fn domain(&self) -> DomainId {
        DomainId(*self.domain.domain())
    }

    /// Copies of its keys: the one that signs, and those of its domain.
    #[must_use]
    pub fn keys(&self) -> (SigningKey, DomainKeys) {
        let seed = Secret::new(*self.signing.expose_seed());
        (SigningKey::from_seed(&seed), self.domain.copy())
    }
}

impl fmt::Debug for WriterCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = hex(&self.verifying_key());
        f.debug_struct("WriterCredential")
            .field("name", &self.name)
            .field("key", &key)
            .finish_non_exhaustive()
    }
}

/// Fields one after the other. Whoever made it has checked that all of them are there.
struct Parts<'p>(&'p [u8]);

impl<'p> Parts<'p> {
    fn take<const N: usize>(&mut self) -> &'p [u8; N] {
        let (part, rest) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = rest;
        part
    }

    fn secret<const N: usize>(&mut self) -> Secret<N> {
        Secret::new(*self.take())
    }
}

fn is_name(name: &str) -> bool {
    (1..=WRITER_NAME_LEN_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

const fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn digit(value: u8) -> u8 {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    DIGITS[usize::from(value)]
}

#[cfg(test)]
mod tests {
    use coffer_crypto::ReaderSecret;
    use coffer_crypto::rng::SeededRng;

    use super::*;

    fn credential(name: &str) -> Result<WriterCredential, KeyError> {
        let domain = ReaderSecret::from_secret(Secret::new([1; 32])).domain_keys(&[2; 16]);
        WriterCredential::generate(VaultId([3; 32]), name, domain, &SeededRng::new(4))
    }

    #[test]
    fn the_text_gives_the_same_keys_again() {
        for name in ["n", "nightly on web-1", "Größe", &"x".repeat(WRITER_NAME_LEN_MAX)] {
            let made = credential(name).unwrap();
            let text = made.to_text();
            assert!(text.len() <= WRITER_TEXT_LEN_MAX);
            let read = WriterCredential::parse(text.expose()).unwrap();
            assert_eq!((read.name(), read.vault(), read.domain()), (name, made.vault(), made.domain()));
            assert_eq!(read.to_text(), text);
            assert_eq!(read.verifying_key(), made.verifying_key());
            let ((signing, domain), (again, same)) = (made.keys(), read.keys());
            assert_eq!(signing.expose_seed(), again.expose_seed());
            assert_eq!(domain.data_id(b"x"), same.data_id(b"x"));
            assert_eq!(domain.meta_id(b"x"), same.meta_id(b"x"));
            assert_eq!(domain.psk(), same.psk());
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(WRITER_NAME_LEN_MAX + 1)] {
            assert!(matches!(credential(name), Err(KeyError::WriterName { .. })), "{name:?}");
        }
    }

    #[test]
    fn nothing_shows_in_debug_or_errors() {
        let made = credential("nightly").unwrap();
        let seed = hex(&made.signing.expose_seed()[..8]);
        assert!(!format!("{made:?}").contains(&seed));
        let text = made.to_text();
        for position in 0..text.len() {
            let mut altered = text.expose().to_vec();
            altered[position] = if altered[position] == b'0' { b'1' } else { b'0' };
            if let Err(error) = WriterCredential::parse(&altered) {
                let said = format!("{error} {error:?}");
                assert!(!said.contains(&seed), "{said}");
            }
        }
    }
}
