//! Reading from several stores: from the first one that has the object whole, and answers in time.
//!
//! Whole objects that are named by their hash are checked against it; records are checked for being whole. A range cannot be
//! checked here: whoever finds it wrong says so ([`ObjectStore::distrust`]), and then all copies are read and one that fits its name is kept to.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coffer_crypto::hash::hash;
use coffer_format::header::Header;
use coffer_format::limits::{INDEX_LEN_MAX, PACK_LEN_MAX, RECORD_LEN_MAX, SLOT_LEN_MAX};
use coffer_format::log::LogState;
use coffer_format::object::ObjectName;
use coffer_format::record::{Record, chain_value};
use coffer_pipeline::record::signature_is_good;
use coffer_store::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::survey::is_sound;
use super::{Member, Replicas, Standing, lock};
use crate::access::key_of;
use crate::log::explain;

/// What was found of an object in all stores together.
pub(super) enum Everywhere {
    Whole(Vec<u8>),
    /// All were asked, and none has it whole.
    Lost,
    /// None of those that were asked has it whole, and one could not be asked, for this reason.
    NotLookedAt(String),
}

/// A store from which another one had to take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedOver {
    /// The store.
    pub store: String,
    /// How many reads others answered for it.
    pub count: u64,
    /// Of these, how many were of objects that it lacks or has damaged.
    pub damaged_count: u64,
    /// What was met last.
    pub last: String,
}

/// A store that was named and cannot be opened: every call fails, and the vault goes on without it.
#[derive(Debug)]
pub struct UnreachableStore {
    url: String,
    reason: String,
}

impl UnreachableStore {
    /// The store at `url`, which cannot be opened because of `reason`.
    #[must_use]
    pub const fn new(url: String, reason: String) -> Self {
        Self { url, reason }
    }

    fn fail<T>(&self, name: &str) -> Result<T, StoreError> {
        let source = self.reason.clone().into();
        Err(StoreError::Unavailable { name: name.to_owned(), store: self.url.clone(), source })
    }
}

impl ObjectStore for UnreachableStore {
    fn put_if_absent(&self, key: &ObjectKey, _: &[u8]) -> Result<PutOutcome, StoreError> {
        self.fail(key.as_str())
    }

    fn read(&self, key: &ObjectKey, _: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        out.clear();
        self.fail(key.as_str())
    }

    fn read_range(&self, key: &ObjectKey, _: u64, _: &mut [u8]) -> Result<(), StoreError> {
        self.fail(key.as_str())
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.fail(key.as_str())
    }

