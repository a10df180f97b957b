//! When a backup is acknowledged, and how far each store is behind.

use std::collections::BTreeMap;
use std::io::Read;
use std::str::FromStr;
use std::time::Instant;

use coffer_format::id::Head;
use coffer_format::log::LogState;
use crossbeam_channel::Sender;

use super::lane::Lane;
use super::seen::{LastSeen, last_seen, remembered};
use super::{Member, Replicas, Standing, lock};
use crate::access::Access;
use crate::error::EngineError;
use crate::log::{Log, explain};
use crate::refusal::HomeId;

/// On how many stores record and objects have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// On the home.
    Primary,
    /// On the home and another one; with one store, on that.
    #[default]
    Two,
    /// On all stores.
    All,
}

impl Ack {
    /// How many of `store_count` stores that is.
    #[must_use]
    pub fn count(self, store_count: usize) -> usize {
        match self {
            Self::Primary => 1,
            Self::Two => store_count.min(2),
            Self::All => store_count,
        }
    }
}

impl FromStr for Ack {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "primary" => Ok(Self::Primary),
            "two" => Ok(Self::Two),
            "all" => Ok(Self::All),
            _ => Err(EngineError::invalid("expected primary, two or all")),
        }
    }
}

/// How far a store is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The store.
    pub store: String,
    /// Records that it lacks; `None` where that is not known.
    pub record_count: Option<u64>,
    /// Objects that it lacks; `None` where that is not known.
    pub object_count: Option<u64>,
    /// Why.
    pub reason: String,
}

/// Which stores hold a record with all its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The record.
    pub head: Head,
    /// On how many stores it had to be.
    pub wanted_count: usize,
    /// Whether it is.
    pub is_acknowledged: bool,
    /// The stores that hold it, the home first.
    pub holders: Vec<String>,
    /// The others.
    pub lagging: Vec<Lag>,
}

/// A store as `replicate --status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Its address.
    pub store: String,
    /// Its id.
    pub id: HomeId,
    /// Whether it is the home of the log.
    pub is_home: bool,
    /// How it stands to the log.
    pub standing: Standing,
    /// Records that it lacks.
    pub behind_records: Option<u64>,
    /// Objects that it lacks.
    pub behind_objects: Option<u64>,
    /// If it is not reached: what this machine saw of it last.
    pub last_seen: Option<LastSeen>,
}

impl Replicas {
    /// Waits for the replicas, and says which stores hold the record `head` with everything that it needs. If they are too few, those
    /// that answer are caught up to `log` first.
    ///
    /// # Errors
    /// When the home cannot be asked any more.
    pub fn acknowledge(&self, access: &Access<'_>, log: &Log, head: Head) -> Result<Receipt, EngineError> {
        let wanted_count = self.options.ack.count(self.members.len());
        if self.is_alone {
            let holders = vec![self.members[0].url.clone()];
            return Ok(Receipt { head, wanted_count, is_acknowledged: true, holders, lagging: Vec::new() });
        }
        self.settle(head, wanted_count);
        let mut holders = self.holders(head);
        let access = Access { store: self, ..*access };
        let mut failures = BTreeMap::new();
        // Stores that have the record and not everything that it needs.
        let mut incomplete = std::collections::BTreeSet::new();
        for (at, member) in self.members.iter().enumerate() {
            // An empty store is not filled unasked, and one that hangs is not asked again.
            let is_stalled = member.lane.get().is_some_and(Lane::is_stalled);
            let is_candidate = matches!(self.place_of(member), Standing::InLine { next } if next > 0)
                && Some(at) != self.home
                && !is_stalled;
            if holders.len() >= wanted_count || holders.contains(&at) || !is_candidate {
                continue;
            }
            let copied = self.catch_up(&access, log, at);
            if let Some(first) = copied.lost.first() {
                incomplete.insert(at);
                failures.insert(at, format!("no store has {first} whole"));
            }
            failures.extend(copied.error.map(|error| (at, error)));
            holders = self.holders(head);
            holders.retain(|at| !incomplete.contains(at));
        }
        let mut lagging = Vec::new();
        let mut behind_objects: BTreeMap<_, _> = holders.iter().map(|at| (*at, 0)).collect();
        for (at, member) in self.members.iter().enumerate().filter(|(at, _)| !holders.contains(at)) {
            let lag = self.lag(member, &log.state, failures.remove(&at));
            behind_objects.extend(lag.object_count.map(|count| (at, count)));
            lagging.push(lag);
        }
        self.remember_stores(&access, (&log.vault, &log.state), &behind_objects);
        let is_acknowledged = holders.len() >= wanted_count;
        let holders = holders.into_iter().map(|at| self.members[at].url.clone()).collect();
        Ok(Receipt { head, wanted_count, is_acknowledged, holders, lagging })
    }

