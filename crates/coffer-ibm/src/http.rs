//! One request, one answer.
//!
//! Redirections are not followed: a service that sends a token elsewhere is not the one that was asked. Bodies are bounded.
//! Bodies that go out are wiped afterwards, as they may hold a key.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use zeroize::Zeroizing;

use crate::IbmError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the whole of an answer: these are small.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest body of an answer, in bytes.
const BODY_LEN_MAX: u64 = 16 << 20;

/// Longest wait that a service may ask for, in seconds.
const RETRY_AFTER_MAX_S: u64 = 86_400;

/// Longest text of a service that is repeated, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// How services are reached.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca_cert: Option<Vec<u8>>,
    /// Whether the variables of the environment that name proxies are left aside.
    pub no_proxy: bool,
    /// Longest wait for the whole of an answer; `None` for a minute.
    pub call_timeout: Option<Duration>,
}

/// Connections to services; cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    agent: Agent,
    /// For this machine: no proxy stands in between, which would read what goes over plain http.
    near: Agent,
    /// Longest wait for the whole of an answer.
    call_timeout: Duration,
}

/// What is asked of a service.
pub struct Request<'a> {
    /// Which service, for messages: `IAM`, `Key Protect`.
    pub service: &'a str,
    /// `GET`, `POST` …
    pub method: &'a str,
    /// Where; must be `https`, or `http` on this machine.
    pub url: &'a str,
    /// Headers. Their values are not shown anywhere.
    pub headers: Vec<(&'a str, Zeroizing<String>)>,
    /// The body; empty for none.
    pub body: Zeroizing<Vec<u8>>,
    /// When the wait for the whole of the answer ends, if that is before the limit of the client.
    pub end: Option<Instant>,
}

