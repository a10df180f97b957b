//! Key slots (specification section 7).

use crate::cbor::{Decoder, Encoder, Unknown};
use crate::error::{FormatError, check_len};
use crate::id::{SlotId, VaultId};
use crate::limits::{SHARE_COUNT_MAX, SLOT_LEN_MAX, WRAPPED_LEN_MAX};

const OBJECT: &str = "key slot";
/// A text among the parameters of a slot has at most this length in bytes.
const PARAMETER_LEN_MAX: u64 = 1024;
/// The IV of a token's mechanism has at most this length in bytes.
const IV_LEN_MAX: u64 = 16;

/// What the wrapped key of a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotPurpose {
    /// The vault key.
    VaultKey,
    /// The reader secret.
    ReaderSecret,
}

/// Kind of a slot, with where and how its root key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotKind {
    /// A passphrase through Argon2id.
    Passphrase {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// Salt of the hash.
        salt: [u8; 16],
    },
    /// A key file.
    KeyFile {
        /// Tells key files apart without trying them.
        key_id: [u8; 8],
    },
    /// Recovery shares: the root key is put together from several parts.
    Shares {
        /// Tells sets of shares apart.
        set_id: [u8; 8],
        /// How many shares are needed.
        threshold: u8,
        /// By which each share is known, in the order of their numbers from 1.
        digests: Vec<[u8; 16]>,
    },
    /// A root key in a key service.
    Service(ServiceKey),
    /// A root key on a PKCS#11 token.
    Token(TokenKey),
}

/// Kind of a key service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyServiceKind {
    /// Key Protect.
    KeyProtect,
    /// Hyper Protect Crypto Services.
    Hpcs,
    /// A service of the owner's own with the same interface.
    Local,
}

impl KeyServiceKind {
    /// Number of the kind of slot.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::KeyProtect => 3,
            Self::Hpcs => 4,
            Self::Local => 7,
        }
    }

    const fn of_number(number: u64) -> Option<Self> {
        match number {
            3 => Some(Self::KeyProtect),
            4 => Some(Self::Hpcs),
            7 => Some(Self::Local),
            _ => None,
        }
    }
}

/// Where a root key in a key service is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// Which kind of service it is.
    pub service: KeyServiceKind,
    /// URL at which the service is asked, up to and without `/api`.
    pub endpoint: String,
    /// Id of the instance.
    pub instance: String,
    /// Id of the key in it.
    pub key: String,
    /// CRN of the key.
    pub crn: Option<String>,
    /// Version of the key when the slot was made. A label only: a rewrap does not change it.
    pub version: Option<String>,
    /// Region of the service.
    pub region: Option<String>,
    /// Ring the key is in.
    pub ring: Option<String>,
}

/// Where a root key on a PKCS#11 token is found, and how it wraps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// Label of the token when the slot was made. A hint: the key may have moved.
    pub token_label: String,
    /// Serial number of the token when the slot was made. A hint.
    pub token_serial: String,
    /// Label of the key; may be empty.
    pub label: String,
    /// Id of the key; may be empty.
    pub id: Vec<u8>,
    /// The mechanism, a `CKM_` value.
    pub mechanism: u64,
    /// The IV. Not part of the context.
    pub iv: Option<Vec<u8>>,
    /// The MAC, where the mechanism has none of its own. Not part of the context.
    pub mac: Option<[u8; 32]>,
    /// Random bytes, where the mechanism has no IV that makes each slot another one.
    pub salt: Option<[u8; 16]>,
}

impl SlotKind {
    /// Whether whoever has the secret opens the slot alone. Other kinds ask a service or a token that the slot names.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self.number(), 1 | 2 | 6)
    }

    /// Number of the kind.
    #[must_use]
    pub const fn number(&self) -> u64 {
        match self {
            Self::Passphrase { .. } => 1,
            Self::KeyFile { .. } => 2,
            Self::Shares { .. } => 6,
            Self::Service(key) => key.service.number(),
            Self::Token(_) => 5,
        }
    }

    /// Name of the kind, for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.number() {
            1 => "passphrase",
            2 => "key file",
            3 => "Key Protect",
            4 => "HPCS",
            5 => "PKCS#11 token",
            6 => "recovery shares",
            _ => "local key service",
        }
    }
}

