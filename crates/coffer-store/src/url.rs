//! Where a store is, as an operator types it.
//!
//! A text whose start looks like a scheme (`file:`, `s3:` …) is a URL, anything else a path, so that a mistyped or
//! unsupported URL never becomes a directory of that name. Errors do not repeat the text: it may hold credentials.
//! A location never holds any: they come from elsewhere, and a URL with some is refused.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::regions::{COS_DOMAIN, CosLocation};
use crate::{Network, StoreError};

/// The parsed place of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A local directory, as given: relative paths stay relative.
    Local(PathBuf),
    /// A prefix in a bucket of object storage.
    S3(S3Location),
}

/// A prefix in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Location {
    /// Where the bucket is.
    pub place: S3Place,
    /// Name of the bucket.
    pub bucket: String,
    /// What the names of all objects start with: empty, or without a slash at either end.
    pub prefix: String,
}

/// Which service keeps a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum S3Place {
    /// AWS, or what an endpoint names that is given beside the location.
    S3,
    /// The S3 service at this URL, addressed by path.
    Endpoint(String),
    /// Cloud Object Storage at a location of IBM Cloud.
    Cos(&'static CosLocation),
}

impl Location {
    /// Parses a path or a URL.
    ///
    /// A path whose first component holds a colon is written with `./` before it. A `file:` URL names an absolute path,
    /// percent-encoded, on no host or on `localhost`.
    ///
    /// `s3://bucket/prefix` is on AWS or at an endpoint given elsewhere, `s3:https://host/bucket/prefix` names its
    /// endpoint, `cos://eu-de/bucket/prefix` is at a location of IBM Cloud. Nothing in them is percent-encoded.
    ///
    /// # Errors
    /// [`StoreError::InvalidLocation`] for an empty text, an unknown scheme, or a malformed URL.
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
            "s3" => parse_s3(text_of(rest)?).map(Self::S3),
            "cos" => parse_cos(text_of(rest)?).map(Self::S3),
            _ => Err(invalid(
                "its scheme is not known; a path with a colon in its first part is written ./like:this",
            )),
        }
    }

    /// The address that a store there gives as its own.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Local(path) => file_url(&std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            Self::S3(location) => location.url(),
        }
    }
}

impl S3Location {
    /// The URL that [`Location::parse`] reads as this location.
    #[must_use]
    pub fn url(&self) -> String {
        let start = match &self.place {
            S3Place::S3 => format!("s3://{}", self.bucket),
            S3Place::Endpoint(endpoint) => format!("s3:{endpoint}/{}", self.bucket),
            S3Place::Cos(location) => format!("cos://{location}/{}", self.bucket),
        };
        if self.prefix.is_empty() { start } else { format!("{start}/{}", self.prefix) }
    }

    /// The URL of the service, unless that is AWS; `network` is from where Cloud Object Storage is asked.
    #[must_use]
    pub fn endpoint(&self, network: Network) -> Option<String> {
        match &self.place {
            S3Place::S3 => None,
            S3Place::Endpoint(endpoint) => Some(endpoint.clone()),
            S3Place::Cos(location) => Some(format!("https://{}", location.host(network))),
        }
    }

    /// Whether the bucket is on Cloud Object Storage for sure.
    #[must_use]
    pub fn is_cos(&self) -> bool {
        match &self.place {
            S3Place::S3 => false,
            S3Place::Endpoint(endpoint) => host_of(endpoint).ends_with(COS_DOMAIN),
            S3Place::Cos(_) => true,
        }
    }
}

/// Checks the URL of an S3 service: scheme, host and perhaps a port, nothing more. Gives it without a slash at its end.
///
/// # Errors
/// [`StoreError::InvalidLocation`].
pub(crate) fn check_endpoint(url: &str) -> Result<String, StoreError> {
    let url = url.trim_end_matches('/');
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| invalid("an endpoint starts with https:// or http://"))?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" && scheme != "http" {
        return Err(invalid("an endpoint starts with https:// or http://"));
    }
    if rest.contains('@') {
        return Err(invalid("credentials have no place in an endpoint"));
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if rest.is_empty() || !rest.bytes().all(is_host) {
        return Err(invalid("an endpoint is a scheme, a host and perhaps a port, without a path"));
    }
    let url = format!("{scheme}://{rest}");
    match url.parse::<http::Uri>() {
        // A port that is no number parses, and is then none.
        Ok(uri) if uri.host().is_some() && has_sound_port(&uri) => Ok(url),
        _ => Err(invalid("the host or the port of the endpoint is malformed")),
    }
}

fn has_sound_port(uri: &http::Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let after_host = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    after_host.is_empty() || authority.port_u16().is_some_and(|port| port > 0)
}

/// The host of a checked endpoint, with its port.
pub(crate) fn host_of(endpoint: &str) -> &str {
    endpoint.split_once("://").map_or(endpoint, |(_, host)| host)
}

fn text_of(bytes: &[u8]) -> Result<&str, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(invalid("it holds a control character"));
    }
    Ok(text)
}

fn parse_s3(rest: &str) -> Result<S3Location, StoreError> {
    if let Some(path) = rest.strip_prefix("//") {
        return in_bucket(S3Place::S3, path);
    }
    let lower = rest.to_ascii_lowercase();
    if !lower.starts_with("https://") && !lower.starts_with("http://") {
        return Err(invalid("write s3://BUCKET/PREFIX or s3:https://HOST/BUCKET/PREFIX"));
    }
    let host_at = rest.find("://").map_or(0, |at| at + 3);
    let Some(slash) = rest[host_at..].find('/') else {
        return Err(invalid("the bucket is missing: write s3:https://HOST/BUCKET/PREFIX"));
    };
    let (endpoint, path) = rest.split_at(host_at + slash);
    in_bucket(S3Place::Endpoint(check_endpoint(endpoint)?), &path[1..])
}

