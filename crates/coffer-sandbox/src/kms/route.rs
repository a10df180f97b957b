//! Which endpoint a call is for: its action, what it does in words, and the function that does it.

use http::Method;
use percent_encoding::percent_decode_str;

use super::answer::{Refusal, Reply};
use super::crypto::Failed;
use super::desk::{Call, Desk};
use super::instance::Instance;
use super::model::State;
use super::{actions, create, import, keys, kmip, list, policies, rings};

type Run = fn(&mut Desk<'_>) -> Result<Reply, Refusal>;

/// An endpoint.
struct Endpoint {
    /// The action that a caller needs, and that the audit log names.
    action: &'static str,
    /// What could not be done, in a refusal.
    what: &'static str,
    run: Run,
}

const fn to(action: &'static str, what: &'static str, run: Run) -> Endpoint {
    Endpoint { action, what, run }
}

/// What came of a call.
pub(super) struct Done {
    pub(super) action: &'static str,
    pub(super) what: &'static str,
    pub(super) key: Option<String>,
    pub(super) outcome: Result<Reply, Refusal>,
}

/// The parts of the path.
fn parts(call: &Call<'_>) -> Vec<String> {
    let parts = call.path.trim_matches('/').split('/');
    parts.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
}

/// The key in the path as the audit log names it: what has not the form of an id or an alias may be any text of the caller.
fn recorded(key: &str) -> &str {
    if rings::is_uuid(key) || rings::is_name(key) { key } else { "-" }
}

/// Whether a call needs a new RSA key, which takes long to make: it asks for an import token, as it must be asked for, and its caller may
/// have one.
pub(super) fn needs_rsa(call: &Call<'_>, instance: &mut Instance) -> bool {
    let parts = parts(call);
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    if call.method != Method::POST || words != ["import_token"] {
        return false;
    }
    let Some((endpoint, _, _)) = find(call.method, &words, None) else { return false };
    let mut desk = Desk { call, instance, crn: "", key_id: String::new(), names: Vec::new(), rsa: None };
    enter(&mut desk, &endpoint, false).and_then(|()| import::wishes(&desk)).is_ok()
}

/// Carries out a call.
pub(super) fn serve(
    call: &Call<'_>,
    instance: &mut Instance,
    crn: &str,
    rsa: Option<Result<(coffer_crypto::SecretBytes, Vec<u8>), Failed>>,
) -> Done {
    let parts = parts(call);
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    let deprecated = form_urlencoded::parse(call.query.as_bytes())
        .find(|(name, _)| name == "action")
        .map(|(_, value)| value.into_owned());
    let Some((endpoint, key, names)) = find(call.method, &words, deprecated.as_deref()) else {
        let refusal = Refusal::short(404, "There is no such endpoint");
        return Done { action: "kms.request", what: "", key: None, outcome: Err(refusal) };
    };
    let mut desk = Desk {
        call,
        instance,
        crn,
        key_id: key.unwrap_or_default().to_owned(),
        names: names.into_iter().map(str::to_owned).collect(),
        rsa,
    };
    let outcome = enter(&mut desk, &endpoint, key.is_some()).and_then(|()| (endpoint.run)(&mut desk));
    let key = (!desk.key_id.is_empty()).then(|| recorded(&desk.key_id).to_owned());
    Done { action: endpoint.action, what: endpoint.what, key, outcome }
}

/// Checks where the call comes from and what the caller may do, and finds the key that it names.
fn enter(desk: &mut Desk<'_>, endpoint: &Endpoint, names_key: bool) -> Result<(), Refusal> {
    policies::check_network(desk)?;
    let found = desk.instance.find(&desk.key_id).map(|key| (key.id.clone(), key.ring.clone()));
    if let Some((id, _)) = &found {
        desk.key_id.clone_from(id);
    }
    let key = found.as_ref().map(|(id, _)| id.as_str());
    if !(desk.call.allows)(endpoint.action, key) {
        return Err(Refusal::unauthorized());
    }
    let is_in_ring = |ring: &String| desk.ring().is_none_or(|wanted| wanted == ring);
    if names_key && !found.is_some_and(|(_, ring)| is_in_ring(&ring)) {
        return Err(Refusal::no_key());
    }
    Ok(())
}

type Found<'a> = (Endpoint, Option<&'a str>, Vec<&'a str>);

fn find<'a>(method: &Method, words: &[&'a str], deprecated: Option<&str>) -> Option<Found<'a>> {
    let endpoint = match (method.as_str(), words) {
        ("HEAD", ["keys"]) => to("kms.secrets.head", "Keys could not be counted", list::count),
        ("GET", ["keys"]) => to("kms.secrets.list", "Keys could not be listed", list::list),
        ("POST", ["keys"]) => to("kms.secrets.create", "Key could not be created", create::create),
        ("POST", ["keys_with_policy_overrides"]) => to(
            "kms.secrets-with-policy-overrides.create",
            "Key could not be created",
            create::create_with_policies,
        ),
        ("GET", ["keys", "registrations"]) => {
            to("kms.registrations.list", "Registrations could not be listed", rings::registrations)
        }
        ("GET", ["instance", "policies"]) => to(
            "kms.instance-policies.read",
            "Instance policies could not be retrieved",
            policies::get_instance,
        ),
        ("PUT", ["instance", "policies"]) => {
            to("kms.instance-policies.write", "Instance policy could not be created", policies::put_instance)
        }
        ("GET", ["instance", "allowed_ip_port"]) => to(
            "kms.instance-allowed-ip-port.read",
            "Allowed IP port could not be retrieved",
            policies::allowed_ip_port,
        ),
        ("POST", ["import_token"]) => {
            to("kms.import-token.create", "Import token could not be created", import::create)
        }
        ("GET", ["import_token"]) => {
            to("kms.import-token.read", "Import token could not be retrieved", import::get)
        }
        ("GET", ["key_rings"]) => to("kms.key-rings.list", "Key rings could not be listed", rings::list),
        ("POST", ["key_rings", ring]) => {
            return Some((
                to("kms.key-rings.create", "Key ring could not be created", rings::create),
                None,
                vec![ring],
            ));
        }
        ("DELETE", ["key_rings", ring]) => {
            return Some((
                to("kms.key-rings.delete", "Key ring could not be deleted", rings::delete),
                None,
                vec![ring],
            ));
        }
        (_, ["kmip_adapters", rest @ ..]) => {
            let (action, what, run) = kmip::endpoint(method, rest)?;
            return Some((to(action, what, run), None, rest.to_vec()));
        }
        (_, ["keys", id, rest @ ..]) => {
            let (endpoint, names) = of_key(method, rest, deprecated)?;
            return Some((endpoint, Some(id), names));
        }
        _ => return None,
    };
    Some((endpoint, None, Vec::new()))
}

