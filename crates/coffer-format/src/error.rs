//! What can be wrong with bytes at rest.

/// Why bytes could not be read as what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes break a rule of the format.
    #[error("malformed {object} at byte {offset}: {rule}")]
    Malformed {
        /// The structure being read.
        object: &'static str,
        /// Where in the structure's bytes, as near as it is known.
        offset: u64,
        /// The rule that is broken.
        rule: &'static str,
    },
    /// A length or count is above its limit.
    #[error("{object} of {actual} is over the limit of {limit}")]
    TooLong {
        /// What is too long.
        object: &'static str,
        /// The length or count found.
        actual: u64,
        /// The limit in the same unit.
        limit: u64,
    },
    /// The vault needs a newer program.
    #[error("format version {major}.{minor} is not one this program knows (it knows 1.{known_minor})")]
    Version {
        /// Major version found.
        major: u64,
        /// Minor version found.
        minor: u64,
        /// Highest minor version this crate knows.
        known_minor: u64,
    },
    /// Text that should be an identifier is not one.
    #[error("{text:?} is not {expected}")]
    Text {
        /// The text, shortened.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl FormatError {
    pub(crate) const fn malformed(object: &'static str, offset: usize, rule: &'static str) -> Self {
        Self::Malformed { object, offset: offset as u64, rule }
    }

    pub(crate) const fn rule(object: &'static str, rule: &'static str) -> Self {
        Self::Malformed { object, offset: 0, rule }
    }
}

/// Checks `actual <= limit` for what is named.
pub(crate) const fn check_len(object: &'static str, actual: u64, limit: u64) -> Result<(), FormatError> {
    if actual > limit { Err(FormatError::TooLong { object, actual, limit }) } else { Ok(()) }
}
