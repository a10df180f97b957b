//! Several stores of one vault, as one store.
//!
//! [`Replicas`] is an [`ObjectStore`], so that every operation works on one store and on several alike. Records are read from the
//! store that is the home of the log and committed there; what is committed goes on to the other stores, in order, each by a queue
//! of its own (`lane`). Objects are read from whichever store has them whole (`reading`). `docs/replication.md` says what is
//! guaranteed when.
//!
//! Invariants:
//! - A record is created in the store whose id is its home, and in no other way.
//! - A replica's log is a beginning of the home's, and every object that it makes live was durable there before the record.
//! - Nothing is written to a store whose log has left that line.
//!
//! It refuses to choose a home: that is the owner's decision (`home`).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use coffer_crypto::{Rng, rng};
use coffer_format::id::{VaultId, hex};
use coffer_format::log::LogState;
use coffer_format::object::ObjectName;
use coffer_format::record::Record;
use coffer_format::store::{FIRST_STORE, encode_store};
use coffer_store::{
    AskedWaits, CloudStore, ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError, VersionRule,
};

use crate::access::key_of;
use crate::error::EngineError;
use crate::refusal::{HomeId, Refusal};

mod acknowledge;
mod copy;
mod heal;
mod home;
mod lane;
mod reading;
mod reconcile;
mod seen;
mod survey;

pub use acknowledge::{Ack, Lag, Receipt, StoreStatus};
pub use copy::{CopyReport, ReplicateReport};
pub use heal::{HealOutcome, Healed};
pub use home::{Loss, LostSnapshot, PromoteOptions, Promotion};
pub use reading::{FailedOver, UnreachableStore};
pub use reconcile::{ReconcileReport, Rejoined};
pub use seen::LastSeen;

use lane::Lane;
use reading::Helpers;
use survey::{Tip, judge, look_at, read_id};

/// How stores are waited for.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaOptions {
    /// When a backup is acknowledged.
    pub ack: Ack,
    /// Most bytes on their way to one replica.
    pub queue_bytes_max: u64,
    /// A replica on which no write ends and no byte moves for so long is left behind, unless it asked to be left alone meanwhile.
    pub patience: Duration,
    /// If nothing comes for so long, another store is asked for an object; `None` to wait for an answer.
    pub read_patience: Option<Duration>,
    /// How long replicas that are not needed are waited for in the end.
    pub linger: Duration,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self {
            ack: Ack::Two,
            queue_bytes_max: 256 << 20,
            patience: Duration::from_secs(60),
            read_patience: Some(Duration::from_secs(30)),
            linger: Duration::from_secs(10),
        }
    }
}

/// How a store stands to the log that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its log is a beginning of it.
    InLine {
        /// Number of the record with which it goes on.
        next: u64,
    },
    /// Its log left the line.
    Fenced {
        /// Number of the first record that differs.
        fork: u64,
        /// Number of the record that would come next in it.
        next: u64,
    },
    /// It was not reached.
    Unreachable {
        /// Why.
        reason: String,
    },
}

impl ReplicaOptions {
    /// For copying whole objects, which may take as long as they take: a store that lets a transfer stand still says so itself.
    #[must_use]
    pub fn for_copying() -> Self {
        Self { read_patience: None, ..Self::default() }
    }
}

/// One of the stores.
struct Member {
    store: Arc<dyn ObjectStore>,
    url: String,
    id: Mutex<HomeId>,
    has_id: AtomicBool,
    standing: Mutex<Standing>,
    /// None for the home, and for stores that are not written to.
    lane: OnceLock<Lane>,
    /// Asked last, because it did not answer, or slowly.
    is_demoted: AtomicBool,
    /// Reads that another store had to answer.
    failed_count: AtomicU64,
    /// Of these, reads of what it lacks or has damaged.
    damaged_count: AtomicU64,
    last_failure: Mutex<String>,
}

/// The stores of a vault.
pub struct Replicas {
    members: Vec<Member>,
    options: ReplicaOptions,
    vault: Option<VaultId>,
    /// The store that the log is read from.
    source: usize,
    line: Option<Tip>,
    home: Option<usize>,
    refusal: Mutex<Option<Refusal>>,
    /// Which store is known to hold an object whole.
    pinned: Mutex<BTreeMap<String, usize>>,
    helpers: Arc<Helpers>,
    /// A single store is asked for its id when it is first written to.
    is_alone: bool,
    own_id: OnceLock<HomeId>,
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.iter().map(|member| &member.url)).finish()
    }
}

