//! What a failed request means for the caller.
//!
//! The words of a store are kept as the cause, cut to a bounded length; what they mean is decided here alone.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::bearer::TokenError;
use super::transport::{Endless, Stalled};
use crate::{Cause, CredentialFault, StoreError};

/// Longest text of a store that is repeated, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// That a checksum is not that of what arrived, in the words of one store or another. What is sent once more may arrive whole.
pub(super) const MISMATCHES: [&str; 4] =
    ["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"];

/// What a store or the way to it said about a failed request.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RequestFailure {
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// The store's word for it, as `SlowDown`.
    pub code: Option<String>,
    /// What the store, or the connection, said; may be empty.
    pub message: String,
    /// The store's id of the request, for its support.
    pub request_id: Option<String>,
    /// How long the store asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (self.status, &self.code) {
            (Some(status), Some(code)) => parts.push(format!("{code} (status {status})")),
            (Some(status), None) => parts.push(format!("status {status}")),
            (None, Some(code)) => parts.push(code.clone()),
            (None, None) => {}
        }
        if !self.message.is_empty() {
            parts.push(self.message.clone());
        }
        f.write_str(&parts.join(": "))?;
        match &self.request_id {
            Some(id) => write!(f, " [request {id}]"),
            None => Ok(()),
        }
    }
}

impl Error for RequestFailure {}

/// Whom a request was made to, for messages.
#[derive(Debug, Clone)]
pub(super) struct Whom {
    pub(super) store: String,
    pub(super) bucket: String,
    pub(super) endpoint: String,
    /// The region that was asked.
    pub(super) region: String,
}

