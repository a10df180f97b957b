//! Trees walked to the last reference (specification section 12).
//!
//! A leaf or node in which nothing is wrong, and whose hard links stay within it, is remembered and not read again
//! when another snapshot shares it. What has a fault is walked for every snapshot, so that each learns what it lost.

mod entry;

use std::collections::{BTreeSet, HashMap, HashSet};

use coffer_format::id::{ChunkId, DomainId};
use coffer_format::log::SnapshotState;
use coffer_format::object::ObjectName;
use coffer_format::path::{compare_paths, display_path};
use coffer_format::tree::{ChunkRef, NodeChild, TreeEntry, TreeRoot, decode_leaf, decode_node};

use crate::error::VerifyError;
use crate::packs::Row;
use crate::parallel;
use crate::report::{Class, Counts, Findings};
use crate::source::ReadFault;

use super::chunks::{ChunkTable, Loss};
use super::damage::{Blamed, Damage};
use super::meta::{MetaCache, MetaReader};
use super::{Domains, Task};

use entry::ListOutcome;

/// Leaves and nodes that are remembered.
const TREE_COUNT_MAX: usize = 4_000_000;

/// Leaves that a thread looks at one after the other.
const LEAVES_AT_ONCE: usize = 8;

/// A leaf or node: in which domain, which, at which height.
type TreeKey = (DomainId, ChunkId, u8);

/// A chunk of a content list: in which domain, which, of which length, at which level.
type ListKey = (DomainId, ChunkId, u32, u8);

/// A leaf or node in which nothing is wrong.
struct Clean {
    len: u32,
    first: Box<[u8]>,
    last: Box<[u8]>,
    entry_count: u64,
    content_bytes: u64,
}

impl Clean {
    /// What is remembered of a leaf or node of `len` bytes; nothing unless it is clean.
    fn of(len: u32, below: &Below) -> Option<Self> {
        let (first, last) = (below.first.as_deref()?, below.last.as_deref()?);
        let Below { entry_count, content_bytes, .. } = *below;
        below.clean.then(|| Self { len, first: first.into(), last: last.into(), entry_count, content_bytes })
    }
}

/// What lies below a leaf or node.
struct Below {
    /// Nothing is wrong with it.
    clean: bool,
    /// It was read to the end; otherwise the counts are what the parent says.
    known: bool,
    first: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
    entry_count: u64,
    content_bytes: u64,
}

/// The walk through one snapshot.
pub(crate) struct Walk<'s> {
    snapshot: &'s SnapshotState,
    root: TreeRoot,
    /// Leaves and nodes that were read.
    visited: HashSet<ChunkId>,
    /// The last path so far.
    last: Option<Vec<u8>>,
}

impl Walk<'_> {
    fn domain(&self) -> DomainId {
        self.snapshot.body.domain
    }
}

