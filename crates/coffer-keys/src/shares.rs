//! Recovery shares as a root key, and their text (section 7.2).
//!
//! A random secret is the root key; it is split, the shares are handed out, and it is forgotten. Any `threshold` of them open the slot. A slot
//! knows its shares by digests, so a false one is left out, and named when too few are left.

use std::fmt;

use coffer_crypto::rng::array;
use coffer_crypto::shares::{join, share_checksum, share_digest, split};
use coffer_crypto::{Rng, Secret, SecretBytes};
use coffer_format::id::hex;
use coffer_format::limits::SHARE_COUNT_MAX;
use coffer_format::slot::{Slot, SlotKind};
use zeroize::Zeroizing;

use crate::RootKey;
use crate::error::KeyError;
use crate::local::{unwrap_with, wrap_with};

/// Most bytes of the text of a share.
pub const SHARE_TEXT_LEN_MAX: usize = 16 << 10;

const KIND_NAME: &str = "recovery shares";
const PREFIX: &str = "COFFER-SHARE-1-";
/// Set id, threshold, count, number, share, checksum.
const SHARE_LEN: usize = 8 + 3 + 32 + 4;
/// Digits between two hyphens.
const GROUP_LEN: usize = 8;

/// One share of a set.
pub struct Share {
    set_id: [u8; 8],
    threshold: u8,
    count: u8,
    number: u8,
    part: Secret<32>,
}

impl Share {
    /// Reads the text of a share: lines that are empty or start with `#`, and one that holds it.
    ///
    /// # Errors
    /// [`KeyError::Share`]: which line, and what is wrong with it, but nothing of what it holds.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let fail = |line, fault| KeyError::Share { line, fault };
        if text.len() > SHARE_TEXT_LEN_MAX {
            return Err(fail(1, "begins a text that is too long for a share"));
        }
        let mut found = None;
        for (line, content) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let content = content.trim_ascii();
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            let share = Self::parse_line(content).map_err(|fault| fail(line, fault))?;
            if found.replace(share).is_some() {
                return Err(fail(line, "holds a second share"));
            }
        }
        found.ok_or_else(|| fail(1, "begins a text that holds no share"))
    }

    fn parse_line(line: &[u8]) -> Result<Self, &'static str> {
        let upper = Zeroizing::new(line.to_ascii_uppercase());
        let Some(rest) = upper.strip_prefix(PREFIX.as_bytes()) else {
            return Err(if upper.starts_with(b"COFFER-SHARE-") {
                "holds a share of a version that this program does not know"
            } else {
                "does not start with COFFER-SHARE-1- and is no comment"
            });
        };
        let mut bytes = Zeroizing::new([0_u8; SHARE_LEN]);
        let mut digits = 0;
        for digit in rest.iter().filter(|byte| !matches!(byte, b'-' | b' ')) {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'A'..=b'F' => digit - b'A' + 10,
                _ => return Err("has a character that is not one of 0123456789ABCDEF"),
            };
            let byte = bytes.get_mut(digits / 2).ok_or("has more than 94 digits behind COFFER-SHARE-1-")?;
            *byte = *byte << 4 | value;
            digits += 1;
        }
        if digits != 2 * SHARE_LEN {
            return Err("has fewer than 94 digits behind COFFER-SHARE-1-");
        }
        let (content, checksum) = bytes.split_at(SHARE_LEN - 4);
        if share_checksum(content) != checksum {
            return Err("has digits that do not fit each other: at least one is wrong");
        }
        let (set_id, rest) = content.split_first_chunk::<8>().expect("there are 43 bytes");
        let ([threshold, count, number], part) = rest.split_first_chunk::<3>().expect("there are 35 bytes");
        let (threshold, count, number) = (*threshold, *count, *number);
        if threshold < 2 || threshold > count || u64::from(count) > SHARE_COUNT_MAX {
            return Err("holds a share of a set that cannot be");
        }
        if number == 0 || number > count {
            return Err("holds a share with a number that its set has not");
        }
        let part = Secret::from_slice(part).expect("32 bytes are left");
        Ok(Self { set_id: *set_id, threshold, count, number, part })
    }

    /// The line that holds the share, without line end.
    #[must_use]
    pub fn to_line(&self) -> SecretBytes {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut bytes = Zeroizing::new([0_u8; SHARE_LEN]);
        bytes[..8].copy_from_slice(&self.set_id);
        bytes[8..11].copy_from_slice(&[self.threshold, self.count, self.number]);
        bytes[11..43].copy_from_slice(self.part.expose());
        let checksum = share_checksum(&bytes[..43]);
        bytes[43..].copy_from_slice(&checksum);
        // Room for all of it at once: growing would leave parts of the share behind in freed memory.
        let mut line = Vec::with_capacity(PREFIX.len() + 2 * SHARE_LEN + 2 * SHARE_LEN / GROUP_LEN);
        let capacity = line.capacity();
        line.extend_from_slice(PREFIX.as_bytes());
        for (at, byte) in bytes.iter().enumerate() {
            if at > 0 && at % (GROUP_LEN / 2) == 0 {
                line.push(b'-');
            }
            line.extend([byte >> 4, byte & 15].map(|value| DIGITS[usize::from(value)]));
        }
        debug_assert_eq!(line.capacity(), capacity, "the line did not grow");
        SecretBytes::new(line)
    }

    /// By which shares of one set are known. Public.
    #[must_use]
    pub const fn set_id(&self) -> [u8; 8] {
        self.set_id
    }

    /// How many shares are needed.
    #[must_use]
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many shares there are.
    #[must_use]
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// The number of this one, from 1.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Whether the other one is of the same set.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.set_id, self.threshold, self.count) == (other.set_id, other.threshold, other.count)
    }

    /// Whether the other one says the same: it counts once with this one.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.is_beside(other) && self.number == other.number && self.part == other.part
    }

    fn digest(&self) -> [u8; 16] {
        share_digest(&self.part, &self.set_id, self.number)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set_id = hex(&self.set_id);
        f.debug_struct("Share").field("set_id", &set_id).field("number", &self.number).finish_non_exhaustive()
    }
}

