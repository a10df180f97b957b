//! What `--json` prints, held against `docs/cli.md`: every message, every field, every type, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use coffer_format::record::Role;
use coffer_sandbox::{NewBucket, Sandbox, SandboxOptions};
use serde_json::Value;

use super::damage::flip;
use super::desk::{Desk, PASSPHRASE, copy};

/// The types of a message's fields by their paths, as the document names them.
type Fields = BTreeMap<String, String>;

/// Files of the repository, from its root.
pub(super) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The tables of the document, by message type.
fn documented() -> BTreeMap<String, Fields> {
    let text = fs::read_to_string(repository("docs/cli.md")).unwrap();
    let mut messages: BTreeMap<String, Fields> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            current = message_of(heading);
            messages.extend(current.clone().map(|name| (name, Fields::new())));
        } else if let (Some(name), Some(row)) = (&current, line.strip_prefix("| `")) {
            let mut cells = row.split(" | ");
            let field = cells.next().unwrap().trim_end_matches('`').to_owned();
            let kind = cells.next().unwrap().trim().to_owned();
            assert!(
                messages.get_mut(name).unwrap().insert(field, kind).is_none(),
                "{name}: {row} stands twice"
            );
        }
    }
    assert!(!messages.is_empty());
    messages
}

/// The message that a heading announces; there is a summary for each of several commands.
fn message_of(heading: &str) -> Option<String> {
    let (name, rest) = heading.strip_prefix('`')?.split_once("` message")?;
    let command = rest.strip_prefix(" of `coffer ").and_then(|rest| rest.strip_suffix('`'));
    Some(command.map_or_else(|| name.to_owned(), |command| format!("{name} {command}")))
}

/// The name of a message in the document.
fn name_of(message: &Value) -> String {
    let name = message["message_type"].as_str().unwrap_or_else(|| panic!("no message_type: {message}"));
    match message["command"].as_str() {
        Some(command) if name == "summary" => format!("{name} {command}"),
        _ => name.to_owned(),
    }
}

/// Fields of a value, with their types; what is in a list has `[]` in its path.
fn flatten(value: &Value, path: &str, found: &mut BTreeSet<(String, &'static str)>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    if !path.is_empty() {
        found.insert((path.to_owned(), kind));
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, &format!("{path}[]"), found)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            let dot = if path.is_empty() { "" } else { "." };
            flatten(field, &format!("{path}{dot}{name}"), found);
        }),
        _ => {}
    }
}

/// Whether the document's words for a type allow what a value has.
fn allows(documented: &str, kind: &str) -> bool {
    documented.split(" or ").any(|word| word == kind || (word == "time" && kind == "string"))
}

/// Panics unless the message is one that the document describes, with the fields it describes and no others.
#[track_caller]
pub(crate) fn check_message(message: &Value) {
    let documented = documented();
    let name = name_of(message);
    let fields = documented.get(&name).unwrap_or_else(|| panic!("docs/cli.md does not describe {name}"));
    let mut found = BTreeSet::new();
    flatten(message, "", &mut found);
    found.retain(|(path, _)| path != "message_type");
    for (path, kind) in &found {
        // What is in a map is described with the map.
        let map = fields.iter().find(|(map, words)| {
            words.starts_with("map of ")
                && path.strip_prefix(map.as_str()).is_some_and(|rest| rest.starts_with('.'))
        });
        if let Some((_, words)) = map {
            assert_eq!(*words, format!("map of {kind}s"), "{name}: {path}");
            continue;
        }
        // The items of a list of plain values are described with the list.
        if let Some(list) = path.strip_suffix("[]") {
            let item = format!("list of {kind}s");
            let words = fields.get(list).map_or("", String::as_str);
            assert!(
                words == item,
                "docs/cli.md says of {name}: {list} is a {words}, here it is a {item}: {message}"
            );
            continue;
        }
        let Some(words) = fields.get(path) else { panic!("docs/cli.md does not name {path} of {name}") };
        let words = match *kind {
            "list" if words.starts_with("list of ") => "list",
            "object" if words.starts_with("map of ") => "object",
            _ => words,
        };
        assert!(allows(words, kind), "docs/cli.md says of {name}: {path} is a {words}, here it is a {kind}");
        if words == "time" {
            let text = message.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str);
            assert!(text.is_none_or(|text| text.ends_with('Z') && text.contains('T')), "{path}: {text:?}");
        }
    }
    // Fields at the top are always there; those of items are, where there is an item.
    for field in fields.keys() {
        let shown = found.iter().any(|(path, _)| path == field);
        let parent = field.rsplit_once('.').map(|(parent, _)| parent);
        let is_there = |parent: &str| found.iter().any(|(path, kind)| path == parent && *kind != "null");
        let expected = parent.is_none_or(is_there);
        assert!(shown || !expected, "{name} lacks {field}, which docs/cli.md names: {message}");
    }
}

