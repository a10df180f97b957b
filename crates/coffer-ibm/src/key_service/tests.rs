use coffer_crypto::OsRng;
use coffer_crypto::Secret;
use coffer_format::id::VaultId;
use coffer_format::slot::{Slot, SlotKind, SlotPurpose};
use coffer_keys::RootKey;

use super::trust::{address, is_trusted};
use super::*;

const CRN: &str = "crn:v1:bluemix:public:kms:eu-de:a/1:11111111-0000-4000-8000-000000000001:key:2222";
const HPCS: &str =
    "crn:v1:bluemix:public:hs-crypto:us-south:a/1:33333333-0000-4000-8000-000000000001:key:4444";

fn key(text: &str) -> ServiceKey {
    Place::parse(text, None, None).unwrap_or_else(|error| panic!("{error}")).0
}

#[test]
fn a_crn_or_a_url_names_a_root_key() {
    let found = key(CRN);
    assert_eq!(found.service, KeyServiceKind::KeyProtect);
    assert_eq!(found.endpoint, "https://eu-de.kms.cloud.ibm.com");
    assert_eq!(
        (found.instance.as_str(), found.key.as_str()),
        ("11111111-0000-4000-8000-000000000001", "2222")
    );
    assert_eq!((found.crn.as_deref(), found.region.as_deref()), (Some(CRN), Some("eu-de")));
    let found = key(HPCS);
    assert_eq!(found.service, KeyServiceKind::Hpcs);
    assert_eq!(
        found.endpoint,
        "https://33333333-0000-4000-8000-000000000001.api.us-south.hs-crypto.appdomain.cloud"
    );
    let found = key("https://kms.example:8443/default/vault-root");
    assert_eq!(found.service, KeyServiceKind::Local);
    assert_eq!((found.endpoint.as_str(), found.key.as_str()), ("https://kms.example:8443", "vault-root"));
    assert_eq!(key("https://us-east.kms.cloud.ibm.com/i/k").service, KeyServiceKind::KeyProtect);
    let at = Place::parse(CRN, Some("http://127.0.0.1:9/api/v2"), Some("ring")).expect("a place").0;
    assert_eq!((at.endpoint.as_str(), at.ring.as_deref()), ("http://127.0.0.1:9", Some("ring")));
    for text in [
        "",
        "crn:v1:bluemix:public:kms:eu-de:a/1:1111::",
        "crn:v1:bluemix:public:kms:eu-de.evil.example/:a/1:1111:key:2",
        "crn:v1:bluemix:public:cos:eu-de:a/1:1111:key:2",
        "https://host/only-one",
        "ftp://host/i/k",
        "host/i/k",
    ] {
        assert!(Place::parse(text, None, None).is_err(), "{text}");
    }
}

#[test]
fn tokens_go_to_hosts_of_ibm_and_to_those_that_are_named() {
    let (of_ibm, own) = (KeyServiceKind::KeyProtect, KeyServiceKind::Local);
    let trusted = [TrustedHost::parse("kms.example:8443"), TrustedHost::parse("https://127.0.0.1:9/")];
    for (kind, endpoint, expected) in [
        (of_ibm, "https://eu-de.kms.cloud.ibm.com", true),
        (of_ibm, "https://private.eu-de.kms.cloud.ibm.com:443", true),
        (KeyServiceKind::Hpcs, "https://i.api.eu-de.hs-crypto.appdomain.cloud", true),
        (of_ibm, "http://eu-de.kms.cloud.ibm.com", false),
        (own, "https://eu-de.kms.cloud.ibm.com", false),
        (of_ibm, "https://kms.cloud.ibm.com.evil.example", false),
        (of_ibm, "https://evilkms.cloud.ibm.com", false),
        (of_ibm, "https://eu-de.kms.cloud.ibm.com@evil.example", false),
        (of_ibm, "https://evil.example/.kms.cloud.ibm.com", false),
        (of_ibm, "https://evil.example?.kms.cloud.ibm.com", false),
        (of_ibm, "https://evil.example#.kms.cloud.ibm.com", false),
        (of_ibm, "https://evil.example\\.kms.cloud.ibm.com", false),
        (own, "https://KMS.example:8443", true),
        (own, "https://kms.example", false),
        (own, "https://kms.example:8444", false),
        (of_ibm, "http://127.0.0.1:9", true),
        (of_ibm, "http://127.0.0.1:90", false),
    ] {
        assert_eq!(is_trusted(kind, endpoint, &trusted), expected, "{endpoint}");
    }
}

