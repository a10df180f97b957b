//! The coffer command line: flags, configuration, exit codes and messages.
//!
//! Everything a command does is in the engine and the verifier; here it is wired to a terminal. Output for people and `--json` go to
//! standard output, messages to standard error.

#![forbid(unsafe_code)]

mod cli;
mod clock;
mod command_error;
mod commands;
mod config;
mod exit_code;
mod keys;
mod output;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

pub use exit_code::Exit;

/// Runs the command line of this process.
#[must_use]
pub fn main_impl() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if !error.use_stderr() {
                // Help and version; that nobody reads them is no failure.
                drop(error.print());
                return Exit::Done.into();
            }
            let options = std::env::args_os().skip(1).take_while(|argument| argument != "--");
            if options.into_iter().any(|argument| argument == "--json") {
                command_error::CommandError::of_parser(&error).print(true);
            } else {
                drop(error.print());
            }
            return Exit::Usage.into();
        }
    };
    wiring::harden_process();
    let json = cli.global.json;
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let error = command_error::CommandError::from(error);
            error.print(json);
            error.exit.into()
        }
    }
}
