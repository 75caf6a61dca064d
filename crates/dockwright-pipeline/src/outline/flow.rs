//! Brackets and braces, which may be half typed, too.

use std::ops::Range;

use super::Scanner;
use crate::keyword::shape::Step;

/// An open bracket or brace.
#[derive(Debug)]
pub(super) struct Bracket {
    pub(super) is_map: bool,
    /// The mark whose value it is.
    pub(super) owner: Option<usize>,
    /// The key or item that is being read.
    pub(super) current: Option<usize>,
    /// Of a brace: the colon of the key was read.
    pub(super) is_after_colon: bool,
}

impl Scanner<'_> {
    /// Reads on inside of brackets; without open ones, the first begins the value of `owner`.
    pub(super) fn flow(&mut self, mut at: usize, end: usize, owner: Option<usize>) {
        while at < end {
            let rest = &self.text[at..end];
            let Some(next) = rest.chars().next() else { return };
            at += match next {
                '{' | '[' => {
                    self.open(at, next == '{', owner);
                    1
                }
                '}' | ']' => {
                    self.brackets.pop();
                    if self.brackets.is_empty() {
                        return;
                    }
                    1
                }
                ',' => {
                    if let Some(bracket) = self.brackets.last_mut() {
                        (bracket.current, bracket.is_after_colon) = (None, false);
                    }
                    1
                }
                ':' => {
                    if let Some(bracket) = self.brackets.last_mut() {
                        bracket.is_after_colon = bracket.is_map && bracket.current.is_some();
                    }
                    1
                }
                '#' if at == 0 || self.text[..at].ends_with(char::is_whitespace) => {
                    self.is_comment = true;
                    return;
                }
                '&' | '!' => rest.find([' ', ',', '[', ']', '{', '}']).unwrap_or(rest.len()).max(1),
                '"' | '\'' => {
                    let close = rest[1..].find(next);
                    self.flow_scalar(at + 1..close.map_or(end, |length| at + 1 + length));
                    close.map_or(rest.len(), |length| length + 2)
                }
                blank if blank.is_whitespace() => blank.len_utf8(),
                _ => {
                    let length = plain_length(rest);
                    self.flow_scalar(at..at + rest[..length].trim_end().len());
                    length
                }
            };
        }
    }

    fn open(&mut self, at: usize, is_map: bool, owner: Option<usize>) {
        let inner = self.brackets.last().map(|bracket| (bracket.is_map, bracket.owner, bracket.current));
        let owner = match inner {
            None => owner,
            Some((true, _, current)) => current,
            Some((false, list, _)) => {
                let item = self.mark(Step::Item, at..at, list);
                Some(item)
            }
        };
        self.brackets.push(Bracket { is_map, owner, current: None, is_after_colon: false });
    }

    fn flow_scalar(&mut self, range: Range<usize>) {
        let Some(bracket) = self.brackets.last() else { return };
        let (is_key, owner, current) = (bracket.is_map && !bracket.is_after_colon, bracket.owner, bracket.current);
        if is_key {
            let step = Step::Key(self.text[range.clone()].to_owned());
            let mark = self.mark(step, range.clone(), owner);
            if let Some(bracket) = self.brackets.last_mut() {
                bracket.current = Some(mark);
            }
            if range.end == self.text.len() {
                self.word = Some(range.start);
            }
            return;
        }
        let mark = if bracket.is_map { current } else { Some(self.mark(Step::Item, range.start..range.start, owner)) };
        self.scalar(range, mark);
    }
}

/// Returns the length of a text without quotes: up to what ends it inside of brackets.
fn plain_length(rest: &str) -> usize {
    let ends = |(at, next): &(usize, char)| match next {
        ',' | '[' | ']' | '{' | '}' => true,
        ':' => rest[at + 1..].is_empty() || rest[at + 1..].starts_with([' ', ',', ']', '}']),
        '#' => rest[..*at].ends_with(' '),
        _ => false,
    };
    // A `$VAR` in braces, or a text that begins with a bracket, must still move on.
    rest.char_indices().find(ends).map_or(rest.len(), |(at, _)| at).max(rest.chars().next().map_or(1, char::len_utf8))
}
