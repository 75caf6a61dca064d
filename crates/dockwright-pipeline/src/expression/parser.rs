//! From tokens to a tree: operators by precedence, left to right.

use super::{
    ExpressionError,
    lexer::{self, Token, TokenKind},
    regex::{self, Pattern},
};

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression {
    pub(super) root: Term,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    Variable(String),
    Text(String),
    Pattern(Pattern),
    Null,
    Bool(bool),
    Not(Box<Term>),
    Binary { operator: Operator, left: Box<Term>, right: Box<Term> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Match,
    NotMatch,
    And,
    Or,
}

impl Operator {
    fn of(kind: &TokenKind) -> Option<Self> {
        Some(match kind {
            TokenKind::Equal => Self::Equal,
            TokenKind::NotEqual => Self::NotEqual,
            TokenKind::Match => Self::Match,
            TokenKind::NotMatch => Self::NotMatch,
            TokenKind::And => Self::And,
            TokenKind::Or => Self::Or,
            _ => return None,
        })
    }

    /// The higher, the tighter. All comparisons are equal among themselves.
    fn binding(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal | Self::NotEqual | Self::Match | Self::NotMatch => 3,
        }
    }
}

impl Expression {
    /// Parses an expression; patterns are compiled, so that evaluating cannot fail.
    pub(crate) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let tokens = lexer::tokens(text)?;
        let mut parser = Parser { tokens: &tokens, at: 0, length: text.len() };
        let root = parser.binary(0)?;
        match parser.peek() {
            None => Ok(Self { root }),
            Some(extra) => Err(parser.unexpected(Some(extra), "an operator such as `==` or `&&`")),
        }
    }

    /// Returns the names of the variables that it looks at, in the order they are written.
    pub(crate) fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.root.variables(&mut names);
        names
    }
}

impl Term {
    fn variables<'t>(&'t self, names: &mut Vec<&'t str>) {
        match self {
            Self::Variable(name) if !names.contains(&name.as_str()) => names.push(name),
            Self::Not(inner) => inner.variables(names),
            Self::Binary { left, right, .. } => {
                left.variables(names);
                right.variables(names);
            }
            _ => {}
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    length: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn binary(&mut self, least: u8) -> Result<Term, ExpressionError> {
        let mut left = self.operand()?;
        while let Some(operator) = self.peek().and_then(|token| Operator::of(&token.kind)).filter(|operator| operator.binding() > least) {
            self.at += 1;
            let right = self.binary(operator.binding())?;
            left = Term::Binary { operator, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    // The depth of this recursion is limited by the number of tokens.
    fn operand(&mut self) -> Result<Term, ExpressionError> {
        let token = self.next();
        let Some(Token { kind, start, end }) = token else {
            return Err(self.unexpected(None, "a variable, a text or a pattern"));
        };
        Ok(match kind {
            TokenKind::Variable(name) => Term::Variable(name.clone()),
            TokenKind::Text(text) => Term::Text(text.clone()),
            TokenKind::Null => Term::Null,
            TokenKind::Bool(value) => Term::Bool(*value),
            TokenKind::Not => Term::Not(Box::new(self.operand()?)),
            TokenKind::Pattern(text) => Term::Pattern(regex::compile(text).map_err(|problem| ExpressionError {
                message: format!("invalid pattern: {problem}"),
                help: Some("patterns use the syntax of RE2 (https://github.com/google/re2/wiki/Syntax)".to_owned()),
                start: *start,
                end: *end,
            })?),
            TokenKind::Open => {
                let inner = self.binary(0)?;
                match self.next() {
                    Some(Token { kind: TokenKind::Close, .. }) => inner,
                    other => return Err(self.unexpected(other, "`)`")),
                }
            }
            _ => return Err(self.unexpected(token, "a variable, a text or a pattern")),
        })
    }

    fn unexpected(&self, token: Option<&Token>, expected: &str) -> ExpressionError {
        let (start, end) = token.map_or((self.length, self.length), |token| (token.start, token.end));
        let found = if token.is_some() { "found something else here" } else { "the expression ends" };
        ExpressionError {
            message: "Invalid expression syntax".to_owned(),
            help: Some(format!("expected {expected}, but {found}")),
            start,
            end,
        }
    }
}