impl Replicas {
    /// Looks at the stores, and finds out which is the home and how the others stand to it. The first is where a new vault is made.
    ///
    /// A single store is not looked at: it is its own line, and asked for its id at the first commit.
    ///
    /// # Errors
    /// [`EngineError::SameStore`], [`EngineError::OtherVault`]; what keeps nothing but commits from being made is told by
    /// [`Self::check_writable`].
    pub fn open(stores: Vec<Arc<dyn ObjectStore>>, options: ReplicaOptions) -> Result<Self, EngineError> {
        let is_alone = stores.len() < 2;
        if stores.is_empty() {
            return Err(EngineError::invalid("a vault needs a store"));
        }
        if is_alone {
            return Ok(Self::alone(stores, options));
        }
        let seen = look_at(&stores);
        let judgement = judge(&stores, &seen)?;
        let members = stores.into_iter().zip(&seen).zip(judgement.standings);
        let members = members.map(|((store, seen), standing)| {
            let member = Member::new(store, standing);
            *lock(&member.id) = seen.id;
            member.has_id.store(seen.has_id, Ordering::Relaxed);
            member
        });
        let replicas = Self {
            members: members.collect(),
            options,
            vault: judgement.line.map(|line| line.vault),
            source: judgement.source,
            line: judgement.line,
            home: judgement.home,
            refusal: Mutex::new(judgement.refusal),
            pinned: Mutex::default(),
            helpers: Arc::default(),
            is_alone,
            own_id: OnceLock::new(),
        };
        let next = replicas.next();
        for (at, member) in replicas.members.iter().enumerate() {
            if Some(at) != replicas.home && member.standing() == (Standing::InLine { next }) {
                replicas.start_lane(member, next);
            }
        }
        Ok(replicas)
    }

    fn alone(stores: Vec<Arc<dyn ObjectStore>>, options: ReplicaOptions) -> Self {
        let standing = Standing::InLine { next: 0 };
        let members = stores.into_iter().map(|store| Member::new(store, standing.clone())).collect();
        Self {
            members,
            options,
            vault: None,
            source: 0,
            line: None,
            home: Some(0),
            refusal: Mutex::new(None),
            pinned: Mutex::default(),
            helpers: Arc::default(),
            is_alone: true,
            own_id: OnceLock::new(),
        }
    }

    fn start_lane(&self, member: &Member, next: u64) {
        let (bytes_max, patience) = (self.options.queue_bytes_max, self.options.patience);
        match member.lane.get() {
            Some(lane) => lane.restart(next),
            None => {
                let lane = Lane::new(Arc::clone(&member.store), next, bytes_max, patience);
                // Another thread that was faster made the same.
                drop(member.lane.set(lane));
            }
        }
    }

    /// Number of stores.
    #[must_use]
    pub fn store_count(&self) -> usize {
        self.members.len()
    }

    /// Whether there is one store only.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Number of the record with which the log goes on, as it was when the stores were opened.
    fn next(&self) -> u64 {
        self.line.map_or(0, |line| line.next)
    }

    /// Whether records may be committed.
    ///
    /// # Errors
    /// [`EngineError::Refused`] with the reason.
    pub fn check_writable(&self) -> Result<(), EngineError> {
        match &*lock(&self.refusal) {
            None => Ok(()),
            Some(refusal) => Err(EngineError::Refused(refusal.clone())),
        }
    }

    /// As [`Self::check_writable`], for the log in this state: its home has to be the store that records would be created in.
    ///
    /// # Errors
    /// As there; and when a store, which is the only one, does not tell its id.
    pub fn check_home(&self, state: &LogState) -> Result<(), EngineError> {
        self.check_writable()?;
        if self.home_id()? == state.home {
            return Ok(());
        }
        Err(EngineError::Refused(Refusal::HomeUnreachable { home: state.home }))
    }

    /// How many stores take what is written: the home, and those that follow it.
    #[must_use]
    pub fn written_count(&self) -> u64 {
        1 + self.lanes().count() as u64
    }

    /// Stores that are not in line, each with the reason.
    #[must_use]
    pub fn apart(&self) -> Vec<(String, Standing)> {
        let standings = self.members.iter().map(|member| (member.url.clone(), member.standing()));
        standings.filter(|(_, standing)| !matches!(standing, Standing::InLine { .. })).collect()
    }

