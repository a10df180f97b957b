//! Files and directories of a snapshot as streams: one file as it is, or a part of the tree as an archive.
//!
//! Entries come under the paths that `ls` shows, and the directories above a part come with it, so that unpacking an archive gives what a
//! restore gives. A file is begun only after its first [`AHEAD_LEN`] bytes could be read: what is lost of smaller files, and of entries
//! without content, is reported and left out. Damage behind that ends the archive, because neither format can take back what was
//! begun, and a file filled up with zeros would be a lie.

use std::collections::{HashMap, VecDeque};
use std::io::Write;

use coffer_collect::{ArchiveHole, ArchiveWriter, Archived, CollectError, EntryKind, EntryPath, Metadata};
use coffer_format::path::is_within;
use coffer_format::tree::{Kind, TreeEntry};

use crate::content::{FileReader, Piece, carrier, metadata};
use crate::error::{EngineError, is_archived};
use crate::read::ChunkReader;
use crate::restore::chain;
use crate::tree_reader::{Leaves, TreeReader, holes, lookup, path_text};
use crate::vault::{Snapshot, Vault};

/// How much of a file is read before it is begun.
const AHEAD_LEN: u64 = 8 << 20;
/// What a hole that was read ahead counts for.
const PIECE_LEN: u64 = 64;
/// Errors that are listed one by one; the rest is counted.
const ERROR_COUNT_MAX: usize = 10_000;

/// What a dump wrote.
#[derive(Debug, Default)]
pub struct DumpReport {
    /// Entries written.
    pub entry_count: u64,
    /// Files among them, hard links not counted.
    pub file_count: u64,
    /// Bytes of content written.
    pub content_bytes: u64,
    /// Entries that could not be written: path and message, at most 10,000.
    pub errors: Vec<(String, String)>,
    /// Number of such entries.
    pub error_count: u64,
    /// How many of these could not be read because an object is archived: nothing is known to be wrong with it.
    pub archived_count: u64,
    /// Entries that the archive's format cannot hold, or not under their names.
    pub warnings: Vec<String>,
    /// Whether damage was met on the way, even if everything was written.
    pub degraded: bool,
}

/// The entry at a path of a snapshot; `None` if there is none. The empty path is an entry only where the root was backed up.
///
/// # Errors
/// When that part of the tree cannot be read.
pub fn entry_at(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    path: &[u8],
) -> Result<Option<TreeEntry>, EngineError> {
    let mut chunks = ChunkReader::new(vault, &snapshot.state.body.domain)?;
    lookup(&snapshot.manifest.root, path, &mut chunks)
}

/// Writes the content of the file at `path`.
///
/// # Errors
/// [`EngineError::NoPath`]; [`EngineError::Invalid`] when it is no file; [`EngineError::Output`]; damage. What was written before an error
/// is the true beginning of the file.
pub fn cat(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<DumpReport, EngineError> {
    let mut chunks = ChunkReader::new(vault, &snapshot.state.body.domain)?;
    let root = &snapshot.manifest.root;
    let none = || EngineError::NoPath { path: path_text(path) };
    let entry = lookup(root, path, &mut chunks)?.ok_or_else(none)?;
    if !matches!(entry.kind, Kind::File | Kind::Resource) {
        let (path, kind) = (path_text(path), kind_text(entry.kind));
        return Err(EngineError::invalid(format!("{path} is {kind}, not a file")));
    }
    let entry = carrier(root, &entry, &mut chunks)?;
    let holes = holes(&entry, &mut chunks)?;
    let mut reader = FileReader::new(&entry, holes);
    let output = |source| EngineError::Output { source };
    while let Some(piece) = reader.next_piece(&mut chunks)? {
        vault.access.check_interrupt()?;
        match piece {
            Piece::Data(bytes) => out.write_all(&bytes).map_err(output)?,
            Piece::Hole(len) => write_zeros(out, len).map_err(output)?,
        }
    }
    out.flush().map_err(output)?;
    Ok(DumpReport {
        entry_count: 1,
        file_count: 1,
        content_bytes: entry.size,
        degraded: chunks.is_degraded(),
        ..DumpReport::default()
    })
}

fn write_zeros(out: &mut dyn Write, len: u64) -> std::io::Result<()> {
    let zeros = std::io::Read::take(std::io::repeat(0), len);
    std::io::copy(&mut std::io::BufReader::with_capacity(65_536, zeros), out).map(|_| ())
}

/// Writes what is at and below `within` (everything for the empty path), with the directories above it, as an archive.
///
/// # Errors
/// [`EngineError::NoPath`] when there is nothing; [`CollectError::Archive`] when the output fails; damage inside a large file. What was
/// written then is no complete archive. Other errors of single entries are in the report.
pub fn dump(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    within: &[u8],
    archive: Box<dyn ArchiveWriter + '_>,
) -> Result<DumpReport, EngineError> {
    let mut dump = Dump {
        vault,
        snapshot,
        within,
        chunks: ChunkReader::new(vault, &snapshot.state.body.domain)?,
        archive,
        report: DumpReport::default(),
        leaves: Leaves::default(),
        left_out: HashMap::new(),
        stand_ins: HashMap::new(),
    };
    dump.run()?;
    let Dump { archive, mut report, chunks, .. } = dump;
    archive.finish()?;
    report.degraded |= chunks.is_degraded();
    Ok(report)
}

struct Dump<'d, 'v> {
    vault: &'d Vault<'v>,
    snapshot: &'d Snapshot,
    within: &'d [u8],
    chunks: ChunkReader<'v>,
    archive: Box<dyn ArchiveWriter + 'd>,
    report: DumpReport,
    /// What nothing can be below.
    leaves: Leaves,
    /// Entries that are not in the archive, and whether that is an error: nothing is linked to them.
    left_out: HashMap<Vec<u8>, bool>,
    /// First paths of hard links that lie outside the part, and the path that stands for each of them.
    stand_ins: HashMap<Vec<u8>, EntryPath>,
}

/// What stops an entry: an error of its own, or one of the whole archive.
enum Stop {
    Entry(EngineError),
    Archive(EngineError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Interrupted => Self::Archive(error),
            EngineError::Collect(error) => error.into(),
            error => Self::Entry(error),
        }
    }
}

