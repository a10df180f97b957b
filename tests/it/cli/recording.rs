//! What documents show, done: every command in them is run, and every output in them is compared with what was printed.
//!
//! A block marked `console` holds commands behind `$ ` and what they print; one marked `sh` holds commands alone. All
//! blocks of a document run one after the other in one shell, in an empty home directory. Ids, times, lengths and
//! numbers that depend on a key are compared by their form alone. A block behind `<!-- not run: REASON -->` is left
//! out, one behind `<!-- as root -->` runs where this process may mount file systems.
//!
//! With `COFFER_WRITE_DOCS=1` a document of which an output differs gets all its outputs anew.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::desk::{Desk, VARIABLES};
use super::messages::repository;
use super::space::may_mount as may_mount_at;

/// A block of a document: where its lines begin, how it is marked, and what stands before it.
struct Block {
    first: usize,
    mark: String,
    remark: Option<String>,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(mark)) => {
                let remark = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                let remark = remark.map(str::to_owned);
                open = Some(Block { first: number + 1, mark: mark.to_owned(), remark, lines: Vec::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
        if !line.is_empty() {
            before = line;
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// A command, and the lines that the document shows below it.
struct Step {
    /// Numbers of the lines of the output in the document.
    output: std::ops::Range<usize>,
    command: String,
    shown: Vec<String>,
    /// Whether what it prints is shown at all.
    is_recorded: bool,
}

fn steps(block: &Block) -> Vec<Step> {
    if block.mark == "sh" {
        let command = block.lines.join("\n");
        return vec![Step { output: 0..0, command, shown: Vec::new(), is_recorded: false }];
    }
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in block.lines.iter().enumerate() {
        let at = block.first + number + 1;
        if let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            steps.push(Step { output: at..at, command, shown: Vec::new(), is_recorded: true });
            continue;
        }
        let step = steps.last_mut().expect("a console block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if step.shown.is_empty() => {
                step.command = format!("{}\n{more}", step.command);
                step.output = at..at;
            }
            _ => {
                step.shown.push(line.clone());
                step.output.end = at;
            }
        }
    }
    steps
}

/// Between the outputs of two commands; no command prints it.
const FENCE: &str = "--8<-- the next command --8<--";

/// Runs commands in one shell, and gives what each printed, and its exit code.
fn perform(desk: &Desk, home: &Path, steps: &[Step]) -> Vec<(String, i32)> {
    let mut script = String::new();
    for step in steps {
        // The exit code is kept for a command that asks for it.
        script.push_str(&format!(
            "{}\n__code=$?; printf '\\n%s %s\\n' '{FENCE}' $__code; (exit $__code)\n",
            step.command
        ));
    }
    let mut command = Command::new("sh");
    desk.furnish(&mut command);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    fs::create_dir_all(home.join(".bin")).unwrap();
    let program = home.join(".bin/coffer");
    if !program.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_coffer-under-test"), program).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("HOME", home).env("PATH", format!("{}:{path}", home.join(".bin").display()));
    let file = home.join(".bin/script");
    fs::write(&file, format!("exec 2>&1\numask 022\ntrap 'umount -l small 2>/dev/null' EXIT\n{script}"))
        .unwrap();
    let output = command.arg(file).current_dir(home).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut done = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(&format!("\n{FENCE} ")) {
        let (code, next) = after.split_once('\n').unwrap();
        done.push((before.to_owned(), code.parse().unwrap()));
        rest = next;
    }
    assert_eq!(done.len(), steps.len(), "the shell ended early:\n{text}");
    done
}

/// A line as it is compared: what differs from run to run is replaced by what it is.
fn redacted(line: &str) -> String {
    let words: Vec<String> = tokens(line).into_iter().map(|(_, word)| word).collect();
    words.join(" ")
}

/// A line as a snapshot holds it: what differs from run to run is `[..]`, with the blanks that align it.
pub(super) fn wildcarded(line: &str) -> String {
    let mut shown = String::new();
    let mut is_wild = false;
    for (blanks, word) in tokens(line) {
        let mut word = word.replace("packs/<start>/<id>", "packs/<id>");
        for name in ["<id>", "<day>", "<hour>", "<amount>", "<unit>", "<ratio>", "<requests>", "<number>"] {
            word = word.replace(name, "[..]");
        }
        let starts_wild = word.starts_with("[..]");
        match blanks.len() {
            0 | 1 => shown.push_str(&blanks),
            _ if is_wild && starts_wild => shown.push(' '),
            _ if is_wild => {}
            _ if starts_wild => {}
            _ => shown.push_str(&blanks),
        }
        is_wild = word.ends_with("[..]");
        shown.push_str(&word);
    }
    while shown.contains("[..] [..]") {
        shown = shown.replace("[..] [..]", "[..]");
    }
    shown
}

/// The words of a line, each with the blanks before it.
fn tokens(line: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = line.trim_end();
    while !rest.is_empty() {
        let (blanks, after) = rest.split_at(rest.len() - rest.trim_start().len());
        let (raw, after) = after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()));
        rest = after;
        let unit = raw.trim_end_matches([',', ';', '.', ')', ':']);
        let is_unit = ["B", "KiB", "MiB", "GiB", "s"].contains(&unit)
            || ["frame(s)", "chunk(s)", "pack(s)", "object(s)", "store"]
                .contains(&raw.trim_end_matches([',', ';']));
        let mut word = word(raw);
        if found.last().is_some_and(|(_, last)| last == "frame")
            && raw.bytes().all(|byte| byte.is_ascii_digit())
        {
            word = "<number>".to_owned();
        }
        if is_unit && let Some((_, last)) = found.last_mut() {
            let start = last.len() - last.trim_start_matches('(').len();
            if last[start..].starts_with(|digit: char| digit.is_ascii_digit()) {
                *last = format!("{}<amount>", &last[..start]);
                word = if raw.len() <= 4 { raw.replacen(unit, "<unit>", 1) } else { word };
            }
        }
        found.push((blanks.to_owned(), word));
        if raw == "request(s):" {
            found.push((" ".to_owned(), "<requests>".to_owned()));
            break;
        }
    }
    found
}

