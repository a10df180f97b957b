//! Paths of entries (specification section 12.1): checked when decoded, compared component by component.

use std::cmp::Ordering;

use crate::error::FormatError;
use crate::limits::{COMPONENT_LEN_MAX, PATH_LEN_MAX};

/// Checks that `path` is one that an entry may have.
///
/// # Errors
/// [`FormatError::Malformed`] naming the rule it breaks.
pub fn check_path(path: &[u8]) -> Result<(), FormatError> {
    let fail = |rule| Err(FormatError::rule("path", rule));
    if path.is_empty() {
        return Ok(());
    }
    if path.len() as u64 > PATH_LEN_MAX {
        return fail("it is over the limit");
    }
    if path.contains(&0) {
        return fail("it contains a NUL byte");
    }
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" => return fail("a component is empty"),
            b"." | b".." => return fail("a component is . or .."),
            _ if component.len() as u64 > COMPONENT_LEN_MAX => return fail("a component is over the limit"),
            _ => {}
        }
    }
    Ok(())
}

/// Compares two paths component by component.
#[must_use]
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    match (a.get(common), b.get(common)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

/// Whether `path` is `folder` or lies below it; everything lies below the empty path.
#[must_use]
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A path for people: printable text, other bytes as `\xNN`.
#[must_use]
pub fn display_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for piece in path.utf8_chunks() {
        for character in piece.valid().chars() {
            if character == '\\' {
                out.push_str("\\\\");
            } else if character.is_control() {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    out.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                out.push(character);
            }
        }
        for byte in piece.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
