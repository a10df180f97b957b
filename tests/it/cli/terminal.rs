//! What depends on who looks on: colour, progress, readers who leave.

use std::fs;
use std::io::{BufRead, BufReader, PipeWriter, Read, Write, pipe};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::desk::{Desk, Ran};
use crate::support::{has_program, noise};

const RED: &str = "\u{1b}[1m\u{1b}[31m";

/// Runs a command with standard error on a terminal, which `script` lends; none where there is no `script`.
fn on_a_terminal(desk: &Desk, line: &str, variables: &[(&str, &str)]) -> Option<String> {
    seen_on_a_terminal(desk, line, variables, |_| {})
}

/// As [`on_a_terminal`]; `see` gets what was shown so far, whenever there is more.
fn seen_on_a_terminal(
    desk: &Desk,
    line: &str,
    variables: &[(&str, &str)],
    see: impl Fn(&str),
) -> Option<String> {
    let mut command = Command::new("script");
    desk.furnish(&mut command);
    let program = env!("CARGO_BIN_EXE_coffer-under-test");
    command.args(["-qec", &format!("{program} {line}"), "/dev/null"]);
    command.env("COFFER_VAULT", desk.path("vault")).env("COFFER_KEY_FILE", desk.path("key"));
    command.env("COFFER_CACHE_DIR", desk.path("cache")).env("TERM", "xterm-256color");
    command.envs(variables.iter().copied());
    if !has_program("script") {
        return None;
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut out, mut shown, mut piece) = (child.stdout.take().unwrap(), Vec::new(), [0; 4096]);
    loop {
        let len = out.read(&mut piece).unwrap();
        if len == 0 {
            break;
        }
        shown.extend_from_slice(&piece[..len]);
        see(&String::from_utf8_lossy(&shown));
    }
    child.wait().unwrap();
    Some(String::from_utf8_lossy(&shown).into_owned())
}

fn with(desk: &Desk, line: &[&str], variables: &[(&str, &str)]) -> Ran {
    desk.finish(desk.command(line).envs(variables.iter().copied()))
}

#[test]
fn colour_is_for_terminals_unless_it_is_forced_and_never_where_it_is_refused() {
    let desk = Desk::with_vault();
    let wrong = ["-V", "../nowhere", "snapshots"];
    let usage = ["snapshots", "--bogus"];
    for line in [&wrong[..], &usage] {
        assert!(!with(&desk, line, &[]).err.contains('\u{1b}'));
        assert!(with(&desk, line, &[("CLICOLOR_FORCE", "1")]).err.starts_with(RED));
        assert!(!with(&desk, line, &[("CLICOLOR_FORCE", "0")]).err.contains('\u{1b}'));
        let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
        assert!(!with(&desk, line, &both).err.contains('\u{1b}'), "NO_COLOR goes first");
    }
    let help = with(&desk, &["--help"], &[("CLICOLOR_FORCE", "1")]).out;
    assert!(help.contains('\u{1b}') && !with(&desk, &["--help"], &[]).out.contains('\u{1b}'));
    let Some(shown) = on_a_terminal(&desk, "-V ../nowhere snapshots", &[]) else { return };
    assert!(shown.contains(&format!("{RED}error:")), "{shown:?}");
    let plain = on_a_terminal(&desk, "-V ../nowhere snapshots", &[("NO_COLOR", "1")]).unwrap();
    assert!(plain.contains("error:") && !plain.contains('\u{1b}'), "{plain:?}");
    // What is read by a program has no colour in any case.
    let json = with(&desk, &["--json", "-V", "../nowhere", "snapshots"], &[("CLICOLOR_FORCE", "1")]);
    assert_eq!(json.error_messages().len(), 1);
}

/// Feeds a backup by hand, so that it lasts as long as the test wants: two intervals of a second, and some, and until `is_enough` of a line on
/// standard output.
fn slow_backup(desk: &Desk, options: &[&str], is_enough: impl Fn(&str) -> bool) -> Ran {
    let mut command = desk.command(&[options, &["backup", "--stdin"]].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&noise(4, 4 << 20)).unwrap();
    std::thread::sleep(Duration::from_millis(2600));
    let begun = Instant::now();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut out = String::new();
    while !is_enough(out.lines().last().unwrap_or_default()) {
        let is_more = lines.read_line(&mut out).unwrap() > 0;
        assert!(is_more && begun.elapsed() < Duration::from_secs(120), "there is no such line: {out}");
    }
    input.write_all(b"the end").unwrap();
    drop(input);
    lines.read_to_string(&mut out).unwrap();
    let ended = child.wait_with_output().unwrap();
    Ran::new(&command, Output { stdout: out.into_bytes(), ..ended }).expect(0)
}

