//! Frames opened, and every chunk in them rehashed.

use coffer_crypto::DomainKeys;
use coffer_format::id::ChunkId;
use coffer_format::index::ID_PREFIX_LEN;
use coffer_format::pack::{ChunkKind, FramePlace};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::pack_reader::{FrameReader, chunk_id};

use crate::packs::{Row, RowState};
use crate::source::reason;

use super::{InHand, Opened, Opener, Part, Slot, lose};

const ANOTHER_CHUNK: &str = "has another chunk at a place than the chunk table says";

/// What is found in some frames of a pack.
pub(super) struct FramesOpened<'a> {
    opener: &'a Opener<'a>,
    in_hand: &'a InHand<'a>,
    opened: Opened,
}

impl<'a> FramesOpened<'a> {
    pub(super) fn open<'o>(
        opener: &'o Opener<'o>,
        in_hand: &'o InHand<'o>,
        frames: &mut FrameReader,
        part: Part<'_>,
    ) -> Opened {
        let mut this = FramesOpened { opener, in_hand, opened: Opened::default() };
        let mut rest = part.slots;
        for number in part.frames {
            let count = rest.partition_point(|slot| usize::from(slot.frame) <= number);
            let (slots, others) = rest.split_at_mut(count);
            rest = others;
            this.frame(number, frames, slots);
        }
        this.opened
    }

    fn frame(&mut self, number: usize, frames: &mut FrameReader, slots: &mut [Slot]) {
        let Some((keys, key)) = &self.in_hand.key else { return lose(slots) };
        let place = self.in_hand.places[number];
        let from = place.offset as usize;
        let sealed = self.in_hand.bytes.get().get(from..from + place.sealed_len as usize);
        let Some(sealed) = sealed else {
            self.opened.fault(format!("frame {number} lies beyond its end"));
            return lose(slots);
        };
        match frames.open(key, number as u64, place.plain_len, sealed) {
            Ok((kind, plain)) => {
                self.opened.frames += 1;
                if kind == ChunkKind::Meta && self.in_hand.is_whole {
                    // The walk through the trees comes to it.
                    let number = u16::try_from(number).unwrap_or(u16::MAX);
                    self.opener.cache.offer(self.in_hand.number, number, kind, plain);
                }
                match &self.in_hand.directory {
                    Some(directory) => {
                        let chunks = &directory.frames[number].chunks;
                        self.check_chunks(keys, number, place, chunks, (kind, plain), slots);
                    }
                    None => self.check_rows(keys, number, (kind, plain), slots),
                }
            }
            Err(error) => {
                self.opened.fault(format!("frame {number} is lost: {}", reason(&error)));
                lose(slots);
            }
        }
    }

    /// Rehashes the chunks of a frame that its directory names, and compares the index rows with them.
    fn check_chunks(
        &mut self,
        keys: &DomainKeys,
        frame: usize,
        place: FramePlace,
        chunks: &[ChunkRef],
        (kind, plain): (ChunkKind, &[u8]),
        mut slots: &mut [Slot],
    ) {
        let mut offset = 0_u32;
        for chunk in chunks {
            let bytes = &plain[offset as usize..(offset + chunk.len) as usize];
            let intact = self.rehash(keys, kind, bytes) == chunk.id;
            if !intact {
                self.opened
                    .fault(format!("chunk {} in frame {frame} has other bytes than its id says", chunk.id));
            }
            let count = slots.partition_point(|slot| slot.offset <= offset);
            let (here, others) = slots.split_at_mut(count);
            slots = others;
            for slot in here {
                let row = self.row(slot);
                let fits = row.offset == offset
                    && row.len == chunk.len
                    && row.id[..ID_PREFIX_LEN] == chunk.id.0[..ID_PREFIX_LEN]
                    && row.place == place;
                if !fits {
                    self.segment_fault(slot.listing, ANOTHER_CHUNK);
                }
                settle(slot, kind, &chunk.id, fits && intact);
            }
            offset += chunk.len;
        }
        for slot in slots {
            slot.state = RowState::Bad;
            self.segment_fault(slot.listing, ANOTHER_CHUNK);
        }
    }

    /// Rehashes the chunks of a frame that the index names, for a pack whose directory is lost.
    fn check_rows(
        &mut self,
        keys: &DomainKeys,
        frame: usize,
        (kind, plain): (ChunkKind, &[u8]),
        slots: &mut [Slot],
    ) {
        for slot in slots {
            let row = *self.row(slot);
            let bytes = plain.get(row.offset as usize..row.offset as usize + row.len as usize);
            let id = bytes.map(|bytes| self.rehash(keys, kind, bytes));
            let intact = id.is_some_and(|id| id.0[..ID_PREFIX_LEN] == row.id[..ID_PREFIX_LEN]);
            if !intact {
                self.opened.fault(format!("a chunk in frame {frame} has other bytes than its id says"));
            }
            settle(slot, kind, &id.unwrap_or(ChunkId(row.id)), intact);
        }
    }

    fn rehash(&mut self, keys: &DomainKeys, kind: ChunkKind, bytes: &[u8]) -> ChunkId {
        self.opened.chunks += 1;
        self.opened.chunk_bytes += bytes.len() as u64;
        chunk_id(keys, kind, bytes)
    }

    fn row(&self, slot: &Slot) -> &'a Row {
        &self.opener.group.rows[slot.row as usize]
    }

    fn segment_fault(&mut self, listing: u32, what: &str) {
        let table = self.opener.task.table;
        let segment = table.listings[listing as usize].segment;
        let name = table.packs[self.in_hand.number as usize].id.short();
        self.opened.segment_fault(segment, format!("pack {name} {what}"));
    }
}

fn settle(slot: &mut Slot, kind: ChunkKind, id: &ChunkId, good: bool) {
    slot.state = match kind {
        _ if !good => RowState::Bad,
        ChunkKind::Data => RowState::GoodData,
        ChunkKind::Meta => RowState::GoodMeta,
    };
    slot.tail.copy_from_slice(&id.0[ID_PREFIX_LEN..]);
}
