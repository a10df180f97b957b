//! Which entries of a snapshot `coffer restore` takes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use coffer_collect::Patterns;

use crate::command_error::Failure;
use crate::pattern_file;

#[derive(Debug, Args)]
pub(crate) struct PatternArgs {
    /// Restore only what this pattern matches, in the syntax of gitignore, and what is below it; may be given several
    /// times, as all of these.
    #[arg(short, long, value_name = "PATTERN", conflicts_with_all = EXCLUDES)]
    include: Vec<OsString>,
    /// As --include, without regard to case.
    #[arg(long, value_name = "PATTERN", conflicts_with_all = EXCLUDES)]
    iinclude: Vec<OsString>,
    /// Restore only what the patterns in this file match.
    #[arg(long, value_name = "FILE", conflicts_with_all = EXCLUDES)]
    include_file: Vec<PathBuf>,
    /// As --include-file, without regard to case.
    #[arg(long, value_name = "FILE", conflicts_with_all = EXCLUDES)]
    iinclude_file: Vec<PathBuf>,
    /// Leave out what this pattern matches, and what is below it.
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
}

/// Either says what is taken or what is not: both at once would have to be explained.
const EXCLUDES: [&str; 4] = ["exclude", "iexclude", "exclude_file", "iexclude_file"];

/// Files and patterns, and whether case counts for nothing.
type Given<'a> = [(&'a [PathBuf], &'a [OsString], bool); 2];

impl PatternArgs {
    pub(super) fn include(&self) -> Result<Patterns> {
        build([(&self.include_file, &self.include, false), (&self.iinclude_file, &self.iinclude, true)])
    }

    pub(super) fn exclude(&self) -> Result<Patterns> {
        build([(&self.exclude_file, &self.exclude, false), (&self.iexclude_file, &self.iexclude, true)])
    }
}

/// Patterns from files come first, so that the command line has the last word.
fn build(given: Given<'_>) -> Result<Patterns> {
    let mut patterns = Patterns::builder();
    for (files, _, case_insensitive) in given {
        for file in files {
            pattern_file::add(&mut patterns, file, case_insensitive)?;
        }
    }
    for (_, words, case_insensitive) in given {
        for word in words {
            let added = patterns.add(word.as_bytes(), case_insensitive);
            added.map_err(|error| Failure::usage(error.to_string()))?;
        }
    }
    Ok(patterns.build().map_err(|error| Failure::usage(error.to_string()))?)
}
