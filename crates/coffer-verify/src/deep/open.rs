//! Packs opened: every frame, every chunk, and the directory against the index.
//!
//! A pack is read and hashed by one thread; its frames are then for any thread that has nothing else to do.

mod frames;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use coffer_crypto::{DomainKeys, hash};
use coffer_format::id::DomainId;
use coffer_format::index::ID_PREFIX_LEN;
use coffer_format::limits::{PACK_LEN_MAX, TAG_LEN};
use coffer_format::object::ObjectName;
use coffer_format::pack::{
    Directory, FramePlace, PACK_FOOTER_LEN, PACK_FOOTER_SIZE, PACK_HEAD_SIZE, padded_len,
};
use coffer_pipeline::PipelineError;
use coffer_pipeline::pack_reader::{FrameReader, PackKey};

use crate::error::VerifyError;
use crate::packs::{
    HASH_FAULT, Pack, PackFault, Row, RowState, actual_len, aligned_range, count32, len_fault,
};
use crate::parallel::{Parted, map_parts};
use crate::progress::Stage;
use crate::report::{Class, Counts};
use crate::source::{Fetched, ReadFault, reason};

use super::damage::Damage;
use super::groups::Group;
use super::meta::MetaCache;
use super::{Domains, Task};

use frames::FramesOpened;

/// Plain bytes of frames that are worth a thread's turn.
const PART_LEN: u64 = 1 << 20;

/// Where a row points, and how it was found. 28 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Position of the row in its group.
    row: u32,
    listing: u32,
    offset: u32,
    frame: u16,
    state: RowState,
    /// What the index does not have of the id.
    tail: [u8; TAIL_LEN],
}

const TAIL_LEN: usize = 32 - ID_PREFIX_LEN;

/// A pack to be checked, with where the rows point that point into it.
struct Job<'a> {
    number: u32,
    pack: &'a Pack,
    chosen: bool,
    slots: &'a mut [Slot],
}

/// What was found in a pack, or in a part of it.
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

    fn segment_fault(&mut self, segment: u32, what: String) {
        if !self.segment_faults.iter().any(|known| known.0 == segment && known.1 == what) {
            self.segment_faults.push((segment, what));
        }
    }

    /// Adds what was found in a later part.
    fn merge(&mut self, other: Self) {
        match (&mut self.fault, other.fault) {
            (Some(fault), Some(more)) => fault.faults.merge(more.faults),
            (fault @ None, more) => *fault = more,
            (Some(_), None) => {}
        }
        for (segment, what) in other.segment_faults {
            self.segment_fault(segment, what);
        }
        self.frames += other.frames;
        self.chunks += other.chunks;
        self.chunk_bytes += other.chunk_bytes;
    }
}

/// A pack that was read.
struct InHand<'a> {
    number: u32,
    /// Its length if it was chosen.
    advance: u64,
    bytes: PackBytes,
    is_whole: bool,
    key: Option<(&'a DomainKeys, PackKey)>,
    directory: Option<Directory>,
    places: Vec<FramePlace>,
    opened: Opened,
}

/// The bytes of a pack within a buffer.
#[derive(Default)]
struct PackBytes {
    buffer: Vec<u8>,
    range: Range<usize>,
}

impl PackBytes {
    fn get(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

/// Frames that lie together, and where the rows point that point into them.
struct Part<'a> {
    frames: Range<usize>,
    slots: &'a mut [Slot],
}

/// Opens the packs of one group.
struct Opener<'a> {
    task: &'a Task<'a>,
    domains: &'a Domains,
    group: &'a Group,
    cache: &'a MetaCache,
    /// Buffers that are not in use.
    spare: &'a Mutex<Vec<Vec<u8>>>,
}

