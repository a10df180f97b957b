//! Catching up: what a replica lacks is found by its place in the log and by listing what it has, copied, and named by its records.
//!
//! Objects come before the records that make them live, records in their order, deletions last. Every object is checked against the hash in its
//! name on the way; nothing is overwritten. It can be stopped anywhere: what is there is not copied again.
//!
//! A log with a gap, or with a record that is said to be damaged, is copied as it is: whoever can write to the store can bring that about,
//! and what comes behind is not to wait for it. A record that comes to light later is copied then.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coffer_format::id::{PackId, SegmentId, SlotId};
use coffer_format::index::{SEGMENT_HEAD_LEN, SegmentHead};
use coffer_format::limits::{HEADER_LEN_MAX, PACK_LEN_MAX, SLOT_LEN_MAX};
use coffer_format::log::{LogState, Outcome};
use coffer_format::object::{INDEX_PREFIX, ObjectName, PACKS_PREFIX, SLOTS_PREFIX};
use coffer_store::{ItemKind, ListItem, ObjectStore, StoreError};

use super::lane::put_same;
use super::reading::Everywhere;
use super::seen::{LastSeen, remembered};
use super::{Member, Replicas, Standing, lock};
use crate::access::{Access, key_of};
use crate::error::EngineError;
use crate::log::{Ahead, Log, explain};
use crate::parallel;
use crate::refusal::Refusal;

/// Packs copied side by side: each may be 128 MiB long.
const COPIER_COUNT_MAX: usize = 4;
/// What stands in the place of a record and is longer than one can be is copied up to this length.
const OVERSIZE_LEN_MAX: u64 = 64 << 20;
/// Segments after whose packs the records up to them are written.
const WINDOW_COUNT: usize = 64;

/// What was copied to one store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// The store.
    pub store: String,
    /// Records created.
    pub record_count: u64,
    /// Other objects created.
    pub object_count: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Objects deleted that a record has released.
    pub deleted_count: u64,
    /// Released objects that the store does not let be deleted.
    pub undeletable_count: u64,
    /// Objects that no store has whole: the copy lacks them too.
    pub lost: Vec<String>,
    /// Objects that no store which could be asked has whole, while another one could not be asked: they are looked for again next
    /// time, and the log is not copied beyond them.
    pub not_looked_at: Vec<String>,
    /// Records, by number, that the log lacks or has damaged, as somebody says whose word counts: the copy has it as it is.
    pub damaged_records: Vec<u64>,
    /// Why it is not complete; what was copied stays.
    pub error: Option<String>,
}

/// What a replication did.
#[derive(Debug, Clone)]
pub struct ReplicateReport {
    /// The store that was copied from.
    pub source: String,
    /// Number of the record up to which it goes.
    pub next: u64,
    /// One for each store that was written to.
    pub copies: Vec<CopyReport>,
    /// Stores that were not: fenced or not reached, with the reason.
    pub left_out: Vec<(String, String)>,
}

impl ReplicateReport {
    /// Whether every store now holds everything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.left_out.is_empty()
            && self.copies.iter().all(|copy| copy.error.is_none() && copy.lost.is_empty())
    }
}

/// What a store lacks.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Live and removed segments that were added at or behind its place in the log, by the record that added them.
    segments: BTreeMap<(u64, SegmentId), u64>,
    /// Slots and header.
    small: Vec<ObjectName>,
    /// Packs and segments that it has.
    there: BTreeSet<ObjectName>,
}

