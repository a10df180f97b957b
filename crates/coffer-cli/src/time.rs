//! The time that `--time` gives.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// RFC 3339, or a date and a time of day without time zone, which are local.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    parse_in(text, TimeZone::system())
}

fn parse_in(text: &str, local: TimeZone) -> Result<i64, String> {
    let refuse = || {
        "expected YYYY-MM-DD HH:MM[:SS], or a time as in RFC 3339, such as 2026-01-31T04:00:00Z".to_owned()
    };
    let stamp = match text.parse::<Timestamp>() {
        // A zone behind the time counts, and is none that may be passed over.
        _ if text.contains('[') => text.parse::<Zoned>().map_err(|_| refuse())?.timestamp(),
        Ok(stamp) => stamp,
        Err(_) => {
            let time: DateTime = text.parse().map_err(|_| refuse())?;
            let zoned: Zoned = time.to_zoned(local).map_err(|_| refuse())?;
            zoned.timestamp()
        }
    };
    i64::try_from(stamp.as_nanosecond()).map_err(|_| "the time is too far away".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_unless_they_say_otherwise() {
        let east = || TimeZone::fixed(jiff::tz::offset(2));
        let second = 1_000_000_000;
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:00:00.5+01:00", second / 2),
            ("1970-01-01 02:00:01", second),
            ("1970-01-01T02:01", 60 * second),
            ("1970-01-02 02:00", 86_400 * second),
            ("1970-01-01T01:00:00+01:00[+01:00]", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_in(text, east()), Ok(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "1970-13-01 00:00",
            "1970-01-01 25:00",
            "9999-01-01T00:00:00Z",
            "12:00",
            "1970-01-01T00:00[No/Where]",
        ] {
            assert!(parse_in(text, east()).is_err(), "{text}");
        }
    }
}
