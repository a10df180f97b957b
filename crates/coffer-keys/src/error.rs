//! The crate's one error type. No variant holds a secret, or text that was read where a secret may stand.

use coffer_crypto::CryptoError;
use coffer_format::FormatError;
use coffer_format::id::SlotId;
use coffer_format::path::display_path;
use coffer_format::slot::SlotKind;

use crate::pkcs11::TokenError;

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
    #[error("{}", describe_no_slot(root, (*slot_count, *tried_count), kinds, answers, (untried, lost)))]
    NoSlot {
        /// Kind of the root key that was tried.
        root: &'static str,
        /// Number of slots of the vault that can be read.
        slot_count: usize,
        /// Number of slots that were of the root key's kind and, for a key file, named its key id.
        tried_count: usize,
        /// The kinds of the vault's slots, each once.
        kinds: Box<[&'static str]>,
        /// What the slots that were tried answered, in the order in which they were tried.
        answers: Box<[Answer]>,
        /// If none was tried: where the root keys of slots are that name one.
        untried: Box<[Untried]>,
        /// Slots that the vault has and that cannot be used; whoever reads the slots knows.
        lost: Box<[LostSlot]>,
    },
    /// A key service did not unwrap or wrap.
    #[error("{service} at {host}: {}", describe_service(*answer, detail))]
    Service {
        /// Kind of the service.
        service: &'static str,
        /// Host that was asked, or was not to be asked.
        host: String,
        /// What came of it.
        answer: ServiceAnswer,
        /// The service's own words, or what befell the connection; may be empty.
        detail: String,
    },
    /// A PKCS#11 token did not do its part.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A root key that only opens was to make a slot.
    #[error("{root} cannot make a key slot")]
    OnlyOpens {
        /// What it is.
        root: &'static str,
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
    /// The work for a passphrase took longer than it may.
    #[error("argon2id with {} MiB, {passes} passes and {lanes} lanes was not done within {limit_s} s", memory_kib / 1024)]
    PassphraseSlow {
        /// Memory of the work in KiB.
        memory_kib: u32,
        /// Its passes over the memory.
        passes: u32,
        /// Its lanes.
        lanes: u32,
        /// How long was waited, in seconds.
        limit_s: u64,
    },
    /// Work for passphrases that was given up is not at its end and has the memory.
    #[error("argon2id with {} MiB cannot begin while work that was given up still has its memory", memory_kib / 1024)]
    PassphraseBusy {
        /// Memory of the work in KiB.
        memory_kib: u32,
    },
    /// There can be no further thread.
    #[error("no thread for the work")]
    Thread {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A text that should hold a share.
    #[error("line {line} of the share {fault}")]
    Share {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A text that should hold a writer credential.
    #[error("line {line} of the writer credential {fault}")]
    Writer {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A name that no writer can have.
    #[error("the name of a writer has 1 to {limit} bytes and no control characters")]
    WriterName {
        /// Most bytes of a name.
        limit: usize,
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

impl KeyError {
    /// Whether the same slot may open with the same root key at another time.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Service { answer, .. } => {
                matches!(
                    answer,
                    ServiceAnswer::Busy
                        | ServiceAnswer::Unreachable
                        | ServiceAnswer::NotSecure
                        | ServiceAnswer::Other
                )
            }
            // A token or a key that is not there may be put back, but as likely it is gone: whoever gives up what is lost decides.
            Self::Token(error) => {
                !matches!(error, TokenError::NoToken { .. } | TokenError::KeyMissing { .. })
            }
            Self::Crypto(_)
            | Self::PassphraseSlow { .. }
            | Self::PassphraseBusy { .. }
            | Self::Thread { .. } => true,
            _ => false,
        }
    }
}

/// What a slot that was tried answered.
#[derive(Debug)]
pub struct Answer {
    /// The slot.
    pub slot: SlotId,
    /// Its kind.
    pub kind: &'static str,
    /// Why it did not open.
    pub error: KeyError,
}

/// A slot that was not tried, as what was given is for another root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untried {
    /// The slot.
    pub slot: SlotId,
    /// Its kind.
    pub kind: &'static str,
    /// Which root key it names, fit to be shown.
    pub root_key: String,
}

impl Untried {
    /// What a slot says of its root key, if that is in a token or a service.
    pub(crate) fn of(id: SlotId, kind: &SlotKind) -> Option<Self> {
        let shown = |text: &str| display_path(text.as_bytes());
        let root_key = match kind {
            SlotKind::Token(key) => {
                format!("key {} on the token {}", shown(&key.label), shown(&key.token_label))
            }
            SlotKind::Service(key) => format!("key {} at {}", shown(&key.key), shown(&key.endpoint)),
            _ => return None,
        };
        Some(Self { slot: id, kind: kind.name(), root_key })
    }
}

/// A slot that the log names and the store does not have, or has as something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostSlot {
    /// The slot.
    pub slot: SlotId,
    /// Whether there is nothing of it.
    pub is_missing: bool,
}

/// What came of asking a key service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceAnswer {
    /// The root key was deleted. For 30 days it can be restored.
    KeyDeleted,
    /// The root key is disabled, or in another state in which it does nothing.
    KeyDisabled,
    /// There is no such key, or no such instance.
    KeyMissing,
    /// Whoever asks may not use the key, or is not known.
    Denied,
    /// The root key does not open what the slot holds: it is another one, or the slot was altered.
    NotThisKey,
    /// The service asked to be left alone, or failed, for longer than was waited.
    Busy,
    /// The service was not reached.
    Unreachable,
    /// No secure connection came about: its certificate is not trusted, or is of another host.
    NotSecure,
    /// The slot names a host to which nothing is sent, as nobody has said that it may be.
    HostNotTrusted,
    /// Its address is one to which no token is sent, whoever it is: over plain http to another machine, or malformed.
    AddressRefused,
    /// There are no credentials for such a service.
    NoCredentials,
    /// Another answer.
    Other,
}

