//! Where a message of HTTP/1.1 ends. Bytes are passed on as they came, the framing of chunks too.

use std::io::{self, BufRead, Read};

/// Longest head that is taken.
const HEAD_LEN_MAX: u64 = 1 << 16;

/// Longest line between chunks that is taken.
const LINE_LEN_MAX: u64 = 1 << 12;

/// Longest piece of a body that is passed on at once.
const PIECE_LEN_MAX: u64 = 1 << 15;

/// The first line of a message and its fields, with the empty line behind them.
pub(super) struct Head {
    bytes: Vec<u8>,
    text: String,
}

impl Head {
    /// Reads a head; `None` if the connection ends before it.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let mut from = from.take(HEAD_LEN_MAX);
        loop {
            let before = bytes.len();
            let len = from.read_until(b'\n', &mut bytes)?;
            if len == 0 && before == 0 {
                return Ok(None);
            }
            if !bytes.ends_with(b"\n") {
                return Err(broken("a head broke off"));
            }
            if matches!(&bytes[before..], b"\r\n" | b"\n") {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Self { bytes, text }));
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The words of the first line.
    pub(super) fn first_line(&self) -> impl Iterator<Item = &str> {
        self.text.lines().next().unwrap_or_default().split(' ')
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn has(&self, name: &str, word: &str) -> bool {
        let value = self.field(name).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    }

    /// Of an answer.
    pub(super) fn status(&self) -> Option<u16> {
        self.first_line().nth(1)?.parse().ok()
    }

    /// The body of a request.
    pub(super) fn request_body(&self) -> io::Result<Body> {
        self.body(Body::Known(0))
    }

    /// The body of an answer to a request by `method`.
    pub(super) fn answer_body(&self, method: &str) -> io::Result<Body> {
        match self.status() {
            Some(204 | 304) => Ok(Body::Known(0)),
            _ if method == "HEAD" => Ok(Body::Known(0)),
            _ => self.body(Body::ToEnd),
        }
    }

    fn body(&self, otherwise: Body) -> io::Result<Body> {
        if self.has("transfer-encoding", "chunked") {
            return Ok(Body::Chunked { left: 0 });
        }
        match self.field("content-length") {
            Some(len) => len.parse().map(Body::Known).map_err(|_| broken("a length is no number")),
            None => Ok(otherwise),
        }
    }
}

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Known(u64),
    /// Chunks; so many bytes are left of the one that began, with the line end behind it.
    Chunked { left: u64 },
    /// All until the connection ends.
    ToEnd,
}

impl Body {
    /// About the middle of it: so many bytes may pass if not all may. `None` for a body that is known to be empty.
    pub(super) const fn middle(self) -> Option<u64> {
        match self {
            Self::Known(0) => None,
            Self::Known(len) => Some(len / 2),
            // The shortest body in chunks has five bytes.
            Self::Chunked { .. } | Self::ToEnd => Some(4),
        }
    }

    /// Puts the next bytes into `piece`; none when the body is at its end.
    pub(super) fn next(&mut self, from: &mut impl BufRead, piece: &mut Vec<u8>) -> io::Result<()> {
        piece.clear();
        match self {
            Self::Known(left) => exact(from, left, piece),
            Self::Chunked { left } if *left > 0 => exact(from, left, piece),
            Self::Chunked { left } => {
                line(from, piece)?;
                let digits = piece.split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
                let len =
                    std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
                match len.ok_or_else(|| broken("a chunk has no length"))? {
                    0 => {
                        // Trailing fields, and the empty line.
                        while line(from, piece)? > 2 {}
                        *self = Self::Known(0);
                    }
                    len => *left = len + 2,
                }
                Ok(())
            }
            Self::ToEnd => from.take(PIECE_LEN_MAX).read_to_end(piece).map(drop),
        }
    }
}

/// Reads up to a piece of the bytes that are left.
fn exact(from: &mut impl BufRead, left: &mut u64, piece: &mut Vec<u8>) -> io::Result<()> {
    if *left == 0 {
        return Ok(());
    }
    let ready = from.fill_buf()?;
    if ready.is_empty() {
        return Err(broken("a body broke off"));
    }
    let len = ready.len().min(usize::try_from((*left).min(PIECE_LEN_MAX)).unwrap_or(usize::MAX));
    piece.extend_from_slice(&ready[..len]);
    from.consume(len);
    *left -= len as u64;
    Ok(())
}

/// Appends a line, whose length it returns.
fn line(from: &mut impl BufRead, piece: &mut Vec<u8>) -> io::Result<usize> {
    let len = from.take(LINE_LEN_MAX).read_until(b'\n', piece)?;
    if piece.ends_with(b"\n") && len > 0 { Ok(len) } else { Err(broken("a body in chunks broke off")) }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}