    /// Whether a store was not reached.
    #[must_use]
    pub fn is_unreachable(&self, at: usize) -> bool {
        !Member::is_reachable(&self.members[at].standing())
    }

    /// Whether a store that is reached holds no record yet, while another one does.
    #[must_use]
    pub fn is_new(&self, at: usize) -> bool {
        at != self.source && self.members[at].standing() == Standing::InLine { next: 0 }
    }

    /// The store that the log is read from.
    #[must_use]
    pub fn source_store(&self) -> &dyn ObjectStore {
        &*self.members[self.source].store
    }

    /// The position of the store that the log is read from.
    #[must_use]
    pub const fn source(&self) -> usize {
        self.source
    }

    /// Replicas to which nothing more was written, each with the reason.
    #[must_use]
    pub fn left_behind(&self) -> Vec<(String, String)> {
        self.lanes().filter_map(|(member, lane)| Some((member.url.clone(), lane.broken()?))).collect()
    }

    /// Waits for the replicas, but not long.
    pub fn finish(&self) {
        let deadline = std::time::Instant::now() + self.options.linger;
        self.lanes().for_each(|(_, lane)| lane.drain(Some(deadline)));
    }

    /// The position of the store with this address.
    #[must_use]
    pub fn position(&self, url: &str) -> Option<usize> {
        self.members.iter().position(|member| member.url == url)
    }

