//! What a verification found.

use std::collections::{BTreeMap, BTreeSet};

use coffer_format::id::{Head, SnapshotId, VaultId};

/// Most paths, and most chunks, that one finding lists, and most surplus names that findings are made of.
pub const LISTED_MAX: usize = 1_000;

/// Most packs that are named because something is wrong with them; of further ones it is said how many they are.
pub const PACKS_NAMED_MAX: usize = 10_000;

/// What a verification says about a vault. Plain data; the caller decides how to show it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The vault; none when no header could be trusted, in which case nothing else was checked.
    pub vault_id: Option<VaultId>,
    /// The last record and its chain value.
    pub head: Option<Head>,
    /// Whether a vault id was given and the header has it. Otherwise the vault is at best consistent in itself.
    pub origin_proved: bool,
    /// Whether a head was given and the log contains it. Otherwise the log may be an older one.
    pub fresh_proved: bool,
    /// Whether what is sealed was checked too.
    pub deep: bool,
    /// What was looked at.
    pub counts: Counts,
    /// What is wrong, sorted by class, object and text.
    pub findings: Vec<Finding>,
    /// Objects that no state of the vault needs: uncommitted, removed or swept. They are harmless; at most 100,000
    /// are listed, sorted by name.
    pub residue: Vec<Residue>,
}

impl Report {
    /// Whether nothing at all was found.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether everything that the vault needs was found there, read and sound, and nothing rolled back. Surplus does not count, but a
    /// void record at the head of the log may be one that was damaged: see [`Class::Surplus`].
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.findings.iter().all(|finding| finding.class == Class::Surplus)
    }
}

/// How much was looked at. Bytes where the name says so, else numbers of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; what needs a word has one")]
pub struct Counts {
    pub records: u64,
    pub void_records: u64,
    /// Damaged or missing records.
    pub damaged_records: u64,
    pub slots: u64,
    /// Snapshots that are not forgotten.
    pub snapshots: u64,
    pub forgotten_snapshots: u64,
    /// Live index segments.
    pub segments: u64,
    /// Packs that live index segments list.
    pub packs: u64,
    /// Their length together.
    pub pack_bytes: u64,
    /// Packs that were read whole and rehashed.
    pub hashed_packs: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
    /// Bytes read from the store in all.
    pub read_bytes: u64,
    /// Names that nothing in the format gives a meaning to, or surplus in the log.
    pub surplus_names: u64,
    pub residue_objects: u64,
    pub residue_bytes: u64,
    /// Frames opened; deep only, as all that follow.
    pub frames: u64,
    /// Chunks rehashed.
    pub chunks: u64,
    /// Plain bytes of these.
    pub chunk_bytes: u64,
    /// Snapshots whose trees were walked.
    pub trees: u64,
    /// Entries of all walked trees; an entry shared by several snapshots counts in each.
    pub entries: u64,
    /// Distinct leaves and nodes that were read. A leaf or node with a fault counts once for each snapshot.
    pub tree_chunks: u64,
}

/// What kind of wrong it is. The order is that of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The log is older than, or another line than, a head known from elsewhere.
    Rollback,
    /// Something the vault needs is absent.
    Missing,
    /// Something the vault needs is there and wrong.
    Corrupt,
    /// Something the vault needs is there and was not read, as it is in an archive class: nothing is known to be wrong with it.
    Archived,
    /// Something is there that means nothing: a void record, an object or a foreign item that nothing refers to. The
    /// newest record, if it was damaged, cannot be told from a forged one and shows as surplus unless a head is given.
    Surplus,
}

impl Class {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
            Self::Archived => "archived",
            Self::Surplus => "surplus",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of wrong.
    pub class: Class,
    /// Name of the object in the vault; for faults in a snapshot's tree, of the snapshot's record.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots that need what is lost, ascending by id. Without a key: all that may need it.
    pub snapshots: Vec<SnapshotId>,
    /// Paths of entries that need it, sorted, in a form for people; the root directory is `/`, and a lost stretch of a
    /// tree reads `(N entries up to PATH)`, or `(all entries)`. A hard link is not named where the entry it names is.
    /// Deep only; at most [`LISTED_MAX`].
    pub paths: Vec<String>,
    /// Number of affected entries, each once for each snapshot.
    pub path_count: u64,
    /// Chunks that are lost: hexadecimal digits of the part of the id that is known. Deep only; at most
    /// [`LISTED_MAX`].
    pub chunks: Vec<String>,
    /// Number of chunks lost, each once for each place the index gives it there.
    pub chunk_count: u64,
}

