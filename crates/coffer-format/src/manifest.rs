//! The manifest of a snapshot (specification section 9.1).

use crate::cbor::{Decoder, Encoder, Unknown};
use crate::error::FormatError;
use crate::id::SnapshotId;
use crate::limits::{MANIFEST_ERROR_COUNT_MAX, PATH_LEN_MAX, TEXT_LEN_MAX};
use crate::tree::TreeRoot;

const OBJECT: &str = "snapshot manifest";
const EMPTY_MAP: &[u8] = &[0xa0];
const EMPTY: &str = "an empty value is written by leaving it out";

/// Counts of a snapshot. Bytes unless the name says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Entries in the snapshot.
    pub entry_count: u64,
    /// Files among them.
    pub file_count: u64,
    /// Directories among them.
    pub directory_count: u64,
    /// Bytes of content of all files.
    pub content_bytes: u64,
    /// Bytes read from the origin in this run.
    pub read_bytes: u64,
    /// Bytes of new chunks, before compression.
    pub new_bytes: u64,
    /// Bytes of packs stored in this run.
    pub stored_bytes: u64,
    /// New chunks.
    pub new_chunk_count: u64,
    /// Entries taken over from the parent.
    pub unchanged_count: u64,
}

impl Statistics {
    fn fields(&mut self) -> [&mut u64; 9] {
        [
            &mut self.entry_count,
            &mut self.file_count,
            &mut self.directory_count,
            &mut self.content_bytes,
            &mut self.read_bytes,
            &mut self.new_bytes,
            &mut self.stored_bytes,
            &mut self.new_chunk_count,
            &mut self.unchanged_count,
        ]
    }
}

/// What a snapshot could not take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completeness {
    /// Path and message of errors, at most 1000.
    pub errors: Vec<(Vec<u8>, String)>,
    /// Number of errors.
    pub error_count: u64,
}

/// The manifest of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the collector.
    pub collector: String,
    /// Host.
    pub host: String,
    /// Tags, ascending.
    pub tags: Vec<String>,
    /// Sources as given.
    pub sources: Vec<Vec<u8>>,
    /// Start, nanoseconds since 1970 UTC.
    pub start_ns: i64,
    /// End, nanoseconds since 1970 UTC.
    pub end_ns: i64,
    /// Root of the tree.
    pub root: TreeRoot,
    /// Counts.
    pub statistics: Statistics,
    /// Parent snapshot.
    pub parent: Option<SnapshotId>,
    /// What could not be taken; the snapshot is complete if there are no errors.
    pub completeness: Completeness,
    /// Program and version.
    pub program: String,
    /// User.
    pub user: Option<String>,
    /// The collector's own facts, as CBOR.
    pub facts: Option<Vec<u8>>,
    statistics_unknown: Unknown,
    completeness_unknown: Unknown,
    unknown: Unknown,
}

impl Manifest {
    /// A manifest of nothing but a tree.
    #[must_use]
    pub fn new(collector: &str, root: TreeRoot) -> Self {
        Self {
            collector: collector.to_owned(),
            host: String::new(),
            tags: Vec::new(),
            sources: Vec::new(),
            start_ns: 0,
            end_ns: 0,
            root,
            statistics: Statistics::default(),
            parent: None,
            completeness: Completeness::default(),
            program: String::new(),
            user: None,
            facts: None,
            statistics_unknown: Unknown::default(),
            completeness_unknown: Unknown::default(),
            unknown: Unknown::default(),
        }
    }

