//! The way to object storage: proxies, clocks that differ, tokens that are refused once, lists of many pages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use coffer_sandbox::{NewBucket, Sandbox, SandboxOptions};
use coffer_store::{
    BearerSource, BearerToken, CloudStore, Credentials, Location, ObjectKey, ObjectStore, S3Options, S3Store,
    TokenError,
};
use coffer_testkit::proxy::{NetworkFault, Proxy};

use super::desk::{BUCKET, Desk};

/// A proxy as companies have it: it forwards plain requests and opens tunnels for the others.
struct Forward {
    address: SocketAddr,
    /// First lines of what it was asked.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                // A client may go away at any time.
                std::thread::spawn(move || drop(forward(client, &seen)));
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Serves one connection; a forwarded request ends it.
fn forward(client: TcpStream, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    seen.lock().unwrap().push(line.trim_end().to_owned());
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut head = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        if !line.to_ascii_lowercase().starts_with("proxy-connection") {
            head.push_str(&line);
        }
    }
    let upstream = if method == "CONNECT" {
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        TcpStream::connect(target)?
    } else {
        let rest = target.strip_prefix("http://").expect("the absolute form");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut upstream = TcpStream::connect(host)?;
        upstream
            .write_all(format!("{method} /{path} HTTP/1.1\r\n{head}connection: close\r\n\r\n").as_bytes())?;
        upstream
    };
    let mut to_server = upstream.try_clone()?;
    std::thread::spawn(move || {
        drop(std::io::copy(&mut reader, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    std::io::copy(&mut (&upstream).take(u64::MAX), &mut &client)?;
    client.shutdown(Shutdown::Both)
}

fn run(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn plain_requests_go_through_the_proxy_that_the_environment_names() {
    let desk = Desk::new(|_| {});
    let proxy = Forward::start();
    let through = |line: &str, no_proxy: Option<&str>| {
        let mut command = desk.command(line);
        command.env("HTTP_PROXY", proxy.url());
        if let Some(hosts) = no_proxy {
            command.env("NO_PROXY", hosts);
        }
        let (code, said) = run(command);
        assert_eq!(code, 0, "{line}: {said}");
    };
    through("init --single-slot", None);
    through("backup src", None);
    let asked = proxy.asked();
    let prefix = format!("{}/{BUCKET}", desk.sandbox.endpoint());
    assert!(asked.len() > 10, "{asked:?}");
    assert!(
        asked.iter().all(|line| line.split(' ').nth(1).is_some_and(|url| url.starts_with(&prefix))),
        "{asked:?}"
    );
    through("backup src", Some("127.0.0.1"));
    assert!(proxy.asked().is_empty(), "NO_PROXY is followed");
    desk.assert_restores("", "out");
}

#[test]
fn requests_over_tls_go_through_a_tunnel_of_the_proxy() {
    let mut options = SandboxOptions::default();
    options.tls = true;
    let sandbox = Sandbox::start(&options).unwrap();
    sandbox.create_bucket(&NewBucket::named(BUCKET)).unwrap();
    let desk = Desk::new(|_| {});
    let proxy = Forward::start();
    let through = |line: &str| {
        let mut command = desk.command(line);
        command
            .env("COFFER_ENDPOINT", sandbox.endpoint())
            .env("COFFER_CA_CERT", sandbox.ca_file().unwrap())
            .env("AWS_ACCESS_KEY_ID", &sandbox.hmac().access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &sandbox.hmac().secret_access_key)
            .env("HTTPS_PROXY", proxy.url());
        run(command)
    };
    let (code, said) = through("init --single-slot");
    assert_eq!(code, 0, "{said}");
    let (code, said) = through("backup src");
    assert_eq!(code, 0, "{said}");
    let asked = proxy.asked();
    let host = sandbox.endpoint().strip_prefix("https://").unwrap();
    // The proxy learns the host and nothing else.
    assert!(!asked.is_empty(), "nothing went through the proxy");
    assert!(asked.iter().all(|line| line.starts_with(&format!("CONNECT {host} "))), "{asked:?}");
    // One that is not there is named among what to check.
    let mut command = desk.command("snapshots --no-cache");
    command.env("HTTP_PROXY", "http://127.0.0.1:1");
    let (code, said) = run(command);
    assert!(code == 31 && said.contains("HTTPS_PROXY"), "{code}: {said}");
}

#[test]
fn clocks_that_differ_are_said_to() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    for skew in [3600, -3600] {
        desk.sandbox.switch(|switches| switches.signature_skew_s = skew).unwrap();
        let refused = desk.run("snapshots --no-cache").expect(30);
        assert!(refused.err.contains("clock"), "{refused:?}");
        assert!(refused.err.contains("set the clock of this machine"), "{refused:?}");
        let value = desk.run("--json snapshots --no-cache").expect(30);
        assert!(value.err.contains("\"exit_code\":30"), "{value:?}");
    }
    desk.sandbox.switch(|switches| switches.signature_skew_s = 0).unwrap();
    desk.run("snapshots --no-cache").expect(0);
}

/// Gives a new token after each refusal.
#[derive(Debug, Default)]
struct Tokens {
    token: Mutex<String>,
    refused_count: AtomicU64,
}

impl BearerSource for Tokens {
    fn token(&self) -> Result<BearerToken, TokenError> {
        Ok(BearerToken::new(self.token.lock().unwrap().clone()))
    }

    fn refused(&self, _: &BearerToken) {
        self.refused_count.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_token_that_is_refused_once_is_replaced_and_one_that_is_refused_twice_is_not_tried_again() {
    let desk = Desk::new(|_| {});
    let proxy =
        Proxy::start(desk.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).unwrap();
    let Location::S3(location) = Location::parse(format!("s3://{BUCKET}/t")).unwrap() else {
        panic!("a bucket")
    };
    let tokens = Arc::new(Tokens { token: Mutex::new(desk.token()), ..Tokens::default() });
    let options = S3Options {
        endpoint: Some(proxy.endpoint()),
        use_proxies: false,
        ..S3Options::new(Credentials::Bearer(tokens.clone()))
    };
    let store = S3Store::open(location, &options).unwrap();
    let key = ObjectKey::new("log/1").unwrap();
    proxy.set_fault(0, NetworkFault::ExpiredToken { status: 401 });
    store.put_if_absent(&key, b"once").unwrap();
    assert_eq!((tokens.refused_count.load(Ordering::SeqCst), proxy.request_count()), (1, 2));
    proxy.set_plan(|_| Some(NetworkFault::ExpiredToken { status: 401 }));
    let error = store.read(&key, 10, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, coffer_store::StoreError::CredentialsRefused { .. }), "{error:?}");
    assert_eq!((tokens.refused_count.load(Ordering::SeqCst), proxy.request_count()), (2, 2));
}

/// Over a thousand names, and versions, are several pages, in an order that is not theirs.
#[test]
fn lists_of_several_pages_are_complete() {
    const COUNT: usize = 1100;
    let desk = Desk::new(|bucket| bucket.versioning = true);
    let bucket = desk.bucket();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let bucket = &bucket;
            scope.spawn(move || {
                for number in (worker..COUNT).step_by(8) {
                    let key = ObjectKey::new(format!("log/{number:05}")).unwrap();
                    bucket.put_if_absent(&key, b"x").unwrap();
                }
            });
        }
    });
    let mut names = Vec::new();
    bucket
        .list("log/", Some("log/00009"), &mut |item| {
            names.push(item.name);
            ControlFlow::Continue(())
        })
        .unwrap();
    names.sort();
    let expected: Vec<_> = (10..COUNT).map(|number| format!("log/{number:05}")).collect();
    assert!(names == expected, "{} names", names.len());
    let mut versions = Vec::new();
    bucket
        .versions("log/", &mut |version| {
            versions.push(version.name);
            ControlFlow::Continue(())
        })
        .unwrap();
    versions.sort();
    let expected: Vec<_> = (0..COUNT).map(|number| format!("log/{number:05}")).collect();
    assert!(versions == expected, "{} versions", versions.len());
}
