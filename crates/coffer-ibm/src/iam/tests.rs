use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier};

use super::*;
use crate::{HttpOptions, Service};

/// An identity service that answers by number, and remembers the forms it was sent.
struct FakeIam {
    endpoint: String,
    forms: Arc<Mutex<Vec<String>>>,
}

impl FakeIam {
    fn start(answer: impl Fn(usize, &str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let forms = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&forms);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { return };
                let mut reader = BufReader::new(&connection);
                let (mut head, mut len) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).expect("a line");
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        len = value.trim().parse().expect("a length");
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; len];
                reader.read_exact(&mut body).expect("a body");
                let form = String::from_utf8(body).expect("a form");
                let number = {
                    let mut seen = seen.lock().expect("no panic");
                    seen.push(form);
                    seen.len() - 1
                };
                let (status, text) = answer(number, &head);
                let reply = format!(
                    "HTTP/1.1 {status} X\r\nConnection: close\r\nTransaction-Id: t-{number}\r\nRetry-After: 4\r\n\
                     Content-Length: {}\r\n\r\n{text}",
                    text.len()
                );
                connection.write_all(reply.as_bytes()).expect("is sent");
            }
        });
        Self { endpoint, forms }
    }

    fn count(&self) -> usize {
        self.forms.lock().expect("no panic").len()
    }
}

fn grant(number: usize, life: u32) -> (u16, String) {
    (200, format!(r#"{{"access_token": "token-{number}", "expires_in": {life}, "token_type": "Bearer"}}"#))
}

fn client() -> HttpClient {
    HttpClient::new(&HttpOptions { no_proxy: true, ..HttpOptions::default() }).expect("a client")
}

fn key() -> IamCredential {
    IamCredential::ApiKey(ApiKey::new("se+cr/et".to_owned()))
}

/// A clock that a test moves.
fn clock() -> (Arc<Mutex<Instant>>, impl Fn() -> Instant + Send + Sync + 'static) {
    let time = Arc::new(Mutex::new(Instant::now()));
    let read = Arc::clone(&time);
    (time, move || *read.lock().expect("no panic"))
}

#[test]
fn a_token_is_kept_for_four_fifths_of_its_life() {
    let fake = FakeIam::start(|number, _| grant(number, 3600));
    let (time, now) = clock();
    let iam = Iam::with_clock(client(), &fake.endpoint, key(), now).expect("an identity");
    let token = || iam.current().expect("a token").expose().to_owned();
    assert_eq!((token(), token()), ("token-0".to_owned(), "token-0".to_owned()));
    *time.lock().expect("no panic") += Duration::from_secs(2879);
    assert_eq!(token(), "token-0");
    *time.lock().expect("no panic") += Duration::from_secs(2);
    assert_eq!((token(), token()), ("token-1".to_owned(), "token-1".to_owned()));
    let forms = fake.forms.lock().expect("no panic").clone();
    let expected = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=se%2Bcr%2Fet&response_type=cloud_iam";
    assert_eq!(forms, [expected, expected]);
    assert!(!format!("{iam:?} {:?}", iam.current()).contains("token-"));
}

#[test]
fn many_who_need_one_make_one_request() {
    let fake = FakeIam::start(|number, _| {
        std::thread::sleep(Duration::from_millis(100));
        grant(number, 3600)
    });
    let iam = Iam::new(client(), &fake.endpoint, key()).expect("an identity");
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(iam.current().expect("a token").expose(), "token-0");
            });
        }
    });
    assert_eq!(fake.count(), 1);
}

#[test]
fn a_refusal_is_shared_by_all_who_waited_and_holds_no_secret() {
    let fake = FakeIam::start(|_, _| {
        // Until the others wait for this answer, however busy the machine is.
        std::thread::sleep(Duration::from_secs(1));
        (400, r#"{"errorCode": "BXNIM0415E", "errorMessage": "no such key"}"#.to_owned())
    });
    let iam = Iam::new(client(), &fake.endpoint, key()).expect("an identity");
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let error = iam.current().expect_err("refused");
                assert!(matches!(error, IbmError::Refused { status: 400, .. }), "{error:?}");
                let text = format!("{error} {error:?}");
                assert!(text.contains("BXNIM0415E") && text.contains("t-"), "{text}");
                assert!(!text.contains("se+cr") && !text.contains("se%2B"), "{text}");
            });
        }
    });
    assert!(fake.count() < 8, "{} requests", fake.count());
}

