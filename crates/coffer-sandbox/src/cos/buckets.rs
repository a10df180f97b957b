//! Buckets and their settings.

use http::HeaderMap;
use redb::ReadableTable;
use s3s::dto;
use s3s::dto::{
    BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
    GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
    HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, PutBucketVersioningInput,
    PutBucketVersioningOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::model::{Bucket, LockRule, Versioning};
use super::service::Service;
use super::store;
use super::text::{denied, refuse, whole_seconds};
use crate::iam::Caller;
use crate::records::{BUCKETS, OrInternal, Records, UPLOADS, VERSIONS, decode, encode};
use crate::region::Region;

/// Buckets of one account, at most.
const BUCKET_COUNT_MAX: usize = 100;

/// The classes that a location constraint can end in.
pub(super) const CLASSES: [&str; 4] = ["standard", "vault", "cold", "smart"];

/// Refuses names that no bucket can have.
pub(crate) fn check_name(name: &str) -> S3Result<()> {
    let is_valid =
        s3s::path::check_bucket_name(name) && !name.starts_with("cosv1-") && !name.starts_with("account-");
    if is_valid {
        return Ok(());
    }
    Err(refuse(S3ErrorCode::InvalidBucketName, "The specified bucket is not valid."))
}

/// Records a new bucket.
pub(crate) fn create(records: &Records, bucket: &Bucket) -> S3Result<()> {
    check_name(&bucket.name)?;
    let transaction = records.write()?;
    {
        let mut table = transaction.open_table(BUCKETS).or_internal()?;
        if let Some(there) = table.get(&*bucket.name).or_internal()? {
            let there: Bucket = decode(there.value())?;
            return Err(if there.instance == bucket.instance {
                refuse(S3ErrorCode::BucketAlreadyOwnedByYou, "the bucket is there, and yours")
            } else {
                refuse(S3ErrorCode::BucketAlreadyExists, "The requested bucket name is not available.")
            });
        }
        if table.iter().or_internal()?.count() >= BUCKET_COUNT_MAX {
            return Err(refuse(
                S3ErrorCode::TooManyBuckets,
                "You have attempted to create more buckets than allowed.",
            ));
        }
        table.insert(&*bucket.name, &*encode(bucket)?).or_internal()?;
    }
    transaction.commit().or_internal()
}

/// Limits how many bytes a bucket takes; `None` lifts the limit.
pub(crate) fn set_quota(records: &Records, name: &str, quota: Option<u64>) -> S3Result<()> {
    update(records, name, |bucket| {
        bucket.hard_quota = quota;
        Ok(())
    })
}

/// Changes the settings of a bucket.
pub(super) fn update(
    records: &Records,
    name: &str,
    change: impl FnOnce(&mut Bucket) -> S3Result<()>,
) -> S3Result<()> {
    let transaction = records.write()?;
    {
        let mut table = transaction.open_table(BUCKETS).or_internal()?;
        let mut bucket = store::bucket(&table, name)?;
        change(&mut bucket)?;
        table.insert(name, &*encode(&bucket)?).or_internal()?;
    }
    transaction.commit().or_internal()
}

/// Whether no version, marker or upload is in a bucket.
pub(super) fn is_empty(records: &Records, name: &str) -> S3Result<bool> {
    let transaction = records.read()?;
    let versions = transaction.open_table(VERSIONS).or_internal()?;
    let uploads = transaction.open_table(UPLOADS).or_internal()?;
    let version = versions.range((name, "", 0)..).or_internal()?.next().transpose().or_internal()?;
    let upload = uploads.range((name, "", "")..).or_internal()?.next().transpose().or_internal()?;
    Ok(version.is_none_or(|(place, _)| place.value().0 != name)
        && upload.is_none_or(|(place, _)| place.value().0 != name))
}

/// The buckets of a service instance, in the order of their names.
pub(super) fn of_instance(region: &Region, instance: &str) -> S3Result<Vec<Bucket>> {
    let transaction = region.records().read()?;
    let table = transaction.open_table(BUCKETS).or_internal()?;
    let mut found = Vec::new();
    for row in table.iter().or_internal()? {
        let bucket: Bucket = decode(row.or_internal()?.1.value())?;
        if bucket.instance == instance {
            found.push(bucket);
        }
    }
    Ok(found)
}

/// The service instance that a request names: its GUID, or the CRN that has it as its eighth part.
pub(super) fn named_instance(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get("ibm-service-instance-id")?.to_str().ok()?;
    if named.starts_with("crn:") { named.split(':').nth(7) } else { Some(named) }
}

/// The service instance that a request is for: the one it names, or that of the HMAC keys.
pub(super) fn instance_of(region: &Region, caller: Option<&Caller>, headers: &HeaderMap) -> S3Result<String> {
    let own = caller.and_then(|caller| caller.instance.as_deref());
    let Some(instance) = named_instance(headers).or(own) else {
        return Err(refuse(S3ErrorCode::InvalidArgument, "ibm-service-instance-id is missing"));
    };
    if region.has_instance(instance) { Ok(instance.to_owned()) } else { denied("Access Denied") }
}

impl Service {
    pub(super) async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let instance = instance_of(&self.region, request.extensions.get(), &request.headers)?;
        let buckets = of_instance(&self.region, &instance)?
            .into_iter()
            .map(|bucket| dto::Bucket {
                creation_date: Some(whole_seconds(bucket.created_ms)),
                name: Some(bucket.name),
                ..dto::Bucket::default()
            })
            .collect();
        let owner = dto::Owner { display_name: Some(instance.clone()), id: Some(instance) };
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets),
            owner: Some(owner),
            ..ListBucketsOutput::default()
        }))
    }

    pub(super) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let instance = instance_of(&self.region, request.extensions.get(), &request.headers)?;
        let input = request.input;
        let constraint = input.create_bucket_configuration.and_then(|asked| asked.location_constraint);
        let class = match &constraint {
            Some(constraint) => self.class_of(constraint.as_str())?,
            None => "standard".to_owned(),
        };
        let has_lock = input.object_lock_enabled_for_bucket == Some(true);
        let bucket = Bucket {
            name: input.bucket.clone(),
            instance,
            location: self.location.clone(),
            class,
            created_ms: self.region.clock().now_ms(),
            versioning: if has_lock { Versioning::Enabled } else { Versioning::Never },
            lock: has_lock.then(LockRule::default),
            protection: None,
            lifecycle: Vec::new(),
            root_key: self.root_key(&request.headers)?,
            hard_quota: None,
        };
        create(self.region.records(), &bucket)?;
        let location = Some(format!("/{}", input.bucket));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    /// The class of a location constraint, if it is one of this location.
    fn class_of(&self, constraint: &str) -> S3Result<String> {
        let class = constraint.strip_prefix(&self.location).and_then(|rest| rest.strip_prefix('-'));
        match class.filter(|class| CLASSES.contains(class)) {
            Some(class) => Ok(class.to_owned()),
            None => Err(refuse(
                S3ErrorCode::InvalidLocationConstraint,
                "The specified location-constraint is not valid",
            )),
        }
    }

    fn root_key(&self, headers: &HeaderMap) -> S3Result<Option<String>> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(crn) = text("ibm-sse-kp-customer-root-key-crn") else { return Ok(None) };
        if text("ibm-sse-kp-encryption-algorithm") != Some("AES256") {
            return super::text::invalid("ibm-sse-kp-encryption-algorithm must be AES256");
        }
        if !self.region.is_root_key_enabled(crn)? {
            return super::text::invalid(format!("The key CRN {crn} could not be found."));
        }
        Ok(Some(crn.to_owned()))
    }

    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let name = request.input.bucket;
        self.bucket(&name)?;
        let transaction = self.region.records().write()?;
        // Nothing is written while this transaction lives: the bucket stays empty.
        if !is_empty(self.region.records(), &name)? {
            return Err(refuse(S3ErrorCode::BucketNotEmpty, "The bucket you tried to delete is not empty."));
        }
        transaction.open_table(BUCKETS).or_internal()?.remove(&*name).or_internal()?;
        transaction.commit().or_internal()?;
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    pub(super) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = self.bucket(&request.input.bucket)?;
        let mut response = S3Response::new(HeadBucketOutput::default());
        let mut add = |name: &'static str, value: &str| {
            if let Ok(value) = value.parse() {
                response.headers.insert(name, value);
            }
        };
        if let Some(root_key) = &bucket.root_key {
            add("ibm-sse-kp-enabled", "True");
            add("ibm-sse-kp-crk-id", root_key);
        }
        Ok(response)
    }

    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let bucket = self.bucket(&request.input.bucket)?;
        let location_constraint = Some(BucketLocationConstraint::from(bucket.location_constraint()));
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let status = match self.bucket(&request.input.bucket)?.versioning {
            Versioning::Never => None,
            Versioning::Enabled => Some(dto::BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(dto::BucketVersioningStatus::SUSPENDED),
        };
        let status = status.map(dto::BucketVersioningStatus::from_static);
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
    }

    pub(super) async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let status = input.versioning_configuration.status;
        let asked = match status.as_ref().map(dto::BucketVersioningStatus::as_str) {
            Some(dto::BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(dto::BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => return Err(refuse(S3ErrorCode::MalformedXML, "Status is Enabled or Suspended")),
        };
        update(self.region.records(), &input.bucket, |bucket| {
            if bucket.protection.is_some() {
                return Err(refuse(
                    S3ErrorCode::InvalidBucketState,
                    "a bucket with a retention policy cannot have versions",
                ));
            }
            if bucket.lock.is_some() && asked == Versioning::Suspended {
                return Err(refuse(
                    S3ErrorCode::InvalidBucketState,
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
                ));
            }
            bucket.versioning = asked;
            Ok(())
        })?;
        Ok(S3Response::new(PutBucketVersioningOutput {}))
    }
}
