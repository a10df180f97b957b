//! Versions, locks and archive classes on S3 and Cloud Object Storage.
//!
//! What both have goes the way of S3. Retention policies, their legal holds and the root key of a bucket are known to
//! Cloud Object Storage alone and are asked for only where an endpoint is given.

use std::ops::ControlFlow;
use std::sync::Arc;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, GlacierJobParameters, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode, RestoreRequest, Tier,
};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use super::S3Store;
use super::download::Source;
use super::failure::{RequestFailure, chain};
use super::list::once;
use super::raw::{RawRequest, elements};
use super::upload::{Put, RETAIN_UNTIL_HEADER, add_md5, date_time, iso_time};
use crate::{
    Access, Attempt, BucketFacts, Checksums, ClockAhead, CloudStore, Credentials, Fact, ObjectKey,
    ObjectLock, Protection, PutOutcome, RestoreTier, Retention, RetentionMode, StorageState, StoreError,
    Trial, UploadFacts, UploadForm, VersionItem, Versioning,
};

/// The id of the legal holds that coffer lays under a bucket's policy.
const LEGAL_HOLD_ID: &str = "coffer";

impl CloudStore for S3Store {
    fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.run(async || {
            let versioning = fact(self.versioning().await)?;
            Ok(BucketFacts {
                location: fact(self.bucket_location().await)?,
                versioning,
                object_lock: fact(self.object_lock().await)?,
                protection: fact(self.protection().await)?,
                root_key: fact(self.root_key().await)?,
            })
        })
    }

    fn versions(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.visit_versions(&once, prefix, visit)
    }

    fn versions_by(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.visit_versions(attempt, prefix, visit)
    }

    fn clock_ahead(&self) -> Option<ClockAhead> {
        self.sides.clock().ahead()
    }

    fn keeps_versions(&self) -> Option<bool> {
        self.shown.keeps_versions()
    }

    fn read_version(
        &self,
        key: &ObjectKey,
        version_id: &str,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let source = Source { name: key.as_str(), version_id: Some(version_id) };
        self.run(async || absent_if_marker(self.read_whole(source, len_max, out).await))
    }

    fn read_version_range(
        &self,
        key: &ObjectKey,
        version_id: &str,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        let source = Source { name: key.as_str(), version_id: Some(version_id) };
        self.run(async || absent_if_marker(self.fill_range(source, offset, out).await))
    }

    fn put_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        let put = Put::new(true, Some(retention));
        Ok(self.run(async || self.put(key.as_str(), body, put).await)?.0)
    }

    fn put_shared_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        let put = Put::new(true, Some(retention));
        Ok(self.run(async || self.put(key.as_str(), body, put).await)?.0)
    }

    fn put_unconditional(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        let put = Put::new(false, retention);
        Ok(self.run(async || self.put(key.as_str(), body, put).await)?.1)
    }

    fn put_shared_unconditional(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        let put = Put::new(false, retention);
        Ok(self.run(async || self.put(key.as_str(), body, put).await)?.1)
    }

    fn put_if_absent_in_parts(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let put = Put::new(true, None);
        Ok(self.run(async || self.write_in_parts(key.as_str(), body, put).await)?.0)
    }

    fn retention(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<Option<Retention>, StoreError> {
        self.run(async || self.retention_of(key.as_str(), version_id).await)
    }

    fn extend_retention(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        self.run(async || {
            let current = self.retention_of(key.as_str(), version_id).await?;
            if let Some(current) = current {
                if current.until_s > retention.until_s {
                    return Err(self.odd(key.as_str(), "the object is retained for longer than that"));
                }
                let is_as_firm = current.mode == retention.mode || current.mode == RetentionMode::Compliance;
                if current.until_s == retention.until_s && is_as_firm {
                    return Ok(());
                }
            }
            // By now the store has told a time.
            self.check_clock()?;
            let is_compliance = current.is_some_and(|current| current.mode == RetentionMode::Compliance);
            self.retain(key.as_str(), version_id, retention, is_compliance).await
        })
    }

    fn legal_hold(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<bool, StoreError> {
        self.run(async || {
            let head = self.head(key.as_str(), version_id).await?;
            if head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
                return Ok(true);
            }
            let count = self.cos_header(key.as_str(), "retention-legal-hold-count").await?;
            Ok(count.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count > 0))
        })
    }

    fn set_legal_hold(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        is_held: bool,
    ) -> Result<(), StoreError> {
        self.run(async || {
            if self.has_policy().await? {
                self.set_policy_hold(key.as_str(), is_held).await
            } else {
                self.set_lock_hold(key.as_str(), version_id, is_held).await
            }
        })
    }

    fn storage_class(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<StorageState, StoreError> {
        let head = self.run(async || self.head(key.as_str(), version_id).await)?;
        let class = head.storage_class().map_or("STANDARD", |class| class.as_str()).to_owned();
        let is_class = matches!(class.as_str(), "GLACIER" | "DEEP_ARCHIVE" | "ACCELERATED");
        let is_tier = is_in_archive_tier(&head);
        let access = match head.restore() {
            _ if !is_class && !is_tier => Access::Now,
            Some(state) if state.contains("ongoing-request=\"true\"") => Access::Restoring,
            // Out of a tier the object comes back itself, and has no copy: it is in the tier as long as it is said to be.
            Some(state) if is_class => Access::Restored(expiry(state)),
            _ => Access::Archived,
        };
        Ok(StorageState { class, access })
    }

    fn request_restore(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        days: u32,
        tier: RestoreTier,
    ) -> Result<(), StoreError> {
        let tier = match tier {
            RestoreTier::Expedited if self.is_cos => Tier::from("Accelerated"),
            RestoreTier::Expedited => Tier::Expedited,
            // Cloud Object Storage has no tier between the two.
            RestoreTier::Standard if !self.is_cos => Tier::Standard,
            _ => Tier::Bulk,
        };
        self.run(async || {
            let odd = |error: aws_sdk_s3::error::BuildError| self.odd(key.as_str(), &error.to_string());
            let job = GlacierJobParameters::builder().tier(tier.clone()).build().map_err(odd)?;
            // What comes back out of a tier has no end, and a request that names one is refused.
            let is_tier = !self.is_cos && is_in_archive_tier(&self.head(key.as_str(), version_id).await?);
            let days = (!is_tier).then(|| i32::try_from(days).unwrap_or(i32::MAX));
            let wish = RestoreRequest::builder().set_days(days).glacier_job_parameters(job).build();
            let request = self
                .client()
                .restore_object()
                .bucket(&self.location.bucket)
                .key(self.full(key.as_str()))
                .set_version_id(version_id.map(str::to_owned))
                .restore_request(wish);
            match request.send().await.map_err(|error| self.sdk(key.as_str(), error)) {
                Err(StoreError::Rejected { source, .. }) if has_code(&source, "RestoreAlreadyInProgress") => {
                    Ok(())
                }
                result => result.map(drop),
            }
        })
    }

    fn try_upload(
        &self,
        key: &ObjectKey,
        body: &[u8],
        form: UploadForm,
        if_absent: bool,
    ) -> Result<Trial, StoreError> {
        // Without TLS each chunk is signed by itself, and a token signs nothing.
        if form == UploadForm::Chunked && !self.is_tls && matches!(self.credentials, Credentials::Bearer(_)) {
            let what = "an upload in chunks with a token and without TLS";
            return Err(StoreError::Unsupported { store: self.location.url(), what });
        }
        self.run(async || self.try_form(key.as_str(), body, form, if_absent).await)
    }

    fn learn_uploads(&self, facts: &UploadFacts) {
        self.uploads.learn(facts);
    }

    fn checksums(&self) -> Checksums {
        self.uploads.choice
    }

    fn delete_version(&self, key: &ObjectKey, version_id: &str) -> Result<(), StoreError> {
        self.run(async || self.remove(key.as_str(), Some(version_id)).await)
    }
}

