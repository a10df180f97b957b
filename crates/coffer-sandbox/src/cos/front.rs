//! Takes requests in, gives answers out: bearer tokens, switched failures, IBM's headers and error bodies. What lies between is `s3s`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, EXPECT, RETRY_AFTER, SERVER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, S3Error};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::access::Gate;
use super::checksums;
use super::chunked::Unchunked;
use super::extensions::Extra;
use super::service::Service;
use super::text::{escaped, http_date};
use super::unread::Shared;
use crate::clock::machine_now_ms;
use crate::random;
use crate::region::Region;
use crate::switches::{ChecksumMode, TokenRefusal};

/// How far the clock of a client may be off, in seconds.
const SKEW_MAX_S: i64 = 900;
/// No error body is longer.
const ERROR_LEN_MAX: usize = 64 * 1024;

/// The endpoint of one location.
#[derive(Clone)]
pub(crate) struct Front {
    region: Arc<Region>,
    s3: S3Service,
}

/// The status of an answer, where it is not the usual one of its operation. (`s3s` leaves the status of its own response type out.)
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerStatus(pub(super) StatusCode);

/// An answer before the S3 protocol comes in.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

impl Front {
    pub(crate) fn new(region: &Arc<Region>, location: &str) -> Self {
        let service = Service { region: Arc::clone(region), location: location.to_owned() };
        let gate = || Gate { region: Arc::clone(region) };
        let mut builder = S3ServiceBuilder::new(service.clone());
        let mut config = S3Config::default();
        config.presigned_url_max_skew_time_secs = u32::try_from(SKEW_MAX_S).unwrap_or(u32::MAX);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(gate());
        builder.set_access(gate());
        builder.set_route(Extra { service, gate: Arc::new(gate()) });
        Self { region: Arc::clone(region), s3: builder.build() }
    }

    /// Answers a request.
    pub(crate) async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, HttpError> {
        let resource = request.uri().path().to_owned();
        let is_head = request.method() == http::Method::HEAD;
        // Who waits to be told to go on has not sent a body.
        let is_sent = !request.headers().contains_key(EXPECT);
        let request = request.map(Shared::new);
        let body = request.body().clone();
        let mut response = match self.take_in(request) {
            Ok(request) => self.s3.call(request).await?,
            Err(refusal) => self.refuse(&refusal),
        };
        if response.status().as_u16() >= 400 && is_sent {
            body.drain().await;
        }
        if let Some(AnswerStatus(status)) = response.extensions().get().copied() {
            *response.status_mut() = status;
        }
        let id = random::uuid();
        if response.status().as_u16() >= 400 && !is_head {
            response = with_details(response, &resource, &id).await;
        }
        let headers = response.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static("Cleversafe/3.15.9.67"));
        headers.insert("x-clv-s3-version", HeaderValue::from_static("2.5"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert("x-clv-request-id", id.clone());
            headers.insert("x-amz-request-id", id);
        }
        // Else the server below tells the time of the machine.
        if let Some(date) = self.skewed_date() {
            headers.insert(DATE, date);
        }
        Ok(response)
    }

