//! What every request passes on its way to the wire: the limits on requests and bytes, the bearer token, and the watch
//! over transfers that stall.
//!
//! There is no limit on how long a transfer may take as long as bytes move. Nothing is sent twice here, but for one
//! case: a token that was refused is replaced by a fresh one, once.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::bearer::{BearerSource, BearerToken, TokenError};
use crate::RequestCounter;
use crate::counting::RequestKind;
use crate::limit::{AdaptiveLimit, Permit, RateLimit};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a body that may wait in buffers of the system when the last piece is handed on, and the slowest line over which
/// they are given the time to leave, in bytes per second.
const BUFFERED_LEN_MAX: u64 = 4 << 20;
const SLOWEST_RATE: u64 = 64 << 10;

/// Longest piece of a body that is handed on at once.
const PIECE_LEN_MAX: usize = 65_536;

/// Longest answer but an object: a page of versions with the longest names has some 5 MiB.
const ANSWER_LEN_MAX: u64 = 16 << 20;

/// Longest text of an error.
const ERROR_LEN_MAX: u64 = 1 << 20;

/// The connections of one store.
#[derive(Clone)]
pub(super) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    inner: SharedHttpConnector,
    bearer: Option<Arc<dyn BearerSource>>,
    requests: Arc<AdaptiveLimit>,
    upload: Option<Arc<RateLimit>>,
    download: Option<Arc<RateLimit>>,
    stall_timeout: Duration,
    has_answered: AtomicBool,
    counter: RequestCounter,
    /// The token that took the place of one that was refused.
    renewed: Mutex<Option<BearerToken>>,
}

/// A transfer in which no byte moved for a while.
#[derive(Debug, thiserror::Error)]
#[error("no byte came or went for {0:?}")]
pub(super) struct Stalled(Duration);

/// An answer that goes on and on.
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {0} bytes, which none of S3 is")]
pub(super) struct Endless(u64);

