//! Policies of keys and of the instance.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::answer::{Refusal, Reply, collection, single};
use super::dates;
use super::desk::Desk;
use super::model::{DualAuth, InstancePolicy, Key, Rotation, Stamp, State};

const POLICY: &str = "application/vnd.ibm.kms.policy+json";
const MONTH_COUNT_MAX: u64 = 12;
const IP_COUNT_MAX: usize = 1000;

const DUAL_AUTH: &str = "dualAuthDelete";
const NETWORK: &str = "allowedNetwork";
const IP: &str = "allowedIP";
const METRICS: &str = "metrics";
const ACCESS: &str = "keyCreateImportAccess";
const ROTATION: &str = "rotation";
const INSTANCE_POLICIES: &[&str] = &[DUAL_AUTH, NETWORK, IP, METRICS, ACCESS, ROTATION];
const ACCESS_ATTRIBUTES: &[&str] =
    &["create_root_key", "create_standard_key", "import_root_key", "import_standard_key", "enforce_token"];

fn unknown_field(name: &str) -> Refusal {
    Refusal::body(format!("json: unknown field \"{name}\""))
}

fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| Refusal::field(name, format!("The field {name} is an object")))
}

fn only(object: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    object.keys().find(|name| !known.contains(&name.as_str())).map_or(Ok(()), |name| Err(unknown_field(name)))
}

fn enabled(object: &Map<String, Value>, default: Option<bool>) -> Result<bool, Refusal> {
    let given = match object.get("enabled") {
        None => default,
        Some(value) => value.as_bool(),
    };
    given.ok_or_else(|| Refusal::field("enabled", "The field enabled is true or false"))
}

fn months(object: &Map<String, Value>) -> Result<Option<u32>, Refusal> {
    let Some(value) = object.get("interval_month") else { return Ok(None) };
    let months = value.as_u64().filter(|months| (1..=MONTH_COUNT_MAX).contains(months));
    let months = months.and_then(|months| u32::try_from(months).ok());
    let wrong = || Refusal::field("interval_month", "The interval is 1 to 12 months");
    months.map(Some).ok_or_else(wrong)
}

/// A rotation policy as a body gives it.
pub(super) fn rotation(given: &Value, stamp: Stamp, before: Option<&Rotation>) -> Result<Rotation, Refusal> {
    let given = object(given, ROTATION)?;
    only(given, &["enabled", "interval_month"])?;
    let is_enabled = enabled(given, Some(true))?;
    let months = months(given)?.or(before.map(|before| before.interval_month));
    let required = || Refusal::field("interval_month", "The field interval_month is required");
    let interval_month = match months {
        Some(months) => months,
        None if is_enabled => return Err(required()),
        None => 1,
    };
    Ok(Rotation { stamp, is_enabled, interval_month })
}

/// A dual authorization policy as a body gives it. Once on, it stays on.
pub(super) fn dual_auth(given: &Value, stamp: Stamp, before: Option<&DualAuth>) -> Result<DualAuth, Refusal> {
    let given = object(given, DUAL_AUTH)?;
    only(given, &["enabled"])?;
    let is_enabled = enabled(given, None)?;
    if !is_enabled && before.is_some_and(|before| before.is_enabled) {
        let message = "The dual authorization policy of a key cannot be switched off";
        return Err(Refusal::field("dualAuthDelete.enabled", message));
    }
    Ok(DualAuth { stamp, is_enabled })
}

/// The policies that the instance gives to new keys.
pub(super) fn of_new_key(desk: &Desk<'_>) -> (Option<Rotation>, Option<DualAuth>) {
    let on = |name: &str| desk.instance.settings().policies.get(name).filter(|policy| policy.is_enabled);
    let months = on(ROTATION).and_then(|policy| months(&policy.attributes).ok().flatten());
    let rotation =
        months.map(|interval_month| Rotation { stamp: desk.stamp(None), is_enabled: true, interval_month });
    let dual_auth = on(DUAL_AUTH).map(|_| DualAuth { stamp: desk.stamp(None), is_enabled: true });
    (rotation, dual_auth)
}