/// Every message type that the source of the command names.
fn emitted() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![repository("crates/coffer-cli/src")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        for after in fs::read_to_string(path).unwrap().split("\"message_type\": \"").skip(1) {
            let mut words = after.split('"');
            let name = words.next().unwrap();
            let command = words.nth(3).filter(|_| name == "summary");
            names.insert(command.map_or_else(|| name.to_owned(), |command| format!("{name} {command}")));
        }
    }
    names
}

#[test]
fn the_document_describes_every_message_and_no_other() {
    assert_eq!(documented().into_keys().collect::<BTreeSet<_>>(), emitted());
}

#[test]
fn an_error_in_json_stands_on_standard_error_alone() {
    let desk = Desk::with_vault();
    for (line, code, kind) in
        [("ls latest", 1, "failed"), ("ls", 2, "usage"), ("-V ../nothing stats", 10, "no_vault")]
    {
        let ran = desk.json(line).expect(code);
        assert_eq!(ran.out, "");
        let errors = ran.error_messages();
        assert_eq!(errors.len(), 1, "{ran:?}");
        assert_eq!((&errors[0]["message_type"], &errors[0]["kind"]), (&"error".into(), &kind.into()));
        assert_eq!(errors[0]["exit_code"], code);
    }
}

/// What stays null or empty unless a store refuses something or loses it for good in the middle of the command.
const UNSEEN: [&str; 51] = [
    // Those of tokens are looked at in `pkcs11.rs`.
    "healed.detail",
    "healed_home.copy.error",
    "healed_home.copy.lost",
    "healed_home.copy.not_looked_at",
    "keys.slots[].root_key.id",
    "keys.slots[].root_key.mechanism",
    "keys.slots[].root_key.serial",
    "keys.slots[].root_key.token",
    // Of a log that was damaged.
    "kms_audit.put_aside",
    "kms_audit_entry.note",
    // Where a manifest does not open: see `writers/hostile.rs`.
    "snapshots.unread",
    "summary backup.lagging[].objects",
    "summary backup.lagging[].records",
    "summary locks extend.stores[].errors",
    "summary locks extend.stores[].errors[].message",
    "summary locks extend.stores[].errors[].object",
    "summary locks extend.unreadable",
    "summary locks hold.errors",
    "summary locks hold.errors[].message",
    "summary locks hold.errors[].object",
    "summary locks hold.unreadable",
    "summary locks release.errors",
    "summary locks release.errors[].message",
    "summary locks release.errors[].object",
    "summary locks release.unreadable",
    "healed_home.copy.damaged_records",
    "summary reconcile.lost",
    "summary reconcile.refused",
    "summary reconcile.refused[].id",
    "summary reconcile.refused[].reason",
    "summary reconcile.rejoined[].error",
    "summary replicate.copies[].damaged_records",
    "summary replicate.copies[].error",
    "summary replicate.copies[].not_looked_at",
    "summary verify --locks.stores[].unreadable",
    // Where a bucket does not answer, or trees are archived: see `cloud/locks.rs`.
    "summary locks extend.not_asked",
    "summary locks extend.not_asked[].reason",
    "summary locks extend.not_asked[].store",
    "summary locks extend.widened",
    "summary locks hold.not_asked",
    "summary locks hold.not_asked[].reason",
    "summary locks hold.not_asked[].store",
    "summary locks hold.widened",
    "summary locks release.not_asked",
    "summary locks release.not_asked[].reason",
    "summary locks release.not_asked[].store",
    "summary locks release.widened",
    "summary verify --locks.not_asked",
    "summary verify --locks.not_asked[].reason",
    "summary verify --locks.not_asked[].store",
    "summary verify --locks.widened",
];

