//! Packs in groups whose rows fit in memory.
//!
//! A row is compared with the pack that it points into. Where the rows of all segments do not fit in memory, the packs of one segment, or
//! of some, or a part of those of a large one, are opened at a time, and their segments are read again for these rows.

use std::collections::{BTreeMap, BTreeSet};

use coffer_format::pack::FramePlace;

use crate::error::VerifyError;
use crate::packs::{PackTable, Row, count32};
use crate::parallel;
use crate::segments;

use super::Task;

/// Packs that are opened together.
#[derive(Default)]
pub(crate) struct Group {
    /// Positions in the table.
    pub(crate) packs: Vec<u32>,
    /// Rows that point into them.
    pub(crate) rows: Vec<Row>,
    /// Places of frames by listing, where the table does not have them.
    pub(crate) frames: BTreeMap<u32, Vec<FramePlace>>,
    /// Segments that could be read before and cannot be now, with what is wrong.
    pub(crate) lost: Vec<(u32, String)>,
}

impl Group {
    /// The places of the frames of a pack, as the segment of a listing gives them.
    pub(crate) fn frames<'a>(&'a self, table: &'a PackTable, listing: u32) -> &'a [FramePlace] {
        self.frames.get(&listing).unwrap_or(&table.listings[listing as usize].frames)
    }
}

/// Divides all packs into groups of at most so many rows, or one pack. Packs of a segment stay together as far as they can.
pub(crate) fn plan(table: &PackTable, row_count_max: u64) -> Vec<Vec<u32>> {
    let weight = |pack: &u32| -> u64 {
        let listings = table.packs[*pack as usize].listings.iter();
        listings.map(|listing| u64::from(table.listings[*listing as usize].row_count)).sum()
    };
    let mut is_planned = vec![false; table.packs.len()];
    let mut groups = Vec::new();
    let (mut group, mut row_count) = (Vec::new(), 0);
    for listings in table.listings.chunk_by(|a, b| a.segment == b.segment) {
        let mut packs: Vec<u32> = listings.iter().map(|listing| listing.pack).collect();
        packs.retain(|pack| !std::mem::replace(&mut is_planned[*pack as usize], true));
        let mut left: u64 = packs.iter().map(weight).sum();
        for pack in packs {
            let more = weight(&pack);
            // Either all that is left of the segment fits, or none of it is to share a group with others unless it has to.
            let is_full = row_count + more > row_count_max;
            let would_be_cut = row_count + left > row_count_max && left <= row_count_max;
            if !group.is_empty() && (is_full || would_be_cut) {
                groups.push(std::mem::take(&mut group));
                row_count = 0;
            }
            group.push(pack);
            row_count += more;
            left -= more;
        }
    }
    groups.push(group);
    groups
}

/// Reads the rows and frames of some packs from their segments.
pub(crate) fn load(task: &Task<'_>, packs: Vec<u32>) -> Result<Group, VerifyError> {
    let table = task.table;
    let mut is_member = vec![false; table.packs.len()];
    let mut numbers = BTreeSet::new();
    for pack in &packs {
        is_member[*pack as usize] = true;
        numbers.extend(table.segments_of(&table.packs[*pack as usize]));
    }
    let read = |(): &mut (), number: u32| {
        let segment = &table.segments[number as usize];
        let wanted = |position: u16| {
            let listing = table.listings.get(segment.first_listing as usize + usize::from(position));
            listing.is_some_and(|listing| listing.segment == number && is_member[listing.pack as usize])
        };
        let mut again = segments::read_again(task.source, task.replayed, task.keyring, segment, &wanted)?;
        let rows: Vec<Row> = again.take_rows().collect();
        let places = std::mem::take(&mut again.frames).into_iter().enumerate();
        let frames: Vec<(u32, Vec<FramePlace>)> = places
            .filter(|(position, _)| u16::try_from(*position).is_ok_and(&wanted))
            .map(|(position, places)| (segment.first_listing + count32(position), places))
            .collect();
        let lost = segment.complete && !again.complete;
        let lost = lost.then(|| (number, format!("it could not be read again: {}", again.faults.what())));
        Ok((rows, frames, lost))
    };
    let threads = task.threads.min(if numbers.len() > 2 { task.threads } else { 1 });
    let mut group = Group { packs, ..Group::default() };
    for (rows, frames, lost) in parallel::map(threads, numbers.into_iter(), || Ok(()), read)? {
        if group.rows.is_empty() {
            group.rows = rows;
        } else {
            group.rows.extend(rows);
        }
        group.frames.extend(frames);
        group.lost.extend(lost);
    }
    Ok(group)
}

#[cfg(test)]
mod tests;