/// Checks the packs of a group, opens the chosen ones, and settles the states of their rows.
pub(crate) fn open_packs(
    task: &Task<'_>,
    domains: &Domains,
    cache: &MetaCache,
    spare: &Mutex<Vec<Vec<u8>>>,
    group: &mut Group,
    damage: &mut Damage,
    counts: &mut Counts,
) -> Result<(), VerifyError> {
    let table = task.table;
    let (mut slots, starts) = slots_by_pack(task, group);
    let mut jobs = Vec::with_capacity(group.packs.len());
    let mut rest = &mut slots[..];
    for (number, count) in group.packs.iter().zip(starts) {
        let (slots, others) = rest.split_at_mut(count);
        rest = others;
        let (pack, chosen) = (&table.packs[*number as usize], task.chosen[*number as usize]);
        jobs.push(Job { number: *number, pack, chosen, slots });
    }
    let weight = |job: &Job<'_>| if job.chosen { job.pack.len } else { 0 };
    let opener = Opener { task, domains, group, cache, spare };
    let all = map_parts(task.threads, jobs, weight, &opener)?;

    for (number, opened) in group.packs.iter().zip(all) {
        counts.hashed_packs += u64::from(opened.hashed);
        counts.hashed_bytes += if opened.hashed { table.packs[*number as usize].len } else { 0 };
        counts.frames += opened.frames;
        counts.chunks += opened.chunks;
        counts.chunk_bytes += opened.chunk_bytes;
        if let Some(fault) = opened.fault {
            damage.add_to_pack(table, *number, fault);
        }
        for (segment, what) in opened.segment_faults {
            damage.add_to_segment(segment, what);
        }
    }
    for slot in slots {
        let row = &mut group.rows[slot.row as usize];
        row.state = slot.state;
        match slot.state {
            RowState::Unchecked => {}
            RowState::Bad => damage.add_chunk(damage.blame(table, row.listing), &row.id[..ID_PREFIX_LEN]),
            RowState::GoodData | RowState::GoodMeta => row.id[ID_PREFIX_LEN..].copy_from_slice(&slot.tail),
        }
    }
    Ok(())
}

/// Where the rows of a group point, pack by pack, and how many point into each pack.
fn slots_by_pack(task: &Task<'_>, group: &Group) -> (Vec<Slot>, Vec<usize>) {
    let listings = &task.table.listings;
    let mut place = vec![0; task.table.packs.len()];
    for (at, pack) in group.packs.iter().enumerate() {
        place[*pack as usize] = at;
    }
    let place = |row: &Row| place[listings[row.listing as usize].pack as usize];
    let mut counts = vec![0; group.packs.len()];
    group.rows.iter().for_each(|row| counts[place(row)] += 1);
    let mut next: Vec<usize> = counts
        .iter()
        .scan(0, |end, count| {
            let start = *end;
            *end += count;
            Some(start)
        })
        .collect();
    let empty =
        Slot { row: 0, listing: 0, offset: 0, frame: 0, state: RowState::Unchecked, tail: [0; TAIL_LEN] };
    let mut slots = vec![empty; group.rows.len()];
    for (number, row) in group.rows.iter().enumerate() {
        let at = &mut next[place(row)];
        let Row { listing, offset, frame, .. } = *row;
        slots[*at] = Slot { row: count32(number), listing, offset, frame, ..empty };
        *at += 1;
    }
    (slots, counts)
}

fn lose(slots: &mut [Slot]) {
    slots.iter_mut().for_each(|slot| slot.state = RowState::Bad);
}

impl<'a> Parted for Opener<'a> {
    type Job = Job<'a>;
    type Begun = InHand<'a>;
    type Part = Part<'a>;
    type Done = Opened;
    type Outcome = Opened;
    type Worker = FrameReader;

    fn worker(&self) -> Result<FrameReader, VerifyError> {
        FrameReader::new().map_err(|source| VerifyError::Decoder { source })
    }

