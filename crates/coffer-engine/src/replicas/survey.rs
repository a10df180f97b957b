//! Which store is the home, which are in line with it, and whether anything may be committed.
//!
//! The newest record of each store says under which term and for which home it was made, and its hash covers all before it: where
//! these agree, and the owner whom the header names signed them, a few requests for each store are enough. Where they do not, or
//! somebody else signed, each log is replayed: only the replay tells who is enrolled, and what a record that nobody vouches for
//! says is worth nothing.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use coffer_format::header::Header;
use coffer_format::id::VaultId;
use coffer_format::limits::{HEADER_LEN_MAX, RECORD_LEN_MAX, WRITER_GAP_LEN_MAX};
use coffer_format::log::{LogState, Outcome};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, Record, RecordKind, chain_value};
use coffer_format::store::{FIRST_STORE, STORE_LEN, decode_store};
use coffer_pipeline::record::signature_is_good;
use coffer_store::{ObjectStore, StoreError};

use super::Standing;
use crate::access::key_of;
use crate::error::EngineError;
use crate::log::{Ahead, Log, chain_value_of, explain, listed_numbers};
use crate::parallel;
use crate::refusal::{HomeId, Refusal};

/// How many absent records below the end of a log are told apart: the lowest.
const GAP_COUNT_MAX: usize = 4096;
/// How often logs that grew while they were read are read again.
const AGAIN_COUNT_MAX: usize = 4;
/// How many records at the end of a listing are looked at for one that can be read.
const TIP_TRY_COUNT_MAX: usize = 8;

/// The end of a store's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) vault: VaultId,
    /// Number of the record that would come next.
    pub(super) next: u64,
    pub(super) chain: [u8; 32],
    /// Term and home after the last record.
    pub(super) term: u64,
    pub(super) home: HomeId,
    /// As `next`, of the last record that an enrolled signer signed: what comes behind it proves nothing.
    pub(super) proved: u64,
    /// Whether the owner whom the header names signed the last record, or the log was replayed.
    is_vouched_for: bool,
}

/// What a store turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Unreachable(String),
    /// It holds no record.
    Empty,
    Holds(Tip),
}

/// A store as it was found.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: HomeId,
    /// Whether it has one; else `id` says nothing.
    pub(super) has_id: bool,
    pub(super) found: Found,
    /// Records that its listing does not show although it shows later ones.
    pub(super) gaps: BTreeSet<u64>,
}

/// What follows for all of them together.
#[derive(Debug)]
pub(super) struct Judgement {
    /// The store from which the log is read.
    pub(super) source: usize,
    /// The end of its log; none where no store holds a record.
    pub(super) line: Option<Tip>,
    /// The store in which records are committed, where that is among them.
    pub(super) home: Option<usize>,
    pub(super) standings: Vec<Standing>,
    /// Why nothing may be committed.
    pub(super) refusal: Option<Refusal>,
    /// Stores whose logs, if they have gone on since they were read, refute that.
    doubted: Vec<usize>,
}

/// The id of a store, and whether it has one: what is no id counts as none.
pub(super) fn read_id(store: &dyn ObjectStore) -> Result<(HomeId, bool), EngineError> {
    let mut bytes = Vec::new();
    let key = key_of(ObjectName::Store)?;
    let mut read = store.read(&key, STORE_LEN as u64, &mut bytes);
    // Where something was laid over it, a store that keeps versions still has it.
    if read.is_ok() && decode_store(&bytes).is_err() && store.distrust(&key) {
        read = store.read(&key, STORE_LEN as u64, &mut bytes);
    }
    match read {
        Ok(()) => Ok(decode_store(&bytes).map_or((FIRST_STORE, false), |id| (id, true))),
        Err(error) if error.is_not_found() => Ok((FIRST_STORE, false)),
        Err(StoreError::TooLong { .. } | StoreError::NotAnObject { .. }) => Ok((FIRST_STORE, false)),
        Err(error) => Err(EngineError::of_object(ObjectName::Store, error.into())),
    }
}

/// Looks at every store, side by side.
pub(super) fn look_at(stores: &[Arc<dyn ObjectStore>]) -> Vec<Seen> {
    let gone = || Seen {
        id: FIRST_STORE,
        has_id: false,
        found: Found::Unreachable(EngineError::WorkerGone.to_string()),
        gaps: BTreeSet::new(),
    };
    let seen = parallel::at_once(stores, |store| look(&**store));
    seen.into_iter().map(|seen| seen.unwrap_or_else(gone)).collect()
}

