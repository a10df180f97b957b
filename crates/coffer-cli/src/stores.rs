//! The stores of a vault as the command line names them: opened or made, with everything that is put between.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use coffer_collect::Identity;
use coffer_crypto::{OsRng, rng};
use coffer_engine::{ReplicaOptions, Replicas, Standing, UnreachableStore};
use coffer_format::id::VaultId;
use coffer_format::object::{ObjectName, PROBE_PREFIX};
use coffer_store::{
    CountingStore, LocalStore, Location, ObjectKey, ObjectStore, RequestCounter, RequestCounts, RetryPolicy,
    RetryStore, S3Location, StoreError,
};

use crate::bucket::Bucket;
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::storage::Storage;

const EMPTY: &str = "the directory is empty";
const NO_VAULT_HINT: &str = "check --vault, or make a vault there with `coffer init`";

/// Tells which vault is known to be at the place of a store.
type Expected<'e> = &'e dyn Fn(&str) -> Option<VaultId>;

/// One store of a vault.
pub(crate) struct Part {
    store: Arc<dyn ObjectStore>,
    counter: Option<RequestCounter>,
    /// What is in between, if it is a bucket.
    bucket: Option<Bucket>,
    /// The store itself and its directory, if it is one.
    local: Option<Arc<LocalStore>>,
    directory: Option<PathBuf>,
    /// The directories that were made for it, the innermost first; none where something lay there before.
    made: Option<Vec<PathBuf>>,
}

impl Part {
    /// Opens a store; one that is named behind others may be empty still.
    pub(crate) fn open(
        location: &Location,
        may_be_empty: bool,
        storage: &Storage,
        expected: Expected<'_>,
    ) -> Result<Self> {
        match location {
            Location::Local(path) => {
                if let Some(reason) = why_no_vault(path).filter(|reason| !may_be_empty || *reason != EMPTY) {
                    let message = format!("there is no vault at {}: {reason}", path.display());
                    return Err(Failure::new(Exit::NoVault, message).hint(NO_VAULT_HINT).into());
                }
                Self::local(LocalStore::open(path)?, path.clone())
            }
            Location::S3(location) => Self::bucket(location, storage, expected),
            _ => Err(Failure::usage("this kind of location is not supported").into()),
        }
    }

    /// Opens a store, or makes it where there is nothing.
    pub(crate) fn create(location: &Location, storage: &Storage) -> Result<Self> {
        match location {
            Location::Local(path) => {
                let refuse = |what: &str| {
                    Failure::new(Exit::WrongStore, format!("{} {what}", path.display()))
                        .hint("choose an empty or a new directory")
                };
                if path.exists() && !path.is_dir() {
                    return Err(refuse("is not a directory").into());
                }
                // A directory that holds something else is not filled by mistake.
                let is_there = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
                if is_there
                    && (!holds_part_of_a_vault(path)
                        || holds_something_else(&LocalStore::open(path)?)?.is_some())
                {
                    return Err(refuse("is not empty and holds no vault").into());
                }
                let whole = std::path::absolute(path)?;
                let missing = whole.ancestors().take_while(|directory| !directory.exists());
                let made = (!is_there).then(|| missing.map(Path::to_path_buf).collect());
                Ok(Self { made, ..Self::local(LocalStore::create(path)?, path.clone())? })
            }
            Location::S3(location) => {
                let part = Self::bucket(location, storage, &|_| None)?;
                if let Some(name) = holds_something_else(&*part.store)? {
                    let message = format!("{} holds something else and no vault: {name}", location.url());
                    return Err(Failure::new(Exit::WrongStore, message)
                        .hint("choose a prefix of its own in the bucket: s3://BUCKET/PREFIX")
                        .into());
                }
                Ok(part)
            }
            _ => Err(Failure::usage("this kind of location is not supported").into()),
        }
    }

    fn local(store: LocalStore, directory: PathBuf) -> Result<Self> {
        let local = Arc::new(store);
        let counted = CountingStore::new(local.clone());
        let counter = Some(counted.counter());
        let seed = u64::from_le_bytes(rng::array(&OsRng)?);
        let store = Arc::new(RetryStore::new(counted, RetryPolicy::default(), seed));
        Ok(Self { store, counter, bucket: None, local: Some(local), directory: Some(directory), made: None })
    }

    fn bucket(location: &S3Location, storage: &Storage, expected: Expected<'_>) -> Result<Self> {
        let counter = RequestCounter::default();
        let store = storage.open(location, counter.clone())?;
        let known = expected(&store.place());
        let bucket = Bucket::new(store, counter, storage.as_of_ms, known)?;
        let counter = Some(bucket.counter().clone());
        let store = bucket.store();
        Ok(Self { store, counter, bucket: Some(bucket), local: None, directory: None, made: None })
    }

    /// Stands for a store that cannot be opened.
    pub(crate) fn unreachable(location: &Location, error: &anyhow::Error) -> Self {
        let directory = match location {
            Location::Local(path) => Some(path.clone()),
            _ => None,
        };
        let store = Arc::new(UnreachableStore::new(location.url(), format!("{error:#}")));
        Self { store, counter: None, bucket: None, local: None, directory, made: None }
    }
}

/// The stores of a vault, and what the command line knows of them beside.
pub(crate) struct Store {
    pub(crate) replicas: Arc<Replicas>,
    parts: Vec<Part>,
}

