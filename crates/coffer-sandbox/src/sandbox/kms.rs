//! The key service of a region, for tests.

use coffer_crypto::SecretBytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::Sandbox;
use crate::error::SandboxError;
use crate::kms::{AuditEntry, AuditHead, Call, KmsKind, MasterKeySource};
use crate::switches::AadMode;

impl Sandbox {
    /// The URL of the key service, without `/api/v2`.
    #[must_use]
    pub fn kms_endpoint(&self) -> &str {
        &self.kms_endpoint
    }

    /// The URL of the private endpoint of the key service: the same service, let in by policies that keep the public endpoint out.
    #[must_use]
    pub fn kms_private_endpoint(&self) -> &str {
        &self.kms_private_endpoint
    }

    /// Makes an instance of the key service; returns its GUID. One of HPCS answers 503 until [`Self::load_kms_master_key`].
    ///
    /// # Errors
    /// The records cannot be written.
    pub fn create_kms_instance(&self, name: &str, kind: KmsKind) -> Result<String, SandboxError> {
        self.region.kms().create_instance(name, kind, self.now_ms())
    }

    /// Removes an instance of the key service with all its keys.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn delete_kms_instance(&self, guid: &str) -> Result<(), SandboxError> {
        self.region.kms().remove_instance(guid)
    }

    /// GUID and name of every instance of the key service.
    #[must_use]
    pub fn kms_instances(&self) -> Vec<(String, String)> {
        self.region.kms().instances()
    }

    /// Loads the master key of an instance of HPCS; returns its verification pattern. The first one is the one that the instance has from
    /// then on.
    ///
    /// # Errors
    /// It is another key than the instance has, or no key comes of the source.
    pub fn load_kms_master_key(&self, guid: &str, source: &MasterKeySource) -> Result<String, SandboxError> {
        self.region.kms().load(guid, source)
    }

    /// Takes the master key of an instance away: it answers 503 until the key is loaded again.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn unload_kms_master_key(&self, guid: &str) -> Result<(), SandboxError> {
        self.region.kms().unload(guid)
    }

    /// The CRN of an instance of the key service, or of a key in it.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn kms_crn(&self, guid: &str, key_id: Option<&str>) -> Result<String, SandboxError> {
        self.region.kms().crn(guid, key_id)
    }

    /// Makes a root key in an instance, from this material if there is some; returns its id.
    ///
    /// # Errors
    /// The instance refuses it.
    pub fn create_kms_root_key(
        &self,
        guid: &str,
        name: &str,
        material: Option<&[u8]>,
    ) -> Result<String, SandboxError> {
        let mut resource = json!({"name": name, "extractable": false});
        if let Some(material) = material {
            resource["payload"] = crate::kms::base64_of(&SecretBytes::new(material.to_vec())).into();
        }
        let body = json!({"metadata": {"collectionTotal": 1}, "resources": [resource]});
        let answer = self.ask_kms(guid, &Method::POST, "/keys", &body)?;
        let id = answer.pointer("/resources/0/id").and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| SandboxError::Refused { what: answer.to_string() })
    }

    /// The id of the key with this name in an instance, if it has one that is not deleted.
    ///
    /// # Errors
    /// The instance answers nothing.
    pub fn kms_key_id(&self, guid: &str, name: &str) -> Result<Option<String>, SandboxError> {
        let answer = self.ask_kms(guid, &Method::GET, "/keys", &Value::Null)?;
        let keys = answer["resources"].as_array().into_iter().flatten();
        let found = keys.filter(|key| key["name"] == name).find_map(|key| key["id"].as_str());
        Ok(found.map(str::to_owned))
    }

    /// Makes a call to an instance as its owner, past the network: the path is the one behind `/api/v2`.
    fn ask_kms(&self, guid: &str, method: &Method, path: &str, body: &Value) -> Result<Value, SandboxError> {
        let body = SecretBytes::new(body.to_string().into_bytes());
        let call = Call {
            method,
            path,
            query: "",
            headers: &HeaderMap::new(),
            body: body.expose(),
            guid,
            identity: "owner",
            allows: &|_, _| true,
            correlation: crate::random::uuid(),
            now_ms: self.now_ms(),
            peer: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            is_private: true,
            private_port: None,
            aad: AadMode::Honoured,
            registrations: &[],
        };
        let reply = self.region.kms().handle(&call);
        let answer = reply.body.unwrap_or_default();
        if reply.status >= 400 {
            return Err(SandboxError::Refused { what: answer.to_string() });
        }
        Ok(answer)
    }

    /// Checks the audit log of the key service, shows each entry, and gives the newest. With `noted`, the entry of that number must have
    /// that hash.
    ///
    /// # Errors
    /// The log is not as it was written.
    pub fn verify_kms_audit(
        &self,
        noted: Option<&AuditHead>,
        show: &mut dyn FnMut(&AuditEntry) -> Result<(), SandboxError>,
    ) -> Result<AuditHead, SandboxError> {
        self.region.kms().verify_audit(noted, show)
    }
}
