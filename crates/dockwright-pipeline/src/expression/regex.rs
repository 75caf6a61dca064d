//! Patterns: GitLab matches with RE2, we with the `regex` crate, after a translation. What RE2 refuses is refused when the configuration
//! is read.

use regex::{Regex, RegexBuilder};

use super::re2::translate;

/// A compiled pattern. Two are equal when they were written alike.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    source: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Pattern {
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Returns the text of the last match.
    pub(crate) fn last_match<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.regex.find_iter(text).last().map(|found| found.as_str())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.source
    }
}

/// Largest compiled pattern, in bytes: what RE2 allows.
const PATTERN_SIZE_BYTES: usize = 8 * 1024 * 1024;

/// Compiles `/pattern/flags`.
pub(crate) fn compile(literal: &str) -> Result<Pattern, String> {
    let end = literal.rfind('/').filter(|end| *end > 0).ok_or("it has no closing `/`")?;
    let (body, flags) = (literal[1..end].replace("\\/", "/"), &literal[end + 1..]);
    let regex = RegexBuilder::new(&translate(&body)?)
        .case_insensitive(flags.contains('i'))
        .dot_matches_new_line(flags.contains('s'))
        .multi_line(flags.contains('m'))
        .swap_greed(flags.contains('U'))
        .size_limit(PATTERN_SIZE_BYTES)
        .build()
        .map_err(|error| last_line(&error.to_string()))?;
    Ok(Pattern { source: literal.to_owned(), regex })
}

/// Compiles a pattern without slashes and flags.
pub(crate) fn compile_plain(text: &str) -> Result<Pattern, String> {
    let regex =
        RegexBuilder::new(&translate(text)?).size_limit(PATTERN_SIZE_BYTES).build().map_err(|error| last_line(&error.to_string()))?;
    Ok(Pattern { source: text.to_owned(), regex })
}

/// The crate's syntax errors draw the pattern over several lines; the reason is in the last.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
