//! The key service: requests written by hand, and what the reference says of each.

mod access;
mod actions;
mod alone;
mod import;
mod lists;
mod master;
mod policies;
mod states;
mod storage;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_sandbox::{KmsKind, Policy, Role, Sandbox, SandboxOptions};
use serde_json::{Value, json};

use super::client::{Answer, send, token};

/// A region with one instance of Key Protect, and a token of the owner.
pub(crate) struct Safe {
    pub(crate) sandbox: Sandbox,
    pub(crate) guid: String,
    token: String,
}

impl Safe {
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::start(&SandboxOptions::default()).unwrap();
        let guid = sandbox.create_kms_instance("keys", KmsKind::KeyProtect).unwrap();
        let token = token(&sandbox, sandbox.api_key());
        Self { sandbox, guid, token }
    }

    /// Waits on the clock of the region; tokens last longer than any wait.
    pub(crate) fn wait_s(&mut self, seconds: u64) {
        self.sandbox.advance(Duration::from_secs(seconds)).unwrap();
        self.token = token(&self.sandbox, self.sandbox.api_key());
    }

    pub(crate) fn wait_days(&mut self, days: u64) {
        self.wait_s(days * 86_400);
    }

    /// A request of the owner, with a body unless that is null, and further headers.
    pub(crate) fn with(&self, method: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        self.ask_as(&self.token, &self.guid, method, path, body, headers)
    }

    pub(crate) fn ask_as(
        &self,
        token: &str,
        guid: &str,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("Authorization", &*bearer), ("Bluemix-Instance", guid)];
        all.extend_from_slice(headers);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.sandbox.kms_endpoint(), method, &format!("/api/v2{path}"), &all, body.as_bytes())
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.with(method, path, body, &[])
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, body)
    }

    pub(crate) fn act(&self, key: &str, action: &str, body: &Value) -> Answer {
        self.post(&format!("/keys/{key}/actions/{action}"), body)
    }

    /// Makes a key and gives its id.
    pub(crate) fn key(&self, resource: &Value) -> String {
        let answer = self.post("/keys", &collection(&[resource])).expect(201);
        resource_of(&answer)["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn root_key(&self) -> String {
        self.key(&json!({"name": "root", "extractable": false}))
    }

    pub(crate) fn imported(&self, material: &[u8]) -> String {
        self.key(&json!({"name": "imported", "extractable": false, "payload": STANDARD.encode(material)}))
    }

    pub(crate) fn wrap(&self, key: &str, text: &[u8], aad: &[&str]) -> String {
        let answer =
            self.act(key, "wrap", &json!({"plaintext": STANDARD.encode(text), "aad": aad})).expect(200);
        body(&answer)["ciphertext"].as_str().unwrap().to_owned()
    }

    pub(crate) fn unwrap(&self, key: &str, ciphertext: &str, aad: &[&str]) -> Answer {
        self.act(key, "unwrap", &json!({"ciphertext": ciphertext, "aad": aad}))
    }

    /// A token of a new identity.
    pub(crate) fn other(&self, policies: &[Policy]) -> String {
        let id = self.sandbox.create_service_id("other", policies).unwrap();
        token(&self.sandbox, &self.sandbox.create_api_key(&id).unwrap())
    }

    pub(crate) fn manager(&self) -> String {
        self.other(&[Policy::role(Role::Manager)])
    }
}

/// The envelope of a request.
pub(crate) fn collection(resources: &[&Value]) -> Value {
    json!({
        "metadata": {"collectionType": "application/vnd.ibm.kms.key+json", "collectionTotal": resources.len()},
        "resources": resources,
    })
}

pub(crate) fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// The one resource of an answer.
pub(crate) fn resource_of(answer: &Answer) -> Value {
    let body = body(answer);
    assert_eq!(body["metadata"]["collectionTotal"], 1, "{body}");
    body["resources"][0].clone()
}

pub(crate) fn plaintext(answer: &Answer) -> Vec<u8> {
    STANDARD.decode(body(answer)["plaintext"].as_str().unwrap()).unwrap()
}

/// A refusal in the full shape, with its code.
#[track_caller]
pub(crate) fn refused(answer: Answer, status: u16, code: &str) -> Value {
    let answer = answer.expect(status);
    let error = resource_of(&answer);
    assert_eq!(body(&answer)["metadata"]["collectionType"], "application/vnd.ibm.kms.error+json");
    assert_eq!(error["reasons"][0]["code"], code, "{error}");
    assert_eq!(error["reasons"][0]["status"], status);
    assert!(error["errorMsg"].as_str().unwrap().contains(code), "{error}");
    error
}

/// A refusal in the short shape.
#[track_caller]
pub(crate) fn refused_shortly(answer: Answer, status: u16) {
    let answer = answer.expect(status);
    let error = resource_of(&answer);
    assert!(error["errorMsg"].is_string() && error["reasons"].is_null(), "{error}");
    assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
}
