//! Reading without restoring: archives that other programs unpack, differences, searches.

mod archives;
mod differences;
mod searches;

use std::fs;
use std::path::PathBuf;

use coffer_store::MemoryStore;
use coffer_testkit::RecordingStore;
use tempfile::TempDir;

use crate::support::{World, scratch};

/// A vault and its source, which is empty at first.
struct Vaulted {
    world: World,
    store: RecordingStore<MemoryStore>,
    place: TempDir,
}

impl Vaulted {
    fn new() -> Self {
        let (world, store) = (World::new(21), RecordingStore::new(MemoryStore::new()));
        world.init(&store).unwrap();
        let vaulted = Self { world, store, place: scratch() };
        fs::create_dir(vaulted.source()).unwrap();
        vaulted
    }

    fn source(&self) -> PathBuf {
        self.place.path().join("src")
    }

    fn save(&self) {
        assert_eq!(self.world.backup(&self.store, &self.source()).unwrap().error_count, 0);
    }
}
