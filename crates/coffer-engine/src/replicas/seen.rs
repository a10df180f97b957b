//! What this machine saw last of each store, for when it is not reached.
//!
//! It decides nothing but one thing: whether a store that is found empty was the home of the log.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::Ordering;

use coffer_format::id::{VaultId, hex};
use coffer_format::log::LogState;
use coffer_store::ObjectStore;

use super::{Replicas, Standing, lock};
use crate::access::Access;
use crate::cache::Cache;
use crate::error::EngineError;
use crate::refusal::HomeId;

/// Where it is remembered: a line for each store.
const FILE: &str = "stores";
/// More of it is not read.
const LEN_MAX: u64 = 1 << 20;

/// A store as this machine saw it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSeen {
    /// When, in seconds since 1970.
    pub time_s: i64,
    /// Number of the record with which its log went on.
    pub next: u64,
    /// Objects that it lacked of what was committed by then, if they were counted.
    pub behind_objects: Option<u64>,
    /// Its id.
    pub id: HomeId,
    /// Whether it was the home of the log.
    pub is_home: bool,
}

/// What is remembered of the stores of a vault, by their places.
pub(super) fn remembered(cache: Option<&Cache>, vault: &VaultId) -> BTreeMap<String, LastSeen> {
    let mut text = String::new();
    let file = cache.and_then(|cache| cache.open_file(vault, FILE));
    match file.map(|file| file.take(LEN_MAX).read_to_string(&mut text)) {
        Some(Ok(_)) => text.lines().filter_map(parse).collect(),
        _ => BTreeMap::new(),
    }
}

fn parse(line: &str) -> Option<(String, LastSeen)> {
    let mut words = line.splitn(6, ' ');
    let time_s = words.next()?.parse().ok()?;
    let next = words.next()?.parse().ok()?;
    let behind_objects = words.next()?.parse().ok();
    let id = id_of(words.next()?)?;
    let is_home = words.next()? == "home";
    Some((words.next()?.to_owned(), LastSeen { time_s, next, behind_objects, id, is_home }))
}

fn id_of(text: &str) -> Option<HomeId> {
    let mut id = HomeId::default();
    if !text.is_ascii() || text.len() != 2 * id.len() {
        return None;
    }
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(id)
}

/// What is remembered of a store. One that cannot be opened does not tell which service it is at: there its address has to do, if it is that of
/// one only.
pub(super) fn last_seen<'s>(
    seen: &'s BTreeMap<String, LastSeen>,
    store: &dyn ObjectStore,
) -> Option<&'s LastSeen> {
    let exact = seen.get(&store.place());
    exact.or_else(|| {
        let start = format!("{} at ", store.url());
        let mut found = seen.iter().filter(|(place, _)| place.starts_with(&start)).map(|(_, seen)| seen);
        found.next().filter(|_| found.next().is_none())
    })
}

fn line(place: &str, seen: &LastSeen) -> String {
    let LastSeen { time_s, next, behind_objects, id, is_home } = seen;
    let objects = behind_objects.map_or_else(|| "-".to_owned(), |count| count.to_string());
    format!("{time_s} {next} {objects} {} {} {place}\n", hex(id), if *is_home { "home" } else { "replica" })
}

impl Replicas {
    /// Remembers how far each store that is in line has the log; `behind_objects` are counts of what they lack, by position. That it
    /// cannot be remembered harms nothing now, and is not said.
    pub(super) fn remember_stores(
        &self,
        access: &Access<'_>,
        (vault, state): (&VaultId, &LogState),
        behind_objects: &BTreeMap<usize, u64>,
    ) {
        let Some(cache) = access.cache.filter(|_| !self.is_alone) else { return };
        let mut stores = remembered(Some(cache), vault);
        for (at, member) in self.members.iter().enumerate() {
            let Standing::InLine { next } = self.place_of(member) else { continue };
            let is_source = at == self.source;
            // What is empty says nothing that is worth more than what was seen before, nor does what has lost its id.
            if (next == 0 && !is_source) || !member.has_id.load(Ordering::Relaxed) {
                continue;
            }
            let id = *lock(&member.id);
            let seen = LastSeen {
                time_s: access.clock.now_ns().div_euclid(1_000_000_000),
                next: if is_source { state.next } else { next.min(state.next) },
                behind_objects: if is_source { Some(0) } else { behind_objects.get(&at).copied() },
                id,
                is_home: self.home == Some(at) && id == state.home,
            };
            stores.insert(member.store.place(), seen);
        }
        let text: String = stores.iter().map(|(place, seen)| line(place, seen)).collect();
        let write = |text: &str| -> Result<(), EngineError> {
            cache.write_file(vault, FILE, &mut |out| out.write_all(text.as_bytes()))
        };
        drop(write(&text));
    }
}
