//! Standard output, for people or as JSON.

use std::io::{self, Write};

use serde_json::Value;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
}

impl Output {
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
            message(&serde_json::json!({"message_type": "warning", "message": text}).to_string());
        } else {
            message(&format!("warning: {text}"));
        }
    }
}

fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn message(text: &str) {
    // Nobody is left to tell if standard error is gone.
    drop(writeln!(io::stderr().lock(), "{text}"));
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