impl From<CollectError> for Stop {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Archive { .. } => Self::Archive(error.into()),
            error => Self::Entry(error.into()),
        }
    }
}

impl Dump<'_, '_> {
    fn run(&mut self) -> Result<(), EngineError> {
        let root = &self.snapshot.manifest.root;
        let ends = self.within.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends: Vec<_> = (!self.within.is_empty()).then_some(0).into_iter().chain(ends).collect();
        let mut above = Vec::new();
        for end in ends {
            let found = lookup(root, &self.within[..end], &mut self.chunks);
            // One that cannot be read is left out: whoever unpacks makes it.
            let Some(found) = found.ok().flatten() else { continue };
            if found.kind == Kind::Directory {
                above.push(found);
            } else {
                // What stands below it is refused.
                let _ = self.leaves.check(&found);
            }
        }
        let mut found = self.within.is_empty();
        let mut tree = TreeReader::within(root, self.within.to_vec());
        while let Some(leaf) = tree.next_leaf(&mut self.chunks) {
            match leaf {
                Ok(leaf) => {
                    for entry in leaf.entries.iter().filter(|entry| is_within(&entry.path, self.within)) {
                        found = true;
                        for folder in above.drain(..) {
                            self.entry(&folder)?;
                        }
                        self.entry(entry)?;
                    }
                }
                Err(lost) => {
                    found = true;
                    self.report.degraded |= !is_archived(&lost.error);
                    self.report.archived_count += u64::from(is_archived(&lost.error));
                    let path = format!("entries up to {}", path_text(&lost.last_path));
                    self.add_error(path, chain(&lost.error));
                }
            }
        }
        if found { Ok(()) } else { Err(EngineError::NoPath { path: path_text(self.within) }) }
    }

    fn entry(&mut self, entry: &TreeEntry) -> Result<(), EngineError> {
        self.vault.access.check_interrupt()?;
        match self.add(entry) {
            Ok(Archived::Yes) => {
                self.report.entry_count += 1;
                if let Some(flaw) = self.archive.path_flaw(&entry.path) {
                    self.report.warnings.push(format!("{}: {flaw}", path_text(&entry.path)));
                }
                Ok(())
            }
            Ok(Archived::No(reason)) => {
                self.left_out.insert(entry.path.clone(), false);
                self.report.warnings.push(format!("{}: left out: {reason}", path_text(&entry.path)));
                Ok(())
            }
            Err(Stop::Entry(error)) => {
                self.left_out.insert(entry.path.clone(), true);
                self.report.degraded |= error.is_damage();
                self.report.archived_count += u64::from(error.is_archived());
                self.add_error(path_text(&entry.path), chain(&error));
                Ok(())
            }
            Err(Stop::Archive(error)) => Err(error),
        }
    }

