//! Runs cases against a decoder.

use crate::error::FormatError;
use crate::support::{Case, Cases};

/// The rule that an error names; what is over a limit, and versions, have one word.
pub(crate) fn rule(error: &FormatError) -> &'static str {
    match error {
        FormatError::Malformed { rule, .. } => rule,
        FormatError::TooLong { .. } => "over the limit",
        FormatError::Version { .. } => "version",
        FormatError::Text { expected, .. } => expected,
    }
}

/// Checks that the decoder says of every case what it must.
pub(crate) fn check(cases: &Cases, decode: impl Fn(&Case, &[u8]) -> Result<(), FormatError>) {
    for case in &cases.all {
        let found = decode(case, &case.bytes).err().map(|error| rule(&error));
        assert_eq!(found, case.fault, "{}", case.name);
    }
}

/// Checks that no sound case can be cut short anywhere.
pub(crate) fn check_cut(cases: &Cases, decode: impl Fn(&Case, &[u8]) -> Result<(), FormatError>) {
    for case in cases.all.iter().filter(|case| case.fault.is_none() && case.bytes.len() < 3000) {
        for len in 0..case.bytes.len() {
            assert!(decode(case, &case.bytes[..len]).is_err(), "{} cut to {len} bytes", case.name);
        }
    }
}
