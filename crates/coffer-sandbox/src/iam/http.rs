//! The token endpoint.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use s3s::S3Error;
use serde_json::json;

use super::token::Grant;
use crate::random;
use crate::region::Region;

/// No form of this endpoint is longer.
const FORM_LEN_MAX: usize = 64 * 1024;

/// Answers a request to IAM.
pub(crate) async fn serve(region: &Region, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if !matches!(path.as_str(), "/identity/token" | "/oidc/token") {
        return refusal(StatusCode::NOT_FOUND, "BXNIM0000E", "Not found", &path);
    }
    if request.method() != Method::POST {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "BXNIM0000E", "Method not allowed", &path);
    }
    if region.take_iam_unavailable() {
        let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, "BXNIM0500E", "Service unavailable", &path);
        if let Some(seconds) = region.switches().retry_after_s {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        return answer;
    }
    let Ok(body) = Limited::new(request.into_body(), FORM_LEN_MAX).collect().await else {
        return refusal(StatusCode::BAD_REQUEST, "BXNIM0106E", "The form could not be read", &path);
    };
    match token(region, &body.to_bytes()) {
        Ok(Ok(answer)) => answer,
        Ok(Err((code, message))) => refusal(StatusCode::BAD_REQUEST, code, message, &path),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "BXNIM0500E", "Internal error", &path),
    }
}

type Refusal = (&'static str, &'static str);

fn token(region: &Region, form: &[u8]) -> Result<Result<Response<Full<Bytes>>, Refusal>, S3Error> {
    let grant = match grant(form) {
        Ok(grant) => grant,
        Err(refused) => return Ok(Err(refused)),
    };
    let (records, now_ms, switches) = (region.records(), region.clock().now_ms(), region.switches());
    let Some(identity) = region.iam().identity(records, &grant, now_ms)? else {
        return Ok(Err(match grant {
            Grant::ApiKey(_) => ("BXNIM0415E", "Provided API key could not be found."),
            Grant::Refresh(_) => ("BXNIM0407E", "Provided refresh_token is invalid or expired."),
            Grant::ComputeResource { .. } => {
                ("BXNIM0439E", "The compute resource token fits no trusted profile.")
            }
        }));
    };
    let refreshes = !switches.is_refresh_unsupported;
    let given = region.iam().give(records, &identity, now_ms, switches.token_lifetime_s, refreshes)?;
    let body = json!({
        "access_token": given.access, "refresh_token": given.refresh, "token_type": "Bearer",
        "expires_in": given.lifetime_s, "expiration": given.expires_s, "scope": "ibm openid",
    });
    Ok(Ok(answer(StatusCode::OK, &body)))
}

fn grant(form: &[u8]) -> Result<Grant, Refusal> {
    let field = |name: &str| {
        form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let required =
        |name: &str| field(name).ok_or(("BXNIM0106E", "A property of the request is missing or not valid."));
    match field("grant_type").as_deref() {
        Some("urn:ibm:params:oauth:grant-type:apikey") => Ok(Grant::ApiKey(required("apikey")?)),
        Some("refresh_token") => Ok(Grant::Refresh(required("refresh_token")?)),
        Some("urn:ibm:params:oauth:grant-type:cr-token") => Ok(Grant::ComputeResource {
            cr_token: required("cr_token")?,
            profile_id: field("profile_id"),
            profile_name: field("profile_name"),
        }),
        _ => Err(("BXNIM0106E", "Property missing or not valid: grant_type.")),
    }
}

fn refusal(status: StatusCode, code: &str, message: &str, path: &str) -> Response<Full<Bytes>> {
    let body = json!({
        "errorCode": code, "errorMessage": message,
        "context": {"requestId": random::uuid(), "requestType": "incoming.Identity_Token", "url": path,
            "locale": "en_US", "clusterName": "sandbox"},
    });
    answer(status, &body)
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    if let Ok(id) = random::uuid().parse() {
        response.headers_mut().insert("transaction-id", id);
    }
    response
}
