//! The key service on its own: tokens, certificates, master keys, restarts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use coffer_crypto::{Secret, SecretBytes};
use coffer_sandbox::{
    KeyPart, KeyToken, KmsOptions, KmsServer, MasterKeySource, NewToken, Role, SandboxError, add_token,
};
use redb::{ReadableDatabase as _, ReadableTable as _};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use super::{body, collection, plaintext, refused_shortly, resource_of};
use crate::client::{Answer, send};

const AUDIT: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("audit");

/// A directory with tokens and two key parts.
struct Place {
    directory: tempfile::TempDir,
    parts: [SecretBytes; 2],
}

impl Place {
    fn new() -> Self {
        let parts = [KeyPart::generate().to_text(), KeyPart::generate().to_text()];
        Self { directory: tempfile::tempdir().unwrap(), parts }
    }

    fn token(&self, name: &str, roles: &[Role]) -> String {
        self.narrow_token(&NewToken { name: name.to_owned(), roles: roles.to_vec(), ..NewToken::default() })
    }

    fn narrow_token(&self, new: &NewToken) -> String {
        String::from_utf8(add_token(&self.tokens(), new).unwrap().expose().to_vec()).unwrap()
    }

    fn tokens(&self) -> std::path::PathBuf {
        self.directory.path().join("tokens")
    }

    fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    fn source(&self) -> MasterKeySource {
        MasterKeySource::Parts(self.parts.iter().map(|part| KeyPart::parse(part.expose()).unwrap()).collect())
    }

    fn start(&self, source: Option<MasterKeySource>) -> Result<KmsServer, SandboxError> {
        let mut options = KmsOptions::new(&self.state(), &self.tokens());
        options.master_key = source;
        KmsServer::start(&options)
    }

    fn served(&self) -> KmsServer {
        self.start(Some(self.source())).unwrap()
    }
}

fn ask(server: &KmsServer, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", &*bearer), ("Bluemix-Instance", server.instance_id())];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(server.endpoint(), method, path, &headers, body.as_bytes())
}

fn new_key(server: &KmsServer, token: &str) -> String {
    let request = collection(&[&json!({"name": "root", "extractable": false})]);
    let answer = ask(server, token, "POST", "/api/v2/keys", &request).expect(201);
    resource_of(&answer)["id"].as_str().unwrap().to_owned()
}

#[test]
fn tokens_say_who_calls_and_what_they_may_do() {
    let place = Place::new();
    let manager = place.token("manager", &[Role::Manager]);
    let reader = place.token("reader", &[Role::Reader]);
    let server = place.served();
    let key = new_key(&server, &manager);
    let narrow = place.narrow_token(&NewToken {
        name: "narrow".to_owned(),
        roles: vec![Role::Reader],
        instance: None,
        keys: vec![key.clone()],
    });
    let elsewhere = place.narrow_token(&NewToken {
        name: "elsewhere".to_owned(),
        roles: vec![Role::Manager],
        instance: Some("another".to_owned()),
        keys: Vec::new(),
    });
    let wrap = format!("/api/v2/keys/{key}/actions/wrap");
    let shown = resource_of(&ask(&server, &manager, "GET", &format!("/api/v2/keys/{key}"), &Value::Null));
    assert_eq!(shown["createdBy"], "token-manager");
    for token in [&manager, &reader, &narrow] {
        ask(&server, token, "POST", &wrap, &Value::Null).expect(200);
    }
    let request = collection(&[&json!({"name": "root"})]);
    refused_shortly(ask(&server, &reader, "POST", "/api/v2/keys", &request), 401);
    refused_shortly(ask(&server, &narrow, "GET", "/api/v2/keys", &Value::Null), 401);
    refused_shortly(ask(&server, &elsewhere, "GET", "/api/v2/keys", &Value::Null), 401);
    refused_shortly(ask(&server, "ckt_0", "GET", "/api/v2/keys", &Value::Null), 401);

    // A token that is taken out of the file is refused from then on.
    let text = std::fs::read_to_string(place.tokens()).unwrap();
    assert!(!text.contains(&reader[4..]), "the file holds hashes");
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["tokens"].as_array_mut().unwrap().retain(|entry| entry["name"] != "reader");
    std::fs::write(place.tokens(), file.to_string()).unwrap();
    refused_shortly(ask(&server, &reader, "POST", &wrap, &Value::Null), 401);
    assert!(
        add_token(
            &place.tokens(),
            &NewToken { name: "manager".into(), roles: vec![Role::Reader], ..NewToken::default() }
        )
        .is_err()
    );
}

