//! Reading objects: in one request, or large ones in ranges side by side.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::S3Store;
use super::failure::{RequestFailure, chain};
use crate::StoreError;

/// Length of what a read of a whole object asks for first.
const FIRST_LEN: u64 = 16 << 20;

const ODD_RANGE: &str = "the store gave a range that has no sense";

/// Length of the ranges that a large read is made of.
const RANGE_LEN: usize = 8 << 20;

/// Ranges of one read that are under way at once.
const RANGES_AT_ONCE_COUNT: usize = 8;

/// One object, or one version of it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) version_id: Option<&'a str>,
}

impl S3Store {
    pub(super) async fn read_whole(
        &self,
        source: Source<'_>,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        out.clear();
        let result = self.fill_whole(source, len_max, out).await;
        if result.is_err() {
            out.clear();
        }
        result
    }

    /// Asks for the beginning, which is most often all, and then for the rest side by side.
    async fn fill_whole(
        &self,
        source: Source<'_>,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let output = match self.get(source, Some((0, FIRST_LEN - 1)), None).await {
            // Of nothing there is no range.
            Err(StoreError::Rejected { source: cause, .. }) if has_status(&cause, 416) => {
                let len = self.len_of(source).await?;
                return if len == 0 { Ok(()) } else { Err(self.odd(source.name, ODD_RANGE)) };
            }
            output => output?,
        };
        let came = self.length(source.name, output.content_length)?;
        let (start, len) = match output.content_range.as_deref().map(parse_range) {
            None => (0, came),
            Some(Some(range)) => range,
            Some(None) => return Err(self.odd(source.name, ODD_RANGE)),
        };
        if len > len_max {
            let (name, store) = (source.name.to_owned(), self.whom().store.clone());
            return Err(StoreError::TooLong { name, store, len, len_max });
        }
        let (Ok(out_len), Ok(first_len)) = (usize::try_from(len), usize::try_from(came)) else {
            return Err(self.odd(source.name, "the object is longer than memory"));
        };
        if start != 0 || first_len > out_len || (first_len < out_len && came != FIRST_LEN) {
            return Err(self.odd(source.name, ODD_RANGE));
        }
        out.reserve_exact(out_len);
        out.resize(out_len, 0);
        let (first, rest) = out.split_at_mut(first_len);
        let tag = output.e_tag.clone();
        let fill_first = self.fill_from(source.name, output.body, first);
        let fill_rest = self.fill(source, came, rest, tag.as_deref());
        futures_util::future::try_join(fill_first, fill_rest).await.map(drop)
    }

    pub(super) async fn fill_range(
        &self,
        source: Source<'_>,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        if out.is_empty() {
            let actual_len = self.len_of(source).await?;
            return if offset <= actual_len {
                Ok(())
            } else {
                Err(self.truncated(source.name, offset, 0, actual_len))
            };
        }
        let range_len = out.len() as u64;
        match self.fill(source, offset, out, None).await {
            // Of the whole range, not of the piece that found it.
            Err(StoreError::Truncated { actual_len, .. }) => {
                Err(self.truncated(source.name, offset, range_len, actual_len))
            }
            result => result,
        }
    }

    /// Fills `out`, in ranges side by side when it is long.
    async fn fill(
        &self,
        source: Source<'_>,
        offset: u64,
        out: &mut [u8],
        tag: Option<&str>,
    ) -> Result<(), StoreError> {
        let ranges = out.chunks_mut(RANGE_LEN).enumerate();
        let fills = ranges.map(|(position, out)| {
            let offset = offset.saturating_add((position * RANGE_LEN) as u64);
            self.fill_one(source, offset, out, tag)
        });
        stream::iter(fills).buffer_unordered(RANGES_AT_ONCE_COUNT).try_collect().await
    }

    async fn fill_one(
        &self,
        source: Source<'_>,
        offset: u64,
        out: &mut [u8],
        tag: Option<&str>,
    ) -> Result<(), StoreError> {
        let len = out.len() as u64;
        let Some(last) = offset.checked_add(len - 1) else {
            let actual_len = self.len_of(source).await?;
            return Err(self.truncated(source.name, offset, len, actual_len));
        };
        let output = match self.get(source, Some((offset, last)), tag).await {
            Err(StoreError::Rejected { source: cause, .. }) if has_status(&cause, 416) => {
                let actual_len = self.len_of(source).await?;
                return Err(self.truncated(source.name, offset, len, actual_len));
            }
            output => output?,
        };
        let came = self.length(source.name, output.content_length)?;
        let (start, total) = match output.content_range.as_deref().map(parse_range) {
            Some(Some(range)) => range,
            // The whole object is as good as a range of all of it.
            None if offset == 0 => (0, came),
            None => return Err(self.odd(source.name, "the store gave the object and not the range")),
            Some(None) => return Err(self.odd(source.name, ODD_RANGE)),
        };
        if total < offset.saturating_add(len) {
            return Err(self.truncated(source.name, offset, len, total));
        }
        if start != offset || came != len {
            return Err(self.odd(source.name, "the store gave another range than was asked for"));
        }
        self.fill_from(source.name, output.body, out).await
    }

    /// Fills `out` with a body that is as long as it should be.
    async fn fill_from(&self, name: &str, mut body: ByteStream, out: &mut [u8]) -> Result<(), StoreError> {
        let mut filled = 0;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| self.broken(name, &error))?;
            let Some(place) = out.get_mut(filled..filled + bytes.len()) else {
                return Err(self.odd(name, "the store gave more than was asked for"));
            };
            place.copy_from_slice(&bytes);
            filled += bytes.len();
        }
        if filled == out.len() { Ok(()) } else { Err(self.short(name)) }
    }

    async fn get(
        &self,
        source: Source<'_>,
        range: Option<(u64, u64)>,
        tag: Option<&str>,
    ) -> Result<GetObjectOutput, StoreError> {
        let request = self
            .client()
            .get_object()
            .bucket(&self.location.bucket)
            .key(self.full(source.name))
            .set_version_id(source.version_id.map(str::to_owned))
            .set_range(range.map(|(first, last)| format!("bytes={first}-{last}")))
            .set_if_match(tag.map(str::to_owned));
        let output = request.send().await.map_err(|error| self.sdk(source.name, error))?;
        // A page for every address is what a web server gives that is no store.
        match output.content_type.as_deref() {
            Some(found) if found.starts_with("text/html") && output.e_tag.is_none() => {
                Err(StoreError::NotS3 {
                    store: self.whom().store.clone(),
                    endpoint: self.whom().endpoint.clone(),
                    found: "status 200 with text/html".to_owned(),
                })
            }
            _ => {
                self.shown.learn(output.version_id());
                Ok(output)
            }
        }
    }

    pub(super) async fn len_of(&self, source: Source<'_>) -> Result<u64, StoreError> {
        let request = self
            .client()
            .head_object()
            .bucket(&self.location.bucket)
            .key(self.full(source.name))
            .set_version_id(source.version_id.map(str::to_owned));
        match request.send().await.map_err(|error| self.sdk(source.name, error)) {
            Ok(output) => self.length(source.name, output.content_length),
            Err(error) => Err(self.reason(source, error).await),
        }
    }

    /// Why a question for the head of an object failed. The answer to one has no body, so that a status of 400 alone says neither that the
    /// credentials have expired nor anything else: then the first byte is asked for, which the store refuses with a reason.
    pub(super) async fn reason(&self, source: Source<'_>, error: StoreError) -> StoreError {
        let is_bare = |cause: &crate::Cause| {
            let failure = cause.downcast_ref::<RequestFailure>();
            failure.is_some_and(|failure| failure.status == Some(400) && failure.message.is_empty())
        };
        match &error {
            StoreError::Rejected { source: cause, .. } if is_bare(cause) => {}
            _ => return error,
        }
        match self.get(source, Some((0, 0)), None).await {
            Err(told) if !told.is_not_found() => told,
            _ => error,
        }
    }

    fn length(&self, name: &str, len: Option<i64>) -> Result<u64, StoreError> {
        len.and_then(|len| u64::try_from(len).ok())
            .ok_or_else(|| self.odd(name, "the store does not tell the length"))
    }

    fn truncated(&self, name: &str, offset: u64, range_len: u64, actual_len: u64) -> StoreError {
        let (name, store) = (name.to_owned(), self.whom().store.clone());
        StoreError::Truncated { name, store, offset, range_len, actual_len }
    }

    /// A body that ended before its length.
    fn short(&self, name: &str) -> StoreError {
        let message = "the answer broke off".to_owned();
        self.whom().unavailable(name, RequestFailure { message, ..RequestFailure::default() })
    }

    /// A body that broke off with an error.
    fn broken(&self, name: &str, error: &(dyn std::error::Error + 'static)) -> StoreError {
        let failure = RequestFailure { message: chain(error), ..RequestFailure::default() };
        self.whom().unavailable(name, failure)
    }
}

fn has_status(cause: &crate::Cause, status: u16) -> bool {
    cause.downcast_ref::<RequestFailure>().is_some_and(|failure| failure.status == Some(status))
}

/// Start and total of `bytes 0-9/100`.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}