#[test]
fn private_addresses_stand_beside_the_public_ones() {
    for (place, expected) in [
        (CRN, "https://private.eu-de.kms.cloud.ibm.com"),
        (HPCS, "https://33333333-0000-4000-8000-000000000001.api.private.us-south.hs-crypto.appdomain.cloud"),
        (
            "https://api.eu-de.hs-crypto.cloud.ibm.com:9730/i/k",
            "https://api.private.eu-de.hs-crypto.cloud.ibm.com:9730",
        ),
        ("https://private.eu-de.kms.cloud.ibm.com/i/k", "https://private.eu-de.kms.cloud.ibm.com"),
        ("https://kms.example/i/k", "https://kms.example"),
    ] {
        let key = key(place);
        assert_eq!(address(&key, true), expected);
        assert_eq!(address(&key, false), key.endpoint);
    }
}

#[test]
fn nothing_is_sent_to_a_host_that_is_not_trusted() {
    // It listens, and is never called.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let options = KeyServiceOptions { token: Some(ApiKey::new("t0".into())), ..KeyServiceOptions::default() };
    let services = Arc::new(KeyServices::new(options).expect("services"));
    let place = key(&format!("{endpoint}/i/k"));
    let root = ServiceRoot::at(services, place.clone());
    let mut slot = Slot::unwrapped(
        VaultId([1; 32]),
        0,
        SlotPurpose::VaultKey,
        SlotKind::Service(place),
        String::new(),
        0,
    );
    assert!(root.may_open(&slot));
    slot.wrapped = b"x".to_vec();
    let address = endpoint.trim_start_matches("http://").to_owned();
    // With its port: another one at the same host may be trusted.
    let is_refused = |result: Result<(), KeyError>| matches!(result, Err(KeyError::Service { answer: ServiceAnswer::HostNotTrusted, host, .. }) if host == address);
    let rng = OsRng;
    assert!(is_refused(root.unwrap(&slot).map(drop)));
    assert!(is_refused(root.rewrap(&slot).map(drop)));
    assert!(is_refused(root.new_kind(&rng).map(drop)));
    assert!(is_refused(root.wrap(slot, &Secret::new([2; 32]), &rng).map(drop)));
    assert!(listener.accept().is_err());
}

#[test]
fn a_trusted_host_is_asked_over_plain_http_on_this_machine_alone() {
    for (address, answer) in [
        ("http://192.0.2.7:9", ServiceAnswer::AddressRefused),
        ("http://127.0.0.1:9", ServiceAnswer::Unreachable),
    ] {
        let place = key(&format!("{address}/i/k"));
        let options = KeyServiceOptions {
            token: Some(ApiKey::new("t0".into())),
            trusted: vec![TrustedHost::parse(address)],
            limit: Duration::from_millis(100),
            ..KeyServiceOptions::default()
        };
        let services = KeyServices::new(options).expect("services");
        let error = services.facts(&place).map(drop).expect_err("nobody is there");
        assert!(matches!(error, KeyError::Service { answer: told, .. } if told == answer), "{error}");
    }
}

/// A server on this machine that does with each connection what `serve` does, in a thread of its own.
fn server(serve: impl Fn(std::net::TcpStream) + Clone + Send + 'static) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(connection));
        }
    });
    endpoint
}

