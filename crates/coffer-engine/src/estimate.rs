//! What a backup or a restore would ask of a store: requests and bytes, before it is done.

use coffer_store::RequestCounts;

use crate::needs::Needs;

/// Parts of an object that is uploaded in parts, in bytes; objects of at least two are.
const PART_LEN: u64 = 16 << 20;

/// Bytes of the index for each new chunk, compressed and sealed.
const INDEX_BYTES_PER_CHUNK: u64 = 48;

/// Bytes of a record and of what surrounds packs and segments, roughly.
const RECORD_BYTES: u64 = 4096;

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

/// A backup of so many new bytes before compression, in so many new chunks, by what it asked of the store so far without
/// storing anything. `ratio` is how many times smaller compression made what the vault holds. It is written to `store_count` stores, and
/// the estimate is of all of them together.
#[must_use]
pub fn estimate_backup(
    asked: &RequestCounts,
    (new_bytes, new_chunk_count): (u64, u64),
    ratio: f64,
    pack_len: u64,
    store_count: u64,
) -> Estimate {
    // What one store is told to make.
    let mut made = RequestCounts::default();
    let stored = new_bytes as f64 / ratio.max(1.0);
    // Beyond 2^53 nothing is exact, nor need it be.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, never negative"
    )]
    let mut pack_bytes = stored as u64;
    if new_bytes > 0 {
        pack_bytes += RECORD_BYTES;
    }
    let mut left = pack_bytes;
    while left > 0 {
        let len = left.min(pack_len.max(1));
        if len >= 2 * PART_LEN {
            made.multipart_count += 2 + len.div_ceil(PART_LEN);
        } else {
            made.create_count += 1;
        }
        left -= len;
    }
    let index_bytes =
        if new_chunk_count == 0 { 0 } else { RECORD_BYTES + new_chunk_count * INDEX_BYTES_PER_CHUNK };
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
        let estimate = estimate_backup(&RequestCounts::default(), (0, 0), 2.0, 32 << 20, 1);
        assert_eq!((estimate.requests.create_count, estimate.requests.multipart_count), (1, 0));
        assert_eq!(estimate.stored_bytes, RECORD_BYTES);
    }

    #[test]
    fn packs_follow_from_bytes_and_compression() {
        let check = |new_bytes, ratio, pack_len, creates, multiparts| {
            let estimate = estimate_backup(&RequestCounts::default(), (new_bytes, 10), ratio, pack_len, 1);
            assert_eq!(
                (estimate.requests.create_count, estimate.requests.multipart_count),
                (creates, multiparts)
            );
        };
        let of_three = estimate_backup(&RequestCounts::default(), (64 << 20, 10), 1.0, 32 << 20, 3);
        let of_one = estimate_backup(&RequestCounts::default(), (64 << 20, 10), 1.0, 32 << 20, 1);
        assert_eq!(of_three.stored_bytes, 3 * of_one.stored_bytes);
        assert_eq!((of_three.requests.create_count, of_three.requests.multipart_count), (9, 24));
        // One pack, one segment, one record.
        check(1 << 20, 1.0, 16 << 20, 3, 0);
        // The last is smaller than the parts.
        check(64 << 20, 1.0, 32 << 20, 3, 8);
        check(64 << 20, 2.0, 32 << 20, 3, 4);
        check(64 << 20, 0.5, 32 << 20, 3, 8);
    }
}
