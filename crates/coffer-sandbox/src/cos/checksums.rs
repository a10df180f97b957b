//! Checksums: what a client sends is compared with what arrived, and kept to be given back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumType};
use s3s::{S3ErrorCode, S3Result};

use super::bodies::NewBody;
use super::chunked::Trailers;
use super::model::Checksums;
use super::text::refuse;
use crate::switches::{ChecksumMode, Switches};

const HEADER: &str = "x-amz-checksum-";

impl From<Checksum> for Checksums {
    fn from(sums: Checksum) -> Self {
        Self {
            crc32: sums.checksum_crc32,
            crc32c: sums.checksum_crc32c,
            crc64nvme: sums.checksum_crc64nvme,
            sha1: sums.checksum_sha1,
            sha256: sums.checksum_sha256,
            is_composite: false,
        }
    }
}

impl Checksums {
    /// By the name of the algorithm, in small letters.
    pub(crate) fn of(&self, algorithm: &str) -> Option<&String> {
        match algorithm {
            "crc32" => self.crc32.as_ref(),
            "crc32c" => self.crc32c.as_ref(),
            "crc64nvme" => self.crc64nvme.as_ref(),
            "sha1" => self.sha1.as_ref(),
            "sha256" => self.sha256.as_ref(),
            _ => None,
        }
    }

    fn set(&mut self, algorithm: &str, sum: String) {
        match algorithm {
            "crc32" => self.crc32 = Some(sum),
            "crc32c" => self.crc32c = Some(sum),
            "crc64nvme" => self.crc64nvme = Some(sum),
            "sha1" => self.sha1 = Some(sum),
            "sha256" => self.sha256 = Some(sum),
            _ => {}
        }
    }

    /// What kind they are, if there is one.
    pub(crate) fn kind(&self) -> Option<ChecksumType> {
        let is_any = ALGORITHMS.iter().any(|algorithm| self.of(algorithm).is_some());
        let kind = if self.is_composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT };
        is_any.then(|| ChecksumType::from_static(kind))
    }
}

const ALGORITHMS: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];

/// A hasher for what the headers of a request name: sums in headers, sums to come in trailers, an algorithm.
pub(crate) fn hasher(headers: &HeaderMap) -> ChecksumHasher {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let trailers = text("x-amz-trailer").to_ascii_lowercase();
    let named = text("x-amz-sdk-checksum-algorithm").to_ascii_lowercase();
    let mut hasher = ChecksumHasher::default();
    for algorithm in ALGORITHMS {
        let header = format!("{HEADER}{algorithm}");
        if headers.contains_key(&header)
            || trailers.split(',').any(|one| one.trim() == header)
            || named == algorithm
        {
            add(&mut hasher, algorithm);
        }
    }
    hasher
}

/// A hasher for one algorithm.
pub(crate) fn hasher_of(algorithm: &str) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    add(&mut hasher, &algorithm.to_ascii_lowercase());
    hasher
}

/// Lets a hasher make one more sum.
pub(crate) fn add(hasher: &mut ChecksumHasher, algorithm: &str) {
    match algorithm {
        "crc32" => hasher.crc32 = Some(Crc32::new()),
        "crc32c" => hasher.crc32c = Some(Crc32c::new()),
        "crc64nvme" => hasher.crc64nvme = Some(Crc64Nvme::new()),
        "sha1" => hasher.sha1 = Some(Sha1::new()),
        "sha256" => hasher.sha256 = Some(Sha256::new()),
        _ => {}
    }
}