fn describe_service(answer: ServiceAnswer, detail: &str) -> String {
    let text = match answer {
        ServiceAnswer::KeyDeleted => "the root key is deleted",
        ServiceAnswer::KeyDisabled => "the root key is not active",
        ServiceAnswer::KeyMissing => "there is no such root key or instance",
        ServiceAnswer::Denied => "access is denied",
        ServiceAnswer::NotThisKey => "the root key does not open this slot",
        ServiceAnswer::Busy => "it is not available",
        ServiceAnswer::Unreachable => "it cannot be reached",
        ServiceAnswer::NotSecure => "no secure connection to it can be made",
        ServiceAnswer::HostNotTrusted => "this host is not trusted with a token",
        ServiceAnswer::AddressRefused => "no token is sent to its address",
        ServiceAnswer::NoCredentials => "there are no credentials for it",
        ServiceAnswer::Other => "it did not do it",
    };
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") }
}

fn describe_no_slot(
    root: &str,
    (slot_count, tried_count): (usize, usize),
    kinds: &[&str],
    answers: &[Answer],
    (untried, lost): (&[Untried], &[LostSlot]),
) -> String {
    let all_count = slot_count + lost.len();
    let mut text = describe_count(root, (slot_count, all_count), tried_count, kinds);
    for Answer { slot, kind, error } in answers {
        let told = match error {
            // Of the only slot it is said already.
            KeyError::WrongKey { .. } if all_count == 1 => continue,
            KeyError::WrongKey { .. } => "the key does not fit".to_owned(),
            error => error.to_string(),
        };
        text.push_str(&format!("; slot {} ({kind}): {told}", slot.short()));
    }
    for Untried { slot, kind, root_key } in untried {
        text.push_str(&format!("; slot {} ({kind}) is for {root_key}", slot.short()));
    }
    for LostSlot { slot, is_missing } in lost {
        let what = if *is_missing { "missing" } else { "damaged" };
        text.push_str(&format!("; slot {} is {what}", slot.short()));
    }
    text
}

