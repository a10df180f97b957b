//! Each command against exactly the actions that the table gives it, and against one less.

use std::fs;

use coffer_cli::permissions::{TABLE, document};
use coffer_sandbox::Policy;

use super::desk::{BUCKET, Desk};

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
        other => other.to_owned(),
    };
    commands.iter().map(|command| format!("{} --no-cache", typed(command))).collect()
}

#[test]
fn each_command_works_with_exactly_the_actions_of_the_table_and_fails_with_one_less() {
    let mut wrong = Vec::new();
    for row in TABLE {
        for line in lines_of(row.commands) {
            check(&line, row.actions, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(line: &str, actions: &[&str], wrong: &mut Vec<String>) {
    let full: Vec<_> = actions.iter().map(|action| format!("cloud-object-storage.{action}")).collect();
    let needs_lock = line.starts_with("locks") || line.contains("--locks");
    let mut desk = Desk::new(|bucket| bucket.object_lock = needs_lock);
    if !line.starts_with("init") {
        let lock = if needs_lock { " --lock governance --lock-days 2" } else { "" };
        desk.run(&format!("init --single-slot{lock}")).expect(0);
        desk.run("backup src").expect(0);
    }
    desk.run("keys new-file ../second").expect(0);
    if line.contains("--writer") {
        desk.run("keys grant-writer web --out ../web.writer").expect(0);
    }
    if line.contains("--request-archived") {
        super::cold::archive_packs(&desk);
    }
    let id = desk.sandbox.create_service_id("job", &[]).unwrap();
    let hmac = desk.sandbox.create_hmac(&id).unwrap();
    desk.act_as(&hmac.access_key_id, &hmac.secret_access_key);
    let allow = |desk: &Desk, without: Option<&str>| {
        let actions = full.iter().map(String::as_str).filter(|action| Some(*action) != without);
        desk.sandbox.set_policies(&id, &[Policy::actions(actions).on_bucket(BUCKET)]).unwrap();
    };
    // First with one less: what succeeds may leave nothing to do.
    for (at, action) in full.iter().enumerate() {
        allow(&desk, Some(action));
        // Each time there is something left to prolong.
        let ran = desk.run(&line.replace("--days 9", &format!("--days {}", 9 + at)));
        if matches!(ran.code, 0 | 25) {
            wrong.push(format!("`{line}` works without {action}"));
        } else if !(ran.err.contains("denied")
            || ran.err.contains("AccessDenied")
            || ran.out.contains("denied"))
        {
            wrong.push(format!("`{line}` without {action} does not say why it fails: {}", ran.err));
        }
    }
    allow(&desk, None);
    let ran = desk.run(&line.replace("--days 9", "--days 90"));
    if !matches!(ran.code, 0 | 25) {
        wrong.push(format!(
            "`{line}` fails with {actions:?}: {} {} {:?}",
            ran.code,
            ran.err,
            desk.sandbox.actions()
        ));
    }
}
