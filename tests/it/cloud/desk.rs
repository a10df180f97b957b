//! A desk beside a region: a key, a source, and the command with the region's credentials.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use coffer_sandbox::{KmsKind, NewBucket, Sandbox, SandboxOptions};
use coffer_store::{AwsKeys, CloudStore, Credentials, Location, ObjectKey, ObjectStore, S3Options, S3Store};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::messages::check_message;
use crate::support::{noise, scratch};

pub(super) const BUCKET: &str = "backups";

/// What a run of the command gave.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ran {
    #[track_caller]
    pub(super) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(super) fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "{text}: {}\n{}", self.out, self.err);
        self
    }

    /// The last JSON value on standard output, which is as documented.
    #[track_caller]
    pub(super) fn value(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_else(|| panic!("{}", self.err));
        let value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        check_message(&value);
        value
    }
}

pub(super) struct Desk {
    pub(super) sandbox: Sandbox,
    pub(super) dir: TempDir,
    /// Access key and secret of who types.
    keys: (String, String),
}

impl Desk {
    /// A region with one bucket.
    pub(super) fn new(change: impl FnOnce(&mut NewBucket)) -> Self {
        let sandbox = Sandbox::start(&SandboxOptions::default()).unwrap();
        let mut bucket = NewBucket::named(BUCKET);
        change(&mut bucket);
        sandbox.create_bucket(&bucket).unwrap();
        let dir = scratch();
        fs::create_dir_all(dir.path().join("work/src/d")).unwrap();
        fs::write(dir.path().join("work/src/a"), "a small file\n").unwrap();
        fs::write(dir.path().join("work/src/d/large"), noise(2, 300_000)).unwrap();
        let keys = (sandbox.hmac().access_key_id.clone(), sandbox.hmac().secret_access_key.clone());
        let desk = Self { sandbox, dir, keys };
        desk.run("keys new-file ../key").expect(0);
        desk
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// From now on these credentials are used.
    pub(super) fn act_as(&mut self, access_key: &str, secret: &str) {
        self.keys = (access_key.to_owned(), secret.to_owned());
    }

    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
        command
            .args(line.split_whitespace())
            .current_dir(self.path("work"))
            .env_clear()
            .env("HOME", self.dir.path())
            .env("TZ", "UTC")
            .env("COFFER_VAULT", format!("s3://{BUCKET}/v"))
            .env("COFFER_KEY_FILE", self.path("key"))
            .env("COFFER_CACHE_DIR", self.path("cache"))
            .env("COFFER_ENDPOINT", self.sandbox.endpoint())
            .env("AWS_ACCESS_KEY_ID", &self.keys.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.1)
            .stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, line: &str) -> Ran {
        self.run_at(self.sandbox.endpoint(), line)
    }

