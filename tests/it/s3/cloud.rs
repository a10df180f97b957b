//! Object storage on loopback, and the stores that lead there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_crypto::rng::SeededRng;
use coffer_sandbox::{ConditionMode, NewBucket, Sandbox, SandboxOptions};
use coffer_store::{
    AwsKeys, Credentials, Location, ObjectKey, ObjectStore, RetryPolicy, RetryStore, S3Options, S3Store,
};
use coffer_testkit::copy::Objects;
use coffer_testkit::proxy::Proxy;
use tempfile::TempDir;

use crate::support::{World, scratch};

const SEED: u64 = 77;

const BUCKET: &str = "nightly";

/// How long a transfer may stand still where some are made to. Well above what a busy machine does to the others.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one may stand still where none is made to.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest wait between two attempts, whatever the store asks for; that it is asked for is tested where time is not real.
const WAIT_MAX: Duration = Duration::from_millis(30);

/// The simulated region with one bucket.
pub(super) struct Cloud {
    sandbox: Sandbox,
    _place: TempDir,
}

impl Cloud {
    pub(super) fn start() -> Self {
        Self::start_with(NewBucket::named(BUCKET), ConditionMode::Honoured)
    }

    /// A bucket that ignores the condition of a create, and keeps versions.
    pub(super) fn start_of_versions() -> Self {
        let mut bucket = NewBucket::named(BUCKET);
        bucket.versioning = true;
        Self::start_with(bucket, ConditionMode::Ignored)
    }

    fn start_with(bucket: NewBucket, condition: ConditionMode) -> Self {
        let place = scratch();
        let mut options = SandboxOptions::default();
        options.directory = Some(place.path().to_path_buf());
        let sandbox = Sandbox::start(&options).unwrap();
        sandbox.create_bucket(&bucket).unwrap();
        sandbox.switch(|switches| switches.condition_mode = condition).unwrap();
        Self { sandbox, _place: place }
    }

    fn address(&self) -> SocketAddr {
        self.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// A proxy before it, with nothing wrong yet.
    pub(super) fn proxy(&self) -> Proxy {
        Proxy::start(self.address()).unwrap()
    }

    /// The text that names a prefix of the bucket, behind `endpoint`.
    pub(super) fn url(endpoint: &str, prefix: &str) -> String {
        format!("s3:{endpoint}/{BUCKET}/{prefix}")
    }

    /// Environment of a command that has the keys of the bucket.
    pub(super) fn variables(&self) -> [(&'static str, String); 2] {
        let keys = self.sandbox.hmac();
        [
            ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
        ]
    }

    /// A new client that goes straight to the bucket.
    pub(super) fn store(&self, prefix: &str) -> RetryStore<S3Store> {
        self.store_by(self.sandbox.endpoint(), prefix, PATIENCE)
    }

    /// A new client that goes through a proxy.
    pub(super) fn store_behind(&self, proxy: &Proxy, prefix: &str) -> RetryStore<S3Store> {
        self.store_by(&proxy.endpoint(), prefix, PATIENCE)
    }

    /// As [`Self::store_behind`], with a client that gives a transfer up after [`STALL_TIMEOUT`].
    pub(super) fn impatient_store_behind(&self, proxy: &Proxy, prefix: &str) -> RetryStore<S3Store> {
        self.store_by(&proxy.endpoint(), prefix, STALL_TIMEOUT)
    }

    fn store_by(&self, endpoint: &str, prefix: &str, stall_timeout: Duration) -> RetryStore<S3Store> {
        let Location::S3(location) = Location::parse(Self::url(endpoint, prefix)).unwrap() else {
            panic!("it is a bucket");
        };
        let keys = self.sandbox.hmac();
        let keys = AwsKeys::new(keys.access_key_id.clone(), keys.secret_access_key.clone(), None);
        let mut options = S3Options::new(Credentials::Keys(keys));
        options.use_proxies = false;
        options.stall_timeout = stall_timeout;
        options.part_len = 5 << 20;
        let policy = RetryPolicy {
            attempts_max: 5,
            delay_first: Duration::from_millis(5),
            delay_max: Duration::from_millis(30),
        };
        let wait = |time: Duration| std::thread::sleep(time.min(WAIT_MAX));
        RetryStore::with_sleeper(S3Store::open(location, &options).unwrap(), policy, 1, wait)
    }

    /// Fills a prefix.
    pub(super) fn fill(&self, prefix: &str, objects: &Objects) {
        let store = self.store(prefix);
        for (name, bytes) in objects {
            store.put_if_absent(&ObjectKey::new(name.as_str()).unwrap(), bytes).unwrap();
        }
    }
}

/// Runs the command in `dir`, where a key file and everything else of it is, with the keys of the bucket.
pub(super) fn coffer(cloud: &Cloud, proxy: &Proxy, dir: &Path, arguments: &str) {
    let vault = Cloud::url(&proxy.endpoint(), "vault");
    let output = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"))
        .env_clear()
        .envs(cloud.variables())
        .env("HOME", dir)
        .current_dir(dir)
        .args(["--vault", &vault, "--key-file", "key", "--cache-dir", "cache"])
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A host without a memory that has the key of the vault, and randomness of its own.
pub(super) fn world() -> World {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 41);
    World { rng: SeededRng::new(NEXT.fetch_add(1, Ordering::Relaxed)), ..World::new(SEED) }
}
