//! The path of an entry inside a snapshot.
//!
//! An [`EntryPath`] is bytes: components joined by `/`, relative, normalised. It cannot name anything above the
//! directory it is resolved against, because `..` does not get past the constructor. The empty path is the root
//! directory of the snapshot itself.
//!
//! The order is component by component, which is the order of a walk that lists a directory before its children
//! and children by the bytes of their names. It is the order of bytes with `/` below every other byte, and so
//! differs from the plain order of bytes: `a/b` comes before `a!`.

use std::cmp::Ordering;
use std::fmt;

use crate::CollectError;

/// The longest path in bytes.
pub const PATH_LEN_MAX: usize = 65_535;

/// The longest component of a path in bytes.
pub const COMPONENT_LEN_MAX: usize = 4096;

const _: () = assert!(COMPONENT_LEN_MAX < PATH_LEN_MAX);

/// A relative, normalised path of bytes; the empty path is the root directory of a snapshot.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath {
    bytes: Vec<u8>,
}

/// What is wrong with bytes that were meant as an [`EntryPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathFault {
    /// It begins with `/`.
    #[error("it begins with a slash")]
    Absolute,
    /// It has a leading, trailing or doubled `/`.
    #[error("it has an empty component")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("it has a component '.' or '..'")]
    DotComponent,
    /// A component holds a NUL byte, or a single component holds a `/`.
    #[error("a component holds a NUL byte or a slash")]
    ForbiddenByte,
    /// A component is longer than [`COMPONENT_LEN_MAX`].
    #[error("a component is longer than {COMPONENT_LEN_MAX} bytes")]
    ComponentTooLong,
    /// The whole is longer than [`PATH_LEN_MAX`].
    #[error("it is longer than {PATH_LEN_MAX} bytes")]
    TooLong,
}

impl EntryPath {
    /// Takes `bytes` as a path.
    ///
    /// # Errors
    /// [`CollectError::InvalidPath`] says which rule `bytes` breaks.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, CollectError> {
        let bytes = bytes.into();
        match check_path(&bytes) {
            Ok(()) => Ok(Self { bytes }),
            Err(fault) => Err(CollectError::invalid_path(&bytes, fault)),
        }
    }

    /// The empty path: the root directory of a snapshot.
    #[must_use]
    pub const fn root() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Whether this is the empty path.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, components joined by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, without copying them.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The components from the top; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        // `split` yields one empty piece for empty input, which is not a component.
        self.bytes.split(|&b| b == b'/').filter(|component| !component.is_empty())
    }

    /// The last component; `None` for the root.
    #[must_use]
    pub fn file_name(&self) -> Option<&[u8]> {
        self.bytes.rsplit(|&b| b == b'/').next().filter(|name| !name.is_empty())
    }

    /// The directory that holds this entry; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.parent_bytes().map(|bytes| Self { bytes: bytes.to_vec() })
    }

    /// The bytes of [`EntryPath::parent`], not copied.
    pub(crate) fn parent_bytes(&self) -> Option<&[u8]> {
        if self.is_root() {
            return None;
        }
        let end = self.bytes.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(&self.bytes[..end])
    }

    /// Goes back to the ancestor whose path is `len` bytes long.
    pub(crate) fn truncate(&mut self, len: usize) {
        debug_assert!(
            len == 0 || self.bytes.get(len).is_none_or(|&b| b == b'/'),
            "not the end of a component"
        );
        self.bytes.truncate(len);
    }

    /// This path with one more component, `name`.
    ///
    /// # Errors
    /// [`CollectError::InvalidPath`] when `name` is not one valid component, or the whole becomes too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, CollectError> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 1 + name.len());
        bytes.extend_from_slice(&self.bytes);
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        match check_component(name) {
            Ok(()) if bytes.len() <= PATH_LEN_MAX => Ok(Self { bytes }),
            Ok(()) => Err(CollectError::invalid_path(&bytes, PathFault::TooLong)),
            Err(fault) => Err(CollectError::invalid_path(&bytes, fault)),
        }
    }

    /// Whether `ancestor` is this path or one of the directories above it. Every path starts with the root.
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .bytes
                .strip_prefix(ancestor.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.as_bytes(), other.as_bytes());
        // NUL occurs in no path, so it can stand for the separator, below every other byte.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match a.iter().zip(b).find(|(x, y)| x != y) {
            Some((&x, &y)) => rank(x).cmp(&rank(y)),
            None => a.len().cmp(&b.len()),
        }
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows the path so that the bytes can be told from what is printed, on one line and without control of the
/// terminal: a backslash as `\\`; control characters, characters that reorder text, and bytes that are not UTF-8
/// as `\xNN` for each byte. The root is shown as `.`.
impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        f.write_str(&escape(&self.bytes))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

/// Escapes `bytes` as the `Display` of [`EntryPath`] does.
pub(crate) fn escape(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                out.push_str("\\\\");
            } else if c.is_control() || reorders_text(c) {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(out, "\\x{byte:02x}"); // writing to a String does not fail
                }
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Line and paragraph separators and the marks that change the direction of what follows.
fn reorders_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}')
}

fn check_path(bytes: &[u8]) -> Result<(), PathFault> {
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.len() > PATH_LEN_MAX {
        return Err(PathFault::TooLong);
    }
    if bytes[0] == b'/' {
        return Err(PathFault::Absolute);
    }
    bytes.split(|&b| b == b'/').try_for_each(check_component)
}

fn check_component(name: &[u8]) -> Result<(), PathFault> {
    match name {
        b"" => Err(PathFault::EmptyComponent),
        b"." | b".." => Err(PathFault::DotComponent),
        _ if name.len() > COMPONENT_LEN_MAX => Err(PathFault::ComponentTooLong),
        _ if name.iter().any(|&b| b == 0 || b == b'/') => Err(PathFault::ForbiddenByte),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
