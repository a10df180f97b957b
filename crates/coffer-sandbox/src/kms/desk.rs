//! A call, and what the endpoint that carries it out gets to see.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::answer::Refusal;
use super::audit::AuditEntry;
use super::dates;
use super::instance::Instance;
use super::model::{Key, Registration, Stamp, State};
use crate::clock::Millis;
use crate::random;
use crate::switches::AadMode;

/// Whether the caller may do an action, on the key of this id if there is one.
pub(crate) type Allows<'a> = &'a dyn Fn(&str, Option<&str>) -> bool;

/// A call whose caller is known.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    /// The path behind `/api/v2`, still encoded.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The instance that the call names.
    pub(crate) guid: &'a str,
    pub(crate) identity: &'a str,
    pub(crate) allows: Allows<'a>,
    pub(crate) correlation: String,
    pub(crate) now_ms: Millis,
    /// Where the caller is.
    pub(crate) peer: Option<IpAddr>,
    /// The call came in through the private endpoint.
    pub(crate) is_private: bool,
    /// The port of the private endpoint.
    pub(crate) private_port: Option<u16>,
    /// What HPCS does with additional authenticated data.
    pub(crate) aad: AadMode,
    /// The cloud resources that keys protect.
    pub(crate) registrations: &'a [Registration],
}

/// An entry of the audit log, with what is known before the call is carried out.
pub(super) fn entry(guid: &str, identity: &str, action: &str, now_ms: Millis) -> AuditEntry {
    AuditEntry {
        number: 0,
        time: dates::text(now_ms),
        instance: guid.to_owned(),
        identity: identity.to_owned(),
        action: action.to_owned(),
        key: None,
        status: 200,
        code: None,
        correlation: String::new(),
        count: 1,
        note: None,
    }
}

/// What an endpoint works with.
pub(super) struct Desk<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) instance: &'a mut Instance,
    /// The CRN of the instance, up to where that of a key goes on.
    pub(super) crn: &'a str,
    /// The id of the key in the path, or of the one that was made.
    pub(super) key_id: String,
    /// Further names in the path.
    pub(super) names: Vec<String>,
    pub(super) rsa: Option<Result<(coffer_crypto::SecretBytes, Vec<u8>), super::crypto::Failed>>,
}

