//! Each command against exactly the actions that the table gives it, and against one less.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coffer_cli::permissions::{Permission, TABLE, document};
use coffer_sandbox::Policy;
use coffer_store::{CloudStore, ObjectStore};
use coffer_testkit::proxy::{NetworkFault, Proxy};

use super::desk::{BUCKET, Desk, Ran};

#[test]
fn the_document_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/permissions.md");
    let there = fs::read_to_string(path).unwrap();
    assert!(
        there == document(),
        "docs/permissions.md is not what the table says; it should be:\n{}",
        document()
    );
}

/// What a user types for a row of the table; commands that can be tried again and again.
fn lines_of(commands: &[&str]) -> Vec<String> {
    let typed = |command: &str| match command {
        "ls" | "dump" => format!("{command} latest"),
        "find" => "find a".to_owned(),
        "cat" => "cat latest:/src/a".to_owned(),
        "diff" => "diff latest latest".to_owned(),
        "restore" => "restore latest --target ../out".to_owned(),
        "restore --request-archived" => "restore latest --target ../out --request-archived".to_owned(),
        "backup" => "backup src --force".to_owned(),
        "backup --writer FILE" => "--writer ../web.writer backup src --force".to_owned(),
        "keys grant-writer" => "keys grant-writer other --out ../other.writer".to_owned(),
        "policy set" => "policy set --lock none".to_owned(),
        "keys add" => "keys add --new-key-file ../second".to_owned(),
        "init" => "init --single-slot".to_owned(),
        "locks extend" => "locks extend --days 9".to_owned(),
        "backup --estimate" => "backup src --estimate".to_owned(),
        "restore --estimate" => "restore latest --target ../out --estimate".to_owned(),
        "keys export-kit" => "keys export-kit ../kit".to_owned(),
        "keys passwd" => {
            "--passphrase-file ../phrase keys passwd --new-passphrase-file ../other-phrase".to_owned()
        }
        "keys revoke" => "keys revoke SLOT".to_owned(),
        "keys revoke-writer" => "keys revoke-writer web".to_owned(),
        "handover" => "handover --to s3://second/v".to_owned(),
        "promote" => "--vault s3://second/v promote --accept-loss".to_owned(),
        "keys rewrap" => "SERVICE keys rewrap".to_owned(),
        "keys retarget" => "SERVICE keys retarget MOVED --to SAME --key-endpoint KMS".to_owned(),
        other => other.to_owned(),
    };
    commands.iter().map(|command| format!("{} --no-cache", typed(command))).collect()
}

/// A slot of a root key that has something to do for the command: a newer version, or another key of the same material. Gives the line with
/// what it needs of the service.
fn prepare_service(desk: &Desk, line: &str) -> String {
    fs::write(desk.path("owner-key"), desk.sandbox.api_key()).unwrap();
    let kms = desk.sandbox.kms_endpoint();
    let host = kms.split_once("://").unwrap().1;
    let service = format!(
        "--iam-endpoint {} --key-service-api-key-file ../owner-key --key-service-host {host}",
        desk.sandbox.iam_endpoint()
    );
    let is_moved = line.contains("retarget");
    let material = is_moved.then_some(&[7_u8; 32][..]);
    let (guid, key, crn) = desk.root_key(material);
    let added = desk
        .run(&format!("--json {service} keys add --new-root-key {crn} --key-endpoint {kms}"))
        .expect(0)
        .value();
    let mut line = line.replace("SERVICE", &service);
    if is_moved {
        let (_, _, same) = desk.root_key(material);
        line = line.replace("MOVED", added["slot"].as_str().unwrap());
        line = line.replace("SAME", &same).replace("KMS", kms);
    } else {
        desk.sandbox.advance(Duration::from_secs(7200)).unwrap();
        desk.rotate_root_key(&guid, &key);
    }
    line
}