impl S3Store {
    async fn versioning(&self) -> Result<Versioning, StoreError> {
        let bucket = &self.location.bucket;
        let output = self.client().get_bucket_versioning().bucket(bucket).send().await;
        let output = output.map_err(|error| self.sdk(bucket, error))?;
        Ok(match output.status {
            Some(BucketVersioningStatus::Enabled) => Versioning::On,
            Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
            _ => Versioning::Off,
        })
    }

    async fn bucket_location(&self) -> Result<String, StoreError> {
        let bucket = &self.location.bucket;
        let output = self.client().get_bucket_location().bucket(bucket).send().await;
        let output = output.map_err(|error| self.sdk(bucket, error))?;
        let place = output.location_constraint.map(|place| place.as_str().to_owned());
        // The first region of AWS has no name here.
        Ok(place.filter(|place| !place.is_empty()).unwrap_or_else(|| "us-east-1".to_owned()))
    }

    async fn object_lock(&self) -> Result<Option<ObjectLock>, StoreError> {
        let bucket = &self.location.bucket;
        let output = self.client().get_object_lock_configuration().bucket(bucket).send().await;
        let output = match output.map_err(|error| self.sdk(bucket, error)) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            output => output?,
        };
        let Some(configuration) = output.object_lock_configuration else { return Ok(None) };
        if configuration.object_lock_enabled.is_none() {
            return Ok(None);
        }
        let default = configuration.rule.and_then(|rule| rule.default_retention).and_then(|retention| {
            let years = retention.years.and_then(|years| years.checked_mul(365));
            let days = u32::try_from(retention.days.or(years)?).ok()?;
            Some((lock_retention_mode(&retention.mode?)?, days))
        });
        Ok(Some(ObjectLock { default }))
    }

    async fn protection(&self) -> Result<Option<Protection>, StoreError> {
        if self.endpoint.is_none() {
            return Ok(None);
        }
        let call = RawRequest { method: "GET", name: None, query: "protection", headers: &[] };
        let answer = match self.raw(call).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            // Another service, which has no such call and so no such policy.
            Err(StoreError::Rejected { .. } | StoreError::Unsupported { .. }) if !self.is_cos => {
                return Ok(None);
            }
            answer => answer?,
        };
        Ok(parse_protection(&String::from_utf8_lossy(&answer.body)))
    }

    async fn has_policy(&self) -> Result<bool, StoreError> {
        if let Some(has_policy) = self.has_policy.get() {
            return Ok(*has_policy);
        }
        let has_policy = matches!(fact(self.protection().await)?, Fact::Known(Some(_)));
        Ok(*self.has_policy.get_or_init(|| has_policy))
    }

    async fn root_key(&self) -> Result<Option<String>, StoreError> {
        let bucket = &self.location.bucket;
        if self.endpoint.is_some() {
            let call = RawRequest { method: "HEAD", name: None, query: "", headers: &[] };
            let answer = self.raw(call).await?;
            let is_enabled = answer.headers.get("ibm-sse-kp-enabled");
            if is_enabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
                let id = answer.headers.get("ibm-sse-kp-crk-id").unwrap_or("unknown");
                return Ok(Some(id.to_owned()));
            }
            if self.is_cos {
                return Ok(None);
            }
        }
        let output = self.client().get_bucket_encryption().bucket(bucket).send().await;
        let output = match output.map_err(|error| self.sdk(bucket, error)) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            output => output?,
        };
        let rules = output.server_side_encryption_configuration.map(|rules| rules.rules).unwrap_or_default();
        let keys = rules.into_iter().filter_map(|rule| rule.apply_server_side_encryption_by_default);
        Ok(keys.filter_map(|key| key.kms_master_key_id).next())
    }

    async fn head(&self, name: &str, version_id: Option<&str>) -> Result<HeadObjectOutput, StoreError> {
        let request = self
            .client()
            .head_object()
            .bucket(&self.location.bucket)
            .key(self.full(name))
            .set_version_id(version_id.map(str::to_owned));
        match request.send().await.map_err(|error| self.sdk(name, error)) {
            Err(error) => Err(self.reason(Source { name, version_id }, error).await),
            head => head,
        }
    }

    /// A header of an object that the SDK does not know; nothing on AWS.
    async fn cos_header(&self, name: &str, header: &str) -> Result<Option<String>, StoreError> {
        if self.endpoint.is_none() {
            return Ok(None);
        }
        let call = RawRequest { method: "HEAD", name: Some(name), query: "", headers: &[] };
        Ok(self.raw(call).await?.headers.get(header).map(str::to_owned))
    }

    async fn retention_of(
        &self,
        name: &str,
        version_id: Option<&str>,
    ) -> Result<Option<Retention>, StoreError> {
        let head = self.head(name, version_id).await?;
        let mode = match head.object_lock_mode() {
            Some(ObjectLockMode::Governance) => Some(RetentionMode::Governance),
            Some(ObjectLockMode::Compliance) => Some(RetentionMode::Compliance),
            _ => None,
        };
        if let (Some(mode), Some(until)) = (mode, head.object_lock_retain_until_date()) {
            return Ok(Some(Retention { mode, until_s: u64::try_from(until.secs()).unwrap_or(0) }));
        }
        let Some(until) = self.cos_header(name, RETAIN_UNTIL_HEADER).await? else { return Ok(None) };
        let until_s = parse_time(&until)
            .ok_or_else(|| self.odd(name, "the store tells an end of retention that is no time"))?;
        Ok(Some(Retention { mode: RetentionMode::Policy, until_s }))
    }

    async fn retain(
        &self,
        name: &str,
        version_id: Option<&str>,
        retention: &Retention,
        is_compliance: bool,
    ) -> Result<(), StoreError> {
        let mode = match retention.mode {
            RetentionMode::Policy => {
                let headers = [("new-retention-expiration-date", iso_time(retention.until_s))];
                let call = RawRequest {
                    method: "POST",
                    name: Some(name),
                    query: "extendRetention",
                    headers: &headers,
                };
                return self.raw(call).await.map(drop);
            }
            RetentionMode::Governance if !is_compliance => ObjectLockRetentionMode::Governance,
            _ => ObjectLockRetentionMode::Compliance,
        };
        let until = date_time(retention.until_s);
        let request = self
            .client()
            .put_object_retention()
            .bucket(&self.location.bucket)
            .key(self.full(name))
            .set_version_id(version_id.map(str::to_owned))
            .retention(ObjectLockRetention::builder().mode(mode).retain_until_date(until).build())
            .customize()
            .mutate_request(add_md5);
        request.send().await.map(drop).map_err(|error| self.sdk(name, error))
    }

    async fn set_lock_hold(
        &self,
        name: &str,
        version_id: Option<&str>,
        is_held: bool,
    ) -> Result<(), StoreError> {
        let status = if is_held { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let request = self
            .client()
            .put_object_legal_hold()
            .bucket(&self.location.bucket)
            .key(self.full(name))
            .set_version_id(version_id.map(str::to_owned))
            .legal_hold(ObjectLockLegalHold::builder().status(status).build())
            .customize()
            .mutate_request(add_md5);
        request.send().await.map(drop).map_err(|error| self.sdk(name, error))
    }

    async fn set_policy_hold(&self, name: &str, is_held: bool) -> Result<(), StoreError> {
        let call = RawRequest { method: "GET", name: Some(name), query: "legalHold", headers: &[] };
        let answer = self.raw(call).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let is_ours = |(element, value): &(String, String)| element == "ID" && value == LEGAL_HOLD_ID;
        if elements(&text).iter().any(is_ours) == is_held {
            return Ok(());
        }
        let query = format!("legalHold&{}={LEGAL_HOLD_ID}", if is_held { "add" } else { "remove" });
        let call = RawRequest { method: "POST", name: Some(name), query: &query, headers: &[] };
        self.raw(call).await.map(drop)
    }
}

