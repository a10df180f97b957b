use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier};

use coffer_store::RetryPolicy;

use super::*;
use crate::{HttpOptions, Service};

/// An identity service that answers by number, and remembers the forms it was sent.
struct FakeIam {
    endpoint: String,
    forms: Arc<Mutex<Vec<String>>>,
}

impl FakeIam {
    fn start(answer: impl Fn(usize, &str) -> (u16, String) + Send + 'static) -> Self {
        Self::asking_for(4, answer)
    }

    /// One that asks for so many seconds.
    fn asking_for(seconds: u64, answer: impl Fn(usize, &str) -> (u16, String) + Send + 'static) -> Self {
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
                    "HTTP/1.1 {status} X\r\nConnection: close\r\nTransaction-Id: t-{number}\r\nRetry-After: {seconds}\r\n\
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

/// Waits that were asked for, and a clock that they move, so that nobody waits.
#[derive(Clone)]
struct Waits {
    begun: Instant,
    all: Arc<Mutex<Vec<Duration>>>,
}

impl Default for Waits {
    fn default() -> Self {
        Self { begun: Instant::now(), all: Arc::default() }
    }
}

impl Waits {
    fn all(&self) -> Vec<Duration> {
        self.all.lock().expect("no panic").clone()
    }

    fn clock(&self) -> impl Fn() -> Instant + Send + Sync + 'static {
        let waits = self.clone();
        move || waits.begun + waits.all().iter().sum::<Duration>()
    }

    fn wait(&self, time: Duration) {
        self.all.lock().expect("no panic").push(time);
    }

    fn patience(&self) -> Arc<Patience> {
        let waits = self.clone();
        Arc::new(Patience::with_clock(7, self.clock(), move |time| waits.wait(time)))
    }
}

/// An identity whose clock is that of the waits.
fn patient_at(fake: &FakeIam, waits: &Waits, patience: &Arc<Patience>) -> Iam {
    let iam = Iam::with_clock(client(), &fake.endpoint, key(), waits.clock()).expect("an identity");
    iam.sharing(Arc::clone(patience))
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
        (503, "busy", Some(TokenFault::Unavailable)),
        (200, "<html>", Some(TokenFault::NotIdentity)),
        (404, "nothing here", Some(TokenFault::NotIdentity)),
        (307, "elsewhere", Some(TokenFault::NotIdentity)),
        (400, r#"{"errorCode": "BXNIM0415E"}"#, None),
    ];
    for (status, text, expected) in answers {
        let fake = FakeIam::start(move |_, _| (status, text.to_owned()));
        let waits = Waits::default();
        let iam = patient_at(&fake, &waits, &waits.patience());
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
    let iam = iam.sharing(Waits::default().patience());
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
    check(&iam, &endpoint, TokenFault::Unavailable);
    let stranger = Iam::new(client(), &endpoint, key()).expect("an identity");
    check(&stranger, &endpoint, TokenFault::Unreachable);
}

/// How often a service that is busy for ever is asked, and for how long.
#[track_caller]
fn check_busy(status: u16, seconds: u64) -> (usize, Duration) {
    let fake = FakeIam::asking_for(seconds, move |_, _| (status, "busy".to_owned()));
    let waits = Waits::default();
    let iam = patient_at(&fake, &waits, &waits.patience());
    let error = coffer_store::BearerSource::token(&iam).expect_err("busy for ever");
    let TokenError::Failed { endpoint, fault: TokenFault::Unavailable, source } = error else {
        panic!("{error:?}")
    };
    assert_eq!(endpoint, fake.endpoint);
    let told = source.to_string();
    assert!(told.contains(&format!("status {status}")), "the last answer is told: {told}");
    assert!(told.contains(&format!("t-{}", fake.count() - 1)), "the last answer is told: {told}");
    (fake.count(), waits.all().iter().sum())
}

#[test]
fn a_service_that_is_busy_for_ever_is_given_up_when_a_store_would_be() {
    let bound = RetryPolicy::remote().wait_max();
    assert!(bound > Duration::from_secs(75) && bound < Duration::from_secs(85), "{bound:?}");
    for status in [429, 503] {
        let (count, waited) = check_busy(status, 0);
        assert_eq!(waited, bound);
        assert!((9..20).contains(&count), "{count} requests");
        // What it asks for is heeded, and no longer than the bound.
        assert_eq!(check_busy(status, 30), (4, bound));
        assert_eq!(check_busy(status, 86_400), (2, bound));
    }
}

#[test]
fn a_service_that_is_busy_for_a_while_is_waited_for() {
    let fake = FakeIam::start(|number, _| if number < 3 { (429, "busy".to_owned()) } else { grant(3, 3600) });
    let waits = Waits::default();
    let iam = patient_at(&fake, &waits, &waits.patience());
    let token = coffer_store::BearerSource::token(&iam).expect("a token at last");
    assert_eq!((token.expose(), fake.count()), ("token-3", 4));
    assert_eq!(waits.all(), [Duration::from_secs(4); 3]);
}

#[test]
fn several_who_need_a_token_wait_no_longer_than_one() {
    let fake = FakeIam::asking_for(0, |_, _| (503, "busy".to_owned()));
    let waits = Waits::default();
    let patience = waits.patience();
    let bound = RetryPolicy::remote().wait_max();
    let all: Vec<_> = (0..5).map(|_| patient_at(&fake, &waits, &patience)).collect();
    for iam in &all {
        coffer_store::BearerSource::token(iam).expect_err("busy for ever");
        assert_eq!(waits.all().iter().sum::<Duration>(), bound);
    }
    // Each of the others asked once.
    let (own, asked) = (waits.all().len() + 1, fake.count());
    assert_eq!(asked, own + 4);
    // Who was told so is told so again, and asks anew later.
    for iam in &all {
        coffer_store::BearerSource::token(iam).expect_err("given up");
    }
    assert_eq!(fake.count(), asked);
    waits.wait(PAUSE);
    for iam in &all {
        coffer_store::BearerSource::token(iam).expect_err("busy for ever");
    }
    assert_eq!((fake.count(), waits.all().len()), (asked + 5, own));
}

#[test]
fn the_next_time_a_service_is_busy_is_another_one() {
    let is_busy = Arc::new(Mutex::new(true));
    let state = Arc::clone(&is_busy);
    let fake = FakeIam::asking_for(0, move |number, _| {
        if *state.lock().expect("no panic") { (503, "busy".to_owned()) } else { grant(number, 3600) }
    });
    let waits = Waits::default();
    let patience = waits.patience();
    let bound = RetryPolicy::remote().wait_max();
    let iam = patient_at(&fake, &waits, &patience);
    coffer_store::BearerSource::token(&iam).expect_err("busy");
    *is_busy.lock().expect("no panic") = false;
    waits.wait(PAUSE);
    coffer_store::BearerSource::token(&iam).expect("a token");
    *is_busy.lock().expect("no panic") = true;
    // While the old token is good, nobody waits; then as long as before.
    waits.wait(Duration::from_secs(3000));
    let before = waits.all().len();
    coffer_store::BearerSource::token(&iam).expect("the old one");
    assert_eq!(waits.all().len(), before);
    waits.wait(Duration::from_secs(600));
    coffer_store::BearerSource::token(&iam).expect_err("busy");
    assert_eq!(waits.all()[before + 1..].iter().sum::<Duration>(), bound);
}

#[test]
fn who_gave_up_and_asks_no_more_leaves_the_others_their_time() {
    let answers = Arc::new(Mutex::new(503));
    let state = Arc::clone(&answers);
    let fake = FakeIam::asking_for(0, move |number, _| match *state.lock().expect("no panic") {
        200 => grant(number, 3600),
        status => (status, "busy".to_owned()),
    });
    let waits = Waits::default();
    let patience = waits.patience();
    let [gone, other] = [(); 2].map(|()| patient_at(&fake, &waits, &patience));
    coffer_store::BearerSource::token(&gone).expect_err("busy");
    *answers.lock().expect("no panic") = 200;
    waits.wait(PAUSE);
    coffer_store::BearerSource::token(&other).expect("a token");
    *answers.lock().expect("no panic") = 503;
    waits.wait(Duration::from_secs(3600));
    let before = waits.all().len();
    coffer_store::BearerSource::token(&other).expect_err("busy");
    assert_eq!(waits.all()[before..].iter().sum::<Duration>(), RetryPolicy::remote().wait_max());
}

#[test]
fn a_token_that_ends_while_a_fresh_one_is_asked_for_is_waited_for() {
    let waits = Waits::default();
    let slow = waits.clone();
    let fake = FakeIam::asking_for(0, move |number, _| match number {
        1 => {
            // The answer takes until the old token is of no use.
            slow.wait(Duration::from_secs(700));
            (503, "busy".to_owned())
        }
        2 => (503, "busy".to_owned()),
        number => grant(number, 3600),
    });
    let iam = patient_at(&fake, &waits, &waits.patience());
    coffer_store::BearerSource::token(&iam).expect("a token");
    waits.wait(Duration::from_secs(3000));
    let token = coffer_store::BearerSource::token(&iam).expect("the next one");
    assert_eq!((token.expose(), fake.count()), ("token-3", 4));
}
