//! The expressions of `rules:if`: `$CI_COMMIT_BRANCH == "main" && $DEPLOY =~ /^yes/i`.
//!
//! GitLab's lexer and parser are followed token by token, since their oddities decide which jobs run: variables are not expanded
//! further, `$EMPTY || "x"` is the empty text, and the right side of `=~` may be a text that contains the left side.

mod eval;
mod lexer;
mod parser;
mod re2;
pub(crate) mod regex;

pub(crate) use parser::Expression;
pub(crate) use regex::{Pattern, compile as compile_pattern, compile_plain};

/// Why a text is no expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpressionError {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// Byte offsets in the expression.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::Expression;

    fn holds(text: &str, variables: &[(&str, &str)]) -> bool {
        let variables: IndexMap<String, String> = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Expression::parse(text).expect("the expression parses").is_true(&variables)
    }

    #[test]
    fn comparisons_and_presence() {
        let variables = [("BRANCH", "main"), ("EMPTY", ""), ("BLANK", " "), ("PATTERN", "/^ma/"), ("LIST", "main dev"), ("YES", "true")];
        let cases = [
            ("$BRANCH", true),
            ("$EMPTY", false),
            ("$BLANK", false),
            ("$UNDEFINED", false),
            ("$BRANCH == \"main\"", true),
            ("$BRANCH == 'dev'", false),
            ("$BRANCH != 'dev'", true),
            ("$UNDEFINED == null", true),
            ("$EMPTY == null", false),
            ("$UNDEFINED == \"\"", false),
            ("$EMPTY == ''", true),
            ("\"main\" == $BRANCH", true),
            ("$BRANCH =~ /^MA/", false),
            ("$BRANCH =~ /^MA/i", true),
            ("$BRANCH =~ $PATTERN", true),
            ("$BRANCH =~ $LIST", true),
            ("$LIST =~ $BRANCH", false),
            ("$EMPTY =~ $BRANCH", true),
            ("$BRANCH =~ $UNDEFINED", false),
            ("$BRANCH !~ $UNDEFINED", true),
            ("$BRANCH !~ /^dev/", true),
            ("$UNDEFINED =~ /^$/", true),
            ("$YES == true", true),
            ("!$UNDEFINED", true),
            ("!$BRANCH == \"x\"", false),
            ("$BRANCH == 'main' && $EMPTY", false),
            ("$UNDEFINED || $BRANCH", true),
            // An empty text is true inside of `&&` and `||`, but the result is blank.
            ("$EMPTY || $BRANCH", false),
            ("$EMPTY && $BRANCH", true),
            ("$UNDEFINED && $EMPTY || $BRANCH", true),
            ("($BRANCH == 'dev' || $BRANCH == 'main') && $YES", true),
            ("$BRANCH == 'dev' || $BRANCH == 'main' && $UNDEFINED", false),
            ("$BRANCH =~ /a\\/b|main/", true),
        ];
        for (text, expected) in cases {
            assert_eq!(holds(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn what_does_not_parse() {
        for text in [
            "",
            "$A ==",
            "== $B",
            "${A}",
            "$A = $B",
            "$A $B",
            "($A",
            "$A)",
            "$A == \"x",
            "$A =~ /(/",
            "&&",
            "$A =~ \"(\" ==",
            "!",
            "$A == 1",
        ] {
            assert!(Expression::parse(text).is_err(), "{text} parsed");
        }
    }

    #[test]
    fn long_expressions_are_refused() {
        let text = vec!["$A"; 60].join(" && ");
        assert_eq!(Expression::parse(&text).expect_err("too long").message, "Too many tokens!");
    }
}