    /// The store at a position.
    #[must_use]
    pub fn store(&self, at: usize) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.members[at].store)
    }

    /// Gives every store but the first one an id, before a vault is made in them.
    ///
    /// # Errors
    /// When a store does not answer: a new vault is made in all of them or in none.
    pub fn name_stores(&self, rng: &dyn Rng) -> Result<(), EngineError> {
        for member in &self.members {
            if let Standing::Unreachable { reason } = member.standing() {
                return Err(EngineError::Unreachable { store: member.url.clone(), reason });
            }
        }
        self.members[1..].iter().try_for_each(|member| member.ensure_id(rng).map(drop))
    }

    /// Gives stores that lost their id the one that this machine remembers of their address, or a new one where another store is known to
    /// be the home. The next time they are opened they are what they were.
    fn name_again(&self, access: &crate::access::Access<'_>, vault: &VaultId) -> Result<(), EngineError> {
        let seen = seen::remembered(access.cache, vault);
        for member in &self.members {
            let is_nameless = !member.has_id.load(Ordering::Relaxed)
                && matches!(member.standing(), Standing::InLine { next } if next > 0);
            if self.is_alone || !is_nameless {
                continue;
            }
            let id = match seen.get(&member.store.place()) {
                Some(seen) => seen.id,
                None if self.home.is_some() => rng::array(access.rng)?,
                None => continue,
            };
            member.set_id(&id)?;
        }
        Ok(())
    }

    /// The home that the records of this process are for.
    fn home_id(&self) -> Result<HomeId, EngineError> {
        if !self.is_alone {
            let home = self.home.ok_or_else(|| EngineError::invalid("there is no home"))?;
            return Ok(*lock(&self.members[home].id));
        }
        if let Some(id) = self.own_id.get() {
            return Ok(*id);
        }
        let (id, has_id) = read_id(&self.members[0].store)?;
        if !has_id {
            return Err(EngineError::Refused(Refusal::HomeUnknown { store: self.members[0].url.clone() }));
        }
        Ok(*self.own_id.get_or_init(|| id))
    }

    /// The lanes that are written to, with their members.
    fn lanes(&self) -> impl Iterator<Item = (&Member, &Lane)> {
        self.members.iter().filter_map(|member| Some((member, member.lane.get()?)))
    }

    fn refuse(
        &self,
        key: &ObjectKey,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Denied { name: key.to_string(), store: self.url(), source: why.into() }
    }

    fn writable(&self, key: &ObjectKey) -> Result<&Member, StoreError> {
        if let Some(refusal) = &*lock(&self.refusal) {
            return Err(self.refuse(key, refusal.clone()));
        }
        let home = self.home.ok_or_else(|| self.refuse(key, "there is no home"))?;
        Ok(&self.members[home])
    }

    /// Sends an object to the replicas.
    fn fan_out(&self, key: &ObjectKey, body: &[u8]) {
        let open: Vec<_> = self.lanes().filter(|(_, lane)| lane.broken().is_none()).collect();
        if open.is_empty() {
            return;
        }
        let body: Arc<[u8]> = body.into();
        let needed = self.options.ack.count(self.members.len()).saturating_sub(1);
        for (at, (_, lane)) in open.iter().enumerate() {
            let others = open.iter().enumerate().filter(|(other, _)| *other != at);
            let ready = others.filter(|(_, (_, lane))| lane.has_room(body.len() as u64)).count();
            lane.object(key.clone(), Arc::clone(&body), ready < needed);
        }
    }

    /// Commits a record: in the home first, then in the replicas.
    fn put_record(&self, key: &ObjectKey, number: u64, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let home = self.writable(key)?;
        let meant_for = Record::decode(body).map(|record| record.public.home);
        let id = self.home_id().map_err(|error| self.refuse(key, error))?;
        if meant_for.as_ref().ok() != Some(&id) {
            let meant_for = meant_for.map_or_else(|_| "none".to_owned(), |home| hex(&home));
            let why = format!("the home of the log is the store {meant_for}, and this one is {}", hex(&id));
            return Err(self.refuse(key, why));
        }
        self.check_fork(home, key, body)?;
        let outcome = home.store.put_if_absent(key, body)?;
        // One that is there already may be this one, from an attempt whose reply was lost.
        let is_ours = outcome == PutOutcome::Created || {
            let mut there = Vec::new();
            self.lanes().next().is_some()
                && home.store.read(key, body.len() as u64, &mut there).is_ok()
                && there == body
        };
        if is_ours {
            let body: Arc<[u8]> = body.into();
            self.lanes().for_each(|(_, lane)| lane.record(number, Arc::clone(&body)));
        }
        Ok(outcome)
    }

    /// A replica that has another record of this number, which the home lacks, was promoted meanwhile.
    fn check_fork(&self, home: &Member, key: &ObjectKey, body: &[u8]) -> Result<(), StoreError> {
        for (member, lane) in self.lanes() {
            if lane.broken().is_some() {
                continue;
            }
            let (store, asked) = (Arc::clone(&member.store), key.clone());
            let there = self.within_patience(member, key, false, move || {
                let mut there = Vec::new();
                store.read(&asked, coffer_format::limits::RECORD_LEN_MAX, &mut there).map(|()| there)
            });
            let is_other = match there {
                Ok(there) => there != body,
                Err(StoreError::TooLong { .. }) => true,
                // What does not answer is dealt with when it is written to.
                Err(_) => false,
            };
            if is_other && home.store.stat(key).is_err_and(|error| error.is_not_found()) {
                let stores = vec![home.url.clone(), member.url.clone()];
                let term = self.line.map_or(0, |line| line.term);
                let refusal = Refusal::PromotedApart { stores, term };
                *lock(&self.refusal) = Some(refusal.clone());
                return Err(self.refuse(key, refusal));
            }
        }
        Ok(())
    }
}

impl Member {
    fn new(store: Arc<dyn ObjectStore>, standing: Standing) -> Self {
        Self {
            url: store.url(),
            store,
            id: Mutex::new(FIRST_STORE),
            has_id: AtomicBool::new(false),
            standing: Mutex::new(standing),
            lane: OnceLock::new(),
            is_demoted: AtomicBool::new(false),
            failed_count: AtomicU64::new(0),
            damaged_count: AtomicU64::new(0),
            last_failure: Mutex::default(),
        }
    }

    fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    const fn is_reachable(standing: &Standing) -> bool {
        !matches!(standing, Standing::Unreachable { .. })
    }

    /// Gives the store an id of its own, if it has none.
    fn ensure_id(&self, random: &dyn Rng) -> Result<HomeId, EngineError> {
        if self.has_id.load(Ordering::Relaxed) {
            return Ok(*lock(&self.id));
        }
        self.set_id(&rng::array(random)?)
    }

    /// Gives the store, which has none, this id, unless somebody else gives it another one first.
    fn set_id(&self, id: &HomeId) -> Result<HomeId, EngineError> {
        let key = key_of(ObjectName::Store)?;
        let is_taken = self.store.put_if_absent(&key, &encode_store(id))? == PutOutcome::AlreadyExists;
        if is_taken && !read_id(&self.store)?.1 {
            // What stands there is no id.
            self.store.delete(&key)?;
            self.store.put_if_absent(&key, &encode_store(id))?;
        }
        // Another process may have been faster.
        let (id, has_id) = read_id(&self.store)?;
        *lock(&self.id) = id;
        self.has_id.store(has_id, Ordering::Relaxed);
        if has_id {
            Ok(id)
        } else {
            Err(EngineError::damaged(ObjectName::Store, EngineError::invalid("it cannot be read back")))
        }
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.finish();
    }
}

