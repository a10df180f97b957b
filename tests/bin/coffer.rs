//! The coffer command, built for the tests.

fn main() -> std::process::ExitCode {
    coffer_cli::main_impl()
}
