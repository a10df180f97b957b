//! Patterns from files: one on each line, in the form of `.gitignore`. A line that is no pattern is refused with its number.

use std::path::Path;

use anyhow::{Context, Result};
use coffer_collect::PatternsBuilder;

use crate::command_error::Failure;

/// Adds the patterns of a file.
pub(crate) fn add(patterns: &mut PatternsBuilder, file: &Path, case_insensitive: bool) -> Result<()> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        patterns
            .add_lines(line, case_insensitive)
            .map_err(|error| Failure::usage(format!("{}, line {}: {error}", file.display(), index + 1)))?;
    }
    Ok(())
}
