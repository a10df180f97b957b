//! Tasks of this repository: `cargo xtask try DIRECTORY`, `cargo xtask tidy`, `cargo xtask guard`.

#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

mod first_steps;
mod guard;
mod tidy;

use anyhow::{Result, bail};

const USAGE: &str = "usage:
  cargo xtask try DIRECTORY [PLACE]   build coffer, back the directory up into PLACE (./try-coffer), verify, restore
  cargo xtask guard [--bless]         hold instructions, allocations and store calls against the baseline
  cargo xtask tidy [--bless]          check the layers, the sources and the specification's fingerprint";

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["try", directory] => first_steps::run(directory, "try-coffer"),
        ["try", directory, place] => first_steps::run(directory, place),
        ["guard"] => guard::run(false),
        ["guard", "--bless"] => guard::run(true),
        ["tidy"] => tidy::run(false),
        ["tidy", "--bless"] => tidy::run(true),
        _ => bail!("{USAGE}"),
    }
}
