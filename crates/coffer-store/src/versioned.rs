//! A store of whose objects one version counts, whatever was written over it or laid on top of it.
//!
//! On a bucket that keeps versions nothing that was written is lost by an overwrite or a deletion. [`VersionedStore`]
//! makes use of that in three ways, by its [`VersionRule`]: it makes creation exclusive where the store's own condition
//! cannot be trusted, it finds what was hidden or overwritten, and it shows a bucket as it was.
//!
//! Names may be told apart whose first version counts under every rule ([`VersionedStore::reading_first`]): there, what is laid over
//! an object is not read even where it looks as good as what was there first.
//!
//! Nothing here rests on a clock but [`VersionRule::AsOf`]: which version is older is told by the order in which the store
//! lists them. A store that does not keep to that order is found by [`probe`](crate::probe).

mod cloud;
mod list;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::{
    AskedWaits, CloudStore, ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError, VersionItem,
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

    /// The rule of a store that is shown as `first` has it, if that is how it was.
    const fn shown_by(self, first: Self) -> Self {
        match (self, first) {
            (Self::Oldest | Self::OldestAsOf(_), Self::AsOf(at_ms) | Self::OldestAsOf(at_ms)) => {
                Self::OldestAsOf(at_ms)
            }
            (_, Self::AsOf(at_ms) | Self::OldestAsOf(at_ms)) => Self::AsOf(at_ms),
            (rule, _) => rule,
        }
    }

