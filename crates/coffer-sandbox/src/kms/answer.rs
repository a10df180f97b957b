//! Answers and refusals in the shape that the service gives them.

use serde_json::{Value, json};

use super::model::Kind;

const ABOUT: &str = "https://cloud.ibm.com/apidocs/key-protect";

/// What a caller gets.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// `None` is no body at all.
    pub(crate) body: Option<Value>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Reply {
    pub(super) fn with(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), headers: Vec::new() }
    }

    /// 204.
    pub(super) fn nothing() -> Self {
        Self { status: 204, body: None, headers: Vec::new() }
    }
}

/// A collection: its type, its members, and more about it.
pub(super) fn collection(kind: &str, members: &[Value], more: Value) -> Value {
    let mut metadata = json!({
        "collectionType": format!("application/vnd.ibm.kms.{kind}+json"), "collectionTotal": members.len(),
    });
    if let (Some(all), Value::Object(more)) = (metadata.as_object_mut(), more) {
        all.extend(more);
    }
    json!({"metadata": metadata, "resources": members})
}

/// A collection of one.
pub(super) fn single(kind: &str, member: Value) -> Value {
    collection(kind, &[member], json!({}))
}

/// Why a call was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// `None`: the short form, with a message only.
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
    /// The kind and the name of what was wrong.
    pub(crate) target: Option<(&'static str, String)>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code: Some(code), message: message.into(), target: None }
    }

    pub(super) fn field(name: &str, message: impl Into<String>) -> Self {
        let target = Some(("field", name.to_owned()));
        Self { target, ..Self::new(400, "INVALID_FIELD_ERR", message) }
    }

    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        let target = Some(("parameter", name.to_owned()));
        Self { target, ..Self::new(400, "INVALID_QUERY_PARAM_ERR", message) }
    }

    pub(super) fn body(message: impl std::fmt::Display) -> Self {
        let text = "Invalid body data was passed. Please ensure the data passed had valid formatting with no invalid characters";
        Self::new(400, "BAD_BODY_ERR", format!("{text}: {message}"))
    }

    pub(super) fn no_key() -> Self {
        Self::new(404, "KEY_NOT_FOUND_ERR", "Key does not exist")
    }

    /// 401 in the short form, which is all that the service says to those whom it does not know or does not let.
    pub(crate) fn unauthorized() -> Self {
        let message = "The user does not have access to the specified resource".to_owned();
        Self { status: 401, code: None, message, target: None }
    }

    /// In the short form.
    pub(crate) fn short(status: u16, message: &str) -> Self {
        Self { status, code: None, message: message.to_owned(), target: None }
    }

    /// The service itself failed; `what` is for its own log and says no secret.
    pub(super) fn internal(what: impl std::fmt::Display) -> Self {
        Self::short(500, &format!("key service: {what}"))
    }

    /// The body, for a call that was to do `what`.
    pub(crate) fn answer(&self, what: &str) -> Reply {
        let phrase = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Error");
        let Some(code) = self.code else {
            let error = json!({"errorMsg": format!("{phrase}: {}", self.message)});
            return Reply::with(self.status, collection("error", &[error], json!({})));
        };
        let mut reason =
            json!({"code": code, "message": self.message, "status": self.status, "moreInfo": ABOUT});
        if let Some((kind, name)) = &self.target {
            reason["target"] = json!({"type": kind, "name": name});
        }
        let text = format!("{phrase}: {what}. Please see `reasons` for more details ({code})");
        let error = json!({"errorMsg": text, "reasons": [reason]});
        Reply::with(self.status, collection("error", &[error], json!({})))
    }
}

/// The service part of a CRN.
pub(super) fn service_name(kind: Kind) -> &'static str {
    match kind {
        Kind::KeyProtect => "kms",
        Kind::Hpcs => "hs-crypto",
    }
}
