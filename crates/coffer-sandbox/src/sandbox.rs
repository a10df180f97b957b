//! A running region: its listeners, and the handle that tests hold.

mod kms;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use s3s::{S3ErrorCode, S3Result};
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::cos::{self, Bucket, Front, LockRule, Versioning};
use crate::error::SandboxError;
use crate::iam::{HmacKeys, Policy};
use crate::listener::{self, Service};
use crate::region::Region;
use crate::switches::Switches;
use crate::{random, refused, tls};

/// How a sandbox starts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SandboxOptions {
    /// Where the state is kept. `None`: in a temporary directory that goes with the sandbox.
    pub directory: Option<PathBuf>,
    /// Where object storage listens. Port 0: every service gets a free port. Else IAM has the next port, the admin endpoint the one
    /// after it, then come the further locations, and last the public and the private endpoint of the key service.
    pub listen: SocketAddr,
    /// The location of object storage (`eu-de`, `eu`, `ams03`).
    pub region: String,
    /// Further locations of the same account, each with an endpoint of its own.
    pub more_locations: Vec<String>,
    /// HTTPS in place of HTTP, with a certificate made for this start.
    pub tls: bool,
    /// GUID of the service instance of object storage.
    pub instance_id: String,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            directory: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            region: "eu-de".to_owned(),
            more_locations: Vec::new(),
            tls: false,
            instance_id: "5a3d1f60-0c0f-4e00-8000-000000000001".to_owned(),
        }
    }
}

/// A bucket that is made without a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NewBucket {
    /// Its name.
    pub name: String,
    /// Its location constraint; the region of the sandbox in class `standard` if it is empty. It may name a location without
    /// an endpoint here: such a bucket is listed and cannot be used.
    pub location_constraint: String,
    /// With versions.
    pub versioning: bool,
    /// With versions and object lock.
    pub object_lock: bool,
    /// Encrypted under this root key.
    pub root_key: Option<String>,
    /// So many bytes fit.
    pub hard_quota: Option<u64>,
}

impl NewBucket {
    /// A plain bucket.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub(crate) fn create(&self, region: &Region) -> S3Result<()> {
        let default = format!("{}-standard", region.location());
        let constraint =
            if self.location_constraint.is_empty() { &default } else { &self.location_constraint };
        let Some((location, class)) = constraint.rsplit_once('-') else {
            return Err(s3s::S3Error::new(S3ErrorCode::InvalidLocationConstraint));
        };
        let has_versions = self.versioning || self.object_lock;
        let bucket = Bucket {
            name: self.name.clone(),
            instance: region.instance().to_owned(),
            location: location.to_owned(),
            class: class.to_owned(),
            created_ms: region.clock().now_ms(),
            versioning: if has_versions { Versioning::Enabled } else { Versioning::Never },
            lock: self.object_lock.then(LockRule::default),
            protection: None,
            lifecycle: Vec::new(),
            root_key: self.root_key.clone(),
            hard_quota: self.hard_quota,
        };
        cos::create_bucket(region.records(), &bucket)
    }
}

/// A region that runs until this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    region: Arc<Region>,
    runtime: Option<Runtime>,
    endpoints: BTreeMap<String, String>,
    iam_endpoint: String,
    admin_endpoint: String,
    kms_endpoint: String,
    kms_private_endpoint: String,
    ca_file: Option<PathBuf>,
    directory: PathBuf,
    is_temporary: bool,
}