impl Replicas {
    /// Brings every store in line up to the head of the log, all at once. No key is needed. An empty store becomes a replica only if
    /// `fills_empty` says so: it may be a disk that is not mounted.
    ///
    /// # Errors
    /// When the log cannot be read, or stores were promoted apart. What is wrong with one store is in its report.
    pub fn replicate(&self, access: &Access<'_>, fills_empty: bool) -> Result<ReplicateReport, EngineError> {
        if let Some(refusal @ (Refusal::PromotedApart { .. } | Refusal::HomeBehind { .. })) =
            &*lock(&self.refusal)
        {
            return Err(EngineError::Refused(refusal.clone()));
        }
        let access = Access { store: self, ..*access };
        let log = Log::read(&access, self.vault)?;
        self.name_again(&access, &log.vault)?;
        let seen = remembered(access.cache, &log.vault);
        let may_be_home = matches!(&*lock(&self.refusal), Some(Refusal::HomeEmpty { .. }));
        let mut left_out = Vec::new();
        let mut targets = Vec::new();
        for (at, member) in self.members.iter().enumerate().filter(|(at, _)| *at != self.source) {
            match member.standing() {
                Standing::InLine { next: 0 } if !fills_empty => {
                    left_out.push((member.url.clone(), "it is empty; --new fills it".to_owned()));
                }
                Standing::InLine { next: 0 } if may_be_home && !self.is_home_to_refill(at, &seen, &log) => {
                    let reason = "it is empty and may be the home of the log, which this machine cannot tell; \
                                  `coffer promote` makes a replica the home first";
                    left_out.push((member.url.clone(), reason.to_owned()));
                }
                Standing::InLine { .. } => targets.push(at),
                Standing::Fenced { fork, .. } => {
                    left_out.push((member.url.clone(), format!("its log left the line at record {fork}")));
                }
                Standing::Unreachable { reason } => left_out.push((member.url.clone(), reason)),
            }
        }
        let copied = parallel::at_once(&targets, |at| self.catch_up(&access, &log, *at)).into_iter();
        let gone = |at: usize| CopyReport {
            store: self.members[at].url.clone(),
            error: Some(EngineError::WorkerGone.to_string()),
            ..CopyReport::default()
        };
        let copies = copied.zip(&targets).map(|(copy, at)| copy.unwrap_or_else(|| gone(*at)));
        let copies: Vec<CopyReport> = copies.collect();
        access.check_interrupt()?;
        let whole = |copy: &CopyReport| copy.error.is_none() && copy.lost.is_empty();
        let whole = targets.iter().zip(&copies).filter(|(_, copy)| whole(copy)).map(|(at, _)| (*at, 0));
        self.remember_stores(&access, (&log.vault, &log.state), &whole.collect());
        Ok(ReplicateReport { source: self.url(), next: log.state.next, copies, left_out })
    }

    /// Whether a store that is empty was the home of the log: by the id that it still has, or as this machine remembers. It goes on
    /// as what it was; with another id there would be no home.
    fn is_home_to_refill(&self, at: usize, seen: &BTreeMap<String, LastSeen>, log: &Log) -> bool {
        let member = &self.members[at];
        let home = log.state.home;
        if member.has_id.load(Ordering::Relaxed) {
            return *lock(&member.id) == home;
        }
        let was_home = |seen: &LastSeen| seen.is_home && seen.id == home;
        seen.get(&member.store.place()).is_some_and(was_home)
            && member.set_id(&home).is_ok_and(|id| id == home)
    }

    /// Brings one store in line up to `state`. What is wrong is in the report.
    pub(super) fn catch_up(&self, access: &Access<'_>, log: &Log, at: usize) -> CopyReport {
        let member = &self.members[at];
        let report = Mutex::new(CopyReport { store: member.url.clone(), ..CopyReport::default() });
        let done = self.copy_to(access, log, member, &report);
        let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match done {
            Ok(()) => {
                *lock(&member.standing) = Standing::InLine { next: log.state.next };
                if Some(at) != self.home {
                    self.start_lane(member, log.state.next);
                }
            }
            Err(error) => report.error = Some(explain(&error)),
        }
        report
    }