/// One key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The vault it opens.
    pub vault: VaultId,
    /// Epoch of the key it holds.
    pub epoch: u32,
    /// What it holds.
    pub purpose: SlotPurpose,
    /// How it is wrapped.
    pub kind: SlotKind,
    /// Label, for people.
    pub label: String,
    /// When it was made, seconds since 1970 UTC.
    pub created_s: i64,
    /// Salt of the wrapping key; kinds 1, 2, 6.
    pub salt: Option<[u8; 32]>,
    /// Commitment to the wrapping key; kinds 1, 2, 6.
    pub commitment: Option<[u8; 32]>,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
    parameters_unknown: Unknown,
    unknown: Unknown,
}

impl Slot {
    /// A slot whose commitment and wrapped key are still to be filled in.
    #[must_use]
    pub fn unwrapped(
        vault: VaultId,
        epoch: u32,
        purpose: SlotPurpose,
        kind: SlotKind,
        label: String,
        created_s: i64,
    ) -> Self {
        let (salt, commitment, wrapped) = (None, None, Vec::new());
        Self {
            vault,
            epoch,
            purpose,
            kind,
            label,
            created_s,
            salt,
            commitment,
            wrapped,
            parameters_unknown: Unknown::default(),
            unknown: Unknown::default(),
        }
    }

