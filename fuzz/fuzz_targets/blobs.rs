//! What stands in meta chunks beside leaves and nodes, and paths: `u64` size of a file, then the bytes.
#![no_main]

use std::cmp::Ordering;

use coffer_format::path::{check_path, compare_paths, display_path, is_within};
use coffer_format::tree::{ChunkRef, decode_holes, decode_xattrs, encode_holes, encode_xattrs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_first_chunk() else { return };
    let size = u64::from_le_bytes(*size);
    if let Ok(xattrs) = decode_xattrs(bytes) {
        assert_eq!(encode_xattrs(&xattrs), bytes);
        assert!(!xattrs.is_empty() && xattrs.is_sorted_by(|a, b| a.0 < b.0));
    }
    if let Ok(holes) = decode_holes(bytes, size) {
        assert_eq!(encode_holes(&holes), bytes);
        let mut end = None;
        for hole in holes {
            assert!(hole.len > 0 && end.is_none_or(|end| end < hole.offset));
            end = Some(hole.offset + hole.len);
        }
        assert!(end.is_some_and(|end| end <= size));
    }
    for count_max in [1, 64] {
        rows(ChunkRef::read_rows(bytes, count_max).ok(), bytes, count_max);
    }
    rows(ChunkRef::read_chunked_rows(bytes).ok(), bytes, 8192);

    // Three paths out of one input.
    let mut paths = bytes.splitn(3, |byte| *byte == 0);
    let [a, b, c] = [paths.next(), paths.next(), paths.next()].map(Option::unwrap_or_default);
    if [a, b, c].iter().all(|path| check_path(path).is_ok()) {
        laws(a, b, c);
    }
});

fn rows(found: Option<Vec<ChunkRef>>, bytes: &[u8], count_max: u64) {
    let Some(rows) = found else { return };
    assert!(!rows.is_empty() && rows.len() as u64 <= count_max);
    assert!(rows.iter().all(|row| (1..=1 << 24).contains(&row.len)));
    let mut again = Vec::new();
    rows.iter().for_each(|row| row.write_row(&mut again));
    assert_eq!(again, bytes);
}

fn components(path: &[u8]) -> Vec<&[u8]> {
    if path.is_empty() { Vec::new() } else { path.split(|byte| *byte == b'/').collect() }
}

/// Paths are compared as lists of components, and what lies below a folder follows it without a gap.
fn laws(a: &[u8], b: &[u8], c: &[u8]) {
    assert!(components(a).iter().all(|part| !part.is_empty() && *part != b"." && *part != b".."));
    assert_eq!(compare_paths(a, b), components(a).cmp(&components(b)));
    assert_eq!(compare_paths(a, b), compare_paths(b, a).reverse());
    assert_eq!(compare_paths(a, b) == Ordering::Equal, a == b);
    if compare_paths(a, b).is_le() && compare_paths(b, c).is_le() {
        assert!(compare_paths(a, c).is_le());
        assert!(
            !is_within(c, a) || is_within(b, a),
            "what lies between a folder and its content is its content"
        );
    }
    assert_eq!(is_within(b, a), components(b).starts_with(&components(a)));
    assert!(!is_within(b, a) || compare_paths(a, b).is_le());
    assert!(!display_path(a).chars().any(char::is_control));
    assert_eq!(display_path(a) == display_path(b), a == b);
}