impl Whom {
    /// Sorts a failure of the SDK. `has_answered` tells whether the endpoint ever answered.
    pub(super) fn sdk<E>(
        &self,
        name: &str,
        error: SdkError<E, HttpResponse>,
        has_answered: bool,
    ) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        if let Some(endless) = find::<Endless>(&error) {
            let failure = RequestFailure { message: endless.to_string(), ..RequestFailure::default() };
            return self.rejected(name, failure);
        }
        match error {
            SdkError::ServiceError(error) => {
                let meta = error.err().meta();
                self.answer(name, Answer::of(error.raw(), meta.code(), meta.message()))
            }
            SdkError::ResponseError(error) => {
                let answer = Answer::of(error.raw(), None, None);
                match error.into_raw().status().as_u16() {
                    // The body broke off, or is none of S3.
                    200..300 if answer.is_xml => self.unavailable(
                        name,
                        RequestFailure { message: "the answer broke off".to_owned(), ..answer.failure },
                    ),
                    _ => self.answer(name, answer),
                }
            }
            error => {
                let mut source: Cause = error.into();
                // The outermost text says no more than that there was one.
                if let Some(inner) = source.source() {
                    let failure = RequestFailure { message: chain(inner), ..RequestFailure::default() };
                    return self.connection(name, inner, failure, has_answered);
                }
                source = RequestFailure { message: source.to_string(), ..RequestFailure::default() }.into();
                StoreError::Io { name: name.to_owned(), store: self.store.clone(), source }
            }
        }
    }

    /// Sorts an error that came before or instead of an answer, or broke one off.
    pub(super) fn connection(
        &self,
        name: &str,
        error: &(dyn Error + 'static),
        failure: RequestFailure,
        has_answered: bool,
    ) -> StoreError {
        let store = self.store.clone();
        let endpoint = self.endpoint.clone();
        if let Some(token) = find::<TokenError>(error) {
            return match token {
                TokenError::Refused { source } => StoreError::CredentialsRefused {
                    store,
                    reason: CredentialFault::IdentityRefused,
                    source: RequestFailure { message: chain(&**source), ..failure }.into(),
                },
                TokenError::Failed { endpoint, fault, source } => StoreError::NoToken {
                    store,
                    endpoint: endpoint.clone(),
                    fault: *fault,
                    source: RequestFailure { message: chain(&**source), ..failure }.into(),
                },
                TokenError::Unproven { source } => StoreError::Unproven {
                    store,
                    source: RequestFailure { message: chain(&**source), ..failure }.into(),
                },
            };
        }
        if find::<Stalled>(error).is_some() {
            return self.unavailable(name, failure);
        }
        if find::<Endless>(error).is_some() {
            return self.rejected(name, failure);
        }
        if let Some(tls) = find::<rustls::Error>(error)
            && is_final(tls)
        {
            return StoreError::Tls { store, endpoint, source: failure.into() };
        }
        let is_connect = failure.message.contains("(Connect)") || failure.message.contains("connect timeout");
        if is_connect || find::<io::Error>(error).is_some_and(is_refusal) {
            return StoreError::Unreachable { store, endpoint, has_answered, source: failure.into() };
        }
        self.unavailable(name, failure)
    }

    /// Sorts what the store said.
    pub(super) fn answer(&self, name: &str, answer: Answer) -> StoreError {
        let Answer { failure, region, content_type, is_xml, is_hidden } = answer;
        let (name, store, bucket) = (name.to_owned(), self.store.clone(), self.bucket.clone());
        let refused = |reason, store, failure: RequestFailure| StoreError::CredentialsRefused {
            store,
            reason,
            source: failure.into(),
        };
        let status = failure.status.unwrap_or_default();
        match failure.code.as_deref().unwrap_or_default() {
            "NoSuchBucket" => return StoreError::NoBucket { bucket, store, source: failure.into() },
            _ if status == 404 && is_hidden => return StoreError::Hidden { name, store },
            "NoSuchKey" | "NoSuchVersion" | "NotFound" if status == 404 && is_xml => {
                return StoreError::NotFound { name, store };
            }
            "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => {
                return StoreError::WrongRegion { bucket, store, region, source: failure.into() };
            }
            "AuthorizationHeaderMalformed" => {
                let region = region.or_else(|| expected_region(&failure.message));
                return StoreError::WrongRegion { bucket, store, region, source: failure.into() };
            }
            // An answer without a body says no more than that.
            _ if status == 400 && region.as_ref().is_some_and(|region| *region != self.region) => {
                return StoreError::WrongRegion { bucket, store, region, source: failure.into() };
            }
            "RequestTimeTooSkewed" | "RequestExpired" => {
                return StoreError::ClockSkew { store, source: failure.into() };
            }
            "ExpiredToken" | "TokenRefreshRequired" => {
                return refused(CredentialFault::Expired, store, failure);
            }
            "InvalidAccessKeyId" | "InvalidToken" | "NotSignedUp" => {
                return refused(CredentialFault::UnknownKey, store, failure);
            }
            "SignatureDoesNotMatch" => return refused(CredentialFault::WrongSecret, store, failure),
            "InvalidObjectState" => return StoreError::Archived { name, store, source: failure.into() },
            "QuotaExceeded" | "EntityTooLarge" | "XMinioStorageFull" => {
                return StoreError::NoSpace { name, store, source: failure.into() };
            }
            "SlowDown"
            | "RequestTimeout"
            | "InternalError"
            | "ServiceUnavailable"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "ConditionalRequestConflict"
            | "OperationAborted"
            | "IncompleteBody"
            | "NoSuchUpload" => {
                return self.unavailable(&name, failure);
            }
            code if MISMATCHES.contains(&code) => return self.unavailable(&name, failure),
            _ => {}
        }
        match status {
            408 | 425 | 429 | 500 | 502..=504 => self.unavailable(&name, failure),
            // Something between here and the store, or something else altogether.
            200..=499 if !is_xml && failure.code.as_deref().is_none_or(|code| code == "NotFound") => {
                StoreError::NotS3 {
                    store,
                    endpoint: self.endpoint.clone(),
                    found: format!("status {status} with {content_type}"),
                }
            }
            301 | 307 | 308 => StoreError::WrongRegion { bucket, store, region, source: failure.into() },
            401 => refused(CredentialFault::TokenRefused, store, failure),
            403 => StoreError::Denied { name, store, source: failure.into() },
            404 => StoreError::NotFound { name, store },
            501 => StoreError::Unsupported { store, what: "the call that this needs" },
            _ => StoreError::Rejected { name, store, source: failure.into() },
        }
    }

    fn rejected(&self, name: &str, failure: RequestFailure) -> StoreError {
        StoreError::Rejected { name: name.to_owned(), store: self.store.clone(), source: failure.into() }
    }

    pub(super) fn unavailable(&self, name: &str, failure: RequestFailure) -> StoreError {
        StoreError::Unavailable { name: name.to_owned(), store: self.store.clone(), source: failure.into() }
    }
}

