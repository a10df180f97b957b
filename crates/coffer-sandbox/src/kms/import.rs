//! How key material comes in: as it is, or under an import token.
//!
//! A token is an RSA-4096 key and a nonce. The client encrypts the material under the public key (OAEP), and the nonce under the material:
//! by AES-GCM with 12 bytes of initialization vector, by AES-CBC with 16. The nonce shows that the client has the material and did not
//! copy an older request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_crypto::SecretBytes;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::answer::{Refusal, Reply};
use super::crypto::{self, Failed, OaepHash};
use super::dates;
use super::desk::{Desk, text};
use super::model::{ImportToken, Kind, Sealed};
use crate::clock::SECOND_MS;

/// Lengths of root-key material.
pub(super) const ROOT_LENS: &[usize] = &[16, 24, 32];
/// Bytes of a nonce.
const NONCE_LEN: usize = 12;
const TOKEN: &str = "import token";
/// No encoded payload is longer.
const PAYLOAD_LEN_MAX: usize = 16 * 1024;

fn number(
    body: &Map<String, Value>,
    name: &str,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().filter(|value| (least..=most).contains(value)).ok_or_else(|| {
            Refusal::field(name, format!("The field {name} is a number from {least} to {most}"))
        }),
    }
}

fn about(token: &ImportToken) -> Value {
    json!({
        "creationDate": dates::text(token.created_ms), "expirationDate": dates::text(token.expires_ms),
        "maxAllowedRetrievals": token.retrievals_max, "remainingRetrievals": token.retrievals_left,
    })
}

/// How many seconds a token is to live, and how often it may be retrieved.
pub(super) fn wishes(desk: &Desk<'_>) -> Result<(u64, u64), Refusal> {
    let body = desk.body()?;
    let lifetime_s = number(&body, "expiration", 600, 300, 86_400)?;
    let retrievals = number(&body, "maxAllowedRetrievals", 1, 1, 500)?;
    Ok((lifetime_s, retrievals))
}

pub(super) fn create(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let (lifetime_s, retrievals) = wishes(desk)?;
    let failed = || Refusal::internal("no RSA key could be made");
    let (private, public) = desk.rsa.take().ok_or_else(failed)?.map_err(|Failed| failed())?;
    let token = ImportToken {
        created_ms: desk.now_ms(),
        expires_ms: desk.now_ms().saturating_add(lifetime_s * SECOND_MS),
        retrievals_max: retrievals,
        retrievals_left: retrievals,
        private: desk.instance.seal_material(TOKEN, "private", &private),
        public: Sealed(public),
        nonce: Sealed(crypto::random::<NONCE_LEN>().to_vec()),
    };
    let answer = about(&token);
    desk.instance.settings_mut().import_token = Some(token);
    Ok(Reply::with(200, answer))
}

fn expired() -> Refusal {
    Refusal::new(409, "IMPORT_TOKEN_EXPIRED_ERR", "The import token has expired")
}

pub(super) fn get(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let (now_ms, kind) = (desk.now_ms(), desk.instance.kind);
    let is_live = |token: &ImportToken| token.expires_ms > now_ms && token.retrievals_left > 0;
    if !desk.instance.settings().import_token.as_ref().is_some_and(is_live) {
        return Err(expired());
    }
    let Some(token) = &mut desk.instance.settings_mut().import_token else { return Err(expired()) };
    token.retrievals_left -= 1;
    let mut answer = about(token);
    let payload = match kind {
        Kind::KeyProtect => STANDARD.encode(pem(&token.public)),
        Kind::Hpcs => token.public.base64(),
    };
    answer["payload"] = payload.into();
    answer["nonce"] = token.nonce.base64().into();
    Ok(Reply::with(200, answer))
}

fn pem(public: &Sealed) -> String {
    let text = public.base64();
    let mut out = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out += line;
        out += "\n";
        rest = after;
    }
    out + "-----END PUBLIC KEY-----\n"
}