    fn take_in(&self, request: Request<Shared>) -> Result<Request<Body>, Refusal> {
        if self.region.take_slow_down() {
            return Err(Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "SlowDown",
                message: "Please reduce your request rate.",
            });
        }
        self.check_skew(request.headers())?;
        if request.headers().contains_key("x-amz-server-side-encryption-customer-algorithm") {
            return Err(Refusal {
                status: StatusCode::NOT_IMPLEMENTED,
                code: "NotImplemented",
                message: "the sandbox does not encrypt with keys of its clients",
            });
        }
        self.check_form(request.headers())?;
        let (mut head, body) = request.into_parts();
        let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = authorization.and_then(|value| {
            let (kind, token) = value.split_once(' ')?;
            kind.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        let Some(token) = bearer else {
            return Ok(Request::from_parts(head, Body::http_body_unsync(body)));
        };
        let now_ms = self.region.clock().now_ms();
        match self.region.iam().bearer(self.region.records(), &token, now_ms) {
            Ok(Some(caller)) => drop(head.extensions.insert(caller)),
            Ok(None) => return Err(self.bad_token()),
            Err(_) => {
                return Err(Refusal {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    code: "InternalError",
                    message: "the sandbox cannot read its records",
                });
            }
        }
        head.headers.remove(AUTHORIZATION);
        if !is_chunked(&head.headers) {
            return Ok(Request::from_parts(head, Body::http_body_unsync(body)));
        }
        match head.headers.remove("x-amz-decoded-content-length") {
            Some(len) => drop(head.headers.insert(CONTENT_LENGTH, len)),
            None => drop(head.headers.remove(CONTENT_LENGTH)),
        }
        let (body, trailers) = Unchunked::new(body);
        head.extensions.insert(trailers);
        Ok(Request::from_parts(head, Body::http_body_unsync(body)))
    }

    /// Refuses writes in the forms that are switched off.
    fn check_form(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let switches = self.region.switches();
        let is_off = (switches.is_chunked_rejected && is_chunked(headers))
            || (switches.checksum_mode == ChecksumMode::Rejected && checksums::is_named(headers));
        if !is_off {
            return Ok(());
        }
        Err(Refusal {
            status: StatusCode::NOT_IMPLEMENTED,
            code: "NotImplemented",
            message: "A header you provided implies functionality that is not implemented.",
        })
    }

    fn bad_token(&self) -> Refusal {
        let status = match self.region.switches().token_refusal {
            TokenRefusal::Unauthorized => StatusCode::UNAUTHORIZED,
            TokenRefusal::Forbidden => StatusCode::FORBIDDEN,
        };
        Refusal { status, code: "AccessDenied", message: "Access Denied" }
    }

    /// Compares the time of a signed request with the clock that is switched to be off. (Without the switch `s3s` compares it.)
    fn check_skew(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let skew_s = self.region.switches().signature_skew_s;
        let header = headers.get("x-amz-date").and_then(|value| value.to_str().ok());
        let Some(text) = header.filter(|_| skew_s != 0) else { return Ok(()) };
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let Ok(signed_at) = PrimitiveDateTime::parse(text, format) else { return Ok(()) };
        let signed_s = OffsetDateTime::unix_timestamp(signed_at.assume_utc());
        let now_s = i64::try_from(machine_now_ms() / 1000).unwrap_or(i64::MAX).saturating_add(skew_s);
        if (now_s - signed_s).abs() <= SKEW_MAX_S {
            return Ok(());
        }
        Err(Refusal {
            status: StatusCode::FORBIDDEN,
            code: "RequestTimeTooSkewed",
            message: "The difference between the request time and the server's time is too large.",
        })
    }

    /// The time by the clock that is switched to be off.
    fn skewed_date(&self) -> Option<HeaderValue> {
        let skew_ms = self.region.switches().signature_skew_s.saturating_mul(1000);
        let now_ms = machine_now_ms().saturating_add_signed(skew_ms);
        HeaderValue::from_str(&http_date(now_ms)).ok().filter(|_| skew_ms != 0)
    }

    fn refuse(&self, refusal: &Refusal) -> Response<Body> {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{}</Code><Message>{}</Message></Error>",
            refusal.code,
            escaped(refusal.message)
        );
        let mut response = Response::new(Body::from(Bytes::from(text)));
        *response.status_mut() = refusal.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE
            && let Some(seconds) = self.region.switches().retry_after_s
        {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Whether a body comes in chunks with their lengths.
fn is_chunked(headers: &HeaderMap) -> bool {
    let is = |name: &str, what: &dyn Fn(&str) -> bool| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(what)
    };
    is("x-amz-content-sha256", &|sum| sum.starts_with("STREAMING-"))
        || is("content-encoding", &|encodings| encodings.split(',').any(|one| one.trim() == "aws-chunked"))
}

/// IBM's error bodies also say what was asked for, the request id and the status.
async fn with_details(response: Response<Body>, resource: &str, id: &str) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = Limited::new(body, ERROR_LEN_MAX).collect().await else {
        return Response::from_parts(head, Body::empty());
    };
    let text = String::from_utf8_lossy(&bytes.to_bytes()).into_owned();
    let details = format!(
        "<Resource>{}</Resource><RequestId>{id}</RequestId><httpStatusCode>{}</httpStatusCode></Error>",
        escaped(resource),
        head.status.as_u16()
    );
    let text = text.replacen("</Error>", &details, 1);
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Body::from(Bytes::from(text)))
}

/// What a failure inside of the sandbox says.
pub(crate) fn what(error: &S3Error) -> String {
    let message = error.message().unwrap_or_default();
    format!("{}: {message}", error.code().as_str())
}
