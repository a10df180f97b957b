//! Why nothing may be committed to a vault, though it can be read.

use coffer_format::id::hex;

/// The id of a store, by which records name the home of the log.
pub type HomeId = [u8; 16];

/// Why nothing may be committed to a vault that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The home of the log is not among the stores that answer.
    #[error("the home of the log (store {}) is not among the stores that answer", hex(home))]
    HomeUnreachable {
        /// Its id.
        home: HomeId,
    },
    /// A store that may be the home of the log does not tell its id.
    #[error("{store} has lost its object `store`, and may be the home of the log or not")]
    HomeUnknown {
        /// The store.
        store: String,
    },
    /// Stores were promoted apart, or one vault's log was forked.
    #[error("stores were promoted apart in term {term}: {}", stores.join(" and "))]
    PromotedApart {
        /// The stores that both claim to be the home, or whose logs differ.
        stores: Vec<String>,
        /// The term of both.
        term: u64,
    },
    /// The home lacks records that a replica has.
    #[error("the log of its home {home} ends before record {home_next}, but {replica} has it up to record {}", next.saturating_sub(1))]
    HomeBehind {
        /// The home.
        home: String,
        /// Number of the record with which its log goes on.
        home_next: u64,
        /// The replica.
        replica: String,
        /// As for the home.
        next: u64,
    },
    /// The store that the log calls its home may be one that answers and holds nothing.
    #[error("the home of the log is not reached, or it is {store}, which is empty")]
    HomeEmpty {
        /// The empty store.
        store: String,
    },
    /// The log was handed over to a store that does not hold the record of it yet.
    #[error("the handover to {home} is not finished")]
    HandoverUnfinished {
        /// The new home.
        home: String,
    },
    /// The log was moved while these stores were open.
    #[error("the home of the log was moved")]
    Moved,
}
