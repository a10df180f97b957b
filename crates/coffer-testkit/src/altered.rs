//! A store of which a test changes single calls.

use std::fmt;
use std::ops::ControlFlow;

use coffer_store::{
    AskedWaits, CloudStore, ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError, VersionRule,
};

type Put<'a, S> = Box<dyn Fn(&S, &ObjectKey, &[u8]) -> Result<PutOutcome, StoreError> + Send + Sync + 'a>;
type ReadRange<'a, S> =
    Box<dyn Fn(&S, &ObjectKey, u64, &mut [u8]) -> Result<(), StoreError> + Send + Sync + 'a>;
type List<'a, S> =
    Box<dyn Fn(&S, &str, Option<&str>, Visit<'_>) -> Result<(), StoreError> + Send + Sync + 'a>;
type Delete<'a, S> = Box<dyn Fn(&S, &ObjectKey) -> Result<(), StoreError> + Send + Sync + 'a>;

/// The visitor of a listing.
pub type Visit<'v> = &'v mut dyn FnMut(ListItem) -> ControlFlow<()>;

/// A wrapper that forwards every call to `S`, but for those that a test puts a closure in the place of. Such a closure is
/// given the wrapped store and the arguments of the call, and calls the store itself where it wants to.
///
/// ```
/// use coffer_store::{MemoryStore, ObjectKey, ObjectStore, PutOutcome};
/// use coffer_testkit::AlteredStore;
///
/// // Says of every object that it was there before.
/// let store = AlteredStore::new(MemoryStore::new()).on_put(|store, key, body| {
///     store.put_if_absent(key, body)?;
///     Ok(PutOutcome::AlreadyExists)
/// });
/// let key = ObjectKey::new("vault")?;
/// assert_eq!(store.put_if_absent(&key, b"header")?, PutOutcome::AlreadyExists);
/// assert_eq!(store.stat(&key)?.len, 6);
/// # Ok::<(), coffer_store::StoreError>(())
/// ```
pub struct AlteredStore<'a, S> {
    inner: S,
    put: Option<Put<'a, S>>,
    read_range: Option<ReadRange<'a, S>>,
    list: Option<List<'a, S>>,
    delete: Option<Delete<'a, S>>,
    parallelism: Option<usize>,
}

impl<'a, S: ObjectStore> AlteredStore<'a, S> {
    /// Wraps `inner`; nothing is altered yet.
    pub fn new(inner: S) -> Self {
        Self { inner, put: None, read_range: None, list: None, delete: None, parallelism: None }
    }

    /// The wrapped store, of which nothing is altered.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Puts `call` in the place of `put_if_absent`.
    #[must_use]
    pub fn on_put(
        mut self,
        call: impl Fn(&S, &ObjectKey, &[u8]) -> Result<PutOutcome, StoreError> + Send + Sync + 'a,
    ) -> Self {
        self.put = Some(Box::new(call));
        self
    }

    /// Puts `call` in the place of `read_range`.
    #[must_use]
    pub fn on_read_range(
        mut self,
        call: impl Fn(&S, &ObjectKey, u64, &mut [u8]) -> Result<(), StoreError> + Send + Sync + 'a,
    ) -> Self {
        self.read_range = Some(Box::new(call));
        self
    }

