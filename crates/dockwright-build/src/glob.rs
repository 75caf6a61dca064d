//! File name patterns as Go's `filepath.Match` has them, and the same with `**` for ignore files.

use regex::Regex;

/// A pattern that no file name can be matched against.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern `{0}`")]
pub struct BadPattern(pub String);

/// Whether `**` crosses directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DoubleStar {
    CrossesDirectories,
    IsTwoStars,
}

/// Compiles a pattern that must match a whole path.
pub(crate) fn compile(pattern: &str, double_star: DoubleStar) -> Result<Regex, BadPattern> {
    let bad = || BadPattern(pattern.to_owned());
    let mut expression = String::from("(?s)^");
    let mut chars = pattern.chars().peekable();
    while let Some(character) = chars.next() {
        match character {
            '*' if double_star == DoubleStar::CrossesDirectories && chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                expression.push_str(if chars.peek().is_none() { ".*" } else { "(.*/)?" });
            }
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' => expression.push_str(&class(&mut chars).ok_or_else(bad)?),
            '\\' => push_literal(&mut expression, chars.next().ok_or_else(bad)?),
            literal => push_literal(&mut expression, literal),
        }
    }
    expression.push('$');
    Regex::new(&expression).map_err(|_| bad())
}

/// Whether a source of COPY is a pattern.
pub(crate) fn has_wildcards(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(character) = chars.next() {
        match character {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// After `[`: `^`, then characters and ranges, then `]`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut expression = String::from("[");
    if chars.next_if_eq(&'^').is_some() {
        // As in Go, a negated class does not match the separator either.
        expression.push_str("^/");
    }
    let mut members = 0;
    loop {
        let low = match chars.next()? {
            ']' if members > 0 => break,
            ']' | '-' => return None,
            '\\' => chars.next()?,
            literal => literal,
        };
        push_literal(&mut expression, low);
        if chars.next_if_eq(&'-').is_some() {
            let high = match chars.next()? {
                ']' | '-' => return None,
                '\\' => chars.next()?,
                literal => literal,
            };
            if high < low {
                return None;
            }
            expression.push('-');
            push_literal(&mut expression, high);
        }
        members += 1;
    }
    expression.push(']');
    Some(expression)
}

fn push_literal(expression: &mut String, literal: char) {
    if literal == '&' || literal == '~' || literal == '-' {
        // Special inside classes only, where `escape` leaves them alone.
        expression.push('\\');
        expression.push(literal);
    } else {
        expression.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        compile(pattern, DoubleStar::IsTwoStars).unwrap().is_match(path)
    }

    #[test]
    fn as_in_go() {
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "a/b", false),
            ("a*/b", "abc/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]", "/", false),
            (r"a\*c", "a*c", true),
            (r"a\*c", "abc", false),
            (r"[\]a]", "]", true),
            ("a.b", "axb", false),
            ("a+(b)", "a+(b)", true),
            ("[a&b]", "&", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        for bad in ["[", "[]", "[a", "[-a]", "[b-a]", "a\\", "[a-]"] {
            assert_eq!(compile(bad, DoubleStar::IsTwoStars).unwrap_err(), BadPattern(bad.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn any_pattern_has_an_answer(pattern in "[a*?\\[\\]^\\-\\\\&~é/]{0,12}", path in "[a/é&]{0,6}") {
            if let Ok(regex) = compile(&pattern, DoubleStar::CrossesDirectories) {
                let _ = regex.is_match(&path);
            }
            let _ = has_wildcards(&pattern);
        }

        #[test]
        fn an_escaped_path_matches_itself_only(path in "[a-c*?\\[]{1,8}", other in "[a-c*?\\[]{1,8}") {
            let pattern: String = path.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(&pattern, &path));
            prop_assert_eq!(matches(&pattern, &other), path == other);
        }
    }
}
