//! Makes the vectors: each positive one, then what is wrong with it in every other.

use coffer_crypto::kdf::{kdf, kdf64};
use coffer_crypto::rng::{SeededRng, array};
use coffer_crypto::{
    Argon2Params, ObjectKind, Purpose, ReaderSecret, Rng, SealContext, SealKey, SealedAs, Secret, SigningKey,
    VaultKey, hash, passphrase, seal_to_vault, wrap,
};
use serde_json::{Value, json};

use super::hex;

/// The order of Ed25519's base point, little-endian.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

pub(crate) fn vectors() -> Vec<Value> {
    // One generator per kind, so that adding a vector to one leaves the others as they are.
    [
        keys(&SeededRng::new(4)),
        seals(&SeededRng::new(51)),
        decapsulations(&SeededRng::new(52)),
        sealing_public_keys(&SeededRng::new(53)),
        slots(&SeededRng::new(7)),
        argon2id(&SeededRng::new(71)),
        key_files(&SeededRng::new(72)),
        signatures(&SeededRng::new(8)),
    ]
    .concat()
}

fn random<const N: usize>(rng: &dyn Rng) -> [u8; N] {
    array(rng).expect("a seeded generator does not fail")
}

fn secret(rng: &dyn Rng) -> Secret<32> {
    Secret::new(random(rng))
}

/// The vector with other values in some fields, under another name.
fn altered(vector: &Value, how: &str, expect: &str, fields: &[(&str, Value)]) -> Value {
    let mut other = vector.clone();
    other["name"] = format!("{}: {how}", vector["name"].as_str().expect("every vector has a name")).into();
    other["expect"] = expect.into();
    for (field, value) in fields {
        assert_ne!(&other[field], value, "{field} would not change");
        other[field] = value.clone();
    }
    other
}

/// The field with one bit flipped.
fn flipped<'a>(vector: &Value, field: &'a str, byte: usize) -> (&'a str, Value) {
    let mut bytes = hex::decode(vector[field].as_str().expect("a field of bytes"));
    bytes[byte] ^= 1;
    (field, hex::encode(&bytes).into())
}

fn keys(rng: &dyn Rng) -> Vec<Value> {
    let vault_secret = secret(rng);
    let vault_key = VaultKey::from_secret(Secret::new(*vault_secret.expose()));
    let reader = vault_key.reader();
    let reader_secret = Secret::new(*reader.expose());
    let mut vectors = vec![json!({
        "test": "vault key", "section": "4", "name": "vault key", "expect": "ok",
        "vault key": hex::encode(vault_key.expose()),
        "owner seed": hex::encode(kdf(&vault_secret, "owner signing key", b"").expose()),
        "owner verifying key": hex::encode(vault_key.signing().verifying_key().as_bytes()),
        "reader secret": hex::encode(reader.expose()),
        "sealing seed": hex::encode(kdf(&reader_secret, "sealing key", b"").expose()),
        "sealing public key": hex::encode(&reader.sealing().public().to_bytes()),
        "domain root": hex::encode(kdf(&reader_secret, "dedup domains", b"").expose()),
        "key over the previous vault key": hex::encode(vault_key.previous_vault_key_kek().expose()),
        "key over the previous reader secret": hex::encode(reader.previous_reader_secret_kek().expose()),
    })];
    let mut random_domain: [u8; 16] = random(rng);
    random_domain[..4].copy_from_slice(&0_u32.to_le_bytes());
    vectors.push(domain("domain of the owner", &reader, &[0; 16]));
    vectors.push(domain("domain of a writer", &reader, &random_domain));
    let index_key = Secret::new(*reader.domain_keys(&random_domain).index_key().expose());
    vectors.extend(index_segment_keys(rng, &index_key));
    vectors
}

