//! A client that shows every byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use coffer_sandbox::{NewBucket, Sandbox, SandboxOptions};
use s3s::crypto::{Checksum, Md5};

/// A region, and a token of its owner.
pub(crate) struct Desk {
    pub(crate) sandbox: Sandbox,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first element of this name.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        self.elements(name).into_iter().next()
    }

    /// All elements of this name.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = self.text();
        let after = text.split(&open).skip(1);
        after.map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// A refusal with its code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.element("Code").as_deref(), Some(code), "{}", answer.text());
        assert_eq!(answer.element("httpStatusCode"), Some(status.to_string()), "{}", answer.text());
        answer
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

/// Sends a request to a URL without a path.
pub(crate) fn send(base: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let host = base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    // A server that has refused already may close before all of the body is written.
    drop(stream.write_all(body));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut rest = &bytes[end + 4..];
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if len == 0 {
                break;
            }
            body.extend_from_slice(&rest[end + 2..end + 2 + len]);
            rest = &rest[end + 4 + len..];
        }
    } else {
        body.extend_from_slice(rest);
    }
    Answer { status, headers, body }
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(&SandboxOptions::default())
    }

    pub(crate) fn with(options: &SandboxOptions) -> Self {
        let sandbox = Sandbox::start(options).unwrap();
        let token = token(&sandbox, sandbox.api_key());
        Self { sandbox, token }
    }

    /// With one plain bucket.
    pub(crate) fn with_bucket(name: &str) -> Self {
        let desk = Self::new();
        desk.sandbox.create_bucket(&NewBucket::named(name)).unwrap();
        desk
    }

    /// A request of the owner.
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask_as(&self.token, method, target, headers, body)
    }

    /// A request with another token.
    pub(crate) fn ask_as(
        &self,
        token: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers: Vec<_> = headers.iter().copied().chain([("Authorization", &*bearer)]).collect();
        send(self.sandbox.endpoint(), method, target, &headers, body)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"")
    }

    pub(crate) fn put(&self, target: &str, body: &[u8]) -> Answer {
        self.ask("PUT", target, &[], body)
    }

    pub(crate) fn delete(&self, target: &str) -> Answer {
        self.ask("DELETE", target, &[], b"")
    }
}

/// A token for an API key.
pub(crate) fn token(sandbox: &Sandbox, api_key: &str) -> String {
    let form =
        format!("grant_type=urn:ibm:params:oauth:grant-type:apikey&response_type=cloud_iam&apikey={api_key}");
    let answer = ask_iam(sandbox, "/identity/token", &form).expect(200);
    json(&answer)["access_token"].as_str().unwrap().to_owned()
}

/// A request to IAM.
pub(crate) fn ask_iam(sandbox: &Sandbox, path: &str, form: &str) -> Answer {
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")];
    send(sandbox.iam_endpoint(), "POST", path, &headers, form.as_bytes())
}

pub(crate) fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// The Content-MD5 of a body.
pub(crate) fn md5(body: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(Md5::checksum(body))
}
