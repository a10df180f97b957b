//! Which snapshot is meant: a selector, narrowed by a filter.
//!
//! [`choose`] is pure: what the log says of snapshots goes in, and a way to their manifests, which are loaded only where they are needed.
//! A filter narrows what a selector may name: `latest` is the latest of the snapshots that it admits, and an id that it does not admit
//! names nothing. As of a time, the latest is meaningful only within one origin (host and sources), so more than one is refused.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::str::FromStr;

use coffer_format::cbor::Decoder;
use coffer_format::id::SnapshotId;
use coffer_format::limits::PATH_LEN_MAX;
use coffer_format::log::SnapshotState;
use coffer_format::manifest::Manifest;
use coffer_format::path::display_path;

use crate::error::EngineError;
use crate::vault::{Snapshot, Vault};

/// What names a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// `latest`, or `latest~N`: the Nth before it.
    Latest {
        /// N.
        back: usize,
    },
    /// The beginning of an id, in lower case.
    Prefix(String),
}

impl FromStr for Selector {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let none = || EngineError::BadSelector { text: text.to_owned() };
        if let Some(back) = text.strip_prefix("latest") {
            let back = match back.strip_prefix('~') {
                Some(number) => number.parse().map_err(|_| none())?,
                None if back.is_empty() => 0,
                None => return Err(none()),
            };
            return Ok(Self::Latest { back });
        }
        let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex { Ok(Self::Prefix(text.to_ascii_lowercase())) } else { Err(none()) }
    }
}

/// Which snapshots are considered; all of them by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Of one of these hosts, if there are any.
    pub hosts: Vec<String>,
    /// With all tags of one of these lists, if there are any. The items of a list are separated by commas; an empty list means no tags.
    pub tags: Vec<String>,
    /// With all of these paths among their sources, as they were given or absolute.
    pub paths: Vec<Vec<u8>>,
    /// Taken at this time or before, ns since 1970.
    pub at_ns: Option<i64>,
}

impl SnapshotFilter {
    /// Whether every snapshot is considered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a snapshot with this manifest is considered.
    #[must_use]
    pub fn admits(&self, manifest: &Manifest) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&manifest.host))
            && (self.tags.is_empty() || self.tags.iter().any(|list| has_tags(manifest, list)))
            && self.has_paths(manifest)
            && self.at_ns.is_none_or(|at| manifest.end_ns <= at)
    }

    fn has_paths(&self, manifest: &Manifest) -> bool {
        if self.paths.is_empty() {
            return true;
        }
        let base = working_directory(manifest);
        let given: Vec<_> = manifest.sources.iter().map(|source| plain_path(source)).collect();
        let absolute = |source: &Vec<u8>| {
            base.as_ref()
                .filter(|_| !source.starts_with(b"/"))
                .map(|base| plain_path(&[&base[..], b"/", &source[..]].concat()))
        };
        self.paths.iter().map(|path| plain_path(path)).all(|path| {
            given
                .iter()
                .any(|source| *source == path || absolute(source).is_some_and(|source| source == path))
        })
    }

    /// The filter in words that follow what it narrows.
    fn words(&self) -> String {
        let mut words = String::new();
        let mut list = |word: &str, items: Vec<String>| {
            if !items.is_empty() {
                // Writing to a string does not fail.
                let _ = write!(words, "{word}{}", items.join(" or "));
            }
        };
        list(" of host ", self.hosts.clone());
        list(" with tag ", self.tags.clone());
        list(" of path ", self.paths.iter().map(|path| display_path(path)).collect());
        if self.at_ns.is_some() {
            words.push_str(" at that time");
        }
        words
    }
}

fn has_tags(manifest: &Manifest, list: &str) -> bool {
    if list.is_empty() {
        return manifest.tags.is_empty();
    }
    let has = |tag: &str| manifest.tags.iter().any(|own| own == tag);
    // A tag may contain a comma itself.
    has(list) || list.split(',').all(has)
}

/// A path without `.`, doubled slashes and a slash at its end.
fn plain_path(path: &[u8]) -> Vec<u8> {
    let root: &[u8] = if path.starts_with(b"/") { b"/" } else { b"" };
    let components = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    [root, &components.collect::<Vec<_>>().join(&b'/')].concat()
}

/// The directory that relative sources are relative to, if the snapshot says.
fn working_directory(manifest: &Manifest) -> Option<Vec<u8>> {
    let mut d = Decoder::new("facts", manifest.facts.as_deref()?);
    let mut map = d.map().ok()?;
    while let Ok(Some(key)) = map.next_key(&mut d) {
        if key == 1 {
            return d.bytes(PATH_LEN_MAX).ok().map(<[u8]>::to_vec);
        }
        d.raw().ok()?;
    }
    None
}