#[test]
fn a_token_is_exchanged_for_itself() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    let server = place.served();
    for path in ["/identity/token", "/oidc/token"] {
        let form = format!("grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey={token}");
        let answer = body(&send(server.endpoint(), "POST", path, &[], form.as_bytes()).expect(200));
        let given = answer["access_token"].as_str().unwrap();
        assert_eq!(given.split('.').count(), 3);
        ask(&server, given, "GET", "/api/v2/keys", &Value::Null).expect(200);
        let form =
            format!("grant_type=refresh_token&refresh_token={}", answer["refresh_token"].as_str().unwrap());
        send(server.endpoint(), "POST", path, &[], form.as_bytes()).expect(200);
    }
    let form = b"grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey=none";
    let answer = send(server.endpoint(), "POST", "/identity/token", &[], form).expect(400);
    assert_eq!(body(&answer)["errorCode"], "BXNIM0415E");
}

#[test]
fn without_its_master_key_it_answers_nothing() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    let key = new_key(&place.served(), &token);
    let path = format!("/api/v2/keys/{key}");
    {
        let server = place.start(None).unwrap();
        assert_eq!(server.pattern(), None);
        refused_shortly(ask(&server, &token, "GET", &path, &Value::Null), 503);
    }
    let wrong = MasterKeySource::Parts(vec![KeyPart::generate(), KeyPart::generate()]);
    assert!(matches!(place.start(Some(wrong)), Err(SandboxError::WrongMasterKey { .. })));
    let other = MasterKeySource::Passphrase(SecretBytes::new(b"words".to_vec()));
    assert!(matches!(place.start(Some(other)), Err(SandboxError::MasterKey { .. })));
    ask(&place.served(), &token, "GET", &path, &Value::Null).expect(200);
}

#[test]
fn everything_is_there_after_a_restart() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    let (guid, pattern, key, wrapped) = {
        let server = place.served();
        let key = new_key(&server, &token);
        ask(&server, &token, "POST", &format!("/api/v2/keys/{key}/aliases/my-key"), &Value::Null).expect(201);
        ask(&server, &token, "POST", "/api/v2/key_rings/ring", &Value::Null).expect(201);
        let path = format!("/api/v2/keys/{key}/actions/wrap");
        let wrapped =
            body(&ask(&server, &token, "POST", &path, &json!({"plaintext": "ZGF0YQ=="})).expect(200));
        ask(&server, &token, "POST", &format!("/api/v2/keys/{key}/actions/rotate"), &Value::Null).expect(204);
        (server.instance_id().to_owned(), server.pattern().unwrap().to_owned(), key, wrapped)
    };
    let server = place.served();
    assert_eq!((server.instance_id(), server.pattern()), (&*guid, Some(&*pattern)));
    let request = json!({"ciphertext": wrapped["ciphertext"]});
    let answer = ask(&server, &token, "POST", "/api/v2/keys/my-key/actions/unwrap", &request).expect(200);
    assert_eq!(
        (plaintext(&answer), body(&answer)["keyVersion"]["id"].as_str()),
        (b"data".to_vec(), Some(&*key))
    );
    let rings = body(&ask(&server, &token, "GET", "/api/v2/key_rings", &Value::Null));
    assert_eq!(rings["resources"][1]["id"], "ring");
}

/// A device that wraps with one byte.
struct Device(u8);

impl KeyToken for Device {
    fn describe(&self) -> String {
        format!("device {}", self.0)
    }