fn look(store: &dyn ObjectStore) -> Seen {
    let find = || -> Result<Seen, EngineError> {
        let (id, has_id) = read_id(store)?;
        let numbers = listed_numbers(store)?;
        let found = tip_of(store, &numbers)?.map_or(Found::Empty, Found::Holds);
        Ok(Seen { id, has_id, found, gaps: gaps_in(&numbers) })
    };
    find().unwrap_or_else(|error| {
        // Whoever says it names the store himself.
        let reason = match &error {
            EngineError::Store(StoreError::Unavailable { source, .. }) => explain(&**source),
            error => explain(error),
        };
        let found = Found::Unreachable(reason);
        Seen { id: FIRST_STORE, has_id: false, found, gaps: BTreeSet::new() }
    })
}

/// The numbers that are not among these ascending ones, although greater ones are.
fn gaps_in(numbers: &[u64]) -> BTreeSet<u64> {
    let begins = std::iter::once(0).chain(numbers.iter().map(|number| number + 1));
    begins.zip(numbers).flat_map(|(begin, end)| begin..*end).take(GAP_COUNT_MAX).collect()
}

/// The end of the log as the newest of its records, whose `numbers` are given in ascending order, tells it.
fn tip_of(store: &dyn ObjectStore, numbers: &[u64]) -> Result<Option<Tip>, EngineError> {
    let mut bytes = Vec::new();
    let owner = if numbers.is_empty() { None } else { owner_of(store)? };
    for number in numbers.iter().rev().take(TIP_TRY_COUNT_MAX) {
        match store.read(&key_of(ObjectName::Record(*number))?, RECORD_LEN_MAX, &mut bytes) {
            Ok(()) => {}
            Err(
                StoreError::NotFound { .. } | StoreError::TooLong { .. } | StoreError::NotAnObject { .. },
            ) => continue,
            Err(error) => return Err(error.into()),
        }
        let key = key_of(ObjectName::Record(*number))?;
        // Where something was laid over it, a store that keeps versions still has it.
        if is_sound(*number, &bytes).is_none() && store.distrust(&key) {
            store.read(&key, RECORD_LEN_MAX, &mut bytes)?;
        }
        if let Some((tip, signer)) = tip_after(*number, &bytes) {
            return Ok(Some(Tip { is_vouched_for: owner == Some((tip.vault, signer)), ..tip }));
        }
    }
    // Records that say nothing: the replay does, if anything.
    if numbers.is_empty() { Ok(None) } else { replayed_tip(store) }
}