/// Answers every request after a while.
fn answers_after(wait: Duration, body: &'static str) -> impl Fn(std::net::TcpStream) + Clone + Send {
    use std::io::{Read, Write};
    move |mut connection| {
        let mut request = [0; 4096];
        while connection.read(&mut request).is_ok_and(|len| len > 0) {
            sleep(wait);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            if connection.write_all((head + body).as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Gives one byte of an answer that never ends in every second.
fn drips(mut connection: std::net::TcpStream) {
    use std::io::Write;
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    for byte in head.iter().chain(std::iter::repeat(&b' ')) {
        if connection.write_all(&[*byte]).is_err() {
            return;
        }
        sleep(Duration::from_secs(1));
    }
}

/// Takes what comes and says nothing.
fn is_silent(mut connection: std::net::TcpStream) {
    drop(std::io::copy(&mut connection, &mut std::io::sink()));
}

const GRANT: &str = r#"{"access_token": "token", "expires_in": 3600}"#;
const FACTS: &str = r#"{"resources": [{"id": "k", "state": 1}]}"#;

/// What is known of a key at `service`, for whoever has tokens from `iam`, and how long it took to learn that.
fn asked(iam: &str, service: &str, limit: Duration) -> (Result<KeyFacts, KeyError>, Duration) {
    let http = HttpClient::new(&HttpOptions::default()).expect("a client");
    let credential = IamCredential::ApiKey(ApiKey::new("t0".into()));
    let options = KeyServiceOptions {
        iam: Some(Arc::new(Iam::new(http, iam, credential).expect("an identity"))),
        trusted: vec![TrustedHost::parse(service)],
        limit,
        retry_limit: limit,
        ..KeyServiceOptions::default()
    };
    let services = KeyServices::new(options).expect("services");
    let key = Place::parse(CRN, Some(service), None).expect("a place").0;
    let since = Instant::now();
    (services.facts(&key), since.elapsed())
}

#[test]
fn a_limit_holds_for_the_token_and_the_answer_together() {
    let wait = Duration::from_secs(2);
    let (iam, service) = (server(answers_after(wait, GRANT)), server(answers_after(wait, FACTS)));
    let (facts, _) = asked(&iam, &service, Duration::from_secs(60));
    assert!(facts.expect("facts").is_active);
    // Each of the two would be there in time, both together are not.
    let (facts, _) = asked(&iam, &service, Duration::from_secs(3));
    let error = facts.expect_err("it took too long");
    let is_unreachable = matches!(error, KeyError::Service { answer: ServiceAnswer::Unreachable, .. });
    assert!(is_unreachable && error.to_string().contains("no answer came in time"), "{error}");
}

/// Refuses for now, this often, and answers then.
fn answers_at_last(
    refusal: &'static str,
    count: usize,
    body: &'static str,
) -> impl Fn(std::net::TcpStream) + Clone + Send {
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let seen = Arc::new(AtomicUsize::new(0));
    move |mut connection| {
        let mut request = [0; 4096];
        while connection.read(&mut request).is_ok_and(|len| len > 0) {
            let status = if seen.fetch_add(1, Ordering::SeqCst) < count { refusal } else { "200 OK" };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            if connection.write_all((head + body).as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn is_busy(error: &KeyError) -> bool {
    matches!(error, KeyError::Service { answer: ServiceAnswer::Busy, .. })
}

#[test]
fn a_busy_service_is_asked_again_while_there_is_time() {
    let iam = server(answers_after(Duration::ZERO, GRANT));
    // More often than six times, with pauses that do not grow for ever.
    let service = server(answers_at_last("503 Service Unavailable", 7, FACTS));
    let (facts, took) = asked(&iam, &service, Duration::from_secs(60));
    assert!(facts.expect("facts").is_active);
    assert!(took < Duration::from_secs(30), "{took:?}");
    // What it asks to be left alone for is honoured within the limit.
    let service = server(answers_at_last("429 Too Many Requests\r\nRetry-After: 2", 1, FACTS));
    let (facts, took) = asked(&iam, &service, Duration::from_secs(60));
    assert!(facts.is_ok() && took >= Duration::from_secs(2), "{took:?}");
    let service = server(answers_at_last("429 Too Many Requests\r\nRetry-After: 20", 1, FACTS));
    let (facts, took) = asked(&iam, &service, Duration::from_secs(10));
    assert!(is_busy(&facts.expect_err("it asks for more than there is")) && took < Duration::from_secs(5));
    // Without a time that was given, the next slot has its turn soon.
    let service = server(answers_at_last("503 Service Unavailable", usize::MAX, FACTS));
    assert!(KeyServiceOptions::default().retry_limit <= Duration::from_secs(10));
    let (facts, took) = asked(&iam, &service, Duration::from_secs(2));
    assert!(is_busy(&facts.expect_err("it is busy")) && took <= Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_service_says_of_the_key_that_was_asked_for_what_can_be_shown() {
    let iam = server(answers_after(Duration::ZERO, GRANT));
    let own = "11111111-0000-4000-8000-00000000000a";
    let asked_for = |name: &str, answer: &'static str| {
        let service = server(answers_after(Duration::ZERO, answer));
        let http = HttpClient::new(&HttpOptions::default()).expect("a client");
        let credential = IamCredential::ApiKey(ApiKey::new("t0".into()));
        let options = KeyServiceOptions {
            iam: Some(Arc::new(Iam::new(http, &iam, credential).expect("an identity"))),
            trusted: vec![TrustedHost::parse(&service)],
            ..KeyServiceOptions::default()
        };
        let crn = CRN.replace(":key:2222", &format!(":key:{name}"));
        let key = Place::parse(&crn, Some(&service), None).expect("a place").0;
        KeyServices::new(options).expect("services").facts(&key)
    };
    let same = r#"{"resources": [{"id": "11111111-0000-4000-8000-00000000000A", "state": 1}]}"#;
    let other = r#"{"resources": [{"id": "11111111-0000-4000-8000-00000000000b", "state": 1}]}"#;
    assert!(asked_for(own, same).is_ok() && asked_for("alias", other).is_ok());
    let error = asked_for(own, other).expect_err("another key");
    assert!(error.to_string().contains("another key than the one that was asked for"), "{error}");
    for hostile in [
        r#"{"resources": [{"id": "\u001b[2J", "state": 1}]}"#,
        r#"{"resources": [{"id": "a\nb", "state": 1}]}"#,
        r#"{"resources": [{"id": "", "state": 1}]}"#,
        r#"{"resources": [{"id": "a b", "state": 1}]}"#,
    ] {
        let error = asked_for("alias", hostile).expect_err(hostile);
        assert!(error.to_string().contains("an id that is none"), "{error}");
    }
    let labels = r#"{"resources": [{"id": "k", "state": 1, "crn": "\u001b[2J", "keyVersion": {"id": "\u0007"}, "keyRingID": "r\n"}]}"#;
    let facts = asked_for("alias", labels).expect("facts");
    assert_eq!((facts.crn, facts.version, facts.ring), (None, None, None));
}

#[test]
fn a_server_that_never_comes_to_an_end_is_left() {
    let good = server(answers_after(Duration::ZERO, GRANT));
    for bad in [server(drips), server(is_silent)] {
        for (iam, service) in [(&good, &bad), (&bad, &bad)] {
            let (facts, took) = asked(iam, service, Duration::from_secs(1));
            let error = facts.expect_err("there is no answer");
            let is_unreachable =
                matches!(error, KeyError::Service { answer: ServiceAnswer::Unreachable, .. });
            assert!(is_unreachable && error.to_string().contains("no answer came in time"), "{error}");
            assert!(took < Duration::from_secs(20), "{took:?}");
        }
    }
}

#[test]
fn what_a_service_of_ones_own_says_of_its_token_is_not_said_of_iam() {
    let refusal = r#"{"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."}"#;
    let refuses = move |mut connection: std::net::TcpStream| {
        use std::io::{Read, Write};
        let mut request = [0; 4096];
        if connection.read(&mut request).is_ok_and(|len| len > 0) {
            let head = format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                refusal.len()
            );
            drop(connection.write_all((head + refusal).as_bytes()));
        }
    };
    let told = |endpoint: &str| {
        let options = KeyServiceOptions {
            token: Some(ApiKey::new("t0".into())),
            trusted: vec![TrustedHost::parse(endpoint)],
            limit: Duration::from_secs(20),
            retry_limit: Duration::ZERO,
            ..KeyServiceOptions::default()
        };
        let services = KeyServices::new(options).expect("services");
        services.facts(&key(&format!("{endpoint}/i/k"))).map(drop).expect_err("it is refused")
    };
    let error = told(&server(refuses));
    let is_denied = matches!(error, KeyError::Service { answer: ServiceAnswer::Denied, .. });
    assert!(is_denied && error.to_string().contains("BXNIM0415E"), "{error}");
    assert!(!error.to_string().contains("IAM at") && !error.to_string().contains("IAM refuses"), "{error}");
    // No TLS is spoken there.
    let error = told(&server(refuses).replace("http://", "https://"));
    assert!(matches!(error, KeyError::Service { answer: ServiceAnswer::NotSecure, .. }), "{error}");
    assert!(!error.to_string().contains("IAM"), "{error}");
}
