//! Writing objects: in one request, or in parts that become one object at once or not at all.

use std::sync::atomic::Ordering;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ObjectLockMode};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::base64;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use md5::{Digest, Md5};

use super::S3Store;
use crate::{PutOutcome, Retention, RetentionMode, StoreError};

/// Parts of one object that are under way at once.
const PARTS_AT_ONCE_COUNT: usize = 4;

/// Most parts of an object.
const PART_COUNT_MAX: usize = 10_000;

/// Header of an object's retention under the policy of a bucket.
pub(super) const RETAIN_UNTIL_HEADER: &str = "retention-expiration-date";

const CONTENT_TYPE: &str = "application/octet-stream";

/// How an object is written.
#[derive(Clone, Copy)]
pub(super) struct Put<'a> {
    pub(super) if_absent: bool,
    pub(super) retention: Option<&'a Retention>,
    /// Whether each request brings the checksum of its body.
    has_sum: bool,
}

impl<'a> Put<'a> {
    pub(super) const fn new(if_absent: bool, retention: Option<&'a Retention>) -> Self {
        Self { if_absent, retention, has_sum: false }
    }

    /// The lock that the object gets by the means of S3.
    fn lock(&self) -> Result<Option<(ObjectLockMode, DateTime)>, StoreError> {
        let Some(retention) = self.retention else { return Ok(None) };
        Ok(lock_mode(retention.mode).map(|mode| (mode, date_time(retention.until_s))))
    }

    /// The end of the retention under a bucket's policy.
    fn policy_end(&self) -> Option<String> {
        let retention = self.retention.filter(|retention| retention.mode == RetentionMode::Policy)?;
        Some(iso_time(retention.until_s))
    }

    fn condition(&self) -> Option<String> {
        self.if_absent.then(|| "*".to_owned())
    }
}

/// A write that took place: the id of its version, if the bucket has versions.
type Written = Result<Option<String>, StoreError>;

impl S3Store {
    /// Writes an object; `None` for one that was there, when the write was to be the first.
    pub(super) async fn put(
        &self,
        name: &str,
        body: &[u8],
        put: Put<'_>,
    ) -> Result<(PutOutcome, Option<String>), StoreError> {
        let is_large = body.len() >= self.part_len.saturating_mul(2);
        self.write(name, body, put, is_large).await
    }

    /// As [`Self::put`], in parts whatever the length.
    pub(super) async fn write_in_parts(
        &self,
        name: &str,
        body: &[u8],
        put: Put<'_>,
    ) -> Result<(PutOutcome, Option<String>), StoreError> {
        self.write(name, body, put, true).await
    }

    /// A bucket that retains by itself demands a checksum also of what asks for no retention. What it refuses for that is
    /// written again with one, and from then on everything is.
    async fn write(
        &self,
        name: &str,
        body: &[u8],
        put: Put<'_>,
        in_parts: bool,
    ) -> Result<(PutOutcome, Option<String>), StoreError> {
        let has_sum = put.retention.is_some() || self.demands_sum.load(Ordering::Relaxed);
        let mut written = self.write_once(name, body, Put { has_sum, ..put }, in_parts).await;
        if !has_sum && is_bad_request(&written) {
            written = self.write_once(name, body, Put { has_sum: true, ..put }, in_parts).await;
            if !is_bad_request(&written) {
                self.demands_sum.store(true, Ordering::Relaxed);
            }
        }
        // Without the lock it would have been a write like any other.
        let is_refused = put.retention.is_some() && is_bad_request(&written);
        outcome_of(written, put).map_err(|error| match error {
            StoreError::Rejected { name, store, source } if is_refused => {
                StoreError::LockRefused { name, store, source }
            }
            error => error,
        })
    }

    async fn write_once(&self, name: &str, body: &[u8], put: Put<'_>, in_parts: bool) -> Written {
        if in_parts {
            self.put_in_parts(name, body, put).await
        } else {
            self.put_whole(name, body, put).await
        }
    }

    async fn put_whole(&self, name: &str, body: &[u8], put: Put<'_>) -> Written {
        let mut request = self
            .client
            .put_object()
            .bucket(&self.location.bucket)
            .key(self.full(name))
            .content_type(CONTENT_TYPE)
            .set_if_none_match(put.condition())
            .body(ByteStream::from(Bytes::copy_from_slice(body)));
        if put.has_sum {
            request = request.content_md5(md5_of(body));
        }
        if let Some((mode, until)) = put.lock()? {
            request = request.object_lock_mode(mode).object_lock_retain_until_date(until);
        }
        let end = put.policy_end();
        let mut request = request.customize().mutate_request(move |request| {
            set_policy_end(request.headers_mut(), end.as_deref());
        });
        if self.is_tls {
            request = request.disable_payload_signing();
        }
        let output = request.send().await.map_err(|error| self.sdk(name, error))?;
        Ok(output.version_id)
    }