/// Compares what arrived with the sums of the headers and trailers, and with the length.
pub(crate) fn check(
    body: &NewBody,
    headers: &HeaderMap,
    trailers: Option<&Trailers>,
    len: Option<i64>,
) -> S3Result<()> {
    if len.is_some_and(|len| u64::try_from(len) != Ok(body.len)) {
        return Err(refuse(S3ErrorCode::IncompleteBody, "the body is not as long as announced"));
    }
    if let Some(expected) = headers.get("content-md5") {
        let expected = expected.to_str().unwrap_or_default();
        if STANDARD.encode(body.md5) != expected {
            let is_md5 = expected.len() == 24 && expected.ends_with("==");
            let code = if is_md5 { S3ErrorCode::BadDigest } else { S3ErrorCode::InvalidDigest };
            return Err(refuse(code, "the Content-MD5 is not that of the body"));
        }
    }
    let trailers = trailers.map(Trailers::headers).unwrap_or_default();
    for algorithm in ALGORITHMS {
        let name = format!("{HEADER}{algorithm}");
        let expected = headers.get(&name).or_else(|| trailers.get(&name)).and_then(|sum| sum.to_str().ok());
        if let (Some(expected), Some(sum)) = (expected, body.checksums.of(algorithm))
            && expected != sum
        {
            return Err(refuse(S3ErrorCode::BadDigest, format!("the {name} is not that of the body")));
        }
    }
    Ok(())
}

/// Compares the sum of a whole object with what the headers of a request say it is.
pub(crate) fn check_whole(sums: &Checksums, headers: &HeaderMap) -> S3Result<()> {
    for algorithm in ALGORITHMS {
        let expected = headers.get(format!("{HEADER}{algorithm}")).and_then(|sum| sum.to_str().ok());
        if let (Some(expected), Some(sum)) = (expected, sums.of(algorithm))
            && expected != sum
        {
            return Err(refuse(S3ErrorCode::BadDigest, "the checksum is not that of the object"));
        }
    }
    Ok(())
}

/// The headers of a write as they count under these switches. One that needs a sum and has none is refused.
pub(crate) fn counting(headers: &HeaderMap, switches: &Switches) -> S3Result<HeaderMap> {
    if switches.is_checksum_demanded && !has_sum(headers) {
        let message = "Content-MD5 OR x-amz-checksum- HTTP header is required for this bucket";
        return Err(refuse(S3ErrorCode::InvalidRequest, message));
    }
    let mut headers = headers.clone();
    if switches.checksum_mode == ChecksumMode::Ignored {
        let names: Vec<_> = headers.keys().filter(|name| is_of_sum(name.as_str())).cloned().collect();
        names.iter().for_each(|name| drop(headers.remove(name)));
    }
    Ok(headers)
}

/// Whether a request brings, announces or names a checksum of S3.
pub(crate) fn is_named(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_of_sum(name.as_str()))
}

fn is_of_sum(name: &str) -> bool {
    // The mode is a question of who reads.
    let is_sum = name.starts_with(HEADER) && name != "x-amz-checksum-mode";
    is_sum || matches!(name, "x-amz-trailer" | "x-amz-sdk-checksum-algorithm")
}

/// Whether a request brings a sum of its body.
pub(crate) fn has_sum(headers: &HeaderMap) -> bool {
    headers.contains_key("content-md5")
        || headers.contains_key("x-amz-trailer")
        || headers.keys().any(|name| name.as_str().starts_with(HEADER))
}

/// The ETag of an object made of parts, from theirs.
pub(crate) fn etag_of_parts(etags: &[String]) -> String {
    let mut md5 = Md5::new();
    for etag in etags {
        let digits: Vec<u8> = (0..etag.len() / 2)
            .filter_map(|position| u8::from_str_radix(etag.get(2 * position..2 * position + 2)?, 16).ok())
            .collect();
        md5.update(&digits);
    }
    format!("{}-{}", super::bodies::hex(&md5.finalize()), etags.len())
}

/// The sum over the sums of parts, if each part has one.
pub(crate) fn composite(algorithm: &str, parts: &[Checksums]) -> Option<Checksums> {
    let algorithm = algorithm.to_ascii_lowercase();
    let mut hasher = hasher_of(&algorithm);
    for part in parts {
        hasher.update(&STANDARD.decode(part.of(&algorithm)?).ok()?);
    }
    let whole = Checksums::from(hasher.finalize());
    let mut sums = Checksums { is_composite: true, ..Checksums::default() };
    sums.set(&algorithm, format!("{}-{}", whole.of(&algorithm)?, parts.len()));
    Some(sums)
}
