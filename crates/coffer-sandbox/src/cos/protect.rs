//! What keeps a version from being deleted or replaced: object lock, retention, legal holds.

use http::HeaderMap;
use s3s::dto::{ObjectLockLegalHoldStatus, ObjectLockMode, Timestamp};
use s3s::{S3ErrorCode, S3Result};

use super::checksums;
use super::model::{Bucket, DefaultLock, Hold, LockMode, ObjectLock, Retention, Version};
use super::text::{denied, invalid, millis, parse_date, refuse};
use crate::clock::{DAY_MS, Millis, SECOND_MS};

/// Legal holds on one object, at most.
pub(super) const HOLD_COUNT_MAX: usize = 100;

/// Refuses to let go of a version that something protects. A bypass helps against governance only.
pub(super) fn check_removable(version: &Version, now_ms: Millis, bypasses: bool) -> S3Result<()> {
    let lock = &version.lock;
    let is_locked = match lock.mode {
        Some(LockMode::Compliance) => lock.until_ms > now_ms,
        Some(LockMode::Governance) => lock.until_ms > now_ms && !bypasses,
        None => false,
    };
    let is_retained = version.retention.is_some_and(|retention| retention.until_ms > now_ms);
    if is_locked || lock.is_held || is_retained || !version.holds.is_empty() {
        return denied("Access Denied because object protected by object lock or retention.");
    }
    Ok(())
}

/// The lock that headers of a write ask for, if they ask for one.
pub(super) fn asked_lock(
    mode: Option<&ObjectLockMode>,
    until: Option<&Timestamp>,
    hold: Option<&ObjectLockLegalHoldStatus>,
    now_ms: Millis,
) -> S3Result<Option<ObjectLock>> {
    let is_held = hold.is_some_and(|hold| hold.as_str() == ObjectLockLegalHoldStatus::ON);
    match (mode, until) {
        (None, None) if hold.is_none() => Ok(None),
        (None, None) => Ok(Some(ObjectLock { is_held, ..ObjectLock::default() })),
        (Some(mode), Some(until)) => {
            let Some(mode) = LockMode::parse(mode.as_str()) else { return invalid("unknown lock mode") };
            let until_ms = millis(until);
            if until_ms <= now_ms {
                return invalid("The retain until date must be in the future!");
            }
            Ok(Some(ObjectLock { mode: Some(mode), until_ms, is_held }))
        }
        _ => invalid("x-amz-object-lock-mode and x-amz-object-lock-retain-until-date go together"),
    }
}

/// The lock of a new version: what was asked for, else what the bucket says.
pub(super) fn lock_of_new(
    bucket: &Bucket,
    asked: Option<ObjectLock>,
    now_ms: Millis,
) -> S3Result<ObjectLock> {
    let Some(rule) = &bucket.lock else {
        return match asked {
            Some(_) => {
                Err(refuse(S3ErrorCode::InvalidRequest, "Bucket is missing Object Lock Configuration"))
            }
            None => Ok(ObjectLock::default()),
        };
    };
    let mut lock = asked.unwrap_or_default();
    if let (None, Some(default)) = (lock.mode, rule.default) {
        lock.mode = Some(default.mode);
        lock.until_ms = now_ms.saturating_add(period_ms(default));
    }
    Ok(lock)
}

fn period_ms(default: DefaultLock) -> Millis {
    let days = u64::from(default.count) * if default.is_years { 365 } else { 1 };
    days.saturating_mul(DAY_MS)
}

/// Changes the retention of a lock; it may only grow, unless governance is bypassed.
pub(super) fn relock(
    lock: &mut ObjectLock,
    mode: Option<LockMode>,
    until_ms: Millis,
    now_ms: Millis,
    bypasses: bool,
) -> S3Result<()> {
    if mode.is_some() && until_ms <= now_ms {
        return invalid("The retain until date must be in the future!");
    }
    let is_in_force = lock.mode.is_some() && lock.until_ms > now_ms;
    let weakens = mode.is_none()
        || until_ms < lock.until_ms
        || (lock.mode == Some(LockMode::Compliance) && mode == Some(LockMode::Governance));
    let may_weaken = lock.mode == Some(LockMode::Governance) && bypasses;
    if is_in_force && weakens && !may_weaken {
        return denied("Access Denied because object protected by object lock.");
    }
    lock.mode = mode;
    lock.until_ms = if mode.is_some() { until_ms } else { 0 };
    Ok(())
}

