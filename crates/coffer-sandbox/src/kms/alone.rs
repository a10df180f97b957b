//! The key service on its own: one instance in a directory, tokens from a file, one port. Its API is that of Key Protect; its master key
//! is loaded by its owner, as in HPCS.
//!
//! It listens on loopback, or with a certificate anywhere. `/identity/token` and `/oidc/token` exchange a token for itself in the form
//! of a web token, so that clients which know nothing but API keys can use it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::answer::{Refusal, Reply};
use super::audit::{AuditEntry, AuditHead};
use super::desk::Call;
use super::files;
use super::front::{Heard, written};
use super::master::MasterKeySource;
use super::tokens::{self, Holder};
use super::{Kms, KmsKind};
use crate::clock::{Clock, SECOND_MS};
use crate::error::SandboxError;
use crate::listener::{self, Service};
use crate::random;
use crate::switches::AadMode;

const REGION: &str = "local";
const TOKEN_LIFETIME_S: u64 = 3600;

/// How a key service on its own starts.
#[derive(Debug)]
#[non_exhaustive]
pub struct KmsOptions {
    /// Where its state is kept; made if it is not there.
    pub directory: PathBuf,
    /// Where it listens: on loopback, or with a certificate anywhere.
    pub listen: SocketAddr,
    /// The files of its certificate (with those of intermediate authorities behind it) and of its private key, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The file of tokens.
    pub tokens: PathBuf,
    /// Where its master key comes from. Without one every call is answered 503.
    pub master_key: Option<MasterKeySource>,
    /// If the audit log is damaged, it is put aside and a new one started; else the service does not start.
    pub accepts_damaged_audit: bool,
}

impl KmsOptions {
    /// A service without a master key, on a free port of loopback.
    #[must_use]
    pub fn new(directory: &Path, tokens: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            tokens: tokens.to_path_buf(),
            master_key: None,
            accepts_damaged_audit: false,
        }
    }
}

/// What answers at the port.
#[derive(Debug)]
pub(crate) struct Alone {
    kms: Kms,
    clock: Clock,
    tokens: PathBuf,
    guid: String,
}

/// A key service that runs until this is dropped.
#[derive(Debug)]
pub struct KmsServer {
    alone: Arc<Alone>,
    runtime: Option<Runtime>,
    endpoint: String,
    pattern: Option<String>,
    audit_damage: Option<String>,
}

impl KmsServer {
    /// Starts the service. It answers when this returns.
    ///
    /// # Errors
    /// The directory, the tokens or the certificate are not usable, the master key is not the one of the directory, the audit log is not
    /// as it was written and that is not accepted, the port is taken, or there is no certificate and the address is not on loopback.
    pub fn start(options: &KmsOptions) -> Result<Self, SandboxError> {
        if options.tls.is_none() && !options.listen.ip().is_loopback() {
            return Err(SandboxError::NotLoopback { address: options.listen.to_string() });
        }
        let acceptor = options.tls.as_ref().map(|(chain, key)| acceptor(chain, key)).transpose()?;
        tokens::check(&options.tokens)?;
        let at = |source| SandboxError::File { path: options.directory.clone(), source };
        if !options.directory.exists() {
            make_private(&options.directory).map_err(at)?;
            files::sync(files::parent(&options.directory)).map_err(at)?;
        }
        let kms = Kms::open(&options.directory, REGION, true)?;
        let clock = Clock::default();
        let guid = match kms.instances().into_iter().next() {
            Some((guid, _)) => guid,
            None => kms.make_instance("local", KmsKind::KeyProtect, false, clock.now_ms())?,
        };
        let (pattern, audit_damage) = match &options.master_key {
            Some(source) if options.accepts_damaged_audit => {
                let (pattern, damage) = kms.load_past_damage(&guid, source, clock.now_ms())?;
                (Some(pattern), damage)
            }
            Some(source) => (Some(kms.load(&guid, source)?), None),
            None => (None, None),
        };
        let alone = Arc::new(Alone { kms, clock, tokens: options.tokens.clone(), guid });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kms")
            .enable_all()
            .build()
            .map_err(at)?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let service = Service::KmsAlone(Arc::clone(&alone));
        let bound = runtime.block_on(listener::open_anywhere(options.listen, service, acceptor))?;
        runtime.spawn(sweep_often(Arc::downgrade(&alone)));
        let endpoint = format!("{scheme}://{bound}");
        Ok(Self { alone, runtime: Some(runtime), endpoint, pattern, audit_damage })
    }

