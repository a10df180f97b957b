//! A store on S3 or Cloud Object Storage.
//!
//! Every request is made once: what may pass fails as [`StoreError::Unavailable`] and is for
//! [`RetryStore`](crate::RetryStore) to make again. Which checksums uploads bring follows from what is known of the store
//! ([`UploadFacts`]); a write that is refused for the one it has, or for want of one, is made again in another form. Objects are created under the condition that none of their name is there, large
//! ones in parts that become one object at once. Large reads are made of ranges side by side. Nothing here rests on the
//! order of a listing or on an `ETag` being a hash. A bucket that turns out to be in another region is asked there.
//!
//! The asynchronous runtime of the SDK is inside; no thread of a runtime may call.

mod bearer;
mod client;
mod clock;
mod cloud;
mod credentials;
mod download;
mod failure;
mod list;
mod raw;
mod region;
mod sums;
mod transport;
mod upload;
mod versions;

use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::runtime::Runtime;

pub use bearer::{BearerSource, BearerToken, TokenError, TokenFault};
pub use credentials::{ApiKey, AwsKeys, AwsSettings, CosCredentials, Credentials};
pub use failure::RequestFailure;

use crate::url::check_endpoint;
use crate::{
    Attempt, Checksums, CloudStore, ListItem, Network, ObjectKey, ObjectStat, ObjectStore, PutOutcome,
    RateLimit, RequestCounter, S3Location, S3Place, StoreError, UploadMemory,
};
use download::Source;
use failure::Whom;
use list::{Pages, made, once};
use region::Sides;
use sums::Uploads;
use transport::Transport;
use upload::Put;
use versions::Shown;

/// Threads that the connections share.
const WORKER_COUNT: usize = 2;

/// Requests that are worth making at a time: at 30 ms each and 32 MiB a pack, far more than a line carries. The limiter of requests
/// goes beyond it for the parts of large objects, and below it where the store asks for that.
const PARALLELISM: usize = 16;

/// How a store is reached.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Who asks.
    pub credentials: Credentials,
    /// URL of the service, in place of the one that follows from the location.
    pub endpoint: Option<String>,
    /// From which network Cloud Object Storage is asked.
    pub network: Network,
    /// Region of AWS, or the one in signatures for another service.
    pub region: Option<String>,
    /// Whether a bucket that is in another region is an error, and not asked there.
    pub is_region_fixed: bool,
    /// Which checksums uploads bring.
    pub checksums: Checksums,
    /// Where it is kept what the store was found to do with uploads.
    pub upload_memory: Option<Arc<dyn UploadMemory>>,
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca_cert: Option<Vec<u8>>,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are followed.
    pub use_proxies: bool,
    /// Bounds the bytes of bodies that are sent, by all stores that share it.
    pub upload_rate: Option<Arc<RateLimit>>,
    /// Bounds the bytes of bodies that come.
    pub download_rate: Option<Arc<RateLimit>>,
    /// How long a transfer may stand still.
    pub stall_timeout: Duration,
    /// Length of the parts of an object of at least twice that length, in bytes; at least 5 MiB, which S3 demands.
    pub part_len: usize,
    /// Counts every request on the wire.
    pub counter: RequestCounter,
}

impl S3Options {
    /// Nothing out of the ordinary.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            endpoint: None,
            network: Network::Public,
            region: None,
            is_region_fixed: false,
            checksums: Checksums::Auto,
            upload_memory: None,
            ca_cert: None,
            use_proxies: true,
            upload_rate: None,
            download_rate: None,
            stall_timeout: Duration::from_secs(30),
            part_len: 16 << 20,
            counter: RequestCounter::default(),
        }
    }
}

/// Shortest part that S3 takes, the last one aside.
const PART_LEN_MIN: usize = 5 << 20;

/// A prefix in a bucket.
pub struct S3Store {
    runtime: Runtime,
    sides: Sides,
    transport: Transport,
    location: S3Location,
    /// What names start with in the bucket: empty, or with a slash at its end.
    prefix: String,
    /// The service, unless it is AWS.
    endpoint: Option<String>,
    credentials: Credentials,
    is_cos: bool,
    is_tls: bool,
    is_sorted: bool,
    part_len: usize,
    has_policy: OnceLock<bool>,
    /// Whether the store has shown objects, and among them one with a version.
    shown: Shown,
    uploads: Uploads,
}

