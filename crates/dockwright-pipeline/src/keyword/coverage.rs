//! `coverage`: a pattern that finds the percentage in what a job prints.

use super::Reader;
use crate::{
    diagnostic::Diagnostic,
    expression::{self, Pattern},
    yaml::Node,
};

/// Reads `coverage`.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Coverage> {
    let text = reader.text(at, node)?;
    let pattern = if text.starts_with('/') { expression::compile_pattern(&text) } else { Err("it must stand between slashes".to_owned()) };
    match pattern {
        Ok(pattern) => Some(Coverage { pattern }),
        Err(problem) => {
            let message = format!("{at} config must be a regular expression: {problem}");
            reader.report(Diagnostic::error("invalid-pattern", message).at(node.span).help("for example `'/Total: \\d+\\.\\d+%/'`"));
            None
        }
    }
}

/// A compiled `coverage`.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    pattern: Pattern,
}

impl Coverage {
    /// Finds the percentage in a trace: the first number in the last match of the last line that matches.
    pub fn find(&self, trace: &str) -> Option<f64> {
        let matched = trace.lines().rev().find_map(|line| self.pattern.last_match(line))?;
        let start = matched.find(|next: char| next.is_ascii_digit())?;
        let number = &matched[start..];
        let end = number.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(number.len());
        number[..end].trim_end_matches('.').parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_matches_counts() {
        let cases = [
            ("/Total.*\\d+%/", "Total 10%\nTotal 85%\nend\n", Some(85.0)),
            ("/\\d+\\.\\d+%/", "a 1.5% b 97.25% c\n", Some(97.25)),
            ("/TOTAL\\s+(\\d+)/", "TOTAL   12\n", Some(12.0)),
            ("/covered/", "covered\n", None),
            ("/covered: \\d+/", "nothing\n", None),
        ];
        for (pattern, trace, expected) in cases {
            let pattern = expression::compile_pattern(pattern).expect("a pattern");
            assert_eq!(Coverage { pattern }.find(trace), expected, "{trace}");
        }
    }
}
