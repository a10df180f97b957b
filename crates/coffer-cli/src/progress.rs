//! How far a backup, a restore or a verification has come: a line on a terminal, or `status` messages in JSON.
//!
//! The work adds to counters; one thread looks at them and shows them, so showing never holds the work up. Nothing is
//! shown where nobody looks: with `--quiet`, and without `--json` where standard error is no terminal.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coffer_format::path::display_path;
use coffer_store::{RequestCounter, RequestCounts};
use coffer_verify::Stage;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::output::{self, Output, bytes};

/// How often the line on the terminal is drawn anew.
const DRAW_INTERVAL: Duration = Duration::from_millis(125);
/// How often a `status` message is printed.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// The line that is drawn now, if any: other messages go around it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes something while no progress line is in the way.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match shown {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Takes the line away for good, before the process ends in the middle of the work.
pub(crate) fn clear() {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(bar) = shown {
        bar.finish_and_clear();
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Records,
    Snapshots,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Records => "records",
            Self::Snapshots => "snapshots",
        }
    }

    fn amount(self, count: u64) -> String {
        match self {
            Self::Bytes => bytes(count),
            Self::Records | Self::Snapshots => format!("{count} {}", self.name()),
        }
    }
}

/// One part of the work.
#[derive(Debug, Clone, Copy)]
struct Part {
    name: &'static str,
    unit: Unit,
    start: Instant,
    /// What is to be done, if it is known.
    total: Option<u64>,
}

/// What the work has done; it is told from any thread.
#[derive(Debug)]
pub(crate) struct Counters {
    start: Instant,
    part: Mutex<Part>,
    done: Arc<AtomicU64>,
    entries: AtomicU64,
    /// Bytes of the entries that are done, and about how many there will be; 0 if nobody knows.
    passed: AtomicU64,
    expected: AtomicU64,
    errors: AtomicU64,
    current: Mutex<String>,
    is_watched: AtomicBool,
}

impl Counters {
    fn new(name: &'static str, unit: Unit, total: Option<u64>) -> Self {
        let start = Instant::now();
        Self {
            start,
            part: Mutex::new(Part { name, unit, start, total }),
            done: Arc::default(),
            entries: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            current: Mutex::new(String::new()),
            is_watched: AtomicBool::new(false),
        }
    }

    /// A new part of the work begins.
    pub(crate) fn begin(&self, name: &'static str, unit: Unit, total: Option<u64>) {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        *part = Part { name, unit, start: Instant::now(), total };
        self.done.store(0, Ordering::Relaxed);
    }

    /// So much more of the part is done.
    pub(crate) fn advance(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }

    /// So much of the part is done in all.
    pub(crate) fn set(&self, amount: u64) {
        self.done.store(amount, Ordering::Relaxed);
    }

