//! `aws-chunked` bodies of requests with a bearer token. (`s3s` reads those of signed requests.)
//!
//! A chunk is its length in hexadecimal digits, perhaps `;chunk-signature=…`, a line end, the bytes, a line end. The chunk of length
//! zero is last; trailing headers follow it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use s3s::{StdError, TrailingHeaders};

use super::unread::Shared;

/// A line of a chunk or trailer is never longer.
const LINE_LEN_MAX: usize = 4096;

/// Headers that come after a body.
#[derive(Clone)]
pub(super) enum Trailers {
    Signed(TrailingHeaders),
    Unsigned(Arc<Mutex<HeaderMap>>),
}

impl Trailers {
    /// What came, once the body was read.
    pub(super) fn headers(&self) -> HeaderMap {
        match self {
            Self::Signed(trailers) => trailers.read(Clone::clone).unwrap_or_default(),
            Self::Unsigned(trailers) => trailers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer,
    End,
}

/// The body inside of an `aws-chunked` one.
pub(super) struct Unchunked {
    inner: Shared,
    buffer: BytesMut,
    expect: Expect,
    trailers: Arc<Mutex<HeaderMap>>,
}

impl Unchunked {
    pub(super) fn new(inner: Shared) -> (Self, Trailers) {
        let trailers = Arc::new(Mutex::new(HeaderMap::new()));
        let body =
            Self { inner, buffer: BytesMut::new(), expect: Expect::Size, trailers: Arc::clone(&trailers) };
        (body, Trailers::Unsigned(trailers))
    }

    /// The next line, if all of it is here.
    fn line(&mut self) -> Result<Option<String>, StdError> {
        let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") else {
            return if self.buffer.len() > LINE_LEN_MAX {
                Err("a line of a chunk is too long".into())
            } else {
                Ok(None)
            };
        };
        let line = String::from_utf8(self.buffer.split_to(end).to_vec())?;
        self.buffer.advance(2);
        Ok(Some(line))
    }

    /// The next bytes of the body inside; `None` if more must arrive first.
    fn step(&mut self) -> Result<Option<Bytes>, StdError> {
        loop {
            match self.expect {
                Expect::Size => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let digits = line.split(';').next().unwrap_or_default();
                    let left = u64::from_str_radix(digits, 16)?;
                    self.expect = if left == 0 { Expect::Trailer } else { Expect::Data { left } };
                }
                Expect::Data { left } => {
                    if self.buffer.is_empty() {
                        return Ok(None);
                    }
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    let left = left - len as u64;
                    self.expect = if left == 0 { Expect::DataEnd } else { Expect::Data { left } };
                    return Ok(Some(self.buffer.split_to(len).freeze()));
                }
                Expect::DataEnd => match self.line()? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.expect = Expect::Size,
                    Some(_) => return Err("a chunk is longer than it says".into()),
                },
                Expect::Trailer => match self.line()? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.expect = Expect::End,
                    Some(line) => {
                        let (name, value) = line.split_once(':').ok_or("a trailer has no colon")?;
                        let name = HeaderName::from_bytes(name.trim().as_bytes())?;
                        let value = HeaderValue::from_str(value.trim())?;
                        self.trailers.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
                    }
                },
                Expect::End => return Ok(None),
            }
        }
    }
}

impl Body for Unchunked {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            match self.step() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                // Some clients leave out the last empty line.
                Poll::Ready(None) => {
                    return match self.expect {
                        Expect::End | Expect::Trailer => Poll::Ready(None),
                        _ => Poll::Ready(Some(Err("the body ends within a chunk".into()))),
                    };
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
