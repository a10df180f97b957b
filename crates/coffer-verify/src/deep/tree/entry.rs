//! One entry: its content, blobs and hard link.

use std::collections::BTreeSet;

use coffer_format::id::DomainId;
use coffer_format::pack::ChunkKind;
use coffer_format::path::compare_paths;
use coffer_format::tree::{
    Blob, ChunkRef, Content, Kind, TreeEntry, decode_holes, decode_leaf, decode_node, decode_xattrs,
};

use crate::deep::chunks::Loss;
use crate::error::VerifyError;

use super::{Walk, Walker, show};

/// Chunks of content lists that are remembered.
const LIST_COUNT_MAX: usize = 1_000_000;
/// Losses of one file that are told apart.
const LOSS_COUNT_MAX: usize = 1_024;

/// What the chunks of a content list come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListOutcome {
    /// Bytes of content, as far as the list can be read.
    bytes: u64,
    /// Whether the list could not be read to the end.
    open: bool,
    losses: BTreeSet<Loss>,
}

impl ListOutcome {
    fn lose(&mut self, losses: impl IntoIterator<Item = Loss>) {
        for loss in losses {
            if self.losses.len() >= LOSS_COUNT_MAX {
                break;
            }
            self.losses.insert(loss);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.open |= other.open;
        self.lose(other.losses.iter().copied());
    }
}

/// What a hard link points at.
enum Target {
    Entry(Kind, bool),
    Absent,
    Unknown,
}

impl Walker<'_> {
    /// Checks entry `number` of a leaf. True when nothing is wrong and the entry needs nothing outside the leaf.
    pub(super) fn entry(
        &mut self,
        walk: &Walk<'_>,
        leaf: &[TreeEntry],
        number: usize,
    ) -> Result<bool, VerifyError> {
        let entry = &leaf[number];
        let mut clean = true;
        if let Some(blob) = &entry.xattrs {
            clean &= match self.blob(walk, entry, blob)? {
                Some(bytes) => self.sound(walk, entry, decode_xattrs(&bytes).map(drop)),
                None => false,
            };
        }
        let mut hole_bytes = Some(0);
        if let Some(blob) = &entry.holes {
            let holes = self.blob(walk, entry, blob)?.map(|bytes| decode_holes(&bytes, entry.size));
            hole_bytes = match holes {
                Some(Ok(holes)) => Some(holes.iter().map(|hole| hole.len).sum()),
                Some(Err(error)) => {
                    self.sound(walk, entry, Err(error));
                    None
                }
                None => None,
            };
            clean &= hole_bytes.is_some();
        }
        if let Some(first) = &entry.hard_link {
            return Ok(self.hard_link(walk, leaf, number, first)? && clean);
        }
        let content = self.content(walk.domain(), &entry.content)?;
        if !content.losses.is_empty() {
            clean = false;
            self.lose(walk, &show(&entry.path), 1, content.losses.iter().copied());
        }
        let whole = hole_bytes.map(|holes| content.bytes.saturating_add(holes));
        if !content.open && whole.is_some_and(|whole| whole != entry.size) {
            clean = false;
            self.fault(walk, "a size is not that of content and holes", &show(&entry.path), 1);
        }
        Ok(clean)
    }

    fn sound(
        &mut self,
        walk: &Walk<'_>,
        entry: &TreeEntry,
        result: Result<(), coffer_format::FormatError>,
    ) -> bool {
        let Err(error) = result else { return true };
        self.fault(walk, &error.to_string(), &show(&entry.path), 1);
        false
    }

    fn blob(
        &mut self,
        walk: &Walk<'_>,
        entry: &TreeEntry,
        blob: &Blob,
    ) -> Result<Option<Vec<u8>>, VerifyError> {
        let chunk = match blob {
            Blob::Inline(bytes) => return Ok(Some(bytes.clone())),
            Blob::Chunk(chunk) => chunk,
        };
        match self.meta.read(&mut self.damage, walk.domain(), chunk)? {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(losses) => {
                self.lose(walk, &show(&entry.path), 1, losses);
                Ok(None)
            }
        }
    }