fn domain(name: &str, reader: &ReaderSecret, domain: &[u8; 16]) -> Value {
    let keys = reader.domain_keys(domain);
    let (chunk, path) = (b"the bytes of a chunk", b"home/user/notes.txt");
    json!({
        "test": "domain", "section": "4, 10, 12", "name": name, "expect": "ok",
        "reader secret": hex::encode(reader.expose()),
        "domain": hex::encode(domain),
        "data id key": hex::encode(keys.parts().data_id.expose()),
        "meta id key": hex::encode(keys.parts().meta_id.expose()),
        "chunker key": hex::encode(keys.chunker_key().expose()),
        "tree key": hex::encode(keys.parts().tree.expose()),
        "index key": hex::encode(keys.index_key().expose()),
        "psk": hex::encode(keys.psk().expose()),
        "chunk": hex::encode(chunk),
        "data chunk id": hex::encode(&keys.data_id(chunk)),
        "meta chunk id": hex::encode(&keys.meta_id(chunk)),
        "path": hex::encode(path),
        "leaf number": keys.tree_hash(0, path),
        "node number at height 1": keys.tree_hash(1, path),
    })
}

fn index_segment_keys(rng: &dyn Rng, index_key: &Secret<32>) -> Vec<Value> {
    let (vault_id, salt): ([u8; 32], [u8; 32]) = (random(rng), random(rng));
    let (key, commitment) = kdf64(index_key, "index segment", &[vault_id, salt].concat());
    let good = json!({
        "test": "index segment key", "section": "11", "name": "index segment key", "expect": "ok",
        "index key": hex::encode(index_key.expose()),
        "vault id": hex::encode(&vault_id),
        "salt": hex::encode(&salt),
        "key": hex::encode(key.expose()),
        "commitment": hex::encode(&commitment),
    });
    let mismatch = |how, field| altered(&good, how, "commitment mismatch", &[flipped(&good, field, 0)]);
    let bad = [
        mismatch("another index key", "index key"),
        mismatch("another vault", "vault id"),
        mismatch("another salt", "salt"),
        mismatch("another commitment", "commitment"),
    ];
    [vec![good.clone()], bad.to_vec()].concat()
}

/// The additional data of section 5.1, written out.
fn aad(vector: &Value) -> Vec<u8> {
    let bytes = |field: &str| hex::decode(vector[field].as_str().expect("a field of bytes"));
    let byte = |field: &str| vector[field].as_u64().and_then(|number| u8::try_from(number).ok());
    let ordinal = vector["ordinal"].as_u64().and_then(|number| u32::try_from(number).ok());
    let kind = byte("object kind").expect("an object kind is a byte");
    let purpose = byte("purpose").expect("a purpose is a byte");
    let ordinal = ordinal.expect("an ordinal is a u32").to_le_bytes();
    let head = [kind, purpose, 0, 0];
    [b"coffer/1".to_vec(), bytes("vault id"), head.to_vec(), ordinal.to_vec(), bytes("salt"), bytes("extra")]
        .concat()
}

/// The vector with the additional data and the nonce that its other fields give.
fn with_aad_and_nonce(mut vector: Value) -> Value {
    let aad = aad(&vector);
    let nonce = [&[aad[41]][..], &[0; 7], &aad[44..48]].concat();
    vector["aad"] = hex::encode(&aad).into();
    vector["nonce"] = hex::encode(&nonce).into();
    vector
}

fn seals(rng: &dyn Rng) -> Vec<Value> {
    use ObjectKind::{EpochRecord, IndexSegment, LogRecord, Pack};
    let mut extra: [u8; 40] = random(rng);
    extra[..8].copy_from_slice(&17_u64.to_le_bytes());
    let rows = [
        ("frame", Pack, Purpose::Frame, 65_535, 45, None),
        ("pack directory", Pack, Purpose::PackDirectory, 0, 108, None),
        ("pack footer", Pack, Purpose::PackFooter, 0, 32, None),
        ("frame table page", IndexSegment, Purpose::FrameTablePage, 1, 28, None),
        ("chunk table page", IndexSegment, Purpose::ChunkTablePage, 258, 64, None),
        ("record body", LogRecord, Purpose::RecordBody, 0, 512, Some(extra)),
        ("previous vault key", EpochRecord, Purpose::PreviousVaultKey, 1, 32, None),
        ("previous reader secret", EpochRecord, Purpose::PreviousReaderSecret, 1, 32, None),
    ];
    let mut vectors = Vec::new();
    for (name, kind, purpose, ordinal, plain_len, extra) in rows {
        let (key, vault_id) = (secret(rng), random(rng));
        let salt = if kind == EpochRecord { [0; 32] } else { random(rng) };
        let mut context = SealContext::new(vault_id, kind, salt);
        if let Some(extra) = &extra {
            context = context.with_extra(extra);
        }
        let mut plain = vec![0; plain_len];
        rng.fill(&mut plain).expect("a seeded generator does not fail");
        let mut sealed = plain.clone();
        SealKey::new(&key, context).seal_in_place(purpose, ordinal, &mut sealed, 0).expect("it is short");
        let good = with_aad_and_nonce(json!({
            "test": "seal", "section": "5.1", "name": name, "expect": "ok",
            "key": hex::encode(key.expose()),
            "vault id": hex::encode(&vault_id),
            "object kind": kind as u8,
            "purpose": purpose as u8,
            "ordinal": ordinal,
            "salt": hex::encode(&salt),
            "extra": extra.map_or_else(String::new, |extra| hex::encode(&extra)),
            "plaintext": hex::encode(&plain),
            "sealed": hex::encode(&sealed),
        }));
        vectors.extend(bad_seals(&good, &sealed));
        vectors.push(good);
    }
    vectors
}