    /// One more entry is done, or being worked on.
    pub(crate) fn entry(&self, path: &[u8]) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        if self.is_watched.load(Ordering::Relaxed) {
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = display_path(path);
        }
    }

    /// About so many bytes are in all entries together.
    pub(crate) fn expect(&self, amount: u64) {
        self.expected.store(amount, Ordering::Relaxed);
    }

    /// An entry of so many bytes is done, whether or not it had to be read.
    pub(crate) fn pass(&self, amount: u64) {
        self.passed.fetch_add(amount, Ordering::Relaxed);
    }

    /// Something went wrong with an entry.
    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    fn look(&self) -> State {
        let part = *self.part.lock().unwrap_or_else(PoisonError::into_inner);
        State {
            part,
            done: self.done.load(Ordering::Relaxed),
            elapsed: self.start.elapsed(),
            part_elapsed: part.start.elapsed(),
            entries: self.entries.load(Ordering::Relaxed),
            passed: self.passed.load(Ordering::Relaxed),
            expected: self.expected.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            current: self.current.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl coffer_verify::Progress for Counters {
    fn begin(&self, stage: Stage, total: u64) {
        let (name, unit) = match stage {
            Stage::Log => ("log", Unit::Records),
            Stage::Index => ("index", Unit::Bytes),
            Stage::Packs => ("packs", Unit::Bytes),
            Stage::Trees => ("trees", Unit::Snapshots),
        };
        Self::begin(self, name, unit, Some(total));
    }

    fn advance(&self, _stage: Stage, amount: u64) {
        Self::advance(self, amount);
    }
}

/// The counters at one moment.
#[derive(Debug)]
struct State {
    part: Part,
    done: u64,
    elapsed: Duration,
    part_elapsed: Duration,
    entries: u64,
    passed: u64,
    expected: u64,
    errors: u64,
    current: String,
}

impl State {
    /// How much is done in one second.
    fn rate(&self) -> f64 {
        let seconds = self.part_elapsed.as_secs_f64();
        if seconds > 0.0 { self.done as f64 / seconds } else { 0.0 }
    }

    /// Seconds until the part is done, if that can be told.
    fn remaining(&self) -> Option<f64> {
        let Some(total) = self.part.total else { return self.estimated() };
        let left = total.saturating_sub(self.done);
        let rate = self.rate();
        (rate > 0.0).then(|| left as f64 / rate)
    }

    /// As [`Self::remaining`], from what is expected, as long as that has not been passed.
    fn estimated(&self) -> Option<f64> {
        let is_telling = self.passed > 0 && self.passed < self.expected;
        is_telling.then(|| self.elapsed.as_secs_f64() * (self.expected as f64 / self.passed as f64 - 1.0))
    }

    fn to_json(&self, command: &str, requests: &RequestCounts) -> serde_json::Value {
        let tenths = |seconds: f64| (seconds * 10.0).round() / 10.0;
        json!({
            "message_type": "status", "command": command, "stage": self.part.name,
            "seconds": tenths(self.elapsed.as_secs_f64()), "seconds_remaining": self.remaining().map(tenths),
            "unit": self.part.unit.name(), "done": self.done, "total": self.part.total, "rate": tenths(self.rate()),
            "entries": self.entries, "error_count": self.errors, "stored_bytes": requests.create_bytes,
            "current": (!self.current.is_empty()).then_some(&self.current),
        })
    }

    fn to_text(&self, requests: &RequestCounts) -> String {
        let mut parts = vec![clock(self.elapsed.as_secs())];
        let unit = self.part.unit;
        parts.push(match self.part.total {
            Some(total) if unit == Unit::Bytes => {
                format!("{} {} of {}", self.part.name, bytes(self.done), bytes(total))
            }
            Some(total) => format!("{} {} of {total} {}", self.part.name, self.done, unit.name()),
            None => format!("{} {}", unit.amount(self.done), self.part.name),
        });
        if unit == Unit::Bytes {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate to be read by people"
            )]
            parts.push(format!("{}/s", bytes(self.rate() as u64)));
        }
        if let Some(seconds) = self.remaining() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a time to be read by people"
            )]
            parts.push(format!("ETA {}", clock(seconds.ceil() as u64)));
        }
        if self.entries > 0 {
            parts.push(format!("{} entries", self.entries));
        }
        if requests.create_bytes > 0 {
            parts.push(format!("{} stored", bytes(requests.create_bytes)));
        }
        if self.errors > 0 {
            parts.push(format!("{} error(s)", self.errors));
        }
        parts.join("  ")
    }
}

/// Shows the counters of a command until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    counters: Arc<Counters>,
    shower: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins to show the work of `command`. Its first part is called `name`; `requests` tells what its store was asked.
    pub(crate) fn start(
        output: Output,
        command: &'static str,
        (name, unit, total): (&'static str, Unit, Option<u64>),
        requests: RequestCounter,
    ) -> Self {
        let counters = Arc::new(Counters::new(name, unit, total));
        let view = match (output.quiet, output.json) {
            (true, _) => None,
            (false, true) => Some(View::Messages),
            (false, false) => std::io::stderr().is_terminal().then(View::line),
        };
        let shower = view.map(|view| {
            counters.is_watched.store(true, Ordering::Relaxed);
            let (end, ended) = channel();
            let counters = Arc::clone(&counters);
            let show = move || {
                while ended.recv_timeout(view.interval()) == Err(RecvTimeoutError::Timeout) {
                    view.show(command, &counters.look(), &requests.counts());
                }
                view.end();
            };
            (end, std::thread::spawn(show))
        });
        Self { counters, shower }
    }

    /// What the work may add to in place of [`Counters::advance`].
    pub(crate) fn done(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counters.done)
    }

    /// What the work adds to.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, shower)) = self.shower.take() {
            drop(end);
            // It only draws; whatever became of it, the work is done.
            drop(shower.join());
        }
    }
}