    /// The same by another way to the region.
    pub(super) fn run_at(&self, endpoint: &str, line: &str) -> Ran {
        let output = self.command(line).env("COFFER_ENDPOINT", endpoint).output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The bucket as the owner of the account has it.
    pub(super) fn bucket(&self) -> S3Store {
        self.bucket_named(BUCKET)
    }

    /// The same of another bucket.
    pub(super) fn bucket_named(&self, bucket: &str) -> S3Store {
        let Location::S3(location) = Location::parse(format!("s3://{bucket}/v")).unwrap() else {
            panic!("a bucket")
        };
        let hmac = self.sandbox.hmac();
        let keys = AwsKeys::new(hmac.access_key_id.clone(), hmac.secret_access_key.clone(), None);
        let endpoint = Some(self.sandbox.endpoint().to_owned());
        let options = S3Options { endpoint, use_proxies: false, ..S3Options::new(Credentials::Keys(keys)) };
        S3Store::open(location, &options).unwrap()
    }

    /// Names of objects in the vault, as a plain listing shows them.
    pub(super) fn names(&self, prefix: &str) -> Vec<ObjectKey> {
        self.names_in(BUCKET, prefix)
    }

    pub(super) fn names_in(&self, bucket: &str, prefix: &str) -> Vec<ObjectKey> {
        let mut names = Vec::new();
        let visit = &mut |item: coffer_store::ListItem| {
            names.push(ObjectKey::new(item.name).unwrap());
            std::ops::ControlFlow::Continue(())
        };
        self.bucket_named(bucket).list(prefix, None, visit).unwrap();
        names
    }

    /// All versions of a name, the newest first.
    pub(super) fn versions_of(&self, name: &ObjectKey) -> Vec<coffer_store::VersionItem> {
        let mut versions = Vec::new();
        let visit = &mut |version: coffer_store::VersionItem| {
            if version.name == name.as_str() {
                versions.push(version);
            }
            std::ops::ControlFlow::Continue(())
        };
        self.bucket().versions(name.as_str(), visit).unwrap();
        versions
    }

    /// Makes another bucket.
    pub(super) fn add_bucket(&self, name: &str, change: impl FnOnce(&mut NewBucket)) {
        let mut bucket = NewBucket::named(name);
        change(&mut bucket);
        self.sandbox.create_bucket(&bucket).unwrap();
    }

    /// Overwrites every object with rubbish, as one who may only write could, where the bucket keeps versions.
    pub(super) fn overwrite_all(&self) {
        self.overwrite_all_in(BUCKET);
    }

    pub(super) fn overwrite_all_in(&self, bucket: &str) {
        let names = self.names_in(bucket, "");
        let bucket = self.bucket_named(bucket);
        for name in names {
            bucket.put_unconditional(&name, b"rubbish", None).unwrap();
        }
    }

    /// The same with bytes that are as many as those that were there.
    pub(super) fn overwrite_all_alike(&self) {
        let bucket = self.bucket();
        let mut bytes = Vec::new();
        for name in self.names("") {
            bucket.read(&name, 1 << 30, &mut bytes).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
            bucket.put_unconditional(&name, &bytes, None).unwrap();
        }
    }

    /// The same for names that are hidden.
    pub(super) fn overwrite_all_versions(&self) {
        let bucket = self.bucket();
        let mut names = std::collections::BTreeSet::new();
        let visit = &mut |version: coffer_store::VersionItem| {
            names.insert(version.name);
            std::ops::ControlFlow::Continue(())
        };
        bucket.versions("", visit).unwrap();
        for name in names {
            bucket.put_unconditional(&ObjectKey::new(name).unwrap(), b"rubbish", None).unwrap();
        }
    }

    /// Deletes every object, which hides it where the bucket keeps versions.
    pub(super) fn delete_all(&self) {
        let bucket = self.bucket();
        self.names("").iter().for_each(|name| bucket.delete(name).unwrap());
    }

    #[track_caller]
    pub(super) fn assert_restores(&self, line: &str, target: &str) {
        self.run(&format!("restore latest --target ../{target} {line}")).expect(0);
        for name in ["a", "d/large"] {
            let restored = fs::read(self.path(&format!("{target}/src/{name}"))).unwrap();
            assert!(restored == fs::read(self.path(&format!("work/src/{name}"))).unwrap(), "{name} differs");
        }
    }

    /// A token of the owner of the account.
    pub(super) fn token(&self) -> String {
        let form =
            format!("grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey={}", self.sandbox.api_key());
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let token = http(self.sandbox.iam_endpoint(), "POST", "/identity/token", &kind, form.as_bytes());
        let token: Value = serde_json::from_slice(&token).unwrap();
        token["access_token"].as_str().unwrap().to_owned()
    }

    /// A root key in an instance of the key service: the instance, the key and the CRN of both.
    pub(super) fn root_key(&self, material: Option<&[u8]>) -> (String, String, String) {
        let guid = self.sandbox.create_kms_instance("vault", KmsKind::KeyProtect).unwrap();
        let key = self.sandbox.create_kms_root_key(&guid, "root", material).unwrap();
        let crn = self.sandbox.kms_crn(&guid, Some(&key)).unwrap();
        (guid, key, crn)
    }

    /// Gives a root key a new version.
    pub(super) fn rotate_root_key(&self, guid: &str, key: &str) {
        let bearer = format!("Bearer {}", self.token());
        let headers = [("authorization", bearer.as_str()), ("bluemix-instance", guid)];
        let path = format!("/api/v2/keys/{key}/actions/rotate");
        http(self.sandbox.kms_endpoint(), "POST", &path, &headers, b"");
    }

    /// A request as the owner of the account, for what the command has no call for. `path` is as on the wire.
    pub(super) fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let bearer = format!("Bearer {}", self.token());
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        http(self.sandbox.endpoint(), method, path, &headers, body)
    }
}

fn http(endpoint: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {}", String::from_utf8_lossy(&answer));
    answer.split_off(end + 4)
}
