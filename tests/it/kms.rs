//! `coffer kms` as its owner runs it: processes that are killed, master keys from files and tokens, the audit log.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use coffer_ibm::{KeyServiceOptions, KeyServices, Place, ServiceRoot, TrustedHost};
use coffer_store::ApiKey;
use coffer_testkit::conformance::RootKeySuite;
use coffer_testkit::softhsm::{CONFIGURATION_VARIABLE, SoftHsm};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::messages::check_message;
use super::support::scratch;

/// A directory with two key parts and a token, and the command in it.
struct Safe {
    place: TempDir,
    token: String,
}

/// A key service in a process of its own; it is killed as `kill -9` does it.
struct Served {
    process: Child,
    endpoint: String,
    instance: String,
    said: Value,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

const PARTS: &str = "--master-key-part a.part --master-key-part b.part";

impl Safe {
    fn new() -> Self {
        let mut safe = Self { place: scratch(), token: String::new() };
        for part in ["a.part", "b.part"] {
            check_message(&safe.json(&format!("kms new-part {part}")));
        }
        let made = safe.json("kms new-token --tokens tokens --name all --role Manager");
        check_message(&made);
        safe.token = made["token"].as_str().unwrap().to_owned();
        safe
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
        command.env_clear().env("COFFER_PASSPHRASE_COST", "floor").current_dir(self.place.path());
        command.args(line.split_whitespace()).stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// The one message of a command that succeeds.
    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("--json {line}"));
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command says that fails with this exit code.
    #[track_caller]
    fn refusal(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn serve(&self, more: &str) -> Served {
        self.serve_with(
            self.command(&format!(
                "--json kms serve --dir state --tokens tokens --listen 127.0.0.1:0 {more}"
            )),
        )
    }

    fn serve_with(&self, mut command: Command) -> Served {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            let mut text = String::new();
            process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            panic!("{line:?} {text}");
        };
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        Served { process, endpoint: text("endpoint"), instance: text("instance_id"), said }
    }
}

/// A request; `None` if the service went away.
fn try_ask(safe: &Safe, served: &Served, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /api/v2{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\
        Authorization: Bearer {}\r\nBluemix-Instance: {}\r\n\r\n{body}",
        body.len(),
        safe.token,
        served.instance
    );
    let mut stream = TcpStream::connect(served.endpoint.strip_prefix("http://").unwrap()).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).ok()? };
    Some((status, body))
}

#[track_caller]
fn ask(safe: &Safe, served: &Served, method: &str, path: &str, body: &Value) -> (u16, Value) {
    try_ask(safe, served, method, path, body).expect("the service answers")
}

fn new_key(safe: &Safe, served: &Served) -> Option<String> {
    let resource = json!({"name": "root", "extractable": false});
    let body = json!({"metadata": {"collectionTotal": 1}, "resources": [resource]});
    let (status, body) = try_ask(safe, served, "POST", "/keys", &body)?;
    assert_eq!(status, 201, "{body}");
    Some(body["resources"][0]["id"].as_str().unwrap().to_owned())
}

/// What a client was told: a key and what it wrapped.
struct Acknowledged {
    key: String,
    version_count: usize,
    plaintext: Value,
    ciphertext: Value,
}

