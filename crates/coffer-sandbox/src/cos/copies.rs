//! Copies of objects, whole and as parts of uploads.

use s3s::checksum::ChecksumHasher;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETag, MetadataDirective,
    Range, StreamingBlob, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::model::{About, Version};
use super::objects::{BODY_LEN_MAX, NewObject, check_conditions, metadata};
use super::service::Service;
use super::store::Condition;
use super::text::{invalid, refuse, timestamp};
use super::{archive, checksums, protect};

fn parts_of(source: &CopySource) -> S3Result<(&str, &str, Option<&str>)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => Ok((bucket, key, version_id.as_deref())),
        _ => invalid("a copy source is a bucket and a key"),
    }
}

impl Service {
    /// What is to be copied: it can be read, and is as the client wants it.
    fn source(&self, source: &CopySource) -> S3Result<Version> {
        let (bucket, key, id) = parts_of(source)?;
        let version = self.version(&self.open_bucket(bucket)?, key, id)?;
        archive::check_readable(&version, self.region.clock().now_ms())?;
        Ok(version)
    }

    async fn source_body(&self, version: &Version, offset: u64, len: u64) -> S3Result<StreamingBlob> {
        let name = version.body.as_deref().unwrap_or_default();
        let body = self.region.bodies().read(name, offset, len).await?;
        body.ok_or_else(|| refuse(S3ErrorCode::NoSuchKey, "The specified key does not exist."))
    }

    pub(super) async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let headers = request.headers;
        let input = request.input;
        self.open_bucket(&input.bucket)?;
        let source = self.source(&input.copy_source)?;
        check_conditions(
            &source,
            input.copy_source_if_match.as_ref(),
            None,
            None,
            input.copy_source_if_unmodified_since.as_ref(),
        )?;
        check_conditions(
            &source,
            None,
            input.copy_source_if_none_match.as_ref(),
            input.copy_source_if_modified_since.as_ref(),
            None,
        )
        .map_err(|_| refuse(S3ErrorCode::PreconditionFailed, "the source is as it was"))?;
        let replaces =
            input.metadata_directive.as_ref().is_some_and(|one| one.as_str() == MetadataDirective::REPLACE);
        let (from_bucket, from_key, id) = parts_of(&input.copy_source)?;
        if (from_bucket, from_key, id) == (&*input.bucket, &*input.key, None) && !replaces {
            return Err(refuse(
                S3ErrorCode::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing its metadata.",
            ));
        }
        let lock = protect::asked_lock(
            input.object_lock_mode.as_ref(),
            input.object_lock_retain_until_date.as_ref(),
            input.object_lock_legal_hold_status.as_ref(),
            self.region.clock().now_ms(),
        )?;
        let about = if replaces {
            About {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: input.content_encoding,
                content_language: input.content_language,
                metadata: metadata(input.metadata)?,
            }
        } else {
            source.about.clone()
        };
        let stream = self.source_body(&source, 0, source.len).await?;
        let hasher = match &input.checksum_algorithm {
            Some(algorithm) => checksums::hasher_of(algorithm.as_str()),
            None => ChecksumHasher::default(),
        };
        let body = self.region.bodies().write(Some(stream), hasher, u64::MAX).await?;
        let etag = body.etag();
        let sums = if input.checksum_algorithm.is_some() {
            body.checksums.clone()
        } else {
            source.checksums.clone()
        };
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
            condition: Condition::default(),
        };
        let written = self.add(object, body)?;
        self.region.bodies().remove(written.orphans).await;
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                e_tag: Some(ETag::Strong(etag)),
                last_modified: Some(timestamp(self.region.clock().now_ms())),
                checksum_type: sums.kind(),
                checksum_crc32: sums.crc32,
                checksum_crc32c: sums.crc32c,
                checksum_crc64nvme: sums.crc64nvme,
                checksum_sha1: sums.sha1,
                checksum_sha256: sums.sha256,
            }),
            copy_source_version_id: id.map(str::to_owned),
            version_id: written.version_id,
            ..CopyObjectOutput::default()
        }))
    }

    pub(super) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        self.open_bucket(&input.bucket)?;
        let source = self.source(&input.copy_source)?;
        check_conditions(&source, input.copy_source_if_match.as_ref(), None, None, None)?;
        let range = match &input.copy_source_range {
            None => 0..source.len,
            Some(text) => {
                let range = Range::parse(text).ok().and_then(|range| range.check(source.len).ok());
                let Some(range) = range else {
                    return invalid("x-amz-copy-source-range is not within the source");
                };
                range
            }
        };
        let stream = self.source_body(&source, range.start, range.end - range.start).await?;
        let body = self.region.bodies().write(Some(stream), ChecksumHasher::default(), BODY_LEN_MAX).await?;
        let place = (&*input.bucket, &*input.key, &*input.upload_id);
        let part = self.add_part(place, input.part_number, body).await?;
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(CopyPartResult {
                e_tag: Some(ETag::Strong(part.etag)),
                last_modified: Some(timestamp(part.created_ms)),
                ..CopyPartResult::default()
            }),
            ..UploadPartCopyOutput::default()
        }))
    }
}
