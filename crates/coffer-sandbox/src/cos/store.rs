//! Versions of objects in the records: finding, adding and removing them.
//!
//! Every write checks, in the same transaction, its conditions, what protects the version that it would replace, and the quota.

use redb::{ReadableTable, WriteTransaction};
use s3s::dto::{ETag, ETagCondition};
use s3s::{S3ErrorCode, S3Result};

use super::model::{Bucket, NULL_VERSION, Version, Versioning};
use super::protect;
use super::text::refuse;
use crate::clock::Millis;
use crate::random;
use crate::records::{BUCKETS, OrInternal, Records, SETTINGS, VERSIONS, decode, encode};
use crate::switches::ConditionMode;

type VersionKey = (&'static str, &'static str, u64);
type VersionRow = (bool, &'static [u8]);

/// What must hold of the object that is there when another one is written.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

impl Condition {
    /// Refuses conditions that the service is switched not to know.
    pub(crate) fn filtered(self, mode: ConditionMode) -> S3Result<Self> {
        match mode {
            ConditionMode::Honoured => Ok(self),
            ConditionMode::Ignored => Ok(Self { if_none_match: None, ..self }),
            ConditionMode::Rejected if self.if_none_match.is_some() => Err(refuse(
                S3ErrorCode::NotImplemented,
                "A header you provided implies functionality that is not implemented",
            )),
            ConditionMode::Rejected => Ok(self),
        }
    }

    fn check(&self, current: Option<&Version>) -> S3Result<()> {
        let failed =
            || refuse(S3ErrorCode::PreconditionFailed, "At least one of the preconditions did not hold");
        if let Some(wanted) = &self.if_match {
            let current = current.ok_or_else(|| refuse(S3ErrorCode::NoSuchKey, "there is no such object"))?;
            if !matches(wanted, &current.etag) {
                return Err(failed());
            }
        }
        if let Some(unwanted) = &self.if_none_match
            && current.is_some_and(|current| matches(unwanted, &current.etag))
        {
            return Err(failed());
        }
        Ok(())
    }
}

/// Whether an ETag is the one, or any.
pub(crate) fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.weak_cmp(&ETag::Strong(etag.to_owned())),
    }
}

