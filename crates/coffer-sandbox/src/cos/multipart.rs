//! Multipart uploads. The object appears, whole, when its upload is completed.

use redb::ReadableTable;
use s3s::checksum::ChecksumHasher;
use s3s::dto;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput,
    ListPartsOutput, MultipartUpload, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::bodies::NewBody;
use super::model::{About, Checksums, Part, Upload};
use super::objects::{BODY_LEN_MAX, NewObject, metadata, trailers, without_chunked};
use super::service::Service;
use super::store::Condition;
use super::text::{invalid, listed, refuse, signed, timestamp};
use super::{checksums, protect};
use crate::random;
use crate::records::{OrInternal, PARTS, Records, UPLOADS, decode, encode};
use crate::switches::ChecksumMode;

/// Parts but the last are at least this long.
const PART_LEN_MIN: u64 = 5 << 20;
/// The highest number of a part.
const PART_NUMBER_MAX: i32 = 10_000;
const PAGE_COUNT_MAX: i32 = 1000;

fn no_such_upload() -> S3Error {
    refuse(S3ErrorCode::NoSuchUpload, "The specified multipart upload does not exist.")
}

/// Forgets an upload; returns the bodies of its parts.
pub(super) fn forget(records: &Records, bucket: &str, key: &str, id: &str) -> S3Result<Vec<String>> {
    let transaction = records.write()?;
    let orphans = forget_in(&transaction, bucket, key, id)?;
    transaction.commit().or_internal()?;
    Ok(orphans)
}

fn forget_in(
    transaction: &redb::WriteTransaction,
    bucket: &str,
    key: &str,
    id: &str,
) -> S3Result<Vec<String>> {
    let mut uploads = transaction.open_table(UPLOADS).or_internal()?;
    if uploads.remove((bucket, key, id)).or_internal()?.is_none() {
        return Err(no_such_upload());
    }
    let mut table = transaction.open_table(PARTS).or_internal()?;
    let all = parts(&table, id)?;
    for (number, _) in &all {
        table.remove((id, *number)).or_internal()?;
    }
    Ok(all.into_iter().map(|(_, part)| part.body).collect())
}

