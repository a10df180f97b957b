//! Puts together what a command works on: the store, the key, the local memory.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use coffer_collect::Identity;
use coffer_crypto::{OsRng, rng};
use coffer_engine::{
    Access, Cache, Clock, ReplicaOptions, Replicas, Settings, Standing, UnreachableStore, Vault,
};
use coffer_format::id::VaultId;
use coffer_keys::RootKey;
use coffer_store::{
    CountingStore, LocalStore, Location, ObjectKey, ObjectStore, RequestCounter, RequestCounts, RetryPolicy,
    RetryStore, S3Location, StoreError,
};

use crate::bucket::Bucket;
use crate::cli::Global;
use crate::clock::SystemClock;
use crate::command_error::{CommandError, Failure};
use crate::config::Config;
use crate::keys;
use crate::output::{self, Output, requests_json, requests_text};
use crate::progress;
use crate::storage::Storage;

static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Everything a command works on.
pub(crate) struct World {
    pub(crate) output: Output,
    pub(crate) vault_id: Option<VaultId>,
    /// How buckets are reached.
    storage: Storage,
    locations: Vec<Location>,
    /// The stores of this run, to be asked in the end how they did.
    opened: Mutex<Vec<Arc<Replicas>>>,
    /// What they were asked.
    counters: Mutex<Vec<RequestCounter>>,
    key: Option<keys::KeySource>,
    cache: Option<Cache>,
    clock: SystemClock,
}