/// Shares of one set, as many as there are, as a root key.
#[derive(Debug)]
pub struct RecoveryShares {
    /// At least one, all of one set, no number twice.
    shares: Vec<Share>,
}

impl RecoveryShares {
    /// A new set of `count` shares of a fresh secret, of which `threshold` will be needed. It is whole, so it can also make slots.
    ///
    /// # Errors
    /// [`KeyError::ShareCounts`] unless 2 <= `threshold` <= `count` <= [`SHARE_COUNT_MAX`]; [`KeyError::Crypto`] when `rng` fails.
    pub fn generate(threshold: u8, count: u8, rng: &dyn Rng) -> Result<Self, KeyError> {
        if threshold < 2 || threshold > count || u64::from(count) > SHARE_COUNT_MAX {
            return Err(KeyError::ShareCounts { threshold, count, limit: SHARE_COUNT_MAX });
        }
        let set_id = array(rng)?;
        let parts = split(&Secret::generate(rng)?, threshold, count, rng)?;
        let share = |(number, part)| Share { set_id, threshold, count, number, part };
        Ok(Self { shares: (1..).zip(parts).map(share).collect() })
    }

    /// Shares that were collected, in any order; one that is there twice counts once.
    ///
    /// # Errors
    /// [`KeyError::ShareSets`] when they are of different sets, [`KeyError::SharesMissing`] when they are fewer than needed.
    pub fn collect(shares: Vec<Share>) -> Result<Self, KeyError> {
        let mut kept: Vec<Share> = Vec::with_capacity(shares.len());
        for share in shares {
            let Some(first) = kept.first() else {
                kept.push(share);
                continue;
            };
            if !first.is_beside(&share) {
                return Err(KeyError::ShareSets { numbers: [first.number, share.number] });
            }
            let same = kept.iter().find(|known| known.number == share.number);
            match same.map(|known| known.is_copy_of(&share)) {
                None => kept.push(share),
                Some(true) => {}
                Some(false) => return Err(KeyError::ShareTwice { number: share.number }),
            }
        }
        let needed = kept.first().map_or(2, |share| share.threshold);
        if kept.len() < usize::from(needed) {
            return Err(KeyError::SharesMissing {
                given_count: kept.len(),
                needed,
                false_numbers: Vec::new(),
            });
        }
        Ok(Self { shares: kept })
    }