/// Bytes of a field that is base64.
fn bytes(body: &Map<String, Value>, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let text = text(body, name, 1, PAYLOAD_LEN_MAX)?;
    let bytes = text.map(|text| STANDARD.decode(text)).transpose();
    bytes.map_err(|_| Refusal::field(name, format!("The field {name} is not base64")))
}

/// Whether the body brings material under an import token.
pub(super) fn is_under_token(body: &Map<String, Value>) -> bool {
    ["encryptedNonce", "iv", "encryptionAlgorithm"]
        .iter()
        .any(|name| body.get(*name).is_some_and(|one| !one.is_null()))
}

/// The material that a body brings, which it is taken out of.
pub(super) fn material(
    desk: &Desk<'_>,
    body: &mut Map<String, Value>,
    lens: &[usize],
) -> Result<SecretBytes, Refusal> {
    let under_token = is_under_token(body);
    let Some(Value::String(payload)) = body.remove("payload") else {
        return Err(Refusal::field("payload", "The field payload is base64"));
    };
    let payload = Zeroizing::new(payload);
    let not_base64 = |_| Refusal::field("payload", "The field payload is not base64");
    let payload = SecretBytes::new(STANDARD.decode(payload.as_bytes()).map_err(not_base64)?);
    let material = if under_token { under(desk, body, &payload)? } else { payload };
    let is_fit =
        if lens.is_empty() { (1..=7500).contains(&material.len()) } else { lens.contains(&material.len()) };
    if !is_fit {
        return Err(Refusal::field("payload", "The key material does not have a length that is allowed"));
    }
    Ok(material)
}

fn under(desk: &Desk<'_>, body: &Map<String, Value>, payload: &SecretBytes) -> Result<SecretBytes, Refusal> {
    let required = |name: &str| {
        bytes(body, name)?.ok_or_else(|| Refusal::field(name, format!("The field {name} is required")))
    };
    let (nonce, iv) = (required("encryptedNonce")?, required("iv")?);
    let default = match desk.instance.kind {
        Kind::KeyProtect => "RSAES_OAEP_SHA_256",
        Kind::Hpcs => "RSAES_OAEP_SHA_1",
    };
    let algorithm = text(body, "encryptionAlgorithm", 1, 64)?;
    let hash = match algorithm.as_deref().unwrap_or(default) {
        "RSAES_OAEP_SHA_256" => OaepHash::Sha256,
        "RSAES_OAEP_SHA_1" => OaepHash::Sha1,
        _ => {
            let message = "The encryption algorithm is RSAES_OAEP_SHA_256 or RSAES_OAEP_SHA_1";
            return Err(Refusal::field("encryptionAlgorithm", message));
        }
    };
    let token = desk.instance.settings().import_token.as_ref();
    let token = token.filter(|token| token.expires_ms > desk.now_ms()).ok_or_else(expired)?;
    let private = desk.instance.open_material(TOKEN, "private", &token.private).map_err(Refusal::internal)?;
    let material = crypto::rsa_open(&private, hash, payload.expose())
        .map_err(|Failed| Refusal::field("payload", "The payload was not encrypted with the import token"))?;
    let key = material.expose();
    let opened = match iv.len() {
        12 => crypto::gcm_open(key, &iv, &[], &nonce),
        16 => crypto::cbc_open(key, &iv, &nonce).or_else(|Failed| crypto::gcm_open_long(key, &iv, &nonce)),
        _ => return Err(Refusal::field("iv", "The initialization vector has 12 or 16 bytes")),
    };
    let opened = opened.map_err(|Failed| {
        let message = "The provided encrypted nonce was not encrypted with the provided iv";
        Refusal::new(400, "INCORRECT_NONCE_IV_ERR", message)
    })?;
    if !crypto::equal(opened.expose(), &token.nonce.0) {
        let message = "The encrypted nonce given does not match the existing record";
        return Err(Refusal::new(400, "INCORRECT_NONCE_ERR", message));
    }
    Ok(material)
}