/// Where progress is shown.
enum View {
    /// A line on the terminal.
    Line(ProgressBar),
    /// `status` messages on standard output.
    Messages,
}

impl View {
    /// Nothing is drawn, not even around other messages, before there is something to show.
    fn line() -> Self {
        Self::Line(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()))
    }

    const fn interval(&self) -> Duration {
        match self {
            Self::Line(_) => DRAW_INTERVAL,
            Self::Messages => STATUS_INTERVAL,
        }
    }

    fn show(&self, command: &str, state: &State, requests: &RequestCounts) {
        match self {
            // A reader who went away is met by what ends the command.
            Self::Messages => drop(output::line(&state.to_json(command, requests).to_string())),
            Self::Line(bar) => {
                let template = match state.part.total {
                    Some(_) => "{bar:12} {percent:>3}%  {wide_msg}",
                    None => "{spinner} {wide_msg}",
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                if let Some(total) = state.part.total {
                    bar.set_length(total);
                    bar.set_position(state.done.min(total));
                }
                bar.set_message(format!("{}  {}", state.to_text(requests), state.current));
                bar.tick();
                SHOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| bar.clone());
            }
        }
    }

    fn end(&self) {
        if let Self::Line(bar) = self {
            bar.finish_and_clear();
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

fn clock(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    if hours > 0 {
        format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60)
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(unit: Unit, done: u64, total: Option<u64>, seconds: u64) -> State {
        let part = Part { name: "packs", unit, start: Instant::now(), total };
        let elapsed = Duration::from_secs(seconds);
        State {
            part,
            done,
            elapsed,
            part_elapsed: elapsed,
            entries: 3,
            passed: 0,
            expected: 0,
            errors: 0,
            current: "a/b".to_owned(),
        }
    }

    #[test]
    fn rate_and_remaining_time_follow_from_what_is_done() {
        let halfway = state(Unit::Bytes, 50 << 20, Some(100 << 20), 10);
        assert_eq!(halfway.remaining(), Some(10.0));
        let text = halfway.to_text(&RequestCounts::default());
        assert_eq!(text, "0:10  packs 50.0 MiB of 100.0 MiB  5.0 MiB/s  ETA 0:10  3 entries");
        assert_eq!(state(Unit::Bytes, 5, None, 10).remaining(), None);
        assert_eq!(state(Unit::Bytes, 0, Some(5), 10).remaining(), None);
        assert_eq!(state(Unit::Bytes, 9, Some(5), 1).remaining(), Some(0.0));
    }

    #[test]
    fn a_backup_estimates_from_what_the_last_snapshot_held() {
        let at = |passed, expected| State { passed, expected, ..state(Unit::Bytes, 5, None, 10) };
        assert_eq!(at(25, 100).remaining(), Some(30.0));
        assert!(at(25, 100).to_text(&RequestCounts::default()).contains("ETA 0:30"));
        for (passed, expected) in [(0, 100), (100, 100), (101, 100), (5, 0)] {
            assert_eq!(
                at(passed, expected).remaining(),
                None,
                "nothing can be told of {passed} of {expected}"
            );
        }
    }

    #[test]
    fn what_is_not_counted_in_bytes_has_no_byte_rate() {
        let text = state(Unit::Snapshots, 1, Some(4), 3700).to_text(&RequestCounts::default());
        assert_eq!(text, "1:01:40  packs 1 of 4 snapshots  ETA 3:05:00  3 entries");
    }

    #[test]
    fn a_new_part_begins_at_nothing() {
        let counters = Counters::new("files", Unit::Bytes, None);
        counters.advance(5);
        counters.begin("packs", Unit::Bytes, Some(7));
        counters.advance(2);
        let state = counters.look();
        assert_eq!((state.part.name, state.done, state.part.total), ("packs", 2, Some(7)));
        let json = state.to_json("verify", &RequestCounts::default());
        assert_eq!(
            (&json["stage"], &json["done"], &json["current"]),
            (&"packs".into(), &2.into(), &().into())
        );
    }
}
