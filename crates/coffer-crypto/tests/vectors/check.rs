//! What a reader does with a vector, from its fields alone.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use coffer_crypto::kdf::{kdf, kdf64};
use coffer_crypto::{
    Argon2Params, ObjectKind, PortableSealKey, Purpose, ReaderSecret, SealContext, SealKey, SealedAs,
    SealingKeyPair, SealingPublicKey, Secret, VaultKey, VerifyingKey, commitment_matches, open_from_vault,
    passphrase, wrap,
};
use serde_json::Value;

use super::hex;

/// How the vector ends. Where that is `ok`, the results have been compared with those it names.
pub(crate) fn outcome(vector: &Value) -> &'static str {
    let vector = Vector(vector);
    match vector.text("test") {
        "vault key" => vault_key(&vector),
        "domain" => domain(&vector),
        "seal" => seal(&vector),
        "decapsulation" => decapsulation(&vector),
        "slot keys" => slot_keys(&vector),
        "index segment key" => index_segment_key(&vector),
        "wrapped key" => wrapped_key(&vector),
        "argon2id" => argon2id(&vector),
        "key file" => key_file(&vector),
        "record signature" => record_signature(&vector),
        "sealing public key" => sealing_public_key(&vector),
        other => panic!("no such test: {other}"),
    }
}

struct Vector<'a>(&'a Value);

impl Vector<'_> {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_else(|| panic!("{}: {field}", self.0["name"]))
    }

    fn number(&self, field: &str) -> u32 {
        let number = self.0[field].as_u64().and_then(|number| u32::try_from(number).ok());
        number.unwrap_or_else(|| panic!("{}: {field}", self.0["name"]))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.text(field))
    }

    fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap_or_else(|_| panic!("{}: length of {field}", self.0["name"]))
    }

    fn secret(&self, field: &str) -> Secret<32> {
        Secret::new(self.array(field))
    }
}

