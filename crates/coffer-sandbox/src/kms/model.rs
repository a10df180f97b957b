//! What an instance holds.
//!
//! Each row is sealed as a whole under the master key of the instance, and key material a second time within its row, so that material is
//! in memory in the clear only while an action uses it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::{DAY_MS, Millis};

/// What an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Key Protect: the provider holds the master key.
    KeyProtect,
    /// Hyper Protect Crypto Services: the owner loads the master key.
    Hpcs,
}

/// Sealed bytes, as base64 in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed(pub(super) Vec<u8>);

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The states of NIST SP 800-57 that a key can be in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Active,
    Suspended,
    Deactivated,
    Destroyed,
}

impl State {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Active => 1,
            Self::Suspended => 2,
            Self::Deactivated => 3,
            Self::Destroyed => 5,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) name: String,
    pub(super) created_ms: Millis,
    pub(super) created_by: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeyVersion {
    pub(super) id: String,
    pub(super) created_ms: Millis,
    pub(super) material: Sealed,
}

/// Who set something, and when it was set first and last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) id: String,
    pub(super) created_ms: Millis,
    pub(super) created_by: String,
    pub(super) updated_ms: Millis,
    pub(super) updated_by: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rotation {
    pub(super) stamp: Stamp,
    pub(super) is_enabled: bool,
    pub(super) interval_month: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DualAuth {
    pub(super) stamp: Stamp,
    pub(super) is_enabled: bool,
}

/// An authorization to delete, or a deletion: by whom and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) by: String,
    pub(super) at_ms: Millis,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) aliases: Vec<Alias>,
    pub(super) description: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) state: State,
    /// `true`: a standard key, whose material may leave the service.
    pub(super) extractable: bool,
    pub(super) imported: bool,
    pub(super) ring: String,
    pub(super) created_ms: Millis,
    pub(super) created_by: String,
    pub(super) updated_ms: Millis,
    pub(super) rotated_ms: Option<Millis>,
    pub(super) expires_ms: Option<Millis>,
    /// The oldest first. There is always one.
    pub(super) versions: Vec<KeyVersion>,
    pub(super) rotation: Option<Rotation>,
    pub(super) dual_auth: Option<DualAuth>,
    /// The first of two authorizations to delete.
    pub(super) deletion_asked: Option<Mark>,
    pub(super) deleted: Option<Mark>,
    pub(super) disabled_ms: Option<Millis>,
    pub(super) synced_ms: Option<Millis>,
}

/// A month of a rotation policy.
pub(super) const MONTH_MS: Millis = 30 * DAY_MS;

impl Key {
    pub(super) fn newest(&self) -> Option<&KeyVersion> {
        self.versions.last()
    }

    pub(super) fn is_dual_auth(&self) -> bool {
        self.dual_auth.as_ref().is_some_and(|policy| policy.is_enabled)
    }

    pub(super) fn has_expired(&self, now_ms: Millis) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }

    /// When the rotation policy asks for a new version.
    pub(super) fn rotation_due_ms(&self) -> Option<Millis> {
        let rotation = self.rotation.as_ref().filter(|rotation| rotation.is_enabled)?;
        Some(self.rotation_since_ms()?.saturating_add(u64::from(rotation.interval_month) * MONTH_MS))
    }

    /// From when on the months of the rotation policy count.
    pub(super) fn rotation_since_ms(&self) -> Option<Millis> {
        let rotation = self.rotation.as_ref().filter(|rotation| rotation.is_enabled)?;
        Some(rotation.stamp.updated_ms.max(self.rotated_ms.unwrap_or(0)))
    }

    /// After a clock was set back: the months of the rotation policy count from now on.
    pub(super) fn restart_rotation(&mut self, now_ms: Millis) {
        self.rotated_ms = self.rotated_ms.map(|at_ms| at_ms.min(now_ms));
        if let Some(rotation) = &mut self.rotation {
            rotation.stamp.updated_ms = rotation.stamp.updated_ms.min(now_ms);
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ring {
    pub(super) created_ms: Millis,
    pub(super) created_by: String,
}

/// An instance policy; the data are as they were given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstancePolicy {
    pub(super) stamp: Stamp,
    pub(super) is_enabled: bool,
    pub(super) attributes: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImportToken {
    pub(super) created_ms: Millis,
    pub(super) expires_ms: Millis,
    pub(super) retrievals_max: u64,
    pub(super) retrievals_left: u64,
    /// The private half, sealed.
    pub(super) private: Sealed,
    /// The public half as `SubjectPublicKeyInfo`.
    pub(super) public: Sealed,
    pub(super) nonce: Sealed,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Certificate {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created_ms: Millis,
    pub(super) created_by: String,
    pub(super) text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Adapter {
    pub(super) stamp: Stamp,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) profile: String,
    pub(super) root_key: String,
    pub(super) certificates: Vec<Certificate>,
}

/// What there is one of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) policies: BTreeMap<String, InstancePolicy>,
    pub(super) import_token: Option<ImportToken>,
}

/// A cloud resource that a key protects.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) key_id: String,
    pub(crate) resource_crn: String,
    pub(crate) created_by: String,
    pub(crate) created_ms: Millis,
    pub(crate) description: String,
    /// Something keeps the resource from being deleted, so its key must stay too.
    pub(crate) prevents_deletion: bool,
}
