//! Identity and access management: who there is, what they hold, and what they may do.
//!
//! An identity (service id) holds policies; API keys, HMAC keys and trusted profiles stand for an identity. Tokens are opaque here
//! although they look like JSON web tokens: the region remembers each token it gave, because no client verifies them.

mod actions;
mod http;
mod token;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use s3s::{S3Error, S3ErrorCode, S3Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::random;
use crate::records::{IAM, OrInternal, Records, decode, encode};

pub use actions::Role;
pub(crate) use http::serve;

const SERVICE_IDS: &str = "service-id";
const API_KEYS: &str = "api-key";
const HMAC_KEYS: &str = "hmac";
const PROFILES: &str = "profile";
const TOKENS: &str = "token";

/// What an identity may do, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Service roles.
    pub roles: Vec<Role>,
    /// Single actions beside them, in full (`cloud-object-storage.object.get`).
    pub actions: Vec<String>,
    /// Only in this service instance (its GUID); else in all.
    pub instance: Option<String>,
    /// Only on this bucket; else on all.
    pub bucket: Option<String>,
    /// Only on this key of the key service (its id); else on all.
    pub key: Option<String>,
}

impl Policy {
    /// A role on everything.
    #[must_use]
    pub fn role(role: Role) -> Self {
        Self { roles: vec![role], ..Self::default() }
    }

    /// Single actions on everything.
    pub fn actions<'a>(actions: impl IntoIterator<Item = &'a str>) -> Self {
        Self { actions: actions.into_iter().map(str::to_owned).collect(), ..Self::default() }
    }

    /// The same on one bucket only.
    #[must_use]
    pub fn on_bucket(mut self, bucket: &str) -> Self {
        self.bucket = Some(bucket.to_owned());
        self
    }

    /// The same on one key of the key service only.
    #[must_use]
    pub fn on_key(mut self, id: &str) -> Self {
        self.key = Some(id.to_owned());
        self
    }

    /// The same in one service instance only.
    #[must_use]
    pub fn in_instance(mut self, guid: &str) -> Self {
        self.instance = Some(guid.to_owned());
        self
    }

    fn allows(&self, action: &str, place: &Place<'_>) -> bool {
        let is_here = self.instance.as_deref().is_none_or(|only| Some(only) == place.instance)
            && self.bucket.as_deref().is_none_or(|only| Some(only) == place.bucket)
            && self.key.as_deref().is_none_or(|only| Some(only) == place.key);
        is_here
            && (self.actions.iter().any(|one| one == action)
                || self.roles.iter().any(|role| actions::holds(*role, action)))
    }
}

/// What a request is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// The service instance, if one is known.
    pub(crate) instance: Option<&'a str>,
    /// The bucket, if there is one.
    pub(crate) bucket: Option<&'a str>,
    /// The key of the key service, if there is one.
    pub(crate) key: Option<&'a str>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ServiceId {
    name: String,
    policies: Vec<Policy>,
}

/// HMAC keys of a service credential.
#[derive(Clone, Serialize, Deserialize)]
pub struct HmacKeys {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
}

impl std::fmt::Debug for HmacKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HmacKeys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct StoredHmac {
    secret: String,
    service_id: String,
    instance: String,
}

#[derive(Serialize, Deserialize)]
struct Profile {
    name: String,
    cr_token: String,
    service_id: String,
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) service_id: String,
    /// The service instance that HMAC keys belong to. A bearer names it in a header, where it is needed.
    pub(crate) instance: Option<String>,
}

/// The service.
#[derive(Debug, Default)]
pub(crate) struct Iam {
    /// How often each action was allowed and refused since the start.
    used: std::sync::Mutex<BTreeMap<String, u64>>,
    token_count: AtomicU64,
}

impl Iam {
    /// Makes an identity.
    pub(crate) fn create_service_id(
        &self,
        records: &Records,
        name: &str,
        policies: &[Policy],
    ) -> S3Result<String> {
        check_policies(policies)?;
        let id = format!("iam-ServiceId-{}", random::uuid());
        put(records, SERVICE_IDS, &id, &ServiceId { name: name.to_owned(), policies: policies.to_vec() })?;
        Ok(id)
    }

    /// Replaces what an identity may do. It holds from the next request on.
    pub(crate) fn set_policies(&self, records: &Records, id: &str, policies: &[Policy]) -> S3Result<()> {
        check_policies(policies)?;
        let known: ServiceId = get(records, SERVICE_IDS, id)?.ok_or_else(|| unknown("service id", id))?;
        put(records, SERVICE_IDS, id, &ServiceId { policies: policies.to_vec(), ..known })
    }

    /// Makes an API key for an identity.
    pub(crate) fn create_api_key(&self, records: &Records, service_id: &str) -> S3Result<String> {
        self.require(records, service_id)?;
        let key = random::word(44);
        put(records, API_KEYS, &key, &service_id)?;
        Ok(key)
    }

