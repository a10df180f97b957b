//! The vectors: a few that hold, and around each what has to be refused.

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Argon2Params, ReaderSecret, Secret, SecretBytes, hash, wrap};
use coffer_format::cbor::Encoder;
use coffer_format::id::{VaultId, hex, unhex};
use coffer_format::slot::{Slot, SlotKind, SlotPurpose, TokenKey};
use coffer_keys::{KeyFile, Passphrase, RecoveryShares, RootKey, WriterCredential, make_slot};
use serde_json::{Value, json};

use super::rfc5649;
use super::soft_token::SoftToken;

const VAULT: VaultId = VaultId([0x11; 32]);
const PASSPHRASE: &str = "correct horse battery stäple";

pub(crate) fn vectors() -> Vec<Value> {
    let slots = [key_file_slots(), passphrase_slots(), share_slots(), token_slots()].concat();
    [slots, key_file_texts(), share_texts(), writer_texts()].concat()
}

fn key_file(seed: u64) -> KeyFile {
    KeyFile::generate(&SeededRng::new(seed)).expect("a seeded generator does not fail")
}

fn line(key_file: &KeyFile) -> String {
    let text = String::from_utf8(key_file.to_text().expose().to_vec()).expect("text");
    text.lines().last().expect("a line").to_owned()
}

fn key(seed: u64) -> Secret<32> {
    Secret::generate(&SeededRng::new(seed)).expect("a seeded generator does not fail")
}

fn made(root: &dyn RootKey, purpose: SlotPurpose, label: &str, key: &Secret<32>, seed: u64) -> Slot {
    let made = make_slot(root, VAULT, 0, purpose, label, 1_750_000_000, key, &SeededRng::new(seed));
    made.expect("the slot can be made").2
}

/// A vector for a slot that opens; `with` names the field of the root key.
fn good(name: &str, slot: &Slot, with: (&str, &str), key: &Secret<32>) -> Value {
    let bytes = slot.encode();
    let mut vector = json!({
        "test": "key slot", "section": "7", "name": name, "expect": "ok",
        "vault id": slot.vault.to_string(),
        "slot": hex(&bytes),
        "slot id": Slot::id(&bytes).to_string(),
        "context": hex(&slot.context()),
        "epoch": slot.epoch,
        "purpose": if slot.purpose == SlotPurpose::VaultKey { 1 } else { 2 },
        "key": hex(key.expose()),
    });
    vector[with.0] = with.1.into();
    vector
}

/// The vector with another slot, which is refused; what only an opened slot has is left out.
fn refused(vector: &Value, how: &str, expect: &str, slot: &[u8]) -> Value {
    let mut other = vector.clone();
    assert_ne!(other["slot"], hex(slot), "{how}: nothing would change");
    other["name"] = format!("{}: {how}", vector["name"].as_str().expect("a name")).into();
    other["expect"] = expect.into();
    other["slot"] = hex(slot).into();
    for field in ["slot id", "context", "epoch", "purpose", "key"] {
        other.as_object_mut().expect("an object").remove(field);
    }
    other
}

/// The vector with another value in a field that is not the slot, which makes it fail.
fn wrong(vector: &Value, how: &str, field: &str, value: &str) -> Value {
    let mut other = refused(vector, how, "wrong key", &[]);
    other["slot"] = vector["slot"].clone();
    assert_ne!(other[field], value, "{how}: nothing would change");
    other[field] = value.into();
    other
}

fn altered(vector: &Value, slot: &Slot, how: &str, alter: impl FnOnce(&mut Slot)) -> Value {
    let mut other = slot.clone();
    alter(&mut other);
    refused(vector, how, "wrong key", &other.encode())
}

/// The slot's bytes with one more key at the end of the map.
fn with_key(slot: &Slot, number: u64, text: &str) -> Vec<u8> {
    let mut bytes = slot.encode();
    bytes[0] += 1;
    let mut item = Encoder::new();
    item.uint(number);
    item.text(text);
    bytes.extend_from_slice(&item.finish());
    bytes
}

