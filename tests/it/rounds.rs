//! Far away: what operations cost where every request takes its time, in rounds that somebody has to wait for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use coffer_format::header::ChunkerSpec;
use coffer_store::MemoryStore;
use coffer_testkit::{SlowCounts, SlowStore};

use super::support::noise;

mod backups;
pub(crate) mod logs;
mod restores;
pub(crate) mod services;
mod thousand;
mod writers;

type Far = SlowStore<MemoryStore>;

/// What a store far away says of itself.
const IN_FLIGHT: usize = 32;
/// How many records are asked for at once, back from the end of the log, and on from its beginning.
const RECORDS_IN_FLIGHT: u64 = 64;
const LOG_IN_FLIGHT: u64 = 256;

/// A store that takes so long for each request. Where rounds are counted, it is well above what a thread of a busy machine waits for its turn:
/// whoever comes late counts as a round of its own.
fn far(inner: MemoryStore, delay_ms: u64) -> Far {
    SlowStore::new(inner, Duration::from_millis(delay_ms), IN_FLIGHT)
}

/// Files of some hundred bytes, forty in each directory.
fn grow(source: &Path, count: u64) {
    for number in 0..count {
        let folder = source.join(format!("dir-{:04}", number / 40));
        fs::create_dir_all(&folder).unwrap();
        let len = usize::try_from(150 + number % 500).unwrap();
        fs::write(folder.join(format!("file-{number:06}")), noise(number, len)).unwrap();
    }
}

/// Chunks that are frames of their own.
const MIB_CHUNKS: ChunkerSpec = ChunkerSpec::Fixed { len: 1 << 20 };

/// Files of 1 MiB.
fn grow_large(source: &Path) {
    fs::create_dir_all(source).unwrap();
    for file in 0..32_u64 {
        fs::write(source.join(format!("file-{file:02}")), noise(file, 1 << 20)).unwrap();
    }
}

/// Says what was measured; `cargo test -- --nocapture` shows it.
fn tell(what: &str, counts: &SlowCounts) {
    println!("{what}: {counts:?}");
}
