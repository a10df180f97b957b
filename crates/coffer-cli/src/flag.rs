//! Flags of a command that the configuration file gives.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, Command};

/// A flag or an argument of a command, as the file gives it.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Empty if the flag is not set; of a flag without value, one empty text for each time.
    pub(crate) values: Vec<String>,
}

/// The argument of a command that a flag stands for.
pub(crate) fn argument_of<'c>(flag: &Flag, command: &'c Command) -> Option<&'c Arg> {
    command.get_arguments().find(|argument| argument.get_id().as_str() == flag.id)
}

/// Appends the flags to the words.
pub(crate) fn complete(words: &mut Vec<OsString>, flags: &[&Flag], command: &Command) {
    let mut options = Vec::new();
    let mut positional = Vec::new();
    for flag in flags {
        let Some(argument) = argument_of(flag, command) else { continue };
        for value in &flag.values {
            match argument.get_long() {
                None => positional.push(OsString::from(value)),
                Some(long) if !argument.get_action().takes_values() => {
                    options.push(OsString::from(format!("--{long}")));
                }
                Some(long) => options.push(OsString::from(format!("--{long}={value}"))),
            }
        }
    }
    let end = words.iter().position(|word| word == "--");
    let tail = words.split_off(end.unwrap_or(words.len()));
    words.extend(options);
    words.extend(tail);
    if !positional.is_empty() {
        if end.is_none() {
            words.push("--".into());
        }
        words.extend(positional);
    }
}

/// Why the parser would refuse the values of a flag by themselves, if it would.
pub(crate) fn refusal(flag: &Flag, command: &Command) -> Option<String> {
    let mut words = vec![OsString::from(command.get_name())];
    complete(&mut words, &[flag], command);
    let error = command.clone().try_get_matches_from(words).err()?;
    // What is missing beside it, the whole command line has to show.
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = error.to_string();
    let reason: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let reason = reason.join(" ");
    Some(reason.strip_prefix("error: ").unwrap_or(&reason).to_owned())
}
