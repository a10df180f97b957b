//! Standard output, for people or as JSON; messages beside it on standard error.

use std::fmt;
use std::io::{self, Write};

use coffer_store::RequestCounts;
use serde_json::{Value, json};

use crate::global::Global;
use crate::progress;
use crate::style::Word;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// Name every entry.
    pub(crate) verbose: bool,
    /// Also say where settings come from and what the store was asked.
    pub(crate) very_verbose: bool,
}

/// Nobody reads standard output any more.
#[derive(Debug)]
pub(crate) struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for Unread {}

impl Output {
    /// As the flags say.
    pub(crate) const fn of(global: &Global) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose > 0,
            very_verbose: global.verbose > 1,
        }
    }

    /// Prints one JSON value on one line, or `text` for people. If nobody reads it any more, that is no failure.
    pub(crate) fn result(&self, value: &Value, text: &str) -> io::Result<()> {
        match if self.json { line(&value.to_string()) } else { line(text) } {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed,
        }
    }

    /// As [`Self::result`], but people who want it quiet do not hear of it.
    pub(crate) fn summary(&self, value: &Value, text: &str) -> io::Result<()> {
        if self.quiet && !self.json { Ok(()) } else { self.result(value, text) }
    }

    /// Prints one JSON value on one line, if JSON is asked for.
    pub(crate) fn json_line(&self, value: &Value) -> io::Result<()> {
        if self.json { line(&value.to_string()) } else { Ok(()) }
    }

    /// Prints text for people, if JSON is not asked for.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { line(text) }
    }

    /// Says something beside the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            message(text);
        }
    }

    /// Warns, whatever was asked for.
    pub(crate) fn warn(&self, text: &str) {
        if self.json {
            message(&json!({"message_type": "warning", "message": text}).to_string());
        } else {
            message(&format!("{} {text}", Word::Warning.shown()));
        }
    }
}

/// One line on standard output. That nobody reads it is an error of its own, with [`Unread`] inside.
pub(crate) fn line(text: &str) -> io::Result<()> {
    raw(format!("{text}\n").as_bytes())
}

/// Bytes on standard output as they are.
pub(crate) fn raw(bytes: &[u8]) -> io::Result<()> {
    let write = || {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    };
    progress::aside(write).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, Unread),
        _ => error,
    })
}

/// One line on standard error.
pub(crate) fn message(text: &str) {
    // Nobody is left to tell if standard error is gone.
    drop(progress::aside(|| writeln!(io::stderr().lock(), "{text}")));
}

/// What the store was asked, for machines.
pub(crate) fn requests_json(counts: &RequestCounts) -> Value {
    json!({
        "create_count": counts.create_count, "create_bytes": counts.create_bytes, "multipart_count": counts.multipart_count, "read_count": counts.read_count,
        "read_bytes": counts.read_bytes, "stat_count": counts.stat_count, "list_count": counts.list_count,
        "delete_count": counts.delete_count, "class_a": counts.class_a(), "class_b": counts.class_b(),
    })
}

/// What the store was asked, for people; kinds that were not asked for are left out.
pub(crate) fn requests_text(counts: &RequestCounts) -> String {
    let kinds = [
        (counts.create_count, format!("created ({})", bytes(counts.create_bytes))),
        (counts.multipart_count, "in parts".to_owned()),
        (counts.read_count, format!("read ({})", bytes(counts.read_bytes))),
        (counts.stat_count, "measured".to_owned()),
        (counts.list_count, "listed".to_owned()),
        (counts.delete_count, "deleted".to_owned()),
    ];
    let kinds: Vec<_> = kinds.into_iter().filter(|(count, _)| *count > 0).collect();
    let kinds: Vec<_> = kinds.into_iter().map(|(count, what)| format!("{count} {what}")).collect();
    format!("{} store request(s): {}", counts.total(), kinds.join(", "))
}

/// How many times larger the first is than the second; 1 if both are empty.
pub(crate) fn ratio(plain: u64, stored: u64) -> f64 {
    match (plain, stored) {
        (0, 0) => 1.0,
        (_, 0) => 0.0,
        _ => plain as f64 / stored as f64,
    }
}

/// A length in bytes for people.
pub(crate) fn bytes(len: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = (len.max(1).ilog2() / 10).min(5);
    if unit == 0 {
        return format!("{len} B");
    }
    let tenths = (u128::from(len) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit as usize])
}

/// A time for people, in the local time zone.
pub(crate) fn time(ns: i64) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(ns));
    stamp.map_or_else(
        |_| format!("{ns} ns"),
        |stamp| stamp.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A time for machines, in UTC.
pub(crate) fn time_utc(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns))
        .map_or_else(|_| ns.to_string(), |stamp| stamp.to_string())
}
