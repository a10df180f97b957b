//! Packs opened: every frame, every chunk, and the directory against the index.

use coffer_crypto::{DomainKeys, hash};
use coffer_format::id::{ChunkId, DomainId};
use coffer_format::index::ID_PREFIX_LEN;
use coffer_format::limits::{PACK_LEN_MAX, TAG_LEN};
use coffer_format::object::ObjectName;
use coffer_format::pack::{
    ChunkKind, Directory, FramePlace, PACK_FOOTER_LEN, PACK_FOOTER_SIZE, PACK_HEAD_SIZE, padded_len,
};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::PipelineError;
use coffer_pipeline::pack_reader::{FrameReader, PackKey, chunk_id};

use crate::error::VerifyError;
use crate::packs::{HASH_FAULT, Pack, PackFault, Row, RowState, actual_len, chosen_bytes, len_fault};
use crate::parallel;
use crate::progress::Stage;
use crate::report::{Affected, Class, Counts};
use crate::source::reason;

use super::damage::Damage;
use super::{Domains, Task};

/// A pack to be checked, with the rows that point into it, by frame and offset.
struct Job<'a> {
    pack: &'a Pack,
    chosen: bool,
    rows: &'a mut [Row],
}

/// What was found in one pack.
#[derive(Default)]
struct Opened {
    fault: Option<PackFault>,
    segment_faults: Vec<(u32, String)>,
    hashed: bool,
    frames: u64,
    chunks: u64,
    chunk_bytes: u64,
}

impl Opened {
    fn fault(&mut self, what: impl Into<String>) {
        match &mut self.fault {
            Some(fault) => fault.faults.add(what),
            None => self.fault = Some(PackFault::new(Class::Corrupt, what)),
        }
    }
}

/// What a worker reuses from pack to pack.
struct Worker {
    bytes: Vec<u8>,
    frames: FrameReader,
}

/// Checks all packs, opens the chosen ones, and returns the rows with their states.
pub(crate) fn open_packs(
    task: &Task<'_>,
    domains: &Domains,
    mut rows: Vec<Row>,
    damage: &mut Damage,
    counts: &mut Counts,
) -> Result<Vec<Row>, VerifyError> {
    let table = task.table;
    let pack_of = |row: &Row| table.listings[row.listing as usize].pack;
    rows.sort_unstable_by_key(|row| (pack_of(row), row.frame, row.offset, row.listing));
    task.progress.begin(Stage::Packs, chosen_bytes(table, task.chosen));

    let mut jobs = Vec::with_capacity(table.packs.len());
    let mut rest = &mut rows[..];
    for ((number, pack), chosen) in (0..).zip(&table.packs).zip(task.chosen) {
        let count = rest.partition_point(|row| pack_of(row) <= number);
        let (rows, others) = rest.split_at_mut(count);
        rest = others;
        jobs.push(Job { pack, chosen: *chosen, rows });
    }
    let init = || {
        let frames = FrameReader::new().map_err(|source| VerifyError::Decoder { source })?;
        Ok(Worker { bytes: Vec::new(), frames })
    };
    let weight = |job: &Job<'_>| if job.chosen { job.pack.len } else { 0 };
    let opened =
        parallel::map_heaviest_first(task.threads, jobs.into_iter(), weight, init, |worker, job| {
            let (chosen, len) = (job.chosen, job.pack.len);
            let opened = check_pack(task, domains, worker, job)?;
            if chosen {
                task.progress.advance(Stage::Packs, len);
            }
            Ok(opened)
        })?;

    for ((number, pack), opened) in (0..).zip(&table.packs).zip(opened) {
        counts.hashed_packs += u64::from(opened.hashed);
        counts.hashed_bytes += if opened.hashed { pack.len } else { 0 };
        counts.frames += opened.frames;
        counts.chunks += opened.chunks;
        counts.chunk_bytes += opened.chunk_bytes;
        if let Some(fault) = opened.fault {
            damage.add_to_pack(table, number, fault);
        }
        for (segment, what) in opened.segment_faults {
            damage.add_to_segment(segment, what);
        }
    }
    for row in rows.iter().filter(|row| row.state == RowState::Bad) {
        let listing = &table.listings[row.listing as usize];
        let affected: &mut Affected = match damage.has_pack(listing.pack) {
            true => damage.pack(listing.pack).expect("it was just asked for"),
            false => damage.segment(listing.segment),
        };
        affected.add_chunk(&row.id[..ID_PREFIX_LEN]);
    }
    Ok(rows)
}