    fn copy_to(
        &self,
        access: &Access<'_>,
        log: &Log,
        member: &Member,
        report: &Mutex<CopyReport>,
    ) -> Result<(), EngineError> {
        let state = &log.state;
        let Standing::InLine { next: from } = self.place_of(member) else {
            return Err(EngineError::invalid("the store is not in line with the log"));
        };
        let damaged = state.damaged.iter().filter(|number| **number >= from);
        lock(report).damaged_records.extend(damaged);
        // Where no store is known to be the home, one that has lost its id may be.
        if from == 0 || self.home.is_some() {
            member.ensure_id(access.rng)?;
        }
        let plan = self.plan(member, state, from)?;
        for name in &plan.small {
            self.copy(member, *name, SLOT_LEN_MAX.max(HEADER_LEN_MAX), report)?;
        }
        check_all_looked_at(report)?;
        let mut next = from;
        let segments: Vec<_> = plan.segments.iter().collect();
        for window in segments.chunks(WINDOW_COUNT) {
            self.copy_segments(access, member, &plan, window, report)?;
            check_all_looked_at(report)?;
            // All segments of a record are there once one of a later record is at hand.
            let last = window.last().map_or(0, |((number, _), _)| *number);
            next = self.copy_records(access, log, member, next..last, report)?;
        }
        next = self.copy_records(access, log, member, next..state.next, report)?;
        debug_assert_eq!(next, state.next.max(from), "all records were copied");
        self.delete_released(member, state, report)
    }