    /// Where it answers.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The GUID of its instance.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.alone.guid
    }

    /// The verification pattern of its master key, if that is loaded.
    #[must_use]
    pub fn pattern(&self) -> Option<&str> {
        self.pattern.as_deref()
    }

    /// What was wrong with the audit log, which was put aside at this start.
    #[must_use]
    pub fn audit_damage(&self) -> Option<&str> {
        self.audit_damage.as_deref()
    }

    /// Ends the service, as dropping it does, and says whether its audit log has everything.
    ///
    /// # Errors
    /// What is counted and not yet in the audit log could not be written.
    pub fn stop(mut self) -> Result<(), SandboxError> {
        self.end()
    }

    /// Does nothing the second time.
    fn end(&mut self) -> Result<(), SandboxError> {
        let Some(runtime) = self.runtime.take() else { return Ok(()) };
        runtime.shutdown_timeout(Duration::from_secs(5));
        self.alone.kms.end(self.alone.clock.now_ms())
    }

    /// Checks the audit log of a directory whose service does not run, shows each entry, and gives the newest. With `noted`, the entry of
    /// that number must have that hash. The master key is not needed, and whether the log was written anew as a whole is not found
    /// out without it: that is checked when the service starts.
    ///
    /// # Errors
    /// The log is not as it was written, or it cannot be read.
    pub fn verify_audit(
        directory: &Path,
        noted: Option<&AuditHead>,
        show: &mut dyn FnMut(&AuditEntry) -> Result<(), SandboxError>,
    ) -> Result<AuditHead, SandboxError> {
        stopped(directory)?.verify_audit(noted, show)
    }

    /// The names of the audit logs of a service that does not run that were damaged and put aside, the oldest first.
    ///
    /// # Errors
    /// If there is no such service, or it runs.
    pub fn audits_aside(directory: &Path) -> Result<Vec<String>, SandboxError> {
        stopped(directory)?.audits_aside()
    }
}

impl Drop for KmsServer {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure.
        drop(self.end());
    }
}

/// The state of a service that does not run.
fn stopped(directory: &Path) -> Result<Kms, SandboxError> {
    let path = directory.join("kms.redb");
    if !path.exists() {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(SandboxError::File { path, source });
    }
    Kms::open(directory, REGION, true)
}

