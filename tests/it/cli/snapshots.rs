//! Snapshots of the command line: the help text, a success and a failure of every command, in `tests/cmd`.
//!
//! Each file is run at a desk of its own, with a vault that holds two snapshots. `TRYCMD=overwrite` writes the outputs
//! anew, with `[..]` for what differs from run to run.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::desk::{Desk, VARIABLES};
use super::documents::commands_of;
use super::messages::repository;
use super::recording::wildcarded;

fn files() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(repository("tests/cmd"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "trycmd"))
        .collect();
    found.sort();
    found
}

/// A desk with what the files take for granted.
fn desk() -> Desk {
    let desk = Desk::with_vault();
    desk.run("backup --host laptop --tag first src").expect(0);
    fs::write(desk.path("work/src/new"), "a new file\n").unwrap();
    desk.run("backup --host laptop src").expect(0);
    desk
}

#[test]
fn help_texts_successes_and_failures_are_as_recorded() {
    let is_overwritten = std::env::var_os("TRYCMD").is_some_and(|mode| mode == "overwrite");
    let mut desks = Vec::new();
    for path in files() {
        let desk = desk();
        // The directory beside the file is where its commands run.
        let case = desk.path("cases").join(path.file_name().unwrap());
        fs::create_dir(desk.path("cases")).unwrap();
        fs::copy(&path, &case).unwrap();
        std::os::unix::fs::symlink(desk.path("work"), case.with_extension("in")).unwrap();
        let ids = desk.run("--json snapshots").expect(0).message();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let cases = trycmd::TestCases::new();
        cases.register_bin("coffer", PathBuf::from(env!("CARGO_BIN_EXE_coffer-under-test")));
        for variable in VARIABLES {
            cases.env(variable, "");
        }
        cases
            .env("COFFER_VAULT", desk.path("vault").display().to_string())
            .env("COFFER_KEY_FILE", desk.path("key").display().to_string())
            .env("COFFER_CACHE_DIR", desk.path("cache").display().to_string())
            .env("HOME", desk.path("home").display().to_string())
            .env("TZ", "UTC")
            .env("NO_COLOR", "1")
            .env("COFFER_PASSPHRASE_COST", "floor");
        cases.insert_var("[DESK]", desk.path("work").parent().unwrap().display().to_string()).unwrap();
        cases.insert_var("[VAULTID]", text(&ids["vault_id"])).unwrap();
        cases.insert_var("[HEAD]", text(&ids["head"])).unwrap();
        cases.insert_var("[FIRST]", text(&ids["snapshots"][0]["id"])).unwrap();
        cases.insert_var("[SECOND]", text(&ids["snapshots"][1]["id"])).unwrap();
        cases.insert_var("[FIRSTSHORT]", text(&ids["snapshots"][0]["short_id"])).unwrap();
        cases.insert_var("[SECONDSHORT]", text(&ids["snapshots"][1]["short_id"])).unwrap();
        cases.case(&case);
        cases.run();
        if is_overwritten {
            fs::write(&path, generalized(&fs::read_to_string(&case).unwrap())).unwrap();
        }
        desks.push(desk);
    }
    assert!(desks.len() > 10);
}

/// Puts `[..]` where outputs differ from run to run; help texts do not.
fn generalized(text: &str) -> String {
    let mut lines = Vec::new();
    let mut is_output = false;
    for line in text.lines() {
        let is_mark = line.starts_with("$ ") || line.starts_with("? ") || line.starts_with("```");
        if is_mark {
            is_output = match line.strip_prefix("$ ") {
                Some(command) => !command.ends_with("--help"),
                None => is_output && !line.starts_with("```"),
            };
        }
        lines.push(if is_output && !is_mark { wildcarded(line) } else { line.to_owned() });
    }
    lines.join("\n") + "\n"
}

/// Every command has a file with its help text, and one in which it succeeds and fails.
#[test]
fn every_command_is_recorded() {
    let desk = Desk::new();
    let recorded: Vec<String> = files().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut outcomes: Vec<(String, bool)> = Vec::new();
    let mut helped = BTreeSet::new();
    for text in &recorded {
        for step in text.split("\n$ coffer").skip(1) {
            let (line, rest) = step.split_once('\n').unwrap_or((step, ""));
            let failed = rest.lines().next().is_some_and(|line| line.starts_with("? ") && line != "? 0");
            match line.strip_suffix("--help") {
                Some(path) => drop(helped.insert(path.trim().to_owned())),
                None => outcomes.push((line.to_owned(), failed)),
            }
        }
    }
    for (command, has_commands) in commands_of(&desk) {
        assert!(helped.contains(&command), "tests/cmd has no help text of `coffer {command}`");
        if has_commands {
            continue;
        }
        for outcome in [false, true] {
            let found = outcomes.iter().any(|(line, failed)| {
                let line = format!("{line} ");
                *failed == outcome && line.contains(&format!(" {command} "))
            });
            // Some take the id of a slot, which no file can foresee, or need a key service or a token, some need a bucket, and
            // some run until they are killed. Their successes are in `messages.rs` and beside it.
            let elsewhere = [
                "keys revoke",
                "keys rewrap",
                "keys retarget",
                "keys new-token-key",
                "locks extend",
                "locks hold",
                "locks release",
                "sandbox serve",
                "kms serve",
                "kms audit",
            ]
            .contains(&command.as_str());
            if elsewhere && !outcome {
                continue;
            }
            let what = if outcome { "failure" } else { "success" };
            assert!(found, "tests/cmd has no {what} of `coffer {command}`");
        }
    }
}
