//! What a request is in the terms of S3, and what is recorded of it.

use std::fmt;

use super::NetworkFault;
use super::message::Head;

/// What a request asks for. Buckets are addressed by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// An object is written in one request.
    Put,
    /// An upload in parts begins.
    BeginParts,
    /// A part is written.
    Part,
    /// Parts become an object.
    CompleteParts,
    /// Parts are thrown away.
    AbortParts,
    /// An object, or a range of it, is read.
    Get,
    /// The metadata of an object is read.
    Head,
    /// Names are listed.
    List,
    /// Versions are listed.
    ListVersions,
    /// One object or several are deleted.
    Delete,
    /// Something is asked of the bucket itself.
    Bucket,
    /// An access token is asked for.
    Token,
    /// Anything else, as retentions and holds.
    Other,
}

impl RequestKind {
    fn of(method: &str, path: &str, query: &str) -> Self {
        let has = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        let has_any = |names: &[&str]| names.iter().any(|name| has(name));
        let (_, key) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let is_object = !key.is_empty();
        match method {
            "POST" if matches!(path, "/identity/token" | "/oidc/token") => Self::Token,
            "POST" if has("uploads") => Self::BeginParts,
            "POST" if has("uploadId") => Self::CompleteParts,
            "POST" if has("delete") => Self::Delete,
            "PUT" if has("partNumber") => Self::Part,
            "DELETE" if has("uploadId") => Self::AbortParts,
            "DELETE" if is_object => Self::Delete,
            "GET" if !is_object && has("versions") => Self::ListVersions,
            "GET" if !is_object && (has_any(&["list-type", "prefix", "delimiter"]) && !has("uploads")) => {
                Self::List
            }
            "GET" | "HEAD" | "PUT" if !is_object => Self::Bucket,
            _ if has_any(&["retention", "legal-hold", "tagging", "acl", "restore", "attributes"]) => {
                Self::Other
            }
            "PUT" => Self::Put,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "PUT",
            Self::BeginParts => "begin parts",
            Self::Part => "PUT part",
            Self::CompleteParts => "complete parts",
            Self::AbortParts => "abort parts",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::List => "LIST",
            Self::ListVersions => "LIST versions",
            Self::Delete => "DELETE",
            Self::Bucket => "bucket",
            Self::Token => "token",
            Self::Other => "other",
        })
    }
}

/// A request, as a plan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number, counted from 0 since the plan was set.
    pub index: u64,
    /// What it asks for.
    pub kind: RequestKind,
    /// `GET`, `PUT` …
    pub method: String,
    /// The path, percent-encoded as it came.
    pub path: String,
    /// What stands behind the question mark, as it came.
    pub query: String,
    /// Whether it is to do nothing if an object of that name is there: `If-None-Match: *`.
    pub is_if_absent: bool,
    /// The checksum that it brings of its body: `content-md5`, `x-amz-checksum-…`, or `x-amz-trailer` for one that comes behind.
    pub checksum: Option<&'static str>,
}

/// Headers by which a request brings a checksum, in the order in which they are looked for.
const CHECKSUMS: [&str; 7] = [
    "x-amz-trailer",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "content-md5",
];

impl Request {
    pub(super) fn of(head: &Head) -> Self {
        let mut words = head.first_line();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let kind = RequestKind::of(&method, path, query);
        let is_if_absent = head.field("if-none-match") == Some("*");
        let checksum = CHECKSUMS.into_iter().find(|name| head.field(name).is_some());
        Self {
            index: 0,
            kind,
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            is_if_absent,
            checksum,
        }
    }

    /// Path and query.
    pub(super) fn target(&self) -> String {
        format!("{}?{}", self.path, self.query)
    }
}

/// A request and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// The request.
    pub request: Request,
    /// What happened to it.
    pub fault: Option<NetworkFault>,
    /// Status that the client was sent; `None` if it was sent none.
    pub status: Option<u16>,
    /// Bytes of the body that came from the client.
    pub sent_bytes: u64,
    /// Bytes of the body that went to the client.
    pub received_bytes: u64,
}

/// Requests and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Total {
    /// Requests.
    pub request_count: u64,
    /// Bytes of bodies that came from the client.
    pub sent_bytes: u64,
    /// Bytes of bodies that went to the client.
    pub received_bytes: u64,
}

impl Total {
    pub(super) fn add(&mut self, exchange: &Exchange) {
        self.request_count += 1;
        self.sent_bytes += exchange.sent_bytes;
        self.received_bytes += exchange.received_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        use RequestKind as Kind;
        let check = |method, target: &str, expected| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            assert_eq!(RequestKind::of(method, path, query), expected, "{method} {target}");
        };
        check("PUT", "/bucket/vault/packs/aa", Kind::Put);
        check("PUT", "/bucket/a?x-id=PutObject", Kind::Put);
        check("PUT", "/bucket/a?partNumber=1&uploadId=u&x-id=UploadPart", Kind::Part);
        check("POST", "/bucket/a?uploads", Kind::BeginParts);
        check("POST", "/bucket/a?uploadId=u", Kind::CompleteParts);
        check("DELETE", "/bucket/a?uploadId=u", Kind::AbortParts);
        check("DELETE", "/bucket/a", Kind::Delete);
        check("POST", "/bucket?delete", Kind::Delete);
        check("GET", "/bucket/a?x-id=GetObject", Kind::Get);
        check("HEAD", "/bucket/a", Kind::Head);
        check("HEAD", "/bucket", Kind::Bucket);
        check("GET", "/bucket/?list-type=2&prefix=log%2F", Kind::List);
        check("GET", "/bucket?versions&prefix=a", Kind::ListVersions);
        check("GET", "/bucket/?location", Kind::Bucket);
        check("PUT", "/bucket/a?retention", Kind::Other);
        check("POST", "/identity/token", Kind::Token);
    }
}
