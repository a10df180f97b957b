//! Writing objects: in one request, or in parts that become one object at once or not at all.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::config::{Config, RequestChecksumCalculation};
use aws_sdk_s3::primitives::{ByteStream, DateTime, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ObjectLockMode};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::base64;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use futures_util::{StreamExt, TryStreamExt, stream};
use md5::{Digest, Md5};

use super::S3Store;
use super::failure::MISMATCHES;
use crate::{
    ChecksumUse, Checksums, PutOutcome, Retention, RetentionMode, StoreError, Trial, UploadChecksum,
    UploadFacts, UploadForm,
};

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
    /// What each request with a body brings.
    sum: UploadChecksum,
    /// Whether that is to be a wrong one.
    is_sum_wrong: bool,
}

impl<'a> Put<'a> {
    pub(super) const fn new(if_absent: bool, retention: Option<&'a Retention>) -> Self {
        Self { if_absent, retention, sum: UploadChecksum::None, is_sum_wrong: false }
    }

    fn md5(&self, body: &[u8]) -> Option<String> {
        (self.sum == UploadChecksum::Md5).then(|| md5_of(body))
    }

    fn crc32c(&self, body: &[u8]) -> Option<String> {
        let sum = || if self.is_sum_wrong { !crc32c(body) } else { crc32c(body) };
        // The last four of the eight bytes are the sum.
        (self.sum == UploadChecksum::Crc32c).then(|| base64::encode(&sum().to_be_bytes()[4..]))
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

/// The bytes of an object.
#[derive(Clone, Copy)]
pub(super) enum Body<'b> {
    /// The caller's own: what of them is under way is a copy.
    Lent(&'b [u8]),
    /// Such as can be held on to.
    Shared(&'b Arc<Vec<u8>>),
}

impl<'b> Body<'b> {
    fn bytes(&self) -> &'b [u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    fn part(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(&bytes[range]),
            Self::Shared(bytes) => Bytes::from_owner(Held(Arc::clone(bytes))).slice(range),
        }
    }
}

impl<'b> From<&'b [u8]> for Body<'b> {
    fn from(bytes: &'b [u8]) -> Self {
        Self::Lent(bytes)
    }
}

impl<'b> From<&'b Arc<Vec<u8>>> for Body<'b> {
    fn from(bytes: &'b Arc<Vec<u8>>) -> Self {
        Self::Shared(bytes)
    }
}