impl World {
    pub(crate) fn new(global: &Global, config: &Config) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // What one level names is the whole list.
        let levels = [
            global.vault.iter().chain(&global.store).cloned().collect(),
            variable("COFFER_VAULT").into_iter().collect(),
            config.vault.iter().chain(&config.stores).cloned().collect::<Vec<_>>(),
        ];
        let places = levels.into_iter().find(|places| !places.is_empty()).unwrap_or_default();
        let locations = places.into_iter().map(Location::parse).collect::<Result<_, _>>();
        let locations = locations.map_err(|error| Failure::usage(error.to_string()))?;
        let cache_dir = global.cache_dir.clone().or_else(|| variable("COFFER_CACHE_DIR"));
        let cache_dir = cache_dir.or_else(|| config.cache_dir.clone()).or_else(default_cache_dir);
        let output = Output::of(global);
        let world = Self {
            output,
            vault_id: global.vault_id.or(config.vault_id),
            storage: Storage::new(&global.storage, config)?,
            locations,
            opened: Mutex::default(),
            counters: Mutex::default(),
            key: keys::source(global, config)?,
            // What was is older than what this machine has seen.
            cache: cache_dir.filter(|_| !global.no_cache && global.storage.as_of.is_none()).map(Cache::new),
            clock: SystemClock::new(),
        };
        if output.very_verbose {
            world.tell(config);
        }
        Ok(world)
    }

    /// Says where the settings in force come from.
    fn tell(&self, config: &Config) {
        if let Some(path) = &config.path {
            let profile = config.profile.as_ref().map(|name| format!(", profile {name}")).unwrap_or_default();
            self.output.note(&format!("configuration {}{profile}", path.display()));
        }
        let key = self.key.as_ref().map_or_else(|| "none given".to_owned(), ToString::to_string);
        self.output.note(&format!("key: {key}"));
        if self.cache.is_none() {
            self.output.note("no local memory");
        }
    }

    /// Seconds since 1970.
    pub(crate) fn now_s(&self) -> u64 {
        u64::try_from(self.clock.now_ns() / 1_000_000_000).unwrap_or(0)
    }

    /// Refuses to show a directory as it was.
    pub(crate) fn check_as_of(&self) -> Result<()> {
        let is_local = |location: &Location| matches!(location, Location::Local(_));
        if self.storage.as_of_ms.is_some() && self.locations.iter().any(is_local) {
            let hint = "--as-of needs a bucket that keeps versions; snapshots of an earlier time are chosen with --at";
            return Err(Failure::usage("a directory cannot be shown as it was").hint(hint).into());
        }
        Ok(())
    }

    pub(crate) const fn is_as_of(&self) -> bool {
        self.storage.as_of_ms.is_some()
    }

    pub(crate) const fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    fn first_location(&self) -> Result<&Location> {
        let hint = "name the vault with --vault LOCATION, COFFER_VAULT, or `vault = \"LOCATION\"` in the configuration file";
        Ok(self.locations.first().ok_or_else(|| Failure::usage("no vault is given").hint(hint))?)
    }

    /// Which of the stores that are given is at `place`.
    pub(crate) fn store_at(&self, place: &Path) -> Result<usize> {
        let wanted = Location::parse(place).map_err(|error| Failure::usage(error.to_string()))?;
        let at = self.locations.iter().position(|location| *location == wanted);
        let hint = "name it with --vault or --store as well, in the same words";
        let message = format!("{} is none of the stores that are given", place.display());
        Ok(at.ok_or_else(|| Failure::usage(message).hint(hint))?)
    }

    /// How many stores are given.
    pub(crate) const fn store_count(&self) -> usize {
        self.locations.len()
    }

    /// Opens the stores of an existing vault.
    pub(crate) fn open_store(&self) -> Result<Store> {
        self.open_store_with(ReplicaOptions::default())
    }

    /// As [`Self::open_store`], with other ways to wait for them.
    pub(crate) fn open_store_with(&self, options: ReplicaOptions) -> Result<Store> {
        self.first_location()?;
        let opened: Vec<Result<Part>> = self
            .locations
            .iter()
            .enumerate()
            .map(|(at, location)| open_part(location, at > 0, &self.storage))
            .collect();
        if opened.len() == 1 || opened.iter().all(Result::is_err) {
            // Alone, or with others that are no better: what is wrong with the first one is what is wrong.
            let first =
                opened.into_iter().next().unwrap_or_else(|| Err(anyhow::anyhow!("no vault is given")));
            return self.assemble(vec![first?], options);
        }
        let parts = self
            .locations
            .iter()
            .zip(opened)
            .map(|(location, part)| part.unwrap_or_else(|error| Part::unreachable(location, &error)));
        self.assemble(parts.collect(), options)
    }

    /// Opens the stores of an existing vault, and makes directories for those behind the first that are not there.
    pub(crate) fn open_store_and_new_ones(&self) -> Result<Store> {
        let first = open_part(self.first_location()?, false, &self.storage)?;
        let others = self.locations[1..].iter().map(|location| create_part(location, &self.storage));
        let parts = std::iter::once(Ok(first)).chain(others).collect::<Result<_>>()?;
        self.assemble(parts, ReplicaOptions::for_copying())
    }

    /// Makes the stores of a new vault, or opens them.
    pub(crate) fn create_store(&self) -> Result<Store> {
        self.first_location()?;
        let parts = self
            .locations
            .iter()
            .map(|location| create_part(location, &self.storage))
            .collect::<Result<_>>()?;
        self.assemble(parts, ReplicaOptions::default())
    }

    fn assemble(&self, parts: Vec<Part>, options: ReplicaOptions) -> Result<Store> {
        let counters = parts.iter().filter_map(|part| part.counter.clone());
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).extend(counters);
        let stores = parts.iter().map(|part| Arc::clone(&part.store)).collect();
        let replicas = Arc::new(Replicas::open(stores, options)?);
        for (store, standing) in replicas.apart() {
            match standing {
                Standing::Unreachable { reason } => self.output.warn(&format!("{store} is not reached: {reason}")),
                Standing::Fenced { fork, .. } => self.output.warn(&format!(
                    "{store} is fenced: its log left the line at record {fork}; `coffer reconcile` takes over what it has"
                )),
                _ => {}
            }
        }
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&replicas));
        Ok(Store { replicas, parts })
    }

    /// Says what the stores were asked in all, to whoever wants to hear everything.
    pub(crate) fn say_requests(&self) {
        let mut sum = RequestCounts::default();
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().for_each(|counter| sum.add(&counter.counts()));
        if !self.output.very_verbose || counters.is_empty() {
            return;
        }
        if self.output.json {
            let value = serde_json::json!({"message_type": "requests", "requests": requests_json(&sum)});
            output::message(&value.to_string());
        } else {
            self.output.note(&requests_text(&sum));
        }
    }

    /// Warns of stores that others had to stand in for, or that were left behind.
    pub(crate) fn say_what_failed_over(&self) {
        for replicas in self.opened.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            replicas.finish();
            for failed in replicas.failed_over() {
                self.output.warn(&format!(
                    "{} read(s) from {} were answered by another store: {}; `coffer verify --heal` repairs what is damaged",
                    failed.count, failed.store, failed.last
                ));
            }
            for (store, reason) in replicas.left_behind() {
                self.output
                    .warn(&format!("{store} was left behind: {reason}; `coffer replicate` catches it up"));
            }
        }
    }

    /// The key that is given, or the passphrase that the terminal gives.
    pub(crate) fn root_key(&self) -> Result<Box<dyn RootKey>> {
        if let Some(source) = &self.key {
            return source.read();
        }
        if keys::has_terminal() {
            return Ok(Box::new(keys::ask_passphrase("Passphrase of the vault: ")?));
        }
        let hint = "give --key-file FILE, --passphrase-file FILE or --passphrase-command COMMAND";
        Err(Failure::new(crate::Exit::WrongKey, "no key is given").hint(hint).into())
    }

    pub(crate) const fn has_key_source(&self) -> bool {
        self.key.is_some()
    }

    pub(crate) fn access<'a>(&'a self, store: &'a Store) -> Access<'a> {
        self.access_to(&*store.replicas)
    }

    /// Access to one store as it is.
    pub(crate) fn access_to<'a>(&'a self, store: &'a dyn ObjectStore) -> Access<'a> {
        Access { store, clock: &self.clock, rng: &OsRng, cache: self.cache.as_ref(), interrupt: &INTERRUPT }
    }

    /// Opens the vault with the key that is given.
    pub(crate) fn open_vault<'a>(&'a self, store: &'a Store) -> Result<Vault<'a>> {
        let root = self.root_key()?;
        let access = self.access(store);
        let vault = Vault::open(access, root.as_ref(), self.vault_id)?;
        if let Some(warning) = &vault.log.memory_warning {
            self.output.warn(warning);
        }
        if !store.replicas.is_alone() {
            let forgotten = store.replicas.remember(&access, &vault.log);
            forgotten.iter().for_each(|warning| self.output.warn(warning));
        }
        Ok(vault)
    }

    /// As [`Self::open_vault`], for a command that commits.
    pub(crate) fn open_vault_to_write<'a>(&'a self, store: &'a Store) -> Result<Vault<'a>> {
        store.replicas.check_writable()?;
        let vault = self.open_vault(store)?;
        store.replicas.check_home(vault.state())?;
        if let Some(policy) = Settings::read(&vault)?.lock()? {
            store.buckets().for_each(|bucket| bucket.retain(policy));
        }
        Ok(vault)
    }
}