/// Refuses what the policy about creating and importing does not allow.
pub(super) fn check_creation(
    desk: &Desk<'_>,
    extractable: bool,
    imported: bool,
    is_under_token: bool,
) -> Result<(), Refusal> {
    let policy = desk.instance.settings().policies.get(ACCESS).filter(|policy| policy.is_enabled);
    let Some(policy) = policy else { return Ok(()) };
    let is_on =
        |name: &str, default: bool| policy.attributes.get(name).and_then(Value::as_bool).unwrap_or(default);
    let name = match (imported, extractable) {
        (false, false) => "create_root_key",
        (false, true) => "create_standard_key",
        (true, false) => "import_root_key",
        (true, true) => "import_standard_key",
    };
    if !is_on(name, true) || (imported && !is_under_token && is_on("enforce_token", false)) {
        let message = "KeyCreateImportAccess instance policy does not allow this action";
        return Err(Refusal::new(409, "KEY_CREATE_IMPORT_ACCESS_ERR", message));
    }
    Ok(())
}

/// Refuses callers that the network policies keep out.
pub(super) fn check_network(desk: &Desk<'_>) -> Result<(), Refusal> {
    let policies = &desk.instance.settings().policies;
    let on = |name: &str| policies.get(name).filter(|policy| policy.is_enabled);
    let is_private_only = on(NETWORK).is_some_and(|policy| {
        policy.attributes.get("allowed_network").is_some_and(|one| one == "private-only")
    });
    let is_outside = on(IP).is_some_and(|policy| !is_allowed(desk.call.peer, &policy.attributes));
    if (is_private_only && !desk.call.is_private) || is_outside {
        return Err(Refusal::unauthorized());
    }
    Ok(())
}

/// Whether a caller is in one of the networks of a policy.
fn is_allowed(peer: Option<IpAddr>, attributes: &Map<String, Value>) -> bool {
    let ranges = attributes.get("allowed_ip").and_then(Value::as_array);
    let mut ranges = ranges.into_iter().flatten().filter_map(Value::as_str);
    peer.is_some_and(|peer| ranges.any(|range| is_within(peer, range)))
}

/// The network and the length of its prefix, of `10.0.0.0/8` or of a single address. `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(most);
    match (address.to_canonical(), prefix.checked_sub(96)) {
        _ if prefix > most => None,
        (canonical @ IpAddr::V4(_), Some(prefix)) if address.is_ipv6() => Some((canonical, prefix)),
        _ => Some((address, prefix)),
    }
}