impl S3Store {
    /// Makes ready to use a bucket, which must be there; asks nothing yet.
    ///
    /// # Errors
    /// [`StoreError::InvalidLocation`] for a malformed endpoint, [`StoreError::InvalidSetting`] for certificates that
    /// cannot be read, [`StoreError::Io`] when no thread can be started.
    pub fn open(location: S3Location, options: &S3Options) -> Result<Self, StoreError> {
        let endpoint = match &options.endpoint {
            Some(endpoint) => Some(check_endpoint(endpoint)?),
            None => location.endpoint(options.network),
        };
        if !is_tls(endpoint.as_deref())
            && matches!(options.credentials, Credentials::Bearer(_))
            && !is_loopback(endpoint.as_deref().unwrap_or_default())
        {
            let reason = "it would send a token over plain http".to_owned();
            return Err(StoreError::InvalidSetting { what: "the endpoint".to_owned(), reason });
        }
        let transport = client::transport(options)?;
        Self::over(transport, location, endpoint, options)
    }

    /// A store that is reached over `transport`.
    fn over(
        transport: Transport,
        location: S3Location,
        endpoint: Option<String>,
        options: &S3Options,
    ) -> Result<Self, StoreError> {
        let region = (options.region.as_deref(), options.is_region_fixed);
        let sides = Sides::new(&location, endpoint.as_deref(), region, &options.credentials, &transport)?;
        let asked_at = format!("{} at {}", location.url(), endpoint.as_deref().unwrap_or("AWS"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_COUNT)
            .thread_name("coffer-s3")
            .enable_all()
            .build()
            .map_err(|error| StoreError::from_io("the threads of connections", &location.url(), error))?;
        Ok(Self {
            runtime,
            sides,
            transport,
            prefix: if location.prefix.is_empty() { String::new() } else { format!("{}/", location.prefix) },
            is_cos: location.is_cos(),
            is_tls: is_tls(endpoint.as_deref()),
            is_sorted: endpoint.is_none(),
            part_len: options.part_len.max(PART_LEN_MIN),
            has_policy: OnceLock::new(),
            shown: Shown::default(),
            uploads: Uploads::new(options.checksums, options.upload_memory.clone(), asked_at),
            endpoint,
            credentials: options.credentials.clone(),
            location,
        })
    }

    /// The host that is asked.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.whom().endpoint
    }

    /// Does what is asked of the store, and once more when the store says in which other region the bucket is.
    fn run<T>(&self, mut work: impl AsyncFnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            match work().await {
                Err(StoreError::WrongRegion { region: Some(region), .. }) if self.follow(&region) => {
                    work().await
                }
                done => done,
            }
        })
    }

    fn follow(&self, region: &str) -> bool {
        self.sides.follow(region, self.endpoint.as_deref(), &self.credentials, &self.transport)
    }

    fn client(&self) -> &Client {
        &self.sides.current().client
    }

    fn whom(&self) -> &Whom {
        &self.sides.current().whom
    }

    /// A name or a prefix as it is in the bucket.
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn sdk<E>(&self, name: &str, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        self.whom().sdk(name, error, self.transport.has_answered())
    }

    /// An answer that makes no sense, or a wish that cannot be granted.
    fn odd(&self, name: &str, message: &str) -> StoreError {
        let failure = RequestFailure { message: message.to_owned(), ..RequestFailure::default() };
        StoreError::Rejected {
            name: name.to_owned(),
            store: self.whom().store.clone(),
            source: failure.into(),
        }
    }

    async fn remove(&self, name: &str, version_id: Option<&str>) -> Result<(), StoreError> {
        let request = self
            .client()
            .delete_object()
            .bucket(&self.location.bucket)
            .key(self.full(name))
            .set_version_id(version_id.map(str::to_owned));
        match request.send().await.map_err(|error| self.sdk(name, error)) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result.map(drop),
        }
    }
}

