//! What is recorded of buckets, versions and uploads.

use std::collections::BTreeMap;

use s3s::dto;
use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// A bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// GUID of the service instance that it belongs to.
    pub(crate) instance: String,
    /// `eu-de`, `eu`, `ams03`.
    pub(crate) location: String,
    /// `standard`, `vault`, `cold`, `smart`.
    pub(crate) class: String,
    pub(crate) created_ms: Millis,
    pub(crate) versioning: Versioning,
    /// Object lock; once on, it stays.
    pub(crate) lock: Option<LockRule>,
    /// Retention policy of immutable object storage; once on, it stays.
    pub(crate) protection: Option<Protection>,
    pub(crate) lifecycle: Vec<Rule>,
    /// The root key that the objects are encrypted under.
    pub(crate) root_key: Option<String>,
    /// So many bytes fit.
    pub(crate) hard_quota: Option<u64>,
}

impl Bucket {
    /// The location and class, as clients write them.
    pub(crate) fn location_constraint(&self) -> String {
        format!("{}-{}", self.location, self.class)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Versioning {
    #[default]
    Never,
    Enabled,
    Suspended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LockMode {
    Governance,
    Compliance,
}

impl LockMode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Governance => dto::ObjectLockMode::GOVERNANCE,
            Self::Compliance => dto::ObjectLockMode::COMPLIANCE,
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.name() == name)
    }
}

/// What new versions get, if object lock is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct LockRule {
    pub(crate) default: Option<DefaultLock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DefaultLock {
    pub(crate) mode: LockMode,
    /// Days or years, as it was set.
    pub(crate) count: u32,
    pub(crate) is_years: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Protection {
    pub(crate) minimum_days: u32,
    pub(crate) default_days: u32,
    pub(crate) maximum_days: u32,
}

/// A rule of a lifecycle, with what the sandbox carries out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) is_enabled: bool,
    pub(crate) prefix: String,
    /// Into an archive class after so many days.
    pub(crate) transition: Option<(u32, String)>,
    /// Deleted after so many days.
    pub(crate) expiration_days: Option<u32>,
    /// Versions that are no longer the newest, deleted after so many days.
    pub(crate) noncurrent_days: Option<u32>,
    /// Uploads that were never completed, aborted after so many days.
    pub(crate) abort_days: Option<u32>,
}

/// A version of an object, or a delete marker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    /// `null` where the bucket has no versions.
    pub(crate) id: String,
    pub(crate) created_ms: Millis,
    pub(crate) len: u64,
    pub(crate) etag: String,
    /// The file that holds the bytes; a delete marker has none.
    pub(crate) body: Option<String>,
    pub(crate) about: About,
    pub(crate) checksums: Checksums,
    /// How many parts it was uploaded in.
    pub(crate) part_count: Option<u32>,
    pub(crate) lock: ObjectLock,
    pub(crate) retention: Option<Retention>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) archive: Option<Archive>,
}

pub(crate) const NULL_VERSION: &str = "null";

/// What a client says about an object beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) content_type: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksums {
    pub(crate) crc32: Option<String>,
    pub(crate) crc32c: Option<String>,
    pub(crate) crc64nvme: Option<String>,
    pub(crate) sha1: Option<String>,
    pub(crate) sha256: Option<String>,
    /// Over the sums of the parts, not over the bytes.
    pub(crate) is_composite: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectLock {
    pub(crate) mode: Option<LockMode>,
    pub(crate) until_ms: Millis,
    pub(crate) is_held: bool,
}

/// Retention of immutable object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retention {
    pub(crate) period_s: u64,
    pub(crate) until_ms: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) id: String,
    pub(crate) since_ms: Millis,
}

/// When an object goes into an archive class, and the copy that was asked back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Archive {
    /// `GLACIER` or `ACCELERATED`.
    pub(crate) class: String,
    pub(crate) from_ms: Millis,
    pub(crate) restored: Option<Restored>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restored {
    pub(crate) ready_ms: Millis,
    pub(crate) until_ms: Millis,
}

/// A multipart upload that is neither completed nor aborted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) created_ms: Millis,
    pub(crate) about: About,
    pub(crate) lock: Option<ObjectLock>,
    pub(crate) archive_class: Option<String>,
    /// `CRC32` and so on, if the client named one.
    pub(crate) checksum: Option<String>,
    pub(crate) is_full_object: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) body: String,
    pub(crate) len: u64,
    pub(crate) etag: String,
    pub(crate) checksums: Checksums,
    pub(crate) created_ms: Millis,
}