fn key_file_slots() -> Vec<Value> {
    let (root, vault_key, reader) = (key_file(1), key(2), key(3));
    let line_1 = line(&root);
    let with = ("key file line", line_1.as_str());
    let slot = made(&root, SlotPurpose::VaultKey, "safe", &vault_key, 4);
    let base = good("key file slot", &slot, with, &vault_key);
    let of_reader = made(&root, SlotPurpose::ReaderSecret, "", &reader, 5);
    let unknown = Slot::decode(&with_key(&slot, 11, "later")).expect("unknown keys are kept");
    let unknown = root.wrap(unknown, &vault_key, &SeededRng::new(6)).expect("the slot can be made");
    let mut vectors = vec![
        base.clone(),
        good("key file slot: reader secret, no label", &of_reader, with, &reader),
        good("key file slot: with a key that version 1.0 does not define", &unknown, with, &vault_key),
        wrong(&base, "other key file", "key file line", &line(&key_file(9))),
        wrong(&base, "other vault", "vault id", &VaultId([0x12; 32]).to_string()),
        refused(&base, "key 11 added afterwards", "wrong key", &with_key(&slot, 11, "later")),
        altered(&base, &slot, "vault id in the slot", |slot| slot.vault = VaultId([0x12; 32])),
        altered(&base, &slot, "epoch", |slot| slot.epoch = 1),
        altered(&base, &slot, "purpose", |slot| slot.purpose = SlotPurpose::ReaderSecret),
        altered(&base, &slot, "label", |slot| slot.label = "Safe".to_owned()),
        altered(&base, &slot, "time", |slot| slot.created_s += 1),
        altered(&base, &slot, "key id", |slot| slot.kind = SlotKind::KeyFile { key_id: [0; 8] }),
        altered(&base, &slot, "kind 6", |slot| {
            slot.kind = SlotKind::Shares { set_id: [0; 8], threshold: 2, digests: vec![[0; 16]; 2] };
        }),
        altered(&base, &slot, "salt", |slot| slot.salt.as_mut().expect("a salt")[31] ^= 1),
        altered(&base, &slot, "commitment", |slot| {
            slot.commitment.as_mut().expect("a commitment")[0] ^= 0x80;
        }),
        altered(&base, &slot, "wrapped key", |slot| slot.wrapped[0] ^= 1),
        altered(&base, &slot, "tag", |slot| slot.wrapped[79] ^= 1),
        altered(&base, &slot, "wrapped key cut", |slot| slot.wrapped.truncate(79)),
        altered(&base, &slot, "wrapped key longer", |slot| slot.wrapped.push(0)),
        altered(&base, &slot, "wrapped key empty", |slot| slot.wrapped.clear()),
    ];
    vectors.extend(bound_otherwise(&base, &slot, &vault_key, &line_1));
    vectors.extend(malformed(&base, &slot));
    vectors
}

/// Slots whose maker knew the secret: each opens for a reader that leaves out one check.
fn bound_otherwise(base: &Value, slot: &Slot, key: &Secret<32>, line: &str) -> Vec<Value> {
    let digits = &line["COFFER-KEY-1-".len()..][..64];
    let secret = Secret::new(unhex(digits).expect("the digits of the secret"));
    let salt = slot.salt.expect("a salt");
    let (kek, _) = wrap::slot_keys(&secret, &salt, &VAULT.0);
    let context = slot.context();
    let plain = |bound_to: [u8; 32]| {
        let mut plain = [0; 64];
        plain[..32].copy_from_slice(key.expose());
        plain[32..].copy_from_slice(&bound_to);
        plain
    };
    let bound = plain(hash::hash(&context));
    assert_eq!(wrap::wrap(&kek, &context, &bound), slot.wrapped, "the slot made by hand");
    vec![
        altered(base, slot, "hash of another context in the plaintext", |slot| {
            slot.wrapped = wrap::wrap(&kek, &context, &plain(hash::hash(b"")));
        }),
        altered(base, slot, "plaintext without the hash", |slot| {
            slot.wrapped = wrap::wrap(&kek, &context, &plain([0; 32]));
        }),
        altered(base, slot, "no additional data", |slot| slot.wrapped = wrap::wrap(&kek, b"", &bound)),
        altered(base, slot, "hash of the context as additional data", |slot| {
            slot.wrapped = wrap::wrap(&kek, &hash::hash(&context), &bound);
        }),
    ]
}

