//! Key services: Key Protect, HPCS, and services with their interface.
//!
//! What a slot says about where its root key is comes out of a store. So [`KeyServices`] sends a token to hosts of IBM's key services and to
//! those that its user names, and to nobody else. The identity of the user at IBM goes where a slot says that Key Protect or HPCS is: to IBM's hosts, and to
//! a host that its user names, who vouches for it whatever the slot calls it.
//!
//! A request that fails for now is made again, as often as there is time for, and after what the service asks to wait; two times bound that, one for
//! beginning it anew and one for all of a slot. Whatever is under way when the second is over is broken off, the fetching of a token too.
//!
//! A slot names the ring that its root key was in when it was made. A key that has been moved since is found without.

mod call;
mod place;
mod root_key;
mod trust;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use coffer_format::path::display_path;
use coffer_format::slot::{KeyServiceKind, ServiceKey};
use coffer_keys::{KeyError, ServiceAnswer};
use coffer_store::ApiKey;

use crate::http::{HttpClient, HttpOptions, Response, check_url};
use crate::{Iam, IamCredential, IbmError, Service};

pub use call::KeyFacts;
pub use place::{Place, PlaceError};
pub use root_key::{Rewrapped, ServiceRoot};
pub use trust::TrustedHost;

/// Wait before the second attempt; doubled after each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Longest limit that is waited for; a clock cannot hold any number of seconds.
const LIMIT_MAX: Duration = Duration::from_secs(86_400);

/// How key services are asked, and in whose name.
#[derive(Debug, Clone)]
pub struct KeyServiceOptions {
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca_cert: Option<Vec<u8>>,
    /// Identity at IBM Cloud, for Key Protect and HPCS.
    pub iam: Option<Arc<Iam>>,
    /// Token for key services of the owner's own.
    pub token: Option<ApiKey>,
    /// Hosts that may be asked beside those of IBM.
    pub trusted: Vec<TrustedHost>,
    /// Whether IBM's services are asked at their private addresses.
    pub private: bool,
    /// Longest time for one slot, over all attempts.
    pub limit: Duration,
    /// How long a request that fails for now is made again. It is the shorter of the two: a service that answers that it is busy keeps the
    /// next slot waiting no longer than this, one that is slow may take its time.
    pub retry_limit: Duration,
}

impl Default for KeyServiceOptions {
    fn default() -> Self {
        let (ca_cert, iam, token, trusted) = (None, None, None, Vec::new());
        let (limit, retry_limit) = (Duration::from_secs(30), Duration::from_secs(10));
        Self { ca_cert, iam, token, trusted, private: false, limit, retry_limit }
    }
}

/// What gives out the tokens of a service of the owner's own; it is that service itself.
const OWN_TOKENS: &str = "local key service's tokens";

/// Key services, and who asks them.
#[derive(Debug)]
pub struct KeyServices {
    http: HttpClient,
    options: KeyServiceOptions,
    /// Tokens of services of the owner's own, by endpoint.
    local: Mutex<BTreeMap<String, Arc<Iam>>>,
}

impl KeyServices {
    /// Makes ready; asks nothing yet.
    ///
    /// # Errors
    /// [`IbmError::InvalidSetting`] for certificates that cannot be read.
    pub fn new(options: KeyServiceOptions) -> Result<Self, IbmError> {
        let http = HttpOptions {
            ca_cert: options.ca_cert.clone(),
            no_proxy: false,
            call_timeout: Some(options.limit),
        };
        Ok(Self { http: HttpClient::new(&http)?, options, local: Mutex::default() })
    }

    /// Whether there are credentials for services of this kind.
    #[must_use]
    pub const fn has_credentials(&self, service: KeyServiceKind) -> bool {
        match service {
            KeyServiceKind::Local => self.options.token.is_some(),
            KeyServiceKind::KeyProtect | KeyServiceKind::Hpcs => self.options.iam.is_some(),
        }
    }

    /// The service that a root key is in, if it may be asked.
    fn service(&self, key: &ServiceKey) -> Result<Service, KeyError> {
        let endpoint = trust::address(key, self.options.private);
        if !trust::is_trusted(key.service, &endpoint, &self.options.trusted) {
            return Err(told(key, ServiceAnswer::HostNotTrusted, String::new()));
        }
        check_url(&endpoint).map_err(|error| told(key, ServiceAnswer::AddressRefused, error.detail()))?;
        let none = || told(key, ServiceAnswer::NoCredentials, String::new());
        let iam = match key.service {
            KeyServiceKind::Local => {
                self.local_identity(&endpoint, self.options.token.as_ref().ok_or_else(none)?)
            }
            KeyServiceKind::KeyProtect | KeyServiceKind::Hpcs => {
                Ok(Arc::clone(self.options.iam.as_ref().ok_or_else(none)?))
            }
        };
        iam.and_then(|iam| Service::new(name(key), &endpoint, self.http.clone(), iam))
            .map_err(|error| of_failure(key, &error))
    }

