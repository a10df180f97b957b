//! To whom a token may go.

use coffer_format::slot::{KeyServiceKind, ServiceKey};

use super::place::{authority, host};

/// Ends of the names of hosts of IBM's key services.
const IBM_HOSTS: [&str; 4] =
    [".kms.cloud.ibm.com", ".kms.appdomain.cloud", ".hs-crypto.cloud.ibm.com", ".hs-crypto.appdomain.cloud"];

/// A host that its user says may be asked, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedHost(String);

impl TrustedHost {
    /// Takes `HOST`, `HOST:PORT` or a URL.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let authority = if text.contains("://") { authority(text) } else { text };
        Self(authority.trim_end_matches('/').to_ascii_lowercase())
    }

    fn is(&self, endpoint: &str) -> bool {
        let (whole, bare) = (authority(endpoint).to_ascii_lowercase(), host(endpoint).to_ascii_lowercase());
        self.0 == whole || self.0 == bare
    }
}

/// Whether the service of this kind at this URL may be sent a token.
pub(super) fn is_trusted(service: KeyServiceKind, endpoint: &str, trusted: &[TrustedHost]) -> bool {
    // What stands before an @ is no host, whatever it looks like.
    if authority(endpoint).contains('@') {
        return false;
    }
    let host = host(endpoint).to_ascii_lowercase();
    let is_ibm = service != KeyServiceKind::Local
        && endpoint.starts_with("https://")
        && IBM_HOSTS.iter().any(|end| host.strip_suffix(end).is_some_and(|name| !name.is_empty()));
    is_ibm || trusted.iter().any(|trusted| trusted.is(endpoint))
}

/// Where a service is asked: at the address that the slot names, or at the private one beside it.
pub(super) fn address(key: &ServiceKey, private: bool) -> String {
    let public = key.endpoint.trim_end_matches('/');
    let (authority, host) = (authority(public), host(public));
    if !private || host.starts_with("private.") || host.contains(".api.private.") {
        return public.to_owned();
    }
    let name = match key.service {
        KeyServiceKind::KeyProtect if host.ends_with(".kms.cloud.ibm.com") => format!("private.{authority}"),
        KeyServiceKind::KeyProtect | KeyServiceKind::Hpcs if host.contains(".api.") => {
            authority.replacen(".api.", ".api.private.", 1)
        }
        KeyServiceKind::Hpcs if host.starts_with("api.") => authority.replacen("api.", "api.private.", 1),
        _ => return public.to_owned(),
    };
    public.replacen(authority, &name, 1)
}