fn malformed(base: &Value, slot: &Slot) -> Vec<Value> {
    let bytes = slot.encode();
    let refused = |how, bytes: &[u8]| refused(base, how, "malformed", bytes);
    let without = |alter: fn(&mut Slot)| {
        let mut other = slot.clone();
        alter(&mut other);
        other.encode()
    };
    let mut wide_head = vec![0xb8, bytes[0] & 0x1f];
    wide_head.extend_from_slice(&bytes[1..]);
    vec![
        refused("empty", &[]),
        refused("last byte missing", &bytes[..bytes.len() - 1]),
        refused("byte left over", &[&bytes[..], &[0]].concat()),
        refused("head of the map not in its shortest form", &wide_head),
        refused("key 10 twice", &with_key(slot, 10, "")),
        refused("key 0 behind key 10", &with_key(slot, 0, "")),
        refused("without salt", &without(|slot| slot.salt = None)),
        refused("without commitment", &without(|slot| slot.commitment = None)),
        refused("label over 256 bytes", &without(|slot| slot.label = "a".repeat(257))),
        refused("wrapped key over 4096 bytes", &without(|slot| slot.wrapped = vec![0; 4097])),
        refused("kind 3 with salt and commitment", &without_parameters(slot, 3)),
        refused("kind 8", &without_parameters(slot, 8)),
        refused("key file slot without key id", &without_parameters(slot, 2)),
    ]
}

/// The bytes of a key file slot with another kind, and an empty map of parameters.
fn without_parameters(slot: &Slot, kind: u8) -> Vec<u8> {
    let SlotKind::KeyFile { key_id } = &slot.kind else { panic!("a key file slot") };
    let mut bytes = slot.encode();
    let mut replace = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
        bytes.splice(at..at + from.len(), to.iter().copied());
    };
    replace(&[3, 1, 4, 2, 5], &[3, 1, 4, kind, 5]);
    replace(&[&[7, 0xa1, 1, 0x48], key_id.as_slice()].concat(), &[7, 0xa0]);
    bytes
}

fn passphrase_slots() -> Vec<Value> {
    let passphrase = SecretBytes::from(PASSPHRASE.to_owned());
    let root = Passphrase::new(passphrase, Argon2Params::FLOOR).expect("a passphrase");
    let key = key(20);
    let slot = made(&root, SlotPurpose::VaultKey, "passphrase of the owner", &key, 21);
    let base = good("passphrase slot", &slot, ("passphrase", PASSPHRASE), &key);
    let SlotKind::Passphrase { memory_kib, passes, lanes, salt } = slot.kind else {
        panic!("a passphrase slot");
    };
    let mut other_salt = salt;
    other_salt[0] ^= 1;
    let with_cost = |how, expect, memory_kib, passes, lanes| {
        let kind = SlotKind::Passphrase { memory_kib, passes, lanes, salt };
        let mut other = slot.clone();
        other.kind = kind;
        refused(&base, how, expect, &other.encode())
    };
    vec![
        base.clone(),
        wrong(&base, "other passphrase", "passphrase", "correct horse battery staple"),
        wrong(&base, "the same with a line feed", "passphrase", &format!("{PASSPHRASE}\n")),
        wrong(&base, "the same decomposed", "passphrase", "correct horse battery sta\u{308}ple"),
        altered(&base, &slot, "salt of the passphrase", |slot| {
            slot.kind = SlotKind::Passphrase { memory_kib, passes, lanes, salt: other_salt };
        }),
        with_cost("more memory", "wrong key", memory_kib + 4, passes, lanes),
        with_cost("more passes", "wrong key", memory_kib, passes + 1, lanes),
        with_cost("fewer lanes", "wrong key", memory_kib, passes, lanes - 1),
        with_cost("memory below the limit", "bad cost", 65_535, passes, lanes),
        with_cost("memory above the limit", "bad cost", 4_194_305, passes, lanes),
        with_cost("memory at the end of 32 bits", "bad cost", u32::MAX, passes, lanes),
        with_cost("passes below the limit", "bad cost", memory_kib, 2, lanes),
        with_cost("passes above the limit", "bad cost", memory_kib, 17, lanes),
        with_cost("no lanes", "bad cost", memory_kib, passes, 0),
        with_cost("lanes above the limit", "bad cost", memory_kib, passes, 17),
    ]
}