/// The bucket of this name, wherever it is.
pub(crate) fn bucket(
    buckets: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> S3Result<Bucket> {
    let found = buckets.get(name).or_internal()?;
    let found =
        found.ok_or_else(|| refuse(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist."))?;
    decode(found.value())
}

/// All versions of an object, the newest first.
pub(crate) fn versions(
    table: &impl ReadableTable<VersionKey, VersionRow>,
    bucket: &str,
    key: &str,
) -> S3Result<Vec<(u64, Version)>> {
    let mut found = Vec::new();
    for row in table.range((bucket, key, 0)..=(bucket, key, u64::MAX)).or_internal()? {
        let (place, bytes) = row.or_internal()?;
        found.push((place.value().2, decode(bytes.value().1)?));
    }
    Ok(found)
}

/// The newest version, or a certain one.
pub(crate) fn find(
    table: &impl ReadableTable<VersionKey, VersionRow>,
    bucket: &str,
    key: &str,
    id: Option<&str>,
) -> S3Result<Option<(u64, Version)>> {
    for row in table.range((bucket, key, 0)..=(bucket, key, u64::MAX)).or_internal()? {
        let (place, bytes) = row.or_internal()?;
        let version: Version = decode(bytes.value().1)?;
        if id.is_none_or(|id| id == version.id) {
            return Ok(Some((place.value().2, version)));
        }
    }
    Ok(None)
}

/// What a write did.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The version that it made, where the bucket has versions.
    pub(crate) version_id: Option<String>,
    /// It made a delete marker, or removed one.
    pub(crate) is_marker: bool,
    /// Bodies that no record names any more.
    pub(crate) orphans: Vec<String>,
}

/// A transaction on the objects of one bucket.
pub(crate) struct Change {
    transaction: WriteTransaction,
    pub(crate) bucket: Bucket,
    now_ms: Millis,
    written: Written,
}

impl Change {
    pub(crate) fn begin(records: &Records, name: &str, now_ms: Millis) -> S3Result<Self> {
        let transaction = records.write()?;
        let bucket = bucket(&transaction.open_table(BUCKETS).or_internal()?, name)?;
        Ok(Self { transaction, bucket, now_ms, written: Written::default() })
    }

    /// The transaction, for what goes beside.
    pub(crate) fn transaction(&self) -> &WriteTransaction {
        &self.transaction
    }

    /// Adds a version as the newest one.
    pub(crate) fn put(&mut self, key: &str, condition: &Condition, mut version: Version) -> S3Result<()> {
        let all = versions(&self.transaction.open_table(VERSIONS).or_internal()?, &self.bucket.name, key)?;
        let current = all.first().map(|(_, version)| version).filter(|version| version.body.is_some());
        condition.check(current)?;
        self.check_quota(version.len)?;
        if self.bucket.versioning == Versioning::Enabled {
            version.id = random::uuid();
        } else {
            NULL_VERSION.clone_into(&mut version.id);
            self.remove_null(&all, key)?;
        }
        self.written.version_id = (self.bucket.versioning != Versioning::Never).then(|| version.id.clone());
        self.insert(key, &version)
    }

    /// Deletes the newest version, or puts a marker in front of it where the bucket has versions.
    pub(crate) fn delete(&mut self, key: &str, condition: &Condition) -> S3Result<()> {
        let all = versions(&self.transaction.open_table(VERSIONS).or_internal()?, &self.bucket.name, key)?;
        let current = all.first().map(|(_, version)| version).filter(|version| version.body.is_some());
        if condition.if_match.is_some() {
            condition.check(current)?;
        }
        if self.bucket.versioning != Versioning::Enabled {
            self.remove_null(&all, key)?;
        }
        if self.bucket.versioning == Versioning::Never {
            return Ok(());
        }
        let is_enabled = self.bucket.versioning == Versioning::Enabled;
        let marker = Version {
            id: if is_enabled { random::uuid() } else { NULL_VERSION.to_owned() },
            created_ms: self.now_ms,
            len: 0,
            etag: String::new(),
            body: None,
            about: Default::default(),
            checksums: Default::default(),
            part_count: None,
            lock: Default::default(),
            retention: None,
            holds: Vec::new(),
            archive: None,
        };
        self.written.version_id = Some(marker.id.clone());
        self.written.is_marker = true;
        self.insert(key, &marker)
    }

    /// Deletes one version, if it is there.
    pub(crate) fn delete_version(&mut self, key: &str, id: &str, bypasses: bool) -> S3Result<()> {
        self.written.version_id = Some(id.to_owned());
        let found =
            find(&self.transaction.open_table(VERSIONS).or_internal()?, &self.bucket.name, key, Some(id))?;
        let Some((order, version)) = found else { return Ok(()) };
        protect::check_removable(&version, self.now_ms, bypasses)?;
        self.written.is_marker = version.body.is_none();
        self.remove(key, order, version)
    }

    /// Changes one version in place.
    pub(crate) fn update(
        &mut self,
        key: &str,
        id: Option<&str>,
        change: impl FnOnce(&Bucket, &mut Version) -> S3Result<()>,
    ) -> S3Result<()> {
        let mut table = self.transaction.open_table(VERSIONS).or_internal()?;
        let found = find(&table, &self.bucket.name, key, id)?;
        let found = found.filter(|(_, version)| version.body.is_some());
        let code = if id.is_some() { S3ErrorCode::NoSuchVersion } else { S3ErrorCode::NoSuchKey };
        let (order, mut version) = found.ok_or_else(|| refuse(code, "The specified key does not exist."))?;
        change(&self.bucket, &mut version)?;
        table.insert((&*self.bucket.name, key, order), (false, &*encode(&version)?)).or_internal()?;
        Ok(())
    }

    /// Makes the changes durable.
    pub(crate) fn commit(self) -> S3Result<Written> {
        self.transaction.commit().or_internal()?;
        Ok(self.written)
    }

    fn remove_null(&mut self, all: &[(u64, Version)], key: &str) -> S3Result<()> {
        let Some((order, version)) = all.iter().find(|(_, version)| version.id == NULL_VERSION) else {
            return Ok(());
        };
        protect::check_removable(version, self.now_ms, false)?;
        self.remove(key, *order, version.clone())
    }

    fn remove(&mut self, key: &str, order: u64, version: Version) -> S3Result<()> {
        let mut table = self.transaction.open_table(VERSIONS).or_internal()?;
        table.remove((&*self.bucket.name, key, order)).or_internal()?;
        self.written.orphans.extend(version.body);
        Ok(())
    }

    fn insert(&self, key: &str, version: &Version) -> S3Result<()> {
        let mut settings = self.transaction.open_table(SETTINGS).or_internal()?;
        let last: u64 =
            settings.get("sequence").or_internal()?.map(|row| decode(row.value())).transpose()?.unwrap_or(0);
        settings.insert("sequence", &*encode(&(last + 1))?).or_internal()?;
        let mut table = self.transaction.open_table(VERSIONS).or_internal()?;
        let place = (&*self.bucket.name, key, u64::MAX - last);
        table.insert(place, (version.body.is_none(), &*encode(version)?)).or_internal()?;
        Ok(())
    }

    fn check_quota(&self, added_len: u64) -> S3Result<()> {
        let Some(quota) = self.bucket.hard_quota else { return Ok(()) };
        let table = self.transaction.open_table(VERSIONS).or_internal()?;
        let mut used = added_len;
        for row in table.range((&*self.bucket.name, "", 0)..).or_internal()? {
            let (place, bytes) = row.or_internal()?;
            if place.value().0 != self.bucket.name {
                break;
            }
            used += decode::<Version>(bytes.value().1)?.len;
        }
        if used <= quota {
            return Ok(());
        }
        let mut error =
            refuse(S3ErrorCode::Custom("QuotaExceeded".into()), "the hard quota of the bucket is reached");
        error.set_status_code(http::StatusCode::FORBIDDEN);
        Err(error)
    }
}
