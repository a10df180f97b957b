//! A store of whose objects one version counts, whatever was written over it or laid on top of it.
//!
//! On a bucket that keeps versions nothing that was written is lost by an overwrite or a deletion. [`VersionedStore`]
//! makes use of that in three ways, by its [`VersionRule`]: it makes creation exclusive where the store's own condition
//! cannot be trusted, it finds what was hidden or overwritten, and it shows a bucket as it was.
//!
//! Nothing here rests on a clock but [`VersionRule::AsOf`]: which version is older is told by the order in which the store
//! lists them. A store that does not keep to that order is found by [`probe`](crate::probe).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::{
    BucketFacts, CloudStore, ItemKind, ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, RestoreTier,
    Retention, StorageState, StoreError, VersionItem,
};

/// Names whose version is remembered; with more, all are forgotten and asked for anew.
const KNOWN_COUNT_MAX: usize = 100_000;

/// Which version of a name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionRule {
    /// The oldest; delete markers count for nothing. A creation writes, then lists the versions, and has made the object if
    /// the oldest one is its own. A deletion removes all versions for good.
    Oldest,
    /// The newest, as the store has it. Where a delete marker hides it, or its bytes or its length were found wrong, the
    /// oldest. Creation and deletion are the store's own.
    NewestElseOldest,
    /// As [`Self::NewestElseOldest`], where the store's condition cannot be trusted and there are no versions either: a
    /// creation looks whether the name is there, and then writes. Two writers at once would lose one of them.
    OneWriter,
    /// The newest that was there at that time, in milliseconds since 1970 by the store's clock; no object if that is a
    /// delete marker. Nothing can be written or deleted.
    AsOf(u64),
    /// As [`Self::Oldest`], of the versions that were there at that time. Nothing can be written or deleted.
    OldestAsOf(u64),
}

impl VersionRule {
    const fn is_read_only(self) -> bool {
        matches!(self, Self::AsOf(_) | Self::OldestAsOf(_))
    }

    const fn follows_newest(self) -> bool {
        matches!(self, Self::NewestElseOldest | Self::OneWriter)
    }

    /// The version that counts, of those of one name, the newest first.
    fn choose(self, versions: &[VersionItem]) -> Option<&VersionItem> {
        let mut objects = versions.iter().filter(|version| !version.is_delete_marker);
        match self {
            Self::Oldest | Self::NewestElseOldest | Self::OneWriter => objects.next_back(),
            Self::OldestAsOf(at_ms) => objects.rfind(|version| version.modified_ms <= at_ms),
            Self::AsOf(at_ms) => {
                let there = versions.iter().find(|version| version.modified_ms <= at_ms);
                there.filter(|version| !version.is_delete_marker)
            }
        }
    }
}

/// A version that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chosen {
    version_id: String,
    len: u64,
}

/// The object by whose bytes it is decided which rule holds; `None` where they are none that say it.
type Decide = Box<dyn Fn(&[u8]) -> Option<VersionRule> + Send + Sync>;

struct Decider {
    key: ObjectKey,
    len_max: u64,
    first_rule: VersionRule,
    decide: Decide,
}

/// A wrapper of a store on object storage; see the module.
pub struct VersionedStore<S> {
    inner: S,
    rule: OnceLock<VersionRule>,
    decider: Option<Decider>,
    /// The bytes of the deciding object, which need not be read twice.
    deciding: OnceLock<Vec<u8>>,
    /// Held while that object is read, so that threads that ask at once read it once.
    decision: Mutex<()>,
    /// What was found; under [`VersionRule::NewestElseOldest`] only names that are not read the plain way any more.
    known: Mutex<HashMap<String, Chosen>>,
}

