//! KMIP adapters and their client certificates, as metadata: there is no KMIP port, so no adapter ever has objects.

use http::Method;
use serde_json::{Value, json};

use super::answer::{Refusal, Reply, collection, single};
use super::dates;
use super::desk::{Desk, text};
use super::model::{Adapter, Certificate};
use super::rings::is_name;
use crate::random;

const NATIVE: &str = "native_1.0";
const CERTIFICATE_LEN_MAX: usize = 8192;
const CERTIFICATE_COUNT_MAX: usize = 200;

type Run = fn(&mut Desk<'_>) -> Result<Reply, Refusal>;

/// The endpoint behind `kmip_adapters`: its action, what it does, the function.
pub(super) fn endpoint(method: &Method, rest: &[&str]) -> Option<(&'static str, &'static str, Run)> {
    Some(match (method.as_str(), rest) {
        ("POST", []) => ("kms.kmip-management.create", "KMIP adapter could not be created", create),
        ("GET", []) => ("kms.kmip-management.list", "KMIP adapters could not be listed", list),
        ("GET", [_]) => ("kms.kmip-management.read", "KMIP adapter could not be retrieved", get),
        ("DELETE", [_]) => ("kms.kmip-management.delete", "KMIP adapter could not be deleted", delete),
        ("POST", [_, "certificates"]) => {
            ("kms.kmip-management.create", "KMIP client certificate could not be created", add_certificate)
        }
        ("GET", [_, "certificates"]) => {
            ("kms.kmip-management.list", "KMIP client certificates could not be listed", certificates)
        }
        ("GET", [_, "certificates", _]) => {
            ("kms.kmip-management.read", "KMIP client certificate could not be retrieved", certificate)
        }
        ("DELETE", [_, "certificates", _]) => {
            ("kms.kmip-management.delete", "KMIP client certificate could not be deleted", delete_certificate)
        }
        ("GET", [_, "kmip_objects"]) => {
            ("kms.kmip-management.list", "KMIP objects could not be listed", objects)
        }
        ("GET", [_, "kmip_objects", _]) => {
            ("kms.kmip-management.read", "KMIP object could not be retrieved", object)
        }
        ("DELETE", [_, "kmip_objects", _]) => {
            ("kms.kmip-management.delete", "KMIP object could not be deleted", object)
        }
        _ => return None,
    })
}

fn shown(adapter: &Adapter) -> Value {
    let stamp = &adapter.stamp;
    json!({
        "id": stamp.id, "name": adapter.name, "description": adapter.description.clone().unwrap_or_default(),
        "profile": adapter.profile, "profile_data": {"crk_id": adapter.root_key},
        "created_at": dates::text(stamp.created_ms), "created_by": stamp.created_by,
        "updated_at": dates::text(stamp.updated_ms), "updated_by": stamp.updated_by,
    })
}

fn shown_certificate(certificate: &Certificate, is_whole: bool) -> Value {
    let mut out = json!({
        "id": certificate.id, "name": certificate.name,
        "created_at": dates::text(certificate.created_ms), "created_by": certificate.created_by,
    });
    if is_whole {
        out["certificate"] = certificate.text.clone().into();
    }
    out
}

/// A page of a list, with the total if it is asked for.
fn paged(desk: &Desk<'_>, kind: &str, all: Vec<Value>) -> Result<Reply, Refusal> {
    let with_total = desk.parameter("totalCount").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let (page, total) = desk.page(all, 200)?;
    let more = if with_total { json!({"totalCount": total}) } else { json!({}) };
    Ok(Reply::with(200, collection(kind, &page, more)))
}

/// The adapter in the path, by id or name.
fn adapter<'a>(desk: &'a Desk<'_>) -> Result<&'a Adapter, Refusal> {
    let name = desk.names.first().map(String::as_str).unwrap_or_default();
    let adapters = desk.instance.adapters();
    let found = adapters.get(name).or_else(|| adapters.values().find(|adapter| adapter.name == name));
    found.ok_or_else(|| Refusal::new(404, "KMIP_ADAPTER_NOT_FOUND_ERR", "KMIP adapter does not exist"))
}

/// A name that the caller gives or that is made up.
fn new_name(desk: &Desk<'_>, given: Option<String>, prefix: &str) -> Result<String, Refusal> {
    let name = given.unwrap_or_else(|| format!("{prefix}_{}", random::hex(6)));
    let is_taken = desk.instance.adapters().values().any(|one| one.name == name);
    if !is_name(&name) {
        return Err(Refusal::field(
            "name",
            "A name has 2 to 90 letters, digits, '-' and '_', and is no UUID",
        ));
    }
    if is_taken && desk.names.is_empty() {
        return Err(Refusal::new(409, "KMIP_ADAPTER_NOT_UNIQUE_ERR", "There is a KMIP adapter of this name"));
    }
    Ok(name)
}

fn create(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let resource = desk.resource()?;
    let name = new_name(desk, text(&resource, "name", 1, 90)?, "kmip_adapter")?;
    let profile = text(&resource, "profile", 1, 90)?;
    if profile.as_deref() != Some(NATIVE) {
        return Err(Refusal::field("profile", format!("The profile is {NATIVE}")));
    }
    let root_key = resource.get("profile_data").and_then(|data| data.get("crk_id")).and_then(Value::as_str);
    let root_key = root_key.and_then(|id| desk.instance.find(id)).filter(|key| !key.extractable);
    let root_key = root_key.ok_or_else(|| {
        Refusal::field("profile_data.crk_id", "The adapter needs a root key of this instance")
    })?;
    let adapter = Adapter {
        stamp: desk.stamp(None),
        name,
        description: text(&resource, "description", 0, 240)?,
        profile: NATIVE.to_owned(),
        root_key: root_key.id.clone(),
        certificates: Vec::new(),
    };
    let shown = shown(&adapter);
    desk.instance.add_adapter(adapter);
    Ok(Reply::with(201, single("kmip_adapter", shown)))
}

fn list(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let wanted = desk.parameter("crk_id");
    let is_wanted = |adapter: &&Adapter| wanted.as_ref().is_none_or(|wanted| *wanted == adapter.root_key);
    let all = desk.instance.adapters().values().filter(is_wanted).map(shown).collect();
    paged(desk, "kmip_adapter", all)
}

fn get(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::with(200, single("kmip_adapter", shown(adapter(desk)?))))
}

