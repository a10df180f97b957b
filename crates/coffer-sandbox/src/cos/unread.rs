//! What of a request was not read when its answer is ready.
//!
//! A refusal may be decided by the head of a request alone. If the connection then ended with bytes of the body unread, the
//! client would meet a reset in place of the answer. So what is left is read before the answer goes out, up to a bound.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Bytes that are read for nothing, at most.
const REST_LEN_MAX: usize = 128 << 20;
/// How long that may take.
const REST_TIME_MAX: Duration = Duration::from_secs(10);

/// The body of a request; what its reader leaves can be read after it.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Incoming>>);

impl Shared {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// Reads what is left and drops it. A client that goes away, or takes too long, gets no answer worth waiting for.
    pub(super) async fn drain(mut self) {
        let drain = async {
            let mut len = 0;
            while let Some(Ok(frame)) = self.frame().await {
                len += frame.data_ref().map_or(0, Bytes::len);
                if len > REST_LEN_MAX {
                    break;
                }
            }
        };
        // The answer goes out in any case.
        let _ = tokio::time::timeout(REST_TIME_MAX, drain).await;
    }
}

impl Body for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}
