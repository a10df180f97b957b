//! Taking over what a fenced store committed after the fork.
//!
//! Snapshots and progress records are quoted whole, so they keep ids and signatures; everything else that was committed there after the fork is
//! void. Objects come first, as in any commit.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use coffer_format::id::{Head, SnapshotId};
use coffer_format::limits::{INDEX_LEN_MAX, PACK_LEN_MAX, RECORD_LEN_MAX};
use coffer_format::log::{LogState, Outcome, StoredRecord};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, Record, RecordKind, SegmentAdded, chain_value};
use coffer_pipeline::record::{seal_record, signature_is_good};
use coffer_store::{ObjectKey, ObjectStore, StoreError};

use super::copy::packs_in;
use super::survey::{chain_at, replay};
use super::{Replicas, Standing, lock};
use crate::access::{Access, key_of, put_new};
use crate::error::EngineError;
use crate::log::{Log, explain};
use crate::vault::Vault;

/// Quoted bytes in one record: a public part holds at most 4 MiB.
const QUOTED_LEN_MAX: usize = 3 << 20;

/// What became of a store that was to come back into line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejoined {
    /// The store.
    pub store: String,
    /// Records removed from it.
    pub removed_count: u64,
    /// Whether its log still leaves the line.
    pub is_fenced: bool,
    /// Why it is fenced, or not complete.
    pub error: Option<String>,
}

/// What was taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// Fenced stores, and the numbers of the records at which they left the line.
    pub fenced: Vec<(String, u64)>,
    /// Snapshots taken over.
    pub snapshots: Vec<SnapshotId>,
    /// Progress records taken over.
    pub progress_count: u64,
    /// Records that are void: those that forget, prune, sweep and the like.
    pub void_count: u64,
    /// Snapshots that could not be taken over, with the reason.
    pub refused: Vec<(SnapshotId, String)>,
    /// Objects of what was taken over that no store has whole.
    pub lost: BTreeSet<String>,
    /// Objects copied.
    pub object_count: u64,
    /// The records that quote them.
    pub heads: Vec<Head>,
    /// Stores that were to come back into line.
    pub rejoined: Vec<Rejoined>,
}

/// The id of a version in a bucket that keeps none.
const UNVERSIONED: &str = "null";

/// A record to be quoted.
struct Quote {
    bytes: Vec<u8>,
    id: SnapshotId,
    kind: RecordKind,
    segments: Vec<SegmentAdded>,
}

impl Replicas {
    /// Takes over the snapshots of every fenced store that answers; with `rejoin`, removes what they have behind the fork and catches them up.
    ///
    /// # Errors
    /// When nothing can be committed, or an object can be read from no store.
    pub fn reconcile(&self, vault: &mut Vault<'_>, rejoin: bool) -> Result<ReconcileReport, EngineError> {
        self.check_writable()?;
        vault.signing_key()?;
        let mut report = ReconcileReport::default();
        for (at, member) in self.members.iter().enumerate() {
            let Standing::Fenced { fork, .. } = member.standing() else { continue };
            report.fenced.push((member.url.clone(), fork));
            let refused_before = report.refused.len();
            let (quotes, end) = self.quotes(at, fork, vault, &mut report)?;
            self.take_over(vault, at, quotes, &mut report)?;
            if rejoin {
                // What was not taken over is nowhere else.
                let left_count = report.refused.len() - refused_before;
                let rejoined = match left_count {
                    0 => self.rejoin(vault, at, fork, end),
                    _ => Rejoined {
                        store: member.url.clone(),
                        removed_count: 0,
                        is_fenced: true,
                        error: Some(format!(
                            "{left_count} snapshot(s) of it could not be taken over; it is left as it is"
                        )),
                    },
                };
                report.rejoined.push(rejoined);
            }
        }
        Ok(report)
    }