impl ObjectStore for Replicas {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        match ObjectName::parse(key.as_str()) {
            Some(ObjectName::Record(number)) => self.put_record(key, number, body),
            // Of no other store's business.
            Some(ObjectName::Store) | None => self.writable(key)?.store.put_if_absent(key, body),
            Some(_) => {
                let home = self.writable(key)?;
                self.fan_out(key, body);
                home.store.put_if_absent(key, body)
            }
        }
    }

    fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
        match ObjectName::parse(key.as_str()) {
            Some(ObjectName::Record(number)) => self.put_record(key, number, body),
            // Of no other store's business.
            Some(ObjectName::Store) | None => self.writable(key)?.store.put_shared_if_absent(key, body),
            Some(_) => {
                let home = self.writable(key)?;
                self.fan_out(key, body);
                home.store.put_shared_if_absent(key, body)
            }
        }
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        if self.is_alone {
            return self.members[0].store.read(key, len_max, out);
        }
        self.read_whole(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        if self.is_alone {
            return self.members[0].store.read_range(key, offset, out);
        }
        self.read_part(key, offset, out)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        if self.is_alone {
            return self.members[0].store.stat(key);
        }
        self.first_answer(key, &mut |member, _| member.store.stat(key))
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let is_log = coffer_format::object::LOG_PREFIX.starts_with(prefix) || prefix.starts_with("log");
        if self.is_alone || is_log {
            return self.members[self.source].store.list(prefix, start_after, visit);
        }
        // What any of them has can be read. Names are remembered by a hash, 8 bytes for each.
        let hasher = RandomState::new();
        let mut shown = HashSet::new();
        let (mut listed, mut stopped, mut failure) = (false, false, None);
        for at in self.order(None) {
            if stopped {
                break;
            }
            let result = self.members[at].store.list(prefix, start_after, &mut |item| {
                if !shown.insert(hasher.hash_one(&item.name)) {
                    return ControlFlow::Continue(());
                }
                let flow = visit(item);
                stopped = flow.is_break();
                flow
            });
            match result {
                Ok(()) => listed = true,
                Err(error) => {
                    self.note_failure(at, &error);
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if !listed => Err(error),
            _ => Ok(()),
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.writable(key)?.store.delete(key)?;
        self.lanes().for_each(|(_, lane)| lane.delete(key.clone()));
        Ok(())
    }

    fn url(&self) -> String {
        self.members[self.source].url.clone()
    }

    fn place(&self) -> String {
        self.source_store().place()
    }

    fn parallelism_hint(&self) -> usize {
        self.members.iter().map(|member| member.store.parallelism_hint()).max().unwrap_or(1)
    }

    fn distrust(&self, key: &ObjectKey) -> bool {
        if self.is_alone { self.members[self.source].store.distrust(key) } else { self.find_whole(key) }
    }

    fn moved_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.store.moved_bytes()).sum()
    }

    fn asked_waits(&self) -> AskedWaits {
        let mut sum = AskedWaits::default();
        for waits in self.members.iter().map(|member| member.store.asked_waits()) {
            sum.under_way_count += waits.under_way_count;
            sum.ended_count += waits.ended_count;
        }
        sum
    }

    fn version_rules(&self) -> Vec<(String, VersionRule)> {
        self.members.iter().flat_map(|member| member.store.version_rules()).collect()
    }

    fn settle_rule(&self, rule: VersionRule) -> bool {
        // Every one of them is told.
        self.members.iter().filter(|member| member.store.settle_rule(rule)).count() > 0
    }

    fn overwritten(&self) -> Vec<String> {
        self.members.iter().flat_map(|member| member.store.overwritten()).collect()
    }

    /// What a bucket has beside objects, where it is the only store; of several each is asked for itself.
    fn cloud(&self) -> Option<&dyn CloudStore> {
        if self.is_alone { self.members[self.source].store.cloud() } else { None }
    }
}

/// Every change under these locks is a single assignment, so a panic elsewhere leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