    fn begin(&self, _: &mut FrameReader, job: Job<'a>) -> Result<(InHand<'a>, Vec<Part<'a>>), VerifyError> {
        let Job { number, pack, chosen, slots } = job;
        let actual = actual_len(self.task.source, self.task.listing, pack)?;
        let mut in_hand = InHand {
            number,
            advance: if chosen { pack.len } else { 0 },
            bytes: PackBytes::default(),
            is_whole: false,
            key: None,
            directory: None,
            places: Vec::new(),
            opened: Opened { fault: len_fault(pack, &actual), ..Opened::default() },
        };
        // A pack of a wrong length is read in any case: what of it is lost decides who is affected.
        if !chosen && (in_hand.opened.fault.is_none() || actual.is_err()) {
            if actual.is_err() {
                lose(slots);
            }
            return Ok((in_hand, Vec::new()));
        }
        if let Err(fault) = self.read_whole(pack, actual, &mut in_hand)? {
            in_hand.opened.fault.get_or_insert_with(|| PackFault::of_read(&fault));
            lose(slots);
            return Ok((in_hand, Vec::new()));
        }
        in_hand.opened.hashed = true;
        if !in_hand.is_whole {
            in_hand.opened.fault(HASH_FAULT);
        }
        slots.sort_unstable_by_key(|slot| (slot.frame, slot.offset, slot.listing));
        let parts = self.open(pack, &mut in_hand, slots);
        Ok((in_hand, parts))
    }

    fn part(
        &self,
        frames: &mut FrameReader,
        in_hand: &InHand<'a>,
        part: Part<'a>,
    ) -> Result<Opened, VerifyError> {
        Ok(FramesOpened::open(self, in_hand, frames, part))
    }

    fn end(&self, in_hand: InHand<'a>, done: Vec<Opened>) -> Opened {
        let mut opened = in_hand.opened;
        done.into_iter().for_each(|part| opened.merge(part));
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(in_hand.bytes.buffer);
        if in_hand.advance > 0 {
            self.task.progress.advance(Stage::Packs, in_hand.advance);
        }
        opened
    }
}

impl<'a> Opener<'a> {
    /// Reads a pack and finds whether it has the hash it is named by; if not, another copy of it where the store has one.
    fn read_whole(
        &self,
        pack: &Pack,
        actual: Fetched<u64>,
        in_hand: &mut InHand<'a>,
    ) -> Result<Fetched<()>, VerifyError> {
        let source = self.task.source;
        let name = ObjectName::Pack(pack.id);
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        in_hand.bytes.buffer = spare.unwrap_or_default();
        let mut read = self.read(name, actual, &mut in_hand.bytes)?;
        in_hand.is_whole = read.is_ok() && hash::hash(in_hand.bytes.get()) == pack.id.0;
        if read.is_ok() && !in_hand.is_whole && source.distrust(name) {
            read = self.read(name, source.len(name)?, &mut in_hand.bytes)?;
            in_hand.is_whole = read.is_ok() && hash::hash(in_hand.bytes.get()) == pack.id.0;
        }
        Ok(read)
    }

    fn read(
        &self,
        name: ObjectName,
        len: Fetched<u64>,
        bytes: &mut PackBytes,
    ) -> Result<Fetched<()>, VerifyError> {
        let len = match len {
            Ok(len) if len > PACK_LEN_MAX => return Ok(Err(ReadFault::TooLong { len })),
            Ok(len) => usize::try_from(len).unwrap_or(usize::MAX),
            Err(fault) => return Ok(Err(fault)),
        };
        bytes.range = aligned_range(&mut bytes.buffer, len);
        self.task.source.read_range(name, 0, &mut bytes.buffer[bytes.range.clone()])
    }