fn parts(
    table: &impl ReadableTable<(&'static str, u32), &'static [u8]>,
    id: &str,
) -> S3Result<Vec<(u32, Part)>> {
    let mut found = Vec::new();
    for row in table.range((id, 0)..=(id, u32::MAX)).or_internal()? {
        let (place, bytes) = row.or_internal()?;
        found.push((place.value().1, decode(bytes.value())?));
    }
    Ok(found)
}

impl Service {
    fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        let transaction = self.region.records().read()?;
        let table = transaction.open_table(UPLOADS).or_internal()?;
        let found = table.get((bucket, key, id)).or_internal()?.ok_or_else(no_such_upload)?;
        decode(found.value())
    }

    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.open_bucket(&input.bucket)?;
        let now_ms = self.region.clock().now_ms();
        let lock = protect::asked_lock(
            input.object_lock_mode.as_ref(),
            input.object_lock_retain_until_date.as_ref(),
            input.object_lock_legal_hold_status.as_ref(),
            now_ms,
        )?;
        let is_ignored = self.region.switches().checksum_mode == ChecksumMode::Ignored;
        let algorithm = input.checksum_algorithm.as_ref().filter(|_| !is_ignored);
        let algorithm = algorithm.map(|algorithm| algorithm.as_str().to_owned());
        let is_full_object = match input.checksum_type.as_ref().map(ChecksumType::as_str) {
            Some(kind) => kind == ChecksumType::FULL_OBJECT,
            None => algorithm.as_deref() == Some(ChecksumAlgorithm::CRC64NVME),
        };
        let upload = Upload {
            id: random::uuid(),
            created_ms: now_ms,
            about: About {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                content_encoding: input.content_encoding.and_then(without_chunked),
                content_language: input.content_language,
                metadata: metadata(input.metadata)?,
            },
            lock,
            archive_class: input.storage_class.map(|class| class.as_str().to_owned()),
            checksum: algorithm,
            is_full_object,
        };
        let transaction = self.region.records().write()?;
        transaction
            .open_table(UPLOADS)
            .or_internal()?
            .insert((&*input.bucket, &*input.key, &*upload.id), &*encode(&upload)?)
            .or_internal()?;
        transaction.commit().or_internal()?;
        let kind = upload.checksum.as_ref().map(|_| {
            ChecksumType::from_static(if is_full_object {
                ChecksumType::FULL_OBJECT
            } else {
                ChecksumType::COMPOSITE
            })
        });
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: kind,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        self.open_bucket(&input.bucket)?;
        let upload = self.upload(&input.bucket, &input.key, &input.upload_id)?;
        let counting = checksums::counting(&request.headers, &self.region.switches())?;
        let mut hasher = checksums::hasher(&counting);
        if let Some(algorithm) = &upload.checksum {
            checksums::add(&mut hasher, &algorithm.to_ascii_lowercase());
        }
        let trailers = trailers(request.trailing_headers, &request.extensions);
        let body = self.region.bodies().write(input.body, hasher, BODY_LEN_MAX).await?;
        checksums::check(&body, &counting, trailers.as_ref(), input.content_length)?;
        let place = (&*input.bucket, &*input.key, &*input.upload_id);
        let part = self.add_part(place, input.part_number, body).await?;
        let sums = part.checksums;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag)),
            checksum_crc32: sums.crc32,
            checksum_crc32c: sums.crc32c,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_sha1: sums.sha1,
            checksum_sha256: sums.sha256,
            ..UploadPartOutput::default()
        }))
    }

    /// Records a part; one of the same number is replaced.
    pub(super) async fn add_part(
        &self,
        (bucket, key, id): (&str, &str, &str),
        number: i32,
        body: NewBody,
    ) -> S3Result<Part> {
        let number = match u32::try_from(number) {
            Ok(valid) if (1..=PART_NUMBER_MAX).contains(&number) => valid,
            _ => return invalid("Part number must be an integer between 1 and 10000, inclusive"),
        };
        let part = Part {
            body: body.name.clone(),
            len: body.len,
            etag: body.etag(),
            checksums: body.checksums.clone(),
            created_ms: self.region.clock().now_ms(),
        };
        let replaced = self.record_part((bucket, key, id), number, &part)?;
        body.keep();
        self.region.bodies().remove(replaced.map(|part| part.body)).await;
        Ok(part)
    }

    fn record_part(&self, place: (&str, &str, &str), number: u32, part: &Part) -> S3Result<Option<Part>> {
        let transaction = self.region.records().write()?;
        if transaction.open_table(UPLOADS).or_internal()?.get(place).or_internal()?.is_none() {
            return Err(no_such_upload());
        }
        let replaced: Option<Part> = {
            let mut table = transaction.open_table(PARTS).or_internal()?;
            let old = table.insert((place.2, number), &*encode(part)?).or_internal()?;
            old.map(|old| decode(old.value())).transpose()?
        };
        transaction.commit().or_internal()?;
        Ok(replaced)
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        self.open_bucket(&input.bucket)?;
        let upload = self.upload(&input.bucket, &input.key, &input.upload_id)?;
        let there = {
            let transaction = self.region.records().read()?;
            parts(&transaction.open_table(PARTS).or_internal()?, &upload.id)?
        };
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let chosen = choose(&there, &named)?;
        let etags: Vec<_> = chosen.iter().map(|part| part.etag.clone()).collect();
        let bodies: Vec<_> = chosen.iter().map(|part| part.body.clone()).collect();
        let part_sums: Vec<_> = chosen.iter().map(|part| part.checksums.clone()).collect();
        let hasher = match &upload.checksum {
            Some(algorithm) if upload.is_full_object => checksums::hasher_of(algorithm),
            _ => ChecksumHasher::default(),
        };
        let body = self.region.bodies().join(&bodies, hasher).await?;
        let sums = match &upload.checksum {
            Some(_) if upload.is_full_object => body.checksums.clone(),
            Some(algorithm) => checksums::composite(algorithm, &part_sums).unwrap_or_default(),
            None => Checksums::default(),
        };
        checksums::check_whole(&sums, &request.headers)?;
        if input.mpu_object_size.is_some_and(|len| u64::try_from(len) != Ok(body.len)) {
            return Err(refuse(S3ErrorCode::InvalidRequest, "the object is not as long as announced"));
        }
        let etag = checksums::etag_of_parts(&etags);
        let object = NewObject {
            bucket: &input.bucket,
            key: &input.key,
            about: upload.about,
            lock: upload.lock,
            archive_class: upload.archive_class,
            etag: etag.clone(),
            checksums: sums.clone(),
            part_count: u32::try_from(chosen.len()).ok(),
            headers: &request.headers,
            condition: Condition { if_match: input.if_match, if_none_match: input.if_none_match },
        };
        let mut part_bodies = Vec::new();
        let written = self.add_with(object, body, |change| {
            part_bodies = forget_in(change.transaction(), &input.bucket, &input.key, &input.upload_id)?;
            Ok(())
        })?;
        self.region.bodies().remove(written.orphans.into_iter().chain(part_bodies)).await;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            version_id: written.version_id,
            checksum_type: sums.kind(),
            checksum_crc32: sums.crc32,
            checksum_crc32c: sums.crc32c,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_sha1: sums.sha1,
            checksum_sha256: sums.sha256,
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let orphans = forget(self.region.records(), &input.bucket, &input.key, &input.upload_id)?;
        self.region.bodies().remove(orphans).await;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(super) async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let upload = self.upload(&input.bucket, &input.key, &input.upload_id)?;
        let transaction = self.region.records().read()?;
        let all = parts(&transaction.open_table(PARTS).or_internal()?, &upload.id)?;
        let marker = input.part_number_marker.unwrap_or(0);
        let count = input.max_parts.unwrap_or(PAGE_COUNT_MAX).clamp(0, PAGE_COUNT_MAX);
        let mut rest = all
            .into_iter()
            .filter_map(|(number, part)| Some((i32::try_from(number).ok()?, part)))
            .filter(|(number, _)| *number > marker)
            .peekable();
        let mut page = Vec::new();
        while page.len() < usize::try_from(count).unwrap_or(0) {
            let Some((number, part)) = rest.next() else { break };
            page.push(dto::Part {
                part_number: Some(number),
                size: Some(signed(part.len)),
                e_tag: Some(ETag::Strong(part.etag)),
                last_modified: Some(timestamp(part.created_ms)),
                checksum_crc32: part.checksums.crc32,
                checksum_crc32c: part.checksums.crc32c,
                checksum_crc64nvme: part.checksums.crc64nvme,
                checksum_sha1: part.checksums.sha1,
                checksum_sha256: part.checksums.sha256,
            });
        }
        let next = page.last().and_then(|part| part.part_number);
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.id),
            max_parts: Some(count),
            part_number_marker: Some(marker),
            is_truncated: Some(rest.peek().is_some()),
            next_part_number_marker: next,
            parts: Some(page),
            ..ListPartsOutput::default()
        }))
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let is_encoded = input.encoding_type.is_some();
        let prefix = input.prefix.clone().unwrap_or_default();
        let key_marker = input.key_marker.clone().unwrap_or_default();
        let id_marker = input.upload_id_marker.clone().unwrap_or_default();
        let count = input.max_uploads.unwrap_or(PAGE_COUNT_MAX).clamp(0, PAGE_COUNT_MAX);
        let count_max = usize::try_from(count).unwrap_or(0);
        let transaction = self.region.records().read()?;
        let table = transaction.open_table(UPLOADS).or_internal()?;
        let mut page: Vec<(String, Upload)> = Vec::new();
        let mut is_truncated = false;
        for row in table.range((&*input.bucket, &*prefix, "")..).or_internal()? {
            let (place, bytes) = row.or_internal()?;
            let (bucket, key, id) = place.value();
            if bucket != input.bucket || !key.starts_with(&prefix) {
                break;
            }
            let is_after =
                key > &*key_marker || (key == key_marker && !id_marker.is_empty() && id > &*id_marker);
            if !is_after {
                continue;
            }
            if page.len() == count_max {
                is_truncated = count_max > 0;
                break;
            }
            page.push((key.to_owned(), decode(bytes.value())?));
        }
        let last = page.last().filter(|_| is_truncated);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket.clone()),
            key_marker: Some(listed(key_marker, is_encoded)),
            upload_id_marker: Some(id_marker),
            next_key_marker: last.map(|(key, _)| listed(key.clone(), is_encoded)),
            next_upload_id_marker: last.map(|(_, upload)| upload.id.clone()),
            is_truncated: Some(is_truncated),
            max_uploads: Some(count),
            prefix: Some(listed(prefix, is_encoded)),
            encoding_type: input.encoding_type,
            uploads: Some(
                page.into_iter()
                    .map(|(key, upload)| MultipartUpload {
                        key: Some(listed(key, is_encoded)),
                        upload_id: Some(upload.id),
                        initiated: Some(timestamp(upload.created_ms)),
                        ..MultipartUpload::default()
                    })
                    .collect(),
            ),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}

