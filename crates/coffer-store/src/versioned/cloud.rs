//! What a bucket has beside objects, by the version that counts.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{VersionRule, VersionedStore};
use crate::{
    BucketFacts, Checksums, ClockAhead, CloudStore, ObjectKey, ObjectStore, PutOutcome, RestoreTier,
    Retention, StorageState, StoreError, Trial, UploadFacts, UploadForm, VersionItem,
};

impl<S: ObjectStore> CloudStore for VersionedStore<S> {
    fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.cloud_inside()?.bucket_facts()
    }

    fn versions(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.cloud_inside()?.versions(prefix, visit)
    }

    fn clock_ahead(&self) -> Option<ClockAhead> {
        self.inner.cloud().and_then(CloudStore::clock_ahead)
    }

    fn keeps_versions(&self) -> Option<bool> {
        self.inner.cloud().and_then(CloudStore::keeps_versions)
    }

    fn read_version(
        &self,
        key: &ObjectKey,
        version_id: &str,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.cloud_inside()?.read_version(key, version_id, len_max, out)
    }

    fn read_version_range(
        &self,
        key: &ObjectKey,
        version_id: &str,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        self.cloud_inside()?.read_version_range(key, version_id, offset, out)
    }

    fn put_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        let write = |cloud: &dyn CloudStore| cloud.put_unconditional(key, body, Some(retention));
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => {
                self.cloud_inside()?.put_if_absent_retained(key, body, retention)
            }
            VersionRule::OneWriter => self.create_alone(key, &write),
            _ => self.create_oldest(key, body, &write),
        }
    }

    fn put_shared_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        let write = |cloud: &dyn CloudStore| cloud.put_shared_unconditional(key, body, Some(retention));
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => {
                self.cloud_inside()?.put_shared_if_absent_retained(key, body, retention)
            }
            VersionRule::OneWriter => self.create_alone(key, &write),
            _ => self.create_oldest(key, body, &write),
        }
    }

    fn put_unconditional(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        self.rule_to_write(key)?;
        self.cloud_inside()?.put_unconditional(key, body, retention)
    }

    fn put_shared_unconditional(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        self.rule_to_write(key)?;
        self.cloud_inside()?.put_shared_unconditional(key, body, retention)
    }

    fn put_if_absent_in_parts(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let write = |cloud: &dyn CloudStore| cloud.put_unconditional(key, body, None);
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => self.cloud_inside()?.put_if_absent_in_parts(key, body),
            VersionRule::OneWriter => self.create_alone(key, &write),
            _ => self.create_oldest(key, body, &write),
        }
    }

    fn try_upload(
        &self,
        key: &ObjectKey,
        body: &[u8],
        form: UploadForm,
        if_absent: bool,
    ) -> Result<Trial, StoreError> {
        self.rule_to_write(key)?;
        self.cloud_inside()?.try_upload(key, body, form, if_absent)
    }

    fn learn_uploads(&self, facts: &UploadFacts) {
        if let Ok(cloud) = self.cloud_inside() {
            cloud.learn_uploads(facts);
        }
    }

    fn checksums(&self) -> Checksums {
        self.cloud_inside().map(|cloud| cloud.checksums()).unwrap_or_default()
    }

    fn retention(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<Option<Retention>, StoreError> {
        let version_id = self.version_for(key, version_id)?;
        self.cloud_inside()?.retention(key, version_id.as_deref())
    }

    fn extend_retention(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        let version_id = self.version_for(key, version_id)?;
        self.cloud_inside()?.extend_retention(key, version_id.as_deref(), retention)
    }

    fn legal_hold(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<bool, StoreError> {
        let version_id = self.version_for(key, version_id)?;
        self.cloud_inside()?.legal_hold(key, version_id.as_deref())
    }

    fn set_legal_hold(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        is_held: bool,
    ) -> Result<(), StoreError> {
        let version_id = self.version_for(key, version_id)?;
        self.cloud_inside()?.set_legal_hold(key, version_id.as_deref(), is_held)
    }

    fn storage_class(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<StorageState, StoreError> {
        let version_id = self.version_for(key, version_id)?;
        self.cloud_inside()?.storage_class(key, version_id.as_deref())
    }

    fn request_restore(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        days: u32,
        tier: RestoreTier,
    ) -> Result<(), StoreError> {
        let version_id = self.version_for(key, version_id)?;
        self.cloud_inside()?.request_restore(key, version_id.as_deref(), days, tier)
    }

    fn delete_version(&self, key: &ObjectKey, version_id: &str) -> Result<(), StoreError> {
        self.rule_to_write(key)?;
        self.forget(key);
        self.cloud_inside()?.delete_version(key, version_id)
    }
}
