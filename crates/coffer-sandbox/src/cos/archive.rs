//! Archive classes: objects that must be asked back before they can be read.

use http::HeaderMap;
use s3s::dto::{RestoreObjectInput, RestoreObjectOutput, StorageClass, Tier, TransitionStorageClass};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::front::AnswerStatus;
use super::model::{Archive, Bucket, Restored, Version};
use super::service::Service;
use super::store::Change;
use super::text::{http_date, invalid, refuse};
use crate::clock::{DAY_MS, Millis, SECOND_MS};

/// The class that is called Accelerated Archive.
const ACCELERATED: &str = "ACCELERATED";

/// How long a restore takes.
const GLACIER_DELAY_S: u64 = 12 * 3600;
const ACCELERATED_DELAY_S: u64 = 2 * 3600;

/// Where an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is not in an archive class.
    Live,
    Archived,
    Restoring,
    /// A copy can be read until then.
    Restored {
        until_ms: Millis,
    },
}

pub(super) fn state(version: &Version, now_ms: Millis) -> State {
    match &version.archive {
        Some(archive) if archive.from_ms <= now_ms => match archive.restored {
            Some(copy) if copy.ready_ms > now_ms => State::Restoring,
            Some(copy) if copy.until_ms > now_ms => State::Restored { until_ms: copy.until_ms },
            _ => State::Archived,
        },
        _ => State::Live,
    }
}

/// Refuses to read an object that is in an archive class and was not asked back.
pub(super) fn check_readable(version: &Version, now_ms: Millis) -> S3Result<()> {
    match state(version, now_ms) {
        State::Live | State::Restored { .. } => Ok(()),
        State::Archived | State::Restoring => Err(refuse(
            S3ErrorCode::InvalidObjectState,
            "The operation is not valid for the object's storage class",
        )),
    }
}

/// Whether a class keeps its objects away.
pub(super) fn is_archive(class: &str) -> bool {
    class == StorageClass::GLACIER || class == ACCELERATED
}

/// When a new object goes into an archive class: at once if it was written into one, else as the bucket says.
pub(super) fn of_new(bucket: &Bucket, class: Option<&str>, now_ms: Millis) -> Option<Archive> {
    let at_once = class.filter(|class| is_archive(class)).map(|class| (0, class.to_owned()));
    let by_rule = || {
        let mut rules = bucket.lifecycle.iter().filter(|rule| rule.is_enabled);
        rules.find_map(|rule| rule.transition.clone())
    };
    let (days, class) = at_once.or_else(by_rule)?;
    Some(Archive { class, from_ms: now_ms + u64::from(days) * DAY_MS, restored: None })
}

/// The storage class, as heads and lists show it.
pub(super) fn class(version: &Version, now_ms: Millis) -> Option<&str> {
    let archive = version.archive.as_ref()?;
    (archive.from_ms <= now_ms).then_some(&*archive.class)
}

/// The header that says how a restore stands.
pub(super) fn restore_header(version: &Version, now_ms: Millis) -> Option<String> {
    match state(version, now_ms) {
        State::Restoring => Some("ongoing-request=\"true\"".to_owned()),
        State::Restored { until_ms } => {
            Some(format!("ongoing-request=\"false\", expiry-date=\"{}\"", http_date(until_ms)))
        }
        State::Live | State::Archived => None,
    }
}

/// IBM's headers about archiving.
pub(super) fn add_headers(version: &Version, now_ms: Millis, headers: &mut HeaderMap) {
    let Some(archive) = &version.archive else { return };
    let mut add = |name: &'static str, value: String| {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    };
    let kind = if archive.class == ACCELERATED { "ACCELERATED" } else { "ARCHIVE" };
    if archive.from_ms > now_ms {
        add("x-ibm-transition", format!("transition={kind}, date={}", http_date(archive.from_ms)));
    } else {
        add("x-ibm-archive-transition-time", http_date(archive.from_ms));
    }
    if let State::Restored { .. } = state(version, now_ms) {
        add("x-ibm-restored-copy-storage-class", "Standard".to_owned());
    }
}

/// The class of a transition, if it is one that there is.
pub(super) fn transition_class(class: Option<&TransitionStorageClass>) -> S3Result<String> {
    match class.map(TransitionStorageClass::as_str) {
        Some(class) if is_archive(class) => Ok(class.to_owned()),
        _ => invalid("a transition goes to GLACIER or ACCELERATED"),
    }
}

impl Service {
    pub(super) async fn restore_object(
        &self,
        request: S3Request<RestoreObjectInput>,
    ) -> S3Result<S3Response<RestoreObjectOutput>> {
        let input = request.input;
        self.open_bucket(&input.bucket)?;
        let asked = input.restore_request.unwrap_or_default();
        let days = asked.days.and_then(|days| u64::try_from(days).ok()).filter(|days| *days > 0);
        let Some(days) = days else { return invalid("Days is at least 1") };
        let tier = asked.glacier_job_parameters.map(|parameters| parameters.tier).or(asked.tier);
        let tier = tier.as_ref().map_or(Tier::BULK, Tier::as_str);
        let now_ms = self.region.clock().now_ms();
        let set_delay_s = self.region.switches().restore_delay_s;
        let mut was_restored = false;
        let mut change = Change::begin(self.region.records(), &input.bucket, now_ms)?;
        change.update(&input.key, input.version_id.as_deref(), |_, version| {
            let state = state(version, now_ms);
            let Some(archive) = &mut version.archive else {
                return Err(refuse(S3ErrorCode::InvalidObjectState, "the object is not archived"));
            };
            let is_fast = archive.class == ACCELERATED || tier == "Accelerated";
            let usual_s = if is_fast { ACCELERATED_DELAY_S } else { GLACIER_DELAY_S };
            let ready_ms = match state {
                State::Live => {
                    return Err(refuse(S3ErrorCode::InvalidObjectState, "the object is not archived"));
                }
                State::Restoring => {
                    return Err(refuse(
                        S3ErrorCode::RestoreAlreadyInProgress,
                        "Object restore is already in progress",
                    ));
                }
                // Asking again moves the end of the copy.
                State::Restored { .. } => {
                    was_restored = true;
                    now_ms
                }
                State::Archived => now_ms + set_delay_s.unwrap_or(usual_s) * SECOND_MS,
            };
            archive.restored = Some(Restored { ready_ms, until_ms: ready_ms + days * DAY_MS });
            Ok(())
        })?;
        change.commit()?;
        let mut response = S3Response::new(RestoreObjectOutput::default());
        if !was_restored {
            response.extensions.insert(AnswerStatus(http::StatusCode::ACCEPTED));
        }
        Ok(response)
    }
}