    fn list(
        &self,
        prefix: &str,
        _: Option<&str>,
        _: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.fail(prefix)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.fail(key.as_str())
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

/// Whether an error speaks of an object, and not of the way to its store.
const fn is_of_object(error: &StoreError) -> bool {
    !error.is_of_store() || matches!(error, StoreError::Hidden { .. } | StoreError::Io { .. })
}

impl Replicas {
    /// Another store had to answer for the one at `at`.
    pub(super) fn note_failure(&self, at: usize, error: &StoreError) {
        let member = &self.members[at];
        if error.is_not_found() && self.need_not_hold(at) {
            return;
        }
        member.failed_count.fetch_add(1, Ordering::Relaxed);
        if is_of_object(error) {
            member.damaged_count.fetch_add(1, Ordering::Relaxed);
        }
        *lock(&member.last_failure) = explain(error);
        // One that does not answer is asked last from now on; one that lacks an object may have all others.
        if matches!(error, StoreError::Unavailable { .. } | StoreError::NoToken { .. }) {
            member.is_demoted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a store may lack objects without being damaged: a fenced one, or a replica that is behind.
    fn need_not_hold(&self, at: usize) -> bool {
        let member = &self.members[at];
        let is_behind = || {
            let is_broken = member.lane.get().is_some_and(|lane| lane.broken().is_some());
            is_broken || self.known_next(at) < self.next()
        };
        match member.standing() {
            Standing::InLine { .. } => at != self.source && is_behind(),
            _ => true,
        }
    }

    /// Stores that others had to stand in for.
    #[must_use]
    pub fn failed_over(&self) -> Vec<FailedOver> {
        let failed = self.members.iter().filter_map(|member| {
            let count = member.failed_count.load(Ordering::Relaxed);
            let damaged_count = member.damaged_count.load(Ordering::Relaxed);
            let (store, last) = (member.url.clone(), lock(&member.last_failure).clone());
            (count > 0 && !self.is_alone).then_some(FailedOver { store, count, damaged_count, last })
        });
        failed.collect()
    }

    /// The stores to ask for an object, best first.
    pub(super) fn order(&self, key: Option<&ObjectKey>) -> Vec<usize> {
        let pinned = key.and_then(|key| lock(&self.pinned).get(key.as_str()).copied());
        let record = match key.and_then(|key| ObjectName::parse(key.as_str())) {
            Some(ObjectName::Record(number)) => Some(number),
            _ => None,
        };
        let rank = |at: usize| {
            let member = &self.members[at];
            let answers = match (member.standing(), record) {
                (Standing::Unreachable { .. }, _) | (Standing::Fenced { .. }, Some(_)) => None,
                // A record that a replica has not got yet is absent there, which says nothing.
                (Standing::InLine { .. }, Some(number)) if at != self.source => {
                    (number < self.known_next(at)).then_some(2)
                }
                (Standing::InLine { .. }, _) => Some(if at == self.source { 1 } else { 2 }),
                (Standing::Fenced { .. }, None) => Some(3),
            };
            let demoted = if member.is_demoted.load(Ordering::Relaxed) { 10 } else { 0 };
            answers.map(|rank| if pinned == Some(at) { 0 } else { rank + demoted })
        };
        let mut order: Vec<_> = (0..self.members.len()).filter_map(|at| Some((rank(at)?, at))).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, at)| at).collect()
    }

    /// Number of the record with which the log of a replica goes on.
    fn known_next(&self, at: usize) -> u64 {
        let member = &self.members[at];
        match (member.lane.get(), member.standing()) {
            (Some(lane), _) => lane.next(),
            (None, Standing::InLine { next }) => next,
            _ => 0,
        }
    }

    /// The first store that gives what `ask` wants, which is told whether it asks the last one. If none does, the gravest failure, as seen from the one asked first.
    pub(super) fn first_answer<T>(
        &self,
        key: &ObjectKey,
        ask: &mut dyn FnMut(&Member, bool) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let order = self.order(Some(key));
        let mut failures: Vec<(usize, StoreError)> = Vec::new();
        for (place, at) in order.iter().copied().enumerate() {
            match ask(&self.members[at], place + 1 == order.len()) {
                Ok(answer) => {
                    failures.iter().for_each(|(at, error)| self.note_failure(*at, error));
                    return Ok(answer);
                }
                Err(error) => failures.push((at, error)),
            }
        }
        for (at, error) in &failures {
            if matches!(error, StoreError::Unavailable { .. }) {
                self.members[*at].is_demoted.store(true, Ordering::Relaxed);
            }
        }
        // That one does not have it proves nothing while another one cannot be asked.
        let gravest = failures.iter().position(|(_, error)| !error.is_not_found()).unwrap_or_default();
        if failures.is_empty() {
            let source = "none of the stores answers".into();
            return Err(StoreError::Unavailable { name: key.to_string(), store: self.url(), source });
        }
        Err(failures.swap_remove(gravest).1)
    }

    pub(super) fn read_whole(
        &self,
        key: &ObjectKey,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let name = ObjectName::parse(key.as_str());
        let mut wrong: Option<Vec<u8>> = None;
        let answer = self.first_answer(key, &mut |member, is_last| {
            let (store, asked) = (Arc::clone(&member.store), key.clone());
            let bytes = self.within_patience(member, key, is_last, move || {
                let mut bytes = Vec::new();
                store.read(&asked, len_max, &mut bytes).map(|()| bytes)
            })?;
            if name.is_none_or(|name| self.fits(name, &bytes)) {
                return Ok(bytes);
            }
            if let Some(name) = name
                && let Some(bytes) = self.older_version(member, name, key, len_max)
            {
                return Ok(bytes);
            }
            wrong.get_or_insert(bytes);
            let (name, store) = (key.to_string(), member.url.clone());
            Err(StoreError::Io {
                name,
                store,
                source: "its bytes are not those that its name stands for".into(),
            })
        });
        match (answer, wrong) {
            (Ok(bytes), _) => *out = bytes,
            // No store has it whole: the reader says what is wrong with it.
            (Err(_), Some(bytes)) => *out = bytes,
            (Err(error), None) => {
                out.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn read_part(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let len = out.len();
        let bytes = self.first_answer(key, &mut |member, is_last| {
            let (store, asked) = (Arc::clone(&member.store), key.clone());
            self.within_patience(member, key, is_last, move || {
                let mut bytes = vec![0; len];
                store.read_range(&asked, offset, &mut bytes).map(|()| bytes)
            })
        })?;
        out.copy_from_slice(&bytes);
        Ok(())
    }

    /// What a store that keeps versions has of an object that was laid over, if that is whole.
    fn older_version(
        &self,
        member: &Member,
        name: ObjectName,
        key: &ObjectKey,
        len_max: u64,
    ) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let is_whole = member.store.distrust(key)
            && member.store.read(key, len_max, &mut bytes).is_ok()
            && self.fits(name, &bytes);
        is_whole.then_some(bytes)
    }

    /// Looks for an object in each store for itself.
    pub(super) fn look_everywhere(&self, name: ObjectName, key: &ObjectKey, len_max: u64) -> Everywhere {
        let mut not_asked = None;
        let mut bytes = Vec::new();
        for member in &self.members {
            if let Standing::Unreachable { reason } = member.standing() {
                not_asked.get_or_insert(format!("{} is not reached: {reason}", member.url));
                continue;
            }
            match member.store.read(key, len_max, &mut bytes) {
                Ok(()) if self.fits(name, &bytes) => return Everywhere::Whole(bytes),
                Err(error) if error.is_of_store() && !error.is_not_found() => {
                    not_asked.get_or_insert(explain(&error));
                }
                Ok(()) | Err(_) => {
                    if let Some(bytes) = self.older_version(member, name, key, len_max) {
                        return Everywhere::Whole(bytes);
                    }
                }
            }
        }
        not_asked.map_or(Everywhere::Lost, Everywhere::NotLookedAt)
    }

    /// Whether these bytes can be the object of that name, as far as that shows without a key.
    pub(super) fn fits(&self, name: ObjectName, bytes: &[u8]) -> bool {
        match name {
            ObjectName::Pack(id) => hash(bytes) == id.0,
            ObjectName::Segment(id) => hash(bytes) == id.0,
            ObjectName::Slot(id) => hash(bytes) == id.0,
            ObjectName::Header => self.vault.is_none_or(|vault| Header::vault_id(bytes) == vault),
            // Whether its signer is enrolled is for the replay to find out, which says so if not.
            ObjectName::Record(number) => is_sound(number, bytes)
                .is_some_and(|record| self.vault.is_none_or(|vault| record.public.vault == vault)),
            ObjectName::Store => true,
        }
    }

    /// Reads every copy of an object that was found wrong, and keeps to one that is whole. Says whether trying once more is worth it.
    pub(super) fn find_whole(&self, key: &ObjectKey) -> bool {
        let Some(name) = ObjectName::parse(key.as_str()) else { return false };
        let len_max = match name {
            ObjectName::Pack(_) => PACK_LEN_MAX,
            ObjectName::Segment(_) => INDEX_LEN_MAX,
            ObjectName::Slot(_) => SLOT_LEN_MAX,
            ObjectName::Header | ObjectName::Store | ObjectName::Record(_) => RECORD_LEN_MAX,
        };
        // Another thread may have met the same damage before, and this one have read before that.
        if lock(&self.pinned).contains_key(key.as_str()) {
            return true;
        }
        let order = self.order(Some(key));
        let found = match name {
            ObjectName::Record(number) => self.find_record(&order, key, number),
            _ => order.iter().enumerate().find_map(|(place, at)| {
                let member = &self.members[*at];
                let mut bytes = Vec::new();
                let is_whole = member.store.read(key, len_max, &mut bytes).is_ok() && self.fits(name, &bytes);
                if is_whole {
                    return Some((place, false));
                }
                self.older_version(member, name, key, len_max).map(|_| (place, true))
            }),
        };
        let Some((place, is_older)) = found else { return false };
        lock(&self.pinned).insert(key.to_string(), order[place]);
        if let Some(first) = order.first().filter(|_| place > 0) {
            let (name, store) = (key.to_string(), self.members[*first].url.clone());
            let source = "its bytes are not those that its name stands for".into();
            self.note_failure(*first, &StoreError::Io { name, store, source });
        }
        place > 0 || is_older
    }

    /// The store, by its place in `order`, whose copy of a record is the one that counts, and whether that is an older version there;
    /// `None` where all copies are the same.
    fn find_record(&self, order: &[usize], key: &ObjectKey, number: u64) -> Option<(usize, bool)> {
        let read = |at: usize| {
            let mut bytes = Vec::new();
            self.members[at].store.read(key, RECORD_LEN_MAX, &mut bytes).ok().map(|()| bytes)
        };
        let copies: Vec<_> = order.iter().map(|at| read(*at)).collect();
        let mut there = copies.iter().flatten();
        let first = there.next();
        let differ = there.any(|bytes| Some(bytes) != first);
        // Only what differs is worth a replay.
        if differ {
            let judge = self.judge_of_records()?;
            let counts = |copy: &Option<Vec<u8>>| {
                copy.as_ref().is_some_and(|bytes| self.is_vouched_for(&judge, number, bytes))
            };
            if let Some(place) = copies.iter().position(counts) {
                return (place > 0).then_some((place, false));
            }
        }
        for (place, at) in order.iter().enumerate() {
            if self.members[*at].store.distrust(key)
                && let Some(bytes) = read(*at)
                && self.is_vouched_for(&self.judge_of_records()?, number, &bytes)
            {
                return Some((place, true));
            }
        }
        None
    }

    /// Who is enrolled, as the log that is read tells it.
    pub(super) fn judge_of_records(&self) -> Option<LogState> {
        super::survey::replay(self.source_store()).ok().flatten()
    }

    /// Whether somebody enrolled vouches for a record: who signed the one behind it, in a store in line, or, where there is none, who
    /// signed it.
    pub(super) fn is_vouched_for(&self, judge: &LogState, number: u64, bytes: &[u8]) -> bool {
        let Ok(key) = key_of(ObjectName::Record(number + 1)) else { return false };
        let mut behind = Vec::new();
        let in_line =
            self.members.iter().filter(|member| matches!(member.standing(), Standing::InLine { .. }));
        let mut previous = in_line.filter_map(|member| {
            member.store.read(&key, RECORD_LEN_MAX, &mut behind).ok()?;
            let is_evidence = judge.is_evidence(number + 1, &behind, &signature_is_good);
            is_evidence.then(|| Record::decode(&behind).ok().map(|record| record.public.previous))?
        });
        let chain = chain_value(bytes);
        match previous.next() {
            Some(first) => first == chain && previous.all(|previous| previous == chain),
            None => judge.is_evidence(number, bytes, &signature_is_good),
        }
    }

    /// What `ask` gives, unless nothing comes from the store for so long that another one is better asked: one over a slow line is
    /// waited for. So is the last one.
    pub(super) fn within_patience<T: Send + 'static>(
        &self,
        member: &Member,
        key: &ObjectKey,
        is_last: bool,
        ask: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Some(patience) = self.options.read_patience.filter(|_| !is_last) else { return ask() };
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.helpers.run(Box::new(move || {
            // Nobody listens any more if it took too long.
            drop(reply.send(ask()));
        }));
        let mut moved = member.store.moved_bytes();
        loop {
            match answer.recv_timeout(patience) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if member.store.moved_bytes() != moved => {
                    moved = member.store.moved_bytes();
                }
                Err(_) => {
                    let source = format!("nothing came within {} ms", patience.as_millis()).into();
                    let (name, store) = (key.to_string(), member.url.clone());
                    return Err(StoreError::Unavailable { name, store, source });
                }
            }
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Threads that make calls which may hang. There is always one for each call, so no call waits for another.
pub(super) struct Helpers {
    work: Sender<Work>,
    queue: Receiver<Work>,
    idle: Arc<AtomicUsize>,
}

impl Default for Helpers {
    fn default() -> Self {
        let (work, queue) = crossbeam_channel::unbounded();
        Self { work, queue, idle: Arc::default() }
    }
}

impl Helpers {
    fn run(&self, work: Work) {
        let reserve = |idle: usize| idle.checked_sub(1);
        if self.idle.fetch_update(Ordering::AcqRel, Ordering::Acquire, reserve).is_err() {
            let (queue, idle) = (self.queue.clone(), Arc::clone(&self.idle));
            let started = std::thread::Builder::new().spawn(move || {
                for work in queue {
                    work();
                    idle.fetch_add(1, Ordering::AcqRel);
                }
            });
            if started.is_err() {
                // Where the system gives no more threads, whoever asks waits for the answer.
                return work();
            }
        }
        // The receiving end lives as long as this.
        drop(self.work.send(work));
    }
}
