//! A store on S3 or Cloud Object Storage.
//!
//! Every request is made once: what may pass fails as [`StoreError::Unavailable`] and is for
//! [`RetryStore`](crate::RetryStore) to make again. Checksums are sent where they are demanded; a write that is refused
//! without one is made once more with it. Objects are created under the condition that none of their name is there, large
//! ones in parts that become one object at once. Large reads are made of ranges side by side. Nothing here rests on the
//! order of a listing or on an `ETag` being a hash.
//!
//! The asynchronous runtime of the SDK is inside; no thread of a runtime may call.

mod bearer;
mod client;
mod cloud;
mod credentials;
mod download;
mod failure;
mod list;
mod raw;
mod transport;
mod upload;
mod versions;

use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::runtime::Runtime;

pub use bearer::{BearerSource, BearerToken, TokenError};
pub use credentials::{ApiKey, AwsKeys, AwsSettings, CosCredentials, Credentials};
pub use failure::RequestFailure;

use crate::url::{check_endpoint, host_of};
use crate::{
    CloudStore, ListItem, Network, ObjectKey, ObjectStat, ObjectStore, PutOutcome, RequestCounter,
    S3Location, StoreError,
};
use download::Source;
use failure::Whom;
use list::Pages;
use transport::Transport;
use upload::Put;

/// Threads that the connections share.
const WORKER_COUNT: usize = 2;

/// Requests that are worth making at a time: at 30 ms each and 32 MiB a pack, far more than a line carries. The limiter of requests
/// goes beyond it for the parts of large objects, and below it where the store asks for that.
const PARALLELISM: usize = 16;

/// Region of signatures where no other is known; most stores but AWS take any.
const REGION_DEFAULT: &str = "us-east-1";

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
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca_cert: Option<Vec<u8>>,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are followed.
    pub use_proxies: bool,
    /// Bytes of bodies that may be sent in a second.
    pub upload_rate: Option<u64>,
    /// Bytes of bodies that may come in a second.
    pub download_rate: Option<u64>,
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
    client: Client,
    transport: Transport,
    location: S3Location,
    /// What names start with in the bucket: empty, or with a slash at its end.
    prefix: String,
    /// The service, unless it is AWS.
    endpoint: Option<String>,
    region: String,
    credentials: Credentials,
    whom: Whom,
    is_cos: bool,
    is_tls: bool,
    is_sorted: bool,
    part_len: usize,
    has_policy: OnceLock<bool>,
    /// Whether the bucket was seen to refuse a write without a checksum.
    demands_sum: AtomicBool,
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
        let region = options.region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned());
        if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            let reason = "a region has letters, digits and `-`".to_owned();
            return Err(StoreError::InvalidSetting { what: "the region".to_owned(), reason });
        }
        let is_tls = endpoint.as_ref().is_none_or(|endpoint| endpoint.starts_with("https:"));
        if !is_tls
            && matches!(options.credentials, Credentials::Bearer(_))
            && !is_loopback(endpoint.as_deref().unwrap_or_default())
        {
            let reason = "it would send a token over plain http".to_owned();
            return Err(StoreError::InvalidSetting { what: "the endpoint".to_owned(), reason });
        }
        let whom = Whom {
            store: location.url(),
            bucket: location.bucket.clone(),
            endpoint: endpoint.as_deref().map_or_else(
                || format!("s3.{region}.amazonaws.com"),
                |endpoint| host_of(endpoint).to_owned(),
            ),
        };
        let transport = client::transport(options)?;
        let client = client::client(transport.clone(), &region, endpoint.as_deref(), &options.credentials);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_COUNT)
            .thread_name("coffer-s3")
            .enable_all()
            .build()
            .map_err(|error| StoreError::from_io("the threads of connections", &whom.store, error))?;
        Ok(Self {
            runtime,
            client,
            transport,
            prefix: if location.prefix.is_empty() { String::new() } else { format!("{}/", location.prefix) },
            is_cos: location.is_cos(),
            is_tls,
            is_sorted: endpoint.is_none(),
            part_len: options.part_len.max(PART_LEN_MIN),
            has_policy: OnceLock::new(),
            demands_sum: AtomicBool::new(false),
            endpoint,
            region,
            credentials: options.credentials.clone(),
            location,
            whom,
        })
    }

    /// The host that is asked.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.whom.endpoint
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A name or a prefix as it is in the bucket.
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn sdk<E>(&self, name: &str, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        self.whom.sdk(name, error, self.transport.has_answered())
    }

    /// An answer that makes no sense, or a wish that cannot be granted.
    fn odd(&self, name: &str, message: &str) -> StoreError {
        let failure = RequestFailure { message: message.to_owned(), ..RequestFailure::default() };
        StoreError::Rejected { name: name.to_owned(), store: self.whom.store.clone(), source: failure.into() }
    }

    async fn remove(&self, name: &str, version_id: Option<&str>) -> Result<(), StoreError> {
        let request = self
            .client
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
        Ok(self.run(self.put(key.as_str(), body, put))?.0)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.run(self.read_whole(Source { name: key.as_str(), version_id: None }, len_max, out))
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.run(self.fill_range(Source { name: key.as_str(), version_id: None }, offset, out))
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        let len = self.run(self.len_of(Source { name: key.as_str(), version_id: None }))?;
        Ok(ObjectStat { len })
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut pages = Pages::default();
        let mut token = None;
        loop {
            let (items, next) = self.run(self.page(prefix, start_after, token.take()))?;
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
        self.run(self.remove(key.as_str(), None))
    }

    fn url(&self) -> String {
        self.whom.store.clone()
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
            .field("endpoint", &self.whom.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// Whether an endpoint is on this machine.
fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