/// Makes keys, wraps and rotates until the service goes away.
fn storm(safe: &Safe, served: &Served, acknowledged: &Mutex<Vec<Acknowledged>>) {
    while let Some(key) = new_key(safe, served) {
        let mut one = Acknowledged { key, version_count: 1, plaintext: Value::Null, ciphertext: Value::Null };
        let path = format!("/keys/{}/actions/", one.key);
        let wrapped = try_ask(safe, served, "POST", &format!("{path}wrap"), &Value::Null);
        if let Some((_, body)) = &wrapped {
            one.plaintext = body["plaintext"].clone();
            one.ciphertext = body["ciphertext"].clone();
        }
        if wrapped.is_some()
            && try_ask(safe, served, "POST", &format!("{path}rotate"), &Value::Null).is_some()
        {
            one.version_count = 2;
        }
        acknowledged.lock().unwrap().push(one);
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_process_is_killed() {
    let safe = Safe::new();
    let acknowledged = Mutex::new(Vec::new());
    for round in 1..=3 {
        let served = safe.serve(PARTS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| storm(&safe, &served, &acknowledged));
            }
            while acknowledged.lock().unwrap().len() < 25 * round {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            // In the middle of their work.
            let killed = Command::new("kill").args(["-9", &served.process.id().to_string()]).status();
            assert!(killed.unwrap().success());
        });
        drop(served);
        let served = safe.serve(PARTS);
        for one in acknowledged.lock().unwrap().iter() {
            let (status, versions) =
                ask(&safe, &served, "GET", &format!("/keys/{}/versions", one.key), &Value::Null);
            assert_eq!(status, 200, "{versions}");
            assert!(versions["resources"].as_array().unwrap().len() >= one.version_count);
            if one.ciphertext.is_string() {
                let path = format!("/keys/{}/actions/unwrap", one.key);
                let (status, opened) =
                    ask(&safe, &served, "POST", &path, &json!({"ciphertext": one.ciphertext}));
                assert_eq!((status, &opened["plaintext"]), (200, &one.plaintext));
            }
        }
        drop(served);
        let head = audited(&safe, "");
        assert!(head["entries"].as_u64().unwrap() > 0);
    }
}

/// The last message of `kms audit`, after the entries.
fn audited(safe: &Safe, more: &str) -> Value {
    let output = safe.run(format!("--json kms audit --dir state {more}").trim_end());
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let (head, entries) = lines.split_last().unwrap();
    assert_eq!(head["entries"], entries.len());
    lines.first().into_iter().chain([head]).for_each(check_message);
    head.clone()
}

#[test]
fn the_audit_log_is_printed_and_checked() {
    let safe = Safe::new();
    let served = safe.serve(PARTS);
    let key = new_key(&safe, &served).unwrap();
    ask(&safe, &served, "GET", "/keys/none", &Value::Null);
    let busy = safe.refusal("kms audit --dir state", 1);
    assert!(busy.contains("it is in use"), "{busy}");
    drop(served);
    let text = String::from_utf8(safe.run("kms audit --dir state").stdout).unwrap();
    assert!(text.contains(&format!("token-all kms.secrets.create {key} 201")), "{text}");
    assert!(text.contains("kms.secrets.read none 404 KEY_NOT_FOUND_ERR"), "{text}");
    let head = audited(&safe, "");
    let noted = format!("--head 2:{}", head["hash"].as_str().unwrap());
    audited(&safe, &noted);
    let other = safe.refusal(&format!("kms audit --dir state --head 2:{}", "0".repeat(64)), 20);
    assert!(other.contains("entry 2"), "{other}");
    let cut = safe.refusal(&format!("kms audit --dir state --head 3:{}", "0".repeat(64)), 20);
    assert!(cut.contains("ends before"), "{cut}");
}

/// Alters an entry of the audit log of a service that does not run.
fn damage(safe: &Safe, from: &[u8], to: &[u8]) {
    let path = safe.place.path().join("state/kms.redb");
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + from.len()].copy_from_slice(to);
    }
    fs::write(&path, bytes).unwrap();
}

