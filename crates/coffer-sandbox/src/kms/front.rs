//! Requests come in, answers go out; and who calls, in the simulated region.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::answer::{Refusal, Reply};
use super::desk::Call;
use crate::iam::Place;
use crate::listener::Peer;
use crate::random;
use crate::region::Region;
use crate::switches::{KmsGone, TokenRefusal};

/// No body is longer.
const BODY_LEN_MAX: usize = 256 * 1024;
/// No body takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const BASE: &str = "/api/v2";
const UNWRAP: &str = "kms.secrets.unwrap";

/// A request that was read.
pub(super) struct Heard {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) peer: Option<IpAddr>,
}

impl Heard {
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, Refusal> {
        let (head, body) = request.into_parts();
        let body = tokio::time::timeout(PATIENCE, Limited::new(body, BODY_LEN_MAX).collect()).await;
        let body = body.map_err(|_| Refusal::short(408, "The body took too long"))?;
        let body = body.map_err(|_| Refusal::body("it could not be read, or is too long"))?.to_bytes();
        Ok(Self {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            peer: head.extensions.get::<Peer>().map(|peer| peer.0),
            headers: head.headers,
            body,
        })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
    }

    /// The token that the caller shows.
    pub(super) fn bearer(&self) -> Option<&str> {
        let (kind, token) = self.header(AUTHORIZATION.as_str())?.split_once(' ')?;
        kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// The id that the caller gave the call, if it may be repeated; else a new one.
    pub(super) fn correlation(&self) -> String {
        let given = self.header("correlation-id").or_else(|| self.header("x-correlation-id"));
        let is_plain = |text: &&str| {
            text.len() <= 64
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        given.filter(is_plain).map_or_else(random::uuid, str::to_owned)
    }

    /// The path behind that of the API.
    pub(super) fn api_path(&self) -> Option<&str> {
        self.path.strip_prefix(BASE).filter(|rest| rest.starts_with('/'))
    }

    /// The instance that the call names.
    pub(super) fn instance(&self) -> Result<&str, Refusal> {
        let missing = || Refusal::short(400, "The header Bluemix-Instance is required");
        self.header("bluemix-instance").ok_or_else(missing)
    }
}

/// A reply as HTTP has it.
pub(super) fn written(reply: Reply, correlation: &str) -> Response<Full<Bytes>> {
    let body = reply.body.map(|body| Bytes::from(body.to_string()));
    let has_body = body.is_some();
    let mut response = Response::new(Full::from(body.unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if reply.status == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"key service\""));
    }
    if let Ok(id) = HeaderValue::from_str(correlation) {
        headers.insert("correlation-id", id.clone());
        headers.insert("x-global-transaction-id", id);
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Answers a request to the region.
pub(crate) async fn serve(
    region: &Arc<Region>,
    is_private: bool,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let delay_ms = region.switches().kms_delay_ms;
    if delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    let heard = match Heard::read(request).await {
        Ok(heard) => heard,
        Err(refusal) => return written(refusal.answer(""), &random::uuid()),
    };
    let correlation = heard.correlation();
    let (region, id) = (Arc::clone(region), correlation.clone());
    let answered = tokio::task::spawn_blocking(move || answer(&region, is_private, &heard, id)).await;
    let reply = match answered {
        Ok(Ok(reply)) => reply,
        Ok(Err(refusal)) => refusal.answer(""),
        Err(_) => Refusal::short(500, "key service").answer(""),
    };
    written(reply, &correlation)
}

/// The failures that are switched on.
fn switched(region: &Region, guid: &str) -> Result<(), (Refusal, Option<u64>)> {
    if let Some(gone) = region.switches().kms_gone.get(guid) {
        let (status, message) = match gone {
            KmsGone::NotFound => (404, "The instance does not exist"),
            KmsGone::Gone => (410, "The instance is gone"),
        };
        return Err((Refusal::short(status, message), None));
    }
    if region.take_kms_too_many() {
        let after = region.switches().retry_after_s;
        return Err((Refusal::short(429, "Too many requests"), after));
    }
    if region.take_kms_failure() {
        return Err((Refusal::short(500, "The service failed"), None));
    }
    Ok(())
}

fn answer(region: &Region, is_private: bool, heard: &Heard, correlation: String) -> Result<Reply, Refusal> {
    let path = heard.api_path().ok_or_else(|| Refusal::short(404, "There is no such endpoint"))?;
    let guid = heard.instance()?;
    if let Err((refusal, after)) = switched(region, guid) {
        let mut reply = refusal.answer("");
        reply.headers.extend(after.map(|seconds| (RETRY_AFTER.as_str(), seconds.to_string())));
        return Ok(reply);
    }
    let now_ms = region.clock().now_ms();
    let token = heard.bearer().unwrap_or_default();
    let caller = region.iam().bearer(region.records(), token, now_ms);
    let caller = caller.map_err(|_| Refusal::internal("identities"))?;
    let caller = caller.ok_or_else(|| region.kms().refuse(guid, &correlation, now_ms))?;
    let switches = region.switches();
    let allows = |action: &str, key: Option<&str>| {
        let place = Place { instance: Some(guid), bucket: None, key };
        !(switches.is_unwrap_denied && action == UNWRAP)
            && region.iam().authorize(region.records(), &caller, action, place).is_ok()
    };
    let registrations =
        crate::cos::registrations(region.records(), guid).map_err(|_| Refusal::internal("buckets"))?;
    let call = Call {
        method: &heard.method,
        path,
        query: &heard.query,
        headers: &heard.headers,
        body: &heard.body,
        guid,
        identity: &caller.service_id,
        allows: &allows,
        correlation,
        now_ms,
        peer: heard.peer,
        is_private,
        private_port: region.kms_private_port(),
        aad: switches.kms_aad,
        registrations: &registrations,
    };
    let mut reply = region.kms().handle(&call);
    // A switch says how a caller is refused whose policies do not allow an action.
    if reply.status == 401 && switches.kms_denial == TokenRefusal::Forbidden {
        reply = Refusal { status: 403, ..Refusal::unauthorized() }.answer("");
    }
    Ok(reply)
}
