//! The S3 operations that the region answers. `s3s` reads requests and writes answers; each operation is done in the module of its
//! noun. Operations that are not listed are answered 501 by `s3s`.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3ErrorCode, S3Request, S3Response, S3Result};

use super::model::Bucket;
use super::store;
use super::text::{denied, refuse};
use crate::records::{BUCKETS, OrInternal};
use crate::region::Region;
use crate::switches::WrongLocation;

/// The endpoint of one location.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) region: Arc<Region>,
    pub(super) location: String,
}

impl Service {
    /// A bucket of this location.
    pub(super) fn bucket(&self, name: &str) -> S3Result<Bucket> {
        let transaction = self.region.records().read()?;
        let bucket = store::bucket(&transaction.open_table(BUCKETS).or_internal()?, name)?;
        if bucket.location == self.location {
            return Ok(bucket);
        }
        Err(match self.region.switches().wrong_location {
            WrongLocation::NotFound => {
                refuse(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist.")
            }
            WrongLocation::Redirect => refuse(
                S3ErrorCode::PermanentRedirect,
                "The bucket you are attempting to access must be addressed using the specified endpoint.",
            ),
        })
    }

    /// A bucket whose objects can be read and written: its root key is there.
    pub(super) fn open_bucket(&self, name: &str) -> S3Result<Bucket> {
        let bucket = self.bucket(name)?;
        if let Some(root_key) = &bucket.root_key
            && !self.region.is_root_key_enabled(root_key)?
        {
            return denied("Access Denied: the root key of the bucket is not available");
        }
        Ok(bucket)
    }
}

/// Hands an operation to the method that does it.
macro_rules! operations {
    ($($operation:ident($input:ty) -> $output:ty;)+) => {
        #[async_trait::async_trait]
        impl S3 for Service {
            $(async fn $operation(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                Self::$operation(self, request).await
            })+
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput;
    create_bucket(CreateBucketInput) -> CreateBucketOutput;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    head_bucket(HeadBucketInput) -> HeadBucketOutput;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput;
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput;
    put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput)
        -> GetBucketLifecycleConfigurationOutput;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput)
        -> PutBucketLifecycleConfigurationOutput;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput;
    list_objects(ListObjectsInput) -> ListObjectsOutput;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput;
    put_object(PutObjectInput) -> PutObjectOutput;
    get_object(GetObjectInput) -> GetObjectOutput;
    head_object(HeadObjectInput) -> HeadObjectOutput;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    copy_object(CopyObjectInput) -> CopyObjectOutput;
    restore_object(RestoreObjectInput) -> RestoreObjectOutput;
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput;
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput;
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput;
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    upload_part(UploadPartInput) -> UploadPartOutput;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    list_parts(ListPartsInput) -> ListPartsOutput;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
}