fn check_pack(
    task: &Task<'_>,
    domains: &Domains,
    worker: &mut Worker,
    job: Job<'_>,
) -> Result<Opened, VerifyError> {
    let Job { pack, chosen, rows } = job;
    let actual = actual_len(task.source, task.listing, pack)?;
    let mut opened = Opened { fault: len_fault(pack, &actual), ..Opened::default() };
    // A pack of a wrong length is read in any case: what of it is lost decides who is affected.
    if !chosen && (opened.fault.is_none() || actual.is_err()) {
        if actual.is_err() {
            lose(rows);
        }
        return Ok(opened);
    }
    let name = ObjectName::Pack(pack.id);
    let mut read = match actual {
        Ok(_) => task.source.read(name, PACK_LEN_MAX, &mut worker.bytes)?,
        Err(fault) => Err(fault),
    };
    let mut is_whole = read.is_ok() && hash::hash(&worker.bytes) == pack.id.0;
    if read.is_ok() && !is_whole && task.source.distrust(name) {
        read = task.source.read(name, PACK_LEN_MAX, &mut worker.bytes)?;
        is_whole = read.is_ok() && hash::hash(&worker.bytes) == pack.id.0;
    }
    if let Err(fault) = read {
        if opened.fault.is_none() {
            opened.fault = Some(PackFault::of_read(&fault));
        }
        lose(rows);
        return Ok(opened);
    }
    opened.hashed = true;
    if !is_whole {
        opened.fault(HASH_FAULT);
    }
    let mut opening = Opening { task, pack, bytes: &worker.bytes, opened: &mut opened };
    opening.open(domains, &mut worker.frames, rows);
    Ok(opened)
}

fn lose(rows: &mut [Row]) {
    rows.iter_mut().for_each(|row| row.state = RowState::Bad);
}

/// A pack in memory that is being opened.
struct Opening<'a> {
    task: &'a Task<'a>,
    pack: &'a Pack,
    bytes: &'a [u8],
    opened: &'a mut Opened,
}

