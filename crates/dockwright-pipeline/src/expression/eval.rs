//! The value of an expression for given variables.

use indexmap::IndexMap;

use super::{
    Expression, lexer,
    parser::{Operator, Term},
    regex,
};

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Nil,
    Text(String),
    Bool(bool),
    Pattern(regex::Pattern),
}

impl Value {
    /// Ruby's idea of true: everything but nil and false, the empty text too.
    fn is_truthy(&self) -> bool {
        !matches!(self, Self::Nil | Self::Bool(false))
    }

    /// Present: not nil, not false, not blank.
    fn is_present(&self) -> bool {
        match self {
            Self::Nil | Self::Bool(false) => false,
            Self::Text(text) => !text.trim().is_empty(),
            Self::Bool(true) | Self::Pattern(_) => true,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Nil => "",
            Self::Text(text) => text,
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }
}

impl Expression {
    /// Tells whether the expression holds. Variables are taken as they are, without expanding what they contain.
    pub(crate) fn is_true(&self, variables: &IndexMap<String, String>) -> bool {
        evaluate(&self.root, variables).is_present()
    }
}

fn evaluate(term: &Term, variables: &IndexMap<String, String>) -> Value {
    match term {
        Term::Variable(name) => variables.get(name).map_or(Value::Nil, |value| Value::Text(value.clone())),
        Term::Text(text) => Value::Text(text.clone()),
        Term::Pattern(pattern) => Value::Pattern(pattern.clone()),
        Term::Null => Value::Nil,
        Term::Bool(value) => Value::Bool(*value),
        Term::Not(inner) => Value::Bool(!evaluate(inner, variables).is_present()),
        Term::Binary { operator, left, right } => {
            let left = evaluate(left, variables);
            match operator {
                Operator::And if !left.is_truthy() => left,
                Operator::Or if left.is_truthy() => left,
                Operator::And | Operator::Or => evaluate(right, variables),
                Operator::Equal => Value::Bool(equal(&left, &evaluate(right, variables))),
                Operator::NotEqual => Value::Bool(!equal(&left, &evaluate(right, variables))),
                Operator::Match => Value::Bool(matches(&left, &evaluate(right, variables)).unwrap_or(false)),
                Operator::NotMatch => Value::Bool(!matches(&left, &evaluate(right, variables)).unwrap_or(false)),
            }
        }
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Bool(_), Value::Text(_)) | (Value::Text(_), Value::Bool(_)) => left.text() == right.text(),
        _ => left == right,
    }
}

/// Nothing when there is nothing to match with, or the pattern of a variable is broken.
fn matches(left: &Value, right: &Value) -> Option<bool> {
    match right {
        Value::Nil => None,
        Value::Pattern(pattern) => Some(pattern.is_match(left.text())),
        Value::Text(text) => match lexer::pattern(text).filter(|pattern| pattern.len() == text.len()) {
            Some(pattern) => regex::compile(pattern).ok().map(|pattern| pattern.is_match(left.text())),
            None => Some(text.contains(left.text())),
        },
        Value::Bool(_) => Some(right.text().contains(left.text())),
    }
}