    /// Waits until enough replicas have what was sent to them, and for a while for the others.
    fn settle(&self, head: Head, wanted_count: usize) {
        let lanes: Vec<_> = self.lanes().collect();
        std::thread::scope(|scope| {
            let (done_in, done) = crossbeam_channel::unbounded();
            let wait = move |lane: &Lane, done_in: Sender<()>| {
                while lane.next() <= head.number && lane.broken().is_none() && lane.is_busy() {
                    lane.wait();
                }
                // The receiver lives until all have said so.
                let _ = done_in.send(());
            };
            for (_, lane) in &lanes {
                let (lane, told) = (*lane, done_in.clone());
                let started = std::thread::Builder::new().spawn_scoped(scope, move || wait(lane, told));
                if started.is_err() {
                    // Where the system gives no more threads, they are waited for one after the other.
                    wait(lane, done_in.clone());
                }
            }
            drop(done_in);
            while self.holders(head).len() < wanted_count && done.recv().is_ok() {}
            let deadline = Instant::now() + self.options.linger;
            for (_, lane) in &lanes {
                lane.drain(Some(deadline));
            }
        });
    }

    /// The stores that hold a record, by position, the home first.
    fn holders(&self, head: Head) -> Vec<usize> {
        let holds = |member: &Member| member.lane.get().is_some_and(|lane| lane.next() > head.number);
        let replicas =
            self.members.iter().enumerate().filter(|(at, member)| Some(*at) != self.home && holds(member));
        self.home.into_iter().chain(replicas.map(|(at, _)| at)).collect()
    }

    fn lag(&self, member: &Member, state: &LogState, failure: Option<String>) -> Lag {
        let broken = member.lane.get().and_then(Lane::broken);
        let (record_count, reason) = match self.place_of(member) {
            Standing::InLine { next } => {
                let reason =
                    failure.or(broken).unwrap_or_else(|| "it was behind when the backup began".to_owned());
                (Some(state.next.saturating_sub(next)), reason)
            }
            Standing::Fenced { fork, .. } => (None, format!("its log left the line at record {fork}")),
            Standing::Unreachable { reason } => (None, reason),
        };
        let is_stalled = member.lane.get().is_some_and(Lane::is_stalled);
        let object_count = record_count.filter(|_| !is_stalled).and_then(|behind| {
            let plan = self.plan(member, state, state.next.saturating_sub(behind)).ok()?;
            Some(self.missing_count(&plan))
        });
        Lag { store: member.url.clone(), record_count, object_count, reason }
    }

    /// How a store stands now, with what was written to it in this run.
    pub(super) fn place_of(&self, member: &Member) -> Standing {
        match (member.lane.get(), member.standing()) {
            (Some(lane), Standing::InLine { .. }) => Standing::InLine { next: lane.next() },
            (_, standing) => standing,
        }
    }

    /// How each store stands to the log that is read now.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn status(&self, access: &Access<'_>) -> Result<(Log, Vec<StoreStatus>), EngineError> {
        let access = Access { store: self, ..*access };
        let log = Log::read(&access, self.vault)?;
        let seen = remembered(access.cache, &log.vault);
        let status = self.members.iter().enumerate().map(|(at, member)| {
            let standing =
                if self.is_alone { Standing::InLine { next: log.state.next } } else { self.place_of(member) };
            let is_source = at == self.source;
            let behind_records = match &standing {
                Standing::InLine { .. } if is_source => Some(0),
                Standing::InLine { next } => Some(log.state.next.saturating_sub(*next)),
                _ => None,
            };
            let behind_objects = match (behind_records, &standing) {
                (Some(_), _) if is_source => Some(0),
                (Some(_), Standing::InLine { next }) => {
                    self.plan(member, &log.state, *next).ok().map(|plan| self.missing_count(&plan))
                }
                _ => None,
            };
            let id = if self.is_alone { self.home_id().unwrap_or_default() } else { *lock(&member.id) };
            let is_home = self.home == Some(at) && id == log.state.home;
            let is_unreachable = matches!(standing, Standing::Unreachable { .. });
            let last_seen = last_seen(&seen, &*member.store).filter(|_| is_unreachable).cloned();
            let store = member.url.clone();
            StoreStatus { store, id, is_home, standing, behind_records, behind_objects, last_seen }
        });
        let status: Vec<_> = status.collect();
        let counted = status.iter().enumerate();
        let behind_objects = counted.filter_map(|(at, status)| Some((at, status.behind_objects?))).collect();
        self.remember_stores(&access, (&log.vault, &log.state), &behind_objects);
        Ok((log, status))
    }

    /// Remembers which snapshots were seen, and that the vault is at each of these addresses, for the day on which the home is lost.
    /// Returns what could not be remembered.
    pub fn remember(&self, access: &Access<'_>, log: &Log) -> Option<String> {
        let cache = access.cache?;
        let known = log.state.snapshots.iter().filter(|snapshot| !snapshot.forgotten);
        let text: String = known
            .map(|snapshot| format!("{} {} {}\n", snapshot.number, snapshot.id, snapshot.time_s))
            .collect();
        let write = || -> Result<(), EngineError> {
            for member in self.members.iter().filter(|_| !self.is_alone) {
                cache.set_location(&member.store.place(), &log.vault)?;
            }
            let mut there = String::new();
            let file = cache.open_file(&log.vault, super::home::SEEN_FILE);
            let read = file.map(|file| file.take(text.len() as u64 + 1).read_to_string(&mut there));
            if matches!(read, Some(Ok(_))) && there == text {
                return Ok(());
            }
            cache.write_file(&log.vault, super::home::SEEN_FILE, &mut |out| out.write_all(text.as_bytes()))
        };
        write()
            .err()
            .map(|error| format!("which snapshots were seen cannot be remembered: {}", explain(&error)))
    }
}