    fn wrap(&self, key: &Secret<32>) -> Result<Vec<u8>, String> {
        Ok(key.expose().iter().map(|byte| byte ^ self.0).chain([self.0]).collect())
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Secret<32>, String> {
        let (own, bytes) = wrapped.split_last().ok_or("nothing")?;
        if *own != self.0 {
            return Err("this is another device".to_owned());
        }
        let bytes: Vec<u8> = bytes.iter().map(|byte| byte ^ self.0).collect();
        Secret::from_slice(&bytes).map_err(|error| error.to_string())
    }
}

#[test]
fn a_device_can_keep_the_master_key() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    let start = |device: u8| place.start(Some(MasterKeySource::Token(Box::new(Device(device)))));
    let key = new_key(&start(7).unwrap(), &token);
    let error = start(8).unwrap_err().to_string();
    assert!(error.contains("another device") && error.contains("device 7"), "{error}");
    ask(&start(7).unwrap(), &token, "GET", &format!("/api/v2/keys/{key}"), &Value::Null).expect(200);
}

#[test]
fn it_listens_beyond_loopback_with_a_certificate_only() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    let mut options = KmsOptions::new(&place.state(), &place.tokens());
    options.listen = ([0, 0, 0, 0], 0).into();
    options.master_key = Some(place.source());
    assert!(matches!(KmsServer::start(&options), Err(SandboxError::NotLoopback { .. })));

    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (place.directory.path().join("cert.pem"), place.directory.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    options.tls = Some((chain.clone(), key));
    let server = KmsServer::start(&options).unwrap();
    let port = server.endpoint().strip_prefix("https://0.0.0.0:").unwrap();
    let (port, root, guid) = (port.parse().unwrap(), made.cert.der().clone(), server.instance_id());
    let text = over_tls(port, &root, guid, &token, ("GET", "/keys", ""));
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    drop(server);

    // A caller from an IPv4 address is one at an IPv6 address too.
    options.listen = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
    let server = KmsServer::start(&options).unwrap();
    let port = server.endpoint().strip_prefix("https://[::]:").unwrap().parse().unwrap();
    let ask = |call: (&str, &str, &str)| over_tls(port, &root, server.instance_id(), &token, call);
    let put = |range: &str| {
        let policy = json!({"policy_type": "allowedIP", "policy_data": {"enabled": true, "attributes": {"allowed_ip": [range]}}});
        let body = json!({"metadata": {"collectionTotal": 1}, "resources": [policy]}).to_string();
        ask(("PUT", "/instance/policies", &body))
    };
    let text = put("10.0.0.0/8");
    assert!(text.starts_with("HTTP/1.1 400") && text.contains(", 127.0.0.1,"), "{text}");
    let text = put("127.0.0.0/8");
    assert!(text.starts_with("HTTP/1.1 204"), "{text}");
    let text = ask(("GET", "/keys", ""));
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");

    drop(server);
    options.tls = Some((chain.clone(), chain));
    assert!(matches!(KmsServer::start(&options), Err(SandboxError::BadFile { .. })));
}

fn over_tls(
    port: u16,
    root: &rustls::pki_types::CertificateDer<'static>,
    guid: &str,
    token: &str,
    (method, path, body): (&str, &str, &str),
) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    let request = format!(
        "{method} /api/v2{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
        Bluemix-Instance: {guid}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    // The end of the answer is the end of the connection, however it is said.
    drop(stream.read_to_string(&mut text));
    text
}

/// Writes the last entry of the audit log anew, with its hash, as somebody without the master key can.
fn forge(state: &Path) {
    let database = redb::Database::open(state.join("kms.redb")).unwrap();
    let rows: Vec<(u64, Vec<u8>)> = {
        let transaction = database.begin_read().unwrap();
        let table = transaction.open_table(AUDIT).unwrap();
        redb::ReadableTable::iter(&table)
            .unwrap()
            .map(|row| row.map(|(number, row)| (number.value(), row.value().to_vec())).unwrap())
            .collect()
    };
    let [.., (_, before), (number, last)] = &rows[..] else { panic!("two entries are needed") };
    let text = String::from_utf8(last[32..].to_vec()).unwrap().replace("token-all", "token-foe");
    let bytes = [b"coffer kms audit v1", &before[..32], text.as_bytes()].concat();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let row = [hash.as_ref(), text.as_bytes()].concat();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(AUDIT).unwrap().insert(number, &*row).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn an_audit_log_that_was_written_anew_is_found_with_the_master_key() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    {
        let server = place.served();
        new_key(&server, &token);
        new_key(&server, &token);
        let answer = body(&ask(&server, &token, "GET", "/audit", &Value::Null).expect(200));
        assert_eq!(answer["entries"], 2);
        let reader = place.token("reader", &[Role::Reader]);
        refused_shortly(ask(&server, &reader, "GET", "/audit", &Value::Null), 401);
    }
    let verify = |noted| KmsServer::verify_audit(&place.state(), noted, &mut |_| Ok(()));
    let head = verify(None).unwrap();
    assert_eq!(head.number, 2);
    forge(&place.state());
    let forged = verify(None).unwrap();
    assert_ne!(forged.hash, head.hash, "it is whole for itself");
    assert!(matches!(verify(Some(&head)), Err(SandboxError::Audit { number: 2, .. })));
    assert!(matches!(place.start(Some(place.source())), Err(SandboxError::Audit { number: 2, .. })));
    assert_eq!(verify(None).unwrap(), forged, "who refuses to start changes nothing");
    assert!(KmsServer::verify_audit(&place.directory.path().join("nowhere"), None, &mut |_| Ok(())).is_err());
}