    /// What is to be quoted of the store at `at`, and the number of the record that would come next there.
    fn quotes(
        &self,
        at: usize,
        fork: u64,
        vault: &Vault<'_>,
        report: &mut ReconcileReport,
    ) -> Result<(Vec<Quote>, u64), EngineError> {
        let state = vault.state();
        let store = &self.members[at].store;
        let log = Log::of_store(&**store)?;
        let log = log.ok_or_else(|| EngineError::NoVault { store: self.members[at].url.clone() })?;
        let mut quotes = Vec::new();
        for number in (fork..log.state.next).filter(|number| log.outcome(*number) == Outcome::Effective) {
            let mut bytes = Vec::new();
            store.read(&key_of(ObjectName::Record(number))?, RECORD_LEN_MAX, &mut bytes)?;
            let Ok(record) = Record::decode(&bytes) else { continue };
            match RecordKind::from_number(record.public.kind) {
                Some(kind @ (RecordKind::Snapshot | RecordKind::Progress)) => {
                    let id = SnapshotId(chain_value(&bytes));
                    let segments = record.public.segments_added;
                    quotes.push(Quote { bytes, id, kind, segments });
                }
                _ => report.void_count += 1,
            }
        }
        // What was taken over before is not taken twice.
        quotes.retain(|quote| match quote.kind {
            RecordKind::Snapshot => state.snapshot(&quote.id).is_none(),
            _ => !quote.segments.iter().any(|segment| state.segments.contains_key(&segment.id)),
        });
        // A snapshot may lean on what was live when its store left the line.
        let gone = log
            .state
            .segments
            .iter()
            .find(|(id, segment)| segment.added_by < fork && !state.segments.contains_key(*id));
        if let Some((id, _)) = gone.filter(|_| !quotes.is_empty()) {
            let reason = format!(
                "the new home removed index segment {id}, on which snapshots of {} may rely",
                self.members[at].url
            );
            return Err(EngineError::invalid(reason));
        }
        Ok((quotes, log.state.next))
    }

    fn take_over(
        &self,
        vault: &mut Vault<'_>,
        at: usize,
        quotes: Vec<Quote>,
        report: &mut ReconcileReport,
    ) -> Result<(), EngineError> {
        let mut good = Vec::new();
        for quote in quotes {
            match self
                .check_quote(vault, &quote)
                .and_then(|()| self.bring_objects(&vault.access, at, &quote, report))
            {
                Ok(()) => good.push(quote),
                Err(error @ EngineError::Invalid { .. }) => report.refused.push((quote.id, explain(&error))),
                Err(error) => return Err(error),
            }
        }
        while !good.is_empty() {
            let mut len = 0;
            let fits = good.iter().take_while(|quote| {
                len += quote.bytes.len();
                len <= QUOTED_LEN_MAX
            });
            let count = fits.count().max(1);
            let batch: Vec<Quote> = good.drain(..count).collect();
            let records: Vec<_> = batch.iter().map(|quote| quote.bytes.clone()).collect();
            let details = Details::Reconcile { records }.encode();
            let head = vault.commit(RecordKind::Reconcile, None, &mut |_, public| {
                public.details.clone_from(&details);
                Ok(())
            })?;
            report.heads.push(head);
            let is_snapshot = |quote: &&Quote| quote.kind == RecordKind::Snapshot;
            report.snapshots.extend(batch.iter().filter(is_snapshot).map(|quote| quote.id));
            report.progress_count += batch.iter().filter(|quote| !is_snapshot(quote)).count() as u64;
        }
        Ok(())
    }

    /// Whether a record that quotes this one alone would take effect.
    fn check_quote(&self, vault: &Vault<'_>, quote: &Quote) -> Result<(), EngineError> {
        let signing = vault.signing_key()?;
        let mut state: LogState = vault.state().clone();
        let mut public = state.next_public(RecordKind::Reconcile, *signing.verifying_key().as_bytes());
        public.details = Details::Reconcile { records: vec![quote.bytes.clone()] }.encode();
        let bytes = seal_record(public, None, signing, vault.access.rng)
            .map_err(|_| EngineError::invalid("its record is too long to be quoted"))?;
        match state.apply(StoredRecord::Whole(&bytes), &signature_is_good) {
            Outcome::Effective => Ok(()),
            _ => Err(EngineError::invalid("its signer, or what it adds, is not allowed in the new line")),
        }
    }