/// Asks with a token that nobody has made, as anybody can who reaches the port.
fn knock(served: &Served) {
    let request = format!(
        "GET /api/v2/keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer none\r\n\
        Bluemix-Instance: {}\r\n\r\n",
        served.instance
    );
    let mut stream = TcpStream::connect(served.endpoint.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
}

#[test]
fn a_service_that_is_told_to_end_writes_what_it_has_counted() {
    for signal in ["-TERM", "-INT"] {
        let safe = Safe::new();
        let mut served = safe.serve(PARTS);
        for _ in 0..20 {
            knock(&served);
        }
        // A client that keeps its connection does not keep the service from ending.
        let _open = TcpStream::connect(served.endpoint.strip_prefix("http://").unwrap()).unwrap();
        assert_eq!(ended(&mut served.process, signal), Some(0), "{signal}");
        let audit = safe.run("--json kms audit --dir state");
        let entries: Vec<Value> =
            audit.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        let strangers = entries.iter().filter(|entry| entry["identity"] == "-");
        let count: u64 = strangers.map(|entry| entry["count"].as_u64().unwrap()).sum();
        assert_eq!(count, 20, "{entries:?}");
    }
}

#[test]
fn a_region_that_is_told_to_end_does_so() {
    let place = scratch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-under-test"));
    command.env_clear().current_dir(place.path()).args(["sandbox", "serve", "--dir", "region"]);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended");
    }
    assert_eq!(ended(&mut process, "-TERM"), Some(0));
}

