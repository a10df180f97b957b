//! How far a verification has come.

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Log records, in records; the total is what a listing shows.
    Log,
    /// Live index segments, in bytes.
    Index,
    /// Packs, in bytes of those that are read whole.
    Packs,
    /// Trees of snapshots, in snapshots.
    Trees,
}

/// Is told how far the work has come, from several threads.
pub trait Progress: Sync {
    /// A stage begins whose work is `total` in the stage's unit.
    fn begin(&self, stage: Stage, total: u64) {
        let _ = (stage, total);
    }

    /// So much more of the stage is done.
    fn advance(&self, stage: Stage, amount: u64) {
        let _ = (stage, amount);
    }
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