/// One store of a vault.
struct Part {
    store: Arc<dyn ObjectStore>,
    counter: Option<RequestCounter>,
    /// What is in between, if it is a bucket.
    bucket: Option<Bucket>,
    /// The store itself and its directory, if it is one.
    local: Option<Arc<LocalStore>>,
    directory: Option<PathBuf>,
}

impl Part {
    fn local(store: LocalStore, directory: PathBuf) -> Result<Self> {
        let local = Arc::new(store);
        let counted = CountingStore::new(local.clone());
        let counter = Some(counted.counter());
        let seed = u64::from_le_bytes(rng::array(&OsRng)?);
        let store = Arc::new(RetryStore::new(counted, RetryPolicy::default(), seed));
        Ok(Self { store, counter, bucket: None, local: Some(local), directory: Some(directory) })
    }

    fn bucket(location: &S3Location, storage: &Storage) -> Result<Self> {
        let counter = RequestCounter::default();
        let bucket = Bucket::new(storage.open(location, counter.clone())?, counter, storage.as_of_ms)?;
        let counter = Some(bucket.counter().clone());
        Ok(Self { store: bucket.store(), counter, bucket: Some(bucket), local: None, directory: None })
    }

    fn unreachable(location: &Location, error: &anyhow::Error) -> Self {
        let (url, directory) = match location {
            Location::Local(path) => (path.display().to_string(), Some(path.clone())),
            Location::S3(location) => (location.url(), None),
            _ => (String::new(), None),
        };
        let store = Arc::new(UnreachableStore::new(url, format!("{error:#}")));
        Self { store, counter: None, bucket: None, local: None, directory }
    }
}

/// Opens a store; one that is named behind others may be empty still.
fn open_part(location: &Location, may_be_empty: bool, storage: &Storage) -> Result<Part> {
    match location {
        Location::Local(path) => {
            if let Some(reason) = why_no_vault(path).filter(|reason| !may_be_empty || *reason != EMPTY) {
                let message = format!("there is no vault at {}: {reason}", path.display());
                return Err(Failure::new(crate::Exit::NoVault, message).hint(NO_VAULT_HINT).into());
            }
            Part::local(LocalStore::open(path)?, path.clone())
        }
        Location::S3(location) => Part::bucket(location, storage),
        _ => Err(Failure::usage("this kind of location is not supported").into()),
    }
}

