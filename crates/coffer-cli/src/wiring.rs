//! Puts together what a command works on: the store, the key, the local memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use coffer_crypto::OsRng;
use coffer_engine::{
    Access, Cache, Clock, EngineError, Log, ReplicaOptions, Replicas, Settings, Standing, Vault,
};
use coffer_format::id::VaultId;
use coffer_format::slot::ServiceKey;
use coffer_ibm::{KeyServices, ServiceRoot};
use coffer_keys::{KeyError, RootKey};
use coffer_store::{Location, ObjectStore, UploadMemory};
use serde_json::Value;

use crate::clock::SystemClock;
use crate::command_error::Failure;
use crate::config::Config;
use crate::global::Global;
use crate::key_service::KeyServiceSettings;
use crate::keys;
use crate::output::Output;
use crate::passphrase::Passphrases;
use crate::process;
use crate::process::INTERRUPT;
use crate::requests::Requests;
use crate::root_keys::RootKeys;
use crate::storage::Storage;
use crate::store_facts::StoreFacts;
use crate::stores::{Part, Store};
use crate::writer;

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
    requests: Requests,
    /// What opens the vault.
    pub(crate) keys: RootKeys,
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
        // What was is older than what this machine has seen.
        let cache_dir = cache_dir.filter(|_| !global.no_cache && global.storage.as_of.is_none());
        let facts =
            cache_dir.as_ref().map(|root| Arc::new(StoreFacts::new(root, output)) as Arc<dyn UploadMemory>);
        let world = Self {
            output,
            vault_id: global.vault_id.or(config.vault_id),
            storage: Storage::new(&global.storage, config, facts)?,
            locations,
            opened: Mutex::default(),
            requests: Requests::default(),
            keys: RootKeys::new(
                output,
                keys::sources(global, config)?,
                writer::path(global, config)?,
                Passphrases::new(&global.passphrases)?,
                global.pkcs11.with_limit(global.key_service.limit()),
                KeyServiceSettings::new(&global.key_service, config),
            ),
            cache: cache_dir.map(Cache::new),
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
        self.keys.tell();
        for location in &self.locations {
            if let Location::S3(location) = location
                && self.storage.has_own(location)
            {
                self.output.note(&format!("settings of its own: {}", location.url()));
            }
        }
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
        let store = self.open_store_to_show(options)?;
        self.say_what_is_apart(&store);
        Ok(store)
    }

    /// As [`Self::open_store_with`], for who says himself how each store stands.
    pub(crate) fn open_store_to_show(&self, options: ReplicaOptions) -> Result<Store> {
        self.first_location()?;
        let opened: Vec<Result<Part>> = self
            .locations
            .iter()
            .enumerate()
            .map(|(at, location)| {
                Part::open(location, at > 0, &self.storage, &|place| self.expected_at(place))
            })
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
        let first = self.first_location()?;
        let first = Part::open(first, false, &self.storage, &|place| self.expected_at(place))?;
        let others = self.locations[1..].iter().map(|location| Part::create(location, &self.storage));
        let parts = std::iter::once(Ok(first)).chain(others).collect::<Result<_>>()?;
        let store = self.assemble(parts, ReplicaOptions::for_copying())?;
        self.say_what_is_apart(&store);
        Ok(store)
    }

    /// The vault that is known to be at the place of a store: as it is given, or as this machine remembers it.
    fn expected_at(&self, place: &str) -> Option<VaultId> {
        // What cannot be remembered is said when the log is read.
        let remembered = || self.cache()?.remembered(place).ok().flatten();
        self.vault_id.or_else(|| remembered().map(|(vault, _)| vault))
    }

    /// Makes the stores of a new vault, or opens them.
    pub(crate) fn create_store(&self) -> Result<Store> {
        self.first_location()?;
        let parts = self
            .locations
            .iter()
            .map(|location| Part::create(location, &self.storage))
            .collect::<Result<_>>()?;
        let store = self.assemble(parts, ReplicaOptions::default())?;
        self.say_what_is_apart(&store);
        Ok(store)
    }

    fn assemble(&self, parts: Vec<Part>, options: ReplicaOptions) -> Result<Store> {
        let store = Store::new(parts, options)?;
        self.requests.watch(&store);
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&store.replicas));
        Ok(store)
    }

    pub(crate) fn say_what_is_apart(&self, store: &Store) {
        for (store, standing) in store.replicas.apart() {
            match standing {
                Standing::Unreachable { reason } => self.output.warn(&format!("{store} is not reached: {reason}")),
                Standing::Fenced { fork, .. } => self.output.warn(&format!(
                    "{store} is fenced: its log left the line at record {fork}; `coffer reconcile` takes over what it has"
                )),
                _ => {}
            }
        }
    }

    /// Prints the result of a command; the JSON of it also says what the stores were asked.
    pub(crate) fn result(&self, value: Value, text: &str) -> io::Result<()> {
        self.output.result(&self.with_requests(value), text)
    }

    /// As [`Self::result`], but people who want it quiet do not hear of it.
    pub(crate) fn summary(&self, value: Value, text: &str) -> io::Result<()> {
        self.output.summary(&self.with_requests(value), text)
    }

    /// As [`Self::result`], for a command that has nothing left to say to people.
    pub(crate) fn json_summary(&self, value: Value) -> io::Result<()> {
        if self.output.json { self.result(value, "") } else { Ok(()) }
    }

    fn with_requests(&self, mut value: Value) -> Value {
        if self.output.json {
            self.wait_for_replicas();
            value["requests"] = self.requests.json();
        }
        value
    }

    /// What the stores were asked so far, for a text that has a line for it.
    pub(crate) fn requests_text(&self) -> String {
        self.wait_for_replicas();
        self.requests.text()
    }

    /// Says at the end of a command what the stores were asked, where its result does not.
    pub(crate) fn say_requests(&self, is_done: bool) {
        self.requests.say(self.output, is_done);
    }

    /// What is still on its way to them counts as well.
    fn wait_for_replicas(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().for_each(|replicas| replicas.finish());
    }

    /// Warns of stores that others had to stand in for, or that were left behind.
    pub(crate) fn say_what_failed_over(&self) {
        self.wait_for_replicas();
        for replicas in self.opened.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for failed in replicas.failed_over() {
                // What did not answer is not damaged.
                let repair = match failed.damaged_count {
                    0 => String::new(),
                    count => format!(
                        "; `coffer verify --heal` repairs what {count} of them found missing or damaged"
                    ),
                };
                self.output.warn(&format!(
                    "{} read(s) from {} were answered by another store: {}{repair}",
                    failed.count, failed.store, failed.last
                ));
            }
            for (store, reason) in replicas.left_behind() {
                self.output
                    .warn(&format!("{store} was left behind: {reason}; `coffer replicate` catches it up"));
            }
        }
    }

    /// The keys that are given, which open as one, or the passphrase that the terminal gives.
    pub(crate) fn root_key(&self) -> Result<Arc<dyn RootKey>> {
        self.keys.any(&self.storage)
    }

    /// As [`Self::root_key`], without asking: none if nothing is given.
    pub(crate) fn given_root_key(&self) -> Result<Option<Arc<dyn RootKey>>> {
        self.keys.any_given(&self.storage)
    }

    /// The keys that are given, each for itself, and the key services as one; or the passphrase that the terminal gives.
    pub(crate) fn all_root_keys(&self) -> Result<Vec<Arc<dyn RootKey>>> {
        self.keys.each(&self.storage)
    }

    /// Makes slots for the root key at `place`, and opens them.
    pub(crate) fn service_root(&self, place: ServiceKey) -> Result<ServiceRoot> {
        Ok(ServiceRoot::at(self.key_services()?, place))
    }

    /// Key services, in the name of whoever is given.
    pub(crate) fn key_services(&self) -> Result<Arc<KeyServices>> {
        self.keys.services(&self.storage)
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
        match self.open_vault_with(store, root.as_ref()) {
            // Key services were tried because there are credentials for them; a person may know more.
            Err(error)
                if self.keys.are_services_alone(&self.storage)
                    && process::has_terminal()
                    && matches!(error.downcast_ref(), Some(EngineError::Key(KeyError::NoSlot { .. }))) =>
            {
                self.open_vault_with(store, self.keys.ask()?.as_ref())
            }
            opened => opened,
        }
    }

    /// As [`Self::open_vault`], with every root key that there is to try on slots; one that cannot be read is an error. With `write`, for a
    /// command that commits.
    pub(crate) fn open_vault_and_keys<'a>(
        &'a self,
        store: &'a Store,
        write: bool,
    ) -> Result<(Vault<'a>, Vec<Arc<dyn RootKey>>)> {
        self.all_root_keys()?;
        let vault = if write { self.open_vault_to_write(store)? } else { self.open_vault(store)? };
        // Again, for the terminal may have been asked meanwhile.
        Ok((vault, self.all_root_keys()?))
    }

    /// As [`Self::open_vault`], with this key.
    pub(crate) fn open_vault_with<'a>(&'a self, store: &'a Store, root: &dyn RootKey) -> Result<Vault<'a>> {
        let vault = Vault::open(self.access(store), root, self.vault_id)?;
        self.remember(store, &vault);
        Ok(vault)
    }

    fn remember(&self, store: &Store, vault: &Vault<'_>) {
        if let Some(warning) = &vault.log.memory_warning {
            self.output.warn(warning);
        }
        vault.log.warnings.iter().for_each(|warning| self.output.warn(warning));
        if !vault.state().damaged.is_empty() {
            self.output.warn("the log of this vault is damaged; run `coffer verify`");
        }
        let forgotten = store.replicas.remember(&self.access(store), &vault.log);
        forgotten.iter().for_each(|warning| self.output.warn(warning));
    }

    /// As [`Self::open_vault`], for a backup: a writer credential is enough.
    pub(crate) fn open_vault_to_back_up<'a>(&'a self, store: &'a Store, is_dry: bool) -> Result<Vault<'a>> {
        let Some(path) = self.keys.writer() else {
            return if is_dry { self.open_vault(store) } else { self.open_vault_to_write(store) };
        };
        let credential = writer::read(path)?;
        if !is_dry {
            store.replicas.check_writable()?;
        }
        let vault = Vault::open_as_writer(self.access(store), &credential, self.vault_id)?;
        self.remember(store, &vault);
        if !is_dry {
            store.replicas.check_home(vault.state())?;
            if vault.state().last_policy.is_some() && store.buckets().next().is_some() {
                self.output.warn(
                    "a writer credential cannot read the vault's settings: new objects get the lock that the bucket gives by itself; \
                     `coffer locks extend` gives them that of the vault",
                );
            }
        }
        Ok(vault)
    }

    /// As [`Self::open_vault`], for a command that commits.
    pub(crate) fn open_vault_to_write<'a>(&'a self, store: &'a Store) -> Result<Vault<'a>> {
        store.replicas.check_writable()?;
        let vault = self.open_vault(store)?;
        self.prepare_to_write(store, &vault)?;
        Ok(vault)
    }

    /// As [`Self::open_vault_to_write`], for a command that decides itself under which lock it writes.
    pub(crate) fn open_vault_to_write_unlocked<'a>(&'a self, store: &'a Store) -> Result<Vault<'a>> {
        store.replicas.check_writable()?;
        let vault = self.open_vault(store)?;
        check_may_write(store, &vault)?;
        Ok(vault)
    }

    /// Checks that what was opened may be written to, and has it written under the lock that the vault's settings ask for.
    pub(crate) fn prepare_to_write(&self, store: &Store, vault: &Vault<'_>) -> Result<()> {
        check_may_write(store, vault)?;
        lock_new_objects(store, vault)
    }

    /// As [`lock_new_objects`], for a command that needs no key: where the vault has a policy, one that tells it. With `unlocked`,
    /// what is written is not locked.
    pub(crate) fn lock_by_policy(&self, store: &Store, unlocked: bool) -> Result<()> {
        if unlocked || store.buckets().next().is_none() {
            return Ok(());
        }
        let log = Log::read(&self.access(store), self.vault_id)?;
        if log.state.last_policy.is_none() {
            return Ok(());
        }
        if !self.keys.is_given(&self.storage) && !process::has_terminal() {
            let message = "the vault has a policy, which may say that what is written to buckets is locked, and only a key opens it";
            let hint =
                "give the key, or say --unlocked; `coffer locks extend` locks later what was written without";
            return Err(Failure::new(crate::Exit::WrongKey, message).hint(hint).into());
        }
        lock_new_objects(store, &self.open_vault(store)?)
    }
}

fn check_may_write(store: &Store, vault: &Vault<'_>) -> Result<()> {
    // Before any work is done: a reader secret signs nothing.
    vault.signing_key()?;
    Ok(store.replicas.check_home(vault.state())?)
}

/// From now on, what is written to buckets is locked as the policy in force says.
pub(crate) fn lock_new_objects(store: &Store, vault: &Vault<'_>) -> Result<()> {
    if let Some(policy) = Settings::read(vault)?.lock()? {
        store.buckets().for_each(|bucket| bucket.retain(policy));
    }
    Ok(())
}

fn default_cache_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.map(|base| base.join("coffer"))
}
