//! What the stores of a run were asked, counted by kind, and told once: in the result of a command, or after it on standard error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use coffer_store::{RequestCounter, RequestCounts};
use serde_json::{Value, json};

use crate::output::{self, Output, requests_json, requests_text};
use crate::stores::Store;

/// The counters of all stores of a run, and whether what they counted was told.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    counters: Mutex<Vec<RequestCounter>>,
    /// Whether one of the stores is a bucket, where requests cost time and money.
    has_bucket: AtomicBool,
    is_told: AtomicBool,
}

impl Requests {
    /// From now on, what this store is asked counts as well.
    pub(crate) fn watch(&self, store: &Store) {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).extend(store.counters().cloned());
        self.has_bucket.fetch_or(store.buckets().next().is_some(), Ordering::Relaxed);
    }

    /// What was asked so far; none if no store was opened.
    fn counts(&self) -> Option<RequestCounts> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = RequestCounts::default();
        counters.iter().for_each(|counter| sum.add(&counter.counts()));
        (!counters.is_empty()).then_some(sum)
    }

    /// For a result that people read.
    pub(crate) fn text(&self) -> String {
        self.is_told.store(true, Ordering::Relaxed);
        requests_text(&self.counts().unwrap_or_default())
    }

    /// For a result that machines read.
    pub(crate) fn json(&self) -> Value {
        self.is_told.store(true, Ordering::Relaxed);
        requests_json(&self.counts().unwrap_or_default())
    }

    /// At the end of a command: on standard error, to whoever wants to hear everything; and of a bucket, if the command was done and
    /// its result had no place for it.
    pub(crate) fn say(&self, output: Output, is_done: bool) {
        let is_due = is_done
            && !output.quiet
            && self.has_bucket.load(Ordering::Relaxed)
            && !self.is_told.load(Ordering::Relaxed);
        let Some(counts) = self.counts().filter(|_| is_due || output.very_verbose) else { return };
        if output.json {
            let value = json!({"message_type": "requests", "requests": requests_json(&counts)});
            output::message(&value.to_string());
        } else {
            output.note(&requests_text(&counts));
        }
    }
}
