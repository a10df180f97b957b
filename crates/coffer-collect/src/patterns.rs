//! Patterns in the syntax of gitignore, matched against paths of entries.
//!
//! A pattern without a slash, but at its end, matches a name at any depth; any other one is matched against the whole path, from the root of
//! the snapshot. A slash at the end means directories only, `**` any number of directories, `!` in front takes back what an earlier
//! pattern matched. Of several patterns that match, the last one counts.
//!
//! Paths are bytes: `?` and `*` match bytes that are not UTF-8 as well, and no path is ever converted. Patterns are UTF-8; one that is not
//! is refused rather than matched against something else. Without regard to case means that of the letters of ASCII.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::CollectError;
use crate::path::escape;

/// What a set of patterns says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No pattern matches.
    None,
    /// The last pattern that matches is a plain one.
    Ignore,
    /// The last pattern that matches begins with `!`.
    Whitelist,
}

/// A set of patterns, ready to be matched.
#[derive(Clone, Debug)]
pub struct Patterns {
    set: Gitignore,
}

/// Patterns being gathered; their order counts.
#[derive(Clone, Debug)]
pub struct PatternsBuilder {
    builder: GitignoreBuilder,
}

impl Default for Patterns {
    /// No patterns; nothing matches.
    fn default() -> Self {
        Self { set: Gitignore::empty() }
    }
}

impl Patterns {
    /// A set to which patterns are added.
    #[must_use]
    pub fn builder() -> PatternsBuilder {
        let mut builder = GitignoreBuilder::new("");
        // What looks like a mistake is refused, not taken literally.
        builder.allow_unclosed_class(false);
        PatternsBuilder { builder }
    }

    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// What the patterns say of this very path, whatever they say of the directories above it. A walk that does not enter directories
    /// that are ignored needs no more than this. Nothing matches the empty path.
    #[must_use]
    pub fn matches(&self, path: &[u8], is_dir: bool) -> Verdict {
        if path.is_empty() {
            return Verdict::None;
        }
        match self.set.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
            Match::None => Verdict::None,
            Match::Ignore(_) => Verdict::Ignore,
            Match::Whitelist(_) => Verdict::Whitelist,
        }
    }

    /// As a walk from the top would have it: [`Verdict::Ignore`] if a directory above the path is ignored, else what is said of the path
    /// itself. As in gitignore, nothing is taken back below a directory that is ignored.
    #[must_use]
    pub fn matches_from_top(&self, path: &[u8], is_dir: bool) -> Verdict {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (end, _) in slashes {
            if self.matches(&path[..end], true) == Verdict::Ignore {
                return Verdict::Ignore;
            }
        }
        self.matches(path, is_dir)
    }

    /// What is said of the path itself or, where that is nothing, of the nearest directory above it of which something is said. For
    /// patterns that choose: what matches is chosen with everything below it, but for what `!` takes back.
    #[must_use]
    pub fn matches_nearest(&self, path: &[u8], is_dir: bool) -> Verdict {
        let mut verdict = self.matches(path, is_dir);
        let mut rest = path;
        while verdict == Verdict::None
            && let Some(end) = rest.iter().rposition(|byte| *byte == b'/')
        {
            rest = &rest[..end];
            verdict = self.matches(rest, true);
        }
        verdict
    }
}

impl PatternsBuilder {
    /// Adds one pattern. Nothing is a comment here: `#` at the beginning stands for itself.
    ///
    /// # Errors
    /// [`CollectError::Pattern`] when it is none.
    pub fn add(&mut self, pattern: &[u8], case_insensitive: bool) -> Result<(), CollectError> {
        let refuse = |reason: String| CollectError::Pattern { pattern: escape(pattern), reason };
        let Ok(text) = std::str::from_utf8(pattern) else {
            return Err(refuse("it is not UTF-8; write `?` for each byte that is not".to_owned()));
        };
        let body = text.trim_end();
        let body = body.strip_prefix('!').unwrap_or(body);
        if body.trim_matches('/').is_empty() {
            return Err(refuse("it matches nothing".to_owned()));
        }
        if body.split('/').any(|component| matches!(component, "." | "..")) {
            return Err(refuse("paths that are matched have no component `.` or `..`".to_owned()));
        }
        let mut line = with_plain_braces(text);
        if line.starts_with('#') {
            line.insert(0, '\\');
        }
        let added = self
            .builder
            .case_insensitive(case_insensitive)
            .and_then(|builder| builder.add_line(None, &line).map(|_| ()));
        added.map_err(|error| refuse(reason_of(error)))
    }

    /// Adds the patterns of a file in the form of `.gitignore`: one on each line, empty lines and those that begin with `#` left out.
    ///
    /// # Errors
    /// [`CollectError::Pattern`] for the first line that is no pattern.
    pub fn add_lines(&mut self, text: &[u8], case_insensitive: bool) -> Result<(), CollectError> {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            if !line.starts_with(b"#") && !line.trim_ascii().is_empty() {
                self.add(line, case_insensitive)?;
            }
        }
        Ok(())
    }

    /// The set, ready to be matched.
    ///
    /// # Errors
    /// [`CollectError::Pattern`] when all together are too much to be compiled.
    pub fn build(&self) -> Result<Patterns, CollectError> {
        let refuse =
            |error| CollectError::Pattern { pattern: "all together".to_owned(), reason: reason_of(error) };
        Ok(Patterns { set: self.builder.build().map_err(refuse)? })
    }
}

/// The pattern with its braces escaped: they stand for themselves in gitignore, and for alternatives in the library.
fn with_plain_braces(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let (mut is_escaped, mut in_class) = (false, false);
    for letter in pattern.chars() {
        if matches!(letter, '{' | '}') && !is_escaped && !in_class {
            plain.push('\\');
        }
        in_class = !is_escaped && (letter == '[' || (in_class && letter != ']'));
        is_escaped = letter == '\\' && !is_escaped;
        plain.push(letter);
    }
    plain
}

fn reason_of(error: ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