/// What of an answer tells what it means.
pub(super) struct Answer {
    pub(super) failure: RequestFailure,
    region: Option<String>,
    content_type: String,
    /// Whether it is XML, or says nothing of its type.
    is_xml: bool,
    /// Whether a delete marker stands where the object was.
    is_hidden: bool,
}

impl Answer {
    fn of(raw: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Self {
        Self::new(raw.status().as_u16(), raw.headers(), code, message)
    }

    pub(super) fn new(status: u16, headers: &Headers, code: Option<&str>, message: Option<&str>) -> Self {
        let text = |name| headers.get(name).map(clean);
        let content_type = text("content-type").unwrap_or_default();
        Self {
            failure: RequestFailure {
                status: Some(status),
                code: code.map(clean),
                message: message.map(clean).unwrap_or_default(),
                request_id: text("x-amz-request-id").or_else(|| text("x-clv-request-id")),
                retry_after: retry_after(headers.get("retry-after"), headers.get("date")),
            },
            region: text("x-amz-bucket-region"),
            is_hidden: headers.get("x-amz-delete-marker") == Some("true"),
            is_xml: content_type.is_empty()
                || content_type.contains("xml")
                || headers.get("x-amz-request-id").is_some(),
            content_type,
        }
    }
}

/// How long `Retry-After` asks to wait: seconds, or a date, which is compared with that of the answer.
fn retry_after(value: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let value = value?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = |text| DateTime::from_str(text, Format::HttpDate).ok().map(|time| time.secs());
    let seconds = at(value)?.saturating_sub(at(date?)?);
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The region in "the region 'us-east-1' is wrong; expecting 'eu-central-1'".
fn expected_region(message: &str) -> Option<String> {
    let (_, after) = message.split_once("expecting '")?;
    let (region, _) = after.split_once('\'')?;
    Some(region.to_owned())
}

/// A foreign text, in bounds and in one line.
fn clean(text: &str) -> String {
    let line = |character: char| if character.is_control() { ' ' } else { character };
    text.trim().chars().take(MESSAGE_CHARS_MAX).map(line).collect()
}

/// An error with its causes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    clean(&text)
}

/// The first error of a kind among an error and its causes; one wrapped in an [`io::Error`] is not among its sources.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Whether a failure of TLS stays what it is; a broken connection does not.
const fn is_final(error: &rustls::Error) -> bool {
    use rustls::Error as Tls;
    matches!(
        error,
        Tls::InvalidCertificate(_)
            | Tls::InvalidCertRevocationList(_)
            | Tls::NoCertificatesPresented
            | Tls::UnsupportedNameType
            | Tls::PeerIncompatible(_)
            | Tls::AlertReceived(_)
            | Tls::InvalidMessage(_)
    )
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_ask_for_time() {
        let check = |value, date, expected: Option<u64>| {
            assert_eq!(retry_after(value, date), expected.map(Duration::from_secs), "{value:?} {date:?}");
        };
        check(None, None, None);
        check(Some("7"), None, Some(7));
        check(Some("soon"), None, None);
        let (early, late) = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:30 GMT");
        check(Some(late), Some(early), Some(30));
        check(Some(early), Some(late), Some(0));
        check(Some(late), None, None);
    }

    #[test]
    fn foreign_texts_are_bounded_and_in_one_line() {
        assert_eq!(clean(" a\nb\u{1b}[0m "), "a b [0m");
        assert_eq!(clean(&"x".repeat(10_000)).len(), MESSAGE_CHARS_MAX);
        let message = "the region 'us-east-1' is wrong; expecting 'eu-central-1'";
        assert_eq!(expected_region(message).as_deref(), Some("eu-central-1"));
        assert_eq!(expected_region("expecting 'eu"), None);
    }
}
