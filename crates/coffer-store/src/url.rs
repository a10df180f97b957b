//! Where a store is, as an operator types it.
//!
//! A text whose start looks like a scheme (`file:`, `s3:` …) is a URL, anything else a path, so that a mistyped or
//! unsupported URL never becomes a directory of that name. Errors do not repeat the text: it may hold credentials.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// The parsed place of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A local directory, as given: relative paths stay relative.
    Local(PathBuf),
}

impl Location {
    /// Parses a path or a URL.
    ///
    /// A path whose first component holds a colon is written with `./` before it. A `file:` URL names an absolute path,
    /// percent-encoded, on no host or on `localhost`.
    ///
    /// # Errors
    /// [`StoreError::UnsupportedLocation`] for `s3:` and `cos:`; [`StoreError::InvalidLocation`] for an empty text, an
    /// unknown scheme, or a malformed `file:` URL.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self, StoreError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if text.as_bytes().contains(&0) {
            return Err(invalid("it holds a NUL byte"));
        }
        let Some((scheme, rest)) = split_scheme(text.as_bytes()) else {
            return Ok(Self::Local(text.into()));
        };
        match scheme.as_str() {
            "file" => parse_file_url(rest).map(Self::Local),
            "s3" | "cos" => Err(StoreError::UnsupportedLocation { scheme }),
            _ => Err(invalid(
                "its scheme is not known; a path with a colon in its first part is written ./like:this",
            )),
        }
    }
}

/// The `file://` URL of an absolute path; [`Location::parse`] gives the same path back.
pub(crate) fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                url.push(byte.into())
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// Splits at the first colon when a scheme of at least two characters is before it; the scheme comes in lower case.
fn split_scheme(text: &[u8]) -> Option<(String, &[u8])> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
    let is_scheme = scheme.len() >= 2
        && scheme[0].is_ascii_alphabetic()
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    is_scheme.then(|| (String::from_utf8_lossy(scheme).to_ascii_lowercase(), rest))
}

fn parse_file_url(rest: &[u8]) -> Result<PathBuf, StoreError> {
    let path = match rest.strip_prefix(b"//") {
        None => rest,
        Some(after) => {
            let slash = after.iter().position(|&byte| byte == b'/').unwrap_or(after.len());
            let (host, path) = after.split_at(slash);
            if !host.is_empty() && !host.eq_ignore_ascii_case(b"localhost") {
                return Err(invalid(
                    "a file: URL cannot name another host; an absolute path takes three slashes",
                ));
            }
            path
        }
    };
    if path.first() != Some(&b'/') {
        return Err(invalid("a file: URL needs an absolute path"));
    }
    percent_decode(path).map(|bytes| OsString::from_vec(bytes).into())
}

fn percent_decode(mut text: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        text = rest;
        match byte {
            b'%' => {
                let (digits, rest) = rest.split_at_checked(2).ok_or_else(bad_escape)?;
                text = rest;
                match hex_value(digits[0]).zip(hex_value(digits[1])) {
                    Some((0, 0)) => return Err(invalid("it holds a NUL byte")),
                    Some((high, low)) => bytes.push(high << 4 | low),
                    None => return Err(bad_escape()),
                }
            }
            b'?' | b'#' => return Err(invalid("`?` and `#` are written %3F and %23 in a file: URL")),
            _ => bytes.push(byte),
        }
    }
    Ok(bytes)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn bad_escape() -> StoreError {
    invalid("a `%` must be followed by two hexadecimal digits")
}

fn invalid(reason: &'static str) -> StoreError {
    StoreError::InvalidLocation { reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Location::parse(text).expect(text), Location::Local(expected.into()), "{text}");
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let message = Location::parse(text).expect_err(text).to_string();
        assert!(message.contains(expected), "{text}: {message}");
        assert!(!message.contains("secret"), "{text}: {message}");
    }

    #[test]
    fn paths_and_file_urls() {
        check("/srv/vault", "/srv/vault");
        check("vault", "vault");
        check("../vault", "../vault");
        check("./s3:vault", "./s3:vault");
        check("/srv/a:b", "/srv/a:b");
        check("a b%20", "a b%20");
        check("file:///srv/vault", "/srv/vault");
        check("FILE:///srv/vault", "/srv/vault");
        check("file://localhost/srv/vault", "/srv/vault");
        check("file:/srv/vault", "/srv/vault");
        check("file:///srv/a%20b%3f", "/srv/a b?");
    }

    #[test]
    fn what_is_no_local_directory_is_refused() {
        check_refused("", "empty");
        check_refused(
            "s3://key:secret@bucket/prefix",
            "s3: locations are not supported, this build stores in local",
        );
        check_refused("S3:https://host/secret", "s3: locations are not supported");
        check_refused("cos://eu-de/bucket/secret", "cos: locations are not supported");
        check_refused("sftp:user@host:/secret", "scheme is not known");
        check_refused("https://user:secret@host/", "scheme is not known");
        check_refused("file://secret/share", "another host");
        check_refused("file:secret", "absolute");
        check_refused("file://", "absolute");
        check_refused("file:///secret%2", "hexadecimal");
        check_refused("file:///secret%zz", "hexadecimal");
        check_refused("file:///secret%00", "NUL");
        check_refused("file:///secret?x", "%3F");
        check_refused("file:///secret#x", "%3F");
    }

    proptest! {
        #[test]
        fn a_file_url_gives_its_path_back(tail in proptest::collection::vec(1u8.., 0..64)) {
            let mut path = b"/".to_vec();
            path.extend(tail);
            let path = PathBuf::from(OsString::from_vec(path));
            prop_assert_eq!(Location::parse(file_url(&path)).expect("own URL"), Location::Local(path));
        }
    }
}