fn describe_count(
    root: &str,
    (slot_count, all_count): (usize, usize),
    tried_count: usize,
    kinds: &[&str],
) -> String {
    let kinds = kinds.join(", ");
    match (slot_count, all_count) {
        (0, 0) => "vault has no key slots".to_owned(),
        (0, _) => "no key slot of the vault can be used".to_owned(),
        (_, 1) => format!("the vault's only slot ({kinds}) does not open with this {root}"),
        _ if tried_count == 0 => {
            format!("none of the vault's {all_count} slots ({kinds}) is one for this {root}")
        }
        _ => format!(
            "none of the vault's {all_count} slots ({kinds}) opens with this {root} ({tried_count} tried)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use coffer_format::slot::TokenKey;

    use super::*;

    #[test]
    fn a_slot_that_cannot_be_used_is_named_beside_what_the_others_answered() {
        let told = |slot_count, tried_count, answers: Vec<Answer>, lost: &[LostSlot]| {
            let (root, kinds, untried) = ("key file", Box::from(["passphrase"]), Box::default());
            let (answers, lost) = (answers.into(), lost.into());
            KeyError::NoSlot { root, slot_count, tried_count, kinds, answers, untried, lost }.to_string()
        };
        let (one, two) = (SlotId([0x11; 32]), SlotId([0x22; 32]));
        let (damaged, missing) =
            (LostSlot { slot: one, is_missing: false }, LostSlot { slot: two, is_missing: true });
        assert_eq!(
            told(1, 0, Vec::new(), &[damaged]),
            "none of the vault's 2 slots (passphrase) is one for this key file; slot 11111111 is damaged"
        );
        assert_eq!(
            told(0, 0, Vec::new(), &[damaged, missing]),
            "no key slot of the vault can be used; slot 11111111 is damaged; slot 22222222 is missing"
        );
        let fits_not = || {
            vec![Answer { slot: two, kind: "passphrase", error: KeyError::WrongKey { root: "passphrase" } }]
        };
        let text = told(1, 1, fits_not(), &[damaged]);
        assert!(
            text.contains("slot 22222222 (passphrase): the key does not fit; slot 11111111 is damaged"),
            "{text}"
        );
        assert!(!told(1, 1, fits_not(), &[]).contains("does not fit"), "of the only slot it is said already");
    }

    #[test]
    fn a_slot_that_was_not_tried_says_which_key_of_a_token_it_names() {
        let key = TokenKey {
            token_label: "hsm".to_owned(),
            token_serial: "1".to_owned(),
            label: "root\u{1b}".to_owned(),
            id: Vec::new(),
            mechanism: 0,
            iv: None,
            mac: None,
            salt: None,
        };
        let found = Untried::of(SlotId([1; 32]), &SlotKind::Token(key)).unwrap();
        assert_eq!(
            (found.kind, found.root_key.as_str()),
            ("PKCS#11 token", "key root\\x1b on the token hsm")
        );
        let local = SlotKind::KeyFile { key_id: [1; 8] };
        assert_eq!(Untried::of(SlotId([1; 32]), &local), None);
    }

    #[test]
    fn what_is_not_there_is_lost_and_what_does_not_answer_may_pass() {
        let (token, keys) = ("token hsm".to_owned(), Vec::new());
        let gone = TokenError::NoToken { wanted: token.clone(), tokens: Vec::new() };
        let missing = TokenError::KeyMissing { token: token.clone(), wanted: "AES key".to_owned(), keys };
        let silent = TokenError::NoAnswer { token, limit_s: 30 };
        for (error, may_pass) in [(gone, false), (missing, false), (silent, true)] {
            assert_eq!(KeyError::from(error).may_pass(), may_pass);
        }
    }
}