fn is_within(peer: IpAddr, text: &str) -> bool {
    let Some((network, prefix)) = range(text) else { return false };
    match (peer, network) {
        (IpAddr::V4(peer), IpAddr::V4(network)) => {
            let differ = u32::from(peer) ^ u32::from(network);
            differ.checked_shr(32 - prefix).unwrap_or(0) == 0
        }
        (IpAddr::V6(peer), IpAddr::V6(network)) => {
            let differ = u128::from(peer) ^ u128::from(network);
            differ.checked_shr(128 - prefix).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn stamped(stamp: &Stamp, crn: &str) -> Value {
    json!({
        "id": stamp.id, "crn": format!("{crn}:policy:{}", stamp.id), "type": POLICY,
        "creationDate": dates::text(stamp.created_ms), "createdBy": stamp.created_by,
        "lastUpdateDate": dates::text(stamp.updated_ms), "updatedBy": stamp.updated_by,
    })
}

fn of_key(key: &Key, crn: &str, wanted: Option<&str>) -> Vec<Value> {
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted == name);
    let mut out = Vec::new();
    if let Some(policy) = key.dual_auth.as_ref().filter(|_| is_wanted(DUAL_AUTH)) {
        let mut shown = stamped(&policy.stamp, crn);
        shown[DUAL_AUTH] = json!({"enabled": policy.is_enabled});
        out.push(shown);
    }
    if let Some(policy) = key.rotation.as_ref().filter(|_| is_wanted(ROTATION)) {
        let mut shown = stamped(&policy.stamp, crn);
        shown[ROTATION] = json!({"enabled": policy.is_enabled, "interval_month": policy.interval_month});
        out.push(shown);
    }
    out
}

/// The policy that the query names, which must be one of these.
fn named(desk: &Desk<'_>, known: &[&str]) -> Result<Option<String>, Refusal> {
    let name = desk.parameter("policy");
    if name.as_deref().is_some_and(|name| !known.contains(&name)) {
        return Err(Refusal::parameter("policy", "There is no such policy"));
    }
    Ok(name)
}

pub(super) fn get(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let wanted = named(desk, &[ROTATION, DUAL_AUTH])?;
    let key = desk.key()?;
    let crn = format!("{}:key:{}", desk.crn, key.id);
    Ok(Reply::with(200, collection("policy", &of_key(key, &crn, wanted.as_deref()), json!({}))))
}

pub(super) fn put(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let wanted = named(desk, &[ROTATION, DUAL_AUTH])?;
    let resources = desk.resources()?;
    if resources.is_empty() {
        return Err(Refusal::body("a policy is needed"));
    }
    desk.require_state(&[State::Active, State::Suspended, State::Deactivated])?;
    for resource in &resources {
        only(resource, &["type", ROTATION, DUAL_AUTH])?;
        let given = (resource.get(ROTATION), resource.get(DUAL_AUTH));
        let name = match given {
            (Some(_), None) => ROTATION,
            (None, Some(_)) => DUAL_AUTH,
            _ => return Err(Refusal::body("each resource has one policy")),
        };
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            return Err(mismatch());
        }
        let key = desk.key()?;
        if let (Some(given), _) = given {
            desk.require_root()?;
            if key.imported {
                let message = "This root key was created with user-supplied key material: Key material is required to perform a 'rotate' action";
                return Err(Refusal::new(400, "KEY_PAYLOAD_REQ_ERR", message));
            }
            let stamp = desk.stamp(key.rotation.as_ref().map(|policy| &policy.stamp));
            let policy = rotation(given, stamp, key.rotation.as_ref())?;
            desk.key_mut()?.rotation = Some(policy);
        } else if let (_, Some(given)) = given {
            let stamp = desk.stamp(key.dual_auth.as_ref().map(|policy| &policy.stamp));
            let policy = dual_auth(given, stamp, key.dual_auth.as_ref())?;
            desk.key_mut()?.dual_auth = Some(policy);
        }
    }
    get(desk)
}

fn mismatch() -> Refusal {
    let message = "Data in body does not match data required by query parameter";
    Refusal::new(400, "BODY_QUERY_PARAM_MISMATCH_ERR", message)
}

pub(super) fn get_instance(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let wanted = named(desk, INSTANCE_POLICIES)?;
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    let policies = desk.instance.settings().policies.iter().filter(|(name, _)| is_wanted(name));
    let shown: Vec<Value> = policies
        .map(|(name, policy)| {
            let mut data = json!({"enabled": policy.is_enabled});
            if !policy.attributes.is_empty() {
                data["attributes"] = Value::Object(policy.attributes.clone());
            }
            json!({
                "policy_type": name, "policy_data": data,
                "creationDate": dates::text(policy.stamp.created_ms), "createdBy": policy.stamp.created_by,
                "lastUpdated": dates::text(policy.stamp.updated_ms), "updatedBy": policy.stamp.updated_by,
            })
        })
        .collect();
    Ok(Reply::with(200, collection("policy", &shown, json!({}))))
}

pub(super) fn put_instance(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let wanted = desk.parameter("policy");
    let resources = desk.resources()?;
    if resources.is_empty() {
        return Err(Refusal::body("a policy is needed"));
    }
    if wanted.is_some() && resources.len() != 1 {
        let message = "Only a single instance policy may be created at a time with the policy parameter";
        return Err(Refusal::new(400, "NUM_COLLECTION_RESOURCE_ERR", message));
    }
    let mut given: Vec<(String, bool, Map<String, Value>)> = Vec::new();
    for resource in &resources {
        only(resource, &["policy_type", "policy_data"])?;
        let name = resource.get("policy_type").and_then(Value::as_str).unwrap_or_default();
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            return Err(mismatch());
        }
        if !INSTANCE_POLICIES.contains(&name) {
            return Err(Refusal::field("policy_type", "There is no such policy"));
        }
        if given.iter().any(|(other, _, _)| other == name) {
            return Err(Refusal::body("only one of each policy can be created"));
        }
        let data = resource.get("policy_data").unwrap_or(&Value::Null);
        let data = object(data, "policy_data")?;
        only(data, &["enabled", "attributes"])?;
        let is_enabled = enabled(data, None)?;
        let attributes = attributes(name, is_enabled, data.get("attributes"))?;
        // Nobody could take it back who is where the caller is.
        if name == IP && is_enabled && !is_allowed(desk.call.peer, &attributes) {
            let peer = desk.call.peer.map_or_else(String::new, |peer| format!(", {peer},"));
            let message = format!("The address{peer} that this request comes from is not in allowed_ip");
            return Err(Refusal::field("allowed_ip", message));
        }
        given.push((name.to_owned(), is_enabled, attributes));
    }
    for (name, is_enabled, attributes) in given {
        let before = desk.instance.settings().policies.get(&name).map(|policy| &policy.stamp);
        let stamp = desk.stamp(before);
        let policy = InstancePolicy { stamp, is_enabled, attributes };
        desk.instance.settings_mut().policies.insert(name, policy);
    }
    Ok(Reply::nothing())
}

