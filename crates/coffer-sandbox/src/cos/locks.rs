//! Object lock: the rule of a bucket, and the retention and legal hold of a version.

use s3s::dto::{
    DefaultRetention, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectRetentionInput, GetObjectRetentionOutput,
    ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    ObjectLockRetention, ObjectLockRetentionMode, ObjectLockRule, PutObjectLegalHoldInput,
    PutObjectLegalHoldOutput, PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput,
    PutObjectRetentionInput, PutObjectRetentionOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::buckets::update;
use super::model::{Bucket, DefaultLock, LockMode, LockRule, Versioning};
use super::protect;
use super::service::Service;
use super::store::Change;
use super::text::{invalid, millis, refuse, timestamp};

/// The longest default retention, in days.
const DEFAULT_DAYS_MAX: u32 = 36_500;

fn without_lock() -> s3s::S3Error {
    refuse(S3ErrorCode::InvalidRequest, "Bucket is missing Object Lock Configuration")
}

impl Service {
    pub(super) async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        let bucket = self.bucket(&request.input.bucket)?;
        let Some(rule) = bucket.lock else {
            return Err(refuse(
                S3ErrorCode::ObjectLockConfigurationNotFoundError,
                "Object Lock configuration does not exist for this bucket",
            ));
        };
        let rule = rule.default.map(|default| {
            let count = i32::try_from(default.count).ok();
            ObjectLockRule {
                default_retention: Some(DefaultRetention {
                    mode: Some(ObjectLockRetentionMode::from_static(default.mode.name())),
                    days: count.filter(|_| !default.is_years),
                    years: count.filter(|_| default.is_years),
                }),
            }
        });
        let configuration = ObjectLockConfiguration {
            object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
            rule,
        };
        let object_lock_configuration = Some(configuration);
        Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration }))
    }

    pub(super) async fn put_object_lock_configuration(
        &self,
        request: S3Request<PutObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let asked = input.object_lock_configuration.unwrap_or_default();
        if asked.object_lock_enabled.is_none() {
            return Err(refuse(S3ErrorCode::MalformedXML, "ObjectLockEnabled is missing"));
        }
        let default = asked.rule.and_then(|rule| rule.default_retention).map(default_lock).transpose()?;
        update(self.region.records(), &input.bucket, |bucket| {
            if bucket.versioning != Versioning::Enabled {
                return Err(refuse(
                    S3ErrorCode::InvalidBucketState,
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
                ));
            }
            bucket.lock = Some(LockRule { default });
            Ok(())
        })?;
        Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
    }

    pub(super) async fn get_object_retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<S3Response<GetObjectRetentionOutput>> {
        let input = request.input;
        let bucket = self.lockable(&input.bucket)?;
        let version = self.version(&bucket, &input.key, input.version_id.as_deref())?;
        let Some(mode) = version.lock.mode else {
            return Err(refuse(
                S3ErrorCode::NoSuchObjectLockConfiguration,
                "The specified object does not have a ObjectLock configuration",
            ));
        };
        let retention = Some(ObjectLockRetention {
            mode: Some(ObjectLockRetentionMode::from_static(mode.name())),
            retain_until_date: Some(timestamp(version.lock.until_ms)),
        });
        Ok(S3Response::new(GetObjectRetentionOutput { retention }))
    }

    pub(super) async fn put_object_retention(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> S3Result<S3Response<PutObjectRetentionOutput>> {
        let input = request.input;
        self.lockable(&input.bucket)?;
        let asked = input.retention.unwrap_or_default();
        let (mode, until_ms) = match (&asked.mode, &asked.retain_until_date) {
            (None, None) => (None, 0),
            (Some(mode), Some(until)) => match LockMode::parse(mode.as_str()) {
                Some(mode) => (Some(mode), millis(until)),
                None => return Err(refuse(S3ErrorCode::MalformedXML, "unknown mode")),
            },
            _ => return Err(refuse(S3ErrorCode::MalformedXML, "Mode and RetainUntilDate go together")),
        };
        let bypasses = input.bypass_governance_retention == Some(true);
        let now_ms = self.region.clock().now_ms();
        let mut change = Change::begin(self.region.records(), &input.bucket, now_ms)?;
        change.update(&input.key, input.version_id.as_deref(), |_, version| {
            protect::relock(&mut version.lock, mode, until_ms, now_ms, bypasses)
        })?;
        change.commit()?;
        Ok(S3Response::new(PutObjectRetentionOutput::default()))
    }

    pub(super) async fn get_object_legal_hold(
        &self,
        request: S3Request<GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
        let input = request.input;
        let bucket = self.lockable(&input.bucket)?;
        let version = self.version(&bucket, &input.key, input.version_id.as_deref())?;
        let status =
            if version.lock.is_held { ObjectLockLegalHoldStatus::ON } else { ObjectLockLegalHoldStatus::OFF };
        let status = Some(ObjectLockLegalHoldStatus::from_static(status));
        let legal_hold = Some(ObjectLockLegalHold { status });
        Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold }))
    }

    pub(super) async fn put_object_legal_hold(
        &self,
        request: S3Request<PutObjectLegalHoldInput>,
    ) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
        let input = request.input;
        self.lockable(&input.bucket)?;
        let status = input.legal_hold.and_then(|hold| hold.status);
        let is_held = match status.as_ref().map(ObjectLockLegalHoldStatus::as_str) {
            Some(ObjectLockLegalHoldStatus::ON) => true,
            Some(ObjectLockLegalHoldStatus::OFF) => false,
            _ => return Err(refuse(S3ErrorCode::MalformedXML, "Status is ON or OFF")),
        };
        let mut change = Change::begin(self.region.records(), &input.bucket, self.region.clock().now_ms())?;
        change.update(&input.key, input.version_id.as_deref(), |_, version| {
            version.lock.is_held = is_held;
            Ok(())
        })?;
        change.commit()?;
        Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
    }

    fn lockable(&self, name: &str) -> S3Result<Bucket> {
        let bucket = self.bucket(name)?;
        if bucket.lock.is_some() { Ok(bucket) } else { Err(without_lock()) }
    }
}

fn default_lock(asked: DefaultRetention) -> S3Result<DefaultLock> {
    let malformed = || refuse(S3ErrorCode::MalformedXML, "the default retention is not valid");
    let mode = asked.mode.as_ref().and_then(|mode| LockMode::parse(mode.as_str())).ok_or_else(malformed)?;
    let (count, is_years) = match (asked.days, asked.years) {
        (Some(days), None) => (days, false),
        (None, Some(years)) => (years, true),
        _ => return Err(malformed()),
    };
    let count = u32::try_from(count).ok().filter(|count| *count > 0);
    let Some(count) = count else { return invalid("a default retention is at least one day") };
    if count.saturating_mul(if is_years { 365 } else { 1 }) > DEFAULT_DAYS_MAX {
        return invalid(format!("a default retention is at most {DEFAULT_DAYS_MAX} days"));
    }
    Ok(DefaultLock { mode, count, is_years })
}