fn vault_key(vector: &Vector<'_>) -> &'static str {
    let secret = vector.secret("vault key");
    let vault_key = VaultKey::from_secret(vector.secret("vault key"));
    let reader = vault_key.reader();
    assert_eq!(kdf(&secret, "owner signing key", b""), vector.secret("owner seed"));
    assert_eq!(vault_key.signing().verifying_key().as_bytes(), &vector.array("owner verifying key"));
    assert_eq!(reader.expose(), &vector.array("reader secret"));
    assert_eq!(kdf(&vector.secret("reader secret"), "sealing key", b""), vector.secret("sealing seed"));
    assert_eq!(reader.sealing().public().to_bytes(), vector.array("sealing public key"));
    assert_eq!(kdf(&vector.secret("reader secret"), "dedup domains", b""), vector.secret("domain root"));
    assert_eq!(vault_key.previous_vault_key_kek(), vector.secret("key over the previous vault key"));
    assert_eq!(reader.previous_reader_secret_kek(), vector.secret("key over the previous reader secret"));
    "ok"
}

fn domain(vector: &Vector<'_>) -> &'static str {
    let reader = ReaderSecret::from_secret(vector.secret("reader secret"));
    let keys = reader.domain_keys(&vector.array("domain"));
    assert_eq!(keys.parts().data_id, vector.secret("data id key"));
    assert_eq!(keys.parts().meta_id, vector.secret("meta id key"));
    assert_eq!(keys.chunker_key().expose(), &vector.array("chunker key"));
    assert_eq!(keys.parts().tree, vector.secret("tree key"));
    assert_eq!(keys.index_key(), &vector.secret("index key"));
    assert_eq!(keys.psk(), &vector.secret("psk"));
    let chunk = vector.bytes("chunk");
    assert_eq!(keys.data_id(&chunk), vector.array("data chunk id"));
    assert_eq!(keys.meta_id(&chunk), vector.array("meta chunk id"));
    let path = vector.bytes("path");
    assert_eq!(keys.tree_hash(0, &path), vector.number("leaf number"));
    assert_eq!(keys.tree_hash(1, &path), vector.number("node number at height 1"));
    "ok"
}

fn seal(vector: &Vector<'_>) -> &'static str {
    let kind = match vector.number("object kind") {
        1 => ObjectKind::Pack,
        2 => ObjectKind::IndexSegment,
        3 => ObjectKind::LogRecord,
        4 => ObjectKind::KeySlot,
        5 => ObjectKind::EpochRecord,
        other => panic!("object kind {other}"),
    };
    let purpose = match vector.number("purpose") {
        1 => Purpose::Frame,
        2 => Purpose::PackDirectory,
        3 => Purpose::PackFooter,
        4 => Purpose::FrameTablePage,
        5 => Purpose::ChunkTablePage,
        6 => Purpose::RecordBody,
        8 => Purpose::PreviousVaultKey,
        9 => Purpose::PreviousReaderSecret,
        other => panic!("purpose {other}"),
    };
    let mut context = SealContext::new(vector.array("vault id"), kind, vector.array("salt"));
    if !vector.text("extra").is_empty() {
        context = context.with_extra::<40>(&vector.array("extra"));
    }
    let (key, ordinal, sealed) = (vector.secret("key"), vector.number("ordinal"), vector.bytes("sealed"));

    // By the library with the nonce and the additional data that the vector states.
    let raw = Aes256Gcm::new(key.expose().into())
        .decrypt(&vector.array::<12>("nonce").into(), Payload { msg: &sealed, aad: &vector.bytes("aad") });
    let mut out = Vec::new();
    let opened = SealKey::new(&key, context).open_to(purpose, ordinal, &sealed, &mut out).is_ok();
    assert_eq!(raw.is_ok(), opened);
    let mut portable_out = Vec::new();
    let portable = PortableSealKey::new(&key, context);
    assert_eq!(portable.open_to(purpose, ordinal, &sealed, &mut portable_out).is_ok(), opened);
    if !opened {
        return "bad tag";
    }
    assert_eq!(out, vector.bytes("plaintext"));
    assert_eq!(portable_out, out);
    assert_eq!(raw.expect("it opened"), out);
    SealKey::new(&key, context).seal_in_place(purpose, ordinal, &mut out, 0).expect("it is short");
    assert_eq!(out, sealed);
    "ok"
}

fn decapsulation(vector: &Vector<'_>) -> &'static str {
    let sealed_as = match vector.text("sealed as") {
        "pack" => SealedAs::Pack,
        "record" => SealedAs::Record,
        other => panic!("sealed as {other}"),
    };
    let (key, commitment) = open_from_vault(
        &SealingKeyPair::from_seed(&vector.secret("sealing seed")),
        &vector.array("psk"),
        &vector.array("domain"),
        sealed_as,
        &vector.array("vault id"),
        &vector.array("salt"),
        &vector.array("enc"),
    )
    .expect("decapsulation does not tell");
    if !commitment_matches(&commitment, &vector.array("commitment")) {
        return "commitment mismatch";
    }
    assert_eq!(key, vector.secret("key"));
    "ok"
}

fn slot_keys(vector: &Vector<'_>) -> &'static str {
    let (kek, commitment) =
        wrap::slot_keys(&vector.secret("secret"), &vector.array("salt"), &vector.array("vault id"));
    if !commitment_matches(&commitment, &vector.array("commitment")) {
        return "commitment mismatch";
    }
    assert_eq!(kek, vector.secret("kek"));
    "ok"
}

fn index_segment_key(vector: &Vector<'_>) -> &'static str {
    let context = [vector.bytes("vault id"), vector.bytes("salt")].concat();
    let (key, commitment) = kdf64(&vector.secret("index key"), "index segment", &context);
    if !commitment_matches(&commitment, &vector.array("commitment")) {
        return "commitment mismatch";
    }
    assert_eq!(key, vector.secret("key"));
    "ok"
}

fn wrapped_key(vector: &Vector<'_>) -> &'static str {
    let (kek, context) = (vector.secret("kek"), vector.bytes("context"));
    let Ok(plain) = wrap::unwrap(&kek, &context, &vector.bytes("wrapped key")) else {
        return "bad tag";
    };
    assert_eq!(plain.expose(), &vector.array("plaintext"));
    assert_eq!(wrap::wrap(&kek, &context, plain.expose()), vector.bytes("wrapped key"));
    "ok"
}

fn argon2id(vector: &Vector<'_>) -> &'static str {
    let params = Argon2Params {
        memory_kib: vector.number("memory in KiB"),
        passes: vector.number("passes"),
        lanes: vector.number("lanes"),
    };
    if params.check().is_err() {
        return "bad parameters";
    }
    let secret = passphrase::derive(vector.text("passphrase").as_bytes(), &vector.array("salt"), params);
    assert_eq!(secret.expect("64 MiB are to be had"), vector.secret("secret"));
    "ok"
}

fn key_file(vector: &Vector<'_>) -> &'static str {
    let secret = vector.secret("secret");
    if wrap::key_file_checksum(&secret) != vector.array("checksum") {
        return "bad checksum";
    }
    assert_eq!(wrap::key_file_id(&secret), vector.array("key id"));
    let line = ["COFFER-KEY-1-", vector.text("secret"), vector.text("checksum")].concat();
    assert_eq!(line, vector.text("line"));
    "ok"
}

fn record_signature(vector: &Vector<'_>) -> &'static str {
    let Ok(key) = VerifyingKey::from_bytes(&vector.array("verifying key")) else {
        return "bad key";
    };
    match key.verify_record(&vector.bytes("public part"), &vector.array("signature")) {
        Ok(()) => "ok",
        Err(_) => "bad signature",
    }
}

fn sealing_public_key(vector: &Vector<'_>) -> &'static str {
    match SealingPublicKey::from_bytes(&vector.array("sealing public key")) {
        Ok(_) => "ok",
        Err(_) => "bad key",
    }
}