fn share_lines(set: &RecoveryShares) -> Vec<String> {
    let line =
        |share: &coffer_keys::Share| String::from_utf8(share.to_line().expose().to_vec()).expect("text");
    set.shares().iter().map(line).collect()
}

fn share_slots() -> Vec<Value> {
    let set = |threshold, count, seed| {
        RecoveryShares::generate(threshold, count, &SeededRng::new(seed))
            .expect("a seeded generator does not fail")
    };
    let (root, vault_key) = (set(3, 5, 40), key(41));
    let slot = made(&root, SlotPurpose::VaultKey, "board", &vault_key, 42);
    let lines = share_lines(&root);
    let some = |numbers: &[usize]| {
        let chosen: Vec<_> = numbers.iter().map(|number| lines[number - 1].as_str()).collect();
        chosen.join("\n")
    };
    let (of_all, of_others) = (some(&[1, 2, 3, 4, 5]), share_lines(&set(3, 5, 43)).join("\n"));
    let base = good("shares slot", &slot, ("share lines", &some(&[2, 5, 3])), &vault_key);
    let with_kind = |how: &str, threshold: u8, change: &dyn Fn(&mut Vec<[u8; 16]>)| {
        let SlotKind::Shares { set_id, mut digests, .. } = slot.kind.clone() else {
            unreachable!("shares make a shares slot")
        };
        change(&mut digests);
        altered(&base, &slot, how, |slot| slot.kind = SlotKind::Shares { set_id, threshold, digests })
    };
    vec![
        base.clone(),
        good("shares slot: all shares", &slot, ("share lines", &of_all), &vault_key),
        wrong(&base, "too few shares", "share lines", &some(&[1, 4])),
        wrong(&base, "one share three times", "share lines", &some(&[1, 1, 1])),
        wrong(&base, "shares of another set", "share lines", &of_others),
        with_kind("threshold", 2, &|_| ()),
        with_kind("a share more", 3, &|digests| digests.push([0; 16])),
        with_kind("digest of a share that is used", 3, &|digests| digests[1][0] ^= 1),
        with_kind("digest of a share that is not used", 3, &|digests| digests[0][0] ^= 1),
    ]
}

/// Slots of a token whose keys are known, as if it had no keys that it keeps.
fn token_slots() -> Vec<Value> {
    [gcm_slots(), kwp_slots(), cbc_slots()].concat()
}

fn token_key(slot: &mut Slot) -> &mut TokenKey {
    let SlotKind::Token(key) = &mut slot.kind else { panic!("a token slot") };
    key
}