/// Bytes of which a request holds a part.
struct Held(Arc<Vec<u8>>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A write that took place: the id of its version, if the bucket has versions.
type Written = Result<Option<String>, StoreError>;

impl S3Store {
    /// Writes an object; `None` for one that was there, when the write was to be the first.
    pub(super) async fn put<'b>(
        &self,
        name: &str,
        body: impl Into<Body<'b>>,
        put: Put<'_>,
    ) -> Result<(PutOutcome, Option<String>), StoreError> {
        let body = body.into();
        let is_large = body.bytes().len() >= self.part_len.saturating_mul(2);
        self.write(name, body, put, is_large).await
    }

    /// As [`Self::put`], in parts whatever the length.
    pub(super) async fn write_in_parts(
        &self,
        name: &str,
        body: &[u8],
        put: Put<'_>,
    ) -> Result<(PutOutcome, Option<String>), StoreError> {
        self.write(name, body.into(), put, true).await
    }

    /// Writes with the checksum that follows from what is known of the store. What is refused is written again in another form,
    /// each form once; if that is taken, what was known was wrong, or too little, and is put right. So does a bucket that retains
    /// by itself get its checksums.
    async fn write(
        &self,
        name: &str,
        body: Body<'_>,
        put: Put<'_>,
        in_parts: bool,
    ) -> Result<(PutOutcome, Option<String>), StoreError> {
        let (known, choice) = (self.uploads.known(), self.uploads.choice);
        let is_locked = put.retention.is_some();
        if is_locked {
            self.check_clock()?;
        }
        let must_have = is_locked || known.is_demanded == Some(true) || choice == Checksums::Always;
        let mut sum = known.checksum(choice, is_locked, in_parts);
        let mut learned = UploadFacts::default();
        let written = loop {
            let written = self.write_once(name, body, Put { sum, ..put }, in_parts).await;
            let Some(next) = other_form(sum, must_have).filter(|_| is_refusal(&written, sum)) else {
                break written;
            };
            match sum {
                UploadChecksum::Crc32c if in_parts => learned.in_parts = Some(ChecksumUse::Rejected),
                UploadChecksum::Crc32c => learned.whole = Some(ChecksumUse::Rejected),
                UploadChecksum::None => learned.is_demanded = Some(true),
                UploadChecksum::Md5 => {}
            }
            sum = next;
        };
        // Without the lock it would have been a write like any other.
        let is_refused = is_locked && is_bad_request(&written);
        let outcome = outcome_of(written, put);
        // What is refused in each form is refused for another reason.
        if outcome.is_ok() && learned != UploadFacts::default() {
            self.uploads.learn(&learned);
        }
        outcome.map_err(|error| match error {
            StoreError::Rejected { name, store, source } if is_refused => {
                StoreError::LockRefused { name, store, source }
            }
            error => error,
        })
    }

    /// Writes an object in one form alone, and tells whether the store took it. That it says no is an answer.
    pub(super) async fn try_form(
        &self,
        name: &str,
        body: &[u8],
        form: UploadForm,
        if_absent: bool,
    ) -> Result<Trial, StoreError> {
        let (sum, is_sum_wrong) = match form {
            UploadForm::Plain | UploadForm::Chunked => (UploadChecksum::None, false),
            UploadForm::Summed | UploadForm::PartsSummed => (UploadChecksum::Crc32c, false),
            UploadForm::WronglySummed | UploadForm::PartsWronglySummed => (UploadChecksum::Crc32c, true),
        };
        let put = Put { sum, is_sum_wrong, ..Put::new(if_absent, None) };
        let body = Body::from(body);
        let written = match form {
            UploadForm::Plain | UploadForm::Summed | UploadForm::WronglySummed => {
                self.put_whole(name, body, put).await
            }
            UploadForm::PartsSummed | UploadForm::PartsWronglySummed => {
                self.put_in_parts(name, body, put).await
            }
            UploadForm::Chunked => self.put_chunked(name, body.bytes(), put).await,
        };
        match outcome_of(written, put) {
            Ok(_) => Ok(Trial::Taken),
            Err(error) => refusal(error, form).map(Trial::Refused),
        }
    }

    async fn write_once(&self, name: &str, body: Body<'_>, put: Put<'_>, in_parts: bool) -> Written {
        if in_parts {
            self.put_in_parts(name, body, put).await
        } else {
            self.put_whole(name, body, put).await
        }
    }

    async fn put_whole(&self, name: &str, body: Body<'_>, put: Put<'_>) -> Written {
        let mut request = self
            .client()
            .put_object()
            .bucket(&self.location.bucket)
            .key(self.full(name))
            .content_type(CONTENT_TYPE)
            .set_if_none_match(put.condition())
            .set_content_md5(put.md5(body.bytes()))
            .set_checksum_crc32_c(put.crc32c(body.bytes()))
            .body(ByteStream::from(body.part(0..body.bytes().len())));
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

    /// As SDKs do by default with a body that they read as they go.
    async fn put_chunked(&self, name: &str, body: &[u8], put: Put<'_>) -> Written {
        // Of a body in a body the SDK does not see that it is all in memory.
        let body = SdkBody::from(Bytes::copy_from_slice(body)).map(SdkBody::from_body_1_x);
        let by_default = RequestChecksumCalculation::WhenSupported;
        let request = self
            .client()
            .put_object()
            .bucket(&self.location.bucket)
            .key(self.full(name))
            .content_type(CONTENT_TYPE)
            .set_if_none_match(put.condition())
            .body(ByteStream::new(body))
            .customize()
            .config_override(Config::builder().request_checksum_calculation(by_default));
        let output = request.send().await.map_err(|error| self.sdk(name, error))?;
        Ok(output.version_id)
    }

    async fn put_in_parts(&self, name: &str, body: Body<'_>, put: Put<'_>) -> Written {
        let (bucket, key) = (&self.location.bucket, self.full(name));
        let mut request =
            self.client().create_multipart_upload().bucket(bucket).key(&key).content_type(CONTENT_TYPE);
        if put.sum == UploadChecksum::Crc32c {
            request = request.checksum_algorithm(ChecksumAlgorithm::Crc32C);
        }
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
            let abort = self.client().abort_multipart_upload().bucket(bucket).key(&key);
            drop(abort.upload_id(&upload_id).send().await);
        }
        written
    }

    async fn send_parts(&self, name: &str, upload_id: &str, body: Body<'_>, put: Put<'_>) -> Written {
        let (bucket, key) = (&self.location.bucket, self.full(name));
        let len = body.bytes().len();
        let part_len = self.part_len.max(len.div_ceil(PART_COUNT_MAX));
        let send = async |number: i32, from: usize| -> Result<CompletedPart, StoreError> {
            let part = body.part(from..(from + part_len).min(len));
            let crc32c = put.crc32c(&part);
            let request = self
                .client()
                .upload_part()
                .bucket(bucket)
                .key(&key)
                .upload_id(upload_id)
                .part_number(number)
                .set_content_md5(put.md5(&part))
                .set_checksum_crc32_c(crc32c.clone())
                .body(ByteStream::from(part));
            let mut request = request.customize();
            if self.is_tls {
                request = request.disable_payload_signing();
            }
            let sent = request.send().await.map_err(|error| self.sdk(name, error))?;
            let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
            Ok(part.set_checksum_crc32_c(crc32c).build())
        };
        let parts = (1i32..).zip((0..len).step_by(part_len));
        let mut done: Vec<CompletedPart> = stream::iter(parts.map(|(number, from)| send(number, from)))
            .buffer_unordered(PARTS_AT_ONCE_COUNT)
            .try_collect()
            .await?;
        done.sort_unstable_by_key(|part| part.part_number);
        let end = put.policy_end();
        let output = self
            .client()
            .complete_multipart_upload()
            .bucket(bucket)
            .key(&key)
            .upload_id(upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(done)).build())
            .set_if_none_match(put.condition())
            .customize()
            .mutate_request(move |request| {
                if put.sum == UploadChecksum::Md5 {
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

/// The form to try after one that was refused.
const fn other_form(refused: UploadChecksum, must_have: bool) -> Option<UploadChecksum> {
    match refused {
        UploadChecksum::Crc32c if must_have => Some(UploadChecksum::Md5),
        UploadChecksum::Crc32c => Some(UploadChecksum::None),
        UploadChecksum::None => Some(UploadChecksum::Md5),
        UploadChecksum::Md5 => None,
    }
}

/// Whether a write may have been refused for its checksum, or for having none. Stores do not agree on the code for that; of a
/// header that they do not know, some say that they have not got what it asks for.
fn is_refusal(written: &Written, sum: UploadChecksum) -> bool {
    let is_unknown = matches!(written, Err(StoreError::Unsupported { .. }));
    is_bad_request(written) || (sum == UploadChecksum::Crc32c && is_unknown)
}

/// What a store said that does not take what was tried, if it is that: nothing is said by a store that cannot be asked.
fn refusal(error: StoreError, form: UploadForm) -> Result<String, StoreError> {
    let told = |source: &crate::Cause| source.to_string();
    match &error {
        StoreError::Rejected { source, .. }
        | StoreError::Denied { source, .. }
        | StoreError::CredentialsRefused { source, .. } => Ok(told(source)),
        StoreError::Unsupported { .. } => Ok("not implemented (status 501)".to_owned()),
        StoreError::NotS3 { found, .. } => Ok(found.clone()),
        StoreError::Unavailable { source, .. } if is_mismatch(source, form) => Ok(told(source)),
        _ => Err(error),
    }
}

/// Whether the store says that a body is not what it should be; of chunks, also that it is not as long.
fn is_mismatch(source: &crate::Cause, form: UploadForm) -> bool {
    let failure = source.downcast_ref::<super::RequestFailure>();
    let code = failure.and_then(|failure| failure.code.as_deref());
    let is_short = |code| code == "IncompleteBody" && form == UploadForm::Chunked;
    code.is_some_and(|code| is_short(code) || MISMATCHES.contains(&code))
}

fn crc32c(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes)
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

/// Something is there. The end of an upload in parts may say so in an answer that began with success, before it was known.
fn is_precondition(source: &crate::Cause) -> bool {
    let failure = source.downcast_ref::<super::RequestFailure>();
    failure.is_some_and(|failure| {
        failure.status == Some(412) || failure.code.as_deref() == Some("PreconditionFailed")
    })
}

/// The request is not as the store wants it.
fn is_bad_request(written: &Written) -> bool {
    matches!(written, Err(StoreError::Rejected { source, .. }) if status_of(source) == Some(400))
}

fn status_of(source: &crate::Cause) -> Option<u16> {
    source.downcast_ref::<super::RequestFailure>()?.status
}
