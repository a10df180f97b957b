//! Why a vault could not be verified at all.

use coffer_pipeline::PipelineError;
use coffer_store::StoreError;

/// Why there is no report. What is wrong with a vault is no error but a [`Finding`](crate::Finding).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The store cannot be listed or reached, or does not let itself be read.
    #[error("the store could not be read")]
    Store {
        /// What it said.
        #[source]
        source: StoreError,
    },
    /// There is neither a header nor a log.
    #[error("{url} holds no vault")]
    NotAVault {
        /// Where was looked.
        url: String,
    },
    /// The header that the given vault id belongs to is not there.
    #[error("{url} does not hold the vault of the given id")]
    OtherVault {
        /// Where was looked.
        url: String,
    },
    /// The vault needs a newer program; nothing is said about it.
    #[error("the vault is of format version {major}.{minor}, which is newer than this program knows")]
    NeedsNewer {
        /// Major version it needs.
        major: u64,
        /// Minor version it needs.
        minor: u64,
    },
    /// The key is of an older epoch than the newest and cannot read everything.
    #[error("the key is of epoch {epoch}, the newest is {newest}")]
    OldKey {
        /// Epoch of the key given.
        epoch: u32,
        /// The newest epoch.
        newest: u32,
    },
    /// The key is not the vault's, or does not lead to the keys of older epochs.
    #[error("the key of epoch {epoch} does not fit the vault")]
    Key {
        /// Epoch of the key given.
        epoch: u32,
        /// Why.
        #[source]
        source: PipelineError,
    },
    /// A decoder could not be made.
    #[error("no decoder could be made")]
    Decoder {
        /// Why.
        #[source]
        source: PipelineError,
    },
    /// The index does not fit in memory, and a temporary file for it could not be made, written or read.
    #[error("a temporary file for the rows of the index failed in {directory}")]
    Scratch {
        /// Where temporary files are made.
        directory: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text names no subset.
    #[error("`{text}` is no subset: write n/m, a percentage such as 5%, or a size such as 10G")]
    Subset {
        /// The text, shortened.
        text: String,
    },
}
