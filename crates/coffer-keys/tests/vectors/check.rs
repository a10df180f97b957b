//! What a reader does with a vector, from its fields alone.

use coffer_crypto::{Argon2Params, CryptoError, SecretBytes};
use coffer_format::id::{VaultId, hex, unhex};
use coffer_format::slot::{Slot, SlotPurpose};
use coffer_keys::{
    KeyError, KeyFile, Passphrase, RecoveryShares, RootKey, Share, WriterCredential, open_slot,
};
use serde_json::Value;

use super::soft_token::SoftToken;

/// How the vector ends. Where that is `ok`, the results have been compared with those it names.
pub(crate) fn outcome(vector: &Value) -> &'static str {
    match text(vector, "test") {
        "key slot" => key_slot(vector),
        "key file text" => key_file_text(vector),
        "share text" => share_text(vector),
        "writer text" => writer_text(vector),
        other => panic!("no such test: {other}"),
    }
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{}: {field}", vector["name"]))
}

pub(crate) fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    let digits = text(vector, field).as_bytes().chunks_exact(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits are ASCII");
            unhex::<1>(pair).expect("two digits make a byte")[0]
        })
        .collect()
}

fn root_key(vector: &Value) -> Option<Box<dyn RootKey>> {
    Some(if vector.get("passphrase").is_some() {
        let passphrase = SecretBytes::from(text(vector, "passphrase").to_owned());
        Box::new(Passphrase::new(passphrase, Argon2Params::FLOOR).expect("a passphrase"))
    } else if vector.get("share lines").is_some() {
        let shares =
            text(vector, "share lines").lines().map(|line| Share::parse(line.as_bytes()).expect("a share"));
        Box::new(RecoveryShares::collect(shares.collect()).ok()?)
    } else if vector.get("token cipher key").is_some() {
        let key = |field| unhex(text(vector, field)).expect("a key");
        let mac = vector.get("token mac key").map(|_| key("token mac key"));
        Box::new(SoftToken { cipher: key("token cipher key"), mac, wraps: false })
    } else {
        let line = text(vector, "key file line");
        Box::new(KeyFile::parse(line.as_bytes()).expect("a key file"))
    })
}

fn key_slot(vector: &Value) -> &'static str {
    let stored = bytes(vector, "slot");
    let vault = VaultId(unhex(text(vector, "vault id")).expect("a vault id"));
    let Ok(slot) = Slot::decode(&stored) else {
        return "malformed";
    };
    let Some(root) = root_key(vector) else { return "wrong key" };
    match open_slot(&slot, vault, &*root) {
        Ok(key) => {
            assert_eq!(hex(key.expose()), text(vector, "key"));
            assert_eq!(slot.encode(), stored);
            assert_eq!(Slot::id(&stored).to_string(), text(vector, "slot id"));
            assert_eq!(hex(&slot.context()), text(vector, "context"));
            assert_eq!(u64::from(slot.epoch), vector["epoch"]);
            let purpose = if slot.purpose == SlotPurpose::VaultKey { 1 } else { 2 };
            assert_eq!(purpose, vector["purpose"]);
            "ok"
        }
        Err(KeyError::WrongKey { .. } | KeyError::SharesMissing { .. }) => "wrong key",
        Err(KeyError::Crypto(CryptoError::Argon2Param { .. })) => "bad cost",
        Err(other) => panic!("{}: {other}", vector["name"]),
    }
}

fn share_text(vector: &Value) -> &'static str {
    match Share::parse(&bytes(vector, "text")) {
        Ok(share) => {
            assert_eq!(share.to_line().expose(), text(vector, "share line").as_bytes());
            assert_eq!(hex(&share.set_id()), text(vector, "set id"));
            let numbers = [share.threshold(), share.count(), share.number()].map(Value::from);
            assert_eq!(numbers, ["threshold", "count", "number"].map(|field| vector[field].clone()));
            "ok"
        }
        Err(KeyError::Share { .. }) => "malformed",
        Err(other) => panic!("{}: {other}", vector["name"]),
    }
}

fn writer_text(vector: &Value) -> &'static str {
    match WriterCredential::parse(&bytes(vector, "text")) {
        Ok(credential) => {
            let (signing, domain) = credential.keys();
            let keys = domain.parts();
            let line = String::from_utf8(credential.to_text().expose().to_vec()).expect("text");
            assert_eq!(line.lines().last().expect("a line"), text(vector, "writer line"));
            assert_eq!(credential.vault().to_string(), text(vector, "vault id"));
            assert_eq!(credential.name(), text(vector, "writer"));
            for (field, value) in [
                ("domain", domain.domain().as_slice()),
                ("verifying key", &credential.verifying_key()),
                ("seed", signing.expose_seed()),
                ("data id key", keys.data_id.expose()),
                ("meta id key", keys.meta_id.expose()),
                ("chunker key", keys.chunker.expose()),
                ("tree key", keys.tree.expose()),
                ("index key", keys.index.expose()),
                ("psk", keys.psk.expose()),
            ] {
                assert_eq!(hex(value), text(vector, field), "{field}");
            }
            "ok"
        }
        Err(KeyError::Writer { .. }) => "malformed",
        Err(other) => panic!("{}: {other}", vector["name"]),
    }
}

fn key_file_text(vector: &Value) -> &'static str {
    match KeyFile::parse(&bytes(vector, "text")) {
        Ok(key_file) => {
            assert_eq!(hex(&key_file.key_id()), text(vector, "key id"));
            let line = String::from_utf8(key_file.to_text().expose().to_vec()).expect("text");
            assert_eq!(line.lines().last().expect("a line"), text(vector, "key file line"));
            "ok"
        }
        Err(KeyError::KeyFileLen { .. }) => "too long",
        Err(KeyError::KeyFileEmpty) => "no key",
        Err(KeyError::KeyFileMalformed { .. }) => "malformed",
        Err(other) => panic!("{}: {other}", vector["name"]),
    }
}
