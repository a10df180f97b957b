//! What `coffer backup` takes and what it leaves out: lists of paths, patterns, markers.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use coffer_collect::{CollectError, Excludes, Marker, Patterns, PatternsBuilder};

use crate::command_error::Failure;
use crate::pattern_file;

#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Take the paths that stand in this file too, one on each line; "-" is standard input.
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// As --files-from, with a NUL behind each path and no comments.
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,
    /// Leave out what this pattern matches, in the syntax of gitignore; may be given several times, as all of these.
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// As --exclude, without regard to case.
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<OsString>,
    /// Leave out what the patterns in this file match.
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// As --exclude-file, without regard to case.
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
    /// Leave out what is in directories with a CACHEDIR.TAG.
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what is in directories with a file of this name, if it begins with HEADER.
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files larger than this: bytes, or with K, M, G or T behind the number.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    exclude_larger_than: Option<u64>,
    /// Leave directories empty where another file system begins.
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

impl SelectionArgs {
    /// The flag that names paths, if there is one: a stream is nothing that could be named besides.
    pub(super) const fn names_paths(&self) -> bool {
        !self.files_from.is_empty() || !self.files_from_raw.is_empty()
    }

    /// The paths on the command line and those in the lists.
    pub(super) fn sources(&self, paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let lists = || self.files_from.iter().chain(&self.files_from_raw);
        if lists().filter(|list| is_stdin(list)).count() > 1 {
            return Err(Failure::usage("standard input can be one list only").into());
        }
        let mut sources = paths.to_vec();
        for list in &self.files_from {
            sources.extend(lines(&read(list)?).map(path_of));
        }
        for list in &self.files_from_raw {
            let bytes = read(list)?;
            if !bytes.is_empty() && bytes.last() != Some(&0) {
                let message = format!("{}: no NUL stands behind the last path", list.display());
                return Err(Failure::usage(message).hint("is the list cut short?").into());
            }
            sources.extend(
                bytes.split_inclusive(|byte| *byte == 0).map(|path| path_of(&path[..path.len() - 1])),
            );
        }
        if sources.iter().any(|source| source.as_os_str().as_bytes().contains(&0)) {
            let message = "a path in a list contains NUL";
            return Err(Failure::usage(message)
                .hint("--files-from-raw takes lists with NUL behind each path")
                .into());
        }
        if sources.is_empty() {
            let hint = "name a file or a directory, a list with --files-from, or --stdin";
            return Err(Failure::usage("there is nothing to back up").hint(hint).into());
        }
        Ok(sources)
    }

    /// What is left out. Patterns from files come first, so that the command line has the last word.
    pub(super) fn excludes(&self) -> Result<Excludes> {
        let mut patterns = Patterns::builder();
        for (files, case_insensitive) in [(&self.exclude_file, false), (&self.iexclude_file, true)] {
            for file in files {
                pattern_file::add(&mut patterns, file, case_insensitive)?;
            }
        }
        for pattern in &self.exclude {
            add(&mut patterns, pattern, false)?;
        }
        for pattern in &self.iexclude {
            add(&mut patterns, pattern, true)?;
        }
        let patterns = patterns.build().map_err(|error| refuse(&error))?;
        let mut markers = Vec::new();
        if self.exclude_caches {
            markers.push(Marker::cache_directory());
        }
        for marker in &self.exclude_if_present {
            let mut parts = marker.as_bytes().splitn(2, |byte| *byte == b':');
            let (name, header) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            markers.push(Marker::new(name, header).map_err(|error| refuse(&error))?);
        }
        Ok(Excludes {
            patterns,
            markers,
            larger_than: self.exclude_larger_than,
            one_file_system: self.one_file_system,
        })
    }
}

fn add(patterns: &mut PatternsBuilder, pattern: &OsStr, case_insensitive: bool) -> Result<()> {
    Ok(patterns.add(pattern.as_bytes(), case_insensitive).map_err(|error| refuse(&error))?)
}

fn refuse(error: &CollectError) -> Failure {
    Failure::usage(error.to_string())
}

fn is_stdin(list: &Path) -> bool {
    list.as_os_str() == "-"
}

fn read(list: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if is_stdin(list) {
        std::io::stdin().lock().read_to_end(&mut bytes).context("read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(list).with_context(|| format!("read {}", list.display()))
}

/// Lines without their ends, empty ones and comments left out. Nothing else is special: a path is taken as it stands.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// A number of bytes, with a unit of 1024, 1024², … behind it.
fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.trim_end_matches(['b', 'B']) {
        rest if rest.ends_with(['k', 'K']) => (rest, 10),
        rest if rest.ends_with(['m', 'M']) => (rest, 20),
        rest if rest.ends_with(['g', 'G']) => (rest, 30),
        rest if rest.ends_with(['t', 'T']) => (rest, 40),
        rest => (rest, 0),
    };
    let digits = if shift > 0 { &digits[..digits.len() - 1] } else { digits };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| {
        "expected a number of bytes, or one with K, M, G or T behind it, such as 100M".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let cases = [
            ("0", 0),
            ("17", 17),
            ("17b", 17),
            ("2k", 2048),
            ("100M", 100 << 20),
            ("1GB", 1 << 30),
            ("3T", 3 << 40),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "99999999T", "1X", " 1"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_are_paths() {
        let text = b"a\n\n# no\r\n b \r\n\xff#\n./#x";
        let found: Vec<&[u8]> = lines(text).collect();
        assert_eq!(found, [&b"a"[..], b" b ", b"\xff#", b"./#x"]);
    }
}
