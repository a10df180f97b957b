//! Where a root key is, as people write it.

use coffer_format::slot::{KeyServiceKind, ServiceKey};

/// A root key in a key service, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub ServiceKey);

/// A text that names no root key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no root key: {reason}")]
pub struct PlaceError {
    text: String,
    reason: &'static str,
}

impl Place {
    /// Takes the CRN of a key, `crn:v1:…:kms:REGION:a/ACCOUNT:INSTANCE:key:KEY`, or `https://HOST/INSTANCE/KEY`, where KEY may be an
    /// alias. The host says of which kind the service is; `endpoint` takes the place of the one that follows from a CRN.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, endpoint: Option<&str>, ring: Option<&str>) -> Result<Self, PlaceError> {
        let refuse = |reason| PlaceError { text: text.to_owned(), reason };
        let mut key = if text.starts_with("crn:") {
            of_crn(text).map_err(refuse)?
        } else {
            of_url(text).map_err(refuse)?
        };
        if let Some(endpoint) = endpoint {
            endpoint.trim_end_matches('/').trim_end_matches("/api/v2").clone_into(&mut key.endpoint);
        }
        key.ring = ring.map(str::to_owned);
        Ok(Self(key))
    }
}

fn of_crn(text: &str) -> Result<ServiceKey, &'static str> {
    let parts: Vec<_> = text.split(':').collect();
    let ["crn", "v1", _, _, service, region, _, instance, "key", key] = parts[..] else {
        return Err("the CRN of a key looks like crn:v1:bluemix:public:kms:eu-de:a/ACCOUNT:INSTANCE:key:KEY");
    };
    if instance.is_empty() || key.is_empty() || region.is_empty() {
        return Err("its region, instance or key is empty");
    }
    let is_name =
        |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter));
    if !is_name(region) || !is_name(instance) {
        return Err("its region or instance holds characters that none has");
    }
    let (service, endpoint) = match service {
        "kms" => (KeyServiceKind::KeyProtect, format!("https://{region}.kms.cloud.ibm.com")),
        "hs-crypto" => {
            (KeyServiceKind::Hpcs, format!("https://{instance}.api.{region}.hs-crypto.appdomain.cloud"))
        }
        _ => return Err("its service is neither kms nor hs-crypto"),
    };
    Ok(ServiceKey {
        service,
        endpoint,
        instance: instance.to_owned(),
        key: key.to_owned(),
        crn: Some(text.to_owned()),
        version: None,
        region: Some(region.to_owned()),
        ring: None,
    })
}

fn of_url(text: &str) -> Result<ServiceKey, &'static str> {
    let form = "give a CRN, or https://HOST/INSTANCE/KEY";
    let (base, key) = text.trim_end_matches('/').rsplit_once('/').ok_or(form)?;
    let (endpoint, instance) = base.rsplit_once('/').ok_or(form)?;
    let is_whole = endpoint.starts_with("https://") || endpoint.starts_with("http://");
    if !is_whole || instance.is_empty() || key.is_empty() || host(endpoint).is_empty() {
        return Err(form);
    }
    let host = host(endpoint);
    let service = if host.ends_with(".kms.cloud.ibm.com") || host.ends_with(".kms.appdomain.cloud") {
        KeyServiceKind::KeyProtect
    } else if host.contains(".hs-crypto.") {
        KeyServiceKind::Hpcs
    } else {
        KeyServiceKind::Local
    };
    Ok(ServiceKey {
        service,
        endpoint: endpoint.to_owned(),
        instance: instance.to_owned(),
        key: key.to_owned(),
        crn: None,
        version: None,
        region: None,
        ring: None,
    })
}

/// Host and port of a URL.
pub(super) fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest)
}

/// Host of a URL, without the port.
pub(super) fn host(url: &str) -> &str {
    let authority = authority(url);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// A text as a segment of a path: what has a meaning there is escaped.
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
