//! File contents into chunks.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_collect::{Found, Metadata};
use coffer_format::limits::INLINE_LEN_MAX;
use coffer_format::tree::{Content, Hole};
use coffer_pipeline::chunker::{Algorithm, Chunker};
use coffer_pipeline::tree_writer::ContentWriter;

use super::ahead::Ahead;
use super::entries::Lost;
use super::namer::Namer;
use super::sparse::Spread;
use super::uploads::Uploads;
use crate::error::EngineError;

/// How much is read at a time from a file that does not fit one chunk.
const READ_LEN: usize = 1 << 20;
/// From here on in a stream, chunks get their ids while the next ones are read and cut. Before that the hand-over is not worth it.
const NAMED_ASIDE_FROM: u64 = 8 << 20;
/// A file that changes while it is read is read this often.
const READ_ATTEMPT_COUNT: usize = 3;

/// What was taken of a file.
pub(super) struct Taken {
    pub(super) content: Content,
    pub(super) holes: Vec<Hole>,
    /// Content and holes.
    pub(super) size: u64,
    pub(super) read_bytes: u64,
    /// It changed each time it was read.
    pub(super) changed: bool,
    pub(super) metadata: Metadata,
}

/// What gives bytes that are to be cut into chunks.
pub(super) trait Source {
    /// Fills `buffer` unless the end comes before, and returns how much that is. Calls `check` while it waits.
    fn fill(
        &mut self,
        buffer: &mut [u8],
        check: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<usize, Lost>;
}

/// Reads files and cuts them into chunks, keeping its buffer between them.
pub(super) struct FileReader {
    chunker: Chunker,
    /// Files up to this length are one chunk.
    single_len_max: usize,
    buffer: Vec<u8>,
    /// None where there is one worker only.
    namer: Option<Namer>,
    read_counter: Arc<AtomicU64>,
}

/// What one reading gave.
struct Reading {
    content: Content,
    content_bytes: u64,
    holes: Vec<Hole>,
    size: u64,
}

impl FileReader {
    pub(super) fn new(chunker: Chunker, namer: Option<Namer>, read_counter: Arc<AtomicU64>) -> Self {
        let single_len_max = match chunker.params().algorithm() {
            Algorithm::Pcc { min, .. } => min as usize,
            Algorithm::Fixed { len } => len as usize,
        };
        Self { chunker, single_len_max, buffer: Vec::new(), namer, read_counter }
    }

    /// Reads a file. If it changes meanwhile, it is read again; if it does so every time, it is taken as it was read last and marked.
    pub(super) fn take(
        &mut self,
        found: &Found,
        uploads: &mut Uploads<'_, '_, '_, '_>,
    ) -> Result<Taken, Lost> {
        let mut file = found.open()?;
        let mut before = *found.fingerprint();
        let mut read_bytes = 0;
        let mut attempt = 1;
        loop {
            let Reading { content, content_bytes, holes, size } =
                self.read(&mut file, found, before.size, uploads)?;
            read_bytes += content_bytes;
            let after = found.restat(&file)?;
            let unchanged = after == before && size == after.size;
            if unchanged || attempt == READ_ATTEMPT_COUNT {
                let mut metadata = found.metadata_from(&file)?;
                // As of the reading that counts, which need not be the moment of the walk.
                metadata.mode = after.mode & 0o7777;
                metadata.mtime_ns = after.mtime_ns;
                return Ok(Taken { content, holes, size, read_bytes, changed: !unchanged, metadata });
            }
            attempt += 1;
            before = after;
            file = found.open()?;
        }
    }

    /// Takes a small file that was read ahead, with all its bytes.
    pub(super) fn take_ahead(
        &self,
        ahead: Ahead,
        bytes: &[u8],
        uploads: &mut Uploads<'_, '_, '_, '_>,
    ) -> Result<Taken, Lost> {
        let size = bytes.len() as u64;
        self.read_counter.fetch_add(size, Ordering::Relaxed);
        let content = match ahead.chunk {
            Some(chunk) => {
                uploads.put_small(bytes, chunk)?;
                Content::List { level: 0, rows: vec![chunk] }
            }
            None if bytes.is_empty() => Content::Empty,
            None => Content::Inline(bytes.to_vec()),
        };
        let (holes, metadata) = (Vec::new(), ahead.metadata);
        Ok(Taken { content, holes, size, read_bytes: size, changed: false, metadata })
    }

    /// Files of at most this length are one chunk.
    pub(super) const fn single_len_max(&self) -> usize {
        self.single_len_max
    }

    /// Takes a source to its end: content and length.
    pub(super) fn take_source(
        &mut self,
        source: &mut dyn Source,
        uploads: &mut Uploads<'_, '_, '_, '_>,
    ) -> Result<(Content, u64), Lost> {
        self.buffer.clear();
        self.read_stream(source, uploads)
    }