impl Transport {
    pub(super) fn new(
        inner: SharedHttpConnector,
        bearer: Option<Arc<dyn BearerSource>>,
        (upload, download): (Option<Arc<RateLimit>>, Option<Arc<RateLimit>>),
        stall_timeout: Duration,
        counter: RequestCounter,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                inner,
                bearer,
                requests: AdaptiveLimit::new(),
                upload,
                download,
                stall_timeout,
                has_answered: AtomicBool::new(false),
                counter,
                renewed: Mutex::new(None),
            }),
        }
    }

    /// Whether the other side ever gave an answer.
    pub(super) fn has_answered(&self) -> bool {
        self.shared.has_answered.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that went and came so far.
    pub(super) fn moved_bytes(&self) -> u64 {
        self.shared.counter.moved_bytes()
    }

    /// Makes one request and gives the answer, whose body still flows.
    pub(super) async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let permit = self.shared.requests.acquire().await;
        let Some(source) = &self.shared.bearer else {
            return self.send_once(request, permit).await;
        };
        let again = request.try_clone();
        let token = current(source).await?;
        authorize(&mut request, &token)?;
        let response = self.send_once(request, permit).await?;
        let Some(mut request) = again.filter(|_| self.may_be_stale(response.status().as_u16(), &token))
        else {
            return Ok(response);
        };
        // Its permit goes with it.
        drop(response);
        source.refused(&token);
        let token = current(source).await?;
        *self.shared.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        authorize(&mut request, &token)?;
        self.send_once(request, self.shared.requests.acquire().await).await
    }

    /// Whether a request may have been refused because its token is over: COS says 403 then, as it does where rights are missing. A token that was
    /// fetched because of such an answer is believed to be good.
    fn may_be_stale(&self, status: u16, token: &BearerToken) -> bool {
        let is_renewed = || {
            let renewed = self.shared.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            renewed.as_ref() == Some(token)
        };
        status == 401 || status == 403 && !is_renewed()
    }

    async fn send_once(
        &self,
        mut request: HttpRequest,
        mut permit: Permit,
    ) -> Result<HttpResponse, ConnectorError> {
        let shared = &self.shared;
        let progress = Arc::new(Progress::new());
        let buffered = request.body().content_length().unwrap_or(0).min(BUFFERED_LEN_MAX);
        let patience = shared.stall_timeout + Duration::from_secs(buffered / SLOWEST_RATE);
        let (_, query) = request.uri().split_once('?').unwrap_or_default();
        let kind = RequestKind::of_http(request.method(), query);
        let sent_len = request.body().content_length().unwrap_or(0);
        shared.counter.request(kind);
        if request.body().content_length() != Some(0) {
            let inner = request.take_body();
            *request.body_mut() = SdkBody::from_body_1_x(Outgoing {
                left: inner.content_length(),
                inner,
                rest: Bytes::new(),
                next: None,
                rate: shared.upload.clone(),
                progress: Arc::clone(&progress),
                counter: shared.counter.clone(),
            });
        }
        let mut call = pin!(shared.inner.call(request));
        let mut watch = Box::pin(sleep_until(Instant::now() + patience));
        let mut response = poll_fn(|context| {
            if let Poll::Ready(result) = call.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            while watch.as_mut().poll(context).is_ready() {
                let due = progress.last() + patience;
                if due <= Instant::now() {
                    let stalled = Stalled(patience);
                    return Poll::Ready(Err(ConnectorError::timeout(stalled.into())));
                }
                watch.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await?;
        shared.has_answered.store(true, Ordering::Relaxed);
        match response.status().as_u16() {
            429 | 503 => permit.overloaded(),
            status if status < 500 => permit.succeeded(),
            _ => {}
        }
        let is_success = response.status().is_success();
        if is_success {
            shared.counter.sent(kind, sent_len);
        }
        // An object may have any length: who reads it knows how much to take.
        let room = match (is_success, kind) {
            (true, RequestKind::Read) => None,
            (true, _) => Some(ANSWER_LEN_MAX),
            (false, _) => Some(ERROR_LEN_MAX),
        };
        let inner = response.take_body();
        *response.body_mut() = SdkBody::from_body_1_x(Incoming {
            inner,
            room: room.map(|len| (len, len)),
            counter: shared.counter.clone(),
            counted_as: is_success.then_some(kind),
            held: None,
            rate: shared.download.clone(),
            stall_timeout: shared.stall_timeout,
            watch: Box::pin(sleep_until(Instant::now() + shared.stall_timeout)),
            _permit: permit,
        });
        Ok(response)
    }
}

/// The token in force. The source may block on a request of its own.
async fn current(source: &Arc<dyn BearerSource>) -> Result<BearerToken, ConnectorError> {
    let source = Arc::clone(source);
    let token = tokio::task::spawn_blocking(move || source.token()).await;
    let token = token.map_err(|error| ConnectorError::other(error.into(), None))?;
    token.map_err(|error: TokenError| ConnectorError::other(error.into(), None))
}

fn authorize(request: &mut HttpRequest, token: &BearerToken) -> Result<(), ConnectorError> {
    let value = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value =
        http::HeaderValue::from_str(&value).map_err(|error| ConnectorError::user(error.into()))?;
    value.set_sensitive(true);
    let inserted = request.headers_mut().try_insert("authorization", value);
    inserted.map(drop).map_err(|error| ConnectorError::user(error.into()))
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.send(request).await })
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// When something last moved.
struct Progress {
    last: Mutex<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { last: Mutex::new(Instant::now()) }
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something moves at that time: now, or when a limit of our own lets it.
    fn moves(&self, at: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// A body on its way out, in pieces that its rate allows.
struct Outgoing {
    inner: SdkBody,
    /// Bytes not handed on yet, if that is known.
    left: Option<u64>,
    rest: Bytes,
    next: Option<(Pin<Box<Sleep>>, Bytes)>,
    rate: Option<Arc<RateLimit>>,
    progress: Arc<Progress>,
    counter: RequestCounter,
}

impl Outgoing {
    /// Counts a piece that may pass now.
    fn hand_on(&mut self, piece: Bytes) -> Frame<Bytes> {
        self.progress.moves(Instant::now());
        self.counter.moved(piece.len());
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        Frame::data(piece)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some((sleep, piece)) = &mut this.next {
                ready!(sleep.as_mut().poll(context));
                let piece = std::mem::take(piece);
                this.next = None;
                return Poll::Ready(Some(Ok(this.hand_on(piece))));
            }
            if this.rest.is_empty() {
                match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(bytes) => this.rest = bytes,
                        Err(frame) => return Poll::Ready(Some(Ok(frame))),
                    },
                }
                continue;
            }
            let len_max = this.rate.as_ref().map_or(PIECE_LEN_MAX, |rate| rate.piece_len());
            let piece = this.rest.split_to(this.rest.len().min(len_max));
            // A timer of tokio takes a millisecond at least, which a piece that may pass at once must not wait.
            match this.rate.as_ref().map(|rate| rate.grant(piece.len())).filter(|due| *due > Instant::now()) {
                Some(due) => {
                    this.progress.moves(due);
                    this.next = Some((Box::pin(sleep_until(due)), piece));
                }
                None => return Poll::Ready(Some(Ok(this.hand_on(piece)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A body on its way in.
struct Incoming {
    inner: SdkBody,
    /// Bytes that may still come, and of how many, if that is bounded here.
    room: Option<(u64, u64)>,
    counter: RequestCounter,
    /// As what its bytes are counted, if the request succeeded.
    counted_as: Option<RequestKind>,
    /// What has come and waits for its rate.
    held: Option<(Pin<Box<Sleep>>, Frame<Bytes>)>,
    rate: Option<Arc<RateLimit>>,
    stall_timeout: Duration,
    watch: Pin<Box<Sleep>>,
    _permit: Permit,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some((sleep, _)) = &mut this.held {
                ready!(sleep.as_mut().poll(context));
                this.watch.as_mut().reset(Instant::now() + this.stall_timeout);
                return Poll::Ready(this.held.take().map(|(_, frame)| Ok(frame)));
            }
            let frame = match Pin::new(&mut this.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending => {
                    ready!(this.watch.as_mut().poll(context));
                    return Poll::Ready(Some(Err(Stalled(this.stall_timeout).into())));
                }
            };
            this.watch.as_mut().reset(Instant::now() + this.stall_timeout);
            if let (Some((left, of)), Some(bytes)) = (&mut this.room, frame.data_ref()) {
                match left.checked_sub(bytes.len() as u64) {
                    Some(rest) => *left = rest,
                    None => return Poll::Ready(Some(Err(Endless(*of).into()))),
                }
            }
            if let Some(bytes) = frame.data_ref() {
                this.counter.moved(bytes.len());
                if let Some(kind) = this.counted_as {
                    this.counter.received(kind, bytes.len());
                }
            }
            let (Some(rate), Some(bytes)) = (&this.rate, frame.data_ref()) else {
                return Poll::Ready(Some(Ok(frame)));
            };
            let due = rate.grant(bytes.len());
            this.held = Some((Box::pin(sleep_until(due)), frame));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            None => self.inner.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