/// Does something to a table of a service that does not run.
fn in_table<K: redb::Key + 'static, T>(
    place: &Place,
    table: redb::TableDefinition<'_, K, &'static [u8]>,
    change: impl FnOnce(&mut redb::Table<'_, K, &'static [u8]>) -> T,
) -> T {
    let database = redb::Database::open(place.state().join("kms.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let result = change(&mut transaction.open_table(table).unwrap());
    transaction.commit().unwrap();
    result
}

fn accepting(place: &Place) -> KmsServer {
    let mut options = KmsOptions::new(&place.state(), &place.tokens());
    options.master_key = Some(place.source());
    options.accepts_damaged_audit = true;
    KmsServer::start(&options).unwrap()
}

fn entries(place: &Place) -> Vec<coffer_sandbox::AuditEntry> {
    let mut found = Vec::new();
    let mut show = |entry: &coffer_sandbox::AuditEntry| {
        found.push(entry.clone());
        Ok(())
    };
    KmsServer::verify_audit(&place.state(), None, &mut show).unwrap();
    found
}

#[test]
fn a_damaged_audit_log_is_put_aside_if_its_owner_says_so() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    let (key, first, last) = {
        let server = place.served();
        let head = || {
            let body = body(&ask(&server, &token, "GET", "/audit", &Value::Null).expect(200));
            format!("{}:{}", body["entries"], body["hash"].as_str().unwrap())
        };
        let key = new_key(&server, &token);
        let first = head();
        new_key(&server, &token);
        new_key(&server, &token);
        (key, first, head())
    };
    let damaged = in_table(&place, AUDIT, |table| {
        let mut row = table.get(2).unwrap().unwrap().value().to_vec();
        row[40] ^= 1;
        table.insert(2, &*row).unwrap();
        row
    });
    assert!(matches!(place.start(Some(place.source())), Err(SandboxError::Audit { number: 2, .. })));

    let server = accepting(&place);
    let damage = server.audit_damage().unwrap().to_owned();
    assert_eq!(
        damage,
        format!(
            "damaged at entry 2: the entry does not have its hash; last good entry {first}; last sealed entry {last}; \
            put aside as audit-damaged-1"
        )
    );
    ask(&server, &token, "GET", &format!("/api/v2/keys/{key}"), &Value::Null).expect(200);
    drop(server);
    let found = entries(&place);
    let shown: Vec<_> =
        found.iter().map(|entry| (entry.number, &*entry.action, entry.note.as_deref())).collect();
    assert_eq!(shown, [(1, "kms.audit.restart", Some(&*damage)), (2, "kms.secrets.read", None)]);
    let aside = redb::TableDefinition::<u64, &[u8]>::new("audit-damaged-1");
    let kept = in_table(&place, aside, |table| table.get(2).unwrap().unwrap().value().to_vec());
    assert_eq!(kept, damaged, "the old log is as it was");

    // From then on it starts as always; and the option changes nothing in a log that is whole.
    drop(place.served());
    assert_eq!(accepting(&place).audit_damage(), None);
    assert_eq!(entries(&place).len(), 2);
    forge(&place.state());
    let again = accepting(&place);
    assert!(again.audit_damage().unwrap().ends_with("audit-damaged-2"), "{:?}", again.audit_damage());
    drop(again);
    assert_eq!(KmsServer::audits_aside(&place.state()).unwrap(), ["audit-damaged-1", "audit-damaged-2"]);
}

/// The state of a service that runs, as it would be if the process was killed now.
fn killed(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in ["kms.redb", "kms.lock"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Bytes go bad in the file, and the process was killed: the database has not been closed, and its own sums do not fit.
#[test]
fn a_byte_of_the_audit_log_that_went_bad_on_the_disk_keeps_nobody_out() {
    let place = Place::new();
    let token = place.token("all", &[Role::Manager]);
    let path = |name: &str| place.directory.path().join(name);
    let start = |name: &str, accepts: bool| {
        let mut options = KmsOptions::new(&path(name), &place.tokens());
        options.master_key = Some(place.source());
        options.accepts_damaged_audit = accepts;
        KmsServer::start(&options)
    };
    let server = place.served();
    let keys: Vec<String> = (0..40).map(|_| new_key(&server, &token)).collect();
    killed(&place.state(), &path("killed"));
    drop(server);
    let file = path("killed").join("kms.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let wanted = b"\"number\":5,\"time\":\"2";
    let places: Vec<usize> =
        (0..bytes.len() - wanted.len()).filter(|at| bytes[*at..].starts_with(wanted)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + wanted.len()] ^= 1;
    }
    std::fs::write(&file, bytes).unwrap();
    killed(&path("killed"), &path("refused"));
    let refused = start("refused", false);
    assert!(matches!(refused, Err(SandboxError::Audit { number: 5, .. })), "{refused:?}");

    let server = start("killed", true).unwrap();
    assert!(server.audit_damage().unwrap().starts_with("damaged at entry 5"));
    killed(&path("killed"), &path("again"));
    drop(server);
    let server = start("again", false).unwrap();
    for key in keys {
        ask(&server, &token, "GET", &format!("/api/v2/keys/{key}"), &Value::Null).expect(200);
    }
    drop(server);
    let mut database = redb::Database::open(path("again").join("kms.redb")).unwrap();
    assert!(database.check_integrity().unwrap(), "no damaged byte is left");
}

#[test]
fn the_sealed_head_of_the_audit_log_is_needed_too() {
    const ROWS: redb::TableDefinition<'_, (&str, &str, &str), &[u8]> = redb::TableDefinition::new("rows");
    for is_removed in [true, false] {
        let place = Place::new();
        let token = place.token("all", &[Role::Manager]);
        let guid = {
            let server = place.served();
            new_key(&server, &token);
            server.instance_id().to_owned()
        };
        in_table(&place, ROWS, |table| {
            let head = (&*guid, "audit-head", "");
            let mut sealed = table.remove(head).unwrap().unwrap().value().to_vec();
            sealed[50] ^= 1;
            if !is_removed {
                table.insert(head, &*sealed).unwrap();
            }
        });
        let refused = place.start(Some(place.source()));
        assert!(matches!(refused, Err(SandboxError::Audit { number: 1, .. })), "{refused:?}");
        let server = accepting(&place);
        assert!(
            server.audit_damage().unwrap().contains("last sealed entry none"),
            "{:?}",
            server.audit_damage()
        );
        drop(server);
        drop(place.served());
    }
}

#[test]
fn calls_of_strangers_are_counted_until_the_service_ends() {
    let place = Place::new();
    place.token("all", &[Role::Manager]);
    let server = place.served();
    for _ in 0..20 {
        refused_shortly(ask(&server, "ckt_0", "GET", "/api/v2/keys", &Value::Null), 401);
    }
    drop(server);
    let found = entries(&place);
    assert!(found.len() <= 3, "{found:?}");
    assert!(found.iter().all(|entry| entry.identity == "-" && entry.status == 401));
    assert_eq!(found.iter().map(|entry| entry.count).sum::<u64>(), 20);
}

#[test]
fn tokens_that_are_added_at_once_are_all_there() {
    let place = Place::new();
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let add = |number: u32| place.token(&format!("n{number}"), &[Role::Reader]);
        let threads: Vec<_> = (0..16).map(|number| scope.spawn(move || add(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let server = place.served();
    for token in &tokens {
        ask(&server, token, "GET", "/api/v2/keys", &Value::Null).expect(200);
    }
}