/// The parts that a client names, checked against those that are there.
fn choose<'a>(there: &'a [(u32, Part)], named: &[dto::CompletedPart]) -> S3Result<Vec<&'a Part>> {
    if named.is_empty() {
        return Err(refuse(S3ErrorCode::MalformedXML, "an upload is completed with its parts"));
    }
    let mut chosen: Vec<&Part> = Vec::new();
    let mut last = 0;
    for part in named {
        let number = part.part_number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        if number <= last {
            return Err(refuse(
                S3ErrorCode::InvalidPartOrder,
                "The list of parts was not in ascending order.",
            ));
        }
        last = number;
        let found = there.iter().find(|(one, _)| *one == number).map(|(_, found)| found);
        let is_same = |found: &&Part| part.e_tag.as_ref().is_none_or(|etag| etag.value() == found.etag);
        let Some(found) = found.filter(is_same) else {
            return Err(refuse(
                S3ErrorCode::InvalidPart,
                "One or more of the specified parts could not be found.",
            ));
        };
        chosen.push(found);
    }
    let before_last = &chosen[..chosen.len() - 1];
    if before_last.iter().any(|part| part.len < PART_LEN_MIN) {
        return Err(refuse(
            S3ErrorCode::EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed object size.",
        ));
    }
    Ok(chosen)
}