    /// Forgets an API key. Tokens that it gave live on.
    pub(crate) fn delete_api_key(&self, records: &Records, key: &str) -> S3Result<()> {
        remove(records, API_KEYS, key)
    }

    /// Makes HMAC keys for an identity in a service instance.
    pub(crate) fn create_hmac(
        &self,
        records: &Records,
        service_id: &str,
        instance: &str,
    ) -> S3Result<HmacKeys> {
        self.require(records, service_id)?;
        let access_key_id = random::hex(16);
        let secret = random::hex(24);
        let stored = StoredHmac {
            secret: secret.clone(),
            service_id: service_id.to_owned(),
            instance: instance.to_owned(),
        };
        put(records, HMAC_KEYS, &access_key_id, &stored)?;
        Ok(HmacKeys { access_key_id, secret_access_key: secret })
    }

    /// Makes a trusted profile that a compute resource with this token may take on; returns its id.
    pub(crate) fn create_profile(
        &self,
        records: &Records,
        name: &str,
        cr_token: &str,
        service_id: &str,
    ) -> S3Result<String> {
        self.require(records, service_id)?;
        let id = format!("Profile-{}", random::uuid());
        let profile = Profile {
            name: name.to_owned(),
            cr_token: cr_token.to_owned(),
            service_id: service_id.to_owned(),
        };
        put(records, PROFILES, &id, &profile)?;
        Ok(id)
    }

    /// The secret of an HMAC key, and who it stands for.
    pub(crate) fn hmac(&self, records: &Records, access_key_id: &str) -> S3Result<Option<(String, Caller)>> {
        let stored: Option<StoredHmac> = get(records, HMAC_KEYS, access_key_id)?;
        Ok(stored.map(|stored| {
            (stored.secret, Caller { service_id: stored.service_id, instance: Some(stored.instance) })
        }))
    }

    /// Refuses an action that no policy of the caller allows.
    pub(crate) fn authorize(
        &self,
        records: &Records,
        caller: &Caller,
        action: &str,
        place: Place<'_>,
    ) -> S3Result<()> {
        let known: Option<ServiceId> = get(records, SERVICE_IDS, &caller.service_id)?;
        let is_allowed =
            known.is_some_and(|known| known.policies.iter().any(|policy| policy.allows(action, &place)));
        let counted = if is_allowed { action.to_owned() } else { format!("{action} (refused)") };
        *lock(&self.used).entry(counted).or_default() += 1;
        if is_allowed {
            return Ok(());
        }
        Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"))
    }

    /// How often each action was allowed, and refused, since the start.
    pub(crate) fn used(&self) -> BTreeMap<String, u64> {
        lock(&self.used).clone()
    }

    /// How many tokens were given since the start.
    pub(crate) fn token_count(&self) -> u64 {
        self.token_count.load(Ordering::SeqCst)
    }

    fn require(&self, records: &Records, service_id: &str) -> S3Result<()> {
        let known: Option<ServiceId> = get(records, SERVICE_IDS, service_id)?;
        known.map(drop).ok_or_else(|| unknown("service id", service_id))
    }
}

fn check_policies(policies: &[Policy]) -> S3Result<()> {
    let mut all = policies.iter().flat_map(|policy| &policy.actions);
    match all.find(|action| !actions::is_known(action)) {
        Some(action) => Err(unknown("action", action)),
        None => Ok(()),
    }
}

fn unknown(kind: &str, name: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, format!("there is no {kind} {name}"))
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn get<T: DeserializeOwned>(records: &Records, kind: &str, id: &str) -> S3Result<Option<T>> {
    let transaction = records.read()?;
    let table = transaction.open_table(IAM).or_internal()?;
    table.get((kind, id)).or_internal()?.map(|bytes| decode(bytes.value())).transpose()
}

fn put<T: Serialize>(records: &Records, kind: &str, id: &str, value: &T) -> S3Result<()> {
    let transaction = records.write()?;
    transaction.open_table(IAM).or_internal()?.insert((kind, id), &*encode(value)?).or_internal()?;
    transaction.commit().or_internal()
}

fn remove(records: &Records, kind: &str, id: &str) -> S3Result<()> {
    let transaction = records.write()?;
    transaction.open_table(IAM).or_internal()?.remove((kind, id)).or_internal()?;
    transaction.commit().or_internal()
}

/// All records of one kind.
fn all<T: DeserializeOwned>(records: &Records, kind: &str) -> S3Result<Vec<(String, T)>> {
    let transaction = records.read()?;
    let table = transaction.open_table(IAM).or_internal()?;
    let mut found = Vec::new();
    for row in table.range((kind, "")..).or_internal()? {
        let (id, bytes) = row.or_internal()?;
        if id.value().0 != kind {
            break;
        }
        found.push((id.value().1.to_owned(), decode(bytes.value())?));
    }
    Ok(found)
}