#[test]
fn the_old_token_serves_while_a_fresh_one_cannot_be_had() {
    let fake = FakeIam::start(|number, _| match number {
        0 => grant(0, 3600),
        _ => (503, "busy".to_owned()),
    });
    let (time, now) = clock();
    let iam = Iam::with_clock(client(), &fake.endpoint, key(), now).expect("an identity");
    iam.current().expect("a token");
    *time.lock().expect("no panic") += Duration::from_secs(3000);
    for _ in 0..3 {
        assert_eq!(iam.current().expect("the old one").expose(), "token-0");
    }
    assert_eq!(fake.count(), 2, "it pauses after a failure");
    *time.lock().expect("no panic") += Duration::from_secs(595);
    let error = iam.current().expect_err("too old");
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(4)));
}

#[test]
fn a_service_replaces_a_refused_token_once() {
    let fake = FakeIam::start(|number, _| grant(number, 3600));
    let iam = Arc::new(Iam::new(client(), &fake.endpoint, key()).expect("an identity"));
    let served = FakeIam::start(|_, head| {
        assert!(head.starts_with("GET /api/v2/keys?limit=1 "), "{head}");
        let is_good = head.to_ascii_lowercase().contains("authorization: bearer token-1");
        if is_good { (200, "keys".to_owned()) } else { (401, r#"{"message": "who?"}"#.to_owned()) }
    });
    let base = format!("{}/api/v2/", served.endpoint);
    let service = Service::new("Key Protect", &base, client(), Arc::clone(&iam)).expect("a service");
    let answer = service.send("GET", "/keys?limit=1", &[("bluemix-instance", "x")], &[]).expect("keys");
    assert_eq!(answer.body.as_slice(), b"keys");
    assert_eq!((fake.count(), served.count()), (2, 2));
    iam.refused(&BearerToken::new("token-1".to_owned()));
    iam.refused(&BearerToken::new("token-1".to_owned()));
    let error = service.send("GET", "/keys?limit=1", &[], &[]).expect_err("no token is good any more");
    assert_eq!(error.status(), Some(401), "{error:?}");
    assert_eq!((fake.count(), served.count()), (4, 4));
    assert!(!format!("{error:?}").contains("token-"));
}

#[test]
fn a_trusted_profile_reads_its_token_anew() {
    let fake = FakeIam::start(|number, _| grant(number, 3600));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let credential = |profile: &str| IamCredential::TrustedProfile {
        profile: Profile::parse(profile),
        token_file: Some(file.clone()),
    };
    let by_id = Iam::new(client(), &fake.endpoint, credential("Profile-1")).expect("an identity");
    let error = by_id.current().expect_err("no file");
    assert!(matches!(error, IbmError::InvalidSetting { .. }), "{error:?}");
    std::fs::write(&file, "cr-1\n").expect("is written");
    let first = by_id.current().expect("a token");
    std::fs::write(&file, "cr-2\n").expect("is written");
    by_id.refused(&first);
    by_id.current().expect("a token");
    let endpoint = format!("{}/identity/token", fake.endpoint);
    let by_name = Iam::new(client(), &endpoint, credential("nightly jobs")).expect("an identity");
    by_name.current().expect("a token");
    let forms = fake.forms.lock().expect("no panic").clone();
    let start = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Acr-token";
    assert_eq!(
        forms,
        [
            format!("{start}&cr_token=cr-1&profile_id=Profile-1&response_type=cloud_iam"),
            format!("{start}&cr_token=cr-2&profile_id=Profile-1&response_type=cloud_iam"),
            format!("{start}&cr_token=cr-2&profile_name=nightly%20jobs&response_type=cloud_iam"),
        ]
    );
}

#[test]
fn what_is_no_grant_is_refused() {
    for (text, expected) in [
        ("<html>", "no grant"),
        (r#"{"access_token": "secret"}"#, "no grant"),
        (r#"{"access_token": "", "expires_in": 1}"#, "no token"),
        (r#"{"access_token": "secret", "expires_in": 0}"#, "expired"),
        (r#"{"access_token": "secret\r\nX: y", "expires_in": 1}"#, "no token"),
    ] {
        let fake = FakeIam::start(move |_, _| (200, text.to_owned()));
        let iam = Iam::new(client(), &fake.endpoint, key()).expect("an identity");
        let error = iam.current().expect_err(text);
        assert!(matches!(error, IbmError::Malformed { .. }) && !error.is_retryable(), "{error:?}");
        let text = format!("{error:?}");
        assert!(text.contains(expected) && !text.contains("secret"), "{text}");
    }
}

#[test]
fn a_key_is_not_sent_where_it_could_be_overheard() {
    for endpoint in
        ["http://iam.example", "ftp://iam.example", "iam.example", "https://user:secret@iam.example"]
    {
        let error = Iam::new(client(), endpoint, key()).expect_err(endpoint);
        assert!(matches!(error, IbmError::InvalidSetting { .. }), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    for endpoint in ["https://iam.example", "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1/"] {
        Iam::new(client(), endpoint, key()).expect(endpoint);
    }
    // A redirection is an answer, not an order.
    let other = FakeIam::start(|_, _| grant(0, 3600));
    let target = other.endpoint.clone();
    let fake = FakeIam::start(move |_, _| (307, format!("to {target}")));
    let iam = Iam::new(client(), &fake.endpoint, key()).expect("an identity");
    iam.current().expect_err("no grant");
    assert_eq!(other.count(), 0);
}

#[test]
fn nobody_there_is_told_as_such() {
    // The port of a connection: nobody listens there, and nobody else gets it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let address = taken.local_addr().expect("an address");
    let iam = Iam::new(client(), &format!("http://{address}"), key()).expect("an identity");
    let error = iam.current().expect_err("nobody listens");
    assert!(matches!(error, IbmError::Unreachable { may_pass: true, was_connected: false, .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("IAM at {address} ")), "{error}");
    let iam = Iam::new(client(), "https://no-such-host.invalid", key()).expect("an identity");
    let error = iam.current().expect_err("no such host");
    assert!(matches!(error, IbmError::Unreachable { may_pass: false, .. }), "{error:?}");
}

/// What a failure means for who needs the token, and who is named for it.
#[test]
fn a_store_is_told_what_is_wrong_with_the_identity_service() {
    #[track_caller]
    fn check(iam: &Iam, endpoint: &str, expected: TokenFault) {
        match coffer_store::BearerSource::token(iam).expect_err("no token") {
            TokenError::Failed { endpoint: named, fault, .. } => {
                assert_eq!((named.as_str(), fault), (endpoint, expected));
            }
            other => panic!("{other:?}"),
        }
    }
    let answers = [
        (503, "busy", Some(TokenFault::Unavailable { retry_after: Some(Duration::from_secs(4)) })),
        (200, "<html>", Some(TokenFault::NotIdentity)),
        (404, "nothing here", Some(TokenFault::NotIdentity)),
        (307, "elsewhere", Some(TokenFault::NotIdentity)),
        (400, r#"{"errorCode": "BXNIM0415E"}"#, None),
    ];
    for (status, text, expected) in answers {
        let fake = FakeIam::start(move |_, _| (status, text.to_owned()));
        let iam = Iam::new(client(), &fake.endpoint, key()).expect("an identity");
        match expected {
            Some(expected) => check(&iam, &fake.endpoint, expected),
            None => {
                let error = coffer_store::BearerSource::token(&iam).expect_err("refused");
                assert!(matches!(error, TokenError::Refused { .. }), "{error:?}");
            }
        }
    }
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("https://{}", plain.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (mut connection, _) = plain.accept().expect("a connection");
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("is sent");
        // Until the client has read it and hung up.
        drop(std::io::copy(&mut connection, &mut std::io::sink()));
    });
    check(&Iam::new(client(), &endpoint, key()).expect("an identity"), &endpoint, TokenFault::Tls);

    // Nobody is where nobody ever was; from where a token came, another may come.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (time, now) = clock();
    let iam = Iam::with_clock(client(), &endpoint, key(), now).expect("an identity");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut connection, _) = listener.accept().expect("a connection");
            let mut seen = Vec::new();
            while !seen.ends_with(b"cloud_iam") {
                let mut piece = [0; 512];
                let len = connection.read(&mut piece).expect("a piece");
                seen.extend_from_slice(&piece[..len]);
            }
            let (_, text) = grant(0, 3600);
            let len = text.len();
            write!(connection, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{text}")
                .expect("is sent");
        });
        iam.current().expect("a token");
    });
    let address = listener.local_addr().expect("an address");
    drop(listener);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    *time.lock().expect("no panic") += Duration::from_secs(4000);
    check(&iam, &endpoint, TokenFault::Unavailable { retry_after: None });
    let stranger = Iam::new(client(), &endpoint, key()).expect("an identity");
    check(&stranger, &endpoint, TokenFault::Unreachable);
}
