//! Putting together the client of one store: connections, trust, proxies, signatures.
//!
//! What the SDK would do by itself and other stores reject is off: signatures of chunks, checksums behind them, and retries, which
//! are [`RetryStore`](crate::RetryStore)'s alone. Which checksums go ahead of an upload is decided for each
//! ([`UploadFacts`](crate::UploadFacts)).

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::S3Options;
use super::clock::StoreClock;
use super::credentials::{AwsKeys, Credentials};
use super::transport::Transport;
use crate::StoreError;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections kept open for the next request.
const IDLE_COUNT_MAX: usize = 64;

/// The way to the wire.
pub(super) fn transport(options: &S3Options) -> Result<Transport, StoreError> {
    let mut trust = TrustStore::empty().with_native_roots(true);
    if let Some(pem) = &options.ca_cert {
        check_pem(pem)?;
        trust = trust.with_pem_certificate(pem.clone());
    }
    let tls = TlsContext::builder().with_trust_store(trust).build().map_err(|error| {
        StoreError::InvalidSetting { what: "the trusted certificates".to_owned(), reason: error.to_string() }
    })?;
    // What goes without TLS stays on this machine, and a token is not shown to a proxy.
    let is_plain = options.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http:"));
    let is_shown = is_plain && matches!(options.credentials, Credentials::Bearer(_));
    let use_proxies = options.use_proxies && !is_shown;
    let proxies = if use_proxies { ProxyConfig::from_env() } else { ProxyConfig::disabled() };
    let connector = Connector::builder()
        .connector_settings(HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .sleep_impl(TokioSleep::new())
        .enable_tcp_nodelay(true)
        .pool_max_idle_per_host(IDLE_COUNT_MAX)
        .proxy_config(proxies)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .build();
    let bearer = match &options.credentials {
        Credentials::Bearer(source) => Some(source.clone()),
        _ => None,
    };
    let rates = (options.upload_rate.clone(), options.download_rate.clone());
    Ok(Transport::new(
        SharedHttpConnector::new(connector),
        bearer,
        rates,
        options.stall_timeout,
        options.counter.clone(),
    ))
}

/// The client of the SDK over it.
pub(super) fn client(
    transport: Transport,
    region: &str,
    endpoint: Option<&str>,
    credentials: &Credentials,
    clock: StoreClock,
) -> Client {
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region.to_owned()))
        .http_client(transport)
        .interceptor(clock)
        .sleep_impl(TokioSleep::new())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .disable_s3_express_session_auth(true)
        .force_path_style(endpoint.is_some());
    config = match credentials {
        Credentials::Keys(keys) => config.credentials_provider(sdk_keys(keys)),
        // The transport adds the token.
        Credentials::Bearer(_) | Credentials::Anonymous => config.allow_no_auth(),
    };
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

/// The keys as the SDK has them; it wipes them too.
pub(super) fn sdk_keys(keys: &AwsKeys) -> aws_credential_types::Credentials {
    let token = keys.session_token.as_ref().map(|token| token.to_string());
    aws_credential_types::Credentials::new(
        keys.access_key_id.clone(),
        keys.secret_access_key.to_string(),
        token,
        None,
        "coffer",
    )
}

/// Whether there is a certificate to trust in it: one that cannot be read would be left out in silence.
fn check_pem(pem: &[u8]) -> Result<(), StoreError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let invalid = |reason: &str| StoreError::InvalidSetting {
        what: "the file of trusted certificates".to_owned(),
        reason: reason.to_owned(),
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| invalid("it is not PEM"))?;
        roots.add(certificate).map_err(|_| invalid("a certificate in it is malformed"))?;
    }
    if roots.is_empty() { Err(invalid("it holds no certificate in PEM")) } else { Ok(()) }
}
