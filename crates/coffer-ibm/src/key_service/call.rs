//! What is asked of a key service, and what it answers (Key Protect API v2, actions on keys).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_format::slot::{KeyServiceKind, ServiceKey};
use coffer_keys::{KeyError, ServiceAnswer};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::{KeyServices, told};

/// Longest id of a key; those of IBM have 36.
const ID_LEN_MAX: usize = 128;
/// State of a key that wraps and unwraps.
const ACTIVE: i64 = 1;

/// What a key service says about a root key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its id, where it was named by an alias.
    pub id: String,
    /// Its CRN.
    pub crn: Option<String>,
    /// Id of its newest version.
    pub version: Option<String>,
    /// The ring it is in.
    pub ring: Option<String>,
    /// Whether it wraps and unwraps.
    pub is_active: bool,
    /// Whether its material can be read: then it is no root key.
    pub is_extractable: bool,
}

#[derive(Deserialize)]
struct Version {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped {
    ciphertext: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unwrapped {
    #[serde(deserialize_with = "secret")]
    plaintext: Zeroizing<String>,
}

/// A ciphertext under the newest version of a root key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moved {
    ciphertext: String,
    #[serde(default)]
    key_version: Option<Version>,
    #[serde(default)]
    rewrapped_key_version: Option<Version>,
}

#[derive(Deserialize)]
struct Collection {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    id: String,
    #[serde(default)]
    crn: Option<String>,
    #[serde(default)]
    state: i64,
    #[serde(default)]
    extractable: bool,
    #[serde(default)]
    key_version: Option<Version>,
    #[serde(default, rename = "keyRingID")]
    key_ring_id: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

fn parse<'a, T: Deserialize<'a>>(key: &ServiceKey, body: &'a [u8]) -> Result<T, KeyError> {
    // What the parser says could repeat what it read.
    serde_json::from_slice(body).map_err(|_| {
        told(key, ServiceAnswer::Other, "its answer does not have the form it should".to_owned())
    })
}

impl KeyServices {
    /// Wraps `plain` for a root key, bound to `aad` where the service has such a thing.
    pub(super) fn wrap(&self, key: &ServiceKey, plain: &[u8], aad: &str) -> Result<String, KeyError> {
        let end = self.end();
        let text = Zeroizing::new(STANDARD.encode(plain));
        let bound = Zeroizing::new(format!(r#"{{"plaintext":"{}","aad":["{aad}"]}}"#, *text));
        let asked = self.ask(key, ("POST", "/actions/wrap"), bound.as_bytes(), end);
        let answer = match asked {
            Err(error) if may_refuse_aad(key.service, &error) => {
                let bare = Zeroizing::new(format!(r#"{{"plaintext":"{}"}}"#, *text));
                self.ask(key, ("POST", "/actions/wrap"), bare.as_bytes(), end)?
            }
            answer => answer?,
        };
        Ok(parse::<Wrapped>(key, &answer.body)?.ciphertext)
    }

    /// What [`Self::wrap`] wrapped.
    pub(super) fn unwrap(
        &self,
        key: &ServiceKey,
        (ciphertext, made_by): (&str, KeyServiceKind),
        aad: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let answer = self.act_on(key, "/actions/unwrap", (ciphertext, made_by), aad)?;
        let text = parse::<Unwrapped>(key, &answer)?.plaintext;
        let plain = STANDARD.decode(text.as_bytes());
        plain
            .map(Zeroizing::new)
            .map_err(|_| told(key, ServiceAnswer::Other, "what it unwrapped is not in base64".to_owned()))
    }

    /// The ciphertext under the newest version of the root key, and the versions before and after.
    pub(super) fn rewrap(
        &self,
        key: &ServiceKey,
        (ciphertext, made_by): (&str, KeyServiceKind),
        aad: &str,
    ) -> Result<(String, Option<String>, Option<String>), KeyError> {
        let answer = self.act_on(key, "/actions/rewrap", (ciphertext, made_by), aad)?;
        let moved: Moved = parse(key, &answer)?;
        let id = |version: Option<Version>| label(version.map(|version| version.id));
        Ok((moved.ciphertext, id(moved.key_version), id(moved.rewrapped_key_version)))
    }

    fn act_on(
        &self,
        key: &ServiceKey,
        action: &str,
        (ciphertext, made_by): (&str, KeyServiceKind),
        aad: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let end = self.end();
        let quoted = serde_json::Value::from(ciphertext).to_string();
        let bound = format!(r#"{{"ciphertext":{quoted},"aad":["{aad}"]}}"#);
        match self.ask(key, ("POST", action), bound.as_bytes(), end) {
            Err(error) if may_refuse_aad(made_by, &error) => {
                let bare = format!(r#"{{"ciphertext":{quoted}}}"#);
                // What counts is the answer for the way it is usually wrapped.
                Ok(self.ask(key, ("POST", action), bare.as_bytes(), end).map_err(|_| error)?.body)
            }
            answer => Ok(answer?.body),
        }
    }

    /// What the service says about a root key.
    ///
    /// # Errors
    /// [`KeyError::Service`].
    pub fn facts(&self, key: &ServiceKey) -> Result<KeyFacts, KeyError> {
        let answer = self.ask(key, ("GET", "/metadata"), b"", self.end())?;
        let found = parse::<Collection>(key, &answer.body)?.resources.into_iter().next();
        let found = found.ok_or_else(|| told(key, ServiceAnswer::KeyMissing, String::new()))?;
        check_id(&found.id, &key.key).map_err(|what| told(key, ServiceAnswer::Other, what.to_owned()))?;
        Ok(KeyFacts {
            id: found.id,
            crn: label(found.crn),
            version: label(found.key_version.map(|version| version.id)),
            ring: label(found.key_ring_id),
            is_active: found.state == ACTIVE,
            is_extractable: found.extractable,
        })
    }
}

/// Whether a text has the form of the id of a key, a UUID, which no alias has.
pub(super) fn is_id(text: &str) -> bool {
    let lens = [8, 4, 4, 4, 12];
    let parts: Vec<_> = text.split('-').collect();
    parts.len() == lens.len()
        && parts
            .iter()
            .zip(lens)
            .all(|(part, len)| part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A label that a service gives, for people alone; what is none is left out.
fn label(text: Option<String>) -> Option<String> {
    text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// The id goes into the slot and is shown to people. So it has to be plain, and the one that was asked about, unless that was an alias.
fn check_id(id: &str, asked: &str) -> Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.is_empty() || id.len() > ID_LEN_MAX || !id.bytes().all(is_plain) {
        return Err("it gives the key an id that is none: letters, digits, '-', '_' and '.' are expected");
    }
    if is_id(asked) && !id.eq_ignore_ascii_case(asked) {
        return Err("it answers about another key than the one that was asked for");
    }
    Ok(())
}

/// Whether a service that is not known to take additional data may have refused it; or may have when it wrapped, whoever unwraps now.
const fn may_refuse_aad(service: KeyServiceKind, error: &KeyError) -> bool {
    !matches!(service, KeyServiceKind::KeyProtect)
        && matches!(error, KeyError::Service { answer: ServiceAnswer::NotThisKey, .. })
}