fn parse_cos(rest: &str) -> Result<S3Location, StoreError> {
    let form = "write cos://LOCATION/BUCKET/PREFIX, as cos://eu-de/my-bucket/vault";
    let path = rest.strip_prefix("//").ok_or_else(|| invalid(form))?;
    let (name, path) = path.split_once('/').ok_or_else(|| invalid(form))?;
    let location = CosLocation::find(name).ok_or_else(|| {
        invalid("its location is not known: `coffer regions` lists them; the bucket comes after it")
    })?;
    in_bucket(S3Place::Cos(location), path)
}

fn in_bucket(place: S3Place, path: &str) -> Result<S3Location, StoreError> {
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if bucket.contains(['@', ':']) {
        return Err(invalid("credentials have no place in it"));
    }
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| is_inner(byte) && !b"-.".contains(&byte));
    if !(3..=63).contains(&bucket.len()) {
        return Err(invalid("the name of a bucket has 3 to 63 characters"));
    }
    if !bucket.bytes().all(is_inner)
        || !is_edge(bucket.bytes().next())
        || !is_edge(bucket.bytes().next_back())
    {
        return Err(invalid(
            "the name of a bucket has a-z, 0-9, `-` and `.`, and a letter or digit at each end",
        ));
    }
    let prefix = prefix.trim_matches('/');
    if prefix.len() > PREFIX_LEN_MAX {
        return Err(invalid("the prefix is longer than 400 bytes"));
    }
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid("the prefix holds an empty part, `.` or `..`"));
    }
    if prefix.contains(['?', '#']) {
        return Err(invalid("`?` and `#` have no place in a prefix"));
    }
    Ok(S3Location { place, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// Longest prefix, in bytes: with the longest key it stays below the 1024 bytes that S3 allows.
const PREFIX_LEN_MAX: usize = 400;

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
        check_refused("s3://key:secret@bucket/prefix", "credentials have no place");
        check_refused("s3:https://key:secret@host/bucket", "credentials have no place");
        check_refused("s3:secret/prefix", "s3://BUCKET");
        check_refused("s3:https://host", "bucket is missing");
        check_refused("s3:https://host:port/bucket", "malformed");
        check_refused("s3:https://ho$t/bucket", "without a path");
        check_refused("s3://", "3 to 63");
        check_refused("s3://ab/secret", "3 to 63");
        check_refused("s3://Secret/prefix", "a-z, 0-9");
        check_refused("s3://-secret/prefix", "at each end");
        check_refused("s3://bucket/a//secret", "empty part");
        check_refused("s3://bucket/../secret", "`..`");
        check_refused("s3://bucket/secret?x", "no place in a prefix");
        check_refused("s3://bucket/secret\n", "control character");
        check_refused(&format!("s3://bucket/{}", "secret".repeat(100)), "400 bytes");
        check_refused("cos://secret/bucket", "location is not known");
        check_refused("cos://bucket", "cos://LOCATION");
        check_refused("cos:eu-de/bucket/secret", "cos://LOCATION");
        check_refused("cos://eu-de/key:secret@bucket", "credentials have no place");
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

    #[track_caller]
    fn check_s3(text: &str, url: &str, bucket: &str, prefix: &str, endpoint: Option<&str>) {
        let Location::S3(location) = Location::parse(text).expect(text) else { panic!("{text} is local") };
        assert_eq!((location.bucket.as_str(), location.prefix.as_str()), (bucket, prefix), "{text}");
        assert_eq!(location.endpoint(Network::Private).as_deref(), endpoint, "{text}");
        assert_eq!(location.url(), url, "{text}");
        assert_eq!(Location::parse(url).expect(url), Location::S3(location), "{text}");
    }

    #[test]
    fn buckets() {
        check_s3("s3://bucket", "s3://bucket", "bucket", "", None);
        check_s3("S3://bucket/", "s3://bucket", "bucket", "", None);
        check_s3("s3://my.bucket-1/a/b c/", "s3://my.bucket-1/a/b c", "my.bucket-1", "a/b c", None);
        let host = "http://127.0.0.1:9000";
        check_s3(
            "s3:HTTP://127.0.0.1:9000/bucket/x",
            "s3:http://127.0.0.1:9000/bucket/x",
            "bucket",
            "x",
            Some(host),
        );
        let host = "https://s3.private.eu-de.cloud-object-storage.appdomain.cloud";
        check_s3("cos://eu-de/bucket/x", "cos://eu-de/bucket/x", "bucket", "x", Some(host));
        let host = "https://s3.private.us.cloud-object-storage.appdomain.cloud";
        check_s3("cos://us/bucket", "cos://us/bucket", "bucket", "", Some(host));
    }

    #[test]
    fn cloud_object_storage_is_known_by_its_host_too() {
        let is_cos = |text| match Location::parse(text).expect(text) {
            Location::S3(location) => location.is_cos(),
            Location::Local(_) => panic!("{text} is local"),
        };
        assert!(is_cos("cos://eu/bucket"));
        assert!(is_cos("s3:https://s3.us-south.cloud-object-storage.appdomain.cloud/bucket"));
        assert!(!is_cos("s3://bucket"));
        assert!(!is_cos("s3:https://cloud.example/bucket"));
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
