//! Behaviour that tests switch while the region runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a conditional write (`If-None-Match: *`) meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConditionMode {
    /// 412 if the object is there.
    #[default]
    Honoured,
    /// The condition is accepted and has no effect, as on stores that do not know it.
    Ignored,
    /// 501 `NotImplemented`.
    Rejected,
}

/// What a checksum meets that a write brings in a header of S3 (`x-amz-checksum-…`, not `Content-MD5`) or behind its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChecksumMode {
    /// It is compared with what arrived: 400 `BadDigest`.
    #[default]
    Verified,
    /// It is accepted and has no effect, as on stores that do not know it.
    Ignored,
    /// 501 `NotImplemented`.
    Rejected,
}

/// How object storage answers a bearer token that is expired, revoked or unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenRefusal {
    /// 401.
    #[default]
    Unauthorized,
    /// 403 `AccessDenied`.
    Forbidden,
}

/// What object storage says of a bucket that is in another location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WrongLocation {
    /// 404 `NoSuchBucket`.
    #[default]
    NotFound,
    /// 301 `PermanentRedirect`.
    Redirect,
}

/// What HPCS does with additional authenticated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AadMode {
    /// The data are bound to the ciphertext, as in Key Protect.
    #[default]
    Honoured,
    /// The data are accepted and have no effect.
    Ignored,
    /// 400 `BAD_BODY_ERR`.
    Rejected,
}

/// How an instance of the key service that is gone answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KmsGone {
    /// 404.
    #[default]
    NotFound,
    /// 410.
    Gone,
}

/// All switches. They are kept across a restart of a persistent sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Switches {
    /// What `If-None-Match: *` on a write does.
    pub condition_mode: ConditionMode,
    /// What checksums of S3 do.
    pub checksum_mode: ChecksumMode,
    /// A write with no checksum at all, nor `Content-MD5`, is answered 400 `InvalidRequest`, as under a default retention.
    pub is_checksum_demanded: bool,
    /// A body in chunks (`aws-chunked`) is answered 501 `NotImplemented`.
    pub is_chunked_rejected: bool,
    /// Lists are complete but not in the order of names, as IBM warns.
    pub is_list_unsorted: bool,
    /// So many of the next requests to object storage are answered 503 `SlowDown`.
    pub slow_down_count: u64,
    /// The `Retry-After` of those answers, in seconds.
    pub retry_after_s: Option<u64>,
    /// So many requests to IAM are let through before those fail that are to fail.
    pub iam_unavailable_skip: u64,
    /// So many requests to IAM are then answered 503.
    pub iam_unavailable_count: u64,
    /// How an expired token is refused.
    pub token_refusal: TokenRefusal,
    /// How buckets of other locations are refused.
    pub wrong_location: WrongLocation,
    /// How far the clock that checks signatures, and whose time answers tell, is ahead of the machine, in seconds.
    pub signature_skew_s: i64,
    /// How long tokens live, in seconds.
    pub token_lifetime_s: u64,
    /// IAM gives the word `not_supported` in place of a refresh token.
    pub is_refresh_unsupported: bool,
    /// How long a restore from an archive takes, in seconds; else 12 hours, or 2 for accelerated ones.
    pub restore_delay_s: Option<u64>,
    /// What HPCS does with additional authenticated data.
    pub kms_aad: AadMode,
    /// So many of the next requests to the key service are answered 429, with the `Retry-After` above.
    pub kms_too_many_count: u64,
    /// So many requests to the key service are let through before those fail that are to fail.
    pub kms_failure_skip: u64,
    /// So many requests to the key service are then answered 500.
    pub kms_failure_count: u64,
    /// How long each answer of the key service takes, in milliseconds.
    pub kms_delay_ms: u64,
    /// Nobody may unwrap, whatever the policies say.
    pub is_unwrap_denied: bool,
    /// How the key service refuses what no policy allows.
    pub kms_denial: TokenRefusal,
    /// Instances of the key service (by GUID) that answer as if they were gone.
    pub kms_gone: BTreeMap<String, KmsGone>,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            condition_mode: ConditionMode::Honoured,
            checksum_mode: ChecksumMode::Verified,
            is_checksum_demanded: false,
            is_chunked_rejected: false,
            is_list_unsorted: true,
            slow_down_count: 0,
            retry_after_s: None,
            iam_unavailable_skip: 0,
            iam_unavailable_count: 0,
            token_refusal: TokenRefusal::Unauthorized,
            wrong_location: WrongLocation::NotFound,
            signature_skew_s: 0,
            token_lifetime_s: 3600,
            is_refresh_unsupported: false,
            restore_delay_s: None,
            kms_aad: AadMode::Honoured,
            kms_too_many_count: 0,
            kms_failure_skip: 0,
            kms_failure_count: 0,
            kms_delay_ms: 0,
            is_unwrap_denied: false,
            kms_denial: TokenRefusal::Unauthorized,
            kms_gone: BTreeMap::new(),
        }
    }
}
