//! What keys do: wrap, unwrap, rewrap, rotate, and what is done to them in passing.

use serde_json::json;

use super::answer::{Refusal, Reply};
use super::crypto;
use super::desk::Desk;
use super::instance::AUTHORIZATION_MS;
use super::model::{Mark, State};
use super::route::READABLE;
use super::{base64_of, import, material};
use crate::clock::{Millis, SECOND_MS, is_within};

const MINUTE_MS: Millis = 60 * SECOND_MS;
const HOUR_MS: Millis = 60 * MINUTE_MS;
/// A key is enabled no sooner after it was disabled, and restored no sooner after it was deleted.
pub(super) const REST_MS: Millis = 30 * SECOND_MS;

pub(super) fn too_early() -> Refusal {
    let message = "The key was updated recently. Wait and try again";
    Refusal::new(409, "REQ_TOO_EARLY_ERR", message)
}

pub(super) fn wrap(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let mut body = desk.body()?;
    let given = material::plaintext(&mut body)?;
    let aad = material::aad(desk, &body)?;
    desk.require_root()?;
    desk.require_state(&[State::Active])?;
    let made = given.is_none().then(crypto::random_material);
    let Some(text) = given.as_ref().or(made.as_ref()) else { return Err(Refusal::internal("wrap")) };
    let (ciphertext, version) = material::wrap(desk.instance, desk.key()?, &aad, text)?;
    let mut answer = json!({"ciphertext": ciphertext, "keyVersion": {"id": version}});
    if let Some(made) = &made {
        answer["plaintext"] = base64_of(made).into();
    }
    Ok(Reply::with(200, answer))
}

pub(super) fn unwrap(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let body = desk.body()?;
    let aad = material::aad(desk, &body)?;
    desk.require_root()?;
    desk.require_state(READABLE)?;
    let key = desk.key()?;
    let (text, version) = material::unwrap(desk.instance, key, &aad, &body)?;
    let mut answer = json!({"plaintext": base64_of(&text), "keyVersion": {"id": version.id}});
    if key.newest().is_some_and(|newest| newest.id != version.id) {
        let (ciphertext, newest) = material::wrap(desk.instance, key, &aad, &text)?;
        answer["ciphertext"] = ciphertext.into();
        answer["rewrappedKeyVersion"] = json!({"id": newest});
    }
    Ok(Reply::with(200, answer))
}

pub(super) fn rewrap(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let body = desk.body()?;
    let aad = material::aad(desk, &body)?;
    desk.require_root()?;
    desk.require_state(READABLE)?;
    let key = desk.key()?;
    let (text, version) = material::unwrap(desk.instance, key, &aad, &body)?;
    let (ciphertext, newest) = material::wrap(desk.instance, key, &aad, &text)?;
    let answer = json!({
        "ciphertext": ciphertext, "keyVersion": {"id": version.id}, "rewrappedKeyVersion": {"id": newest},
    });
    Ok(Reply::with(200, answer))
}

pub(super) fn rotate(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let mut body = desk.body()?;
    desk.require_root()?;
    desk.require_state(READABLE)?;
    let key = desk.key()?;
    let now_ms = desk.now_ms();
    if key.rotated_ms.is_some_and(|at_ms| is_within(HOUR_MS, at_ms, now_ms)) {
        let message = "This root key has been rotated within the last hour. Only one 'rotate' action per hour is permitted";
        return Err(Refusal::new(409, "KEY_ROTATION_NOT_PERMITTED", message));
    }
    let has_material = body.get("payload").is_some_and(|payload| !payload.is_null());
    let material = match (key.imported, has_material) {
        (true, true) => import::material(desk, &mut body, import::ROOT_LENS)?,
        (true, false) => {
            let message = "This root key was created with user-supplied key material: Key material is required to perform a 'rotate' action";
            return Err(Refusal::new(400, "KEY_PAYLOAD_REQ_ERR", message));
        }
        (false, true) => {
            return Err(Refusal::field(
                "payload",
                "This root key was created by the service, which makes its material",
            ));
        }
        (false, false) => crypto::random_material(),
    };
    let id = desk.key_id.clone();
    desk.instance.rotate(&id, now_ms, &material);
    Ok(Reply::nothing())
}

pub(super) fn enable(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    desk.require_root()?;
    desk.require_state(&[State::Suspended])?;
    let now_ms = desk.now_ms();
    let key = desk.key_mut()?;
    if key.disabled_ms.is_some_and(|at_ms| is_within(REST_MS, at_ms, now_ms)) {
        return Err(too_early());
    }
    key.state = if key.has_expired(now_ms) { State::Deactivated } else { State::Active };
    key.disabled_ms = None;
    key.updated_ms = now_ms;
    Ok(Reply::nothing())
}

pub(super) fn disable(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    desk.require_root()?;
    desk.require_state(&[State::Active])?;
    let now_ms = desk.now_ms();
    let key = desk.key_mut()?;
    key.state = State::Suspended;
    key.disabled_ms = Some(now_ms);
    key.updated_ms = now_ms;
    Ok(Reply::nothing())
}

fn require_dual_auth(desk: &Desk<'_>) -> Result<(), Refusal> {
    desk.require_state(&[State::Active, State::Suspended, State::Deactivated])?;
    if desk.key()?.is_dual_auth() {
        return Ok(());
    }
    let message = "The key is not dual auth enabled and cannot be set for deletion";
    Err(Refusal::new(409, "NOT_DUAL_AUTH_ERR", message))
}

/// The first of two authorizations to delete a key.
pub(super) fn ask_deletion(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    require_dual_auth(desk)?;
    let now_ms = desk.now_ms();
    let mark = Mark { by: desk.call.identity.to_owned(), at_ms: now_ms };
    let key = desk.key_mut()?;
    // Whoever asks first is the first; asking again, by whomever, does not make it later, unless a clock that was set back took it.
    if !key.deletion_asked.as_ref().is_some_and(|first| is_within(AUTHORIZATION_MS, first.at_ms, now_ms)) {
        key.deletion_asked = Some(mark);
    }
    Ok(Reply::nothing())
}

pub(super) fn unask_deletion(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    require_dual_auth(desk)?;
    desk.key_mut()?.deletion_asked = None;
    Ok(Reply::nothing())
}

/// Whether two users have authorized the deletion of a key, the caller being the second.
pub(super) fn is_authorized_twice(first: Option<&Mark>, second: &str, now_ms: Millis) -> bool {
    first.is_some_and(|first| first.by != second && is_within(AUTHORIZATION_MS, first.at_ms, now_ms))
}

/// Resources ask for the state of their keys whenever they use them, so there is nobody to be told.
pub(super) fn sync(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    desk.require_root()?;
    desk.require_state(&[State::Active, State::Suspended, State::Deactivated])?;
    let now_ms = desk.now_ms();
    let key = desk.key_mut()?;
    if key.synced_ms.is_some_and(|at_ms| is_within(HOUR_MS, at_ms, now_ms)) {
        return Err(too_early());
    }
    key.synced_ms = Some(now_ms);
    Ok(Reply::nothing())
}