fn word(word: &str) -> String {
    let digits = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => byte == form,
            })
    };
    if digits(word, "0000-00-00") {
        return "<day>".to_owned();
    }
    if digits(word, "00:00:00") {
        return "<hour>".to_owned();
    }
    let bare = word.trim_end_matches([',', ';', ')']);
    if digits(bare, "0.00") || digits(bare, "00.00") || digits(bare, "000.00") {
        return word.replacen(bare, "<ratio>", 1);
    }
    ids(word)
}

/// Replaces every run of eight or more hexadecimal digits, and every shortened one.
fn ids(word: &str) -> String {
    let mut shown = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let len = rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        let is_cut = rest[len..].starts_with('…');
        let is_id = len >= 8 || (len >= 2 && is_cut);
        let end = match (is_id, len) {
            (true, _) => len + if is_cut { '…'.len_utf8() } else { 0 },
            (false, 0) => first.len_utf8(),
            (false, len) => len,
        };
        // A pack lies in a directory that is named by the beginning of its id.
        let is_start = !is_id && len == 2 && shown.ends_with("packs/");
        shown.push_str(if is_id {
            "<id>"
        } else if is_start {
            "<start>"
        } else {
            &rest[..end]
        });
        rest = &rest[end..];
    }
    shown
}

/// A line as it is written into a document: ids are shortened.
fn shortened(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let len = rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        let end = if len == 0 { first.len_utf8() } else { len };
        shown.push_str(&rest[..end.min(if len >= 16 { 8 } else { end })]);
        if len >= 16 {
            shown.push('…');
        }
        rest = &rest[end..];
    }
    shown.trim_end().to_owned()
}

/// What a document holds, by number of blocks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) recorded: usize,
    pub(super) run: usize,
    pub(super) not_run: usize,
}