fn seconds(headers: &HeaderMap, name: &str) -> S3Result<Option<u64>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str().ok().and_then(|text| text.trim().parse().ok()) {
        Some(seconds) => Ok(Some(seconds)),
        None => invalid(format!("{name} is not a number of seconds")),
    }
}

fn date(headers: &HeaderMap, name: &str) -> S3Result<Option<Millis>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str().ok().and_then(parse_date) {
        Some(at) => Ok(Some(at)),
        None => invalid(format!("{name} is not a date")),
    }
}

/// The retention and legal hold of a new object in a bucket with a retention policy.
pub(super) fn retention_of_new(
    bucket: &Bucket,
    headers: &HeaderMap,
    now_ms: Millis,
) -> S3Result<(Option<Retention>, Vec<Hold>)> {
    let period = seconds(headers, "retention-period")?;
    let expires = date(headers, "retention-expiration-date")?;
    let hold = headers.get("retention-legal-hold-id").map(|id| id.to_str().unwrap_or_default().to_owned());
    let Some(policy) = bucket.protection else {
        if period.is_some() || expires.is_some() || hold.is_some() {
            return Err(refuse(S3ErrorCode::InvalidRequest, "the bucket has no retention policy"));
        }
        return Ok((None, Vec::new()));
    };
    if !checksums::has_sum(headers) && !headers.contains_key("x-amz-copy-source") {
        return Err(refuse(
            S3ErrorCode::InvalidRequest,
            "Content-MD5 or a checksum is needed in a bucket with a retention policy",
        ));
    }
    let default_s = u64::from(policy.default_days) * 86_400;
    let (period_s, until_ms) = match (period, expires) {
        (Some(_), Some(_)) => {
            return invalid("Retention-Period and Retention-Expiration-Date exclude each other");
        }
        (Some(period_s), None) => (period_s, now_ms.saturating_add(period_s.saturating_mul(SECOND_MS))),
        (None, Some(until_ms)) => (until_ms.saturating_sub(now_ms) / SECOND_MS, until_ms),
        (None, None) => (default_s, now_ms.saturating_add(default_s * SECOND_MS)),
    };
    check_period(bucket, period_s)?;
    let holds = hold.map(|id| new_hold(id, now_ms)).transpose()?.into_iter().collect();
    Ok((Some(Retention { period_s, until_ms }), holds))
}

/// A retention period must be between the least and the greatest of the bucket.
fn check_period(bucket: &Bucket, period_s: u64) -> S3Result<()> {
    let Some(policy) = bucket.protection else { return Ok(()) };
    let (least, most) = (u64::from(policy.minimum_days) * 86_400, u64::from(policy.maximum_days) * 86_400);
    if period_s < least || period_s > most {
        return invalid(format!("a retention period of this bucket is between {least} and {most} seconds"));
    }
    Ok(())
}

/// A hold with a valid id.
pub(super) fn new_hold(id: String, since_ms: Millis) -> S3Result<Hold> {
    if id.is_empty() || id.len() > 64 {
        return invalid("a legal hold id has 1 to 64 characters");
    }
    Ok(Hold { id, since_ms })
}

/// Makes a retention longer, as one of four headers says.
pub(super) fn extend(
    bucket: &Bucket,
    version: &mut Version,
    headers: &HeaderMap,
    now_ms: Millis,
) -> S3Result<()> {
    let additional = seconds(headers, "additional-retention-period")?;
    let from_now = seconds(headers, "extend-retention-from-current-time")?;
    let expires = date(headers, "new-retention-expiration-date")?;
    let period = seconds(headers, "new-retention-period")?;
    let Some(old) = version.retention else {
        return Err(refuse(S3ErrorCode::InvalidRequest, "the object has no retention"));
    };
    let after = |from_ms: Millis, period_s: u64| from_ms.saturating_add(period_s.saturating_mul(SECOND_MS));
    let until_ms = match (additional, from_now, expires, period) {
        (Some(more), None, None, None) => after(old.until_ms, more),
        (None, Some(more), None, None) => after(now_ms, more),
        (None, None, Some(until_ms), None) => until_ms,
        (None, None, None, Some(period_s)) => after(version.created_ms, period_s),
        _ => return invalid("exactly one header says how retention is extended"),
    };
    if until_ms < old.until_ms {
        return invalid("retention can only be extended");
    }
    let period_s = until_ms.saturating_sub(version.created_ms) / SECOND_MS;
    check_period(bucket, period_s)?;
    version.retention = Some(Retention { period_s, until_ms });
    Ok(())
}
