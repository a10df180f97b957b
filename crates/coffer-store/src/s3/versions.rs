//! Versions of objects, in the order in which the store lists them.
//!
//! S3 lists the versions of one name newest first, and that order alone says which is older: two versions may have the same
//! time, and clocks go wrong. Names may come in any order. Versions and delete markers come apart, so a marker is put among
//! the versions by its time, which decides nothing but what a bucket looked like at an earlier time.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::types::EncodingType;
use aws_smithy_types::DateTime;

use super::S3Store;
use super::list::{Pages, decode, made};
use crate::{Attempt, StoreError, VersionItem};

/// What answers tell of versions: a bucket that keeps some says with each object which one it is.
#[derive(Debug, Default)]
pub(super) struct Shown {
    any: AtomicBool,
    versions: AtomicBool,
}

impl Shown {
    pub(super) fn learn(&self, version_id: Option<&str>) {
        self.versions.fetch_or(version_id.is_some(), Ordering::Relaxed);
        self.any.store(true, Ordering::Relaxed);
    }

    pub(super) fn keeps_versions(&self) -> Option<bool> {
        self.any.load(Ordering::Relaxed).then(|| self.versions.load(Ordering::Relaxed))
    }
}

/// Where a listing goes on: a key and a version.
type Marker = (Option<String>, Option<String>);

/// One page as it came.
struct Page {
    versions: Vec<VersionItem>,
    delete_markers: Vec<VersionItem>,
    /// The name that the next page may go on with.
    last_name: Option<String>,
    next: Option<Marker>,
}

/// What came of one name.
#[derive(Default)]
struct Group {
    name: String,
    versions: Vec<VersionItem>,
    delete_markers: Vec<VersionItem>,
}

impl S3Store {
    /// As [`CloudStore::versions_by`](crate::CloudStore::versions_by), page by page.
    pub(super) fn visit_versions(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut pages = Pages::default();
        let mut next: Option<Marker> = None;
        // The versions of the last name of a page may go on in the next one.
        let mut open: Option<Group> = None;
        loop {
            let page = made(attempt, || self.run(async || self.version_page(prefix, next.clone()).await))?;
            let Some(page) = page else { return Ok(()) };
            let is_last = page.next.is_none();
            let last_name = page.last_name.clone();
            next = page.next.clone();
            for group in page.into_groups(open.take()) {
                if !is_last && last_name.as_ref() == Some(&group.name) {
                    open = Some(group);
                    continue;
                }
                if self.show(group, visit)?.is_break() {
                    return Ok(());
                }
            }
            let Some(marker) = &next else { return Ok(()) };
            pages.check(marker).map_err(|what| self.odd(prefix, what))?;
        }
    }

