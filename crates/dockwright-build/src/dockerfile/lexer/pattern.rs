//! Glob patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?`, and literals.
//!
//! Matching walks the pattern with a set of reachable positions, so that `*a*a*a*` costs pattern × text at worst.

use regex::Regex;

use super::LexError;

/// One piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Any,
    One,
    Literal(char),
}

impl Piece {
    fn expression(self) -> String {
        match self {
            Self::Any => ".*".to_owned(),
            Self::One => ".".to_owned(),
            Self::Literal(literal) => regex::escape(literal.encode_utf8(&mut [0; 4])),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Piece>, LexError> {
    let mut pieces = Vec::new();
    let mut chars = text.chars();
    while let Some(character) = chars.next() {
        pieces.push(match character {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => match chars.next() {
                Some(literal @ ('*' | '?' | '\\' | '}' | '/')) => Piece::Literal(literal),
                Some(other) => return Err(LexError::InvalidPattern(other)),
                None => return Err(LexError::InvalidPattern(' ')),
            },
            literal => Piece::Literal(literal),
        });
    }
    Ok(pieces)
}

pub(super) fn without_prefix(value: &str, pattern: &[Piece], longest: bool) -> String {
    let chars: Vec<char> = value.chars().collect();
    match match_at(&chars, pattern, longest) {
        Some(length) => chars[length..].iter().collect(),
        None => value.to_owned(),
    }
}

pub(super) fn without_suffix(value: &str, pattern: &[Piece], longest: bool) -> String {
    let chars: Vec<char> = value.chars().rev().collect();
    let reversed: Vec<Piece> = pattern.iter().rev().copied().collect();
    match match_at(&chars, &reversed, longest) {
        Some(length) => chars[length..].iter().rev().collect(),
        None => value.to_owned(),
    }
}

/// Replaces the first match, or all of them; a match is as long as can be and never empty.
pub(super) fn replace(value: &str, pattern: &[Piece], replacement: &str, all: bool) -> Result<String, LexError> {
    let expression: String = std::iter::once("(?s)".to_owned()).chain(pattern.iter().map(|piece| piece.expression())).collect();
    let expression = Regex::new(&expression).map_err(|_| LexError::PatternTooLong)?;
    let limit = if all { usize::MAX } else { 1 };
    let mut result = String::new();
    let mut at = 0;
    for found in expression.find_iter(value).filter(|found| !found.is_empty()).take(limit) {
        result.push_str(&value[at..found.start()]);
        result.push_str(replacement);
        at = found.end();
    }
    result.push_str(&value[at..]);
    Ok(result)
}

/// Returns the length of the shortest or longest match that starts at the first character.
fn match_at(text: &[char], pattern: &[Piece], longest: bool) -> Option<usize> {
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for piece in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut reachable = false;
        for at in 0..=text.len() {
            match piece {
                Piece::Any => {
                    reachable |= ends[at];
                    next[at] = reachable;
                }
                Piece::One => next[at] = at > 0 && ends[at - 1],
                Piece::Literal(literal) => next[at] = at > 0 && ends[at - 1] && text[at - 1] == *literal,
            }
        }
        ends = next;
    }
    if longest { ends.iter().rposition(|end| *end) } else { ends.iter().position(|end| *end) }
}
