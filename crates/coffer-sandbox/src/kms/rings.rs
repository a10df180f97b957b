//! Key rings, aliases, registrations.

use serde_json::{Value, json};

use super::answer::{Refusal, Reply, collection, single};
use super::dates;
use super::desk::Desk;
use super::model::{Alias, Registration, Ring, State};

/// The ring that is always there.
pub(super) const DEFAULT: &str = "default";
/// Aliases of one key, and of an instance.
pub(super) const ALIAS_COUNT_MAX: usize = 5;
const INSTANCE_ALIAS_COUNT_MAX: usize = 1000;
const RING_COUNT_MAX: usize = 50;

const RESERVED: &[&str] = &[
    "allowed_ip",
    "key",
    "keys",
    "metadata",
    "policy",
    "policies",
    "registration",
    "registrations",
    "ring",
    "rings",
    "rotate",
    "wrap",
    "unwrap",
    "rewrap",
    "version",
    "versions",
];

/// Whether a text has the form of a UUID.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a text is a name for people: letters, digits, `-` and `_`, and no UUID.
pub(super) fn is_name(text: &str) -> bool {
    (2..=90).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !is_uuid(text)
}

pub(super) fn alias_taken() -> Refusal {
    Refusal::new(409, "KEY_ALIAS_NOT_UNIQUE_ERR", "The alias is taken by a key of this instance")
}

pub(super) fn too_many_aliases() -> Refusal {
    Refusal::new(409, "KEY_ALIAS_QUOTA_ERR", "A key has at most five aliases")
}

/// Refuses an alias that is not allowed or is taken.
pub(super) fn check_alias(desk: &Desk<'_>, alias: &str) -> Result<(), Refusal> {
    if !is_name(alias) || RESERVED.contains(&alias) {
        let message = "An alias has 2 to 90 letters, digits, '-' and '_', is no UUID and no reserved word";
        return Err(Refusal::field("alias", message));
    }
    let mut all = desk.instance.keys().values().flat_map(|key| &key.aliases);
    if all.clone().any(|other| other.name == alias) {
        return Err(alias_taken());
    }
    if all.nth(INSTANCE_ALIAS_COUNT_MAX - 1).is_some() {
        return Err(Refusal::new(409, "KEY_ALIAS_QUOTA_ERR", "An instance has at most 1000 aliases"));
    }
    Ok(())
}

fn name(desk: &Desk<'_>) -> Result<String, Refusal> {
    desk.names.first().cloned().ok_or_else(|| Refusal::short(404, "There is no such endpoint"))
}

pub(super) fn add_alias(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let alias = name(desk)?;
    desk.require_state(&[State::Active, State::Suspended, State::Deactivated])?;
    check_alias(desk, &alias)?;
    let made = Alias { name: alias, created_ms: desk.now_ms(), created_by: desk.call.identity.to_owned() };
    if desk.key()?.aliases.len() >= ALIAS_COUNT_MAX {
        return Err(too_many_aliases());
    }
    let shown = json!({
        "keyId": desk.key_id, "alias": made.name, "createdBy": made.created_by,
        "creationDate": dates::text(made.created_ms),
    });
    desk.key_mut()?.aliases.push(made);
    Ok(Reply::with(201, single("alias", shown)))
}

pub(super) fn delete_alias(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let alias = name(desk)?;
    if !desk.key()?.aliases.iter().any(|one| one.name == alias) {
        return Err(Refusal::new(404, "KEY_ALIAS_NOT_FOUND_ERR", "The key does not have this alias"));
    }
    desk.key_mut()?.aliases.retain(|one| one.name != alias);
    Ok(Reply::nothing())
}

/// Refuses a ring that is not there.
pub(super) fn require(desk: &Desk<'_>, ring: &str) -> Result<(), Refusal> {
    if ring == DEFAULT || desk.instance.rings().contains_key(ring) {
        return Ok(());
    }
    Err(Refusal::new(404, "KEY_RING_NOT_FOUND_ERR", "Key ring does not exist"))
}

pub(super) fn list(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let with_total = desk.flag("totalCount")?.unwrap_or(false);
    let own = desk.instance.rings().iter().map(|(id, ring)| {
        json!({"id": id, "creationDate": dates::text(ring.created_ms), "createdBy": ring.created_by})
    });
    let all: Vec<Value> = std::iter::once(json!({"id": DEFAULT})).chain(own).collect();
    let (page, total) = desk.page(all, 100)?;
    let more = if with_total { json!({"totalCount": total}) } else { json!({}) };
    Ok(Reply::with(200, collection("key_ring", &page, more)))
}