#[test]
fn json_says_every_second_how_far_it_is_and_sums_up_in_the_end() {
    let desk = Desk::with_vault();
    let all_read = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        message["done"] == 4 << 20 && message["seconds"].as_f64().unwrap() >= 2.0
    };
    let messages = slow_backup(&desk, &["--json"], all_read).messages();
    messages.iter().for_each(super::messages::check_message);
    let kinds: Vec<_> = messages.iter().map(|message| message["message_type"].as_str().unwrap()).collect();
    let (last, before) = kinds.split_last().unwrap();
    assert!(before.len() >= 2 && before.iter().all(|kind| *kind == "status"), "{kinds:?}");
    assert_eq!(*last, "summary");
    let status = &messages[before.len() - 1];
    assert_eq!((&status["command"], &status["unit"]), (&"backup".into(), &"bytes".into()));
    assert_eq!(status["done"], 4 << 20, "what was given so far is read");
    assert!(status["seconds"].as_f64().unwrap() >= 2.0 && status["rate"].as_f64().unwrap() > 0.0);
    // Who wants it quiet gets the summary alone.
    let quiet = slow_backup(&desk, &["--json", "--quiet"], |_| true).messages();
    assert_eq!(quiet.len(), 1);
    // Without a terminal, people are told the end and nothing before it.
    assert_eq!(slow_backup(&desk, &[], |_| true).err, "");
}

#[test]
fn on_a_terminal_a_line_shows_how_far_it_is_and_is_gone_in_the_end() {
    let desk = Desk::with_vault();
    // It goes on once the line was seen, or was waited for in vain.
    let wait = "n=0; while ! [ -e ../seen ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done";
    fs::write(desk.path("feed"), format!("head -c 3000000 /dev/zero; sleep 1; {wait}; echo end")).unwrap();
    let line = "backup --stdin-from-command -- sh ../feed";
    let seen = |shown: &str| {
        if shown.contains("MiB read") {
            fs::write(desk.path("seen"), "").unwrap();
        }
    };
    let Some(shown) = seen_on_a_terminal(&desk, line, &[], seen) else { return };
    assert!(shown.contains("MiB read") && shown.contains("is committed"), "{shown:?}");
    let (_, after) = shown.split_once("entries, ").unwrap();
    assert!(!after.contains("MiB read  "), "the line is gone: {shown:?}");
    // Names of entries do not bring in a line that is not ready.
    let verbose = on_a_terminal(&desk, "-v backup src", &[]).unwrap();
    assert!(verbose.contains("src/d/large") && !verbose.contains(['░', '█']), "{verbose:?}");
    let quiet = on_a_terminal(&desk, &format!("-q {line}"), &[]).unwrap();
    assert_eq!(quiet.trim(), "", "{quiet:?}");
    for line in ["verify --deep", "restore latest --target ../out"] {
        let shown = on_a_terminal(&desk, line, &[]).unwrap();
        assert!(shown.contains("no errors were found") || shown.contains("restored "), "{shown:?}");
    }
}

/// A pipe whose reader is gone before the first byte. A child that another test is starting has a copy of the reader for a moment.
fn deserted() -> PipeWriter {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let begun = Instant::now();
    let mut polled = [PollFd::new(&writer, PollFlags::empty())];
    while poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 })).unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the reader stays");
    }
    assert!(polled[0].revents().contains(PollFlags::ERR), "{polled:?}");
    writer
}

#[test]
fn a_reader_who_leaves_ends_the_command_quietly_as_sigpipe_would() {
    let desk = Desk::with_snapshot();
    for line in ["cat latest:/src/d/large", "dump latest", "completions bash", "man"] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = desk.command(&words);
        let output = command.stdout(deserted()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]), "{line}");
    }
    // What was done is done, whoever reads of it.
    let mut command = desk.command(&["backup", "src"]);
    assert_eq!(command.stdout(deserted()).stderr(Stdio::piped()).output().unwrap().status.code(), Some(0));
    assert_eq!(desk.objects("log").len(), 3);
}

#[test]
fn the_summary_counts_what_the_store_was_asked() {
    let desk = Desk::with_vault();
    let backup = desk.json("backup src").expect(0).message();
    let made = &backup["requests"];
    // Packs, an index segment and a record were made, and what was stored went through there.
    let objects = desk.objects("").len() - 4;
    assert_eq!(made["create_count"], objects, "{backup}");
    assert!(made["create_bytes"].as_u64().unwrap() > backup["stored_bytes"].as_u64().unwrap());
    assert!(backup["ratio"].as_f64().unwrap() > 0.5 && made["read_count"].as_u64().unwrap() > 0);
    let verify = desk.json("verify").expect(0).message();
    assert_eq!(verify["requests"]["read_bytes"], verify["read_bytes"]);
    assert_eq!(verify["requests"]["create_count"], 0);
    let restore = desk.json("restore latest --target ../out").expect(0).message();
    assert!(restore["requests"]["read_bytes"].as_u64().unwrap() > 3_000_000);
    desk.run("backup src").expect(0).says(" store request(s): ").says_not("(ratio ");
    Desk::with_vault().run("backup src").expect(0).says(" stored (ratio ");
    desk.run("verify").expect(0).says(" store request(s): ");
    desk.run("restore latest --target ../more").expect(0).says(" store request(s): ");
}