/// What a question about the bucket gave: that it may not be asked is an answer, that nobody can be asked is none.
fn fact<T>(result: Result<T, StoreError>) -> Result<Fact<T>, StoreError> {
    match result {
        Ok(value) => Ok(Fact::Known(value)),
        Err(
            error @ (StoreError::Denied { .. }
            | StoreError::Rejected { .. }
            | StoreError::Unsupported { .. }
            | StoreError::NotFound { .. }),
        ) => Ok(Fact::Unknown(chain(&error))),
        Err(error) => Err(error),
    }
}

/// Whether S3 Intelligent-Tiering has put an object into one of its tiers from which it is read only after it was asked for.
fn is_in_archive_tier(head: &HeadObjectOutput) -> bool {
    head.archive_status().is_some()
}

/// A delete marker is there, but there is nothing to read.
fn absent_if_marker(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(StoreError::Rejected { name, store, source }) if has_code(&source, "MethodNotAllowed") => {
            Err(StoreError::NotFound { name, store })
        }
        result => result,
    }
}

fn has_code(cause: &crate::Cause, code: &str) -> bool {
    cause.downcast_ref::<RequestFailure>().is_some_and(|failure| failure.code.as_deref() == Some(code))
}

const fn lock_retention_mode(mode: &ObjectLockRetentionMode) -> Option<RetentionMode> {
    match mode {
        ObjectLockRetentionMode::Governance => Some(RetentionMode::Governance),
        ObjectLockRetentionMode::Compliance => Some(RetentionMode::Compliance),
        _ => None,
    }
}

