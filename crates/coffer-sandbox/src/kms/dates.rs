//! Dates as the service writes them: RFC 3339 in UTC, to the second.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::clock::{Millis, SECOND_MS};

/// A time as text.
pub(super) fn text(at_ms: Millis) -> String {
    let seconds = i64::try_from(at_ms / SECOND_MS).unwrap_or(i64::MAX);
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(format).unwrap_or_default()
}

/// A time from text.
pub(super) fn parse(text: &str) -> Option<Millis> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Millis::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        assert_eq!(text(1_767_323_045_999), "2026-01-02T03:04:05Z");
        assert_eq!(parse("2026-01-02T03:04:05Z"), Some(1_767_323_045_000));
        assert_eq!(parse("2026-01-02T04:04:05.5+01:00"), Some(1_767_323_045_500));
        assert_eq!(parse("2026-01-02"), None);
        assert_eq!(parse("1969-01-02T03:04:05Z"), None);
    }
}
