//! Behaviour that tests switch while the region runs.

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

/// All switches. They are kept across a restart of a persistent sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Switches {
    /// What `If-None-Match: *` on a write does.
    pub condition_mode: ConditionMode,
    /// Lists are complete but not in the order of names, as IBM warns.
    pub is_list_unsorted: bool,
    /// So many of the next requests to object storage are answered 503 `SlowDown`.
    pub slow_down_count: u64,
    /// The `Retry-After` of those answers, in seconds.
    pub retry_after_s: Option<u64>,
    /// So many of the next requests to IAM are answered 503.
    pub iam_unavailable_count: u64,
    /// How an expired token is refused.
    pub token_refusal: TokenRefusal,
    /// How buckets of other locations are refused.
    pub wrong_location: WrongLocation,
    /// How far the clock that checks signatures is ahead of the machine, in seconds.
    pub signature_skew_s: i64,
    /// How long tokens live, in seconds.
    pub token_lifetime_s: u64,
    /// IAM gives the word `not_supported` in place of a refresh token.
    pub is_refresh_unsupported: bool,
    /// How long a restore from an archive takes, in seconds; else 12 hours, or 2 for accelerated ones.
    pub restore_delay_s: Option<u64>,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            condition_mode: ConditionMode::Honoured,
            is_list_unsorted: true,
            slow_down_count: 0,
            retry_after_s: None,
            iam_unavailable_count: 0,
            token_refusal: TokenRefusal::Unauthorized,
            wrong_location: WrongLocation::NotFound,
            signature_skew_s: 0,
            token_lifetime_s: 3600,
            is_refresh_unsupported: false,
            restore_delay_s: None,
        }
    }
}
