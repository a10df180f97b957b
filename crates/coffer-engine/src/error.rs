//! What can stop an operation on a vault.

use coffer_collect::CollectError;
use coffer_crypto::CryptoError;
use coffer_format::FormatError;
use coffer_format::id::{Head, SegmentId, SlotId, VaultId};
use coffer_keys::KeyError;
use coffer_pipeline::PipelineError;
use coffer_store::StoreError;

/// Why an operation on a vault did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no vault at the location.
    #[error("there is no vault at {store}")]
    NoVault {
        /// The location.
        store: String,
    },
    /// There is one already.
    #[error("there is a vault at {store} already; nothing was changed")]
    VaultExists {
        /// The location.
        store: String,
    },
    /// A vault was begun and never finished; it holds nothing.
    #[error("the vault at {store} was begun and never finished")]
    Unfinished {
        /// The location.
        store: String,
        /// What a root key of one of its slots answered when it was to be finished, if that is more than that it does not fit.
        #[source]
        source: Option<Box<KeyError>>,
    },
    /// The log of a vault is gone, and other objects show that there was one.
    #[error("the log of the vault at {store} is lost")]
    LogLost {
        /// The location.
        store: String,
    },
    /// A writer credential is for another vault than the one at the location.
    #[error("the writer credential is for the vault {credential}, and this is {vault}")]
    CredentialOfOther {
        /// The vault of the credential.
        credential: VaultId,
        /// The vault found, or expected.
        vault: VaultId,
    },
    /// The vault at a location is not the one expected there.
    #[error("the vault is {actual}, expected was {expected}")]
    OtherVault {
        /// The vault id found.
        actual: VaultId,
        /// The vault id expected.
        expected: VaultId,
    },
    /// The log is older than one seen before, or another one.
    #[error("the log at {store} was rolled back or forked: record {} seen before is not there or differs", remembered.number)]
    Rollback {
        /// The location.
        store: String,
        /// The head remembered.
        remembered: Head,
    },
    /// An object of the vault cannot be used.
    #[error("{object} is damaged")]
    Damaged {
        /// Name of the object.
        object: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log needs a newer program.
    #[error("the vault's policy needs format version 1.{minor}, which this program does not know")]
    NeedsNewer {
        /// The minor version in force.
        minor: u64,
    },
    /// A key does not open the vault.
    #[error("the vault does not open")]
    Key(#[from] KeyError),
    /// The key fits none of the key slots that could be read, and not all could.
    #[error("the vault does not open: the key may fit a key slot that could not be read")]
    SlotUnread {
        /// What the store said of that slot.
        #[source]
        source: StoreError,
    },
    /// A key slot could not be made.
    #[error("the key slot cannot be made")]
    NoNewSlot {
        /// Why.
        source: KeyError,
    },
    /// The key that opened the vault may not do this.
    #[error("the key that opened the vault cannot {action}")]
    NotAllowed {
        /// What was asked for.
        action: &'static str,
    },
    /// The slot that opened the vault is to be revoked, and no other one was opened.
    #[error("key slot {} is the only one that was opened: whether another one opens the vault is not known", slot.short())]
    LastOpened {
        /// The slot.
        slot: SlotId,
    },
    /// Whether a slot opens could not be found out.
    #[error("whether key slot {} opens cannot be found out now", slot.short())]
    SlotUnknown {
        /// The slot.
        slot: SlotId,
        /// What its root key answered.
        source: Box<KeyError>,
    },
    /// The owner has revoked the writer credential.
    #[error("the writer {name} was revoked")]
    WriterRevoked {
        /// The writer's name.
        name: String,
    },
    /// The log does not know the writer credential, or not with its domain.
    #[error("the writer {name} is not enrolled in this vault")]
    WriterUnknown {
        /// The writer's name.
        name: String,
    },
    /// No place for a chunk, or none that can be read.
    #[error("chunk {id} cannot be read from any place")]
    ChunkLost {
        /// The chunk, as hexadecimal digits.
        id: String,
        /// What was met at its last place, if there is one.
        #[source]
        source: Option<Box<Self>>,
    },
    /// An index segment cannot be used.
    #[error("index segment {segment} cannot be used")]
    SegmentUnusable {
        /// The segment.
        segment: SegmentId,
        /// What is wrong with it.
        #[source]
        source: Box<Self>,
    },
    /// A record could not be committed.
    #[error("the record could not be committed: {reason}")]
    CannotCommit {
        /// Why.
        reason: String,
    },
    /// Nothing may be committed through these stores.
    #[error("nothing can be committed")]
    Refused(#[source] crate::refusal::Refusal),
    /// Two stores are one, or copies of each other.
    #[error("{first} and {second} are the same store, or copies of one")]
    SameStore {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A store that is needed does not answer.
    #[error("{store} is not reached: {reason}")]
    Unreachable {
        /// The store.
        store: String,
        /// Why.
        reason: String,
    },
    /// A store could not be brought up to the head of the log.
    #[error("{store} could not be caught up: {reason}")]
    CannotCopy {
        /// The store.
        store: String,
        /// Why.
        reason: String,
    },
    /// A store is read by another version of each name than the vault's header says.
    #[error(
        "{store} is read by the {} version of each name, and the vault's header says the {}: the object `vault` there is not \
         that of this vault",
        if *is_oldest { "oldest" } else { "newest" },
        if *is_oldest { "newest" } else { "oldest" }
    )]
    WrongVersions {
        /// The store.
        store: String,
        /// Whether the oldest versions were read.
        is_oldest: bool,
    },
    /// A store is written to in another way than the vault's header says.
    #[error(
        "the object `vault` in {store} says that writers share the store in another way than this vault's header does"
    )]
    WrongMode {
        /// The store.
        store: String,
    },
    /// A store is not promoted while the home of the log answers.
    #[error("the home of the log, {home}, answers")]
    HomeAnswers {
        /// The home.
        home: String,
    },
    /// Text that cannot name a snapshot.
    #[error("{text:?} names no snapshot: it is \"latest\", \"latest~N\" or the beginning of an id")]
    BadSelector {
        /// The text.
        text: String,
    },
    /// No snapshot fits.
    #[error("no snapshot is {selector:?}")]
    NoSnapshot {
        /// What was asked for.
        selector: String,
    },
    /// More than one snapshot fits.
    #[error("{selector:?} is the beginning of {count} snapshot ids")]
    AmbiguousSnapshot {
        /// What was asked for.
        selector: String,
        /// How many fit.
        count: usize,
    },
    /// Snapshots of more than one origin fit, and only one can be meant.
    #[error("snapshots of {} origins fit:{}", origins.len(), listed(origins))]
    AmbiguousOrigin {
        /// Hosts with their sources.
        origins: Vec<String>,
    },
    /// A path is not in the snapshot.
    #[error("{path} is not in the snapshot")]
    NoPath {
        /// The path.
        path: String,
    },
    /// What was asked for cannot be done.
    #[error("{reason}")]
    Invalid {
        /// Why not.
        reason: String,
    },
    /// What was asked for cannot be written.
    #[error("write the output")]
    Output {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The user stopped the operation.
    #[error("interrupted")]
    Interrupted,
    /// A worker thread ended before its work.
    #[error("a worker ended early")]
    WorkerGone,
    /// The system gives no thread that is needed.
    #[error("the system gives no more threads")]
    NoThread {
        /// What it said.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes at rest are malformed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Encoding or decoding failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A primitive failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Reading or writing files failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The local cache failed.
    #[error("{action} {path}")]
    Cache {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// The first ten on a line each, and how many there are beside them.
fn listed(items: &[String]) -> String {
    const SHOWN_COUNT_MAX: usize = 10;
    let mut text: String = items.iter().take(SHOWN_COUNT_MAX).map(|item| format!("\n  {item}")).collect();
    if items.len() > SHOWN_COUNT_MAX {
        text.push_str(&format!("\n  and {} more", items.len() - SHOWN_COUNT_MAX));
    }
    text
}

impl EngineError {
    /// What an error met on reading an object says of it: that it is damaged, unless the store could not be asked.
    pub(crate) fn of_object(object: impl ToString, error: Self) -> Self {
        match error {
            Self::Store(error) if error.is_of_store() => Self::Store(error),
            error => Self::damaged(object, error),
        }
    }

    /// Whether an object that was needed is archived: nothing is wrong with it, but it must be asked for first.
    #[must_use]
    pub fn is_archived(&self) -> bool {
        is_archived(self)
    }

    /// Whether it says that the vault is not as it should be, and not only that the store could not be asked or that what is
    /// wanted is archived.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            error if is_archived(error) => false,
            Self::Damaged { .. } | Self::Format(_) | Self::Pipeline(_) => true,
            Self::ChunkLost { source, .. } => source.as_ref().is_none_or(|source| !source.is_unasked()),
            _ => false,
        }
    }

    /// Whether the bytes of an object that was read are not what they should be, by what they hold or by their length: another
    /// copy of it may be.
    pub(crate) fn is_wrong_bytes(&self) -> bool {
        match self {
            Self::Store(error) => matches!(
                error,
                StoreError::TooLong { .. }
                    | StoreError::Truncated { .. }
                    | StoreError::LengthChanged { .. }
                    | StoreError::NotAnObject { .. }
            ),
            error => error.is_damage(),
        }
    }

    /// Whether it says that an object is absent or damaged wherever it was looked for.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Store(error) => matches!(
                error,
                StoreError::NotFound { .. }
                    | StoreError::NotAnObject { .. }
                    | StoreError::TooLong { .. }
                    | StoreError::Truncated { .. }
            ),
            error => error.is_damage(),
        }
    }

    /// Whether it says nothing of what is stored.
    pub(crate) const fn is_unasked(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Interrupted | Self::WorkerGone | Self::NoThread { .. })
    }

    pub(crate) fn damaged(
        object: impl ToString,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Damaged { object: object.to_string(), source: source.into() }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }
}

/// Whether an object that was needed is archived.
pub(crate) fn is_archived(error: &(dyn std::error::Error + 'static)) -> bool {
    archived_name(error).is_some()
}

/// The archived object that was needed.
pub(crate) fn archived_name<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // A cause in a box shows as the box.
        let boxed = error.downcast_ref::<Box<EngineError>>().map(|error| &**error);
        let store = match error.downcast_ref::<EngineError>().or(boxed) {
            Some(EngineError::Store(store)) => Some(store),
            _ => error.downcast_ref::<StoreError>(),
        };
        if let Some(StoreError::Archived { name, .. }) = store {
            return Some(name);
        }
        cause = error.source();
    }
    None
}
