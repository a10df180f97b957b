//! The calls of Cloud Object Storage that the SDK does not know, signed as it signs.
//!
//! They are made by path, and only at an endpoint that is known: AWS has none of them.

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_async::time::{SystemTimeSource, TimeSource};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::body::SdkBody;

use super::S3Store;
use super::client::sdk_keys;
use super::credentials::Credentials;
use super::failure::{Answer, RequestFailure, chain};
use crate::StoreError;

/// Longest answer that is read, in bytes.
const ANSWER_LEN_MAX: usize = 1 << 20;

/// A call beyond the SDK.
pub(super) struct RawRequest<'a> {
    pub(super) method: &'static str,
    /// The object's name, or the bucket.
    pub(super) name: Option<&'a str>,
    /// As `legalHold&add=x`; needs no encoding.
    pub(super) query: &'a str,
    pub(super) headers: &'a [(&'static str, String)],
}

/// What came back with success.
pub(super) struct RawAnswer {
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
}

impl S3Store {
    pub(super) async fn raw(&self, call: RawRequest<'_>) -> Result<RawAnswer, StoreError> {
        let name = call.name.unwrap_or(&self.location.bucket);
        let Some(endpoint) = &self.endpoint else {
            let what = "what only Cloud Object Storage has";
            return Err(StoreError::Unsupported { store: self.whom().store.clone(), what });
        };
        let mut url = format!("{endpoint}/{}", self.location.bucket);
        if let Some(name) = call.name {
            url.push('/');
            encode_into(&mut url, &self.full(name));
        }
        if !call.query.is_empty() {
            url.push('?');
            url.push_str(call.query);
        }
        let mut request = http::Request::builder().method(call.method).uri(url);
        for (header, value) in call.headers {
            request = request.header(*header, value);
        }
        let odd = |error: &dyn std::error::Error| self.odd(name, &error.to_string());
        let mut request = request.body(SdkBody::empty()).map_err(|error| odd(&error))?;
        self.sign(name, &mut request)?;
        let request = HttpRequest::try_from(request).map_err(|error| odd(&error))?;
        let response = self.transport.send(request).await.map_err(|error| {
            let failure = RequestFailure { message: chain(&error), ..RequestFailure::default() };
            self.whom().connection(name, &error, failure, self.transport.has_answered())
        })?;
        self.sides.clock().learn(response.headers(), SystemTimeSource::new().now());
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.collect(name, response.into_body()).await?;
        if (200..300).contains(&status) {
            return Ok(RawAnswer { headers, body });
        }
        let text = String::from_utf8_lossy(&body);
        let error = elements(&text);
        let of = |wanted: &str| {
            error.iter().find(|(element, _)| element == wanted).map(|(_, value)| value.as_str())
        };
        Err(self.whom().answer(name, Answer::new(status, &headers, of("Code"), of("Message"))))
    }

    fn sign(&self, name: &str, request: &mut http::Request<SdkBody>) -> Result<(), StoreError> {
        let Credentials::Keys(keys) = &self.credentials else { return Ok(()) };
        let identity = sdk_keys(keys).into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let odd = |error: &dyn std::error::Error| self.odd(name, &error.to_string());
        let params: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.sides.current().region)
            .name("s3")
            .time(SystemTimeSource::new().now())
            .settings(settings)
            .build()
            .map_err(|error| odd(&error))?
            .into();
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()));
        let uri = request.uri().to_string();
        let body = SignableBody::Bytes(&[]);
        let signable = SignableRequest::new(request.method().as_str(), uri, headers, body);
        let signed = sign(signable.map_err(|error| odd(&error))?, &params).map_err(|error| odd(&error))?;
        signed.into_parts().0.apply_to_request_http1x(request);
        Ok(())
    }

    async fn collect(&self, name: &str, body: SdkBody) -> Result<Vec<u8>, StoreError> {
        let mut body = aws_sdk_s3::primitives::ByteStream::new(body);
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| {
                let failure = RequestFailure { message: chain(&error), ..RequestFailure::default() };
                self.whom().unavailable(name, failure)
            })?;
            if bytes.len() + piece.len() > ANSWER_LEN_MAX {
                return Err(self.odd(name, "the answer is too long"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// Every element of a small document with its own text, in order; its root comes first. Nothing, if it is no XML.
pub(super) fn elements(text: &str) -> Vec<(String, String)> {
    let Ok(document) = roxmltree::Document::parse(text) else { return Vec::new() };
    let elements = document.root().descendants().filter(roxmltree::Node::is_element);
    let text = |node: roxmltree::Node<'_, '_>| node.text().unwrap_or_default().trim().to_owned();
    elements.map(|node| (node.tag_name().name().to_owned(), text(node))).collect()
}

/// Encodes a path as S3 does for signatures: everything but letters, digits, `-._~` and `/`.
fn encode_into(url: &mut String, path: &str) {
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                url.push(byte.into())
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
}