/// Where a snapshot comes from, for people: host and sources. Snapshots of one origin are states of the same thing.
fn origin(manifest: &Manifest) -> String {
    let base = working_directory(manifest);
    let shown = manifest.sources.iter().map(|source| match &base {
        Some(base) if !source.starts_with(b"/") => {
            display_path(&plain_path(&[&base[..], b"/", &source[..]].concat()))
        }
        _ => display_path(source),
    });
    format!("{}:{}", display_path(manifest.host.as_bytes()), shown.collect::<Vec<_>>().join(","))
}

/// A snapshot that was chosen.
#[derive(Debug)]
pub struct Selection {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Snapshots that might have been meant, but their manifests cannot be read.
    pub unread: Vec<(SnapshotId, EngineError)>,
}

/// Chooses among `states`, which are in log order and not forgotten.
///
/// # Errors
/// [`EngineError::NoSnapshot`], [`EngineError::AmbiguousSnapshot`], [`EngineError::AmbiguousOrigin`], and that of `load` for the
/// snapshot that an id names. A latest one that cannot be opened is passed over, for any writer can make such a snapshot; but not one that
/// the store does not give now.
pub fn choose(
    states: &[SnapshotState],
    selector: &Selector,
    filter: &SnapshotFilter,
    load: &mut dyn FnMut(&SnapshotState) -> Result<Snapshot, EngineError>,
) -> Result<Selection, EngineError> {
    let chosen = |snapshot| Selection { snapshot, unread: Vec::new() };
    match selector {
        Selector::Prefix(prefix) => {
            let found: Vec<_> =
                states.iter().filter(|state| state.id.to_string().starts_with(prefix.as_str())).collect();
            let [one] = found.as_slice() else {
                return Err(match found.len() {
                    0 => EngineError::NoSnapshot { selector: prefix.clone() },
                    count => EngineError::AmbiguousSnapshot { selector: prefix.clone(), count },
                });
            };
            let snapshot = load(one)?;
            if filter.admits(&snapshot.manifest) {
                return Ok(chosen(snapshot));
            }
            Err(EngineError::NoSnapshot { selector: format!("{prefix}{}", filter.words()) })
        }
        Selector::Latest { back } => {
            let word = if *back == 0 { "latest".to_owned() } else { format!("latest~{back}") };
            let none = || EngineError::NoSnapshot { selector: format!("{word}{}", filter.words()) };
            let mut admitted = Vec::new();
            let mut unread = Vec::new();
            for state in states.iter().rev() {
                match load(state) {
                    Ok(snapshot) if filter.admits(&snapshot.manifest) => admitted.push(snapshot),
                    Ok(_) => {}
                    Err(error @ EngineError::Store(_)) => return Err(error),
                    Err(error) if error.is_archived() => return Err(error),
                    Err(error) => unread.push((state.id, error)),
                }
                if filter.at_ns.is_none() && admitted.len() > *back {
                    break;
                }
            }
            if filter.at_ns.is_some() {
                one_origin(&admitted)?;
                // Clocks may have been set back; of the same time, the one that was committed later.
                admitted.sort_by_key(|snapshot| {
                    std::cmp::Reverse((snapshot.manifest.end_ns, snapshot.state.number))
                });
            }
            match admitted.into_iter().nth(*back) {
                Some(snapshot) => Ok(Selection { snapshot, unread }),
                // Any of those that cannot be read would have been meant.
                None if filter.is_empty() && !unread.is_empty() => Err(unread.swap_remove(0).1),
                None => Err(none()),
            }
        }
    }
}

fn one_origin(snapshots: &[Snapshot]) -> Result<(), EngineError> {
    let mut origins: Vec<_> = snapshots.iter().map(|snapshot| origin(&snapshot.manifest)).collect();
    origins.sort_unstable();
    origins.dedup();
    if origins.len() > 1 { Err(EngineError::AmbiguousOrigin { origins }) } else { Ok(()) }
}

impl Vault<'_> {
    /// The snapshot that a selector names, of those that the filter admits.
    ///
    /// # Errors
    /// As [`choose`].
    pub fn select_with(
        &self,
        selector: &Selector,
        filter: &SnapshotFilter,
    ) -> Result<Selection, EngineError> {
        let live = self.state().snapshots.iter().filter(|snapshot| !snapshot.forgotten);
        let states: Vec<_> = live.copied().collect();
        if filter.at_ns.is_none() {
            return choose(&states, selector, filter, &mut |state| self.snapshot(state));
        }
        // All of them are asked for: together they come at the price of a few objects.
        let mut loaded: HashMap<_, _> =
            self.snapshots().into_iter().map(|(state, snapshot)| (state.id, snapshot)).collect();
        let chosen = choose(&states, selector, filter, &mut |state| {
            loaded.remove(&state.id).unwrap_or_else(|| self.snapshot(state))
        })?;
        // The one that is used is read from its own record, so that damage to that shows.
        Ok(Selection { snapshot: self.snapshot(&chosen.snapshot.state)?, ..chosen })
    }
}

#[cfg(test)]
mod tests;