    /// The manifest as CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.map(|map| {
            self.unknown.write_low(map);
            map.key(1).text(&self.collector);
            map.key(2).text(&self.host);
            if !self.tags.is_empty() {
                let value = map.key(3);
                value.array(self.tags.len());
                self.tags.iter().for_each(|tag| value.text(tag));
            }
            let value = map.key(4);
            value.array(self.sources.len());
            self.sources.iter().for_each(|source| value.bytes(source));
            map.key(5).int(self.start_ns);
            map.key(6).int(self.end_ns);
            self.root.write(map.key(7));
            let mut statistics = self.statistics;
            map.key(8).map(|map| {
                self.statistics_unknown.write_low(map);
                for (key, value) in (1..).zip(statistics.fields()) {
                    if *value > 0 {
                        map.key(key).uint(*value);
                    }
                }
                self.statistics_unknown.write(map);
            });
            if let Some(parent) = &self.parent {
                map.key(9).bytes(&parent.0);
            }
            map.key(10).map(|map| {
                self.completeness_unknown.write_low(map);
                map.key(1).bool(self.completeness.error_count == 0);
                let value = map.key(2);
                value.array(self.completeness.errors.len());
                for (path, message) in &self.completeness.errors {
                    value.array(2);
                    value.bytes(path);
                    value.text(message);
                }
                map.key(3).uint(self.completeness.error_count);
                self.completeness_unknown.write(map);
            });
            map.key(11).text(&self.program);
            if let Some(user) = self.user.as_ref().filter(|user| !user.is_empty()) {
                map.key(12).text(user);
            }
            if let Some(facts) = self.facts.as_ref().filter(|facts| *facts != EMPTY_MAP) {
                map.key(13).raw(facts);
            }
            self.unknown.write(map);
        });
        encoder.finish()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// What is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut d = Decoder::new(OBJECT, bytes);
        let (mut collector, mut host, mut sources, mut start, mut end) = (None, None, None, None, None);
        let (mut root, mut statistics, mut completeness, mut program) = (None, None, None, None);
        let (mut tags, mut parent, mut user, mut facts) = (Vec::new(), None, None, None);
        let (mut statistics_unknown, mut completeness_unknown, mut unknown) =
            (Unknown::default(), Unknown::default(), Unknown::default());
        let mut map = d.map()?;
        while let Some(key) = map.next_key(&mut d)? {
            match key {
                1 => collector = Some(d.text(TEXT_LEN_MAX)?.to_owned()),
                2 => host = Some(d.text(TEXT_LEN_MAX)?.to_owned()),
                3 => tags = read_tags(&mut d)?,
                4 => {
                    let count = d.array(65_536)?;
                    let all = (0..count).map(|_| Ok(d.bytes(PATH_LEN_MAX)?.to_vec()));
                    sources = Some(all.collect::<Result<_, FormatError>>()?);
                }
                5 => start = Some(d.int()?),
                6 => end = Some(d.int()?),
                7 => root = Some(TreeRoot::read(&mut d)?),
                8 => statistics = Some(read_statistics(&mut d, &mut statistics_unknown)?),
                9 => parent = Some(SnapshotId(d.fixed()?)),
                10 => completeness = Some(read_completeness(&mut d, &mut completeness_unknown)?),
                11 => program = Some(d.text(TEXT_LEN_MAX)?.to_owned()),
                12 => {
                    let text = d.text(TEXT_LEN_MAX)?;
                    if text.is_empty() {
                        return Err(d.fail(EMPTY));
                    }
                    user = Some(text.to_owned());
                }
                13 => {
                    d.clone().map()?;
                    let map = d.raw_within(1)?;
                    if map == EMPTY_MAP {
                        return Err(d.fail(EMPTY));
                    }
                    facts = Some(map.to_vec());
                }
                _ => unknown.keep(key, &mut d, 1)?,
            }
        }
        d.finish()?;
        let absent = || FormatError::rule(OBJECT, "a key is absent");
        Ok(Self {
            collector: collector.ok_or_else(absent)?,
            host: host.ok_or_else(absent)?,
            tags,
            sources: sources.ok_or_else(absent)?,
            start_ns: start.ok_or_else(absent)?,
            end_ns: end.ok_or_else(absent)?,
            root: root.ok_or_else(absent)?,
            statistics: statistics.ok_or_else(absent)?,
            parent,
            completeness: completeness.ok_or_else(absent)?,
            program: program.ok_or_else(absent)?,
            user,
            facts,
            statistics_unknown,
            completeness_unknown,
            unknown,
        })
    }
}

fn read_tags(d: &mut Decoder<'_>) -> Result<Vec<String>, FormatError> {
    let count = d.array(65_536)?;
    let mut tags: Vec<String> = Vec::new();
    for _ in 0..count {
        let tag = d.text(TEXT_LEN_MAX)?.to_owned();
        if tags.last().is_some_and(|last| *last >= tag) {
            return Err(d.fail("tags are not ascending"));
        }
        tags.push(tag);
    }
    if tags.is_empty() { Err(d.fail("an empty list is written by leaving it out")) } else { Ok(tags) }
}

fn read_statistics(d: &mut Decoder<'_>, unknown: &mut Unknown) -> Result<Statistics, FormatError> {
    let mut statistics = Statistics::default();
    let mut map = d.map()?;
    while let Some(key) = map.next_key(d)? {
        let field = usize::try_from(key)
            .ok()
            .and_then(|key| statistics.fields().into_iter().nth(key.checked_sub(1)?));
        match field {
            Some(field) => {
                *field = d.uint()?;
                if *field == 0 {
                    return Err(d.fail(EMPTY));
                }
            }
            None => unknown.keep(key, d, 2)?,
        }
    }
    Ok(statistics)
}

fn read_completeness(d: &mut Decoder<'_>, unknown: &mut Unknown) -> Result<Completeness, FormatError> {
    let mut completeness = Completeness::default();
    let (mut complete, mut listed, mut counted) = (None, false, false);
    let mut map = d.map()?;
    while let Some(key) = map.next_key(d)? {
        match key {
            1 => complete = Some(d.bool()?),
            2 => {
                listed = true;
                let count = d.array(MANIFEST_ERROR_COUNT_MAX)?;
                for _ in 0..count {
                    if d.array(2)? != 2 {
                        return Err(d.fail("an error has path and message"));
                    }
                    let path = d.bytes(PATH_LEN_MAX)?.to_vec();
                    completeness.errors.push((path, d.text(TEXT_LEN_MAX)?.to_owned()));
                }
            }
            3 => {
                completeness.error_count = d.uint()?;
                counted = true;
            }
            _ => unknown.keep(key, d, 2)?,
        }
    }
    if !listed || !counted {
        return Err(d.fail("a key is absent"));
    }
    let fits = completeness.errors.len() as u64 <= completeness.error_count;
    if !fits || complete != Some(completeness.error_count == 0) {
        return Err(d.fail("completeness and its number of errors disagree"));
    }
    Ok(completeness)
}

#[cfg(test)]
mod tests;