fn gcm_slots() -> Vec<Value> {
    let (root, vault_key) = (SoftToken { cipher: [0x41; 32], mac: None, wraps: false }, key(60));
    let slot = made(&root, SlotPurpose::VaultKey, "rack 4", &vault_key, 61);
    let base = good("token slot by AES-GCM", &slot, ("token cipher key", &hex(&root.cipher)), &vault_key);
    let altered = |how: &str, alter: &dyn Fn(&mut Slot)| altered(&base, &slot, how, alter);
    let iv =
        |alter: fn(&mut Vec<u8>)| move |slot: &mut Slot| alter(token_key(slot).iv.as_mut().expect("an IV"));
    vec![
        base.clone(),
        wrong(&base, "other key", "token cipher key", &hex(&[0x40; 32])),
        altered("label of the key", &|slot| token_key(slot).label.push('2')),
        altered("serial number", &|slot| token_key(slot).token_serial.clear()),
        altered("label of the slot", &|slot| slot.label.clear()),
        altered("IV", &iv(|iv| iv[0] ^= 1)),
        altered("IV of 16 bytes", &iv(|iv| iv.extend([0; 4]))),
        altered("without IV", &|slot| token_key(slot).iv = None),
        altered("with a MAC", &|slot| token_key(slot).mac = Some([0; 32])),
        altered("with a salt", &|slot| token_key(slot).salt = Some([0; 16])),
        altered("with a salt that it was made with", &|slot| {
            token_key(slot).salt = Some([7; 16]);
            let plain = [vault_key.expose().as_slice(), &hash::hash(&slot.context())].concat();
            root.seal(slot, &plain, &[7; 16], &[]);
        }),
        altered("mechanism of CBC", &|slot| token_key(slot).mechanism = 0x1085),
        altered("mechanism of KWP", &|slot| token_key(slot).mechanism = 0x210b),
        altered("mechanism that is not defined", &|slot| token_key(slot).mechanism = 0x1082),
        altered("wrapped key", &|slot| slot.wrapped[63] ^= 1),
        altered("tag", &|slot| slot.wrapped[79] ^= 1),
        altered("hash of another context in the plaintext", &|slot| {
            let plain = [vault_key.expose().as_slice(), &hash::hash(b"")].concat();
            root.seal(slot, &plain, &[7; 16], &[]);
        }),
        altered("plaintext without the hash", &|slot| {
            root.seal(slot, vault_key.expose(), &[7; 16], &[]);
        }),
    ]
}

fn kwp_slots() -> Vec<Value> {
    let (root, vault_key) = (SoftToken { cipher: [0x41; 32], mac: None, wraps: true }, key(64));
    let slot = made(&root, SlotPurpose::VaultKey, "rack 6", &vault_key, 65);
    let base = good("token slot by AES-KWP", &slot, ("token cipher key", &hex(&root.cipher)), &vault_key);
    let altered = |how: &str, alter: &dyn Fn(&mut Slot)| altered(&base, &slot, how, alter);
    let plain = [vault_key.expose().as_slice(), &hash::hash(&slot.context())].concat();
    let wrap = |head, plain: &[u8]| rfc5649::wrap(&root.cipher, head, plain);
    assert_eq!(wrap(rfc5649::head(64), &plain), slot.wrapped, "the slot made by hand");
    vec![
        base.clone(),
        wrong(&base, "other key", "token cipher key", &hex(&[0x40; 32])),
        altered("label of the token", &|slot| token_key(slot).token_label.push('2')),
        altered("id of the key", &|slot| token_key(slot).id.clear()),
        altered("label of the slot", &|slot| slot.label.clear()),
        altered("epoch", &|slot| slot.epoch = 1),
        altered("salt", &|slot| token_key(slot).salt.as_mut().expect("a salt")[0] ^= 1),
        altered("without salt", &|slot| token_key(slot).salt = None),
        altered("without a salt that it was made without", &|slot| {
            token_key(slot).salt = None;
            let plain = [vault_key.expose().as_slice(), &hash::hash(&slot.context())].concat();
            slot.wrapped = wrap(rfc5649::head(64), &plain);
        }),
        altered("with an IV", &|slot| token_key(slot).iv = Some(vec![0; 12])),
        altered("with a MAC", &|slot| token_key(slot).mac = Some([0; 32])),
        altered("mechanism of GCM", &|slot| token_key(slot).mechanism = 0x1087),
        altered("mechanism of PAD", &|slot| token_key(slot).mechanism = 0x210a),
        altered("wrapped key", &|slot| slot.wrapped[71] ^= 1),
        altered("head of the wrapped key", &|slot| slot.wrapped[0] ^= 0x80),
        altered("wrapped key cut by a part", &|slot| slot.wrapped.truncate(64)),
        altered("wrapped key longer by a part", &|slot| slot.wrapped.extend([0; 8])),
        altered("wrapped key of 80 bytes, filled up by PKCS#7", &|slot| {
            slot.wrapped = wrap([0xa6; 8], &[plain.as_slice(), &[8; 8]].concat());
        }),
        altered("wrapped by RFC 3394", &|slot| slot.wrapped = wrap([0xa6; 8], &plain)),
        altered("head that says 63 bytes", &|slot| slot.wrapped = wrap(rfc5649::head(63), &plain)),
        altered("head that says 65 bytes", &|slot| slot.wrapped = wrap(rfc5649::head(65), &plain)),
        altered("63 bytes in the plaintext", &|slot| {
            slot.wrapped = wrap(rfc5649::head(63), &plain[..63]);
        }),
        altered("hash of another context in the plaintext", &|slot| {
            let plain = [vault_key.expose().as_slice(), &hash::hash(b"")].concat();
            root.seal(slot, &plain, &[7; 16], &[]);
        }),
    ]
}

