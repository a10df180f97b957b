//! Lists of objects and versions.
//!
//! IBM warns that lists are not in the order of names. Here they are in the order of a hash of the name, unless switched otherwise, so
//! that a client that relies on the order fails. Pages are complete either way: each goes on where the one before ended, in
//! the same order.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ETag, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass,
    ObjectVersion, ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response, S3Result};

use super::archive;
use super::model::Version;
use super::service::Service;
use super::text::{invalid, listed, signed, timestamp};
use crate::records::{OrInternal, VERSIONS, decode};

/// Entries of one page, at most.
const PAGE_COUNT_MAX: i32 = 1000;

/// Where an entry stands in a list: by the hash of its name if the list is unsorted, then by name, then by age.
type Rank = (u64, String, u64);

/// What a list is about.
struct Query<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    /// Entries up to this one came before; with an age, that of a version.
    after: Option<(&'a str, u64)>,
    count_max: usize,
    /// Versions and markers, not only the newest.
    has_all: bool,
}

/// An entry, or a common prefix that stands for many.
enum Entry {
    Version { key: String, is_latest: bool, version: Box<Version> },
    Prefix(String),
}

struct Page {
    entries: Vec<Entry>,
    /// Where the next page goes on: a name, and the age of the last version.
    next: Option<(String, u64)>,
}

impl Service {
    fn rank(&self, is_unsorted: bool, name: &str, age: u64) -> Rank {
        let mut hasher = DefaultHasher::new();
        if is_unsorted {
            name.hash(&mut hasher);
            return (hasher.finish(), name.to_owned(), age);
        }
        (0, name.to_owned(), age)
    }

    fn page(&self, query: &Query<'_>) -> S3Result<Page> {
        let is_unsorted = self.region.switches().is_list_unsorted;
        let after = query.after.map(|(name, age)| self.rank(is_unsorted, name, age));
        let mut kept: BTreeMap<Rank, Option<(bool, Vec<u8>)>> = BTreeMap::new();
        let transaction = self.region.records().read()?;
        let table = transaction.open_table(VERSIONS).or_internal()?;
        let begin = match query.after {
            Some((name, _)) if !is_unsorted && name > query.prefix => name,
            _ => query.prefix,
        };
        let mut last_key = String::new();
        let mut is_first = true;
        for row in table.range((query.bucket, begin, 0)..).or_internal()? {
            let (place, value) = row.or_internal()?;
            let (bucket, key, age) = place.value();
            if bucket != query.bucket || !key.starts_with(query.prefix) {
                break;
            }
            let is_latest = is_first || key != last_key;
            is_first = false;
            if is_latest {
                key.clone_into(&mut last_key);
            }
            let (is_marker, bytes) = value.value();
            if !query.has_all && (!is_latest || is_marker) {
                continue;
            }
            let rest = &key[query.prefix.len()..];
            let cut = query.delimiter.filter(|delimiter| !delimiter.is_empty()).and_then(|delimiter| {
                rest.find(delimiter).map(|at| query.prefix.len() + at + delimiter.len())
            });
            let rank = match cut {
                Some(len) => self.rank(is_unsorted, &key[..len], u64::MAX),
                None => self.rank(is_unsorted, key, if query.has_all { age } else { u64::MAX }),
            };
            if after.as_ref().is_some_and(|after| rank <= *after) {
                continue;
            }
            let is_full = kept.len() > query.count_max;
            if is_full && kept.last_key_value().is_some_and(|(last, _)| rank > *last) {
                if is_unsorted { continue } else { break }
            }
            kept.insert(rank, cut.is_none().then(|| (is_latest, bytes.to_vec())));
            if kept.len() > query.count_max + 1 {
                kept.pop_last();
            }
        }
        let has_more = query.count_max > 0 && kept.len() > query.count_max;
        let mut next = None;
        let mut entries = Vec::new();
        for ((_, name, age), entry) in kept.into_iter().take(query.count_max) {
            next = Some((name.clone(), age));
            entries.push(match entry {
                None => Entry::Prefix(name),
                Some((is_latest, bytes)) => {
                    Entry::Version { key: name, is_latest, version: Box::new(decode(&bytes)?) }
                }
            });
        }
        Ok(Page { entries, next: next.filter(|_| has_more) })
    }

    fn object(&self, key: String, version: Version, is_encoded: bool) -> Object {
        let class = archive::class(&version, self.region.clock().now_ms()).unwrap_or("STANDARD").to_owned();
        Object {
            key: Some(listed(key, is_encoded)),
            e_tag: Some(ETag::Strong(version.etag)),
            last_modified: Some(timestamp(version.created_ms)),
            size: Some(signed(version.len)),
            storage_class: Some(ObjectStorageClass::from(class)),
            ..Object::default()
        }
    }

    /// The objects and common prefixes of a page.
    fn split(&self, page: Vec<Entry>, is_encoded: bool) -> (Vec<Object>, Vec<CommonPrefix>) {
        let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
        for entry in page {
            match entry {
                Entry::Version { key, version, .. } => objects.push(self.object(key, *version, is_encoded)),
                Entry::Prefix(prefix) => {
                    prefixes.push(CommonPrefix { prefix: Some(listed(prefix, is_encoded)) });
                }
            }
        }
        (objects, prefixes)
    }

