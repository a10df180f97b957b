//! Times and names as the S3 protocol writes them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result};
use time::OffsetDateTime;

use crate::clock::Millis;

/// What stays as it is in a key that a list gives encoded.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// A time for an answer.
pub(super) fn timestamp(ms: Millis) -> Timestamp {
    let ns = i128::from(ms) * 1_000_000;
    Timestamp::from(OffsetDateTime::from_unix_timestamp_nanos(ns).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// A time to the second, as headers have it.
pub(super) fn whole_seconds(ms: Millis) -> Timestamp {
    timestamp(ms / 1000 * 1000)
}

/// A time from a request.
pub(super) fn millis(timestamp: &Timestamp) -> Millis {
    let at = OffsetDateTime::from(timestamp.clone());
    Millis::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(super) fn http_date(ms: Millis) -> String {
    formatted(&whole_seconds(ms), TimestampFormat::HttpDate)
}

/// `1994-11-06T08:49:37.000Z`
pub(super) fn iso_date(ms: Millis) -> String {
    formatted(&timestamp(ms), TimestampFormat::DateTime)
}

fn formatted(timestamp: &Timestamp, format: TimestampFormat) -> String {
    let mut text = Vec::new();
    // Every time that a clock can show has these forms.
    drop(timestamp.format(format, &mut text));
    String::from_utf8(text).unwrap_or_default()
}

/// A time in any form that a client may use in a header.
pub(super) fn parse_date(text: &str) -> Option<Millis> {
    let by = |format| Timestamp::parse(format, text).ok();
    by(TimestampFormat::DateTime).or_else(|| by(TimestampFormat::HttpDate)).map(|stamp| millis(&stamp))
}

/// A name for a list, encoded if the client asked for it.
pub(super) fn listed(name: String, is_encoded: bool) -> String {
    if is_encoded { utf8_percent_encode(&name, KEPT).to_string() } else { name }
}

/// Text for XML.
pub(super) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

/// A length as the protocol counts.
pub(super) fn signed(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// A refusal with a code and a message.
pub(super) fn refuse(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// A refusal of something that the request says.
pub(super) fn invalid<T>(message: impl Into<String>) -> S3Result<T> {
    Err(refuse(S3ErrorCode::InvalidArgument, message))
}

/// A refusal because of a lock, a retention, a hold or a key.
pub(super) fn denied<T>(message: impl Into<String>) -> S3Result<T> {
    Err(refuse(S3ErrorCode::AccessDenied, message))
}