fn cbc_slots() -> Vec<Value> {
    let (root, vault_key) = (SoftToken { cipher: [0x41; 32], mac: Some([0x42; 32]), wraps: false }, key(62));
    let slot = made(&root, SlotPurpose::VaultKey, "rack 5", &vault_key, 63);
    let mut base = good("token slot by AES-CBC", &slot, ("token cipher key", &hex(&root.cipher)), &vault_key);
    base["token mac key"] = hex(&[0x42; 32]).into();
    let altered = |how: &str, alter: &dyn Fn(&mut Slot)| altered(&base, &slot, how, alter);
    let plain = [vault_key.expose().as_slice(), &hash::hash(&slot.context())].concat();
    let mut last_bytes = [16; 16];
    last_bytes[0] = 15;
    vec![
        base.clone(),
        wrong(&base, "other key", "token cipher key", &hex(&[0x40; 32])),
        wrong(&base, "other key of the MAC", "token mac key", &hex(&[0x40; 32])),
        altered("id of the key", &|slot| token_key(slot).id.push(3)),
        altered("IV", &|slot| token_key(slot).iv.as_mut().expect("an IV")[0] ^= 1),
        altered("without IV", &|slot| token_key(slot).iv = None),
        altered("MAC", &|slot| token_key(slot).mac.as_mut().expect("a MAC")[31] ^= 1),
        altered("without MAC", &|slot| token_key(slot).mac = None),
        altered("mechanism of GCM", &|slot| token_key(slot).mechanism = 0x1087),
        altered("wrapped key", &|slot| slot.wrapped[0] ^= 1),
        altered("wrapped key cut by a block", &|slot| slot.wrapped.truncate(64)),
        altered("padding that is none, under a good MAC", &|slot| {
            root.seal(slot, &plain, &[7; 16], &last_bytes);
        }),
        altered("hash of another context in the plaintext", &|slot| {
            let plain = [vault_key.expose().as_slice(), &hash::hash(b"")].concat();
            root.seal(slot, &plain, &[7; 16], &[16; 16]);
        }),
    ]
}

fn share_texts() -> Vec<Value> {
    let set = RecoveryShares::generate(2, 3, &SeededRng::new(50)).expect("a seeded generator does not fail");
    let lines = share_lines(&set);
    let line = lines[1].clone();
    let vector = |name: &str, expect: &str, text: &[u8]| {
        let mut vector = json!({
            "test": "share text", "section": "7.2", "name": format!("share text: {name}"), "expect": expect, "text": hex(text),
        });
        if expect == "ok" {
            vector["share line"] = line.as_str().into();
            vector["set id"] = hex(&set.shares()[1].set_id()).into();
            (vector["threshold"], vector["count"], vector["number"]) = (2.into(), 3.into(), 2.into());
        }
        vector
    };
    let good = |name, text: String| vector(name, "ok", text.as_bytes());
    let bad = |name, text: String| vector(name, "malformed", text.as_bytes());
    let last = line.len() - 1;
    let other_digit = if line.ends_with('0') { '1' } else { '0' };
    let fill = "#".repeat((16 << 10) - line.len() - 1);
    vec![
        good("as written", line.clone()),
        good("comments, blank lines, carriage returns", format!("# a\r\n\r\n \t{line} \t\r\n# b\n")),
        good("small letters", line.to_lowercase()),
        good("no hyphens", format!("COFFER-SHARE-1-{}", line[15..].replace('-', ""))),
        good("spaces for hyphens", format!("COFFER-SHARE-1-{}", line[15..].replace('-', " "))),
        good("16384 bytes", format!("{fill}\n{line}")),
        bad("16385 bytes", format!("#{fill}\n{line}")),
        bad("empty", String::new()),
        bad("comments alone", "# a\n\n#".to_owned()),
        bad("twice", format!("{line}\n{line}\n")),
        bad("two shares", format!("{line}\n{}\n", lines[0])),
        bad("another line", format!("{line}\nshare\n")),
        bad("another version", line.replace("-1-", "-2-")),
        bad("a key file's line", self::line(&key_file(30))),
        bad("last digit missing", line[..last].to_owned()),
        bad("a digit too many", format!("{line}0")),
        bad("last digit altered", format!("{}{other_digit}", &line[..last])),
        bad("a letter that is no digit", format!("{}G", &line[..last])),
        bad("over two lines", format!("{}\n{}\n", &line[..40], &line[40..])),
    ]
}

