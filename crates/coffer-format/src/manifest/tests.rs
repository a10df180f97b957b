use proptest::prelude::*;

use super::*;
use crate::id::ChunkId;
use crate::support::cases_data;
use crate::testing::{check, check_cut};
use crate::tree::ChunkRef;

#[test]
fn every_case() {
    check(&cases_data::manifest(), |_, bytes| Manifest::decode(bytes).map(drop));
    check_cut(&cases_data::manifest(), |_, bytes| Manifest::decode(bytes).map(drop));
}

#[test]
fn what_is_read_is_written_alike() {
    for case in cases_data::manifest().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(Manifest::decode(&case.bytes).unwrap().encode(), case.bytes, "{}", case.name);
    }
}

#[test]
fn empty_values_are_left_out() {
    let root = TreeRoot { chunk: ChunkRef { id: ChunkId([1; 32]), len: 1 }, height: 16 };
    let mut manifest = Manifest::new("files", root);
    let least = manifest.encode();
    manifest.user = Some(String::new());
    manifest.facts = Some(vec![0xa0]);
    assert_eq!(manifest.encode(), least);
    let read = Manifest::decode(&least).unwrap();
    assert_eq!((read.user, read.facts, read.collector.as_str(), read.root), (None, None, "files", root));
}

fn any_manifest() -> impl Strategy<Value = Manifest> {
    let text = || ".{0,20}";
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    let errors = proptest::collection::vec((bytes(), text()), 0..4);
    let lists = (
        proptest::collection::btree_set(text(), 0..4),
        proptest::collection::vec(bytes(), 0..4),
        errors,
        0..9_u64,
    );
    let numbers = (any::<[i64; 2]>(), any::<[u64; 9]>(), any::<[u8; 32]>(), 1..=16_777_216_u32, 0..=16_u8);
    let options = (proptest::option::of(any::<[u8; 32]>()), proptest::option::of(".{1,9}"), any::<bool>());
    ((text(), text(), text()), lists, numbers, options).prop_map(
        |(
            (collector, host, program),
            (tags, sources, errors, more),
            (times, counts, id, len, height),
            (parent, user, facts),
        )| {
            let root = TreeRoot { chunk: ChunkRef { id: ChunkId(id), len }, height };
            let mut manifest = Manifest::new(&collector, root);
            (manifest.host, manifest.program, manifest.user) = (host, program, user);
            (manifest.tags, manifest.sources) = (tags.into_iter().collect(), sources);
            [manifest.start_ns, manifest.end_ns] = times;
            manifest.statistics.fields().into_iter().zip(counts).for_each(|(field, count)| *field = count);
            manifest.parent = parent.map(SnapshotId);
            manifest.completeness.error_count = errors.len() as u64 + more;
            manifest.completeness.errors = errors;
            manifest.facts = facts.then(|| vec![0xa1, 0, 1]);
            manifest
        },
    )
}

proptest! {
    #[test]
    fn round_trip(manifest in any_manifest()) {
        prop_assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
    }

    #[test]
    fn whatever_is_accepted_is_written_alike(manifest in any_manifest(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = manifest.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = Manifest::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}
