//! Ciphertexts: what wrap gives and unwrap takes.
//!
//! A ciphertext is base64 of JSON with `ciphertext`, `iv`, `version` (`4.0.0`) and `handle`, the id of the key version. AES-GCM under the
//! material of the version protects it; the additional data are the strings of the caller, as [`list_bytes`] writes them. Nothing of the
//! instance goes in, so a key that was imported elsewhere from the same material opens it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_crypto::SecretBytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::answer::Refusal;
use super::crypto::{self, IV_LEN, list_bytes};
use super::desk::{Desk, texts};
use super::instance::Instance;
use super::model::{Key, KeyVersion, Kind};
use crate::switches::AadMode;

const VERSION: &str = "4.0.0";
/// No wrapped data are longer.
const PLAINTEXT_LEN_MAX: usize = 64 * 1024;
/// So many strings of additional data, each of so many characters.
const AAD_COUNT_MAX: usize = 255;

#[derive(Serialize, Deserialize)]
struct Envelope {
    ciphertext: String,
    iv: String,
    version: String,
    handle: String,
}

/// The additional data of a call, as bytes.
pub(super) fn aad(desk: &Desk<'_>, body: &Map<String, Value>) -> Result<Vec<u8>, Refusal> {
    let list = texts(body, "aad")?;
    if list.len() > AAD_COUNT_MAX || list.iter().any(|one| one.chars().count() > AAD_COUNT_MAX) {
        return Err(Refusal::field("aad", "The field aad has at most 255 texts of at most 255 characters"));
    }
    if list.is_empty() {
        return Ok(Vec::new());
    }
    match desk.call.aad {
        AadMode::Ignored if desk.instance.kind == Kind::Hpcs => Ok(Vec::new()),
        AadMode::Rejected if desk.instance.kind == Kind::Hpcs => {
            Err(Refusal::body("json: unknown field \"aad\""))
        }
        _ => Ok(list_bytes(&list)),
    }
}

/// The plaintext of a call, if it has one.
pub(super) fn plaintext(body: &mut Map<String, Value>) -> Result<Option<SecretBytes>, Refusal> {
    let wrong = |message: &str| Refusal::field("plaintext", message);
    match body.remove("plaintext") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let text = Zeroizing::new(text);
            let bytes = STANDARD.decode(text.as_bytes());
            let bytes = bytes.map(SecretBytes::new).map_err(|_| wrong("The plaintext is not base64"))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() > PLAINTEXT_LEN_MAX {
                return Err(wrong("The plaintext is too long"));
            }
            Ok(Some(bytes))
        }
        Some(_) => Err(wrong("The plaintext is base64")),
    }
}

/// Wraps bytes under the newest version of a key; gives the ciphertext and the id of the version.
pub(super) fn wrap(
    instance: &Instance,
    key: &Key,
    aad: &[u8],
    text: &SecretBytes,
) -> Result<(String, String), Refusal> {
    let version = key.newest().ok_or_else(|| Refusal::internal("a key without a version"))?;
    let material =
        instance.open_material(&key.id, &version.id, &version.material).map_err(Refusal::internal)?;
    let iv: [u8; IV_LEN] = crypto::random();
    let sealed = crypto::gcm_seal(material.expose(), &iv, aad, text.expose())
        .map_err(|crypto::Failed| Refusal::internal("wrap"))?;
    let envelope = Envelope {
        ciphertext: STANDARD.encode(sealed),
        iv: STANDARD.encode(iv),
        version: VERSION.to_owned(),
        handle: version.id.clone(),
    };
    let text = serde_json::to_vec(&envelope).map_err(Refusal::internal)?;
    Ok((STANDARD.encode(text), version.id.clone()))
}

fn unprocessable() -> Refusal {
    let message = "The provided ciphertext is invalid or corrupted";
    Refusal {
        target: Some(("field", "ciphertext".to_owned())),
        ..Refusal::new(422, "UNPROCESSABLE_CIPHERTEXT_ERR", message)
    }
}

/// Unwraps a ciphertext: with the version that it names, then with every other. Gives the bytes and the version that opened it.
pub(super) fn unwrap<'k>(
    instance: &Instance,
    key: &'k Key,
    aad: &[u8],
    body: &Map<String, Value>,
) -> Result<(SecretBytes, &'k KeyVersion), Refusal> {
    let text = match body.get("ciphertext") {
        Some(Value::String(text)) if !text.is_empty() => text,
        _ => return Err(Refusal::field("ciphertext", "The field ciphertext is required")),
    };
    let envelope = STANDARD.decode(text).map_err(|_| unprocessable())?;
    let envelope: Envelope = serde_json::from_slice(&envelope).map_err(|_| unprocessable())?;
    let sealed = STANDARD.decode(&envelope.ciphertext).map_err(|_| unprocessable())?;
    let iv = STANDARD.decode(&envelope.iv).map_err(|_| unprocessable())?;
    if envelope.version != VERSION {
        return Err(unprocessable());
    }
    let named = key.versions.iter().filter(|version| version.id == envelope.handle);
    let others = key.versions.iter().rev().filter(|version| version.id != envelope.handle);
    for version in named.chain(others) {
        let material =
            instance.open_material(&key.id, &version.id, &version.material).map_err(Refusal::internal)?;
        if let Ok(text) = crypto::gcm_open(material.expose(), &iv, aad, &sealed) {
            return Ok((text, version));
        }
    }
    Err(unprocessable())
}
