//! Objects: put, get, head, delete.

use http::HeaderMap;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    ETagCondition, Error, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    ObjectLockLegalHoldStatus, ObjectLockMode, PutObjectInput, PutObjectOutput, StorageClass, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders};

use super::bodies::NewBody;
use super::model::{About, Bucket, Checksums, ObjectLock, Version};
use super::service::Service;
use super::store::{self, Change, Condition, Written};
use super::text::{http_date, millis, refuse, signed, timestamp, whole_seconds};
use super::{archive, checksums, protect};
use crate::records::{OrInternal, VERSIONS};

/// The longest body of one request.
pub(super) const BODY_LEN_MAX: u64 = 5 << 30;
/// Keys of one delete request, at most.
const DELETE_COUNT_MAX: usize = 1000;
/// Names and values of metadata together, at most.
const METADATA_LEN_MAX: usize = 4096;

/// An object that is about to be written.
pub(super) struct NewObject<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) about: About,
    pub(super) lock: Option<ObjectLock>,
    pub(super) archive_class: Option<String>,
    pub(super) etag: String,
    pub(super) checksums: Checksums,
    pub(super) part_count: Option<u32>,
    /// The headers of the request: retention is in them.
    pub(super) headers: &'a HeaderMap,
    pub(super) condition: Condition,
}

impl Service {
    /// Makes a version of bytes that have been written.
    pub(super) fn add(&self, object: NewObject<'_>, body: NewBody) -> S3Result<Written> {
        self.add_with(object, body, |_| Ok(()))
    }

    /// As [`Self::add`], and does something else in the same transaction.
    pub(super) fn add_with(
        &self,
        object: NewObject<'_>,
        body: NewBody,
        beside: impl FnOnce(&mut Change) -> S3Result<()>,
    ) -> S3Result<Written> {
        let condition = object.condition.filtered(self.region.switches().condition_mode)?;
        let now_ms = self.region.clock().now_ms();
        let mut change = Change::begin(self.region.records(), object.bucket, now_ms)?;
        let (retention, holds) = protect::retention_of_new(&change.bucket, object.headers, now_ms)?;
        let version = Version {
            id: String::new(),
            created_ms: now_ms,
            len: body.len,
            etag: object.etag,
            body: Some(body.name.clone()),
            about: object.about,
            checksums: object.checksums,
            part_count: object.part_count,
            lock: protect::lock_of_new(&change.bucket, object.lock, now_ms)?,
            retention,
            holds,
            archive: archive::of_new(&change.bucket, object.archive_class.as_deref(), now_ms),
        };
        change.put(object.key, &condition, version)?;
        beside(&mut change)?;
        let written = change.commit()?;
        body.keep();
        Ok(written)
    }

    /// The newest version, or a certain one; delete markers are not found.
    pub(super) fn version(&self, bucket: &Bucket, key: &str, id: Option<&str>) -> S3Result<Version> {
        let transaction = self.region.records().read()?;
        let table = transaction.open_table(VERSIONS).or_internal()?;
        let Some((_, version)) = store::find(&table, &bucket.name, key, id)? else {
            let code = if id.is_some() { S3ErrorCode::NoSuchVersion } else { S3ErrorCode::NoSuchKey };
            return Err(refuse(code, "The specified key does not exist."));
        };
        if version.body.is_some() {
            return Ok(version);
        }
        let code = if id.is_some() { S3ErrorCode::MethodNotAllowed } else { S3ErrorCode::NoSuchKey };
        let mut error = refuse(code, "The specified key does not exist.");
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-delete-marker", http::HeaderValue::from_static("true"));
        if let Ok(id) = version.id.parse() {
            headers.insert("x-amz-version-id", id);
        }
        error.set_headers(headers);
        Err(error)
    }

