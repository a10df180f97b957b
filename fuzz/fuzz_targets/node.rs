//! A node of a tree.
#![no_main]

use coffer_format::tree::{NodeChild, decode_node, encode_items_head};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(children) = decode_node(data) {
        let items: Vec<u8> = children.iter().flat_map(NodeChild::encode).collect();
        assert_eq!([encode_items_head(children.len()), items].concat(), data);
    }
});