/// Runs a document. `codes` are the exit codes of its `console` commands that do not end with 0, in order.
#[track_caller]
pub(super) fn check(document: &str, codes: &[i32]) -> Tally {
    let path = repository(document);
    let text = fs::read_to_string(&path).unwrap();
    let (desk, mut tally) = (Desk::new(), Tally::default());
    let home = desk.path("journey/home/me");
    fs::create_dir_all(&home).unwrap();
    // Only where a document asks for it.
    let mut may_mount = None;
    let mut is_root = || *may_mount.get_or_insert_with(|| may_mount_at(&desk));
    let mut wanted = Vec::new();
    for block in blocks(&text) {
        match (block.mark.as_str(), block.remark.as_deref()) {
            ("console" | "sh", Some(remark)) if remark.starts_with("not run: ") => tally.not_run += 1,
            ("console" | "sh", Some("as root")) if !is_root() => {
                println!("skipped: the block at line {} of {document} needs root", block.first);
                tally.recorded += 1;
            }
            ("console", _) => {
                tally.recorded += 1;
                wanted.extend(steps(&block));
            }
            ("sh", _) => {
                tally.run += 1;
                wanted.extend(steps(&block));
            }
            ("text" | "toml" | "json", _) => {}
            (mark, _) => panic!("{document}: the block at line {} is marked {mark:?}", block.first),
        }
    }
    let outer = desk.path("journey").display().to_string();
    // All outputs of one run, so that they fit each other.
    let mut rewritten: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut failures = Vec::new();
    let mut found_codes = Vec::new();
    for (step, (printed, code)) in wanted.iter().zip(perform(&desk, &home, &wanted)).rev() {
        let printed = printed.replace(&outer, "");
        let printed: Vec<String> =
            printed.trim_end_matches('\n').lines().map(|line| line.trim_end().to_owned()).collect();
        if !step.is_recorded {
            assert_eq!(code, 0, "{document}: {} fails:\n{}", step.command, printed.join("\n"));
            continue;
        }
        if code != 0 {
            found_codes.insert(0, code);
        }
        let form = |lines: &[String]| lines.iter().map(|line| redacted(line)).collect::<Vec<_>>();
        if form(&printed) != form(&step.shown) {
            failures.push(format!(
                "$ {}\nprints\n{}\nand the document has\n{}",
                step.command,
                printed.join("\n"),
                step.shown.join("\n")
            ));
        }
        // From the last to the first, so that the numbers of the lines before stay what they are.
        rewritten.splice(step.output.clone(), printed.iter().map(|line| shortened(line)));
    }
    if !failures.is_empty() && std::env::var_os("COFFER_WRITE_DOCS").is_some() {
        fs::write(&path, rewritten.join("\n") + "\n").unwrap();
        println!("{document} was written anew");
    } else {
        assert!(
            failures.is_empty(),
            "{document}: COFFER_WRITE_DOCS=1 writes it anew\n{}",
            failures.join("\n\n")
        );
    }
    if may_mount != Some(false) {
        assert_eq!(found_codes, codes, "exit codes of what fails in {document}");
    }
    tally
}

#[test]
fn what_differs_from_run_to_run_is_compared_by_its_form() {
    let forms = [
        ("head 1:923900490470f0537f95d3c2", "head 1:9239…"),
        ("packs/fe/fe2640ff5cd84b2d: lost", "packs/0a/0a17…: lost"),
        ("3 files, 2.8 MiB; 12 B new, 0.1 s", "3 files, 1.0 KiB; 7.5 MiB new, 3.2 s"),
        ("id 92390049  2026-11-21 06:52:46  me", "id 13e031b5 2027-01-02 11:12:13 me"),
        ("read 2 of 5; 33 store request(s): 30 read (2.8 MiB)", "read 2 of 5; 7 store request(s): 3 listed"),
        ("(ratio 1.50)", "(ratio 12.07)"),
        ("frame 3 is lost", "frame 12 is lost"),
        ("4 frame(s) opened, 5 chunk(s);", "3 frame(s) opened, 7 chunk(s);"),
    ];
    for (one, other) in forms {
        assert_eq!(redacted(one), redacted(other));
    }
    for (one, other) in [
        ("3 files", "4 files"),
        ("head 1:923900490470f053", "head 2:923900490470f053"),
        ("2.8 MiB new", "2.8 MiB read"),
        ("packs/fe/fe2640ff5cd84b2d", "index/fe2640ff5cd84b2d"),
    ] {
        assert_ne!(redacted(one), redacted(other));
    }
    for (line, expected) in [
        ("head 2:923900490470f053", "head 2:[..]"),
        ("ab 92390049  2026-11-21 06:52:46  laptop      2.8 MiB  src", "ab [..]laptop[..]src"),
        ("3 files, 12 B; 5 s", "3 files, [..]; [..]"),
        ("12 store request(s): 3 read (5 B)", "[..] store request(s): [..]"),
        ("a  b", "a  b"),
    ] {
        assert_eq!(wildcarded(line), expected);
    }
    assert_eq!(shortened("snapshot 923900490470f0537f95d3c2 of 12345678"), "snapshot 92390049… of 12345678");
}
