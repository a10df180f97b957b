//! Keys as the service shows them.

use serde_json::{Value, json};

use super::dates;
use super::instance::{AUTHORIZATION_MS, PURGE_AFTER_MS};
use super::model::{Key, KeyVersion, State};
use crate::clock::{DAY_MS, Millis, SECOND_MS, is_within};

/// A deleted key may be restored for this long.
pub(super) const RESTORABLE_MS: Millis = 30 * DAY_MS;
/// A deleted key may be purged after this long.
pub(super) const PURGE_REST_MS: Millis = 4 * 3600 * SECOND_MS;

pub(super) const KEY: &str = "application/vnd.ibm.kms.key+json";

pub(super) fn version(version: &KeyVersion) -> Value {
    json!({"id": version.id, "creationDate": dates::text(version.created_ms)})
}

/// All that may be known of a key, without its material.
pub(super) fn key(key: &Key, crn: &str, now_ms: Millis) -> Value {
    let mut out = json!({
        "type": KEY, "id": key.id, "name": key.name, "state": key.state.number(),
        "extractable": key.extractable, "imported": key.imported, "keyRingID": key.ring,
        "crn": format!("{crn}:key:{}", key.id),
        "algorithmType": "Deprecated", "algorithmMetadata": {"bitLength": "256", "mode": "Deprecated"},
        "algorithmBitSize": 256, "algorithmMode": "Deprecated",
        "creationDate": dates::text(key.created_ms), "createdBy": key.created_by,
        "lastUpdateDate": dates::text(key.updated_ms),
        "dualAuthDelete": dual_auth(key), "deleted": key.state == State::Destroyed,
    });
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[name] = value;
        }
    };
    let date = |at_ms: Millis| Value::from(dates::text(at_ms));
    let aliases: Vec<&str> = key.aliases.iter().map(|alias| alias.name.as_str()).collect();
    add("aliases", (!aliases.is_empty()).then(|| json!(aliases)));
    add("tags", (!key.tags.is_empty()).then(|| json!(key.tags)));
    add("description", key.description.clone().map(Value::from));
    add("expirationDate", key.expires_ms.map(date));
    add("lastRotateDate", key.rotated_ms.map(date));
    add("nonactiveStateReason", reason(key).map(Value::from));
    if !key.extractable {
        add("keyVersion", key.newest().map(version));
        add(
            "rotation",
            key.rotation.as_ref().map(
                |rotation| json!({"enabled": rotation.is_enabled, "interval_month": rotation.interval_month}),
            ),
        );
    }
    if let Some(deleted) = &key.deleted {
        let after = |by_ms: Millis| deleted.at_ms.saturating_add(by_ms);
        add("deletionDate", Some(date(deleted.at_ms)));
        add("deletedBy", Some(Value::from(deleted.by.clone())));
        add("restoreExpirationDate", Some(date(after(RESTORABLE_MS))));
        add("restoreAllowed", Some((after(RESTORABLE_MS) > now_ms && !key.has_expired(now_ms)).into()));
        add("purgeAllowed", Some((!is_within(PURGE_REST_MS, deleted.at_ms, now_ms)).into()));
        add("purgeAllowedFrom", Some(date(after(PURGE_REST_MS))));
        add("purgeScheduledOn", Some(date(after(PURGE_AFTER_MS))));
    }
    out
}

/// Why a key is in no state to be used, as the service numbers it: 1 disabled, 2 expired, 3 deleted.
fn reason(key: &Key) -> Option<u8> {
    match key.state {
        State::Active => None,
        State::Suspended => Some(1),
        State::Deactivated => Some(2),
        State::Destroyed => Some(3),
    }
}

fn dual_auth(key: &Key) -> Value {
    let mut out = json!({"enabled": key.is_dual_auth()});
    if key.is_dual_auth() {
        out["keySetForDeletion"] = key.deletion_asked.is_some().into();
        if let Some(mark) = &key.deletion_asked {
            out["authExpiration"] = dates::text(mark.at_ms.saturating_add(AUTHORIZATION_MS)).into();
        }
    }
    out
}
