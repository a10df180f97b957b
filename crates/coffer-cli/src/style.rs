//! Colour, where a terminal is and nobody objects. Colour only ever repeats what the words say.

use std::io::IsTerminal;
use std::sync::OnceLock;

use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style, Styles};

/// The colours of help texts and of the parser's errors.
pub(crate) const fn of_help() -> Styles {
    Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default().bold())
        .placeholder(AnsiColor::Cyan.on_default())
        .error(AnsiColor::Red.on_default().bold())
        .valid(AnsiColor::Green.on_default())
        .invalid(AnsiColor::Yellow.on_default())
}

/// A word before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Error,
    Warning,
    Hint,
}

impl Word {
    /// The word with a colon, coloured if standard error shows colours.
    pub(crate) fn shown(self) -> String {
        let (text, style) = match self {
            Self::Error => ("error:", AnsiColor::Red.on_default().bold()),
            Self::Warning => ("warning:", AnsiColor::Yellow.on_default().bold()),
            Self::Hint => ("hint:", AnsiColor::Cyan.on_default()),
        };
        paint(text, style, is_wanted())
    }
}

fn paint(text: &str, style: Style, wanted: bool) -> String {
    if wanted { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Whether messages on standard error are coloured.
fn is_wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| ask(std::io::stderr().is_terminal()))
}

/// What the parser does with help texts, on standard output, and with its errors, on standard error.
pub(crate) fn of_parser() -> ColorChoice {
    let (out, err) = (ask(std::io::stdout().is_terminal()), ask(std::io::stderr().is_terminal()));
    match (out, err) {
        (true, true) => ColorChoice::Always,
        (false, false) => ColorChoice::Never,
        // One of them is a terminal: whichever is written to is asked again.
        _ => ColorChoice::Auto,
    }
}

fn ask(is_terminal: bool) -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let forced = variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    let plain = variable("CLICOLOR").is_some_and(|value| value == "0")
        || variable("TERM").is_none_or(|terminal| terminal == "dumb");
    decide(variable("NO_COLOR").is_some(), forced, plain, is_terminal)
}

/// `NO_COLOR` goes before `CLICOLOR_FORCE`, and that before what the terminal is.
const fn decide(refused: bool, forced: bool, plain: bool, is_terminal: bool) -> bool {
    !refused && (forced || (is_terminal && !plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_colour_goes_before_who_forces_it() {
        assert!(!decide(true, true, false, true));
        assert!(decide(false, true, true, false));
        assert!(decide(false, false, false, true));
        assert!(!decide(false, false, true, true));
        assert!(!decide(false, false, false, false));
    }

    #[test]
    fn colour_stands_around_the_word() {
        let red = AnsiColor::Red.on_default();
        assert_eq!(paint("error:", red, true), "\u{1b}[31merror:\u{1b}[0m");
        assert_eq!(paint("error:", red, false), "error:");
    }
}