fn bad_seals(good: &Value, sealed: &[u8]) -> Vec<Value> {
    let (tag_at, last) = (sealed.len() - 16, sealed.len() - 1);
    let bad = |how, field| with_aad_and_nonce(altered(good, how, "bad tag", &[field]));
    let purpose = if good["purpose"] == 1 { 2 } else { 1 };
    let kind = if good["object kind"] == 1 { 2 } else { 1 };
    let ordinal = good["ordinal"].as_u64().expect("an ordinal is a number") ^ 1;
    let mut vectors = vec![
        bad("another purpose", ("purpose", purpose.into())),
        bad("another ordinal", ("ordinal", ordinal.into())),
        bad("another vault", flipped(good, "vault id", 31)),
    ];
    // Frames and record bodies stand for the rest.
    if good["purpose"] == 1 || good["purpose"] == 6 {
        vectors.extend([
            bad("another object kind", ("object kind", kind.into())),
            bad("another salt", flipped(good, "salt", 0)),
            bad("another key", flipped(good, "key", 0)),
            bad("altered ciphertext", flipped(good, "sealed", 0)),
            bad("altered tag", flipped(good, "sealed", last)),
            bad("a byte short", ("sealed", hex::encode(&sealed[..last]).into())),
            bad("without ciphertext", ("sealed", hex::encode(&sealed[tag_at..]).into())),
            bad("shorter than a tag", ("sealed", hex::encode(&sealed[..15]).into())),
        ]);
    }
    if good["purpose"] == 6 {
        vectors.push(bad("another record number", flipped(good, "extra", 0)));
        vectors.push(bad("another signer", flipped(good, "extra", 8)));
        vectors.push(bad("without extra", ("extra", "".into())));
    }
    vectors
}

fn decapsulations(rng: &dyn Rng) -> Vec<Value> {
    let seed = secret(rng);
    let pair = coffer_crypto::SealingKeyPair::from_seed(&seed);
    let mut vectors = Vec::new();
    for (name, sealed_as) in [("pack", SealedAs::Pack), ("record", SealedAs::Record)] {
        let (psk, domain, vault_id, salt) = (random(rng), random(rng), random(rng), random(rng));
        let made = seal_to_vault(rng, pair.public(), &psk, &domain, sealed_as, &vault_id, &salt)
            .expect("a seeded generator does not fail");
        let good = json!({
            "test": "decapsulation", "section": "5.2", "name": format!("key of a {name}"), "expect": "ok",
            "sealing seed": hex::encode(seed.expose()),
            "psk": hex::encode(&psk),
            "domain": hex::encode(&domain),
            "sealed as": name,
            "vault id": hex::encode(&vault_id),
            "salt": hex::encode(&salt),
            "enc": hex::encode(made.enc.as_slice()),
            "key": hex::encode(made.key.expose()),
            "commitment": hex::encode(&made.commitment),
        });
        let bad = |how, field| altered(&good, how, "commitment mismatch", &[field]);
        let other = if name == "pack" { "record" } else { "pack" };
        vectors.extend([
            bad("another psk", flipped(&good, "psk", 0)),
            bad("another domain", flipped(&good, "domain", 15)),
            bad("sealed as another thing", ("sealed as", other.into())),
            bad("another vault", flipped(&good, "vault id", 0)),
            bad("another salt", flipped(&good, "salt", 31)),
            bad("another sealing key", flipped(&good, "sealing seed", 0)),
            bad("altered enc, ML-KEM part", flipped(&good, "enc", 0)),
            bad("altered enc, X25519 part", flipped(&good, "enc", 1119)),
            bad("altered commitment", flipped(&good, "commitment", 31)),
        ]);
        vectors.push(good);
    }
    vectors
}

