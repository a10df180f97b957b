//! How far the clock of this machine is from that of the store, as the `Date` of its answers tells.
//!
//! A store looks at the clock of a client where a request is signed, and nowhere else: with a token nobody does. But the end of a
//! lock is reckoned by the clock of this machine, so that one is refused here while the clocks are too far apart. Nothing is
//! corrected: which of the two is right is for the operator to find out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use super::{RequestFailure, S3Store};
use crate::{ClockAhead, StoreError};

/// In place of a difference, as long as no answer told a time.
const UNKNOWN: i64 = i64::MIN;

/// What the answers of a store told of its clock: the last one counts.
#[derive(Debug, Clone)]
pub(super) struct StoreClock {
    ahead_s: Arc<AtomicI64>,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self { ahead_s: Arc::new(AtomicI64::new(UNKNOWN)) }
    }
}

impl StoreClock {
    /// Compares the time of an answer with that at which it came here.
    pub(super) fn learn(&self, headers: &Headers, now: SystemTime) {
        let date = headers.get("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let since = now.duration_since(UNIX_EPOCH).ok();
        let now_s = since.and_then(|since| i64::try_from(since.as_secs()).ok());
        if let (Some(date), Some(now_s)) = (date, now_s) {
            self.ahead_s.store(now_s.saturating_sub(date.secs()), Ordering::Relaxed);
        }
    }

    pub(super) fn ahead(&self) -> Option<ClockAhead> {
        let ahead_s = self.ahead_s.load(Ordering::Relaxed);
        (ahead_s != UNKNOWN).then_some(ClockAhead(ahead_s))
    }
}

impl Intercept for StoreClock {
    fn name(&self) -> &'static str {
        "StoreClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(time) = components.time_source() {
            self.learn(context.response().headers(), time.now());
        }
        Ok(())
    }
}

impl S3Store {
    /// Whether a lock may be reckoned by the clock of this machine.
    pub(super) fn check_clock(&self) -> Result<(), StoreError> {
        match self.sides.clock().ahead().filter(|ahead| ahead.is_too_far()) {
            None => Ok(()),
            Some(ahead) => {
                let message = format!("{ahead}, and a lock would end as much too late or too early");
                let failure = RequestFailure { message, ..RequestFailure::default() };
                Err(StoreError::ClockSkew { store: self.whom().store.clone(), source: failure.into() })
            }
        }
    }
}