fn create_part(location: &Location, storage: &Storage) -> Result<Part> {
    match location {
        Location::Local(path) => {
            let refuse = |what: &str| {
                Failure::new(crate::Exit::Failed, format!("{} {what}", path.display()))
                    .hint("choose an empty or a new directory")
            };
            if path.exists() && !path.is_dir() {
                return Err(refuse("is not a directory").into());
            }
            // A directory that holds something else is not filled by mistake.
            if let Ok(mut entries) = std::fs::read_dir(path)
                && entries.next().is_some()
                && !holds_part_of_a_vault(path)
            {
                return Err(refuse("is not empty and holds no vault").into());
            }
            Part::local(LocalStore::create(path)?, path.clone())
        }
        Location::S3(location) => {
            let part = Part::bucket(location, storage)?;
            if holds_something_else(&*part.store)? {
                let message = format!("{} holds something else and no vault", location.url());
                return Err(Failure::new(crate::Exit::Failed, message)
                    .hint("choose a prefix of its own in the bucket: s3://BUCKET/PREFIX")
                    .into());
            }
            Ok(part)
        }
        _ => Err(Failure::usage("this kind of location is not supported").into()),
    }
}

/// The stores of a vault, and what the command line knows of them beside.
pub(crate) struct Store {
    pub(crate) replicas: Arc<Replicas>,
    parts: Vec<Part>,
}

impl Store {
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

    /// Those that are buckets.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.parts.iter().filter_map(|part| part.bucket.as_ref())
    }

    /// Each store as it is, for a probe.
    pub(crate) fn plain(&self) -> impl Iterator<Item = &dyn ObjectStore> {
        self.parts.iter().map(|part| part.bucket.as_ref().map_or(&*part.store, |bucket| bucket.plain()))
    }

    /// What the stores were asked so far, every attempt counted.
    pub(crate) fn requests(&self) -> RequestCounts {
        let mut sum = RequestCounts::default();
        self.parts
            .iter()
            .filter_map(|part| part.counter.as_ref())
            .for_each(|counter| sum.add(&counter.counts()));
        sum
    }

    /// The same of the first store that can be opened, for who shows progress meanwhile.
    pub(crate) fn counter(&self) -> RequestCounter {
        self.parts.iter().find_map(|part| part.counter.clone()).unwrap_or_default()
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

const EMPTY: &str = "the directory is empty";
/// Whether a prefix holds objects, and none that a vault or the beginning of one has.
fn holds_something_else(store: &dyn ObjectStore) -> Result<bool, StoreError> {
    let holds = |prefix: &str| {
        let mut is_found = false;
        store.list(prefix, None, &mut |_| {
            is_found = true;
            ControlFlow::Break(())
        })?;
        Ok::<bool, StoreError>(is_found)
    };
    if !holds("")? {
        return Ok(false);
    }
    for prefix in ["slots/", "log/", "probe/"] {
        if holds(prefix)? {
            return Ok(false);
        }
    }
    match store.stat(&ObjectKey::new("vault")?) {
        Err(error) if error.is_not_found() => Ok(true),
        result => result.map(|_| false),
    }
}

const NO_VAULT_HINT: &str = "check --vault, or make a vault there with `coffer init`";

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

fn default_cache_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.map(|base| base.join("coffer"))
}

/// Lets the first interrupt end the operation in order, if it can do so, and the second one end the process.
pub(crate) fn catch_interrupts(orderly: bool, json: bool) -> Result<()> {
    ctrlc::set_handler(move || {
        let is_first = !INTERRUPT.swap(true, Ordering::Relaxed);
        if is_first && orderly {
            return;
        }
        if is_first {
            say_interrupted(json);
        }
        std::process::exit(crate::Exit::Interrupted as i32);
    })
    .context("install the handler of interrupts")
}

/// Says why the process ends, unless nobody takes it: a full pipe must not keep it from ending.
fn say_interrupted(json: bool) {
    let (said, is_said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        progress::clear();
        CommandError::interrupted().print(json);
        // Whoever waits may have given up.
        let _ = said.send(());
    });
    // The process ends in any case.
    let _ = is_said.recv_timeout(std::time::Duration::from_millis(500));
}

/// Keys are in memory: no core dump, no debugger of other processes of the user. More open files, where that is allowed.
pub(crate) fn harden_process() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{
            DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
        };
        // Each is done as far as the system allows it; none is needed to go on.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        let files = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    }
}

/// How many files this process may have open.
pub(crate) fn open_file_count_max() -> usize {
    #[cfg(target_os = "linux")]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
    #[cfg(not(target_os = "linux"))]
    {
        256
    }
}

/// Threads for work that keeps a processor busy.
pub(crate) fn thread_count(flag: Option<usize>) -> usize {
    flag.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
        .clamp(1, 64)
}