    /// The shares, to be handed out.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Numbers of the shares that `slot`, which is for this set, does not know: false ones, which are left out.
    #[must_use]
    pub fn false_numbers(&self, slot: &Slot) -> Vec<u8> {
        let SlotKind::Shares { digests, .. } = &slot.kind else { return Vec::new() };
        self.shares.iter().filter(|share| !is_of(share, digests)).map(|share| share.number).collect()
    }

    fn first(&self) -> &Share {
        self.shares.first().expect("a set is never empty")
    }

    fn secret(&self, is_good: impl Fn(&Share) -> bool) -> Result<Secret<32>, KeyError> {
        let good = self.shares.iter().filter(|share| is_good(share));
        let good: Vec<_> = good.map(|share| (share.number, &share.part)).collect();
        let needed = self.first().threshold;
        let chosen = good.get(..usize::from(needed));
        chosen.and_then(join).ok_or_else(|| {
            let is_false = |share: &&Share| !is_good(share);
            let false_numbers = self.shares.iter().filter(is_false).map(|share| share.number).collect();
            KeyError::SharesMissing { given_count: good.len(), needed, false_numbers }
        })
    }
}

impl RootKey for RecoveryShares {
    fn kind_name(&self) -> &'static str {
        KIND_NAME
    }

    fn may_open(&self, slot: &Slot) -> bool {
        matches!(slot.kind, SlotKind::Shares { set_id, .. } if set_id == self.first().set_id)
    }

    fn new_kind(&self, _rng: &dyn Rng) -> Result<SlotKind, KeyError> {
        let first = self.first();
        if self.shares.len() < usize::from(first.count) {
            let (given_count, needed) = (self.shares.len(), first.count);
            return Err(KeyError::SharesMissing { given_count, needed, false_numbers: Vec::new() });
        }
        let mut digests = vec![[0; 16]; self.shares.len()];
        for share in &self.shares {
            digests[usize::from(share.number) - 1] = share.digest();
        }
        Ok(SlotKind::Shares { set_id: first.set_id, threshold: first.threshold, digests })
    }

    fn wrap(&self, slot: Slot, key: &Secret<32>, rng: &dyn Rng) -> Result<Slot, KeyError> {
        if !self.may_open(&slot) {
            return Err(KeyError::Kind { slot: slot.kind.name(), root: KIND_NAME });
        }
        let SlotKind::Shares { digests, .. } = &slot.kind else {
            return Err(KeyError::Kind { slot: slot.kind.name(), root: KIND_NAME });
        };
        // A share that is not the slot's would spoil the secret.
        let secret = self.secret(|share| is_of(share, digests))?;
        wrap_with(&secret, slot, key, rng)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let wrong = KeyError::WrongKey { root: KIND_NAME };
        let SlotKind::Shares { digests, .. } = &slot.kind else { return Err(wrong) };
        if !self.may_open(slot) {
            return Err(wrong);
        }
        unwrap_with(&self.secret(|share| is_of(share, digests))?, slot).ok_or(wrong)
    }
}

/// Whether a slot with these digests knows the share.
fn is_of(share: &Share, digests: &[[u8; 16]]) -> bool {
    digests.get(usize::from(share.number) - 1).is_some_and(|digest| *digest == share.digest())
}

#[cfg(test)]
mod tests;
