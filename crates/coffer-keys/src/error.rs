//! The crate's one error type. No variant holds a secret, or text that was read where a secret may stand.

use coffer_crypto::CryptoError;
use coffer_format::FormatError;

/// What can go wrong with root keys and key slots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A slot does not open: another key, another vault or altered bytes, which are not told apart.
    #[error("key slot does not open with this {root}")]
    WrongKey {
        /// Kind of the root key that was tried.
        root: &'static str,
    },
    /// No slot of the vault opens with the root key.
    #[error("{}", describe_no_slot(root, *slot_count, *tried_count, kinds))]
    NoSlot {
        /// Kind of the root key that was tried.
        root: &'static str,
        /// Number of slots the vault has.
        slot_count: usize,
        /// Number of slots that were of the root key's kind and, for a key file, named its key id.
        tried_count: usize,
        /// The kinds of the vault's slots, each once.
        kinds: Vec<&'static str>,
        /// Why a slot that was for this kind of root key was not tried to the end, if one was not.
        #[source]
        refused: Option<Box<Self>>,
    },
    /// A slot was to be wrapped by a root key of another kind, or for another key file.
    #[error("a {slot} slot cannot be wrapped by this {root}")]
    Kind {
        /// Kind of the slot.
        slot: &'static str,
        /// Kind of the root key.
        root: &'static str,
    },
    /// A key file is longer than any key file.
    #[error("key file of {len} bytes is over the limit of {limit}")]
    KeyFileLen {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A key file holds nothing but comments.
    #[error("key file holds no key")]
    KeyFileEmpty,
    /// A line of a key file is neither a comment nor the one key.
    #[error("line {line} of the key file {fault}")]
    KeyFileMalformed {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A passphrase without characters.
    #[error("passphrase is empty")]
    PassphraseEmpty,
    /// A passphrase that is not UTF-8.
    #[error("passphrase is not UTF-8")]
    PassphraseEncoding,
    /// A text that should hold a share.
    #[error("line {line} of the share {fault}")]
    Share {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A set of shares that cannot be made.
    #[error("{threshold} of {count} shares: at least 2 must be needed, and at most {limit} can be made")]
    ShareCounts {
        /// How many were to be needed.
        threshold: u8,
        /// How many were to be made.
        count: u8,
        /// Most that can be made.
        limit: u64,
    },
    /// Shares of different sets were given together.
    #[error("share {} and share {} are of different sets", numbers[0], numbers[1])]
    ShareSets {
        /// Their numbers.
        numbers: [u8; 2],
    },
    /// Two shares have one number and are not the same.
    #[error("there are two different shares with the number {number}: one of them is false")]
    ShareTwice {
        /// The number.
        number: u8,
    },
    /// Fewer good shares than are needed.
    #[error("{}", describe_missing(*given_count, *needed, false_numbers))]
    SharesMissing {
        /// How many good ones there are.
        given_count: usize,
        /// How many are needed.
        needed: u8,
        /// Numbers of those that are not what the slot says.
        false_numbers: Vec<u8>,
    },
    /// The cryptography refused: Argon2id outside its limits or out of memory, or no random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A slot breaks a rule of the format.
    #[error(transparent)]
    Format(#[from] FormatError),
}

fn describe_missing(given_count: usize, needed: u8, false_numbers: &[u8]) -> String {
    let is = if given_count == 1 { "share is" } else { "shares are" };
    let mut text = format!("{given_count} {is} good and {needed} are needed");
    for number in false_numbers {
        text.push_str(&format!("; share {number} is false"));
    }
    text
}

fn describe_no_slot(root: &str, slot_count: usize, tried_count: usize, kinds: &[&str]) -> String {
    let kinds = kinds.join(", ");
    match slot_count {
        0 => "vault has no key slots".to_owned(),
        1 => format!("the vault's only slot ({kinds}) does not open with this {root}"),
        _ => format!(
            "none of the vault's {slot_count} slots ({kinds}) opens with this {root} ({tried_count} tried)"
        ),
    }
}