impl<S: ObjectStore> VersionedStore<S> {
    /// Wraps `inner` under a rule that is known.
    pub fn new(inner: S, rule: VersionRule) -> Self {
        Self {
            inner,
            rule: rule.into(),
            decider: None,
            deciding: OnceLock::new(),
            decision: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Wraps `inner` under the rule that an object of it tells: once anything is asked, `key`, of at most `len_max` bytes, is
    /// read by `first_rule`, and if its bytes say nothing to `decide`, its oldest version is. As long as neither is there,
    /// `first_rule` holds.
    pub fn by_object(
        inner: S,
        (key, len_max): (ObjectKey, u64),
        first_rule: VersionRule,
        decide: impl Fn(&[u8]) -> Option<VersionRule> + Send + Sync + 'static,
    ) -> Self {
        let decider = Decider { key, len_max, first_rule, decide: Box::new(decide) };
        Self {
            inner,
            rule: OnceLock::new(),
            decider: Some(decider),
            deciding: OnceLock::new(),
            decision: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// From now on this rule holds, unless one does already: for who is about to make the deciding object.
    pub fn settle(&self, rule: VersionRule) {
        let _ = self.rule.set(rule);
    }

    /// The wrapped store.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Which version counts.
    ///
    /// # Errors
    /// When the object that tells it cannot be read.
    pub fn rule(&self) -> Result<VersionRule, StoreError> {
        if let Some(rule) = self.rule.get() {
            return Ok(*rule);
        }
        let Some(decider) = &self.decider else { return Ok(VersionRule::NewestElseOldest) };
        let _deciding = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have decided meanwhile.
        if let Some(rule) = self.rule.get() {
            return Ok(*rule);
        }
        let mut bytes = Vec::new();
        for rule in [decider.first_rule, VersionRule::Oldest] {
            match self.read_by(rule, &decider.key, decider.len_max, &mut bytes) {
                Ok(()) => {}
                // What was never there has no older version.
                Err(StoreError::NotFound { .. }) => return Ok(decider.first_rule),
                Err(
                    StoreError::Hidden { .. }
                    | StoreError::TooLong { .. }
                    | StoreError::LengthChanged { .. }
                    | StoreError::Unsupported { .. },
                ) => continue,
                Err(error) => return Err(error),
            }
            if let Some(decided) = (decider.decide)(&bytes) {
                let _ = self.deciding.set(bytes);
                return Ok(*self.rule.get_or_init(|| decided));
            }
        }
        Ok(decider.first_rule)
    }

    fn read_by(
        &self,
        rule: VersionRule,
        key: &ObjectKey,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        if rule.follows_newest() {
            match self.inner.read(key, len_max, out) {
                Err(StoreError::Hidden { .. }) => {}
                result => return result,
            }
        }
        let versions = self.versions_of(key)?;
        let chosen = rule.choose(&versions).map(chosen_of);
        let chosen = chosen.ok_or_else(|| self.absent(key))?;
        self.cloud_inside()?.read_version(key, &chosen.version_id, len_max, out)
    }

    fn absent(&self, key: &ObjectKey) -> StoreError {
        StoreError::NotFound { name: key.to_string(), store: self.inner.url() }
    }

    fn cloud_inside(&self) -> Result<&dyn CloudStore, StoreError> {
        let (store, what) = (self.inner.url(), "versions of objects");
        self.inner.cloud().ok_or(StoreError::Unsupported { store, what })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Chosen>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, name: &str, chosen: &Chosen) {
        let mut known = self.known();
        if known.len() >= KNOWN_COUNT_MAX {
            known.clear();
        }
        known.insert(name.to_owned(), chosen.clone());
    }

    /// All versions of one name, the newest first.
    fn versions_of(&self, key: &ObjectKey) -> Result<Vec<VersionItem>, StoreError> {
        let mut versions = Vec::new();
        self.cloud_inside()?.versions(key.as_str(), &mut |version| {
            if version.name == key.as_str() {
                versions.push(version);
            }
            ControlFlow::Continue(())
        })?;
        Ok(versions)
    }

    /// The version that counts, if there is one.
    fn find(&self, key: &ObjectKey) -> Result<Option<Chosen>, StoreError> {
        if let Some(chosen) = self.known().get(key.as_str()) {
            return Ok(Some(chosen.clone()));
        }
        let versions = self.versions_of(key)?;
        let chosen = self.rule()?.choose(&versions).map(chosen_of);
        if let Some(chosen) = &chosen {
            self.remember(key.as_str(), chosen);
        }
        Ok(chosen)
    }

    fn found(&self, key: &ObjectKey) -> Result<Chosen, StoreError> {
        self.find(key)?.ok_or_else(|| self.absent(key))
    }

    /// Whether a name is read by its version from the start.
    fn goes_by_version(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        Ok(!self.rule()?.follows_newest() || self.known().contains_key(key.as_str()))
    }

    /// Reads by `plain`, or, where that does not count or is hidden, by `versioned`.
    fn either<T>(
        &self,
        key: &ObjectKey,
        mut plain: impl FnMut() -> Result<T, StoreError>,
        mut versioned: impl FnMut(&dyn CloudStore, &Chosen) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if !self.goes_by_version(key)? {
            match plain() {
                Err(StoreError::Hidden { .. }) => {}
                // What was laid over an object has another length than the reader knows of.
                Err(StoreError::TooLong { .. } | StoreError::Truncated { .. }) if self.distrust(key) => {}
                result => return result,
            }
        }
        let chosen = self.found(key)?;
        versioned(self.cloud_inside()?, &chosen)
    }

    /// The version that a question about an object is about.
    fn version_for(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<Option<String>, StoreError> {
        match version_id {
            Some(version_id) => Ok(Some(version_id.to_owned())),
            None if self.goes_by_version(key)? => Ok(Some(self.found(key)?.version_id)),
            None => Ok(None),
        }
    }

    /// The rule, if it lets anything be written.
    fn rule_to_write(&self, key: &ObjectKey) -> Result<VersionRule, StoreError> {
        let rule = self.rule()?;
        if !rule.is_read_only() {
            return Ok(rule);
        }
        let source = "the store is shown as it was at an earlier time, for reading only".into();
        Err(StoreError::Denied { name: key.to_string(), store: self.inner.url(), source })
    }

    /// Writes, and finds out by the versions whose bytes count. That a write was made twice, as after a lost reply, is
    /// settled by the bytes.
    fn create_oldest(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: Option<&Retention>,
    ) -> Result<PutOutcome, StoreError> {
        if self.find(key)?.is_some() {
            return Ok(PutOutcome::AlreadyExists);
        }
        let cloud = self.cloud_inside()?;
        let written = cloud.put_unconditional(key, body, retention)?;
        let Some(written) = written.filter(|id| id != NULL_VERSION) else {
            let what = "versions of objects any more, by which this vault's writers tell who was first";
            return Err(StoreError::Unsupported { store: self.inner.url(), what });
        };
        let versions = self.versions_of(key)?;
        let Some(oldest) = VersionRule::Oldest.choose(&versions).map(chosen_of) else {
            return Err(StoreError::Unavailable {
                name: key.to_string(),
                store: self.inner.url(),
                source: "its versions do not show what was just written".into(),
            });
        };
        self.remember(key.as_str(), &oldest);
        if oldest.version_id == written {
            return Ok(PutOutcome::Created);
        }
        let mut there = Vec::new();
        match cloud.read_version(key, &oldest.version_id, body.len() as u64, &mut there) {
            Ok(()) if there == body => Ok(PutOutcome::Created),
            Ok(()) | Err(StoreError::TooLong { .. }) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(error),
        }
    }
}

impl<S: ObjectStore> VersionedStore<S> {
    /// Writes if nothing is there; the only writer knows that it stays so in between.
    fn create_alone(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: Option<&Retention>,
    ) -> Result<PutOutcome, StoreError> {
        match self.stat(key) {
            Ok(_) => return Ok(PutOutcome::AlreadyExists),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.cloud_inside()?.put_unconditional(key, body, retention)?;
        Ok(PutOutcome::Created)
    }
}

impl<S: fmt::Debug> fmt::Debug for VersionedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedStore")
            .field("inner", &self.inner)
            .field("rule", &self.rule.get())
            .finish_non_exhaustive()
    }
}

/// The version of what was written while versions were off.
const NULL_VERSION: &str = "null";

fn chosen_of(version: &VersionItem) -> Chosen {
    Chosen { version_id: version.version_id.clone(), len: version.len }
}

impl<S: ObjectStore> ObjectStore for VersionedStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => self.inner.put_if_absent(key, body),
            VersionRule::OneWriter => self.create_alone(key, body, None),
            _ => self.create_oldest(key, body, None),
        }
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.rule()?;
        let decider = self.decider.as_ref().filter(|decider| decider.key == *key);
        // Once it was found wrong, another version of it is read.
        let kept = decider.filter(|_| !self.known().contains_key(key.as_str()));
        let kept = kept.and_then(|_| self.deciding.get());
        if let Some(kept) = kept.filter(|kept| kept.len() as u64 <= len_max) {
            out.clone_from(kept);
            return Ok(());
        }
        let cell = std::cell::RefCell::new(out);
        self.either(
            key,
            || self.inner.read(key, len_max, &mut cell.borrow_mut()),
            |cloud, chosen| cloud.read_version(key, &chosen.version_id, len_max, &mut cell.borrow_mut()),
        )
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let cell = std::cell::RefCell::new(out);
        self.either(
            key,
            || self.inner.read_range(key, offset, &mut cell.borrow_mut()),
            |cloud, chosen| cloud.read_version_range(key, &chosen.version_id, offset, &mut cell.borrow_mut()),
        )
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.either(key, || self.inner.stat(key), |_, chosen| Ok(ObjectStat { len: chosen.len }))
    }

    /// Where a version counts, every name is shown whose version counts, hidden or not.
    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let rule = self.rule()?;
        if rule.follows_newest() {
            return self.inner.list(prefix, start_after, visit);
        }
        // The versions of a name come one behind the other, names in any order. One that came before is known by a hash.
        let hasher = RandomState::new();
        let mut shown = HashSet::new();
        let mut group: Vec<VersionItem> = Vec::new();
        let mut flow = ControlFlow::Continue(());
        let mut show = |group: &mut Vec<VersionItem>| {
            let chosen = rule.choose(group).cloned();
            group.clear();
            let Some(version) = chosen else { return ControlFlow::Continue(()) };
            let is_behind = start_after.is_none_or(|after| version.name.as_str() > after);
            if !shown.insert(hasher.hash_one(&version.name)) {
                // Its versions do not come together: which counts has to be asked for it alone.
                self.known().remove(&version.name);
                return ControlFlow::Continue(());
            }
            if !is_behind {
                return ControlFlow::Continue(());
            }
            self.remember(&version.name, &chosen_of(&version));
            let is_key = ObjectKey::new(version.name.as_str()).is_ok();
            let kind = if is_key { ItemKind::Object } else { ItemKind::Foreign };
            visit(ListItem { name: version.name, len: version.len, kind })
        };
        self.cloud_inside()?.versions(prefix, &mut |version| {
            if group.last().is_some_and(|last| last.name != version.name) {
                flow = show(&mut group);
            }
            group.push(version);
            flow
        })?;
        if flow.is_continue() {
            let _ = show(&mut group);
        }
        Ok(())
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let rule = self.rule_to_write(key)?;
        self.known().remove(key.as_str());
        if rule.follows_newest() {
            return self.inner.delete(key);
        }
        let cloud = self.cloud_inside()?;
        // The oldest goes last: until then the object is there as it was.
        self.versions_of(key)?.iter().try_for_each(|version| cloud.delete_version(key, &version.version_id))
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    /// Turns from the newest version of a name to the oldest, if that is another one.
    fn distrust(&self, key: &ObjectKey) -> bool {
        if self.inner.distrust(key) {
            return true;
        }
        if !self.rule().is_ok_and(VersionRule::follows_newest) || self.inner.cloud().is_none() {
            return false;
        }
        // Another thread may have met the same before, and this one have read before that.
        if self.known().contains_key(key.as_str()) {
            return true;
        }
        let Ok(versions) = self.versions_of(key) else { return false };
        let oldest = VersionRule::Oldest.choose(&versions).filter(|oldest| !oldest.is_latest).map(chosen_of);
        if let Some(oldest) = &oldest {
            self.remember(key.as_str(), oldest);
        }
        oldest.is_some()
    }

    fn parallelism_hint(&self) -> usize {
        self.inner.parallelism_hint()
    }

    fn moved_bytes(&self) -> u64 {
        self.inner.moved_bytes()
    }

    fn version_rules(&self) -> Vec<(String, VersionRule)> {
        self.rule.get().map(|rule| (self.inner.url(), *rule)).into_iter().collect()
    }

    fn cloud(&self) -> Option<&dyn CloudStore> {
        self.inner.cloud().is_some().then_some(self)
    }
}

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
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => {
                self.cloud_inside()?.put_if_absent_retained(key, body, retention)
            }
            VersionRule::OneWriter => self.create_alone(key, body, Some(retention)),
            _ => self.create_oldest(key, body, Some(retention)),
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

    fn put_if_absent_in_parts(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => self.cloud_inside()?.put_if_absent_in_parts(key, body),
            VersionRule::OneWriter => self.create_alone(key, body, None),
            _ => self.create_oldest(key, body, None),
        }
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
        self.known().remove(key.as_str());
        self.cloud_inside()?.delete_version(key, version_id)
    }
}