fn sealing_public_keys(rng: &dyn Rng) -> Vec<Value> {
    let public = coffer_crypto::SealingKeyPair::from_seed(&secret(rng)).public().to_bytes();
    let good = json!({
        "test": "sealing public key", "section": "5.2", "name": "sealing public key", "expect": "ok",
        "sealing public key": hex::encode(&public),
    });
    // The first 12-bit number of the ML-KEM part set to its modulus, 3329.
    let mut not_reduced = public;
    not_reduced[0] = 0x01;
    not_reduced[1] = (public[1] & 0xf0) | 0x0d;
    let not_reduced = ("sealing public key", hex::encode(&not_reduced).into());
    let all_ones = ("sealing public key", hex::encode(&[0xff; 1216]).into());
    vec![
        altered(&good, "a number that is not reduced", "bad key", &[not_reduced]),
        altered(&good, "all ones", "bad key", &[all_ones]),
        good,
    ]
}

fn slots(rng: &dyn Rng) -> Vec<Value> {
    let (slot_secret, salt, vault_id) = (secret(rng), random(rng), random(rng));
    let (kek, commitment) = wrap::slot_keys(&slot_secret, &salt, &vault_id);
    let keys = json!({
        "test": "slot keys", "section": "7", "name": "slot keys", "expect": "ok",
        "secret": hex::encode(slot_secret.expose()),
        "salt": hex::encode(&salt),
        "vault id": hex::encode(&vault_id),
        "kek": hex::encode(kek.expose()),
        "commitment": hex::encode(&commitment),
    });
    let mismatch = |how, field| altered(&keys, how, "commitment mismatch", &[field]);
    let swapped = [("salt", keys["vault id"].clone()), ("vault id", keys["salt"].clone())];

    let context = b"the CBOR encoding of a slot without keys 9 and 10 stands here";
    let plain: [u8; 64] = [random(rng), hash::hash(context)].concat().try_into().expect("32 and 32 bytes");
    let wrapped = json!({
        "test": "wrapped key", "section": "7", "name": "wrapped key", "expect": "ok",
        "kek": hex::encode(kek.expose()),
        "context": hex::encode(context),
        "plaintext": hex::encode(&plain),
        "wrapped key": hex::encode(&wrap::wrap(&kek, context, &plain)),
    });
    let bad = |how, field| altered(&wrapped, how, "bad tag", &[field]);
    let digits = wrapped["wrapped key"].as_str().expect("a field of bytes");
    vec![
        mismatch("another secret", flipped(&keys, "secret", 0)),
        mismatch("another salt", flipped(&keys, "salt", 0)),
        mismatch("another vault", flipped(&keys, "vault id", 0)),
        altered(&keys, "salt and vault swapped", "commitment mismatch", &swapped),
        mismatch("altered commitment", flipped(&keys, "commitment", 0)),
        bad("another kek", flipped(&wrapped, "kek", 0)),
        bad("another context", flipped(&wrapped, "context", 0)),
        bad("without context", ("context", "".into())),
        bad("altered key", flipped(&wrapped, "wrapped key", 0)),
        bad("altered hash of the context", flipped(&wrapped, "wrapped key", 32)),
        bad("altered tag", flipped(&wrapped, "wrapped key", 79)),
        bad("a byte short", ("wrapped key", digits[..158].into())),
        bad("a byte long", ("wrapped key", format!("{digits}00").into())),
        keys.clone(),
        wrapped.clone(),
    ]
}