    /// The rule for names whose first version counts in any case.
    const fn of_first(self) -> Self {
        match self {
            Self::AsOf(at_ms) => Self::OldestAsOf(at_ms),
            rule => rule,
        }
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
    /// What the names start with of which the first version counts under every rule.
    first_prefix: Option<String>,
    /// Those of them whose first version is not what the store shows, as far as listings told. None is ever forgotten: it would be
    /// read as somebody else has it.
    firsts: Mutex<BTreeMap<String, First>>,
    /// Whether the store refuses to list versions.
    is_refused: AtomicBool,
}

/// The first version of a name, and how many it has beside delete markers.
#[derive(Debug, Clone)]
struct First {
    chosen: Chosen,
    count: usize,
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
            first_prefix: None,
            firsts: Mutex::default(),
            is_refused: AtomicBool::new(false),
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
            first_prefix: None,
            firsts: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// Of names that start with `prefix` the first version counts under every rule, where the bucket keeps versions: a listing of
    /// them is one of versions then, which shows what was laid over them. Where it is refused, the rule alone holds.
    #[must_use]
    pub fn reading_first(mut self, prefix: &str) -> Self {
        self.first_prefix = Some(prefix.to_owned());
        self
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

    fn firsts(&self) -> MutexGuard<'_, BTreeMap<String, First>> {
        self.firsts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps in mind the first of these versions of a name, if the store shows another one or none.
    fn remember_first(&self, name: &str, versions: &[VersionItem]) {
        let Some(first) = VersionRule::Oldest.choose(versions) else { return };
        if first.is_latest {
            self.firsts().remove(name);
            return;
        }
        let count = versions.iter().filter(|version| !version.is_delete_marker).count();
        self.firsts().insert(name.to_owned(), First { chosen: chosen_of(first), count });
    }

    fn forget(&self, key: &ObjectKey) {
        self.firsts().remove(key.as_str());
        self.known().remove(key.as_str());
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
        if let Some(first) = self.firsts().get(key.as_str()) {
            return Ok(Some(first.chosen.clone()));
        }
        if let Some(chosen) = self.known().get(key.as_str()) {
            return Ok(Some(chosen.clone()));
        }
        let versions = self.versions_of(key)?;
        let chosen = self.rule_for(key.as_str())?.choose(&versions).map(chosen_of);
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
        Ok(!self.rule()?.follows_newest() || self.is_known(key))
    }

    /// Whether a version of this name is read, whatever the store shows under it.
    fn is_known(&self, key: &ObjectKey) -> bool {
        self.firsts().contains_key(key.as_str()) || self.known().contains_key(key.as_str())
    }

    fn rule_for(&self, name: &str) -> Result<VersionRule, StoreError> {
        let rule = self.rule()?;
        Ok(if self.is_first(name) { rule.of_first() } else { rule })
    }

    /// Whether the first version of this name counts, whatever the rule says.
    fn is_first(&self, name: &str) -> bool {
        self.first_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix))
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
        write: &Write<'_>,
    ) -> Result<PutOutcome, StoreError> {
        if let Some(there) = self.find(key)?
            && !self.is_unfixed(key, &there, body)?
        {
            return Ok(PutOutcome::AlreadyExists);
        }
        let cloud = self.cloud_inside()?;
        let written = write(cloud)?;
        let Some(written) = written.filter(|id| id != NULL_VERSION) else {
            return Err(StoreError::VersionsOff { name: key.to_string(), store: self.inner.url() });
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
        let is_same = self.holds(key, &oldest, body)?;
        Ok(if is_same { PutOutcome::Created } else { PutOutcome::AlreadyExists })
    }

    /// Whether these very bytes are there and nothing else, written while versions were off: who finds the name free at the same time
    /// replaces them. They stay once a version is above them.
    fn is_unfixed(&self, key: &ObjectKey, there: &Chosen, body: &[u8]) -> Result<bool, StoreError> {
        Ok(there.version_id == NULL_VERSION
            && self.versions_of(key)?.len() == 1
            && self.holds(key, there, body)?)
    }

    fn holds(&self, key: &ObjectKey, version: &Chosen, body: &[u8]) -> Result<bool, StoreError> {
        let mut there = Vec::new();
        match self.cloud_inside()?.read_version(key, &version.version_id, body.len() as u64, &mut there) {
            Ok(()) => Ok(there == body),
            Err(StoreError::TooLong { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<S: ObjectStore> VersionedStore<S> {
    /// Writes if nothing is there; the only writer knows that it stays so in between.
    fn create_alone(&self, key: &ObjectKey, write: &Write<'_>) -> Result<PutOutcome, StoreError> {
        match self.stat(key) {
            Ok(_) => return Ok(PutOutcome::AlreadyExists),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        write(self.cloud_inside()?)?;
        Ok(PutOutcome::Created)
    }
}

/// Writes the object, and tells its version.
type Write<'w> = dyn Fn(&dyn CloudStore) -> Result<Option<String>, StoreError> + 'w;

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
        let write = |cloud: &dyn CloudStore| cloud.put_unconditional(key, body, None);
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => self.inner.put_if_absent(key, body),
            VersionRule::OneWriter => self.create_alone(key, &write),
            _ => self.create_oldest(key, body, &write),
        }
    }

    fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
        let write = |cloud: &dyn CloudStore| cloud.put_shared_unconditional(key, body, None);
        match self.rule_to_write(key)? {
            VersionRule::NewestElseOldest => self.inner.put_shared_if_absent(key, body),
            VersionRule::OneWriter => self.create_alone(key, &write),
            _ => self.create_oldest(key, body, &write),
        }
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.rule()?;
        let decider = self.decider.as_ref().filter(|decider| decider.key == *key);
        // Once it was found wrong, another version of it is read.
        let kept = decider.filter(|_| !self.is_known(key));
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
        if self.rule()?.follows_newest() {
            self.list_newest(prefix, start_after, visit)
        } else {
            self.list_versions(prefix, start_after, visit)
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let rule = self.rule_to_write(key)?;
        self.forget(key);
        // What is only hidden still counts where the first version does.
        let keeps_versions = || self.inner.cloud().and_then(CloudStore::keeps_versions) == Some(true);
        if rule.follows_newest() && !(self.is_first(key.as_str()) && keeps_versions()) {
            return self.inner.delete(key);
        }
        let cloud = self.cloud_inside()?;
        // The oldest goes last: until then the object is there as it was.
        self.versions_of(key)?.iter().try_for_each(|version| cloud.delete_version(key, &version.version_id))
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn place(&self) -> String {
        self.inner.place()
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
        if self.is_known(key) {
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

    fn asked_waits(&self) -> AskedWaits {
        self.inner.asked_waits()
    }

    fn version_rules(&self) -> Vec<(String, VersionRule)> {
        self.rule.get().map(|rule| (self.inner.url(), *rule)).into_iter().collect()
    }

    fn settle_rule(&self, rule: VersionRule) -> bool {
        let rule = self.decider.as_ref().map_or(rule, |decider| rule.shown_by(decider.first_rule));
        let is_oldest = matches!(rule, VersionRule::Oldest | VersionRule::OldestAsOf(_));
        self.rule.set(rule).is_ok() && is_oldest
    }

    fn overwritten(&self) -> Vec<String> {
        let firsts = self.firsts();
        let overwritten = firsts.iter().filter(|(_, first)| first.count > 1);
        overwritten.map(|(name, _)| name.clone()).collect()
    }

    fn cloud(&self) -> Option<&dyn CloudStore> {
        self.inner.cloud().is_some().then_some(self)
    }
}
