//! Importing material: as it is, and under an import token.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_sandbox::{KeyPart, KmsKind, MasterKeySource};
use serde_json::{Value, json};

use super::{Safe, body, collection, plaintext, refused};
use crate::client::Answer;

/// A token, as the client of an instance gets it.
struct Token {
    public: Vec<u8>,
    nonce: Vec<u8>,
}

fn der(payload: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(payload) {
        Ok(text) if text.starts_with("-----BEGIN PUBLIC KEY-----") => {
            let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
            STANDARD.decode(lines).unwrap()
        }
        _ => payload.to_vec(),
    }
}

fn token(answer: &Answer) -> Token {
    let body = body(answer);
    let bytes = |name: &str| STANDARD.decode(body[name].as_str().unwrap()).unwrap();
    Token { public: der(&bytes("payload")), nonce: bytes("nonce") }
}

fn oaep(token: &Token, algorithm: &'static OaepAlgorithm, material: &[u8]) -> String {
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&token.public).unwrap()).unwrap();
    let mut out = vec![0; key.ciphertext_size()];
    let len = key.encrypt(algorithm, material, &mut out, None).unwrap().len();
    STANDARD.encode(&out[..len])
}

fn gcm(material: &[u8], iv: [u8; 12], nonce: &[u8]) -> String {
    let algorithm = if material.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, material).unwrap());
    let mut text = nonce.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut text).unwrap();
    STANDARD.encode(text)
}

fn cbc(material: &[u8], iv: [u8; 16], nonce: &[u8]) -> String {
    let key = UnboundCipherKey::new(&AES_256, material).unwrap();
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap();
    let mut text = nonce.to_vec();
    key.less_safe_encrypt(&mut text, EncryptionContext::Iv128(FixedLength::from(iv))).unwrap();
    STANDARD.encode(text)
}

/// A resource with material under a token, by AES-GCM and OAEP with SHA-256.
fn under(token: &Token, material: &[u8]) -> Value {
    json!({
        "name": "imported", "extractable": false, "payload": oaep(token, &OAEP_SHA256_MGF1SHA256, material),
        "encryptedNonce": gcm(material, [3; 12], &token.nonce), "iv": STANDARD.encode([3; 12]),
    })
}

fn new_token(safe: &Safe) -> Token {
    safe.post("/import_token", &json!({"maxAllowedRetrievals": 5})).expect(200);
    token(&safe.get("/import_token").expect(200))
}

#[test]
fn material_comes_in_as_it_is() {
    let safe = Safe::new();
    let resource = |payload: &[u8], extractable: bool| json!({"name": "imported", "extractable": extractable, "payload": STANDARD.encode(payload)});
    for len in [16, 24, 32] {
        let key = safe.key(&resource(&vec![1; len], false));
        assert_eq!(super::resource_of(&safe.get(&format!("/keys/{key}")))["imported"], true);
    }
    for len in [0, 15, 33, 64] {
        let answer = safe.post("/keys", &collection(&[&resource(&vec![1; len], false)]));
        refused(answer, 400, "INVALID_FIELD_ERR");
    }
    let standard = safe.key(&resource(&[7; 7500], true));
    let shown = super::resource_of(&safe.get(&format!("/keys/{standard}")));
    assert_eq!(shown["payload"], STANDARD.encode([7; 7500]));
    refused(safe.post("/keys", &collection(&[&resource(&[7; 7501], true)])), 400, "INVALID_FIELD_ERR");
    let root = safe.imported(&[5; 32]);
    assert!(super::resource_of(&safe.get(&format!("/keys/{root}"))).get("payload").is_none());
    let text = safe.get("/keys").text();
    assert!(!text.contains("payload") && !text.contains(&STANDARD.encode([5; 32])));
}

#[test]
fn material_comes_in_under_a_token_with_gcm_and_with_cbc() {
    let safe = Safe::new();
    let token = new_token(&safe);
    assert_eq!(token.nonce.len(), 12);
    for len in [16, 32] {
        let material = vec![u8::try_from(len).unwrap(); len];
        let key = safe.key(&under(&token, &material));
        let clear = safe.imported(&material);
        let ciphertext = safe.wrap(&key, b"data", &[]);
        assert_eq!(plaintext(&safe.unwrap(&clear, &ciphertext, &[]).expect(200)), b"data");
    }
    let material = [8; 32];
    let mut resource = under(&token, &material);
    resource["encryptionAlgorithm"] = "RSAES_OAEP_SHA_1".into();
    resource["payload"] = oaep(&token, &OAEP_SHA1_MGF1SHA1, &material).into();
    resource["encryptedNonce"] = cbc(&material, [4; 16], &token.nonce).into();
    resource["iv"] = STANDARD.encode([4; 16]).into();
    let key = safe.key(&resource);
    // The same for a new version.
    let mut version = under(&token, &[9; 32]);
    version.as_object_mut().unwrap().retain(|name, _| !matches!(&**name, "name" | "extractable"));
    safe.act(&key, "rotate", &version).expect(204);
}