fn of_key<'a>(
    method: &Method,
    rest: &[&'a str],
    deprecated: Option<&str>,
) -> Option<(Endpoint, Vec<&'a str>)> {
    let endpoint = match (method.as_str(), rest) {
        ("GET", []) => to("kms.secrets.read", "Key could not be retrieved", keys::get),
        ("GET", ["metadata"]) => {
            to("kms.secrets-metadata.read", "Key metadata could not be retrieved", keys::get_metadata)
        }
        ("PATCH", []) => to("kms.secrets.patch", "Key could not be updated", keys::patch),
        ("DELETE", []) => to("kms.secrets.delete", "Key could not be deleted", keys::delete),
        ("DELETE", ["purge"]) => to("kms.secrets.purge", "Key could not be purged", keys::purge),
        ("POST", ["restore"]) => to("kms.secrets.restore", "Key could not be restored", keys::restore),
        ("GET", ["versions"]) => {
            to("kms.secrets-key-versions.list", "Key versions could not be listed", keys::versions)
        }
        ("POST", ["actions", action]) => action_of(action)?,
        ("POST", []) => action_of(deprecated?)?,
        ("GET", ["policies"]) => to("kms.policies.read", "Policies could not be retrieved", policies::get),
        ("PUT", ["policies"]) => to("kms.policies.write", "Policy could not be created", policies::put),
        ("GET", ["registrations"]) => {
            to("kms.registrations.list", "Registrations could not be listed", rings::registrations)
        }
        ("POST" | "PUT" | "PATCH" | "DELETE", ["registrations", ..]) => {
            to("kms.registrations.write", "Registration could not be changed", rings::refuse_registration)
        }
        ("POST", ["aliases", alias]) => {
            return Some((
                to("kms.secrets-alias.create", "Alias could not be created", rings::add_alias),
                vec![alias],
            ));
        }
        ("DELETE", ["aliases", alias]) => {
            return Some((
                to("kms.secrets-alias.delete", "Alias could not be deleted", rings::delete_alias),
                vec![alias],
            ));
        }
        _ => return None,
    };
    Some((endpoint, Vec::new()))
}

fn action_of(name: &str) -> Option<Endpoint> {
    Some(match name {
        "wrap" => to("kms.secrets.wrap", "Key could not be wrapped", actions::wrap),
        "unwrap" => to("kms.secrets.unwrap", "Key could not be unwrapped", actions::unwrap),
        "rewrap" => to("kms.secrets.rewrap", "Key could not be rewrapped", actions::rewrap),
        "rotate" => to("kms.secrets.rotate", "Key could not be rotated", actions::rotate),
        "enable" => to("kms.secrets.enable", "Key could not be enabled", actions::enable),
        "disable" => to("kms.secrets.disable", "Key could not be disabled", actions::disable),
        "setKeyForDeletion" => {
            to("kms.secrets.setkeyfordeletion", "Key could not be set for deletion", actions::ask_deletion)
        }
        "unsetKeyForDeletion" => to(
            "kms.secrets.unsetkeyfordeletion",
            "Key could not be unset for deletion",
            actions::unask_deletion,
        ),
        "sync" => to("kms.secrets.sync", "Associated resources could not be synced", actions::sync),
        "restore" => to("kms.secrets.restore", "Key could not be restored", keys::restore),
        _ => return None,
    })
}

/// States in which key material may be read back.
pub(super) const READABLE: &[State] = &[State::Active, State::Deactivated];