#[test]
fn each_command_works_with_exactly_the_actions_of_the_table_and_fails_with_one_less() {
    let mut wrong = Vec::new();
    for row in TABLE {
        for line in lines_of(row.commands) {
            check(&line, row, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const BOTH: &str = "--store s3://backups/v --store s3://second/v";

/// Acts as somebody with these actions on both buckets.
fn act_as_one_with(desk: &mut Desk, actions: &[&str]) {
    let full: Vec<_> = actions.iter().map(|action| format!("cloud-object-storage.{action}")).collect();
    let id = desk.sandbox.create_service_id("healer", &[]).unwrap();
    let hmac = desk.sandbox.create_hmac(&id).unwrap();
    let on = |bucket| Policy::actions(full.iter().map(String::as_str)).on_bucket(bucket);
    desk.sandbox.set_policies(&id, &[on(BUCKET), on("second")]).unwrap();
    desk.act_as(&hmac.access_key_id, &hmac.secret_access_key);
}

/// Where a bucket keeps versions, the first one of a record counts: to replace a damaged one, that version has to go.
#[test]
fn a_damaged_record_or_pack_is_healed_with_the_actions_of_the_row_and_no_others() {
    let row = TABLE.iter().find(|row| row.commands.contains(&"verify --heal")).unwrap();
    let with = |actions: &[&'static str]| -> Vec<&'static str> {
        assert!(actions.iter().all(|action| row.optional.iter().any(|(listed, _)| listed == action)));
        row.actions.iter().chain(actions).copied().collect()
    };
    let plain: &[&'static str] = &["object.delete"];
    let versions: &[&'static str] = &["object.delete_version", "bucket.get_versions", "object.get_version"];
    // What is damaged, whether versions are kept, and what it takes beside what is always needed: first the right to delete.
    for (prefix, is_versioned, needed) in
        [("packs/", false, plain), ("log/", false, plain), ("log/", true, versions)]
    {
        let context = format!("{prefix}, versions kept: {is_versioned}");
        let mut desk = Desk::new(|bucket| bucket.versioning = is_versioned);
        desk.add_bucket("second", |_| {});
        desk.run(&format!("{BOTH} init --single-slot")).expect(0);
        for _ in 0..2 {
            desk.run(&format!("{BOTH} backup src --ack all --no-cache")).expect(0);
        }
        let mut names = desk.names(prefix);
        names.sort_unstable_by_key(ToString::to_string);
        // Of the log one in the middle.
        let damaged = names.swap_remove(names.len() / 2);
        // As if the medium had: the first and only version is another one.
        let bucket = desk.bucket();
        let mut there = Vec::new();
        bucket
            .versions(damaged.as_str(), &mut |version| {
                there.push(version.version_id);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        there.iter().for_each(|id| bucket.delete_version(&damaged, id).unwrap());
        bucket.put_unconditional(&damaged, b"rubbish", None).unwrap();
        let heal = format!("{BOTH} verify --heal --no-cache");
        // Without the right to delete it stays, and nothing else is done to it.
        act_as_one_with(&mut desk, &with(&needed[1..]));
        desk.run(&heal).expect(20).says("denied");
        act_as_one_with(&mut desk, &with(needed));
        let healed = desk.run(&heal);
        assert!(matches!(healed.code, 0 | 24), "{context}: {healed:?} {:?}", desk.sandbox.actions());
        desk.run("verify --deep --no-cache").expect(0);
    }
}

/// Commands that work on two buckets.
const OF_SEVERAL_STORES: [&str; 5] = ["replicate", "--heal", "handover", "promote", "reconcile"];

/// Two buckets in which there is something to do for the command.
fn prepare_two(desk: &Desk, line: &str) {
    if line.contains("replicate --new") {
        desk.run("init --single-slot").expect(0);
        desk.run("backup src").expect(0);
        return;
    }
    desk.run(&format!("{BOTH} init --single-slot")).expect(0);
    desk.run(&format!("{BOTH} backup src --ack all --no-cache")).expect(0);
    if line.starts_with("replicate") && !line.contains("--status") || line.contains("reconcile") {
        fs::write(desk.path("work/src/more"), "only in the first").unwrap();
        desk.run("backup src").expect(0);
    }
    if line.contains("reconcile") {
        desk.run("--vault s3://second/v promote --accept-loss --no-cache").expect(0);
    }
    if line.contains("--heal") {
        let pack = desk.names_in("second", "packs/").pop().unwrap();
        desk.bucket_named("second").delete(&pack).unwrap();
    }
}

/// Whether the command did what it is for.
fn is_done(line: &str, ran: &Ran) -> bool {
    // Of two stores one stays fenced unless it is to rejoin: then not as many hold the new head as are asked for.
    let is_taken_over =
        ran.code == 3 && line.contains(" reconcile --no-cache") && ran.out.contains("is taken over");
    is_taken_over || matches!(ran.code, 0 | 24 | 25)
}

/// A desk at which there is something to do for the command, and the whole line of it.
fn prepare(line: &str) -> (Desk, String) {
    let needs_lock = line.starts_with("locks") || line.contains("--locks");
    let desk = Desk::new(|bucket| bucket.object_lock = needs_lock);
    desk.run("keys new-file ../second").expect(0);
    let is_of_several = OF_SEVERAL_STORES.iter().any(|word| line.contains(word));
    let mut line = line.to_owned();
    if is_of_several {
        desk.add_bucket("second", |_| {});
        prepare_two(&desk, &line);
        if !line.contains("--vault") {
            line = format!("{BOTH} {line}");
        }
    } else if !line.starts_with("init") {
        let lock = if needs_lock { " --lock governance --lock-days 2" } else { "" };
        desk.run(&format!("init --single-slot{lock}")).expect(0);
        desk.run("backup src").expect(0);
    }
    if line.contains("keys passwd") {
        fs::write(desk.path("phrase"), "an old phrase of some words\n").unwrap();
        fs::write(desk.path("other-phrase"), "a new phrase of some words\n").unwrap();
        desk.run("keys add --new-passphrase-file ../phrase").expect(0);
    }
    if line.contains("SLOT") {
        let added = desk.run("--json keys add --new-key-file ../second").expect(0).value();
        line = line.replace("SLOT", added["slot"].as_str().unwrap());
    }
    if line.contains("revoke-writer") {
        desk.run("keys grant-writer web --out ../web.writer").expect(0);
    }
    if line.contains("SERVICE") {
        line = prepare_service(&desk, &line);
    }
    if line.contains("--writer ") {
        desk.run("keys grant-writer web --out ../web.writer").expect(0);
    }
    if line.contains("--request-archived") {
        super::cold::archive_packs(&desk);
    }
    (desk, line)
}

/// Somebody who may do what a test says.
struct Somebody {
    id: String,
}

impl Somebody {
    /// From now on the desk acts as somebody new.
    fn at(desk: &mut Desk) -> Self {
        let id = desk.sandbox.create_service_id("job", &[]).unwrap();
        let hmac = desk.sandbox.create_hmac(&id).unwrap();
        desk.act_as(&hmac.access_key_id, &hmac.secret_access_key);
        Self { id }
    }

    fn allow(&self, desk: &Desk, actions: &[&str], without: Option<&str>) {
        let actions = actions.iter().filter(|action| Some(**action) != without);
        let actions: Vec<_> = actions.map(|action| format!("cloud-object-storage.{action}")).collect();
        let on = |bucket| Policy::actions(actions.iter().map(String::as_str)).on_bucket(bucket);
        desk.sandbox.set_policies(&self.id, &[on(BUCKET), on("second")]).unwrap();
    }
}

/// Notes a command that does what it is for with one action less, or does not say why it fails.
fn note_less(line: &str, action: &str, ran: &Ran, wrong: &mut Vec<String>) {
    if is_done(line, ran) {
        wrong.push(format!("`{line}` works without {action}"));
    } else if !(ran.err.contains("denied")
        || ran.err.contains("AccessDenied")
        || ran.out.contains("denied")
        || ran.out.contains("? object(s)"))
    {
        wrong.push(format!("`{line}` without {action} does not say why it fails: {}", ran.err));
    }
}

/// The action that a command which commits needs to find out what became of a write whose answer was lost. It does without on a
/// good day.
const OF_LOST_ANSWERS: &str = "object.head";

/// Runs a command of which the answer to the first creation is lost on the way back; gives also whether there was one.
fn run_with_a_lost_answer(desk: &Desk, line: &str) -> (Ran, bool) {
    let region = desk.sandbox.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(region).unwrap();
    let is_lost = AtomicBool::new(false);
    proxy.set_plan(move |request| {
        let is_first = request.is_if_absent && !is_lost.swap(true, Ordering::SeqCst);
        is_first.then_some(NetworkFault::LoseReply)
    });
    let ran = desk.run_at(&proxy.endpoint(), line);
    (ran, proxy.fault_count() == 1)
}

/// The same for a command that does what it is for however often: with all actions of its row, and with one less.
fn check_lost_answers(line: &str, actions: &[&str], wrong: &mut Vec<String>) {
    for without in [Some(OF_LOST_ANSWERS), None] {
        // What it did before its answer was lost is done.
        let (mut desk, line) = prepare(line);
        Somebody::at(&mut desk).allow(&desk, actions, without);
        let (ran, is_lost) = run_with_a_lost_answer(&desk, &line);
        if !is_lost {
            wrong.push(format!("`{line}` creates nothing"));
        }
        match without {
            Some(action) => note_less(&line, action, &ran, wrong),
            None if is_done(&line, &ran) => {}
            None => wrong.push(format!("`{line}` fails where an answer is lost: {} {}", ran.out, ran.err)),
        }
    }
}

fn check(line: &str, row: &Permission, wrong: &mut Vec<String>) {
    let actions = row.actions;
    // Elsewhere the action is needed in any case.
    let may_lose = row.commands.contains(&"backup");
    if may_lose {
        check_lost_answers(line, actions, wrong);
    }
    let (mut desk, line) = prepare(line);
    let line = line.as_str();
    let somebody = Somebody::at(&mut desk);
    // First with one less: what succeeds may leave nothing to do.
    let needed = actions.iter().filter(|action| !(may_lose && **action == OF_LOST_ANSWERS));
    for (at, action) in needed.enumerate() {
        somebody.allow(&desk, actions, Some(action));
        // Each time there is something left to prolong.
        let ran = desk.run(&line.replace("--days 9", &format!("--days {}", 9 + at)));
        note_less(line, action, &ran, wrong);
    }
    somebody.allow(&desk, actions, None);
    let ran = desk.run(&line.replace("--days 9", "--days 90"));
    if !is_done(line, &ran) {
        wrong.push(format!(
            "`{line}` fails with {actions:?}: {} {} {} {:?}",
            ran.code,
            ran.out,
            ran.err,
            desk.sandbox.actions()
        ));
    }
}
