//! The vault header (specification section 6).

use crate::cbor::{Decoder, Encoder};
use crate::error::{FormatError, check_len};
use crate::id::VaultId;
use crate::limits::{CHUNK_LEN_MAX, HEADER_LEN_MAX};

/// Major version of the format that this crate reads and writes.
pub const FORMAT_MAJOR: u64 = 1;
/// Highest minor version of the format that this crate knows.
pub const FORMAT_MINOR: u64 = 0;
/// The suite of algorithms of the specification.
pub const SUITE: u64 = 1;

const OBJECT: &str = "vault header";
const MAGIC: [u8; 16] = *b"coffer vault\n\0\0\x01";

/// How streams are cut into chunks. Lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkerSpec {
    /// Public cells, private cuts.
    Pcc {
        /// Shortest chunk.
        min: u32,
        /// A cut has probability 2^−bits at each byte past `min`.
        bits: u32,
        /// Longest chunk.
        max: u32,
    },
    /// Chunks of one length.
    Fixed {
        /// The length.
        len: u32,
    },
}

impl ChunkerSpec {
    /// The default chunker.
    pub const DEFAULT: Self = Self::Pcc { min: 524_288, bits: 20, max: 8_388_608 };

    /// The length of the longest chunk.
    #[must_use]
    pub const fn len_max(&self) -> u32 {
        match *self {
            Self::Pcc { max, .. } => max,
            Self::Fixed { len } => len,
        }
    }

    /// Checks the limits of specification section 13.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] naming the limit.
    pub fn check(&self) -> Result<(), FormatError> {
        let rule = match *self {
            Self::Pcc { min, bits, max } => {
                if min < 64 {
                    "the shortest chunk is below 64 bytes"
                } else if u64::from(max) < u64::from(min) + 256 {
                    "the longest chunk is not 256 bytes above the shortest"
                } else if u64::from(max) > CHUNK_LEN_MAX {
                    "the longest chunk is over the limit"
                } else if !(6..=30).contains(&bits) {
                    "the chunker's bits are not within 6 to 30"
                } else {
                    return Ok(());
                }
            }
            Self::Fixed { len } if (64..=CHUNK_LEN_MAX).contains(&u64::from(len)) => return Ok(()),
            Self::Fixed { .. } => "the chunk length is not within 64 bytes and the limit",
        };
        Err(FormatError::rule(OBJECT, rule))
    }
}

/// How commits are made exclusive on the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// The store creates an object only if it is absent.
    ConditionalCreate,
    /// The store keeps versions and the oldest counts.
    OldestVersion,
    /// One writer only.
    SingleWriter,
}

/// The immutable header of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Minor version in force at the start.
    pub minor: u64,
    /// The chunker.
    pub chunker: ChunkerSpec,
    /// How commits are made exclusive.
    pub store_mode: StoreMode,
    /// Sealing public key of epoch 0.
    pub sealing_key: Box<[u8; 1216]>,
    /// Verifying key of the owner of epoch 0.
    pub owner_key: [u8; 32],
    /// Makes every vault id different.
    pub random: [u8; 32],
}

impl Header {
    /// The bytes of the object `vault`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::append_to(MAGIC.to_vec());
        encoder.map(|map| {
            map.key(1).uint(FORMAT_MAJOR);
            map.key(2).uint(self.minor);
            map.key(3).uint(SUITE);
            let chunker = match self.chunker {
                ChunkerSpec::Pcc { min, bits, max } => [1, min, bits, max],
                ChunkerSpec::Fixed { len } => [2, len, 0, len],
            };
            let value = map.key(4);
            value.array(4);
            chunker.iter().for_each(|number| value.uint(u64::from(*number)));
            map.key(5).uint(match self.store_mode {
                StoreMode::ConditionalCreate => 1,
                StoreMode::OldestVersion => 2,
                StoreMode::SingleWriter => 3,
            });
            map.key(6).bytes(&self.sealing_key[..]);
            map.key(7).bytes(&self.owner_key);
            map.key(8).bytes(&self.random);
        });
        encoder.finish()
    }

    /// Reads the bytes of the object `vault`.
    ///
    /// # Errors
    /// [`FormatError::Version`] for another major version, else what is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_len(OBJECT, bytes.len() as u64, HEADER_LEN_MAX)?;
        let Some(body) = bytes.strip_prefix(&MAGIC) else {
            return Err(match bytes.strip_prefix(&MAGIC[..15]) {
                Some([major, ..]) => {
                    FormatError::Version { major: u64::from(*major), minor: 0, known_minor: FORMAT_MINOR }
                }
                _ => FormatError::rule(OBJECT, "it does not begin as a vault header does"),
            });
        };
        let mut d = Decoder::new(OBJECT, body);
        let (mut major, mut minor, mut suite, mut chunker, mut mode) = (None, None, None, None, None);
        let (mut sealing_key, mut owner_key, mut random) = (None, None, None);
        let mut map = d.map()?;
        while let Some(key) = map.next_key(&mut d)? {
            match key {
                1 => major = Some(d.uint()?),
                2 => minor = Some(d.uint()?),
                3 => suite = Some(d.uint()?),
                4 => chunker = Some(decode_chunker(&mut d)?),
                5 => {
                    mode = Some(match d.uint()? {
                        1 => StoreMode::ConditionalCreate,
                        2 => StoreMode::OldestVersion,
                        3 => StoreMode::SingleWriter,
                        _ => return Err(d.fail("the store mode is not known")),
                    });
                }
                6 => sealing_key = Some(Box::new(d.fixed::<1216>()?)),
                7 => owner_key = Some(d.fixed()?),
                8 => random = Some(d.fixed()?),
                _ => drop(d.raw_within(1)?),
            }
        }
        d.finish()?;
        let absent = || FormatError::rule(OBJECT, "a key is absent");
        let (major, minor) = (major.ok_or_else(absent)?, minor.ok_or_else(absent)?);
        if major != FORMAT_MAJOR || minor > FORMAT_MINOR {
            return Err(FormatError::Version { major, minor, known_minor: FORMAT_MINOR });
        }
        if suite.ok_or_else(absent)? != SUITE {
            return Err(FormatError::rule(OBJECT, "the suite is not known"));
        }
        Ok(Self {
            minor,
            chunker: chunker.ok_or_else(absent)?,
            store_mode: mode.ok_or_else(absent)?,
            sealing_key: sealing_key.ok_or_else(absent)?,
            owner_key: owner_key.ok_or_else(absent)?,
            random: random.ok_or_else(absent)?,
        })
    }

    /// The vault id of header bytes.
    #[must_use]
    pub fn vault_id(bytes: &[u8]) -> VaultId {
        VaultId(*blake3::hash(bytes).as_bytes())
    }
}

fn decode_chunker(d: &mut Decoder<'_>) -> Result<ChunkerSpec, FormatError> {
    if d.array(4)? != 4 {
        return Err(d.fail("the chunker has four numbers"));
    }
    let [id, min, bits, max] = [d.uint32()?, d.uint32()?, d.uint32()?, d.uint32()?];
    let chunker = match id {
        1 => ChunkerSpec::Pcc { min, bits, max },
        2 if min == max && bits == 0 => ChunkerSpec::Fixed { len: max },
        _ => return Err(d.fail("the chunker is not known")),
    };
    chunker.check()?;
    Ok(chunker)
}

#[cfg(test)]
mod tests;