    pub(super) async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let headers = request.headers;
        let input = request.input;
        self.open_bucket(&input.bucket)?;
        let now_ms = self.region.clock().now_ms();
        let lock = protect::asked_lock(
            input.object_lock_mode.as_ref(),
            input.object_lock_retain_until_date.as_ref(),
            input.object_lock_legal_hold_status.as_ref(),
            now_ms,
        )?;
        let about = About {
            content_type: input.content_type,
            cache_control: input.cache_control,
            content_disposition: input.content_disposition,
            content_encoding: input.content_encoding.and_then(without_chunked),
            content_language: input.content_language,
            metadata: metadata(input.metadata)?,
        };
        let trailers = trailers(request.trailing_headers, &request.extensions);
        let counting = checksums::counting(&headers, &self.region.switches())?;
        let body = self.region.bodies().write(input.body, checksums::hasher(&counting), BODY_LEN_MAX).await?;
        checksums::check(&body, &counting, trailers.as_ref(), input.content_length)?;
        let (etag, sums) = (body.etag(), body.checksums.clone());
        let object = NewObject {
            bucket: &input.bucket,
            key: &input.key,
            about,
            lock,
            archive_class: input.storage_class.map(|class| class.as_str().to_owned()),
            etag: etag.clone(),
            checksums: sums.clone(),
            part_count: None,
            headers: &headers,
            condition: Condition { if_match: input.if_match, if_none_match: input.if_none_match },
        };
        let written = self.add(object, body)?;
        self.region.bodies().remove(written.orphans).await;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            version_id: written.version_id,
            checksum_type: sums.kind(),
            checksum_crc32: sums.crc32,
            checksum_crc32c: sums.crc32c,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_sha1: sums.sha1,
            checksum_sha256: sums.sha256,
            ..PutObjectOutput::default()
        }))
    }

    pub(super) async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let bucket = self.open_bucket(&input.bucket)?;
        // The body of a version that is replaced right now is gone: the next look finds the new one.
        for _ in 0..8 {
            let version = self.version(&bucket, &input.key, input.version_id.as_deref())?;
            let now_ms = self.region.clock().now_ms();
            check_conditions(
                &version,
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
                input.if_modified_since.as_ref(),
                input.if_unmodified_since.as_ref(),
            )?;
            archive::check_readable(&version, now_ms)?;
            if input.part_number.is_some_and(|number| number != 1 || version.part_count.is_some()) {
                return Err(refuse(S3ErrorCode::NotImplemented, "the sandbox does not read by part number"));
            }
            let range = match &input.range {
                Some(range) => range.check(version.len).map_err(|_| {
                    refuse(S3ErrorCode::InvalidRange, "The requested range is not satisfiable")
                })?,
                None => 0..version.len,
            };
            let len = range.end - range.start;
            let name = version.body.as_deref().unwrap_or_default();
            let Some(body) = self.region.bodies().read(name, range.start, len).await? else { continue };
            let is_whole = input.range.is_none();
            let sums = if is_whole && input.checksum_mode.is_some() {
                version.checksums.clone()
            } else {
                Checksums::default()
            };
            let content_range =
                (!is_whole).then(|| format!("bytes {}-{}/{}", range.start, range.end - 1, version.len));
            let head = self.head(&bucket, version, sums);
            return Ok(head.map_output(|head| GetObjectOutput {
                accept_ranges: head.accept_ranges,
                body: Some(body),
                cache_control: input.response_cache_control.or(head.cache_control),
                checksum_crc32: head.checksum_crc32,
                checksum_crc32c: head.checksum_crc32c,
                checksum_crc64nvme: head.checksum_crc64nvme,
                checksum_sha1: head.checksum_sha1,
                checksum_sha256: head.checksum_sha256,
                checksum_type: head.checksum_type,
                content_disposition: input.response_content_disposition.or(head.content_disposition),
                content_encoding: input.response_content_encoding.or(head.content_encoding),
                content_language: input.response_content_language.or(head.content_language),
                content_length: Some(signed(len)),
                content_range,
                content_type: input.response_content_type.or(head.content_type),
                e_tag: head.e_tag,
                last_modified: head.last_modified,
                metadata: head.metadata,
                object_lock_legal_hold_status: head.object_lock_legal_hold_status,
                object_lock_mode: head.object_lock_mode,
                object_lock_retain_until_date: head.object_lock_retain_until_date,
                parts_count: head.parts_count,
                restore: head.restore,
                storage_class: head.storage_class,
                version_id: head.version_id,
                ..GetObjectOutput::default()
            }));
        }
        Err(refuse(S3ErrorCode::InternalError, "the object changes faster than it can be read"))
    }

    pub(super) async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let bucket = self.open_bucket(&input.bucket)?;
        let version = self.version(&bucket, &input.key, input.version_id.as_deref())?;
        check_conditions(
            &version,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
            input.if_modified_since.as_ref(),
            input.if_unmodified_since.as_ref(),
        )?;
        let sums =
            if input.checksum_mode.is_some() { version.checksums.clone() } else { Checksums::default() };
        Ok(self.head(&bucket, version, sums))
    }

    /// What is known of a version.
    fn head(&self, bucket: &Bucket, version: Version, sums: Checksums) -> S3Response<HeadObjectOutput> {
        let now_ms = self.region.clock().now_ms();
        let mut headers = HeaderMap::new();
        archive::add_headers(&version, now_ms, &mut headers);
        let mut add = |name: &'static str, value: String| {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        };
        if let Some(retention) = version.retention {
            add("retention-period", retention.period_s.to_string());
            add("retention-expiration-date", http_date(retention.until_ms));
            add("retention-legal-hold-count", version.holds.len().to_string());
        }
        if let Some(root_key) = &bucket.root_key {
            add("ibm-sse-kp-enabled", "true".to_owned());
            add("ibm-sse-kp-crk-id", root_key.clone());
        }
        let class = archive::class(&version, now_ms).map(|class| StorageClass::from(class.to_owned()));
        let restore = archive::restore_header(&version, now_ms);
        let has_versions = bucket.versioning != super::model::Versioning::Never;
        let hold = match (&bucket.lock, version.lock.is_held) {
            (None, _) => None,
            (Some(_), true) => Some(ObjectLockLegalHoldStatus::ON),
            (Some(_), false) => Some(ObjectLockLegalHoldStatus::OFF),
        };
        let about = version.about;
        let output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: about.cache_control,
            checksum_type: sums.kind(),
            checksum_crc32: sums.crc32,
            checksum_crc32c: sums.crc32c,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_sha1: sums.sha1,
            checksum_sha256: sums.sha256,
            content_disposition: about.content_disposition,
            content_encoding: about.content_encoding,
            content_language: about.content_language,
            content_length: Some(signed(version.len)),
            content_type: Some(about.content_type.unwrap_or_else(|| "application/octet-stream".to_owned())),
            e_tag: Some(ETag::Strong(version.etag)),
            last_modified: Some(whole_seconds(version.created_ms)),
            metadata: Some(about.metadata.into_iter().collect()),
            object_lock_legal_hold_status: hold.map(ObjectLockLegalHoldStatus::from_static),
            object_lock_mode: version.lock.mode.map(|mode| ObjectLockMode::from_static(mode.name())),
            object_lock_retain_until_date: version.lock.mode.map(|_| timestamp(version.lock.until_ms)),
            restore,
            storage_class: class,
            version_id: has_versions.then_some(version.id),
            ..HeadObjectOutput::default()
        };
        S3Response::with_headers(output, headers)
    }

    pub(super) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let condition = Condition { if_match: input.if_match, if_none_match: None };
        let bypasses = input.bypass_governance_retention == Some(true);
        let written =
            self.delete(&input.bucket, &input.key, input.version_id.as_deref(), &condition, bypasses).await?;
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: written.is_marker.then_some(true),
            version_id: written.version_id,
            ..DeleteObjectOutput::default()
        }))
    }

    async fn delete(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
        condition: &Condition,
        bypasses: bool,
    ) -> S3Result<Written> {
        let mut written = {
            let mut change = Change::begin(self.region.records(), bucket, self.region.clock().now_ms())?;
            match version_id {
                Some(id) => change.delete_version(key, id, bypasses)?,
                None => change.delete(key, condition)?,
            }
            change.commit()?
        };
        self.region.bodies().remove(std::mem::take(&mut written.orphans)).await;
        Ok(written)
    }

    pub(super) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        if !checksums::has_sum(&request.headers) {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "Missing required header for this request: Content-MD5",
            ));
        }
        let input = request.input;
        self.bucket(&input.bucket)?;
        if input.delete.objects.is_empty() || input.delete.objects.len() > DELETE_COUNT_MAX {
            return Err(refuse(S3ErrorCode::MalformedXML, "a delete request names 1 to 1000 keys"));
        }
        let bypasses = input.bypass_governance_retention == Some(true);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            let id = object.version_id.as_deref();
            match self.delete(&input.bucket, &object.key, id, &Condition::default(), bypasses).await {
                Ok(written) => deleted.push(DeletedObject {
                    delete_marker: written.is_marker.then_some(true),
                    delete_marker_version_id: written.version_id.filter(|_| written.is_marker),
                    key: Some(object.key),
                    version_id: object.version_id,
                }),
                Err(error) => errors.push(listed_error(object.key, object.version_id, &error)),
            }
        }
        let is_quiet = input.delete.quiet == Some(true);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted).filter(|_| !is_quiet),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }
}

