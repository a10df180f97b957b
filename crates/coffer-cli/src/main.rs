//! The coffer command.

fn main() -> std::process::ExitCode {
    coffer_cli::main_impl()
}
