//! Tokens of an expression, in the order in which GitLab tries them.

use std::sync::LazyLock;

use regex::Regex;

use super::ExpressionError;

/// Most tokens of an expression.
const MAX_TOKENS: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    Open,
    Close,
    Variable(String),
    Text(String),
    /// As written, between and with its slashes, and flags.
    Pattern(String),
    Null,
    Bool(bool),
    Equal,
    NotEqual,
    Match,
    NotMatch,
    And,
    Or,
    Not,
}

static VARIABLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\$([A-Za-z0-9_]+)").expect("constant"));
static TEXT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"^(?:"(.*?)"|'(.*?)')"#).expect("constant"));
static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^/(?:[^/]|\\/)+[^\\]/[ismU]*").expect("constant"));
static BOOL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(true|false)\b").expect("constant"));

/// Operators; longer ones before their beginnings.
const OPERATORS: &[(&str, TokenKind)] = &[
    ("==", TokenKind::Equal),
    ("=~", TokenKind::Match),
    ("!=", TokenKind::NotEqual),
    ("!~", TokenKind::NotMatch),
    ("&&", TokenKind::And),
    ("||", TokenKind::Or),
    ("!", TokenKind::Not),
];

/// Splits an expression into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ExpressionError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if at == text.len() {
            return Ok(tokens);
        }
        let (kind, length) = token(&text[at..]).ok_or_else(|| unknown(text, at))?;
        tokens.push(Token { kind, start: at, end: at + length });
        at += length;
        if tokens.len() > MAX_TOKENS {
            return Err(ExpressionError {
                message: "Too many tokens!".to_owned(),
                help: Some(format!("an expression may have {MAX_TOKENS} tokens; split it into several rules")),
                start: 0,
                end: text.len(),
            });
        }
    }
}

/// Recognises a pattern in the value of a variable.
pub(super) fn pattern(text: &str) -> Option<&str> {
    PATTERN.find(text).map(|found| found.as_str())
}

fn token(rest: &str) -> Option<(TokenKind, usize)> {
    if rest.starts_with('(') {
        return Some((TokenKind::Open, 1));
    }
    if rest.starts_with(')') {
        return Some((TokenKind::Close, 1));
    }
    if let Some(found) = VARIABLE.captures(rest) {
        return Some((TokenKind::Variable(found[1].to_owned()), found[0].len()));
    }
    if let Some(found) = TEXT.captures(rest) {
        let content = found.get(1).or(found.get(2)).map_or("", |content| content.as_str());
        return Some((TokenKind::Text(content.to_owned()), found[0].len()));
    }
    if let Some(found) = pattern(rest) {
        return Some((TokenKind::Pattern(found.to_owned()), found.len()));
    }
    // No word boundary here, as in GitLab.
    if rest.starts_with("null") {
        return Some((TokenKind::Null, "null".len()));
    }
    if let Some(found) = BOOL.find(rest) {
        return Some((TokenKind::Bool(found.as_str() == "true"), found.len()));
    }
    OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator)).map(|(operator, kind)| (kind.clone(), operator.len()))
}

fn unknown(text: &str, at: usize) -> ExpressionError {
    let rest = &text[at..];
    let help = if rest.starts_with("${") {
        "write variables without braces here: `$NAME`"
    } else if rest.starts_with('=') {
        "compare with `==`, or match a pattern with `=~`"
    } else if rest.starts_with('&') || rest.starts_with('|') {
        "join conditions with `&&` and `||`"
    } else if rest.starts_with('"') || rest.starts_with('\'') {
        "the quote is not closed"
    } else if rest.starts_with('/') {
        "a pattern stands between slashes, has at least two characters, and writes `/` as `\\/`"
    } else {
        "put texts in quotes, and begin variables with `$`"
    };
    let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
    ExpressionError { message: "Unknown lexeme found!".to_owned(), help: Some(help.to_owned()), start: at, end: at + length }
}