    /// Puts `call` in the place of `list`.
    #[must_use]
    pub fn on_list(
        mut self,
        call: impl Fn(&S, &str, Option<&str>, Visit<'_>) -> Result<(), StoreError> + Send + Sync + 'a,
    ) -> Self {
        self.list = Some(Box::new(call));
        self
    }

    /// Puts `call` in the place of `delete`.
    #[must_use]
    pub fn on_delete(
        mut self,
        call: impl Fn(&S, &ObjectKey) -> Result<(), StoreError> + Send + Sync + 'a,
    ) -> Self {
        self.delete = Some(Box::new(call));
        self
    }

    /// Says that so many requests are worth having under way at once, as a store far away does.
    #[must_use]
    pub fn with_parallelism(mut self, parallelism: usize) -> Self {
        self.parallelism = Some(parallelism);
        self
    }
}

impl<S: fmt::Debug> fmt::Debug for AlteredStore<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlteredStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S: ObjectStore> ObjectStore for AlteredStore<'_, S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        match &self.put {
            Some(call) => call(&self.inner, key, body),
            None => self.inner.put_if_absent(key, body),
        }
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.inner.read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        match &self.read_range {
            Some(call) => call(&self.inner, key, offset, out),
            None => self.inner.read_range(key, offset, out),
        }
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.inner.stat(key)
    }

    fn list(&self, prefix: &str, start_after: Option<&str>, visit: Visit<'_>) -> Result<(), StoreError> {
        match &self.list {
            Some(call) => call(&self.inner, prefix, start_after, visit),
            None => self.inner.list(prefix, start_after, visit),
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match &self.delete {
            Some(call) => call(&self.inner, key),
            None => self.inner.delete(key),
        }
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn distrust(&self, key: &ObjectKey) -> bool {
        self.inner.distrust(key)
    }

    fn parallelism_hint(&self) -> usize {
        self.parallelism.unwrap_or_else(|| self.inner.parallelism_hint())
    }

    fn moved_bytes(&self) -> u64 {
        self.inner.moved_bytes()
    }

    fn asked_waits(&self) -> AskedWaits {
        self.inner.asked_waits()
    }

    fn version_rules(&self) -> Vec<(String, VersionRule)> {
        self.inner.version_rules()
    }

    fn settle_rule(&self, rule: VersionRule) -> bool {
        self.inner.settle_rule(rule)
    }

    fn overwritten(&self) -> Vec<String> {
        self.inner.overwritten()
    }

    fn cloud(&self) -> Option<&dyn CloudStore> {
        self.inner.cloud()
    }
}

#[cfg(test)]
mod tests {
    use coffer_store::MemoryStore;

    use super::*;
    use crate::RecordingStore;

    /// Makes each call once, and gives what it answered, in short.
    fn answers(store: &dyn ObjectStore) -> [String; 6] {
        let key = ObjectKey::new("a").expect("a valid key");
        let (mut whole, mut range, mut names) = (Vec::new(), [0; 1], Vec::new());
        let put = store.put_if_absent(&key, b"12").map(|outcome| format!("{outcome:?}"));
        let read = store.read(&key, 9, &mut whole).map(|()| format!("{whole:?}"));
        let read_range = store.read_range(&key, 1, &mut range).map(|()| format!("{range:?}"));
        let stat = store.stat(&key).map(|stat| stat.len.to_string());
        let list = store.list("", None, &mut |item| {
            names.push(item.name);
            ControlFlow::Continue(())
        });
        let list = list.map(|()| format!("{names:?}"));
        let delete = store.delete(&key).map(|()| "gone".to_owned());
        [put, read, read_range, stat, list, delete]
            .map(|answer| answer.unwrap_or_else(|_| "fails".to_owned()))
    }

    fn fails<T>() -> Result<T, StoreError> {
        Err(StoreError::NotFound { name: "a".to_owned(), store: "a test".to_owned() })
    }

    const UNALTERED: [&str; 6] = ["Created", "[49, 50]", "[50]", "2", "[\"a\"]", "gone"];

    #[test]
    fn what_is_not_altered_reaches_the_store() {
        let store = AlteredStore::new(RecordingStore::new(MemoryStore::new()));
        assert_eq!(answers(&store), UNALTERED);
        assert_eq!(store.inner().snapshot().call_count(), 6);
        assert_eq!((store.url(), store.parallelism_hint()), (MemoryStore::new().url(), 1));
        assert_eq!(store.with_parallelism(9).parallelism_hint(), 9);
    }

    #[test]
    fn what_is_altered_does_not_unless_the_closure_says_so() {
        type Altered = AlteredStore<'static, RecordingStore<MemoryStore>>;
        type Alter = fn(Altered) -> Altered;
        let altered: [(usize, Alter); 4] = [
            (0, |store| store.on_put(|_, _, _| fails())),
            (2, |store| store.on_read_range(|_, _, _, _| fails())),
            (4, |store| store.on_list(|_, _, _, _| fails())),
            (5, |store| store.on_delete(|_, _| fails())),
        ];
        for (call, alter) in altered {
            let store = alter(AlteredStore::new(RecordingStore::new(MemoryStore::new())));
            // The object is there whatever becomes of its creation.
            store.inner().inner().insert_raw("a", b"12".as_slice());
            let mut expected = UNALTERED;
            expected[0] = "AlreadyExists";
            expected[call] = "fails";
            assert_eq!(answers(&store), expected);
            assert_eq!(store.inner().snapshot().call_count(), 5);
        }
    }
}