    /// What a store lacks whose log goes on with record `from`.
    pub(super) fn plan(&self, member: &Member, state: &LogState, from: u64) -> Result<Plan, EngineError> {
        let mut plan = Plan::default();
        let names = |prefix: &str| -> Result<BTreeSet<ObjectName>, StoreError> {
            let mut names = BTreeSet::new();
            member.store.list(prefix, None, &mut |item: ListItem| {
                names.extend(ObjectName::parse(&item.name).filter(|_| item.kind == ItemKind::Object));
                ControlFlow::Continue(())
            })?;
            Ok(names)
        };
        let slots = names(SLOTS_PREFIX)?;
        let current = state.slots.iter().map(|id| ObjectName::Slot(*id));
        plan.small.extend(current.filter(|name| !slots.contains(name)));
        match member.store.stat(&key_of(ObjectName::Header)?) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => plan.small.push(ObjectName::Header),
            Err(error) => return Err(error.into()),
        }
        let all = state.segments.iter().chain(&state.removed);
        let new = all.filter(|(_, segment)| segment.added_by >= from);
        plan.segments.extend(new.map(|(id, segment)| ((segment.added_by, *id), segment.len)));
        if !plan.segments.is_empty() {
            plan.there = names(INDEX_PREFIX)?;
            plan.there.extend(names(PACKS_PREFIX)?);
        }
        Ok(plan)
    }

    /// How many packs, segments, slots a plan has to copy.
    pub(super) fn missing_count(&self, plan: &Plan) -> u64 {
        let mut missing: BTreeSet<ObjectName> = plan.small.iter().copied().collect();
        for ((_, id), len) in &plan.segments {
            if !plan.there.contains(&ObjectName::Segment(*id)) {
                missing.insert(ObjectName::Segment(*id));
            }
            let packs = self.packs_of(*id, *len).unwrap_or_default();
            missing.extend(packs.into_iter().map(ObjectName::Pack).filter(|name| !plan.there.contains(name)));
        }
        missing.len() as u64
    }

    /// The packs that a segment lists.
    pub(super) fn packs_of(&self, id: SegmentId, len: u64) -> Result<Vec<PackId>, EngineError> {
        let key = key_of(ObjectName::Segment(id))?;
        match packs_in(self, id, len) {
            Err(EngineError::Format(_)) if self.distrust(&key) => packs_in(self, id, len),
            packs => packs,
        }
    }

    /// Copies the packs of some segments side by side, then the segments.
    fn copy_segments(
        &self,
        access: &Access<'_>,
        member: &Member,
        plan: &Plan,
        window: &[(&(u64, SegmentId), &u64)],
        report: &Mutex<CopyReport>,
    ) -> Result<(), EngineError> {
        let mut packs = BTreeSet::new();
        for ((_, id), len) in window {
            match self.packs_of(*id, **len) {
                Ok(listed) => packs.extend(listed.into_iter().map(ObjectName::Pack)),
                // A segment that no store has whole is said to be lost when it is copied itself.
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        let packs =
            packs.into_iter().filter(|name| !plan.there.contains(name)).map(|name| (name, PACK_LEN_MAX));
        self.copy_all(access, member, &packs.collect::<Vec<_>>(), report)?;
        let segments = window.iter().map(|((_, id), len)| (ObjectName::Segment(*id), **len));
        let segments: Vec<_> = segments.filter(|(name, _)| !plan.there.contains(name)).collect();
        self.copy_all(access, member, &segments, report)
    }

    fn copy_all(
        &self,
        access: &Access<'_>,
        member: &Member,
        objects: &[(ObjectName, u64)],
        report: &Mutex<CopyReport>,
    ) -> Result<(), EngineError> {
        let taken = AtomicUsize::new(0);
        let work = || -> Result<(), EngineError> {
            while let Some((name, len_max)) = objects.get(taken.fetch_add(1, Ordering::Relaxed)) {
                access.check_interrupt()?;
                self.copy(member, *name, *len_max, report)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            // Where the system gives no more threads, those that there are do the work.
            let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let workers: Vec<_> = (1..COPIER_COUNT_MAX.min(objects.len())).map_while(start).collect();
            let own = work();
            let ended =
                workers.into_iter().map(|worker| worker.join().map_err(|_| EngineError::WorkerGone)?);
            // All are waited for, whatever one says.
            ended.fold(own, Result::and)
        })
    }

    /// Copies one object; one that no store has whole is noted, and the copy goes on.
    fn copy(
        &self,
        member: &Member,
        name: ObjectName,
        len_max: u64,
        report: &Mutex<CopyReport>,
    ) -> Result<(), EngineError> {
        let key = key_of(name)?;
        let mut bytes = Vec::new();
        let is_whole = match self.read(&key, len_max, &mut bytes) {
            Ok(()) => self.fits(name, &bytes),
            Err(error) if error.is_not_found() => false,
            Err(StoreError::TooLong { .. } | StoreError::NotAnObject { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if !is_whole {
            match self.look_everywhere(name, &key, len_max) {
                Everywhere::Whole(found) => bytes = found,
                Everywhere::Lost => {
                    lock(report).lost.push(name.to_string());
                    return Ok(());
                }
                Everywhere::NotLookedAt(reason) => {
                    lock(report).not_looked_at.push(format!("{name}: {reason}"));
                    return Ok(());
                }
            }
        }
        if put_same(&*member.store, &key, &bytes)? {
            let mut report = lock(report);
            report.object_count += 1;
            report.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Copies these records; what is missing in the log stays so. Returns the number that comes next.
    fn copy_records(
        &self,
        access: &Access<'_>,
        log: &Log,
        member: &Member,
        numbers: Range<u64>,
        report: &Mutex<CopyReport>,
    ) -> Result<u64, EngineError> {
        let mut bytes = Vec::new();
        // Read side by side, and written in order.
        let mut ahead = Ahead::new(self, numbers.end.saturating_sub(1));
        for number in numbers.clone() {
            access.check_interrupt()?;
            match ahead.read(number, &mut bytes)? {
                Ok(()) => put_record(member, number, &bytes, report)?,
                Err(error) if error.is_not_found() && log.outcome(number) == Outcome::Missing => {}
                Err(error) => self.copy_oversize(member, number, error, report)?,
            }
            *lock(&member.standing) = Standing::InLine { next: number + 1 };
        }
        Ok(numbers.start.max(numbers.end))
    }

    /// Copies what stands in the place of a record and is too long for one, as `error` says. It is void, but its bytes count in the chain; so
    /// much of it that nobody would want to copy it is left out, and counts as missing in the copy.
    fn copy_oversize(
        &self,
        member: &Member,
        number: u64,
        error: StoreError,
        report: &Mutex<CopyReport>,
    ) -> Result<(), EngineError> {
        match error {
            StoreError::TooLong { len, .. } if len <= OVERSIZE_LEN_MAX => {
                let mut bytes = Vec::new();
                self.read(&key_of(ObjectName::Record(number))?, len, &mut bytes)?;
                put_record(member, number, &bytes, report)
            }
            StoreError::TooLong { .. } => {
                lock(report).damaged_records.push(number);
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    /// Deletes what the records that the store now holds have released, and the source does not have any more.
    fn delete_released(
        &self,
        member: &Member,
        state: &LogState,
        report: &Mutex<CopyReport>,
    ) -> Result<(), EngineError> {
        let mut released: Vec<ObjectName> = Vec::new();
        let mut visit = |item: ListItem| {
            let name = ObjectName::parse(&item.name);
            released.extend(name.filter(|name| match name {
                ObjectName::Slot(id) => is_released(state, id),
                ObjectName::Segment(id) => {
                    state.swept_segments.contains(id) && !state.segments.contains_key(id)
                }
                ObjectName::Pack(id) => state.swept_packs.contains(id),
                _ => false,
            }));
            ControlFlow::Continue(())
        };
        member.store.list(SLOTS_PREFIX, None, &mut visit)?;
        if !state.swept_segments.is_empty() || !state.swept_packs.is_empty() {
            member.store.list(INDEX_PREFIX, None, &mut visit)?;
            member.store.list(PACKS_PREFIX, None, &mut visit)?;
        }
        let source = &self.members[self.source].store;
        for name in released {
            let key = key_of(name)?;
            // The source deletes first: what it kept may be kept for a reason.
            if !source.stat(&key).is_err_and(|error| error.is_not_found()) {
                continue;
            }
            match member.store.delete(&key) {
                Ok(()) => lock(report).deleted_count += 1,
                Err(StoreError::Denied { .. }) => lock(report).undeletable_count += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn put_record(
    member: &Member,
    number: u64,
    bytes: &[u8],
    report: &Mutex<CopyReport>,
) -> Result<(), EngineError> {
    if put_same(&*member.store, &key_of(ObjectName::Record(number))?, bytes)? {
        let mut report = lock(report);
        report.record_count += 1;
        report.bytes += bytes.len() as u64;
    }
    Ok(())
}

/// The packs that a segment lists, as a store has it.
pub(super) fn packs_in(store: &dyn ObjectStore, id: SegmentId, len: u64) -> Result<Vec<PackId>, EngineError> {
    let key = key_of(ObjectName::Segment(id))?;
    let mut head = vec![0; usize::try_from(SEGMENT_HEAD_LEN).unwrap_or_default()];
    store.read_range(&key, 0, &mut head)?;
    let head = SegmentHead::decode(&head, len)?;
    let mut table = vec![0; usize::try_from(head.pack_table_len()).unwrap_or_default()];
    store.read_range(&key, SEGMENT_HEAD_LEN, &mut table)?;
    Ok(head.decode_packs(&table)?.into_iter().map(|row| row.id).collect())
}

/// A record is created only where everything that it needs is, or is known to be nowhere.
fn check_all_looked_at(report: &Mutex<CopyReport>) -> Result<(), EngineError> {
    let report = lock(report);
    let Some(first) = report.not_looked_at.first() else { return Ok(()) };
    let count = report.not_looked_at.len();
    Err(EngineError::invalid(format!(
        "{count} object(s) may be whole in a store that could not be asked; run `coffer replicate` again when it answers. {first}"
    )))
}

/// Whether a record has named the slot and a later one does not. One that no record names is about to be, or was left over.
fn is_released(state: &LogState, id: &SlotId) -> bool {
    let was_named = state.named_slots.as_ref().is_some_and(|named| named.contains(id));
    was_named && state.slots.binary_search(id).is_err()
}
