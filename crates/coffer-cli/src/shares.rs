//! Recovery shares as files: read, and written for the people who will keep them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coffer_crypto::{OsRng, SecretBytes};
use coffer_format::id::hex;
use coffer_keys::shares::SHARE_TEXT_LEN_MAX;
use coffer_keys::{KeyError, RecoveryShares, Share};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::keys;

/// How many shares are made, and how many of them open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareCounts {
    threshold: u8,
    count: u8,
}

impl std::str::FromStr for ShareCounts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once("of").or_else(|| text.split_once('/'));
        let number = |part: &str| part.trim_matches(['-', ' ']).parse::<u8>().ok();
        let counts = parts.and_then(|(threshold, count)| {
            Some(Self { threshold: number(threshold)?, count: number(count)? })
        });
        counts.ok_or_else(|| "expected as many as are needed and as many as are made, like 3of5".to_owned())
    }
}

/// Reads shares from files and puts them together.
pub(crate) fn read(paths: &[PathBuf]) -> Result<RecoveryShares> {
    let missing = "check the path; each share is a text file that `coffer keys add --new-shares` wrote, or a line typed from paper";
    let (mut shares, mut files) = (Vec::new(), Vec::new());
    for path in paths {
        let text = keys::read_bounded("share", path, SHARE_TEXT_LEN_MAX as u64 + 1, missing)?;
        let share = Share::parse(SecretBytes::new(text).expose()).map_err(|error| {
            Failure::new(Exit::WrongKey, format!("{} is no recovery share: {error}", path.display()))
                .hint("compare it with the paper, digit by digit")
        })?;
        files.push((share.number(), path.display().to_string()));
        shares.push(share);
    }
    RecoveryShares::collect(shares).map_err(|error| {
        let look_at = |numbers: &[u8]| {
            let named = files.iter().filter(|(number, _)| numbers.contains(number));
            format!("look at {}", named.map(|(_, path)| path.as_str()).collect::<Vec<_>>().join(" and "))
        };
        let hint = match &error {
            KeyError::ShareSets { numbers } => look_at(numbers),
            KeyError::ShareTwice { number } => look_at(&[*number]),
            _ => "give more shares of the set, each with --share FILE".to_owned(),
        };
        Failure::new(Exit::WrongKey, error.to_string()).hint(hint).into()
    })
}

/// A new set of shares, each written to a file of its own (mode 0600) in `dir`, before anything is sealed for them. Existing files are never
/// overwritten. Returns the set and the files.
pub(crate) fn make(counts: ShareCounts, dir: &Path) -> Result<(RecoveryShares, Vec<PathBuf>)> {
    let set = RecoveryShares::generate(counts.threshold, counts.count, &OsRng)
        .map_err(|error| Failure::usage(error.to_string()))?;
    std::fs::create_dir_all(dir).with_context(|| format!("make the directory {}", dir.display()))?;
    let path_of = |share: &Share| {
        dir.join(format!("share-{}-of-{}-{}.txt", share.number(), share.count(), &hex(&share.set_id())[..8]))
    };
    let mut paths = Vec::new();
    for share in set.shares() {
        let path = path_of(share);
        let text = text_of(share)?;
        let file = keys::create_private(&path)
            .map_err(|error| Failure::new(Exit::Failed, format!("make share {}: {error}", path.display())))?;
        let written = keys::write_private(file, &path, text.expose());
        written.with_context(|| format!("write share {}", path.display()))?;
        paths.push(path);
    }
    Ok((set, paths))
}

/// What is said once shares are made.
pub(crate) const ADVICE: &str = "hand each share to someone else, print it if you like, and delete these files: as many together as are needed open the vault";

/// Text and figure of a share.
fn text_of(share: &Share) -> Result<SecretBytes> {
    let line = share.to_line();
    let code = QrCode::with_error_correction_level(line.expose(), EcLevel::M).context("draw the share")?;
    let figure = code.render::<Dense1x2>().build();
    let mut head = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        head,
        "# coffer recovery share {} of {}, set {}\n\
         # Any {} of the {} shares of this set open the vault; fewer say nothing of it. Keep it secret and apart\n\
         # from the others. To use it: coffer --share FILE --share FILE ... ; typed from paper, hyphens do not matter.\n#\n",
        share.number(),
        share.count(),
        hex(&share.set_id()),
        share.threshold(),
        share.count(),
    );
    let figure_len: usize = figure.lines().map(|row| row.len() + 3).sum();
    // Room for all of it at once: growing would leave parts of the share behind in freed memory.
    let mut text = Vec::with_capacity(head.len() + figure_len + line.len() + 1);
    text.extend_from_slice(head.as_bytes());
    for row in figure.lines() {
        text.extend_from_slice(b"# ");
        text.extend_from_slice(row.as_bytes());
        text.push(b'\n');
    }
    drop(SecretBytes::from(figure));
    text.extend_from_slice(line.expose());
    text.push(b'\n');
    Ok(SecretBytes::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_people_write_them() {
        let three_of_five = ShareCounts { threshold: 3, count: 5 };
        for text in ["3of5", "3-of-5", "3 of 5", "3/5"] {
            assert_eq!(text.parse(), Ok(three_of_five), "{text}");
        }
        for text in ["", "3", "of5", "3of", "3x5", "300of400", "-1of2x"] {
            assert!(text.parse::<ShareCounts>().is_err(), "{text}");
        }
    }
}
