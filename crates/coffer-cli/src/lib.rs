//! The coffer command line: flags, configuration, exit codes and messages.
//!
//! Everything a command does is in the engine and the verifier; here it is wired to a terminal. Output for people and `--json` go to
//! standard output, messages to standard error.

#![forbid(unsafe_code)]

mod apart;
mod arguments;
mod bucket;
mod cli;
mod clock;
mod command_error;
mod commands;
mod config;
mod exit_code;
mod fitness;
mod flag;
mod global;
mod key_service;
mod keys;
mod output;
mod passphrase;
mod pattern_file;
mod pending_files;
pub mod permissions;
mod pkcs11;
mod prices;
mod private_file;
mod process;
mod profile;
mod progress;
mod requests;
mod root_keys;
mod select_args;
mod shares;
mod similar;
mod storage;
mod store_facts;
mod stores;
mod style;
mod time;
mod wiping;
mod wiring;
mod writer;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Stop;
use command_error::CommandError;

pub use exit_code::Exit;

/// Runs the command line of this process.
#[must_use]
pub fn main_impl() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let before_files = words.iter().skip(1).take_while(|word| *word != "--");
    let json = before_files.into_iter().any(|word| word == "--json");
    let (cli, config) = match arguments::parse(words.clone()) {
        Ok(parsed) => parsed,
        Err(Stop::Parser(error, _)) if !error.use_stderr() => {
            // Help and version; that nobody reads them is no failure.
            drop(error.print());
            return Exit::Done.into();
        }
        Err(Stop::Parser(error, note)) => {
            command_error::print_usage(&error, &words, note, json);
            return Exit::Usage.into();
        }
        Err(Stop::Failure(error)) => return end(CommandError::from(error), json),
    };
    process::harden_process();
    match commands::run(cli, &config) {
        Ok(exit) => exit.into(),
        Err(error) => end(CommandError::from(error), json),
    }
}

fn end(error: CommandError, json: bool) -> ExitCode {
    error.print(json);
    error.exit.into()
}