    fn content(&mut self, domain: DomainId, content: &Content) -> Result<ListOutcome, VerifyError> {
        match content {
            Content::Empty => Ok(ListOutcome::default()),
            Content::Inline(bytes) => Ok(ListOutcome { bytes: bytes.len() as u64, ..ListOutcome::default() }),
            Content::List { level, rows } => self.list(domain, *level, rows),
        }
    }

    fn list(&mut self, domain: DomainId, level: u8, rows: &[ChunkRef]) -> Result<ListOutcome, VerifyError> {
        let mut outcome = ListOutcome::default();
        for chunk in rows {
            if level == 0 {
                outcome.bytes = outcome.bytes.saturating_add(u64::from(chunk.len));
                if let Err(losses) = self.chunks.resolve(domain, chunk, ChunkKind::Data, &mut self.found)? {
                    outcome.lose(losses);
                }
            } else {
                outcome.merge(&self.list_chunk(domain, level, chunk)?);
            }
        }
        Ok(outcome)
    }

    /// The part of a content list in one meta chunk. Remembered, or a list that names the same chunk again and again
    /// would take for ever.
    fn list_chunk(
        &mut self,
        domain: DomainId,
        level: u8,
        chunk: &ChunkRef,
    ) -> Result<ListOutcome, VerifyError> {
        let key = (domain, chunk.id, chunk.len, level);
        if let Some(outcome) = self.lists.get(&key) {
            return Ok(outcome.clone());
        }
        let outcome = match self.meta.read(&mut self.damage, domain, chunk)? {
            Err(losses) => ListOutcome { open: true, losses: losses.into_iter().collect(), bytes: 0 },
            Ok(bytes) => match ChunkRef::read_chunked_rows(&bytes) {
                Ok(rows) => self.list(domain, level - 1, &rows)?,
                Err(_) => {
                    let losses = BTreeSet::from([Loss::Unfit("a chunk of a content list is malformed")]);
                    ListOutcome { open: true, losses, bytes: 0 }
                }
            },
        };
        if self.lists.len() >= LIST_COUNT_MAX {
            self.lists.clear();
        }
        self.lists.insert(key, outcome.clone());
        Ok(outcome)
    }

    fn hard_link(
        &mut self,
        walk: &Walk<'_>,
        leaf: &[TreeEntry],
        number: usize,
        first: &[u8],
    ) -> Result<bool, VerifyError> {
        let within = leaf[..number].binary_search_by(|entry| compare_paths(&entry.path, first));
        let target = match within {
            Ok(at) => Target::Entry(leaf[at].kind, leaf[at].hard_link.is_some()),
            Err(_) => self.look_up(walk, first)?,
        };
        let what = match target {
            Target::Entry(Kind::Directory, _) => Some("a hard link names a directory"),
            Target::Entry(_, true) => Some("a hard link names another hard link"),
            Target::Entry(kind, _) if kind != leaf[number].kind => {
                Some("a hard link names an entry of another kind")
            }
            Target::Entry(..) | Target::Unknown => None,
            Target::Absent => Some("a hard link names an entry that does not exist"),
        };
        if let Some(what) = what {
            self.fault(walk, what, &show(&leaf[number].path), 1);
        }
        Ok(what.is_none() && within.is_ok())
    }

    /// Looks for the entry of a path from the root. Unknown where the tree cannot be read, which is reported anyway.
    fn look_up(&mut self, walk: &Walk<'_>, path: &[u8]) -> Result<Target, VerifyError> {
        let (mut chunk, mut height) = (walk.root.chunk, walk.root.height);
        loop {
            let Ok(bytes) = self.meta.read(&mut self.damage, walk.domain(), &chunk)? else {
                return Ok(Target::Unknown);
            };
            if height == 0 {
                let Ok(entries) = decode_leaf(&bytes) else { return Ok(Target::Unknown) };
                let found = entries.binary_search_by(|entry| compare_paths(&entry.path, path));
                return Ok(found.map_or(Target::Absent, |at| {
                    Target::Entry(entries[at].kind, entries[at].hard_link.is_some())
                }));
            }
            let Ok(children) = decode_node(&bytes) else { return Ok(Target::Unknown) };
            let at = children.partition_point(|child| compare_paths(&child.last_path, path).is_lt());
            let Some(child) = children.get(at) else { return Ok(Target::Absent) };
            (chunk, height) = (child.chunk, height - 1);
        }
    }
}
