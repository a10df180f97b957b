//! Names of objects.
//!
//! An [`ObjectKey`] is safe to use as a relative path on any file system and as a name in any bucket: it cannot climb
//! out of the store, differs from every other key on a file system that ignores case, and needs no escaping.

use std::fmt;
use std::str::FromStr;

use crate::StoreError;

/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 512;

/// Longest component of a key, in bytes: what file systems allow for one name.
pub const COMPONENT_LEN_MAX: usize = 255;

/// First component that no key may have: stores keep unfinished writes there.
pub(crate) const RESERVED_COMPONENT: &str = "tmp";

/// A validated name: components of `[a-z0-9._-]`, none of them empty, `.` or `..`, joined by `/`; at most
/// [`KEY_LEN_MAX`] bytes, each component at most [`COMPONENT_LEN_MAX`]. The first component is never `tmp`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks `name` and makes a key of it.
    ///
    /// # Errors
    /// [`StoreError::InvalidKey`].
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        match reason_against(&name) {
            None => Ok(Self(name)),
            Some(reason) => {
                // What failed the check may be of any length and content.
                let name = name.chars().take(KEY_LEN_MAX).flat_map(char::escape_default).collect();
                Err(StoreError::InvalidKey { name, reason })
            }
        }
    }

    /// The name as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory part, without a trailing slash, if there is one; and the last component.
    pub(crate) fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((directory, last)) => (Some(directory), last),
            None => (None, &self.0),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for ObjectKey {
    type Error = StoreError;

    fn try_from(name: &str) -> Result<Self, StoreError> {
        Self::new(name)
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = StoreError;

    fn try_from(name: String) -> Result<Self, StoreError> {
        Self::new(name)
    }
}

/// Whether `component` could be a component of a key, leaving the reserved one aside.
pub(crate) fn is_component(component: &str) -> bool {
    reason_against_component(component).is_none()
}

fn reason_against(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > KEY_LEN_MAX {
        return Some("it is longer than 512 bytes");
    }
    if name.split('/').next() == Some(RESERVED_COMPONENT) {
        return Some("`tmp` is reserved for unfinished writes");
    }
    name.split('/').find_map(reason_against_component)
}

fn reason_against_component(component: &str) -> Option<&'static str> {
    if component.is_empty() {
        return Some("it has an empty component");
    }
    if component == "." || component == ".." {
        return Some("`.` and `..` are not allowed as components");
    }
    if component.len() > COMPONENT_LEN_MAX {
        return Some("it has a component longer than 255 bytes");
    }
    if !component.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')) {
        return Some("only a-z, 0-9, `.`, `_`, `-` and `/` are allowed");
    }
    None
}