impl Sandbox {
    /// Starts a region. Its services answer when this returns.
    ///
    /// # Errors
    /// The directory is not usable or in use, a port is taken, the address is not on loopback.
    pub fn start(options: &SandboxOptions) -> Result<Self, SandboxError> {
        let is_temporary = options.directory.is_none();
        let directory = options
            .directory
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("coffer-sandbox-{}", random::hex(8))));
        let region = Arc::new(Region::open(&directory, &options.region, &options.instance_id)?);
        let (acceptor, ca_file) = match options.tls.then(|| tls::make(&directory)).transpose()? {
            Some((acceptor, file)) => (Some(acceptor), Some(file)),
            None => (None, None),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .thread_name("sandbox")
            .enable_all()
            .build()
            .map_err(|source| SandboxError::File { path: directory.clone(), source })?;
        let scheme = if options.tls { "https" } else { "http" };
        let mut next_port = options.listen.port();
        let mut open = |service: Service, is_tls: bool| -> Result<String, SandboxError> {
            let address = SocketAddr::new(options.listen.ip(), next_port);
            next_port = if next_port == 0 { 0 } else { next_port.saturating_add(1) };
            let acceptor = acceptor.clone().filter(|_| is_tls);
            runtime.block_on(listener::open(address, service, acceptor)).map(|bound| bound.to_string())
        };
        let front = |location: &str| Service::Cos(Front::new(&region, location));
        let first = open(front(&options.region), true)?;
        let iam = open(Service::Iam(Arc::clone(&region)), true)?;
        let admin = open(Service::Admin(Arc::clone(&region)), false)?;
        let mut endpoints = BTreeMap::from([(options.region.clone(), format!("{scheme}://{first}"))]);
        for location in &options.more_locations {
            let address = open(front(location), true)?;
            endpoints.insert(location.clone(), format!("{scheme}://{address}"));
        }
        let kms = open(Service::Kms(Arc::clone(&region), false), true)?;
        let kms_private = open(Service::Kms(Arc::clone(&region), true), true)?;
        let port = kms_private.rsplit(':').next().and_then(|port| port.parse().ok());
        region.set_kms_private_port(port.unwrap_or_default());
        runtime.spawn(sweep_often(Arc::downgrade(&region)));
        Ok(Self {
            region,
            runtime: Some(runtime),
            endpoints,
            iam_endpoint: format!("{scheme}://{iam}"),
            admin_endpoint: format!("http://{admin}"),
            kms_endpoint: format!("{scheme}://{kms}"),
            kms_private_endpoint: format!("{scheme}://{kms_private}"),
            ca_file,
            directory,
            is_temporary,
        })
    }

    /// The URL of object storage in the region of the sandbox.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint_of(self.region.location()).unwrap_or_default()
    }

    /// The URL of object storage in a location, if the sandbox has it.
    #[must_use]
    pub fn endpoint_of(&self, location: &str) -> Option<&str> {
        self.endpoints.get(location).map(String::as_str)
    }

    /// Every location with its URL.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &str)> {
        self.endpoints.iter().map(|(location, url)| (&**location, &**url))
    }

    /// The URL of IAM, without the path of the token endpoint.
    #[must_use]
    pub fn iam_endpoint(&self) -> &str {
        &self.iam_endpoint
    }

    /// The URL of the admin endpoint.
    #[must_use]
    pub fn admin_endpoint(&self) -> &str {
        &self.admin_endpoint
    }

    /// The certificate that clients must trust, if the sandbox speaks HTTPS.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// Where the state is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// GUID of the service instance of object storage.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        self.region.instance()
    }

    /// An API key of the owner, who may do everything.
    #[must_use]
    pub fn api_key(&self) -> &str {
        &self.region.owner().api_key
    }

    /// HMAC keys of the owner.
    #[must_use]
    pub fn hmac(&self) -> &HmacKeys {
        &self.region.owner().hmac
    }

    /// Makes an identity; returns its id.
    ///
    /// # Errors
    /// A policy names an action that there is not.
    pub fn create_service_id(&self, name: &str, policies: &[Policy]) -> Result<String, SandboxError> {
        self.region.iam().create_service_id(self.region.records(), name, policies).map_err(refused)
    }

    /// Replaces what an identity may do, from the next request on.
    ///
    /// # Errors
    /// There is no such identity or action.
    pub fn set_policies(&self, service_id: &str, policies: &[Policy]) -> Result<(), SandboxError> {
        self.region.iam().set_policies(self.region.records(), service_id, policies).map_err(refused)
    }

    /// Makes an API key for an identity.
    ///
    /// # Errors
    /// There is no such identity.
    pub fn create_api_key(&self, service_id: &str) -> Result<String, SandboxError> {
        self.region.iam().create_api_key(self.region.records(), service_id).map_err(refused)
    }

    /// Forgets an API key.
    ///
    /// # Errors
    /// The records cannot be written.
    pub fn delete_api_key(&self, api_key: &str) -> Result<(), SandboxError> {
        self.region.iam().delete_api_key(self.region.records(), api_key).map_err(refused)
    }

    /// Makes HMAC keys for an identity.
    ///
    /// # Errors
    /// There is no such identity.
    pub fn create_hmac(&self, service_id: &str) -> Result<HmacKeys, SandboxError> {
        let instance = self.region.instance();
        self.region.iam().create_hmac(self.region.records(), service_id, instance).map_err(refused)
    }

    /// Makes a trusted profile that whoever has `cr_token` may take on; returns its id.
    ///
    /// # Errors
    /// There is no such identity.
    pub fn create_profile(
        &self,
        name: &str,
        cr_token: &str,
        service_id: &str,
    ) -> Result<String, SandboxError> {
        self.region.iam().create_profile(self.region.records(), name, cr_token, service_id).map_err(refused)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// It is there, or its name is not valid.
    pub fn create_bucket(&self, bucket: &NewBucket) -> Result<(), SandboxError> {
        bucket.create(&self.region).map_err(refused)
    }

    /// Limits how many bytes a bucket takes; `None` lifts the limit.
    ///
    /// # Errors
    /// There is no such bucket.
    pub fn set_quota(&self, bucket: &str, hard_quota: Option<u64>) -> Result<(), SandboxError> {
        cos::set_quota(self.region.records(), bucket, hard_quota).map_err(refused)
    }

    /// Makes a root key known, enables it or disables it.
    ///
    /// # Errors
    /// The records cannot be written.
    pub fn set_root_key(&self, crn: &str, is_enabled: bool) -> Result<(), SandboxError> {
        self.region.set_root_key(crn, is_enabled).map_err(refused)
    }

    /// How the switches stand.
    #[must_use]
    pub fn switches(&self) -> Switches {
        self.region.switches()
    }

    /// Moves switches.
    ///
    /// # Errors
    /// The records cannot be written.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) -> Result<(), SandboxError> {
        self.region.switch(change).map_err(refused)
    }

    /// What time it is in the region, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.region.clock().now_ms()
    }

    /// Moves the clock forward, and carries out what expires by that.
    ///
    /// # Errors
    /// The records cannot be written.
    pub fn advance(&self, by: Duration) -> Result<(), SandboxError> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        runtime.block_on(self.region.advance(by)).map_err(refused)
    }

    /// Ends every access token that was given; refresh tokens too if asked for.
    ///
    /// # Errors
    /// The records cannot be written.
    pub fn expire_tokens(&self, refresh_too: bool) -> Result<(), SandboxError> {
        self.region.iam().expire_tokens(self.region.records(), refresh_too).map_err(refused)
    }

    /// How often each action was allowed since the start; those that were refused have ` (refused)` behind their name.
    #[must_use]
    pub fn actions(&self) -> BTreeMap<String, u64> {
        self.region.iam().used()
    }

    /// How many tokens IAM has given since the start.
    #[must_use]
    pub fn token_count(&self) -> u64 {
        self.region.iam().token_count()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        if self.is_temporary {
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }
}

/// Carries out what expires while nobody moves the clock.
async fn sweep_often(region: std::sync::Weak<Region>) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let Some(region) = region.upgrade() else { return };
        // What could not be done now is tried again.
        drop(cos::sweep(&region).await);
        drop(region.kms().sweep(region.clock().now_ms()));
    }
}
