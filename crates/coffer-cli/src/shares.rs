//! Recovery shares as files: read, and written for the people who will keep them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use coffer_crypto::{OsRng, Rng, Secret, SecretBytes};
use coffer_format::id::hex;
use coffer_format::slot::{Slot, SlotKind};
use coffer_keys::shares::SHARE_TEXT_LEN_MAX;
use coffer_keys::{AnyOf, KeyError, RecoveryShares, RootKey, Share};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::Output;
use crate::pending_files::PendingFiles;
use crate::private_file;

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

/// Shares out of files. Of one that is left out because it is false, its number and file are told, once.
pub(crate) struct FiledShares {
    shares: RecoveryShares,
    /// Number and file of each.
    files: Vec<(u8, String)>,
    output: Output,
    told: Mutex<BTreeSet<u8>>,
}

impl FiledShares {
    fn tell_false_ones(&self, slot: &Slot) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for number in self.shares.false_numbers(slot) {
            if told.insert(number) {
                let file = look_at(&self.files, &[number]);
                self.output.warn(&format!(
                    "share {number} is left out: the key slot knows another one of this number; {file}"
                ));
            }
        }
    }
}

impl RootKey for FiledShares {
    fn kind_name(&self) -> &'static str {
        self.shares.kind_name()
    }

    fn may_open(&self, slot: &Slot) -> bool {
        self.shares.may_open(slot)
    }

    fn new_kind(&self, rng: &dyn Rng) -> Result<SlotKind, KeyError> {
        self.shares.new_kind(rng)
    }

    fn wrap(&self, slot: Slot, key: &Secret<32>, rng: &dyn Rng) -> Result<Slot, KeyError> {
        self.shares.wrap(slot, key, rng)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let unwrapped = self.shares.unwrap(slot);
        // Of a slot that is for other shares, or was altered, nothing is to be believed.
        if matches!(unwrapped, Ok(_) | Err(KeyError::SharesMissing { .. })) {
            self.tell_false_ones(slot);
        }
        unwrapped
    }
}

/// Which files hold the shares with these numbers.
fn look_at(files: &[(u8, String)], numbers: &[u8]) -> String {
    let named = files.iter().filter(|(number, _)| numbers.contains(number));
    format!("look at {}", named.map(|(_, path)| path.as_str()).collect::<Vec<_>>().join(" and "))
}

/// Shares of one set, each with the file it is in.
type FiledSet = Vec<(Share, String)>;

