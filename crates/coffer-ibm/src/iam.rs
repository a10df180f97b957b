//! Tokens of IBM Cloud IAM.
//!
//! A token is fetched when first needed and again when a fifth of its life is left. One fetch is under way at a time;
//! while the old token is good, nobody waits for it, and a fetch that fails does no harm. For a store, a fetch that fails is
//! made again as long as its [`Patience`] lasts.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coffer_store::{ApiKey, BearerToken, TokenError, TokenFault};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::IbmError;
use crate::http::{HttpClient, Request, authority, check_url};
use crate::patience::Patience;

/// Where tokens come from.
pub const IAM_ENDPOINT: &str = "https://iam.cloud.ibm.com";
/// IAM as it is reached in the private network of IBM Cloud.
pub const PRIVATE_IAM_ENDPOINT: &str = "https://private.iam.cloud.ibm.com";

pub(crate) const SERVICE: &str = "IAM";

/// A token this close to its end is not sent any more.
const MARGIN: Duration = Duration::from_secs(10);

/// Wait before the next fetch, after one that failed while the old token was good, or that was given up.
const PAUSE: Duration = Duration::from_secs(30);

/// Longest life of a token that is believed, in seconds.
const LIFE_MAX_S: u64 = 86_400;

/// Statuses under which IAM refuses credentials. Others are of something that is not IAM.
const REFUSALS: [u16; 4] = [400, 401, 403, 409];

/// Longest token of a compute resource, in bytes.
const CR_TOKEN_LEN_MAX: u64 = 64 << 10;

/// Where compute resources find their token, in the order in which they are looked at.
const CR_TOKEN_FILES: [&str; 3] = [
    "/var/run/secrets/tokens/vault-token",
    "/var/run/secrets/tokens/sa-token",
    "/var/run/secrets/codeengine.cloud.ibm.com/compute-resource-token/token",
];

/// Who asks for tokens.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum IamCredential {
    /// An API key of a user or a service id.
    ApiKey(ApiKey),
    /// A compute resource that may act as a trusted profile. Its token is read anew for each fetch, as it changes.
    TrustedProfile {
        /// Which profile.
        profile: Profile,
        /// Where the token of the compute resource is; `None` for where the platform puts it.
        token_file: Option<PathBuf>,
    },
}

/// A trusted profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// By its id, `Profile-…`.
    Id(String),
    /// By its name in the account.
    Name(String),
}

impl Profile {
    /// Takes an id for an id and all else for a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.starts_with("Profile-") { Self::Id(text.to_owned()) } else { Self::Name(text.to_owned()) }
    }
}

/// An identity, and the token that stands for it.
pub struct Iam {
    /// What errors call it.
    service: &'static str,
    http: HttpClient,
    url: String,
    credential: IamCredential,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    patience: Arc<Patience>,
    /// Its number among those who share the patience.
    member: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    is_fetching: bool,
    /// Grows with every fetch that ends.
    fetch_count: u64,
    /// How the last fetch failed, if it did.
    failure: Option<IbmError>,
    /// Whether that was made but once.
    was_hasty: bool,
    /// Until when it is left alone, as it was asked for long enough.
    rests_until: Option<Instant>,
    /// Whether a token came from there, so that it is the right place.
    has_given: bool,
}

struct Held {
    token: BearerToken,
    /// From then on a fresh one is wanted.
    fresh_until: Instant,
    /// From then on it is of no use.
    good_until: Instant,
}

impl Iam {
    /// Names an identity; asks nothing yet. `endpoint` is usually [`IAM_ENDPOINT`]; the whole URL of the token call does
    /// as well.
    ///
    /// # Errors
    /// [`IbmError::InvalidSetting`] for an endpoint that is malformed, or that would send a key over plain http to another
    /// machine.
    pub fn new(http: HttpClient, endpoint: &str, credential: IamCredential) -> Result<Self, IbmError> {
        Self::with_clock(http, endpoint, credential, Instant::now)
    }

