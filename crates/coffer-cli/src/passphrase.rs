//! Passphrases as the command line sees them: where they are read, how long their work may take, and what it costs to guess them.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use coffer_crypto::{Argon2Params, SecretBytes};
use coffer_keys::{Passphrase, PassphraseCost, passphrase};

use crate::command_error::Failure;
use crate::private_file::{read_bounded, without_line_end};

/// A passphrase has at most this length.
pub(crate) const PASSPHRASE_LEN_MAX: u64 = 1 << 20;
/// Longest time that can be given, in seconds.
const LIMIT_MAX_S: u64 = 86_400;
const COST_VARIABLE: &str = "COFFER_PASSPHRASE_COST";

/// Flags of passphrases.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Passphrases")]
pub(crate) struct PassphraseArgs {
    /// How long the work may take that one key slot of a passphrase asks for.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=LIMIT_MAX_S))]
    passphrase_timeout: Option<u64>,
    /// What a new key slot of a passphrase costs to open: auto (measured here), floor (the least), or MIB,PASSES,LANES.
    #[arg(long, global = true, value_name = "COST")]
    passphrase_cost: Option<Cost>,
}

/// A cost as it is written.
#[derive(Debug, Clone, Copy)]
struct Cost(PassphraseCost);

impl FromStr for Cost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => return Ok(Self(PassphraseCost::Calibrated)),
            "floor" => return Ok(Self(PassphraseCost::Fixed(Argon2Params::FLOOR))),
            _ => {}
        }
        let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
        let Ok([memory_mib, passes, lanes]) = numbers.as_deref() else {
            return Err("expected auto, floor, or MIB,PASSES,LANES like 128,4,4".to_owned());
        };
        let memory_kib = memory_mib.saturating_mul(1024);
        let params = Argon2Params { memory_kib, passes: *passes, lanes: *lanes };
        params.check().map_err(|error| error.to_string())?;
        Ok(Self(PassphraseCost::Fixed(params)))
    }
}

/// How passphrases become root keys in this run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passphrases {
    limit: Duration,
    cost: PassphraseCost,
}

impl Passphrases {
    pub(crate) fn new(args: &PassphraseArgs) -> Result<Self> {
        let variable = || {
            let value = std::env::var_os(COST_VARIABLE).filter(|value| !value.is_empty())?;
            let parsed = value.to_string_lossy().parse::<Cost>();
            Some(parsed.map_err(|error| Failure::usage(format!("{COST_VARIABLE}: {error}"))))
        };
        let cost = match args.passphrase_cost {
            Some(cost) => Some(cost),
            None => variable().transpose()?,
        };
        Ok(Self {
            limit: args.passphrase_timeout.map_or(passphrase::LIMIT, Duration::from_secs),
            cost: cost.map_or(PassphraseCost::Calibrated, |cost| cost.0),
        })
    }

    pub(crate) fn of_bytes(self, bytes: Vec<u8>) -> Result<Passphrase> {
        Ok(Passphrase::new(SecretBytes::new(bytes), self.cost)?.with_limit(self.limit))
    }

    /// Reads the passphrase in a file.
    pub(crate) fn of_file(self, path: &Path) -> Result<Passphrase> {
        let missing = "check the path; the file holds the passphrase and nothing else";
        let bytes = read_bounded("passphrase file", path, PASSPHRASE_LEN_MAX, missing)?;
        let read = self.of_bytes(without_line_end(bytes));
        read.with_context(|| format!("read passphrase file {}", path.display()))
    }

    /// Asks the terminal for the passphrase that opens the vault.
    pub(crate) fn ask(self, prompt: &str) -> Result<Passphrase> {
        let text = rpassword::prompt_password(prompt).context("read the passphrase from the terminal")?;
        self.of_bytes(text.into_bytes())
    }

    /// Asks the terminal for a new passphrase, twice.
    pub(crate) fn ask_new(self, prompt: &str) -> Result<Passphrase> {
        let read = |prompt: &str| -> Result<SecretBytes> {
            let text = rpassword::prompt_password(prompt).context("read the passphrase from the terminal")?;
            Ok(SecretBytes::new(text.into_bytes()))
        };
        let first = read(&format!("{prompt}: "))?;
        let second = read(&format!("{prompt}, again: "))?;
        if first.expose() != second.expose() {
            return Err(Failure::usage("the two passphrases differ").into());
        }
        self.of_bytes(first.expose().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(text: &str) -> Result<PassphraseCost, String> {
        text.parse::<Cost>().map(|cost| cost.0)
    }

    #[test]
    fn a_cost_is_a_word_or_three_numbers_within_the_limits_of_the_format() {
        assert_eq!(cost("auto"), Ok(PassphraseCost::Calibrated));
        assert_eq!(cost("floor"), Ok(Argon2Params::FLOOR.into()));
        let own = Argon2Params { memory_kib: 1 << 18, passes: 5, lanes: 2 };
        assert_eq!(cost("256,5,2"), Ok(own.into()));
        for wrong in ["", "256", "256,5", "256,5,2,1", "256,5,two", "AUTO", "-1,3,4"] {
            assert!(cost(wrong).unwrap_err().starts_with("expected auto"), "{wrong}");
        }
        for beyond in ["63,3,4", "64,2,4", "64,3,0", "4097,3,4", "64,17,4", "64,3,17", "4294967295,3,4"] {
            assert!(cost(beyond).unwrap_err().starts_with("argon2id "), "{beyond}");
        }
    }
}