impl Store {
    pub(crate) fn new(parts: Vec<Part>, options: ReplicaOptions) -> Result<Self> {
        let stores = parts.iter().map(|part| Arc::clone(&part.store)).collect();
        Ok(Self { replicas: Arc::new(Replicas::open(stores, options)?), parts })
    }

    /// Counters of what each store is asked.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &RequestCounter> {
        self.parts.iter().filter_map(|part| part.counter.as_ref())
    }

    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        &*self.replicas
    }

    /// The directories that can be opened.
    pub(crate) fn locals(&self) -> impl Iterator<Item = &LocalStore> {
        self.parts.iter().filter_map(|part| part.local.as_deref())
    }

    /// Where the stores are.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter_map(|part| part.directory.as_deref())
    }

    /// The store at a position, if it is a bucket.
    pub(crate) fn bucket_at(&self, at: usize) -> Option<&Bucket> {
        self.parts.get(at)?.bucket.as_ref()
    }

    /// Those that are buckets.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.parts.iter().filter_map(|part| part.bucket.as_ref())
    }

    /// Those that are buckets and answer.
    pub(crate) fn reached_buckets(&self) -> impl Iterator<Item = &Bucket> {
        let reached = self.parts.iter().enumerate().filter(|(at, _)| !self.replicas.is_unreachable(*at));
        reached.filter_map(|(_, part)| part.bucket.as_ref())
    }

    /// Buckets that were named and are not reached, and why.
    pub(crate) fn unreached_buckets(&self) -> Vec<(String, String)> {
        let is_bucket =
            |url: &String| self.parts.iter().any(|part| part.directory.is_none() && part.store.url() == *url);
        let unreached = self.replicas.apart().into_iter().filter_map(|(url, standing)| match standing {
            Standing::Unreachable { reason } => Some((url, reason)),
            _ => None,
        });
        unreached.filter(|(url, _)| is_bucket(url)).collect()
    }

    /// Each store as it is, for a probe.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &dyn ObjectStore> {
        self.parts.iter().map(|part| part.bucket.as_ref().map_or(&*part.store, |bucket| bucket.plain()))
    }

    /// What the stores were asked so far, every attempt counted.
    pub(crate) fn requests(&self) -> RequestCounts {
        let mut sum = RequestCounts::default();
        self.counters().for_each(|counter| sum.add(&counter.counts()));
        sum
    }

    /// The same of the first store that can be opened, for who shows progress meanwhile.
    pub(crate) fn counter(&self) -> RequestCounter {
        self.counters().next().cloned().unwrap_or_default()
    }

    /// Takes away what was made for a vault that does not come about. A directory that holds a slot or more is left to the `init` that completes it.
    pub(crate) fn unmake(&self) {
        for (at, part) in self.parts.iter().enumerate() {
            let (Some(directory), Some(made)) = (&part.directory, &part.made) else { continue };
            let is_begun = |name: &str| directory.join(name).exists();
            if is_begun("vault") || is_begun("log") || is_begun("slots") {
                continue;
            }
            // Those behind the first get their id before there is a vault.
            if at > 0 {
                drop(std::fs::remove_file(directory.join("store")));
            }
            let probe = directory.join("probe");
            let runs = std::fs::read_dir(&probe).into_iter().flatten().flatten().map(|run| run.path());
            let empty = runs.chain([probe.clone(), directory.join("tmp")]).chain(made.iter().cloned());
            // Only what is empty goes.
            empty.for_each(|directory| drop(std::fs::remove_dir(directory)));
        }
    }

    /// Tells the vault's directories when a walk meets them.
    #[cfg(unix)]
    pub(crate) fn identities(&self) -> Vec<Identity> {
        use std::os::unix::fs::MetadataExt;
        let found = self.directories().filter_map(|directory| std::fs::metadata(directory).ok());
        found.map(|metadata| Identity { dev: metadata.dev(), ino: metadata.ino() }).collect()
    }

    #[cfg(not(unix))]
    pub(crate) fn identities(&self) -> Vec<Identity> {
        Vec::new()
    }
}

/// The name of something that no vault holds, at a place that has no vault or only the beginning of one.
///
/// A header or a record settles it: what else is there is for `verify` to judge.
fn holds_something_else(store: &dyn ObjectStore) -> Result<Option<String>, StoreError> {
    for name in [ObjectName::Header, ObjectName::Record(0)] {
        match store.stat(&ObjectKey::new(name.to_string())?) {
            Err(error) if error.is_not_found() => {}
            result => return result.map(|_| None),
        }
    }
    let mut found = None;
    store.list("", None, &mut |item| {
        if ObjectName::parse(&item.name).is_some() || is_scratch(&item.name) {
            return ControlFlow::Continue(());
        }
        found = Some(item.name);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Whether a name is one that a probe gives its objects.
fn is_scratch(name: &str) -> bool {
    let rest = name.strip_prefix(PROBE_PREFIX).and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(run, _)| run.len() == 32 && run.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn holds_part_of_a_vault(path: &Path) -> bool {
    ["vault", "store", "slots", "log", "tmp"].iter().any(|name| path.join(name).exists())
}

/// What speaks against a vault at a path, before anything is read; what cannot be looked at is left to the store.
fn why_no_vault(path: &Path) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some("there is no such directory"),
        Ok(found) if !found.is_dir() => Some("it is not a directory"),
        Err(_) => None,
        Ok(_) => match std::fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Some(EMPTY),
            Ok(false) if !holds_part_of_a_vault(path) => Some("the directory holds something else"),
            _ => None,
        },
    }
}