fn writer_credential(name: &str, seed: u64) -> WriterCredential {
    let domain = ReaderSecret::from_secret(key(seed)).domain_keys(&[0x22; 16]);
    WriterCredential::generate(VAULT, name, domain, &SeededRng::new(seed + 1)).expect("a writer can be made")
}

fn writer_texts() -> Vec<Value> {
    let line_of = |credential: &WriterCredential| {
        let text = String::from_utf8(credential.to_text().expose().to_vec()).expect("text");
        text.lines().last().expect("a line").to_owned()
    };
    let vector = |name: &str, expect: &str, text: &[u8]| {
        json!({
            "test": "writer text", "section": "7.3", "name": format!("writer text: {name}"), "expect": expect, "text": hex(text),
        })
    };
    let good = |name: &str, text: &[u8], credential: &WriterCredential| {
        let mut vector = vector(name, "ok", text);
        let (signing, domain) = credential.keys();
        let keys = domain.parts();
        vector["writer line"] = line_of(credential).into();
        vector["vault id"] = credential.vault().to_string().into();
        vector["writer"] = credential.name().into();
        vector["domain"] = hex(domain.domain()).into();
        vector["verifying key"] = hex(&credential.verifying_key()).into();
        vector["seed"] = hex(signing.expose_seed()).into();
        vector["data id key"] = hex(keys.data_id.expose()).into();
        vector["meta id key"] = hex(keys.meta_id.expose()).into();
        vector["chunker key"] = hex(keys.chunker.expose()).into();
        vector["tree key"] = hex(keys.tree.expose()).into();
        vector["index key"] = hex(keys.index.expose()).into();
        vector["psk"] = hex(keys.psk.expose()).into();
        vector
    };
    let bad = |name: &str, text: String| vector(name, "malformed", text.as_bytes());
    let made = writer_credential("web-1", 60);
    let line = line_of(&made);
    let digits = line["COFFER-WRITER-1-".len()..].to_owned();
    // Whoever knows how the check is made may say what they like.
    let with_name = |name: &[u8]| {
        let content = [&unhex::<256>(&digits[..512]).expect("the digits before the name")[..], name].concat();
        format!("COFFER-WRITER-1-{}{}", hex(&content), hex(&wrap::writer_checksum(&content)))
    };
    let last = line.len() - 1;
    let other_digit = if line.ends_with('0') { '1' } else { '0' };
    let fill = "#".repeat(4096 - line.len() - 1);
    let longest = writer_credential(&"w".repeat(256), 62);
    let umlaut = writer_credential("größe", 64);
    vec![
        good("as written", made.to_text().expose(), &made),
        good("the line alone", line.as_bytes(), &made),
        good(
            "comments, blank lines, carriage returns",
            format!("# a\r\n\r\n \t{line} \t\r\n# b\n").as_bytes(),
            &made,
        ),
        good("4096 bytes", format!("{fill}\n{line}").as_bytes(), &made),
        good("a name of 256 bytes", longest.to_text().expose(), &longest),
        good("a name beyond ASCII", umlaut.to_text().expose(), &umlaut),
        bad("4097 bytes", format!("#{fill}\n{line}")),
        bad("empty", String::new()),
        bad("comments alone", "# a\n\n#".to_owned()),
        bad("twice", format!("{line}\n{line}\n")),
        bad("another line", format!("{line}\nwriter\n")),
        bad("another version", line.replace("-1-", "-2-")),
        bad("lower-case prefix", line.to_lowercase()),
        bad("upper-case digits", format!("COFFER-WRITER-1-{}", digits.to_uppercase())),
        bad("a key file's line", self::line(&key_file(30))),
        bad("last digit missing", line[..last].to_owned()),
        bad("a digit too many", format!("{line}0")),
        bad("last digit altered", format!("{}{other_digit}", &line[..last])),
        bad("a letter that is no digit", format!("{}g", &line[..last])),
        bad("over two lines", format!("{}\n{}\n", &line[..40], &line[40..])),
        bad("white space inside", format!("{} {}", &line[..40], &line[41..])),
        bad("without a name", with_name(b"")),
        bad("a name of 257 bytes", with_name(&[b'w'; 257])),
        bad("a line feed in the name", with_name(b"a\nb")),
        bad("a control character beyond ASCII in the name", with_name("a\u{85}".as_bytes())),
        bad("a name that is not UTF-8", with_name(b"\xff")),
    ]
}

