//! Keys as records: reading, moving, deleting, restoring, purging; their versions.

use serde_json::{Value, json};

use super::actions::{REST_MS, is_authorized_twice, too_early};
use super::answer::{Refusal, Reply, collection, single};
use super::desk::Desk;
use super::model::{Mark, State};
use super::show::{self, PURGE_REST_MS, RESTORABLE_MS};
use super::{base64_of, rings};
use crate::clock::is_within;

/// States in which a key is there.
const ALIVE: &[State] = &[State::Active, State::Suspended, State::Deactivated];

fn shown(desk: &Desk<'_>) -> Result<Value, Refusal> {
    Ok(show::key(desk.key()?, desk.crn, desk.now_ms()))
}

/// With the material of a standard key, while it is active.
pub(super) fn get(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let mut out = shown(desk)?;
    let key = desk.key()?;
    if key.extractable && key.state != State::Destroyed {
        let version = key.newest().ok_or_else(|| Refusal::internal("a key without a version"))?;
        let material = desk.instance.open_material(&key.id, &version.id, &version.material);
        out["payload"] = base64_of(&material.map_err(Refusal::internal)?).into();
    }
    Ok(Reply::with(200, single("key", out)))
}

pub(super) fn get_metadata(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::with(200, single("key", shown(desk)?)))
}

/// Moves a key to another ring.
pub(super) fn patch(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let body = desk.body()?;
    let Some(Value::String(ring)) = body.get("keyRingID") else {
        return Err(Refusal::field("keyRingID", "The field keyRingID is required"));
    };
    desk.require_state(ALIVE)?;
    rings::require(desk, ring)?;
    let now_ms = desk.now_ms();
    let key = desk.key_mut()?;
    key.ring.clone_from(ring);
    key.updated_ms = now_ms;
    Ok(Reply::with(200, single("key", shown(desk)?)))
}

pub(super) fn delete(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let is_forced = desk.flag("force")?.unwrap_or(false);
    desk.require_state(ALIVE)?;
    let (now_ms, identity) = (desk.now_ms(), desk.call.identity);
    let key = desk.key()?;
    if key.is_dual_auth() && !is_authorized_twice(key.deletion_asked.as_ref(), identity, now_ms) {
        let message = "Number of authorizations required to delete is not met";
        return Err(Refusal::new(409, "AUTHORIZATIONS_NOT_MET", message));
    }
    let mut protects = desk.call.registrations.iter().filter(|one| one.key_id == key.id).peekable();
    let is_protecting = protects.peek().is_some();
    if protects.any(|one| one.prevents_deletion) {
        let message =
            "The key cannot be deleted because it's protecting a cloud resource that has a retention policy";
        return Err(Refusal::new(409, "PREV_KEY_DEL_ERR", message));
    }
    if is_protecting && !is_forced {
        let message = "Key is protecting one or more cloud resources";
        return Err(Refusal::new(409, "PROTECTED_RESOURCE_ERR", message));
    }
    let key = desk.key_mut()?;
    key.state = State::Destroyed;
    key.deleted = Some(Mark { by: identity.to_owned(), at_ms: now_ms });
    key.deletion_asked = None;
    key.disabled_ms = None;
    key.updated_ms = now_ms;
    if desk.prefers("representation") {
        return Ok(Reply::with(200, single("key", shown(desk)?)));
    }
    Ok(Reply::nothing())
}

fn deleted(desk: &Desk<'_>) -> Result<Mark, Refusal> {
    let not_deleted = || Refusal::new(409, "KEY_ACTION_INVALID_STATE_ERR", "Key is not in a valid state");
    desk.key()?.deleted.clone().ok_or_else(not_deleted)
}

pub(super) fn restore(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let (deleted, now_ms) = (deleted(desk)?, desk.now_ms());
    if is_within(REST_MS, deleted.at_ms, now_ms) {
        return Err(too_early());
    }
    if deleted.at_ms.saturating_add(RESTORABLE_MS) <= now_ms {
        return Err(Refusal::new(400, "KEY_RESTORE_EXPIRED", "Key restoration has expired"));
    }
    let key = desk.key_mut()?;
    if key.has_expired(now_ms) {
        let message = "The action could not be performed on the key because it has expired";
        return Err(Refusal::new(400, "KEY_EXPIRED_ERR", message));
    }
    key.state = State::Active;
    key.deleted = None;
    key.updated_ms = now_ms;
    Ok(Reply::with(201, single("key", shown(desk)?)))
}

pub(super) fn purge(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let (deleted, now_ms) = (deleted(desk)?, desk.now_ms());
    if is_within(PURGE_REST_MS, deleted.at_ms, now_ms) {
        return Err(too_early());
    }
    let shown = shown(desk)?;
    drop(desk.instance.remove_key(&desk.key_id));
    if desk.prefers("representation") {
        return Ok(Reply::with(200, single("key", shown)));
    }
    Ok(Reply::nothing())
}

/// The newest first.
pub(super) fn versions(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let all_states = desk.flag("allKeyStates")?.unwrap_or(false);
    let with_total = desk.flag("totalCount")?.unwrap_or(false);
    if !all_states {
        desk.require_state(&[State::Active])?;
    }
    let all: Vec<Value> = desk.key()?.versions.iter().rev().map(show::version).collect();
    let (page, total) = desk.page(all, 200)?;
    let more = if with_total { json!({"totalCount": total}) } else { json!({}) };
    Ok(Reply::with(200, collection("key.version", &page, more)))
}