    pub(super) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let is_encoded = input.encoding_type.is_some();
        let count = page_count(input.max_keys)?;
        let marker = input.marker.filter(|marker| !marker.is_empty());
        let page = self.page(&Query {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: marker.as_deref().map(|marker| (marker, u64::MAX)),
            count_max: usize::try_from(count).unwrap_or(0),
            has_all: false,
        })?;
        let (objects, prefixes) = self.split(page.entries, is_encoded);
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: input.prefix.map(|prefix| listed(prefix, is_encoded)),
            marker: Some(listed(marker.unwrap_or_default(), is_encoded)),
            delimiter: input.delimiter.map(|delimiter| listed(delimiter, is_encoded)),
            max_keys: Some(count),
            encoding_type: input.encoding_type,
            is_truncated: Some(page.next.is_some()),
            next_marker: page.next.map(|(name, _)| listed(name, is_encoded)),
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            ..ListObjectsOutput::default()
        }))
    }

    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let is_encoded = input.encoding_type.is_some();
        let count = page_count(input.max_keys)?;
        let after = input.continuation_token.as_deref().or(input.start_after.as_deref());
        let page = self.page(&Query {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: after.filter(|after| !after.is_empty()).map(|after| (after, u64::MAX)),
            count_max: usize::try_from(count).unwrap_or(0),
            has_all: false,
        })?;
        let (objects, prefixes) = self.split(page.entries, is_encoded);
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix.map(|prefix| listed(prefix, is_encoded)),
            delimiter: input.delimiter.map(|delimiter| listed(delimiter, is_encoded)),
            start_after: input.start_after.map(|after| listed(after, is_encoded)),
            max_keys: Some(count),
            key_count: i32::try_from(objects.len() + prefixes.len()).ok(),
            encoding_type: input.encoding_type,
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|(name, _)| name),
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            ..ListObjectsV2Output::default()
        }))
    }

    pub(super) async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let is_encoded = input.encoding_type.is_some();
        let count = page_count(input.max_keys)?;
        let key_marker = input.key_marker.clone().unwrap_or_default();
        // A marker without a version: all versions of that key came before.
        let age = match &input.version_id_marker {
            Some(id) if !id.is_empty() => self.age(&input.bucket, &key_marker, id)?,
            _ => u64::MAX,
        };
        let page = self.page(&Query {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: (!key_marker.is_empty()).then_some((&*key_marker, age)),
            count_max: usize::try_from(count).unwrap_or(0),
            has_all: true,
        })?;
        let next_id = page.next.as_ref().and_then(|_| match page.entries.last() {
            Some(Entry::Version { version, .. }) => Some(version.id.clone()),
            _ => None,
        });
        let now_ms = self.region.clock().now_ms();
        let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
        for entry in page.entries {
            match entry {
                Entry::Prefix(prefix) => {
                    prefixes.push(CommonPrefix { prefix: Some(listed(prefix, is_encoded)) });
                }
                Entry::Version { key, is_latest, version } if version.body.is_none() => {
                    markers.push(DeleteMarkerEntry {
                        is_latest: Some(is_latest),
                        key: Some(listed(key, is_encoded)),
                        last_modified: Some(timestamp(version.created_ms)),
                        version_id: Some(version.id),
                        ..DeleteMarkerEntry::default()
                    });
                }
                Entry::Version { key, is_latest, version } => {
                    let class = archive::class(&version, now_ms).unwrap_or("STANDARD").to_owned();
                    versions.push(ObjectVersion {
                        e_tag: Some(ETag::Strong(version.etag)),
                        is_latest: Some(is_latest),
                        key: Some(listed(key, is_encoded)),
                        last_modified: Some(timestamp(version.created_ms)),
                        size: Some(signed(version.len)),
                        storage_class: Some(ObjectVersionStorageClass::from(class)),
                        version_id: Some(version.id),
                        ..ObjectVersion::default()
                    });
                }
            }
        }
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: input.prefix.map(|prefix| listed(prefix, is_encoded)),
            delimiter: input.delimiter.map(|delimiter| listed(delimiter, is_encoded)),
            key_marker: Some(listed(key_marker, is_encoded)),
            version_id_marker: input.version_id_marker,
            max_keys: Some(count),
            encoding_type: input.encoding_type,
            is_truncated: Some(page.next.is_some()),
            next_key_marker: page.next.map(|(name, _)| listed(name, is_encoded)),
            next_version_id_marker: next_id,
            versions: Some(versions),
            delete_markers: Some(markers),
            common_prefixes: Some(prefixes),
            ..ListObjectVersionsOutput::default()
        }))
    }

    /// Where a version stands among those of its key.
    fn age(&self, bucket: &str, key: &str, id: &str) -> S3Result<u64> {
        let transaction = self.region.records().read()?;
        let table = transaction.open_table(VERSIONS).or_internal()?;
        Ok(super::store::find(&table, bucket, key, Some(id))?.map_or(u64::MAX, |(age, _)| age))
    }
}

fn page_count(asked: Option<i32>) -> S3Result<i32> {
    match asked.unwrap_or(PAGE_COUNT_MAX) {
        negative if negative < 0 => invalid("max-keys is not negative"),
        count => Ok(count.min(PAGE_COUNT_MAX)),
    }
}
