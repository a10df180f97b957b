//! Moving the home of the log: planned (`handover`) and unplanned (`promote`).
//!
//! Which store is the home is the owner's decision, signed by the owner's key. Nothing here moves it by itself.

use std::io::Read;
use std::sync::atomic::Ordering;

use coffer_format::cbor::Encoder;
use coffer_format::id::{Head, SnapshotId};
use coffer_format::log::LogState;
use coffer_format::record::{Details, RecordKind};

use super::survey::{chain_at, read_id, replay};
use super::{Member, Replicas, Standing, lock};
use crate::access::Access;
use crate::cache::Cache;
use crate::error::EngineError;
use crate::refusal::Refusal;
use crate::vault::Vault;

/// Where this machine remembers which snapshots it has seen.
pub(super) const SEEN_FILE: &str = "snapshots";
/// More of that file is not read.
const SEEN_LEN_MAX: u64 = 256 << 20;

/// How a store is promoted.
#[derive(Debug, Clone, Default)]
pub struct PromoteOptions {
    /// Go on though the store lacks what was committed elsewhere, or nobody can tell.
    pub accept_loss: bool,
    /// A head from a receipt or a witness, which the store should hold.
    pub head: Option<Head>,
    /// Why, for the record.
    pub reason: String,
}

/// A snapshot that a store lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Number of its record.
    pub number: u64,
    /// Its time, in seconds since 1970 UTC.
    pub time_s: i64,
    /// Who knows of it: a store, or the memory of this machine.
    pub known_by: String,
}

/// What a store that is to be promoted lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// Heads that were seen elsewhere and are not in its log.
    pub heads: Vec<Head>,
    /// Snapshots.
    pub snapshots: Vec<LostSnapshot>,
    /// Whether this cannot be told: there is no memory, and no head was given.
    pub is_unknown: bool,
}

impl Loss {
    /// Whether it is known to lack nothing.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.heads.is_empty() && self.snapshots.is_empty() && !self.is_unknown
    }
}

/// What became of a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promotion {
    /// Nothing was done, as the loss was not accepted.
    WouldLose(Loss),
    /// The store is the home.
    Done {
        /// The record.
        head: Head,
        /// The term from here on.
        term: u64,
        /// What was accepted.
        loss: Loss,
    },
}

impl Replicas {
    /// Hands the log over to the store at position `at`, which is caught up before and after. No more can be committed through `self`.
    ///
    /// A handover that was interrupted is finished.
    ///
    /// # Errors
    /// When it is the home already, is not in line, or cannot be caught up. After the record is committed an error says that it has to be finished.
    pub fn handover(&self, vault: &mut Vault<'_>, at: usize) -> Result<Head, EngineError> {
        let member = self.members.get(at).ok_or_else(|| EngineError::invalid("there is no such store"))?;
        let access = Access { store: self, ..vault.access };
        let unfinished = matches!(&*lock(&self.refusal), Some(Refusal::HandoverUnfinished { home }) if *home == member.url);
        if unfinished {
            self.bring(&access, vault, at)?;
            check_moved(vault, member)?;
            return vault.log.head().ok_or(EngineError::WorkerGone);
        }
        self.check_writable()?;
        if Some(at) == self.home {
            return Err(EngineError::invalid(format!("{} is the home of the log already", member.url)));
        }
        match member.standing() {
            Standing::InLine { .. } => {}
            Standing::Fenced { .. } => {
                let reason = format!(
                    "{} is not in line with the log; `coffer reconcile --rejoin` can bring it there",
                    member.url
                );
                return Err(EngineError::invalid(reason));
            }
            Standing::Unreachable { reason } => {
                return Err(EngineError::Unreachable { store: member.url.clone(), reason });
            }
        }
        self.bring(&access, vault, at)?;
        let id = member.ensure_id(access.rng)?;
        let body = location(&member.url, None);
        let head = vault.commit(RecordKind::Handover, Some(&body), &mut |_, public| {
            public.details = Details::Handover { home: id }.encode();
            Ok(())
        })?;
        *lock(&self.refusal) = Some(Refusal::Moved);
        self.bring(&access, vault, at)?;
        check_moved(vault, member)?;
        Ok(head)
    }

    /// Catches the store at `at` up to what was read of the log.
    fn bring(&self, access: &Access<'_>, vault: &Vault<'_>, at: usize) -> Result<(), EngineError> {
        if let Some(lane) = self.members[at].lane.get() {
            lane.drain(None);
            if lane.broken().is_none() && lane.next() == vault.state().next {
                return Ok(());
            }
        }
        let copied = self.catch_up(access, &vault.log, at);
        match copied.error {
            Some(reason) => Err(EngineError::CannotCopy { store: copied.store, reason }),
            None => Ok(()),
        }
    }