impl Opening<'_> {
    fn open(&mut self, domains: &Domains, frames: &mut FrameReader, rows: &mut [Row]) {
        let Some((domain, keys, key)) = find_key(self.task, domains, self.pack, self.bytes) else {
            self.opened.fault("no key of the vault opens it in a domain that lists it");
            return lose(rows);
        };
        let directory = match self.directory(&key) {
            Ok(directory) => Some(directory),
            Err(error) => {
                self.opened.fault(format!("its directory cannot be read: {}", reason(&error)));
                None
            }
        };
        let places: Vec<FramePlace> = match &directory {
            Some(directory) => directory.frames.iter().map(|frame| frame.place).collect(),
            None => self.listed_frames().unwrap_or_default().to_vec(),
        };
        if let Some(directory) = &directory {
            self.compare_listings(domain, directory.domain, &places);
        }
        let mut rest = rows;
        for (number, place) in places.iter().enumerate() {
            let count = rest.partition_point(|row| usize::from(row.frame) <= number);
            let (rows, others) = rest.split_at_mut(count);
            rest = others;
            let from = place.offset as usize;
            let sealed = self.bytes.get(from..from + place.sealed_len as usize);
            let Some(sealed) = sealed else {
                self.opened.fault(format!("frame {number} lies beyond its end"));
                lose(rows);
                continue;
            };
            match frames.open(&key, number as u64, place.plain_len, sealed) {
                Ok((kind, plain)) => {
                    self.opened.frames += 1;
                    match &directory {
                        Some(directory) => {
                            let chunks = &directory.frames[number].chunks;
                            self.check_chunks(keys, number, *place, chunks, kind, plain, rows);
                        }
                        None => self.check_rows(keys, number, kind, plain, rows),
                    }
                }
                Err(error) => {
                    self.opened.fault(format!("frame {number} is lost: {}", reason(&error)));
                    lose(rows);
                }
            }
        }
        for row in rest {
            row.state = RowState::Bad;
            if directory.is_some() {
                self.segment_fault(row.listing, "names a frame that it does not have");
            }
        }
    }

    fn directory(&mut self, key: &PackKey) -> Result<Directory, PipelineError> {
        let short =
            coffer_format::FormatError::Malformed { object: "pack", offset: 0, rule: "it ends too early" };
        let footer = self.bytes.last_chunk::<PACK_FOOTER_SIZE>().ok_or(short)?;
        let len = self.bytes.len() as u64;
        let footer = key.footer(footer, len)?;
        let from = usize::try_from(footer.directory_offset).unwrap_or(usize::MAX);
        let sealed = self.bytes[from..self.bytes.len() - PACK_FOOTER_SIZE].to_vec();
        let directory = key.directory(&footer, sealed)?;
        let unpadded = footer.directory_offset + footer.directory_plain_len + TAG_LEN + PACK_FOOTER_LEN;
        if padded_len(unpadded) != len {
            self.opened.fault(format!("it is padded to {len} bytes instead of {}", padded_len(unpadded)));
        }
        Ok(directory)
    }

    /// Frame places from the first segment that knows them, for a pack whose own directory is lost.
    fn listed_frames(&self) -> Option<&[FramePlace]> {
        let listings = self.pack.listings.iter().map(|listing| &self.task.table.listings[*listing as usize]);
        listings.map(|listing| &listing.frames[..]).find(|frames| !frames.is_empty())
    }

    /// Compares the domain and the frames with what every segment says that lists the pack.
    fn compare_listings(&mut self, key_domain: DomainId, domain: DomainId, places: &[FramePlace]) {
        if domain != key_domain {
            let what = format!("its directory names domain {domain}, its key is of domain {key_domain}");
            self.opened.fault(what);
        }
        for number in &self.pack.listings {
            let listing = &self.task.table.listings[*number as usize];
            let segment = &self.task.table.segments[listing.segment as usize];
            if segment.live.domain != domain {
                self.segment_fault(*number, "belongs to another domain");
            }
            // A segment whose frame table was lost has no frames to compare.
            if listing.frames != places && (segment.complete || !listing.frames.is_empty()) {
                self.segment_fault(*number, "has other frames than the frame table says");
            }
        }
    }

    /// Rehashes the chunks of a frame that its directory names, and compares the index rows with them.
    #[expect(clippy::too_many_arguments, reason = "a frame, as directory, index and pack see it")]
    fn check_chunks(
        &mut self,
        keys: &DomainKeys,
        frame: usize,
        place: FramePlace,
        chunks: &[ChunkRef],
        kind: ChunkKind,
        plain: &[u8],
        mut rows: &mut [Row],
    ) {
        let mut offset = 0_u32;
        for chunk in chunks {
            let bytes = &plain[offset as usize..(offset + chunk.len) as usize];
            let intact = self.rehash(keys, kind, bytes) == chunk.id;
            if !intact {
                self.opened
                    .fault(format!("chunk {} in frame {frame} has other bytes than its id says", chunk.id));
            }
            let count = rows.partition_point(|row| row.offset <= offset);
            let (here, others) = rows.split_at_mut(count);
            rows = others;
            for row in here {
                let fits = row.offset == offset
                    && row.len == chunk.len
                    && row.id[..ID_PREFIX_LEN] == chunk.id.0[..ID_PREFIX_LEN]
                    && self.frame_of(row) == Some(place);
                if !fits {
                    self.segment_fault(row.listing, "has another chunk at a place than the chunk table says");
                }
                settle(row, kind, &chunk.id, fits && intact);
            }
            offset += chunk.len;
        }
        for row in rows {
            row.state = RowState::Bad;
            self.segment_fault(row.listing, "has another chunk at a place than the chunk table says");
        }
    }

    /// Rehashes the chunks of a frame that the index names, for a pack whose directory is lost.
    fn check_rows(
        &mut self,
        keys: &DomainKeys,
        frame: usize,
        kind: ChunkKind,
        plain: &[u8],
        rows: &mut [Row],
    ) {
        for row in rows {
            let bytes = plain.get(row.offset as usize..row.offset as usize + row.len as usize);
            let id = bytes.map(|bytes| self.rehash(keys, kind, bytes));
            let intact = id.is_some_and(|id| id.0[..ID_PREFIX_LEN] == row.id[..ID_PREFIX_LEN]);
            if !intact {
                self.opened.fault(format!("a chunk in frame {frame} has other bytes than its id says"));
            }
            settle(row, kind, &id.unwrap_or(ChunkId(row.id)), intact);
        }
    }

    fn rehash(&mut self, keys: &DomainKeys, kind: ChunkKind, bytes: &[u8]) -> ChunkId {
        self.opened.chunks += 1;
        self.opened.chunk_bytes += bytes.len() as u64;
        chunk_id(keys, kind, bytes)
    }

    fn frame_of(&self, row: &Row) -> Option<FramePlace> {
        self.task.table.listings[row.listing as usize].frames.get(usize::from(row.frame)).copied()
    }

    fn segment_fault(&mut self, listing: u32, what: &str) {
        let segment = self.task.table.listings[listing as usize].segment;
        let what = format!("pack {} {what}", self.pack.id.short());
        if !self.opened.segment_faults.iter().any(|known| *known == (segment, what.clone())) {
            self.opened.segment_faults.push((segment, what));
        }
    }
}

fn settle(row: &mut Row, kind: ChunkKind, id: &ChunkId, good: bool) {
    row.state = match kind {
        _ if !good => RowState::Bad,
        ChunkKind::Data => RowState::GoodData,
        ChunkKind::Meta => RowState::GoodMeta,
    };
    if good {
        row.id = id.0;
    }
}

/// The key of a pack, from its head: in one of the domains that list it, sealed to one of the epochs.
pub(crate) fn find_key<'a>(
    task: &Task<'_>,
    domains: &'a Domains,
    pack: &Pack,
    bytes: &[u8],
) -> Option<(DomainId, &'a DomainKeys, PackKey)> {
    let head = bytes.first_chunk::<PACK_HEAD_SIZE>()?;
    let vault = task.replayed.log.vault;
    let mut tried = Vec::new();
    for segment in task.table.segments_of(pack) {
        let domain = task.table.segments[segment as usize].live.domain;
        if tried.contains(&domain) {
            continue;
        }
        tried.push(domain);
        let Some(keys) = domains.get(&domain) else { continue };
        let pairs = task.keyring.sealing_pairs().iter().rev();
        if let Some(key) = pairs.filter_map(|pair| PackKey::open(vault, pair, keys, head).ok()).next() {
            return Some((domain, keys, key));
        }
    }
    None
}
