//! The bytes of section 7, kind 5, taken apart without the token that made them.

use aes::cipher::{BlockCipherDecrypt, KeyInit as _};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, Payload};
use coffer_crypto::hash;
use coffer_format::id::hex;
use coffer_format::slot::Slot;
use coffer_keys::RootKey;
use coffer_keys::pkcs11::{Pkcs11Key, TokenMechanism, TokenSettings};
use coffer_testkit::softhsm::SoftHsm;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::Session;
use sha2::{Digest, Sha256};

use super::token::{PIN, make, session, settings, token_key};

pub(crate) const CIPHER_KEY: [u8; 32] = [0x41; 32];
const MAC_KEY: [u8; 32] = [0x42; 32];

/// Puts a known pair of keys on a token.
pub(crate) fn put_keys(session: &Session, label: &str) {
    for (key_type, value) in [(KeyType::AES, CIPHER_KEY), (KeyType::GENERIC_SECRET, MAC_KEY)] {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(key_type),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(vec![1, 2]),
            Attribute::Value(value.to_vec()),
        ];
        template.extend(if key_type == KeyType::AES {
            vec![
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Wrap(true),
                Attribute::Unwrap(true),
            ]
        } else {
            vec![Attribute::Sign(true), Attribute::Verify(true)]
        });
        session.create_object(&template).unwrap();
    }
}

/// The slot's map without what `C` leaves out, put together from its bytes and not by the codec.
fn context(slot: &Slot, iv_and_mac: &[u8], kept: u8) -> Vec<u8> {
    let mut bytes = slot.encode();
    let mut cut = |part: &[u8], instead: &[u8]| {
        let at = bytes.windows(part.len()).position(|window| window == part).expect("it is there");
        bytes.splice(at..at + part.len(), instead.iter().copied());
    };
    cut(iv_and_mac, &[]);
    cut(&[&[0x0a, 0x58, 80], slot.wrapped.as_slice()].concat(), &[]);
    cut(&[0x07, 0xa0 + kept, 1], &[0x07, 0xa5, 1]);
    bytes[0] -= 1;
    bytes
}

fn slot_by(mechanism: TokenMechanism, tokens: &SoftHsm) -> Slot {
    tokens.make_token("hsm", PIN);
    put_keys(&session(tokens.module(), "hsm", true), "key");
    let mechanism = Some(mechanism);
    make(&Pkcs11Key::new(TokenSettings { mechanism, ..settings(tokens.module(), "hsm", "key") })).unwrap()
}

#[test]
fn gcm_is_as_the_format_says() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token_bytes::gcm_is_as_the_format_says", |tokens| {
        let slot = slot_by(TokenMechanism::AesGcm, tokens);
        let iv: [u8; 12] = token_key(&slot).iv.clone().unwrap().try_into().unwrap();
        let bound = hash::hash(&context(&slot, &[&[6, 0x4c], iv.as_slice()].concat(), 6));
        let cipher = Aes256Gcm::new(&CIPHER_KEY.into());
        let plain = cipher.decrypt(&iv.into(), Payload { msg: &slot.wrapped, aad: &bound }).unwrap();
        assert_eq!(plain, [[5; 32], bound].concat());
    });
}

#[test]
fn cbc_with_a_mac_is_as_the_format_says() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token_bytes::cbc_with_a_mac_is_as_the_format_says", |tokens| {
        let slot = slot_by(TokenMechanism::AesCbcHmac, tokens);
        let key = token_key(&slot);
        let (iv, mac) = (key.iv.clone().unwrap(), key.mac.unwrap());
        let left_out = [&[6, 0x50], iv.as_slice(), &[7, 0x58, 32], &mac].concat();
        let bound = hash::hash(&context(&slot, &left_out, 7));
        assert_eq!(hmac_sha256(&MAC_KEY, &[&iv, slot.wrapped.as_slice(), &bound].concat()), mac);

        let cipher = aes::Aes256::new(&CIPHER_KEY.into());
        let mut plain = Vec::new();
        let mut before = iv;
        for block in slot.wrapped.chunks_exact(16) {
            let mut opened = aes::Block::try_from(block).unwrap();
            cipher.decrypt_block(&mut opened);
            plain.extend(opened.iter().zip(&before).map(|(opened, before)| opened ^ before));
            before = block.to_vec();
        }
        assert_eq!(plain, [[5; 32].as_slice(), &bound, &[16; 16]].concat());
    });
}

/// The vectors were made without a token. A token with the same keys opens those that are good, and no other.
#[test]
fn stored_slots_open_by_a_token() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token_bytes::stored_slots_open_by_a_token", |tokens| {
        tokens.make_token("hsm", PIN);
        put_keys(&session(tokens.module(), "hsm", true), "key");
        let root = Pkcs11Key::new(settings(tokens.module(), "hsm", "key"));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/slots.json");
        let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (mut good, mut refused) = (0, 0);
        for vector in file["vectors"].as_array().unwrap() {
            let field = |name: &str| vector.get(name).and_then(|value| value.as_str());
            let keys = (field("token cipher key"), field("token mac key"));
            let ours = (Some(hex(&CIPHER_KEY)), hex(&MAC_KEY));
            if keys.0.map(str::to_owned) != ours.0 || keys.1.is_some_and(|key| key != ours.1) {
                continue;
            }
            let digits = field("slot").unwrap().as_bytes().chunks_exact(2);
            let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let slot = Slot::decode(&digits.map(byte).collect::<Vec<u8>>()).unwrap();
            let opened = root.unwrap(&slot);
            if field("expect") == Some("ok") {
                assert_eq!(hex(opened.unwrap().expose()), field("key").unwrap(), "{}", vector["name"]);
                good += 1;
            } else {
                assert!(opened.is_err(), "{}", vector["name"]);
                refused += 1;
            }
        }
        assert!(good == 3 && refused > 40, "{good} good, {refused} refused");
    });
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