/// Reads shares from files and puts them together. Where a set is whole, what is of no use beside it is warned of and left out.
pub(crate) fn read(paths: &[PathBuf], output: Output) -> Result<Arc<dyn RootKey>> {
    let (mut sets, mut failures): (Vec<FiledSet>, Vec<_>) = (Vec::new(), Vec::new());
    for path in paths {
        let share = match read_one(path) {
            Ok(share) => share,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        let filed = (share, path.display().to_string());
        match sets.iter_mut().find(|known| known.iter().any(|(share, _)| share.is_beside(&filed.0))) {
            Some(known) => known.push(filed),
            None => sets.push(vec![filed]),
        }
    }
    sets.iter_mut().for_each(|set| drop_copies(set, output));
    let (whole, rest): (Vec<_>, Vec<_>) = sets.into_iter().partition(is_whole);
    if whole.is_empty() {
        return match failures.into_iter().next() {
            Some(failure) => Err(failure),
            None => Ok(Arc::new(collect(rest.into_iter().flatten().collect(), output)?)),
        };
    }
    failures.iter().for_each(|failure| output.warn(&format!("{failure:#}; it is left out")));
    for (_, file) in rest.iter().flatten() {
        output.warn(&format!("{file} is left out: it is of another set, of which too few shares are given"));
    }
    let roots =
        whole.into_iter().map(|set| -> Result<Arc<dyn RootKey>> { Ok(Arc::new(collect(set, output)?)) });
    let mut roots = roots.collect::<Result<Vec<_>>>()?;
    Ok(if roots.len() == 1 { roots.swap_remove(0) } else { Arc::new(AnyOf::new(roots)) })
}

/// Whether there are as many shares of the set as are needed.
fn is_whole(set: &FiledSet) -> bool {
    let numbers: BTreeSet<u8> = set.iter().map(|(share, _)| share.number()).collect();
    set.first().is_some_and(|(share, _)| numbers.len() >= usize::from(share.threshold()))
}

/// Lets each share count once, and says how many are left of how many that are needed.
fn drop_copies(set: &mut FiledSet, output: Output) {
    let mut kept = FiledSet::with_capacity(set.len());
    let mut copies = Vec::new();
    for (share, file) in set.drain(..) {
        match kept.iter().find(|(known, _)| known.is_copy_of(&share)) {
            Some((_, first)) if *first == file => copies.push(format!("{file} is given twice")),
            Some((_, first)) => copies.push(format!("{file} holds the same share as {first}")),
            None => kept.push((share, file)),
        }
    }
    let needed = kept.first().map_or(0, |(share, _)| share.threshold());
    for copy in copies {
        let given = kept.len();
        output.warn(&format!(
            "{copy}, and counts once: {given} different share(s) are given, and {needed} are needed"
        ));
    }
    *set = kept;
}

fn read_one(path: &Path) -> Result<Share> {
    let missing = "check the path; each share is a text file that `coffer keys add --new-shares` wrote, or a line typed from paper";
    let text = private_file::read_bounded("share", path, SHARE_TEXT_LEN_MAX as u64 + 1, missing)?;
    Share::parse(SecretBytes::new(text).expose()).map_err(|error| {
        Failure::new(Exit::WrongKey, format!("{} is no recovery share: {error}", path.display()))
            .hint("compare it with the paper, digit by digit")
            .into()
    })
}

fn collect(filed: FiledSet, output: Output) -> Result<FiledShares> {
    refuse_rivals(&filed)?;
    let files = filed.iter().map(|(share, file)| (share.number(), file.clone())).collect::<Vec<_>>();
    let shares = filed.into_iter().map(|(share, _)| share).collect();
    let shares = RecoveryShares::collect(shares).map_err(|error| {
        let hint = match &error {
            KeyError::ShareSets { numbers } => look_at(&files, numbers),
            _ => MORE.to_owned(),
        };
        Failure::new(Exit::WrongKey, error.to_string()).hint(hint)
    })?;
    Ok(FiledShares { shares, files, output, told: Mutex::default() })
}

/// Refuses two shares that claim to be the same one and are not.
fn refuse_rivals(filed: &FiledSet) -> Result<()> {
    for (at, (share, file)) in filed.iter().enumerate() {
        let is_rival = |(other, _): &&(Share, String)| {
            other.is_beside(share) && other.number() == share.number() && !other.is_copy_of(share)
        };
        if let Some((_, first)) = filed[..at].iter().find(is_rival) {
            let message = format!(
                "{first} and {file} hold two different shares, and both claim to be number {} of the set {}: at least one is false",
                share.number(),
                hex(&share.set_id()),
            );
            let hint = "compare both with the paper and leave out the one that is false; if you do not know which it is, try each without the other";
            return Err(Failure::new(Exit::WrongKey, message).hint(hint).into());
        }
    }
    Ok(())
}

/// Next step where there are too few shares.
pub(crate) const MORE: &str = "give more shares of the set, each with --share FILE";

/// A new set of shares.
pub(crate) fn generate(counts: ShareCounts) -> Result<RecoveryShares> {
    RecoveryShares::generate(counts.threshold, counts.count, &OsRng)
        .map_err(|error| Failure::usage(error.to_string()).into())
}

/// Writes each share of a new set to a file of its own (mode 0600) in `dir`, which has to be done before anything is sealed for them. Existing
/// files are never overwritten. Files of a slot that is never made would look as if they opened it.
pub(crate) fn write(set: &RecoveryShares, dir: &Path) -> Result<PendingFiles> {
    let set_id = set.shares().first().map(|share| hex(&share.set_id())).unwrap_or_default();
    let advice = format!(
        "whether the key slot of the new shares was made is not known: if `coffer keys list` does not show recovery shares of the set \
         {set_id}, delete the files in {}",
        dir.display()
    );
    let files = PendingFiles::new(advice);
    files.make_directory(dir).with_context(|| format!("make the directory {}", dir.display()))?;
    let path_of = |share: &Share| {
        dir.join(format!("share-{}-of-{}-{}.txt", share.number(), share.count(), &hex(&share.set_id())[..8]))
    };
    for share in set.shares() {
        let path = path_of(share);
        let text = text_of(share)?;
        let file = files
            .create(&path)
            .map_err(|error| Failure::new(Exit::Failed, format!("make share {}: {error}", path.display())))?;
        let written = private_file::write_private(file, &path, text.expose());
        written.with_context(|| format!("write share {}", path.display()))?;
    }
    Ok(files)
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
         # from the others. To use it: coffer --share FILE --share FILE ... ; typed from paper, hyphens between the digits do not matter.\n#\n",
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
