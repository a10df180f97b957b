//! The admin endpoint: what tests in other languages and people at a terminal use in place of the Rust API. JSON in, JSON out.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use s3s::{S3ErrorCode, S3Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cos;
use crate::error::SandboxError;
use crate::iam::Policy;
use crate::kms::{KeyPart, KmsKind, MasterKeySource};
use crate::records::OrInternal;
use crate::region::Region;
use crate::sandbox::NewBucket;
use crate::switches::Switches;

/// No body of this endpoint is longer.
const BODY_LEN_MAX: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewServiceId {
    name: String,
    policies: Vec<Policy>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfServiceId {
    service_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProfile {
    name: String,
    cr_token: String,
    service_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootKey {
    crn: String,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKmsInstance {
    name: String,
    kind: KmsKind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterKey {
    /// Texts of key parts.
    parts: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_s: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Expire {
    refresh_too: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    bucket: String,
    hard_quota: Option<u64>,
}

/// Answers a request.
pub(crate) async fn serve(region: &Region, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let bytes = match Limited::new(body, BODY_LEN_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return answer(StatusCode::BAD_REQUEST, &json!({"error": "the body could not be read"})),
    };
    match act(region, &head.method, head.uri.path(), &bytes).await {
        Ok(Some(value)) => answer(StatusCode::OK, &value),
        Ok(None) => answer(StatusCode::NOT_FOUND, &json!({"error": "there is no such call"})),
        Err(error) if *error.code() == S3ErrorCode::InternalError => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": cos::what(&error)}))
        }
        Err(error) => answer(StatusCode::BAD_REQUEST, &json!({"error": cos::what(&error)})),
    }
}

fn answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(value.to_string() + "\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> S3Result<T> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| s3s::S3Error::with_message(S3ErrorCode::InvalidArgument, error.to_string()))
}

fn invalid(error: SandboxError) -> s3s::S3Error {
    s3s::S3Error::with_message(S3ErrorCode::InvalidArgument, error.to_string())
}

async fn act(region: &Region, method: &Method, path: &str, body: &[u8]) -> S3Result<Option<Value>> {
    let (records, iam) = (region.records(), region.iam());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    Ok(Some(match (method.as_str(), parts.as_slice()) {
        ("GET", ["state"]) => json!({
            "now_ms": region.clock().now_ms(), "clock_added_ms": region.clock().added_ms(),
            "switches": region.switches(), "instance_id": region.instance(), "tokens_given": iam.token_count(),
            "actions": iam.used(),
        }),
        ("PUT", ["switches"]) => {
            let change: serde_json::Map<String, Value> = read(body)?;
            let mut all = serde_json::to_value(region.switches()).or_internal()?;
            if let Some(all) = all.as_object_mut() {
                all.extend(change);
            }
            let switches: Switches = read(all.to_string().as_bytes())?;
            region.switch(|there| *there = switches.clone())?;
            json!(switches)
        }
        ("POST", ["clock"]) => {
            let advance: Advance = read(body)?;
            region.advance(Duration::from_secs(advance.advance_s)).await?;
            json!({"now_ms": region.clock().now_ms()})
        }
        ("POST", ["tokens", "expire"]) => {
            let expire: Expire = read(body)?;
            iam.expire_tokens(records, expire.refresh_too)?;
            json!({})
        }
        ("POST", ["service-ids"]) => {
            let new: NewServiceId = read(body)?;
            json!({"id": iam.create_service_id(records, &new.name, &new.policies)?})
        }
        ("PUT", ["service-ids", id, "policies"]) => {
            let policies: Vec<Policy> = read(body)?;
            iam.set_policies(records, id, &policies)?;
            json!({})
        }
        ("POST", ["api-keys"]) => {
            let of: OfServiceId = read(body)?;
            json!({"api_key": iam.create_api_key(records, &of.service_id)?})
        }
        ("DELETE", ["api-keys", key]) => {
            iam.delete_api_key(records, key)?;
            json!({})
        }
        ("POST", ["hmac"]) => {
            let of: OfServiceId = read(body)?;
            json!(iam.create_hmac(records, &of.service_id, region.instance())?)
        }
        ("POST", ["profiles"]) => {
            let new: NewProfile = read(body)?;
            json!({"id": iam.create_profile(records, &new.name, &new.cr_token, &new.service_id)?})
        }
        ("PUT", ["root-keys"]) => {
            let key: RootKey = read(body)?;
            region.set_root_key(&key.crn, key.enabled)?;
            json!({})
        }
        ("POST", ["kms", "instances"]) => {
            let new: NewKmsInstance = read(body)?;
            let guid = region.kms().create_instance(&new.name, new.kind, region.clock().now_ms());
            json!({"instance_id": guid.map_err(invalid)?})
        }
        ("DELETE", ["kms", "instances", guid]) => {
            region.kms().remove_instance(guid).map_err(invalid)?;
            json!({})
        }
        ("PUT", ["kms", "instances", guid, "master-key"]) => {
            let key: MasterKey = read(body)?;
            let parts = key.parts.iter().map(|part| KeyPart::parse(part.as_bytes()));
            let parts = parts.collect::<Result<_, _>>().map_err(invalid)?;
            let source = MasterKeySource::Parts(parts);
            json!({"pattern": region.kms().load(guid, &source).map_err(invalid)?})
        }
        ("DELETE", ["kms", "instances", guid, "master-key"]) => {
            region.kms().unload(guid).map_err(invalid)?;
            json!({})
        }
        ("POST", ["buckets"]) => {
            let new: NewBucket = read(body)?;
            new.create(region)?;
            json!({})
        }
        ("PUT", ["quotas"]) => {
            let quota: Quota = read(body)?;
            cos::set_quota(records, &quota.bucket, quota.hard_quota)?;
            json!({})
        }
        _ => return Ok(None),
    }))
}