impl Desk<'_> {
    pub(super) fn now_ms(&self) -> Millis {
        self.call.now_ms
    }

    /// The key in the path.
    pub(super) fn key(&self) -> Result<&Key, Refusal> {
        self.instance.key(&self.key_id).ok_or_else(Refusal::no_key)
    }

    /// The key in the path, to be changed.
    pub(super) fn key_mut(&mut self) -> Result<&mut Key, Refusal> {
        self.instance.key_mut(&self.key_id).ok_or_else(Refusal::no_key)
    }

    pub(super) fn require_root(&self) -> Result<(), Refusal> {
        if self.key()?.extractable {
            let message = "Requested action can only be completed with a root key";
            return Err(Refusal::new(400, "KEY_ROOT_REQ_ERR", message));
        }
        Ok(())
    }

    /// The key must be in one of these states.
    pub(super) fn require_state(&self, states: &[State]) -> Result<(), Refusal> {
        let state = self.key()?.state;
        if states.contains(&state) {
            return Ok(());
        }
        if state == State::Destroyed {
            return Err(Refusal::new(410, "KEY_DELETED_ERR", "Key has already been deleted"));
        }
        Err(Refusal::new(409, "KEY_ACTION_INVALID_STATE_ERR", "Key is not in a valid state"))
    }

    /// A query parameter; an empty one counts as absent.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.call.query.as_bytes())
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.into_owned())
    }

    /// A parameter that is yes or no.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.parameter(name)
            .map(|text| match text.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(Refusal::parameter(name, format!("The {name} parameter is true or false"))),
            })
            .transpose()
    }

    /// A parameter that is a number between two others.
    pub(super) fn number(
        &self,
        name: &str,
        default: usize,
        least: usize,
        most: usize,
    ) -> Result<usize, Refusal> {
        let Some(text) = self.parameter(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| {
            Refusal::parameter(name, format!("The {name} parameter is a number from {least} to {most}"))
        })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.call.headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
    }

    /// What the caller wants back: with `minimal` as little as possible.
    pub(super) fn prefers(&self, what: &str) -> bool {
        self.header("prefer").is_some_and(|text| text.eq_ignore_ascii_case(&format!("return={what}")))
    }

    /// The ring that the caller names.
    pub(super) fn ring(&self) -> Option<&str> {
        self.header("x-kms-key-ring")
    }

    /// The body as an object. No body is an empty one.
    pub(super) fn body(&self) -> Result<Map<String, Value>, Refusal> {
        if self.call.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Map::new());
        }
        match serde_json::from_slice(self.call.body) {
            Ok(Value::Object(body)) => Ok(body),
            Ok(Value::Null) => Ok(Map::new()),
            Ok(_) => Err(Refusal::body("an object is needed")),
            // The text of the parser may quote the body, which may hold a key.
            Err(_) => Err(Refusal::body("it is not JSON")),
        }
    }

    /// The resources of a collection in the body, whose number must be the one that it says.
    pub(super) fn resources(&self) -> Result<Vec<Map<String, Value>>, Refusal> {
        if self.call.body.is_empty() {
            return Err(Refusal::new(400, "NO_BODY_ERR", "Missing body in request"));
        }
        let body = self.body()?;
        let Some(Value::Array(resources)) = body.get("resources") else {
            return Err(Refusal::body("resources are needed"));
        };
        let metadata = body.get("metadata").and_then(Value::as_object).filter(|one| !one.is_empty());
        let Some(total) =
            metadata.and_then(|metadata| metadata.get("collectionTotal")).and_then(Value::as_u64)
        else {
            return Err(Refusal::body("metadata with collectionTotal are needed"));
        };
        if u64::try_from(resources.len()) != Ok(total) {
            let message = "Collection total does not match number of resources";
            return Err(Refusal::new(400, "COLLECTION_TOTAL_MISMATCH_ERR", message));
        }
        let objects = resources.iter().map(|one| one.as_object().cloned());
        objects.collect::<Option<_>>().ok_or_else(|| Refusal::body("each resource is an object"))
    }

    /// The one resource in the body.
    pub(super) fn resource(&self) -> Result<Map<String, Value>, Refusal> {
        let mut resources = self.resources()?;
        if resources.len() != 1 {
            return Err(Refusal::body("one resource is needed"));
        }
        resources.pop().ok_or_else(|| Refusal::body("one resource is needed"))
    }

    /// That the caller sets something now.
    pub(super) fn stamp(&self, before: Option<&Stamp>) -> Stamp {
        let (identity, now_ms) = (self.call.identity, self.now_ms());
        Stamp {
            id: before.map_or_else(random::uuid, |before| before.id.clone()),
            created_ms: before.map_or(now_ms, |before| before.created_ms),
            created_by: before.map_or(identity, |before| &before.created_by).to_owned(),
            updated_ms: now_ms,
            updated_by: identity.to_owned(),
        }
    }

    /// The page of a list that the caller asks for.
    pub(super) fn page<T>(&self, all: Vec<T>, default: usize) -> Result<(Vec<T>, usize), Refusal> {
        let limit = self.number("limit", default, 1, 5000)?;
        let offset = self.number("offset", 0, 0, usize::MAX)?;
        let count = all.len();
        Ok((all.into_iter().skip(offset).take(limit).collect(), count))
    }
}

/// A text in a resource, within these lengths in characters. Absent and null are the same.
pub(super) fn text(
    resource: &Map<String, Value>,
    name: &str,
    least: usize,
    most: usize,
) -> Result<Option<String>, Refusal> {
    match resource.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if (least..=most).contains(&text.chars().count()) => Ok(Some(text.clone())),
        Some(_) => {
            Err(Refusal::field(name, format!("The field {name} is a text of {least} to {most} characters")))
        }
    }
}

/// A list of texts in a resource.
pub(super) fn texts(resource: &Map<String, Value>, name: &str) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::field(name, format!("The field {name} is a list of texts"));
    match resource.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            list.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// Yes or no in a resource.
pub(super) fn yes_or_no(resource: &Map<String, Value>, name: &str) -> Result<Option<bool>, Refusal> {
    match resource.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Refusal::field(name, format!("The field {name} is true or false"))),
    }
}