/// A successful answer.
pub struct Response {
    /// Its status, from 200 to 299.
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// Makes ready; asks nothing yet.
    ///
    /// # Errors
    /// [`IbmError::InvalidSetting`] for certificates that cannot be read.
    pub fn new(options: &HttpOptions) -> Result<Self, IbmError> {
        let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect();
        if let Some(pem) = &options.ca_cert {
            roots.extend(certificates(pem)?);
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let agent = |no_proxy: bool| -> Agent {
            let mut config = Agent::config_builder()
                .tls_config(tls.clone())
                .user_agent(concat!("coffer/", env!("CARGO_PKG_VERSION")))
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_connect(Some(CONNECT_TIMEOUT));
            if no_proxy {
                config = config.proxy(None);
            }
            config.build().into()
        };
        let call_timeout = options.call_timeout.unwrap_or(CALL_TIMEOUT);
        Ok(Self { agent: agent(options.no_proxy), near: agent(true), call_timeout })
    }

    /// Makes one request. An answer other than success is an error.
    ///
    /// # Errors
    /// Any of [`IbmError`].
    pub fn send(&self, request: &Request<'_>) -> Result<Response, IbmError> {
        let service = request.service.to_owned();
        let host = check_url(request.url)?;
        let mut builder = http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in &request.headers {
            let mut value = http::HeaderValue::from_str(value).map_err(|_| IbmError::InvalidSetting {
                what: format!("the header {name}"),
                reason: "it holds characters that no header may have".to_owned(),
            })?;
            value.set_sensitive(true);
            builder = builder.header(*name, value);
        }
        let malformed = |reason: String| IbmError::Malformed { service: service.clone(), reason };
        let agent = if is_loopback(&host) { &self.near } else { &self.agent };
        let left = request.end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = self.call_timeout.min(left.unwrap_or(self.call_timeout));
        if left.is_zero() {
            // The library would take it for no limit.
            return Err(failed(&service, request.url, ureq::Error::Timeout(ureq::Timeout::Global)));
        }
        let answer = if request.body.is_empty() && request.method != "POST" {
            let request = builder.body(()).map_err(|error| malformed(error.to_string()))?;
            agent.run(agent.configure_request(request).timeout_global(Some(left)).build())
        } else {
            let body = request.body.as_slice();
            let request = builder.body(body).map_err(|error| malformed(error.to_string()))?;
            agent.run(agent.configure_request(request).timeout_global(Some(left)).build())
        };
        let mut answer = answer.map_err(|error| failed(&service, request.url, error))?;
        let limited = answer.body_mut().with_config().limit(BODY_LEN_MAX);
        let body =
            Zeroizing::new(limited.read_to_vec().map_err(|error| failed(&service, request.url, error))?);
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        if (200..300).contains(&status) {
            return Ok(Response { status, headers, body });
        }
        Err(refusal(service, status, &headers, &body))
    }
}

/// Checks that a URL can be trusted with a secret, and gives its host.
pub(crate) fn check_url(url: &str) -> Result<String, IbmError> {
    let invalid = |reason: &str| IbmError::InvalidSetting {
        what: "the URL of a service".to_owned(),
        reason: reason.to_owned(),
    };
    let uri: http::Uri = url.parse().map_err(|_| invalid("it is malformed"))?;
    let host = uri.host().ok_or_else(|| invalid("it names no host"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(invalid("credentials have no place in it"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(host.to_owned()),
        Some("http") if is_loopback(host) => Ok(host.to_owned()),
        Some("http") => Err(invalid("it would send credentials over plain http; write https://")),
        _ => Err(invalid("it starts with https://")),
    }
}

/// Host and port of a URL, as it names them; empty if it names none.
pub(crate) fn authority(url: &str) -> String {
    let uri = url.parse::<http::Uri>().ok();
    uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, IbmError> {
    let invalid = |reason: &str| IbmError::InvalidSetting {
        what: "the file of trusted certificates".to_owned(),
        reason: reason.to_owned(),
    };
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| invalid("it is not PEM"))?;
        found.push(Certificate::from_der(&certificate).to_owned());
    }
    if found.is_empty() { Err(invalid("it holds no certificate in PEM")) } else { Ok(found) }
}

/// What came before or instead of an answer.
fn failed(service: &str, url: &str, error: ureq::Error) -> IbmError {
    let (service, host) = (service.to_owned(), authority(url));
    let reason = match &error {
        ureq::Error::Timeout(_) => "no answer came in time".to_owned(),
        error => clean(&error.to_string()),
    };
    let tls = match &error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired => true,
        ureq::Error::Io(error) => is_tls(error),
        _ => false,
    };
    if tls {
        return IbmError::Tls { service, host, reason };
    }
    let is_unknown = reason.contains("failed to lookup") && !reason.contains("emporary");
    let may_pass = !is_unknown
        && matches!(
            error,
            ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::ConnectionFailed
                | ureq::Error::ConnectProxyFailed(_)
                | ureq::Error::BodyStalled
                | ureq::Error::Protocol(_)
        );
    let was_connected = may_pass && !is_unconnected(&error);
    IbmError::Unreachable { service, host, reason, may_pass, was_connected }
}

/// Whether no connection came about at all.
fn is_unconnected(error: &ureq::Error) -> bool {
    use io::ErrorKind;
    match error {
        ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        _ => false,
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// What a service says that does not do what it was asked, in the forms that IBM's services have.
fn refusal(service: String, status: u16, headers: &http::HeaderMap, body: &[u8]) -> IbmError {
    let header = |names: &[&str]| {
        let found = names.iter().find_map(|name| headers.get(*name)?.to_str().ok());
        found.map(clean).unwrap_or_default()
    };
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let first = |pointers: &[&str]| {
        let found = pointers.iter().find_map(|pointer| match value.pointer(pointer)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        found.map(|text| clean(&text)).unwrap_or_default()
    };
    let code =
        first(&["/errors/0/code", "/errorCode", "/code", "/resources/0/reasons/0/code", "/error/code"]);
    let message = first(&[
        "/errors/0/message",
        "/resources/0/errorMsg",
        "/errorMessage",
        "/message",
        "/error/message",
        "/error",
    ]);
    let mut correlation_id = header(&[
        "transaction-id",
        "x-correlation-id",
        "correlation-id",
        "x-global-transaction-id",
        "x-request-id",
    ]);
    if correlation_id.is_empty() {
        correlation_id = first(&["/context/requestId", "/trace"]);
    }
    match status {
        408 | 425 | 429 | 500 | 502..=599 => IbmError::Busy {
            service,
            status,
            code,
            message,
            correlation_id,
            retry_after: header(&["retry-after"])
                .parse()
                .ok()
                .map(|s: u64| Duration::from_secs(s.min(RETRY_AFTER_MAX_S))),
        },
        _ => IbmError::Refused { service, status, code, message, correlation_id },
    }
}

/// A foreign text, in bounds and in one line.
pub(crate) fn clean(text: &str) -> String {
    let line = |character: char| if character.is_control() { ' ' } else { character };
    text.trim().chars().take(MESSAGE_CHARS_MAX).map(line).collect()
}
