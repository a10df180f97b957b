//! A leaf of a tree, and the blobs in its entries.
#![no_main]

use coffer_format::tree::{
    Blob, ChunkRef, TreeEntry, decode_holes, decode_leaf, decode_xattrs, encode_holes, encode_items_head,
    encode_xattrs,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(rows) = ChunkRef::read_chunked_rows(data) {
        let mut again = Vec::new();
        rows.iter().for_each(|row| row.write_row(&mut again));
        assert_eq!(again, data);
    }
    let Ok(entries) = decode_leaf(data) else { return };
    let items: Vec<u8> = entries.iter().flat_map(TreeEntry::encode).collect();
    assert_eq!([encode_items_head(entries.len()), items].concat(), data);
    for entry in &entries {
        if let Some(Blob::Inline(bytes)) = &entry.xattrs
            && let Ok(xattrs) = decode_xattrs(bytes)
        {
            assert_eq!(&encode_xattrs(&xattrs), bytes);
        }
        if let Some(Blob::Inline(bytes)) = &entry.holes
            && let Ok(holes) = decode_holes(bytes, entry.size)
        {
            assert_eq!(&encode_holes(&holes), bytes);
        }
    }
});