    /// The bytes of the object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(true)
    }

    /// The context `C`: the slot without commitment and wrapped key, and without the IV and MAC of a token.
    #[must_use]
    pub fn context(&self) -> Vec<u8> {
        self.encode_with(false)
    }

    fn encode_with(&self, wrapped: bool) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.map(|map| {
            self.unknown.write_low(map);
            map.key(1).bytes(&self.vault.0);
            map.key(2).uint(u64::from(self.epoch));
            map.key(3).uint(match self.purpose {
                SlotPurpose::VaultKey => 1,
                SlotPurpose::ReaderSecret => 2,
            });
            map.key(4).uint(self.kind.number());
            map.key(5).text(&self.label);
            map.key(6).int(self.created_s);
            let value = map.key(7);
            match &self.kind {
                SlotKind::Passphrase { memory_kib, passes, lanes, salt } => value.map(|map| {
                    self.parameters_unknown.write_low(map);
                    map.key(1).uint(u64::from(*memory_kib));
                    map.key(2).uint(u64::from(*passes));
                    map.key(3).uint(u64::from(*lanes));
                    map.key(4).bytes(salt);
                    self.parameters_unknown.write(map);
                }),
                SlotKind::KeyFile { key_id } => value.map(|map| {
                    self.parameters_unknown.write_low(map);
                    map.key(1).bytes(key_id);
                    self.parameters_unknown.write(map);
                }),
                SlotKind::Shares { set_id, threshold, digests } => value.map(|map| {
                    self.parameters_unknown.write_low(map);
                    map.key(1).bytes(set_id);
                    map.key(2).uint(u64::from(*threshold));
                    map.key(3).uint(digests.len() as u64);
                    map.key(4).bytes(digests.as_flattened());
                    self.parameters_unknown.write(map);
                }),
                SlotKind::Service(key) => value.map(|map| {
                    self.parameters_unknown.write_low(map);
                    map.key(1).text(&key.endpoint);
                    map.key(2).text(&key.instance);
                    map.key(3).text(&key.key);
                    let optional = [&key.crn, &key.version, &key.region, &key.ring];
                    for (number, value) in (4..).zip(optional) {
                        if let Some(value) = value {
                            map.key(number).text(value);
                        }
                    }
                    self.parameters_unknown.write(map);
                }),
                SlotKind::Token(key) => value.map(|map| {
                    self.parameters_unknown.write_low(map);
                    map.key(1).text(&key.token_label);
                    map.key(2).text(&key.token_serial);
                    map.key(3).text(&key.label);
                    map.key(4).bytes(&key.id);
                    map.key(5).uint(key.mechanism);
                    if wrapped {
                        if let Some(iv) = &key.iv {
                            map.key(6).bytes(iv);
                        }
                        if let Some(mac) = &key.mac {
                            map.key(7).bytes(mac);
                        }
                    }
                    if let Some(salt) = &key.salt {
                        map.key(8).bytes(salt);
                    }
                    self.parameters_unknown.write(map);
                }),
            }
            if let Some(salt) = &self.salt {
                map.key(8).bytes(salt);
            }
            if wrapped {
                if let Some(commitment) = &self.commitment {
                    map.key(9).bytes(commitment);
                }
                map.key(10).bytes(&self.wrapped);
            }
            self.unknown.write(map);
        });
        encoder.finish()
    }

    /// Reads the bytes of a slot object.
    ///
    /// # Errors
    /// What is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        check_len(OBJECT, bytes.len() as u64, SLOT_LEN_MAX)?;
        let mut d = Decoder::new(OBJECT, bytes);
        let (mut vault, mut epoch, mut purpose, mut number, mut label) = (None, None, None, None, None);
        let (mut created_s, mut parameters, mut salt, mut commitment, mut wrapped) =
            (None, None, None, None, None);
        let mut unknown = Unknown::default();
        let mut map = d.map()?;
        while let Some(key) = map.next_key(&mut d)? {
            match key {
                1 => vault = Some(VaultId(d.fixed()?)),
                2 => epoch = Some(d.uint32()?),
                3 => {
                    purpose = Some(match d.uint()? {
                        1 => SlotPurpose::VaultKey,
                        2 => SlotPurpose::ReaderSecret,
                        _ => return Err(d.fail("the purpose is not known")),
                    });
                }
                4 => number = Some(d.uint()?),
                5 => label = Some(d.text(256)?.to_owned()),
                6 => created_s = Some(d.int()?),
                7 => {
                    let mut probe = d.clone();
                    probe.map()?;
                    parameters = Some(d.raw_within(1)?);
                }
                8 => salt = Some(d.fixed()?),
                9 => commitment = Some(d.fixed()?),
                10 => wrapped = Some(d.bytes(WRAPPED_LEN_MAX)?.to_vec()),
                _ => unknown.keep(key, &mut d, 1)?,
            }
        }
        d.finish()?;
        let absent = || FormatError::rule(OBJECT, "a key is absent");
        let mut parameters_unknown = Unknown::default();
        let kind =
            decode_kind(number.ok_or_else(absent)?, parameters.ok_or_else(absent)?, &mut parameters_unknown)?;
        let local = kind.is_local();
        if local != salt.is_some() || local != commitment.is_some() {
            return Err(FormatError::rule(OBJECT, "salt and commitment belong to kinds 1, 2 and 6 alone"));
        }
        Ok(Self {
            vault: vault.ok_or_else(absent)?,
            epoch: epoch.ok_or_else(absent)?,
            purpose: purpose.ok_or_else(absent)?,
            kind,
            label: label.ok_or_else(absent)?,
            created_s: created_s.ok_or_else(absent)?,
            salt,
            commitment,
            wrapped: wrapped.ok_or_else(absent)?,
            parameters_unknown,
            unknown,
        })
    }

    /// The name of slot bytes.
    #[must_use]
    pub fn id(bytes: &[u8]) -> SlotId {
        SlotId(*blake3::hash(bytes).as_bytes())
    }
}