    /// A service of the owner's own gives its tokens out itself.
    fn local_identity(&self, endpoint: &str, token: &ApiKey) -> Result<Arc<Iam>, IbmError> {
        let mut known = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(iam) = known.get(endpoint) {
            return Ok(Arc::clone(iam));
        }
        let credential = IamCredential::ApiKey(token.clone());
        let iam = Arc::new(Iam::new(self.http.clone(), endpoint, credential)?.named(OWN_TOKENS));
        known.insert(endpoint.to_owned(), Arc::clone(&iam));
        Ok(iam)
    }

    /// By when one operation is done or given up.
    fn end(&self) -> Instant {
        Instant::now() + self.options.limit.min(LIMIT_MAX)
    }

    /// Makes a request about a root key, again while that may help and time is left.
    fn ask(
        &self,
        key: &ServiceKey,
        (method, path): (&str, &str),
        body: &[u8],
        end: Instant,
    ) -> Result<Response, KeyError> {
        let service = self.service(key)?;
        let mut headers = vec![
            ("bluemix-instance", key.instance.as_str()),
            ("accept", "application/json"),
            ("content-type", "application/json"),
        ];
        let bare_len = headers.len();
        headers.extend(key.ring.as_deref().map(|ring| ("x-kms-key-ring", ring)));
        let path = format!("/api/v2/keys/{}{path}", place::segment(&key.key));
        let mut pause = FIRST_PAUSE;
        let patience = end.min(Instant::now() + self.options.retry_limit.min(LIMIT_MAX));
        loop {
            let error = match service.send_until(Some(end), (method, &path), &headers, body) {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // The key may be in another ring by now; the id alone names it.
            if headers.len() > bare_len && error.status() == Some(404) && error.service() == Some(name(key)) {
                headers.truncate(bare_len);
                continue;
            }
            // Some spread, lest many that met the same failure return together.
            let spread = pause.mul_f64(f64::from(Instant::now().elapsed().subsec_nanos() % 64) / 256.0);
            let wait = error.retry_after().unwrap_or(pause).max(pause).saturating_add(spread);
            if !error.is_retryable() || wait >= patience.saturating_duration_since(Instant::now()) {
                return Err(of_failure(key, &error));
            }
            sleep(wait);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

const fn name(key: &ServiceKey) -> &'static str {
    match key.service {
        KeyServiceKind::KeyProtect => "Key Protect",
        KeyServiceKind::Hpcs => "HPCS",
        KeyServiceKind::Local => "local key service",
    }
}

fn told(key: &ServiceKey, answer: ServiceAnswer, detail: String) -> KeyError {
    // What the slot says of it may hold anything.
    let host = display_path(place::authority(&key.endpoint).as_bytes());
    KeyError::Service { service: name(key), host, answer, detail }
}

/// What a failed request says about a root key.
fn of_failure(key: &ServiceKey, error: &IbmError) -> KeyError {
    let asked = error.service();
    let of_tokens = asked == Some(crate::iam::SERVICE) || asked == Some(OWN_TOKENS);
    let answer = match (error, error.status(), error.code()) {
        (IbmError::Busy { .. }, ..) => ServiceAnswer::Busy,
        (IbmError::Unreachable { .. }, ..) => ServiceAnswer::Unreachable,
        (IbmError::Tls { .. }, ..) => ServiceAnswer::NotSecure,
        // A key that IAM does not know is refused with 400.
        (IbmError::Refused { .. }, ..) if of_tokens => ServiceAnswer::Denied,
        (_, Some(401 | 403), _) => ServiceAnswer::Denied,
        (_, Some(404), _) => ServiceAnswer::KeyMissing,
        (_, Some(410), _) => ServiceAnswer::KeyDeleted,
        (_, Some(409), _) | (_, Some(422), "KEY_INVALID_STATE_ERR") => ServiceAnswer::KeyDisabled,
        (_, Some(400 | 422), _) => ServiceAnswer::NotThisKey,
        _ => ServiceAnswer::Other,
    };
    // Whoever gives out tokens is not the service that was asked.
    let is_own = asked == Some(name(key)) || asked == Some(OWN_TOKENS);
    let detail = if is_own { error.detail() } else { error.to_string() };
    told(key, answer, detail)
}

#[cfg(test)]
mod tests;