    fn show(
        &self,
        group: Group,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let name = group.name.clone();
        let items = group.into_items();
        if items.iter().skip(1).any(|item| item.is_latest) {
            return Err(self.odd(&name, "the store does not list the newest version of a name first"));
        }
        for item in items {
            if visit(item).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One page of versions, and where the next one begins.
    async fn version_page(&self, prefix: &str, next: Option<Marker>) -> Result<Page, StoreError> {
        let (key_marker, version_marker) = next.unwrap_or_default();
        let output = self
            .client()
            .list_object_versions()
            .bucket(&self.location.bucket)
            .prefix(self.full(prefix))
            .encoding_type(EncodingType::Url)
            .set_key_marker(key_marker)
            .set_version_id_marker(version_marker)
            .send()
            .await
            .map_err(|error| self.sdk(prefix, error))?;
        let is_encoded = output.encoding_type == Some(EncodingType::Url);
        let item =
            |key: Option<String>, version_id: Option<String>, is_latest, modified: Option<DateTime>| {
                let name = decode(&key?, is_encoded);
                Some(VersionItem {
                    name: name.strip_prefix(&self.prefix)?.to_owned(),
                    version_id: version_id.unwrap_or_else(|| "null".to_owned()),
                    is_latest: is_latest == Some(true),
                    is_delete_marker: false,
                    modified_ms: modified
                        .and_then(|time| time.to_millis().ok())
                        .and_then(|time| u64::try_from(time).ok())
                        .unwrap_or(0),
                    len: 0,
                })
            };
        let mut page = Page { versions: Vec::new(), delete_markers: Vec::new(), last_name: None, next: None };
        for found in output.versions.unwrap_or_default() {
            let len = found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            if let Some(item) = item(found.key, found.version_id, found.is_latest, found.last_modified) {
                page.versions.push(VersionItem { len, ..item });
            }
        }
        for found in output.delete_markers.unwrap_or_default() {
            if let Some(item) = item(found.key, found.version_id, found.is_latest, found.last_modified) {
                page.delete_markers.push(VersionItem { is_delete_marker: true, ..item });
            }
        }
        if output.is_truncated == Some(true) {
            let Some(marker) = output.next_key_marker.map(|marker| decode(&marker, is_encoded)) else {
                return Err(self.odd(prefix, "the listing breaks off without saying where it goes on"));
            };
            page.last_name = marker.strip_prefix(&self.prefix).map(str::to_owned);
            page.next = Some((Some(marker), output.next_version_id_marker));
        }
        Ok(page)
    }
}

impl Page {
    /// What came of each name, behind what came of `open` before; names in the order in which they first appear.
    fn into_groups(self, open: Option<Group>) -> Vec<Group> {
        let mut groups: Vec<Group> = open.into_iter().collect();
        let mut places: HashMap<String, usize> = groups.iter().map(|group| (group.name.clone(), 0)).collect();
        for item in self.versions.into_iter().chain(self.delete_markers) {
            let place = *places.entry(item.name.clone()).or_insert_with(|| {
                groups.push(Group { name: item.name.clone(), ..Group::default() });
                groups.len() - 1
            });
            let group = &mut groups[place];
            if item.is_delete_marker { &mut group.delete_markers } else { &mut group.versions }.push(item);
        }
        groups
    }
}

impl Group {
    /// All in one order, the newest first. The store's order of versions is kept, and so is that of markers.
    fn into_items(self) -> Vec<VersionItem> {
        let mut items = Vec::with_capacity(self.versions.len() + self.delete_markers.len());
        let mut delete_markers = self.delete_markers.into_iter().peekable();
        for version in self.versions {
            let is_newer = |marker: &VersionItem| {
                marker.is_latest || (!version.is_latest && marker.modified_ms > version.modified_ms)
            };
            while let Some(marker) = delete_markers.next_if(is_newer) {
                items.push(marker);
            }
            items.push(version);
        }
        items.extend(delete_markers);
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, id: &str, modified_ms: u64) -> VersionItem {
        VersionItem {
            name: name.to_owned(),
            version_id: id.to_owned(),
            is_latest: false,
            is_delete_marker: id.starts_with('m'),
            modified_ms,
            len: 0,
        }
    }

    /// Lays out one name whose first item is the latest; times as given, whatever the order.
    #[track_caller]
    fn check(versions: &[(&str, u64)], markers: &[(&str, u64)], latest: &str, expected: &[&str]) {
        let items = |of: &[(&str, u64)]| -> Vec<VersionItem> {
            of.iter()
                .map(|(id, time)| VersionItem { is_latest: *id == latest, ..item("a", id, *time) })
                .collect()
        };
        let page =
            Page { versions: items(versions), delete_markers: items(markers), last_name: None, next: None };
        let groups = page.into_groups(None);
        assert_eq!(groups.len(), 1);
        let ids: Vec<_> =
            groups.into_iter().flat_map(Group::into_items).map(|item| item.version_id).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn the_order_of_the_store_goes_before_times() {
        check(&[("c", 5), ("b", 5), ("a", 5)], &[], "c", &["c", "b", "a"]);
        check(&[("c", 1), ("b", 9), ("a", 5)], &[], "c", &["c", "b", "a"]);
        check(&[("b", 5), ("a", 3)], &[("m2", 4), ("m1", 4)], "b", &["b", "m2", "m1", "a"]);
        check(&[("b", 5), ("a", 3)], &[("m", 5)], "m", &["m", "b", "a"]);
        // What was hidden is shown where times do not tell.
        check(&[("b", 5), ("a", 5)], &[("m", 5)], "b", &["b", "a", "m"]);
    }

    #[test]
    fn names_stay_in_the_order_in_which_they_came() {
        let page = Page {
            versions: vec![item("z", "2", 1), item("b", "1", 1), item("z", "1", 1)],
            delete_markers: vec![item("a", "m", 1)],
            last_name: None,
            next: None,
        };
        let open = Group { name: "b".to_owned(), versions: vec![item("b", "2", 0)], ..Group::default() };
        let groups = page.into_groups(Some(open));
        let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["b", "z", "a"]);
        let ids: Vec<_> = groups[0].versions.iter().map(|item| item.version_id.as_str()).collect();
        assert_eq!(ids, ["2", "1"]);
    }
}