/// Two stores of one vault: they are filled, healed, and change their parts.
fn of_several_stores(messages: &mut Vec<Value>) {
    let desk = Desk::new();
    let mut hear = |line: &str, code: i32| {
        let ran = desk.json(line).expect(code);
        messages.extend(ran.messages());
        messages.extend(ran.error_messages());
    };
    let both = "--store ../one --store ../two";
    hear(&format!("{both} init --single-slot"), 0);
    hear(&format!("{both} backup src"), 0);
    hear(&format!("{both} replicate --status"), 0);
    hear(&format!("{both} --store ../three replicate --new"), 0);
    fs::remove_dir_all(desk.path("three")).unwrap();
    hear(&format!("{both} handover --to ../two"), 0);
    let pack = |store: &str| {
        let mut open = vec![desk.path(store).join("packs")];
        loop {
            let path = open.pop().expect("a pack");
            if path.is_file() {
                return path;
            }
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    };
    fs::remove_file(pack("one")).unwrap();
    hear(&format!("{both} verify --heal"), 24);
    // The second store goes on alone, and is lost; what it took meanwhile is known to this machine.
    fs::write(desk.path("work/src/new"), "new").unwrap();
    fs::rename(desk.path("one"), desk.path("aside")).unwrap();
    hear(&format!("{both} backup src"), 3);
    fs::rename(desk.path("aside"), desk.path("one")).unwrap();
    fs::rename(desk.path("two"), desk.path("away")).unwrap();
    hear("--store ../one promote", 11);
    hear("--store ../one promote --accept-loss", 0);
    fs::write(desk.path("work/src/newer"), "newer").unwrap();
    hear(&format!("{both} backup src"), 3);
    hear(&format!("{both} replicate --status"), 3);
    fs::rename(desk.path("away"), desk.path("two")).unwrap();
    hear(&format!("{both} replicate --status"), 3);
    hear(&format!("{both} replicate"), 3);
    hear(&format!("{both} reconcile --rejoin"), 0);
    let last = fs::read_dir(desk.path("one/log")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_file(last).unwrap();
    hear(&format!("{both} verify --heal"), 24);
    // What every store has lost is named.
    let lost = pack("one");
    fs::remove_file(&lost).unwrap();
    fs::remove_file(desk.path("two").join(lost.strip_prefix(desk.path("one")).unwrap())).unwrap();
    hear(&format!("{both} --store ../three replicate --new"), 3);
}

/// Writers that are enrolled, listed and revoked.
fn of_writers(messages: &mut Vec<Value>) {
    let desk = Desk::with_vault();
    for line in [
        "grant-writer web --host web-1 --out ../web.writer",
        "grant-writer db --group web --out ../db.writer",
        "revoke-writer web",
        "writers",
    ] {
        messages.extend(desk.json(&format!("keys {line}")).expect(0).messages());
    }
    super::writers::plant(&desk, 70, Role::Maintainer);
    messages.extend(desk.json("keys rotate --revoke-signers").expect(0).messages());
}

/// A key service that is asked once, for a key that it does not have.
fn of_a_key_service(messages: &mut Vec<Value>) {
    let desk = Desk::new();
    for line in
        ["new-part ../a.part", "new-part ../b.part", "new-token --tokens ../tokens --name job --role Reader"]
    {
        messages.extend(desk.json(&format!("kms {line}")).expect(0).messages());
    }
    let line = "--json kms serve --dir ../kms --tokens ../tokens --listen 127.0.0.1:0 --master-key-part ../a.part --master-key-part ../b.part";
    let mut command = desk.bare_command(&line.split(' ').collect::<Vec<_>>());
    let mut service = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    check_message(&said);
    let host = said["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let guid = said["instance_id"].as_str().unwrap();
    let token = messages.iter().find(|message| message["message_type"] == "kms_token").unwrap();
    let token = token["token"].as_str().unwrap();
    let request = format!(
        "GET /api/v2/keys/none/metadata HTTP/1.1\r\nHost: {host}\r\nBluemix-Instance: {guid}\r\nAuthorization: Bearer {token}\r\n\
        Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    service.kill().unwrap();
    service.wait().unwrap();
    messages.push(said);
    messages.extend(desk.json("kms audit --dir ../kms").expect(0).messages());
}

/// A vault in a bucket that locks objects, and the region itself.
fn of_a_bucket(messages: &mut Vec<Value>) {
    let desk = Desk::new();
    messages.extend(desk.json("regions").expect(0).messages());
    let mut command = desk.bare_command(&["--json", "sandbox", "serve", "--tls", "--dir", "../region"]);
    let mut region = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(region.stdout.take().unwrap()).read_line(&mut line).unwrap();
    region.kill().unwrap();
    region.wait().unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    check_message(&said);
    messages.push(said);

    let sandbox = Sandbox::start(&SandboxOptions::default()).unwrap();
    let mut bucket = NewBucket::named("backups");
    bucket.object_lock = true;
    sandbox.create_bucket(&bucket).unwrap();
    for line in [
        "init --single-slot --lock compliance --lock-days 3",
        "policy show",
        "policy set --lock-days 4",
        "backup src --estimate",
        "backup src",
        "-vv restore latest --target ../out --estimate",
        "locks extend --days 20",
        "locks hold",
        "locks release latest",
        "verify --locks --min-days 1",
        "doctor",
    ] {
        let words: Vec<&str> = ["--json"].into_iter().chain(line.split_whitespace()).collect();
        let mut command = desk.command(&words);
        command.env("COFFER_VAULT", "s3://backups/vault").env("COFFER_ENDPOINT", sandbox.endpoint());
        command.env("AWS_ACCESS_KEY_ID", &sandbox.hmac().access_key_id);
        command.env("AWS_SECRET_ACCESS_KEY", &sandbox.hmac().secret_access_key);
        let ran = desk.finish(&mut command).expect(0);
        let said: Vec<Value> = ran.messages().into_iter().chain(ran.error_messages()).collect();
        said.iter().for_each(check_message);
        messages.extend(said);
    }
}

/// One journey through every command in which each documented field shows up at least once.
#[test]
fn every_documented_field_of_every_message_is_printed() {
    let desk = Desk::new();
    let mut messages = Vec::new();
    let mut hear = |line: &str, code: i32| {
        let ran = desk.json(line).expect(code);
        messages.extend(ran.messages());
        messages.extend(ran.error_messages());
    };
    fs::write(desk.path("phrase"), format!("{PASSPHRASE}\n")).unwrap();
    fs::hard_link(desk.path("work/src/a"), desk.path("work/src/twin")).unwrap();
    // Its set-user-id bit is left out on restore, and said.
    fs::set_permissions(desk.path("work/src/a"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::os::unix::fs::symlink("a", desk.path("work/src/link")).unwrap();
    // A zip archive cannot hold it.
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, desk.path("work/src/fifo"), fifo, 0o600.into(), 0).unwrap();
    copy(&desk.path("work/src"), &desk.path("work/more"));

    hear("keys new-file ../second", 0);
    hear("init --add-passphrase-file ../phrase", 0);
    hear("backup --tag nightly --tag first src", 0);
    hear("-v backup --tag nightly,first src", 0);
    hear("backup src absent", 3);
    hear("backup ..", 0);
    hear("snapshots", 0);
    hear("snapshots --group-by host,paths,tags", 0);
    hear("ls latest~2", 0);
    hear("find large --path src", 0);
    hear("diff latest~3 latest~2", 0);
    hear("diff --metadata latest~2:/src --dir .", 0);
    hear("dump latest~2 --archive zip --output ../src.zip", 0);
    hear("restore latest --target ../out", 0);
    hear("restore latest --target ../out --dry-run", 0);
    hear("verify", 0);
    hear("stats", 0);
    hear("keys list", 0);
    hear("keys test --record --also-passphrase-file ../phrase", 0);
    hear("keys add --new-key-file ../second --label second", 0);
    hear("keys add --new-shares 2of3 --shares-dir ../shares", 0);
    hear("--passphrase-file ../phrase keys passwd --new-passphrase-file ../phrase", 0);
    hear("doctor", 0);
    hear("keys list --key-file ../nothing", 12);
    hear("snapshots --bogus", 2);
    // What is residue, surplus, damaged and lost.
    let residue = desk.path(&format!("vault/index/{}", "ab".repeat(32)));
    fs::write(residue, "left by a run that was stopped").unwrap();
    fs::write(desk.path("vault/notes.txt"), "not an object").unwrap();
    fs::write(desk.path("vault/log/foreign"), "not an object").unwrap();
    hear("verify --offline", 22);
    let pack =
        desk.objects("packs").into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    flip(&pack);
    hear("--key-file ../second verify --deep", 20);
    hear("--key-file ../second restore latest~3 --target ../half", 3);
    hear("--key-file ../second dump latest~3 --output ../half.tar", 3);
    hear("--key-file ../second keys list", 0);
    let slot =
        messages.iter().find(|message| message["message_type"] == "key_added").unwrap()["slot"].clone();
    let ran = desk.json(&format!("--passphrase-file ../phrase keys revoke {}", slot.as_str().unwrap()));
    messages.extend(ran.expect(0).messages());
    flip(&desk.path("vault/log/000000000002"));
    messages.extend(desk.json("--no-cache doctor").expect(20).messages());
    of_several_stores(&mut messages);
    of_a_bucket(&mut messages);
    of_a_key_service(&mut messages);
    of_writers(&mut messages);
    crate::key_services::print_all(&mut messages);

    let mut printed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in &messages {
        let mut found = BTreeSet::new();
        flatten(message, "", &mut found);
        let name = name_of(message);
        let shown = found.into_iter().filter(|(_, kind)| *kind != "null").map(|(path, _)| path);
        printed.entry(name).or_default().extend(shown);
    }
    let mut unseen = BTreeSet::new();
    for (name, fields) in documented() {
        // Only what lasts for a second prints it: see `terminal.rs`, and the tests of the command's progress.
        // What is archived is asked for in the tests of archive classes, which check its message.
        // A token is made by the tests of tokens, where there are any.
        if ["status", "summary restore --request-archived", "token_key"].contains(&name.as_str()) {
            continue;
        }
        let printed = printed.get(&name).unwrap_or_else(|| panic!("no {name} was printed"));
        for (field, kind) in fields {
            let is_empty = kind.starts_with("list of ") && !printed.contains(&format!("{field}[]"));
            if is_empty || !printed.contains(&field) {
                unseen.insert(format!("{name}.{field}"));
            }
        }
    }
    assert_eq!(unseen, UNSEEN.map(str::to_owned).into(), "what is never more than null or empty");
}