    /// Brings the objects that a record added from the store at `at`, or any other, into the home and the stores in line with it. What no
    /// store has whole is noted: later snapshots lean on the rest.
    fn bring_objects(
        &self,
        access: &Access<'_>,
        at: usize,
        quote: &Quote,
        report: &mut ReconcileReport,
    ) -> Result<(), EngineError> {
        let mut bring = |name: ObjectName, len_max: u64| match self.bring_object(access, at, (name, len_max))
        {
            Ok(brought) => {
                report.object_count += u64::from(brought);
                Ok(())
            }
            Err(error) if error.is_gone() => {
                report.lost.insert(name.to_string());
                Ok(())
            }
            Err(error) => Err(error),
        };
        for segment in &quote.segments {
            // Only this store has to have what it committed for itself.
            let packs = packs_in(&*self.members[at].store, segment.id, segment.len)
                .or_else(|_| self.packs_of(segment.id, segment.len));
            match packs {
                Ok(packs) => {
                    packs.into_iter().try_for_each(|id| bring(ObjectName::Pack(id), PACK_LEN_MAX))?;
                }
                // The segment is said to be lost when its own turn comes.
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
            bring(ObjectName::Segment(segment.id), INDEX_LEN_MAX)?;
        }
        Ok(())
    }

    /// Brings one object; `false` if it is where it has to be.
    fn bring_object(
        &self,
        access: &Access<'_>,
        at: usize,
        (name, len_max): (ObjectName, u64),
    ) -> Result<bool, EngineError> {
        access.check_interrupt()?;
        let home = self.home.ok_or_else(|| EngineError::invalid("there is no home"))?;
        let key = key_of(name)?;
        match self.members[home].store.stat(&key) {
            // Replicas in line may still lack it: what the home has not made known is not copied by its log.
            Ok(_) if self.lanes().next().is_none() => return Ok(false),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let fenced = &self.members[at].store;
        let mut bytes = Vec::new();
        let is_read = fenced.read(&key, len_max, &mut bytes).is_ok() && self.fits(name, &bytes);
        if !is_read {
            self.read(&key, len_max, &mut bytes)?;
        }
        if !is_read && !self.fits(name, &bytes) {
            return Err(EngineError::damaged(name, EngineError::invalid("no store has it whole")));
        }
        put_new(self, name, &bytes)?;
        Ok(true)
    }

    /// Removes the records of a store behind the fork, catches it up, and reads its log again: only what that shows is said.
    fn rejoin(&self, vault: &Vault<'_>, at: usize, fork: u64, end: u64) -> Rejoined {
        let member = &self.members[at];
        let (store, removed_count) = (member.url.clone(), 0);
        let mut rejoined = Rejoined { store, removed_count, is_fenced: true, error: None };
        if let Err(error) = remove_records(&*member.store, (fork, end), &mut rejoined.removed_count) {
            rejoined.error = Some(explain(&error));
            return rejoined;
        }
        *lock(&member.standing) = Standing::InLine { next: fork };
        let access = Access { store: self, ..vault.access };
        let copied = self.catch_up(&access, &vault.log, at).error;
        match self.check_line(vault, at, copied.is_none()) {
            Ok(()) => {
                rejoined.is_fenced = false;
                rejoined.error = copied;
            }
            Err(error) => {
                *lock(&member.standing) = Standing::Fenced { fork, next: end };
                if let Some(lane) = member.lane.get() {
                    lane.give_up("its log is not in line");
                }
                rejoined.error = Some(explain(&error));
            }
        }
        rejoined
    }

    /// Whether the log of a store, read from its beginning, is one with that of the vault; its end too, if it `is_complete`.
    fn check_line(&self, vault: &Vault<'_>, at: usize, is_complete: bool) -> Result<(), EngineError> {
        let store = &*self.members[at].store;
        let head = replay(store)?.as_ref().and_then(LogState::head);
        let is_in_line = match head {
            Some(head) if !is_complete => chain_at(self.source_store(), head.number)? == Some(head.chain),
            head => head == vault.state().head(),
        };
        if is_in_line {
            return Ok(());
        }
        Err(EngineError::invalid("its log, read again, is still another one than that of the home"))
    }
}

/// Removes the records from `fork` up to, and without, `end`; the newest first, so that what is left is a log at every moment.
fn remove_records(
    store: &dyn ObjectStore,
    (fork, end): (u64, u64),
    removed_count: &mut u64,
) -> Result<(), EngineError> {
    // A client that reaches this store alone may have gone on meanwhile.
    if is_there(store, end)? {
        return Err(EngineError::invalid("records were added to it meanwhile; run reconcile again"));
    }
    for number in (fork..end).rev() {
        remove_for_good(store, &key_of(ObjectName::Record(number))?)?;
        if is_there(store, number)? {
            return Err(EngineError::invalid(format!("it still shows record {number}, which was removed")));
        }
        *removed_count += 1;
    }
    Ok(())
}

fn is_there(store: &dyn ObjectStore, number: u64) -> Result<bool, EngineError> {
    match store.stat(&key_of(ObjectName::Record(number))?) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes an object. Where versions are kept all of them go: a deletion would hide it, and what is hidden still counts.
fn remove_for_good(store: &dyn ObjectStore, key: &ObjectKey) -> Result<(), StoreError> {
    let Some(cloud) = store.cloud() else { return store.delete(key) };
    let mut versions = Vec::new();
    let listed = cloud.versions(key.as_str(), &mut |version| {
        if version.name == key.as_str() {
            versions.push(version);
        }
        ControlFlow::Continue(())
    });
    match listed {
        Ok(()) => {}
        // What cannot tell its versions keeps none.
        Err(StoreError::Unsupported { .. }) => return store.delete(key),
        Err(error) => return Err(error),
    }
    if versions.iter().all(|version| version.version_id == UNVERSIONED && !version.is_delete_marker) {
        return store.delete(key);
    }
    // The newest first: until the last one goes, the record counts.
    versions.iter().try_for_each(|version| cloud.delete_version(key, &version.version_id))
}