fn listed_error(key: String, version_id: Option<String>, error: &S3Error) -> Error {
    Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: error.message().map(str::to_owned),
        version_id,
    }
}

/// The conditions of a read.
pub(super) fn check_conditions(
    version: &Version,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    if_modified_since: Option<&Timestamp>,
    if_unmodified_since: Option<&Timestamp>,
) -> S3Result<()> {
    let failed = || refuse(S3ErrorCode::PreconditionFailed, "At least one of the preconditions did not hold");
    let changed_s = version.created_ms / 1000;
    match (if_match, if_unmodified_since) {
        (Some(wanted), _) if !store::matches(wanted, &version.etag) => return Err(failed()),
        (None, Some(since)) if changed_s > millis(since) / 1000 => return Err(failed()),
        _ => {}
    }
    let is_same = match (if_none_match, if_modified_since) {
        (Some(unwanted), _) => store::matches(unwanted, &version.etag),
        (None, Some(since)) => changed_s <= millis(since) / 1000,
        (None, None) => false,
    };
    if is_same {
        let mut error = S3Error::new(S3ErrorCode::NotModified);
        let mut headers = HeaderMap::new();
        if let Ok(etag) = format!("\"{}\"", version.etag).parse() {
            headers.insert(http::header::ETAG, etag);
        }
        error.set_headers(headers);
        return Err(error);
    }
    Ok(())
}

/// Metadata within its limit.
pub(super) fn metadata(
    asked: Option<std::collections::HashMap<String, String>>,
) -> S3Result<std::collections::BTreeMap<String, String>> {
    let asked = asked.unwrap_or_default();
    if asked.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_LEN_MAX {
        return Err(refuse(
            S3ErrorCode::MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed size.",
        ));
    }
    Ok(asked.into_iter().collect())
}

/// `aws-chunked` is how a body was sent, not what it is.
pub(super) fn without_chunked(encoding: String) -> Option<String> {
    let rest: Vec<_> =
        encoding.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked").collect();
    (!rest.is_empty()).then(|| rest.join(","))
}

/// The trailers of a body: read by `s3s` where it is signed, by the front where it is not.
pub(super) fn trailers(
    signed: Option<TrailingHeaders>,
    extensions: &http::Extensions,
) -> Option<super::chunked::Trailers> {
    match signed {
        Some(signed) => Some(super::chunked::Trailers::Signed(signed)),
        None => extensions.get().cloned(),
    }
}
