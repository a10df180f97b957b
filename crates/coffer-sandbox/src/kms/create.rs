//! Making keys and importing them.

use serde_json::{Map, Value};

use super::answer::{Refusal, Reply, single};
use super::desk::{Desk, text, texts, yes_or_no};
use super::model::{Alias, DualAuth, Key, Rotation, State};
use super::{base64_of, crypto, dates, import, policies, rings, show};
use crate::random;

const NAME_LEN_MAX: usize = 90;
const TAG_COUNT_MAX: usize = 30;

pub(super) fn create(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let mut resource = desk.resource()?;
    for policy in ["rotation", "dualAuthDelete"] {
        if resource.contains_key(policy) {
            return Err(Refusal::body(format!("json: unknown field \"{policy}\"")));
        }
    }
    let (rotation, dual_auth) = policies::of_new_key(desk);
    make(desk, &mut resource, rotation, dual_auth)
}

/// The policies stand in the resource, and those of the instance do not count.
pub(super) fn create_with_policies(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let mut resource = desk.resource()?;
    let stamp = desk.stamp(None);
    let rotation =
        resource.get("rotation").map(|given| policies::rotation(given, stamp, None)).transpose()?;
    let dual_auth = match resource.get("dualAuthDelete") {
        Some(given) => Some(policies::dual_auth(given, desk.stamp(None), None)?),
        None => None,
    };
    if rotation.is_some() && yes_or_no(&resource, "extractable")? == Some(true) {
        let message = "Requested action can only be completed with a root key";
        return Err(Refusal::new(400, "KEY_ROOT_REQ_ERR", message));
    }
    make(desk, &mut resource, rotation, dual_auth)
}

fn make(
    desk: &mut Desk<'_>,
    resource: &mut Map<String, Value>,
    rotation: Option<Rotation>,
    dual_auth: Option<DualAuth>,
) -> Result<Reply, Refusal> {
    let mut key = described(desk, resource)?;
    let imported = resource.get("payload").is_some_and(|payload| !payload.is_null());
    policies::check_creation(desk, key.extractable, imported, import::is_under_token(resource))?;
    let material = if imported {
        let lens = if key.extractable { &[] } else { import::ROOT_LENS };
        import::material(desk, resource, lens)?
    } else {
        crypto::random_material()
    };
    key.imported = imported;
    // Rotation policies are for keys that the service makes.
    key.rotation = rotation.filter(|_| !imported && !key.extractable);
    key.dual_auth = dual_auth;
    key.versions.push(desk.instance.version(&key.id, &key.id, desk.now_ms(), &material));
    let mut shown = show::key(&key, desk.crn, desk.now_ms());
    if key.extractable && !desk.prefers("minimal") {
        shown["payload"] = base64_of(&material).into();
    }
    desk.key_id.clone_from(&key.id);
    desk.instance.add_key(key);
    Ok(Reply::with(201, single("key", shown)))
}

/// A key as its resource describes it, without material.
fn described(desk: &Desk<'_>, resource: &Map<String, Value>) -> Result<Key, Refusal> {
    if resource.get("type").is_some_and(|kind| kind != show::KEY) {
        return Err(Refusal::field("type", format!("The field type is {}", show::KEY)));
    }
    let required = |name: &str| Refusal::field(name, format!("The field {name} is required"));
    let name = text(resource, "name", 2, NAME_LEN_MAX)?.ok_or_else(|| required("name"))?;
    let tags = texts(resource, "tags")?;
    if tags.len() > TAG_COUNT_MAX || tags.iter().any(|tag| tag.chars().count() > TAG_COUNT_MAX) {
        return Err(Refusal::field("tags", "A key has at most 30 tags of at most 30 characters"));
    }
    let expires_ms = match text(resource, "expirationDate", 1, 64)? {
        None => None,
        Some(date) => {
            let at_ms = dates::parse(&date)
                .ok_or_else(|| Refusal::field("expirationDate", "The expiration date is in RFC 3339"))?;
            if at_ms <= desk.now_ms() {
                return Err(Refusal::field("expirationDate", "The expiration date is in the past"));
            }
            Some(at_ms)
        }
    };
    let ring = desk.ring().unwrap_or(rings::DEFAULT);
    rings::require(desk, ring)?;
    let mut aliases: Vec<Alias> = Vec::new();
    for alias in texts(resource, "aliases")? {
        rings::check_alias(desk, &alias)?;
        if aliases.iter().any(|other| other.name == alias) {
            return Err(rings::alias_taken());
        }
        aliases.push(Alias {
            name: alias,
            created_ms: desk.now_ms(),
            created_by: desk.call.identity.to_owned(),
        });
    }
    if aliases.len() > rings::ALIAS_COUNT_MAX {
        return Err(rings::too_many_aliases());
    }
    Ok(Key {
        id: random::uuid(),
        name,
        aliases,
        description: text(resource, "description", 0, 240)?,
        tags,
        state: State::Active,
        extractable: yes_or_no(resource, "extractable")?.unwrap_or(true),
        imported: false,
        ring: ring.to_owned(),
        created_ms: desk.now_ms(),
        created_by: desk.call.identity.to_owned(),
        updated_ms: desk.now_ms(),
        rotated_ms: None,
        expires_ms,
        versions: Vec::new(),
        rotation: None,
        dual_auth: None,
        deletion_asked: None,
        deleted: None,
        disabled_ms: None,
        synced_ms: None,
    })
}