/// An object that no state of the vault needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Residue {
    /// Its name.
    pub name: String,
    /// Its length in bytes, as listed.
    pub len: u64,
}

/// Who suffers from a fault.
#[derive(Debug, Clone, Default)]
pub(crate) struct Affected {
    pub(crate) snapshots: BTreeSet<SnapshotId>,
    paths: BTreeSet<String>,
    path_count: u64,
    chunks: BTreeSet<String>,
    chunk_count: u64,
}

impl Affected {
    pub(crate) fn add_path(&mut self, snapshot: SnapshotId, path: &str, count: u64) {
        self.snapshots.insert(snapshot);
        self.path_count = self.path_count.saturating_add(count);
        if self.paths.len() < LISTED_MAX {
            self.paths.insert(path.to_owned());
        }
    }

    pub(crate) fn add_chunk(&mut self, id: &[u8]) {
        self.chunk_count += 1;
        if self.chunks.len() < LISTED_MAX {
            self.chunks.insert(coffer_format::id::hex(id));
        }
    }

    /// How many paths and chunks are listed.
    pub(crate) fn listed_count(&self) -> usize {
        self.paths.len() + self.chunks.len()
    }

    /// One more chunk that is lost, and is not listed.
    pub(crate) fn count_chunk(&mut self) {
        self.chunk_count += 1;
    }

    /// More entries that need it, and are not listed.
    pub(crate) fn count_path(&mut self, snapshot: SnapshotId, count: u64) {
        self.snapshots.insert(snapshot);
        self.path_count = self.path_count.saturating_add(count);
    }

    pub(crate) fn extend_snapshots(&mut self, snapshots: impl IntoIterator<Item = SnapshotId>) {
        self.snapshots.extend(snapshots);
    }

    pub(crate) fn of_snapshots(snapshots: impl IntoIterator<Item = SnapshotId>) -> Self {
        Self { snapshots: snapshots.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.snapshots.extend(other.snapshots);
        self.path_count = self.path_count.saturating_add(other.path_count);
        self.chunk_count += other.chunk_count;
        for (mine, others) in [(&mut self.paths, other.paths), (&mut self.chunks, other.chunks)] {
            for text in others {
                if mine.len() >= LISTED_MAX {
                    break;
                }
                mine.insert(text);
            }
        }
    }
}

/// Findings in the making: the same fault of the same object stands once.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    findings: BTreeMap<(Class, String, String), Affected>,
}

impl Findings {
    pub(crate) fn add(
        &mut self,
        class: Class,
        object: impl ToString,
        what: impl Into<String>,
    ) -> &mut Affected {
        self.findings.entry((class, object.to_string(), what.into())).or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn finish(self) -> Vec<Finding> {
        let make = |((class, object, what), affected): ((Class, String, String), Affected)| Finding {
            class,
            object,
            what,
            snapshots: affected.snapshots.into_iter().collect(),
            paths: affected.paths.into_iter().collect(),
            path_count: affected.path_count,
            chunks: affected.chunks.into_iter().collect(),
            chunk_count: affected.chunk_count,
        };
        self.findings.into_iter().map(make).collect()
    }
}

/// What is wrong with one object: the first few faults in words, and how many more there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    first: Vec<String>,
    more: u64,
}

impl Faults {
    const LISTED_MAX: usize = 8;

    pub(crate) fn add(&mut self, what: impl Into<String>) {
        if self.first.len() < Self::LISTED_MAX {
            self.first.push(what.into());
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        other.first.into_iter().for_each(|what| self.add(what));
        self.more += other.more;
    }

    pub(crate) fn what(&self) -> String {
        let mut what = self.first.join("; ");
        if self.more > 0 {
            what.push_str(&format!("; and {} more", self.more));
        }
        what
    }
}
