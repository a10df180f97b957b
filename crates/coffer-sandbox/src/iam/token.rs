//! Access and refresh tokens.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redb::ReadableTable;
use s3s::S3Result;
use serde::{Deserialize, Serialize};

use super::{API_KEYS, Caller, Iam, PROFILES, Profile, TOKENS, all, get};
use crate::clock::{Millis, SECOND_MS};
use crate::random;
use crate::records::{IAM, OrInternal, Records, decode, encode};

/// How long a refresh token lives.
const REFRESH_LIFETIME_S: u64 = 7 * 86_400;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Given {
    service_id: String,
    expires_ms: Millis,
    is_refresh: bool,
}

/// What a client gets.
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: String,
    pub(super) expires_s: u64,
    pub(super) lifetime_s: u64,
}

/// How a client shows who it is.
pub(super) enum Grant {
    ApiKey(String),
    Refresh(String),
    ComputeResource { cr_token: String, profile_id: Option<String>, profile_name: Option<String> },
}

impl Iam {
    /// The identity that a grant stands for.
    pub(super) fn identity(
        &self,
        records: &Records,
        grant: &Grant,
        now_ms: Millis,
    ) -> S3Result<Option<String>> {
        match grant {
            Grant::ApiKey(key) => get(records, API_KEYS, key),
            Grant::Refresh(token) => {
                let given: Option<Given> = get(records, TOKENS, token)?;
                let live = given.filter(|given| given.is_refresh && given.expires_ms > now_ms);
                Ok(live.map(|given| given.service_id))
            }
            Grant::ComputeResource { cr_token, profile_id, profile_name } => {
                let profiles: Vec<(String, Profile)> = all(records, PROFILES)?;
                let wanted = profiles.into_iter().find(|(id, profile)| {
                    profile_id.as_ref().is_some_and(|wanted| wanted == id)
                        || profile_name.as_ref().is_some_and(|wanted| *wanted == profile.name)
                });
                let taken = wanted.filter(|(_, profile)| profile.cr_token == *cr_token);
                Ok(taken.map(|(_, profile)| profile.service_id))
            }
        }
    }

    /// Gives tokens to an identity, and forgets those that have expired.
    pub(super) fn give(
        &self,
        records: &Records,
        service_id: &str,
        now_ms: Millis,
        lifetime_s: u64,
        refreshes: bool,
    ) -> S3Result<Tokens> {
        let expires_ms = now_ms.saturating_add(lifetime_s.saturating_mul(SECOND_MS));
        let access = web_token(service_id, now_ms / SECOND_MS, expires_ms / SECOND_MS);
        let refresh = if refreshes { random::word(120) } else { "not_supported".to_owned() };
        let transaction = records.write()?;
        {
            let mut table = transaction.open_table(IAM).or_internal()?;
            let mut expired = Vec::new();
            for row in table.range((TOKENS, "")..).or_internal()? {
                let (id, bytes) = row.or_internal()?;
                if id.value().0 != TOKENS {
                    break;
                }
                if decode::<Given>(bytes.value())?.expires_ms <= now_ms {
                    expired.push(id.value().1.to_owned());
                }
            }
            for id in expired {
                table.remove((TOKENS, id.as_str())).or_internal()?;
            }
            let given =
                |expires_ms, is_refresh| Given { service_id: service_id.to_owned(), expires_ms, is_refresh };
            table.insert((TOKENS, access.as_str()), &*encode(&given(expires_ms, false))?).or_internal()?;
            if refreshes {
                let until = now_ms.saturating_add(REFRESH_LIFETIME_S * SECOND_MS);
                table.insert((TOKENS, refresh.as_str()), &*encode(&given(until, true))?).or_internal()?;
            }
        }
        transaction.commit().or_internal()?;
        self.token_count.fetch_add(1, Ordering::SeqCst);
        Ok(Tokens { access, refresh, expires_s: expires_ms / SECOND_MS, lifetime_s })
    }

    /// Who an access token stands for, while it lives.
    pub(crate) fn bearer(&self, records: &Records, token: &str, now_ms: Millis) -> S3Result<Option<Caller>> {
        let given: Option<Given> = get(records, TOKENS, token)?;
        let live = given.filter(|given| !given.is_refresh && given.expires_ms > now_ms);
        Ok(live.map(|given| Caller { service_id: given.service_id, instance: None }))
    }

    /// Ends every token that was given until now; refresh tokens too if asked for.
    pub(crate) fn expire_tokens(&self, records: &Records, refresh_too: bool) -> S3Result<()> {
        let given: Vec<(String, Given)> = all(records, TOKENS)?;
        let transaction = records.write()?;
        {
            let mut table = transaction.open_table(IAM).or_internal()?;
            for (id, _) in given.iter().filter(|(_, given)| refresh_too || !given.is_refresh) {
                table.remove((TOKENS, id.as_str())).or_internal()?;
            }
        }
        transaction.commit().or_internal()
    }
}

/// Three parts as a JSON web token has them. The third is random: it makes the token unguessable, and signs nothing. Its length is a
/// multiple of four, so that it is base64 however strictly it is read.
fn web_token(service_id: &str, now_s: u64, expires_s: u64) -> String {
    let header = serde_json::json!({"kid": "sandbox", "alg": "RS256"});
    let claims = serde_json::json!({
        "iam_id": service_id, "id": service_id, "sub": service_id, "sub_type": "ServiceId",
        "account": {"valid": true, "bss": crate::kms::ACCOUNT},
        "iat": now_s, "exp": expires_s, "iss": "https://iam.cloud.ibm.com/identity",
        "grant_type": "urn:ibm:params:oauth:grant-type:apikey", "scope": "ibm openid", "client_id": "default",
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&header), part(&claims), random::word(88))
}
