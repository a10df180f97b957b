//! 32-byte names and identifiers, and their text form.

use std::fmt;
use std::str::FromStr;

use crate::error::FormatError;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The first eight hexadecimal digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                unhex(text).map(Self).ok_or_else(|| FormatError::Text { text: shorten(text), expected: $expected })
            }
        }
    };
}

id_type!(/** `H` of the header: the fingerprint of a vault. */ VaultId, "a vault id (64 lower-case hexadecimal digits)");
id_type!(/** Name of a key slot: `H` of its bytes. */ SlotId, "a slot id (64 lower-case hexadecimal digits)");
id_type!(/** Name of a pack: `H` of its bytes. */ PackId, "a pack id (64 lower-case hexadecimal digits)");
id_type!(/** Name of an index segment: `H` of its bytes. */ SegmentId, "an index segment id (64 lower-case hexadecimal digits)");
id_type!(/** Keyed hash of a chunk's plaintext. */ ChunkId, "a chunk id (64 lower-case hexadecimal digits)");
id_type!(/** Chain value of a snapshot's record. */ SnapshotId, "a snapshot id (64 lower-case hexadecimal digits)");

/// Name of a dedup domain: the epoch of its keys as `u32`, then 12 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(pub [u8; 16]);

impl DomainId {
    /// The owner's own domain of an epoch.
    #[must_use]
    pub fn owner(epoch: u32) -> Self {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&epoch.to_le_bytes());
        Self(id)
    }

    /// The epoch whose domain root gives the domain's keys.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainId({})", hex(&self.0))
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A place in the log: a record's number and chain value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the record.
    pub number: u64,
    /// Its chain value.
    pub chain: [u8; 32],
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, hex(&self.chain))
    }
}

impl FromStr for Head {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let parse = || {
            let (number, chain) = text.split_once(':')?;
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            Some(Self { number: number.parse().ok().filter(|_| digits)?, chain: unhex(chain)? })
        };
        parse().ok_or_else(|| FormatError::Text {
            text: shorten(text),
            expected: "a head (NUMBER:64 hexadecimal digits)",
        })
    }
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// The bytes of exactly `2 * N` lower-case hexadecimal digits.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