/// The exit code of a process that gets a signal and ends soon after it.
fn ended(process: &mut Child, signal: &str) -> Option<i32> {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
    for _ in 0..600 {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("it goes on");
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let safe = Safe::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused =
        safe.refusal(&format!("kms serve --dir state --tokens tokens --listen {address} {PARTS}"), 1);
    assert!(refused.contains(&format!("listen on {address}")), "{refused}");
    assert!(refused.contains("--listen") && refused.contains("coffer keys retarget"), "{refused}");
    let help = String::from_utf8(safe.run("kms serve --help").stdout).unwrap();
    assert!(help.contains("[default: 127.0.0.1:8443]"), "{help}");
}

#[test]
fn no_token_goes_to_another_machine_over_plain_http() {
    let safe = Safe::new();
    fs::write(safe.place.path().join("token"), &safe.token).unwrap();
    fs::write(safe.place.path().join("phrase"), "several words that nobody guesses").unwrap();
    let place = "http://192.0.2.7:8443/00000000-0000-4000-8000-000000000000/root";
    let refused = safe.refusal(
        &format!(
            "-V vault --cache-dir cache --key-service-token-file token --key-service-host http://192.0.2.7:8443 \
            init --add-root-key {place} --add-passphrase-file phrase"
        ),
        30,
    );
    assert!(refused.contains("over plain http"), "{refused}");
    assert!(refused.contains("hint: ") && refused.contains("--tls-cert"), "{refused}");
    assert!(!safe.place.path().join("vault/vault").exists());
}

#[test]
fn a_damaged_audit_log_is_put_aside_if_its_owner_says_so() {
    let safe = Safe::new();
    let served = safe.serve(PARTS);
    let key = new_key(&safe, &served).unwrap();
    drop(served);
    assert_eq!(audited(&safe, "")["put_aside"], json!([]));
    damage(&safe, b"kms.secrets.create", b"kms.secrets.unmake");
    let start = format!("kms serve --dir state --tokens tokens --listen 127.0.0.1:0 {PARTS}");
    let refused = safe.refusal(&start, 20);
    assert!(refused.contains("entry 1") && refused.contains("kms serve --accept-damaged-audit"), "{refused}");
    let keyless = safe.refusal("kms serve --dir state --tokens tokens --accept-damaged-audit", 2);
    assert!(keyless.contains("--accept-damaged-audit needs the master key"), "{keyless}");

    let mut served = safe.serve(&format!("{PARTS} --accept-damaged-audit"));
    assert_eq!(ask(&safe, &served, "GET", &format!("/keys/{key}"), &Value::Null).0, 200);
    served.process.kill().unwrap();
    let mut warned = String::new();
    served.process.stderr.take().unwrap().read_to_string(&mut warned).unwrap();
    assert!(warned.contains("damaged at entry 1") && warned.contains("audit-damaged-1"), "{warned}");
    drop(served);

    // From then on it starts as always, and the audit says what there was before.
    drop(safe.serve(PARTS));
    assert_eq!(audited(&safe, "")["put_aside"], json!(["audit-damaged-1"]));
    let audit = safe.run("kms audit --dir state");
    let (out, err) = (String::from_utf8(audit.stdout).unwrap(), String::from_utf8(audit.stderr).unwrap());
    assert!(out.contains("kms.audit.restart") && out.contains("the log is whole"), "{out}");
    assert!(err.contains("put aside as audit-damaged-1"), "{err}");
}

#[test]
fn the_master_key_is_asked_for_as_it_was_made() {
    let safe = Safe::new();
    fs::write(safe.place.path().join("words"), "correct horse battery staple\n").unwrap();
    let served = safe.serve("--master-passphrase-file words");
    check_message(&served.said);
    let pattern = served.said["pattern"].clone();
    let key = new_key(&safe, &served).unwrap();
    drop(served);
    let parts = safe.refusal(&format!("kms serve --dir state --tokens tokens {PARTS}"), 12);
    assert!(parts.contains("made from a passphrase"), "{parts}");
    fs::write(safe.place.path().join("other"), "wrong horse").unwrap();
    let wrong = safe.refusal("kms serve --dir state --tokens tokens --master-passphrase-file other", 12);
    assert!(wrong.contains(pattern.as_str().unwrap()), "{wrong}");

    let without = safe.serve("");
    assert_eq!(without.said["pattern"], Value::Null);
    assert_eq!(ask(&safe, &without, "GET", "/keys", &Value::Null).0, 503);
    drop(without);
    let served = safe.serve("--master-passphrase-file words");
    assert_eq!(served.said["pattern"], pattern);
    assert_eq!(ask(&safe, &served, "GET", &format!("/keys/{key}"), &Value::Null).0, 200);
}

#[test]
fn files_of_secrets_are_for_their_owner_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let safe = Safe::new();
    let at = |name: &str| safe.place.path().join(name);
    for name in ["a.part", "tokens"] {
        assert_eq!(fs::metadata(at(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let before = fs::read(at("a.part")).unwrap();
    safe.refusal("kms new-part a.part", 1);
    assert_eq!(fs::read(at("a.part")).unwrap(), before);
    assert!(!fs::read_to_string(at("tokens")).unwrap().contains(&safe.token));
    safe.refusal("kms new-token --tokens tokens --name all --role Reader", 1);
    safe.refusal("kms serve --dir state --tokens tokens --listen 0.0.0.0:0", 2);
    safe.refusal("kms serve --dir state --tokens tokens --master-key-part a.part", 12);
    safe.refusal("kms serve --dir state --tokens none", 1);
    fs::write(at("a.part"), [&before[..40], b"00", &before[42..]].concat()).unwrap();
    let spoiled = safe.refusal(&format!("kms serve --dir state --tokens tokens {PARTS}"), 12);
    assert!(spoiled.contains("a.part"), "{spoiled}");
    // Who can write to the file of tokens makes a manager of himself.
    for mode in [0o666, 0o620, 0o602] {
        fs::set_permissions(at("tokens"), fs::Permissions::from_mode(mode)).unwrap();
        for command in [
            "kms serve --dir /dev/null/no --tokens tokens",
            "kms new-token --tokens tokens --name more --role Reader",
        ] {
            let refused = safe.refusal(command, 1);
            assert!(
                refused.contains("others than its owner may write") && refused.contains("chmod go-w"),
                "{refused}"
            );
        }
    }
    fs::set_permissions(at("tokens"), fs::Permissions::from_mode(0o644)).unwrap();
    safe.json("kms new-token --tokens tokens --name more --role Reader");
}

#[test]
fn a_token_can_keep_the_master_key() {
    let safe = Safe::new();
    let place: &Path = safe.place.path();
    let Some(tokens) = SoftHsm::new(&place.join("hsm"), "") else { return };
    tokens.make_token("hsm", "4711-0815");
    fs::write(place.join("pin"), "4711-0815\n").unwrap();
    let environment = |mut command: Command| {
        command.env(CONFIGURATION_VARIABLE, tokens.configuration());
        command
    };
    let module = tokens.module().to_str().unwrap();
    let made = format!(
        "--pkcs11-module {module} --pkcs11-token hsm --pkcs11-pin-file pin keys new-token-key kms-master"
    );
    let made = environment(safe.command(&made)).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let serve = |more: &str| {
        let pkcs11 = format!("--master-pkcs11 {module} --master-pkcs11-pin-file pin");
        environment(safe.command(&format!(
            "--json kms serve --dir state --tokens tokens --listen 127.0.0.1:0 {pkcs11} {more}"
        )))
    };
    let long = "x".repeat(33);
    let refused =
        serve(&format!("--master-pkcs11-token {long} --master-pkcs11-key kms-master")).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("too long for a token: 33 bytes, where 32"), "{told}");
    assert!(told.contains("check --master-pkcs11-token"), "{told}");
    let served = safe.serve_with(serve("--master-pkcs11-token hsm --master-pkcs11-key kms-master"));
    let key = new_key(&safe, &served).unwrap();
    let pattern = served.said["pattern"].clone();
    drop(served);
    let served = safe.serve_with(serve("--master-pkcs11-token hsm"));
    assert_eq!(served.said["pattern"], pattern);
    assert_eq!(ask(&safe, &served, "GET", &format!("/keys/{key}"), &Value::Null).0, 200);
    drop(served);
    fs::write(place.join("pin"), "0000-wrong\n").unwrap();
    let wrong = serve("--master-pkcs11-token hsm").output().unwrap();
    assert_eq!(wrong.status.code(), Some(12), "{wrong:?}");
    let text = String::from_utf8(wrong.stderr).unwrap();
    assert!(text.contains("the PIN is wrong") && !text.contains("0000-wrong"), "{text}");
}

/// What opens slots by the key service of one's own.
fn services(safe: &Safe, served: &Served) -> Arc<KeyServices> {
    let options = KeyServiceOptions {
        token: Some(ApiKey::new(safe.token.clone())),
        trusted: vec![TrustedHost::parse(&served.endpoint)],
        ..KeyServiceOptions::default()
    };
    Arc::new(KeyServices::new(options).unwrap())
}

#[test]
fn a_key_service_of_ones_own_keeps_the_promises_of_a_root_key() {
    let safe = Safe::new();
    let served = safe.serve(PARTS);
    let root = || {
        let key = new_key(&safe, &served).unwrap();
        let place = format!("{}/{}/{key}", served.endpoint, served.instance);
        ServiceRoot::at(services(&safe, &served), Place::parse(&place, None, None).unwrap().0)
    };
    let (root, other) = (root(), root());
    let secrets = vec![safe.token.clone().into_bytes()];
    let debug = format!("{root:?} {:?}", services(&safe, &served));
    RootKeySuite { root: &root, other: &other, debug, secrets, has_many_forms: true, tries_max: 60 }.run();
}

#[test]
fn a_vault_hangs_on_a_key_service_of_ones_own() {
    let safe = Safe::new();
    let path = |name: &str| safe.place.path().join(name);
    fs::create_dir(path("src")).unwrap();
    fs::write(path("src/a"), "a small file").unwrap();
    fs::write(path("phrase"), "several words that nobody guesses").unwrap();
    fs::write(path("token"), &safe.token).unwrap();
    let served = safe.serve(PARTS);
    let key = new_key(&safe, &served).unwrap();
    let with = |served: &Served, line: &str| {
        let host = served.endpoint.strip_prefix("http://").unwrap();
        let flags =
            format!("-V vault --cache-dir cache --key-service-token-file token --key-service-host {host}");
        format!("{flags} {line}")
    };
    let place = format!("{}/{}/{key}", served.endpoint, served.instance);
    let init = format!("init --add-root-key {place} --add-passphrase-file phrase");
    check_message(&safe.json(&with(&served, &init)));
    assert!(safe.run(&with(&served, "backup src")).status.success());
    let listed = safe.json(&with(&served, "keys test --also-passphrase-file phrase"));
    let slots = listed["slots"].as_array().unwrap();
    assert!(slots.len() == 2 && slots.iter().all(|slot| slot["tested"] == true), "{listed}");
    let slot = slots.iter().find(|slot| slot["kind"] == "local key service").unwrap()["id"].as_str().unwrap();

    // Its process is killed: nothing opens but by the passphrase. When it is back, elsewhere, the slot is moved there.
    let before = format!("--key-service-timeout 6 {}", with(&served, "snapshots"));
    drop(served);
    assert!(safe.refusal(&before, 31).contains("it cannot be reached"));
    let again = safe.serve(PARTS);
    let place = format!("{}/{}/{key}", again.endpoint, again.instance);
    let moved = with(&again, &format!("keys retarget {} --to {place}", &slot[..8]));
    check_message(&safe.json(&moved));
    assert!(safe.run(&with(&again, "restore latest --target out")).status.success());
    assert_eq!(fs::read(path("out/src/a")).unwrap(), b"a small file");
}

#[test]
fn what_a_key_service_of_ones_own_needs_is_told() {
    let safe = Safe::new();
    let path = |name: &str| safe.place.path().join(name);
    for (name, text) in [
        ("phrase", "several words that nobody guesses"),
        ("token", safe.token.as_str()),
        ("api-key", "an-api-key"),
        ("empty", ""),
        ("unknown", "ckt_0000"),
    ] {
        fs::write(path(name), text).unwrap();
    }
    let served = safe.serve(PARTS);
    let key = new_key(&safe, &served).unwrap();
    let host = served.endpoint.strip_prefix("http://").unwrap().to_owned();
    let with = |token: &str, line: &str| {
        format!(
            "-V vault --cache-dir cache --key-service-token-file {token} --key-service-host {host} {line}"
        )
    };
    let place = format!("{host}/{}/{key}", served.instance);
    safe.json(&with("token", &format!("init --add-root-key http://{place} --add-passphrase-file phrase")));

    // Another port of the same host is another service.
    let line = "-V vault --key-service-token-file token --key-service-host 127.0.0.1:1 snapshots";
    let refused = safe.refusal(line, 30);
    assert!(refused.contains(&format!("local key service at {host}: this host is not trusted")), "{refused}");
    assert!(refused.contains(&format!("--key-service-host {host}")), "{refused}");
    // What is given is for others.
    let refused = safe.refusal("-V vault --key-service-api-key-file api-key snapshots", 12);
    assert!(refused.contains(&format!("is for key {key} at http://{host}")), "{refused}");
    assert!(refused.contains("--key-service-token-file FILE") && !refused.contains("tried"), "{refused}");
    let refused = safe.refusal(&with("empty", "snapshots"), 30);
    assert!(refused.contains("the token in empty") && refused.contains("coffer kms new-token"), "{refused}");
    let refused = safe.refusal(&with("unknown", "snapshots"), 30);
    assert!(refused.contains("access is denied") && refused.contains("coffer kms new-token"), "{refused}");
    assert!(!refused.contains("IAM refuses"), "{refused}");
    // It speaks no TLS, and nothing is left of the vault that was to be made with it.
    let line = with("token", &format!("-V other init --single-slot --add-root-key https://{place}"));
    let refused = safe.refusal(&line.replacen("-V vault ", "", 1), 31);
    assert!(
        refused.contains("no secure connection to it can be made") && refused.contains("--ca-cert"),
        "{refused}"
    );
    assert!(!refused.contains("IAM") && !path("other").exists(), "{refused}");
    // A slot that cannot be moved is told in one way, however many there are.
    drop(served);
    let rewrap = "--key-service-timeout 1 --passphrase-file phrase keys rewrap";
    assert!(safe.refusal(&with("token", rewrap), 3).contains("not every slot was rewrapped"));
}
