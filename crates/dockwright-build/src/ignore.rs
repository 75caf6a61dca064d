//! `.dockerignore`: which paths of a context stay out.
//!
//! The last pattern that matches decides; a pattern matches a path or anything below it; `!` takes a path back in, also below a directory
//! that is out.

use std::path::{Component, Path};

use regex::Regex;

use crate::glob::{self, BadPattern, DoubleStar};

/// The name of the file in the root of the context.
pub const IGNORE_FILE: &str = ".dockerignore";

/// The patterns of an ignore file, in order.
#[derive(Debug, Default)]
pub struct IgnorePatterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    negated: bool,
}

impl IgnorePatterns {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::from_lines(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Takes patterns one by one (`--exclude`).
    pub fn from_lines<'l>(lines: impl IntoIterator<Item = &'l str>) -> Result<Self, BadPattern> {
        let mut patterns = Vec::new();
        for line in lines {
            let line = line.trim();
            let (negated, path) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let path = clean(path);
            if line.is_empty() {
                continue;
            }
            if path.is_empty() && negated {
                return Err(BadPattern(line.to_owned()));
            }
            patterns.push(Pattern { regex: glob::compile(&path, DoubleStar::CrossesDirectories)?, negated });
        }
        Ok(Self { patterns })
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path, relative to the root, stays out.
    pub fn excludes(&self, path: &Path) -> bool {
        let mut prefixes = Vec::new();
        let mut prefix = String::new();
        for component in path.components() {
            if let Component::Normal(name) = component {
                if !prefix.is_empty() {
                    prefix.push('/');
                }
                prefix.push_str(&name.to_string_lossy());
                prefixes.push(prefix.clone());
            }
        }
        let matches = |pattern: &&Pattern| prefixes.iter().rev().any(|prefix| pattern.regex.is_match(prefix));
        self.patterns.iter().rev().find(matches).is_some_and(|pattern| !pattern.negated)
    }
}

/// `./a//b/../c/` is `a/c`; `.` alone means everything below the root, as Docker's CLI takes it.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &str, excluded: &[&str], included: &[&str]) {
        let patterns = IgnorePatterns::parse(patterns).unwrap();
        for path in excluded {
            assert!(patterns.excludes(Path::new(path)), "{path} should be out");
        }
        for path in included {
            assert!(!patterns.excludes(Path::new(path)), "{path} should be in");
        }
    }

    #[test]
    fn patterns_match_the_path_and_below() {
        check(
            "# comment\n\n /node_modules/ \n*.log\n",
            &["node_modules", "node_modules/a/b", "x.log"],
            &["a/node_modules", "a/x.log", "log"],
        );
    }

    #[test]
    fn double_stars() {
        check("**/*.o\ndoc/**\n", &["a.o", "x/y/a.o", "doc/a", "doc/a/b"], &["a.oo", "adoc/x"]);
        check("**", &["a", "a/b"], &[]);
        check("a/**/z", &["a/z", "a/b/c/z"], &["b/a/z"]);
    }

    #[test]
    fn the_last_match_decides() {
        check("*\n!src\nsrc/*.tmp\n", &["x", "src/a.tmp"], &["src", "src/a.c"]);
        check("dir\n!dir/keep\n", &["dir/x"], &["dir/keep", "dir/keep/y"]);
    }

    #[test]
    fn bad_patterns_are_named() {
        assert_eq!(IgnorePatterns::parse("ok\n[a\n").unwrap_err(), BadPattern("[a".to_owned()));
        assert_eq!(IgnorePatterns::parse("!").unwrap_err(), BadPattern("!".to_owned()));
    }
}