    fn with_clock(
        http: HttpClient,
        endpoint: &str,
        credential: IamCredential,
        now: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Result<Self, IbmError> {
        let base = endpoint.trim_end_matches('/');
        let base = base.strip_suffix("/identity/token").unwrap_or(base);
        let url =
            if base.ends_with("/oidc/token") { base.to_owned() } else { format!("{base}/identity/token") };
        check_url(&url)?;
        let (now, state, changed) = (Box::new(now), Mutex::default(), Condvar::new());
        let patience = Arc::new(Patience::new(0));
        let member = patience.join();
        Ok(Self { service: SERVICE, http, url, credential, now, patience, member, state, changed })
    }

    /// The same, waiting for a service that is busy no longer than all who share `patience` may together. Otherwise it has
    /// one of its own.
    #[must_use]
    pub fn sharing(self, patience: Arc<Patience>) -> Self {
        Self { member: patience.join(), patience, ..self }
    }

    /// The same, called otherwise in errors: not IAM of IBM Cloud gives the tokens out.
    pub(crate) fn named(self, service: &'static str) -> Self {
        Self { service, ..self }
    }

    /// The token in force, fetched if need be.
    ///
    /// # Errors
    /// [`IbmError::Refused`] for a key that IAM does not take, and what may befall any request.
    pub fn current(&self) -> Result<BearerToken, IbmError> {
        self.current_until(None)
    }

    /// The same, but waits no longer than until `end`, whoever fetches it.
    pub(crate) fn current_until(&self, end: Option<Instant>) -> Result<BearerToken, IbmError> {
        self.token_by(end, false)
    }

    /// The same, asking again while that may help and patience lasts.
    pub(crate) fn current_patiently(&self) -> Result<BearerToken, IbmError> {
        self.token_by(None, true)
    }

    fn token_by(&self, end: Option<Instant>, is_patient: bool) -> Result<BearerToken, IbmError> {
        let mut state = self.lock();
        let met = state.fetch_count;
        loop {
            let now = (self.now)();
            if let Some(held) = &state.held
                && (now < held.fresh_until || state.is_fetching && now < held.good_until)
            {
                return Ok(held.token.clone());
            }
            if state.is_fetching {
                let wait = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
                if wait.is_zero() {
                    return Err(self.is_late());
                }
                let woken = self.changed.wait_timeout(state, wait);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            } else if (state.fetch_count != met || state.rests_until.is_some_and(|until| now < until))
                && let Some(failure) = &state.failure
                && !(is_patient && state.was_hasty && Self::is_passing(failure, state.has_given))
            {
                return Err(failure.clone());
            } else {
                break;
            }
        }
        state.is_fetching = true;
        // Nobody waits long for a token while there is one.
        let now = (self.now)();
        let is_hasty = !is_patient || state.held.as_ref().is_some_and(|held| now < held.good_until);
        drop(state);
        let fetched = if is_hasty {
            self.fetch(end)
        } else {
            self.patience.spend(self.member, |error| self.may_pass(error), |end| self.fetch(Some(end)))
        };
        let is_given_up = !is_hasty && fetched.as_ref().is_err_and(|error| self.may_pass(error));
        let mut state = self.lock();
        state.is_fetching = false;
        state.rests_until = is_given_up.then(|| (self.now)() + PAUSE);
        state.fetch_count += 1;
        self.changed.notify_all();
        match fetched {
            Ok((token, life)) => {
                state.failure = None;
                state.has_given = true;
                let now = (self.now)();
                state.held = Some(Held {
                    token: token.clone(),
                    fresh_until: now + life * 4 / 5,
                    good_until: now + life.saturating_sub(MARGIN),
                });
                Ok(token)
            }
            Err(failure) => {
                let now = (self.now)();
                state.failure = Some(failure.clone());
                state.was_hasty = is_hasty;
                if let Some(held) = state.held.as_mut().filter(|held| now < held.good_until) {
                    held.fresh_until = held.good_until.min(now + PAUSE);
                    return Ok(held.token.clone());
                }
                let is_worth_more = is_patient && is_hasty && Self::is_passing(&failure, state.has_given);
                drop(state);
                // The old token was good when this began, and is not any more.
                if is_worth_more { self.token_by(end, true) } else { Err(failure) }
            }
        }
    }

    /// Drops a token that a service refused; one that has taken its place meanwhile stays.
    pub(crate) fn forget(&self, token: &BearerToken) {
        let mut state = self.lock();
        if state.held.as_ref().is_some_and(|held| held.token == *token) {
            state.held = None;
        }
    }

    /// The same, for services of this crate.
    pub(crate) fn refused(&self, token: &BearerToken) {
        self.forget(token);
    }

    /// What is said where another's fetch takes too long.
    fn is_late(&self) -> IbmError {
        IbmError::Unreachable {
            service: self.service.to_owned(),
            host: authority(&self.url),
            reason: "no token came in time".to_owned(),
            may_pass: true,
            was_connected: true,
        }
    }

    /// Whether asking again may help whoever needs a token. A place that nobody ever reached is likely a wrong one: asking again does not help.
    fn may_pass(&self, error: &IbmError) -> bool {
        let has_given = self.lock().has_given;
        Self::is_passing(error, has_given)
    }

    const fn is_passing(error: &IbmError, has_given: bool) -> bool {
        match error {
            IbmError::Busy { .. } => true,
            IbmError::Unreachable { may_pass: true, was_connected, .. } => *was_connected || has_given,
            _ => false,
        }
    }

    /// What a failure means for who needs a token.
    pub(crate) fn token_error(&self, error: IbmError) -> TokenError {
        let endpoint = self.url.strip_suffix("/identity/token").unwrap_or(&self.url).to_owned();
        let fault = match &error {
            IbmError::Refused { status, .. } if REFUSALS.contains(status) => {
                return TokenError::Refused { source: error.into() };
            }
            IbmError::Busy { .. } => TokenFault::Unavailable,
            IbmError::Unreachable { .. } if self.may_pass(&error) => TokenFault::Unavailable,
            IbmError::Unreachable { .. } => TokenFault::Unreachable,
            IbmError::Tls { .. } => TokenFault::Tls,
            IbmError::Refused { .. } | IbmError::Malformed { .. } => TokenFault::NotIdentity,
            IbmError::InvalidSetting { .. } => return TokenError::Unproven { source: error.into() },
        };
        TokenError::Failed { endpoint, fault, source: error.into() }
    }

    fn fetch(&self, end: Option<Instant>) -> Result<(BearerToken, Duration), IbmError> {
        let mut form = Zeroizing::new(String::new());
        match &self.credential {
            IamCredential::ApiKey(key) => {
                field(&mut form, "grant_type", "urn:ibm:params:oauth:grant-type:apikey");
                field(&mut form, "apikey", key.expose());
            }
            IamCredential::TrustedProfile { profile, token_file } => {
                let token = cr_token(token_file.as_ref())?;
                field(&mut form, "grant_type", "urn:ibm:params:oauth:grant-type:cr-token");
                field(&mut form, "cr_token", token.trim());
                match profile {
                    Profile::Id(id) => field(&mut form, "profile_id", id),
                    Profile::Name(name) => field(&mut form, "profile_name", name),
                }
            }
        }
        field(&mut form, "response_type", "cloud_iam");
        let own = |value: &str| Zeroizing::new(value.to_owned());
        let answer = self.http.send(&Request {
            service: self.service,
            method: "POST",
            url: &self.url,
            headers: vec![
                ("content-type", own("application/x-www-form-urlencoded")),
                ("accept", own("application/json")),
            ],
            body: Zeroizing::new(form.as_bytes().to_vec()),
            end,
        })?;
        let malformed = |reason: &str| IbmError::Malformed {
            service: self.service.to_owned(),
            reason: reason.to_owned(),
        };
        // The parser's message could repeat a part of the token.
        let no_grant = || malformed("it is no grant of a token");
        let mut grant: Value = serde_json::from_slice(&answer.body).map_err(|_| no_grant())?;
        let Some(Value::String(token)) = grant.get_mut("access_token").map(Value::take) else {
            return Err(no_grant());
        };
        let token = BearerToken::new(token);
        let seconds = grant.get("expires_in").and_then(Value::as_u64).ok_or_else(no_grant)?;
        let is_odd = |byte: u8| !byte.is_ascii_graphic();
        if token.expose().is_empty() || token.expose().bytes().any(is_odd) {
            return Err(malformed("the token is no token"));
        }
        if seconds == 0 {
            return Err(malformed("the token has expired already"));
        }
        Ok((token, Duration::from_secs(seconds.min(LIFE_MAX_S))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Iam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iam").field("url", &self.url).finish_non_exhaustive()
    }
}

fn cr_token(file: Option<&PathBuf>) -> Result<Zeroizing<String>, IbmError> {
    use std::io::Read;
    let invalid = |what: String, reason: String| IbmError::InvalidSetting { what, reason };
    let default = || CR_TOKEN_FILES.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(path) = file.cloned().or_else(default) else {
        let reason = format!("none is given and none is at {}", CR_TOKEN_FILES.join(", "));
        return Err(invalid("the token of the compute resource".to_owned(), reason));
    };
    let what = format!("the token of the compute resource in {}", path.display());
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(&path)
        .and_then(|file| file.take(CR_TOKEN_LEN_MAX).read_to_string(&mut text))
        .map_err(|error| invalid(what.clone(), error.to_string()))?;
    if text.trim().is_empty() {
        return Err(invalid(what, "the file is empty".to_owned()));
    }
    Ok(text)
}

/// Adds a field to a form.
fn field(form: &mut Zeroizing<String>, name: &str, value: &str) {
    // Room for the worst case, so that no copy of a secret is left behind in a smaller buffer.
    let mut grown = Zeroizing::new(String::with_capacity(form.len() + name.len() + 3 * value.len() + 2));
    grown.push_str(form);
    if !grown.is_empty() {
        grown.push('&');
    }
    grown.push_str(name);
    grown.push('=');
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => grown.push(byte.into()),
            _ => {
                grown.push('%');
                for digit in [byte >> 4, byte & 15] {
                    grown.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    *form = grown;
}

#[cfg(test)]
mod tests;