fn key_file_texts() -> Vec<Value> {
    let root = key_file(30);
    let line = line(&root);
    let vector = |name: &str, expect: &str, text: &[u8]| {
        let mut vector = json!({
            "test": "key file text", "section": "7.1", "name": format!("key file text: {name}"), "expect": expect,
            "text": hex(text),
        });
        if expect == "ok" {
            vector["key file line"] = line.as_str().into();
            vector["key id"] = hex(&root.key_id()).into();
        }
        vector
    };
    let good = |name, text: String| vector(name, "ok", text.as_bytes());
    let bad = |name, text: String| vector(name, "malformed", text.as_bytes());
    let last = line.len() - 1;
    let other_digit = if line.ends_with('0') { '1' } else { '0' };
    let fill = "#".repeat(4096 - line.len() - 1);
    vec![
        vector("as written", "ok", root.to_text().expose()),
        good("the key alone, without line feed", line.clone()),
        good("carriage returns, blank lines, white space", format!("# a\r\n\r\n \t{line} \t\r\n\n")),
        vector("comment that is not UTF-8", "ok", &[b"# \xff\n", line.as_bytes()].concat()),
        good("4096 bytes", format!("{fill}\n{line}")),
        vector("4097 bytes", "too long", format!("#{fill}\n{line}").as_bytes()),
        vector("empty", "no key", b""),
        vector("comments alone", "no key", b"# a\n#\n\n"),
        vector("key as a comment", "no key", format!("#{line}\n").as_bytes()),
        bad("the same key twice", format!("{line}\n{line}\n")),
        bad("two keys", format!("{line}\n{}\n", self::line(&key_file(31)))),
        bad("another line", format!("{line}\nkey\n")),
        bad("comment behind the key", format!("{line} # a\n")),
        bad("byte order mark", format!("\u{feff}{line}\n")),
        bad("upper-case digits", line.to_uppercase()),
        bad("lower-case prefix", line.to_lowercase()),
        bad("another version", line.replace("-1-", "-2-")),
        bad("last digit missing", line[..last].to_owned()),
        bad("a digit too many", format!("{line}0")),
        bad("without check digits", line[..line.len() - 8].to_owned()),
        bad("last digit altered", format!("{}{other_digit}", &line[..last])),
        bad("two digits swapped", swap_first_unequal(&line)),
        bad("key over two lines", format!("{}\n{}\n", &line[..40], &line[40..])),
        bad("white space inside", format!("{} {}", &line[..40], &line[41..])),
    ]
}

/// The line with two neighbouring digits of its key exchanged.
fn swap_first_unequal(line: &str) -> String {
    let mut bytes = line.as_bytes().to_vec();
    let first = "COFFER-KEY-1-".len();
    let place = (first..bytes.len() - 1).find(|at| bytes[*at] != bytes[at + 1]).expect("digits differ");
    bytes.swap(place, place + 1);
    String::from_utf8(bytes).expect("digits are ASCII")
}