pub(super) fn create(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let id = name(desk)?;
    let is_valid = (2..=100).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !is_uuid(&id);
    if !is_valid {
        return Err(Refusal::parameter(
            "id",
            "A key ring id has 2 to 100 letters, digits and '-', and is no UUID",
        ));
    }
    if require(desk, &id).is_ok() {
        return Err(Refusal::new(409, "KEY_RING_NOT_UNIQUE_ERR", "The key ring is there"));
    }
    if desk.instance.rings().len() + 1 >= RING_COUNT_MAX {
        return Err(Refusal::new(409, "KEY_RING_QUOTA_ERR", "An instance has at most 50 key rings"));
    }
    let ring = Ring { created_ms: desk.now_ms(), created_by: desk.call.identity.to_owned() };
    let shown = json!({"id": id, "creationDate": dates::text(ring.created_ms), "createdBy": ring.created_by});
    desk.instance.add_ring(&id, ring);
    Ok(Reply::with(201, single("key_ring", shown)))
}

/// A ring with keys stays; with force, deleted keys move to the default ring.
pub(super) fn delete(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let id = name(desk)?;
    let is_forced = desk.flag("force")?.unwrap_or(false);
    if id == DEFAULT {
        return Err(Refusal::parameter("id", "The default key ring stays"));
    }
    require(desk, &id)?;
    let held: Vec<(String, State)> = desk
        .instance
        .keys()
        .values()
        .filter(|key| key.ring == id)
        .map(|key| (key.id.clone(), key.state))
        .collect();
    if held.iter().any(|(_, state)| *state != State::Destroyed || !is_forced) {
        return Err(Refusal::new(409, "KEY_RING_NOT_EMPTY_ERR", "The key ring holds keys"));
    }
    for (key, _) in held {
        if let Some(key) = desk.instance.key_mut(&key) {
            DEFAULT.clone_into(&mut key.ring);
        }
    }
    desk.instance.remove_ring(&id);
    Ok(Reply::nothing())
}

fn registration(desk: &Desk<'_>, one: &Registration) -> Value {
    let key = desk.instance.key(&one.key_id);
    json!({
        "keyId": one.key_id, "keyName": key.map(|key| &key.name), "resourceCrn": one.resource_crn,
        "createdBy": one.created_by, "creationDate": dates::text(one.created_ms),
        "updatedBy": one.created_by, "lastUpdated": dates::text(one.created_ms),
        "description": one.description, "preventKeyDeletion": one.prevents_deletion,
        "keyVersion": key.and_then(|key| key.newest()).map(super::show::version),
    })
}

/// Of one key, or of all.
pub(super) fn registrations(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let with_total = desk.flag("totalCount")?.unwrap_or(false);
    let prevents = desk.flag("preventKeyDeletion")?;
    let pattern = desk.parameter("urlEncodedResourceCRNQuery");
    let is_wanted = |one: &&Registration| {
        let is_of_key = match desk.key_id.as_str() {
            "" => desk.instance.key(&one.key_id).is_some(),
            id => one.key_id == id,
        };
        is_of_key
            && prevents.is_none_or(|wanted| one.prevents_deletion == wanted)
            && pattern.as_ref().is_none_or(|pattern| crn_fits(pattern, &one.resource_crn))
    };
    let all: Vec<Value> =
        desk.call.registrations.iter().filter(is_wanted).map(|one| registration(desk, one)).collect();
    let (page, total) = desk.page(all, 200)?;
    let more = if with_total { json!({"totalCount": total}) } else { json!({}) };
    Ok(Reply::with(200, collection("registration", &page, more)))
}

/// `*` stands for any text.
fn crn_fits(pattern: &str, crn: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = crn.strip_prefix(first) else { return false };
    let Some(last) = pattern.rsplit_once('*').map(|(_, last)| last) else { return rest.is_empty() };
    let middle: Vec<&str> = pieces.collect();
    for piece in &middle[..middle.len().saturating_sub(1)] {
        match rest.find(piece) {
            Some(place) => rest = &rest[place + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

pub(super) fn refuse_registration(_: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let message = "This action can only be done by a service to service call";
    Err(Refusal::new(403, "SERVICE_ONLY_ERR", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_in_a_crn_stand_for_anything() {
        let crn = "crn:v1:a:b::bucket:vault";
        for pattern in ["*", crn, "crn:*", "*:vault", "crn:*:bucket:*", "*a:b*vault"] {
            assert!(crn_fits(pattern, crn), "{pattern}");
        }
        for pattern in ["", "crn", "*:other", "crn:*x*vault", "v1:*"] {
            assert!(!crn_fits(pattern, crn), "{pattern}");
        }
    }
}