/// Walks the trees of one vault.
pub(crate) struct Walker<'a> {
    task: &'a Task<'a>,
    domains: &'a Domains,
    chunks: &'a ChunkTable,
    cache: &'a MetaCache,
    meta: MetaReader<'a>,
    trees: HashMap<TreeKey, Clean>,
    lists: HashMap<ListKey, ListOutcome>,
    /// Rows that give a chunk a place.
    found: Vec<Row>,
    damage: Damage,
    findings: Findings,
    counts: Counts,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(
        task: &'a Task<'a>,
        domains: &'a Domains,
        chunks: &'a ChunkTable,
        cache: &'a MetaCache,
        damage: Damage,
        findings: Findings,
        counts: Counts,
    ) -> Result<Self, VerifyError> {
        let meta = MetaReader::new(task, domains, chunks, cache)?;
        let (trees, lists, found) = (HashMap::new(), HashMap::new(), Vec::new());
        Ok(Self { task, domains, chunks, cache, meta, trees, lists, found, damage, findings, counts })
    }

    pub(crate) fn findings(&mut self) -> &mut Findings {
        &mut self.findings
    }

    /// What was found, with all that was given at the beginning.
    pub(crate) fn finish(self) -> (Damage, Findings, Counts) {
        (self.damage, self.findings, self.counts)
    }

    /// Walks one snapshot from its root.
    pub(crate) fn walk(&mut self, snapshot: &SnapshotState, root: TreeRoot) -> Result<(), VerifyError> {
        let mut walk = Walk { snapshot, root, visited: HashSet::new(), last: None };
        let below = self.visit(&mut walk, root.chunk, root.height, None)?;
        self.counts.trees += 1;
        self.counts.entries += below.entry_count;
        Ok(())
    }

    /// Walks the leaf (height 0) or node `chunk`, of which its parent says `claim`.
    fn visit(
        &mut self,
        walk: &mut Walk<'_>,
        chunk: ChunkRef,
        height: u8,
        claim: Option<&NodeChild>,
    ) -> Result<Below, VerifyError> {
        let key = (walk.domain(), chunk.id, height);
        if let Some(known) = self.trees.get(&key).filter(|known| known.len == chunk.len) {
            let below = Below {
                clean: true,
                known: true,
                first: Some(known.first.to_vec()),
                last: Some(known.last.to_vec()),
                entry_count: known.entry_count,
                content_bytes: known.content_bytes,
            };
            let ascends = self.ascend(walk, below.first.as_deref().unwrap_or_default());
            walk.last.clone_from(&below.last);
            return Ok(Below { clean: ascends, ..below });
        }
        if !walk.visited.insert(chunk.id) {
            self.fault(walk, "a leaf or node stands twice in the tree", &stretch(claim), 0);
            return Ok(unknown(walk, claim));
        }
        let bytes = match self.meta.read(&mut self.damage, walk.domain(), &chunk)? {
            Ok(bytes) => bytes,
            Err(losses) => {
                let count = claim.map_or(0, |claim| claim.entry_count);
                self.lose(walk, &stretch(claim), count, losses);
                return Ok(unknown(walk, claim));
            }
        };
        self.counts.tree_chunks += 1;
        let below = if height == 0 {
            match decode_leaf(&bytes) {
                Ok(entries) => self.leaf(walk, &entries, claim.is_none())?,
                Err(error) => return Ok(self.malformed(walk, claim, &error.to_string())),
            }
        } else {
            match decode_node(&bytes) {
                Ok(children) => self.node(walk, &children, height)?,
                Err(error) => return Ok(self.malformed(walk, claim, &error.to_string())),
            }
        };
        if self.trees.len() < TREE_COUNT_MAX
            && let Some(clean) = Clean::of(chunk.len, &below)
        {
            self.trees.insert(key, clean);
        }
        Ok(below)
    }

    /// Looks at leaves that were not seen before, on all threads, and remembers those in which nothing is wrong: the walk, which
    /// comes to them next, then need not read them. What it does not find remembered it looks at itself, and says what is wrong
    /// with it; so nothing depends on which thread came to what.
    fn leaves_ahead(&mut self, walk: &Walk<'_>, children: &[NodeChild]) -> Result<(), VerifyError> {
        let domain = walk.domain();
        let is_new = |chunk: &&ChunkRef| !self.trees.contains_key(&(domain, chunk.id, 0));
        let new: Vec<ChunkRef> = children.iter().map(|child| &child.chunk).filter(is_new).copied().collect();
        let room = TREE_COUNT_MAX.saturating_sub(self.trees.len());
        if self.task.threads < 2 || new.len() < 2 || new.len() > room {
            return Ok(());
        }
        let (task, domains, chunks, cache) = (self.task, self.domains, self.chunks, self.cache);
        let alone = || {
            let damage = Damage::new(task.table);
            Self::new(task, domains, chunks, cache, damage, Findings::default(), Counts::default())
        };
        let (snapshot, root) = (walk.snapshot, walk.root);
        // Leaves that lie together are most often in one frame.
        let runs = new.chunks(LEAVES_AT_ONCE);
        let looked = parallel::map(task.threads, runs, alone, |walker: &mut Self, run| {
            run.iter().map(|chunk| walker.leaf_alone(snapshot, root, chunk)).collect::<Result<Vec<_>, _>>()
        })?;
        for (chunk, clean) in new.iter().zip(looked.into_iter().flatten()) {
            if let Some(clean) = clean
                && self.trees.insert((domain, chunk.id, 0), clean).is_none()
            {
                self.counts.tree_chunks += 1;
            }
        }
        Ok(())
    }

    /// What is in a leaf, if nothing at all is wrong with it. What is wrong is not said.
    fn leaf_alone(
        &mut self,
        snapshot: &SnapshotState,
        root: TreeRoot,
        chunk: &ChunkRef,
    ) -> Result<Option<Clean>, VerifyError> {
        let mut walk = Walk { snapshot, root, visited: HashSet::new(), last: None };
        let mut clean = None;
        if let Ok(bytes) = self.meta.read(&mut self.damage, walk.domain(), chunk)?
            && let Ok(entries) = decode_leaf(&bytes)
        {
            clean = Clean::of(chunk.len, &self.leaf(&mut walk, &entries, false)?);
        }
        if self.damage.is_touched() || !self.findings.is_empty() {
            clean = None;
            self.damage = Damage::new(self.task.table);
            self.findings = Findings::default();
        }
        Ok(clean)
    }

    fn malformed(&mut self, walk: &mut Walk<'_>, claim: Option<&NodeChild>, what: &str) -> Below {
        self.fault(walk, what, &stretch(claim), claim.map_or(0, |claim| claim.entry_count));
        unknown(walk, claim)
    }

    fn node(
        &mut self,
        walk: &mut Walk<'_>,
        children: &[NodeChild],
        height: u8,
    ) -> Result<Below, VerifyError> {
        if height == 1 {
            self.leaves_ahead(walk, children)?;
        }
        let mut sum =
            Below { clean: true, known: true, first: None, last: None, entry_count: 0, content_bytes: 0 };
        for child in children {
            let below = self.visit(walk, child.chunk, height - 1, Some(child))?;
            sum.clean &= below.clean;
            if below.known {
                let wrong = [
                    (
                        below.last.as_ref() != Some(&child.last_path),
                        "a node gives a child another last path than it has",
                    ),
                    (
                        below.entry_count != child.entry_count,
                        "a node gives a child another number of entries than it has",
                    ),
                    (
                        below.content_bytes != child.content_bytes,
                        "a node gives a child another number of bytes than it has",
                    ),
                ];
                for (_, what) in wrong.into_iter().filter(|(wrong, _)| *wrong) {
                    self.fault(walk, what, &stretch(Some(child)), 0);
                    sum.clean = false;
                }
            }
            if sum.first.is_none() {
                sum.first = below.first;
            }
            sum.last = below.last;
            sum.entry_count = sum.entry_count.saturating_add(below.entry_count);
            sum.content_bytes = sum.content_bytes.saturating_add(below.content_bytes);
        }
        Ok(sum)
    }

    fn leaf(
        &mut self,
        walk: &mut Walk<'_>,
        entries: &[TreeEntry],
        is_root: bool,
    ) -> Result<Below, VerifyError> {
        let mut clean = true;
        match entries.first() {
            Some(first) => clean &= self.ascend(walk, &first.path),
            None if !is_root => {
                self.fault(walk, "a leaf below a node is empty", "(0 entries)", 0);
                clean = false;
            }
            None => {}
        }
        let mut content_bytes = 0_u64;
        for (number, entry) in entries.iter().enumerate() {
            clean &= self.entry(walk, entries, number)?;
            content_bytes = content_bytes.saturating_add(entry.size);
        }
        let path = |entry: Option<&TreeEntry>| entry.map(|entry| entry.path.clone());
        let (first, last) = (path(entries.first()), path(entries.last()));
        if last.is_some() {
            walk.last.clone_from(&last);
        }
        Ok(Below { clean, known: true, first, last, entry_count: entries.len() as u64, content_bytes })
    }

    /// Whether a leaf that begins with `first` follows what came before; a fault if not.
    fn ascend(&mut self, walk: &Walk<'_>, first: &[u8]) -> bool {
        let ascends = walk.last.as_ref().is_none_or(|last| compare_paths(last, first).is_lt());
        if !ascends {
            self.fault(walk, "the paths of its tree are not ascending", &show(first), 1);
        }
        ascends
    }

    /// Notes a fault that the tree itself has, whatever its chunks are stored in.
    fn fault(&mut self, walk: &Walk<'_>, what: &str, path: &str, count: u64) {
        let name = ObjectName::Record(walk.snapshot.number);
        self.findings.add(Class::Corrupt, name, what).add_path(walk.snapshot.id, path, count);
    }

    /// Notes that `count` entries at `path` are affected by losses.
    fn lose(&mut self, walk: &Walk<'_>, path: &str, count: u64, losses: impl IntoIterator<Item = Loss>) {
        let (snapshot, name) = (walk.snapshot.id, ObjectName::Record(walk.snapshot.number));
        let table = self.task.table;
        let (mut blamed, mut unplaced) = (BTreeSet::new(), false);
        let losses: BTreeSet<Loss> = losses.into_iter().collect();
        for loss in losses {
            match loss {
                Loss::Bad(listing) => drop(blamed.insert(self.damage.blame(table, listing))),
                Loss::Segment(segment) => drop(blamed.insert(Blamed::Segment(segment))),
                // The segment that gives it a place may be one that an archived record names: that record is the finding.
                Loss::Unplaced(id) if !self.task.replayed.archived.is_empty() => {
                    for number in &self.task.replayed.archived {
                        let (fault, name) = (ReadFault::Archived, ObjectName::Record(*number));
                        let affected = self.findings.add(fault.class(), name, fault.what());
                        affected.add_chunk(&id.0);
                        if !unplaced {
                            affected.add_path(snapshot, path, count);
                        }
                    }
                    unplaced = true;
                }
                Loss::Unplaced(id) => {
                    let what = "its snapshot needs chunks that no live index segment of their domain lists";
                    let affected = self.findings.add(Class::Missing, name, what);
                    affected.add_chunk(&id.0);
                    if !unplaced {
                        affected.add_path(snapshot, path, count);
                    }
                    unplaced = true;
                }
                Loss::Unfit(what) => {
                    self.findings.add(Class::Corrupt, name, what).add_path(snapshot, path, count)
                }
            }
        }
        for blamed in blamed {
            self.damage.add_path(blamed, snapshot, path, count);
        }
    }
}

/// Of a part that cannot be read, its parent's word is taken, so that what follows is judged by it.
fn unknown(walk: &mut Walk<'_>, claim: Option<&NodeChild>) -> Below {
    let last = claim.map(|claim| claim.last_path.clone());
    if last.is_some() {
        walk.last.clone_from(&last);
    }
    let (entry_count, content_bytes) = claim.map_or((0, 0), |claim| (claim.entry_count, claim.content_bytes));
    Below { clean: false, known: false, first: None, last, entry_count, content_bytes }
}

/// A path for people.
fn show(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { display_path(path) }
}

/// The entries below a node's child, for people.
fn stretch(claim: Option<&NodeChild>) -> String {
    match claim {
        Some(claim) => format!("({} entries up to {})", claim.entry_count, show(&claim.last_path)),
        None => "(all entries)".to_owned(),
    }
}
