//! Cloud Object Storage: S3 with IBM's additions.
//!
//! `front` takes requests in and gives answers out, `access` says who may do what, `service` is the S3 protocol of `s3s`, and
//! `extensions` are the calls that only IBM has.

mod access;
mod archive;
mod bodies;
mod buckets;
mod checksums;
mod chunked;
mod copies;
mod extensions;
mod front;
mod lifecycle;
mod listing;
mod locks;
mod model;
mod multipart;
mod objects;
mod protect;
mod service;
mod store;
mod text;
mod unread;

use std::collections::HashSet;

use redb::ReadableTable;
use s3s::S3Result;

pub(crate) use bodies::Bodies;
pub(crate) use buckets::{create as create_bucket, set_quota};
pub(crate) use front::{Front, what};
pub(crate) use lifecycle::sweep;
pub(crate) use model::{Bucket, LockRule, Versioning};
use model::{Part, Version};

use crate::kms::{ACCOUNT, Registration};
use crate::records::{BUCKETS, OrInternal, PARTS, Records, VERSIONS, decode};

/// The bodies that records name.
pub(crate) fn named_bodies(records: &Records) -> S3Result<HashSet<String>> {
    let transaction = records.read()?;
    let mut named = HashSet::new();
    for row in transaction.open_table(VERSIONS).or_internal()?.iter().or_internal()? {
        named.extend(decode::<Version>(row.or_internal()?.1.value().1)?.body);
    }
    for row in transaction.open_table(PARTS).or_internal()?.iter().or_internal()? {
        named.insert(decode::<Part>(row.or_internal()?.1.value())?.body);
    }
    Ok(named)
}

/// The buckets that are encrypted under keys of an instance of the key service, as that lists what it protects.
pub(crate) fn registrations(records: &Records, guid: &str) -> S3Result<Vec<Registration>> {
    let transaction = records.read()?;
    let mut found = Vec::new();
    for row in transaction.open_table(BUCKETS).or_internal()?.iter().or_internal()? {
        let bucket: Bucket = decode(row.or_internal()?.1.value())?;
        let Some((head, key)) = bucket.root_key.as_deref().and_then(|crn| crn.rsplit_once(":key:")) else {
            continue;
        };
        if head.rsplit(':').next() != Some(guid) {
            continue;
        }
        found.push(Registration {
            key_id: key.to_owned(),
            resource_crn: format!(
                "crn:v1:bluemix:public:cloud-object-storage:global:a/{ACCOUNT}:{}:bucket:{}",
                bucket.instance, bucket.name
            ),
            created_by: "cloud-object-storage".to_owned(),
            created_ms: bucket.created_ms,
            description: format!("bucket {}", bucket.name),
            prevents_deletion: bucket.protection.is_some(),
        });
    }
    Ok(found)
}
