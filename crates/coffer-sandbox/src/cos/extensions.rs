//! The calls that only IBM has: buckets with their locations, retention policies, legal holds by id, longer retention.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;
use s3s::path::{S3Path, parse_path_style};
use s3s::route::S3Route;
use s3s::{Body, S3ErrorCode, S3Request, S3Response, S3Result};
use serde::Deserialize;

use super::access::Gate;
use super::buckets::{instance_of, is_empty, of_instance, update};
use super::model::{Bucket, Protection, Versioning};
use super::protect;
use super::service::Service;
use super::store::Change;
use super::text::{escaped, http_date, invalid, iso_date, refuse};
use crate::iam::Caller;

/// No body of these calls is longer.
const BODY_LEN_MAX: usize = 64 * 1024;
/// The longest retention, in days.
const RETENTION_DAYS_MAX: u32 = 36_135;

/// Answers them.
pub(super) struct Extra {
    pub(super) service: Service,
    pub(super) gate: Arc<Gate>,
}

fn query(uri: &Uri, name: &str) -> Option<String> {
    let text = uri.query().unwrap_or_default();
    form_urlencoded::parse(text.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[async_trait::async_trait]
impl S3Route for Extra {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        let has = |name| query(uri, name).is_some();
        let reads_or_posts = *method == Method::GET || *method == Method::POST;
        let reads_or_puts = *method == Method::GET || *method == Method::PUT;
        (*method == Method::GET && uri.path() == "/" && has("extended"))
            || (reads_or_puts && has("protection"))
            || (reads_or_posts && has("legalHold"))
            || (*method == Method::POST && has("extendRetention"))
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result<()> {
        let access_key = request.credentials.as_ref().map(|credentials| &*credentials.access_key);
        let caller = self.gate.caller(&request.extensions, access_key)?;
        let is_read = request.method == Method::GET;
        let has = |name| query(&request.uri, name).is_some();
        let action = match () {
            () if has("extended") => "cloud-object-storage.account.get_account_buckets",
            () if has("protection") && is_read => "cloud-object-storage.bucket.get_protection",
            () if has("protection") => "cloud-object-storage.bucket.put_protection",
            () if has("legalHold") && is_read => "cloud-object-storage.object.get_legal_hold",
            () if has("legalHold") => "cloud-object-storage.object.post_legal_hold",
            () => "cloud-object-storage.object.post_extend_retention",
        };
        self.gate.require(&caller, action, path(&request.uri)?.get_bucket_name(), &request.headers)?;
        request.extensions.insert(caller);
        Ok(())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let has = |name| query(&request.uri, name).is_some();
        let is_read = request.method == Method::GET;
        let path = path(&request.uri)?;
        match (&path, is_read) {
            (S3Path::Root, true) => self.buckets_with_locations(&request),
            (S3Path::Bucket { bucket }, true) if has("protection") => self.protection(bucket),
            (S3Path::Bucket { bucket }, false) if has("protection") => {
                self.set_protection(bucket, request.input).await
            }
            (S3Path::Object { bucket, key }, true) if has("legalHold") => self.holds(bucket, key),
            (S3Path::Object { bucket, key }, false) if has("legalHold") => {
                self.change_holds(bucket, key, query(&request.uri, "add"), query(&request.uri, "remove"))
            }
            (S3Path::Object { bucket, key }, false) if has("extendRetention") => {
                self.extend(bucket, key, &request.headers)
            }
            _ => Err(refuse(S3ErrorCode::MethodNotAllowed, "there is no such call")),
        }
    }
}

fn path(uri: &Uri) -> S3Result<S3Path> {
    let decoded = percent_decode_str(uri.path()).decode_utf8();
    let path = decoded.ok().and_then(|path| parse_path_style(&path).ok());
    path.ok_or_else(|| refuse(S3ErrorCode::InvalidURI, "Couldn't parse the specified URI."))
}

fn xml(text: String) -> S3Response<Body> {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{text}");
    let mut response = S3Response::new(Body::from(Bytes::from(body)));
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

fn done() -> S3Response<Body> {
    S3Response::with_status(Body::empty(), StatusCode::OK)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AskedProtection {
    status: String,
    minimum_retention: Option<Days>,
    default_retention: Option<Days>,
    maximum_retention: Option<Days>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Days {
    days: u32,
}

impl Extra {
    fn buckets_with_locations(&self, request: &S3Request<Body>) -> S3Result<S3Response<Body>> {
        let caller = request.extensions.get::<Caller>();
        let instance = instance_of(&self.service.region, caller, &request.headers)?;
        let marker = query(&request.uri, "marker").unwrap_or_default();
        let prefix = query(&request.uri, "prefix").unwrap_or_default();
        let count: usize = match query(&request.uri, "max-keys").map(|text| text.parse()) {
            Some(Ok(count)) => usize::min(count, 1000),
            Some(Err(_)) => return invalid("max-keys is not a number"),
            None => 1000,
        };
        let all = of_instance(&self.service.region, &instance)?;
        let mut rest = all
            .into_iter()
            .filter(|bucket| bucket.name > marker && bucket.name.starts_with(&prefix))
            .peekable();
        let page: Vec<Bucket> = rest.by_ref().take(count).collect();
        let is_truncated = rest.peek().is_some();
        let mut text = format!(
            "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Owner><ID>{0}</ID><DisplayName>{0}</DisplayName></Owner><IsTruncated>{is_truncated}</IsTruncated>\
             <MaxKeys>{count}</MaxKeys><Prefix>{1}</Prefix><Marker>{2}</Marker>",
            escaped(&instance),
            escaped(&prefix),
            escaped(&marker),
        );
        if let Some(last) = page.last().filter(|_| is_truncated) {
            text += &format!("<NextMarker>{}</NextMarker>", last.name);
        }
        text += "<Buckets>";
        for bucket in &page {
            text += &format!(
                "<Bucket><Name>{}</Name><CreationDate>{}</CreationDate><LocationConstraint>{}</LocationConstraint></Bucket>",
                bucket.name,
                iso_date(bucket.created_ms),
                bucket.location_constraint(),
            );
        }
        Ok(xml(text + "</Buckets></ListAllMyBucketsResult>"))
    }

    fn protection(&self, name: &str) -> S3Result<S3Response<Body>> {
        let bucket = self.service.bucket(name)?;
        let (state, inner) = match bucket.protection {
            None => ("Disabled", "<Status>Disabled</Status>".to_owned()),
            Some(policy) => (
                "Retention",
                format!(
                    "<Status>Retention</Status><MinimumRetention><Days>{}</Days></MinimumRetention>\
                     <DefaultRetention><Days>{}</Days></DefaultRetention>\
                     <MaximumRetention><Days>{}</Days></MaximumRetention>",
                    policy.minimum_days, policy.default_days, policy.maximum_days
                ),
            ),
        };
        let mut response = xml(format!("<ProtectionConfiguration>{inner}</ProtectionConfiguration>"));
        response.headers.insert("x-ibm-protection-management-state", HeaderValue::from_static(state));
        Ok(response)
    }

    async fn set_protection(&self, name: &str, body: Body) -> S3Result<S3Response<Body>> {
        self.service.bucket(name)?;
        let malformed = || refuse(S3ErrorCode::MalformedXML, "the protection configuration is not valid");
        let bytes = Limited::new(body, BODY_LEN_MAX).collect().await.map_err(|_| malformed())?.to_bytes();
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
        let asked: AskedProtection = quick_xml::de::from_str(text).map_err(|_| malformed())?;
        if asked.status != "Retention" {
            return invalid("a retention policy cannot be taken away");
        }
        let (Some(minimum), Some(default), Some(maximum)) =
            (asked.minimum_retention, asked.default_retention, asked.maximum_retention)
        else {
            return Err(malformed());
        };
        let is_ordered = minimum.days <= default.days && default.days <= maximum.days;
        if !is_ordered || maximum.days > RETENTION_DAYS_MAX {
            return invalid(format!("minimum <= default <= maximum <= {RETENTION_DAYS_MAX} days"));
        }
        let is_empty = is_empty(self.service.region.records(), name)?;
        update(self.service.region.records(), name, |bucket| {
            if bucket.versioning != Versioning::Never {
                return Err(refuse(
                    S3ErrorCode::InvalidBucketState,
                    "a bucket with versions cannot have a retention policy",
                ));
            }
            if bucket.protection.is_none() && !is_empty {
                return Err(refuse(S3ErrorCode::InvalidBucketState, "the bucket is not empty"));
            }
            bucket.protection = Some(Protection {
                minimum_days: minimum.days,
                default_days: default.days,
                maximum_days: maximum.days,
            });
            Ok(())
        })?;
        Ok(done())
    }

    fn holds(&self, bucket: &str, key: &str) -> S3Result<S3Response<Body>> {
        let bucket = self.service.bucket(bucket)?;
        let version = self.service.version(&bucket, key, None)?;
        let mut text = format!("<RetentionState><CreateTime>{}</CreateTime>", http_date(version.created_ms));
        if let Some(retention) = version.retention {
            text += &format!(
                "<RetentionPeriod>{}</RetentionPeriod>\
                 <RetentionPeriodExpirationDate>{}</RetentionPeriodExpirationDate>",
                retention.period_s,
                http_date(retention.until_ms)
            );
        }
        text += "<LegalHoldSet>";
        for hold in &version.holds {
            let (id, date) = (escaped(&hold.id), http_date(hold.since_ms));
            text += &format!("<LegalHold><ID>{id}</ID><Date>{date}</Date></LegalHold>");
        }
        Ok(xml(text + "</LegalHoldSet></RetentionState>"))
    }

    fn change_holds(
        &self,
        bucket: &str,
        key: &str,
        add: Option<String>,
        remove: Option<String>,
    ) -> S3Result<S3Response<Body>> {
        self.service.bucket(bucket)?;
        let region = &self.service.region;
        let now_ms = region.clock().now_ms();
        let mut change = Change::begin(region.records(), bucket, now_ms)?;
        change.update(key, None, |bucket, version| {
            if bucket.protection.is_none() {
                return Err(refuse(S3ErrorCode::InvalidRequest, "the bucket has no retention policy"));
            }
            match (add, remove) {
                (Some(id), None) => {
                    let hold = protect::new_hold(id, now_ms)?;
                    if version.holds.iter().any(|there| there.id == hold.id) {
                        return Err(refuse(S3ErrorCode::OperationAborted, "the legal hold is there already"));
                    }
                    if version.holds.len() == protect::HOLD_COUNT_MAX {
                        return invalid("an object has at most 100 legal holds");
                    }
                    version.holds.push(hold);
                }
                (None, Some(id)) => {
                    let before = version.holds.len();
                    version.holds.retain(|there| there.id != id);
                    if version.holds.len() == before {
                        return invalid("there is no such legal hold");
                    }
                }
                _ => return invalid("a legal hold is added or removed"),
            }
            Ok(())
        })?;
        change.commit()?;
        Ok(done())
    }

    fn extend(&self, bucket: &str, key: &str, headers: &HeaderMap) -> S3Result<S3Response<Body>> {
        self.service.bucket(bucket)?;
        let region = &self.service.region;
        let now_ms = region.clock().now_ms();
        let mut change = Change::begin(region.records(), bucket, now_ms)?;
        change.update(key, None, |bucket, version| protect::extend(bucket, version, headers, now_ms))?;
        change.commit()?;
        Ok(done())
    }
}