    async fn put_in_parts(&self, name: &str, body: &[u8], put: Put<'_>) -> Written {
        let (bucket, key) = (&self.location.bucket, self.full(name));
        let mut request =
            self.client.create_multipart_upload().bucket(bucket).key(&key).content_type(CONTENT_TYPE);
        if let Some((mode, until)) = put.lock()? {
            request = request.object_lock_mode(mode).object_lock_retain_until_date(until);
        }
        let begun = request.send().await.map_err(|error| self.sdk(name, error))?;
        let Some(upload_id) = begun.upload_id else {
            return Err(self.odd(name, "the upload in parts got no id"));
        };
        let written = self.send_parts(name, &upload_id, body, put).await;
        if written.is_err() {
            // What is left of it costs money but harms nothing; the first failure is what the caller wants to know.
            let abort = self.client.abort_multipart_upload().bucket(bucket).key(&key);
            drop(abort.upload_id(&upload_id).send().await);
        }
        written
    }

    async fn send_parts(&self, name: &str, upload_id: &str, body: &[u8], put: Put<'_>) -> Written {
        let (bucket, key) = (&self.location.bucket, self.full(name));
        let part_len = self.part_len.max(body.len().div_ceil(PART_COUNT_MAX));
        let send = async |number: i32, part: &[u8]| -> Result<CompletedPart, StoreError> {
            let mut request = self
                .client
                .upload_part()
                .bucket(bucket)
                .key(&key)
                .upload_id(upload_id)
                .part_number(number)
                .body(ByteStream::from(Bytes::copy_from_slice(part)));
            if put.has_sum {
                request = request.content_md5(md5_of(part));
            }
            let mut request = request.customize();
            if self.is_tls {
                request = request.disable_payload_signing();
            }
            let sent = request.send().await.map_err(|error| self.sdk(name, error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        };
        let parts = (1i32..).zip(body.chunks(part_len));
        let mut done: Vec<CompletedPart> = stream::iter(parts.map(|(number, part)| send(number, part)))
            .buffer_unordered(PARTS_AT_ONCE_COUNT)
            .try_collect()
            .await?;
        done.sort_unstable_by_key(|part| part.part_number);
        let end = put.policy_end();
        let output = self
            .client
            .complete_multipart_upload()
            .bucket(bucket)
            .key(&key)
            .upload_id(upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(done)).build())
            .set_if_none_match(put.condition())
            .customize()
            .mutate_request(move |request| {
                if put.has_sum {
                    add_md5(request);
                }
                set_policy_end(request.headers_mut(), end.as_deref());
            })
            .send()
            .await
            .map_err(|error| self.sdk(name, error))?;
        Ok(output.version_id)
    }
}

/// That something was there is no failure of a conditional write.
fn outcome_of(written: Written, put: Put<'_>) -> Result<(PutOutcome, Option<String>), StoreError> {
    match written {
        Ok(version_id) => Ok((PutOutcome::Created, version_id)),
        Err(StoreError::Rejected { source, .. }) if put.if_absent && is_precondition(&source) => {
            Ok((PutOutcome::AlreadyExists, None))
        }
        Err(error) => Err(error),
    }
}

/// What the API wants where it demands integrity.
fn md5_of(bytes: &[u8]) -> String {
    base64::encode(Md5::digest(bytes))
}

/// Adds the checksum of a body that is in memory.
pub(super) fn add_md5(request: &mut HttpRequest) {
    if let Some(sum) = request.body().bytes().map(md5_of) {
        request.headers_mut().insert("content-md5", sum);
    }
}

pub(super) const fn lock_mode(mode: RetentionMode) -> Option<ObjectLockMode> {
    match mode {
        RetentionMode::Governance => Some(ObjectLockMode::Governance),
        RetentionMode::Compliance => Some(ObjectLockMode::Compliance),
        RetentionMode::Policy => None,
    }
}

pub(super) fn date_time(seconds: u64) -> DateTime {
    DateTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// A time as `2026-01-31T04:00:00Z`; one beyond the calendar is the last that it has.
pub(super) fn iso_time(seconds: u64) -> String {
    let last = "9999-12-31T23:59:59Z".to_owned();
    date_time(seconds).fmt(Format::DateTime).unwrap_or(last)
}

fn set_policy_end(headers: &mut Headers, end: Option<&str>) {
    if let Some(end) = end {
        headers.insert(RETAIN_UNTIL_HEADER, end.to_owned());
    }
}

fn is_precondition(source: &crate::Cause) -> bool {
    status_of(source) == Some(412)
}

/// The request is not as the store wants it; stores do not agree on the code for a checksum that is missing.
fn is_bad_request(written: &Written) -> bool {
    matches!(written, Err(StoreError::Rejected { source, .. }) if status_of(source) == Some(400))
}

fn status_of(source: &crate::Cause) -> Option<u16> {
    source.downcast_ref::<super::RequestFailure>()?.status
}
