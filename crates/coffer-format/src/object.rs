//! Names of the objects in a vault (specification section 2).

use crate::id::{PackId, SegmentId, SlotId, hex, unhex};
use crate::limits::LOG_NUMBER_MAX;

/// Name of the header.
pub const HEADER_NAME: &str = "vault";
/// Name of the store's own id.
pub const STORE_NAME: &str = "store";
/// Folder of the key slots.
pub const SLOTS_PREFIX: &str = "slots/";
/// Folder of the log.
pub const LOG_PREFIX: &str = "log/";
/// Folder of the packs.
pub const PACKS_PREFIX: &str = "packs/";
/// Folder of the index segments.
pub const INDEX_PREFIX: &str = "index/";
/// Folder of the scratch objects of a store probe.
pub const PROBE_PREFIX: &str = "probe/";

/// What a name in a vault stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectName {
    /// The header.
    Header,
    /// The store's own id.
    Store,
    /// A key slot.
    Slot(SlotId),
    /// Log record number n.
    Record(u64),
    /// A pack.
    Pack(PackId),
    /// An index segment.
    Segment(SegmentId),
}

impl ObjectName {
    /// Reads a name; `None` when nothing in a vault has such a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == HEADER_NAME {
            return Some(Self::Header);
        }
        if name == STORE_NAME {
            return Some(Self::Store);
        }
        if let Some(rest) = name.strip_prefix(SLOTS_PREFIX) {
            return unhex(rest).map(|id| Self::Slot(SlotId(id)));
        }
        if let Some(rest) = name.strip_prefix(INDEX_PREFIX) {
            return unhex(rest).map(|id| Self::Segment(SegmentId(id)));
        }
        if let Some(rest) = name.strip_prefix(LOG_PREFIX) {
            let digits = rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_digit());
            return digits.then(|| rest.parse().ok().map(Self::Record)).flatten();
        }
        let (folder, id) = name.strip_prefix(PACKS_PREFIX)?.split_once('/')?;
        (id.get(..2) == Some(folder)).then(|| unhex(id).map(|id| Self::Pack(PackId(id)))).flatten()
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => f.write_str(HEADER_NAME),
            Self::Store => f.write_str(STORE_NAME),
            Self::Slot(id) => write!(f, "{SLOTS_PREFIX}{id}"),
            Self::Record(number) => write!(f, "{LOG_PREFIX}{number:012}"),
            Self::Pack(id) => write!(f, "{PACKS_PREFIX}{}/{id}", hex(&id.0[..1])),
            Self::Segment(id) => write!(f, "{INDEX_PREFIX}{id}"),
        }
    }
}

const _: () = assert!(LOG_NUMBER_MAX == 999_999_999_999, "twelve decimal digits");

#[cfg(test)]
mod tests;