    /// Makes the store at position `at`, on which alone `vault` was opened and without a memory, the home of the log in a new term.
    ///
    /// # Errors
    /// When it is the home already, the home answers, or a store of a higher term does.
    pub fn promote(
        &self,
        vault: &mut Vault<'_>,
        at: usize,
        cache: Option<&Cache>,
        options: &PromoteOptions,
    ) -> Result<Promotion, EngineError> {
        let member = self.members.get(at).ok_or_else(|| EngineError::invalid("there is no such store"))?;
        let (own_id, has_id) = read_id(&member.store)?;
        let others = self.others(at)?;
        let refusal = lock(&self.refusal).clone();
        let is_apart = matches!(refusal, Some(Refusal::PromotedApart { .. }));
        if let Some((other, log)) = others.iter().find(|(_, log)| log.term > vault.state().term) {
            let reason = format!("{} is in term {}, which is higher; promote that one", other.url, log.term);
            return Err(EngineError::invalid(reason));
        }
        if !is_apart {
            if has_id && vault.state().home == own_id {
                return Err(EngineError::invalid(format!("{} is the home of the log already", member.url)));
            }
            let is_home = |(other, log): &&(&Member, LogState)| {
                other.has_id.load(Ordering::Relaxed)
                    && log.home == *lock(&other.id)
                    && log.term == vault.state().term
            };
            if let Some((home, _)) = others.iter().find(is_home) {
                return Err(EngineError::HomeAnswers { home: home.url.clone() });
            }
        }
        let loss = loss_of(vault, &*member.store, &others, cache, options)?;
        if !loss.is_none() && !options.accept_loss {
            return Ok(Promotion::WouldLose(loss));
        }
        let id = member.ensure_id(vault.access.rng)?;
        let expected = vault.state().next;
        let body = location(&member.url, Some(&options.reason));
        let head = vault.commit(RecordKind::Promote, Some(&body), &mut |state, public| {
            if state.next != expected || expected == 0 {
                let reason = "the log grew meanwhile: somebody commits to it".to_owned();
                return Err(EngineError::CannotCommit { reason });
            }
            public.term = state.term + 1;
            let (last, chain) = (state.next - 1, public.previous);
            public.details = Details::Promote { home: id, last, chain }.encode();
            Ok(())
        })?;
        *lock(&self.refusal) = Some(Refusal::Moved);
        let state = vault.state();
        if let Some(cache) = cache {
            // What this machine saw of the old line is void from here on.
            cache.set_location(&member.store.place(), &vault.id())?;
            cache.set_head(&vault.id(), &head, state.epoch(), state.term)?;
        }
        Ok(Promotion::Done { head, term: state.term, loss })
    }

    /// Every other store that answers, with the state that its log leads to.
    fn others(&self, at: usize) -> Result<Vec<(&Member, LogState)>, EngineError> {
        let mut others = Vec::new();
        for (other, member) in self.members.iter().enumerate() {
            if other != at
                && Member::is_reachable(&member.standing())
                && let Some(state) = replay(&*member.store)?
            {
                others.push((member, state));
            }
        }
        Ok(others)
    }
}

/// Whether the store that the log names as its home has that record, and that id.
fn check_moved(vault: &Vault<'_>, member: &Member) -> Result<(), EngineError> {
    let (id, has_id) = read_id(&member.store)?;
    let head = vault.log.head().ok_or(EngineError::WorkerGone)?;
    if has_id && id == vault.state().home && chain_at(&*member.store, head.number)? == Some(head.chain) {
        return Ok(());
    }
    let reason = "its id and its log, read again, are not those of the home".to_owned();
    Err(EngineError::CannotCopy { store: member.url.clone(), reason })
}

/// What a store lacks of what others hold, this machine has seen, or a given head proves.
fn loss_of(
    vault: &Vault<'_>,
    store: &dyn coffer_store::ObjectStore,
    others: &[(&Member, LogState)],
    cache: Option<&Cache>,
    options: &PromoteOptions,
) -> Result<Loss, EngineError> {
    let state = vault.state();
    let mut loss = Loss::default();
    let lacks = |id: &SnapshotId| state.snapshot(id).is_none();
    for (member, other) in others {
        for snapshot in other.snapshots.iter().filter(|snapshot| !snapshot.forgotten && lacks(&snapshot.id)) {
            loss.snapshots.push(LostSnapshot {
                id: snapshot.id,
                number: snapshot.number,
                time_s: snapshot.time_s,
                known_by: member.url.clone(),
            });
        }
    }
    let remembered = cache.and_then(|cache| cache.head(&vault.id()).transpose()).transpose()?;
    loss.is_unknown = remembered.is_none() && options.head.is_none();
    for head in remembered.into_iter().chain(options.head) {
        if !loss.heads.contains(&head) && chain_at(store, head.number)? != Some(head.chain) {
            loss.heads.push(head);
        }
    }
    // A head that is there proves everything before it; what was seen is only of interest without it.
    if !loss.heads.is_empty()
        && let Some(cache) = cache
    {
        let known: Vec<_> = loss.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let seen = seen_snapshots(cache, vault).into_iter();
        loss.snapshots.extend(seen.filter(|seen| lacks(&seen.id) && !known.contains(&seen.id)));
    }
    loss.snapshots.sort_by_key(|snapshot| (snapshot.number, snapshot.id));
    loss.snapshots.dedup_by_key(|snapshot| snapshot.id);
    Ok(loss)
}

/// The snapshots that this machine remembers.
fn seen_snapshots(cache: &Cache, vault: &Vault<'_>) -> Vec<LostSnapshot> {
    let mut text = String::new();
    let Some(file) = cache.open_file(&vault.id(), SEEN_FILE) else { return Vec::new() };
    if file.take(SEEN_LEN_MAX).read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let number = words.next()?.parse().ok()?;
        let id = words.next()?.parse().ok()?;
        let time_s = words.next()?.parse().ok()?;
        Some(LostSnapshot { id, number, time_s, known_by: "the memory of this machine".to_owned() })
    };
    text.lines().filter_map(parse).collect()
}

/// The body of a handover, or with a reason of a promote.
fn location(url: &str, reason: Option<&str>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.map(|map| {
        map.key(1).text(url);
        if let Some(reason) = reason {
            map.key(2).text(reason);
        }
    });
    encoder.finish()
}