/// Makes a directory that only its owner may enter.
fn make_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, SandboxError> {
    let bad = |path: &Path, what: String| SandboxError::BadFile { path: path.to_path_buf(), what };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| bad(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad(chain, "it holds no certificate in PEM".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| {
            bad(chain, format!("it does not go with the private key {}: {error}", key.display()))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn sweep_often(alone: std::sync::Weak<Alone>) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let Some(alone) = alone.upgrade() else { return };
        // What could not be done now is tried again.
        drop(tokio::task::spawn_blocking(move || alone.kms.sweep(alone.clock.now_ms())).await);
    }
}

/// Answers a request.
pub(crate) async fn serve(alone: &Arc<Alone>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let heard = match Heard::read(request).await {
        Ok(heard) => heard,
        Err(refusal) => return written(refusal.answer(""), &random::uuid()),
    };
    let correlation = heard.correlation();
    let (alone, id) = (Arc::clone(alone), correlation.clone());
    let answered = tokio::task::spawn_blocking(move || alone.answer(&heard, id)).await;
    let reply = match answered {
        Ok(Ok(reply)) => reply,
        Ok(Err(refusal)) => refusal.answer(""),
        Err(_) => Refusal::short(500, "key service").answer(""),
    };
    written(reply, &correlation)
}

impl Alone {
    fn answer(&self, heard: &Heard, correlation: String) -> Result<Reply, Refusal> {
        match (heard.method.as_str(), heard.path.as_str()) {
            ("POST", "/identity/token" | "/oidc/token") => return self.exchange(&heard.body),
            ("GET", "/audit") => return self.audit(heard),
            _ => {}
        }
        let path = heard.api_path().ok_or_else(|| Refusal::short(404, "There is no such endpoint"))?;
        let guid = heard.instance()?;
        let holder = self.holder(heard)?;
        let holder = holder.ok_or_else(|| self.kms.refuse(guid, &correlation, self.clock.now_ms()))?;
        let identity = holder.identity();
        let allows = |action: &str, key: Option<&str>| holder.allows(guid, action, key);
        let call = Call {
            method: &heard.method,
            path,
            query: &heard.query,
            headers: &heard.headers,
            body: &heard.body,
            guid,
            identity: &identity,
            allows: &allows,
            correlation,
            now_ms: self.clock.now_ms(),
            peer: heard.peer,
            // It has one endpoint, which its owner calls private or not.
            is_private: true,
            private_port: None,
            aad: AadMode::Honoured,
            registrations: &[],
        };
        Ok(self.kms.handle(&call))
    }

    /// Who calls: a token as it is, or as the third part of a web token.
    fn holder(&self, heard: &Heard) -> Result<Option<Holder>, Refusal> {
        let bearer = heard.bearer().unwrap_or_default();
        let token = bearer.rsplit('.').next().unwrap_or(bearer);
        tokens::holder(&self.tokens, token).map_err(Refusal::internal)
    }

    fn audit(&self, heard: &Heard) -> Result<Reply, Refusal> {
        let holder = self.holder(heard)?;
        if !holder.is_some_and(|holder| holder.allows(&self.guid, "kms.audit.read", None)) {
            return Err(Refusal::unauthorized());
        }
        let head = self.kms.verify_audit(None, &mut |_| Ok(())).map_err(Refusal::internal)?;
        Ok(Reply::with(200, json!({"entries": head.number, "hash": head.hash})))
    }

    /// Gives a token back in the form of a web token, whose first two parts say what clients read there.
    fn exchange(&self, form: &[u8]) -> Result<Reply, Refusal> {
        let field = |name: &str| {
            form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let refusal = |code: &str, message: &str| {
            let context = json!({"requestId": random::uuid(), "requestType": "incoming.Identity_Token"});
            let body = json!({"errorCode": code, "errorMessage": message, "context": context});
            Reply::with(400, body)
        };
        let shown = match field("grant_type").as_deref() {
            Some("urn:ibm:params:oauth:grant-type:apikey") => field("apikey"),
            Some("refresh_token") => field("refresh_token"),
            _ => None,
        };
        let Some(token) = shown else {
            return Ok(refusal("BXNIM0106E", "Property missing or not valid: grant_type."));
        };
        let Some(holder) = tokens::holder(&self.tokens, &token).map_err(Refusal::internal)? else {
            return Ok(refusal("BXNIM0415E", "Provided API key could not be found."));
        };
        let now_s = self.clock.now_ms() / SECOND_MS;
        let expires_s = now_s.saturating_add(TOKEN_LIFETIME_S);
        let identity = holder.identity();
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"alg": "RS256", "kid": "coffer"}));
        let claims = part(json!({
            "iam_id": identity, "id": identity, "sub": identity, "iat": now_s, "exp": expires_s, "iss": "coffer kms",
        }));
        let body = json!({
            "access_token": format!("{head}.{claims}.{token}"), "refresh_token": token, "token_type": "Bearer",
            "expires_in": TOKEN_LIFETIME_S, "expiration": expires_s, "scope": "ibm openid",
        });
        Ok(Reply::with(200, body))
    }
}