    fn add(&mut self, entry: &TreeEntry) -> Result<Archived, Stop> {
        self.leaves.check(entry).map_err(Stop::Entry)?;
        let path = EntryPath::new(entry.path.clone())?;
        let Some(first) = &entry.hard_link else { return self.add_own(entry, &path) };
        let is_outside = !is_within(first, self.within);
        let target = match self.stand_ins.get(first) {
            Some(stand_in) => Some(stand_in.clone()),
            None if is_outside => None,
            None => Some(EntryPath::new(first.clone())?),
        };
        if let Some(target) = target {
            match self.left_out.get(target.as_bytes()) {
                None => {}
                Some(false) => return Ok(Archived::No("so is what it is a hard link to")),
                Some(true) => {
                    let reason = format!("{target}, which it is a hard link to, is left out");
                    return Err(Stop::Entry(EngineError::invalid(reason)));
                }
            }
            // The first entry may lie in a part of the tree that was lost.
            if !is_outside {
                carrier(&self.snapshot.manifest.root, entry, &mut self.chunks)?;
            }
            let metadata = metadata(entry, &mut self.chunks)?;
            if self.archive.hard_link(&path, &target, &metadata)? == Archived::Yes {
                return Ok(Archived::Yes);
            }
        }
        // Its first name lies outside the part, or the format has no hard links: it becomes a file of its own.
        let mut own = carrier(&self.snapshot.manifest.root, entry, &mut self.chunks)?;
        own.path.clone_from(&entry.path);
        let added = self.add_own(&own, &path)?;
        if is_outside {
            self.stand_ins.insert(first.clone(), path);
        }
        Ok(added)
    }

    fn add_own(&mut self, entry: &TreeEntry, path: &EntryPath) -> Result<Archived, Stop> {
        let metadata = metadata(entry, &mut self.chunks)?;
        let kind = match entry.kind {
            Kind::Directory => return Ok(self.archive.directory(path, &metadata).map(|()| Archived::Yes)?),
            Kind::Symlink => return Ok(self.archive.symlink(path, &metadata).map(|()| Archived::Yes)?),
            Kind::File => return self.file(entry, path, &metadata).map(|()| Archived::Yes),
            Kind::Resource => return Ok(Archived::No("an archive of files holds no service resources")),
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => EntryKind::Socket,
            Kind::CharDevice => EntryKind::CharDevice,
            Kind::BlockDevice => EntryKind::BlockDevice,
        };
        Ok(self.archive.special(path, kind, &metadata)?)
    }

    fn file(&mut self, entry: &TreeEntry, path: &EntryPath, metadata: &Metadata) -> Result<(), Stop> {
        let holes = holes(entry, &mut self.chunks)?;
        let told: Vec<_> =
            holes.iter().map(|hole| ArchiveHole { offset: hole.offset, len: hole.len }).collect();
        let mut reader = FileReader::new(entry, holes);
        let mut ahead = VecDeque::new();
        let mut ahead_len = 0;
        let mut at_end = false;
        while !at_end && ahead_len < AHEAD_LEN {
            match reader.next_piece(&mut self.chunks)? {
                Some(piece) => {
                    ahead_len += if let Piece::Data(bytes) = &piece { bytes.len() as u64 } else { PIECE_LEN };
                    ahead.push_back(piece);
                }
                None => at_end = true,
            }
        }
        self.archive.begin_file(path, metadata, &told)?;
        self.content(&mut reader, ahead, at_end).map_err(Stop::Archive)?;
        self.report.file_count += 1;
        self.report.content_bytes += entry.size;
        Ok(())
    }

    fn content(
        &mut self,
        reader: &mut FileReader,
        mut ahead: VecDeque<Piece>,
        at_end: bool,
    ) -> Result<(), EngineError> {
        loop {
            self.vault.access.check_interrupt()?;
            let piece = match ahead.pop_front() {
                Some(piece) => Some(piece),
                None if at_end => None,
                None => reader.next_piece(&mut self.chunks)?,
            };
            match piece {
                Some(Piece::Data(bytes)) => self.archive.write(&bytes)?,
                Some(Piece::Hole(len)) => self.archive.hole(len)?,
                None => return Ok(self.archive.end_file()?),
            }
        }
    }

    fn add_error(&mut self, path: String, message: String) {
        self.report.error_count += 1;
        if self.report.errors.len() < ERROR_COUNT_MAX {
            self.report.errors.push((path, message));
        }
    }
}

const fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a directory",
        Kind::Symlink => "a symbolic link",
        Kind::Fifo => "a named pipe",
        Kind::Socket => "a socket",
        Kind::CharDevice | Kind::BlockDevice => "a device",
        Kind::Resource => "a service resource",
    }
}