    fn read(
        &mut self,
        file: &mut File,
        found: &Found,
        size: u64,
        uploads: &mut Uploads<'_, '_, '_, '_>,
    ) -> Result<Reading, Lost> {
        let fail = |source| unreadable(found, source);
        if found.may_have_holes()
            && let Some(mut spread) = Spread::new(file, found).map_err(fail)?
        {
            let (content, content_bytes) = self.take_source(&mut spread, uploads)?;
            let (holes, size) = spread.finish();
            return Ok(Reading { content, content_bytes, holes, size });
        }
        let whole = |(content, size)| Reading { content, content_bytes: size, holes: Vec::new(), size };
        if size > self.single_len_max as u64 {
            return self.take_source(&mut Plain { file, found }, uploads).map(whole);
        }
        // A small file is read straight into the open frame, with room for one byte more: a short read is its end.
        let start = uploads.data.plain.len();
        let room = usize::try_from(size).unwrap_or_default() + 1;
        uploads.data.plain.resize(start + room, 0);
        let read = read_full(file, &mut uploads.data.plain[start..]);
        let len = match read {
            Ok(len) => len,
            Err(error) => {
                uploads.data.plain.truncate(start);
                return Err(fail(error));
            }
        };
        if len == room {
            // It has grown.
            self.buffer.clear();
            self.buffer.extend_from_slice(&uploads.data.plain[start..]);
            uploads.data.plain.truncate(start);
            return self.read_stream(&mut Plain { file, found }, uploads).map(whole);
        }
        uploads.data.plain.truncate(start + len);
        self.read_counter.fetch_add(len as u64, Ordering::Relaxed);
        if len as u64 <= INLINE_LEN_MAX {
            let content = uploads.data.plain[start..].to_vec();
            uploads.data.plain.truncate(start);
            let content = if content.is_empty() { Content::Empty } else { Content::Inline(content) };
            return Ok(whole((content, len as u64)));
        }
        let chunk = uploads.put_data_tail(start)?;
        Ok(whole((Content::List { level: 0, rows: vec![chunk] }, len as u64)))
    }

    /// Reads on to the end, behind what is in the buffer already.
    fn read_stream(
        &mut self,
        source: &mut dyn Source,
        uploads: &mut Uploads<'_, '_, '_, '_>,
    ) -> Result<(Content, u64), Lost> {
        let mut scanner = self.chunker.scanner();
        let mut list = ContentWriter::default();
        let mut size = 0;
        let mut filled = self.buffer.len();
        let mut consumed = 0;
        let mut ended = false;
        if let Some(namer) = &mut self.namer {
            namer.clear()?;
        }
        loop {
            while let Some(len) = scanner.scan(&self.buffer[consumed..filled], ended) {
                let bytes = &self.buffer[consumed..consumed + len];
                match self.namer.as_mut().filter(|_| size >= NAMED_ASIDE_FROM) {
                    Some(namer) => {
                        while namer.is_full() {
                            put_first(namer, &mut list, uploads)?;
                        }
                        namer.give(bytes)?;
                    }
                    None => list.push(uploads.put_data(bytes)?, uploads)?,
                }
                consumed += len;
                size += len as u64;
            }
            if ended {
                break;
            }
            self.buffer.copy_within(consumed..filled, 0);
            filled -= consumed;
            consumed = 0;
            uploads.check()?;
            if self.buffer.len() < filled + READ_LEN {
                self.buffer.resize(filled + READ_LEN, 0);
            }
            let len = source.fill(&mut self.buffer[filled..filled + READ_LEN], &mut || uploads.check())?;
            self.read_counter.fetch_add(len as u64, Ordering::Relaxed);
            filled += len;
            ended = len < READ_LEN;
        }
        if let Some(namer) = &mut self.namer {
            while put_first(namer, &mut list, uploads)? {}
        }
        Ok((list.finish(uploads)?, size))
    }
}

/// Stores the chunk that was given to be named first; `false` if there is none.
fn put_first(
    namer: &mut Namer,
    list: &mut ContentWriter,
    uploads: &mut Uploads<'_, '_, '_, '_>,
) -> Result<bool, EngineError> {
    let Some(mut named) = namer.take()? else { return Ok(false) };
    list.push(uploads.put_named(&mut named)?, uploads)?;
    namer.reuse(named.bytes);
    Ok(true)
}

/// A file without holes, from where it stands.
struct Plain<'f> {
    file: &'f mut File,
    found: &'f Found,
}

impl Source for Plain<'_> {
    fn fill(
        &mut self,
        buffer: &mut [u8],
        _: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<usize, Lost> {
        read_full(self.file, buffer).map_err(|error| unreadable(self.found, error))
    }
}

/// A file that cannot be read is lost, and nothing else.
pub(super) fn unreadable(found: &Found, source: std::io::Error) -> Lost {
    Lost::Entry(EngineError::Cache { action: "read", path: found.path().to_string(), source })
}

/// Fills `buffer` as far as the file goes.
fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            // A regular file gives less than was asked for only at its end.
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