fn decode_kind(number: u64, parameters: &[u8], unknown: &mut Unknown) -> Result<SlotKind, FormatError> {
    let mut d = Decoder::new("key slot parameters", parameters);
    let absent = || FormatError::rule("key slot parameters", "a key is absent");
    let mut map = d.map()?;
    match number {
        1 => {
            let (mut memory_kib, mut passes, mut lanes, mut salt) = (None, None, None, None);
            while let Some(key) = map.next_key(&mut d)? {
                match key {
                    1 => memory_kib = Some(d.uint32()?),
                    2 => passes = Some(d.uint32()?),
                    3 => lanes = Some(d.uint32()?),
                    4 => salt = Some(d.fixed()?),
                    _ => unknown.keep(key, &mut d, 2)?,
                }
            }
            Ok(SlotKind::Passphrase {
                memory_kib: memory_kib.ok_or_else(absent)?,
                passes: passes.ok_or_else(absent)?,
                lanes: lanes.ok_or_else(absent)?,
                salt: salt.ok_or_else(absent)?,
            })
        }
        2 => {
            let mut key_id = None;
            while let Some(key) = map.next_key(&mut d)? {
                match key {
                    1 => key_id = Some(d.fixed()?),
                    _ => unknown.keep(key, &mut d, 2)?,
                }
            }
            Ok(SlotKind::KeyFile { key_id: key_id.ok_or_else(absent)? })
        }
        6 => {
            let (mut set_id, mut threshold, mut count, mut digests) = (None, None, None, None);
            while let Some(key) = map.next_key(&mut d)? {
                match key {
                    1 => set_id = Some(d.fixed()?),
                    2 => threshold = Some(d.uint()?),
                    3 => count = Some(d.uint()?),
                    4 => digests = Some(d.bytes(SHARE_COUNT_MAX * 16)?.to_vec()),
                    _ => unknown.keep(key, &mut d, 2)?,
                }
            }
            let (count, digests) = (count.ok_or_else(absent)?, digests.ok_or_else(absent)?);
            let (digests, rest) = digests.as_chunks::<16>();
            if !rest.is_empty() || digests.len() as u64 != count {
                return Err(FormatError::rule(OBJECT, "its digests are not as many as its shares"));
            }
            let threshold = threshold.ok_or_else(absent)?;
            let threshold =
                u8::try_from(threshold).ok().filter(|least| (2..=count).contains(&u64::from(*least)));
            let threshold = threshold
                .ok_or_else(|| FormatError::rule(OBJECT, "its threshold does not fit its shares"))?;
            Ok(SlotKind::Shares { set_id: set_id.ok_or_else(absent)?, threshold, digests: digests.to_vec() })
        }
        3 | 4 | 7 => {
            let mut texts: [Option<String>; 7] = Default::default();
            while let Some(key) = map.next_key(&mut d)? {
                match usize::try_from(key) {
                    Ok(at @ 1..=7) => texts[at - 1] = Some(d.text(PARAMETER_LEN_MAX)?.to_owned()),
                    _ => unknown.keep(key, &mut d, 2)?,
                }
            }
            let [endpoint, instance, key, crn, version, region, ring] = texts;
            if [&crn, &version, &region, &ring].into_iter().flatten().any(String::is_empty) {
                return Err(d.fail("an empty value is written by leaving it out"));
            }
            Ok(SlotKind::Service(ServiceKey {
                service: KeyServiceKind::of_number(number).ok_or_else(absent)?,
                endpoint: endpoint.ok_or_else(absent)?,
                instance: instance.ok_or_else(absent)?,
                key: key.ok_or_else(absent)?,
                crn,
                version,
                region,
                ring,
            }))
        }
        5 => {
            let mut texts: [Option<String>; 3] = Default::default();
            let (mut id, mut mechanism, mut iv, mut mac, mut salt) = (None, None, None, None, None);
            while let Some(key) = map.next_key(&mut d)? {
                match key {
                    1 => texts[0] = Some(d.text(PARAMETER_LEN_MAX)?.to_owned()),
                    2 => texts[1] = Some(d.text(PARAMETER_LEN_MAX)?.to_owned()),
                    3 => texts[2] = Some(d.text(PARAMETER_LEN_MAX)?.to_owned()),
                    4 => id = Some(d.bytes(PARAMETER_LEN_MAX)?.to_vec()),
                    5 => mechanism = Some(d.uint()?),
                    6 => iv = Some(d.bytes(IV_LEN_MAX)?.to_vec()),
                    7 => mac = Some(d.fixed()?),
                    8 => salt = Some(d.fixed()?),
                    _ => unknown.keep(key, &mut d, 2)?,
                }
            }
            if iv.as_ref().is_some_and(Vec::is_empty) {
                return Err(FormatError::rule(OBJECT, "its IV is empty"));
            }
            let [token_label, token_serial, label] = texts;
            Ok(SlotKind::Token(TokenKey {
                token_label: token_label.ok_or_else(absent)?,
                token_serial: token_serial.ok_or_else(absent)?,
                label: label.ok_or_else(absent)?,
                id: id.ok_or_else(absent)?,
                mechanism: mechanism.ok_or_else(absent)?,
                iv,
                mac,
                salt,
            }))
        }
        _ => Err(FormatError::rule(OBJECT, "the kind is not known")),
    }
}

#[cfg(test)]
mod tests;