/// The retention policy in a document, if it is one and in force.
fn parse_protection(text: &str) -> Option<Protection> {
    let found = elements(text);
    let (root, _) = found.first()?;
    let status = found.iter().find(|(element, _)| element == "Status")?;
    if root != "ProtectionConfiguration" || status.1 == "Disabled" {
        return None;
    }
    let days = |period: &str| {
        let after = found.iter().skip_while(|(element, _)| element != period);
        after.take(2).find(|(element, _)| element == "Days")?.1.parse().ok()
    };
    let is_permanent = |(element, value): &(String, String)| {
        element == "EnablePermanentRetention" && value.eq_ignore_ascii_case("true")
    };
    Some(Protection {
        minimum_days: days("MinimumRetention")?,
        default_days: days("DefaultRetention")?,
        maximum_days: days("MaximumRetention")?,
        is_permanent_allowed: found.iter().any(is_permanent),
    })
}

/// A time that the service tells in one form or the other.
fn parse_time(text: &str) -> Option<u64> {
    let read = |form| DateTime::from_str(text.trim(), form).ok();
    let time = read(Format::DateTimeWithOffset).or_else(|| read(Format::HttpDate))?;
    u64::try_from(time.secs()).ok()
}

/// The end of a copy in `ongoing-request="false", expiry-date="Fri, 23 Dec 2012 00:00:00 GMT"`.
fn expiry(state: &str) -> Option<u64> {
    let (_, after) = state.split_once("expiry-date=\"")?;
    parse_time(after.split('"').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_policy_is_read_and_nothing_else_taken_for_one() {
        let text = "<?xml version=\"1.0\"?><ProtectionConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Status>Retention</Status><MinimumRetention><Days>1</Days></MinimumRetention>\
            <DefaultRetention><Days>30</Days></DefaultRetention>\
            <MaximumRetention><Days>365</Days></MaximumRetention>\
            <EnablePermanentRetention>true</EnablePermanentRetention></ProtectionConfiguration>";
        let expected =
            Protection { minimum_days: 1, default_days: 30, maximum_days: 365, is_permanent_allowed: true };
        assert_eq!(parse_protection(text), Some(expected));
        for other in [
            "",
            "no XML",
            "<ProtectionConfiguration><Status>Disabled</Status></ProtectionConfiguration>",
            "<ProtectionConfiguration/>",
            "<ListBucketResult><Status>Retention</Status></ListBucketResult>",
        ] {
            assert_eq!(parse_protection(other), None, "{other}");
        }
    }

    #[test]
    fn times_in_both_forms() {
        assert_eq!(parse_time("2015-10-21T07:28:00Z"), Some(1_445_412_480));
        assert_eq!(parse_time("2015-10-21T07:28:00.000Z"), Some(1_445_412_480));
        assert_eq!(parse_time("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(parse_time("tomorrow"), None);
        let state = "ongoing-request=\"false\", expiry-date=\"Wed, 21 Oct 2015 07:28:00 GMT\"";
        assert_eq!(expiry(state), Some(1_445_412_480));
        assert_eq!(iso_time(1_445_412_480), "2015-10-21T07:28:00Z");
        assert_eq!(iso_time(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