#[test]
fn hpcs_takes_sha_1_unless_it_is_told_otherwise() {
    let safe = Safe::new();
    let guid = safe.sandbox.create_kms_instance("hpcs", KmsKind::Hpcs).unwrap();
    let parts = MasterKeySource::Parts(vec![KeyPart::generate(), KeyPart::generate()]);
    safe.sandbox.load_kms_master_key(&guid, &parts).unwrap();
    let ask =
        |method: &str, path: &str, body: &Value| safe.ask_as(&safe.token, &guid, method, path, body, &[]);
    ask("POST", "/import_token", &Value::Null).expect(200);
    let token = token(&ask("GET", "/import_token", &Value::Null).expect(200));
    let material = [6; 32];
    let resource = json!({
        "name": "imported", "extractable": false, "payload": oaep(&token, &OAEP_SHA1_MGF1SHA1, &material),
        "encryptedNonce": cbc(&material, [4; 16], &token.nonce), "iv": STANDARD.encode([4; 16]),
    });
    ask("POST", "/keys", &collection(&[&resource])).expect(201);
    refused(ask("POST", "/keys", &collection(&[&under(&token, &material)])), 400, "INVALID_FIELD_ERR");
    let mut told = under(&token, &material);
    told["encryptionAlgorithm"] = "RSAES_OAEP_SHA_256".into();
    ask("POST", "/keys", &collection(&[&told])).expect(201);
}

#[test]
fn a_wrong_nonce_is_told_from_a_wrong_iv() {
    let safe = Safe::new();
    let token = new_token(&safe);
    let material = [2; 32];
    let with = |name: &str, value: String| {
        let mut resource = under(&token, &material);
        resource[name] = value.into();
        safe.post("/keys", &collection(&[&resource]))
    };
    refused(with("encryptedNonce", gcm(&material, [3; 12], b"another one!")), 400, "INCORRECT_NONCE_ERR");
    refused(with("iv", STANDARD.encode([9; 12])), 400, "INCORRECT_NONCE_IV_ERR");
    refused(with("iv", STANDARD.encode([9; 13])), 400, "INVALID_FIELD_ERR");
    refused(with("payload", STANDARD.encode([9; 512])), 400, "INVALID_FIELD_ERR");
    refused(with("encryptionAlgorithm", "ROT13".to_owned()), 400, "INVALID_FIELD_ERR");
    refused(with("encryptedNonce", "%".to_owned()), 400, "INVALID_FIELD_ERR");
}

#[test]
fn a_token_ends_with_its_time_and_its_retrievals() {
    let mut safe = Safe::new();
    refused(safe.get("/import_token"), 409, "IMPORT_TOKEN_EXPIRED_ERR");
    for wrong in
        [json!({"expiration": 299}), json!({"maxAllowedRetrievals": 501}), json!({"expiration": "x"})]
    {
        refused(safe.post("/import_token", &wrong), 400, "INVALID_FIELD_ERR");
    }
    let made = body(&safe.post("/import_token", &json!({"maxAllowedRetrievals": 2})).expect(200));
    assert_eq!((&made["maxAllowedRetrievals"], &made["remainingRetrievals"]), (&json!(2), &json!(2)));
    assert!(made.get("payload").is_none() && made.get("nonce").is_none());
    assert_eq!(body(&safe.get("/import_token").expect(200))["remainingRetrievals"], 1);
    let token = token(&safe.get("/import_token").expect(200));
    refused(safe.get("/import_token"), 409, "IMPORT_TOKEN_EXPIRED_ERR");
    // It still takes material until its time is over.
    safe.key(&under(&token, &[1; 32]));
    safe.wait_s(601);
    refused(safe.post("/keys", &collection(&[&under(&token, &[1; 32])])), 409, "IMPORT_TOKEN_EXPIRED_ERR");

    safe.post("/import_token", &json!({"expiration": 86_400})).expect(200);
    safe.wait_s(86_000);
    safe.get("/import_token").expect(200);
    safe.post("/import_token", &json!({})).expect(200);
    refused(safe.post("/keys", &collection(&[&under(&token, &[1; 32])])), 400, "INVALID_FIELD_ERR");
}
