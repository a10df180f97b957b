//! Who may do what: each S3 operation needs actions, and each caller has policies.

use std::sync::Arc;

use form_urlencoded::parse;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3ErrorCode, S3Result};

use super::buckets::named_instance;
use super::text::refuse;
use crate::iam::{Caller, Place};
use crate::records::{BUCKETS, OrInternal};
use crate::region::Region;

/// Checks callers against the identities of the region.
pub(super) struct Gate {
    pub(super) region: Arc<Region>,
}

#[async_trait::async_trait]
impl S3Auth for Gate {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.region.iam().hmac(self.region.records(), access_key)? {
            Some((secret, _)) => Ok(secret.into()),
            None => Err(refuse(
                S3ErrorCode::InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records.",
            )),
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let access_key = context.credentials().map(|credentials| credentials.access_key.clone());
        let caller = self.caller(context.extensions_mut(), access_key.as_deref())?;
        let query = context.uri().query().unwrap_or_default();
        let has_version = parse(query.as_bytes()).any(|(name, _)| name == "versionId");
        let bucket = context.s3_path().get_bucket_name();
        for action in actions(context.s3_op().name(), has_version, context.headers()) {
            self.require(&caller, action, bucket, context.headers())?;
        }
        if let Some(source) = context.headers().get("x-amz-copy-source") {
            let source = source.to_str().unwrap_or_default().trim_start_matches('/');
            let source_bucket =
                percent_decode_str(source.split('/').next().unwrap_or_default()).decode_utf8_lossy();
            let is_part = context.s3_op().name() == "UploadPartCopy";
            let action = match (is_part, source.contains("versionId=")) {
                (false, false) => "cloud-object-storage.object.copy_get",
                (false, true) => "cloud-object-storage.object.copy_get_version",
                (true, false) => "cloud-object-storage.object.copy_part_get",
                (true, true) => "cloud-object-storage.object.copy_part_get_version",
            };
            self.require(&caller, action, Some(&source_bucket), context.headers())?;
        }
        context.extensions_mut().insert(caller);
        Ok(())
    }
}

impl Gate {
    /// The caller: put there by the front for a bearer token, else of the HMAC keys.
    pub(super) fn caller(&self, extensions: &http::Extensions, access_key: Option<&str>) -> S3Result<Caller> {
        if let Some(caller) = extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        let known =
            access_key.map(|key| self.region.iam().hmac(self.region.records(), key)).transpose()?.flatten();
        known.map(|(_, caller)| caller).ok_or_else(|| refuse(S3ErrorCode::AccessDenied, "Access Denied"))
    }

    /// Refuses an action that the caller has no policy for. What is not about a bucket is about the service instance.
    pub(super) fn require(
        &self,
        caller: &Caller,
        action: &str,
        bucket: Option<&str>,
        headers: &HeaderMap,
    ) -> S3Result<()> {
        let records = self.region.records();
        let owner = match bucket {
            Some(name) => {
                let transaction = records.read()?;
                let buckets = transaction.open_table(BUCKETS).or_internal()?;
                super::store::bucket(&buckets, name).ok().map(|bucket| bucket.instance)
            }
            None => None,
        };
        let instance = owner.as_deref().or_else(|| named_instance(headers)).or(caller.instance.as_deref());
        self.region.iam().authorize(records, caller, action, Place { instance, bucket, key: None })
    }
}

/// What an operation needs. Operations that the simulation does not have need nothing: they are answered 501.
fn actions(operation: &str, has_version: bool, headers: &HeaderMap) -> Vec<&'static str> {
    let either = |plain, versioned| if has_version { versioned } else { plain };
    let mut needed = vec![match operation {
        "ListBuckets" => "cloud-object-storage.account.get_account_buckets",
        "CreateBucket" => "cloud-object-storage.bucket.put_bucket",
        "DeleteBucket" => "cloud-object-storage.bucket.delete_bucket",
        "HeadBucket" => "cloud-object-storage.bucket.head",
        "GetBucketLocation" => "cloud-object-storage.bucket.get_location",
        "GetBucketVersioning" => "cloud-object-storage.bucket.get_versioning",
        "PutBucketVersioning" => "cloud-object-storage.bucket.put_versioning",
        "GetObjectLockConfiguration" => "cloud-object-storage.bucket.get_object_lock_configuration",
        "PutObjectLockConfiguration" => "cloud-object-storage.bucket.put_object_lock_configuration",
        "GetBucketLifecycleConfiguration" => "cloud-object-storage.bucket.get_lifecycle",
        "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => {
            "cloud-object-storage.bucket.put_lifecycle"
        }
        "ListObjects" | "ListObjectsV2" => "cloud-object-storage.bucket.get",
        "ListObjectVersions" => "cloud-object-storage.bucket.get_versions",
        "ListMultipartUploads" => "cloud-object-storage.bucket.get_uploads",
        "GetObject" => either("cloud-object-storage.object.get", "cloud-object-storage.object.get_version"),
        "HeadObject" => {
            either("cloud-object-storage.object.head", "cloud-object-storage.object.head_version")
        }
        "PutObject" => "cloud-object-storage.object.put",
        "CopyObject" => "cloud-object-storage.object.copy",
        "DeleteObject" => {
            either("cloud-object-storage.object.delete", "cloud-object-storage.object.delete_version")
        }
        "DeleteObjects" => "cloud-object-storage.object.post_multi_delete",
        "CreateMultipartUpload" => "cloud-object-storage.object.post_initiate_upload",
        "UploadPart" => "cloud-object-storage.object.put_part",
        "UploadPartCopy" => "cloud-object-storage.object.copy_part",
        "CompleteMultipartUpload" => "cloud-object-storage.object.post_complete_upload",
        "AbortMultipartUpload" => "cloud-object-storage.object.delete_upload",
        "ListParts" => "cloud-object-storage.object.get_uploads",
        "RestoreObject" => {
            either("cloud-object-storage.object.restore", "cloud-object-storage.object.restore_version")
        }
        "GetObjectRetention" => either(
            "cloud-object-storage.object.get_object_lock_retention",
            "cloud-object-storage.object.get_object_lock_retention_version",
        ),
        "PutObjectRetention" => either(
            "cloud-object-storage.object.put_object_lock_retention",
            "cloud-object-storage.object.put_object_lock_retention_version",
        ),
        "GetObjectLegalHold" => either(
            "cloud-object-storage.object.get_object_lock_legal_hold",
            "cloud-object-storage.object.get_object_lock_legal_hold_version",
        ),
        "PutObjectLegalHold" => either(
            "cloud-object-storage.object.put_object_lock_legal_hold",
            "cloud-object-storage.object.put_object_lock_legal_hold_version",
        ),
        _ => return Vec::new(),
    }];
    if matches!(operation, "PutObject" | "CopyObject" | "CreateMultipartUpload") {
        if headers.contains_key("x-amz-object-lock-mode") {
            needed.push("cloud-object-storage.object.put_object_lock_retention");
        }
        if headers.contains_key("x-amz-object-lock-legal-hold") {
            needed.push("cloud-object-storage.object.put_object_lock_legal_hold");
        }
    }
    let bypasses = headers.get("x-amz-bypass-governance-retention");
    if bypasses.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")) {
        needed.push("cloud-object-storage.object.bypass_governance_retention");
    }
    needed
}
