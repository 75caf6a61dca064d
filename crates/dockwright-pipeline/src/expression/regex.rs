//! Patterns: GitLab matches with RE2, we with the `regex` crate, which has the same heritage.
//!
//! What differs is translated: in RE2 the classes `\d \w \s \b` are ASCII only, the flag `U` swaps greediness (also here), and `\Q…\E`
//! quotes. Text that is valid in neither is refused when the configuration is read.

use regex::{Regex, RegexBuilder};

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

/// Largest compiled pattern, in bytes.
const PATTERN_SIZE_BYTES: usize = 1024 * 1024;

/// Compiles `/pattern/flags`.
pub(crate) fn compile(literal: &str) -> Result<Pattern, String> {
    let end = literal.rfind('/').filter(|end| *end > 0).ok_or("it has no closing `/`")?;
    let (body, flags) = (literal[1..end].replace("\\/", "/"), &literal[end + 1..]);
    let regex = RegexBuilder::new(&translate(&body))
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
        RegexBuilder::new(&translate(text)).size_limit(PATTERN_SIZE_BYTES).build().map_err(|error| last_line(&error.to_string()))?;
    Ok(Pattern { source: text.to_owned(), regex })
}

/// The crate's syntax errors draw the pattern over several lines; the reason is in the last.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Rewrites RE2's syntax where the `regex` crate reads it differently.
fn translate(pattern: &str) -> String {
    let mut output = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(next) = rest.chars().next() {
        let Some(escaped) = rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) else {
            match next {
                '[' if !in_class => in_class = true,
                ']' => in_class = false,
                // A bracket in a class is a character in RE2, but begins a nested class here.
                '[' if !rest.starts_with("[:") => output.push('\\'),
                _ => {}
            }
            // These are set operators in a class of the `regex` crate only.
            if in_class && (rest.starts_with("&&") || rest.starts_with("~~") || rest.starts_with("--")) {
                output.push('\\');
            }
            output.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        rest = &rest[1 + escaped.len_utf8()..];
        match escaped {
            'Q' => {
                let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                output.push_str(&regex::escape(quoted));
                rest = after;
            }
            'd' if in_class => output.push_str("0-9"),
            'w' if in_class => output.push_str("0-9A-Za-z_"),
            's' if in_class => output.push_str(r"\t\n\f\r "),
            'd' => output.push_str("[0-9]"),
            'D' => output.push_str("[^0-9]"),
            'w' => output.push_str("[0-9A-Za-z_]"),
            'W' => output.push_str("[^0-9A-Za-z_]"),
            's' => output.push_str(r"[\t\n\f\r ]"),
            'S' => output.push_str(r"[^\t\n\f\r ]"),
            'b' if !in_class => output.push_str(r"(?-u:\b)"),
            // RE2 takes an escaped punctuation mark or a plain one alike.
            mark if mark.is_ascii_punctuation() => output.push_str(&regex::escape(&mark.to_string())),
            other => {
                output.push('\\');
                output.push(other);
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn patterns_follow_re2() {
        let cases = [
            (r"/^v\d+$/", "v12", true),
            (r"/^v\d+$/", "v٣", false),
            (r"/^\w+$/", "é", false),
            (r"/[\w.-]+@/", "a.b-c@", true),
            (r"/^feature\/.+/", "feature/x", true),
            (r"/A.C/i", "abc", true),
            (r"/a.c/", "a\nc", false),
            (r"/a.c/s", "a\nc", true),
            (r"/^b/", "a\nb", false),
            (r"/^b/m", "a\nb", true),
            (r"/\Qa+b\E/", "a+b", true),
            (r"/[[a]b/", "[b", true),
            (r"/\bfoo\b/", "a foo b", true),
            (r"/\-x/", "-x", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).expect(pattern).is_match(text), expected, "{pattern} on {text:?}");
        }
    }

    #[test]
    fn what_re2_has_not_is_refused() {
        for pattern in ["/(?!a)b/", "/(a/", r"/(a)\1/", "/a{2000}{2000}/"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
