//! What a backup or a restore would ask of a store: requests and bytes, before it is done.

use coffer_format::limits::TAG_LEN;
use coffer_format::pack::{Directory, PACK_FOOTER_LEN, PACK_HEAD_LEN, padded_len};
use coffer_store::RequestCounts;

use crate::needs::Needs;

mod sample;

pub(crate) use sample::Sampler;

/// Parts of an object that is uploaded in parts, in bytes; objects of at least two are.
const PART_LEN: u64 = 16 << 20;

/// Bytes of the record of a snapshot, roughly.
const RECORD_BYTES: u64 = 2048;

/// Bytes of an index segment, and of each new chunk in it, roughly.
const SEGMENT_BYTES: u64 = 256;
const SEGMENT_BYTES_PER_CHUNK: u64 = 33;

/// Bytes of a pack that holds nothing, its directory aside.
const PACK_OVERHEAD: u64 = PACK_HEAD_LEN + TAG_LEN + PACK_FOOTER_LEN;

/// What would be asked, and kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Requests, and the bytes that they would move.
    pub requests: RequestCounts,
    /// Bytes that the store would keep from then on.
    pub stored_bytes: u64,
    /// Bytes that would have to be retrieved from an archive class.
    pub archived_bytes: u64,
    /// Objects that would have to be.
    pub archived_count: u64,
}

/// A backup whose frames would have so many bytes in packs, of so many new chunks, by what it asked of the store so far without
/// storing anything. It is written to `store_count` stores, and the estimate is of all of them together.
#[must_use]
pub fn estimate_backup(
    asked: &RequestCounts,
    (packed_bytes, new_chunk_count): (u64, u64),
    pack_len: u64,
    store_count: u64,
) -> Estimate {
    // What one store is told to make.
    let mut made = RequestCounts::default();
    let (mut left, mut pack_bytes) = (packed_bytes, 0);
    let overhead = PACK_OVERHEAD + Directory::plain_len(0, 0) as u64;
    while left > 0 {
        // A pack is closed before the frame that would make it too long.
        let full = pack_len.saturating_sub(pack_len / 16 + overhead).max(1);
        let filled = left.min(full);
        let len = padded_len(filled + overhead);
        if len >= 2 * PART_LEN {
            made.multipart_count += 2 + len.div_ceil(PART_LEN);
        } else {
            made.create_count += 1;
        }
        pack_bytes += len;
        left -= filled;
    }
    let index_bytes =
        if new_chunk_count == 0 { 0 } else { SEGMENT_BYTES + new_chunk_count * SEGMENT_BYTES_PER_CHUNK };
    made.create_count += u64::from(index_bytes > 0) + 1;
    let stored_bytes = (pack_bytes + index_bytes + RECORD_BYTES) * store_count;
    let mut requests = *asked;
    // The commit looks what lies behind the end of the log.
    requests.list_count += 1;
    requests.multipart_count += made.multipart_count * store_count;
    requests.create_count += made.create_count * store_count;
    requests.create_bytes += stored_bytes;
    Estimate { requests, stored_bytes, ..Estimate::default() }
}

/// A restore of what `needs` says, by what finding that out has asked of the store, which a restore asks too. `archived` is
/// how many packs, and how many bytes, must be retrieved from an archive class.
#[must_use]
pub fn estimate_restore(asked: &RequestCounts, needs: &Needs, archived: (u64, u64)) -> Estimate {
    let mut requests = *asked;
    requests.read_count += needs.request_count();
    requests.read_bytes += needs.bytes();
    // Each is asked for, and how it is kept is looked at before and after.
    requests.create_count += archived.0;
    requests.stat_count += if archived.0 > 0 { 2 * needs.packs.len() as u64 } else { 0 };
    Estimate { requests, stored_bytes: 0, archived_count: archived.0, archived_bytes: archived.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_of_nothing_new_is_one_record() {
        let estimate = estimate_backup(&RequestCounts::default(), (0, 0), 32 << 20, 1);
        assert_eq!((estimate.requests.create_count, estimate.requests.multipart_count), (1, 0));
        assert_eq!(estimate.stored_bytes, RECORD_BYTES);
    }

    #[test]
    fn packs_follow_from_bytes() {
        let check = |packed_bytes, pack_len, creates, multiparts| {
            let estimate = estimate_backup(&RequestCounts::default(), (packed_bytes, 10), pack_len, 1);
            assert_eq!(
                (estimate.requests.create_count, estimate.requests.multipart_count),
                (creates, multiparts)
            );
            assert!(estimate.stored_bytes > packed_bytes);
        };
        let of_three = estimate_backup(&RequestCounts::default(), (63 << 20, 10), 32 << 20, 3);
        let of_one = estimate_backup(&RequestCounts::default(), (63 << 20, 10), 32 << 20, 1);
        assert_eq!(of_three.stored_bytes, 3 * of_one.stored_bytes);
        assert_eq!((of_three.requests.create_count, of_three.requests.multipart_count), (15, 0));
        // One pack, one segment, one record.
        check(1 << 20, 16 << 20, 3, 0);
        // Packs of the usual length go up in one request each, longer ones in parts.
        check(63 << 20, 32 << 20, 5, 0);
        check(63 << 20, 48 << 20, 3, 5);
        // Packs that hold no two parts.
        check(20 << 20, 8 << 20, 5, 0);
    }
}