impl ObjectStore for S3Store {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let put = Put::new(true, None);
        Ok(self.run(async || self.put(key.as_str(), body, put).await)?.0)
    }

    fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
        let put = Put::new(true, None);
        Ok(self.run(async || self.put(key.as_str(), body, put).await)?.0)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let source = Source { name: key.as_str(), version_id: None };
        self.run(async || self.read_whole(source, len_max, out).await)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let source = Source { name: key.as_str(), version_id: None };
        self.run(async || self.fill_range(source, offset, out).await)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        let source = Source { name: key.as_str(), version_id: None };
        let len = self.run(async || self.len_of(source).await)?;
        Ok(ObjectStat { len })
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.list_by(&once, prefix, start_after, visit)
    }

    /// Page by page.
    fn list_by(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut pages = Pages::default();
        let mut token = None;
        loop {
            let page =
                made(attempt, || self.run(async || self.page(prefix, start_after, token.clone()).await))?;
            // Whoever makes no request wants no page.
            let Some((items, next)) = page else { return Ok(()) };
            for item in items {
                if visit(item).is_break() {
                    return Ok(());
                }
            }
            let Some(next) = next else { return Ok(()) };
            pages.check(&next).map_err(|what| self.odd(prefix, what))?;
            token = Some(next);
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.run(async || self.remove(key.as_str(), None).await)
    }

    fn url(&self) -> String {
        self.whom().store.clone()
    }

    /// Buckets of two services may have one name: where the location names none, the one that was given instead tells them apart.
    fn place(&self) -> String {
        match &self.endpoint {
            Some(endpoint) if self.location.place == S3Place::S3 => {
                format!("{} at {}", self.url(), endpoint.trim_end_matches('/'))
            }
            _ => self.url(),
        }
    }

    fn parallelism_hint(&self) -> usize {
        PARALLELISM
    }

    fn moved_bytes(&self) -> u64 {
        self.transport.moved_bytes()
    }

    fn cloud(&self) -> Option<&dyn CloudStore> {
        Some(self)
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("location", &self.location)
            .field("endpoint", &self.whom().endpoint)
            .field("region", &self.sides.current().region)
            .finish_non_exhaustive()
    }
}

fn is_tls(endpoint: Option<&str>) -> bool {
    endpoint.is_none_or(|endpoint| endpoint.starts_with("https:"))
}

/// Whether an endpoint is on this machine.
fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::Location;

    /// AWS, with a bucket in one region.
    #[derive(Debug, Clone, Default)]
    struct Aws {
        hosts: Arc<Mutex<Vec<String>>>,
    }

    impl HttpConnector for Aws {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let uri: http::Uri = request.uri().parse().expect("a URL");
            let host = uri.host().unwrap_or_default().to_owned();
            let is_there = host == "bucket.s3.eu-central-1.amazonaws.com";
            self.hosts.lock().expect("no panic").push(host);
            let status = if is_there { 200 } else { 301 };
            let mut answer = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from("body"));
            answer.headers_mut().insert("x-amz-bucket-region", "eu-central-1");
            answer.headers_mut().insert("etag", "\"e\"");
            answer.headers_mut().insert("content-length", "4");
            HttpConnectorFuture::ready(Ok(answer))
        }
    }

    #[test]
    fn on_aws_the_host_follows_the_region() {
        let aws = Aws::default();
        let keys = AwsKeys::new("id".to_owned(), "secret".to_owned(), None);
        let options = S3Options::new(Credentials::Keys(keys));
        let connector = SharedHttpConnector::new(aws.clone());
        let transport =
            Transport::new(connector, None, (None, None), options.stall_timeout, options.counter.clone());
        let Ok(Location::S3(location)) = Location::parse("s3://bucket/x") else { panic!("a location") };
        let store = S3Store::over(transport, location, None, &options).expect("a store");
        assert_eq!(store.endpoint(), "s3.us-east-1.amazonaws.com");
        let mut out = Vec::new();
        store.read(&ObjectKey::new("vault").expect("a name"), 100, &mut out).expect("is read");
        assert_eq!(out, b"body");
        let hosts = aws.hosts.lock().expect("no panic").clone();
        assert_eq!(hosts.len(), 2, "{hosts:?}");
        assert_eq!(hosts[1], "bucket.s3.eu-central-1.amazonaws.com");
        assert_eq!(store.endpoint(), "s3.eu-central-1.amazonaws.com");
    }
}