    /// Opens what says where everything is in a pack, and takes it apart.
    fn open(&self, pack: &Pack, in_hand: &mut InHand<'a>, slots: &'a mut [Slot]) -> Vec<Part<'a>> {
        let Some((domain, keys, key)) = find_key(self.task, self.domains, pack, in_hand.bytes.get()) else {
            in_hand.opened.fault("no key of the vault opens it in a domain that lists it");
            lose(slots);
            return Vec::new();
        };
        match directory(&key, in_hand.bytes.get(), &mut in_hand.opened) {
            Ok(directory) => in_hand.directory = Some(directory),
            Err(error) => in_hand.opened.fault(format!("its directory cannot be read: {}", reason(&error))),
        }
        in_hand.key = Some((keys, key));
        in_hand.places = match &in_hand.directory {
            Some(directory) => directory.frames.iter().map(|frame| frame.place).collect(),
            None => self.listed_frames(pack).unwrap_or_default().to_vec(),
        };
        let listed = in_hand.directory.as_ref().map(|directory| directory.domain);
        if let Some(listed) = listed {
            self.compare_listings(pack, domain, listed, in_hand);
        }
        let places = &in_hand.places;
        let mut parts = Vec::new();
        let (mut rest, mut from, mut plain_len) = (slots, 0, 0);
        for (number, place) in places.iter().enumerate() {
            plain_len += u64::from(place.plain_len);
            if plain_len >= PART_LEN || number + 1 == places.len() {
                let count = rest.partition_point(|slot| usize::from(slot.frame) <= number);
                let (slots, others) = rest.split_at_mut(count);
                parts.push(Part { frames: from..number + 1, slots });
                (rest, from, plain_len) = (others, number + 1, 0);
            }
        }
        for slot in rest {
            slot.state = RowState::Bad;
            if listed.is_some() {
                let segment = self.task.table.listings[slot.listing as usize].segment;
                let what = format!("pack {} names a frame that it does not have", pack.id.short());
                in_hand.opened.segment_fault(segment, what);
            }
        }
        parts
    }

    /// Frame places from the first segment that knows them, for a pack whose own directory is lost.
    fn listed_frames(&self, pack: &Pack) -> Option<&[FramePlace]> {
        let listings = pack.listings.iter();
        listings.map(|listing| self.group.frames(self.task.table, *listing)).find(|frames| !frames.is_empty())
    }

    /// Compares the domain and the frames with what every segment says that lists the pack.
    fn compare_listings(
        &self,
        pack: &Pack,
        key_domain: DomainId,
        domain: DomainId,
        in_hand: &mut InHand<'a>,
    ) {
        let table = self.task.table;
        if domain != key_domain {
            let what = format!("its directory names domain {domain}, its key is of domain {key_domain}");
            in_hand.opened.fault(what);
        }
        let name = pack.id.short();
        for number in &pack.listings {
            let listing = &table.listings[*number as usize];
            let segment = &table.segments[listing.segment as usize];
            if segment.live.domain != domain {
                let what = format!("pack {name} belongs to another domain");
                in_hand.opened.segment_fault(listing.segment, what);
            }
            // A segment whose frame table was lost has no frames to compare.
            let frames = self.group.frames(table, *number);
            let is_lost = self.group.lost.iter().any(|(lost, _)| *lost == listing.segment);
            if frames != in_hand.places && ((segment.complete && !is_lost) || !frames.is_empty()) {
                let what = format!("pack {name} has other frames than the frame table says");
                in_hand.opened.segment_fault(listing.segment, what);
            }
        }
    }
}

fn directory(key: &PackKey, bytes: &[u8], opened: &mut Opened) -> Result<Directory, PipelineError> {
    let short =
        coffer_format::FormatError::Malformed { object: "pack", offset: 0, rule: "it ends too early" };
    let footer = bytes.last_chunk::<PACK_FOOTER_SIZE>().ok_or(short)?;
    let len = bytes.len() as u64;
    let footer = key.footer(footer, len)?;
    let from = usize::try_from(footer.directory_offset).unwrap_or(usize::MAX);
    let sealed = bytes[from..bytes.len() - PACK_FOOTER_SIZE].to_vec();
    let directory = key.directory(&footer, sealed)?;
    let unpadded = footer.directory_offset + footer.directory_plain_len + TAG_LEN + PACK_FOOTER_LEN;
    if padded_len(unpadded) != len {
        opened.fault(format!("it is padded to {len} bytes instead of {}", padded_len(unpadded)));
    }
    Ok(directory)
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
