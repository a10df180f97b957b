//! From the words of a command line, and the configuration file, to a parsed command line.
//!
//! Flags that the file gives for a command are put behind the words of the user, unless the user gave the same flag or
//! one that excludes it. So the parser holds them against the same rules, and no command needs to know of the file.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::cli::Cli;
use crate::config::Config;
use crate::flag::{Flag, argument_of, complete};

/// Why there is no command to run.
pub(crate) enum Stop {
    /// Help, version, or a mistake on the command line; the text says where flags of the file had a part in it.
    Parser(Box<clap::Error>, Option<String>),
    /// The configuration is wrong.
    Failure(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failure(error)
    }
}

/// Reads the command line, and the configuration file it is to be completed from.
pub(crate) fn parse(mut words: Vec<OsString>) -> Result<(Cli, Config), Stop> {
    let mut command = Cli::command();
    command.build();
    // A first look, past every mistake: which file, which profile, which command, which flags.
    let look = Cli::command().ignore_errors(true).try_get_matches_from(&words);
    let mut config = Config::default();
    let mut note = None;
    if let Ok(matches) = &look
        && let Some((name, given)) = matches.subcommand()
        && !["completions", "man", "help"].contains(&name)
    {
        let file = matches.get_one::<std::path::PathBuf>("config").map(std::path::PathBuf::as_path);
        let profile = matches.get_one::<String>("profile").map(String::as_str);
        config = Config::read(file, profile, &command)?;
        if let Some(subcommand) = command.find_subcommand(name) {
            let flags = wanted(&config, subcommand, given);
            if !flags.is_empty() {
                note = config.path.as_ref().map(|path| {
                    let names: Vec<&str> = flags.iter().map(|flag| flag.name.as_str()).collect();
                    format!("the configuration file {} gives {}", path.display(), names.join(", "))
                });
            }
            complete(&mut words, &flags, subcommand);
        }
    }
    let parsed = Cli::command().color(crate::style::of_parser()).try_get_matches_from(words);
    let cli = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    cli.map(|cli| (cli, config)).map_err(|error| Stop::Parser(Box::new(error), note))
}

/// The flags of the file that the command line leaves room for.
fn wanted<'c>(config: &'c Config, command: &Command, given: &ArgMatches) -> Vec<&'c Flag> {
    let is_given =
        |argument: &Arg| given.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine);
    let given: Vec<&Arg> = command.get_arguments().filter(|argument| is_given(argument)).collect();
    let excludes = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id())
    };
    let leaves_room = |flag: &&Flag| {
        let Some(argument) = argument_of(flag, command) else { return false };
        given.iter().all(|other| {
            other.get_id() != argument.get_id() && !excludes(argument, other) && !excludes(other, argument)
        })
    };
    config.flags(command.get_name()).iter().filter(leaves_room).collect()
}