fn delete(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let id = adapter(desk)?.stamp.id.clone();
    desk.instance.remove_adapter(&id);
    Ok(Reply::nothing())
}

fn add_certificate(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let resource = desk.resource()?;
    let name = new_name(desk, text(&resource, "name", 1, 90)?, "kmip_cert")?;
    let pem = text(&resource, "certificate", 1, CERTIFICATE_LEN_MAX)?.unwrap_or_default();
    if !pem.contains("-----BEGIN CERTIFICATE-----") || !pem.contains("-----END CERTIFICATE-----") {
        return Err(Refusal::field("certificate", "The certificate is in PEM"));
    }
    let there = adapter(desk)?;
    if there.certificates.iter().any(|one| one.name == name || one.text == pem) {
        let message = "There is such a KMIP client certificate";
        return Err(Refusal::new(409, "KMIP_CERT_NOT_UNIQUE_ERR", message));
    }
    if there.certificates.len() >= CERTIFICATE_COUNT_MAX {
        return Err(Refusal::new(409, "KMIP_CERT_QUOTA_ERR", "An adapter has at most 200 certificates"));
    }
    let certificate = Certificate {
        id: random::uuid(),
        name,
        created_ms: desk.now_ms(),
        created_by: desk.call.identity.to_owned(),
        text: pem,
    };
    let shown = shown_certificate(&certificate, true);
    change(desk, |adapter| adapter.certificates.push(certificate))?;
    Ok(Reply::with(201, single("kmip_client_certificate", shown)))
}

/// Changes the adapter in the path.
fn change(desk: &mut Desk<'_>, change: impl FnOnce(&mut Adapter)) -> Result<(), Refusal> {
    let before = adapter(desk)?;
    let (id, stamp) = (before.stamp.id.clone(), desk.stamp(Some(&before.stamp)));
    if let Some(adapter) = desk.instance.adapter_mut(&id) {
        change(adapter);
        adapter.stamp = stamp;
    }
    Ok(())
}

fn certificates(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let all = adapter(desk)?.certificates.iter().map(|one| shown_certificate(one, false)).collect();
    paged(desk, "kmip_client_certificate", all)
}

/// The certificate in the path, by id or name.
fn find_certificate<'a>(desk: &'a Desk<'_>) -> Result<&'a Certificate, Refusal> {
    let name = desk.names.last().map(String::as_str).unwrap_or_default();
    let found = adapter(desk)?.certificates.iter().find(|one| one.id == name || one.name == name);
    found
        .ok_or_else(|| Refusal::new(404, "KMIP_CERT_NOT_FOUND_ERR", "KMIP client certificate does not exist"))
}

fn certificate(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let shown = shown_certificate(find_certificate(desk)?, true);
    Ok(Reply::with(200, single("kmip_client_certificate", shown)))
}

fn delete_certificate(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    let id = find_certificate(desk)?.id.clone();
    change(desk, |adapter| adapter.certificates.retain(|one| one.id != id))?;
    Ok(Reply::nothing())
}

fn objects(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    adapter(desk)?;
    paged(desk, "kmip_object", Vec::new())
}

fn object(desk: &mut Desk<'_>) -> Result<Reply, Refusal> {
    adapter(desk)?;
    Err(Refusal::new(404, "KMIP_OBJECT_NOT_FOUND_ERR", "KMIP object does not exist"))
}
