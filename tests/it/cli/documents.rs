//! The documents against the command itself: every command, flag, exit code, variable and setting is in `docs/cli.md`,
//! and every example, there, in the README and in the help texts, is one that works.

use std::collections::BTreeSet;
use std::fs;

use super::desk::{Desk, VARIABLES};
use super::messages::repository;
use super::recording::{Tally, check};

fn document() -> String {
    fs::read_to_string(repository("docs/cli.md")).unwrap()
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The long flags that a help text defines.
fn flags(help: &str) -> BTreeSet<String> {
    let defined = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let words = defined.flat_map(|line| {
        line.split([' ', ','])
            .take_while(|word| !word.starts_with(char::is_alphabetic))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    words.filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches('.').to_owned()).collect()
}

/// Every command, the program itself first, and whether it has commands below it.
pub(super) fn commands_of(desk: &Desk) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        let help = desk.bare(&format!("{path} --help")).expect(0).out;
        let below = subcommands(&help);
        found.push((path.clone(), !below.is_empty()));
        open.extend(below.into_iter().map(|name| format!("{path} {name}").trim().to_owned()));
    }
    found
}

/// Every command that has none below it.
pub(crate) fn last_commands() -> Vec<String> {
    let all = commands_of(&Desk::new());
    all.into_iter().filter(|(_, has_others)| !has_others).map(|(command, _)| command).collect()
}

#[test]
fn every_command_and_flag_is_in_the_document() {
    let (desk, document) = (Desk::new(), document());
    let mut open = vec![String::new()];
    let mut seen = 0;
    while let Some(command) = open.pop() {
        let help = desk.bare(&format!("{command} --help")).expect(0).out;
        let path = command.trim();
        if !path.is_empty() {
            assert!(
                document.contains(&format!("`coffer {path}")),
                "docs/cli.md does not name `coffer {path}`"
            );
        }
        for flag in flags(&help) {
            let named = [" ", "`", "]", "\n"].iter().any(|end| document.contains(&format!("{flag}{end}")));
            assert!(named, "docs/cli.md does not name {flag} of `coffer {path}`");
            seen += 1;
        }
        open.extend(subcommands(&help).into_iter().map(|name| format!("{path} {name}")));
    }
    assert!(seen > 100, "the help texts were understood: {seen} flags");
}

#[test]
fn every_exit_code_is_in_the_document_and_in_the_help_text() {
    let source = fs::read_to_string(repository("crates/coffer-cli/src/exit_code.rs")).unwrap();
    let codes = source.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
    let codes: BTreeSet<u8> = codes.filter_map(|(_, code)| code.parse().ok()).collect();
    let names: BTreeSet<&str> =
        source.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let rows = document();
    let rows: Vec<_> = rows.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | `")).collect();
    let documented: BTreeSet<u8> = rows.iter().filter_map(|(code, _)| code.parse().ok()).collect();
    let words: BTreeSet<&str> = rows
        .iter()
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .map(|(_, rest)| rest.split('`').next().unwrap())
        .collect();
    assert_eq!(codes.len(), 19);
    assert_eq!((documented, words), (codes.clone(), names));
    let help = Desk::new().bare("--help").expect(0).out.replace('\n', " ");
    let listed = help.split("Exit codes: ").nth(1).unwrap();
    let listed: BTreeSet<u8> =
        listed.split(", ").filter_map(|item| item.split(' ').next()?.parse().ok()).collect();
    assert_eq!(listed, codes);
}

#[test]
fn every_variable_and_every_setting_is_in_the_document() {
    let (desk, document) = (Desk::new(), document());
    let source = fs::read_to_string(repository("crates/coffer-cli/src/profile.rs")).unwrap();
    let settings = source.split("const SETTINGS").nth(1).unwrap().split(';').nth(1).unwrap();
    let fields: Vec<_> = settings.split('"').skip(1).step_by(2).collect();
    assert_eq!(fields.len(), 23);
    for field in fields {
        let example = ["\n", "\n# "].iter().any(|start| document.contains(&format!("{start}{field} = ")));
        assert!(example, "docs/cli.md has no example of {field}");
    }
    let help = desk.bare("--help").expect(0).out;
    for variable in VARIABLES {
        assert!(document.contains(&format!("| `{variable}` |")) && help.contains(variable), "{variable}");
    }
}

/// The example is one that the command reads.
#[test]
fn the_configuration_in_the_document_is_accepted() {
    let (desk, document) = (Desk::new(), document());
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    fs::write(desk.path("config.toml"), example).unwrap();
    let elsewhere = "-V ../vault --key-file ../key --cache-dir ../cache";
    desk.bare(&format!("--config ../config.toml {elsewhere} init --single-slot")).expect(0);
    // What is in force is what the file says: the vault id is not this one.
    desk.bare(&format!("--config ../config.toml {elsewhere} snapshots")).expect(23).says("5f0c8c1d");
}

/// The whole journey of a new user. The exit codes are those of what is shown to fail.
#[test]
fn the_journey_in_the_readme_is_as_recorded() {
    let tally = check("README.md", &[12, 10, 20, 20, 3, 1]);
    assert_eq!(tally, Tally { recorded: 7, run: 0, not_run: 3 });
}

#[test]
fn the_examples_in_the_document_of_the_command_line_run() {
    let tally = check("docs/cli.md", &[]);
    assert!(tally.run >= 3 && tally.not_run == 0, "{tally:?}");
}

/// The examples in help texts are ones that the parser takes.
#[test]
fn every_command_has_examples_that_are_understood() {
    let desk = Desk::new();
    let mut count = 0;
    for (command, _) in commands_of(&desk) {
        let help = desk.bare(&format!("{command} --help")).expect(0).out;
        let (_, examples) =
            help.split_once("Examples:\n").unwrap_or_else(|| panic!("`coffer {command}` has no examples"));
        for line in examples.lines().take_while(|line| line.starts_with("  ")) {
            let Some((_, words)) = line.split_once("coffer ") else { continue };
            let words: Vec<&str> = words
                .split(" > ")
                .next()
                .unwrap()
                .split(" | ")
                .next()
                .unwrap()
                .split("  ")
                .next()
                .unwrap()
                .split_whitespace()
                .take_while(|word| *word != "--")
                .collect();
            let id = "ab".repeat(32);
            let head = format!("1:{id}");
            let words: Vec<&str> = words
                .into_iter()
                .map(|word| match word {
                    "ID" => id.as_str(),
                    "HEAD" => head.as_str(),
                    word => word,
                })
                .collect();
            desk.finish(&mut desk.bare_command(&[&words[..], &["--help"]].concat())).expect(0);
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