fn argon2id(rng: &dyn Rng) -> Vec<Value> {
    let salt = random(rng);
    let floor = Argon2Params::FLOOR;
    let text = "correct horse – battery staple";
    let secret = passphrase::derive(text.as_bytes(), &salt, floor).expect("64 MiB are to be had");
    let good = json!({
        "test": "argon2id", "section": "7, 16", "name": "passphrase", "expect": "ok",
        "passphrase": text,
        "salt": hex::encode(&salt),
        "memory in KiB": floor.memory_kib,
        "passes": floor.passes,
        "lanes": floor.lanes,
        "secret": hex::encode(secret.expose()),
    });
    let bad = |how, field, value: u32| altered(&good, how, "bad parameters", &[(field, value.into())]);
    vec![
        bad("too little memory", "memory in KiB", 65_535),
        bad("too much memory", "memory in KiB", 4_194_305),
        bad("too few passes", "passes", 2),
        bad("too many passes", "passes", 17),
        bad("no lane", "lanes", 0),
        bad("too many lanes", "lanes", 17),
        good,
    ]
}

fn key_files(rng: &dyn Rng) -> Vec<Value> {
    let secret = secret(rng);
    let checksum = hex::encode(&wrap::key_file_checksum(&secret));
    let good = json!({
        "test": "key file", "section": "7, 7.1", "name": "key file", "expect": "ok",
        "secret": hex::encode(secret.expose()),
        "checksum": checksum,
        "line": format!("COFFER-KEY-1-{}{checksum}", hex::encode(secret.expose())),
        "key id": hex::encode(&wrap::key_file_id(&secret)),
    });
    let bad = |how, field| {
        let mut other = altered(&good, how, "bad checksum", &[field]);
        let digits = |field: &str| other[field].as_str().expect("a field of bytes").to_owned();
        other["line"] = ["COFFER-KEY-1-".to_owned(), digits("secret"), digits("checksum")].concat().into();
        other
    };
    vec![
        bad("altered secret", flipped(&good, "secret", 31)),
        bad("altered checksum", flipped(&good, "checksum", 3)),
        good,
    ]
}

fn signatures(rng: &dyn Rng) -> Vec<Value> {
    let key = SigningKey::from_seed(&secret(rng));
    let public_part = b"the CBOR encoding of a record's public part stands here";
    let signature = key.sign_record(public_part);
    let good = json!({
        "test": "record signature", "section": "8.1", "name": "record signature", "expect": "ok",
        "verifying key": hex::encode(key.verifying_key().as_bytes()),
        "public part": hex::encode(public_part),
        "signature": hex::encode(&signature),
    });
    let mut not_reduced = signature;
    let mut carry = 0;
    for (byte, order) in not_reduced[32..].iter_mut().zip(hex::decode(ORDER)) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    let bad = |how, field| altered(&good, how, "bad signature", &[field]);
    let bad_key = |how, digits: &str| altered(&good, how, "bad key", &[("verifying key", digits.into())]);
    // Signature with the neutral point, and one with a point of order 8 added, by the key whose seed is 00 01 … 1f.
    let special = |how, point_and_scalar: &str| {
        let fields = [
            ("verifying key", "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8".into()),
            ("public part", hex::encode(b"public part").into()),
            ("signature", point_and_scalar.into()),
        ];
        altered(&good, how, "bad signature", &fields)
    };
    vec![
        bad("another public part", flipped(&good, "public part", 0)),
        bad("altered point", flipped(&good, "signature", 0)),
        bad("altered scalar", flipped(&good, "signature", 32)),
        bad("scalar not reduced", ("signature", hex::encode(&not_reduced).into())),
        bad("signed without the prefix", ("signature", hex::encode(&key.sign(public_part)).into())),
        bad("all zeros", ("signature", hex::encode(&[0; 64]).into())),
        special(
            "point of small order",
            "0100000000000000000000000000000000000000000000000000000000000000e5834fff3aa60bbc6c6521b11dd423b3\
             4825d820df4253dc1a68d5987bd4770a",
        ),
        special(
            "point with a part of small order",
            "40a4cf5c611d737a2f1c6fcca84d9cabfed80987f186a5a6c57e629bff1af27fef8ab8b3e2f50746a6dbb1d0b3c34a13\
             934f118376191cc1d658b1e1010c1005",
        ),
        bad_key("neutral key", "0100000000000000000000000000000000000000000000000000000000000000"),
        bad_key("key of order 8", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bad_key("key not canonical", "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        bad_key("key is no point", "0200000000000000000000000000000000000000000000000000000000000000"),
        good.clone(),
    ]
}
