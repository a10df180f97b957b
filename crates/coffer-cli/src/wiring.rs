//! Puts together what a command works on: the store, the key, the local memory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use coffer_collect::Identity;
use coffer_crypto::{OsRng, rng};
use coffer_engine::{Access, Cache, Vault};
use coffer_format::id::VaultId;
use coffer_keys::RootKey;
use coffer_store::{
    CountingStore, LocalStore, Location, ObjectStore, RequestCounter, RequestCounts, RetryPolicy, RetryStore,
};

use crate::cli::Global;
use crate::clock::SystemClock;
use crate::command_error::{CommandError, Failure};
use crate::config::Config;
use crate::keys;
use crate::output::Output;
use crate::progress;

static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Everything a command works on.
pub(crate) struct World {
    pub(crate) output: Output,
    pub(crate) vault_id: Option<VaultId>,
    location: Option<Location>,
    key: Option<keys::KeySource>,
    cache: Option<Cache>,
    clock: SystemClock,
}

impl World {
    pub(crate) fn new(global: &Global, config: &Config) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let place =
            global.vault.clone().or_else(|| variable("COFFER_VAULT")).or_else(|| config.vault.clone());
        let location =
            place.map(Location::parse).transpose().map_err(|error| Failure::usage(error.to_string()))?;
        let cache_dir = global.cache_dir.clone().or_else(|| variable("COFFER_CACHE_DIR"));
        let cache_dir = cache_dir.or_else(|| config.cache_dir.clone()).or_else(default_cache_dir);
        let output = Output {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose > 0,
            very_verbose: global.verbose > 1,
        };
        let world = Self {
            output,
            vault_id: global.vault_id.or(config.vault_id),
            location,
            key: keys::source(global, config)?,
            cache: cache_dir.filter(|_| !global.no_cache).map(Cache::new),
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

    pub(crate) const fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    fn location(&self) -> Result<&Location> {
        let hint =
            "name the vault with --vault DIR, COFFER_VAULT, or `vault = \"DIR\"` in the configuration file";
        Ok(self.location.as_ref().ok_or_else(|| Failure::usage("no vault is given").hint(hint))?)
    }

    /// Opens the store of an existing vault.
    pub(crate) fn open_store(&self) -> Result<Store> {
        match self.location()? {
            Location::Local(path) => {
                if let Some(reason) = why_no_vault(path) {
                    let message = format!("there is no vault at {}: {reason}", path.display());
                    return Err(Failure::new(crate::Exit::NoVault, message).hint(NO_VAULT_HINT).into());
                }
                Store::new(LocalStore::open(path)?, path.clone())
            }
            _ => Err(Failure::usage("this kind of location is not supported").into()),
        }
    }

    /// Makes the store of a new vault, or opens it.
    pub(crate) fn create_store(&self) -> Result<Store> {
        match self.location()? {
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
                Store::new(LocalStore::create(path)?, path.clone())
            }
            _ => Err(Failure::usage("this kind of location is not supported").into()),
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
        let store = &store.store;
        Access { store, clock: &self.clock, rng: &OsRng, cache: self.cache.as_ref(), interrupt: &INTERRUPT }
    }

    /// Opens the vault with the key that is given.
    pub(crate) fn open_vault<'a>(&'a self, store: &'a Store) -> Result<Vault<'a>> {
        let root = self.root_key()?;
        let vault = Vault::open(self.access(store), root.as_ref(), self.vault_id)?;
        if let Some(warning) = &vault.log.memory_warning {
            self.output.warn(warning);
        }
        Ok(vault)
    }
}

/// A store, and what the command line knows of it beside.
pub(crate) struct Store {
    store: RetryStore<CountingStore<LocalStore>>,
    pub(crate) directory: PathBuf,
}

impl Store {
    fn new(store: LocalStore, directory: PathBuf) -> Result<Self> {
        let seed = u64::from_le_bytes(rng::array(&OsRng)?);
        let store = RetryStore::new(CountingStore::new(store), RetryPolicy::default(), seed);
        Ok(Self { store, directory })
    }

    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        &self.store
    }

    pub(crate) fn local(&self) -> &LocalStore {
        self.store.inner().inner()
    }

    /// What the store was asked so far, every attempt counted.
    pub(crate) fn requests(&self) -> RequestCounts {
        self.store.inner().counts()
    }

    /// The same for who shows progress meanwhile.
    pub(crate) fn counter(&self) -> RequestCounter {
        self.store.inner().counter()
    }

    /// Tells the vault's directory when a walk meets it.
    #[cfg(unix)]
    pub(crate) fn identity(&self) -> Option<Identity> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(&self.directory).ok()?;
        Some(Identity { dev: metadata.dev(), ino: metadata.ino() })
    }

    #[cfg(not(unix))]
    pub(crate) fn identity(&self) -> Option<Identity> {
        None
    }
}

const NO_VAULT_HINT: &str = "check --vault, or make a vault there with `coffer init`";

fn holds_part_of_a_vault(path: &Path) -> bool {
    ["vault", "slots", "log", "tmp"].iter().any(|name| path.join(name).exists())
}

/// What speaks against a vault at a path, before anything is read; what cannot be looked at is left to the store.
fn why_no_vault(path: &Path) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some("there is no such directory"),
        Ok(found) if !found.is_dir() => Some("it is not a directory"),
        Err(_) => None,
        Ok(_) => match std::fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Some("the directory is empty"),
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
