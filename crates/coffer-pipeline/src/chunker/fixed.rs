//! Chunks of one length, whatever the content.
//!
//! For disk images and databases, where data changes in place at aligned offsets. Boundaries tell nothing but the
//! length of the stream.

pub(super) struct Fixed {
    len: usize,
}

impl Fixed {
    /// `len` is at least 1 byte.
    pub(super) fn new(len: usize) -> Self {
        Self { len }
    }

    pub(super) fn scan(&self, chunk: &[u8], end_of_stream: bool) -> Option<usize> {
        if chunk.len() >= self.len {
            return Some(self.len);
        }
        (end_of_stream && !chunk.is_empty()).then_some(chunk.len())
    }
}