/// What is kept of the attributes of a policy: nothing, if it is off.
fn attributes(name: &str, is_enabled: bool, given: Option<&Value>) -> Result<Map<String, Value>, Refusal> {
    let none = Map::new();
    let given = match given {
        None | Some(Value::Null) => &none,
        Some(given) => object(given, "attributes")?,
    };
    let required = |what: &str| Refusal::field("attributes", format!("The attribute {what} is required"));
    match name {
        NETWORK => {
            only(given, &["allowed_network"])?;
            match given.get("allowed_network").and_then(Value::as_str) {
                Some("public-and-private" | "private-only") => {}
                None if !is_enabled => {}
                _ => return Err(required("allowed_network")),
            }
        }
        IP => {
            only(given, &["allowed_ip"])?;
            let list = given.get("allowed_ip").and_then(Value::as_array);
            let is_valid = list.is_some_and(|list| {
                (1..=IP_COUNT_MAX).contains(&list.len())
                    && list.iter().all(|one| one.as_str().is_some_and(|one| range(one).is_some()))
            });
            if is_enabled && !is_valid {
                return Err(required("allowed_ip"));
            }
        }
        ACCESS => {
            only(given, ACCESS_ATTRIBUTES)?;
            if let Some((name, _)) = given.iter().find(|(_, value)| !value.is_boolean()) {
                return Err(Refusal::field(name, format!("The attribute {name} is true or false")));
            }
        }
        ROTATION => {
            only(given, &["interval_month"])?;
            if is_enabled && months(given)?.is_none() {
                return Err(required("interval_month"));
            }
        }
        _ => only(given, &[])?,
    }
    Ok(if is_enabled { given.clone() } else { Map::new() })
}

pub(super) fn allowed_ip_port(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let port = desk.call.private_port;
    Ok(Reply::with(200, single("allowed_ip_metadata", json!({"private_endpoint_port": port}))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_within_their_networks() {
        let is = |peer: &str, range: &str| is_within(peer.parse().unwrap(), range);
        assert!(
            is("127.0.0.1", "127.0.0.1") && is("127.0.0.1", "127.0.0.0/8") && is("10.1.2.3", "0.0.0.0/0")
        );
        assert!(is("::1", "::1/128") && is("2001:db8::1", "2001:db8::/32") && is("::1", "::/0"));
        assert!(!is("127.0.0.1", "127.0.0.2") && !is("10.0.0.1", "11.0.0.0/8") && !is("::1", "0.0.0.0/0"));
        assert!(is("127.0.0.1", "::ffff:127.0.0.0/104") && !is("10.0.0.1", "::ffff:127.0.0.0/104"));
        assert!(is("::1", "::/0") && !is("127.0.0.1", "::ffff:127.0.0.0/129"));
        assert!(!is("127.0.0.1", "127.0.0.0/33") && !is("127.0.0.1", "here"));
    }
}
