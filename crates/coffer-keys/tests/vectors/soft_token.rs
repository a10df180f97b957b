//! A token in software, with keys that everybody knows: what section 7 says of slots of kind 5, and nothing of the code that asks real tokens.

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use coffer_crypto::{Rng, Secret, hash};
use coffer_format::slot::{Slot, SlotKind, TokenKey};
use coffer_keys::{KeyError, RootKey};
use sha2::{Digest, Sha256};

use super::rfc5649;

const GCM: u64 = 0x1087;
const CBC_PAD: u64 = 0x1085;
const KWP: u64 = 0x210b;
const BLOCK_LEN: usize = 16;

/// The key of the cipher, for CBC the key of the MAC, and whether new slots are made by KWP.
pub(crate) struct SoftToken {
    pub(crate) cipher: [u8; 32],
    pub(crate) mac: Option<[u8; 32]>,
    pub(crate) wraps: bool,
}

impl SoftToken {
    /// What goes into the slot for any 64 bytes: parameters 6 and 7, and the ciphertext.
    pub(crate) fn seal(&self, slot: &mut Slot, plain: &[u8], iv: &[u8; BLOCK_LEN], pad: &[u8]) {
        let bound = hash::hash(&slot.context());
        let (iv, wrapped, mac) = match &self.mac {
            None if self.wraps => {
                (None, rfc5649::wrap(&self.cipher, rfc5649::head(plain.len()), plain), None)
            }
            None => {
                let cipher = Aes256Gcm::new(&self.cipher.into());
                let payload = Payload { msg: plain, aad: &bound };
                let nonce = Nonce::try_from(&iv[..12]).expect("12 bytes");
                (Some(&iv[..12]), cipher.encrypt(&nonce, payload).expect("it is short"), None)
            }
            Some(key) => {
                let cipher = Aes256::new(&self.cipher.into());
                let mut wrapped: Vec<u8> = Vec::new();
                for block in [plain, pad].concat().as_chunks::<BLOCK_LEN>().0 {
                    let before = wrapped.last_chunk().unwrap_or(iv);
                    let mixed: [u8; BLOCK_LEN] = std::array::from_fn(|at| block[at] ^ before[at]);
                    let mut block = mixed.into();
                    cipher.encrypt_block(&mut block);
                    wrapped.extend_from_slice(&block);
                }
                let mac = hmac_sha256(key, &[iv, wrapped.as_slice(), &bound].concat());
                (Some(iv.as_slice()), wrapped, Some(mac))
            }
        };
        let SlotKind::Token(key) = &mut slot.kind else { panic!("a token slot") };
        (key.iv, key.mac) = (iv.map(<[u8]>::to_vec), mac);
        slot.wrapped = wrapped;
    }

    /// The 64 bytes in the slot; nothing if any check fails.
    fn open(&self, slot: &Slot, key: &TokenKey) -> Option<Vec<u8>> {
        let bound = hash::hash(&slot.context());
        if key.mechanism == KWP {
            let is_sound = key.iv.is_none() && key.mac.is_none() && key.salt.is_some();
            if !is_sound || self.mac.is_some() || slot.wrapped.len() != 72 {
                return None;
            }
            let (head, plain) = rfc5649::unwrap(&self.cipher, &slot.wrapped);
            return (head == rfc5649::head(64)).then_some(plain);
        }
        let iv = key.iv.as_deref().filter(|_| key.salt.is_none())?;
        match (&self.mac, key.mechanism) {
            (None, GCM) if key.mac.is_none() => {
                let cipher = Aes256Gcm::new(&self.cipher.into());
                let payload = Payload { msg: &slot.wrapped, aad: &bound };
                cipher.decrypt(&Nonce::try_from(iv).ok()?, payload).ok()
            }
            (Some(mac_key), CBC_PAD) => {
                let mut before = <[u8; BLOCK_LEN]>::try_from(iv).ok()?;
                let mac = hmac_sha256(mac_key, &[iv, slot.wrapped.as_slice(), &bound].concat());
                let (blocks, []) = slot.wrapped.as_chunks::<BLOCK_LEN>() else { return None };
                if key.mac != Some(mac) {
                    return None;
                }
                let cipher = Aes256::new(&self.cipher.into());
                let mut plain = Vec::new();
                for block in blocks {
                    let mut opened = (*block).into();
                    cipher.decrypt_block(&mut opened);
                    plain.extend(opened.iter().zip(&before).map(|(opened, before)| opened ^ before));
                    before = *block;
                }
                // A whole block of padding, as 64 bytes are four blocks.
                plain.strip_suffix(&[16; BLOCK_LEN]).map(<[u8]>::to_vec)
            }
            _ => None,
        }
    }
}

impl RootKey for SoftToken {
    fn kind_name(&self) -> &'static str {
        "token in software"
    }

    fn may_open(&self, slot: &Slot) -> bool {
        matches!(slot.kind, SlotKind::Token(_))
    }

    fn new_kind(&self, _: &dyn Rng) -> Result<SlotKind, KeyError> {
        Ok(SlotKind::Token(TokenKey {
            token_label: "hsm".to_owned(),
            token_serial: "0123456789abcdef".to_owned(),
            label: "key".to_owned(),
            id: vec![1, 2],
            mechanism: match self.mac {
                Some(_) => CBC_PAD,
                None if self.wraps => KWP,
                None => GCM,
            },
            iv: None,
            mac: None,
            salt: None,
        }))
    }

    fn wrap(&self, mut slot: Slot, key: &Secret<32>, rng: &dyn Rng) -> Result<Slot, KeyError> {
        let mut iv = [0; BLOCK_LEN];
        rng.fill(&mut iv)?;
        if let SlotKind::Token(key) = &mut slot.kind {
            key.salt = (key.mechanism == KWP).then_some(iv);
        }
        let plain = [key.expose().as_slice(), &hash::hash(&slot.context())].concat();
        self.seal(&mut slot, &plain, &iv, &[16; BLOCK_LEN]);
        Ok(slot)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let wrong = || KeyError::WrongKey { root: self.kind_name() };
        let SlotKind::Token(key) = &slot.kind else { return Err(wrong()) };
        let plain = self.open(slot, key).ok_or_else(wrong)?;
        let (key, bound) = Secret::<64>::from_slice(&plain).map_err(|_| wrong())?.split();
        if bound == hash::hash(&slot.context()) { Ok(key) } else { Err(wrong()) }
    }
}

/// RFC 2104, for a key that is shorter than a block.
fn hmac_sha256(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}