/// The vault whose header a store has, and its owner.
fn owner_of(store: &dyn ObjectStore) -> Result<Option<(VaultId, [u8; 32])>, EngineError> {
    let mut bytes = Vec::new();
    match store.read(&key_of(ObjectName::Header)?, HEADER_LEN_MAX, &mut bytes) {
        Ok(()) => Ok(Header::decode(&bytes).ok().map(|header| (Header::vault_id(&bytes), header.owner_key))),
        Err(error) if error.is_of_store() && !error.is_not_found() => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Term and home after a record, as it claims itself, and its signer.
fn tip_after(number: u64, bytes: &[u8]) -> Option<(Tip, [u8; 32])> {
    let public = is_sound(number, bytes)?.public;
    let mut home = public.home;
    let kind = RecordKind::from_number(public.kind);
    if let Some(kind @ (RecordKind::Handover | RecordKind::Promote)) = kind {
        match Details::decode(kind, number == 0, public.details.as_deref()) {
            Ok(Details::Handover { home: new }) => home = new,
            // Its own term is the new one already.
            Ok(Details::Promote { home: new, .. }) => home = new,
            _ => return None,
        }
    }
    let next = number + 1;
    let (vault, term, chain) = (public.vault, public.term, chain_value(bytes));
    let tip = Tip { vault, next, chain, term, home, proved: next, is_vouched_for: false };
    Some((tip, public.signer))
}

/// The record in these bytes, if they are whole: of that number, with the body that it names, and signed by whom it names.
pub(super) fn is_sound(number: u64, bytes: &[u8]) -> Option<Record<'_>> {
    let record = Record::decode(bytes).ok()?;
    let hash = (!record.body.is_empty()).then(|| chain_value(record.body));
    let whole = record.public.number == number
        && record.public.body.map(|body| body.hash) == hash
        && signature_is_good(&record.public.signer, record.public_bytes, &record.signature);
    whole.then_some(record)
}

/// The end of a log as its replay gives it.
fn replayed_tip(store: &dyn ObjectStore) -> Result<Option<Tip>, EngineError> {
    let Some(log) = Log::of_store(store)? else { return Ok(None) };
    let is_authentic = |number: &u64| match log.outcome(*number) {
        Outcome::Effective => true,
        Outcome::Void(reason) => reason.is_authentic(),
        Outcome::Missing => false,
    };
    let proved = (0..log.state.next).rev().find(is_authentic).map_or(0, |last| last + 1);
    let Some(head) = log.head() else { return Ok(None) };
    let LogState { vault, next, term, home, .. } = log.state;
    Ok(Some(Tip { vault, next, chain: head.chain, term, home, proved, is_vouched_for: true }))
}

/// The state that the log of a store on its own leads to.
pub(super) fn replay(store: &dyn ObjectStore) -> Result<Option<LogState>, EngineError> {
    Ok(Log::of_store(store)?.map(|log| log.state))
}

/// What follows from what was seen.
pub(super) fn judge(stores: &[Arc<dyn ObjectStore>], seen: &[Seen]) -> Result<Judgement, EngineError> {
    check_apart(stores, seen)?;
    let tips: Vec<Option<Tip>> = seen
        .iter()
        .map(|seen| match &seen.found {
            Found::Holds(tip) => Some(*tip),
            _ => None,
        })
        .collect();
    let Some(first) = tips.iter().flatten().next().copied() else { return Ok(nothing_yet(seen)) };
    if let Some(other) = tips.iter().flatten().find(|tip| tip.vault != first.vault) {
        return Err(EngineError::OtherVault { actual: other.vault, expected: first.vault });
    }
    let agree = tips
        .iter()
        .flatten()
        .all(|tip| tip.is_vouched_for && (tip.term, tip.home) == (first.term, first.home));
    if agree {
        let judgement = judge_tips(stores, seen, &tips)?;
        if judgement.is_plain() {
            return Ok(judgement);
        }
    }
    let replayed = parallel::map(stores.len(), stores.iter().zip(tips), |(store, tip)| match tip {
        Some(_) => replayed_tip(&**store),
        None => Ok(None),
    });
    let mut tips = replayed.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut seen = seen.to_vec();
    for _ in 0..AGAIN_COUNT_MAX {
        if tips.iter().all(Option::is_none) {
            return Ok(nothing_yet(&seen));
        }
        let judgement = judge_tips(stores, &seen, &tips)?;
        if !look_again(stores, &judgement.doubted, &mut seen, &mut tips)? {
            return Ok(judgement);
        }
    }
    judge_tips(stores, &seen, &tips)
}

/// Reads those of the `doubted` stores again whose log goes on by now where it ended before; says whether there are any. Each store was read
/// in its own time, and others commit meanwhile: what a replica showed, its home may have got after it was read.
fn look_again(
    stores: &[Arc<dyn ObjectStore>],
    doubted: &[usize],
    seen: &mut [Seen],
    tips: &mut [Option<Tip>],
) -> Result<bool, EngineError> {
    let mut has_grown = false;
    for at in doubted {
        let (Some(tip), store) = (tips[*at], &*stores[*at]) else { continue };
        if chain_at(store, tip.next)?.is_some() {
            has_grown = true;
            seen[*at].gaps = gaps_in(&listed_numbers(store)?);
            tips[*at] = replayed_tip(store)?;
        }
    }
    Ok(has_grown)
}

impl Judgement {
    /// Whether there is nothing that replaying the logs could show otherwise.
    fn is_plain(&self) -> bool {
        matches!(self.refusal, None | Some(Refusal::HomeUnreachable { .. }))
            && !self.standings.iter().any(|standing| matches!(standing, Standing::Fenced { .. }))
    }
}

/// Two stores with one id are copies of each other.
fn check_apart(stores: &[Arc<dyn ObjectStore>], seen: &[Seen]) -> Result<(), EngineError> {
    for (at, one) in seen.iter().enumerate() {
        let twin = seen[..at].iter().position(|other| other.has_id && one.has_id && other.id == one.id);
        if let Some(twin) = twin {
            return Err(EngineError::SameStore { first: stores[twin].url(), second: stores[at].url() });
        }
    }
    Ok(())
}

fn nothing_yet(seen: &[Seen]) -> Judgement {
    let standings: Vec<_> = seen
        .iter()
        .map(|seen| match &seen.found {
            Found::Unreachable(reason) => Standing::Unreachable { reason: reason.clone() },
            _ => Standing::InLine { next: 0 },
        })
        .collect();
    let is_reached = matches!(standings.first(), Some(Standing::InLine { .. }));
    let home = is_reached.then_some(0);
    Judgement { source: 0, line: None, home, standings, refusal: None, doubted: Vec::new() }
}

fn judge_tips(
    stores: &[Arc<dyn ObjectStore>],
    seen: &[Seen],
    tips: &[Option<Tip>],
) -> Result<Judgement, EngineError> {
    let held = || tips.iter().enumerate().filter_map(|(at, tip)| tip.map(|tip| (at, tip)));
    let term = held().map(|(_, tip)| tip.term).max().unwrap_or_default();
    let leads = |tip: &Tip| tip.term == term;
    let is_home = |(at, tip): &(usize, Tip)| leads(tip) && seen[*at].has_id && tip.home == seen[*at].id;
    let homes: Vec<usize> = held().filter(is_home).map(|(at, _)| at).collect();
    let longest = |among: &dyn Fn(usize) -> bool| {
        let found = held().filter(|(at, tip)| leads(tip) && among(*at));
        // The first of those that are equally long.
        found.rev().max_by_key(|(_, tip)| (tip.proved, tip.next))
    };
    let chosen = if homes.is_empty() { longest(&|_| true) } else { longest(&|at| homes.contains(&at)) };
    let Some((mut source, mut line)) = chosen else { return Ok(nothing_yet(seen)) };
    let mut home = homes.contains(&source).then_some(source);
    let mut refusal = None;
    let mut doubted = Vec::new();
    let mut standings = Vec::new();
    let gaps = &seen[source].gaps;
    for (at, seen) in seen.iter().enumerate() {
        let lacking = || seen.gaps.difference(gaps).next().copied();
        let standing = match (&seen.found, tips[at]) {
            (Found::Unreachable(reason), _) => Standing::Unreachable { reason: reason.clone() },
            (_, None) => Standing::InLine { next: 0 },
            (_, Some(tip)) if at == source => Standing::InLine { next: tip.next },
            (_, Some(tip)) => match stand(&*stores[source], &line, &*stores[at], &tip)? {
                // What nobody who is enrolled put behind the end of the log is no part of it, and in its way.
                Standing::InLine { next } if next > line.next && tip.proved <= line.next => {
                    Standing::Fenced { fork: line.next, next }
                }
                // A record may come late into what was a gap when others were copied: there it goes on.
                Standing::InLine { next } if next <= line.next => {
                    Standing::InLine { next: lacking().map_or(next, |first| next.min(first)) }
                }
                standing => standing,
            },
        };
        standings.push(standing);
    }
    let apart: Vec<usize> = held()
        .filter(|(at, tip)| leads(tip) && *at != source)
        .filter(|(at, _)| {
            homes.contains(at) || (homes.is_empty() && matches!(standings[*at], Standing::Fenced { .. }))
        })
        .map(|(at, _)| at)
        .collect();
    if !apart.is_empty() {
        doubted = [vec![source], apart].concat();
        let stores = doubted.iter().map(|at| stores[*at].url()).collect();
        refusal = Some(Refusal::PromotedApart { stores, term });
    }
    // A replica that goes on where the home ends: the home has lost what it had.
    let ahead = standings.iter().enumerate().filter_map(|(at, standing)| match standing {
        Standing::InLine { next } if *next > line.next => Some((at, *next)),
        _ => None,
    });
    if let Some((at, next)) = ahead.max_by_key(|(_, next)| *next)
        && refusal.is_none()
    {
        let (home, replica) = (stores[source].url(), stores[at].url());
        refusal = Some(Refusal::HomeBehind { home, home_next: line.next, replica, next });
        doubted.push(source);
        (source, line) = (at, tips[at].unwrap_or(line));
    }
    if homes.is_empty() && refusal.is_none() {
        let is_reached = |at: &usize| matches!(standings[*at], Standing::InLine { .. });
        let nameless = |at: &usize| tips[*at].is_some() && !seen[*at].has_id;
        let meant = |at: &usize| seen[*at].id == line.home && is_reached(at) && !nameless(at);
        let all_are_reached =
            !standings.iter().any(|standing| matches!(standing, Standing::Unreachable { .. }));
        let found = (0..seen.len()).find(meant);
        doubted.extend(found);
        refusal = Some(match found {
            // One without an id and records may be any: it is only taken for the home where nothing else can be it.
            Some(at) if tips[at].is_none() && (seen[at].has_id || all_are_reached) => {
                Refusal::HomeEmpty { store: stores[at].url() }
            }
            Some(at) if tips[at].is_some() && ends_with_handover(&*stores[source], &line.home)? => {
                Refusal::HandoverUnfinished { home: stores[at].url() }
            }
            // It has lost what made it the home, and more.
            Some(at) => match tips[at] {
                Some(tip) => {
                    home = Some(at);
                    let (home, replica) = (stores[at].url(), stores[source].url());
                    Refusal::HomeBehind { home, home_next: tip.next, replica, next: line.next }
                }
                None => Refusal::HomeUnreachable { home: line.home },
            },
            None => match (0..seen.len()).find(nameless) {
                Some(at) => Refusal::HomeUnknown { store: stores[at].url() },
                None => Refusal::HomeUnreachable { home: line.home },
            },
        });
    }
    Ok(Judgement { source, line: Some(line), home, standings, refusal, doubted })
}

/// Whether the last record of a log that took effect hands it over to `home`.
fn ends_with_handover(store: &dyn ObjectStore, home: &HomeId) -> Result<bool, EngineError> {
    let Some(log) = Log::of_store(store)? else { return Ok(false) };
    let last = (0..log.state.next).rev().find(|number| log.outcome(*number) == Outcome::Effective);
    let Some(last) = last else { return Ok(false) };
    let mut bytes = Vec::new();
    store.read(&key_of(ObjectName::Record(last))?, RECORD_LEN_MAX, &mut bytes)?;
    Ok(Record::decode(&bytes).is_ok_and(|record| {
        let details = record.public.details.as_deref();
        RecordKind::from_number(record.public.kind) == Some(RecordKind::Handover)
            && Details::decode(RecordKind::Handover, last == 0, details)
                .is_ok_and(|details| matches!(details, Details::Handover { home: new } if new == *home))
    }))
}

/// How the log of a store stands to the one that counts.
fn stand(
    reference: &dyn ObjectStore,
    line: &Tip,
    store: &dyn ObjectStore,
    tip: &Tip,
) -> Result<Standing, EngineError> {
    let (shorter, longer, end) =
        if tip.next <= line.next { (tip, reference, tip.next) } else { (line, store, line.next) };
    if end > 0 && (has_chain(longer, end - 1, &shorter.chain)? || was_there(longer, end - 1, &shorter.chain)?)
    {
        return Ok(Standing::InLine { next: tip.next });
    }
    // Each chain value covers all before it: what is equal comes first, then what differs.
    let (mut same, mut differs) = (0, end);
    while same < differs {
        let middle = same + (differs - same) / 2;
        if agree_at(store, reference, same..=middle)? {
            same = middle + 1;
        } else {
            differs = middle;
        }
    }
    Ok(Standing::Fenced { fork: same, next: tip.next })
}

/// Whether two stores have the same last record among these numbers. Where both have a gap, what lies before it tells.
fn agree_at(
    one: &dyn ObjectStore,
    other: &dyn ObjectStore,
    numbers: RangeInclusive<u64>,
) -> Result<bool, EngineError> {
    let looked_at = usize::try_from(WRITER_GAP_LEN_MAX).unwrap_or(usize::MAX);
    for number in numbers.rev().take(looked_at) {
        match (chain_at(one, number)?, chain_at(other, number)?) {
            (None, None) => {}
            (here, there) => return Ok(here == there),
        }
    }
    Ok(false)
}

/// Whether a store lacks a record, and the one behind it says that it had this chain value.
fn was_there(store: &dyn ObjectStore, number: u64, chain: &[u8; 32]) -> Result<bool, EngineError> {
    let mut bytes = Vec::new();
    match store.read(&key_of(ObjectName::Record(number))?, RECORD_LEN_MAX, &mut bytes) {
        Err(error) if error.is_not_found() => {}
        Ok(()) | Err(_) => return Ok(false),
    }
    let behind = store.read(&key_of(ObjectName::Record(number + 1))?, RECORD_LEN_MAX, &mut bytes);
    let behind = behind.is_ok().then(|| is_sound(number + 1, &bytes)).flatten();
    Ok(behind.is_some_and(|record| record.public.previous == *chain))
}

/// Whether a store has the record with this chain value; where it keeps versions, also under what was laid over it.
fn has_chain(store: &dyn ObjectStore, number: u64, chain: &[u8; 32]) -> Result<bool, EngineError> {
    if chain_at(store, number)?.as_ref() == Some(chain) {
        return Ok(true);
    }
    let key = key_of(ObjectName::Record(number))?;
    Ok(store.distrust(&key) && chain_at(store, number)?.as_ref() == Some(chain))
}

/// The chain value of a record; none if it is absent.
pub(super) fn chain_at(store: &dyn ObjectStore, number: u64) -> Result<Option<[u8; 32]>, EngineError> {
    chain_value_of(&mut Ahead::new(store, 0), number)
}
