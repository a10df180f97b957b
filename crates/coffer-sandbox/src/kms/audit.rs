//! The audit log: one entry for each call, each bound to the one before it.
//!
//! An entry is JSON without secrets; its hash is `SHA-256("coffer kms audit v1" ‖ hash before it ‖ entry)`, with 32 zero bytes before the
//! first. Entries are written in the transaction that carries out what they speak of. The instance also seals the newest number and
//! hash under its master key: who rewrites the log, hashes and all, without that key is found out when the instance is opened.

use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::crypto::{hex, sha256};
use crate::error::SandboxError;

/// Entries by number, each behind its hash.
pub(super) const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");

pub(super) const HASH_LEN: usize = 32;
const CONTEXT: &[u8] = b"coffer kms audit v1";

/// What is recorded of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its number; the first is 1.
    pub number: u64,
    /// When, in UTC.
    pub time: String,
    /// The instance that was asked.
    pub instance: String,
    /// Who asked, as far as it is known.
    pub identity: String,
    /// What was asked for (`kms.secrets.unwrap`).
    pub action: String,
    /// The key that it was about.
    pub key: Option<String>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The reason of a refusal.
    pub code: Option<String>,
    /// The correlation id of the call; of the newest, if it stands for more than one.
    pub correlation: String,
    /// How many calls it stands for: more than one only where the callers were not known.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// What else is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

const fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_one(count: &u64) -> bool {
    *count == 1
}

/// The newest entry: its number and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditHead {
    /// Its number; 0 before the first.
    pub number: u64,
    /// Its hash, as hexadecimal digits.
    pub hash: String,
}

impl AuditHead {
    /// A head from its number and hash with a colon between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, hash) = text.split_once(':')?;
        let is_hash = hash.len() == 2 * HASH_LEN
            && hash.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        let number = number.parse().ok()?;
        is_hash.then(|| Self { number, hash: hash.to_owned() })
    }

    fn new(number: u64, hash: &[u8]) -> Self {
        Self { number, hash: hex(hash) }
    }
}

impl std::fmt::Display for AuditHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

pub(super) fn hash(before: &[u8], entry: &[u8]) -> [u8; HASH_LEN] {
    sha256(&[CONTEXT, before, entry])
}

/// Adds an entry; its number is set here.
pub(super) fn append(
    table: &mut redb::Table<'_, u64, &'static [u8]>,
    mut entry: AuditEntry,
) -> Result<AuditHead, redb::Error> {
    let (number, before) = match table.last()? {
        Some((number, row)) => (number.value(), row.value().get(..HASH_LEN).unwrap_or_default().to_vec()),
        None => (0, vec![0; HASH_LEN]),
    };
    entry.number = number.saturating_add(1);
    let text = serde_json::to_vec(&entry).map_err(|error| redb::Error::Io(error.into()))?;
    let sum = hash(&before, &text);
    let mut row = sum.to_vec();
    row.extend_from_slice(&text);
    table.insert(entry.number, &*row)?;
    Ok(AuditHead::new(entry.number, &sum))
}

/// Checks every entry against the one before it, shows each, and gives the newest. With `noted`, a head that was noted earlier, the
/// entry of that number must still have that hash.
pub(super) fn verify(
    table: &impl ReadableTable<u64, &'static [u8]>,
    noted: Option<&AuditHead>,
    show: &mut dyn FnMut(&AuditEntry) -> Result<(), SandboxError>,
) -> Result<AuditHead, SandboxError> {
    let broken = |number: u64, before: &[u8], what: &str| SandboxError::Audit {
        number,
        what: what.to_owned(),
        whole: AuditHead::new(number.saturating_sub(1), before),
    };
    let mut before = vec![0; HASH_LEN];
    let mut number = 0;
    let mut is_noted_there = noted.is_none_or(|noted| noted.number == 0);
    let records = |error: redb::StorageError| SandboxError::Records { what: error.to_string() };
    for row in table.iter().map_err(records)? {
        number += 1;
        let broken = |what: &str| broken(number, &before, what);
        let (found, row) = row.map_err(|error| match error {
            redb::StorageError::Corrupted(_) => broken("the entry cannot be read"),
            other => records(other),
        })?;
        if found.value() != number {
            return Err(broken("the entry is missing"));
        }
        let (sum, text) =
            row.value().split_at_checked(HASH_LEN).ok_or_else(|| broken("the entry is too short"))?;
        if hash(&before, text) != sum {
            return Err(broken("the entry does not have its hash"));
        }
        let entry: AuditEntry =
            serde_json::from_slice(text).map_err(|_| broken("the entry cannot be read"))?;
        if entry.number != number {
            return Err(broken("the entry has another number"));
        }
        if let Some(noted) = noted.filter(|noted| noted.number == number) {
            if *noted != AuditHead::new(number, sum) {
                return Err(broken("the entry has another hash than the one that was noted"));
            }
            is_noted_there = true;
        }
        before = sum.to_vec();
        show(&entry)?;
    }
    if !is_noted_there {
        return Err(broken(number + 1, &before, "the log ends before the entry that was noted"));
    }
    Ok(AuditHead::new(number, &before))
}
